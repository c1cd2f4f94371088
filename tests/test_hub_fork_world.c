/* SPDX-License-Identifier: MIT */
/* fork(): what goes on in the child (rule 20). */
#define _GNU_SOURCE
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "filters.h"
#include "hubs.h"

/* Forks; in the child runs fn(arg) and ends with 0, in the parent waits for that. */
static void in_fork(void (*fn)(void *), void *arg)
{
    int status = -1;
    pid_t pid = fork();
    must(pid >= 0);
    if (pid == 0) {
        alarm(30);
        fn(arg);
        leave_child(0);
    }
    must(green_waitpid(pid, &status, 0) == pid);
    if (status != 0)
        fprintf(stderr, "the child's status is %x\n", (unsigned)status);
    must(status == 0);
}

/* ---- Who goes on ----------------------------------------------------------------------------- */

static int ran;

static void *count_run(void *by)
{
    ran += (int)(intptr_t)by;
    return by;
}

static void run_others(void *task)
{
    void *value = NULL;
    turn();
    must(ran == 0);
    must_be_0(green_hub_wait(GREEN_FOREVER));
    must_be_0(green_task_join(task, &value, GREEN_FOREVER));
    must(value == GREEN_FAILED && errno == ECANCELED);
    must_be_0(green_task_free(task)); /* it is owed, still */
    must_be_0(green_hub_end(GREEN_FOREVER));
    must(ran == 0);
}

WORLD_TEST(what_was_spawned_runs_in_the_parent_only)
{
    ran = 0;
    green_task_t *task = spawn(count_run, V(1));
    in_fork(run_others, task);
    finish(task);
    assert_int_equal(ran, 1);
}

static void *write_pid(void *fd)
{
    pid_t pid = getpid();
    while (green_write((int)(intptr_t)fd, &pid, sizeof pid) == sizeof pid)
        if (green_sleep(GREEN_US(100)) != 0)
            break;
    return fd;
}

static void give_turns(void *unused)
{
    for (int i = 0; i < 5; i++)
        nap(1);
    (void)unused;
}

WORLD_TEST(tasks_that_work_do_so_in_the_parent_only)
{
    int fd = memfd_create("pids", MFD_CLOEXEC);
    pid_t pid;
    green_task_t *tasks[4];
    for (int i = 0; i < 4; i++)
        tasks[i] = spawn(write_pid, V(fd));
    nap(1);
    for (int i = 0; i < times(10, 2); i++)
        in_fork(give_turns, NULL);
    for (int i = 0; i < 4; i++)
        assert_int_equal(green_task_free(tasks[i]), 0);
    assert_true(lseek(fd, 0, SEEK_SET) == 0);
    while (read(fd, &pid, sizeof pid) == sizeof pid)
        assert_int_equal(pid, getpid());
    close(fd);
}

static void *fork_and_return(void *pid)
{
    *(pid_t *)pid = fork();
    return V(*(pid_t *)pid == 0 ? 3 : 4);
}

