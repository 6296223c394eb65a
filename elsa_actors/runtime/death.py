"""What ends a process, and what its death causes, in which order.

Death is one step under the process's own lock. What follows runs from a queue, never by recursion,
on the thread that caused it: names and keys are freed, links signalled, monitors told, callers
answered. A parent is the oldest link and thus told first: whoever learns of a death finds its
supervisor already told.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
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


def die(inbox: Mailbox, reason: Any, report: Callable[[], Any] | None = None) -> bool:
    """End this process with ``reason`` and carry out what follows; False when it was dead.

    For a process that ends by itself. ``report`` is called when its supervisor has been told, and
    before anybody else is: whoever hears of a crash finds it in the log. It runs as on a plain
    thread, so that a log processor may use the library.
    """
    if not _mark(inbox, reason, here.worker, report):
        return False
    _follow(inbox)
    return True


def exit_signal(inbox: Mailbox, sender: Mailbox | None, reason: Any) -> None:
    """Deliver an exit signal that somebody sent; its target is dead on return if it dies of it."""
    if sender is None or sender is inbox:
        with inbox.lock:
            died = _signal(inbox, sender, reason)
    else:
        # Both locks: a process that is dead sends no signal any more.
        with both(sender, inbox):
            sender.check_alive()
            died = _signal(inbox, sender, reason)
    if died:
        _follow(inbox)
    else:
        inbox.notify()


@contextmanager
def both(one: Mailbox, other: Mailbox) -> Iterator[None]:
    """Hold the locks of two mailboxes, taken in an order that never deadlocks."""
    first, second = (one, other) if id(one) < id(other) else (other, one)
    with first.lock, second.lock:
        yield


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


def _follow(inbox: Mailbox) -> None:
    """Carry out the consequences of deaths, one after the other."""
    queue = here.deaths
    if queue is not None:
        queue.append(inbox)  # This thread is at it already, further down its stack.
        return
    here.deaths = queue = deque((inbox,))
    rest: deque[Callable[[], None]] = deque()
    try:
        while queue or rest:
            # All links first: who dies along does not wait until the log has taken its time, and
            # its own supervisor hears of it before anybody can look.
            if queue:
                rest.append(_tell_links(queue.popleft(), queue))
            else:
                rest.popleft()()
    finally:
        here.deaths = None


def _release_thread(inbox: Mailbox) -> None:
    """End the dead process's wait; what else it still runs is a leftover."""
    waiter, worker, process = inbox.waiter, inbox.worker, inbox.process
    if waiter is not None:
        wake(waiter)
    if worker is not None and worker is not inbox.died_on:
        scheduler.orphan(worker, unwind=process is None or process.unwind)


def _tell_links(inbox: Mailbox, queue: deque[Mailbox]) -> Callable[[], None]:
    """Free the names, signal the links; what tells all others is returned."""
    # No mailbox's lock is held here: what follows takes other locks.
    _release_thread(inbox)
    reason = inbox.reason
    with inbox.lock:
        names, inbox.names = inbox.names, None
        links, watchers = links_of(inbox), watchers_of(inbox)
        watching = list(inbox.ties.watching) if inbox.ties is not None else []
        inbox.ties = None
        pending, inbox.pending = inbox.pending, None
    if names:
        for entry, table in names.items():
            table.free(entry)
    forget(inbox.ref)
    for peer in links:
        if _signal_link(peer, inbox, reason):
            queue.append(peer)
    return lambda: _tell_others(inbox, watchers, watching, pending)


def _tell_others(
    inbox: Mailbox, watchers: list[Any], watching: list[Monitor], pending: Iterable[Ask] | None
) -> None:
    """Log the crash, tell monitors and callers, clear up."""
    _report(inbox)
    reason = inbox.reason
    for watcher in watchers:
        if isinstance(watcher, Monitor):
            tell_down(watcher, reason)
        else:
            wake(watcher.slot)
    for monitor in watching:
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
    for ask in list(pending or ()):
        ask.fail(reason)
    if inbox.stopped_event is not None:
        inbox.stopped_event.set()
    _bury_if_idle(inbox)


def _report(inbox: Mailbox) -> None:
    report, inbox.report = inbox.report, None
    if report is None:
        return
    running, here.inbox = here.inbox, None
    # What the log itself ends is told at once, too.
    deaths, here.deaths = here.deaths, None
    try:
        report()
    except Exception:
        # A renderer that cannot show the state must not keep the death from being told.
        fallback_log.exception("the crash of %s could not be logged", inbox.ref)
    finally:
        here.inbox, here.deaths = running, deaths


def _bury_if_idle(inbox: Mailbox) -> None:
    # Whoever runs it, or is about to, buries it.
    if inbox.owned or inbox.runner is not scheduler:
        inbox.enqueue()
    elif inbox.token.acquire(False):
        inbox.bury()


def _signal_link(peer: Mailbox, dead: Mailbox, reason: Any) -> bool:
    """Tell one linked process; True when it died of it, and what follows is still to be done."""
    with peer.lock:
        # The check and the signal are one step, so that nothing comes after an unlink.
        if peer.ties is None or dead not in peer.ties.links:
            return False
        del peer.ties.links[dead]
        if peer.reason is not ALIVE:
            return False
        if traps(peer):
            peer.items.append(Exit(dead.ref, reason))
        elif is_word(reason, "normal"):
            return False
        else:
            return _mark(peer, reason)
    peer.notify()
    return False


def tell_down(monitor: Monitor, reason: Any) -> None:
    """Deliver a monitor's one Down, unless it was taken back."""
    watcher = monitor.watcher
    with watcher.lock:
        if not monitor.active or watcher.reason is not ALIVE:
            return
        monitor.active = False
        if watcher.ties is not None:
            watcher.ties.watching.pop(monitor, None)
        watcher.items.append(Down(monitor, monitor.ref, reason))
    watcher.notify()


__all__ = ["DeathSlot", "ProcessExit", "both", "die", "exit_signal", "tell_down"]
