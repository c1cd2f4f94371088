/* SPDX-License-Identifier: MIT */
#ifndef REGISTERS_H
#define REGISTERS_H
/*
 * Calls with a pattern in every callee-saved register, which must come back.
 * For programs that are linked with test_registers.S.
 */
#include "testing.h"

enum { MOST = 32 };
extern void *registers_call(void (*fn)(void), void *a, void *b, const uint64_t *in, uint64_t *out);
extern green_fn registers_entry;
extern const uint32_t registers_count, registers_control;
extern const uint64_t registers_mask[], registers_base[];

static unsigned long calls, changed; /* registers_call()s, words that came back changed */

static inline uint64_t next_random(void)
{
    static uint64_t seed = 88172645463325252u;
    seed ^= seed << 13;
    seed ^= seed >> 7;
    return seed ^= seed << 17;
}

static inline void *do_nothing(void *a, void *b)
{
    (void)b;
    return a;
}

/* The bits that stay as they are set: of the control words not all do on each CPU. */
static uint64_t settable[MOST];

static inline int find_settable_bits(void **state)
{
    uint64_t in[MOST] = {0}, out[MOST] = {0};
    (void)state;
    assert_true(registers_count <= MOST);
    memset(settable, 0xff, sizeof settable);
    for (int i = 0; i < 1000; i++) {
        for (uint32_t w = 0; w < registers_count; w++)
            in[w] = (next_random() & registers_mask[w]) | registers_base[w];
        registers_call((void (*)(void))do_nothing, NULL, NULL, in, out);
        for (uint32_t w = 0; w < registers_count; w++)
            settable[w] &= ~((in[w] ^ out[w]) & registers_mask[w]);
    }
    for (uint32_t w = 0; w < registers_control; w++)
        assert_int_equal(settable[w] & registers_mask[w], registers_mask[w]);
    for (uint32_t w = registers_control; w < registers_count; w++)
        assert_int_not_equal(settable[w] & registers_mask[w], 0); /* rounding at least */
    return 0;
}

/* fn(a, b) with random registers, which must come back. */
static inline void *call(void (*fn)(void), void *a, void *b)
{
    uint64_t in[MOST] = {0}, out[MOST] = {0};
    void *volatile result; /* kept where no register counts */
    for (uint32_t w = 0; w < registers_count; w++)
        in[w] = (next_random() & registers_mask[w] & settable[w]) | registers_base[w];
    result = registers_call(fn, a, b, in, out);
    calls++;
    for (uint32_t w = 0; w < registers_count; w++)
        if (((in[w] ^ out[w]) & registers_mask[w] & settable[w]) != 0 &&
            (KEEPS_MODES || w < registers_control))
            changed++;
    return result;
}

#define call_switch(g, value) call((void (*)(void))green_switch, g, value)
#define call_throw(g, error) call((void (*)(void))green_throw, g, V(error))
#define call_yield(value) call((void (*)(void))green_yield, value, NULL)

/* A trace hook. */
static inline void ignore(green_trace_event_t event, green_t *from, green_t *to, void *data)
{
    (void)event, (void)from, (void)to, (void)data;
}

#endif
