/* Loaded before libc: writes to files in $FAILING_FOLDER return EIO once $FAILING_AFTER bytes have
 * been written there; with $FAILING_STALL=1 the first of them takes two seconds to fail. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static long long written;
static int stalled;

static int fails(int file, size_t count) {
    const char *folder = getenv("FAILING_FOLDER"), *after = getenv("FAILING_AFTER");
    char link[64], name[4096];
    ssize_t length;
    if (!folder || !after || file < 3) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    length = readlink(link, name, sizeof name - 1);
    if (length <= 0) return 0;
    name[length] = 0;
    if (strncmp(name, folder, strlen(folder))) return 0;
    if (__sync_add_and_fetch(&written, (long long)count) <= atoll(after)) return 0;
    if (getenv("FAILING_STALL")[0] == '1' && !__sync_lock_test_and_set(&stalled, 1)) sleep(2);
    errno = EIO;
    return 1;
}

ssize_t write(int file, const void *bytes, size_t count) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "write");
    return fails(file, count) ? -1 : real(file, bytes, count);
}

ssize_t pwrite(int file, const void *bytes, size_t count, off_t offset) {
    static ssize_t (*real)(int, const void *, size_t, off_t);
    if (!real) real = dlsym(RTLD_NEXT, "pwrite");
    return fails(file, count) ? -1 : real(file, bytes, count, offset);
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t offset) {
    static ssize_t (*real)(int, const void *, size_t, off64_t);
    if (!real) real = dlsym(RTLD_NEXT, "pwrite64");
    return fails(file, count) ? -1 : real(file, bytes, count, offset);
}

int fsync(int file) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fsync");
    return fails(file, 0) ? -1 : real(file);
}
