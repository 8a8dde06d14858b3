/* getconf: the system's limits and settings by their POSIX names.
 * usage: getconf NAME | getconf NAME PATH | getconf -a */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct entry {
	const char *name;
	enum { SYSCONF, PATHCONF, CONFSTR, NUMBER } kind;
	long value;
};

#define SYS(x) {#x, SYSCONF, _SC_##x}
#define POSIX(x) {"_POSIX_" #x, SYSCONF, _SC_##x}
#define POSIX2(x) {"POSIX2_" #x, SYSCONF, _SC_2_##x}
#define FILE_LIMIT(x) {#x, PATHCONF, _PC_##x}
#define FILE_OPTION(x) {"_POSIX_" #x, PATHCONF, _PC_##x}
#define MINIMUM(x) {#x, NUMBER, x}

static const struct entry entries[] = {
	SYS(AIO_LISTIO_MAX), SYS(AIO_MAX), SYS(AIO_PRIO_DELTA_MAX), SYS(ARG_MAX), SYS(ATEXIT_MAX), SYS(BC_BASE_MAX),
	SYS(BC_DIM_MAX), SYS(BC_SCALE_MAX), SYS(BC_STRING_MAX), SYS(CHILD_MAX), SYS(CLK_TCK), SYS(COLL_WEIGHTS_MAX),
	SYS(DELAYTIMER_MAX), SYS(EXPR_NEST_MAX), SYS(GETGR_R_SIZE_MAX), SYS(GETPW_R_SIZE_MAX), SYS(HOST_NAME_MAX),
	SYS(IOV_MAX), SYS(LINE_MAX), SYS(LOGIN_NAME_MAX), SYS(MQ_OPEN_MAX), SYS(MQ_PRIO_MAX), SYS(NGROUPS_MAX),
	SYS(OPEN_MAX), SYS(PAGESIZE), SYS(PAGE_SIZE), {"PTHREAD_DESTRUCTOR_ITERATIONS", SYSCONF, _SC_THREAD_DESTRUCTOR_ITERATIONS},
	{"PTHREAD_KEYS_MAX", SYSCONF, _SC_THREAD_KEYS_MAX}, {"PTHREAD_STACK_MIN", SYSCONF, _SC_THREAD_STACK_MIN},
	{"PTHREAD_THREADS_MAX", SYSCONF, _SC_THREAD_THREADS_MAX}, SYS(RE_DUP_MAX), SYS(RTSIG_MAX), SYS(SEM_NSEMS_MAX),
	SYS(SEM_VALUE_MAX), SYS(SIGQUEUE_MAX), SYS(STREAM_MAX), SYS(SYMLOOP_MAX), SYS(TIMER_MAX), SYS(TTY_NAME_MAX),
	SYS(TZNAME_MAX), {"_NPROCESSORS_CONF", SYSCONF, _SC_NPROCESSORS_CONF},
	{"_NPROCESSORS_ONLN", SYSCONF, _SC_NPROCESSORS_ONLN}, {"NPROCESSORS_CONF", SYSCONF, _SC_NPROCESSORS_CONF},
	{"NPROCESSORS_ONLN", SYSCONF, _SC_NPROCESSORS_ONLN}, {"_PHYS_PAGES", SYSCONF, _SC_PHYS_PAGES},
	{"_AVPHYS_PAGES", SYSCONF, _SC_AVPHYS_PAGES},
	POSIX(ADVISORY_INFO), POSIX(ASYNCHRONOUS_IO), POSIX(BARRIERS), POSIX(CLOCK_SELECTION), POSIX(CPUTIME), POSIX(FSYNC),
	POSIX(IPV6), POSIX(JOB_CONTROL), POSIX(MAPPED_FILES), POSIX(MEMLOCK), POSIX(MEMLOCK_RANGE), POSIX(MEMORY_PROTECTION),
	POSIX(MESSAGE_PASSING), POSIX(MONOTONIC_CLOCK), POSIX(PRIORITIZED_IO), POSIX(PRIORITY_SCHEDULING), POSIX(RAW_SOCKETS),
	POSIX(READER_WRITER_LOCKS), POSIX(REALTIME_SIGNALS), POSIX(REGEXP), POSIX(SAVED_IDS), POSIX(SEMAPHORES),
	POSIX(SHARED_MEMORY_OBJECTS), POSIX(SHELL), POSIX(SPAWN), POSIX(SPIN_LOCKS), POSIX(SYNCHRONIZED_IO), POSIX(THREADS),
	POSIX(THREAD_ATTR_STACKADDR), POSIX(THREAD_ATTR_STACKSIZE), POSIX(THREAD_CPUTIME), POSIX(THREAD_PRIORITY_SCHEDULING),
	POSIX(THREAD_PROCESS_SHARED), POSIX(THREAD_SAFE_FUNCTIONS), POSIX(TIMEOUTS), POSIX(TIMERS), POSIX(VERSION),
	POSIX2(CHAR_TERM), POSIX2(C_BIND), POSIX2(C_DEV), POSIX2(LOCALEDEF), POSIX2(SW_DEV), POSIX2(UPE), POSIX2(VERSION),
	{"_XOPEN_VERSION", SYSCONF, _SC_XOPEN_VERSION},
	FILE_LIMIT(FILESIZEBITS), FILE_LIMIT(LINK_MAX), FILE_LIMIT(MAX_CANON), FILE_LIMIT(MAX_INPUT), FILE_LIMIT(NAME_MAX),
	FILE_LIMIT(PATH_MAX), FILE_LIMIT(PIPE_BUF), FILE_LIMIT(SYMLINK_MAX), {"POSIX_ALLOC_SIZE_MIN", PATHCONF, _PC_ALLOC_SIZE_MIN},
	{"POSIX_REC_XFER_ALIGN", PATHCONF, _PC_REC_XFER_ALIGN}, FILE_OPTION(CHOWN_RESTRICTED), FILE_OPTION(NO_TRUNC),
	FILE_OPTION(VDISABLE),
	{"PATH", CONFSTR, _CS_PATH}, {"CS_PATH", CONFSTR, _CS_PATH},
	MINIMUM(CHAR_BIT), MINIMUM(CHAR_MAX), MINIMUM(CHAR_MIN), MINIMUM(INT_MAX), MINIMUM(INT_MIN), MINIMUM(LONG_BIT),
	MINIMUM(LONG_MAX), MINIMUM(LONG_MIN), MINIMUM(MB_LEN_MAX), MINIMUM(SCHAR_MAX), MINIMUM(SCHAR_MIN), MINIMUM(SHRT_MAX),
	MINIMUM(SHRT_MIN), MINIMUM(SSIZE_MAX), MINIMUM(UCHAR_MAX), MINIMUM(UINT_MAX), MINIMUM(USHRT_MAX), MINIMUM(WORD_BIT),
	MINIMUM(NL_ARGMAX), MINIMUM(NL_LANGMAX), MINIMUM(NL_MSGMAX), MINIMUM(NL_SETMAX), MINIMUM(NL_TEXTMAX), MINIMUM(NZERO),
};

