/* SPDX-License-Identifier: MIT */
#ifndef TESTING_H
#define TESTING_H
/*
 * What the tests share: cmocka, and how a test that must die runs in a child.
 * A test file is a subject, a test's name a sentence.
 */
#include <errno.h>
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
};

static inline void child_read(FILE *file, char *text, size_t size)
{
    rewind(file);
    text[fread(text, 1, size - 1, file)] = '\0';
    fclose(file);
}

/*
 * Runs fn(arg) in a child process, which ends with exit(fn's result) as a
 * return from main would; atexit functions run.  Killed after 60 seconds.
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
        alarm(60);
        dup2(fileno(out), STDOUT_FILENO);
        dup2(fileno(err), STDERR_FILENO);
        exit(fn(arg));
    }
    assert_int_equal(waitpid(pid, &child.status, 0), pid);
    child_read(out, child.out, sizeof child.out);
    child_read(err, child.err, sizeof child.err);
    return child;
}

/* Two errors that the library itself never gives. */
#define E1 EDOM
#define E2 ERANGE

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

/* Valgrind looks at what write() is given, and at who holds memory when a child ends. */
static inline int under_valgrind(void)
{
    const char *preload = getenv("LD_PRELOAD");
    return getenv("RUNNING_ON_VALGRIND") != NULL ||
           (preload != NULL && strstr(preload, "vgpreload") != NULL);
}

#endif
