/* SPDX-License-Identifier: MIT
 *
 * A web server for the files of a directory: HTTP/1.1 with connections that are kept,
 * ranges and If-Modified-Since.
 *
 *     httpd [-a ADDRESS] [-p PORT] [-n CLIENTS] [-j THREADS] [-t SECONDS] DIRECTORY
 *
 *     -a ADDRESS  listens there; 127.0.0.1 unless given
 *     -p PORT     and there; 8080 unless given, 0: a free one
 *     -n CLIENTS  at most so many at a time for each thread, the others wait; 1000
 *     -j THREADS  each with a hub and a socket of its own at the same port; 1
 *     -t SECONDS  for a client to send a request, and to take 16 KiB of the answer; 15
 *
 * /status shows the tasks of the thread that is asked, by green_hub_dump().  What
 * is not below DIRECTORY, wherever `..` and symbolic links lead, is not found, and
 * only files and directories are served.  A request has 8 KiB.  SIGINT and SIGTERM
 * end it.
 */
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "server.h"

/* A thread that serves. */
struct worker {
    pthread_t thread;
    int number, listener;
    green_hub_t *hub;
    green_group_t *clients;
    unsigned long requests;
    int error; /* that ended it */
};

struct client {
    struct worker *worker;
    int fd;
    size_t used; /* of head: what has come and is not answered */
    char head[8192];
};

struct request {
    const char *target, *headers; /* as they came; lines end in "\0\n", the last is empty */
    char path[PATH_MAX];          /* decoded, and relative */
    int head_only, keep;          /* HEAD; the connection goes on */
};

static char root_path[PATH_MAX];
static int root, stopped;
static int64_t patience;
static unsigned long most_clients = 1000;

/* ---- Requests --------------------------------------------------------------- */

/* The length of a request; 0 at the end, -1: failed, EMSGSIZE if it is too long. */
static ssize_t read_head(struct client *client)
{
    GREEN_SCOPE(limit, patience, 0);
    for (;;) {
        char *end = memmem(client->head, client->used, "\r\n\r\n", 4);
        ssize_t n;

        if (end != NULL)
            return end + 4 - client->head;
        if (client->used == sizeof client->head)
            return errno = EMSGSIZE, -1;
        n = green_read(client->fd, client->head + client->used, sizeof client->head - client->used);
        if (n <= 0)
            return n;
        client->used += (size_t)n;
    }
}

static const char *header(const struct request *request, const char *name)
{
    size_t length = strlen(name);

    for (const char *line = request->headers; *line != '\0'; line += strlen(line) + 2)
        if (strncasecmp(line, name, length) == 0 && line[length] == ':')
            return line + length + 1 + strspn(line + length + 1, " \t");
    return NULL;
}

static int hexadecimal(char c)
{
    const char *digits = "0123456789abcdef", *digit = c != '\0' ? strchr(digits, c | 0x20) : NULL;

    return digit != NULL && (c >= 'A' || c <= '9') ? (int)(digit - digits) : -1;
}

/* The path of the target, without its query, decoded: 0, or the status of a refusal. */
static int decode(struct request *request)
{
    const char *from = request->target;
    char *to = request->path;

    while (*from != '\0' && *from != '?' && *from != '#') {
        int c = (unsigned char)*from++;
        if (c == '%') {
            int high = hexadecimal(from[0]), low = high < 0 ? -1 : hexadecimal(from[1]);
            if (low < 0 || (high | low) == 0)
                return 400;
            c = high * 16 + low;
            from += 2;
        }
        if (to == request->path + sizeof request->path - sizeof "index.html")
            return 414;
        *to++ = (char)c;
    }
    *to = '\0';
    return 0;
}

static int has_dots(const char *path)
{
    for (const char *dots = path; (dots = strstr(dots, "..")) != NULL; dots++)
        if ((dots == path || dots[-1] == '/') && (dots[2] == '/' || dots[2] == '\0'))
            return 1;
    return 0;
}

