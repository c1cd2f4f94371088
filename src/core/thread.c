/* SPDX-License-Identifier: MIT */
/*
 * A thread's state: made on first use, ended by a thread-specific destructor,
 * used again by a later thread.  Also fork.
 *
 * A thread that ends runs no code of its greens (rule 14): they become DEAD
 * where they stand.  That is why their owner must call green_thread_end() if
 * they hold anything.
 */
#define _GNU_SOURCE
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

#include "core/cleanup.h"
#include "core/family.h"
#include "core/layout.h"
#include "core/runtime.h"
#include "core/switch.h"
#include "core/thread.h"
#include "core/told.h"

static pthread_key_t end_key;                  /* under the lock while it is made */
static struct green__thread *spare;            /* of ended threads; under the lock */
static uint64_t last_id = GREEN__TAG_FIRST - 1; /* under the lock */

/* ---- The alternate signal stack ------------------------------------------- */

#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif

/* For the handler of overflows and for the one it hands on to, which may be a crash reporter. */
#define SIGNAL_STACK_ROOM ((size_t)64 << 10)

_Atomic(bool) green__signal_stacks;

static size_t signal_stack_size(void)
{
    size_t least = getauxval(AT_MINSIGSTKSZ), known = (size_t)MINSIGSTKSZ;
    return (least > known ? least : known) + SIGNAL_STACK_ROOM;
}

int green__signal_stack_begin(struct green__thread *self)
{
    if (!atomic_load_explicit(&green__signal_stacks, memory_order_acquire) || self->signal_stack != NULL)
        return 0;
    stack_t stack;
    if (sigaltstack(NULL, &stack) == 0 && !(stack.ss_flags & SS_DISABLE))
        return 0;
    size_t size = signal_stack_size();
    void *memory = green__stack_map(&size);
    stack = (stack_t){.ss_sp = memory, .ss_size = size};
    if (memory == NULL || sigaltstack(&stack, NULL) != 0) {
        if (memory != NULL)
            green__stack_unmap(memory, size);
        return green__refuse(ENOMEM);
    }
    self->signal_stack = memory;
    self->signal_stack_size = size;
    return 0;
}

/* It stays if the thread stands on it; and if it was replaced, so does the other. */
static void signal_stack_end(struct green__thread *self)
{
    if (self->signal_stack == NULL)
        return;
    stack_t stack;
    bool unused = sigaltstack(NULL, &stack) == 0;
    if (unused && !(stack.ss_flags & SS_DISABLE) && stack.ss_sp == self->signal_stack) {
        stack = (stack_t){.ss_flags = SS_DISABLE};
        unused = sigaltstack(&stack, NULL) == 0;
    }
    if (unused)
        green__stack_unmap(self->signal_stack, self->signal_stack_size);
    self->signal_stack = NULL;
}

/* ---- The end of a thread ------------------------------------------------- */

static void drop_greens(struct green__thread *self)
{
    green_t *main = &self->main;
    if (self->end.mark.next != NULL)
        green__thread_end_is_left(self); /* it has ended inside green_thread_end() */

    /* Calls of green_free() that wait, on stacks that are going or gone. */
    main->freeing = NULL;
    for (green_t *g = main->next; g != main; g = g->next) {
        g->freeing = NULL;
        green__set_stand_in(g, NULL);
    }
    green__release_abandoned(self, true);
    while (main->next != main) {
        green_t *g = main->next;
        green__end_unrun(self, g);
        if (g->detached)
            green__release(g);
    }
    green__defer_drop(main);
    green__local_drop(main);
}

/*
 * The thread-specific destructor.  Those of others may still want their greens,
 * so it has itself called once more, in the next round; not more often, as a
 * thread's first use may come in a late round, and the last is that of the
 * sanitizers.  And not at all if the thread ends in a green by pthread_exit() and
 * nothing has unwound to main: then nothing can be switched to any more, as main's
 * frames are being overwritten.
 */
static GREEN__NO_ASAN void end_thread(void *value)
{
    struct green__thread *self = value;
    green__settle_thread(self);
    if (self->layer != NULL)
        green__layer_thread_ends(self);
    if (load(self->current) == &self->main && !self->end.destructor_ran &&
        pthread_setspecific(end_key, self) == 0) {
        self->end.destructor_ran = true;
        return;
    }

    green__lock();
    green__return_to_main(self);
    drop_greens(self);
    green__collect_taken(self);
    green__drop_blocks(self);
    signal_stack_end(self);
    green__stack_drop(&self->stacks);

    /* A signal handler must not find a thread that seems unused. */
    green__self = &green__ended_thread;
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(&self->id, 0, memory_order_release);
    store(self->current, NULL);
    store(self->tag, GREEN__TAG_SLOW);
    __atomic_store_n(&self->call_tag, GREEN__TAG_SLOW, __ATOMIC_RELAXED);
    self->trace = NULL;
    self->trace_data = NULL;
    self->look_only = 0;
    self->runs = NULL;
    store(self->unsettled, 0);
    self->end = (struct green__end){0};
    self->next = spare;
    spare = self;
    green__unlock();
}

/* ---- The first use -------------------------------------------------------- */

static void lock_all(void)
{
    green__lock();
    green__stack_lock();
}

static void unlock_all(void)
{
    green__stack_unlock();
    green__unlock();
}

