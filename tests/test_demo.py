"""The demo tells the truth: it ends with 0 only when no order was lost."""

from __future__ import annotations

import pytest
import structlog

from elsa_actors import Agent, process
from elsa_actors.__main__ import main
from elsa_actors.demo import run_demo


@pytest.mark.usefixtures("log_events")
def test_the_demo_loses_no_order():
    """Every order is booked although clerks die, and no process is left."""
    lines: list[str] = []
    assert run_demo(lines.append, orders=50) == 0
    story = "\n".join(lines)
    assert "50 of 50 orders booked" in story
    assert "0 lost" in story
    assert "not running (it answered Ignore)" in story
    assert not process.list()


@pytest.mark.usefixtures("log_events")
def test_the_demo_fails_when_an_order_is_lost(monkeypatch: pytest.MonkeyPatch):
    """A ledger that forgets an order must be seen in the exit status."""
    update = Agent.update

    def forgetful(agent, fn, timeout=5.0):
        update(agent, lambda booked: {k: v for k, v in fn(booked).items() if k != 13}, timeout)

    monkeypatch.setattr(Agent, "update", forgetful)
    assert run_demo(lambda line: None, orders=20) == 1


def test_the_command_runs_it(capsys: pytest.CaptureFixture[str]):
    """`elsa-actors demo` is what `make demo` calls."""
    before = structlog.get_config()
    try:
        assert main(["demo"]) == 0
    finally:
        structlog.configure(**before)
    assert "0 lost" in capsys.readouterr().out
