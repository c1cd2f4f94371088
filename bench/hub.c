/* SPDX-License-Identifier: MIT */
/*
 * What the hub costs: turns, tasks, queues, locks, timers, cancels, calls from other
 * threads, waits for a descriptor, and the memory of a task.  The goals are those
 * that the hub was made for.
 *
 *     bench_hub --memory KIND N    the bytes that N tasks take: measured in a process
 *                                  of its own, as one that has had tasks keeps stacks
 */
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <green_hub.h>

#include "bench.h"

static void must(int result, const char *what)
{
    if (result != 0)
        bench_fail(what);
}

static green_task_t *spawn(green_fn *run, void *arg)
{
    green_task_t *task = green_task_spawn(run, arg);
    if (task == NULL)
        bench_fail("green_task_spawn");
    return task;
}

static green_group_t *new_group(void)
{
    green_group_t *group = green_group_new(0, 0);
    if (group == NULL)
        bench_fail("green_group_new");
    return group;
}

static green_queue_t *new_queue(size_t capacity)
{
    green_queue_t *queue = green_queue_new(sizeof(long), capacity);
    if (queue == NULL)
        bench_fail("green_queue_new");
    return queue;
}

/* ---- Turns --------------------------------------------------------------------- */

static bool go_on;

static void *give_turns(void *arg)
{
    while (go_on)
        green_sleep(0);
    return arg;
}

/* Main is one of so many tasks. */
static double turns(void *arg, long n)
{
    int tasks = *(int *)arg;
    long rounds = n / tasks + 1;
    green_group_t *group = new_group();
    go_on = true;
    for (int i = 1; i < tasks; i++)
        must(green_group_spawn(group, give_turns, NULL), "green_group_spawn");
    green_sleep(0); /* they start */
    double start = bench_now();
    for (long i = 0; i < rounds; i++)
        green_sleep(0);
    double time = (bench_now() - start) * (double)n / (double)(rounds * tasks);
    go_on = false;
    must(green_group_free(group), "green_group_free");
    return time;
}

/* ---- Tasks ----------------------------------------------------------------------- */

static void *end_at_once(void *arg)
{
    return arg;
}

static double lives(void *arg, long n)
{
    (void)arg;
    double start = bench_now();
    for (long i = 0; i < n; i++) {
        green_task_t *task = spawn(end_at_once, NULL);
        if (green_task_join(task, NULL, GREEN_FOREVER) != 0 || green_task_free(task) != 0)
            return -1;
    }
    return bench_now() - start;
}

/* All are there before the first of them runs. */
static double lives_at_once(void *arg, long n)
{
    (void)arg;
    green_group_t *group = new_group();
    double start = bench_now();
    for (long i = 0; i < n; i++)
        must(green_group_spawn(group, end_at_once, NULL), "green_group_spawn");
    if (green_group_wait(group, NULL, GREEN_FOREVER) != 0)
        return -1;
    double time = bench_now() - start;
    must(green_group_free(group), "green_group_free");
    return time;
}

static void *wait_for_ever(void *event)
{
    return green_event_wait(event, GREEN_FOREVER) == 0 ? NULL : GREEN_FAILED;
}

static double cancels(void *arg, long n)
{
    green_event_t event = GREEN_EVENT_INIT;
    (void)arg;
    double start = bench_now();
    for (long i = 0; i < n; i++) {
        green_task_t *task = spawn(wait_for_ever, &event);
        green_sleep(0);
        if (green_task_cancel(task) != 0 || green_task_join(task, NULL, GREEN_FOREVER) != 0 ||
            green_task_free(task) != 0)
            return -1;
    }
    return bench_now() - start;
}

/* ---- Queues, from task to task ---------------------------------------------------- */

struct stream {
    green_queue_t *queue;
    long n;
};

static void *put_all(void *arg)
{
    struct stream *stream = arg;
    for (long i = 0; i < stream->n; i++)
        if (green_queue_put(stream->queue, &i, GREEN_FOREVER) != 0)
            return GREEN_FAILED;
    return NULL;
}

static double items(void *capacity, long n)
{
    struct stream stream = {new_queue(*(size_t *)capacity), n};
    long item, sum = 0;
    green_task_t *producer = spawn(put_all, &stream);
    double start = bench_now();
    for (long i = 0; i < n; i++) {
        if (green_queue_get(stream.queue, &item, GREEN_FOREVER) != 0)
            return -1;
        sum += item;
    }
    double time = bench_now() - start;
    must(green_task_free(producer), "green_task_free");
    must(green_queue_free(stream.queue), "green_queue_free");
    return sum == n * (n - 1) / 2 ? time : -1;
}

