/* SPDX-License-Identifier: MIT */
/* Tasks begin: whose hub it is, when they start, and with which options (rules 1 and 2). */
#include "hubs.h"

/* ---- The hub of a thread ------------------------------------------------------- */

static void *look_only(void *unused)
{
    green_hub_stats_t stats = { .tasks = 7 };
    must(green_now() > 0);
    must(green_task_current() == NULL);
    must_be_0(green_hub_stats(&stats, sizeof stats));
    must(stats.tasks == 0 && stats.turns == 0);
    must_be_0(green_hub_dump(STDOUT_FILENO));
    must_be_0(green_task_free(NULL));
    must_be_0(green_group_free(NULL));
    must_be_0(green_queue_free(NULL));
    must_be_0(green_hub_close(NULL));
    must(green_queue_size(NULL) == 0 && green_group_size(NULL) == 0);
    must_be_0(green_hub_init(NULL)); /* so there was none */
    must_be_0(green_hub_end(GREEN_FOREVER));
    return unused;
}

HUB_TEST(what_only_looks_makes_no_hub)
{
    in_thread(look_only, NULL);
}

static void *use_it(void *unused)
{
    turn();
    must_fail(green_hub_init(NULL), EBUSY);
    must(green_task_current() != NULL);
    must_be_0(green_hub_end(GREEN_FOREVER));
    must(green_task_current() == NULL);
    return unused;
}

HUB_TEST(the_first_use_makes_the_hub_and_each_thread_has_its_own)
{
    in_thread(use_it, NULL);
    assert_int_equal(hub_stat(turns), 0);
}

static void *note_and_yield(void *number)
{
    note_number(number);
    turn();
    note_number(number);
    return number;
}

static void *run_two_tasks(void *unused)
{
    green_task_t *task = spawn(note_and_yield, V(8));
    must(finish(task) == V(8));
    must_be_0(green_hub_end(GREEN_FOREVER));
    return unused;
}

HUB_TEST(a_thread_that_waits_runs_its_own_tasks_alone)
{
    green_task_t *task = spawn(note_and_yield, V(1));
    in_thread(run_two_tasks, NULL);
    assert_noted("8 8");
    assert_ptr_equal(finish(task), V(1));
    assert_noted("1 1");
}

/* ---- Starting ------------------------------------------------------------------ */

/* gevent: test_spawn_non_callable */
HUB_TEST(spawn_refuses_null)
{
    assert_null_errno(green_task_spawn(NULL, NULL), EINVAL);
    assert_int_equal(hub_stat(ready), 0);
    assert_int_equal(hub_stat(tasks), 1);
}

/* gevent: test__loop_callback, test__core_callback */
HUB_TEST(a_task_starts_when_the_spawner_waits_not_before)
{
    green_task_t *task = spawn(note_number, V(1));
    assert_noted("");
    assert_int_equal(green_state(green_task_green(task)), GREEN_NEW);
    assert_int_equal(hub_stat(ready), 1);
    turn();
    assert_noted("1");
    turn();
    assert_noted("");
    assert_ptr_equal(finish(task), V(1));
}

static void *spawn_and_return(void *out)
{
    *(green_task_t **)out = spawn(note_number, V(3));
    return note_number(V(2));
}

HUB_TEST(a_task_starts_when_the_spawner_has_ended)
{
    green_task_t *inner = NULL, *outer = spawn(spawn_and_return, &inner);
    nap(10);
    assert_noted("2 3"); /* gevent: test_spawn_is_not_cancelled: its end ends nobody */
    assert_ptr_equal(finish(outer), V(2));
    assert_ptr_equal(finish(inner), V(3));
}

HUB_TEST(tasks_start_in_the_order_in_which_they_were_spawned)
{
    green_task_t *tasks[5];
    for (int i = 0; i < 5; i++)
        tasks[i] = spawn(note_number, V(i + 1));
    turn();
    assert_noted("1 2 3 4 5");
    for (int i = 0; i < 5; i++)
        assert_ptr_equal(finish(tasks[i]), V(i + 1));
}

static void *spawn_behind(void *out)
{
    note("a");
    *(green_task_t **)out = spawn(note_number, V(9));
    turn();
    note("a");
    return NULL;
}

HUB_TEST(a_spawned_task_goes_to_the_end_of_the_line)
{
    green_task_t *last, *first = spawn(spawn_behind, &last);
    green_task_t *second = spawn(note_and_yield, V(2));
    assert_int_equal(green_hub_wait(GREEN_FOREVER), 0);
    assert_noted("a 2 9 a 2");
    assert_int_equal(green_task_free(first), 0);
    assert_int_equal(green_task_free(second), 0);
    assert_int_equal(green_task_free(last), 0);
}

