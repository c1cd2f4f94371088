/* SPDX-License-Identifier: MIT
 *
 * A parser that is pushed.  It is written as if it could ask for the next byte
 * whenever it wants one, in a recursive descent; but its input comes when and
 * in what pieces it comes, from read(2).  When a piece is used up, next()
 * yields, with all the recursion above it, until there is another.
 *
 *     push_parser [BYTES]      reads BYTES at a time, 4096 unless given
 *
 * Prints the JSON text on its standard input without white space.  Exits with 1
 * and says where if it is none.
 */
#include <errno.h>
#include <green.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DEEPEST = 512, END = -1 };

struct piece {
    const char *at, *end; /* empty: there is no more */
};

static struct piece *piece;
static long offset = -1; /* of what next() returned last */
static int c;            /* and that itself; a byte, or END */

static _Noreturn void fail(void)
{
    errno = EBADMSG;
    green_exit(GREEN_FAILED);
}

static void next(void)
{
    if (c != END && offset >= 0 && piece->at == piece->end && (piece = green_yield(NULL)) == GREEN_FAILED)
        green_exit(GREEN_FAILED);
    c = piece->at < piece->end ? (unsigned char)*piece->at++ : END;
    offset++;
}

/* Prints c and goes on to the next. */
static void keep(void)
{
    if (putchar(c) == EOF)
        green_exit(GREEN_FAILED);
    next();
}

static void expect(const char *set)
{
    if (c == END || c == '\0' || strchr(set, c) == NULL)
        fail();
    keep();
}

static void space(void)
{
    while (c == ' ' || c == '\t' || c == '\n' || c == '\r')
        next();
}

static void string(void)
{
    expect("\"");
    while (c != '"') {
        if (c < ' ') /* or END */
            fail();
        if (c != '\\') {
            keep();
            continue;
        }
        keep();
        int hex = c == 'u' ? 4 : 0;
        expect("\"\\/bfnrtu");
        while (hex-- > 0)
            expect("0123456789abcdefABCDEF");
    }
    keep();
}

static void digits(void)
{
    expect("0123456789");
    while (c >= '0' && c <= '9')
        keep();
}

static void number(void)
{
    if (c == '-')
        keep();
    if (c == '0')
        keep();
    else
        digits();
    if (c == '.') {
        keep();
        digits();
    }
    if (c == 'e' || c == 'E') {
        keep();
        if (c == '+' || c == '-')
            keep();
        digits();
    }
}

static void word(const char *rest)
{
    for (; *rest != '\0'; rest++)
        expect((char[]){ *rest, '\0' });
}

static void value(int depth)
{
    if (depth > DEEPEST)
        fail();
    space();
    if (c == '[' || c == '{') {
        int object = c == '{', end = object ? '}' : ']';
        keep();
        space();
        while (c != end) {
            if (object) {
                string();
                space();
                expect(":");
            }
            value(depth + 1);
            if (c == end)
                break;
            expect(",");
            space();
            if (c == end)
                fail();
        }
        keep();
    } else if (c == '"') {
        string();
    } else if (c == 't') {
        word("true");
    } else if (c == 'f') {
        word("false");
    } else if (c == 'n') {
        word("null");
    } else {
        number();
    }
    space();
}

static void *parse(void *first)
{
    piece = first;
    next();
    value(1);
    if (c != END)
        fail();
    return putchar('\n') == EOF ? GREEN_FAILED : NULL;
}

int main(int argc, char **argv)
{
    static char buffer[1 << 16];
    struct piece next_piece;
    int failed = 0;
    long size = argc > 1 ? atol(argv[1]) : 4096;
    green_t *parser;

    if (argc > 2 || size < 1 || size > (long)sizeof buffer)
        return fprintf(stderr, "usage: push_parser [BYTES]\n"), 2;
    if ((parser = green_new(parse, NULL)) == NULL)
        return perror("push_parser"), 1;
    do {
        ssize_t got = read(STDIN_FILENO, buffer, (size_t)size);
        next_piece = (struct piece){ buffer, buffer + (got > 0 ? got : 0) };
        if (got == -1) {
            perror("standard input");
            failed = 1;
        } else if (green_switch(parser, &next_piece) == GREEN_FAILED) {
            fprintf(stderr, "push_parser: byte %ld: %s\n", offset, strerror(errno));
            failed = 1;
        }
    } while (!failed && green_state(parser) != GREEN_DEAD);
    return green_free(parser) || fflush(stdout) == EOF || failed;
}
