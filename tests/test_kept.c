/* SPDX-License-Identifier: MIT */
/*
 * What stays in its place across switches: locals, which others may write to
 * (rule 16), and the stack pointer, wherever the stacks lie.
 */
#include "testing.h"

/* ---- Locals ------------------------------------------------------------- */

enum { WORDS = 100 };

/* Lends its locals, deep in a recursion, and returns their sum. */
static void *lend_locals(void *value, int depth)
{
    int words[WORDS];
    if (depth > 0) {
        words[0] = depth;
        value = lend_locals(value, depth - 1);
        return V((intptr_t)value + words[0]);
    }
    memset(words, 0, sizeof words);
    green_yield(words);
    intptr_t sum = 0;
    for (int i = 0; i < WORDS; i++)
        sum += words[i];
    return V(sum);
}

static void *lend_locals_10_deep(void *value)
{
    return lend_locals(value, 10);
}

/* Writes through its value, and lends locals of its own. */
static void *write_and_lend(void *value)
{
    int own = 0;
    for (int i = 0; i < WORDS; i++)
        ((int *)value)[i] += i;
    green_yield(&own);
    return V(own);
}

TEST(another_green_may_write_to_a_suspended_greens_locals)
{
    green_t *g = green_new(lend_locals_10_deep, NULL), *h = green_new(write_and_lend, NULL);
    int *words = green_switch(g, NULL);
    words[0] = 1000; /* by main, */
    int *own = green_switch(h, words); /* by h, */
    *own = 42;
    assert_ptr_equal(green_switch(g, NULL), V(1000 + WORDS * (WORDS - 1) / 2 + 55));
    assert_ptr_equal(green_switch(h, NULL), V(42));
    int mains[WORDS] = {0};
    green_t *k = green_new(write_and_lend, NULL);
    own = green_switch(k, mains); /* and to main's */
    assert_int_equal(mains[WORDS - 1], WORDS - 1);
    assert_int_equal(green_free(g), 0);
    assert_int_equal(green_free(h), 0);
    assert_int_equal(green_free(k), 0);
}

/* ---- The place on the stack --------------------------------------------- */

static __attribute__((noinline)) uintptr_t place(void)
{
    return (uintptr_t)__builtin_frame_address(0);
}

struct hand {
    green_t *self, *other;
    long count;
    size_t first_use, last_use;     /* of the other's stack, as it waits */
    uintptr_t first_place, last_place;
};

static long hand_offs;

static void *hand_over(void *value)
{
    struct hand *hand = value;
    hand->first_place = place();
    while (hand->count > 0) {
        hand->count--;
        hand_offs++;
        green_switch(hand->other, value);
        if (hand->first_use == 0)
            hand->first_use = green_stack_used(hand->other);
        if (green_state(hand->other) == GREEN_SUSPENDED)
            hand->last_use = green_stack_used(hand->other);
    }
    hand->last_place = place();
    return value;
}

/* Each is entered with its own hand the first time, and does not look at it later. */
static void *start_other_hand(void *value)
{
    struct hand *hands = value;
    green_switch(hands[1].self, &hands[1]);
    return hand_over(&hands[0]);
}

TEST(ten_million_hand_offs_leave_the_stack_where_it_was)
{
    long each = times(5000000, 100000);
    struct hand hands[2] = {{.count = each}, {.count = each}};
    hands[0].self = hands[1].other = green_new(start_other_hand, NULL);
    hands[1].self = hands[0].other = green_new(hand_over, NULL);
    hand_offs = 0;
    void *low;
    size_t size;
    green_stack(hands[0].self, &low, &size);
    uintptr_t before = place();
    green_switch(hands[0].self, hands);
    for (int i = 0; i < 2; i++)
        if (green_state(hands[i].self) == GREEN_SUSPENDED)
            green_switch(hands[i].self, NULL);
    assert_int_equal(place(), before);
    assert_int_equal(hand_offs, 2 * each);
    assert_in_range(hands[0].first_place, (uintptr_t)low, (uintptr_t)low + size);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(green_state(hands[i].self), GREEN_DEAD);
        assert_int_equal(hands[i].first_place, hands[i].last_place);
        assert_true(hands[i].first_use > 0 && hands[i].first_use < 4096);
        assert_int_equal(hands[i].first_use, hands[i].last_use);
        assert_int_equal(green_free(hands[i].self), 0);
    }
}

