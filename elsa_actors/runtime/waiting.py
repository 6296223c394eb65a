"""How a process waits: one lock, a deadline, woken by an answer or by its own death."""

from __future__ import annotations

import _thread
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from elsa_actors.runtime.clock import LONGEST_WAIT, clock
from elsa_actors.runtime.exits import ProcessExit
from elsa_actors.runtime.scheduler import check_fork, here, scheduler


def new_slot() -> Any:
    """A lock that is taken; whoever has the answer releases it."""
    lock = _thread.allocate_lock()
    lock.acquire()
    return lock


def wait(slot: Any, timeout: float | None = None) -> bool:
    """Wait until ``slot`` is released; False when ``timeout`` seconds passed first.

    The scheduler is told, so that another process may run. Raises ProcessExit when the waiting
    process is dead, at once when it dies during the wait.
    """
    seconds = -1.0 if timeout is None else min(max(timeout, 0.0), LONGEST_WAIT)
    inbox = here.inbox
    if inbox is None:
        check_fork()
        return bool(slot.acquire(True, seconds))
    # A signal handler of Python's may wait on top of what the main thread waits for.
    outer = inbox.waiter
    inbox.waiter = slot
    # The slot first, then the look: a death does it the other way round.
    inbox.check_alive()
    worker = here.worker
    try:
        if worker is not None:
            scheduler.block(worker)
        woken = bool(slot.acquire(True, seconds))
    finally:
        inbox.waiter = outer
        if worker is not None:
            scheduler.unblock(worker)
    inbox.check_alive()
    return woken


@contextmanager
def blocking() -> Iterator[None]:
    """Around a call that blocks outside of the library: the scheduler lets another worker run."""
    worker = here.worker
    if worker is not None:
        scheduler.block(worker)
    try:
        yield
    finally:
        if worker is not None:
            scheduler.unblock(worker)


def deadline_of(timeout: float | None) -> float | None:
    """The moment at which a wait that starts now ends; None for a wait without an end."""
    return None if timeout is None else clock.now() + min(timeout, LONGEST_WAIT)


def remaining(deadline: float | None) -> float | None:
    """Seconds left until a deadline, 0.0 when it has passed."""
    return None if deadline is None else max(deadline - clock.now(), 0.0)


def check_timeout(timeout: Any) -> None:
    """Refuse what is no duration: a number of seconds, 0 or more, or None."""
    if timeout is None:
        return
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout >= 0:
        raise ValueError(f"expected timeout to be seconds (0 or more) or None, got: {timeout!r}")


__all__ = [
    "ProcessExit",
    "blocking",
    "check_timeout",
    "deadline_of",
    "new_slot",
    "remaining",
    "wait",
]
