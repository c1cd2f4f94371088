/* SPDX-License-Identifier: MIT */
/*
 * Greens and tasks: whose a wait is, what is refused while a green waits, and what the greens
 * of tasks and of the hub do not do (rules 4 and 5).
 */
#include "hubs.h"

static green_t *green_of_hub(void)
{
    green_task_t *task = spawn(give_back, NULL);
    green_t *hub = green_parent(green_task_green(task));
    must_be_0(green_task_free(task));
    return hub;
}

/*
 * Has a task end that waits in a switch.  Main waits in a switch then, too, and as nobody is
 * left who could enter it, that is a deadlock.
 */
static void end_in_switch(green_task_t *task, void *value)
{
    assert_fails(green_switch(green_task_green(task), value), EDEADLK);
    assert_null(green_task_green(task));
}

/* ---- Any green may wait -------------------------------------------------------- */

static void *nap_5_and_return(void *value)
{
    nap(5);
    return value;
}

static void *use_generator(void *unused)
{
    green_t *generator = green_new(nap_5_and_return, NULL);
    must(green_parent(generator) == green_current());
    must(green_switch(generator, V(7)) == V(7));
    must_be_0(green_free(generator));
    note("generated");
    return unused;
}

/* gevent: spawn_raw */
HUB_TEST(a_generator_may_wait_and_other_tasks_run_meanwhile)
{
    green_task_t *task = spawn(use_generator, NULL), *other = spawn(note_number, V(1));
    assert_null(finish(task));
    assert_noted("1 generated");
    assert_int_equal(clock_ms(), 5);
    assert_int_equal(green_task_free(other), 0);
    assert_null(use_generator(NULL)); /* on main */
    assert_int_equal(clock_ms(), 10);
}

static void *current_task(void *unused)
{
    (void)unused;
    turn();
    return green_task_current();
}

static void *current_task_two_below(void *unused)
{
    green_t *generator = green_new(current_task, NULL);
    void *task = green_switch(generator, unused);
    must_be_0(green_free(generator));
    return task;
}

static void *look_below(void *unused)
{
    green_t *generator = green_new(current_task_two_below, NULL);
    must(green_switch(generator, unused) == green_task_current());
    must_be_0(green_free(generator));
    return unused;
}

HUB_TEST(a_green_belongs_to_the_task_that_is_its_nearest_ancestor)
{
    green_task_t *task = spawn(look_below, NULL);
    assert_null(finish(task));
    assert_null(look_below(NULL));
}

static void *tell_whose_i_am(void *unused)
{
    (void)unused;
    (void)green_switch(green_main(), green_task_current());
    return NULL;
}

HUB_TEST(a_task_that_has_not_started_has_no_greens_below_it_yet)
{
    green_task_t *task = spawn(give_back, V(1));
    green_t *below = green_new(tell_whose_i_am, green_task_green(task));
    assert_non_null(below);
    assert_ptr_equal(green_switch(below, NULL), green_task_current());
    assert_int_equal(green_free(below), 0);
    assert_ptr_equal(finish(task), V(1));
}

static green_t *left;

static void *yield_then_look(void *unused)
{
    green_yield(unused);
    turn();
    return green_task_current();
}

static void *leave_a_generator(void *unused)
{
    left = green_new(yield_then_look, NULL);
    must(green_switch(left, NULL) == NULL);
    return unused;
}

static void *enter_what_was_left(void *unused)
{
    /* Its parents have all ended: what it returns reaches the hub, and is dropped. */
    void *value = green_switch(left, NULL);
    must(value == V(9));
    note("entered again");
    return unused;
}

HUB_TEST(a_green_whose_task_has_ended_belongs_to_main_and_what_it_leaves_is_dropped)
{
    green_task_t *task = spawn(leave_a_generator, NULL), *other;
    assert_null(finish(task));
    other = spawn(enter_what_was_left, NULL);
    turn();
    turn();
    assert_int_equal(green_state(left), GREEN_DEAD);
    assert_int_equal(green_state(green_task_green(other)), GREEN_SUSPENDED);
    end_in_switch(other, V(9));
    assert_noted("entered again");
    assert_null(finish(other));
    assert_int_equal(green_free(left), 0);
}

