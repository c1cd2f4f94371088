/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE

#include "servers.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE = 20 /* seconds that an answer may take */, ROOM = 65536, EVENTS = 256, PATH_ROOM = 800 };

static const double LONGEST = 5e8; /* nanoseconds of talk in a round: the slow say less */

/* ---- Where they are ------------------------------------------------------------- */

/* A path below the directory of this program. */
static void path_beside(char *path, size_t size, const char *name)
{
    char own[512];
    ssize_t length = readlink("/proc/self/exe", own, sizeof own - 1);
    if (length < 0)
        bench_fail("/proc/self/exe");
    own[length] = '\0';
    *strrchr(own, '/') = '\0';
    snprintf(path, size, "%s/%s", own, name);
}

static void path_of(const struct server *server, char *path, size_t size)
{
    char name[128];
    snprintf(name, sizeof name, "servers/%s", server->program);
    path_beside(path, size, name);
}

static bool is_there(const struct server *server)
{
    char path[PATH_ROOM];
    path_of(server, path, sizeof path);
    return access(path, X_OK) == 0;
}

const char *servers_files(void)
{
    static char path[PATH_ROOM];
    if (path[0] == '\0') {
        path_beside(path, sizeof path, "servers/files");
        if (mkdir(path, 0777) != 0 && errno != EEXIST)
            bench_fail(path);
    }
    return path;
}

/* ---- CPUs -------------------------------------------------------------------------- */

static cpu_set_t client_cpu, server_cpus; /* both all, if there is one alone */

static void choose_cpus(void)
{
    cpu_set_t all;
    int first = -1, last = -1;
    if (sched_getaffinity(0, sizeof all, &all) != 0)
        bench_fail("sched_getaffinity");
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &all))
            first = first < 0 ? i : first, last = i;
    client_cpu = server_cpus = all;
    if (first != last) {
        CPU_ZERO(&client_cpu);
        CPU_ZERO(&server_cpus);
        CPU_SET(first, &client_cpu);
        CPU_SET(last, &server_cpus);
    } else {
        fprintf(stderr, "client and server share one CPU\n");
    }
    sched_setaffinity(0, sizeof client_cpu, &client_cpu);
}

static void allow_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* ---- A server's life ----------------------------------------------------------------- */

struct running {
    pid_t pid;
    int port;
    clockid_t clock;
};

static struct sockaddr_in address_of(int port)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons((unsigned short)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static int free_port(void)
{
    struct sockaddr_in address = address_of(0);
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0
        || getsockname(fd, (struct sockaddr *)&address, &length) != 0)
        bench_fail("a free port");
    close(fd);
    return ntohs(address.sin_port);
}

/* A connection that is reset when it is closed, so that no port is kept by it; or -1. */
static int open_connection(int port)
{
    struct sockaddr_in address = address_of(port);
    struct timeval patience = {.tv_sec = PATIENCE};
    struct linger none = {.l_onoff = 1};
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none) == 0
        && setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0
        && setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0
        && connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

_Noreturn static void become(const struct server *server, int port)
{
    char path[PATH_ROOM], number[16];
    const char *args[10] = {server->program};
    int nowhere = open("/dev/null", O_RDWR);
    snprintf(number, sizeof number, "%d", port);
    for (size_t i = 0; i < 8 && server->args[i] != NULL; i++)
        args[i + 1] = strcmp(server->args[i], "PORT") == 0    ? number
                      : strcmp(server->args[i], "FILES") == 0 ? servers_files()
                                                              : server->args[i];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sched_setaffinity(0, sizeof server_cpus, &server_cpus);
    dup2(nowhere, 0);
    dup2(nowhere, 1);
    path_of(server, path, sizeof path);
    execv(path, (char **)args);
    _exit(127);
}

static void stop(const struct running *running)
{
    int error = errno;
    kill(running->pid, SIGKILL);
    waitpid(running->pid, NULL, 0);
    errno = error;
}

