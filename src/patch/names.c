/* SPDX-License-Identifier: MIT */
#include "patch/patch.h"

HOOKS(names) = {HOOKS_END};
