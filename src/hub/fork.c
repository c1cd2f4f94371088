/* SPDX-License-Identifier: MIT */
/*
 * fork() (rule 20): in the child go on the task that forked and main.  What all others
 * waited for is taken from them, their stacks are given up, and what the hub has of the
 * system is made anew.
 */
#include <pthread.h>

#include "hub.h"

/* What a wait that is dropped has in hand. */
static void drop_from_hand(struct green__hub *hub, const struct green__wait *wait)
{
    if (wait->role == GREEN__FREES_TASK)
        green__task_keep((struct green_task *)wait->object);
    else if (wait->role == GREEN__FREES_GROUP || wait->role == GREEN__SPAWNS)
        green__group_lose(hub, wait);
}

static void begin_child(void)
{
    struct green__hub *hub = green__hub_self;
    green__hub_unlock();
    green__hub_forget_all_but(hub);
    green__watch_fork(hub);
    if (hub == NULL)
        return;
    if (hub->fork_pool != NULL)
        hub->fork_pool(hub);
    struct green_task *mine = green__task_of(hub, green__layer_current());
    if (hub->fork_children != NULL)
        hub->fork_children(hub, mine);
    for (struct green_task *task = hub->living.next; task != &hub->living; task = task->next) {
        if (task == mine)
            continue;
        for (const struct green__wait *wait = task->waits; wait != NULL; wait = wait->next)
            drop_from_hand(hub, wait);
        green__wait_drop_all(hub, task);
    }
    for (struct green__turn *turn = hub->line.next, *next; turn != &hub->line; turn = next) {
        const struct green_task *task = green__task_of(hub, turn->green);
        next = turn->next;
        if (task == mine || task == &hub->main)
            continue;
        green__loop_remove(hub, turn); /* it only lets others run */
        if (turn->green != task->green)
            green__layer_let_go(turn->green);
    }
    bool had_epoll = hub->epoll >= 0, had_fd = hub->fd_asked;
    green__loop_fork(hub);
    if (had_epoll && (hub->remote != NULL || had_fd))
        (void)green__loop_need_epoll(hub); /* if it fails, the hub looks again every 10 ms */
    green__remote_fork(hub, true);
    if (hub->drop_served != NULL)
        hub->drop_served(hub, mine);
    if (hub->fork_fds != NULL)
        hub->fork_fds(hub);
    green__task_end_all(hub, mine, false);
    green__hub_bury(hub);
}

static bool handled;

static void handle(void)
{
    handled = pthread_atfork(green__hub_lock, green__hub_unlock, begin_child) == 0;
}

int green__fork_handle(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)GREEN__OWN(pthread_once(&once, handle));
    return handled ? 0 : green__call_fail(ENOMEM);
}
