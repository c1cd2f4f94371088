/* SPDX-License-Identifier: MIT */
/*
 * What ThreadSanitizer is told (sanitizer/tsan_interface.h): a stand-in for it,
 * which wants a fiber for every stack, told of before every switch, and
 * destroyed once, from another one.
 */
#include "told.h"

#ifndef REAL_SANITIZER

enum { NONE, THREADS, ALIVE };

static char fibers[100000]; /* what each number is */
static int made, alive;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local int current;
static _Thread_local int switches;

void *__tsan_get_current_fiber(void);
void *__tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void *fiber);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);

static int make(char what)
{
    pthread_mutex_lock(&lock);
    int fiber = ++made;
    fibers[fiber] = what;
    alive += what == ALIVE;
    pthread_mutex_unlock(&lock);
    return fiber;
}

void *__tsan_get_current_fiber(void)
{
    if (current == 0)
        current = make(THREADS);
    return V(current);
}

void *__tsan_create_fiber(unsigned flags)
{
    must(flags == 0);
    return V(make(ALIVE));
}

void __tsan_destroy_fiber(void *fiber)
{
    pthread_mutex_lock(&lock);
    must(fibers[(intptr_t)fiber] == ALIVE && (intptr_t)fiber != current);
    fibers[(intptr_t)fiber] = NONE;
    alive--;
    pthread_mutex_unlock(&lock);
}

void __tsan_switch_to_fiber(void *fiber, unsigned flags)
{
    must(flags == 0); /* it orders what happens before and after */
    must(fibers[(intptr_t)fiber] != NONE);
    current = (int)(intptr_t)fiber;
    switches++;
}

static void told_all(void)
{
    assert_true(switches > 0);
    assert_int_equal(fibers[current], THREADS);
    assert_int_equal(alive, 0);
}

static int of_whom[3];

static void *say_where(void *value)
{
    for (;;) {
        of_whom[(intptr_t)value] = current;
        if ((value = green_yield(NULL)) == GREEN_FAILED)
            return GREEN_FAILED;
    }
}

TEST(every_green_runs_in_a_fiber_of_its_own)
{
    green_t *g = green_new(say_where, NULL), *h = green_new(say_where, NULL);
    int mine = (int)(intptr_t)__tsan_get_current_fiber();
    for (int i = 0; i < 2; i++) {
        must(green_switch(g, V(1)) == NULL && current == mine);
        must(green_switch(h, V(2)) == NULL && current == mine);
        if (i == 0)
            of_whom[0] = of_whom[1];
    }
    assert_int_equal(of_whom[0], of_whom[1]);
    assert_int_not_equal(of_whom[1], of_whom[2]);
    assert_int_not_equal(of_whom[1], mine);
    must(green_free(g) == 0 && green_free(h) == 0);
    told_all();
}

int main(void)
{
    return run_all_tests();
}
#endif
