/* The init of a guest that judges file systems: mounts what /plan says and writes a listing of every tree to the second disk.
 *
 * /plan has a line "DEVICE TYPE OPTIONS NAME" for each; modules lie in /modules and are tried until no more can be loaded.
 * The listing has "== NAME" or "!! NAME ERROR", then a line for each entry, fields between tabs: path, type, mode, uid, gid,
 * links, size, seconds, nanoseconds, device, attributes, content (SHA-256 of files, target of links). Ends with "== end". */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

/* Files beyond this are read at their beginning, middle and end. */
#define WHOLE (64u << 20)
#define PART (1u << 20)

static FILE *out;
static unsigned char buffer[PART];

/* SHA-256 (FIPS 180-4). */
static uint32_t K[64];
struct sha { uint32_t h[8]; unsigned char block[64]; uint64_t length; };

static uint32_t ror(uint32_t x, int n) { return x >> n | x << (32 - n); }

/* The constants are the first 32 bits of the fractional parts of roots of primes; integers find them exactly. */
static int prime(int n) { for (int d = 2; d * d <= n; d++) if (n % d == 0) return 0; return 1; }

static uint32_t root(int n, int power) {
    /* The largest x with x^power <= n * 2^(32 * power), of which the low 32 bits are the fraction. */
    unsigned __int128 low = 0, high = (unsigned __int128)1 << 40;
    while (high - low > 1) {
        unsigned __int128 x = (low + high) / 2;
        int small;
        if (power == 2) {
            small = x * x <= (unsigned __int128)n << 64;
        } else {
            /* x^3 <= n * 2^96, in two halves so that nothing overflows: x * x has at most 72 bits. */
            unsigned __int128 square = x * x, upper = (square >> 32) * x, lower = (square & 0xffffffffu) * x;
            unsigned __int128 whole = upper + (lower >> 32);
            unsigned __int128 limit = (unsigned __int128)n << 64;
            small = whole < limit || (whole == limit && (lower & 0xffffffffu) == 0);
        }
        if (small) low = x; else high = x;
    }
    return (uint32_t)low;
}

static uint32_t START[8];

static void prepare(void) {
    for (int n = 2, at = 0; at < 64; n++)
        if (prime(n)) {
            if (at < 8) START[at] = root(n, 2);
            K[at++] = root(n, 3);
        }
}

