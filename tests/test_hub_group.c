/* SPDX-License-Identifier: MIT */
/* Groups: limits, ends, errors, and who may wait for whom. */
#include "hubs.h"

static green_group_t *group;

static void make(size_t limit, unsigned flags)
{
    group = green_group_new(limit, flags);
    must(group != NULL);
}

static void spawn_in(green_fn *run, void *arg)
{
    must_be_0(green_group_spawn(group, run, arg));
}

static void wait_all(void)
{
    must_be_0(green_group_wait(group, NULL, GREEN_FOREVER));
}

static void drop(void)
{
    must_be_0(green_group_free(group));
}

static void *fail_after(void *ms)
{
    nap((intptr_t)ms);
    return fail_with(V(E1));
}

/* ---- Nonsense -------------------------------------------------------------------------------- */

HUB_TEST(nonsense_is_refused)
{
    assert_null_errno(green_group_new(0, 1), EINVAL);
    assert_null_errno(green_group_new(0, GREEN_DAEMON), EINVAL);
    assert_refused(green_group_spawn(NULL, never, NULL), EINVAL);
    assert_refused(green_group_wait(NULL, NULL, GREEN_NOWAIT), EINVAL);
    assert_refused(green_group_cancel(NULL), EINVAL);
    assert_int_equal(green_group_free(NULL), 0);
    errno = 0;
    assert_int_equal(green_group_size(NULL), 0);
    assert_int_equal(errno, EINVAL);
    make(0, 0);
    const green_options_t detached = { .flags = GREEN_DETACHED };
    assert_refused(green_group_spawn(group, NULL, NULL), EINVAL);
    assert_refused(green_group_spawn_with(group, never, NULL, &detached), EINVAL);
    assert_int_equal(green_group_size(group), 0);
    drop();
    assert_noted("");
}

/* ---- Limits ---------------------------------------------------------------------------------- */

/* gevent: PoolBasic.test_execute_async, TestSpawn.test */
HUB_TEST(a_spawn_beyond_the_limit_waits_until_a_task_has_ended)
{
    make(2, 0);
    spawn_in(sleep_for, V(100));
    spawn_in(sleep_for, V(50));
    assert_int_equal(clock_ms(), 0);
    spawn_in(sleep_for, V(10));
    assert_int_equal(clock_ms(), 50);
    spawn_in(sleep_for, V(10));
    assert_int_equal(clock_ms(), 60);
    assert_int_equal(green_group_size(group), 2);
    wait_all();
    assert_int_equal(clock_ms(), 100);
    assert_int_equal(green_group_size(group), 0);
    drop();
}

/* gevent: test_add_method_timeout */
HUB_TEST(a_spawn_that_runs_out_of_time_has_spawned_nothing)
{
    green_scope_t scope;
    make(1, 0);
    spawn_in(sleep_for, V(200));
    assert_int_equal(green_scope_begin(&scope, GREEN_MS(100), 0), 0);
    assert_refused(green_group_spawn(group, never, NULL), ETIMEDOUT);
    assert_int_equal(green_scope_end(&scope), 1);
    assert_int_equal(clock_ms(), 100);
    assert_int_equal(green_group_size(group), 1);
    wait_all();
    assert_noted("");
    assert_int_equal(clock_ms(), 200);
    spawn_in(give_back, NULL); /* the place is not lost */
    wait_all();
    drop();
}

static void *spawn_in_vain(void *error)
{
    must_fail(green_group_spawn(group, never, NULL), (int)(intptr_t)error);
    return NULL;
}

HUB_TEST(a_spawner_that_is_cancelled_while_it_waits_for_room_leaves_the_place)
{
    make(1, 0);
    spawn_in(sleep_for, V(10));
    green_task_t *spawner = spawn(spawn_in_vain, V(ECANCELED));
    turn();
    assert_int_equal(green_task_cancel(spawner), 0);
    finish(spawner);
    spawn_in(note_number, V(1));
    wait_all();
    assert_noted("1");
    drop();
}

HUB_TEST(limit_0_is_none)
{
    int count = times(1000, 200);
    green_hub_stats_t stats;
    make(0, 0);
    for (int i = 0; i < count; i++)
        spawn_in(sleep_for, V(10));
    assert_int_equal(clock_ms(), 0);
    assert_int_equal(green_group_size(group), count);
    assert_int_equal(green_hub_stats(&stats, sizeof stats), 0);
    assert_int_equal(stats.tasks, count + 1);
    wait_all();
    assert_int_equal(green_hub_stats(&stats, sizeof stats), 0);
    assert_int_equal(stats.tasks, 1);
    assert_int_equal(clock_ms(), 10);
    drop();
}

