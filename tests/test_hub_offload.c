/* SPDX-License-Identifier: MIT */
/* The pool of threads: green_offload(). */
#define _GNU_SOURCE
#include <fcntl.h>
#include <netdb.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#include "filters.h"
#include "hubs.h"

#define THREADS 4 /* of the pool, see main() */

static sem_t gate, begun, dropped;
static pthread_t hub_thread;

static void wait_sem(sem_t *sem)
{
    while (sem_wait(sem) != 0)
        continue;
}

static int begin(void **state)
{
    hub_thread = pthread_self();
    sem_init(&gate, 0, 0);
    sem_init(&begun, 0, 0);
    sem_init(&dropped, 0, 0);
    return hubs_begin_world(state);
}

#define OFFLOAD_TEST(sentence) TEST_WITH(sentence, begin, hubs_end)

/* ---- Calls in threads ------------------------------------------------------------------- */

/* Says that it has begun, and waits for the gate. */
static void *pass_gate(void *value)
{
    sem_post(&begun);
    wait_sem(&gate);
    errno = E1;
    return value;
}

static void *give_thread(void *where)
{
    *(pthread_t *)where = pthread_self();
    return where;
}

OFFLOAD_TEST(a_call_runs_in_another_thread_and_its_value_comes_back)
{
    pthread_t other;
    void *value = NULL;
    assert_int_equal(green_offload(give_thread, &other, &value, NULL), 0);
    assert_ptr_equal(value, &other);
    assert_false(pthread_equal(other, pthread_self()));
    assert_int_equal(green_offload(give_thread, &other, NULL, NULL), 0);
    assert_refused(green_offload(NULL, NULL, NULL, NULL), EINVAL);
}

OFFLOAD_TEST(errno_of_a_failed_call_comes_with_it_and_else_stays)
{
    void *value = NULL;
    assert_int_equal(green_offload(fail_with, V(E2), &value, NULL), 0);
    assert_ptr_equal(value, GREEN_FAILED);
    assert_int_equal(errno, E2);
    errno = E1;
    assert_int_equal(green_offload(fail_with, V(E2), NULL, NULL), 0);
    assert_int_equal(errno, E1);
    sem_post(&gate);
    errno = E2;
    assert_int_equal(green_offload(pass_gate, V(1), &value, NULL), 0);
    assert_ptr_equal(value, V(1));
    assert_int_equal(errno, E2);
}

static void *offload_gate(void *value)
{
    void *result = NULL;
    must_be_0(green_offload(pass_gate, value, &result, NULL));
    must(result == value);
    return value;
}

OFFLOAD_TEST(other_tasks_run_meanwhile)
{
    green_task_t *task = spawn(offload_gate, V(1));
    turn();
    assert_int_equal(hub_stat(offloads), 1);
    nap(1);
    assert_non_null(green_task_green(task));
    sem_post(&gate); /* nobody else does */
    assert_ptr_equal(finish(task), V(1));
    assert_int_equal(hub_stat(offloads), 0);
}

static void *leave_the_thread(void *by_cancel)
{
    if (by_cancel != NULL)
        pthread_cancel(pthread_self());
    pthread_testcancel();
    pthread_exit(by_cancel);
}

OFFLOAD_TEST(a_call_that_leaves_its_thread_has_failed_and_the_next_has_another_thread)
{
    void *value;
    pthread_t other;
    for (int i = 0; i < 4 * THREADS; i++) {
        value = NULL;
        void *by_cancel = i % 2 != 0 ? V(1) : NULL;
        assert_int_equal(green_offload(leave_the_thread, by_cancel, &value, NULL), 0);
        assert_ptr_equal(value, GREEN_FAILED);
        assert_int_equal(errno, ECANCELED);
        assert_int_equal(green_offload(give_thread, &other, &value, NULL), 0);
        assert_ptr_equal(value, &other);
    }
    assert_int_equal(hub_stat(offloads), 0);
}

