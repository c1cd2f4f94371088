/* SPDX-License-Identifier: MIT */
/*
 * The end of a thread (rule 14), with and without green_thread_end().
 */
#include <limits.h>
#include <signal.h>

#include "testing.h"

static green_key_t key; /* its values are names, noted when they are destroyed */

static int make_key(void **state)
{
    (void)state;
    return green_key_create(&key, note_arg);
}

static int delete_key(void **state)
{
    (void)state;
    return green_key_delete(key);
}

#define KEY_TEST(sentence) TEST_WITH(sentence, make_key, delete_key)

static const green_options_t detached = { .name = "detached", .flags = GREEN_DETACHED };

/* Waits on main with something to clean up; notes that it was killed. */
static void *park(void *name)
{
    green_defer(note_arg, name);
    green_setspecific(key, name);
    void *got = green_switch(green_main(), NULL);
    if (got == GREEN_FAILED)
        note("%s", errno == ECANCELED ? "canceled" : "error");
    return got;
}

/* ---- Without green_thread_end() ------------------------------------------------------ */

enum { STARTED, CHILD, UNRUN, FINISHED, COUNT };
static green_t *left[COUNT], *left_main;

/* Leaves greens in every state behind, and something deferred on main. */
static void *leave_greens(void *ends)
{
    left_main = green_main();
    left[STARTED] = green_new(park, NULL);
    left[CHILD] = green_new(park, left[STARTED]);
    left[UNRUN] = green_new(never, NULL);
    left[FINISHED] = green_new(give_back, NULL);
    green_t *g = green_new_with(park, NULL, &detached);
    must(left[STARTED] && left[CHILD] && left[UNRUN] && left[FINISHED] && g);
    green_switch(left[STARTED], "started");
    green_switch(left[CHILD], "child");
    green_switch(left[FINISHED], NULL);
    green_switch(g, "detached");
    green_defer(note_arg, "main");
    green_setspecific(key, "main-key");
    if (ends)
        must(green_thread_end() == 0);
    return NULL;
}

static void what_is_left_is_dead_or_new_and_belongs_to_nobody(void)
{
    assert_int_equal(green_state(left[STARTED]), GREEN_DEAD);
    assert_int_equal(green_state(left[CHILD]), GREEN_DEAD);
    assert_int_equal(green_state(left[UNRUN]), GREEN_NEW);
    assert_int_equal(green_state(left[FINISHED]), GREEN_DEAD);
    assert_null(green_parent(left[STARTED]));
    assert_null(green_parent(left[UNRUN]));
    for (int i = 0; i < COUNT; i++) {
        assert_fails(green_switch(left[i], V(1)), EPERM);
        assert_fails(green_throw(left[i], E1), EPERM);
    }
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(i % 2 ? green_free(left[i]) : green_abandon(left[i]), 0);
    assert_ptr_equal(green_current(), green_main());
}

KEY_TEST(a_thread_that_just_ends_runs_nothing_of_its_greens)
{
    in_thread(leave_greens, NULL);
    assert_noted("");
    what_is_left_is_dead_or_new_and_belongs_to_nobody();
    assert_noted("");
}

static void *use_nothing(void *value)
{
    must(green_current() == green_main());
    return value;
}

static void *free_left_ones(void *value)
{
    for (int i = COUNT; i-- > 0;)
        must(green_free(left[i]) == 0);
    return value;
}

KEY_TEST(handles_may_be_freed_by_any_other_thread)
{
    in_thread(leave_greens, NULL);
    in_thread(use_nothing, NULL);
    in_thread(free_left_ones, NULL); /* one that has not used the library before */
    in_thread(leave_greens, NULL);
    green_t *g = green_new(free_left_ones, NULL);
    assert_ptr_equal(green_switch(g, V(1)), V(1)); /* from a green, too */
    assert_int_equal(green_free(g), 0);
    assert_noted("");
}