/* It listens when this returns 0. */
static int start(const struct server *server, struct running *running)
{
    double late = bench_now() + PATIENCE * 1e9;
    int fd;
    running->port = free_port();
    running->pid = fork();
    if (running->pid < 0)
        return -1;
    if (running->pid == 0)
        become(server, running->port);
    while ((fd = open_connection(running->port)) < 0) {
        if (waitpid(running->pid, NULL, WNOHANG) == running->pid)
            return errno = ECHILD, -1;
        if (bench_now() > late)
            return stop(running), errno = ETIMEDOUT, -1;
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    close(fd);
    if ((errno = clock_getcpuclockid(running->pid, &running->clock)) != 0)
        return stop(running), -1;
    return 0;
}

static double cpu_time(const struct running *running)
{
    struct timespec time;
    if (clock_gettime(running->clock, &time) != 0)
        bench_fail("the server's clock");
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

/* Its share of memory, in bytes. */
static double memory_of(const struct running *running)
{
    char path[64], line[128];
    double kilobytes = -1;
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)running->pid);
    FILE *file = fopen(path, "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        sscanf(line, "Pss: %lf", &kilobytes);
    if (file != NULL)
        fclose(file);
    return kilobytes * 1024;
}

double server_cpu(const struct server *server, int (*use)(int port, void *data), void *data)
{
    struct running running;
    if (start(server, &running) != 0)
        return -1;
    double before = cpu_time(&running);
    int result = use(running.port, data);
    double time = cpu_time(&running) - before;
    stop(&running);
    return result == 0 ? time : -1;
}

/* ---- The client ----------------------------------------------------------------------- */

struct client {
    const struct talk *talk;
    int epoll, open;
    size_t answer; /* bytes of one */
    struct peer {
        int fd;
        size_t come; /* bytes of an answer */
    } *peers;
};

static int say(const struct client *client, const struct peer *peer)
{
    ssize_t n = send(peer->fd, client->talk->message, client->talk->size, MSG_NOSIGNAL);
    return n == (ssize_t)client->talk->size ? 0 : -1;
}

/* Hears the whole answer to a first message. */
static int hear_first(struct client *client, const struct peer *peer)
{
    static char bytes[ROOM];
    size_t have = 0, all = 0;
    while (all == 0 || have < all) {
        ssize_t n = recv(peer->fd, bytes + have, sizeof bytes - have, 0);
        if (n <= 0)
            return errno = n == 0 ? ECONNRESET : errno, -1;
        have += (size_t)n;
        all = client->talk->check(bytes, have);
    }
    if (have != all || (client->answer != 0 && client->answer != all))
        return errno = EPROTO, -1;
    client->answer = all;
    return 0;
}

static void close_all(struct client *client)
{
    int error = errno;
    for (int i = 0; i < client->open; i++)
        close(client->peers[i].fd);
    close(client->epoll);
    free(client->peers);
    errno = error;
}

/* Opens so many more; each says its first message and hears the answer. */
static int open_some(struct client *client, int port, int more)
{
    int first = client->open;
    for (; client->open < first + more; client->open++) {
        struct peer *peer = &client->peers[client->open];
        if ((peer->fd = open_connection(port)) < 0)
            return -1;
        if (say(client, peer) != 0)
            return client->open++, -1;
    }
    for (int i = first; i < client->open; i++) {
        struct peer *peer = &client->peers[i];
        struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = peer};
        if (hear_first(client, peer) != 0 || fcntl(peer->fd, F_SETFL, O_NONBLOCK) != 0
            || epoll_ctl(client->epoll, EPOLL_CTL_ADD, peer->fd, &event) != 0)
            return -1;
    }
    return 0;
}

/* A hundred at a time: fewer than a listening socket keeps. */
static int open_all(struct client *client, const struct talk *talk, int port, int connections)
{
    *client = (struct client){.talk = talk, .epoll = epoll_create1(EPOLL_CLOEXEC)};
    client->peers = calloc((size_t)connections, sizeof *client->peers);
    if (client->epoll < 0 || client->peers == NULL)
        bench_fail("the client");
    while (client->open < connections) {
        int left = connections - client->open;
        if (open_some(client, port, left < 100 ? left : 100) != 0)
            return -1;
    }
    return 0;
}

/* Whether an answer is whole by now; -1: it has failed. */
static int hear(const struct client *client, struct peer *peer)
{
    static char bytes[ROOM];
    ssize_t n = recv(peer->fd, bytes, sizeof bytes, 0);
    if (n <= 0)
        return n < 0 && errno == EAGAIN ? 0 : -1;
    peer->come += (size_t)n;
    if (peer->come < client->answer)
        return 0;
    if (peer->come > client->answer)
        return errno = EPROTO, -1;
    peer->come = 0;
    return 1;
}