/* One of two queues has it; the other never has. */
static double selects(void *arg, long n)
{
    struct stream stream = {new_queue(1), n};
    green_queue_t *empty = new_queue(1);
    long item;
    (void)arg;
    green_task_t *producer = spawn(put_all, &stream);
    double start = bench_now();
    for (long i = 0; i < n; i++) {
        green_case_t cases[] = {GREEN_CASE_GET(empty, &item), GREEN_CASE_GET(stream.queue, &item)};
        if (green_select(cases, 2, GREEN_FOREVER) != 1)
            return -1;
    }
    double time = bench_now() - start;
    must(green_task_free(producer), "green_task_free");
    must(green_queue_free(stream.queue), "green_queue_free");
    must(green_queue_free(empty), "green_queue_free");
    return time;
}

/* ---- Locks -------------------------------------------------------------------------- */

static double locks(void *arg, long n)
{
    green_mutex_t mutex = GREEN_MUTEX_INIT;
    (void)arg;
    double start = bench_now();
    for (long i = 0; i < n; i++)
        if (green_mutex_lock(&mutex, GREEN_FOREVER) != 0 || green_mutex_unlock(&mutex) != 0)
            return -1;
    return bench_now() - start;
}

struct turnstile {
    green_semaphore_t mine, other;
};

static void *answer(void *arg)
{
    struct turnstile *turnstile = arg;
    while (green_semaphore_acquire(&turnstile->other, GREEN_FOREVER) == 0)
        green_semaphore_release(&turnstile->mine);
    return GREEN_FAILED;
}

static double semaphores(void *arg, long n)
{
    struct turnstile turnstile = {GREEN_SEMAPHORE_INIT(0, 0), GREEN_SEMAPHORE_INIT(0, 0)};
    (void)arg;
    green_task_t *other = spawn(answer, &turnstile);
    double start = bench_now();
    for (long i = 0; i < n; i += 2) {
        green_semaphore_release(&turnstile.other);
        if (green_semaphore_acquire(&turnstile.mine, GREEN_FOREVER) != 0)
            return -1;
    }
    double time = bench_now() - start;
    must(green_task_free(other), "green_task_free");
    return time;
}

/* ---- Time ---------------------------------------------------------------------------- */

static double scopes(void *arg, long n)
{
    (void)arg;
    double start = bench_now();
    for (long i = 0; i < n; i++) {
        green_scope_t scope;
        if (green_scope_begin(&scope, GREEN_SEC(60), 0) != 0 || green_scope_end(&scope) != 0)
            return -1;
    }
    return bench_now() - start;
}

static void *sleep_for_long(void *seconds)
{
    return green_sleep(GREEN_SEC(*(int *)seconds)) == 0 ? NULL : GREEN_FAILED;
}

/* An item from task to task with a time limit, while so many others have a timer. */
static double limited_items(void *others, long n)
{
    struct stream stream = {new_queue(0), n};
    int tasks = *(int *)others, *seconds = calloc((size_t)tasks + 1, sizeof *seconds);
    green_group_t *group = new_group();
    long item;
    if (seconds == NULL)
        return -1;
    for (int i = 0; i < tasks; i++) {
        seconds[i] = 1000 + (int)((unsigned)i * 2654435761u % 100000);
        must(green_group_spawn(group, sleep_for_long, &seconds[i]), "green_group_spawn");
    }
    green_sleep(0);
    green_task_t *producer = spawn(put_all, &stream);
    double start = bench_now();
    for (long i = 0; i < n; i++)
        if (green_queue_get(stream.queue, &item, GREEN_SEC(2000)) != 0)
            return -1;
    double time = bench_now() - start;
    must(green_task_free(producer), "green_task_free");
    must(green_queue_free(stream.queue), "green_queue_free");
    must(green_group_free(group), "green_group_free");
    free(seconds);
    return time;
}

/* ---- Other threads ----------------------------------------------------------------------- */

struct posts {
    green_hub_t *hub;
    long n, come;
    long writes; /* of the thread: each wakes the hub */
    green_event_t all;
    sem_t some;
    long batch; /* when so many have run come the next; 0: they do not wait */
};

