/* SPDX-License-Identifier: MIT */
/*
 * What runs when a green ends (rule 11): green_defer(), green_undefer().
 */
#include "testing.h"

/* Runs run(value) in a green to its death, and says what it left. */
static void *result_of(green_fn *run, void *value)
{
    green_t *g = green_new(run, NULL);
    assert_non_null(g);
    errno = 0;
    void *result = green_switch(g, value);
    int error = errno;
    assert_int_equal(green_state(g), GREEN_DEAD);
    assert_int_equal(green_free(g), 0);
    errno = error;
    return result;
}

/* ---- Order -------------------------------------------------------------------- */

static void *defer_three(void *value)
{
    must(green_defer(note_arg, "1") == 0);
    must(green_defer(note_arg, "2") == 0);
    must(green_defer(note_arg, "3") == 0);
    note("body");
    return value;
}

TEST(deferred_functions_run_innermost_first)
{
    assert_ptr_equal(result_of(defer_three, V(5)), V(5));
    assert_noted("body 3 2 1");
}

static void note_where(void *g)
{
    note("%d", green_current() == *(green_t **)g);
    note("%d", green_state(*(green_t **)g));
}

static void *defer_note_where(void *g)
{
    green_defer(note_where, g);
    return NULL;
}

TEST(they_run_on_the_green_itself_which_still_lives)
{
    green_t *g = green_new(defer_note_where, NULL);
    assert_null(green_switch(g, &g));
    assert_noted("1 1"); /* GREEN_RUNNING */
    assert_int_equal(green_state(g), GREEN_DEAD);
    assert_int_equal(green_free(g), 0);
    assert_noted("");
}

static void *defer_and_wait(void *name)
{
    green_defer(note_arg, name);
    green_yield(NULL);
    green_defer(note_arg, "inner");
    green_yield(NULL);
    return NULL;
}

TEST(each_green_has_its_own)
{
    green_t *a = green_new(defer_and_wait, NULL), *b = green_new(defer_and_wait, NULL);
    green_switch(a, "a");
    green_switch(b, "b");
    assert_refused(green_undefer(1), ENOENT); /* main has none */
    green_switch(b, NULL);
    green_switch(a, NULL);
    assert_noted("");
    green_switch(a, NULL);
    assert_noted("inner a");
    green_switch(b, NULL);
    assert_noted("inner b");
    assert_int_equal(green_free(a), 0);
    assert_int_equal(green_free(b), 0);
}

static void defer_more(void *arg)
{
    note("%s", (const char *)arg);
    must(green_defer(note_arg, "late-1") == 0);
    must(green_defer(note_arg, "late-2") == 0);
}

static void *defer_what_defers(void *value)
{
    green_defer(note_arg, "last");
    green_defer(defer_more, "first");
    return value;
}

TEST(what_they_defer_runs_next)
{
    assert_ptr_equal(result_of(defer_what_defers, V(1)), V(1));
    assert_noted("first late-2 late-1 last");
}

static void set_key(void *key)
{
    note("deferred");
    green_setspecific(*(green_key_t *)key, "destroyed");
}

static void *defer_set_key(void *key)
{
    green_defer(set_key, key);
    green_setspecific(*(green_key_t *)key, "overwritten");
    return NULL;
}

TEST(they_run_before_the_destructors_of_keys)
{
    green_key_t key;
    assert_int_equal(green_key_create(&key, note_arg), 0);
    assert_null(result_of(defer_set_key, &key));
    assert_noted("deferred destroyed");
    assert_int_equal(green_key_delete(key), 0);
}

static void defer_again(void *arg)
{
    note("%s", (const char *)arg);
    must(green_defer(note_arg, "deferred") == 0);
}

static void *set_key_that_defers(void *key)
{
    green_setspecific(*(green_key_t *)key, "destroyed");
    return V(2);
}

