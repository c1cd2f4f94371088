/* SPDX-License-Identifier: MIT */
/*
 * Generators made of greens, after greenlet's test_generator.py and
 * test_generator_nested.py: a genlet's parent is whoever asks for its next
 * value, and a value may pass by some of those that ask for each other's.
 */
#include <stdbool.h>

#include "testing.h"

struct genlet {
    green_t *g; /* whose data is this struct */
    void (*run)(struct genlet *me);
    int n;      /* what run is to do */
    const int *items;
    struct genlet *child; /* has yielded past this one: goes on in its stead */
};

static void *genlet_body(void *value)
{
    struct genlet *me = green_data(green_current());
    me->run(me);
    return value;
}

static struct genlet genlet(void (*run)(struct genlet *), int n, const int *items)
{
    return (struct genlet){.run = run, .n = n, .items = items};
}

/* Sets *value to the next value; false if there is none. */
static bool next(struct genlet *it, void **value)
{
    struct genlet *from = it;
    if (it->g == NULL) {
        it->g = green_new(genlet_body, NULL);
        green_set_data(it->g, it);
    }
    while (from->child != NULL) {
        struct genlet *child = from->child;
        from->child = NULL;
        from = child;
    }
    if (from == it)
        green_set_parent(it->g, green_current());
    *value = green_switch(from->g, NULL);
    return green_state(it->g) != GREEN_DEAD;
}

static void end(struct genlet *it)
{
    if (green_free(it->g) != 0)
        note("lives");
}

/*
 * Hands value to who asked the genlet, or, by level, to who asked that one.
 * False if the genlet is to end, and outside one.
 */
static bool yield_past(void *value, int level)
{
    green_t *g = green_current();
    for (; level > 0; level--) {
        struct genlet *me = green_data(g);
        if (me == NULL)
            return false;
        g = green_parent(g);
        if (level > 1 && green_data(g) != NULL)
            ((struct genlet *)green_data(g))->child = me;
    }
    return green_switch(g, value) != GREEN_FAILED;
}

static bool yield(void *value)
{
    return yield_past(value, 1);
}

/* ---- Plain -------------------------------------------------------------- */

static void count(struct genlet *me)
{
    for (int i = 0; i < me->n; i++) {
        note("%d", i);
        if (!yield(V(i)))
            return;
    }
}

/* greenlet: test_generator */
TEST(a_generator_hands_out_one_value_after_the_other)
{
    for (int k = 0; k < 3; k++) {
        struct genlet g = genlet(count, 5, NULL);
        void *value;
        while (next(&g, &value))
            note("%d", (int)(intptr_t)value);
        assert_noted("0 0 1 1 2 2 3 3 4 4");
        assert_false(next(&g, &value));
        end(&g);
    }
    assert_noted("");
}

static void yield_directly(struct genlet *me)
{
    for (int i = 0; i < me->n; i++) {
        note("%d", i + 1);
        if (!yield(V(i)))
            return;
    }
}

static void yield_by_the_librarys_function(struct genlet *me)
{
    for (int i = 0; i < me->n; i++) {
        note("%d", i + 1);
        if (green_yield(V(i)) == GREEN_FAILED)
            return;
    }
}

static bool nested(int i)
{
    return yield(V(i));
}

static void yield_in_a_function(struct genlet *me)
{
    for (int i = 0; i < me->n; i++) {
        note("%d", i + 1);
        if (!nested(i))
            return;
    }
}

/* greenlet: test_genlet_simple */
TEST(three_ways_to_yield_are_the_same)
{
    void (*const ways[])(struct genlet *) = {
        yield_directly, yield_by_the_librarys_function, yield_in_a_function};
    for (int way = 0; way < 3; way++)
        for (int k = 0; k < 3; k++) {
            struct genlet g = genlet(ways[way], 5, NULL);
            void *value;
            while (next(&g, &value))
                note("%d", (int)(intptr_t)value);
            assert_noted("1 0 2 1 3 2 4 3 5 4");
            end(&g);
        }
    assert_noted("");
}

static void *yield_outside(void *value)
{
    note("%d", yield(value));
    return value;
}

