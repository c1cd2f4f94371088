/* SPDX-License-Identifier: MIT */
/*
 * How frames are cleaned up in when a green or its thread is ended from within:
 * green_exit(), pthread_exit(), cancellation; and exceptions that are none of
 * C++.  Compiled with -fexceptions, as is all that wants it.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/mman.h>
#include <unwind.h>

#include "stepping.h"
#include "testing.h"
#include "unwind_gap.h"

#ifndef __EXCEPTIONS
#error "-fexceptions is missing"
#endif

static void note_text(const char *const *text)
{
    note("%s", *text);
}

/* Notes a text when the block is left. */
#define ON_LEAVING(text) \
    __attribute__((cleanup(note_text), unused)) const char *on_leaving = (text)

/* The compiler need not know that it does not return. */
static void (*volatile leave)(void *) = green_exit;

/* A green of run is given the value, ends with the result, and has noted that by then. */
static void assert_ends(green_fn *run, void *value, void *result, const char *what)
{
    green_t *g = green_new(run, NULL);
    assert_ptr_equal(green_switch(g, value), result);
    assert_int_equal(green_state(g), GREEN_DEAD);
    assert_noted(what);
    assert_int_equal(green_free(g), 0);
}

/* ---- green_exit() ------------------------------------------------------------------ */

static __attribute__((noinline)) void innermost(void *value)
{
    ON_LEAVING("in");
    must(green_defer(note_arg, "d-in") == 0);
    leave(value);
    note("went on");
}

static __attribute__((noinline)) void middle(void *value)
{
    must(green_defer(note_arg, "d-mid-1") == 0);
    must(green_defer(note_arg, "d-mid-2") == 0);
    ON_LEAVING("mid");
    innermost(value);
    note("went on");
}

static void *outermost(void *value)
{
    ON_LEAVING("out");
    must(green_defer(note_arg, "d-out") == 0);
    middle(value);
    return NULL;
}

TEST(it_cleans_up_in_each_frame_and_then_what_that_has_deferred)
{
    assert_ends(outermost, V(5), V(5), "in d-in mid d-mid-2 d-mid-1 out d-out");
}

static void *exit_with_a_key(void *key)
{
    ON_LEAVING("frame");
    must(green_setspecific(*(green_key_t *)key, "key") == 0);
    must(green_defer(note_arg, "deferred") == 0);
    leave(NULL);
    return NULL;
}

TEST(destructors_of_keys_come_last)
{
    green_key_t key;
    assert_int_equal(green_key_create(&key, note_arg), 0);
    assert_ends(exit_with_a_key, &key, NULL, "frame deferred key");
    assert_int_equal(green_key_delete(key), 0);
}

static __attribute__((noinline)) void *defer_and_return(void *value)
{
    ON_LEAVING("returned");
    must(green_defer(note_arg, "deferred") == 0);
    return value;
}

static void *exit_later(void *value)
{
    ON_LEAVING("body");
    defer_and_return(NULL);
    leave(value);
    return NULL;
}

TEST(what_a_function_that_returned_has_deferred_is_not_forgotten)
{
    assert_ends(exit_later, V(1), V(1), "returned deferred body");
}

static void exit_with_cleanup(void *value)
{
    ON_LEAVING("clean-up");
    leave(value);
}

static __attribute__((noinline)) void defer_exits(void *value)
{
    ON_LEAVING("inner");
    must(green_defer(note_arg, "d1") == 0);
    must(green_defer(exit_with_cleanup, V(21)) == 0);
    must(green_defer(exit_with_cleanup, V(22)) == 0);
    must(green_defer(note_arg, "d2") == 0);
    leave(value);
}

static void *exit_over_defer_exits(void *value)
{
    ON_LEAVING("outer");
    must(green_defer(note_arg, "d0") == 0);
    defer_exits(value);
    return NULL;
}

TEST(an_exit_in_a_deferred_function_ends_that_alone)
{
    assert_ends(exit_over_defer_exits, V(5), V(21), "inner d2 clean-up clean-up d1 outer d0");
}

static void defer_more_and_exit(void *value)
{
    ON_LEAVING("more");
    must(green_defer(note_arg, "late") == 0);
    leave(value);
}

static void *exit_with_more(void *value)
{
    ON_LEAVING("body");
    must(green_defer(note_arg, "first") == 0);
    must(green_defer(defer_more_and_exit, V(2)) == 0);
    leave(value);
    return NULL;
}

TEST(what_it_has_deferred_itself_runs_next)
{
    assert_ends(exit_with_more, V(1), V(2), "body more late first");
}

static __attribute__((noinline)) void defer_from_far_below(void)
{
    volatile char room[2000];
    room[0] = 0;
    must(green_defer(note_arg, &"left over"[(int)room[0]]) == 0);
}

static void defer_and_return_from_call(void *unused)
{
    (void)unused;
    defer_from_far_below();
    must(green_defer(exit_with_cleanup, V(3)) == 0);
}

static void *exit_after_a_call_that_returned(void *value)
{
    must(green_defer(defer_and_return_from_call, NULL) == 0);
    leave(value);
    return NULL;
}

TEST(what_an_earlier_call_has_deferred_is_not_this_ones)
{
    assert_ends(exit_after_a_call_that_returned, V(1), V(3), "clean-up left over");
}

