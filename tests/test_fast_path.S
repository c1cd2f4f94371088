/* SPDX-License-Identifier: MIT */
/* The same patterns. */
#include "test_registers.S"
