/* SPDX-License-Identifier: MIT */
/*
 * A green's life but for its moves: made, looked at, put under a parent,
 * released.  switch.c starts it and lets it die.
 */
#define _POSIX_C_SOURCE 200809L /* strndup */
#include <stdlib.h>
#include <string.h>

#include "core/core.h"

/* ---- Blocks ---------------------------------------------------------------- */

/*
 * A few freed blocks wait in their thread for the next green: they cost less
 * than malloc() there.  Not where a tool looks for what is used after its end.
 */
static inline green_t *take_spare(struct green__thread *self)
{
    green_t *g = self->spare;
    self->spare = g->parent;
    self->spare_room++;
    return g;
}

/* One with anything in it, or NULL. */
static inline green_t *take_block(struct green__thread *self)
{
    if (self->spare != NULL)
        return take_spare(self);
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

static inline void put_spare(struct green__thread *self, green_t *g)
{
    g->parent = self->spare;
    self->spare = g;
    self->spare_room--;
}

static void put_block(struct green__thread *self, green_t *g)
{
    if (self->spare_room != 0)
        put_spare(self, g);
    else
        free(g);
}

void green__drop_blocks(struct green__thread *self)
{
    while (self->spare != NULL)
        free(take_spare(self));
}

/* ---- State ----------------------------------------------------------------- */

void green__init_main(green_t *main, struct green__thread *thread)
{
    main->is_main = true;
    store(main->thread, thread);
    store(main->owner, load(thread->id));
    store(main->life, GREEN__STARTED);
    store(main->enter, load(thread->id));
    memset(main->exceptions, 0, sizeof main->exceptions);
    main->next = main->prev = main;
    main->kept = 0;
    main->layer = NULL;
    main->data = NULL;
}

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
    if (life == GREEN__DEAD || (unsettled && g->left))
        return GREEN_DEAD;
    return life == GREEN__NEW ? GREEN_NEW : GREEN_SUSPENDED;
}

/* ---- Family ---------------------------------------------------------------- */

static void gain_child(green_t *parent)
{
    if (!parent->is_main)
        parent->children++;
}

/* Takes a child from parent; true if that goes with it, being released. */
static inline bool goes_with_child(green_t *parent)
{
    return !parent->is_main && --parent->children == 0 && parent->released;
}

static __attribute__((noinline, cold)) green_t *go_with_child(green_t *parent)
{
    green_t *going;
    do {
        going = parent;
        parent = going->parent;
        put_block(green__self, going);
    } while (goes_with_child(parent));
    return parent;
}

/*
 * Takes a child from parent.  A released green goes with its last child, which
 * takes a child from its own parent, and so on.  Returns the first that stays.
 */
static inline green_t *lose_child(green_t *parent)
{
    return UNLIKELY(goes_with_child(parent)) ? go_with_child(parent) : parent;
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
        gain_child(ancestor);
        g = lose_child(old);
    }
    return ancestor;
}

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
    if (!green__may_look(green__settled(), g))
        return NULL;
    return g->is_main ? NULL : remaining_parent((green_t *)g);
}

static bool is_above(const green_t *g, green_t *from)
{
    while (from != NULL && from != g)
        from = green__real_parent(from);
    return from != NULL;
}

/*
 * Children that other threads have taken over are first counted in gone, and
 * taken from children when the thread comes by here: so its own counting needs
 * no atomic operations.  It comes by before it frees one that has children.
 */
void green__settle(struct green__thread *thread)
{
    green_t *g = load(thread->bereaved);
    store(thread->bereaved, NULL);
    while (g != NULL) {
        green_t *next = g->next_bereaved;
        g->children -= g->gone - 1;
        g->gone = 0;
        lose_child(g);
        g = next;
    }
}

static void settle_if_bereaved(struct green__thread *self)
{
    if (UNLIKELY(load(self->bereaved) != NULL)) {
        green__lock();
        green__settle(self);
        green__unlock();
    }
}

/* g, taken over itself, leaves the list of those whose children were. */
static void forget_bereaved(green_t *g)
{
    struct green__thread *thread = load(g->thread);
    green_t *previous = load(thread->bereaved);
    if (previous == g) {
        store(thread->bereaved, g->next_bereaved);
    } else {
        while (previous->next_bereaved != g)
            previous = previous->next_bereaved;
        previous->next_bereaved = g->next_bereaved;
    }
    g->children -= g->gone;
    g->gone = 0;
}

