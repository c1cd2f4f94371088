/* SPDX-License-Identifier: MIT */
#ifndef PLUGIN_H
#define PLUGIN_H

/* Whether a green is made, runs, waits, ends and is released. */
__attribute__((visibility("default"))) int plugin_works(void);

/* Whether that was so in the library's first constructor. */
extern __attribute__((visibility("default"))) int plugin_worked_early;

#endif
