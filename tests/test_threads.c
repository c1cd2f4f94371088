/* SPDX-License-Identifier: MIT */
/*
 * Greens and threads (rule 7): what another thread may not do, what it may,
 * and how a NEW green is handed over.
 */
#include <stdatomic.h>
#include <time.h>

#include "testing.h"

static const green_options_t small = { .stack_size = 65536, .flags = GREEN_NO_GUARD };

/* ---- Another thread's greens ------------------------------------------------------ */

/* What can be asked of a green.  Each says how it was refused: errno, or 0. */
static int try_switch(green_t *g)
{
    return green_switch(g, V(1)) == GREEN_FAILED ? errno : 0;
}

static int try_throw(green_t *g)
{
    return green_throw(g, E1) == GREEN_FAILED ? errno : 0;
}

static int try_kill(green_t *g)
{
    return green_throw(g, 0) == GREEN_FAILED ? errno : 0;
}

static int try_free(green_t *g)
{
    return green_free(g) == -1 ? errno : 0;
}

static int try_abandon(green_t *g)
{
    return green_abandon(g) == -1 ? errno : 0;
}

static int try_new_child(green_t *g)
{
    return green_new(give_back, g) == NULL ? errno : 0;
}

static int try_new_child_with_options(green_t *g)
{
    return green_new_with(give_back, g, &small) == NULL ? errno : 0;
}

static int try_parent(green_t *g)
{
    return green_parent(g) == NULL ? errno : 0;
}

static int try_set_parent(green_t *g)
{
    return green_set_parent(g, green_main()) == -1 ? errno : 0;
}

static int try_be_its_child(green_t *g)
{
    green_t *own = green_new(give_back, NULL);
    int error = green_set_parent(own, g) == -1 ? errno : 0;
    must(green_parent(own) == green_current());
    must(green_switch(own, V(2)) == V(2));
    must(green_free(own) == 0);
    return error;
}

static int try_name(green_t *g)
{
    return green_name(g) == NULL ? errno : 0;
}

static int try_data(green_t *g)
{
    return green_data(g) == NULL ? errno : 0;
}

static int try_set_data(green_t *g)
{
    return green_set_data(g, V(66)) == -1 ? errno : 0;
}

static int try_stack(green_t *g)
{
    void *low = V(1);
    size_t size = 1;
    green_stack(g, &low, &size);
    return low == NULL && size == 0 ? errno : 0;
}

static int try_stack_used(green_t *g)
{
    return green_stack_used(g) == 0 ? errno : 0;
}

enum which { A_NEW, A_SUSPENDED, A_DEAD, A_RUNNING, A_MAIN, WHICH };

static const struct {
    const char *name;
    int (*fn)(green_t *g);
    int of_main; /* the errno for a main green */
} requests[] = {
    { "switch", try_switch, EPERM },
    { "throw", try_throw, EPERM },
    { "kill", try_kill, EPERM },
    { "free", try_free, EINVAL },
    { "abandon", try_abandon, EINVAL },
    { "new child", try_new_child, EPERM },
    { "new child with options", try_new_child_with_options, EPERM },
    { "parent", try_parent, EPERM },
    { "set_parent", try_set_parent, EINVAL },
    { "be its child", try_be_its_child, EPERM },
    { "name", try_name, EPERM },
    { "data", try_data, EPERM },
    { "set_data", try_set_data, EPERM },
    { "stack", try_stack, EPERM },
    { "stack_used", try_stack_used, EPERM },
};

/* The greens of the other thread, and how it waits in the RUNNING one. */
static green_t *theirs[WHICH];
static sem_t inside, leave;

static void *wait_inside(void *value)
{
    sem_post(&inside);
    while (sem_wait(&leave) != 0)
        continue;
    return value;
}

static void make_theirs(void *arg)
{
    (void)arg;
    for (int i = A_NEW; i < A_MAIN; i++) {
        green_options_t options = { .name = "theirs", .data = V(i + 1) };
        green_fn *run = i == A_RUNNING ? wait_inside : i == A_DEAD ? give_back : echo;
        theirs[i] = green_new_with(run, NULL, &options);
        must(theirs[i] != NULL);
    }
    theirs[A_MAIN] = green_main();
    must(green_set_data(theirs[A_MAIN], V(A_MAIN + 1)) == 0);
    must(green_switch(theirs[A_SUSPENDED], V(3)) == V(3));
    must(green_switch(theirs[A_DEAD], V(4)) == V(4));
}

