/* SPDX-License-Identifier: MIT */
/*
 * The transfer of control: switch, throw, start, death (rules 3 to 6, 9 to 13).
 * Only this file moves it, and says who is current, together with the port's
 * switch.S if that has green_switch().
 *
 * Every move is one of two.  The fast path of green_switch() enters a green
 * that is known to be started, living and ours, with a value.  Everything else
 * goes by deliver(), which finds who is to be entered, and then by the same
 * green__arch_switch().  Of the second kind, most first switches and most deaths
 * have a short way, where it is known what deliver() would do.
 *
 * An error travels as GREEN_FAILED in place of the value and in errno, which
 * both sides share, being of one thread.
 */
#include <string.h>

#include "core/carry.h"
#include "core/cleanup.h"
#include "core/family.h"
#include "core/runtime.h"
#include "core/switch.h"
#include "core/told.h"
#include "core/unwind.h"

/* What a green is entered with: an errno if that is not 0, else a value. */
struct parcel {
    void *value;
    int error;
};

/* ---- Entering ---------------------------------------------------------------- */

/*
 * Leaves me for to, which is current already; returns what me is entered with.
 * In line, as ThreadSanitizer counts the functions that are entered after
 * green__leave() as the other's, and those that are left afterwards as ours.
 */
static GREEN__ALWAYS_INLINE GREEN__MOVES void *enter(struct green__thread *self, green_t *me, green_t *to,
                                       void *value)
{
    if (UNLIKELY(self->has_cxx)) {
        green__put_exceptions_away(self, me);
        green__fetch_exceptions(self, to);
    }
    return green__arch_switch(&me->sp, to->sp, value);
}

/* ---- Delivering --------------------------------------------------------------------- */

static void *unpack(struct parcel parcel)
{
    if (parcel.error == 0)
        return parcel.value;
    errno = parcel.error;
    return GREEN_FAILED;
}

/* Hot, as gcc takes a function that does not return for one to be small, not quick. */
static __attribute__((hot)) _Noreturn void body(void *value);

/* The same for `to`, about which a layer may have a say. */
static inline void *unpack_for(struct green__thread *self, green_t *to, struct parcel parcel)
{
    void *value = unpack(parcel);
    return UNLIKELY(to->kept & GREEN__KEPT_WAITING) ? green__layer_entered(self, to, value) : value;
}

static GREEN__ALWAYS_INLINE void start(green_t *g)
{
    g->sp = green__arch_first(green__base(g), body, g);
    atomic_signal_fence(memory_order_release); /* a profiler's signal may unwind through it */
    green__change_life(g, GREEN__NEW, GREEN__STARTED);
}

/* Calls the thread's hook, if it has one. */
static void call_hook(struct green__thread *self, green_trace_event_t event, green_t *from,
                      green_t *to)
{
    if (LIKELY(self->trace == NULL))
        return;
    int error = errno; /* may be meant for `to` */
    self->look_only++;
    green__passes();
    self->trace(event, from, to, self->trace_data);
    self->look_only--;
    errno = error;
    green__thread_set_tag(self); /* the hook may have ended itself */
}

/*
 * Finds who is to be entered with a parcel for to, and makes it current.  A DEAD
 * green stands for its parent; a NEW one starts, or, given an error, dies of it
 * unrun and passes it on.  from is who the parcel comes from, for the hook.
 */
static GREEN__ALWAYS_INLINE green_t *deliver(struct green__thread *self, green_t *from, green_t *to,
                                      struct parcel *parcel)
{
    green_t *unrun = NULL; /* the last that died here, if the handle goes with it */
    self->runs = from;
    for (;;) {
        while (load(to->life) == GREEN__DEAD)
            to = green__parent(to);
        bool is_new = load(to->life) == GREEN__NEW;
        if (is_new && parcel->error == 0) {
            start(to);
            if (UNLIKELY(self->sanitized))
                green__fiber_begin(&to->fiber, false);
        }
        store(self->current, to);
        if (UNLIKELY(self->trace != NULL))
            call_hook(self, parcel->error != 0 ? GREEN_TRACE_THROW : GREEN_TRACE_SWITCH, from, to);
        if (UNLIKELY(unrun != NULL))
            green__release(unrun);
        if (LIKELY(!is_new || parcel->error == 0)) {
            self->runs = NULL;
            return to;
        }

        green__end_unrun(self, to);
        unrun = to->detached ? to : NULL;
        if (parcel->error == ECANCELED)
            *parcel = (struct parcel){0};
        from = to;
        to = green__parent(to);
    }
}

