/* SPDX-License-Identifier: MIT */
/*
 * Names and the addresses behind them, with a getaddrinfo() that says what the test wants:
 * green_getaddrinfo(), and the race of green_tcp_connect() (RFC 8305).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <time.h>

#include "hubs.h"

#define THREADS 4 /* of the pool, see main(): two look-ups at a time */

/* ---- The libc of this program ------------------------------------------------------------ */

enum { MOST = 24 };

static sem_t gate, begun;
static pthread_t hub_thread;
static struct sockaddr_storage answer[MOST]; /* what names and addresses stand for */
static int answers;
static atomic_int lists, looking, most_looking, in_hub_thread;

int getaddrinfo(const char *restrict node, const char *restrict service,
                const struct addrinfo *restrict hints, struct addrinfo **restrict list)
{
    int now = ++looking, result = 0;
    for (int seen = most_looking; now > seen;)
        if (atomic_compare_exchange_weak(&most_looking, &seen, now))
            break;
    in_hub_thread += pthread_equal(pthread_self(), hub_thread) != 0;
    if (node != NULL && strncmp(node, "slow", 4) == 0) {
        sem_post(&begun);
        while (sem_wait(&gate) != 0)
            continue;
    }
    looking--;
    if (node != NULL && strcmp(node, "unknown") == 0)
        result = EAI_NONAME;
    else if (node != NULL && strcmp(node, "again") == 0)
        result = EAI_AGAIN;
    else if (node != NULL && strcmp(node, "system") == 0)
        result = EAI_SYSTEM;
    else if (service != NULL && strcmp(service, "unknown") == 0)
        result = EAI_SERVICE;
    if (result != 0) {
        errno = EIO;
        return result;
    }
    *list = NULL;
    for (int i = answers; i-- > 0;) {
        struct addrinfo *one = calloc(1, sizeof *one);
        must(one != NULL);
        one->ai_family = answer[i].ss_family;
        one->ai_socktype = hints != NULL ? hints->ai_socktype : 0;
        one->ai_addr = (struct sockaddr *)&answer[i];
        one->ai_addrlen = answer[i].ss_family == AF_INET ? sizeof(struct sockaddr_in)
                                                         : sizeof(struct sockaddr_in6);
        one->ai_next = *list;
        *list = one;
    }
    lists++;
    return 0;
}

void freeaddrinfo(struct addrinfo *list)
{
    lists--;
    for (struct addrinfo *next; list != NULL; list = next) {
        next = list->ai_next;
        free(list);
    }
}

/* ---- Fixture -------------------------------------------------------------------------------- */

static int begin(unsigned flags)
{
    hub_thread = pthread_self();
    sem_init(&gate, 0, 0);
    sem_init(&begun, 0, 0);
    answers = 0;
    looking = most_looking = in_hub_thread = 0;
    return hubs_begin_with(flags);
}

static int begin_virtual(void **state)
{
    (void)state;
    return begin(GREEN_HUB_VIRTUAL_TIME);
}

static int begin_world(void **state)
{
    (void)state;
    return begin(0);
}

static int end(void **state)
{
    while (looking != 0 || lists != 0) /* those that nobody waited for */
        nanosleep(&(struct timespec){ 0, 100000 }, NULL);
    return hubs_end(state);
}

#define NAME_TEST(sentence) TEST_WITH(sentence, begin_world, end)
#define RACE_TEST(sentence) TEST_WITH(sentence, begin_virtual, end)

static void wait_sem(sem_t *sem)
{
    while (sem_wait(sem) != 0)
        continue;
}

/* ---- Look-ups -------------------------------------------------------------------------------- */

static int look_up(const char *node)
{
    struct addrinfo *list = NULL;
    int result = green_getaddrinfo(node, "80", NULL, &list);
    if (result == 0)
        freeaddrinfo(list);
    return result;
}

static void *look_up_in_task(void *node)
{
    return V(look_up(node));
}