static green_t *bare; /* dead, theirs, and has nothing */

static void make_bare(void *arg)
{
    (void)arg;
    must((bare = green_new(give_back, NULL)) != NULL);
    must(green_switch(bare, V(1)) == V(1));
}

static void free_bare(void *arg)
{
    (void)arg;
    must(green_free(bare) == 0);
}

static void run_theirs(void *arg)
{
    must(green_switch(theirs[A_RUNNING], arg) == arg);
}

static void check_theirs(void *arg)
{
    (void)arg;
    for (int i = A_NEW; i < WHICH; i++) {
        must(green_data(theirs[i]) == V(i + 1));
        must(strcmp(green_name(theirs[i]), i == A_MAIN ? "main" : "theirs") == 0);
        must(green_parent(theirs[i]) == (i == A_MAIN ? NULL : theirs[A_MAIN]));
    }
    must(green_state(theirs[A_NEW]) == GREEN_NEW);
    must(green_state(theirs[A_DEAD]) == GREEN_DEAD);
    must(green_switch(theirs[A_SUSPENDED], V(5)) == V(5));
    must(green_switch(theirs[A_NEW], V(6)) == V(6));
    for (int i = A_NEW; i < A_MAIN; i++)
        must(green_free(theirs[i]) == 0);
    must(green_current() == theirs[A_MAIN]);
}

static void count_events(green_trace_event_t event, green_t *from, green_t *to, void *count)
{
    (void)event;
    for (int i = 0; i < WHICH; i++)
        if (from == theirs[i] || to == theirs[i])
            ++*(int *)count;
}

static int unexpected(int i, size_t request, int want)
{
    errno = 0;
    int error = requests[request].fn(theirs[i]);
    if (error != want)
        print_message("%s of green %d: errno %d\n", requests[request].name, i, error);
    return error != want;
}

/* Asks everything of all; how often it was not refused as it should be. */
static int ask_all(void)
{
    int wrong = 0;
    for (int i = A_NEW; i < WHICH; i++) {
        for (size_t r = 0; r < sizeof requests / sizeof *requests; r++) {
            if (i == A_NEW && requests[r].fn == try_set_parent)
                continue; /* a take-over: see below */
            if (i < A_RUNNING && requests[r].fn == try_abandon)
                continue; /* allowed: see test_abandon.c */
            int busy = i == A_RUNNING && requests[r].fn == try_abandon;
            wrong += unexpected(i, r, i == A_MAIN ? requests[r].of_main : busy ? EBUSY : EPERM);
        }
    }
    return wrong;
}

static void *ask_all_in_a_green(void *value)
{
    (void)value;
    int wrong = ask_all();
    green_t *self = green_current();
    return V(wrong + (green_parent(self) != green_main()));
}

/* A cancelled thread, to end at the first cancellation point. */
static int came_to_the_end;

static void *use_it_though_cancelled(void *sink)
{
    must(pthread_cancel(pthread_self()) == 0);
    green_t *g = green_new(echo, NULL); /* the first of the process, which asks most */
    must(g != NULL && green_switch(g, V(1)) == V(1));
    must(green_dump(fileno(sink)) == 0);
    must(green_free(g) == 0 && green_trim(0) != 0 && green_thread_end() == 0);
    came_to_the_end = 1;
    pthread_testcancel();
    return NULL;
}

static int cancelled_child(void *unused)
{
    FILE *sink = tmpfile();
    (void)unused;
    must(sink != NULL && in_thread(use_it_though_cancelled, sink) == PTHREAD_CANCELED);
    must(came_to_the_end == 1);
    return 0;
}

/* Comes first, before any green of the process has a guard. */
TEST(no_call_is_a_cancellation_point)
{
    struct child child = run_child(cancelled_child, NULL);
    assert_string_equal(child.err, "");
    assert_int_equal(child.status, 0);
}

