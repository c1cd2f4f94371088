/* SPDX-License-Identifier: MIT */
/*
 * green_stats(): what is counted, and when it is counted no more.
 */
#include "testing.h"

static green_stats_t now(void)
{
    green_stats_t stats;
    must(green_stats(&stats, sizeof stats) == 0);
    return stats;
}

TEST(a_green_counts_until_its_handle_is_released)
{
    green_main();
    green_stats_t before = now();
    green_t *g = green_new(echo, NULL), *dead = green_new(give_back, NULL);
    assert_int_equal(now().greens, before.greens + 2);
    green_switch(g, NULL);
    green_switch(dead, NULL);
    assert_int_equal(now().greens, before.greens + 2);
    assert_int_equal(green_free(dead), 0);
    assert_int_equal(now().greens, before.greens + 1);
    assert_int_equal(green_free(g), 0);
    assert_int_equal(now().greens, before.greens);
}

TEST(a_detached_green_counts_until_its_death)
{
    const green_options_t options = { .flags = GREEN_DETACHED };
    green_stats_t before = now();
    green_t *g = green_new_with(echo, NULL, &options);
    green_switch(g, NULL);
    assert_int_equal(now().greens, before.greens + 1);
    green_throw(g, 0);
    assert_int_equal(now().greens, before.greens);
}

/* A block that is kept for its children's sake is nobody's leak. */
TEST(a_released_green_does_not_count_for_its_children)
{
    green_stats_t before = now();
    green_t *parent = green_new(echo, NULL), *child = green_new(echo, parent);
    assert_int_equal(green_free(parent), 0);
    assert_int_equal(now().greens, before.greens + 1);
    assert_int_equal(green_free(child), 0);
    assert_int_equal(now().greens, before.greens);
}

TEST(a_stack_is_live_until_its_green_is_dead)
{
    static _Alignas(16) char memory[32768];
    const green_options_t lent = { .stack = memory, .stack_size = sizeof memory };
    green_trim(0);
    green_stats_t before = now();
    green_t *g = green_new(echo, NULL), *on_lent = green_new_with(echo, NULL, &lent);
    assert_int_equal(now().stacks_live, before.stacks_live + 1);
    assert_true(now().bytes_mapped >= 256 * 1024 + 65536);
    green_switch(g, NULL);
    green_switch(on_lent, NULL);
    assert_int_equal(now().stacks_cached, 0);
    green_throw(g, 0);
    green_throw(on_lent, 0);
    assert_int_equal(now().stacks_live, before.stacks_live);
    assert_int_equal(now().stacks_cached, STRESSED ? 0 : 1);
    assert_int_equal(green_free(g), 0);
    assert_int_equal(green_free(on_lent), 0);
    green_trim(0);
    assert_int_equal(now().stacks_cached, 0);
    assert_int_equal(now().bytes_mapped, before.bytes_mapped);
}

static void *use_the_library(void *thread_count)
{
    *(size_t *)thread_count = now().threads; /* looking is no use */
    green_main();
    return V(now().threads);
}

TEST(threads_count_from_their_first_use_to_their_end)
{
    green_main();
    size_t before = now().threads, unused;
    assert_int_equal(before, 1);
    for (int i = 0; i < 3; i++) {
        assert_ptr_equal(in_thread(use_the_library, &unused), V(before + 1));
        assert_int_equal(unused, before);
    }
    assert_int_equal(now().threads, before);
}

static green_t *left[3];

static void *leave_greens(void *unused)
{
    (void)unused;
    for (int i = 0; i < 3; i++)
        left[i] = green_new(echo, NULL);
    green_switch(left[1], NULL);
    return NULL;
}

static void *free_them(void *unused)
{
    (void)unused;
    for (int i = 0; i < 3; i++)
        must(green_free(left[i]) == 0);
    return NULL;
}

TEST(what_one_thread_makes_another_may_release)
{
    green_stats_t before = now();
    in_thread(leave_greens, NULL);
    assert_int_equal(now().greens, before.greens + 3);
    assert_int_equal(now().stacks_live, before.stacks_live + 2);
    in_thread(free_them, NULL);
    assert_int_equal(now().greens, before.greens);
    assert_int_equal(now().stacks_live, before.stacks_live);
}

TEST(no_more_is_written_than_was_asked_for)
{
    green_t *g = green_new(echo, NULL);
    size_t fields[sizeof(green_stats_t) / sizeof(size_t) + 2];
    for (size_t n = 0; n <= sizeof fields; n++) {
        memset(fields, 0xee, sizeof fields);
        assert_int_equal(green_stats((green_stats_t *)fields, n), 0);
        const unsigned char *bytes = (const unsigned char *)fields;
        for (size_t i = n; i < sizeof fields; i++)
            assert_int_equal(bytes[i], 0xee);
        for (size_t i = sizeof(green_stats_t); i < n; i++)
            assert_int_equal(bytes[i], 0);
        if (n >= sizeof(size_t))
            assert_int_equal(fields[0], 1);
    }
    assert_int_equal(green_free(g), 0);
}

TEST(nowhere_to_write_is_einval)
{
    assert_refused(green_stats(NULL, sizeof(green_stats_t)), EINVAL);
    assert_refused(green_stats(NULL, 0), EINVAL);
}

static int looked;

static void look(green_trace_event_t event, green_t *from, green_t *to, void *data)
{
    (void)event, (void)from, (void)to, (void)data;
    looked += now().greens == 1;
}

TEST(a_hook_may_ask)
{
    green_t *g = green_new(give_back, NULL);
    looked = 0;
    green_set_trace(look, NULL);
    green_switch(g, NULL);
    green_set_trace(NULL, NULL);
    assert_int_equal(looked, 2);
    assert_int_equal(green_free(g), 0);
}

TEST(what_could_not_be_made_does_not_count)
{
    const green_options_t huge = { .stack_size = (size_t)1 << 58 };
    green_stats_t before = now();
    for (int i = 0; i < 100; i++) {
        green_t *g = green_new_with(echo, NULL, &huge);
        must(g == NULL ? errno == ENOMEM : green_free(g) == 0);
    }
    green_stats_t after = now();
    assert_int_equal(after.greens, before.greens);
    assert_int_equal(after.stacks_live, before.stacks_live);
}

int main(void)
{
    return run_all_tests();
}
