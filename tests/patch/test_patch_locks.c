/* SPDX-License-Identifier: MIT */
/* Locks of pthreads and C11, between tasks of a thread, tasks of several, and threads. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <threads.h>
#include <time.h>

#include <green_patch.h>

#include "hubs.h"

/* ---- Fixture ------------------------------------------------------------------------- */

static int locks_begin_virtual(void **state)
{
    return green_patch(GREEN_PATCH_LOCKS) < 0 || hubs_begin_virtual(state) != 0;
}

static int locks_begin_world(void **state)
{
    return green_patch(GREEN_PATCH_LOCKS) < 0 || hubs_begin_world(state) != 0;
}

static int locks_end(void **state)
{
    int result = hubs_end(state);
    return green_patch(0) < 0 || result != 0;
}

#define LOCK_TEST(sentence) TEST_WITH(sentence, locks_begin_virtual, locks_end)
#define WORLD_LOCK_TEST(sentence) TEST_WITH(sentence, locks_begin_world, locks_end)

static pthread_mutex_t mutex, other_mutex;
static pthread_cond_t cond;
static pthread_rwlock_t rwlock;
static sem_t semaphore;
static _Atomic(int) stage; /* what threads and tasks tell each other */

static void init_mutex(pthread_mutex_t *m, int type)
{
    pthread_mutexattr_t attributes;
    must_be_0(pthread_mutexattr_init(&attributes));
    must_be_0(pthread_mutexattr_settype(&attributes, type));
    must_be_0(pthread_mutex_init(m, &attributes));
    must_be_0(pthread_mutexattr_destroy(&attributes));
}

static void init_cond(clockid_t clock)
{
    pthread_condattr_t attributes;
    must_be_0(pthread_condattr_init(&attributes));
    must_be_0(pthread_condattr_setclock(&attributes, clock));
    must_be_0(pthread_cond_init(&cond, &attributes));
    must_be_0(pthread_condattr_destroy(&attributes));
}

static struct timespec in_ms(clockid_t clock, int64_t ms)
{
    struct timespec time;
    must_be_0(clock_gettime(clock, &time));
    int64_t ns = time.tv_nsec + ms % 1000 * 1000000;
    return (struct timespec){ time.tv_sec + ms / 1000 + ns / 1000000000, ns % 1000000000 };
}

