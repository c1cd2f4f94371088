/* SPDX-License-Identifier: MIT */
#include "patch/patch.h"

HOOKS(processes) = {HOOKS_END};
