/* SPDX-License-Identifier: MIT */
#ifndef GREEN_QUIET_H
#define GREEN_QUIET_H
/*
 * write() and close() as no cancellation points, which libc's are: a thread that
 * is cancelled is not to end in the middle of what the library does.
 */
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

__attribute__((weak, visibility("default"))) void *__tsan_get_current_fiber(void);

static inline long green__write(int fd, const void *bytes, size_t size)
{
    return syscall(SYS_write, fd, bytes, size);
}

/* Of a number that ThreadSanitizer does not see closed, the next use would be a race. */
static inline int green__close(int fd)
{
    if (__tsan_get_current_fiber == NULL)
        return (int)syscall(SYS_close, fd);
    int cancelable;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancelable);
    int result = close(fd);
    pthread_setcancelstate(cancelable, NULL);
    return result;
}

#endif
