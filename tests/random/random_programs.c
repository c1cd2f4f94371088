/* SPDX-License-Identifier: MIT */
/*
 * Plays random programs on libgreen and on a model of it, and compares
 * everything after each operation (play.h).
 *
 *     random_programs                  50,000 operations, as ctest does
 *     random_programs -n 1000000       so many
 *     random_programs -n 1000000000    the long mode: hours
 *     random_programs -s SEED          other programs; each is of its seed alone
 *     random_programs -p PROGRAM       plays the one of this number again
 *     random_programs FILE             plays the program in a file, as
 *                                      fuzz_programs leaves one
 *
 *     random_programs -q ...           only says that a program fails
 *
 * hub_random_programs does the same with the hub (hub_play.c).
 *
 * A program that fails is made as short as it will go and printed as C on
 * stdout: cc -Iinclude program.c libgreen.a -pthread.  Programs run in a child,
 * so that one may crash or hang.  The last line says how much was played.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "play.h"

enum { LONGEST = 400, TRIES = 20 };

/* What a child leaves behind. */
static struct shared {
    uint64_t seed;            /* of the program being played */
    unsigned long operations, programs;
    char failure[512];        /* empty: it crashed, or all is well */
    struct play_log log;
} *shared;

void play_failed(const char *what)
{
    snprintf(shared->failure, sizeof shared->failure, "%s", what);
    _exit(1);
}

/* ---- Random numbers and programs ------------------------------------------------------- */

/* splitmix64 */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

enum { MOST_KINDS = 64 };

/*
 * Each program leaves some kinds out and has more of others, so that what happens
 * rarely among all happens often in some.
 */
static size_t make_program(uint64_t seed, struct op *program)
{
    unsigned weight[MOST_KINDS], sum = 0;
    uint64_t state = seed;
    size_t length = 10 + next_random(&state) % (LONGEST - 10);
    uint64_t theme = next_random(&state) % (4 * (uint64_t)play_kinds.theme_count);
    for (int kind = 0; kind < play_kinds.count; kind++) {
        unsigned how = next_random(&state) % 8, usual = play_kinds.weights[kind];
        weight[kind] = how < 2 ? 0 : how < 4 ? 4 * usual : usual;
        if ((play_kinds.always >> kind & 1) != 0)
            weight[kind] = usual;
        if ((play_kinds.costly >> kind & 1) != 0 && how % 2 != 0)
            weight[kind] = 0;
        if (theme < (uint64_t)play_kinds.theme_count)
            weight[kind] = (play_kinds.themes[theme] >> kind & 1) != 0 ? usual + 4 : 0;
        sum += weight[kind];
    }
    for (size_t i = 0; i < length; i++) {
        uint64_t number = next_random(&state);
        unsigned at = number % sum;
        uint8_t kind = 0;
        while (at >= weight[kind])
            at -= weight[kind++];
        program[i] = (struct op){ kind, (uint8_t)(number >> 40), (uint8_t)(number >> 48),
                                  (uint8_t)(number >> 56) };
    }
    return length;
}

/* ---- Children ------------------------------------------------------------------------------ */

