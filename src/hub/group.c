/* SPDX-License-Identifier: MIT */
/* Groups: tasks with one owner, which end together (rules 13 and 14). */
#include <stdlib.h>

#include "group.h"

#define PLACE __builtin_return_address(0)

struct green_group {
    struct green_task *first, *last;      /* its tasks, by group_next */
    size_t size, limit;                   /* limit 0: none */
    size_t promised;                      /* places that were given to spawners who wait */
    struct green_private_line spawners;   /* who wait for room */
    struct green_private_line waiters;    /* who wait for the end of all */
    struct green_private_line servers;    /* who wait for what they will spawn it for */
    size_t holders;                       /* calls of green_serve() that have it */
    struct green__entry *freer;           /* who frees it, served last; or NULL */
    int error;                            /* of the first that failed since a wait returned 0 */
    bool all_or_none, cancelled, freeing;
    bool freed;                           /* by the program: the last holder releases it */
};

green_group_t *green_group_new(size_t limit, unsigned flags)
{
    if ((flags & ~GREEN_ALL_OR_NONE) != 0) {
        errno = EINVAL;
        return NULL;
    }
    struct green__hub *hub = green__hub_need();
    if (hub == NULL)
        return NULL;
    green_group_t *group = malloc(sizeof *group);
    if (group == NULL) {
        errno = ENOMEM;
        return NULL;
    }
    *group = (green_group_t){.limit = limit, .all_or_none = (flags & GREEN_ALL_OR_NONE) != 0};
    return group;
}

/* Rule 19, by the line of those who wait for its end. */
static bool group_is_mine(struct green__hub *hub, green_group_t *group)
{
    if (LIKELY(group->waiters.hub == hub->id))
        return true;
    if (!green__line_claim(hub, &group->waiters) || !green__line_claim(hub, &group->spawners) ||
        !green__line_claim(hub, &group->servers))
        return false;
    group->promised = 0; /* to greens of a hub that is no more */
    group->holders = 0;
    group->freer = NULL;
    group->freeing = false;
    return true;
}

static bool has_group_room(const green_group_t *group)
{
    return group->limit == 0 || group->size + group->promised < group->limit;
}

/* ---- Ends ---------------------------------------------------------------------------- */

static void cancel_group(struct green__hub *hub, green_group_t *group)
{
    group->cancelled = true;
    green__wait_serve_all(hub, &group->spawners, ECANCELED);
    green__wait_serve_all(hub, &group->servers, ECANCELED);
    for (struct green_task *task = group->first; task != NULL; task = task->group_next)
        green__task_cancel(hub, task);
}

static void group_unlink(green_group_t *group, struct green_task *task)
{
    if (task->group_prev != NULL)
        task->group_prev->group_next = task->group_next;
    else
        group->first = task->group_next;
    if (task->group_next != NULL)
        task->group_next->group_prev = task->group_prev;
    else
        group->last = task->group_prev;
    group->size--;
}

/* Who waits for its end hears of the first failure since a wait returned 0. */
static void serve_group_waiters(struct green__hub *hub, green_group_t *group)
{
    bool any = false;
    for (struct green__entry *entry; (entry = green__line_first(&group->waiters)) != NULL;) {
        entry->wait->value_error = group->error;
        green__wait_serve(hub, entry, 0);
        any = true;
    }
    if (any)
        group->error = 0;
    if (group->freer != NULL)
        green__wait_serve(hub, group->freer, 0);
}

/*
 * There is room for one more: the first spawner has it, or nobody is left.  Those before
 * it who have nothing to spawn yet (their entry has an item) hear of it and take nothing.
 */
static void give_room(struct green__hub *hub, green_group_t *group)
{
    struct green__entry *first;
    while ((first = green__line_first(&group->spawners)) != NULL && has_group_room(group)) {
        group->promised += first->item == NULL;
        green__wait_serve(hub, first, 0);
    }
    if (group->size + group->promised == 0)
        serve_group_waiters(hub, group);
}

static void ended_in_group(struct green_task *task, bool alone)
{
    green_group_t *group = task->group;
    struct green__hub *hub = task->hub;
    group_unlink(group, task);
    if (alone)
        return;
    if (green__task_has_failed(task)) {
        if (group->error == 0)
            group->error = task->error;
        if (group->all_or_none && !group->cancelled)
            cancel_group(hub, group);
    }
    give_room(hub, group);
}

/* ---- Spawning -------------------------------------------------------------------------- */

static int spawn_in_group(green_group_t *group, green_fn *run, void *arg,
                          const green_options_t *options, const void *place)
{
    struct green__call call;
    if (group == NULL || !green__task_may_be(run, options, GREEN_DAEMON | GREEN_NO_GUARD))
        return green__call_fail(EINVAL);
    if (!green__call_begin(&call, GREEN_FOREVER) || !group_is_mine(call.hub, group))
        return -1;
    if (group->cancelled)
        return green__call_tried(&call, GREEN_FOREVER, ECANCELED);
    bool waits = !has_group_room(group);
    if (waits) {
        struct green__wait wait;
        struct green__entry entry = {0};
        green__wait_prepare(&wait, &call, "green_group_spawn", group, place);
        wait.entries = &entry;
        wait.count = 1;
        wait.role = GREEN__SPAWNS;
        green__wait_enlist(&wait, &entry, &group->spawners);
        if (green__wait(call.hub, &wait, GREEN_FOREVER) != 0)
            return -1;
        group->promised--;
    }
    struct green_task *task = NULL;
    if (group->cancelled)
        errno = ECANCELED; /* since it was promised a place */
    else
        task = green__task_make(call.hub, run, arg, options);
    if (task == NULL) {
        int error = errno;
        give_room(call.hub, group);
        errno = error;
        return -1;
    }
    task->group = group;
    call.hub->ended_in_group = ended_in_group;
    task->group_prev = group->last;
    task->group_next = NULL;
    if (group->last != NULL)
        group->last->group_next = task;
    else
        group->first = task;
    group->last = task;
    group->size++;
    return waits ? 0 : green__call_done(&call, GREEN_FOREVER);
}

