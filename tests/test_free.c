/* SPDX-License-Identifier: MIT */
/*
 * How a green is ended and released (rule 9): green_free(), green_abandon(),
 * GREEN_DETACHED.
 */
#include "testing.h"

static green_t *target, *other; /* whom the bodies of a test speak to */

/* Waits on main for what comes, notes an error, and dies of it. */
static void *park(void *value)
{
    value = green_switch(green_main(), value);
    if (value == GREEN_FAILED)
        note("%s", errno == ECANCELED ? "canceled" : "error");
    return value;
}

/* The same, but dies of E1 whatever it is told. */
static void *park_and_die_of_e1(void *value)
{
    park(value);
    errno = E1;
    return GREEN_FAILED;
}

/* Refuses to die, and tells its parent so, until it is entered with 1. */
static void *stubborn(void *value)
{
    value = green_switch(green_main(), value);
    while (value != V(1))
        value = green_yield(V(7));
    return value;
}

/* A new green under parent that has been entered and waits. */
static green_t *started(green_fn *run, green_t *parent)
{
    green_t *g = green_new(run, parent);
    assert_non_null(g);
    green_switch(g, NULL);
    assert_int_equal(green_state(g), GREEN_SUSPENDED);
    return g;
}

static void end_stubborn(green_t *g)
{
    green_switch(g, V(1));
    assert_int_equal(green_state(g), GREEN_DEAD);
    assert_int_equal(green_free(g), 0);
}

/* ---- What comes of it ------------------------------------------------------ */

TEST(freeing_null_does_nothing)
{
    assert_int_equal(green_free(NULL), 0);
}

TEST(freeing_a_new_green_never_runs_it)
{
    green_t *g = green_new(never, NULL);
    assert_int_equal(green_free(g), 0);
    assert_noted("");
}

TEST(freeing_a_dead_green_runs_nothing_more)
{
    green_t *g = green_new(never, NULL);
    green_switch(g, NULL);
    assert_int_equal(green_state(g), GREEN_DEAD);
    assert_int_equal(green_free(g), 0);
    assert_noted("ran");
}

/* greenlet: test_dealloc */
TEST(freeing_a_suspended_green_throws_ecanceled_into_it)
{
    green_t *g1 = started(park, NULL), *g2 = started(park, NULL);
    assert_int_equal(green_free(g1), 0);
    assert_noted("canceled");
    assert_int_equal(green_free(g2), 0);
    assert_noted("canceled");
    assert_ptr_equal(green_current(), green_main());
    assert_int_equal(green_state(green_main()), GREEN_RUNNING);
}

/* greenlet: test_dealloc_catches_GreenletExit_throws_other */
TEST(a_freed_green_may_die_of_whatever)
{
    assert_int_equal(green_free(started(park_and_die_of_e1, NULL)), 0);
    assert_noted("canceled");
}

static void *park_and_return(void *value)
{
    park(value);
    return V(42);
}

static void *park_and_exit(void *value)
{
    park(value);
    green_exit(V(42));
}

TEST(what_a_freed_green_leaves_is_dropped)
{
    assert_int_equal(green_free(started(park_and_return, NULL)), 0);
    assert_int_equal(green_free(started(park_and_exit, NULL)), 0);
    assert_noted("canceled canceled");
    assert_ptr_equal(green_switch(green_current(), V(3)), V(3));
}

TEST(freeing_one_that_refuses_is_ebusy_and_leaves_it_alive)
{
    green_t *g = started(stubborn, NULL);
    for (int i = 0; i < 3; i++) {
        assert_refused(green_free(g), EBUSY);
        assert_int_equal(green_state(g), GREEN_SUSPENDED);
        assert_ptr_equal(green_parent(g), green_main());
    }
    assert_ptr_equal(green_switch(g, V(2)), V(7)); /* it goes on as ever */
    end_stubborn(g);
}

/* Waits as the deferred function of a dying green does. */
static void wait_in_clean_up(void *arg)
{
    note("clean-up");
    while (green_yield(arg) == GREEN_FAILED)
        note("again");
}