static void *return_to_one_that_exits(void *value)
{
    defer_from_far_below();
    must(green_defer(exit_with_cleanup, V(3)) == 0);
    return value;
}

TEST(neither_is_what_the_body_has)
{
    assert_ends(return_to_one_that_exits, V(1), V(3), "clean-up left over");
}

#ifdef __GLIBC__ /* musl has no swapcontext() */
#include <ucontext.h>

static ucontext_t own_context, other_context;
enum { ROOM = 1 << 18 };
static _Alignas(4096) char two_stacks[2][ROOM];

static __attribute__((noinline)) void innermost_there(void)
{
    ON_LEAVING("in");
    must(green_defer(note_arg, "d-in") == 0);
    leave(V(7));
}

static __attribute__((noinline)) void between_there(void)
{
    ON_LEAVING("mid");
    innermost_there();
    note("went on");
}

static void outermost_there(void)
{
    ON_LEAVING("out");
    between_there();
    note("went on");
}

static void *exit_there(void *stack)
{
    must(green_defer(note_arg, "d-own") == 0);
    must(getcontext(&other_context) == 0);
    other_context.uc_stack.ss_sp = stack;
    other_context.uc_stack.ss_size = ROOM;
    other_context.uc_link = &own_context;
    makecontext(&other_context, outermost_there, 0);
    must(swapcontext(&own_context, &other_context) == 0);
    return NULL;
}

/* What is given on the green's own stack waits for the frames there. */
TEST(a_stack_that_was_entered_inside_a_green_is_left_first)
{
    if (UNDER_ASAN || UNDER_TSAN || under_valgrind())
        skip_because("the tool does not know of the other stack");
    for (int i = 0; i < 2; i++) { /* the one below the other, and above it */
        const green_options_t options = { .stack = two_stacks[i], .stack_size = ROOM };
        green_t *g = green_new_with(exit_there, NULL, &options);
        assert_ptr_equal(green_switch(g, two_stacks[!i]), V(7));
        assert_noted("in d-in mid out d-own");
        assert_int_equal(green_free(g), 0);
    }
}
#endif

static int exits;

static void count_and_exit(void *value)
{
    exits++;
    leave(value);
}

static __attribute__((noinline)) void defer_many(int n)
{
    for (int i = 0; i < n; i++)
        must(green_defer(count_and_exit, NULL) == 0);
}

static __attribute__((noinline)) void exit_over_many(int n, int deep)
{
    ON_LEAVING("inner");
    volatile char room[2000];
    room[0] = 0;
    if (deep)
        defer_many(n);
    leave(V(room[0]));
}

static void *exit_over_many_in(void *n)
{
    ON_LEAVING("outer");
    defer_many((int)(intptr_t)n);
    exit_over_many((int)(intptr_t)n, 1);
    return NULL;
}

TEST(many_that_exit_need_no_more_stack_than_one)
{
    const green_options_t small = {.stack_size = 16384};
    int n = times(10000, 1000);
    green_t *g = green_new_with(exit_over_many_in, NULL, &small);
    exits = 0;
    assert_null(green_switch(g, V(n)));
    assert_int_equal(exits, 2 * n);
    assert_noted("inner outer");
    assert_int_equal(green_free(g), 0);
}

static size_t most_stack;

/* Defers itself and ends by green_exit(), until exits is 0. */
static void defer_itself_and_exit(void *value)
{
    __attribute__((cleanup(note_text), unused)) const char *left = exits == 1 ? "last" : "";
    size_t used = green_stack_used(green_current());
    most_stack = used > most_stack ? used : most_stack;
    if (exits-- > 1)
        must(green_defer(defer_itself_and_exit, value) == 0);
    leave(value);
}

static void *exit_over_one_that_does(void *value)
{
    must(green_defer(defer_itself_and_exit, value) == 0);
    leave(NULL);
    return NULL;
}

static void *return_over_one_that_does(void *value)
{
    must(green_defer(defer_itself_and_exit, value) == 0);
    return NULL;
}

static size_t stack_of_exits(green_fn *run, int n)
{
    green_t *g = green_new(run, NULL);
    exits = n;
    most_stack = 0;
    assert_ptr_equal(green_switch(g, V(n)), V(n));
    assert_int_equal(exits, 0);
    assert_non_null(strstr(noted(), "last"));
    noted()[0] = '\0';
    assert_int_equal(green_free(g), 0);
    return most_stack;
}

TEST(a_chain_of_them_each_deferred_by_the_one_before_needs_no_more_stack_either)
{
    assert_int_equal(stack_of_exits(exit_over_one_that_does, 1000),
                     stack_of_exits(exit_over_one_that_does, 2));
    assert_int_equal(stack_of_exits(return_over_one_that_does, 1000),
                     stack_of_exits(return_over_one_that_does, 2));
}

static void yield_and_note(void *arg)
{
    note("%s-%s", (const char *)arg, (const char *)green_yield(arg));
}

static void yield_on_leaving(const char *const *text)
{
    note("%s-%s", *text, (const char *)green_yield((void *)*text));
}

static void *exit_over_frames_that_wait(void *value)
{
    __attribute__((cleanup(yield_on_leaving), unused)) const char *waits = "frame";
    must(green_defer(yield_and_note, "deferred") == 0);
    leave(value);
    return NULL;
}

