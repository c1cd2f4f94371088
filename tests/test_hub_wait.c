/* SPDX-License-Identifier: MIT */
/* green_hub_wait(), deadlock (rule 15), daemons, and the hub's numbers. */
#include <signal.h>

#include "hubs.h"

static green_event_t event;

static int begin(void **state)
{
    event = (green_event_t)GREEN_EVENT_INIT;
    return hubs_begin_virtual(state);
}

#define WAIT_TEST(sentence) TEST_WITH(sentence, begin, hubs_end)

/* Waits for the event; ends of the error, if it fails, which is noted. */
static void *wait_and_note(void *name)
{
    if (green_event_wait(&event, GREEN_FOREVER) != 0) {
        note("%s:%s", (const char *)name,
             errno == EDEADLK ? "deadlock" : errno == ECANCELED ? "cancelled" : "?");
        return GREEN_FAILED;
    }
    note("%s", (const char *)name);
    return NULL;
}

/* ---- green_hub_wait() ------------------------------------------------------------------------ */

/* gevent: test__hub_join_timeout */
WAIT_TEST(it_waits_until_every_other_task_has_ended)
{
    assert_int_equal(green_hub_wait(GREEN_FOREVER), 0);
    assert_int_equal(green_hub_wait(GREEN_NOWAIT), 0);
    green_task_t *a = spawn(sleep_for, V(50)), *b = spawn(sleep_for, V(20));
    assert_refused(green_hub_wait(GREEN_NOWAIT), ETIMEDOUT);
    assert_refused(green_hub_wait(GREEN_MS(10)), ETIMEDOUT);
    assert_int_equal(clock_ms(), 10);
    assert_int_equal(green_hub_wait(GREEN_FOREVER), 0);
    assert_int_equal(clock_ms(), 50);
    finish(a);
    finish(b);
}

WAIT_TEST(tasks_that_were_freed_are_not_waited_for)
{
    green_task_t *task = spawn(sleep_for, V(10000));
    assert_refused(green_hub_wait(GREEN_MS(50)), ETIMEDOUT);
    assert_int_equal(green_task_free(task), 0);
    assert_int_equal(green_hub_wait(GREEN_NOWAIT), 0);
    assert_int_equal(clock_ms(), 50);
}

WAIT_TEST(tasks_that_tasks_spawn_are_waited_for_too)
{
    green_group_t *group = green_group_new(0, 0);
    assert_int_equal(green_group_spawn(group, sleep_for, V(5)), 0);
    green_task_t *task = spawn(sleep_for, V(7));
    assert_int_equal(green_task_detach(task), 0);
    assert_int_equal(green_hub_wait(GREEN_FOREVER), 0);
    assert_int_equal(clock_ms(), 7);
    assert_int_equal(green_group_free(group), 0);
}

static void *wait_for_hub(void *unused)
{
    must_be_0(green_hub_wait(GREEN_FOREVER));
    note("task:%d", (int)clock_ms());
    return unused;
}

WAIT_TEST(several_who_wait_here_do_not_wait_for_each_other)
{
    green_task_t *a = spawn(wait_for_hub, NULL), *b = spawn(sleep_for, V(20));
    assert_int_equal(green_hub_wait(GREEN_FOREVER), 0);
    note("main:%d", (int)clock_ms());
    finish(a);
    finish(b);
    assert_noted("main:20 task:20");
}

WAIT_TEST(who_comes_last_wakes_those_who_wait_here)
{
    green_task_t *a = spawn(wait_for_hub, NULL);
    turn();
    assert_noted("");
    assert_int_equal(green_hub_wait(GREEN_FOREVER), 0);
    finish(a);
    assert_noted("task:0");
}

static void *wait_twice(void *unused)
{
    green_t *generator = green_new(wait_for_hub, NULL);
    must(generator != NULL);
    must(green_switch(generator, NULL) == NULL);
    must_be_0(green_free(generator));
    return unused;
}

WAIT_TEST(a_generator_of_a_task_may_wait_here)
{
    green_task_t *a = spawn(wait_twice, NULL), *b = spawn(sleep_for, V(5));
    assert_int_equal(green_hub_wait(GREEN_FOREVER), 0);
    finish(a);
    finish(b);
    assert_noted("task:5");
}

static green_task_t *spawn_daemon(green_fn *run, void *arg)
{
    const green_options_t options = { .flags = GREEN_DAEMON };
    green_task_t *task = green_task_spawn_with(run, arg, &options);
    must(task != NULL);
    return task;
}

