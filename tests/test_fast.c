/* SPDX-License-Identifier: MIT */
/*
 * What is special about green_fast.h: what the compiler may have kept across it,
 * in functions of every shape, and that it mixes with all of green.h.  The
 * CMake file builds this with many compiler options.  What a switch does at
 * all is tested by the fast_test_*.
 */
#include <alloca.h>
#include <fenv.h>
#include <stdbool.h>
#include <unwind.h>

#include "testing.h"

#include <green_fast.h>

#ifdef __AVX512F__
#include <immintrin.h>
#endif
#ifdef __ARM_FEATURE_SVE
#include <arm_sve.h>
#include <sys/auxv.h>
#endif

#define NOINLINE __attribute__((noinline))

/* Two greens, 0 and 1, that switch to each other. */
static green_t *sides[2];

/* Runs body as both, body 0 first, until both have returned; each has to return V(1). */
static void run_both(green_fn *body)
{
    sides[0] = green_new(body, NULL);
    sides[1] = green_new(body, NULL);
    void *first = green_switch_fast(sides[0], V(0));
    int left = green_state(sides[0]) != GREEN_DEAD ? 0 : 1;
    void *second = green_switch_fast(sides[left], NULL);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(green_state(sides[i]), GREEN_DEAD);
        assert_int_equal(green_free(sides[i]), 0);
    }
    assert_ptr_equal(first, V(1));
    assert_ptr_equal(second, V(1));
}

/* ---- Registers ----------------------------------------------------------- */

#if defined(__AVX512F__)
typedef int vector __attribute__((vector_size(64)));
#elif defined(__AVX__)
typedef int vector __attribute__((vector_size(32)));
#else
typedef int vector __attribute__((vector_size(16)));
#endif

#define EIGHT(DO, name) \
    DO(name, 0) DO(name, 1) DO(name, 2) DO(name, 3) DO(name, 4) DO(name, 5) DO(name, 6) DO(name, 7)
#define FILL(name, i) __typeof__(name[0]) name##i = name[i];
#define SAME(name, i) same &= name##i == name[i];
#define SAME_VECTOR(name, i) same &= are_same(name##i, name[i]);

/* More of each kind than there are registers for it. */
struct pattern {
    uint64_t word[3][8];
    double real[4][8];
    long double extended[8];
    vector wide[4][8];
};
static struct pattern patterns[2];

static void fill_patterns(void)
{
    unsigned seed = 1;
    for (int side = 0; side < 2; side++) {
        struct pattern *p = &patterns[side];
        for (int i = 0; i < 8; i++) {
            for (int k = 0; k < 3; k++)
                p->word[k][i] = (seed = seed * 1664525u + 1013904223u) * 0x100000001u;
            for (int k = 0; k < 4; k++)
                p->real[k][i] = (seed = seed * 1664525u + 1013904223u);
            p->extended[i] = (seed = seed * 1664525u + 1013904223u);
            for (int k = 0; k < 4; k++)
                for (size_t n = 0; n < sizeof(vector) / sizeof(int); n++)
                    p->wide[k][i][n] = (int)(seed = seed * 1664525u + 1013904223u);
        }
    }
}

static bool are_same(vector a, vector b)
{
    return memcmp(&a, &b, sizeof a) == 0;
}

static NOINLINE bool hold_words(int side)
{
    const uint64_t *a = patterns[side].word[0], *b = patterns[side].word[1],
                   *c = patterns[side].word[2];
    bool same = true;
    EIGHT(FILL, a) EIGHT(FILL, b) EIGHT(FILL, c)
    green_switch_fast(sides[!side], NULL);
    EIGHT(SAME, a) EIGHT(SAME, b) EIGHT(SAME, c)
    return same;
}

static NOINLINE bool hold_reals(int side)
{
    const double *a = patterns[side].real[0], *b = patterns[side].real[1],
                 *c = patterns[side].real[2], *d = patterns[side].real[3];
    bool same = true;
    EIGHT(FILL, a) EIGHT(FILL, b) EIGHT(FILL, c) EIGHT(FILL, d)
    green_switch_fast(sides[!side], NULL);
    EIGHT(SAME, a) EIGHT(SAME, b) EIGHT(SAME, c) EIGHT(SAME, d)
    return same;
}

static NOINLINE bool hold_extended(int side)
{
    const long double *a = patterns[side].extended;
    bool same = true;
    EIGHT(FILL, a)
    green_switch_fast(sides[!side], NULL);
    EIGHT(SAME, a)
    return same;
}

