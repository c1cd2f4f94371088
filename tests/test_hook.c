/* SPDX-License-Identifier: MIT */
/* What a trace hook is and what it may do (rule 13); test_trace.c: what it sees. */
#include <pthread.h>
#include <signal.h>

#include "greens.h"

static green_t *suspended(const char *name, green_fn *run)
{
    return suspend(named(name, run, NULL), V(1), NULL);
}

static void *survive(void *value)
{
    for (int i = 0; i < 3; i++)
        if ((value = green_yield(value)) == GREEN_FAILED)
            value = NULL;
    return value;
}

/* ---- Where it runs, and what it may do ---------------------------------- */

static char *low_of, *high_of; /* a stack */
static char places[16];        /* i: the hook was on it, o: it was not */

static void note_place(green_trace_event_t event, green_t *from, green_t *to, void *data)
{
    char *p = HERE;
    (void)event, (void)from, (void)to, (void)data;
    places[strlen(places)] = p >= low_of && p < high_of ? 'i' : 'o';
}

TEST(the_hook_runs_on_the_stack_of_the_green_that_is_left)
{
    static char memory[65536];
    green_options_t options = {.stack = memory, .stack_size = sizeof memory};
    green_t *g = green_new_with(echo, NULL, &options), *h;
    low_of = memory;
    high_of = memory + sizeof memory;
    memset(places, 0, sizeof places);
    green_set_trace(note_place, NULL);
    green_switch(g, V(1));  /* o i */
    green_switch(g, V(2));  /* o i */
    green_throw(g, E1);     /* o i: its death */
    free_all(g);
    h = green_new_with(echo, NULL, &options);
    green_throw(h, E1);     /* o o: dies unrun */
    green_set_trace(NULL, NULL);
    assert_string_equal(places, "oioioioo");
    free_all(h);
}

static char mark_a[1], mark_b[1]; /* addresses to tell apart */

static void other_hook(green_trace_event_t event, green_t *from, green_t *to, void *data)
{
    (void)event, (void)from, (void)to;
    note("other:%d", data == mark_a);
}

static void replace_oneself(green_trace_event_t event, green_t *from, green_t *to, void *data)
{
    void *found = NULL;
    (void)event, (void)from, (void)to;
    note("%d", green_get_trace(&found) == replace_oneself && found == data);
    note("%d", green_set_trace(other_hook, mark_a) == replace_oneself);
    note("%d", green_get_trace(&found) == other_hook && found == mark_a);
}

static void end_oneself(green_trace_event_t event, green_t *from, green_t *to, void *data)
{
    (void)event, (void)from, (void)to, (void)data;
    note("%d", green_set_trace(NULL, NULL) == end_oneself);
}

TEST(a_hook_may_replace_or_end_itself)
{
    green_t *g = named("g", echo, NULL);
    green_set_trace(replace_oneself, mark_b);
    assert_ptr_equal(green_switch(g, V(1)), V(1));
    assert_noted("1 1 1 other:1");
    green_set_trace(end_oneself, NULL);
    assert_ptr_equal(green_switch(g, V(2)), V(2));
    assert_ptr_equal(green_switch(g, V(3)), V(3));
    assert_noted("1");
    assert_null(green_get_trace(NULL));
    free_all(g);
}

/* greenlet: test_set_same_tracer_twice */
TEST(set_trace_returns_the_previous_hook)
{
    void *data = NULL;
    assert_null(green_set_trace(other_hook, V(1)));
    assert_ptr_equal(green_get_trace(&data), other_hook);
    assert_ptr_equal(data, V(1));
    assert_ptr_equal(green_set_trace(other_hook, V(2)), other_hook);
    assert_ptr_equal(green_get_trace(&data), other_hook);
    assert_ptr_equal(data, V(2));
    assert_ptr_equal(green_get_trace(NULL), other_hook);
    assert_ptr_equal(green_set_trace(NULL, NULL), other_hook);
    assert_null(green_get_trace(NULL));
    assert_null(green_set_trace(NULL, NULL));
}

static void spoil_errno(green_trace_event_t event, green_t *from, green_t *to, void *data)
{
    (void)event, (void)from, (void)to, (void)data;
    errno = EXDEV;
}

TEST(a_hook_may_spoil_errno)
{
    green_t *g = named("g", survive, NULL), *h = named("h", die_of, NULL);
    green_t *fresh = named("n", echo, NULL), *d = dead(NULL);
    green_set_trace(spoil_errno, NULL);
    assert_fails(green_switch(h, V(E1)), E1);
    assert_fails(green_throw(fresh, E2), E2);
    assert_fails(green_throw(d, E1), E1);
    assert_fails(green_throw(green_main(), E2), E2);
    assert_null(green_switch(g, NULL));
    green_t *t = green_new(die_of, g);
    assert_null(green_switch(t, V(E1)));
    green_t *e = suspended("e", echo);
    assert_fails(green_throw(e, E2), E2);
    assert_refused(green_free(g), EBUSY);
    green_set_trace(NULL, NULL);
    free_all(g, h, fresh, d, t, e);
}