/* System calls that have written, of the calling thread. */
static long count_writes(void)
{
    long writes = -1;
    char line[64];
    FILE *file = fopen("/proc/thread-self/io", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        sscanf(line, "syscw: %ld", &writes);
    if (file != NULL)
        fclose(file);
    return writes;
}

static void *count_post(void *arg)
{
    struct posts *posts = arg;
    if (++posts->come == posts->n)
        green_event_set(&posts->all);
    if (posts->batch != 0 && posts->come % posts->batch == 0)
        sem_post(&posts->some);
    return NULL;
}

static void *post_all(void *arg)
{
    struct posts *posts = arg;
    long before = count_writes();
    for (long i = 1; i <= posts->n; i++) {
        if (green_hub_spawn(posts->hub, count_post, posts) != 0)
            bench_fail("green_hub_spawn");
        while (posts->batch != 0 && i % posts->batch == 0 && sem_wait(&posts->some) != 0)
            ;
    }
    posts->writes = before < 0 ? -1 : count_writes() - before;
    return NULL;
}

static double post(struct posts *posts)
{
    pthread_t thread;
    posts->hub = green_hub_open();
    sem_init(&posts->some, 0, 0);
    double start = bench_now();
    if (posts->hub == NULL || (errno = pthread_create(&thread, NULL, post_all, posts)) != 0 ||
        green_event_wait(&posts->all, GREEN_FOREVER) != 0)
        return -1;
    double time = bench_now() - start;
    pthread_join(thread, NULL);
    sem_destroy(&posts->some);
    must(green_hub_close(posts->hub), "green_hub_close");
    return time;
}

static double calls_from_a_thread(void *batch, long n)
{
    struct posts posts = {.n = n, .all = GREEN_EVENT_INIT, .batch = *(int *)batch};
    return post(&posts);
}

static double writes_for_calls(void *arg, long n)
{
    struct posts posts = {.n = n, .all = GREEN_EVENT_INIT};
    (void)arg;
    if (post(&posts) < 0)
        return -1;
    errno = ENOSYS;
    return (double)posts.writes * 1000;
}

/* ---- Descriptors --------------------------------------------------------------------------- */

/* Two that send a byte to and fro: each read has to wait. */
struct ends {
    int there[2], back[2]; /* read, write */
};

enum { ROOM = 64 }; /* a reader asks for more than there will be, as most do */

static int byte_moved(ssize_t n)
{
    return n == 1 ? 0 : -1;
}

static void connect_tcp(int ends[2])
{
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    char port[8];
    int listener = green_tcp_listen("127.0.0.1", "0", 0);
    if (listener < 0 || getsockname(listener, (struct sockaddr *)&address, &length) != 0)
        bench_fail("green_tcp_listen");
    const unsigned char *bytes = (unsigned char *)&address + 2; /* of sin_port */
    snprintf(port, sizeof port, "%d", bytes[0] * 256 + bytes[1]);
    ends[1] = green_tcp_connect("127.0.0.1", port);
    ends[0] = green_accept(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (ends[0] < 0 || ends[1] < 0)
        bench_fail("green_accept");
    green_close(listener);
}

static void open_ends(struct ends *ends, bool tcp)
{
    if (!tcp && (pipe2(ends->there, O_NONBLOCK | O_CLOEXEC) != 0 ||
                 pipe2(ends->back, O_NONBLOCK | O_CLOEXEC) != 0))
        bench_fail("pipe2");
    if (tcp) {
        connect_tcp(ends->there);
        ends->back[0] = ends->there[1];
        ends->back[1] = ends->there[0];
    }
}

static void close_ends(struct ends *ends, bool tcp)
{
    green_close(ends->there[0]);
    green_close(ends->there[1]);
    if (!tcp) {
        green_close(ends->back[0]);
        green_close(ends->back[1]);
    }
}

/* The loop that one would write: edge-triggered, and a read only when it is told. */
static double raw_reads(void *tcp, long n)
{
    struct ends ends;
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    char bytes[ROOM] = "b";
    open_ends(&ends, *(bool *)tcp);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    event.data.fd = ends.there[0];
    must(epoll_ctl(epoll, EPOLL_CTL_ADD, ends.there[0], &event), "epoll_ctl");
    event.data.fd = ends.back[0];
    must(epoll_ctl(epoll, EPOLL_CTL_ADD, ends.back[0], &event), "epoll_ctl");
    double start = bench_now();
    must(byte_moved(write(ends.there[1], bytes, 1)), "write");
    for (long i = 0; i < n; i++) {
        if (epoll_wait(epoll, &event, 1, -1) != 1)
            bench_fail("epoll_wait");
        must(byte_moved(read(event.data.fd, bytes, ROOM)), "read");
        must(byte_moved(write(event.data.fd == ends.there[0] ? ends.back[1] : ends.there[1], bytes, 1)),
             "write");
    }
    double time = bench_now() - start;
    close(epoll);
    close_ends(&ends, *(bool *)tcp);
    return time;
}

static void *send_back(void *arg)
{
    struct ends *ends = arg;
    char bytes[ROOM];
    while (green_read(ends->there[0], bytes, ROOM) == 1 && green_write(ends->back[1], bytes, 1) == 1)
        ;
    return NULL;
}

static void *read_for_ever(void *arg)
{
    uint64_t count;
    return green_read(*(int *)arg, &count, sizeof count) > 0 ? NULL : GREEN_FAILED;
}

static void allow_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* So many tasks, each waiting for a descriptor of its own, at which nothing comes. */
struct idle {
    green_group_t *group;
    int *descriptors;
    int n;
};

static int make_idle(struct idle *idle, int n)
{
    *idle = (struct idle){new_group(), calloc((size_t)n + 1, sizeof(int)), 0};
    if (idle->descriptors == NULL)
        return -1;
    while (idle->n < n) {
        int *descriptor = &idle->descriptors[idle->n];
        *descriptor = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (*descriptor < 0)
            return -1;
        idle->n++;
        must(green_group_spawn(idle->group, read_for_ever, descriptor), "green_group_spawn");
    }
    green_sleep(0);
    return green_group_size(idle->group) == (size_t)n ? 0 : -1;
}

static void end_idle(struct idle *idle)
{
    must(green_group_free(idle->group), "green_group_free");
    for (int i = 0; i < idle->n; i++)
        green_close(idle->descriptors[i]);
    free(idle->descriptors);
}

struct reads {
    bool tcp;
    int idle;
};

static double reads(void *arg, long n)
{
    struct reads *kind = arg;
    struct ends ends;
    struct idle idle;
    double time = -1;
    char bytes[ROOM] = "b";
    if (make_idle(&idle, kind->idle) == 0) {
        open_ends(&ends, kind->tcp);
        green_task_t *other = spawn(send_back, &ends);
        double start = bench_now();
        for (long i = 0; i < n; i += 2) {
            must(byte_moved(green_write(ends.there[1], bytes, 1)), "green_write");
            must(byte_moved(green_read(ends.back[0], bytes, ROOM)), "green_read");
        }
        time = bench_now() - start;
        must(green_task_free(other), "green_task_free");
        close_ends(&ends, kind->tcp);
    }
    int error = errno;
    end_idle(&idle);
    errno = error;
    return time;
}

/* ---- Memory ---------------------------------------------------------------------------------- */

/* Kilobytes of a line of /proc/self/status. */
static long kilobytes(const char *field)
{
    long value = 0;
    char line[128];
    FILE *file = fopen("/proc/self/status", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, field, strlen(field)) == 0)
            value = atol(line + strlen(field) + 1);
    if (file != NULL)
        fclose(file);
    return value;
}

/* So many tasks at most wait in a read: the hub and stdio have descriptors, too. */
static long most_reads(long n)
{
    struct rlimit limit;
    long most = getrlimit(RLIMIT_NOFILE, &limit) == 0 ? (long)limit.rlim_cur - 100 : n;
    return n < most ? n : most;
}

/* In a process of its own: bytes, bytes of page tables, and of how many tasks. */
static int take_memory(const char *kind, long n)
{
    green_event_t never = GREEN_EVENT_INIT;
    struct idle idle = {NULL, NULL, 0};
    allow_descriptors();
    if (strcmp(kind, "read") == 0)
        n = most_reads(n);
    green_sleep(0);
    if (strcmp(kind, "read") == 0 && make_idle(&idle, 1) == 0) /* what the first takes */
        end_idle(&idle);
    long before = kilobytes("VmRSS:"), tables = kilobytes("VmPTE:");
    if (strcmp(kind, "read") == 0 && make_idle(&idle, (int)n) != 0)
        return perror("eventfd"), 1;
    for (long i = 0; i < n && strcmp(kind, "event") == 0; i++)
        spawn(wait_for_ever, &never);
    green_sleep(0);
    printf("%ld %ld %ld\n", (kilobytes("VmRSS:") - before) * 1024,
           (kilobytes("VmPTE:") - tables) * 1024, n);
    return fflush(stdout) != 0;
}

struct memory {
    const char *kind;
    bool tables; /* these alone; else all but these */
};

static double memory(void *arg, long n)
{
    struct memory *memory = arg;
    char program[512], command[600];
    long bytes, tables, tasks;
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length < 0)
        return -1;
    program[length] = '\0';
    snprintf(command, sizeof command, "'%s' --memory %s %ld", program, memory->kind, n);
    FILE *child = popen(command, "r");
    if (child == NULL)
        return -1;
    int read = fscanf(child, "%ld %ld %ld", &bytes, &tables, &tasks);
    errno = EMFILE;
    if (pclose(child) != 0 || read != 3 || tasks <= 0)
        return -1;
    return (double)(memory->tables ? tables : bytes) * (double)n / (double)tasks;
}