static NOINLINE bool hold_vectors(int side)
{
    const vector *a = patterns[side].wide[0], *b = patterns[side].wide[1],
                 *c = patterns[side].wide[2], *d = patterns[side].wide[3];
    bool same = true;
    EIGHT(FILL, a) EIGHT(FILL, b) EIGHT(FILL, c) EIGHT(FILL, d)
    green_switch_fast(sides[!side], NULL);
    EIGHT(SAME_VECTOR, a) EIGHT(SAME_VECTOR, b) EIGHT(SAME_VECTOR, c) EIGHT(SAME_VECTOR, d)
    return same;
}

/* Where there are registers for masks. */
#if defined(__AVX512F__)
#define MASK(name, i) __mmask16 name##i = _mm512_cmplt_epi32_mask((__m512i)a[i], (__m512i)b[i]);
#define USE(name, i)                                                                     \
    same &= _mm512_mask2int(name##i) ==                                                  \
            _mm512_mask2int(_mm512_cmplt_epi32_mask((__m512i)a[i], (__m512i)b[i]));      \
    sum = _mm512_mask_add_epi32(sum, name##i, sum, (__m512i)a[i]);
static NOINLINE bool hold_masks(int side)
{
    const vector *a = patterns[side].wide[0], *b = patterns[side].wide[1];
    __m512i sum = _mm512_setzero_si512();
    bool same = true;
    EIGHT(MASK, mask)
    green_switch_fast(sides[!side], NULL);
    EIGHT(USE, mask)
    return same && _mm512_reduce_or_epi32(sum) != 0;
}
#elif defined(__ARM_FEATURE_SVE)
#define MASK(name, i) svbool_t name##i = svwhilelt_b8_u64(0, words[i] % 16);
#define USE(name, i) \
    same &= svcntp_b8(svptrue_b8(), name##i) == words[i] % 16; \
    sum = svadd_n_u8_m(name##i, sum, 1);
static NOINLINE bool hold_masks(int side)
{
    const uint64_t *words = patterns[side].word[0];
    svuint8_t sum = svdup_u8(0), one = svdup_u8((uint8_t)side);
    bool same = true;
    EIGHT(MASK, mask)
    green_switch_fast(sides[!side], NULL);
    EIGHT(USE, mask)
    return same && svaddv_u8(svptrue_b8(), sum) != 0 &&
           svaddv_u8(svptrue_b8(), one) == (uint64_t)side * svcntb();
}
#else
static bool hold_masks(int side)
{
    (void)side;
    return true;
}
#endif

static void *hold_everything(void *value)
{
    int side = value != V(0);
    bool same = true;
    if (side == 0)
        green_switch_fast(sides[1], V(1));
    for (int i = 0; i < 100; i++)
        same = hold_words(side) && hold_reals(side) && hold_extended(side) && hold_vectors(side) &&
               hold_masks(side) && same;
    return V(same);
}

TEST(nothing_is_lost_that_was_in_a_register)
{
    fill_patterns();
    run_both(hold_everything);
}

/* ---- Functions of every shape ----------------------------------------------- */

/* A leaf function, whose locals may be below its stack pointer: no other call is left in it. */
static NOINLINE uint64_t leaf(struct green_private *to, const uint64_t *words)
{
    struct green_private *me = green_private_self->current;
    volatile uint64_t locals[14];
    uint64_t sum = 0;
    for (int i = 0; i < 14; i++)
        locals[i] = words[i];
    green_private_self->current = to;
    green_private_enter(me, to, NULL);
    for (int i = 0; i < 14; i++)
        sum = sum * 31 + locals[i];
    return sum;
}

static void *be_a_leaf(void *value)
{
    int side = value != V(0);
    bool same = true;
    uint64_t words[14], sum = 0;
    for (int i = 0; i < 14; i++) {
        words[i] = (uint64_t)(side * 100 + i) << 32;
        sum = sum * 31 + words[i];
    }
    if (side == 0)
        green_switch_fast(sides[1], V(1));
    for (int i = 0; i < 100; i++)
        same &= leaf((struct green_private *)sides[!side], words) == sum;
    return V(same);
}

/* For what looks behind the calls: under a sanitizer they are green_switch() after all. */
static void skip_if_slow(void)
{
    if (green_current() == NULL || green_private_self->tag == 0)
        skip_because("under a sanitizer each is green_switch() after all");
}

TEST(a_leaf_function_keeps_what_is_below_its_stack_pointer)
{
    skip_if_slow();
    run_both(be_a_leaf);
}

static NOINLINE uintptr_t recurse(int side, int depth)
{
    volatile uintptr_t here = (uintptr_t)depth * 3 + (uintptr_t)side;
    green_switch_fast(sides[!side], NULL);
    uintptr_t sum = depth == 0 ? 0 : recurse(side, depth - 1);
    green_switch_fast(sides[!side], NULL);
    return sum + here;
}

static void *recurse_100_deep(void *value)
{
    int side = value != V(0);
    if (side == 0)
        green_switch_fast(sides[1], V(1));
    return V(recurse(side, 100) == 3 * 5050 + 101 * (uintptr_t)side);
}

TEST(a_recursive_function_keeps_every_level)
{
    run_both(recurse_100_deep);
}

/* Has a frame that grows, and one that is aligned, and both. */
static NOINLINE bool grow(int side, size_t size)
{
    char fixed[40], array[size], *more = alloca(size + (size_t)side);
    memset(fixed, side + 1, sizeof fixed);
    memset(array, side + 3, size);
    memset(more, side + 5, size);
    green_switch_fast(sides[!side], NULL);
    return fixed[39] == side + 1 && array[0] == side + 3 && array[size - 1] == side + 3 &&
           more[0] == side + 5 && more[size - 1] == side + 5;
}

static NOINLINE bool align(int side)
{
    _Alignas(64) volatile char aligned[100];
    aligned[0] = aligned[99] = (char)(side + 7);
    green_switch_fast(sides[!side], NULL);
    return aligned[0] == side + 7 && aligned[99] == side + 7 && (uintptr_t)aligned % 64 == 0;
}

/* Clang addresses this frame by rbx or x19. */
static NOINLINE bool grow_and_align(int side, size_t size, uint64_t a, uint64_t b, uint64_t c)
{
    _Alignas(128) volatile char aligned[256];
    volatile char array[size];
    aligned[0] = aligned[255] = (char)(side + 9);
    array[0] = array[size - 1] = (char)(side + 11);
    green_switch_fast(sides[!side], NULL);
    return aligned[0] == side + 9 && aligned[255] == side + 9 && array[0] == side + 11 &&
           array[size - 1] == side + 11 && (uintptr_t)aligned % 128 == 0 && a == b && b == c;
}

static void *use_frames(void *value)
{
    int side = value != V(0);
    bool same = true;
    if (side == 0)
        green_switch_fast(sides[1], V(1));
    for (uint64_t i = 1; i < 100; i++)
        same = grow(side, i * 7) && align(side) && grow_and_align(side, i * 5, i, i, i) && same;
    return V(same);
}

TEST(frames_may_grow_and_be_aligned)
{
    run_both(use_frames);
}

/* In one expression, and with its address taken. */
static void *count_up(void *value)
{
    return green_switch_fast(sides[1], green_switch_fast(sides[1], green_yield_fast(value)));
}

static void *count_on(void *value)
{
    void *(*volatile fast)(green_t *, void *) = green_switch_fast;
    while (value != NULL)
        value = fast(sides[0], V((intptr_t)value + 1));
    return NULL;
}

TEST(it_is_a_function_like_any_other)
{
    sides[0] = green_new(count_up, NULL);
    sides[1] = green_new(count_on, NULL);
    assert_ptr_equal(green_switch_fast(sides[0], V(1)), V(1));
    assert_ptr_equal(green_switch_fast(sides[0], V(5)), V(7));
    assert_int_equal(green_abandon(sides[1]), 0);
    assert_int_equal(green_free(sides[0]), 0);
}

/* ---- With the rest ------------------------------------------------------------ */

/* Waits in each kind of call in turn, and hands back what it gets. */
static void *wait_in_turn(void *value)
{
    for (int i = 0; value != GREEN_FAILED; i++) {
        if (i % 5 == 0)
            value = green_switch(green_main(), value);
        else if (i % 5 == 1)
            value = green_switch_fast(green_main(), value);
        else if (i % 5 == 2)
            value = green_yield(value);
        else if (i % 5 == 3)
            value = green_yield_fast(value);
        else if (green_throw(green_main(), (int)(intptr_t)value) != GREEN_FAILED || errno != E1)
            return NULL;
        else
            value = V(E1);
    }
    return GREEN_FAILED;
}

TEST(who_waits_in_any_call_is_entered_by_any_other)
{
    green_t *g = green_new(wait_in_turn, NULL);
    for (int i = 0; i < 62; i++) {
        void *v = i % 5 == 4 ? GREEN_FAILED : V(i + 1);
        errno = 0;
        if (i % 5 == 0 && i != 0)
            assert_ptr_equal(green_throw(g, E1), V(E1));
        else if (i % 3 == 0)
            assert_ptr_equal(green_switch_fast(g, V(i + 1)), v);
        else
            assert_ptr_equal(green_switch(g, V(i + 1)), v);
        if (i % 5 == 4)
            assert_int_equal(errno, i + 1);
    }
    assert_fails(green_throw(g, E2), E2);
    assert_int_equal(green_free(g), 0);
}

TEST(what_is_refused_is_refused)
{
    green_t *g = green_new(echo, NULL);
    assert_fails(green_switch_fast(NULL, V(1)), EINVAL);
    assert_fails(green_switch_fast(g, GREEN_FAILED), EINVAL);
    assert_fails(green_yield_fast(V(1)), EINVAL);
    assert_int_equal(green_state(g), GREEN_NEW);
    assert_ptr_equal(green_switch_fast(green_main(), V(1)), V(1));
    assert_int_equal(green_free(g), 0);
}

static void *first_use(void *foreign)
{
    must(green_yield_fast(V(1)) == GREEN_FAILED && errno == EINVAL);
    must(green_switch_fast(NULL, V(1)) == GREEN_FAILED && errno == EINVAL);
    must(green_switch_fast(foreign, V(1)) == GREEN_FAILED && errno == EPERM);
    must(green_current() != NULL);
    must(green_switch_fast(foreign, V(1)) == GREEN_FAILED && errno == EPERM);
    return NULL;
}

TEST(it_may_be_the_first_use_of_a_thread)
{
    green_t *g = green_new(echo, NULL);
    assert_ptr_equal(green_switch_fast(g, V(1)), V(1));
    in_thread(first_use, g);
    assert_ptr_equal(green_switch_fast(g, V(2)), V(2));
    assert_int_equal(green_free(g), 0);
}

static void *yield_while_freed(void *value)
{
    value = green_yield_fast(value);
    note("%d", value == GREEN_FAILED && errno == ECANCELED);
    value = green_yield_fast(V(2)); /* to who frees it */
    return value;
}

static void *free_it(void *g)
{
    note("%d", green_free(g) == -1 && errno == EBUSY);
    return g;
}

TEST(a_yield_goes_to_who_stands_in_for_the_parent)
{
    green_t *p = green_new(echo, NULL), *g = green_new(yield_while_freed, NULL);
    green_t *f = green_new(free_it, NULL);
    assert_ptr_equal(green_switch_fast(p, V(1)), V(1));
    assert_ptr_equal(green_switch_fast(g, V(1)), V(1));
    assert_int_equal(green_set_parent(g, p), 0);
    assert_ptr_equal(green_switch_fast(f, g), g);
    assert_noted("1 1");
    assert_int_equal(green_free(p), 0); /* main is g's parent again */
    assert_ptr_equal(green_switch_fast(g, V(3)), V(3));
    assert_int_equal(green_free(g), 0);
    assert_int_equal(green_free(f), 0);
}

static void *yield_twice(void *value)
{
    return green_yield_fast(green_yield_fast(value));
}

TEST(a_yield_passes_a_released_parent)
{
    green_t *p = green_new(echo, NULL), *g = green_new(yield_twice, p);
    assert_ptr_equal(green_switch_fast(p, V(1)), V(1));
    assert_ptr_equal(green_switch_fast(g, V(2)), V(2)); /* p hands it on */
    assert_int_equal(green_free(p), 0);
    assert_ptr_equal(green_switch_fast(g, V(3)), V(3));
    assert_ptr_equal(green_switch_fast(g, V(4)), V(4));
    assert_int_equal(green_free(g), 0);
}

static void count(green_trace_event_t event, green_t *from, green_t *to, void *data)
{
    (void)from, (void)to;
    note("%d", event);
    ++*(int *)data;
    if (green_switch_fast(to, NULL) != GREEN_FAILED || errno != EBUSY)
        note("inside");
}

TEST(a_trace_hook_sees_it)
{
    int events = 0;
    green_t *g = green_new(wait_in_turn, NULL);
    assert_ptr_equal(green_switch_fast(g, V(1)), V(1));
    green_set_trace(count, &events);
    for (int i = 0; i < 3; i++)
        assert_ptr_equal(green_switch_fast(g, V(2)), V(2));
    green_set_trace(NULL, NULL);
    assert_int_equal(events, 6);
    assert_noted("0 0 0 0 0 0");
    assert_int_equal(green_free(g), 0);
}

/* ---- Control modes: kept by who waits in green_switch(), whoever enters it -------- */

static void *change_the_mode(void *value)
{
    while (value != NULL) {
        fesetround(FE_UPWARD);
        value = green_switch_fast(value, NULL);
    }
    return NULL;
}

TEST(who_waits_in_green_switch_keeps_its_modes)
{
    skip_if_slow();
    green_t *g = green_new(change_the_mode, NULL);
    for (int i = 0; i < 3; i++) {
        green_switch(g, green_main());
        assert_int_equal(fegetround(), FE_TONEAREST);
    }
    green_switch_fast(g, green_main());
    assert_int_equal(fegetround(), FE_UPWARD); /* as green_fast.h says */
    fesetround(FE_TONEAREST);
    assert_int_equal(green_abandon(g), 0);
}

/* ---- Call frame information --------------------------------------------------------- */

static struct {
    void *functions[16];
    int count;
    jmp_buf back;
} walk;

static _Unwind_Reason_Code note_frame(struct _Unwind_Context *context, void *unused)
{
    (void)unused;
    if (walk.count < 16)
        walk.functions[walk.count++] = (void *)_Unwind_GetRegionStart(context);
    return _URC_NO_REASON;
}

static void walk_here(void)
{
    _Unwind_Backtrace(note_frame, NULL);
    longjmp(walk.back, 1);
}

/*
 * Walks the frames of a suspended green: walk_here() is made to believe that it
 * was called where the green is to be resumed, its address there being the
 * return address.  The green is not to be entered afterwards.
 */
static NOINLINE void walk_suspended(void **sp)
{
    walk.count = 0;
    if (setjmp(walk.back) != 0)
        return;
#ifdef __x86_64__
    __asm__ volatile("movq 8(%0), %%rbp\n\t"
                     "movq 16(%0), %%rbx\n\t"
                     "movq %0, %%rsp\n\t"
                     "jmp *%1"
                     :
                     : "c"(sp), "d"(walk_here)
                     : "memory");
#else
    __asm__ volatile("ldp x30, x29, [%0]\n\t"
                     "add sp, %0, #16\n\t" /* it must be aligned, and walkers of x29 do not mind */
                     "mov x16, %1\n\t" /* the way to where functions begin, under BTI */
                     "br x16"
                     :
                     : "r"(sp), "r"(walk_here)
                     : "memory");
#endif
    __builtin_unreachable();
}

static NOINLINE void *wait_inside(void *value)
{
    value = green_switch_fast(green_main(), value);
    note("never");
    return value;
}

static NOINLINE void *wait_inside_array(void *value)
{
    volatile char array[(size_t)value];
    array[0] = 1;
    value = wait_inside(value);
    return array[0] == 1 ? value : NULL;
}

static void *wait_below(void *value)
{
    value = wait_inside_array(value);
    note("never");
    return value;
}

TEST(a_suspended_stack_can_be_walked)
{
    skip_if_slow();
    green_t *g = green_new(wait_below, NULL);
    assert_ptr_equal(green_switch_fast(g, V(100)), V(100));
    walk_suspended(((struct green_private *)g)->sp);
    assert_true(walk.count >= 4);
    assert_ptr_equal(walk.functions[0], walk_here);
    assert_ptr_equal(walk.functions[1], wait_inside);
    assert_ptr_equal(walk.functions[2], wait_inside_array);
    assert_ptr_equal(walk.functions[3], wait_below);
    assert_int_equal(green_abandon(g), 0);
    assert_noted("");
}

int main(void)
{
#if defined(__AVX512F__)
    bool can = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl");
#elif defined(__ARM_FEATURE_SVE)
    bool can = (getauxval(AT_HWCAP) & HWCAP_SVE) != 0;
#else
    bool can = true;
#endif
    if (!can) {
        puts("skipped: this CPU lacks what this is compiled for");
        return 77;
    }
    return run_all_tests();
}