/* To Helgrind, which is there or not. */
static void tell_atomics(struct green__thread *self)
{
    green__atomics(&self->current, sizeof self->current + sizeof self->tag);
    green__atomics(&self->id, sizeof self->id);
    green__atomics(&self->stacks.warm, 2 * sizeof self->stacks.warm);
    green__atomics(&self->greens, sizeof self->greens);
    green__atomics(&self->with_taken, sizeof self->with_taken);
    green__atomics(&self->abandoned, sizeof self->abandoned);
    green__tell_atomics(&self->main);
}

/*
 * The locks are held over fork().  This is asked for without a lock: under one it would
 * wait for a fork that waits for the lock.  At the start, or before by who uses the
 * library earlier: a constructor, of a priority or in .preinit_array.
 */
static bool fork_handled;

static void handle_forks(void)
{
    tell_atomics(&green__unused_thread);
    tell_atomics(&green__ended_thread);
    fork_handled = pthread_atfork(lock_all, unlock_all, unlock_all) == 0;
}

static __attribute__((constructor(101))) void begin_process(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, handle_forks);
}

/* And a thread's end is noticed, for which programs that have no green need no key. */
static bool set_up_process(void)
{
    static bool key_made;
    if (!key_made)
        key_made = pthread_key_create(&end_key, end_thread) == 0;
    return key_made && fork_handled;
}

/* Makes the main green of a thread, whose memory may have been another's. */
static void init_main(green_t *main, struct green__thread *thread)
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

struct green__thread *green__thread_begin(void)
{
    struct green__thread *self = green__self;
    if (self->end.ended) {
        errno = EPERM;
        return NULL;
    }
    green__runtime_look();
    bool made = false;

    begin_process();
    green__lock();
    if (set_up_process()) {
        self = spare;
        if (self == NULL && (self = calloc(1, sizeof *self)) != NULL) {
            tell_atomics(self);
            self->next_made = green__threads;
            green__threads = self;
            spare = self;
        }
        if (self != NULL && pthread_setspecific(end_key, self) == 0) {
            spare = self->next;
            self->stacks.watched = GREEN__STRESS || green__is_watched();
            self->blocks.room = self->stacks.watched ? 0 : GREEN__SPARES;
            self->sanitized = green__is_sanitized();
            atomic_store_explicit(&self->id, ++last_id, memory_order_release);
            made = true;
        }
    }
    green__unlock();
    if (!made) {
        errno = ENOMEM;
        return NULL;
    }
    init_main(&self->main, self);
    green__fiber_begin(&self->main.fiber, true);
    store(self->current, &self->main);
    green__runtime_begin(self); /* one that comes from now on is told to this thread */
    green__layout_begin(self);
    green__self = self;
    green__thread_set_tag(self);
    (void)green__signal_stack_begin(self); /* without it overflows are silent, no more */
    return self;
}

green_t *green_current(void)
{
    if (UNLIKELY(load(green__self->unsettled) != 0))
        return green__current_when_settled(green__self);
    green_t *current = load(green__self->current);
    if (LIKELY(current != NULL))
        return current;
    struct green__thread *self = green__thread_need();
    return self != NULL ? &self->main : NULL;
}

green_t *green_main(void)
{
    struct green__thread *self = green__thread_need();
    return self != NULL ? &self->main : NULL;
}

/* ---- green_thread_end() ---------------------------------------------------- */

/* Moves g, a green of the list or the mark, before another. */
static void move_before(green_t *g, green_t *before)
{
    g->prev->next = g->next;
    g->next->prev = g->prev;
    g->next = before;
    g->prev = before->prev;
    g->prev->next = g;
    before->prev = g;
}

/*
 * The next to be ended, or NULL.  Another thread may abandon it until there is a stand-in:
 * unless somebody frees it already, main stands in, before the lock is given up.
 */
static green_t *next_to_end(struct green__thread *self)
{
    green_t *main = &self->main, *mark = &self->end.mark, *g = NULL;
    green__lock_collected(self);
    if (mark->next != main) {
        g = mark->next;
        while (g->stand_in != NULL && !g->stand_in->asked_to_end)
            g = g->stand_in; /* it is waiting for the others: it goes first */
        g->asked_to_end = true;
        move_before(g, mark);
        if (g->stand_in == NULL)
            green__set_stand_in(g, main);
    }
    green__unlock();
    return g;
}

/*
 * Ends the started greens that are not tried yet, oldest first.  A mark in their
 * list parts those that were tried and still live from the others; whatever is
 * started meanwhile joins the others.  False if one refused.
 */
static GREEN__MOVES bool end_greens(struct green__thread *self)
{
    bool all_died = true;
    for (green_t *g = next_to_end(self); g != NULL; g = next_to_end(self))
        if (g->stand_in != &self->main || green__cancel(self, g, false) != 0)
            all_died = false;
    return all_died;
}

int green_thread_end(void)
{
    struct green__thread *self = green__caller();
    if (!green__may_act(self))
        return -1;
    if (self == &green__unused_thread)
        return 0;
    green_t *main = &self->main;
    if (load(self->current) != main || self->end.in_thread_end)
        return green__refuse(EBUSY);
    if (!green__layer_may_end(self))
        return -1;
    self->end.in_thread_end = true;
    self->end.mark.next = self->end.mark.prev = &self->end.mark;
    move_before(&self->end.mark, main->next);
    bool all_died = true;
    struct green__due due;
    for (;;) {
        while (green__defer_take(main, &due))
            green__run_due(&due, NULL);
        all_died = end_greens(self) && all_died;
        if (!green__local_take(main, &due))
            break;
        green__run_due(&due, NULL);
    }
    green__local_rewind(main);
    green__thread_end_is_left(self);
    if (all_died)
        return 0;
    return green__refuse(EBUSY);
}
