/* SPDX-License-Identifier: MIT */
#ifndef GREEN_VALGRIND_H
#define GREEN_VALGRIND_H
/*
 * Valgrind and its Memcheck, by requests that do nothing where it is not.
 */
#include <stddef.h>

#include "arch/arch.h"

/* The codes of valgrind.h. */
#define GREEN__VALGRIND_RUNNING 0x1001
#define GREEN__VALGRIND_STACK_REGISTER 0x1501
#define GREEN__VALGRIND_STACK_DEREGISTER 0x1502
#define GREEN__MEMCHECK_MAKE_MEM_NOACCESS 0x4d430000 /* memcheck.h */
#define GREEN__MEMCHECK_MAKE_MEM_UNDEFINED 0x4d430001
#define GREEN__MEMCHECK_MAKE_MEM_DEFINED 0x4d430002
#define GREEN__MEMCHECK_MAKE_MEM_DEFINED_IF_ADDRESSABLE 0x4d43000b

/* Valgrind must know both stacks to take a change for a switch.  Returns its number there. */
static inline unsigned green__valgrind_register(const void *low, const void *end)
{
    return (unsigned)green__arch_valgrind(GREEN__VALGRIND_STACK_REGISTER, (uintptr_t)low,
                                          (uintptr_t)end);
}

/*
 * To Memcheck what is below a stack pointer is out of bounds.  So is all of a
 * stack between two greens, lest what the last one has left there keeps a leak
 * from being seen; and where the first frame of the next one comes, and what is above
 * it, is not.
 */
#define GREEN__VALGRIND_FIRST ((size_t)512)

static inline void green__valgrind_use(const char *top)
{
    green__arch_valgrind(GREEN__MEMCHECK_MAKE_MEM_UNDEFINED,
                         (uintptr_t)top - GREEN__VALGRIND_FIRST, GREEN__VALGRIND_FIRST);
}

static inline void green__valgrind_unuse(const void *low, size_t size)
{
    green__arch_valgrind(GREEN__MEMCHECK_MAKE_MEM_NOACCESS, (uintptr_t)low, size);
}

/* The caller's memory is no stack any more. */
static inline void green__valgrind_return(const void *low, size_t size)
{
    green__arch_valgrind(GREEN__MEMCHECK_MAKE_MEM_DEFINED, (uintptr_t)low, size);
}

/* It is about to be asked what is there, which may be nothing. */
static inline void green__valgrind_asks(const void *low, size_t size)
{
    green__arch_valgrind(GREEN__MEMCHECK_MAKE_MEM_DEFINED_IF_ADDRESSABLE, (uintptr_t)low, size);
}

static inline void green__valgrind_deregister(unsigned number)
{
    green__arch_valgrind(GREEN__VALGRIND_STACK_DEREGISTER, number, 0);
}

#endif
