/* SPDX-License-Identifier: MIT
 *
 * A producer and a consumer: who calls whom?
 *
 * One makes items, the other uses them up, and between them lies a queue with
 * room for one.  Written as two plain functions, one has to call the other for
 * every item.  The one that is called loses its loop: it begins at its first
 * line each time, and must keep in variables how far it had come.  And which
 * of the two should that be?
 *
 * Neither.  Here both are greens, functions that keep their place.  Each has a
 * loop of its own, and in the middle of it a switch to the other; when control
 * comes back, the loop goes on from there.  Neither is above the other.
 * produce() and consume() are the program; the rest is what they do it with.
 *
 *     producer_consumer              ten random letters, at a watchable pace
 *     producer_consumer -i 0 FILE    every byte of FILE, at full speed
 */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <fcntl.h>
#include <green.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { NOTHING = -1 }; /* an item is a byte, 0 to 255; this is none */

static int next_item(void);
static void put(int item);
static int take(void);
static void print(const char *what, int item);
static void rest(void);

static green_t *producer, *consumer;
static int queue = NOTHING; /* all of it: the one item that waits */

static void *produce(void *unused)
{
    (void)unused;
    for (int item; (item = next_item()) != NOTHING; ) {
        put(item);
        print("Produced", item);
        rest();
        if (green_switch(consumer, NULL) == GREEN_FAILED)
            return GREEN_FAILED;
    }
    return NULL; /* to main, which wakes the consumer a last time */
}

static void *consume(void *unused)
{
    (void)unused;
    while (queue != NOTHING) {
        print("Consumed", take());
        rest();
        if (green_switch(producer, NULL) == GREEN_FAILED)
            return GREEN_FAILED;
    }
    return NULL; /* woken, and nothing there: that was all */
}

static uint64_t limit, produced, consumed; /* items; limit 0 = none */
static struct timespec pause_time;
static bool pausing;                       /* pause_time is not 0 */
static uint64_t random_state;
static const char *input;                  /* its name, NULL = random letters */
static int input_fd;
static int status = EXIT_SUCCESS;
static volatile sig_atomic_t interrupted;  /* the signal's number, 0 = none */

/* Says why, unless the reader of our output has left or we were told to stop. */
static void fail(const char *what)
{
    if (status == EXIT_SUCCESS && errno != EPIPE && !interrupted)
        fprintf(stderr, "producer_consumer: %s: %s\n", what, strerror(errno));
    status = EXIT_FAILURE;
}

/* Then there are no more items and no more pauses, and so both greens end. */
static bool ending(void)
{
    return interrupted || status != EXIT_SUCCESS;
}

static void put(int item)
{
    queue = item;
    produced++;
}

static int take(void)
{
    int item = queue;

    queue = NOTHING;
    consumed++;
    return item;
}

static void print(const char *what, int item)
{
    bool visible = item >= 0x21 && item <= 0x7e;

    if (printf(visible ? "%s: %c\n" : "%s: \\x%02x\n", what, item) < 0)
        fail("standard output");
}

static void rest(void)
{
    if (pausing && !ending())
        nanosleep(&pause_time, NULL); /* a signal cuts it short */
}

/* SplitMix64: unlike rand(), the same letters everywhere. */
static int random_letter(void)
{
    uint64_t z = random_state += 0x9e3779b97f4a7c15;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return "abcde"[(z ^ z >> 31) % 5];
}

/* Reads by the block.  What was printed is sent off before a wait for more, and
 * the wait is a poll, because that is what every signal ends. */
static int next_byte(void)
{
    static unsigned char block[1 << 16];
    static ssize_t used, filled;

    if (used == filled) {
        struct pollfd readable = { .fd = input_fd, .events = POLLIN };

        if (fflush(stdout) == EOF) {
            fail("standard output");
            return NOTHING;
        }
        used = 0;
        do
            filled = poll(&readable, 1, -1) == -1 ? -1 : read(input_fd, block, sizeof block);
        while (filled == -1 && (errno == EINTR || errno == EAGAIN) && !interrupted);
        if (filled == -1)
            fail(input);
    }
    return used < filled ? block[used++] : NOTHING;
}

static int next_item(void)
{
    if (ending() || (limit != 0 && produced == limit))
        return NOTHING;
    return input != NULL ? next_byte() : random_letter();
}