static void compress(struct sha *s) {
    uint32_t w[64], a[8];
    for (int t = 0; t < 16; t++)
        w[t] = (uint32_t)s->block[4 * t] << 24 | s->block[4 * t + 1] << 16 | s->block[4 * t + 2] << 8 | s->block[4 * t + 3];
    for (int t = 16; t < 64; t++) {
        uint32_t x = w[t - 15], y = w[t - 2];
        w[t] = (ror(y, 17) ^ ror(y, 19) ^ y >> 10) + w[t - 7] + (ror(x, 7) ^ ror(x, 18) ^ x >> 3) + w[t - 16];
    }
    memcpy(a, s->h, sizeof a);
    for (int t = 0; t < 64; t++) {
        uint32_t e = a[4], t1 = a[7] + (ror(e, 6) ^ ror(e, 11) ^ ror(e, 25)) + ((e & a[5]) ^ (~e & a[6])) + K[t] + w[t];
        uint32_t t2 = (ror(a[0], 2) ^ ror(a[0], 13) ^ ror(a[0], 22)) + ((a[0] & a[1]) ^ (a[0] & a[2]) ^ (a[1] & a[2]));
        memmove(a + 1, a, 7 * sizeof *a);
        a[4] += t1;
        a[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++) s->h[i] += a[i];
}

static void feed(struct sha *s, const unsigned char *data, size_t count) {
    while (count > 0) {
        size_t at = s->length % 64, part = 64 - at < count ? 64 - at : count;
        memcpy(s->block + at, data, part);
        s->length += part;
        data += part;
        count -= part;
        if (s->length % 64 == 0) compress(s);
    }
}

static void finish(struct sha *s) {
    uint64_t bits = s->length * 8;
    unsigned char end[8];
    feed(s, (const unsigned char *)"\x80", 1);
    while (s->length % 64 != 56) feed(s, (const unsigned char *)"", 1);
    for (int i = 0; i < 8; i++) end[i] = bits >> (56 - 8 * i);
    feed(s, end, 8);
    for (int i = 0; i < 8; i++) fprintf(out, "%08x", s->h[i]);
}

static void bytes(const char *data, size_t count) {
    for (size_t i = 0; i < count; i++) {
        unsigned char c = data[i];
        if (c > 32 && c < 127 && c != '\\') putc(c, out);
        else fprintf(out, "\\%02x", c);
    }
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void attributes(const char *path) {
    static char names[65536], value[65536];
    ssize_t count = llistxattr(path, names, sizeof names);
    char *list[256];
    int found = 0;
    if (count < 0) {
        if (errno != ENOTSUP) fprintf(out, "?%d", errno);
        return;
    }
    for (char *name = names; name < names + count && found < 256; name += strlen(name) + 1) list[found++] = name;
    qsort(list, found, sizeof *list, by_name);
    for (int i = 0; i < found; i++) {
        ssize_t length = lgetxattr(path, list[i], value, sizeof value);
        bytes(list[i], strlen(list[i]));
        putc('=', out);
        if (length < 0) fprintf(out, "?%d", errno);
        for (ssize_t at = 0; at < length; at++) fprintf(out, "%02x", (unsigned char)value[at]);
        putc(',', out);
    }
}

static void part(int fd, struct sha *s, off_t at, off_t end) {
    while (at < end) {
        size_t want = end - at < (off_t)sizeof buffer ? (size_t)(end - at) : sizeof buffer;
        ssize_t got = pread(fd, buffer, want, at);
        if (got <= 0) {
            fprintf(out, "?%d@%lld", got < 0 ? errno : 0, (long long)at);
            return;
        }
        feed(s, buffer, got);
        at += got;
    }
}

static void content(const char *path, off_t size) {
    struct sha s = {.length = 0};
    int fd = open(path, O_RDONLY | O_NOFOLLOW);
    if (fd < 0) {
        fprintf(out, "?%d", errno);
        return;
    }
    memcpy(s.h, START, sizeof s.h);
    if (size <= WHOLE) {
        part(fd, &s, 0, size);
    } else {
        part(fd, &s, 0, PART);
        part(fd, &s, size / 2, size / 2 + PART);
        part(fd, &s, size - PART, size);
    }
    finish(&s);
    close(fd);
}

static void walk(char *path, size_t base) {
    struct stat st;
    size_t length = strlen(path);
    bytes(path + base, length - base);
    if (length == base) putc('/', out);
    if (lstat(path, &st) < 0) {
        fprintf(out, "\t?%d\n", errno);
        return;
    }
    int type = S_ISREG(st.st_mode) ? '-' : S_ISDIR(st.st_mode) ? 'd' : S_ISLNK(st.st_mode) ? 'l' : S_ISCHR(st.st_mode) ? 'c'
             : S_ISBLK(st.st_mode) ? 'b' : S_ISFIFO(st.st_mode) ? 'p' : S_ISSOCK(st.st_mode) ? 's' : '?';
    int device = type == 'c' || type == 'b', sized = type == '-' || type == 'l';
    fprintf(out, "\t%c\t%o\t%u\t%u\t%u\t%lld\t%lld\t%ld\t%u:%u\t", type, st.st_mode & 07777, st.st_uid, st.st_gid,
            (unsigned)st.st_nlink, sized ? (long long)st.st_size : 0LL, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec,
            device ? major(st.st_rdev) : 0, device ? minor(st.st_rdev) : 0);
    attributes(path);
    putc('\t', out);
    if (type == '-') content(path, st.st_size);
    if (type == 'l') {
        ssize_t count = readlink(path, (char *)buffer, sizeof buffer);
        if (count < 0) fprintf(out, "?%d", errno);
        else bytes((char *)buffer, count);
    }
    putc('\n', out);
    if (type != 'd') return;
    DIR *directory = opendir(path);
    if (!directory) {
        fprintf(out, "?opendir %d\n", errno);
        return;
    }
    size_t count = 0, room = 0;
    char **names = NULL;
    struct dirent *entry;
    while (errno = 0, (entry = readdir(directory))) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        if (count == room) names = realloc(names, (room = room * 2 + 64) * sizeof *names);
        names[count++] = strdup(entry->d_name);
    }
    if (errno) fprintf(out, "?readdir %d\n", errno);
    closedir(directory);
    qsort(names, count, sizeof *names, by_name);
    for (size_t i = 0; i < count; i++) {
        sprintf(path + length, "/%s", names[i]);
        walk(path, base);
        path[length] = 0;
        free(names[i]);
    }
    free(names);
}

static void load_modules(void) {
    /* What a module needs may come behind it in the directory. */
    for (int again = 1; again;) {
        again = 0;
        DIR *directory = opendir("/modules");
        struct dirent *entry;
        while (directory && (entry = readdir(directory))) {
            char path[512];
            snprintf(path, sizeof path, "/modules/%s", entry->d_name);
            int fd = open(path, O_RDONLY | O_CLOEXEC);
            if (fd < 0) continue;
            if (syscall(SYS_finit_module, fd, "", 0) == 0) again = 1;
            close(fd);
        }
        if (directory) closedir(directory);
    }
}

int main(void) {
    static char path[1 << 16], line[1024];
    mkdir("/dev", 0755);
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    prepare();
    load_modules();
    for (int i = 0; i < 100 && access("/dev/vdb", F_OK); i++) usleep(100000);
    out = fopen("/dev/vdb", "r+");
    FILE *plan = fopen("/plan", "r");
    if (!out || !plan) {
        printf("lycia-judge: cannot begin: %s\n", strerror(errno));
        fflush(stdout);
        reboot(RB_POWER_OFF);
    }
    mkdir("/m", 0755);
    while (fgets(line, sizeof line, plan)) {
        char *device = strtok(line, " \n"), *type = strtok(NULL, " \n"), *options = strtok(NULL, " \n"), *name = strtok(NULL, " \n");
        if (!name) continue;
        printf("lycia-judge: %s\n", name);
        fflush(stdout);
        if (mount(device, "/m", type, MS_RDONLY, strcmp(options, "-") ? options : "") < 0) {
            fprintf(out, "!! %s %s\n", name, strerror(errno));
            continue;
        }
        fprintf(out, "== %s\n", name);
        strcpy(path, "/m");
        walk(path, 2);
        umount("/m");
    }
    fprintf(out, "== end\n");
    fflush(out);
    fsync(fileno(out));
    printf("lycia-judge: done\n");
    fflush(stdout);
    sync();
    reboot(RB_POWER_OFF);
    return 0;
}