KEY_TEST(new_ones_may_be_taken_over)
{
    in_thread(leave_greens, NULL);
    assert_refused(green_set_parent(left[STARTED], green_main()), EPERM);
    assert_refused(green_set_parent(left[FINISHED], green_main()), EPERM);
    assert_int_equal(green_set_parent(left[UNRUN], green_main()), 0);
    assert_ptr_equal(green_switch(left[UNRUN], V(5)), V(5));
    assert_noted("ran");
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(green_free(left[i]), 0);
}

static void *make_a_new_chain(void *value)
{
    left[0] = green_new(give_back, NULL);
    left[1] = green_new(give_back, left[0]);
    left[2] = green_new(give_back, left[1]);
    return value;
}

KEY_TEST(of_a_new_chain_children_are_taken_over_first)
{
    in_thread(make_a_new_chain, NULL);
    assert_int_equal(green_free(left[1]), 0);
    assert_refused(green_set_parent(left[0], green_main()), EBUSY);
    assert_int_equal(green_set_parent(left[2], green_main()), 0);
    assert_int_equal(green_set_parent(left[0], left[2]), 0);
    assert_ptr_equal(green_switch(left[0], V(6)), V(6));
    assert_int_equal(green_state(left[2]), GREEN_DEAD);
    assert_int_equal(green_free(left[0]), 0);
    assert_int_equal(green_free(left[2]), 0);
}

/* ---- With it ------------------------------------------------------------------------- */

KEY_TEST(green_thread_end_ends_everything_in_order)
{
    in_thread(leave_greens, V(1));
    char *text = noted();
    assert_int_equal(strncmp(text, "main ", 5), 0); /* first main's deferred functions */
    const char *last = strstr(text, " main-key");   /* last the destructors of its keys */
    assert_non_null(last);
    assert_string_equal(last, " main-key");
    assert_non_null(strstr(text, "canceled started started")); /* in between the greens */
    assert_non_null(strstr(text, "canceled child child"));
    assert_non_null(strstr(text, "canceled detached detached"));
    assert_null(strstr(text, "ran"));
    assert_int_equal(strlen(text), strlen("main main-key canceled started started "
                                          "canceled child child canceled detached detached"));
    text[0] = '\0';
    what_is_left_is_dead_or_new_and_belongs_to_nobody();
    assert_noted("");
}

static void *note_parent_when_killed(void *value)
{
    green_switch(green_main(), value);
    note("%d", green_parent(green_current()) == green_main());
    errno = E1;
    return GREEN_FAILED; /* dropped */
}

static void *end_one_with_a_new_parent(void *value)
{
    green_t *parent = green_new(never, NULL), *g = green_new(note_parent_when_killed, parent);
    green_switch(g, NULL);
    must(green_thread_end() == 0);
    must(green_state(g) == GREEN_DEAD && green_state(parent) == GREEN_NEW);
    must(green_parent(g) == parent); /* the handle is as it was */
    must(green_state(green_main()) == GREEN_RUNNING);
    must(green_free(g) == 0 && green_free(parent) == 0);
    return value;
}

KEY_TEST(it_stands_in_for_the_parents_and_releases_no_handle)
{
    in_thread(end_one_with_a_new_parent, NULL);
    assert_noted("1");
}

static void *call_it_in_a_green(void *value)
{
    errno = 0;
    must(green_thread_end() == -1 && errno == EBUSY);
    must(green_current() != green_main());
    return value;
}

static int call_it_while_it_looks(green_t *g, void *arg)
{
    (void)g;
    (void)arg;
    errno = 0;
    return green_thread_end() == -1 && errno == EBUSY;
}

KEY_TEST(it_works_on_main_only)
{
    green_t *parked = green_new(park, NULL), *g = green_new(call_it_in_a_green, NULL);
    green_switch(parked, "parked");
    assert_int_equal(green_defer(note_arg, "main"), 0);
    assert_ptr_equal(green_switch(g, V(1)), V(1));
    assert_int_equal(green_each(call_it_while_it_looks, NULL), 1);
    assert_int_equal(green_state(parked), GREEN_SUSPENDED);
    assert_noted("");
    assert_int_equal(green_undefer(0), 0);
    assert_int_equal(green_free(g), 0);
    assert_int_equal(green_free(parked), 0);
    assert_noted("canceled parked parked");
}

