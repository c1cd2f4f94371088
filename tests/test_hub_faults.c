/* SPDX-License-Identifier: MIT */
/*
 * Whatever the system may refuse the hub is refused: a scenario is played again and
 * again, each time in a process of its own, in which the n-th call of one kind
 * fails, or the n-th and all that follow in the operation, for every n until none is
 * reached.  An operation that makes something does its work in spite of it or says why not,
 * and works when it is asked again; no wait fails for it.  At the end nothing is left.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>

#include "hubs.h"

#if SANITIZED
int main(void)
{
    return skip_all_because("a sanitizer stands between: nothing can be made to fail");
}
#else

#include "heap.h"

/* ---- The system ------------------------------------------------------------------------------ */

enum kind { NONE, MALLOC, CALLOC, REALLOC, MMAP, EPOLL_CREATE, EVENTFD, EPOLL_CTL, TIMERFD, THREAD,
            KINDS };

static const char *const names[KINDS] = { "none", "malloc", "calloc", "realloc", "mmap",
                                          "epoll_create1", "eventfd", "epoll_ctl",
                                          "timerfd_create", "pthread_create" };

static struct {
    enum kind kind;
    int n, for_good;
} play;

static struct told {
    atomic_int injected, failed;
    long blocks, greens, stacks, descriptors;
} *told;

static atomic_int armed, count;

static int refused(enum kind kind)
{
    if (!atomic_load(&armed) || kind != play.kind)
        return 0;
    int n = atomic_fetch_add(&count, 1) + 1;
    if (n < play.n || (n > play.n && !play.for_good))
        return 0;
    atomic_fetch_add(&told->injected, 1);
    return 1;
}

static int heap_refuses(enum heap_call call)
{
    static const enum kind kinds[] = {
        [HEAP_MALLOC] = MALLOC, [HEAP_CALLOC] = CALLOC, [HEAP_REALLOC] = REALLOC
    };
    if (call == HEAP_MEMALIGN || !refused(kinds[call]))
        return 0;
    errno = ENOMEM;
    return 1;
}

static int fails(int error)
{
    errno = error;
    return -1;
}

void *mmap(void *address, size_t size, int access, int flags, int fd, off_t offset)
{
    if (refused(MMAP)) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return (void *)syscall(SYS_mmap, address, size, access, flags, fd, offset);
}

int epoll_create1(int flags)
{
    return refused(EPOLL_CREATE) ? fails(EMFILE) : (int)syscall(SYS_epoll_create1, flags);
}

int eventfd(unsigned value, int flags)
{
    return refused(EVENTFD) ? fails(ENFILE) : (int)syscall(SYS_eventfd2, value, flags);
}

int epoll_ctl(int epoll, int what, int fd, struct epoll_event *event)
{
    return refused(EPOLL_CTL) ? fails(ENOSPC) : (int)syscall(SYS_epoll_ctl, epoll, what, fd, event);
}

int timerfd_create(clockid_t clock, int flags)
{
    return refused(TIMERFD) ? fails(EMFILE) : (int)syscall(SYS_timerfd_create, clock, flags);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                   void *arg)
{
    static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
    return refused(THREAD) ? EAGAIN : real(thread, attributes, run, arg);
}

/* ---- The operations -------------------------------------------------------------------------- */

/* Asks until it is done: refused once, it is granted. */
#define MAKES(expr)                                                                        \
    do {                                                                                   \
        atomic_store(&armed, 1);                                                           \
        errno = 0;                                                                         \
        int done_ = (expr);                                                                \
        int error_ = errno;                                                                \
        atomic_store(&armed, 0);                                                           \
        if (!done_) {                                                                      \
            atomic_fetch_add(&told->failed, 1);                                            \
            must(atomic_load(&told->injected) > 0);                                        \
            must(error_ == ENOMEM || error_ == EMFILE || error_ == ENFILE ||               \
                 error_ == ENOSPC || error_ == EAGAIN);                                    \
            must(expr);                                                                    \
        }                                                                                  \
    } while (0)

