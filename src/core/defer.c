/* SPDX-License-Identifier: MIT */
/* Deferred functions: what a green wants done when it ends (rule 11). */
#include <stdlib.h>

#include "core/cleanup.h"
#include "core/thread.h"

__attribute__((noinline)) int green_defer(void (*fn)(void *), void *arg)
{
    if (fn == NULL) {
        errno = EINVAL;
        return -1;
    }
    struct green__thread *self = green__thread_need();
    if (self == NULL || !green__may_change(self, load(self->current)))
        return -1;
    struct green__deferred *deferred = malloc(sizeof *deferred);
    if (deferred == NULL) {
        errno = ENOMEM;
        return -1;
    }
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
    if (!green__defer_take(load(self->current), &due)) {
        errno = ENOENT;
        return -1;
    }
    if (execute)
        green__run_due(&due, NULL);
    return 0;
}
