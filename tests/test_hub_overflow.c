/* SPDX-License-Identifier: MIT */
/* A task that overflows its stack: the report has its name, and what else is there is kept. */
#include <signal.h>

#include "hubs.h"

static volatile int endless = 1;

__attribute__((noinline)) static int deeper(int depth)
{
    volatile char frame[200];
    frame[0] = (char)depth;
    __asm__ volatile("" : : "r"(frame) : "memory");
    return (endless ? deeper(depth + 1) : 0) + frame[0];
}

/* A call that waits may be what does not fit. */
__attribute__((noinline)) static int deeper_in_waits(int depth)
{
    volatile char frame[48];
    frame[0] = (char)depth;
    __asm__ volatile("" : : "r"(frame) : "memory");
    must_be_0(green_sleep(0));
    return (endless ? deeper_in_waits(depth + 1) : 0) + frame[0];
}

static void *overflow(void *unused)
{
    (void)unused;
    turn();
    return V(deeper(0));
}

static void *overflow_in_waits(void *unused)
{
    (void)unused;
    return V(deeper_in_waits(0));
}

static void *wait_by(void *unused)
{
    while (green_sleep(0) == 0)
        continue;
    return unused;
}

static int run_named(void *run)
{
    const green_options_t deep = { .name = "deep one", .stack_size = 16384 };
    const green_options_t bystander = { .name = "bystander" };
    signal(SIGSEGV, SIG_DFL); /* instead of cmocka's */
    signal(SIGBUS, SIG_DFL);
    must_be_0(green_report_overflow());
    for (int i = 0; i < 5; i++)
        must(green_task_spawn_with(wait_by, NULL, &bystander) != NULL);
    must(green_task_spawn_with(*(green_fn **)run, NULL, &deep) != NULL);
    for (int i = 0; i < 5; i++)
        must(green_task_spawn_with(wait_by, NULL, &bystander) != NULL);
    green_hub_wait(GREEN_SEC(30));
    return 0;
}

static void assert_dies_named(green_fn *run)
{
    if (SANITIZED || under_valgrind())
        skip_because("the tool sees the overflow first");
    struct child child = run_child(run_named, &run);
    assert_true(WIFSIGNALED(child.status));
    assert_int_equal(WTERMSIG(child.status), SIGSEGV);
    assert_non_null(strstr(child.err, "\"deep one\""));
    assert_null(strstr(child.err, "bystander"));
}

TEST(an_overflow_in_a_task_is_reported_with_its_name)
{
    assert_dies_named(overflow);
}

TEST(an_overflow_in_a_call_that_waits_is_reported_with_the_tasks_name)
{
    assert_dies_named(overflow_in_waits);
}

int main(void)
{
    return run_all_tests();
}
