/* SPDX-License-Identifier: MIT */
/*
 * Where stacks come from and where they go: few mappings, bounded caches, pages
 * given back, stacks of other threads and of threads that have ended.
 */
#define _GNU_SOURCE
#include "system.h"

enum { KIB = 1024, MIB = 1024 * KIB, GIB = 1024 * MIB, PAGE = 4096 };

static green_t *greens[6000];

static void make(int n, green_fn *run, size_t size, unsigned flags)
{
    for (int i = 0; i < n; i++) {
        must((greens[i] = with(run, size, flags)) != NULL);
        must(green_switch(greens[i], V(1)) != GREEN_FAILED);
    }
}

static void end(int n)
{
    for (int i = 0; i < n; i++)
        must(green_free(greens[i]) == 0);
}

/* Each test begins and ends with nothing mapped. */
static int nothing_is_mapped(void **state)
{
    (void)state;
    green_trim(0);
    return stats().bytes_mapped != 0;
}

#define CLEAN_TEST(sentence) TEST_WITH(sentence, nothing_is_mapped, nothing_is_mapped)

__attribute__((noinline)) static void touch(size_t bytes)
{
    size_t here = bytes < MIB ? bytes : MIB; /* to Valgrind a larger step is to another stack */
    char frame[here];
    memset(frame, 1, here);
    if (here < bytes)
        touch(bytes - here);
    __asm__ volatile("" : : "r"(frame) : "memory"); /* it is used */
}

static void *go_deep(void *bytes)
{
    touch((size_t)(intptr_t)bytes);
    return NULL;
}

/* ---- Arenas -------------------------------------------------------------------- */

static void skip_if_stressed(void)
{
    if (STRESSED)
        skip_because("with GREEN_STRESS each stack is mapped for itself, and none is kept");
}

static int mappings(void)
{
    FILE *file = fopen("/proc/self/maps", "r");
    int lines = 0;
    must(file != NULL);
    for (int c; (c = getc(file)) != EOF;)
        lines += c == '\n';
    fclose(file);
    return lines;
}

CLEAN_TEST(a_thousand_stacks_are_few_mappings)
{
    skip_if_stressed();
    memset(&asked, 0, sizeof asked);
    int before = mappings(), n = times(1000, 100);
    make(n, echo, 64 * KIB, 0);
    int lines = mappings() - before;
    int by_advice = asked.guards >= n;
    assert_in_range(asked.maps, 1, 40);
    end(n);
    if (!by_advice)
        skip_because("no guards by advice here");
    if (UNDER_ASAN || UNDER_TSAN)
        skip_because("a sanitizer maps something for each stack itself");
    assert_in_range(lines, 0, 20);
}

CLEAN_TEST(every_stack_has_a_guard_also_when_used_again)
{
    for (int round = 0; round < 3; round++) {
        make(100, echo, 64 * KIB, 0);
        for (int i = 0; i < 100; i++)
            assert_true(is_guarded(greens[i]));
        end(100);
        if (round == 1)
            green_trim(0);
    }
}

CLEAN_TEST(a_guard_is_asked_for_once_a_stack_and_not_where_it_is_not_wanted)
{
    skip_if_stressed();
    make(50, echo, 64 * KIB, GREEN_NO_GUARD);
    end(50);
    memset(&asked, 0, sizeof asked);
    make(50, echo, 64 * KIB, GREEN_NO_GUARD);
    assert_int_equal(asked.guards + asked.protects, 0);
    end(50);
    make(50, echo, 64 * KIB, 0);
    int guards = asked.guards + asked.protects;
    assert_true(guards >= 50);
    end(50);
    make(50, echo, 64 * KIB, 0);
    assert_int_equal(asked.guards + asked.protects, guards);
    end(50);
}

CLEAN_TEST(a_stack_is_at_least_as_large_as_was_asked_for)
{
    static const size_t sizes[] = { 1, 16 * KIB, 16 * KIB + 1, 64 * KIB, 100000, 8 * MIB };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        make(40, echo, sizes[i], 0);
        for (int k = 0; k < 40; k++) {
            assert_true(size_of(greens[k]) >= sizes[i]);
            assert_true(size_of(greens[k]) >= 16 * KIB);
            assert_true(size_of(greens[k]) <= (UNDER_ASAN ? 4 : 1) * (sizes[i] + 16 * KIB) + PAGE);
            assert_int_equal(probe(low_of(greens[k]) + size_of(greens[k]) - 1), 0);
        }
        end(40);
    }
}