static int64_t world_ms(void)
{
    struct timespec now;
    must_be_0(clock_gettime(CLOCK_MONOTONIC, &now));
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/*
 * In virtual time, for a limit of that many of the world's milliseconds from then on: what
 * passed in the world before the wait is missing.
 */
static void assert_waited(int64_t ms, int64_t since, int64_t world_since)
{
    int64_t waited = clock_ms() - since, passed = world_ms() - world_since;
    assert_true(waited <= ms);
    assert_true(waited >= ms - passed - 2);
}

/* Waits for the stage as a task, or as a thread. */
static void reach(int n)
{
    while (stage < n)
        must_be_0(green_sleep(GREEN_MS(1)));
}

static void thread_reaches(int n)
{
    const struct timespec time = { 0, 200000 };
    while (stage < n)
        nanosleep(&time, NULL);
}

/* ---- Mutexes ------------------------------------------------------------------------- */

static void *hold_mutex(void *ms)
{
    must_be_0(pthread_mutex_lock(&mutex));
    note("got%d@%d", (int)(intptr_t)ms, (int)clock_ms());
    nap((intptr_t)ms);
    must_be_0(pthread_mutex_unlock(&mutex));
    return NULL;
}

LOCK_TEST(who_finds_a_mutex_held_by_another_task_waits_and_the_rest_run)
{
    init_mutex(&mutex, PTHREAD_MUTEX_DEFAULT);
    green_task_t *a = spawn(hold_mutex, V(1000)), *b = spawn(hold_mutex, V(100));
    turn();
    nap(500);
    note("main@%d", (int)clock_ms());
    finish(a);
    finish(b);
    assert_noted("got1000@0 main@500 got100@1000");
    must_be_0(pthread_mutex_destroy(&mutex));
}

/* Second names, by which programs call that were linked with an older glibc. */
int __pthread_mutex_lock(pthread_mutex_t *mutex);
int __pthread_mutex_trylock(pthread_mutex_t *mutex);
int __pthread_mutex_unlock(pthread_mutex_t *mutex);
int __pthread_rwlock_rdlock(pthread_rwlock_t *lock);
int __pthread_rwlock_wrlock(pthread_rwlock_t *lock);
int __pthread_rwlock_tryrdlock(pthread_rwlock_t *lock);
int __pthread_rwlock_trywrlock(pthread_rwlock_t *lock);
int __pthread_rwlock_unlock(pthread_rwlock_t *lock);
int __pthread_once(pthread_once_t *once, void (*function)(void));

static pthread_rwlock_t second_rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_once_t second_once = PTHREAD_ONCE_INIT;

static void nap_once(void)
{
    nap(100);
    note("once@%d", (int)clock_ms());
}

static void *hold_by_second_names(void *ms)
{
    must_be_0(__pthread_mutex_lock(&mutex));
    must_be_0(__pthread_rwlock_wrlock(&second_rwlock));
    note("got@%d", (int)clock_ms());
    nap((intptr_t)ms);
    must_be_0(__pthread_rwlock_unlock(&second_rwlock));
    must_be_0(__pthread_mutex_unlock(&mutex));
    must_be_0(__pthread_rwlock_rdlock(&second_rwlock));
    must_be_0(__pthread_rwlock_unlock(&second_rwlock));
    must_be_0(__pthread_once(&second_once, nap_once));
    return NULL;
}

LOCK_TEST(second_names_of_locks_are_the_same_calls)
{
    init_mutex(&mutex, PTHREAD_MUTEX_DEFAULT);
    second_once = (pthread_once_t)PTHREAD_ONCE_INIT;
    green_task_t *a = spawn(hold_by_second_names, V(1000)), *b = spawn(hold_mutex, V(100));
    turn();
    assert_int_equal(__pthread_mutex_trylock(&mutex), EBUSY);
    assert_int_equal(__pthread_rwlock_tryrdlock(&second_rwlock), EBUSY);
    assert_int_equal(__pthread_rwlock_trywrlock(&second_rwlock), EBUSY);
    must_be_0(__pthread_mutex_lock(&mutex)); /* after both */
    must_be_0(__pthread_mutex_unlock(&mutex));
    must_be_0(__pthread_once(&second_once, nap_once));
    finish(a);
    finish(b);
    assert_noted("got@0 got100@1000 once@1100");
    must_be_0(pthread_mutex_destroy(&mutex));
}

LOCK_TEST(a_mutex_is_handed_to_those_who_wait_in_the_order_in_which_they_came)
{
    init_mutex(&mutex, PTHREAD_MUTEX_DEFAULT);
    green_task_t *tasks[4];
    must_be_0(pthread_mutex_lock(&mutex));
    for (int i = 0; i < 4; i++)
        tasks[i] = spawn(hold_mutex, V(10 + i));
    turn();
    must_be_0(pthread_mutex_unlock(&mutex));
    assert_int_equal(pthread_mutex_trylock(&mutex), EBUSY); /* it is the first one's by now */
    for (int i = 0; i < 4; i++)
        finish(tasks[i]);
    assert_noted("got10@0 got11@10 got12@21 got13@33");
    must_be_0(pthread_mutex_destroy(&mutex));
}

static void *lock_twice(void *unused)
{
    must_be_0(pthread_mutex_lock(&mutex));
    must_be_0(pthread_mutex_lock(&mutex));
    must_be_0(pthread_mutex_trylock(&mutex));
    note("in");
    nap(100);
    must_be_0(pthread_mutex_unlock(&mutex));
    must_be_0(pthread_mutex_unlock(&mutex));
    nap(100);
    note("out");
    must_be_0(pthread_mutex_unlock(&mutex));
    return unused;
}

LOCK_TEST(a_recursive_mutex_lets_its_task_in_again_and_keeps_the_others_out)
{
    init_mutex(&mutex, PTHREAD_MUTEX_RECURSIVE);
    green_task_t *a = spawn(lock_twice, NULL), *b = spawn(lock_twice, NULL);
    turn();
    assert_int_equal(pthread_mutex_trylock(&mutex), EBUSY);
    assert_int_equal(pthread_mutex_unlock(&mutex), EPERM);
    finish(a);
    finish(b);
    assert_noted("in out in out");
    must_be_0(pthread_mutex_lock(&mutex));
    must_be_0(pthread_mutex_unlock(&mutex));
    assert_int_equal(pthread_mutex_unlock(&mutex), EPERM);
    must_be_0(pthread_mutex_destroy(&mutex));
}

static void *check_errors(void *unused)
{
    must_be_0(pthread_mutex_lock(&mutex));
    must(pthread_mutex_lock(&mutex) == EDEADLK);
    must(pthread_mutex_trylock(&mutex) == EBUSY);
    nap(100);
    must_be_0(pthread_mutex_unlock(&mutex));
    must(pthread_mutex_unlock(&mutex) == EPERM);
    return unused;
}

LOCK_TEST(an_error_checking_mutex_complains_to_its_own_task_alone)
{
    init_mutex(&mutex, PTHREAD_MUTEX_ERRORCHECK);
    green_task_t *a = spawn(check_errors, NULL), *b = spawn(check_errors, NULL);
    turn();
    assert_int_equal(pthread_mutex_unlock(&mutex), EPERM);
    must_be_0(pthread_mutex_lock(&mutex));
    assert_int_equal(clock_ms(), 200);
    must_be_0(pthread_mutex_unlock(&mutex));
    finish(a);
    finish(b);
    must_be_0(pthread_mutex_destroy(&mutex));
}

/* Of robust ones glibc says other errors than of others. */
LOCK_TEST(who_tries_its_own_mutex_again_hears_what_the_system_says)
{
    const int types[] = { PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_ERRORCHECK };
    for (int i = 0; i < 3 * 2; i++) {
        int said[2];
        for (int patched = 0; patched < 2; patched++) {
            pthread_mutexattr_t attributes;
            must_be_0(pthread_mutexattr_init(&attributes));
            must_be_0(pthread_mutexattr_settype(&attributes, types[i / 2]));
            must_be_0(pthread_mutexattr_setrobust(&attributes, i % 2 != 0 ? PTHREAD_MUTEX_ROBUST
                                                                          : PTHREAD_MUTEX_STALLED));
            must(green_patch(patched ? GREEN_PATCH_LOCKS : 0) >= 0);
            must_be_0(pthread_mutex_init(&mutex, &attributes));
            must_be_0(pthread_mutexattr_destroy(&attributes));
            must_be_0(pthread_mutex_lock(&mutex));
            said[patched] = pthread_mutex_trylock(&mutex);
            if (said[patched] == 0)
                must_be_0(pthread_mutex_unlock(&mutex));
            must_be_0(pthread_mutex_unlock(&mutex));
            must_be_0(pthread_mutex_destroy(&mutex));
        }
        assert_int_equal(said[1], said[0]);
    }
}

static void *unlock_later(void *ms)
{
    nap((intptr_t)ms);
    return V(pthread_mutex_unlock(&mutex));
}

LOCK_TEST(a_normal_mutex_may_be_unlocked_by_another_task)
{
    init_mutex(&mutex, PTHREAD_MUTEX_NORMAL);
    green_task_t *task = spawn(unlock_later, V(70));
    must_be_0(pthread_mutex_lock(&mutex));
    must_be_0(pthread_mutex_lock(&mutex));
    assert_int_equal(clock_ms(), 70);
    assert_null(finish(task));
    must_be_0(pthread_mutex_unlock(&mutex));
    must_be_0(pthread_mutex_destroy(&mutex));
}

LOCK_TEST(a_time_limit_of_a_mutex_is_kept)
{
    init_mutex(&mutex, PTHREAD_MUTEX_DEFAULT);
    green_task_t *task = spawn(hold_mutex, V(3000));
    turn();
    int64_t before = clock_ms(), world = world_ms();
    struct timespec time = in_ms(CLOCK_REALTIME, 1000);
    assert_int_equal(pthread_mutex_timedlock(&mutex, &time), ETIMEDOUT);
    assert_waited(1000, before, world);
    before = clock_ms();
    world = world_ms();
    time = in_ms(CLOCK_MONOTONIC, 1000);
    assert_int_equal(pthread_mutex_clocklock(&mutex, CLOCK_MONOTONIC, &time), ETIMEDOUT);
    assert_waited(1000, before, world);
    time.tv_nsec = 1000000000;
    assert_int_equal(pthread_mutex_timedlock(&mutex, &time), EINVAL);
    assert_int_equal(pthread_mutex_clocklock(&mutex, CLOCK_PROCESS_CPUTIME_ID, &time), EINVAL);
    time = in_ms(CLOCK_REALTIME, -1000);
    assert_int_equal(pthread_mutex_timedlock(&mutex, &time), ETIMEDOUT);
    time = in_ms(CLOCK_REALTIME, 5000);
    assert_int_equal(pthread_mutex_timedlock(&mutex, &time), 0);
    assert_int_equal(clock_ms(), 3000);
    assert_int_equal(pthread_mutex_unlock(&mutex), 0);
    finish(task);
    assert_noted("got3000@0");
    must_be_0(pthread_mutex_destroy(&mutex));
}

static void *lock_for_sure(void *unused)
{
    must_be_0(pthread_mutex_lock(&mutex));
    must_fail(green_task_check(), ECANCELED);
    note("got@%d", (int)clock_ms());
    must_be_0(pthread_mutex_unlock(&mutex));
    return unused;
}

LOCK_TEST(a_cancelled_task_waits_for_a_mutex_all_the_same)
{
    init_mutex(&mutex, PTHREAD_MUTEX_DEFAULT);
    green_task_t *holder = spawn(hold_mutex, V(1000)), *task = spawn(lock_for_sure, NULL);
    nap(100);
    must_be_0(green_task_cancel(task));
    {
        GREEN_SCOPE(limit, GREEN_MS(50), 0);
        assert_int_equal(pthread_mutex_lock(&mutex), 0);
        assert_int_equal(pthread_mutex_unlock(&mutex), 0);
    }
    finish(task);
    finish(holder);
    assert_noted("got1000@0 got@1000");
    must_be_0(pthread_mutex_destroy(&mutex));
}

static void *never_unlock(void *unused)
{
    must_be_0(pthread_mutex_lock(&mutex));
    return sleep_or_fail(V(INT32_MAX)) == NULL ? unused : GREEN_FAILED;
}

static void *leave_locked(void *unused)
{
    must_be_0(pthread_mutex_lock(&mutex));
    return unused;
}

LOCK_TEST(who_waits_for_a_mutex_that_nobody_can_unlock_is_told)
{
    for (int type = PTHREAD_MUTEX_NORMAL; type <= PTHREAD_MUTEX_ERRORCHECK; type++) {
        init_mutex(&mutex, type);
        finish(spawn(leave_locked, NULL));
        assert_int_equal(pthread_mutex_lock(&mutex), EDEADLK);
        assert_int_equal(pthread_mutex_trylock(&mutex), EBUSY);
        memset(&mutex, 0, sizeof mutex);
    }
}

LOCK_TEST(a_mutex_that_was_made_anew_is_free)
{
    init_mutex(&mutex, PTHREAD_MUTEX_RECURSIVE);
    finish(spawn(leave_locked, NULL));
    init_mutex(&mutex, PTHREAD_MUTEX_RECURSIVE);
    must_be_0(pthread_mutex_lock(&mutex));
    must_be_0(pthread_mutex_unlock(&mutex));
    must_be_0(pthread_mutex_destroy(&mutex));
}

LOCK_TEST(who_holds_a_mutex_when_the_patch_goes_off_hands_it_on)
{
    init_mutex(&mutex, PTHREAD_MUTEX_RECURSIVE);
    must_be_0(pthread_mutex_lock(&mutex));
    green_task_t *task = spawn(hold_mutex, V(10));
    turn();
    must(green_patch(0) == GREEN_PATCH_LOCKS);
    must_be_0(pthread_mutex_unlock(&mutex));
    finish(task);
    assert_noted("got10@0");
    must_be_0(pthread_mutex_trylock(&mutex));
    must_be_0(pthread_mutex_unlock(&mutex));
    must_be_0(pthread_mutex_destroy(&mutex));
}

static void *thread_holds_mutex(void *unused)
{
    pthread_mutex_lock(&mutex);
    stage = 1;
    thread_reaches(2);
    pthread_mutex_unlock(&mutex);
    return unused;
}

static void *lock_and_note(void *unused)
{
    must_be_0(pthread_mutex_lock(&mutex));
    note("got");
    must_be_0(pthread_mutex_unlock(&mutex));
    return unused;
}

WORLD_LOCK_TEST(while_another_thread_holds_a_mutex_the_other_tasks_run)
{
    pthread_t thread;
    init_mutex(&mutex, PTHREAD_MUTEX_RECURSIVE);
    stage = 0;
    must_be_0(pthread_create(&thread, NULL, thread_holds_mutex, NULL));
    reach(1);
    green_task_t *a = spawn(lock_and_note, NULL), *b = spawn(lock_and_note, NULL);
    struct timespec time = in_ms(CLOCK_MONOTONIC, 20);
    assert_int_equal(pthread_mutex_clocklock(&mutex, CLOCK_MONOTONIC, &time), ETIMEDOUT);
    must_be_0(green_task_cancel(a)); /* gets it all the same */
    turn();
    assert_noted("");
    stage = 2;
    finish(a);
    finish(b);
    assert_noted("got got");
    must_be_0(pthread_join(thread, NULL));
    must_be_0(pthread_mutex_destroy(&mutex));
}

static int counted;

static void *count_under_mutex(void *rounds)
{
    for (int i = 0; i < (int)(intptr_t)rounds; i++) {
        must_be_0(pthread_mutex_lock(&mutex));
        int before = counted;
        if (i % 16 == 0 && green_task_current() != NULL)
            must_be_0(green_sleep(0));
        counted = before + 1;
        must_be_0(pthread_mutex_unlock(&mutex));
    }
    return NULL;
}

static void *tasks_count(void *rounds)
{
    green_task_t *tasks[4];
    must_be_0(green_patch(GREEN_PATCH_LOCKS));
    for (int i = 0; i < 4; i++)
        tasks[i] = spawn(count_under_mutex, rounds);
    for (int i = 0; i < 4; i++)
        finish(tasks[i]);
    must_be_0(green_hub_end(GREEN_FOREVER));
    return NULL;
}

WORLD_LOCK_TEST(tasks_and_threads_never_have_a_mutex_together)
{
    const int types[] = { PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_ERRORCHECK,
                          PTHREAD_MUTEX_ADAPTIVE_NP };
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        enum { ROUNDS = 500 };
        pthread_t threads[3];
        init_mutex(&mutex, types[i]);
        counted = 0;
        must_be_0(pthread_create(&threads[0], NULL, tasks_count, V(ROUNDS)));
        must_be_0(pthread_create(&threads[1], NULL, count_under_mutex, V(ROUNDS)));
        must_be_0(pthread_create(&threads[2], NULL, count_under_mutex, V(ROUNDS)));
        green_task_t *a = spawn(count_under_mutex, V(ROUNDS)), *b = spawn(count_under_mutex,
                                                                         V(ROUNDS));
        finish(a);
        finish(b);
        for (int j = 0; j < 3; j++)
            must_be_0(pthread_join(threads[j], NULL));
        assert_int_equal(counted, 8 * ROUNDS);
        must_be_0(pthread_mutex_destroy(&mutex));
    }
}