/* 0, or the status of a refusal; then the connection ends with it. */
static int parse(char *head, size_t length, struct request *request)
{
    char *target, *version;
    const char *connection;

    request->keep = 0;
    if (memchr(head, '\0', length) != NULL)
        return 400;
    for (char *end = head; (end = memmem(end, length - (size_t)(end - head), "\r\n", 2)) != NULL;)
        *end++ = '\0';
    request->headers = head + strlen(head) + 2;
    request->head_only = strncmp(head, "HEAD ", 5) == 0;
    target = strchr(head, ' ');
    version = target != NULL ? strchr(++target, ' ') : NULL;
    if (version == NULL)
        return 400;
    *version++ = '\0';
    if (strcmp(version, "HTTP/1.1") != 0 && strcmp(version, "HTTP/1.0") != 0)
        return strncmp(version, "HTTP/", 5) == 0 ? 505 : 400;
    if (strcmp(version, "HTTP/1.1") == 0 && header(request, "Host") == NULL)
        return 400;
    if (!request->head_only && strncmp(head, "GET ", 4) != 0)
        return 405;
    if (strncasecmp(target, "http://", 7) == 0)
        target += 7 + strcspn(target + 7, "/");
    else if (*target != '/')
        return 400;
    request->target = target + strspn(target, "/");
    if (header(request, "Content-Length") == NULL && header(request, "Transfer-Encoding") == NULL) {
        connection = header(request, "Connection");
        request->keep = strcmp(version, "HTTP/1.1") == 0
                            ? connection == NULL || strcasestr(connection, "close") == NULL
                            : connection != NULL && strcasestr(connection, "keep-alive") != NULL;
    } /* else there is a body, which nobody reads */
    return decode(request);
}

/* ---- Answers ---------------------------------------------------------------- */

static const char *reason(int status)
{
    static const struct {
        int status;
        const char *reason;
    } table[] = {
        { 200, "OK" }, { 206, "Partial Content" }, { 301, "Moved Permanently" },
        { 304, "Not Modified" }, { 400, "Bad Request" }, { 404, "Not Found" },
        { 405, "Method Not Allowed" }, { 408, "Request Timeout" }, { 414, "URI Too Long" },
        { 416, "Range Not Satisfiable" }, { 431, "Request Header Fields Too Large" },
        { 503, "Service Unavailable" }, { 505, "HTTP Version Not Supported" },
    };

    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].status == status)
            return table[i].reason;
    return "Internal Server Error";
}

enum { DATE_SIZE = 32 };

/* The last dates of the thread are kept: the same are asked for time and again. */
static const char *date_of(time_t time)
{
    static _Thread_local struct {
        time_t time;
        char text[DATE_SIZE];
    } kept[16];
    size_t i = (size_t)time % 16;
    struct tm parts;

    if ((kept[i].time != time || kept[i].text[0] == '\0')
        && (gmtime_r(&time, &parts) == NULL
            || strftime(kept[i].text, DATE_SIZE, "%a, %d %b %Y %H:%M:%S GMT", &parts) == 0))
        return "";
    kept[i].time = time;
    return kept[i].text;
}

static int send_all(const struct client *client, const char *bytes, size_t n)
{
    GREEN_SCOPE(limit, patience, 0);
    return green_write_all(client->fd, bytes, n) == (ssize_t)n ? 0 : -1;
}

/* The lines before the body, into out: their length. */
static size_t begin(const struct request *request, int status, long long length, const char *more,
                    char *out, size_t size)
{
    int n = snprintf(out, size, "HTTP/1.1 %d %s\r\nDate: %s\r\n%sConnection: %s\r\n", status,
                     reason(status), date_of(time(NULL)), more,
                     request->keep ? "keep-alive" : "close");

    if (status != 304)
        n += snprintf(out + n, size - (size_t)n, "Content-Length: %lld\r\n", length);
    return (size_t)n + (size_t)snprintf(out + n, size - (size_t)n, "\r\n");
}

/* An answer that has nothing but its status to say. */
static int say(const struct client *client, struct request *request, int status, const char *more)
{
    char out[10000], body[64] = "";
    size_t n;

    if (status != 304)
        snprintf(body, sizeof body, "%d %s\n", status, reason(status));
    n = begin(request, status, (long long)strlen(body), more, out, sizeof out);
    if (!request->head_only)
        n += (size_t)snprintf(out + n, sizeof out - n, "%s", body);
    return send_all(client, out, n);
}

