/* SPDX-License-Identifier: MIT
 *
 * Rule 15 in C++ programs: a switch inside catch keeps each green's exceptions
 * its own.
 */
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <string>

#include <green.h>

namespace
{

int failures;

void check(bool good, const char *what)
{
    std::printf("%s: %s\n", good ? "ok" : "FAILED", what);
    failures += !good;
}

/* Handles an exception of its own while others come and go, then throws it again. */
void *handle(void *name)
{
    const char *expected = static_cast<const char *>(name);
    bool good = std::current_exception() == nullptr && std::uncaught_exception() == false;
    try {
        try {
            throw std::runtime_error(expected);
        } catch (...) {
            green_yield(nullptr);
            good = good && std::current_exception() != nullptr;
            green_yield(nullptr);
            throw;
        }
    } catch (const std::runtime_error &error) {
        good = good && error.what() == std::string(expected);
    }
    good = good && std::current_exception() == nullptr;
    return good ? name : nullptr;
}

char names[4][2] = { "a", "b", "c", "d" };

/* greenlet: test_exc_state */
void a_green_does_not_see_the_exception_of_another()
{
    green_t *g = green_new(handle, nullptr);
    try {
        throw 5;
    } catch (int) {
        green_switch(g, names[0]);
        green_switch(g, nullptr);
        check(green_switch(g, nullptr) == names[0],
              "a green does not see the exception of another");
        try {
            throw;
        } catch (int value) {
            check(value == 5, "and leaves it as it was");
        }
    }
    green_free(g);
}

/* greenlet: test_exception_switch */
void handlers_interleave()
{
    green_t *greens[4];
    bool good = true;
    for (int i = 0; i < 4; i++) {
        greens[i] = green_new(handle, nullptr);
        green_switch(greens[i], names[i]);
    }
    for (int i = 3; i >= 0; i--)
        green_switch(greens[i], nullptr);
    for (int i = 0; i < 4; i++)
        good = green_switch(greens[i], nullptr) == names[i] && good;
    check(good, "handlers of four greens interleave");
    for (green_t *g : greens)
        good = green_free(g) == 0 && good;
    check(good && std::current_exception() == nullptr, "and leave nothing behind");
}

/* One that dies inside its handler takes its exceptions along. */
void *exit_while_handling(void *value)
{
    try {
        throw 1;
    } catch (int) {
        green_exit(value);
    }
}

void a_death_inside_a_handler_leaves_the_parent_alone()
{
    green_t *g = green_new(exit_while_handling, nullptr);
    check(green_switch(g, names[1]) == names[1] && std::current_exception() == nullptr,
          "a death inside a handler leaves the parent alone");
    green_free(g);
}

void ignore(green_trace_event_t, green_t *, green_t *, void *)
{
}

} // namespace

int main()
{
    for (int traced = 0; traced < 2; traced++) {
        green_set_trace(traced ? ignore : nullptr, nullptr);
        a_green_does_not_see_the_exception_of_another();
        handlers_interleave();
        a_death_inside_a_handler_leaves_the_parent_alone();
    }
    return failures == 0 ? 0 : 1;
}
