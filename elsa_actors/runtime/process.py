"""Links, monitors, exit signals, names, timers and messages of processes; and Process itself.

`from elsa_actors import process` gives this module. What needs a running process raises
NotAProcess on a plain thread; what waits tells the scheduler, so that other processes may run.
See https://www.erlang.org/doc/system/ref_man_processes.html for the original's rules.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from elsa_actors.runtime.actor import (
    Process,
    ProcessRef,
    attach_here,
    detach_here,
    is_plain_actor,
    living,
)
from elsa_actors.runtime.clock import Timer, clock
from elsa_actors.runtime.death import DeathSlot, both, drop_link, exit_signal
from elsa_actors.runtime.errors import NameTaken, NoProcess, NotAProcess, ReceiveTimeout
from elsa_actors.runtime.exits import Down, Exit, ProcessExit
from elsa_actors.runtime.links import Monitor, links_of, ties_of
from elsa_actors.runtime.mailbox import ALIVE, PYKKA_MESSAGES, Internal, Mailbox
from elsa_actors.runtime.names import Named, local_names
from elsa_actors.runtime.scheduler import check_fork, fence, here, wake
from elsa_actors.runtime.waiting import check_timeout, deadline_of, new_slot, remaining, wait

if TYPE_CHECKING:
    from pykka import ActorRef

T = TypeVar("T")


def find(dest: Any) -> Mailbox | None:
    """The mailbox behind a ref, a name or a Via; None when nobody has the name."""
    if isinstance(dest, ProcessRef):
        return dest._inbox
    if isinstance(dest, str):
        inbox: Mailbox | None = local_names.find(dest)
        return inbox
    if isinstance(dest, Named):
        ref = dest.whereis()
        return None if ref is None else _process_ref(ref, "a name's holder")._inbox
    if is_plain_actor(dest):
        raise TypeError(
            f"expected a process, got the plain Pykka actor {dest!r};"
            " run it in a Wrapper, or derive its class from Process"
        )
    raise TypeError(f"expected a ref, a name or a Via, got: {dest!r}")


def _process_ref(ref: Any, what: str) -> ProcessRef:
    if isinstance(ref, ProcessRef):
        return ref
    if is_plain_actor(ref):
        raise TypeError(
            f"expected {what} to be a process, got the plain Pykka actor {ref!r};"
            " run it in a Wrapper, or derive its class from Process"
        )
    raise TypeError(f"expected {what} to be a process's ref, got: {ref!r}")


def _me(what: str) -> Mailbox:
    check_fork()
    inbox: Mailbox | None = here.inbox
    if inbox is None:
        raise NotAProcess(what)
    inbox.check_alive()
    return inbox


def current() -> ActorRef[Any] | None:
    """The running process; None on a plain thread."""
    inbox = fence()
    return None if inbox is None else inbox.ref


# ---- links and monitors


def link(ref: ActorRef[Any]) -> None:
    """Link the running process to ``ref``: when one ends abnormally, so does the other.

    Linking to the dead raises NoProcess; in a process that traps exits it is an
    `Exit(ref, "noproc")` message instead.
    """
    me = _me("link")
    other = _process_ref(ref, "what is linked")._inbox
    if other is me:
        return
    with both(me, other):
        me.check_alive()
        if other.reason is ALIVE:
            ties_of(me).links.setdefault(other)
            ties_of(other).links.setdefault(me)
            return
        process = me.process
        if process is None or not process.trap_exit:
            raise NoProcess(ref)
        me.items.append(Exit(ref, "noproc"))


def unlink(ref: ActorRef[Any]) -> None:
    """Remove the link, if there is one; after the return no Exit of ``ref`` can arrive."""
    me = _me("unlink")
    drop_link(me, _process_ref(ref, "what is unlinked")._inbox)


def monitor(ref_or_name: Any) -> Monitor:
    """Watch a process (a ref, a name or a Via): one `Down` tells of its end.

    The dead and unknown names give a Down with "noproc" at once. `Down.ref` is ``ref_or_name``.
    """
    me = _me("monitor")
    inbox = find(ref_or_name)
    watch = Monitor(me, inbox, ref_or_name)
    if inbox is not None:
        with both(me, inbox):
            me.check_alive()
            if inbox is me:
                return watch
            if inbox.reason is ALIVE:
                ties_of(inbox).watchers[watch] = None
                ties_of(me).watching[watch] = None
                return watch
    watch.active = False
    me.put(Down(watch, ref_or_name, "noproc"))
    return watch


def demonitor(monitor: Monitor, flush: bool = False) -> bool:
    """Stop watching; with ``flush`` a Down that is already in the mailbox is removed.

    Returns whether the monitor was active. Another process's monitor is left alone.
    """
    me = _me("demonitor")
    if not isinstance(monitor, Monitor):
        raise TypeError(f"expected the Monitor that process.monitor returned, got: {monitor!r}")
    if monitor.watcher is not me:
        return True
    with me.lock:
        was_active, monitor.active = monitor.active, False
        if me.ties is not None:
            me.ties.watching.pop(monitor, None)
    target = monitor.target
    if was_active and target is not None:
        with target.lock:
            if target.ties is not None:
                target.ties.watchers.pop(monitor, None)
    if flush and not was_active:
        me.take(lambda message: isinstance(message, Down) and message.monitor is monitor)
    return was_active


# ---- exits


def exit(ref: Any, reason: Any) -> None:
    """Send an exit signal to a process; always returns None, also for the dead.

    "kill" ends anybody, who is then "killed". Any other reason arrives as an `Exit` message at a
    process that traps exits, and ends one that does not; "normal" ends only oneself. The target is
    dead on return if it dies of it.
    """
    me = fence()
    inbox = _process_ref(ref, "the target of an exit signal")._inbox
    exit_signal(inbox, me, reason)
    if me is not None:
        me.check_alive()


def exit_self(reason: Any) -> NoReturn:
    """End the running process with ``reason``; raises ProcessExit, a BaseException."""
    _me("exit_self")
    raise ProcessExit(reason)


def is_alive(ref: Any) -> bool:
    """Whether the process behind a ref, a name or a Via is alive."""
    fence()
    inbox = find(ref)
    return inbox is not None and inbox.reason is ALIVE


def trap_exit(flag: bool) -> bool:
    """Set whether the running process traps exits; returns the old value, takes effect at once."""
    me = _me("trap_exit")
    process = me.process
    assert process is not None
    old, process.trap_exit = bool(process.trap_exit), bool(flag)
    return old


@contextmanager
def death_of(inbox: Mailbox) -> Iterator[Any]:
    """A slot that is released when this process is dead and its end was told; None when it is."""
    watcher = DeathSlot(new_slot())
    with inbox.lock:
        dead = inbox.reason is not ALIVE and inbox.ties is None
        if not dead:
            ties_of(inbox).watchers[watcher] = None
    try:
        yield None if dead else watcher.slot
    finally:
        with inbox.lock:
            if inbox.ties is not None:
                inbox.ties.watchers.pop(watcher, None)


def wait_dead(inbox: Mailbox, timeout: float | None = None) -> bool:
    """Wait until a process is dead and its end was told; False when ``timeout`` passed first."""
    with death_of(inbox) as slot:
        return slot is None or wait(slot, timeout) or inbox.reason is not ALIVE


# ---- messages


def send(dest: Any, message: Any) -> None:
    """Send a message to a ref, a name or a Via.

    Never blocks. To a dead process it is dropped; an unknown name raises NoProcess, which is a
    LookupError.
    """
    check_fork()
    me = here.inbox
    inbox = find(dest)
    if inbox is None:
        if me is not None:
            me.check_alive()
        raise NoProcess(dest, message)
    if me is None:
        inbox.put(message)
    else:
        # The own lock makes a death one step: nothing that a process sends comes after it.
        with me.lock:
            me.check_alive()
            inbox.put(message)


def send_after(dest: Any, message: Any, seconds: float) -> Timer:
    """Send a message after ``seconds``; dropped when nobody is there then."""
    fence()
    check_timeout(seconds)
    if seconds is None:
        raise ValueError("expected seconds (0 or more), got: None")
    if not isinstance(dest, str | Named):
        find(dest)

    def deliver() -> None:
        inbox = find(dest)
        if inbox is not None:
            inbox.put(message)

    return clock.call_later(seconds, deliver, SendTimer)


class SendTimer(Timer):
    """A message that is due later; `cancel` takes it back."""

    __slots__ = ()

    def cancel(self) -> bool:
        fence()
        return super().cancel()


def receive(match: Any = None, timeout: float | None = None) -> Any:
    """Take the first message that matches; what does not match keeps its place.

    ``match`` is a predicate, a type or a tuple of types; None takes any message. Waits ``timeout``
    seconds (None: for ever), then raises ReceiveTimeout. A server's calls and casts are left alone.
    """
    me = _me("receive")
    check_timeout(timeout)
    accepts = _matcher(match)
    found, message, looked = me.take(accepts)
    if found:
        return message
    deadline = deadline_of(timeout)
    # A signal handler of Python's may receive on top of what the main thread waits for.
    outer = me.receiver
    while True:
        slot = new_slot()
        me.receiver = slot
        try:
            # The slot first, then the look: whoever puts a message does it the other way round.
            found, message, looked = me.take(accepts, looked)
            if found:
                return message
            left = remaining(deadline)
            if left == 0.0 or not wait(slot, left):
                found, message, looked = me.take(accepts, looked)
                if found:
                    return message
                raise ReceiveTimeout(timeout)
        finally:
            me.receiver = outer
            if outer is not None:
                wake(outer)


def _matcher(match: Any) -> Callable[[Any], bool]:
    if match is None:
        return is_plain
    if isinstance(match, builtins.type | tuple):
        return lambda message: is_plain(message) and isinstance(message, match)
    if callable(match):
        return lambda message: is_plain(message) and bool(match(message))
    raise TypeError(f"expected match to be a predicate, a type or None, got: {match!r}")


def is_plain(message: Any) -> bool:
    """Whether this is a message as users send them, and no envelope of the library's."""
    kind = builtins.type(message)
    return not issubclass(kind, Internal) and kind.__module__ != PYKKA_MESSAGES


