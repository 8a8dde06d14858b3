/* getent: entries of the system databases, as the C library sees them.
 * usage: getent DATABASE [KEY...]; status 0, 1 for usage, 2 when a key is missing, 3 when a database cannot be listed. */
#include <arpa/inet.h>
#include <errno.h>
#include <grp.h>
#include <netdb.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { FOUND = 0, MISSING = 2, NOT_LISTABLE = 3 };

/* A number if all of the text is one, else -1. */
static long number(const char *text)
{
	char *end;
	errno = 0;
	long n = strtol(text, &end, 10);
	return *text && !*end && !errno && n >= 0 ? n : -1;
}

static void print_aliases(char **alias)
{
	for (; alias && *alias; alias++) printf(" %s", *alias);
	putchar('\n');
}

static int show_passwd(const struct passwd *p)
{
	if (!p) return MISSING;
	printf("%s:%s:%u:%u:%s:%s:%s\n", p->pw_name, p->pw_passwd, p->pw_uid, p->pw_gid, p->pw_gecos, p->pw_dir, p->pw_shell);
	return FOUND;
}

static int passwd(const char *key)
{
	if (key) return show_passwd(number(key) >= 0 ? getpwuid(number(key)) : getpwnam(key));
	for (const struct passwd *p; (p = getpwent());) show_passwd(p);
	return FOUND;
}

static int show_group(const struct group *g)
{
	if (!g) return MISSING;
	printf("%s:%s:%u:", g->gr_name, g->gr_passwd, g->gr_gid);
	for (char **m = g->gr_mem; m && *m; m++) printf("%s%s", m == g->gr_mem ? "" : ",", *m);
	putchar('\n');
	return FOUND;
}

static int group(const char *key)
{
	if (key) return show_group(number(key) >= 0 ? getgrgid(number(key)) : getgrnam(key));
	for (const struct group *g; (g = getgrent());) show_group(g);
	return FOUND;
}

static int addresses(const char *key, int family)
{
	if (!key) return NOT_LISTABLE;
	struct addrinfo hints = {.ai_family = family, .ai_socktype = SOCK_STREAM}, *list;
	if (getaddrinfo(key, 0, &hints, &list)) return MISSING;
	for (struct addrinfo *a = list; a; a = a->ai_next) {
		char text[NI_MAXHOST];
		if (!getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof text, 0, 0, NI_NUMERICHOST))
			printf("%-15s %s\n", text, key);
	}
	freeaddrinfo(list);
	return FOUND;
}

/* An address is looked up backwards, a name forwards. */
static int hosts(const char *key)
{
	unsigned char raw[16];
	struct sockaddr_storage address = {0};
	socklen_t length = 0;
	if (key && inet_pton(AF_INET, key, raw) == 1) {
		struct sockaddr_in *v4 = (struct sockaddr_in *)&address;
		v4->sin_family = AF_INET;
		memcpy(&v4->sin_addr, raw, 4);
		length = sizeof *v4;
	} else if (key && inet_pton(AF_INET6, key, raw) == 1) {
		struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&address;
		v6->sin6_family = AF_INET6;
		memcpy(&v6->sin6_addr, raw, 16);
		length = sizeof *v6;
	}
	if (!length) return addresses(key, AF_UNSPEC);
	char name[NI_MAXHOST];
	if (getnameinfo((struct sockaddr *)&address, length, name, sizeof name, 0, 0, NI_NAMEREQD)) return MISSING;
	printf("%-15s %s\n", key, name);
	return FOUND;
}

static int ahostsv4(const char *key)
{
	return addresses(key, AF_INET);
}

static int ahostsv6(const char *key)
{
	return addresses(key, AF_INET6);
}

/* NAME, PORT, NAME/PROTOCOL or PORT/PROTOCOL. musl reads /etc/services by key but does not list it. */
static int services(const char *key)
{
	if (!key) return NOT_LISTABLE;
	char name[256];
	const char *slash = strchr(key, '/');
	size_t length = slash ? (size_t)(slash - key) : strlen(key);
	if (length >= sizeof name) return MISSING;
	memcpy(name, key, length);
	name[length] = 0;
	const char *protocol = slash ? slash + 1 : 0;
	long port = number(name);
	if (port > 65535) return MISSING;
	struct servent *s = port >= 0 ? getservbyport(htons(port), protocol) : getservbyname(name, protocol);
	if (!s) return MISSING;
	printf("%-21s %d/%s", s->s_name, ntohs(s->s_port), s->s_proto);
	print_aliases(s->s_aliases);
	return FOUND;
}

static int show_protocol(struct protoent *p)
{
	if (!p) return MISSING;
	printf("%-21s %d", p->p_name, p->p_proto);
	print_aliases(p->p_aliases);
	return FOUND;
}

static int protocols(const char *key)
{
	if (key) return show_protocol(number(key) >= 0 ? getprotobynumber(number(key)) : getprotobyname(key));
	for (struct protoent *p; (p = getprotoent());) show_protocol(p);
	return FOUND;
}

static const struct {
	const char *name;
	int (*show)(const char *);
} databases[] = {
	{"ahosts", hosts}, {"ahostsv4", ahostsv4}, {"ahostsv6", ahostsv6}, {"group", group}, {"hosts", hosts},
	{"passwd", passwd}, {"protocols", protocols}, {"services", services},
};

int main(int argc, char **argv)
{
	if (argc < 2) {
		fputs("usage: getent DATABASE [KEY...]\n", stderr);
		return 1;
	}
	for (size_t i = 0; i < sizeof databases / sizeof *databases; i++) {
		if (strcmp(argv[1], databases[i].name)) continue;
		int status = argc == 2 ? databases[i].show(0) : FOUND;
		for (int k = 2; k < argc; k++) {
			int one = databases[i].show(argv[k]);
			if (one) status = one;
		}
		if (status == NOT_LISTABLE) fprintf(stderr, "getent: %s cannot be listed without a key\n", argv[1]);
		if (fflush(stdout)) {
			perror("getent");
			return 1;
		}
		return status;
	}
	fprintf(stderr, "getent: unknown database %s\n", argv[1]);
	return 1;
}
