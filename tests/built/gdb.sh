#!/bin/sh
# SPDX-License-Identifier: MIT
#
# What gdb shows of greens, by src/gdb/green-gdb.py.
#
#     gdb.sh PROGRAM [DIRECTORY [QEMU...]]
#
# PROGRAM is gdb_greens, and gdb_tasks is beside it.  If DIRECTORY is given and not -, gdb must load the script by
# itself, from there or from below: beside the shared library, or because a
# program with the static one names it.  GDB is the gdb to use.  GREEN_GDB_MANY: so
# many greens instead of a few in the core.  GREEN_GDB_STRIPPED: the library's own
# functions have no names.  QEMU: what to run PROGRAM with if it is for another CPU;
# then there is no core.  77: skipped, for the reason it gives.
. "$(dirname "$0")/../support/script.sh"
: "${GDB:=gdb}" "${GREEN_GDB_MANY:=0}"
program=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
source=$root/src/gdb/green-gdb.py
directory=${2:--}
shift
[ $# = 0 ] || shift

# A sanitizer's leak check does not work under gdb.
export ASAN_OPTIONS="${ASAN_OPTIONS:-}:detect_leaks=0"

skip()
{
    echo "skipped: $1"
    [ "${CI:-}" = true ] && exit 1 # there all must run
    exit 77
}

# run_gdb ARGUMENT...
run_gdb()
{
    if [ "$directory" != - ]; then
        set -- -iex "add-auto-load-safe-path $directory" "$@"
    else
        set -- -iex 'set auto-load python-scripts off' -ex "source $source" "$@"
    fi
    "$GDB" -nx -batch -iex 'set debuginfod enabled off' -iex 'set width 0' "$@" < /dev/null 2>&1
}

# live LAUNCHER... -- ARGUMENT...: gdb on a process that has come to stop(), and what
# both print.
live()
{
    if [ "$1" = -- ]; then
        shift
        run_gdb -ex 'break stop' -ex 'run 0' "$@" "$program"
        return
    fi
    launcher=
    while [ "$1" != -- ]; do
        launcher="$launcher $1"
        shift
    done
    shift
    rm -f "$dir/socket"
    timeout 100 $launcher -g "$dir/socket" "$program" < /dev/null > "$dir/remote" 2>&1 &
    while [ ! -e "$dir/socket" ] && kill -0 $! 2> /dev/null; do
        sleep 0.1
    done
    run_gdb -iex 'set sysroot /' -ex "target remote $dir/socket" -ex 'break stop' -ex continue \
        "$@" "$program"
    kill $! 2> /dev/null
    cat "$dir/remote"
}

# same WHAT EXPECTED FOUND
same()
{
    if [ "$2" = "$3" ]; then
        echo "ok: $1"
    else
        printf 'FAILED: %s\n--- expected\n%s\n--- found\n%s\n---\n' "$1" "$2" "$3"
        status=1
    fi
}

# has WHAT PATTERN FILE
has()
{
    if grep -Eq "$2" "$3"; then
        echo "ok: $1"
    else
        printf 'FAILED: %s: nothing like %s in %s\n' "$1" "$2" "${3##*/}"
        status=1
    fi
}

# The frames of `green apply all bt`, a line a green: its own, down to the entry of
# its stack, without those of the library that wait, and without what stop() calls.
# Not of those that run and wait for a barrier, somewhere in libc.
frames()
{
    awk '
        function end() { if (title != "") print title ":" list; title = list = "" }
        /^Green [0-9]+ \(/ {
            end()
            title = $0 ~ /"/ ? $0 : "-"
            sub(/^[^"]*"/, "", title)
            sub(/".*/, "", title)
            if (title ~ /^main$|^holds/ && / RUNNING:$/) title = ""
            entered = 0
        }
        /^\[|^Ended/ { end() }
        !/^#/ || title == "" || entered { next }
        {
            name = $0
            sub(/^#[0-9]+ +(0x[0-9a-f]+ in )?/, "", name)
            sub(/ \(.*/, "", name)
            gsub(/\./, "__", name)
            sub(/__lto_priv.*/, "", name) # link-time optimization adds it
            if (name ~ /^green__arch_entry$|^<signal/) { name = "entry"; entered = 1 }
            if (name == "stop") list = ""
            if (name !~ /^green_|^enter$|^move$|^switch_by_all_rules$|_slowly$|^end_greens$|^\?\?$/)
                list = list " " name
            if (name ~ /^main$|^ending_thread$/) entered = 1
        }
        END { end() }' "$1"
}

# The rows of `info greens`: name, state, parent, and the function of "where".
rows()
{
    awk '
        / Num +Thread +Name/ { inside = 1; next }
        /^New and dead/      { inside = 0 }
        inside {
            sub(/^[* ] /, "")
            gsub(/one of many/, "one_of_many")
            gsub(/frees it/, "frees_it")
            gsub(/holds up/, "holds_up")
            if ($3 !~ /^(main|holds_up)$/ || $4 != "RUNNING")
                print $3, $4, $5, $6 == "-" ? $7 : $9
        }' "$1"
}

expected_frames='threads_own: wait_in_thread body entry
main: ending_thread
main: main
first: first body entry
second: second body entry
third: deepest third body entry
producer: produce body entry
consumer: consume body entry
fast: yield_fast body entry
thrower: throw_up body entry
-: one_of_many body entry
runs: stop stop_in_green body entry
frees it: free_it body entry'

if [ -n "${GREEN_GDB_STRIPPED:-}" ]; then
    expected_frames=$(echo "$expected_frames" | sed 's/ body entry/ entry/')
fi

# $1: where the one is that runs.
expected_rows()
{
    echo "threads_own SUSPENDED 1 wait_in_thread
main SUSPENDED - ending_thread
main SUSPENDED - main
first SUSPENDED 5 first
second SUSPENDED 6 second
third SUSPENDED 7 deepest
producer SUSPENDED 5 produce
consumer SUSPENDED 5 consume
fast SUSPENDED 5 yield_fast
thrower SUSPENDED 5 throw_up
- SUSPENDED 5 one_of_many
runs RUNNING 15 $1
frees_it SUSPENDED 5 free_it"
}

# The rows of `info tasks`: name, state, cancelled, for how long, the call and whose.
task_rows()
{
    awk '
        / Thread +Name +State +Cancelled/ { inside = 1; next }
        !/^[0-9-]+ +[0-9?]+ /             { inside = 0 }
        inside {
            sub(/ s /, " ")
            sub(/int, char/, "int,char")
            print $3, $4, $5, $6, $7, $7 == "-" ? "" : $(9 - ($8 == "from")) " " $(10 - ($8 == "from"))
        }' "$1" | sed 's/ *$//'
}

# $1: the state of the one that runs.
expected_task_rows="main WAITING no 1.500 green_task_join from main
sleeper WAITING no 1.750 green_sleep from sleep_long
getter WAITING no 1.750 green_queue_get from get
shielded WAITING yes 1.750 green_event_wait from wait_shielded
parent WAITING no 1.750 green_mutex_lock from tasks::lock(int,char*)
woken READY no 1.750 green_event_wait from be_woken
reader WAITING no 1.750 green_read from read_input
runs RUNNING no - -
new NEW no - -"
greens=$program
tasks=$(dirname "$program")/gdb_tasks

sanitized=$(nm "$program" 2> /dev/null | grep -E '__(asan|tsan|msan)_init')

"$GDB" --version > /dev/null 2>&1 || skip "there is no gdb"
run_gdb -ex 'python print("python works")' > "$dir/python"
grep -q '^python works' "$dir/python" || skip "gdb is built without Python"

# ---- A live process ------------------------------------------------------------

live "$@" -- -ex 'info greens' -ex 'green apply all bt' -ex 'echo Ended\n' \
    -ex 'green' -ex 'green 6' -ex 'print local_of_first' \
    -ex 'thread apply all bt 1' -ex 'green apply 7 9 bt 4' -ex 'green' \
    -ex 'green apply 7  9  echo three   blanks\n' \
    -ex 'show backtrace past-main' -ex 'stepi' -ex 'green' -ex 'green 6' -ex 'continue' \
    -ex 'show backtrace past-main' > "$dir/live"
grep -q 'Operation not permitted' "$dir/live" && skip "ptrace is not permitted"

same "live: info greens" "$(expected_rows stop)" "$(rows "$dir/live")"
same "live: green apply all bt" "$expected_frames" "$(sed '/^Ended/q' "$dir/live" | frames -)"
same "live: who is looked at: the running one, then who is chosen, until the program goes on" \
    'runs first first runs first' \
    "$(sed -n 's/^\[Green .*"\(.*\)"), thread 1,.*/\1/p' "$dir/live" | xargs)"
same "live: green apply leaves a command as it is" "three   blanks three   blanks" \
    "$(sed -n 's/^three .*/& /p' "$dir/live" | tr -d '\n' | sed 's/ $//')"
same "live: nobody is at address zero" "" "$(grep '^#.*0x0000000000000000 in' "$dir/live")"
if [ -n "$sanitized" ]; then
    echo "skipped: a suspended one's locals (gcc moves them, and forgets to say so)"
else
    has "live: a suspended one's locals" '^\$1 = 42$' "$dir/live"
fi
same "live: the frame that is shown called the switch" "first first" \
    "$(sed -n '/^\[Green 6 /{n;s/^#[0-9]* .*in \([a-z_]*\) (.*/\1/p}' "$dir/live" | xargs)"
has "live: who runs is told by a star" '^\* 14 +1 +runs ' "$dir/live"
has "live: what is not shown is said" '^New and dead greens are not shown' "$dir/live"
# Anywhere in a line: gdb tells of threads that end in the middle of it.
has "live: the program goes on as if nothing had been" 'ended as it should' "$dir/live"
has "live: to its end" '^\[Inferior 1 .* exited normally\]' "$dir/live"
same "live: gdb's settings are as they were" "on off" \
    "$(sed -n 's/^Whether backtraces should continue past "main" is \(.*\)\.$/\1/p' "$dir/live" \
        | xargs)"
same "live: nothing went wrong in the script" "" \
    "$(grep -E 'Traceback|Python Exception' "$dir/live")"

program=$tasks
live "$@" -- -ex 'info tasks' -ex 'green 1' -ex 'info tasks' -ex 'info greens' -ex continue \
    > "$dir/live_tasks"
program=$greens
same "live: info tasks, twice" "$expected_task_rows
$expected_task_rows" "$(task_rows "$dir/live_tasks")"
has "live: info greens says who called the hub" '^  4 +1 +getter .* get \(\)' "$dir/live_tasks"
has "live: descriptor 0 is one, too" ' green_read \(0\) from read_input' "$dir/live_tasks"
has "live: a program with tasks goes on" 'ended as it should' "$dir/live_tasks"
same "live: nothing went wrong with tasks" "" \
    "$(grep -E 'Traceback|Python Exception' "$dir/live_tasks")"

if [ $# -gt 0 ]; then
    [ $status = 0 ] || cat "$dir/live" "$dir/live_tasks"
    exit $status
fi

run_gdb -ex 'info greens' -ex 'break stop' -ex run -ex 'info greens foo' -ex 'green 99' "$program" \
    > "$dir/wrong"
has "a number that is none" '^There is no green 99; info greens has all' "$dir/wrong"

run_gdb -ex 'break stop' -ex run -ex 'green apply all' "$program" > "$dir/wrong"
has "a command that is missing" '^green apply all COMMAND, or' "$dir/wrong"

# ---- A core ----------------------------------------------------------------------

# make_core ARGUMENT...: the system's if it leaves one here, else gdb's; a sanitizer's shadow
# is too much for that.
make_core()
{
    rm -f "$dir"/core*
    core=$dir/core
    (
        cd "$dir" || exit
        ulimit -c unlimited 2> /dev/null
        "$program" "$@"
    ) > /dev/null 2>&1
    for file in "$dir"/core*; do
        [ -e "$file" ] && core=$file && from="the system"
    done
    if [ ! -e "$core" ] && [ -z "$sanitized" ]; then
        run_gdb -ex 'break stop' -ex "run $*" -ex "generate-core-file $core" "$program" \
            > "$dir/gcore"
        from=gdb
    fi
}

program=$tasks
make_core core
if [ -e "$core" ]; then
    run_gdb -ex 'info tasks' "$program" "$core" > "$dir/dead_tasks"
    same "core of $from: info tasks" "$expected_task_rows" "$(task_rows "$dir/dead_tasks")"
fi
program=$greens
make_core "$GREEN_GDB_MANY" core
if [ ! -e "$core" ]; then
    echo "skipped: a core (the system leaves none here, and gdb writes none with a sanitizer)"
elif [ "$GREEN_GDB_MANY" = 0 ]; then
    run_gdb -ex 'info greens' -ex 'green apply all bt' -ex 'echo Ended\n' -ex 'green 6' \
        -ex 'frame function first' -ex 'print local_of_first' "$program" "$core" > "$dir/dead"
    same "core of $from: info greens, but for who runs" "$(expected_rows '' | grep -v ^runs)" \
        "$(rows "$dir/dead" | grep -v ^runs)"
    same "core of $from: green apply all bt" "$expected_frames" \
        "$(sed '/^Ended/q' "$dir/dead" | frames -)"
    has "core of $from: a suspended one's locals" '^\$1 = 42$' "$dir/dead"
    same "core of $from: nothing went wrong in the script" "" \
        "$(grep -E 'Traceback|Python Exception' "$dir/dead")"
else
    begun=$(date +%s)
    run_gdb -ex 'info greens' "$program" "$core" > "$dir/dead"
    took=$(($(date +%s) - begun))
    same "core of $from: $GREEN_GDB_MANY more greens, each at its place" "$GREEN_GDB_MANY" \
        "$(rows "$dir/dead" | grep -c '^one_of_many SUSPENDED 5 one_of_many$')"
    if [ $took -le 30 ]; then
        echo "ok: in $took s"
    else
        failed "it took $took s"
    fi
fi
[ $status = 0 ] || tail -n 200 "$dir"/live* "$dir"/wrong "$dir"/dead* 2> /dev/null
exit $status
