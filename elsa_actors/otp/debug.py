"""Look into a running server: read and replace its state, suspend it, count, log and trace events.

Every function takes a ref, a name or a Via, and is carried out by the server between two messages,
also while it is suspended. They raise CallTimeout, NoProcess, CallingSelf, CallExit when the server
ends meanwhile, and TypeError for a process that is no GenServer. They are for people who look for a
fault; a program calls the server's own functions.

A server's events are tuples: ("in", ("call", request, sender)), ("in", ("cast", request)),
("in", ("info", message)), ("out", value, sender, state), ("noreply", state) and
("continue", argument). What the functions of this file send is no event.

The original: https://www.erlang.org/doc/apps/stdlib/sys.html
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from elsa_actors.otp import reports
from elsa_actors.otp.gen_server import GenServer, stop, system_call
from elsa_actors.runtime import process
from elsa_actors.runtime.clock import clock
from elsa_actors.runtime.exits import is_word
from elsa_actors.runtime.names import local_names

LOGGED = 10
"""How many events `log(ref, True)` keeps."""


def get_state(ref: Any, timeout: float | None = 5.0) -> Any:
    """The server's ``self.state``: the object itself, not a copy."""
    return system_call(ref, lambda server: server.state, timeout, "get_state")


def replace_state(ref: Any, fn: Callable[[Any], Any], timeout: float | None = 5.0) -> Any:
    """Make ``fn(state)`` the server's state, and return it; ``fn`` runs in the server.

    When ``fn`` raises, this raises CallExit(("callback_failed", exception)); the server keeps its
    state and lives on.

        debug.replace_state("counter", lambda state: state + 1)

    """
    _check_function(fn)

    def replace(server: GenServer) -> Any:
        server.state = server._callback(fn, server.state)
        return server.state

    return system_call(ref, replace, timeout, ("replace_state", fn))


def get_status(ref: Any, timeout: float | None = 5.0) -> dict[str, Any]:
    """What `process.info` shows, and more, as a dictionary.

    "ref"; "status": "running" or "suspended"; "state": the state as the server's `format_status`
    shows it; "details": what its `status()` answers; "debug": what is switched on here, namely
    "statistics" (a dictionary or None), "log" (how many events are kept, or None), "trace" (a
    bool) and "installed" (the functions).
    """
    return dict(system_call(ref, _status, timeout, "get_status"))


def _status(server: GenServer) -> dict[str, Any]:
    ref = server._inbox.ref
    return {
        "ref": ref,
        **(process.info(ref) or {}),
        "status": "suspended" if server._suspended else "running",
        "debug": _debugging(server).summary(),
        "state": server._formatted({"state": server.state}).get("state"),
        "details": _details(server),
    }


def _details(server: GenServer) -> Any:
    try:
        return server._callback(server.status)
    except Exception:  # noqa: BLE001  (the rest of the picture is still wanted)
        return f"{type(server).__name__}.status crashed"


def suspend(ref: Any, timeout: float | None = 5.0) -> None:
    """Have the server handle no more messages; they wait, in their order, until `resume`.

    It still acts on what this file sends, on `stop`, on its parent's end, and when it does not trap
    exits on every exit signal. Suspending twice is the same as once.
    """
    system_call(ref, lambda server: server._suspend(), timeout, "suspend")


def resume(ref: Any, timeout: float | None = 5.0) -> None:
    """Have a suspended server go on, with what waited first; once is enough, twice harmless."""
    system_call(ref, lambda server: server._resume(), timeout, "resume")


def terminate(ref: Any, reason: Any, timeout: float | None = 5.0) -> None:
    """End the server with ``reason``, also a suspended one; `terminate` runs. As `stop`."""
    stop(ref, reason, timeout)


