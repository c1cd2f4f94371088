/* SPDX-License-Identifier: MIT */
/* poll(), select(), epoll_wait(), sleep() and the like under the patch. */
#include "patched.h"

#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <time.h>

int __poll(struct pollfd *fds, nfds_t n, int timeout);
int __select(int n, fd_set *in, fd_set *out, fd_set *except, struct timeval *time);
int __nanosleep(const struct timespec *time, struct timespec *rest);

static int ends[2]; /* of a pipe: nothing comes, or what a test writes */
static int epoll = -1;

static int begin(void **state)
{
    struct epoll_event event = {.events = EPOLLIN, .data = {.u32 = 47}};
    if (patched_begin(state) != 0)
        return -1;
    must_be_0(pipe(ends));
    must((epoll = epoll_create1(0)) >= 0);
    return epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &event);
}

static int end(void **state)
{
    must_be_0(close(epoll));
    must_be_0(close(ends[0]));
    must_be_0(close(ends[1]));
    return patched_end(state);
}

#define WAIT_TEST(sentence) TEST_WITH(sentence, begin, end)

/* ---- Each of them ------------------------------------------------------------------------- */

/*
 * How many are ready within that time, less than 0: for ever; -1 with errno.  What is
 * ready, and only that, must be said.
 */
typedef int ready_fn(int ms, const sigset_t *mask);

static struct timespec *timespec(int ms)
{
    static struct timespec time;
    time = (struct timespec){ms / 1000, ms % 1000 * 1000000};
    return ms < 0 ? NULL : &time;
}

static int said(const struct pollfd *fds, int n)
{
    must(n < 0 || (n == 1) == ((fds[0].revents & POLLIN) != 0));
    must(n < 0 || fds[1].revents == 0);
    return n;
}
#define THE_FDS {{.fd = ends[0], .events = POLLIN}, {.fd = -1, .events = POLLIN, .revents = -1}}

static int ready_poll(int ms, const sigset_t *mask)
{
    struct pollfd fds[2] = THE_FDS;
    (void)mask;
    return said(fds, poll(fds, 2, ms));
}

static int ready___poll(int ms, const sigset_t *mask)
{
    struct pollfd fds[2] = THE_FDS;
    (void)mask;
    return said(fds, __poll(fds, 2, ms));
}

static int ready_ppoll(int ms, const sigset_t *mask)
{
    struct pollfd fds[2] = THE_FDS;
    return said(fds, ppoll(fds, 2, timespec(ms), mask));
}

static int ready_select(int ms, const sigset_t *mask)
{
    struct timeval time = {ms / 1000, ms % 1000 * 1000};
    fd_set in, except;
    (void)mask;
    FD_ZERO(&in);
    FD_ZERO(&except);
    FD_SET(ends[0], &in);
    FD_SET(ends[1], &except);
    int n = select(ends[1] + 1, &in, NULL, &except, ms < 0 ? NULL : &time);
    must(!FD_ISSET(ends[1], &except) == (n >= 0)); /* what fails leaves them as they were */
    must((FD_ISSET(ends[0], &in) != 0) == (n != 0));
    return n;
}

static int ready_pselect(int ms, const sigset_t *mask)
{
    fd_set in, out;
    FD_ZERO(&in);
    FD_ZERO(&out);
    FD_SET(ends[0], &in);
    FD_SET(ends[0], &out); /* which is never ready for that */
    int n = pselect(ends[0] + 1, &in, &out, NULL, timespec(ms), mask);
    must(!FD_ISSET(ends[0], &out) == (n >= 0));
    must((FD_ISSET(ends[0], &in) != 0) == (n != 0));
    return n;
}

static int ready_epoll_wait(int ms, const sigset_t *mask)
{
    struct epoll_event events[2];
    (void)mask;
    int n = epoll_wait(epoll, events, 2, ms);
    must(n <= 0 || (events[0].data.u32 == 47 && events[0].events == EPOLLIN));
    return n;
}

static int ready_epoll_pwait(int ms, const sigset_t *mask)
{
    struct epoll_event events[2];
    int n = epoll_pwait(epoll, events, 2, ms, mask);
    must(n <= 0 || (events[0].data.u32 == 47 && events[0].events == EPOLLIN));
    return n;
}

static int ready_epoll_pwait2(int ms, const sigset_t *mask)
{
    struct epoll_event events[2];
    int n = epoll_pwait2(epoll, events, 2, timespec(ms), mask);
    must(n <= 0 || (events[0].data.u32 == 47 && events[0].events == EPOLLIN));
    return n;
}

