#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The unwinder and the C++ runtime are found wherever a program has them: shared,
# linked statically and hidden, in a plugin, loaded late.  And of several copies of the
# library in a process each serves its own whole.
#
#     runtimes.sh DIRECTORY SOURCE...
#
# The sources are the library's: it is built here, shared and static, in DIRECTORY.
# CC, CXX and AR come from the environment, and what else the library's objects are to be
# compiled with, in CFLAGS.
set -u
LC_ALL=C
export LC_ALL
: "${CC:=cc}" "${CXX:=c++}" "${AR:=ar}"

built=$(dirname "$0")
root=$built/../..
dir=$1
shift
rm -rf "$dir"
mkdir -p "$dir" || exit
status=0

result()
{
    if [ "$1" = 0 ]; then
        echo "ok: $2"
    else
        echo "FAILED: $2"
        cat "$dir/out"
        status=1
    fi
}

# program NAME COMPILER... : builds it and runs it.
program()
{
    name=$1
    shift
    "$@" -I"$root/include" -Wl,-rpath,"$dir" -pthread -o "$dir/program" > "$dir/out" 2>&1 &&
        [ ! -s "$dir/out" ] && "$dir/program" > "$dir/out" 2>&1
    result $? "$name"
}

# plugin FILE COMPILER...
plugin()
{
    file=$1
    shift
    $CXX -O2 -shared -fPIC -I"$root/include" "$built/runtime.cpp" "$@" -Wl,-rpath,"$dir" \
        -pthread -o "$dir/$file" > "$dir/out" 2>&1 || result 1 "$file is built"
}

# objects KIND SOURCE...: of the library, as it is built for that.
objects()
{
    kind=$1
    shift
    mkdir "$dir/$kind"
    for source; do
        # shellcheck disable=SC2086
        $CC -c -O1 ${CFLAGS:-} -fPIC -fvisibility=hidden "-DGREEN_$kind" -I"$root/include" -I"$root/src" \
            "$source" -o "$dir/$kind/$(echo "$source" | tr -c 'A-Za-z0-9\n' _).o" || exit
    done
}

objects SHARED "$@"
$CC -shared "$dir"/SHARED/*.o -Wl,--version-script,"$root/cmake/green.map" -Wl,-z,nodelete \
    -Wl,-soname,libgreen.so -pthread -o "$dir/libgreen.so" || exit
objects STATIC "$@"
"$AR" rcs "$dir/libgreen.a" "$dir"/STATIC/*.o
objects EITHER "$@" # as the amalgamation is

so=$dir/libgreen.so
a=$dir/libgreen.a
hidden="-static-libstdc++ -static-libgcc -Wl,--exclude-libs,ALL"
cxx="$CXX -O2 -DPROGRAM $built/runtime.cpp"
c="$CC -O1 -fexceptions $built/runtime.c"
# shellcheck disable=SC2086
{
program "C++, shared runtime" $cxx "$so"
program "C++, static runtime" $cxx -static-libstdc++ -static-libgcc "$so"
program "C++, static runtime, hidden" $cxx $hidden "$so"
program "C++, static libgreen" $cxx "$a"
program "C++, all static" $cxx -static "$a"
program "C with -fexceptions" $c "$so"
program "C with -fexceptions, static unwinder" $c -static-libgcc "$so"
program "C with -fexceptions, static libgreen" $c "$a"
program "C with -fexceptions, all static" $c -static "$a"

plugin shared.so "$so"
plugin hidden.so $hidden "$so"
plugin untold.so -DGREEN_PRIVATE_LIBRARY "$so" # nothing of green.h is in it: it is looked for
plugin static.so "$a" -Wl,-z,nodelete
plugin all_static.so $hidden "$a" -Wl,-z,nodelete
}

$CC "$built/runtime_host.c" -pthread -ldl -o "$dir/host"
$CC "$built/runtime_host.c" -Wl,--no-as-needed "$so" -Wl,-rpath,"$dir" -pthread -ldl \
    -o "$dir/host_linked"
$CC -DUSES_GREEN -I"$root/include" "$built/runtime_host.c" "$so" -Wl,-rpath,"$dir" -pthread -ldl \
    -o "$dir/host_using"
$CC -DNAMES_RUNTIME -rdynamic "$built/runtime_host.c" -Wl,--no-as-needed "$so" \
    -Wl,-rpath,"$dir" -pthread -ldl -o "$dir/host_naming"
$CC -DUSES_GREEN -DNAMES_RUNTIME -rdynamic -I"$root/include" "$built/runtime_host.c" "$so" \
    -Wl,-rpath,"$dir" -pthread -ldl -o "$dir/host_using_naming"
for host in host host_linked host_using host_naming host_using_naming; do
    for plugin in shared hidden untold static all_static; do
        case $host$plugin in
        host_using*static) continue ;; # it has greens of its own, and the host waits in others
        host_using*untold) continue ;;  # looked for at a first use, which was before
        esac
        "$dir/$host" "$dir/$plugin.so" > "$dir/out" 2>&1
        result $? "$host loads a plugin, $plugin"
    done
done

# Two of C that name what they have not, before one that has it.
for named in named named_2; do
    $CC -O1 -shared -fPIC "$built/runtime_named.c" -o "$dir/$named.so" || exit
done
$CC -O1 -shared -fPIC -I"$root/include" "$built/runtime_fake.c" "$so" -Wl,-rpath,"$dir" \
    -o "$dir/fake.so" || exit
for host in host host_linked; do
    for plugin in untold fake; do
        "$dir/$host" "$dir/named.so" "$dir/named_2.so" "$dir/$plugin.so" > "$dir/out" 2>&1
        result $? "$host loads plugins that name a runtime, then one that has it, $plugin"
    done
done

# A program without any of both: an unwinder is loaded, a runtime that has come is found.
exits="$CC -O1 -I$root/include $built/runtime_exit.c $so -Wl,-rpath,$dir -ldl"
# shellcheck disable=SC2086
$exits -o "$dir/exits" || exit
# shellcheck disable=SC2086
$exits -DNAMES_UNWINDER -rdynamic -o "$dir/exits_naming" || exit
# What a plugin has told of stays when the plugin is let go.
for kind in shared static; do
    # shellcheck disable=SC2086
    $CC -O1 -shared -fPIC -fexceptions -$kind-libgcc -Wl,--exclude-libs,ALL -I"$root/include" \
        "$built/runtime.c" -o "$dir/tells_$kind.so" || exit
done
for program in exits exits_naming; do
    for kind in shared static; do
        "$dir/$program" -u "$dir/tells_$kind.so" > "$dir/out" 2>&1
        result $? "$program: an unwinder that a plugin told of stays, $kind"
    done
    "$dir/$program" > "$dir/out" 2>&1
    result $? "$program: an unwinder is loaded for green_exit()"
    "$dir/$program" -l > "$dir/out" 2>&1
    result $? "$program: one that was loaded stays"
    "$dir/$program" "$dir/fake.so" > "$dir/out" 2>&1
    result $? "$program: green_exit() looks for a runtime that has come"
done

# ---- Several copies -----------------------------------------------------------

# copy FILE COMPILER...: a plugin in C that counts its greens.
copy()
{
    file=$1
    shift
    $CC -O1 -shared -fPIC -I"$root/include" "$built/copies_plugin.c" "$@" -Wl,-rpath,"$dir" \
        -Wl,-z,nodelete -pthread -o "$dir/$file" > "$dir/out" 2>&1 || result 1 "$file is built"
}

copy with_static.so "$a"
copy with_static_2.so "$a"
copy with_shared.so "$so"
copy with_parts.so "$dir"/EITHER/*.o
copy with_parts_2.so "$dir"/EITHER/*.o
for of in "$a" "$dir/EITHER/*.o" "$so"; do
    # shellcheck disable=SC2086
    $CC -I"$root/include" "$built/copies_host.c" $of -rdynamic -Wl,-rpath,"$dir" -pthread -ldl \
        -o "$dir/copies" || exit
    for plugins in "with_static with_static_2" "with_parts with_parts_2" "with_shared with_static" \
        "with_parts with_shared" "with_static with_parts"; do
        # shellcheck disable=SC2086
        set -- $plugins
        "$dir/copies" "$dir/$1.so" "$dir/$2.so" > "$dir/out" 2>&1
        result $? "a program with ${of##*/} loads plugins: $plugins"
    done
done
exit $status
