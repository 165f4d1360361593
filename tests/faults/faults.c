/* Preloaded into a Python process: makes the N-th operation on files under one folder go wrong.

   It is armed with the kinds of operations that count. Syncing is counted and not done: what it protects from, a
   machine that loses power, cannot be seen here, and without it a sweep takes seconds. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum mode { OFF, COUNT, KILL, TORN, NO_SPACE, SHORT, FULL, BROKEN, DEAD };
enum kind { CHANGE = 1, GROW = 2, WRITE = 4, READ = 8 };

static char root[PATH_MAX];
static enum mode mode = OFF;
static int counted;
static long nth, count;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

void faults_arm(const char *folder, long n, int how, int kinds)
{
    snprintf(root, sizeof root, "%s", folder);
    nth = n;
    count = 0;
    counted = kinds;
    mode = how;
}

long faults_count(void)
{
    return count;
}

static int below_root(const char *path)
{
    size_t length = strlen(root);
    return strncmp(path, root, length) == 0 && (path[length] == '/' || path[length] == 0);
}

static int descriptor_below_root(int fd)
{
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return below_root(path);
}

static int watched(int fd, const char *path)
{
    if (mode == OFF)
        return 0;
    if (path && path[0] == '/')
        return below_root(path);
    return fd != AT_FDCWD && descriptor_below_root(fd);
}

/* Say whether the operation must fail, with errno set. With KILL it does not return. */
static int fails(int fd, const char *path, enum kind kind)
{
    if (!(counted & kind) || !watched(fd, path))
        return 0;
    count++;
    if (mode == FULL && count >= nth)
        return errno = ENOSPC;
    if (mode == DEAD && count >= nth)
        return errno = EIO;
    if (mode == SHORT && count == nth + 1)
        return errno = ENOSPC;
    if (count != nth)
        return 0;
    if (mode == KILL)
        raise(SIGKILL);
    if (mode == NO_SPACE)
        return errno = ENOSPC;
    if (mode == BROKEN)
        return errno = EIO;
    return 0;
}

static int at_nth(int fd, enum mode how)
{
    return mode == how && count == nth && descriptor_below_root(fd);
}

static ssize_t counted_write(int fd, const void *data, size_t size)
{
    if (fails(fd, NULL, WRITE))
        return -1;
    int torn = at_nth(fd, TORN), cut = at_nth(fd, SHORT);
    ssize_t written = REAL(write)(fd, data, torn || cut ? size / 2 : size);
    if (torn)
        raise(SIGKILL);
    return written;
}

ssize_t write(int fd, const void *data, size_t size)
{
    return mode == OFF ? REAL(write)(fd, data, size) : counted_write(fd, data, size);
}

#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...)                                                                         \
    {                                                                                                                  \
        va_list arguments;                                                                                             \
        va_start(arguments, flags);                                                                                    \
        mode_t permissions = flags & O_CREAT ? va_arg(arguments, mode_t) : 0;                                          \
        va_end(arguments);                                                                                             \
        return (flags & O_CREAT) && fails(AT_FDCWD, path, GROW) ? -1 : REAL(name)(path, flags, permissions);           \
    }
#define OPENAT(name)                                                                                                   \
    int name(int fd, const char *path, int flags, ...)                                                                 \
    {                                                                                                                  \
        va_list arguments;                                                                                             \
        va_start(arguments, flags);                                                                                    \
        mode_t permissions = flags & O_CREAT ? va_arg(arguments, mode_t) : 0;                                          \
        va_end(arguments);                                                                                             \
        return (flags & O_CREAT) && fails(fd, path, GROW) ? -1 : REAL(name)(fd, path, flags, permissions);             \
    }
#define CHANGES(kind, fd, path, name, ...) return fails(fd, path, kind) ? -1 : REAL(name)(__VA_ARGS__)
#define SYNC(name)                                                                                                     \
    int name(int fd)                                                                                                   \
    {                                                                                                                  \
        return fails(fd, NULL, CHANGE) ? -1 : watched(fd, NULL) ? 0 : REAL(name)(fd);                                  \
    }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
SYNC(fsync)
SYNC(fdatasync)
int ftruncate(int fd, off_t size) { CHANGES(CHANGE, fd, NULL, ftruncate, fd, size); }
int ftruncate64(int fd, off64_t size) { CHANGES(CHANGE, fd, NULL, ftruncate64, fd, size); }
int mkdir(const char *path, mode_t bits) { CHANGES(GROW, AT_FDCWD, path, mkdir, path, bits); }
int mkdirat(int fd, const char *path, mode_t bits) { CHANGES(GROW, fd, path, mkdirat, fd, path, bits); }
int rmdir(const char *path) { CHANGES(CHANGE, AT_FDCWD, path, rmdir, path); }
int unlink(const char *path) { CHANGES(CHANGE, AT_FDCWD, path, unlink, path); }
int unlinkat(int fd, const char *path, int flags) { CHANGES(CHANGE, fd, path, unlinkat, fd, path, flags); }
int rename(const char *from, const char *to) { CHANGES(CHANGE, AT_FDCWD, to, rename, from, to); }
int renameat(int from_fd, const char *from, int fd, const char *to)
{
    CHANGES(CHANGE, fd, to, renameat, from_fd, from, fd, to);
}
int link(const char *from, const char *to) { CHANGES(GROW, AT_FDCWD, to, link, from, to); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
    CHANGES(WRITE, fd, NULL, pwrite64, fd, data, size, offset);
}
ssize_t pread64(int fd, void *data, size_t size, off64_t offset)
{
    CHANGES(READ, fd, NULL, pread64, fd, data, size, offset);
}
ssize_t preadv64(int fd, const struct iovec *data, int parts, off64_t offset)
{
    CHANGES(READ, fd, NULL, preadv64, fd, data, parts, offset);
}
ssize_t preadv64v2(int fd, const struct iovec *data, int parts, off64_t offset, int flags)
{
    CHANGES(READ, fd, NULL, preadv64v2, fd, data, parts, offset, flags);
}
ssize_t read(int fd, void *data, size_t size)
{
    CHANGES(READ, fd, NULL, read, fd, data, size);
}
