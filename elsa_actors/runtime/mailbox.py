"""The inbox: one order for messages and signals; wakes the scheduler.

A mailbox is also the process as others see it: alive or dead, and of what. Two locks guard it.
The *token* is held by whoever runs the process (a worker, or the caller of an inline call), or by
the scheduler while the process waits for a worker. The *lock* makes a death one step: the process's
own sends take it too, so that nothing it sends comes after its death.
"""

from __future__ import annotations

import _thread
import contextvars
import threading
import weakref
from collections import deque
from collections.abc import Callable
from itertools import compress
from typing import TYPE_CHECKING, Any, Protocol

from elsa_actors.runtime.clock import clock
from elsa_actors.runtime.errors import CallExit, NoProcess
from elsa_actors.runtime.exits import ProcessExit
from elsa_actors.runtime.scheduler import GRACE, Worker, here, scheduler, wake
from elsa_actors.runtime.waiting import new_slot, wait

if TYPE_CHECKING:
    from elsa_actors.runtime.actor import Process
    from elsa_actors.runtime.links import Ties

PYKKA_MESSAGES = "pykka.messages"
"""The module of Pykka's own messages: a proxy's calls and attributes, and the request to stop."""

FAIR_SHARE = 100
"""Messages a process may handle before another gets its worker."""


class _Alive:
    def __repr__(self) -> str:
        return "ALIVE"


ALIVE: Any = _Alive()
"""The exit reason of a process that has none yet."""


class Runner(Protocol):
    queue: deque[Any]

    def push(self, inbox: Any) -> None: ...

    def rouse(self) -> None: ...


NO_WAIT = (False,)
"""The one set of arguments of ``map(token.acquire, NO_WAIT)``."""


class Internal:
    """Base of what the library itself puts into mailboxes; `receive` does not see it."""

    __slots__ = ()


class Halt(Internal):
    """Stop with this reason, after what was queued before."""

    __slots__ = ("reason",)

    def __init__(self, reason: Any) -> None:
        self.reason = reason

    def __repr__(self) -> str:
        return f"Halt({self.reason!r})"


class Ask(Internal):
    """A message that wants an answer; the first answer counts, later ones vanish."""

    __slots__ = ("__weakref__", "answers", "asker", "message", "slot", "target")

    def __init__(self, message: Any, asker: Mailbox | None, target: Mailbox) -> None:
        self.message = message
        self.asker = asker
        self.target = target
        self.slot: Any = None  # made by whoever waits; an inline answer needs none
        # Appending is one step; whoever reads takes the first.
        self.answers: list[tuple[bool, Any]] = []

    def answer(self, value: Any) -> None:
        self._arrive((True, value))

    def fail(self, reason: Any) -> None:
        self._arrive((False, reason))

    def _arrive(self, answer: tuple[bool, Any]) -> None:
        try:
            self.answers.append(answer)
            # The answer first, then the slot: whoever waits does it the other way round.
            if self.slot is not None:
                wake(self.slot)
        except BaseException:  # Ctrl-C, or a RecursionError.
            scheduler.watchdog.alarms.put(self.repair)
            raise

    def repair(self) -> None:
        """Whoever answered was struck."""
        if self.answers and self.slot is not None:
            wake(self.slot)

    def is_answered(self, timeout: float | None) -> bool:
        """Whether an answer is there, waiting up to ``timeout`` seconds for it."""
        if self.answers:
            return True
        slot = self.slot
        if slot is None:
            slot = self.slot = new_slot()
        return bool(self.answers) or wait(slot, timeout) or bool(self.answers)

    def fail_with(self, error: BaseException) -> None:
        """The handler raised, and the process lives on."""
        self.fail(error)

    def failure(self, reason: Any) -> CallExit:
        """The error that this reason is for the one who asked."""
        if isinstance(reason, str) and reason == "noproc":
            return NoProcess(self.target.ref, self.message)
        return CallExit(reason, self.target.ref, self.message)


