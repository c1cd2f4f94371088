/* SPDX-License-Identifier: MIT */
/*
 * When the system refuses memory for stacks or guards for them: a documented
 * errno, nothing lost, and the next call works.  Never a stack without the
 * guard that was asked for.
 *
 * Each test runs in a child: what the library has learnt of the system's guards
 * holds for the process.
 */
#define _GNU_SOURCE
#include <sys/resource.h>

#include "system.h"

enum { KIB = 1024, MIB = 1024 * KIB, MOST = 40000, SKIPPED = 77 };

static green_t *greens[MOST];

static int skipped(const char *reason)
{
    printf("skipped: %s\n", reason);
    return SKIPPED;
}

static void run(int (*fn)(void *))
{
    struct child child = run_child(fn, NULL);
    if (WIFEXITED(child.status) && WEXITSTATUS(child.status) == SKIPPED) {
        print_message("%s", child.out);
        skip();
    }
    assert_string_equal(child.err, "");
    assert_int_equal(child.status, 0);
}

#define in_a_child(name)   \
    TEST(name)             \
    {                      \
        run(name##_child); \
    }

/* Makes greens until it fails, all started if they shall be; how many. */
static int make_until_refused(size_t size, unsigned flags, int most, int start)
{
    int n = 0;
    errno = 0;
    while (n < most && (greens[n] = with(echo, size, flags)) != NULL) {
        must(!start || green_switch(greens[n], V(1)) == V(1));
        n++;
    }
    must(n == most || errno == ENOMEM);
    return n;
}

static void end(int from, int n)
{
    for (int i = from; i < n; i++)
        must(green_free(greens[i]) == 0);
}

static void nothing_is_left(void)
{
    green_trim(0);
    green_stats_t now = stats();
    must(now.greens == 0 && now.stacks_live == 0 && now.stacks_cached == 0);
    must(now.bytes_mapped == 0);
}

/* ---- Guards ---------------------------------------------------------------- */

static void hundred_guarded(void)
{
    must(make_until_refused(64 * KIB, 0, 100, 1) == 100);
    for (int i = 0; i < 100; i++)
        must(is_guarded(greens[i]));
    end(0, 100);
    nothing_is_left();
}

static int einval_child(void *unused)
{
    (void)unused;
    refusal.guards = REFUSE;
    hundred_guarded();
    must(asked.protects >= 100);
    refusal.guards = GRANT; /* mapping by mapping */
    asked.protects = 0;
    hundred_guarded();
    return 0;
}
#define a_kernel_without_such_guards_gets_mprotect_child einval_child
in_a_child(a_kernel_without_such_guards_gets_mprotect)

static int pretend_child(void *unused)
{
    (void)unused;
    refusal.guards = PRETEND;
    hundred_guarded();
    must(asked.protects >= 100);
    must(asked.guards <= 1); /* once deceived; GREEN_GUARD_MPROTECT does not even ask */
    return 0;
}
#define an_emulator_that_only_says_yes_is_not_believed_child pretend_child
in_a_child(an_emulator_that_only_says_yes_is_not_believed)

static int no_pipe_child(void *unused)
{
    (void)unused;
    struct rlimit before;
    must(probe("") == 0); /* it has its own pipe from now on */
    must(getrlimit(RLIMIT_NOFILE, &before) == 0);
    must(setrlimit(RLIMIT_NOFILE, &(struct rlimit){ 0, before.rlim_max }) == 0);
    hundred_guarded();
    must(asked.protects >= 100);
    must(setrlimit(RLIMIT_NOFILE, &before) == 0);
    hundred_guarded();
    return 0;
}
#define without_a_descriptor_to_ask_with_it_is_mprotect_child no_pipe_child
in_a_child(without_a_descriptor_to_ask_with_it_is_mprotect)

static int no_guard_child(void *unused)
{
    (void)unused;
    must(make_until_refused(64 * KIB, 0, 10, 1) == 10);
    for (int round = 0; round < 3; round++) {
        refusal.guards = refusal.protects = REFUSE;
        green_stats_t before = stats();
        for (int i = 0; i < 200; i++) {
            errno = 0;
            must(with(echo, 128 * KIB, 0) == NULL && errno == ENOMEM);
        }
        /* One that is an arena for itself is not kept, and so nothing of its kind is. */
        must(with(echo, 80 * MIB, 0) == NULL && errno == ENOMEM);
        green_stats_t after = stats();
        must(after.greens == before.greens && after.stacks_live == before.stacks_live);
        must(after.bytes_mapped - before.bytes_mapped < 16 * MIB);
        green_t *g = with(echo, 128 * KIB, GREEN_NO_GUARD); /* who asks for none gets it */
        must(g != NULL && green_switch(g, V(1)) == V(1) && green_free(g) == 0);
        refusal.guards = refusal.protects = GRANT;
        g = with(echo, 128 * KIB, 0);
        must(g != NULL && green_switch(g, V(1)) == V(1) && is_guarded(g) && green_free(g) == 0);
        green_trim(0);
    }
    end(0, 10);
    nothing_is_left();
    return 0;
}
#define where_no_guard_is_to_be_had_it_is_enomem_child no_guard_child
in_a_child(where_no_guard_is_to_be_had_it_is_enomem)

static void *leave_one_at_home(void *unused)
{
    (void)unused;
    green_t *g = with(echo, 16 * KIB, 0);
    must(g != NULL && green_switch(g, V(1)) == V(1) && green_free(g) == 0);
    return NULL;
}

static int ready_child(void *unused)
{
    (void)unused;
    if (STRESSED)
        return skipped("with GREEN_STRESS no stack is kept at home");
    /* The same place in the table of kinds. */
    static const size_t sizes[] = { 16 * KIB, 272 * KIB };
    green_t *g[3], *other = with(echo, sizes[1], 0);
    must(other != NULL);
    for (int i = 0; i < 2; i++) /* the second brings one more, which has no guard yet */
        must((g[i] = with(echo, sizes[0], 0)) != NULL);
    in_thread(leave_one_at_home, NULL);
    refusal.guards = refusal.protects = REFUSE;
    must((g[2] = with(echo, sizes[0], 0)) != NULL && is_guarded(g[2]));
    errno = 0;
    must(with(echo, sizes[0], 0) == NULL && errno == ENOMEM);
    refusal = (struct refusal){ 0 };
    for (int i = 0; i < 3; i++)
        must(green_free(g[i]) == 0);
    must(green_free(other) == 0);
    return 0;
}

#define one_that_has_its_guard_is_found_among_others_child ready_child
in_a_child(one_that_has_its_guard_is_found_among_others)

static int map_limit_child(void *unused)
{
    (void)unused;
    if (under_valgrind())
        return skipped("Valgrind knows no more than 30,000 mappings");
    FILE *file = fopen("/proc/sys/vm/max_map_count", "r");
    int limit = 0;
    if (file == NULL || fscanf(file, "%d", &limit) != 1 || limit > 2 * MOST)
        return skipped("the limit on mappings is unknown or too high");
    fclose(file);
    if (getenv("GREEN_TEST_SLOW") != NULL)
        return skipped("GREEN_TEST_SLOW is set");
    refusal.guards = REFUSE;
    int n = make_until_refused(16 * KIB, 0, MOST, 0);
    if (n == MOST)
        return skipped("no limit on mappings is met (an emulator's mappings are not the kernel's)");
    must(n > limit / 2 - 1000 && n < limit / 2);
    for (int i = 0; i < 3; i++) { /* it stays so */
        errno = 0;
        must(with(echo, 16 * KIB, 0) == NULL && errno == ENOMEM);
    }
    must(stats().greens == (size_t)n && stats().stacks_live == (size_t)n);
    end(n - 100, n);
    green_trim(0); /* all of them home, among others that have no guard yet */
    must(make_until_refused(16 * KIB, 0, 100, 1) == 100);
    for (int i = 0; i < 100; i++)
        must(is_guarded(greens[i]));
    end(0, 100);
    return 0;
}
#define guards_by_mprotect_end_at_the_limit_on_mappings_child map_limit_child
in_a_child(guards_by_mprotect_end_at_the_limit_on_mappings)

/* ---- Memory ------------------------------------------------------------------- */

static int small_maps_child(void *unused)
{
    (void)unused;
    const size_t above[] = { 2 * MIB, 600 * KIB, 200 * KIB };
    for (int i = 0; i < 3; i++) {
        refusal.maps_above = above[i];
        hundred_guarded();
    }
    return 0;
}
#define arenas_shrink_to_what_the_system_grants_child small_maps_child
in_a_child(arenas_shrink_to_what_the_system_grants)

static int no_maps_child(void *unused)
{
    (void)unused;
    for (int round = 0; round < 3; round++) {
        refusal.maps_above = 1;
        int n = make_until_refused(64 * KIB, 0, MOST, 0);
        must(n < MOST && stats().greens == (size_t)n);
        for (int i = 0; i < 10; i++) {
            errno = 0;
            must(with(echo, 1 * MIB, 0) == NULL && errno == ENOMEM);
        }
        must(stats().greens == (size_t)n && stats().stacks_live == (size_t)n);
        refusal.maps_above = 0;
        green_t *g = with(echo, 1 * MIB, 0);
        must(g != NULL && green_switch(g, V(1)) == V(1) && is_guarded(g) && green_free(g) == 0);
        end(0, n);
        must(make_until_refused(64 * KIB, 0, 10 + 100 * round, 1) == 10 + 100 * round);
        end(0, 10 + 100 * round);
    }
    nothing_is_left();
    return 0;
}
#define without_memory_it_is_enomem_and_then_goes_on_child no_maps_child
in_a_child(without_memory_it_is_enomem_and_then_goes_on)

static int limit_child(void *unused)
{
    (void)unused;
    if (under_valgrind())
        return skipped("Valgrind needs more address space than that for itself");
    const rlim_t limits[] = { 64 * MIB, 128 * MIB, 1024 * MIB };
    for (int i = 0; i < 3; i++) {
        struct rlimit limit = { limits[i], RLIM_INFINITY };
        must(setrlimit(RLIMIT_AS, &limit) == 0);
        void *too_much =
            mmap(NULL, limits[i], PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (too_much != MAP_FAILED)
            return skipped("RLIMIT_AS does not bind here (qemu-user ignores it)");
        const size_t sizes[] = { 16 * KIB, 256 * KIB, 8 * MIB };
        for (int k = 0; k < 6; k++) {
            int n = make_until_refused(sizes[k % 3], 0, MOST, 1);
            must(n > 0 && n < MOST);
            /* All but what the program itself takes, and less than a stack's worth. */
            must((size_t)n * (sizes[k % 3] + 70 * KIB) + 16 * MIB + sizes[k % 3]
                 > limits[i] - 24 * MIB);
            must(is_guarded(greens[n - 1]));
            end(n - 1, n); /* the next call works */
            must((greens[n - 1] = with(echo, sizes[k % 3], 0)) != NULL);
            end(0, n);
        }
        nothing_is_left();
    }
    return 0;
}
#define a_limit_on_address_space_is_used_up_and_then_enomem_child limit_child
in_a_child(a_limit_on_address_space_is_used_up_and_then_enomem)

static size_t locked(void)
{
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    size_t kib = 0;
    must(file != NULL);
    while (fgets(line, sizeof line, file) != NULL)
        sscanf(line, "VmLck: %zu", &kib);
    fclose(file);
    return kib * KIB;
}

static int locked_child(void *unused)
{
    (void)unused;
    if (emulated())
        return skipped("what is locked is the emulator's as well");
    must(make_until_refused(64 * KIB, 0, 500, 1) == 500); /* so arenas have grown */
    if (mlockall(MCL_FUTURE) != 0)
        return skipped("mlockall() is not permitted");
    if (asked.guards > 0) {
        char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        must(page != MAP_FAILED);
        if (locked() == 0)
            return skipped("mlockall() locks nothing here");
    }
    int n = 500;
    size_t before = stats().bytes_mapped;
    for (; n < MOST && stats().bytes_mapped == before; n++) /* from what is there */
        must((greens[n] = with(echo, 64 * KIB, 0)) != NULL);
    for (int most = n + 50; n < most; n++)
        must((greens[n] = with(echo, 64 * KIB, 0)) != NULL &&
             green_switch(greens[n], V(1)) == V(1) && is_guarded(greens[n]));
    size_t bytes = locked();
    must(bytes >= 50 * 64 * KIB && bytes < 100 * 160 * KIB); /* no more than is wanted */
    end(0, n);
    must(munlockall() == 0);
    nothing_is_left();
    must(locked() == 0);
    return 0;
}
#define locked_memory_is_guarded_and_no_more_than_wanted_child locked_child
in_a_child(locked_memory_is_guarded_and_no_more_than_wanted)

static int lock_limit_child(void *unused)
{
    (void)unused;
    if (emulated())
        return skipped("the emulator itself runs out of memory");
    struct rlimit limit = { 4 * MIB, 4 * MIB };
    if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0 || (geteuid() == 0 && seteuid(65534) != 0) ||
        mlockall(MCL_FUTURE) != 0)
        return skipped("mlockall() with a limit is not permitted");
    int n = make_until_refused(64 * KIB, 0, 1000, 1);
    if (n == 1000)
        return skipped("RLIMIT_MEMLOCK does not bind here");
    must(n > 10);
    end(n - 1, n);
    must((greens[n - 1] = with(echo, 64 * KIB, 0)) != NULL);
    must(green_switch(greens[n - 1], V(1)) == V(1) && is_guarded(greens[n - 1]));
    end(0, n);
    nothing_is_left();
    return 0;
}
#define a_limit_on_locked_memory_ends_in_enomem_child lock_limit_child
in_a_child(a_limit_on_locked_memory_ends_in_enomem)

int main(void)
{
    return SANITIZED ? skip_all_because("a sanitizer does not live with refusals of the system")
                     : run_all_tests();
}
