/* libc-allocator: prints which allocator the running libc.so has: "scudo", "mallocng" or "unknown".
 *
 * It goes by behaviour, not by a file's name: a child frees one block twice. Scudo names itself on stderr and
 * aborts; mallocng crashes on purpose (a store to address 0, or a trap); an allocator that notices nothing, for
 * example a preloaded one, is "unknown". Exit status 0 for a known allocator, 1 otherwise. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* Through volatile pointers, because the compiler removes or refuses a plain double free. */
static void *(*volatile allocate)(size_t) = malloc;
static void (*volatile release)(void *) = free;

int main(void)
{
	int channel[2];
	if (pipe(channel)) {
		perror("libc-allocator: pipe");
		return 2;
	}
	pid_t child = fork();
	if (child < 0) {
		perror("libc-allocator: fork");
		return 2;
	}
	if (!child) {
		struct rlimit none = {0, 0};
		setrlimit(RLIMIT_CORE, &none);
		dup2(channel[1], 2);
		close(channel[0]);
		close(channel[1]);
		alarm(10);
		/* A second block keeps the first one's group alive in mallocng. */
		void *one = allocate(100), *two = allocate(100);
		if (!one || !two) _exit(3);
		release(one);
		release(one);
		_exit(0);
	}
	close(channel[1]);
	char said[512];
	size_t length = 0;
	ssize_t got;
	while (length < sizeof said - 1 && (got = read(channel[0], said + length, sizeof said - 1 - length)) > 0)
		length += got;
	said[length] = 0;
	int status;
	if (waitpid(child, &status, 0) != child) {
		perror("libc-allocator: waitpid");
		return 2;
	}
	const char *name = "unknown";
	if (WIFSIGNALED(status)) {
		int sig = WTERMSIG(status);
		if (sig == SIGABRT && strstr(said, "Scudo ERROR")) name = "scudo";
		else if (!length && (sig == SIGSEGV || sig == SIGILL || sig == SIGTRAP)) name = "mallocng";
	}
	puts(name);
	return !strcmp(name, "unknown");
}
