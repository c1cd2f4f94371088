/* SPDX-License-Identifier: MIT */
/*
 * Names are looked up beside each other, with libc's results.  The resolver is glibc's own; the
 * name server is a thread of this program, in namespaces of its own, that answers when it is to.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <resolv.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "hubs.h"

#include <green_patch.h>

/* ---- A name server ------------------------------------------------------------------- */

static int server_fd, pending; /* questions that have no answer yet */
static int asked, answered;
static int wanted; /* questions at a time: before there are as many none is answered; then 0 */
enum { NEVER = 1000 };

struct question {
    unsigned char text[512];
    ssize_t size;
    struct sockaddr_in from;
    socklen_t from_size;
};

/* host7.test is 10.0.0.7, 10.0.0.7 is host7.test; none.test is not known. */
static void *answer(void *arg)
{
    struct question *question = arg;
    unsigned char *text = question->text;
    size_t end = 12, size;
    int number = 0;
    bool known = true;
    while (__atomic_load_n(&wanted, __ATOMIC_SEQ_CST) > 0)
        usleep(1000);
    while (text[end] != 0)
        end += text[end] + 1u;
    int type = text[end + 1] << 8 | text[end + 2];
    end += 5;
    if (memcmp(text + 13, "none", 4) == 0)
        known = false;
    if (type == 12)
        number = atoi((char *)text + 13);
    else if (known)
        number = atoi((char *)text + 17);
    memset(text + 6, 0, 6); /* no answers, authorities, additions */
    text[2] = 0x84 | (text[2] & 1);
    text[3] = known ? 0x80 : 0x83;
    size = end;
    if (known && (type == 1 || type == 12)) {
        static const unsigned char head[] = { 0xc0, 12, 0, 0, 0, 1, 0, 0, 0, 60, 0 };
        text[7] = 1;
        memcpy(text + size, head, sizeof head);
        text[size + 3] = (unsigned char)type;
        size += sizeof head;
        if (type == 1) {
            const unsigned char data[] = { 4, 10, 0, 0, (unsigned char)number };
            memcpy(text + size, data, sizeof data);
            size += sizeof data;
        } else {
            char name[16];
            int n = snprintf(name, sizeof name, "host%d", number);
            text[size++] = (unsigned char)(n + 7);
            text[size++] = (unsigned char)n;
            memcpy(text + size, name, (size_t)n);
            size += (size_t)n;
            memcpy(text + size, "\4test", 6);
            size += 6;
        }
    }
    __atomic_fetch_add(&answered, 1, __ATOMIC_SEQ_CST);
    __atomic_fetch_sub(&pending, 1, __ATOMIC_SEQ_CST);
    sendto(server_fd, text, size, 0, (struct sockaddr *)&question->from, question->from_size);
    free(question);
    return NULL;
}

static void *serve(void *unused)
{
    for (;;) {
        struct question *question = calloc(1, sizeof *question);
        pthread_t thread;
        question->from_size = sizeof question->from;
        question->size = recvfrom(server_fd, question->text, 400, 0,
                                  (struct sockaddr *)&question->from, &question->from_size);
        int now = __atomic_add_fetch(&pending, 1, __ATOMIC_SEQ_CST);
        if (now >= __atomic_load_n(&wanted, __ATOMIC_SEQ_CST))
            __atomic_store_n(&wanted, 0, __ATOMIC_SEQ_CST);
        __atomic_add_fetch(&asked, 1, __ATOMIC_SEQ_CST);
        must(pthread_create(&thread, NULL, answer, question) == 0);
        pthread_detach(thread);
    }
    return unused;
}

