"""Whoever is struck while he sends harms nobody else.

Python runs signal handlers on the main thread, between any two steps of the library's code: a
Ctrl-C raises KeyboardInterrupt there. Near the recursion limit any call raises RecursionError. Here
both strike at every line that an operation runs.
"""

from __future__ import annotations

import ast
import linecache
import re
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import elsa_actors
from elsa_actors import (
    CallExit,
    GenServer,
    NoReply,
    Ok,
    Reply,
    Stop,
    Supervisor,
    call,
    cast,
    debug,
    process,
    reply,
    send_request,
    stop,
)
from elsa_actors.runtime.scheduler import scheduler
from tests.servers import WAIT, Doer, Gate

LIBRARY = str(Path(elsa_actors.__file__).parent)
MOST_LINES = 400


class Counter(GenServer):
    """Counts what it was told."""

    def handle_call(self, request: Any, sender: Any) -> Reply:
        return Reply(request)

    def handle_cast(self, request: Any) -> NoReply:
        return NoReply()

    def handle_info(self, message: Any) -> NoReply:
        return NoReply()


class InlineCounter(Counter):
    inline = True


class OwnCounter(Counter):
    dedicated_thread = True


KINDS = [Counter, InlineCounter, OwnCounter]
OPERATIONS: dict[str, Callable[[Any], Any]] = {
    "call": lambda ref: call(ref, 1, WAIT),
    "cast": lambda ref: cast(ref, 1),
    "send": lambda ref: process.send(ref, 1),
    "tell": lambda ref: ref.tell(1),
    "send_request": lambda ref: send_request(ref, 1),
    "exit signal": lambda ref: process.exit(ref, "normal"),
}


def struck_at(
    number: int, operation: Callable[[], Any], on_thread: Callable[..., None] | None = None
) -> bool:
    """Run an operation on a thread; Ctrl-C strikes at the library's line of this number."""
    left = number
    struck = threading.Event()

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal left
        if struck.is_set() or not frame.f_code.co_filename.startswith(LIBRARY):
            return None
        if event == "line" and not bears_no_signal(frame):
            left -= 1
            if left < 0:
                struck.set()
                raise KeyboardInterrupt
        return trace

    def run() -> None:
        sys.settrace(trace)
        try:
            operation()
        except (KeyboardInterrupt, CallExit):  # In a handler it ends the server.
            pass
        finally:
            sys.settrace(None)

    (on_thread or run_on_thread)(run)
    return struck.is_set()


def at_every_line(strike: Callable[[int], bool]) -> None:
    """Strike at the first line, the second and so on, until the operation ends before it."""
    for number in range(MOST_LINES):
        if not strike(number):
            return
    pytest.fail("the operation never came to its end")


def bears_no_signal(frame: Any) -> bool:
    """Whether Python looks for no signal on this line, though a trace function is called there.

    That is between the end of a `with` block and the release of its lock, and before a `try`.
    """
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
    return line.startswith("with ") or line == "try:"


def run_on_thread(run: Callable[[], Any]) -> None:
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(2 * WAIT)
    if thread.is_alive():
        stack = {i: traceback.extract_stack(f)[-3:] for i, f in sys._current_frames().items()}
        pytest.fail(f"what was struck hangs: {stack} {scheduler.lock} {scheduler.watchdog._lock}")


def assert_well(ref: Any) -> None:
    """The server answers at once, and so do others; nobody counts who does not run."""
    began = time.monotonic()
    assert call(ref, "well", WAIT) == "well"
    assert time.monotonic() - began < WAIT / 2
    other = Counter.start()
    assert call(other, "well", WAIT) == "well"
    stop(other)
    deadline = time.monotonic() + WAIT
    while not counts_truly() and time.monotonic() < deadline:
        time.sleep(0.001)
    assert counts_truly()


def counts_truly() -> bool:
    """Nobody runs, nobody is counted as running, and all who are parked can be woken."""
    with scheduler.lock:
        parked = {worker for worker in scheduler.workers if worker.state == "parked"}
        return scheduler.running == 0 and parked == set(scheduler.idle)


@pytest.fixture(autouse=True)
def _tracing_again() -> Iterator[None]:
    """A coverage run traces as well."""
    before = sys.gettrace()
    yield
    sys.settrace(before)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_ctrl_c_at_any_line_of_a_send_loses_nobody(kind, name):
    """Whoever was sent something by a struck thread still answers others."""
    ref = kind.start()

    def strike(number: int) -> bool:
        nonlocal ref
        struck = struck_at(number, lambda: OPERATIONS[name](ref))
        if kind is InlineCounter and not process.is_alive(ref):
            ref = kind.start()  # It struck in the handler: that ends the server.
        assert_well(ref)
        return struck

    at_every_line(strike)
    stop(ref)