static void *see_local(void *value)
{
    for (char *where = HERE; value != GREEN_FAILED;)
        value = green_yield(where);
    return NULL;
}

CLEAN_TEST(tops_are_spread_over_the_lines_of_a_page)
{
    skip_if_stressed();
    char used[PAGE / 64] = { 0 };
    int lines = 0, control = 0;
    for (int i = 0; i < 200; i++) {
        greens[i] = with(see_local, 64 * KIB, 0);
        uintptr_t local = (uintptr_t)green_switch(greens[i], NULL);
        lines += !(used[local % PAGE / 64] & 1);
        used[local % PAGE / 64] |= 1;
        control += !(used[(uintptr_t)greens[i] % PAGE / 64] & 2);
        used[(uintptr_t)greens[i] % PAGE / 64] |= 2;
    }
    end(200);
    assert_true(lines >= 16);
    assert_true(control >= 16);
}

/* Else a load from one of them waits for a store to another: only the low bits are compared. */
CLEAN_TEST(neighbours_have_their_tops_at_different_places_of_a_page)
{
    enum { MANY = 64, NEAR = 32 };
    const size_t slot = STACK_FACTOR * 64 * KIB + PAGE; /* of one without a guard */
    int near = 0;
    skip_if_stressed();
    for (int i = 0; i < MANY; i++)
        must((greens[i] = with(echo, 64 * KIB, GREEN_NO_GUARD)) != NULL);
    for (int i = 0; i < MANY; i++)
        for (int k = 0; k < MANY; k++) {
            size_t apart = (size_t)(low_of(greens[i]) - low_of(greens[k])); /* or huge */
            if (apart == 0 || apart % slot != 0 || apart / slot >= NEAR)
                continue;
            near++;
            assert_int_not_equal((uintptr_t)(low_of(greens[i]) + size_of(greens[i])) % PAGE,
                                 (uintptr_t)(low_of(greens[k]) + size_of(greens[k])) % PAGE);
        }
    end(MANY);
    assert_true(near >= 100);
}

CLEAN_TEST(stacks_do_not_overlap)
{
    for (int i = 0; i < 300; i++) {
        size_t size = (size_t)(1 + i % 20) * 16 * KIB;
        must((greens[i] = with(see_local, size, i % 2 ? GREEN_NO_GUARD : 0)) != NULL);
    }
    for (int i = 0; i < 300; i++)
        for (int k = 0; k < i; k++)
            assert_true(low_of(greens[i]) >= low_of(greens[k]) + size_of(greens[k]) ||
                        low_of(greens[k]) >= low_of(greens[i]) + size_of(greens[i]));
    end(300);
}

/* ---- Caches ---------------------------------------------------------------------- */

CLEAN_TEST(a_thousand_tasks_that_come_and_go_ask_the_system_for_nothing)
{
    skip_if_stressed();
    int rounds = times(64, 3); /* fewer than after which pages are counted anew */
    make(1000, echo, 0, 0);
    end(1000);
    memset(&asked, 0, sizeof asked);
    for (int round = 1; round < rounds; round++) {
        make(1000, echo, 0, 0);
        end(1000);
    }
    assert_int_equal(asked.maps + asked.unmaps + asked.protects + asked.guards + asked.advices, 0);
}

CLEAN_TEST(a_cache_keeps_no_more_than_16_mib)
{
    skip_if_stressed();
    int n = times(6000, 600);
    make(n, echo, 32 * KIB, 0);
    assert_int_equal(stats().stacks_live, n);
    end(n);
    green_stats_t now = stats();
    assert_int_equal(now.stacks_live, 0);
    assert_int_equal(now.greens, 0);
    assert_in_range(now.stacks_cached, n < 4000 ? 1 : 1500, 4096); /* two pages each at most */
    assert_in_range(green_trim(0), now.stacks_cached * PAGE, 16 * MIB);
    assert_int_equal(stats().stacks_cached, 0);
}

