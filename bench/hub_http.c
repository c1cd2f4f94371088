/* SPDX-License-Identifier: MIT */
/*
 * What a web server takes of the CPU for a request of a file of 4 KiB, over connections
 * that are kept, and of memory for a connection: examples/httpd beside others.
 */
#define _GNU_SOURCE

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "servers.h"

enum { SIZE = 4096 };

static char body[SIZE];

static void make_file(void)
{
    char path[640];
    for (int i = 0; i < SIZE; i++)
        body[i] = (char)('a' + i % 23);
    snprintf(path, sizeof path, "%s/4k", servers_files());
    FILE *file = fopen(path, "w");
    if (file == NULL || fwrite(body, 1, SIZE, file) != SIZE || fclose(file) != 0)
        bench_fail(path);
}

static size_t check(const char *bytes, size_t n)
{
    const char *end = memmem(bytes, n, "\r\n\r\n", 4);
    size_t head = end == NULL ? 0 : (size_t)(end - bytes) + 4;
    if (n >= 12 && memcmp(bytes, "HTTP/1.1 200", 12) != 0)
        bench_fail("the status is not 200");
    if (end == NULL || n < head + SIZE)
        return 0;
    if (memmem(bytes, head, "Content-Length: 4096\r\n", 22) == NULL || memcmp(bytes + head, body, SIZE) != 0)
        bench_fail("the file is not what came");
    return head + SIZE;
}

/* ---- wrk, another client ------------------------------------------------------------ */

static int run_wrk(int port, void *requests)
{
    char command[256], line[256];
    long bad = 0;
    snprintf(command, sizeof command, "wrk -t 1 -c 100 -d 1 http://127.0.0.1:%d/4k", port);
    FILE *output = popen(command, "r");
    if (output == NULL)
        return -1;
    *(long *)requests = 0;
    while (fgets(line, sizeof line, output) != NULL) {
        sscanf(line, " %ld requests in", (long *)requests);
        bad += strstr(line, "Non-2xx") != NULL || strstr(line, "Socket errors") != NULL;
    }
    errno = EPROTO;
    return pclose(output) == 0 && bad == 0 && *(long *)requests > 0 ? 0 : -1;
}

/* Its n is no more than a measure: wrk takes a second. */
static double by_wrk(void *server, long n)
{
    long requests;
    double time = server_cpu(server, run_wrk, &requests);
    return time < 0 ? -1 : time * (double)n / (double)requests;
}

/* ---- All ------------------------------------------------------------------------------ */

#define REQUEST "GET /4k HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"

int main(int argc, char **argv)
{
    static struct server servers[] = {
        {"nginx", "http_nginx", "nginx", {"PORT", "FILES"}, 0},
        {"libgreen, examples/httpd", "httpd", NULL, {"-p", "PORT", "-n", "20000", "FILES"}, 0},
        {"nginx, files kept open", "http_nginx", "nginx",
         {"PORT", "FILES", "open_file_cache max=1000;"}, 0},
        {"raw epoll", "http_epoll", NULL, {"PORT", "FILES"}, 0},
        {"libuv", "http_libuv", "libuv1-dev", {"PORT", "FILES"}, 0},
        {"Go net/http", "http_go", "golang-go", {"PORT", "FILES"}, 0},
    };
#define WRK(server, base, most)                                                                \
    {.group = "100 connections, by wrk", .name = servers[server].name, .run = by_wrk,          \
     .arg = &servers[server], .n = 1000, .slow = true, .against = base, .goal = most}
    const struct candidate wrk[] = {WRK(0, NULL, 0), WRK(1, "nginx", 1)};
    static const struct talk talk = {REQUEST, sizeof REQUEST - 1, check};
    static const struct goal goal = {"libgreen, examples/httpd", 1};
    bool has_wrk = system("command -v wrk > /dev/null && command -v nginx > /dev/null") == 0;
    if (!has_wrk)
        fprintf(stderr, "hub_http goes without wrk as another client: not found. Debian and Ubuntu "
                        "have it in the package wrk.\n");
    make_file();
    return bench_servers(argc, argv, "hub_http", "server CPU a request", &talk, servers,
                         sizeof servers / sizeof *servers, (long[]){5000, 5000, 20000, 20000},
                         &goal, wrk, has_wrk ? 2 : 0);
}
