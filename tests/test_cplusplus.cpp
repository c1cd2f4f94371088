/* SPDX-License-Identifier: MIT
 *
 * green.h from C++11: linkage, and exceptions that stay within one green.
 */
#include <cstdio>
#include <stdexcept>
#include <string>

#include <green.h>

namespace
{

std::string story;

void *work(void *value)
{
    try {
        for (;;) {
            story += static_cast<const char *>(value);
            value = green_yield(&story);
            if (value == GREEN_FAILED)
                throw std::runtime_error(" told to end");
        }
    } catch (const std::runtime_error &error) {
        story += error.what();
    }
    green_exit(nullptr);
}

char one[] = "one", two[] = " two";

/* Walked by the unwinder that a C++ program has. */
bool has_frames(green_t *g)
{
    void *pcs[64];
    return green_backtrace(g, pcs, 64) >= 2 && green_backtrace(g, pcs, 1) == 1;
}

} // namespace

int main()
{
    green_options_t options = green_options_t();
    options.name = "worker";
    green_t *g = green_new_with(work, nullptr, &options);
    bool good = g != nullptr && green_state(g) == GREEN_NEW && green_switch(g, one) == &story
                && green_switch(g, two) == &story && has_frames(g) && has_frames(green_main())
                && green_throw(g, 0) == nullptr
                && green_state(g) == GREEN_DEAD && std::string("worker") == green_name(g)
                && green_free(g) == 0 && green_version() == GREEN_VERSION;

    std::printf("%s\n", story.c_str());
    return good && story == "one two told to end" ? 0 : 1;
}
