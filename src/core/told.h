/* SPDX-License-Identifier: MIT */
#ifndef GREEN_TOLD_H
#define GREEN_TOLD_H
/*
 * What a layer above the core (layer.h) is told.
 */
#include "core/self.h"

struct green__layer_calls {
    /* green_yield() was called in an owned green: 0 when it may go on, or -1 with errno. */
    int (*yield)(struct green__layer *layer);

    /*
     * g, which has a word, will run nothing more of its body: that has returned, or has
     * called green_exit().  On g's stack, before its deferred functions; must not switch.
     * If it has returned, what was in its frames is no more.
     */
    void (*leave)(struct green__layer *layer, green_t *g, bool returned);

    /*
     * An owned green is DEAD, of value or, if that is GREEN_FAILED, of error.  On its
     * stack, before its parent is entered; must not switch.
     */
    void (*dead)(struct green__layer *layer, green_t *g, void *value, int error);

    /*
     * The body of g, a plain green, has returned *value, no failure, and nothing else is left
     * to be done at its end.  Does what `leave` and `dead` do, and returns who is next, and
     * what with; or NULL, and has done nothing.  On g's stack; must not switch.
     */
    green_t *(*done)(struct green__layer *layer, green_t *g, void **value);

    /*
     * What a dead green leaves is about to enter g, which the layer keeps waiting: value, and
     * errno if that is GREEN_FAILED.  Returns what enters g, with errno.  Must not switch.
     */
    void *(*entered)(struct green__layer *layer, green_t *g, void *value);

    /*
     * A green has died, and the layer's own is next.  Returns whom to enter instead, and in
     * *value and errno what with; or NULL.  On the stack that ends; must not switch.
     */
    green_t *(*next)(struct green__layer *layer, void **value);

    /*
     * An owned green, or the layer's own, has been left by the unwinding that ends the
     * thread, and so have been the stacks of all that waited below it, down to main's.  Or
     * that is in the frames of a green that the layer has kept waiting, which runs
     * now: what it waited with is no more.
     */
    void (*lost)(struct green__layer *layer, green_t *g);

    /*
     * The unwinding that ends the thread is about to leave the frames of a green that waits,
     * which are still there.  Nobody will be entered any more; must not switch.
     */
    void (*leaving)(struct green__layer *layer);

    /* green_thread_end() was called: 0 if there is nothing to be done any more, or -1 with errno. */
    int (*may_end)(struct green__layer *layer);

    /* The thread ends.  The layer releases what it owns, and is not asked again. */
    void (*thread_ends)(struct green__layer *layer);
};

/* The first member of a layer's state. */
struct green__layer {
    const struct green__layer_calls *calls;
};

/* green_yield() in a green that the layer owns. */
static inline void *green__layer_yield(struct green__thread *self)
{
    return self->layer->calls->yield(self->layer) == 0 ? NULL : GREEN_FAILED;
}

/* g, which has a word of the layer's, runs no more of its body. */
static inline void green__layer_leave(struct green__thread *self, green_t *g, bool returned)
{
    if (self->layer != NULL)
        self->layer->calls->leave(self->layer, g, returned);
}

/* g, which the layer keeps, is DEAD, of a value or of an error ... */
static inline void green__layer_dead(struct green__thread *self, green_t *g, void *value, int error)
{
    if (self->layer != NULL)
        self->layer->calls->dead(self->layer, g, value, error);
    g->layer = NULL;
}

/* ... or without having ended. */
static inline void green__layer_lost(struct green__thread *self, green_t *g)
{
    g->kept &= (unsigned char)~GREEN__KEPT_WAITING;
    if (g->kept != 0 && self != NULL && self->layer != NULL)
        self->layer->calls->lost(self->layer, g);
    g->layer = NULL;
}

/* Unwinding is in the frames of g, which the layer keeps waiting: that is over. */
static inline void green__layer_left(struct green__thread *self, green_t *g)
{
    g->kept &= (unsigned char)~GREEN__KEPT_WAITING;
    store(g->enter, load(g->owner));
    self->layer->calls->lost(self->layer, g);
}

/* A plain green has nothing left to do: who is next instead of its parent, or NULL. */
static inline green_t *green__layer_done(struct green__thread *self, green_t *g, void **value)
{
    return self->layer->calls->done(self->layer, g, value);
}

/* g, which the layer keeps waiting, is entered because a green has died ... */
static inline void *green__layer_entered(struct green__thread *self, green_t *g, void *value)
{
    return self->layer != NULL ? self->layer->calls->entered(self->layer, g, value) : value;
}

/* ... or, instead of the layer's own, who is next. */
static inline green_t *green__layer_next(struct green__thread *self, void **value)
{
    return self->layer != NULL ? self->layer->calls->next(self->layer, value) : NULL;
}

/* The frames of a green that the layer keeps are about to be left by unwinding. */
static inline void green__layer_leaving(struct green__thread *self)
{
    if (self->layer != NULL)
        self->layer->calls->leaving(self->layer);
}

/* green_thread_end() begins: false with errno if the layer does not let it. */
static inline bool green__layer_may_end(struct green__thread *self)
{
    return self->layer == NULL || self->layer->calls->may_end(self->layer) == 0;
}

/* The thread ends: none of its greens will run any more. */
static inline void green__layer_thread_ends(struct green__thread *self)
{
    struct green__layer *layer = self->layer;
    self->layer = NULL;
    layer->calls->thread_ends(layer);
}

#endif
