/* SPDX-License-Identifier: MIT */
/*
 * One of several: a wait in many lines at once.  Whoever serves one of its entries
 * takes it out of all others.
 */
#include <alloca.h>
#include <stdlib.h>

#include "polling.h"
#include "queue.h"

#define PLACE __builtin_return_address(0)
#define CASES_ON_STACK 32 /* entries; for more there is malloc() */

/* By this name its waits are known. */
static const char select_name[] = "green_select";

/* Whether a case is well-formed, this thread's, and not the end of who calls; else an errno. */
static int check_case(const struct green__call *call, const green_case_t *c)
{
    struct green__hub *hub = call->hub;
    if (c->reserved != NULL)
        return EINVAL;
    if (c->kind == GREEN_KIND_NONE || c->kind == GREEN_KIND_FD)
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
        if (c->object == call->task)
            return EDEADLK;
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
    case GREEN_KIND_FD:
        return c->revents != 0;
    default:
        return false;
    }
}

/* Asks the system which descriptors are ready, a few at a time. */
static int look_at_descriptors(green_case_t *cases, int n)
{
    enum { FEW = 64 };
    struct pollfd fds[FEW];
    int index[FEW], ready = 0;
    for (int i = 0; i < n;) {
        nfds_t count = 0;
        for (; i < n && count < FEW; i++) {
            if (cases[i].kind != GREEN_KIND_FD)
                continue;
            cases[i].revents = 0;
            index[count] = i;
            fds[count++] = (struct pollfd){.fd = cases[i].fd, .events = (short)cases[i].events};
        }
        if (count == 0)
            break;
        if (green__poll_now(fds, count) < 0)
            return -1;
        for (nfds_t j = 0; j < count; j++) {
            cases[index[j]].revents = fds[j].revents;
            ready += fds[j].revents != 0;
        }
    }
    return ready;
}

