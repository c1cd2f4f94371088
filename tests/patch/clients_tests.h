/* SPDX-License-Identifier: MIT */
#ifndef CLIENTS_TESTS_H
#define CLIENTS_TESTS_H
/* The tests; see clients.h. */

static const struct client client;

enum { TASKS = 20, LONG = 60000 };

/* ---- Fixture --------------------------------------------------------------------- */

static inline int clients_begin(void **state)
{
    (void)state;
    if (hubs_begin_with(0) != 0)
        return -1;
    alarm((unsigned)times(100, 290));
    must(green_patch(GREEN_PATCH_WAIT | GREEN_PATCH_IO | GREEN_PATCH_NAMES) == 0);
    return 0;
}

static inline int clients_end(void **state)
{
    assert_int_equal(green_patch(0), GREEN_PATCH_WAIT | GREEN_PATCH_IO | GREEN_PATCH_NAMES);
    return hubs_end(state);
}

/* What was seen of a cell of the README's table, in a line. */
#define cell(column, ...)                                         \
    do {                                                          \
        char text[256];                                           \
        snprintf(text, sizeof text, __VA_ARGS__);                 \
        print_message("cell: %s %s | %s | %s\n", client.name,     \
                      client.version(), column, text);            \
    } while (0)

/* Of why it failed. */
static inline void first_line(char line[128])
{
    snprintf(line, 128, "%.*s", (int)strcspn(clients_why, "\n"), clients_why);
}

static inline double seconds_since(int64_t begin)
{
    return (double)(green_now() - begin) / 1e9;
}

/* Of what is repeated: that number of the environment, else this. */
static inline int asked_for(const char *variable, int number)
{
    const char *text = getenv(variable);
    return text != NULL && atoi(text) > 0 ? atoi(text) : number;
}

#define CLIENT_TEST(sentence) TEST_WITH(sentence, clients_begin, clients_end)

static inline int the_port(void)
{
    const char *port = getenv(client.port);
    must(port != NULL);
    return atoi(port);
}

/* A connection, whatever it takes: the server may just be starting. */
static inline void *connected(void)
{
    void *connection;
    while ((connection = client.connect(the_port())) == NULL)
        must_be_0(usleep(50000));
    return connection;
}

/* ---- Askers: tasks with a connection --------------------------------------------- */

struct asker {
    void *connection; /* made by it if NULL, and closed in the end */
    int n, ms;
    int answered; /* it was */
    int error;    /* else, what green_task_check() said then */
    int64_t time; /* that it took */
    pid_t server;
};

/* How many are inside a call of the library's, and how many there were at most. */
static int inside, most_inside;

static inline void enter(void)
{
    if (++inside > most_inside)
        most_inside = inside;
}

static inline void *asks(void *arg)
{
    struct asker *asker = arg;
    int64_t begin = green_now();
    enter();
    asker->answered = client.ask(asker->connection, asker->n, asker->ms) == 0;
    asker->error = green_task_check() == 0 ? 0 : errno;
    inside--;
    asker->time = green_now() - begin;
    return NULL;
}

static inline void *connects_and_asks(void *arg)
{
    struct asker *asker = arg;
    asker->connection = connected();
    asker->server = client.server == NULL ? 0 : client.server(asker->connection);
    asks(asker);
    client.disconnect(asker->connection);
    return NULL;
}

/* Runs a task for each of n askers, to their ends: nanoseconds. */
static inline int64_t run_askers(green_fn *run, struct asker *askers, int n)
{
    green_task_t *task[TASKS];
    int64_t begin = green_now();
    must(inside == 0);
    most_inside = 0;
    for (int i = 0; i < n; i++)
        task[i] = spawn(run, &askers[i]);
    for (int i = 0; i < n; i++)
        finish(task[i]);
    return green_now() - begin;
}

/* Counts turns, while others wait. */
static inline void *ticks(void *count)
{
    while (green_sleep(GREEN_MS(1)) == 0)
        ++*(int *)count;
    return NULL;
}

