/* SPDX-License-Identifier: MIT */
/*
 * Each green has floating-point modes of its own (rule 15), as fenv.h tells
 * them; test_registers.c looks at the control words themselves.
 */
#define _GNU_SOURCE 1 /* feenableexcept() */
#include <fenv.h>
#include <stdbool.h>
#ifdef __x86_64__
#include <xmmintrin.h>
#endif

#include "testing.h"

/* ---- Rounding ----------------------------------------------------------- */

enum { MODES = 4 };
static const int modes[MODES] = {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};

static void set_mode(int i)
{
    fesetround(modes[i]);
}

/* 1/3 - 1/3, each rounded: positive if upward, negative if downward. */
static float sum(void)
{
    volatile float one = 1, minus_one = -1, three = 3;
    volatile float third = one / three, minus_third = minus_one / three;
    return third + minus_third;
}

static long double long_sum(void)
{
    volatile long double one = 1, minus_one = -1, three = 3;
    volatile long double third = one / three, minus_third = minus_one / three;
    return third + minus_third;
}

static bool float_obeys, long_obeys; /* neither does under Valgrind */

static int find_what_obeys(void **state)
{
    (void)state;
    fesetround(FE_UPWARD);
    float_obeys = sum() > 0;
    long_obeys = long_sum() > 0;
    return fesetround(FE_TONEAREST);
}

/* The number of the current mode, which divisions must obey; -1 if they do not. */
static int mode(void)
{
    int i = 0;
    while (modes[i] != fegetround())
        if (++i == MODES)
            return -1;
    bool up = modes[i] == FE_UPWARD, down = modes[i] == FE_DOWNWARD;
    if (float_obeys && (up != (sum() > 0) || down != (sum() < 0)))
        return -1;
    if (long_obeys && (up != (long_sum() > 0) || down != (long_sum() < 0)))
        return -1;
    return i;
}

static int to_nearest(void **state)
{
    (void)state;
    return fesetround(FE_TONEAREST);
}

#define MODE_TEST(sentence) TEST_WITH(sentence, NULL, to_nearest)

/* Each entry sets the next mode; each finds the one before. */
static void *change_modes(void *value)
{
    for (int i = 0; i < 12; i++) {
        set_mode(i % MODES);
        if (i % 3 == 0)
            value = green_yield(value);
        else if (i % 3 == 1)
            value = green_switch(green_main(), value);
        else
            value = green_throw(green_main(), E2);
        note("%d", mode() == i % MODES);
    }
    return value;
}

MODE_TEST(rounding_modes_are_kept_for_each_green)
{
    green_t *g = green_new(change_modes, NULL);
    for (int i = 0; i < 12; i++) {
        int mine = (i * 3 + 1) % MODES; /* the same as g's now and then */
        set_mode(mine);
        void *result = i % 2 == 0 ? green_switch(g, V(1)) : green_throw(g, E1);
        int found = mode();
        to_nearest(NULL);
        assert_int_equal(found, mine);
        assert_true(result == GREEN_FAILED || result == V(1));
    }
    set_mode(3);
    assert_ptr_equal(green_switch(g, V(5)), V(5)); /* its death */
    assert_int_equal(mode(), 3);
    assert_noted("1 1 1 1 1 1 1 1 1 1 1 1");
    assert_int_equal(green_free(g), 0);
}

static void *note_mode(void *value)
{
    note("%d", mode());
    if (value != NULL)
        set_mode((int)(intptr_t)value);
    return value;
}

MODE_TEST(a_green_starts_with_the_mode_of_its_starter_not_its_maker)
{
    for (int i = 0; i < MODES; i++) {
        set_mode((i + 1) % MODES);
        green_t *g = green_new(note_mode, NULL);
        set_mode(i);
        assert_ptr_equal(green_switch(g, V((i + 2) % MODES)), V((i + 2) % MODES));
        assert_int_equal(mode(), i);
        assert_int_equal(green_free(g), 0);
    }
    assert_noted("0 1 2 3");
}

/* The starter of a NEW parent is the child that dies or yields. */
MODE_TEST(a_new_parent_starts_with_the_mode_of_its_child)
{
    green_t *q = green_new(note_mode, NULL), *p = green_new(note_mode, q);
    green_t *c = green_new(note_mode, p);
    set_mode(1);
    assert_ptr_equal(green_switch(c, V(3)), V(3)); /* finds 1, sets 3; finds 3 */
    assert_int_equal(mode(), 1);
    assert_noted("1 3 3");
    assert_int_equal(green_free(c), 0);
    assert_int_equal(green_free(p), 0);
    assert_int_equal(green_free(q), 0);
}

static void *exit_in_mode_2(void *value)
{
    set_mode(2);
    if (value == NULL) {
        errno = E1;
        value = GREEN_FAILED;
    }
    green_exit(value);
}

static void *refuse_in_mode_3(void *value)
{
    set_mode(3);
    green_yield(value);
    note("%d", mode());
    return green_yield(value);
}

MODE_TEST(deaths_and_frees_leave_the_mode_alone)
{
    green_t *g = green_new(exit_in_mode_2, NULL), *h = green_new(exit_in_mode_2, NULL);
    set_mode(1);
    assert_ptr_equal(green_switch(g, V(1)), V(1));
    assert_int_equal(mode(), 1);
    assert_fails(green_switch(h, NULL), E1);
    assert_int_equal(mode(), 1);
    green_t *r = green_new(refuse_in_mode_3, NULL);
    assert_ptr_equal(green_switch(r, V(1)), V(1));
    assert_int_equal(mode(), 1);
    assert_refused(green_free(r), EBUSY);
    assert_int_equal(mode(), 1);
    assert_int_equal(green_free(r), 0);
    assert_int_equal(mode(), 1);
    green_t *n = green_new(note_mode, NULL);
    assert_fails(green_throw(n, E1), E1);
    assert_ptr_equal(green_switch(green_main(), V(2)), V(2));
    assert_fails(green_throw(green_main(), E1), E1);
    assert_int_equal(mode(), 1);
    assert_noted("3");
    assert_int_equal(green_free(g), 0);
    assert_int_equal(green_free(h), 0);
    assert_int_equal(green_free(n), 0);
}

