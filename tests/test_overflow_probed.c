/* SPDX-License-Identifier: MIT */
/*
 * Frames larger than a guard, which could step over it: this program is built
 * with -fstack-clash-protection, which has them touch every page on their way.
 */
#define _GNU_SOURCE
#include "overflow.h"

RECURSION(frames_of_100000, 100000)
RECURSION(frames_of_300000, 300000)
RECURSION(frames_of_1_mib, MIB)

static void *array_of_1_mib(void *value)
{
    volatile size_t bytes = MIB;
    (void)value;
    return array_of(&bytes);
}

static void *alloca_of_200_kib(void *value)
{
    volatile size_t bytes = 200 * KIB;
    (void)value;
    return alloca_of(&bytes);
}

static const struct way ways[] = {
    { "frames of 100000", frames_of_100000, 256 * KIB },
    { "frames of 300000", frames_of_300000, MIB },
    { "frames of 1 MiB", frames_of_1_mib, 64 * KIB },
    { "an array of 1 MiB", array_of_1_mib, 64 * KIB },
    { "alloca of 200 KiB", alloca_of_200_kib, 512 * KIB },
};

TEST(fifty_programs_die_with_the_name_of_their_green)
{
    all_die_with_their_names(ways, sizeof ways / sizeof *ways);
}

int main(void)
{
    return run_all_tests();
}
