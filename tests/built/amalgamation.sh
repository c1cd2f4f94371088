#!/bin/sh
# SPDX-License-Identifier: MIT
#
# What cmake/amalgamate.awk makes is enough: three files and a program compile
# without a warning, run, and look from outside as the library does.
#
#     amalgamation.sh SOURCE... HEADER... -- [LAUNCHER...]
#
# CC (with flags), READELF and AWK come from the environment.
. "$(dirname "$0")/../support/script.sh"
: "${CC:=cc}" "${READELF:=readelf}" "${AWK:=awk}"

# check WHAT COMMAND...: it succeeds and prints nothing.
check()
{
    what=$1
    shift
    if "$@" > "$dir/out" 2>&1 && [ ! -s "$dir/out" ]; then
        echo "ok: $what"
    else
        failed "$what"
        head -n 20 "$dir/out"
    fi
}

from=
while [ "$1" != -- ]; do
    from="$from $1"
    shift
done
shift

mkdir "$dir/all" "$dir/three"
check "it is made" "$AWK" -f "$root/cmake/amalgamate.awk" \
    -v root="$root" -v dir="$dir/all" -v version=0 $from
cp "$dir/all/green.h" "$dir/all/green.c" "$dir/all/green.S" "$dir/three"
cp "$root/examples/hello.c" "$dir/three"
cd "$dir/three" || exit

wanted="-Wall -Wextra -Wpedantic"
for flags in "" "-std=c11 -O2 -fPIC"; do
    check "three files compile without a warning: ${flags:-no flags} \
(if a name is in two files of src/, rename one)" \
        $CC $wanted $flags -I. hello.c green.c green.S -pthread -o hello
    check "and print what hello.c does" sh -c '"$@" > ../printed' sh "$@" ./hello
    awk '$0 == "```text" { p = 1; next } p && $0 == "```" { exit } p' "$root/README.md" > ../wanted
    check "which is" diff ../wanted ../printed
done

# As distributions build it.
check "it compiles with _FORTIFY_SOURCE" $CC $wanted -O2 -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -I. \
    "$root/tests/built/exit_elsewhere.c" green.c green.S -pthread -o exit_elsewhere
check "and green_exit() ends a deferred function that stands on another stack" "$@" ./exit_elsewhere

# Global but hidden must be what is private, and what is hidden must be in it.
symbols()
{
    "$READELF" -sW green.o | awk '
        $1 !~ /^[0-9]+:$/ || $5 == "LOCAL" || $8 == ""          { next }
        $7 == "UND" && $6 != "DEFAULT" && $8 !~ /^green__arch_|^__(start|stop)_green_moves$/ {
            print $8 " is not in it and yet " $6
        }
        $7 != "UND" && $8 ~ /^green__/ && $6 != "HIDDEN"       { print $8 " is " $6 }
        $8 ~ /^green_private_(debug|hub)_/ && $6 == "DEFAULT"        { next }
        $7 != "UND" && $8 ~ /^green_[^_]/ && $6 != "PROTECTED" { print $8 " is " $6 }
        $7 != "UND" && $8 !~ /^green_/                         { print $8 " is not ours" }
        $8 ~ /^green__arch_/                                   { any = 1 }
        END                                                    { if (!any) print "no symbol" }'
}
check "it compiles alone" $CC -fno-lto -c green.c
check "its symbols are green_* and seen, or green__* and hidden" symbols
exit $status