TEST(another_threads_greens_refuse_everything)
{
    struct helper thread;
    int events = 0;
    sem_init(&inside, 0, 0);
    sem_init(&leave, 0, 0);
    helper_start(&thread);
    helper_do(&thread, make_theirs, NULL);
    helper_begin(&thread, run_theirs, V(7));
    while (sem_wait(&inside) != 0)
        continue;
    green_set_trace(count_events, &events);
    assert_int_equal(ask_all(), 0);
    assert_ptr_equal(green_current(), green_main());
    green_t *g = green_new(ask_all_in_a_green, NULL);
    assert_null(green_switch(g, NULL));
    assert_int_equal(green_free(g), 0);
    green_set_trace(NULL, NULL);
    assert_int_equal(events, 0);

    /* Arguments are looked at first. */
    assert_fails(green_switch(theirs[A_SUSPENDED], GREEN_FAILED), EINVAL);
    assert_fails(green_throw(theirs[A_SUSPENDED], -1), EINVAL);
    assert_null_errno(green_new(NULL, theirs[A_NEW]), EINVAL);
    assert_refused(green_set_parent(theirs[A_NEW], NULL), EINVAL);
    assert_refused(green_set_parent(theirs[A_NEW], theirs[A_NEW]), EPERM); /* before ELOOP */
    assert_refused(green_set_parent(theirs[A_NEW], theirs[A_MAIN]), EPERM);

    /* The one thing that may be asked. */
    const green_state_t states[] = { GREEN_NEW, GREEN_SUSPENDED, GREEN_DEAD, GREEN_RUNNING,
                                     GREEN_SUSPENDED };
    for (int i = A_NEW; i < WHICH; i++)
        assert_int_equal(green_state(theirs[i]), states[i]);
    sem_post(&leave);
    helper_wait(&thread);
    assert_int_equal(green_state(theirs[A_RUNNING]), GREEN_DEAD);
    assert_int_equal(green_state(theirs[A_MAIN]), GREEN_RUNNING);
    helper_do(&thread, check_theirs, NULL);
    helper_end(&thread);
}

static int ask_while_it_only_looks(green_t *g, void *arg)
{
    (void)g;
    (void)arg;
    must(unexpected(A_SUSPENDED, 0, EBUSY) == 0); /* before EPERM */
    must(unexpected(A_SUSPENDED, 7, EPERM) == 0); /* green_parent() only looks */
    must(green_state(theirs[A_SUSPENDED]) == GREEN_SUSPENDED);
    return 1;
}

TEST(nor_is_one_freed_that_has_nothing)
{
    struct helper thread;
    helper_start(&thread);
    helper_do(&thread, make_bare, NULL);
    assert_refused(green_free(bare), EPERM);
    helper_do(&thread, free_bare, NULL);
    helper_end(&thread);
}

TEST(that_it_only_looks_is_said_before_whose_it_is)
{
    struct helper thread;
    helper_start(&thread);
    helper_do(&thread, make_theirs, NULL);
    assert_int_equal(green_each(ask_while_it_only_looks, NULL), 1);
    helper_end(&thread);
    for (int i = A_NEW; i < A_MAIN; i++)
        assert_int_equal(green_free(theirs[i]), 0);
}

static void look_at_own_main(void *main_green)
{
    must(green_main() != NULL && green_main() != main_green);
    must(green_current() == green_main());
    must(green_parent(green_main()) == NULL);
    must(green_data(green_main()) == NULL);
    must(green_state(green_main()) == GREEN_RUNNING);
    must(strcmp(green_name(green_main()), "main") == 0);
    void *data;
    must(green_get_trace(&data) == NULL && data == NULL); /* the hook is a thread's, too */
}

static void *change_own_main(void *value)
{
    static int events;
    must(green_set_data(green_main(), value) == 0);
    must(green_set_trace(count_events, &events) == NULL);
    return value;
}

TEST(each_thread_has_a_main_of_its_own)
{
    struct helper thread;
    int events = 0;
    in_thread(change_own_main, V(5)); /* which is of no concern to the next thread */
    green_set_trace(count_events, &events);
    helper_start(&thread);
    helper_do(&thread, look_at_own_main, green_main());
    helper_end(&thread);
    green_set_trace(NULL, NULL);
}

