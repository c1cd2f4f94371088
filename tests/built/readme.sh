#!/bin/sh
# SPDX-License-Identifier: MIT
#
#     readme.sh LIBRARY [LAUNCHER...]
#     readme.sh served LIBRARY [LAUNCHER...]    only what asks PostgreSQL, by tests/patch/servers.sh
#
# Every C block of a page (README.md, and that of each folder) is a program, and
# prints the text block that follows it, or is a server at port 7777, and the console
# block that follows it shows a client.  What the pages link to is there, and
# the README says early how to link.  CC (with flags) comes from the environment, and PATCH:
# what a program that includes green_patch.h is linked with.
. "$(dirname "$0")/../support/script.sh"
: "${CC:=cc}"
served=
[ "$1" != served ] || { served=yes; shift; }
library=$1
shift
launcher=$*
port=$((20000 + $$ % 10000))

# blocks FILE DIRECTORY: its programs become N.c there and what they print N.out, N from 1.
blocks()
{
    mkdir "$2"
    awk -v dir="$2" '
        $0 == "```"     { file = ""; next }
        $0 == "```c"    { file = dir "/" ++n ".c"; next }
        $0 == "```text" { file = dir "/" n ".out"; next }
        $0 == "```console" { file = dir "/" n ".console"; next }
        file != ""      { print > file }' "$1"
}

# serves PROGRAM: while it runs, the command after the $ prints the lines below it.  Both
# are given a port of our own instead of 7777.
serves()
{
    command -v socat >"$dir/found" || { echo 'skipped: no socat'; return; }
    timeout --foreground 60 $launcher "$1" 2>"$1.errors" &
    server=$!
    answer=1
    sed -n "s/^[$] //p" "$1.console" | sed "s/:7777/:$port/" >"$1.client"
    sed 1d "$1.console" >"$1.expected"
    while [ $answer != 0 ] && kill -0 $server 2>"$dir/gone"; do
        sleep 0.1
        timeout 60 sh "$1.client" >"$1.real" 2>>"$1.errors"
        cmp -s "$1.expected" "$1.real" && answer=0
    done
    kill $server 2>"$dir/gone"
    wait $server
    [ $answer = 0 ] || { tail -n 3 "$1.errors"; diff "$1.expected" "$1.real"; }
}

# by_patch PROGRAM.c: sets $with to what it is linked with for the patch; false, and says so, if
# it cannot be.  What asks PostgreSQL does so where servers.sh has started one.
by_patch()
{
    with=
    grep -q '^#include <green_patch.h>' "$1" || return 0
    [ -n "${PATCH:-}" ] || { echo 'skipped: there is no libgreen_patch'; return 1; }
    with=$PATCH
    grep -q '^#include <libpq-fe.h>' "$1" || return 0
    with="$with $(pkg-config --cflags --libs libpq 2>"$dir/found")" ||
        { echo 'skipped: no libpq'; return 1; }
    [ -n "${GREEN_POSTGRES_PORT:-}" ] || { echo 'skipped: it asks PostgreSQL'; return 1; }
    PGHOST=127.0.0.1 PGPORT=$GREEN_POSTGRES_PORT PGUSER=green PGDATABASE=postgres
    export PGHOST PGPORT PGUSER PGDATABASE
}

# prints PROGRAM.c: it compiles, and prints what it should.
prints()
{
    program=${1%.c}
    [ -s "$program.out" ] || [ -s "$program.console" ] ||
        { echo "no text block says what it prints"; return 1; }
    if [ -s "$program.console" ]; then
        grep -q '"7777"' "$1" || { echo 'a server, but not at port 7777'; return 1; }
        sed "s/\"7777\"/\"$port\"/" "$1" >"$program.own.c"
        set -- "$program.own.c"
    fi
    by_patch "$1" || return 0
    $CC -std=c11 -Wall -Wextra -Wpedantic -Wshadow -Werror -I"$root/include" "$1" \
        $with "$library" -pthread -Wl,-rpath,"$(dirname "$library")" -o "$program" || return
    if [ -s "$program.console" ]; then
        serves "$program"
        return
    fi
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
```c
int main(void) { return "7777"[0] == 0; }
```
```console
$ echo hello
hullo
```
[one](bad.md#there), [two](not_there.md), [three](https://not.there)
END
blocks "$dir/bad.md" "$dir/bad"
for program in "$dir"/bad/*.c; do
    if prints "$program" >"$dir/log" 2>&1 && ! grep -q skipped "$dir/log"; then
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
        [ -z "$served" ] || grep -q '^#include <libpq-fe.h>' "$program" || continue
        count=$((count + 1))
        if prints "$program" >"$dir/log" 2>&1; then
            grep skipped "$dir/log" ||
                echo "ok: program $(basename "$program" .c) of $name prints what it says"
        else
            failed "program $(basename "$program" .c) of $name"
            cat "$dir/log"
        fi
    done
    lost "$file" >"$dir/lost"
    [ ! -s "$dir/lost" ] || failed "$name links to: $(cat "$dir/lost")"
done
if [ -n "$served" ]; then
    [ $count -ge 1 ] || failed "only $count programs found"
    exit $status
fi
[ $count -ge 7 ] || failed "only $count programs found"
[ $page -ge 5 ] || failed "only $page pages found"
early "$root/README.md" || failed "README.md says late how to link"
exit $status
