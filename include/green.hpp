/* SPDX-License-Identifier: MIT */
#ifndef GREEN_HPP
#define GREEN_HPP
/*
 * libgreen for C++11 and later: greens with bodies that are function objects,
 * values that have types, and errors that are exceptions.
 *
 *     #include <green.hpp>
 *     #include <iostream>
 *
 *     libgreen::generator<int> count(int to)
 *     {
 *         typedef libgreen::generator<int>::self self;
 *         return libgreen::generator<int>([to](self &me) {
 *             for (int i = 1; i <= to; i++)
 *                 me.yield(i);                  // hand i to the loop, wait
 *         });
 *     }
 *
 *     int main()
 *     {
 *         for (int i : count(3))
 *             std::cout << i << '\n';           // 1 2 3
 *     }
 *
 * It is a thin cover of green.h, whose rules hold, and adds one of its own:
 * whoever enters a green is its parent from then on.  So what it yields, returns
 * or throws comes back to the call that entered it, with the type that is
 * expected there.
 *
 * Mixing.  get() gives the C handle, for all that looks.  What is entered through
 * green.h and not by switch_to() receives no value of its type: the call it waits
 * in throws EPROTO.  green_exit() leaves no value of a type either.
 *
 * Threads.  A green that was never entered may be handed to another thread, which
 * owns it from its first switch_to() on (rule 7).
 *
 * libc++.  A body must not call green_exit(): libc++abi cannot let that pass (see
 * there), and the program stops with a sentence.  Nor may a thread end inside one.
 *
 * Names.  green.h has a struct green: so say libgreen::green, or import it into
 * a namespace of yours, not into the global one.  libgreen::green_private is not
 * for use.
 */
#include <cerrno>
#include <cstddef>
#include <exception>
#include <iterator>
#include <memory>
#include <new>
#include <system_error>
#include <type_traits>
#include <utility>

#include <cxxabi.h>

#include <green.h>

