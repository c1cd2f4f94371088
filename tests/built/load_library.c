/* SPDX-License-Identifier: MIT */
/*
 * A program that loads libgreen, uses it and closes it again, 1,000 times: it
 * stays where it is (it is linked with -z nodelete), and with it the stacks of
 * greens and the thread-specific destructor that the system has of it.
 *
 *     load_library LIBRARY
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <green.h>

#define V(n) ((void *)(intptr_t)(n))
#define must(expr) ((expr) ? (void)0 : fail(__LINE__, #expr))

_Noreturn static void fail(int line, const char *what)
{
    const char *why = dlerror();
    fprintf(stderr, "load_library.c:%d: not so: %s%s%s\n", line, what, why ? ": " : "",
            why ? why : "");
    exit(1);
}

static green_t *(*new)(green_fn *, green_t *);
static void *(*enter)(green_t *, void *);
static void *(*yield)(void *);
static int (*release)(green_t *);
static int (*count)(green_stats_t *, size_t);

static void find(void *library, const char *name, void *function)
{
    void *found = dlsym(library, name);
    must(found != NULL);
    must(*(void **)function == NULL || *(void **)function == found); /* it is where it was */
    memcpy(function, &found, sizeof found);
}

static void *load(const char *path)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    must(library != NULL);
    find(library, "green_new", &new);
    find(library, "green_switch", &enter);
    find(library, "green_yield", &yield);
    find(library, "green_free", &release);
    find(library, "green_stats", &count);
    return library;
}

static void *echo(void *value)
{
    while (value != GREEN_FAILED)
        value = yield(value);
    return GREEN_FAILED;
}

static void *use(void *arg)
{
    green_t *g = new(echo, NULL);
    must(g != NULL && enter(g, arg) == arg && enter(g, V(2)) == V(2));
    must(release(g) == 0);
    return arg;
}

/* Closes the library, and ends while a green is suspended. */
static void *outlive(void *library)
{
    green_t *g = new(echo, NULL);
    must(g != NULL && enter(g, V(1)) == V(1));
    must(dlclose(library) == 0);
    must(enter(g, V(2)) == V(2));
    return g;
}

static void in_thread(void *(*fn)(void *), void *arg, void **result)
{
    pthread_t thread;
    must(pthread_create(&thread, NULL, fn, arg) == 0);
    must(pthread_join(thread, result) == 0);
}

static int mappings(void)
{
    int lines = 0;
    FILE *file = fopen("/proc/self/maps", "r");
    must(file != NULL);
    for (int c; (c = getc(file)) != EOF;)
        lines += c == '\n';
    fclose(file);
    return lines;
}

int main(int argc, char **argv)
{
    enum { TIMES = 1000, WARM_UP = 10 };
    int at_first = 0, at_last;
    green_t *parked = NULL;
    green_stats_t stats;
    must(argc == 2);
    for (int i = 0; i < TIMES; i++) {
        void *library = load(argv[1]), *orphan;
        use(V(1));
        if (parked == NULL)
            must((parked = new(echo, NULL)) != NULL && enter(parked, V(1)) == V(1));
        if (i % 3 == 0) {
            in_thread(use, V(1), NULL);
            must(dlclose(library) == 0);
        } else if (i % 3 == 1) {
            in_thread(outlive, library, &orphan);
            must(release(orphan) == 0);
        } else {
            must(dlclose(library) == 0);
        }
        must(enter(parked, V(i)) == V(i)); /* it lives on while nobody has the library open */
        if (i == WARM_UP)
            at_first = mappings();
    }
    at_last = mappings();
    must(release(parked) == 0);
    must(count(&stats, sizeof stats) == 0 && stats.greens == 0 && stats.stacks_live == 0);
    must(stats.threads == 1);
    printf("%d times loaded, used and closed; %d mappings, %d at first\n", TIMES, at_last,
           at_first);
    return at_last > at_first + 2;
}