TEST(clean_up_may_switch)
{
    green_t *g = green_new(exit_over_frames_that_wait, NULL);
    assert_string_equal(green_switch(g, "end"), "frame");
    green_t *other = green_new(exit_over_frames_that_wait, NULL);
    assert_string_equal(green_switch(other, "other"), "frame");
    assert_string_equal(green_switch(g, "a"), "deferred");
    assert_string_equal(green_switch(other, "c"), "deferred");
    assert_string_equal(green_switch(g, "b"), "end");
    assert_string_equal(green_switch(other, "d"), "other");
    assert_noted("frame-a frame-c deferred-b deferred-d");
    assert_int_equal(green_free(g), 0);
    assert_int_equal(green_free(other), 0);
}

static void *exit_over_a_gap(void *value)
{
    ON_LEAVING("wrong");
    must(green_defer(note_arg, "d-out") == 0);
    call_without_unwind_data(middle, value);
    return NULL;
}

TEST(at_a_frame_without_unwind_data_it_leaves_at_once)
{
    assert_ends(exit_over_a_gap, V(6), V(6), "in d-in mid d-mid-2 d-mid-1 d-out");
}

static void exit_over_a_gap_itself(void *value)
{
    call_without_unwind_data(middle, value);
}

static void *defer_an_exit_over_a_gap(void *value)
{
    ON_LEAVING("out");
    must(green_defer(note_arg, "d-out") == 0);
    must(green_defer(exit_over_a_gap_itself, V(7)) == 0);
    leave(value);
    return NULL;
}

TEST(also_in_a_deferred_function)
{
    assert_ends(defer_an_exit_over_a_gap, V(6), V(7), "out in d-in mid d-mid-2 d-mid-1 d-out");
}

static void *wait_and_exit(void *value)
{
    ON_LEAVING("body");
    green_yield(value);
    middle(NULL);
    return NULL;
}

TEST(a_kill_is_an_error_and_unwinds_nothing_by_itself)
{
    green_t *g = green_new(wait_and_exit, NULL);
    green_switch(g, NULL);
    assert_int_equal(green_free(g), 0);
    assert_noted("in d-in mid d-mid-2 d-mid-1 body");
    const green_options_t detached = {.flags = GREEN_DETACHED};
    assert_non_null(g = green_new_with(wait_and_exit, NULL, &detached));
    green_switch(g, NULL);
    assert_int_equal(green_free(g), 0);
    assert_noted("in d-in mid d-mid-2 d-mid-1 body");
}

/* ---- The end of a thread -------------------------------------------------------------- */

#ifdef __GLIBC__ /* others do not unwind there */

/* Whether a sanitizer has to be told of switches. */
void __sanitizer_start_switch_fiber(void **fake, const void *low, size_t size)
    __attribute__((weak));
void *__tsan_create_fiber(unsigned flags) __attribute__((weak));

static int sanitized(void)
{
    return __sanitizer_start_switch_fiber != NULL || __tsan_create_fiber != NULL;
}

static void skip_if_it_cannot_end_in_a_green(void)
{
    if (UNDER_TSAN)
        skip_because("ThreadSanitizer dies of pthread_exit() on another stack than the thread's");
}

static const green_options_t *options; /* of the next green */
static const green_options_t detached[3] = {
    {.flags = GREEN_DETACHED}, {.flags = GREEN_DETACHED}, {.flags = GREEN_DETACHED}};

static void *run_in_a_green(green_fn *run, void *value)
{
    green_t *g = green_new_with(run, NULL, options++);
    must(g != NULL);
    return green_switch(g, value);
}

static int cancels; /* else the thread exits */

static void *end_the_thread(void *value)
{
    ON_LEAVING("c");
    must(green_defer(note_arg, "wrong") == 0);
    if (cancels) {
        must(pthread_cancel(pthread_self()) == 0);
        pthread_testcancel();
    } else {
        pthread_exit(value);
    }
    return NULL;
}

static void *second(void *value)
{
    ON_LEAVING("b");
    return run_in_a_green(end_the_thread, value);
}

static void *first(void *value)
{
    ON_LEAVING("a");
    return run_in_a_green(second, value);
}

/* All that was left is dead, however many they are, and main is current. */
static void note_on_main(const char *const *text)
{
    must(green_current() == green_main());
    note("%s", *text);
}

static void *thread(void *value)
{
    __attribute__((cleanup(note_on_main), unused)) const char *text = "thread";
    must(green_defer(note_arg, "wrong") == 0);
    return run_in_a_green(first, value);
}

static void *end_thread_on(void *memory, size_t size)
{
    pthread_attr_t attributes;
    pthread_t id;
    void *result;
    pthread_attr_init(&attributes);
    if (memory != NULL)
        must(pthread_attr_setstack(&attributes, memory, size) == 0);
    must(pthread_create(&id, &attributes, thread, V(9)) == 0);
    must(pthread_join(id, &result) == 0);
    pthread_attr_destroy(&attributes);
    return result;
}

TEST(pthread_exit_cleans_up_in_the_ancestors_too)
{
    skip_if_it_cannot_end_in_a_green();
    for (cancels = 0; cancels < 2; cancels++) {
        options = detached;
        assert_ptr_equal(end_thread_on(NULL, 0), cancels ? PTHREAD_CANCELED : V(9));
        assert_noted("c b a thread");
    }
}

static green_t *abandoned;

static void *abandon_it(void *unused)
{
    must(green_abandon(abandoned) == 0);
    return unused;
}

