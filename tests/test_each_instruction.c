/* SPDX-License-Identifier: MIT */
/*
 * A signal at each instruction of a green's whole life (rule 17): wherever it
 * comes, its handler is answered rightly.  In test_signals.c they come at any
 * moment, and a wrong one of a few instructions is met once in a thousand runs.
 *
 * What is stepped through asks by must(), as cmocka's asserts would be stepped
 * through, too.
 */
#define _GNU_SOURCE
#include <signal.h>

#include "stepping.h"
#include "testing.h"

enum { GREENS = 4, OWN_STACK = 1 << 16 /* below who begins */ };

/* What the handler knows, and what it has seen that is wrong. */
static green_t *main_green; /* no handler may ask for it */
static green_t *volatile greens[GREENS];
static green_t *volatile plain; /* has no name and no data */
static volatile uintptr_t stacks[GREENS + 2][2]; /* from, to; then the thread's own, plain's */
static volatile sig_atomic_t stepping;
static unsigned long all_steps;
static volatile unsigned long steps, not_running, another_running, misnamed, astray;
static int data;

static void look(int signal, siginfo_t *info, void *context)
{
    int error = errno, running = 0, in = 0;
    (void)signal, (void)info;
    if (!stepping) {
        end_steps(context);
        return;
    }
    steps++;
    const green_t *current = green_current(), *main = main_green;
    if (current == NULL || green_state(current) != GREEN_RUNNING)
        not_running++;
    else if (current == plain ? green_name(current) != NULL || green_data(current) != NULL
                              : strcmp(green_name(current), current == main ? "main" : "a green") ||
                                    green_data(current) != (current == main ? NULL : &data))
        misnamed++;
    for (int i = 0; i < GREENS; i++)
        running += greens[i] != NULL && greens[i] != current &&
                   green_state(greens[i]) == GREEN_RUNNING;
    running += plain != NULL && plain != current && green_state(plain) == GREEN_RUNNING;
    if (running != 0)
        another_running++;
    for (int i = 0; i < GREENS + 2; i++)
        in += (uintptr_t)HERE - stacks[i][0] < stacks[i][1] - stacks[i][0];
    if (in == 0) /* one may have the stack of one that is dead */
        astray++;
    errno = error;
}

/* Runs fn and stops at each of its instructions. */
static void step_through(void (*fn)(void))
{
    stacks[GREENS][0] = (uintptr_t)HERE - OWN_STACK;
    stacks[GREENS][1] = (uintptr_t)HERE;
    stepping = 1;
    begin_steps();
    fn();
    stepping = 0; /* the next stop is the last */
    __asm__ volatile("nop" : : : "memory");
}

/* ---- What is stepped through ---------------------------------------------------- */

static green_key_t key;

static green_t *make(int i, green_fn *run, green_t *parent, unsigned flags)
{
    static _Alignas(64) char stack[STACK_FACTOR * 16384];
    const green_options_t options = {
        .name = "a green",
        .data = &data,
        .flags = flags,
        .stack = i == 0 ? stack : NULL, /* one is lent its stack */
        .stack_size = sizeof stack,
    };
    void *low;
    size_t size;
    green_t *g = green_new_with(run, parent, &options);
    must(g != NULL);
    green_stack(g, &low, &size);
    stacks[i][0] = (uintptr_t)low;
    stacks[i][1] = (uintptr_t)low + size;
    if ((flags & GREEN_DETACHED) == 0)
        greens[i] = g;
    return g;
}

/* The handle ends: the handler must not ask of it any more. */
static void drop(int i)
{
    green_t *g = greens[i];
    greens[i] = NULL;
    must(green_free(g) == 0);
}

static void yield_once(void *value)
{
    (void)value;
    green_yield(NULL);
}

static void do_nothing(void *value)
{
    (void)value;
}

static void *live(void *value)
{
    must(green_defer(yield_once, NULL) == 0);
    must(green_setspecific(key, &data) == 0);
    while (value != NULL)
        value = green_yield(value);
    return value;
}

static void *leave(void *value)
{
    must(green_defer(do_nothing, NULL) == 0);
    green_exit(value);
}

/* As short as a life can be, its block and its stack those of one before. */
static void live_plainly(void)
{
    for (int i = 0; i < 2; i++) {
        green_t *g = plain = green_new(give_back, NULL);
        void *low;
        size_t size;
        must(g != NULL);
        green_stack(g, &low, &size);
        stacks[GREENS + 1][0] = (uintptr_t)low;
        stacks[GREENS + 1][1] = (uintptr_t)low + size;
        must(green_switch(g, V(1)) == V(1) && green_state(g) == GREEN_DEAD);
        plain = NULL;
        must(green_free(g) == 0);
    }
}

