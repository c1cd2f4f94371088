/* SPDX-License-Identifier: MIT */
/*
 * Regular files (rule 17): what is in memory is moved at once, by RWF_NOWAIT; what must be
 * fetched, by a thread of the pool, under a shield.  A file system in memory has nothing to
 * be fetched.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "fd.h"
#include "io.h"
#include "pool.h"

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 8
#endif
#ifndef TMPFS_MAGIC
#define TMPFS_MAGIC 0x01021994
#endif
#ifndef RAMFS_MAGIC
#define RAMFS_MAGIC 0x858458f6
#endif

/* The most that one call of the system moves. */
#define MOST ((size_t)0x7ffff000)

struct file_move {
    int fd;
    bool out;
    const struct iovec *parts; /* that are left, n of them ... */
    int n;
    size_t skip;               /* ... but for so many bytes of the first */
    off_t offset;              /* -1: where the descriptor is */
    size_t moved;
    int error;                 /* of the last call that failed, or 0 */
};

/* What the next call is to move: the parts are not the hub's to change. */
struct next_parts {
    struct iovec rest; /* of a part */
    const struct iovec *parts;
    int n;
};

static size_t next_parts(const struct file_move *move, struct next_parts *next)
{
    *next = (struct next_parts){.parts = move->parts, .n = move->n};
    if (move->skip != 0) {
        next->rest.iov_base = (char *)move->parts->iov_base + move->skip;
        next->rest.iov_len = move->parts->iov_len - move->skip;
        next->parts = &next->rest;
        next->n = 1;
    }
    size_t size = 0;
    for (int i = 0; i < next->n; i++)
        size += next->parts[i].iov_len;
    return size;
}

static ssize_t move_blocking(const struct file_move *move, const struct next_parts *next)
{
    if (move->offset >= 0)
        return move->out ? pwritev(move->fd, next->parts, next->n, move->offset)
                         : preadv(move->fd, next->parts, next->n, move->offset);
    return GREEN__OWN(move->out ? writev(move->fd, next->parts, next->n)
                                : readv(move->fd, next->parts, next->n));
}

static ssize_t move_cached(const struct file_move *move, const struct next_parts *next)
{
    unsigned long low = (unsigned long)move->offset, high = move->offset < 0 ? ~0ul : 0;
    ssize_t n = syscall(move->out ? SYS_pwritev2 : SYS_preadv2, move->fd, next->parts,
                   (unsigned long)next->n, low, high, RWF_NOWAIT);
    if (n > 0 && !move->out)
        green__layer_given(next->parts, (size_t)n);
    return n;
}

static void advance(struct file_move *move, size_t n)
{
    move->moved += n;
    if (move->offset >= 0)
        move->offset += (off_t)n;
    n += move->skip;
    while (move->n > 0 && n >= move->parts->iov_len) {
        n -= move->parts->iov_len;
        move->parts++;
        move->n--;
    }
    move->skip = n;
}

/*
 * Until all is moved that there is, or a call fails.  Of what is not cached, a call that
 * moves less than it is asked for has met the end: some files of /proc block there.
 */
static void move_on(struct file_move *move, bool cached)
{
    struct next_parts next;
    size_t size;
    ssize_t n;
    int cancelable;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancelable);
    move->error = 0;
    do {
        size = next_parts(move, &next);
        n = cached ? move_cached(move, &next) : move_blocking(move, &next);
        if (n > 0)
            advance(move, (size_t)n);
        else if (n < 0 && errno != EINTR)
            move->error = errno;
    } while (move->n > 0 && move->error == 0 && n != 0 &&
             (cached || n < 0 || (size_t)n >= (size < MOST ? size : MOST)));
    pthread_setcancelstate(cancelable, NULL);
}

static void *move_in_pool(void *move)
{
    move_on(move, false);
    return NULL;
}

static ssize_t result_of(const struct file_move *move)
{
    if (move->error == 0 || move->moved > 0)
        return (ssize_t)move->moved;
    return green__call_fail(move->error);
}

bool green__file_is_one(const struct stat *about)
{
    return S_ISREG(about->st_mode) || S_ISDIR(about->st_mode) || S_ISBLK(about->st_mode);
}

static bool is_in_memory(int fd)
{
    struct statfs about;
    return fstatfs(fd, &about) == 0 &&
           (about.f_type == TMPFS_MAGIC || (unsigned long)about.f_type == RAMFS_MAGIC);
}

/* Where there is nothing to be fetched the system says EAGAIN all the same. */
static bool is_at_end(const struct file_move *move, const struct stat *about)
{
    off_t place = move->offset >= 0 ? move->offset : lseek(move->fd, 0, SEEK_CUR);
    return S_ISREG(about->st_mode) && about->st_size > 0 && place >= about->st_size;
}

/* By a thread of the pool; false with errno: in a forked child, or at the thread's end. */
static bool fetch(struct green__hub *hub, struct file_move *move, bool known)
{
    struct green__call call = {.hub = hub, .me = green__layer_current()};
    int fd = move->fd;
    call.task = green__task_of(hub, call.me);
    if (known)
        green__fd_job_begins(hub, fd);
    int result = green__pool_call(&call, move_in_pool, move, NULL, NULL, false,
                                  move->out ? "green_write" : "green_read",
                                  (const void *)(intptr_t)fd, NULL);
    int error = errno;
    if (known)
        green__fd_job_ends(fd);
    if (result != 0 && error == ECANCELED)
        return green__call_fail(error) == 0;
    if (result != 0) /* no thread can be had: by this one */
        move_on(move, false);
    return true;
}

ssize_t green__file_move(struct green__hub *hub, int fd, bool out, struct iovec *parts, int n,
                         off_t offset)
{
    struct stat about = {0};
    unsigned char direction = out ? GREEN__FD_OUT : GREEN__FD_IN;
    struct file_move move = {.fd = fd, .out = out, .parts = parts, .n = n, .offset = offset};
    struct green__fd *known = green__fd_look(hub, fd);
    if (known == NULL || (known->no_nowait & direction) == 0) {
        move_on(&move, true);
        if (move.error != EAGAIN && !green__file_no_answer(move.error))
            return result_of(&move);
        if (known != NULL && move.error != EAGAIN)
            known->no_nowait |= direction;
    }
    if (fstat(fd, &about) == 0 && !green__file_is_one(&about)) {
        if (known != NULL) { /* the number was used again behind the hub's back */
            known->kind = GREEN__FD_UNKNOWN;
            known->no_nowait = 0;
        }
        move.error = EAGAIN;
        return result_of(&move);
    }
    if (move.error == EAGAIN && !out && is_at_end(&move, &about)) {
        move.error = 0;
        return result_of(&move);
    }
    if (move.error != EAGAIN && is_in_memory(fd)) {
        move_on(&move, false);
    } else {
        size_t moved = move.moved;
        if (!fetch(hub, &move, known != NULL))
            return moved > 0 ? (ssize_t)moved : -1;
    }
    return result_of(&move);
}