static void *end_after_it_is_abandoned(void *value)
{
    ON_LEAVING("child");
    in_thread(abandon_it, NULL);
    pthread_exit(value);
}

static void *have_a_child(void *value)
{
    ON_LEAVING("abandoned");
    green_switch(green_main(), green_new_with(end_after_it_is_abandoned, NULL, detached));
    return value;
}

static void *end_below_one_that_is_abandoned(void *value)
{
    ON_LEAVING("thread");
    abandoned = green_new(have_a_child, NULL);
    green_t *child = green_switch(abandoned, NULL);
    return green_switch(child, value);
}

TEST(but_not_what_another_thread_has_abandoned)
{
    skip_if_it_cannot_end_in_a_green();
    assert_ptr_equal(in_thread(end_below_one_that_is_abandoned, V(8)), V(8));
    assert_noted("child thread");
}

static void *find_it_busy(void *unused)
{
    must(green_abandon(abandoned) == -1 && errno == EBUSY);
    return unused;
}

static void note_it_is_busy(const char *const *text)
{
    in_thread(find_it_busy, NULL);
    note("%s", *text);
}

static green_t *abandoned_last;

/* What was left is dead as soon as its thread asks something. */
static void note_it_is_busy_until_it_is_dead(const char *const *text)
{
    green_t *left = abandoned;
    in_thread(find_it_busy, NULL);
    abandoned = abandoned_last;
    in_thread(find_it_busy, NULL);
    must(green_free(green_new(never, NULL)) == 0);
    in_thread(find_it_busy, NULL);
    abandoned = left;
    in_thread(abandon_it, NULL);
    note("%s", *text);
}

static void *be_left_and_be_busy(void *value)
{
    __attribute__((cleanup(note_it_is_busy), unused)) const char *text = "b";
    return green_switch(green_new_with(end_the_thread, NULL, detached), value);
}

static void *be_above(void *value)
{
    __attribute__((cleanup(note_it_is_busy_until_it_is_dead), unused)) const char *text = "a";
    abandoned = green_new(be_left_and_be_busy, NULL);
    return green_switch(abandoned, value);
}

static void *end_below_two(void *value)
{
    ON_LEAVING("thread");
    abandoned_last = green_new(be_above, NULL);
    return green_switch(abandoned_last, value);
}

TEST(and_another_thread_abandons_none_whose_frames_these_are)
{
    skip_if_it_cannot_end_in_a_green();
    cancels = 0;
    assert_ptr_equal(in_thread(end_below_two, V(8)), V(8));
    assert_noted("c b a thread");
    abandoned = abandoned_last;
    abandon_it(NULL); /* its thread has ended */
}

TEST(wherever_their_stacks_are)
{
    skip_if_it_cannot_end_in_a_green();
    enum { SIZE = 256 << 10, APART = 8 << 20 }; /* Valgrind takes close ones for one */
    char *memory = mmap(NULL, 4 * APART, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(memory != MAP_FAILED);
    for (int way = 0; way < 48; way++) {
        int places[4] = {0, 1, 2, 3};
        for (int i = 3, rest = way / 2; i > 0; rest /= i + 1, i--) {
            int j = rest % (i + 1), place = places[i];
            places[i] = places[j];
            places[j] = place;
        }
        green_options_t lent[3] = {detached[0], detached[0], detached[0]};
        for (int i = 0; i < 3; i++) {
            lent[i].stack = memory + places[i] * APART;
            lent[i].stack_size = SIZE;
        }
        options = lent;
        cancels = way % 2;
        assert_ptr_equal(end_thread_on(memory + places[3] * APART, SIZE),
                         cancels ? PTHREAD_CANCELED : V(9));
        assert_noted("c b a thread");
    }
    munmap(memory, 4 * APART);
}

static int exit_in_main(void *arg)
{
    (void)arg;
    options = detached;
    cancels = 0;
    thread(V(9));
    return 1;
}

static void print_noted(void)
{
    printf("%s\n", noted());
}

static int exit_in_the_first_thread(void *arg)
{
    atexit(print_noted);
    return exit_in_main(arg);
}

TEST(also_in_the_first_thread_of_a_process)
{
    skip_if_it_cannot_end_in_a_green();
    if (sanitized())
        skip_because("LeakSanitizer ends the child for what cmocka has");
    struct child child = run_child(exit_in_the_first_thread, NULL);
    if (!under_valgrind()) /* what cmocka has on that stack is lost */
        assert_int_equal(child.status, 0);
    assert_string_equal(child.out, "c b a thread\n");
}

/* What an ancestor's clean-up finds: it is current, the green that ended the thread is dead. */
static green_t *ended, *bystander;

static void look_around(const char *const *text)
{
    must(green_free(bystander) == 0);
    must(green_state(ended) == GREEN_DEAD);
    must(green_current() != ended);
    must(green_switch(ended, V(2)) == V(2)); /* it stands for us */
    must(green_free(ended) == 0);
    green_t *g = green_new(give_back, NULL);
    must(green_parent(g) == green_current());
    must(green_switch(g, V(3)) == V(3));
    must(green_free(g) == 0);
    note("%s", *text);
}

static void *hold_others(void *value)
{
    bystander = green_new(echo, NULL);
    ended = green_new(end_the_thread, NULL);
    green_switch(bystander, NULL);
    __attribute__((cleanup(look_around), unused)) const char *text = "looked";
    return green_switch(ended, value);
}

static void *hold_in_a_green(void *value)
{
    ON_LEAVING("thread");
    green_t *g = green_new_with(hold_others, NULL, detached);
    return green_switch(g, value);
}

TEST(an_ancestor_that_cleans_up_is_current_again)
{
    skip_if_it_cannot_end_in_a_green();
    cancels = 0;
    assert_ptr_equal(in_thread(hold_in_a_green, V(4)), V(4));
    assert_noted("c looked thread");
    assert_ptr_equal(in_thread(hold_others, V(5)), V(5)); /* the ancestor is main */
    assert_noted("c looked");
    green_stats_t stats;
    assert_int_equal(green_stats(&stats, sizeof stats), 0);
    assert_int_equal(stats.greens, 0);
    assert_int_equal(stats.stacks_live, 0);
}

/* The same to a signal at each instruction of the call that finds it out. */
static green_t *throughout;
static volatile sig_atomic_t finding_out, looks, wrong_looks;

static void look(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)info;
    if (!finding_out) {
        end_steps(context);
        return;
    }
    looks++;
    wrong_looks += green_current() != throughout || green_state(throughout) != GREEN_RUNNING ||
                   green_state(ended) != GREEN_DEAD;
}

