/* SPDX-License-Identifier: MIT */
/*
 * Names: getaddrinfo(), getnameinfo(), gethostby...(), res_query() and their kin, each in a
 * thread of the pool.
 *
 * A wait may be left while the thread still looks up.  So arguments and answers are copies in
 * one block, that the thread drops then.  res_nquery() and res_nsearch() alone work on memory
 * of the caller's, sockets and all: they are waited for whatever comes.  The resolver's state
 * in a thread of the pool is its own: what a task has set in _res is not seen there.
 *
 * h_errno is the thread's: it is set after the wait.  In a thread of the pool the names that
 * this file hooks are passed on.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netdb.h>
#include <resolv.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "patch/patch.h"

/*
 * Whether ask(question) has been called in a thread; if not, the question is gone, and errno
 * says why.  With no thread to be had it is asked in this one.
 */
static bool wait_for(green_fn *ask, void *question, void (*drop)(void *question))
{
    if (green_task_check() == 0) {
        void *value;
        if (green_offload(ask, question, &value, drop) == 0)
            return true;
        if (errno == EAGAIN || errno == ENOMEM || errno == EMFILE || errno == ENFILE) {
            ask(question); /* the wait had not begun */
            return true;
        }
        return false; /* it is the thread's */
    }
    int error = errno;
    drop(question);
    errno = error;
    return false;
}

/* ---- getaddrinfo, getnameinfo ------------------------------------------------------------ */

/* libgreen looks numbers up by the same name, from within its calls. */
HOOK(int, getaddrinfo, const char *node, const char *service, const struct addrinfo *hints,
                     struct addrinfo **list)
{
    PASS_ON(GREEN_PATCH_NAMES, getaddrinfo, node, service, hints, list);
    if (node == NULL || list == NULL ||
        (hints != NULL && (hints->ai_flags & AI_NUMERICHOST) != 0) ||
        !green__patch_enter(GREEN_PATCH_NAMES))
        return NEXT(getaddrinfo)(node, service, hints, list);
    int result = green_getaddrinfo(node, service, hints, list);
    green__patch_leave();
    return result;
}

struct name_info {
    struct sockaddr_storage address;
    socklen_t size, host_size, service_size;
    int flags, result, error;
    char *host, *service; /* behind it, or NULL */
};

static void *look_up_info(void *arg)
{
    struct name_info *info = arg;
    info->result = getnameinfo((struct sockaddr *)&info->address, info->size, info->host,
                                     info->host_size, info->service, info->service_size,
                                     info->flags);
    info->error = errno;
    return info;
}

static int wait_for_info(const struct sockaddr *address, socklen_t size, char *host,
                         socklen_t host_size, char *service, socklen_t service_size, int flags)
{
    host_size = host != NULL ? host_size : 0;
    service_size = service != NULL ? service_size : 0;
    struct name_info *info = calloc(1, sizeof *info + host_size + service_size);
    if (info == NULL)
        return EAI_MEMORY;
    memcpy(&info->address, address, size);
    info->size = size;
    info->host_size = host_size;
    info->service_size = service_size;
    info->flags = flags;
    info->host = host_size > 0 ? (char *)(info + 1) : NULL;
    info->service = service_size > 0 ? (char *)(info + 1) + host_size : NULL;
    if (!wait_for(look_up_info, info, free))
        return EAI_SYSTEM;
    int result = info->result, error = info->error;
    if (result == 0 || result == EAI_OVERFLOW) {
        if (host_size > 0)
            memcpy(host, info->host, host_size);
        if (service_size > 0)
            memcpy(service, info->service, service_size);
    }
    free(info);
    errno = error;
    return result;
}

HOOK(int, getnameinfo, const struct sockaddr *address, socklen_t size, char *host,
     socklen_t host_size, char *service, socklen_t service_size, int flags)
{
    PASS_ON(GREEN_PATCH_NAMES, getnameinfo, address, size, host, host_size, service, service_size,
            flags);
    const int numeric = NI_NUMERICHOST | NI_NUMERICSERV;
    if ((flags & numeric) == numeric || address == NULL || size > sizeof(struct sockaddr_storage) ||
        !green__patch_enter(GREEN_PATCH_NAMES))
        return NEXT(getnameinfo)(address, size, host, host_size, service, service_size, flags);
    int result = wait_for_info(address, size, host, host_size, service, service_size, flags);
    green__patch_leave();
    return result;
}

