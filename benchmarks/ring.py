"""A ring of 1,000 that pass a message on: what it costs when every message wakes another."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from time import perf_counter
from typing import Any

import pykka

from benchmarks.floor import DEQUE, SWITCHES, deque_and_call, two_switches
from benchmarks.report import Comparison, Measure, Section, Settings, Target
from elsa_actors import GenServer, Ok, cast, process, stop

PYKKA = "Pykka tell"

_MEMBERS = 1_000
_HOPS = 3 * _MEMBERS


class Member(GenServer):
    """Passes a cast or a message on to the next, until it has made all its hops."""

    def init(self, arrived: threading.Event) -> Ok:
        self.arrived = arrived
        self.next: Any = None
        return Ok()

    def handle_cast(self, left: Any) -> None:
        if not isinstance(left, int):
            self.next = left
        elif left:
            cast(self.next, left - 1)
        else:
            self.arrived.set()

    def handle_info(self, left: int) -> None:
        if left:
            process.send(self.next, left - 1)
        else:
            self.arrived.set()


class PykkaMember(pykka.ThreadingActor):
    def __init__(self, arrived: threading.Event) -> None:
        super().__init__()
        self.arrived = arrived
        self.next: Any = None

    def on_receive(self, left: Any) -> None:
        if not isinstance(left, int):
            self.next = left
        elif left:
            self.next.tell(left - 1)
        else:
            self.arrived.set()


@contextmanager
def servers() -> Iterator[tuple[Measure, Measure]]:
    """A ring of servers; one measure with casts, one with plain messages."""
    arrived = threading.Event()
    members = [Member.start(arrived) for _ in range(_MEMBERS)]
    for member, following in zip(members, [*members[1:], members[0]], strict=True):
        cast(member, following)
    try:
        yield (
            hops(lambda left: cast(members[0], left), arrived),
            hops(lambda left: process.send(members[0], left), arrived),
        )
    finally:
        for member in members:
            stop(member)


@contextmanager
def pykka_actors() -> Iterator[Measure]:
    arrived = threading.Event()
    members = [PykkaMember.start(arrived) for _ in range(_MEMBERS)]
    for member, following in zip(members, [*members[1:], members[0]], strict=True):
        member.tell(following)
    try:
        yield hops(members[0].tell, arrived)
    finally:
        for member in members:
            member.stop()


@contextmanager
def bare_threads() -> Iterator[Measure]:
    arrived = threading.Event()
    queues: list[queue.SimpleQueue[Any]] = [queue.SimpleQueue() for _ in range(_MEMBERS)]

    def serve(mine: queue.SimpleQueue[Any], following: queue.SimpleQueue[Any]) -> None:
        while (left := mine.get()) is not None:
            if left:
                following.put(left - 1)
            else:
                arrived.set()

    threads = [
        threading.Thread(target=serve, args=pair)
        for pair in zip(queues, [*queues[1:], queues[0]], strict=True)
    ]
    for thread in threads:
        thread.start()
    try:
        yield hops(queues[0].put, arrived)
    finally:
        for mine in queues:
            mine.put(None)
        for thread in threads:
            thread.join()


def hops(send: Any, arrived: threading.Event) -> Measure:
    """Send a message that is passed on until its hops are made; seconds per hop."""

    def measure() -> float:
        arrived.clear()
        started = perf_counter()
        send(_HOPS)
        arrived.wait()
        return (perf_counter() - started) / _HOPS

    return measure


def run(settings: Settings) -> Section:
    with ExitStack() as stack:
        enter = stack.enter_context
        casts, sends = enter(servers())
        found = Comparison(
            {
                SWITCHES: enter(two_switches()),
                DEQUE: deque_and_call,
                "bare threads, a queue each": enter(bare_threads()),
                PYKKA: enter(pykka_actors()),
                "pooled cast": casts,
                "pooled send": sends,
            },
            settings.rounds,
        )
    section = found.section(f"A hop in a ring of {_MEMBERS:,}", (DEQUE, PYKKA))
    section.targets = [
        Target(
            "hops in the time of one Pykka hop",
            found.ratio(PYKKA, "pooled cast"),
            10,
            at_most=False,
        )
    ]
    return section
