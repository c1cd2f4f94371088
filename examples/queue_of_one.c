/* SPDX-License-Identifier: MIT
 *
 * A producer and a consumer once more, and nobody calls anybody.
 *
 * In producer_consumer.c each switches to the other by name.  Here both are
 * tasks: neither knows of the other, only of the queue between them, which has
 * room for one item.  Who finds it full, or empty, waits, and whoever can go on
 * runs meanwhile; so it is with the pause after each line.
 *
 *     queue_of_one [-n COUNT] [-i SECONDS] [-s SEED]
 *
 *     -n COUNT    stop after COUNT items, 0 = never; 10 unless given
 *     -i SECONDS  pause so long after each line; 0.1 unless given
 *     -s SEED     any whole number; the same one gives the same letters
 */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <green_hub.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static green_queue_t *queue;
static uint64_t limit = 10;
static int64_t pause_time = GREEN_MS(100);
static uint64_t random_state;

/* SplitMix64, as in producer_consumer.c: with the same seed the same letters. */
static char random_letter(void)
{
    uint64_t z = random_state += 0x9e3779b97f4a7c15;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return "abcde"[(z ^ z >> 31) % 5];
}

/* Says what was done, and pauses: the others run. */
static int say(const char *what, char item)
{
    if (printf("%s: %c\n", what, item) < 0)
        return -1;
    return green_sleep(pause_time);
}

static void *produce(void *unused)
{
    (void)unused;
    for (uint64_t i = 0; limit == 0 || i < limit; i++) {
        char item = random_letter();
        if (green_queue_put(queue, &item, GREEN_FOREVER) != 0 || say("Produced", item) != 0)
            return GREEN_FAILED;
    }
    green_queue_close(queue); /* no more will come */
    return NULL;
}

static void *consume(void *unused)
{
    (void)unused;
    for (char item; green_queue_get(queue, &item, GREEN_FOREVER) == 0; )
        if (say("Consumed", item) != 0)
            return GREEN_FAILED;
    return errno == EPIPE ? NULL : GREEN_FAILED; /* EPIPE: closed, and empty */
}

static int parse_number(const char *text, uint64_t *number)
{
    char *end;

    errno = 0;
    *number = strtoumax(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0;
}

static int parse_pause(const char *text)
{
    char *end;
    double seconds = strtod(text, &end);

    if (end == text || *end != '\0' || !(seconds >= 0 && seconds <= 1e9)) /* nor nan */
        return 0;
    pause_time = (int64_t)(seconds * 1e9);
    return 1;
}

int main(int argc, char **argv)
{
    int error = 0, understood = 1;
    green_group_t *group;

    random_state = (uint64_t)time(NULL) << 16 ^ (uint64_t)getpid();
    for (int option; (option = getopt(argc, argv, "n:i:s:")) != -1; )
        understood &= option == 'n'   ? parse_number(optarg, &limit)
                      : option == 'i' ? parse_pause(optarg)
                      : option == 's' ? parse_number(optarg, &random_state)
                                      : 0;
    if (!understood || optind != argc)
        return fprintf(stderr, "usage: queue_of_one [-n COUNT] [-i SECONDS] [-s SEED]\n"), 2;
    setvbuf(stdout, NULL, pause_time > 0 ? _IOLBF : _IOFBF, BUFSIZ);

    queue = green_queue_new(sizeof(char), 1);
    group = green_group_new(0, GREEN_ALL_OR_NONE); /* if one fails, the other ends too */
    if (queue == NULL || group == NULL
        || green_group_spawn_with(group, produce, NULL, &(green_options_t){ .name = "producer" })
        || green_group_spawn_with(group, consume, NULL, &(green_options_t){ .name = "consumer" })
        || green_group_wait(group, &error, GREEN_FOREVER))
        return perror("queue_of_one"), 1;
    errno = error;
    if (error != 0 || fflush(stdout) == EOF)
        return perror("queue_of_one"), 1;
    return green_group_free(group) || green_queue_free(queue) ? 1 : 0;
}
