/* SPDX-License-Identifier: MIT */
/*
 * Bugs in greens, one for each thing that a tool is to find there, and the
 * same program without: tests/tools/bugs.sh has a tool report them, with the
 * right function's name.
 *
 *     bugs BUG        none, overflow, return, race, leak, uninitialised, shift
 */
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <green.h>
#include <green_fast.h>

/* A frame of its own, with its own name. */
#ifdef __clang__
#define NOINLINE __attribute__((noinline))
#else
#define NOINLINE __attribute__((noipa))
#endif

static volatile int one = 1; /* what no compiler sees through */
static int result;

static green_t *make(green_fn *run)
{
    green_t *g = green_new(run, NULL);
    if (g == NULL)
        abort();
    return g;
}

/* ---- overflow: by one, in a frame on a green's stack ----------------------------- */

static NOINLINE void write_past_the_end(int n)
{
    char bytes[16] = { 0 };
    volatile char *at = bytes;
    at[n] = 1;
    result += at[0];
}

static void *overflow_in_a_green(void *value)
{
    green_yield(value);
    write_past_the_end(15 + one);
    return value;
}

static void overflow(void)
{
    green_t *g = make(overflow_in_a_green);
    green_switch(g, &result);
    green_switch(g, &result);
    green_free(g);
}

/* ---- return: use of a local variable after its function has returned -------------- */

static NOINLINE void show_a_local(void)
{
    volatile int local[500]; /* the first lies where no later frame comes */
    local[0] = one;
    green_yield((void *)local); /* the parent may use it now */
    result += local[0];
}

static void *return_from_a_frame(void *value)
{
    show_a_local();
    green_yield(value); /* but not now */
    return value;
}

static NOINLINE int use_what_was_shown(volatile int *shown)
{
    return *shown + 1;
}

static void use_after_return(void)
{
    green_t *g = make(return_from_a_frame);
    volatile int *shown = green_switch(g, NULL);
    result += use_what_was_shown(shown);
    green_switch(g, NULL);
    result += use_what_was_shown(shown);
    green_free(g);
}

/* ---- race: greens of two threads, nothing between them ----------------------------- */

static volatile int counter; /* or all the counting is one addition, which TSan can miss */
static int go; /* atomic, relaxed: it orders nothing */

static NOINLINE void count_without_a_lock(void)
{
    for (int i = 0; i < 1000; i++)
        counter++;
}

static void *count_in_a_green(void *value)
{
    green_yield(value);
    count_without_a_lock();
    return value;
}

static void *count_in_a_thread(void *value)
{
    green_t *g = make(count_in_a_green);
    green_switch(g, value);
    __atomic_fetch_add(&go, 1, __ATOMIC_RELAXED);
    while (__atomic_load_n(&go, __ATOMIC_RELAXED) < 2)
        sched_yield(); /* Valgrind runs one thread at a time, and else this one for minutes */
    green_switch(g, value);
    green_free(g);
    return value;
}

static void race(void)
{
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        if (pthread_create(&threads[i], NULL, count_in_a_thread, NULL) != 0)
            abort();
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
}

/* ---- leak: what only a green held that is no more ------------------------------------ */

static NOINLINE char *allocate_something(void)
{
    char *memory = malloc(77);
    memset(memory, one, 77);
    return memory;
}

static void *hold_something(void *value)
{
    char *volatile held = allocate_something();
    value = green_yield(value);
    if (value != NULL) /* never: it is abandoned */
        free(held);
    return value;
}

static void leak(void)
{
    green_t *g = make(hold_something);
    green_switch(g, NULL);
    green_abandon(g);
}

/* ---- uninitialised: a value that a switch carries -------------------------------------- */

static NOINLINE int decide_by(const int *number)
{
    if (*number > 3)
        one = 1;
    return one;
}

static void *decide_in_a_green(void *number)
{
    result += decide_by(number);
    return number;
}

static void use_uninitialised(void)
{
    int *number = malloc(sizeof *number);
    green_t *g = make(decide_in_a_green);
    green_switch(g, number);
    green_free(g);
    free(number);
}

/* ---- shift: what C leaves undefined ------------------------------------------------------ */

static NOINLINE int shift_too_far(int by)
{
    return 1 << by;
}

static void *shift_in_a_green(void *value)
{
    result += shift_too_far(31 + one);
    return value;
}

static void shift(void)
{
    green_t *g = make(shift_in_a_green);
    green_switch(g, NULL);
    green_free(g);
}

/* ---- none: much of what the library does, and all of it right -------------------------------- */

static NOINLINE void leave_from_deep_down(int depth, void *value)
{
    char frame[200];
    memset(frame, depth, sizeof frame);
    if (depth > 0)
        leave_from_deep_down(depth - 1, value);
    else if (one)
        green_exit(value);
    result += frame[3];
}

static void *exit_in_a_green(void *value)
{
    leave_from_deep_down(20, green_yield(value));
    return NULL;
}

