/* SPDX-License-Identifier: MIT */
/*
 * Waits for many descriptors: green_poll(), and green_select()'s.  poll() is asked first,
 * and again when something has come: it alone says what is ready.
 */
#define _GNU_SOURCE
#include <alloca.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "fd.h"
#include "polling.h"

#define PLACE __builtin_return_address(0)
#define POLLED_ON_STACK 16 /* descriptors; for more there is malloc() */

int green__poll_now(struct pollfd *fds, nfds_t n)
{
    int cancelable, result;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancelable);
    do
        result = GREEN__OWN(poll(fds, n, 0));
    while (result < 0 && errno == EINTR);
    pthread_setcancelstate(cancelable, NULL);
    return result;
}

/* The events of poll() are those of epoll, by the same numbers. */
_Static_assert(POLLIN == EPOLLIN && POLLOUT == EPOLLOUT && POLLPRI == EPOLLPRI, "");
_Static_assert(POLLHUP == EPOLLHUP && POLLERR == EPOLLERR, "");
#define LOOKS_IN (EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLRDNORM | EPOLLRDBAND)
#define LOOKS_OUT (EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND)
#define ENDS (EPOLLHUP | EPOLLERR)

int green__poll_enlist(struct green__hub *hub, struct green__wait *wait,
                       struct green__poll_entry *entries, int fd, int events, unsigned index)
{
    uint32_t wanted[2] = {(uint32_t)events & LOOKS_IN, (uint32_t)events & LOOKS_OUT};
    if ((wanted[0] & EPOLLRDNORM) != 0)
        wanted[0] |= EPOLLIN; /* what those who are registered once are asked for */
    if ((wanted[1] & EPOLLWRNORM) != 0)
        wanted[1] |= EPOLLOUT;
    if (wanted[0] == 0 && wanted[1] == 0)
        wanted[1] = ENDS; /* for the end alone */
    for (unsigned i = 0; i < 2; i++) {
        entries[i].own = (struct green__fd_entry){.entry = entries[i].entry, .fd = -1};
        entries[i].closed = false;
        *entries[i].entry = (struct green__entry){.index = index};
    }
    for (unsigned i = 0; i < 2 && fd >= 0; i++) {
        struct green__fd_entry *own = &entries[i].own;
        if (wanted[i] == 0)
            continue;
        *own = (struct green__fd_entry){
            .entry = own->entry, .fd = fd, .events = wanted[i], .looks = true};
        int result = green__fd_enlist(hub, wait, own);
        if (result != 0)
            own->fd = -1;
        if (result < 0)
            return -1;
        /* 1: epoll refuses it, as it never becomes ready if it is not: see poll(). */
    }
    return 0;
}

bool green__poll_delist(struct green__hub *hub, struct green__poll_entry *entries, size_t n)
{
    bool any = false;
    for (size_t i = 0; i < 2 * n; i++) {
        entries[i].closed = entries[i].own.fd >= 0 && !green__fd_delist(hub, &entries[i].own);
        any = any || entries[i].closed;
    }
    return any;
}

/* Waits until poll() may say something else: 0, 1 if it is to be asked at once, -1. */
static int wait_for_any(struct green__call *call, struct pollfd *fds, nfds_t n, int64_t timeout,
                        struct green__entry *entries, struct green__poll_entry *own,
                        const void *place)
{
    struct green__wait wait;
    green__wait_prepare(&wait, call, "green_poll", fds, place);
    wait.entries = entries;
    wait.count = 0;
    wait.ends_well = true;
    int result = 0;
    for (nfds_t i = 0; i < n && result == 0; i++) {
        own[2 * i].entry = &entries[2 * i];
        own[2 * i + 1].entry = &entries[2 * i + 1];
        wait.count = (unsigned)(2 * i + 2);
        result = green__poll_enlist(call->hub, &wait, &own[2 * i], fds[i].fd, fds[i].events,
                                    (unsigned)i);
        if (result < 0 && errno == EBADF)
            result = 1; /* poll() says POLLNVAL */
    }
    nfds_t enlisted = wait.count / 2;
    if (n == 1)
        wait.object = (const void *)(intptr_t)fds[0].fd;
    bool refused = result < 0;
    if (result == 0)
        result = green__wait(call->hub, &wait, timeout);
    else
        green__wait_take_back(&wait);
    bool any_closed = green__poll_delist(call->hub, own, enlisted);
    if (refused)
        return green__call_tried(call, timeout, errno);
    if (result < 0 && (wait.served == NULL || wait.error != EBADF))
        return -1;
    if (result < 0)
        own[2 * (size_t)wait.served->index].closed = any_closed = true;
    if (!any_closed)
        return result;
    for (nfds_t i = 0; i < n; i++) /* the numbers may be others' by now */
        fds[i].revents = i < enlisted && (own[2 * i].closed || own[2 * i + 1].closed) ? POLLNVAL : 0;
    return 2;
}

int green_poll(struct pollfd *fds, nfds_t n, int64_t timeout)
{
    struct green__call call;
    if (fds == NULL && n > 0)
        return green__call_fail(EINVAL);
    if (!green__call_begin(&call, 1)) /* the end of its own time is no failure */
        return -1;
    int64_t due = GREEN_FOREVER;
    if (timeout != GREEN_FOREVER)
        due = green__time_add(green__loop_now(call.hub), timeout);
    int ready = green__poll_now(fds, n);
    if (ready != 0 || timeout <= 0) {
        if (ready < 0)
            return green__call_tried(&call, timeout, errno);
        green__call_done(&call, timeout);
        return ready;
    }
    size_t size = 2 * ((size_t)n + 1);
    struct green__entry *entries;
    struct green__poll_entry *own;
    void *memory = NULL;
    if (n <= POLLED_ON_STACK) {
        entries = alloca(size * sizeof *entries);
        own = alloca(size * sizeof *own);
    } else {
        memory = malloc(size * (sizeof *entries + sizeof *own));
        if (memory == NULL)
            return green__call_tried(&call, timeout, ENOMEM);
        entries = memory;
        own = (struct green__poll_entry *)(entries + size);
    }
    int error = errno;
    while (ready == 0) {
        int64_t left = due == GREEN_FOREVER ? due : due - green__loop_now(call.hub);
        if (left <= 0)
            break;
        int result = wait_for_any(&call, fds, n, left, entries, own, PLACE);
        error = result < 0 ? errno : error;
        if (result == 2) {
            ready = 0;
            for (nfds_t i = 0; i < n; i++)
                ready += fds[i].revents != 0;
            break;
        }
        if (result < 0) {
            ready = -1;
            break;
        }
        ready = green__poll_now(fds, n);
        bool is_over = due != GREEN_FOREVER && due <= green__loop_now(call.hub);
        if (ready == 0 && !is_over && !green__call_goes_on(&call)) { /* rule 8 */
            error = errno;
            ready = -1;
        }
    }
    free(memory);
    errno = error;
    return ready;
}