/* Refuses to die until it is entered with 1. */
static void *stubborn(void *value)
{
    while (value != V(1)) {
        if (value == GREEN_FAILED)
            note("refused");
        value = green_yield(NULL);
    }
    return value;
}

static void *throw_at_main_when_killed(void *value)
{
    green_switch(green_main(), value);
    note("thrown");
    return green_throw(green_main(), E1);
}

static void *end_with_refusals(void *value)
{
    green_t *g[5];
    for (int i = 0; i < 5; i++) {
        g[i] = green_new(i == 1 ? stubborn : i == 3 ? throw_at_main_when_killed : park, NULL);
        green_switch(g[i], "parked");
    }
    green_setspecific(key, "main");
    errno = 0;
    must(green_thread_end() == -1 && errno == EBUSY);
    for (int i = 0; i < 5; i++)
        must(green_state(g[i]) == (i == 1 || i == 3 ? GREEN_SUSPENDED : GREEN_DEAD));
    must(green_parent(g[1]) == green_main());
    note("|");
    errno = 0;
    must(green_thread_end() == -1 && errno == EBUSY); /* the one is asked again, the other dies */
    must(green_state(g[1]) == GREEN_SUSPENDED && green_state(g[3]) == GREEN_DEAD);
    must(green_switch(g[1], V(1)) == V(1));
    must(green_thread_end() == 0);
    for (int i = 0; i < 5; i++)
        must(green_free(g[i]) == 0);
    return value;
}

static int count(const char *word)
{
    int n = 0;
    for (const char *at = noted(); (at = strstr(at, word)) != NULL; at += strlen(word))
        n++;
    return n;
}

KEY_TEST(one_that_refuses_makes_it_ebusy_and_stops_nothing_else)
{
    in_thread(end_with_refusals, NULL);
    assert_int_equal(count("canceled"), 3);
    assert_int_equal(count("refused"), 2); /* asked once a time */
    assert_int_equal(count("thrown"), 1);
    assert_int_equal(count("main"), 1);
    noted()[0] = '\0';
}

/* When killed, leaves `generations` more behind, one made by the other. */
static void *leave_another(void *generations)
{
    green_switch(green_main(), NULL);
    int n = (int)(intptr_t)generations;
    note("%d", n);
    if (n > 0) {
        green_t *next = green_new_with(leave_another, NULL, &detached);
        green_switch(next, V(n - 1)); /* goes to main: for green_thread_end() this one refuses */
    }
    return NULL;
}

static void leave_another_started(void *generations)
{
    green_t *g = green_new_with(leave_another, green_main(), &detached);
    green_switch(g, generations);
}

static void *end_with_more_and_more(void *value)
{
    green_defer(leave_another_started, V(2)); /* main's own may make some, too */
    leave_another_started(V(4));
    int result = green_thread_end();
    while (result == -1 && errno == EBUSY) /* the next one kills those */
        result = green_thread_end();
    must(result == 0);
    note("end");
    return value;
}

KEY_TEST(those_made_meanwhile_are_ended_too)
{
    in_thread(end_with_more_and_more, NULL);
    for (int i = 0; i <= 4; i++) {
        char digit[2] = { (char)('0' + i), '\0' };
        assert_int_equal(count(digit), i <= 2 ? 2 : 1);
    }
    assert_int_equal(count("end"), 1);
    noted()[0] = '\0';
}

/* The same with greens that start others which come back, and then die. */
static void *wait_at_starter(void *generations)
{
    int n = (int)(intptr_t)generations;
    green_t *starter = green_parent(green_current());
    green_switch(starter, NULL);
    note("%d", n);
    if (n > 0)
        green_switch(green_new_with(wait_at_starter, NULL, &detached), V(n - 1));
    return NULL;
}

static void *end_with_generations(void *value)
{
    green_switch(green_new_with(wait_at_starter, NULL, &detached), V(9));
    must(green_thread_end() == 0);
    return value;
}

KEY_TEST(however_long_that_takes)
{
    in_thread(end_with_generations, NULL);
    assert_noted("9 8 7 6 5 4 3 2 1 0");
}

