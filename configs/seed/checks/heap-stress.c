/* Allocator checks that take about two seconds: contents survive under threads, realloc keeps data, alignment
 * holds, calloc is zero, fork from a threaded program leaves a usable heap, short threads with destructors do not
 * leak, dlopen works, refused sizes give NULL with errno ENOMEM instead of ending the process.
 * Compile with -fno-builtin: clang removes malloc whose result it can predict. Prints "heap-stress: ok". */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(x) \
	do { \
		if (!(x)) { \
			dprintf(2, "heap-stress: line %d: %s is false (errno %d)\n", __LINE__, #x, errno); \
			_exit(1); \
		} \
	} while (0)

struct block {
	unsigned char *at;
	size_t size;
	unsigned char mark;
};

static uint64_t next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	return *state ^= *state << 17;
}

static size_t edge(size_t size)
{
	return size < 64 ? size : 64;
}

static void paint(struct block *b, unsigned char mark)
{
	b->mark = mark;
	memset(b->at, mark, edge(b->size));
	memset(b->at + b->size - edge(b->size), mark, edge(b->size));
}

static void verify(const struct block *b)
{
	for (size_t i = 0; i < edge(b->size); i++) {
		CHECK(b->at[i] == b->mark);
		CHECK(b->at[b->size - 1 - i] == b->mark);
	}
}

static void churn(uint64_t seed, int rounds)
{
	struct block held[128] = {0};
	for (int round = 0; round < rounds; round++) {
		struct block *b = &held[next(&seed) % 128];
		uint64_t kind = next(&seed) % 64;
		size_t size = kind == 0 ? next(&seed) % (3 << 20) : kind < 4 ? next(&seed) % 200000 : next(&seed) % 2000;
		size++;
		if (b->at) verify(b);
		switch (next(&seed) % 4) {
		case 0:
			free(b->at);
			b->at = malloc(size);
			CHECK(b->at && (size < 16 || (uintptr_t)b->at % 16 == 0));
			break;
		case 1:
			free(b->at);
			b->at = calloc(1, size);
			CHECK(b->at);
			for (size_t i = 0; i < size; i += size > 4096 ? 509 : 1) CHECK(!b->at[i]);
			break;
		case 2: {
			size_t kept = b->at ? edge(b->size < size ? b->size : size) : 0;
			b->at = realloc(b->at, size);
			CHECK(b->at);
			for (size_t i = 0; i < kept; i++) CHECK(b->at[i] == b->mark);
			break;
		}
		default: {
			size_t align = (size_t)16 << next(&seed) % 12;
			void *p;
			free(b->at);
			CHECK(!posix_memalign(&p, align, size));
			CHECK((uintptr_t)p % align == 0);
			b->at = p;
		}
		}
		b->size = size;
		paint(b, next(&seed));
	}
	for (int i = 0; i < 128; i++) free(held[i].at);
}

static void *worker(void *number)
{
	churn(0x9e3779b97f4a7c15u * (uintptr_t)number + 1, 6000);
	return 0;
}

static atomic_int stop;

static void *background(void *number)
{
	for (uint64_t seed = (uintptr_t)number + 7; !stop; seed++) churn(seed * 77777 + 3, 50);
	return 0;
}

static void forks(void)
{
	pthread_t t[2];
	for (uintptr_t i = 0; i < 2; i++) CHECK(!pthread_create(&t[i], 0, background, (void *)i));
	for (int i = 0; i < 40; i++) {
		pid_t child = fork();
		CHECK(child >= 0);
		if (!child) {
			alarm(60);
			churn(i + 1, 100);
			if (i % 8 == 0) {
				pthread_t inner;
				CHECK(!pthread_create(&inner, 0, worker, (void *)3));
				pthread_join(inner, 0);
			}
			_exit(0);
		}
		int status;
		CHECK(waitpid(child, &status, 0) == child && !status);
	}
	stop = 1;
	for (int i = 0; i < 2; i++) pthread_join(t[i], 0);
}

static pthread_key_t key;

/* Runs after the allocator's own thread state may be gone. */
static void destructor(void *p)
{
	free(p);
	free(malloc(333));
}

static void *short_lived(void *unused)
{
	(void)unused;
	pthread_setspecific(key, malloc(1000));
	return strdup("result");
}

static void short_threads(void)
{
	CHECK(!pthread_key_create(&key, destructor));
	pthread_attr_t small;
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 65536);
	for (int i = 0; i < 1000; i++) {
		pthread_t t;
		void *result;
		CHECK(!pthread_create(&t, i % 2 ? &small : 0, short_lived, 0));
		pthread_join(t, &result);
		CHECK(!strcmp(result, "result"));
		free(result);
	}
	struct rusage use;
	getrusage(RUSAGE_SELF, &use);
	CHECK(use.ru_maxrss < 200 << 10);
}

static void refusals(void)
{
	errno = 0;
	CHECK(!malloc(SIZE_MAX / 2 + 10));
	CHECK(!calloc(SIZE_MAX / 2, 3) && errno == ENOMEM);
	CHECK(!realloc(0, SIZE_MAX - 5000));
	CHECK(realloc(malloc(5), 0));
	CHECK(malloc(0));
	/* An address-space limit stands for a small machine: refused, not aborted. */
	struct rlimit limit = {(rlim_t)600 << 20, (rlim_t)600 << 20};
	CHECK(!setrlimit(RLIMIT_AS, &limit));
	void *p;
	CHECK(!malloc((size_t)1 << 32));
	CHECK(posix_memalign(&p, 4096, (size_t)1 << 32) == ENOMEM);
	CHECK(!calloc(1, (size_t)1 << 32));
	p = malloc(100);
	CHECK(p && !realloc(p, (size_t)1 << 32));
	free(p);
	CHECK((p = malloc(1 << 20)));
	free(p);
}

int main(int argc, char **argv)
{
	alarm(240);
	pthread_t t[3];
	for (uintptr_t i = 0; i < 3; i++) CHECK(!pthread_create(&t[i], 0, worker, (void *)(i + 1)));
	worker((void *)77);
	for (int i = 0; i < 3; i++) pthread_join(t[i], 0);
	forks();
	short_threads();
	CHECK(argc == 2);
	for (int i = 0; i < 100; i++) {
		void *library = dlopen(argv[1], RTLD_NOW);
		CHECK(library);
		void *(*make)(size_t) = (void *(*)(size_t))dlsym(library, "library_allocate");
		CHECK(make);
		free(make(i * 100 + 1));
		CHECK(!dlopen("/nonexistent.so", RTLD_NOW) && dlerror());
		dlclose(library);
	}
	(void)argv;
	refusals();
	puts("heap-stress: ok");
	return 0;
}
