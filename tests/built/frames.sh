#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The frames that gdb shows of nested greens, without any script.
#
#     frames.sh PROGRAM
#
# PROGRAM is nested_greens.  77: skipped, for the reason it gives.
. "$(dirname "$0")/../support/script.sh"
program=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
cd "$dir" || exit
export ASAN_OPTIONS="${ASAN_OPTIONS:-}:detect_leaks=0"

command -v gdb > /dev/null || { echo "skipped: there is no gdb"; exit 77; }

# What bt lists, but for the functions of libgreen, libc and the sanitizers.
frames()
{
    gdb -nx -batch -iex 'set debuginfod enabled off' -iex 'set auto-load off' "$@" \
        < /dev/null 2>&1 |
        sed -n -e 's/^#[0-9]* .*<signal handler called>.*/entry/p' \
            -e 's/^#[0-9]* *\(0x[0-9a-f]* in \)\{0,1\}\(inner\|middle\|outer\|main\) (.*/\2/p' |
        tr '\n' ' '
}

# same WHAT FOUND
same()
{
    expected="inner entry middle entry outer entry main "
    if [ "$2" = "$expected" ]; then
        echo "ok: $1"
    else
        printf 'FAILED: %s\nexpected: %s\nfound:    %s\n' "$1" "$expected" "$2"
        status=1
    fi
}

same "of a live process" "$(frames -ex run -ex bt "$program")"

ulimit -c unlimited
"$program" > /dev/null 2>&1
core=$(ls core* 2> /dev/null | head -n 1)
if [ -n "$core" ]; then
    same "of a core file" "$(frames -ex bt "$program" "$core")"
elif [ $status = 0 ]; then
    echo "skipped: the system writes no core file here"
    exit 77
fi
exit $status