/* Never fails for what the system refuses. */
#define WORKS(expr)                                                                        \
    do {                                                                                   \
        atomic_store(&armed, 1);                                                           \
        int done_ = (expr);                                                                \
        atomic_store(&armed, 0);                                                           \
        must(done_);                                                                       \
    } while (0)

enum { MANY = 100 };

static green_event_t event;
static int noted_hogs, woken, got, posted;

static void hogged(const char *name, pid_t thread, int64_t time, void *data)
{
    (void)name, (void)thread, (void)time, (void)data;
    noted_hogs++;
}

static void *wait_with_time(void *unused)
{
    errno = ERANGE;
    must_be_0(green_event_wait(&event, GREEN_SEC(1)));
    must(errno == ERANGE); /* it has not failed: what was refused is not told */
    woken++;
    return unused;
}

static void *wait_too_long(void *ms)
{
    must_fail(green_event_wait(&event, GREEN_MS((intptr_t)ms)), ETIMEDOUT);
    woken++;
    return NULL;
}

static void *get_three(void *queue)
{
    for (int i = 0; i < 3; i++) {
        int item;
        must_be_0(green_queue_get(queue, &item, GREEN_SEC(1)));
        must(item == i);
        got++;
    }
    return NULL;
}

static void *note_post(void *unused)
{
    posted++;
    return unused;
}

static int put(green_queue_t *queue, int item)
{
    return green_queue_put(queue, &item, GREEN_FOREVER) == 0;
}

static void hub_plays(unsigned flags, int64_t longest_turn)
{
    static green_event_t events[MANY];
    static green_case_t cases[MANY];
    green_task_t *task, *tasks[MANY];
    green_queue_t *queue;
    green_group_t *group;
    green_hub_t *handle;
    const green_hub_options_t options = { .flags = flags, .longest_turn = longest_turn,
                                          .hogged = longest_turn != 0 ? hogged : NULL };
    event = (green_event_t)GREEN_EVENT_INIT;
    woken = got = posted = 0;

    MAKES(green_hub_init(&options) == 0);
    WORKS(green_sleep(0) == 0);
    WORKS(green_sleep(1000) == 0); /* the heap of timers */
    MAKES((task = green_task_spawn(wait_with_time, NULL)) != NULL);
    WORKS(green_sleep(0) == 0);
    WORKS(green_event_set(&event) == 0);
    WORKS(green_task_join(task, NULL, GREEN_FOREVER) == 0);
    WORKS(green_task_free(task) == 0);
    WORKS(green_event_clear(&event) == 0);
    must(woken == 1);

    /* More timers than the heap has room for. */
    for (int i = 0; i < MANY; i++)
        MAKES((tasks[i] = green_task_spawn(wait_too_long, V(i % 10))) != NULL);
    for (int i = 0; i < MANY; i++)
        WORKS(green_task_join(tasks[i], NULL, GREEN_FOREVER) == 0);
    for (int i = 0; i < MANY; i++)
        WORKS(green_task_free(tasks[i]) == 0);
    must(woken == 1 + MANY);

    MAKES((queue = green_queue_new(sizeof(int), 1)) != NULL);
    MAKES((group = green_group_new(2, 0)) != NULL);
    MAKES(green_group_spawn(group, get_three, queue) == 0);
    for (int i = 0; i < 3; i++)
        WORKS(put(queue, i));
    MAKES(green_group_spawn(group, give_back, NULL) == 0);
    MAKES(green_group_spawn(group, give_back, NULL) == 0);
    MAKES(green_group_spawn(group, give_back, NULL) == 0); /* which waits */
    WORKS(green_group_wait(group, NULL, GREEN_FOREVER) == 0);
    must(got == 3);
    WORKS(green_group_free(group) == 0);
    WORKS(green_queue_free(queue) == 0);

    for (int i = 0; i < MANY; i++) {
        events[i] = (green_event_t)GREEN_EVENT_INIT;
        cases[i] = (green_case_t)GREEN_CASE_EVENT(&events[i]);
    }
    MAKES(green_select(cases, MANY, GREEN_MS(1)) == -1 && errno == ETIMEDOUT);
    WORKS(green_select(cases, 10, GREEN_MS(1)) == -1 && errno == ETIMEDOUT);

    MAKES((handle = green_hub_open()) != NULL);
    for (int i = 0; i < 10; i++)
        MAKES(green_hub_spawn(handle, note_post, NULL) == 0);
    for (int i = 0; i < 3; i++)
        WORKS(green_sleep(GREEN_MS(1)) == 0); /* where there is no memory they wait */
    while (posted < 10)
        must_be_0(green_sleep(GREEN_MS(1)));
    MAKES(green_hub_fd() >= 0);
    MAKES(green_hub_spawn(handle, note_post, NULL) == 0);
    WORKS(green_hub_close(handle) == 0);
    for (int i = 0; i < 3; i++)
        WORKS(green_hub_run(GREEN_MS(1)) >= 0);
    while (posted < 11)
        must(green_hub_run(GREEN_MS(20)) >= 0);
    MAKES((task = green_task_spawn(sleep_for, V(1000000))) != NULL);
    WORKS(green_sleep(0) == 0);
    WORKS(green_hub_end(GREEN_FOREVER) == 0);
    WORKS(green_task_free(task) == 0);
}

