/* SPDX-License-Identifier: MIT */
/*
 * A green's life but for its moves: made, looked at, put under a parent,
 * released.  switch.c starts it and lets it die.
 */
#define _POSIX_C_SOURCE 200809L /* strndup */
#include <stdlib.h>
#include <string.h>

#include "core/family.h"
#include "core/green.h"
#include "core/switch.h"
#include "core/thread.h"

/* ---- State ----------------------------------------------------------------- */

green_state_t green_state(const green_t *g)
{
    if (g == NULL) {
        errno = EINVAL;
        return GREEN_DEAD;
    }
    /* Who dies is DEAD only when no signal handler finds it current any more. */
    struct green__thread *thread = load(g->thread);
    bool unsettled = UNLIKELY(load(green__self->unsettled) != 0) && thread == green__self;
    const green_t *current =
        unsettled ? green__current_when_settled(thread) : load(thread->current);
    if (current == g && load(thread->id) == load(g->owner))
        return GREEN_RUNNING;
    enum green__life life = atomic_load_explicit(&g->life, memory_order_acquire);
    if (life == GREEN__DEAD || (unsettled && g->unwound))
        return GREEN_DEAD;
    return life == GREEN__NEW ? GREEN_NEW : GREEN_SUSPENDED;
}

/* ---- Family ---------------------------------------------------------------- */

/* Who that is once what others have abandoned is released: a hook may ask before. */
static green_t *remaining_parent(green_t *g)
{
    green_t *parent = green__parent(g);
    if (UNLIKELY(green__is_abandoned(parent)) && parent == g->stand_in)
        parent = green__real_parent(g);
    while (UNLIKELY(green__is_abandoned(parent)))
        parent = green__real_parent(parent);
    return parent;
}

green_t *green_parent(const green_t *g)
{
    if (!green__may_look(green__caller(), g))
        return NULL;
    return g->is_main ? NULL : remaining_parent((green_t *)g);
}

static bool is_above(const green_t *g, green_t *from)
{
    while (from != NULL && from != g)
        from = green__real_parent(from);
    return from != NULL;
}

int green_set_parent(green_t *g, green_t *parent)
{
    struct green__thread *self = green__caller();
    if (g == NULL || g->is_main || parent == NULL)
        return green__refuse(EINVAL);
    if (!green__may_change(self, parent))
        return -1;
    if (!green__is_mine(self, g))
        return green__is_free_of(parent, GREEN__KEPT_HUB) ? green__take_over(self, g, parent) : -1;
    if (!green__is_free_of(g, ~0u) || !green__is_free_of(parent, GREEN__KEPT_HUB))
        return -1;
    if (is_above(g, parent))
        return green__refuse(ELOOP);
    green__collect_taken_if_any(self);
    green_t *old = g->parent;
    g->parent = parent;
    green__gain_child(parent);
    green__lose_child(old);
    return 0;
}

/* ---- Make ------------------------------------------------------------------ */

static bool is_valid(const green_options_t *options)
{
    for (size_t i = 0; i < sizeof options->reserved / sizeof options->reserved[0]; i++)
        if (options->reserved[i] != NULL)
            return false;
    return (options->flags & ~(GREEN_DETACHED | GREEN_NO_GUARD)) == 0 &&
           green__stack_valid(options->stack, options->stack_size);
}

/*
 * Makes a block a NEW green's, whatever is in it.  One by one: what is valid later
 * only need not be touched, and a memset() of such a size costs more than the rest.
 */
static inline void init(green_t *g, struct green__thread *self, green_fn *run, green_t *parent)
{
    store(g->enter, GREEN__TAG_CLOSED);
    g->parent = parent;
    g->stand_in = NULL;
    memset((void *)&g->life, 0, 8); /* see state.h */
    g->exceptions[0] = g->exceptions[1] = 0;
    store(g->owner, load(self->id));
    store(g->thread, self);
    g->children = g->taken = 0;
    g->freeing = NULL;
    g->fiber = (struct green__fiber){0};
    g->deferred = NULL;
    g->locals = NULL;
    g->layer = NULL;
    g->data = NULL;
    g->name = NULL;
    g->run = run;
}

/* Gives a green its name and its stack, or takes the block back. */
static green_t *furnish(struct green__thread *self, green_t *g, const green_options_t *options)
{
    if (options->name != NULL && (g->name = strndup(options->name, GREEN__NAME_MAX)) == NULL)
        goto no_name;
    if (options->stack != NULL)
        g->valgrind = green__stack_lend(options->stack, options->stack_size, &g->stack);
    else if (green__stack_get(&self->stacks, options->stack_size,
                              (options->flags & GREEN_NO_GUARD) == 0, &g->stack) != 0)
        goto no_stack;
    return g;

no_stack:
    free(g->name);
no_name:
    green__put_block(self, g);
    errno = ENOMEM;
    return NULL;
}

