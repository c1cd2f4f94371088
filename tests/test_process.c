/* SPDX-License-Identifier: MIT */
/*
 * Greens and the process (rule 17): fork(), signals, exit().  Most of it runs
 * in children: the process itself never uses the library.
 */
#include <signal.h>
#include <stdatomic.h>
#include <sys/time.h>

#include "testing.h"

static green_t *parked(void)
{
    green_t *g = green_new(echo, NULL);
    must(g != NULL && green_switch(g, V(1)) == V(1));
    return g;
}

static green_t *held[64]; /* so that they are not lost */

static void park_many(int n)
{
    for (int i = 0; i < n; i++)
        held[i] = parked();
}

/* It ends with status 0, having printed this. */
static void runs_well(int (*fn)(void *), void *arg, const char *output)
{
    struct child child = run_child(fn, arg);
    if (child.status != 0)
        print_message("status %#x: %s\n", (unsigned)child.status, child.err);
    assert_int_equal(child.status, 0);
    assert_string_equal(child.out, output);
}

/* ---- The first use comes late --------------------------------------------------------- */

static void current_at_exit(void)
{
    must(green_current() == green_main() && green_current() != NULL);
    printf("current\n");
}

static int register_and_use(void *parks)
{
    must(atexit(current_at_exit) == 0);
    park_many((int)(intptr_t)parks);
    return 0;
}

/* greenlet: test_getcurrent_returns_none_during_atexit_phase, ..._with_active_greenlets */
TEST(the_library_works_in_an_atexit_function_older_than_its_first_use)
{
    runs_well(register_and_use, V(0), "current\n"); /* which is the first use */
    runs_well(register_and_use, V(10), "current\n");
}

static int use_without_a_key(void *unused)
{
    pthread_key_t key, last;
    must(pthread_key_create(&last, NULL) == 0);
    while (pthread_key_create(&key, NULL) == 0)
        last = key;
    errno = 0;
    must(green_main() == NULL && errno == ENOMEM);
    errno = 0;
    must(green_new(give_back, NULL) == NULL && errno == ENOMEM);
    must(pthread_key_delete(last) == 0);
    park_many(1);
    (void)unused;
    return 0;
}

TEST(the_first_use_says_that_there_is_no_key_of_threads_left_and_may_come_again)
{
    if (getenv("GREEN_TEST_LEAKS") != NULL)
        skip_because("who looks for leaks has used the library before");
    runs_well(use_without_a_key, NULL, "");
}

/*
 * Ends a child of a fork in a program with threads, where all is well.  What
 * they held is lost to it: no tool shall look.
 */
_Noreturn static void end_well(void)
{
    raise(SIGKILL);
    abort();
}

static int ended_well(int status)
{
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

/* ---- fork -------------------------------------------------------------------------------- */

static int status_of(pid_t pid)
{
    int status = -1;
    must(pid > 0 && waitpid(pid, &status, 0) == pid);
    return status;
}

static green_t *peer;
static pid_t forked;

static void *fork_in_a_green(void *value)
{
    int local = 40;
    must(green_switch(peer, V(1)) == V(1));
    fflush(stdout);
    forked = fork();
    must(forked >= 0);
    local += forked == 0 ? 2 : 1;
    must(green_switch(peer, V(2)) == V(2)); /* the other green is there on both sides */
    must(value == V(7));
    value = green_yield(V(local));
    must(green_current() != green_main());
    return value;
}

static int fork_and_go_on(void *arg)
{
    (void)arg;
    peer = green_new(echo, NULL);
    green_t *g = green_new(fork_in_a_green, NULL);
    must(green_set_parent(peer, g) == 0);
    void *local = green_switch(g, V(7)); /* returns twice */
    must(local == V(forked == 0 ? 42 : 41));
    must(green_current() == green_main());
    must(green_switch(g, V(9)) == V(9));
    must(green_state(g) == GREEN_DEAD);
    must(green_free(g) == 0 && green_free(peer) == 0);
    green_t *fresh = green_new(give_back, NULL);
    must(green_switch(fresh, V(3)) == V(3) && green_free(fresh) == 0);
    if (forked == 0) {
        in_thread(give_back, NULL);
        printf("child\n");
        return 0;
    }
    int status = status_of(forked);
    printf("parent %d\n", status);
    return 0;
}

TEST(a_forked_child_goes_on_with_copies_of_the_greens)
{
    if (UNDER_TSAN)
        skip_because("to ThreadSanitizer greens are threads, "
                     "and a child of a process with threads makes none");
    runs_well(fork_and_go_on, NULL, "child\nparent 0\n");
}

static void fork_with_anothers_green(void *theirs)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid > 0) {
        printf("ended well: %d\n", ended_well(status_of(pid)));
        return;
    }
    alarm(30);
    must(green_current() == green_main() && green_current() != NULL);
    errno = 0;
    must(green_switch(theirs, V(1)) == GREEN_FAILED && errno == EPERM); /* lost, still another's */
    green_stats_t stats;
    must(green_stats(&stats, sizeof stats) == 0 && stats.threads == 2); /* and counted */
    parked();
    must(green_thread_end() == 0);
    end_well();
}

