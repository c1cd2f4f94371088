/* SPDX-License-Identifier: MIT */
/* What tasks take of memory, and leave behind: nothing, however many there were. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hubs.h"
#include "testing.h"

static void *give_back_at_once(void *value)
{
    return value;
}

/* Bytes that malloc() has handed out; 0 where the C library does not say. */
static size_t allocated(void)
{
#if defined(__GLIBC__) && (__GLIBC__ > 2 || __GLIBC_MINOR__ >= 33)
    return mallinfo2().uordblks;
#else
    return 0;
#endif
}

static void live_times(int n)
{
    for (int i = 0; i < n; i++) {
        void *value;
        green_task_t *task = green_task_spawn(give_back_at_once, &value);
        assert_non_null(task);
        assert_int_equal(green_task_join(task, &value, GREEN_FOREVER), 0);
        assert_int_equal(green_task_free(task), 0);
    }
}

HUB_TEST(tasks_that_have_gone_take_no_memory)
{
    live_times(2000); /* caches */
    size_t before = allocated();
    live_times(2000);
    assert_in_range(allocated(), 0, before + 4096);
}

/* ---- While they wait ---------------------------------------------------------------- */

enum { WAITING = 1000, PAGE = 4096, A_TASK = 4608 };

/* Bytes of a task's stack that are in memory. */
static size_t resident_of(const green_task_t *task)
{
    static unsigned char resident[1024];
    void *low;
    size_t size, bytes = 0;
    green_stack(green_task_green(task), &low, &size);
    uintptr_t begin = (uintptr_t)low / PAGE * PAGE, end = (uintptr_t)low + size;
    size_t pages = (end - begin + PAGE - 1) / PAGE;
    must(pages <= sizeof resident && mincore((void *)begin, pages * PAGE, resident) == 0);
    for (size_t i = 0; i < pages; i++)
        bytes += resident[i] & 1 ? PAGE : 0;
    return bytes;
}

static void *wait_in_a_read(void *pipe)
{
    char byte;
    return green_read(*(int *)pipe, &byte, 1) == 0 ? NULL : GREEN_FAILED;
}

struct waiting {
    green_fn *run;
    void *arg;
    void (*end)(void *arg); /* of what they wait for */
    size_t taken;           /* by each */
};

static void *take_waiting(void *arg)
{
    static green_task_t *tasks[WAITING];
    struct waiting *waiting = arg;
    must(green_sleep(0) == 0); /* the hub's own */
    size_t before = allocated();
    for (int i = 0; i < WAITING; i++)
        tasks[i] = spawn(waiting->run, waiting->arg);
    turn();
    size_t taken = allocated() - before;
    for (int i = 0; i < WAITING; i++)
        taken += resident_of(tasks[i]);
    waiting->taken = taken / WAITING;
    waiting->end(waiting->arg);
    for (int i = 0; i < WAITING; i++)
        must(finish(tasks[i]) == NULL);
    must(green_hub_end(GREEN_FOREVER) == 0);
    return NULL;
}

/* In a thread of its own, as one in which others have ended has blocks for the next. */
static void take_at_most(struct waiting *waiting)
{
    if (STRESSED || SANITIZED || under_valgrind())
        skip_because("a tool has memory of its own for each stack and block");
    if (sysconf(_SC_PAGESIZE) != PAGE)
        skip_because("the least that a stack takes is a page, which is larger here");
    in_thread(take_waiting, waiting);
    assert_in_range(waiting->taken, PAGE, A_TASK - 100); /* for what is known of its stack */
}

static void set_it(void *event)
{
    must(green_event_set(event) == 0);
}

static void close_it(void *pipe)
{
    close(((int *)pipe)[1]);
}

TEST(a_task_that_waits_for_an_event_takes_a_page_and_two_blocks)
{
    green_event_t event = GREEN_EVENT_INIT;
    struct waiting waiting = { wait_for_event, &event, set_it, 0 };
    take_at_most(&waiting);
}

TEST(a_task_that_waits_in_a_read_takes_no_more)
{
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    struct waiting waiting = { wait_in_a_read, ends, close_it, 0 };
    take_at_most(&waiting);
    close(ends[0]);
}

int main(void)
{
    return run_all_tests();
}
