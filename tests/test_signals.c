/* SPDX-License-Identifier: MIT */
/*
 * Signals that come at any instruction of a switch (rule 17): a timer of 25 kHz,
 * whose handler uses floating point in another mode and checks the stack it
 * runs on, while greens switch with a pattern in every callee-saved register.
 *
 *     test_signals [SWITCHES]     so many of each kind; 10^8 take a few minutes
 */
#define _GNU_SOURCE
#include <fenv.h>
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>

#include "registers.h"

enum { GREENS = 5, LEAST = 10 /* signals, where all is slow */ };

struct range {
    uintptr_t low, high;
};

static struct range ranges[GREENS + 1], alternate; /* the last is main's */
static green_t *greens[GREENS];
static unsigned long most; /* from the command line */
static unsigned long wanted, switches;

/* Of the handler. */
static volatile sig_atomic_t signals, wrong, on_alternate;

static int lies_in(struct range range, uintptr_t address)
{
    return address - range.low < range.high - range.low;
}

/* The frame lies where it must, and what is on it stays. */
static void handle(int signal)
{
    int error = errno;
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    volatile double numbers[40];
    volatile long double third = 1.0L / 3;
    int in_some = 0;
    (void)signal;

    for (int i = 0; i <= GREENS; i++)
        in_some += lies_in(ranges[i], here);
    if (on_alternate ? !lies_in(alternate, here) : in_some != 1)
        wrong++;
    if (here % 16 != 0)
        wrong++;
    fesetround(signals % 2 ? FE_DOWNWARD : FE_UPWARD);
    for (int i = 0; i < 40; i++)
        numbers[i] = (double)signals + i;
    double sum = 0;
    for (int i = 0; i < 40; i++)
        sum += numbers[i];
    if (sum != 40.0 * (double)signals + 780 || third * 3 < 0.99L || third * 3 > 1.01L)
        wrong++;
    if (green_state(green_current()) != GREEN_RUNNING)
        wrong++;
    signals++;
    errno = error;
}

static void *switch_on(void *number)
{
    for (int next = ((int)(intptr_t)number + 1) % GREENS; switches < wanted || signals < LEAST;
         switches++) {
        call_switch(greens[next], V(7));
        if (switches % 3 == 0)
            call_yield(V(8));
    }
    return V(9);
}

static void interrupt(int every)
{
    struct itimerval often = { { 0, every }, { 0, every } };
    must(setitimer(ITIMER_REAL, &often, NULL) == 0);
}

static void keeps_registers_under_signals(int flags)
{
    if (UNDER_TSAN)
        skip_because("ThreadSanitizer itself calls handlers, later, in the green's modes");
    struct sigaction action = { .sa_handler = handle, .sa_flags = SA_RESTART | flags };
    wanted = most != 0 ? most : (unsigned long)times(300000, 20000);
    signals = wrong = 0;
    switches = calls = changed = 0;
    on_alternate = flags != 0;
    for (int i = 0; i < GREENS; i++) {
        const green_options_t options = { .stack_size = 65536 };
        void *low;
        size_t size;
        greens[i] = green_new_with(switch_on, NULL, &options);
        assert_non_null(greens[i]);
        green_stack(greens[i], &low, &size);
        ranges[i] = (struct range){ (uintptr_t)low, (uintptr_t)low + size };
    }
    assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
    interrupt(times(40, 2000));
    for (int i = 0; i < GREENS; i++)
        if (green_state(greens[i]) == GREEN_NEW)
            call_switch(greens[i], V(i));
    for (int alive = 1; alive != 0;) {
        alive = 0;
        for (int i = 0; i < GREENS; i++)
            if (green_state(greens[i]) != GREEN_DEAD) {
                alive = 1;
                call_switch(greens[i], V(7));
            }
    }
    interrupt(0);
    signal(SIGALRM, SIG_IGN); /* one may come late */
    for (int i = 0; i < GREENS; i++)
        assert_int_equal(green_free(greens[i]), 0);
    print_message("signals: %lu switches, %d signals%s, %d wrong, %lu registers changed\n", calls,
                  (int)signals, flags ? " on an alternate stack" : "", (int)wrong, changed);
    assert_int_equal(wrong, 0);
    assert_int_equal(changed, 0);
    assert_true(calls >= wanted);
    assert_true(signals >= LEAST);
}

TEST(a_signal_on_the_greens_stack_changes_nothing)
{
    keeps_registers_under_signals(0);
}

TEST(neither_does_one_on_an_alternate_stack)
{
    static _Alignas(16) char room[128 << 10];
    stack_t stack = { .ss_sp = room, .ss_size = sizeof room }, old;
    alternate = (struct range){ (uintptr_t)room, (uintptr_t)room + sizeof room };
    assert_int_equal(sigaltstack(&stack, &old), 0);
    keeps_registers_under_signals(SA_ONSTACK);
    assert_int_equal(sigaltstack(&old, NULL), 0);
}

TEST(the_same_holds_with_a_trace_hook)
{
    unsigned long all = most;
    most = (most != 0 ? most : (unsigned long)times(300000, 20000)) / 8;
    green_set_trace(ignore, NULL);
    a_signal_on_the_greens_stack_changes_nothing();
    green_set_trace(NULL, NULL);
    most = all;
}

/* Where main's stack is. */
static int set_up(void **state)
{
    pthread_attr_t attributes;
    void *low;
    size_t size;
    if (pthread_getattr_np(pthread_self(), &attributes) != 0 ||
        pthread_attr_getstack(&attributes, &low, &size) != 0)
        return -1;
    pthread_attr_destroy(&attributes);
    ranges[GREENS] = (struct range){ (uintptr_t)low, (uintptr_t)low + size };
    return find_settable_bits(state);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        most = strtoul(argv[1], NULL, 10);
    return run_all_tests_between(set_up, NULL);
}
