"""What all tests share: no process outlives its test."""

from __future__ import annotations

import signal
from collections.abc import Iterator, MutableMapping
from typing import Any

import pykka
import pytest
import structlog.dev
import structlog.testing

from elsa_actors.runtime import process
from elsa_actors.runtime.scheduler import RUNNING, scheduler

# A shell that runs the tests in the background has them, and all they start, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

# As by default, but for the tracebacks: with rich they take a tenth of a second each.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)


@pytest.fixture(autouse=True)
def _no_process_outlives_its_test() -> Iterator[None]:
    yield
    # More than once: a supervisor that is killed after its child may have started that child again.
    for _ in range(10):
        if not (leftover := process.list()):
            break
        for ref in leftover:
            process.exit(ref, "kill")
    else:
        pytest.fail(f"killed ten times and still there: {leftover}")
    pykka.ActorRegistry.stop_all(timeout=5)  # the plain Pykka actors of this test
    with scheduler.lock:  # a scheduler that miscounts is slow, and nothing else shows it
        running = [worker for worker in scheduler.workers if worker.state is RUNNING]
        assert len(running) == scheduler.running


@pytest.fixture(autouse=True)
def _structlog_stays_as_it_is() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture
def me() -> Iterator[Any]:
    """The test's own thread as a process that traps exits: `me.ref`, `me.receive(...)`."""
    with process.attach(trap_exit=True) as me:
        yield me


@pytest.fixture
def log_events() -> Iterator[list[MutableMapping[str, Any]]]:
    """The structlog events of this test, from all threads: `event["event"]` is the name."""
    with structlog.testing.capture_logs() as events:
        yield events
