/* SPDX-License-Identifier: MIT */
/*
 * What AddressSanitizer is told (sanitizer/common_interface_defs.h): a stand-in
 * for it, which wants start before every switch, finish after it, on the stack
 * that was named, with what was saved for that stack, and nothing saved for one
 * that ends.
 */
#define _GNU_SOURCE
#include "told.h"
#include "unwind_gap.h"

#ifndef REAL_SANITIZER

/*
 * A stack is saved from its start to its finish.  The library knows only from
 * here where main stacks are.
 */
enum { SAVED = 1, RUNNING = 2 };
#define MAIN_LOW main_low()
#define MAIN_SIZE main_size
static _Thread_local size_t main_size;

static const char *main_low(void)
{
    static _Thread_local void *low;
    pthread_attr_t attributes;
    if (low == NULL) {
        must(pthread_getattr_np(pthread_self(), &attributes) == 0);
        must(pthread_attr_getstack(&attributes, &low, &main_size) == 0);
        pthread_attr_destroy(&attributes);
    }
    return low;
}

static _Thread_local struct {
    int saves[100000];      /* what there is of each save: SAVED, or 0 */
    const char *low;        /* the stack that was named by start, until finish */
    size_t size;
    const char *here;       /* the stack that runs; NULL: main's */
    size_t here_size;
    int starts, finishes;
} asan;

static int suspended; /* saves that wait to be finished, of all threads */
static int next_save = 1;
static int regions, unpoisoned;
static const char *watched_low; /* a stack: how often was all of it unpoisoned? */
static size_t watched_size;
static int watched;
static const char *last_region;
static size_t last_size;

void __sanitizer_start_switch_fiber(void **save, const void *low, size_t size);
void __sanitizer_finish_switch_fiber(void *saved, const void **low, size_t *size);
void __asan_unpoison_memory_region(const volatile void *low, size_t size);
void __lsan_register_root_region(const void *low, size_t size);
void __lsan_unregister_root_region(const void *low, size_t size);

void __sanitizer_start_switch_fiber(void **save, const void *low, size_t size)
{
    must(asan.starts++ == asan.finishes);
    must(low != NULL && size != 0);
    errno = ENOSYS; /* it may call the system, as may all of them */
    if (save != NULL) {
        asan.saves[next_save] = SAVED;
        *save = V(next_save++);
        suspended++;
    }
    asan.low = low;
    asan.size = size;
}

void __sanitizer_finish_switch_fiber(void *saved, const void **low, size_t *size)
{
    char local;
    errno = ENOSYS;
    must(++asan.finishes == asan.starts);
    must(asan.low == MAIN_LOW ? asan.size == MAIN_SIZE
                              : (size_t)(&local - asan.low) < asan.size);
    if (saved != NULL) {
        must(asan.saves[(intptr_t)saved] == SAVED);
        asan.saves[(intptr_t)saved] = 0;
        suspended--;
    }
    *low = asan.here != NULL ? asan.here : MAIN_LOW;
    *size = asan.here != NULL ? asan.here_size : MAIN_SIZE;
    asan.here = asan.low != MAIN_LOW ? asan.low : NULL;
    asan.here_size = asan.size;
}

void __asan_unpoison_memory_region(const volatile void *low, size_t size)
{
    must(low != NULL && size != 0);
    unpoisoned++;
    watched += low == watched_low && size == watched_size;
}

void __lsan_register_root_region(const void *low, size_t size)
{
    if (!under_valgrind()) /* no guard, but what is below a stack pointer */
        must(((const volatile char *)low)[0] + ((const volatile char *)low)[size - 1] < 256);
    regions++;
    last_region = low;
    last_size = size;
}

void __lsan_unregister_root_region(const void *low, size_t size)
{
    must(low != NULL && size != 0);
    regions--;
}

static void told_all(void)
{
    assert_true(asan.starts > 0);
    assert_int_equal(asan.starts, asan.finishes);
    assert_null(asan.here);
    assert_int_equal(suspended, 0);
    assert_int_equal(regions, 0);
    assert_true(unpoisoned > 0);
}

TEST(stacks_are_four_times_as_large)
{
    size_t size;
    green_t *g = green_new(give_back, NULL);
    green_stack(g, NULL, &size);
    assert_in_range(size, 4 * 262144, 4 * 262144 + 4096);
    must(green_free(g) == 0);
    told_all();
}

static void *see_roots(void *frame_of_main)
{
    must(regions == 2); /* this stack and main's frames */
    must((size_t)((const char *)frame_of_main - last_region) < last_size);
    must(last_region + last_size == main_low() + main_size && last_size < main_size);
    return NULL;
}

