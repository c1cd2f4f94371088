/* SPDX-License-Identifier: MIT */
/*
 * Where nobody is a task that could wait, calls are passed on: in other threads, in trace
 * hooks, in signal handlers, in threads without a hub.
 */
#include "patched.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

static int ends[2], other[2];

static int begin(void **state)
{
    return patched_begin(state) == 0 && pipe(ends) == 0 && pipe(other) == 0 ? 0 : -1;
}

static int end(void **state)
{
    must_be_0(close(ends[0]) | close(ends[1]) | close(other[0]) | close(other[1]));
    return patched_end(state);
}

#define ELSEWHERE_TEST(sentence) TEST_WITH(sentence, begin, end)

static int64_t world_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- Threads --------------------------------------------------------------------------------- */

static void *calls_in_a_thread(void *how)
{
    green_hub_stats_t stats;
    struct pollfd one = {.fd = ends[0], .events = POLLIN};
    int64_t begin = world_ms();
    char byte;
    must(green_patch(how != NULL ? PATCHED : 0) == 0);
    must_be_0(usleep(20000));
    must_be_0(poll(&one, 1, 20));
    must(world_ms() - begin >= 38);
    must(write(ends[1], "x", 1) == 1);
    must(poll(&one, 1, -1) == 1);
    must(read(ends[0], &byte, 1) == 1);
    must_be_0(green_hub_stats(&stats, sizeof stats));
    must(stats.turns == 0 && stats.tasks == 0); /* there is no hub */
    return NULL;
}

ELSEWHERE_TEST(a_thread_that_has_not_asked_or_has_no_hub_blocks)
{
    in_thread(calls_in_a_thread, V(0));
    in_thread(calls_in_a_thread, V(1));
    assert_int_equal(clock_ms(), 0);
}

static void *unpatched_hub(void *unused)
{
    const green_hub_options_t options = {.flags = GREEN_HUB_VIRTUAL_TIME};
    int64_t begin = world_ms();
    (void)unused;
    must_be_0(green_hub_init(&options));
    must_be_0(usleep(20000)); /* the world's */
    must(world_ms() - begin >= 19);
    must_be_0(green_patch(GREEN_PATCH_WAIT));
    begin = world_ms();
    int64_t now = green_now();
    must_be_0(sleep(3600)); /* the hub's */
    must(green_now() - now == GREEN_SEC(3600) && world_ms() - begin < 1000000);
    must_be_0(green_hub_end(GREEN_FOREVER));
    must_be_0(green_thread_end());
    return NULL;
}

ELSEWHERE_TEST(each_thread_asks_for_itself)
{
    in_thread(unpatched_hub, NULL);
    assert_int_equal(clock_ms(), 0);
    assert_int_equal(sleep(1), 0);
    assert_int_equal(clock_ms(), 1000);
}

static void *waits_in_pool(void *unused)
{
    char byte;
    (void)unused;
    must_be_0(usleep(1000));
    must(read(ends[0], &byte, 1) == 1);
    return NULL;
}

static void *writes_later(void *unused)
{
    (void)unused;
    must_be_0(usleep(20000));
    must(write(ends[1], "x", 1) == 1);
    return NULL;
}

ELSEWHERE_TEST(threads_of_the_pool_block)
{
    green_task_t *task = spawn(writes_later, NULL);
    must_be_0(green_offload(waits_in_pool, NULL, NULL, NULL));
    finish(task);
}

static int port;

static void *accepts_many(void *n)
{
    for (intptr_t i = 0; i < (intptr_t)n; i++) {
        int connection = accept(port, NULL, NULL);
        must(connection >= 0);
        must_be_0(close(connection));
    }
    return NULL;
}

static void *accepts_in_a_thread(void *n)
{
    must(green_patch(PATCHED) == 0);
    green_task_t *second = spawn(accepts_many, n);
    finish(spawn(accepts_many, n));
    finish(second);
    return n;
}

