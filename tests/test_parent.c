/* SPDX-License-Identifier: MIT */
/*
 * Who is whose parent (rule 8): green_parent(), green_set_parent(), and under
 * whom the children of a freed green stand (rule 9).
 */
#include "greens.h"

static green_t *suspended(green_t *parent)
{
    return suspend(green_new(echo, NULL), V(1), parent);
}

/* One in the state of that number: NEW, SUSPENDED or DEAD. */
enum { KINDS = 3 };

static green_t *made(int kind, green_t *parent)
{
    green_t *g = kind == 0 ? green_new(echo, NULL) : kind == 1 ? suspended(NULL) : dead(NULL);
    return put_under(g, parent);
}

/* ---- green_set_parent() ------------------------------------------------- */

TEST(any_green_may_be_put_under_any_other)
{
    for (int kind = 0; kind < KINDS; kind++)
        for (int parents = 0; parents <= KINDS; parents++) {
            green_t *p = parents < KINDS ? made(parents, NULL) : green_main();
            green_t *g = made(kind, NULL);
            green_state_t before = green_state(g);
            assert_ptr_equal(green_parent(g), green_main());
            assert_int_equal(green_set_parent(g, p), 0);
            assert_ptr_equal(green_parent(g), p);
            assert_int_equal(green_state(g), before);
            assert_int_equal(green_set_parent(g, p), 0); /* again */
            assert_ptr_equal(green_parent(g), p);
            assert_int_equal(green_set_parent(g, green_main()), 0);
            assert_ptr_equal(green_parent(g), green_main());
            if (p != green_main())
                free_all(p);
            free_all(g);
        }
}

static void *move_oneself(void *value)
{
    green_t *me = green_current(), **parents = value;
    for (int i = 0; i < KINDS; i++) {
        note("%d", green_set_parent(me, parents[i]));
        note("%d", green_parent(me) == parents[i]);
        errno = 0;
        note("%d", green_set_parent(me, me) == -1 && errno == ELOOP);
        note("%d", green_parent(me) == parents[i]);
    }
    return V(5);
}

TEST(the_current_green_may_be_put_under_any_other)
{
    green_t *parents[KINDS];
    for (int i = 0; i < KINDS; i++)
        parents[i] = made(i, NULL);
    green_t *g = green_new(move_oneself, NULL);
    assert_ptr_equal(green_switch(g, parents), V(5)); /* by the dead one to main */
    assert_noted("0 1 1 1 0 1 1 1 0 1 1 1");
    for (int i = 0; i < KINDS; i++)
        free_all(parents[i]);
    free_all(g);
}

TEST(a_dead_parent_is_a_parent_until_it_is_freed)
{
    green_t *p = suspended(NULL), *g = green_new(give_back, p);
    assert_null(green_throw(p, 0));
    assert_int_equal(green_state(p), GREEN_DEAD);
    assert_ptr_equal(green_parent(g), p);
    assert_int_equal(green_free(p), 0);
    assert_ptr_equal(green_parent(g), green_main());
    free_all(g);
}

/* greenlet: test_cannot_delete_parent */
TEST(a_parent_cannot_be_taken_away)
{
    for (int kind = 0; kind < KINDS; kind++) {
        green_t *p = made(kind, NULL), *g = made(kind, p);
        assert_refused(green_set_parent(g, NULL), EINVAL);
        assert_ptr_equal(green_parent(g), p);
        free_all(g, p);
    }
    assert_refused(green_set_parent(NULL, green_main()), EINVAL);
    assert_refused(green_set_parent(NULL, NULL), EINVAL);
}

/* greenlet: test_cannot_delete_parent_of_main, test_trivial_cycle_main */
TEST(main_cannot_be_put_under_anyone)
{
    green_t *m = green_main(), *g = green_new(give_back, NULL);
    assert_refused(green_set_parent(m, NULL), EINVAL);
    assert_refused(green_set_parent(m, m), EINVAL);
    assert_refused(green_set_parent(m, g), EINVAL); /* a cycle besides */
    assert_null(green_parent(m));
    free_all(g);
}