/* Deep stacks count for what they have. */
CLEAN_TEST(a_cache_counts_pages_not_stacks)
{
    skip_if_stressed();
    for (int i = 0; i < 200; i++)
        must((greens[i] = with(go_deep, 256 * KIB, 0)) != NULL);
    for (int i = 0; i < 200; i++)
        must(green_switch(greens[i], V(200 * KIB)) == NULL);
    end(200);
    assert_in_range(stats().stacks_cached, 40, 82);
    assert_in_range(green_trim(0), 8 * MIB, 17 * MIB);
}

CLEAN_TEST(the_sizes_used_least_lately_give_way)
{
    skip_if_stressed();
    int n = times(5000, 50);
    make(n, echo, 16 * KIB, 0);
    end(n);
    memset(&asked, 0, sizeof asked);
    for (int round = 0; round < 5; round++) {
        make(100, echo, 128 * KIB, 0);
        end(100);
        if (round == 0)
            memset(&asked, 0, sizeof asked);
    }
    assert_int_equal(asked.advices, 0); /* they stay, with their pages */
}

CLEAN_TEST(any_number_of_sizes_works)
{
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 100; i++) {
            must((greens[i] = with(echo, (size_t)(i + 4) * PAGE, 0)) != NULL);
            must(green_switch(greens[i], V(1)) == V(1));
        }
        end(100);
    }
    assert_int_equal(stats().stacks_live, 0);
}

/* What a stack takes in its arena: also a guard and a page, some of which it has for its own. */
static size_t slot_of(const green_t *g)
{
    return size_of(g) / PAGE * PAGE + 64 * KIB + PAGE;
}

/* Greens of sizes that are step apart, rounds of them: see that little is mapped for nobody. */
static void see_that_little_is_mapped(size_t step, int sizes, int rounds)
{
    size_t used = 0;
    int n = 0;
    for (int round = 0; round < rounds; round++) {
        for (int i = 1; i <= sizes; i++) {
            must((greens[n] = with(echo, 16 * KIB + (size_t)i * step, 0)) != NULL);
            used += slot_of(greens[n++]);
            assert_in_range(stats().bytes_mapped, used, 4 * used + 4 * MIB);
        }
    }
    end(n);
    green_trim(0);
}

CLEAN_TEST(what_is_mapped_is_bounded_by_what_is_used_whatever_the_sizes)
{
    if (UNDER_TSAN)
        skip_because("there is no address space for it here");
    see_that_little_is_mapped(MIB, 8, 16);
    see_that_little_is_mapped(256 * KIB, 8, 8); /* alike in many low bits */
    see_that_little_is_mapped(64 * KIB, 16, 8);
    see_that_little_is_mapped(PAGE, 300, 1); /* many kinds of one stack each */
    see_that_little_is_mapped(PAGE, 100, 5);
}

/* One size after the other, each used and freed before the next. */
static void make_one_of_each(size_t step, int sizes)
{
    for (int i = 1; i <= sizes; i++) {
        make(1, echo, (size_t)i * step, 0);
        end(1);
    }
}

CLEAN_TEST(idle_arenas_of_all_sizes_together_are_bounded)
{
    if (UNDER_TSAN)
        skip_because("there is no address space for it here");
    make_one_of_each(MIB, 60);
    make(1, echo, 60 * MIB, 0);
    /* What a thread keeps: eight sizes. */
    assert_true(stats().bytes_mapped <= 64 * MIB + 9 * slot_of(greens[0]));
    end(1);
}

CLEAN_TEST(a_size_that_was_used_some_sizes_ago_maps_nothing)
{
    skip_if_stressed();
    make_one_of_each(256 * KIB, 10);
    memset(&asked, 0, sizeof asked);
    make_one_of_each(256 * KIB, 10);
    assert_int_equal(asked.maps, 0);
    assert_int_equal(asked.unmaps, 0);
}