/* Rule 7: makes a NEW green of another thread, or of none any more, one of ours. */
static int take_over(struct green__thread *self, green_t *g, green_t *parent)
{
    int error = 0;
    green__lock();
    if (load(g->life) != GREEN__NEW) {
        error = EPERM;
    } else if (g->children != g->gone) {
        error = EBUSY;
    } else {
        if (g->gone != 0)
            forget_bereaved(g);
        green_t *old = g->parent;
        if (green__is_orphan(g)) {
            lose_child(old);
        } else if (!old->is_main && old->gone++ == 0) {
            struct green__thread *thread = load(g->thread);
            old->next_bereaved = load(thread->bereaved);
            store(thread->bereaved, old);
        }
        store(g->thread, self);
        store(g->owner, load(self->id));
        g->parent = parent;
        gain_child(parent);
    }
    green__unlock();
    if (error == 0)
        return 0;
    errno = error;
    return -1;
}

int green_set_parent(green_t *g, green_t *parent)
{
    struct green__thread *self = green__settled();
    if (g == NULL || g->is_main || parent == NULL) {
        errno = EINVAL;
        return -1;
    }
    if (!green__may_change(self, parent))
        return -1;
    if (!green__is_mine(self, g))
        return green__is_free_of(parent, GREEN__KEPT_HUB) ? take_over(self, g, parent) : -1;
    if (!green__is_free_of(g, ~0u) || !green__is_free_of(parent, GREEN__KEPT_HUB))
        return -1;
    if (is_above(g, parent)) {
        errno = ELOOP;
        return -1;
    }
    settle_if_bereaved(self);
    green_t *old = g->parent;
    g->parent = parent;
    gain_child(parent);
    lose_child(old);
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
    memset((void *)&g->life, 0, 8); /* see core.h */
    g->exceptions[0] = g->exceptions[1] = 0;
    store(g->owner, load(self->id));
    store(g->thread, self);
    g->children = g->gone = 0;
    g->freeing = NULL;
    g->fiber = (struct green__fiber){0};
    g->deferred = NULL;
    g->locals = NULL;
    g->layer = NULL;
    g->data = NULL;
    g->name = NULL;
    g->run = run;
}

/* It is made: nothing can fail any more. */
static inline void count_in(struct green__thread *self, green_t *parent)
{
    gain_child(parent);
    store(self->greens, load(self->greens) + 1);
}

/* Its handle is gone. */
static inline void count_out(struct green__thread *self)
{
    store(self->greens, load(self->greens) - 1);
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
    put_block(self, g);
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
    settle_if_bereaved(self);

    green_t *g = take_block(self);
    if (g == NULL)
        return NULL;
    init(g, self, run, parent);
    g->detached = (options->flags & GREEN_DETACHED) != 0;
    g->data = options->data;
    if (furnish(self, g, options) == NULL)
        return NULL;
    count_in(self, parent);
    return g;
}

/*
 * Most have what they want waiting for them.  The tag shows that the parent is ours,
 * that nothing forbids it, and that nothing waits to be released; make() does and
 * refuses the rest.
 */
green_t *green_new(green_fn *run, green_t *parent)
{
    static const green_options_t defaults;
    struct green__thread *self = green__self;
    green_t *g = self->spare;
    green_t *under = load(self->current);
    if (UNLIKELY(parent != NULL)) {
        if (parent->kept & GREEN__KEPT_HUB)
            g = NULL;
        under = parent;
    }
    if (LIKELY(run != NULL && g != NULL && load(under->owner) == load(self->tag) &&
               green__stack_get_warm(&self->stacks, green__stack_word(0, true), &g->stack))) {
        take_spare(self);
        init(g, self, run, under);
        count_in(self, under);
        return g;
    }
    return make(run, parent, &defaults, GREEN__KEPT_HUB);
}

green_t *green_new_with(green_fn *run, green_t *parent, const green_options_t *options)
{
    return options != NULL ? make(run, parent, options, GREEN__KEPT_HUB) : green_new(run, parent);
}

green_t *green__new_kept(green_fn *run, green_t *parent, const green_options_t *options)
{
    static const green_options_t defaults;
    return make(run, parent, options != NULL ? options : &defaults, 0);
}

/* ---- Release --------------------------------------------------------------- */

void green__stop_freeing(green_t *g)
{
    if (g->freeing != NULL && g->freeing->green != NULL) {
        g->freeing->green->stand_in = NULL;
        g->freeing->green = NULL;
    }
}