def sleep(seconds: float) -> None:
    """Sleep; a deadly signal ends the sleep at once, a trapped one waits in the mailbox."""
    _me("sleep") if here.inbox is not None else check_fork()
    check_timeout(seconds)
    wait(new_slot(), seconds)


# ---- names


def register(name: str, ref: ActorRef[Any]) -> None:
    """Give a process a local name; NoProcess for the dead.

    NameTaken when the name has a holder, and when the process has a name already, the same or
    another: it has one, which logs and `info` show.
    """
    fence()
    check_name(name)
    inbox = _process_ref(ref, "what is registered")._inbox
    # One step: somebody else may be giving the same process a name.
    with local_names.lock, inbox.lock:
        if inbox.reason is not ALIVE:
            raise NoProcess(ref)
        taken = local_names.entries_of(inbox)
        if taken:
            raise NameTaken(taken[0].key, ref)
        local_names.register(name, inbox)


def unregister(name: str) -> None:
    """Take a local name from its holder; NoProcess, a LookupError, when it has none."""
    fence()
    check_name(name)
    inbox = local_names.find(name)
    if inbox is None or not local_names.unregister(name, inbox):
        raise NoProcess(name, message=f"nobody is registered as {name!r}")


def check_name(name: Any) -> None:
    """Refuse what is no local name."""
    if not isinstance(name, str) or not name:
        raise TypeError(f"expected a name to be a string that is not empty, got: {name!r}")


