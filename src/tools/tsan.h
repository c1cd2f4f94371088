/* SPDX-License-Identifier: MIT */
#ifndef GREEN_TSAN_H
#define GREEN_TSAN_H
/*
 * ThreadSanitizer: tsan_interface.h, without it.  It wants to know of every switch, see
 * tools.h.
 */
#include "weak.h"

GREEN__WEAK void *__tsan_get_current_fiber(void);
GREEN__WEAK void *__tsan_create_fiber(unsigned flags);
GREEN__WEAK void __tsan_destroy_fiber(void *fiber);
GREEN__WEAK void __tsan_switch_to_fiber(void *fiber, unsigned flags);

/* For a plain load of what other threads store atomically. */
#define GREEN__NO_TSAN __attribute__((no_sanitize("thread")))

#endif
