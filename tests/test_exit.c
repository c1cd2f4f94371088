/* SPDX-License-Identifier: MIT */
/*
 * How a green ends itself (rule 10): green_exit().
 */
#include <signal.h>

#include "testing.h"

/* The compiler need not know that it does not return. */
static void (*volatile leave)(void *) = green_exit;

static void exit_at_depth(int depth, void *value)
{
    volatile char frame[200];
    frame[0] = (char)depth;
    if (depth == 0)
        leave(value);
    else
        exit_at_depth(depth - 1, value);
    note("returned %d", frame[0]);
}

static void *exit_far_down(void *value)
{
    exit_at_depth(100, value);
    note("went on");
    return NULL;
}

TEST(exit_ends_the_green_from_any_depth)
{
    green_t *g = green_new(exit_far_down, NULL);
    assert_ptr_equal(green_switch(g, V(7)), V(7));
    assert_int_equal(green_state(g), GREEN_DEAD);
    assert_ptr_equal(green_current(), green_main());
    assert_noted("");
    assert_int_equal(green_free(g), 0);
}

static void *exit_at_once(void *value)
{
    green_exit(value);
}

TEST(what_is_exited_with_goes_to_the_parent_as_it_is_then)
{
    green_t *parent = green_new(exit_at_once, NULL); /* NEW: it is started with it */
    green_t *g = green_new(exit_at_once, NULL);
    assert_int_equal(green_set_parent(g, parent), 0);
    assert_ptr_equal(green_switch(g, V(3)), V(3));
    assert_int_equal(green_state(parent), GREEN_DEAD);
    assert_int_equal(green_state(g), GREEN_DEAD);
    assert_ptr_equal(green_switch(g, V(4)), V(4));
    assert_int_equal(green_free(g), 0);
    assert_int_equal(green_free(parent), 0);
}

static void *exit_with_error(void *error)
{
    errno = (int)(intptr_t)error;
    exit_at_depth(3, GREEN_FAILED);
    return NULL;
}

TEST(exiting_with_green_failed_is_death_by_errno)
{
    const int errors[] = { E1, ENOMEM, EINVAL, EBUSY };
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        green_t *g = green_new(exit_with_error, NULL);
        assert_fails(green_switch(g, V(errors[i])), errors[i]);
        assert_int_equal(green_state(g), GREEN_DEAD);
        assert_int_equal(green_free(g), 0);
    }
}

TEST(of_ecanceled_and_of_no_error_it_is_the_value_null)
{
    const int errors[] = { ECANCELED, 0, -5 };
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        green_t *g = green_new(exit_with_error, NULL);
        assert_null(green_switch(g, V(errors[i])));
        assert_int_equal(green_state(g), GREEN_DEAD);
        assert_int_equal(green_free(g), 0);
    }
}

static void *exit_with_clean_up(void *key)
{
    green_defer(note_arg, "first");
    green_defer(note_arg, "second");
    green_setspecific(*(green_key_t *)key, "key");
    exit_at_depth(10, V(1));
    return NULL;
}

TEST(exit_runs_the_clean_up_as_a_return_does)
{
    green_key_t key;
    assert_int_equal(green_key_create(&key, note_arg), 0);
    green_t *g = green_new(exit_with_clean_up, NULL);
    assert_ptr_equal(green_switch(g, &key), V(1));
    assert_noted("second first key");
    assert_int_equal(green_key_delete(key), 0);
    assert_int_equal(green_free(g), 0);
}

static void note_frame(const int *mark)
{
    note("frame %d", *mark);
}

static void *exit_over_a_frame_with_clean_up(void *value)
{
    __attribute__((cleanup(note_frame))) int mark = 1;
    exit_at_depth(mark, value);
    return NULL;
}

TEST(the_frames_in_between_run_nothing)
{
    green_t *g = green_new(exit_over_a_frame_with_clean_up, NULL);
    assert_ptr_equal(green_switch(g, V(2)), V(2));
    assert_noted("");
    assert_int_equal(green_free(g), 0);
}

static void *yield_and_exit(void *value)
{
    value = green_yield(value);
    exit_at_depth(5, value);
    return NULL;
}

