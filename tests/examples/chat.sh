#!/bin/sh
# SPDX-License-Identifier: MIT
. "$(dirname "$0")/example.sh"
. "$(dirname "$0")/server.sh"
needs socat

# One of these holds the input of each client, so that the script can write to it: 4 to 7.
# join FD NAME ROOM: a client, what it hears in $dir/NAME.
join()
{
    mkfifo "$dir/in$1"
    timeout 100 socat -t 60 - "TCP:127.0.0.1:$port" <"$dir/in$1" >"$dir/$2" 2>"$dir/socat" &
    servers="$servers $!"
    eval "exec $1>\"\$dir/in$1\""
    printf '%s\n/join %s\n' "$2" "$3" >&"$1"
    check "$2 is there" hears "$2" "* $2 is in $3"
}

# hears NAME LINE
hears()
{
    until_true grep -qxF -e "$2" "$dir/$1"
}

hears_no()
{
    ! grep -F -e "$2" "$dir/$1"
}

start -p 0
join 4 Ann red
join 5 Bob red
join 6 Cid blue
check 'who was there hears of it' hears Ann '* Bob is in red'
echo 'hello, room' >&4
check 'what is said' hears Bob 'Ann: hello, room'
echo 'another room' >&6
echo /who >&6
check 'who is there' hears Cid '* Bob is in red'
echo '/join red' >&6
check 'one more' hears Bob '* Cid is in red'
check 'the other room has heard nothing' hears_no Bob 'another room'
check 'and has not been heard' hears_no Cid 'hello, room'
check 'nor does it come back' hears_no Ann 'Ann: hello'
echo 'Ann' | timeout 60 socat -t 60 - "TCP:127.0.0.1:$port" >"$dir/second"
check 'a name that is taken' grep 'it is taken' "$dir/second"

# One who never reads; what is in the system's buffers must be filled first.
mkfifo "$dir/in7"
timeout 100 socat -u - "TCP:127.0.0.1:$port,rcvbuf=2048" <"$dir/in7" >"$dir/Dan" 2>"$dir/socat" &
servers="$servers $!"
exec 7>"$dir/in7"
printf 'Dan\n/join red\n' >&7
check 'one who never reads' hears Bob '* Dan is in red'
line=$(printf '%0500d' 7)
flood()
{
    for i in $(seq 100); do
        for j in $(seq 200); do
            echo "$line"
        done >&4
        ! grep -qxF '* Dan was too slow' "$dir/Bob" || return 0
    done
    hears Bob '* Dan was too slow'
}
check 'is dropped' flood
echo 'after all' >&4
check 'and the others go on' hears Cid 'Ann: after all'
check 'both of them' hears Bob 'Ann: after all'

{ echo Eve; yes no end | tr -d '\n' | head -c 3000000; } |
    timeout 60 socat -t 60 - "TCP:127.0.0.1:$port" >"$dir/Eve" 2>"$dir/socat"
check 'a line without end' hears Eve '* this line is too long: goodbye'
echo /quit >&6
check 'who quits' hears Cid '* goodbye'
check 'is missed' hears Bob '* Cid has left'
stop INT
check 'it ends well' ends_well
check 'the first is told' hears Ann '* the server ends: goodbye'
check 'the second is told' hears Bob '* the server ends: goodbye'
exec 4>&- 5>&- 6>&-

start -p 0 -t 1
timeout 60 socat -u "TCP:127.0.0.1:$port" - >"$dir/told" 2>"$dir/socat" || true
check 'who says nothing is told, and left' grep -x '\* you say nothing: goodbye' "$dir/told"
stop TERM
check 'SIGTERM does the same' test "$result" = 0
for bad in '-n 0' '-t x' '-x' 'file'; do
    run $bad
    check "'$bad' is refused" refuses 2 usage
done
exit $status
