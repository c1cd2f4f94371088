/* SPDX-License-Identifier: MIT */
/*
 * fork() (rule 20): in the child go on the task that forked and main.  What all others
 * waited for is taken from them, and what their waits had been given, their stacks are given
 * up, and what the hub has of the system is made anew.
 */
#include <pthread.h>

#include "queue.h"

/* The wait with this turn, if it was served and is dropped; or NULL. */
static struct green__wait *dropped_wait(struct green__hub *hub, const struct green_task *mine,
                                        const struct green__turn *turn)
{
    struct green_task *task = green__task_of(hub, turn->green);
    if (task == mine || task == &hub->main)
        return NULL;
    struct green__wait *wait = green__task_waits(task);
    while (wait != NULL && &wait->turn != turn)
        wait = green__task_next_wait(task, wait);
    return wait != NULL && wait->state == GREEN__SERVED && wait->error == 0 ? wait : NULL;
}

/* The queue of which a served wait has an item, or NULL. */
static green_queue_t *queue_of(const struct green__hub *hub, const struct green__wait *wait)
{
    const green_case_t *done = hub->served_case != NULL ? hub->served_case(wait) : NULL;
    if (done != NULL)
        return done->kind == GREEN_KIND_GET ? done->object : NULL;
    return wait->served != NULL ? green__queue_of(wait) : NULL;
}

/* What a served wait was given is the next one's; false: it is an item for which nobody waits. */
static bool give_to_next(struct green__hub *hub, const struct green__wait *wait, bool gone)
{
    const green_case_t *done = hub->served_case != NULL ? hub->served_case(wait) : NULL;
    green_queue_t *queue = queue_of(hub, wait);
    if (queue != NULL)
        return gone || green__queue_pass_on(hub, queue, wait->served->item);
    if (done != NULL && done->kind == GREEN_KIND_SEMAPHORE)
        (void)green__line_give_unit(hub, done->object);
    else if (wait->role == GREEN__SPAWNS)
        green__group_lose(hub, wait);
    else if (done == NULL)
        green__line_lose(hub, wait);
    return true;
}

/*
 * What dropped waits had been given.  They stand in the line in the order in which it
 * was given: items for which nobody waits go back the last first.
 */
static void pass_all_on(struct green__hub *hub, const struct green_task *mine)
{
    struct green__wait *wait;
    uint64_t number = green__loop_turns(hub);
    for (struct green__turn *turn = hub->line.next; turn != &hub->line; turn = turn->next) {
        /* A queue may have gone since, but only with what was given before. */
        bool gone = ++number <= hub->gone_at || (hub->shuffled && hub->gone_at != 0);
        wait = dropped_wait(hub, mine, turn);
        if (wait != NULL && give_to_next(hub, wait, gone))
            wait->served = NULL;
    }
    for (struct green__turn *turn = hub->line.prev; turn != &hub->line; turn = turn->prev) {
        wait = dropped_wait(hub, mine, turn);
        green_queue_t *queue = wait != NULL ? queue_of(hub, wait) : NULL;
        if (queue != NULL)
            green__queue_put_back(queue, wait->served->item);
    }
}

/* What a wait that is dropped has in hand of its object, served or not. */
static void drop_from_hand(struct green__hub *hub, const struct green__wait *wait)
{
    if (wait->role == GREEN__FREES_TASK)
        green__task_keep((struct green_task *)wait->object);
    else if (wait->role == GREEN__FREES_GROUP)
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
    /* The list is round: NOLINTBEGIN(clang-analyzer-core.NullDereference) */
    for (struct green_task *task = hub->living.next; task != &hub->living; task = task->next) {
        if (task == mine)
            continue;
        struct green__own *own = green__task_own(task);
        if (own != NULL)
            own->wait.served = &own->entry; /* if it was: the short ways do not say so */
        for (const struct green__wait *wait = green__task_waits(task); wait != NULL;
             wait = green__task_next_wait(task, wait))
            drop_from_hand(hub, wait);
        green__wait_fail_all(hub, task);
    }
    pass_all_on(hub, mine);
    for (struct green_task *task = hub->living.next; task != &hub->living; task = task->next)
        if (task != mine)
            green__wait_drop_all(hub, task);
    /* NOLINTEND(clang-analyzer-core.NullDereference) */
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
        hub->fork_fds(hub, mine);
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
