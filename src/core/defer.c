/* SPDX-License-Identifier: MIT */
/* Deferred functions: what a green wants done when it ends (rule 11). */
#include <stdlib.h>

#include "core/cleanup.h"
#include "core/thread.h"

__attribute__((noinline)) int green_defer(void (*fn)(void *), void *arg)
{
    if (fn == NULL)
        return green__refuse(EINVAL);
    struct green__thread *self = green__thread_need();
    if (self == NULL || !green__may_change(self, load(self->current)))
        return -1;
    struct green__deferred *deferred = malloc(sizeof *deferred);
    if (deferred == NULL)
        return green__refuse(ENOMEM);
    green_t *me = load(self->current);
    *deferred = (struct green__deferred){
        .outer = me->deferred,
        .fn = fn,
        .arg = arg,
        .sp = __builtin_dwarf_cfa(),
        .call = green__clean_up_call(me),
    };
    me->deferred = deferred;
    return 0;
}

int green_undefer(int execute)
{
    struct green__thread *self = green__thread_need();
    struct green__due due;
    if (self == NULL || !green__may_change(self, load(self->current)))
        return -1;
    if (!green__defer_take(load(self->current), &due))
        return green__refuse(ENOENT);
    if (execute)
        green__run_due(&due, NULL);
    return 0;
}
