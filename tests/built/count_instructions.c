/* SPDX-License-Identifier: MIT */
/*
 * Counts instructions, by stepping through a child one by one, and fails where
 * there are more than the ceilings below allow.  A count, unlike a timing, is
 * the same every time: it sees a needless load, though not what a load costs.
 *
 * For x86_64 and optimized builds.  Exit status 77 and a reason: skipped.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <green_fast.h>
#include <green_hub.h>

#include "tools.h"

static int skip(const char *reason)
{
    printf("skipped: %s\n", reason);
    return 77;
}

#if !defined(__x86_64__)
int main(void)
{
    return skip("instructions are counted on x86_64 only");
}
#elif !defined(__OPTIMIZE__) || defined(__OPTIMIZE_SIZE__)
int main(void)
{
    return skip("this build is not optimized for speed");
}
#elif defined(COUNT_INLINED)
int main(void)
{
    return skip("link-time optimization has no switch in one piece");
}
#else
#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum thing { SWITCH, SWITCH_FAST, YIELD, YIELD_FAST, LIFE, TURN, ITEM, TASK, BY_TCP, BY_PIPE,
             THINGS };
enum { STATIC, SHARED };

/* ---- The ceilings: lower them when you can, raise them with a reason ------------- */

/*
 * In tenths of an instruction: what goes there and what comes back are counted
 * together, with the loops around them, and halved.  Compilers differ, so each
 * has its own: gcc 12, then clang 14.  All but LIFE and those from TASK on, which call libc, are
 * exact for these.  Later versions of the compilers may have one instruction more, and two in
 * an item, which is a call of green_queue_put(), one of green_queue_get() and waits.
 */
static const int ceilings[2][THINGS][2] = {
    /*                 STATIC  SHARED */
    {[SWITCH]      = {    520,    530},
     [SWITCH_FAST] = {    300,    300},
     [YIELD]       = {    550,    560},
     [YIELD_FAST]  = {    300,    300},
     [LIFE]        = {   2970,   3000},
     [TURN]        = {   1050,   1060},
     [ITEM]        = {   1955,   1975},
     [TASK]        = {   6520,   6550},
     [BY_TCP]      = {  11600,  11600},
     [BY_PIPE]     = {   9500,   9500}},
    {[SWITCH]      = {    525,    535},
     [SWITCH_FAST] = {    315,    315},
     [YIELD]       = {    555,    565},
     [YIELD_FAST]  = {    320,    320},
     [LIFE]        = {   2900,   2930},
     [TURN]        = {   1025,   1045},
     [ITEM]        = {   1955,   1995},
     [TASK]        = {   6300,   6310},
     [BY_TCP]      = {  11600,  11600},
     [BY_PIPE]     = {   9500,   9500}},
};

#if (defined(__clang__) && __clang_major__ > 14) || (!defined(__clang__) && __GNUC__ > 12)
static const int later_compiler[THINGS] = {[SWITCH] = 10, [SWITCH_FAST] = 10, [YIELD] = 10,
                                           [YIELD_FAST] = 10, [LIFE] = 10, [TURN] = 10,
                                           [ITEM] = 20, [TASK] = 10, [BY_TCP] = 100,
                                           [BY_PIPE] = 100};
#else
static const int later_compiler[THINGS] = {0};
#endif

/* With -fcf-protection each function that is called from elsewhere begins with one more. */
#if defined(__CET__) && (__CET__ & 1)
static const int landing_pads[THINGS] = {[SWITCH] = 10, [YIELD] = 15, [LIFE] = 90, [TURN] = 60,
                                         [ITEM] = 230, [TASK] = 150, [BY_TCP] = 300,
                                         [BY_PIPE] = 300};
#else
static const int landing_pads[THINGS] = {0};
#endif

/*
 * With all files in one, compilers put other functions into each other: which ones depends
 * on what else there is anywhere.
 */
#ifdef COUNT_LINK_TIME
static const int link_time[THINGS] = {[ITEM] = 50};
#else
static const int link_time[THINGS] = {0};
#endif

static const char *const names[THINGS] = {
    [SWITCH] = "a green_switch()",
    [SWITCH_FAST] = "a green_switch_fast()",
    [YIELD] = "a green_yield(), or the green_switch() back",
    [YIELD_FAST] = "a green_yield_fast(), or the green_switch_fast() back",
    [LIFE] = "green_new(), switch, death, green_free()",
    [TURN] = "a green_sleep(0), of two tasks",
    [ITEM] = "an item from task to task, by a queue of one",
    [TASK] = "green_task_spawn(), turn, green_task_join(), green_task_free()",
    [BY_TCP] = "a message by TCP: green_write_all(), and a green_read() that waits",
    [BY_PIPE] = "a message by a pipe: green_write_all(), and a green_read() that waits",
};

#ifdef __clang__
enum { COMPILER = 1 };
#else
enum { COMPILER = 0 };
#endif

#ifdef COUNT_SHARED
enum { LIBRARY = SHARED };
#else
enum { LIBRARY = STATIC };
#endif

