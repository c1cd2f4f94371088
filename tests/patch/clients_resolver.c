/* SPDX-License-Identifier: MIT */
/*
 * Names, by glibc's own resolver.  In a network and with an /etc/resolv.conf of this program's
 * own a name server in another process answers late: nN.test is 10.0.0.N, after 200 ms;
 * qN.test is the same at once; nobody.test is nobody; silent.test is never answered.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <fcntl.h>
#include <gnu/libc-version.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <resolv.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include <green_patch.h>

#include "hubs.h"

enum { NAMES = 20, LATE = 200 };

/* ---- The name server ------------------------------------------------------------------ */

struct question {
    unsigned char text[512];
    size_t size;
    struct sockaddr_in from;
    int fd;
};

/* Answers, in a task of its own. */
static void *answer(void *arg)
{
    struct question *q = arg;
    char name[256];
    unsigned char *end = q->text + q->size;
    int n = 0, length = dn_expand(q->text, end, q->text + 12, name, sizeof name);
    must(length > 0);
    unsigned type = (unsigned)q->text[12 + length + 1];
    size_t size = 12 + (size_t)length + 4; /* without additional records */
    if (name[0] != 'q')
        nap(LATE);
    q->text[2] |= 0x80; /* an answer */
    q->text[3] = 0x80;
    memset(q->text + 6, 0, 6);
    if (sscanf(name, "n%d.test", &n) == 1 || sscanf(name, "q%d.test", &n) == 1) {
        if (type == ns_t_a) {
            const unsigned char record[] = { 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4,
                                             10, 0, 0, (unsigned char)n };
            q->text[7] = 1;
            memcpy(q->text + size, record, sizeof record);
            size += sizeof record;
        }
    } else if (strncmp(name, "silent", 6) == 0) {
        size = 0;
    } else {
        q->text[3] |= ns_r_nxdomain;
    }
    if (size > 0)
        must(sendto(q->fd, q->text, size, 0, (struct sockaddr *)&q->from, sizeof q->from) > 0);
    free(q);
    return NULL;
}

static void serve(int fd)
{
    for (;;) {
        struct question *q = calloc(1, sizeof *q);
        socklen_t length = sizeof q->from;
        must(q != NULL);
        ssize_t size = green_recvfrom(fd, q->text, sizeof q->text - 64, 0,
                                      (struct sockaddr *)&q->from, &length);
        must(size > 12);
        q->size = (size_t)size;
        q->fd = fd;
        must_be_0(green_task_detach(spawn(answer, q)));
    }
}

static int put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0)
        return -1;
    ssize_t n = write(fd, text, strlen(text));
    close(fd);
    return n == (ssize_t)strlen(text) ? 0 : -1;
}

/* A network and an /etc of our own: 0, or -1 if the system does not grant them. */
static int set_apart(void)
{
    char text[64], file[] = "/tmp/green.resolv.XXXXXX";
    unsigned uid = getuid(), gid = getgid();
    int fd = mkstemp(file), result = -1;
    struct ifreq loopback = { .ifr_flags = IFF_UP | IFF_RUNNING };
    strcpy(loopback.ifr_name, "lo");
    must(fd >= 0);
    close(fd);
    must_be_0(put(file, "nameserver 127.0.0.1\noptions timeout:3 attempts:1\n"));
    if (unshare(CLONE_NEWNET | CLONE_NEWNS | (uid == 0 ? 0 : CLONE_NEWUSER)) == 0) {
        int named = socket(AF_INET, SOCK_DGRAM, 0);
        if (uid != 0) {
            snprintf(text, sizeof text, "0 %u 1", uid);
            (void)put("/proc/self/setgroups", "deny");
            (void)put("/proc/self/uid_map", text);
            snprintf(text, sizeof text, "0 %u 1", gid);
            (void)put("/proc/self/gid_map", text);
        }
        if (named >= 0 && ioctl(named, SIOCSIFFLAGS, &loopback) == 0 &&
            mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) == 0 &&
            mount(file, "/etc/resolv.conf", "none", MS_BIND, NULL) == 0)
            result = 0;
        close(named);
    }
    unlink(file);
    return result;
}

/* What was seen of a cell of the README's table, in a line. */
#define cell(column, ...)                                                    \
    do {                                                                     \
        char text[256];                                                      \
        snprintf(text, sizeof text, __VA_ARGS__);                            \
        print_message("cell: resolver %s | %s | %s\n", gnu_get_libc_version(), \
                      column, text);                                         \
    } while (0)

