/* SPDX-License-Identifier: MIT */
#ifndef CMOCKA_H
#define CMOCKA_H
/*
 * As much of cmocka as the tests use, for C libraries that cmocka is not
 * packaged for: with musl-gcc they are compiled with this header and linked
 * with no library.  An assertion that fails jumps out of its test.
 */
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int (*CMFixtureFunction)(void **state);

struct CMUnitTest {
    const char *name;
    void (*test_func)(void **state);
    CMFixtureFunction setup_func, teardown_func;
};

static jmp_buf cmocka_out; /* with 1: failed, 2: skipped */

#define cmocka_unit_test(f) {#f, f, NULL, NULL}
#define cmocka_unit_test_teardown(f, teardown) {#f, f, NULL, teardown}
#define cmocka_unit_test_setup_teardown(f, setup, teardown) {#f, f, setup, teardown}

#define print_message(...) printf(__VA_ARGS__)
#define print_error(...) fprintf(stderr, __VA_ARGS__)

#define fail_msg(...) (print_error("%s:%d: ", __FILE__, __LINE__), print_error(__VA_ARGS__), \
                       print_error("\n"), longjmp(cmocka_out, 1))
#define fail() fail_msg("failed")
#define skip() longjmp(cmocka_out, 2)

/* The macros that compare evaluate each argument once. */
static inline void cmocka_assert(int holds, const char *file, int line, const char *what,
                                 uintmax_t a, uintmax_t b)
{
    if (holds)
        return;
    print_error("%s:%d: not so: %s (%#jx, %#jx)\n", file, line, what, a, b);
    longjmp(cmocka_out, 1);
}

static inline void cmocka_compare(uintmax_t a, uintmax_t b, int equal, const char *file, int line,
                                  const char *what)
{
    cmocka_assert((a == b) == equal, file, line, what, a, b);
}

static inline void cmocka_range(uintmax_t value, uintmax_t low, uintmax_t high, const char *file,
                                int line, const char *what)
{
    cmocka_assert(low <= value && value <= high, file, line, what, value, low);
}

static inline void cmocka_strings(const char *a, const char *b, const char *file, int line)
{
    if (strcmp(a, b) == 0)
        return;
    print_error("%s:%d: \"%s\" is not \"%s\"\n", file, line, a, b);
    longjmp(cmocka_out, 1);
}

#define cmocka_value(x) ((uintmax_t)(x))
#define cmocka_pointer(x) ((uintmax_t)(uintptr_t)(x))

#define assert_true(x) cmocka_assert((x) ? 1 : 0, __FILE__, __LINE__, #x, 0, 0)
#define assert_false(x) cmocka_assert((x) ? 0 : 1, __FILE__, __LINE__, "not " #x, 0, 0)
#define assert_null(x) cmocka_compare(cmocka_pointer(x), 0, 1, __FILE__, __LINE__, #x " is NULL")
#define assert_non_null(x) cmocka_compare(cmocka_pointer(x), 0, 0, __FILE__, __LINE__, #x)
#define assert_int_equal(a, b) \
    cmocka_compare(cmocka_value(a), cmocka_value(b), 1, __FILE__, __LINE__, #a " == " #b)
#define assert_int_not_equal(a, b) \
    cmocka_compare(cmocka_value(a), cmocka_value(b), 0, __FILE__, __LINE__, #a " != " #b)
#define assert_ptr_equal(a, b) \
    cmocka_compare(cmocka_pointer(a), cmocka_pointer(b), 1, __FILE__, __LINE__, #a " == " #b)
#define assert_ptr_not_equal(a, b) \
    cmocka_compare(cmocka_pointer(a), cmocka_pointer(b), 0, __FILE__, __LINE__, #a " != " #b)
#define assert_in_range(x, low, high) \
    cmocka_range(cmocka_value(x), cmocka_value(low), cmocka_value(high), __FILE__, __LINE__, #x)
#define assert_string_equal(a, b) cmocka_strings(a, b, __FILE__, __LINE__)
#define assert_memory_equal(a, b, size) \
    cmocka_assert(memcmp(a, b, size) == 0, __FILE__, __LINE__, #a " holds " #b, 0, 0)

/* How many have failed; above 255 of no interest. */
static inline int _cmocka_run_group_tests(const char *name, const struct CMUnitTest *tests,
                                          size_t n, CMFixtureFunction setup,
                                          CMFixtureFunction teardown)
{
    static const char *const outcomes[] = {"       OK", "   FAILED", "  SKIPPED"};
    static void *state, *group;
    static volatile int failed;

    failed = 0;
    if (setup != NULL && setup(&group) != 0)
        return 1;
    for (volatile size_t i = 0; i < n; i++) {
        printf("[ RUN      ] %s\n", tests[i].name);
        fflush(stdout);
        state = group;
        volatile int outcome = 0;
        if (tests[i].setup_func != NULL && tests[i].setup_func(&state) != 0) {
            outcome = 1;
        } else {
            int out = setjmp(cmocka_out);
            if (out == 0)
                tests[i].test_func(&state);
            outcome = out;
            if (tests[i].teardown_func != NULL && tests[i].teardown_func(&state) != 0)
                outcome = 1;
        }
        printf("[%s ] %s\n", outcomes[outcome], tests[i].name);
        failed += outcome == 1;
    }
    if (teardown != NULL && teardown(&group) != 0)
        failed++;
    printf("[==========] %s: %zu tests, %d failed\n", name, n, failed);
    return failed;
}

#define cmocka_run_group_tests(tests, setup, teardown) \
    _cmocka_run_group_tests(#tests, tests, sizeof tests / sizeof tests[0], setup, teardown)

#endif
