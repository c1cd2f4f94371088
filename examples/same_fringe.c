/* SPDX-License-Identifier: MIT
 *
 * Have two trees the same leaves, in the same order, whatever their shapes?
 * Each is walked by a recursion of its own, and both go on in step: no list of
 * leaves is made, and at the first difference nobody has looked further.
 *
 *     same_fringe TREE TREE      say '((a b) c)' '(a (b c))'
 *
 * Exits with 0 if they have, 1 if not, 2 if something is wrong.
 */
#include <ctype.h>
#include <errno.h>
#include <green.h>
#include <stdio.h>
#include <string.h>

struct leaf {
    const char *name; /* not terminated */
    size_t length;
};

static _Noreturn void malformed(void)
{
    errno = EINVAL;
    green_exit(GREEN_FAILED);
}

static const char *skip_spaces(const char *text)
{
    while (isspace((unsigned char)*text))
        text++;
    return text;
}

/* Hands the leaves of the tree at text to the parent; returns where it ends. */
static const char *walk(const char *text)
{
    struct leaf leaf = { text, strcspn(text, "() \t\n") };

    if (*text == '(') {
        for (text = skip_spaces(text + 1); *text != ')'; text = skip_spaces(text))
            text = walk(text);
        return text + 1;
    }
    if (leaf.length == 0)
        malformed();
    if (green_yield(&leaf) == GREEN_FAILED)
        green_exit(GREEN_FAILED);
    return text + leaf.length;
}

static void *fringe(void *tree)
{
    if (*skip_spaces(walk(skip_spaces(tree))) != '\0')
        malformed();
    return NULL; /* no more leaves */
}

static int same_name(const struct leaf *a, const struct leaf *b)
{
    return a->length == b->length && memcmp(a->name, b->name, a->length) == 0;
}

int main(int argc, char **argv)
{
    static struct leaf the_end = { "the end", 7 }; /* which no leaf is called */
    static green_t *trees[2];
    struct leaf *leaves[2];
    int same;

    if (argc != 3)
        return fprintf(stderr, "usage: same_fringe TREE TREE\n"), 2;
    for (int i = 0; i < 2; i++) {
        /* Room for a tree that is nothing but parentheses. */
        green_options_t options = { .stack_size = (64 << 10) + 512 * strlen(argv[i + 1]) };
        if ((trees[i] = green_new_with(fringe, NULL, &options)) == NULL)
            return perror("same_fringe"), 2;
    }
    do {
        for (int i = 0; i < 2; i++) {
            if ((leaves[i] = green_switch(trees[i], argv[i + 1])) == GREEN_FAILED)
                return perror(argv[i + 1]), 2;
            if (leaves[i] == NULL)
                leaves[i] = &the_end;
        }
        same = same_name(leaves[0], leaves[1]);
    } while (same && leaves[0] != &the_end);

    if (same)
        puts("the same");
    else
        printf("%.*s is not %.*s\n", (int)leaves[0]->length, leaves[0]->name,
               (int)leaves[1]->length, leaves[1]->name);
    if (fflush(stdout) == EOF)
        return perror("same_fringe"), 2;
    return green_free(trees[0]) || green_free(trees[1]) ? 2 : !same;
}
