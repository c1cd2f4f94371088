/* SPDX-License-Identifier: MIT */
#ifndef PLAY_H
#define PLAY_H
/*
 * Plays a program of operations on libgreen and on the model of model.h, side
 * by side.  Whichever green runs takes the next operation, tells the model,
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

enum op_kind {
    OP_NEW, OP_SWITCH, OP_THROW, OP_YIELD, OP_RETURN, OP_EXIT, OP_FREE, OP_ABANDON,
    OP_SET_PARENT, OP_DEFER, OP_UNDEFER, OP_KEY_CREATE, OP_KEY_DELETE, OP_SET_KEY, OP_TRACE,
    OP_THREAD_END, OP_SPAWN, OP_HAND_OVER, OP_THREAD_EXIT, OP_SET_DATA, OP_TRIM,
    OP_KINDS
};

/*
 * Plays a program and leaves nothing behind.  Returns how many operations were
 * made, which includes those that clean up.  Calls play_failed() at the first
 * difference.
 */
unsigned long play(const struct op *program, size_t length);

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

/* Prints that as a program on green.h. */
void play_print(const struct play_log *log, const char *title);

#endif