static void *nap_and_note(void *ms)
{
    nap((intptr_t)ms);
    return note_number(ms);
}

static void *end_when_entered(void *unused)
{
    left = green_new(nap_and_note, NULL);
    must(green_switch(left, V(50)) == V(9));
    return unused;
}

static void *enter_task(void *task)
{
    must(green_switch(green_task_green(task), V(9)) == V(6));
    return V(2);
}

HUB_TEST(a_generator_that_waits_when_its_task_ends_goes_on_as_mains)
{
    green_task_t *task = spawn(end_when_entered, NULL), *other;
    turn();
    other = spawn(enter_task, task); /* waits in a switch when the task has ended */
    assert_null(finish(task));
    assert_int_equal(clock_ms(), 0);
    assert_refused(green_hub_end(GREEN_FOREVER), EBUSY); /* a green of main waits */
    nap(100);
    assert_noted("50");
    assert_int_equal(green_state(left), GREEN_DEAD);
    assert_int_equal(green_free(left), 0);
    assert_fails(green_switch(green_task_green(other), V(6)), EDEADLK);
    assert_ptr_equal(finish(other), V(2));
}

static void *read_twice(void *fd)
{
    char byte;
    for (int i = 0; i < 2; i++)
        must(green_read((int)(intptr_t)fd, &byte, 1) == 1);
    return V(green_task_current() == NULL);
}

static void *leave_a_reader(void *fd)
{
    left = green_new(read_twice, NULL);
    must(green_switch(left, fd) == V(9));
    return NULL;
}

/* Nothing of the task may be looked at by then: Valgrind sees that. */
WORLD_TEST(a_generator_that_reads_when_its_task_ends_goes_on_as_mains)
{
    int ends[2];
    must(pipe(ends) == 0);
    must(write(ends[1], "x", 1) == 1);
    green_task_t *task = spawn(leave_a_reader, V(ends[0])), *other;
    turn();
    other = spawn(enter_task, task); /* waits in a switch when the task has ended */
    assert_null(finish(task));
    must(write(ends[1], "x", 1) == 1);
    while (green_state(left) != GREEN_DEAD)
        turn();
    assert_int_equal(green_free(left), 0);
    assert_fails(green_switch(green_task_green(other), V(6)), EDEADLK);
    assert_ptr_equal(finish(other), V(2));
    must_be_0(green_close(ends[0]));
    must_be_0(green_close(ends[1]));
}

static void *wait_in_clean_up(void *task)
{
    green_yield(NULL);
    must(errno == ECANCELED);
    must(green_task_current() == *(green_task_t **)task); /* of the one that frees it */
    must_fail(green_sleep(GREEN_SEC(1)), ECANCELED);
    note("cleaned");
    return GREEN_FAILED;
}

static void *free_when_cancelled(void *generator)
{
    must_be_0(green_task_cancel(green_task_current()));
    must_be_0(green_free(generator));
    return NULL;
}

HUB_TEST(while_a_green_is_being_freed_it_belongs_to_the_task_that_frees_it)
{
    green_task_t *freer;
    green_t *generator = green_new(wait_in_clean_up, NULL); /* of main */
    assert_null(green_switch(generator, &freer));
    freer = spawn(free_when_cancelled, generator);
    assert_null(finish(freer));
    assert_noted("cleaned");
    turn(); /* main is not cancelled */
}

static void *sleep_in_generator(void *ms)
{
    return sleep_for(ms);
}

static void *wait_in_generator(void *unused)
{
    (void)unused;
    green_t *generator = green_new(sleep_in_generator, NULL);
    void *value = green_switch(generator, V(1000));
    must_be_0(green_free(generator));
    return value;
}

HUB_TEST(to_cancel_a_task_fails_the_wait_of_its_generator)
{
    green_task_t *task = spawn(wait_in_generator, NULL);
    turn();
    assert_int_equal(green_task_cancel(task), 0);
    assert_ptr_equal(finish(task), V(ECANCELED));
    assert_int_equal(clock_ms(), 0);
}

static void *yield_forever(void *unused)
{
    while (green_yield(unused) != GREEN_FAILED)
        continue;
    note("freed");
    return GREEN_FAILED;
}