/* greenlet: test_trivial_cycle */
TEST(a_green_cannot_be_its_own_parent)
{
    for (int kind = 0; kind < KINDS; kind++) {
        green_t *p = made(kind, NULL), *g = made(kind, p);
        assert_refused(green_set_parent(g, g), ELOOP);
        assert_ptr_equal(green_parent(g), p);
        free_all(g, p);
    }
}

/* greenlet: test_deeper_cycle */
TEST(a_cycle_is_refused_and_leaves_all_parents_unchanged)
{
    for (int mix = 0; mix < KINDS * KINDS * KINDS; mix++) {
        green_t *g[3];
        g[2] = made(mix % KINDS, NULL);
        g[1] = made(mix / KINDS % KINDS, g[2]);
        g[0] = made(mix / KINDS / KINDS, g[1]);
        assert_refused(green_set_parent(g[2], g[0]), ELOOP);
        assert_refused(green_set_parent(g[2], g[1]), ELOOP);
        assert_refused(green_set_parent(g[1], g[0]), ELOOP);
        assert_ptr_equal(green_parent(g[0]), g[1]);
        assert_ptr_equal(green_parent(g[1]), g[2]);
        assert_ptr_equal(green_parent(g[2]), green_main());
        assert_int_equal(green_set_parent(g[0], g[2]), 0); /* a fork is none */
        assert_int_equal(green_set_parent(g[1], g[0]), 0);
        assert_ptr_equal(green_parent(g[1]), g[0]);
        free_all(g[1], g[0], g[2]);
    }
}

TEST(a_cycle_through_a_freed_green_is_one_too)
{
    green_t *a = green_new(give_back, NULL), *b = green_new(give_back, a);
    green_t *c = green_new(give_back, b), *d = green_new(give_back, c);
    free_all(b);
    assert_refused(green_set_parent(a, c), ELOOP);
    assert_refused(green_set_parent(a, d), ELOOP);
    free_all(c);
    assert_refused(green_set_parent(a, d), ELOOP);
    assert_ptr_equal(green_parent(a), green_main());
    assert_ptr_equal(green_parent(d), a);
    assert_int_equal(green_set_parent(d, green_main()), 0);
    assert_int_equal(green_set_parent(a, d), 0); /* now it is none */
    free_all(d, a);
}

static void *move_while_freed(void *value)
{
    green_t *me = green_current(), *q = value;
    green_yield(NULL);
    note("%d", green_parent(me) == green_main());
    note("%d", green_set_parent(me, q));
    note("%d", green_parent(me) == green_main()); /* as long as it is being freed */
    errno = 0;
    note("%d", green_set_parent(me, me) == -1 && errno == ELOOP);
    green_switch(green_main(), NULL); /* refuses to die */
    note("%d", green_parent(me) == q);
    return V(6);
}

TEST(a_green_that_is_being_freed_gets_its_new_parent_afterwards)
{
    green_t *p = suspended(NULL), *q = suspended(NULL), *g = green_new(move_while_freed, p);
    assert_int_equal(green_set_parent(g, green_main()), 0);
    assert_null(green_switch(g, q));
    assert_int_equal(green_set_parent(g, p), 0);
    assert_refused(green_free(g), EBUSY);
    assert_ptr_equal(green_parent(g), q);
    assert_ptr_equal(green_switch(g, NULL), V(6)); /* by q, which yields it */
    assert_noted("1 0 1 1 1");
    assert_int_equal(green_state(p), GREEN_SUSPENDED);
    free_all(g, q, p);
}

/* ---- Children of freed greens ------------------------------------------- */

/* Four greens in a chain and a leaf; freed in every order. */
TEST(children_of_freed_greens_stand_under_the_nearest_that_remains)
{
    for (int order = 0; order < 4 * 4 * 4 * 4; order++) {
        int pick[4] = {order % 4, order / 4 % 4, order / 16 % 4, order / 64};
        if ((1 << pick[0] | 1 << pick[1] | 1 << pick[2] | 1 << pick[3]) != 15)
            continue; /* not a permutation */
        green_t *chain[5] = {NULL, NULL, NULL, NULL, green_main()};
        for (int i = 3; i >= 0; i--)
            chain[i] = made((i + order) % KINDS, chain[i + 1]);
        green_t *leaf = green_new(give_back, chain[0]), *second = green_new(give_back, chain[1]);
        for (int i = 0; i < 4; i++) {
            assert_int_equal(green_free(chain[pick[i]]), 0);
            chain[pick[i]] = NULL;
            int nearest = 0, next = 1;
            while (chain[nearest] == NULL)
                nearest++;
            while (chain[next] == NULL)
                next++;
            assert_ptr_equal(green_parent(leaf), chain[nearest]);
            assert_ptr_equal(green_parent(second), chain[next]);
        }
        assert_ptr_equal(green_switch(leaf, V(3)), V(3));
        free_all(leaf, second);
    }
}