/* ---- gethostby... ------------------------------------------------------------------------ */

struct host {
    int family;
    socklen_t key_size; /* of an address; 0: key is a name */
    bool by_family;     /* gethostbyname2 */
    size_t size;        /* of the buffer */
    bool grows;
    struct hostent entry, *result;
    int returned, h_error, error;
    char *buffer;
    char key[]; /* the name or the address */
};

static void drop_host(void *value)
{
    struct host *host = value;
    free(host->buffer);
    free(host);
}

/* No more is read of other sizes: the real call refuses them. */
static bool is_address(socklen_t size)
{
    return size == sizeof(struct in_addr) || size == sizeof(struct in6_addr);
}

static int ask_host(struct host *host)
{
    if (host->key_size > 0)
        return gethostbyaddr_r(host->key, host->key_size, host->family, &host->entry,
                               host->buffer, host->size, &host->result, &host->h_error);
    if (host->by_family)
        return gethostbyname2_r(host->key, host->family, &host->entry, host->buffer,
                                host->size, &host->result, &host->h_error);
    return gethostbyname_r(host->key, &host->entry, host->buffer, host->size,
                           &host->result, &host->h_error);
}

static void *look_up_host(void *arg)
{
    struct host *host = arg;
    for (;;) {
        errno = 0;
        host->returned = ask_host(host);
        host->error = errno;
        if (!host->grows || host->returned != ERANGE || host->size > SIZE_MAX / 4)
            return host;
        char *larger = realloc(host->buffer, 2 * host->size);
        if (larger == NULL) {
            host->returned = host->error = ENOMEM;
            host->h_error = NETDB_INTERNAL;
            host->result = NULL;
            return host;
        }
        host->buffer = larger;
        host->size *= 2;
    }
}

/* NULL with errno and *h_error if there was no answer. */
static struct host *wait_for_host(const void *key, socklen_t address_size, int family,
                                  bool by_family, size_t size, bool grows, int *h_error)
{
    size_t key_size = address_size > 0 ? address_size : strlen(key) + 1;
    struct host *host = calloc(1, sizeof *host + key_size);
    *h_error = NETDB_INTERNAL;
    if (host == NULL || (host->buffer = malloc(size > 0 ? size : 1)) == NULL) {
        free(host);
        errno = ENOMEM;
        return NULL;
    }
    memcpy(host->key, key, key_size);
    host->key_size = address_size;
    host->family = family;
    host->by_family = by_family;
    host->size = size;
    host->grows = grows;
    return wait_for(look_up_host, host, drop_host) ? host : NULL;
}

/* The green's own storage, where libc has one for all threads. */
static green_key_t kept_key;
static int kept_state; /* 0: none yet, 1: being made, 2: there */

static void free_kept(void *value)
{
    drop_host(value);
}

static bool have_key(void)
{
    int none = 0;
    if (__atomic_load_n(&kept_state, __ATOMIC_ACQUIRE) == 2)
        return true;
    if (!__atomic_compare_exchange_n(&kept_state, &none, 1, false, __ATOMIC_ACQUIRE,
                                     __ATOMIC_ACQUIRE)) {
        while ((none = __atomic_load_n(&kept_state, __ATOMIC_ACQUIRE)) == 1)
            sched_yield();
        return none == 2;
    }
    bool made = green_key_create(&kept_key, free_kept) == 0;
    __atomic_store_n(&kept_state, made ? 2 : 0, __ATOMIC_RELEASE);
    return made;
}

static struct hostent *keep_host(struct host *host, int h_error)
{
    if (host == NULL) {
        h_errno = h_error;
        return NULL;
    }
    if (host->result == NULL || !have_key()) {
        int error = host->error;
        h_errno = host->h_error;
        drop_host(host);
        errno = error;
        return NULL;
    }
    struct host *before = green_getspecific(kept_key);
    if (green_setspecific(kept_key, host) != 0) {
        drop_host(host);
        h_errno = NETDB_INTERNAL;
        errno = ENOMEM;
        return NULL;
    }
    if (before != NULL)
        drop_host(before);
    return &host->entry;
}

HOOK(struct hostent *, gethostbyname, const char *name)
{
    PASS_ON(GREEN_PATCH_NAMES, gethostbyname, name);
    int h_error;
    if (!green__patch_enter(GREEN_PATCH_NAMES))
        return NEXT(gethostbyname)(name);
    struct host *host = wait_for_host(name, 0, AF_UNSPEC, false, 1024, true, &h_error);
    struct hostent *entry = keep_host(host, h_error);
    green__patch_leave();
    return entry;
}

HOOK(struct hostent *, gethostbyname2, const char *name, int family)
{
    PASS_ON(GREEN_PATCH_NAMES, gethostbyname2, name, family);
    int h_error;
    if (!green__patch_enter(GREEN_PATCH_NAMES))
        return NEXT(gethostbyname2)(name, family);
    struct host *host = wait_for_host(name, 0, family, true, 1024, true, &h_error);
    struct hostent *entry = keep_host(host, h_error);
    green__patch_leave();
    return entry;
}

HOOK(struct hostent *, gethostbyaddr, const void *address, socklen_t size, int family)
{
    PASS_ON(GREEN_PATCH_NAMES, gethostbyaddr, address, size, family);
    int h_error;
    if (!is_address(size) || !green__patch_enter(GREEN_PATCH_NAMES))
        return NEXT(gethostbyaddr)(address, size, family);
    struct host *host = wait_for_host(address, size, family, false, 1024, true, &h_error);
    struct hostent *entry = keep_host(host, h_error);
    green__patch_leave();
    return entry;
}

/* Takes size bytes of what is left, so that any pointer may stand there. */
static void *take(char **at, const char *end, size_t size)
{
    size_t align = (size_t)(-(uintptr_t)*at % sizeof(void *));
    if ((size_t)(end - *at) < align || (size_t)(end - *at) - align < size)
        return NULL;
    char *result = *at + align;
    *at = result + size;
    return result;
}

static size_t count_of(char **list)
{
    size_t n = 0;
    while (list != NULL && list[n] != NULL)
        n++;
    return n;
}

/* A copy of an entry in the caller's buffer: false if that is too small. */
static bool copy_entry(struct hostent *to, const struct hostent *from, char *buffer, size_t size)
{
    char *at = buffer, *end = buffer + size;
    size_t aliases = count_of(from->h_aliases), addresses = count_of(from->h_addr_list);
    size_t length = (size_t)from->h_length;
    to->h_addrtype = from->h_addrtype;
    to->h_length = from->h_length;
    to->h_addr_list = take(&at, end, (addresses + 1) * sizeof(char *));
    to->h_aliases = take(&at, end, (aliases + 1) * sizeof(char *));
    if (to->h_addr_list == NULL || to->h_aliases == NULL)
        return false;
    for (size_t i = 0; i < addresses; i++) {
        if ((to->h_addr_list[i] = take(&at, end, length)) == NULL)
            return false;
        memcpy(to->h_addr_list[i], from->h_addr_list[i], length);
    }
    to->h_addr_list[addresses] = NULL;
    for (size_t i = 0; i <= aliases; i++) {
        const char *text = i < aliases ? from->h_aliases[i] : from->h_name;
        size_t bytes = text != NULL ? strlen(text) + 1 : 0;
        if ((size_t)(end - at) < bytes)
            return false;
        char *copy = text != NULL ? memcpy(at, text, bytes) : NULL;
        at += bytes;
        if (i < aliases)
            to->h_aliases[i] = copy;
        else
            to->h_name = copy;
    }
    to->h_aliases[aliases] = NULL;
    return true;
}

/* The thread has the same room as the caller's buffer, and what does not fit is ERANGE. */
static int give_host(struct host *host, struct hostent *entry, char *buffer, size_t size,
                     struct hostent **result, int *h_error)
{
    *result = NULL;
    if (host == NULL)
        return errno;
    int returned = host->returned, error = host->error;
    *h_error = host->h_error;
    if (host->result != NULL) {
        if (copy_entry(entry, &host->entry, buffer, size)) {
            *result = entry;
        } else {
            *h_error = NETDB_INTERNAL;
            returned = error = ERANGE;
        }
    }
    drop_host(host);
    errno = error;
    return returned;
}

HOOK(int, gethostbyname_r, const char *name, struct hostent *entry, char *buffer, size_t size,
                         struct hostent **result, int *h_error)
{
    PASS_ON(GREEN_PATCH_NAMES, gethostbyname_r, name, entry, buffer, size, result, h_error);
    if (!green__patch_enter(GREEN_PATCH_NAMES))
        return NEXT(gethostbyname_r)(name, entry, buffer, size, result, h_error);
    struct host *host = wait_for_host(name, 0, AF_UNSPEC, false, size, false, h_error);
    int returned = give_host(host, entry, buffer, size, result, h_error);
    green__patch_leave();
    return returned;
}