static void *go_on_after_it(void *value)
{
    green_t *main_green = green_main();
    for (int i = 0; i < 3; i++) {
        green_t *g = green_new(park, NULL);
        green_switch(g, "green");
        must(green_defer(note_arg, "deferred") == 0);
        must(green_setspecific(key, "key") == 0);
        must(green_thread_end() == 0);
        must(green_getspecific(key) == NULL);
        must(green_main() == main_green && green_current() == main_green);
        must(green_state(main_green) == GREEN_RUNNING);
        must(green_state(g) == GREEN_DEAD && green_free(g) == 0);
        g = green_new(give_back, NULL);
        must(green_switch(g, V(2)) == V(2) && green_free(g) == 0);
        note("|");
    }
    must(green_setspecific(key, "lost") == 0);
    return value;
}

KEY_TEST(the_library_can_be_used_on_with_the_same_main)
{
    in_thread(go_on_after_it, NULL);
    assert_noted("deferred canceled green green key | deferred canceled green green key | "
                 "deferred canceled green green key |");
}

static void start_and_defer(void *name)
{
    note("%s", (const char *)name);
    must(green_defer(note_arg, "deferred-late") == 0);
    green_switch(green_new_with(park, NULL, &detached), "started-late");
}

static void *end_with_a_busy_destructor(void *value)
{
    green_key_t busy;
    must(green_key_create(&busy, start_and_defer) == 0);
    must(green_setspecific(busy, "destroyed") == 0);
    must(green_thread_end() == 0);
    must(green_undefer(0) == -1 && errno == ENOENT);
    must(green_key_delete(busy) == 0);
    note("end");
    return value;
}

KEY_TEST(what_mains_destructors_start_and_defer_is_ended_too)
{
    in_thread(end_with_a_busy_destructor, NULL);
    assert_int_equal(strncmp(noted(), "destroyed ", 10), 0);
    assert_int_equal(count("deferred-late"), 1);
    assert_int_equal(count("canceled started-late started-late"), 1);
    const char *end = strstr(noted(), " end");
    assert_non_null(end);
    assert_string_equal(end, " end");
    noted()[0] = '\0';
}

static void *end_at_once(void *value)
{
    must(green_thread_end() == 0);
    must(green_thread_end() == 0);
    return value;
}

KEY_TEST(a_thread_that_has_nothing_may_end_so_too)
{
    in_thread(end_at_once, NULL);
    end_at_once(NULL); /* and so may this one */
}

static void *park_at_parent(void *value)
{
    note("%d", green_yield(value) == GREEN_FAILED && errno == ECANCELED);
    return NULL;
}

static void *end_a_tree(void *value)
{
    green_t *inner = NULL;
    for (int i = 0; i < 10; i++) { /* each under the one before, all parked */
        green_t *g = green_new(park_at_parent, NULL);
        must(green_switch(g, V(i)) == V(i));
        must(inner == NULL || green_set_parent(g, inner) == 0);
        inner = g;
    }
    must(green_thread_end() == 0);
    for (green_t *g = inner, *parent; g != NULL && g != green_main(); g = parent) {
        parent = green_parent(g);
        must(green_state(g) == GREEN_DEAD && green_free(g) == 0);
    }
    return value;
}

KEY_TEST(greens_that_hang_together_are_ended_each_by_itself)
{
    in_thread(end_a_tree, NULL);
    assert_noted("1 1 1 1 1 1 1 1 1 1");
}

static green_t *freer, *freed;

/* Frees the other again and again, which goes to main instead of dying. */
static void *never_give_up(void *other)
{
    while (green_free(other) != 0)
        continue;
    return NULL;
}

static void *go_to_main_instead(void *value)
{
    do
        value = green_switch(green_main(), V(value == GREEN_FAILED ? errno : 0));
    while (value == GREEN_FAILED);
    return value;
}

