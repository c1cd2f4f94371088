/* SPDX-License-Identifier: MIT */
/* green_hub_dump(): who waits for what. */
#include <signal.h>

#include "hubs.h"

static green_event_t event;
static green_queue_t *queue;
static green_mutex_t mutex;
static green_semaphore_t semaphore;
static char text[8192];

static int begin(void **state)
{
    event = (green_event_t)GREEN_EVENT_INIT;
    mutex = (green_mutex_t)GREEN_MUTEX_INIT;
    semaphore = (green_semaphore_t)GREEN_SEMAPHORE_INIT(0, 0);
    int result = hubs_begin_virtual(state);
    queue = green_queue_new(sizeof(int), 1);
    return result;
}

static int end(void **state)
{
    must_be_0(green_hub_end(GREEN_FOREVER)); /* nobody waits for it */
    must_be_0(green_queue_free(queue));
    return hubs_end(state);
}

#define DUMP_TEST(sentence) TEST_WITH(sentence, begin, end)

/* What it writes, and how many lines. */
static int dump(void)
{
    FILE *file = tmpfile();
    must(file != NULL);
    must_be_0(green_hub_dump(fileno(file)));
    rewind(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    int lines = 0;
    for (const char *at = text; (at = strchr(at, '\n')) != NULL; at++)
        lines++;
    return lines;
}

/* The line of a task has this in it. */
static void assert_in_line(const green_task_t *task, const char *wanted)
{
    char start[64];
    snprintf(start, sizeof start, "task %p", (const void *)task);
    const char *line = strstr(text, start);
    if (line == NULL)
        fail_msg("no line for %s in:\n%s", start, text);
    const char *line_end = strchr(line, '\n'), *found = strstr(line, wanted);
    if (found == NULL || found > line_end)
        fail_msg("\"%s\" is not in: %.*s", wanted, (int)(line_end - line), line);
}

static void *get(void *unused)
{
    int item;
    (void)green_queue_get(queue, &item, GREEN_FOREVER);
    return unused;
}

static void *lock(void *unused)
{
    (void)green_mutex_lock(&mutex, GREEN_FOREVER);
    return unused;
}

static void *acquire(void *unused)
{
    (void)green_semaphore_acquire(&semaphore, GREEN_FOREVER);
    return unused;
}

static void *join(void *task)
{
    (void)green_task_join(task, NULL, GREEN_FOREVER);
    return NULL;
}

static void *sleep_long(void *unused)
{
    (void)green_sleep(GREEN_SEC(100));
    return unused;
}

static void assert_call(const green_task_t *task, const char *call, const void *object)
{
    char wanted[128];
    if (object != NULL)
        snprintf(wanted, sizeof wanted, "in %s(%p) for 1.250 s", call, object);
    else
        snprintf(wanted, sizeof wanted, "in %s() for 1.250 s", call);
    assert_in_line(task, wanted);
}

DUMP_TEST(a_line_a_task_says_what_it_waits_in_for_what_and_how_long)
{
    const green_options_t named = { .name = "taker" };
    assert_int_equal(green_mutex_lock(&mutex, GREEN_FOREVER), 0);
    green_task_t *gets = green_task_spawn_with(get, NULL, &named);
    green_task_t *locks = spawn(lock, NULL), *acquires = spawn(acquire, NULL);
    green_task_t *joins = spawn(join, gets), *sleeps = spawn(sleep_long, NULL);
    assert_int_equal(green_sleep(GREEN_MS(1250)), 0);
    green_task_t *fresh = spawn(give_back, NULL);
    assert_int_equal(dump(), 7);
    assert_in_line(green_task_current(), "running");
    assert_call(gets, "green_queue_get", queue);
    assert_in_line(gets, "\"taker\"");
    assert_call(locks, "green_mutex_lock", &mutex);
    assert_call(acquires, "green_semaphore_acquire", &semaphore);
    assert_call(joins, "green_task_join", gets);
    assert_call(sleeps, "green_sleep", NULL);
    assert_in_line(sleeps, ", at ");
    assert_in_line(fresh, "not started");
    green_task_t *all[] = { gets, locks, acquires, joins, sleeps, fresh };
    assert_int_equal(green_task_cancel(sleeps), 0);
    assert_int_equal(green_task_cancel(fresh), 0);
    assert_int_equal(dump(), 7);
    assert_in_line(sleeps, "ready, cancelled");
    assert_in_line(fresh, "not started, cancelled");
    assert_in_line(gets, "for 1.250 s, at ");
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        assert_int_equal(green_task_free(all[i]), 0);
    assert_int_equal(dump(), 1);
}

static void *read_one(void *fd)
{
    char byte;
    (void)green_read((int)(intptr_t)fd, &byte, 1);
    return NULL;
}

static void *poll_both_ways(void *fds)
{
    (void)green_poll(fds, 1, GREEN_FOREVER);
    return NULL;
}

static void *select_one(void *cases)
{
    (void)green_select(cases, 1, GREEN_FOREVER);
    return NULL;
}

DUMP_TEST(a_descriptor_is_a_number_and_several_are_an_address)
{
    int input = dup(STDIN_FILENO), ends[2];
    must_be_0(pipe(ends));
    must(dup2(ends[0], STDIN_FILENO) == STDIN_FILENO);
    struct pollfd both = { .fd = ends[0], .events = POLLIN | POLLOUT };
    green_case_t cases[] = { GREEN_CASE_FD(ends[0], POLLIN) };
    green_task_t *tasks[] = { spawn(read_one, V(STDIN_FILENO)), spawn(poll_both_ways, &both),
                              spawn(select_one, cases) };
    char wanted[64];
    turn();
    assert_int_equal(dump(), 4);
    assert_in_line(tasks[0], "in green_read(0) for ");
    snprintf(wanted, sizeof wanted, "in green_poll(%d) for ", ends[0]);
    assert_in_line(tasks[1], wanted);
    snprintf(wanted, sizeof wanted, "in green_select(%p) for ", (void *)cases);
    assert_in_line(tasks[2], wanted);
    for (int i = 0; i < 3; i++)
        assert_int_equal(green_task_free(tasks[i]), 0);
    must(dup2(input, STDIN_FILENO) == STDIN_FILENO);
    close(input);
    close(ends[0]);
    close(ends[1]);
}

static void *wait_in_generator(void *unused)
{
    green_t *generator = green_new(wait_for_event, NULL);
    must(generator != NULL);
    green_switch(generator, &event);
    must_be_0(green_free(generator));
    return unused;
}

DUMP_TEST(a_task_whose_generator_waits_says_what_that_waits_in)
{
    const green_options_t daemon = { .flags = GREEN_DAEMON };
    green_task_t *task = green_task_spawn_with(wait_in_generator, NULL, &daemon);
    turn();
    assert_int_equal(dump(), 2);
    assert_in_line(task, "in green_event_wait(");
    assert_in_line(task, ", daemon");
    assert_int_equal(green_event_set(&event), 0);
    finish(task);
}

static void *dump_in_task(void *unused)
{
    must(dump() == 2);
    return unused;
}

DUMP_TEST(a_task_may_dump_and_sees_main_wait)
{
    green_task_t *task = spawn(dump_in_task, NULL), *main = green_task_current();
    assert_int_equal(green_task_join(task, NULL, GREEN_FOREVER), 0);
    assert_in_line(task, "running");
    char wanted[64];
    snprintf(wanted, sizeof wanted, "in green_task_join(%p)", (void *)task);
    assert_in_line(main, wanted);
    finish(task);
}

static int dumped;

static void dump_in_hook(green_trace_event_t traced, green_t *from, green_t *to, void *data)
{
    (void)traced, (void)from, (void)to, (void)data;
    must(dump() >= 1);
    dumped++;
}

DUMP_TEST(a_trace_hook_may_dump)
{
    green_task_t *task = spawn(sleep_for, V(5));
    green_set_trace(dump_in_hook, NULL);
    finish(task);
    green_set_trace(NULL, NULL);
    assert_true(dumped > 0);
}

DUMP_TEST(a_name_that_is_no_text_is_printed_without_control_characters)
{
    const green_options_t named = { .name = "a\n\x1b[31mb" };
    green_task_t *task = green_task_spawn_with(sleep_long, NULL, &named);
    turn();
    assert_int_equal(dump(), 2);
    assert_null(strchr(text, '\x1b'));
    assert_int_equal(green_task_free(task), 0);
}

DUMP_TEST(a_write_that_fails_is_reported)
{
    assert_refused(green_hub_dump(-1), EBADF);
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    close(ends[0]);
    signal(SIGPIPE, SIG_IGN);
    assert_refused(green_hub_dump(ends[1]), EPIPE);
    signal(SIGPIPE, SIG_DFL);
    close(ends[1]);
}

/* Both are there who wait for each other. */
DUMP_TEST(it_tells_of_a_deadlock)
{
    green_task_t *a = NULL, *b = NULL;
    a = spawn(lock, NULL);
    turn(); /* it has it, and ends */
    finish(a);
    a = spawn(lock, NULL);
    b = spawn(join, a);
    assert_refused(green_task_join(b, NULL, GREEN_FOREVER), EDEADLK);
    assert_int_equal(dump(), 3);
    assert_in_line(a, "in green_mutex_lock(");
    assert_in_line(b, "in green_task_join(");
    assert_int_equal(green_task_cancel(a), 0);
    finish(a);
    finish(b);
}

DUMP_TEST(green_each_sees_the_greens_of_tasks_suspended)
{
    green_task_t *task = spawn(sleep_long, NULL);
    turn();
    assert_int_equal(green_state(green_task_green(task)), GREEN_SUSPENDED);
    void *frames[16];
    assert_true(green_backtrace(green_task_green(task), frames, 16) > 0);
    assert_int_equal(green_task_free(task), 0);
}

int main(void)
{
    return run_all_tests();
}