static int fork_in_another_thread(void *arg)
{
    (void)arg;
    struct helper thread;
    green_t *own = parked();
    helper_start(&thread);
    helper_do(&thread, fork_with_anothers_green, own);
    helper_end(&thread);
    must(green_switch(own, V(5)) == V(5));
    held[0] = own;
    return 0;
}

TEST(the_forking_thread_is_the_one_that_goes_on)
{
    runs_well(fork_in_another_thread, NULL, "ended well: 1\n");
}

static atomic_int stop;
static atomic_long turns[4];

static void *use_a_little(void *value)
{
    green_key_t key;
    must(green_key_create(&key, NULL) == 0);
    green_t *g = green_new(echo, NULL);
    must(g != NULL && green_switch(g, value) == value);
    must(green_setspecific(key, g) == 0 && green_free(g) == 0);
    must(green_key_delete(key) == 0);
    return value;
}

static void *use_much(void *turn)
{
    while (!atomic_load(&stop)) {
        use_a_little(turn); /* keys and stacks */
        in_thread(use_a_little, turn); /* threads that come and go */
        atomic_fetch_add((atomic_long *)turn, 1);
    }
    return NULL;
}

static int fork_in_the_midst(void *forks)
{
    pthread_t thread[4];
    for (int i = 0; i < 4; i++)
        must(pthread_create(&thread[i], NULL, use_much, &turns[i]) == 0);
    for (int i = 0; i < 4; i++)
        while (atomic_load(&turns[i]) < 2)
            usleep(1000);
    for (int i = 0; i < (int)(intptr_t)forks; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            alarm(30); /* should a lock be held by nobody */
            use_a_little(V(1));
            if (times(1, under_valgrind())) /* qemu-user fails to make a thread here */
                in_thread(use_a_little, V(2));
            end_well();
        }
        must(ended_well(status_of(pid)));
    }
    atomic_store(&stop, 1);
    for (int i = 0; i < 4; i++)
        must(pthread_join(thread[i], NULL) == 0);
    return 0;
}

TEST(no_lock_is_left_held_in_a_forked_child)
{
    if (SANITIZED)
        skip_because("the sanitizers' own locks may be held in a child");
    runs_well(fork_in_the_midst, V(times(300, 5)), "");
}

/* Nor before there is a green, by what needs none and by a first use. */
static void *only_keys(void *unused)
{
    (void)unused;
    while (!atomic_load(&stop)) {
        green_key_t key;
        must(green_key_create(&key, NULL) == 0 && green_key_delete(key) == 0);
        atomic_fetch_add(&turns[0], 1);
    }
    return NULL;
}

static void *first_use(void *unused)
{
    return green_current() != NULL ? unused : NULL;
}

static int fork_beside_the_first_use(void *forks)
{
    pthread_t keys;
    must(pthread_create(&keys, NULL, only_keys, NULL) == 0);
    while (atomic_load(&turns[0]) < 100)
        usleep(100);
    for (int i = 0; i < (int)(intptr_t)forks; i++) {
        pid_t pid = fork();
        if (pid == 0) { /* here begins what has no green yet */
            pthread_t user;
            must(pthread_create(&user, NULL, first_use, NULL) == 0);
            if ((pid = fork()) == 0) {
                alarm(30);
                use_a_little(V(1));
                end_well();
            }
            must(ended_well(status_of(pid)));
            end_well();
        }
        must(ended_well(status_of(pid)));
    }
    atomic_store(&stop, 1);
    must(pthread_join(keys, NULL) == 0);
    return 0;
}