static const struct {
    const char *name;
    ready_fn *ready;
    bool masks;
} waits[] = {
    {"poll", ready_poll, false},
    {"__poll", ready___poll, false},
    {"ppoll", ready_ppoll, true},
    {"select", ready_select, false},
    {"pselect", ready_pselect, true},
    {"epoll_wait", ready_epoll_wait, false},
    {"epoll_pwait", ready_epoll_pwait, true},
    {"epoll_pwait2", ready_epoll_pwait2, true},
};

/* What the system has not: epoll_pwait2() is younger than some. */
static bool has(ready_fn *ready)
{
    return ready(0, NULL) >= 0 || errno != ENOSYS;
}

static void *writes_after(void *ms)
{
    nap((intptr_t)ms);
    must(write(ends[1], "x", 1) == 1);
    return NULL;
}

static void take_byte(void)
{
    char byte;
    must(read(ends[0], &byte, 1) == 1);
}

/* ---- Time --------------------------------------------------------------------------------- */

WAIT_TEST(without_time_none_waits)
{
    int turns = 0;
    for (size_t i = 0; i < COUNT(waits); i++)
        if (has(waits[i].ready)) {
            green_task_t *task = spawn(writes_after, V(0)); /* has no turn */
            if (waits[i].ready(0, NULL) != 0)
                fail_msg("%s", waits[i].name);
            finish(task);
            take_byte();
            turns++;
        }
    assert_true(turns >= 7);
    assert_int_equal(clock_ms(), 0);
}

WAIT_TEST(each_waits_for_its_time_and_no_longer)
{
    int64_t now = 0;
    for (size_t i = 0; i < COUNT(waits); i++)
        if (has(waits[i].ready)) {
            if (waits[i].ready(1500, NULL) != 0)
                fail_msg("%s: %s", waits[i].name, strerror(errno));
            now += 1500;
            assert_int_equal(clock_ms(), now);
        }
}

WAIT_TEST(each_says_what_came_before_its_time)
{
    int64_t now = 0;
    for (size_t i = 0; i < COUNT(waits); i++)
        for (int ms = -1; ms <= 60000 && has(waits[i].ready); ms += 60001) {
            green_task_t *task = spawn(writes_after, V(1000));
            if (waits[i].ready(ms, NULL) != 1)
                fail_msg("%s: %s", waits[i].name, strerror(errno));
            finish(task);
            take_byte();
            now += 1000;
            assert_int_equal(clock_ms(), now);
        }
}

static void *waits_for_byte(void *ready)
{
    must(((ready_fn *)(uintptr_t)ready)(-1, NULL) == 1);
    return NULL;
}

WAIT_TEST(twenty_of_each_wait_beside_each_other)
{
    for (size_t i = 0; i < COUNT(waits); i++) {
        green_task_t *tasks[20];
        for (int j = 0; j < 20 && has(waits[i].ready); j++)
            tasks[j] = spawn(waits_for_byte, (void *)(uintptr_t)waits[i].ready);
        nap(10);
        assert_int_equal(hub_stat(tasks), has(waits[i].ready) ? 21 : 1);
        must(write(ends[1], "x", 1) == 1);
        for (int j = 0; j < 20 && has(waits[i].ready); j++)
            finish(tasks[j]);
        take_byte();
    }
}

/* ---- Signals ------------------------------------------------------------------------------ */

static volatile sig_atomic_t caught;

static void catches(int number)
{
    caught = number;
}

static void *signals_after(void *ms)
{
    nap((intptr_t)ms);
    must_be_0(raise(SIGUSR1));
    must(caught == 0); /* it is blocked */
    return NULL;
}