static void *sleep_beside_generator(void *unused)
{
    green_t *generator = green_new(yield_forever, NULL);
    must(green_switch(generator, NULL) == NULL);
    must_fail(green_sleep(GREEN_SEC(1)), ECANCELED);
    note("failed");
    must(green_state(generator) == GREEN_SUSPENDED);
    must_be_0(green_free(generator));
    return unused;
}

HUB_TEST(to_cancel_a_task_leaves_a_generator_that_does_not_wait)
{
    green_task_t *task = spawn(sleep_beside_generator, NULL);
    turn();
    assert_int_equal(green_task_cancel(task), 0);
    assert_null(finish(task));
    assert_noted("failed freed");
}

/* A generator that yields items to its task and waits between them. */
static void *generate(void *n)
{
    for (intptr_t i = 1; i <= (intptr_t)n; i++) {
        nap(10);
        green_yield(V(i));
    }
    return NULL;
}

static void *consume(void *n)
{
    intptr_t sum = 0;
    green_t *generator = green_new(generate, NULL);
    void *item = n;
    while ((item = green_switch(generator, item)) != NULL)
        sum += (intptr_t)item;
    must_be_0(green_free(generator));
    return V(sum);
}

HUB_TEST(generators_of_several_tasks_wait_side_by_side)
{
    green_task_t *tasks[10];
    for (int i = 0; i < 10; i++)
        tasks[i] = spawn(consume, V(i));
    for (int i = 0; i < 10; i++)
        assert_ptr_equal(finish(tasks[i]), V(i * (i + 1) / 2));
    assert_int_equal(clock_ms(), 90);
}

/* ---- Held ---------------------------------------------------------------------- */

static void assert_held(green_t *g)
{
    green_t *other = green_new(give_back, NULL);
    assert_int_equal(green_state(g), GREEN_SUSPENDED);
    assert_fails(green_switch(g, NULL), EBUSY);
    assert_fails(green_throw(g, E1), EBUSY);
    assert_fails(green_throw(g, 0), EBUSY);
    assert_refused(green_free(g), EBUSY);
    assert_refused(green_abandon(g), EBUSY);
    assert_refused(green_set_parent(g, other), EBUSY);
    assert_int_equal(green_free(other), 0);
}

static void *sleep_as(void *out)
{
    *(green_t **)out = green_current();
    must_be_0(green_sleep(GREEN_MS(50)));
    must(clock_ms() == 50);
    return V(3);
}

static void *switch_to_sleeper(void *out)
{
    green_t *generator = green_new(sleep_as, NULL);
    must(green_switch(generator, out) == V(3));
    must_be_0(green_free(generator));
    return NULL;
}

/* gevent: test_sleep_invalid_switch */
HUB_TEST(a_green_that_waits_is_held_and_sleeps_on)
{
    green_t *sleeper = NULL;
    green_task_t *task = spawn(sleep_as, &sleeper);
    turn();
    assert_held(sleeper);
    nap(10);
    assert_held(sleeper);
    assert_ptr_equal(finish(task), V(3));
}

HUB_TEST(a_generator_that_waits_is_held)
{
    green_t *sleeper = NULL;
    green_task_t *task = spawn(switch_to_sleeper, &sleeper);
    turn();
    assert_held(sleeper);
    assert_null(finish(task));
}

static void *try_main(void *unused)
{
    must(green_switch(green_main(), unused) == GREEN_FAILED && errno == EBUSY);
    must(green_throw(green_main(), E1) == GREEN_FAILED && errno == EBUSY);
    return V(4);
}

static void *abandon(void *g)
{
    return green_abandon(g) == 0 ? NULL : V(errno);
}

HUB_TEST(nor_does_another_thread_abandon_what_a_hub_has)
{
    green_t *sleeper = NULL, *hub = green_of_hub();
    green_task_t *task = spawn(sleep_as, &sleeper);
    green_t *g = green_task_green(task);
    assert_ptr_equal(in_thread(abandon, g), V(EBUSY)); /* it has not started */
    turn();
    assert_ptr_equal(in_thread(abandon, g), V(EBUSY));
    assert_ptr_equal(in_thread(abandon, hub), V(EBUSY));
    assert_ptr_equal(finish(task), V(3));
}

