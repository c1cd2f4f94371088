#!/bin/sh
# SPDX-License-Identifier: MIT
#
# What green_fast.h leaves in a program besides code.
#
#     fast.sh LIBRARY [LAUNCHER...]
#
# CC (with flags) comes from the environment.
. "$(dirname "$0")/../support/script.sh"
: "${CC:=cc}"

library=$1
shift
include=$root/include

result()
{
    if [ "$1" = 0 ]; then
        echo "ok: $2"
    else
        failed "$2"
        cat "$dir/out"
    fi
}

link()
{
    $CC -I"$include" "$@" "$library" -Wl,-rpath,"$(dirname "$library")" -pthread \
        -o "$dir/program" > "$dir/out" 2>&1
}

# The header of a library that is laid out in another way.
mkdir "$dir/other"
sed 's/green_private_abi_1/green_private_abi_0/' "$include/green_fast.h" > "$dir/other/green_fast.h"
cp "$include/green.h" "$dir/other"

cat > "$dir/uses.c" << 'END'
#include <green_fast.h>
static void *run(void *value) { return green_yield_fast(value); }
int main(void)
{
    green_t *g = green_new(run, NULL);
    int value;
    return green_switch_fast(g, &value) != &value || green_free(g) != 0;
}
END
cat > "$dir/no_more.c" << 'END'
#include <green_fast.h>
int main(void) { return 0; }
END
cat > "$dir/yields.c" << 'END'
#include <green_fast.h>
int main(void) { return green_yield_fast(NULL) != GREEN_FAILED; }
END

for flags in -O0 -O2 "-O2 -flto" "-O2 -fPIC" \
    "-O2 -ffunction-sections -fdata-sections -Wl,--gc-sections"; do
    link $flags "$dir/uses.c" && "$@" "$dir/program" >> "$dir/out" 2>&1
    result $? "a program with its library's header runs: $flags"

    for uses in uses yields; do
        ! $CC -I"$dir/other" $flags "$dir/$uses.c" "$library" -pthread \
            -o "$dir/program" > "$dir/out" 2>&1 \
            && grep -q green_private_abi_0 "$dir/out"
        result $? "one with another library's does not link: $flags"
    done

    $CC -I"$dir/other" $flags -Wall -Wextra -Werror "$dir/no_more.c" "$library" -pthread \
        -o "$dir/program" > "$dir/out" 2>&1
    result $? "one that does not use it does, and without a warning: $flags"
done

# Where the CPU has no switch in it: this machine's compiler asked for 32 bits, say.
cat > "$dir/calls.c" << 'END'
#include <green_fast.h>
void *switch_to(green_t *g) { return green_switch_fast(g, NULL); }
void *yield_to_parent(void) { return green_yield_fast(NULL); }
END
bits="-m32 -ffreestanding -fno-lto"
if [ "$(uname -m)" = x86_64 ] && echo | $CC $bits -c -x c - -o "$dir/none.o" 2> "$dir/out"; then
    $CC $bits -O2 -Wall -Wextra -Werror -I"$include" -c "$dir/calls.c" -o "$dir/calls.o" \
        > "$dir/out" 2>&1 && nm "$dir/calls.o" | awk '$1 == "U"' > "$dir/out" &&
        [ "$(grep -cE 'green_(switch|yield)$' "$dir/out")" = 2 ] &&
        ! grep -q green_private "$dir/out"
    result $? "without a port of its own it is two calls"
else
    echo "fast: skipped: the compiler has no CPU without a port"
fi

case $library in
    *.so*)
        # It was linked with the library of its header, and finds this one.
        cat > "$dir/other.c" << 'END'
__thread void *green_private_abi_0;
void green_new(void) {}
void green_free(void) {}
void green_switch(void) {}
void green_yield(void) {}
END
        mkdir "$dir/lib"
        $CC -shared -fPIC -Wl,-soname,libgreen.so.0 "$dir/other.c" -o "$dir/lib/libgreen.so" &&
            $CC -I"$dir/other" -O2 "$dir/uses.c" "$dir/lib/libgreen.so" \
                -Wl,-rpath,"$(dirname "$library")" -o "$dir/program" > "$dir/out" 2>&1 &&
            ! "$@" "$dir/program" > "$dir/out" 2>&1 && grep -q 'green_private_abi_0' "$dir/out"
        result $? "one with another library's does not start"
        ;;
esac
exit $status