/* ---- What it may not do ------------------------------------------------- */

static green_t *target, *fresh_one, *waiting, *gone, *foreign;
static green_key_t key;

static void nothing(void *arg)
{
    (void)arg;
    note("deferred");
}

static int look(green_t *g, void *arg)
{
    (void)g;
    ++*(int *)arg;
    return 0;
}

/* Notes the line of a call that does not fail so. */
#define refused(expr, error) \
    (errno = 0, (expr) && errno == (error) ? (void)0 : note("line %d", __LINE__))
#define works(expr) ((expr) ? (void)0 : note("line %d", __LINE__))

static void try_everything(green_trace_event_t event, green_t *from, green_t *to, void *data)
{
    green_options_t options = {.flags = ~0u};
    green_key_t another;
    void *low;
    size_t size;
    int count = 0;

    (void)event;
    if (to != data)
        return;
    refused(green_new(give_back, NULL) == NULL, EBUSY);
    refused(green_new(give_back, waiting) == NULL, EBUSY);
    refused(green_new_with(give_back, NULL, NULL) == NULL, EBUSY);
    refused(green_free(fresh_one) == -1, EBUSY);
    refused(green_free(waiting) == -1, EBUSY);
    refused(green_free(gone) == -1, EBUSY);
    refused(green_abandon(waiting) == -1, EBUSY);
    refused(green_abandon(fresh_one) == -1, EBUSY);
    refused(green_switch(waiting, V(1)) == GREEN_FAILED, EBUSY);
    refused(green_switch(fresh_one, V(1)) == GREEN_FAILED, EBUSY);
    refused(green_switch(to, V(1)) == GREEN_FAILED, EBUSY);
    refused(green_switch(from, V(1)) == GREEN_FAILED, EBUSY);
    refused(green_throw(waiting, E1) == GREEN_FAILED, EBUSY);
    refused(green_throw(fresh_one, 0) == GREEN_FAILED, EBUSY);
    refused(green_throw(to, E1) == GREEN_FAILED, EBUSY);
    refused(green_yield(V(1)) == GREEN_FAILED, EBUSY);
    refused(green_set_parent(fresh_one, waiting) == -1, EBUSY);
    refused(green_set_parent(fresh_one, fresh_one) == -1, EBUSY); /* before ELOOP */
    refused(green_set_data(fresh_one, V(9)) == -1, EBUSY);
    refused(green_defer(nothing, NULL) == -1, EBUSY);
    refused(green_undefer(1) == -1, EBUSY);
    refused(green_undefer(0) == -1, EBUSY);
    refused(green_key_create(&another, NULL) == -1, EBUSY);
    refused(green_key_delete(key) == -1, EBUSY);
    refused(green_setspecific(key, V(9)) == -1, EBUSY);
    refused(green_thread_end() == -1, EBUSY);

    /* Before EPERM. */
    refused(green_switch(foreign, V(1)) == GREEN_FAILED, EBUSY);
    refused(green_throw(foreign, E1) == GREEN_FAILED, EBUSY);
    refused(green_new(give_back, foreign) == NULL, EBUSY);
    refused(green_set_parent(fresh_one, foreign) == -1, EBUSY);
    refused(green_set_data(foreign, NULL) == -1, EBUSY);

    /* After EINVAL. */
    refused(green_new(NULL, NULL) == NULL, EINVAL);
    refused(green_new_with(give_back, NULL, &options) == NULL, EINVAL);
    refused(green_free(green_main()) == -1, EINVAL);
    refused(green_abandon(NULL) == -1, EINVAL);
    refused(green_switch(NULL, V(1)) == GREEN_FAILED, EINVAL);
    refused(green_switch(waiting, GREEN_FAILED) == GREEN_FAILED, EINVAL);
    refused(green_throw(NULL, E1) == GREEN_FAILED, EINVAL);
    refused(green_throw(waiting, -1) == GREEN_FAILED, EINVAL);
    refused(green_yield(GREEN_FAILED) == GREEN_FAILED, EINVAL);
    refused(green_set_parent(fresh_one, NULL) == -1, EINVAL);
    refused(green_set_parent(green_main(), fresh_one) == -1, EINVAL);
    refused(green_set_data(NULL, NULL) == -1, EINVAL);
    refused(green_defer(NULL, NULL) == -1, EINVAL);
    refused(green_key_create(NULL, NULL) == -1, EINVAL);
    refused(green_key_delete(key + 1000) == -1, EINVAL);
    refused(green_setspecific(key + 1000, NULL) == -1, EINVAL);

    /* To look works. */
    works(green_current() == to);
    works(green_main() == from);
    works(green_parent(to) == from && green_parent(from) == NULL);
    works(green_state(fresh_one) == GREEN_NEW && green_state(waiting) == GREEN_SUSPENDED);
    works(green_state(foreign) == GREEN_NEW);
    works(strcmp(green_name(to), "target") == 0);
    works(green_data(to) == V(5));
    green_stack(waiting, &low, &size);
    works(low != NULL && size >= 262144);
    works(green_stack_used(waiting) > 0 && green_stack_used(waiting) < size);
    works(green_each(look, &count) == 0 && count >= 2);
    works(green_getspecific(key) == NULL); /* the target's */
    works(green_get_trace(NULL) == try_everything);
    works(green_version() == GREEN_VERSION);
    note("tried");
}

