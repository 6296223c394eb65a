"""What callbacks answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


class _Unset:
    """A value that nobody gave; None is a value."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Any = _Unset()


class _IdleTimeout:
    def __repr__(self) -> str:
        return "TIMEOUT"

    def __reduce__(self) -> str:
        return "TIMEOUT"


TIMEOUT: Any = _IdleTimeout()
"""The info message of an idle timeout: a value of its own, equal to nothing else."""


@dataclass(frozen=True, slots=True)
class Continue:
    """Run `handle_continue(argument)` next, before anything that is queued."""

    argument: Any = None


@dataclass(frozen=True, slots=True)
class Timeout:
    """After ``seconds`` without a message, `TIMEOUT` comes as one; any message cancels it."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Hibernate:
    """Nothing to do for a long time: memory is trimmed."""


Then = Continue | Timeout | Hibernate | None


@dataclass(frozen=True, slots=True)
class Ok:
    """`init` succeeded; ``state`` becomes `self.state`; without one, it stays as init left it."""

    state: Any = UNSET
    then: Then = None


@dataclass(frozen=True, slots=True)
class Ignore:
    """`init` has nothing to run: the process ends normally, its supervisor keeps the spec."""


@dataclass(frozen=True, slots=True)
class Stop:
    """End the server with ``reason``, after `terminate`; a caller is answered with ``reply``."""

    reason: Any
    reply: Any = UNSET


@dataclass(frozen=True, slots=True, init=False)
class Reply:
    """Answer the call with ``value``."""

    value: Any
    then: Then = None

    def __init__(self, value: Any, then: Then = None) -> None:
        # What the dataclass would write, with less of a detour: there is one of these a call.
        _set_value(self, value)
        _set_then(self, then)


_set_value = vars(Reply)["value"].__set__
_set_then = vars(Reply)["then"].__set__


@dataclass(frozen=True, slots=True)
class NoReply:
    """Go on; a caller, if there is one, is answered later with `reply(sender, value)`."""

    then: Then = None


@dataclass(frozen=True, slots=True)
class Supervise:
    """What a supervisor's `init` answers: the children in start order, and the flags.

    ``max_restarts`` restarts within ``max_seconds`` (seconds) are allowed; one more, and the
    supervisor ends with "shutdown".
    """

    children: Iterable[Any]
    strategy: str = "one_for_one"
    max_restarts: int = 3
    max_seconds: float = 5.0
    auto_shutdown: str = "never"
