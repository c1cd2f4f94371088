#!/bin/sh
# SPDX-License-Identifier: MIT
#
# What examples/producer_consumer promises, checked from outside.
#
#     tests/examples/producer_consumer.sh PROGRAM [LAUNCHER...]
#
# LAUNCHER runs the program if it is for another CPU, say qemu-aarch64 -L DIR;
# GREEN_TEST_SLOW is set under such and under tools that take their time.
# BIG_BYTES is the size of the large input, 1 MiB unless set, 128 KiB there.  Needs what is in
# Debian's base, and /proc for the check of memory.
set -eu
LC_ALL=C
export LC_ALL

if [ $# -lt 1 ]; then
    echo "usage: $0 PROGRAM [LAUNCHER...]" >&2
    exit 2
fi
program=$1
shift
launcher=$*
big_bytes=${BIG_BYTES:-${GREEN_TEST_SLOW:+131072}}
big_bytes=${big_bytes:-1048576}

# ------------------------------------------------------------------ tools

dir=$(mktemp -d)
started= # the shell around what start() started, until that has ended
clean_up()
{
    if [ -n "$started" ]; then
        kill -9 "$(cat "$dir/pid")" 2>/dev/null || :
        wait "$started" 2>/dev/null || :
    fi
    rm -rf "$dir"
}
trap clean_up EXIT
trap 'exit 1' HUP INT TERM

ok()
{
    echo "ok: $*"
}

# fail WHAT...: says it, shows what the last run wrote, ends the script.
fail()
{
    echo "FAILED: $*"
    for f in out err; do
        [ -f "$dir/$f" ] || continue
        echo "--- its std$f, up to 12 lines:"
        head -n 12 "$dir/$f"
    done
    exit 1
}

# $dir/program ARGUMENTS...: a script that notes its process id and becomes the
# program.
quoted()
{
    printf "%s" "$1" | sed "s/'/'\\\\''/g; 1s/^/'/; \$s/\$/' /"
}
{
    echo 'echo $$ >'"$(quoted "$dir/pid")"
    printf 'exec '
    for word in "$@" "$program"; do
        quoted "$word"
    done
    echo '"$@"'
} >"$dir/program"

# run ARGUMENTS...: to its end, with stdin from the caller; leaves $dir/out,
# $dir/err and $status.
run()
{
    ran="$*"
    status=0
    timeout 60 sh "$dir/program" "$@" >"$dir/out" 2>"$dir/err" || status=$?
}

# start ARGUMENTS...: in the background, with stdin from $from, stdout to $to.
start()
{
    ran="$*"
    rm -f "$dir/status" "$dir/pid"
    : >"$dir/out"
    (
        status=0
        sh "$dir/program" "$@" >"$to" 2>"$dir/err" || status=$?
        echo $status >"$dir/status.new"
        mv "$dir/status.new" "$dir/status"
    ) <"$from" &
    started=$!
}
from=/dev/null
to=$dir/out

# within SECONDS WHAT COMMAND...: waits until COMMAND succeeds.
within()
{
    tries=$(($1 * 20))
    what=$2
    shift 2
    until "$@"; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || fail "$ran: $what"
        sleep 0.05
    done
}

has_lines()
{
    [ "$(wc -l <"$dir/out")" -ge "$1" ]
}

# has_ended: waits for what was started, which should end now; leaves $status.
has_ended()
{
    within 10 "does not end within 10 seconds" test -f "$dir/status"
    status=$(cat "$dir/status")
    wait "$started"
    started=
}

# catches_sigint: what was started has its handler; no /proc, no answer: yes.
catches_sigint()
{
    case $(grep '^SigCgt:' "/proc/$(cat "$dir/pid")/status") in
    *[2367abef] | '') return 0 ;;
    esac
    return 1
}

# is_waiting: until what was started has come to where it can only wait.
is_waiting()
{
    within 10 "does not start" test -s "$dir/pid"
    within 10 "does not catch SIGINT" catches_sigint
    if [ -z "$launcher" ]; then sleep 0.5; else sleep 2; fi
}

# send SIGNAL: to what was started.
send()
{
    kill -s "$1" "$(cat "$dir/pid")"
}

# expect STATUS: of the last run.
expect()
{
    [ "$status" -eq "$1" ] || fail "$ran: status $status instead of $1"
}

# same A B: two files; the first is what came, the second what should have.
same()
{
    cmp "$1" "$2" || fail "$ran: wrong output"
}

