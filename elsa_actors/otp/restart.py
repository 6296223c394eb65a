"""Decide which children to restart, and in which order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from enum import Enum
from typing import Protocol, TypeVar

from elsa_actors.runtime.exits import is_clean, is_word


class Fate(Enum):
    """What becomes of a child that ended."""

    RESTART = "restart"
    KEEP = "keep"  # it stays in the records, not running
    REMOVE = "remove"


class Known(Protocol):
    """What the policy needs to know about a child."""

    @property
    def restart(self) -> str: ...
    @property
    def significant(self) -> bool: ...


C = TypeVar("C", bound=Known)


def fate(restart: str, reason: object) -> Fate:
    """What becomes of a child with this restart type that ended with this reason."""
    if restart == "permanent":
        return Fate.RESTART
    if restart == "temporary":
        return Fate.REMOVE
    return Fate.KEEP if is_clean(reason) else Fate.RESTART


def is_reported(restart: str, reason: object) -> bool:
    """Whether this end is worth a report: any of a permanent child, an abnormal one of others."""
    return restart == "permanent" or not is_clean(reason)


def is_expected_in_shutdown(restart: str, shutdown: object, reason: object) -> bool:
    """Whether a child that its supervisor stops may end so without a report."""
    asked_for = "killed" if is_word(shutdown, "brutal_kill") else "shutdown"
    return is_word(reason, asked_for) or (restart != "permanent" and is_clean(reason))


def plan(children: Iterable[C], failed: C, strategy: str) -> tuple[list[C], list[C]]:
    """Whom to stop (the newest first) and whom to start (the oldest first) when ``failed`` failed.

    ``children`` stand in start order. The failed one is not stopped: it has ended. A temporary
    child that is stopped is not started again: whoever carries the plan out forgets it.
    """
    if strategy == "one_for_one":
        return [], [failed]
    affected = list(children)
    if strategy == "rest_for_one":
        place = next(i for i, child in enumerate(affected) if child is failed)
        affected = affected[place:]
    to_stop = [child for child in reversed(affected) if child is not failed]
    return to_stop, [child for child in affected if child.restart != "temporary"]


def shuts_down(auto_shutdown: str, ended: Known, others: Iterable[Known]) -> bool:
    """Whether a child's end that leads to no restart ends its supervisor.

    ``others`` are the children that run, or whose restart is being tried again.
    """
    if auto_shutdown == "never" or not ended.significant:
        return False
    if auto_shutdown == "any_significant":
        return True
    return not any(child.significant for child in others)


class Window:
    """At most ``max_restarts`` restarts in any ``max_seconds`` seconds."""

    __slots__ = ("_restarts", "max_restarts", "max_seconds")

    def __init__(self, max_restarts: int, max_seconds: float) -> None:
        self.max_restarts = max_restarts
        self.max_seconds = max_seconds
        self._restarts: deque[float] = deque()

    def admit(self, now: float) -> bool:
        """Count a restart; False when it is one too many."""
        restarts = self._restarts
        while restarts and now - restarts[0] > self.max_seconds:
            restarts.popleft()
        restarts.append(now)
        return len(restarts) <= self.max_restarts

    def __repr__(self) -> str:
        used = len(self._restarts)
        return f"<Window {used} of {self.max_restarts} restarts in {self.max_seconds:g} s>"
