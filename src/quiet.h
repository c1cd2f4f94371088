/* SPDX-License-Identifier: MIT */
#ifndef GREEN_QUIET_H
#define GREEN_QUIET_H
/*
 * write() as no cancellation point, which libc's is: a thread that is cancelled is not
 * to end in the middle of what the library does.
 */
#include <sys/syscall.h>
#include <unistd.h>

static inline long green__write(int fd, const void *bytes, size_t size)
{
    return syscall(SYS_write, fd, bytes, size);
}

#endif
