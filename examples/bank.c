/* SPDX-License-Identifier: MIT
 *
 * A day at the bank, in no time: a simulation in which each customer is a task.
 *
 * Ten thousand come in the course of a day, most of them about noon, and wait in
 * line for one of the tellers; whose patience ends, leaves.  All of them and the
 * tellers are tasks, written down as one would tell it.  The line is a queue with
 * room for none, so that a put waits until a teller takes it, and the hub's
 * virtual time jumps from one event to the next.
 *
 *     bank [-c CUSTOMERS] [-t TELLERS] [-s SEED]     10000, 60 and 1 unless given
 */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <green_hub.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { OPENS = 9, HOURS = 8 };

#define MINUTES(n) GREEN_SEC(60 * (int64_t)(n))
#define HOUR MINUTES(60)
#define PATIENCE MINUTES(15)

struct customer {
    int64_t comes, takes;   /* when, after the bank has opened; how long at the counter */
    green_event_t served;
};

/* Of those who came in an hour. */
static struct hour {
    int64_t came, served, waited, longest;
} hours[HOURS];

static green_queue_t *line;
static uint64_t random_state = 1;

static int64_t random_below(int64_t limit)
{
    uint64_t z = random_state += 0x9e3779b97f4a7c15; /* SplitMix64 */

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return (int64_t)((z ^ z >> 31) % (uint64_t)limit);
}

static void *visit(void *arg)
{
    struct customer *me = arg;
    struct hour *hour = &hours[me->comes / HOUR];
    int64_t came, waited;

    if (green_sleep(me->comes) != 0)
        return GREEN_FAILED;
    came = green_now();
    hour->came++;
    if (green_queue_put(line, &me, PATIENCE) != 0)
        return errno == ETIMEDOUT || errno == EPIPE ? NULL : GREEN_FAILED; /* or it has closed */
    waited = green_now() - came;
    hour->served++;
    hour->waited += waited;
    if (waited > hour->longest)
        hour->longest = waited;
    return green_event_wait(&me->served, GREEN_FOREVER) == 0 ? NULL : GREEN_FAILED;
}

static void *serve(void *unused)
{
    struct customer *customer;

    (void)unused;
    while (green_queue_get(line, &customer, GREEN_FOREVER) == 0)
        if (green_sleep(customer->takes) != 0 || green_event_set(&customer->served) != 0)
            return GREEN_FAILED;
    return errno == EPIPE ? NULL : GREEN_FAILED; /* EPIPE: closed, and nobody there */
}

static void *lock_up(void *unused)
{
    (void)unused;
    return green_sleep(HOURS * HOUR) == 0 && green_queue_close(line) == 0 ? NULL : GREEN_FAILED;
}

static int spawn(green_group_t *group, const char *name, green_fn *run, void *arg)
{
    green_options_t options = { .name = name, .stack_size = 16 << 10 };

    return green_group_spawn_with(group, run, arg, &options);
}

/* A line of the table. */
static void print(const char *from, const struct hour *hour)
{
    int64_t mean = hour->served > 0 ? hour->waited / hour->served : 0;

    printf("%5s %6" PRId64 " %6" PRId64 " %6" PRId64 " %6.1f min %6.1f min\n", from, hour->came,
           hour->served, hour->came - hour->served, (double)(mean / GREEN_MS(1)) / 6e4,
           (double)(hour->longest / GREEN_MS(1)) / 6e4);
}

int main(int argc, char **argv)
{
    int n = 10000, tellers = 60, error = 0;
    struct customer *customers;
    struct hour day = { 0 };
    char from[16];
    green_group_t *group;

    for (int option; (option = getopt(argc, argv, "c:t:s:")) != -1; ) {
        switch (option) {
        case 'c': n = atoi(optarg); break;
        case 't': tellers = atoi(optarg); break;
        case 's': random_state = strtoumax(optarg, NULL, 10); break;
        default: n = 0;
        }
    }
    if (n < 1 || tellers < 1 || optind != argc)
        return fprintf(stderr, "usage: bank [-c CUSTOMERS] [-t TELLERS] [-s SEED]\n"), 2;

    if (green_hub_init(&(green_hub_options_t){ .flags = GREEN_HUB_VIRTUAL_TIME }) != 0
        || (line = green_queue_new(sizeof(struct customer *), 0)) == NULL
        || (group = green_group_new(0, GREEN_ALL_OR_NONE)) == NULL
        || (customers = calloc((size_t)n, sizeof *customers)) == NULL)
        return perror("bank"), 1;
    for (int i = 0; i < n; i++) {
        /* The mean of two of them is more often about the middle of the day. */
        customers[i].comes = (random_below(HOURS * HOUR) + random_below(HOURS * HOUR)) / 2;
        customers[i].takes = MINUTES(1) + random_below(MINUTES(2));
        if (spawn(group, "customer", visit, &customers[i]) != 0)
            return perror("bank"), 1;
    }
    for (int i = 0; i < tellers; i++)
        if (spawn(group, "teller", serve, NULL) != 0)
            return perror("bank"), 1;
    if (spawn(group, "porter", lock_up, NULL) != 0
        || green_group_wait(group, &error, GREEN_FOREVER) != 0 || (errno = error) != 0)
        return perror("bank"), 1;

    printf(" from   came served   left  mean wait    longest\n");
    for (int i = 0; i < HOURS; i++) {
        snprintf(from, sizeof from, "%d:00", OPENS + i);
        print(from, &hours[i]);
        day.came += hours[i].came;
        day.served += hours[i].served;
        day.waited += hours[i].waited;
        if (hours[i].longest > day.longest)
            day.longest = hours[i].longest;
    }
    print("all", &day);
    free(customers);
    if (fflush(stdout) == EOF || green_group_free(group) != 0 || green_queue_free(line) != 0)
        return perror("bank"), 1;
    return 0;
}
