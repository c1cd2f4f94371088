/* SPDX-License-Identifier: MIT */
#ifndef GREEN_STACK_H
#define GREEN_STACK_H
/*
 * Memory for stacks: mapped, guarded, kept for the next one, given back.
 * Knows no greens.
 */
#include <stdbool.h>
#include <stddef.h>

#define GREEN__STACK_DEFAULT ((size_t)256 << 10)
#define GREEN__STACK_MIN ((size_t)16 << 10)

/* Bytes at the high end of every stack that are this file's, not the frames'. */
#define GREEN__STACK_HEADER ((size_t)64)

struct green__stack {
    char *low;       /* the usable range, a multiple of 16 at both ends; NULL: no stack */
    size_t size;
    size_t guard;    /* bytes of guard below it */
    bool lent;       /* the caller's memory: never mapped, protected or kept */
    unsigned valgrind; /* its number there */
};

/* Stacks that wait for the next green of a thread.  All zero is an empty one. */
struct green__stack_cache {
    struct green__kept *newest, *oldest;
    size_t bytes;
};

/*
 * Whether a stack of size bytes can be asked for, on the caller's memory unless
 * that is NULL.  False: size is beyond any address space, or the memory leaves
 * less than GREEN__STACK_MIN when its ends are aligned to 16.
 */
bool green__stack_valid(const void *memory, size_t size);

/*
 * Gets a stack of size usable bytes (0: the default), rounded up, with a guard
 * or without.  0, or -1 with ENOMEM.
 */
int green__stack_get(struct green__stack_cache *cache, size_t size, bool guarded,
                     struct green__stack *stack);

/* Makes a stack of the caller's memory. */
void green__stack_lend(void *memory, size_t size, struct green__stack *stack);

/*
 * Takes a stack back, into cache unless that is NULL.  May be the stack that is
 * running, provided a cache is given, and nothing is got from it before that
 * stack is left.
 */
void green__stack_put(struct green__stack_cache *cache, struct green__stack *stack);

/*
 * Gives back all that cache keeps, but the running stack, which a later call
 * will.  One call at a time: the caller holds a lock.
 */
void green__stack_drop(struct green__stack_cache *cache);

/* Where the first frame ends. */
static inline char *green__stack_top(const struct green__stack *stack)
{
    return stack->low + stack->size - GREEN__STACK_HEADER;
}

#endif
