/* SPDX-License-Identifier: MIT */
/* Redis, by hiredis. */
#include "clients.h"

#include <sys/time.h>

#include <hiredis/hiredis.h>

static void *redis_connect(int port)
{
    redisContext *connection = redisConnect("127.0.0.1", port);
    must(connection != NULL);
    if (connection->err == 0) {
        /* While it loads it answers otherwise; after its death nothing is heard but this. */
        redisReply *reply = redisCommand(connection, "PING");
        if (reply != NULL && reply->type == REDIS_REPLY_STATUS) {
            freeReplyObject(reply);
            return connection;
        }
        if (reply != NULL)
            freeReplyObject(reply);
    }
    why(connection->errstr);
    redisFree(connection);
    return NULL;
}

static int redis_ask(void *connection, int n, int ms)
{
    redisContext *context = connection;
    redisReply *reply;
    if (ms > 0) {
        reply = redisCommand(context, "BLPOP nothing:%d %d.%03d", n, ms / 1000, ms % 1000);
        if (reply == NULL)
            return why(context->errstr), -1;
        must(reply->type == REDIS_REPLY_NIL);
        freeReplyObject(reply);
    }
    reply = redisCommand(context, "EVAL %s 0 %d", "return 2 * ARGV[1] + 1", n);
    if (reply == NULL)
        return why(context->errstr), -1;
    must(reply->type == REDIS_REPLY_INTEGER && reply->integer == 2 * n + 1);
    freeReplyObject(reply);
    return 0;
}

static int redis_move(void *connection, const char *bytes, size_t size)
{
    redisReply *reply = redisCommand(connection, "SET big %b", bytes, size);
    if (reply == NULL)
        return -1;
    must(reply->type == REDIS_REPLY_STATUS);
    freeReplyObject(reply);
    reply = redisCommand(connection, "GET big");
    if (reply == NULL)
        return -1;
    must(reply->type == REDIS_REPLY_STRING && (size_t)reply->len == size);
    must(sum_of(SUM_START, reply->str, size) == sum_of(SUM_START, bytes, size));
    freeReplyObject(reply);
    reply = redisCommand(connection, "DEL big");
    must(reply != NULL && reply->integer == 1);
    freeReplyObject(reply);
    return 0;
}

static int redis_limit(void *connection, int ms)
{
    struct timeval time = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };
    return redisSetTimeout(connection, time);
}

static pid_t redis_server(void *connection)
{
    redisReply *reply = redisCommand(connection, "INFO server");
    must(reply != NULL && reply->type == REDIS_REPLY_STRING);
    const char *at = strstr(reply->str, "process_id:");
    must(at != NULL);
    pid_t pid = atoi(at + strlen("process_id:"));
    freeReplyObject(reply);
    return pid;
}

static void redis_disconnect(void *connection)
{
    redisFree(connection);
}

/* It has no call for that: of the header. */
static const char *redis_version(void)
{
    static char text[32];
    snprintf(text, sizeof text, "%d.%d.%d", HIREDIS_MAJOR, HIREDIS_MINOR, HIREDIS_PATCH);
    return text;
}

static const struct client client = {
    .name = "hiredis",
    .version = redis_version,
    .port = "GREEN_REDIS_PORT",
    .connect = redis_connect,
    .ask = redis_ask,
    .move = redis_move,
    .limit = redis_limit,
    .server = redis_server,
    .disconnect = redis_disconnect,
};

#include "clients_tests.h"

static void *pushes(void *unused)
{
    redisContext *connection = connected();
    (void)unused;
    redisReply *reply = redisCommand(connection, "RPUSH line word");
    must(reply != NULL);
    freeReplyObject(reply);
    redisFree(connection);
    return NULL;
}

CLIENT_TEST(one_task_waits_in_BLPOP_for_what_another_pushes)
{
    redisContext *connection = connected();
    green_task_t *task = spawn(pushes, NULL);
    redisReply *reply = redisCommand(connection, "BLPOP line 60");
    assert_non_null(reply);
    assert_int_equal(reply->elements, 2);
    assert_string_equal(reply->element[1]->str, "word");
    freeReplyObject(reply);
    redisFree(connection);
    finish(task);
}

CLIENT_TEST(its_limit_for_connecting_is_kept)
{
    int fds[3], count = 0, port = silent_port(fds);
    green_task_t *ticker = spawn(ticks, &count);
    redisContext *context =
        redisConnectWithTimeout("127.0.0.1", port, (struct timeval){ .tv_usec = 200000 });
    assert_non_null(context);
    assert_int_equal(context->err, REDIS_ERR_IO);
    assert_non_null(strstr(context->errstr, "timed out"));
    redisFree(context);
    assert_true(count > 3);
    must_be_0(green_task_free(ticker));
    for (int i = 0; i < 3; i++)
        close(fds[i]);
}