static size_t live_stacks(void)
{
    green_stats_t stats;
    must_be_0(green_stats(&stats, sizeof stats));
    return stats.stacks_live;
}

/* Also where a task would be made in a short way, of what another has left. */
HUB_TEST(a_spawn_releases_what_another_thread_has_abandoned)
{
    assert_ptr_equal(finish(spawn(give_back, V(1))), V(1));
    green_t *g = green_new(give_back, NULL);
    size_t live = live_stacks();
    assert_null(in_thread(abandon, g));
    green_task_t *task = spawn(give_back, V(2));
    assert_int_equal(live_stacks(), live);
    assert_ptr_equal(finish(task), V(2));
}

static void *see_stacks(void *live)
{
    return V(live_stacks() == (size_t)(intptr_t)live);
}

HUB_TEST(a_sleep_in_which_a_task_starts_releases_it_before)
{
    size_t live = live_stacks() + 1;
    green_task_t *task = spawn(see_stacks, V(live));
    green_t *g = green_new(echo, NULL);
    assert_ptr_equal(green_switch(g, V(1)), V(1));
    assert_int_equal(live_stacks(), live + 1);
    assert_null(in_thread(abandon, g));
    assert_int_equal(live_stacks(), live + 1);
    nap(1);
    assert_ptr_equal(finish(task), V(1));
}

static void *turn_and_look(void *out)
{
    *(green_t **)out = green_current();
    turn();
    return NULL;
}

static green_t *entered_last;
static int moves_seen, moves_missed;

static void follow(green_trace_event_t event, green_t *from, green_t *to, void *unused)
{
    (void)event;
    (void)unused;
    moves_seen++;
    moves_missed += from != entered_last;
    entered_last = to;
}

static void *turn_and_fail(void *error)
{
    turn();
    return fail_with(error);
}

/* Where the end of a task has a short way: in the world's time. */
WORLD_TEST(a_hook_sees_every_move_of_a_hub)
{
    entered_last = green_current();
    moves_seen = moves_missed = 0;
    green_task_t *tasks[] = { spawn(give_back, V(1)), spawn(turn_and_fail, V(E1)),
                              spawn(turn_and_look, &(green_t *){ NULL }), spawn(give_back, V(2)) };
    green_set_trace(follow, NULL);
    for (int i = 0; i < 4; i++)
        finish(tasks[i]);
    green_set_trace(NULL, NULL);
    assert_true(moves_seen >= 8);
    assert_int_equal(moves_missed, 0);
    assert_ptr_equal(entered_last, green_current());
}

HUB_TEST(main_is_held_while_it_waits)
{
    green_task_t *task = spawn(try_main, NULL);
    nap(10);
    assert_int_equal(clock_ms(), 10);
    assert_ptr_equal(finish(task), V(4));
}

HUB_TEST(who_gives_a_turn_is_held_too)
{
    green_t *turner = NULL;
    green_task_t *task = spawn(turn_and_look, &turner);
    turn();
    assert_held(turner);
    assert_null(finish(task));
}

/* ---- A death into one that waits ----------------------------------------------- */

/* The child of a task, entered by another task while the first one waits. */
static green_t *child;

static void *enter_child(void *unused)
{
    must(green_switch(child, unused) == V(6)); /* of the one that it died into */
    note("entered");
    return NULL;
}

static void *go_on_after_hit(void *unused)
{
    child = green_new(give_back, NULL);
    must_fail(green_sleep(GREEN_SEC(1)), EINTR);
    note("hit");
    must(green_state(child) == GREEN_DEAD);
    nap(10); /* the next wait is as any */
    note("slept");
    must_be_0(green_free(child));
    return unused;
}

HUB_TEST(a_wait_fails_with_eintr_when_a_child_dies_into_it)
{
    green_task_t *task = spawn(go_on_after_hit, NULL), *other;
    turn();
    other = spawn(enter_child, V(5));
    assert_null(finish(task));
    assert_noted("hit slept");
    assert_int_equal(clock_ms(), 10);
    end_in_switch(other, V(6));
    assert_noted("entered");
    assert_null(finish(other));
}

static green_queue_t *queue;

