# SPDX-License-Identifier: MIT
"""
gdb and the greens of a program: on a live process, and on a core file.

    info greens                  all started living greens of all threads
    green N                      look at green N: bt, up, info locals ... are its
    green                        which one is looked at
    green apply all COMMAND      COMMAND for each green, e.g. green apply all bt
    green apply N... COMMAND     COMMAND for these
    info tasks                   the tasks of green_hub.h: what each waits in

Nothing of the program is touched.  What a suspended green is looked at by is an
unwinder that says of the thread's newest frame that the suspended frames called
it: so these are numbered from #1 on (higher if functions are inlined in #0), and
bt leaves out what is before.  This ends as soon as the program goes on, or with
`green N` for one that runs.

It needs no debug information of libgreen, only the symbol TABLE, in which the
library says where things stand (src/core/layout.c), and HUB_TABLE for tasks.  It relies on the top words of
suspended stacks (src/arch/arch.h).  Greens that are new or dead are in no list
of the library, and so not here.
"""
import re
import struct
import time

import gdb
from gdb.FrameDecorator import FrameDecorator
from gdb.unwinder import Unwinder

TABLE = "green_private_debug_1"

# The numbers in the table, as src/core/layout.c has them.
FIELDS = (
    "thread_size", "thread_next", "thread_id", "thread_handle", "thread_current", "thread_runs",
    "thread_main", "thread_mark",
    "green_size", "green_sp", "green_parent", "green_stand_in", "green_is_main", "green_released",
    "green_next", "green_stack_low", "green_stack_size", "green_name", "name_max",
)

HUB_TABLE = "green_private_hub_3"
NO_WAIT = 3  # the state of a task's own wait, while there is none

# The numbers in that, as src/hub/layout.c has them.
HUB_FIELDS = (
    "thread_layer", "green_layer",
    "hub_size", "hub_green", "hub_time", "hub_is_virtual", "hub_main", "hub_living",
    "task_size", "task_next", "task_green", "task_waits", "task_cancelled",
    "wait_size", "wait_next", "wait_green", "wait_state", "wait_since", "wait_call", "wait_object",
    "wait_place", "wait_descriptors",
)

# The registers of the top words of a suspended stack; the first is where it goes on.
REGISTERS = {
    "i386:x86-64": ("rip", "rsp", "rbp", "rbx"),
    "aarch64": ("pc", "sp", "x29", "x19"),
}

POINTER = 8
MASK = (1 << 64) - 1
LOWEST_ADDRESS = 1 << 22  # of what a program has, and more than there are processes


class NoGreens(gdb.GdbError):
    pass


# ---- Memory ------------------------------------------------------------------


def read(address, size):
    return bytes(gdb.selected_inferior().read_memory(address, size))


def string(address, size):
    """What is there up to a zero, or the end."""
    try:
        text = read(address, size).split(b"\0")[0]
    except gdb.MemoryError:
        text = b"?"
    return text.decode("utf-8", "replace")


def arch():
    name = gdb.selected_inferior().architecture().name()
    if name not in REGISTERS:
        raise gdb.GdbError("libgreen has no port to %s, or green-gdb.py does not know it." % name)
    return name


class Table:
    """What the library says of itself."""

    def __init__(self):
        try:
            address = int(gdb.parse_and_eval("(long)&" + TABLE))
        except gdb.error:
            raise NoGreens("No libgreen here, or another version: there is no symbol %s." % TABLE)
        form = "<4Q%dH" % len(FIELDS)  # both CPUs are little-endian
        try:
            values = struct.unpack(form, read(address, struct.calcsize(form)))
        except gdb.MemoryError:
            raise NoGreens("There is no process yet.")
        self.threads, self.resumed, self.moves_begin, self.moves_end = values[:4]
        for name, value in zip(FIELDS, values[4:]):
            setattr(self, name, value)

    def pointer(self, data, offset):
        return struct.unpack_from("<Q", data, offset)[0]

    def name_in(self, data):
        """The name of a green, whose struct is data; None if it has none."""
        name = self.pointer(data, self.green_name)
        return string(name, self.name_max + 1) if name != 0 else None


class HubTable:
    """What the hub says of itself."""

    def __init__(self):
        try:
            address = int(gdb.parse_and_eval("(long)&" + HUB_TABLE))
        except gdb.error:
            raise NoGreens("No hub here, or of another version: there is no symbol %s." % HUB_TABLE)
        form = "<%dH" % len(HUB_FIELDS)
        for name, value in zip(HUB_FIELDS, struct.unpack(form, read(address, struct.calcsize(form)))):
            setattr(self, name, value)


