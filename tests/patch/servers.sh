#!/bin/sh
# SPDX-License-Identifier: MIT
#
# usage: servers.sh "SERVER..." COMMAND [ARGUMENT...]
#
# Runs COMMAND while these serve on 127.0.0.1, each on a free port, with its data in a
# directory of its own: postgres, redis, mariadb, nginx, sshd, and late, which is
# $GREEN_LATE_SERVER.  COMMAND finds their ports in GREEN_POSTGRES_PORT and so on.  A server
# that is killed is started again, on the same port.  At the end all are stopped, and what
# they wrote is shown if COMMAND failed.
#
# 77, with the reason, if one of them is not installed.
#
# Each server, and the loop that starts it, is told to end by the kernel when its parent has
# ended, however.  Where the caller is root the servers are nobody's, but for sshd.
set -u
LC_ALL=C PATH=$PATH:/usr/sbin:/sbin
export LC_ALL PATH

# servers.sh --keep FILE COMMAND...: the loop.
if [ "$1" = --keep ]; then
    file=$2
    shift 2
    trap 'kill "$server" 2>/dev/null; exit 0' TERM
    while :; do
        "$@" &
        server=$!
        echo "$server" >"$file"
        wait "$server"
        sleep 0.05
    done
fi

names=$1
shift
dir=$(mktemp -d "${TMPDIR:-/tmp}/green.XXXXXX") || exit
chmod 755 "$dir"
self=$(cd "$(dirname "$0")" && pwd)/$(basename "$0")
keepers=

# Whether the process of that file lives; what has ended may wait long for its init.
lives()
{
    grep -qs '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$(cat "$1")/status"
}

