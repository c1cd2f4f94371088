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
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "arch/arch.h"
#include "core/core.h"
#include "quiet.h"

#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif
#ifndef BUS_MCEERR_AO
#define BUS_MCEERR_AO 5
#endif
#ifndef SEGV_MTEAERR
#define SEGV_MTEAERR 8
#endif

/* For this handler and for the one it hands on to, which may be a crash reporter. */
#define SIGNAL_STACK_ROOM ((size_t)64 << 10)

/*
 * How far from the stack pointer a fault may be an overflow, guards being smaller;
 * it spares those who handle other faults a look at each green.
 */
#define NEAR ((uintptr_t)1 << 20)

static const int signals[] = {SIGSEGV, SIGBUS};
#define SIGNALS (sizeof signals / sizeof signals[0])

static struct sigaction previous[SIGNALS]; /* written before a handler can read it */
static _Atomic(bool) reporting;

/* ---- The line --------------------------------------------------------------- */

struct line {
    char text[320];
    size_t used;
};

static void put_char(struct line *line, char c)
{
    if (line->used < sizeof line->text)
        line->text[line->used++] = c;
}

static void put_text(struct line *line, const char *text)
{
    while (*text != '\0')
        put_char(line, *text++);
}

static void put_number(struct line *line, uintptr_t number, unsigned base)
{
    char digits[24];
    size_t n = 0;
    do {
        digits[n++] = "0123456789abcdef"[number % base];
        number /= base;
    } while (number != 0);
    while (n > 0)
        put_char(line, digits[--n]);
}

static void put_address(struct line *line, uintptr_t address)
{
    put_text(line, "0x");
    put_number(line, address, 16);
}

static void put_name(struct line *line, const char *name)
{
    while (*name != '\0')
        put_char(line, green__printed(*name++));
}

static void report(const green_t *g, uintptr_t fault, uintptr_t pc)
{
    struct line line;
    line.used = 0;
    put_text(&line, "libgreen: stack overflow in green ");
    if (g->name != NULL) {
        put_char(&line, '"');
        put_name(&line, g->name);
        put_text(&line, "\" (");
        put_address(&line, (uintptr_t)g);
        put_char(&line, ')');
    } else {
        put_address(&line, (uintptr_t)g);
    }
    put_text(&line, ": ");
    put_number(&line, g->stack.size, 10);
    put_text(&line, " bytes of stack, fault at ");
    put_address(&line, fault);
    put_text(&line, ", pc ");
    put_address(&line, pc);
    put_text(&line, "; raise options.stack_size\n");
    green__write(STDERR_FILENO, line.text, line.used);
}

/* ---- The fault ---------------------------------------------------------------- */

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

/* ---- The alternate stack ------------------------------------------------------- */

static size_t signal_stack_size(void)
{
    size_t least = getauxval(AT_MINSIGSTKSZ), known = (size_t)MINSIGSTKSZ;
    return (least > known ? least : known) + SIGNAL_STACK_ROOM;
}

int green__overflow_begin(struct green__thread *self)
{
    if (!atomic_load_explicit(&reporting, memory_order_acquire) || self->signal_stack != NULL)
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
        errno = ENOMEM;
        return -1;
    }
    self->signal_stack = memory;
    self->signal_stack_size = size;
    return 0;
}

/* It stays if the thread stands on it; and if it was replaced, so does the other. */
void green__overflow_end(struct green__thread *self)
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
    if (green__self->looking != 0) {
        errno = EBUSY;
        return -1;
    }
    struct green__thread *self = green__thread_need();
    if (self == NULL)
        return -1;
    green__lock();
    bool installed = load(reporting) || install();
    if (installed)
        atomic_store_explicit(&reporting, true, memory_order_release);
    green__unlock();
    if (!installed) {
        errno = ENOMEM;
        return -1;
    }
    return green__overflow_begin(self);
}
