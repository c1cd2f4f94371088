/* SPDX-License-Identifier: MIT
 *
 * Rooms to chat in, by lines: for telnet, nc or socat.
 *
 *     chat [-a ADDRESS] [-p PORT] [-n CLIENTS] [-t SECONDS]
 *
 *     -a ADDRESS  listens there; 127.0.0.1 unless given
 *     -p PORT     and there; 7878 unless given, 0: a free one
 *     -n CLIENTS  at most so many at a time, the others wait; 1000 unless given
 *     -t SECONDS  who says nothing for so long is told so, and left; 600 unless given
 *
 * The first line of a client is its name.  Then what it says is heard by all who are in
 * its room, but for "/join ROOM", "/who" and "/quit".  Nobody is waited for: who has
 * not taken 64 lines by the time that the next one comes is dropped, and a line that
 * has no end is no reason to fill the memory.
 *
 * A client is two tasks: its own, which reads, and one that writes what others put into
 * its queue.  At SIGINT or SIGTERM each is told goodbye.
 */
#define _GNU_SOURCE

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "server.h"

enum { LONGEST_NAME = 24, LONGEST_LINE = 512, QUEUE = 64 };

struct client {
    struct client *next;
    char name[LONGEST_NAME + 1], room[LONGEST_NAME + 1];
    int fd;
    FILE *in;             /* of green_fdopen() */
    green_queue_t *lines; /* to be written: of malloc, the writer's from then on */
    green_task_t *task;
    int slow;
};

static struct client *first;
static long patience = 600;

/* ---- What is said ------------------------------------------------------------------ */

/* Puts a line into a client's queue; one that has no room for it is dropped. */
static void tell(struct client *client, const char *line)
{
    char *copy = client->slow ? NULL : strdup(line);

    GREEN_SCOPE(shield, GREEN_FOREVER, GREEN_SHIELD); /* whoever says it may be cancelled */
    if (copy != NULL && green_queue_put(client->lines, &copy, GREEN_NOWAIT) == 0)
        return;
    free(copy);
    client->slow = 1;
    green_task_cancel(client->task);
}

__attribute__((format(printf, 3, 4))) static void tell_room(const char *room, const struct client *but,
                                                            const char *format, ...)
{
    char line[LONGEST_LINE + 2 * LONGEST_NAME + 32];
    va_list args;

    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    for (struct client *client = first; client != NULL; client = client->next)
        if (client != but && strcmp(client->room, room) == 0)
            tell(client, line);
}

static void tell_who(struct client *asks)
{
    for (const struct client *client = first; client != NULL; client = client->next) {
        char line[2 * LONGEST_NAME + 32];
        snprintf(line, sizeof line, "* %s is in %s\n", client->name, client->room);
        tell(asks, line);
    }
}

/* Writes what is put into the queue, until it is closed. */
static void *write_lines(void *arg)
{
    struct client *client = arg;
    char *line;

    while (green_queue_get(client->lines, &line, GREEN_FOREVER) == 0) {
        size_t length = strlen(line);
        ssize_t n = green_write_all(client->fd, line, length);
        free(line);
        if (n != (ssize_t)length)
            break;
    }
    return NULL;
}

/* ---- What is heard ------------------------------------------------------------------ */

/* A word of letters, digits and the like, for a name. */
static int is_name(const char *name)
{
    size_t length = strlen(name);

    return length > 0 && length <= LONGEST_NAME && name[strcspn(name, " \t/*:")] == '\0';
}

/*
 * The next line, without its end: NULL if there is none, with errno; 0 at the end of all.
 * getline() would take one of any length; fgets() is the same with a bound.
 */
static char *read_line(struct client *client, char line[static LONGEST_LINE])
{
    size_t length;

    GREEN_SCOPE(limit, GREEN_SEC(patience), 0);
    errno = 0;
    if (fgets(line, LONGEST_LINE, client->in) == NULL)
        return NULL;
    length = strlen(line);
    if (length == 0 || line[length - 1] != '\n')
        return errno = feof(client->in) ? 0 : EMSGSIZE, NULL;
    line[strcspn(line, "\r\n")] = '\0';
    return line;
}

static int is_taken(const char *name)
{
    for (const struct client *client = first; client != NULL; client = client->next)
        if (strcmp(client->name, name) == 0)
            return 1;
    return 0;
}