TEST(what_a_destructor_defers_runs_too)
{
    green_key_t key;
    assert_int_equal(green_key_create(&key, defer_again), 0);
    assert_ptr_equal(result_of(set_key_that_defers, &key), V(2));
    assert_noted("destroyed deferred");
    assert_int_equal(green_key_delete(key), 0);
}

/* ---- Switches inside ------------------------------------------------------------ */

static void yield_and_note(void *arg)
{
    void *got = green_yield(arg);
    note("%s", got == GREEN_FAILED ? "thrown" : (const char *)got);
}

static void *defer_two_that_yield(void *value)
{
    green_defer(yield_and_note, V(11));
    green_defer(yield_and_note, V(12));
    return value;
}

TEST(they_may_switch)
{
    green_t *g = green_new(defer_two_that_yield, NULL);
    assert_ptr_equal(green_switch(g, V(5)), V(12));
    assert_int_equal(green_state(g), GREEN_SUSPENDED);
    assert_ptr_equal(green_switch(g, "a"), V(11));
    assert_int_equal(green_state(g), GREEN_SUSPENDED);
    assert_ptr_equal(green_switch(g, "b"), V(5)); /* the result is kept meanwhile */
    assert_int_equal(green_state(g), GREEN_DEAD);
    assert_noted("a b");
    assert_int_equal(green_free(g), 0);
}

TEST(an_error_thrown_into_one_is_its_own_affair)
{
    green_t *g = green_new(defer_two_that_yield, NULL);
    assert_ptr_equal(green_switch(g, V(5)), V(12));
    assert_ptr_equal(green_throw(g, E1), V(11));
    assert_ptr_equal(green_throw(g, 0), V(5)); /* still the result */
    assert_int_equal(green_state(g), GREEN_DEAD);
    assert_noted("thrown thrown");
    assert_int_equal(green_free(g), 0);
}

/* ---- What the green dies of ------------------------------------------------------ */

static void clobber_errno(void *arg)
{
    (void)arg;
    errno = E2;
}

static void *fail_of_e1_with_clobbering(void *exits)
{
    green_defer(clobber_errno, NULL);
    green_defer(yield_and_note, NULL);
    errno = E1;
    if (exits)
        green_exit(GREEN_FAILED);
    return GREEN_FAILED;
}

TEST(the_errno_of_a_failed_body_is_taken_before_the_first)
{
    for (int exits = 0; exits <= 1; exits++) {
        green_t *g = green_new(fail_of_e1_with_clobbering, NULL);
        assert_null(green_switch(g, V(exits)));
        errno = E2;
        assert_fails(green_switch(g, "on"), E1);
        assert_noted("on");
        assert_int_equal(green_free(g), 0);
    }
}

static void exit_with(void *value)
{
    note("exit");
    green_exit(value);
}

static void *defer_exits(void *value)
{
    green_defer(note_arg, "1");
    green_defer(exit_with, V(21));
    green_defer(note_arg, "2");
    green_defer(exit_with, V(22));
    green_defer(note_arg, "3");
    return value;
}

TEST(green_exit_in_one_replaces_the_result_and_the_rest_runs)
{
    assert_ptr_equal(result_of(defer_exits, V(5)), V(21));
    assert_noted("3 exit 2 exit 1");
}

static void exit_with_e1(void *arg)
{
    (void)arg;
    errno = E1;
    green_exit(GREEN_FAILED);
}

static void *defer_a_failing_exit(void *value)
{
    green_defer(clobber_errno, NULL);
    green_defer(exit_with_e1, NULL);
    return value;
}

static void *fail_with_a_good_exit(void *value)
{
    green_defer(exit_with, value);
    errno = E1;
    return GREEN_FAILED;
}

TEST(an_exit_may_turn_a_value_into_an_error_and_back)
{
    assert_fails(result_of(defer_a_failing_exit, V(5)), E1); /* and its errno is kept too */
    assert_ptr_equal(result_of(fail_with_a_good_exit, V(9)), V(9));
    assert_noted("exit");
}