static int is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* 206 with the part that is wanted, 416, or 200 where there is no range, or a strange one. */
static int find_range(const char *text, long long size, long long *first, long long *count)
{
    long long from, to = size - 1;
    char *end;

    *first = 0;
    *count = size;
    if (text == NULL || strncmp(text, "bytes=", 6) != 0)
        return 200;
    text += 6;
    if (!is_digit(text[*text == '-']))
        return 200;
    if (*text == '-') { /* the last so many */
        from = strtoll(text + 1, &end, 10);
        if (from == 0)
            return 416;
        from = from < size ? size - from : 0;
    } else {
        from = strtoll(text, &end, 10);
        if (*end++ != '-')
            return 200;
        if (is_digit(*end)) {
            long long last = strtoll(end, &end, 10);
            if (last < from)
                return 200;
            to = last < to ? last : to;
        }
    }
    if (*end != '\0')
        return 200;
    if (from > to)
        return 416;
    *first = from;
    *count = to - from + 1;
    return 206;
}

/* A part of the file, after the n bytes that are in out. */
static int send_part(const struct client *client, int file, long long first, long long count,
                     char *out, size_t n, size_t size)
{
    do {
        size_t want = size - n < (size_t)count ? size - n : (size_t)count;
        ssize_t got = want > 0 ? green_pread(file, out + n, want, (off_t)first) : 0;

        if (got < 0 || (got == 0 && want > 0)) /* it is shorter by now: not what was promised */
            return -1;
        if (send_all(client, out, n + (size_t)got) != 0)
            return -1;
        first += got;
        count -= got;
        n = 0;
    } while (count > 0);
    return 0;
}

static int send_file(const struct client *client, const struct request *request, int file,
                     const char *type)
{
    char out[16384], more[256];
    const char *date, *since = header(request, "If-Modified-Since"), *range = header(request, "Range"),
               *same = header(request, "If-Range");
    long long first, count;
    struct stat about;
    struct tm parts = { .tm_year = 0 };
    int status, length;
    size_t n;

    if (fstat(file, &about) != 0)
        return -1;
    date = date_of(about.st_mtime);
    if (same != NULL && strcmp(same, date) != 0)
        range = NULL;
    status = find_range(range, about.st_size, &first, &count);
    if (since != NULL && strptime(since, "%a, %d %b %Y %H:%M:%S GMT", &parts) != NULL
        && about.st_mtime <= timegm(&parts))
        status = 304;
    length = snprintf(more, sizeof more,
                      "Last-Modified: %s\r\nAccept-Ranges: bytes\r\nContent-Type: %s\r\n", date, type);
    if (status == 206)
        snprintf(more + length, sizeof more - (size_t)length,
                 "Content-Range: bytes %lld-%lld/%lld\r\n", first, first + count - 1,
                 (long long)about.st_size);
    if (status == 416) {
        snprintf(more, sizeof more, "Content-Range: bytes */%lld\r\n", (long long)about.st_size);
        count = 0;
    }
    n = begin(request, status, count, more, out, sizeof out);
    return send_part(client, file, first, request->head_only || status == 304 ? 0 : count, out, n,
                     sizeof out);
}

/* ---- Files ------------------------------------------------------------------ */

static const char *type_of(const char *path)
{
    static const char *const types[][2] = {
        { ".html", "text/html; charset=utf-8" }, { ".css", "text/css" },
        { ".js", "text/javascript" },            { ".json", "application/json" },
        { ".txt", "text/plain; charset=utf-8" }, { ".svg", "image/svg+xml" },
        { ".png", "image/png" },                 { ".jpg", "image/jpeg" },
        { ".gif", "image/gif" },                 { ".pdf", "application/pdf" },
    };
    const char *dot = strrchr(path, '.');

    for (size_t i = 0; dot != NULL && i < sizeof types / sizeof *types; i++)
        if (strcasecmp(dot, types[i][0]) == 0)
            return types[i][1];
    return "application/octet-stream";
}

/*
 * Where the system cannot say itself whether a path stays below the root.  The file is
 * found first, seen to be in its place, and then opened as what was found, so nobody can
 * put something else there meanwhile.
 */
static int open_found(const char *path)
{
    char link[32], real[PATH_MAX];
    size_t length = strlen(root_path);
    int found = openat(root, path, O_PATH | O_CLOEXEC), file = -1;
    struct stat about;
    ssize_t n;

    if (found < 0)
        return -1;
    snprintf(link, sizeof link, "/proc/self/fd/%d", found);
    n = readlink(link, real, sizeof real);
    if (n >= (ssize_t)length && n < (ssize_t)sizeof real && memcmp(real, root_path, length) == 0
        && (n == (ssize_t)length || real[length] == '/') && fstat(found, &about) == 0) {
        if (S_ISREG(about.st_mode))
            file = open(link, O_RDONLY | O_CLOEXEC);
        else if (S_ISDIR(about.st_mode))
            file = -2;
    }
    close(found);
    return file;
}