static void find_out_step_by_step(const char *const *text)
{
    throughout = green_current();
    looks = wrong_looks = 0;
    finding_out = 1;
    begin_steps();
    green_stack(throughout, NULL, NULL);
    finding_out = 0; /* the next stop is the last */
    __asm__ volatile("nop" : : : "memory");
    note("%s", *text);
}

static void *hold_one_that_ends_the_thread(void *value)
{
    ended = green_new(end_the_thread, NULL);
    return green_switch(ended, value);
}

static void *hold_both(void *value)
{
    __attribute__((cleanup(find_out_step_by_step), unused)) const char *text = "found out";
    return green_switch(green_new_with(hold_one_that_ends_the_thread, NULL, detached), value);
}

TEST(to_signal_handlers_too)
{
    skip_if_it_cannot_end_in_a_green();
    if (!CAN_STEP)
        skip_because("only x86_64 lets a program step through itself");
    if (under_valgrind())
        skip_because("Valgrind does not know the trap flag");
    if (sanitized())
        skip_because("the handler is built with the sanitizer that it would interrupt");
    struct sigaction action = {.sa_flags = SA_SIGINFO}, old;
    action.sa_sigaction = look;
    assert_int_equal(sigaction(SIGTRAP, &action, &old), 0);
    cancels = 0;
    assert_ptr_equal(in_thread(hold_both, V(5)), V(5));
    assert_int_equal(sigaction(SIGTRAP, &old, NULL), 0);
    assert_noted("c found out");
    assert_true(looks > 100);
    assert_int_equal(wrong_looks, 0);
    assert_int_equal(green_free(ended), 0);
}

static void *end_while_freed(void *value)
{
    ON_LEAVING("freed");
    value = green_yield(value);
    pthread_exit(V(8));
}

static void *free_it(void *g)
{
    ON_LEAVING("frees");
    must(green_free(g) == 0);
    return NULL;
}

static void free_more(const char *const *text)
{
    green_t *g = green_new(echo, NULL);
    green_switch(g, NULL);
    must(green_free(g) == 0);
    note("%s", *text);
}

static void *free_one_that_ends_the_thread(void *value)
{
    __attribute__((cleanup(free_more), unused)) const char *text = "main";
    green_t *g = green_new_with(end_while_freed, NULL, detached);
    green_switch(g, value);
    green_switch(green_new_with(free_it, NULL, detached), g);
    return NULL;
}

TEST(one_that_is_freed_goes_on_to_its_parent)
{
    skip_if_it_cannot_end_in_a_green();
    assert_ptr_equal(in_thread(free_one_that_ends_the_thread, NULL), V(8));
    assert_noted("freed main");
}

static void free_the_ended_one(const char *const *text)
{
    must(green_free(ended) == 0);
    note("%s", *text);
}

static void *free_one_that_ends_the_thread_and_stays(void *value)
{
    __attribute__((cleanup(free_the_ended_one), unused)) const char *text = "main";
    ended = green_new(end_while_freed, NULL);
    green_switch(ended, value);
    green_switch(green_new_with(free_it, NULL, detached), ended);
    return NULL;
}

TEST(nobody_is_freeing_it_any_more)
{
    skip_if_it_cannot_end_in_a_green();
    assert_ptr_equal(in_thread(free_one_that_ends_the_thread_and_stays, NULL), V(8));
    assert_noted("freed main");
}

/* The call may come back in the clean-up of an ancestor: what it was for is dead. */
static green_t *frees;

static void *say_whether_freed(void *g)
{
    errno = 0;
    int result = green_free(g);
    note("%d %d", result, errno == EBUSY);
    return NULL;
}

static void go_on_with_who_frees(const char *const *text)
{
    must(green_switch(frees, NULL) == NULL && green_free(frees) == 0);
    note("%s", *text);
}

static void have_it_freed(const green_options_t *how)
{
    ended = green_new_with(end_while_freed, NULL, how);
    green_switch(ended, NULL);
    frees = green_new(say_whether_freed, NULL);
    green_switch(frees, ended);
}

static void *free_one_and_come_back(void *how)
{
    __attribute__((cleanup(go_on_with_who_frees), unused)) const char *text = "main";
    have_it_freed(how);
    return NULL;
}

