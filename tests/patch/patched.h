/* SPDX-License-Identifier: MIT */
#ifndef PATCHED_H
#define PATCHED_H
/*
 * What the tests of the hooks share: a hub with the patch on, and what is asked of every
 * call that waits.
 *
 *     PATCH_TEST(a_sentence) { ... }        in virtual time
 *     PATCH_WORLD_TEST(a_sentence) { ... }  in the world's
 */
#define _GNU_SOURCE
#include <green_patch.h>

#include "hubs.h"

#define PATCHED (GREEN_PATCH_WAIT | GREEN_PATCH_IO)

static inline int patched_begin(void **state)
{
    return hubs_begin_virtual(state) == 0 && green_patch(PATCHED) == 0 ? 0 : -1;
}

static inline int patched_begin_world(void **state)
{
    return hubs_begin_world(state) == 0 && green_patch(PATCHED) == 0 ? 0 : -1;
}

static inline int patched_end(void **state)
{
    assert_int_equal(green_patch(0), PATCHED);
    return hubs_end(state);
}

#define PATCH_TEST(sentence) TEST_WITH(sentence, patched_begin, patched_end)
#define PATCH_WORLD_TEST(sentence) TEST_WITH(sentence, patched_begin_world, patched_end)

/* Without the patch, for what a test has to see as it is. */
#define PLAINLY(expr) (must(green_patch(0) == PATCHED), (expr), must(green_patch(PATCHED) == 0))

/* A call that would wait for ever: 0 or the errno of what it says. */
struct call {
    const char *name;
    int (*make)(void);
};
#define CALL(name) {#name, make_##name}

struct made {
    const struct call *call;
    int errors[3], n;
};

static inline void *makes(void *arg)
{
    struct made *made = arg;
    for (int i = 0; i < 3; i++) {
        errno = 0;
        made->errors[i] = made->call->make();
        made->n++;
    }
    return NULL;
}

static inline void assert_error(const struct call *call, int error, int wanted)
{
    if (error != wanted)
        fail_msg("%s: %s, not %s", call->name, strerror(error), strerror(wanted));
}

/* In each others run meanwhile; a cancel ends it, and all that come later. */
static inline void assert_cancel_ends(const struct call *calls, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct made made = {.call = &calls[i]};
        green_task_t *task = spawn(makes, &made);
        nap(50);
        if (made.n != 0)
            fail_msg("%s does not wait: %s", calls[i].name, strerror(made.errors[0]));
        must_be_0(green_task_cancel(task));
        finish(task);
        for (int j = 0; j < 3; j++)
            assert_error(&calls[i], made.errors[j], ECANCELED);
    }
}

/* The end of a scope ends it, and all that come later in the scope. */
static inline void assert_scope_ends(const struct call *calls, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct made made = {.call = &calls[i]};
        int64_t begin = green_now();
        green_scope_t limit;
        must_be_0(green_scope_begin(&limit, GREEN_MS(100), 0));
        makes(&made);
        assert_int_equal(green_scope_end(&limit), 1);
        for (int j = 0; j < 3; j++)
            assert_error(&calls[i], made.errors[j], ETIMEDOUT);
        assert_true(green_now() - begin >= GREEN_MS(100));
    }
}

#define COUNT(list) (sizeof(list) / sizeof *(list))

#endif
