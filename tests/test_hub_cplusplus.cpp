/* SPDX-License-Identifier: MIT */
/*
 * The hub from C++: exceptions around calls that wait, destructors, the macros of
 * green_hub.h, and greens of green.hpp that wait.
 */
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <string>
#include <system_error>
#include <sys/wait.h>
#include <unistd.h>

#include "tools.h"
#include <green.hpp>
#include <green_hub.h>

namespace
{

std::string story;

void note(const std::string &what)
{
    story += story.empty() ? what : " " + what;
}

#define CHECK(expr) check((expr), __LINE__, #expr)

void check(bool good, int line, const char *expr)
{
    if (!good)
        throw std::logic_error("line " + std::to_string(line) + ": not so: " + expr + ", story \"" +
                               story + "\", errno " + std::to_string(errno));
}

/* In a task nothing may be thrown out of the body. */
#define MUST(expr) must((expr), __LINE__, #expr)

void must(bool good, int line, const char *expr)
{
    if (good)
        return;
    std::fprintf(stderr, "line %d: not so: %s (errno %d)\n", line, expr, errno);
    std::abort();
}

void finish(green_task_t *task)
{
    CHECK(task != nullptr);
    CHECK(green_task_join(task, nullptr, GREEN_FOREVER) == 0);
    CHECK(green_task_free(task) == 0);
}

struct noted {
    const char *name;
    ~noted() { note(std::string("~") + name); }
};

/* ---- Exceptions ------------------------------------------------------------------------ */

void wait_or_throw(int64_t time)
{
    noted local = { "local" };
    if (green_sleep(time) != 0)
        throw std::system_error(errno, std::generic_category(), "green_sleep");
}

void *be_cancelled(void *)
{
    try {
        wait_or_throw(GREEN_FOREVER);
    } catch (const std::system_error &error) {
        note(error.code().value() == ECANCELED ? "cancelled" : "?");
        errno = error.code().value();
        return GREEN_FAILED;
    }
    return nullptr;
}

void a_wait_that_fails_may_be_an_exception()
{
    green_task_t *task = green_task_spawn(be_cancelled, nullptr);
    CHECK(green_sleep(0) == 0);
    CHECK(green_task_free(task) == 0);
    CHECK(story == "~local cancelled");
}

/* Each handles an exception of its own while the other runs. */
void *handle(void *name)
{
    const char *mine = static_cast<const char *>(name);
    MUST(std::current_exception() == nullptr);
    try {
        try {
            throw std::runtime_error(mine);
        } catch (...) {
            MUST(green_sleep(0) == 0);
            MUST(green_sleep(GREEN_MS(1)) == 0);
            throw;
        }
    } catch (const std::runtime_error &error) {
        MUST(error.what() == std::string(mine));
        note(mine);
    }
    MUST(std::current_exception() == nullptr);
    return nullptr;
}

void tasks_that_wait_in_catch_have_exceptions_of_their_own()
{
    char a[] = "a", b[] = "b";
    green_task_t *first = green_task_spawn(handle, a), *second = green_task_spawn(handle, b);
    try {
        throw 5;
    } catch (int number) {
        finish(first);
        finish(second);
        CHECK(number == 5 && std::current_exception() != nullptr);
    }
    CHECK(story == "a b");
}

void *give_a_turn_and_end(void *)
{
    MUST(green_sleep(0) == 0);
    return nullptr;
}

/*
 * In the second round each that ends has the next one, inside its handler, go on.  In a hub
 * whose time is not virtual, where the end of a task has a short way.
 */
void who_is_entered_by_the_end_of_a_task_has_its_exceptions()
{
    char a[] = "a", b[] = "b";
    CHECK(green_hub_end(GREEN_FOREVER) == 0);
    green_task_t *tasks[] = {
        green_task_spawn(give_a_turn_and_end, nullptr), green_task_spawn(handle, a),
        green_task_spawn(give_a_turn_and_end, nullptr), green_task_spawn(handle, b),
        green_task_spawn(give_a_turn_and_end, nullptr),
    };
    for (green_task_t *task : tasks)
        finish(task);
    CHECK(story == "a b");
}

/* As long as who gives a turn handles nothing, it leaves by a short way: to one that does. */
void who_is_entered_by_one_that_gives_a_turn_has_its_exceptions()
{
    char a[] = "a", b[] = "b";
    CHECK(green_hub_end(GREEN_FOREVER) == 0);
    green_task_t *tasks[] = {
        green_task_spawn(handle, a), green_task_spawn(give_a_turn_and_end, nullptr),
        green_task_spawn(handle, b), green_task_spawn(give_a_turn_and_end, nullptr),
    };
    for (green_task_t *task : tasks)
        finish(task);
    CHECK(story == "a b");
}

void *throw_out(void *)
{
    MUST(green_sleep(0) == 0);
    throw std::runtime_error("out of a task");
}

/* As green.h says of every body. */
void an_exception_that_leaves_the_body_of_a_task_ends_the_process()
{
    int ends[2];
    CHECK(pipe(ends) == 0);
    std::fflush(nullptr);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        alarm(60);
        dup2(ends[1], 2);
        close(ends[0]);
        close(ends[1]);
        std::signal(SIGABRT, SIG_DFL);
        green_task_join(green_task_spawn(throw_out, nullptr), nullptr, GREEN_FOREVER);
        _exit(0);
    }
    close(ends[1]);
    char text[1024];
    std::string said;
    for (ssize_t n; (n = read(ends[0], text, sizeof text)) > 0;)
        said.append(text, static_cast<size_t>(n));
    close(ends[0]);
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    CHECK(said.find("an exception left the body of") != std::string::npos);
}

