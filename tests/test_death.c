/* SPDX-License-Identifier: MIT */
/* Where a green's result goes when it ends: values (rule 4) and errors (rule 5). */
#include <limits.h>

#include "greens.h"

/* Dies of the errno that its value points to: it may be one that is no value, -1. */
static void *die_of_one_at(void *where)
{
    return die_of(V(*(const int *)where));
}

/* Notes what it is started or resumed with, at its parent meanwhile; dies of an error. */
static void *note_all(void *value)
{
    for (;;) {
        if (value == GREEN_FAILED) {
            note("%s", errno == E1 ? "E1" : errno == ECANCELED ? "ECANCELED" : "another");
            return GREEN_FAILED;
        }
        note("%d", (int)(intptr_t)value);
        value = green_yield(value);
    }
}

static green_t *suspended(green_fn *run, green_t *parent)
{
    return suspend(green_new(run, NULL), V(0), parent);
}

/* ---- Values ------------------------------------------------------------- */

TEST(death_goes_to_the_parent)
{
    green_t *p = suspended(note_all, NULL), *c = green_new(give_back, p);
    assert_ptr_equal(green_switch(c, V(1)), V(1)); /* p has it, and yields it */
    assert_noted("0 1");
    assert_int_equal(green_state(c), GREEN_DEAD);
    assert_int_equal(green_state(p), GREEN_SUSPENDED);
    free_all(c, p);
    assert_noted("ECANCELED");
}

static green_t *child;

static void *note_the_childs_state(void *value)
{
    note("%d", green_state(child));
    note("%d", green_parent(child) == green_current());
    return value;
}

static void *wait_then_note_the_childs_state(void *value)
{
    return note_the_childs_state(green_yield(value));
}

TEST(a_green_is_dead_before_anyone_else_runs)
{
    green_t *fresh = green_new(note_the_childs_state, NULL);
    child = green_new(give_back, fresh);
    assert_ptr_equal(green_switch(child, V(1)), V(1));
    assert_noted("3 1");
    free_all(child, fresh);
    green_t *waiting = suspended(wait_then_note_the_childs_state, NULL);
    child = green_new(give_back, waiting);
    assert_ptr_equal(green_switch(child, V(2)), V(2));
    assert_noted("3 1");
    free_all(child, waiting);
}

static void *under_another_parent(void *value)
{
    green_set_parent(green_current(), value);
    return V(5);
}

TEST(a_result_goes_to_the_parent_of_that_moment)
{
    green_t *p = suspended(note_all, NULL), *q = suspended(note_all, NULL);
    green_t *c = green_new(under_another_parent, p);
    assert_ptr_equal(green_switch(c, q), V(5));
    assert_int_equal(green_state(p), GREEN_SUSPENDED);
    assert_int_equal(green_set_parent(q, p), 0);
    assert_noted("0 0 5"); /* whose is the 5? */
    assert_ptr_equal(green_switch(q, V(6)), V(6)); /* q yields to p, p to main */
    assert_noted("6 6");

    green_t *d = suspended(echo, q); /* another than its maker moves it */
    assert_int_equal(green_set_parent(d, p), 0);
    assert_fails(green_throw(d, E1), E1); /* p dies of it too */
    assert_noted("E1");
    assert_int_equal(green_state(p), GREEN_DEAD);
    assert_int_equal(green_state(q), GREEN_SUSPENDED);
    free_all(c, d, q, p);
    assert_noted("ECANCELED");
}

static void *switch_to_main(void *value)
{
    return green_switch(green_main(), value);
}

static void *wait_in_a_switch_to(void *value)
{
    value = green_switch(value, V(4)); /* it goes to main */
    note("%d", (int)(intptr_t)value);
    return V(9);
}

TEST(a_parent_that_waits_in_a_switch_to_another_receives_it_there)
{
    green_t *b = green_new(switch_to_main, NULL);
    green_t *p = green_new(wait_in_a_switch_to, NULL);
    green_t *c = green_new(give_back, p);
    assert_ptr_equal(green_switch(p, b), V(4));
    assert_ptr_equal(green_switch(c, V(8)), V(9));
    assert_noted("8");
    assert_int_equal(green_state(b), GREEN_SUSPENDED);
    assert_int_equal(green_state(c), GREEN_DEAD);
    assert_int_equal(green_state(p), GREEN_DEAD);
    free_all(b, c, p);
}

static void *throw_to_main(void *value)
{
    value = green_throw(green_main(), (int)(intptr_t)value);
    note("%d", (int)(intptr_t)value);
    return V(9);
}

TEST(a_parent_that_waits_in_a_throw_receives_it_there)
{
    green_t *p = green_new(throw_to_main, NULL), *c = green_new(give_back, p);
    assert_fails(green_switch(p, V(E1)), E1);
    assert_ptr_equal(green_switch(c, V(8)), V(9));
    assert_noted("8");
    free_all(c, p);
}

