/* SPDX-License-Identifier: MIT */
#ifndef GREEN_ASAN_H
#define GREEN_ASAN_H
/*
 * AddressSanitizer: sanitizer/common_interface_defs.h and asan_interface.h, without
 * them.  It wants to know of every switch, see tools.h.
 */
#include <stddef.h>

#include "weak.h"

GREEN__WEAK void __sanitizer_start_switch_fiber(void **fake_stack, const void *low, size_t size);
GREEN__WEAK void __sanitizer_finish_switch_fiber(void *fake_stack, const void **low, size_t *size);
GREEN__WEAK void __asan_poison_memory_region(const volatile void *low, size_t size);
GREEN__WEAK void __asan_unpoison_memory_region(const volatile void *low, size_t size);

/* For functions that are entered before, or left after, the sanitizer knows where it is. */
#define GREEN__NO_ASAN __attribute__((no_sanitize("address")))

/*
 * Memory that the user has given up and we have not: ASan reports who touches
 * it, until it is freed.  Whole units of 8 bytes.
 */
static inline void green__forbid(const volatile void *low, size_t size)
{
    if (__asan_poison_memory_region != NULL)
        __asan_poison_memory_region(low, size);
}

/* ASan makes frames up to four times as large. */
static inline size_t green__frame_factor(void)
{
    return __asan_unpoison_memory_region != NULL ? 4 : 1;
}

/*
 * ASan forgets what was poisoned here: by frames that were never left, or, as
 * it does so at no munmap(), by whoever had this address before.
 */
static inline void green__memory_clean(const void *low, size_t size)
{
    if (__asan_unpoison_memory_region != NULL)
        __asan_unpoison_memory_region(low, size);
}

#endif