static void *set_key_that_exits(void *key)
{
    green_setspecific(*(green_key_t *)key, V(31));
    green_defer(note_arg, "deferred");
    return V(5);
}

TEST(green_exit_in_a_destructor_replaces_the_result_too)
{
    green_key_t key;
    assert_int_equal(green_key_create(&key, exit_with), 0);
    assert_ptr_equal(result_of(set_key_that_exits, &key), V(31));
    assert_noted("deferred exit");
    assert_int_equal(green_key_delete(key), 0);
}

static int exits;

static void count_and_exit(void *value)
{
    volatile char frame[100]; /* many of these would not fit */
    frame[0] = 1;
    exits += frame[0];
    green_exit(value);
}

static void *defer_many_exits(void *value)
{
    for (int i = 0; i < 10000; i++)
        must(green_defer(count_and_exit, V(i)) == 0);
    return value;
}

TEST(many_that_exit_need_no_more_stack_than_one)
{
    const green_options_t small = { .stack_size = 16384 };
    green_t *g = green_new_with(defer_many_exits, NULL, &small);
    exits = 0;
    assert_ptr_equal(green_switch(g, V(5)), V(0));
    assert_int_equal(exits, 10000);
    assert_int_equal(green_state(g), GREEN_DEAD);
    assert_int_equal(green_free(g), 0);
}

static void defer_itself(void *left)
{
    if (--*(int *)left > 0)
        must(green_defer(defer_itself, left) == 0);
}

static void *defer_one_that_defers_itself(void *left)
{
    green_defer(defer_itself, left);
    return NULL;
}

TEST(neither_do_many_that_defer_the_next)
{
    const green_options_t small = { .stack_size = 16384 };
    green_t *g = green_new_with(defer_one_that_defers_itself, NULL, &small);
    int left = 10000;
    assert_null(green_switch(g, &left));
    assert_int_equal(left, 0);
    assert_int_equal(green_free(g), 0);
}

/* ---- Throws ------------------------------------------------------------------------ */

static void *defer_and_live_through_errors(void *value)
{
    green_defer(note_arg, "deferred");
    while (green_yield(NULL) == GREEN_FAILED)
        note("lives");
    return value;
}

TEST(an_error_that_is_lived_through_runs_nothing)
{
    green_t *g = green_new(defer_and_live_through_errors, NULL);
    green_switch(g, NULL);
    assert_null(green_throw(g, E1));
    assert_null(green_throw(g, 0));
    assert_noted("lives lives");
    assert_null(green_switch(g, NULL));
    assert_noted("deferred");
    assert_int_equal(green_free(g), 0);
}

static void *defer_and_echo(void *value)
{
    green_defer(note_arg, "deferred");
    return echo(value);
}

TEST(an_error_that_is_died_of_runs_them)
{
    green_t *g = green_new(defer_and_echo, NULL);
    green_switch(g, NULL);
    assert_fails(green_throw(g, E1), E1);
    assert_noted("deferred");
    assert_int_equal(green_free(g), 0);
    g = green_new(defer_and_echo, NULL);
    green_switch(g, NULL);
    assert_int_equal(green_free(g), 0);
    assert_noted("deferred");
}

TEST(a_new_green_that_dies_has_deferred_nothing)
{
    green_t *g = green_new(defer_and_echo, NULL);
    assert_fails(green_throw(g, E1), E1);
    assert_noted("");
    assert_int_equal(green_free(g), 0);
}

static const green_options_t detached = { .flags = GREEN_DETACHED };

TEST(a_detached_green_is_valid_until_the_last_has_run)
{
    green_t *g = green_new_with(defer_note_where, NULL, &detached);
    assert_null(green_switch(g, &g));
    assert_noted("1 1");
}

/* ---- Main --------------------------------------------------------------------------- */

