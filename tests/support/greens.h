/* SPDX-License-Identifier: MIT */
#ifndef GREENS_H
#define GREENS_H
/*
 * Greens in the states that a test wants to find them in, and their release.
 */
#include "testing.h"

/* A body that dies of its value, an errno. */
static inline void *die_of(void *value)
{
    errno = (int)(intptr_t)value;
    return GREEN_FAILED;
}

static inline green_t *named(const char *name, green_fn *run, green_t *parent)
{
    const green_options_t options = {.name = name};
    green_t *g = green_new_with(run, parent, &options);
    assert_non_null(g);
    return g;
}

/* Puts g under parent, or if that is NULL under the current green. */
static inline green_t *put_under(green_t *g, green_t *parent)
{
    assert_int_equal(green_set_parent(g, parent != NULL ? parent : green_current()), 0);
    return g;
}

/* Has g, a NEW one under the current green, yield the value; now it waits, under parent. */
static inline green_t *suspend(green_t *g, void *value, green_t *parent)
{
    assert_ptr_equal(green_switch(g, value), value);
    put_under(g, parent);
    assert_int_equal(green_state(g), GREEN_SUSPENDED);
    return g;
}

/* Has g, a NEW one under the current green, return the value; now it is dead, under parent. */
static inline green_t *finish(green_t *g, void *value, green_t *parent)
{
    assert_ptr_equal(green_switch(g, value), value);
    put_under(g, parent);
    assert_int_equal(green_state(g), GREEN_DEAD);
    return g;
}

static inline green_t *dead(green_t *parent)
{
    return finish(green_new(give_back, NULL), NULL, parent);
}

/* Releases each of them, first to last. */
#define free_all(...)                                              \
    do {                                                           \
        green_t *all_[] = {__VA_ARGS__};                           \
        for (size_t i_ = 0; i_ < sizeof all_ / sizeof *all_; i_++) \
            assert_int_equal(green_free(all_[i_]), 0);             \
    } while (0)

#endif