/* ---- A NEW green handed over --------------------------------------------------------- */

static pthread_t ran_in;
static green_t *their_main, *their_parent, *offered;

static void *note_thread(void *value)
{
    ran_in = pthread_self();
    return green_parent(green_current()) == green_main() ? value : NULL;
}

/* Offers a NEW green under their_parent, itself NEW and under their main. */
static void offer(void *arg)
{
    (void)arg;
    green_options_t options = { .name = "offered", .data = V(77) };
    their_main = green_main();
    their_parent = green_new(give_back, NULL);
    offered = green_new_with(note_thread, their_parent, &options);
    must(offered != NULL);
}

TEST(a_new_green_can_be_taken_over_and_runs_in_the_new_thread)
{
    struct helper thread;
    helper_start(&thread);
    helper_do(&thread, offer, NULL);
    assert_int_equal(green_set_parent(offered, green_main()), 0);
    assert_int_equal(green_state(offered), GREEN_NEW);
    assert_ptr_equal(green_parent(offered), green_main());
    assert_string_equal(green_name(offered), "offered");
    assert_ptr_equal(green_data(offered), V(77));
    assert_ptr_equal(green_switch(offered, V(5)), V(5));
    assert_true(pthread_equal(ran_in, pthread_self()));
    assert_int_equal(green_free(offered), 0);
    assert_int_equal(green_set_parent(their_parent, green_main()), 0); /* it has no child now */
    assert_int_equal(green_free(their_parent), 0);
    helper_end(&thread);
}

static void ask_what_was_taken(void *arg)
{
    (void)arg;
    must(try_switch(offered) == EPERM);
    must(try_free(offered) == EPERM);
    must(try_parent(offered) == EPERM);
}

static void take_back(void *arg)
{
    (void)arg;
    must(green_set_parent(offered, their_parent) == 0);
    must(green_switch(offered, V(1)) == NULL); /* its parent is not main: NULL */
    must(pthread_equal(ran_in, pthread_self()));
    must(green_free(offered) == 0 && green_free(their_parent) == 0);
}

TEST(once_taken_it_is_the_takers_until_it_is_taken_back)
{
    struct helper thread;
    helper_start(&thread);
    helper_do(&thread, offer, NULL);
    assert_int_equal(green_set_parent(offered, green_main()), 0);
    helper_do(&thread, ask_what_was_taken, NULL);
    assert_int_equal(green_state(offered), GREEN_NEW);
    helper_do(&thread, take_back, NULL);
    helper_end(&thread);
}

TEST(one_with_children_cannot_be_taken_over)
{
    struct helper thread;
    helper_start(&thread);
    helper_do(&thread, offer, NULL);
    for (int i = 0; i < 2; i++)
        assert_refused(green_set_parent(their_parent, green_main()), EBUSY);
    assert_int_equal(green_set_parent(offered, green_main()), 0);
    assert_int_equal(green_set_parent(their_parent, offered), 0); /* the wrong way round, even */
    assert_ptr_equal(green_parent(their_parent), offered);
    assert_int_equal(green_free(their_parent), 0);
    assert_int_equal(green_free(offered), 0);
    helper_end(&thread);
}

static void free_their_parent(void *arg)
{
    (void)arg;
    must(green_free(their_parent) == 0);
}

static void put_a_new_one_above(void *arg)
{
    (void)arg; /* main <- their_parent <- middle <- offered; then middle goes */
    green_t *middle = green_new(give_back, their_parent);
    must(green_set_parent(offered, middle) == 0);
    must(green_free(middle) == 0);
    must(green_parent(offered) == their_parent);
}

