#!/bin/sh
# SPDX-License-Identifier: MIT
#
# A tool finds the bugs of bugs.c, names the function of each, and finds none
# where there is none.
#
#     tests/tools/bugs.sh TOOL PROGRAM [LAUNCHER...]
#
# TOOL is address, thread, memory or undefined, and the program built with that
# sanitizer; or memcheck or helgrind, and the launcher runs it.  Or it is
# nothing: then the program is right as it is, under whatever runs it.
. "$(dirname "$0")/../support/script.sh"
set -e

tool=$1
program=$2
shift 2

# run BUG [OPTION]: leaves its report in $dir/report, its status in $ended.
run()
{
    ended=0
    env ${2:+"$2"} ${launcher:-} "$program" "$1" > "$dir/report" 2>&1 || ended=$?
}

# found BUG FUNCTION TEXT [OPTION]: it ends badly, the report says TEXT and names FUNCTION.
found()
{
    bug=$1 function=$2 text=$3
    run "$bug" ${4:+"$4"}
    if [ "$ended" -ne 0 ] && grep -q "$text" "$dir/report" &&
        grep -q "[ :]$function\b" "$dir/report"
    then
        echo "ok: $tool finds $bug in $function()"
    else
        failed "$tool does not report \"$text\" in $function() for $bug (status $ended):"
        head -n 60 "$dir/report"
    fi
}

# clean BUG [OPTION]
clean()
{
    run "$1" ${2:+"$2"}
    if [ "$ended" -eq 0 ] && [ ! -s "$dir/report" ]; then
        echo "ok: nothing is reported for $1${2:+ with $2}"
    else
        failed "a report for $1${2:+ with $2} (status $ended):"
        head -n 60 "$dir/report"
    fi
}

launcher=$*
return_on=ASAN_OPTIONS=detect_stack_use_after_return=1
return_off=ASAN_OPTIONS=detect_stack_use_after_return=0
case $tool in
nothing)
    clean none
    ;;
address)
    clean none $return_off
    clean none $return_on
    found overflow write_past_the_end stack-buffer-overflow $return_off
    found overflow write_past_the_end stack-buffer-overflow $return_on
    found return use_what_was_shown stack-use-after-return $return_on
    found leak allocate_something "77 byte(s) in 1 object" $return_off
    found leak allocate_something "77 byte(s) in 1 object" $return_on
    ;;
thread)
    clean none
    found race count_without_a_lock "data race"
    ;;
memory)
    clean none
    found uninitialised decide_by use-of-uninitialized-value
    ;;
undefined)
    clean none
    found shift shift_too_far "shift exponent" UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
    ;;
memcheck)
    clean none
    found return "use_[a-z_]*" "Invalid read"
    found leak allocate_something "77 bytes in 1 blocks are definitely lost"
    found uninitialised decide_by "depends on uninitialised value"
    ;;
helgrind)
    clean none
    found race count_without_a_lock "Possible data race"
    ;;
*)
    failed "no tool is called $tool"
    ;;
esac
exit $status
