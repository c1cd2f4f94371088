/* SPDX-License-Identifier: MIT */
#ifndef GREEN_HUB_IO_H
#define GREEN_HUB_IO_H
/* What io.c has for stdio; and regular files, which are always ready and may block: file.c. */
#include "hub.h"

/* As green_write_all(); *moved is at any moment what was moved by then, should the process end. */
ssize_t green__io_write_all(int fd, const void *buffer, size_t size, size_t *moved);

/*
 * Moves all of parts that there is, at offset or, if that is -1, where the descriptor is:
 * what is in memory at once, the rest by a thread of the pool.  What was moved, or -1 with
 * errno; EAGAIN: it is no file any more.
 */
ssize_t green__file_move(struct green__hub *hub, int fd, bool out, struct iovec *parts, int n,
                         off_t offset);

/* Whether an error only says that it cannot be asked not to block (RWF_NOWAIT), or a filter's is. */
static inline bool green__file_no_answer(int error)
{
    return error == EOPNOTSUPP || error == ENOSYS || error == EPERM || error == EINVAL;
}

/* Whether it is such a file. */
struct stat;
bool green__file_is_one(const struct stat *about);

/* fd.c: a call of the pool for a descriptor begins, and ends. */
void green__fd_job_begins(struct green__hub *hub, int fd);
void green__fd_job_ends(int fd);

#endif
