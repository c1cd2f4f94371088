/* SPDX-License-Identifier: MIT */
/*
 * What unwinding does at the entry of a green, where it leaves the green's frames
 * for those of an ancestor (see "How a stack is unwound" in arch/arch.h).
 *
 * The unwinder is the program's, if it has one: in C++ programs, and wherever
 * something was compiled with -fexceptions.  The library asks for none.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <unwind.h>

#include "arch/arch.h"
#include "core.h"

/* Bytes 1 to 3 of the class of all C++ exceptions, whose last two are the vendor's. */
#define CLASS_CXX ((uint64_t)('C' << 16 | '+' << 8 | '+'))

static void say_what_left(const green_t *g)
{
    if (g == NULL)
        return;
    const char *name = g->name != NULL ? g->name : "";
    const char *quote = g->name != NULL ? "\"" : "";
    dprintf(STDERR_FILENO, "libgreen: an exception left the body of green %s%s%s%s%p%s\n", quote,
            name, quote, g->name != NULL ? " (" : "", (const void *)g, g->name != NULL ? ")" : "");
}

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
    if (actions & _UA_FORCE_UNWIND)
        return _URC_CONTINUE_UNWIND;
    say_what_left(load(green__self->current));
    if ((exception_class >> 8 & 0xffffff) != CLASS_CXX)
        abort();
    return _URC_FATAL_PHASE1_ERROR;
}
