/* SPDX-License-Identifier: MIT */
/*
 * The greens of the layer above.  Its moves are in switch.c.
 */
#include "core/layer.h"

#include "core/green.h"
#include "core/thread.h"

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
    if (load(g->life) != GREEN__DEAD) {
        green__end_unrun(self, g);
    } else if (g->stack.low != NULL) {
        green__stack_put(&self->stacks, &g->stack, g->valgrind);
        g->children--;
    }
    green__release(g);
}

void green__layer_end_unrun(green_t *g)
{
    struct green__thread *self = green__self;
    if (g == load(self->current) || load(g->life) == GREEN__DEAD)
        return;
    struct green__stack stack = g->stack;
    g->stack = (struct green__stack){0};
    g->kept = 0;
    green__end_unrun(self, g);
    g->stack = stack;
    g->children++;
}

void green__layer_let_go(green_t *g)
{
    g->kept &= (unsigned char)~GREEN__KEPT_WAITING;
    store(g->enter, load(g->owner));
}
