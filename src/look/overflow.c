/* SPDX-License-Identifier: MIT */
/*
 * An overflow that says its name: handlers for the faults that a guard causes.
 *
 * They run on an alternate stack, at any moment: they read what only their own
 * thread changes, write one line, and have the fault take the course it would
 * have taken without them.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "arch/arch.h"
#include "core/line.h"
#include "core/thread.h"
#include "quiet.h"

#ifndef BUS_MCEERR_AO
#define BUS_MCEERR_AO 5
#endif
#ifndef SEGV_MTEAERR
#define SEGV_MTEAERR 8
#endif

/*
 * How far from the stack pointer a fault may be an overflow, guards being smaller;
 * it spares those who handle other faults a look at each green.
 */
#define NEAR ((uintptr_t)1 << 20)

static const int signals[] = {SIGSEGV, SIGBUS};
#define SIGNALS (sizeof signals / sizeof signals[0])

static struct sigaction previous[SIGNALS]; /* written before a handler can read it */

/* ---- The fault ---------------------------------------------------------------- */

static void report(const green_t *g, uintptr_t fault, uintptr_t pc)
{
    struct green__line line;
    line.used = 0;
    green__line_text(&line, "libgreen: stack overflow in green ");
    green__line_green(&line, g);
    green__line_text(&line, ": ");
    green__line_number(&line, g->stack.size);
    green__line_text(&line, " bytes of stack, fault at ");
    green__line_address(&line, fault);
    green__line_text(&line, ", pc ");
    green__line_address(&line, pc);
    green__line_text(&line, "; raise options.stack_size");
    green__line_write(&line);
}

static bool hits_guard(const green_t *g, uintptr_t fault)
{
    if (g == NULL || g->stack.low == NULL)
        return false;
    return (uintptr_t)g->stack.low - fault - 1 < green__stack_guard(&g->stack);
}

/*
 * Who has overflowed, or NULL.  Mostly the current green; but who leaves its stack
 * uses some of it when the other is current already, and so does a trace hook.
 * Then it is among those whose stacks have frames, and stands on the stack whose
 * guard it hit.  Its thread's list can be followed at any moment: see
 * green__change_life().
 */
static const green_t *who_overflowed(struct green__thread *self, uintptr_t fault, uintptr_t sp)
{
    const green_t *g = load(self->current);
    if (hits_guard(g, fault))
        return g;
    if (fault - sp + NEAR > 2 * NEAR)
        return NULL;
    for (g = self->main.next; g != NULL && g != &self->main; g = g->next) {
        uintptr_t low = (uintptr_t)g->stack.low - green__stack_guard(&g->stack);
        if (hits_guard(g, fault) && sp - low <= (uintptr_t)green__stack_top(&g->stack) - low)
            return g;
    }
    return NULL;
}

/* Whether an instruction is at fault; else somebody has sent it, or the kernel tells of memory. */
static bool is_instructions(int number, const siginfo_t *info)
{
    return info->si_code > 0 &&
           info->si_code != (number == SIGBUS ? BUS_MCEERR_AO : SEGV_MTEAERR);
}

/*
 * The default action: the instruction will fault again, in its own context.  What
 * none caused must be sent again.
 */
static void default_action(int number, siginfo_t *info)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigaction(number, &action, NULL);
    if (!is_instructions(number, info))
        syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), number, info);
}

static bool is_ignored(const struct sigaction *action)
{
    return !(action->sa_flags & SA_SIGINFO) && action->sa_handler == SIG_IGN;
}

static void pass_on(int number, siginfo_t *info, void *context)
{
    struct sigaction *action = &previous[number == signals[0] ? 0 : 1];
    if (is_ignored(action) && !is_instructions(number, info))
        return;
    if (is_ignored(action) ||
        (!(action->sa_flags & SA_SIGINFO) && action->sa_handler == SIG_DFL)) {
        default_action(number, info); /* no fault can be ignored */
        return;
    }
    /* What is blocked while the handler runs; its return undoes that. */
    sigset_t own;
    sigemptyset(&own);
    sigaddset(&own, number);
    pthread_sigmask(SIG_BLOCK, &action->sa_mask, NULL);
    if (action->sa_flags & SA_NODEFER)
        pthread_sigmask(SIG_UNBLOCK, &own, NULL);
    struct sigaction once = *action;
    if (action->sa_flags & (int)SA_RESETHAND)
        *action = (struct sigaction){.sa_handler = SIG_DFL};
    if (once.sa_flags & SA_SIGINFO)
        once.sa_sigaction(number, info, context);
    else
        once.sa_handler(number);
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    int error = errno;
    const green_t *g = NULL;
    uintptr_t fault = (uintptr_t)info->si_addr;
    if (info->si_code > 0)
        g = who_overflowed(green__self, fault, green__arch_signal_sp(context));
    if (g != NULL)
        report(g, fault, green__arch_signal_pc(context));
    pass_on(number, info, context);
    errno = error;
}

/* ---- Installing ------------------------------------------------------------------ */

/* Ours interrupts a system call only where the previous one would. */
static bool install_one(int number, const struct sigaction *before)
{
    struct sigaction action = {.sa_flags = SA_SIGINFO | SA_ONSTACK};
    action.sa_sigaction = on_fault;
    sigemptyset(&action.sa_mask);
    if (is_ignored(before) || (before->sa_flags & SA_RESTART))
        action.sa_flags |= SA_RESTART;
    return sigaction(number, &action, NULL) == 0;
}

/* Both handlers or none; under the lock. */
static bool install(void)
{
    size_t i = 0;
    while (i < SIGNALS && /* before ours is called: */
           sigaction(signals[i], NULL, &previous[i]) == 0 &&
           install_one(signals[i], &previous[i]))
        i++;
    if (i == SIGNALS)
        return true;
    while (i-- > 0)
        sigaction(signals[i], &previous[i], NULL);
    return false;
}

int green_report_overflow(void)
{
    if (green__self->look_only != 0)
        return green__refuse(EBUSY);
    struct green__thread *self = green__thread_need();
    if (self == NULL)
        return -1;
    green__lock();
    bool installed = load(green__signal_stacks) || install();
    if (installed)
        atomic_store_explicit(&green__signal_stacks, true, memory_order_release);
    green__unlock();
    if (!installed)
        return green__refuse(ENOMEM);
    return green__signal_stack_begin(self);
}
