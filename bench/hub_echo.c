/* SPDX-License-Identifier: MIT */
/*
 * What an echo server takes of the CPU for a message of 64 bytes, and of memory for a
 * connection: libgreen's beside a state machine and what others have.
 */
#include <string.h>

#include "servers.h"

#define MESSAGE "sixty-four bytes, which come back as they are, as often as sent.\n"

static size_t check(const char *bytes, size_t n)
{
    if (n > strlen(MESSAGE) || memcmp(bytes, MESSAGE, n) != 0)
        bench_fail("what came back is not what was sent");
    return n == strlen(MESSAGE) ? n : 0;
}

int main(int argc, char **argv)
{
    static const struct server servers[] = {
        {"raw epoll", "echo_epoll", NULL, {"PORT"}, 0},
        {"libgreen", "echo_green", NULL, {"PORT"}, 0},
        {"libgreen, a time limit a message", "echo_server", NULL, {"-p", "PORT", "-n", "20000"}, 0},
        {"libuv", "echo_libuv", "libuv1-dev", {"PORT"}, 0},
        {"State Threads", "echo_st", "libst-dev", {"PORT"}, 0},
        {"Go", "echo_go", "golang-go", {"PORT"}, 0},
        {"GNU Pth", "echo_pth", "libpth-dev", {"PORT"}, 1000}, /* of select()'s 1,024 descriptors */
        {"Python gevent", "echo_gevent.py", "python3-gevent", {"PORT"}, 0},
    };
    static const struct talk talk = {MESSAGE, sizeof MESSAGE - 1, check};
    static const struct goal goal = {"libgreen", 1.1};
    return bench_servers(argc, argv, "hub_echo", "server CPU a message", &talk, servers,
                         sizeof servers / sizeof *servers, (long[]){10000, 10000, 20000, 20000},
                         &goal, NULL, 0);
}
