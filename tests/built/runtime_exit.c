/* SPDX-License-Identifier: MIT */
/*
 * A program in C, without -fexceptions: what green_exit() looks for by itself.  Compiled
 * with NAMES_UNWINDER it seems to have a function of the unwinder, and has not.
 *
 *     runtime_exit [-l] [PLUGIN]
 *     runtime_exit -u PLUGIN
 *
 * -l: the unwinder is loaded before, in a scope of its own, and let go afterwards.
 * -u: a plugin that tells of its unwinder is loaded and let go before.
 * PLUGIN: one with a C++ runtime, of runtime_fake.c, that comes when the library has been
 * used.
 */
#define _GNU_SOURCE /* dl_iterate_phdr, RTLD_NEXT */
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <green.h>

#ifdef NAMES_UNWINDER
int not_Unwind_ForcedUnwind; /* among the strings of its symbols, linked with -rdynamic */
#endif

static const char unwinder[] = "libgcc_s.so.1";

static void *leave(void *value)
{
    green_exit(value);
}

static void *fail(void *error)
{
    errno = *(int *)error;
    green_exit(GREEN_FAILED);
}

/* The library looks by this, and errno is not to tell of it. */
int dl_iterate_phdr(int (*fn)(struct dl_phdr_info *, size_t, void *), void *arg)
{
    __typeof__(dl_iterate_phdr) *next;
    void *function = dlsym(RTLD_NEXT, "dl_iterate_phdr");
    memcpy(&next, &function, sizeof next);
    int result = next(fn, arg);
    errno = E2BIG;
    return result;
}

static void exit_once(void)
{
    int error = EIO;
    green_t *g = green_new(leave, NULL), *failing = green_new(fail, NULL);
    if (green_switch(g, &g) != &g || green_free(g) != 0)
        exit(2);
    if (green_switch(failing, &error) != GREEN_FAILED || errno != EIO || green_free(failing) != 0)
        exit(7);
}

static int check_plugin(const char *path)
{
    int (*check_runtime)(void);
    void *plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    void *function = plugin != NULL ? dlsym(plugin, "check_runtime") : NULL;
    if (function == NULL) {
        printf("%s\n", dlerror());
        return 1;
    }
    memcpy(&check_runtime, &function, sizeof function);
    exit_once();
    return check_runtime();
}

static void load_and_unload(const char *path)
{
    void *plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (plugin == NULL || dlclose(plugin) != 0) {
        printf("%s\n", dlerror());
        exit(6);
    }
}

int main(int argc, char **argv)
{
    int loads = argc > 1 && strcmp(argv[1], "-l") == 0;
    int unloads = argc > 2 && strcmp(argv[1], "-u") == 0;
    void *loaded = NULL;
    alarm(60);
    if (green_main() == NULL)
        return 3;
    if (loads && (loaded = dlopen(unwinder, RTLD_LAZY | RTLD_LOCAL)) == NULL) {
        printf("skipped: %s\n", dlerror());
        return 0;
    }
    if (unloads)
        load_and_unload(argv[2]);
    exit_once();
    if (unloads)
        return 0;
    if (loads)
        dlclose(loaded);
    if (dlopen(unwinder, RTLD_LAZY | RTLD_NOLOAD) == NULL && dlopen(unwinder, RTLD_LAZY) != NULL) {
        printf("the unwinder that is there was not loaded, or not kept\n");
        return 5;
    }
    exit_once();
    return argc > 1 + loads ? check_plugin(argv[1 + loads]) : 0;
}
