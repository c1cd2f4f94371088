/* SPDX-License-Identifier: MIT
 *
 * Objects whose constructors and destructors use the library, whatever comes
 * first: globals, made before main() and destroyed after it, statics, and the
 * objects of a thread.  Also when exit() is called in a green.
 */
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include <green.h>

#include "tools.h"

namespace
{

std::string *order; /* of what has happened; never destroyed */

void note(const char *word)
{
    if (order == nullptr)
        order = new std::string;
    *order += word;
    *order += ' ';
}

void *echo(void *value)
{
    while (value != GREEN_FAILED)
        value = green_yield(value);
    return GREEN_FAILED;
}

const char *expected; /* all that has happened at the very end, or null: nobody asks */

/* Has a green all its life long. */
class Holder
{
public:
    explicit Holder(const char *name) : name_(name), green_(green_new(echo, nullptr))
    {
        if (green_ == nullptr || green_switch(green_, this) != this)
            std::abort();
    }

    ~Holder()
    {
        char one;
        bool works = green_current() != nullptr && green_main() != nullptr;
        works = works && green_set_parent(green_, green_current()) == 0 &&
                green_switch(green_, &one) == &one && green_free(green_) == 0;
        green_t *fresh = works ? green_new(echo, nullptr) : nullptr;
        works = fresh != nullptr && green_switch(fresh, &one) == &one && green_free(fresh) == 0;
        note(works ? name_ : "FAILED");
        if (std::strcmp(name_, "first") == 0 && expected != nullptr) {
            if (*order != expected)
                std::fprintf(stderr, "not \"%s\" but \"%s\"\n", expected, order->c_str());
            _exit(*order == expected ? 0 : 1);
        }
    }

private:
    const char *name_;
    green_t *green_;
};

Holder first("first"); /* made before main(), and destroyed last */

void make_static()
{
    static Holder object("static");
}

void live_in_a_thread()
{
    thread_local Holder object("thread");
    (void)object;
}

int end_by_return()
{
    expected = "thread main static second first ";
    static Holder second("second");
    std::thread(live_in_a_thread).join();
    make_static();
    note("main");
    return 0;
}

void *exit_here(void *)
{
    make_static();
    note("green");
    std::exit(9); /* which the first one's destructor makes 0, if all is well */
}

int end_in_a_green()
{
    expected = "green static second first ";
    static Holder second("second");
    green_switch(green_new(exit_here, nullptr), nullptr);
    return 1;
}

/* Runs it in a child, to its very end. */
bool ends_well(const char *what, int (*fn)())
{
    std::fflush(nullptr);
    pid_t pid = fork();
    if (pid == 0)
        std::exit(fn());
    int status = -1;
    bool good = pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
    std::printf("%s: %s\n", good ? "ok" : "FAILED", what);
    return good;
}

}

int main()
{
    if (UNDER_TSAN)
        return skip_all_because("in a child of a process with greens "
                                "ThreadSanitizer can make no thread");
    bool good = ends_well("objects use the library after main()", end_by_return);
    good = ends_well("and after exit() in a green", end_in_a_green) && good;
    return good ? 0 : 1;
}