void *exit_from_within(void *value)
{
    noted here = { "here" };
    MUST(green_sleep(GREEN_MS(1)) == 0);
    green_exit(value);
}

void green_exit_in_a_task_runs_destructors()
{
    int here;
    void *value = nullptr;
    green_task_t *task = green_task_spawn(exit_from_within, &here);
    CHECK(green_task_join(task, &value, GREEN_FOREVER) == 0);
    CHECK(value == &here);
    CHECK(green_task_free(task) == 0);
    CHECK(story == "~here");
}

/* ---- Scopes -------------------------------------------------------------------------------- */

void throw_in_scope()
{
    GREEN_SCOPE(limit, GREEN_MS(5), 0);
    wait_or_throw(GREEN_SEC(1));
}

void a_scope_ends_where_an_exception_leaves_its_block()
{
    int error = 0;
    try {
        throw_in_scope();
    } catch (const std::system_error &thrown) {
        error = thrown.code().value();
    }
    CHECK(error == ETIMEDOUT);
    CHECK(green_sleep(GREEN_MS(10)) == 0); /* unlimited */
}

/* ---- The macros ---------------------------------------------------------------------------- */

green_event_t event = GREEN_EVENT_INIT;
green_semaphore_t semaphore = GREEN_SEMAPHORE_INIT(1, 1);
green_mutex_t mutex = GREEN_MUTEX_INIT;
green_mutex_t recursive = GREEN_MUTEX_INIT_RECURSIVE;
green_cond_t cond = GREEN_COND_INIT;

void the_macros_are_cplusplus()
{
    int in = 4, out = 0;
    green_queue_t *queue = green_queue_new(sizeof(int), 1);
    green_task_t *task = green_task_spawn(handle, const_cast<char *>("a"));
    green_case_t cases[] = {
        GREEN_CASE_GET(queue, &out), GREEN_CASE_EVENT(&event), GREEN_CASE_TASK(task),
        GREEN_CASE_SEMAPHORE(&semaphore),
    };
    green_case_t put = GREEN_CASE_PUT(queue, &in);
    CHECK(green_select(cases, 4, GREEN_NOWAIT) == 3);
    CHECK(green_select(&put, 1, GREEN_NOWAIT) == 0);
    CHECK(green_select(cases, 4, GREEN_NOWAIT) == 0 && out == 4);
    CHECK(green_mutex_lock(&mutex, GREEN_NOWAIT) == 0);
    CHECK(green_mutex_lock(&recursive, GREEN_NOWAIT) == 0);
    CHECK(green_mutex_lock(&recursive, GREEN_NOWAIT) == 0);
    CHECK(green_cond_wait(&cond, &mutex, GREEN_US(1)) == -1 && errno == ETIMEDOUT);
    CHECK(green_cond_signal(&cond, GREEN_EVERYBODY) == 0);
    finish(task);
    CHECK(green_queue_free(queue) == 0);
    green_hub_stats_t stats;
    CHECK(green_hub_stats(&stats, sizeof stats) == 0 && stats.tasks == 1);
}