/* gevent: test_ref_arg */
WAIT_TEST(it_does_not_wait_for_daemons)
{
    green_task_t *daemon = spawn_daemon(sleep_or_fail, V(10000));
    assert_int_equal(green_hub_wait(GREEN_FOREVER), 0);
    assert_int_equal(clock_ms(), 0);
    assert_int_equal(hub_stat(daemons), 1);
    assert_int_equal(hub_stat(tasks), 2);
    assert_int_equal(green_task_free(daemon), 0);
    assert_int_equal(hub_stat(daemons), 0);
}

WAIT_TEST(a_daemon_may_wait_here)
{
    green_task_t *daemon = spawn_daemon(wait_for_hub, NULL), *task = spawn(sleep_for, V(5));
    turn();
    assert_int_equal(green_hub_wait(GREEN_FOREVER), 0);
    finish(daemon);
    finish(task);
    assert_noted("task:5");
}

/* ---- Deadlock -------------------------------------------------------------------------------- */

/* gevent: LoopExit */
WAIT_TEST(main_hears_that_nothing_can_come_again_and_again)
{
    assert_refused(green_event_wait(&event, GREEN_FOREVER), EDEADLK);
    assert_refused(green_event_wait(&event, GREEN_FOREVER), EDEADLK);
    assert_refused(green_sleep(GREEN_FOREVER), EDEADLK);
    assert_null(event.green_private_line.first);
}

WAIT_TEST(the_others_go_on_waiting_and_can_be_rescued)
{
    green_task_t *task = spawn(wait_and_note, "task");
    assert_refused(green_task_join(task, NULL, GREEN_FOREVER), EDEADLK);
    assert_noted("");
    assert_int_equal(green_event_set(&event), 0);
    finish(task);
    assert_noted("task");
}

WAIT_TEST(a_timer_is_something_that_comes_though_it_serves_nobody)
{
    green_task_t *task = spawn(sleep_for, V(50));
    assert_refused(green_event_wait(&event, GREEN_FOREVER), EDEADLK);
    assert_int_equal(clock_ms(), 50);
    finish(task);
}

static void *nap_and_set(void *unused)
{
    nap(50);
    must_be_0(green_event_set(&event));
    return unused;
}

WAIT_TEST(the_timer_of_a_daemon_counts_too)
{
    green_task_t *daemon = spawn_daemon(nap_and_set, NULL);
    assert_int_equal(green_event_wait(&event, GREEN_FOREVER), 0);
    assert_int_equal(clock_ms(), 50);
    finish(daemon);
}

WAIT_TEST(a_daemon_that_only_waits_hides_no_deadlock)
{
    green_task_t *daemon = spawn_daemon(wait_and_note, "daemon");
    assert_refused(green_sleep(GREEN_FOREVER), EDEADLK);
    assert_int_equal(green_task_free(daemon), 0);
    assert_noted("daemon:cancelled");
}

WAIT_TEST(a_wait_with_a_time_is_no_deadlock)
{
    assert_refused(green_event_wait(&event, GREEN_SEC(86400)), ETIMEDOUT);
    assert_int_equal(clock_ms(), 86400000);
}

WAIT_TEST(a_scope_is_something_that_comes)
{
    green_scope_t scope;
    assert_int_equal(green_scope_begin(&scope, GREEN_MS(5), 0), 0);
    assert_refused(green_event_wait(&event, GREEN_FOREVER), ETIMEDOUT);
    assert_int_equal(green_scope_end(&scope), 1);
}

WAIT_TEST(hub_wait_with_tasks_that_wait_for_nothing_is_a_deadlock)
{
    green_task_t *a = spawn(wait_and_note, "a"), *b = spawn(wait_and_note, "b");
    assert_refused(green_hub_wait(GREEN_FOREVER), EDEADLK);
    assert_int_equal(green_event_set(&event), 0);
    assert_int_equal(green_hub_wait(GREEN_FOREVER), 0);
    finish(a);
    finish(b);
    assert_noted("a b");
}

static void *hub_wait_fails(void *unused)
{
    if (green_hub_wait(GREEN_FOREVER) != 0)
        note("task:%s", errno == EDEADLK ? "deadlock" : "?");
    return unused;
}

WAIT_TEST(main_hears_of_it_before_any_task)
{
    green_task_t *a = spawn(hub_wait_fails, NULL), *b = spawn(wait_and_note, "b");
    turn();
    assert_refused(green_event_wait(&event, GREEN_FOREVER), EDEADLK);
    assert_noted("");
    assert_int_equal(green_event_set(&event), 0);
    assert_int_equal(green_hub_wait(GREEN_FOREVER), 0);
    finish(b);
    finish(a);
    assert_noted("b");
}

