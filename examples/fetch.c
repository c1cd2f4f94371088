/* SPDX-License-Identifier: MIT
 *
 * Many pages at once: how long each is, or what failed and why.
 *
 *     fetch [-j N] [-t SECONDS] [-T SECONDS] URL...       http:// alone
 *
 *     -j N        so many at a time; 20 unless given
 *     -t SECONDS  for each; 10 unless given
 *     -T SECONDS  for all; 60 unless given
 *
 * A page is a task of a group, and reads with stdio, by green_fdopen().  The limit for
 * each is a scope around all that its task does.  The one for all is a scope around
 * main's own waits: when it is over main frees the group, which cancels the rest.
 * 1 if any failed.
 */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <green_hub.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

struct page {
    const char *url;
    char host[256], port[8];
    const char *path;
    long status, bytes;
    char why[64]; /* it failed; empty: it did not */
    int ended;
};

static long each = 10, all = 60;

static int fail(struct page *page, const char *why)
{
    snprintf(page->why, sizeof page->why, "%s", why);
    return -1;
}

/* http://HOST[:PORT][/PATH], where HOST may be an address in brackets. */
static int split(struct page *page)
{
    const char *host = page->url + strlen("http://"), *end, *port;
    size_t length, port_length;

    if (strncasecmp(page->url, "http://", strlen("http://")) != 0)
        return fail(page, "not http://");
    end = host + strcspn(host, "/?#");
    page->path = *end == '/' ? end : "/";
    length = (size_t)(end - host);
    if (*host == '[') {
        length = strcspn(++host, "]");
        port = host + length + (host[length] == ']');
    } else {
        port = host + strcspn(host, ":/?#");
        length = (size_t)(port - host);
    }
    port_length = port < end && *port == ':' ? (size_t)(end - ++port) : 0;
    if (length == 0 || length >= sizeof page->host || port_length >= sizeof page->port)
        return fail(page, "no host");
    memcpy(page->host, host, length);
    strcpy(page->port, "80");
    if (port_length > 0) {
        memcpy(page->port, port, port_length);
        page->port[port_length] = '\0';
    }
    return 0;
}

/* What a call has left in errno; the stream has ended if it is 0. */
static int fail_of_errno(struct page *page)
{
    return fail(page, errno == 0         ? "it ends too early"
                      : errno == ENOENT  ? "no such host"
                      : errno == EAGAIN  ? "the host's name cannot be looked up now"
                                         : strerror(errno));
}

/* The rest of the answer, after its first line. */
static int read_answer(struct page *page, FILE *stream)
{
    char buffer[8192];
    long length = -1;
    size_t n;

    for (;;) {
        errno = 0;
        if (fgets(buffer, sizeof buffer, stream) == NULL)
            return fail_of_errno(page);
        if (buffer[0] == '\r' || buffer[0] == '\n')
            break;
        if (strncasecmp(buffer, "Content-Length:", strlen("Content-Length:")) == 0)
            length = strtol(buffer + strlen("Content-Length:"), NULL, 10);
    }
    errno = 0;
    while ((n = fread(buffer, 1, sizeof buffer, stream)) > 0)
        page->bytes += (long)n;
    if (ferror(stream))
        return fail_of_errno(page);
    if (length >= 0 && page->bytes != length) {
        snprintf(page->why, sizeof page->why, "%ld bytes of %ld", page->bytes, length);
        return -1;
    }
    if (page->status / 100 != 2) {
        snprintf(page->why, sizeof page->why, "status %ld", page->status);
        return -1;
    }
    return 0;
}

static int talk(struct page *page, FILE *stream)
{
    char line[1024];

    errno = 0;
    if (fprintf(stream, "GET %s HTTP/1.0\r\nHost: %s:%s\r\nUser-Agent: fetch\r\n\r\n",
                page->path, page->host, page->port) < 0
        || fflush(stream) == EOF || fgets(line, sizeof line, stream) == NULL)
        return fail_of_errno(page);
    if (strncmp(line, "HTTP/1.", 7) != 0 || strlen(line) < 9)
        return fail(page, "not an answer of HTTP");
    page->status = strtol(line + 8, NULL, 10);
    return read_answer(page, stream);
}

static int get(struct page *page)
{
    FILE *stream;
    int result, fd;

    if (split(page) != 0)
        return -1;
    fd = green_tcp_connect(page->host, page->port);
    if (fd < 0)
        return fail_of_errno(page);
    stream = green_fdopen(fd, "r+");
    if (stream == NULL) {
        green_close(fd);
        return fail_of_errno(page);
    }
    result = talk(page, stream);
    fclose(stream);
    return result;
}

static void *fetch(void *arg)
{
    struct page *page = arg;
    int64_t begin = green_now();
    green_scope_t limit;

    green_scope_begin(&limit, GREEN_SEC(each), 0);
    (void)get(page);
    if (green_scope_end(&limit) && page->why[0] != '\0')
        snprintf(page->why, sizeof page->why, "not within %ld s", each);
    else if (page->why[0] != '\0' && green_task_check() != 0)
        snprintf(page->why, sizeof page->why, "not within the %ld s for all", all);
    page->ended = 1;
    if (page->why[0] != '\0')
        printf("%s: %s\n", page->url, page->why);
    else
        printf("%s: %ld bytes in %.0f ms\n", page->url, page->bytes, (double)(green_now() - begin) / 1e6);
    return NULL;
}

/* All of them, or as many as there is time for. */
static void fetch_all(green_group_t *group, struct page *pages, int n)
{
    GREEN_SCOPE(limit, GREEN_SEC(all), 0);
    for (int i = 0; i < n; i++) {
        green_options_t options = { .name = pages[i].url };
        if (green_group_spawn_with(group, fetch, &pages[i], &options) != 0)
            return;
    }
    green_group_wait(group, NULL, GREEN_FOREVER);
}

/* A whole number from 1 to most; 0 is none. */
static long number(const char *text, long most)
{
    char *end;
    long value = strtol(text, &end, 10);

    return *end == '\0' && value > 0 && value <= most ? value : 0;
}

int main(int argc, char **argv)
{
    long at_once = 20;
    int n, failed = 0;
    green_group_t *group;
    struct page *pages;

    for (int option; (option = getopt(argc, argv, "j:t:T:")) != -1;) {
        switch (option) {
        case 'j': at_once = number(optarg, 100000); break;
        case 't': each = number(optarg, 1000000); break;
        case 'T': all = number(optarg, 1000000); break;
        default: at_once = 0;
        }
    }
    n = argc - optind;
    if (at_once == 0 || each == 0 || all == 0 || n < 1)
        return fprintf(stderr, "usage: fetch [-j N] [-t SECONDS] [-T SECONDS] URL...\n"), 2;
    pages = calloc((size_t)n, sizeof *pages);
    group = green_group_new((size_t)at_once, 0);
    if (pages == NULL || group == NULL)
        return perror("fetch"), 1;
    for (int i = 0; i < n; i++)
        pages[i].url = argv[optind + i];

    fetch_all(group, pages, n);
    green_group_free(group); /* stops the slow */
    for (int i = 0; i < n; i++) {
        if (!pages[i].ended)
            printf("%s: not begun within the %ld s for all\n", pages[i].url, all);
        failed += !pages[i].ended || pages[i].why[0] != '\0';
    }
    free(pages);
    printf("%d of %d\n", n - failed, n);
    if (fflush(stdout) == EOF)
        return perror("fetch"), 1;
    return failed > 0;
}
