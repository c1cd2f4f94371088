/* SPDX-License-Identifier: MIT */
#ifndef GREEN_SWITCH_H
#define GREEN_SWITCH_H
/*
 * The transfer of control, for the core; what users call is in green.h.
 */
#include "core/state.h"

/* green_switch(), but for the fast path. */
void *green__switch_slowly(green_t *g, void *value) GREEN__MOVES;

/*
 * Throws ECANCELED into a SUSPENDED green with the current one standing in for
 * its parent (rule 9).  0 if it died; it is then released, if asked for.
 */
int green__cancel(struct green__thread *self, green_t *g, bool release) GREEN__MOVES;

/*
 * Begins the current green's stack anew with the function that finishes: all its
 * frames are left.
 */
_Noreturn void green__leave_frames(struct green__thread *self, green_t *me);

/* What a green ends with, of its body or of green_exit(). */
static inline void green__set_result(green_t *me, void *value)
{
    me->result = value;
    me->error = value != GREEN_FAILED ? 0 : errno > 0 ? errno : ECANCELED;
}

#endif