void green__bury(struct green__thread *self, green_t *g)
{
    green__stop_freeing(g);
    g->stand_in = NULL;
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
static void forbid(green_t *g)
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
        put_block(self, g);
        lose_child(parent);
    } else {
        g->released = true;
        forbid(g);
    }
}

void green__release(green_t *g)
{
    struct green__thread *self = green__self;
    count_out(self);
    let_go(self, g);
}

/* A NEW or DEAD green, or one to be abandoned: of ours, or under the lock an orphan. */
static void dispose(struct green__thread *self, green_t *g)
{
    if (load(g->life) != GREEN__DEAD)
        green__bury(load(self->id) != 0 ? self : NULL, g);
    green__release(g);
}

void green__release_abandoned(struct green__thread *self, bool at_end)
{
    if (!at_end)
        green__lock();
    green_t *g = load(self->abandoned);
    store(self->abandoned, NULL);
    green__settle(self);
    if (!at_end)
        green__unlock();
    for (green_t *freer = g; freer != NULL; freer = freer->next_abandoned)
        if (load(freer->life) != GREEN__DEAD)
            green__stop_freeing(freer); /* of one that may be in the list, too */
    while (g != NULL) {
        green_t *next = g->next_abandoned;
        if (load(g->life) != GREEN__DEAD)
            green__bury(self, g);
        else
            store(g->enter, GREEN__TAG_CLOSED);
        let_go(self, g); /* who has abandoned it has counted it out */
        g = next;
    }
    green__thread_set_tag(self);
}

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
    if (!g->is_main && self->looking == 0)
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

/* As far as another thread can see: it is current, kept, being freed, or abandoned already. */
static bool seems_busy(const green_t *g)
{
    if (load(load(g->thread)->current) == g || g->kept != 0 || green__is_abandoned(g))
        return true;
    return g->stand_in != NULL && !green__is_abandoned(g->stand_in);
}

/* Frees or abandons a green that is not the calling thread's; 0 or an errno. */
static int release_foreign(struct green__thread *self, green_t *g, bool abandon)
{
    int error = 0;
    green__lock(); /* a thread that ends makes its greens DEAD before it has ended, under it */
    if (green__is_orphan(g)) {
        dispose(self, g);
    } else if (!abandon) {
        error = EPERM;
    } else if (seems_busy(g)) {
        error = EBUSY;
    } else {
        leave_to_its_thread(g);
        count_out(self);
    }
    green__unlock();
    return error;
}

static int end_foreign(struct green__thread *self, green_t *g, bool abandon)
{
    int error = release_foreign(self, g, abandon);
    if (error == 0)
        return 0;
    errno = error;
    return -1;
}

int green_abandon(green_t *g)
{
    struct green__thread *self = green__settled();
    if (g == NULL) {
        errno = EINVAL;
        return -1;
    }
    if (!may_release(self, g))
        return -1;
    green__collect_abandoned(self);
    if (!green__is_mine(self, g))
        return end_foreign(self, g, true);
    if (!is_free_to_go(self, g))
        return -1;
    settle_if_bereaved(self);
    dispose(self, g);
    return 0;
}

static __attribute__((noinline)) GREEN__MOVES int free_slowly(green_t *g)
{
    struct green__thread *self = green__settled();
    if (!may_release(self, g))
        return -1;
    green__collect_abandoned(self);
    if (!green__is_mine(self, g))
        return end_foreign(self, g, false);
    if (!is_free_to_go(self, g))
        return -1;
    if (load(g->life) == GREEN__STARTED)
        return green__cancel(self, g, true);
    settle_if_bereaved(self);
    dispose(self, g);
    return 0;
}

/*
 * Most are dead and have nothing left.  The tag shows that they are ours, that we may,
 * and that nothing else waits to be released; nobody is freeing a dead one.
 */
int green_free(green_t *g)
{
    struct green__thread *self = green__self;
    if (g == NULL)
        return 0;
    if (UNLIKELY(load(g->life) != GREEN__DEAD || load(g->owner) != load(self->tag) ||
                 g->name != NULL || g->children != 0 || self->spare_room == 0))
        return free_slowly(g);
    green_t *parent = g->parent;
    count_out(self);
    put_spare(self, g);
    lose_child(parent);
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
    if (!green__may_change(green__settled(), g) || !green__is_free_of(g, GREEN__KEPT_HUB))
        return -1;
    g->data = data;
    return 0;
}

void green_stack(const green_t *g, void **low, size_t *size)
{
    bool known = green__may_look(green__settled(), g) && load(g->life) != GREEN__DEAD;
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
    const struct green__thread *self = green__settled();
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