static __attribute__((noinline)) green_t *make(green_fn *run, green_t *parent,
                                               const green_options_t *options, unsigned rights)
{
    if (run == NULL || !is_valid(options)) {
        errno = EINVAL;
        return NULL;
    }
    struct green__thread *self = green__thread_need();
    if (self == NULL)
        return NULL;
    if (parent == NULL)
        parent = load(self->current);
    if (!green__may_change(self, parent) || !green__is_free_of(parent, rights))
        return NULL;
    green__collect_abandoned(self);
    green__collect_taken_if_any(self);

    green_t *g = green__take_block(self);
    if (g == NULL)
        return NULL;
    init(g, self, run, parent);
    g->detached = (options->flags & GREEN_DETACHED) != 0;
    g->data = options->data;
    if (furnish(self, g, options) == NULL)
        return NULL;
    green__count_in(self, parent);
    return g;
}

/*
 * Most have what they want waiting for them.  make() does and refuses the rest.  NULL: that
 * is to be asked.  run is not NULL.
 */
static inline __attribute__((always_inline)) green_t *
make_warm(struct green__thread *self, green_fn *run, green_t *parent)
{
    green_t *g = self->blocks.spare;
    if (LIKELY(g != NULL && green__is_plainly_mine(self, parent) &&
               green__stack_get_warm(&self->stacks, green__stack_shape(0, true), &g->stack))) {
        green__take_spare(self);
        init(g, self, run, parent);
        green__count_in(self, parent);
        return g;
    }
    return NULL;
}

green_t *green_new(green_fn *run, green_t *parent)
{
    static const green_options_t defaults;
    struct green__thread *self = green__self;
    green_t *under = load(self->current);
    green_t *g = NULL;
    if (UNLIKELY(parent != NULL))
        under = parent;
    if (LIKELY(run != NULL) && (LIKELY(parent == NULL) || (parent->kept & GREEN__KEPT_HUB) == 0))
        g = make_warm(self, run, under);
    return LIKELY(g != NULL) ? g : make(run, parent, &defaults, GREEN__KEPT_HUB);
}

green_t *green_new_with(green_fn *run, green_t *parent, const green_options_t *options)
{
    return options != NULL ? make(run, parent, options, GREEN__KEPT_HUB) : green_new(run, parent);
}

green_t *green__new_kept(green_fn *run, green_t *parent, const green_options_t *options)
{
    static const green_options_t defaults;
    green_t *g = options == NULL ? make_warm(green__self, run, parent) : NULL;
    return g != NULL ? g : make(run, parent, options != NULL ? options : &defaults, 0);
}

/* ---- Release --------------------------------------------------------------- */

/* What green_free() and green_abandon() refuse alike of a green of ours. */
static bool is_free_to_go(const struct green__thread *self, const green_t *g)
{
    if (load(self->current) != g && g->stand_in == NULL)
        return green__is_free_of(g, ~0u);
    errno = EBUSY;
    return false;
}

/* What they refuse of any green, even before its thread matters. */
static bool may_release(const struct green__thread *self, const green_t *g)
{
    if (!g->is_main && self->look_only == 0)
        return true;
    errno = g->is_main ? EINVAL : EBUSY;
    return false;
}

/*
 * Leaves g to its thread, whose tag sends the short ways of its next calls to the
 * long ones.  What the thread itself writes it also reads: see
 * green__thread_set_tag().
 */
static void leave_to_its_thread(green_t *g)
{
    struct green__thread *thread = load(g->thread);
    store(g->enter, GREEN__TAG_ABANDONED);
    g->next_abandoned = load(thread->abandoned);
    store(thread->abandoned, g);
    atomic_store_explicit(&thread->tag, GREEN__TAG_SLOW, memory_order_release);
}

/* Whether freer waits for its thread to release it.  It may be gone: nothing of it is read. */
static bool is_left_to(const struct green__thread *thread, const green_t *freer)
{
    const green_t *g = load(thread->abandoned);
    while (g != NULL && g != freer)
        g = g->next_abandoned;
    return g != NULL;
}