static void *make_a_foreign_one(void *arg)
{
    (void)arg;
    return green_new(give_back, NULL);
}

static void *target_body(void *value)
{
    note("%d", green_getspecific(key) == NULL);
    refused(green_undefer(1) == -1, ENOENT);
    return green_yield(value);
}

/* greenlet: test_reentrant_switch_two_greenlets, ..._three_greenlets, ..._three_greenlets2 */
TEST(all_but_looking_is_refused_in_a_hook_and_changes_nothing)
{
    void *made = in_thread(make_a_foreign_one, NULL);
    foreign = made;
    assert_int_equal(green_key_create(&key, NULL), 0);
    assert_int_equal(green_setspecific(key, V(6)), 0);
    target = named("target", target_body, NULL);
    assert_int_equal(green_set_data(target, V(5)), 0);
    fresh_one = named("fresh", give_back, NULL);
    waiting = suspended("waiting", echo);
    gone = dead(NULL);

    green_set_trace(try_everything, target);
    assert_ptr_equal(green_switch(target, V(1)), V(1)); /* starts all the same */
    assert_noted("tried 1");
    assert_int_equal(green_state(target), GREEN_SUSPENDED);
    assert_ptr_equal(green_switch(target, V(2)), V(2));
    assert_noted("tried");
    green_set_trace(NULL, NULL);

    assert_int_equal(green_state(target), GREEN_DEAD);
    assert_int_equal(green_state(fresh_one), GREEN_NEW);
    assert_ptr_equal(green_parent(fresh_one), green_main());
    assert_null(green_data(fresh_one));
    assert_ptr_equal(green_getspecific(key), V(6));
    assert_ptr_equal(green_switch(waiting, V(3)), V(3));
    assert_ptr_equal(green_switch(fresh_one, V(4)), V(4));
    free_all(target, fresh_one, waiting, gone, foreign);
    assert_int_equal(green_key_delete(key), 0);
}

static void meddle(green_trace_event_t event, green_t *from, green_t *to, void *data)
{
    (void)event;
    refused(green_switch(data, V(1)) == GREEN_FAILED, EBUSY);
    refused(green_throw(data, E1) == GREEN_FAILED, EBUSY);
    refused(green_switch(from, V(1)) == GREEN_FAILED, EBUSY);
    refused(green_throw(to, E1) == GREEN_FAILED, EBUSY);
    note("%s", event == GREEN_TRACE_THROW ? "throw" : "switch");
}

TEST(every_kind_of_move_is_completed_all_the_same)
{
    green_t *g = named("g", survive, NULL), *other = suspended("other", echo);
    green_set_trace(meddle, other);
    assert_ptr_equal(green_switch(g, V(1)), V(1)); /* start, yield */
    assert_null(green_throw(g, E1));               /* throw, yield */
    assert_refused(green_free(g), EBUSY);          /* throw, yield */
    assert_ptr_equal(green_switch(g, V(2)), V(2)); /* switch, death */
    green_t *h = named("h", die_of, NULL), *fresh = named("fresh", echo, NULL);
    assert_fails(green_switch(h, V(E1)), E1);      /* start, death by error */
    assert_fails(green_throw(fresh, E2), E2);      /* death unrun */
    green_set_trace(NULL, NULL);
    assert_noted("switch switch throw switch throw switch switch switch "
                 "switch throw throw throw");
    assert_ptr_equal(green_switch(other, V(3)), V(3));
    free_all(g, h, fresh, other);
}

static void exit_in_the_hook(green_trace_event_t event, green_t *from, green_t *to, void *data)
{
    (void)event, (void)from, (void)to, (void)data;
    green_exit(NULL);
}

static int exits_in_a_hook(void *arg)
{
    signal(SIGABRT, SIG_DFL);
    green_t *g = green_new(give_back, NULL);
    green_set_trace(exit_in_the_hook, NULL);
    green_switch(g, arg);
    return 0;
}

TEST(exit_inside_a_hook_aborts_with_a_sentence)
{
    struct child child = run_child(exits_in_a_hook, NULL);
    assert_true(WIFSIGNALED(child.status));
    assert_int_equal(WTERMSIG(child.status), SIGABRT);
    assert_non_null(strstr(child.err, "green_exit"));
    assert_string_equal(child.out, "");
}

int main(void)
{
    return run_all_tests();
}
