"""Tell the time and call back later; the one place that knows the time.

One thread serves all timers; it sleeps until the next one is due, and for ever when there is none.
"""

from __future__ import annotations

import _thread
import heapq
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any

LONGEST_WAIT = threading.TIMEOUT_MAX
"""Centuries, in seconds; whole numbers that no float holds count as this."""


class Timer:
    """A call that is due later; `cancel` takes it back."""

    __slots__ = ("_action", "_clock", "due")

    def __init__(self, clock: Clock, due: float, action: Callable[[], Any]) -> None:
        self.due = due
        self._clock = clock
        self._action: Callable[[], Any] | None = action

    def cancel(self) -> bool:
        """Take the call back: True when it had not been made yet and never will be."""
        return self._clock._cancel(self)

    def __repr__(self) -> str:
        left = self.due - self._clock.now()
        return f"<Timer {'done' if self._action is None else f'due in {left:.3f} s'}>"


class Clock:
    """Monotonic time in seconds, and calls at a later time on the clock's own thread."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.RLock()
        self._heap: list[tuple[float, int, Timer]] = []
        self._serial = itertools.count()
        self._cancelled = 0
        self._alarm = _thread.allocate_lock()
        self._alarm.acquire()
        self._running = False

    now: Callable[[], float] = staticmethod(time.monotonic)
    """Seconds on a clock that never goes back; its zero means nothing."""

    def wall_time(self) -> float:
        """Seconds since the epoch, for people to read; it may jump."""
        return time.time()

    def call_later(
        self, seconds: float, action: Callable[[], Any], kind: type[Timer] = Timer
    ) -> Timer:
        """Call ``action`` on the clock's thread after ``seconds``; it must be quick."""
        timer = kind(self, self.now() + min(seconds, LONGEST_WAIT), action)
        with self._lock:
            heapq.heappush(self._heap, (timer.due, next(self._serial), timer))
            first = self._heap[0][2] is timer
            if not self._running:
                self._running = True
                threading.Thread(target=self._serve, name="elsa-clock", daemon=True).start()
        if first:
            self._ring()
        return timer

    def _cancel(self, timer: Timer) -> bool:
        with self._lock:
            if timer._action is None:
                return False
            timer._action = None
            self._cancelled += 1
            # A cancelled timer stays in the heap until due; sweep when most of the heap is dead.
            if self._cancelled > 64 and self._cancelled * 2 > len(self._heap):
                self._sweep()
            return True

    def _sweep(self) -> None:
        self._heap = [entry for entry in self._heap if entry[2]._action is not None]
        heapq.heapify(self._heap)
        self._cancelled = 0

    def _ring(self) -> None:
        try:
            self._alarm.release()
        except RuntimeError:
            pass  # It is ringing already.

    def _serve(self) -> None:
        while True:
            action = None
            with self._lock:
                wait = -1.0
                if self._heap:
                    due, _, timer = self._heap[0]
                    wait = min(due - self.now(), LONGEST_WAIT)
                    if wait <= 0:
                        heapq.heappop(self._heap)
                        action, timer._action = timer._action, None
                        if action is None:
                            self._cancelled -= 1
                        wait = 0.0
            if wait:
                self._alarm.acquire(True, wait)
            elif action is not None:
                try:
                    action()
                except Exception:
                    logging.getLogger("elsa_actors").exception("a timer's action failed")


clock = Clock()
"""The clock of this program."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=clock._reset)