TEST(the_parents_count_is_right_whenever_it_is_freed)
{
    struct helper thread;
    helper_start(&thread);

    helper_do(&thread, offer, NULL); /* the parent freed before */
    helper_do(&thread, free_their_parent, NULL);
    assert_int_equal(green_set_parent(offered, green_main()), 0);
    assert_ptr_equal(green_switch(offered, V(1)), V(1));
    assert_int_equal(green_free(offered), 0);

    helper_do(&thread, offer, NULL); /* after, while the child lives */
    assert_int_equal(green_set_parent(offered, green_main()), 0);
    helper_do(&thread, free_their_parent, NULL);
    assert_ptr_equal(green_parent(offered), green_main());
    assert_ptr_equal(green_switch(offered, V(1)), V(1));
    assert_int_equal(green_free(offered), 0);

    helper_do(&thread, offer, NULL); /* after it was freed */
    assert_int_equal(green_set_parent(offered, green_main()), 0);
    assert_int_equal(green_free(offered), 0);
    helper_do(&thread, free_their_parent, NULL);

    helper_do(&thread, offer, NULL); /* a freed one in between */
    helper_do(&thread, put_a_new_one_above, NULL);
    assert_refused(green_set_parent(their_parent, green_main()), EBUSY);
    assert_int_equal(green_set_parent(offered, green_main()), 0);
    assert_int_equal(green_set_parent(their_parent, green_main()), 0);
    assert_int_equal(green_free(offered), 0);
    assert_int_equal(green_free(their_parent), 0);
    helper_end(&thread);
}

static green_t *own_parent;

static void take_own_parent_with_no_success(void *arg)
{
    (void)arg;
    errno = 0;
    must(green_set_parent(own_parent, green_main()) == -1 && errno == EBUSY);
}

TEST(so_is_that_of_the_parent_it_is_put_under)
{
    struct helper thread;
    helper_start(&thread);
    green_t *grand = green_new(give_back, NULL);
    own_parent = green_new(give_back, grand);
    helper_do(&thread, offer, NULL);
    assert_int_equal(green_set_parent(offered, own_parent), 0);
    helper_do(&thread, take_own_parent_with_no_success, NULL);
    assert_int_equal(green_free(own_parent), 0); /* before its child */
    own_parent = green_new(give_back, NULL);     /* which may have taken its place */
    assert_ptr_equal(green_parent(offered), grand);
    assert_int_equal(green_free(grand), 0);
    assert_ptr_equal(green_parent(offered), green_main());
    assert_ptr_equal(green_switch(offered, V(1)), V(1));
    assert_int_equal(green_free(own_parent), 0);
    assert_int_equal(green_free(offered), 0);
    helper_do(&thread, free_their_parent, NULL);
    helper_end(&thread);
}

static void free_offered(void *arg)
{
    (void)arg;
    must(green_free(offered) == 0);
}

static void reparent_offered(void *arg)
{
    (void)arg;
    must(green_set_parent(offered, green_main()) == 0);
}

static void abandon_offered(void *arg)
{
    (void)arg;
    must(green_abandon(offered) == 0);
}

static void kill_offered_unrun(void *arg)
{
    (void)arg;
    must(green_throw(offered, E1) == GREEN_FAILED && errno == E1); /* their_parent dies with it */
    must(green_free(offered) == 0);
}

static void run_offered(void *arg)
{
    (void)arg;
    must(green_set_parent(their_parent, their_main) == 0);
    must(green_switch(offered, V(1)) == NULL); /* and their_parent after it */
    must(green_free(offered) == 0);
}

TEST(a_child_that_is_gone_no_longer_counts)
{
    void (*const ways[])(void *) = { free_offered, reparent_offered, abandon_offered };
    struct helper thread;
    helper_start(&thread);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        helper_do(&thread, offer, NULL);
        assert_refused(green_set_parent(their_parent, green_main()), EBUSY);
        helper_do(&thread, ways[i], NULL);
        assert_int_equal(green_set_parent(their_parent, green_main()), 0);
        assert_int_equal(green_free(their_parent), 0);
        if (ways[i] == reparent_offered)
            helper_do(&thread, free_offered, NULL);
    }
    void (*const deaths[])(void *) = { kill_offered_unrun, run_offered };
    for (size_t i = 0; i < sizeof deaths / sizeof *deaths; i++) {
        helper_do(&thread, offer, NULL);
        helper_do(&thread, deaths[i], NULL);
        assert_int_equal(green_state(their_parent), GREEN_DEAD);
        assert_refused(green_set_parent(their_parent, green_main()), EPERM); /* not NEW */
        helper_do(&thread, free_their_parent, NULL);
    }
    helper_end(&thread);
}