TEST(a_green_may_exit_when_it_is_killed)
{
    green_t *g = green_new(yield_and_exit, NULL);
    green_switch(g, NULL);
    assert_int_equal(green_free(g), 0);
    g = green_new(yield_and_exit, NULL);
    green_switch(g, NULL);
    assert_fails(green_throw(g, E1), E1); /* exited with GREEN_FAILED and that errno */
    assert_int_equal(green_free(g), 0);
}

TEST(an_exit_leaves_the_others_alone)
{
    green_t *a = green_new(yield_and_exit, NULL), *b = green_new(yield_and_exit, NULL);
    assert_ptr_equal(green_switch(a, V(1)), V(1));
    assert_ptr_equal(green_switch(b, V(2)), V(2));
    assert_ptr_equal(green_switch(a, V(3)), V(3));
    assert_int_equal(green_state(b), GREEN_SUSPENDED);
    assert_ptr_equal(green_switch(b, V(4)), V(4));
    assert_int_equal(green_free(a), 0);
    assert_int_equal(green_free(b), 0);
}

TEST(a_detached_green_may_exit)
{
    const green_options_t detached = { .flags = GREEN_DETACHED };
    for (int i = 0; i < 100; i++) {
        green_t *g = green_new_with(exit_far_down, NULL, &detached);
        assert_ptr_equal(green_switch(g, V(i)), V(i));
    }
    assert_noted("");
}

/* ---- Where it cannot work ---------------------------------------------------- */

static int exit_on_main(void *arg)
{
    (void)arg;
    green_exit(V(1));
}

static int exit_on_main_before_any_other_call(void *arg)
{
    (void)arg;
    in_thread(exit_at_once, NULL);
    return 0;
}

static int exit_on_the_main_of_a_thread(void *arg)
{
    (void)arg;
    green_t *g = green_new(give_back, NULL);
    green_switch(g, NULL);
    in_thread(exit_far_down, NULL);
    return 0;
}

static void exiting_hook(green_trace_event_t event, green_t *from, green_t *to, void *data)
{
    (void)event;
    (void)from;
    (void)to;
    green_set_trace(NULL, NULL); /* it is not called again, whatever comes of it */
    green_exit(data);
}

static void *yield_under_the_hook(void *value)
{
    green_set_trace(exiting_hook, NULL);
    return green_yield(value);
}

static int exit_in_a_hook_on_a_green(void *arg)
{
    green_t *g = green_new(yield_under_the_hook, NULL);
    green_switch(g, arg);
    return 0;
}

static int exit_in_a_hook_on_main(void *arg)
{
    green_set_trace(exiting_hook, NULL);
    green_switch(green_new(give_back, NULL), arg);
    return 0;
}

static int exiting_look(green_t *g, void *arg)
{
    (void)g;
    green_exit(arg);
}

static void *exit_while_it_looks(void *value)
{
    green_each(exiting_look, NULL);
    return value;
}

static int exit_in_green_each(void *arg)
{
    green_switch(green_new(exit_while_it_looks, NULL), arg);
    return 0;
}

static void exit_in_clean_up(void *arg)
{
    green_exit(arg);
}

static int exit_in_a_deferred_function_of_main(void *arg)
{
    green_defer(exit_in_clean_up, arg);
    green_thread_end();
    return 0;
}

TEST(where_there_is_no_green_to_end_it_says_so_and_aborts)
{
    int (*const ways[])(void *) = {
        exit_on_main,           exit_on_main_before_any_other_call,
        exit_in_a_hook_on_main, exit_on_the_main_of_a_thread,
        exit_in_a_hook_on_a_green, exit_in_a_deferred_function_of_main, exit_in_green_each,
    };
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        struct child child = run_child(ways[i], NULL);
        assert_true(WIFSIGNALED(child.status));
        assert_int_equal(WTERMSIG(child.status), SIGABRT);
        assert_non_null(strstr(child.err, "green_exit"));
        assert_non_null(strchr(child.err, '\n'));
        assert_int_equal(strlen(child.err), child.err_size); /* text alone */
    }
}

int main(void)
{
    return run_all_tests();
}
