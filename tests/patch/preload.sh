#!/bin/sh
# SPDX-License-Identifier: MIT
#
# usage: servers.sh "postgres redis mariadb nginx late sshd" preload.sh LIBGREEN_PATCH.SO [INTERPOSED...]
#
# Programs that know nothing of tasks say the same with the patch as without it.
. "$(dirname "$0")/../support/script.sh"
patch=$1
preload=$patch
count=0

# same COMMAND...: its output, its errors and its status do not change; it says something.
same()
{
    count=$((count + 1))
    plain=0 patched=0
    "$@" >"$dir/plain" 2>"$dir/plain.err" </dev/null || plain=$?
    LD_PRELOAD=$preload GREEN_PATCH=all "$@" >"$dir/patched" 2>"$dir/patched.err" \
        </dev/null || patched=$?
    if [ "$plain" = "$patched" ] && cmp -s "$dir/plain" "$dir/patched" &&
        cmp -s "$dir/plain.err" "$dir/patched.err" && [ -s "$dir/plain$err" ]; then
        echo "ok: $*" | cut -c 1-100
    else
        failed "$* (status $plain and $patched)"
        for file in plain patched plain.err patched.err; do
            echo "-- $file"
            head -c 1000 "$dir/$file"
        done
    fi
}
err=

# It is really there: a program that has it says so.
LD_PRELOAD=$preload GREEN_PATCH=all sh -c 'cat /proc/$$/maps' | grep -q "$(basename "$patch")" ||
    failed "LD_PRELOAD does not load $preload"

psql="$GREEN_POSTGRES_BIN/psql -X -h 127.0.0.1 -p $GREEN_POSTGRES_PORT -U green postgres"
redis="redis-cli -h 127.0.0.1 -p $GREEN_REDIS_PORT"
mariadb="mariadb --no-defaults -h 127.0.0.1 -P $GREEN_MARIADB_PORT -u green"
http=http://127.0.0.1

same $psql -c 'select 2 * 21 as answer, pg_sleep(0.2)'
same $psql -c 'select * from generate_series(1, 100000)'
same $psql -c 'select 1; select nonsense'
same $psql -c "copy (select repeat('x', 1000) from generate_series(1, 20000)) to stdout"
same $redis ping
same $redis blpop nothing 0.2
same $redis eval 'local t = {} for i = 1, 20000 do t[i] = i end return t' 0
same $mariadb -e 'select 2 * 21 as answer, sleep(0.2)'
same curl -s "$http:$GREEN_LATE_PORT/200/word"
same curl -s "$http:$GREEN_NGINX_PORT/big"
# Its progress says how fast it was.
same sh -c "curl -s -Z $http:$GREEN_LATE_PORT/1000/word $http:$GREEN_LATE_PORT/50/another 2>/dev/null"
same ssh -F none -p "$GREEN_SSHD_PORT" -i "$GREEN_SSHD_KEY" -o StrictHostKeyChecking=no \
    -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR "$GREEN_SSHD_USER@127.0.0.1" \
    'echo hello; sleep 0.2; seq 10000'
same getent ahosts localhost
err=.err
same $redis -p 1 ping
same $mariadb -e 'select nonsense'
same sh -c 'exec 3</dev/null; read -r line <&3 || echo end >&2; sleep 0.1'
[ $count = 16 ] || failed "$count programs"
exit $status
