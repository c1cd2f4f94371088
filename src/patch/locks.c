/* SPDX-License-Identifier: MIT */
#include "patch/patch.h"

HOOKS(locks) = {HOOKS_END};
