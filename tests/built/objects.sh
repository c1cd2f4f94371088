#!/bin/sh
# SPDX-License-Identifier: MIT
#
# What a built library must look like from outside.
#
#     objects.sh LIBRARY PROGRAM OBJECT...
#
# PROGRAM is any that is linked with LIBRARY, the OBJECTs are what LIBRARY is
# made of.  CC (with flags), NM and READELF come from the environment.  Objects
# for link-time optimization are passed over: they are not code yet.
#
# A check prints what is wrong, and nothing if all is well.  That each can do
# so is shown first, on an object with every fault there is.
. "$(dirname "$0")/../support/script.sh"
: "${CC:=cc}" "${NM:=nm}" "${READELF:=readelf}"

library=$1
program=$2
shift 2
case $library in # as src/visible.h says
    *.so*) visibility=DEFAULT ;;
    *) visibility=HIDDEN ;;
esac
include=$root/include
header=$include/green_hub.h # which has green.h in it
map=$root/cmake/green.map

# good WHAT CHECK ARGUMENT...: the check finds nothing.
good()
{
    what=$1
    shift
    found=$("$@" 2>&1)
    if [ -z "$found" ]; then
        echo "ok: $what"
    else
        failed "$what"
        echo "$found"
    fi
}

# bad CHECK ARGUMENT...: it finds something.
bad()
{
    if [ -n "$("$@" 2>&1)" ]; then
        echo "ok: $1 finds what is wrong"
    else
        failed "$1 does not find what is wrong"
    fi
}

# ---- The checks --------------------------------------------------------------

# An object says that it needs no executable stack.
object_stack()
{
    for file; do
        "$READELF" -SW "$file" | sed 's/^ *\[[ 0-9]*\] *//' | awk -v file="$file" '
            $1 == ".note.GNU-stack" {
                seen = 1
                if (NF == 10 && $7 ~ /X/) print file ": executable stack"
            }
            END { if (!seen) print file ": no .note.GNU-stack" }'
    done
}

# A linked file gets no executable stack.
linked_stack()
{
    for file; do
        "$READELF" -lW "$file" | awk -v file="$file" '
            $1 == "GNU_STACK" { seen = 1; if ($0 !~ / RW /) print file ": " $0 }
            END               { if (!seen) print file ": no GNU_STACK" }'
    done
}

# The features a file claims in its property note: "IBT, SHSTK", "BTI, PAC".
features()
{
    "$READELF" -nW "$1" 2>&1 \
        | sed -n -e 's/.*[86h4] feature: *//p' -e '/orrupt/p' -e '/arning/p' -e '/rror/p'
}

# claims FEATURES FILE: it claims exactly these.
claims()
{
    found=$(features "$2")
    [ "$found" = "$1" ] || echo "$2 claims '$found', true is '$1'"
}

# Linked together, the files do.
claim_together()
{
    claimed=$1
    shift
    $CC -r -nostdlib "$@" -o "$dir/all.o" && claims "$claimed" "$dir/all.o"
}

# A linked file does not claim to work with shadow stacks.
no_shadow_stack()
{
    for file; do
        case $(features "$file") in
            *SHSTK*) echo "$file claims SHSTK" ;;
        esac
    done
}

# Names beginning with green__ and bounds of sections are hidden, all other global ones are green_*;
# of these what gdb looks for is visible.
symbols()
{
    for file; do
        "$NM" -g --defined-only "$file" | awk -v file="$file" '
            NF == 3 && $3 !~ /^(__odr_asan[.])?green_/ { print file ": global " $3 }'
        "$READELF" -sW "$file" | awk -v file="$file" -v wanted="$visibility" '
            $8 ~ /^__st(art|op)_/ && $6 != "HIDDEN" { print file ": " $8 " is " $6 }
            $5 == "LOCAL" || $7 == "UND"           { next }
            $8 ~ /^green__/ && $6 != "HIDDEN"      { print file ": " $8 " is " $6 }
            $8 ~ /^green_private_(debug|hub)_/ && $6 == "DEFAULT" { next }
            $8 ~ /^green_[^_]/ && $6 != wanted     { print file ": " $8 " is " $6 }'
    done
}

# The functions that green_hub.h and green.h declare, and what green_fast.h and gdb's script name.
declared()
{
    {
        $CC -E -P -I"$include" -x c "$header" | tr '\n' ' ' | tr ';' '\n' | grep -v typedef \
            | grep -o '\bgreen_[a-z_0-9]*(' | tr -d '(' | grep -v '^green_private_'
        sed -n 's/^void \(green_private_[a-z0-9_]*\)(.*/\1/p' "$include/green.h"
        sed -n 's/^extern .* __asm__("\(green_private_[a-z0-9_]*\)").*/\1/p' "$include/green_fast.h"
        sed -n 's/^[A-Z_]*TABLE = "\(.*\)"/\1/p' "$root/src/gdb/green-gdb.py"
    } | sort -u
}

# defined_is_declared NM-OPTION FILE...: all that the headers name is there, and no more.
defined_is_declared()
{
    option=$1
    shift
    "$NM" "$option" --defined-only "$@" \
        | awk 'NF == 3 && $2 != "A" { sub(/@.*/, "", $3); print $3 }' \
        | grep -Ev '^(__odr_asan[.]green_|green__)' \
        | sort -u > "$dir/defined"
    declared > "$dir/declared"
    [ -s "$dir/declared" ] || echo "$header declares nothing"
    diff "$dir/declared" "$dir/defined" \
        | sed -n -e 's/^< /declared but not defined: /p' -e 's/^> /defined but not declared: /p'
}

