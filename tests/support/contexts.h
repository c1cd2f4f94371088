/* SPDX-License-Identifier: MIT */
#ifndef CONTEXTS_H
#define CONTEXTS_H
/* A program may leave a stack for another, by means of its own: musl has none. */
#include "testing.h"

#ifdef __GLIBC__
#include <ucontext.h>
#define HAS_CONTEXTS 1

struct visit {
    ucontext_t from, to;
    void (*fn)(void *);
    void *arg;
};

static struct visit *visit_begins; /* makecontext() passes no pointer */

static void visit_other_stack(void)
{
    struct visit *visit = visit_begins;
    visit->fn(visit->arg);
}

/* Calls fn with the stack pointer there.  It may wait, but not leave for good. */
static inline void on_stack(void *stack, size_t size, void (*fn)(void *), void *arg)
{
    struct visit visit = {.fn = fn, .arg = arg};
    must(getcontext(&visit.to) == 0);
    visit.to.uc_stack.ss_sp = stack;
    visit.to.uc_stack.ss_size = size;
    visit.to.uc_link = &visit.from;
    makecontext(&visit.to, visit_other_stack, 0);
    visit_begins = &visit;
    must(swapcontext(&visit.from, &visit.to) == 0);
}
#else
#define HAS_CONTEXTS 0
static inline void on_stack(void *stack, size_t size, void (*fn)(void *), void *arg)
{
    (void)stack, (void)size;
    fn(arg);
}
#endif

#endif
