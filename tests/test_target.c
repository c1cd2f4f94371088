/* SPDX-License-Identifier: MIT */
/*
 * Whom a switch enters and with what (rules 1-3), and green_yield().
 */
#include <pthread.h>

#include "greens.h"

/* ---- States and main (rules 1, 2) ---------------------------------------- */

/* Waits at its parent, once, and returns what it is entered with then. */
static void *wait_once(void *value)
{
    return green_yield(value);
}

TEST(a_green_is_new_until_it_is_entered)
{
    green_t *g = green_new(give_back, NULL);
    assert_non_null(g);
    assert_int_equal(green_state(g), GREEN_NEW);
    assert_ptr_equal(green_switch(green_current(), V(1)), V(1));
    assert_int_equal(green_state(g), GREEN_NEW);
    assert_int_equal(green_free(g), 0);
}

static void *note_own_state(void *value)
{
    note("%d", green_state(green_current()) == GREEN_RUNNING);
    value = green_yield(value);
    note("%d", green_state(green_current()) == GREEN_RUNNING);
    return value;
}

TEST(a_green_runs_and_waits_and_is_dead_in_the_end)
{
    green_t *g = green_new(note_own_state, NULL);
    assert_int_equal(green_state(g), GREEN_NEW);
    assert_ptr_equal(green_switch(g, V(1)), V(1));
    assert_int_equal(green_state(g), GREEN_SUSPENDED);
    assert_ptr_equal(green_switch(g, V(2)), V(2));
    assert_int_equal(green_state(g), GREEN_DEAD);
    assert_noted("1 1");
    assert_int_equal(green_state(green_current()), GREEN_RUNNING);
    assert_int_equal(green_free(g), 0);
}

/* Three greens, each waiting for the next one and for nobody's sake. */
static green_t *trio[3];

static void *enter_the_next_one(void *value)
{
    int i = (int)(intptr_t)value;
    if (i < 2)
        return green_switch(trio[i + 1], V(i + 1));
    for (i = 0; i < 3; i++)
        note("%d", green_state(trio[i]));
    note("main:%d", green_state(green_main()));
    note("current:%d", green_current() == trio[2]);
    return NULL;
}

TEST(only_one_runs_and_the_others_are_suspended_whomever_they_wait_for)
{
    for (int i = 0; i < 3; i++)
        trio[i] = green_new(enter_the_next_one, NULL);
    assert_null(green_switch(trio[0], V(0)));
    assert_noted("2 2 1 main:2 current:1");
    assert_int_equal(green_state(trio[0]), GREEN_SUSPENDED);
    assert_int_equal(green_state(trio[1]), GREEN_SUSPENDED);
    assert_int_equal(green_state(trio[2]), GREEN_DEAD);
    for (int i = 0; i < 3; i++)
        assert_int_equal(green_free(trio[i]), 0);
}

/* greenlet: test_main_greenlet_is_greenlet, test_main_greenlet_parent_is_none, test_getcurrent */
TEST(main_is_a_green_without_a_parent)
{
    green_t *m = green_main();
    assert_non_null(m);
    assert_ptr_equal(green_current(), m);
    assert_int_equal(green_state(m), GREEN_RUNNING);
    assert_null(green_parent(m));
    assert_string_equal(green_name(m), "main");
    assert_ptr_equal(green_switch(m, V(4)), V(4));
    assert_null(green_data(m));
    assert_int_equal(green_set_data(m, V(5)), 0);
    assert_ptr_equal(green_data(m), V(5));
    assert_int_equal(green_set_data(m, NULL), 0);
}

static void *note_main(void *value)
{
    note("%d", green_main() == value);
    note("%d", green_current() != value);
    return NULL;
}

TEST(main_is_the_same_on_every_green)
{
    green_t *g = green_new(note_main, NULL);
    assert_null(green_switch(g, green_main()));
    assert_noted("1 1");
    assert_int_equal(green_free(g), 0);
}

static void *own_main(void *arg)
{
    green_t **found = arg;
    found[0] = green_main();
    found[1] = green_current();
    return found[0] != NULL && green_parent(found[0]) == NULL ? arg : NULL;
}

TEST(each_thread_has_a_main_of_its_own)
{
    green_t *found[2] = {NULL, NULL};
    void *result = in_thread(own_main, found);
    assert_ptr_equal(result, found);
    assert_ptr_equal(found[0], found[1]);
    assert_ptr_not_equal(found[0], green_main());
}

/* ---- Where a value arrives (rule 3) ------------------------------------- */

/* greenlet: test_switch, test_new_greenlet */
TEST(a_new_target_starts_with_the_value)
{
    static const intptr_t values[] = {0, 1, 50, -15, -2, INTPTR_MIN, INTPTR_MAX};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        green_t *g = green_new(give_back, NULL);
        assert_ptr_equal(green_switch(g, V(values[i])), V(values[i]));
        assert_int_equal(green_free(g), 0);
    }
}

