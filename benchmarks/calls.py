"""A call and its answer: pooled, inline, on a dedicated thread, and four callers at once."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from time import perf_counter
from typing import Any

import pykka

from benchmarks.floor import DEQUE, SWITCHES, deque_and_call, one_core, two_switches
from benchmarks.report import Comparison, Measure, Section, Settings, Target
from elsa_actors import GenServer, Reply, call, stop

PYKKA = "Pykka ask"
BARE = "bare thread, two queues"

_CALLS = 500
_INLINE_CALLS = 5_000
_CALLERS = 4


class Echo(GenServer):
    def handle_call(self, request: Any, sender: Any) -> Reply:
        return Reply(request)


class InlineEcho(Echo):
    inline = True


class OwnThreadEcho(Echo):
    dedicated_thread = True


class Caller(GenServer):
    """Calls another server, as servers do: its own worker is lent out meanwhile."""

    def init(self, server: Any) -> Any:
        self.measure = repeat(lambda: call(server, 1), _CALLS)
        return super().init()

    def handle_call(self, request: Any, sender: Any) -> Reply:
        return Reply(self.measure())


class PykkaEcho(pykka.ThreadingActor):
    def on_receive(self, message: Any) -> Any:
        return message


@contextmanager
def pykka_echo() -> Iterator[Callable[[], Any]]:
    ref = PykkaEcho.start()
    try:
        yield lambda: ref.ask(1)
    finally:
        ref.stop()


@contextmanager
def bare_echo() -> Iterator[Callable[[], Any]]:
    """What one writes without a library: a thread with a queue; each request brings its own."""
    requests: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def serve() -> None:
        while (request := requests.get()) is not None:
            answers, value = request
            answers.put(value)

    def ask() -> Any:
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        requests.put((answers, 1))
        return answers.get()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield ask
    finally:
        requests.put(None)
        thread.join()


@contextmanager
def server(kind: type[Echo]) -> Iterator[Callable[[], Any]]:
    ref = kind.start()
    try:
        yield lambda: call(ref, 1)
    finally:
        stop(ref)


@contextmanager
def between_servers() -> Iterator[Measure]:
    echo = Echo.start()
    caller = Caller.start(echo)
    try:
        yield lambda: float(call(caller, "measure", timeout=None))
    finally:
        stop(caller)
        stop(echo)


def repeat(ask: Callable[[], Any], times: int) -> Measure:
    def measure() -> float:
        started = perf_counter()
        for _ in range(times):
            ask()
        return (perf_counter() - started) / times

    return measure


def together(ask: Callable[[], Any], times: int) -> Measure:
    """Several threads call at the same time; seconds for one of all their calls."""

    def measure() -> float:
        def calls() -> None:
            start.wait()
            for _ in range(times):
                ask()

        start = threading.Barrier(_CALLERS + 1)
        threads = [threading.Thread(target=calls) for _ in range(_CALLERS)]
        for thread in threads:
            thread.start()
        start.wait()
        started = perf_counter()
        for thread in threads:
            thread.join()
        return (perf_counter() - started) / (times * _CALLERS)

    return measure


def run(settings: Settings) -> Section:
    return _compare(settings, "A call and its answer", "")


def run_on_one_core(settings: Settings) -> Section | None:
    with one_core() as pinned:
        return _compare(settings, "The same, all on one core", ", one core") if pinned else None


def _compare(settings: Settings, title: str, where: str) -> Section:
    with ExitStack() as stack:
        enter = stack.enter_context
        found = Comparison(
            {
                SWITCHES: enter(two_switches()),
                DEQUE: deque_and_call,
                BARE: repeat(enter(bare_echo()), _CALLS),
                PYKKA: repeat(enter(pykka_echo()), _CALLS),
                "pooled call": repeat(enter(server(Echo)), _CALLS),
                "pooled call from a server": enter(between_servers()),
                "dedicated call": repeat(enter(server(OwnThreadEcho)), _CALLS),
                "inline call": repeat(enter(server(InlineEcho)), _INLINE_CALLS),
            },
            settings.rounds,
        )
    section = found.section(title, (SWITCHES, PYKKA))
    section.targets = [
        Target(f"{name} against {peer}{where}", found.ratio(name, peer), limit)
        for name, peer, limit in (
            ("pooled call", SWITCHES, 1.4),
            ("pooled call", PYKKA, 1.0),
            ("inline call", PYKKA, 1 / 20),
        )
    ]
    return section


def run_together(settings: Settings) -> Section:
    """The same by four threads at once."""
    with ExitStack() as stack:
        enter = stack.enter_context
        found = Comparison(
            {
                BARE: together(enter(bare_echo()), _CALLS),
                PYKKA: together(enter(pykka_echo()), _CALLS),
                "pooled call": together(enter(server(Echo)), _CALLS),
                "dedicated call": together(enter(server(OwnThreadEcho)), _CALLS),
                "inline call": together(enter(server(InlineEcho)), _CALLS),
            },
            settings.rounds,
        )
    return found.section(f"{_CALLERS} threads call one server", (PYKKA,))
