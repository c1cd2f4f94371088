/* SPDX-License-Identifier: MIT */
/*
 * What remains of greenlet's own test_greenlet.py, test_extension_interface.py:
 * small programs that use several rules together.
 */
#include "testing.h"

/*
 * greenlet's fmain: goes to its parent; dies of an error that it is thrown, and
 * of E1 if it is entered with a value.
 */
static void *fmain(void *value)
{
    if (green_yield(value) != GREEN_FAILED) {
        errno = E1;
        return GREEN_FAILED;
    }
    int error = errno;
    note("%s", error == E1 ? "E1" : error == E2 ? "E2" : error == ECANCELED ? "ECANCELED" : "?");
    errno = error;
    return GREEN_FAILED;
}

static int count_one(green_t *g, void *arg)
{
    (void)g;
    ++*(int *)arg;
    return 0;
}

/* How many greens of this thread live, its main green among them. */
static int living(void)
{
    int n = 0;
    return green_each(count_one, &n) == 0 ? n : -1;
}

static void *two_steps(void *value)
{
    note("1");
    green_yield(value);
    note("3");
    return value;
}

/* greenlet: test_simple */
TEST(a_green_goes_on_where_it_left_off)
{
    green_t *g = green_new(two_steps, NULL);
    note("0");
    green_switch(g, NULL);
    note("2");
    green_switch(g, NULL);
    note("4");
    assert_noted("0 1 2 3 4");
    assert_int_equal(green_state(g), GREEN_DEAD);
    assert_int_equal(green_free(g), 0);
}

static int count;

static void *count_1_then_2(void *value)
{
    count += 1;
    green_yield(value);
    count += 2;
    return value;
}

/* greenlet: test_two_children */
TEST(two_children_of_one_parent_take_turns)
{
    green_t *g = green_new(count_1_then_2, NULL), *h = green_new(count_1_then_2, NULL);
    count = 0;
    green_switch(g, NULL);
    assert_int_equal(count, 1);
    green_switch(h, NULL);
    assert_int_equal(count, 2);
    green_switch(h, NULL);
    assert_int_equal(count, 4);
    assert_int_equal(green_state(h), GREEN_DEAD);
    assert_int_equal(green_state(g), GREEN_SUSPENDED);
    green_switch(g, NULL);
    assert_int_equal(count, 6);
    assert_int_equal(green_state(g), GREEN_DEAD);
    assert_int_equal(green_free(g), 0);
    assert_int_equal(green_free(h), 0);
}

static green_t *grandchild;

static void *note_b_and_yield(void *value)
{
    note("b");
    return green_yield(value);
}

static void *run_a_grandchild(void *value)
{
    note("a");
    grandchild = green_new(note_b_and_yield, NULL);
    green_switch(grandchild, NULL);
    note("c");
    return value;
}

/* greenlet: test_two_recursive_children */
TEST(a_child_may_leave_a_grandchild_behind)
{
    int before = living();
    green_t *a = green_new(run_a_grandchild, NULL);
    green_switch(a, NULL);
    assert_noted("a b c");
    assert_int_equal(green_state(a), GREEN_DEAD);
    assert_int_equal(living(), before + 1);
    assert_int_equal(green_free(grandchild), 0);
    assert_int_equal(living(), before);
    assert_noted("");
    assert_int_equal(green_free(a), 0);
}

/* greenlet: test_exception */
TEST(an_error_goes_up_a_chain_of_suspended_greens)
{
    green_t *g1 = green_new(fmain, NULL), *g2 = green_new(fmain, NULL);
    green_switch(g1, NULL);
    green_switch(g2, NULL);
    assert_int_equal(green_set_parent(g2, g1), 0);
    assert_fails(green_switch(g2, NULL), E1);
    assert_noted("E1"); /* g1 */
    assert_null(green_switch(g2, NULL));
    assert_ptr_equal(green_switch(g2, V(25)), V(25));
    assert_noted("");
    assert_int_equal(green_free(g1), 0);
    assert_int_equal(green_free(g2), 0);
}

static void *die_of_e2(void *value)
{
    (void)value;
    errno = E2;
    return GREEN_FAILED;
}

/* greenlet: test_send_exception */
TEST(a_childs_error_lands_in_its_suspended_parent)
{
    green_t *g = green_new(fmain, NULL);
    green_switch(g, NULL);
    green_t *c = green_new(die_of_e2, g);
    assert_fails(green_switch(c, NULL), E2);
    assert_noted("E2");
    assert_int_equal(green_state(g), GREEN_DEAD);
    assert_int_equal(green_free(c), 0);
    assert_int_equal(green_free(g), 0);
}