TEST(nor_before_there_is_a_green)
{
    if (SANITIZED)
        skip_because("the sanitizers' own locks may be held in a child");
    if (times(0, 1))
        skip_because("GREEN_TEST_SLOW is set, and qemu-user fails to make a thread in a child");
    runs_well(fork_beside_the_first_use, V(300), "");
}

/* ---- Signals ------------------------------------------------------------------------------- */

static volatile sig_atomic_t signals, wrong;
static green_t *expected;

static void ask_in_a_handler(int signal)
{
    (void)signal;
    int error = errno;
    green_t *g = green_current();
    if (g != expected || green_state(g) != GREEN_RUNNING || green_data(g) != g)
        wrong++;
    const char *name = green_name(g);
    if (name == NULL || strcmp(name, g == green_main() ? "main" : "handled") != 0)
        wrong++;
    signals++;
    errno = error;
}

static void *raise_in_a_green(void *value)
{
    expected = green_current();
    green_set_data(expected, expected);
    must(raise(SIGUSR1) == 0);
    expected = green_main();
    green_yield(value);
    expected = green_current();
    must(raise(SIGUSR1) == 0);
    return value;
}

static int raise_everywhere(void *arg)
{
    struct sigaction action = { .sa_handler = ask_in_a_handler };
    must(sigaction(SIGUSR1, &action, NULL) == 0);
    const green_options_t options = { .name = "handled", .stack_size = 65536 };
    green_t *g = green_new_with(raise_in_a_green, NULL, &options), *main_green = green_main();
    green_set_data(main_green, main_green);
    green_switch(g, arg);
    must(raise(SIGUSR1) == 0);
    green_switch(g, arg);
    expected = main_green;
    must(raise(SIGUSR1) == 0);
    must(green_free(g) == 0);
    printf("%d signals, %d wrong\n", (int)signals, (int)wrong);
    return 0;
}

TEST(a_signal_handler_knows_where_it_is)
{
    runs_well(raise_everywhere, NULL, "4 signals, 0 wrong\n");
}

/* Of a signal that may come at any moment: that the answers fit one another. */
static void ask_at_any_moment(int signal)
{
    (void)signal;
    int error = errno;
    green_t *g = green_current();
    const char *name = green_name(g);
    if (g == NULL || name == NULL || green_data(g) == NULL)
        wrong++;
    else if (strcmp(name, green_data(g)) != 0)
        wrong++;
    if ((unsigned)green_state(g) > GREEN_DEAD)
        wrong++;
    signals++;
    errno = error;
}

static void pass_signals_by(int how_many)
{
    const green_options_t a = { .name = "a", .data = "a", .stack_size = 65536 };
    const green_options_t b = { .name = "b", .data = "b", .stack_size = 65536 };
    const green_options_t brief = {
        .name = "brief", .data = "brief", .stack_size = 65536, .flags = GREEN_DETACHED,
    };
    green_t *g = green_new_with(echo, NULL, &a), *h = green_new_with(echo, NULL, &b);
    must(green_set_data(green_main(), "main") == 0);
    while (signals < how_many) { /* in switches, starts, deaths */
        for (int i = 0; i < 100; i++) {
            must(green_switch(g, V(1)) == V(1));
            must(green_switch(h, V(2)) == V(2));
        }
        green_t *detached = green_new_with(give_back, NULL, &brief);
        must(detached != NULL && green_switch(detached, V(3)) == V(3));
    }
    must(green_free(g) == 0 && green_free(h) == 0);
}

static void *pass_signals_by_in_a_thread(void *how_many)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    must(green_current() != NULL);
    must(green_set_data(green_main(), "main") == 0);
    must(pthread_sigmask(SIG_UNBLOCK, &set, NULL) == 0);
    pass_signals_by((int)(intptr_t)how_many);
    must(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
    return NULL;
}