/* ---- Look-ups --------------------------------------------------------------------------- */

/* res_query() is declared as one that calls nothing of this file: it is not to be believed. */
static volatile int inside, most_inside;

struct looking {
    const char *name;
    int n, result;
};

static void *looks_up(void *arg)
{
    struct looking *looking = arg;
    const struct addrinfo hints = { .ai_family = AF_INET, .ai_socktype = SOCK_STREAM };
    struct addrinfo *list = NULL;
    char name[64];
    snprintf(name, sizeof name, "n%d.test", looking->n);
    if (++inside > most_inside)
        most_inside = inside;
    looking->result = getaddrinfo(looking->name != NULL ? looking->name : name, "80", &hints, &list);
    inside--;
    if (looking->result == 0) {
        struct sockaddr_in *address = (struct sockaddr_in *)list->ai_addr;
        must(ntohl(address->sin_addr.s_addr) == 0x0a000000u + (unsigned)looking->n);
        must(ntohs(address->sin_port) == 80);
        freeaddrinfo(list);
    }
    return NULL;
}

static int64_t look_up(green_fn *run, int n)
{
    struct looking looking[NAMES];
    green_task_t *task[NAMES];
    int64_t begin = green_now();
    memset(looking, 0, sizeof looking);
    most_inside = 0;
    for (int i = 0; i < n; i++) {
        looking[i].n = 100 + i;
        task[i] = spawn(run, &looking[i]);
    }
    for (int i = 0; i < n; i++) {
        finish(task[i]);
        assert_int_equal(looking[i].result, 0);
    }
    assert_int_equal(most_inside, n);
    return green_now() - begin;
}

static int begin(void **state)
{
    /* Look-ups take half of the pool at most. */
    const green_hub_options_t options = { .threads = 3 * NAMES };
    (void)state;
    alarm((unsigned)times(100, 290));
    hubs_count(hubs_held());
    if (green_hub_init(&options) != 0)
        return -1;
    must(green_patch(GREEN_PATCH_WAIT | GREEN_PATCH_IO | GREEN_PATCH_NAMES) == 0);
    return 0;
}

/* A look-up that is given up keeps its socket until the resolver gives it up, too. */
static int end(void **state)
{
    must(green_patch(0) >= 0);
    must_be_0(green_hub_end(GREEN_FOREVER));
    while (hubs_descriptors() > hubs_held()->descriptors)
        must_be_0(usleep(10000));
    return hubs_end(state);
}

#define NAMES_TEST(sentence) TEST_WITH(sentence, begin, end)

NAMES_TEST(twenty_names_take_less_than_three_times_one)
{
    int64_t one = 0, all = 0;
    for (int tries = 0; tries < 5 && (tries == 0 || all >= 3 * one); tries++) {
        one = look_up(looks_up, 1);
        all = look_up(looks_up, NAMES);
    }
    cell("query", "one in %.3f s, %d in %.3f s: %.2f times, %d at a time", (double)one / 1e9, NAMES,
         (double)all / 1e9, (double)all / (double)one, most_inside);
    assert_true(one >= GREEN_MS(LATE));
    assert_true(all < 3 * one);
}

static void *looks_up_the_old_way(void *arg)
{
    struct looking *looking = arg;
    struct hostent host, *found = NULL;
    char name[64], room[2048];
    int error;
    snprintf(name, sizeof name, "n%d.test", looking->n);
    if (++inside > most_inside)
        most_inside = inside;
    looking->result = gethostbyname_r(name, &host, room, sizeof room, &found, &error);
    inside--;
    must(looking->result == 0 && found == &host && host.h_length == 4);
    must(host.h_addr_list[0][0] == 10 && (unsigned char)host.h_addr_list[0][3] == looking->n);
    return NULL;
}

NAMES_TEST(so_do_those_of_gethostbyname_r)
{
    int64_t one = 0, all = 0;
    for (int tries = 0; tries < 5 && (tries == 0 || all >= 3 * one); tries++) {
        one = look_up(looks_up_the_old_way, 1);
        all = look_up(looks_up_the_old_way, NAMES);
    }
    assert_true(all < 3 * one);
}