/* A signal can come just before a call that blocks: too late for the test of
 * `interrupted`, too early to end the call.  So an alarm follows every second,
 * until one does.  It also ends a write that nobody reads; SIGINT itself only
 * restarts that, so that a reader who is merely slow gets all of it. */
static void interrupt(int number)
{
    if (number != SIGALRM)
        interrupted = number;
    alarm(1);
}

static void catch_signals(void)
{
    struct sigaction action = { .sa_handler = interrupt };

    sigemptyset(&action.sa_mask);
    sigaction(SIGALRM, &action, NULL);
    action.sa_flags = SA_RESTART;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN); /* the write fails instead, with EPIPE */
}

static const char usage[] =
    "usage: producer_consumer [-n COUNT] [-i SECONDS] [-s SEED] [FILE]\n"
    "  -n COUNT    stop after COUNT items, 0 = never (default: 10, with FILE 0)\n"
    "  -i SECONDS  pause so long after each line; 0.1 unless given\n"
    "  -s SEED     any whole number; the same one gives the same letters\n"
    "  -h          print this\n"
    "  FILE        produce its bytes instead of random letters from a to e;\n"
    "              - is standard input\n";

static _Noreturn void refuse(const char *why)
{
    fprintf(stderr, "%s%s", why, usage);
    exit(2);
}

static bool parse_number(const char *text, uint64_t *number)
{
    char *end;

    errno = 0;
    *number = strtoumax(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0;
}

static bool parse_pause(const char *text)
{
    char *end;
    double seconds = strtod(text, &end);

    if (end == text || *end != '\0' || !(seconds >= 0 && seconds <= 1e9)) /* nor nan */
        return false;
    pause_time.tv_sec = (time_t)seconds;
    pause_time.tv_nsec = (long)((seconds - (double)pause_time.tv_sec) * 1e9);
    pausing = seconds > 0;
    return true;
}

static void parse_options(int argc, char **argv)
{
    const char *count = NULL, *seconds = "0.1", *seed = NULL;
    struct timespec now;

    for (int option; (option = getopt(argc, argv, "n:i:s:h")) != -1; ) {
        switch (option) {
        case 'n': count = optarg; break;
        case 'i': seconds = optarg; break;
        case 's': seed = optarg; break;
        case 'h': exit(fputs(usage, stdout) == EOF || fflush(stdout) == EOF);
        default: refuse(""); /* getopt has said why */
        }
    }
    if (argc - optind > 1)
        refuse("producer_consumer: one FILE at most\n");
    input = argv[optind];

    if (count == NULL)
        count = input == NULL ? "10" : "0";
    if (!parse_number(count, &limit))
        refuse("producer_consumer: -n wants a whole number\n");
    if (!parse_pause(seconds))
        refuse("producer_consumer: -i wants seconds, from 0 to a billion\n");
    clock_gettime(CLOCK_REALTIME, &now);
    random_state = ((uint64_t)now.tv_sec << 30 ^ (uint64_t)now.tv_nsec) + (uint64_t)getpid();
    if (seed != NULL && !parse_number(seed, &random_state))
        refuse("producer_consumer: -s wants a whole number\n");
}

static void open_input(void)
{
    if (input == NULL)
        return;
    if (strcmp(input, "-") == 0) {
        input = "standard input";
        input_fd = STDIN_FILENO;
    } else if ((input_fd = open(input, O_RDONLY)) == -1) {
        fail(input);
    }
}

int main(int argc, char **argv)
{
    parse_options(argc, argv);
    catch_signals();
    if (pausing)
        setvbuf(stdout, NULL, _IOLBF, BUFSIZ); /* show each line, as on a terminal */
    open_input();

    producer = green_new_with(produce, NULL, &(green_options_t){ .name = "producer" });
    consumer = green_new_with(consume, NULL, &(green_options_t){ .name = "consumer" });
    if (producer == NULL || consumer == NULL)
        fail("green_new_with");
    else if (green_switch(producer, NULL) == GREEN_FAILED
             || green_switch(consumer, NULL) == GREEN_FAILED)
        fail("green_switch");
    if (green_free(producer) == -1 || green_free(consumer) == -1)
        fail("green_free");

    if (fflush(stdout) == EOF)
        fail("standard output");
    if (interrupted) {
        fprintf(stderr, "%" PRIu64 " produced, %" PRIu64 " consumed\n", produced, consumed);
        return 128 + interrupted;
    }
    return status;
}