WORLD_TEST(main_goes_on_in_the_child_when_the_task_that_forked_returns)
{
    pid_t pid = -1;
    int status = -1;
    green_task_t *task = spawn(fork_and_return, &pid);
    void *value = finish(task);
    if (pid == 0) {
        must(value == V(3));
        nap(1);
        must_be_0(green_hub_end(GREEN_FOREVER));
        leave_child(0);
    }
    assert_ptr_equal(value, V(4));
    assert_int_equal(green_waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void *fork_twice_asleep(void *pid)
{
    nap(1);
    return fork_and_return(pid);
}

WORLD_TEST(the_sleep_of_main_goes_on_in_the_child)
{
    pid_t pid = -1;
    int status = -1;
    green_task_t *task = spawn(fork_twice_asleep, &pid);
    turn(); /* its sleep is over first, however long the machine takes */
    int64_t before = green_now();
    nap(5);
    must(green_now() - before >= GREEN_MS(5));
    if (pid == 0)
        leave_child(0);
    finish(task);
    assert_int_equal(green_waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void *fork_in_generator(void *unused)
{
    pid_t pid = fork();
    must(pid >= 0);
    if (pid == 0)
        nap(1);
    (void)unused;
    return V(pid);
}

static void *run_generator(void *unused)
{
    int status = -1;
    green_t *generator = green_new(fork_in_generator, NULL);
    pid_t pid = (pid_t)(intptr_t)green_switch(generator, NULL);
    must_be_0(green_free(generator));
    if (pid == 0)
        leave_child(0);
    must(green_waitpid(pid, &status, 0) == pid && status == 0);
    return unused;
}

WORLD_TEST(a_generator_of_the_task_that_forked_goes_on_too)
{
    assert_null(finish(spawn(run_generator, NULL)));
}

/* ---- What can come to the child -------------------------------------------------------------- */

static void wait_for_nobody(void *event)
{
    must_fail(green_event_wait(event, GREEN_FOREVER), EDEADLK);
}

static void *set_it_later(void *event)
{
    nap(5);
    must_be_0(green_event_set(event));
    return event;
}

static void *wait_for_child(void *pid)
{
    return V(green_waitpid((pid_t)(intptr_t)pid, NULL, 0));
}

WORLD_TEST(nobody_is_left_in_the_child_to_set_an_event)
{
    green_event_t event = GREEN_EVENT_INIT;
    green_task_t *task = spawn(set_it_later, &event);
    turn();
    in_fork(wait_for_nobody, &event);
    assert_int_equal(green_event_wait(&event, GREEN_FOREVER), 0);
    finish(task);
}

static void *wait_for_sem(void *sem)
{
    while (sem_wait(sem) != 0)
        continue;
    return sem;
}

static void *offload_sem(void *sem)
{
    void *value = NULL;
    int result = green_offload(wait_for_sem, sem, &value, NULL);
    return V(result == 0 && value == sem ? 0 : errno);
}

static void *wait_for_pipe(void *fd)
{
    char byte;
    return V(green_read((int)(intptr_t)fd, &byte, 1));
}

WORLD_TEST(what_other_tasks_wait_for_does_not_come_to_the_child)
{
    sem_t sem;
    int ends[2];
    green_event_t event = GREEN_EVENT_INIT;
    sem_init(&sem, 0, 0);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        alarm(30);
        pause();
        leave_child(0);
    }
    green_task_t *offloads = spawn(offload_sem, &sem), *waits = spawn(wait_for_child, V(pid));
    green_task_t *reads = spawn(wait_for_pipe, V(ends[0]));
    turn();
    in_fork(wait_for_nobody, &event);
    assert_int_equal(kill(pid, SIGKILL), 0);
    sem_post(&sem);
    assert_int_equal(write(ends[1], "x", 1), 1);
    assert_null(finish(offloads));
    assert_ptr_equal(finish(waits), V(pid));
    assert_ptr_equal(finish(reads), V(1));
    close(ends[0]);
    close(ends[1]);
}

static pid_t forked;

static void drop_nothing(void *value)
{
    must(value != NULL);
}

static void *fork_while_main_waits(void *sem)
{
    nap(1);
    forked = fork();
    if (forked != 0)
        sem_post(sem);
    return sem;
}

static void wait_for_thread(bool with_drop)
{
    sem_t sem;
    void *value = NULL;
    int status = -1;
    sem_init(&sem, 0, 0);
    green_task_t *task = spawn(fork_while_main_waits, &sem);
    int result = green_offload(wait_for_sem, &sem, &value, with_drop ? drop_nothing : NULL);
    int error = errno;
    if (forked == 0) {
        must(result == -1 && error == ECANCELED);
        must(hub_stat(offloads) == 0);
        must_be_0(green_offload(give_back, V(1), &value, NULL)); /* the child has a pool */
        must(value == V(1));
        leave_child(0);
    }
    assert_int_equal(result, 0);
    assert_ptr_equal(value, &sem);
    assert_int_equal(green_waitpid(forked, &status, 0), forked);
    assert_int_equal(status, 0);
    finish(task);
}

WORLD_TEST(the_wait_of_main_for_a_thread_fails_in_the_child)
{
    has_threads_in_child();
    wait_for_thread(false);
    wait_for_thread(true);
}

/* ---- Descriptors ----------------------------------------------------------------------------- */

struct pair {
    int fd[2];
};

static void use_pair(void *arg)
{
    struct pair *pair = arg, own;
    char bytes[4];
    must_be_0(green_close(pair->fd[0])); /* the parent waits for it */
    must_be_0(green_close(pair->fd[1]));
    must_be_0(socketpair(AF_UNIX, SOCK_STREAM, 0, own.fd));
    green_task_t *task = spawn(wait_for_pipe, V(own.fd[0]));
    turn();
    must(green_write(own.fd[1], "x", 1) == 1);
    must(finish(task) == V(1));
    GREEN_SCOPE(limit, GREEN_MS(1), 0);
    must_fail(green_read(own.fd[0], bytes, 1), ETIMEDOUT);
}

WORLD_TEST(the_descriptors_of_the_parent_are_waited_for_in_the_parent)
{
    struct pair pair;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair.fd), 0);
    green_task_t *task = spawn(wait_for_pipe, V(pair.fd[0]));
    turn();
    in_fork(use_pair, &pair);
    assert_int_equal(write(pair.fd[1], "x", 1), 1);
    assert_ptr_equal(finish(task), V(1));
    green_close(pair.fd[0]);
    green_close(pair.fd[1]);
}

static void *write_a_little_later(void *fd)
{
    turn();
    turn();
    must(green_write((int)(intptr_t)fd, "x", 1) == 1);
    return NULL;
}

static void read_what_a_task_writes(void *arg)
{
    struct pair *parents = arg, own;
    char byte;
    must(pipe(own.fd) == 0); /* as the parent's task reads what is written to the other */
    must(dup2(own.fd[0], parents->fd[0]) == parents->fd[0]);
    green_task_t *task = spawn(write_a_little_later, V(own.fd[1]));
    must(green_read(parents->fd[0], &byte, 1) == 1);
    finish(task);
}

/* The parent's task is to try once more; the number is known in the child as well. */
WORLD_TEST(what_main_reads_in_the_child_is_its_own_to_try)
{
    struct pair pipes;
    assert_int_equal(pipe(pipes.fd), 0);
    green_task_t *task = spawn(wait_for_pipe, V(pipes.fd[0]));
    turn();
    in_fork(read_what_a_task_writes, &pipes);
    assert_int_equal(write(pipes.fd[1], "x", 1), 1);
    assert_ptr_equal(finish(task), V(1));
    green_close(pipes.fd[0]);
    green_close(pipes.fd[1]);
}

static void *fork_and_write(void *pair)
{
    forked = fork();
    if (forked == 0)
        must(write(((struct pair *)pair)->fd[1], "xx", 2) == 2);
    return pair;
}

WORLD_TEST(a_descriptor_that_main_waits_for_comes_in_the_child)
{
    struct pair pair;
    char byte;
    int status = -1;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair.fd), 0);
    green_task_t *task = spawn(fork_and_write, &pair);
    GREEN_SCOPE(limit, GREEN_SEC(20), 0);
    ssize_t n = green_read(pair.fd[0], &byte, 1); /* each takes one */
    if (forked == 0)
        leave_child(n != 1);
    green_scope_end(&limit);
    assert_int_equal(n, 1);
    finish(task);
    assert_int_equal(green_waitpid(forked, &status, 0), forked);
    assert_int_equal(status, 0);
    green_close(pair.fd[0]);
    green_close(pair.fd[1]);
}