static void *end_with_one_that_is_being_freed(void *value)
{
    freed = green_new(go_to_main_instead, NULL);
    freer = green_new(never_give_up, NULL);
    must(green_switch(freed, NULL) == V(0));
    must(green_switch(freer, freed) == V(ECANCELED));
    errno = 0;
    must(green_thread_end() == -1 && errno == EBUSY);
    must(green_state(freer) == GREEN_SUSPENDED && green_parent(freed) == freer);
    must(green_abandon(freer) == 0 && green_parent(freed) == green_main());
    must(green_abandon(freed) == 0);
    must(green_thread_end() == 0);
    return value;
}

KEY_TEST(one_that_is_being_freed_is_left_to_who_refuses_to_end)
{
    in_thread(end_with_one_that_is_being_freed, NULL);
}

/* Is not ended by the first; then it frees another, once. */
static void *free_after_a_refusal(void *other)
{
    while (green_yield(NULL) == GREEN_FAILED)
        continue;
    note("%d", green_free(other) == -1 && errno == ECANCELED);
    return NULL;
}

/* Goes to main instead of dying, twice. */
static void *go_to_main_twice(void *value)
{
    value = green_switch(green_main(), value);
    value = green_switch(green_main(), V(value == GREEN_FAILED));
    value = green_switch(green_main(), V(value == GREEN_FAILED));
    note("%d", value == GREEN_FAILED && errno == ECANCELED);
    return NULL;
}

static void *end_twice_with_one_that_is_being_freed(void *value)
{
    freed = green_new(go_to_main_twice, NULL);
    freer = green_new(free_after_a_refusal, NULL);
    must(green_switch(freed, NULL) == NULL);
    must(green_switch(freer, freed) == NULL);
    must(green_thread_end() == -1 && errno == EBUSY);
    must(green_switch(freer, NULL) == V(1) && green_parent(freed) == freer);
    note("|");
    must(green_thread_end() == 0); /* who frees goes first, though it was asked by the other */
    must(green_free(freer) == 0 && green_free(freed) == 0);
    return value;
}

KEY_TEST(each_call_asks_all_anew_and_who_frees_another_before_it)
{
    in_thread(end_twice_with_one_that_is_being_freed, NULL);
    assert_noted("| 1 1");
}

static int count_one(green_t *g, void *count)
{
    (void)g;
    ++*(int *)count;
    return 0;
}

static void leave_the_thread(void *unused)
{
    int count = 0;
    (void)unused;
    must(green_each(count_one, &count) == 0 && count == 2); /* main and the one it has made */
    note("main");
    pthread_exit(NULL);
}

static void *end_while_ending(void *value)
{
    left[STARTED] = green_new(park_at_parent, NULL);
    must(green_switch(left[STARTED], value) == value);
    green_defer(leave_the_thread, NULL);
    green_thread_end();
    return value; /* not reached */
}

static void *exit_when_cancelled(void *value)
{
    note("%d", green_yield(value) == GREEN_FAILED && errno == ECANCELED);
    pthread_exit(NULL);
    return value; /* not reached */
}

static void *end_in_a_green_while_ending(void *value)
{
    left[STARTED] = green_new(exit_when_cancelled, NULL);
    must(green_switch(left[STARTED], value) == value);
    green_thread_end();
    return value; /* not reached */
}

KEY_TEST(a_thread_may_end_inside_green_thread_end)
{
    if (UNDER_TSAN)
        skip_because("ThreadSanitizer dies of pthread_exit() on another stack than the thread's");
    assert_null(in_thread(end_while_ending, V(1)));
    assert_noted("main");
    assert_int_equal(green_state(left[STARTED]), GREEN_DEAD);
    assert_int_equal(green_free(left[STARTED]), 0);
    assert_null(in_thread(end_in_a_green_while_ending, V(1)));
    assert_noted("1");
    assert_int_equal(green_state(left[STARTED]), GREEN_DEAD);
    assert_int_equal(green_free(left[STARTED]), 0);
    in_thread(use_nothing, NULL); /* what was of that thread is fit for the next */
}

static void *leave_from_some_depth(void *value)
{
    char frame[20000 + (uintptr_t)value];
    memset(frame, 1, sizeof frame);
    __asm__ volatile("" : : "r"(frame) : "memory"); /* it is used */
    if (value != NULL)
        pthread_exit(NULL);
    return value;
}

