/* SPDX-License-Identifier: MIT
 *
 * A web server that answers late.
 *
 *     late_server PORT
 *
 *     GET /MS/TEXT     TEXT, after so many milliseconds
 *     GET /0/pid       the number of its process
 *     POST /sum        how many bytes it was sent, and their sum (see sum.h)
 */
#include <errno.h>
#include <green_hub.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "sum.h"

static int answer(FILE *stream, const char *text)
{
    return fprintf(stream, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", strlen(text), text) < 0 ||
           fflush(stream) == EOF;
}

/* One request: 0 if another may follow. */
static int serve_one(FILE *stream)
{
    char line[1024], path[512], text[512];
    size_t length = 0;
    long ms;

    if (fgets(line, sizeof line, stream) == NULL || sscanf(line, "%*s %511s", path) != 1)
        return -1;
    do {
        if (fgets(line, sizeof line, stream) == NULL)
            return -1;
        if (strncasecmp(line, "Content-Length:", 15) == 0)
            length = strtoul(line + 15, NULL, 10);
    } while (line[0] != '\r' && line[0] != '\n');

    if (strcmp(path, "/sum") == 0) {
        uint64_t sum = SUM_START;
        size_t size = length;
        char *part = malloc(65536);
        while (part != NULL && length > 0) {
            size_t n = fread(part, 1, length < 65536 ? length : 65536, stream);
            if (n == 0)
                break;
            sum = sum_of(sum, part, n);
            length -= n;
        }
        free(part);
        snprintf(text, sizeof text, "%zu %016llx", size, (unsigned long long)sum);
        return length > 0 ? -1 : answer(stream, text);
    }
    if (sscanf(path, "/%ld/%511s", &ms, text) != 2 || green_sleep(GREEN_MS(ms)) != 0)
        return -1;
    if (strcmp(text, "pid") == 0)
        snprintf(text, sizeof text, "%ld", (long)getpid());
    return answer(stream, text);
}

static void serve(int client, void *unused)
{
    FILE *stream = green_fdopen(client, "r+");

    (void)unused;
    while (stream != NULL && serve_one(stream) == 0)
        continue;
    if (stream != NULL)
        fclose(stream);
}

int main(int argc, char **argv)
{
    green_group_t *clients = green_group_new(1000, 0);
    int listener = argc == 2 ? green_tcp_listen("127.0.0.1", argv[1], 0) : -1;

    if (clients == NULL || listener < 0)
        return fprintf(stderr, "usage: late_server PORT (%s)\n", strerror(errno)), 2;
    green_serve(listener, clients, serve, NULL);
    perror("green_serve");
    return 1;
}
