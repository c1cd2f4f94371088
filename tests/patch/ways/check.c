/* SPDX-License-Identifier: MIT */
/*
 * Says what green_patch_check() says: all, or the name that is missing.  With an argument it
 * loads the library that it is asked of.
 */
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include <green_patch.h>

typedef int check_fn(const char **missing);

#ifdef TAKES_AN_ADDRESS
static int (*volatile taken)(struct pollfd *, nfds_t, int);
#endif

static check_fn *find_check(const char *library)
{
#ifdef KNOWS_IT
    (void)library;
    return green_patch_check;
#else
    void *handle = library != NULL ? dlopen(library, RTLD_NOW | RTLD_GLOBAL) : RTLD_DEFAULT;
    if (library != NULL && handle == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    return (check_fn *)(__UINTPTR_TYPE__)dlsym(handle, "green_patch_check");
#endif
}

int main(int argc, char **argv)
{
    const char *missing = "nothing";
    check_fn *check = find_check(argc > 1 ? argv[1] : NULL);
#ifdef TAKES_AN_ADDRESS
    taken = poll; /* which is then the address that everybody has of it */
    if (taken(NULL, 0, 0) != 0)
        return 1;
#endif
    if (check == NULL)
        return puts("there is no patch") < 0;
    if (check(&missing) == 0)
        return puts("all") < 0;
    if (errno != ENOSYS || check(NULL) != -1)
        return 1;
    return puts(missing) < 0;
}
