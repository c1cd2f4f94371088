/* SPDX-License-Identifier: MIT */
/*
 * Every callee-saved register, integer and floating-point, the floating-point
 * control among them, is kept across every kind of switch (rule 15).
 * test_registers.S fills them with patterns and reads them back.
 */
#include "registers.h"

#define assert_kept(n)                  \
    do {                                \
        assert_int_equal(calls, n);     \
        assert_int_equal(changed, 0);   \
        calls = changed = 0;            \
    } while (0)

/* ---- Both sides --------------------------------------------------------- */

enum { ROUNDS = 5000 };

static green_t *sides[2];

static void *switch_to_the_other_side(void *value)
{
    int me = value == sides;
    for (int i = 0; i < ROUNDS; i++)
        call_switch(sides[!me], &sides[me]);
    return NULL;
}

TEST(ten_thousand_switches_keep_every_register_on_both_sides)
{
    for (int i = 0; i < 2; i++)
        sides[i] = green_new(switch_to_the_other_side, NULL);
    assert_null(green_switch(sides[0], &sides[1])); /* ends first */
    assert_null(green_switch(sides[1], &sides[0]));
    assert_kept(2 * ROUNDS);
    assert_int_equal(green_free(sides[0]), 0);
    assert_int_equal(green_free(sides[1]), 0);
}

static void *yield_often(void *value)
{
    for (int i = 0; i < ROUNDS; i++)
        value = call_yield(value);
    return value;
}

TEST(ten_thousand_yields_keep_every_register_on_both_sides)
{
    green_t *g = green_new(yield_often, NULL);
    for (int i = 0; i <= ROUNDS; i++)
        assert_ptr_equal(call_switch(g, V(i)), V(i));
    assert_kept(2 * ROUNDS + 1);
    assert_int_equal(green_state(g), GREEN_DEAD);
    assert_int_equal(green_free(g), 0);
}

static void *throw_often(void *value)
{
    for (int i = 0; i < ROUNDS; i++)
        if (call_throw(green_main(), E2) != GREEN_FAILED || errno != E1)
            return GREEN_FAILED;
    return value;
}

TEST(ten_thousand_throws_keep_every_register_on_both_sides)
{
    green_t *g = green_new(throw_often, NULL);
    assert_fails(call_switch(g, V(1)), E2);
    for (int i = 1; i < ROUNDS; i++)
        assert_fails(call_throw(g, E1), E2);
    assert_ptr_equal(call_throw(g, E1), V(1));
    assert_kept(2 * ROUNDS + 1);
    assert_int_equal(green_free(g), 0);
}

static void *call_and_die(void *value)
{
    call((void (*)(void))do_nothing, value, value);
    return value;
}

static void *call_and_fail(void *value)
{
    call((void (*)(void))do_nothing, value, value);
    errno = E1;
    return GREEN_FAILED;
}

static void *call_and_exit(void *value)
{
    call((void (*)(void))green_exit, value, NULL);
    return NULL;
}

TEST(starts_and_deaths_keep_every_register)
{
    for (int i = 0; i < times(1000, 100); i++) {
        green_t *p = green_new(call_and_die, NULL), *c = green_new(call_and_die, p);
        assert_ptr_equal(call_switch(c, V(i)), V(i)); /* by two starts and deaths */
        assert_int_equal(green_free(c), 0);
        assert_int_equal(green_free(p), 0);
        green_t *f = green_new(call_and_fail, NULL), *n = green_new(call_and_die, NULL);
        assert_fails(call_switch(f, V(i)), E1);
        assert_fails(call_throw(n, E2), E2); /* dies unrun */
        assert_int_equal(green_free(f), 0);
        assert_int_equal(green_free(n), 0);
        green_t *x = green_new(call_and_exit, NULL);
        assert_ptr_equal(call_switch(x, V(i)), V(i));
        assert_int_equal(green_free(x), 0);
        assert_kept(3 + 2 + 1 + 1);
    }
}

static void *free_other(void *value)
{
    return V(call((void (*)(void))green_free, value, NULL) == NULL);
}

TEST(a_free_keeps_every_register)
{
    green_t *g = green_new(yield_often, NULL), *h = green_new(free_other, NULL);
    assert_ptr_equal(call_switch(g, V(1)), V(1));
    assert_ptr_equal(call_switch(h, g), V(1));
    calls = 0; /* g's calls went on failing to yield to the one that frees it */
    assert_int_equal(changed, 0);
    assert_int_equal(green_free(h), 0);
}

TEST(the_same_holds_with_a_trace_hook)
{
    green_set_trace(ignore, NULL);
    ten_thousand_switches_keep_every_register_on_both_sides();
    ten_thousand_yields_keep_every_register_on_both_sides();
    ten_thousand_throws_keep_every_register_on_both_sides();
    starts_and_deaths_keep_every_register();
    green_set_trace(NULL, NULL);
}

/* ---- The start ---------------------------------------------------------- */

static uint64_t entry[MOST];

/* Starts a green with random control words; its entry's are compared. */
static void *start_with(void *g, void *words)
{
    return green_switch(g, words);
}

TEST(a_green_starts_aligned_and_with_the_control_words_of_its_starter)
{
    uint64_t in[MOST] = {0}, out[MOST] = {0};
    for (int i = 0; i < 1000; i++) {
        void *low;
        size_t size;
        green_t *g = green_new(registers_entry, NULL);
        green_stack(g, &low, &size);
        for (uint32_t w = 0; w < registers_count; w++)
            in[w] = (next_random() & registers_mask[w] & settable[w]) | registers_base[w];
        memset(entry, 0, sizeof entry);
        void *result = registers_call((void (*)(void))start_with, g, entry, in, out);
        assert_ptr_equal(result, entry);
        assert_int_equal(entry[0] % 16, 0);
        assert_in_range(entry[0], (uintptr_t)low, (uintptr_t)low + size);
        for (uint32_t w = registers_control; w < registers_count; w++)
            assert_int_equal(entry[1 + w - registers_control] & registers_mask[w] & settable[w],
                             in[w] & registers_mask[w] & settable[w]);
        assert_int_equal(green_free(g), 0);
    }
}

int main(void)
{
    return run_all_tests_between(find_settable_bits, NULL);
}