HOOK(int, gethostbyname2_r, const char *name, int family, struct hostent *entry, char *buffer,
                          size_t size, struct hostent **result, int *h_error)
{
    PASS_ON(GREEN_PATCH_NAMES, gethostbyname2_r, name, family, entry, buffer, size, result,
            h_error);
    if (!green__patch_enter(GREEN_PATCH_NAMES))
        return NEXT(gethostbyname2_r)(name, family, entry, buffer, size, result, h_error);
    struct host *host = wait_for_host(name, 0, family, true, size, false, h_error);
    int returned = give_host(host, entry, buffer, size, result, h_error);
    green__patch_leave();
    return returned;
}

HOOK(int, gethostbyaddr_r, const void *address, socklen_t length, int family, struct hostent *entry,
                         char *buffer, size_t size, struct hostent **result, int *h_error)
{
    PASS_ON(GREEN_PATCH_NAMES, gethostbyaddr_r, address, length, family, entry, buffer, size,
            result, h_error);
    if (!is_address(length) || !green__patch_enter(GREEN_PATCH_NAMES))
        return NEXT(gethostbyaddr_r)(address, length, family, entry, buffer, size, result,
                                     h_error);
    struct host *host = wait_for_host(address, length, family, false, size, false, h_error);
    int returned = give_host(host, entry, buffer, size, result, h_error);
    green__patch_leave();
    return returned;
}

/* ---- res_query and its kin ------------------------------------------------------------ */

/* <resolv.h> of older libcs renames them; the programs' symbols are both. */
#undef res_query
#undef res_search
#undef res_nquery
#undef res_nsearch

typedef int query_fn(const char *, int, int, unsigned char *, int);
typedef int n_query_fn(res_state, const char *, int, int, unsigned char *, int);

struct query {
    query_fn *ask;
    n_query_fn *ask_with; /* with a state of the caller's, or NULL */
    res_state state;
    int class, type, size, result, h_error, error;
    const char *name;
    unsigned char *answer;
};

static void *look_up_query(void *arg)
{
    struct query *query = arg;
    errno = 0;
    if (query->ask_with != NULL) {
        query->result = query->ask_with(query->state, query->name, query->class, query->type,
                                        query->answer, query->size);
        query->h_error = query->state->res_h_errno;
    } else {
        query->result =
            query->ask(query->name, query->class, query->type, query->answer, query->size);
        query->h_error = h_errno;
    }
    query->error = errno;
    return query;
}

static int fail_query(int error)
{
    h_errno = TRY_AGAIN;
    errno = error;
    return -1;
}

/* The answer may be longer than the room for it: what there is room for is there. */
static int wait_for_query(query_fn *ask, const char *name, int class, int type,
                          unsigned char *answer, int size)
{
    size_t name_size = strlen(name) + 1, room = size > 0 ? (size_t)size : 0;
    struct query *query = calloc(1, sizeof *query + name_size + room);
    if (query == NULL)
        return fail_query(ENOMEM);
    query->ask = ask;
    query->class = class;
    query->type = type;
    query->size = size;
    query->answer = (unsigned char *)(query + 1);
    query->name = memcpy(query->answer + room, name, name_size);
    if (!wait_for(look_up_query, query, free))
        return fail_query(errno);
    int result = query->result, error = query->error;
    if (result > 0)
        memcpy(answer, query->answer, result < size ? (size_t)result : room);
    h_errno = query->h_error;
    free(query);
    errno = error;
    return result;
}

static int wait_for_n_query(n_query_fn *ask, res_state state, const char *name, int class,
                            int type, unsigned char *answer, int size)
{
    struct query query = { .ask_with = ask, .state = state, .class = class, .type = type,
                           .size = size, .name = name, .answer = answer };
    if (green_task_check() != 0 || green_offload(look_up_query, &query, NULL, NULL) != 0) {
        state->res_h_errno = TRY_AGAIN;
        return fail_query(errno);
    }
    h_errno = query.h_error;
    errno = query.error;
    return query.result;
}