/* ---- Descriptors of the hub's own ------------------------------------------------------------ */

/* How many descriptors the process has that are of this kind, by the kernel's name of it. */
static int count_kind(const char *kind)
{
    char path[64], target[256];
    int count = 0;
    for (int fd = 0; fd < 1024; fd++) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(path, target, sizeof target - 1);
        target[n > 0 ? n : 0] = '\0';
        count += strstr(target, kind) != NULL;
    }
    return count;
}

static void *wait_for_signal(void *unused)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    (void)unused;
    return V(green_sigwait(&set, GREEN_FOREVER));
}

static void *connect_to_full(void *service)
{
    int fd = green_tcp_connect("127.0.0.1", service);
    if (fd >= 0)
        must_be_0(green_close(fd));
    return V(fd >= 0);
}

/* A listener whose backlog is full: one that connects to it waits. */
static int listen_full(char *service, int *filler)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must_be_0(bind(listener, (struct sockaddr *)&address, sizeof address));
    must_be_0(listen(listener, 0));
    must_be_0(getsockname(listener, (struct sockaddr *)&address, &length));
    sprintf(service, "%u", ntohs(address.sin_port));
    *filler = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must_be_0(connect(*filler, (struct sockaddr *)&address, sizeof address));
    await_full(listener);
    return listener;
}