TEST(a_call_that_frees_it_may_come_back)
{
    skip_if_it_cannot_end_in_a_green();
    assert_ptr_equal(in_thread(free_one_and_come_back, (void *)(uintptr_t)detached), V(8));
    assert_noted("freed 0 0 main");
    assert_ptr_equal(in_thread(free_one_and_come_back, NULL), V(8));
    assert_noted("freed -1 1 main"); /* EBUSY: the handle is valid still */
    assert_int_equal(green_state(ended), GREEN_DEAD);
    assert_int_equal(green_free(ended), 0);
}

/* And what has its memory now is not touched: this one is being freed itself. */
static void *enter_who_frees(void *value)
{
    green_yield(value);
    must(green_set_parent(frees, green_current()) == 0);
    return green_switch(frees, NULL);
}

static void free_it_and_another(const char *const *text)
{
    must(green_free(ended) == 0);
    green_t *another = green_new(enter_who_frees, NULL);
    must(green_switch(another, NULL) == NULL && green_free(another) == 0);
    must(green_free(frees) == 0);
    note("%s", *text);
}

static void *free_one_that_is_gone(void *value)
{
    __attribute__((cleanup(free_it_and_another), unused)) const char *text = "main";
    have_it_freed(NULL);
    return value;
}

TEST(or_find_it_gone)
{
    skip_if_it_cannot_end_in_a_green();
    assert_ptr_equal(in_thread(free_one_that_is_gone, NULL), V(8));
    assert_noted("freed -1 1 main");
}

/* The calls that an ancestor waits in end with its frames. */
static green_t *third;

static void *go_to_the_third(void *value)
{
    green_yield(value);
    return green_switch(third, V(9));
}

static void free_all_there_are(const char *const *text)
{
    must(green_free(bystander) == 0 && green_free(third) == 0 && green_thread_end() == 0);
    note("%s", *text);
}

static void *free_one_that_goes_to_another(void *ends)
{
    __attribute__((cleanup(free_all_there_are), unused)) const char *text = "main";
    bystander = green_new(go_to_the_third, NULL);
    third = green_new(end_the_thread, NULL);
    green_switch(bystander, NULL);
    if (ends != NULL)
        green_thread_end();
    else
        green_free(bystander);
    return NULL;
}

TEST(an_ancestor_frees_nobody_any_more)
{
    skip_if_it_cannot_end_in_a_green();
    cancels = 0;
    assert_ptr_equal(in_thread(free_one_that_goes_to_another, NULL), V(9));
    assert_noted("c main");
    assert_ptr_equal(in_thread(free_one_that_goes_to_another, V(1)), V(9));
    assert_noted("c main");
}

/* A green that its own child is freeing starts another, which ends the thread. */
static void *start_when_freed(void *starts)
{
    ON_LEAVING("above");
    if (green_yield(NULL) == GREEN_FAILED)
        green_switch(starts, V(6));
    return NULL;
}

static void *free_the_parent(void *above)
{
    ON_LEAVING("frees");
    must(green_free(above) == 0);
    return NULL;
}

static void *free_a_parent_in_a_circle(void *value)
{
    (void)value;
    __attribute__((cleanup(free_more), unused)) const char *text = "main";
    green_t *above = green_new_with(start_when_freed, NULL, detached);
    green_t *starts = green_new_with(end_the_thread, above, detached);
    green_t *child = green_new_with(free_the_parent, above, detached);
    green_switch(above, starts);
    green_switch(child, above);
    return NULL;
}

TEST(it_goes_round_no_circle)
{
    skip_if_it_cannot_end_in_a_green();
    cancels = 0;
    assert_ptr_equal(in_thread(free_a_parent_in_a_circle, NULL), V(6));
    assert_noted("c above main");
}

/* Each of these is the first that an ancestor's clean-up asks of the library. */
static green_t *ancestor, *waiting, *unstarted, *foreign;
static green_key_t key_of_ancestor;

static void it_is_current(void)
{
    must(green_current() == ancestor);
    must(green_current() == ancestor);
}

static void it_is_running(void)
{
    must(green_state(ancestor) == GREEN_RUNNING);
    must(green_state(ended) == GREEN_DEAD);
}

static void the_ended_one_is_dead(void)
{
    must(green_state(ended) == GREEN_DEAD);
    void *low = ancestor;
    size_t size = 1;
    green_stack(ended, &low, &size);
    must(low == NULL && size == 0);
}

static void others_are_what_they_were(void)
{
    must(green_state(waiting) == GREEN_SUSPENDED);
    must(green_state(unstarted) == GREEN_NEW);
    must(green_state(foreign) == GREEN_SUSPENDED);
}

static void its_own_stack_is_used(void)
{
    must(ancestor == green_main() || green_stack_used(ancestor) > 0);
    must(green_stack_used(ended) == 0);
}

static void its_frames_begin_here(void)
{
    void *pcs[2];
    must(green_backtrace(ended, pcs, 2) == -1 && errno == EINVAL);
    must(green_backtrace(ancestor, pcs, 2) == 2);
}

static void it_defers_for_itself(void)
{
    must(green_defer(note_arg, "deferred") == 0);
    must(green_undefer(1) == 0);
    must(green_undefer(1) == -1 && errno == ENOENT);
}

