"""The machine's own floor: what no library can be faster than."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
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