# ---- Greens --------------------------------------------------------------------


class Thread:
    """A thread of the program that uses libgreen."""

    def __init__(self, table, address, data):
        self.data = data
        self.main = address + table.thread_main
        self.mark = address + table.thread_mark
        self.handle = table.pointer(data, table.thread_handle)
        self.running = (table.pointer(data, table.thread_runs) or
                        table.pointer(data, table.thread_current))
        self.table = table
        self.gdb_thread = None

    def waits_in(self, pc):
        """Whether it is in the library's functions that greens wait in."""
        return pc == self.table.resumed or self.table.moves_begin <= pc <= self.table.moves_end

    def number(self):
        return str(self.gdb_thread.num) if self.gdb_thread is not None else "?"


class Green:
    """A started living green."""

    numbers = {}  # by address; one that takes the place of another takes its number, too

    def __init__(self, table, address, data, thread):
        self.address = address
        self.thread = thread
        self.running = thread.running == address
        self.is_main = data[table.green_is_main] != 0
        self.sp = table.pointer(data, table.green_sp)
        self.stack_low = table.pointer(data, table.green_stack_low)
        self.stack_size = table.pointer(data, table.green_stack_size)
        self.name = "main" if self.is_main else None
        if not self.is_main:
            self.name = table.name_in(data)
        self.parent = 0
        if not self.is_main:
            self.parent = (table.pointer(data, table.green_stand_in) or
                           self.find_parent(table, data))
        self.number = self.numbers.setdefault(address, len(self.numbers) + 1)

    @staticmethod
    def find_parent(table, data):
        """As green__parent(): the nearest whose handle is not released."""
        while True:
            parent = table.pointer(data, table.green_parent)
            if parent == 0:
                return 0
            data = read(parent, table.green_size)
            if not data[table.green_released]:
                return parent

    def state(self):
        return "RUNNING" if self.running else "SUSPENDED"

    def registers(self):
        """Of a suspended one: the values of REGISTERS."""
        words = struct.unpack("<3Q", read(self.sp, 3 * POINTER))
        return (words[0], self.sp + POINTER) + words[1:]

    def used(self, stack_pointer):
        if self.is_main:
            return "-"
        used = self.stack_low + self.stack_size - stack_pointer
        if not 0 <= used <= self.stack_size:  # it stands on another stack
            return "? of %d" % self.stack_size
        return "%d of %d" % (used, self.stack_size)

    def title(self):
        name = ' "%s"' % self.name if self.name is not None else ""
        return "Green %d (%#x%s), thread %s, %s" % (self.number, self.address, name,
                                                    self.thread.number(), self.state())


def thread_pointer(thread):
    """What pthread_self() is in a thread of gdb's, or None."""
    try:
        return int.from_bytes(thread.handle(), "little")
    except (gdb.error, RuntimeError, AttributeError):
        pass
    return register("fs_base")


def register(name):
    try:
        value = int(gdb.newest_frame().read_register(name))
        return value & MASK
    except (gdb.error, ValueError):
        return None


def match_threads(threads, greens):
    """Finds for each thread that uses libgreen which one of gdb's it is."""
    stacks = {}
    for green in greens:
        if green.running and not green.is_main:
            stacks[green.thread] = green
    free = []
    for gdb_thread in gdb.selected_inferior().threads():
        gdb_thread.switch()
        pointer = thread_pointer(gdb_thread)
        stack_pointer = register(REGISTERS[arch()][1])
        for thread in threads:
            green = stacks.get(thread)
            if pointer is not None and pointer == thread.handle or (
                    green is not None and stack_pointer is not None and
                    0 <= stack_pointer - green.stack_low <= green.stack_size):
                thread.gdb_thread = gdb_thread
                break
        else:
            free.append(gdb_thread)
    rest = [thread for thread in threads if thread.gdb_thread is None]
    if len(rest) == 1 and len(free) == 1:
        rest[0].gdb_thread = free[0]


