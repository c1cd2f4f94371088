/* SPDX-License-Identifier: MIT */
#ifndef GREEN_HELGRIND_H
#define GREEN_HELGRIND_H
/*
 * Helgrind, by requests to Valgrind that do nothing where it is not: threads' races.
 */
#include <stddef.h>

#include "arch/arch.h"

/* The codes of helgrind.h. */
#define GREEN__HELGRIND_SEND 0x48470121 /* helgrind.h */
#define GREEN__HELGRIND_RECEIVE 0x48470122
#define GREEN__HELGRIND_FORGET 0x48470123
#define GREEN__HELGRIND_MAKE_UNTRACKED 0x48470127

/* Atomic variables: Helgrind takes what is done to them for races. */
static inline void green__atomics(const volatile void *low, size_t size)
{
    green__arch_valgrind(GREEN__HELGRIND_MAKE_UNTRACKED, (uintptr_t)low, size);
}

/* What one thread hands to another by atomic operations: what was done before is seen after. */
static inline void green__hand_over(const void *what)
{
    green__arch_valgrind(GREEN__HELGRIND_SEND, (uintptr_t)what, 0);
}

static inline void green__take_handed(const void *what)
{
    green__arch_valgrind(GREEN__HELGRIND_RECEIVE, (uintptr_t)what, 0);
    green__arch_valgrind(GREEN__HELGRIND_FORGET, (uintptr_t)what, 0);
}

#endif