# silent out|err...: of the last run.
silent()
{
    for f; do
        [ ! -s "$dir/$f" ] || fail "$ran: std$f should be empty"
    done
}

# told N: the counts on stderr, and nothing else there.
told()
{
    echo "$1 produced, $1 consumed" >"$dir/expected"
    cmp "$dir/err" "$dir/expected" || fail "$ran: wrong counts"
}

# as_lines: turns the bytes on stdin into the lines the program should print.
as_lines()
{
    od -An -v -tx1 | awk '
        BEGIN {
            for (i = 0; i < 256; i++) {
                hex = sprintf("%02x", i)
                shown[hex] = i >= 33 && i <= 126 ? sprintf("%c", i) : "\\x" hex
            }
        }
        {
            for (i = 1; i <= NF; i++)
                print "Produced: " shown[$i] "\nConsumed: " shown[$i]
        }'
}

# as_bytes: the reverse, by way of printf; for small output.
as_bytes()
{
    printf "$(awk '
        BEGIN {
            for (i = 0; i < 256; i++) {
                octal[sprintf("\\x%02x", i)] = sprintf("\\%03o", i)
                if (i >= 33 && i <= 126)
                    octal[sprintf("%c", i)] = sprintf("\\%03o", i)
            }
        }
        /^Consumed: / { printf "%s", octal[substr($0, 11)] }')"
}

# letters N: $dir/out is N pairs of lines with a random letter each.
letters()
{
    awk -v n="$1" '
        NR % 2 == 1 && /^Produced: [a-e]$/ { letter = $2; next }
        NR % 2 == 0 && /^Consumed: [a-e]$/ && $2 == letter { next }
        { print "line " NR " is out of turn: " $0; exit bad = 1 }
        END { if (!bad && NR != 2 * n) { print NR " lines instead of " 2 * n; exit 1 } }
    ' "$dir/out" || fail "$ran: wrong output"
}

# ---------------------------------------------------------- random letters

run -i 0
expect 0
silent err
letters 10
ok "without options it is ten letters, produced and consumed in turn"

for n in 1 2 3 1000; do
    run -i 0 -n $n
    expect 0
    silent err
    letters $n
done
for letter in a b c d e; do
    grep -q "^Consumed: $letter\$" "$dir/out" || fail "no $letter among 1000 letters"
done
ok "-n counts items, and all five letters come"

run -i 0 -n 12 -s 1
expect 0
printf aeaabdadaaca | as_lines >"$dir/expected"
same "$dir/out" "$dir/expected"
run -s 18446744073709551615 -n 8 -i 0
expect 0
printf bebcbaab | as_lines >"$dir/expected"
same "$dir/out" "$dir/expected"
ok "-s gives the same letters, on every machine"

run -i 0 -n 200 -s 43
mv "$dir/out" "$dir/first"
run -i 0 -n 200 -s 42
! cmp -s "$dir/out" "$dir/first" || fail "-s 42 and -s 43: same letters"
run -i 0 -n 200
mv "$dir/out" "$dir/first"
run -i 0 -n 200
! cmp -s "$dir/out" "$dir/first" || fail "two runs without -s: same letters"
ok "another seed, and each run without one, gives other letters"

milliseconds()
{
    echo $(($(date +%s%N) / 1000000))
}
for i in "-i 0.15" "-i .15 -n 2" "-i 1.5e-1" ""; do
    begun=$(milliseconds)
    run -n 2 $i
    took=$(($(milliseconds) - begun))
    expect 0
    letters 2
    [ $took -ge 400 ] || fail "$ran: only $took ms for four pauses"
done
ok "-i pauses after each line, fractions included, and 0.1 s is the default"

run -h
expect 0
silent err
grep -q '^usage: ' "$dir/out" || fail "-h: no usage"
ok "-h prints the usage"

# -------------------------------------------------------------------- FILE

printf "$(awk 'BEGIN { for (i = 0; i < 256; i++) printf "\\%03o", i }')" >"$dir/bytes"
[ "$(wc -c <"$dir/bytes")" -eq 256 ] || fail "no 256 bytes to begin with"
run -i 0 "$dir/bytes"
expect 0
silent err
as_lines <"$dir/bytes" >"$dir/expected"
same "$dir/out" "$dir/expected"
as_bytes <"$dir/out" >"$dir/bytes.back"
same "$dir/bytes.back" "$dir/bytes"
ok "a FILE gives each of its bytes, in order, all 256 of them"

run -i 0 - <"$dir/bytes"
expect 0
silent err
same "$dir/out" "$dir/expected"
ok "- is standard input"

