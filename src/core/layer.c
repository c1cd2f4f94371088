/* SPDX-License-Identifier: MIT */
/*
 * The layer above: its greens, and what it is told.  Its moves are in switch.c.
 */
#include "core/layer.h"

int green__layer_begin(struct green__layer *layer)
{
    struct green__thread *self = green__thread_need();
    if (self == NULL)
        return -1;
    self->layer = layer;
    return 0;
}

void green__layer_end(void)
{
    green__self->layer = NULL;
}

/* ---- Greens ---------------------------------------------------------------- */

green_t *green__layer_new(green_fn *run, green_t *parent, const green_options_t *options,
                          bool hub)
{
    green_t *g = green__new_kept(run, parent, options);
    if (g == NULL)
        return NULL;
    g->kept = hub ? GREEN__KEPT_HUB : GREEN__KEPT_OWNED;
    g->children++; /* the layer's handle, see core.h */
    return g;
}

void green__layer_release(green_t *g)
{
    struct green__thread *self = green__self;
    g->kept = 0;
    g->layer = NULL;
    g->children--;
    if (g == load(self->current)) { /* the thread ends on its stack */
        g->detached = true;
        return;
    }
    if (load(g->life) != GREEN__DEAD)
        green__bury(self, g);
    green__release(g);
}

void green__layer_let_go(green_t *g)
{
    g->kept &= (unsigned char)~GREEN__KEPT_WAITING;
    store(g->enter, load(g->owner));
}

/* ---- What the layer is told --------------------------------------------------- */

void *green__layer_yield(struct green__thread *self)
{
    return self->layer->calls->yield(self->layer) == 0 ? NULL : GREEN_FAILED;
}

void green__layer_leave(struct green__thread *self, green_t *g, bool returned)
{
    if (self->layer != NULL)
        self->layer->calls->leave(self->layer, g, returned);
}

void green__layer_dead(struct green__thread *self, green_t *g, void *value, int error)
{
    if (self->layer != NULL)
        self->layer->calls->dead(self->layer, g, value, error);
    g->layer = NULL;
}

void green__layer_lost(struct green__thread *self, green_t *g)
{
    g->kept &= (unsigned char)~GREEN__KEPT_WAITING;
    if (g->kept != 0 && self != NULL && self->layer != NULL)
        self->layer->calls->lost(self->layer, g);
    g->layer = NULL;
}

bool green__layer_may_end(struct green__thread *self)
{
    return self->layer == NULL || self->layer->calls->may_end(self->layer) == 0;
}

void green__layer_thread_ends(struct green__thread *self)
{
    struct green__layer *layer = self->layer;
    self->layer = NULL;
    layer->calls->thread_ends(layer);
}