def test_ctrl_c_while_a_worker_is_hired_leaves_none_behind_that_counts():
    """The count of those who run stays true: none runs, and none is missed."""
    ref = Counter.start()

    def strike(number: int) -> bool:
        with scheduler.lock:
            idle, scheduler.idle = scheduler.idle, []
            try:
                struck = struck_at(number, lambda: cast(ref, 1), lambda run: run())
            finally:
                scheduler.idle += idle
        assert_well(ref)
        return struck

    at_every_line(strike)
    stop(ref)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_send_near_the_recursion_limit_loses_nobody(kind, name):
    """A RecursionError is a crash like any other: it takes nobody along."""
    ref = kind.start()

    def down(frames: int) -> None:
        if frames:
            down(frames - 1)
        else:
            OPERATIONS[name](ref)

    def run(frames: int) -> None:
        try:
            down(frames)
        except RecursionError:
            failed.append(frames)

    failed: list[int] = []
    for frames in range(sys.getrecursionlimit() - 60, sys.getrecursionlimit()):
        run_on_thread(lambda frames=frames: run(frames))
        assert_well(ref)
    assert 0 < len(failed) < 60
    stop(ref)


def test_a_server_that_recurses_without_end_harms_none_whom_it_asks():
    """It asks at each level, so that the limit strikes anywhere in a call."""
    ref = Counter.start()

    class Walker(GenServer):
        restart = "temporary"

        def handle_cast(self, request: Any) -> NoReply:
            self.pad(request)
            return NoReply()

        def pad(self, frames: int) -> None:
            if frames:
                self.pad(frames - 1)
            else:
                self.walk()

        def walk(self) -> None:
            call(ref, 1)
            self.walk()

    before = len(scheduler.workers)
    for frames in range(16):
        walker = Walker.start()
        cast(walker, frames)
        deadline = time.monotonic() + WAIT
        while walker.is_alive() and time.monotonic() < deadline:
            time.sleep(0.001)
        assert not walker.is_alive()
        assert_well(ref)
    assert len(scheduler.workers) < before + 10
    stop(ref)


@pytest.mark.parametrize("kind", KINDS)
def test_ctrl_c_at_any_line_of_a_stop_leaves_nothing_that_hangs(kind):
    """It is stopped, or it is not and can be stopped."""

    def strike(number: int) -> bool:
        ref = kind.start()
        struck = struck_at(number, lambda: stop(ref, timeout=WAIT))
        process.exit(ref, "kill")
        deadline = time.monotonic() + WAIT
        while process.is_alive(ref) and time.monotonic() < deadline:
            time.sleep(0.001)
        assert not process.is_alive(ref)
        return struck

    at_every_line(strike)


class Watcher(GenServer):
    """Links itself to a process, monitors it, and keeps what it hears."""

    trap_exit = True

    def init(self, watched: Any) -> Ok:
        process.link(watched)
        process.monitor(watched)
        return Ok([])

    def handle_info(self, message: Any) -> NoReply:
        self.state.append(type(message).__name__)
        return NoReply()

    def handle_call(self, request: Any, sender: Any) -> Reply:
        return Reply(request if request == "well" else sorted(self.state))


class Holder(Counter):
    """Answers nobody who asks it to hold, and later whom it is told."""

    def handle_call(self, request: Any, sender: Any) -> Any:
        if request != "hold":
            return Reply(request)
        self.state = sender
        return NoReply()


@pytest.mark.parametrize("kind", [Holder, OwnCounter])
def test_ctrl_c_at_any_line_of_a_kill_leaves_nobody_untold(kind):
    """Who is linked, who watches and who waits for an answer hears of it, once."""

    def strike(number: int) -> bool:
        ref = kind.start(name="struck")
        watcher = Watcher.start(ref)
        held = send_request(ref, "hold")
        struck = struck_at(number, lambda: process.exit(ref, "kill"))
        if process.is_alive(ref):
            process.exit(ref, "kill")
        assert held.wait(WAIT)
        deadline = time.monotonic() + WAIT
        while call(watcher, "heard", WAIT) != ["Down", "Exit"] and time.monotonic() < deadline:
            time.sleep(0.001)
        assert call(watcher, "heard", WAIT) == ["Down", "Exit"]
        assert process.whereis("struck") is None
        assert_well(watcher)
        assert call(watcher, "heard", WAIT) == ["Down", "Exit"]
        stop(watcher)
        return struck

    at_every_line(strike)