TEST(a_suspended_target_returns_the_value_from_its_yield)
{
    green_t *g = green_new(echo, NULL);
    for (intptr_t i = 0; i < 10; i++)
        assert_ptr_equal(green_switch(g, V(i)), V(i));
    assert_ptr_equal(green_switch(g, V(-2)), V(-2));
    assert_int_equal(green_state(g), GREEN_SUSPENDED);
    assert_int_equal(green_free(g), 0);
}

/* Waits in the call that its number names, for something else than what comes. */
static green_t *other; /* suspended, goes to main when entered */

static void *wait_in_some_call(void *value)
{
    void *got = V(-99);
    int r;
    switch ((int)(intptr_t)value) {
    case 0: got = green_switch(other, V(0)); break;
    case 1: got = green_throw(other, E1); break;
    case 2: got = green_yield(V(10)); break;
    case 3: got = green_switch(green_main(), V(10)); break;
    case 4: got = green_throw(green_main(), E2); break;
    case 5:
        r = green_free(other); /* the value is dropped: rule 9 */
        got = r == -1 && errno == EBUSY ? V(70) : V(-98);
        break;
    }
    return V((intptr_t)got + 1);
}

static void *go_to_main(void *value)
{
    green_yield(value);
    green_switch(green_main(), V(10));
    return NULL;
}

TEST(a_suspended_target_returns_the_value_from_whichever_call_it_waits_in)
{
    for (intptr_t i = 0; i <= 5; i++) {
        other = green_new(go_to_main, NULL);
        assert_ptr_equal(green_switch(other, V(3)), V(3));
        green_t *g = green_new(wait_in_some_call, NULL);
        if (i == 4)
            assert_fails(green_switch(g, V(i)), E2);
        else
            assert_ptr_equal(green_switch(g, V(i)), V(10));
        assert_int_equal(green_state(g), GREEN_SUSPENDED);
        assert_ptr_equal(green_switch(g, V(70)), V(71));
        assert_int_equal(green_state(g), GREEN_DEAD);
        assert_int_equal(green_free(g), 0);
        if (green_free(other) != 0) /* it survives the first ECANCELED it meets */
            assert_int_equal(green_free(other), 0);
    }
}

static void *switch_to_other(void *value)
{
    return green_switch(other, value);
}

TEST(any_green_may_enter_any_other)
{
    other = green_new(wait_once, NULL);
    assert_ptr_equal(green_switch(other, V(1)), V(1));
    green_t *g = green_new(switch_to_other, NULL);
    assert_ptr_equal(green_switch(g, V(2)), V(2)); /* other's result, to its parent */
    assert_int_equal(green_state(other), GREEN_DEAD);
    assert_int_equal(green_state(g), GREEN_SUSPENDED);
    assert_ptr_equal(green_switch(g, V(3)), V(3));
    assert_int_equal(green_state(g), GREEN_DEAD);
    assert_int_equal(green_free(g), 0);
    assert_int_equal(green_free(other), 0);
}

TEST(a_dead_target_stands_for_its_parent_repeatedly)
{
    green_t *g = green_new(echo, NULL);
    assert_ptr_equal(green_switch(g, V(1)), V(1));
    green_t *d1 = dead(g), *d2 = dead(d1), *d3 = dead(d2);
    assert_ptr_equal(green_switch(d1, V(2)), V(2));
    assert_ptr_equal(green_switch(d3, V(3)), V(3));
    assert_int_equal(green_set_parent(d1, green_main()), 0);
    assert_fails(green_throw(g, E1), E1); /* g is dead now */
    assert_ptr_equal(green_switch(d3, V(4)), V(4)); /* main itself */
    assert_int_equal(green_set_parent(d1, g), 0);
    assert_ptr_equal(green_switch(d3, V(5)), V(5)); /* one more in between */
    green_t *all[] = {d2, g, d3, d1};
    for (int i = 0; i < 4; i++)
        assert_int_equal(green_free(all[i]), 0);
}

static void *add_24(void *value)
{
    note("ran");
    return V((intptr_t)value + 24);
}

/* greenlet: test_switch_to_dead_greenlet_reparent */
TEST(a_dead_target_whose_parent_is_new_starts_the_parent)
{
    green_t *p = green_new(add_24, NULL);
    green_t *d = dead(p), *e = dead(d);
    assert_ptr_equal(green_switch(e, V(18)), V(42));
    assert_int_equal(green_state(p), GREEN_DEAD);
    assert_noted("ran");
    assert_ptr_equal(green_switch(d, V(18)), V(18));
    assert_noted("");
    green_t *all[] = {p, d, e};
    for (int i = 0; i < 3; i++)
        assert_int_equal(green_free(all[i]), 0);
}

