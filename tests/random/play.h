/* SPDX-License-Identifier: MIT */
#ifndef PLAY_H
#define PLAY_H
/*
 * Plays a program of operations on libgreen and on a model of it, side by side:
 * play.c on green.h and model.h, hub_play.c on green_hub.h and hub_model.h.
 * Whichever green runs takes the next operation, tells the model,
 * makes the call, and whoever has control then compares: who that is, in which
 * call or function, with what value or errno, what the hook has seen, and the
 * state, parent, data and values of all greens.
 */
#include <stddef.h>
#include <stdint.h>

/* Any bytes are an operation. */
struct op {
    uint8_t kind, a, b, c;
};

/*
 * Plays a program and leaves nothing behind.  Returns how many operations were
 * made, which includes those that clean up.  Calls play_failed() at the first
 * difference.
 */
unsigned long play(const struct op *program, size_t length);

/*
 * How often each kind of operation comes, and themes: sets of kinds, as bits,
 * that some programs are of alone.  No program without a theme is without the
 * kinds of `always`; the costly ones are left out of half of them.
 */
extern const struct play_kinds {
    int count;
    const unsigned *weights;
    uint64_t always, costly;
    const uint64_t *themes;
    int theme_count;
} play_kinds;

/* The user's: says what differs, and does not return. */
_Noreturn void play_failed(const char *what);

/*
 * If not NULL: where play() writes what it does as C, so that it can be printed
 * when all else has crashed.
 */
extern struct play_log {
    unsigned lines;
    struct {
        int function;    /* whose line it is */
        char text[160];  /* a call ... */
        char result[96]; /* ... and what it gave, or empty: that is not known yet */
    } line[4096];
    unsigned functions;
    char function[1024][96]; /* their heads */
} *play_log;

/* Prints that as a program. */
void play_print(const struct play_log *log, const char *title);

#endif