/* Leaves me, the current green, with a parcel for to. */
static GREEN__MOVES void *move(struct green__thread *self, green_t *me, green_t *to,
                               struct parcel parcel)
{
    to = deliver(self, me, to, &parcel);
    if (to == me)
        return unpack(parcel);
    if (LIKELY(!self->sanitized)) /* nothing is left to do here: no return to be mispredicted */
        return enter(self, me, to, unpack_for(self, to, parcel));
    green__leave(self, me, to);
    void *value = enter(self, me, to, unpack_for(self, to, parcel));
    green__arrive(self, me);
    return value;
}

/* ---- The calls ------------------------------------------------------------------ */

/* Whether a user may enter g, or who it stands for: false with errno. */
static bool may_enter(struct green__thread *self, green_t *g)
{
    if (!green__may_change(self, g))
        return false;
    green__collect_abandoned(self);
    while (load(g->life) == GREEN__DEAD)
        g = green__parent(g);
    bool is_new = load(g->life) == GREEN__NEW;
    return green__is_free_of(g, GREEN__KEPT_WAITING | GREEN__KEPT_HUB |
                                    (is_new ? GREEN__KEPT_OWNED : 0));
}

static __attribute__((noinline)) GREEN__MOVES void *switch_by_all_rules(green_t *g, void *value)
{
    struct green__thread *self = green__caller();
    if (value == GREEN_FAILED) {
        errno = EINVAL;
        return GREEN_FAILED;
    }
    if (!may_enter(self, g))
        return GREEN_FAILED;
    return move(self, load(self->current), g, (struct parcel){.value = value});
}

/* NEW, and no layer has a say in it. */
static inline bool is_plainly_new(const green_t *g)
{
    uint16_t life_and_kept;
    memcpy(&life_and_kept, (const void *)&g->life, sizeof life_and_kept);
    return life_and_kept == 0;
}

/* Most are the first into a green of ours. */
void *green__switch_slowly(green_t *g, void *value)
{
    struct green__thread *self = green__self;
    if (LIKELY(g != NULL && value != GREEN_FAILED && green__is_plainly_mine(self, g) &&
               is_plainly_new(g))) {
        green_t *me = load(self->current);
        start(g);
        store(self->current, g);
        return enter(self, me, g, value);
    }
    return switch_by_all_rules(g, value);
}

/*
 * Whether a fast path may enter g, which is not current, from here: it is open to
 * the thread, and no exceptions are being handled here.  An open green handles none.
 */
static inline bool is_open(const struct green__thread *self, const green_t *g)
{
    if (LIKELY(load(g->enter) == green__call_tag(self)))
        return true;
    return load(g->enter) == load(self->tag) && (self->exceptions[0] | self->exceptions[1]) == 0;
}

#ifndef GREEN__ARCH_SWITCHES
void *green_switch(green_t *g, void *value)
{
    struct green__thread *self = green__self;
    green_t *me = load(self->current);
    if (UNLIKELY(g == NULL) || UNLIKELY(value == GREEN_FAILED) || UNLIKELY(g == me) ||
        UNLIKELY(!is_open(self, g)))
        return green__switch_slowly(g, value);
    store(self->current, g);
    return green__arch_switch(&me->sp, g->sp, value);
}
#endif

static __attribute__((noinline)) GREEN__MOVES void *yield_slowly(void *value)
{
    struct green__thread *self = green__caller();
    green_t *me = load(self->current);
    if (me == NULL || me->is_main) {
        errno = self->end.ended && value != GREEN_FAILED ? EPERM : EINVAL;
        return GREEN_FAILED;
    }
    if (me->kept & GREEN__KEPT_OWNED && value != GREEN_FAILED && self->look_only == 0)
        return green__layer_yield(self);
    green__collect_abandoned(self);
    return switch_by_all_rules(green__parent(me), value);
}

void *green_yield(void *value)
{
    struct green__thread *self = green__self;
    green_t *me = load(self->current);
    if (LIKELY(me != NULL && me->stand_in == NULL && value != GREEN_FAILED)) {
        green_t *g = me->parent; /* if it is released, it is closed */
        if (LIKELY(g != NULL && is_open(self, g))) {
            store(self->current, g);
            return green__arch_switch(&me->sp, g->sp, value);
        }
    }
    return yield_slowly(value);
}

void *green_throw(green_t *g, int error)
{
    struct green__thread *self = green__caller();
    if (error < 0) {
        errno = EINVAL;
        return GREEN_FAILED;
    }
    if (!may_enter(self, g))
        return GREEN_FAILED;
    struct parcel parcel = {.error = error != 0 ? error : ECANCELED};
    if (parcel.error == ECANCELED && load(g->life) == GREEN__DEAD)
        parcel = (struct parcel){0};
    return move(self, load(self->current), g, parcel);
}

/*
 * A move of a layer's: nobody else may enter me meanwhile.  Who does all the same is a
 * child that has died.
 */
