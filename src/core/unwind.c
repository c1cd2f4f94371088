/* SPDX-License-Identifier: MIT */
/*
 * How frames are left: by unwinding where there is an unwinder, which cleans up
 * in each of them, else at once.  And what unwinding does at the entry of a
 * green, where it would go on to the frames of an ancestor (see "How a stack is
 * unwound" in arch/arch.h).
 *
 * The unwinder is the program's, or one that is loaded for it: see runtime.c.
 */
#define _GNU_SOURCE /* syscall */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <unwind.h>

#include "arch/arch.h"
#include "core/core.h"
#include "quiet.h"
#include "core/runtime.h"

/* A call of a deferred function or a destructor, on the stack. */
struct call {
    jmp_buf back;
    struct call *outer;      /* that in which it was made */
    uint64_t number;         /* in its green, from 1 */
    const char *frame;       /* the stack pointer where it was made, see green__run_due() */
    uintptr_t exceptions[2]; /* as they were before */
};

/*
 * What is kept above the first frame, as frames are being overwritten while they
 * are left.  Nothing is there unless the green is cleaning.
 */
struct ending {
    uintptr_t cxx_header[10]; /* zero: what C++ runtimes look at before an exception, by mistake */
    struct _Unwind_Exception exception;
    struct call *call; /* the innermost, or NULL */
    uint64_t calls;    /* there have been */
};
_Static_assert(sizeof(struct ending) <= GREEN__ENDING_SIZE, "");
_Static_assert(GREEN__ENDING_SIZE % 16 == 0, "what is below it is aligned, too");

static struct ending *ending_of(const green_t *g)
{
    return (struct ending *)green__base(g);
}

static struct ending *begin_ending(green_t *me)
{
    struct ending *ending = ending_of(me);
    if (!me->cleaning) {
        ending->call = NULL;
        ending->calls = 0;
    }
    me->cleaning = true;
    return ending;
}

/* `libgreen: ` and a sentence about a green, on stderr. */
static void say(const char *what, const green_t *g)
{
    char line[160];
    int n = g->name != NULL
        ? snprintf(line, sizeof line, "libgreen: %s green \"%s\" (%p)", what, g->name,
                   (const void *)g)
        : snprintf(line, sizeof line, "libgreen: %s green %p", what, (const void *)g);
    for (int i = 0; i < n; i++)
        line[i] = green__printed(line[i]);
    line[n] = '\n'; /* in place of the end */
    green__write(STDERR_FILENO, line, (size_t)n + 1);
}

/* ---- Calls that can be left ------------------------------------------------------ */

static void begin(struct green__thread *self, struct ending *ending, struct call *call)
{
    call->number = ++ending->calls;
    if (self->has_cxx)
        memcpy(call->exceptions, self->exceptions, sizeof call->exceptions);
    call->outer = ending->call;
    ending->call = call;
}

/* Goes back to where the innermost call was made. */
static _Noreturn void leave_call(struct green__thread *self, green_t *me, struct call *call)
{
    if (self->has_cxx)
        green__end_handlers(self, call->exceptions);
    green__memory_clean(me->stack.low, me->stack.size);
    longjmp(call->back, 1);
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
    struct ending *ending = begin_ending(me);
    struct call call;
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
    const struct call *call = me->cleaning ? ending_of(me)->call : NULL;
    return call != NULL ? call->number : 0;
}

/* ---- Unwinding -------------------------------------------------------------------- */

/*
 * The deferred functions that are due when a frame is reached: those given from
 * frames that have been left.  Whoever gave them comes before who had called him.
 */
static GREEN__NO_ASAN void run_due(struct green__thread *self, green_t *me,
                                   struct ending *ending, const char *sp)
{
    while (green__defer_is_due(me, green__clean_up_call(me), sp)) {
        struct call call;
        struct green__due due;
        green__defer_take(me, &due);
        begin(self, ending, &call);
        if (_setjmp(call.back) == 0)
            green__run_due(&due, &call.frame);
        ending->call = call.outer;
    }
}

static _Noreturn void leave_at_once(struct green__thread *self, green_t *me)
{
    struct call *call = begin_ending(me)->call;
    if (call != NULL)
        leave_call(self, me, call);
    green__leave_frames(self, me);
}

static bool is_entry(struct _Unwind_Context *context)
{
    uintptr_t pc = green__unwinder()->get_ip(context);
    return pc == (uintptr_t)green__arch_entry_called;
}

/* Asked at each frame before it is cleaned up in: the last is that of the entry, or of a call. */
static _Unwind_Reason_Code stop(int version, _Unwind_Action actions,
                                _Unwind_Exception_Class exception_class,
                                struct _Unwind_Exception *exception,
                                struct _Unwind_Context *context, void *arg)
{
    struct green__thread *self = green__self;
    green_t *me = arg;
    struct ending *ending = ending_of(me);
    const char *sp = (const char *)green__unwinder()->get_cfa(context);
    (void)version;
    (void)exception_class;
    (void)exception;
    if ((actions & _UA_END_OF_STACK) || is_entry(context) ||
        (ending->call != NULL && sp >= ending->call->frame))
        leave_at_once(self, me);
    run_due(self, me, ending, sp);
    return _URC_NO_REASON;
}

/* Called where a catch (...) ends that has not thrown it on, if only for another green_exit(). */
static void swallowed(_Unwind_Reason_Code reason, struct _Unwind_Exception *exception)
{
    (void)reason;
    (void)exception;
    say("catch (...) did not throw on what ends", load(green__self->current));
    abort();
}

void green__unwind(struct green__thread *self, green_t *me)
{
    const struct green__unwinder *unwinder = green__unwinder();
    struct ending *ending = begin_ending(me);
    if (unwinder != NULL) {
        memset(ending->cxx_header, 0, sizeof ending->cxx_header);
        ending->exception = (struct _Unwind_Exception){.exception_cleanup = swallowed};
        green__memory_clean(me->stack.low, me->stack.size);
        (void)unwinder->forced_unwind(&ending->exception, stop, me); /* it cannot, if it comes back */
    }
    leave_at_once(self, me);
}

/* ---- The entry --------------------------------------------------------------------- */

/* Bytes 1 to 3 of the class of all C++ exceptions; the last is the vendor's. */
#define CLASS_CXX ((uint64_t)('C' << 16 | '+' << 8 | '+'))

/*
 * An exception must not go on to the ancestor, which has not called what threw
 * it: it stops the program, with all frames in place.  A C++ runtime is told
 * that nobody wants the exception, and calls std::terminate() where it is
 * thrown; what others do is not known, so they do not get to do it.  Forced
 * unwinding, as by pthread_exit(), passes through.
 */
int green__arch_personality(int version, int actions, uint64_t exception_class, void *exception,
                            void *context)
{
    (void)exception;
    (void)context;
    if (version != 1)
        return _URC_FATAL_PHASE1_ERROR;
    if (actions & _UA_FORCE_UNWIND) {
        green__left_by_unwinding(green__self);
        return _URC_CONTINUE_UNWIND;
    }
    say("an exception left the body of", green__running(green__settled()));
    if ((exception_class >> 8 & 0xffffff) != CLASS_CXX)
        abort();
    return _URC_FATAL_PHASE1_ERROR;
}