static void *leave_behind_the_gate(void *value)
{
    pass_gate(value);
    pthread_exit(value);
}

static void *offload_leaving(void *value)
{
    void *result = NULL;
    must_be_0(green_offload(leave_behind_the_gate, value, &result, NULL));
    must(result == GREEN_FAILED);
    return value;
}

OFFLOAD_TEST(when_all_threads_are_left_what_is_queued_is_done)
{
    green_task_t *leaving[THREADS], *next[THREADS];
    for (int i = 0; i < THREADS; i++)
        leaving[i] = spawn(offload_leaving, V(1));
    turn();
    for (int i = 0; i < THREADS; i++)
        next[i] = spawn(offload_gate, V(2));
    turn();
    for (int i = 0; i < 2 * THREADS; i++)
        sem_post(&gate);
    for (int i = 0; i < THREADS; i++) {
        assert_ptr_equal(finish(leaving[i]), V(1));
        assert_ptr_equal(finish(next[i]), V(2));
    }
}

static void drop_it(void *value)
{
    must(value == GREEN_FAILED);
    sem_post(&dropped);
}

static void leave_as_dropped(void *value)
{
    sem_post(&dropped);
    pthread_exit(value);
}

static void *leave_with_drop(void *value)
{
    must_fail(green_offload(leave_behind_the_gate, value, NULL, drop_it), ECANCELED);
    return value;
}

static void *pass_with_drop(void *value)
{
    must_fail(green_offload(pass_gate, value, NULL, leave_as_dropped), ECANCELED);
    return value;
}

OFFLOAD_TEST(what_is_dropped_may_leave_the_thread_and_its_drop_too)
{
    pthread_t other;
    for (int i = 0; i < 4 * THREADS; i++) {
        green_task_t *task = spawn(i % 2 != 0 ? leave_with_drop : pass_with_drop, V(1));
        turn();
        wait_sem(&begun);
        must_be_0(green_task_cancel(task));
        assert_ptr_equal(finish(task), V(1));
        sem_post(&gate);
        wait_sem(&dropped);
    }
    assert_int_equal(green_offload(give_thread, &other, NULL, NULL), 0);
}

static pthread_barrier_t both;

static void *meet(void *value)
{
    pthread_barrier_wait(&both);
    return value;
}

static void *offload_meeting(void *value)
{
    must_be_0(green_offload(meet, value, NULL, NULL));
    return value;
}

OFFLOAD_TEST(two_calls_do_not_share_the_one_thread_that_is_idle)
{
    assert_int_equal(green_offload(give_back, NULL, NULL, NULL), 0); /* at least one is */
    for (int i = 0; i < times(100, 10); i++) {
        pthread_barrier_init(&both, NULL, 2);
        green_task_t *a = spawn(offload_meeting, V(1)), *b = spawn(offload_meeting, V(2));
        assert_ptr_equal(finish(a), V(1));
        assert_ptr_equal(finish(b), V(2));
        pthread_barrier_destroy(&both);
    }
}

static atomic_int running, most;

static void *count_running(void *value)
{
    int now = ++running;
    for (int seen = most; now > seen && !atomic_compare_exchange_weak(&most, &seen, now);)
        continue;
    pass_gate(value);
    running--;
    return value;
}

static void *offload_counted(void *value)
{
    void *result = NULL;
    must_be_0(green_offload(count_running, value, &result, NULL));
    must(result == value);
    return value;
}

OFFLOAD_TEST(no_more_threads_run_than_the_first_hub_has_said)
{
    green_task_t *tasks[3 * THREADS];
    running = most = 0;
    for (int i = 0; i < 3 * THREADS; i++)
        tasks[i] = spawn(offload_counted, V(i + 1));
    turn();
    assert_int_equal(hub_stat(offloads), 3 * THREADS);
    for (int i = 0; i < THREADS; i++)
        wait_sem(&begun);
    for (int i = 0; i < 3 * THREADS; i++)
        sem_post(&gate);
    for (int i = 0; i < 3 * THREADS; i++)
        assert_ptr_equal(finish(tasks[i]), V(i + 1));
    assert_int_equal(most, THREADS);
}

