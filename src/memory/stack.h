/* SPDX-License-Identifier: MIT */
#ifndef GREEN_STACK_H
#define GREEN_STACK_H
/*
 * Memory for stacks: cut from arenas, guarded, kept for the next one, given
 * back.  Knows no greens.
 *
 * A call that is given a cache touches nothing else if the cache will do: no
 * lock, no atomic operation, no system call.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A build in which the rare happens always: each stack is mapped for itself, by
 * turns below and above the others, and none is used twice.
 */
#ifdef GREEN_STRESS
#define GREEN__STRESS true
#else
#define GREEN__STRESS false
#endif

#define GREEN__STACK_DEFAULT ((size_t)256 << 10)
#define GREEN__STACK_MIN ((size_t)16 << 10)

struct green__stack {
    char *low;       /* where the guard ends; NULL: no stack */
    size_t size;     /* from there to the first frame; a multiple of 16, as is low */
    struct green__slot *slot; /* NULL: the caller's memory, never mapped, protected or kept */
};

/* Room above a stack of the asked size, so that not all tops share one page offset. */
#define GREEN__SPREAD ((size_t)4096)

/* A place for a stack, cut from an arena: see arena.h. */
struct green__slot {
    struct green__slot *next; /* in the list it is in */
    char *low;                /* of the stack; NULL until it has its guard, if it shall have one */
    size_t shape;             /* of the stack with its spread; set when it is first handed out */
    uint32_t index;           /* in its arena; set when it first leaves home */
    uint16_t uses;            /* stack.c: how often until its pages are counted again */
    uint16_t pages;           /* resident, as counted last */
};

/* The shape of a stack: its size, and whether it has a guard. */
static inline size_t green__stack_shape(size_t size, bool guarded)
{
    return size << 1 | guarded;
}

/* The same of a stack without its spread, which is less than a page. */
static inline size_t green__stack_unspread(size_t shape)
{
    return shape & ~(2 * GREEN__SPREAD - 2);
}

/* Stacks of one kind in a cache. */
struct green__stack_kind {
    size_t shape;             /* without the spread; 0: none, here and in what follows */
    size_t asked_shape;       /* what was asked for when it last was this kind */
    struct green__slot *warm; /* have pages; the last to come is the first to go */
    struct green__slot *cold; /* have none */
    unsigned colds;           /* how many */
    unsigned batch;           /* how many to take next when there are neither */
};

/*
 * Stacks that wait for the next green of a thread.  All zero is an empty one.
 * Its thread alone writes it; the counters may be read by any.
 */
struct green__stack_cache {
    struct green__stack_kind kinds[8]; /* the last used first */
    size_t pages;                      /* in warm stacks, as counted last */
    size_t most_pages;                 /* that there may be; 0: not known yet */
    _Atomic(size_t) warm;              /* how many of these */
    _Atomic(size_t) live;              /* got less put */
    bool watched;                      /* a tool wants to be told of stacks, and to see each end */
};

/* What there is of stacks in some caches, and at home. */
struct green__stack_counts {
    size_t live;   /* handed out; modulo its range while caches are being added */
    size_t cached; /* waiting with pages */
    size_t mapped; /* bytes */
};

/*
 * Whether a stack of size bytes can be asked for, on the caller's memory unless
 * that is NULL.  False: size is beyond any address space, or the memory leaves
 * less than GREEN__STACK_MIN when its ends are aligned to 16.
 */
bool green__stack_valid(const void *memory, size_t size);

/* Lists of slots. */
static inline void green__slot_push(struct green__slot **list, struct green__slot *slot)
{
    slot->next = *list;
    *list = slot;
}

static inline struct green__slot *green__slot_pop(struct green__slot **list)
{
    struct green__slot *slot = *list;
    if (slot != NULL)
        *list = slot->next;
    return slot;
}

static inline void green__stack_count(_Atomic(size_t) *counter, size_t n)
{
    size_t value = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, value + n, memory_order_relaxed);
}

