/* SPDX-License-Identifier: MIT */
/*
 * Regular files (rule 17): what is in memory is moved at once, by RWF_NOWAIT; what must be
 * fetched, by a thread of the pool, under a shield.  A file system in memory has nothing to
 * be fetched.
 */
#define _GNU_SOURCE
#include <string.h>
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

struct file_move {
    int fd;
    bool out;
    struct iovec *parts;
    int n;
    off_t offset;
    ssize_t result;
    int error;
};

static void *move_file(void *arg)
{
    struct file_move *move = arg;
    do {
        if (move->offset >= 0)
            move->result = move->out ? pwritev(move->fd, move->parts, move->n, move->offset)
                                     : preadv(move->fd, move->parts, move->n, move->offset);
        else
            move->result = move->out ? writev(move->fd, move->parts, move->n)
                                     : readv(move->fd, move->parts, move->n);
        move->error = errno;
    } while (move->result < 0 && move->error == EINTR);
    return NULL;
}

static bool is_in_memory(int fd)
{
    struct statfs about;
    return fstatfs(fd, &about) == 0 &&
           (about.f_type == TMPFS_MAGIC || (unsigned long)about.f_type == RAMFS_MAGIC);
}

/* Without blocking; EAGAIN: something must be fetched. */
static ssize_t move_cached(struct green__fd *known, const struct file_move *move)
{
    if (known != NULL && known->no_nowait) {
        errno = EAGAIN;
        return -1;
    }
    unsigned long low = (unsigned long)move->offset, high = move->offset < 0 ? ~0ul : 0;
    ssize_t n = syscall(move->out ? SYS_pwritev2 : SYS_preadv2, move->fd, move->parts,
                        (unsigned long)move->n, low, high, RWF_NOWAIT);
    if (n < 0 && (errno == EOPNOTSUPP || errno == ENOSYS || errno == EPERM)) {
        if (known != NULL)
            known->no_nowait = true;
        errno = EAGAIN;
    }
    return n;
}

bool green__file_is_one(const struct stat *about)
{
    return S_ISREG(about->st_mode) || S_ISDIR(about->st_mode) || S_ISBLK(about->st_mode);
}

static bool is_file(int fd)
{
    struct stat about;
    return fstat(fd, &about) != 0 || green__file_is_one(&about);
}

ssize_t green__file_move(struct green__hub *hub, int fd, bool out, struct iovec *parts, int n,
                         off_t offset)
{
    struct iovec copy[16];
    struct file_move move = {.fd = fd, .out = out, .parts = parts, .n = n, .offset = offset};
    struct green__fd *known = green__fd_look(hub, fd);
    ssize_t moved = move_cached(known, &move);
    if (moved < 0 && errno != EAGAIN)
        return -1;
    size_t size = 0;
    for (int i = 0; i < n; i++)
        size += parts[i].iov_len;
    if (moved >= 0 && ((size_t)moved == size || (moved == 0 && !out) ||
                       n > (int)(sizeof copy / sizeof copy[0])))
        return moved;
    if (!is_file(fd)) { /* the number is another's by now: known was an older one's */
        if (known != NULL) {
            known->kind = GREEN__FD_UNKNOWN;
            known->no_nowait = false;
        }
        errno = moved < 0 ? EAGAIN : errno;
        return moved;
    }
    if (moved > 0) { /* the rest: parts are not the hub's to change */
        memcpy(copy, parts, (size_t)n * sizeof *parts);
        move.parts = copy;
        size_t skip = (size_t)moved;
        while (skip >= move.parts->iov_len) {
            skip -= move.parts->iov_len;
            move.parts++;
            move.n--;
        }
        move.parts->iov_base = (char *)move.parts->iov_base + skip;
        move.parts->iov_len -= skip;
        if (offset >= 0)
            move.offset = offset + moved;
    }
    if (known != NULL && known->no_nowait && is_in_memory(fd)) {
        (void)move_file(&move);
    } else {
        struct green__call call = {.hub = hub, .me = green__layer_current()};
        call.task = green__task_of(hub, call.me);
        if (known != NULL)
            green__fd_job_begins(hub, fd);
        int result = green__pool_call(&call, move_file, &move, NULL, NULL, false,
                                      out ? "green_write" : "green_read",
                                      (const void *)(intptr_t)fd, NULL);
        int error = errno;
        if (known != NULL)
            green__fd_job_ends(hub, fd);
        if (result != 0 && error == ECANCELED) { /* a forked child */
            errno = error;
            return moved > 0 ? moved : -1;
        }
        if (result != 0) /* no thread can be had: by this one */
            (void)move_file(&move);
    }
    if (move.result >= 0)
        return (moved > 0 ? moved : 0) + move.result;
    errno = move.error;
    return moved > 0 ? moved : -1;
}
