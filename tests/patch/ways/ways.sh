#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Each way to have the patch, and what green_patch_check() says there.
#
#     ways.sh RECEIVER POLLER IN_PROGRAM HIDDEN [LINKED ADDRESS ALONE KNOWS_NOTHING PATCH]
#
# Two libraries with a recv() and a poll() of their own, and programs: with the patch in it;
# the same, but what it exports is hidden; then, where there is a shared libgreen: linked with
# the shared one; the same, at a fixed place, with the address of poll(); without any; and one
# with tasks that knows nothing of it.
. "$(dirname "$0")/../../support/script.sh"

# says WHAT COMMAND...
says()
{
    what=$1
    shift
    said=$("$@" 2>&1) || said="$said (status $?)"
    if [ "$said" = "$what" ]; then
        echo "ok: $(echo "$what" | head -n 1 | cut -c 1-60): $(echo "$*" | sed 's|[^ =]*/||g')"
    else
        failed "$* says: $said; and not: $what"
    fi
}

receiver=$1 poller=$2
says all "$3"
says all env LD_PRELOAD="$poller" "$3" # the program itself comes first
says poll "$4"
[ $# -gt 4 ] || exit $status
linked=$5 address=$6 alone=$7 nothing=$8 patch=$9

says all "$linked"
says recv env LD_PRELOAD="$receiver" "$linked"
says all "$address"
says poll env LD_PRELOAD="$poller" "$address"
says recv env LD_PRELOAD="$receiver" "$address"
says "there is no patch" "$alone"
says all env LD_PRELOAD="$patch" "$alone"
says recv env LD_PRELOAD="$receiver $patch" "$alone"
says all env LD_PRELOAD="$patch $receiver" "$alone"
says poll "$alone" "$patch"

# For every hub of the process, where the environment says so.
plain='main: 60 20
thread: 60 20'
patched='main: 20 60
thread: 20 60'
says "$plain" "$nothing"
says "$plain" env LD_PRELOAD="$patch" "$nothing"
says "$plain" env LD_PRELOAD="$patch" GREEN_PATCH=io,names "$nothing"
says "$plain" env GREEN_PATCH=wait "$nothing"
says "$patched" env LD_PRELOAD="$patch" GREEN_PATCH=wait "$nothing"
says "$patched" env LD_PRELOAD="$patch" GREEN_PATCH=names,wait,io "$nothing"
says "$patched" env LD_PRELOAD="$patch" GREEN_PATCH=all "$nothing"
says 'libgreen_patch: GREEN_PATCH: there is no "wiat": wait, io, names, locks, processes or all
'"$plain" env LD_PRELOAD="$patch" GREEN_PATCH=wiat,,io "$nothing"

# Programs that know nothing of libgreen either: threads without a hub, shells, pipes.
same()
{
    plain=$("$@" 2>&1)
    says "$plain" env LD_PRELOAD="$patch" GREEN_PATCH=all "$@"
}
same sh -c 'echo a | cat; sleep 0.01; (exit 3); echo $?; kill -0 $$ && wait'
same ls "$root"
same sh -c 'seq 100000 | sort -rn | head -n 3'
same getent hosts localhost
exit $status
