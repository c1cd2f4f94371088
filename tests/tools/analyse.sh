#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Static analysis of the library: clang-tidy (.clang-tidy), cppcheck and gcc
# -fanalyzer, all without a warning.
#
#     tests/tools/analyse.sh [BUILD-DIRECTORY [core]]
#
# core: of the library without the hub and the patch.
#
# First each must find a defect that is planted for it.  What is known to be
# wrong of a warning stands in the table below, with the reason; a row that is
# of no use any more is an error too.
set -eu
cd "$(dirname "$0")/../.."
build=${1:-build/analyse}
sources=$(find src -name '*.c')
[ "${2:-all}" = all ] || sources=$(echo "$sources" | grep -v '^src/\(hub\|patch\)/')
failed=0

# gcc 12 -fanalyzer: function, warning, why it is wrong.
known=$(mktemp)
found=$(mktemp)
trap 'rm -f "$known" "$found"' EXIT
cat > "$known" <<- 'END'
	green_defer malloc-leak: it is in the current green's list, by a pointer gcc does not know
	green__fd_need malloc-leak: it is in the hub's table, as above
	green_hub_open malloc-leak: it is in the hub
	green__fd_job_begins null-dereference: the call that begins a job has put the descriptor there
	green__fd_give_away null-dereference: as above
	look_up_host malloc-leak: it is in the host that is returned
	green__layer_above null-dereference: the walk ends at main
	green__layer_knows null-dereference: as above
	green__layer_is_started null-dereference: as above
	green__layer_word null-dereference: as above
	green__layer_is_main null-dereference: as above
	switch_away_slowly null-dereference: the line is not empty
	green__fiber_leave null-dereference: a thread whose tag fits has a current green
	green__fiber_arrive null-dereference: as above
	green__put_exceptions_away null-dereference: as above
	green__frames_of null-dereference: no thread means no green that has started
END

cmake -B "$build" -DCMAKE_C_COMPILER=clang -DCMAKE_EXPORT_COMPILE_COMMANDS=ON \
    -DGREEN_BUILD_TESTS=OFF -DGREEN_BUILD_EXAMPLES=OFF > "$build.log" 2>&1 \
    || { cat "$build.log"; exit 1; }

# ---- Each finds what is planted ------------------------------------------------

planted=$build/planted.c
cat > "$planted" <<- 'END'
	#include <stdlib.h>
	int planted(int n);
	int planted(int n)
	{
	    int *p = malloc(sizeof *p);
	    if (n > 3)
	        return *(int *)0;
	    free(p);
	    return *p;
	}
END
must_find()
{
    name=$1
    shift
    if "$@" > "$build/planted.log" 2>&1 && ! grep -q 'warning' "$build/planted.log"; then
        echo "analyse: $name misses what is planted for it"
        exit 1
    fi
}
tidy="clang-tidy --quiet --config-file=.clang-tidy"
check="cppcheck --quiet --std=c11 --enable=warning,style,performance,portability --inline-suppr
    --suppress=missingIncludeSystem --suppress=unreadVariable:include/green_fast.h
    --suppress=allocaCalled --suppress=autoVariables --suppress=constParameter:src/hub/*
    --suppress=uninitvar:src/hub/pool.c --suppress=redundantContinue
    --suppress=CastIntegerToAddressAtReturn:src/patch/names.c
    --suppress=knownConditionTrueFalse:src/patch/process.c --suppress=uninitvar:src/patch/process.c
    --suppress=unreadVariable:src/patch/threads.c
    --error-exitcode=1 -D__x86_64__ -D__LP64__ -D__ELF__ -D__GNUC__=12 -Iinclude -Isrc"
analyzer="gcc -std=gnu11 -O2 -fanalyzer -Wall -Iinclude -Isrc -c -o /dev/null"
must_find clang-tidy $tidy "$planted" -- -std=c11
must_find cppcheck $check "$planted"
must_find 'gcc -fanalyzer' $analyzer "$planted"

# ---- And nothing in the library --------------------------------------------------

jobs=$(nproc)
echo "$sources" | xargs -P "$jobs" -n 4 $tidy -p "$build" 2> /dev/null || failed=1
$check -j "$jobs" $sources || failed=1

# A warning's function is the last that was named above it.
export LC_ALL=C # else there are other quotes
analyze()
{
    log=$build/$(echo "$1" | tr / _).log
    $analyzer "$1" 2> "$log" || echo 'analyse: it does not compile' >> "$log"
}
for file in $sources; do
    while [ "$(jobs -p | wc -l)" -ge "$jobs" ]; do
        wait -n
    done
    analyze "$file" &
done
wait
for file in $sources; do
    cp "$build/$(echo "$file" | tr / _).log" "$build/analyzer.log"
    ! grep 'analyse: it does not compile' "$build/analyzer.log" || failed=1
    awk -F "'" '
        /In function / { name = $2 }
        / warning: / { sub(/.*\[-W(analyzer-)?/, ""); sub(/\].*/, ""); print name, $0 }' \
        "$build/analyzer.log" > "$build/warnings.log"
    cat "$build/warnings.log" >> "$found"
    while read -r function kind; do
        grep -q "^$function $kind:" "$known" && continue
        grep -A1 "warning: .*$kind" "$build/analyzer.log"
        failed=1
    done < "$build/warnings.log"
done
while read -r function kind why; do
    grep -q "^$function ${kind%:}\$" "$found" && continue
    [ "${2:-all}" = all ] || grep -qw "$function" $sources || continue
    echo "analyse: not found any more: $function $kind $why"
    failed=1
done < "$known"

[ $failed = 0 ] && echo "analyse: clang-tidy, cppcheck and gcc -fanalyzer:" \
    "no warnings in $(echo "$sources" | wc -l) files"
exit $failed
