/* SPDX-License-Identifier: MIT */
#ifndef GREEN_LINE_H
#define GREEN_LINE_H
/*
 * A line about a green, as the library writes it: without memory of the heap, at any
 * moment.
 */
#include "core/state.h"

struct green__line {
    size_t used;
    char text[640];
};

/* Each adds to a line; what there is no room for is left out. */
void green__line_char(struct green__line *line, char c);
void green__line_text(struct green__line *line, const char *text);
void green__line_number(struct green__line *line, uintptr_t number);
void green__line_address(struct green__line *line, uintptr_t address);

/* A character of a name as it is printed: names are the user's, and a line stays a line. */
static inline char green__printed(char c)
{
    if ((unsigned char)c < ' ' || c == 0x7f)
        return '?';
    return c;
}

/* A name in quotes. */
void green__line_name(struct green__line *line, const char *name);

/* `"NAME" (ADDRESS)`, or the address alone. */
void green__line_green(struct green__line *line, const green_t *g);

/* Ends it and writes it to stderr. */
void green__line_write(struct green__line *line);

/* `libgreen: `, a sentence and the green that it is about: a line of its own. */
void green__say(const char *what, const green_t *g);

/* An address of code, or the return address of a call, by its symbol if there is one. */
void green__format_pc(char *text, size_t size, uintptr_t pc, bool is_return);

#endif