/* Three families in another thread, each parent with two children. */
static green_t *parents[3], *children[6];

static void make_families(void *arg)
{
    (void)arg;
    for (int i = 0; i < 3; i++) {
        must((parents[i] = green_new(give_back, NULL)) != NULL);
        for (int k = 0; k < 2; k++)
            must((children[2 * i + k] = green_new(give_back, parents[i])) != NULL);
    }
}

static void notice(void *arg)
{
    (void)arg;
    green_t *g = green_new(give_back, NULL);
    must(g != NULL && green_set_parent(g, green_main()) == 0); /* it counts what is gone */
    must(green_free(g) == 0);
}

/* Takes them over, parents in an order, and ends: nothing of them is left. */
static void *take_all_over(void *arg)
{
    const int *order = arg;
    for (int i = 0; i < 6; i++) {
        must(green_set_parent(parents[i / 2], green_main()) == -1 && errno == EBUSY);
        must(green_set_parent(children[i], green_main()) == 0);
    }
    for (int i = 0; i < 3; i++)
        must(green_set_parent(parents[order[i]], green_main()) == 0);
    for (int i = 0; i < 3; i++) {
        must(green_switch(parents[i], V(i)) == V(i));
        must(green_free(parents[i]) == 0);
    }
    for (int i = 0; i < 6; i++)
        must(green_free(children[i]) == 0);
    return NULL;
}

TEST(several_may_lose_children_before_their_thread_notices)
{
    static int orders[][3] = { { 0, 1, 2 }, { 2, 1, 0 }, { 1, 0, 2 } };
    struct helper thread;
    helper_start(&thread);
    for (size_t order = 0; order < sizeof orders / sizeof *orders; order++) {
        helper_do(&thread, make_families, NULL);
        in_thread(take_all_over, orders[order]);
        helper_do(&thread, notice, NULL);
    }
    helper_end(&thread);
}

/* What was theirs and was freed by us is not used by both. */
static void make_as_many_apart(struct helper *thread)
{
    green_t *ours[9];
    for (int i = 0; i < 9; i++)
        ours[i] = green_new(give_back, NULL);
    helper_do(thread, make_families, NULL);
    for (int i = 0; i < 9; i++) {
        for (int k = 0; k < 6; k++)
            assert_true(ours[i] != children[k] && ours[i] != parents[k / 2]);
        assert_int_equal(green_free(ours[i]), 0);
    }
}

TEST(and_it_may_notice_at_any_time)
{
    struct helper thread;
    helper_start(&thread);
    helper_do(&thread, make_families, NULL);
    for (int when = 0; when < 9; when++) {
        for (int i = 0; i < 9; i++) {
            green_t *g = i < 6 ? children[i] : parents[i - 6];
            assert_int_equal(green_set_parent(g, green_main()), 0);
            if (i == when)
                helper_do(&thread, notice, NULL);
            offered = g; /* to and fro */
            helper_do(&thread, reparent_offered, NULL);
            assert_int_equal(green_set_parent(g, green_main()), 0);
        }
        for (int i = 0; i < 9; i++)
            assert_int_equal(green_free(i < 6 ? children[i] : parents[i - 6]), 0);
        helper_do(&thread, notice, NULL);
        make_as_many_apart(&thread);
    }
    for (int i = 0; i < 6; i++)
        assert_int_equal(green_set_parent(children[i], green_main()), 0);
    for (int i = 0; i < 9; i++) {
        if (i >= 6)
            assert_int_equal(green_set_parent(parents[i - 6], green_main()), 0);
        assert_int_equal(green_free(i < 6 ? children[i] : parents[i - 6]), 0);
    }
    helper_end(&thread);
}

/* Makes many, and says that they are there; then ends without using them. */
enum { HANDED = 200 };
static green_t *handed[HANDED];

static void *make_many(void *value)
{
    for (int i = 0; i < HANDED; i++) {
        handed[i] = green_new(note_thread, NULL);
        must(handed[i] != NULL);
    }
    sem_post(&inside);
    while (sem_wait(&leave) != 0)
        continue;
    return value;
}

