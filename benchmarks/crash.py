"""From a request that crashes its server to the first answer of the one started in its place."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from time import perf_counter, sleep
from typing import Any

import pykka

from benchmarks.floor import SWITCHES, one_core, two_switches
from benchmarks.report import Comparison, Measure, Section, Settings, Target
from elsa_actors import CallExit, GenServer, NoProcess, Ok, Reply, Supervisor, call, process

OURS = "supervised server"

_CRASHES = 100
_NAME = "benchmarks.fragile"


class Crash(Exception):
    """What the servers raise; nobody writes it to a log here."""


class Fragile(GenServer):
    def init(self) -> Ok:
        return Ok()

    def handle_call(self, request: Any, sender: Any) -> Reply:
        if request == "crash":
            raise Crash
        return Reply(request)


def crash_and_ask_again() -> None:
    """What a client does: fail with the server, then ask by name until somebody answers."""
    try:
        call(_NAME, "crash")
    except CallExit:
        pass
    while True:
        try:
            call(_NAME, "anybody there?")
            return
        except NoProcess:
            sleep(0)  # Lets another thread run.


def crash_and_ask_the_supervisor(supervisor: Any) -> None:
    """The same without asking in vain: the supervisor answers when it has restarted the server."""
    try:
        call(_NAME, "crash")
    except CallExit:
        pass
    Supervisor.which_children(supervisor)
    call(_NAME, "anybody there?")


@contextmanager
def supervised() -> Iterator[tuple[Measure, Measure]]:
    spec: dict[str, Any] = {"id": "fragile", "start": (Fragile, "start_link", [], {"name": _NAME})}
    supervisor = Supervisor.start_link([spec], max_restarts=1_000_000, max_seconds=1.0)
    try:
        yield (
            crashes(crash_and_ask_again),
            crashes(lambda: crash_and_ask_the_supervisor(supervisor)),
        )
    finally:
        Supervisor.stop(supervisor)


class PykkaFragile(pykka.ThreadingActor):
    """Pykka has no supervisor: the dying actor starts the next one itself."""

    running: Any = None
    started = threading.Event()

    def on_start(self) -> None:
        PykkaFragile.running = self.actor_ref
        self.started.set()

    def on_receive(self, message: Any) -> Any:
        if message == "crash":
            raise Crash
        return message

    def on_failure(self, *error: Any) -> None:
        PykkaFragile.start()


@contextmanager
def pykka_restarting_itself() -> Iterator[Measure]:
    def crash() -> None:
        PykkaFragile.started.clear()
        PykkaFragile.running.tell("crash")
        PykkaFragile.started.wait()
        PykkaFragile.running.ask("anybody there?")

    silent = logging.NullHandler()  # Neither side writes its crashes down.
    logging.getLogger("pykka").addHandler(silent)
    PykkaFragile.started.clear()
    PykkaFragile.start()
    PykkaFragile.started.wait()
    try:
        yield crashes(crash)
    finally:
        PykkaFragile.running.stop()
        logging.getLogger("pykka").removeHandler(silent)


def bare_thread() -> float:
    """A thread that ends is joined, and another one started and waited for."""

    answered = threading.Event()
    thread = threading.Thread(target=answered.set)
    thread.start()

    def crash() -> None:
        nonlocal thread
        thread.join()
        answered.clear()
        thread = threading.Thread(target=answered.set)
        thread.start()
        answered.wait()

    seconds = crashes(crash)()
    thread.join()
    return seconds


def crashes(crash: Callable[[], None]) -> Measure:
    def measure() -> float:
        started = perf_counter()
        for _ in range(_CRASHES):
            crash()
        return (perf_counter() - started) / _CRASHES

    return measure


def run(settings: Settings) -> Section:
    return _compare(settings, "From a crash to an answer", "")


def run_on_one_core(settings: Settings) -> Section | None:
    with one_core() as pinned:
        return _compare(settings, "The same, all on one core", ", one core") if pinned else None


def _compare(settings: Settings, title: str, where: str) -> Section:
    with ExitStack() as stack:
        enter = stack.enter_context
        asking, told = enter(supervised())
        found = Comparison(
            {
                SWITCHES: enter(two_switches()),
                "bare thread, ends and starts": bare_thread,
                "Pykka, restarting itself": enter(pykka_restarting_itself()),
                OURS: asking,
                "supervised server, by its supervisor": told,
            },
            settings.rounds,
        )
        assert process.whereis(_NAME) is not None
    section = found.section(title, (SWITCHES,))
    section.targets = [
        Target(f"crash to answer against {SWITCHES}{where}", found.ratio(OURS, SWITCHES), 6)
    ]
    return section
