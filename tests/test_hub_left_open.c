/* SPDX-License-Identifier: MIT */
/* Scopes that a green leaves open: they end when its body returns or it calls green_exit(). */
#include <green_hub.h>

#include "testing.h"

/* In a frame of its own, which is overwritten when it has returned. */
static __attribute__((noinline)) void begin_scopes(green_scope_t *scopes)
{
    for (int i = 0; i < 3; i++)
        must(green_scope_begin(&scopes[i], GREEN_SEC(1), i == 1 ? GREEN_SHIELD : 0) == 0);
}

/* What is in the scopes when the body has returned is nothing any more. */
static void *return_from_scopes(void *value)
{
    green_scope_t scopes[3];
    begin_scopes(scopes);
    memset(scopes, 0xa5, sizeof scopes); /* as if the frame had gone */
    return value;
}

static void *exit_in_scopes(void *value)
{
    green_scope_t scopes[3];
    begin_scopes(scopes);
    green_exit(value);
}

static void assert_task_gives(green_fn *run, void *value)
{
    void *result = NULL;
    green_task_t *task = green_task_spawn(run, value);
    assert_non_null(task);
    assert_int_equal(green_task_join(task, &result, GREEN_FOREVER), 0);
    assert_ptr_equal(result, value);
    assert_int_equal(green_task_free(task), 0);
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
}

TEST(they_are_not_looked_at_when_the_body_has_returned)
{
    assert_task_gives(return_from_scopes, V(5));
}

TEST(they_end_with_green_exit)
{
    assert_task_gives(exit_in_scopes, V(6));
}

static void *return_from_generator(void *run)
{
    green_t *generator = green_new(*(green_fn **)run, NULL);
    must(generator != NULL);
    must(green_switch(generator, V(7)) == V(7));
    must(green_free(generator) == 0);
    must(green_sleep(GREEN_MS(1)) == 0);
    return run;
}

TEST(a_generator_that_leaves_them_open_ends_them_too)
{
    green_fn *runs[] = {return_from_scopes, exit_in_scopes};
    assert_task_gives(return_from_generator, &runs[0]);
    assert_task_gives(return_from_generator, &runs[1]);
}

static void sleep_long(void *unused)
{
    (void)unused;
    must(green_sleep(GREEN_SEC(2)) == 0); /* the scopes would end it after one */
}

static void *sleep_in_deferred(void *value)
{
    green_scope_t scopes[3];
    must(green_defer(sleep_long, NULL) == 0);
    begin_scopes(scopes);
    return value;
}

TEST(deferred_functions_run_outside_of_them)
{
    assert_int_equal(
        green_hub_init(&(green_hub_options_t){.flags = GREEN_HUB_VIRTUAL_TIME}), 0);
    assert_task_gives(sleep_in_deferred, V(8));
}

int main(void)
{
    return run_all_tests();
}
