/* SPDX-License-Identifier: MIT */
#ifndef OVERFLOW_H
#define OVERFLOW_H
/*
 * Programs that overflow a green's stack: every way to do it in every situation,
 * each in a child that must die of SIGSEGV and name the green.
 */
#ifndef _GNU_SOURCE
#error "_GNU_SOURCE first"
#endif
#include <alloca.h>
#include <signal.h>
#include <sys/mman.h>

#include "testing.h"

enum { KIB = 1024, MIB = 1024 * KIB };

/* How: each uses up a stack, whatever its size. */
struct way {
    const char *name;
    green_fn *run;
    size_t stack_size;
};

static volatile int endless = 1;

#define USE(frame) __asm__ volatile("" : : "r"(frame) : "memory")

/* A function that calls itself with a frame of so many bytes, whose low end it uses first. */
#define RECURSION(name, bytes)                                     \
    __attribute__((noinline)) static int name##_deeper(int depth)  \
    {                                                              \
        volatile char frame[bytes];                                \
        frame[0] = (char)depth;                                    \
        USE(frame);                                                \
        return (endless ? name##_deeper(depth + 1) : 0) + frame[0]; \
    }                                                              \
    static void *name(void *value)                                 \
    {                                                              \
        return V(name##_deeper(0) + (value != NULL));              \
    }

/* So many bytes at once. */
__attribute__((noinline)) static void *array_of(volatile size_t *bytes)
{
    char array[*bytes];
    array[0] = 1;
    USE(array);
    return V(array[0]);
}

/* So many again and again, in one frame. */
__attribute__((noinline)) static void *alloca_of(volatile size_t *bytes)
{
    char *last = NULL;
    while (endless) {
        last = alloca(*bytes);
        last[0] = 1;
        USE(last);
    }
    return V(last != NULL);
}

/* ---- Situations --------------------------------------------------------------- */

static green_t *make(const struct way *way)
{
    green_options_t options = { .name = way->name, .stack_size = way->stack_size };
    green_t *g = green_new_with(way->run, NULL, &options);
    must(g != NULL);
    return g;
}

static void *overflow(void *way)
{
    green_switch(make(way), NULL);
    return NULL;
}

static int reporting(void)
{
    must(signal(SIGSEGV, SIG_DFL) != SIG_ERR); /* instead of cmocka's */
    must(signal(SIGBUS, SIG_DFL) != SIG_ERR);
    return green_report_overflow();
}

static int plainly(void *way)
{
    must(reporting() == 0);
    overflow(way);
    return 0;
}

static void *nest(void *way)
{
    static int depth;
    green_t *g = ++depth < 5 ? green_new(nest, NULL) : make(way);
    return green_switch(g, way);
}

static int in_nested_greens(void *way)
{
    must(reporting() == 0);
    green_switch(green_new(nest, NULL), way);
    return 0;
}

static int among_others(void *way)
{
    must(reporting() == 0);
    green_t *other[40];
    for (int i = 0; i < 40; i++) {
        const green_options_t options = { .name = "bystander",
                                          .stack_size = ((struct way *)way)->stack_size };
        must((other[i] = green_new_with(echo, NULL, &options)) != NULL);
        green_switch(other[i], NULL);
        if (i == 20)
            other[0] = make(way);
    }
    green_switch(other[0], NULL);
    return 0;
}

static int in_a_second_thread(void *way)
{
    must(reporting() == 0);
    in_thread(overflow, way);
    return 0;
}

static void *ask_and_overflow(void *way)
{
    must(green_main() != NULL);
    must(reporting() == 0);
    return overflow(way);
}

static int in_a_thread_that_asks(void *way)
{
    in_thread(ask_and_overflow, way);
    return 0;
}

/* Made before, without an alternate stack; it uses the library later. */
static int in_a_thread_that_was_there_before(void *way)
{
    struct helper helper;
    helper_start(&helper);
    must(reporting() == 0);
    helper_do(&helper, (void (*)(void *))(uintptr_t)overflow, way);
    return 0;
}

static int on_an_alternate_stack_of_its_own(void *way)
{
    static char memory[65536];
    stack_t stack = { .ss_sp = memory, .ss_size = sizeof memory };
    must(sigaltstack(&stack, NULL) == 0);
    must(reporting() == 0);
    must(sigaltstack(NULL, &stack) == 0 && stack.ss_sp == memory);
    overflow(way);
    return 0;
}

static void say(const char *text)
{
    must(write(STDERR_FILENO, text, strlen(text)) >= 0);
}

static void previous_handler(int number)
{
    say("previous handler\n");
    signal(number, SIG_DFL); /* and again */
}

static int with_a_previous_handler(void *way)
{
    must(signal(SIGSEGV, previous_handler) != SIG_ERR);
    must(signal(SIGBUS, previous_handler) != SIG_ERR);
    must(green_report_overflow() == 0);
    overflow(way);
    return 0;
}

static void previous_action(int number, siginfo_t *info, void *context)
{
    int where;
    void *low;
    green_stack(green_current(), &low, NULL);
    uintptr_t below = (uintptr_t)low - (uintptr_t)info->si_addr;
    ucontext_t *was = context;
    must(below - 1 < 65536 && info->si_code > 0 && info->si_signo == number);
    must(was->uc_stack.ss_size != 0 && (char *)&where >= (char *)was->uc_stack.ss_sp);
    say("previous handler\n");
    signal(number, SIG_DFL);
}

static int with_a_previous_action(void *way)
{
    struct sigaction action = { .sa_sigaction = previous_action };
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | (int)SA_RESETHAND;
    must(sigaction(SIGSEGV, &action, NULL) == 0);
    must(sigaction(SIGBUS, &action, NULL) == 0);
    must(green_report_overflow() == 0);
    must(green_report_overflow() == 0);
    overflow(way);
    return 0;
}

static int when_the_stack_is_used_again(void *way)
{
    must(reporting() == 0);
    for (int i = 0; i < 200; i++) {
        green_options_t options = { .name = "earlier",
                                    .stack_size = ((struct way *)way)->stack_size };
        green_t *g = green_new_with(give_back, NULL, &options);
        green_switch(g, NULL);
        must(green_free(g) == 0);
        if (i == 150)
            green_trim(0);
    }
    overflow(way);
    return 0;
}

static const struct situation {
    const char *name;
    int (*child)(void *);
    int passed_on; /* the previous handler says so */
} situations[] = {
    { "plainly", plainly, 0 },
    { "in nested greens", in_nested_greens, 0 },
    { "among others", among_others, 0 },
    { "in a second thread", in_a_second_thread, 0 },
    { "in a thread that asks", in_a_thread_that_asks, 0 },
    { "in a thread that was there before", in_a_thread_that_was_there_before, 0 },
    { "on an alternate stack of its own", on_an_alternate_stack_of_its_own, 0 },
    { "with a previous handler", with_a_previous_handler, 1 },
    { "with a previous action", with_a_previous_action, 1 },
    { "when the stack is used again", when_the_stack_is_used_again, 0 },
};

enum { SITUATIONS = sizeof situations / sizeof *situations };

/* ---- What must come of it ------------------------------------------------------- */

extern char __executable_start, etext;

/* In the program or, if that is a shared one, in the library. */
static int is_code(unsigned long pc)
{
    return (pc >= (uintptr_t)&__executable_start && pc < (uintptr_t)&etext) ||
           pc - (uintptr_t)green_new + MIB < 2 * MIB;
}

static int names_the_green(const struct way *way, const char *said)
{
    char name[32];
    unsigned long handle, size, fault, pc;
    int end = 0;
    int found = sscanf(said,
                       "libgreen: stack overflow in green \"%31[^\"]\" (0x%lx): "
                       "%lu bytes of stack, fault at 0x%lx, pc 0x%lx; "
                       "raise options.stack_size%n",
                       name, &handle, &size, &fault, &pc, &end);
    if (found != 5)
        return 0;
    return end > 0 && said[end] == '\n' && strcmp(name, way->name) == 0 && size >= way->stack_size
           && is_code(pc);
}

/* What the child wrote, without what an emulator adds. */
static char *said(struct child *child)
{
    char *emulator = strstr(child->err, "qemu: uncaught target signal");
    if (emulator != NULL)
        *emulator = '\0';
    return child->err;
}

static const char *after_line(const char *text)
{
    const char *end = strchr(text, '\n');
    return end != NULL ? end + 1 : text;
}

static int dies_with_its_name(const struct way *way, const struct situation *situation)
{
    struct child child = run_child(situation->child, (void *)(uintptr_t)way);
    const char *then = situation->passed_on ? "previous handler\n" : "";
    int good = WIFSIGNALED(child.status) && WTERMSIG(child.status) == SIGSEGV &&
               names_the_green(way, said(&child)) && strcmp(after_line(said(&child)), then) == 0;
    if (!good)
        print_error("%s, %s: status 0x%x, \"%s\"\n", way->name, situation->name,
                    (unsigned)child.status, child.err);
    return good;
}

static void all_die_with_their_names(const struct way *ways, size_t n)
{
    size_t good = 0;
    if (SANITIZED)
        skip_because("with a sanitizer the fault may be in its code");
    if (under_valgrind())
        skip_because("to Valgrind each of these faults is an error");
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < SITUATIONS; k++)
            good += (size_t)dies_with_its_name(&ways[i], &situations[k]);
    print_message("%zu programs\n", n * SITUATIONS);
    assert_int_equal(good, n * SITUATIONS);
}

#endif