/* It works: what a test ends with. */
static inline void assert_works(void)
{
    void *connection = connected();
    assert_int_equal(client.ask(connection, 4711, 0), 0);
    client.disconnect(connection);
}

/* In the end it works: a server that comes back may end first what has just connected. */
static inline void works_again(void)
{
    for (int error = -1; error != 0;) {
        void *connection = connected();
        error = client.ask(connection, 4711, 0);
        client.disconnect(connection);
    }
}

/* ---- Tests ------------------------------------------------------------------------ */

TEST(calls_of_the_library_come_to_the_patch)
{
    const char *missing = NULL;
    if (green_patch_check(&missing) != 0)
        fail_msg("%s does not", missing);
}

/*
 * How many were served at a time, on average: 1 if one waited for the other.  On a machine
 * that is busy one alone may take as long as it likes, and twenty take longer.
 */
CLIENT_TEST(twenty_queries_are_served_side_by_side)
{
    struct asker askers[TASKS];
    int64_t one = 0, all = 0, sum = 0;
    memset(askers, 0, sizeof askers);
    for (int i = 0; i < TASKS; i++) {
        askers[i].connection = connected();
        askers[i].n = i * 1000;
        askers[i].ms = client.think != 0 ? client.think : 200;
    }
    for (int tries = 0; tries < 3 && (tries == 0 || all >= 3 * one); tries++) {
        one = run_askers(asks, askers, 1);
        all = run_askers(asks, askers, TASKS);
        sum = 0;
        for (int i = 0; i < TASKS; i++) {
            assert_true(askers[i].answered);
            sum += askers[i].time;
        }
        assert_int_equal(most_inside, TASKS);
        assert_true(sum > 4 * all);
    }
    cell("query", "one in %.3f s, %d in %.3f s: %.2f times, %.1f at a time", (double)one / 1e9, TASKS,
         (double)all / 1e9, (double)all / (double)one, (double)sum / (double)all);
    for (int i = 0; i < TASKS; i++)
        client.disconnect(askers[i].connection);
}

CLIENT_TEST(twenty_connect_each_for_itself)
{
    struct asker askers[TASKS];
    memset(askers, 0, sizeof askers);
    for (int i = 0; i < TASKS; i++) {
        askers[i].n = i;
        askers[i].ms = 100;
    }
    run_askers(connects_and_asks, askers, TASKS);
    for (int i = 0; i < TASKS; i++)
        if (!askers[i].answered)
            fail_msg("%s", clients_why);
    assert_true(most_inside > 1);
    cell("connect", "%d of %d were in it at a time", most_inside, TASKS);
}

/* A port at which a connection is never made, or never served. */
static inline int silent_port(int fds[3])
{
    struct sockaddr_in address = { .sin_family = AF_INET };
    socklen_t length = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    fds[0] = socket(AF_INET, SOCK_STREAM, 0);
    must(fds[0] >= 0 && bind(fds[0], (struct sockaddr *)&address, length) == 0);
    must(listen(fds[0], 0) == 0 && getsockname(fds[0], (struct sockaddr *)&address, &length) == 0);
    for (int i = 1; i < 3; i++) { /* there is room for one */
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        must(fds[i] >= 0);
        must(connect(fds[i], (struct sockaddr *)&address, length) == 0 || errno == EINPROGRESS);
    }
    await_full(fds[0]);
    return ntohs(address.sin_port);
}

CLIENT_TEST(to_connect_waits_as_a_task_and_has_a_limit)
{
    int fds[3], count = 0, port = silent_port(fds);
    green_task_t *ticker = spawn(ticks, &count);
    int64_t time = GREEN_MS(300);
    do { /* until the others have run, too */
        green_scope_t limit;
        must_be_0(green_scope_begin(&limit, time, 0));
        assert_null(client.connect(port));
        assert_int_equal(green_scope_end(&limit), 1);
        time *= 2;
    } while (count <= 3);
    must_be_0(green_task_free(ticker));
    for (int i = 0; i < 3; i++)
        close(fds[i]);
    assert_works();
    cell("connect", "where nobody answers others run, and the end of a scope ends it");
}

