/* SPDX-License-Identifier: MIT */
/* What green_new() makes, and what the functions that look say of it. */
#include "testing.h"

/* Waits at its parent, once, and returns what it is entered with then. */
static void *wait_once(void *value)
{
    return green_yield(value);
}

static void *make_two(void *value)
{
    green_t **made = value;
    made[0] = green_new(give_back, NULL);
    made[1] = green_new(give_back, green_main());
    return value;
}

/* greenlet: test_parent_equals_None */
TEST(the_parent_is_the_current_green_if_none_is_named)
{
    green_t *made[2], *g = green_new(make_two, NULL);
    assert_ptr_equal(green_parent(g), green_main());
    assert_ptr_equal(green_switch(g, made), made);
    assert_ptr_equal(green_parent(made[0]), g);
    assert_ptr_equal(green_parent(made[1]), green_main());
    green_t *w = green_new_with(give_back, made[0], NULL);
    assert_ptr_equal(green_parent(w), made[0]);
    assert_int_equal(green_free(w), 0);
    assert_int_equal(green_free(made[0]), 0);
    assert_int_equal(green_free(made[1]), 0);
    assert_int_equal(green_free(g), 0);
}

TEST(bad_options_are_refused)
{
    green_options_t options = {0};
    assert_null_errno(green_new(NULL, NULL), EINVAL);
    assert_null_errno(green_new_with(NULL, NULL, NULL), EINVAL);
    assert_null_errno(green_new_with(NULL, NULL, &options), EINVAL);
    for (unsigned bit = GREEN_NO_GUARD << 1; bit != 0; bit <<= 1) {
        options.flags = bit | GREEN_NO_GUARD;
        assert_null_errno(green_new_with(give_back, NULL, &options), EINVAL);
    }
    options.flags = 0;
    for (int i = 0; i < 4; i++) {
        options.reserved[i] = &options;
        assert_null_errno(green_new_with(give_back, NULL, &options), EINVAL);
        options.reserved[i] = NULL;
    }
    green_t *g = green_new_with(give_back, NULL, &options);
    assert_ptr_equal(green_switch(g, V(1)), V(1));
    assert_int_equal(green_free(g), 0);
}

TEST(a_name_is_copied_and_cut_at_31_bytes)
{
    char text[] = "0123456789012345678901234567890123456789";
    green_options_t options = {.name = text};
    green_t *g = green_new_with(give_back, NULL, &options);
    memset(text, 'x', sizeof text - 1);
    options.name = NULL;
    assert_string_equal(green_name(g), "0123456789012345678901234567890");
    green_t *h = green_new(give_back, NULL);
    assert_null(green_name(h));
    text[31] = '\0';
    options.name = text;
    green_t *k = green_new_with(give_back, NULL, &options);
    assert_string_equal(green_name(k), "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
    assert_int_equal(green_free(g), 0);
    assert_int_equal(green_free(h), 0);
    assert_int_equal(green_free(k), 0);
}

static void *set_own_data(void *value)
{
    note("%d", green_data(green_current()) == NULL);
    note("%d", green_set_data(green_current(), value));
    return NULL;
}

/* greenlet: test_instance_dict */
TEST(each_green_has_a_pointer_of_the_users)
{
    green_options_t options = {.data = V(7)};
    green_t *g = green_new(set_own_data, NULL), *h = green_new_with(give_back, NULL, &options);
    assert_null(green_data(g));
    assert_null(green_switch(g, V(8)));
    assert_noted("1 0");
    assert_ptr_equal(green_data(g), V(8)); /* also when it is dead */
    assert_ptr_equal(green_data(h), V(7));
    assert_int_equal(green_set_data(h, NULL), 0);
    assert_null(green_data(h));
    assert_ptr_equal(green_data(g), V(8));
    assert_int_equal(green_free(g), 0);
    assert_int_equal(green_free(h), 0);
}

TEST(to_look_at_null_is_an_error)
{
    errno = 0;
    assert_int_equal(green_state(NULL), GREEN_DEAD);
    assert_int_equal(errno, EINVAL);
    assert_null_errno(green_parent(NULL), EINVAL);
    assert_null_errno(green_name(NULL), EINVAL);
    assert_null_errno(green_data(NULL), EINVAL);
    assert_refused(green_set_data(NULL, V(1)), EINVAL);
}

TEST(a_detached_green_needs_no_free)
{
    green_options_t options = {.flags = GREEN_DETACHED};
    for (int i = 0; i < times(10000, 100); i++) { /* Valgrind sees a leak */
        green_t *g = green_new_with(wait_once, NULL, &options);
        assert_ptr_equal(green_switch(g, V(1)), V(1));
        assert_int_equal(green_state(g), GREEN_SUSPENDED);
        assert_ptr_equal(green_switch(g, V(2)), V(2));
    }
}

TEST(the_library_is_of_the_headers_version)
{
    assert_int_equal(green_version(), GREEN_VERSION);
}

int main(void)
{
    return run_all_tests();
}
