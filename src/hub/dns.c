/* SPDX-License-Identifier: MIT */
/*
 * Names: libc's getaddrinfo() in a thread of the pool, half of which look-ups may take.
 * Arguments and answer are in memory of their own, as the wait may be left.
 */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

#include "pool.h"

#define PLACE __builtin_return_address(0)

struct look_up {
    char *node, *service; /* behind it, or NULL */
    struct addrinfo hints;
    bool has_hints;
    struct addrinfo *list;
    int result, error;
};

static struct look_up *make_look_up(const char *node, const char *service,
                                    const struct addrinfo *hints)
{
    size_t node_size = node != NULL ? strlen(node) + 1 : 0;
    size_t service_size = service != NULL ? strlen(service) + 1 : 0;
    struct look_up *look_up = calloc(1, sizeof *look_up + node_size + service_size);
    if (look_up == NULL)
        return NULL;
    char *text = (char *)(look_up + 1);
    if (node != NULL)
        look_up->node = memcpy(text, node, node_size);
    if (service != NULL)
        look_up->service = memcpy(text + node_size, service, service_size);
    look_up->has_hints = hints != NULL;
    if (hints != NULL)
        look_up->hints = *hints;
    return look_up;
}

static void *look_up_name(void *arg)
{
    struct look_up *look_up = arg;
    look_up->result = getaddrinfo(look_up->node, look_up->service,
                                  look_up->has_hints ? &look_up->hints : NULL, &look_up->list);
    look_up->error = errno;
    return look_up;
}

static void drop_look_up(void *value)
{
    struct look_up *look_up = value;
    if (look_up->result == 0)
        freeaddrinfo(look_up->list);
    free(look_up);
}

/* In a form of inet_aton(): 127.1, 0x7f000001. */
static bool is_old_address(const char *node)
{
    struct in_addr address;
    return node[strspn(node, "0123456789abcdefABCDEFxX.")] == '\0' &&
           inet_aton(node, &address) != 0;
}

/* fe80::1%eth0. */
static bool is_scoped_address(const char *node)
{
    char text[INET6_ADDRSTRLEN];
    unsigned char address[sizeof(struct in6_addr)];
    size_t size = strcspn(node, "%");
    if (node[size] == '\0' || size >= sizeof text)
        return false;
    memcpy(text, node, size);
    text[size] = '\0';
    return inet_pton(AF_INET6, text, address) == 1;
}

/* Whether there is nothing to be asked for: an address is one without a name server. */
static bool is_address(const char *node, const struct addrinfo *hints)
{
    unsigned char address[sizeof(struct in6_addr)];
    return node == NULL || (hints != NULL && (hints->ai_flags & AI_NUMERICHOST) != 0) ||
           inet_pton(AF_INET6, node, address) == 1 || is_old_address(node) ||
           is_scoped_address(node);
}

static int system_error(int error)
{
    errno = error;
    return EAI_SYSTEM;
}

int green_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                      struct addrinfo **list)
{
    struct green__call call;
    if (list == NULL)
        return system_error(EINVAL);
    if (!green__call_begin(&call, GREEN_FOREVER))
        return EAI_SYSTEM;
    if (is_address(node, hints)) {
        int result = GREEN__OWN(getaddrinfo(node, service, hints, list));
        int error = errno;
        (void)green__call_done(&call, GREEN_FOREVER);
        return result == EAI_SYSTEM ? system_error(error) : result;
    }
    struct look_up *look_up = make_look_up(node, service, hints);
    if (look_up == NULL)
        return EAI_MEMORY;
    void *value;
    int waited = green__pool_call(&call, look_up_name, look_up, &value, drop_look_up, true,
                                  "green_getaddrinfo", NULL, PLACE);
    if (waited != 0) {
        int error = errno;
        if (waited == GREEN__POOL_NOT_BEGUN) {
            free(look_up);
            (void)green__call_tried(&call, GREEN_FOREVER, error);
        }
        return system_error(error);
    }
    int result = look_up->result, error = look_up->error;
    if (result == 0)
        *list = look_up->list;
    free(look_up);
    return result == EAI_SYSTEM ? system_error(error) : result;
}
