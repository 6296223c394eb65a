"""Decide how long to wait before the next try."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any


class Backoff:
    """Waits that grow from try to try: one object for each child, which remembers its tries.

    The first wait is ``min`` seconds, each further one ``factor`` times as long, up to ``max``.
    To every wait a random share of it is added, at most ``jitter``, so that many children that
    failed together do not all come back together. Raises ValueError for arguments that make no
    such series. ``rng`` draws the randomness, a number from 0 to 1.

        >>> backoff = Backoff(min=1.0, max=5.0, jitter=0.0)
        >>> [backoff.next() for _ in range(4)]
        [1.0, 2.0, 4.0, 5.0]
        >>> backoff
        <Backoff after 4 tries, waits 5 s next>
    """

    __slots__ = ("_rng", "_wait", "factor", "jitter", "max", "min", "tries")

    def __init__(
        self,
        min: float = 0.5,
        max: float = 30.0,
        factor: float = 2.0,
        jitter: float = 0.1,
        *,
        rng: Callable[[], float] = random.random,
    ) -> None:
        _check("min", min, "seconds above 0", lambda seconds: seconds > 0)
        _check("max", max, f"seconds, min ({min!r}) or more", lambda seconds: seconds >= min)
        _check("factor", factor, "a number, 1 or more", lambda number: number >= 1)
        _check("jitter", jitter, "a share from 0 to 1", lambda share: 0 <= share <= 1)
        self.min = min
        self.max = max
        self.factor = factor
        self.jitter = jitter
        self.tries = 0
        self._wait = min
        self._rng = rng

    def next(self) -> float:
        """How many seconds to wait before the next try; it counts as a try."""
        wait = self._wait
        self._wait = wait * self.factor if wait * self.factor < self.max else self.max
        self.tries += 1
        return wait * (1.0 + self.jitter * self._rng())

    def reset(self) -> None:
        """Start over: the next wait is ``min`` again."""
        self.tries = 0
        self._wait = self.min

    def lived(self, seconds: float) -> None:
        """Tell how long the child lived: when longer than ``max``, the waits start over."""
        if seconds > self.max:
            self.reset()

    def __repr__(self) -> str:
        tries = "1 try" if self.tries == 1 else f"{self.tries} tries"
        return f"<Backoff after {tries}, waits {self._wait:g} s next>"


def _check(name: str, value: Any, expected: str, holds: Callable[[float], bool]) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and abs(value) < math.inf and holds(value)):
        raise ValueError(f"expected {name} to be {expected}, got: {value!r}")