TEST(many_can_be_handed_over_and_outlive_their_maker)
{
    pthread_t maker;
    assert_int_equal(pthread_create(&maker, NULL, make_many, NULL), 0);
    while (sem_wait(&inside) != 0)
        continue;
    for (int i = 0; i < HANDED / 2; i++)
        assert_int_equal(green_set_parent(handed[i], green_main()), 0);
    sem_post(&leave);
    assert_int_equal(pthread_join(maker, NULL), 0);
    for (int i = 0; i < HANDED; i++) {
        assert_int_equal(green_state(handed[i]), GREEN_NEW);
        assert_int_equal(green_set_parent(handed[i], green_main()), 0);
        assert_ptr_equal(green_switch(handed[i], V(i + 1)), V(i + 1));
        assert_true(pthread_equal(ran_in, pthread_self()));
        assert_int_equal(green_free(handed[i]), 0);
    }
}

/* ---- greenlet's rows -------------------------------------------------------------------- */

static void *two_phases(void *log)
{
    strcat(log, "1");
    green_yield(NULL);
    strcat(log, "3");
    return NULL;
}

static void *run_simple(void *log)
{
    strcpy(log, "0");
    green_t *g = green_new(two_phases, NULL);
    must(green_switch(g, log) == NULL);
    strcat(log, "2");
    must(green_switch(g, NULL) == NULL);
    strcat(log, "4");
    must(green_state(g) == GREEN_DEAD && green_free(g) == 0);
    return NULL;
}

/* greenlet: test_threads */
TEST(ten_threads_switch_at_once)
{
    pthread_t thread[10];
    char log[10][8];
    for (int i = 0; i < 10; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, run_simple, log[i]), 0);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(pthread_join(thread[i], NULL), 0);
        assert_string_equal(log[i], "01234");
    }
}

enum { PAIRS = 16 };
static struct {
    _Atomic(green_t *) parked;
    sem_t exit;
    atomic_long attempts;
} pairs[PAIRS];
static atomic_int stop;

static void *park_one(void *arg)
{
    int i = (int)(intptr_t)arg;
    green_t *g = green_new_with(echo, NULL, &small);
    must(g != NULL && green_switch(g, V(1)) == V(1));
    atomic_store(&pairs[i].parked, g);
    while (sem_wait(&pairs[i].exit) != 0)
        continue;
    must(green_switch(g, V(2)) == V(2)); /* nobody has touched it */
    return NULL;
}

static void *hammer(void *arg)
{
    int i = (int)(intptr_t)arg;
    green_t *g;
    while ((g = atomic_load(&pairs[i].parked)) == NULL)
        sched_yield();
    while (!atomic_load(&stop)) {
        errno = 0;
        must(green_switch(g, V(3)) == GREEN_FAILED && errno == EPERM);
        if (atomic_fetch_add(&pairs[i].attempts, 1) % 100 == 0)
            sched_yield();
    }
    return NULL;
}

static void await_attempts(long more)
{
    long before[PAIRS];
    for (int i = 0; i < PAIRS; i++)
        before[i] = atomic_load(&pairs[i].attempts);
    for (int i = 0; i < PAIRS; i++)
        while (atomic_load(&pairs[i].attempts) < before[i] + more)
            usleep(100);
}

/* greenlet: test_switching_many_threads */
TEST(many_threads_that_switch_to_anothers_get_clean_errors)
{
    for (int round = 0, n = times(20, 2); round < n; round++) {
        pthread_t creators[PAIRS], hammers[PAIRS];
        atomic_store(&stop, 0);
        for (int i = 0; i < PAIRS; i++) {
            atomic_store(&pairs[i].parked, NULL);
            sem_init(&pairs[i].exit, 0, 0);
            assert_int_equal(pthread_create(&creators[i], NULL, park_one, V(i)), 0);
            assert_int_equal(pthread_create(&hammers[i], NULL, hammer, V(i)), 0);
        }
        await_attempts(100);
        for (int i = 0; i < PAIRS; i++)
            sem_post(&pairs[i].exit);
        for (int i = 0; i < PAIRS; i++)
            assert_int_equal(pthread_join(creators[i], NULL), 0);
        await_attempts(100); /* also of those whose thread is gone */
        atomic_store(&stop, 1);
        for (int i = 0; i < PAIRS; i++) {
            assert_int_equal(pthread_join(hammers[i], NULL), 0);
            assert_int_equal(green_state(pairs[i].parked), GREEN_DEAD);
            assert_int_equal(green_free(pairs[i].parked), 0);
        }
    }
}

