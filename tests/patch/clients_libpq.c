/* SPDX-License-Identifier: MIT */
/* PostgreSQL, by libpq. */
#include "clients.h"

#include <libpq-fe.h>

static void *pq_connect(int port)
{
    char info[128];
    snprintf(info, sizeof info, "host=127.0.0.1 port=%d user=green dbname=postgres", port);
    PGconn *connection = PQconnectdb(info);
    if (PQstatus(connection) == CONNECTION_OK)
        return connection;
    why(PQerrorMessage(connection));
    PQfinish(connection);
    return NULL;
}

static int pq_ask(void *connection, int n, int ms)
{
    char number[16], seconds[16];
    const char *const values[] = { number, seconds };
    snprintf(number, sizeof number, "%d", n);
    snprintf(seconds, sizeof seconds, "%d.%03d", ms / 1000, ms % 1000);
    PGresult *result =
        ms == 0 ? PQexecParams(connection, "SELECT 2 * $1::int + 1", 1, NULL, values, NULL, NULL, 0)
                : PQexecParams(connection, "SELECT 2 * $1::int + 1 FROM pg_sleep($2::float8)", 2,
                               NULL, values, NULL, NULL, 0);
    int got = PQresultStatus(result) == PGRES_TUPLES_OK;
    if (got)
        must(PQntuples(result) == 1 && atoi(PQgetvalue(result, 0, 0)) == 2 * n + 1);
    else
        why(PQerrorMessage(connection));
    PQclear(result);
    return got ? 0 : -1;
}

static int pq_move(void *connection, const char *bytes, size_t size)
{
    const int length = (int)size, binary = 1;
    PGresult *result =
        PQexecParams(connection, "SELECT $1::bytea", 1, NULL, &bytes, &length, &binary, 1);
    if (PQresultStatus(result) != PGRES_TUPLES_OK) {
        why(PQerrorMessage(connection));
        PQclear(result);
        return -1;
    }
    must(PQgetlength(result, 0, 0) == length);
    must(sum_of(SUM_START, PQgetvalue(result, 0, 0), size) == sum_of(SUM_START, bytes, size));
    PQclear(result);
    return 0;
}

static pid_t pq_server(void *connection)
{
    return PQbackendPID(connection);
}

static void pq_disconnect(void *connection)
{
    PQfinish(connection);
}

static const char *pq_version(void)
{
    static char text[32];
    snprintf(text, sizeof text, "%d.%d", PQlibVersion() / 10000, PQlibVersion() % 10000);
    return text;
}

static const struct client client = {
    .name = "libpq",
    .version = pq_version,
    .port = "GREEN_POSTGRES_PORT",
    .connect = pq_connect,
    .ask = pq_ask,
    .move = pq_move,
    .server = pq_server,
    .together = true,
    .disconnect = pq_disconnect,
};

#include "clients_tests.h"

/* It has a limit for the connection alone, of two seconds at the least. */
CLIENT_TEST(connect_timeout_is_kept)
{
    char info[128];
    int fds[3], count = 0, port = silent_port(fds);
    green_task_t *ticker = spawn(ticks, &count);
    snprintf(info, sizeof info, "host=127.0.0.1 port=%d user=green connect_timeout=2", port);
    PGconn *connection = PQconnectdb(info);
    assert_int_equal(PQstatus(connection), CONNECTION_BAD);
    assert_non_null(strstr(PQerrorMessage(connection), "timeout expired"));
    cell("timeout", "connect_timeout of 2 s is kept; for a query it has none");
    PQfinish(connection);
    assert_true(count > 3);
    must_be_0(green_task_free(ticker));
    for (int i = 0; i < 3; i++)
        close(fds[i]);
}

static bool has_ended;

/* A query that the server has not begun is not cancelled: again, until it is. */
static void *cancels_by_the_library(void *connection)
{
    char error[256];
    PGcancel *cancel = PQgetCancel(connection);
    while (!has_ended) {
        nap(50);
        must(PQcancel(cancel, error, sizeof error) == 1);
    }
    PQfreeCancel(cancel);
    return NULL;
}

CLIENT_TEST(another_task_cancels_a_query_by_PQcancel)
{
    void *connection = connected();
    has_ended = false;
    green_task_t *task = spawn(cancels_by_the_library, connection);
    assert_int_equal(client.ask(connection, 1, LONG), -1);
    has_ended = true;
    assert_non_null(strstr(clients_why, "canceling statement"));
    finish(task);
    assert_int_equal(client.ask(connection, 1, 0), 0); /* the same connection */
    client.disconnect(connection);
}
