"""Children whose starts follow a script, and what the tests of supervisors do to them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from elsa_actors import CallExit, Down, StartError, Stop, Supervisor, cast, debug, process
from tests.servers import WAIT, Child, Doer, Journal, Oops


class Forever:
    """A script that never ends: every start goes the same way, until ``word`` is changed."""

    def __init__(self, *first: str, then: str) -> None:
        self.first = list(first)
        self.word = then

    def pop(self, _place: int) -> str:
        return self.first.pop(0) if self.first else self.word


def start(label: Any, journal: Journal, trap: bool, script: Any) -> Any:
    """Start a Child as the next word of the script says; without words, it starts well.

    A scripted start writes ("try", label, word) into the journal first.
    """
    word = "ok"
    if script is not None:
        word = script.pop(0) if script else "ok"
        journal("try", label, word)
    match word:
        case "ok":
            return Child.start_link(label, journal, trap)
        case "info":
            return Child.start_link(label, journal, trap), f"info of {label}"
        case "ignore":
            return None
        case "error":
            raise StartError("nope")
        case "stop":
            return Doer.start_link(lambda _server: Stop("istop"), journal)
        case "raise":
            raise Oops
        case "raise in init":
            return Doer.start_link(fail, journal)
        case "exit":
            return process.exit_self("gone")
        case other:
            return other


def fail(_server: Any) -> Any:
    raise Oops


def spec(
    label: Any, journal: Journal, *, trap: bool = True, script: Any = None, **fields: Any
) -> dict[str, Any]:
    """The spec of a child with this id, which writes into the journal as `Child` does."""
    return {"id": label, "start": (start, [label, journal, trap, script]), **fields}


def specs(labels: str, journal: Journal, **fields: Any) -> list[dict[str, Any]]:
    """Specs of one child for each letter."""
    return [spec(label, journal, **fields) for label in labels]


def nested(label: Any, children: list[Any], flags: Any = None, **fields: Any) -> dict[str, Any]:
    """The spec of a supervisor under a supervisor."""
    start = (Supervisor, "start_link", [children], flags or {})
    return {"id": label, "start": start, "type": "supervisor", **fields}


def children(sup: Any) -> dict[Any, Any]:
    """What stands for each child in which_children, by id, in start order."""
    return {info.id: info.child for info in reversed(Supervisor.which_children(sup))}


def ref_of(sup: Any, label: Any) -> Any:
    """The ref of a child that runs."""
    ref = children(sup)[label]
    assert ref is not None
    assert ref != "restarting"
    return ref


def counts(sup: Any) -> list[int]:
    """count_children as OTP shows it: specs, active, supervisors, workers."""
    return list(Supervisor.count_children(sup).values())


def reason_of(ref: Any, act: Callable[..., Any], *args: Any) -> Any:
    """Do what ends this process, and return its reason; its supervisor is told by then."""
    watch = process.monitor(ref)
    act(*args)
    return process.receive(lambda m: isinstance(m, Down) and m.monitor is watch, WAIT).reason


def crash(ref: Any, reason: Any = "boom") -> None:
    """End a Child with this reason, and wait until it is dead and its supervisor told."""
    assert reason_of(ref, cast, ref, ("stop", reason)) == reason


def crash_doer(ref: Any, reason: Any = "boom") -> None:
    """End a Doer in the same way."""
    assert reason_of(ref, cast, ref, lambda _server: Stop(reason)) == reason


def kill(ref: Any) -> None:
    assert reason_of(ref, process.exit, ref, "kill") == "killed"


def crash_together(sup: Any, *labels: Any, reason: Any = "boom") -> None:
    """End these children, in this order, before the supervisor reacts to the first."""
    refs = [ref_of(sup, label) for label in labels]
    debug.suspend(sup)
    for ref in refs:
        crash(ref, reason)
    debug.resume(sup)


def settled(sup: Any) -> dict[Any, Any]:
    """Wait until no restart is being tried again; the children then."""
    until(lambda: "restarting" not in children(sup).values())
    return children(sup)


def answers(sup: Any) -> bool:
    """Whether a supervisor is still there when it has handled what was sent to it before."""
    try:
        Supervisor.count_children(sup)
    except CallExit:
        return False
    return True


def until(condition: Callable[[], Any]) -> None:
    """Wait until this is true; for what nobody sends a message about."""
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.001)


class Aside:
    """A call on a thread of its own, because it waits."""

    def __init__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self._call = (function, args, kwargs)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        function, args, kwargs = self._call
        try:
            self._answer, self._error = function(*args, **kwargs), None
        except BaseException as error:
            self._answer, self._error = None, error

    def waits(self) -> bool:
        return self._thread.is_alive()

    def answer(self) -> Any:
        """What the call returned or raised, once it has."""
        self._thread.join(WAIT)
        assert not self._thread.is_alive(), "the call did not return"
        if self._error is not None:
            raise self._error
        return self._answer


def queued(sup: Any, function: Callable[..., Any], *args: Any) -> Aside:
    """Make this call to a supervisor that is suspended or busy; it is in its mailbox on return."""
    length = process.info(sup)["message_queue_len"]
    aside = Aside(function, sup, *args)
    until(lambda: process.info(sup)["message_queue_len"] > length)
    return aside
