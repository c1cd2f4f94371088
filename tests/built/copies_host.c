/* SPDX-License-Identifier: MIT */
/*
 * A program that has a libgreen, uses some of it, and loads plugins that have one, the
 * first for all to see.
 *
 *     copies_host PLUGIN...
 */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include <green.h>

static void *run_plugin(void *path)
{
    static int flags = RTLD_GLOBAL;
    int (*plugin)(void);
    void *library = dlopen(path, RTLD_NOW | flags), *function = NULL;
    flags = RTLD_LOCAL;
    if (library != NULL)
        function = dlsym(library, "plugin");
    if (function == NULL) {
        printf("%s\n", dlerror());
        return path;
    }
    memcpy(&plugin, &function, sizeof plugin);
    return plugin() != 0 ? path : NULL;
}

int main(int argc, char **argv)
{
    int failed = 0;
    for (int round = 0; round < 2; round++) {
        for (int i = 1; i < argc; i++) {
            green_t *g = green_new(run_plugin, NULL);
            failed += green_switch(g, argv[i]) != NULL || green_free(g) != 0;
        }
    }
    return failed;
}