/* Does a case that can be done. */
static void do_case(struct green__hub *hub, green_case_t *c)
{
    /* None is ready without cases: NOLINTNEXTLINE(clang-analyzer-core.NullDereference) */
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

/* One of so many descriptors that are ready. */
static int choose_descriptor(struct green__hub *hub, const green_case_t *cases, int n, int ready)
{
    int skip = ready > 1 ? (int)((green__loop_random(hub) >> 33) % (unsigned)ready) : 0;
    for (int i = 0; i < n; i++)
        if (cases[i].kind == GREEN_KIND_FD && cases[i].revents != 0 && skip-- == 0)
            return i;
    return -1;
}

/* Room for the entries of a wait: a descriptor has two, and more beside them. */
struct select_room {
    struct green__entry *entries;
    struct green__poll_entry *descriptors;
};

/* Whether the descriptor of a case is closed. */
static bool is_closed(const struct select_room *room, const struct green__poll_entry *end,
                      unsigned index)
{
    for (const struct green__poll_entry *one = room->descriptors; one < end; one++)
        if (one->closed && one->entry->index == index)
            return true;
    return false;
}

/*
 * Waits once.  The index of the case that was done; -1 with errno; -2: a descriptor may be
 * ready, which is to be seen.
 */
static int wait_for_case(struct green__call *call, green_case_t *cases, int n, int64_t timeout,
                         struct select_room room, const void *place)
{
    struct green__wait wait;
    struct green__poll_entry *descriptors = room.descriptors;
    int result = 0;
    green__wait_prepare(&wait, call, select_name, cases, place);
    wait.entries = room.entries;
    wait.role = GREEN__SELECTS;
    for (int i = 0; i < n && result == 0; i++) {
        struct green__entry *entry = &room.entries[wait.count];
        struct green_private_line *line = line_of_case(&cases[i]);
        *entry = (struct green__entry){.index = (unsigned)i};
        if (cases[i].kind == GREEN_KIND_FD) {
            descriptors[0].entry = entry;
            descriptors[1].entry = entry + 1;
            wait.count += 2;
            result = green__poll_enlist(call->hub, &wait, descriptors, cases[i].fd,
                                        cases[i].events, (unsigned)i);
            if (result < 0 && errno == EBADF)
                result = 1; /* poll() says POLLNVAL */
            descriptors += 2;
        } else if (line != NULL) {
            entry->item = cases[i].kind == GREEN_KIND_GET ? cases[i].get : (void *)cases[i].put;
            green__wait_enlist(&wait, entry, line);
            wait.count++;
        }
    }
    bool refused = result < 0;
    if (result == 0)
        result = green__wait(call->hub, &wait, timeout);
    else
        green__wait_take_back(&wait);
    bool any_closed = green__poll_delist(call->hub, room.descriptors,
                                         (size_t)(descriptors - room.descriptors) / 2);
    if (refused)
        return green__call_tried(call, timeout, errno);
    if (wait.served == NULL)
        return result == 1 ? -2 : -1;
    green_case_t *done = &cases[wait.served->index];
    if (done->kind == GREEN_KIND_FD) {
        if (wait.error == 0 && !(any_closed && is_closed(&room, descriptors, wait.served->index)))
            return -2;
        done->revents = POLLNVAL; /* it was closed: the number may be another's by now */
    } else {
        done->error = wait.error;
    }
    green__task_set_failures(green__task_of(call->hub, call->me), 0);
    return (int)wait.served->index;
}

/* In a child: which case a wait was served with, if it is one of these. */
static green_case_t *served_case(const struct green__wait *wait)
{
    return wait->call == select_name && wait->served != NULL
               ? (green_case_t *)wait->object + wait->served->index
               : NULL;
}

static int select_slowly(struct green__call *call, green_case_t *cases, int n, int64_t timeout,
                         struct select_room room, const void *place)
{
    int64_t due = timeout == GREEN_FOREVER
                      ? GREEN_FOREVER
                      : green__time_add(green__loop_now(call->hub), timeout);
    call->hub->served_case = served_case;
    for (int64_t left = timeout;;) {
        int done = wait_for_case(call, cases, n, left, room, place);
        if (done != -2)
            return done;
        int ready = look_at_descriptors(cases, n);
        if (ready < 0)
            return -1;
        done = ready > 0 ? choose_descriptor(call->hub, cases, n, ready)
                         : choose_case(call->hub, cases, n);
        if (done >= 0) {
            do_case(call->hub, &cases[done]);
            return done;
        }
        if (!green__call_goes_on(call))
            return -1;
        left = due == GREEN_FOREVER ? due : due - green__loop_now(call->hub);
        if (left <= 0)
            return green__call_fail(ETIMEDOUT);
    }
}

int green_select(green_case_t *cases, int n, int64_t timeout)
{
    struct green__call call;
    if (n < 0 || (cases == NULL && n > 0))
        return green__call_fail(EINVAL);
    if (!green__call_begin(&call, timeout))
        return -1;
    for (int i = 0; i < n; i++) {
        int error = check_case(&call, &cases[i]);
        if (error != 0)
            return green__call_tried(&call, timeout, error);
        cases[i].error = 0;
    }
    int descriptors = 0;
    for (int i = 0; i < n; i++)
        descriptors += cases[i].kind == GREEN_KIND_FD;
    if (descriptors > 0 && look_at_descriptors(cases, n) < 0)
        return green__call_tried(&call, timeout, errno);
    int chosen = choose_case(call.hub, cases, n);
    if (chosen >= 0) {
        do_case(call.hub, &cases[chosen]);
        green__call_done(&call, timeout);
        return chosen;
    }
    if (timeout <= 0)
        return green__call_fail(ETIMEDOUT);
    size_t entries = (size_t)n + (size_t)descriptors + 1, looks = 2 * (size_t)descriptors;
    struct select_room room;
    if (n <= CASES_ON_STACK) {
        room.entries = alloca(entries * sizeof *room.entries);
        room.descriptors = alloca((looks + 1) * sizeof *room.descriptors);
        return select_slowly(&call, cases, n, timeout, room, PLACE);
    }
    room.entries = malloc(entries * sizeof *room.entries + looks * sizeof *room.descriptors);
    if (room.entries == NULL)
        return green__call_tried(&call, timeout, ENOMEM);
    room.descriptors = (struct green__poll_entry *)(room.entries + entries);
    int result = select_slowly(&call, cases, n, timeout, room, PLACE);
    int error = errno;
    free(room.entries);
    errno = error;
    return result;
}
