/* SPDX-License-Identifier: MIT */
/*
 * What a call costs more because the patch passes it on, in a thread without a hub: of calls
 * that do nothing behind it.
 */
#include "../tests/patch/ways/nothing.h"

#include <green_patch.h>

#include "bench.h"

enum { NOTHING, ALL = GREEN_PATCH_WAIT | GREEN_PATCH_IO | GREEN_PATCH_NAMES | GREEN_PATCH_LOCKS |
                      GREEN_PATCH_PROCESSES };

#define LOOPS(name, arguments)                                            \
    static BENCH_LOOP double name##_patched(void *what, long n)           \
    {                                                                     \
        if (green_patch((unsigned)(uintptr_t)what) < 0)                   \
            return -1;                                                    \
        double start = bench_now();                                       \
        while (n-- > 0)                                                   \
            (void)!name arguments;                                        \
        return bench_now() - start;                                       \
    }                                                                     \
    static BENCH_LOOP double name##_plain(void *unused, long n)           \
    {                                                                     \
        __typeof__(&name) next = (__typeof__(&name))(uintptr_t)dlsym(RTLD_NEXT, #name); \
        (void)unused;                                                     \
        double start = bench_now();                                       \
        while (n-- > 0)                                                   \
            (void)!next arguments;                                        \
        return bench_now() - start;                                       \
    }
NOTHINGS(LOOPS)

#define CANDIDATES(call, arguments)                                                          \
    {.group = #call "()", .name = "by its address", .run = call##_plain},                    \
    {.group = #call "()", .name = "passed on", .run = call##_patched, .arg = (void *)NOTHING}, \
    {.group = #call "()", .name = "passed on, asked for", .run = call##_patched,             \
     .arg = (void *)(uintptr_t)ALL},

int main(int argc, char **argv)
{
    const struct candidate candidates[] = {NOTHINGS(CANDIDATES)};
    return bench(argc, argv, "patch", "call", candidates, sizeof candidates / sizeof candidates[0]);
}
