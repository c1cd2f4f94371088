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
#define _GNU_SOURCE /* syscall */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arch/arch.h"
#include "core/core.h"
#include "quiet.h"
#include "core/runtime.h"

/* What a green is entered with: an errno if that is not 0, else a value. */
struct parcel {
    void *value;
    int error;
};

/* ---- Entering ---------------------------------------------------------------- */

/*
 * Each green has exceptions of its own: those being handled, in C++ programs.
 * green_fast.h neither keeps nor fetches them.  So whoever waits while handling
 * some is closed to every fast path, and all others have none.
 */
static void put_exceptions_away(struct green__thread *self, green_t *me)
{
    memcpy(me->exceptions, self->exceptions, sizeof me->exceptions);
    if ((me->exceptions[0] | me->exceptions[1]) != 0)
        store(me->enter, GREEN__TAG_CLOSED);
}

static void fetch_exceptions(struct green__thread *self, green_t *to)
{
    memcpy(self->exceptions, to->exceptions, sizeof to->exceptions);
    if ((to->exceptions[0] | to->exceptions[1]) != 0) {
        memset(to->exceptions, 0, sizeof to->exceptions);
        store(to->enter, load(to->owner));
    }
}

void green__end_handlers(struct green__thread *self, const uintptr_t once[2])
{
    static const uintptr_t none[2];
    uintptr_t caught;
    if (once == NULL)
        once = none;
    while (memcpy(&caught, self->exceptions, sizeof caught), caught != once[0] && caught != 0) {
        if (!green__end_catch())
            break;
    }
    memcpy(self->exceptions, once, sizeof none);
}

#define ALWAYS_INLINE inline __attribute__((always_inline))

/*
 * Leaves me for to, which is current already; returns what me is entered with.
 * In line, as ThreadSanitizer counts the functions that are entered after
 * leave() as the other's, and those that are left afterwards as ours.
 */
static ALWAYS_INLINE GREEN__MOVES void *enter(struct green__thread *self, green_t *me, green_t *to,
                                       void *value)
{
    if (UNLIKELY(self->has_cxx)) {
        put_exceptions_away(self, me);
        fetch_exceptions(self, to);
    }
    return green__arch_switch(&me->sp, to->sp, value);
}

/* ---- Sanitizers: told before and after every switch ------------------------------- */

/* from is NULL if that green ends. */
static ALWAYS_INLINE void leave(struct green__thread *self, green_t *from, green_t *to)
{
    if (LIKELY(!self->sanitized))
        return;
    self->left_main = from != NULL && from->is_main;
    if (to->is_main)
        green__fiber_leave(from != NULL ? &from->fiber : NULL, &to->fiber, self->main_low,
                           self->main_size);
    else
        green__fiber_leave(from != NULL ? &from->fiber : NULL, &to->fiber, to->stack.low,
                           to->stack.size);
}

static size_t size_of_mains_frames(const struct green__thread *self)
{
    return (size_t)((const char *)self->main_low + self->main_size - self->main_waits);
}

/*
 * Not for ASan, as it is put into functions that are not: gcc has the variables poisoned
 * at the end of their block all the same, and nobody to unpoison them at the function's.
 */
static ALWAYS_INLINE GREEN__NO_ASAN void arrive(struct green__thread *self, green_t *me)
{
    if (LIKELY(!self->sanitized))
        return;
    int error = errno;
    const void *low = NULL;
    size_t size = 0;
    green__fiber_arrive(&me->fiber, &low, &size);
    if (self->left_main && low != NULL) {
        self->main_low = low;
        self->main_size = size;
        bool on_own = (uintptr_t)self->main.sp - (uintptr_t)low < size;
        self->main_waits = on_own ? self->main.sp : low; /* else any of it may be used */
        green__roots_begin(self->main_waits, size_of_mains_frames(self));
    } else if (me->is_main && self->main_waits != NULL) {
        green__roots_end(self->main_waits, size_of_mains_frames(self));
        self->main_waits = NULL;
    }
    green__fiber_end(&self->dead);
    errno = error;
}

/* Of a stack that will not be entered again. */
static void drop_fiber(struct green__thread *self, struct green__fiber *fiber)
{
    green_t *me = load(self->current);
    green__fiber_drop(fiber, me->is_main ? self->main_low : me->stack.low,
                      me->is_main ? self->main_size : me->stack.size);
}

void green__forget(struct green__thread *self, green_t *g)
{
    drop_fiber(self, &g->fiber);
}

void green__return_to_main(struct green__thread *self)
{
    green_t *me = load(self->current);
    if (me != &self->main) {
        leave(self, me, &self->main);
        store(self->current, &self->main);
        arrive(self, &self->main);
        green__memory_clean(self->main_low, self->main_size);
    }
    drop_fiber(self, &self->unwound);
}

/* The nearest ancestor that is started, to whose frames unwinding goes on: see arch.h. */
static green_t *unwinding_target(const green_t *g)
{
    green_t *target = g->parent;
    while (load(target->life) != GREEN__STARTED)
        target = target->parent;
    return target;
}

