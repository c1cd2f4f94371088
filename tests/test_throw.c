/* SPDX-License-Identifier: MIT */
/* green_throw() at greens in every state (rule 6), and what comes of it (rule 5). */
#include <limits.h>

#include "greens.h"

/* Waits at its parent and hands it the errno that it is thrown; dies of E2 only. */
static void *report(void *value)
{
    while (value != GREEN_FAILED || errno != E2) {
        if (value == GREEN_FAILED) {
            int error = errno;
            note("%s", error == E1 ? "E1" : error == ECANCELED ? "ECANCELED" : "?");
            value = V(error);
        }
        value = green_yield(value);
    }
    return GREEN_FAILED;
}

/* The same once: it returns "caught" and dies. */
static char caught[] = "caught";

static void *catch_one(void *value)
{
    value = green_yield(value);
    return value == GREEN_FAILED && errno == E1 ? caught : value;
}

static green_t *suspended(green_fn *run, green_t *parent)
{
    return suspend(green_new(run, NULL), V(1), parent);
}

/* Ends and frees one that report()s. */
static void end(green_t *g)
{
    assert_fails(green_throw(g, E2), E2);
    assert_int_equal(green_free(g), 0);
}

/* ---- At a suspended green ----------------------------------------------- */

/* greenlet: test_val, test_extension_interface test_throw */
TEST(a_suspended_green_sees_the_error_in_its_yield)
{
    static const int errors[] = {E1, E2, EINVAL, EBUSY, EPERM, 1, 4095, 4096, INT_MAX};
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        green_t *g = suspended(echo, NULL);
        assert_fails(green_throw(g, errors[i]), errors[i]); /* and dies of it */
        assert_int_equal(green_state(g), GREEN_DEAD);
        free_all(g);
    }
}

TEST(a_suspended_green_may_go_on_living)
{
    green_t *g = suspended(report, NULL);
    assert_ptr_equal(green_throw(g, E1), V(E1));
    assert_ptr_equal(green_throw(g, E1), V(E1));
    assert_ptr_equal(green_throw(g, ECANCELED), V(ECANCELED));
    assert_ptr_equal(green_throw(g, INT_MAX), V(INT_MAX));
    assert_int_equal(green_state(g), GREEN_SUSPENDED);
    assert_ptr_equal(green_switch(g, V(2)), V(2));
    assert_noted("E1 E1 ECANCELED ?");
    end(g);
}

/* greenlet: test_kill, first half */
TEST(error_0_means_ecanceled)
{
    green_t *g = suspended(report, NULL), *h = suspended(echo, NULL);
    assert_ptr_equal(green_throw(g, 0), V(ECANCELED));
    assert_noted("ECANCELED");
    assert_null(green_throw(h, 0));
    assert_int_equal(green_state(h), GREEN_DEAD);
    end(g);
    free_all(h);
}

static char ok[] = "ok";

static void *switch_on(void *value)
{
    value = green_switch(green_parent(green_current()), ok);
    note("%d", value == GREEN_FAILED && errno == E1);
    return green_switch(green_parent(green_current()), ok);
}

/* greenlet: test_class */
TEST(the_thrown_green_may_switch_on)
{
    green_t *g = green_new(switch_on, NULL);
    assert_ptr_equal(green_switch(g, NULL), ok);
    assert_ptr_equal(green_throw(g, E1), ok);
    assert_noted("1");
    assert_int_equal(green_state(g), GREEN_SUSPENDED);
    assert_fails(green_throw(g, E2), E2);
    free_all(g);
}

static green_t *third; /* goes to main when entered */

static void *wait_in_some_call(void *value)
{
    switch ((int)(intptr_t)value) {
    case 0: value = green_switch(third, V(1)); break;
    case 1: value = green_throw(third, E2); break;
    case 2: value = green_yield(V(1)); break;
    case 3: value = green_switch(green_main(), V(1)); break;
    case 4: value = green_free(third) == -1 ? GREEN_FAILED : NULL; break; /* rule 9 */
    }
    note("%d", value == GREEN_FAILED && errno == E1);
    return V(5);
}

static void *go_to_main(void *value)
{
    green_yield(value);
    green_switch(green_main(), V(1));
    return NULL;
}

TEST(the_error_arrives_in_whichever_call_it_waits_in)
{
    for (int i = 0; i <= 4; i++) {
        third = green_new(go_to_main, NULL);
        assert_null(green_switch(third, NULL));
        green_t *g = green_new(wait_in_some_call, NULL);
        assert_ptr_equal(green_switch(g, V(i)), V(1));
        assert_int_equal(green_state(g), GREEN_SUSPENDED);
        assert_ptr_equal(green_throw(g, E1), V(5));
        assert_noted("1");
        assert_int_equal(green_state(g), GREEN_DEAD);
        free_all(g);
        if (green_free(third) != 0) /* it survives the first ECANCELED it meets */
            assert_int_equal(green_free(third), 0);
    }
}