static void enter(struct client *client, const char *room)
{
    if (client->room[0] != '\0')
        tell_room(client->room, client, "* %s goes to %s\n", client->name, room);
    strcpy(client->room, room);
    tell_room(client->room, NULL, "* %s is in %s\n", client->name, room);
}

/* Until it has no more to say: the line that it is told at the end, or NULL. */
static const char *talk(struct client *client)
{
    char line[LONGEST_LINE];

    tell(client, "* your name?\n");
    while (client->name[0] == '\0' && read_line(client, line) != NULL) {
        if (!is_name(line) || is_taken(line)) {
            tell(client, is_name(line) ? "* it is taken\n" : "* a word, please\n");
            continue;
        }
        strcpy(client->name, line);
        enter(client, "hall");
    }
    while (read_line(client, line) != NULL) {
        if (strcmp(line, "/quit") == 0)
            return "* goodbye\n";
        if (strcmp(line, "/who") == 0)
            tell_who(client);
        else if (strncmp(line, "/join ", 6) == 0 && is_name(line + 6))
            enter(client, line + 6);
        else if (line[0] == '/')
            tell(client, "* /join ROOM, /who or /quit\n");
        else
            tell_room(client->room, client, "%s: %s\n", client->name, line);
        green_sleep(0); /* for the writers: one who says much makes nobody slow */
    }
    return errno == ETIMEDOUT   ? "* you say nothing: goodbye\n"
           : errno == EMSGSIZE  ? "* this line is too long: goodbye\n"
           : errno == ECANCELED ? "* the server ends: goodbye\n"
                                : NULL;
}

/* ---- Clients ------------------------------------------------------------------------ */

/* It may have a second to take what it has been told, if it is not the slow one. */
static void say_goodbye(struct client *client, green_task_t *writer, const char *line)
{
    char rest[4096];

    GREEN_SCOPE(shield, GREEN_SEC(1), GREEN_SHIELD);
    if (client->slow)
        return;
    if (line != NULL)
        tell(client, line);
    green_queue_close(client->lines);
    if (green_task_join(writer, NULL, GREEN_FOREVER) != 0 || line == NULL
        || shutdown(client->fd, SHUT_WR) != 0)
        return;
    /* To close it with bytes unread would be a reset, and might cost the line. */
    while (green_read(client->fd, rest, sizeof rest) > 0)
        ;
}

static void leave(struct client *client)
{
    struct client **at = &first;

    while (*at != client)
        at = &(*at)->next;
    *at = client->next;
    if (client->name[0] != '\0')
        tell_room(client->room, NULL, client->slow ? "* %s was too slow\n" : "* %s has left\n",
                  client->name);
}

/* What has been queued for nobody; with it the queue goes. */
static void drop_lines(green_queue_t *lines)
{
    char *line;

    GREEN_SCOPE(shield, GREEN_FOREVER, GREEN_SHIELD);
    while (green_queue_get(lines, &line, GREEN_NOWAIT) == 0)
        free(line);
    green_queue_free(lines);
}

static void serve(int fd, void *unused)
{
    struct client client = { .next = first, .fd = fd, .task = green_task_current(),
                             .in = green_fdopen(fd, "r") };
    green_task_t *writer = NULL;

    (void)unused;
    client.lines = green_queue_new(sizeof(char *), QUEUE);
    if (client.lines != NULL && client.in != NULL)
        writer = green_task_spawn_with(write_lines, &client, &(green_options_t){ .name = "writer" });
    if (writer != NULL) {
        const char *line;
        first = &client;
        line = talk(&client);
        leave(&client);
        say_goodbye(&client, writer, line);
        green_task_free(writer);
    } else {
        perror("chat: a client");
    }
    if (client.lines != NULL)
        drop_lines(client.lines);
    if (client.in != NULL)
        fclose(client.in);
}

/* ---- The start ---------------------------------------------------------------------- */

int main(int argc, char **argv)
{
    const char *address = "127.0.0.1", *port = "7878";
    long most = 1000;

    for (int option; (option = getopt(argc, argv, "a:p:n:t:")) != -1;) {
        switch (option) {
        case 'a': address = optarg; break;
        case 'p': port = optarg; break;
        case 'n': most = number(optarg, 1000000); break;
        case 't': patience = number(optarg, 1000000); break;
        default: most = 0;
        }
    }
    if (most == 0 || patience == 0 || optind != argc)
        return fprintf(stderr, "usage: chat [-a ADDRESS] [-p PORT] [-n CLIENTS] [-t SECONDS]\n"), 2;

    return serve_until_signal("chat", address, port, most, serve);
}
