/* SPDX-License-Identifier: MIT */
#ifndef PLAY_LOG_H
#define PLAY_LOG_H
/* For the players: what writes the log of play.h, and prints it. */
#include "play.h"

#define PLAY_NO_LINE (-1)

/* The head of a function. */
__attribute__((format(printf, 1, 2))) void play_log_head(const char *format, ...);

/* A line of a function, and its number; PLAY_NO_LINE: there is no log, or no room. */
__attribute__((format(printf, 2, 3))) int play_log_line(int function, const char *format, ...);

/* What the call of a line gave: a number, "!" and an errno, or "?": control did not come back. */
__attribute__((format(printf, 2, 3))) void play_log_result(int line, const char *format, ...);

const char *play_error_name(int error);

/* What each printed program begins with, and the lines of a function. */
extern const char play_prelude[];
void play_print_body(const struct play_log *log, int function);

#endif