def whereis(name: Any) -> ActorRef[Any] | None:
    """The process behind a name or a Via; None when there is none. A living ref is itself."""
    fence()
    inbox = find(name)
    return None if inbox is None or inbox.reason is not ALIVE else inbox.ref


def list() -> builtins.list[ActorRef[Any]]:
    """The refs of all living processes, in the order of their start; no attached threads."""
    fence()
    # A death is one step, leaving this list a later one.
    return [ref for ref in living if isinstance(ref, ProcessRef) and not ref._inbox.is_dead()]


def registered() -> dict[str, ActorRef[Any]]:
    """All local names and their holders."""
    fence()
    return {entry.key: entry.inbox.ref for entry in local_names.all()}


# ---- looking in


def info(ref: Any) -> dict[str, Any] | None:
    """What a process is doing, as a dictionary; None for the dead.

    Keys: registered_name, names, class, parent, links, monitors, monitored_by,
    message_queue_len, status ("running", "waiting" or "idle"), started_at (seconds on the
    library's clock), age, trap_exit, dedicated_thread.
    """
    fence()
    inbox = find(ref)
    if inbox is None:
        return None
    with inbox.lock:
        return _look_into(inbox)


def _look_into(inbox: Mailbox) -> dict[str, Any] | None:
    process = inbox.process
    if inbox.reason is not ALIVE or process is None:
        return None
    names = [entry.key for entry, table in (inbox.names or {}).items() if table is local_names]
    ties = inbox.ties
    return {
        "registered_name": names[0] if names else None,
        "class": builtins.type(process),
        "parent": None if inbox.parent is None else inbox.parent.ref,
        "links": [peer.ref for peer in links_of(inbox)],
        "monitors": [m.ref for m in ties.watching] if ties is not None else [],
        "monitored_by": [
            m.watcher.ref for m in (ties.watchers if ties is not None else ())
            if isinstance(m, Monitor)
        ],
        "message_queue_len": len(inbox.items) + len(inbox.held or ()),
        "status": "waiting" if inbox.waiter is not None
        else "running" if inbox.token.locked() else "idle",
        "started_at": inbox.started_at,
        "age": clock.now() - inbox.started_at,
        "trap_exit": bool(process.trap_exit),
        "dedicated_thread": process.dedicated_thread,
    }  # fmt: skip