static inline void *connects(void *port)
{
    void *connection = client.connect((int)(intptr_t)port);
    if (connection == NULL)
        return NULL;
    client.disconnect(connection);
    return V(1);
}

CLIENT_TEST(a_cancel_ends_a_connect)
{
    int fds[3], port = silent_port(fds);
    green_task_t *task = spawn(connects, V(port));
    nap(50);
    must_be_0(green_task_cancel(task));
    assert_null(finish(task));
    for (int i = 0; i < 3; i++)
        close(fds[i]);
    assert_works();
    cell("connect", "a cancel ends it");
}

CLIENT_TEST(a_refused_connection_is_an_error)
{
    /* The port of a socket that does not listen. */
    struct sockaddr_in address = { .sin_family = AF_INET };
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    must(fd >= 0 && bind(fd, (struct sockaddr *)&address, length) == 0);
    must(getsockname(fd, (struct sockaddr *)&address, &length) == 0);
    assert_null(client.connect(ntohs(address.sin_port)));
    if (strcasestr(clients_why, "refused") == NULL)
        fail_msg("it says: %s", clients_why);
    char said[128];
    first_line(said);
    close(fd);
    assert_works();
    cell("connect", "refused: %s", said);
}

CLIENT_TEST(a_cancel_in_the_middle_ends_the_call_and_no_other)
{
    static const int after[] = { 0, 1, 5, 20, 100 };
    for (int i = 0; i < 5; i++) {
        struct asker askers[2] = { { .n = 1, .ms = LONG }, { .n = 2, .ms = 300 } };
        green_task_t *task[2];
        for (int j = 0; j < 2; j++) {
            askers[j].connection = connected();
            task[j] = spawn(asks, &askers[j]);
        }
        if (after[i] > 0)
            nap(after[i]);
        must_be_0(green_task_cancel(task[0]));
        finish(task[0]);
        assert_false(askers[0].answered);
        assert_int_equal(askers[0].error, ECANCELED);
        finish(task[1]);
        assert_true(askers[1].answered);
        client.disconnect(askers[0].connection);
        client.disconnect(askers[1].connection);
    }
    assert_works();
    cell("cancel", "at 5 moments: ECANCELED, and another task has its answer");
}

CLIENT_TEST(a_cancelled_task_cleans_up_by_itself)
{
    struct asker asker = { .n = 1, .ms = LONG };
    green_task_t *task = spawn(connects_and_asks, &asker);
    while (inside == 0)
        nap(1);
    nap(20);
    must_be_0(green_task_free(task));
    assert_false(asker.answered);
    assert_works();
    cell("cancel", "the library cleans up, and works afterwards");
}

CLIENT_TEST(a_scope_ends_the_call)
{
    void *connection = connected();
    int64_t begin = green_now();
    green_scope_t limit;
    must_be_0(green_scope_begin(&limit, GREEN_MS(100), 0));
    assert_int_equal(client.ask(connection, 1, LONG), -1);
    assert_int_equal(green_scope_end(&limit), 1);
    double took = seconds_since(begin);
    assert_true(green_now() - begin >= GREEN_MS(100));
    client.disconnect(connection);
    assert_works();
    cell("timeout", "a scope of 0.100 s: ETIMEDOUT after %.3f s", took);
}

CLIENT_TEST(the_librarys_own_limit_is_kept)
{
    struct asker asker = { .n = 2, .ms = 100 };
    void *connection = connected();
    green_task_t *task;
    int64_t begin;
    if (client.limit == NULL) {
        print_message("none that could be set now\n");
        client.disconnect(connection);
        return;
    }
    asker.connection = connected();
    assert_int_equal(client.limit(connection, 300), 0);
    begin = green_now();
    task = spawn(asks, &asker);
    assert_int_equal(client.ask(connection, 1, LONG), -1);
    assert_true(green_now() - begin >= GREEN_MS(250));
    assert_true(green_now() - begin < GREEN_MS(LONG));
    double took = seconds_since(begin);
    finish(task);
    assert_true(asker.answered);
    client.disconnect(connection);
    client.disconnect(asker.connection);
    assert_works();
    cell("timeout", "its own limit of 0.300 s: after %.3f s", took);
}