: >"$dir/empty"
run "$dir/empty"
expect 0
silent out err
run - <"$dir/empty"
expect 0
silent out err
ok "an empty FILE gives nothing, and status 0"

printf 'abcdefghijklmnop' >"$dir/letters"
printf 'abc' | as_lines >"$dir/expected"
run -i 0 -n 3 "$dir/letters"
expect 0
silent err
same "$dir/out" "$dir/expected"
as_lines <"$dir/letters" >"$dir/expected"
for n in 0 16 17 1000; do
    run -i 0 -n $n "$dir/letters"
    expect 0
    silent err
    same "$dir/out" "$dir/expected"
done
ok "-n limits a FILE, and a FILE limits -n"

printf 'slow\n' | as_lines >"$dir/expected"
{
    for letter in s l o 'w\n'; do
        printf "$letter"
        sleep 0.2
    done
} | {
    run -i 0 -
    expect 0
    silent err
    same "$dir/out" "$dir/expected"
} || exit 1
ok "input may come slowly, through a pipe"

mkfifo "$dir/fifo"
from=$dir/fifo
start -i 0 -
exec 3>"$dir/fifo"
printf 'so' >&3
within 10 "does not print before more input comes" has_lines 4
printf 'on' >&3
within 10 "does not print before more input comes" has_lines 8
exec 3>&-
has_ended
expect 0
silent err
printf 'soon' | as_lines >"$dir/expected"
same "$dir/out" "$dir/expected"
ok "what has come is shown before more input is waited for"

head -c "$big_bytes" /dev/urandom >"$dir/big"
mkfifo "$dir/expected.fifo"
as_lines <"$dir/big" >"$dir/expected.fifo" &
ran="-i 0 FILE of $big_bytes bytes"
rm "$dir/out"
{
    status=0
    sh "$dir/program" -i 0 "$dir/big" 2>"$dir/err" || status=$?
    echo $status >"$dir/status"
} | same - "$dir/expected.fifo"
status=$(cat "$dir/status")
expect 0
silent err
ok "$big_bytes random bytes are consumed in order"

# memory_for FILE: how many KiB the program had resident at most when it had
# read all of FILE, give or take what fits into a pipe.
memory_for()
{
    start -i 0 -
    exec 3>"$dir/fifo"
    cat "$1" >&3 || fail "- does not read its input"
    sleep 1
    awk '/^VmHWM:/ { print $2 }' "/proc/$(cat "$dir/pid")/status" >"$dir/memory"
    exec 3>&-
    has_ended
    expect 0
    memory=$(cat "$dir/memory")
}
if [ -n "${GREEN_TEST_SLOW:-}" ]; then
    echo "skipped: flat memory (GREEN_TEST_SLOW is set: some of what is resident is a tool's)"
elif ! grep -q '^VmHWM:' /proc/self/status; then
    echo "skipped: flat memory (no VmHWM in /proc/self/status)"
else
    to=/dev/null
    memory_for "$dir/letters"
    small=$memory
    memory_for "$dir/big"
    [ "$memory" -le $((small + 512)) ] ||
        fail "$memory KiB resident for $big_bytes bytes, $small KiB for 16"
    to=$dir/out
    ok "memory is flat: $memory KiB for $big_bytes bytes, $small KiB for 16"
fi
from=/dev/null
rm "$dir/big"

# ------------------------------------------------------------------ errors

# refused ARGUMENTS...
refused()
{
    run "$@" </dev/null
    expect 2
    silent out
    grep -q '^usage: ' "$dir/err" || fail "$ran: no usage on stderr"
}
if [ -z "$launcher" ]; then
    for bad in -3 '' ' ' +1 0x1 1.5 1e3 99999999999999999999999; do
        refused -n "$bad"
        refused -s "$bad"
    done
    for bad in nan -nan inf -inf -1 -0.1 '' ' ' . 1s 0.1.2 1e 1e10; do
        refused -i "$bad"
    done
else
    echo "skipped: most bad numbers (strtoul() and strtod() are no different there)"
fi
for bad in abc 1x 1e999; do
    refused -n "$bad"
    refused -s "$bad"
    refused -i "$bad"
done
for options in -x -n -i -s '-n 1 -i' --long '-i 0 -x -h'; do
    refused $options
done
refused "$dir/letters" "$dir/letters"
refused - -
refused -n 1 -x "$dir/letters"
ok "bad options, bad numbers and a second FILE: usage on stderr, status 2"