stop()
{
    # First the loops, lest they start another, then what they started.
    for keeper in $keepers; do
        kill -KILL "$keeper" 2>/dev/null
    done
    for file in "$dir"/*.pid; do
        [ ! -e "$file" ] || kill -"$(cat "${file%.pid}.end")" "$(cat "$file")" 2>/dev/null
    done
    for file in "$dir"/*.pid; do
        tries=0
        while [ -e "$file" ] && lives "$file" && [ $tries -lt 300 ]; do
            tries=$((tries + 1))
            [ $tries -lt 200 ] || kill -KILL "$(cat "$file")" 2>/dev/null
            sleep 0.05
        done
    done
    rm -rf "$dir"
}
trap stop EXIT
trap 'exit 1' INT TERM HUP

skip()
{
    echo "skipped: $*"
    exit 77
}

needs()
{
    for tool in "$@"; do
        command -v "$tool" >/dev/null || skip "$tool is not installed"
    done
}

if [ "$(id -u)" = 0 ]; then
    as='setpriv --reuid=nobody --regid=nogroup --clear-groups'
    user=nobody
else
    as=
    user=$(id -un)
fi
needs setpriv

# One that nobody listens on or is connected from.
free_port()
{
    awk -v seed="$$$1" 'BEGIN { srand(seed) }
        FNR > 1 { split($2, at, ":"); used[at[2]] = 1 }
        END {
            do port = 20000 + int(rand() * 12000); while (sprintf("%04X", port) in used)
            print port
        }' /proc/net/tcp /proc/net/tcp6 2>/dev/null
}

# keep NAME SIGNAL COMMAND...: from now on; the signal ends it.
keep()
{
    name=$1
    echo "$2" >"$dir/$name.end"
    signal=$2
    shift 2
    setpriv --pdeathsig TERM sh "$self" --keep "$dir/$name.pid" \
        "$@" >>"$dir/$name.log" 2>&1 </dev/null 9>&- &
    keepers="$keepers $!"
}

# answers NAME COMMAND...: waits until COMMAND succeeds.
answers()
{
    name=$1
    shift
    tries=0
    until "$@" >"$dir/answer" 2>&1; do
        tries=$((tries + 1))
        if [ $tries -ge 1200 ]; then
            echo "$name does not answer"
            tail -n 50 "$dir/answer" "$dir/$name.log"
            exit 1
        fi
        sleep 0.05
    done
}

# data NAME: its directory, with the right owner.
data()
{
    mkdir -p "$dir/$1"
    [ -z "$as" ] || chown nobody:nogroup "$dir/$1"
    printf '%s\n' "$dir/$1"
}

# must COMMAND...: it succeeds, or the script ends.
must()
{
    "$@" >"$dir/made" 2>&1 || { echo "failed: $*"; cat "$dir/made"; exit 1; }
}

# ---- The servers -----------------------------------------------------------------

serve_postgres()
{
    bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
    [ -x "$bin/postgres" ] || skip "PostgreSQL is not installed"
    port=$(free_port 1)
    data=$(data postgres)
    must $as "$bin/initdb" -D "$data/db" -U green -A trust --no-sync --no-locale -E UTF8
    keep postgres QUIT setpriv --pdeathsig QUIT $as "$bin/postgres" -D "$data/db" -p "$port" \
        -c listen_addresses=127.0.0.1 -c unix_socket_directories="$data" -c fsync=off \
        -c max_connections=60 -c shared_buffers=16MB -c max_wal_size=512MB
    answers postgres "$bin/pg_isready" -h 127.0.0.1 -p "$port"
    export GREEN_POSTGRES_PORT="$port" GREEN_POSTGRES_BIN="$bin"
}

serve_redis()
{
    needs redis-server redis-cli
    port=$(free_port 2)
    data=$(data redis)
    keep redis TERM setpriv --pdeathsig TERM $as redis-server --bind 127.0.0.1 --port "$port" \
        --dir "$data" --unixsocket "$data/socket" --unixsocketperm 777 --save '' \
        --appendonly no --enable-debug-command yes
    answers redis redis-cli -h 127.0.0.1 -p "$port" ping
    export GREEN_REDIS_PORT="$port" GREEN_REDIS_SOCKET="$data/socket"
}

serve_mariadb()
{
    needs mariadbd mariadb-install-db mariadb-admin
    port=$(free_port 3)
    data=$(data mariadb)
    must $as mariadb-install-db --no-defaults --datadir="$data/db" --skip-test-db \
        --auth-root-authentication-method=normal
    cat >"$dir/mariadb.sql" <<END
CREATE USER IF NOT EXISTS 'green'@'127.0.0.1';
GRANT ALL ON *.* TO 'green'@'127.0.0.1';
END
    keep mariadb TERM setpriv --pdeathsig TERM $as mariadbd --no-defaults --datadir="$data/db" \
        --bind-address=127.0.0.1 --port="$port" --socket="$data/socket" \
        --pid-file="$data/pid" --max-allowed-packet=256M --skip-name-resolve \
        --innodb-flush-log-at-trx-commit=0 --innodb-log-file-size=16M \
        --init-file="$dir/mariadb.sql"
    answers mariadb mariadb-admin --no-defaults -h 127.0.0.1 -P "$port" -u green ping
    # ping succeeds too if access is denied
    answers mariadb mariadb-admin --no-defaults -h 127.0.0.1 -P "$port" -u green status
    export GREEN_MARIADB_PORT="$port"
}

serve_nginx()
{
    needs nginx curl
    port=$(free_port 4)
    data=$(data nginx)
    mkdir "$data/www"
    echo hello >"$data/www/small"
    # 64 MB of which every block is another.
    awk 'BEGIN { for (i = 0; i < 4194304; i++) printf "%015d\n", i }' >"$data/www/big"
    cat >"$dir/nginx.conf" <<END
daemon off;
worker_processes 1;
pid $data/pid;
error_log $data/error.log;
events { worker_connections 256; }
http {
    access_log off;
    keepalive_requests 1000000;
    client_body_temp_path $data/body;
    proxy_temp_path $data/proxy;
    fastcgi_temp_path $data/fastcgi;
    uwsgi_temp_path $data/uwsgi;
    scgi_temp_path $data/scgi;
    server { listen 127.0.0.1:$port; root $data/www; }
}
END
    keep nginx TERM setpriv --pdeathsig TERM $as nginx -c "$dir/nginx.conf" -p "$data" \
        -e "$data/error.log"
    answers nginx curl -sS "http://127.0.0.1:$port/small"
    export GREEN_NGINX_PORT="$port"
}

serve_late()
{
    needs curl
    port=$(free_port 5)
    keep late TERM setpriv --pdeathsig TERM $as "$GREEN_LATE_SERVER" "$port"
    answers late curl -sS "http://127.0.0.1:$port/0/hello"
    export GREEN_LATE_PORT="$port"
}

serve_sshd()
{
    needs sshd ssh-keygen
    sshd=$(command -v sshd)
    port=$(free_port 6)
    mkdir "$dir/sshd"
    # Where it changes its root to, before the log-in.
    [ "$(id -u)" != 0 ] || mkdir -p -m 755 /run/sshd
    for key in host client; do
        must ssh-keygen -q -t rsa -b 2048 -m PEM -N '' -f "$dir/sshd/$key"
    done
    cp "$dir/sshd/client.pub" "$dir/sshd/authorized"
    cat >"$dir/sshd/config" <<END
ListenAddress 127.0.0.1
Port $port
HostKey $dir/sshd/host
AuthorizedKeysFile $dir/sshd/authorized
PidFile none
PermitRootLogin prohibit-password
PasswordAuthentication no
StrictModes no
UsePAM no
UseDNS no
PrintMotd no
PrintLastLog no
MaxStartups 100
MaxSessions 100
Subsystem sftp internal-sftp
PubkeyAcceptedAlgorithms +ssh-rsa
HostKeyAlgorithms +ssh-rsa
END
    keep sshd TERM setpriv --pdeathsig TERM "$sshd" -D -e -f "$dir/sshd/config"
    answers sshd grep -q 'Server listening' "$dir/sshd.log"
    export GREEN_SSHD_PORT="$port" GREEN_SSHD_KEY="$dir/sshd/client" GREEN_SSHD_USER="$(id -un)"
}

for name in $names; do
    "serve_$name"
done

result=0
"$@" || result=$?
if [ $result != 0 ] && [ $result != 77 ]; then
    for name in $names; do
        echo "---- what $name wrote ----"
        tail -n 30 "$dir/$name.log"
    done
fi
exit $result
