/* SPDX-License-Identifier: MIT */
#ifndef GREEN_THREAD_H
#define GREEN_THREAD_H
/*
 * A thread's first use of the library and its end.
 */
#include "core/unwind.h"

/*
 * The calling thread, settled, and made if this is its first use.  NULL with ENOMEM, or
 * EPERM past the end.
 */
struct green__thread *green__thread_begin(void);
static inline struct green__thread *green__thread_need(void)
{
    struct green__thread *self = green__caller();
    return LIKELY(load(self->id) != 0) ? self : green__thread_begin();
}

/* Whether threads get an alternate signal stack at their first use; overflow.c sets it. */
extern _Atomic(bool) green__signal_stacks __attribute__((visibility("hidden")));

/*
 * Gives the calling thread one, if threads get one and it has none.  -1 with ENOMEM, or
 * if it stands on it.
 */
int green__signal_stack_begin(struct green__thread *self);

#endif