static bool replace_file(const char *path, const char *text)
{
    char own[] = "/tmp/green_names_XXXXXX";
    int fd = mkstemp(own);
    must(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    fchmod(fd, 0644);
    close(fd);
    bool done = mount(own, path, NULL, MS_BIND, NULL) == 0;
    unlink(own);
    return done;
}

static bool start_server(void)
{
    struct ifreq lo = { .ifr_name = "lo" };
    const struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(53),
                                         .sin_addr = { htonl(INADDR_LOOPBACK) } };
    pthread_t thread;
    if (unshare(CLONE_NEWNS | CLONE_NEWNET) != 0 &&
        unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET) != 0)
        return false;
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        !replace_file("/etc/resolv.conf", "nameserver 127.0.0.1\noptions timeout:30 attempts:1\n") ||
        !replace_file("/etc/nsswitch.conf", "hosts: files dns\n"))
        return false;
    server_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (ioctl(server_fd, SIOCGIFFLAGS, &lo) != 0)
        return false;
    lo.ifr_flags |= IFF_UP;
    if (ioctl(server_fd, SIOCSIFFLAGS, &lo) != 0 ||
        bind(server_fd, (const struct sockaddr *)&address, sizeof address) != 0)
        return false;
    return pthread_create(&thread, NULL, serve, NULL) == 0;
}

/* ---- The tests ----------------------------------------------------------------------- */

static int patched(void **state)
{
    return hubs_begin_world(state) == 0 && green_patch(GREEN_PATCH_NAMES) == 0 ? 0 : -1;
}

/* A look-up that is given up keeps its socket until it has its answer. */
static int unpatched(void **state)
{
    green_patch(0);
    must_be_0(green_hub_end(GREEN_FOREVER));
    while (hubs_descriptors() > hubs_held()->descriptors)
        usleep(1000);
    return hubs_end(state);
}

#define PATCH_TEST(sentence) TEST_WITH(sentence, patched, unpatched)

static const char *name_of(intptr_t number)
{
    static char names[16][16];
    char *name = names[number % 16];
    snprintf(name, 16, "host%d.test", (int)number);
    return name;
}

static void *by_getaddrinfo(void *number)
{
    const struct addrinfo hints = { .ai_family = AF_INET, .ai_socktype = SOCK_STREAM };
    struct addrinfo *list;
    must_be_0(getaddrinfo(name_of((intptr_t)number), "80", &hints, &list));
    must(ntohl(((struct sockaddr_in *)(void *)list->ai_addr)->sin_addr.s_addr) ==
         0x0a000000 + (uint32_t)(intptr_t)number);
    freeaddrinfo(list);
    return NULL;
}

static void *by_getnameinfo(void *number)
{
    const struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(80),
        .sin_addr = { htonl(0x0a000000 + (uint32_t)(intptr_t)number) } };
    char host[64], service[16];
    must_be_0(getnameinfo((const struct sockaddr *)&address, sizeof address, host, sizeof host,
                          service, sizeof service, NI_NUMERICSERV));
    must(strcmp(host, name_of((intptr_t)number)) == 0 && strcmp(service, "80") == 0);
    return NULL;
}

static bool is_host(const struct hostent *entry, intptr_t number)
{
    return entry != NULL && strcmp(entry->h_name, name_of(number)) == 0 &&
           entry->h_addrtype == AF_INET && entry->h_length == 4 && entry->h_aliases != NULL &&
           memcmp(entry->h_addr_list[0], (unsigned char[]){ 10, 0, 0, (unsigned char)number }, 4) == 0 &&
           entry->h_addr_list[1] == NULL;
}

enum { TASKS = 10 };
static int have_theirs;

static void *by_gethostbyname(void *number)
{
    struct hostent *entry = gethostbyname(name_of((intptr_t)number));
    must(is_host(entry, (intptr_t)number));
    for (have_theirs++; have_theirs < TASKS;)
        nap(1);
    must(is_host(entry, (intptr_t)number));
    must(is_host(gethostbyname2(name_of(15), AF_INET), 15));
    return NULL;
}

static void *by_gethostbyaddr(void *number)
{
    const unsigned char address[] = { 10, 0, 0, (unsigned char)(intptr_t)number };
    must(is_host(gethostbyaddr(address, 4, AF_INET), (intptr_t)number));
    return NULL;
}

