"""Put Process in the place of ThreadingActor while Pykka's tests run (test_pykka_suite.py)."""

from __future__ import annotations

from typing import Any

import pykka
import pytest

from elsa_actors.runtime.process import Process

FUTURE = type(Process._create_future())

# Pykka's tests take both names from `pykka`: replaced here, before the first of them is imported.
# The future's class too: what `ask` returns must do all that Pykka promises of a future.
pykka.ThreadingActor = Process
pykka.ThreadingFuture = FUTURE

NO_OWN_THREAD = "a process borrows a thread while it has mail: it has no named or daemonic one"
ENDS_ALONE = "waits for 'Stopping all actors'; here a BaseException ends that process alone"

DESELECTED = {
    "test_threading_actor.py::test_actor_thread_is_named_after_pykka_actor_class": NO_OWN_THREAD,
    "test_threading_actor.py::test_actor_thread_is_not_daemonic_by_default": NO_OWN_THREAD,
    "test_threading_actor.py::test_actor_thread_is_daemonic_if_use_daemon_thread_flag_is_set": (
        NO_OWN_THREAD
    ),
    "test_logging.py::test_base_exception_is_logged[threading]": ENDS_ALONE,
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take out the tests of the list; one that Pykka has no longer must leave the list too."""
    out = [item for item in items if item.nodeid.removeprefix("tests/") in DESELECTED]
    if gone := DESELECTED.keys() - {item.nodeid.removeprefix("tests/") for item in out}:
        raise pytest.UsageError(f"no longer in Pykka's suite, take it off the list: {sorted(gone)}")
    config.hook.pytest_deselected(items=out)
    items[:] = [item for item in items if item not in out]


@pytest.fixture(autouse=True)
def _process_is_what_is_tested(request: pytest.FixtureRequest) -> None:
    """A run that tests ThreadingActor after all must not pass."""
    if "runtime" in request.fixturenames:
        runtime: Any = request.getfixturevalue("runtime")
        assert runtime.actor_class is Process
        assert runtime.future_class is FUTURE