# unreadable FILE REASON, with stdin from the caller
unreadable()
{
    run -i 0 "$1"
    expect 1
    silent out
    grep -q "$2" "$dir/err" || fail "$ran: no \"$2\" on stderr"
    [ "$(wc -l <"$dir/err")" -eq 1 ] || fail "$ran: more than the reason on stderr"
}
unreadable "$dir/nowhere" "nowhere: No such file or directory"
unreadable "$dir" "$dir: Is a directory"
unreadable - "standard input: Is a directory" <"$dir"
unreadable - "standard input: Bad file descriptor" <&-
if [ -r /proc/self/mem ]; then
    unreadable /proc/self/mem '/proc/self/mem: \(Input/output\|I/O\) error' # glibc, musl
fi
if [ "$(id -u)" -ne 0 ]; then
    : >"$dir/secret"
    chmod 000 "$dir/secret"
    unreadable "$dir/secret" "secret: Permission denied"
fi
ok "an unreadable FILE: the reason, status 1"

# the_reader_leaves ARGUMENTS...: after the first line.
the_reader_leaves()
{
    ran="$* | head -n 1"
    {
        status=0
        timeout 60 sh "$dir/program" "$@" 2>"$dir/err" || status=$?
        echo $status >"$dir/status"
    } | head -n 1 >"$dir/out"
    status=$(cat "$dir/status")
    expect 1
    silent err
    [ "$(wc -l <"$dir/out")" -eq 1 ] || fail "$ran: no first line"
}
the_reader_leaves -n 0 -i 0
the_reader_leaves -n 0 -i 0.05
the_reader_leaves -i 0 /dev/zero
ok "output to a closed pipe: no message, status 1"

# no_room ARGUMENTS...
no_room()
{
    ran="$* >/dev/full"
    status=0
    timeout 60 sh "$dir/program" "$@" >/dev/full 2>"$dir/err" || status=$?
    expect 1
    grep -q "No space left on device" "$dir/err" || fail "$ran: no reason on stderr"
    [ "$(wc -l <"$dir/err")" -eq 1 ] || fail "$ran: more than the reason on stderr"
}
rm -f "$dir/out"
if [ -c /dev/full ]; then
    no_room -i 0
    no_room -i 0 -n 0
    no_room -i 20 -n 0
    no_room -i 0 /dev/zero
    ok "output to a full device: the reason, status 1"
else
    echo "skipped: output to a full device (no /dev/full)"
fi

# ----------------------------------------------------------------- signals

for signal in INT TERM; do
    start -i 60 -n 0
    within 10 "the first line is not shown at once" has_lines 1
    sleep 0.2
    ! has_lines 2 || fail "$ran: more than one line before the first pause"
    send $signal
    has_ended
    case $signal in
    INT) expect 130 ;;
    TERM) expect 143 ;;
    esac
    told 1
    letters 1
done
ok "a signal in the middle of a pause: counts on stderr, status 130 or 143"

from=$dir/fifo
start -i 0 -
exec 3>"$dir/fifo"
printf 'xyz' >&3
within 10 "does not print before more input comes" has_lines 6
send INT
has_ended
exec 3>&-
expect 130
told 3
printf xyz | as_lines >"$dir/expected"
same "$dir/out" "$dir/expected"
from=/dev/null
ok "SIGINT while it waits for input: the same"

if grep -q __tsan_init "$program"; then
    echo "skipped: SIGINT while it waits elsewhere (ThreadSanitizer keeps it until then)"
    exit 0
fi

start -i 0 "$dir/fifo"
is_waiting
send INT
has_ended
expect 130
told 0
ok "SIGINT while it waits for a FILE to open: the same"

start -i 0 -n 0
within 10 "prints nothing" has_lines 100
send INT
has_ended
expect 130
items=$(($(wc -l <"$dir/out") / 2))
told $items
letters $items
ok "SIGINT at full speed: the same, and all that was counted was written"

to=$dir/fifo
start -i 0 -n 0
exec 3<"$dir/fifo"
is_waiting
send INT
sleep 0.1
cat <&3 >"$dir/out"
exec 3<&-
has_ended
expect 130
items=$(($(wc -l <"$dir/out") / 2))
told $items
letters $items
ok "SIGINT while a slow reader keeps it waiting: the same"

start -i 0 -n 0
exec 3<"$dir/fifo"
is_waiting
send INT
has_ended
exec 3<&-
expect 130
grep -q '^[0-9]* produced, [0-9]* consumed$' "$dir/err" || fail "$ran: no counts"
ok "SIGINT while nobody reads its output: it ends all the same"