# What the version script exports, "NAME@@VERSION" a line.
mapped()
{
    awk '$2 == "{" { version = $1 }
        $1 ~ /^green_.*;$/ { sub(/;/, "@@" version, $1); print $1 }' "$map" | sort
}

# The version script lists all that the headers name, and no more.
map_is_declared()
{
    declared > "$dir/declared"
    mapped | sed 's/@.*//' | diff "$dir/declared" - \
        | sed -n -e "s|^< \(.*\)|$map lacks \1|p" -e "s|^> \(.*\)|only in $map: \1|p"
}

# A library exports all that the version script lists, as of that version, and no more.
exports_are_mapped()
{
    mapped > "$dir/mapped"
    "$READELF" --dyn-syms -W "$1" \
        | awk '$5 == "GLOBAL" && $7 ~ /^[0-9]+$/ { print $8 }' | sort | diff "$dir/mapped" - \
        | sed -n -e 's/^< /not exported: /p' -e 's/^> /exported: /p'
}

# The dynamic section has a line that matches.
dynamic()
{
    "$READELF" -dW "$2" | grep -q "$1" || echo "$2: no $1"
}

no_private_dynamic_symbol()
{
    "$NM" -D --defined-only "$1" | grep green__
}

# ---- An object with every fault ----------------------------------------------

cat > "$dir/bad.S" << 'END'
        .text
        .globl  leak, green__leak
leak:
green__leak:
        ret
        .section .note.gnu.property, "a", %note
        .balign 8
        .long   4, 16, 5
        .asciz  "GNU"
#ifdef __x86_64__
        .long   0xc0000002, 4, 2, 0
#else
        .long   0xc0000000, 4, 4, 0
#endif
END
cat > "$dir/main.c" << 'END'
int main(void) { return 0; }
END
if $CC -c "$dir/bad.S" -o "$dir/bad.o" && $CC -shared -nostdlib "$dir/bad.o" -o "$dir/bad.so" \
    2> "$dir/warnings"; then
    bad object_stack "$dir/bad.o"
    bad linked_stack "$dir/bad.so"
    bad claims "" "$dir/bad.o"
    case $(features "$dir/bad.o") in
        SHSTK) bad no_shadow_stack "$dir/bad.so" ;;
    esac
    bad symbols "$dir/bad.o"
    bad defined_is_declared -g "$dir/bad.o"
    (
        sed 's/green_new;/green_old;/' "$map" > "$dir/bad.map"
        map=$dir/bad.map
        bad map_is_declared
        exit $status
    ) || status=1
    bad exports_are_mapped "$dir/bad.so"
    bad dynamic 'SONAME.*\[libgreen\.so\.0\]' "$dir/bad.so"
    bad no_private_dynamic_symbol "$dir/bad.so"
else
    cat "$dir/warnings"
    failed "$CC makes no bad object"
fi

# ---- What we have ------------------------------------------------------------

is_for_lto()
{
    ! "$READELF" -h "$1" 2>&1 | grep -q 'Magic: *7f 45 4c 46' \
        || "$READELF" -SW "$1" | grep -q '\.gnu\.lto_'
}

lto=
assembled=
for object; do
    shift
    if is_for_lto "$object"; then
        lto=yes
    else
        set -- "$@" "$object"
        case $object in *.S.*) assembled=$object ;; esac
    fi
done

# What the compiler was told, less shadow stacks.
features=$($CC -dM -E -x c /dev/null | awk '
    $2 == "__CET__" && $3 % 2                { list = list ", IBT" }
    $2 == "__ARM_FEATURE_BTI_DEFAULT" && $3  { list = "BTI" list }
    $2 == "__ARM_FEATURE_PAC_DEFAULT" && $3  { list = list ", PAC" }
    END                                      { sub(/^, /, "", list); print list }')

good "the version script lists what the headers declare, no more" map_is_declared
good "no object needs an executable stack" object_stack "$@"
good "no linked file has one" linked_stack "$program"
good "the assembled object claims exactly: ${features:-nothing}" claims "$features" "$assembled"
good "the program does not claim shadow stacks" no_shadow_stack "$program"
good "the objects' symbols are green_*, or green__* and hidden" symbols "$@"

if [ -n "$lto" ]; then
    echo "passed over: objects for link-time optimization"
else
    good "all objects together claim exactly: ${features:-nothing}" claim_together "$features" "$@"
    good "they define what the headers declare, no more" defined_is_declared -g "$@"
fi

case $library in
    *.so*)
        good "the library gets no executable stack" linked_stack "$library"
        good "the library does not claim shadow stacks" no_shadow_stack "$library"
        good "its SONAME is libgreen.so.0" dynamic 'SONAME.*\[libgreen\.so\.0\]' "$library"
        good "it is never unloaded" dynamic 'FLAGS_1.*NODELETE' "$library"
        good "it exports what the headers declare, no more" defined_is_declared -D "$library"
        good "each under its version" exports_are_mapped "$library"
        good "it exports nothing private" no_private_dynamic_symbol "$library"
        ;;
    *)
        [ -n "$lto" ] || good "the archive's symbols are green_*" symbols "$library"
        ;;
esac
exit $status
