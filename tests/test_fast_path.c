/* SPDX-License-Identifier: MIT */
/*
 * The fast path of green_switch(), which is in assembler on some CPUs: what it
 * must leave to the slow one, what it keeps, and that it is taken.  Each mutant of
 * it is put to these tests (tests/mutants/assembly.py).
 *
 * A thread here is one of a C++ program if it says so: the state of exceptions is
 * two words of the test's own.
 */
#define _GNU_SOURCE
#include <signal.h>

#include "registers.h"
#include "stepping.h"

static _Thread_local uintptr_t *state_of_exceptions; /* NULL: no C++ */
static _Thread_local uintptr_t words[2];             /* what it points to, to the thread's end */

void *__cxa_get_globals(void);
void *__cxa_get_globals(void)
{
    return state_of_exceptions;
}

static int entered;

static void *bounce(void *value)
{
    green_t *main = green_main();
    while (value != GREEN_FAILED) {
        entered++;
        value = call_switch(main, value);
    }
    return value;
}

static void *give(void *value)
{
    return value;
}

static green_t *waiting(green_fn *run)
{
    green_t *g = green_new(run, NULL);
    assert_non_null(g);
    assert_ptr_equal(green_switch(g, V(7)), V(7));
    return g;
}

/* ---- Left to the slow path --------------------------------------------------------- */

static void *try_foreign(void *g)
{
    errno = 0;
    return green_switch(g, NULL) == GREEN_FAILED && errno == EPERM ? g : NULL;
}

TEST(what_it_must_not_enter_is_refused_or_goes_elsewhere)
{
    green_t *g = waiting(bounce), *new = green_new(give, NULL), *dead = waiting(give);
    entered = 0;
    errno = 0;
    assert_ptr_equal(call_switch(NULL, V(1)), GREEN_FAILED); /* with flags that say: not zero */
    assert_int_equal(errno, EINVAL);
    errno = 0;
    assert_ptr_equal(green_switch(g, GREEN_FAILED), GREEN_FAILED);
    assert_int_equal(errno, EINVAL);
    assert_int_equal(entered, 0);
    assert_ptr_equal(green_switch(green_main(), V(2)), V(2));
    assert_ptr_equal(green_switch(dead, V(3)), V(3));
    assert_ptr_equal(green_current(), green_main());
    assert_ptr_equal(green_switch(new, V(4)), V(4));
    assert_int_equal(green_state(new), GREEN_DEAD);
    void *result = in_thread(try_foreign, g);
    assert_ptr_equal(result, g);
    assert_int_equal(entered, 0);
    assert_ptr_equal(green_switch(g, V(5)), V(5));
    assert_int_equal(entered, 1);
    green_free(g);
    green_free(new);
    green_free(dead);
}

/* ---- Kept -------------------------------------------------------------------------- */

TEST(every_register_and_the_value_arrive)
{
    green_t *g = waiting(bounce);
    calls = changed = 0;
    for (int i = 0; i < 300; i++) {
        assert_ptr_equal(call_switch(g, V(i)), V(i));
        assert_ptr_equal(green_current(), green_main());
    }
    assert_true(calls >= 599);
    assert_int_equal(changed, 0);
    green_abandon(g);
}

/* ---- C++ --------------------------------------------------------------------------- */

static uintptr_t seen[2];

static void *handle(void *value)
{
    green_t *main = green_main();
    while (value != GREEN_FAILED) {
        seen[0] = state_of_exceptions[0];
        seen[1] = state_of_exceptions[1];
        state_of_exceptions[(intptr_t)value] = 5;
        green_switch(main, NULL);
        seen[0] = state_of_exceptions[0];
        seen[1] = state_of_exceptions[1];
        state_of_exceptions[0] = state_of_exceptions[1] = 0;
        value = green_switch(main, NULL);
    }
    return value;
}

