"""Exit reasons, and the two notices Exit and Down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pykka import ActorRef

    from elsa_actors.runtime.links import Monitor


class ProcessExit(BaseException):
    """Ends the process whose code it is raised in; not an Exception, so that nothing eats it.

    Raised by `process.exit_self`, and by every library call of code whose process is dead.
    """

    def __init__(self, reason: Any) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Exit:
    """A linked process ended, or somebody sent an exit signal, to a process that traps exits.

    ``ref`` is the sender; None when a plain thread sent the signal.
    """

    ref: ActorRef[Any] | None
    reason: Any


@dataclass(frozen=True, slots=True)
class Down:
    """A monitored process ended; ``ref`` is what was monitored: a name stays a name."""

    monitor: Monitor
    ref: Any
    reason: Any


def is_clean(reason: Any) -> bool:
    """Whether a process that ends so has ended on purpose: normal, shutdown, ("shutdown", x)."""
    if isinstance(reason, str):
        return reason == "normal" or reason == "shutdown"
    return isinstance(reason, tuple) and len(reason) == 2 and is_word(reason[0], "shutdown")


def is_word(reason: Any, word: str) -> bool:
    """Whether a reason is exactly this word; safe for users' terms with an odd `==`."""
    return isinstance(reason, str) and reason == word