def test_ctrl_c_at_any_line_of_a_reply_keeps_nobody_waiting():
    """The answer is there, or it is not and can be given again."""

    def strike(number: int) -> bool:
        ref = Holder.start()
        answers: list[Any] = []
        asker = threading.Thread(target=lambda: answers.append(call(ref, "hold", None)))
        asker.start()
        while (sender := debug.get_state(ref)) is None:
            time.sleep(0.001)
        while sender.slot is None:  # From here on it has to be woken.
            time.sleep(0.001)
        struck = struck_at(number, lambda: reply(sender, "well"))
        if not sender.answers:
            reply(sender, "well")
        asker.join(WAIT)
        assert answers == ["well"]
        stop(ref)
        return struck

    at_every_line(strike)


def test_ctrl_c_at_any_line_of_a_start_leaves_nobody_with_a_name_who_does_not_answer():
    """It was started, or it never lived."""

    def strike(number: int) -> bool:
        struck = struck_at(number, lambda: Counter.start(name="struck"))
        ref = process.whereis("struck")
        if ref is not None:
            assert call(ref, "well", WAIT) == "well"
            stop(ref)
        assert process.whereis("struck") is None
        return struck

    at_every_line(strike)
    assert_well(Counter.start())


def test_ctrl_c_at_any_line_of_an_inline_crash_is_heard_by_the_supervisor(log_events):
    """The main thread runs the server's end, and what follows from it."""

    class Ending(Counter):
        inline = True

        def handle_call(self, request: Any, sender: Any) -> Any:
            return Stop("boom", reply=1) if request == "end" else Reply(request)

    def strike(number: int) -> bool:
        top = Supervisor.start_link([Ending], max_restarts=1000)
        [child] = Supervisor.which_children(top)
        struck = struck_at(number, lambda: call(child.child, "end", WAIT))
        assert_well(top_child := child_of(top))
        assert top_child is child.child or not process.is_alive(child.child)
        Supervisor.stop(top)
        return struck

    def child_of(top: Any) -> Any:
        deadline = time.monotonic() + WAIT
        while time.monotonic() < deadline:
            [child] = Supervisor.which_children(top)
            if child.child not in (None, "restarting") and process.is_alive(child.child):
                return child.child
            time.sleep(0.001)
        pytest.fail("it was not restarted")

    at_every_line(strike)


def test_no_loop_stands_where_a_lock_is_held():
    """CPython 3.13 would leave the lock held when Ctrl-C strikes at the end of the loop."""
    loops = (ast.For, ast.While, ast.ListComp, ast.SetComp, ast.DictComp)
    found = set()
    for path in (*Path(LIBRARY, "runtime").glob("*.py"), *Path(LIBRARY, "otp").glob("*.py")):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef):
                held = [node for node in ast.walk(function) if isinstance(node, ast.With)]
                held = [
                    node
                    for node in held
                    if re.search(r"lock|both\(", " ".join(map(ast.unparse, node.items)))
                ]
                if any(isinstance(node, loops) for block in held for node in ast.walk(block)):
                    found.add(function.name)
    assert found == {"repair", "_relieve"}  # The watchdog's.


def test_whoever_is_struck_first_of_all_is_heard():
    """In a program that has needed no worker yet."""
    code = (
        "from elsa_actors import GenServer, NoReply, Reply, call, cast\n"
        "from elsa_actors.runtime.scheduler import scheduler\n"
        "class Counter(GenServer):\n"
        "    def handle_cast(self, request): return NoReply()\n"
        "    def handle_call(self, request, sender): return Reply(request)\n"
        "ref = Counter.start()\n"
        "assert not scheduler.workers\n"
        "def struck(*_):\n"
        "    del scheduler.start_workers\n"
        "    raise KeyboardInterrupt\n"
        "scheduler.start_workers = struck\n"
        "try:\n"
        "    cast(ref, 1)\n"
        "except KeyboardInterrupt:\n"
        "    print(call(ref, 'well', 10.0))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("well\n", "")


def test_a_traced_call_comes_back_after_a_leftover_was_ended():
    """CPython 3.11 hangs in a debugger while it believes that an exception is on its way."""
    ref = Doer.start()
    gate = Gate()

    cast(ref, lambda server: gate())
    gate.reached()
    process.exit(ref, "kill")
    gate.open()
    deadline = time.monotonic() + WAIT
    while scheduler.watchdog.orphans and time.monotonic() < deadline:
        time.sleep(0.001)

    def run() -> None:
        sys.settrace(lambda *_: None)
        LIBRARY.lower()
        (lambda: None)()
        sys.settrace(None)

    run_on_thread(run)