static void it_has_no_deferred_one(void)
{
    must(green_undefer(1) == -1 && errno == ENOENT);
}

static void it_gets_its_own_value(void)
{
    must(green_getspecific(key_of_ancestor) == V(1));
}

static void it_sets_its_own_value(void)
{
    must(green_setspecific(key_of_ancestor, V(2)) == 0);
    must(green_getspecific(key_of_ancestor) == V(2));
}

static void it_is_the_default_parent(void)
{
    green_t *g = green_new(give_back, NULL);
    must(g != NULL && green_parent(g) == ancestor);
    must(green_free(g) == 0);
}

static int count_a_green(green_t *g, void *count)
{
    must(g != ended);
    ++*(int *)count;
    return 0;
}

static void the_dead_one_is_not_listed(void)
{
    int count = 0;
    must(green_each(count_a_green, &count) == 0);
    must(count == (ancestor == green_main() ? 2 : 3)); /* with the one that waits */
}

static void it_yields_to_its_own_parent(void)
{
    void *value = green_yield(V(7));
    if (ancestor == green_main())
        must(value == GREEN_FAILED && errno == EINVAL);
    else
        must(value == V(8));
}

static void it_switches_to_itself(void)
{
    must(green_switch(ancestor, V(6)) == V(6));
}

static void (*const firsts[])(void) = {
    it_is_current,
    it_is_running,
    the_ended_one_is_dead,
    others_are_what_they_were,
    its_own_stack_is_used,
    its_frames_begin_here,
    it_defers_for_itself,
    it_has_no_deferred_one,
    it_gets_its_own_value,
    it_sets_its_own_value,
    it_is_the_default_parent,
    the_dead_one_is_not_listed,
    it_yields_to_its_own_parent,
    it_switches_to_itself,
};

static void do_first(void (*const *first)(void))
{
    (*first)();
    it_is_current();
    it_is_running();
    note("%s", "done");
}

static void *set_value_and_end_the_thread(void *value)
{
    must(green_setspecific(key_of_ancestor, V(5)) == 0);
    return end_the_thread(value);
}

static int apart; /* a DEAD and a NEW green are between the ended one and its ancestor */
static green_t *between;

static void *end_below(void *first)
{
    ancestor = green_current();
    must(green_setspecific(key_of_ancestor, V(1)) == 0);
    must(green_switch(waiting = green_new(echo, NULL), V(1)) == V(1));
    must(green_switch(between = green_new(give_back, NULL), V(2)) == V(2));
    unstarted = green_new(give_back, between);
    ended = green_new(set_value_and_end_the_thread, apart ? unstarted : NULL);
    __attribute__((cleanup(do_first), unused)) void (*to_do)(void) =
        *(void (*const *)(void))first;
    return green_switch(ended, V(9));
}

static void *end_two_below(void *first)
{
    green_t *g = green_new(end_below, NULL);
    must(green_switch(g, first) == V(7)); /* by it_yields_to_its_own_parent() alone */
    green_switch(g, V(8));
    return NULL;
}

TEST(whatever_it_asks_first)
{
    skip_if_it_cannot_end_in_a_green();
    cancels = 0;
    assert_int_equal(green_key_create(&key_of_ancestor, NULL), 0);
    foreign = green_new(echo, NULL);
    green_switch(foreign, NULL);
    for (size_t i = 0; i < sizeof firsts / sizeof firsts[0]; i++) {
        int defers = firsts[i] == it_defers_for_itself;
        for (int way = 0; way < 4; way++) {
            int below = way % 2;
            apart = way / 2;
            green_fn *run = below ? end_two_below : end_below;
            assert_ptr_equal(in_thread(run, (void *)&firsts[i]), V(9));
            assert_noted(defers ? "c deferred done" : "c done");
            assert_int_equal(green_free(ended), 0);
            assert_int_equal(green_free(unstarted), 0);
            assert_int_equal(green_free(between), 0);
            assert_int_equal(green_free(waiting), 0);
            if (below)
                assert_int_equal(green_free(ancestor), 0);
        }
    }
    assert_int_equal(green_free(foreign), 0);
    assert_int_equal(green_key_delete(key_of_ancestor), 0);
}

/* The hook runs on the stack of who is left, and who is entered is current already. */
static void end_in_hook(green_trace_event_t event, green_t *from, green_t *to, void *entered)
{
    ON_LEAVING("hook");
    (void)event;
    (void)from;
    if (to == entered)
        pthread_exit(V(3));
}

static void *leave_for(void *g)
{
    ON_LEAVING("left");
    return green_switch(g, NULL);
}

static int to_main;
static green_t *entered;

/* All goes on as in the hook. */
static void look_as_in_the_hook(const char *const *text)
{
    must(green_current() == entered);
    must(green_state(entered) == GREEN_RUNNING);
    must(green_state(ended) == GREEN_SUSPENDED);
    must(green_switch(entered, NULL) == GREEN_FAILED && errno == EBUSY);
    note("%s", *text);
}

static void *end_in_a_hook(void *value)
{
    __attribute__((cleanup(look_as_in_the_hook), unused)) const char *text = "main";
    waiting = green_new(echo, NULL);
    green_switch(waiting, NULL);
    ended = green_new(leave_for, NULL);
    entered = to_main ? green_main() : waiting;
    green_set_trace(end_in_hook, entered);
    green_switch(ended, entered);
    return value;
}

