#!/bin/sh
# SPDX-License-Identifier: MIT
#
# usage: servers.sh "postgres redis" own_tests.sh BUILD HIREDIS POSTGRESQL
#
# The test programs that hiredis and libpq have of their own, run inside a task under the
# patch, beside a task that gives turns all the time: they say the same as without.  HIREDIS
# and POSTGRESQL are their sources, BUILD is a build of this one.  On Debian:
#
#     apt-get install postgresql-server-dev-15 && apt-get source hiredis postgresql-15
. "$(dirname "$0")/../support/script.sh"
build=$(cd "$1" && pwd)
hiredis=$2
pipeline=$3/src/test/modules/libpq_pipeline
source=$(cd "$(dirname "$0")/../.." && pwd)
server=$(pg_config --includedir-server)
archives=$(dirname "$GREEN_POSTGRES_BIN")/lib
cc=${CC:-cc}

# in_task NAME SOURCE OPTION...
in_task()
{
    name=$1
    their=$2
    shift 2
    $cc -O2 -w -Dmain=their_main -c "$their" -o "$dir/$name.o" "$@" || exit
    $cc -O2 -I"$source/include" "$source/tests/patch/in_task.c" "$dir/$name.o" -o "$dir/$name" \
        -Wl,-u,green_patch "-Wl,--dynamic-list=$build/green_patch.list" \
        "$build/libgreen_patch.a" "$build/libgreen.a" $libraries -pthread -ldl || exit
}

# same NAME ARGUMENT...: but for times, numbers of descriptors, and how much a client could send
# before the server said no.
same()
{
    program=$1
    shift
    plain=0 patched=0
    GREEN_PLAIN=1 "$dir/$program" "$@" >"$dir/plain" 2>&1 </dev/null || plain=$?
    "$dir/$program" "$@" >"$dir/patched" 2>&1 </dev/null || patched=$?
    for file in plain patched; do
        sed 's/[0-9.]*[0-9]s)/S)/g; s/inherited fd [0-9]*/inherited fd/
            s/(id)=([0-9]*)/(id)/; s/\.\.*/./g; /^result [0-9]/d; /^\.*$/d; s/ *\.* *$//' "$dir/$file" >"$dir/$file.said"
    done
    lines=$(wc -l <"$dir/patched")
    if [ $plain = $patched ] && cmp -s "$dir/plain.said" "$dir/patched.said"; then
        echo "ok: $program $*: status $patched, $lines lines"
    else
        failed "$program $* (status $plain and $patched)"
        diff "$dir/plain.said" "$dir/patched.said" | cut -c 1-200 | head -n 20
    fi
}

libraries=-lhiredis
in_task hiredis "$hiredis/test.c" -I"$hiredis"
same hiredis -h 127.0.0.1 -p "$GREEN_REDIS_PORT" -s "$GREEN_REDIS_SOCKET"
grep -q '^ALL TESTS PASSED' "$dir/patched" || failed "hiredis says that not all has passed"

libraries="-lpq $archives/libpgcommon.a $archives/libpgport.a -lm"
in_task pipeline "$pipeline/libpq_pipeline.c" -I"$server" -I"$(pg_config --includedir)"
export PGOPTIONS='-c client_min_messages=warning' # else the first run says what it drops
tests=$(GREEN_PLAIN=1 "$dir/pipeline" tests)
[ "$(echo "$tests" | wc -l)" -ge 8 ] || failed "libpq_pipeline has only these tests: $tests"
for test in $tests; do
    same pipeline "$test" \
        "host=127.0.0.1 port=$GREEN_POSTGRES_PORT user=green dbname=postgres" 1000
    [ "$patched" = 0 ] || failed "$test has failed"
done
exit $status
