/* SPDX-License-Identifier: MIT */
/* HTTP, by libcurl's easy interface: a server that answers late, and nginx for much. */
#include "clients.h"

#include <curl/curl.h>

struct text {
    char *bytes;
    size_t size, room;
};

static size_t keep(char *bytes, size_t one, size_t size, void *arg)
{
    struct text *text = arg;
    (void)one;
    if (text->size + size + 1 > text->room) {
        text->room = 2 * (text->size + size + 1);
        text->bytes = realloc(text->bytes, text->room);
        must(text->bytes != NULL);
    }
    memcpy(text->bytes + text->size, bytes, size);
    text->bytes[text->size += size] = '\0';
    return size;
}

struct http {
    CURL *curl;
    int port;
};

/* The page, which is the caller's to free; NULL: it failed. */
static char *get(CURL *curl, const char *url, size_t *size)
{
    struct text text = { NULL, 0, 0 };
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &text);
    CURLcode code = curl_easy_perform(curl);
    if (code == CURLE_OK) {
        if (size != NULL)
            *size = text.size;
        return text.bytes;
    }
    long error = 0;
    curl_easy_getinfo(curl, CURLINFO_OS_ERRNO, &error);
    why(error != 0 ? strerror((int)error) : curl_easy_strerror(code));
    free(text.bytes);
    return NULL;
}

static void http_disconnect(void *connection)
{
    struct http *http = connection;
    curl_easy_cleanup(http->curl);
    free(http);
}

static int http_ask(void *connection, int n, int ms)
{
    struct http *http = connection;
    char url[128];
    snprintf(url, sizeof url, "http://127.0.0.1:%d/%d/%d", http->port, ms, 2 * n + 1);
    char *page = get(http->curl, url, NULL);
    if (page == NULL)
        return -1;
    must(atoi(page) == 2 * n + 1);
    free(page);
    return 0;
}

static void *http_connect(int port)
{
    struct http *http = malloc(sizeof *http);
    must(http != NULL);
    http->curl = curl_easy_init();
    must(http->curl != NULL);
    http->port = port;
    curl_easy_setopt(http->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(http->curl, CURLOPT_WRITEFUNCTION, keep);
    curl_easy_setopt(http->curl, CURLOPT_PROXY, "");
    if (http_ask(http, 1, 0) == 0)
        return http;
    http_disconnect(http);
    return NULL;
}

/* Up to the late server, and down from nginx, whose page is another: 16 bytes a number. */
static int http_move(void *connection, const char *bytes, size_t size)
{
    struct http *http = connection;
    char url[128], expected[64], line[32];
    snprintf(url, sizeof url, "http://127.0.0.1:%d/sum", http->port);
    curl_easy_setopt(http->curl, CURLOPT_POSTFIELDS, bytes);
    curl_easy_setopt(http->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)size);
    char *page = get(http->curl, url, NULL);
    if (page == NULL)
        return -1;
    snprintf(expected, sizeof expected, "%zu %016llx", size,
             (unsigned long long)sum_of(SUM_START, bytes, size));
    must(strcmp(page, expected) == 0);
    free(page);

    size_t got = 0;
    uint64_t sum = SUM_START;
    curl_easy_setopt(http->curl, CURLOPT_HTTPGET, 1L);
    snprintf(url, sizeof url, "http://127.0.0.1:%s/big", getenv("GREEN_NGINX_PORT"));
    page = get(http->curl, url, &got);
    if (page == NULL)
        return -1;
    must(got == (size_t)64 << 20);
    for (int i = 0; i < 4 << 20; i++) {
        snprintf(line, sizeof line, "%015d\n", i);
        sum = sum_of(sum, line, 16);
    }
    must(sum_of(SUM_START, page, got) == sum);
    free(page);
    return 0;
}

static int http_limit(void *connection, int ms)
{
    struct http *http = connection;
    return curl_easy_setopt(http->curl, CURLOPT_TIMEOUT_MS, (long)ms) == CURLE_OK ? 0 : -1;
}

static pid_t http_server(void *connection)
{
    struct http *http = connection;
    char url[128];
    snprintf(url, sizeof url, "http://127.0.0.1:%d/0/pid", http->port);
    char *page = get(http->curl, url, NULL);
    must(page != NULL);
    pid_t pid = atoi(page);
    free(page);
    return pid;
}

static const char *http_version(void)
{
    return curl_version_info(CURLVERSION_NOW)->version;
}

static const struct client client = {
    .name = "libcurl",
    .version = http_version,
    .port = "GREEN_LATE_PORT",
    .connect = http_connect,
    .ask = http_ask,
    .move = http_move,
    .limit = http_limit,
    .server = http_server,
    .disconnect = http_disconnect,
};

#include "clients_tests.h"

/* The resolver that it has in a thread of its own wakes the task that waits. */
CLIENT_TEST(a_name_is_looked_up)
{
    struct http *http = connected();
    char url[128];
    snprintf(url, sizeof url, "http://localhost:%d/50/word", the_port());
    char *page = get(http->curl, url, NULL);
    assert_non_null(page);
    assert_string_equal(page, "word");
    free(page);
    http_disconnect(http);
}

/* Its limit for connecting. */
CLIENT_TEST(its_limit_for_connecting_is_kept)
{
    struct http *http = connected();
    int fds[3], count = 0;
    char url[128];
    snprintf(url, sizeof url, "http://127.0.0.1:%d/", silent_port(fds));
    green_task_t *ticker = spawn(ticks, &count);
    curl_easy_setopt(http->curl, CURLOPT_CONNECTTIMEOUT_MS, 200L);
    assert_null(get(http->curl, url, NULL));
    assert_true(count > 3);
    must_be_0(green_task_free(ticker));
    for (int i = 0; i < 3; i++)
        close(fds[i]);
    http_disconnect(http);
}
