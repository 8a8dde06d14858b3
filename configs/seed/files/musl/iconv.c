/* iconv: converts text between character encodings that the C library knows.
 * usage: iconv [-c] [-s] -f FROM -t TO [FILE...]; -c leaves out what cannot be converted, -s keeps quiet about it. */
#include <errno.h>
#include <iconv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int omit, quiet, status;

static int put(const char *at, size_t length)
{
	if (fwrite(at, 1, length, stdout) == length) return 0;
	perror("iconv: writing");
	return -1;
}

/* Converts one file; -1 stops everything. */
static int convert(iconv_t cd, FILE *file, const char *name)
{
	char in[16384], out[65536];
	size_t held = 0;
	for (;;) {
		size_t got = fread(in + held, 1, sizeof in - held, file);
		if (!got && ferror(file)) {
			fprintf(stderr, "iconv: %s: %s\n", name, strerror(errno));
			status = 1;
			return 0;
		}
		held += got;
		if (!held) break;
		char *at = in;
		while (held) {
			char *to = out;
			size_t room = sizeof out;
			size_t lossy = iconv(cd, &at, &held, &to, &room);
			int error = errno;
			if (put(out, sizeof out - room)) return -1;
			if (lossy != (size_t)-1) {
				if (lossy && !omit) status = 1;
				continue;
			}
			if (error == E2BIG) continue;
			/* The rest of a character may come with the next read. */
			if (error == EINVAL && got) break;
			if (!omit) {
				if (!quiet) fprintf(stderr, "iconv: %s: %s\n", name, strerror(error));
				status = 1;
				return 0;
			}
			at++;
			held--;
		}
		memmove(in, at, held);
		if (!got) break;
	}
	/* Back to the initial shift state. */
	char *to = out;
	size_t room = sizeof out;
	if (iconv(cd, 0, 0, &to, &room) != (size_t)-1 && put(out, sizeof out - room)) return -1;
	return 0;
}

int main(int argc, char **argv)
{
	const char *from = "UTF-8", *to = "UTF-8";
	int option;
	while ((option = getopt(argc, argv, "csf:t:")) != -1) {
		switch (option) {
		case 'c': omit = 1; break;
		case 's': quiet = 1; break;
		case 'f': from = optarg; break;
		case 't': to = optarg; break;
		default:
			fputs("usage: iconv [-c] [-s] -f FROM -t TO [FILE...]\n", stderr);
			return 1;
		}
	}
	iconv_t cd = iconv_open(to, from);
	if (cd == (iconv_t)-1) {
		fprintf(stderr, "iconv: no conversion from %s to %s\n", from, to);
		return 1;
	}
	if (optind == argc && convert(cd, stdin, "standard input")) return 1;
	for (int i = optind; i < argc; i++) {
		int standard = !strcmp(argv[i], "-");
		FILE *file = standard ? stdin : fopen(argv[i], "rb");
		if (!file) {
			fprintf(stderr, "iconv: %s: %s\n", argv[i], strerror(errno));
			status = 1;
			continue;
		}
		int stop = convert(cd, file, argv[i]);
		if (!standard) fclose(file);
		if (stop) return 1;
	}
	if (fflush(stdout)) {
		perror("iconv: writing");
		return 1;
	}
	return status;
}