/* Often enough that the pages of that stack are counted when it comes back. */
static void *leave_from_a_stack_that_was_deep(void *depth)
{
    green_trim(0); /* it begins anew with a stack that nobody has had */
    for (int i = 0; i < 64; i++) {
        green_t *g = green_new(leave_from_some_depth, NULL);
        must(green_switch(g, NULL) == NULL && green_free(g) == 0);
    }
    const green_options_t gone_with_the_thread = { .flags = GREEN_DETACHED };
    green_switch(green_new_with(leave_from_some_depth, NULL, &gone_with_the_thread), depth);
    return NULL;
}

/* musl does it on that very stack. */
TEST(a_thread_may_end_at_any_depth_of_a_stack)
{
    if (UNDER_TSAN)
        skip_because("ThreadSanitizer dies of pthread_exit() on another stack than the thread's");
    for (intptr_t depth = 16; depth < 4096; depth += times(16, 1024))
        in_thread(leave_from_a_stack_that_was_deep, V(depth));
}

/* ---- Past the end ---------------------------------------------------------------------- */

static int usable, refused;
static green_t *foreign;

/* Everything is refused with EPERM: 1; nothing is: 0; else it is inconsistent. */
static int all_refused(void)
{
    green_key_t fresh;
    errno = 0;
    if (green_current() != NULL)
        return 0;
    must(errno == EPERM);
#define REFUSED(expr) (errno = 0, must((expr) && errno == EPERM))
    REFUSED(green_main() == NULL);
    REFUSED(green_new(give_back, NULL) == NULL);
    REFUSED(green_new_with(give_back, NULL, &detached) == NULL);
    REFUSED(green_switch(foreign, NULL) == GREEN_FAILED);
    REFUSED(green_throw(foreign, E1) == GREEN_FAILED);
    REFUSED(green_defer(note_arg, "wrong") == -1);
    REFUSED(green_undefer(1) == -1);
    REFUSED(green_setspecific(key, "wrong") == -1);
    REFUSED(green_getspecific(key) == NULL);
    REFUSED(green_key_create(&fresh, NULL) == -1);
    REFUSED(green_set_trace(NULL, NULL) == NULL);
    REFUSED(green_get_trace(NULL) == NULL);
    REFUSED(green_each(call_it_while_it_looks, NULL) == -1);
    REFUSED(green_thread_end() == -1);
    REFUSED(green_free(foreign) == -1);
    REFUSED(green_name(foreign) == NULL);
    return 1;
}

static void use_late(void *posix_key)
{
    if (all_refused()) {
        refused++;
    } else {
        must(refused == 0); /* the end is the end */
        green_t *g = green_new_with(park, NULL, &detached);
        must(g != NULL && green_switch(g, "late") == NULL);
        usable++;
    }
    pthread_setspecific(*(pthread_key_t *)posix_key, posix_key); /* again, while there are rounds */
}

static void *have_late_destructors(void *posix_keys)
{
    for (pthread_key_t *posix_key = posix_keys, *end = posix_key + 2; posix_key < end; posix_key++)
        must(pthread_setspecific(*posix_key, posix_key) == 0);
    if (green_current() == green_main())
        green_switch(green_new_with(park, NULL, &detached), "parked");
    return NULL;
}

static void *only_set_late_destructors(void *posix_keys)
{
    pthread_key_t *late = (pthread_key_t *)posix_keys + 1;
    must(pthread_setspecific(*late, late) == 0);
    return NULL;
}

KEY_TEST(past_its_end_a_thread_is_refused_everything)
{
    if (UNDER_TSAN)
        skip_because("in the last round of destructors ThreadSanitizer has ended the thread");
    static pthread_key_t posix_keys[2]; /* made after the library's own, if it has one */
    foreign = green_new(give_back, NULL);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_key_create(&posix_keys[i], use_late), 0);
    for (int i = 0; i < 3; i++) {
        usable = refused = 0;
        in_thread(have_late_destructors, posix_keys);
        assert_true(usable >= 2); /* all through the first round */
        assert_true(refused >= 2);
        assert_int_equal(usable + refused, 2 * PTHREAD_DESTRUCTOR_ITERATIONS);
        assert_int_equal(green_state(foreign), GREEN_NEW);
    }
    usable = refused = 0;
    in_thread(only_set_late_destructors, posix_keys); /* its first use comes that late */
    assert_int_equal(usable + refused, PTHREAD_DESTRUCTOR_ITERATIONS);
    assert_noted("");
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_key_delete(posix_keys[i]), 0);
    assert_int_equal(green_free(foreign), 0);
}