static __attribute__((noinline)) GREEN__MOVES void *
layer_switch_slowly(struct green__thread *self, green_t *me, green_t *to, void *value)
{
    if (LIKELY(load(self->tag) == load(self->id))) {
        if (load(to->life) == GREEN__NEW)
            start(to);
        store(self->current, to);
        return enter(self, me, to, value);
    }
    green__collect_abandoned(self);
    return move(self, me, to, (struct parcel){.value = value});
}

void *green__layer_switch(green_t *to, void *value)
{
    struct green__thread *self = green__self;
    green_t *me = load(self->current);
    me->kept |= GREEN__KEPT_WAITING;
    store(me->enter, GREEN__TAG_CLOSED);
    /* The call tag also shows that there are no exceptions to be looked at. */
    if (LIKELY(green__call_tag(self) == load(self->id) && load(to->life) == GREEN__STARTED)) {
        store(self->current, to);
        value = green__arch_switch(&me->sp, to->sp, value);
    } else {
        value = layer_switch_slowly(self, me, to, value);
    }
    if (LIKELY(!(me->kept & GREEN__KEPT_HUB))) {
        me->kept &= (unsigned char)~GREEN__KEPT_WAITING;
        store(me->enter, load(me->owner));
    }
    return value;
}

int green__layer_go_long(green_t *to, void *value)
{
    struct green__thread *self = green__self;
    green_t *me = load(self->current);
    me->kept |= GREEN__KEPT_WAITING;
    store(me->enter, GREEN__TAG_CLOSED);
    if (UNLIKELY(green__call_tag(self) != load(self->id)))
        return (int)(intptr_t)layer_switch_slowly(self, me, to, value);
    if (load(to->life) == GREEN__NEW)
        start(to);
    store(self->current, to);
    return green__arch_switch_int(&me->sp, to->sp, value);
}

int green__cancel(struct green__thread *self, green_t *g, bool release)
{
    green_t *me = load(self->current);
    struct green__freeing call = {.green = g};
    bool detached = g->detached;

    /*
     * If g waits in such a call itself, that is about to end, by this error.  Whom
     * it frees must not have it as a stand-in meanwhile: if that is us, or stands in
     * for us, there would be a circle.
     */
    green__stop_freeing(g);
    green__set_stand_in(g, me);
    me->freeing = &call;
    void *value = move(self, me, g, (struct parcel){.error = ECANCELED});
    int error = value == GREEN_FAILED ? errno : EBUSY;
    me->freeing = NULL;

    if (call.green != NULL && !(call.died && detached))
        green__set_stand_in(g, NULL);
    if (call.died) {
        if (release && !detached)
            green__release(g);
        return 0;
    }
    return green__refuse(error);
}

/* ---- Death ---------------------------------------------------------------------- */

/* Its stack is offered while we stand on it; one that was lent is not, where a tool would mind. */
static inline void give_up(struct green__thread *self, green_t *me)
{
    if (UNLIKELY(self->stacks.watched) && !self->sanitized && me->stack.slot == NULL) {
        self->tools.lent = me->stack;
        self->tools.lent_valgrind = me->valgrind;
        me->stack = (struct green__stack){0};
    } else {
        green__stack_put(&self->stacks, &me->stack, me->valgrind);
    }
    self->tools.dead = me->fiber;
}

/* Where on a suspended stack another frame can be put. */
static void *below(const void *sp)
{
    return (void *)(((uintptr_t)sp - GREEN__ARCH_RED_ZONE) & ~(uintptr_t)15);
}

/* Runs below the frames of who goes on, when the lent stack is left. */
static _Noreturn GREEN__NO_ASAN void give_back(void *value)
{
    struct green__thread *self = green__self;
    green__stack_put(&self->stacks, &self->tools.lent, self->tools.lent_valgrind);
    green__arch_jump(load(self->current)->sp, value);
}

/*
 * Lets go of the fake stack that ASan would have its variables on.  first is where me
 * was started, if it still has the frames that it had then; NULL: not known.
 */
