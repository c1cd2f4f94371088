# SPDX-License-Identifier: MIT
#
# What the tests of the examples share; each is run as
#
#     sh NAME.sh PROGRAM [LAUNCHER...]
#
# and reads this file first.
. "$(dirname "$0")/../support/script.sh"
program=$1
shift
launcher=$*

# run ARGUMENT...: leaves $dir/out, $dir/err and $result; stdin is the caller's.
run()
{
    ran="$*"
    result=0
    $launcher "$program" "$@" >"$dir/out" 2>"$dir/err" || result=$?
}

# check WHAT COMMAND...: COMMAND succeeds.
check()
{
    what=$1
    shift
    if "$@" >"$dir/check" 2>&1; then
        echo "ok: $what"
    else
        failed "$what ($ran: status $result)"
        head -n 20 "$dir/check" "$dir/out" "$dir/err"
    fi
}

# gives RESULT OUTPUT: the last run ended with RESULT and printed OUTPUT.
gives()
{
    [ "$result" = "$1" ] && printf '%s\n' "$2" | diff - "$dir/out"
}

# has_no_room ARGUMENT...: it says so if its output goes to a full device, and is lost.
has_no_room()
{
    ran="$* >/dev/full"
    result=0
    $launcher "$program" "$@" >/dev/full 2>"$dir/err" || result=$?
    [ "$result" != 0 ] && grep 'No space left on device' "$dir/err"
}

# ends_well: with 0, and nothing on stderr but what Valgrind has to say of system calls that
# it does not know.
ends_well()
{
    [ "$result" = 0 ] && ! grep -v '^--[0-9]*-- ' "$dir/err"
}

# refuses RESULT WORDS: it ended with RESULT and said WORDS on stderr.
refuses()
{
    [ "$result" = "$1" ] && grep -e "$2" "$dir/err"
}