/* Its thread has ended with it. */
static void *thread_leaves_locked(void *unused)
{
    pthread_mutex_lock(&mutex);
    return unused;
}

static void *thread_dies_with_mutex(void *unused)
{
    pthread_mutex_lock(&mutex);
    stage = 1;
    thread_reaches(2);
    return unused;
}

static void *step(void *n)
{
    nap(3);
    stage = (int)(intptr_t)n;
    return NULL;
}

/* It is ours, and no other task's. */
static void mend_robust_mutex(void)
{
    green_task_t *task = spawn(lock_and_note, NULL);
    turn();
    assert_noted("");
    must_be_0(pthread_mutex_consistent(&mutex));
    must_be_0(pthread_mutex_unlock(&mutex));
    finish(task);
    assert_noted("got");
}

WORLD_LOCK_TEST(a_robust_mutex_tells_a_task_that_its_thread_has_died)
{
    pthread_mutexattr_t attributes;
    void *head;
    size_t length;
    if (syscall(SYS_get_robust_list, 0, &head, &length) != 0 && errno == ENOSYS) {
        print_message("skipped: this system has no robust mutexes, as qemu-user has none\n");
        skip();
    }
    must_be_0(pthread_mutexattr_init(&attributes));
    must_be_0(pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST));
    must_be_0(pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE));
    must_be_0(pthread_mutex_init(&mutex, &attributes));
    must_be_0(pthread_mutexattr_destroy(&attributes));
    in_thread(thread_leaves_locked, NULL);
    assert_int_equal(pthread_mutex_lock(&mutex), EOWNERDEAD);
    mend_robust_mutex();
    pthread_t thread;
    stage = 0;
    must_be_0(pthread_create(&thread, NULL, thread_dies_with_mutex, NULL));
    reach(1);
    green_task_t *task = spawn(step, V(2));
    assert_int_equal(pthread_mutex_lock(&mutex), EOWNERDEAD); /* after a wait */
    mend_robust_mutex();
    finish(task);
    must_be_0(pthread_join(thread, NULL));
    in_thread(thread_leaves_locked, NULL);
    assert_int_equal(pthread_mutex_lock(&mutex), EOWNERDEAD);
    must_be_0(pthread_mutex_unlock(&mutex)); /* as it is */
    assert_int_equal(pthread_mutex_lock(&mutex), ENOTRECOVERABLE);
    assert_int_equal(pthread_mutex_lock(&mutex), ENOTRECOVERABLE);
    must_be_0(pthread_mutex_destroy(&mutex));
}

struct shared {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    sem_t semaphore;
    _Atomic(int) stage;
};

static struct shared *map_shared(void)
{
    pthread_mutexattr_t mutex_attributes;
    pthread_condattr_t cond_attributes;
    struct shared *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    must(shared != MAP_FAILED);
    must_be_0(pthread_mutexattr_init(&mutex_attributes));
    must_be_0(pthread_mutexattr_setpshared(&mutex_attributes, PTHREAD_PROCESS_SHARED));
    must_be_0(pthread_mutex_init(&shared->mutex, &mutex_attributes));
    must_be_0(pthread_condattr_init(&cond_attributes));
    must_be_0(pthread_condattr_setpshared(&cond_attributes, PTHREAD_PROCESS_SHARED));
    must_be_0(pthread_cond_init(&shared->cond, &cond_attributes));
    must_be_0(sem_init(&shared->semaphore, 1, 0));
    return shared;
}

/* Another process: first it has the mutex, then it signals, then it posts. */
static int serve_shared(struct shared *shared)
{
    const struct timespec time = { 0, 1000000 };
    must_be_0(green_patch(0)); /* as a program without it */
    must_be_0(pthread_mutex_lock(&shared->mutex));
    shared->stage = 1;
    while (shared->stage < 2)
        nanosleep(&time, NULL);
    must_be_0(pthread_mutex_unlock(&shared->mutex));
    while (shared->stage < 3)
        nanosleep(&time, NULL);
    must_be_0(pthread_mutex_lock(&shared->mutex));
    shared->stage = 4;
    must_be_0(pthread_cond_signal(&shared->cond));
    must_be_0(pthread_mutex_unlock(&shared->mutex));
    while (shared->stage < 5)
        nanosleep(&time, NULL);
    must_be_0(sem_post(&shared->semaphore));
    return 0;
}

static void *advance(void *shared_)
{
    struct shared *shared = shared_;
    nap(3);
    shared->stage++;
    return NULL;
}

