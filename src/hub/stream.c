/* SPDX-License-Identifier: MIT */
/*
 * stdio on descriptors, by the streams of the C library whose reads and writes are the
 * program's (fopencookie(), glibc and musl).
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fd.h"
#include "io.h"

struct stream {
    int fd;
    const char *unfinished; /* what is being written; NULL: nothing ... */
    size_t moved;           /* ... and how much of it is */
};

/* exit() flushes streams after all atexit() functions: nobody waits any more then. */
static _Atomic(bool) exiting;
static pthread_once_t exit_once = PTHREAD_ONCE_INIT;

static void begin_exit(void)
{
    exiting = true;
}

static void notice_exit(void)
{
    (void)atexit(begin_exit);
}

static ssize_t read_stream(void *cookie, char *buffer, size_t size)
{
    struct stream *stream = cookie;
    int error = errno;
    ssize_t n = exiting ? GREEN__OWN(read(stream->fd, buffer, size))
                        : green_read(stream->fd, buffer, size);
    if (n >= 0) /* at the end, errno alone tells some callers whether that is an error */
        errno = error;
    return n;
}

/* As write(), but that it raises no SIGPIPE from a socket; of what a task has begun, the rest. */
static ssize_t write_at_exit(struct stream *stream, const char *buffer, size_t size)
{
    size_t moved = buffer == stream->unfinished && stream->moved <= size ? stream->moved : 0;
    stream->unfinished = NULL;
    buffer += moved;
    size -= moved;
    if (size == 0)
        return (ssize_t)moved;
    ssize_t n = GREEN__OWN(send(stream->fd, buffer, size, MSG_NOSIGNAL));
    if (n < 0 && errno == ENOTSOCK)
        n = GREEN__OWN(write(stream->fd, buffer, size));
    return n >= 0 ? (ssize_t)moved + n : moved != 0 ? (ssize_t)moved : -1;
}

static ssize_t write_in_task(struct stream *stream, const char *buffer, size_t size)
{
    stream->moved = 0;
    stream->unfinished = buffer;
    ssize_t n = green__io_write_all(stream->fd, buffer, size, &stream->moved);
    stream->unfinished = NULL;
    return n;
}

/* That it failed, glibc wants to hear by a number that is too small, musl by -1. */
static ssize_t write_stream(void *cookie, const char *buffer, size_t size)
{
    struct stream *stream = cookie;
    green__given((void *)buffer, size); /* the C library's, which MSan has not seen it write */
    ssize_t n = exiting ? write_at_exit(stream, buffer, size) : write_in_task(stream, buffer, size);
#ifdef __GLIBC__
    return n > 0 ? n : 0;
#else
    return n == (ssize_t)size ? n : -1;
#endif
}

static int seek_stream(void *cookie, off64_t *offset, int whence)
{
    struct stream *stream = cookie;
    off_t place = lseek(stream->fd, (off_t)*offset, whence);
    if (place < 0)
        return -1;
    *offset = place;
    return 0;
}

static int close_stream(void *cookie)
{
    struct stream *stream = cookie;
    int fd = stream->fd;
    free(stream);
    return exiting ? GREEN__OWN(close(fd)) : green_close(fd);
}

static bool mode_is_valid(const char *mode)
{
    return mode[0] == 'r' || mode[0] == 'w' || mode[0] == 'a';
}

FILE *green_fdopen(int fd, const char *mode)
{
    if (mode == NULL || !mode_is_valid(mode)) {
        errno = EINVAL;
        return NULL;
    }
    if (green__hub_need() == NULL)
        return NULL;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0)
        return NULL; /* EBADF */
    int access = flags & O_ACCMODE;
    bool plus = strchr(mode, '+') != NULL;
    bool reads = plus || mode[0] == 'r', writes = plus || mode[0] != 'r';
    if ((reads && access == O_WRONLY) || (writes && access == O_RDONLY)) {
        errno = EINVAL;
        return NULL;
    }
    if (mode[0] == 'a' && (flags & O_APPEND) == 0 && fcntl(fd, F_SETFL, flags | O_APPEND) != 0)
        return NULL;
    (void)GREEN__OWN(pthread_once(&exit_once, notice_exit));
    struct stream *stream = malloc(sizeof *stream);
    if (stream == NULL) {
        errno = ENOMEM;
        return NULL;
    }
    *stream = (struct stream){.fd = fd};
    const cookie_io_functions_t functions = {read_stream, write_stream, seek_stream, close_stream};
    FILE *file = fopencookie(stream, mode, functions);
    if (file == NULL) {
        free(stream);
        errno = ENOMEM;
        return NULL;
    }
    int error = errno;
    if (isatty(fd)) /* as fdopen() has it, which asks the descriptor that this stream hides */
        (void)setvbuf(file, NULL, _IOLBF, 0);
    errno = error;
    return file;
}
