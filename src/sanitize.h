/* SPDX-License-Identifier: MIT */
#ifndef GREEN_SANITIZE_H
#define GREEN_SANITIZE_H
/*
 * What checking tools must be told of stacks.
 *
 * Valgrind takes a large change of the stack pointer for a change of stacks
 * only if it knows both: without being told it reports thousands of errors that
 * are none.  A request costs four rotations when it is not there, so there is
 * no build option.  The codes are valgrind.h's.
 */
#include <stdbool.h>

#include "arch/arch.h"

#define GREEN__VALGRIND_RUNNING 0x1001
#define GREEN__VALGRIND_STACK_REGISTER 0x1501
#define GREEN__VALGRIND_STACK_DEREGISTER 0x1502

/* Returns the stack's number there. */
static inline unsigned green__valgrind_register(const void *low, const void *end)
{
    return (unsigned)green__arch_valgrind(GREEN__VALGRIND_STACK_REGISTER, (uintptr_t)low,
                                          (uintptr_t)end);
}

static inline void green__valgrind_deregister(unsigned number)
{
    green__arch_valgrind(GREEN__VALGRIND_STACK_DEREGISTER, number, 0);
}

/* Whether a tool runs that reports what is used after it was freed. */
static inline bool green__is_watched(void)
{
#if defined(__SANITIZE_ADDRESS__)
    return true;
#else
    return green__arch_valgrind(GREEN__VALGRIND_RUNNING, 0, 0) != 0;
#endif
}

#endif
