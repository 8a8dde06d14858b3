/* Loaded by heap-stress.c: memory allocated in one object and freed in another. */
#include <stdlib.h>

void *library_allocate(size_t size)
{
	return malloc(size);
}
