/* SPDX-License-Identifier: MIT */
/* Locks of C++ under the patch: libstdc++ makes them of those of pthreads. */
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <unistd.h>

#include <green_hub.h>
#include <green_patch.h>

namespace
{

std::string story;

void note(const std::string &what)
{
    story += story.empty() ? what : " " + what;
}

void must(bool good, int line, const char *expr)
{
    if (good)
        return;
    std::fprintf(stderr, "line %d: not so: %s, story \"%s\"\n", line, expr, story.c_str());
    std::abort();
}

#define MUST(expr) must((expr), __LINE__, #expr)

void nap(int ms)
{
    std::this_thread::sleep_for(std::chrono::milliseconds(ms));
}

void run(std::initializer_list<green_fn *> bodies)
{
    for (green_fn *body : bodies)
        MUST(green_task_detach(green_task_spawn(body, nullptr)) == 0);
    MUST(green_hub_wait(GREEN_FOREVER) == 0);
}

std::once_flag first, second, third;

void *starts_first(void *unused)
{
    std::call_once(first, [] {
        note("first");
        nap(10);
        note("done");
    });
    return unused;
}

void *starts_second(void *unused)
{
    std::call_once(second, [](const char *what) { note(what); }, "second");
    return unused;
}

void *starts_third(void *unused)
{
    const std::string what = "third";
    std::call_once(third, [&what] { note(what); });
    return unused;
}

/* They wait while the first is called, and each calls its own. */
void tasks_that_call_once_at_a_time_call_what_each_has_said()
{
    run({starts_first, starts_second, starts_third, starts_second});
    MUST(story == "first done second third");
}

std::once_flag thrown;

void *starts_and_throws(void *unused)
{
    try {
        std::call_once(thrown, [] {
            note("begin");
            nap(10);
            throw std::runtime_error("no");
        });
    } catch (const std::runtime_error &) {
        note("thrown");
    }
    return unused;
}

void *starts_after_that(void *unused)
{
    std::call_once(thrown, [] { note("again"); });
    return unused;
}

void who_waits_for_one_that_throws_calls_its_own()
{
    run({starts_and_throws, starts_after_that, starts_after_that});
    MUST(story == "begin thrown again" || story == "begin again thrown");
}

std::timed_mutex mutex;
std::condition_variable_any condition;
bool has_tried, ready;

void *holds(void *unused)
{
    const std::lock_guard<std::timed_mutex> guard(mutex);
    while (!has_tried)
        nap(1);
    ready = true;
    condition.notify_all();
    note("held");
    return unused;
}

void *tries(void *unused)
{
    MUST(!mutex.try_lock());
    MUST(!mutex.try_lock_for(std::chrono::milliseconds(5)));
    note("tried");
    has_tried = true;
    std::unique_lock<std::timed_mutex> lock(mutex);
    while (!ready)
        condition.wait(lock);
    MUST(condition.wait_for(lock, std::chrono::milliseconds(5)) == std::cv_status::timeout);
    note("had");
    return unused;
}

void mutexes_and_conditions_are_waited_for()
{
    run({holds, tries});
    MUST(story == "tried held had");
}

const struct {
    const char *name;
    void (*run)();
} tests[] = {
#define TEST(name) {#name, name}
    TEST(tasks_that_call_once_at_a_time_call_what_each_has_said),
    TEST(who_waits_for_one_that_throws_calls_its_own),
    TEST(mutexes_and_conditions_are_waited_for),
};

} // namespace

int main()
{
    alarm(100);
    MUST(green_patch(GREEN_PATCH_WAIT | GREEN_PATCH_LOCKS) == 0);
    for (const auto &test : tests) {
        story.clear();
        test.run();
        std::printf("ok     %s\n", test.name);
    }
}
