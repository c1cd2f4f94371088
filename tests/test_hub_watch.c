/* SPDX-License-Identifier: MIT */
/* longest_turn: tasks that keep the thread are reported by another one. */
#define _GNU_SOURCE
#include <stdatomic.h>
#include <sys/syscall.h>

#include "filters.h"
#include "hubs.h"

static struct {
    atomic_int count;
    char name[64];
    pid_t thread;
    int64_t time;
    void *data;
} told;

static pthread_t hub_thread;

static void hogged(const char *name, pid_t thread, int64_t time, void *data)
{
    must(!pthread_equal(pthread_self(), hub_thread));
    snprintf(told.name, sizeof told.name, "%s", name);
    told.thread = thread;
    told.time = time;
    told.data = data;
    atomic_fetch_add(&told.count, 1);
}

static int longest_ms = 20;

static int begin(void **state)
{
    must(hubs_begin_world(state) == 0);
    must_be_0(green_hub_end(GREEN_FOREVER));
    memset(&told, 0, sizeof told);
    hub_thread = pthread_self();
    return green_hub_init(&(green_hub_options_t){
        .longest_turn = GREEN_MS(longest_ms), .hogged = hogged, .data = &told });
}

#define WATCH_TEST(sentence) TEST_WITH(sentence, begin, hubs_end)

static int64_t clock_now(void)
{
    return green_now();
}

/* Keeps the thread until somebody has been told, 10 s at most, and then for as long again. */
static void *compute(void *until)
{
    int64_t end = clock_now() + GREEN_SEC(10);
    while (atomic_load(&told.count) < (int)(intptr_t)until && clock_now() < end)
        usleep(1000);
    if (atomic_load(&told.count) > 0)
        must(clock_now() - hubs_held()->start >= told.time);
    end = clock_now() + GREEN_MS(3 * longest_ms);
    while (clock_now() < end)
        usleep(1000);
    return NULL;
}

static green_task_t *spawn_named(const char *name, green_fn *run, void *arg)
{
    const green_options_t options = { .name = name };
    green_task_t *task = green_task_spawn_with(run, arg, &options);
    must(task != NULL);
    return task;
}

WATCH_TEST(a_turn_that_lasts_is_reported_once_with_the_name_while_it_lasts)
{
    finish(spawn_named("busy", compute, V(1)));
    assert_int_equal(atomic_load(&told.count), 1);
    assert_string_equal(told.name, "busy");
    assert_int_equal(told.thread, (pid_t)syscall(SYS_gettid));
    assert_true(told.time >= GREEN_MS(longest_ms));
    assert_ptr_equal(told.data, &told);
}

static void *compute_twice(void *unused)
{
    compute(V(1));
    turn();
    compute(V(2));
    return unused;
}

WATCH_TEST(each_turn_is_reported_by_itself)
{
    finish(spawn_named("twice", compute_twice, NULL));
    assert_int_equal(atomic_load(&told.count), 2);
}

WATCH_TEST(a_task_without_a_name_has_the_empty_one)
{
    strcpy(told.name, "?");
    finish(spawn(compute, V(1)));
    assert_string_equal(told.name, "");
}

static void *take_short_turns(void *unused)
{
    int64_t end = clock_now() + GREEN_MS(2500);
    while (clock_now() < end)
        turn(); /* which is its own again */
    return unused;
}

WATCH_TEST(who_waits_is_not_reported)
{
    int64_t start = clock_now();
    nap(5 * longest_ms);
    assert_true(clock_now() - start >= GREEN_MS(5 * longest_ms));
    assert_int_equal(atomic_load(&told.count), 0);
}

static int begin_long(void **state)
{
    longest_ms = 1000; /* longer than a loaded machine takes a thread away */
    int result = begin(state);
    longest_ms = 20;
    return result;
}

TEST_WITH(short_turns_are_not_reported, begin_long, hubs_end)
{
    finish(spawn_named("short", take_short_turns, NULL));
    assert_int_equal(atomic_load(&told.count), 0);
}

WATCH_TEST(main_is_not_watched_outside_of_calls_that_wait)
{
    turn();
    int64_t end = clock_now() + GREEN_MS(5 * longest_ms);
    while (clock_now() < end)
        usleep(1000);
    assert_int_equal(atomic_load(&told.count), 0);
}

WATCH_TEST(main_is_not_watched_after_a_green_of_it_has_waited)
{
    green_t *generator = green_new(sleep_for, NULL);
    assert_null(green_switch(generator, V(1)));
    int64_t end = clock_now() + GREEN_MS(5 * longest_ms);
    while (clock_now() < end)
        usleep(1000);
    assert_int_equal(atomic_load(&told.count), 0);
    assert_int_equal(green_free(generator), 0);
}

static void *watch_in_thread(void *unused)
{
    hub_thread = pthread_self();
    must_be_0(green_hub_init(&(green_hub_options_t){
        .longest_turn = GREEN_MS(10), .hogged = hogged, .data = &told }));
    finish(spawn_named("other", compute, V(1)));
    must(told.thread == (pid_t)syscall(SYS_gettid));
    return unused; /* without green_hub_end() */
}

WATCH_TEST(the_hubs_of_several_threads_are_watched)
{
    in_thread(watch_in_thread, NULL);
    assert_string_equal(told.name, "other");
    hub_thread = pthread_self();
    atomic_store(&told.count, 0);
    finish(spawn_named("own", compute, V(1)));
    assert_string_equal(told.name, "own");
}

static void *run_thread_that_is_watched(void *unused)
{
    in_thread(watch_in_thread, NULL);
    return unused;
}

/* While a turn of it lasts one of another hub is found too long. */
WATCH_TEST(of_the_longest_turn_there_is_none_is_longer)
{
    static const int64_t longest[] = { GREEN_FOREVER, GREEN_FOREVER - 1 };
    for (int i = 0; i < 2; i++) {
        assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
        assert_int_equal(green_hub_init(&(green_hub_options_t){
                             .longest_turn = longest[i], .hogged = hogged, .data = &told }),
                         0);
        atomic_store(&told.count, 0);
        finish(spawn_named("long", run_thread_that_is_watched, NULL));
        assert_int_equal(atomic_load(&told.count), 1);
        assert_string_equal(told.name, "other");
        hub_thread = pthread_self();
    }
}

WATCH_TEST(the_hub_of_a_child_is_watched)
{
    has_threads_in_child();
    if (UNDER_TSAN)
        skip_because("in a child ThreadSanitizer knows the fiber alone that forked");
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        alarm(60);
        finish(spawn_named("child", compute, V(1)));
        must(atomic_load(&told.count) == 1 && strcmp(told.name, "child") == 0);
        must(told.thread == getpid());
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(atomic_load(&told.count), 0);
}

WATCH_TEST(hubs_with_a_watch_come_and_go)
{
    for (int i = 0; i < times(100, 10); i++) {
        assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
        assert_int_equal(green_hub_init(&(green_hub_options_t){
                             .longest_turn = 1, .hogged = hogged, .data = &told }),
                         0);
        finish(spawn_named("brief", give_back, NULL));
    }
}

int main(void)
{
    if (under_helgrind()) {
        puts("skipped: to Helgrind what atomic operations order is a race; ThreadSanitizer runs it");
        return 77;
    }
    return run_all_tests();
}
