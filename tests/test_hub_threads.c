/* SPDX-License-Identifier: MIT */
/* Other threads: handles of a hub, and what they spawn (rule 19). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "hubs.h"

static green_event_t event;
static green_hub_t *handle;

static int begin(void **state)
{
    event = (green_event_t)GREEN_EVENT_INIT;
    int result = hubs_begin_world(state);
    handle = green_hub_open();
    return result;
}

static int end(void **state)
{
    must_be_0(green_hub_close(handle));
    return hubs_end(state);
}

#define THREAD_TEST(sentence) TEST_WITH(sentence, begin, end)

static void *set_event(void *unused)
{
    must_be_0(green_event_set(&event));
    return unused;
}

static void *spawn_set_event(void *unused)
{
    must_be_0(green_hub_spawn(handle, set_event, NULL));
    return unused;
}

/*
 * Here before libc's: how often the hub was woken, by a write.  Not with ThreadSanitizer, nor
 * with AddressSanitizer, which minds that arguments are read that were not given.
 */
#if UNDER_TSAN || UNDER_ASAN
#define COUNTS_WRITES 0
#else
#define COUNTS_WRITES 1
static atomic_int writes;

long syscall(long number, ...)
{
    static long (*next)(long, ...);
    va_list args;
    long a[6];
    va_start(args, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(args, long);
    va_end(args);
    if (number == SYS_write)
        atomic_fetch_add(&writes, 1);
    if (next == NULL)
        *(void **)&next = dlsym(RTLD_NEXT, "syscall");
    return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
#endif

/* ---- One thing ------------------------------------------------------------------------------- */

THREAD_TEST(nonsense_is_refused)
{
    assert_refused(green_hub_spawn(NULL, never, NULL), EINVAL);
    assert_refused(green_hub_spawn(handle, NULL, NULL), EINVAL);
    assert_int_equal(green_hub_close(NULL), 0);
    turn();
    assert_noted("");
}

static void *spawn_after_a_while(void *unused)
{
    usleep(50000);
    return spawn_set_event(unused);
}

/* gevent: test__core_async, test_cross_thread_use */
THREAD_TEST(a_hub_that_sleeps_is_woken)
{
    for (int with_timer = 0, woken = 1; with_timer < 2; with_timer += woken) {
        pthread_t thread;
        green_task_t *task = with_timer ? spawn(sleep_or_fail, V(20000)) : NULL;
        int64_t start = green_now();
#if COUNTS_WRITES
        atomic_store(&writes, 0);
#endif
        assert_int_equal(pthread_create(&thread, NULL, spawn_after_a_while, NULL), 0);
        assert_int_equal(green_event_wait(&event, GREEN_SEC(20)), 0);
        assert_true(green_now() - start >= GREEN_MS(50));
        assert_true(green_now() - start < GREEN_SEC(15)); /* not by a timer */
        pthread_join(thread, NULL);
#if COUNTS_WRITES
        woken = atomic_load(&writes); /* if it did not sleep yet, again */
        assert_in_range(woken, 0, 1);
#endif
        assert_int_equal(green_task_free(task), 0);
        assert_int_equal(green_event_clear(&event), 0);
    }
}

static void *look_around(void *arg)
{
    green_task_t *task = green_task_current();
    must(task != NULL && arg == V(7));
    must(green_parent(green_current()) == green_parent(green_task_green(task)));
    must_fail(green_task_detach(task), EINVAL); /* it is */
    note("ran");
    return fail_with(V(E1)); /* failed() is told */
}

THREAD_TEST(what_was_spawned_is_a_detached_task)
{
    assert_int_equal(green_hub_spawn(handle, look_around, V(7)), 0); /* by oneself */
    turn();
    turn();
    assert_noted("ran");
    assert_int_equal(hub_stat(tasks), 1);
    assert_int_equal(hubs_held()->errors, 1);
    assert_int_equal(hubs_held()->error, E1);
}

static void *fail_and_wait(void *unused)
{
    must_be_0(green_sleep(0));
    set_event(NULL);
    return unused;
}

THREAD_TEST(it_may_wait)
{
    assert_int_equal(green_hub_spawn(handle, fail_and_wait, NULL), 0);
    assert_int_equal(green_event_wait(&event, GREEN_FOREVER), 0);
}

/* ---- Handles --------------------------------------------------------------------------------- */

THREAD_TEST(each_handle_is_given_back_by_itself)
{
    green_hub_t *second = green_hub_open();
    assert_non_null(second);
    assert_int_equal(green_hub_spawn(second, set_event, NULL), 0);
    assert_int_equal(green_hub_close(second), 0);
    assert_int_equal(green_event_wait(&event, GREEN_FOREVER), 0); /* what was spawned runs */
    assert_int_equal(green_event_clear(&event), 0);
    in_thread(spawn_set_event, NULL); /* the other is open still */
    assert_int_equal(green_event_wait(&event, GREEN_FOREVER), 0);
}

THREAD_TEST(a_handle_outlives_the_hub)
{
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
    assert_refused(green_hub_spawn(handle, never, NULL), ESRCH);
    assert_int_equal(green_sleep(0), 0); /* another hub */
    assert_refused(green_hub_spawn(handle, never, NULL), ESRCH);
    assert_noted("");
}

static void *open_handle(void *unused)
{
    (void)unused;
    return green_hub_open();
}

THREAD_TEST(a_handle_outlives_the_thread)
{
    green_hub_t *other = in_thread(open_handle, NULL);
    assert_non_null(other);
    assert_refused(green_hub_spawn(other, never, NULL), ESRCH);
    assert_int_equal(green_hub_close(other), 0);
}

static void *free_later(void *memory)
{
    free(memory);
    return NULL;
}

/* What was posted before the end starts, cancelled: what it was given is its own. */
THREAD_TEST(what_was_spawned_before_the_end_of_the_hub_starts)
{
    for (int i = 0; i < 10; i++)
        assert_int_equal(green_hub_spawn(handle, free_later, malloc(50)), 0);
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
}

struct storm {
    int number, count;
};

static int last[4];
static atomic_int spawned, ran;

static void *run_one(void *arg)
{
    int number = (int)((intptr_t)arg & 3), i = (int)((intptr_t)arg >> 2);
    must(last[number] == i); /* in order */
    last[number] = i + 1;
    atomic_fetch_add(&ran, 1);
    return NULL;
}

static void *make_storm(void *arg)
{
    struct storm *storm = arg;
    for (int i = 0; i < storm->count; i++) {
        while (green_hub_spawn(handle, run_one, V(i << 2 | storm->number)) != 0)
            must(errno == ENOMEM);
        atomic_fetch_add(&spawned, 1);
        while (atomic_load(&spawned) - atomic_load(&ran) > times(2000, 100))
            usleep(50); /* so that the hub sleeps at times, and takes little memory */
    }
    return NULL;
}

THREAD_TEST(of_a_storm_of_spawns_all_run_those_of_one_thread_in_order)
{
    struct storm storms[4];
    pthread_t threads[4];
    int count = times(100000, 5000);
    memset(last, 0, sizeof last);
    atomic_store(&ran, 0);
#if COUNTS_WRITES
    atomic_store(&writes, 0);
#endif
    atomic_store(&spawned, 0);
    for (int i = 0; i < 4; i++) {
        storms[i] = (struct storm){ i, count };
        assert_int_equal(pthread_create(&threads[i], NULL, make_storm, &storms[i]), 0);
    }
    while (atomic_load(&ran) < 4 * count)
        assert_int_equal(green_sleep(GREEN_US(200)), 0);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(last[i], count);
    }
    assert_int_equal(atomic_load(&spawned), 4 * count);
#if COUNTS_WRITES
    assert_true(atomic_load(&writes) < 2 * count); /* only when the hub sleeps */
#endif
    turn();
    assert_int_equal(hub_stat(tasks), 1);
}

/* Ping-pong: each spawn finds the hub about to sleep. */
static sem_t go;

static void *post_go(void *unused)
{
    sem_post(&go);
    return unused;
}

static void *ping(void *count)
{
    for (int i = 0; i < *(int *)count; i++) {
        must_be_0(green_hub_spawn(handle, post_go, NULL));
        while (sem_wait(&go) != 0)
            continue;
    }
    return spawn_set_event(NULL);
}

THREAD_TEST(no_wake_up_is_lost)
{
    int count = times(20000, 1000);
    pthread_t thread;
    sem_init(&go, 0, 0);
    assert_int_equal(pthread_create(&thread, NULL, ping, &count), 0);
    assert_int_equal(green_event_wait(&event, GREEN_FOREVER), 0);
    pthread_join(thread, NULL);
    sem_destroy(&go);
}

static void *spawn_until_refused(void *count)
{
    int *n = count, most = times(2000, 200);
    while (*n < most && green_hub_spawn(handle, give_back, NULL) == 0)
        if (++*n % 10 == 0)
            usleep(100); /* the hub may come to an end */
    must(*n == most || errno == ESRCH);
    return NULL;
}

THREAD_TEST(spawns_that_race_with_the_end_run_or_are_refused)
{
    for (int i = 0; i < times(20, 3); i++) {
        pthread_t threads[2];
        int counts[2] = { 0, 0 };
        for (int j = 0; j < 2; j++)
            must(pthread_create(&threads[j], NULL, spawn_until_refused, &counts[j]) == 0);
        assert_int_equal(green_sleep(GREEN_MS(1)), 0);
        assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
        for (int j = 0; j < 2; j++)
            pthread_join(threads[j], NULL);
        assert_int_equal(green_hub_close(handle), 0);
        handle = green_hub_open();
        assert_non_null(handle);
    }
}

static void *close_own_handle(void *own)
{
    must_be_0(green_hub_close(own));
    return NULL;
}

struct last_spawn {
    pthread_barrier_t ready;
    green_hub_t *handle;
};

static void *run_last_spawn(void *arg)
{
    struct last_spawn *one = arg;
    one->handle = green_hub_open();
    pthread_barrier_wait(&one->ready);
    must_fail(green_sleep(GREEN_FOREVER), EDEADLK); /* nothing can come: it is closed */
    must_be_0(green_hub_end(GREEN_FOREVER));
    return NULL;
}

/* The hub may be no more, and its handle closed, before the call that has done it returns. */
TEST(what_a_handle_spawns_may_close_it)
{
    for (int i = 0; i < times(200, 20); i++) {
        struct last_spawn one;
        pthread_t thread;
        must_be_0(pthread_barrier_init(&one.ready, NULL, 2));
        must_be_0(pthread_create(&thread, NULL, run_last_spawn, &one));
        pthread_barrier_wait(&one.ready);
        must_be_0(green_hub_spawn(one.handle, close_own_handle, one.handle));
        must_be_0(pthread_join(thread, NULL));
        must_be_0(pthread_barrier_destroy(&one.ready));
    }
}

static atomic_int hub_is_gone;

static void *use_numbers(void *unused)
{
    int fds[16];
    while (!atomic_load_explicit(&hub_is_gone, memory_order_relaxed)) /* no more is known */
        usleep(100);
    for (int i = 0; i < 16; i++)
        must((fds[i] = eventfd(1, EFD_CLOEXEC)) >= 0);
    for (int i = 0; i < 16; i++)
        must_be_0(close(fds[i]));
    return unused;
}

/* To ThreadSanitizer it would be a race if it did not see what the hub closes. */
TEST(the_numbers_of_a_hub_that_has_ended_may_be_anothers)
{
    if (under_helgrind())
        skip_because("to Helgrind what atomic operations order is a race; ThreadSanitizer runs it");
    pthread_t thread;
    int pair[2];
    char byte;
    hub_is_gone = 0;
    must_be_0(pthread_create(&thread, NULL, use_numbers, NULL));
    must_be_0(green_hub_close(green_hub_open()));
    must(green_hub_fd() >= 0);
    must_be_0(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
    must(green_write(pair[0], "x", 1) == 1 && green_read(pair[1], &byte, 1) == 1);
    must_be_0(green_close(pair[0]));
    must_be_0(green_close(pair[1]));
    must_be_0(green_hub_end(GREEN_FOREVER));
    atomic_store_explicit(&hub_is_gone, 1, memory_order_relaxed);
    must_be_0(pthread_join(thread, NULL));
}

/* ---- What others may not --------------------------------------------------------------------- */

static void *touch(void *task)
{
    must_fail(green_task_join(task, NULL, GREEN_NOWAIT), EPERM);
    must_fail(green_task_cancel(task), EPERM);
    must_fail(green_task_free(task), EPERM);
    must_fail(green_task_detach(task), EPERM);
    green_case_t c = GREEN_CASE_TASK(task);
    must_fail(green_select(&c, 1, GREEN_NOWAIT), EPERM);
    must_be_0(green_hub_end(GREEN_FOREVER));
    return NULL;
}

static void *cancel_it(void *task)
{
    must_be_0(green_task_cancel(task));
    return NULL;
}

static void *have_it_cancelled(void *task)
{
    must_be_0(green_hub_spawn(handle, cancel_it, task));
    return NULL;
}

THREAD_TEST(a_task_is_cancelled_from_another_thread_by_a_spawn)
{
    green_task_t *task = spawn(sleep_for, V(20000));
    turn();
    in_thread(touch, task);
    in_thread(have_it_cancelled, task);
    assert_ptr_equal(finish(task), V(ECANCELED));
}

/* ---- A process asleep ------------------------------------------------------------------------ */

static void *sleep_idle(void *unused)
{
    usleep(300000);
    return spawn_set_event(unused);
}

THREAD_TEST(a_hub_that_waits_for_other_threads_does_nothing_meanwhile)
{
    pthread_t thread;
    struct rusage before, after;
    assert_int_equal(pthread_create(&thread, NULL, sleep_idle, NULL), 0);
    uint64_t polls = hub_stat(polls);
    getrusage(RUSAGE_THREAD, &before);
    assert_int_equal(green_event_wait(&event, GREEN_FOREVER), 0);
    getrusage(RUSAGE_THREAD, &after);
    assert_true(hub_stat(polls) - polls <= 3);
    assert_true(after.ru_nvcsw - before.ru_nvcsw <= 15);
    pthread_join(thread, NULL);
}

/* ---- The end while others post --------------------------------------------------------------- */

struct poster {
    sem_t refused;
    atomic_int posted;
};

static void *post_until_refused(void *arg)
{
    struct poster *poster = arg;
    for (; green_hub_spawn(handle, give_back, NULL) == 0; usleep(1000))
        atomic_fetch_add(&poster->posted, 1);
    must(errno == ESRCH);
    sem_post(&poster->refused);
    return NULL;
}

/* Ends only when the other thread has been refused: so it is, before the hub is no more. */
static void *wait_until_refused(void *arg)
{
    struct poster *poster = arg;
    green_scope_t shield;
    must_be_0(green_scope_begin(&shield, GREEN_FOREVER, GREEN_SHIELD));
    while (sem_trywait(&poster->refused) != 0)
        nap(1);
    return NULL;
}

static void *spawn_more(void *unused)
{
    must_be_0(green_hub_spawn(handle, note_number, V(7)));
    return unused;
}

TEST(what_others_spawn_while_the_hub_ends_is_refused_and_the_end_comes)
{
    struct poster poster = {0};
    pthread_t thread;
    assert_int_equal(hubs_begin_world(NULL), 0);
    handle = green_hub_open();
    assert_int_equal(sem_init(&poster.refused, 0, 0), 0);
    assert_int_equal(pthread_create(&thread, NULL, post_until_refused, &poster), 0);
    while (atomic_load(&poster.posted) == 0)
        turn();
    assert_int_equal(green_task_detach(spawn(wait_until_refused, &poster)), 0);
    assert_int_equal(green_task_detach(spawn(spawn_more, NULL)), 0);
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
    assert_noted("7"); /* the hub's own tasks may */
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(green_hub_close(handle), 0);
    sem_destroy(&poster.refused);
    alarm(0);
}

static void *resist(void *done)
{
    green_scope_t shield;
    must_be_0(green_scope_begin(&shield, GREEN_FOREVER, GREEN_SHIELD));
    must_be_0(green_event_wait(done, GREEN_FOREVER));
    return NULL;
}

THREAD_TEST(after_an_end_that_took_too_long_others_may_spawn_again)
{
    green_event_t finally = GREEN_EVENT_INIT;
    green_task_t *task = spawn(resist, &finally);
    turn();
    assert_refused(green_hub_end(GREEN_MS(1)), ETIMEDOUT);
    in_thread(spawn_set_event, NULL);
    assert_int_equal(green_event_wait(&event, GREEN_FOREVER), 0);
    assert_int_equal(green_event_set(&finally), 0);
    finish(task);
}

int main(void)
{
    return run_all_tests();
}