/* What is left at the end, which is compared. */
static void tell_rest(void)
{
    green_stats_t stats;
    must_be_0(green_thread_end());
    green_trim(0);
    must_be_0(green_stats(&stats, sizeof stats));
    told->blocks = atomic_load(&live_blocks);
    told->greens = (long)stats.greens;
    told->stacks = (long)stats.stacks_live;
    told->descriptors = hubs_descriptors();
}

static void play_in_child(unsigned flags, int64_t longest_turn)
{
    memset(told, 0, sizeof *told);
    fflush(NULL);
    pid_t pid = fork();
    must(pid >= 0);
    if (pid == 0) {
        alarm(60);
        must(green_main() != NULL);
        (void)hubs_descriptors();
        hub_plays(flags, longest_turn);
        tell_rest();
        _exit(0);
    }
    int status;
    must(waitpid(pid, &status, 0) == pid);
    if (status != 0)
        fail_msg("%s %d%s: status 0x%x", names[play.kind], play.n, play.for_good ? " ff." : "",
                 (unsigned)status);
}

static void refuse_each(unsigned flags, int64_t longest_turn)
{
    play.kind = NONE;
    play_in_child(flags, longest_turn);
    struct told rest = *told;
    for (int kind = MALLOC; kind < KINDS; kind++) {
        int played = 0;
        if ((kind == THREAD) != (longest_turn != 0) ||
            (under_valgrind() && kind <= REALLOC))
            continue;
        for (int for_good = 0; for_good < 2; for_good++) {
            for (int n = 1;; n += 1 + (n > 20) * times(2, 30)) {
                play.kind = (enum kind)kind;
                play.n = n;
                play.for_good = for_good;
                play_in_child(flags, longest_turn);
                if (atomic_load(&told->injected) == 0)
                    break;
                played++;
                if (told->blocks > rest.blocks || told->greens != rest.greens ||
                    told->stacks != rest.stacks || told->descriptors != rest.descriptors)
                    fail_msg("%s %d%s leaves %ld blocks, %ld greens, %ld stacks, %ld descriptors",
                             names[kind], n, for_good ? " ff." : "", told->blocks - rest.blocks,
                             told->greens - rest.greens, told->stacks - rest.stacks,
                             told->descriptors - rest.descriptors);
            }
        }
        if (played == 0)
            fail_msg("no call of %s was reached", names[kind]);
    }
}

TEST(what_the_system_refuses_is_told_by_what_makes_things_and_no_wait_fails_for_it)
{
    refuse_each(GREEN_HUB_VIRTUAL_TIME, 0);
}

TEST(a_watching_thread_that_cannot_be_started_leaves_no_hub)
{
    refuse_each(0, GREEN_SEC(1000));
}

int main(void)
{
    if (under_helgrind()) {
        puts("skipped: to Helgrind what atomic operations order is a race; ThreadSanitizer runs it");
        return 77;
    }
    told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    must(told != MAP_FAILED);
    return run_all_tests();
}
#endif
