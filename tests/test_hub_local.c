/* SPDX-License-Identifier: MIT */
/* Values of keys in tasks: each its own, and what becomes of them. */
#include "hubs.h"

static green_key_t key;
static int destroyed;

static void count_destroyed(void *value)
{
    must(value != NULL);
    destroyed++;
}

static int begin(void **state)
{
    must_be_0(hubs_begin_virtual(state));
    destroyed = 0;
    return green_key_create(&key, count_destroyed);
}

static int end(void **state)
{
    must_be_0(green_key_delete(key));
    return hubs_end(state);
}

#define LOCAL_TEST(sentence) TEST_WITH(sentence, begin, end)

static void *set_and_look(void *value)
{
    must(green_getspecific(key) == NULL);
    must_be_0(green_setspecific(key, value));
    for (int i = 0; i < 3; i++) {
        nap((intptr_t)value);
        must(green_getspecific(key) == value);
    }
    return value;
}

/* gevent: test_local */
LOCAL_TEST(each_task_has_its_own_value_whoever_runs_meanwhile)
{
    green_task_t *a = spawn(set_and_look, V(1)), *b = spawn(set_and_look, V(2));
    assert_int_equal(green_setspecific(key, V(3)), 0);
    finish(a);
    finish(b);
    assert_ptr_equal(green_getspecific(key), V(3));
    assert_int_equal(destroyed, 2);
    assert_int_equal(green_setspecific(key, NULL), 0);
}

/* gevent: test_locals_collected_when_greenlet_dead */
LOCAL_TEST(a_thousand_tasks_leave_no_values)
{
    int count = times(1000, 100);
    green_group_t *group = green_group_new(0, 0);
    for (int i = 0; i < count; i++)
        assert_int_equal(green_group_spawn(group, set_and_look, V(i + 1)), 0);
    assert_int_equal(green_group_wait(group, NULL, GREEN_FOREVER), 0);
    assert_int_equal(destroyed, count);
    assert_int_equal(green_group_free(group), 0);
}

LOCAL_TEST(values_are_gone_when_the_join_returns)
{
    green_task_t *task = spawn(set_and_look, V(5));
    assert_int_equal(green_task_join(task, NULL, GREEN_FOREVER), 0);
    assert_int_equal(destroyed, 1);
    assert_int_equal(green_task_free(task), 0);
}

static void *set_and_fail(void *value)
{
    must_be_0(green_setspecific(key, value));
    return green_sleep(GREEN_FOREVER) == 0 ? NULL : GREEN_FAILED;
}

LOCAL_TEST(a_task_that_is_cancelled_leaves_none_either)
{
    green_task_t *task = spawn(set_and_fail, V(5));
    turn();
    assert_int_equal(green_task_free(task), 0);
    assert_int_equal(destroyed, 1);
}

static void *set_in_thread(void *unused)
{
    must_be_0(green_task_detach(spawn(set_and_fail, V(5))));
    turn();
    return unused;
}

/* Nothing of its tasks runs, and so no destructor. */
LOCAL_TEST(of_a_thread_that_ends_without_the_hubs_end_no_destructor_runs)
{
    in_thread(set_in_thread, NULL);
    assert_int_equal(destroyed, 0);
}

int main(void)
{
    return run_all_tests();
}