static void *park_with_clean_up(void *value)
{
    green_defer(wait_in_clean_up, V(5));
    return park(value);
}

TEST(one_that_waits_in_its_clean_up_is_not_dead)
{
    green_t *g = started(park_with_clean_up, NULL);
    assert_refused(green_free(g), EBUSY);
    assert_noted("canceled clean-up");
    assert_int_equal(green_state(g), GREEN_SUSPENDED);
    assert_refused(green_free(g), EBUSY);
    assert_noted("again");
    assert_null(green_switch(g, NULL)); /* now it may end: of ECANCELED, as it began to */
    assert_int_equal(green_state(g), GREEN_DEAD);
    assert_int_equal(green_free(g), 0);
}

/* When killed, frees the one it was started with. */
static void *free_another_when_killed(void *next)
{
    green_switch(green_main(), NULL);
    if (next != NULL)
        note("%d", green_free(next));
    note("end");
    return NULL;
}

TEST(kills_nest)
{
    green_t *g = NULL;
    for (int i = 0; i < 5; i++) {
        green_t *outer = green_new(free_another_when_killed, NULL);
        green_switch(outer, g);
        g = outer;
    }
    assert_int_equal(green_free(g), 0);
    assert_noted("end 0 end 0 end 0 end 0 end");
}

/* ---- The stand-in ----------------------------------------------------------- */

/* When killed, notes whether its parent is `target`, refuses once, then dies. */
static void *note_parent_when_killed(void *value)
{
    green_switch(green_main(), value);
    note("%d", green_parent(green_current()) == target);
    value = green_yield(V(3));
    note("%d", green_parent(green_current()) == target);
    return value;
}

TEST(while_it_frees_the_caller_stands_in_for_the_parent)
{
    target = green_main();
    green_t *parent = green_new(never, NULL);
    green_t *g = started(note_parent_when_killed, parent);
    assert_ptr_equal(green_parent(g), parent);
    assert_refused(green_free(g), EBUSY); /* its yield came here, not to the parent */
    assert_noted("1");
    assert_ptr_equal(green_parent(g), parent);
    assert_int_equal(green_state(parent), GREEN_NEW);
    assert_int_equal(green_free(g), 0); /* so did its death */
    assert_noted("1");
    assert_int_equal(green_state(parent), GREEN_NEW);
    assert_int_equal(green_free(parent), 0);
}

static void *free_twice(void *g)
{
    errno = 0;
    note("%d", green_free(g) == -1 && errno == EBUSY);
    note("%d", green_free(g));
    return V(4);
}

TEST(any_green_that_frees_stands_in)
{
    green_t *parent = started(stubborn, NULL);
    green_t *g = started(note_parent_when_killed, parent);
    target = green_new(free_twice, NULL);
    assert_ptr_equal(green_switch(target, g), V(4));
    assert_noted("1 1 1 0");
    assert_int_equal(green_state(parent), GREEN_SUSPENDED);
    end_stubborn(parent);
    assert_int_equal(green_free(target), 0);
}

static void *reparent_when_killed(void *value)
{
    green_switch(green_main(), value);
    green_t *self = green_current();
    note("%d", green_set_parent(self, other));
    note("%d", green_parent(self) == target); /* not yet */
    green_yield(NULL);
    return NULL;
}

TEST(a_parent_set_meanwhile_takes_effect_afterwards)
{
    target = green_main();
    other = green_new(give_back, NULL);
    green_t *g = started(reparent_when_killed, NULL);
    assert_refused(green_free(g), EBUSY);
    assert_noted("0 1");
    assert_ptr_equal(green_parent(g), other);
    assert_null(green_switch(g, NULL)); /* dies, through `other` */
    assert_int_equal(green_state(other), GREEN_DEAD);
    assert_int_equal(green_free(g), 0);
    assert_int_equal(green_free(other), 0);
}

static void *cycle_when_killed(void *child)
{
    green_switch(green_main(), NULL);
    errno = 0;
    note("%d", green_set_parent(green_current(), child) == -1 && errno == ELOOP);
    return NULL;
}