namespace libgreen
{

/*
 * Thrown by the call that a green waits in when it is told to end: its handle is
 * destroyed, or ECANCELED was thrown into it.  It is no std::exception, so that
 * only catch (...) stops it, which should throw it on.  It ends at the end of the
 * green's body.
 */
class cancelled
{
};

namespace green_private
{

[[noreturn]] inline void fail(int error, const char *call)
{
    throw std::system_error(error, std::generic_category(), call);
}

/* What arrived is no value of ours: an error, or what somebody else has sent. */
[[noreturn]] inline void fail_with(const void *arrived, int error, const char *call)
{
    if (arrived != GREEN_FAILED)
        fail(EPROTO, call);
    if (error == ECANCELED)
        throw cancelled();
    fail(error, call);
}

/* Room for a value on its way from one stack to another. */
template <class T> class slot
{
    static_assert(std::is_object<T>::value, "a green's values are objects; use pointers");
    union {
        T value;
    };
    bool full;

public:
    slot() : full(false) {}
    slot(const slot &) = delete;
    ~slot() { drop(); }

    void drop()
    {
        if (full)
            value.~T();
        full = false;
    }

    void put(T from)
    {
        drop();
        ::new (static_cast<void *>(std::addressof(value))) T(std::move(from));
        full = true;
    }

    T take()
    {
        struct at_end {
            slot &s;
            ~at_end() { s.drop(); }
        } drops = {*this};
        return std::move(drops.s.value);
    }

    /* Puts what f returns; calls f with what is here. */
    template <class F, class... A> void put_result(F &f, A &&...a)
    {
        put(f(std::forward<A>(a)...));
    }
    template <class To, class F, class Self> void pass(To &to, F &f, Self &me)
    {
        to.put_result(f, me, take());
    }
};

template <> class slot<void>
{
public:
    void drop() {}
    void put() {}
    void take() {}
    template <class F, class... A> void put_result(F &f, A &&...a) { f(std::forward<A>(a)...); }
    template <class To, class F, class Self> void pass(To &to, F &f, Self &me)
    {
        to.put_result(f, me);
    }
};

/* In green<Out(In...)>: In, or void. */
template <class... In> struct only;
template <> struct only<> {
    typedef void type;
};
template <class In> struct only<In> {
    typedef In type;
};

inline void end(green_t *g)
{
    bool is_ours = green_parent(g) != nullptr; /* errno may say EPERM of what is thrown at us */
    if (green_free(g) != 0 && (!is_ours || green_abandon(g) != 0))
        std::terminate();
}

/*
 * What a green and those who enter it share.  Its address is what they pass to
 * each other in green.h's calls: whoever receives that has got a value of ours.
 */
template <class Out, class In> struct state {
    unsigned holders;         /* the handle, and calls that wait */
    green_t *handle;          /* NULL once it is released */
    slot<In> in;
    slot<Out> out;            /* what it yields, */
    slot<Out> result;         /* returns, */
    std::exception_ptr error; /* or is ended by: deferred functions may yield after that */
    bool waits;               /* to be entered: new, or in yield() */
    bool stopped;             /* by cancelled */

    state() : holders(0), handle(nullptr), waits(true), stopped(false) {}
    state(const state &) = delete;
    virtual ~state() {}
    virtual void call() = 0;

    /* The body, as green.h wants it.  What is caught of a forced unwinding is at no address. */
    __attribute__((__no_sanitize__("null"))) static void *run(void *arrived)
    {
        state *me = static_cast<state *>(green_data(green_current()));
        if (arrived != me) {
            errno = EPROTO;
            return GREEN_FAILED;
        }
        me->waits = false;
        try {
            me->call();
        } catch (const cancelled &) {
            me->stopped = true;
            /* The thread or the green is being ended from outside: to be let through.
               libc++abi has no such type, and cannot. */
#ifdef __GLIBCXX__
        } catch (abi::__forced_unwind &) {
            throw;
#endif
        } catch (...) {
            me->error = std::current_exception();
        }
        if (!me->stopped)
            return me;
        errno = ECANCELED;
        return GREEN_FAILED;
    }

    /* The end of a call that entered it. */
    Out finish(const void *arrived, int problem, const char *call_name)
    {
        in.drop();
        if (arrived == this) {
            if (waits)
                return out.take();
            if (error) {
                std::exception_ptr thrown;
                std::swap(thrown, error);
                std::rethrow_exception(std::move(thrown));
            }
            return result.take();
        }
        if (arrived != GREEN_FAILED && green_state(handle) == GREEN_DEAD)
            fail(ECANCELED, call_name);
        fail_with(arrived, problem, call_name);
    }
};

/* One who holds a state. */
template <class State> class held
{
    State *state;

public:
    explicit held(State *s = nullptr) noexcept : state(s)
    {
        if (state != nullptr)
            state->holders++;
    }
    held(const held &from) noexcept : held(from.state) {}
    held(held &&from) noexcept : state(from.state) { from.state = nullptr; }
    held &operator=(held from) noexcept
    {
        std::swap(state, from.state);
        return *this;
    }
    ~held()
    {
        if (state != nullptr && --state->holders == 0)
            delete state;
    }
    explicit operator bool() const noexcept { return state != nullptr; }
    State *operator->() const noexcept { return state; }
    State &operator*() const noexcept { return *state; }
};

} // namespace green_private

/*
 * A green that is entered with an In (green<Out()>: with nothing) and comes back
 * with an Out, which may be void.  Both are moved: they need no copying.
 *
 *     typedef libgreen::green<int(int)> adder;
 *     adder sum([](adder::self &me, int number) -> int {
 *         for (int total = 0;;)
 *             number = me.yield(total += number);
 *     });
 *     sum.switch_to(3);                          // 3
 *     sum.switch_to(4);                          // 7
 *
 * The handle owns the green.  It can be moved, also while the green waits, and
 * not copied.
 */
template <class Signature> class green;

template <class Out, class... In> class green<Out(In...)>
{
    static_assert(sizeof...(In) <= 1, "a green is entered with one value, or with none");
    typedef typename green_private::only<In...>::type in_type;
    typedef green_private::state<Out, in_type> state_type;
    typedef green_private::held<state_type> held_type;

public:
    /* What a body gets as its first argument. */
    class self
    {
    public:
        self(const self &) = delete;

        /*
         * Hands value to whoever has entered this green, and waits to be entered
         * again.  Returns what it is entered with then.
         *
         * Throws cancelled when the green is to end; std::system_error with what
         * is thrown into it, EPROTO (see above), or EPERM in another green than
         * this one.
         *
         * A function that the green has deferred may call it too, and must catch what it
         * throws: what the body has returned or thrown comes after what that yields.
         */
        template <class... V> in_type yield(V &&...value)
        {
            if (green_current() != shared.handle)
                green_private::fail(EPERM, "libgreen::green::self::yield");
            shared.out.put(std::forward<V>(value)...);
            shared.waits = true;
            void *arrived = green_yield(&shared);
            int error = errno;
            shared.waits = false;
            shared.out.drop();
            if (arrived != &shared)
                green_private::fail_with(arrived, error, "libgreen::green::self::yield");
            return shared.in.take();
        }

    private:
        friend class green;
        explicit self(state_type &state) : shared(state) {}
        state_type &shared;
    };

private:
    template <class F> struct state_with : state_type {
        F body;
        self me;
        explicit state_with(F &&f) : body(std::move(f)), me(*this) {}
        void call() override { this->in.pass(this->result, body, me); }
    };

public:
    /* No green: switch_to() throws EINVAL. */
    green() noexcept {}

    /*
     * Makes a green of the calling thread that will run body(self, In), which
     * must return an Out.  It does not run yet.  body is moved, and destroyed
     * with the handle.  options.data is not for use, nor is GREEN_DETACHED.
     *
     * Throws std::system_error as green_new_with() fails, and what moving body
     * throws.
     */
    template <class F, class = typename std::enable_if<!std::is_same<F, green>::value>::type>
    explicit green(F body, green_options_t options = green_options_t())
        : shared(new state_with<F>(std::move(body)))
    {
        if (options.data != nullptr || (options.flags & GREEN_DETACHED) != 0)
            green_private::fail(EINVAL, "libgreen::green");
        options.data = &*shared;
        shared->handle = green_new_with(state_type::run, nullptr, &options);
        if (shared->handle == nullptr)
            green_private::fail(errno, "libgreen::green");
    }

    green(green &&from) noexcept : shared(std::move(from.shared)) {}
    green &operator=(green &&from) noexcept
    {
        green old(std::move(*this)); /* ended last: that may run code of its own */
        shared = std::move(from.shared);
        return *this;
    }

    /*
     * Ends the green if need be, by green_free(): the call it waits in throws
     * cancelled, so that destructors run.  What it leaves, also by another
     * exception, is dropped.  One that yields instead of ending is abandoned, by
     * green_abandon().  So it is if an error is thrown at the calling green meanwhile,
     * which is dropped, be it the order to end.  If not even that is possible, inside a
     * trace hook or of a green that is running or being freed, and in another thread than
     * the green's, std::terminate().
     * What runs meanwhile finds the handle empty.
     */
    ~green()
    {
        held_type ending(std::move(shared)); /* not to be moved elsewhere by what it runs */
        if (ending && ending->handle != nullptr)
            green_private::end(ending->handle);
        if (ending)
            ending->handle = nullptr;
    }

    /*
     * The same, but the handle is kept, and the green lives, if green_free() fails:
     * throws cancelled if the calling green is told to end meanwhile, else
     * std::system_error as that says.
     */
    void reset()
    {
        held_type ending(std::move(shared));
        if (ending && green_free(ending->handle) != 0) {
            int error = errno;
            green given_meanwhile(std::move(*this));
            shared = std::move(ending);
            if (error == ECANCELED)
                throw cancelled();
            green_private::fail(error, "libgreen::green::reset");
        }
        if (ending)
            ending->handle = nullptr;
    }

    /*
     * Enters the green with value, as its parent.  Returns what it yields or
     * returns; rethrows the exception that it ends by.
     *
     * Throws cancelled if the calling green is told to end meanwhile, and
     * std::system_error with
     *
     *   what is thrown into the calling green meanwhile
     *   ESRCH      it is DEAD
     *   EBUSY      it waits in another call than yield(), or is running; inside a
     *              trace hook
     *   EPERM      another thread has started it
     *   ECANCELED  it has ended without a value, told to by somebody else
     *   EPROTO     somebody else has entered the calling green
     *   ELOOP      it is in yield(), and an ancestor of the calling green
     *   EINVAL     there is no green
     */
    Out switch_to(In... value)
    {
        prepare("libgreen::green::switch_to");
        shared->in.put(std::move(value)...);
        held_type there(shared); /* when we come back, the handle may be elsewhere, or gone */
        void *arrived = green_switch(there->handle, &*there);
        return there->finish(arrived, errno, "libgreen::green::switch_to");
    }

    /* The same with an error, an errno, which its yield() throws (rule 6). */
    Out throw_to(int error)
    {
        prepare("libgreen::green::throw_to");
        held_type there(shared);
        void *arrived = green_throw(there->handle, error);
        return there->finish(arrived, errno, "libgreen::green::throw_to");
    }

    /* Whether there is a green that can still be entered. */
    explicit operator bool() const noexcept
    {
        return shared && green_state(shared->handle) != GREEN_DEAD;
    }

    /* The C handle, or NULL; it stays ours. */
    green_t *get() const noexcept { return shared ? shared->handle : nullptr; }

private:
    /* Refuses what cannot be entered, and becomes the parent of what can. */
    void prepare(const char *call)
    {
        if (!shared)
            green_private::fail(EINVAL, call);
        green_t *handle = shared->handle;
        if (green_state(handle) == GREEN_DEAD)
            green_private::fail(ESRCH, call);
        green_t *parent = green_parent(handle); /* NULL: another thread's */
        if (parent != nullptr && !shared->waits)
            green_private::fail(EBUSY, call);
        if (parent == nullptr || parent != green_current()) {
            if (green_set_parent(handle, green_current()) != 0)
                green_private::fail(errno, call);
        }
    }

    held_type shared;
};

/*
 * The values that a green yields, for a range-for:
 *
 *     for (T &value : generator) ...
 *
 * The body is called with a self, whose yield(T) hands a value to the loop; its
 * return ends the loop, an exception that leaves it is thrown in the loop.  The
 * loop has the value itself, in the generator's frame, and may move from it.  It
 * can be a T &, too.  A loop that is left early can be gone on with by another.
 */
template <class T> class generator
{
    typedef typename std::remove_reference<T>::type value_type;
    typedef green<value_type *()> green_type;

public:
    class self
    {
    public:
        self(const self &) = delete;
        void yield(T value) { me.yield(std::addressof(value)); }

    private:
        friend class generator;
        explicit self(typename green_type::self &green_self) : me(green_self) {}
        typename green_type::self &me;
    };

    class iterator
    {
    public:
        typedef std::input_iterator_tag iterator_category;
        typedef typename std::remove_cv<typename generator::value_type>::type value_type;
        typedef std::ptrdiff_t difference_type;
        typedef typename generator::value_type *pointer;
        typedef typename generator::value_type &reference;

        iterator() noexcept : source(nullptr), current(nullptr) {}
        reference operator*() const noexcept { return *current; }
        pointer operator->() const noexcept { return current; }
        iterator &operator++()
        {
            current = source->next();
            return *this;
        }
        void operator++(int) { ++*this; }
        friend bool operator==(const iterator &a, const iterator &b) noexcept
        {
            return a.current == b.current;
        }
        friend bool operator!=(const iterator &a, const iterator &b) noexcept
        {
            return a.current != b.current;
        }

    private:
        friend class generator;
        explicit iterator(generator *from) : source(from), current(from->next()) {}
        generator *source;
        pointer current;
    };

    /* As green's. */
    template <class F, class = typename std::enable_if<!std::is_same<F, generator>::value>::type>
    explicit generator(F body, const green_options_t &options = green_options_t())
        : source(body_of<F>(std::move(body)), options)
    {
    }

    /* Runs the body to its next value.  Throws what switch_to() does. */
    iterator begin() { return iterator(this); }
    iterator end() noexcept { return iterator(); }

    green_t *get() const noexcept { return source.get(); }

private:
    template <class F> struct body_of {
        F body;
        explicit body_of(F &&f) : body(std::move(f)) {}
        value_type *operator()(typename green_type::self &green_self)
        {
            self me(green_self);
            body(me);
            return nullptr;
        }
    };

    value_type *next() { return source ? source.switch_to() : nullptr; }

    green_type source;
};

} // namespace libgreen

#endif
