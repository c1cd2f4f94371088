#!/bin/sh
# SPDX-License-Identifier: MIT
#
#     readme.sh LIBRARY [LAUNCHER...]
#
# Every C block of a page (README.md, and that of each folder) is a program, and
# prints the text block that follows it.  What the pages link to is there, and
# the README says early how to link.  CC (with flags) comes from the environment.
. "$(dirname "$0")/../support/script.sh"
: "${CC:=cc}"
library=$1
shift
launcher=$*

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

# lost PAGE: the files it links to that are not there.
lost()
{
    grep -o ']([^)]*)' "$1" | sed 's/^](//; s/)$//; s/#.*//' | grep -v '^https:' | sort -u |
        while read -r file; do
            [ -z "$file" ] || [ -e "$(dirname "$1")/$file" ] || echo "$file"
        done
}

# early PAGE: the line that links a program is on its first two screens.
early()
{
    sed 100q "$1" | grep -q '^cc .* -lgreen'
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
[one](bad.md#there), [two](not_there.md), [three](https://not.there)
END
blocks "$dir/bad.md" "$dir/bad"
for program in "$dir"/bad/*.c; do
    if prints "$program" >"$dir/log" 2>&1; then
        echo "FAILED: bad program $(basename "$program") is not found"
        exit 1
    fi
done

[ "$(lost "$dir/bad.md")" = not_there.md ] || { echo "FAILED: a lost link is not found"; exit 1; }
if early "$dir/bad.md"; then
    echo "FAILED: no linking line is not found"
    exit 1
fi

count=0
page=0
for file in "$root"/README.md "$root"/*/README.md; do
    name=${file#"$root"/}
    page=$((page + 1))
    blocks "$file" "$dir/page$page"
    for program in "$dir/page$page"/*.c; do
        [ -e "$program" ] || continue # none on this page
        count=$((count + 1))
        if prints "$program" >"$dir/log" 2>&1; then
            echo "ok: program $(basename "$program" .c) of $name prints what it says"
        else
            failed "program $(basename "$program" .c) of $name"
            cat "$dir/log"
        fi
    done
    lost "$file" >"$dir/lost"
    [ ! -s "$dir/lost" ] || failed "$name links to: $(cat "$dir/lost")"
done
[ $count -ge 7 ] || failed "only $count programs found"
[ $page -ge 5 ] || failed "only $page pages found"
early "$root/README.md" || failed "README.md says late how to link"
exit $status
