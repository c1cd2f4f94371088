/* SPDX-License-Identifier: MIT */
/* Parents, children, blocks, release. */
#include <stdlib.h>

#include "core/carry.h"
#include "core/family.h"
#include "core/told.h"

green_t *green__take_block(struct green__thread *self)
{
    if (self->blocks.spare != NULL)
        return green__take_spare(self);
    green_t *g = malloc(sizeof *g);
    if (g == NULL) { /* cached stacks may be what fills the address space */
        (void)green__stack_trim(&self->stacks, 0);
        g = malloc(sizeof *g);
    }
    if (g == NULL)
        return NULL;
    green__given(g, offsetof(green_t, life)); /* what green_fast.h reads */
    if (self->stacks.watched)
        green__tell_atomics(g);
    return g;
}

void green__put_block(struct green__thread *self, green_t *g)
{
    if (self->blocks.room != 0)
        green__put_spare(self, g);
    else
        free(g);
}

void green__drop_blocks(struct green__thread *self)
{
    while (self->blocks.spare != NULL)
        free(green__take_spare(self));
}

/* ---- Family ---------------------------------------------------------------- */

__attribute__((noinline, cold)) green_t *green__go_with_child(green_t *parent)
{
    green_t *going;
    do {
        going = parent;
        parent = going->parent;
        green__put_block(green__self, going);
    } while (green__goes_with_child(parent));
    return parent;
}

/*
 * Shortens the way while it goes: g, and every released green above it that
 * others still stand under, is put under the ancestor that is found.
 */
green_t *green__real_parent(green_t *g)
{
    green_t *ancestor = g->parent;
    if (ancestor == NULL)
        return NULL; /* a main green's */
    while (ancestor->released)
        ancestor = ancestor->parent;
    while (g != ancestor && g->parent != ancestor) {
        green_t *old = g->parent;
        g->parent = ancestor;
        green__gain_child(ancestor);
        g = green__lose_child(old);
    }
    return ancestor;
}

/*
 * Children that other threads have taken over are first counted in taken, and
 * taken from children when the thread comes by here: so its own counting needs
 * no atomic operations.  It comes by before it frees one that has children.
 */
void green__collect_taken(struct green__thread *thread)
{
    green_t *g = load(thread->with_taken);
    store(thread->with_taken, NULL);
    while (g != NULL) {
        green_t *next = g->next_with_taken;
        g->children -= g->taken - 1;
        g->taken = 0;
        green__lose_child(g);
        g = next;
    }
}

void green__collect_taken_if_any(struct green__thread *self)
{
    if (UNLIKELY(load(self->with_taken) != NULL)) {
        green__lock();
        green__collect_taken(self);
        green__unlock();
    }
}

/* g, taken over itself, leaves the list of those whose children were. */
static void forget_taken(green_t *g)
{
    struct green__thread *thread = load(g->thread);
    green_t *previous = load(thread->with_taken);
    if (previous == g) {
        store(thread->with_taken, g->next_with_taken);
    } else {
        while (previous->next_with_taken != g)
            previous = previous->next_with_taken;
        previous->next_with_taken = g->next_with_taken;
    }
    g->children -= g->taken;
    g->taken = 0;
}

int green__take_over(struct green__thread *self, green_t *g, green_t *parent)
{
    int error = 0;
    green__lock();
    if (load(g->life) != GREEN__NEW) {
        error = EPERM;
    } else if (g->children != g->taken) {
        error = EBUSY;
    } else {
        if (g->taken != 0)
            forget_taken(g);
        green_t *old = g->parent;
        if (green__is_orphan(g)) {
            green__lose_child(old);
        } else if (!old->is_main && old->taken++ == 0) {
            struct green__thread *thread = load(g->thread);
            old->next_with_taken = load(thread->with_taken);
            store(thread->with_taken, old);
        }
        store(g->thread, self);
        store(g->owner, load(self->id));
        g->parent = parent;
        green__gain_child(parent);
    }
    green__unlock();
    return error == 0 ? 0 : green__refuse(error);
}

/* ---- Release --------------------------------------------------------------- */

void green__stop_freeing(green_t *g)
{
    if (g->freeing != NULL && g->freeing->green != NULL) {
        green__set_stand_in(g->freeing->green, NULL);
        g->freeing->green = NULL;
    }
}

void green__end_unrun(struct green__thread *self, green_t *g)
{
    green__stop_freeing(g);
    green__set_stand_in(g, NULL);
    if (load(g->life) == GREEN__STARTED)
        green__forget(self, g);
    green__set_life(g, GREEN__DEAD);
    if (UNLIKELY(g->kept != 0))
        green__layer_lost(self, g);
    if (g->deferred != NULL)
        green__defer_drop(g);
    if (g->locals != NULL)
        green__local_drop(g);
    green__stack_put(self != NULL ? &self->stacks : NULL, &g->stack, g->valgrind);
}

/*
 * A released green is kept for its children, who need what tells of its parent,
 * green_fast.h in a child's name also enter; no user does.
 */
static void poison_released(green_t *g)
{
    size_t all = sizeof *g / 8 * 8;
    green__forbid(g, offsetof(struct green, enter));
    green__forbid(&g->owner, offsetof(struct green, children) - offsetof(struct green, owner));
    green__forbid(&g->freeing, all - offsetof(struct green, freeing));
}

/* Gives up the memory of a green whose handle is gone. */
static void let_go(struct green__thread *self, green_t *g)
{
    free(g->name);
    if (g->children == 0) {
        green_t *parent = g->parent;
        green__put_block(self, g);
        green__lose_child(parent);
    } else {
        g->released = true;
        poison_released(g);
    }
}

void green__release(green_t *g)
{
    struct green__thread *self = green__self;
    green__count_out(self);
    let_go(self, g);
}

void green__dispose(struct green__thread *self, green_t *g)
{
    if (load(g->life) != GREEN__DEAD)
        green__end_unrun(load(self->id) != 0 ? self : NULL, g);
    green__release(g);
}

void green__release_abandoned(struct green__thread *self, bool at_end)
{
    if (!at_end)
        green__lock();
    green_t *g = load(self->abandoned);
    store(self->abandoned, NULL);
    green__collect_taken(self);
    for (green_t *freer = g; freer != NULL; freer = freer->next_abandoned)
        if (load(freer->life) != GREEN__DEAD)
            green__stop_freeing(freer); /* of one that may be in the list, too */
    if (!at_end)
        green__unlock();
    while (g != NULL) {
        green_t *next = g->next_abandoned;
        if (load(g->life) != GREEN__DEAD)
            green__end_unrun(self, g);
        else
            store(g->enter, GREEN__TAG_CLOSED);
        let_go(self, g); /* who has abandoned it has counted it out */
        g = next;
    }
    green__thread_set_tag(self);
}

void green__lock_collected(struct green__thread *self)
{
    green__lock();
    while (load(self->abandoned) != NULL) {
        green__unlock();
        green__release_abandoned(self, false);
        green__lock();
    }
}