/* gevent: test_stderr_raising */
HUB_TEST(a_task_that_fails_makes_room_too)
{
    int error = 0;
    make(1, 0);
    spawn_in(fail_with, V(E1));
    spawn_in(note_number, V(1));
    assert_int_equal(green_group_wait(group, &error, GREEN_FOREVER), 0);
    assert_int_equal(error, E1);
    assert_noted("1");
    drop();
    assert_int_equal(hubs_held()->errors, 0); /* the group has heard of it */
}

static int most, running;

static void *count_running(void *unused)
{
    most = ++running > most ? running : most;
    nap(10);
    running--;
    return unused;
}

static void *spawn_many(void *unused)
{
    for (int i = 0; i < 10; i++)
        spawn_in(count_running, NULL);
    return unused;
}

HUB_TEST(several_spawners_together_stay_within_the_limit)
{
    green_task_t *spawners[3];
    most = running = 0;
    make(3, 0);
    for (int i = 0; i < 3; i++)
        spawners[i] = spawn(spawn_many, NULL);
    for (int i = 0; i < 3; i++)
        finish(spawners[i]);
    wait_all();
    assert_int_equal(most, 3);
    assert_int_equal(clock_ms(), 100);
    drop();
}

/* ---- Waiting --------------------------------------------------------------------------------- */

/* gevent: TestJoinEmpty, TestSpawn.testSpawnAndWait, test_waitall */
HUB_TEST(wait_waits_for_all_or_for_its_time)
{
    int error = 7;
    make(0, 0);
    assert_int_equal(green_group_wait(group, &error, GREEN_NOWAIT), 0);
    assert_int_equal(error, 0);
    spawn_in(sleep_for, V(200));
    spawn_in(sleep_for, V(400));
    error = 7;
    assert_refused(green_group_wait(group, &error, GREEN_NOWAIT), ETIMEDOUT);
    assert_refused(green_group_wait(group, &error, GREEN_MS(10)), ETIMEDOUT);
    assert_int_equal(error, 7);
    assert_int_equal(clock_ms(), 10);
    assert_int_equal(green_group_wait(group, &error, GREEN_FOREVER), 0);
    assert_int_equal(error, 0);
    assert_int_equal(clock_ms(), 400);
    drop();
}

HUB_TEST(results_are_where_the_tasks_wrote_them)
{
    static int results[10];
    struct {
        int in, *out;
    } items[10];
    make(3, 0);
    for (int i = 0; i < 10; i++) {
        items[i].in = i;
        items[i].out = &results[i];
        spawn_in(give_back, &items[i]);
        *items[i].out = items[i].in * items[i].in;
    }
    wait_all();
    for (int i = 0; i < 10; i++)
        assert_int_equal(results[i], i * i);
    drop();
}

static void *wait_and_note(void *number)
{
    int error = -1;
    must_be_0(green_group_wait(group, &error, GREEN_FOREVER));
    note("%d:%d", (int)(intptr_t)number, error);
    return NULL;
}

HUB_TEST(all_who_wait_hear_of_the_end_and_of_the_error)
{
    make(0, 0);
    spawn_in(fail_after, V(10));
    green_task_t *a = spawn(wait_and_note, V(1)), *b = spawn(wait_and_note, V(2));
    finish(a);
    finish(b);
    char text[32];
    snprintf(text, sizeof text, "1:%d 2:%d", E1, E1);
    assert_noted(text);
    drop();
}

static void *spawn_three(void *unused)
{
    for (int i = 0; i < 3; i++) {
        spawn_in(sleep_for, V(20));
        nap(10);
    }
    return unused;
}

HUB_TEST(wait_returns_at_the_first_moment_when_there_is_none)
{
    make(0, 0);
    spawn_in(sleep_for, V(5));
    green_task_t *spawner = spawn(spawn_three, NULL);
    wait_all();
    assert_int_equal(clock_ms(), 40);
    finish(spawner);
    drop();
}

/* ---- Errors ---------------------------------------------------------------------------------- */

struct failing {
    int ms, error;
};

static void *fail_as_told(void *arg)
{
    struct failing *failing = arg;
    if (green_sleep(GREEN_MS(failing->ms)) != 0) {
        note("%s", errno == ECANCELED ? "cancelled" : "?");
        return GREEN_FAILED;
    }
    note("ran");
    return failing->error != 0 ? fail_with(V(failing->error)) : NULL;
}

