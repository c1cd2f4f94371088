/* SPDX-License-Identifier: MIT
 *
 * C++ frames in greens: destructors when a green or its thread is ended from
 * within, and exceptions that leave a green's body, which stop the program.
 * What must die does so in a child process.
 */
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <stdexcept>
#include <string>

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>
#include <unwind.h>

#include <green.h>
#include <green_fast.h>

#include "tools.h"
#include "unwind_gap.h"

#include <cxxabi.h>

namespace
{

int failures;

void check(bool good, const char *what)
{
    std::printf("%s: %s\n", good ? "ok" : "FAILED", what);
    failures += !good;
}

struct death {
    int status;
    std::string said;
};

/* What a child that runs fn says on stderr, and what it dies of. */
death death_of(void (*fn)())
{
    std::fflush(nullptr);
    FILE *file = std::tmpfile();
    pid_t pid = fork();
    if (pid == 0) {
        alarm(60);
        dup2(fileno(file), STDERR_FILENO);
        fn();
        std::fflush(nullptr);
        _exit(0);
    }
    death result;
    waitpid(pid, &result.status, 0);
    std::rewind(file);
    for (int c; (c = std::getc(file)) != EOF;)
        result.said += static_cast<char>(c);
    std::fclose(file);
    return result;
}

bool aborted(const death &how)
{
    return WIFSIGNALED(how.status) && WTERMSIG(how.status) == SIGABRT;
}

bool says(const death &how, const char *text)
{
    if (how.said.find(text) != std::string::npos)
        return true;
    std::printf("it does not say: %s\nbut: %s\n", text, how.said.c_str());
    return false;
}

std::string story;

void note(const char *text)
{
    story += story.empty() ? "" : " ";
    story += text;
}

/* What happened since the last time. */
bool happened(const char *expected)
{
    std::string noted;
    noted.swap(story);
    if (noted == expected)
        return true;
    std::printf("expected: %s\nhappened: %s\n", expected, noted.c_str());
    return false;
}

struct noisy {
    const char *name;
    explicit noisy(const char *what) : name(what) {}
    ~noisy() { note(name); }
};

void note_arg(void *text)
{
    note(static_cast<const char *>(text));
}

char value[] = "value", deferred[] = "deferred", outer_deferred[] = "outer-deferred";

/* The compiler need not know that it does not return. */
void (*volatile leave)(void *) = green_exit;

void *life_of(green_fn *run)
{
    green_t *g = green_new(run, nullptr);
    void *result = green_switch(g, value);
    if (green_state(g) != GREEN_DEAD || green_free(g) != 0)
        note("lives");
    return result;
}

/* ---- green_exit() ---------------------------------------------------------------- */

__attribute__((noinline)) void exit_inside(void *with)
{
    noisy first("first"), second("second");
    green_defer(note_arg, deferred);
    leave(with);
    note("went on");
}

void *exit_below(void *with)
{
    noisy outer("outer");
    green_defer(note_arg, outer_deferred);
    exit_inside(with);
    return nullptr;
}

void an_exit_runs_destructors()
{
    check(life_of(exit_below) == value && happened("second first deferred outer outer-deferred"),
          "an exit runs destructors, deferred functions in their order among them");
}

void *exit_through_catch(void *with)
{
    noisy outer("outer");
    try {
        noisy inner("inner");
        leave(with);
    } catch (const std::exception &) {
        note("wrong");
    } catch (...) {
        note("caught");
        throw;
    }
    return nullptr;
}

#ifdef __GLIBCXX__ /* libc++abi cannot throw it on */
/* The C++ library has no such object to refer to. */
__attribute__((no_sanitize("undefined"))) void *exit_through_catch_by_name(void *with)
{
    try {
        noisy inner("inner");
        leave(with);
    } catch (abi::__forced_unwind &) {
        note("forced");
        throw;
    }
    return nullptr;
}

void a_catch_may_see_it_and_throw_it_on()
{
    check(life_of(exit_through_catch) == value && happened("inner caught outer"),
          "catch (...) may see an exit and throw it on");
    check(life_of(exit_through_catch_by_name) == value && happened("inner forced"),
          "so may catch (abi::__forced_unwind &)");
}
#else
void exit_through_catch_and_die()
{
    life_of(exit_through_catch);
}

void a_catch_may_see_it_and_throw_it_on()
{
    death how = death_of(exit_through_catch_and_die);
    check(aborted(how) && says(how, "libgreen: an exception left the body of green"),
          "catch (...) cannot throw an exit on, and is told so");
}
#endif

struct counted {
    static int living;
    static counted *last;
    counted() { living++; last = this; }
    counted(const counted &) { living++; last = this; }
    ~counted() { living--; }
};
int counted::living;
counted *counted::last;

void exit_in_a_handler(void *with)
{
    try {
        throw counted();
    } catch (const counted &) {
        noisy inner("handler");
        leave(with);
    }
}

void *exit_in_handlers(void *with)
{
    try {
        throw counted();
    } catch (const counted &) {
        exit_in_a_handler(with);
    }
    return nullptr;
}

void *defer_exit_in_a_handler(void *with)
{
    try {
        throw counted();
    } catch (const counted &) {
        green_defer(exit_in_a_handler, deferred);
        exit_in_a_handler(with);
    }
    return nullptr;
}

void exceptions_being_handled_are_released()
{
    check(life_of(exit_in_handlers) == value && happened("handler") && counted::living == 0,
          "exceptions being handled are released");
    check(life_of(defer_exit_in_a_handler) == deferred && happened("handler handler") &&
              counted::living == 0 && std::current_exception() == nullptr,
          "also those of a deferred function");
}

/* Which exceptions are there, and how many. */
void note_exceptions(void *)
{
    static const char *const many[] = {"0", "1", "2", "3"};
    note(std::current_exception() != nullptr ? "handles" : "handles-none");
    note(std::uncaught_exception() ? "throws" : "throws-none");
    note(many[counted::living]);
}

void *exit_over_a_gap_in_handlers(void *with)
{
    green_defer(note_exceptions, nullptr);
    try {
        throw counted();
    } catch (const counted &) {
        try {
            throw counted();
        } catch (const counted &) {
            call_without_unwind_data(leave, with);
        }
    }
    return nullptr;
}

void exit_over_a_gap_in_two_handlers(void *with)
{
    exit_over_a_gap_in_handlers(with);
}

__attribute__((noinline)) void defer_and_exit(void *with)
{
    green_defer(note_exceptions, nullptr);
    green_defer(exit_over_a_gap_in_two_handlers, deferred);
    leave(with);
    note("went on");
}

void *defer_and_exit_in_a_handler(void *with)
{
    try {
        throw counted();
    } catch (const counted &) {
        defer_and_exit(with);
    }
    return nullptr;
}

struct exits {
    ~exits() { call_without_unwind_data(leave, value); }
};

void *exit_over_a_gap_in_a_destructor(void *)
{
    green_defer(note_exceptions, nullptr);
    try {
        exits at_the_throw;
        throw counted();
    } catch (const counted &) {
        note("wrong");
    }
    return nullptr;
}

void also_where_frames_cannot_be_unwound()
{
    check(life_of(exit_over_a_gap_in_handlers) == value && happened("handles-none throws-none 0"),
          "also where frames cannot be unwound");
    check(life_of(defer_and_exit_in_a_handler) == deferred &&
              happened("handles throws-none 1 handles throws-none 1") && counted::living == 0,
          "of a deferred function its own alone");
    check(life_of(exit_over_a_gap_in_a_destructor) == value && counted::living == 1 &&
              happened("handles-none throws-none 1") && !std::uncaught_exception(),
          "one that nobody handles yet is thrown no more");
    abi::__cxa_free_exception(counted::last); /* as it was lost on purpose */
    counted::living = 0;
}

/* ---- The end of a thread ------------------------------------------------------------ */

#if defined(__GLIBC__) && defined(__GLIBCXX__)
void *end_thread(void *with)
{
    noisy mine("c");
    pthread_exit(with);
}

void *switch_to_a_new(green_fn *run, void *with)
{
    green_options_t options = green_options_t();
    options.flags = GREEN_DETACHED;
    return green_switch(green_new_with(run, nullptr, &options), with);
}

void *hold_one_that_ends_the_thread(void *with)
{
    noisy mine("b");
    return switch_to_a_new(end_thread, with);
}

void *thread(void *with)
{
    noisy mine("a");
    try {
        return switch_to_a_new(hold_one_that_ends_the_thread, with);
    } catch (const std::exception &) {
        note("wrong");
    }
    return nullptr;
}

void pthread_exit_in_a_green_runs_destructors()
{
    pthread_t id;
    void *result = nullptr;
    pthread_create(&id, nullptr, thread, value);
    pthread_join(id, &result);
    check(result == value && happened("c b a"),
          "pthread_exit() in a green runs destructors, in its ancestors too");
}

struct handling {
    ~handling() { note(std::current_exception() ? "handling" : "lost"); }
};

/* Each handles an exception of its own when the innermost ends the thread. */
void *end_thread_while_handling(void *left)
{
    try {
        throw counted();
    } catch (const counted &) {
        handling mine;
        if (left == nullptr)
            pthread_exit(value);
        return switch_to_a_new(end_thread_while_handling,
                               left == value + 1 ? nullptr : static_cast<char *>(left) - 1);
    }
}

void each_handles_its_own_exceptions_then()
{
    pthread_t id;
    void *result = nullptr;
    counted::living = 0;
    pthread_create(&id, nullptr, end_thread_while_handling, value + 2);
    pthread_join(id, &result);
    check(result == value && happened("handling handling handling") && counted::living == 0,
          "each ends the handlers of its own exceptions, which are released");
}
#endif

/* ---- What stops the program ----------------------------------------------------------- */

#if defined(__GLIBC__) && !defined(__clang__) /* which may pass such functions over */
void *yield_and_end_thread(void *)
{
    pthread_exit(green_yield(nullptr));
}

/* Waits in a fast call when the other, started already, ends the thread. */
__attribute__((optimize("non-call-exceptions"))) void *wait_in_a_fast_call(void *)
{
    noisy mine("fast");
    static green_t *g; /* or it would be a leak */
    g = green_new(yield_and_end_thread, nullptr);
    green_switch(g, nullptr);
    return green_switch_fast(g, value);
}

void *thread_with_a_fast_call(void *)
{
    noisy mine("thread");
    return life_of(wait_in_a_fast_call);
}

void end_a_thread_below_a_fast_call()
{
    pthread_t id;
    pthread_create(&id, nullptr, thread_with_a_fast_call, nullptr);
    pthread_join(id, nullptr);
    std::fprintf(stderr, "left: %s\n", story.c_str());
}

void frames_that_wait_in_a_fast_call_are_left_too()
{
    death how = death_of(end_a_thread_below_a_fast_call);
    check(how.status == 0 && says(how, "left: fast thread\n"),
          "a function that waits in a fast call is left, too, if it is compiled for that");
}
#endif

void *throw_out(void *)
{
    noisy mine("unwound");
    throw std::runtime_error("the message");
}

void *hold_a_thrower(void *)
{
    green_options_t options = green_options_t();
    options.name = "thrower";
    try {
        green_switch(green_new_with(throw_out, nullptr, &options), nullptr);
    } catch (...) {
        std::fprintf(stderr, "the parent caught it\n");
    }
    return nullptr;
}

void let_an_exception_out()
{
    try {
        life_of(hold_a_thrower);
    } catch (...) {
        std::fprintf(stderr, "main caught it\n");
    }
}

/* greenlet: test_unhandled_std_exception_as_greenlet_function_aborts,
 * test_unhandled_exception_in_greenlet_aborts */
void an_exception_that_leaves_a_body_stops_the_program()
{
    death how = death_of(let_an_exception_out);
    check(aborted(how) && says(how, "libgreen: an exception left the body of green \"thrower\" (0x")
              && says(how, "the message") && how.said.find("caught it") == std::string::npos,
          "an exception that leaves a body stops the program and says whose it was");
}

/* Of two greens the one that is left, by a switch to the other. */
void throw_in_the_hook(green_trace_event_t, green_t *, green_t *to, void *)
{
    if (green_name(to) != nullptr && std::strcmp(green_name(to), "entered") == 0)
        throw std::runtime_error("the hook's");
}

void *enter_another(void *another)
{
    return green_switch(static_cast<green_t *>(another), nullptr);
}

void let_an_exception_out_of_a_hook()
{
    green_options_t options = green_options_t();
    options.name = "entered";
    green_t *entered = green_new_with(throw_out, nullptr, &options);
    options.name = "left";
    green_t *left = green_new_with(enter_another, nullptr, &options);
    green_set_trace(throw_in_the_hook, nullptr);
    green_switch(left, entered);
}

void one_that_leaves_a_hook_is_of_the_green_that_is_left()
{
    death how = death_of(let_an_exception_out_of_a_hook);
    check(aborted(how) && says(how, "libgreen: an exception left the body of green \"left\" (0x") &&
              says(how, "the hook's"),
          "one that leaves a trace hook is said of the green that is left");
}

/* Frames on the way from here, of these three. */
_Unwind_Reason_Code list_frame(struct _Unwind_Context *context, void *)
{
    void *function =
        _Unwind_FindEnclosingFunction(reinterpret_cast<void *>(_Unwind_GetIP(context) - 1));
    if (function == reinterpret_cast<void *>(throw_out))
        note("throw_out");
    if (function == reinterpret_cast<void *>(hold_a_thrower))
        note("hold_a_thrower");
    if (function == reinterpret_cast<void *>(let_an_exception_out))
        note("let_an_exception_out");
    return _URC_NO_REASON;
}

void list_frames_and_die()
{
    _Unwind_Backtrace(list_frame, nullptr);
    std::fprintf(stderr, "frames: %s\n", story.c_str());
    std::abort();
}

void let_an_exception_out_and_list_frames()
{
    std::set_terminate(list_frames_and_die);
    let_an_exception_out();
}

void with_the_frames_of_the_throw_in_place()
{
    death how = death_of(let_an_exception_out_and_list_frames);
    check(aborted(how) && says(how, "frames: throw_out hold_a_thrower"),
          "with the frames of the throw in place");
}

void stop_here() noexcept
{
    throw_out(nullptr);
}

void *throw_through_noexcept(void *)
{
    stop_here();
    return nullptr;
}

void let_an_exception_meet_noexcept()
{
    life_of(throw_through_noexcept);
}

void exit_here() noexcept
{
    leave(value);
}

void *exit_through_noexcept(void *)
{
    exit_here();
    return nullptr;
}

void let_an_exit_meet_noexcept()
{
    life_of(exit_through_noexcept);
}

void noexcept_is_a_boundary()
{
    death how = death_of(let_an_exception_meet_noexcept);
    check(aborted(how) && says(how, "the message") &&
              how.said.find("libgreen") == std::string::npos,
          "an exception stops at noexcept, as anywhere");
    check(aborted(death_of(let_an_exit_meet_noexcept)), "an exit does, too");
}

void *swallow_an_exit(void *with)
{
    try {
        leave(with);
    } catch (...) {
    }
    std::fprintf(stderr, "went on\n");
    return nullptr;
}

void swallow()
{
    green_options_t options = green_options_t();
    options.name = "swallower";
    green_switch(green_new_with(swallow_an_exit, nullptr, &options), nullptr);
}

void an_exit_that_is_swallowed_is_reported()
{
    death how = death_of(swallow);
    check(aborted(how) && says(how, "libgreen: catch (...) did not throw on what ends green "
                                    "\"swallower\" (0x") &&
              how.said.find("went on") == std::string::npos,
          "an exit that is swallowed by catch (...) is reported");
}

void *exit_from_a_catch(void *)
{
    try {
        leave(value);
    } catch (...) {
        leave(nullptr);
    }
    return nullptr;
}

void *exit_from_a_handler(void *)
{
    try {
        throw std::runtime_error("the message");
    } catch (const std::exception &) {
        try {
            leave(value);
        } catch (...) {
            throw;
        }
    }
    return nullptr;
}

void exit_twice()
{
    life_of(exit_from_a_catch);
}

void exit_while_handling()
{
    life_of(exit_from_a_handler);
}

void what_green_exit_says_of_catching_it_is_so()
{
    death how = death_of(exit_twice);
    check(aborted(how) && says(how, "libgreen: catch (...) did not throw on what ends green"),
          "another exit from a catch (...) is reported, too");
    how = death_of(exit_while_handling);
    check(aborted(how) && says(how, "terminat"),
          "one that is caught while an exception is handled terminates");
}

} // namespace

int main()
{
    an_exit_runs_destructors();
    a_catch_may_see_it_and_throw_it_on();
    exceptions_being_handled_are_released();
    also_where_frames_cannot_be_unwound();
#if defined(__GLIBC__) && defined(__GLIBCXX__)
    if (UNDER_TSAN) {
        std::printf("skipped: ThreadSanitizer dies of pthread_exit() "
                    "on another stack than the thread's\n");
    } else {
        pthread_exit_in_a_green_runs_destructors();
        each_handles_its_own_exceptions_then();
    }
#endif
#if defined(__GLIBC__) && !defined(__clang__)
    if (!UNDER_TSAN) /* as above */
        frames_that_wait_in_a_fast_call_are_left_too();
#endif
    an_exception_that_leaves_a_body_stops_the_program();
    one_that_leaves_a_hook_is_of_the_green_that_is_left();
    with_the_frames_of_the_throw_in_place();
    noexcept_is_a_boundary();
    an_exit_that_is_swallowed_is_reported();
    what_green_exit_says_of_catching_it_is_so();
    return failures == 0 ? 0 : 1;
}