TEST(mains_frames_are_roots_while_it_waits)
{
    green_t *g = green_new(see_roots, NULL);
    must(green_switch(g, HERE) == NULL);
    assert_int_equal(regions, 0);
    must(green_free(g) == 0);
}

TEST(a_suspended_stack_is_a_root_and_a_dead_one_is_none)
{
    green_t *g = green_new(echo, NULL);
    must(green_switch(g, NULL) == NULL);
    assert_int_equal(regions, 1);
    must(green_throw(g, 0) == NULL);
    assert_int_equal(regions, 0);
    must(green_free(g) == 0);
}

/* Before they are unwound, and when the others are left at once. */
static void see_it_unpoisoned(void *unused)
{
    (void)unused;
    must(watched == 2);
}

static void *exit_over_a_frame(void *value)
{
    void *low;
    must(green_defer(see_it_unpoisoned, NULL) == 0);
    green_stack(green_current(), &low, &watched_size);
    watched_low = low;
    watched = 0;
    call_without_unwind_data(green_exit, value);
    return NULL;
}

TEST(what_frames_that_are_left_have_poisoned_is_unpoisoned)
{
    green_t *g = green_new(exit_over_a_frame, NULL);
    must(green_switch(g, V(1)) == V(1));
    must(green_free(g) == 0);
}

static void exit_in_it(void *value)
{
    watched = 0;
    call_without_unwind_data(green_exit, value);
}

static void *return_to_one_that_exits(void *value)
{
    void *low;
    must(green_defer(see_it_unpoisoned, NULL) == 0);
    must(green_defer(exit_in_it, value) == 0);
    green_stack(green_current(), &low, &watched_size);
    watched_low = low;
    return NULL;
}

TEST(so_is_what_those_of_a_deferred_function_have_that_exits)
{
    green_t *g = green_new(return_to_one_that_exits, NULL);
    must(green_switch(g, V(1)) == V(1));
    must(green_free(g) == 0);
}

static void *be_watched_and_end_the_thread(void *value)
{
    watched_low = main_low();
    watched_size = main_size;
    watched = 0;
    call_without_unwind_data(pthread_exit, value); /* over which no unwinding gets to main */
    return NULL;
}

static void *end_the_thread_in_a_green(void *unused)
{
    (void)unused;
    const green_options_t detached = { .flags = GREEN_DETACHED };
    return green_switch(green_new_with(be_watched_and_end_the_thread, NULL, &detached), NULL);
}

TEST(so_is_what_main_has_where_its_thread_ends_in_a_green)
{
    in_thread(end_the_thread_in_a_green, NULL);
    must(watched > 0);
}

#ifdef __GLIBC__ /* others do not unwind there */
/* Clean-up that asks who is current may have variables on the fake stack of the one that was. */
static void ask(const int *saved)
{
    green_stack(green_current(), NULL, NULL);
    must(suspended == *saved);
}

static void *end_the_thread_below(void *unused)
{
    __attribute__((cleanup(ask), unused)) int mains_and_the_ended_ones = 2;
    return end_in_a_green(unused);
}

static void *end_the_thread_two_below(void *end)
{
    const green_options_t detached = { .flags = GREEN_DETACHED };
    __attribute__((cleanup(ask), unused)) int the_last_ended_ones = 1;
    return green_switch(green_new_with(*(green_fn **)end, NULL, &detached), NULL);
}

TEST(what_it_has_of_one_that_is_unwound_stays_for_the_clean_up)
{
    green_fn *ways[] = { end_the_thread_below, end_in_a_green, end_the_thread };
    for (int i = 0; i < 3; i++) {
        in_thread(end_the_thread_two_below, &ways[i]);
        told_all();
    }
}

/* Frames between the one that goes on and those that were left have poisoned what is theirs. */
static void see_all_unpoisoned(const char *const *low)
{
    must(watched_low == *low && watched > 0);
}

static void *be_watched_above_the_end(void *unused)
{
    const green_options_t detached = { .flags = GREEN_DETACHED };
    green_t *g = green_new_with(end_the_thread, NULL, &detached);
    void *own;
    green_stack(green_current(), &own, &watched_size);
    __attribute__((cleanup(see_all_unpoisoned), unused)) const char *low = own;
    if (green_current() == green_main()) {
        low = main_low();
        watched_size = main_size;
    }
    watched_low = low;
    watched = 0;
    (void)green_switch(g, NULL);
    return unused;
}

TEST(where_unwinding_goes_on_all_is_unpoisoned_before_clean_up)
{
    green_fn *in_a_green = be_watched_above_the_end;
    in_thread(be_watched_above_the_end, NULL);
    in_thread(end_the_thread_two_below, &in_a_green);
    told_all();
}
#endif

int main(void)
{
    return run_all_tests();
}
#endif