WORLD_LOCK_TEST(what_processes_share_is_waited_for_as_a_task)
{
    int status;
    struct shared *shared = map_shared();
    pid_t pid = fork();
    if (pid == 0) {
        alarm(60);
        (void)green_patch(0);
        _exit(serve_shared(shared));
    }
    while (shared->stage < 1)
        nap(1);
    green_task_t *task = spawn(advance, shared);
    must_be_0(pthread_mutex_lock(&shared->mutex));
    assert_int_equal(shared->stage, 2);
    finish(task);
    task = spawn(advance, shared);
    while (shared->stage < 4)
        must_be_0(pthread_cond_wait(&shared->cond, &shared->mutex));
    must_be_0(pthread_mutex_unlock(&shared->mutex));
    finish(task);
    task = spawn(advance, shared);
    must_be_0(sem_wait(&shared->semaphore));
    assert_int_equal(shared->stage, 5);
    finish(task);
    must(waitpid(pid, &status, 0) == pid && status == 0);
    must_be_0(munmap(shared, sizeof *shared));
}

/* ---- Conditions ---------------------------------------------------------------------- */

static void *wait_in_cond(void *number)
{
    must_be_0(pthread_mutex_lock(&mutex));
    int error = pthread_cond_wait(&cond, &mutex);
    note("%d:%d@%d", (int)(intptr_t)number, error, (int)clock_ms());
    must(pthread_mutex_trylock(&mutex) == EBUSY); /* it is held */
    GREEN_SCOPE(shield, GREEN_FOREVER, GREEN_SHIELD);
    nap(10);
    must_be_0(pthread_mutex_unlock(&mutex));
    return NULL;
}

LOCK_TEST(a_signal_wakes_the_first_task_that_waits_and_a_broadcast_all)
{
    green_task_t *tasks[4];
    init_mutex(&mutex, PTHREAD_MUTEX_DEFAULT);
    init_cond(CLOCK_REALTIME);
    for (int i = 0; i < 4; i++)
        tasks[i] = spawn(wait_in_cond, V(i));
    nap(100);
    must_be_0(pthread_cond_signal(&cond));
    nap(100);
    assert_noted("0:0@100");
    must_be_0(pthread_mutex_lock(&mutex));
    must_be_0(pthread_cond_broadcast(&cond));
    nap(100);
    assert_noted("");
    must_be_0(pthread_mutex_unlock(&mutex));
    for (int i = 0; i < 4; i++)
        finish(tasks[i]);
    assert_noted("1:0@300 2:0@310 3:0@320");
    must_be_0(pthread_cond_signal(&cond)); /* is not kept */
    tasks[0] = spawn(wait_in_cond, V(5));
    nap(100);
    assert_noted("");
    must_be_0(pthread_cond_signal(&cond));
    finish(tasks[0]);
    assert_noted("5:0@430");
    must_be_0(pthread_cond_destroy(&cond));
    must_be_0(pthread_mutex_destroy(&mutex));
}

LOCK_TEST(a_time_limit_of_a_condition_is_kept_by_its_clock)
{
    const clockid_t clocks[] = { CLOCK_REALTIME, CLOCK_MONOTONIC };
    init_mutex(&mutex, PTHREAD_MUTEX_ERRORCHECK);
    must_be_0(pthread_mutex_lock(&mutex));
    for (int i = 0; i < 2; i++) {
        init_cond(clocks[i]);
        int64_t before = clock_ms(), world = world_ms();
        struct timespec time = in_ms(clocks[i], 5000);
        assert_int_equal(pthread_cond_timedwait(&cond, &mutex, &time), ETIMEDOUT);
        assert_waited(5000, before, world);
        before = clock_ms();
        world = world_ms();
        time = in_ms(clocks[1 - i], 5000);
        assert_int_equal(pthread_cond_clockwait(&cond, &mutex, clocks[1 - i], &time), ETIMEDOUT);
        assert_waited(5000, before, world);
        time.tv_nsec = -1;
        assert_int_equal(pthread_cond_timedwait(&cond, &mutex, &time), EINVAL);
        time.tv_nsec = 0;
        assert_int_equal(pthread_cond_clockwait(&cond, &mutex, CLOCK_BOOTTIME, &time), EINVAL);
        assert_int_equal(pthread_mutex_lock(&mutex), EDEADLK); /* it is held each time */
        must_be_0(pthread_cond_destroy(&cond));
    }
    must_be_0(pthread_mutex_unlock(&mutex));
    init_cond(CLOCK_REALTIME);
    assert_int_equal(pthread_cond_wait(&cond, &mutex), EPERM); /* it is not */
    must_be_0(pthread_cond_destroy(&cond));
    must_be_0(pthread_mutex_destroy(&mutex));
}

LOCK_TEST(a_cancelled_wait_for_a_condition_returns_with_the_mutex)
{
    init_mutex(&mutex, PTHREAD_MUTEX_DEFAULT);
    init_cond(CLOCK_REALTIME);
    green_task_t *task = spawn(wait_in_cond, V(1));
    nap(100);
    must_be_0(pthread_mutex_lock(&mutex));
    must_be_0(green_task_cancel(task));
    nap(100);
    assert_noted("");
    must_be_0(pthread_mutex_unlock(&mutex));
    finish(task);
    char expected[16];
    snprintf(expected, sizeof expected, "1:%d@200", ECANCELED);
    assert_noted(expected);
    must_be_0(pthread_cond_destroy(&cond));
    must_be_0(pthread_mutex_destroy(&mutex));
}

LOCK_TEST(a_scope_ends_a_wait_for_a_condition)
{
    init_mutex(&mutex, PTHREAD_MUTEX_ERRORCHECK);
    init_cond(CLOCK_REALTIME);
    must_be_0(pthread_mutex_lock(&mutex));
    {
        GREEN_SCOPE(limit, GREEN_MS(700), 0);
        assert_int_equal(pthread_cond_wait(&cond, &mutex), ETIMEDOUT);
        assert_int_equal(clock_ms(), 700);
        assert_int_equal(pthread_cond_wait(&cond, &mutex), ETIMEDOUT);
    }
    assert_int_equal(pthread_mutex_lock(&mutex), EDEADLK);
    must_be_0(pthread_mutex_unlock(&mutex));
    must_be_0(pthread_cond_destroy(&cond));
    must_be_0(pthread_mutex_destroy(&mutex));
}

static bool predicate;

static void *ignore_all_errors(void *unused)
{
    must_be_0(pthread_mutex_lock(&mutex));
    while (!predicate)
        (void)pthread_cond_wait(&cond, &mutex);
    must_be_0(pthread_mutex_unlock(&mutex));
    return unused;
}

LOCK_TEST(a_loop_that_ignores_its_cancel_keeps_nobody_from_running)
{
    init_mutex(&mutex, PTHREAD_MUTEX_DEFAULT);
    init_cond(CLOCK_REALTIME);
    predicate = false;
    green_task_t *task = spawn(ignore_all_errors, NULL);
    turn();
    must_be_0(green_task_cancel(task));
    uint64_t before = hub_stat(turns);
    nap(1000);
    assert_in_range(hub_stat(turns) - before, 10, 10000);
    must_be_0(pthread_mutex_lock(&mutex));
    predicate = true;
    must_be_0(pthread_mutex_unlock(&mutex));
    finish(task);
    must_be_0(pthread_cond_destroy(&cond));
    must_be_0(pthread_mutex_destroy(&mutex));
}

/* A ball that goes between two sides, by a condition: `stage` is whose turn it is. */
static int ball_rounds;

static void *play(void *side_)
{
    int side = (int)(intptr_t)side_;
    for (int i = 0; i < ball_rounds; i++) {
        must_be_0(pthread_mutex_lock(&mutex));
        while (stage % 2 != side)
            must_be_0(pthread_cond_wait(&cond, &mutex));
        stage++;
        must_be_0(pthread_cond_signal(&cond));
        must_be_0(pthread_mutex_unlock(&mutex));
    }
    return NULL;
}

static void *play_as_task(void *side)
{
    must_be_0(green_patch(GREEN_PATCH_LOCKS));
    finish(spawn(play, side));
    must_be_0(green_hub_end(GREEN_FOREVER));
    return NULL;
}