static int sockets_before;

static void count_own(void *pid)
{
    must(count_kind("pidfd") == 0);
    must(count_kind("signalfd") == 0);
    must(count_kind("socket:") == sockets_before);
    must_be_0(green_hub_end(GREEN_FOREVER));
    (void)pid;
}

WORLD_TEST(what_the_hub_has_opened_for_others_is_closed_in_the_child)
{
    char service[16];
    int filler;
    sigset_t set, before;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    must_be_0(pthread_sigmask(SIG_BLOCK, &set, &before));
    int listener = listen_full(service, &filler);
    pid_t pid = fork();
    if (pid == 0) {
        alarm(30);
        pause();
        leave_child(0);
    }
    sockets_before = count_kind("socket:");
    green_task_t *child = spawn(wait_for_child, V(pid)), *signal = spawn(wait_for_signal, NULL);
    green_task_t *connects = spawn(connect_to_full, service);
    turn();
    must(count_kind("signalfd") == 1);
    must(count_kind("socket:") == sockets_before + 1);
    in_fork(count_own, V(pid));
    must(count_kind("signalfd") == 1);
    must(count_kind("socket:") == sockets_before + 1);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_ptr_equal(finish(child), V(pid));
    assert_int_equal(kill(getpid(), SIGUSR2), 0);
    assert_ptr_equal(finish(signal), V(SIGUSR2));
    must_be_0(close(accept(listener, NULL, NULL))); /* there is room */
    assert_int_equal(green_task_free(connects), 0);
    close(filler);
    close(listener);
    must_be_0(pthread_sigmask(SIG_SETMASK, &before, NULL));
}

static green_t *holders[3];
static char full_service[16];
static pid_t paused;

static void *hold_child(void *unused)
{
    must_fail(green_waitpid(paused, NULL, 0), ECANCELED);
    return unused;
}

static void *hold_signal(void *unused)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    must_fail(green_sigwait(&set, GREEN_FOREVER), ECANCELED);
    return unused;
}

static void *hold_socket(void *unused)
{
    must_fail(green_tcp_connect("127.0.0.1", full_service), ECANCELED);
    return unused;
}

static void *run_holder(void *number)
{
    static green_fn *const bodies[] = { hold_child, hold_signal, hold_socket };
    green_t **at = &holders[(intptr_t)number];
    *at = green_new(bodies[(intptr_t)number], NULL);
    return green_switch(*at, NULL);
}

/* Greens of tasks that are no more go on: the numbers that they had are others' by now. */
static void run_holders(void *ends_hub)
{
    int files[40];
    for (int i = 0; i < 40; i++)
        must((files[i] = dup(STDERR_FILENO)) >= 0);
    for (int i = 0; i < 3; i++)
        must_be_0(green_set_parent(holders[i], green_current()));
    if (ends_hub != NULL)
        must_be_0(green_hub_end(GREEN_FOREVER));
    for (int i = 0; i < 3; i++) {
        must(green_switch(holders[i], NULL) == NULL);
        must_be_0(green_free(holders[i]));
    }
    for (int i = 0; i < 40; i++)
        must_be_0(close(files[i]));
    green_event_t event = GREEN_EVENT_INIT; /* and nothing can come */
    wait_for_nobody(&event);
}

WORLD_TEST(a_green_that_had_descriptors_of_the_hub_closes_no_others_in_the_child)
{
    int filler;
    sigset_t set, before;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    must_be_0(pthread_sigmask(SIG_BLOCK, &set, &before));
    int listener = listen_full(full_service, &filler);
    paused = fork();
    if (paused == 0) {
        alarm(30);
        pause();
        leave_child(0);
    }
    green_task_t *tasks[3];
    for (int i = 0; i < 3; i++)
        tasks[i] = spawn(run_holder, V(i));
    turn();
    in_fork(run_holders, NULL);
    in_fork(run_holders, V(1));
    for (int i = 0; i < 3; i++) {
        assert_int_equal(green_task_cancel(tasks[i]), 0);
        finish(tasks[i]);
        assert_int_equal(green_free(holders[i]), 0);
    }
    assert_int_equal(kill(paused, SIGKILL), 0);
    assert_int_equal(waitpid(paused, NULL, 0), paused);
    close(filler);
    close(listener);
    must_be_0(pthread_sigmask(SIG_SETMASK, &before, NULL));
}

