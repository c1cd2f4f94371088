/* SPDX-License-Identifier: MIT */
#ifndef GREEN_UNWIND_H
#define GREEN_UNWIND_H
/*
 * What unwinding does at the entry of a green, where it goes on to the frames of an
 * ancestor: see "How a stack is unwound" in arch/arch.h.
 */
#include "core/self.h"

/*
 * If forced unwinding has gone on to an ancestor's frames, and something is done
 * there: the greens that it has left are dead, and the ancestor is current.  If a
 * C++ runtime has come, the thread's exceptions are known from now on.
 */
void green__settle_thread(struct green__thread *self);

/*
 * The calling thread, settled: with this begins every call that a signal handler may
 * not make.
 */
static inline struct green__thread *green__caller(void)
{
    struct green__thread *self = green__self;
    if (UNLIKELY(load(self->unsettled) != 0))
        green__settle_thread(self);
    return self;
}

/* Who is current once that is settled; changes nothing, as a signal handler may ask. */
green_t *green__current_when_settled(const struct green__thread *self);

/* The thread ends: it runs on its own stack again, whatever green it was in. */
void green__return_to_main(struct green__thread *self);

/* green_thread_end() is over, also if it does not return. */
void green__thread_end_is_left(struct green__thread *self);

#endif