WORLD_LOCK_TEST(tasks_and_threads_signal_each_other)
{
    green_fn *const others[] = { play, play_as_task };
    init_mutex(&mutex, PTHREAD_MUTEX_DEFAULT);
    init_cond(CLOCK_MONOTONIC);
    ball_rounds = times(1000, 100);
    for (int i = 0; i < 2; i++) {
        pthread_t thread;
        stage = 0;
        must_be_0(pthread_create(&thread, NULL, others[i], V(1)));
        green_task_t *task = spawn(play, V(0));
        finish(task);
        must_be_0(pthread_join(thread, NULL));
        assert_int_equal(stage, 2 * ball_rounds);
    }
    must_be_0(pthread_cond_destroy(&cond));
    must_be_0(pthread_mutex_destroy(&mutex));
}

/* A queue of one item, which several put and several get. */
static pthread_cond_t room, items;
static int in_queue, put_count, got_count, put_most;

static void *put_items(void *unused)
{
    for (;;) {
        must_be_0(pthread_mutex_lock(&mutex));
        while (in_queue == 1 && put_count < put_most)
            must_be_0(pthread_cond_wait(&room, &mutex));
        bool more = put_count < put_most;
        if (more) {
            put_count++;
            in_queue = 1;
            must_be_0(pthread_cond_signal(&items));
        } else {
            must_be_0(pthread_cond_broadcast(&room));
            must_be_0(pthread_cond_broadcast(&items));
        }
        must_be_0(pthread_mutex_unlock(&mutex));
        if (!more)
            return unused;
    }
}

static void *get_items(void *unused)
{
    for (;;) {
        must_be_0(pthread_mutex_lock(&mutex));
        while (in_queue == 0 && put_count < put_most)
            must_be_0(pthread_cond_wait(&items, &mutex));
        bool got = in_queue == 1;
        if (got) {
            in_queue = 0;
            got_count++;
            must_be_0(pthread_cond_signal(&room));
        }
        must_be_0(pthread_mutex_unlock(&mutex));
        if (!got)
            return unused;
    }
}

WORLD_LOCK_TEST(no_signal_is_lost_between_many_tasks_and_threads)
{
    pthread_t threads[2];
    green_task_t *tasks[6];
    init_mutex(&mutex, PTHREAD_MUTEX_DEFAULT);
    must_be_0(pthread_cond_init(&room, NULL));
    must_be_0(pthread_cond_init(&items, NULL));
    in_queue = put_count = got_count = 0;
    put_most = times(1500, 150);
    must_be_0(pthread_create(&threads[0], NULL, put_items, NULL));
    must_be_0(pthread_create(&threads[1], NULL, get_items, NULL));
    for (int i = 0; i < 6; i++)
        tasks[i] = spawn(i % 2 == 0 ? put_items : get_items, NULL);
    for (int i = 0; i < 6; i++)
        finish(tasks[i]);
    for (int i = 0; i < 2; i++)
        must_be_0(pthread_join(threads[i], NULL));
    assert_int_equal(got_count, put_most);
    must_be_0(pthread_cond_destroy(&items));
    must_be_0(pthread_cond_destroy(&room));
    must_be_0(pthread_mutex_destroy(&mutex));
}

static void *signal_when(void *n)
{
    thread_reaches((int)(intptr_t)n);
    pthread_mutex_lock(&mutex);
    pthread_cond_signal(&cond);
    pthread_mutex_unlock(&mutex);
    return NULL;
}

static void *wait_and_say(void *unused)
{
    must_be_0(pthread_mutex_lock(&mutex));
    stage++;
    int error = pthread_cond_wait(&cond, &mutex);
    must_be_0(pthread_mutex_unlock(&mutex));
    return error == 0 ? unused : fail_with(V(error));
}

WORLD_LOCK_TEST(a_thread_reaches_tasks_whose_first_has_left)
{
    pthread_t thread;
    init_mutex(&mutex, PTHREAD_MUTEX_DEFAULT);
    init_cond(CLOCK_REALTIME);
    stage = 0;
    green_task_t *first = spawn(wait_and_say, NULL), *second = spawn(wait_and_say, NULL);
    reach(2);
    must_be_0(green_task_cancel(first));
    assert_ptr_equal(finish(first), GREEN_FAILED);
    must_be_0(pthread_create(&thread, NULL, signal_when, V(3)));
    turn();
    stage = 3;
    assert_null(finish(second));
    must_be_0(pthread_join(thread, NULL));
    must_be_0(pthread_cond_destroy(&cond));
    must_be_0(pthread_mutex_destroy(&mutex));
}

/* ---- Semaphores ---------------------------------------------------------------------- */

static void *take_unit(void *number)
{
    errno = 0;
    int result = sem_wait(&semaphore);
    note("%d:%d@%d", (int)(intptr_t)number, result == 0 ? 0 : errno, (int)clock_ms());
    return NULL;
}

LOCK_TEST(units_go_to_the_tasks_that_wait_one_each)
{
    green_task_t *tasks[3];
    must_be_0(sem_init(&semaphore, 0, 1));
    for (int i = 0; i < 3; i++)
        tasks[i] = spawn(take_unit, V(i));
    nap(100);
    assert_noted("0:0@0");
    must_be_0(sem_post(&semaphore));
    nap(100);
    assert_noted("1:0@100");
    must_be_0(green_task_cancel(tasks[2]));
    finish(tasks[2]);
    char expected[16];
    snprintf(expected, sizeof expected, "2:%d@200", ECANCELED);
    assert_noted(expected);
    must_be_0(sem_post(&semaphore)); /* the cancelled one has not taken it */
    must_be_0(sem_trywait(&semaphore));
    must_fail(sem_trywait(&semaphore), EAGAIN);
    finish(tasks[0]);
    finish(tasks[1]);
    must_be_0(sem_destroy(&semaphore));
}

LOCK_TEST(a_time_limit_of_a_semaphore_is_kept)
{
    must_be_0(sem_init(&semaphore, 0, 0));
    int64_t before = clock_ms(), world = world_ms();
    struct timespec time = in_ms(CLOCK_REALTIME, 2000);
    must_fail(sem_timedwait(&semaphore, &time), ETIMEDOUT);
    assert_waited(2000, before, world);
    before = clock_ms();
    world = world_ms();
    time = in_ms(CLOCK_MONOTONIC, 2000);
    must_fail(sem_clockwait(&semaphore, CLOCK_MONOTONIC, &time), ETIMEDOUT);
    assert_waited(2000, before, world);
    must_fail(sem_clockwait(&semaphore, CLOCK_BOOTTIME, &time), EINVAL);
    time.tv_nsec = 1000000000;
    must_fail(sem_timedwait(&semaphore, &time), EINVAL);
    {
        GREEN_SCOPE(limit, GREEN_MS(10), 0);
        must_fail(sem_wait(&semaphore), ETIMEDOUT);
        must_be_0(sem_post(&semaphore));
        must_fail(sem_wait(&semaphore), ETIMEDOUT); /* and leaves the unit */
    }
    errno = 77;
    must_be_0(sem_wait(&semaphore));
    assert_int_equal(errno, 77);
    must_be_0(sem_destroy(&semaphore));
}

static void post_in_handler(int signal_)
{
    (void)signal_;
    sem_post(&semaphore);
}

static void *post_thread(void *how)
{
    for (int i = 1; i <= 50; i++) {
        thread_reaches(i);
        if (how != NULL)
            raise(SIGUSR1);
        else
            sem_post(&semaphore);
    }
    return NULL;
}

static void *take_units(void *n)
{
    for (int i = 0; i < (int)(intptr_t)n; i++) {
        stage++;
        must_be_0(sem_wait(&semaphore));
    }
    return NULL;
}

WORLD_LOCK_TEST(threads_and_signal_handlers_post_to_tasks)
{
    const struct sigaction action = { .sa_handler = post_in_handler };
    struct sigaction before;
    must_be_0(sigaction(SIGUSR1, &action, &before));
    must_be_0(sem_init(&semaphore, 0, 0));
    for (int i = 0; i < 2; i++) {
        pthread_t thread;
        stage = 0;
        must_be_0(pthread_create(&thread, NULL, post_thread, i == 0 ? NULL : V(1)));
        green_task_t *a = spawn(take_units, V(25)), *b = spawn(take_units, V(25));
        finish(a);
        finish(b);
        must_be_0(pthread_join(thread, NULL));
        must_fail(sem_trywait(&semaphore), EAGAIN);
    }
    green_task_t *task = spawn(take_units, V(1));
    turn();
    must_be_0(raise(SIGUSR1)); /* in the thread itself */
    finish(task);
    must_be_0(sem_destroy(&semaphore));
    must_be_0(sigaction(SIGUSR1, &before, NULL));
}