OFFLOAD_TEST(the_hub_sleeps_while_a_call_runs)
{
    green_task_t *task = spawn(offload_gate, V(1));
    turn();
    wait_sem(&begun);
    uint64_t polls = hub_stat(polls);
    nap(20);
    sem_post(&gate);
    assert_ptr_equal(finish(task), V(1));
    assert_true(hub_stat(polls) - polls < 10);
}

TEST_WITH(virtual_time_passes_as_the_worlds_while_a_call_runs, hubs_begin_virtual, hubs_end)
{
    green_task_t *task = spawn(sleep_for, V(INT64_C(3600) * 1000));
    sem_init(&gate, 0, 1);
    sem_init(&begun, 0, 0);
    turn();
    assert_int_equal(green_offload(pass_gate, NULL, NULL, NULL), 0);
    assert_true(clock_ms() < 3600 * 1000);
    assert_null(finish(task));
    assert_true(clock_ms() >= 3600 * 1000);
}

/* ---- What ends the wait ----------------------------------------------------------------- */

static void *offload_cancelled(void *value)
{
    void *result = NULL;
    must_be_0(green_offload(pass_gate, value, &result, NULL));
    must(result == value);
    must_fail(green_sleep(0), ECANCELED);
    must_fail(green_offload(pass_gate, value, &result, NULL), ECANCELED);
    return value;
}

/* After the end of the scope, which must not be over before the call begins. */
static void *open_gate_after_scope(void *unused)
{
    must_be_0(green_sleep(GREEN_MS(250)));
    sem_post(&gate);
    return unused;
}

OFFLOAD_TEST(without_drop_it_is_waited_for_whatever_comes)
{
    green_task_t *task = spawn(offload_cancelled, V(1));
    turn();
    assert_int_equal(green_task_cancel(task), 0);
    nap(1);
    assert_int_equal(hub_stat(offloads), 1);
    sem_post(&gate);
    assert_ptr_equal(finish(task), V(1));
    green_task_t *later = spawn(open_gate_after_scope, NULL);
    GREEN_SCOPE(limit, GREEN_MS(200), 0);
    assert_int_equal(green_offload(pass_gate, NULL, NULL, NULL), 0);
    assert_int_equal(green_scope_end(&limit), 0); /* it has ended nothing */
    finish(later);
}

static void *dropped_value;

static void drop(void *value)
{
    must(!pthread_equal(pthread_self(), hub_thread));
    must_fail(green_sleep(0), EPERM);
    dropped_value = value;
    sem_post(&dropped);
}

OFFLOAD_TEST(with_drop_the_time_of_a_scope_ends_the_wait_and_the_thread_drops)
{
    void *value = V(7);
    dropped_value = NULL;
    GREEN_SCOPE(limit, GREEN_MS(200), 0);
    assert_refused(green_offload(pass_gate, V(1), &value, drop), ETIMEDOUT);
    assert_int_equal(green_scope_end(&limit), 1);
    assert_ptr_equal(value, V(7));
    assert_int_equal(hub_stat(offloads), 0);
    assert_null(dropped_value);
    sem_post(&gate);
    wait_sem(&dropped);
    assert_ptr_equal(dropped_value, V(1));
}

OFFLOAD_TEST(a_call_that_is_waited_for_to_its_end_drops_nothing)
{
    void *value = NULL;
    sem_post(&gate);
    assert_int_equal(green_offload(pass_gate, V(1), &value, drop), 0);
    assert_ptr_equal(value, V(1));
    assert_int_equal(sem_trywait(&dropped), -1);
}

static void *offload_dropped(void *value)
{
    must_fail(green_offload(pass_gate, value, NULL, drop), ECANCELED);
    return value;
}

