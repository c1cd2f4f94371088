/* SPDX-License-Identifier: MIT
 *
 * Twenty queries against PostgreSQL, side by side, by libpq as it is: its calls wait as tasks
 * do, because of green_patch().  On a terminal a line says how far they are.
 *
 *     queries [-n QUERIES] CONNECTION             "host=127.0.0.1 user=me dbname=postgres"
 *
 * Each query takes 0.2 s in the server, and so do all of them together.  1 if any failed.
 */
#define _POSIX_C_SOURCE 200809L

#include <green_hub.h>
#include <green_patch.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *info;
static long ended, failed, sum;

/* The square of a number, which the server takes its time for. */
static long square(PGconn *connection, const char *number)
{
    PGresult *result = PQexecParams(connection, "SELECT $1::int * $1::int FROM pg_sleep(0.2)", 1,
                                    NULL, &number, NULL, NULL, 0);
    long value = PQresultStatus(result) == PGRES_TUPLES_OK ? atol(PQgetvalue(result, 0, 0)) : -1;

    PQclear(result);
    return value;
}

/* Nothing here knows of tasks. */
static void *query(void *number)
{
    PGconn *connection = PQconnectdb(info);
    long value = PQstatus(connection) == CONNECTION_OK ? square(connection, number) : -1;

    if (value < 0) {
        fprintf(stderr, "queries: %s: %s", (char *)number, PQerrorMessage(connection));
        failed++;
    } else {
        sum += value;
    }
    PQfinish(connection);
    ended++;
    return NULL;
}

int main(int argc, char **argv)
{
    long n = 20;
    char (*numbers)[24];
    const char *missing = "";
    int terminal = isatty(STDERR_FILENO);
    int64_t begin;
    green_group_t *group = green_group_new(20, 0); /* so many connections at a time */

    for (int option; (option = getopt(argc, argv, "n:")) != -1; )
        n = option == 'n' ? atol(optarg) : 0;
    if (n < 1 || n > 10000 || optind != argc - 1)
        return fprintf(stderr, "usage: queries [-n QUERIES] CONNECTION\n"), 2;
    info = argv[optind];
    numbers = calloc((size_t)n, sizeof *numbers);
    if (numbers == NULL || group == NULL || green_patch(GREEN_PATCH_WAIT | GREEN_PATCH_NAMES) == -1)
        return perror("queries"), 1;
    if (green_patch_check(&missing) == -1)
        return fprintf(stderr, "queries: the patch does not see %s\n", missing), 1;

    begin = green_now();
    for (long i = 0; i < n; i++) {
        snprintf(numbers[i], sizeof numbers[i], "%ld", i + 1);
        if (green_group_spawn(group, query, numbers[i]) != 0)
            return perror("green_group_spawn"), 1;
    }
    do {
        if (terminal)
            fprintf(stderr, "\r%ld of %ld, after %.1f s", ended, n, (double)(green_now() - begin) / 1e9);
    } while (green_group_wait(group, NULL, GREEN_MS(50)) != 0);
    if (terminal)
        fprintf(stderr, "\r%ld of %ld, after %.1f s\n", ended, n, (double)(green_now() - begin) / 1e9);

    green_group_free(group);
    free(numbers);
    printf("%ld of %ld, the sum of the squares is %ld\n", n - failed, n, sum);
    if (fflush(stdout) == EOF)
        return perror("queries"), 1;
    return failed > 0;
}
