/* SPDX-License-Identifier: MIT */
/*
 * Green-local storage: green_key_create() and its friends, and when the
 * destructors run (rule 11).
 */
#include "testing.h"

enum { MOST = 100000 }; /* more keys than any limit would allow */

static green_key_t key;

static void note_value(void *value)
{
    note("%s", (const char *)value);
}

static int make_key(void **state)
{
    (void)state;
    return green_key_create(&key, NULL);
}

static int make_noting_key(void **state)
{
    (void)state;
    return green_key_create(&key, note_value);
}

static int delete_key(void **state)
{
    (void)state;
    return green_key_delete(key);
}

#define NOTING_KEY_TEST(sentence) TEST_WITH(sentence, make_noting_key, delete_key)

#define KEY_TEST(sentence) TEST_WITH(sentence, make_key, delete_key)

/* ---- Values -------------------------------------------------------------------- */

/* Before there is any: which numbers are keys is not for the user to guess. */
TEST(a_number_that_is_no_key_is_einval)
{
    for (green_key_t none = 0; none < 300; none++) {
        assert_null_errno(green_getspecific(none), EINVAL);
        assert_refused(green_setspecific(none, V(1)), EINVAL);
        assert_refused(green_key_delete(none), EINVAL);
    }
    const green_key_t far[] = { 1u << 16, 1u << 30, 1u << 31, (green_key_t)-2, (green_key_t)-1 };
    for (size_t i = 0; i < sizeof far / sizeof *far; i++) {
        assert_null_errno(green_getspecific(far[i]), EINVAL);
        assert_refused(green_setspecific(far[i], V(1)), EINVAL);
        assert_refused(green_key_delete(far[i]), EINVAL);
    }
}

static void *keep_own_value(void *value)
{
    must(green_getspecific(key) == NULL);
    must(green_setspecific(key, value) == 0);
    green_yield(NULL);
    must(green_getspecific(key) == value);
    green_yield(NULL);
    must(green_getspecific(key) == value);
    return value;
}

/* greenlet: test_context_propagated_by_setting_attribute */
KEY_TEST(every_green_keeps_a_value_of_its_own)
{
    green_t *g[4];
    assert_int_equal(green_setspecific(key, V(99)), 0);
    for (int i = 0; i < 4; i++)
        g[i] = green_new(keep_own_value, NULL);
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < 4; i++) {
            void *result = green_switch(g[i], V(i + 1));
            assert_ptr_equal(result, round == 2 ? V(i + 1) : NULL);
        }
    assert_ptr_equal(green_getspecific(key), V(99));
    assert_int_equal(green_setspecific(key, NULL), 0);
    assert_null(green_getspecific(key));
    for (int i = 0; i < 4; i++)
        assert_int_equal(green_free(g[i]), 0);
}

static void *look_and_set(void *value)
{
    void *seen = green_getspecific(key);
    green_setspecific(key, value);
    return seen;
}

/* greenlet: test_context_not_propagated */
KEY_TEST(a_new_green_starts_empty)
{
    assert_int_equal(green_setspecific(key, V(7)), 0);
    for (int i = 0; i < 3; i++) { /* also on a stack that was used before */
        green_t *g = green_new(look_and_set, NULL);
        assert_null(green_switch(g, V(8)));
        assert_int_equal(green_free(g), 0);
    }
    assert_ptr_equal(green_getspecific(key), V(7));
    assert_int_equal(green_setspecific(key, NULL), 0);
}

static void *add_to_what_it_points_to(void *value)
{
    green_setspecific(key, value);
    for (;;) {
        ++*(int *)green_getspecific(key);
        if (green_yield(NULL) == GREEN_FAILED)
            return NULL;
    }
}

/* greenlet: test_context_shared */
KEY_TEST(two_greens_may_share_what_a_value_points_to)
{
    int shared = 0;
    green_t *a = green_new(add_to_what_it_points_to, NULL);
    green_t *b = green_new(add_to_what_it_points_to, NULL);
    for (int i = 0; i < 3; i++) {
        green_switch(a, &shared);
        assert_int_equal(shared, 2 * i + 1);
        green_switch(b, &shared);
        assert_int_equal(shared, 2 * i + 2);
    }
    assert_int_equal(green_free(a), 0);
    assert_int_equal(green_free(b), 0);
}

