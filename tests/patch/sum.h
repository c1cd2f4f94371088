/* SPDX-License-Identifier: MIT */
#ifndef SUM_H
#define SUM_H
/* A sum that says whether bytes came as they were, in order: FNV-1a, by words. */
#include <stddef.h>
#include <stdint.h>

#define SUM_START UINT64_C(0xcbf29ce484222325)

static inline uint64_t sum_of(uint64_t sum, const void *bytes, size_t size)
{
    const unsigned char *at = bytes;
    for (size_t i = 0; i < size; i++)
        sum = (sum ^ at[i]) * UINT64_C(0x100000001b3);
    return sum;
}

#endif
