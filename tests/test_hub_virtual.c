/* SPDX-License-Identifier: MIT */
/* Virtual time, and lines that are shuffled by a seed (rule 23). */
#include <time.h>

#include "hubs.h"

static int64_t world_ms(void)
{
    struct timespec time;
    must_be_0(clock_gettime(CLOCK_MONOTONIC, &time));
    return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static void compute(int64_t ms)
{
    int64_t until = world_ms() + ms;
    while (world_ms() < until)
        continue;
}

/* ---- Time ------------------------------------------------------------------ */

static void *use_all(void *unused)
{
    int item = 1;
    green_event_t event = GREEN_EVENT_INIT;
    green_queue_t *queue = green_queue_new(sizeof item, 1);
    must_be_0(green_queue_put(queue, &item, GREEN_FOREVER));
    must_be_0(green_queue_get(queue, &item, GREEN_FOREVER));
    must_be_0(green_queue_free(queue));
    must_be_0(green_event_set(&event));
    must_be_0(green_event_wait(&event, GREEN_FOREVER));
    return unused;
}

HUB_TEST(time_stands_still_while_a_task_does_anything)
{
    green_task_t *sleeper = spawn(sleep_for, V(1));
    turn();
    int64_t now = green_now();
    compute(5);
    assert_true(green_now() == now);
    assert_null(finish(spawn(use_all, NULL)));
    assert_true(green_now() == now);
    assert_refused(green_task_join(sleeper, NULL, GREEN_NOWAIT), ETIMEDOUT);
    assert_null(finish(sleeper));
    assert_true(green_now() == now + GREEN_MS(1));
}

HUB_TEST(a_day_of_timeouts_takes_no_time)
{
    int64_t begin = world_ms();
    green_event_t event = GREEN_EVENT_INIT;
    for (int i = 1; i <= 24; i++) {
        assert_refused(green_event_wait(&event, GREEN_SEC(3600)), ETIMEDOUT);
        assert_int_equal(clock_ms(), INT64_C(3600000) * i);
    }
    assert_true(world_ms() - begin < 3600000);
}

HUB_TEST(it_jumps_to_the_very_time_of_the_next_timer)
{
    int64_t begin = green_now();
    assert_int_equal(green_sleep(12345), 0);
    assert_true(green_now() == begin + 12345);
    assert_int_equal(green_sleep(1), 0);
    assert_true(green_now() == begin + 12346);
}

static bool stop;

static void *stop_after(void *ms)
{
    nap((intptr_t)ms);
    stop = true;
    return NULL;
}

static void *give_turns(void *unused)
{
    while (!stop)
        turn();
    return unused;
}

HUB_TEST(it_goes_on_while_tasks_only_give_turns)
{
    stop = false;
    must_be_0(green_task_detach(spawn(stop_after, V(10000))));
    must_be_0(green_task_detach(spawn(give_turns, NULL)));
    while (!stop)
        turn();
    assert_int_equal(clock_ms(), 10000);
}

static void *fail_in_a_loop(void *unused)
{
    while (!stop)
        (void)green_sleep(1);
    return unused;
}

HUB_TEST(it_goes_on_while_a_cancelled_task_ignores_it)
{
    stop = false;
    must_be_0(green_task_detach(spawn(stop_after, V(10000))));
    green_task_t *task = spawn(fail_in_a_loop, NULL);
    assert_int_equal(green_task_cancel(task), 0);
    assert_null(finish(task));
    assert_int_equal(clock_ms(), 10000);
}

HUB_TEST(while_a_handle_is_open_it_passes_as_the_worlds)
{
    green_hub_t *handle = green_hub_open();
    int64_t begin = world_ms(), then = green_now();
    nap(20);
    assert_true(world_ms() - begin >= 19);
    assert_true(green_now() >= then + GREEN_MS(20));
    assert_int_equal(green_hub_close(handle), 0);
    turn();
    int64_t now = green_now();
    compute(5);
    assert_true(green_now() == now);
    begin = world_ms();
    nap(3600000);
    assert_true(world_ms() - begin < 3600000);
    assert_true(green_now() == now + GREEN_SEC(3600));
}

/* ---- The same every time --------------------------------------------------------- */

static void *sleep_and_note(void *number)
{
    unsigned random = (unsigned)(intptr_t)number;
    for (int i = 0; i < 3; i++) {
        random = random * 1103515245u + 12345u;
        nap((random >> 16) % 5);
        note("%d", (int)(intptr_t)number);
    }
    return NULL;
}

static void *play(void *seed)
{
    const green_hub_options_t options = { .flags = GREEN_HUB_VIRTUAL_TIME,
                                          .seed = (uint64_t)(uintptr_t)seed };
    must_be_0(green_hub_init(&options));
    for (int i = 1; i <= 9; i++)
        must_be_0(green_task_detach(spawn(sleep_and_note, V(i))));
    must_be_0(green_hub_wait(GREEN_FOREVER));
    must_be_0(green_hub_end(GREEN_FOREVER));
    return NULL;
}

/* What a play notes, of 27 numbers. */
static void played(uintptr_t seed, char *text)
{
    in_thread(play, (void *)seed);
    strcpy(text, noted());
    noted()[0] = '\0';
    for (char c = '1'; c <= '9'; c++) {
        int count = 0;
        for (const char *at = text; *at != '\0'; at++)
            count += *at == c;
        assert_int_equal(count, 3);
    }
}

HUB_TEST(the_order_is_the_same_every_time)
{
    char first[100], again[100];
    for (uintptr_t seed = 0; seed < 4; seed++) {
        played(seed, first);
        for (int i = 0; i < 3; i++) {
            played(seed, again);
            assert_string_equal(again, first);
        }
    }
}

HUB_TEST(each_seed_has_an_order_of_its_own)
{
    char plain[100], one[100], two[100];
    played(0, plain);
    played(1, one);
    played(2, two);
    assert_string_not_equal(plain, one);
    assert_string_not_equal(plain, two);
    assert_string_not_equal(one, two);
}

static void *note_in_line(void *seed)
{
    const green_hub_options_t options = { .seed = (uint64_t)(uintptr_t)seed };
    must_be_0(green_hub_init(&options));
    for (int i = 1; i <= 5; i++)
        must_be_0(green_task_detach(spawn(note_number, V(i))));
    must_be_0(green_hub_wait(GREEN_FOREVER));
    must_be_0(green_hub_end(GREEN_FOREVER));
    return NULL;
}

HUB_TEST(a_seed_tries_orders_that_the_line_excludes)
{
    int first[6] = { 0 };
    for (uintptr_t seed = 1; seed <= 100; seed++) {
        in_thread(note_in_line, (void *)seed);
        first[noted()[0] - '0']++;
        assert_int_equal(strlen(noted()), 9);
        noted()[0] = '\0';
    }
    for (int i = 1; i <= 5; i++) /* each comes first at times */
        assert_in_range(first[i], 5, 50);
}

static void *select_often(void *seed)
{
    const green_hub_options_t options = { .seed = (uint64_t)(uintptr_t)seed };
    green_semaphore_t units = GREEN_SEMAPHORE_INIT(1000, 0);
    green_case_t cases[] = { GREEN_CASE_SEMAPHORE(&units), GREEN_CASE_SEMAPHORE(&units),
                             GREEN_CASE_SEMAPHORE(&units) };
    must_be_0(green_hub_init(&options));
    for (int i = 0; i < 40; i++)
        note("%d", green_select(cases, 3, GREEN_NOWAIT));
    must_be_0(green_hub_end(GREEN_FOREVER));
    return NULL;
}

HUB_TEST(select_chooses_by_the_seed)
{
    char first[200];
    in_thread(select_often, V(5));
    strcpy(first, noted());
    noted()[0] = '\0';
    in_thread(select_often, V(5));
    assert_noted(first);
    in_thread(select_often, V(6));
    assert_string_not_equal(noted(), first);
    noted()[0] = '\0';
}

static void *sleep_100_times(void *unused)
{
    for (int i = 0; i < 100; i++)
        nap(1);
    return unused;
}

HUB_TEST(it_never_goes_back_when_handles_are_opened_and_closed)
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
    finish(spawn(sleep_100_times, NULL));
    assert_true(green_now() >= last + GREEN_MS(100));
}

int main(void)
{
    return run_all_tests();
}
