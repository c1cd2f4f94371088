/* SPDX-License-Identifier: MIT */
#ifndef TESTING_H
#define TESTING_H
/*
 * What the tests share: cmocka, and how a test that must die runs in a child.
 * A test file is a subject, a test's name a sentence.
 */
#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <green.h>

#include "tools.h"

/* Small integers as values. */
#define V(n) ((void *)(intptr_t)(n))

/* expr fails with GREEN_FAILED and this errno. */
#define assert_fails(expr, error)                 \
    do {                                          \
        errno = 0;                                \
        assert_ptr_equal((expr), GREEN_FAILED);   \
        assert_int_equal(errno, (error));         \
    } while (0)

/* expr is -1 with this errno. */
#define assert_refused(expr, error)               \
    do {                                          \
        errno = 0;                                \
        assert_int_equal((expr), -1);             \
        assert_int_equal(errno, (error));         \
    } while (0)

/* expr is NULL with this errno. */
#define assert_null_errno(expr, error)            \
    do {                                          \
        errno = 0;                                \
        assert_null((expr));                      \
        assert_int_equal(errno, (error));         \
    } while (0)

/* How a child ended, and what it wrote (cut at the size). */
struct child {
    int status; /* of waitpid() */
    char out[4096], err[4096];
    size_t out_size, err_size; /* there may be zeroes in it */
};

static inline size_t child_read(FILE *file, char *text, size_t size)
{
    rewind(file);
    size_t used = fread(text, 1, size - 1, file);
    text[used] = '\0';
    fclose(file);
    return used;
}

/*
 * Runs fn(arg) in a child process, which ends with exit(fn's result) as a
 * return from main would; atexit functions run.  Killed after three minutes.
 */
static inline struct child run_child(int (*fn)(void *), void *arg)
{
    struct child child;
    FILE *out = tmpfile(), *err = tmpfile();
    assert_non_null(out);
    assert_non_null(err);
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        alarm(180);
        dup2(fileno(out), STDOUT_FILENO);
        dup2(fileno(err), STDERR_FILENO);
        exit(fn(arg));
    }
    assert_int_equal(waitpid(pid, &child.status, 0), pid);
    child.out_size = child_read(out, child.out, sizeof child.out);
    child.err_size = child_read(err, child.err, sizeof child.err);
    return child;
}

/* For a green: writes over the stack that another has left. */
static inline void *overwrite_stack(void *arg)
{
    volatile char bytes[4096];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)0xa5;
    return arg;
}

/* Two errors that the library itself never gives. */
#define E1 EDOM
#define E2 ERANGE

/* gcc's ThreadSanitizer dies of 8,128 greens at a time. */
#define FEW_FIBERS UNDER_TSAN

/*
 * What the greens of a test noted, in order, a space between: note() in a
 * body, assert_noted() on main, which then forgets it.
 */
static inline char *noted(void)
{
    static char text[8192];
    return text;
}

__attribute__((format(printf, 1, 2))) static inline void note(const char *format, ...)
{
    size_t used = strlen(noted());
    va_list args;
    if (used > 8000)
        return; /* enough to fail by */
    va_start(args, format);
    if (used > 0)
        noted()[used++] = ' ';
    vsnprintf(noted() + used, 8192 - used, format, args);
    va_end(args);
}

/* Notes its argument, a string: for clean-up. */
static inline void note_arg(void *arg)
{
    note("%s", (const char *)arg);
}

#define assert_noted(text)                  \
    do {                                    \
        assert_string_equal(noted(), text); \
        noted()[0] = '\0';                  \
    } while (0)

/* Whether a switch keeps the floating-point modes: green_fast.h does not (rule 15). */
#ifdef THROUGH_FAST_H
#define KEEPS_MODES 0
#else
#define KEEPS_MODES 1
#endif

/* A body that ends at once, with the value it is started with. */
static inline void *give_back(void *value)
{
    return value;
}

/* A body that is not to run: it would be noted. */
static inline void *never(void *value)
{
    note("ran");
    return value;
}

/* A body that hands every value back to its parent and dies of the first error. */
static inline void *echo(void *value)
{
    while (value != GREEN_FAILED)
        value = green_yield(value);
    return GREEN_FAILED;
}

/* What a test repeats so often natively, it repeats less under Valgrind or qemu. */
static inline int times(int native, int slow)
{
    return getenv("GREEN_TEST_SLOW") != NULL ? slow : native;
}