static void *by_r(void *number)
{
    const unsigned char address[] = { 10, 0, 0, (unsigned char)(intptr_t)number };
    struct hostent entry, *result;
    char buffer[1024];
    int h_error;
    must_be_0(gethostbyname_r(name_of((intptr_t)number), &entry, buffer, sizeof buffer, &result,
                              &h_error));
    must(result == &entry && is_host(result, (intptr_t)number));
    must((char *)entry.h_addr_list >= buffer && entry.h_name < buffer + sizeof buffer);
    must_be_0(gethostbyname2_r(name_of((intptr_t)number), AF_INET, &entry, buffer, sizeof buffer,
                               &result, &h_error));
    must(result == &entry && is_host(result, (intptr_t)number));
    must_be_0(gethostbyaddr_r(address, 4, AF_INET, &entry, buffer, sizeof buffer, &result,
                              &h_error));
    must(result == &entry && is_host(result, (intptr_t)number));
    must(gethostbyname_r(name_of((intptr_t)number), &entry, buffer, 8, &result, &h_error) ==
         ERANGE && result == NULL && h_error == NETDB_INTERNAL);
    return NULL;
}

static bool is_answer(const unsigned char *answer, int size, intptr_t number)
{
    return size > 16 && answer[7] == 1 &&
           memcmp(answer + size - 4, (unsigned char[]){ 10, 0, 0, (unsigned char)number }, 4) == 0;
}

static void *by_res(void *number)
{
    unsigned char answer[512];
    struct __res_state state;
    memset(&state, 0, sizeof state);
    must_be_0(res_ninit(&state));
    const char *name = name_of((intptr_t)number);
    must(is_answer(answer, res_query(name, 1, 1, answer, sizeof answer), (intptr_t)number));
    must(is_answer(answer, res_search(name, 1, 1, answer, sizeof answer), (intptr_t)number));
    must(is_answer(answer, res_nquery(&state, name, 1, 1, answer, sizeof answer),
                   (intptr_t)number));
    must(is_answer(answer, res_nsearch(&state, name, 1, 1, answer, sizeof answer),
                   (intptr_t)number));
    res_nclose(&state);
    h_errno = 0;
    must(res_query("none.test", 1, 1, answer, sizeof answer) == -1 && h_errno == HOST_NOT_FOUND);
    return NULL;
}

/* None is answered before so many ask.  Half of the pool looks up at a time: eight of ten. */
static void assert_side_by_side(green_fn *look_up, int at_once)
{
    green_task_t *tasks[TASKS];
    have_theirs = 0;
    __atomic_store_n(&wanted, at_once, __ATOMIC_SEQ_CST);
    for (intptr_t i = 0; i < TASKS; i++)
        tasks[i] = spawn(look_up, V(i + 1));
    for (int i = 0; i < TASKS; i++)
        finish(tasks[i]);
}

PATCH_TEST(ten_of_getaddrinfo)
{
    assert_side_by_side(by_getaddrinfo, 8);
}

PATCH_TEST(ten_of_getnameinfo)
{
    assert_side_by_side(by_getnameinfo, 10);
}

PATCH_TEST(ten_of_gethostbyname_have_ten_results)
{
    assert_side_by_side(by_gethostbyname, 10);
}

PATCH_TEST(ten_of_gethostbyaddr)
{
    assert_side_by_side(by_gethostbyaddr, 10);
}

PATCH_TEST(ten_of_each_with_a_buffer)
{
    assert_side_by_side(by_r, 10);
}

PATCH_TEST(ten_of_res_query)
{
    assert_side_by_side(by_res, 10);
}

PATCH_TEST(outside_of_tasks_the_calls_are_passed_on)
{
    green_patch(0);
    for (intptr_t i = 1; i < 3; i++) {
        by_getaddrinfo(V(i));
        by_getnameinfo(V(i));
        by_gethostbyaddr(V(i));
        by_r(V(i));
        by_res(V(i));
    }
}

