#!/bin/sh
# SPDX-License-Identifier: MIT
#
# What gives a thread a second stack, which no switch would know of, stops the
# build with a sentence: with CMake, and with clang alone.
#
#     tests/tools/unsupported.sh SOURCE-DIRECTORY
. "$(dirname "$0")/../support/script.sh"
set -e
source=$1

stops()
{
    what=$1
    shift
    if "$@" > "$dir/out" 2>&1; then
        failed "$what does not stop the build"
    elif tr '\n' ' ' < "$dir/out" | tr -s ' ' |
        grep -q "libgreen: .* is not supported: its second stack"; then
        echo "ok: $what: $(grep -o 'libgreen: .*' "$dir/out" | head -n 1)"
    else
        failed "$what says nothing of it:"
        cat "$dir/out"
    fi
}

for option in -fsplit-stack -fsanitize=shadow-call-stack -fsanitize=safe-stack; do
    stops "cmake with $option" cmake -S "$source" -B "$dir/build" -DCMAKE_C_COMPILER_WORKS=1 \
        "-DCMAKE_C_FLAGS=-O2 $option"
done
if command -v clang > /dev/null; then
    file=$(grep -rl '^void \*green_switch(' "$source/src" --include=*.c)
    compile="clang -fsyntax-only -I$source/include -I$source/src $file"
    stops "clang -fsanitize=safe-stack" $compile -fsanitize=safe-stack
    if [ -d /usr/aarch64-linux-gnu/include ]; then
        stops "clang -fsanitize=shadow-call-stack" $compile --target=aarch64-linux-gnu \
            -isystem /usr/aarch64-linux-gnu/include -ffixed-x18 -fsanitize=shadow-call-stack
    fi
else
    echo "skipped: clang alone (there is none)"
fi
exit $status