OFFLOAD_TEST(a_call_that_no_thread_has_begun_runs_and_is_dropped_all_the_same)
{
    green_task_t *tasks[THREADS];
    for (int i = 0; i < THREADS; i++)
        tasks[i] = spawn(offload_gate, V(i));
    green_task_t *late = spawn(offload_dropped, V(9));
    turn();
    for (int i = 0; i < THREADS; i++)
        wait_sem(&begun);
    assert_int_equal(green_task_free(late), 0);
    assert_int_equal(hub_stat(offloads), THREADS);
    for (int i = 0; i < THREADS + 1; i++)
        sem_post(&gate);
    wait_sem(&dropped);
    assert_ptr_equal(dropped_value, V(9));
    for (int i = 0; i < THREADS; i++)
        finish(tasks[i]);
}

OFFLOAD_TEST(an_end_that_comes_after_the_cancel_and_before_the_turn_is_dropped_once)
{
    for (int i = 0; i < times(200, 20); i++) {
        green_task_t *task = spawn(offload_dropped, V(i));
        turn();
        wait_sem(&begun);
        assert_int_equal(green_task_cancel(task), 0);
        sem_post(&gate);
        if (i % 2 == 0) /* by then it has ended, most times */
            nanosleep(&(struct timespec){ 0, 100000 }, NULL);
        assert_ptr_equal(finish(task), V(i));
        wait_sem(&dropped);
        assert_ptr_equal(dropped_value, V(i));
        assert_int_equal(sem_trywait(&dropped), -1);
        assert_int_equal(hub_stat(offloads), 0);
    }
}

/* ---- In the threads of the pool ----------------------------------------------------------- */

static void *look_at_signals(void *unused)
{
    sigset_t blocked;
    pthread_sigmask(SIG_BLOCK, NULL, &blocked);
    for (int signal = 1; signal < 32; signal++)
        must(signal == SIGKILL || signal == SIGSTOP || sigismember(&blocked, signal));
    return unused;
}

OFFLOAD_TEST(their_signals_are_all_blocked)
{
    sigset_t before, after;
    sigemptyset(&before);
    sigemptyset(&after);
    pthread_sigmask(SIG_BLOCK, NULL, &before);
    assert_int_equal(green_offload(look_at_signals, NULL, NULL, NULL), 0);
    pthread_sigmask(SIG_BLOCK, NULL, &after);
    for (int signal = 1; signal < 32; signal++)
        assert_int_equal(sigismember(&before, signal), sigismember(&after, signal));
}

#define must_be_refused(expr) must((errno = 0, (expr)) && errno == EPERM)

