#!/bin/sh
# SPDX-License-Identifier: MIT
#
#     check_readme.sh LIBRARY [LAUNCHER...]
#
# Every C block of the README is a program, and prints the text block that
# follows it.  CC (with flags) comes from the environment.
set -u
: "${CC:=cc}"
library=$1
shift
launcher=$*
root=$(cd "$(dirname "$0")/.." && pwd) || exit
dir=$(mktemp -d) || exit
trap 'rm -rf "$dir"' EXIT

# blocks FILE DIRECTORY: its programs become N.c there and what they print N.out, N from 1.
blocks()
{
    mkdir "$2"
    awk -v dir="$2" '
        $0 == "```"     { file = ""; next }
        $0 == "```c"    { file = dir "/" ++n ".c"; next }
        $0 == "```text" { file = dir "/" n ".out"; next }
        file != ""      { print > file }' "$1"
}

# prints PROGRAM.c: it compiles, and prints what it should.
prints()
{
    program=${1%.c}
    [ -s "$program.out" ] || { echo "no text block says what it prints"; return 1; }
    $CC -std=c11 -Wall -Wextra -Wpedantic -Wshadow -Werror -I"$root/include" "$1" \
        "$library" -pthread -Wl,-rpath,"$(dirname "$library")" -o "$program" || return
    $launcher "$program" >"$program.real" || { echo "status $?"; return 1; }
    diff "$program.out" "$program.real"
}

# That it can fail is shown first.
cat >"$dir/bad.md" <<'END'
```c
#include <green.h>
int main(void) { return green_main() == 0; }
```
```c
#include <green.h>
#include <stdio.h>
int main(void) { return green_main() == 0 || puts("one") < 0; }
```
```text
two
```
```c
int main(void) { return green_mian() == 0; }
```
```text
```
END
blocks "$dir/bad.md" "$dir/bad"
for program in "$dir"/bad/*.c; do
    if prints "$program" >"$dir/log" 2>&1; then
        echo "FAILED: bad program $(basename "$program") is not found"
        exit 1
    fi
done

status=0
count=0
blocks "$root/README.md" "$dir/good"
for program in "$dir"/good/*.c; do
    count=$((count + 1))
    if prints "$program" >"$dir/log" 2>&1; then
        echo "ok: program $count prints what it says"
    else
        echo "FAILED: program $count of README.md"
        cat "$dir/log"
        status=1
    fi
done
[ $count -ge 7 ] || { echo "FAILED: only $count programs found"; status=1; }
exit $status