static void *switch_to_itself(void *value)
{
    note("%d", green_switch(green_current(), V(6)) == V(6));
    green_t *d = dead(NULL); /* its parent is the current green */
    note("%d", green_switch(d, V(7)) == V(7));
    note("%d", green_free(d));
    return value;
}

TEST(the_current_green_itself_returns_the_value_at_once)
{
    assert_ptr_equal(green_switch(green_main(), V(1)), V(1));
    assert_null(green_switch(green_main(), NULL));
    green_t *g = green_new(switch_to_itself, NULL);
    assert_ptr_equal(green_switch(g, V(2)), V(2));
    assert_noted("1 1 0");
    assert_int_equal(green_free(g), 0);
}

static void *refused_in_a_green(void *value)
{
    errno = 0;
    note("%d", green_yield(GREEN_FAILED) == GREEN_FAILED && errno == EINVAL);
    errno = 0;
    note("%d", green_switch(green_current(), GREEN_FAILED) == GREEN_FAILED && errno == EINVAL);
    return value;
}

TEST(green_failed_is_no_value)
{
    green_t *fresh = green_new(echo, NULL), *waiting = green_new(echo, NULL), *d = dead(NULL);
    assert_ptr_equal(green_switch(waiting, V(1)), V(1));
    assert_fails(green_switch(fresh, GREEN_FAILED), EINVAL);
    assert_fails(green_switch(waiting, GREEN_FAILED), EINVAL);
    assert_fails(green_switch(d, GREEN_FAILED), EINVAL);
    assert_fails(green_switch(green_main(), GREEN_FAILED), EINVAL);
    assert_int_equal(green_state(fresh), GREEN_NEW);
    assert_int_equal(green_state(waiting), GREEN_SUSPENDED);
    assert_ptr_equal(green_switch(waiting, V(2)), V(2));
    green_t *g = green_new(refused_in_a_green, NULL);
    assert_ptr_equal(green_switch(g, V(3)), V(3));
    assert_noted("1 1");
    green_t *all[] = {fresh, waiting, d, g};
    for (int i = 0; i < 4; i++)
        assert_int_equal(green_free(all[i]), 0);
}

TEST(null_is_no_target)
{
    assert_fails(green_switch(NULL, V(1)), EINVAL);
    assert_fails(green_switch(NULL, GREEN_FAILED), EINVAL);
    assert_ptr_equal(green_current(), green_main());
}

/* ---- green_yield() ------------------------------------------------------ */

TEST(main_has_nobody_to_yield_to)
{
    assert_fails(green_yield(V(1)), EINVAL);
    assert_fails(green_yield(GREEN_FAILED), EINVAL);
    assert_int_equal(green_state(green_main()), GREEN_RUNNING);
}

static void *change_parents_and_yield(void *value)
{
    green_t *me = green_current(), *parent = green_parent(me), *d = dead(NULL);
    green_set_parent(d, green_main());
    note("%d", green_yield(value) == V(1)); /* to parent */
    green_set_parent(me, d);
    note("%d", green_yield(V(20)) == V(2)); /* d is dead: to main */
    green_set_parent(me, parent);
    note("%d", green_yield(V(30)) == V(3)); /* to parent again */
    green_set_parent(me, green_main());
    green_free(d);
    return V(40);
}

static void *host(void *value)
{
    green_t *g = green_new(change_parents_and_yield, NULL);
    note("%d", green_switch(g, value) == value);
    note("%d", green_switch(g, V(1)) == V(11)); /* from main: g yields to main now */
    note("%d", green_switch(g, V(2)) == V(30));
    return g;
}

TEST(a_yield_goes_to_the_parent_of_the_moment)
{
    green_t *h = green_new(host, NULL);
    assert_ptr_equal(green_switch(h, V(9)), V(20)); /* from g, while h waits for it */
    assert_int_equal(green_state(h), GREEN_SUSPENDED);
    green_t *g = green_switch(h, V(11)); /* h enters g, g yields, h ends */
    assert_int_equal(green_state(h), GREEN_DEAD);
    assert_int_equal(green_state(g), GREEN_SUSPENDED);
    assert_ptr_equal(green_switch(g, V(3)), V(40));
    assert_noted("1 1 1 1 1 1");
    assert_int_equal(green_free(h), 0);
    assert_int_equal(green_free(g), 0);
}

TEST(a_yield_to_a_new_parent_starts_it)
{
    green_t *p = green_new(add_24, NULL), *g = green_new(wait_once, p);
    assert_ptr_equal(green_switch(g, V(1)), V(25)); /* g yields, p runs and ends */
    assert_noted("ran");
    assert_int_equal(green_state(p), GREEN_DEAD);
    assert_int_equal(green_state(g), GREEN_SUSPENDED);
    assert_ptr_equal(green_switch(g, V(2)), V(2)); /* by p, which is dead, to main */
    assert_int_equal(green_free(p), 0);
    assert_int_equal(green_free(g), 0);
}

int main(void)
{
    return run_all_tests();
}
