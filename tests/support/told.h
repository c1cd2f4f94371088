/* SPDX-License-Identifier: MIT */
#ifndef TOLD_H
#define TOLD_H
/*
 * What sanitizers are told of stacks and switches: what greens do while a stand-in
 * for the sanitizer's interface takes part in it.  Each of the programs that
 * include this defines one such interface, checks every call, and says in
 * told_all() that nothing was left out.
 */
#include "testing.h"

#if SANITIZED
#define REAL_SANITIZER
#endif

#ifdef REAL_SANITIZER
int main(void)
{
    return skip_all_because("a real sanitizer is in the place of the one that is played here");
}
#else

static void told_all(void);

static void *exit_from_below(void *value)
{
    green_exit(green_yield(value));
}

static void *refuse_once(void *value)
{
    while (green_yield(value) != GREEN_FAILED)
        value = NULL;
    return green_yield(V(7));
}

static void *nest(void *value)
{
    green_t *g = green_new(give_back, NULL);
    must(green_switch(g, value) == value);
    must(green_free(g) == 0);
    return green_yield(value);
}

static void *free_another(void *g)
{
    must(green_free(g) == 0);
    return g;
}

TEST(moves_and_ends_are_told)
{
    green_t *g = green_new(echo, NULL), *h = green_new(nest, NULL);
    for (int i = 0; i < 10; i++) {
        must(green_switch(g, V(i)) == V(i));
        if (i == 5)
            must(green_switch(h, V(i)) == V(i));
    }
    must(green_free(g) == 0);
    must(green_switch(h, V(3)) == V(3));
    must(green_free(h) == 0);
    must((g = green_new(exit_from_below, NULL)) != NULL);
    must(green_switch(g, V(1)) == V(1));
    must(green_switch(g, V(2)) == V(2));
    must(green_free(g) == 0);
    told_all();
}

TEST(errors_are_told)
{
    green_t *g = green_new(refuse_once, NULL);
    must(green_switch(g, NULL) == NULL);
    assert_ptr_equal(green_throw(g, E1), V(7));
    assert_fails(green_throw(g, E2), E2);
    must(green_free(g) == 0);
    assert_fails(green_throw(green_main(), E1), E1);
    g = green_new(give_back, NULL);
    assert_fails(green_throw(g, E1), E1);
    must(green_free(g) == 0);
    told_all();
}

TEST(detached_ones_are_told)
{
    const green_options_t detached = { .flags = GREEN_DETACHED };
    for (int i = 0; i < 10; i++)
        must(green_switch(green_new_with(give_back, NULL, &detached), V(i)) == V(i));
    told_all();
}

TEST(the_abandoned_are_told)
{
    green_t *g = green_new(echo, NULL), *h = green_new(free_another, NULL);
    must(green_switch(g, NULL) == NULL);
    must(green_abandon(g) == 0);
    g = green_new(echo, NULL);
    must(green_switch(g, NULL) == NULL);
    must(green_switch(h, g) == g);
    must(green_free(h) == 0);
    must((g = green_new(echo, NULL)) != NULL);
    must(green_abandon(g) == 0);
    told_all();
}

static void *abandon_from_elsewhere(void *g)
{
    must(green_abandon(g) == 0);
    return NULL;
}

TEST(those_that_another_thread_has_abandoned_are_told)
{
    for (int started = 0; started < 2; started++) {
        green_t *g = green_new(echo, NULL);
        if (started)
            must(green_switch(g, NULL) == NULL);
        in_thread(abandon_from_elsewhere, g);
        green_trim((size_t)1 << 30);
    }
    told_all();
}

static void *abandon_the_other(void *g)
{
    must(green_abandon(g) == 0);
    return NULL;
}

TEST(a_green_may_abandon_another)
{
    green_t *g = green_new(echo, NULL), *h = green_new(abandon_the_other, NULL);
    must(green_switch(g, NULL) == NULL);
    must(green_switch(h, g) == NULL);
    must(green_free(h) == 0);
    told_all();
}

static void *leave_some(void *unused)
{
    (void)unused;
    static green_t *left[3]; /* static: greens of a thread that has ended are looked at no more */
    for (int i = 0; i < 3; i++)
        must(green_switch(left[i] = green_new(echo, NULL), NULL) == NULL);
    return left;
}

TEST(a_thread_that_leaves_some_is_told)
{
    green_t **left = in_thread(leave_some, NULL);
    for (int i = 0; i < 3; i++)
        must(green_free(left[i]) == 0);
    told_all();
}

static void *end_the_thread(void *value)
{
    pthread_exit(value);
}

static void *end_in_a_green(void *unused)
{
    (void)unused;
    const green_options_t detached = { .flags = GREEN_DETACHED };
    return green_switch(green_new_with(end_the_thread, NULL, &detached), NULL);
}

TEST(a_thread_that_ends_in_a_green_is_told)
{
    in_thread(end_in_a_green, NULL);
    told_all();
}

#endif
#endif
