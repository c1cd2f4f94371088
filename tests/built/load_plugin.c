/* SPDX-License-Identifier: MIT */
/*
 * A program without libgreen that loads a library with libgreen in it, plugin.c:
 *
 *     load_plugin LIBRARY
 *
 * It works there in the library's constructor, in the thread that has loaded it, in
 * one that was there before, and in a new one.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define must(expr) ((expr) ? (void)0 : fail(__LINE__, #expr))

_Noreturn static void fail(int line, const char *what)
{
    const char *why = dlerror();
    fprintf(stderr, "load_plugin.c:%d: not so: %s%s%s\n", line, what, why ? ": " : "",
            why ? why : "");
    exit(1);
}

static int (*works)(void);
static pthread_mutex_t loading = PTHREAD_MUTEX_INITIALIZER;

static void *use_it(void *unused)
{
    pthread_mutex_lock(&loading);
    pthread_mutex_unlock(&loading);
    must(works());
    return unused;
}

int main(int argc, char **argv)
{
    pthread_t before, after;
    must(argc == 2);
    pthread_mutex_lock(&loading);
    must(pthread_create(&before, NULL, use_it, NULL) == 0);
    void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    must(library != NULL);
    void *found = dlsym(library, "plugin_works");
    const int *worked_early = dlsym(library, "plugin_worked_early");
    must(found != NULL && worked_early != NULL && *worked_early);
    memcpy(&works, &found, sizeof found);
    pthread_mutex_unlock(&loading);
    must(works());
    must(pthread_create(&after, NULL, use_it, NULL) == 0);
    must(pthread_join(before, NULL) == 0);
    must(pthread_join(after, NULL) == 0);
    puts("loaded, and works");
    return 0;
}
