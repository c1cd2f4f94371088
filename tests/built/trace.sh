#!/bin/sh
# SPDX-License-Identifier: MIT
#
#     trace.sh DIRECTORY [LAUNCHER...]
#
# GREEN_TRACE=FILE has each example in DIRECTORY write a file of Chrome trace
# events, and what stands in it makes sense.  That it is JSON says push_parser,
# itself an example.
. "$(dirname "$0")/../support/script.sh"
examples=$1
shift
launcher=$*

# events FILE: nothing, or what is wrong.  The format's document asks each event
# for ph, pid, tid and ts (M needs no ts), B and X for a name, E to close the
# innermost B of its track, s and f for an id and a name, and f with bp "e" to be
# inside the slice where it arrives.  Of greens we know more: one runs at a time.
events()
{
    $launcher "$examples/push_parser" <"$1" >"$dir/compact" || return
    tr '{' '\n' <"$dir/compact" | awk '
        function wrong(what) { print "event " NR ": " what ": " $0; bad = 1 }
        function field(name) {
            if (!match($0, "\"" name "\":(\"[^\"]*\"|[0-9.]+)")) return ""
            return substr($0, RSTART + length(name) + 3, RLENGTH - length(name) - 3)
        }
        NR == 1 { if ($0 != "[") wrong("no array"); next }
        /^"name":/ { next } # the args of M
        {
            ph = field("ph"); pid = field("pid"); tid = field("tid"); ts = field("ts") + 0
            track = pid " " tid
            count[ph]++
            if (pid == "" || tid == "") wrong("no pid or tid")
            if (ph == "\"M\"") {
                if (named[track]++) wrong("named twice")
                if ($0 !~ /"args":$/) wrong("no args")
                next
            }
            if (field("ts") !~ /^[0-9]+\.[0-9][0-9][0-9]$/) wrong("no ts")
            if (ts < now[pid]) wrong("it is earlier than the one before")
            now[pid] = ts
            if (!(track in named) || !((pid " 0") in named))
                wrong("a track or a thread without a name")
            if (ph != "\"E\"" && field("name") == "") wrong("no name")
        }
        ph == "\"B\"" {
            if (running[pid]) wrong("another one runs")
            if ((pid in left) && !flying[pid]) wrong("nobody has handed over")
            running[pid] = tid
        }
        ph == "\"E\"" {
            if (running[pid] != tid) wrong("it does not run")
            running[pid] = 0
            left[pid] = tid
        }
        ph == "\"s\"" {
            if (running[pid] != tid || flying[pid]) wrong("an arrow from nowhere")
            if (field("id") == "" || seen[field("id")]++) wrong("no id of its own")
            flying[pid] = field("id")
        }
        ph == "\"f\"" {
            if (running[pid] != tid || field("bp") != "\"e\"") wrong("an arrow to nowhere")
            if (flying[pid] != field("id")) wrong("not the arrow that left")
            flying[pid] = 0
        }
        ph !~ /^"[BEsf]"$/ { wrong("an unknown kind") }
        END {
            for (pid in running) if (running[pid] || flying[pid]) wrong("the end is missing")
            if (!count["\"B\""]) wrong("nobody runs")
            if (count["\"B\""] != count["\"E\""] || count["\"s\""] != count["\"f\""])
                wrong("not balanced")
        }'
}

# who FILE: the names of who ran, in order, thread by thread.
who()
{
    sed -n 's/.*"ph":"M".*"tid":\([1-9][0-9]*\),.*"args":{"name":"\([^"]*\)"}.*/\1 \2/p' "$1" \
        >"$dir/names"
    sort -s -t: -k3,3n "$1" | sed -n 's/.*"ph":"B".*"tid":\([0-9]*\),.*/\1/p' |
        awk 'NR == FNR { name[$1] = $2; next } { printf "%s%s", s, name[$1]; s = " " }' \
            "$dir/names" -
}

# trace FILE PROGRAM ARGUMENT...
trace()
{
    file=$1
    program=$2
    shift 2
    GREEN_TRACE=$file $launcher "$examples/$program" "$@" </dev/null >"$dir/out" 2>"$dir/err"
}

# That it finds what is wrong is shown first.
good=$dir/good
trace "$good" hello || failed "hello"
found=$(events "$good" 2>&1)
[ -z "$found" ] || failed "hello: $found"
[ -n "$launcher" ] || # which takes its time, and does not change what is found
for mistake in '$d' '2d' '3d' '4d' '/"E"/d' '/"ph":"f".*"id":2,/d' \
    '/"ph":"s".*"id":4,/d' 's/"id":3,/"id":2,/' 's/"bp":"e"/"bp":"x"/' 's/"ts":/"tz":/' \
    's/"pid":1,//' \
    's/"ph":"B"/"ph":"Q"/' '/"ph":"E","pid":1,"tid":2/s/"tid":2/"tid":3/' 's/,"name":"run"//' \
    's/^\({"ph":"B".*"ts":\)[0-9]*/\10/' 's/"name":"thread_name"/"name":thread_name/' '1s/\[/{/'; do
    sed "$mistake" "$good" >"$dir/bad"
    if cmp -s "$good" "$dir/bad"; then
        failed "no mistake: $mistake"
    elif [ -z "$(events "$dir/bad" 2>&1)" ]; then
        failed "not found: $mistake"
    fi