# ---- what dies with its process


def own(thing: T, close: Callable[[T], Any]) -> T:
    """Have ``close(thing)`` called once when the running process ends, in any way, kill included.

    It runs on the thread that ran the process; code that outlives its process closes when it ends.
    The end of the process waits for it, 5 seconds at most. Returns ``thing``.
    """
    check_fork()
    me = here.inbox
    if me is None:
        raise NotAProcess("own")
    if not callable(close):
        raise TypeError(f"expected close to be a function of the thing, got: {close!r}")
    if me.owned is None:
        me.owned = []
    me.owned.append((thing, close))
    me.check_alive()
    return thing


def disown(thing: Any) -> None:
    """Take ``thing`` back from the running process: it is not closed when that ends."""
    me = _me("disown")
    owned = me.owned or []
    for place, (mine, _) in enumerate(owned):
        if mine is thing:
            del owned[place]
            return
    raise LookupError(f"the running process does not own {thing!r}")


# ---- plain threads


class Me:
    """The process that a plain thread is, inside `attach`."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.ref: ActorRef[Any] = process._inbox.ref

    def receive(self, match: Any = None, timeout: float | None = None) -> Any:
        """As `process.receive`."""
        check_fork()
        if here.inbox is not self._process._inbox:
            raise RuntimeError("only the attached thread itself may receive, inside the block")
        return receive(match, timeout)


@contextmanager
def attach(trap_exit: bool = False) -> Iterator[Me]:
    """Make this plain thread a process for a while: for scripts, the REPL and tests.

    Leaving ends that process with "normal", or with the exception that leaves the block. Inside a
    process, or twice on one thread: RuntimeError.
    """
    process = attach_here(trap_exit)
    try:
        yield Me(process)
    except BaseException as error:
        detach_here(process, error.reason if isinstance(error, ProcessExit) else error)
        raise
    detach_here(process, "normal")