NAME_TEST(a_name_is_looked_up_in_a_thread_an_address_in_none)
{
    static const char *const addresses[] = { "127.0.0.1", "::1", "fe80::1%lo", "127.1",
                                             "0x7f000001", "1.2.3.4", "::ffff:1.2.3.4" };
    static const char *const names[] = { "localhost", "cafe", "1.2.3.4.5", "127.1 x",
                                         "", "example.org%lo", "1.example" };
    const struct addrinfo numeric = { .ai_flags = AI_NUMERICHOST };
    struct addrinfo *list;
    for (size_t i = 0; i < sizeof addresses / sizeof addresses[0]; i++) {
        in_hub_thread = 0;
        assert_int_equal(look_up(addresses[i]), 0);
        assert_int_equal(in_hub_thread, 1);
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        in_hub_thread = 0;
        assert_int_equal(look_up(names[i]), 0);
        assert_int_equal(in_hub_thread, 0);
    }
    assert_int_equal(look_up(NULL), 0);
    assert_int_equal(in_hub_thread, 1);
    assert_int_equal(green_getaddrinfo("localhost", NULL, &numeric, &list), 0);
    freeaddrinfo(list);
    assert_int_equal(in_hub_thread, 2);
}

NAME_TEST(what_it_returns_comes_back_with_errno)
{
    struct addrinfo *list;
    assert_int_equal(look_up("unknown"), EAI_NONAME);
    assert_int_equal(look_up("again"), EAI_AGAIN);
    errno = 0;
    assert_int_equal(look_up("system"), EAI_SYSTEM);
    assert_int_equal(errno, EIO);
    errno = 0;
    assert_int_equal(green_getaddrinfo("localhost", NULL, NULL, NULL), EAI_SYSTEM);
    assert_int_equal(errno, EINVAL);
    errno = E1;
    assert_int_equal(green_getaddrinfo("localhost", NULL, NULL, &list), 0);
    assert_int_equal(errno, E1);
    freeaddrinfo(list);
}

/* In virtual time, so that the scope is not over before the look-up has begun. */
RACE_TEST(arguments_need_not_outlive_a_wait_that_ended)
{
    char *node = strdup("slow"), *service = strdup("80");
    struct addrinfo *hints = calloc(1, sizeof *hints), *list = NULL;
    GREEN_SCOPE(limit, GREEN_MS(1), 0);
    assert_int_equal(green_getaddrinfo(node, service, hints, &list), EAI_SYSTEM);
    assert_int_equal(errno, ETIMEDOUT);
    assert_int_equal(green_scope_end(&limit), 1);
    free(node);
    free(service);
    free(hints);
    sem_post(&gate);
    wait_sem(&begun);
    while (lists != 0 || looking != 0)
        nap(1);
    assert_null(list);
    assert_int_equal(look_up("localhost"), 0); /* later ones work */
}

NAME_TEST(a_cancel_ends_a_look_up)
{
    green_task_t *task = spawn(look_up_in_task, (void *)"slow");
    turn();
    wait_sem(&begun);
    assert_int_equal(green_task_cancel(task), 0);
    assert_ptr_equal(finish(task), V(EAI_SYSTEM));
    sem_post(&gate);
}

NAME_TEST(slow_look_ups_take_half_of_the_pool)
{
    enum { LOOK_UPS = 10 };
    green_task_t *tasks[LOOK_UPS];
    for (int i = 0; i < LOOK_UPS; i++)
        tasks[i] = spawn(look_up_in_task, (void *)"slow");
    turn();
    for (int i = 0; i < THREADS / 2; i++)
        wait_sem(&begun);
    for (int i = 0; i < 4; i++) /* by one that is left, and the gate is still shut */
        assert_int_equal(green_offload(give_back, NULL, NULL, NULL), 0);
    assert_int_equal(looking, THREADS / 2);
    assert_int_equal(sem_trywait(&begun), -1);
    for (int i = 0; i < LOOK_UPS; i++)
        sem_post(&gate);
    for (int i = 0; i < LOOK_UPS; i++)
        assert_null(finish(tasks[i]));
    assert_int_equal(most_looking, THREADS / 2);
}

/* ---- Races ----------------------------------------------------------------------------------- */