/* In a thread that has what the library had of the one before. */
static void *use_some_stack(void *size)
{
    char some[8192];
    __asm__ volatile("" : : "r"(memset(some, 1, sizeof some)) : "memory");
    size_t used = green_stack_used(green_current());
    __asm__ volatile("" : : "r"(some) : "memory");
    return V(used > (size_t)(intptr_t)size);
}

static void *measure_in_a_green(void *unused)
{
    (void)unused;
    green_t *g = green_new(use_some_stack, NULL);
    void *enough = green_switch(g, V(8192));
    must(green_free(g) == 0);
    return enough;
}

TEST(it_may_begin_in_a_trace_hook)
{
    skip_if_it_cannot_end_in_a_green();
    if (sanitized())
        skip_because("no sanitizer is told whose stack the thread ends on");
    for (to_main = 0; to_main < 2; to_main++) {
        assert_ptr_equal(in_thread(end_in_a_hook, NULL), V(3));
        assert_noted("hook hook left main");
        assert_int_equal(green_state(ended), GREEN_DEAD);
        assert_int_equal(green_state(waiting), GREEN_DEAD);
        assert_int_equal(green_free(ended), 0);
        assert_int_equal(green_free(waiting), 0);
        assert_ptr_equal(in_thread(measure_in_a_green, NULL), V(1));
    }
}

/* Of nobody's clean-up the library is asked before the destructors of the thread's keys. */
static pthread_key_t key_of_thread;

static void use_a_green(void *value)
{
    green_t *g = green_new(echo, NULL);
    must(g != NULL && green_switch(g, value) == value && green_free(g) == 0);
    must(green_current() == green_main());
    note("used");
}

static void *end_unasked(void *value)
{
    must(green_main() != NULL && pthread_key_create(&key_of_thread, use_a_green) == 0);
    must(pthread_setspecific(key_of_thread, value) == 0);
    ended = green_new(end_the_thread, NULL);
    return green_switch(ended, value);
}

TEST(what_it_has_left_is_dead_for_the_destructors_of_other_keys)
{
    skip_if_it_cannot_end_in_a_green();
    cancels = 0;
    assert_ptr_equal(in_thread(end_unasked, V(9)), V(9));
    assert_noted("c used");
    assert_int_equal(green_state(ended), GREEN_DEAD);
    assert_int_equal(green_free(ended), 0);
    assert_int_equal(pthread_key_delete(key_of_thread), 0);
}

/* Main waits in a green_free(), whose frames nothing gets to. */
static void exit_in_a_gap(void *value)
{
    pthread_exit(value);
}

static void *end_over_a_gap_when_killed(void *value)
{
    void *got = green_yield(NULL);
    must(got == GREEN_FAILED && errno == ECANCELED);
    call_without_unwind_data(exit_in_a_gap, value);
    return NULL;
}

static void *end_in_a_free(void *value)
{
    ON_LEAVING("wrong");
    ended = green_new(end_over_a_gap_when_killed, NULL);
    must(green_switch(ended, value) == NULL);
    green_free(ended);
    return NULL;
}

TEST(a_thread_has_nothing_of_the_calls_that_one_before_it_did_not_come_back_from)
{
    skip_if_it_cannot_end_in_a_green();
    if (sanitized())
        skip_because("no sanitizer is told that frames are left otherwise than by unwinding");
    size_t size = (size_t)1 << 20;
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_attr_t attributes;
    pthread_t id;
    void *result;
    assert_true(memory != MAP_FAILED);
    pthread_attr_init(&attributes);
    assert_int_equal(pthread_attr_setstack(&attributes, memory, size), 0);
    assert_int_equal(pthread_create(&id, &attributes, end_in_a_free, V(3)), 0);
    assert_int_equal(pthread_join(id, &result), 0);
    pthread_attr_destroy(&attributes);
    assert_ptr_equal(result, V(3));
    assert_int_equal(munmap(memory, size), 0);
    assert_int_equal(green_free(ended), 0);
    cancels = 0;
    assert_ptr_equal(in_thread(end_unasked, V(9)), V(9));
    assert_noted("c used");
    assert_int_equal(green_free(ended), 0);
    assert_int_equal(pthread_key_delete(key_of_thread), 0);
}
#endif

/* ---- Exceptions -------------------------------------------------------------------------- */

static void *raise_one_of_another_language(void *value)
{
    static struct _Unwind_Exception exception = {.exception_class = 0x4f544845524c4e47};
    _Unwind_RaiseException(&exception);
    printf("came back\n");
    return value;
}

static void print_text(const char **text)
{
    fputs(*text, stdout);
    fflush(stdout);
}

static int hold_one_that_raises(void *arg)
{
    const green_options_t named = {.name = "throw\ner"};
    __attribute__((cleanup(print_text), unused)) const char *on_leaving = "left\n";
    green_switch(green_new_with(raise_one_of_another_language, NULL, &named), arg);
    return 0;
}

TEST(one_of_another_language_stops_the_program_where_it_leaves_a_body)
{
    struct child child = run_child(hold_one_that_raises, NULL);
    assert_true(WIFSIGNALED(child.status));
    assert_int_equal(WTERMSIG(child.status), SIGABRT);
    assert_non_null(
        strstr(child.err, "libgreen: an exception left the body of green \"throw?er\" (0x"));
    assert_string_equal(child.out, "");
}

int main(void)
{
    return run_all_tests();
}