green_t *green__current_when_settled(const struct green__thread *self)
{
    green_t *g = load(self->current);
    while (g != NULL && g->left)
        g = unwinding_target(g);
    return g;
}

/* The calls that a green waits in will not come back. */
static void end_calls(struct green__thread *self, green_t *g)
{
    green__stop_freeing(g);
    g->freeing = NULL;
    if (g->is_main && self->ending)
        green__thread_end_is_left(self);
}

void green__left_by_unwinding(struct green__thread *self)
{
    green_t *g = load(self->current);
    while (g != NULL && g->left)
        g = unwinding_target(g);
    if (g == NULL || g->is_main || self->looking != 0)
        return;
    green__collect_abandoned(self); /* nothing of these runs, clean-up neither */
    green_t *to = unwinding_target(g);
    g->left = true;
    atomic_fetch_or(&self->unsettled, GREEN__UNSETTLED_LEFT);
    green__thread_set_tag(self);
    end_calls(self, to); /* as long as its frames are there */
    if (self->has_cxx)
        fetch_exceptions(self, to); /* what is cleaned up there ends its handlers */
    if (self->sanitized) { /* nobody else tells it that the ancestor's frames are being left */
        green__memory_clean(to->is_main ? self->main_low : to->stack.low,
                            to->is_main ? self->main_size : to->stack.size);
    }
}

/*
 * To a sanitizer the first of those that were left has run until now: the clean-up
 * that asks has its variables on that one's fake stack, which stays until there is
 * the next.
 */