static void *throw_at_main(void *value)
{
    value = green_throw(green_main(), (int)(intptr_t)value);
    return value;
}

TEST(a_green_may_throw_at_main)
{
    green_t *g = green_new(throw_at_main, NULL), *h = green_new(throw_at_main, NULL);
    assert_fails(green_switch(g, V(E1)), E1);
    assert_int_equal(green_state(g), GREEN_SUSPENDED);
    assert_ptr_equal(green_switch(g, V(3)), V(3));
    assert_fails(green_switch(h, V(0)), ECANCELED); /* main waits: no green has died */
    assert_int_equal(green_state(h), GREEN_SUSPENDED);
    free_all(g, h);
}

/* ---- At a new green ----------------------------------------------------- */

TEST(throw_into_a_new_green_never_runs_it)
{
    green_t *g = green_new(never, NULL);
    assert_fails(green_throw(g, E1), E1);
    assert_int_equal(green_state(g), GREEN_DEAD);
    assert_ptr_equal(green_switch(g, V(1)), V(1));
    assert_noted("");
    free_all(g);
}

static green_t *victim;

static void *throw_at_the_victim(void *value)
{
    value = green_throw(victim, (int)(intptr_t)value);
    note("back");
    return value;
}

/* The error goes to g's parent, not to the thrower. */
TEST(the_parent_of_a_new_green_gets_the_error)
{
    green_t *p = suspended(report, NULL), *thrower = green_new(throw_at_the_victim, NULL);
    victim = green_new(never, p);
    assert_ptr_equal(green_switch(thrower, V(E1)), V(E1)); /* from p */
    assert_noted("E1");
    assert_int_equal(green_state(victim), GREEN_DEAD);
    assert_int_equal(green_state(thrower), GREEN_SUSPENDED);
    assert_ptr_equal(green_switch(thrower, V(2)), V(2));
    assert_noted("back");
    free_all(victim, thrower);
    end(p);
}

TEST(a_new_green_thrown_ecanceled_gives_its_parent_null)
{
    for (int error = 0; error <= ECANCELED; error += ECANCELED) {
        green_t *p = suspended(report, NULL), *g = green_new(never, p);
        assert_null(green_throw(g, error)); /* the NULL that p yields */
        assert_int_equal(green_state(g), GREEN_DEAD);
        assert_int_equal(green_state(p), GREEN_SUSPENDED);
        green_t *h = green_new(never, NULL);
        assert_null(green_throw(h, error));
        assert_noted("");
        free_all(g, h);
        end(p);
    }
}

static void *note_value(void *value)
{
    note("%s", value == NULL ? "NULL" : value == GREEN_FAILED ? "failed" : "value");
    return V(7);
}

TEST(a_new_green_thrown_ecanceled_starts_its_new_parent_with_null)
{
    green_t *p = green_new(note_value, NULL), *g = green_new(never, p);
    assert_ptr_equal(green_throw(g, 0), V(7));
    assert_noted("NULL");
    assert_int_equal(green_state(g), GREEN_DEAD);
    assert_int_equal(green_state(p), GREEN_DEAD);
    free_all(p, g);
}

TEST(new_parents_die_of_the_error_too)
{
    green_t *s = suspended(report, NULL), *q = green_new(never, s), *p = green_new(never, q);
    green_t *g = green_new(never, p);
    assert_ptr_equal(green_throw(g, E1), V(E1));
    assert_noted("E1");
    assert_int_equal(green_state(g), GREEN_DEAD);
    assert_int_equal(green_state(p), GREEN_DEAD);
    assert_int_equal(green_state(q), GREEN_DEAD);
    assert_int_equal(green_state(s), GREEN_SUSPENDED);
    free_all(p, g, q);
    end(s);
}

/* greenlet: test_throw_goes_to_original_parent */
TEST(an_error_thrown_at_a_child_goes_to_the_childs_parent)
{
    green_t *g1 = green_new(catch_one, NULL), *g2 = green_new(never, g1);
    assert_fails(green_throw(g2, E1), E1);
    assert_int_equal(green_state(g1), GREEN_DEAD);
    assert_int_equal(green_state(g2), GREEN_DEAD);
    free_all(g1, g2);

    g1 = suspended(catch_one, NULL);
    g2 = green_new(never, g1);
    assert_ptr_equal(green_throw(g2, E1), caught);
    assert_int_equal(green_state(g1), GREEN_DEAD);
    assert_int_equal(green_state(g2), GREEN_DEAD);
    free_all(g1, g2);

    g1 = suspended(catch_one, NULL);
    g2 = suspended(echo, g1);
    assert_ptr_equal(green_throw(g2, E1), caught);
    assert_int_equal(green_state(g1), GREEN_DEAD);
    assert_int_equal(green_state(g2), GREEN_DEAD);
    free_all(g1, g2);
    assert_noted("");
}