static void *wait_for_post(void *unused)
{
    while (sem_wait(&semaphore) != 0)
        continue;
    stage = 1;
    return unused;
}

WORLD_LOCK_TEST(a_task_posts_to_a_thread)
{
    pthread_t thread;
    must_be_0(sem_init(&semaphore, 0, 0));
    stage = 0;
    must_be_0(pthread_create(&thread, NULL, wait_for_post, NULL));
    must_be_0(sem_post(&semaphore));
    reach(1);
    must_be_0(pthread_join(thread, NULL));
    must_be_0(sem_destroy(&semaphore));
}

/* ---- Read-write locks ------------------------------------------------------------------------ */

static void *read_for(void *ms)
{
    must_be_0(pthread_rwlock_rdlock(&rwlock));
    note("r%d@%d", (int)(intptr_t)ms, (int)clock_ms());
    nap((intptr_t)ms);
    must_be_0(pthread_rwlock_unlock(&rwlock));
    return NULL;
}

static void *write_for(void *ms)
{
    must_be_0(pthread_rwlock_wrlock(&rwlock));
    note("w%d@%d", (int)(intptr_t)ms, (int)clock_ms());
    must(pthread_rwlock_rdlock(&rwlock) == EDEADLK);
    must(pthread_rwlock_wrlock(&rwlock) == EDEADLK);
    must(pthread_rwlock_tryrdlock(&rwlock) == EBUSY);
    nap((intptr_t)ms);
    must_be_0(pthread_rwlock_unlock(&rwlock));
    return NULL;
}

LOCK_TEST(tasks_read_together_and_write_alone)
{
    must_be_0(pthread_rwlock_init(&rwlock, NULL));
    green_task_t *a = spawn(read_for, V(100)), *b = spawn(read_for, V(200));
    turn();
    green_task_t *c = spawn(write_for, V(50)), *d = spawn(write_for, V(60));
    nap(150);
    assert_int_equal(pthread_rwlock_trywrlock(&rwlock), EBUSY);
    assert_int_equal(pthread_rwlock_tryrdlock(&rwlock), 0);
    assert_int_equal(pthread_rwlock_unlock(&rwlock), 0);
    struct timespec time = in_ms(CLOCK_REALTIME, 20);
    assert_int_equal(pthread_rwlock_timedwrlock(&rwlock, &time), ETIMEDOUT);
    time = in_ms(CLOCK_MONOTONIC, 20);
    assert_int_equal(pthread_rwlock_clockwrlock(&rwlock, CLOCK_MONOTONIC, &time), ETIMEDOUT);
    nap(205 - clock_ms());
    assert_int_equal(pthread_rwlock_tryrdlock(&rwlock), EBUSY);
    time = in_ms(CLOCK_REALTIME, 5);
    assert_int_equal(pthread_rwlock_timedrdlock(&rwlock, &time), ETIMEDOUT);
    time = in_ms(CLOCK_MONOTONIC, 5);
    assert_int_equal(pthread_rwlock_clockrdlock(&rwlock, CLOCK_MONOTONIC, &time), ETIMEDOUT);
    green_task_t *e = spawn(read_for, V(10));
    finish(a);
    finish(b);
    finish(c);
    finish(d);
    finish(e);
    assert_noted("r100@0 r200@0 w50@200 w60@250 r10@310");
    must_be_0(pthread_rwlock_destroy(&rwlock));
}

LOCK_TEST(a_time_that_is_none_is_refused_also_by_a_free_lock)
{
    const struct timespec none = { 0, 1000000000 };
    must_be_0(pthread_rwlock_init(&rwlock, NULL));
    assert_int_equal(pthread_rwlock_timedrdlock(&rwlock, &none), EINVAL);
    assert_int_equal(pthread_rwlock_timedwrlock(&rwlock, &none), EINVAL);
    assert_int_equal(pthread_rwlock_clockrdlock(&rwlock, CLOCK_MONOTONIC, &none), EINVAL);
    assert_int_equal(pthread_rwlock_clockwrlock(&rwlock, CLOCK_MONOTONIC, &none), EINVAL);
    assert_int_equal(pthread_rwlock_trywrlock(&rwlock), 0);
    must_be_0(pthread_rwlock_unlock(&rwlock));
    must_be_0(pthread_rwlock_destroy(&rwlock));
}

static void *thread_writes(void *unused)
{
    pthread_rwlock_wrlock(&rwlock);
    stage = 1;
    thread_reaches(2);
    pthread_rwlock_unlock(&rwlock);
    return unused;
}

WORLD_LOCK_TEST(while_another_thread_writes_the_other_tasks_run)
{
    pthread_t thread;
    must_be_0(pthread_rwlock_init(&rwlock, NULL));
    stage = 0;
    must_be_0(pthread_create(&thread, NULL, thread_writes, NULL));
    reach(1);
    green_task_t *task = spawn(step, V(2));
    must_be_0(pthread_rwlock_rdlock(&rwlock));
    assert_int_equal(stage, 2);
    must_be_0(pthread_rwlock_unlock(&rwlock));
    finish(task);
    must_be_0(pthread_join(thread, NULL));
    must_be_0(pthread_rwlock_destroy(&rwlock));
}

/* ---- Ends of threads, barriers, pthread_once ----------------------------------------- */

static void *end_when(void *n)
{
    thread_reaches((int)(intptr_t)n);
    return V(42);
}

static void *try_to_join(void *thread)
{
    int error = pthread_join(*(pthread_t *)thread, NULL);
    return error == 0 ? NULL : fail_with(V(error));
}

WORLD_LOCK_TEST(while_a_thread_is_joined_the_other_tasks_run)
{
    pthread_t thread;
    void *value = NULL;
    stage = 0;
    must_be_0(pthread_create(&thread, NULL, end_when, V(1)));
    assert_int_equal(pthread_join(pthread_self(), NULL), EDEADLK);
    green_task_t *joiner = spawn(try_to_join, &thread);
    turn();
    must_be_0(green_task_cancel(joiner));
    assert_ptr_equal(finish(joiner), GREEN_FAILED);
    assert_int_equal(errno, ECANCELED);
    struct timespec time = in_ms(CLOCK_REALTIME, 2);
    assert_int_equal(pthread_timedjoin_np(thread, &value, &time), ETIMEDOUT);
    time = in_ms(CLOCK_MONOTONIC, 2);
    assert_int_equal(pthread_clockjoin_np(thread, &value, CLOCK_MONOTONIC, &time), ETIMEDOUT);
    green_task_t *task = spawn(step, V(1));
    must_be_0(pthread_join(thread, &value));
    assert_ptr_equal(value, V(42));
    finish(task);
}

static pthread_barrier_t barrier;
static _Atomic(int) at_barrier, serial;

static void *come_to_barrier(void *unused)
{
    for (int i = 0; i < 3; i++) {
        at_barrier++;
        int result = pthread_barrier_wait(&barrier);
        must(result == 0 || result == PTHREAD_BARRIER_SERIAL_THREAD);
        must(at_barrier >= 8 * (i + 1));
        serial += result == PTHREAD_BARRIER_SERIAL_THREAD;
    }
    return unused;
}

WORLD_LOCK_TEST(tasks_and_threads_meet_at_a_barrier)
{
    pthread_t threads[2];
    green_task_t *tasks[6];
    must_be_0(pthread_barrier_init(&barrier, NULL, 8));
    at_barrier = serial = 0;
    for (int i = 0; i < 6; i++)
        tasks[i] = spawn(come_to_barrier, NULL);
    for (int i = 0; i < 2; i++)
        must_be_0(pthread_create(&threads[i], NULL, come_to_barrier, NULL));
    for (int i = 0; i < 6; i++)
        finish(tasks[i]);
    for (int i = 0; i < 2; i++)
        must_be_0(pthread_join(threads[i], NULL));
    assert_int_equal(serial, 3);
    must_be_0(pthread_barrier_destroy(&barrier));
}

