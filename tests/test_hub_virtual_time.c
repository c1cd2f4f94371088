/* SPDX-License-Identifier: MIT */
/* Virtual time and the seed (rule 23). */
#include <stdatomic.h>
#include <time.h>

#include "hubs.h"

static green_event_t event;

static int begin(void **state)
{
    event = (green_event_t)GREEN_EVENT_INIT;
    return hubs_begin_virtual(state);
}

#define VIRTUAL_TEST(sentence) TEST_WITH(sentence, begin, hubs_end)

static int64_t world_now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

VIRTUAL_TEST(an_hour_takes_no_time_and_is_an_hour)
{
    int64_t start = world_now();
    for (int i = 0; i < 24; i++)
        assert_int_equal(green_sleep(GREEN_SEC(3600)), 0);
    assert_int_equal(clock_ms(), 86400000);
    assert_true(world_now() - start < GREEN_SEC(20));
}

VIRTUAL_TEST(time_stands_still_while_a_task_computes)
{
    int64_t start = green_now();
    usleep(20000);
    assert_int_equal(green_now() - start, 0);
    green_task_t *task = spawn(sleep_for, V(0));
    assert_int_equal(green_sleep(1), 0); /* exactly that */
    assert_int_equal(green_now() - start, 1);
    finish(task);
}

static void *note_time(void *ms)
{
    nap((intptr_t)ms);
    note("%d:%d", (int)(intptr_t)ms, (int)clock_ms());
    return NULL;
}

VIRTUAL_TEST(timers_come_at_their_very_time_in_order)
{
    static const int ms[] = { 30, 10, 20, 10, 1 };
    green_task_t *tasks[5];
    for (int i = 0; i < 5; i++)
        tasks[i] = spawn(note_time, V(ms[i]));
    for (int i = 0; i < 5; i++)
        finish(tasks[i]);
    assert_noted("1:1 10:10 10:10 20:20 30:30");
}

static void *give_turns(void *count)
{
    while (green_event_wait(&event, GREEN_NOWAIT) != 0) {
        turn();
        ++*(int *)count;
    }
    return NULL;
}

VIRTUAL_TEST(time_goes_on_while_all_others_only_give_turns)
{
    int counts[2] = { 0, 0 };
    green_task_t *a = spawn(give_turns, &counts[0]), *b = spawn(give_turns, &counts[1]);
    nap(100);
    assert_int_equal(clock_ms(), 100);
    assert_int_equal(green_event_set(&event), 0);
    finish(a);
    finish(b);
    assert_true(counts[0] < 1000 && counts[1] < 1000);
}

VIRTUAL_TEST(scopes_end_at_their_very_time)
{
    green_scope_t scope;
    assert_int_equal(green_scope_begin(&scope, GREEN_MS(5), 0), 0);
    int rounds = 0;
    while (green_sleep(GREEN_MS(1)) == 0)
        rounds++;
    assert_int_equal(green_scope_end(&scope), 1);
    assert_int_equal(rounds, 5); /* the last ends with the scope */
    assert_int_equal(clock_ms(), 5);
}

static void *sleep_100_times(void *unused)
{
    for (int i = 0; i < 100; i++)
        nap(1);
    return unused;
}

/* While something can come from outside time passes as the world's. */
VIRTUAL_TEST(with_an_open_handle_time_passes_as_the_worlds)
{
    green_hub_t *handle = green_hub_open();
    int64_t start = world_now(), before = green_now();
    nap(30);
    assert_true(world_now() - start >= GREEN_MS(30));
    assert_true(green_now() - before >= GREEN_MS(30));
    assert_int_equal(green_hub_close(handle), 0);
    start = world_now();
    nap(3600000);
    assert_true(world_now() - start < GREEN_SEC(20));
}

VIRTUAL_TEST(time_never_goes_back)
{
    int64_t last = green_now();
    for (int i = 0; i < 20; i++) {
        green_hub_t *handle = green_hub_open();
        nap(i % 3);
        assert_true(green_now() >= last);
        last = green_now();
        assert_int_equal(green_hub_close(handle), 0);
        assert_true(green_now() >= last);
        nap(i);
        assert_true(green_now() >= last + GREEN_MS(i));
        last = green_now();
    }
    green_task_t *task = spawn(sleep_100_times, NULL);
    finish(task);
    assert_true(green_now() >= last + GREEN_MS(100));
}

/* ---- The seed ---------------------------------------------------------------------------------- */

static void run_with_seed(uint64_t seed, char *order, size_t size)
{
    green_task_t *tasks[12];
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
    assert_int_equal(green_hub_init(&(green_hub_options_t){
                         .flags = GREEN_HUB_VIRTUAL_TIME, .seed = seed }),
                     0);
    for (int i = 0; i < 12; i++)
        tasks[i] = spawn(note_number, V(i));
    for (int i = 0; i < 12; i++)
        finish(tasks[i]);
    assert_true(strlen(noted()) < size);
    strcpy(order, noted());
    noted()[0] = '\0';
}

VIRTUAL_TEST(the_same_seed_shuffles_the_line_in_the_same_way)
{
    char plain[100], order[100], again[100], other[100];
    int differs = 0;
    run_with_seed(0, plain, sizeof plain);
    assert_string_equal(plain, "0 1 2 3 4 5 6 7 8 9 10 11");
    for (uint64_t seed = 1; seed <= 20; seed++) {
        run_with_seed(seed, order, sizeof order);
        run_with_seed(seed, again, sizeof again);
        assert_string_equal(order, again);
        run_with_seed(seed + 100, other, sizeof other);
        differs += strcmp(order, other) != 0;
        assert_string_not_equal(order, plain);
    }
    assert_true(differs >= 19);
}

VIRTUAL_TEST(with_a_seed_a_select_chooses_in_the_same_way)
{
    green_event_t set = { .green_private_set = 1 };
    green_case_t cases[] = { GREEN_CASE_EVENT(&set), GREEN_CASE_EVENT(&set) };
    int chosen[2][50];
    for (int round = 0; round < 2; round++) {
        assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
        assert_int_equal(green_hub_init(&(green_hub_options_t){
                             .flags = GREEN_HUB_VIRTUAL_TIME, .seed = 5 }),
                         0);
        for (int i = 0; i < 50; i++)
            chosen[round][i] = green_select(cases, 2, GREEN_NOWAIT);
    }
    assert_memory_equal(chosen[0], chosen[1], sizeof chosen[0]);
}

/* With a seed alone, the world's time. */
VIRTUAL_TEST(a_seed_needs_no_virtual_time)
{
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
    assert_int_equal(green_hub_init(&(green_hub_options_t){ .seed = 5 }), 0);
    int64_t start = world_now();
    nap(10);
    assert_true(world_now() - start >= GREEN_MS(10));
}

int main(void)
{
    return run_all_tests();
}