/* ---- At a dead green ---------------------------------------------------- */

/* greenlet: test_kill, second half */
TEST(a_dead_green_can_be_thrown_at_again)
{
    green_t *g = suspended(echo, NULL);
    for (int i = 0; i < 3; i++) {
        assert_null(green_throw(g, 0));
        assert_int_equal(green_state(g), GREEN_DEAD);
    }
    assert_null(green_throw(g, ECANCELED));
    assert_fails(green_throw(g, E1), E1);
    assert_fails(green_throw(g, INT_MAX), INT_MAX);
    free_all(g);
}

TEST(a_dead_green_stands_for_its_nearest_ancestor_that_is_not_dead)
{
    green_t *s = suspended(report, NULL), *d1 = dead(s), *d2 = dead(d1);
    assert_ptr_equal(green_throw(d2, E1), V(E1));
    assert_noted("E1");
    assert_null(green_throw(d2, 0)); /* the value NULL: report yields it unnoted */
    assert_null(green_throw(d1, ECANCELED));
    assert_noted("");
    free_all(d1);
    assert_ptr_equal(green_throw(d2, E1), V(E1));
    assert_noted("E1");
    free_all(d2);
    end(s);
}

TEST(a_new_ancestor_of_a_dead_green_starts_with_null_or_dies)
{
    green_t *p = green_new(note_value, NULL), *d = dead(p), *e = dead(d);
    assert_ptr_equal(green_throw(e, 0), V(7));
    assert_noted("NULL");
    assert_int_equal(green_state(p), GREEN_DEAD);
    green_t *q = green_new(note_value, NULL);
    assert_int_equal(green_set_parent(d, q), 0);
    assert_fails(green_throw(e, E1), E1);
    assert_noted("");
    assert_int_equal(green_state(q), GREEN_DEAD);
    free_all(p, q, d, e);
}

static void *throw_at_a_dead_child(void *value)
{
    green_t *d = dead(green_current());
    note("%d", green_throw(d, 0) == NULL);
    errno = 0;
    note("%d", green_throw(d, E1) == GREEN_FAILED && errno == E1);
    note("%d", green_free(d));
    return value;
}

TEST(the_current_green_may_be_that_ancestor)
{
    green_t *g = green_new(throw_at_a_dead_child, NULL);
    assert_ptr_equal(green_switch(g, V(2)), V(2));
    assert_noted("1 1 0");
    free_all(g);
}

/* ---- At oneself, and not at all ----------------------------------------- */

static void *throw_at_oneself(void *value)
{
    errno = 0;
    note("%d", green_throw(green_current(), E1) == GREEN_FAILED && errno == E1);
    errno = 0;
    note("%d", green_throw(green_current(), 0) == GREEN_FAILED && errno == ECANCELED);
    return value;
}

TEST(thrown_at_oneself_it_fails_at_once)
{
    assert_fails(green_throw(green_main(), E1), E1);
    assert_fails(green_throw(green_main(), INT_MAX), INT_MAX);
    assert_fails(green_throw(green_main(), 0), ECANCELED);
    assert_fails(green_throw(green_main(), ECANCELED), ECANCELED);
    green_t *g = green_new(throw_at_oneself, NULL);
    assert_ptr_equal(green_switch(g, V(1)), V(1));
    assert_noted("1 1");
    free_all(g);
}

TEST(a_negative_error_and_null_are_refused)
{
    green_t *fresh = green_new(never, NULL), *waiting = suspended(report, NULL), *d = dead(NULL);
    green_t *targets[] = {fresh, waiting, d, green_main(), NULL};
    for (int i = 0; i < 5; i++) {
        assert_fails(green_throw(targets[i], -1), EINVAL);
        assert_fails(green_throw(targets[i], -E1), EINVAL);
        assert_fails(green_throw(targets[i], INT_MIN), EINVAL);
    }
    assert_fails(green_throw(NULL, E1), EINVAL);
    assert_fails(green_throw(NULL, 0), EINVAL);
    assert_int_equal(green_state(fresh), GREEN_NEW);
    assert_int_equal(green_state(waiting), GREEN_SUSPENDED);
    assert_noted("");
    assert_ptr_equal(green_switch(fresh, V(1)), V(1));
    assert_noted("ran");
    free_all(fresh, d);
    end(waiting);
}

int main(void)
{
    return run_all_tests();
}