GREEN__NO_ASAN void green__settle_thread(struct green__thread *self)
{
    if (load(self->unsettled) & GREEN__UNSETTLED_CXX)
        green__runtime_settle(self);
    if (LIKELY(!(load(self->unsettled) & GREEN__UNSETTLED_LEFT)))
        return;
    green_t *g = load(self->current), *to = green__current_when_settled(self);
    leave(self, g, to);
    store(self->current, to);
    arrive(self, to);
    drop_fiber(self, &self->unwound);
    self->unwound = g->fiber;
    g->fiber = (struct green__fiber){0};
    while (g != to) {
        green_t *next = unwinding_target(g);
        if (g->stand_in != NULL) { /* that call may come back, if its green is entered */
            g->stand_in->freeing->died = g->detached; /* else the handle is not gone */
            green__stop_freeing(g->stand_in);
        }
        green__bury(self, g);
        if (g->detached)
            green__release(g);
        g = next;
    }
    atomic_fetch_and(&self->unsettled, (unsigned char)~GREEN__UNSETTLED_LEFT);
    green__thread_set_tag(self);
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

static ALWAYS_INLINE void start(green_t *g)
{
    g->sp = green__arch_first(green__base(g), body, g);
    atomic_signal_fence(memory_order_release); /* a profiler's signal may unwind through it */
    green__change_life(g, GREEN__NEW, GREEN__STARTED);
}

/*
 * Finds who is to be entered with a parcel for to, and makes it current.  A DEAD
 * green stands for its parent; a NEW one starts, or, given an error, dies of it
 * unrun and passes it on.  from is who the parcel comes from, for the hook.
 */
static ALWAYS_INLINE green_t *deliver(struct green__thread *self, green_t *from, green_t *to,
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
            green__trace(self, parcel->error != 0 ? GREEN_TRACE_THROW : GREEN_TRACE_SWITCH, from,
                         to);
        if (UNLIKELY(unrun != NULL))
            green__release(unrun);
        if (LIKELY(!is_new || parcel->error == 0)) {
            self->runs = NULL;
            return to;
        }

        green__bury(self, to);
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
        return enter(self, me, to, unpack(parcel));
    leave(self, me, to);
    void *value = enter(self, me, to, unpack(parcel));
    arrive(self, me);
    return value;
}

/* ---- The calls ------------------------------------------------------------------ */

/* Whether a user may enter g, or who it stands for. */
static bool may_enter(green_t *g)
{
    while (load(g->life) == GREEN__DEAD)
        g = green__parent(g);
    bool is_new = load(g->life) == GREEN__NEW;
    return green__is_free_of(g, GREEN__KEPT_WAITING | GREEN__KEPT_HUB |
                                    (is_new ? GREEN__KEPT_OWNED : 0));
}

static __attribute__((noinline)) GREEN__MOVES void *switch_by_all_rules(green_t *g, void *value)
{
    struct green__thread *self = green__settled();
    if (value == GREEN_FAILED) {
        errno = EINVAL;
        return GREEN_FAILED;
    }
    if (!green__may_change(self, g))
        return GREEN_FAILED;
    green__collect_abandoned(self);
    if (!may_enter(g))
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

/* The first into a green of ours, with nobody to be told: both are shown by the tag. */
void *green__switch_slowly(green_t *g, void *value)
{
    struct green__thread *self = green__self;
    if (LIKELY(g != NULL && value != GREEN_FAILED && load(g->owner) == load(self->tag) &&
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
 * the thread, and no exceptions are being handled.  Those of who is open are none.
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
    struct green__thread *self = green__settled();
    green_t *me = load(self->current);
    if (me == NULL || me->is_main) {
        errno = self->ended && value != GREEN_FAILED ? EPERM : EINVAL;
        return GREEN_FAILED;
    }
    if (me->kept & GREEN__KEPT_OWNED && value != GREEN_FAILED && self->looking == 0)
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
    struct green__thread *self = green__settled();
    if (error < 0) {
        errno = EINVAL;
        return GREEN_FAILED;
    }
    if (!green__may_change(self, g))
        return GREEN_FAILED;
    green__collect_abandoned(self);
    if (!may_enter(g))
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
void *green__layer_switch(green_t *to, void *value)
{
    struct green__thread *self = green__self;
    green_t *me = load(self->current);
    me->kept |= GREEN__KEPT_WAITING;
    store(me->enter, GREEN__TAG_CLOSED);
    if (LIKELY(load(self->tag) == load(self->id))) {
        if (load(to->life) == GREEN__NEW)
            start(to);
        store(self->current, to);
        value = enter(self, me, to, value);
    } else {
        green__collect_abandoned(self);
        value = move(self, me, to, (struct parcel){.value = value});
    }
    if (LIKELY(!(me->kept & GREEN__KEPT_HUB))) {
        me->kept &= (unsigned char)~GREEN__KEPT_WAITING;
        store(me->enter, load(me->owner));
    }
    return value;
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
    g->stand_in = me;
    me->freeing = &call;
    void *value = move(self, me, g, (struct parcel){.error = ECANCELED});
    int error = value == GREEN_FAILED ? errno : EBUSY;
    me->freeing = NULL;

    if (call.green != NULL && !(call.died && detached))
        g->stand_in = NULL;
    if (call.died) {
        if (release && !detached)
            green__release(g);
        return 0;
    }
    errno = error;
    return -1;
}

/* ---- Death ---------------------------------------------------------------------- */

/* Its stack is offered while we stand on it; one that was lent is not, where a tool would mind. */
static inline void give_up(struct green__thread *self, green_t *me)
{
    if (UNLIKELY(self->stacks.watched) && !self->sanitized && me->stack.slot == NULL) {
        self->lent = me->stack;
        self->lent_valgrind = me->valgrind;
        me->stack = (struct green__stack){0};
    } else {
        green__stack_put(&self->stacks, &me->stack, me->valgrind);
    }
    self->dead = me->fiber;
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
    green__stack_put(&self->stacks, &self->lent, self->lent_valgrind);
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
        me->stand_in = NULL;
        green__release(me);
    } else {
        give_up(self, me);
    }
    leave(self, NULL, to);
    if (UNLIKELY(self->has_cxx))
        fetch_exceptions(self, to);
    void *target = to->sp;
    if (UNLIKELY(self->lent.low != NULL))
        target = green__arch_first(below(target), give_back, NULL);
    if (first != NULL)
        green__arch_end(first, target, unpack(parcel));
    green__arch_jump(target, unpack(parcel));
}

/*
 * The same in a few steps for most, which leave a value to a parent that waits, and
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

/* Runs what is to run at the end of the current green, and ends it. */
static _Noreturn GREEN__NO_ASAN void wind_up(void *first)
{
    struct green__thread *self = green__self;
    green_t *me = load(self->current);
    while (UNLIKELY(me->deferred != NULL || me->locals != NULL) &&
           green__clean_up_one(self, me)) {
    }
    die(self, me, first);
}

static void set_result(green_t *me, void *value)
{
    me->result = value;
    me->error = value != GREEN_FAILED ? 0 : errno > 0 ? errno : ECANCELED;
}

static _Noreturn GREEN__NO_ASAN void body(void *value)
{
    struct green__thread *self = green__self;
    green_t *me = load(self->current);
    void *first = me->sp;
    arrive(self, me);
    green__passes();
    value = me->run(value);
    if (LIKELY(value != GREEN_FAILED))
        die_plainly(self, me, first, value);
    set_result(me, value);
    if (UNLIKELY(me->layer != NULL))
        green__layer_leave(self, me, true);
    wind_up(first);
}

void green__leave_frames(struct green__thread *self, green_t *me)
{
    if (self->has_cxx)
        green__end_handlers(self, NULL);
    green__memory_clean(me->stack.low, me->stack.size);
    green__arch_jump(green__arch_first(green__base(me), wind_up, me), NULL);
}

void green_exit(void *value)
{
    green__runtime_look();
    struct green__thread *self = green__settled();
    green_t *me = load(self->current);
    if (me == NULL || me->is_main || self->looking != 0) {
        static const char sentence[] =
            "libgreen: green_exit() called on a main green, in a trace hook or in green_each()\n";
        green__write(STDERR_FILENO, sentence, sizeof sentence - 1);
        abort();
    }
    set_result(me, value);
    if (UNLIKELY(me->layer != NULL))
        green__layer_leave(self, me, false);
    green__unwind(self, me);
}
