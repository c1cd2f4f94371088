/* SPDX-License-Identifier: MIT
 *
 * What green_exit() and rule 15 owe to C++, as a program or as a plugin's function:
 * 0 if destructors have run and each green has thrown its own exception again.
 */
#include <cstdio>
#include <exception>

#include <green.h>

namespace
{

int destroyed, mixed_up;

struct noisy {
    ~noisy() { destroyed++; }
};

void *leave(void *)
{
    noisy local;
    if (green_yield(nullptr) == GREEN_FAILED)
        green_exit(GREEN_FAILED);
    return nullptr;
}

/* Throws a value and catches it twice, with a wait between. */
void *handle(void *value)
{
    try {
        throw value;
    } catch (void *&) {
        green_yield(nullptr);
        try {
            throw;
        } catch (void *again) {
            mixed_up += again != value;
        }
    }
    return nullptr;
}

} // namespace

extern "C" int check_runtime()
{
    static char one, two;
    destroyed = mixed_up = 0;
    green_t *g = green_new(leave, nullptr);
    green_switch(g, nullptr);
    green_free(g);

    green_t *a = green_new(handle, nullptr), *b = green_new(handle, nullptr);
    green_switch(a, &one);
    green_switch(b, &two);
    mixed_up += std::current_exception() != nullptr;
    green_switch(a, nullptr);
    green_switch(b, nullptr);
    green_free(a);
    green_free(b);
    if (destroyed == 1 && mixed_up == 0)
        return 0;
    std::printf("destructors: %d of 1; exceptions mixed up: %d\n", destroyed, mixed_up);
    return 1;
}

/* The same inside a handler of the calling green, which has begun before this was loaded. */
extern "C" int check_handlers(void *(*wait)(void *))
{
    char mine; // no two have it at the same place
    int good = 0;
    try {
        throw static_cast<void *>(&mine);
    } catch (void *) {
        wait(nullptr);
        try {
            throw;
        } catch (void *again) {
            good = again == &mine;
        }
    }
    if (!good)
        std::printf("another's exception was thrown again\n");
    return !good;
}

#ifdef PROGRAM
int main()
{
    return check_runtime();
}
#endif