static void *park_and_exit(void *value)
{
    green_t *g = green_new(echo, NULL);
    must(green_switch(g, value) == value);
    return g;
}

/* greenlet: test_throw_to_dead_thread_doesnt_crash, ..._wait */
TEST(a_green_of_a_dead_thread_refuses_a_throw)
{
    green_t *g = in_thread(park_and_exit, V(1));
    assert_int_equal(green_state(g), GREEN_DEAD);
    assert_fails(green_throw(g, E1), EPERM);
    assert_fails(green_throw(g, 0), EPERM);
    assert_fails(green_switch(g, V(1)), EPERM);
    assert_null_errno(green_new(give_back, g), EPERM);
    assert_int_equal(green_free(g), 0);
}

/* greenlet: test_unexpected_reparenting */
TEST(a_green_cannot_be_put_under_one_of_a_dead_thread)
{
    green_t *theirs_dead = in_thread(park_and_exit, V(1));
    green_t *own = green_new(give_back, NULL);
    assert_refused(green_set_parent(own, theirs_dead), EPERM);
    assert_ptr_equal(green_parent(own), green_main());
    assert_ptr_equal(green_switch(own, V(4)), V(4));
    assert_int_equal(green_free(own), 0);
    assert_int_equal(green_free(theirs_dead), 0);
}

static void reparent_started_ones_with_no_success(void *arg)
{
    green_t *own = green_new(give_back, NULL), *g = arg;
    errno = 0;
    must(green_set_parent(g, own) == -1 && errno == EPERM);
    errno = 0;
    must(green_set_parent(own, g) == -1 && errno == EPERM);
    must(green_parent(own) == green_main());
    must(green_switch(own, V(4)) == V(4) && green_free(own) == 0);
}

/* greenlet: test_threaded_reparent, test_unexpected_reparenting_thread_running */
TEST(neither_can_a_started_one_and_one_of_a_living_thread)
{
    struct helper thread;
    green_t *g = green_new(echo, NULL);
    assert_ptr_equal(green_switch(g, V(1)), V(1));
    helper_start(&thread);
    helper_do(&thread, reparent_started_ones_with_no_success, g);
    helper_end(&thread);
    assert_ptr_equal(green_parent(g), green_main());
    assert_ptr_equal(green_switch(g, V(2)), V(2));
    assert_int_equal(green_free(g), 0);
}

/* greenlet: test_switch_to_another_thread */
TEST(an_unstarted_green_of_another_thread_cannot_be_entered)
{
    struct helper thread;
    helper_start(&thread);
    helper_do(&thread, offer, NULL);
    assert_fails(green_switch(offered, V(1)), EPERM);
    assert_int_equal(green_state(offered), GREEN_NEW);
    helper_do(&thread, free_offered, NULL);
    helper_do(&thread, free_their_parent, NULL);
    helper_end(&thread);
}

static void *sleep_inside(void *milliseconds)
{
    struct timespec time = { .tv_nsec = (long)(intptr_t)milliseconds * 1000000 };
    must(nanosleep(&time, NULL) == 0);
    return milliseconds;
}

static void *sleep_in_a_green(void *milliseconds)
{
    green_t *g = green_new(sleep_inside, NULL);
    must(green_switch(g, milliseconds) == milliseconds && green_free(g) == 0);
    return milliseconds;
}

/* greenlet: test_thread_bug */
TEST(two_threads_may_sleep_in_greens)
{
    pthread_t thread[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, sleep_in_a_green, V(20 + 10 * i)), 0);
    for (int i = 0; i < 2; i++) {
        void *result;
        assert_int_equal(pthread_join(thread[i], &result), 0);
        assert_ptr_equal(result, V(20 + 10 * i));
    }
}

int main(void)
{
    return run_all_tests();
}