/* ---- Greens of green.hpp --------------------------------------------------------------------- */

typedef libgreen::green<int(int)> adder;

adder *shared;

/* Enters the green of another while that waits in the hub. */
void *enter_it(void *)
{
    int error = 0;
    try {
        shared->switch_to(1);
    } catch (const std::system_error &thrown) {
        error = thrown.code().value();
    }
    MUST(error == EBUSY);
    error = 0;
    try {
        shared->throw_to(E2BIG);
    } catch (const std::system_error &thrown) {
        error = thrown.code().value();
    }
    MUST(error == EBUSY);
    error = 0;
    try {
        shared->reset();
    } catch (const std::system_error &thrown) {
        error = thrown.code().value();
    }
    MUST(error == EBUSY);
    note("refused");
    return nullptr;
}

void a_green_that_waits_is_held_against_its_handle_too()
{
    adder sum([](adder::self &me, int number) -> int {
        int total = 0;
        for (;;) {
            MUST(green_sleep(GREEN_MS(5)) == 0);
            number = me.yield(total += number);
        }
    });
    shared = &sum;
    green_task_t *other = green_task_spawn(enter_it, nullptr);
    CHECK(sum.switch_to(3) == 3);
    CHECK(story == "refused");
    CHECK(sum.switch_to(4) == 7);
    finish(other);
}

void a_generator_may_wait()
{
    int sum = 0;
    libgreen::generator<int> ticks([](libgreen::generator<int>::self &me) {
        for (int i = 1; i <= 3; i++) {
            MUST(green_sleep(GREEN_MS(1)) == 0);
            me.yield(i);
        }
    });
    for (int i : ticks)
        sum += i;
    CHECK(sum == 6);
}

#define TEST(name) { #name, name }

const struct {
    const char *name;
    void (*run)();
} tests[] = {
    TEST(a_wait_that_fails_may_be_an_exception),
    TEST(tasks_that_wait_in_catch_have_exceptions_of_their_own),
    TEST(who_is_entered_by_the_end_of_a_task_has_its_exceptions),
    TEST(who_is_entered_by_one_that_gives_a_turn_has_its_exceptions),
    TEST(an_exception_that_leaves_the_body_of_a_task_ends_the_process),
    TEST(green_exit_in_a_task_runs_destructors),
    TEST(a_scope_ends_where_an_exception_leaves_its_block),
    TEST(the_macros_are_cplusplus),
    TEST(a_green_that_waits_is_held_against_its_handle_too),
    TEST(a_generator_may_wait),
};

} // namespace

int main()
{
    if (under_helgrind()) {
        puts("skipped: to Helgrind what atomic operations order is a race; ThreadSanitizer runs it");
        return 77;
    }
    int failed = 0;
    alarm(100);
    for (const auto &test : tests) {
        std::string problem;
        story.clear();
        green_hub_options_t options = green_hub_options_t();
        options.flags = GREEN_HUB_VIRTUAL_TIME;
        try {
            CHECK(green_hub_init(&options) == 0);
            test.run();
            CHECK(green_hub_end(GREEN_FOREVER) == 0);
        } catch (const std::exception &error) {
            problem = error.what();
            green_hub_end(GREEN_FOREVER);
        }
        std::printf("%s %s%s%s\n", problem.empty() ? "ok    " : "FAILED", test.name,
                    problem.empty() ? "" : ": ", problem.c_str());
        failed += !problem.empty();
    }
    return failed != 0;
}
