/* SPDX-License-Identifier: MIT */
#ifndef GREEN_MSAN_H
#define GREEN_MSAN_H
/*
 * MemorySanitizer: msan_interface.h, without it.
 */
#include <stddef.h>

#include "weak.h"

/* Not const: gcc warns of what is shown so before it is set. */
GREEN__WEAK void __msan_unpoison(volatile void *low, size_t size);
GREEN__WEAK void __msan_unpoison_param(size_t count);

/* For those that are called by what is never built with MSan; gcc does not have it. */
#ifdef __clang__
#define GREEN__NO_MSAN __attribute__((no_sanitize("memory")))
#else
#define GREEN__NO_MSAN
#endif

/*
 * MSan, where the program alone is built with it, does not see us set what we
 * give back through a pointer,
 */
static inline void green__given(volatile void *low, size_t size)
{
    if (__msan_unpoison != NULL)
        __msan_unpoison(low, size);
}

/* nor the arguments of a function of the program's: right before its call. */
static inline void green__passes(void)
{
    if (__msan_unpoison_param != NULL)
        __msan_unpoison_param(4);
}

#endif
