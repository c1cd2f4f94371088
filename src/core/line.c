/* SPDX-License-Identifier: MIT */
/* A line about a green, built without the heap: a signal handler may do so. */
#define _GNU_SOURCE /* dladdr, syscall */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/line.h"
#include "quiet.h"

#pragma weak dladdr /* may be missing */

void green__line_char(struct green__line *line, char c)
{
    if (line->used < sizeof line->text)
        line->text[line->used++] = c;
}

void green__line_text(struct green__line *line, const char *text)
{
    while (*text != '\0')
        green__line_char(line, *text++);
}

static void put_number(struct green__line *line, uintptr_t number, unsigned base)
{
    char digits[24];
    size_t n = 0;
    do {
        digits[n++] = "0123456789abcdef"[number % base];
        number /= base;
    } while (number != 0);
    while (n > 0)
        green__line_char(line, digits[--n]);
}

void green__line_number(struct green__line *line, uintptr_t number)
{
    put_number(line, number, 10);
}

void green__line_address(struct green__line *line, uintptr_t address)
{
    green__line_text(line, "0x");
    put_number(line, address, 16);
}

void green__line_name(struct green__line *line, const char *name)
{
    green__line_char(line, '"');
    for (; *name != '\0'; name++)
        green__line_char(line, green__printed(*name));
    green__line_char(line, '"');
}

void green__line_green(struct green__line *line, const green_t *g)
{
    if (g->name == NULL) {
        green__line_address(line, (uintptr_t)g);
        return;
    }
    green__line_name(line, g->name);
    green__line_text(line, " (");
    green__line_address(line, (uintptr_t)g);
    green__line_char(line, ')');
}

void green__line_write(struct green__line *line)
{
    if (line->used == sizeof line->text)
        line->used--; /* what is cut ends all the same */
    green__line_char(line, '\n');
    green__write(STDERR_FILENO, line->text, line->used);
}

void green__say(const char *what, const green_t *g)
{
    struct green__line line;
    line.used = 0;
    green__line_text(&line, "libgreen: ");
    green__line_text(&line, what);
    green__line_text(&line, " green ");
    green__line_green(&line, g);
    green__line_write(&line);
}

/* An address, by the symbol it is in if there is one, else by the file. */
void green__format_pc(char *text, size_t size, uintptr_t pc, bool is_return)
{
    Dl_info info;
    if (dladdr == NULL || dladdr((void *)(pc - is_return), &info) == 0) {
        snprintf(text, size, "%p", (void *)pc);
    } else if (info.dli_sname != NULL) {
        snprintf(text, size, "%s+0x%zx", info.dli_sname, (size_t)(pc - (uintptr_t)info.dli_saddr));
    } else {
        const char *slash = strrchr(info.dli_fname, '/');
        snprintf(text, size, "%s+0x%zx", slash != NULL ? slash + 1 : info.dli_fname,
                 (size_t)(pc - (uintptr_t)info.dli_fbase));
    }
}