/* Talks until n messages are answered, or for LONGEST: how many were; -1: it failed. */
static long talk(struct client *client, long n)
{
    long said = 0, heard = 0;
    double late = bench_now() + LONGEST;
    for (; said < n && said < client->open; said++)
        if (say(client, &client->peers[said]) != 0)
            return -1;
    while (heard < said) {
        struct epoll_event events[EVENTS];
        int ready = epoll_wait(client->epoll, events, EVENTS, PATIENCE * 1000);
        if (ready <= 0)
            return errno = ready == 0 ? ETIMEDOUT : errno, -1;
        if (bench_now() > late)
            n = said;
        for (int i = 0; i < ready; i++) {
            struct peer *peer = events[i].data.ptr;
            int whole = hear(client, peer);
            if (whole < 0 || (whole > 0 && said < n && say(client, peer) != 0))
                return -1;
            said += whole > 0 && said < n;
            heard += whole;
        }
    }
    return heard;
}

/* ---- Candidates ------------------------------------------------------------------------- */

struct session {
    const struct server *server;
    const struct talk *talk;
    int connections;
};

/* The server's CPU time for n messages. */
static double serve_messages(void *arg, long n)
{
    const struct session *session = arg;
    struct running running;
    struct client client;
    double time = -1;
    long most = bench_is_quick() ? 200 + 2 * session->connections : n;
    if (start(session->server, &running) != 0)
        return -1;
    if (open_all(&client, session->talk, running.port, session->connections) == 0) {
        double before = cpu_time(&running);
        long heard = talk(&client, most);
        if (heard > 0)
            time = (cpu_time(&running) - before) * (double)n / (double)heard;
    }
    close_all(&client);
    stop(&running);
    return time;
}

/* The server's memory for so many connections, each of which has been used. */
static double hold_connections(void *arg, long n)
{
    const struct session *session = arg;
    struct running running;
    struct client first, client;
    double before = -1, bytes = -1;
    long connections = bench_is_quick() ? 10 : n;
    if (start(session->server, &running) != 0)
        return -1;
    if (open_all(&first, session->talk, running.port, 1) == 0) {
        before = memory_of(&running);
        if (open_all(&client, session->talk, running.port, (int)connections) == 0) {
            bytes = (memory_of(&running) - before) * (double)n / (double)connections;
            bytes = bytes < 0 ? 0 : bytes; /* a page less than before is none more */
        }
        close_all(&client);
    }
    close_all(&first);
    stop(&running);
    return bytes;
}

static const struct {
    int connections;
    const char *group;
} sizes[] = {{1, "1 connection"}, {100, "100 connections"}, {1000, "1,000 connections"},
             {10000, "10,000 connections"}};

int bench_servers(int argc, char **argv, const char *title, const char *unit, const struct talk *talk,
                  const struct server *servers, size_t count, const long messages[4],
                  const struct goal *goal, const struct candidate *more, size_t more_count)
{
    struct candidate *candidates = calloc(5 * count + more_count, sizeof *candidates);
    struct session *sessions = calloc(5 * count, sizeof *sessions);
    size_t used = 0;
    const char *base = NULL;
    if (candidates == NULL || sessions == NULL)
        bench_fail("calloc");
    choose_cpus();
    allow_descriptors();
    for (size_t i = 0; i < count; i++) {
        if (is_there(&servers[i]))
            base = base == NULL ? servers[i].name : base;
        else if (servers[i].package == NULL)
            return fprintf(stderr, "%s: servers/%s is missing\n", title, servers[i].program), 1;
        else
            fprintf(stderr, "%s goes without %s: it was not there when this was built. Debian and "
                            "Ubuntu have it in the package %s.\n",
                    title, servers[i].name, servers[i].package);
    }
    for (size_t k = 0; k < 5; k++) {
        int connections = k < 4 ? sizes[k].connections : 1000;
        for (size_t i = 0; i < count; i++) {
            const struct server *server = &servers[i];
            if (!is_there(server) || (server->most != 0 && server->most < connections))
                continue;
            sessions[used] = (struct session){server, talk, connections};
            candidates[used] = (struct candidate){
                .group = k < 4 ? sizes[k].group : "bytes a connection, of 1,000",
                .name = server->name,
                .run = k < 4 ? serve_messages : hold_connections,
                .arg = &sessions[used],
                .n = k < 4 ? messages[k] : connections,
                .slow = k < 4 && connections > 100,
                .unit = k < 4 ? unit : "a connection",
                .counts = k < 4 ? NULL : "bytes",
                .against = k < 4 && strcmp(server->name, base) != 0 ? base : NULL,
                .goal = k < 4 && strcmp(server->name, goal->server) == 0 ? goal->most : 0,
            };
            used++;
        }
    }
    for (size_t i = 0; i < more_count; i++)
        candidates[used++] = more[i];
    int result = bench(argc, argv, title, unit, candidates, used);
    free(candidates);
    free(sessions);
    return result;
}
