#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
Shows that the random programs and the bad input can fail: both pass with the
library as it is, and the one or the other must not with each of those that
break a rule of green.h or let something be that should be refused.  What the
random programs print for some of them is compiled, and tells them apart too.

    tests/mutants/rules.py

CC: the compiler for this machine (cc).  A rule is broken by replacing a piece
of text in a file of src/; one that is not there any more is an error.
"""
import os
import sys

from build import Library, run

# By the random programs: what is broken, in which file, what stands there, what it becomes.
RULES = [
    ('1: the current green is SUSPENDED', 'green.c',
     'return GREEN_RUNNING;', 'return GREEN_SUSPENDED;'),
    ('3: the dead parent of a dead green is entered', 'switch.c',
     'while (load(to->life) == GREEN__DEAD)', 'if (load(to->life) == GREEN__DEAD)'),
    ('4: what a green leaves goes to main', 'switch.c',
     'green_t *to = green__parent(me);', 'green_t *to = &self->main;'),
    ('4: it is DEAD only after its parent goes on', 'switch.c',
     'green__set_life(me, GREEN__DEAD);', ';'),
    ('5: a death by errno 0', 'switch.c', 'errno > 0 ? errno : ECANCELED', 'errno'),
    ('5: ECANCELED of one that dies unrun is an error', 'switch.c',
     'if (parcel->error == ECANCELED)', 'if (0)'),
    ('5: ECANCELED of one that dies is an error', 'switch.c',
     'if (parcel.error == ECANCELED)\n', 'if (0)\n'),
    ('6: ECANCELED passes through a dead green', 'switch.c',
     'parcel.error == ECANCELED && load(g->life) == GREEN__DEAD', '0'),
    ('7: a started green is taken over', 'green.c',
     'if (load(g->life) != GREEN__NEW) {', 'if (0) {'),
    ('7: one with children is taken over', 'green.c', 'g->children != g->gone', '0'),
    ('8: a circle of parents', 'green.c', 'if (is_above(g, parent)) {', 'if (0) {'),
    ('9: what died is not released', 'switch.c', 'if (release && !detached)', 'if (0)'),
    ('9: an error thrown at who frees is lost', 'switch.c',
     'value == GREEN_FAILED ? errno : EBUSY', 'EBUSY'),
    ('9: the freed green keeps its stand-in', 'switch.c',
     '        g->stand_in = NULL;\n    if (call.died) {', '        ;\n    if (call.died) {'),
    ('9: freed by two at once', 'green.c', ' || g->stand_in != NULL) {', ') {'),
    ('9: the parent of a released parent', 'green.c',
     'while (ancestor->released)', 'if (ancestor->released)'),
    ('11: destructors before deferred functions', 'unwind.c',
     'green__defer_run_one(me) || green__local_run_one(me)',
     'green__local_run_one(me) || green__defer_run_one(me)'),
    ('11: the value of green_exit() is lost', 'switch.c',
     '    set_result(me, value);\n    green__unwind', '    green__unwind'),
    ('11: five rounds of destructors', 'local.c', '#define ROUNDS 4', '#define ROUNDS 5'),
    ('11: a value is destroyed twice', 'local.c', 'value->pointer = NULL;', ';'),
    ('11: a new key has the values of an old one', 'local.c',
     ' || locals->values[key].serial != serial)', ')'),
    ('11: green_undefer(0) runs it', 'defer.c', 'if (execute)', 'if (1)'),
    ('13: a throw is traced as a switch', 'switch.c',
     'parcel->error != 0 ? GREEN_TRACE_THROW', 'parcel->error == 0 ? GREEN_TRACE_THROW'),
    ('13: from, after one that died unrun', 'switch.c', '        from = to;\n', ''),
    ('13: a hook may do all', 'trace.c',
     'self->looking++;\n    green__passes();\n'
     '    self->trace(event, from, to, self->trace_data);\n    self->looking--;',
     'self->trace(event, from, to, self->trace_data);'),
    ('14: a detached green outlives its thread', 'thread.c',
     'if (g->detached)\n            green__release(g);', ''),
    ('14: who refused to die is not told', 'thread.c',
     '            all_died = false;', '            ;'),
    ('14: none may free what an ended thread has left', 'green.c',
     'return orphan;', 'return false;'),
]

# By the bad input.
REFUSALS = [
    ('GREEN_FAILED is a value', 'switch.c', 'if (value == GREEN_FAILED) {', 'if (0) {'),
    ('an error of -1', 'switch.c', 'if (error < 0) {', 'if (error < -1) {'),
    ('EPERM before EINVAL', 'switch.c',
     'self->ended && value != GREEN_FAILED ?', 'self->ended ?'),
    ('EBUSY before EINVAL', 'defer.c',
     'if (fn == NULL) {', 'if (fn == NULL && green__self->looking == 0) {'),
    ('reserved options', 'green.c', 'options->reserved[i] != NULL', '0'),
    ('unknown flags', 'green.c', '(options->flags & ~(GREEN_DETACHED | GREEN_NO_GUARD)) == 0', '1'),
    ('a parent for main', 'green.c',
     'if (g == NULL || g->is_main || parent == NULL) {', 'if (g == NULL || parent == NULL) {'),
    ('sizes that overflow', 'stack.c', 'return size <= SIZE_LIMIT;', 'return true;'),
    ('lent stacks that are too small', 'stack.c', 'end - low >= GREEN__STACK_MIN;', 'true;'),
    ('lent stacks beyond the last address', 'stack.c',
     'size <= UINTPTR_MAX - (uintptr_t)memory && low >= (uintptr_t)memory && low < end &&', ''),
    ('keys beyond the last', 'local.c', 'key < KEYS ? ', 'true ? '),
    ('a key too many', 'local.c', 'errno = EAGAIN;', 'errno = ENOMEM;'),
    ('green_thread_end() inside itself', 'thread.c',
     'load(self->current) != main || self->ending', 'load(self->current) != main'),
    ('no function is deferred', 'defer.c', 'if (fn == NULL) {', 'if (0) {'),
    ('a refused green_free() that frees the name', 'green.c',
     '    if (!may_free(self, g))\n        return -1;\n    if (load(g->life)',
     '    if (!may_free(self, g)) {\n        g->name = NULL;\n        return -1;\n    }\n'
     '    if (load(g->life)'),
]

# By the bad input with AddressSanitizer.
FREED = [
    ('a released green with children can be touched', 'green.c',
     '        forbid(g);\n', '        ;\n'),
    ('released greens wait to be used again', 'thread.c',
     'self->stacks.watched ? 0 : GREEN__SPARES', 'GREEN__SPARES'),
]

# Program, its arguments, its other sources, what the compiler is told.
TESTED = [
    ('random_programs', ['-q', '-n', '150000'], ['play', 'model'], [], RULES),
    ('test_bad_input', [], [], [], REFUSALS),
    ('test_bad_input', [], [], ['-fsanitize=address'], FREED),
]


# Of these the printed program is tried: a result, a place, an event for the hook, threads.
PRINTED = ['8: a circle of parents', '4: what a green leaves goes to main',
           '13: from, after one that died unrun', '7: a started green is taken over']


def check(program, arguments, others, options, broken):
    """How many it does not find."""
    failed = 0
    library = Library()
    library.cc += options
    with library:
        library.program(program, others)
        library.link()
        library.keep_whole()
        command = [os.path.join(library.dir, program), *arguments]
        if not run(command, None, 60):
            print(f'FAILED: {program} does not pass with the library as it is')
            failed += 1
        for what, file, old, new in broken:
            with library.broken(file, old, new):
                library.link(program)
                if run(command, None, 60):
                    print(f'FAILED: {program} does not find: {what}')
                    failed += 1
                elif what in PRINTED and not library.prints_what_fails(
                        [part for part in command if part != '-q']):
                    print(f'FAILED: {program} prints no program for: {what}')
                    failed += 1
                else:
                    print(f'ok: {program} finds: {what}')
    return failed


def main():
    failed = sum(check(*test) for test in TESTED)
    print(f'rules: {sum(len(test[-1]) for test in TESTED)} broken libraries, {failed} failures')
    return failed != 0


if __name__ == '__main__':
    sys.exit(main())