done

# Those with tasks are not where the hub is not tested.
is_built()
{
    [ -x "$examples/$1" ] || echo "skipped: $1 (it is not built)"
    [ -x "$examples/$1" ]
}

# traced WHO PROGRAM ARGUMENT...: all is well, and those ran, WHO being a shell pattern.
traced()
{
    who=$1
    shift
    is_built "$1" || return 0
    trace "$dir/trace" "$@" || [ "$1" = same_fringe ] ||
        { failed "$*: status $?"; cat "$dir/err"; return; }
    found=$(events "$dir/trace" 2>&1)
    ran=$(who "$dir/trace")
    if [ -n "$found" ]; then
        failed "$*: $found"
    else
        case $ran in
        $who) echo "ok: $*" ;;
        *) failed "$*: these ran: $ran" ;;
        esac
    fi
}

# served WHO PROGRAM ARGUMENT...: the same for a server that one client has sent a line.
served()
{
    who=$1
    program=$2
    shift 2
    is_built "$program" || return 0
    : >"$dir/out"
    GREEN_TRACE=$dir/trace timeout --foreground 60 "$examples/$program" -p 0 "$@" >"$dir/out" 2>"$dir/err" &
    until grep -q ' port ' "$dir/out" || ! kill -0 $! 2>"$dir/gone"; do
        sleep 0.02
    done
    echo hello | timeout 60 socat -t 60 - "TCP:127.0.0.1:$(sed -n 's/.* port //p' "$dir/out")" \
        >"$dir/answer" 2>"$dir/socat"
    kill -TERM $! && wait $! || failed "$program: status $?"
    found=$(events "$dir/trace" 2>&1)
    ran=$(who "$dir/trace")
    case $found$ran in
    $who) echo "ok: $program" ;;
    *) failed "$program: $found; these ran: $ran" ;;
    esac
}

traced 'main producer consumer producer consumer producer main consumer main' \
    producer_consumer -n 2 -i 0
traced 'main green green green green green green green main green main' hello
traced 'main main green green green*main main green green green*main main green green green*main' \
    threads 3 1000
traced 'main*producer consumer producer consumer*main' queue_of_one -n 2 -i 0
if [ -z "$launcher" ]; then
    traced 'main*worker worker foreman*closer*main' workers -v 3 1 2
    traced 'main*customer customer*teller*porter*main' bank -c 2 -t 1
    traced 'main green main green main*' generator
    traced 'main green main green main*' same_fringe '(a b)' '(a c)'
    traced 'main green green green main' conway
    traced 'main green main*' round_robin 100
fi
if [ -n "$launcher" ]; then
    echo 'skipped: servers (they would do the same)'
elif command -v socat >"$dir/found"; then
    served 'main*hub*signals*green*main' echo_server
    served 'main*hub*signals*green*main' httpd "$root/examples"
    served 'main*hub*signals*green*main' proxy 127.0.0.1 1
else
    echo 'skipped: servers (no socat)'
fi
trace "$dir/nowhere/trace" hello && failed 'a file that cannot be written is passed over'
grep -q 'nowhere/trace: No such file or directory' "$dir/err" ||
    failed "no reason: $(cat "$dir/err")"

# The picture in examples/README.md is what the script draws, but for the times.
shape()
{
    sed 's/[0-9][0-9.]*//g' "$1"
}

if [ -n "$launcher" ]; then
    echo 'skipped: the picture (it would be the same)'
elif command -v python3 >"$dir/found"; then
    mkdir -p "$dir/tree/build" && ln -s "$examples" "$dir/tree/build" &&
        ln -s "$root/examples" "$dir/tree"
    awk '/^<!-- tests\/built\/trace.sh / { found = 1 } found && /^```$/ { exit }
        inside { print } found && /^```sh$/ { inside = 1 }' "$root/examples/README.md" >"$dir/commands"
    (cd "$dir/tree" && sh -e "$dir/commands" </dev/null >"$dir/out") ||
        failed "the commands of examples/README.md"
    picture=$dir/tree/trace.svg
    arrows=$(grep -c marker-end "$picture")
    [ "$arrows" = 10 ] || failed "the picture has $arrows arrows instead of 10"
    shape "$picture" >"$dir/shape"
    shape "$root/examples/producer_consumer.svg" | diff "$dir/shape" - ||
        failed 'examples/producer_consumer.svg is another'
    python3 "$root/examples/draw_trace.py" --help 2>&1 | grep -q '^    draw_trace.py FILE' ||
        failed 'draw_trace.py --help does not say how to call it'
    python3 "$root/examples/draw_trace.py" "$dir/nowhere" 2>&1 | grep -q '^draw_trace.py: .*nowhere' ||
        failed 'draw_trace.py does not say that there is no such file'
    [ $status != 0 ] || echo 'ok: the picture'
else
    echo 'skipped: the picture (no python3)'
fi
exit $status
