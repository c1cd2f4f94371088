/* SPDX-License-Identifier: MIT */
/* Deferred functions, key values, and the calls of what cleans up. */
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "core/cleanup.h"
#include "core/runtime.h"

/* A call of a deferred function or a destructor, on the stack. */
struct green__clean_up {
    jmp_buf back;
    struct green__clean_up *outer;      /* that in which it was made */
    uint64_t number;         /* in its green, from 1 */
    const char *frame;       /* the stack pointer where it was made, see green__run_due() */
    uintptr_t exceptions[2]; /* as they were before */
};

/*
 * longjmp() itself.  With _FORTIFY_SOURCE <setjmp.h> makes of that name a call that aborts
 * if it leads to a lower address, as it may from another stack.
 */
_Noreturn void green__jump_back(jmp_buf back, int value) __asm__("longjmp")
    __attribute__((visibility("default")));

struct green__ending *green__ending_begin(green_t *me)
{
    struct green__ending *ending = green__ending_of(me);
    if (!me->has_ending) {
        ending->call = NULL;
        ending->calls = 0;
    }
    me->has_ending = true;
    return ending;
}

/* ---- Deferred functions ---------------------------------------------------------- */

bool green__defer_take(green_t *g, struct green__due *due)
{
    struct green__deferred *innermost = g->deferred;
    if (innermost == NULL)
        return false;
    *due = (struct green__due){innermost->fn, innermost->arg};
    g->deferred = innermost->outer;
    free(innermost);
    return true;
}

/*
 * Whether the innermost deferred function was given during a call, unless that
 * is 0, and from a frame below a stack pointer.
 */
static bool is_due(const green_t *g, uint64_t call, const char *sp)
{
    const struct green__deferred *innermost = g->deferred;
    if (innermost == NULL || (call != 0 && innermost->call != call))
        return false;
    /* Inside a green a program may have left its stack for another: that is left first. */
    bool on_own = green__stack_has(&g->stack, innermost->sp);
    if (on_own != green__stack_has(&g->stack, sp))
        return !on_own;
    return innermost->sp < sp;
}

void green__defer_drop(green_t *g)
{
    struct green__due due;
    while (green__defer_take(g, &due)) {
    }
}

/* ---- Key values ------------------------------------------------------------------ */

#define ROUNDS 4 /* as PTHREAD_DESTRUCTOR_ITERATIONS */

struct green__key green__keys[GREEN__KEYS];

/* The destructor that waits for a value, or NULL. */
static void (*destructor_of(green_key_t key, const struct green__value *value))(void *)
{
    void (*destructor)(void *) = NULL;
    green__lock();
    if (value->serial == load(green__keys[key].serial))
        destructor = green__keys[key].destructor;
    green__unlock();
    return destructor;
}

bool green__local_take(green_t *g, struct green__due *due)
{
    struct green__locals *locals = g->locals;
    while (locals != NULL && locals->round < ROUNDS) {
        while (locals->next < locals->count) {
            green_key_t key = locals->next++;
            struct green__value *value = &locals->values[key];
            void *pointer = value->pointer;
            void (*destructor)(void *) = pointer != NULL ? destructor_of(key, value) : NULL;
            if (destructor != NULL) {
                locals->any = true;
                value->pointer = NULL;
                *due = (struct green__due){destructor, pointer};
                return true;
            }
        }
        locals->round = locals->any ? locals->round + 1 : ROUNDS;
        locals->next = 0;
        locals->any = false;
    }
    return false;
}

void green__local_rewind(green_t *g)
{
    if (g->locals != NULL)
        g->locals->round = g->locals->next = 0;
}

void green__local_drop(green_t *g)
{
    free(g->locals);
    g->locals = NULL;
}

/* ---- Calls that can be left ------------------------------------------------------ */

static void begin(struct green__thread *self, struct green__ending *ending, struct green__clean_up *call)
{
    call->number = ++ending->calls;
    if (self->has_cxx)
        memcpy(call->exceptions, self->exceptions, sizeof call->exceptions);
    call->outer = ending->call;
    ending->call = call;
}

/* The stack pointer of the function that calls it, at the call. */
static __attribute__((noinline)) const char *callers_sp(void)
{
    __asm__ volatile("");
    return __builtin_dwarf_cfa();
}

__attribute__((noinline)) void green__run_due(const struct green__due *due, const char **frame)
{
    if (frame != NULL)
        *frame = callers_sp();
    green__passes();
    due->fn(due->arg);
    __asm__ volatile(""); /* no jump to it, which would take this frame away before */
}

GREEN__NO_ASAN bool green__clean_up_one(struct green__thread *self, green_t *me)
{
    struct green__ending *ending = green__ending_begin(me);
    struct green__clean_up call;
    struct green__due due;
    if (!green__defer_take(me, &due) && !green__local_take(me, &due))
        return false;
    begin(self, ending, &call);
    if (_setjmp(call.back) == 0)
        green__run_due(&due, &call.frame);
    ending->call = call.outer;
    return true;
}

uint64_t green__clean_up_call(const green_t *me)
{
    const struct green__clean_up *call = me->has_ending ? green__ending_of(me)->call : NULL;
    return call != NULL ? call->number : 0;
}

GREEN__NO_ASAN void green__clean_up_frame(struct green__thread *self, green_t *me, const char *sp)
{
    struct green__ending *ending = green__ending_of(me);
    while (is_due(me, green__clean_up_call(me), sp)) {
        struct green__clean_up call;
        struct green__due due;
        green__defer_take(me, &due);
        begin(self, ending, &call);
        if (_setjmp(call.back) == 0)
            green__run_due(&due, &call.frame);
        ending->call = call.outer;
    }
}

bool green__clean_up_is_left(const green_t *me, const char *sp)
{
    const struct green__clean_up *call = green__ending_of(me)->call;
    return call != NULL && sp >= call->frame;
}

void green__clean_up_leave(struct green__thread *self, green_t *me)
{
    struct green__clean_up *call = green__ending_begin(me)->call;
    if (call == NULL)
        return;
    if (self->has_cxx)
        green__end_handlers(self, call->exceptions);
    green__memory_clean(me->stack.low, me->stack.size);
    green__jump_back(call->back, 1);
}
