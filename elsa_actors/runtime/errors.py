"""What a caller can catch."""

from __future__ import annotations

import copy
import pickle
from typing import Any, Self


class ElsaError(Exception):
    """The root of every error of this library; ``reason`` is OTP's word for it."""

    def __init__(self, reason: Any, message: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return self.message if self.message is not None else f"{self.reason!r}"

    # As it is, whatever a subclass's __init__ asks for: to another program, and for copies.
    def __reduce__(self) -> Any:
        done: dict[int, Any] = {}
        args = tuple(_portable(arg, done) for arg in self.args)
        fields = {name: _portable(value, done) for name, value in self.__dict__.items()}
        return _made_again, (type(self), args), fields

    def __copy__(self) -> Self:
        again: Any = _made_again(type(self), self.args)
        again.__setstate__(self.__dict__.copy())
        return again  # type: ignore[no-any-return]

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        again: Any = _made_again(type(self), copy.deepcopy(self.args, memo))
        memo[id(self)] = again
        again.__setstate__(copy.deepcopy(self.__dict__, memo))
        return again  # type: ignore[no-any-return]


def _made_again(kind: type[ElsaError], args: tuple[Any, ...]) -> ElsaError:
    error = kind.__new__(kind)
    error.args = args
    # No other cause: Python leaves them behind, and not all can be sent.
    if args and isinstance(args[0], BaseException):
        error.__cause__ = args[0]
    return error


def _portable(value: Any, done: dict[int, Any]) -> Any:
    """The value, with its repr in the place of what cannot be pickled: a ref, a lock.

    ``done`` holds what has been seen: one object stays one, and one that holds itself has an end.
    """
    if id(value) in done:
        return done[id(value)]
    done[id(value)] = value
    try:
        # Read back too: an error that cannot be hangs the pool that waits for it.
        pickle.loads(pickle.dumps(value))
        return value
    except Exception:  # noqa: BLE001  (users' objects may raise anything)
        made: Any = _shown(value)
    done[id(value)] = made
    kind = type(value)
    if kind is tuple or kind is list:
        made = kind(_portable(part, done) for part in value)
    elif kind is dict:
        made = {_portable(key, done): _portable(part, done) for key, part in value.items()}
    done[id(value)] = made
    return made


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001  (a repr too)
        return f"<{type(value).__qualname__}>"


class CallExit(ElsaError):
    """A call failed; ``reason`` is why the server ended or did not answer."""

    def __init__(
        self, reason: Any, server: Any = None, request: Any = None, message: str | None = None
    ) -> None:
        super().__init__(reason, message)
        self.server = server
        self.request = request
        if isinstance(reason, BaseException):
            self.__cause__ = reason

    def __str__(self) -> str:
        if self.message is not None:
            return self.message
        text = f"{self.server!r} ended with {self.reason!r}; the request was {self.request!r}"
        if _is_of_none(self.reason):
            text += "; its callback returned None, expected Reply, NoReply or Stop"
        return text


class CallTimeout(CallExit, TimeoutError):
    """No answer came in time; the request may still be carried out, a late reply vanishes."""

    def __init__(
        self, server: Any = None, request: Any = None, timeout: float | None = None
    ) -> None:
        super().__init__(
            "timeout",
            server,
            request,
            f"no answer from {server!r} within {timeout} s; the request was {request!r}",
        )
        self.timeout = timeout


class NoProcess(CallExit, LookupError):
    """Nobody is there: the process is dead, or the name is not registered."""

    def __init__(self, server: Any = None, request: Any = None, message: str | None = None) -> None:
        super().__init__(
            "noproc", server, request, message or f"no process is alive behind {server!r}"
        )


class CallingSelf(CallExit):
    """A process called itself: it would wait for its own answer for ever."""

    def __init__(self, server: Any = None, request: Any = None) -> None:
        super().__init__(
            "calling_self",
            server,
            request,
            f"{server!r} called itself with {request!r} and would wait for ever;"
            " call the function directly, or return Continue(...)",
        )


class StartError(ElsaError):
    """A process could not be started; ``child`` is the spec, under a supervisor."""

    def __init__(self, reason: Any, message: str | None = None, child: Any = None) -> None:
        super().__init__(reason, message)
        self.child = child
        if isinstance(reason, BaseException):
            self.__cause__ = reason

    def __str__(self) -> str:
        if self.message is not None:
            return self.message
        reason = str(self.reason) if isinstance(self.reason, ElsaError) else repr(self.reason)
        return f"could not start: {reason}{_advice(self.reason)}"


def _advice(reason: Any) -> str:
    """What to do about a reason, however many supervisors have passed it on."""
    while isinstance(reason, tuple) and reason:
        if len(reason) == 2 and isinstance(reason[0], str) and reason[0] == "not_a_process":
            return "; run it in a Wrapper, or derive its class from Process"
        if _is_of_none(reason):
            return "; init is to return Ok(...), Ignore() or Stop(...)"
        reason = reason[-1]
    return ""


def _is_of_none(reason: Any) -> bool:
    """Whether a callback returned nothing, which is mostly forgotten and seldom meant."""
    if not isinstance(reason, tuple) or len(reason) != 2 or reason[1] is not None:
        return False
    return isinstance(reason[0], str) and reason[0] == "bad_return_value"


class AlreadyStarted(StartError):
    """The name or the child id is taken; ``ref`` is the process that has it."""

    def __init__(self, ref: Any, message: str | None = None, child: Any = None) -> None:
        super().__init__(("already_started", ref), message or f"already started as {ref!r}", child)
        self.ref = ref


class ChildError(ElsaError):
    """A supervisor refuses an operation on a child; ``child_id`` says which."""

    _SENTENCES = {
        "not_found": "no child {!r} is known to this supervisor",
        "running": "child {!r} is already running; terminate it first",
        "restarting": "child {!r} is being restarted; terminate it first",
        "already_present": "child {!r} is present and not running;"
        " use restart_child, or delete_child first",
        "max_children": "the supervisor has as many children as max_children allows",
    }

    def __init__(self, reason: str, child_id: Any = None) -> None:
        super().__init__(reason, self._SENTENCES[reason].format(child_id))
        self.child_id = child_id


class ChildSpecError(ElsaError, ValueError):
    """A child spec or a supervisor flag is wrong; ``reason`` names the field and the value."""


class ReceiveTimeout(ElsaError, TimeoutError):
    """No matching message came in time."""

    def __init__(self, timeout: float | None = None) -> None:
        super().__init__("timeout", f"no matching message within {timeout} s")


class NotAProcess(ElsaError, RuntimeError):
    """A function that needs a running process was called on a plain thread."""

    def __init__(self, what: str) -> None:
        super().__init__(
            "noprocess",
            f"{what} needs a running process, and this is a plain thread;"
            " use `with process.attach():`",
        )


class NameTaken(ElsaError, ValueError):
    """The name or key already has a holder, ``ref``."""

    def __init__(self, name: Any, ref: Any) -> None:
        super().__init__(("already_registered", ref), f"{name!r} is already registered by {ref!r}")
        self.ref = ref


class Forked(ElsaError, RuntimeError):
    """This program was forked; no process lives in the child, and none can be started."""

    def __init__(self) -> None:
        super().__init__(
            "fork",
            "no process lives in a forked child; use the multiprocessing start method 'spawn',"
            " or fork before the first process is started",
        )
