"""The machine's own floor: what no library can be faster than."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

from benchmarks.report import Comparison, Measure, Section, Settings

SWITCHES = "two bare switches"
DEQUE = "bare deque and method call"

_EXCHANGES = 500
_ITEMS = 20_000


@contextmanager
def two_switches() -> Iterator[Measure]:
    """A thread wakes another by an Event and is woken by it: nothing else happens."""
    there, back = threading.Event(), threading.Event()
    over = False

    def answer() -> None:
        while True:
            there.wait()
            there.clear()
            if over:
                return
            back.set()

    def measure() -> float:
        started = perf_counter()
        for _ in range(_EXCHANGES):
            there.set()
            back.wait()
            back.clear()
        return (perf_counter() - started) / _EXCHANGES

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield measure
    finally:
        over = True
        there.set()
        thread.join()


@contextmanager
def one_core() -> Iterator[bool]:
    """Keep all threads of this program on one core; False where the system cannot.

    On several, a woken thread is put now on the same core and now on another, at twice the price;
    two peers are then compared by chance.
    """
    tasks = Path("/proc/self/task")
    if not hasattr(os, "sched_setaffinity") or not tasks.exists():
        yield False
        return
    allowed = os.sched_getaffinity(0)
    try:
        _move(tasks, {max(allowed)})
        yield True
    finally:
        _move(tasks, allowed)


def _move(tasks: Path, cores: set[int]) -> None:
    for task in tasks.iterdir():
        try:
            os.sched_setaffinity(int(task.name), cores)
        except ProcessLookupError:
            pass  # It has ended meanwhile.


class _Handler:
    def handle(self, item: int) -> int:
        return item


def deque_and_call() -> float:
    """One thread puts an item into a deque, takes it out and calls a method with it."""
    items: deque[int] = deque()
    handler = _Handler()
    started = perf_counter()
    for item in range(_ITEMS):
        items.append(item)
        handler.handle(items.popleft())
    return (perf_counter() - started) / _ITEMS


def run(settings: Settings) -> Section:
    with two_switches() as switches:
        found = Comparison({SWITCHES: switches, DEQUE: deque_and_call}, settings.rounds)
    return found.section("The machine's floor", ())
