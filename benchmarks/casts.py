"""Messages that want no answer: many of them, then one call that shows they were handled."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from time import perf_counter
from typing import Any

import pykka

from benchmarks.floor import DEQUE, deque_and_call
from benchmarks.report import Comparison, Measure, Section, Settings, Target
from elsa_actors import GenServer, NoReply, Reply, call, cast, process, stop

PYKKA = "Pykka tell"

_MESSAGES = 10_000


class Counter(GenServer):
    handled = 0

    def handle_cast(self, request: Any) -> None:
        self.handled += 1

    def handle_info(self, message: Any) -> NoReply:
        self.handled += 1
        return NoReply()

    def handle_call(self, request: Any, sender: Any) -> Reply:
        handled, self.handled = self.handled, 0
        return Reply(handled)


class OwnThreadCounter(Counter):
    dedicated_thread = True


class PykkaCounter(pykka.ThreadingActor):
    handled = 0

    def on_receive(self, message: Any) -> int | None:
        if message == "take":
            handled, self.handled = self.handled, 0
            return handled
        self.handled += 1
        return None


@contextmanager
def bare_counter() -> Iterator[Measure]:
    """A thread with a queue."""
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def serve() -> None:
        handled = 0
        while (message := messages.get()) is not None:
            if isinstance(message, queue.SimpleQueue):
                message.put(handled)
                handled = 0
            else:
                handled += 1

    def ask() -> Any:
        answer: queue.SimpleQueue[int] = queue.SimpleQueue()
        messages.put(answer)
        return answer.get()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield throughput(messages.put, ask)
    finally:
        messages.put(None)
        thread.join()


@contextmanager
def pykka_counter() -> Iterator[Measure]:
    ref = PykkaCounter.start()
    try:
        yield throughput(ref.tell, lambda: ref.ask("take"))
    finally:
        ref.stop()


@contextmanager
def counter(kind: type[Counter], send: Any) -> Iterator[Measure]:
    ref = kind.start()
    try:
        yield throughput(partial(send, ref), lambda: call(ref, "take", None))
    finally:
        stop(ref)


def throughput(send: Any, ask: Any) -> Measure:
    """Send many messages and ask once; seconds per message."""

    def measure() -> float:
        started = perf_counter()
        for number in range(_MESSAGES):
            send(number)
        handled = ask()
        seconds = perf_counter() - started
        assert handled == _MESSAGES, f"{handled} of {_MESSAGES} messages were handled"
        return seconds / _MESSAGES

    return measure


def run(settings: Settings) -> Section:
    with ExitStack() as stack:
        enter = stack.enter_context
        found = Comparison(
            {
                DEQUE: deque_and_call,
                "bare thread, a queue": enter(bare_counter()),
                PYKKA: enter(pykka_counter()),
                "pooled cast": enter(counter(Counter, cast)),
                "pooled send": enter(counter(Counter, process.send)),
                "dedicated cast": enter(counter(OwnThreadCounter, cast)),
            },
            settings.rounds,
        )
    section = found.section(f"{_MESSAGES:,} messages, then one call", (DEQUE, PYKKA))
    section.targets = [
        Target(
            "casts in the time of one Pykka tell",
            found.ratio(PYKKA, "pooled cast"),
            5,
            at_most=False,
        )
    ]
    return section