static void *defer_on_main(void *ends)
{
    must(green_defer(note_arg, "main-1") == 0);
    must(green_defer(note_arg, "main-2") == 0);
    green_t *g = green_new(defer_three, NULL);
    green_switch(g, NULL);
    green_free(g);
    if (ends) {
        must(green_thread_end() == 0);
        must(green_thread_end() == 0); /* they are gone */
        must(green_undefer(0) == -1);
        must(green_defer(note_arg, "never") == 0);
    }
    return NULL;
}

TEST(those_of_main_run_in_green_thread_end_only)
{
    in_thread(defer_on_main, NULL);
    assert_noted("body 3 2 1");
    in_thread(defer_on_main, V(1));
    assert_noted("body 3 2 1 main-2 main-1");
}

static void print(void *arg)
{
    printf("%s\n", (const char *)arg);
}

static int defer_and_exit_the_program(void *arg)
{
    green_defer(print, arg);
    return 0;
}

TEST(the_end_of_the_program_runs_none)
{
    struct child child = run_child(defer_and_exit_the_program, "wrong");
    assert_int_equal(child.status, 0);
    assert_string_equal(child.out, "");
}

/* ---- Taken back ------------------------------------------------------------------------ */

static void *undefer_some(void *value)
{
    errno = 0;
    must(green_undefer(0) == -1 && errno == ENOENT);
    errno = 0;
    must(green_undefer(1) == -1 && errno == ENOENT);
    defer_three(NULL);
    must(green_undefer(0) == 0);
    note("not-3");
    must(green_undefer(1) == 0);
    note("was-2");
    must(green_defer(note_arg, "4") == 0);
    return value;
}

TEST(undefer_takes_back_the_innermost_and_runs_it_if_told_to)
{
    assert_ptr_equal(result_of(undefer_some, V(3)), V(3));
    assert_noted("body not-3 2 was-2 4 1");
}

static void undefer_the_next(void *arg)
{
    note("%d", green_undefer(arg != NULL));
}

static void *defer_one_that_undefers(void *execute)
{
    green_defer(note_arg, "1");
    green_defer(note_arg, "2");
    green_defer(undefer_the_next, execute);
    return NULL;
}

TEST(one_that_runs_is_no_longer_there_to_be_taken_back)
{
    assert_null(result_of(defer_one_that_undefers, NULL));
    assert_noted("0 1");
    assert_null(result_of(defer_one_that_undefers, V(1)));
    assert_noted("2 0 1");
}

static void *execute_one_that_exits(void *value)
{
    green_defer(note_arg, "1");
    green_defer(exit_with, value);
    green_undefer(1);
    note("went on");
    return NULL;
}

TEST(one_executed_by_undefer_may_exit)
{
    assert_ptr_equal(result_of(execute_one_that_exits, V(8)), V(8));
    assert_noted("exit 1"); /* once */
}

TEST(main_may_take_back_its_own)
{
    assert_int_equal(green_defer(note_arg, "main"), 0);
    assert_ptr_equal(result_of(undefer_some, V(3)), V(3)); /* it sees none of main's */
    assert_noted("body not-3 2 was-2 4 1");
    assert_int_equal(green_undefer(1), 0);
    assert_noted("main");
    assert_refused(green_undefer(0), ENOENT);
}

/* ---- Errors ------------------------------------------------------------------------------ */

static int look_with_no_success(green_t *g, void *arg)
{
    (void)g;
    (void)arg;
    errno = 0;
    note("%d", green_defer(note_arg, "wrong") == -1 && errno == EBUSY);
    errno = 0;
    note("%d", green_undefer(1) == -1 && errno == EBUSY);
    return 1;
}

TEST(bad_calls_change_nothing)
{
    assert_refused(green_defer(NULL, V(1)), EINVAL);
    assert_refused(green_undefer(0), ENOENT);
    assert_int_equal(green_defer(note_arg, "main"), 0);
    assert_int_equal(green_each(look_with_no_success, NULL), 1);
    assert_noted("1 1");
    assert_int_equal(green_undefer(1), 0);
    assert_noted("main");
    assert_refused(green_undefer(0), ENOENT);
}

int main(void)
{
    return run_all_tests();
}