WAIT_TEST(a_mask_lets_a_signal_in_for_the_time_of_the_call)
{
    struct sigaction action = {.sa_handler = catches}, before;
    sigset_t usr1, all, now;
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    must_be_0(pthread_sigmask(SIG_BLOCK, &usr1, &all));
    sigdelset(&all, SIGUSR1);
    must_be_0(sigaction(SIGUSR1, &action, &before));
    for (size_t i = 0; i < COUNT(waits); i++) {
        if (!waits[i].masks || !has(waits[i].ready))
            continue;
        for (int ms = 0; ms <= 100; ms += 100) { /* it is there already, or comes */
            caught = 0;
            if (ms == 0)
                must_be_0(raise(SIGUSR1));
            green_task_t *task = ms != 0 ? spawn(signals_after, V(ms)) : NULL;
            errno = 0;
            if (waits[i].ready(60000, &all) != -1 || errno != EINTR || caught != SIGUSR1)
                fail_msg("%s: %s, caught %d", waits[i].name, strerror(errno), (int)caught);
            if (task != NULL)
                finish(task);
        }
        must_be_0(pthread_sigmask(SIG_BLOCK, NULL, &now));
        assert_int_equal(sigismember(&now, SIGUSR1), 1);
        /* The same mask as without: it waits on, and what is blocked stays so. */
        caught = 0;
        must_be_0(raise(SIGUSR1));
        assert_int_equal(waits[i].ready(100, &now), 0);
        assert_int_equal(caught, 0);
        assert_int_equal(sigwaitinfo(&usr1, NULL), SIGUSR1);
    }
    must_be_0(sigaction(SIGUSR1, &before, NULL));
    must_be_0(pthread_sigmask(SIG_UNBLOCK, &usr1, NULL));
    assert_int_equal(clock_ms() < 60000, 1);
}

static void *signals_the_thread(void *unused)
{
    (void)unused;
    nap(100);
    must_be_0(raise(SIGUSR1));
    must(caught == SIGUSR1); /* its handler runs at once, in whatever task */
    return NULL;
}

WAIT_TEST(a_handler_that_runs_meanwhile_ends_no_wait)
{
    struct sigaction action = {.sa_handler = catches}, before;
    must_be_0(sigaction(SIGUSR1, &action, &before));
    for (size_t i = 0; i < COUNT(waits); i++)
        if (has(waits[i].ready)) {
            caught = 0;
            green_task_t *task = spawn(signals_the_thread, NULL);
            assert_int_equal(waits[i].ready(300, NULL), 0);
            finish(task);
        }
    must_be_0(sigaction(SIGUSR1, &before, NULL));
}

/* ---- What is wrong is said by the system ---------------------------------------------------- */

WAIT_TEST(errors_are_the_systems)
{
    struct epoll_event event;
    struct timespec bad = {0, 1000000000}, less = {-1, 0};
    struct timeval bad_time = {-1, 0};
    fd_set set;
    struct pollfd closed = {.fd = 1000, .events = POLLIN};
    must_fail(epoll_wait(ends[0], &event, 1, 100), EINVAL); /* no epoll */
    must_fail(epoll_wait(1000, &event, 1, 100), EBADF);
    must_fail(epoll_wait(epoll, &event, 0, 100), EINVAL);
    must_fail(ppoll(NULL, 0, &bad, NULL), EINVAL);
    must_fail(ppoll(NULL, 0, &less, NULL), EINVAL);
    must_fail(pselect(0, NULL, NULL, NULL, &bad, NULL), EINVAL);
    must_fail(select(-1, NULL, NULL, NULL, NULL), EINVAL);
    must_fail(select(0, NULL, NULL, NULL, &bad_time), EINVAL);
    must_fail(nanosleep(&bad, NULL), EINVAL);
    must_fail(nanosleep(&less, NULL), EINVAL);
    struct timespec *volatile none = NULL;
    if (!under_valgrind()) /* which reports it */
        must_fail(nanosleep(none, NULL), EFAULT);
    assert_int_equal(clock_nanosleep(CLOCK_MONOTONIC, 0, &bad, NULL), EINVAL);
    assert_int_equal(clock_nanosleep(12345, 0, &less, NULL), EINVAL);
    FD_ZERO(&set);
    FD_SET(60, &set); /* closed; where there never was one Linux does not look */
    must_fail(select(61, &set, NULL, NULL, NULL), EBADF);
    assert_true(FD_ISSET(60, &set));
    assert_int_equal(poll(&closed, 1, -1), 1);
    assert_int_equal(closed.revents, POLLNVAL);
    assert_int_equal(clock_ms(), 0);
}

/* As by getdtablesize(): the system looks no further than there are descriptors. */
WAIT_TEST(select_looks_at_no_more_than_there_may_be)
{
    if (under_valgrind())
        skip_because("Valgrind has descriptors of its own at the end of the table");
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *memory = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(memory != MAP_FAILED);
    must_be_0(mprotect(memory + page, page, PROT_NONE));
    fd_set *in = (fd_set *)(void *)(memory + page - sizeof *in);
    FD_SET(ends[0], in);
    green_task_t *task = spawn(writes_after, V(100));
    assert_int_equal(select(1 << 20, in, NULL, NULL, NULL), 1);
    assert_true(FD_ISSET(ends[0], in));
    finish(task);
    take_byte();
    must_be_0(munmap(memory, 2 * page));
}