/* Main is in a switch of green.h, not in a wait of the hub. */
static void *wait_in_generator(void *name)
{
    return wait_and_note(name);
}

WAIT_TEST(of_the_main_task_the_wait_that_began_last_fails)
{
    green_t *generator = green_new(wait_in_generator, NULL);
    green_event_t other = GREEN_EVENT_INIT;
    assert_non_null(generator);
    assert_fails(green_switch(generator, "generator"), EDEADLK); /* main waits only in a switch */
    assert_noted("generator:deadlock");
    assert_refused(green_event_wait(&other, GREEN_FOREVER), EDEADLK);
    assert_int_equal(green_free(generator), 0);
}

static void *hand_to_main(void *unused)
{
    green_switch(green_main(), unused);
    return unused;
}

WAIT_TEST(of_two_waits_of_the_main_task_the_last_fails_the_first_goes_on)
{
    green_event_t other = GREEN_EVENT_INIT;
    green_t *generator = green_new(wait_in_generator, NULL);
    green_task_t *task = spawn(hand_to_main, NULL);
    assert_non_null(generator);
    assert_null(green_switch(generator, "generator")); /* main is entered by the task */
    assert_refused(green_event_wait(&other, GREEN_FOREVER), EDEADLK);
    assert_noted("");
    assert_int_equal(green_event_set(&event), 0);
    assert_refused(green_sleep(GREEN_FOREVER), EINTR); /* the generator dies into it */
    assert_noted("generator");
    assert_int_equal(green_free(generator), 0);
    assert_fails(green_switch(green_task_green(task), NULL), EDEADLK);
    finish(task);
}

/* ---- Rescue: what may come ------------------------------------------------------------------- */

static void *put_later(void *handle)
{
    usleep(20000);
    must_be_0(green_hub_spawn(handle, nap_and_set, NULL));
    must_be_0(green_hub_close(handle));
    return NULL;
}

WORLD_TEST(an_open_handle_may_bring_something_until_it_is_closed)
{
    pthread_t thread;
    event = (green_event_t)GREEN_EVENT_INIT;
    green_hub_t *handle = green_hub_open();
    assert_non_null(handle);
    assert_int_equal(pthread_create(&thread, NULL, put_later, handle), 0);
    assert_int_equal(green_event_wait(&event, GREEN_FOREVER), 0);
    pthread_join(thread, NULL);
    assert_refused(green_sleep(GREEN_FOREVER), EDEADLK);
}

static void *close_later(void *handle)
{
    usleep(20000);
    must_be_0(green_hub_close(handle));
    return NULL;
}

WORLD_TEST(the_close_of_the_last_handle_is_noticed_by_who_sleeps)
{
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) {
        green_hub_t *handle = green_hub_open();
        assert_non_null(handle);
        assert_int_equal(pthread_create(&threads[i], NULL, close_later, handle), 0);
    }
    assert_refused(green_sleep(GREEN_FOREVER), EDEADLK);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
}

/* ---- Others ---------------------------------------------------------------------------------- */

WAIT_TEST(a_select_beside_a_sleeper_is_served)
{
    green_case_t cases[] = { GREEN_CASE_EVENT(&event) };
    green_task_t *sleeper = spawn(sleep_or_fail, V(10000)), *setter = spawn(nap_and_set, NULL);
    assert_int_equal(green_select(cases, 1, GREEN_FOREVER), 0);
    assert_int_equal(clock_ms(), 50);
    assert_int_equal(green_task_join(sleeper, NULL, GREEN_NOWAIT), -1);
    assert_int_equal(green_task_free(sleeper), 0);
    finish(setter);
}

static void *fail_at_once(void *unused)
{
    (void)unused;
    return fail_with(V(E1));
}

/* gevent: TestExceptionInMainloop */
WAIT_TEST(a_task_that_fails_disturbs_nobody)
{
    assert_int_equal(green_task_detach(spawn(fail_at_once, NULL)), 0);
    nap(100);
    assert_int_equal(clock_ms(), 100);
    assert_int_equal(hubs_held()->errors, 1);
    assert_int_equal(hubs_held()->error, E1);
}

static void note_at_exit(void)
{
    fputs("at exit\n", stdout);
}

static void *exit_3(void *unused)
{
    atexit(note_at_exit);
    exit(3);
    return unused;
}

static int exit_in_task(void *unused)
{
    (void)unused;
    spawn(exit_3, NULL);
    fputs("unflushed\n", stdout);
    green_sleep(GREEN_FOREVER);
    return 0;
}

