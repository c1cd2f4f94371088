/* SPDX-License-Identifier: MIT */
/* Calls that do nothing, to be found behind the patch: what it costs is the rest. */
#include <netdb.h>
#include <poll.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

int poll(struct pollfd *fds, nfds_t n, int timeout)
{
    (void)fds;
    (void)n;
    return timeout;
}

ssize_t recv(int fd, void *buffer, size_t size, int flags)
{
    (void)buffer;
    (void)size;
    (void)flags;
    return fd;
}

ssize_t send(int fd, const void *buffer, size_t size, int flags)
{
    (void)buffer;
    (void)size;
    (void)flags;
    return fd;
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    (void)message;
    (void)flags;
    return fd;
}

int nanosleep(const struct timespec *time, struct timespec *rest)
{
    (void)rest;
    return time == NULL;
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **list)
{
    (void)service;
    (void)hints;
    (void)list;
    return node == NULL;
}

pid_t waitpid(pid_t pid, int *status, int options)
{
    (void)status;
    (void)options;
    return pid;
}