/* ---- Other threads, and handles -------------------------------------------------------------- */

static void use_handle(void *hub)
{
    ran = 0;
    must_be_0(green_hub_spawn(hub, count_run, V(1))); /* the child's own */
    nap(1);
    must(ran == 1);
    must_be_0(green_hub_close(hub));
}

WORLD_TEST(a_handle_is_the_childs_own)
{
    green_hub_t *hub = green_hub_open();
    ran = 0;
    assert_int_equal(green_hub_spawn(hub, count_run, V(100)), 0); /* the parent's */
    in_fork(use_handle, hub);
    turn();
    nap(1);
    assert_int_equal(ran, 100);
    assert_int_equal(green_hub_close(hub), 0);
}

static green_hub_t *_Atomic other_hub;
static sem_t other_has_hub;

static void *wait_in_other_thread(void *unused)
{
    other_hub = green_hub_open();
    sem_post(&other_has_hub);
    while (green_sleep(GREEN_US(10)) == 0 && other_hub != NULL)
        continue;
    must_be_0(green_hub_end(GREEN_FOREVER));
    return unused;
}

static void use_other_handle(void *hub)
{
    must_fail(green_hub_spawn(hub, count_run, NULL), ESRCH);
    must_be_0(green_hub_close(hub));
}

WORLD_TEST(the_hub_of_another_thread_is_no_more_in_the_child)
{
    pthread_t thread;
    sem_init(&other_has_hub, 0, 0);
    must_be_0(pthread_create(&thread, NULL, wait_in_other_thread, NULL));
    wait_for_sem(&other_has_hub);
    green_hub_t *hub = other_hub;
    in_fork(use_other_handle, hub);
    other_hub = NULL;
    assert_int_equal(green_hub_close(hub), 0);
    must_be_0(pthread_join(thread, NULL));
}

static _Atomic(int) stop;

static void *make_and_unmake_hubs(void *unused)
{
    while (!stop) {
        must_be_0(green_offload(give_back, NULL, NULL, NULL));
        must_be_0(green_hub_end(GREEN_FOREVER));
    }
    return unused;
}

static void offload_and_end(void *unused)
{
    must_be_0(green_offload(give_back, unused, NULL, NULL));
    must_be_0(green_hub_end(GREEN_FOREVER));
    must_be_0(green_hub_init(NULL));
    must_be_0(green_hub_end(GREEN_FOREVER));
}

static void *offload_often(void *unused)
{
    while (green_offload(give_back, NULL, NULL, NULL) == 0)
        continue;
    return unused;
}

WORLD_TEST(forks_while_threads_work_do_not_hang)
{
    has_threads_in_child();
    if (SANITIZED)
        skip_because("the sanitizers' own locks may be held in a child");
    pthread_t thread;
    stop = 0;
    must_be_0(pthread_create(&thread, NULL, make_and_unmake_hubs, NULL));
    green_task_t *task = spawn(offload_often, NULL);
    for (int i = 0; i < times(200, 10); i++) {
        in_fork(offload_and_end, NULL);
        turn();
    }
    assert_int_equal(green_task_free(task), 0);
    stop = 1;
    must_be_0(pthread_join(thread, NULL));
}

static void *spawn_in_group(void *group)
{
    must_be_0(green_group_spawn(group, sleep_for, V(3600 * 1000)));
    return NULL;
}

static void wait_for_group(void *group)
{
    int error = -1;
    must_be_0(green_group_wait(group, &error, GREEN_FOREVER));
    must(error == 0);
    must_be_0(green_group_free(group));
}

WORLD_TEST(a_group_whose_tasks_are_gone_is_empty_in_the_child)
{
    green_group_t *group = green_group_new(0, 0);
    spawn_in_group(group);
    spawn_in_group(group);
    turn();
    assert_int_equal(green_group_size(group), 2);
    in_fork(wait_for_group, group);
    assert_int_equal(green_group_size(group), 2);
    assert_int_equal(green_group_free(group), 0);
}

int main(void)
{
    if (FEW_FIBERS)
        return skip_all_because("ThreadSanitizer knows no threads after a fork");
    return run_all_tests();
}
