#!/bin/sh
# SPDX-License-Identifier: MIT
#
# C++ programs with libc++, the library of LLVM, instead of libstdc++.
#
#     libcxx.sh LIBRARY [LAUNCHER...]
#
# CLANGXX (with flags) comes from the environment; without libc++ it is skipped.
set -u
LC_ALL=C
export LC_ALL
: "${CLANGXX:=clang++}"

library=$1
shift
tests=$(dirname "$0")/..
dir=$(mktemp -d) || exit
trap 'rm -rf "$dir"' EXIT
status=0

build()
{
    $CLANGXX -stdlib=libc++ "$@" > "$dir/out" 2>&1
}

printf '#include <vector>\nint main() { return (int)std::vector<int>(1)[0]; }\n' > "$dir/try.cpp"
if ! build "$dir/try.cpp" -o "$dir/try" || ! "$dir/try"; then
    echo "skipped: $CLANGXX finds no libc++ (libc++-dev and libc++abi-dev of Debian)"
    exit 77
fi

for standard in 11 20; do
    for program in test_hpp test_exceptions test_unwinding_cplusplus test_fast_cplusplus; do
        if build -std=c++$standard -O1 -Wall -Wextra -Wno-deprecated-declarations -Werror \
            -I"$tests/../include" -I"$tests/support" "$tests/$program.cpp" "$library" \
            -Wl,-rpath,"$(dirname "$library")" -pthread -o "$dir/program" &&
            "$@" "$dir/program" > "$dir/out" 2>&1; then
            echo "ok: $program, C++$standard with libc++"
        else
            echo "FAILED: $program, C++$standard with libc++"
            cat "$dir/out"
            status=1
        fi
    done
done
exit $status