CLEAN_TEST(huge_ones_have_few_in_an_arena_and_leave_nothing)
{
    const size_t size = (size_t)GIB;
    int n = times(16, 0);
    if (n == 0 || SANITIZED)
        skip_because("there is no address space for it here");
    for (int i = 0; i < n; i++) {
        must((greens[i] = with(echo, size, 0)) != NULL);
        must(green_switch(greens[i], V(i)) == V(i));
        /* each arena as large as all before it, to some 8 GiB */
        assert_in_range(stats().bytes_mapped, (size_t)(i + 1) * size,
                        (size_t)(i + 1) * 2 * size + 8 * size);
        assert_true(is_guarded(greens[i]));
    }
    end(n);
    green_trim(0);
    assert_int_equal(stats().bytes_mapped, 0);
}

CLEAN_TEST(a_green_that_went_deep_once_does_not_keep_its_pages)
{
    enum { SEVERAL = 16 }; /* tops differ, and ends: on the stack itself, or not */
    skip_if_stressed();
    make(1, go_deep, 256 * KIB, 0);
    end(1);
    green_trim(0);
    assert_int_equal(green_trim(0), 0);
    for (int i = 0; i < SEVERAL; i++)
        must((greens[i] = with(go_deep, 256 * KIB, 0)) != NULL);
    for (int i = 0; i < SEVERAL; i++)
        must(green_switch(greens[i], V(200 * KIB)) == NULL);
    end(SEVERAL);
    for (int round = 0; round < 70; round++) {
        make(SEVERAL, echo, 256 * KIB, 0);
        for (int i = SEVERAL / 2; i < SEVERAL; i++)
            assert_int_equal(green_abandon(greens[i]), 0);
        end(SEVERAL / 2);
    }
    assert_in_range(green_trim(0), SEVERAL * PAGE, SEVERAL * 6 * PAGE);
}

/* Once when it is counted first, and once when it is not counted. */
CLEAN_TEST(of_a_stack_that_is_very_deep_not_all_is_kept)
{
    skip_if_stressed();
    if (SANITIZED || UNDER_TSAN)
        skip_because("it is not the green's stack that is deep here");
    static unsigned char resident[64 * MIB / PAGE];
    size_t most = 16 * MIB + 4 * PAGE;
    for (int round = 0; round < 2; round++) {
        void *low;
        size_t size;
        must((greens[0] = with(go_deep, 64 * MIB, 0)) != NULL);
        green_stack(greens[0], &low, &size);
        must(green_switch(greens[0], V(40 * MIB)) == NULL);
        end(1);
        if (round == 1)
            assert_in_range(green_trim(16 * MIB), 24 * MIB - PAGE, 24 * MIB + 4 * PAGE);
        char *begin = (char *)(((uintptr_t)low + PAGE - 1) & ~(uintptr_t)(PAGE - 1));
        size_t kept = 0, pages = 64 * MIB / PAGE - 1;
        must(mincore(begin, pages * PAGE, resident) == 0);
        for (size_t i = 0; i < pages; i++)
            kept += (resident[i] & 1) * PAGE;
        assert_in_range(kept, 15 * MIB, most);
        assert_int_equal(green_trim(16 * MIB), 0);
    }
}

CLEAN_TEST(trim_keeps_what_it_is_told_to)
{
    skip_if_stressed();
    make(1000, echo, 64 * KIB, 0);
    end(1000);
    size_t given = green_trim(MIB);
    assert_true(given >= 1000 * PAGE - MIB);
    assert_in_range(stats().stacks_cached, 100, 256);
    assert_int_equal(green_trim(MIB), 0);
    assert_in_range(green_trim(0), MIB / 2, MIB);
    assert_int_equal(green_trim(0), 0);
    assert_int_equal(stats().bytes_mapped, 0);
}

static void *make_and_end_100(void *unused)
{
    (void)unused;
    make(100, echo, 64 * KIB, 0);
    end(100);
    return NULL;
}

CLEAN_TEST(trim_may_leave_what_is_shared_as_it_is)
{
    skip_if_stressed();
    in_thread(make_and_end_100, NULL);
    size_t mapped = stats().bytes_mapped, cached = stats().stacks_cached;
    assert_true(cached > 0);
    assert_int_equal(green_trim(64 * MIB), 0);
    assert_int_equal(stats().stacks_cached, cached);
    assert_int_equal(stats().bytes_mapped, mapped);
    assert_true(green_trim(0) >= cached * PAGE);
    assert_int_equal(stats().bytes_mapped, 0);
}