TEST(main_receives_a_result_while_it_waits_for_another)
{
    green_t *c = suspended(echo, NULL); /* main is its parent */
    green_t *g = green_new(wait_in_a_switch_to, NULL);
    assert_ptr_equal(green_switch(g, c), V(4)); /* c yields to main, g waits for c */
    assert_ptr_equal(green_switch(g, V(3)), V(9));
    assert_noted("3");
    free_all(c, g);
}

TEST(the_entering_green_is_nobody_special)
{
    green_t *c = green_new(give_back, NULL); /* its parent is main */
    green_t *g = green_new(wait_in_a_switch_to, NULL);
    assert_ptr_equal(green_switch(g, c), V(4)); /* g entered c, main has c's result */
    assert_int_equal(green_state(c), GREEN_DEAD);
    assert_int_equal(green_state(g), GREEN_SUSPENDED);
    assert_ptr_equal(green_switch(g, V(3)), V(9));
    assert_noted("3");
    free_all(c, g);
}

TEST(a_result_passes_by_dead_parents)
{
    green_t *p = suspended(note_all, NULL), *d1 = dead(p), *d2 = dead(d1);
    green_t *c = green_new(give_back, d2);
    assert_ptr_equal(green_switch(c, V(1)), V(1));
    assert_noted("0 1");
    free_all(d1, c, d2, p);
    assert_noted("ECANCELED");
}

static void *add_24(void *value)
{
    return V((intptr_t)value + 24);
}

/* greenlet: test_falling_off_end_switches_to_unstarted_parent_works */
TEST(a_new_parent_starts_with_the_result)
{
    green_t *q = green_new(add_24, NULL), *p = green_new(add_24, q), *c = green_new(give_back, p);
    assert_ptr_equal(green_switch(c, V(42)), V(42 + 2 * 24));
    assert_int_equal(green_state(c), GREEN_DEAD);
    assert_int_equal(green_state(p), GREEN_DEAD);
    assert_int_equal(green_state(q), GREEN_DEAD);
    free_all(q, p, c);
}

static void *yield_once(void *value)
{
    return green_yield(value);
}

TEST(a_detached_green_has_a_result_too)
{
    green_options_t options = {.flags = GREEN_DETACHED};
    green_t *g = green_new_with(give_back, NULL, &options);
    assert_ptr_equal(green_switch(g, V(3)), V(3));
    g = green_new_with(die_of, NULL, &options);
    assert_fails(green_switch(g, V(E1)), E1);
    g = green_new_with(give_back, NULL, &options);
    assert_fails(green_throw(g, E1), E1); /* dies unrun */
    g = green_new_with(add_24, NULL, &options);
    green_t *c = green_new(yield_once, g);
    assert_ptr_equal(green_switch(c, V(1)), V(25)); /* c's parent ran and is gone */
    assert_ptr_equal(green_parent(c), green_main());
    assert_ptr_equal(green_switch(c, V(2)), V(2));
    free_all(c);
}

/* ---- Errors ------------------------------------------------------------- */

TEST(a_green_that_returns_green_failed_dies_of_errno)
{
    static const int errors[] = {E1, E2, EINVAL, EBUSY, EPERM, EINTR, 1, 4095, 4096, INT_MAX};
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        green_t *g = green_new(die_of_one_at, NULL);
        assert_fails(green_switch(g, (void *)&errors[i]), errors[i]);
        assert_int_equal(green_state(g), GREEN_DEAD);
        free_all(g);
    }
}

TEST(an_errno_that_is_not_positive_counts_as_ecanceled)
{
    static const int errors[] = {ECANCELED, 0, -1, -EINVAL, INT_MIN};
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        green_t *g = green_new(die_of_one_at, NULL);
        assert_null(green_switch(g, (void *)&errors[i]));
        assert_int_equal(green_state(g), GREEN_DEAD);
        free_all(g);
    }
}

static void *fail_in_a_call(void *value)
{
    return green_switch(NULL, value);
}

TEST(the_error_of_a_failed_call_is_passed_on)
{
    green_t *g = green_new(fail_in_a_call, NULL);
    assert_fails(green_switch(g, NULL), EINVAL);
    free_all(g);
}

TEST(an_error_arrives_in_the_call_the_parent_waits_in)
{
    green_t *p = suspended(note_all, NULL), *d = dead(p), *c = green_new(die_of, d);
    assert_fails(green_switch(c, V(E1)), E1); /* p dies of it again: it goes on to main */
    assert_noted("0 E1");
    assert_int_equal(green_state(p), GREEN_DEAD);
    assert_int_equal(green_state(c), GREEN_DEAD);
    free_all(p, c, d);
}

static void *survive(void *value)
{
    while (value != GREEN_FAILED)
        value = green_yield(value);
    note("%s", errno == E1 ? "E1" : "?");
    return V(1);
}

TEST(an_error_may_be_survived)
{
    green_t *p = suspended(survive, NULL), *c = green_new(die_of, p);
    assert_ptr_equal(green_switch(c, V(E1)), V(1));
    assert_noted("E1");
    free_all(p, c);
}