static void *asks_the_server(void *arg)
{
    struct looking *looking = arg;
    unsigned char text[512];
    char name[64];
    snprintf(name, sizeof name, "n%d.test", looking->n);
    if (++inside > most_inside)
        most_inside = inside;
    int size = res_query(name, ns_c_in, ns_t_a, text, sizeof text);
    inside--;
    must(size > 16 && text[7] == 1 && text[size - 1] == looking->n);
    looking->result = 0;
    return NULL;
}

NAMES_TEST(and_those_of_res_query)
{
    int64_t one = 0, all = 0;
    for (int tries = 0; tries < 5 && (tries == 0 || all >= 3 * one); tries++) {
        one = look_up(asks_the_server, 1);
        all = look_up(asks_the_server, NAMES);
    }
    assert_true(all < 3 * one);
}

NAMES_TEST(nobody_is_not_known)
{
    struct looking looking = { .name = "nobody.test" };
    looks_up(&looking);
    assert_int_equal(looking.result, EAI_NONAME);
}

NAMES_TEST(a_cancel_ends_a_look_up)
{
    struct looking looking = { .name = "silent.test" };
    green_task_t *task = spawn(looks_up, &looking);
    nap(50);
    must_be_0(green_task_cancel(task));
    finish(task);
    assert_int_not_equal(looking.result, 0);
    cell("cancel", "the call fails: %s", gai_strerror(looking.result));
}

NAMES_TEST(a_scope_ends_a_look_up)
{
    struct looking looking = { .name = "silent.test" };
    green_scope_t limit;
    must_be_0(green_scope_begin(&limit, GREEN_MS(300), 0));
    looks_up(&looking);
    assert_int_equal(looking.result, EAI_SYSTEM);
    assert_int_equal(errno, ETIMEDOUT);
    assert_int_equal(green_scope_end(&limit), 1);
    cell("timeout", "a scope of 0.300 s: EAI_SYSTEM, ETIMEDOUT");
}

static void *looks_up_often(void *arg)
{
    struct looking *all = arg;
    for (int i = 0; i < all->n; i++) {
        struct looking one = { .name = "q7.test", .n = 7 };
        looks_up(&one);
        must_be_0(one.result);
    }
    return NULL;
}

static void look_up_much(int n)
{
    struct looking looking[NAMES];
    green_task_t *task[NAMES];
    for (int i = 0; i < NAMES; i++) {
        looking[i] = (struct looking){ .n = (n + NAMES - 1) / NAMES };
        task[i] = spawn(looks_up_often, &looking[i]);
    }
    for (int i = 0; i < NAMES; i++)
        finish(task[i]);
}

NAMES_TEST(ten_thousand_look_ups_leave_nothing_behind)
{
    const char *asked = getenv("GREEN_CLIENTS_QUERIES");
    int n = asked != NULL && atoi(asked) > 0 ? atoi(asked) : times(10000, 200);
    look_up_much(n);
    int descriptors = hubs_descriptors();
    size_t allocated = mallinfo2().uordblks;
    int64_t begin_time = green_now();
    look_up_much(n);
    cell("query", "%d by %d tasks in %.1f s leave nothing behind", n, NAMES,
         (double)(green_now() - begin_time) / 1e9);
    assert_true(hubs_descriptors() <= descriptors);
    assert_int_equal(hub_stat(offloads), 0);
    /* Each thread's resolver keeps some. */
    assert_true(mallinfo2().uordblks < allocated + 65536);
}

static pid_t server;

NAMES_TEST(a_dead_server_is_an_error)
{
    struct looking looking = { .name = "n1.test" };
    must_be_0(kill(server, SIGKILL));
    assert_int_equal(waitpid(server, NULL, 0), server);
    looks_up(&looking);
    assert_int_equal(looking.result, EAI_AGAIN);
    cell("server death", "the call fails: %s", gai_strerror(looking.result));
}

int main(void)
{
    if (set_apart() != 0) {
        printf("skipped: no network of one's own: %s\n", strerror(errno));
        return 77;
    }
    const struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(53),
                                         .sin_addr = { htonl(INADDR_LOOPBACK) } };
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    must_be_0(bind(fd, (const struct sockaddr *)&address, sizeof address));
    server = fork();
    if (server == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        serve(fd);
    }
    close(fd);
    int failed = run_all_tests();
    if (waitpid(server, NULL, WNOHANG) == 0) {
        kill(server, SIGKILL);
        waitpid(server, NULL, 0);
    }
    return failed;
}