static int be_interrupted(void *how_many)
{
    struct sigaction action = { .sa_handler = ask_at_any_moment, .sa_flags = SA_RESTART };
    struct itimerval often = { { 0, 200 }, { 0, 200 } }, never = { { 0, 0 }, { 0, 0 } };
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    must(green_set_data(green_main(), "main") == 0);
    must(sigaction(SIGALRM, &action, NULL) == 0);
    must(setitimer(ITIMER_REAL, &often, NULL) == 0);
    pass_signals_by((int)(intptr_t)how_many / 2);
    must(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0); /* the others have it now */
    in_thread(pass_signals_by_in_a_thread, how_many);
    must(setitimer(ITIMER_REAL, &never, NULL) == 0);
    return wrong;
}

TEST(a_signal_may_come_at_any_moment)
{
    runs_well(be_interrupted, V(times(4000, 40)), "");
}

/* ---- exit ----------------------------------------------------------------------------------- */

static int exit_with_parked(void *n)
{
    printf("output");
    park_many((int)(intptr_t)n);
    return 0;
}

/*
 * greenlet: test_active_greenlet_at_shutdown_no_crash,
 * test_multiple_active_greenlets_at_shutdown
 */
TEST(a_program_may_end_with_suspended_greens)
{
    runs_well(exit_with_parked, V(1), "output");
    runs_well(exit_with_parked, V(10), "output");
}

static void *park_with_an_inner_one(void *depth)
{
    int n = (int)(intptr_t)depth;
    if (n > 0) {
        green_t *inner = green_new(park_with_an_inner_one, NULL);
        must(green_switch(inner, V(n - 1)) == V(n - 1));
        held[n] = inner;
    }
    return echo(depth);
}

static int exit_with_nested(void *depth)
{
    held[0] = green_new(park_with_an_inner_one, NULL);
    must(green_switch(held[0], depth) == depth);
    return 0;
}

/* greenlet: test_nested_greenlets_at_shutdown, test_deeply_nested_greenlets_at_shutdown */
TEST(so_it_may_when_they_are_nested)
{
    runs_well(exit_with_nested, V(1), "");
    runs_well(exit_with_nested, V(10), "");
}

static void *park_in_a_thread(void *value)
{
    static int n;
    held[n++] = parked();
    return value;
}

static int exit_after_threads(void *threads)
{
    for (int i = 0; i < (int)(intptr_t)threads; i++)
        in_thread(park_in_a_thread, NULL);
    return 0;
}

/* greenlet: test_threaded_greenlets_at_shutdown */
TEST(so_it_may_when_their_threads_are_gone)
{
    runs_well(exit_after_threads, V(3), "");
}

static void print(void *text)
{
    puts(text);
}

static void *park_with_clean_up(void *value)
{
    green_defer(print, "deferred");
    if (green_yield(value) == GREEN_FAILED && errno == ECANCELED)
        puts("canceled");
    return NULL;
}

static void *end_with_clean_up(void *free_only)
{
    green_t *g = green_new(park_with_clean_up, NULL);
    green_switch(g, V(1));
    must((free_only ? green_free(g) : green_thread_end()) == 0);
    puts("ended");
    must(free_only || green_free(g) == 0);
    return NULL;
}

static int clean_up_in_a_thread(void *free_only)
{
    in_thread(end_with_clean_up, free_only);
    puts("joined");
    return 0;
}

/* greenlet: test_greenlet_cleanup_during_thread_exit, test_finally_block_during_thread_exit */
TEST(a_thread_that_ends_its_greens_sees_them_clean_up)
{
    runs_well(clean_up_in_a_thread, V(0), "canceled\ndeferred\nended\njoined\n");
    runs_well(clean_up_in_a_thread, V(1), "canceled\ndeferred\nended\njoined\n");
}

static int exit_with_50_to_clean_up(void *ends)
{
    for (int i = 0; i < 50; i++) {
        held[i] = green_new(park_with_clean_up, NULL);
        must(green_switch(held[i], V(1)) == V(1));
    }
    return ends ? green_thread_end() : 0;
}

/* greenlet: test_many_greenlets_with_cleanup_at_shutdown */
TEST(exit_runs_no_clean_up_and_green_thread_end_runs_all)
{
    char all[50 * 18 + 1] = "";
    for (int i = 0; i < 50; i++)
        strcat(all, "canceled\ndeferred\n");
    runs_well(exit_with_50_to_clean_up, V(0), "");
    runs_well(exit_with_50_to_clean_up, V(1), all);
}

static int registered(void (*fn)(void), int parks)
{
    must(green_current() != NULL);
    must(atexit(fn) == 0);
    park_many(parks);
    return 0;
}