WAIT_TEST(select_says_how_much_time_is_left)
{
    struct timeval time = {10, 500000};
    fd_set in;
    FD_ZERO(&in);
    FD_SET(ends[0], &in);
    green_task_t *task = spawn(writes_after, V(3000));
    assert_int_equal(select(ends[0] + 1, &in, NULL, NULL, &time), 1);
    assert_int_equal(time.tv_sec * 1000 + time.tv_usec / 1000, 7500);
    finish(task);
    take_byte();
    FD_SET(ends[0], &in);
    time = (struct timeval){1, 0};
    assert_int_equal(select(ends[0] + 1, &in, NULL, NULL, &time), 0);
    assert_int_equal(time.tv_sec, 0);
    assert_int_equal(time.tv_usec, 0);
}

WAIT_TEST(more_descriptors_than_fit_on_a_stack)
{
    enum { MANY = 300 };
    struct pollfd fds[MANY];
    const struct timespec time = {5, 0};
    sigset_t mask;
    must_be_0(pthread_sigmask(SIG_BLOCK, NULL, &mask));
    for (int i = 0; i < MANY; i++)
        fds[i] = (struct pollfd){.fd = i == MANY - 1 ? ends[0] : ends[1], .events = POLLIN};
    for (int i = 0; i < 2; i++) {
        green_task_t *task = spawn(writes_after, V(1000));
        assert_int_equal(i == 0 ? poll(fds, MANY, 5000) : ppoll(fds, MANY, &time, &mask), 1);
        assert_int_equal(fds[MANY - 1].revents, POLLIN);
        finish(task);
        take_byte();
    }
    assert_int_equal(clock_ms(), 2000);
}

/* ---- Sleep ---------------------------------------------------------------------------------- */

PATCH_TEST(each_sleep_takes_its_time)
{
    const struct timespec time = {1, 250000000};
    struct timespec rest = {77, 77};
    assert_int_equal(sleep(2), 0);
    assert_int_equal(clock_ms(), 2000);
    assert_int_equal(usleep(300000), 0);
    assert_int_equal(clock_ms(), 2300);
    assert_int_equal(nanosleep(&time, &rest), 0);
    assert_int_equal(clock_ms(), 3550);
    assert_int_equal(clock_nanosleep(CLOCK_MONOTONIC, 0, &time, &rest), 0);
    assert_int_equal(clock_nanosleep(CLOCK_REALTIME, 0, &time, &rest), 0);
    assert_int_equal(clock_ms(), 6050);
    assert_int_equal(rest.tv_sec, 77);
    assert_int_equal(sleep(0) + (unsigned)usleep(0), 0);
    assert_int_equal(clock_ms(), 6050);
}

static bool others_ran;

static void *runs_meanwhile(void *unused)
{
    others_ran = true;
    return unused;
}

static void *sleeps_until(void *clock)
{
    struct timespec time, now;
    must_be_0(clock_gettime((clockid_t)(intptr_t)clock, &time));
    if ((intptr_t)clock == CLOCK_REALTIME) /* which may be set: it is looked at each second */
        time.tv_sec++;
    time.tv_nsec += 50000000;
    if (time.tv_nsec >= 1000000000) {
        time.tv_sec++;
        time.tv_nsec -= 1000000000;
    }
    must_be_0(clock_nanosleep((clockid_t)(intptr_t)clock, TIMER_ABSTIME, &time, NULL));
    must(others_ran);
    must_be_0(clock_gettime((clockid_t)(intptr_t)clock, &now));
    must(now.tv_sec > time.tv_sec || (now.tv_sec == time.tv_sec && now.tv_nsec >= time.tv_nsec));
    must_be_0(clock_nanosleep((clockid_t)(intptr_t)clock, TIMER_ABSTIME, &time, NULL)); /* over */
    return NULL;
}

PATCH_WORLD_TEST(until_a_time_of_each_clock_and_not_less)
{
    static const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME};
    for (size_t i = 0; i < COUNT(clocks); i++) {
        others_ran = false;
        green_task_t *task = spawn(sleeps_until, V(clocks[i])), *other = spawn(runs_meanwhile, NULL);
        finish(task);
        finish(other);
    }
}