HOOK(int, res_query, const char *name, int class, int type, unsigned char *answer, int size)
{
    PASS_ON(GREEN_PATCH_NAMES, res_query, name, class, type, answer, size);
    if (!green__patch_enter(GREEN_PATCH_NAMES))
        return NEXT(res_query)(name, class, type, answer, size);
    int result = wait_for_query(NEXT(res_query), name, class, type, answer, size);
    green__patch_leave();
    return result;
}

HOOK(int, res_search, const char *name, int class, int type, unsigned char *answer, int size)
{
    PASS_ON(GREEN_PATCH_NAMES, res_search, name, class, type, answer, size);
    if (!green__patch_enter(GREEN_PATCH_NAMES))
        return NEXT(res_search)(name, class, type, answer, size);
    int result = wait_for_query(NEXT(res_search), name, class, type, answer, size);
    green__patch_leave();
    return result;
}

HOOK(int, __res_query, const char *name, int class, int type, unsigned char *answer, int size)
{
    PASS_ON(GREEN_PATCH_NAMES, __res_query, name, class, type, answer, size);
    if (!green__patch_enter(GREEN_PATCH_NAMES))
        return NEXT(__res_query)(name, class, type, answer, size);
    int result = wait_for_query(NEXT(__res_query), name, class, type, answer, size);
    green__patch_leave();
    return result;
}

HOOK(int, __res_search, const char *name, int class, int type, unsigned char *answer, int size)
{
    PASS_ON(GREEN_PATCH_NAMES, __res_search, name, class, type, answer, size);
    if (!green__patch_enter(GREEN_PATCH_NAMES))
        return NEXT(__res_search)(name, class, type, answer, size);
    int result = wait_for_query(NEXT(__res_search), name, class, type, answer, size);
    green__patch_leave();
    return result;
}

HOOK(int, res_nquery, res_state state, const char *name, int class, int type,
     unsigned char *answer, int size)
{
    PASS_ON(GREEN_PATCH_NAMES, res_nquery, state, name, class, type, answer, size);
    if (!green__patch_enter(GREEN_PATCH_NAMES))
        return NEXT(res_nquery)(state, name, class, type, answer, size);
    int result = wait_for_n_query(NEXT(res_nquery), state, name, class, type, answer, size);
    green__patch_leave();
    return result;
}

HOOK(int, res_nsearch, res_state state, const char *name, int class, int type,
     unsigned char *answer, int size)
{
    PASS_ON(GREEN_PATCH_NAMES, res_nsearch, state, name, class, type, answer, size);
    if (!green__patch_enter(GREEN_PATCH_NAMES))
        return NEXT(res_nsearch)(state, name, class, type, answer, size);
    int result = wait_for_n_query(NEXT(res_nsearch), state, name, class, type, answer, size);
    green__patch_leave();
    return result;
}

HOOK(int, __res_nquery, res_state state, const char *name, int class, int type,
     unsigned char *answer, int size)
{
    PASS_ON(GREEN_PATCH_NAMES, __res_nquery, state, name, class, type, answer, size);
    if (!green__patch_enter(GREEN_PATCH_NAMES))
        return NEXT(__res_nquery)(state, name, class, type, answer, size);
    int result = wait_for_n_query(NEXT(__res_nquery), state, name, class, type, answer, size);
    green__patch_leave();
    return result;
}

HOOK(int, __res_nsearch, res_state state, const char *name, int class, int type,
     unsigned char *answer, int size)
{
    PASS_ON(GREEN_PATCH_NAMES, __res_nsearch, state, name, class, type, answer, size);
    if (!green__patch_enter(GREEN_PATCH_NAMES))
        return NEXT(__res_nsearch)(state, name, class, type, answer, size);
    int result = wait_for_n_query(NEXT(__res_nsearch), state, name, class, type, answer, size);
    green__patch_leave();
    return result;
}

HOOKS(names) = {
    HOOKED(getaddrinfo),
    HOOKED(getnameinfo),
    HOOKED(gethostbyname),
    HOOKED(gethostbyname2),
    HOOKED(gethostbyaddr),
    HOOKED(gethostbyname_r),
    HOOKED(gethostbyname2_r),
    HOOKED(gethostbyaddr_r),
    HOOKED(res_query),
    HOOKED(res_search),
    HOOKED(res_nquery),
    HOOKED(res_nsearch),
    HOOKED(__res_query),
    HOOKED(__res_search),
    HOOKED(__res_nquery),
    HOOKED(__res_nsearch),
    HOOKS_END,
};
