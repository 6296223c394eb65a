"""Servers and helpers that the tests arrange with."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from elsa_actors import (
    Down,
    GenServer,
    NoReply,
    Ok,
    ReceiveTimeout,
    Reply,
    Stop,
    process,
)

WAIT = 5.0
"""How long a test waits for what must happen, in seconds: long, since machines are busy."""
NEVER = 0.1
"""How long a test waits for what must not happen."""


class Oops(Exception):
    """What the tests' servers raise."""


class Journal:
    """What happened, in order, from any thread or process."""

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self.events: list[Any] = []

    def __call__(self, *event: Any) -> None:
        with self._lock:
            self.events.append(event[0] if len(event) == 1 else event)
            self._lock.notify_all()

    def wait_for(self, *event: Any, timeout: float = WAIT) -> None:
        """Wait until this event has happened."""
        wanted = event[0] if len(event) == 1 else event
        with self._lock:
            assert self._lock.wait_for(lambda: wanted in self.events, timeout), (
                f"{wanted!r} did not happen; what did: {self.events!r}"
            )

    def take(self) -> list[Any]:
        """What happened until now; the journal starts over."""
        with self._lock:
            events, self.events = self.events, []
            return events


class Gate:
    """Holds a callback where the test wants it: the callback passes, the test opens.

    ``library=True`` waits in the library, so that a death ends the wait; otherwise the wait is of a
    kind that the library cannot see, like a blocking C call.
    """

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._open = threading.Event()

    def __call__(self, library: bool = False) -> None:
        self._reached.set()
        if library:
            while not self._open.is_set():
                process.sleep(0.01)
        else:
            assert self._open.wait(WAIT * 4), "nobody opened the gate"

    def reached(self) -> None:
        """Wait until a callback stands at the gate."""
        assert self._reached.wait(WAIT), "nobody came to the gate"

    def open(self) -> None:
        self._open.set()


class Doer(GenServer):
    """Does what it is told: every request, cast, message and continue is a function of the server.

    A function answers the callback's result; None means NoReply() in a cast, and Reply(None) in a
    call. With ``journal`` it writes down what it does.
    """

    def init(
        self,
        start: Callable[[Any], Any] | None = None,
        journal: Journal | None = None,
        trap: bool = False,
        label: Any = "doer",
    ) -> Any:
        self.trap_exit = trap
        self.journal = journal or Journal()
        self.label = label
        result = Ok() if start is None else start(self)
        return Ok() if result is None else result

    def handle_call(self, request: Any, sender: Any) -> Any:
        self.sender = sender
        result = request(self)
        return Reply(None) if result is None else result

    def handle_cast(self, request: Any) -> Any:
        return request(self)

    def handle_info(self, message: Any) -> Any:
        if callable(message):
            return message(self)
        self.journal("info", message)
        return NoReply()

    def handle_continue(self, argument: Any) -> Any:
        if callable(argument):
            return argument(self)
        self.journal("continue", argument)
        return NoReply()

    def terminate(self, reason: Any) -> Any:
        self.journal("terminate", reason)


class Child(GenServer):
    """A supervised child: writes ("start", label) and ("term", label, reason) into a journal.

    A cast of ("stop", reason) ends it with that reason; "raise" makes it raise Oops.
    """

    def init(self, label: Any, journal: Journal, trap: bool = True) -> Any:
        self.trap_exit = trap
        self.label, self.journal = label, journal
        journal("start", label)
        return Ok()

    def handle_call(self, request: Any, sender: Any) -> Any:
        match request:
            case "ref":
                return Reply(process.current())
            case "raise":
                raise Oops
            case ("stop", reason):
                return Stop(reason)
            case _:
                return Reply(request)

    def handle_cast(self, request: Any) -> Any:
        if request == "raise":
            raise Oops
        return Stop(request[1])

    def handle_info(self, message: Any) -> Any:
        return NoReply()

    def terminate(self, reason: Any) -> Any:
        self.journal("term", self.label, reason)


def exit_of(ref: Any, timeout: float = WAIT) -> Any:
    """Wait for the end of a process and return its reason; also on a plain thread."""
    if process.current() is None:
        with process.attach():
            return exit_of(ref, timeout)
    watch = process.monitor(ref)
    down = process.receive(
        lambda message: isinstance(message, Down) and message.monitor is watch, timeout
    )
    # It may have been dead before it was watched.
    return ref._inbox.reason if down.reason == "noproc" else down.reason


def nothing_comes(match: Any = None, timeout: float = NEVER) -> bool:
    """Whether no (matching) message comes to the running process."""
    try:
        process.receive(match, timeout)
    except ReceiveTimeout:
        return True
    return False


def in_thread(function):
    """Run a function on a thread of its own; what it returned or raised lands in the list."""
    outcome = []

    def run():
        try:
            outcome.append(function())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome
