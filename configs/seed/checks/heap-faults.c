/* One heap fault per run; a hardened allocator ends the process before the last line.
 * usage: heap-faults double-free|overflow|underflow|free-inside|none */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *(*volatile allocate)(size_t) = malloc;
static void (*volatile release)(void *) = free;

int main(int argc, char **argv)
{
	const char *fault = argc > 1 ? argv[1] : "none";
	volatile unsigned char *one = allocate(100), *two = allocate(100);
	if (!one || !two) return 3;
	two[0] = 1;
	if (!strcmp(fault, "double-free")) {
		release((void *)one);
		release((void *)one);
	} else if (!strcmp(fault, "overflow")) {
		/* Which block follows which is random: overflow many, so that neighbours are among them. */
		volatile unsigned char *many[64];
		for (int b = 0; b < 64; b++) {
			many[b] = allocate(100);
			if (!many[b]) return 3;
		}
		for (int b = 0; b < 64; b++)
			for (int i = 100; i < 140; i++) many[b][i] = 7;
		for (int b = 0; b < 64; b++) release((void *)many[b]);
	} else if (!strcmp(fault, "underflow")) {
		for (int i = 1; i <= 16; i++) one[-i] ^= 0x55;
		release((void *)one);
	} else if (!strcmp(fault, "free-inside")) {
		/* Freeing an address inside a block that was never handed out. */
		release((void *)(one + 32));
	} else if (!strcmp(fault, "none")) {
		release((void *)one);
		release((void *)two);
		puts("no fault");
		return 0;
	} else {
		return 2;
	}
	puts("undetected");
	return 0;
}