static int round_now, round_of_first_use;
static pthread_key_t late_key;

static void first_use_in_a_round(void *value)
{
    if (++round_now == round_of_first_use) {
        foreign = green_new(park, NULL);
        must(foreign != NULL && green_switch(foreign, value) == NULL);
    }
    pthread_setspecific(late_key, value);
}

static void *set_late_key(void *value)
{
    must(pthread_setspecific(late_key, value) == 0);
    return value;
}

KEY_TEST(a_first_use_in_a_destructor_ends_with_the_thread_too)
{
    if (UNDER_TSAN)
        skip_because("in the last round of destructors ThreadSanitizer has ended the thread");
    assert_int_equal(pthread_key_create(&late_key, first_use_in_a_round), 0);
    for (round_of_first_use = 1; round_of_first_use <= 2; round_of_first_use++) {
        round_now = 0;
        in_thread(set_late_key, "late");
        assert_int_equal(green_state(foreign), GREEN_DEAD);
        assert_int_equal(green_free(foreign), 0);
    }
    assert_noted("");
    assert_int_equal(pthread_key_delete(late_key), 0);
}

static sem_t main_seen;

static void *watch_main_of_a_process(void *main_green)
{
    must(green_state(main_green) == GREEN_RUNNING);
    must(green_current() != NULL);
    sem_post(&main_seen);
    while (green_state(left[STARTED]) != GREEN_DEAD) /* until the initial thread has ended */
        usleep(1000);
    for (int i = 0; i < COUNT; i++)
        must(green_free(left[i]) == 0);
    must(noted()[0] == '\0');
    printf("outlived\n");
    fflush(stdout);
    raise(SIGKILL); /* and no tool looks for what the other stack held */
    return NULL;
}

static int end_the_initial_thread_first(void *arg)
{
    pthread_t thread;
    leave_greens(arg);
    must(sem_init(&main_seen, 0, 0) == 0);
    must(pthread_create(&thread, NULL, watch_main_of_a_process, green_main()) == 0);
    while (sem_wait(&main_seen) != 0)
        continue;
    pthread_exit(NULL);
}

KEY_TEST(the_initial_thread_may_end_before_the_process)
{
    struct child child = run_child(end_the_initial_thread_first, NULL);
    if (strcmp(child.out, "outlived\n") != 0)
        print_message("status %#x: %s\n", (unsigned)child.status, child.err);
    assert_string_equal(child.out, "outlived\n");
    assert_true(WIFSIGNALED(child.status) && WTERMSIG(child.status) == SIGKILL);
}

static void use_once(void *unused)
{
    (void)unused;
    must(green_main() != NULL);
}

/* The check for leaks tells whether one's memory is lost. */
TEST(threads_that_were_there_together_leave_their_memory_to_others)
{
    struct helper helpers[3];
    for (int i = 0; i < 3; i++)
        helper_start(&helpers[i]);
    for (int i = 0; i < 3; i++)
        helper_do(&helpers[i], use_once, NULL);
    for (int i = 0; i < 3; i++)
        helper_end(&helpers[i]);
}

/* Uses the library; whether the thread has an alternate signal stack then. */
static void *has_signal_stack(void *unused)
{
    stack_t stack;
    (void)unused;
    must(green_main() != NULL && sigaltstack(NULL, &stack) == 0);
    return V(!(stack.ss_flags & SS_DISABLE));
}

static int report_in_two_threads(void *unused)
{
    (void)unused;
    must(green_report_overflow() == 0);
    must(in_thread(has_signal_stack, NULL) == V(1));
    must(in_thread(has_signal_stack, NULL) == V(1)); /* with what the library had of the first */
    return 0;
}