/* Many greens, each in a mode of its own choice, entered at random. */
static void *choose_modes(void *value)
{
    unsigned seed = (unsigned)(intptr_t)value;
    int mine = mode();
    for (;;) {
        seed = seed * 1664525u + 1013904223u;
        if (seed >> 30 == 0)
            set_mode(mine = (int)(seed >> 20 & 3));
        if (green_yield(value) == GREEN_FAILED)
            return value;
        if (mode() != mine)
            value = NULL;
    }
}

MODE_TEST(many_greens_keep_their_modes)
{
    enum { GREENS = 20 };
    green_t *greens[GREENS];
    unsigned seed = 1;
    for (intptr_t i = 0; i < GREENS; i++) {
        greens[i] = green_new(choose_modes, NULL);
        set_mode((int)i % MODES);
        assert_ptr_equal(green_switch(greens[i], V(i + 1)), V(i + 1));
        assert_int_equal(mode(), i % MODES);
    }
    for (int i = 0; i < times(100000, 5000); i++) {
        seed = seed * 1664525u + 1013904223u;
        int g = (int)(seed >> 16) % GREENS, mine = (int)(seed >> 10 & 3);
        set_mode(mine);
        assert_ptr_equal(green_switch(greens[g], NULL), V(g + 1));
        assert_int_equal(mode(), mine);
    }
    for (intptr_t i = 0; i < GREENS; i++) {
        assert_ptr_equal(green_throw(greens[i], E1), V(i + 1));
        assert_int_equal(green_free(greens[i]), 0);
    }
}

static void ignore(green_trace_event_t event, green_t *from, green_t *to, void *data)
{
    (void)event, (void)from, (void)to, (void)data;
}

MODE_TEST(the_same_holds_with_a_trace_hook)
{
    green_set_trace(ignore, NULL);
    rounding_modes_are_kept_for_each_green();
    a_green_starts_with_the_mode_of_its_starter_not_its_maker();
    deaths_and_frees_leave_the_mode_alone();
    green_set_trace(NULL, NULL);
}

/* ---- Exception masks ---------------------------------------------------- */

static volatile long double numerator = 1, zero; /* the x87 unit's business, on x86_64 */

static void *enable_and_wait(void *value)
{
    note("%d", fegetexcept() == FE_OVERFLOW); /* the starter's */
    feenableexcept(FE_DIVBYZERO);
    value = green_yield(value);
    note("%d", numerator + numerator == 2); /* what main left behind is no signal here */
    note("%d", fegetexcept() == (FE_OVERFLOW | FE_DIVBYZERO));
    fedisableexcept(FE_OVERFLOW);
    value = green_yield(value);
    note("%d", fegetexcept() == FE_DIVBYZERO);
    return value;
}

MODE_TEST(exception_masks_are_kept_for_each_green)
{
    feclearexcept(FE_ALL_EXCEPT);
    if (feenableexcept(FE_OVERFLOW) == -1 || fegetexcept() != FE_OVERFLOW) {
        print_message("this CPU traps no floating-point exceptions\n");
        skip();
    }
    green_t *g = green_new(enable_and_wait, NULL);
    assert_ptr_equal(green_switch(g, V(1)), V(1));
    assert_int_equal(fegetexcept(), FE_OVERFLOW);
    fedisableexcept(FE_OVERFLOW);
    assert_true(numerator / zero > 1); /* is no signal here */
    assert_ptr_equal(green_switch(g, V(2)), V(2));
    assert_int_equal(fegetexcept(), 0);
    assert_ptr_equal(green_switch(g, V(3)), V(3));
    assert_int_equal(fegetexcept(), 0);
    assert_noted("1 1 1 1");
    assert_int_equal(green_free(g), 0);
}

#ifdef __x86_64__
enum { MISALIGNED_MASK = 1 << 17 };

static void mask_misaligned(unsigned mask)
{
    _mm_setcsr((_mm_getcsr() & ~(unsigned)MISALIGNED_MASK) | mask);
}

static void *mask_misaligned_and_wait(void *value)
{
    mask_misaligned(MISALIGNED_MASK);
    value = green_yield(value);
    note("%d", (_mm_getcsr() & MISALIGNED_MASK) != 0);
    return value;
}

MODE_TEST(so_is_amds_misaligned_exception_mask)
{
    struct {
        char before[28];
        uint32_t mxcsr_mask;
        char after[480];
    } __attribute__((aligned(16))) saved;
    memset(&saved, 0, sizeof saved);
    __asm__ volatile("fxsave %0" : "+m"(saved));
    if (!(saved.mxcsr_mask & MISALIGNED_MASK))
        skip_because("this CPU has no misaligned exception mask");
    green_t *g = green_new(mask_misaligned_and_wait, NULL);
    assert_ptr_equal(green_switch(g, V(1)), V(1));
    assert_int_equal(_mm_getcsr() & MISALIGNED_MASK, 0);
    assert_ptr_equal(green_switch(g, V(2)), V(2));
    assert_int_equal(_mm_getcsr() & MISALIGNED_MASK, 0);
    assert_noted("1");
    assert_int_equal(green_free(g), 0);
}
#endif

/* Each test leaves the mode as it was found. */
int main(void)
{
    return run_all_tests_between(find_what_obeys, NULL);
}