static void lives(void)
{
    for (int i = 0; i < 2; i++) { /* one on a stack that is lent */
        green_t *g = make(i, live, NULL, 0);
        for (intptr_t value = 3; value >= 0; value--)
            green_switch(g, V(value));
        must(green_state(g) == GREEN_SUSPENDED); /* in its deferred function */
        green_switch(g, NULL);
        must(green_state(g) == GREEN_DEAD);
    }
    must(green_switch(make(2, leave, NULL, 0), V(2)) == V(2));
    must(green_switch(make(3, give_back, NULL, GREEN_DETACHED), V(3)) == V(3));
    must(green_switch(make(3, leave, NULL, GREEN_DETACHED), V(4)) == V(4));
    for (int i = 0; i < 3; i++)
        drop(i);
    live_plainly();
    green_trim(0);
}

/* An echo under main; under it, one under the other, three that are NEW. */
static void make_chain(void)
{
    green_t *g = NULL;
    for (int i = 0; i < 4; i++) {
        g = make(i, i == 0 ? echo : give_back, g, i == 2 ? GREEN_DETACHED : 0);
        must(i > 0 || green_switch(g, V(1)) == V(1));
    }
}

static void drop_chain(void)
{
    for (int i = 0; i < 4; i++)
        if (i != 2)
            drop(i);
}

/* A value goes up the chain, and an error, of which all die. */
static void chains(void)
{
    make_chain();
    must(green_switch(greens[3], V(2)) == V(2));
    must(green_state(greens[1]) == GREEN_DEAD && green_state(greens[0]) == GREEN_SUSPENDED);
    drop_chain();
    make_chain();
    must(green_throw(greens[3], E1) == GREEN_FAILED && errno == E1);
    must(green_state(greens[1]) == GREEN_DEAD && green_state(greens[0]) == GREEN_DEAD);
    drop_chain();
}

static void ends(void)
{
    for (int i = 0; i < 4; i++)
        must(green_switch(make(i, echo, NULL, i == 3 ? GREEN_DETACHED : 0), V(1)) == V(1));
    must(green_set_parent(greens[1], greens[0]) == 0);
    drop(0);
    green_t *g = greens[1];
    greens[1] = NULL;
    must(green_abandon(g) == 0);
    must(green_thread_end() == 0);
    must(green_state(greens[2]) == GREEN_DEAD);
    drop(2);
}

static int seen; /* by the hook */

static void hook(green_trace_event_t event, green_t *from, green_t *to, void *unused)
{
    (void)event, (void)from, (void)to, (void)unused;
    seen++;
}

/* ---- The tests ------------------------------------------------------------------ */

static void all_is_right_at_each_step(void (*fn)(void))
{
    if (!CAN_STEP)
        skip_because("only x86_64 lets a program step through itself");
    if (UNDER_ASAN && fn != ends)
        skip_because("nearly all the instructions are AddressSanitizer's, half a million");
    if (UNDER_TSAN)
        skip_because("ThreadSanitizer itself calls handlers, later");
    if (under_valgrind())
        skip_because("Valgrind does not know the trap flag");
    struct sigaction action = { .sa_sigaction = look, .sa_flags = SA_SIGINFO }, old;
    steps = not_running = another_running = misnamed = astray = 0;
    assert_int_equal(sigaction(SIGTRAP, &action, &old), 0);
    step_through(fn);
    assert_int_equal(sigaction(SIGTRAP, &old, NULL), 0);
    all_steps += steps;
    assert_int_equal(not_running, 0);
    assert_int_equal(another_running, 0);
    assert_int_equal(misnamed, 0);
    assert_int_equal(astray, 0);
    assert_true(steps > 1000);
}

TEST(while_greens_live_and_die)
{
    all_is_right_at_each_step(lives);
}

TEST(while_values_and_errors_pass_through_dead_ones)
{
    all_is_right_at_each_step(chains);
}

TEST(while_greens_are_freed)
{
    all_is_right_at_each_step(ends);
}

static int set_hook(void **state)
{
    (void)state;
    seen = 0;
    green_set_trace(hook, NULL);
    return 0;
}

static int unset_hook(void **state)
{
    (void)state;
    green_set_trace(NULL, NULL);
    return 0;
}

TEST_WITH(and_the_same_with_a_trace_hook, set_hook, unset_hook)
{
    if (SANITIZED)
        skip_because("the other tests show what is to be seen there");
    while_greens_live_and_die();
    while_values_and_errors_pass_through_dead_ones();
    while_greens_are_freed();
    assert_true(seen > 0);
}

static int make_key(void **state)
{
    (void)state;
    main_green = green_main();
    return main_green == NULL ? -1 : green_key_create(&key, do_nothing);
}

static int delete_key(void **state)
{
    (void)state;
    return green_key_delete(key);
}

int main(void)
{
    int failed = run_all_tests_between(make_key, delete_key);
    printf("each_instruction: a signal at each of %lu\n", all_steps);
    return failed;
}
