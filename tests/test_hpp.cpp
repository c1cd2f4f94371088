/* SPDX-License-Identifier: MIT
 *
 * green.hpp: handles, bodies, values and exceptions of C++ greens, generators.
 * A test is a sentence; its function throws, or returns false, if it is not so.
 */
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <green.hpp>

namespace
{

/* What happened, in order. */
std::string story;

/* Tells of its end. */
struct witness {
    std::string name;
    explicit witness(std::string n) : name(std::move(n)) {}
    witness(const witness &) = delete;
    witness(witness &&from) : name(std::move(from.name)) { from.name.clear(); }
    ~witness()
    {
        errno = E2BIG; /* as a destructor may */
        if (!name.empty())
            story += "~" + name + " ";
    }
};

#define CHECK(expr)                                                             \
    do {                                                                        \
        if (!(expr))                                                            \
            throw std::logic_error("line " + std::to_string(__LINE__) + ": " #expr); \
    } while (0)

/* The errno that f throws as a std::system_error; 0 if it does not throw. */
template <class F> int error_of(F f)
{
    try {
        f();
    } catch (const std::system_error &error) {
        CHECK(error.code().category() == std::generic_category());
        return error.code().value();
    }
    return 0;
}

typedef libgreen::green<int(int)> adder;
typedef libgreen::green<void()> plain;
typedef libgreen::generator<int> ints;
typedef std::unique_ptr<int> number;

int add_up(adder::self &me, int n)
{
    for (int total = 0;;)
        n = me.yield(total += n);
}

/* Yields for ever. */
void tick(plain::self &me)
{
    witness w("tick");
    for (;;)
        me.yield();
}

ints count(int to)
{
    return ints([to](ints::self &me) {
        witness w("count");
        for (int i = 1; i <= to; i++)
            me.yield(i);
    });
}

/* Greens that are left over by a test are not. */
std::size_t living()
{
    green_stats_t stats;
    CHECK(green_stats(&stats, sizeof stats) == 0);
    return stats.greens;
}

/* ---- Values ----------------------------------------------------------------- */

void a_body_receives_and_yields_values_of_its_types()
{
    libgreen::green<std::string(int)> g([](libgreen::green<std::string(int)>::self &me, int n) {
        while (n < 3)
            n = me.yield(std::string(static_cast<std::size_t>(n), 'x'));
        return std::string("end");
    });
    CHECK(g.switch_to(1) == "x");
    CHECK(g.switch_to(2) == "xx");
    CHECK(g);
    CHECK(g.switch_to(3) == "end");
    CHECK(!g && green_state(g.get()) == GREEN_DEAD);
}

void a_body_may_be_a_function_or_an_object_that_only_moves()
{
    adder sum(add_up);
    CHECK(sum.switch_to(3) == 3 && sum.switch_to(4) == 7);

    struct body {
        number held;
        int operator()(adder::self &, int n) { return *held + n; }
    } five = {number(new int(5))};
    adder once(std::move(five));
    CHECK(once.switch_to(2) == 7);
}

void values_need_only_be_movable()
{
    typedef libgreen::green<number(number)> doubler;
    doubler g([](doubler::self &me, number n) {
        for (;;) {
            *n *= 2;
            n = me.yield(std::move(n));
        }
        return n;
    });
    CHECK(*g.switch_to(number(new int(4))) == 8);
    CHECK(*g.switch_to(number(new int(5))) == 10);
}

void void_is_a_type_too()
{
    int times = 0;
    plain g([&times](plain::self &me) {
        while (++times < 3)
            me.yield();
    });
    g.switch_to();
    g.switch_to();
    CHECK(g);
    g.switch_to();
    CHECK(!g && times == 3);

    libgreen::green<void(int)> sink([&times](libgreen::green<void(int)>::self &me, int n) {
        for (;;) {
            times += n;
            n = me.yield();
        }
    });
    sink.switch_to(10);
    sink.switch_to(20);
    CHECK(times == 33);

    libgreen::green<int()> source([](libgreen::green<int()>::self &me) {
        me.yield(1);
        return 2;
    });
    CHECK(source.switch_to() == 1 && source.switch_to() == 2);
}

void a_value_that_is_not_fetched_is_destroyed()
{
    typedef libgreen::green<witness()> maker;
    {
        maker g([](maker::self &me) {
            try {
                me.yield(witness("one"));
            } catch (const libgreen::cancelled &) {
                me.yield(witness("refused"));
                story += "resumed ";
            }
            return witness("two");
        });
        g.switch_to();
        story += "| ";
        CHECK(error_of([&] { g.reset(); }) == EBUSY);
        g.switch_to();
        story += "| ";
    }
    CHECK(story == "~one | ~refused resumed ~two | ");
}

void a_value_is_gone_when_it_was_fetched()
{
    struct copied {
        std::shared_ptr<int> held;
        explicit copied(std::shared_ptr<int> h) : held(std::move(h)) {}
        copied(const copied &) = default; /* and so nothing that moves */
        copied &operator=(const copied &) = default;
    };
    std::shared_ptr<int> held = std::make_shared<int>(1);
    typedef libgreen::green<copied(copied)> mirror;
    mirror g([](mirror::self &me, copied value) -> copied {
        for (;;) {
            copied answer = std::move(value);
            value = me.yield(std::move(answer));
        }
    });
    g.switch_to(copied(held));
    CHECK(held.use_count() == 4); /* ours, the argument and its copy, the answer */
}

void an_exception_is_gone_when_it_was_caught()
{
    plain g([](plain::self &) { throw witness("thrown"); });
    try {
        g.switch_to();
        CHECK(!"thrown");
    } catch (const witness &) {
        CHECK(story.empty());
    }
    CHECK(story == "~thrown ");
}

void trying_in_a_trace_hook(green_trace_event_t, green_t *, green_t *, void *data)
{
    libgreen::green<void(witness)> &g = *static_cast<libgreen::green<void(witness)> *>(data);
    story += std::to_string(error_of([&] { g.switch_to(witness("refused")); }) == EBUSY) + " ";
}

void inside_a_trace_hook_nothing_is_entered()
{
    libgreen::green<void(witness)> g([](libgreen::green<void(witness)>::self &, witness) {});
    plain other([](plain::self &) {});
    green_set_trace(trying_in_a_trace_hook, &g);
    green_switch(green_current(), nullptr);
    green_set_trace(nullptr, nullptr);
    CHECK(story == "~refused 1 ");
    g.switch_to(witness("entered"));
    CHECK(!g && story == "~refused 1 ~entered ");
}

void a_value_whose_copy_throws_leaves_the_green_as_it_was()
{
    struct fragile {
        bool good;
        explicit fragile(bool g) : good(g) {}
        fragile(const fragile &from) : good(from.good)
        {
            if (!good)
                throw std::runtime_error("copy");
        }
    };
    typedef libgreen::green<int(fragile)> eater;
    eater g([](eater::self &me, const fragile &) {
        for (int i = 1;; i++)
            me.yield(i);
        return 0;
    });
    fragile bad(false);
    CHECK(g.switch_to(fragile(true)) == 1);
    try {
        g.switch_to(bad);
        CHECK(!"thrown");
    } catch (const std::runtime_error &) {
    }
    CHECK(g.switch_to(fragile(true)) == 2);
}

typedef libgreen::green<std::string()> speaker;

void defy(void *self)
{
    try {
        static_cast<speaker::self *>(self)->yield(std::string("deferred, longer than a pointer"));
    } catch (const libgreen::cancelled &) {
        story += "told to end ";
    }
}

void a_deferred_function_may_yield_before_the_result_of_the_body()
{
    speaker g([](speaker::self &me) {
        CHECK(green_defer(defy, &me) == 0);
        return std::string("the result, longer than a pointer");
    });
    CHECK(g.switch_to() == "deferred, longer than a pointer" && g);
    CHECK(g.switch_to() == "the result, longer than a pointer" && !g);
    {
        speaker left([](speaker::self &me) {
            CHECK(green_defer(defy, &me) == 0);
            return std::string("what nobody fetches, longer than that");
        });
        left.switch_to();
    }
    CHECK(story == "told to end ");

    plain empty([](plain::self &me) {
        CHECK(green_defer([](void *self) { static_cast<plain::self *>(self)->yield(); }, &me) == 0);
    });
    empty.switch_to();
    CHECK(empty);
    empty.switch_to();
    CHECK(!empty);
}

void a_deferred_function_may_yield_before_the_exception_of_the_body()
{
    speaker g([](speaker::self &me) -> std::string {
        CHECK(green_defer(defy, &me) == 0);
        throw witness("thrown");
    });
    CHECK(g.switch_to() == "deferred, longer than a pointer" && g);
    try {
        g.switch_to();
        CHECK(!"thrown");
    } catch (const witness &) {
        story += "caught ";
    }
    CHECK(!g && story == "caught ~thrown ");
}

/* ---- Handles ---------------------------------------------------------------- */

void a_handle_moves_and_takes_its_green_along()
{
    adder a(add_up), b;
    CHECK(!b && b.get() == nullptr);
    a.switch_to(1);
    b = std::move(a);
    CHECK(!a && b.switch_to(1) == 2);
    std::vector<adder> all;
    all.push_back(std::move(b));
    all.push_back(adder(add_up));
    CHECK(all[0].switch_to(1) == 3 && all[1].switch_to(1) == 1);
    all[0] = std::move(all[1]);
    CHECK(all[0].switch_to(1) == 2);
    CHECK(error_of([&] { b.switch_to(1); }) == EINVAL);
    b.reset();
}

void a_handle_moves_from_under_a_call_that_waits()
{
    adder here, there;
    here = adder([&](adder::self &me, int n) {
        there = std::move(here);
        n = me.yield(n + 1);
        return n + 2;
    });
    CHECK(here.switch_to(1) == 2);
    CHECK(!here && there.switch_to(2) == 4);
}

void a_handle_moves_from_under_its_end()
{
    plain there;
    for (bool by_reset : {true, false}) {
        std::unique_ptr<plain> owner(new plain);
        plain *here = owner.get();
        *here = plain([&](plain::self &me) {
            try {
                me.yield();
            } catch (const libgreen::cancelled &) {
                there = std::move(*here);
                throw;
            }
        });
        here->switch_to();
        if (by_reset)
            here->reset();
        owner.reset();
        CHECK(!there && there.get() == nullptr);
        CHECK(error_of([&] { there.switch_to(); }) == EINVAL);
        there.reset();
    }
}

void the_end_of_a_handle_unwinds_a_green_that_waits()
{
    {
        plain g(tick);
        g.switch_to();
        CHECK(story.empty());
    }
    CHECK(story == "~tick ");
    story.clear();
    plain g(tick);
    g.switch_to();
    g = plain();
    CHECK(story == "~tick ");
}

void a_green_that_never_ran_does_not_run_at_the_end_of_its_handle()
{
    std::shared_ptr<int> held = std::make_shared<int>(1);
    {
        plain g([held](plain::self &) { story += "ran"; });
        CHECK(held.use_count() == 2);
    }
    CHECK(held.use_count() == 1 && story.empty());
}

void what_a_green_throws_while_it_is_ended_is_dropped()
{
    {
        plain g([](plain::self &me) {
            try {
                me.yield();
            } catch (...) {
                throw std::runtime_error("instead");
            }
        });
        g.switch_to();
    }
    plain g([](plain::self &me) {
        try {
            me.yield();
        } catch (const libgreen::cancelled &) {
            story += "obeyed";
        }
    });
    g.switch_to();
    g.reset();
    CHECK(!g && g.get() == nullptr && story == "obeyed");
}

void a_handler_of_std_exception_does_not_stop_the_end()
{
    {
        plain g([](plain::self &me) {
            for (;;) {
                try {
                    me.yield();
                } catch (const std::exception &) {
                    story += "caught";
                }
            }
        });
        g.switch_to();
    }
    CHECK(story.empty());
}

void a_green_that_refuses_to_end_is_kept_by_reset_and_abandoned_with_its_handle()
{
    bool *end = new bool(false);
    {
        plain g([end](plain::self &me) {
            for (;;) {
                try {
                    me.yield();
                } catch (const libgreen::cancelled &) {
                    if (*end)
                        throw;
                    story += "no ";
                }
            }
        });
        g.switch_to();
        CHECK(error_of([&] { g.reset(); }) == EBUSY);
        CHECK(g);
        g.switch_to();
        *end = true;
        g.reset();
        CHECK(!g && story == "no ");
    }
    *end = false;
    {
        plain g([](plain::self &me) {
            for (;;) {
                try {
                    me.yield();
                } catch (...) {
                    story += "never ";
                }
            }
        });
        g.switch_to();
    }
    CHECK(story == "no never ");
    delete end;
}

/* Throws an error at its parent when it is told to end, and ends the next time. */
plain one_that_throws(int error)
{
    return plain([error](plain::self &me) {
        try {
            me.yield();
        } catch (const libgreen::cancelled &) {
        }
        green_throw(green_parent(green_current()), error);
    });
}

void an_error_thrown_at_who_ends_a_handle_leaves_its_green_abandoned()
{
    for (int error : {EIO, EPERM, ECANCELED}) {
        plain g = one_that_throws(error);
        g.switch_to();
        std::size_t before = living();
        g = plain();
        CHECK(g.get() == nullptr && living() == before - 1);
    }
}

void reset_throws_what_is_thrown_at_its_caller_and_keeps_the_handle()
{
    for (int error : {EIO, ECANCELED}) {
        plain inner = one_that_throws(error);
        plain outer([&](plain::self &) {
            inner.switch_to();
            try {
                inner.reset();
            } catch (const libgreen::cancelled &) {
                story += "cancelled ";
            } catch (const std::system_error &refused) {
                CHECK(refused.code().value() == EIO);
                story += "refused ";
            }
        });
        outer.switch_to();
        CHECK(inner);
        inner.reset();
    }
    CHECK(story == "refused cancelled ");
}

void a_destructor_may_yield_while_its_green_lives()
{
    struct farewell {
        plain::self &me;
        ~farewell() { me.yield(); }
    };
    plain g([](plain::self &me) {
        farewell f = {me};
        throw std::runtime_error("through it");
    });
    g.switch_to();
    try {
        g.switch_to();
        CHECK(!"thrown");
    } catch (const std::runtime_error &error) {
        CHECK(std::string("through it") == error.what());
    }
}

void a_waiting_call_outlives_the_handle_of_whom_it_entered()
{
    plain outer, inner;
    outer = plain([&](plain::self &) {
        witness w("outer");
        inner.switch_to();
    });
    inner = plain([&](plain::self &) { outer = plain(); });
    CHECK(error_of([&] { outer.switch_to(); }) == ECANCELED);
    CHECK(story == "~outer ");
}

/* ---- Errors ------------------------------------------------------------------- */

void an_exception_ends_a_green_and_is_thrown_at_its_parent()
{
    adder g([](adder::self &me, int n) -> int {
        witness w("g");
        me.yield(n);
        throw std::out_of_range("too far");
    });
    CHECK(g.switch_to(1) == 1);
    try {
        g.switch_to(2);
        CHECK(!"thrown");
    } catch (const std::out_of_range &error) {
        CHECK(std::string("too far") == error.what());
    }
    CHECK(story == "~g " && !g);
    CHECK(error_of([&] { g.switch_to(3); }) == ESRCH);
}

void an_exception_goes_up_through_greens_that_do_not_catch_it()
{
    plain a([](plain::self &) {
        witness w("a");
        plain b([](plain::self &) {
            witness v("b");
            plain c([](plain::self &) {
                witness u("c");
                throw 42;
            });
            c.switch_to();
        });
        b.switch_to();
    });
    int caught = 0;
    try {
        a.switch_to();
    } catch (int n) {
        caught = n;
    }
    CHECK(caught == 42 && story == "~c ~b ~a ");
}

void an_error_thrown_into_a_green_is_a_system_error_there()
{
    adder g([](adder::self &me, int n) {
        witness w("g");
        for (;;) {
            try {
                n = me.yield(n);
            } catch (const std::system_error &error) {
                n = error.code().value();
            }
        }
        return 0;
    });
    CHECK(g.switch_to(5) == 5);
    CHECK(g.throw_to(EDOM) == EDOM);
    CHECK(g.switch_to(6) == 6);
    CHECK(error_of([&] { g.throw_to(0); }) == ECANCELED);
    CHECK(!g);

    adder fresh(add_up);
    CHECK(error_of([&] { fresh.throw_to(EDOM); }) == EDOM && !fresh);
    adder passes(add_up);
    passes.switch_to(1);
    CHECK(error_of([&] { passes.throw_to(ERANGE); }) == ERANGE && !passes);
    adder stays(add_up);
    CHECK(error_of([&] { stays.throw_to(-1); }) == EINVAL && stays);
}

void who_cannot_be_entered_is_refused_and_nothing_changes()
{
    plain outer, inner;
    int self_error = 0, up_error = 0;
    int first_error = 0;
    outer = plain([&](plain::self &me) {
        first_error = error_of([&] { outer.switch_to(); });
        me.yield();
        self_error = error_of([&] { outer.switch_to(); });
        inner = plain([&](plain::self &deep) {
            up_error = error_of([&] { outer.switch_to(); });
            deep.yield();
        });
        inner.switch_to();
        me.yield();
    });
    outer.switch_to();
    outer.switch_to();
    CHECK(first_error == EBUSY && self_error == EBUSY && up_error == EBUSY);
    CHECK(outer && inner);
    inner.switch_to();
    CHECK(!inner);

    int yield_error = 0;
    plain a([&](plain::self &me) {
        plain b([&](plain::self &) { yield_error = error_of([&] { me.yield(); }); });
        b.switch_to();
    });
    a.switch_to();
    CHECK(yield_error == EPERM);
}

void an_ancestor_that_yields_is_refused_to_whom_it_has_entered()
{
    plain outer, inner;
    int error = 0;
    inner = plain([&](plain::self &) {
        CHECK(error_of([&] { outer.reset(); }) == EBUSY);
        error = error_of([&] { outer.switch_to(); });
    });
    outer = plain([&](plain::self &me) {
        try {
            inner.switch_to();
        } catch (const libgreen::cancelled &) {
            CHECK(error_of([&] { me.yield(); }) == EPROTO);
            throw;
        }
    });
    CHECK(error_of([&] { outer.switch_to(); }) == ECANCELED && error == ELOOP);
}

void whoever_enters_a_green_is_its_parent()
{
    adder sum(add_up);
    CHECK(sum.switch_to(1) == 1);
    int got = 0;
    plain other([&](plain::self &) {
        got = sum.switch_to(2);
        CHECK(green_parent(sum.get()) == green_current());
    });
    other.switch_to();
    CHECK(got == 3 && sum.switch_to(3) == 6);
    CHECK(green_parent(sum.get()) == green_main());
}

void what_is_entered_from_c_receives_no_value()
{
    int error = 0;
    adder g([&](adder::self &me, int n) {
        error = error_of([&] { me.yield(n); });
        return 1;
    });
    CHECK(g.switch_to(1) == 1);
    int stray;
    green_switch(g.get(), &stray);
    CHECK(error == EPROTO && !g);

    adder never(add_up);
    errno = 0;
    CHECK(green_switch(never.get(), &stray) == GREEN_FAILED && errno == EPROTO && !never);

    plain outer([&](plain::self &) {
        adder inner([&](adder::self &, int) -> int {
            green_switch(outer.get(), &stray);
            return 0;
        });
        error = error_of([&] { inner.switch_to(1); });
    });
    outer.switch_to();
    CHECK(error == EPROTO);
}

void exit_in_a_body()
{
    adder g([](adder::self &, int) -> int { green_exit(nullptr); });
    CHECK(error_of([&] { g.switch_to(1); }) == ECANCELED && !g);
}

#ifndef _LIBCPP_VERSION
void a_body_that_exits_leaves_no_value()
{
    exit_in_a_body();
}
#else
void a_body_that_exits_leaves_no_value() /* nor does the program go on with libc++abi */
{
    char said[200] = "";
    int ends[2], status = 0;
    std::fflush(nullptr);
    CHECK(pipe(ends) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        alarm(60);
        dup2(ends[1], STDERR_FILENO);
        exit_in_a_body();
        _exit(0);
    }
    close(ends[1]);
    CHECK(waitpid(pid, &status, 0) == pid && read(ends[0], said, sizeof said - 1) > 0);
    close(ends[0]);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    CHECK(std::string(said).find("libgreen: catch (...) did not throw on") == 0);
}
#endif

void options_are_those_of_green_h()
{
    green_options_t options = green_options_t();
    options.name = "adder";
    adder g(add_up, options);
    CHECK(std::string("adder") == green_name(g.get()));
    options.flags = GREEN_DETACHED;
    CHECK(error_of([&] { adder h(add_up, options); }) == EINVAL);
    options.flags = 0x80000000;
    CHECK(error_of([&] { adder h(add_up, options); }) == EINVAL);
    options.flags = 0;
    options.data = &options;
    CHECK(error_of([&] { adder h(add_up, options); }) == EINVAL);
}

/* ---- Threads ------------------------------------------------------------------ */

void a_green_belongs_to_the_thread_that_enters_it_first()
{
    adder started(add_up), fresh(add_up);
    started.switch_to(1);
    int refused = 0, sum = 0;
    bool moved_back = true;
    std::thread thread([&] {
        refused = error_of([&] { started.switch_to(1); });
        sum = fresh.switch_to(5) + fresh.switch_to(5);
        adder own(add_up);
        own.switch_to(1);
        moved_back = green_state(fresh.get()) == GREEN_SUSPENDED;
    });
    thread.join();
    CHECK(refused == EPERM && sum == 15 && moved_back);
    CHECK(!fresh && error_of([&] { fresh.switch_to(1); }) == ESRCH);
    CHECK(started.switch_to(1) == 2);
}

/* ---- Generators --------------------------------------------------------------- */

void a_loop_takes_what_a_generator_yields()
{
    int sum = 0;
    for (int i : count(4))
        sum = sum * 10 + i;
    CHECK(sum == 1234 && story == "~count ");
    for (int i : count(0))
        sum = i;
    CHECK(sum == 1234);
}

void a_loop_left_early_ends_its_generator_or_leaves_it_to_another()
{
    for (int i : count(1000000))
        if (i == 3)
            break;
    CHECK(story == "~count ");
    ints rest = count(5);
    int sum = 0;
    for (int i : rest)
        if (i == 2)
            break;
    for (int i : rest)
        sum = sum * 10 + i;
    CHECK(sum == 345);
    for (int i : rest)
        sum = i;
    CHECK(sum == 345);
}

void an_exception_in_a_generator_is_thrown_in_the_loop()
{
    ints g([](ints::self &me) {
        witness w("g");
        me.yield(1);
        throw std::runtime_error("no more");
    });
    int seen = 0;
    try {
        for (int i : g)
            seen = i;
        CHECK(!"thrown");
    } catch (const std::runtime_error &) {
        story += "caught";
    }
    CHECK(seen == 1 && story == "~g caught");
}

void an_exception_in_a_loop_ends_the_generator()
{
    try {
        for (int i : count(9))
            throw i;
    } catch (int i) {
        story += std::to_string(i);
    }
    CHECK(story == "~count 1");
}

/* All below n, depth first: recursion within one generator. */
void walk(ints::self &me, int n)
{
    if (n >= 8)
        return;
    walk(me, 2 * n);
    me.yield(n);
    walk(me, 2 * n + 1);
}

void generators_nest_and_recurse()
{
    ints pairs([](ints::self &me) {
        for (int i : count(3))
            for (int j : count(i))
                me.yield(10 * i + j);
    });
    std::vector<int> seen(pairs.begin(), pairs.end());
    CHECK((seen == std::vector<int>{11, 21, 22, 31, 32, 33}));
    CHECK(story == "~count ~count ~count ~count ");

    ints tree([](ints::self &me) { walk(me, 1); });
    std::vector<int> order(tree.begin(), tree.end());
    CHECK((order == std::vector<int>{4, 2, 5, 1, 6, 3, 7}));
}

void a_nest_of_generators_unwinds_from_the_inside()
{
    struct deep {
        static void dig(ints::self &me, int level)
        {
            witness w(std::to_string(level));
            if (level == 4)
                for (;;)
                    me.yield(level);
            ints inner([level](ints::self &out) { dig(out, level + 1); });
            for (int i : inner)
                me.yield(i);
        }
    };
    {
        ints outer([](ints::self &me) { deep::dig(me, 1); });
        CHECK(*outer.begin() == 4);
    }
    CHECK(story == "~4 ~3 ~2 ~1 ");
}

void a_loop_has_the_value_itself_and_may_move_it()
{
    libgreen::generator<number> numbers([](libgreen::generator<number>::self &me) {
        for (int i = 1; i <= 3; i++)
            me.yield(number(new int(i)));
    });
    std::vector<number> kept;
    for (number &n : numbers)
        kept.push_back(std::move(n));
    CHECK(kept.size() == 3 && *kept[2] == 3);

    int cells[3] = {1, 2, 3};
    libgreen::generator<int &> all([&](libgreen::generator<int &>::self &me) {
        for (int &cell : cells)
            me.yield(cell);
    });
    for (int &cell : all)
        cell *= 2;
    CHECK(cells[0] == 2 && cells[2] == 6);

    std::string word = "word";
    libgreen::generator<const std::string &> words(
        [&](libgreen::generator<const std::string &>::self &me) { me.yield(word); });
    for (const std::string &w : words)
        CHECK(&w == &word);
}

void a_generator_moves_with_its_place()
{
    ints a = count(3);
    CHECK(*a.begin() == 1);
    ints b = std::move(a);
    CHECK(*b.begin() == 2);
    CHECK(a.begin() == a.end());
}

#if __cplusplus >= 202002L
static_assert(std::input_iterator<ints::iterator>, "it is one");
#endif
static_assert(!std::is_copy_constructible<adder>::value, "a handle is not copied");
static_assert(!std::is_copy_constructible<ints>::value, "nor is a generator");
static_assert(std::is_nothrow_move_constructible<adder>::value, "a vector moves it");
static_assert(std::is_nothrow_move_assignable<adder>::value, "");
static_assert(std::is_nothrow_move_constructible<ints>::value, "");

/* ---- All of them ---------------------------------------------------------------- */

#define TEST(name) {#name, name}

const struct {
    const char *name;
    void (*run)();
} tests[] = {
    TEST(a_body_receives_and_yields_values_of_its_types),
    TEST(a_body_may_be_a_function_or_an_object_that_only_moves),
    TEST(values_need_only_be_movable),
    TEST(void_is_a_type_too),
    TEST(a_value_that_is_not_fetched_is_destroyed),
    TEST(a_value_is_gone_when_it_was_fetched),
    TEST(an_exception_is_gone_when_it_was_caught),
    TEST(inside_a_trace_hook_nothing_is_entered),
    TEST(a_value_whose_copy_throws_leaves_the_green_as_it_was),
    TEST(a_deferred_function_may_yield_before_the_result_of_the_body),
    TEST(a_deferred_function_may_yield_before_the_exception_of_the_body),
    TEST(a_handle_moves_and_takes_its_green_along),
    TEST(a_handle_moves_from_under_a_call_that_waits),
    TEST(a_handle_moves_from_under_its_end),
    TEST(the_end_of_a_handle_unwinds_a_green_that_waits),
    TEST(a_green_that_never_ran_does_not_run_at_the_end_of_its_handle),
    TEST(what_a_green_throws_while_it_is_ended_is_dropped),
    TEST(a_handler_of_std_exception_does_not_stop_the_end),
    TEST(a_green_that_refuses_to_end_is_kept_by_reset_and_abandoned_with_its_handle),
    TEST(an_error_thrown_at_who_ends_a_handle_leaves_its_green_abandoned),
    TEST(reset_throws_what_is_thrown_at_its_caller_and_keeps_the_handle),
    TEST(a_destructor_may_yield_while_its_green_lives),
    TEST(a_waiting_call_outlives_the_handle_of_whom_it_entered),
    TEST(an_exception_ends_a_green_and_is_thrown_at_its_parent),
    TEST(an_exception_goes_up_through_greens_that_do_not_catch_it),
    TEST(an_error_thrown_into_a_green_is_a_system_error_there),
    TEST(who_cannot_be_entered_is_refused_and_nothing_changes),
    TEST(an_ancestor_that_yields_is_refused_to_whom_it_has_entered),
    TEST(whoever_enters_a_green_is_its_parent),
    TEST(what_is_entered_from_c_receives_no_value),
    TEST(a_body_that_exits_leaves_no_value),
    TEST(options_are_those_of_green_h),
    TEST(a_green_belongs_to_the_thread_that_enters_it_first),
    TEST(a_loop_takes_what_a_generator_yields),
    TEST(a_loop_left_early_ends_its_generator_or_leaves_it_to_another),
    TEST(an_exception_in_a_generator_is_thrown_in_the_loop),
    TEST(an_exception_in_a_loop_ends_the_generator),
    TEST(generators_nest_and_recurse),
    TEST(a_nest_of_generators_unwinds_from_the_inside),
    TEST(a_loop_has_the_value_itself_and_may_move_it),
    TEST(a_generator_moves_with_its_place),
};

} // namespace

int main()
{
    int failed = 0;
    for (const auto &test : tests) {
        std::string problem;
        story.clear();
        try {
            test.run();
            if (living() != 0)
                problem = std::to_string(living()) + " greens are left";
        } catch (const std::exception &error) {
            problem = error.what();
        }
        std::printf("%s %s%s%s\n", problem.empty() ? "ok    " : "FAILED", test.name,
                    problem.empty() ? "" : ": ", problem.c_str());
        failed += !problem.empty();
    }
    return failed != 0;
}