TEST(a_later_thread_has_a_signal_stack_of_its_own)
{
    struct child child = run_child(report_in_two_threads, NULL);
    assert_string_equal(child.err, "");
    assert_int_equal(child.status, 0);
}

/* What is left of it would be written to by a signal that comes late. */
static int signal_stack_was_off;

static void see_signal_stack_at_last(void *value)
{
    stack_t stack;
    must(sigaltstack(NULL, &stack) == 0);
    signal_stack_was_off = (stack.ss_flags & SS_DISABLE) != 0;
    pthread_setspecific(late_key, value);
}

static void *use_with_signal_stack(void *unused)
{
    must(pthread_setspecific(late_key, &late_key) == 0);
    return has_signal_stack(unused);
}

static int report_in_a_thread_with_a_late_end(void *unused)
{
    (void)unused;
    must(pthread_key_create(&late_key, see_signal_stack_at_last) == 0);
    must(green_report_overflow() == 0);
    must(in_thread(use_with_signal_stack, NULL) == V(1));
    must(signal_stack_was_off);
    return 0;
}

/* The program has put its own in the place of the library's. */
static char own_signal_stack[65536], *low_at_last;

static void see_own_signal_stack_at_last(void *value)
{
    stack_t stack;
    must(sigaltstack(NULL, &stack) == 0);
    low_at_last = stack.ss_flags & SS_DISABLE ? NULL : stack.ss_sp;
    pthread_setspecific(late_key, value);
}

static void *use_with_own_signal_stack(void *unused)
{
    const stack_t own = { .ss_sp = own_signal_stack, .ss_size = sizeof own_signal_stack };
    must(use_with_signal_stack(unused) == V(1) && sigaltstack(&own, NULL) == 0);
    return V(2);
}

static int report_in_a_thread_with_another_signal_stack(void *unused)
{
    (void)unused;
    must(pthread_key_create(&late_key, see_own_signal_stack_at_last) == 0);
    must(green_report_overflow() == 0);
    must(in_thread(use_with_own_signal_stack, NULL) == V(2));
    must(low_at_last == own_signal_stack);
    return 0;
}

static void *report_with_own_signal_stack(void *unused)
{
    const stack_t own = { .ss_sp = own_signal_stack, .ss_size = sizeof own_signal_stack };
    const stack_t none = { .ss_flags = SS_DISABLE };
    stack_t stack;
    must(sigaltstack(&own, NULL) == 0);
    must(green_main() != NULL && green_report_overflow() == 0);
    must(sigaltstack(NULL, &stack) == 0 && stack.ss_sp == own_signal_stack);
    must(sigaltstack(&none, NULL) == 0);
    return unused;
}

static int report_twice_and_in_another_thread(void *unused)
{
    (void)unused;
    must(green_report_overflow() == 0 && green_report_overflow() == 0);
    in_thread(report_with_own_signal_stack, NULL);
    return 0;
}

TEST(a_thread_that_has_a_signal_stack_keeps_it)
{
    if (SANITIZED)
        skip_because("a sanitizer takes it away at the end of a thread");
    struct child child = run_child(report_twice_and_in_another_thread, NULL);
    assert_string_equal(child.err, "");
    assert_int_equal(child.status, 0);
}

TEST(a_signal_stack_of_the_programs_stays_when_a_thread_has_ended)
{
    if (SANITIZED)
        skip_because("a sanitizer takes it away at the end of a thread");
    struct child child = run_child(report_in_a_thread_with_another_signal_stack, NULL);
    assert_string_equal(child.err, "");
    assert_int_equal(child.status, 0);
}

TEST(a_thread_that_has_ended_has_no_signal_stack_any_more)
{
    if (UNDER_TSAN)
        skip_because("in the last round of destructors ThreadSanitizer has ended the thread");
    struct child child = run_child(report_in_a_thread_with_a_late_end, NULL);
    assert_string_equal(child.err, "");
    assert_int_equal(child.status, 0);
}

int main(void)
{
    return run_all_tests();
}