CLIENT_TEST(the_servers_death_ends_the_call)
{
    struct asker asker = { .n = 1, .ms = LONG };
    void *other = client.together ? connected() : NULL;
    green_task_t *task = spawn(connects_and_asks, &asker);
    while (inside == 0)
        nap(1);
    nap(50);
    must(asker.server > 1);
    must_be_0(kill(asker.server, SIGKILL));
    finish(task);
    char said[128];
    assert_false(asker.answered);
    assert_int_equal(asker.error, 0);
    first_line(said);
    if (other != NULL) {
        while (client.ask(other, 1, 0) == 0)
            nap(20);
        client.disconnect(other);
    }
    works_again();
    cell("server death", "the call fails: %s", said);
}

/* ---- Much ------------------------------------------------------------------------- */

static inline void *asks_often(void *arg)
{
    struct asker *asker = arg;
    void *connection = connected();
    for (int i = 0; i < asker->n; i++)
        must_be_0(client.ask(connection, i, 0));
    client.disconnect(connection);
    return NULL;
}

/* n queries of one connection, and a tenth of it by twenty beside each other, twice. */
static inline void ask_much(int n)
{
    struct asker askers[TASKS];
    memset(askers, 0, sizeof askers);
    for (int i = 0; i < TASKS; i++)
        askers[i].n = n / TASKS / 10 > 0 ? n / TASKS / 10 : 1;
    run_askers(asks_often, askers, TASKS);
    run_askers(asks_often, askers, TASKS);
    askers[0].n = n;
    run_askers(asks_often, askers, 1);
}

CLIENT_TEST(ten_thousand_queries_leave_nothing_behind)
{
    int n = asked_for("GREEN_CLIENTS_QUERIES", times(10000, 200));
    ask_much(n / 10 > 200 ? n / 10 : 200);
    int64_t begin = green_now();
    int descriptors = hubs_descriptors();
    size_t allocated = mallinfo2().uordblks;
    size_t tasks = hub_stat(tasks);
    ask_much(n);
    double took = seconds_since(begin);
    assert_int_equal(hubs_descriptors(), descriptors);
    assert_int_equal(hub_stat(tasks), tasks);
    assert_int_equal(hub_stat(descriptors), 0);
    assert_int_equal(hub_stat(timers), 0);
    /* With 10,000, 32 bytes of each query would be ten times as much. */
    assert_true(mallinfo2().uordblks < allocated + 32768);
    cell("query", "%d in a row, a fifth of it more by %d tasks, in %.1f s, leave nothing behind", n,
         TASKS, took);
}

CLIENT_TEST(sixty_four_megabytes_there_and_back)
{
    int megabytes = times(64, 4);
    size_t size = (size_t)megabytes << 20;
    char *bytes = malloc(size);
    uint32_t random = 1;
    int count = 0;
    void *connection = connected();
    green_task_t *ticker;
    must(bytes != NULL);
    for (size_t i = 0; i < size; i++) {
        random = random * 1664525 + 1013904223;
        bytes[i] = (char)('0' + (random >> 26)); /* to 'o': what needs no quotes anywhere */
        if (bytes[i] == '\\')
            bytes[i] = 'z';
    }
    ticker = spawn(ticks, &count);
    int64_t begin = green_now();
    assert_int_equal(client.move(connection, bytes, size), 0);
    double took = seconds_since(begin);
    assert_true(count > 3);
    cell("big data", "%d MB there and back in %.2f s, meanwhile another task had %d turns", megabytes,
         took, count);
    must_be_0(green_task_free(ticker));
    client.disconnect(connection);
    free(bytes);
}

int main(void)
{
    if (getenv(client.port) == NULL) {
        printf("skipped: %s is not set: run it by servers.sh\n", client.port);
        return 77;
    }
    signal(SIGPIPE, SIG_IGN);
    /* What the library makes at its first use is not the patch's. */
    void *connection = connected();
    must_be_0(client.ask(connection, 1, 0));
    client.disconnect(connection);
    return run_all_tests();
}

#endif