/* ---- In the child: what is counted ------------------------------------------------ */

/* Counting begins and ends where this is reached. */
__attribute__((noinline)) static void mark(void)
{
    __asm__ volatile("" ::: "memory");
}

static green_t *main_green, *other;

static void *switch_back(void *value)
{
    while (value != NULL)
        value = green_switch(main_green, value);
    return NULL;
}

static void *switch_back_fast(void *value)
{
    while (value != NULL)
        value = green_switch_fast(main_green, value);
    return NULL;
}

static void *yield_back(void *value)
{
    while (value != NULL)
        value = green_yield(value);
    return NULL;
}

static void *yield_back_fast(void *value)
{
    while (value != NULL)
        value = green_yield_fast(value);
    return NULL;
}

static void *end_at_once(void *value)
{
    return value;
}

static void switch_times(int n)
{
    while (n-- > 0)
        green_switch(other, &other);
}

static void switch_fast_times(int n)
{
    while (n-- > 0)
        green_switch_fast(other, &other);
}

static void live_times(int n)
{
    while (n-- > 0) {
        green_t *g = green_new(end_at_once, NULL);
        green_switch(g, &other);
        green_free(g);
    }
}

/* Each in a task of its own, as main is one that begins its calls another way. */
static green_queue_t *queue;

static void *give_turns(void *unused)
{
    while (green_sleep(0) == 0)
        continue;
    return unused;
}

static void turn_times(int n)
{
    while (n-- > 0)
        green_sleep(0);
}

static void *put_items(void *unused)
{
    for (int item = 0; green_queue_put(queue, &item, GREEN_FOREVER) == 0;)
        item++;
    return unused;
}

static void get_times(int n)
{
    for (int item; n-- > 0;)
        green_queue_get(queue, &item, GREEN_FOREVER);
}

static void task_times(int n)
{
    while (n-- > 0) {
        green_task_t *task = green_task_spawn(end_at_once, NULL);
        green_task_join(task, NULL, GREEN_FOREVER);
        green_task_free(task);
    }
}

/* Messages, there and back; where they go in, and where they come out. */
enum { MESSAGE = 64 };
static struct { int out, in; } here, there;

static void *answer_messages(void *unused)
{
    char bytes[2 * MESSAGE];
    while (green_read(there.in, bytes, sizeof bytes) == MESSAGE &&
           green_write_all(there.out, bytes, MESSAGE) == MESSAGE)
        continue;
    return unused;
}

static void message_times(int n)
{
    char bytes[2 * MESSAGE] = {0};
    while (n-- > 0)
        if (green_write_all(here.out, bytes, MESSAGE) != MESSAGE ||
            green_read(here.in, bytes, sizeof bytes) != MESSAGE)
            abort();
}

static void *connect_here(void *address)
{
    here.in = here.out = socket(AF_INET, SOCK_STREAM, 0);
    return green_connect(here.in, address, sizeof(struct sockaddr_in)) == 0 ? NULL : GREEN_FAILED;
}

static void open_tcp(void)
{
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    int listener = green_tcp_listen("127.0.0.1", "0", 0);
    if (listener < 0 || getsockname(listener, (struct sockaddr *)&address, &size) != 0)
        abort();
    green_task_t *task = green_task_spawn(connect_here, &address);
    there.in = there.out = green_accept(listener, NULL, NULL, 0);
    if (there.in < 0 || green_task_join(task, NULL, GREEN_FOREVER) != 0 ||
        green_task_free(task) != 0 || green_close(listener) != 0)
        abort();
}

static void open_pipes(void)
{
    int to[2], back[2];
    if (pipe2(to, O_NONBLOCK) != 0 || pipe2(back, O_NONBLOCK) != 0)
        abort();
    here.out = to[1];
    there.in = to[0];
    there.out = back[1];
    here.in = back[0];
}

/* Whether a pipe can be written to by one call: since Linux 6.18. */
static bool has_nosignal(void)
{
    int ends[2];
    struct iovec part = {(char[]){0}, 1};
    if (pipe(ends) != 0)
        abort();
    bool has = syscall(SYS_pwritev2, ends[1], &part, 1ul, -1ul, -1ul, 0x100) == 1;
    if (close(ends[0]) != 0 || close(ends[1]) != 0)
        abort();
    return has;
}
static int things_counted = THINGS;

static const struct {
    void (*repeat)(int n);
    green_fn *other; /* NULL: none */
    int moves;       /* counted as one, in each repetition */
    green_fn *task;  /* of the hub: what the other task does; NULL: it has none to do with this */
    void (*open)(void); /* or NULL */
} things[THINGS] = {
    [SWITCH] = {switch_times, switch_back, 2, NULL, NULL},
    [SWITCH_FAST] = {switch_fast_times, switch_back_fast, 2, NULL, NULL},
    [YIELD] = {switch_times, yield_back, 2, NULL, NULL},
    [YIELD_FAST] = {switch_fast_times, yield_back_fast, 2, NULL, NULL},
    [LIFE] = {live_times, NULL, 1, NULL, NULL},
    [TURN] = {turn_times, NULL, 2, give_turns, NULL},
    [ITEM] = {get_times, NULL, 1, put_items, NULL},
    [TASK] = {task_times, NULL, 1, end_at_once, NULL},
    [BY_TCP] = {message_times, NULL, 2, answer_messages, open_tcp},
    [BY_PIPE] = {message_times, NULL, 2, answer_messages, open_pipes},
};

