#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
Shows that the random programs and the bad input can fail: both pass with the
library as it is, and the one or the other must not with each of those that
break a rule of green.h or let something be that should be refused.  What the
random programs print for some of them is compiled, and tells them apart too.

    tests/mutants/rules.py [core]

core: those of green.h alone.  CC: the compiler for this machine (cc).  A rule is
broken by replacing a piece of text in a function of src/; one that is not there
any more is an error.
"""
import os
import sys

from build import HUB_PLAYER, Library, PLAYER, run

# By the random programs: what is broken, where (see source.py), what stands there, what it
# becomes.
RULES = [
    ('1: the current green is SUSPENDED', 'green_state',
     'return GREEN_RUNNING;', 'return GREEN_SUSPENDED;'),
    ('3: the dead parent of a dead green is entered', 'deliver',
     'while (load(to->life) == GREEN__DEAD)', 'if (load(to->life) == GREEN__DEAD)'),
    ('4: what a green leaves goes to main', 'die',
     'green_t *to = green__parent(me);', 'green_t *to = &self->main;'),
    ('4: it is DEAD only after its parent goes on', 'die',
     'green__set_life(me, GREEN__DEAD);', ';'),
    ('5: a death by errno 0', 'green__set_result', 'errno > 0 ? errno : ECANCELED', 'errno'),
    ('5: ECANCELED of one that dies unrun is an error', 'deliver',
     'if (parcel->error == ECANCELED)', 'if (0)'),
    ('5: ECANCELED of one that dies is an error', 'die',
     'if (parcel.error == ECANCELED)\n', 'if (0)\n'),
    ('6: ECANCELED passes through a dead green', 'green_throw',
     'parcel.error == ECANCELED && load(g->life) == GREEN__DEAD', '0'),
    ('7: a started green is taken over', 'green__take_over',
     'if (load(g->life) != GREEN__NEW) {', 'if (0) {'),
    ('7: one with children is taken over', 'green__take_over', 'g->children != g->taken', '0'),
    ('8: a circle of parents', 'green_set_parent', 'if (is_above(g, parent))\n', 'if (0)\n'),
    ('9: what died is not released', 'green__cancel', 'if (release && !detached)', 'if (0)'),
    ('9: an error thrown at who frees is lost', 'green__cancel',
     'value == GREEN_FAILED ? errno : EBUSY', 'EBUSY'),
    ('9: the freed green keeps its stand-in', 'green__cancel',
     '        green__set_stand_in(g, NULL);\n    if (call.died) {',
     '        ;\n    if (call.died) {'),
    ('9: freed by two at once', 'is_free_to_go', ' && g->stand_in == NULL)', ')'),
    ('9: the parent of a released parent', 'green__real_parent',
     'while (ancestor->released)', 'if (ancestor->released)'),
    ('11: destructors before deferred functions', 'green__clean_up_one',
     '!green__defer_take(me, &due) && !green__local_take(me, &due)',
     '!green__local_take(me, &due) && !green__defer_take(me, &due)'),
    ('11: the value of green_exit() is lost', 'green_exit',
     '    green__set_result(me, value);\n', ''),
    ('11: five rounds of destructors', '#define ROUNDS', '#define ROUNDS 4', '#define ROUNDS 5'),
    ('11: a value is destroyed twice', 'green__local_take', 'value->pointer = NULL;', ';'),
    ('11: a new key has the values of an old one', 'green_getspecific',
     ' || locals->values[key].serial != serial)', ')'),
    ('11: green_undefer(0) runs it', 'green_undefer', 'if (execute)', 'if (1)'),
    ('13: a throw is traced as a switch', 'deliver',
     'parcel->error != 0 ? GREEN_TRACE_THROW', 'parcel->error == 0 ? GREEN_TRACE_THROW'),
    ('13: from, after one that died unrun', 'deliver', '        from = to;\n', ''),
    ('13: a hook may do all', 'call_hook',
     'self->look_only++;\n    green__passes();\n'
     '    self->trace(event, from, to, self->trace_data);\n    self->look_only--;',
     'self->trace(event, from, to, self->trace_data);'),
    ('14: a detached green outlives its thread', 'drop_greens',
     'if (g->detached)\n            green__release(g);', ''),
    ('14: who refused to die is not told', 'end_greens',
     '            all_died = false;', '            ;'),
    ('14: none may free what an ended thread has left', 'release_foreign',
     'if (green__is_orphan(g)) {', 'if (0) {'),
]

# By the random programs of the hub: rules of green_hub.h.
HUB = [
    ('6: waiters are served in another order', 'green__wait_enlist',
     'entry->prev = last;', 'entry->prev = last;\n    if (last != NULL && last->prev == NULL) {\n'
     '        entry->next = last;\n        entry->prev = NULL;\n        last->prev = entry;\n'
     '        line->first = entry;\n        return;\n    }'),
    ('6: the unit of who waits may be taken', 'green__line_give_unit',
     'green__wait_serve(hub, first, 0);',
     'semaphore->green_private_units++;\n        green__wait_serve(hub, first, 0);'),
    ('6: 33 calls', '#define GREEN__HUB_CREDIT', '32u', '33u'),
    ('6: a waiting putter keeps its item', 'get_now',
     'if (putter != NULL) {\n            copy_item', 'if (0) {\n            copy_item'),
    ('7: timers that are due together, in any order', 'is_before',
     'wait->number < other->number', 'wait->number > other->number'),
    ('7: who has waited longest is the last timer', 'green__timer_disarm',
     'sift_down(timers, i, last);', 'put_timer(timers, i, last);'),
    ('8: a scope is over a moment late', 'green__scope_verdict',
     'over = over || scope->green_private_due <= hub->time;',
     'over = over || scope->green_private_due < hub->time;'),
    ('8: the outer scope is not told', 'green__scope_verdict',
     'scope->green_private_flags |= HIT;', '{\n                scope->green_private_flags |= HIT;'
     '\n                break;\n            }'),
    ('8: a scope limits what is above its green', 'next_scope',
     'walk->green = green__layer_above(walk->green);', 'return NULL;'),
    ('8: the scope comes before the call', 'green__call_begin_slowly', '!own_over', 'true'),
    ('9: a cancel is seen once', 'green__scope_verdict', 'return ECANCELED;',
     'return ((struct green_task *)task)->cancelled = false, ECANCELED;'),
    ('9: the second failure gives no turn', 'green__call_begin_slowly',
     'green__wait_give_turn(hub, call->me);', ';'),
    ('9: the first failure gives a turn', 'green__call_begin_slowly',
     'if (call->task->failures != 0)', 'if (1)'),
    ('9: one that failed while it waited does not count', 'fail_wait', 'if (wait->counted)',
     'if (0)'),
    ('10: a shield hides its own time', 'next_scope', 'walk->shielded = true;\n        return NULL;',
     'walk->shielded = true;\n        return NULL;\n    }\n    if (walk->scope == NULL && '
     'listed_first(walk->green) != NULL &&\n        (listed_first(walk->green)->green_private_flags '
     '& GREEN_SHIELD) != 0) {\n        walk->shielded = true;\n        return NULL;'),
    ('10: a shield does not hide the cancel', 'green__scope_verdict', ' && !walk.shielded', ''),
    ('11: who was served is cancelled', 'green__wait_cancel',
     'if (wait->state == GREEN__WAITS && ', 'if (wait->turn.next != NULL) {\n'
     '            wait->state = GREEN__FAILS;\n            wait->error = ECANCELED;\n'
     '        } else if (wait->state == GREEN__WAITS && '),
    ('12: the result is not the joiner\'s', 'serve_joiner', 'wait->value = task->result;',
     'wait->value = NULL;'),
    ('13: a failure that was joined is told', 'serve_joiner',
     'task->joined = task->joined || bare || wait->role == GREEN__JOINS;', ''),
    ('13: to have been cancelled is a failure', 'green__task_has_failed',
     ' && task->error != ECANCELED', ''),
    ('14: a task is freed by two', 'may_give_up', 'if (task->freeing) {', 'if (0) {'),
    ('14: who frees is served first', 'end_task', 'while (task->joiners.first != NULL)',
     'if (task->freer != NULL)\n        serve_joiner(hub, task->freer, task);\n'
     '    task->freer = NULL;\n    while (task->joiners.first != NULL)'),
    ('15: no deadlock while another waits', 'green__wait_break_deadlock', 'chosen, EDEADLK',
     'chosen, ETIMEDOUT'),
    ('23: time stands still while all only let others run', 'give_turn_slowly',
     '(hub->is_virtual && hub->ready == hub->yielding)', '0'),
    ('a group has one more than its limit', 'has_group_room', '< group->limit', '<= group->limit'),
    ('the last failure is the group\'s', 'ended_in_group', 'if (group->error == 0)', 'if (1)'),
    ('a group lives on after its first failure', 'ended_in_group', 'if (group->all_or_none &&',
     'if (0 &&'),
    ('a wait for a group begins with an old failure', 'serve_group_waiters', 'if (any)', 'if (0)'),
    ('a closed queue keeps its getters', 'green_queue_close',
     'green__wait_serve_all(hub, &queue->getters, EPIPE);', ''),
    ('a mutex is locked again once', 'lock_again', 'mutex->green_private_depth = depth;',
     'mutex->green_private_depth = 1;'),
    ('a select does two cases', 'delist_all', 'i < wait->count', 'i < 1'),
    ('green_hub_wait() waits for daemons', 'green__task_all_wait', ' - hub->daemons', ''),
    ('green_hub_end() spares what is spawned meanwhile', 'make_task',
     'task->cancelled = true;', ';'),
]

# By the bad input.
REFUSALS = [
    ('GREEN_FAILED is a value', 'switch_by_all_rules', 'if (value == GREEN_FAILED) {', 'if (0) {'),
    ('an error of -1', 'green_throw', 'if (error < 0) {', 'if (error < -1) {'),
    ('EPERM before EINVAL', 'yield_slowly',
     'self->end.ended && value != GREEN_FAILED ?', 'self->end.ended ?'),
    ('EBUSY before EINVAL', 'green_defer',
     'if (fn == NULL)\n', 'if (fn == NULL && green__self->look_only == 0)\n'),
    ('reserved options', 'is_valid', 'options->reserved[i] != NULL', '0'),
    ('unknown flags', 'is_valid', '(options->flags & ~(GREEN_DETACHED | GREEN_NO_GUARD)) == 0', '1'),
    ('a parent for main', 'green_set_parent',
     'if (g == NULL || g->is_main || parent == NULL)\n', 'if (g == NULL || parent == NULL)\n'),
    ('sizes that overflow', 'green__stack_valid', 'return size <= SIZE_LIMIT;', 'return true;'),
    ('lent stacks that are too small', 'green__stack_valid', 'end - low >= GREEN__STACK_MIN;', 'true;'),
    ('lent stacks beyond the last address', 'green__stack_valid',
     'size <= UINTPTR_MAX - (uintptr_t)memory && low >= (uintptr_t)memory && low < end &&', ''),
    ('keys beyond the last', 'serial_of', 'key < GREEN__KEYS ? ', 'true ? '),
    ('a key too many', 'green_key_create', 'green__refuse(EAGAIN)', 'green__refuse(ENOMEM)'),
    ('green_thread_end() inside itself', 'green_thread_end',
     'load(self->current) != main || self->end.in_thread_end', 'load(self->current) != main'),
    ('no function is deferred', 'green_defer', 'if (fn == NULL)\n', 'if (0)\n'),
    ('a refused green_free() that frees the name', 'end_slowly',
     '    if (!is_free_to_go(self, g))\n        return -1;',
     '    if (!is_free_to_go(self, g)) {\n        g->name = NULL;\n        return -1;\n    }'),
]

# By the bad input with AddressSanitizer.
FREED = [
    ('a released green with children can be touched', 'let_go',
     '        poison_released(g);\n', '        ;\n'),
    ('released greens wait to be used again', 'green__thread_begin',
     'self->stacks.watched ? 0 : GREEN__SPARES', 'GREEN__SPARES'),
]

# Program, its arguments, its other sources, what the compiler is told.
TESTED = [
    ('random_programs', ['-q', '-n', '150000'], PLAYER, [], RULES),
    ('random_programs', ['-q', '-n', '1000000'], HUB_PLAYER, [], HUB),
    ('test_bad_input', [], [], [], REFUSALS),
    ('test_bad_input', [], [], ['-fsanitize=address'], FREED),
]


# Of these the printed program is tried: a result, a place, an event for the hook, threads.
PRINTED = ['8: a circle of parents', '4: what a green leaves goes to main',
           '13: from, after one that died unrun', '7: a started green is taken over',
           '12: the result is not the joiner\'s', '15: no deadlock while another waits']


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
        for what, place, old, new in broken:
            with library.broken(place, old, new):
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
    tested = [test for test in TESTED if test[-1] is not HUB or sys.argv[1:] != ['core']]
    failed = sum(check(*test) for test in tested)
    print(f'rules: {sum(len(test[-1]) for test in tested)} broken libraries, {failed} failures')
    return failed != 0


if __name__ == '__main__':
    sys.exit(main())
