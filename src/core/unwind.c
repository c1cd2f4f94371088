/* SPDX-License-Identifier: MIT */
/* Crossing from a green's entry to an ancestor's frames. */
#include <stdlib.h>
#include <unwind.h>

#include "core/carry.h"
#include "core/family.h"
#include "core/line.h"
#include "core/runtime.h"
#include "core/told.h"
#include "core/unwind.h"

/* The nearest ancestor that is started, to whose frames unwinding goes on: see arch.h. */
static green_t *unwinding_target(const green_t *g)
{
    green_t *target = g->parent;
    while (load(target->life) != GREEN__STARTED)
        target = target->parent;
    return target;
}

green_t *green__current_when_settled(const struct green__thread *self)
{
    green_t *g = load(self->current);
    while (g != NULL && g->unwound)
        g = unwinding_target(g);
    return g;
}

/* The mark of end_greens(), taken out of the list. */
static void unlink_mark(struct green__thread *self)
{
    green_t *mark = &self->end.mark;
    mark->prev->next = mark->next;
    mark->next->prev = mark->prev;
    mark->next = mark->prev = NULL;
}

void green__thread_end_is_left(struct green__thread *self)
{
    unlink_mark(self);
    for (green_t *g = self->main.next; g != &self->main; g = g->next)
        g->asked_to_end = false;
    self->end.in_thread_end = false;
}

void green__return_to_main(struct green__thread *self)
{
    green_t *me = load(self->current);
    if (me != &self->main) {
        green__leave(self, me, &self->main);
        store(self->current, &self->main);
        green__arrive(self, &self->main);
        green__memory_clean(self->tools.main_low, self->tools.main_size);
    }
    green__drop_fiber(self, &self->tools.unwound);
}

/* The calls that a green waits in will not come back. */
static void end_calls(struct green__thread *self, green_t *g)
{
    green__stop_freeing(g);
    g->freeing = NULL;
    if (g->is_main && self->end.in_thread_end)
        green__thread_end_is_left(self);
}

/*
 * Forced unwinding (the thread ends) is about to go on from a green's entry to
 * its ancestor's frames.  Until it is there these must be found as before.
 */
static void leave_by_unwinding(struct green__thread *self)
{
    green_t *g = load(self->current);
    while (g != NULL && g->unwound)
        g = unwinding_target(g);
    if (g == NULL || g->is_main || self->look_only != 0)
        return;
    green__lock_collected(self); /* nothing of these runs, clean-up neither */
    green_t *to = unwinding_target(g);
    g->unwound = true;
    self->end.unwinds = to;
    green__unlock();
    atomic_fetch_or(&self->unsettled, GREEN__UNSETTLED_LEFT);
    green__thread_set_tag(self);
    end_calls(self, to); /* as long as its frames are there */
    if (to->kept != 0)
        green__layer_leaving(self);
    if (self->has_cxx)
        green__fetch_exceptions(self, to); /* what is cleaned up there ends its handlers */
    if (self->sanitized) { /* nobody else tells it that the ancestor's frames are being left */
        size_t size;
        const void *low = green__frames_of(self, to, &size);
        green__memory_clean(low, size);
    }
}

/*
 * To a sanitizer the first of those that were left has run until now: the clean-up
 * that asks has its variables on that one's fake stack, which stays until there is
 * the next.
 */
GREEN__NO_ASAN void green__settle_thread(struct green__thread *self)
{
    if (load(self->unsettled) & GREEN__UNSETTLED_CXX)
        green__runtime_settle(self);
    if (LIKELY(!(load(self->unsettled) & GREEN__UNSETTLED_LEFT)))
        return;
    green_t *g = load(self->current), *to = green__current_when_settled(self);
    green__leave(self, g, to);
    store(self->current, to);
    green__arrive(self, to);
    green__drop_fiber(self, &self->tools.unwound);
    self->tools.unwound = g->fiber;
    g->fiber = (struct green__fiber){0};
    while (g != to) {
        green_t *next = unwinding_target(g);
        if (g->stand_in != NULL) { /* that call may come back, if its green is entered */
            g->stand_in->freeing->died = g->detached; /* else the handle is not gone */
            green__stop_freeing(g->stand_in);
        }
        green__end_unrun(self, g);
        if (g->detached)
            green__release(g);
        g = next;
    }
    if (to->kept & GREEN__KEPT_WAITING) /* its wait is left, too */
        green__layer_left(self, to);
    atomic_fetch_and(&self->unsettled, (unsigned char)~GREEN__UNSETTLED_LEFT);
    green__thread_set_tag(self);
}

/* ---- The entry --------------------------------------------------------------------- */

/* Bytes 1 to 3 of the class of all C++ exceptions; the last is the vendor's. */
#define CLASS_CXX ((uint64_t)('C' << 16 | '+' << 8 | '+'))

/*
 * An exception must not go on to the ancestor, which has not called what threw
 * it: it stops the program, with all frames in place.  A C++ runtime is told
 * that nobody wants the exception, and calls std::terminate() where it is
 * thrown; what others do is not known, so they do not get to do it.  Forced
 * unwinding, as by pthread_exit(), passes through.
 */
int green__arch_personality(int version, int actions, uint64_t exception_class, void *exception,
                            void *context)
{
    (void)exception;
    (void)context;
    if (version != 1)
        return _URC_FATAL_PHASE1_ERROR;
    if (actions & _UA_FORCE_UNWIND) {
        leave_by_unwinding(green__self);
        return _URC_CONTINUE_UNWIND;
    }
    green__say("an exception left the body of", green__running(green__caller()));
    if ((exception_class >> 8 & 0xffffff) != CLASS_CXX)
        abort();
    return _URC_FATAL_PHASE1_ERROR;
}
