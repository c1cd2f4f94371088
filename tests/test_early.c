/* SPDX-License-Identifier: MIT */
/*
 * The library before main() and after it: in constructors of any priority, the
 * library's own included, in .preinit_array, and in destructors.
 */
#include "testing.h"

/* In order. */
enum when { PREINIT, FIRST, SECOND, LAST, WHENS };
static int worked[WHENS];

/* Whether a green is made, runs, waits, ends and is released. */
static int works(void)
{
    green_t *g = green_new(echo, NULL);
    return g != NULL && green_switch(g, V(1)) == V(1) && green_free(g) == 0;
}

static __attribute__((constructor(101))) void first(void)
{
    worked[FIRST] = works();
}

static __attribute__((constructor(102))) void second(void)
{
    worked[SECOND] = works();
}

static __attribute__((constructor)) void last(void)
{
    worked[LAST] = works();
}

/* A sanitizer's own start may come later, and musl does not call what is there. */
#if defined(__GLIBC__) && !SANITIZED
#define HAS_PREINIT 1
static void preinit(void)
{
    worked[PREINIT] = works();
}

static __attribute__((section(".preinit_array"), used)) void (*const at_preinit)(void) = preinit;
#else
#define HAS_PREINIT 0
#endif

/* Not of the program itself: there main's greens may be what is searched for leaks. */
static int is_child;

static __attribute__((destructor(101))) void at_the_end(void)
{
    if (is_child)
        must(puts(works() ? "works" : "does not work") >= 0 && fflush(stdout) == 0);
}

TEST(it_works_in_constructors)
{
    assert_true(worked[FIRST]);
    assert_true(worked[SECOND]);
    assert_true(worked[LAST]);
}

TEST(it_works_before_them)
{
    if (!HAS_PREINIT)
        skip_because("there is no .preinit_array here, or a sanitizer starts later");
    assert_true(worked[PREINIT]);
}

static int end_at_once(void *unused)
{
    (void)unused;
    is_child = 1;
    return 0;
}

TEST(it_works_in_destructors)
{
    struct child child = run_child(end_at_once, NULL);
    assert_int_equal(child.status, 0);
    assert_string_equal(child.out, "works\n");
}

static int use_both(void *g)
{
    must(green_switch(g, V(2)) == V(2) && green_free(g) == 0);
    return !works();
}

/* That the library is told of forks was asked for before main(), once. */
TEST(and_a_child_of_fork_goes_on)
{
    if (UNDER_TSAN)
        skip_because("in a child ThreadSanitizer takes what fibers have done before for races");
    green_t *g = green_new(echo, NULL);
    assert_ptr_equal(green_switch(g, V(1)), V(1));
    assert_int_equal(run_child(use_both, g).status, 0);
    assert_int_equal(green_free(g), 0);
}

int main(void)
{
    return run_all_tests();
}