static void *obey(void *value)
{
    char *held = allocate_something();
    while (value != GREEN_FAILED)
        value = green_yield(value);
    free(held);
    return GREEN_FAILED;
}

static void *come_and_go(void *value)
{
    static _Thread_local char lent[65536];
    const green_options_t on_lent = { .stack = lent, .stack_size = sizeof lent, .name = "lent" };
    for (int i = 0; i < 50; i++) {
        green_t *leaver = make(exit_in_a_green), *kept = make(obey), *left = make(obey);
        green_t *guest = green_new_with(obey, NULL, &on_lent);
        green_switch(leaver, value);
        green_switch(kept, value);
        green_switch(guest, value);
        if (green_switch(leaver, value) != value || green_free(leaver) != 0)
            abort();
        if (green_free(left) != 0 || green_free(kept) != 0 || green_free(guest) != 0)
            abort();
        memset(lent, 1, sizeof lent);
    }
    return value;
}

/* What is passed here is never looked at: only the tool knows that it was not set. */
static NOINLINE void pass_anything(int a, int b, int c, int d)
{
    if (one == 0)
        result += a + b + c + d;
}

/* It stays where the next call's arguments and frame will be said to be set or not. */
static NOINLINE void forget_what_is_set(void)
{
    int unset[1000]; /* more than what is called next has of the stack */
    int *volatile shown = unset;
    pass_anything(shown[0], shown[1], shown[2], shown[3]);
}

/* All that the library gives and passes has been set. */
static void expect(bool right)
{
    if (!right)
        abort();
}

static void expect_value(void *value)
{
    expect(value == &result);
    forget_what_is_set();
}

static void hear(green_trace_event_t event, green_t *from, green_t *to, void *data)
{
    expect(event == GREEN_TRACE_SWITCH && from != to && data == &result);
}

static int meet(green_t *g, void *arg)
{
    expect(g != NULL && arg == &result);
    forget_what_is_set();
    return 0;
}

static void *be_watched(void *value)
{
    green_key_t key;
    expect_value(value);
    expect(green_key_create(&key, expect_value) == 0 && key < 1000);
    expect(green_setspecific(key, value) == 0);
    expect(green_defer(expect_value, value) == 0 && green_defer(expect_value, value) == 0);
    forget_what_is_set();
    expect(green_undefer(1) == 0);
    forget_what_is_set();
    return value;
}

/* The second is begun by the first one's end. */
static void *begin_another(void *value)
{
    expect_value(value);
    return value;
}

static void *echo_inline(void *value)
{
    while (value != GREEN_FAILED)
        value = green_yield_fast(value);
    return value;
}

static void *look_around(void *value)
{
    green_stats_t stats;
    void *low, *data, *pcs[9];
    size_t size;
    green_t *watched = make(be_watched);
    forget_what_is_set();
    expect(green_stats(&stats, sizeof stats) == 0);
    expect(stats.greens >= 2 && stats.threads >= 1 && stats.stacks_live >= 2);
    expect(stats.stacks_cached < stats.bytes_mapped);
    green_stack(watched, &low, &size);
    expect(low != NULL && size >= 16384);
    int n = green_backtrace(green_current(), pcs, 9);
    for (int i = 0; i < n; i++)
        expect(pcs[i] != NULL);
    green_set_trace(hear, value);
    expect(green_get_trace(&data) == hear && data == value);
    forget_what_is_set();
    green_switch(watched, value);
    green_set_trace(NULL, NULL);
    expect(green_free(watched) == 0);
    forget_what_is_set();
    expect(green_each(meet, value) == 0);
    green_t *g = make(echo_inline);
    for (int i = 0; i < 3; i++)
        expect(green_switch_fast(g, value) == value);
    expect(green_free(g) == 0);
    green_t *second = make(begin_another), *first = green_new(begin_another, second);
    expect(green_switch(first, value) == value);
    expect(green_free(first) == 0 && green_free(second) == 0);
    return value;
}

/* main's frame alone holds something when the program ends in a green. */
static void *end_the_program(void *value)
{
    (void)value;
    exit(0);
}

static void none(void)
{
    pthread_t thread;
    green_t *looker = make(look_around);
    expect(green_switch(looker, &result) == &result && green_free(looker) == 0);
    come_and_go(&result);
    if (pthread_create(&thread, NULL, come_and_go, &result) != 0)
        abort();
    pthread_join(thread, NULL);

    char *volatile held = allocate_something();
    green_switch(make(end_the_program), held);
    free(held);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } bugs[] = {
        { "none", none },     { "overflow", overflow }, { "return", use_after_return },
        { "race", race },     { "leak", leak },         { "uninitialised", use_uninitialised },
        { "shift", shift },
    };
    for (size_t i = 0; argc == 2 && i < sizeof bugs / sizeof bugs[0]; i++) {
        if (strcmp(argv[1], bugs[i].name) == 0) {
            bugs[i].run();
            return 0;
        }
    }
    fprintf(stderr, "usage: bugs BUG\n");
    return 2;
}