/* None takes the other's O_NONBLOCK, of one moment, for the program's. */
ELSEWHERE_TEST(four_threads_accept_from_one_listener)
{
    enum { THREADS = 4, EACH = 400 };
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof at;
    const struct linger none = {1, 0};
    pthread_t threads[THREADS];
    must((port = socket(AF_INET, SOCK_STREAM, 0)) >= 0);
    must_be_0(bind(port, (struct sockaddr *)&at, length));
    must_be_0(getsockname(port, (struct sockaddr *)&at, &length));
    must_be_0(listen(port, THREADS * 2 * EACH)); /* none is sent away to come again */
    must(green_patch(0) == PATCHED);
    for (int i = 0; i < THREADS; i++)
        must_be_0(pthread_create(&threads[i], NULL, accepts_in_a_thread, V(EACH)));
    for (int i = 0; i < THREADS * 2 * EACH; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        must_be_0(connect(fd, (struct sockaddr *)&at, length));
        must_be_0(setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none));
        must_be_0(close(fd));
    }
    for (int i = 0; i < THREADS; i++)
        must_be_0(pthread_join(threads[i], NULL));
    must_be_0(green_patch(PATCHED));
    assert_int_equal(fcntl(port, F_GETFL) & O_NONBLOCK, 0);
    must_be_0(close(port));
}

static pid_t ran_in;
static char was_read;

static void *notes_process(void *unused)
{
    ran_in = getpid();
    return unused;
}

static void *reads_one(void *unused)
{
    must(read(ends[0], &was_read, 1) == 1);
    return unused;
}