static void *compute(void *unused)
{
    note("begin");
    green_task_t *other = spawn(note_number, V(1));
    must_be_0(green_task_cancel(other));
    must_be_0(green_task_check());
    note("end");
    must_be_0(green_task_detach(other));
    return unused;
}

HUB_TEST(a_task_runs_until_it_waits_or_ends)
{
    green_task_t *task = spawn(compute, NULL);
    nap(1);
    assert_noted("begin end 1");
    assert_null(finish(task));
}

/* gevent: test_simple_exit */
static void *sleep_and_return(void *value)
{
    nap(10);
    return value;
}

HUB_TEST(the_green_of_a_task_is_new_then_suspended_then_none)
{
    void *value = V(1);
    green_task_t *task = spawn(sleep_and_return, V(5));
    assert_int_equal(green_state(green_task_green(task)), GREEN_NEW);
    assert_refused(green_task_join(task, &value, GREEN_NOWAIT), ETIMEDOUT);
    turn();
    assert_int_equal(green_state(green_task_green(task)), GREEN_SUSPENDED);
    assert_refused(green_task_join(task, &value, GREEN_NOWAIT), ETIMEDOUT);
    assert_ptr_equal(value, V(1));
    nap(11);
    assert_null(green_task_green(task));
    assert_int_equal(green_task_join(task, &value, GREEN_NOWAIT), 0);
    assert_ptr_equal(value, V(5));
    assert_int_equal(green_task_free(task), 0);
}

static void *look_at_oneself(void *task)
{
    must(green_task_current() == *(green_task_t **)task);
    must(green_task_green(green_task_current()) == green_current());
    must(green_state(green_current()) == GREEN_RUNNING);
    must(strcmp(green_name(green_parent(green_current())), "hub") == 0);
    must(green_parent(green_parent(green_current())) == green_main());
    return NULL;
}

HUB_TEST(a_task_is_a_green_whose_parent_is_the_hub)
{
    green_task_t *task = spawn(look_at_oneself, &task);
    assert_null(finish(task));
}

HUB_TEST(main_is_a_task_too)
{
    green_task_t *main_task = green_task_current();
    assert_non_null(main_task);
    assert_ptr_equal(green_task_green(main_task), green_main());
    assert_int_equal(hub_stat(tasks), 1);
    assert_refused(green_task_free(main_task), EINVAL);
    assert_refused(green_task_detach(main_task), EINVAL);
}

HUB_TEST(green_task_green_of_null_is_refused)
{
    assert_null_errno(green_task_green(NULL), EINVAL);
}

/* ---- What a trace hook sees ---------------------------------------------------- */

static green_t *traced;
static int entries, deaths;

static void on_trace(green_trace_event_t event, green_t *from, green_t *to, void *data)
{
    (void)data;
    if (to == traced) {
        entries++;
        must(event == GREEN_TRACE_SWITCH);
        must(green_state(to) == GREEN_RUNNING);
    }
    if (from == traced && green_state(from) == GREEN_DEAD)
        deaths++;
    else if (from == traced)
        must(green_state(from) == GREEN_SUSPENDED);
}

/* gevent: test_dead_is_false_for_current_greenlet_during_switch, add_spawn_callback */
HUB_TEST(a_trace_hook_sees_the_start_each_turn_and_the_death_of_a_task)
{
    green_task_t *task = spawn(note_and_yield, V(1));
    traced = green_task_green(task);
    entries = deaths = 0;
    green_set_trace(on_trace, NULL);
    turn();
    int started = entries;
    turn();
    green_set_trace(NULL, NULL);
    assert_int_equal(started, 1);
    assert_int_equal(entries, 2);
    assert_int_equal(deaths, 1);
    assert_int_equal(green_task_free(task), 0);
}

/* ---- Timers -------------------------------------------------------------------- */

static void *nap_and_note(void *ms)
{
    nap((intptr_t)ms);
    return note_number(ms);
}

/* gevent: test_timer_fired */
HUB_TEST(timers_fire_in_the_order_in_which_they_are_due)
{
    static const int due[] = { 30, 10, 50, 20, 40 };
    for (int i = 0; i < 5; i++)
        must_be_0(green_task_detach(spawn(nap_and_note, V(due[i]))));
    nap(25);
    assert_noted("10 20");
    nap(100);
    assert_noted("30 40 50");
}

/* gevent: start_later */
HUB_TEST(a_task_that_begins_with_a_sleep_can_be_cancelled_before_it_is_over)
{
    green_task_t *task = spawn(sleep_or_fail, V(50));
    nap(10);
    assert_int_equal(green_task_cancel(task), 0);
    assert_fails(finish(task), ECANCELED);
    assert_int_equal(clock_ms(), 10);
}

/* ---- Options ------------------------------------------------------------------- */