static void *get_and_be_hit(void *unused)
{
    int item = 0;
    child = green_new(give_back, NULL);
    must_be_0(green_queue_get(queue, &item, GREEN_FOREVER));
    must(item == 5);
    note("got");
    must_be_0(green_free(child));
    return unused;
}

static void *get_in_vain(void *unused)
{
    int item = 0;
    child = green_new(give_back, NULL);
    errno = 0;
    must_fail(green_queue_get(queue, &item, GREEN_FOREVER), EINTR);
    must(item == 0);
    note("hit");
    must_be_0(green_queue_get(queue, &item, GREEN_FOREVER)); /* as any */
    must(item == 5);
    must_be_0(green_free(child));
    return unused;
}

/* One that has not begun, and dies of it. */
static void *throw_into_child(void *unused)
{
    must(green_throw(child, EDOM) == V(6));
    note("entered");
    return unused;
}

/* In either kind of time: without options a hub has short ways. */
static void hit_who_gets(green_fn *hit)
{
    int item = 5;
    queue = green_queue_new(sizeof(int), 0);
    green_task_t *task = spawn(get_in_vain, NULL), *other;
    turn();
    other = spawn(hit, NULL);
    turn();
    assert_noted("hit");
    assert_int_equal(green_queue_put(queue, &item, GREEN_NOWAIT), 0);
    assert_null(finish(task));
    end_in_switch(other, V(6));
    assert_noted("entered");
    assert_null(finish(other));
    assert_int_equal(green_queue_free(queue), 0);
    assert_int_equal(hub_stat(ready), 0);
}

HUB_TEST(a_get_that_a_death_ends_has_taken_nothing)
{
    hit_who_gets(enter_child);
    hit_who_gets(throw_into_child);
}

WORLD_TEST(a_get_that_a_death_ends_has_taken_nothing_by_the_short_ways_either)
{
    hit_who_gets(enter_child);
    hit_who_gets(throw_into_child);
}

static void *turn_and_be_hit(void *unused)
{
    child = green_new(give_back, NULL);
    errno = EXDEV;
    must_be_0(green_sleep(0));
    must(errno == EXDEV);
    note("hit");
    must_be_0(green_sleep(0));
    note("turned");
    must_be_0(green_free(child));
    return unused;
}

WORLD_TEST(a_death_into_who_gives_a_turn_is_its_turn)
{
    green_task_t *task = spawn(turn_and_be_hit, NULL), *other = spawn(enter_child, V(5));
    turn(); /* task gives its turn, other enters it, it gives one again */
    assert_noted("hit");
    assert_int_equal(hub_stat(ready), 1);
    turn();
    assert_noted("turned");
    assert_null(finish(task));
    end_in_switch(other, V(6));
    assert_noted("entered");
    assert_null(finish(other));
}

static void *put_and_enter_child(void *unused)
{
    int item = 5;
    must_be_0(green_queue_put(queue, &item, GREEN_NOWAIT));
    return enter_child(unused);
}

HUB_TEST(a_call_that_has_been_served_goes_on_when_a_child_dies_into_it)
{
    queue = green_queue_new(sizeof(int), 0);
    green_task_t *task = spawn(get_and_be_hit, NULL), *other;
    turn();
    other = spawn(put_and_enter_child, V(8));
    assert_null(finish(task));
    assert_noted("got");
    end_in_switch(other, V(6));
    assert_null(finish(other));
    assert_int_equal(green_queue_free(queue), 0);
    assert_int_equal(hub_stat(ready), 0);
}

static void *linger(void *unused)
{
    GREEN_SCOPE(shield, GREEN_FOREVER, GREEN_SHIELD);
    nap(50);
    return unused;
}

static void *free_and_be_hit(void *lingerer)
{
    child = green_new(give_back, NULL);
    must_be_0(green_task_free(lingerer));
    must(clock_ms() == 50);
    must(green_state(child) == GREEN_DEAD);
    note("freed");
    must_be_0(green_free(child));
    return NULL;
}