static int show(const struct entry *e, const char *path)
{
	if (e->kind == CONFSTR) {
		size_t length = confstr(e->value, 0, 0);
		char *text = length ? malloc(length) : 0;
		if (!text || !confstr(e->value, text, length)) {
			fprintf(stderr, "getconf: %s: %s\n", e->name, strerror(errno));
			return 1;
		}
		puts(text);
		free(text);
		return 0;
	}
	errno = 0;
	long n = e->kind == SYSCONF ? sysconf(e->value) : e->kind == PATHCONF ? pathconf(path, e->value) : e->value;
	if (n == -1 && errno) {
		fprintf(stderr, "getconf: %s: %s\n", e->kind == PATHCONF ? path : e->name, strerror(errno));
		return 1;
	}
	if (n == -1 && e->kind != NUMBER) puts("undefined");
	else printf("%ld\n", n);
	return 0;
}

int main(int argc, char **argv)
{
	size_t count = sizeof entries / sizeof *entries;
	int status = 0;
	if (argc == 2 && !strcmp(argv[1], "-a")) {
		for (size_t i = 0; i < count; i++) {
			printf("%-32s", entries[i].name);
			status |= show(&entries[i], "/");
		}
		return status;
	}
	if (argc != 2 && argc != 3) {
		fputs("usage: getconf NAME | getconf NAME PATH | getconf -a\n", stderr);
		return 2;
	}
	for (size_t i = 0; i < count; i++) {
		if (strcmp(argv[1], entries[i].name)) continue;
		if ((entries[i].kind == PATHCONF) != (argc == 3)) {
			fprintf(stderr, "getconf: %s %s\n", argv[1], argc == 3 ? "takes no path" : "needs a path");
			return 2;
		}
		status = show(&entries[i], argv[2]);
		if (fflush(stdout)) {
			perror("getconf");
			return 1;
		}
		return status;
	}
	fprintf(stderr, "getconf: unknown name %s\n", argv[1]);
	return 2;
}
