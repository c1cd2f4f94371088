/* SPDX-License-Identifier: MIT
 *
 * green_fast.h from C++11: in inline functions and templates, with objects and
 * exceptions around; and that it leaves alone what others handle (rule 15).
 */
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>

#include <green_fast.h>

namespace
{

int failures;

void check(bool good, const char *what)
{
    std::printf("%s: %s\n", good ? "ok" : "FAILED", what);
    failures += !good;
}

/* ---- A generator, as one would write it ------------------------------------- */

template <typename T> class generator
{
public:
    explicit generator(T limit) : end(limit), green(green_new(run, nullptr))
    {
    }

    ~generator()
    {
        green_free(green);
    }

    generator(const generator &) = delete;
    generator &operator=(const generator &) = delete;

    T *next()
    {
        return static_cast<T *>(green_switch_fast(green, this));
    }

private:
    static void *run(void *value)
    {
        generator *self = static_cast<generator *>(value);
        for (T i = T(); i != self->end; ++i)
            if (green_yield_fast(&i) == GREEN_FAILED)
                break;
        return nullptr;
    }

    T end;
    green_t *green;
};

void values_come_one_by_one()
{
    std::string words;
    {
        generator<int> numbers(4);
        generator<char> letters(100);
        while (int *number = numbers.next())
            words += std::to_string(*number) + std::to_string(*letters.next());
    }
    check(words == "00112233", "values come one by one");
}

/* ---- Exceptions --------------------------------------------------------------- */

/* Throws and catches between its waits. */
void *throw_often(void *value)
{
    bool good = true;
    for (int i = 0; i < 100; i++) {
        std::string before = std::to_string(i);
        try {
            std::string inside = before;
            if (green_switch_fast(green_main(), value) == nullptr)
                throw std::runtime_error(inside);
        } catch (const std::runtime_error &error) {
            good = good && before == error.what();
        }
        good = good && std::current_exception() == nullptr;
    }
    return good ? value : nullptr;
}

void exceptions_pass_the_functions_that_use_it()
{
    int value;
    green_t *g = green_new(throw_often, nullptr);
    bool good = green_switch_fast(g, &value) == &value;
    for (int i = 0; i < 100; i++)
        good = green_switch_fast(g, i % 3 == 0 ? &value : nullptr) == &value && good;
    check(good, "exceptions pass the functions that use it");
    green_free(g);
}

/* Handles one while it waits, in a call that keeps it. */
void *wait_handling(void *value)
{
    bool good = false;
    try {
        try {
            throw 5;
        } catch (int) {
            green_yield(value);
            good = std::current_exception() != nullptr;
            green_yield(value);
            throw;
        }
    } catch (int number) {
        good = good && number == 5;
    }
    return good && std::current_exception() == nullptr ? value : nullptr;
}

void who_handles_one_may_be_entered_by_it()
{
    int value;
    green_t *g = green_new(wait_handling, nullptr), *h = green_new(wait_handling, nullptr);
    bool good = true;
    for (int i = 0; i < 3; i++) {
        good = green_switch_fast(g, &value) == &value && good;
        good = std::current_exception() == nullptr && good;
        good = green_switch_fast(h, &value) == &value && good;
        good = std::current_exception() == nullptr && good;
    }
    check(good, "who handles one may be entered by it");
    green_free(g);
    green_free(h);
}

/* The same, while one is thrown. */
struct waits {
    void *value;
    bool *good;
    ~waits()
    {
        *good = std::uncaught_exception();
        green_yield(value);
        *good = *good && std::uncaught_exception();
    }
};

void *wait_throwing(void *value)
{
    bool good = false;
    try {
        waits at_the_throw = { value, &good };
        throw 5;
    } catch (int) {
    }
    return good && !std::uncaught_exception() ? value : nullptr;
}

void so_may_who_throws_one()
{
    int value;
    green_t *g = green_new(wait_throwing, nullptr);
    bool good = green_switch_fast(g, &value) == &value;
    good = !std::uncaught_exception() && good;
    good = green_switch_fast(g, &value) == &value && good;
    check(good && !std::uncaught_exception(), "so may who throws one");
    green_free(g);
}

/* Neither its end nor its waits bring back what main once handled. */
void *come_and_go(void *value)
{
    return green_switch_fast(green_main(), value);
}

void who_handled_one_once_does_not_get_it_back()
{
    int value;
    green_t *g = green_new(come_and_go, nullptr), *h = green_new(come_and_go, nullptr);
    try {
        throw 6;
    } catch (int) {
        green_switch(g, &value);
        green_switch(h, &value);
    }
    bool good = std::current_exception() == nullptr && green_switch_fast(g, &value) == &value &&
                std::current_exception() == nullptr && green_switch(h, &value) == &value &&
                std::current_exception() == nullptr;
    check(good, "who handled one once does not get it back");
    green_free(g);
    green_free(h);
}

} // namespace

int main()
{
    for (int i = 0; i < 3; i++) {
        values_come_one_by_one();
        exceptions_pass_the_functions_that_use_it();
        who_handles_one_may_be_entered_by_it();
        so_may_who_throws_one();
        who_handled_one_once_does_not_get_it_back();
    }
    return failures == 0 ? 0 : 1;
}