TEST(a_new_parent_given_an_error_dies_of_it_unrun)
{
    green_t *s = suspended(note_all, NULL);
    green_t *q = green_new(note_all, s), *d = dead(q), *p = green_new(note_all, d);
    green_t *c = green_new(die_of, p);
    assert_fails(green_switch(c, V(E1)), E1);
    assert_noted("0 E1"); /* s alone */
    green_t *all[] = {c, p, d, q, s};
    for (int i = 0; i < 5; i++)
        assert_int_equal(green_state(all[i]), GREEN_DEAD);
    assert_ptr_equal(green_switch(p, V(1)), V(1)); /* and never runs: main itself */
    assert_noted("");
    free_all(s, q, d, p, c);
}

TEST(death_by_ecanceled_reaches_the_parent_as_null)
{
    green_t *s = suspended(note_all, NULL), *d = dead(s);
    green_t *c = green_new(die_of, s), *e = green_new(die_of, d);
    assert_null(green_switch(c, V(ECANCELED)));
    assert_noted("0 0");
    assert_null(green_switch(e, V(0)));
    assert_noted("0");
    assert_int_equal(green_state(s), GREEN_SUSPENDED);
    free_all(c, d, e, s);
    assert_noted("ECANCELED");
}

TEST(death_by_ecanceled_starts_a_new_parent_with_null)
{
    green_t *p = green_new(note_all, NULL), *d = dead(p), *c = green_new(die_of, d);
    assert_null(green_switch(c, V(ECANCELED)));
    assert_noted("0");
    assert_int_equal(green_state(p), GREEN_SUSPENDED);
    free_all(c, d, p);
    assert_noted("ECANCELED");
}

/* A green of another errno in between changes nothing: each dies of its own. */
static void *die_of_e1_after_waiting(void *value)
{
    green_yield(value);
    errno = E1;
    return GREEN_FAILED;
}

TEST(each_green_dies_of_its_own_error)
{
    green_t *g = suspended(die_of_e1_after_waiting, NULL), *h = green_new(die_of, NULL);
    assert_fails(green_switch(h, V(E2)), E2);
    errno = EINTR;
    assert_fails(green_switch(g, NULL), E1);
    free_all(g, h);
}

/* ---- Parents that are gone ---------------------------------------------- */

/* Puts a new green of run under a parent of each kind, which is then released. */
static green_t *orphan(green_fn *run, int kind, green_t *ancestor)
{
    green_t *p = NULL;
    switch (kind) {
    case 0: p = green_new(note_all, ancestor); break;
    case 1: p = dead(ancestor); break;
    default: p = suspended(yield_once, ancestor);
    }
    green_t *c = green_new(run, p);
    assert_ptr_equal(green_parent(c), p);
    assert_int_equal(kind == 3 ? green_abandon(p) : green_free(p), 0);
    assert_ptr_equal(green_parent(c), ancestor);
    return c;
}

TEST(a_result_passes_by_freed_parents)
{
    for (int kind = 0; kind <= 3; kind++) {
        green_t *s = suspended(note_all, NULL);
        green_t *c = orphan(give_back, kind, s);
        assert_ptr_equal(green_switch(c, V(1)), V(1));
        assert_noted("0 1");
        green_t *e = orphan(die_of, kind, s);
        assert_null(green_switch(e, V(ECANCELED)));
        assert_noted("0");
        green_t *f = orphan(die_of, kind, s);
        assert_fails(green_switch(f, V(E1)), E1);
        assert_noted("E1");
        free_all(c, e, f, s);
    }
}

TEST(a_result_passes_by_parents_freed_and_dead_in_any_mixture)
{
    green_t *fresh = green_new(add_24, NULL);
    green_t *o1 = orphan(give_back, 1, fresh), *d = dead(o1);
    green_t *o2 = orphan(give_back, 0, d), *c = green_new(give_back, o2);
    assert_int_equal(green_free(o2), 0);
    assert_ptr_equal(green_parent(c), d);
    assert_int_equal(green_free(d), 0);
    assert_ptr_equal(green_parent(c), o1);
    assert_int_equal(green_free(o1), 0);
    assert_ptr_equal(green_parent(c), fresh);
    assert_ptr_equal(green_switch(c, V(1)), V(25));
    free_all(fresh, c);
}

static void *free_own_parent(void *value)
{
    green_t *me = green_current(), *parent = green_parent(me);
    note("%d", green_free(parent));
    note("%d", green_parent(me) == green_main());
    return value;
}

TEST(a_green_may_free_its_parent)
{
    green_t *p = suspended(note_all, NULL), *c = green_new(free_own_parent, p);
    assert_ptr_equal(green_switch(c, V(1)), V(1));
    assert_noted("0 ECANCELED 0 1");
    green_t *q = green_new(note_all, NULL), *d = green_new(free_own_parent, q);
    assert_ptr_equal(green_switch(d, V(2)), V(2));
    assert_noted("0 1");
    free_all(c, d);
}

int main(void)
{
    return run_all_tests();
}