/* ---- All ------------------------------------------------------------------------------------- */

#define TCP (&(bool){true})
#define PIPE (&(bool){false})
#define READS(is_tcp, n) (&(struct reads){is_tcp, n})

int main(int argc, char **argv)
{
    const struct candidate candidates[] = {
        {.group = "turns", .name = "2 tasks", .run = turns, .arg = &(int){2}, .goal = 6},
        {.group = "turns", .name = "100 tasks", .run = turns, .arg = &(int){100}, .goal = 6},
        {.group = "tasks", .name = "spawn, run, join, free", .run = lives, .unit = "a task", .goal = 40},
        {.group = "tasks", .name = "1,000 spawned before the first runs", .run = lives_at_once,
         .n = 1000, .unit = "a task"},
        {.group = "tasks", .name = "spawn, wait, cancel, join, free", .run = cancels, .unit = "a task"},
#define ITEM(title, queue, most)                                                           \
    {.group = "from task to task", .name = title, .run = items, .arg = &(size_t){queue},   \
     .unit = "an item", .goal = most}
        ITEM("queue of 1", 1, 7.5),
        ITEM("queue of 0", 0, 0),
        ITEM("queue of 100", 100, 0),
        {.group = "from task to task", .name = "select, of two queues", .run = selects, .unit = "an item"},
        {.group = "from task to task", .name = "semaphores", .run = semaphores, .unit = "a unit"},
        {.group = "alone", .name = "mutex: lock, unlock", .run = locks, .unit = "both"},
        {.group = "alone", .name = "scope with a time: begin, end", .run = scopes, .unit = "both"},
#define LIMITED(title, others, fixed)                                                      \
    {.group = "an item, with a time limit", .name = title " other timers",                 \
     .run = limited_items, .arg = &(int){others}, .n = fixed, .slow = others > 100,         \
     .unit = "an item"}
        LIMITED("no", 0, 0),
        LIMITED("100", 100, 0),
        LIMITED("10,000", 10000, 100000),
        {.group = "from another thread", .name = "spawns, 100 at a time", .run = calls_from_a_thread,
         .arg = &(int){100}, .unit = "a spawn"},
        {.group = "from another thread", .name = "spawns, one at a time",
         .run = calls_from_a_thread, .arg = &(int){1}, .unit = "a spawn"},
        {.group = "from another thread", .name = "writes to wake the hub", .run = writes_for_calls,
         .n = 30000, .unit = "1,000 spawns", .counts = "writes"},
        {.group = "a read of a pipe that waits", .name = "raw epoll", .run = raw_reads, .arg = PIPE},
        {.group = "a read of a pipe that waits", .name = "libgreen", .run = reads,
         .arg = READS(false, 0), .unit = "a read", .against = "raw epoll", .goal = 1.2},
        {.group = "a read of a pipe that waits", .name = "libgreen, 10,000 others wait", .run = reads,
         .arg = READS(false, 10000), .n = 20000, .slow = true, .unit = "a read", .against = "raw epoll", .goal = 1.26},
        {.group = "a read of TCP that waits", .name = "raw epoll", .run = raw_reads, .arg = TCP},
        {.group = "a read of TCP that waits", .name = "libgreen", .run = reads, .arg = READS(true, 0),
         .unit = "a read", .against = "raw epoll", .goal = 1.2},
        {.group = "memory of a task", .name = "that waits for an event", .run = memory,
         .arg = &(struct memory){"event", false}, .n = 10000, .unit = "a task", .counts = "bytes",
         .goal = 4608},
        {.group = "memory of a task", .name = "that waits in a read", .run = memory,
         .arg = &(struct memory){"read", false}, .n = 10000, .unit = "a task", .counts = "bytes",
         .goal = 4608},
        {.group = "memory of a task", .name = "page tables", .run = memory,
         .arg = &(struct memory){"event", true}, .n = 10000, .unit = "a task", .counts = "bytes"},
    };
    if (argc == 4 && strcmp(argv[1], "--memory") == 0)
        return take_memory(argv[2], atol(argv[3]));
    allow_descriptors();
    return bench(argc, argv, "hub", "one turn", candidates, sizeof candidates / sizeof candidates[0]);
}