/* A listener on loopback; its address goes behind the others of the answer.  -1: no such family. */
static int listen_on(int family, int backlog)
{
    struct sockaddr_storage *address = &answer[answers];
    socklen_t length = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    memset(address, 0, sizeof *address);
    address->ss_family = (sa_family_t)family;
    if (family == AF_INET)
        ((struct sockaddr_in *)address)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    else
        ((struct sockaddr_in6 *)address)->sin6_addr = in6addr_loopback;
    if (bind(fd, (struct sockaddr *)address, length) != 0) {
        close(fd);
        return -1;
    }
    must_be_0(listen(fd, backlog));
    must_be_0(getsockname(fd, (struct sockaddr *)address, &length));
    answers++;
    return fd;
}

/* Each address that is used in a test, and what it takes. */
enum { MOST_SOCKETS = 2 * MOST };
static int sockets[MOST_SOCKETS], n_sockets;

static int keep(int fd)
{
    must(n_sockets < MOST_SOCKETS);
    return sockets[n_sockets++] = fd;
}

static void close_sockets(void)
{
    while (n_sockets > 0)
        close(sockets[--n_sockets]);
}

/* An address that does not answer: its backlog is full. */
static bool add_silent(int family)
{
    int listener = listen_on(family, 0);
    if (listener < 0)
        return false;
    keep(listener);
    int filler = keep(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    must_be_0(connect(filler, (struct sockaddr *)&answer[answers - 1],
                      family == AF_INET ? sizeof(struct sockaddr_in)
                                        : sizeof(struct sockaddr_in6)));
    await_full(listener);
    return true;
}

static void add_refusing(void)
{
    close(listen_on(AF_INET, 1));
}

static int add_good(void)
{
    return keep(listen_on(AF_INET, 8));
}

/* The address that a socket is connected to is the i-th of the answer. */
static void assert_connected(int fd, int i)
{
    struct sockaddr_storage peer;
    socklen_t length = sizeof peer;
    int nodelay = 0;
    assert_true(fd >= 0);
    memset(&peer, 0, sizeof peer);
    assert_int_equal(getpeername(fd, (struct sockaddr *)&peer, &length), 0);
    assert_memory_equal(&peer, &answer[i], length);
    length = sizeof nodelay;
    assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &nodelay, &length), 0);
    assert_true(nodelay);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    assert_int_equal(green_close(fd), 0);
}

/* An address is asked in the hub's own thread, so that no time of the world passes. */
#define HOST "192.0.2.1"

RACE_TEST(the_first_address_that_answers_is_taken)
{
    add_good();
    add_good();
    assert_connected(green_tcp_connect(HOST, "1"), 0);
    assert_int_equal(clock_ms(), 0);
    close_sockets();
}

RACE_TEST(one_that_refuses_costs_no_time)
{
    add_refusing();
    add_refusing();
    add_good();
    assert_connected(green_tcp_connect(HOST, "1"), 2);
    assert_int_equal(clock_ms(), 0);
    close_sockets();
}

RACE_TEST(a_silent_one_costs_250_ms)
{
    assert_true(add_silent(AF_INET));
    add_good();
    assert_connected(green_tcp_connect(HOST, "1"), 1);
    assert_int_equal(clock_ms(), 250);
    close_sockets();
}

RACE_TEST(a_failure_among_silent_ones_begins_the_next_at_once)
{
    assert_true(add_silent(AF_INET));
    add_refusing();
    answer[answers++] = answer[0];
    ((struct sockaddr_in *)&answer[2])->sin_addr.s_addr = htonl(INADDR_BROADCAST); /* at once */
    assert_true(add_silent(AF_INET));
    add_good();
    assert_connected(green_tcp_connect(HOST, "1"), 4);
    assert_int_equal(clock_ms(), 500);
    close_sockets();
}

RACE_TEST(the_families_take_turns)
{
    if (!add_silent(AF_INET6)) {
        print_message("skipped: there is no IPv6 here\n");
        return;
    }
    assert_true(add_silent(AF_INET6));
    assert_true(add_silent(AF_INET6));
    add_good();
    assert_connected(green_tcp_connect(HOST, "1"), 3);
    assert_int_equal(clock_ms(), 250);
    close_sockets();
}

