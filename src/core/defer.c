/* SPDX-License-Identifier: MIT */
/* Deferred functions: what a green wants done when it ends (rule 11). */
#include <stdlib.h>

#include "core/core.h"

struct green__deferred {
    struct green__deferred *outer;
    void (*fn)(void *);
    void *arg;
    const char *sp; /* of the function that gave it */
    uint64_t call;  /* of a deferred function or destructor in which it was given, or 0 */
};

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

bool green__defer_take(green_t *g, struct green__due *due)
{
    struct green__deferred *innermost = g->deferred;
    if (innermost == NULL)
        return false;
    *due = (struct green__due){innermost->fn, innermost->arg};
    g->deferred = innermost->outer;
    free(innermost);
    return true;
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

bool green__defer_is_due(const green_t *g, uint64_t call, const char *sp)
{
    const struct green__deferred *innermost = g->deferred;
    if (innermost == NULL || (call != 0 && innermost->call != call))
        return false;
    /* Inside a green a program may have left its stack for another: that is left first. */
    bool on_own = green__stack_has(&g->stack, innermost->sp);
    if (on_own != green__stack_has(&g->stack, sp))
        return !on_own;
    return innermost->sp < sp;
}

void green__defer_drop(green_t *g)
{
    struct green__due due;
    while (green__defer_take(g, &due)) {
    }
}
