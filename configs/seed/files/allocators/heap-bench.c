/* Measures an allocator: processor time per operation and the largest resident size.
 * usage: heap-bench THREADS OPERATIONS small|mixed|handoff
 *
 * small: blocks of 16 to 512 bytes, 4096 held at a time. mixed: as small, but one of 64 is up to 256 KiB. handoff: every thread
 * frees what its neighbour allocated. Processor time (user and system, of all threads) and not time on the clock is shown, so that other work on the
 * machine disturbs it little. Output: nanoseconds an operation, resident KiB at the most. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define HELD 4096
#define THREADS_MAX 16

static long operations;
static int threads, kind;
static _Atomic(void *) boxes[THREADS_MAX][HELD];

static uint64_t next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	return *state ^= *state << 17;
}

static void *work(void *argument)
{
	int number = (int)(intptr_t)argument;
	uint64_t seed = 0x9e3779b97f4a7c15u * (uint64_t)(number + 1);
	for (long i = 0; i < operations; i++) {
		uint64_t random = next(&seed);
		size_t size = 16 + random % 497;
		if (kind == 1 && random >> 58 == 0) size = 1 + (random >> 20) % (256 << 10);
		int into = kind == 2 ? (number + 1) % threads : number;
		char *block = malloc(size);
		if (!block) abort();
		block[0] = 1;
		block[size - 1] = 1;
		/* The neighbour's box: what was in it goes, whoever allocated it. */
		free(atomic_exchange(&boxes[into][(random >> 40) % HELD], block));
	}
	return NULL;
}

int main(int argc, char **argv)
{
	if (argc != 4) return 2;
	threads = atoi(argv[1]);
	operations = atol(argv[2]);
	kind = !strcmp(argv[3], "small") ? 0 : !strcmp(argv[3], "mixed") ? 1 : 2;
	if (threads < 1 || threads > THREADS_MAX || operations < 1) return 2;
	pthread_t thread[THREADS_MAX];
	for (int i = 0; i < threads; i++)
		if (pthread_create(&thread[i], NULL, work, (void *)(intptr_t)i)) return 3;
	for (int i = 0; i < threads; i++) pthread_join(thread[i], NULL);
	struct rusage use;
	getrusage(RUSAGE_SELF, &use);
	double time = use.ru_utime.tv_sec + use.ru_stime.tv_sec + (use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
	/* ru_maxrss has what the process was before exec; VmHWM has not. */
	long peak = 0;
	char line[256];
	FILE *status = fopen("/proc/self/status", "r");
	while (status && fgets(line, sizeof line, status)) sscanf(line, "VmHWM: %ld", &peak);
	printf("%.1f %ld\n", time * 1e9 / ((double)operations * threads), peak);
	return 0;
}