static void *try_everything(void *task)
{
    static green_event_t event = GREEN_EVENT_INIT;
    static green_semaphore_t semaphore = GREEN_SEMAPHORE_INIT(1, 0);
    static green_mutex_t mutex = GREEN_MUTEX_INIT;
    static green_cond_t cond = GREEN_COND_INIT;
    char byte = 0;
    int status;
    struct iovec part = { &byte, 1 };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
    struct sockaddr_storage address = { .ss_family = AF_UNIX };
    struct sockaddr *any = (struct sockaddr *)&address;
    socklen_t length = sizeof address;
    struct pollfd one = { 0, POLLIN, 0 };
    green_case_t nothing = GREEN_CASE_EVENT(&event);
    struct addrinfo *list;
    sigset_t none;
    green_scope_t scope;
    sigemptyset(&none);
    must(green_now() > 0);
    must_be_refused(green_hub_init(NULL) == -1);
    must_be_refused(green_sleep(0) == -1);
    must_be_refused(green_task_spawn(give_back, NULL) == NULL);
    must_be_refused(green_task_join(task, NULL, 0) == -1);
    must_be_refused(green_task_cancel(task) == -1);
    must_be_refused(green_task_detach(task) == -1);
    must_be_refused(green_task_free(task) == -1);
    must_be_refused(green_task_check() == -1);
    must_be_refused(green_scope_begin(&scope, 1, 0) == -1);
    must_be_refused(green_group_new(0, 0) == NULL);
    must_be_refused(green_queue_new(1, 1) == NULL);
    must_be_refused(green_event_set(&event) == -1);
    must_be_refused(green_event_clear(&event) == -1);
    must_be_refused(green_event_wait(&event, 1) == -1);
    must_be_refused(green_semaphore_acquire(&semaphore, 1) == -1);
    must_be_refused(green_semaphore_release(&semaphore) == -1);
    must_be_refused(green_mutex_lock(&mutex, 1) == -1);
    must_be_refused(green_mutex_unlock(&mutex) == -1);
    must_be_refused(green_cond_wait(&cond, NULL, 1) == -1);
    must_be_refused(green_cond_signal(&cond, 1) == -1);
    must_be_refused(green_select(&nothing, 1, 0) == -1);
    must_be_refused(green_poll(&one, 1, 0) == -1);
    must_be_refused(green_read(0, &byte, 0) == -1);
    must_be_refused(green_write(0, &byte, 0) == -1);
    must_be_refused(green_pread(0, &byte, 0, 0) == -1);
    must_be_refused(green_pwrite(0, &byte, 0, 0) == -1);
    must_be_refused(green_readv(0, &part, 1) == -1);
    must_be_refused(green_writev(0, &part, 1) == -1);
    must_be_refused(green_recv(0, &byte, 1, 0) == -1);
    must_be_refused(green_send(0, &byte, 1, 0) == -1);
    must_be_refused(green_recvfrom(0, &byte, 1, 0, any, &length) == -1);
    must_be_refused(green_sendto(0, &byte, 1, 0, any, length) == -1);
    must_be_refused(green_recvmsg(0, &message, 0) == -1);
    must_be_refused(green_sendmsg(0, &message, 0) == -1);
    must_be_refused(green_read_all(0, &byte, 1) == -1);
    must_be_refused(green_write_all(0, &byte, 1) == -1);
    must_be_refused(green_accept(0, NULL, NULL, 0) == -1);
    must_be_refused(green_connect(0, any, length) == -1);
    must_be_refused(green_close(0) == -1);
    must_be_refused(green_fdopen(0, "r") == NULL);
    must_be_refused(green_getaddrinfo("::1", NULL, NULL, &list) == EAI_SYSTEM);
    must_be_refused(green_tcp_connect("::1", "1") == -1);
    must_be_refused(green_tcp_listen("::1", "1", 0) == -1);
    must_be_refused(green_offload(give_back, NULL, NULL, NULL) == -1);
    must_be_refused(green_waitpid(1, &status, WNOHANG) == -1);
    must_be_refused(green_sigwait(&none, 0) == -1);
    must_be_refused(green_hub_wait(0) == -1);
    must_be_refused(green_hub_end(0) == -1);
    must_be_refused(green_hub_open() == NULL);
    must_be_refused(green_hub_fd() == -1);
    must_be_refused(green_hub_run(0) == -1);
    return task;
}

OFFLOAD_TEST(what_waits_or_touches_a_hub_is_refused_in_them)
{
    assert_int_equal(green_offload(try_everything, green_task_current(), NULL, NULL), 0);
    assert_true(fcntl(0, F_GETFD) >= 0); /* green_close() was refused, too */
}

static void *use_greens(void *value)
{
    green_t *generator = green_new(echo, NULL);
    must(generator != NULL);
    must(green_switch(generator, value) == value);
    must_be_0(green_free(generator));
    must_be_0(green_thread_end());
    return value;
}

TEST(a_call_may_use_greens) /* of its thread the library knows until that ends */
{
    void *value = NULL;
    assert_int_equal(green_offload(use_greens, V(3), &value, NULL), 0);
    assert_ptr_equal(value, V(3));
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
}

static void *set_event(void *event)
{
    must_be_0(green_event_set(event));
    return event;
}