TEST(a_stand_in_takes_no_part_in_cycles)
{
    green_t *g = green_new(cycle_when_killed, NULL);
    green_t *child = green_new(never, g);
    green_switch(g, child);
    assert_int_equal(green_free(g), 0);
    assert_noted("1");
    assert_ptr_equal(green_parent(child), green_main());
    assert_int_equal(green_free(child), 0);
}

static void *switch_to_hub_when_killed(void *hub)
{
    void *got = green_switch(green_main(), NULL);
    note("%d", got == GREEN_FAILED && errno == ECANCELED);
    note("%d", green_parent(green_current()) == green_main());
    got = green_switch(hub, NULL);
    note("%d", got == GREEN_FAILED && errno == ECANCELED);
    return got;
}

/* greenlet: test_parent_restored_on_kill */
TEST(the_real_parent_is_back_after_a_refused_kill)
{
    green_t *hub = green_new(give_back, NULL);
    green_t *g = green_new(switch_to_hub_when_killed, hub);
    green_switch(g, hub);
    assert_refused(green_free(g), EBUSY); /* the hub's death came to main */
    assert_noted("1 1");
    assert_int_equal(green_state(hub), GREEN_DEAD);
    assert_ptr_equal(green_parent(g), hub);
    assert_null(green_throw(g, 0));
    assert_noted("1");
    assert_int_equal(green_state(g), GREEN_DEAD);
    assert_int_equal(green_free(g), 0);
    assert_int_equal(green_free(hub), 0);
}

/* ---- What may happen meanwhile ---------------------------------------------- */

static void *free_target_with_no_success(void *value)
{
    errno = 0;
    note("%d", green_free(target) == -1 && errno == EBUSY);
    errno = 0;
    note("%d", green_abandon(target) == -1 && errno == EBUSY);
    return value;
}

static void *start_other_when_killed(void *value)
{
    green_switch(green_main(), value);
    free_target_with_no_success(NULL); /* oneself, as it happens */
    green_switch(other, NULL);
    return NULL;
}

TEST(what_one_call_is_freeing_another_cannot)
{
    target = green_new(start_other_when_killed, NULL);
    other = green_new(free_target_with_no_success, target);
    green_switch(target, NULL);
    assert_int_equal(green_free(target), 0);
    assert_noted("1 1 1 1");
    assert_int_equal(green_free(other), 0);
}

TEST(the_current_green_cannot_be_released)
{
    target = green_new(free_target_with_no_success, NULL);
    assert_ptr_equal(green_switch(target, V(1)), V(1));
    assert_noted("1 1");
    assert_int_equal(green_state(target), GREEN_DEAD);
    assert_int_equal(green_free(target), 0);
}

static void *throw_e1_at_main_when_killed(void *value)
{
    green_switch(green_main(), value);
    return green_throw(green_main(), E1);
}

static void *throw_ecanceled_at_main_when_killed(void *value)
{
    green_switch(green_main(), value);
    return green_throw(green_main(), 0);
}

static void *fail_with_e2(void *value)
{
    (void)value;
    errno = E2;
    return GREEN_FAILED;
}

static void *enter_other_when_killed(void *value)
{
    green_switch(green_main(), value);
    return green_switch(other, NULL);
}

TEST(an_error_that_reaches_the_caller_is_that_of_the_free)
{
    const struct {
        green_fn *run;
        int error;
    } rows[] = {
        { throw_e1_at_main_when_killed, E1 },
        { throw_ecanceled_at_main_when_killed, ECANCELED },
        { enter_other_when_killed, E2 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        other = green_new(fail_with_e2, NULL);
        green_t *parent = green_new(never, NULL);
        green_t *g = started(rows[i].run, parent);
        assert_refused(green_free(g), rows[i].error);
        assert_int_equal(green_state(g), GREEN_SUSPENDED);
        assert_ptr_equal(green_parent(g), parent);
        assert_int_equal(green_set_parent(g, green_main()), 0);
        assert_null(green_switch(g, NULL));
        assert_int_equal(green_free(g), 0);
        assert_int_equal(green_free(other), 0);
        assert_int_equal(green_free(parent), 0);
    }
}

static void *kill_target(void *value)
{
    green_throw(target, 0);
    return value;
}

TEST(a_third_green_may_finish_the_kill)
{
    target = green_new(enter_other_when_killed, NULL);
    other = green_new(kill_target, NULL);
    green_switch(target, NULL);
    assert_int_equal(green_free(target), 0);
    assert_int_equal(green_state(other), GREEN_SUSPENDED); /* in its throw */
    assert_int_equal(green_free(other), 0);
}

/* Frees target, and says what it was told. */
static void *free_target(void *value)
{
    (void)value;
    errno = 0;
    int result = green_free(target);
    int error = result == 0 ? 0 : errno;
    note("%d:%d", result, error == ECANCELED ? 1 : error == EBUSY ? 2 : error == E1 ? 3 : 0);
    note("%d", green_parent(green_current()) == green_main());
    return V(6);
}

/* When killed, goes to main instead; then dies of what comes. */
static void *go_to_main_when_killed(void *value)
{
    green_switch(green_main(), value);
    value = green_switch(green_main(), V(8));
    note("%s", value == GREEN_FAILED ? "killed" : "entered");
    return value;
}

/* `other` waits in green_free(target); target's real parent is `parent`. */
static void let_other_wait_in_free(green_t *parent, unsigned flags)
{
    green_options_t options = { .flags = flags };
    target = green_new_with(go_to_main_when_killed, parent, &options);
    green_switch(target, NULL);
    other = green_new(free_target, NULL);
    assert_ptr_equal(green_switch(other, NULL), V(8));
    assert_int_equal(green_state(other), GREEN_SUSPENDED);
    assert_int_equal(green_state(target), GREEN_SUSPENDED);
    assert_ptr_equal(green_parent(target), other);
}

TEST(a_caller_that_is_abandoned_gives_the_parent_back)
{
    green_t *parent = green_new(never, NULL);
    let_other_wait_in_free(parent, 0);
    assert_int_equal(green_abandon(other), 0);
    assert_noted("");
    assert_ptr_equal(green_parent(target), parent);
    assert_int_equal(green_state(target), GREEN_SUSPENDED);
    assert_int_equal(green_free(target), 0); /* nobody else is freeing it now */
    assert_noted("killed");
    assert_int_equal(green_free(parent), 0);
}

TEST(a_caller_that_is_freed_gives_the_parent_back)
{
    green_t *parent = green_new(never, NULL);
    let_other_wait_in_free(parent, 0);
    assert_int_equal(green_free(other), 0);
    assert_noted("-1:1 1");
    assert_ptr_equal(green_parent(target), parent);
    assert_int_equal(green_free(target), 0);
    assert_noted("killed");
    assert_int_equal(green_free(parent), 0);
}

TEST(a_caller_that_gets_a_value_gives_the_parent_back)
{
    let_other_wait_in_free(NULL, 0);
    assert_ptr_equal(green_switch(other, V(5)), V(6));
    assert_noted("-1:2 1");
    assert_ptr_equal(green_parent(target), green_main());
    assert_int_equal(green_free(target), 0);
    assert_int_equal(green_free(other), 0);
    assert_noted("killed");
}

TEST(a_freed_parent_is_not_given_back)
{
    green_t *parent = green_new(never, NULL);
    let_other_wait_in_free(parent, 0);
    assert_refused(green_free(target), EBUSY);
    assert_refused(green_abandon(target), EBUSY);
    assert_int_equal(green_free(parent), 0);
    assert_ptr_equal(green_parent(target), other);
    assert_ptr_equal(green_throw(other, E1), V(6));
    assert_noted("-1:3 1");
    assert_ptr_equal(green_parent(target), green_main());
    assert_int_equal(green_free(target), 0);
    assert_int_equal(green_free(other), 0);
    assert_noted("killed");
}

TEST(main_may_finish_what_another_is_freeing)
{
    green_t *parent = green_new(never, NULL);
    let_other_wait_in_free(parent, 0);
    assert_ptr_equal(green_switch(target, V(9)), V(6)); /* target dies, other goes on */
    assert_noted("entered 0:0 1");
    assert_int_equal(green_free(other), 0);
    assert_int_equal(green_free(parent), 0);
}

/* ---- Freed by its own child, by each other ----------------------------------- */

static void *enter_child_and_note(void *value)
{
    value = green_switch(other, value);
    note("%d", value == GREEN_FAILED && errno == ECANCELED);
    note("%d", green_parent(green_current()) == other);
    return value;
}

static void *free_parents(void *count)
{
    green_t *self = green_current();
    for (int i = 0; i < (int)(intptr_t)count; i++)
        note("%d", green_free(green_parent(self)));
    note("%d", green_parent(self) == green_main());
    return V(5);
}

TEST(a_child_may_free_its_parent)
{
    target = green_new(enter_child_and_note, NULL);
    other = green_new(free_parents, target);
    assert_ptr_equal(green_switch(target, V(1)), V(5));
    assert_noted("1 1 0 1");
    assert_ptr_equal(green_parent(other), green_main());
    assert_int_equal(green_free(other), 0);
}

TEST(a_child_may_free_all_its_ancestors)
{
    green_t *grand = started(park, NULL);
    target = green_new(enter_child_and_note, grand);
    other = green_new(free_parents, target);
    assert_ptr_equal(green_switch(target, V(2)), V(5));
    assert_noted("1 1 0 canceled 0 1");
    assert_int_equal(green_free(other), 0);
}

static void *free_the_other_one(void *value)
{
    green_t *self = green_current();
    if (self == other) /* wait to be killed */
        value = green_switch(green_main(), value);
    green_t *peer = self == other ? target : other;
    errno = 0;
    int result = green_free(peer), error = errno;
    if (peer == other) {
        note("target %d:%d", result, error == ECANCELED);
        note("%d", green_parent(peer) == green_main());
        note("%d", green_parent(self) == peer);
        note("%d", green_state(peer) == GREEN_SUSPENDED);
    } else {
        note("other %d", result);
        note("%d", green_parent(self) == green_main());
    }
    return V(2);
}

TEST(two_greens_may_free_each_other)
{
    other = green_new(free_the_other_one, NULL);
    green_switch(other, NULL);
    target = green_new(free_the_other_one, NULL);
    assert_ptr_equal(green_switch(target, NULL), V(2));
    assert_noted("target -1:1 1 1 1 other 0 1");
    assert_int_equal(green_state(other), GREEN_DEAD);
    assert_int_equal(green_free(other), 0);
}

static void look_up(green_trace_event_t event, green_t *from, green_t *to, void *data)
{
    int above = 0;
    (void)event, (void)from, (void)data;
    for (const green_t *g = to; g != NULL && above < 10; g = green_parent(g))
        above++;
    must(above < 10);
}

TEST(even_in_a_hook_neither_is_above_itself)
{
    green_set_trace(look_up, NULL);
    two_greens_may_free_each_other();
    green_set_trace(NULL, NULL);
}

/* ---- Main, current ----------------------------------------------------------- */

static void *release_main(void *main_green)
{
    errno = 0;
    must(green_free(main_green) == -1 && errno == EINVAL);
    errno = 0;
    must(green_abandon(main_green) == -1 && errno == EINVAL);
    return NULL;
}

TEST(a_main_green_cannot_be_released)
{
    release_main(green_main());
    in_thread(release_main, green_main()); /* nor by another thread */
    green_t *g = green_new(release_main, NULL);
    assert_null(green_switch(g, green_main()));
    assert_int_equal(green_free(g), 0);
    assert_int_equal(green_state(green_main()), GREEN_RUNNING);
}

/* ---- Children ------------------------------------------------------------------ */

TEST(children_of_a_freed_green_stand_under_its_nearest_remaining_ancestor)
{
    green_t *g[5];
    for (int i = 0; i < 5; i++)
        g[i] = green_new(give_back, i > 0 ? g[i - 1] : NULL);
    assert_int_equal(green_free(g[1]), 0);
    assert_ptr_equal(green_parent(g[2]), g[0]);
    assert_int_equal(green_free(g[3]), 0);
    assert_ptr_equal(green_parent(g[4]), g[2]);
    assert_int_equal(green_free(g[2]), 0);
    assert_ptr_equal(green_parent(g[4]), g[0]);
    assert_ptr_equal(green_switch(g[4], V(6)), V(6)); /* through g[0] */
    assert_int_equal(green_state(g[0]), GREEN_DEAD);
    assert_int_equal(green_free(g[0]), 0);
    assert_int_equal(green_free(g[4]), 0);
}

TEST(a_freed_ancestor_closes_no_cycle)
{
    green_t *a = green_new(give_back, NULL), *b = green_new(never, a), *c = green_new(give_back, b);
    assert_int_equal(green_free(b), 0);
    assert_refused(green_set_parent(a, c), ELOOP);
    assert_int_equal(green_set_parent(c, green_main()), 0);
    assert_int_equal(green_set_parent(a, c), 0);
    assert_ptr_equal(green_switch(a, V(2)), V(2));
    assert_int_equal(green_state(c), GREEN_DEAD);
    assert_int_equal(green_free(a), 0);
    assert_int_equal(green_free(c), 0);
}

TEST(a_green_with_many_children_is_freed_before_them)
{
    enum { MANY = 10000 };
    int many = times(MANY, 300);
    green_options_t small = { .stack_size = 16384, .flags = GREEN_NO_GUARD };
    static green_t *child[MANY], *parent[MANY];
    green_t *root = green_new(never, NULL);
    for (int i = 0; i < many; i++) { /* a chain of parents, children under the last */
        parent[i] = green_new_with(never, i > 0 ? parent[i - 1] : root, &small);
        child[i] = green_new_with(give_back, parent[i], &small);
        assert_non_null(child[i]);
    }
    for (int i = many; i-- > 0;)
        assert_int_equal(green_free(parent[i / 2 + (i % 2) * (many / 2)]), 0);
    for (int i = 0; i < many; i++)
        assert_ptr_equal(green_parent(child[i]), root);
    assert_int_equal(green_free(root), 0);
    for (int i = 0; i < many; i++) {
        assert_ptr_equal(green_switch(child[i], V(i)), V(i));
        assert_int_equal(green_free(child[i]), 0);
    }
    assert_noted("");
}

/* ---- Abandon -------------------------------------------------------------------- */

static void *park_with_much_to_clean_up(void *key)
{
    green_defer(note_arg, "deferred");
    green_setspecific(*(green_key_t *)key, "destroyed");
    return park(NULL);
}

TEST(an_abandoned_green_runs_nothing_more)
{
    green_key_t key;
    assert_int_equal(green_key_create(&key, note_arg), 0);
    green_t *g = green_new(park_with_much_to_clean_up, NULL);
    green_switch(g, &key);
    green_t *child = green_new(never, g);
    assert_int_equal(green_abandon(g), 0);
    assert_ptr_equal(green_parent(child), green_main());
    assert_int_equal(green_abandon(child), 0);
    g = green_new(give_back, NULL);
    green_switch(g, NULL);
    assert_int_equal(green_abandon(g), 0);
    assert_noted("");
    assert_int_equal(green_key_delete(key), 0);
}

TEST(what_cannot_be_freed_cannot_be_abandoned)
{
    assert_refused(green_abandon(NULL), EINVAL);
    assert_refused(green_abandon(green_main()), EINVAL);
    green_t *g = started(stubborn, NULL);
    assert_refused(green_free(g), EBUSY);
    assert_int_equal(green_abandon(g), 0); /* but this is what it is for */
}

/* ---- Detached -------------------------------------------------------------------- */

static const green_options_t detached = { .flags = GREEN_DETACHED };

TEST(a_detached_green_is_released_at_its_death)
{
    green_t *g = green_new_with(park, NULL, &detached);
    green_t *child = green_new(give_back, g);
    green_switch(g, NULL);
    assert_ptr_equal(green_parent(child), g);
    assert_ptr_equal(green_switch(g, V(4)), V(4));
    assert_ptr_equal(green_parent(child), green_main()); /* not under a dead one */
    assert_ptr_equal(green_switch(child, V(5)), V(5));
    assert_int_equal(green_free(child), 0);
    assert_noted("");
}

TEST(a_detached_green_may_be_freed_while_it_lives)
{
    assert_int_equal(green_free(green_new_with(never, NULL, &detached)), 0);
    assert_int_equal(green_abandon(green_new_with(never, NULL, &detached)), 0);
    green_t *g = green_new_with(park, NULL, &detached);
    green_switch(g, NULL);
    assert_int_equal(green_free(g), 0);
    assert_noted("canceled");
    g = green_new_with(park, NULL, &detached);
    green_switch(g, NULL);
    assert_int_equal(green_abandon(g), 0);
    g = green_new_with(stubborn, NULL, &detached);
    green_switch(g, NULL);
    assert_refused(green_free(g), EBUSY);
    assert_int_equal(green_state(g), GREEN_SUSPENDED);
    assert_ptr_equal(green_switch(g, V(1)), V(1));
    assert_noted("");
}

TEST(detached_greens_that_die_unrun_are_released_too)
{
    green_t *a = green_new_with(never, NULL, &detached);
    green_t *b = green_new_with(never, a, &detached);
    green_t *child = green_new(give_back, b);
    assert_fails(green_throw(b, E1), E1);
    assert_ptr_equal(green_parent(child), green_main());
    assert_int_equal(green_free(child), 0);
    assert_noted("");
}

TEST(a_detached_green_is_released_once_whoever_was_freeing_it)
{
    let_other_wait_in_free(NULL, GREEN_DETACHED);
    assert_int_equal(green_abandon(other), 0); /* nobody frees it any more */
    green_t *child = green_new(give_back, target);
    assert_ptr_equal(green_switch(target, V(2)), V(2));
    assert_noted("entered");
    assert_ptr_equal(green_parent(child), green_main());
    assert_int_equal(green_free(child), 0);

    let_other_wait_in_free(NULL, GREEN_DETACHED);
    assert_ptr_equal(green_switch(target, V(2)), V(6)); /* dies while it is being freed */
    assert_noted("entered 0:0 1");
    assert_int_equal(green_free(other), 0);
}

TEST(a_detached_caller_may_die_when_its_free_was_refused)
{
    target = green_new(go_to_main_when_killed, NULL);
    green_switch(target, NULL);
    other = green_new_with(free_target, NULL, &detached);
    assert_ptr_equal(green_switch(other, NULL), V(8));
    assert_ptr_equal(green_throw(target, 0), V(6));
    assert_noted("killed 0:0 1"); /* target is gone, and so is other */
    assert_ptr_equal(green_current(), green_main());
}

/* From further down than what is called later reaches. */
static __attribute__((noinline)) void free_deep(green_t *victim)
{
    volatile char room[2000];
    room[0] = room[sizeof room - 1] = 1;
    must(green_free(victim) == 0 && room[0] == 1);
}

/* Like the frames that come where that call has been. */
static __attribute__((noinline)) void scribble(void)
{
    volatile char room[4000];
    for (size_t i = 0; i < sizeof room; i++)
        room[i] = 0x5a;
}

static void *free_scribble_and_yield(void *victim)
{
    free_deep(victim);
    scribble();
    return green_yield(V(1));
}

TEST(one_that_has_freed_another_may_be_freed)
{
    for (int abandons = 0; abandons < 2; abandons++) {
        green_t *g = green_new(free_scribble_and_yield, NULL), *victim = green_new(echo, NULL);
        assert_ptr_equal(green_switch(victim, V(1)), V(1));
        assert_ptr_equal(green_switch(g, victim), V(1));
        assert_int_equal(abandons ? green_abandon(g) : green_free(g), 0);
    }
}

int main(void)
{
    return run_all_tests();
}