static pthread_once_t once, inner_once, other_once;

static void inner(void)
{
    note("inner");
}

static void slow_start(void)
{
    note("begin");
    must_be_0(pthread_once(&inner_once, inner));
    nap(100);
    note("end");
}

static void *start_once(void *which)
{
    must_be_0(pthread_once(which, slow_start));
    note("started@%d", (int)clock_ms());
    return NULL;
}

LOCK_TEST(what_is_done_once_may_wait_and_the_others_wait_for_it)
{
    const pthread_once_t unused = PTHREAD_ONCE_INIT;
    once = inner_once = other_once = unused;
    green_task_t *a = spawn(start_once, &once), *b = spawn(start_once, &once);
    green_task_t *c = spawn(start_once, &other_once);
    nap(10);
    note("main");
    finish(a);
    finish(b);
    finish(c);
    assert_noted("begin inner main end started@100 started@100 begin end started@200");
}

static void start_in_thread(void)
{
    stage = 1;
    thread_reaches(2);
}

static void *thread_starts(void *which)
{
    pthread_once(which, start_in_thread);
    return NULL;
}

WORLD_LOCK_TEST(while_another_thread_does_it_once_the_other_tasks_run)
{
    const pthread_once_t unused = PTHREAD_ONCE_INIT;
    pthread_t thread;
    once = unused;
    stage = 0;
    must_be_0(pthread_create(&thread, NULL, thread_starts, &once));
    reach(1);
    green_task_t *task = spawn(step, V(2));
    must_be_0(pthread_once(&once, start_in_thread));
    assert_int_equal(stage, 2);
    finish(task);
    must_be_0(pthread_join(thread, NULL));
}

/* ---- C11 ----------------------------------------------------------------------------- */

static mtx_t c_mutex;
static cnd_t c_cond;
static once_flag c_once = ONCE_FLAG_INIT;

static void say_once(void)
{
    note("once");
}

static void *hold_c_mutex(void *ms)
{
    must(mtx_lock(&c_mutex) == thrd_success);
    note("got@%d", (int)clock_ms());
    call_once(&c_once, say_once);
    nap((intptr_t)ms);
    must(mtx_unlock(&c_mutex) == thrd_success);
    return NULL;
}

static void *wait_in_c_cond(void *unused)
{
    must(mtx_lock(&c_mutex) == thrd_success);
    must(cnd_wait(&c_cond, &c_mutex) == thrd_success);
    note("woken@%d", (int)clock_ms());
    must(mtx_unlock(&c_mutex) == thrd_success);
    return unused;
}

static int end_with_7(void *unused)
{
    (void)unused;
    thread_reaches(1);
    return 7;
}

LOCK_TEST(the_locks_of_c11_are_the_same)
{
    c_once = (once_flag)ONCE_FLAG_INIT;
    thrd_t thread;
    int value = 0;
    must(mtx_init(&c_mutex, mtx_timed) == thrd_success);
    must(cnd_init(&c_cond) == thrd_success);
    green_task_t *a = spawn(hold_c_mutex, V(100)), *b = spawn(hold_c_mutex, V(100));
    turn();
    assert_int_equal(mtx_trylock(&c_mutex), thrd_busy);
    struct timespec time = in_ms(CLOCK_REALTIME, 50);
    assert_int_equal(mtx_timedlock(&c_mutex, &time), thrd_timedout);
    finish(a);
    finish(b);
    assert_noted("got@0 once got@100");
    must(mtx_lock(&c_mutex) == thrd_success);
    time = in_ms(CLOCK_REALTIME, 50);
    assert_int_equal(cnd_timedwait(&c_cond, &c_mutex, &time), thrd_timedout);
    must(mtx_unlock(&c_mutex) == thrd_success);
    nap(400 - clock_ms());
    green_task_t *c = spawn(wait_in_c_cond, NULL), *d = spawn(wait_in_c_cond, NULL);
    turn();
    must(cnd_signal(&c_cond) == thrd_success);
    nap(100);
    assert_noted("woken@400");
    must(cnd_broadcast(&c_cond) == thrd_success);
    finish(c);
    finish(d);
    assert_noted("woken@500");
    stage = 1;
    must(thrd_create(&thread, end_with_7, NULL) == thrd_success);
    must(thrd_join(thread, &value) == thrd_success);
    assert_int_equal(value, 7);
    cnd_destroy(&c_cond);
    mtx_destroy(&c_mutex);
}

/* ---- What must not be disturbed ------------------------------------------------------ */

/* What the thread's tasks hold, as the patch has it: the first number of its lot. */
extern _Thread_local const unsigned *green__lot_mine;
static unsigned most_held;

/* libgreen calls it with its pool locked. */
int pthread_sigmask(int how, const sigset_t *set, sigset_t *before)
{
    static int (*next)(int, const sigset_t *, sigset_t *);
    if (next == NULL)
        *(void **)&next = dlsym(RTLD_NEXT, "pthread_sigmask");
    if (green__lot_mine != NULL && *green__lot_mine > most_held)
        most_held = *green__lot_mine;
    return next(how, set, before);
}

static void *give_in_pool(void *value)
{
    return value;
}

static void *offload(void *value)
{
    void *result;
    must_be_0(green_offload(give_in_pool, value, &result, NULL));
    must(result == value);
    return NULL;
}

WORLD_LOCK_TEST(the_locks_of_libgreen_are_not_taken_for_a_tasks)
{
    static bool has_pool; /* where it is repeated no more threads begin */
    green_task_t *tasks[8];
    init_mutex(&mutex, PTHREAD_MUTEX_DEFAULT);
    must_be_0(pthread_mutex_lock(&mutex));
    most_held = 0;
    assert_int_equal(*green__lot_mine, 1);
    for (int i = 0; i < 8; i++)
        tasks[i] = spawn(offload, V(i + 1));
    for (int i = 0; i < 8; i++)
        finish(tasks[i]);
    assert_true(most_held == 1 || (has_pool && most_held == 0));
    has_pool = true;
    must_be_0(pthread_mutex_unlock(&mutex));
    assert_int_equal(*green__lot_mine, 0);
    must_be_0(pthread_mutex_destroy(&mutex));
}

