/* SPDX-License-Identifier: MIT */
/*
 * What AddressSanitizer is told (sanitizer/common_interface_defs.h): a stand-in
 * for it, which wants start before every switch, finish after it, on the stack
 * that was named, with what was saved for that stack, and nothing saved for one
 * that ends.
 */
#include "told.h"

#ifndef REAL_SANITIZER

/*
 * A stack is saved from its start to its finish.  Only the place of greens'
 * stacks is known; main stacks are given one that no green's can have.
 */
enum { SAVED = 1, RUNNING = 2 };
#define MAIN_LOW ((const char *)4096)
#define MAIN_SIZE ((size_t)12345)

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

void __sanitizer_start_switch_fiber(void **save, const void *low, size_t size);
void __sanitizer_finish_switch_fiber(void *saved, const void **low, size_t *size);
void __asan_unpoison_memory_region(const volatile void *low, size_t size);
void __lsan_register_root_region(const void *low, size_t size);
void __lsan_unregister_root_region(const void *low, size_t size);

void __sanitizer_start_switch_fiber(void **save, const void *low, size_t size)
{
    must(asan.starts++ == asan.finishes);
    must(low != NULL && size != 0);
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
}

void __lsan_register_root_region(const void *low, size_t size)
{
    must(((const volatile char *)low)[0] + ((const volatile char *)low)[size - 1] < 256); /* no guard */
    regions++;
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

static void stacks_are_four_times_as_large(void **state)
{
    (void)state;
    size_t size;
    green_t *g = green_new(give_back, NULL);
    green_stack(g, NULL, &size);
    assert_in_range(size, 4 * 262144, 4 * 262144 + 4096);
    must(green_free(g) == 0);
    told_all();
}

static void a_suspended_stack_is_a_root_and_a_dead_one_is_none(void **state)
{
    (void)state;
    green_t *g = green_new(echo, NULL);
    must(green_switch(g, NULL) == NULL);
    assert_int_equal(regions, 1);
    must(green_throw(g, 0) == NULL);
    assert_int_equal(regions, 0);
    must(green_free(g) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TOLD,
        cmocka_unit_test(stacks_are_four_times_as_large),
        cmocka_unit_test(a_suspended_stack_is_a_root_and_a_dead_one_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif
