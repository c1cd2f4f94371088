/* SPDX-License-Identifier: MIT */
/*
 * What a trace hook sees (rule 13).
 *
 * The hook notes each event in a few letters: a>b is a SWITCH from a to b, a!b
 * a THROW, (a)>b one from an a that is DEAD.
 */
#include <pthread.h>

#include "greens.h"

static int data_of_hook;        /* its address is what the hook is given */
static int doomed;              /* its address is the data of a NEW green that will die unrun */
static int wrong;               /* the hook counts what is not as it should be */

static int sane_stack(const green_t *g)
{
    void *low = &low;
    size_t size = 1;
    green_stack(g, &low, &size);
    if (g == green_main() || green_state(g) == GREEN_DEAD)
        return low == NULL && size == 0 && green_stack_used(g) == 0;
    return low != NULL && size >= 16384 && green_stack_used(g) <= size;
}

static void log_event(green_trace_event_t event, green_t *from, green_t *to, void *data)
{
    green_state_t left = green_state(from);
    wrong += data != &data_of_hook;
    wrong += green_current() != to;
    wrong += event != GREEN_TRACE_SWITCH && event != GREEN_TRACE_THROW;
    if (green_data(to) != &doomed) /* that is neither entered nor dead yet */
        wrong += green_state(to) != GREEN_RUNNING;
    else
        wrong += event != GREEN_TRACE_THROW;
    if (from == to)
        wrong += left != GREEN_RUNNING;
    else
        wrong += left != GREEN_SUSPENDED && left != GREEN_DEAD;
    wrong += !sane_stack(from) + !sane_stack(to);
    note(left == GREEN_DEAD ? "(%s)%s%s" : "%s%s%s", green_name(from),
         event == GREEN_TRACE_THROW ? "!" : ">", green_name(to));
}

static int set_hook(void **state)
{
    (void)state;
    wrong = 0;
    noted()[0] = '\0';
    return green_set_trace(log_event, &data_of_hook) == NULL ? 0 : -1;
}

static int unset_hook(void **state)
{
    (void)state;
    green_trace_fn *before = green_set_trace(NULL, NULL);
    return (before == log_event || before == NULL) && wrong == 0 ? 0 : -1;
}

#define TRACED_TEST(sentence) TEST_WITH(sentence, set_hook, unset_hook)

/* All tests here run with the hook on. */
#define assert_events(text)        \
    do {                           \
        assert_noted(text);        \
        assert_int_equal(wrong, 0); \
    } while (0)

/* One that dies unrun. */
static green_t *doom(const char *name, green_t *parent)
{
    green_t *g = named(name, echo, parent);
    assert_int_equal(green_set_data(g, &doomed), 0);
    return g;
}

/* What comes of making these is no event of a test. */
static green_t *suspended(const char *name, green_fn *run, green_t *parent)
{
    green_t *g = suspend(named(name, run, NULL), V(1), parent);
    noted()[0] = '\0';
    return g;
}

static green_t *finished(const char *name, green_t *parent)
{
    green_t *g = finish(named(name, give_back, NULL), V(1), parent);
    noted()[0] = '\0';
    return g;
}

/* ---- Which events there are --------------------------------------------- */

/* greenlet: test_a_greenlet_tracing */
TRACED_TEST(a_start_a_death_and_a_death_by_error)
{
    green_t *g1 = named("g1", give_back, NULL), *g2 = named("g2", die_of, NULL);
    assert_ptr_equal(green_switch(g1, V(1)), V(1));
    assert_fails(green_switch(g2, V(E1)), E1);
    assert_events("main>g1 (g1)>main main>g2 (g2)!main");
    free_all(g1, g2);
    assert_events("");
}

TRACED_TEST(a_death_by_ecanceled_is_a_switch)
{
    static const int errors[] = {ECANCELED, 0, -E1};
    for (int i = 0; i < 3; i++) {
        green_t *g = named("g", die_of, NULL);
        assert_null(green_switch(g, V(errors[i])));
        assert_events("main>g (g)>main");
        free_all(g);
    }
}

static void *exit_with(void *value)
{
    errno = E1;
    green_exit(value == V(1) ? value : GREEN_FAILED);
}

TRACED_TEST(an_exit_is_a_death)
{
    green_t *g = named("g", exit_with, NULL), *h = named("h", exit_with, NULL);
    assert_ptr_equal(green_switch(g, V(1)), V(1));
    assert_events("main>g (g)>main");
    assert_fails(green_switch(h, V(2)), E1);
    assert_events("main>h (h)!main");
    free_all(g, h);
}

static green_t *next_one;

static void *enter_the_next(void *value)
{
    return green_switch(next_one, value);
}

TRACED_TEST(yields_and_switches_between_greens)
{
    green_t *a = named("a", enter_the_next, NULL), *b = named("b", echo, a);
    next_one = b;
    assert_ptr_equal(green_switch(a, V(1)), V(1)); /* b yields to a, which ends */
    assert_events("main>a a>b b>a (a)>main");
    assert_ptr_equal(green_switch(b, V(2)), V(2)); /* yields to a, which is dead */
    assert_events("main>b b>main");
    assert_null(green_throw(b, 0));
    assert_events("main!b (b)>main");
    free_all(a, b);
}

static void *survive(void *value)
{
    for (int i = 0; i < 3; i++)
        if ((value = green_yield(value)) == GREEN_FAILED)
            value = NULL;
    return value;
}

TRACED_TEST(a_throw_at_a_suspended_green)
{
    green_t *g = suspended("g", survive, NULL), *h = suspended("h", echo, NULL);
    assert_null(green_throw(g, E1));
    assert_null(green_throw(g, 0));
    assert_events("main!g g>main main!g g>main");
    assert_fails(green_throw(h, E1), E1);
    assert_events("main!h (h)!main");
    free_all(g, h);
}

TRACED_TEST(a_throw_at_a_new_green_which_dies_unrun)
{
    green_t *g = doom("g", NULL), *h = doom("h", NULL);
    assert_fails(green_throw(g, E1), E1);
    assert_events("main!g (g)!main");
    assert_null(green_throw(h, 0));
    assert_events("main!h (h)>main");
    free_all(g, h);
}

static void *throw_at_the_next(void *value)
{
    return green_throw(next_one, (int)(intptr_t)value);
}

TRACED_TEST(a_throw_at_new_greens_in_a_row)
{
    green_t *s = suspended("s", survive, NULL), *q = doom("q", s), *p = doom("p", q);
    green_t *thrower = named("t", throw_at_the_next, NULL);
    next_one = doom("g", p);
    assert_null(green_switch(thrower, V(E1)));
    assert_events("main>t t!g (g)!p (p)!q (q)!s s>main");
    assert_ptr_equal(green_switch(thrower, V(2)), V(2));
    assert_events("main>t (t)>main");
    green_t *n = named("n", give_back, s), *m = doom("m", n);
    assert_null(green_throw(m, 0)); /* s yields it */
    assert_events("main!m (m)>n (n)>s s>main");
    free_all(next_one, p, q, s, thrower, m, n);
}

TRACED_TEST(a_throw_at_a_dead_green_is_one_at_its_ancestor)
{
    green_t *s = suspended("s", survive, NULL), *d1 = finished("d1", s), *d2 = finished("d2", d1);
    assert_null(green_throw(d2, E1));
    assert_events("main!s s>main");
    assert_null(green_throw(d2, 0));
    assert_events("main>s s>main"); /* the value NULL */
    green_t *n = named("n", give_back, NULL), *x = doom("x", NULL);
    assert_int_equal(green_set_parent(d1, n), 0);
    assert_null(green_throw(d2, ECANCELED));
    assert_events("main>n (n)>main");
    assert_int_equal(green_set_parent(d1, x), 0);
    assert_fails(green_throw(d2, E1), E1);
    assert_events("main!x (x)!main");
    assert_fails(green_throw(d2, E1), E1);
    assert_null(green_throw(d2, 0));
    assert_events("main!main main>main");
    free_all(d1, d2, n, x, s);
}

TRACED_TEST(a_switch_to_a_dead_green_is_one_to_its_ancestor)
{
    green_t *s = suspended("s", echo, NULL), *d = finished("d", s), *n = named("n", give_back, s);
    green_t *e = finished("e", n);
    assert_ptr_equal(green_switch(d, V(2)), V(2));
    assert_events("main>s s>main");
    assert_ptr_equal(green_switch(e, V(3)), V(3));
    assert_events("main>n (n)>s s>main");
    free_all(n, d, e);
    noted()[0] = '\0';
    green_t *c = named("c", give_back, s);
    assert_int_equal(green_free(s), 0);
    assert_events("main!s (s)>main");
    assert_ptr_equal(green_switch(c, V(4)), V(4));
    assert_events("main>c (c)>main");
    free_all(c);
}

TRACED_TEST(new_parents_start_one_after_the_other)
{
    green_t *q = named("q", give_back, NULL), *p = named("p", give_back, q);
    green_t *c = named("c", give_back, p);
    assert_ptr_equal(green_switch(c, V(2)), V(2));
    assert_events("main>c (c)>p (p)>q (q)>main");
    free_all(c, p, q);
    q = named("q", give_back, NULL), p = doom("p", q), c = named("c", die_of, p);
    assert_int_equal(green_set_data(q, &doomed), 0);
    assert_fails(green_switch(c, V(E1)), E1);
    assert_events("main>c (c)!p (p)!q (q)!main");
    free_all(p, q, c);
}

static void *to_itself(void *value)
{
    green_switch(green_current(), value);
    green_throw(green_current(), E1);
    return value;
}

TRACED_TEST(moves_to_oneself)
{
    green_t *m = green_main();
    assert_ptr_equal(green_switch(m, V(1)), V(1));
    assert_fails(green_throw(m, E1), E1);
    assert_fails(green_throw(m, 0), ECANCELED); /* arrives as an error */
    assert_events("main>main main!main main!main");
    green_t *g = named("g", to_itself, NULL);
    assert_ptr_equal(green_switch(g, V(2)), V(2));
    assert_events("main>g g>g g!g (g)>main");
    free_all(g);
}

static void *die_of_e1_when_thrown_at(void *value)
{
    green_yield(value);
    errno = E1;
    return GREEN_FAILED;
}

static void *refuse_once(void *value)
{
    green_yield(value);
    return green_yield(NULL);
}

TRACED_TEST(free_throws_and_takes_what_is_left)
{
    green_t *p = suspended("p", echo, NULL), *g = suspended("g", echo, p);
    assert_int_equal(green_free(g), 0);
    assert_events("main!g (g)>main"); /* not to p */
    g = suspended("g", die_of_e1_when_thrown_at, NULL);
    assert_int_equal(green_free(g), 0);
    assert_events("main!g (g)!main");
    g = suspended("g", refuse_once, p);
    assert_refused(green_free(g), EBUSY);
    assert_events("main!g g>main");
    assert_int_equal(green_abandon(g), 0);
    g = named("g", echo, NULL);
    assert_int_equal(green_free(g), 0);
    g = finished("g", NULL);
    assert_int_equal(green_free(g), 0);
    assert_events("");
    free_all(p);
}

TRACED_TEST(a_detached_green_is_still_there_for_the_hook)
{
    green_options_t options = {.name = "d", .flags = GREEN_DETACHED};
    green_t *g = green_new_with(give_back, NULL, &options);
    assert_ptr_equal(green_switch(g, V(1)), V(1));
    assert_events("main>d (d)>main");
    options.data = &doomed;
    g = green_new_with(give_back, NULL, &options);
    assert_fails(green_throw(g, E1), E1);
    assert_events("main!d (d)!main");
}

TRACED_TEST(what_is_refused_is_not_traced)
{
    green_t *g = named("g", give_back, NULL);
    assert_fails(green_switch(NULL, NULL), EINVAL);
    assert_fails(green_switch(g, GREEN_FAILED), EINVAL);
    assert_fails(green_throw(g, -1), EINVAL);
    assert_fails(green_yield(NULL), EINVAL);
    assert_refused(green_free(green_main()), EINVAL);
    assert_events("");
    assert_int_equal(green_state(g), GREEN_NEW);
    free_all(g);
}

/* ---- Whose hook ---------------------------------------------------------- */

static void *change_hooks(void *value)
{
    green_set_trace(log_event, &data_of_hook);
    green_yield(value);
    green_set_trace(NULL, NULL);
    return value;
}

TRACED_TEST(a_hook_may_come_and_go_anywhere)
{
    green_t *g = named("g", change_hooks, NULL);
    green_set_trace(NULL, NULL);
    assert_ptr_equal(green_switch(g, V(1)), V(1));
    assert_ptr_equal(green_switch(g, V(2)), V(1));
    assert_ptr_equal(green_switch(green_main(), V(3)), V(3));
    assert_events("g>main main>g");
    free_all(g);
}

static void count_event(green_trace_event_t event, green_t *from, green_t *to, void *data)
{
    (void)event, (void)from, (void)to;
    ++*(int *)data;
}

static void *untraced_thread(void *arg)
{
    green_t *g = green_new(give_back, NULL);
    int ok = green_get_trace(NULL) == NULL && green_switch(g, V(1)) == V(1) && green_free(g) == 0;
    green_set_trace(count_event, arg);
    ok = ok && green_switch(green_main(), V(1)) == V(1); /* counted by its own */
    return ok ? arg : NULL;
}

TRACED_TEST(each_thread_has_a_hook_of_its_own)
{
    int events = 0;
    void *result = in_thread(untraced_thread, &events);
    assert_ptr_equal(result, &events);
    assert_int_equal(events, 1);
    assert_events("");
    assert_ptr_equal(green_get_trace(NULL), log_event);
    assert_null(green_switch(green_main(), NULL));
    assert_events("main>main");
}

int main(void)
{
    return run_all_tests();
}
