/* SPDX-License-Identifier: MIT */
#ifndef GREEN_FAMILY_H
#define GREEN_FAMILY_H
/*
 * Parents and children, and the blocks of memory that greens are: what holds one in
 * place, and lets it go.
 */
#include "core/cleanup.h"

/* ---- Blocks ---------------------------------------------------------------- */

/*
 * A few freed blocks wait in their thread for the next green: they cost less
 * than malloc() there.  Not where a tool looks for what is used after its end.
 */
static inline green_t *green__take_spare(struct green__thread *self)
{
    green_t *g = self->blocks.spare;
    self->blocks.spare = g->parent;
    self->blocks.room++;
    return g;
}

static inline void green__put_spare(struct green__thread *self, green_t *g)
{
    g->parent = self->blocks.spare;
    self->blocks.spare = g;
    self->blocks.room--;
}

/* A block with anything in it, or NULL.  It is put back into its thread, or freed. */
green_t *green__take_block(struct green__thread *self);
void green__put_block(struct green__thread *self, green_t *g);

/* Frees the blocks that wait in a thread. */
void green__drop_blocks(struct green__thread *self);

/* ---- Family ---------------------------------------------------------------- */

static inline void green__gain_child(green_t *parent)
{
    if (!parent->is_main)
        parent->children++;
}

/* Takes a child from parent; true if that goes with it, being released. */
static inline bool green__goes_with_child(green_t *parent)
{
    return !parent->is_main && --parent->children == 0 && parent->released;
}

__attribute__((noinline, cold)) green_t *green__go_with_child(green_t *parent);

/*
 * Takes a child from parent.  A released green goes with its last child, which
 * takes a child from its own parent, and so on.  Returns the first that stays.
 */
static inline green_t *green__lose_child(green_t *parent)
{
    return UNLIKELY(green__goes_with_child(parent)) ? green__go_with_child(parent) : parent;
}

/* The nearest ancestor whose handle is not released. */
green_t *green__real_parent(green_t *g);

/* Who gets what g, no main green, leaves: a stand-in, else the real parent. */
static inline green_t *green__parent(green_t *g)
{
    if (UNLIKELY(g->stand_in != NULL))
        return g->stand_in;
    return LIKELY(!g->parent->released) ? g->parent : green__real_parent(g);
}

/* A green is made: nothing can fail any more. */
static inline void green__count_in(struct green__thread *self, green_t *parent)
{
    green__gain_child(parent);
    store(self->greens, load(self->greens) + 1);
}

/* The handle of a green is gone. */
static inline void green__count_out(struct green__thread *self)
{
    store(self->greens, load(self->greens) - 1);
}

/* Lets the thread's greens know of children that other threads have taken over; under the lock. */
void green__collect_taken(struct green__thread *thread);

/* The same, if there are any. */
void green__collect_taken_if_any(struct green__thread *self);

/* Rule 7: makes a NEW green of another thread, or of none any more, one of ours. */
int green__take_over(struct green__thread *self, green_t *g, green_t *parent);

/* ---- Release --------------------------------------------------------------- */

/* Makes g DEAD without running it, its stack given back to the thread self or the system. */
void green__end_unrun(struct green__thread *self, green_t *g);

/* Gives up the handle of a DEAD green.  By its thread, or under the lock if that has ended. */
void green__release(green_t *g);

/* Ends and releases a NEW or DEAD green, or one to be abandoned: of ours, or under the lock an orphan. */
void green__dispose(struct green__thread *self, green_t *g);

/* Ends the stand-in of a green that frees another and will not come back to it. */
void green__stop_freeing(green_t *g);

/* Whether another thread has abandoned g: its handle is gone, its thread has not released it. */
static inline bool green__is_abandoned(const green_t *g)
{
    return load(g->enter) == GREEN__TAG_ABANDONED;
}

/* Releases the thread's greens that others have abandoned; at its end, under the lock. */
void green__release_abandoned(struct green__thread *self, bool at_end);

/* Takes the lock when there are none, and there will be none until it is given up. */
void green__lock_collected(struct green__thread *self);

/*
 * Releases them if there are any: before all that makes, frees, or goes where an
 * abandoned green may be found on the way.  Not inside a hook, which may be looking
 * at them.
 */
static inline void green__collect_abandoned(struct green__thread *self)
{
    if (UNLIKELY(load(self->abandoned) != NULL) && self->look_only == 0)
        green__release_abandoned(self, false);
}

#endif
