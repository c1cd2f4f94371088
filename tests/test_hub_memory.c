/* SPDX-License-Identifier: MIT */
/* What tasks leave behind of memory: nothing, however many there were. */
#include <malloc.h>

#include "hubs.h"
#include "testing.h"

static void *give_back_at_once(void *value)
{
    return value;
}

/* Bytes that malloc() has handed out; 0 where the C library does not say. */
static size_t allocated(void)
{
#if defined(__GLIBC__) && (__GLIBC__ > 2 || __GLIBC_MINOR__ >= 33)
    return mallinfo2().uordblks;
#else
    return 0;
#endif
}

static void live_times(int n)
{
    for (int i = 0; i < n; i++) {
        void *value;
        green_task_t *task = green_task_spawn(give_back_at_once, &value);
        assert_non_null(task);
        assert_int_equal(green_task_join(task, &value, GREEN_FOREVER), 0);
        assert_int_equal(green_task_free(task), 0);
    }
}

HUB_TEST(tasks_that_have_gone_take_no_memory)
{
    live_times(2000); /* caches */
    size_t before = allocated();
    live_times(2000);
    assert_in_range(allocated(), 0, before + 4096);
}

int main(void)
{
    return run_all_tests();
}
