"""What ends a process, and what its death causes, in which order.

Death is one step under the process's own lock. What follows runs from a queue, never by recursion,
on the thread that caused it: names and keys are freed, links signalled, monitors told, callers
answered. A parent is the oldest link and thus told first: whoever learns of a death finds its
supervisor already told.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from elsa_actors.runtime.exits import Down, Exit, ProcessExit, is_word
from elsa_actors.runtime.links import Monitor, links_of, watchers_of
from elsa_actors.runtime.living import forget
from elsa_actors.runtime.mailbox import ALIVE, Ask, Mailbox
from elsa_actors.runtime.scheduler import Worker, here, scheduler, wake

fallback_log = logging.getLogger("elsa_actors")


class DeathSlot:
    """A watcher that is no process: a thread that waits for a death."""

    __slots__ = ("slot",)

    def __init__(self, slot: Any) -> None:
        self.slot = slot


class Deaths(list[Mailbox]):
    """Processes that have died and of whom others are to be told; who dies along is added.

    Whatever is done for one of them is a step of its own that does no harm when it is done again:
    when the thread that is at it is struck, by Ctrl-C or a RecursionError, the watchdog begins
    anew.
    """

    __slots__ = ()

    def repair(self) -> None:
        for inbox in self:
            inbox.repair()  # One that traps exits has mail; one that is dead may be unburied.
        scheduler.push(self)  # For a worker: a log may take its time.

    def turn(self, worker: Worker) -> bool:
        """Tell of all of them, from the beginning."""
        try:
            _follow(self)
        except Exception:
            fallback_log.exception("what follows from a death could not be done")
        return True

    def end_leftover(self) -> None:
        """Here runs no process, and no leftover."""


class Will:
    """Whom a death concerns, as it was at that moment."""

    __slots__ = ("links", "names", "pending", "watchers", "watching")

    def __init__(self, inbox: Mailbox) -> None:
        self.names = list((inbox.names or {}).items())
        self.links = links_of(inbox)
        self.watchers = watchers_of(inbox)
        self.watching = list(inbox.ties.watching) if inbox.ties is not None else []
        self.pending: list[Ask] = list(inbox.pending or ())


def die(inbox: Mailbox, reason: Any, report: Callable[[], Any] | None = None) -> bool:
    """End this process with ``reason`` and carry out what follows; False when it was dead.

    For a process that ends by itself. ``report`` is called when its supervisor has been told, and
    before anybody else is: whoever hears of a crash finds it in the log. It runs as on a plain
    thread, so that a log processor may use the library.
    """
    deaths = Deaths((inbox,))
    try:
        if not _mark(inbox, reason, here.worker, report):
            return False
        _follow(deaths)
    except BaseException:
        scheduler.watchdog.alarms.put(deaths.repair)
        raise
    return True


def exit_signal(inbox: Mailbox, sender: Mailbox | None, reason: Any) -> None:
    """Deliver an exit signal that somebody sent; its target is dead on return if it dies of it."""
    deaths = Deaths((inbox,))
    may = True
    try:
        if sender is None or sender is inbox:
            with inbox.lock:
                died = _signal(inbox, sender, reason)
        else:
            # Both locks: a process that is dead sends no signal any more.
            with both(sender, inbox):
                may = sender.reason is ALIVE
                died = may and _signal(inbox, sender, reason)
        if died:
            _follow(deaths)
        elif may:
            inbox.notify()
    except BaseException:
        scheduler.watchdog.alarms.put(deaths.repair)
        raise
    if not may:
        sender.check_alive()  # type: ignore[union-attr]


@contextmanager
def both(one: Mailbox, other: Mailbox) -> Iterator[None]:
    """Hold the locks of two mailboxes, taken in an order that never deadlocks."""
    first, second = (one, other) if id(one) < id(other) else (other, one)
    with first.lock, second.lock:
        yield


def drop_link(one: Mailbox, other: Mailbox) -> None:
    """Remove the link between two processes, in one step for both."""
    with both(one, other):
        if one.ties is not None:
            one.ties.links.pop(other, None)
        if other.ties is not None:
            other.ties.links.pop(one, None)


def _signal(inbox: Mailbox, sender: Mailbox | None, reason: Any) -> bool:
    if inbox.reason is not ALIVE:
        return False
    if is_word(reason, "kill"):
        return _mark(inbox, "killed")
    if traps(inbox):
        inbox.items.append(Exit(None if sender is None else sender.ref, reason))
        return False
    if is_word(reason, "normal") and sender is not inbox:
        return False
    return _mark(inbox, reason)


def traps(inbox: Mailbox) -> bool:
    process = inbox.process
    return process is not None and bool(process.trap_exit)


def _mark(
    inbox: Mailbox,
    reason: Any,
    died_on: Worker | None = None,
    report: Callable[[], Any] | None = None,
) -> bool:
    """The one step: from here on the process is dead for everyone else.

    ``died_on`` is the worker on which it came to its end by itself: there is no leftover then.
    """
    with inbox.lock:
        if inbox.reason is not ALIVE:
            return False
        inbox.died_on = died_on
        inbox.report = report
        inbox.reason = reason
    return True


def _follow(deaths: Deaths) -> None:
    """Carry out the consequences of deaths, one after the other."""
    if here.deaths is not None:
        here.deaths.extend(deaths)  # This thread is at it already, further down its stack.
        return
    try:
        here.deaths = deaths
        _tell_all(deaths)  # The loop is not here: see design.md, S9.
    finally:
        here.deaths = None


def _tell_all(deaths: Deaths) -> None:
    linked = told = 0
    while told < len(deaths):
        # All links first: who dies along does not wait until the log has taken its time, and its
        # own supervisor hears of it before anybody can look.
        if linked < len(deaths):
            _tell_links(deaths[linked], deaths)
            linked += 1
        else:
            _tell_others(deaths[told])
            told += 1


def _release_thread(inbox: Mailbox) -> None:
    """End the dead process's wait; what else it still runs is a leftover."""
    waiter, worker, process = inbox.waiter, inbox.worker, inbox.process
    if waiter is not None:
        wake(waiter)
    if worker is not None and worker is not inbox.died_on:
        scheduler.orphan(worker, unwind=process is None or process.unwind)


def _will_of(inbox: Mailbox) -> Will:
    with inbox.lock:
        if inbox.will is None:
            # One step: whoever is struck leaves all of it, or nothing yet.
            inbox.will, inbox.names, inbox.ties, inbox.pending = Will(inbox), None, None, None
        will: Will = inbox.will
    return will


def _tell_links(inbox: Mailbox, deaths: Deaths) -> None:
    """Free the names, signal the links."""
    if inbox.reason is ALIVE:
        return
    # No mailbox's lock is held here: what follows takes other locks.
    _release_thread(inbox)
    will = _will_of(inbox)
    for entry, table in will.names:
        table.free(entry)
    forget(inbox.ref)
    for peer in will.links:
        _signal_link(peer, inbox, deaths)


def _tell_others(inbox: Mailbox) -> None:
    """Log the crash, tell monitors and callers, clear up."""
    if inbox.reason is ALIVE:
        return
    _report(inbox)
    reason, will = inbox.reason, _will_of(inbox)
    for watcher in will.watchers:
        if isinstance(watcher, Monitor):
            _tell_down(watcher, reason)
        else:
            wake(watcher.slot)
    for monitor in will.watching:
        monitor.active = False
        if monitor.target is not None:
            with monitor.target.lock:
                if monitor.target.ties is not None:
                    monitor.target.ties.watchers.pop(monitor, None)
    current = inbox.current
    if current is not None:
        current.fail(reason)
    inbox.drop_mail(reason)
    inbox.told = True
    for ask in will.pending:
        ask.fail(reason)
    if inbox.stopped_event is not None:
        inbox.stopped_event.set()
    inbox.will = None
    _bury_if_idle(inbox)


def _report(inbox: Mailbox) -> None:
    report, running, deaths = inbox.report, here.inbox, here.deaths
    if report is None:
        return
    try:
        # What the log itself ends is told at once, too.
        here.inbox = here.deaths = inbox.report = None
        report()
    except Exception:
        # A renderer that cannot show the state must not keep the death from being told.
        fallback_log.exception("the crash of %s could not be logged", inbox.ref)
    finally:
        here.inbox, here.deaths = running, deaths


def _bury_if_idle(inbox: Mailbox) -> None:
    if inbox.token.locked():
        return  # Whoever runs it, or is about to, buries it.
    if inbox.owned or inbox.runner is not scheduler:
        inbox.enqueue()
    elif inbox.token.acquire(False):
        inbox.bury()


def _signal_link(peer: Mailbox, dead: Mailbox, deaths: Deaths) -> None:
    """Tell one linked process."""
    reason = dead.reason
    with peer.lock:
        # The check and the signal are one step, so that nothing comes after an unlink.
        if peer.ties is not None and dead in peer.ties.links:
            links = peer.ties.links
            if peer.reason is not ALIVE:
                del links[dead]
            elif traps(peer):
                # The link is taken and the message put within one call into C; see `Deaths`.
                links[dead] = Exit(dead.ref, reason)
                peer.items.extend(map(links.pop, (dead,)))
            elif is_word(reason, "normal"):
                del links[dead]
            else:
                deaths.append(peer)
                _mark(peer, reason)
                del links[dead]
    if peer.items:
        peer.notify()


def _tell_down(monitor: Monitor, reason: Any) -> None:
    """Deliver a monitor's one Down, unless it was taken back."""
    watcher = monitor.watcher
    with watcher.lock:
        if watcher.ties is not None and monitor in watcher.ties.watching:
            # As in `_signal_link`.
            watching = watcher.ties.watching
            watching[monitor] = Down(monitor, monitor.ref, reason)
            watcher.items.extend(map(watching.pop, (monitor,)))
        monitor.active = False
    if watcher.items:
        watcher.notify()


__all__ = ["DeathSlot", "Deaths", "ProcessExit", "both", "die", "drop_link", "exit_signal"]