def all_greens():
    """All that are in a list, by thread, in the order in which they were started."""
    if not gdb.selected_inferior().threads():
        raise NoGreens("There is no process yet.")
    arch()
    table = Table()
    threads, greens = [], []
    address = table.pointer(read(table.threads, POINTER), 0)
    while address != 0:
        data = read(address, table.thread_size)
        if table.pointer(data, table.thread_id) != 0:
            threads.append(Thread(table, address, data))
        address = table.pointer(data, table.thread_next)
    threads.reverse()  # the list begins with the youngest
    for thread in threads:
        address, seen = thread.main, set()
        while address not in seen:
            seen.add(address)
            try:
                data = read(address, table.green_size)
            except gdb.MemoryError:
                gdb.write("warning: the list of greens is broken at %#x\n" % address)
                break
            if address != thread.mark:
                greens.append(Green(table, address, data, thread))
            address = table.pointer(data, table.green_next)
    with Place():
        match_threads(threads, greens)
    return greens


# ---- Looking at one ------------------------------------------------------------


class Selection(Unwinder):
    """Says of a thread's newest frame that the frames of a suspended green called it."""

    def __init__(self):
        super().__init__("green")
        self.green = None
        self.thread = None  # its number in gdb
        self.names = ()   # of registers,
        self.values = ()  # those of the green,
        self.newest = ()  # those of the thread, of the first two
        self.types = ()
        self.inlined = 0  # how many frames are inlined in the thread's newest
        self.hides = HideThread()
        self.past_main = True  # whether bt may go on behind main()

    def look_at(self, green):
        """Of the selected thread; None, or one that runs: at none."""
        if green is None or green.running:
            self.leave()
            return
        self.values = green.registers()
        thread = gdb.selected_thread().global_num
        if self.green is None or self.thread != thread:
            self.leave()
            self.names = REGISTERS[arch()]
            self.newest = [register(name) for name in self.names[:2]]
            frame = gdb.newest_frame()
            self.types = [frame.read_register(name).type for name in self.names]
            self.inlined = outer_frame().level()
            self.thread = thread
            if not gdb.parameter("backtrace past-main"):
                self.past_main = False
                gdb.execute("set backtrace past-main on")
        self.green = green
        self.hides.enabled = True
        gdb.invalidate_cached_frames()

    def leave(self):
        if self.green is None:
            return
        self.green = None
        self.hides.enabled = False
        if not self.past_main:
            self.past_main = True
            gdb.execute("set backtrace past-main off")
        gdb.invalidate_cached_frames()

    def is_here(self):
        thread = gdb.selected_thread()
        return self.green is not None and thread is not None and thread.global_num == self.thread

    def __call__(self, pending):
        if self.green is None or pending.level() > self.inlined + 1 or not self.is_here():
            return None
        for name, value in zip(self.names, self.newest):
            if int(pending.read_register(name)) & MASK != value:
                return None
        saved = [gdb.Value(value).cast(kind) for value, kind in zip(self.values, self.types)]
        unwound = pending.create_unwind_info(FrameId(saved[1], saved[0]))
        for name, value in zip(self.names, saved):
            unwound.add_saved_register(name, value)
        return unwound


class FrameId:
    def __init__(self, sp, pc):
        self.sp = sp
        self.pc = pc


class Place:
    """What is selected: a thread, a green, a frame.  Comes back to it."""

    def __enter__(self):
        self.thread = gdb.selected_thread()
        self.green = selection.green
        self.level = 0
        try:
            self.level = gdb.selected_frame().level()
        except gdb.error:
            pass
        selection.leave()

    def __exit__(self, *error):
        selection.leave()
        if self.thread is not None and self.thread.is_valid():
            self.thread.switch()
        if self.green is not None:
            selection.look_at(self.green)
        select(self.level)


def select(level):
    frame = gdb.newest_frame()
    while frame is not None and frame.level() < level:
        frame = frame.older()
    if frame is not None:
        frame.select()


class Nameable(FrameDecorator):
    """Without a name it has ??, as where there is no filter; the entry is no signal handler."""

    def function(self):
        frame = self.inferior_frame()
        name = name_of(frame)
        if name == "green__arch_entry":
            return name
        if name == "" and frame.type() == gdb.NORMAL_FRAME:
            return "??"
        return super().function()