/* gevent: TestErrorInHandler */
HUB_TEST(a_failure_stops_nobody_and_the_first_in_time_is_told)
{
    struct failing tasks[] = { { 30, E2 }, { 10, 0 }, { 20, E1 }, { 40, E2 } };
    int error = 0;
    make(0, 0);
    for (int i = 0; i < 4; i++)
        spawn_in(fail_as_told, &tasks[i]);
    assert_int_equal(green_group_wait(group, &error, GREEN_FOREVER), 0);
    assert_int_equal(error, E1);
    assert_noted("ran ran ran ran");
    drop();
}

HUB_TEST(with_all_or_none_the_first_failure_cancels_the_others_and_every_later_spawn)
{
    struct failing tasks[10];
    int error = 0;
    make(0, GREEN_ALL_OR_NONE);
    for (int i = 0; i < 10; i++) {
        tasks[i] = (struct failing){ i == 2 ? 10 : 10000, i == 2 ? E1 : 0 };
        spawn_in(fail_as_told, &tasks[i]);
    }
    assert_int_equal(green_group_wait(group, &error, GREEN_FOREVER), 0);
    assert_int_equal(error, E1);
    assert_int_equal(clock_ms(), 10);
    assert_noted("ran cancelled cancelled cancelled cancelled cancelled cancelled cancelled "
                 "cancelled cancelled");
    assert_refused(green_group_spawn(group, never, NULL), ECANCELED);
    drop();
}

HUB_TEST(with_all_or_none_to_end_cancelled_is_no_failure)
{
    int error = 7;
    make(0, GREEN_ALL_OR_NONE);
    spawn_in(fail_with, V(ECANCELED));
    spawn_in(sleep_for, V(10));
    assert_int_equal(green_group_wait(group, &error, GREEN_FOREVER), 0);
    assert_int_equal(error, 0);
    assert_int_equal(clock_ms(), 10);
    drop();
}

HUB_TEST(an_error_is_told_once)
{
    int error = 7;
    make(0, 0);
    spawn_in(fail_with, V(E1));
    wait_all(); /* nobody asks for it, yet it has been told */
    assert_int_equal(green_group_wait(group, &error, GREEN_FOREVER), 0);
    assert_int_equal(error, 0);
    spawn_in(fail_with, V(E1));
    turn();
    assert_int_equal(green_group_size(group), 0);
    assert_int_equal(green_group_wait(group, &error, GREEN_FOREVER), 0);
    assert_int_equal(error, E1);
    spawn_in(give_back, NULL);
    assert_int_equal(green_group_wait(group, &error, GREEN_FOREVER), 0);
    assert_int_equal(error, 0);
    drop();
}

HUB_TEST(an_error_is_not_lost_by_a_wait_that_fails)
{
    int error = 7;
    make(0, 0);
    spawn_in(fail_with, V(E1));
    spawn_in(sleep_for, V(20));
    assert_refused(green_group_wait(group, &error, GREEN_MS(10)), ETIMEDOUT);
    assert_int_equal(error, 7);
    assert_int_equal(green_group_wait(group, &error, GREEN_FOREVER), 0);
    assert_int_equal(error, E1);
    drop();
}

/* Go: #27837 */
HUB_TEST(cancelled_is_never_the_error_of_a_group)
{
    struct failing late = { 10, E1 };
    int error = 7;
    make(0, 0);
    spawn_in(fail_with, V(ECANCELED));
    spawn_in(fail_as_told, &late);
    assert_int_equal(green_group_wait(group, &error, GREEN_FOREVER), 0);
    assert_int_equal(error, E1);
    assert_noted("ran");
    drop();
}

/* ---- Cancel and free ------------------------------------------------------------------------- */

HUB_TEST(a_cancelled_group_is_cancelled_for_ever)
{
    int error = 7;
    make(1, 0);
    spawn_in(sleep_or_fail, V(10000));
    green_task_t *spawner = spawn(spawn_in_vain, V(ECANCELED));
    turn();
    assert_int_equal(green_group_cancel(group), 0);
    assert_int_equal(green_group_size(group), 1); /* it has not had its turn */
    assert_int_equal(green_group_wait(group, &error, GREEN_FOREVER), 0);
    assert_int_equal(error, 0);
    finish(spawner);
    assert_refused(green_group_spawn(group, never, NULL), ECANCELED);
    assert_int_equal(green_group_cancel(group), 0);
    assert_int_equal(clock_ms(), 0);
    drop();
    assert_noted("");
}

HUB_TEST(free_ends_all_at_once)
{
    make(0, 0);
    spawn_in(sleep_or_fail, V(10000));
    spawn_in(sleep_or_fail, V(20000));
    nap(1);
    drop();
    assert_int_equal(clock_ms(), 1);
    assert_int_equal(hub_stat(tasks), 1);
}

