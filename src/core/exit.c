/* SPDX-License-Identifier: MIT */
/*
 * green_exit(): frames are left by unwinding where there is an unwinder, which cleans
 * up in each of them, else at once.
 *
 * The unwinder is the program's, or one that is loaded for it: see runtime.c.
 */
#define _GNU_SOURCE /* syscall */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <unwind.h>

#include "core/cleanup.h"
#include "core/line.h"
#include "core/runtime.h"
#include "core/switch.h"
#include "core/told.h"
#include "core/unwind.h"
#include "quiet.h"

static _Noreturn void leave_at_once(struct green__thread *self, green_t *me)
{
    green__clean_up_leave(self, me);
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
    const char *sp = (const char *)green__unwinder()->get_cfa(context);
    (void)version;
    (void)exception_class;
    (void)exception;
    if ((actions & _UA_END_OF_STACK) || is_entry(context) ||
        green__clean_up_is_left(me, sp))
        leave_at_once(self, me);
    green__clean_up_frame(self, me, sp);
    return _URC_NO_REASON;
}

/* Called where a catch (...) ends that has not thrown it on, if only for another green_exit(). */
static void swallowed(_Unwind_Reason_Code reason, struct _Unwind_Exception *exception)
{
    (void)reason;
    (void)exception;
    green__say("catch (...) did not throw on what ends", load(green__self->current));
    abort();
}

/*
 * Leaves the current green's frames, or those of the deferred function or
 * destructor that runs, cleaning up in each if there is an unwinder.
 */
static _Noreturn void unwind(struct green__thread *self, green_t *me)
{
    const struct green__unwinder *unwinder = green__unwinder();
    struct green__ending *ending = green__ending_begin(me);
    if (unwinder != NULL) {
        memset(ending->cxx_header, 0, sizeof ending->cxx_header);
        ending->exception = (struct _Unwind_Exception){.exception_cleanup = swallowed};
        green__memory_clean(me->stack.low, me->stack.size);
        (void)unwinder->forced_unwind(&ending->exception, stop, me); /* it cannot, if it comes back */
    }
    leave_at_once(self, me);
}

void green_exit(void *value)
{
    int error = errno; /* of GREEN_FAILED */
    green__runtime_look();
    struct green__thread *self = green__caller();
    green_t *me = load(self->current);
    if (me == NULL || me->is_main || self->look_only != 0) {
        static const char sentence[] =
            "libgreen: green_exit() called on a main green, in a trace hook or in green_each()\n";
        green__write(STDERR_FILENO, sentence, sizeof sentence - 1);
        abort();
    }
    errno = error;
    green__set_result(me, value);
    if (UNLIKELY(me->layer != NULL))
        green__layer_leave(self, me, false);
    unwind(self, me);
}
