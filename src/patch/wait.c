/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "patch/patch.h"

/* Nanoseconds of milliseconds as poll() has them: less than 0 is for ever. */
static int64_t of_milliseconds(int ms)
{
    return ms < 0 ? GREEN_FOREVER : GREEN_MS(ms);
}

HOOK(int, poll, struct pollfd *fds, nfds_t n, int timeout)
{
    if (timeout == 0 || !green__patch_enter(GREEN_PATCH_WAIT))
        return NEXT(poll)(fds, n, timeout);
    int result = green_poll(fds, n, of_milliseconds(timeout));
    green__patch_leave();
    if (result < 0 && errno == EDEADLK)
        return NEXT(poll)(fds, n, timeout);
    return result;
}

HOOKS(wait) = {HOOKED(poll), HOOKS_END};
