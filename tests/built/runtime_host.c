/* SPDX-License-Identifier: MIT */
/*
 * A program in C that loads plugins in C++ which use libgreen.  Compiled with
 * USES_GREEN it uses the library itself, in two threads before they are loaded, and in
 * one when they have been closed.  Compiled with NAMES_RUNTIME it seems to have a
 * function of the C++ runtime, and has not.
 *
 *     runtime_host PLUGIN...
 *
 * Of several all but the last name a function of the C++ runtime, and have it not: they
 * can be unloaded.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef NAMES_RUNTIME
int not__cxa_get_globals; /* among the strings of its symbols, linked with -rdynamic */
#endif

static int (*check_runtime)(void);
static void *plugin;

/*
 * By a name that takes all of the memory that it is in: as many slashes more make it as
 * long as that.
 */
static void load_plugin(const char *path)
{
    const char *file = strrchr(path, '/');
    char name[4096];
    size_t size = strlen(path) + 1;
    int more = (int)((24 - size % 16) % 16);
    snprintf(name, sizeof name, "%.*s%.*s%s", (int)(file != NULL ? file - path : 0), path,
             file != NULL ? more : 0, "///////////////", file != NULL ? file : path);
    plugin = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    void *function = plugin != NULL ? dlsym(plugin, "check_runtime") : NULL;
    if (function == NULL) {
        printf("%s\n", dlerror());
        exit(2);
    }
    memcpy(&check_runtime, &function, sizeof function);
#ifdef USES_GREEN
    extern int (*check_handlers)(void *(*wait)(void *));
    function = dlsym(plugin, "check_handlers");
    memcpy(&check_handlers, &function, sizeof function);
#endif
}

#ifdef USES_GREEN
#include <green.h>

int (*check_handlers)(void *(*wait)(void *));
static sem_t begun, loaded;

static void *echo(void *value)
{
    while (value != GREEN_FAILED)
        value = green_yield(value);
    return NULL;
}

/* Begins the thread's use of the library. */
static void use(void)
{
    green_t *g = green_new(echo, NULL);
    if (green_switch(g, &g) != &g || green_free(g) != 0)
        exit(3);
}

/* The same for the first time: what is looked for in vain is no error of the program's. */
static void use_first(void)
{
    use();
    if (dlerror() != NULL)
        exit(4);
}

static void *begin_and_check(void *arg)
{
    use_first();
    sem_post(&begun);
    while (sem_wait(&loaded) != 0)
        continue;
    return check_runtime() != 0 ? arg : NULL;
}

static void *use_in_thread(void *unused)
{
    use();
    return unused;
}

/* Loads it, and waits inside its handlers: no green has been made since. */
static void *load_and_wait(void *path)
{
    if (path != NULL)
        load_plugin(path);
    return check_handlers(green_yield) != 0 ? &begun : NULL;
}
#endif

int main(int argc, char **argv)
{
    int failed = 0;
    alarm(60);
#ifdef USES_GREEN
    pthread_t thread;
    void *result;
    sem_init(&begun, 0, 0);
    sem_init(&loaded, 0, 0);
    pthread_create(&thread, NULL, begin_and_check, &begun);
    while (sem_wait(&begun) != 0)
        continue;
    use();
    green_t *a = green_new(load_and_wait, NULL), *b = green_new(load_and_wait, NULL);
    green_switch(a, argv[1]);
    green_switch(b, NULL);
    failed |= green_switch(a, NULL) != NULL || green_switch(b, NULL) != NULL;
    sem_post(&loaded);
    pthread_join(thread, &result);
    failed |= result != NULL;
#endif
    void *without[8] = {NULL};
    for (int i = 1; i < argc; i++) {
        load_plugin(argv[i]);
        failed |= check_runtime();
        if (i < argc - 1 && i < 8)
            without[i] = plugin;
    }
    for (int i = 1; i < argc - 1 && i < 8; i++) {
        failed |= dlclose(without[i]);
#ifdef __GLIBC__ /* others unload nothing */
        if (dlopen(argv[i], RTLD_NOW | RTLD_NOLOAD) != NULL) {
            printf("%s is still there\n", argv[i]);
            failed = 1;
        }
#endif
    }
#ifdef USES_GREEN
    for (int i = 0; i < 2; i++) /* it was opened twice */
        failed |= dlclose(plugin);
    pthread_create(&thread, NULL, use_in_thread, NULL); /* the runtime is still there */
    pthread_join(thread, NULL);
#endif
    return failed;
}