def statistics(
    ref: Any, flag: bool | str, timeout: float | None = 5.0
) -> dict[str, float | int] | None:
    """Count messages from now on (True), no longer (False), or return the counts ("get").

    The counts: "start_time" and "current_time" (seconds since the epoch), "messages_in",
    "messages_out" (answers), "reductions" (always 0); None when they are not switched on.
    """
    if is_word(flag, "get"):
        request = ("statistics", flag)
        counts: dict[str, float | int] | None = system_call(
            ref, lambda server: _debugging(server).counts(), timeout, request
        )
        return counts
    _check_flag(flag, "True, False or 'get'")
    _switch(ref, ("statistics", flag), lambda debugging: debugging.count(bool(flag)), timeout)
    return None


def trace(ref: Any, flag: bool, timeout: float | None = 5.0) -> None:
    """Write one log event `trace` for each of the server's events, from now on or no longer.

    Its ``line`` reads "got call ... from ...", "sent ... to ..., new state ..."; states are shown
    as `format_status` shows them. As long as structlog is not configured it is a printed line.
    """
    _check_flag(flag, "True or False")
    _switch(ref, ("trace", flag), lambda debugging: debugging.trace(flag), timeout)


def log(ref: Any, flag: bool | int, timeout: float | None = 5.0) -> None:
    """Keep the last 10 events (True), the last n (an int), or none any more (False)."""
    size = _size(flag)
    _switch(ref, ("log", flag), lambda debugging: debugging.keep(size), timeout)


def _size(flag: Any) -> int:
    if isinstance(flag, bool):
        return LOGGED if flag else 0
    if isinstance(flag, int) and flag >= 1:
        return flag
    raise ValueError(f"expected True, False or a number of events (1 or more), got: {flag!r}")


def get_log(ref: Any, timeout: float | None = 5.0) -> list[Any]:
    """The events that `log` kept, the oldest first; an empty list when it is not switched on.

    States in it are the objects themselves, as `get_state` gives them.
    """
    return list(system_call(ref, lambda server: _debugging(server).kept(), timeout, "get_log"))


def install(
    ref: Any, fn: Callable[[Any, Any, Any], Any], state: Any, timeout: float | None = 5.0
) -> None:
    """Have the server call ``fn(state, event, info)`` for each of its events.

    ``info`` is the server's name, or its ref when it has none. The answer is the next call's
    ``state``; "done" removes the function, and so does a raise, with a log event. It runs in the
    server, which waits for it. Installing a function that is installed changes nothing.

        def alarm(left, event, info):
            match event:
                case ("in", ("cast", "reset")):
                    print(info, "was reset")
                    return "done" if left == 1 else left - 1
            return left

        debug.install("counter", alarm, 3)

    """
    _check_function(fn)
    _switch(ref, ("install", fn), lambda debugging: debugging.install(fn, state), timeout)


def remove(ref: Any, fn: Callable[[Any, Any, Any], Any], timeout: float | None = 5.0) -> None:
    """Take an installed function out again; nothing happens when it is not there."""
    _switch(ref, ("remove", fn), lambda debugging: debugging.remove(fn), timeout)


def no_debug(ref: Any, timeout: float | None = 5.0) -> None:
    """Switch everything off: statistics, log, trace and installed functions."""
    _switch(ref, "no_debug", lambda debugging: debugging.clear(), timeout)


def _check_function(fn: Any) -> None:
    if not callable(fn):
        raise TypeError(f"expected a function, got: {fn!r}")


def _check_flag(flag: Any, expected: str) -> None:
    if not isinstance(flag, bool):
        raise ValueError(f"expected {expected}, got: {flag!r}")


def _switch(
    ref: Any, request: Any, change: Callable[[Debugging], None], timeout: float | None
) -> None:
    def carry_out(server: GenServer) -> None:
        debugging = _debugging(server)
        change(debugging)
        server._observer = debugging if debugging.is_on() else None

    system_call(ref, carry_out, timeout, request)


def _debugging(server: GenServer) -> Debugging:
    debugging: Debugging = server._observer or Debugging()
    return debugging