static void *show_options(void *name)
{
    void *low;
    size_t size;
    green_stack(green_current(), &low, &size);
    must(strcmp(green_name(green_current()), name) == 0);
    must(green_data(green_current()) == V(3));
    return V(size);
}

HUB_TEST(a_task_has_the_name_data_and_stack_of_its_options)
{
    green_options_t options = { .name = "gopher", .data = V(3), .stack_size = 128 << 10 };
    green_task_t *task = green_task_spawn_with(show_options, (void *)"gopher", &options);
    assert_non_null(task);
    assert_string_equal(green_name(green_task_green(task)), "gopher");
    memset(&options, 0xa5, sizeof options); /* they are copied */
    assert_true((intptr_t)finish(task) >= 128 << 10);
}

HUB_TEST(unknown_options_are_refused)
{
    green_options_t options = { .flags = 0x40000000u };
    assert_null_errno(green_task_spawn_with(give_back, NULL, &options), EINVAL);
    options.flags = 0;
    options.reserved[3] = &options;
    assert_null_errno(green_task_spawn_with(give_back, NULL, &options), EINVAL);
    options.reserved[3] = NULL;
    options.stack_size = SIZE_MAX;
    assert_null_errno(green_task_spawn_with(give_back, NULL, &options), EINVAL);
    assert_int_equal(hub_stat(tasks), 1);
}

HUB_TEST(a_stack_of_the_callers_is_his_again_when_the_task_has_been_joined)
{
    enum { SIZE = 128 << 10 };
    char *stack = malloc(SIZE);
    green_options_t options = { .stack = stack, .stack_size = SIZE };
    green_task_t *task = green_task_spawn_with(sleep_and_return, V(4), &options);
    assert_non_null(task);
    assert_int_equal(green_task_join(task, NULL, GREEN_FOREVER), 0);
    memset(stack, 0xa5, SIZE);
    turn();
    assert_int_equal(green_task_free(task), 0);
    free(stack);
}

HUB_TEST(a_stack_of_the_callers_is_refused_for_a_detached_task)
{
    enum { SIZE = 64 << 10 };
    char *stack = malloc(SIZE);
    green_options_t options = { .stack = stack, .stack_size = SIZE, .flags = GREEN_DETACHED };
    assert_null_errno(green_task_spawn_with(give_back, NULL, &options), EINVAL);
    free(stack);
}

static void *stack_size_of_mine(void *unused)
{
    void *low;
    size_t size;
    (void)unused;
    green_stack(green_current(), &low, &size);
    return V(size);
}

static void *with_another_stack_size(void *unused)
{
    const green_hub_options_t options = { .stack_size = 1 << 20 };
    const green_options_t own = { .stack_size = 64 << 10 };
    must_be_0(green_hub_init(&options));
    must((intptr_t)finish(spawn(stack_size_of_mine, NULL)) >= 1 << 20);
    must((intptr_t)finish(green_task_spawn_with(stack_size_of_mine, NULL, &own)) < 1 << 20);
    must_be_0(green_hub_end(GREEN_FOREVER));
    return unused;
}

HUB_TEST(tasks_that_ask_for_no_stack_size_have_the_hubs)
{
    in_thread(with_another_stack_size, NULL);
}

/* ---- Detached ------------------------------------------------------------------ */

HUB_TEST(a_detached_task_runs_and_is_released_at_its_end)
{
    green_task_t *task = spawn(sleep_and_return, NULL);
    assert_int_equal(green_task_detach(task), 0);
    assert_refused(green_task_detach(task), EINVAL);
    assert_refused(green_task_free(task), EINVAL);
    assert_int_equal(hub_stat(tasks), 2);
    nap(20);
    assert_int_equal(hub_stat(tasks), 1);
}

HUB_TEST(a_task_that_has_ended_is_released_by_detach)
{
    green_task_t *task = spawn(give_back, NULL);
    turn();
    assert_int_equal(green_task_detach(task), 0);
}

HUB_TEST(a_task_may_be_detached_from_the_start)
{
    const green_options_t options = { .flags = GREEN_DETACHED };
    void *value = NULL;
    green_task_t *task = green_task_spawn_with(sleep_and_return, V(6), &options);
    assert_non_null(task);
    assert_int_equal(green_task_join(task, &value, GREEN_FOREVER), 0); /* valid until it ends */
    assert_ptr_equal(value, V(6));
    assert_int_equal(hub_stat(tasks), 1);
}

HUB_TEST(a_detached_task_lives_though_nobody_has_its_handle)
{
    must_be_0(green_task_detach(spawn(nap_and_note, V(7))));
    assert_int_equal(green_hub_wait(GREEN_FOREVER), 0);
    assert_noted("7");
}

int main(void)
{
    return run_all_tests();
}
