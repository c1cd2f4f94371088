/* SPDX-License-Identifier: MIT */
#ifndef GREEN_CARRY_H
#define GREEN_CARRY_H
/*
 * What goes with a stack when it is left and entered: the C++ exceptions that are
 * being handled there, and what sanitizers have of it.
 */
#include <string.h>

#include "core/state.h"

#define GREEN__ALWAYS_INLINE inline __attribute__((always_inline))

/*
 * Each green has exceptions of its own: those being handled, in C++ programs.
 * green_fast.h neither keeps nor fetches them.  So whoever waits while handling
 * some is closed to every fast path, and all others have none.
 */
static inline void green__put_exceptions_away(struct green__thread *self, green_t *me)
{
    /* Who may enter another is current: NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker) */
    memcpy(me->exceptions, self->exceptions, sizeof me->exceptions);
    if ((me->exceptions[0] | me->exceptions[1]) != 0)
        store(me->enter, GREEN__TAG_CLOSED);
}

static inline void green__fetch_exceptions(struct green__thread *self, green_t *to)
{
    memcpy(self->exceptions, to->exceptions, sizeof to->exceptions);
    if ((to->exceptions[0] | to->exceptions[1]) != 0) {
        memset(to->exceptions, 0, sizeof to->exceptions);
        store(to->enter, load(to->owner));
    }
}

/* ---- Sanitizers: told before and after every switch ------------------------------- */

/*
 * What is put into functions that are not for ASan is not either: gcc has the variables
 * poisoned at the end of their block all the same, and nobody to unpoison them at the
 * function's.
 */

/* Where a green's frames are, as sanitizers see it. */
static GREEN__ALWAYS_INLINE GREEN__NO_ASAN const void *
green__frames_of(const struct green__thread *self, const green_t *g, size_t *size)
{
    /* No thread means no green that has started: NOLINTNEXTLINE(clang-analyzer-core.NullDereference) */
    *size = g->is_main ? self->tools.main_size : g->stack.size;
    return g->is_main ? self->tools.main_low : g->stack.low;
}

/* from is NULL if that green ends. */
static GREEN__ALWAYS_INLINE GREEN__NO_ASAN void green__leave(struct green__thread *self,
                                                             green_t *from, green_t *to)
{
    if (LIKELY(!self->sanitized))
        return;
    self->tools.left_main = from != NULL && from->is_main;
    size_t size;
    const void *low = green__frames_of(self, to, &size);
    green__fiber_leave(from != NULL ? &from->fiber : NULL, &to->fiber, low, size);
}

static inline size_t green__size_of_mains_frames(const struct green__thread *self)
{
    return (size_t)((const char *)self->tools.main_low + self->tools.main_size - self->tools.main_waits);
}

static GREEN__ALWAYS_INLINE GREEN__NO_ASAN void green__arrive(struct green__thread *self, green_t *me)
{
    if (LIKELY(!self->sanitized))
        return;
    int error = errno;
    const void *low = NULL;
    size_t size = 0;
    green__fiber_arrive(&me->fiber, &low, &size);
    if (self->tools.left_main && low != NULL) {
        self->tools.main_low = low;
        self->tools.main_size = size;
        bool on_own = (uintptr_t)self->main.sp - (uintptr_t)low < size;
        self->tools.main_waits = on_own ? self->main.sp : low; /* else any of it may be used */
        green__roots_begin(self->tools.main_waits, green__size_of_mains_frames(self));
    } else if (me->is_main && self->tools.main_waits != NULL) {
        green__roots_end(self->tools.main_waits, green__size_of_mains_frames(self));
        self->tools.main_waits = NULL;
    }
    green__fiber_end(&self->tools.dead);
    errno = error;
}

/* Of a stack that will not be entered again. */
static inline GREEN__NO_ASAN void green__drop_fiber(struct green__thread *self,
                                                    struct green__fiber *fiber)
{
    size_t size;
    const void *low = green__frames_of(self, load(self->current), &size);
    green__fiber_drop(fiber, low, size);
}

/* Has the sanitizers forget a SUSPENDED green that will not be entered again. */
static inline void green__forget(struct green__thread *self, green_t *g)
{
    green__drop_fiber(self, &g->fiber);
}

#endif
