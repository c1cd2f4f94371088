/* SPDX-License-Identifier: MIT */
/* The patch is off until asked, elsewhere untouched, and says whether it stands in front. */
#include <poll.h>

#include <green_patch.h>

#include "hubs.h"

static void *poll_for(void *ms)
{
    must_be_0(poll(NULL, 0, (int)(intptr_t)ms));
    note("%d", (int)(intptr_t)ms);
    return NULL;
}

HUB_TEST(tasks_that_poll_wait_beside_each_other)
{
    must_be_0(green_patch(GREEN_PATCH_WAIT));
    green_task_t *a = spawn(poll_for, V(3000)), *b = spawn(poll_for, V(1000));
    finish(a);
    finish(b);
    assert_noted("1000 3000");
    assert_int_equal(clock_ms(), 3000);
    assert_int_equal(green_patch(0), GREEN_PATCH_WAIT);
}

TEST(unknown_bits_are_refused)
{
    assert_int_equal(green_patch(0), 0);
    must_fail(green_patch(0x20), EINVAL);
    assert_int_equal(green_patch(0), 0);
}

TEST(all_calls_of_a_program_with_the_patch_in_it_come_here)
{
    const char *missing = NULL;
    if (green_patch_check(&missing) != 0)
        fail_msg("%s does not", missing);
}

int main(void)
{
    return run_all_tests();
}