TEST(a_freed_green_leaves_its_children_to_its_own_parent_not_to_the_caller)
{
    green_t *a = suspended(NULL), *b = suspended(a), *c = suspended(b);
    free_all(b); /* by main */
    assert_ptr_equal(green_parent(c), a);
    free_all(a);
    assert_ptr_equal(green_parent(c), green_main());
    free_all(c);
}

TEST(the_remaining_ancestor_may_move_afterwards)
{
    green_t *a = green_new(give_back, NULL), *b = green_new(give_back, a);
    green_t *c = green_new(give_back, b), *other = green_new(give_back, NULL);
    free_all(b);
    assert_int_equal(green_set_parent(a, other), 0);
    assert_ptr_equal(green_parent(c), a);
    free_all(a);
    assert_ptr_equal(green_parent(c), other);
    assert_int_equal(green_set_parent(c, green_main()), 0);
    assert_refused(green_set_parent(c, c), ELOOP);
    assert_int_equal(green_set_parent(other, c), 0);
    free_all(c, other);
}

/* ---- Against a model ---------------------------------------------------- */

/*
 * Families of greens made, moved and freed at random, beside a model so plain
 * that it must be right: an entry for each green ever made, freed or not.
 */
enum { LIVING = 12, EVER = 4000 };

struct entry {
    green_t *g; /* NULL: freed */
    int parent; /* -1: main */
};

static int nearest(const struct entry *entries, int i)
{
    while (i >= 0 && entries[i].g == NULL)
        i = entries[i].parent;
    return i;
}

TEST(families_of_any_history_are_as_in_a_plain_model)
{
    static struct entry ever[EVER];
    int living[LIVING], made_so_far = 0, loops = 0;
    unsigned long long seed = 88172645463325252ull;
#define RANDOM(n) \
    (seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17, (int)(seed >> 33) % (n))
    green_options_t options = {.stack_size = 16384, .flags = GREEN_NO_GUARD};

    for (int i = 0; i < LIVING; i++)
        living[i] = -1;
    while (made_so_far < times(EVER, EVER / 10)) {
        int slot = RANDOM(LIVING), i = living[slot], j = living[RANDOM(LIVING)];
        green_t *parent = j < 0 ? green_main() : ever[j].g;
        if (i < 0) { /* make */
            living[slot] = i = made_so_far++;
            ever[i].g = green_new_with(echo, parent, &options);
            assert_non_null(ever[i].g);
            ever[i].parent = j;
        } else if (RANDOM(3) == 0) { /* free */
            if (RANDOM(2) == 0)
                green_throw(ever[i].g, 0); /* kill it, and start somebody, before */
            assert_int_equal(green_free(ever[i].g), 0);
            ever[i].g = NULL;
            living[slot] = -1;
        } else { /* move */
            int loop = 0;
            for (int k = j; k >= 0; k = ever[k].parent)
                loop = loop || k == i;
            if (loop) {
                loops++;
                assert_refused(green_set_parent(ever[i].g, parent), ELOOP);
            } else {
                assert_int_equal(green_set_parent(ever[i].g, parent), 0);
                ever[i].parent = j;
            }
        }
        for (int k = 0; k < LIVING; k++)
            if (living[k] >= 0) {
                int up = nearest(ever, ever[living[k]].parent);
                green_t *expected = up < 0 ? green_main() : ever[up].g;
                assert_ptr_equal(green_parent(ever[living[k]].g), expected);
            }
    }
    assert_true(loops > made_so_far / 10); /* enough of them have been tried */
    for (int k = 0; k < LIVING; k++)
        if (living[k] >= 0)
            assert_int_equal(green_free(ever[living[k]].g), 0);
}

int main(void)
{
    return run_all_tests();
}