static int refusals;

static void try_to_trim(green_trace_event_t event, green_t *from, green_t *to, void *data)
{
    (void)event, (void)from, (void)to, (void)data;
    errno = 0;
    refusals += green_trim(0) == 0 && errno == EBUSY;
}

CLEAN_TEST(locked_memory_is_not_called_given_back)
{
    enum { ALL = 20, LOCKED = 10 };
    char *low[LOCKED];
    skip_if_stressed();
    if (SANITIZED || is_emulated() || under_valgrind())
        skip_because("a tool or an emulator locks no memory, or its own");
    make(ALL, echo, 64 * KIB, 0);
    for (int i = 0; i < LOCKED; i++) {
        low[i] = low_of(greens[i]);
        if (mlock(low[i], 64 * KIB) != 0)
            skip_because("mlock() is not permitted");
    }
    end(LOCKED);
    assert_int_equal(green_trim(0), 0);
    assert_int_equal(stats().stacks_cached, LOCKED);
    for (int i = 0; i < LOCKED; i++)
        must(munlock(low[i], 64 * KIB) == 0);
    assert_in_range(green_trim(0), LOCKED * 64 * KIB, LOCKED * (64 * KIB + PAGE));
    assert_int_equal(stats().stacks_cached, 0);

    /* Nor does it keep an arena that nobody uses: unmapped, it is given back. */
    for (int i = LOCKED; i < ALL; i++)
        must(mlock(low_of(greens[i]), 64 * KIB) == 0);
    memmove(greens, greens + LOCKED, LOCKED * sizeof *greens);
    end(ALL - LOCKED);
    assert_in_range(green_trim(0), (ALL - LOCKED) * 64 * KIB, (ALL - LOCKED) * (64 * KIB + PAGE));
    assert_int_equal(stats().bytes_mapped, 0);
}

CLEAN_TEST(trim_is_refused_inside_a_hook)
{
    refusals = 0;
    green_set_trace(try_to_trim, NULL);
    make(1, give_back, 0, 0);
    green_set_trace(NULL, NULL);
    assert_int_equal(refusals, 2);
    end(1);
}

/* ---- Threads ------------------------------------------------------------------------ */

static void *leave_everything(void *n)
{
    for (int i = 0; i < (int)(intptr_t)n; i++) {
        must((greens[i] = with(echo, 64 * KIB, 0)) != NULL);
        must(i % 3 == 0 || green_switch(greens[i], V(1)) == V(1)); /* every third stays NEW */
    }
    return NULL;
}

CLEAN_TEST(stacks_of_a_thread_that_ended_come_home)
{
    for (int round = 0; round < 3; round++) {
        in_thread(leave_everything, V(500));
        assert_int_equal(stats().greens, 500);
        end(500); /* the NEW ones' stacks die in this thread */
        assert_int_equal(stats().greens, 0);
        assert_int_equal(stats().stacks_live, 0);
    }
}

static void *free_everything(void *n)
{
    end((int)(intptr_t)n);
    return NULL;
}

CLEAN_TEST(they_also_do_in_a_thread_that_has_no_greens)
{
    in_thread(leave_everything, V(200));
    in_thread(free_everything, V(200));
    assert_int_equal(stats().greens, 0);
    assert_int_equal(stats().stacks_live, 0);
}

static void *take_over_and_run(void *n)
{
    for (int i = 0; i < (int)(intptr_t)n; i++) {
        must(green_set_parent(greens[i], green_main()) == 0);
        must(green_switch(greens[i], V(1)) == V(1));
    }
    end((int)(intptr_t)n);
    return NULL;
}

CLEAN_TEST(stacks_that_die_in_another_thread_than_they_were_cut_for_come_home)
{
    size_t mapped = 0;
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < 200; i++)
            must((greens[i] = with(echo, 64 * KIB, 0)) != NULL);
        in_thread(take_over_and_run, V(200));
        assert_int_equal(stats().stacks_live, 0);
        if (round == 2)
            mapped = stats().bytes_mapped;
    }
    assert_true(stats().bytes_mapped <= mapped);
}

