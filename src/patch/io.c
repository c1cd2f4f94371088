/* SPDX-License-Identifier: MIT */
#include "patch/patch.h"

HOOKS(io) = {HOOKS_END};