/* It has the memory of its parent, and descriptors of its own. */
ELSEWHERE_TEST(the_child_of_vfork_is_no_task)
{
    int status;
    if (UNDER_TSAN || under_helgrind())
        skip_because("the tool makes it fork(), or does not know it");
    ran_in = 0;
    was_read = 0;
    green_task_t *reader = spawn(reads_one, NULL);
    nap(1);
    green_task_t *ready = spawn(notes_process, NULL);
    pid_t pid = vfork();
    if (pid == 0) {
        _exit(close(ends[0]) != 0 || usleep(1000) != 0);
    }
    assert_int_equal(ran_in, 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    finish(ready);
    assert_int_equal(ran_in, getpid());
    nap(1);
    assert_int_equal(was_read, 0);
    must(write(ends[1], "x", 1) == 1);
    finish(reader);
    assert_int_equal(was_read, 'x');
}

/* What is asked for is asked of each kind for itself. */
ELSEWHERE_TEST(only_what_was_asked_for_is_patched)
{
    char byte;
    int64_t begin = world_ms();
    must(write(ends[1], "x", 1) == 1);
    assert_int_equal(green_patch(GREEN_PATCH_IO), PATCHED);
    assert_int_equal(usleep(20000), 0);
    assert_true(world_ms() - begin >= 19);
    assert_int_equal(clock_ms(), 0);
    assert_int_equal(green_patch(GREEN_PATCH_WAIT), GREEN_PATCH_IO);
    green_task_t *task = spawn(note_number, V(1));
    assert_int_equal(read(ends[0], &byte, 1), 1);
    assert_noted("");
    assert_int_equal(usleep(20000), 0);
    assert_noted("1");
    finish(task);
    assert_int_equal(green_patch(PATCHED), GREEN_PATCH_WAIT);
}

/* ---- Hooks ----------------------------------------------------------------------------------- */

static int hooked;

static void writes_and_reads(green_trace_event_t event, green_t *from, green_t *to, void *data)
{
    char byte;
    struct pollfd one = {.fd = ends[0], .events = POLLIN};
    (void)event;
    (void)from;
    (void)to;
    (void)data;
    must(write(ends[1], "x", 1) == 1);
    must(poll(&one, 1, -1) == 1);
    must(read(ends[0], &byte, 1) == 1);
    must_be_0(usleep(1));
    hooked++;
}

ELSEWHERE_TEST(trace_hooks_block)
{
    hooked = 0;
    green_set_trace(writes_and_reads, NULL);
    green_task_t *task = spawn(note_number, V(1));
    must_be_0(poll(NULL, 0, 1000));
    finish(task);
    green_set_trace(NULL, NULL);
    assert_true(hooked >= 2);
    noted()[0] = '\0';
}

/* ---- Signal handlers ------------------------------------------------------------------------- */

static volatile sig_atomic_t handled;

/* What POSIX lets a handler do. */
static void handles(int number)
{
    int error = errno;
    char byte = 0;
    struct pollfd one = {.fd = other[0], .events = POLLIN};
    (void)number;
    must(write(other[1], "y", 1) == 1);
    must(poll(&one, 1, -1) == 1);
    must(read(other[0], &byte, 1) == 1 && byte == 'y');
    handled++;
    errno = error;
}

/* What most of them do. */
static void writes_to_pipe(int number)
{
    int error = errno;
    (void)number;
    must(write(other[1], "y", 1) == 1 || errno == EAGAIN);
    handled++;
    errno = error;
}

static timer_t interrupt_every(int us, void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    const struct itimerspec often = {{0, us * 1000}, {0, us * 1000}};
    timer_t timer;
    must_be_0(sigaction(SIGUSR1, &action, NULL));
    must_be_0(timer_create(CLOCK_MONOTONIC, &event, &timer));
    must_be_0(timer_settime(timer, 0, &often, NULL));
    return timer;
}

static void *passes_bytes(void *fds)
{
    int *fd = fds;
    char byte;
    while (read(fd[0], &byte, 1) == 1 && write(fd[1], &byte, 1) == 1)
        continue;
    return NULL;
}

/*
 * Tasks that wait in patched calls alone: a handler that interrupts one of libgreen's own
 * calls, made by the program, must not do this.
 */
ELSEWHERE_TEST(handlers_that_interrupt_patched_calls_harm_nothing)
{
    int there[2], back[2], round = 0;
    must_be_0(pipe(there) | pipe(back));
    int fds[2] = {there[0], back[1]};
    green_task_t *task = spawn(passes_bytes, fds);
    handled = 0;
    timer_t timer = interrupt_every(times(50, 1000), handles);
    for (; handled < times(5000, 50); round++) {
        char byte = (char)round, answer = (char)(round + 1);
        must(write(there[1], &byte, 1) == 1);
        if (round % 3 == 0)
            must_be_0(usleep(1));
        must(read(back[0], &answer, 1) == 1 && answer == byte);
    }
    must_be_0(timer_delete(timer));
    signal(SIGUSR1, SIG_DFL);
    must_be_0(close(there[1]));
    finish(task);
    must_be_0(close(there[0]) | close(back[0]) | close(back[1]));
}

static void *counts_items(void *queue)
{
    int n = 0, item;
    while (green_queue_get(queue, &item, GREEN_FOREVER) == 0)
        must(item == n++);
    return V(n);
}

ELSEWHERE_TEST(handlers_that_write_to_a_nonblocking_pipe_harm_nothing)
{
    green_queue_t *queue = green_queue_new(sizeof(int), 3);
    int round = 0;
    must_be_0(fcntl(other[1], F_SETFL, O_NONBLOCK));
    green_task_t *counter = spawn(counts_items, queue);
    handled = 0;
    timer_t timer = interrupt_every(times(50, 1000), writes_to_pipe);
    for (; handled < times(5000, 50); round++)
        must_be_0(green_queue_put(queue, &round, GREEN_FOREVER));
    must_be_0(timer_delete(timer));
    signal(SIGUSR1, SIG_DFL);
    must_be_0(green_queue_close(queue));
    assert_int_equal((intptr_t)finish(counter), round);
    must_be_0(green_queue_free(queue));
}

int main(void)
{
    return run_all_tests();
}
