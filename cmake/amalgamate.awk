# SPDX-License-Identifier: MIT
#
# Makes few files of many: green.c of the .c, green.S of the .S, and copies of
# the public headers.
#
#     awk -f amalgamate.awk -v root=DIR -v dir=TO -v version=VERSION SOURCE... HEADER...
#
# Each private header is written where it is first included.  green.h stays a
# file of its own beside the result.  An include that names a macro, as arch.h
# has them, becomes all the files the macro may stand for, each in an #ifdef.
#
# In C all private names are hidden, whatever the compiler is told.  For that the
# system's headers, which must not be, come first; one that is included in an
# #if only is left there, with the visibility set back around it.
#
# Being one file, the result wants every static name to be used once in src/.  A
# header may offer functions that nobody uses: clang does not mind that in what is
# included, and is told not to mind it here.

function fail(text)
{
    print "amalgamate.awk: " text > "/dev/stderr"
    failed = 1
    exit 1
}

function exists(file,    line, there)
{
    there = (getline line < file) >= 0
    close(file)
    return there
}

# What an #include "..." or <...> in a file of this directory names, if it is ours.
function find(from, name, quoted)
{
    if (quoted && exists(from "/" name))
        return from "/" name
    if (quoted && exists(root "/src/" name))
        return root "/src/" name
    if (exists(root "/include/" name))
        return root "/include/" name
    return ""
}

function emit(line)
{
    body = body line "\n"
}

function include(name, from, level, quoted,    file)
{
    file = find(from, name, quoted)
    if (file == root "/include/green.h") {
        if (!done[file]++)
            emit("#include \"green.h\"")
    } else if (file != "") {
        if (level > 0)
            fail("in an #if, and that is not provided for: " name)
        if (!done[file]++)
            expand(file)
    } else if (assembly) {
        emit("#include <" name ">")
    } else if (level > 0) {
        emit("#pragma GCC visibility push(default)")
        emit("#include <" name ">")
        emit("#pragma GCC visibility pop")
    } else if (!done[name]++) {
        system_headers = system_headers "#include <" name ">\n"
    }
}

# An include that names a macro: the files it may stand for.
function choose(macro,    i)
{
    if (!(macro in choices))
        fail("what " macro " may be is not known")
    for (i = 1; i <= choices[macro]; i++) {
        emit("#ifdef " macro "_" i)
        expand(choice[macro, i])
        emit("#endif")
    }
}

function expand(file,    line, from, level, quoted, word, name, path)
{
    from = file
    sub(/\/[^\/]*$/, "", from)
    level = 0
    emit("\n/* ======== " substr(file, length(root) + 2) " ======== */\n")
    if (!assembly && file ~ /\.h$/)
        emit("#pragma GCC diagnostic push\n#pragma GCC diagnostic ignored \"-Wunused-function\"")
    while ((getline line < file) > 0) {
        split(line, word, " ")
        name = word[2]
        if (line ~ /^#(if|ifdef|ifndef)[ (]/ && line !~ /^#ifndef GREEN_[A-Z_]*_?H$/)
            level++
        else if (line ~ /^#endif/)
            level--

        if (line ~ /^\/\* SPDX-License-Identifier: MIT \*\/$/ || line ~ /^#define _(GNU|POSIX_C)_SOURCE/) {
            continue
        } else if (line ~ /^# *include *["<]/) {
            quoted = line ~ /"/
            sub(/^# *include *["<]/, "", line)
            sub(/[">].*/, "", line)
            include(line, from, level, quoted)
        } else if (line ~ /^# *include /) {
            choose(name)
        } else if (line ~ /^#define [A-Z_]+ ".*"$/ &&
                   exists(path = from "/" substr(word[3], 2, length(word[3]) - 2))) {
            choice[name, ++choices[name]] = path
            emit("#define " name "_" choices[name])
        } else {
            emit(line)
        }
    }
    if (!assembly && file ~ /\.h$/)
        emit("#pragma GCC diagnostic pop")
    close(file)
}

# Writes what has been collected, as green.c or green.S.
function finish(out,    line, text)
{
    out = dir "/" out
    text = "/* SPDX-License-Identifier: MIT */\n/*\n" \
        " * libgreen " version ", made of its many sources into one to drop into a project\n"
    if (assembly) {
        text = text " * with green.h and green.c, which says more.\n"
    } else {
        text = text " * with green.h, the manual, and green.S:\n *\n" \
            " *     cc -I. your_program.c green.c green.S -pthread\n *\n"
        while ((getline line < (root "/LICENSE")) > 0)
            text = text (line == "" ? " *\n" : " * " line "\n")
        close(root "/LICENSE")
    }
    text = text " */\n"
    if (!assembly) {
        text = text "#ifndef _GNU_SOURCE\n#define _GNU_SOURCE\n#endif\n" system_headers \
            "\n#pragma GCC visibility push(hidden)\n"
        body = body "\n#pragma GCC visibility pop\n"
    }
    printf "%s%s", text, body > out
    close(out)
    body = ""
    split("", done)
    split("", choices)
}

function copy(file,    line, to)
{
    to = file
    sub(/.*\//, dir "/", to)
    while ((getline line < file) > 0)
        print line > to
    close(file)
    close(to)
}

BEGIN {
    for (i = 1; i < ARGC; i++)
        if (!exists(ARGV[i]))
            fail("there is no " ARGV[i])
    assembly = 1
    for (i = 1; i < ARGC; i++)
        if (ARGV[i] ~ /\.S$/)
            expand(ARGV[i])
    finish("green.S")
    assembly = 0
    for (i = 1; i < ARGC; i++)
        if (ARGV[i] ~ /\.c$/)
            expand(ARGV[i])
    finish("green.c")
    for (i = 1; i < ARGC; i++)
        if (ARGV[i] ~ /\.h(pp)?$/)
            copy(ARGV[i])
    exit 0
}

END {
    exit failed
}