/* Whether unwinding that ends its thread is in the frames of g, or has left them just now. */
static bool is_being_unwound(const struct green__thread *thread, const green_t *g)
{
    bool left = g->unwound &&
                atomic_load_explicit(&g->life, memory_order_acquire) != GREEN__DEAD;
    return left || thread->end.unwinds == g;
}

/*
 * As far as another thread can see: it is being freed or unwound, current, kept, or abandoned
 * already.  The first is read first: what is not being freed any more has all that this did.
 */
static bool seems_busy(const green_t *g)
{
    const struct green__thread *thread = load(g->thread);
    const green_t *freer = __atomic_load_n(&g->stand_in, __ATOMIC_ACQUIRE);
    if ((freer != NULL && !is_left_to(thread, freer)) || is_being_unwound(thread, g))
        return true;
    return load(thread->current) == g || g->kept != 0 || green__is_abandoned(g);
}

/* Frees or abandons a green that is not the calling thread's; 0 or an errno. */
static int release_foreign(struct green__thread *self, green_t *g, bool abandon)
{
    int error = 0;
    green__lock(); /* a thread that ends makes its greens DEAD before it has ended, under it */
    if (green__is_orphan(g)) {
        green__dispose(self, g);
    } else if (!abandon) {
        error = EPERM;
    } else if (seems_busy(g)) {
        error = EBUSY;
    } else {
        leave_to_its_thread(g);
        green__count_out(self);
    }
    green__unlock();
    return error;
}

static int end_foreign(struct green__thread *self, green_t *g, bool abandon)
{
    int error = release_foreign(self, g, abandon);
    return error == 0 ? 0 : green__refuse(error);
}

/* Releases g, which is not NULL; if it is started and not to be abandoned, it is cancelled before. */
static __attribute__((noinline)) GREEN__MOVES int end_slowly(green_t *g, bool abandon)
{
    struct green__thread *self = green__caller();
    if (!may_release(self, g))
        return -1;
    green__collect_abandoned(self);
    if (!green__is_mine(self, g))
        return end_foreign(self, g, abandon);
    if (!is_free_to_go(self, g))
        return -1;
    if (!abandon && load(g->life) == GREEN__STARTED)
        return green__cancel(self, g, true);
    green__collect_taken_if_any(self);
    green__dispose(self, g);
    return 0;
}

int green_abandon(green_t *g)
{
    return g != NULL ? end_slowly(g, true) : green__refuse(EINVAL);
}

/* Most are dead and have nothing left.  Nobody is freeing a dead one. */
int green_free(green_t *g)
{
    struct green__thread *self = green__self;
    if (g == NULL)
        return 0;
    if (UNLIKELY(load(g->life) != GREEN__DEAD || !green__is_plainly_mine(self, g) ||
                 g->name != NULL || g->children != 0 || self->blocks.room == 0))
        return end_slowly(g, false);
    green_t *parent = g->parent;
    green__count_out(self);
    green__put_spare(self, g);
    green__lose_child(parent);
    return 0;
}

/* ---- Look ------------------------------------------------------------------ */

const char *green_name(const green_t *g)
{
    if (!green__may_look(green__self, g))
        return NULL;
    return g->is_main ? "main" : g->name;
}

void *green_data(const green_t *g)
{
    return green__may_look(green__self, g) ? g->data : NULL;
}

int green_set_data(green_t *g, void *data)
{
    if (!green__may_change(green__caller(), g) || !green__is_free_of(g, GREEN__KEPT_HUB))
        return -1;
    g->data = data;
    return 0;
}

void green_stack(const green_t *g, void **low, size_t *size)
{
    bool known = green__may_look(green__caller(), g) && load(g->life) != GREEN__DEAD;
    if (low != NULL) {
        *low = known ? g->stack.low : NULL;
        green__given(low, sizeof *low);
    }
    if (size != NULL) {
        *size = known ? g->stack.size : 0;
        green__given(size, sizeof *size);
    }
}

/* Not inlined, as the frame would then be the caller's, with all that is below it. */
static __attribute__((noinline)) const void *here(void)
{
    return __builtin_frame_address(0);
}

size_t green_stack_used(const green_t *g)
{
    const struct green__thread *self = green__caller();
    if (!green__may_look(self, g) || g->is_main || load(g->life) != GREEN__STARTED)
        return 0;
    const void *sp = g == green__running(self) ? here() : g->sp;
    if (!green__stack_has(&g->stack, sp))
        return g->stack.size; /* where its frames end is not known */
    return (size_t)(green__stack_top(&g->stack) - (const char *)sp);
}

int green_version(void)
{
    return GREEN_VERSION;
}