static int look_at_exit(void *parks)
{
    return registered(current_at_exit, (int)(intptr_t)parks);
}

/* greenlet: test_getcurrent_during_atexit_no_crash, test_getcurrent_with_active_greenlets_... */
TEST(the_current_green_is_known_in_atexit_functions)
{
    runs_well(look_at_exit, V(0), "current\n");
    runs_well(look_at_exit, V(5), "current\n");
}

static void count_event(green_trace_event_t event, green_t *from, green_t *to, void *count)
{
    (void)event;
    (void)from;
    (void)to;
    ++*(int *)count;
}

static void trace_at_exit(void)
{
    static int events;
    void *data = V(1);
    must(green_get_trace(&data) == NULL);
    must(green_set_trace(count_event, &events) == NULL);
    must(green_get_trace(&data) == count_event && data == &events);
    green_t *g = green_new(give_back, NULL);
    must(green_switch(g, V(2)) == V(2) && green_free(g) == 0);
    must(green_set_trace(NULL, NULL) == count_event);
    printf("%d events\n", events);
}

static int trace_then(void *arg)
{
    (void)arg;
    return registered(trace_at_exit, 0);
}

/* greenlet: test_gettrace_during_atexit_no_crash, test_settrace_during_atexit_no_crash */
TEST(a_hook_can_be_set_in_atexit_functions)
{
    runs_well(trace_then, NULL, "2 events\n");
}

static void make_five_at_exit(void)
{
    for (int i = 0; i < 5; i++) {
        green_t *g = green_new(give_back, NULL);
        must(green_switch(g, V(i)) == V(i) && green_free(g) == 0);
    }
    puts("five");
}

static int make_then(void *parks)
{
    return registered(make_five_at_exit, (int)(intptr_t)parks);
}

static int make_after_threads(void *threads)
{
    exit_after_threads(threads);
    return registered(make_five_at_exit, 0);
}

/* greenlet: test_greenlet_construction_[with_..._]during_atexit_no_crash */
TEST(greens_can_be_made_and_run_in_atexit_functions)
{
    runs_well(make_then, V(0), "five\n");
    runs_well(make_then, V(10), "five\n");
    runs_well(make_after_threads, V(20), "five\n");
}

/* Called when the program is torn down, if a child has set it. */
static void (*at_the_very_end)(void);

__attribute__((destructor)) static void very_end(void)
{
    if (at_the_very_end != NULL)
        at_the_very_end();
    fflush(stdout);
}

static int look_at_the_very_end(void *parks)
{
    at_the_very_end = current_at_exit;
    park_many((int)(intptr_t)parks);
    return 0;
}

static int look_at_the_very_end_after_threads(void *threads)
{
    at_the_very_end = current_at_exit;
    return exit_after_threads(threads);
}

/* greenlet: test_getcurrent_returns_none_during_gc_finalization[_with_..., _cross_thread] */
TEST(the_library_works_in_destructor_functions)
{
    runs_well(look_at_the_very_end, V(0), "current\n");
    runs_well(look_at_the_very_end, V(10), "current\n");
    runs_well(look_at_the_very_end_after_threads, V(20), "current\n");
}

static void switch_at_the_very_end(void)
{
    printf("value %d\n", (int)(intptr_t)green_switch(held[0], V(1)));
}

static int switch_then(void *arg)
{
    (void)arg;
    at_the_very_end = switch_at_the_very_end;
    park_many(1);
    return 0;
}

/* greenlet: test_switch_no_error_at_module_gc_time */
TEST(greens_can_be_entered_in_destructor_functions)
{
    runs_well(switch_then, NULL, "value 1\n");
}

static void in_a_green_at_exit(void)
{
    must(green_current() == held[0] && green_current() != green_main());
    make_five_at_exit();
}

static void *exit_in_a_green(void *status)
{
    exit((int)(intptr_t)status);
}

static int exit_from_a_green(void *status)
{
    must(atexit(in_a_green_at_exit) == 0);
    held[0] = green_new(exit_in_a_green, NULL);
    green_switch(held[0], status);
    return 1;
}

TEST(a_green_may_end_the_program)
{
    runs_well(exit_from_a_green, V(0), "five\n");
}

int main(void)
{
    return run_all_tests();
}
