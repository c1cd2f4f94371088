/* SPDX-License-Identifier: MIT */
/*
 * Signals that are blocked, by a signalfd: no handler is installed, no mask changed
 * (rule 21).
 */
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "fd.h"

#define PLACE __builtin_return_address(0)

static bool all_are_blocked(const sigset_t *set)
{
    sigset_t blocked;
    pthread_sigmask(SIG_BLOCK, NULL, &blocked);
    for (int signal = 1; signal < NSIG; signal++)
        if (sigismember(set, signal) == 1 && sigismember(&blocked, signal) != 1 &&
            signal != SIGKILL && signal != SIGSTOP) /* which nobody can block, or wait for */
            return false;
    return true;
}

/* One of set that is pending, or 0. */
static int take_signal(const sigset_t *set)
{
    const struct timespec now = {0};
    int signal, cancelable;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancelable);
    do
        signal = sigtimedwait(set, NULL, &now);
    while (signal < 0 && errno == EINTR);
    pthread_setcancelstate(cancelable, NULL);
    return signal > 0 ? signal : 0;
}

int green_sigwait(const sigset_t *set, int64_t timeout)
{
    struct green__call call;
    if (set == NULL || !all_are_blocked(set))
        return green__call_fail(EINVAL);
    if (!green__call_begin(&call, timeout))
        return -1;
    int error = errno;
    int signal = take_signal(set);
    if (signal != 0) {
        (void)green__call_done(&call, timeout);
        errno = error;
        return signal;
    }
    if (timeout <= 0)
        return green__call_fail(ETIMEDOUT);
    struct green__hub *hub = call.hub;
    int64_t due = timeout == GREEN_FOREVER ? GREEN_FOREVER
                                           : green__time_add(green__loop_now(hub), timeout);
    int fd = signalfd(-1, set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        return green__call_tried(&call, timeout, errno);
    green__fd_begin(hub, fd, false);
    if (green__fd_hold(&call, fd) != 0)
        return green__call_tried(&call, timeout, errno);
    while (signal == 0) {
        int64_t left = due == GREEN_FOREVER ? due : due - green__loop_now(hub);
        if (left <= 0) {
            error = ETIMEDOUT;
            break;
        }
        if (green__fd_wait_for(&call, fd, EPOLLIN, left, "green_sigwait", PLACE) != 0) {
            error = errno;
            break;
        }
        green__fd_tried(hub, fd, 0);
        signal = take_signal(set);
        if (signal == 0 && !green__call_goes_on(&call)) {
            error = errno;
            break;
        }
    }
    errno = error;
    green__fd_release(&call, fd);
    return signal != 0 ? signal : -1;
}