RACE_TEST(if_all_fail_errno_is_the_last_ones)
{
    add_refusing();
    add_refusing();
    assert_refused(green_tcp_connect(HOST, "1"), ECONNREFUSED);
    assert_int_equal(clock_ms(), 0);
    answer[answers++] = answer[0];
    ((struct sockaddr_in *)&answer[2])->sin_addr.s_addr = htonl(INADDR_BROADCAST);
    errno = 0;
    assert_int_equal(green_tcp_connect(HOST, "1"), -1);
    assert_true(errno == ENETUNREACH || errno == EACCES);
}

RACE_TEST(each_of_many_addresses_is_tried)
{
    while (answers < MOST - 1)
        add_refusing();
    add_good();
    assert_connected(green_tcp_connect(HOST, "1"), MOST - 1);
    close_sockets();
}

RACE_TEST(each_of_many_silent_ones_costs_250_ms)
{
    while (answers < MOST - 1)
        assert_true(add_silent(AF_INET));
    add_good();
    assert_connected(green_tcp_connect(HOST, "1"), MOST - 1);
    assert_int_equal(clock_ms(), 250 * (MOST - 1));
    close_sockets();
}

static void *connect_in_task(void *unused)
{
    int fd = green_tcp_connect(HOST, "1");
    return V(fd >= 0 ? fd : -errno);
    (void)unused;
}

RACE_TEST(a_cancel_between_the_attempts_leaves_no_socket)
{
    for (int i = 0; i < 3; i++)
        assert_true(add_silent(AF_INET));
    int descriptors = hubs_descriptors();
    green_task_t *task = spawn(connect_in_task, NULL);
    nap(300);
    assert_int_equal(hubs_descriptors(), descriptors + 2 + 2); /* two attempts; epoll and eventfd */
    assert_int_equal(green_task_cancel(task), 0);
    assert_ptr_equal(finish(task), V(-ECANCELED));
    assert_int_equal(hubs_descriptors(), descriptors + 2);
    close_sockets();
}

RACE_TEST(the_time_of_a_scope_ends_all_attempts)
{
    assert_true(add_silent(AF_INET));
    GREEN_SCOPE(limit, GREEN_MS(100), 0);
    assert_refused(green_tcp_connect(HOST, "1"), ETIMEDOUT);
    assert_int_equal(green_scope_end(&limit), 1);
    assert_int_equal(clock_ms(), 100);
    close_sockets();
}

RACE_TEST(a_name_that_is_not_known_is_ENOENT_one_that_is_not_known_now_EAGAIN)
{
    assert_refused(green_tcp_connect("unknown", "80"), ENOENT);
    assert_refused(green_tcp_connect("again", "80"), EAGAIN);
    assert_refused(green_tcp_connect("system", "80"), EIO);
    assert_refused(green_tcp_connect(NULL, "80"), EINVAL);
    assert_refused(green_tcp_connect("host", NULL), EINVAL);
    assert_refused(green_tcp_connect("host", "unknown"), EINVAL);
    assert_refused(green_tcp_listen("unknown", "80", 0), ENOENT);
    assert_refused(green_tcp_listen("again", "80", 0), EAGAIN);
    assert_refused(green_tcp_listen("host", "unknown", 0), EINVAL);
    GREEN_SCOPE(limit, GREEN_MS(1), 0);
    assert_refused(green_tcp_connect("slow", "80"), ETIMEDOUT);
    sem_post(&gate);
    wait_sem(&begun); /* or it would begin in the next test, and find the gate shut */
}

NAME_TEST(a_name_is_connected_to)
{
    add_good();
    assert_connected(green_tcp_connect("host", "80"), 0);
    close_sockets();
}

int main(void)
{
    const green_hub_options_t options = { .threads = THREADS };
    if (green_hub_init(&options) != 0 || green_hub_end(GREEN_FOREVER) != 0)
        return 1;
    return run_all_tests();
}
