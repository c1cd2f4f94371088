/* SPDX-License-Identifier: MIT */
#ifndef ANSWER_H
#define ANSWER_H
/*
 * The least that answers GET for files of a directory, for the servers that are
 * loops: no ranges, no dates, no types, files of at most 64 KiB, read in the loop.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { REQUEST_ROOM = 8192, HEAD_ROOM = 256, ANSWER_ROOM = 65536 + HEAD_ROOM };

static int answer_root; /* the directory */

/* The length of the request that bytes begins with; 0 if not all of it has come. */
static inline size_t request_length(const char *bytes, size_t n)
{
    const char *end = memmem(bytes, n, "\r\n\r\n", 4);
    return end == NULL ? 0 : (size_t)(end - bytes) + 4;
}

/* Opens what a request is for, or -1. */
static inline int open_target(const char *request, size_t length)
{
    char path[1024];
    if (length < 5 || memcmp(request, "GET /", 5) != 0)
        return -1;
    const char *target = request + 5, *end = memchr(target, ' ', length - 5);
    if (end == NULL || (size_t)(end - target) >= sizeof path)
        return -1;
    memcpy(path, target, (size_t)(end - target));
    path[end - target] = '\0';
    return strstr(path, "..") != NULL ? -1 : openat(answer_root, path, O_RDONLY | O_CLOEXEC);
}

/* Writes the answer to out, of ANSWER_ROOM bytes: its length. */
static inline size_t answer(const char *request, size_t length, char *out)
{
    struct stat about;
    int file = open_target(request, length);
    if (file < 0 || fstat(file, &about) != 0 || about.st_size > ANSWER_ROOM - HEAD_ROOM) {
        if (file >= 0)
            close(file);
        return (size_t)sprintf(out, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    }
    size_t n = (size_t)sprintf(out, "HTTP/1.1 200 OK\r\nContent-Length: %lld\r\n\r\n",
                               (long long)about.st_size);
    ssize_t body = pread(file, out + n, (size_t)about.st_size, 0);
    close(file);
    return body == about.st_size ? n + (size_t)body : 0;
}

#endif
