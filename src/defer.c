/* SPDX-License-Identifier: MIT */
/* Deferred functions: what a green wants done when it ends (rule 11). */
#include <stdlib.h>

#include "core.h"

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

/* Takes the innermost out; false if there is none. */
static bool take_innermost(green_t *g, struct green__deferred *taken)
{
    struct green__deferred *innermost = g->deferred;
    if (innermost == NULL)
        return false;
    *taken = *innermost;
    g->deferred = innermost->outer;
    free(innermost);
    return true;
}

static void run(const struct green__deferred *taken)
{
    green__passes();
    taken->fn(taken->arg);
}

int green_undefer(int execute)
{
    struct green__thread *self = green__thread_need();
    struct green__deferred taken;
    if (self == NULL || !green__may_change(self, load(self->current)))
        return -1;
    if (!take_innermost(load(self->current), &taken)) {
        errno = ENOENT;
        return -1;
    }
    if (execute)
        run(&taken);
    return 0;
}

bool green__defer_is_due(const green_t *g, uint64_t call, const char *sp)
{
    const struct green__deferred *innermost = g->deferred;
    return innermost != NULL && (call == 0 || innermost->call == call) && innermost->sp < sp;
}

bool green__defer_run_one(green_t *g)
{
    struct green__deferred taken;
    if (!take_innermost(g, &taken))
        return false;
    run(&taken);
    return true;
}

void green__defer_drop(green_t *g)
{
    struct green__deferred taken;
    while (take_innermost(g, &taken)) {
    }
}
