/* Says which object every allocation function comes from: fails unless it is the one whose file name begins with the
 * first argument. Otherwise blocks of one allocator would be handed to the free of another. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
	static const char *const names[] = {"malloc", "calloc", "realloc", "free", "aligned_alloc", "posix_memalign", "memalign", "malloc_usable_size"};
	int status = 0;
	if (argc != 2) return 2;
	for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
		Dl_info info;
		void *at = dlsym(RTLD_DEFAULT, names[i]);
		if (!at || !dladdr(at, &info) || !info.dli_fname) return 2;
		const char *base = strrchr(info.dli_fname, '/');
		base = base ? base + 1 : info.dli_fname;
		if (strncmp(base, argv[1], strlen(argv[1]))) {
			printf("%s comes from %s\n", names[i], info.dli_fname);
			status = 1;
		}
	}
	/* What the C library itself allocates can be freed by the program. */
	char *line = NULL, *text;
	if (asprintf(&text, "%d", 1) != 1) return 2;
	free(text);
	free(line);
	if (!status) printf("all from %s\n", argv[1]);
	return status;
}
