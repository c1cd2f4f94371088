/* SPDX-License-Identifier: MIT */
/* green_getaddrinfo() with the system's names: it says what getaddrinfo() says. */
#define _GNU_SOURCE
#include <netdb.h>
#include <sys/socket.h>

#include "hubs.h"

static void assert_same_list(const struct addrinfo *a, const struct addrinfo *b)
{
    for (; a != NULL && b != NULL; a = a->ai_next, b = b->ai_next) {
        assert_int_equal(a->ai_flags, b->ai_flags);
        assert_int_equal(a->ai_family, b->ai_family);
        assert_int_equal(a->ai_socktype, b->ai_socktype);
        assert_int_equal(a->ai_protocol, b->ai_protocol);
        assert_int_equal(a->ai_addrlen, b->ai_addrlen);
        assert_memory_equal(a->ai_addr, b->ai_addr, a->ai_addrlen);
        assert_true((a->ai_canonname == NULL) == (b->ai_canonname == NULL));
        if (a->ai_canonname != NULL)
            assert_string_equal(a->ai_canonname, b->ai_canonname);
    }
    assert_true(a == NULL && b == NULL);
}

static int assert_same(const char *node, const char *service, const struct addrinfo *hints)
{
    struct addrinfo *wanted = NULL, *got = NULL;
    int result = getaddrinfo(node, service, hints, &wanted);
    assert_int_equal(green_getaddrinfo(node, service, hints, &got), result);
    if (result == 0) {
        assert_same_list(got, wanted);
        freeaddrinfo(wanted);
        freeaddrinfo(got);
    }
    return result;
}

WORLD_TEST(localhost_and_addresses_are_as_libcs)
{
    static const char *const nodes[] = { "localhost", "127.0.0.1", "::1", "127.1" };
    const struct addrinfo hints[] = {
        { .ai_flags = 0 },
        { .ai_socktype = SOCK_STREAM },
        { .ai_flags = AI_CANONNAME, .ai_socktype = SOCK_DGRAM },
        { .ai_flags = AI_NUMERICHOST },
    };
    for (int i = 0; i < 4; i++) {
        assert_same(nodes[i], NULL, NULL);
        for (int j = 0; j < 4; j++)
            assert_same(nodes[i], "80", &hints[j]);
    }
    assert_int_equal(assert_same(NULL, "80", NULL), 0);
    assert_int_equal(assert_same("127.0.0.1", "80", NULL), 0);
}

WORLD_TEST(nonsense_is_as_libcs)
{
    const struct addrinfo family = { .ai_family = 255 }, flags = { .ai_flags = 1 << 30 };
    assert_int_equal(assert_same("127.0.0.1", NULL, &family), EAI_FAMILY);
    assert_int_equal(assert_same("localhost", NULL, &family), EAI_FAMILY);
    assert_same("127.0.0.1", NULL, &flags);
    assert_int_equal(assert_same(NULL, NULL, NULL), EAI_NONAME);
    assert_same("127.0.0.1", "-1", NULL);
    assert_same("127.0.0.1", "65536", NULL);
    assert_same("localhost", "http", NULL);
    assert_same("127.0.0.1", "http", NULL);
}

WORLD_TEST(each_name_of_etc_hosts_is_known)
{
    char line[512];
    FILE *file = fopen("/etc/hosts", "r");
    int count = 0;
    if (file == NULL) {
        print_message("skipped: there is no /etc/hosts here\n");
        return;
    }
    while (fgets(line, sizeof line, file) != NULL && count < 20) {
        line[strcspn(line, "#\n")] = '\0';
        if (strtok(line, " \t") == NULL)
            continue;
        for (char *name; (name = strtok(NULL, " \t")) != NULL; count++)
            assert_int_equal(assert_same(name, "80", NULL), 0);
    }
    fclose(file);
    assert_true(count > 0);
}

int main(void)
{
    if (under_valgrind())
        return skip_all_because("what glibc's resolver keeps, Valgrind takes for lost");
    return run_all_tests();
}