/* ---- Destructors ----------------------------------------------------------------- */

static void note_where_and_value(void *g)
{
    note("%d", green_current() == g);
    note("%d", green_state(g) == GREEN_RUNNING);
    note("%d", green_getspecific(key) == NULL);
}

static void *set_self(void *value)
{
    green_setspecific(key, green_current());
    return value;
}

TEST(the_destructor_runs_on_the_green_with_the_value_taken_out)
{
    assert_int_equal(green_key_create(&key, note_where_and_value), 0);
    green_t *g = green_new(set_self, NULL);
    assert_ptr_equal(green_switch(g, V(3)), V(3));
    assert_noted("1 1 1");
    assert_int_equal(green_free(g), 0);
    assert_noted("");
    assert_int_equal(green_key_delete(key), 0);
}

static void *set_and_wait(void *value)
{
    green_setspecific(key, value);
    return green_yield(NULL);
}

static void *set_null_again(void *value)
{
    green_setspecific(key, value);
    green_setspecific(key, NULL);
    return value;
}

NOTING_KEY_TEST(it_runs_however_the_green_ends_but_not_for_null)
{
    green_t *g = green_new(set_and_wait, NULL);
    green_switch(g, "returned");
    assert_noted("");
    green_switch(g, NULL);
    assert_noted("returned");
    assert_int_equal(green_free(g), 0);

    g = green_new(set_and_wait, NULL);
    green_switch(g, "killed");
    assert_int_equal(green_free(g), 0);
    assert_noted("killed");

    g = green_new(set_and_wait, NULL);
    green_switch(g, "thrown");
    assert_fails(green_throw(g, E1), E1);
    assert_noted("thrown");
    assert_int_equal(green_free(g), 0);

    g = green_new(set_and_wait, NULL); /* dies unrun */
    assert_fails(green_throw(g, E1), E1);
    assert_int_equal(green_free(g), 0);
    g = green_new(set_null_again, NULL);
    green_switch(g, "value");
    assert_int_equal(green_free(g), 0);
    g = green_new(set_and_wait, NULL);
    green_switch(g, "abandoned");
    assert_int_equal(green_abandon(g), 0);
    assert_noted("");
}

static int left;

static void set_again(void *value)
{
    note("%s", (const char *)value);
    if (left-- > 0)
        must(green_setspecific(key, value) == 0);
}

TEST(what_a_destructor_sets_is_destroyed_in_at_most_four_rounds)
{
    assert_int_equal(green_key_create(&key, set_again), 0);
    const struct {
        int times;
        const char *seen;
    } rows[] = { { 0, "a" }, { 1, "a a" }, { 3, "a a a a" }, { 1000, "a a a a" } };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        left = rows[i].times;
        green_t *g = green_new(look_and_set, NULL);
        assert_null(green_switch(g, "a"));
        assert_noted(rows[i].seen);
        assert_int_equal(green_free(g), 0);
    }
    assert_int_equal(green_key_delete(key), 0);
}

static green_key_t keys[3];

static void set_the_others(void *value)
{
    note("x");
    for (int i = 0; left > 0 && i < 3; i++)
        must(green_setspecific(keys[i], value) == 0);
    left--;
}

static void *set_one_of_three(void *value)
{
    green_setspecific(keys[1], value);
    return NULL;
}

