/* SPDX-License-Identifier: MIT */
#ifndef GREEN_LSAN_H
#define GREEN_LSAN_H
/*
 * LeakSanitizer, alone or with AddressSanitizer: lsan_interface.h, without it.
 */
#include <stddef.h>

#include "weak.h"

GREEN__WEAK void __lsan_register_root_region(const void *low, size_t size);
GREEN__WEAK void __lsan_unregister_root_region(const void *low, size_t size);

/*
 * LSan finds pointers here; what is in it then is not lost.  It reads all of it,
 * so there must be no guard, and is told of the end by the same place and size.
 */
static inline void green__roots_begin(const void *low, size_t size)
{
    if (__lsan_register_root_region != NULL)
        __lsan_register_root_region(low, size);
}

static inline void green__roots_end(const void *low, size_t size)
{
    if (__lsan_unregister_root_region != NULL)
        __lsan_unregister_root_region(low, size);
}

#endif
