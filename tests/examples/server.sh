# SPDX-License-Identifier: MIT
#
# What the tests of the servers share; each reads this file after example.sh.  A test
# that its peers are missing for is skipped.
# They are ended by SIGTERM, which timeout hands on; what it starts would outlive it else.
# Without --foreground it sends SIGCONT as well, which takes away the SIGSTOP by which
# LeakSanitizer stops the process that it looks at: it would wait for ever.
servers=
trap 'for one in $servers; do kill "$one" 2>"$dir/gone"; done; rm -rf "$dir"' EXIT

# needs TOOL...: or skips the test.
needs()
{
    for tool in "$@"; do
        command -v "$tool" >"$dir/found" || { echo "skipped: no $tool"; exit 77; }
    done
}

# start ARGUMENT...: the program as $server, which listens on $port; it may take two minutes.
start()
{
    ran="$*"
    port= result=
    : >"$dir/out"
    timeout --foreground -k 60 120 $launcher "$program" "$@" >"$dir/out" 2>"$dir/err" &
    server=$!
    servers="$servers $server"
    until port=$(sed -n 's/.*listens on port \([0-9]*\)$/\1/p' "$dir/out") && [ -n "$port" ]; do
        if ! kill -0 "$server" 2>"$dir/gone"; then
            failed "$* does not listen"
            cat "$dir/err"
            exit 1
        fi
        sleep 0.02
    done
}

# stop SIGNAL: leaves $result.
stop()
{
    kill -"$1" "$server"
    result=0
    wait "$server" || result=$?
}

# until_true COMMAND...: within a minute.
until_true()
{
    tries=0
    until "$@" >"$dir/tried" 2>&1; do
        tries=$((tries + 1))
        [ $tries -lt 600 ] || return 1
        sleep 0.1
    done
}
