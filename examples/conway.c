/* SPDX-License-Identifier: MIT
 *
 * The problem for which Conway invented the coroutine in 1963: read cards of 80
 * columns, replace each ** by ^, and print lines of 125 columns.  None of 80, 2
 * and 125 divides another, and yet each of the three has its own plain loop.
 *
 *     conway <FILE
 *
 * A line of text is a card, filled with spaces; what does not fit goes on a
 * further one.  A space follows each card, and so no ** spans two.
 */
#include <green.h>
#include <stdio.h>
#include <string.h>

enum { CARD = 80, LINE = 125 };

static green_t *cards, *squeezed;

/* The next character that g makes, NULL at the end; an error ends us, too. */
static char *next(green_t *g)
{
    char *c = green_switch(g, NULL);

    if (c == GREEN_FAILED)
        green_exit(GREEN_FAILED);
    return c;
}

static void hand_out(char *c)
{
    if (green_yield(c) == GREEN_FAILED)
        green_exit(GREEN_FAILED);
}

/* A line of text, or as much of it as fits, and the space; 0 if there is none. */
static int read_card(char card[CARD + 1])
{
    int column = 0, c;

    while ((c = getchar()) != EOF && c != '\n') {
        if (column == CARD) {
            ungetc(c, stdin);
            break;
        }
        card[column++] = (char)c;
    }
    memset(card + column, ' ', (size_t)(CARD + 1 - column));
    return c != EOF || column > 0;
}

static void *disassemble(void *unused)
{
    char card[CARD + 1];

    (void)unused;
    while (read_card(card))
        for (int column = 0; column <= CARD; column++)
            hand_out(&card[column]);
    return ferror(stdin) ? GREEN_FAILED : NULL;
}

static void *squeeze(void *unused)
{
    char star = '*', arrow = '^', *c;

    (void)unused;
    while ((c = next(cards)) != NULL) {
        if (*c == '*') {
            c = next(cards); /* there is one: a space follows every card */
            if (*c == '*')
                c = &arrow;
            else
                hand_out(&star);
        }
        hand_out(c);
    }
    return NULL;
}

static int assemble(void)
{
    char line[LINE + 1], *c;
    size_t column = 0;

    line[LINE] = '\n';
    do {
        if ((c = green_switch(squeezed, NULL)) == GREEN_FAILED)
            return -1;
        if (c != NULL)
            line[column++] = *c;
        else
            while (column > 0 && column < LINE)
                line[column++] = ' ';
        if (column == LINE) {
            if (fwrite(line, 1, sizeof line, stdout) < sizeof line)
                return -1;
            column = 0;
        }
    } while (c != NULL);
    return fflush(stdout);
}

int main(void)
{
    squeezed = green_new(squeeze, NULL);
    cards = green_new(disassemble, squeezed);
    if (!squeezed || !cards || assemble() != 0)
        return perror("conway"), 1;
    return green_free(squeezed) || green_free(cards);
}
