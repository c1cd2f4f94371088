/* SPDX-License-Identifier: MIT */
#ifndef HUBS_H
#define HUBS_H
/*
 * What the tests of the hub share: a fixture, and short names.
 *
 *     HUB_TEST(a_sentence) { ... }    in virtual time
 *     WORLD_TEST(a_sentence) { ... }  in the world's time
 *
 * Each begins with a hub of its own and an alarm.  After it the hub ends, whatever tasks
 * it has left, and the thread has as many greens, stacks and descriptors as before.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <stdbool.h>
#include <unistd.h>

#include <green_hub.h>

#include "testing.h"

/* ---- Fixture ------------------------------------------------------------------- */

struct hubs_held {
    green_stats_t stats;
    int descriptors;
    int64_t start; /* of the test */
    int errors;    /* that failed() was told of ... */
    int error;     /* ... and the last of them */
};

static inline struct hubs_held *hubs_held(void)
{
    static struct hubs_held held;
    return &held;
}

static inline int hubs_descriptors(void)
{
    int count = 0;
    DIR *directory = opendir("/proc/self/fd");
    must(directory != NULL);
    while (readdir(directory) != NULL)
        count++;
    closedir(directory);
    return count;
}

/* For green_hub_options_t: counts, and keeps the error. */
static inline void hubs_failed(green_task_t *task, int error, void *data)
{
    must(task != NULL && data == NULL);
    hubs_held()->errors++;
    hubs_held()->error = error;
}

/* What the test has let go and the thread keeps for the next is not counted. */
static inline void hubs_count(struct hubs_held *held)
{
    must(green_main() != NULL);
    must(green_stats(&held->stats, sizeof held->stats) == 0);
    held->descriptors = hubs_descriptors();
}

static inline int hubs_begin_with(unsigned flags)
{
    const green_hub_options_t options = { .flags = flags, .failed = hubs_failed };
    struct hubs_held *held = hubs_held();
    alarm((unsigned)times(120, 300));
    noted()[0] = '\0';
    hubs_count(held);
    held->errors = held->error = 0;
    if (green_hub_init(&options) != 0)
        return -1;
    held->start = green_now();
    return 0;
}

static inline int hubs_begin_virtual(void **state)
{
    (void)state;
    return hubs_begin_with(GREEN_HUB_VIRTUAL_TIME);
}

static inline int hubs_begin_world(void **state)
{
    (void)state;
    return hubs_begin_with(0);
}

static inline int hubs_end(void **state)
{
    struct hubs_held now, *before = hubs_held();
    green_hub_stats_t left;
    (void)state;
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
    assert_int_equal(green_hub_stats(&left, sizeof left), 0);
    assert_int_equal(left.tasks, 0);
    hubs_count(&now);
    assert_int_equal(now.stats.greens, before->stats.greens);
    assert_int_equal(now.stats.threads, before->stats.threads);
    assert_int_equal(now.stats.stacks_live, before->stats.stacks_live);
    assert_int_equal(now.descriptors, before->descriptors);
    alarm(0);
    return 0;
}

#define HUB_TEST(sentence) TEST_WITH(sentence, hubs_begin_virtual, hubs_end)
#define WORLD_TEST(sentence) TEST_WITH(sentence, hubs_begin_world, hubs_end)

/* ---- Short names; in tasks, too ------------------------------------------------ */

/* expr is -1 with this errno. */
#define must_fail(expr, error) must((errno = 0, (expr)) == -1 && errno == (error))

/* expr is 0. */
#define must_be_0(expr) must((expr) == 0)

static inline green_task_t *spawn(green_fn *run, void *arg)
{
    green_task_t *task = green_task_spawn(run, arg);
    must(task != NULL);
    return task;
}

/* Sleeps for so many milliseconds. */
static inline void nap(int64_t ms)
{
    must_be_0(green_sleep(GREEN_MS(ms)));
}

/* Gives all who are ready one turn. */
static inline void turn(void)
{
    must_be_0(green_sleep(0));
}

/* Milliseconds since the test began. */
static inline int64_t clock_ms(void)
{
    return (green_now() - hubs_held()->start) / GREEN_MS(1);
}

/* Joins and frees it: its result. */
static inline void *finish(green_task_t *task)
{
    void *value = NULL;
    must_be_0(green_task_join(task, &value, GREEN_FOREVER));
    int error = errno;
    must_be_0(green_task_free(task));
    errno = error;
    return value;
}

/* Dies of this error. */
static inline void *fail_with(void *error)
{
    errno = (int)(intptr_t)error;
    return GREEN_FAILED;
}

/* Sleeps so many milliseconds, or until it fails; gives back what the sleep said: 0 or an errno. */
static inline void *sleep_for(void *ms)
{
    return V(green_sleep(GREEN_MS((intptr_t)ms)) == 0 ? 0 : errno);
}

/* The same, but ends cancelled, if it is. */
static inline void *sleep_or_fail(void *ms)
{
    return green_sleep(GREEN_MS((intptr_t)ms)) == 0 ? NULL : GREEN_FAILED;
}

static inline void *wait_for_event(void *event)
{
    return V(green_event_wait(event, GREEN_FOREVER) == 0 ? 0 : errno);
}

static inline void *note_number(void *number)
{
    note("%d", (int)(intptr_t)number);
    return number;
}

/* A listener of backlog 0 has room for one; from then on it is silent. */
static inline void await_full(int listener)
{
    struct pollfd one = { listener, POLLIN, 0 };
    must(poll(&one, 1, -1) == 1);
}

/* One field of the hub's numbers. */
#define hub_stat(field) \
    (must_be_0(green_hub_stats(&hubs_stats, sizeof hubs_stats)), hubs_stats.field)
static green_hub_stats_t hubs_stats __attribute__((unused));

#endif
