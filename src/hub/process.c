/* SPDX-License-Identifier: MIT */
/*
 * Children: by a pidfd, which is readable when its process has ended.  There is no
 * handler for SIGCHLD, and nobody else's child is reaped.  Where the system gives none
 * the child is asked about after 1 ms, 2, 4, up to 100.
 */
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fd.h"

#define PLACE __builtin_return_address(0)

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

/* What waitpid() says that does not wait: 0: it lives. */
static pid_t ask_child(pid_t pid, int *status)
{
    pid_t result;
    int cancelable;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancelable);
    do
        result = GREEN__OWN(waitpid(pid, status, WNOHANG));
    while (result < 0 && errno == EINTR);
    pthread_setcancelstate(cancelable, NULL);
    return result;
}

static int pause_for_child(struct green__call *call, pid_t pid, int64_t time, const void *place)
{
    struct green__wait wait;
    green__wait_prepare(&wait, call, "green_waitpid", (const void *)(intptr_t)pid, place);
    wait.descriptors = 0;
    wait.ends_well = true;
    return green__wait(call->hub, &wait, time);
}

/* Something can come as long as it is in the list: who waits stands on that stack. */
static void begin_waiting(struct green__hub *hub, struct green__child *child)
{
    child->prev = NULL;
    child->next = hub->children;
    if (child->next != NULL)
        child->next->prev = child;
    hub->children = child;
    green__loop_add_world(hub);
}

static void end_waiting(struct green__hub *hub, struct green__child *child)
{
    if (child->prev != NULL)
        child->prev->next = child->next;
    else
        hub->children = child->next;
    if (child->next != NULL)
        child->next->prev = child->prev;
    green__loop_remove_world(hub);
}

/* In a forked child: those that wait no more have nothing that can come. */
static void fork_children(struct green__hub *hub, const struct green_task *mine)
{
    for (struct green__child *child = hub->children, *next; child != NULL; child = next) {
        const struct green_task *task = green__task_of(hub, child->waiter);
        next = child->next;
        if (task == mine || task == &hub->main)
            continue;
        end_waiting(hub, child);
        child->waiter = NULL;
    }
}

pid_t green_waitpid(pid_t pid, int *status, int options)
{
    struct green__call call;
    if (pid <= 0 || (options & ~WNOHANG) != 0)
        return green__call_fail(EINVAL);
    if (!green__call_begin(&call, GREEN_FOREVER))
        return -1;
    pid_t result = ask_child(pid, status);
    if (result != 0 || (options & WNOHANG) != 0) {
        int error = errno;
        (void)green__call_done(&call, GREEN_FOREVER);
        errno = error;
        return result;
    }
    struct green__hub *hub = call.hub;
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd >= 0 && green__loop_need_epoll(hub) != 0) { /* it could not be waited for */
        green__close(pidfd);
        pidfd = -1;
    }
    if (pidfd >= 0) {
        green__fd_begin(hub, pidfd, false);
        if (green__fd_hold(&call, pidfd) != 0) /* which closes it */
            pidfd = -1;
    }
    int64_t pause = GREEN_MS(1);
    struct green__child child = {.waiter = call.me};
    hub->fork_children = fork_children;
    begin_waiting(hub, &child);
    for (;;) {
        int waited = pidfd >= 0
                         ? green__fd_wait(&call, pidfd, EPOLLIN, "green_waitpid", PLACE)
                         : pause_for_child(&call, pid, pause, PLACE);
        if (pidfd >= 0 && waited == 0)
            green__fd_tried(hub, pidfd, 0);
        pause = pause < GREEN_MS(50) ? 2 * pause : GREEN_MS(100);
        result = waited == 0 ? ask_child(pid, status) : -1;
        if (result != 0 || !green__call_goes_on(&call))
            break;
    }
    int error = errno;
    if (child.waiter != NULL)
        end_waiting(hub, &child);
    errno = error;
    if (pidfd >= 0)
        green__fd_release(&call, pidfd);
    return result != 0 ? result : -1;
}