/* The kernel's; libc has no openat2(). */
struct how {
    uint64_t flags, mode, resolve;
};

#ifndef SYS_openat2
#define SYS_openat2 437
#endif
enum { RESOLVE_NO_MAGIC = 2, RESOLVE_BELOW = 8 };

/*
 * Opens what is at a path: the descriptor, -1 if there is no such file below the root,
 * or -2 for a directory.  O_NONBLOCK is for what is neither, and might be waited for.
 */
static int open_below(const char *path)
{
    struct how how = { O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0,
                       RESOLVE_NO_MAGIC | RESOLVE_BELOW };
    int file = (int)syscall(SYS_openat2, root, path, &how, sizeof how);
    struct stat about;

    if (file < 0) /* EXDEV: a link from the top, which may lead back below the root */
        return errno == ENOENT || errno == ENOTDIR || errno == EACCES ? -1 : open_found(path);
    if (fstat(file, &about) != 0)
        about.st_mode = 0;
    if (S_ISREG(about.st_mode))
        return file;
    close(file);
    return S_ISDIR(about.st_mode) ? -2 : -1;
}

static int serve_file(const struct client *client, struct request *request)
{
    size_t length = strlen(request->path);
    int is_place = length == 0 || request->path[length - 1] == '/', result;
    int file = has_dots(request->path) ? -1 : open_below(is_place && length == 0 ? "." : request->path);

    if (file == -2 && !is_place) { /* so that what is relative in its index is right */
        char more[sizeof client->head + 64];
        snprintf(more, sizeof more, "Location: /%.*s/\r\n", (int)strcspn(request->target, "?#"),
                 request->target);
        return say(client, request, 301, more);
    }
    if (file == -2) {
        strcpy(request->path + length, "index.html");
        file = open_below(request->path);
    }
    if (file < 0)
        return say(client, request, 404, "");
    result = send_file(client, request, file, type_of(request->path));
    green_close(file);
    return result;
}

static int serve_status(const struct client *client, struct request *request)
{
    const struct worker *worker = client->worker;
    int result, file = memfd_create("status", MFD_CLOEXEC);

    if (file < 0
        || dprintf(file, "thread %d: %zu clients of at most %lu, %lu requests\n", worker->number,
                   green_group_size(worker->clients), most_clients, worker->requests) < 0
        || green_hub_dump(file) != 0)
        result = say(client, request, 503, "");
    else
        result = send_file(client, request, file, "text/plain; charset=utf-8");
    if (file >= 0)
        green_close(file);
    return result;
}

/* ---- Clients ---------------------------------------------------------------- */

/* One request; whether another may come. */
static int serve_request(struct client *client)
{
    struct request request; /* of its path no more is touched than there is */
    ssize_t length = read_head(client);
    int status, result;

    request.target = request.headers = request.path;
    request.path[0] = '\0';
    request.head_only = request.keep = 0;
    if (length < 0 && client->used > 0 && (errno == ETIMEDOUT || errno == EMSGSIZE))
        (void)say(client, &request, errno == ETIMEDOUT ? 408 : 431, "");
    if (length <= 0)
        return 0;
    client->worker->requests++;
    status = parse(client->head, (size_t)length, &request);
    if (status != 0) {
        request.keep = 0;
        result = say(client, &request, status, status == 405 ? "Allow: GET, HEAD\r\n" : "");
    } else if (strcmp(request.path, "status") == 0) {
        result = serve_status(client, &request);
    } else {
        result = serve_file(client, &request);
    }
    client->used -= (size_t)length;
    memmove(client->head, client->head + length, client->used);
    return result == 0 && request.keep;
}

static void serve_client(int fd, void *worker)
{
    struct client client; /* nor of its head */

    client.worker = worker;
    client.fd = fd;
    client.used = 0;
    while (serve_request(&client))
        ;
    /* To close it with bytes unread would be a reset, and might cost the answer. */
    if (shutdown(fd, SHUT_WR) == 0) {
        GREEN_SCOPE(limit, GREEN_SEC(1), 0);
        while (green_read(fd, client.head, sizeof client.head) > 0)
            ;
    }
}

/* ---- Threads ---------------------------------------------------------------- */

/* In a thread's hub: its green_serve() returns. */
static void *stop(void *worker)
{
    green_close(((struct worker *)worker)->listener);
    return NULL;
}