static void *sleeps_in_four_ways(void *unused)
{
    const struct timespec time = {10, 0};
    struct timespec rest = {0, 0};
    (void)unused;
    nap(1);
    must(sleep(10) == 10); /* 9.001 s are left: what it says is no less */
    must_fail(usleep(10000000), ECANCELED);
    must_fail(nanosleep(&time, &rest), ECANCELED);
    must(rest.tv_sec == 10 && rest.tv_nsec == 0);
    rest.tv_sec = 0;
    errno = 0;
    must(clock_nanosleep(CLOCK_MONOTONIC, 0, &time, &rest) == ECANCELED && errno == 0);
    must(rest.tv_sec == 10);
    rest.tv_sec = 47;
    must(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &(struct timespec){INT32_MAX, 0}, &rest) ==
         ECANCELED);
    must(rest.tv_sec == 47);
    return NULL;
}

PATCH_TEST(a_cancelled_sleep_says_what_is_left)
{
    green_task_t *task = spawn(sleeps_in_four_ways, NULL);
    nap(500);
    must_be_0(green_task_cancel(task));
    finish(task);
    assert_int_equal(clock_ms(), 500);
}

/* ---- Cancel, and the end of a scope ---------------------------------------------------------- */

#define MAKE_READY(name)                                \
    static int make_##name(void)                        \
    {                                                   \
        return ready_##name(-1, NULL) < 0 ? errno : 0;  \
    }
MAKE_READY(poll)
MAKE_READY(__poll)
MAKE_READY(ppoll)
MAKE_READY(select)
MAKE_READY(pselect)
MAKE_READY(epoll_wait)
MAKE_READY(epoll_pwait)

static int make_epoll_pwait2(void)
{
    /* Where the system has none, another. */
    return !has(ready_epoll_pwait2) ? make_epoll_wait() : ready_epoll_pwait2(-1, NULL) < 0 ? errno : 0;
}

static int make_ppoll_with_a_mask(void)
{
    sigset_t none;
    sigemptyset(&none);
    return ready_ppoll(-1, &none) < 0 ? errno : 0;
}

static int make_sleep(void)
{
    return sleep(1000) != 0 ? errno : 0;
}

static int make_usleep(void)
{
    return usleep(1000000000) != 0 ? errno : 0;
}

static int make_nanosleep(void)
{
    return nanosleep(&(struct timespec){1000, 0}, NULL) != 0 ? errno : 0;
}

static int make___nanosleep(void)
{
    return __nanosleep(&(struct timespec){1000, 0}, NULL) != 0 ? errno : 0;
}

static int make___select(void)
{
    return __select(0, NULL, NULL, NULL, NULL) < 0 ? errno : 0;
}

static int make_clock_nanosleep(void)
{
    return clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){1000, 0}, NULL);
}

static const struct call calls[] = {
    CALL(poll),          CALL(__poll),       CALL(ppoll),        CALL(select),
    CALL(pselect),       CALL(epoll_wait),   CALL(epoll_pwait),  CALL(epoll_pwait2),
    CALL(ppoll_with_a_mask), CALL(sleep),    CALL(usleep),       CALL(nanosleep),
    CALL(clock_nanosleep), CALL(__nanosleep), CALL(__select),
};

WAIT_TEST(a_cancel_ends_each_call_and_all_that_come_later)
{
    assert_cancel_ends(calls, COUNT(calls));
}

WAIT_TEST(the_end_of_a_scope_ends_each_call_and_all_that_come_later)
{
    assert_scope_ends(calls, COUNT(calls));
}

static void *polls_for_ever(void *fds)
{
    must(poll(fds, 2, -1) == 1);
    return NULL;
}

WAIT_TEST(a_close_is_told_to_who_polls)
{
    int own[2];
    must_be_0(pipe(own));
    struct pollfd fds[2] = {{.fd = ends[0], .events = POLLIN}, {.fd = own[0], .events = POLLIN}};
    green_task_t *task = spawn(polls_for_ever, fds);
    nap(10);
    must_be_0(close(own[0]));
    finish(task);
    assert_int_equal(fds[0].revents, 0);
    assert_int_equal(fds[1].revents, POLLNVAL);
    must_be_0(close(own[1]));
}

int main(void)
{
    return run_all_tests();
}
