/* SPDX-License-Identifier: MIT */
/*
 * What MemorySanitizer is told (sanitizer/msan_interface.h): a stand-in for it,
 * which wants to know what the library has set through pointers and which
 * arguments it passes.  Whether the real one reports anything, tools/bugs.c asks.
 */
#include <green_fast.h>

#include "testing.h"

#if SANITIZED
int main(void)
{
    return skip_all_because("a real sanitizer is in the place of the one that is played here");
}
#else

static struct {
    const volatile void *low;
    size_t size;
} given[9];
static size_t ranges;

static size_t passed; /* arguments of the next call */
static int calls;

void __msan_unpoison(const volatile void *low, size_t size);
void __msan_unpoison_param(size_t count);

void __msan_unpoison(const volatile void *low, size_t size)
{
    if (ranges < sizeof given / sizeof given[0]) {
        given[ranges].low = low;
        given[ranges].size = size;
    }
    ranges++;
}

void __msan_unpoison_param(size_t count)
{
    must(passed == 0);
    passed = count;
}

/* What was told before, by others who have used the library, is no matter. */
static void begin(void)
{
    ranges = 0;
    passed = 0;
    calls = 0;
}

/* Of these bytes, and since the last time of no others. */
static void expect_given(size_t i, const void *low, size_t size)
{
    assert_true(i < ranges);
    assert_true(given[i].low == low);
    assert_int_equal(given[i].size, size);
    if (i == ranges - 1)
        ranges = 0;
}

static void expect_passed(size_t arguments)
{
    must(passed >= arguments);
    passed = 0;
    calls++;
}

TEST(what_comes_through_a_pointer_is_told)
{
    begin();
    green_stats_t stats;
    must(green_stats(&stats, sizeof stats) == 0);
    expect_given(0, &stats, sizeof stats);
    must(green_stats(&stats, 2 * sizeof(size_t)) == 0);
    expect_given(0, &stats, 2 * sizeof(size_t));

    void *low, *data;
    size_t size;
    green_stack(green_main(), &low, &size);
    expect_given(0, &low, sizeof low);
    expect_given(1, &size, sizeof size);
    green_stack(green_main(), &low, NULL);
    expect_given(0, &low, sizeof low);
    green_stack(NULL, NULL, &size);
    expect_given(0, &size, sizeof size);

    green_get_trace(&data);
    expect_given(0, &data, sizeof data);
    green_get_trace(NULL);

    green_key_t key;
    must(green_key_create(&key, NULL) == 0);
    expect_given(0, &key, sizeof key);
    must(green_key_delete(key) == 0);

    assert_int_equal(ranges, 0);
}

TEST(the_frames_that_were_found_are_told)
{
    begin();
    void *pcs[100];
    int n = green_backtrace(green_current(), pcs, 100);
    if (n == -1 && errno == ENOSYS)
        skip();
    assert_true(n > 0 && n < 100);
    expect_given(0, pcs, (size_t)n * sizeof *pcs);
}

static void *make_the_threads_first(void *unused)
{
    (void)unused;
    begin();
    green_t *g = green_new(give_back, NULL);
    must(ranges == 1 && given[0].low == g && given[0].size >= sizeof(struct green_private));
    must(green_free(g) == 0);
    return V(1);
}

TEST(what_is_read_inline_is_told)
{
    assert_non_null(in_thread(make_the_threads_first, NULL));
}

static void *body(void *value)
{
    expect_passed(1);
    return value;
}

static void take(void *value)
{
    (void)value;
    expect_passed(1);
}

static void *keep_and_defer(void *value)
{
    expect_passed(1);
    green_key_t *key = value;
    must(green_setspecific(*key, value) == 0);
    must(green_defer(take, value) == 0 && green_defer(take, value) == 0);
    must(green_undefer(1) == 0 && calls == 2);
    must(green_undefer(0) == 0 && calls == 2 && passed == 0);
    must(green_defer(take, value) == 0);
    return value;
}

TEST(a_body_a_clean_up_and_a_destructor_are_passed_arguments)
{
    begin();
    green_key_t key;
    must(green_key_create(&key, take) == 0);
    green_t *g = green_new(keep_and_defer, NULL);
    assert_ptr_equal(green_switch(g, &key), &key);
    assert_int_equal(calls, 4);
    assert_int_equal(passed, 0);
    must(green_free(g) == 0 && green_key_delete(key) == 0);
}

static void see(green_trace_event_t event, green_t *from, green_t *to, void *data)
{
    (void)event, (void)from, (void)to, (void)data;
    expect_passed(4);
}

static int count(green_t *g, void *arg)
{
    (void)g, (void)arg;
    expect_passed(2);
    return 0;
}

TEST(who_watches_is_passed_arguments)
{
    begin();
    green_t *g = green_new(body, NULL), *h = green_new(body, NULL);
    must(green_set_trace(see, NULL) == NULL);
    must(green_switch(g, NULL) == NULL);
    must(green_set_trace(NULL, NULL) == see);
    assert_int_equal(calls, 3); /* there, the body, and back */
    must(green_free(g) == 0);

    must(green_switch(h, NULL) == NULL && calls == 4);
    must(green_free(h) == 0);
    must((g = green_new(give_back, NULL)) != NULL && (h = green_new(echo, NULL)) != NULL);
    must(green_switch(h, NULL) == NULL);
    passed = 0; /* of a body that does not ask */
    calls = 0;
    must(green_each(count, NULL) == 0);
    assert_int_equal(calls, 2); /* main and h */
    must(green_free(g) == 0 && green_free(h) == 0);
}

int main(void)
{
    return run_all_tests();
}
#endif