static void *clean_up_for(void *ms)
{
    green_scope_t shield;
    must_fail(green_sleep(GREEN_FOREVER), ECANCELED);
    must_be_0(green_scope_begin(&shield, GREEN_FOREVER, GREEN_SHIELD));
    nap((intptr_t)ms);
    must(green_scope_end(&shield) == 0);
    note("clean");
    return NULL;
}

HUB_TEST(free_waits_for_clean_up_whatever_comes)
{
    green_scope_t scope;
    make(0, 0);
    spawn_in(clean_up_for, V(100));
    assert_int_equal(green_scope_begin(&scope, GREEN_MS(10), 0), 0);
    drop();
    assert_int_equal(clock_ms(), 100);
    assert_noted("clean");
    assert_int_equal(green_scope_end(&scope), 0);
}

static void *spawn_in_vain_and_note(void *error)
{
    spawn_in_vain(error);
    note("refused:%d", (int)clock_ms());
    return NULL;
}

HUB_TEST(a_spawner_who_waits_is_refused_at_the_cancel_not_when_there_is_room)
{
    make(1, 0);
    spawn_in(clean_up_for, V(20));
    green_task_t *spawner = spawn(spawn_in_vain_and_note, V(ECANCELED));
    turn();
    assert_int_equal(green_group_cancel(group), 0);
    wait_all();
    assert_noted("refused:0 clean");
    finish(spawner);
    drop();
}

static void *free_it(void *unused)
{
    drop();
    note("freed");
    return unused;
}

static void *wait_for_free(void *unused)
{
    must_be_0(green_group_wait(group, NULL, GREEN_FOREVER));
    note("waited");
    return unused;
}

HUB_TEST(others_that_wait_are_served_before_who_frees_it)
{
    make(0, 0);
    spawn_in(clean_up_for, V(10));
    turn();
    green_task_t *freer = spawn(free_it, NULL);
    turn();
    assert_refused(green_group_free(group), EBUSY);
    assert_refused(green_group_spawn(group, never, NULL), ECANCELED);
    green_task_t *waiter = spawn(wait_for_free, NULL);
    finish(freer);
    finish(waiter);
    assert_noted("clean waited freed");
}

HUB_TEST(a_spawner_who_waits_is_refused_when_the_group_is_freed)
{
    make(1, 0);
    spawn_in(sleep_or_fail, V(1000));
    green_task_t *spawner = spawn(spawn_in_vain, V(ECANCELED));
    turn();
    drop();
    finish(spawner);
    assert_noted("");
}

static green_event_t event;

/* Its only member has ended, and the spawner who waited for the place has not had its turn. */
static green_task_t *promise_a_place(green_fn *spawner)
{
    event = (green_event_t)GREEN_EVENT_INIT;
    make(1, 0);
    spawn_in(wait_for_event, &event);
    green_task_t *task = spawn(spawner, V(ECANCELED));
    turn();
    must_be_0(green_event_set(&event));
    turn();
    must(green_group_size(group) == 0);
    return task;
}

HUB_TEST(a_spawner_who_was_promised_a_place_is_refused_when_the_group_is_cancelled)
{
    green_task_t *spawner = promise_a_place(spawn_in_vain);
    assert_int_equal(green_group_cancel(group), 0);
    wait_all(); /* also for the place that was promised */
    assert_noted("");
    finish(spawner);
    drop();
}

HUB_TEST(a_group_waits_for_a_place_that_was_promised)
{
    green_task_t *spawner = promise_a_place(spawn_three);
    assert_refused(green_group_wait(group, NULL, GREEN_NOWAIT), ETIMEDOUT);
    wait_all();
    assert_int_equal(clock_ms(), 60); /* and so for each of the three */
    finish(spawner);
    wait_all();
    drop();
}

HUB_TEST(a_group_is_freed_though_a_place_was_promised)
{
    green_task_t *spawner = promise_a_place(spawn_in_vain);
    drop();
    finish(spawner);
    assert_noted("");
}

HUB_TEST(a_place_that_was_promised_is_nobody_elses)
{
    green_task_t *spawner = promise_a_place(spawn_three);
    spawn_in(note_number, V(1)); /* waits for the first of the three */
    assert_true(clock_ms() >= 20);
    finish(spawner);
    wait_all();
    drop();
    assert_noted("1");
}

static void *free_members(void *unused)
{
    must_fail(green_group_free(group), EDEADLK);
    must_fail(green_group_wait(group, NULL, GREEN_FOREVER), EDEADLK);
    must_fail(green_group_wait(group, NULL, GREEN_NOWAIT), EDEADLK);
    turn();
    must(green_task_check() == 0);
    note("lives");
    return unused;
}

HUB_TEST(a_member_can_neither_free_nor_wait_for_its_group)
{
    make(0, 0);
    spawn_in(free_members, NULL);
    wait_all();
    assert_noted("lives");
    spawn_in(give_back, NULL); /* it has not been cancelled */
    drop();
}

static void *spawn_a_sibling(void *count)
{
    if (count != NULL)
        must_be_0(green_group_spawn(group, spawn_a_sibling, V((intptr_t)count - 1)));
    return NULL;
}

HUB_TEST(a_member_may_spawn_into_its_group)
{
    make(2, 0);
    spawn_in(spawn_a_sibling, V(10));
    wait_all();
    drop();
}

static void *spawn_in_full_group(void *unused)
{
    return green_group_spawn(group, give_back, unused) == 0 ? NULL : GREEN_FAILED;
}

/* gevent: nested pool (#368) */
HUB_TEST(members_that_all_wait_for_room_in_their_group_are_a_deadlock)
{
    make(2, 0);
    spawn_in(spawn_in_full_group, NULL);
    spawn_in(spawn_in_full_group, NULL);
    assert_refused(green_group_wait(group, NULL, GREEN_FOREVER), EDEADLK);
    assert_int_equal(green_group_size(group), 2);
    drop();
}

static void *use_another_group(void *unused)
{
    green_group_t *other = green_group_new(1, 0);
    for (int i = 0; i < 3; i++)
        must_be_0(green_group_spawn(other, note_number, V(i)));
    must_be_0(green_group_wait(other, NULL, GREEN_FOREVER));
    must_be_0(green_group_free(other));
    return unused;
}

/* gevent: TestCoroutinePool.test_reentrant */
HUB_TEST(a_member_may_use_another_group)
{
    make(1, 0);
    spawn_in(use_another_group, NULL);
    wait_all();
    assert_noted("0 1 2");
    drop();
}

HUB_TEST(groups_may_be_freed_in_any_order)
{
    green_group_t *outer = green_group_new(0, 0), *inner = green_group_new(0, 0);
    assert_int_equal(green_group_spawn(outer, sleep_or_fail, V(1000)), 0);
    assert_int_equal(green_group_spawn(inner, sleep_or_fail, V(1000)), 0);
    assert_int_equal(green_group_free(outer), 0);
    assert_int_equal(green_group_size(inner), 1);
    assert_int_equal(green_group_free(inner), 0);
}

static void *own_a_group(void *unused)
{
    make(0, 0);
    spawn_in(clean_up_for, V(20));
    must_fail(green_group_wait(group, NULL, GREEN_FOREVER), ECANCELED);
    drop();
    must_fail(green_sleep(0), ECANCELED);
    return unused;
}

/* Trio: a nursery whose parent is cancelled */
HUB_TEST(an_owner_that_is_cancelled_can_free_its_group)
{
    green_task_t *owner = spawn(own_a_group, NULL);
    turn();
    turn();
    assert_int_equal(green_task_free(owner), 0);
    assert_noted("clean");
    assert_int_equal(clock_ms(), 20);
}

HUB_TEST(the_main_task_that_is_cancelled_can_free_its_group)
{
    make(0, 0);
    spawn_in(clean_up_for, V(20));
    turn();
    assert_int_equal(green_task_cancel(green_task_current()), 0);
    assert_refused(green_group_wait(group, NULL, GREEN_FOREVER), ECANCELED);
    drop();
    assert_noted("clean");
    assert_refused(green_sleep(0), ECANCELED);
}

static void *give_handle(void *handle)
{
    *(green_task_t **)handle = green_task_current();
    nap(10);
    return NULL;
}

HUB_TEST(a_task_of_a_group_is_the_groups_to_release)
{
    green_task_t *task = NULL;
    make(0, 0);
    spawn_in(give_handle, &task);
    turn();
    assert_refused(green_task_detach(task), EINVAL);
    assert_refused(green_task_free(task), EINVAL);
    assert_int_equal(green_task_join(task, NULL, GREEN_FOREVER), 0);
    assert_int_equal(clock_ms(), 10);
    drop();
}

/* ---- Many ------------------------------------------------------------------------------------ */

HUB_TEST(a_hundred_thousand_members_come_and_go)
{
    int count = times(100000, 2000);
    make(1000, 0);
    for (int i = 0; i < count; i++)
        spawn_in(give_back, NULL);
    wait_all();
    assert_int_equal(hub_stat(tasks), 1);
    drop();
}

int main(void)
{
    return run_all_tests();
}