bool green__group_is_full(const green_group_t *group)
{
    return !group->cancelled && !has_group_room(group);
}

bool green__group_hold(struct green__hub *hub, green_group_t *group)
{
    if (!group_is_mine(hub, group))
        return false;
    group->holders++;
    return true;
}

void green__group_release(green_group_t *group)
{
    int error = errno;
    if (--group->holders == 0 && group->freed)
        free(group);
    errno = error;
}

struct green_private_line *green__group_servers(green_group_t *group)
{
    return &group->servers;
}

bool green__group_is_cancelled(const green_group_t *group)
{
    return group->cancelled;
}

int green__group_wait_for_room(green_group_t *group, struct green_private_line *ending,
                               void *ends, const char *name, const void *place)
{
    struct green__call call;
    if (!green__call_begin(&call, GREEN_FOREVER) || !group_is_mine(call.hub, group))
        return -1;
    if (green__group_is_full(group)) {
        struct green__wait wait;
        struct green__entry entries[2] = {{.item = group}, {.item = ends}};
        green__wait_prepare(&wait, &call, name, group, place);
        wait.entries = entries;
        wait.count = 2;
        green__wait_enlist(&wait, &entries[0], &group->spawners);
        green__wait_enlist(&wait, &entries[1], ending);
        if (green__wait(call.hub, &wait, GREEN_FOREVER) != 0)
            return -1;
        if (!green__call_goes_on(&call))
            return -1;
    }
    return group->cancelled ? green__call_fail(ECANCELED) : 0;
}

int green_group_spawn(green_group_t *group, green_fn *run, void *arg)
{
    return spawn_in_group(group, run, arg, NULL, PLACE);
}

int green_group_spawn_with(green_group_t *group, green_fn *run, void *arg,
                           const green_options_t *options)
{
    return spawn_in_group(group, run, arg, options, PLACE);
}

/* ---- Waiting, cancel, free ---------------------------------------------------------------- */

int green_group_wait(green_group_t *group, int *error, int64_t timeout)
{
    struct green__call call;
    if (group == NULL)
        return green__call_fail(EINVAL);
    if (!green__call_begin(&call, timeout) || !group_is_mine(call.hub, group))
        return -1;
    if (call.task->group == group)
        return green__call_tried(&call, timeout, EDEADLK);
    int first_error = group->error;
    if (group->size + group->promised == 0) {
        group->error = 0;
        green__call_done(&call, timeout);
    } else {
        if (timeout <= 0)
            return green__call_fail(ETIMEDOUT);
        struct green__wait wait;
        struct green__entry entry = {0};
        green__wait_prepare(&wait, &call, "green_group_wait", group, PLACE);
        wait.entries = &entry;
        wait.count = 1;
        green__wait_enlist(&wait, &entry, &group->waiters);
        if (green__wait(call.hub, &wait, timeout) != 0)
            return -1;
        first_error = wait.value_error;
    }
    if (error != NULL)
        *error = first_error;
    return 0;
}

int green_group_cancel(green_group_t *group)
{
    if (group == NULL)
        return green__call_fail(EINVAL);
    struct green__hub *hub = green__hub_need();
    if (hub == NULL || !group_is_mine(hub, group))
        return -1;
    cancel_group(hub, group);
    return 0;
}

int green_group_free(green_group_t *group)
{
    if (group == NULL)
        return 0;
    struct green__hub *hub = green__hub_need();
    if (hub == NULL || !group_is_mine(hub, group))
        return -1;
    struct green__call call = {.hub = hub, .me = green__layer_current()};
    call.task = green__task_of(hub, call.me);
    if (call.task->group == group)
        return green__call_fail(EDEADLK);
    if (group->freeing)
        return green__call_fail(EBUSY);
    cancel_group(hub, group);
    if (group->size + group->promised != 0) {
        struct green__wait wait;
        struct green__entry entry = {.wait = &wait};
        green__wait_prepare(&wait, &call, "green_group_free", group, PLACE);
        wait.entries = &entry;
        wait.count = 1;
        wait.shielded = true;
        wait.role = GREEN__FREES_GROUP;
        group->freeing = true;
        group->freer = &entry;
        if (green__wait(hub, &wait, GREEN_FOREVER) != 0) {
            if (wait.task == NULL)
                return -1;
            group->freeing = false;
            group->freer = NULL;
            return -1;
        }
    }
    if (group->holders != 0)
        group->freed = true;
    else
        free(group);
    return 0;
}

void green__group_lose(struct green__hub *hub, const struct green__wait *wait)
{
    green_group_t *group = (green_group_t *)wait->object;
    if (wait->role == GREEN__FREES_GROUP) {
        group->freer = NULL;
        group->freeing = false;
    } else if (wait->state == GREEN__SERVED && wait->error == 0) {
        group->promised--;
        give_room(hub, group);
    }
}

size_t green_group_size(const green_group_t *group)
{
    if (group == NULL)
        errno = EINVAL;
    else if (green__hub_forbidden)
        errno = EPERM;
    return group != NULL && !green__hub_forbidden ? group->size : 0;
}
