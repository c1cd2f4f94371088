/* SPDX-License-Identifier: MIT */
/*
 * What a switch costs those who return afterwards, as programs do: a task waits some
 * calls deep, is resumed, returns through those calls, and comes down again.
 *
 * A CPU predicts returns by a stack of its own, of the calls that it has seen.  A
 * switch that leaves by a jump leaves one entry too many there, and then every
 * return is mispredicted.  One that leaves by a return is mispredicted itself where
 * the two wait at two places.  The loops of bench_switch never return, so they show
 * neither.
 */
#include <stdlib.h>

#include <green_fast.h>

#include "bench.h"

/* ---- Others, which always do the one or the other ------------------------------- */

#if defined(__x86_64__) && defined(__ELF__) && !(defined(__CET__) && (__CET__ & 1))
#define HAVE_OTHERS 1
void other_by_return(void **save, void **target);
void other_by_jump(void **save, void **target);

#define OTHER(name, leave)                                                        \
    __asm__(".text\n.globl " name "\n.hidden " name "\n" name ":\n\t"             \
            "pushq %rbp\n\tpushq %rbx\n\t"                                        \
            "pushq %r12\n\tpushq %r13\n\tpushq %r14\n\tpushq %r15\n\t"            \
            "movq %rsp, (%rdi)\n\tmovq %rsi, %rsp\n\t"                            \
            "popq %r15\n\tpopq %r14\n\tpopq %r13\n\tpopq %r12\n\t"                \
            "popq %rbx\n\tpopq %rbp\n\t" leave "\n")
OTHER("other_by_return", "ret");
OTHER("other_by_jump", "popq %rcx\n\tjmp *%rcx");
#else
#define HAVE_OTHERS 0
#endif

/* ---- Two that hand over to each other, each from the bottom of some calls --------- */

enum kind { SWITCH, FAST, TWO_PLACES, BY_RETURN, BY_JUMP, LIFE };

struct pair {
    int frames; /* that return after each switch, on both sides */
    enum kind kind;
    bool in_other;
    bool made;
    green_t *g;
    void **others[2]; /* saved stack pointers */
};

static struct pair *pair;
static green_t *main_green;

static void *end_at_once(void *value)
{
    return value;
}

static void live(void)
{
    green_t *g = green_new(end_at_once, NULL);
    if (g == NULL)
        bench_fail("green_new");
    green_switch(g, NULL);
    green_free(g);
}

__attribute__((noinline)) static void hand_over(void)
{
    struct pair *p = pair;
    bool back = p->in_other;
    p->in_other = !back;
    switch (p->kind) {
    case SWITCH:
        green_switch(back ? main_green : p->g, NULL);
        break;
    case FAST:
        green_switch_fast(back ? main_green : p->g, NULL);
        break;
    case TWO_PLACES:
        if (back)
            green_yield(NULL);
        else
            green_switch(p->g, NULL);
        break;
#if HAVE_OTHERS
    case BY_RETURN:
        other_by_return((void **)&p->others[back], p->others[!back]);
        break;
    case BY_JUMP:
        other_by_jump((void **)&p->others[back], p->others[!back]);
        break;
#endif
    default:
        p->in_other = false;
        live();
    }
    __asm__ volatile("");
}

/* Functions of their own, as each has a return address of its own. */
#define CALLS(n, below)                                       \
    __attribute__((noinline)) static void calls_##n(int from) \
    {                                                         \
        if (from == n)                                        \
            hand_over();                                      \
        else                                                  \
            below;                                            \
        __asm__ volatile("");                                 \
    }
CALLS(0, (void)0)
CALLS(1, calls_0(from))
CALLS(2, calls_1(from))
CALLS(3, calls_2(from))
CALLS(4, calls_3(from))
CALLS(5, calls_4(from))
CALLS(6, calls_5(from))
CALLS(7, calls_6(from))
CALLS(8, calls_7(from))
CALLS(9, calls_8(from))
CALLS(10, calls_9(from))
CALLS(11, calls_10(from))
CALLS(12, calls_11(from))
enum { DEEPEST = 12 };

static void *come_and_go(void *value)
{
    for (;;)
        calls_12(DEEPEST - pair->frames);
    return value;
}

#if HAVE_OTHERS
static void other_begins(void)
{
    come_and_go(NULL);
}

static void **new_stack(void)
{
    enum { SIZE = 65536 };
    char *stack = malloc(SIZE);
    if (stack == NULL)
        bench_fail("malloc");
    void **top = (void **)(((uintptr_t)stack + SIZE) & ~(uintptr_t)15);
    *--top = NULL; /* as if other_begins() had been called */
    *--top = (void *)(uintptr_t)other_begins;
    for (int i = 0; i < 6; i++)
        *--top = NULL;
    return top;
}
#endif

static double there_and_back(void *arg, long n)
{
    pair = arg;
    main_green = green_main();
    if (!pair->made) {
        pair->made = true;
#if HAVE_OTHERS
        if (pair->kind == BY_RETURN || pair->kind == BY_JUMP)
            pair->others[1] = new_stack();
#endif
        if (pair->kind != LIFE && pair->others[1] == NULL &&
            (pair->g = green_new(come_and_go, NULL)) == NULL)
            bench_fail("green_new");
    }
    int each = pair->kind == LIFE ? 1 : 2;
    int from = DEEPEST - pair->frames;
    double start = bench_now();
    for (long i = 0; i < n; i += each)
        calls_12(from);
    return bench_now() - start;
}

/* ---- All ---------------------------------------------------------------------------- */

#define PAIR(n, which) (&(struct pair){.frames = n, .kind = which})
#if HAVE_OTHERS
#define OTHERS(n) \
        {"frames that return: " #n, "a switch that always returns", there_and_back, \
         PAIR(n, BY_RETURN), 0, NULL}, \
        {"frames that return: " #n, "a switch that always jumps", there_and_back, \
         PAIR(n, BY_JUMP), 0, NULL},
#else
#define OTHERS(n)
#endif
#define FRAMES(n) \
        {"frames that return: " #n, "green_switch", there_and_back, PAIR(n, SWITCH), 0, NULL}, \
        {"frames that return: " #n, "green_switch_fast", there_and_back, PAIR(n, FAST), 0, NULL}, \
        {"frames that return: " #n, "green_switch at two places", there_and_back, \
         PAIR(n, TWO_PLACES), 0, NULL}, \
        OTHERS(n) \
        {"frames that return: " #n, "new, switch, death, free", there_and_back, PAIR(n, LIFE), 0, \
         "one green"}

int main(int argc, char **argv)
{
    const struct candidate candidates[] = {
        FRAMES(0),
        FRAMES(4),
        FRAMES(12),
    };
    return bench(argc, argv, "depth", "one switch, with the calls around it", candidates,
                 sizeof candidates / sizeof candidates[0]);
}