class Mailbox:
    """A process's messages, its state of life, and who runs it."""

    __slots__ = (
        "__weakref__",
        "closing",
        "context",
        "current",
        "died_on",
        "held",
        "inline",
        "items",
        "lock",
        "names",
        "owned",
        "parent",
        "pending",
        "process",
        "reason",
        "receiver",
        "ref",
        "report",
        "runner",
        "started_at",
        "stopped_event",
        "ties",
        "token",
        "told",
        "waiter",
        "will",
        "worker",
    )

    def __init__(self, process: Process) -> None:
        self.items: deque[Any] = deque()
        self.lock = threading.RLock()
        self.token = _thread.allocate_lock()
        self.process: Process | None = process
        self.reason: Any = ALIVE
        self.runner: Runner = scheduler
        self.ref: Any = None
        self.context: contextvars.Context | None = None
        self.parent: Mailbox | None = None
        self.waiter: Any = None  # the slot on which the process waits
        self.receiver: Any = None  # the same, when any message may end the wait
        self.worker: Worker | None = None
        self.died_on: Any = None
        self.current: Ask | None = None
        self.pending: weakref.WeakSet[Ask] | None = None
        self.held: deque[Any] | None = None  # what waits while the process is suspended
        self.inline = False
        self.ties: Ties | None = None
        self.names: dict[Any, Any] | None = None
        self.owned: list[tuple[Any, Callable[[Any], Any]]] | None = None
        self.stopped_event: threading.Event | None = None
        self.started_at = 0.0
        self.report: Callable[[], Any] | None = None  # writes the crash into the log
        self.will: Any = None  # what of its death is still to be told
        self.told = False  # dead, and all that was in the mail is answered
        self.closing = False  # a Pykka stop is under way: no new mail, not dead yet

    # ---- life

    def is_dead(self) -> bool:
        return self.reason is not ALIVE

    def is_buried(self) -> bool:
        """Whether nothing of a dead process runs any more."""
        return self.process is None

    def check_alive(self) -> None:
        """Raise ProcessExit in code whose process is dead."""
        if self.reason is not ALIVE:
            worker = here.worker
            if worker is not None and worker.not_before == 0.0:
                # What it is caught by gets time, as after a shot of the watchdog's; once.
                worker.not_before = clock.now() + GRACE
            raise ProcessExit(self.reason)

    # ---- mail

    def put(self, item: Any) -> bool:
        """Append a message and wake the process; False when it is dead, and the item is dropped."""
        if self.reason is not ALIVE:
            # Not even queued: who comes after the death gets "noproc", whoever clears up meanwhile.
            if isinstance(item, Ask):
                item.fail("noproc")
            return False
        self.items.append(item)
        # The message first, then the look: a death does it the other way round.
        if self.reason is not ALIVE:
            if isinstance(item, Ask):
                item.fail(self.reason)
            if self.told:
                self.items.clear()
            return False
        # As `notify`, written out: there is one of these for every message.
        try:
            if not self.token.locked():
                self.enqueue()
            elif self.receiver is not None:
                self.notify()
        except BaseException:  # Ctrl-C, or a RecursionError.
            scheduler.watchdog.alarms.put(self.repair)
            raise
        return True

    def notify(self) -> None:
        """Have the process look into its mail."""
        try:
            if not self.token.locked():
                self.enqueue()
            receiver = self.receiver
            if receiver is not None:
                wake(receiver)
        except BaseException:  # As in `put`.
            scheduler.watchdog.alarms.put(self.repair)
            raise

    def enqueue(self) -> None:
        """Queue for a worker, unless somebody has the token; he looks into the mail once more."""
        runner = self.runner
        # The token is taken and the mailbox queued within one call into C: between two steps of
        # Python, Ctrl-C or a RecursionError could strike, and the token be lost.
        runner.queue.extend(compress((self,), map(self.token.acquire, NO_WAIT)))
        runner.rouse()

    def repair(self) -> None:
        """Whoever woke the process was struck: wake it once more."""
        scheduler.repair()
        self.notify()
        self.runner.rouse()

    def drop_mail(self, reason: Any) -> None:
        """Throw the mail of a dead process away; who asked is told."""
        for items in (self.items, self.held or ()):
            # Told first, then taken out: whoever is struck in between leaves nobody untold.
            for item in tuple(items):
                if isinstance(item, Ask):
                    item.fail(reason)
            while items:
                try:
                    item = items.popleft()
                except IndexError:
                    break
                if isinstance(item, Ask):
                    item.fail(reason)

    def take(self, match: Callable[[Any], bool], start: int = 0) -> tuple[bool, Any, int]:
        """Take the first message that matches, from place ``start`` on; others keep their order.

        Only the process itself may call it. Returns (found, message, places looked at).
        """
        items = self.items
        place = start
        while True:
            try:
                item = items[place]
            except IndexError:
                self.check_alive()
                return False, None, place
            if match(item):
                try:
                    del items[place]
                except IndexError:  # Dead meanwhile, and the mail is gone.
                    self.check_alive()
                return True, item, place
            place += 1

    # ---- turns

    def turn(self, worker: Worker) -> bool:
        """Handle some mail on this worker; False when what it ran was, or may be, a leftover.

        Then the worker must end, and `end_leftover` is the last thing it does for this process.
        """
        if self.reason is not ALIVE:
            self.bury()
            return True
        worker.inbox = self
        self.worker = worker
        process, context = self.process, self.context
        # The worker first, then the look: a death does it the other way round.
        if self.reason is ALIVE and process is not None and context is not None:
            here.inbox = self
            try:
                context.run(process._turn)
            except Exception as error:
                # A message that cannot even be looked at: users may send what they like.
                process._end_at_once(error)
            here.inbox = None
        # No worker first, then the look: a death does it the other way round.
        self.worker = None
        if self.reason is not ALIVE:
            if self.died_on is not worker:
                return False
            self.bury()
        elif self.items:
            self.runner.push(self)  # Its fair share is over.
        else:
            self.give_token_back()
        return True

    def end_leftover(self) -> None:
        """The code of a dead process has come to its end."""
        here.inbox = None
        self.worker = None
        self.bury()

    def give_token_back(self) -> None:
        """Let the next message wake the process; look once more for one that came meanwhile."""
        self.token.release()
        if self.items or self.reason is not ALIVE:
            self.enqueue()

    def end_in_child(self) -> None:
        """The process that forked goes on in its parent; of this copy nobody hears, or is told."""
        self.lock = threading.RLock()
        self.reason = "fork"
        self.items.clear()
        self.names = self.ties = self.owned = self.pending = None

    def bury(self) -> None:
        """The last thing that the holder of a dead process's token does."""
        process, self.process = self.process, None
        current = self.current
        if current is not None:
            current.fail(self.reason)
        self.drop_mail(self.reason)
        self.told = True
        self.context = None
        if self.parent is not None and self.parent.is_dead():
            self.parent = None  # No chain of ancestors behind a process that hands over and ends.
        if process is not None:
            process._buried()
            process._close_owned()

    def later(self, ask: Ask) -> None:
        """Remember a request that will be answered later, or failed by the process's death."""
        with self.lock:
            if self.pending is None:
                self.pending = weakref.WeakSet()
            self.pending.add(ask)
        if self.reason is not ALIVE:
            ask.fail(self.reason)

    def end_current(self, ask: Ask) -> None:
        """The process is done with this request: it is answered, remembered, or fails now."""
        # A death between the answer's fence and here leaves it to us; see `death._tell_others`.
        if self.reason is not ALIVE:
            ask.fail(self.reason)
        self.current = None

    def stopped(self) -> threading.Event:
        """An event that is set when the process is dead; made when first asked for."""
        with self.lock:
            if self.stopped_event is None:
                self.stopped_event = threading.Event()
                if self.reason is not ALIVE:
                    self.stopped_event.set()
            return self.stopped_event

    def __repr__(self) -> str:
        return repr(self.ref)


__all__ = ["ALIVE", "NO_WAIT", "Ask", "Halt", "Internal", "Mailbox", "new_slot"]
