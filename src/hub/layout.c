/* SPDX-License-Identifier: MIT */
/*
 * What a debugger finds tasks by, live and on a core: where in the hub and in tasks and
 * waits things stand.  src/gdb/green-gdb.py reads it, and with that the table of
 * src/core/layout.c, from which it comes to the hub of a thread.
 *
 * The symbol's number counts the layouts of the table, as there.
 */
#include "hub.h"

/* Offsets and sizes, in the order of HUB_FIELDS there. */
struct green__hub_layout {
    uint16_t thread_layer, green_layer; /* a green's: its task's own wait */
    uint16_t hub_size, hub_green, hub_time, hub_is_virtual, hub_main, hub_living;
    uint16_t task_size, task_next, task_green, task_waits, task_cancelled;
    uint16_t wait_size, wait_next, wait_green, wait_state, wait_since, wait_call, wait_object,
        wait_place, wait_descriptors;
};

#define HUB(field) .hub_##field = offsetof(struct green__hub, field)
#define TASK(field) .task_##field = offsetof(struct green_task, field)
#define WAIT(field) .wait_##field = offsetof(struct green__wait, field)

const struct green__hub_layout green__hub_layout = {
    .thread_layer = offsetof(struct green__thread, layer),
    .green_layer = offsetof(struct green, layer),
    .hub_size = sizeof(struct green__hub),
    HUB(green),
    HUB(time),
    HUB(is_virtual),
    HUB(main),
    HUB(living),
    .task_size = sizeof(struct green_task),
    TASK(next),
    TASK(green),
    TASK(waits),
    TASK(cancelled),
    .wait_size = sizeof(struct green__wait),
    WAIT(next),
    .wait_green = offsetof(struct green__wait, turn.green),
    WAIT(state),
    WAIT(since),
    WAIT(call),
    WAIT(object),
    WAIT(place),
    WAIT(descriptors),
};