static green_event_t posted;

static void *spawn_from_thread(void *hub)
{
    must_be_0(green_hub_spawn(hub, set_event, &posted));
    must_be_0(green_hub_close(hub));
    return hub;
}

OFFLOAD_TEST(a_call_may_have_the_hub_run_a_task)
{
    green_hub_t *hub = green_hub_open();
    posted = (green_event_t)GREEN_EVENT_INIT;
    assert_int_equal(green_offload(spawn_from_thread, hub, NULL, NULL), 0);
    assert_int_equal(green_event_wait(&posted, GREEN_FOREVER), 0);
}

/* ---- Threads and processes that end -------------------------------------------------------- */

static void *write_to_stack(void *where)
{
    pass_gate(NULL);
    *(int *)where += 1; /* the stack of a task of a thread that ends */
    return where;
}

static void *offload_stack(void *unused)
{
    int number = 0;
    (void)green_offload(write_to_stack, &number, NULL, NULL);
    must(number == 1); /* does not come here before */
    return unused;
}

static atomic_int thread_has_ended;

static void *end_with_tasks(void *unused)
{
    green_task_t *task = spawn(offload_stack, NULL);
    turn();
    wait_sem(&begun);
    must_be_0(green_task_detach(task));
    return unused;
}

static void *exit_thread(void *unused)
{
    wait_sem(&begun);
    pthread_exit(unused);
}

static void *end_by_a_task(void *unused)
{
    (void)unused;
    must_be_0(green_task_detach(spawn(exit_thread, NULL)));
    offload_stack(NULL); /* of main */
    must(!"main goes on");
    return NULL;
}

static void *tell_end(void *fn)
{
    void *(*run)(void *) = *(void *(**)(void *))fn;
    (void)run(NULL);
    return NULL;
}

static void *open_gate_later(void *thread)
{
    nanosleep(&(struct timespec){ 0, 20000000 }, NULL);
    must(!thread_has_ended);
    sem_post(&gate);
    return thread;
}

OFFLOAD_TEST(the_end_of_a_thread_waits_for_calls_that_have_memory_of_its_tasks)
{
    void *(*ways[])(void *) = { end_with_tasks, end_by_a_task };
    for (int i = 0; i < (FEW_FIBERS ? 1 : 2); i++) { /* ThreadSanitizer knows no pthread_exit() in one */
        pthread_t thread, opener;
        thread_has_ended = 0;
        must_be_0(pthread_create(&thread, NULL, tell_end, &ways[i]));
        must_be_0(pthread_create(&opener, NULL, open_gate_later, NULL));
        must_be_0(pthread_join(thread, NULL));
        thread_has_ended = 1;
        must_be_0(pthread_join(opener, NULL));
        assert_int_equal(sem_trywait(&gate), -1);
    }
}

static void *end_with_dropped(void *unused)
{
    green_task_t *task = spawn(offload_dropped, V(5));
    turn();
    wait_sem(&begun);
    must_be_0(green_task_detach(task));
    return unused;
}

OFFLOAD_TEST(the_end_of_a_thread_does_not_wait_for_calls_with_drop)
{
    in_thread(end_with_dropped, NULL);
    assert_int_equal(sem_trywait(&dropped), -1);
    sem_post(&gate);
    wait_sem(&dropped);
    assert_ptr_equal(dropped_value, V(5));
}

static void *offload_some(void *first)
{
    for (intptr_t i = (intptr_t)first; i < (intptr_t)first + times(200, 20); i++) {
        void *value = NULL;
        must_be_0(green_offload(give_back, V(i), &value, NULL));
        must(value == V(i));
    }
    must_be_0(green_hub_end(GREEN_FOREVER));
    return first;
}

OFFLOAD_TEST(each_hub_gets_what_its_own_calls_give)
{
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        must_be_0(pthread_create(&threads[i], NULL, offload_some, V(1000 * i)));
    for (int i = 0; i < 3; i++)
        must_be_0(pthread_join(threads[i], NULL));
}

