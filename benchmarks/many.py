"""Start 1,000, 10,000 and 100,000 servers, let them idle, stop them: microseconds and KiB for each.

Every figure is of a process of its own, `python -m benchmarks.many KIND COUNT`, which prints it as
JSON. Memory is what the process has grown by when all are started and idle.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from benchmarks.report import Section, Settings, Target, micros

DEFAULT, OWN, DYNAMIC = "default init", "own init", "under a DynamicSupervisor"
PYKKA, THREAD = "Pykka actor", "bare thread"

_MOST_THREADS = 10_000
"""More threads than this are not tried: systems refuse them."""
_SECONDS = 600.0


# ---- one process: one kind, one count


def measure(kind: str, count: int, traced: bool) -> dict[str, float]:
    """Start, weigh and stop ``count`` servers of this kind in this process."""
    start, stop, signal = KINDS[kind]()
    warm_up = start(10)
    stop(warm_up)
    gc.collect()
    if traced:
        tracemalloc.start()
    before = _memory(traced)
    seconds, servers = _timed(lambda: start(count))
    figures = {"start": seconds / count}
    gc.collect()
    figures["bytes"] = (_memory(traced) - before) / count
    seconds, _ = _timed(lambda: stop(servers))
    figures["stop"] = seconds / count
    if signal is not None and not traced:
        servers = start(count)
        seconds, _ = _timed(lambda: signal(servers))
        figures["exit"] = seconds / count
    return figures


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = perf_counter()
    result = work()
    return perf_counter() - started, result


def _memory(traced: bool) -> float:
    """Bytes: those that Python allocated, or those that the system gave."""
    if traced:
        return tracemalloc.get_traced_memory()[0]
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    shown = subprocess.run(
        ["ps", "-o", "rss=", "-p", str(os.getpid())], check=True, capture_output=True, text=True
    )
    return int(shown.stdout) * 1024


Start = Callable[[int], Any]
Stop = Callable[[Any], None]
Kind = Callable[[], tuple[Start, Stop, Stop | None]]
"""Answers how to start many, how to stop those, and how to end those by exit signals."""


def _linked(own_init: bool) -> tuple[Start, Stop, Stop | None]:
    from elsa_actors import GenServer, Ok, process, stop

    class Server(GenServer):
        pass

    class ServerWithInit(GenServer):
        def init(self, state: Any = None) -> Ok:
            return Ok(state)

    kind = ServerWithInit if own_init else Server
    # Linked to this thread, which stays a process until this program ends.
    _kept.append(attached := process.attach(trap_exit=True))
    me = attached.__enter__()

    def take_exits(refs: Any) -> None:
        for _ in refs:
            me.receive()

    def start_all(count: int) -> Any:
        return [kind.start_link() for _ in range(count)]

    def stop_all(refs: Any) -> None:
        for ref in refs:
            stop(ref)
        take_exits(refs)

    def end_all(refs: Any) -> None:
        for ref in refs:
            process.exit(ref, "shutdown")
        take_exits(refs)

    return start_all, stop_all, end_all


def _dynamic() -> tuple[Start, Stop, Stop | None]:
    from elsa_actors import DynamicSupervisor, GenServer

    class Server(GenServer):
        pass

    supervisors: list[Any] = []

    def start_all(count: int) -> Any:
        supervisors.append(supervisor := DynamicSupervisor.start_link())
        return [DynamicSupervisor.start_child(supervisor, Server) for _ in range(count)]

    def stop_all(refs: Any) -> None:
        DynamicSupervisor.stop(supervisors.pop())

    return start_all, stop_all, None


def _pykka() -> tuple[Start, Stop, Stop | None]:
    # Without elsa_actors, which would give Pykka's registry a faster list.
    import pykka

    class Actor(pykka.ThreadingActor):
        pass

    def start_all(count: int) -> Any:
        return [Actor.start() for _ in range(count)]

    def stop_all(refs: Any) -> None:
        for ref in refs:
            ref.stop()

    return start_all, stop_all, None


def _threads() -> tuple[Start, Stop, Stop | None]:
    def start_all(count: int) -> Any:
        started = []
        for _ in range(count):
            over = threading.Event()
            thread = threading.Thread(target=over.wait)
            thread.start()
            started.append((thread, over))
        return started

    def stop_all(started: Any) -> None:
        for thread, over in started:
            over.set()
            thread.join()

    return start_all, stop_all, None


KINDS: dict[str, Kind] = {
    THREAD: _threads,
    PYKKA: _pykka,
    DEFAULT: lambda: _linked(own_init=False),
    OWN: lambda: _linked(own_init=True),
    DYNAMIC: _dynamic,
}

_kept: list[Any] = []


# ---- all of them, each in a process of its own


def run(settings: Settings) -> Section:
    section = Section(
        "Many idle servers: each one's start, stop, end by an exit signal, and memory",
        (
            "",
            "servers",
            "start us",
            "stop us",
            "exit us",
            "KiB",
            "of it traced",
            "start x",
            "KiB x",
        ),
        [],
        note="start x, KiB x: in Pykka actors. traced: what tracemalloc sees, in a run of its own.",
    )
    medians: dict[tuple[str, int], dict[str, float]] = {}
    for count in settings.sizes:
        kinds = [kind for kind in KINDS if count <= _MOST_THREADS or kind not in (PYKKA, THREAD)]
        found: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
        for _ in range(settings.long_rounds):
            for kind in kinds:
                found[kind].append(_in_a_process_of_its_own(kind, count))
        for kind in kinds:
            figures = {key: median(one[key] for one in found[kind]) for key in found[kind][0]}
            figures["traced"] = _in_a_process_of_its_own(kind, count, "traced")["bytes"]
            medians[kind, count] = figures
            section.rounds = {
                **section.rounds,
                **{f"{kind}, {count}, {key}": [one[key] for one in found[kind]] for key in figures
                   if key != "traced"},
            }  # fmt: skip
            section.rows.append(_row(kind, count, figures, medians.get((PYKKA, count))))
    for kind in (DEFAULT, OWN, DYNAMIC):
        section.targets += _targets(kind, medians, settings.sizes)
    return section


def _in_a_process_of_its_own(kind: str, count: int, *how: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.many", kind, str(count), *how],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=_SECONDS,
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def _row(
    kind: str, count: int, figures: dict[str, float], pykka: dict[str, float] | None
) -> list[str]:
    times = [micros(figures[key]) if key in figures else "" for key in ("start", "stop", "exit")]
    sizes = [f"{figures[key] / 1024:.2f}" for key in ("bytes", "traced")]
    ratios = [
        "" if pykka is None else f"{figures[key] / pykka[key]:.3f}" for key in ("start", "bytes")
    ]
    return [kind, f"{count:,}", *times, *sizes, *ratios]


def _targets(
    kind: str, medians: dict[tuple[str, int], dict[str, float]], sizes: tuple[int, ...]
) -> list[Target]:
    most = sizes[-1]
    figures = medians[kind, most]
    targets = [Target(f"an idle server, {kind}", figures["bytes"] / 1024, 3, unit="KiB")]
    if most == 100_000:
        less = medians[kind, 10_000]
        for key in ("start", "stop"):
            whole = figures[key] * most
            targets += [
                Target(f"{key} of {most:,}, {kind}", whole, 4, unit="s"),
                Target(f"{key} at {most:,} against 10,000, {kind}", figures[key] / less[key], 1.5),
            ]
    return targets


def main(kind: str, count: str, *how: str) -> None:
    if kind not in (PYKKA, THREAD):
        import structlog

        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    print(json.dumps(measure(kind, int(count), traced=bool(how))))


if __name__ == "__main__":
    main(*sys.argv[1:])
