/* SPDX-License-Identifier: MIT */
/* Finds the next function of a name. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "patch/real.h"
#include "tools/helgrind.h"

static long no_such_call(void)
{
    errno = ENOSYS;
    return -1;
}

/*
 * dlsym() sees by its return address whose next one is meant: so this must be a call, and
 * no jump, from here.
 */
__attribute__((noinline)) green__real_fn *green__real_find(green__real_fn **slot, const char *name)
{
    int error = errno;
    void *found = dlsym(RTLD_NEXT, name), *newer;
    /* Of these x86_64 has older ones, too, that some C libraries' dlsym() gives. */
    if (strncmp(name, "pthread_cond_", strlen("pthread_cond_")) == 0 && found != NULL &&
        found == dlvsym(RTLD_NEXT, name, "GLIBC_2.2.5") &&
        (newer = dlvsym(RTLD_NEXT, name, "GLIBC_2.3.2")) != NULL)
        found = newer;
    green__real_fn *real = (green__real_fn *)(uintptr_t)found;
    if (real == NULL)
        real = (green__real_fn *)no_such_call;
    green__atomics(slot, sizeof *slot);
    __atomic_store_n(slot, real, __ATOMIC_RELAXED);
    errno = error;
    return real;
}