static void *look_up_unknown(void *unused)
{
    const struct addrinfo hints = { .ai_family = AF_INET };
    struct addrinfo *list;
    struct hostent entry, *result;
    char buffer[512];
    int h_error = 0;
    (void)unused;
    must(getaddrinfo("none.test", NULL, &hints, &list) == EAI_NONAME);
    must(getnameinfo(NULL, 16, buffer, sizeof buffer, NULL, 0, 0) == EAI_FAMILY);
    h_errno = 0;
    must(gethostbyname("none.test") == NULL && h_errno == HOST_NOT_FOUND);
    must_be_0(gethostbyname_r("none.test", &entry, buffer, sizeof buffer, &result, &h_error));
    must(result == NULL && h_error == HOST_NOT_FOUND);
    return NULL;
}

PATCH_TEST(a_name_that_is_not_known_is_libcs_error)
{
    finish(spawn(look_up_unknown, NULL));
}

static void *look_up_cancelled(void *how)
{
    const struct sockaddr_in address = { .sin_family = AF_INET,
                                         .sin_addr = { htonl(0x0a000001) } };
    const struct addrinfo hints = { .ai_family = AF_INET };
    struct addrinfo *list;
    struct hostent entry, *result;
    struct __res_state state;
    unsigned char answer[512];
    char host[1024];
    int h_error;
    for (int i = 0; i < 2; i++) { /* each time */
        errno = h_errno = h_error = 0;
        switch ((intptr_t)how) {
        case 0:
            must(getaddrinfo("host1.test", NULL, &hints, &list) == EAI_SYSTEM);
            break;
        case 1:
            must(getnameinfo((const struct sockaddr *)&address, sizeof address, host, sizeof host,
                             NULL, 0, 0) == EAI_SYSTEM);
            break;
        case 2:
            must(gethostbyname("host1.test") == NULL && h_errno == NETDB_INTERNAL);
            break;
        case 3:
            must(gethostbyname_r("host1.test", &entry, host, sizeof host, &result, &h_error) ==
                 ECANCELED && result == NULL && h_error == NETDB_INTERNAL);
            break;
        case 4:
            must(res_query("host1.test", 1, 1, answer, sizeof answer) == -1 &&
                 h_errno == TRY_AGAIN);
            break;
        case 5: /* the first look-up is waited for */
            memset(&state, 0, sizeof state);
            must_be_0(res_ninit(&state));
            must((res_nquery(&state, "host1.test", 1, 1, answer, sizeof answer) == -1) == (i == 1));
            res_nclose(&state);
            if (i == 0)
                continue;
            break;
        }
        must(errno == ECANCELED);
    }
    return NULL;
}

PATCH_TEST(a_cancel_makes_a_look_up_fail_at_once)
{
    for (intptr_t how = 0; how < 6; how++) {
        bool at_once = how < 5;
        int before = __atomic_load_n(&asked, __ATOMIC_SEQ_CST);
        int answers = __atomic_load_n(&answered, __ATOMIC_SEQ_CST);
        __atomic_store_n(&wanted, NEVER, __ATOMIC_SEQ_CST);
        green_task_t *task = spawn(look_up_cancelled, V(how));
        while (__atomic_load_n(&asked, __ATOMIC_SEQ_CST) == before)
            nap(1);
        must_be_0(green_task_cancel(task));
        if (!at_once)
            __atomic_store_n(&wanted, 0, __ATOMIC_SEQ_CST);
        finish(task);
        if (at_once)
            assert_int_equal(__atomic_load_n(&answered, __ATOMIC_SEQ_CST), answers);
        __atomic_store_n(&wanted, 0, __ATOMIC_SEQ_CST);
        while (__atomic_load_n(&pending, __ATOMIC_SEQ_CST) > 0)
            nap(1);
    }
}

int main(void)
{
    if (under_valgrind())
        return skip_all_because("what glibc's resolver keeps, Valgrind takes for lost");
    if (!start_server())
        return skip_all_because("there are no namespaces to be had");
    return run_all_tests();
}