static int prepare(struct worker *worker)
{
    return (worker->hub = green_hub_open()) == NULL
                   || (worker->clients = green_group_new(most_clients, 0)) == NULL
               ? -1
               : 0;
}

static void serve(struct worker *worker)
{
    green_serve(worker->listener, worker->clients, serve_client, worker);
    worker->error = errno;
    green_group_free(worker->clients);
}

static pthread_barrier_t all_there; /* all handles are open */

static void *run_thread(void *worker)
{
    if (prepare(worker) != 0) {
        perror("httpd");
        exit(1);
    }
    pthread_barrier_wait(&all_there);
    serve(worker);
    green_hub_end(GREEN_FOREVER);
    return NULL;
}

struct crew {
    struct worker *workers;
    long n;
    sigset_t signals;
};

static void *await_signal(void *arg)
{
    struct crew *crew = arg;

    if (green_sigwait(&crew->signals, GREEN_FOREVER) < 0)
        return GREEN_FAILED;
    stopped = 1;
    for (long i = 1; i < crew->n; i++)
        green_hub_spawn(crew->workers[i].hub, stop, &crew->workers[i]);
    return stop(&crew->workers[0]);
}

/* ---- The start -------------------------------------------------------------- */

/* A socket for each thread, all at the port that the first is given. */
static int listen_all(struct crew *crew, const char *address, const char *port)
{
    char same[16];

    for (long i = 0; i < crew->n; i++) {
        crew->workers[i].number = (int)i + 1;
        crew->workers[i].listener = green_tcp_listen(address, port, crew->n > 1 ? GREEN_REUSEPORT : 0);
        if (crew->workers[i].listener < 0)
            return -1;
        snprintf(same, sizeof same, "%u", port_of(crew->workers[i].listener));
        port = same;
    }
    return 0;
}

int main(int argc, char **argv)
{
    const char *address = "127.0.0.1", *port = "8080";
    long clients = 1000, seconds = 15;
    unsigned long requests = 0;
    struct crew crew = { .n = 1 };

    for (int option; (option = getopt(argc, argv, "a:p:n:j:t:")) != -1;) {
        switch (option) {
        case 'a': address = optarg; break;
        case 'p': port = optarg; break;
        case 'n': clients = number(optarg, 1000000); break;
        case 'j': crew.n = number(optarg, 1000); break;
        case 't': seconds = number(optarg, 1000000); break;
        default: clients = 0;
        }
    }
    if (clients == 0 || crew.n == 0 || seconds == 0 || optind != argc - 1)
        return fprintf(stderr, "usage: httpd [-a ADDRESS] [-p PORT] [-n CLIENTS] [-j THREADS]"
                               " [-t SECONDS] DIRECTORY\n"),
               2;
    most_clients = (unsigned long)clients;
    patience = GREEN_SEC(seconds);
    root = open(argv[optind], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0 || realpath(argv[optind], root_path) == NULL)
        return fprintf(stderr, "httpd: %s: %s\n", argv[optind], strerror(errno)), 1;
    if (strcmp(root_path, "/") == 0)
        root_path[0] = '\0';

    block_signals(&crew.signals);
    crew.workers = calloc((size_t)crew.n, sizeof *crew.workers);
    if (crew.workers == NULL || listen_all(&crew, address, port) != 0 || prepare(crew.workers) != 0
        || (errno = pthread_barrier_init(&all_there, NULL, (unsigned)crew.n)) != 0)
        return perror("httpd"), 1;
    for (long i = 1; i < crew.n; i++)
        if ((errno = pthread_create(&crew.workers[i].thread, NULL, run_thread, &crew.workers[i])) != 0)
            return perror("httpd"), 1;
    pthread_barrier_wait(&all_there);
    if (green_task_spawn_with(await_signal, &crew,
                              &(green_options_t){ .name = "signals", .flags = GREEN_DETACHED })
        == NULL)
        return perror("httpd"), 1;
    say_port("httpd", crew.workers[0].listener);

    serve(&crew.workers[0]);
    for (long i = 0; i < crew.n && stopped; i++) {
        if (i > 0)
            pthread_join(crew.workers[i].thread, NULL);
        green_hub_close(crew.workers[i].hub);
        requests += crew.workers[i].requests;
    }
    if (!stopped)
        return errno = crew.workers[0].error, perror("httpd"), 1;
    free(crew.workers);
    printf("httpd: %lu requests\n", requests);
    return fflush(stdout) == EOF ? perror("httpd"), 1 : 0;
}