static void *fork_in_task(void *unused)
{
    int status;
    must_be_0(pthread_mutex_lock(&other_mutex));
    pid_t pid = fork();
    must(pid >= 0);
    if (pid == 0) {
        alarm(60);
        must_be_0(pthread_mutex_unlock(&other_mutex));
        must_be_0(pthread_mutex_lock(&other_mutex));
        must_be_0(pthread_mutex_unlock(&other_mutex));
        must(pthread_mutex_trylock(&mutex) == EBUSY); /* of a task that is no more */
        must_be_0(pthread_mutex_init(&mutex, NULL));
        must_be_0(pthread_cond_signal(&cond)); /* main goes on as the task returns */
        return unused;
    }
    must_be_0(pthread_mutex_unlock(&other_mutex));
    must(waitpid(pid, &status, 0) == pid);
    must(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    must_be_0(pthread_cond_signal(&cond));
    return unused;
}

/* The numbers that the system gives the eventfds of the process. */
static int eventfds(long ids[64])
{
    int n = 0;
    for (int fd = 0; fd < 64; fd++) {
        char text[512], name[64];
        snprintf(name, sizeof name, "/proc/self/fdinfo/%d", fd);
        FILE *file = fopen(name, "r");
        if (file == NULL)
            continue;
        while (fgets(text, sizeof text, file) != NULL)
            n += sscanf(text, "eventfd-id: %ld", &ids[n]) == 1;
        fclose(file);
    }
    return n;
}

static void be_signalled(void)
{
    pthread_t thread;
    stage = 0;
    must_be_0(pthread_create(&thread, NULL, signal_when, V(1)));
    must_be_0(pthread_mutex_lock(&mutex));
    stage = 1;
    must_be_0(pthread_cond_wait(&cond, &mutex));
    must_be_0(pthread_mutex_unlock(&mutex));
    must_be_0(pthread_join(thread, NULL));
}

WORLD_LOCK_TEST(fork_leaves_the_child_what_its_two_tasks_hold_and_wait_for)
{
    pthread_mutex_t own;
    pid_t parent = getpid();
    init_mutex(&mutex, PTHREAD_MUTEX_DEFAULT);
    init_mutex(&other_mutex, PTHREAD_MUTEX_DEFAULT);
    init_mutex(&own, PTHREAD_MUTEX_DEFAULT);
    init_cond(CLOCK_REALTIME);
    stage = 0;
    /* Some hold, and some wait; none of them is in the child. */
    green_task_t *holder = spawn(never_unlock, NULL), *waiter = spawn(wait_in_cond, V(1));
    green_task_t *taker = spawn(take_unit, V(2));
    must_be_0(sem_init(&semaphore, 0, 0));
    turn();
    must_be_0(pthread_mutex_lock(&own));
    green_task_t *forker = spawn(fork_in_task, NULL);
    long of_parent[64], of_child[64];
    int n = eventfds(of_parent);
    must_be_0(pthread_cond_wait(&cond, &own));
    if (getpid() != parent) {
        for (int i = eventfds(of_child); i-- > 0;)
            for (int j = 0; j < n; j++)
                must(of_child[i] != of_parent[j]);
        must_be_0(pthread_mutex_unlock(&own));
        must_be_0(pthread_mutex_lock(&mutex));
        must_be_0(pthread_mutex_unlock(&mutex));
        if (times(1, under_valgrind())) /* qemu-user fails to make a thread here */
            be_signalled();
        _exit(7);
    }
    must_be_0(pthread_mutex_unlock(&own));
    finish(forker);
    must_be_0(green_task_cancel(holder));
    finish(holder);
    must_be_0(sem_post(&semaphore));
    finish(taker);
    must_be_0(pthread_mutex_unlock(&mutex)); /* which the holder has left */
    while (green_task_green(waiter) != NULL) {
        must_be_0(pthread_cond_signal(&cond));
        nap(1);
    }
    finish(waiter);
    must_be_0(sem_destroy(&semaphore));
    must_be_0(pthread_cond_destroy(&cond));
    must_be_0(pthread_mutex_destroy(&own));
    must_be_0(pthread_mutex_destroy(&other_mutex));
    must_be_0(pthread_mutex_destroy(&mutex));
}

static void *end_with_tasks(void *unused)
{
    must_be_0(green_patch(GREEN_PATCH_LOCKS));
    (void)green_task_detach(spawn(wait_and_say, NULL));
    (void)green_task_detach(spawn(take_units, V(1)));
    (void)green_task_detach(spawn(leave_locked, NULL));
    must_be_0(green_sleep(0));
    must_be_0(green_sleep(0));
    return unused; /* without green_hub_end() */
}

WORLD_LOCK_TEST(a_thread_that_ends_leaves_nobody_who_waits)
{
    for (int i = 0; i < 3; i++) {
        init_mutex(&mutex, PTHREAD_MUTEX_DEFAULT);
        init_cond(CLOCK_REALTIME);
        must_be_0(sem_init(&semaphore, 0, 0));
        stage = 0;
        in_thread(end_with_tasks, NULL);
        assert_int_equal(stage, 2);
        must_be_0(pthread_cond_broadcast(&cond));
        must_be_0(sem_post(&semaphore));
        must_be_0(sem_trywait(&semaphore));
        init_mutex(&mutex, PTHREAD_MUTEX_DEFAULT);
        must_be_0(pthread_mutex_lock(&mutex));
        must_be_0(pthread_mutex_unlock(&mutex));
        must_be_0(sem_destroy(&semaphore));
    }
}

static void lock_at_thread_end(void *unused)
{
    (void)unused;
    must_be_0(pthread_mutex_lock(&mutex));
    must_be_0(pthread_mutex_unlock(&mutex));
    stage++;
}

static pthread_key_t early_key, late_key;

static void *have_destructors(void *unused)
{
    must_be_0(pthread_setspecific(early_key, &early_key));
    must_be_0(green_patch(GREEN_PATCH_LOCKS));
    finish(spawn(lock_and_note, NULL));
    must_be_0(pthread_setspecific(late_key, &late_key));
    return unused;
}

WORLD_LOCK_TEST(destructors_of_threads_may_lock)
{
    init_mutex(&mutex, PTHREAD_MUTEX_RECURSIVE);
    stage = 0;
    must_be_0(pthread_key_create(&early_key, lock_at_thread_end));
    must_be_0(pthread_key_create(&late_key, lock_at_thread_end));
    in_thread(have_destructors, NULL);
    assert_int_equal(stage, 2);
    must_be_0(pthread_key_delete(early_key));
    must_be_0(pthread_key_delete(late_key));
    must_be_0(pthread_mutex_destroy(&mutex));
    assert_noted("got");
}

LOCK_TEST(errno_is_left_as_it_is)
{
    init_mutex(&mutex, PTHREAD_MUTEX_DEFAULT);
    init_cond(CLOCK_REALTIME);
    green_task_t *task = spawn(hold_mutex, V(10));
    turn();
    errno = 77;
    must_be_0(pthread_mutex_lock(&mutex));
    assert_int_equal(errno, 77);
    struct timespec time = in_ms(CLOCK_REALTIME, 5);
    assert_int_equal(pthread_cond_timedwait(&cond, &mutex, &time), ETIMEDOUT);
    assert_int_equal(errno, 77);
    must_be_0(pthread_mutex_unlock(&mutex));
    assert_int_equal(errno, 77);
    finish(task);
    must_be_0(pthread_cond_destroy(&cond));
    must_be_0(pthread_mutex_destroy(&mutex));
}

/* Where tasks cannot wait, as in handlers of fork(), a mutex is locked as by the system. */
LOCK_TEST(so_it_is_by_fork)
{
    init_mutex(&mutex, PTHREAD_MUTEX_DEFAULT);
    must_be_0(pthread_mutex_lock(&mutex)); /* so that this thread has one that is waited for */
    must_be_0(pthread_mutex_unlock(&mutex));
    errno = 77;
    pid_t pid = fork();
    if (pid == 0)
        _exit(errno == 77 ? 0 : 1);
    assert_int_equal(errno, 77);
    must_be_0(pthread_mutex_destroy(&mutex));
    int status;
    must(waitpid(pid, &status, 0) == pid);
    assert_int_equal(status, 0);
}

LOCK_TEST(thrd_sleep_is_a_sleep)
{
    const struct timespec time = { 5, 0 };
    struct timespec left = { 0, 0 };
    must(green_patch(GREEN_PATCH_WAIT) == GREEN_PATCH_LOCKS);
    assert_int_equal(thrd_sleep(&time, &left), 0);
    assert_int_equal(clock_ms(), 5000);
    {
        GREEN_SCOPE(limit, GREEN_SEC(2), 0);
        assert_int_equal(thrd_sleep(&time, &left), -2);
    }
    assert_int_equal(clock_ms(), 7000);
    assert_int_equal(left.tv_sec, 3);
}

TEST(where_it_is_not_asked_for_locks_are_the_systems)
{
    must_be_0(green_patch(GREEN_PATCH_WAIT));
    init_mutex(&mutex, PTHREAD_MUTEX_RECURSIVE);
    green_task_t *task = spawn(leave_locked, NULL);
    finish(task);
    must_be_0(pthread_mutex_lock(&mutex)); /* the thread has it */
    must_be_0(pthread_mutex_unlock(&mutex));
    must_be_0(pthread_mutex_unlock(&mutex));
    must_be_0(pthread_mutex_destroy(&mutex));
    assert_int_equal(green_patch(0), GREEN_PATCH_WAIT);
    must_be_0(green_hub_end(GREEN_FOREVER));
}

/* The thread's eventfd stays for its next wait: it is there before any test counts. */
static void warm_up(void)
{
    struct timespec time = in_ms(CLOCK_REALTIME, 1);
    must_be_0(green_patch(GREEN_PATCH_LOCKS));
    must_be_0(green_sleep(0));
    must_be_0(sem_init(&semaphore, 0, 0));
    must_fail(sem_timedwait(&semaphore, &time), ETIMEDOUT);
    must_be_0(sem_destroy(&semaphore));
    must_be_0(green_hub_end(GREEN_FOREVER));
    must(green_patch(0) >= 0);
}

int main(void)
{
    warm_up();
    return run_all_tests();
}
