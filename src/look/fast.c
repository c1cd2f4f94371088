/* SPDX-License-Identifier: MIT */
/*
 * green_fast.h against what it relies on; no code.
 *
 * Programs carry a copy of green_fast.h.  So when an assertion fails here, or
 * when one of these fields, the top words of a suspended stack, or what a
 * resumed one is promised changes its meaning, then change green_fast.h and
 * count the symbol up, there and in arch.h: old programs then fail to link or
 * load, instead of running into the new library.  It counts from the first
 * release on, before which there are no old programs.
 */
#include "arch/arch.h"
#include "core/core.h"

#include <green_fast.h>

/* Some of the fields are pointers: NOLINTBEGIN(bugprone-sizeof-expression) */
#define SAME(ours, theirs, field)                                   \
    _Static_assert(offsetof(ours, field) == offsetof(theirs, field) \
                       && sizeof(((ours *)0)->field) == sizeof(((theirs *)0)->field), #field)

SAME(struct green, struct green_private, sp);
SAME(struct green, struct green_private, enter);
SAME(struct green, struct green_private, parent);
SAME(struct green, struct green_private, stand_in);
SAME(struct green__thread, struct green_private_thread, current);
SAME(struct green__thread, struct green_private_thread, tag);
/* NOLINTEND(bugprone-sizeof-expression) */