/* Whoever handles an exception finds it again, and nobody else does: by either word. */
static int keeps(int ours, int theirs)
{
    int wrong = 0;
    green_t *g = green_new(handle, NULL);
    state_of_exceptions[ours] = 3;
    green_switch(g, V(theirs));
    wrong += seen[0] != 0 || seen[1] != 0;
    wrong += state_of_exceptions[ours] != 3 || state_of_exceptions[!ours] != 0;
    green_switch(g, NULL);
    wrong += seen[theirs] != 5 || seen[!theirs] != 0;
    wrong += state_of_exceptions[ours] != 3 || state_of_exceptions[!ours] != 0;
    state_of_exceptions[ours] = 0;
    for (int i = 0; i < 2; i++) { /* from nothing to something, and back */
        green_switch(g, V(theirs));
        wrong += i == 0 && (seen[0] != 0 || seen[1] != 0);
        wrong += state_of_exceptions[0] != 0 || state_of_exceptions[1] != 0;
    }
    wrong += seen[theirs] != 5 || seen[!theirs] != 0;
    green_abandon(g);
    return wrong;
}

/* As does one that leaves a catch block by longjmp(), where nothing ends the handler. */
static void *end_while_handling(void *value)
{
    state_of_exceptions[(intptr_t)value] = 5;
    return value;
}

static int leaves_none(int which)
{
    green_t *g = green_new(end_while_handling, NULL);
    green_switch(g, V(which));
    int wrong = state_of_exceptions[0] != 0 || state_of_exceptions[1] != 0;
    state_of_exceptions[0] = state_of_exceptions[1] = 0;
    green_free(g);
    return wrong;
}

static void *keep_all(void *unused)
{
    intptr_t wrong = 0;
    (void)unused;
    state_of_exceptions = words;
    for (int i = 0; i < 4; i++)
        wrong += keeps(i & 1, i >> 1);
    for (int i = 0; i < 2; i++)
        wrong += leaves_none(i);
    return V(wrong);
}

TEST(the_exceptions_that_are_handled_are_each_greens_own)
{
    void *wrong = in_thread(keep_all, NULL);
    assert_ptr_equal(wrong, NULL);
}

/* ---- Taken ------------------------------------------------------------------------- */

static volatile sig_atomic_t instructions, enough;

static void count(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)info;
    instructions++;
    if (enough)
        end_steps(context);
}

static void *bounce_plainly(void *value)
{
    green_t *main = green_main();
    while (value != GREEN_FAILED)
        value = green_switch(main, value);
    return value;
}

/* Of a switch and of one back, the first with an address in rax. */
static void *count_instructions(void *is_cplusplus)
{
    if (is_cplusplus != NULL)
        state_of_exceptions = words;
    uint64_t in[MOST] = {0}, out[MOST] = {0};
    memcpy(in, registers_base, registers_count * sizeof *in);
    green_t *g = green_new(bounce_plainly, NULL);
    green_switch(g, NULL);
    green_switch(g, NULL);
    instructions = enough = 0;
    begin_steps();
    registers_call((void (*)(void))green_switch, g, NULL, in, out);
    enough = 1;
    __asm__ volatile("nop" : : : "memory");
    green_abandon(g);
    return V(instructions);
}

/* The slow one takes some eighty more. */
TEST(it_is_taken_in_programs_in_c_and_in_cplusplus)
{
    struct sigaction action = { .sa_flags = SA_SIGINFO }, old;
    if (!CAN_STEP || SANITIZED || under_valgrind()) {
        print_message("skipped: a program cannot step through itself here, or takes other ways\n");
        skip();
    }
    action.sa_sigaction = count;
    assert_int_equal(sigaction(SIGTRAP, &action, &old), 0);
    for (int cplusplus = 0; cplusplus < 2; cplusplus++) {
        void *result = in_thread(count_instructions, V(cplusplus));
        assert_in_range((intptr_t)result, 150, 215);
    }
    assert_int_equal(sigaction(SIGTRAP, &old, NULL), 0);
}

int main(void)
{
    return run_all_tests_between(find_settable_bits, NULL);
}