static void *throw_back(void *value)
{
    while (value == GREEN_FAILED || value != V(7))
        value = green_throw(green_main(), E1);
    return value;
}

TEST(other_moves_leave_it_where_it_was_too)
{
    green_t *yields = green_new(echo, NULL), *throws = green_new(throw_back, NULL);
    uintptr_t before = place();
    green_switch(yields, NULL);
    green_switch(throws, NULL);
    size_t used[2] = {green_stack_used(yields), green_stack_used(throws)};
    assert_true(used[0] > 0 && used[1] > 0);
    for (int i = 0; i < times(300000, 10000); i++) {
        green_t *g = green_new(i % 2 == 0 ? give_back : echo, NULL);
        if (green_switch(yields, V(1)) != V(1) || green_throw(throws, E2) != GREEN_FAILED
            || green_switch(throws, NULL) != GREEN_FAILED || green_switch(g, V(2)) != V(2)
            || green_free(g) != 0)
            fail();
    }
    assert_int_equal(place(), before);
    assert_int_equal(green_stack_used(yields), used[0]);
    assert_int_equal(green_stack_used(throws), used[1]);
    assert_ptr_equal(green_switch(throws, V(7)), V(7));
    assert_int_equal(green_free(yields), 0);
    assert_int_equal(green_free(throws), 0);
}

/* ---- Stacks above and below --------------------------------------------- */

static green_t *green_on(char *stack, green_fn *run, green_t *parent)
{
    green_options_t options = {.stack = stack, .stack_size = 32768};
    void *low;
    size_t size;
    green_t *g = green_new_with(run, parent, &options);
    green_stack(g, &low, &size);
    note("%d", (char *)low >= stack && (char *)low + size <= stack + 32768);
    return g;
}

static void *die_of_value(void *value)
{
    errno = (int)(intptr_t)value;
    return GREEN_FAILED;
}

/* Moves of every kind to and from a child on a given stack. */
static void try_child_on(char *stack, char *grandchilds)
{
    green_t *c = green_on(stack, echo, NULL), *g = green_on(grandchilds, echo, c);
    note("%d", green_switch(c, V(1)) == V(1));
    note("%d", green_switch(c, V(2)) == V(2));
    note("%d", green_switch(g, V(3)) == V(3)); /* to c, to us */
    note("%d", green_free(g) == 0);
    note("%d", green_throw(c, E1) == GREEN_FAILED && errno == E1);
    note("%d", green_free(c) == 0);
    c = green_on(stack, die_of_value, NULL);
    note("%d", green_switch(c, V(E2)) == GREEN_FAILED && errno == E2);
    note("%d", green_free(c) == 0);
}

static char room[5 * 32768];

static void *try_children_above_and_below(void *value)
{
    try_child_on(room, room + 32768);
    try_child_on(room + 32768, room);
    try_child_on(room + 3 * 32768, room + 4 * 32768);
    try_child_on(room + 4 * 32768, room);
    return value;
}

TEST(a_stack_may_be_above_or_below_that_of_the_parent)
{
    green_t *p = green_on(room + 2 * 32768, try_children_above_and_below, NULL);
    assert_ptr_equal(green_switch(p, V(1)), V(1));
    assert_int_equal(green_free(p), 0);
    assert_int_equal(strspn(noted(), "1 "), strlen(noted()));
    assert_int_equal(strlen(noted()), 2 * (1 + 4 * 11) - 1);
    noted()[0] = '\0';
}

int main(void)
{
    return run_all_tests();
}
