/* SPDX-License-Identifier: MIT */
/*
 * libFuzzer's way into the player of play.h: any input is a program.
 *
 *     cmake --preset clang && cmake --build --preset clang --target fuzz_programs
 *     build/clang/tests/random/fuzz_programs -max_total_time=3600 -max_len=1600 -len_control=0
 *
 * By -len_control=0 programs are long from the beginning: short ones find little.
 *
 * What it finds and leaves in a file, random_programs makes short and prints as
 * C:  build/clang/tests/random/random_programs crash-...
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "play.h"

void play_failed(const char *what)
{
    fprintf(stderr, "fuzz_programs: %s\n", what);
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct op program[400];
    size_t length = size / sizeof *program;
    if (length > sizeof program / sizeof *program)
        length = sizeof program / sizeof *program;
    memcpy(program, data, length * sizeof *program);
    play(program, length);
    return 0;
}