HUB_TEST(a_call_under_a_shield_of_its_own_goes_on_when_a_child_dies_into_it)
{
    green_task_t *lingerer = spawn(linger, NULL);
    green_task_t *task = spawn(free_and_be_hit, lingerer), *other;
    turn();
    nap(10);
    other = spawn(enter_child, V(8));
    turn();
    assert_noted("");
    assert_null(finish(task));
    assert_noted("freed");
    end_in_switch(other, V(6));
    assert_null(finish(other));
}

/* ---- The green of a task ------------------------------------------------------- */

HUB_TEST(the_green_of_a_task_is_the_tasks)
{
    green_task_t *task = spawn(sleep_or_fail, V(10));
    green_t *g = green_task_green(task), *other = green_new(give_back, NULL);
    for (int started = 0; started < 2; started++) {
        assert_refused(green_free(g), EBUSY);
        assert_refused(green_abandon(g), EBUSY);
        assert_refused(green_set_parent(g, other), EBUSY);
        assert_refused(green_set_parent(g, green_main()), EBUSY);
        assert_fails(green_switch(g, NULL), EBUSY);
        assert_fails(green_throw(g, E1), EBUSY);
        turn();
    }
    assert_null(finish(task));
    assert_int_equal(green_free(other), 0);
}

static void *refuse_oneself(void *unused)
{
    must_fail(green_free(green_current()), EBUSY);
    must_fail(green_abandon(green_current()), EBUSY);
    must_fail(green_set_parent(green_current(), green_main()), EBUSY);
    must(green_switch(green_current(), V(3)) == V(3));
    return unused;
}

HUB_TEST(a_task_cannot_free_or_move_its_own_green)
{
    green_task_t *task = spawn(refuse_oneself, NULL);
    assert_null(finish(task));
}

static void *enter_main(void *unused)
{
    void *value = green_switch(green_main(), unused); /* which waits in a switch */
    must(value == GREEN_FAILED && errno == E2);
    return V(12);
}

static void *start_task(void *unused)
{
    turn(); /* the task runs, and enters main */
    return unused;
}

/* Main waits in a switch to a green that waits: the task may enter it. */
HUB_TEST(the_green_of_a_started_task_that_does_not_wait_may_be_thrown_at)
{
    green_t *starter = green_new(start_task, NULL);
    green_task_t *task = spawn(enter_main, V(3));
    assert_ptr_equal(green_switch(starter, NULL), V(3));
    assert_null(green_throw(green_task_green(task), E2)); /* it ended, then the starter did */
    assert_ptr_equal(finish(task), V(12));
    assert_int_equal(green_free(starter), 0);
}

static void *yield_in_a_task(void *unused)
{
    note("a");
    must(green_yield(V(5)) == NULL);
    note("b");
    must(green_yield(GREEN_FAILED) == GREEN_FAILED && errno == EINVAL); /* as in any green */
    must_be_0(green_task_cancel(green_task_current()));
    must(green_yield(V(5)) == GREEN_FAILED && errno == ECANCELED);
    return unused;
}

HUB_TEST(to_yield_in_a_task_is_to_sleep_for_0)
{
    green_task_t *task = spawn(yield_in_a_task, NULL), *other = spawn(note_number, V(1));
    assert_null(finish(task));
    assert_noted("a 1 b");
    assert_int_equal(green_task_free(other), 0);
    assert_fails(green_yield(NULL), EINVAL); /* main's stays so */
}

static green_key_t key;

static void *use_all(void *unused)
{
    must_be_0(green_setspecific(key, "key"));
    must_be_0(green_defer(note_arg, (void *)"outer"));
    must_be_0(green_defer(note_arg, (void *)"inner"));
    turn();
    must(strcmp(green_getspecific(key), "key") == 0);
    (void)unused;
    green_exit(V(4));
}

HUB_TEST(keys_deferred_functions_and_exit_work_in_a_task)
{
    must_be_0(green_key_create(&key, note_arg));
    green_task_t *task = spawn(use_all, NULL);
    assert_ptr_equal(finish(task), V(4));
    assert_noted("inner outer key");
    must_be_0(green_key_delete(key));
}

static void *exit_from_generator(void *value)
{
    green_exit(value);
}

static void *survive_it(void *unused)
{
    green_t *generator = green_new(exit_from_generator, NULL);
    must(green_switch(generator, V(5)) == V(5));
    must_be_0(green_free(generator));
    nap(1);
    (void)unused;
    return V(6);
}

