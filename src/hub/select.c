/* SPDX-License-Identifier: MIT */
/*
 * One of several: a wait in many lines at once.  Whoever serves one of its entries
 * takes it out of all others.
 */
#include <alloca.h>
#include <stdlib.h>

#include "queue.h"

#define PLACE __builtin_return_address(0)
#define ON_STACK 32 /* entries; for more there is malloc() */

/* Whether a case is well-formed, and this thread's; else an errno. */
static int check_case(struct green__hub *hub, const green_case_t *c)
{
    if (c->reserved != NULL)
        return EINVAL;
    if (c->kind == GREEN_KIND_NONE)
        return 0;
    if (c->object == NULL)
        return EINVAL;
    bool mine = true;
    switch (c->kind) {
    case GREEN_KIND_GET:
    case GREEN_KIND_PUT:
        if (c->kind == GREEN_KIND_GET ? c->get == NULL : c->put == NULL)
            return EINVAL;
        mine = green__queue_is_mine(hub, c->object);
        break;
    case GREEN_KIND_TASK:
        mine = ((green_task_t *)c->object)->hub == hub || ((green_task_t *)c->object)->hub == NULL;
        break;
    case GREEN_KIND_EVENT:
        mine = green__line_is_mine(hub, &((green_event_t *)c->object)->green_private_line);
        break;
    case GREEN_KIND_SEMAPHORE:
        mine = green__line_is_mine(hub, &((green_semaphore_t *)c->object)->green_private_line);
        break;
    default:
        return EINVAL;
    }
    return mine ? 0 : EPERM;
}

static bool case_can(const green_case_t *c)
{
    switch (c->kind) {
    case GREEN_KIND_GET:
        return green__queue_can_get(c->object);
    case GREEN_KIND_PUT:
        return green__queue_can_put(c->object);
    case GREEN_KIND_TASK:
        return ((const green_task_t *)c->object)->ended;
    case GREEN_KIND_EVENT:
        return ((const green_event_t *)c->object)->green_private_set;
    case GREEN_KIND_SEMAPHORE:
        return ((const green_semaphore_t *)c->object)->green_private_units > 0;
    default:
        return false;
    }
}

/* Does a case that can be done. */
static void do_case(struct green__hub *hub, green_case_t *c)
{
    if (c->kind == GREEN_KIND_GET)
        c->error = green__queue_get_now(hub, c->object, c->get);
    else if (c->kind == GREEN_KIND_PUT)
        c->error = green__queue_put_now(hub, c->object, c->put);
    else if (c->kind == GREEN_KIND_SEMAPHORE)
        ((green_semaphore_t *)c->object)->green_private_units--;
}

static struct green_private_line *line_of_case(const green_case_t *c)
{
    switch (c->kind) {
    case GREEN_KIND_GET:
        return &((green_queue_t *)c->object)->getters;
    case GREEN_KIND_PUT:
        return &((green_queue_t *)c->object)->putters;
    case GREEN_KIND_TASK:
        return &((green_task_t *)c->object)->joiners;
    case GREEN_KIND_EVENT:
        return &((green_event_t *)c->object)->green_private_line;
    case GREEN_KIND_SEMAPHORE:
        return &((green_semaphore_t *)c->object)->green_private_line;
    default:
        return NULL;
    }
}

/* One of those that can be done, all alike; -1: none can. */
static int choose_case(struct green__hub *hub, const green_case_t *cases, int n)
{
    int can = 0, chosen = -1;
    for (int i = 0; i < n; i++)
        can += case_can(&cases[i]);
    if (can == 0)
        return -1;
    int skip = can > 1 ? (int)((green__loop_random(hub) >> 33) % (unsigned)can) : 0;
    do
        chosen++;
    while (!case_can(&cases[chosen]) || skip-- > 0);
    return chosen;
}

static int wait_for_case(struct green__call *call, green_case_t *cases, int n, int64_t timeout,
                         struct green__entry *entries, const void *place)
{
    struct green__wait wait;
    green__wait_prepare(&wait, call, "green_select", cases, place);
    wait.entries = entries;
    wait.count = (unsigned)n;
    for (int i = 0; i < n; i++) {
        struct green_private_line *line = line_of_case(&cases[i]);
        entries[i].index = (unsigned)i;
        entries[i].line = NULL;
        entries[i].item = cases[i].kind == GREEN_KIND_GET ? cases[i].get : (void *)cases[i].put;
        if (line != NULL)
            green__wait_enlist(&wait, &entries[i], line);
    }
    if (green__wait(call->hub, &wait, timeout) != 0 && wait.served == NULL)
        return -1;
    call->task->failures = 0; /* also if the case has an error */
    cases[wait.served->index].error = wait.error;
    return (int)wait.served->index;
}

int green_select(green_case_t *cases, int n, int64_t timeout)
{
    struct green__call call;
    if (n < 0 || (cases == NULL && n > 0))
        return green__call_fail(EINVAL);
    if (!green__call_begin(&call, timeout))
        return -1;
    for (int i = 0; i < n; i++) {
        int error = check_case(call.hub, &cases[i]);
        if (error != 0)
            return green__call_fail(error);
        cases[i].error = 0;
    }
    int chosen = choose_case(call.hub, cases, n);
    if (chosen >= 0) {
        do_case(call.hub, &cases[chosen]);
        green__call_done(&call, timeout);
        return chosen;
    }
    if (timeout <= 0)
        return green__call_fail(ETIMEDOUT);
    if (n <= ON_STACK) {
        struct green__entry *entries = alloca(((size_t)n + 1) * sizeof *entries);
        return wait_for_case(&call, cases, n, timeout, entries, PLACE);
    }
    struct green__entry *entries = malloc((size_t)n * sizeof *entries);
    if (entries == NULL)
        return green__call_fail(ENOMEM);
    int result = wait_for_case(&call, cases, n, timeout, entries, PLACE);
    int error = errno;
    free(entries);
    errno = error;
    return result;
}
