/* SPDX-License-Identifier: MIT */
/* green_each(): whom it shows, and that its function only looks. */
#include <pthread.h>

#include "greens.h"

static int note_name(green_t *g, void *arg)
{
    (void)arg;
    note("%s:%d", green_name(g), green_state(g));
    return 0;
}

TEST(main_alone_is_shown_if_nothing_has_started)
{
    green_t *g = named("new", echo, NULL);
    assert_int_equal(green_each(note_name, NULL), 0);
    assert_noted("main:1");
    assert_int_equal(green_free(g), 0);
}

/* Notes how often it meets each of a few greens. */
struct met {
    green_t *greens[4];
    int times[4], others;
};

static int meet(green_t *g, void *arg)
{
    struct met *met = arg;
    for (int i = 0; i < 4; i++)
        if (g == met->greens[i]) {
            met->times[i]++;
            return 0;
        }
    met->others++;
    return 0;
}

static void *look_from_inside(void *value)
{
    green_each(meet, value);
    note("%d", green_each(note_name, NULL));
    return value;
}

TEST(the_started_living_greens_are_shown_once_each)
{
    struct met met = {.greens = {green_main(), named("a", echo, NULL),
                                 named("b", look_from_inside, NULL), named("new", echo, NULL)}};
    green_t *d = named("dead", give_back, NULL);
    green_switch(d, NULL);
    green_switch(met.greens[1], NULL);
    assert_ptr_equal(green_switch(met.greens[2], &met), &met);
    assert_int_equal(met.times[0], 1);
    assert_int_equal(met.times[1], 1); /* suspended */
    assert_int_equal(met.times[2], 1); /* the current one */
    assert_int_equal(met.times[3], 0); /* NEW */
    assert_int_equal(met.others, 0);   /* nor the dead */
    assert_int_equal(strncmp(noted(), "main:2 ", 7), 0); /* main comes first */
    assert_non_null(strstr(noted(), " a:2"));
    assert_non_null(strstr(noted(), " b:1"));
    assert_int_equal(strlen(noted()), strlen("main:2 a:2 b:1 0"));
    noted()[0] = '\0';

    assert_int_equal(green_each(note_name, NULL), 0);
    assert_noted("main:1 a:2"); /* b is dead */
    assert_int_equal(green_free(met.greens[1]), 0);
    assert_int_equal(green_each(note_name, NULL), 0);
    assert_noted("main:1");
    assert_int_equal(green_free(met.greens[2]), 0);
    assert_int_equal(green_free(met.greens[3]), 0);
    assert_int_equal(green_free(d), 0);
}

static int stop_at_the_second(green_t *g, void *arg)
{
    int *count = arg;
    (void)g;
    return ++*count == 2 ? -7 : 0;
}

TEST(what_is_not_zero_stops_the_walk_and_comes_back)
{
    green_t *greens[3];
    for (int i = 0; i < 3; i++) {
        greens[i] = named("g", echo, NULL);
        green_switch(greens[i], NULL);
    }
    int count = 0;
    assert_int_equal(green_each(stop_at_the_second, &count), -7);
    assert_int_equal(count, 2);
    for (int i = 0; i < 3; i++)
        assert_int_equal(green_free(greens[i]), 0);
}

TEST(a_function_is_needed)
{
    assert_refused(green_each(NULL, NULL), EINVAL);
}

static green_t *waiting, *fresh;

#define refused(expr) \
    (errno = 0, (expr) && errno == EBUSY ? (void)0 : note("line %d", __LINE__))
#define works(expr) ((expr) ? (void)0 : note("line %d", __LINE__))

static int try_everything(green_t *g, void *arg)
{
    green_key_t key;
    struct met met = {.greens = {green_main()}};
    if (g != green_main())
        return 0;
    refused(green_new(echo, NULL) == NULL);
    refused(green_switch(waiting, NULL) == GREEN_FAILED);
    refused(green_switch(green_main(), NULL) == GREEN_FAILED);
    refused(green_throw(waiting, E1) == GREEN_FAILED);
    refused(green_free(waiting) == -1);
    refused(green_free(fresh) == -1);
    refused(green_abandon(waiting) == -1);
    refused(green_set_parent(fresh, waiting) == -1);
    refused(green_set_data(fresh, arg) == -1);
    refused(green_defer(free, NULL) == -1);
    refused(green_undefer(0) == -1);
    refused(green_key_create(&key, NULL) == -1);
    refused(green_thread_end() == -1);
    works(green_current() == g && green_parent(waiting) == g);
    works(green_each(meet, &met) == 0 && met.times[0] == 1 && met.others == 1);
    refused(green_switch(waiting, NULL) == GREEN_FAILED); /* also after the inner walk */
    note("tried");
    return 0;
}

TEST(its_function_may_only_look)
{
    waiting = named("waiting", echo, NULL);
    fresh = named("fresh", echo, NULL);
    green_switch(waiting, NULL);
    assert_int_equal(green_each(try_everything, NULL), 0);
    assert_noted("tried");
    assert_ptr_equal(green_parent(fresh), green_main());
    assert_null(green_data(fresh));
    assert_ptr_equal(green_switch(waiting, V(1)), V(1)); /* all works again */
    assert_int_equal(green_free(waiting), 0);
    assert_int_equal(green_free(fresh), 0);
}

static void *walk(void *arg)
{
    struct met met = {.greens = {NULL}};
    (void)arg;
    int result = green_each(meet, &met); /* the first use of the library here */
    return V(result == 0 && met.others == 1);
}

TEST(other_threads_greens_are_not_shown)
{
    green_t *g = named("g", echo, NULL);
    green_switch(g, NULL);
    void *result = in_thread(walk, NULL);
    assert_ptr_equal(result, V(1));
    assert_int_equal(green_free(g), 0);
}

int main(void)
{
    return run_all_tests();
}