/* gevent: test__systemerror */
TEST(exit_in_a_task_ends_the_process)
{
    struct child child = run_child(exit_in_task, NULL);
    assert_true(WIFEXITED(child.status));
    assert_int_equal(WEXITSTATUS(child.status), 3);
    assert_string_equal(child.out, "unflushed\nat exit\n");
}

static int leave_tasks(void *unused)
{
    (void)unused;
    for (int i = 0; i < 10; i++)
        spawn(wait_and_note, "never");
    turn();
    fputs("unflushed\n", stdout);
    return 5;
}

TEST(when_main_returns_the_program_ends_whatever_tasks_do)
{
    event = (green_event_t)GREEN_EVENT_INIT;
    struct child child = run_child(leave_tasks, NULL);
    assert_true(WIFEXITED(child.status));
    assert_int_equal(WEXITSTATUS(child.status), 5);
    assert_string_equal(child.out, "unflushed\n");
}

static void *print_later(void *unused)
{
    nap(5);
    fputs("task\n", stdout);
    return unused;
}

static void wait_at_exit(void)
{
    finish(spawn(print_later, NULL));
    fputs("waited\n", stdout);
}

static int use_the_hub_at_exit(void *unused)
{
    (void)unused;
    turn();
    atexit(wait_at_exit);
    return 0;
}

TEST(a_function_of_atexit_may_spawn_and_wait)
{
    struct child child = run_child(use_the_hub_at_exit, NULL);
    assert_int_equal(child.status, 0);
    assert_string_equal(child.out, "task\nwaited\n");
}

static int be_interrupted(void *unused)
{
    (void)unused;
    raise(SIGINT);
    return 0;
}

static void *raise_it(void *unused)
{
    return V(be_interrupted(unused));
}

static int interrupt_in_task(void *unused)
{
    signal(SIGINT, SIG_DFL); /* it may be ignored by who began this */
    spawn(raise_it, unused);
    green_sleep(GREEN_SEC(10));
    return 0;
}

TEST(a_signal_with_its_default_action_ends_the_process)
{
    struct child child = run_child(interrupt_in_task, NULL);
    assert_true(WIFSIGNALED(child.status));
    assert_int_equal(WTERMSIG(child.status), SIGINT);
}

/* ---- Numbers --------------------------------------------------------------------------------- */

WAIT_TEST(the_numbers_are_true)
{
    green_task_t *tasks[100];
    green_hub_stats_t stats;
    assert_int_equal(green_hub_stats(&stats, sizeof stats), 0);
    uint64_t turns = stats.turns;
    assert_int_equal(stats.tasks, 1);
    assert_int_equal(stats.ready, 0);
    assert_int_equal(stats.timers, 0);
    for (int i = 0; i < 100; i++)
        tasks[i] = i % 2 ? spawn(sleep_for, V(5)) : spawn(wait_for_event, &event);
    assert_int_equal(green_hub_stats(&stats, sizeof stats), 0);
    assert_int_equal(stats.tasks, 101);
    assert_int_equal(stats.ready, 100);
    turn();
    assert_int_equal(green_hub_stats(&stats, sizeof stats), 0);
    assert_int_equal(stats.tasks, 101);
    assert_int_equal(stats.ready, 0);
    assert_int_equal(stats.timers, 50);
    assert_int_equal(stats.descriptors, 0);
    assert_int_equal(stats.offloads, 0);
    assert_int_equal(stats.turns, turns + 101);
    assert_int_equal(green_event_set(&event), 0);
    assert_int_equal(hub_stat(ready), 50);
    for (int i = 0; i < 100; i++)
        finish(tasks[i]);
    assert_int_equal(green_hub_stats(&stats, sizeof stats), 0);
    assert_int_equal(stats.tasks, 1);
    assert_int_equal(stats.timers, 0);
}

WAIT_TEST(who_knows_fewer_numbers_gets_those_who_knows_more_gets_0_for_them)
{
    struct {
        green_hub_stats_t stats;
        char more[8];
    } room;
    memset(&room, 0x55, sizeof room);
    assert_int_equal(green_hub_stats(&room.stats, sizeof(size_t)), 0);
    assert_int_equal(room.stats.tasks, 1);
    assert_int_equal(room.stats.ready, (size_t)0x5555555555555555);
    assert_int_equal(green_hub_stats(&room.stats, 0), 0);
    memset(&room, 0x55, sizeof room);
    assert_int_equal(green_hub_stats(&room.stats, sizeof room), 0);
    assert_int_equal(room.stats.tasks, 1);
    for (size_t i = 0; i < sizeof room.more; i++)
        assert_int_equal(room.more[i], 0);
    assert_refused(green_hub_stats(NULL, sizeof room), EINVAL);
}

int main(void)
{
    return run_all_tests();
}