enum { FEW = 10, MANY = 30 };

/*
 * The hub looks at its timers after each 64 turns.  So of its things are counted as many
 * as take a multiple of that, and none to be subtracted: then each count has the same looks
 * in it, wherever it begins.  A queue of one comes round in three items and two turns.
 * A message is looked for each time; in some of these looks a second has gone by.
 */
enum { HUB_MANY = 64, ITEMS = 3 * 64, MESSAGES = 16 };

/* How many more there are between the second two marks than between the first. */
static int counted(int i)
{
    if (things[i].task == NULL)
        return MANY - FEW;
    if (things[i].open != NULL)
        return MESSAGES;
    return i == ITEM ? ITEMS : HUB_MANY;
}

/* Twice for each thing, that what happens once falls out. */
static void count_one(int i)
{
    int few = things[i].task != NULL ? 0 : FEW;
    things[i].repeat(FEW); /* caches and lazy binding */
    mark();
    things[i].repeat(few);
    mark();
    mark();
    things[i].repeat(few + counted(i));
    mark();
}

static void *count_in_task(void *thing)
{
    count_one((int)(intptr_t)thing);
    return NULL;
}

static void run(void)
{
    main_green = green_current();
    for (int i = 0; i < things_counted; i++) {
        if (things[i].task != NULL) {
            queue = green_queue_new(sizeof(int), 1);
            if (things[i].open != NULL)
                things[i].open();
            green_task_t *partner = green_task_spawn(things[i].task, NULL);
            green_task_t *task = green_task_spawn(count_in_task, (void *)(intptr_t)i);
            if (green_task_join(task, NULL, GREEN_FOREVER) != 0 || green_task_free(task) != 0 ||
                green_task_free(partner) != 0 || green_queue_free(queue) != 0)
                abort();
            continue;
        }
        if (things[i].other != NULL)
            other = green_new(things[i].other, NULL);
        count_one(i);
        if (things[i].other != NULL
            && (green_switch(other, NULL) != NULL || green_free(other) != 0))
            abort();
    }
}

/* ---- In the parent: counting -------------------------------------------------------- */

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

/* Steps to the next mark and returns how many steps it took; -1 at the child's end. */
static long count_to_mark(pid_t child)
{
    for (long steps = 1;; steps++) {
        struct user_regs_struct registers;
        int status;
        if (ptrace(PTRACE_SINGLESTEP, child, NULL, NULL) != 0)
            fail("PTRACE_SINGLESTEP");
        if (waitpid(child, &status, 0) != child)
            fail("waitpid");
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
            return -1;
        if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP) {
            fprintf(stderr, "the child ended with status %#x\n", (unsigned)status);
            exit(1);
        }
        if (ptrace(PTRACE_GETREGS, child, NULL, &registers) != 0)
            fail("PTRACE_GETREGS");
        if (registers.rip == (unsigned long long)(uintptr_t)mark)
            return steps;
    }
}

int main(void)
{
    if (green_current() == NULL)
        fail("green_current");
    if (UNDER_MSAN)
        return skip("MemorySanitizer adds instructions of its own");
    if (STRESSED)
        return skip("with GREEN_STRESS each stack is mapped");
    if (green_private_self->tag == 0)
        return skip("every switch goes the slow way, under a sanitizer");

    if (!has_nosignal()) {
        things_counted = BY_PIPE;
        printf("not counted: a message by a pipe, as the system has no RWF_NOSIGNAL\n");
    }
    pid_t child = fork();
    if (child < 0)
        fail("fork");
    if (child == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
            _exit(77);
        raise(SIGSTOP);
        run();
        _exit(0);
    }
    int status, failed = 0;
    if (waitpid(child, &status, 0) != child)
        fail("waitpid");
    if (WIFEXITED(status))
        return skip("this system does not let a child be traced");

    for (int i = 0; i < things_counted; i++) {
        count_to_mark(child);
        long few = count_to_mark(child);
        count_to_mark(child);
        long many = count_to_mark(child);
        long tenths = (many - few) * 10 / (counted(i) * things[i].moves);
        int most = ceilings[COMPILER][i][LIBRARY] + landing_pads[i] + link_time[i] +
                   later_compiler[i];
        bool good = few > 0 && many > few && tenths <= most;
        printf("%s: %3ld.%ld instructions (at most %d.%d): %s\n", good ? "ok" : "FAILED",
               tenths / 10, tenths % 10, most / 10, most % 10, names[i]);
        failed += !good;
    }
    return failed != 0;
}
#endif