/* Plays in a child, `seconds` at most, and logs it if asked to.  Whether all went well. */
static int plays_well(const struct op *program, size_t length, int log, unsigned seconds)
{
    int status;
    shared->failure[0] = '\0';
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        memset(&shared->log, 0, sizeof shared->log);
        play_log = log ? &shared->log : NULL;
        alarm(seconds);
        play(program, length);
        _exit(0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        abort();
    if (WIFSIGNALED(status))
        snprintf(shared->failure, sizeof shared->failure, "signal %d", WTERMSIG(status));
    else if (WEXITSTATUS(status) != 0 && shared->failure[0] == '\0')
        snprintf(shared->failure, sizeof shared->failure, "exit status %d", WEXITSTATUS(status));
    return status == 0;
}

/* Takes out what is not needed for it to fail, then makes what is left plain. */
static size_t shrink(struct op *program, size_t length)
{
    struct op shorter[LONGEST];
    for (size_t chunk = length; chunk > 0; chunk /= 2) {
        for (size_t from = 0; from < length;) {
            size_t n = chunk < length - from ? chunk : length - from;
            memcpy(shorter, program, from * sizeof *program);
            memcpy(shorter + from, program + from + n, (length - from - n) * sizeof *program);
            if (!plays_well(shorter, length - n, 0, 20)) {
                length -= n;
                memcpy(program, shorter, length * sizeof *program);
            } else {
                from += n;
            }
        }
    }
    for (size_t i = 0; i < length; i++) {
        for (int byte = 1; byte < 4; byte++) {
            uint8_t *p = (uint8_t *)&program[i] + byte, was = *p;
            *p = 0;
            if (plays_well(program, length, 0, 20))
                *p = was;
        }
    }
    return length;
}

static int quiet;

static int report(struct op *program, size_t length, const char *name)
{
    char title[700];
    if (quiet)
        return 1;
    int tries = 0; /* what the library chooses at random may be another the next time */
    while (plays_well(program, length, 0, 20) && tries < TRIES)
        tries++;
    if (tries == TRIES) {
        fprintf(stderr, "%s: %s fails only after others\n", program_invocation_short_name, name);
        return 1;
    }
    length = shrink(program, length);
    plays_well(program, length, 1, 20);
    snprintf(title, sizeof title, "%s: %s", name, shared->failure);
    play_print(&shared->log, title);
    fprintf(stderr, "%s: %s, %zu operations\n", program_invocation_short_name, title, length);
    return 1;
}

static int play_file(const char *name)
{
    struct op program[LONGEST];
    FILE *file = fopen(name, "rb");
    if (file == NULL) {
        perror(name);
        return 2;
    }
    size_t length = fread(program, sizeof *program, LONGEST, file);
    fclose(file);
    if (!plays_well(program, length, 0, 60))
        return report(program, length, name);
    printf("%s: %s plays well\n", program_invocation_short_name, name);
    return 0;
}

static int play_again(const char *number)
{
    struct op program[LONGEST];
    size_t length = make_program(strtoull(number, NULL, 0), program);
    if (!plays_well(program, length, 0, 60))
        return report(program, length, number);
    printf("%s: %s plays well\n", program_invocation_short_name, number);
    return 0;
}

static int play_many(uint64_t seed, unsigned long operations)
{
    struct op program[LONGEST];
    int status;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        for (uint64_t state = seed; shared->operations < operations;) {
            shared->seed = next_random(&state);
            alarm(60);
            shared->operations += play(program, make_program(shared->seed, program));
            shared->programs++;
        }
        exit(0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        abort();
    if (status != 0) {
        char name[64], failure[512];
        memcpy(failure, shared->failure, sizeof failure);
        snprintf(name, sizeof name, "program %#" PRIx64, shared->seed);
        fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, name,
                failure[0] != '\0' ? failure : "crashed, or took a minute");
        return report(program, make_program(shared->seed, program), name);
    }
    printf("%s: %lu operations in %lu programs, seed %" PRIu64 "\n",
           program_invocation_short_name, shared->operations, shared->programs, seed);
    return 0;
}

int main(int argc, char **argv)
{
    unsigned long operations = getenv("GREEN_TEST_SLOW") != NULL ? 5000 : 50000;
    uint64_t seed = 1;
    const char *again = NULL;
    int option;
    while ((option = getopt(argc, argv, "n:p:qs:")) != -1) {
        if (option == 'n')
            operations = strtoul(optarg, NULL, 0);
        else if (option == 'p')
            again = optarg;
        else if (option == 'q')
            quiet = 1;
        else if (option == 's')
            seed = strtoull(optarg, NULL, 0);
        else
            return 2;
    }
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return 2;
    if (again != NULL)
        return play_again(again);
    return optind < argc ? play_file(argv[optind]) : play_many(seed, operations);
}
