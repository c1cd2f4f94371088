#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Coverage of the library by its tests: outside the hub and the patch every line of C is
# executed and each of its branches taken, but for what coverage_exceptions.txt lists with its
# reason.  Left out is test_patch_own, which counts what comes to the patch: gcov's lock does.
# (That each instruction of the switch is executed, mutants/assembly.py shows: it
# drops them one by one.)
#
#     tests/tools/coverage.sh [BUILD-DIRECTORY]
set -eu
cd "$(dirname "$0")/../.."
build=$PWD/${1:-build/coverage}
rm -rf "$build" # counts add up
mkdir -p "$build"
umask 0 # a test that has become nobody counts too

gcc -O1 -c tests/tools/coverage.c -o "$build/coverage.o"
cmake -B "$build" -DCMAKE_BUILD_TYPE=Debug -DGREEN_BUILD_EXAMPLES=OFF -DGREEN_TEST_FAST=OFF \
    -DCMAKE_C_FLAGS="--coverage -fprofile-update=atomic" \
    -DCMAKE_EXE_LINKER_FLAGS="--coverage $build/coverage.o" > "$build/log" 2>&1 &&
    cmake --build "$build" -j 2 >> "$build/log" 2>&1 || { tail -n 40 "$build/log"; exit 1; }
find "$build" -name '*.gcda' -exec rm {} + # of what CMake has tried
ctest --test-dir "$build" -j 2 --no-tests=error --output-on-failure -R '^test_' \
    -E '^test_patch_own$' \
    > "$build/log" 2>&1 ||
    { tail -n 100 "$build/log"; exit 1; }
grep 'tests passed' "$build/log"
# What is found in other programs and plugins, by libraries that are built there.
find src -name '*.c' -not -path 'src/arch/*' -not -path 'src/patch/*' | sort |
    CFLAGS="-O0 -fprofile-update=atomic" \
    CC='gcc --coverage' CXX='g++ --coverage' xargs sh tests/built/runtimes.sh "$build/runtimes" \
    src/arch/switch.S > "$build/log" 2>&1 || { cat "$build/log"; exit 1; }
gcovr --root . --filter src/ --json "$build/coverage.json" "$build" 2> "$build/gcovr.log" ||
    { cat "$build/gcovr.log"; exit 1; }
python3 tests/tools/coverage.py "$build/coverage.json"