static int exit_in_the_middle(void *unused)
{
    (void)unused;
    spawn(offload_gate, NULL);
    turn();
    wait_sem(&begun);
    exit(3);
}

OFFLOAD_TEST(exit_does_not_wait_for_a_call)
{
    if (under_valgrind())
        skip_because("Valgrind takes what exit() leaves for lost");
    has_tasks_in_child();
    has_threads_in_child();
    struct child child = run_child(exit_in_the_middle, NULL);
    assert_int_equal(child.status, 3 << 8);
}

static int offload_without_threads(void *unused)
{
    struct addrinfo *list = unused;
    if (filter_threads() != 0)
        leave_child(NO_FILTERS);
    must_fail(green_offload(give_back, NULL, NULL, NULL), EAGAIN);
    must_fail(green_offload(give_back, NULL, NULL, drop), EAGAIN);
    must(green_getaddrinfo("no.such.name.invalid", NULL, NULL, &list) == EAI_SYSTEM);
    must(errno == EAGAIN);
    must(green_getaddrinfo("127.0.0.1", NULL, NULL, &list) == 0);
    freeaddrinfo(list);
    must(hub_stat(offloads) == 0);
    must_fail(green_sleep(GREEN_FOREVER), EDEADLK); /* nothing can come */
    leave_child(0);
}

static int offload_with_one_thread(void *unused)
{
    (void)unused;
    must_be_0(green_offload(give_back, NULL, NULL, NULL));
    if (filter_threads() != 0)
        leave_child(NO_FILTERS);
    green_task_t *a = spawn(offload_gate, V(1)), *b = spawn(offload_gate, V(2));
    turn();
    sem_post(&gate);
    sem_post(&gate);
    must(finish(a) == V(1) && finish(b) == V(2));
    leave_child(0);
}

OFFLOAD_TEST(without_any_thread_it_is_EAGAIN_with_one_the_calls_wait)
{
    has_tasks_in_child();
    has_threads_in_child();
    assert_child_held(run_child(offload_without_threads, NULL));
    assert_child_held(run_child(offload_with_one_thread, NULL));
}

struct looked_at {
    green_task_t *task;
    green_group_t *group;
    green_queue_t *queue;
};

static void *only_look(void *arg)
{
    const struct looked_at *all = arg;
    green_hub_stats_t stats;
    must_fail(green_hub_stats(&stats, sizeof stats), EPERM);
    must_fail(green_hub_dump(1), EPERM);
    must((errno = 0, green_task_current()) == NULL && errno == EPERM);
    must((errno = 0, green_task_green(all->task)) == NULL && errno == EPERM);
    must((errno = 0, green_group_size(all->group)) == 0 && errno == EPERM);
    must((errno = 0, green_queue_size(all->queue)) == 0 && errno == EPERM);
    return NULL;
}

WORLD_TEST(what_only_looks_is_refused_in_a_thread_of_the_pool_too)
{
    struct looked_at all = {spawn(give_back, NULL), green_group_new(0, 0),
                            green_queue_new(1, 1)};
    char item = 1;
    assert_int_equal(green_queue_put(all.queue, &item, GREEN_NOWAIT), 0);
    assert_int_equal(green_group_spawn(all.group, give_back, NULL), 0);
    assert_int_equal(green_offload(only_look, &all, NULL, NULL), 0);
    assert_int_equal(green_group_free(all.group), 0);
    assert_int_equal(green_queue_free(all.queue), 0);
    finish(all.task);
}

int main(void)
{
    if (under_helgrind()) {
        puts("skipped: to Helgrind what atomic operations order is a race; ThreadSanitizer runs it");
        return 77;
    }
    const green_hub_options_t options = { .threads = THREADS };
    if (green_hub_init(&options) != 0 || green_hub_end(GREEN_FOREVER) != 0)
        return 1;
    return run_all_tests();
}