/*
 * The leak check.  With GREEN_TEST_LEAKS=n in the environment each test of a
 * program is repeated until what the process holds stands still: until three
 * times in a row nothing has grown.  After n times it fails, but if what is allocated alone
 * comes and goes, as with threads: if it was as little in some quarter as in the one before.
 */
struct testing_held {
    green_stats_t stats;
    long allocated, mappings, resident;
};

static inline struct testing_held testing_held(void)
{
    struct testing_held held;
    char text[128];
    memset(&held, 0, sizeof held);
    green_trim(0); /* what waits for the next green is no leak */
    green_stats(&held.stats, sizeof held.stats);
#if defined __GLIBC__ && (__GLIBC__ > 2 || __GLIBC_MINOR__ >= 33)
    held.allocated = (long)mallinfo2().uordblks;
#endif
    FILE *file = fopen("/proc/self/statm", "r");
    if (file != NULL && fgets(text, sizeof text, file) != NULL)
        held.resident = strtol(strchr(text, ' '), NULL, 10) * sysconf(_SC_PAGESIZE);
    if (file != NULL)
        fclose(file);
    file = fopen("/proc/self/maps", "r");
    for (int c; file != NULL && (c = getc(file)) != EOF;)
        held.mappings += c == '\n';
    if (file != NULL)
        fclose(file);
    return held;
}

/* A thread keeps a thousand blocks that are freed there, whoever made them: let it have them. */
static inline void testing_fill_caches(void)
{
    enum { ENOUGH = 1100 };
    static green_t *g[ENOUGH];
    const green_options_t options = { .stack_size = 16384, .flags = GREEN_NO_GUARD };
    for (int i = 0; i < ENOUGH; i++)
        g[i] = green_new_with(give_back, NULL, &options); /* never runs */
    for (int i = 0; i < ENOUGH; i++)
        green_free(g[i]);
    green_trim(0);
}

/* A page or two may come and go; a leak comes back each time. */
static inline int testing_has_grown(struct testing_held a, struct testing_held b)
{
    return b.stats.greens > a.stats.greens || b.stats.threads > a.stats.threads ||
           b.stats.stacks_live > a.stats.stacks_live || b.allocated > a.allocated ||
           b.stats.bytes_mapped > a.stats.bytes_mapped || b.mappings > a.mappings ||
           b.resident > a.resident + 16384;
}

static inline int testing_run(const struct CMUnitTest *tests, size_t count,
                              CMFixtureFunction setup, CMFixtureFunction teardown)
{
    const char *most = getenv("GREEN_TEST_LEAKS");
    if (most == NULL)
        return _cmocka_run_group_tests("tests", tests, count, setup, teardown);
    for (size_t i = 0; i < count; i++) {
        int still = 0, times = 0;
        testing_fill_caches();
        struct testing_held before, now = testing_held();
        long least[4] = {LONG_MAX, LONG_MAX, LONG_MAX, LONG_MAX};
        while (still < 3 && times++ < atoi(most)) {
            before = now;
            if (_cmocka_run_group_tests(tests[i].name, &tests[i], 1, setup, teardown) != 0)
                return 1;
            now = testing_held();
            still = testing_has_grown(before, now) ? 0 : still + 1;
            long *quarter = &least[4 * (times - 1) / atoi(most)];
            *quarter = now.allocated < *quarter ? now.allocated : *quarter;
        }
        struct testing_held all_else = before;
        all_else.allocated = now.allocated;
        int grows = least[0] < least[1] && least[1] < least[2] && least[2] < least[3];
        if (still < 3 && !grows && !testing_has_grown(all_else, now))
            still = 3;
        printf("%s: %s after %d times, %ld KiB resident, %ld bytes allocated\n",
               still == 3 ? "still" : "LEAKS", tests[i].name, times, now.resident >> 10,
               now.allocated);
        if (still < 3) {
            printf("the last time: greens %zu to %zu, threads %zu to %zu, stacks %zu to %zu, "
                   "bytes mapped %zu to %zu, mappings %ld to %ld, allocated %ld to %ld, "
                   "resident %ld to %ld\n",
                   before.stats.greens, now.stats.greens, before.stats.threads, now.stats.threads,
                   before.stats.stacks_live, now.stats.stacks_live, before.stats.bytes_mapped,
                   now.stats.bytes_mapped, before.mappings, now.mappings, before.allocated,
                   now.allocated, before.resident, now.resident);
            return 1;
        }
    }
    return 0;
}

