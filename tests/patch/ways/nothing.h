/* SPDX-License-Identifier: MIT */
#ifndef NOTHING_H
#define NOTHING_H
/*
 * Calls of each kind that the patch has, as they are made by programs, and as they would be
 * made without it: of what is behind it, which in nothing.c does nothing.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <poll.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>

/* A program need not make them all. */
#define NOTHING_UNUSED __attribute__((unused))

static NOTHING_UNUSED struct pollfd nothing_fd;
static NOTHING_UNUSED struct timespec nothing_time = {1, 0};
static NOTHING_UNUSED char nothing_byte;
static NOTHING_UNUSED struct msghdr nothing_message;
static NOTHING_UNUSED struct addrinfo *nothing_list;

#define NOTHINGS(each)                                                                      \
    each(poll, (&nothing_fd, 1, 1000))                                                      \
    each(recv, (0, &nothing_byte, 1, 0))                                                    \
    each(send, (0, &nothing_byte, 1, 0))                                                    \
    each(recvmsg, (0, &nothing_message, 0))                                                 \
    each(nanosleep, (&nothing_time, NULL))                                                  \
    each(getaddrinfo, (&nothing_byte, NULL, NULL, &nothing_list))                           \
    each(waitpid, (1, NULL, 0))

#endif