static void *come_and_go(void *rounds)
{
    green_t *mine[50];
    for (int round = 0; round < (int)(intptr_t)rounds; round++) {
        for (int i = 0; i < 50; i++) {
            must((mine[i] = with(echo, (size_t)(1 + i % 3) * 32 * KIB, 0)) != NULL);
            must(green_switch(mine[i], V(i)) == V(i));
        }
        for (int i = 0; i < 50; i++)
            must(green_switch(mine[i], V(i)) == V(i) && green_free(mine[i]) == 0);
        if (round % 8 == 0)
            green_trim((size_t)(round % 3) * 64 * KIB);
        stats();
    }
    return NULL;
}

CLEAN_TEST(threads_share_the_arenas)
{
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        must(pthread_create(&threads[i], NULL, come_and_go, V(times(200, 5))) == 0);
    for (int i = 0; i < 4; i++)
        must(pthread_join(threads[i], NULL) == 0);
    assert_int_equal(stats().stacks_live, 0);
}

static void *exit_inside(void *value)
{
    (void)value;
    pthread_exit(NULL);
}

static void *end_in_a_green(void *unused)
{
    (void)unused;
    green_switch(with(exit_inside, 64 * KIB, GREEN_DETACHED), NULL);
    return NULL;
}

CLEAN_TEST(a_thread_may_end_on_a_greens_stack)
{
    if (UNDER_TSAN)
        skip_because("ThreadSanitizer dies of pthread_exit() on another stack than the thread's");
    for (int i = 0; i < 20; i++)
        in_thread(end_in_a_green, NULL);
    assert_int_equal(stats().stacks_live, 0);
    assert_int_equal(stats().greens, 0);
}

static int use_it_in_the_child(void *unused)
{
    (void)unused;
    for (int i = 0; i < 100; i++)
        must(green_switch(greens[i], V(2)) == V(2) && is_guarded(greens[i]));
    end(100);
    make(200, echo, 64 * KIB, 0);
    end(200);
    green_trim(0);
    return 0;
}

CLEAN_TEST(a_forked_child_goes_on_with_its_stacks)
{
    if (UNDER_TSAN)
        skip_because("ThreadSanitizer reports in a child that it does not join the other threads");
    /* Not where the child is searched for leaks: what the thread had is lost to it (rule 17). */
    int rounds = is_emulated() || SANITIZED || under_valgrind() ? 0 : times(400, 5);
    pthread_t thread;
    must(pthread_create(&thread, NULL, come_and_go, V(rounds)) == 0);
    make(100, echo, 64 * KIB, 0);
    for (int i = 0; i < times(10, 2); i++) {
        struct child child = run_child(use_it_in_the_child, NULL);
        assert_true(SANITIZED || child.err[0] == '\0');
        assert_int_equal(child.status, 0);
    }
    end(100);
    must(pthread_join(thread, NULL) == 0);
}

static volatile int enough;

static void *trim_and_make(void *unused)
{
    (void)unused;
    while (!enough) {
        green_t *g = with(echo, 64 * KIB, 0);
        must(g != NULL && green_free(g) == 0);
        green_trim(0);
    }
    return NULL;
}

static int trim_in_the_child(void *unused)
{
    (void)unused;
    green_trim(0);
    return 0;
}

CLEAN_TEST(a_fork_finds_the_arenas_whole)
{
    if (SANITIZED || under_valgrind())
        skip_because("what other threads had is lost to a child, "
                     "and a tool that looks for leaks says so");
    if (is_emulated())
        skip_because("an emulator's own locks are not whole after a fork beside threads");
    pthread_t threads[2];
    enough = 0;
    for (int i = 0; i < 2; i++)
        must(pthread_create(&threads[i], NULL, trim_and_make, NULL) == 0);
    for (int i = 0; i < times(200, 5); i++)
        must(run_child(trim_in_the_child, NULL).status == 0);
    enough = 1;
    for (int i = 0; i < 2; i++)
        must(pthread_join(threads[i], NULL) == 0);
}

int main(void)
{
    return run_all_tests();
}
