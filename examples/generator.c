/* SPDX-License-Identifier: MIT
 *
 * A generator: all orders of some letters, one at a time.  It recurses, and
 * hands out each from the depth it is at; who asks for the next does not see
 * that.
 *
 *     generator [LETTERS]      abc unless given
 */
#include <green.h>
#include <stdio.h>
#include <string.h>

static void swap(char *a, char *b)
{
    char c = *a;

    *a = *b;
    *b = c;
}

/* Every order of what begins at rest, of which the letters before it stay. */
static void permute(char *letters, char *rest)
{
    if (rest[0] == '\0' || rest[1] == '\0') {
        if (green_yield(letters) == GREEN_FAILED)
            green_exit(GREEN_FAILED);
        return;
    }
    for (char *first = rest; *first != '\0'; first++) {
        swap(rest, first);
        permute(letters, rest + 1);
        swap(rest, first);
    }
}

static void *permutations(void *letters)
{
    permute(letters, letters);
    return NULL;
}

int main(int argc, char **argv)
{
    char letters[32] = "abc";
    green_t *generator;
    long count = 0;
    char *order;

    if (argc > 2 || (argc == 2 && strlen(argv[1]) >= sizeof letters))
        return fprintf(stderr, "usage: generator [LETTERS]\n"), 2;
    if (argc == 2)
        strcpy(letters, argv[1]);
    generator = green_new(permutations, NULL);
    while ((order = green_switch(generator, letters)) != NULL) {
        if (order == GREEN_FAILED || puts(order) == EOF)
            return perror("generator"), 1;
        count++;
    }
    printf("%ld\n", count);
    if (fflush(stdout) == EOF)
        return perror("generator"), 1;
    return green_free(generator);
}