TEST(one_may_set_the_values_of_other_keys)
{
    for (int i = 0; i < 3; i++)
        assert_int_equal(green_key_create(&keys[i], set_the_others), 0);
    left = 1; /* the first one only: then each of the three runs once more */
    green_t *g = green_new(set_one_of_three, NULL);
    assert_null(green_switch(g, V(1)));
    assert_noted("x x x x");
    assert_int_equal(green_free(g), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(green_key_delete(keys[i]), 0);
}

static void yield_value(void *value)
{
    note("%d", green_yield(value) == V(4));
}

TEST(a_destructor_may_switch)
{
    assert_int_equal(green_key_create(&key, yield_value), 0);
    green_t *g = green_new(set_self, NULL);
    assert_ptr_equal(green_switch(g, V(3)), g);
    assert_int_equal(green_state(g), GREEN_SUSPENDED);
    assert_ptr_equal(green_switch(g, V(4)), V(3));
    assert_int_equal(green_state(g), GREEN_DEAD);
    assert_noted("1");
    assert_int_equal(green_free(g), 0);
    assert_int_equal(green_key_delete(key), 0);
}

static void delete_the_key(void *value)
{
    note("deleted %d", green_key_delete(keys[value == V(1)]));
}

static void *set_two(void *value)
{
    green_setspecific(keys[0], V(1));
    green_setspecific(keys[1], V(2));
    return value;
}

TEST(one_may_delete_another_key)
{
    for (int i = 0; i < 2; i++)
        assert_int_equal(green_key_create(&keys[i], delete_the_key), 0);
    green_t *g = green_new(set_two, NULL);
    assert_null(green_switch(g, NULL));
    assert_noted("deleted 0"); /* whichever was first spared the other */
    assert_int_equal(green_free(g), 0);
    int rest = 0;
    for (int i = 0; i < 2; i++)
        rest += green_key_delete(keys[i]) == 0;
    assert_int_equal(rest, 1);
}

/* ---- Deleted keys ------------------------------------------------------------------ */

TEST(a_deleted_key_is_none_and_destroys_nothing)
{
    assert_int_equal(green_key_create(&key, note_value), 0);
    green_t *g = green_new(set_and_wait, NULL);
    green_switch(g, "value");
    assert_int_equal(green_setspecific(key, "main"), 0);
    assert_int_equal(green_key_delete(key), 0);
    assert_null_errno(green_getspecific(key), EINVAL);
    assert_refused(green_setspecific(key, V(1)), EINVAL);
    assert_refused(green_key_delete(key), EINVAL);
    green_switch(g, NULL);
    assert_int_equal(green_state(g), GREEN_DEAD);
    assert_noted("");
    assert_int_equal(green_free(g), 0);
}

static void *wait_and_look(void *value)
{
    green_setspecific(key, value);
    green_yield(NULL);
    value = green_getspecific(key);
    green_yield(value);
    return NULL;
}

static void look_from_helper(void *seen)
{
    *(void **)seen = green_getspecific(key);
}

static void set_from_helper(void *value)
{
    must(green_setspecific(key, value) == 0);
}

TEST(a_key_of_the_same_number_is_null_everywhere)
{
    static green_key_t made[MOST];
    struct helper thread;
    void *seen = V(1);
    helper_start(&thread);
    assert_int_equal(green_key_create(&key, note_value), 0);
    green_key_t old = key;
    assert_int_equal(green_setspecific(key, "main"), 0);
    helper_do(&thread, set_from_helper, "thread");
    green_t *g = green_new(wait_and_look, NULL);
    green_switch(g, "green");
    assert_int_equal(green_key_delete(key), 0);

    int count = 0; /* it comes at the latest when all others are taken, if ever */
    while (count < MOST && green_key_create(&made[count], note_value) == 0 && made[count++] != old)
        continue;
    assert_null(green_getspecific(old));
    helper_do(&thread, look_from_helper, &seen);
    assert_null(seen);
    assert_null(green_switch(g, NULL));
    assert_null(green_switch(g, NULL)); /* its end destroys nothing either */
    assert_noted("");
    assert_int_equal(green_free(g), 0);
    helper_end(&thread);
    while (count-- > 0)
        assert_int_equal(green_key_delete(made[count]), 0);
}

/* ---- Many ---------------------------------------------------------------------------- */

static long long sum;

static void add_value(void *value)
{
    sum += (intptr_t)value;
}

static int many;
static green_key_t all[MOST];

static void *use_all_keys(void *value)
{
    for (int i = 0; i < many; i++)
        must(green_getspecific(all[i]) == NULL && green_setspecific(all[i], V(i + 1)) == 0);
    green_yield(NULL);
    for (int i = 0; i < many; i++)
        must(green_getspecific(all[i]) == V(i + 1));
    return value;
}

TEST(there_are_at_least_128_keys_and_then_eagain)
{
    for (int round = 0; round < 2; round++) {
        many = 0;
        sum = 0;
        while (many < MOST && green_key_create(&all[many], add_value) == 0)
            many++;
        assert_int_equal(errno, EAGAIN);
        assert_in_range(many, 128, MOST - 1);
        green_key_t none = 12345;
        assert_refused(green_key_create(&none, NULL), EAGAIN);
        assert_int_equal(none, 12345);
        for (int i = 1; i < many && i < 300; i++)
            for (int j = 0; j < i; j++)
                assert_int_not_equal(all[i], all[j]);
        green_t *g = green_new(use_all_keys, NULL), *h = green_new(use_all_keys, NULL);
        assert_null(green_switch(g, V(1)));
        assert_null(green_switch(h, V(2)));
        assert_ptr_equal(green_switch(g, NULL), V(1));
        assert_int_equal(sum, many * (many + 1LL) / 2);
        assert_ptr_equal(green_switch(h, NULL), V(2));
        assert_int_equal(sum, many * (many + 1LL));
        assert_int_equal(green_free(g), 0);
        assert_int_equal(green_free(h), 0);
        for (int i = 0; i < many; i++)
            assert_int_equal(green_key_delete(all[i]), 0);
    }
}

TEST(a_key_can_be_made_and_deleted_for_ever)
{
    for (int i = 0, n = times(200000, 5000); i < n; i++) {
        assert_int_equal(green_key_create(&key, NULL), 0);
        assert_null(green_getspecific(key));
        assert_int_equal(green_setspecific(key, V(1)), 0);
        assert_int_equal(green_key_delete(key), 0);
    }
}

/* ---- Threads --------------------------------------------------------------------------- */

static void *use_key_of_all_threads(void *value)
{
    must(green_getspecific(key) == NULL);
    must(green_setspecific(key, value) == 0);
    for (int i = 0, n = times(300, 30); i < n; i++) {
        green_key_t own;
        must(green_key_create(&own, NULL) == 0);
        must(green_getspecific(own) == NULL);
        green_t *g = green_new(keep_own_value, NULL);
        must(green_switch(g, V(i + 1)) == NULL && green_switch(g, NULL) == NULL);
        must(green_setspecific(own, V(i + 1)) == 0);
        must(green_switch(g, NULL) == V(i + 1));
        must(green_getspecific(own) == V(i + 1));
        must(green_free(g) == 0);
        must(green_key_delete(own) == 0);
    }
    return green_getspecific(key);
}

KEY_TEST(keys_are_the_same_in_all_threads_and_values_are_not)
{
    pthread_t thread[8];
    assert_int_equal(green_setspecific(key, V(100)), 0);
    for (int i = 0; i < 8; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, use_key_of_all_threads, V(i + 1)), 0);
    for (int i = 0; i < 8; i++) {
        void *seen;
        assert_int_equal(pthread_join(thread[i], &seen), 0);
        assert_ptr_equal(seen, V(i + 1));
    }
    assert_ptr_equal(green_getspecific(key), V(100));
    assert_int_equal(green_setspecific(key, NULL), 0);
}

/* ---- While it looks ---------------------------------------------------------------------- */

static int only_look(green_t *g, void *arg)
{
    (void)g;
    green_key_t none = *(green_key_t *)arg;
    must(green_getspecific(key) == V(5));
    errno = 0;
    must(green_setspecific(key, V(6)) == -1 && errno == EBUSY);
    errno = 0;
    must(green_key_delete(key) == -1 && errno == EBUSY);
    errno = 0;
    must(green_key_create(&none, NULL) == -1 && errno == EBUSY);
    return 1;
}

KEY_TEST(one_that_only_looks_may_get_a_value_and_no_more)
{
    assert_int_equal(green_setspecific(key, V(5)), 0);
    assert_int_equal(green_each(only_look, &key), 1);
    assert_ptr_equal(green_getspecific(key), V(5));
    assert_int_equal(green_setspecific(key, NULL), 0);
}

int main(void)
{
    return run_all_tests();
}