/* greenlet: test_dealloc */
TEST(to_free_a_suspended_green_throws_ecanceled)
{
    green_t *g1 = green_new(fmain, NULL), *g2 = green_new(fmain, NULL);
    green_switch(g1, NULL);
    green_switch(g2, NULL);
    assert_noted("");
    assert_int_equal(green_free(g1), 0);
    assert_noted("ECANCELED");
    assert_int_equal(green_free(g2), 0);
    assert_noted("ECANCELED");
    assert_ptr_equal(green_current(), green_main());
}

static void *die_of_e1_when_canceled(void *value)
{
    if (green_yield(value) == GREEN_FAILED && errno == ECANCELED)
        errno = E1;
    return GREEN_FAILED;
}

/* greenlet: test_dealloc_catches_GreenletExit_throws_other */
TEST(the_error_of_a_freed_green_is_dropped)
{
    green_t *g = green_new(die_of_e1_when_canceled, NULL);
    green_switch(g, NULL);
    assert_int_equal(green_free(g), 0);
    assert_ptr_equal(green_current(), green_main());
    assert_ptr_equal(green_switch(green_main(), V(1)), V(1));
}

static green_t *hub;

static void *go_to_the_hub_when_canceled(void *value)
{
    value = green_switch(green_main(), value);
    note("%d", value == GREEN_FAILED && errno == ECANCELED);
    note("%d", green_parent(green_current()) == green_main());
    value = green_switch(hub, NULL);
    note("%d", green_parent(green_current()) == hub);
    return value;
}

/* greenlet: test_parent_restored_on_kill */
TEST(the_parent_is_the_caller_while_a_green_is_freed_and_itself_afterwards)
{
    hub = green_new(give_back, NULL);
    green_t *g = green_new(go_to_the_hub_when_canceled, hub);
    assert_ptr_equal(green_switch(g, V(1)), V(1));
    assert_refused(green_free(g), EBUSY); /* the hub has run, and ended here */
    assert_ptr_equal(green_parent(g), hub);
    assert_int_equal(green_state(hub), GREEN_DEAD);
    assert_int_equal(green_state(g), GREEN_SUSPENDED);
    assert_null(green_throw(g, 0));
    assert_noted("1 1 1");
    assert_int_equal(green_free(g), 0);
    assert_int_equal(green_free(hub), 0);
}

/* greenlet: test_frame, as far as no frames are looked at */
TEST(a_green_lives_until_it_has_ended)
{
    green_t *g = green_new(fmain, NULL);
    green_switch(g, NULL);
    assert_int_equal(green_state(g), GREEN_SUSPENDED);
    assert_fails(green_switch(g, NULL), E1);
    assert_int_equal(green_state(g), GREEN_DEAD);
    assert_int_equal(green_free(g), 0);
}

static intptr_t multiply_down(intptr_t n)
{
    if (n == 0)
        return (intptr_t)green_switch(green_parent(green_current()), NULL);
    return n * multiply_down(n - 1);
}

static void *multiply(void *value)
{
    return V(multiply_down((intptr_t)value));
}

/* greenlet: test_get_stack_with_nested_c_calls */
TEST(a_green_may_wait_deep_in_a_recursion)
{
    green_t *g = green_new(multiply, NULL), *h = green_new(multiply, NULL);
    assert_null(green_switch(g, V(5)));
    assert_null(green_switch(h, V(3)));
    assert_ptr_equal(green_switch(g, V(10)), V(1200));
    assert_ptr_equal(green_switch(h, V(10)), V(60));
    assert_int_equal(green_free(g), 0);
    assert_int_equal(green_free(h), 0);
}

static void *yield_twice(void *value)
{
    note("bar");
    green_yield(value);
    note("bar again");
    green_yield(value);
    return NULL;
}

static void *make_bar(void *value)
{
    green_t *bar = green_new(yield_twice, NULL);
    green_switch(bar, value);
    note("foo");
    green_yield(bar);
    note("never");
    return NULL;
}

/* greenlet: test_setparent (test_extension_interface.py) */
TEST(a_green_under_a_new_parent_forgets_the_old_one)
{
    green_t *foo = green_new(make_bar, NULL), *bar = green_switch(foo, V(1));
    assert_noted("bar foo");
    assert_ptr_equal(green_parent(bar), foo);
    assert_int_equal(green_set_parent(bar, green_main()), 0);
    assert_ptr_equal(green_switch(bar, NULL), V(1));
    assert_noted("bar again");
    assert_int_equal(green_state(foo), GREEN_SUSPENDED);
    assert_int_equal(green_state(bar), GREEN_SUSPENDED);
    assert_int_equal(green_free(bar), 0);
    assert_int_equal(green_abandon(foo), 0);
    assert_noted("");
}

TEST(a_failing_switch_leaves_nothing_behind)
{
    int before = living();
    for (int i = 0; i < 1000; i++) {
        green_t *g = green_new(die_of_e2, NULL);
        assert_fails(green_switch(g, NULL), E2);
        assert_int_equal(green_free(g), 0);
    }
    assert_int_equal(living(), before);
}

int main(void)
{
    return run_all_tests();
}
