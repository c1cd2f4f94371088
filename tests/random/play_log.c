/* SPDX-License-Identifier: MIT */
/* What the players of play.h and hub_play.c write down, to be printed as C. */
#include "play_log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct play_log *play_log;

void play_log_head(const char *format, ...)
{
    if (play_log == NULL || play_log->functions == 1024)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(play_log->function[play_log->functions++], 96, format, args);
    va_end(args);
}

int play_log_line(int function, const char *format, ...)
{
    if (play_log == NULL || play_log->lines == 4096)
        return PLAY_NO_LINE;
    va_list args;
    va_start(args, format);
    int line = (int)play_log->lines++;
    play_log->line[line].function = function;
    vsnprintf(play_log->line[line].text, 160, format, args);
    va_end(args);
    return line;
}

void play_log_result(int line, const char *format, ...)
{
    if (play_log == NULL || line < 0)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(play_log->line[line].result, 96, format, args);
    va_end(args);
}

const char *play_error_name(int error)
{
    static char number[16];
    switch (error) {
    case EINVAL: return "EINVAL";
    case EPERM: return "EPERM";
    case EBUSY: return "EBUSY";
    case ELOOP: return "ELOOP";
    case ENOENT: return "ENOENT";
    case ECANCELED: return "ECANCELED";
    case ETIMEDOUT: return "ETIMEDOUT";
    case EDEADLK: return "EDEADLK";
    case EOVERFLOW: return "EOVERFLOW";
    case EPIPE: return "EPIPE";
    case EDOM: return "EDOM";
    case ERANGE: return "ERANGE";
    }
    snprintf(number, sizeof number, "%d", error);
    return number;
}

/* ---- Printed ----------------------------------------------------------------------- */

const char play_prelude[] =
    "#include <errno.h>\n"
    "#include <pthread.h>\n"
    "#include <semaphore.h>\n"
    "#include <stdint.h>\n"
    "#include <stdio.h>\n"
    "#include <stdlib.h>\n"
    "\n"
    "#define V(n) ((void *)(intptr_t)(n))\n"
    "#define gives(expr, result) ((expr) == (result) ? (void)0 : wrong(__LINE__))\n"
    "#define fails(expr, result, error) \\\n"
    "    ((expr) == (result) && errno == (error) ? (void)0 : wrong(__LINE__))\n"
    "\n"
    "static inline void wrong(int line)\n"
    "{\n"
    "    fprintf(stderr, \"line %d: not so\\n\", line);\n"
    "    exit(1);\n"
    "}\n";

static void print_line(const char *text, const char *result)
{
    const char *failed = strncmp(text, "green_switch", 12) == 0 ||
                                 strncmp(text, "green_throw", 11) == 0 ||
                                 strncmp(text, "green_yield", 11) == 0
                             ? "GREEN_FAILED"
                         : strstr(text, "] = green_") != NULL ? "NULL" : "-1";
    if (result[0] == '?')
        printf("    %s;\n    wrong(__LINE__); /* control should be elsewhere */\n", text);
    else if (result[0] == '\0' || (result[0] != '!' && strstr(text, "] = green_") != NULL))
        printf("    %s;\n", text);
    else if (result[0] == '!')
        printf("    fails((%s), %s, %s);\n", text, failed, result + 1);
    else
        printf("    gives((%s), %s);\n", text, result);
}

void play_print_body(const struct play_log *log, int function)
{
    const char *last = "";
    for (unsigned i = 0; i < log->lines; i++) {
        if (log->line[i].function == function) {
            last = log->line[i].text;
            print_line(last, log->line[i].result);
        }
    }
    if (strncmp(last, "return", 6) != 0 && strstr(last, "exit(") == NULL)
        printf("    exit(0); /* the program is no longer */\n");
}
