/* SPDX-License-Identifier: MIT */
#ifndef GREEN_ARENA_H
#define GREEN_ARENA_H
/*
 * Where stacks are cut from: what stack.c, arena.c and guard.c share, and
 * nobody else.
 *
 * An arena is one mapping, cut into slots of one shape: a size, and a guard or none.
 *
 *     high  |  struct green__arena: what is known of them |
 *           |  slot n-1                                   |
 *           |  ...                                        |
 *           |  slot 0:   a page for the spread of tops    |
 *           |            the stack                        |
 *     low   |            the guard                        |
 *
 * What is known of the slots stands above them, out of the way of overflows,
 * and costs memory only for slots that have been used.
 *
 * A slot is at home, in its arena's list and under the lock; or in a thread's
 * cache, and that thread's; or handed out, and its green's.  It keeps what it
 * has when it moves between these: its guard, and, until somebody gives them
 * back, its pages.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memory/stack.h"

/* struct green__slot is in stack.h. */
struct green__arena {
    char *memory;              /* slot 0 */
    struct green__kind *kind;  /* arena.c: what is known of all of its shape */
    size_t size, guard, slot;  /* bytes: of a stack at least, of a guard, of both with the spread */
    uint32_t slots;            /* how many */
    uint32_t cut;              /* how many of them have ever left home: those below this index */
    uint32_t home;             /* how many are at home now */
    struct green__slot *free;  /* those that are cut and at home */
    struct green__arena *next, *prev; /* those of its kind with home != 0 */
    struct green__slot slot_at[]; /* then an unsigned for each: its number at Valgrind */
};

static inline struct green__arena *green__slot_arena(const struct green__slot *slot)
{
    return (struct green__arena *)((char *)(slot - slot->index) -
                                   offsetof(struct green__arena, slot_at));
}

/* The low end of a slot's stack, where its guard ends. */
static inline char *green__slot_low(const struct green__slot *slot)
{
    const struct green__arena *arena = green__slot_arena(slot);
    return arena->memory + slot->index * arena->slot + arena->guard;
}

/* The bytes above it, the spread of tops included. */
static inline size_t green__slot_size(const struct green__slot *slot)
{
    const struct green__arena *arena = green__slot_arena(slot);
    return arena->slot - arena->guard;
}

static inline size_t green__round_up(size_t size, size_t multiple)
{
    return (size + multiple - 1) & ~(multiple - 1);
}

/* ---- arena.c --------------------------------------------------------------- */

size_t green__page_size(void);

/* Held over fork(). */
void green__arena_lock(void);
void green__arena_unlock(void);

/*
 * Takes up to `most` slots of a shape from home, mapping an arena if need be.
 * They are linked; *count says how many.  NULL if the system has no more.
 */
struct green__slot *green__arena_take(size_t shape, unsigned most, unsigned *count);

/* The same for one that needs no preparing; maps nothing. */
struct green__slot *green__arena_take_ready(size_t shape);

/*
 * Sends linked slots home.  Their pages are kept as far as the bound of what is
 * shared allows, except under the running stack, which is left alone until its
 * thread has gone.
 */
void green__arena_give(struct green__slot *slots);

/* Gives back the pages of slots at home beyond `keep` bytes, and arenas that are all at home. */
size_t green__arena_trim(size_t keep);

/* Makes a slot fit to be handed out: 0, or -1 if there is no guard to be had. */
int green__slot_prepare(struct green__slot *slot);

/* Counts the resident pages of a slot, of a large one only those of its upper 16 MiB. */
void green__slot_count(struct green__slot *slot);

/*
 * Gives back the others, which nobody would know of, unless the caller runs there.  If it
 * tells, which takes some time, it returns how many bytes that was; else 0.
 */
size_t green__slot_clear_uncounted(struct green__slot *slot, bool tells);

/*
 * Gives back a slot's pages, but those from `kept` up unless that is NULL; those that
 * are locked stay, and stay counted.  Returns how many bytes of what was counted are
 * gone; 0 where some are kept, as they stay counted for a while.
 */
size_t green__slot_clear(struct green__slot *slot, const char *kept);

/* Whether the caller runs on this slot. */
bool green__slot_is_running(const struct green__slot *slot);

/* What waits at home with its pages, and what is mapped in all. */
void green__arena_counts(size_t *waiting, size_t *mapped);

/* ---- guard.c ----------------------------------------------------------------- */

#define GREEN__GUARD_SIZE ((size_t)64 << 10)

/* Makes a guard of whole pages that nobody has touched.  False: there is none to be had. */
bool green__guard_install(char *guard, size_t size);

#endif