class Debugging:
    """What is switched on for one server; called in the server with each of its events."""

    __slots__ = ("_counts", "_functions", "_kept", "_traced")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self._counts: dict[str, float | int] | None = None
        self._kept: deque[Any] | None = None
        self._traced = False
        self._functions: list[tuple[Callable[[Any, Any, Any], Any], Any]] = []

    def is_on(self) -> bool:
        return bool(
            self._counts is not None or self._kept is not None or self._traced or self._functions
        )

    # ---- switches

    def count(self, flag: bool) -> None:
        if not flag:
            self._counts = None
        elif self._counts is None:
            self._counts = {"start_time": clock.wall_time(), "messages_in": 0, "messages_out": 0}

    def counts(self) -> dict[str, float | int] | None:
        if self._counts is None:
            return None
        return {**self._counts, "current_time": clock.wall_time(), "reductions": 0}

    def keep(self, size: int) -> None:
        self._kept = deque(self._kept or (), maxlen=size) if size else None

    def kept(self) -> list[Any]:
        return list(self._kept or ())

    def trace(self, flag: bool) -> None:
        self._traced = flag

    def install(self, fn: Callable[[Any, Any, Any], Any], state: Any) -> None:
        if all(fn != installed for installed, _ in self._functions):
            self._functions.append((fn, state))

    def remove(self, fn: Any) -> None:
        self._functions = [entry for entry in self._functions if entry[0] != fn]

    def summary(self) -> dict[str, Any]:
        return {
            "statistics": self.counts(),
            "log": None if self._kept is None else self._kept.maxlen,
            "trace": self._traced,
            "installed": [fn for fn, _ in self._functions],
        }

    # ---- events

    def __call__(self, server: GenServer, event: tuple[Any, ...]) -> None:
        if event[0] in ("out", "noreply"):
            event = (*event, server.state)
        if self._counts is not None and event[0] in ("in", "out"):
            self._counts["messages_in" if event[0] == "in" else "messages_out"] += 1
        if self._kept is not None:
            self._kept.append(event)
        if self._traced:
            self._traced = self._run(server, _write, server, event) is not _FAILED
        if self._functions:
            self._call_functions(server, event)
        if not self.is_on():
            server._observer = None

    def _call_functions(self, server: GenServer, event: tuple[Any, ...]) -> None:
        info = _name_or_ref(server)
        staying = []
        for fn, state in self._functions:
            state = self._run(server, fn, state, event, info)
            if state is not _FAILED and not is_word(state, "done"):
                staying.append((fn, state))
        self._functions = staying

    def _run(self, server: GenServer, fn: Callable[..., Any], *args: Any) -> Any:
        """Call a function that must not harm the server, whatever it does."""
        try:
            return server._callback(fn, *args)
        except BaseException as error:  # noqa: BLE001  (whoever looks in does no harm)
            if not server._inbox.is_dead():
                reports.debug_function_failed(server._title(), fn, error)
            return _FAILED


_FAILED: Any = object()


def _name_or_ref(server: GenServer) -> Any:
    for entry, table in list((server._inbox.names or {}).items()):
        if table is local_names:
            return entry.key
    return server._inbox.ref


def _write(server: GenServer, event: tuple[Any, ...]) -> None:
    reports.traced(server._title(), _line(server, event))


def _line(server: GenServer, event: tuple[Any, ...]) -> str:
    match event:
        case ("in", ("call", request, sender)):
            return f"got call {request!r} from {_who(sender)}"
        case ("in", ("cast", request)):
            return f"got cast {request!r}"
        case ("in", ("info", message)):
            return f"got {message!r}"
        case ("out", value, sender, state):
            return f"sent {value!r} to {_who(sender)}, new state {_shown(server, state)}"
        case ("noreply", state):
            return f"new state {_shown(server, state)}"
        case (kind, argument):
            return f"{kind} {argument!r}"
    return repr(event)


def _who(sender: Any) -> str:
    return "a plain thread" if sender.asker is None else repr(sender.asker.ref)


def _shown(server: GenServer, state: Any) -> str:
    return repr(server._formatted({"state": state}).get("state"))


__all__ = [
    "get_log",
    "get_state",
    "get_status",
    "install",
    "log",
    "no_debug",
    "remove",
    "replace_state",
    "resume",
    "statistics",
    "suspend",
    "terminate",
    "trace",
]