class HideThread:
    """
    A frame filter: bt begins with the suspended green's frames, and ends with its last.
    Enabled only while one is looked at, as with any filter gdb prints frames otherwise.
    """

    def __init__(self):
        self.name = "green"
        self.priority = 1000
        self.enabled = False
        gdb.frame_filters[self.name] = self

    def filter(self, frames):
        return self.shown(frames) if selection.is_here() else frames

    @staticmethod
    def shown(frames):
        first = first_frame()
        for frame in frames:
            inferior_frame = frame.inferior_frame()
            if first is None or inferior_frame.level() < first.level():
                continue
            if inferior_frame.pc() == 0:
                return
            yield Nameable(frame)
            if not selection.past_main and inferior_frame.name() == "main":
                return


def outer_frame():
    """The thread's newest frame that is not inlined in another."""
    frame = gdb.newest_frame()
    while frame.type() == gdb.INLINE_FRAME:
        frame = frame.older()
    return frame


def first_frame():
    """The newest frame of what is looked at."""
    return outer_frame().older() if selection.is_here() else gdb.newest_frame()


def enter(green):
    """
    Makes green the one that is looked at.  Of a running one the newest frame is
    selected, of a suspended one that which called the switch: the newest is the switch
    itself, at a trap instruction that nobody comes by.
    """
    if green.thread.gdb_thread is None:
        raise gdb.GdbError("gdb does not know the thread of green %d." % green.number)
    switch_to(green.thread)
    selection.look_at(green)
    frame = first_frame()
    if frame is None:
        raise gdb.GdbError("The frames of green %d cannot be read." % green.number)
    if not green.running:
        frame = where(green, frame)
    frame.select()


def switch_to(thread):
    if thread.gdb_thread.global_num != gdb.selected_thread().global_num:
        selection.leave()
        thread.gdb_thread.switch()


def name_of(frame):
    # Without debug information gdb takes green__arch_... for a name of Ada's, green.arch_...
    return (frame.name() or "").replace(".", "__")


def where(green, frame):
    """The frame that called green.h or green_fast.h."""
    caller = frame
    while caller is not None and (green.thread.waits_in(caller.pc()) or
                                  name_of(caller).startswith("green_private_") or
                                  name_of(caller) in ("green_switch_fast", "green_yield_fast")):
        caller = caller.older()
    return caller or frame


def describe(frame):
    function = frame.name()
    line = frame.find_sal()
    text = "%s ()" % function if function is not None else "%#x in ?? ()" % frame.pc()
    if line.symtab is not None and line.line > 0:
        text += " at %s:%d" % (line.symtab.filename, line.line)
    return text


# ---- The commands ---------------------------------------------------------------


class InfoGreens(gdb.Command):
    """All started living greens of all threads.
The one that runs in the selected thread, or that was selected by `green N`, has a star.
Greens that are new or dead are not shown: libgreen keeps no list of them."""

    def __init__(self):
        super().__init__("info greens", gdb.COMMAND_STATUS)

    def invoke(self, argument, from_tty):
        greens = all_greens()
        numbers = {green.address: str(green.number) for green in greens}
        marked = selection.green.address if selection.is_here() else None
        current = gdb.selected_thread()
        waits = {wait.green: wait for hub in all_hubs(greens) for task in hub.tasks
                 for wait in task.waits}
        rows = [("", "Num", "Thread", "Name", "State", "Parent", "Stack", "Where")]
        with Place():
            for green in greens:
                thread = green.thread.gdb_thread
                is_current = (green.address == marked if marked is not None else
                              green.running and thread is not None and current is not None and
                              thread.num == current.num)
                stack, place = self.look(green)
                if green.address in waits:
                    place = describe_place(waits[green.address].place)
                parent = "-" if green.parent == 0 else numbers.get(green.parent,
                                                                  "%#x" % green.parent)
                rows.append(("*" if is_current else "", numbers[green.address],
                             green.thread.number(),
                             green.name if green.name is not None else "-", green.state(), parent,
                             stack, place))
        widths = [max(len(row[i]) for row in rows) for i in range(7)]
        for row in rows:
            gdb.write(" ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " " +
                      row[7] + "\n")
        gdb.write("New and dead greens are not shown: they are in no list.\n")

    @staticmethod
    def look(green):
        """Its use of its stack, and where it is."""
        if green.thread.gdb_thread is None:
            return green.used(green.sp) if not green.running else "?", "?"
        try:
            switch_to(green.thread)
            selection.look_at(green)
            frame = first_frame()
            if green.running:
                return green.used(register(REGISTERS[arch()][1])), describe(frame)
            return green.used(green.sp), describe(where(green, frame)) if frame is not None else "?"
        except gdb.error as error:  # memory that the core does not have
            return "?", "? (%s)" % error


class GreenCommand(gdb.Command):
    """Look at a green: `green N`, a number of `info greens`.
From then on bt, up, frame, info locals and so on are about that green, until the
program goes on or another is chosen.  A suspended green's frames begin with #1;
selected is the one that called the switch.
Without a number: say which green is looked at."""

    def __init__(self):
        super().__init__("green", gdb.COMMAND_STACK, prefix=True)

    def invoke(self, argument, from_tty):
        greens = all_greens()
        if argument.strip() == "":
            chosen = [green for green in greens if selection.is_here()
                      and green.address == selection.green.address]
            current = gdb.selected_thread()
            chosen = chosen or [green for green in greens if green.running and current is not None
                                and green.thread.gdb_thread is not None
                                and green.thread.gdb_thread.num == current.num]
            gdb.write("[%s]\n" % chosen[0].title() if chosen else
                      "[This thread has no greens]\n")
            return
        green = find(greens, argument.strip())
        enter(green)
        gdb.write("[%s]\n" % green.title())
        gdb.execute("frame", False)


class GreenApply(gdb.Command):
    """Apply a command to greens: `green apply all bt`, `green apply 2 5 bt 3`."""

    def __init__(self):
        super().__init__("green apply", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        greens = all_greens()
        chosen, command = [], argument.strip()
        word, rest = first_word(command)
        if word == "all":
            chosen, command = greens, rest
        while word.isdigit():
            chosen.append(find(greens, word))
            command = rest
            word, rest = first_word(command)
        if not chosen or command == "":
            raise gdb.GdbError("green apply all COMMAND, or green apply N... COMMAND")
        with Place():
            for green in chosen:
                gdb.write("\n%s:\n" % green.title())
                try:
                    enter(green)
                    gdb.execute(command, False)
                except gdb.error as error:
                    gdb.write("%s\n" % error)


def first_word(text):
    """It, and what is behind it, whose blanks may matter."""
    words = text.split(None, 1)
    return words[0] if words else "", words[1] if len(words) > 1 else ""


class Wait:
    """What a green of a task waits in."""

    def __init__(self, table, hub_table, address):
        data = read(address, hub_table.wait_size)
        self.next = table.pointer(data, hub_table.wait_next)
        self.green = table.pointer(data, hub_table.wait_green)
        self.is_over = data[hub_table.wait_state] != 0
        self.since = table.pointer(data, hub_table.wait_since)
        self.call = string(table.pointer(data, hub_table.wait_call), 32)
        self.object = table.pointer(data, hub_table.wait_object)
        self.place = table.pointer(data, hub_table.wait_place)
        self.descriptors, = struct.unpack_from("<I", data, hub_table.wait_descriptors)

    def describe(self):
        text = self.call
        if self.object != 0 or self.descriptors != 0:  # a number: of a descriptor, of a process
            text += (" (%d)" if self.object < LOWEST_ADDRESS else " (%#x)") % self.object
        if self.place != 0:
            text += " from " + describe_place(self.place)
        return text


def describe_place(pc):
    """The function that a call returns to at pc, and the line of the call."""
    symbol = gdb.execute("info symbol %#x" % (pc - 1), to_string=True)
    name = re.match(r"(.*?)( \+ \d+)? in section ", symbol)
    text = "%#x" % pc
    if name is not None:
        text = name[1] if "(" in name[1] else name[1] + " ()"  # one of C++ has its parameters
    line = gdb.find_pc_line(pc - 1)
    if line.symtab is not None and line.line > 0:
        text += " at %s:%d" % (line.symtab.filename, line.line)
    return text


class Task:
    """A task that has not ended."""

    def __init__(self, table, hub_table, address, greens):
        data = read(address, hub_table.task_size)
        self.next = table.pointer(data, hub_table.task_next)
        self.green = table.pointer(data, hub_table.task_green)
        self.is_new = self.green not in greens
        self.cancelled = data[hub_table.task_cancelled] != 0
        if self.is_new:
            self.name = table.name_in(read(self.green, table.green_size))
        else:
            self.name = greens[self.green].name
        self.waits = []
        own = table.pointer(read(self.green, table.green_size), hub_table.green_layer)
        if own != 0:
            wait = read(own, hub_table.wait_size)
            state = wait[hub_table.wait_state]  # waits, or is over and its turn in the line; or none
            if state == 0 or (state != NO_WAIT and table.pointer(wait, 0) != 0):
                self.waits.append(Wait(table, hub_table, own))
        wait = table.pointer(data, hub_table.task_waits)
        while wait != 0 and len(self.waits) < 1000:
            self.waits.append(Wait(table, hub_table, wait))
            wait = self.waits[-1].next


class Hub:
    """The hub of a thread."""

    def __init__(self, table, hub_table, address, thread, greens):
        data = read(address, hub_table.hub_size)
        self.thread = thread
        self.green = table.pointer(data, hub_table.hub_green)
        self.now = table.pointer(data, hub_table.hub_time)
        if not data[hub_table.hub_is_virtual] and is_here():
            self.now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        self.tasks = [Task(table, hub_table, address + hub_table.hub_main, greens)]
        last = address + hub_table.hub_living
        task = table.pointer(data, hub_table.hub_living + hub_table.task_next)
        while task != last:
            self.tasks.append(Task(table, hub_table, task, greens))
            task = self.tasks[-1].next


def all_hubs(all_of_them):
    """Of these greens' threads; none where nothing of the hub is in the program."""
    table = Table()
    try:
        hub_table = HubTable()
    except NoGreens:
        return []
    greens = {green.address: green for green in all_of_them}
    hubs = []
    for thread in dict.fromkeys(green.thread for green in all_of_them):
        address = table.pointer(thread.data, hub_table.thread_layer)
        if address != 0:
            hubs.append(Hub(table, hub_table, address, thread, greens))
    return hubs


class InfoTasks(gdb.Command):
    """All tasks of all threads that have not ended, and what they wait in.
The number is that of the task's green: `green N` looks at it.  The times are those of a
living process on this machine; of a core, those at which its hub last looked."""

    def __init__(self):
        super().__init__("info tasks", gdb.COMMAND_STATUS)

    def invoke(self, argument, from_tty):
        all_of_them = all_greens()
        greens = {green.address: green for green in all_of_them}
        rows = [("Green", "Thread", "Name", "State", "Cancelled", "For", "Waits in")]
        for hub in all_hubs(all_of_them):
            runs = None
            if hub.thread.running != hub.green:
                runs = running_task(hub.thread, greens, {task.green: task for task in hub.tasks})
            for task in hub.tasks:
                cells = ("-" if task.is_new else str(greens[task.green].number),
                         hub.thread.number(), task.name if task.name is not None else "-")
                rows += [cells + row for row in self.look(hub, task, task is runs)]
        if len(rows) == 1:
            gdb.write("There are no tasks.\n")
            return
        widths = [max(len(row[i]) for row in rows) for i in range(6)]
        for row in rows:
            gdb.write(" ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " " +
                      row[6] + "\n")

    @staticmethod
    def look(hub, task, runs):
        """Its state and all that its greens wait in."""
        cancelled = "yes" if task.cancelled else "no"
        rows = [("READY" if wait.is_over else "WAITING", cancelled,
                 "%.3f s" % (max(hub.now - wait.since, 0) / 1e9), wait.describe())
                for wait in task.waits]
        if runs or not rows:
            state = "RUNNING" if runs else "NEW" if task.is_new else "READY"
            rows.insert(0, (state, cancelled, "-", "-"))
        return rows


def running_task(thread, greens, tasks):
    """The task that the thread's running green belongs to."""
    green = greens.get(thread.running)
    while green is not None and green.address not in tasks:
        green = greens.get(green.parent)
    return tasks[green.address] if green is not None else None


def is_here():
    """Whether it is a living process of this machine."""
    connection = getattr(gdb.selected_inferior(), "connection", None)
    return connection is not None and connection.type == "native"


def find(greens, word):
    for green in greens:
        if word == str(green.number):
            return green
    raise gdb.GdbError("There is no green %s; info greens has all." % word)


def forget(event):
    selection.leave()


def loaded_before():
    """The script of another libgreen in the same gdb, or this one once more."""
    return any(unwinder.name == "green" for unwinder in gdb.frame_unwinders)


if not loaded_before():
    selection = Selection()
    gdb.unwinder.register_unwinder(None, selection)
    gdb.events.cont.connect(forget)
    gdb.events.exited.connect(forget)
    InfoGreens()
    GreenCommand()
    GreenApply()
    InfoTasks()