static inline void green__stack_push_warm(struct green__stack_cache *cache,
                                          struct green__stack_kind *kind, struct green__slot *slot)
{
    green__slot_push(&kind->warm, slot);
    cache->pages += slot->pages;
    green__stack_count(&cache->warm, 1);
}

static inline struct green__slot *green__stack_pop_warm(struct green__stack_cache *cache,
                                                        struct green__stack_kind *kind)
{
    struct green__slot *slot = green__slot_pop(&kind->warm);
    if (slot != NULL) {
        cache->pages -= slot->pages;
        green__stack_count(&cache->warm, (size_t)-1);
    }
    return slot;
}

/*
 * Gets the stack that was put last, if that is warm and what was asked for last is
 * what is asked for; else does nothing and returns false.
 */
static inline bool green__stack_get_warm(struct green__stack_cache *cache, size_t asked_shape,
                                         struct green__stack *stack)
{
    struct green__slot *slot;
    if (cache->kinds[0].asked_shape != asked_shape ||
        (slot = green__stack_pop_warm(cache, &cache->kinds[0])) == NULL)
        return false;
    green__stack_count(&cache->live, 1);
    stack->low = slot->low;
    stack->size = slot->shape >> 1;
    stack->slot = slot;
    return true;
}

/*
 * Puts one into a cache that is not watched, if it is of the kind used last, there is
 * room for it and its pages need not be counted; else does nothing and returns false.
 */
static inline bool green__stack_put_warm(struct green__stack_cache *cache,
                                         struct green__stack *stack)
{
    struct green__stack_kind *last = &cache->kinds[0];
    struct green__slot *slot = stack->slot;
    if (slot != NULL && green__stack_unspread(slot->shape) == last->shape && slot->uses != 0 &&
        cache->pages + slot->pages <= cache->most_pages) {
        slot->uses--;
        green__stack_push_warm(cache, last, slot);
        green__stack_count(&cache->live, (size_t)-1);
        *stack = (struct green__stack){0};
        return true;
    }
    return false;
}

/*
 * Gets a stack of at least size usable bytes (0: the default), rounded up, with
 * a guard or without.  0, or -1 with ENOMEM.
 */
int green__stack_get(struct green__stack_cache *cache, size_t size, bool guarded,
                     struct green__stack *stack);

/* Makes a stack of the caller's memory.  Returns the number that Valgrind gives it. */
unsigned green__stack_lend(void *memory, size_t size, struct green__stack *stack);

/*
 * Takes a stack back, into cache; NULL if the caller has none, under a lock.
 * May be the stack that is running, provided a cache is given, and nothing is
 * got from it before that stack is left.  number: what green__stack_lend() returned,
 * if the memory is the caller's.
 */
void green__stack_put(struct green__stack_cache *cache, struct green__stack *stack,
                      unsigned number);

/* Sends home all that cache keeps, the running stack too. */
void green__stack_drop(struct green__stack_cache *cache);

/*
 * Gives memory back until cache (or NULL) and home together keep no more than
 * `keep` bytes; returns how much it was.
 */
size_t green__stack_trim(struct green__stack_cache *cache, size_t keep);

/* Adds a cache's counters; NULL: those of no cache, once. */
void green__stack_add_counts(const struct green__stack_cache *cache,
                             struct green__stack_counts *counts);

/* Maps size bytes, rounded up, with a guard, for a purpose other than a green's; unmaps them. */
void *green__stack_map(size_t *size);
void green__stack_unmap(void *memory, size_t size);

/* Held over fork(). */
void green__stack_lock(void);
void green__stack_unlock(void);

/* Bytes of guard below a stack.  Async-signal-safe. */
size_t green__stack_guard(const struct green__stack *stack);

/* Where the first frame ends. */
static inline char *green__stack_top(const struct green__stack *stack)
{
    return stack->low + stack->size;
}

/*
 * Whether it is what a stack pointer points to.  A green may stand elsewhere: on a
 * stack that its program has switched to inside it, as by swapcontext().
 */
static inline bool green__stack_has(const struct green__stack *stack, const void *sp)
{
    return (uintptr_t)sp - (uintptr_t)stack->low <= stack->size;
}

#endif
