/* SPDX-License-Identifier: MIT */
/*
 * What gdb.sh looks at with `info tasks`: tasks that wait in every way there is, one
 * that is ready, one that is new, and one that runs and comes to stop().
 *
 *     gdb_tasks [core]    with that stop() aborts
 *
 * Time is virtual, so that it is known how long each waits.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <green_hub.h>

#ifdef __clang__
#define FRAME __attribute__((noinline))
#else
#define FRAME __attribute__((noinline, noclone))
#endif

/* Behind a call, so that it is no jump, and no two functions are one. */
#define STAY() __asm__ volatile("" : : "i"(__LINE__) : "memory")

static green_queue_t *queue;
static green_event_t event = GREEN_EVENT_INIT, second_event = GREEN_EVENT_INIT;
static green_mutex_t mutex = GREEN_MUTEX_INIT;
static int with_core;

FRAME static void stop(void)
{
    if (with_core)
        abort();
    STAY();
}

static void check(int succeeds, const char *what)
{
    if (!succeeds)
        perror(what), exit(1);
}

static green_task_t *spawn(const char *name, green_fn *run)
{
    /* Without guards: gdb's gcore reads no mapping that has some. */
    green_options_t options = {.name = name, .flags = GREEN_NO_GUARD};
    green_task_t *task = green_task_spawn_with(run, NULL, &options);
    check(task != NULL, "green_task_spawn_with");
    return task;
}

FRAME static void *sleep_long(void *unused)
{
    green_sleep(GREEN_SEC(100000));
    STAY();
    return unused;
}

FRAME static void *get(void *unused)
{
    int item;
    green_queue_get(queue, &item, GREEN_FOREVER);
    STAY();
    return unused;
}

/* Is cancelled meanwhile, and does not see it. */
FRAME static void *wait_shielded(void *unused)
{
    GREEN_SCOPE(shield, GREEN_FOREVER, GREEN_SHIELD);
    green_event_wait(&event, GREEN_FOREVER);
    STAY();
    return unused;
}

/* It waits in a green of its own.  To gdb it is one of C++. */
static void *lock(void *) __asm__("_ZN5tasks4lockEiPc");
FRAME static void *lock(void *unused)
{
    green_mutex_lock(&mutex, GREEN_FOREVER);
    STAY();
    return unused;
}

FRAME static void *lock_in_child(void *unused)
{
    green_options_t options = {.name = "child", .flags = GREEN_NO_GUARD};
    green_t *child = green_new_with(lock, NULL, &options);
    check(child != NULL, "green_new_with");
    green_switch(child, NULL);
    STAY();
    return green_free(child) == 0 ? unused : GREEN_FAILED;
}

FRAME static void *be_woken(void *unused)
{
    green_event_wait(&second_event, GREEN_FOREVER);
    STAY();
    return unused;
}

/* Its descriptor is 0. */
FRAME static void *read_input(void *unused)
{
    char byte;
    ssize_t (*volatile call)(int, void *, size_t) = green_read; /* one that is inlined has no place */
    ssize_t n = call(STDIN_FILENO, &byte, 1);
    STAY();
    return n == 1 ? unused : GREEN_FAILED;
}

static void *be_new(void *unused)
{
    return unused;
}

FRAME static void *come_to_stop(void *unused)
{
    green_sleep(GREEN_MS(1500));
    check(green_event_set(&second_event) == 0, "green_event_set");
    green_task_t *task = spawn("new", be_new);
    stop();
    check(green_task_free(task) == 0, "green_task_free");
    return unused;
}

int main(int argc, char **argv)
{
    green_hub_options_t options = {.flags = GREEN_HUB_VIRTUAL_TIME};
    green_task_t *tasks[6], *runs;
    int input[2];

    with_core = argc > 1 && strcmp(argv[1], "core") == 0;
    check(green_hub_init(&options) == 0, "green_hub_init");
    queue = green_queue_new(sizeof(int), 1);
    check(queue != NULL, "green_queue_new");
    check(green_mutex_lock(&mutex, GREEN_FOREVER) == 0, "green_mutex_lock");
    tasks[0] = spawn("sleeper", sleep_long);
    tasks[1] = spawn("getter", get);
    tasks[2] = spawn("shielded", wait_shielded);
    tasks[3] = spawn("parent", lock_in_child);
    tasks[4] = spawn("woken", be_woken);
    check(pipe(input) == 0 && dup2(input[0], STDIN_FILENO) == STDIN_FILENO, "pipe");
    tasks[5] = spawn("reader", read_input);
    check(green_sleep(GREEN_MS(250)) == 0, "green_sleep");
    runs = spawn("runs", come_to_stop);
    check(green_task_cancel(tasks[2]) == 0, "green_task_cancel");
    int (*volatile join)(green_task_t *, void **, int64_t) = green_task_join; /* not inlined either */
    check(join(runs, NULL, GREEN_FOREVER) == 0, "green_task_join");
    STAY();
    check(green_event_set(&event) == 0 && green_mutex_unlock(&mutex) == 0, "green_event_set");
    for (int i = 0; i < 6; i++)
        check(green_task_free(tasks[i]) == 0, "green_task_free");
    check(green_task_free(runs) == 0 && green_queue_free(queue) == 0, "green_task_free");
    puts("ended as it should");
    return 0;
}