/*
 * TEST(a_sentence) { ... } is a test.  TEST_WITH() has a setup and a teardown as well; each may
 * be NULL.  Tests register themselves before main(), and run in the order of the file.
 */
#define TEST(sentence) TEST_WITH(sentence, NULL, NULL)

#define TEST_WITH(sentence, setup, teardown)                                                    \
    static void sentence(void);                                                                 \
    static void testing_call_##sentence(void **state)                                           \
    {                                                                                           \
        (void)state;                                                                            \
        sentence();                                                                             \
    }                                                                                           \
    __attribute__((constructor)) static void testing_add_##sentence(void)                       \
    {                                                                                           \
        static struct testing_test test = {                                                     \
            { .name = #sentence, .test_func = testing_call_##sentence,                          \
              .setup_func = (setup), .teardown_func = (teardown) }, __COUNTER__, NULL           \
        };                                                                                      \
        testing_add(&test);                                                                     \
    }                                                                                           \
    static void sentence(void)

struct testing_test {
    struct CMUnitTest test;
    int place; /* in the file: constructors run in any order */
    struct testing_test *next;
};

static inline struct testing_test **testing_first(void)
{
    static struct testing_test *first;
    return &first;
}

static inline void testing_add(struct testing_test *test)
{
    struct testing_test **at = testing_first();
    while (*at != NULL && (*at)->place < test->place)
        at = &(*at)->next;
    test->next = *at;
    *at = test;
}

/* Runs them all, between this setup and this teardown: what main() returns. */
static inline int run_all_tests_between(CMFixtureFunction setup, CMFixtureFunction teardown)
{
    size_t count = 0, n = 0;
    for (struct testing_test *test = *testing_first(); test != NULL; test = test->next)
        count++;
    struct CMUnitTest *tests = calloc(count, sizeof *tests);
    if (count == 0 || tests == NULL) {
        fputs("there is no test to run\n", stderr);
        free(tests);
        return 1;
    }
    for (struct testing_test *test = *testing_first(); test != NULL; test = test->next)
        tests[n++] = test->test;
    int failed = testing_run(tests, count, setup, teardown);
    free(tests);
    return failed;
}

static inline int run_all_tests(void)
{
    return run_all_tests_between(NULL, NULL);
}

/* Holds in greens, threads and children, where cmocka's asserts must not jump: prints, aborts. */
#define must(expr) ((expr) ? (void)0 : must_failed(__FILE__, __LINE__, #expr))

_Noreturn static inline void must_failed(const char *file, int line, const char *expr)
{
    fprintf(stderr, "%s:%d: not so: %s (errno %d)\n", file, line, expr, errno);
    abort();
}

/* Runs fn(arg) in a thread of its own, to its end. */
static inline void *in_thread(void *(*fn)(void *), void *arg)
{
    pthread_t thread;
    void *result;
    must(pthread_create(&thread, NULL, fn, arg) == 0);
    must(pthread_join(thread, &result) == 0);
    return result;
}

/* A second thread that does, on its main green, what the first one has it do. */
struct helper {
    pthread_t thread;
    sem_t go, done;
    void (*fn)(void *); /* NULL: end the thread */
    void *arg;
};

static inline void *helper_loop(void *arg)
{
    struct helper *helper = arg;
    for (;;) {
        while (sem_wait(&helper->go) != 0)
            continue;
        if (helper->fn == NULL)
            return NULL;
        helper->fn(helper->arg);
        sem_post(&helper->done);
    }
}

static inline void helper_start(struct helper *helper)
{
    sem_init(&helper->go, 0, 0);
    sem_init(&helper->done, 0, 0);
    must(pthread_create(&helper->thread, NULL, helper_loop, helper) == 0);
}

/* Has it begin fn(arg), and waits until it is done. */
static inline void helper_begin(struct helper *helper, void (*fn)(void *), void *arg)
{
    helper->fn = fn;
    helper->arg = arg;
    sem_post(&helper->go);
}

static inline void helper_wait(struct helper *helper)
{
    while (sem_wait(&helper->done) != 0)
        continue;
}

static inline void helper_do(struct helper *helper, void (*fn)(void *), void *arg)
{
    helper_begin(helper, fn, arg);
    helper_wait(helper);
}

static inline void helper_end(struct helper *helper)
{
    helper_begin(helper, NULL, NULL);
    must(pthread_join(helper->thread, NULL) == 0);
    sem_destroy(&helper->go);
    sem_destroy(&helper->done);
}

#endif