/* greenlet: test_genlet_bad */
TEST(a_yield_outside_a_generator_is_an_error)
{
    assert_false(yield(V(10)));
    assert_fails(green_yield(V(10)), EINVAL);
    green_t *g = green_new(yield_outside, NULL);
    assert_ptr_equal(green_switch(g, V(1)), V(1));
    assert_noted("0");
    assert_int_equal(green_free(g), 0);
}

TEST(an_unfinished_generator_is_ended_by_free)
{
    struct genlet g = genlet(count, 5, NULL);
    void *value;
    assert_true(next(&g, &value));
    assert_true(next(&g, &value));
    assert_ptr_equal(value, V(1));
    end(&g);
    assert_noted("0 1");
}

/* ---- Layered ------------------------------------------------------------ */

static void numbers_and_squares(struct genlet *me)
{
    for (int i = 1; i < me->n; i++)
        if (!yield(V(i)) || !yield_past(V(i * i), 2))
            return;
}

static void note_numbers(struct genlet *me)
{
    struct genlet g = genlet(numbers_and_squares, me->n, NULL);
    void *value;
    while (next(&g, &value))
        note("%d", (int)(intptr_t)value);
    end(&g);
}

/* greenlet: test_layered_genlets */
TEST(a_value_may_pass_by_the_generator_in_between)
{
    struct genlet g = genlet(note_numbers, 5, NULL);
    void *value;
    while (next(&g, &value))
        note("%d", (int)(intptr_t)value);
    end(&g);
    assert_noted("1 1 2 4 3 9 4 16");
}

/* All before n by a generator of its own kind, then n. */
static void all_up_to(struct genlet *me)
{
    if (me->n == 0)
        return;
    struct genlet before = genlet(all_up_to, me->n - 1, NULL);
    void *value;
    bool go_on = true;
    while (go_on && next(&before, &value))
        go_on = yield(value);
    end(&before);
    if (go_on)
        yield(V(me->n));
}

/* greenlet: test_nested_genlets */
TEST(generators_nest)
{
    struct genlet g = genlet(all_up_to, 5, NULL);
    void *value;
    while (next(&g, &value))
        note("%d", (int)(intptr_t)value);
    end(&g);
    assert_noted("1 2 3 4 5");

    g = genlet(all_up_to, 20, NULL); /* ended in the middle, each ends the next */
    for (int i = 1; i <= 10; i++) {
        assert_true(next(&g, &value));
        assert_ptr_equal(value, V(i));
    }
    end(&g);
    assert_noted("");
}

/* Hands out every permutation of its n items, as arrays of its own. */
static void permute(struct genlet *me)
{
    int rest[8], whole[8];
    if (me->n == 1) {
        whole[0] = me->items[0];
        yield(whole);
        return;
    }
    for (int first = 0; first < me->n; first++) {
        for (int i = 0, j = 0; i < me->n; i++)
            if (i != first)
                rest[j++] = me->items[i];
        struct genlet others = genlet(permute, me->n - 1, rest);
        void *value;
        bool go_on = true;
        while (go_on && next(&others, &value)) {
            whole[0] = me->items[first];
            memcpy(whole + 1, value, (size_t)(me->n - 1) * sizeof *whole);
            go_on = yield(whole);
        }
        end(&others);
        if (!go_on)
            return;
    }
}

static int as_number(const int *digits, int n)
{
    int number = 0;
    for (int i = 0; i < n; i++)
        number = number * 10 + digits[i];
    return number;
}

static const int items[] = {1, 2, 3, 4};

/* greenlet: test_permutations */
TEST(permutations_by_recursion)
{
    struct genlet g = genlet(permute, 4, items);
    void *value;
    int number, before = 0, n = 0;
    for (; next(&g, &value); n++) {
        number = as_number(value, 4);
        assert_true(number > before); /* so all differ */
        if (n == 0)
            assert_int_equal(number, 1234);
        before = number;
    }
    assert_int_equal(n, 24);
    assert_int_equal(before, 4321);
    end(&g);

    /* Side by side; the longer one is ended in the middle. */
    struct genlet four = genlet(permute, 4, items), three = genlet(permute, 3, items);
    void *pair[2];
    while (next(&four, &pair[0]) && next(&three, &pair[1]))
        note("%d+%d", as_number(pair[0], 4), as_number(pair[1], 3));
    end(&four);
    end(&three);
    assert_noted("1234+123 1243+132 1324+213 1342+231 1423+312 1432+321");
}

int main(void)
{
    return run_all_tests();
}