static _Noreturn GREEN__NO_ASAN void die(struct green__thread *self, green_t *me, void *first)
{
    struct parcel parcel = {me->result, me->error};
    if (parcel.error == ECANCELED)
        parcel = (struct parcel){0};
    green__collect_abandoned(self);
    green_t *to = green__parent(me);
    if (me->stand_in != NULL)
        me->stand_in->freeing->died = true;
    green__set_life(me, GREEN__DEAD);
    if (me->locals != NULL)
        green__local_drop(me);
    if (UNLIKELY(me->kept != 0))
        green__layer_dead(self, me, me->result, me->error);
    to = deliver(self, me, to, &parcel);
    if (me->sp != first) /* it was left meanwhile */
        first = NULL;

    /* From here on nothing may ask for a stack: ours is offered while we stand on it. */
    if (me->detached) {
        green__arch_disown(green__base(me));
        give_up(self, me);
        green__set_stand_in(me, NULL);
        green__release(me);
    } else {
        give_up(self, me);
    }
    void *value;
    green_t *next = NULL;
    if (to->kept & GREEN__KEPT_HUB && load(self->tag) == load(self->id))
        next = green__layer_next(self, &value);
    if (next != NULL) {
        to = next;
        if (load(to->life) == GREEN__NEW)
            start(to);
        store(self->current, to);
    }
    green__leave(self, NULL, to);
    if (next == NULL)
        value = unpack_for(self, to, parcel); /* errno at last */
    if (UNLIKELY(self->has_cxx))
        green__fetch_exceptions(self, to);
    void *target = to->sp;
    if (UNLIKELY(self->tools.lent.low != NULL))
        target = green__arch_first(below(target), give_back, NULL);
    if (first != NULL)
        green__arch_end(first, target, value);
    green__arch_jump(target, value);
}

/*
 * The same in a few steps for most, which leave a value to a parent that waits and
 * hold nothing.  Comes back if it is another death.
 */
static inline GREEN__NO_ASAN void die_plainly(struct green__thread *self, green_t *me, void *first,
                                              void *value)
{
    green_t *to = me->parent;
    uintptr_t held = (uintptr_t)me->deferred | (uintptr_t)me->locals |
                     (uintptr_t)me->stand_in | (uintptr_t)me->layer;
    if (UNLIKELY(held != 0 || me->detached || self->stacks.watched || !is_open(self, to)))
        return;
    green__change_life(me, GREEN__STARTED, GREEN__DEAD);
    store(self->current, to);
    if (UNLIKELY(!green__stack_put_warm(&self->stacks, &me->stack)))
        green__stack_put(&self->stacks, &me->stack, me->valgrind);
    if (LIKELY(me->sp == first)) /* it was never left */
        green__arch_end(first, to->sp, value);
    green__arch_jump(to->sp, value);
}

/* The same for a green that a layer has marked as plain: whoever the layer says is next. */
static __attribute__((noinline)) GREEN__NO_ASAN void
die_in_layer(struct green__thread *self, green_t *me, void *first, void *value)
{
    uintptr_t held = (uintptr_t)me->deferred | (uintptr_t)me->locals | (uintptr_t)me->stand_in;
    if (UNLIKELY(held != 0 || self->stacks.watched || load(self->tag) != load(self->id)))
        return;
    green_t *to = green__layer_done(self, me, &value);
    if (UNLIKELY(to == NULL))
        return;
    me->kept &= (unsigned char)~GREEN__KEPT_PLAIN;
    me->layer = NULL;
    green__change_life(me, GREEN__STARTED, GREEN__DEAD);
    if (load(to->life) == GREEN__NEW)
        start(to);
    store(self->current, to);
    if (UNLIKELY(self->has_cxx))
        green__fetch_exceptions(self, to);
    if (UNLIKELY(!green__stack_put_warm(&self->stacks, &me->stack))) {
        int error = errno;
        green__stack_put(&self->stacks, &me->stack, me->valgrind);
        errno = error;
    }
    if (LIKELY(me->sp == first))
        green__arch_end(first, to->sp, value);
    green__arch_jump(to->sp, value);
}

/* Runs what is to run at the end of the current green, and ends it. */
static _Noreturn GREEN__NO_ASAN void finish(void *first)
{
    struct green__thread *self = green__self;
    green_t *me = load(self->current);
    while (UNLIKELY(me->deferred != NULL || me->locals != NULL) &&
           green__clean_up_one(self, me)) {
    }
    die(self, me, first);
}

static _Noreturn GREEN__NO_ASAN void body(void *value)
{
    struct green__thread *self = green__self;
    green_t *me = load(self->current);
    void *first = me->sp;
    green__arrive(self, me);
    green__passes();
    value = me->run(value);
    if (LIKELY(value != GREEN_FAILED)) {
        die_plainly(self, me, first, value);
        if (me->kept & GREEN__KEPT_PLAIN)
            die_in_layer(self, me, first, value);
    }
    green__set_result(me, value);
    if (UNLIKELY(me->layer != NULL))
        green__layer_leave(self, me, true);
    finish(first);
}

void green__leave_frames(struct green__thread *self, green_t *me)
{
    if (self->has_cxx)
        green__end_handlers(self, NULL);
    green__memory_clean(me->stack.low, me->stack.size);
    green__arch_jump(green__arch_first(green__base(me), finish, me), NULL);
}
