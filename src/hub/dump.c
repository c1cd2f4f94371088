/* SPDX-License-Identifier: MIT */
/* Who waits for what: green_hub_dump(). */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "hub.h"

struct dump_line {
    char text[512];
    size_t used;
};

__attribute__((format(printf, 2, 3))) static void add_to_line(struct dump_line *line,
                                                              const char *format, ...)
{
    size_t room = sizeof line->text - 1 - line->used; /* for the line feed */
    va_list arguments;
    va_start(arguments, format);
    /* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): va_start() is there */
    int n = vsnprintf(line->text + line->used, room, format, arguments);
    va_end(arguments);
    if (n > 0)
        line->used += (size_t)n < room ? (size_t)n : room - 1;
}

/* The wait that tells most: of the task's own green, else the last begun. */
static const struct green__wait *wait_of(const struct green_task *task)
{
    const struct green__own *own = green__task_own(task);
    if (green__own_waits(own))
        return &own->wait;
    const struct green__wait *wait = task->waits;
    while (wait != NULL && wait->turn.green != task->green)
        wait = wait->next;
    return wait != NULL ? wait : task->waits;
}

/* Whether what it waits for is the number of a descriptor or of a process, and no address. */
static bool is_number(const struct green__wait *wait)
{
    const uintptr_t lowest_address = (uintptr_t)1 << 22; /* of what has several descriptors */
    if (wait->descriptors == 0)
        return wait->object != NULL && strcmp(wait->call, "green_waitpid") == 0;
    return (uintptr_t)wait->object < lowest_address;
}

static void add_wait(struct green__hub *hub, struct dump_line *line,
                     const struct green__wait *wait)
{
    int64_t time = green__loop_now(hub) - wait->since;
    add_to_line(line, " in %s(", wait->call);
    if (is_number(wait))
        add_to_line(line, "%d", (int)(intptr_t)wait->object);
    else if (wait->object != NULL)
        add_to_line(line, "%p", wait->object);
    add_to_line(line, ") for %lld.%03lld s", (long long)(time / 1000000000),
                (long long)(time / 1000000 % 1000));
}

static void add_state(struct green__hub *hub, struct dump_line *line,
                      const struct green_task *task, const void *place)
{
    const struct green__wait *wait = wait_of(task);
    if (task == green__task_of(hub, green__layer_current()))
        add_to_line(line, " running");
    else if (wait != NULL && wait->state == GREEN__WAITS)
        add_wait(hub, line, wait);
    else if (green_state(task->green) == GREEN_NEW)
        add_to_line(line, " not started");
    else if (wait != NULL || green__layer_waits(task->green))
        add_to_line(line, " ready");
    else
        add_to_line(line, " in a switch");
    if (task->cancelled)
        add_to_line(line, ", cancelled");
    if (task->daemon)
        add_to_line(line, ", daemon");
    if (wait != NULL && wait->place != NULL)
        place = wait->place;
    else if (task != green__task_of(hub, green__layer_current()))
        place = NULL;
    if (place != NULL) {
        char where[256];
        green__layer_format_place(where, sizeof where, place);
        add_to_line(line, ", at %s", where);
    }
}

static bool write_line(int fd, const char *text, size_t size)
{
    while (size > 0) {
        ssize_t n = GREEN__OWN(write(fd, text, size));
        if (n < 0 && errno != EINTR)
            return false;
        if (n > 0) {
            text += n;
            size -= (size_t)n;
        }
    }
    return true;
}

static bool dump_task(struct green__hub *hub, int fd, const struct green_task *task,
                      const void *place)
{
    struct dump_line line = {.used = 0};
    const char *name = green_name(task->green);
    add_to_line(&line, "task %p", (const void *)task);
    if (name != NULL)
        add_to_line(&line, " \"%s\"", name);
    add_to_line(&line, ":");
    add_state(hub, &line, task, place);
    for (size_t i = 0; i < line.used; i++)
        line.text[i] = green__printed(line.text[i]);
    line.text[line.used++] = '\n';
    return write_line(fd, line.text, line.used);
}

int green_hub_dump(int fd)
{
    struct green__hub *hub = green__hub_self;
    if (green__hub_forbidden)
        return green__call_fail(EPERM);
    if (hub == NULL)
        return 0;
    (void)green__layer_current(); /* waits whose frames unwinding has left are no more then */
    int cancelable;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancelable);
    const void *place = __builtin_return_address(0);
    bool written = dump_task(hub, fd, &hub->main, place);
    for (struct green_task *task = hub->living.next; written && task != &hub->living;
         task = task->next)
        written = dump_task(hub, fd, task, place);
    pthread_setcancelstate(cancelable, NULL);
    return written ? 0 : -1;
}
