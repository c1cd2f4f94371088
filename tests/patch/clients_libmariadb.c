/* SPDX-License-Identifier: MIT */
/* MariaDB, by libmariadb. */
#include "clients.h"

#include <errmsg.h>
#include <mysql.h>

static void *maria_connect(int port)
{
    MYSQL *connection = mysql_init(NULL);
    size_t most = (size_t)256 << 20;
    must(connection != NULL);
    mysql_options(connection, MYSQL_OPT_MAX_ALLOWED_PACKET, &most);
    if (mysql_real_connect(connection, "127.0.0.1", "green", NULL, NULL, (unsigned)port, NULL, 0))
        return connection;
    /* In its words there is EINPROGRESS, with and without the patch. */
    why(mysql_errno(connection) == CR_CONNECTION_ERROR ? "refused" : mysql_error(connection));
    mysql_close(connection);
    return NULL;
}

/* The first row's columns, in one row that is the caller's to free by mysql_free_result(). */
static MYSQL_RES *maria_row(MYSQL *connection, const char *query, size_t size, MYSQL_ROW *row)
{
    MYSQL_RES *result;
    if (mysql_real_query(connection, query, size) != 0 ||
        (result = mysql_store_result(connection)) == NULL)
        return why(mysql_error(connection)), NULL;
    *row = mysql_fetch_row(result);
    must(*row != NULL);
    return result;
}

static int maria_ask(void *connection, int n, int ms)
{
    char query[128];
    MYSQL_ROW row;
    snprintf(query, sizeof query, "SELECT 2 * %d + 1, SLEEP(%d.%03d)", n, ms / 1000, ms % 1000);
    MYSQL_RES *result = maria_row(connection, query, strlen(query), &row);
    if (result == NULL)
        return -1;
    must(atoi(row[0]) == 2 * n + 1 && atoi(row[1]) == 0);
    mysql_free_result(result);
    return 0;
}

static int maria_move(void *connection, const char *bytes, size_t size)
{
    MYSQL_ROW row;
    char *query = malloc(size + 16);
    must(query != NULL);
    memcpy(query, "SELECT '", 8);
    memcpy(query + 8, bytes, size);
    query[size + 8] = '\'';
    MYSQL_RES *result = maria_row(connection, query, size + 9, &row);
    free(query);
    if (result == NULL)
        return -1;
    must(mysql_fetch_lengths(result)[0] == size);
    must(sum_of(SUM_START, row[0], size) == sum_of(SUM_START, bytes, size));
    mysql_free_result(result);
    return 0;
}

/* Its limit is of whole seconds, and made before it connects: see below. */

static pid_t maria_server(void *connection)
{
    static const char query[] = "SELECT @@pid_file";
    MYSQL_ROW row;
    MYSQL_RES *result = maria_row(connection, query, strlen(query), &row);
    int pid = 0;
    must(result != NULL);
    FILE *file = fopen(row[0], "r");
    must(file != NULL && fscanf(file, "%d", &pid) == 1);
    fclose(file);
    mysql_free_result(result);
    return pid;
}

static void maria_disconnect(void *connection)
{
    mysql_close(connection);
}

static const char *maria_version(void)
{
    return mysql_get_client_info();
}

static const struct client client = {
    .name = "libmariadb",
    .version = maria_version,
    .port = "GREEN_MARIADB_PORT",
    .connect = maria_connect,
    .ask = maria_ask,
    .move = maria_move,
    .server = maria_server,
    .disconnect = maria_disconnect,
};

#include "clients_tests.h"

CLIENT_TEST(its_limit_for_reading_is_kept)
{
    struct asker asker = { .connection = connected(), .n = 2, .ms = 500 };
    unsigned seconds = 1;
    int64_t begin;
    MYSQL *connection = mysql_init(NULL);
    must_be_0(mysql_options(connection, MYSQL_OPT_READ_TIMEOUT, &seconds));
    must(mysql_real_connect(connection, "127.0.0.1", "green", NULL, NULL, (unsigned)the_port(),
                            NULL, 0) != NULL);
    begin = green_now();
    green_task_t *task = spawn(asks, &asker);
    assert_int_equal(client.ask(connection, 1, LONG), -1);
    cell("timeout", "MYSQL_OPT_READ_TIMEOUT of 1 s: after %.3f s", seconds_since(begin));
    assert_true(green_now() - begin >= GREEN_MS(900));
    assert_true(green_now() - begin < GREEN_MS(LONG));
    finish(task);
    assert_true(asker.answered);
    client.disconnect(connection);
    client.disconnect(asker.connection);
}

CLIENT_TEST(its_limit_for_connecting_is_kept)
{
    int fds[3], count = 0, port = silent_port(fds);
    unsigned seconds = 1;
    green_task_t *ticker = spawn(ticks, &count);
    MYSQL *connection = mysql_init(NULL);
    must_be_0(mysql_options(connection, MYSQL_OPT_CONNECT_TIMEOUT, &seconds));
    assert_null(mysql_real_connect(connection, "127.0.0.1", "green", NULL, NULL, (unsigned)port,
                                   NULL, 0));
    mysql_close(connection);
    assert_true(count > 3);
    must_be_0(green_task_free(ticker));
    for (int i = 0; i < 3; i++)
        close(fds[i]);
}