HUB_TEST(green_exit_in_a_child_of_a_task_gives_the_task_its_value)
{
    green_task_t *task = spawn(survive_it, NULL);
    assert_ptr_equal(finish(task), V(6));
}

/* ---- The green of the hub ------------------------------------------------------ */

static int count_hubs(green_t *g, void *count)
{
    const char *name = green_name(g);
    *(int *)count += name != NULL && strcmp(name, "hub") == 0;
    return 0;
}

static void *make_and_leave(void *unused)
{
    (void)unused;
    return green_new(give_back, NULL);
}

HUB_TEST(what_looks_works_on_the_hubs_green_all_else_is_refused)
{
    int count = 0;
    void *pcs[4];
    green_t *hub = green_of_hub(), *other = green_new(give_back, NULL);
    assert_string_equal(green_name(hub), "hub");
    assert_ptr_equal(green_parent(hub), green_main());
    assert_int_equal(green_state(hub), GREEN_SUSPENDED);
    assert_null(green_data(hub));
    assert_true(green_backtrace(hub, pcs, 4) > 0);
    assert_int_equal(green_each(count_hubs, &count), 0);
    assert_int_equal(count, 1);

    assert_fails(green_switch(hub, NULL), EBUSY);
    assert_fails(green_throw(hub, E1), EBUSY);
    assert_refused(green_free(hub), EBUSY);
    assert_refused(green_abandon(hub), EBUSY);
    assert_refused(green_set_parent(hub, other), EBUSY);
    assert_refused(green_set_parent(other, hub), EBUSY);
    assert_null_errno(green_new(give_back, hub), EBUSY);
    assert_null_errno(green_new_with(give_back, hub, &(green_options_t){ 0 }), EBUSY);
    assert_refused(green_set_data(hub, V(1)), EBUSY);
    green_t *foreign = in_thread(make_and_leave, NULL); /* of a thread that has ended */
    assert_refused(green_set_parent(foreign, hub), EBUSY);
    assert_int_equal(green_free(foreign), 0);
    assert_int_equal(green_free(other), 0);
    turn();
}

/* ---- Trace hooks, green_each() ------------------------------------------------- */

static int tries;

static void call_in_hook(green_trace_event_t event, green_t *from, green_t *to, void *data)
{
    static green_event_t event_of_hook;
    green_scope_t scope;
    green_hub_stats_t stats;
    (void)event, (void)from, (void)to, (void)data;
    tries++;
    must_fail(green_sleep(0), EBUSY);
    must_fail(green_sleep(1), EBUSY);
    must_fail(green_event_set(&event_of_hook), EBUSY);
    must_fail(green_event_wait(&event_of_hook, GREEN_NOWAIT), EBUSY);
    must_fail(green_scope_begin(&scope, 1, 0), EBUSY);
    must_fail(green_task_cancel(green_task_current()), EBUSY);
    must_fail(green_hub_wait(GREEN_NOWAIT), EBUSY);
    must_fail(green_hub_end(GREEN_NOWAIT), EBUSY);
    must_fail(green_hub_run(GREEN_NOWAIT), EBUSY);
    must(green_yield(NULL) == GREEN_FAILED &&
         errno == (green_current() == green_main() ? EINVAL : EBUSY));
    must(green_task_spawn(give_back, NULL) == NULL && errno == EBUSY);
    must(green_queue_new(1, 1) == NULL && errno == EBUSY);
    must(green_group_new(1, 0) == NULL && errno == EBUSY);
    must(green_hub_open() == NULL && errno == EBUSY);
    must(green_now() > 0 && green_task_current() != NULL); /* what only looks works */
    must(green_task_green(green_task_current()) != NULL);
    must_be_0(green_hub_stats(&stats, sizeof stats));
}

HUB_TEST(in_a_trace_hook_only_what_looks_works)
{
    tries = 0;
    green_task_t *task = spawn(note_number, V(1));
    green_set_trace(call_in_hook, NULL);
    turn();
    green_set_trace(NULL, NULL);
    assert_true(tries >= 2);
    assert_ptr_equal(finish(task), V(1));
    assert_noted("1");
}

int main(void)
{
    return run_all_tests();
}
