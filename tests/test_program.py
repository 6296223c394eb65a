"""run and `elsa-actors run`: the main thread waits, and every end has its exit code."""

from __future__ import annotations

import doctest
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from elsa_actors import (
    ChildSpecError,
    Continue,
    DynamicSupervisor,
    GenServer,
    Ignore,
    NoReply,
    Ok,
    Reply,
    StartError,
    Stop,
    Supervise,
    Supervisor,
    call,
    process,
    stop,
)
from elsa_actors import program as program_module
from elsa_actors.__main__ import main
from elsa_actors.program import run
from tests.servers import NEVER, WAIT, Child, Doer, Journal

ROOT = Path(__file__).parents[1]
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Acts(GenServer):
    """Does something as soon as it has started: runs a function, or ends with what that answers."""

    def init(self, act: Callable[[], Any], journal: Journal | None = None) -> Any:
        self.trap_exit = True
        self.journal = journal or Journal()
        self.journal("start", "acts")
        return Ok(act, then=Continue())

    def handle_continue(self, argument: Any) -> Any:
        answer = self.state()
        return NoReply() if answer is None else answer

    def terminate(self, reason: Any) -> Any:
        self.journal("term", "acts", reason)


def send(number: int) -> Callable[[], None]:
    """What sends a signal to this program."""
    return lambda: os.kill(os.getpid(), number)


def after(act: Callable[[], Any]) -> Any:
    """A child that starts last and acts on its own, so that the tree stands when it does."""
    return {"id": "acts", "start": (Acts, "start_link", [act]), "restart": "temporary"}


def child(label: str, journal: Journal) -> Any:
    return {"id": label, "start": (Child, "start_link", [label, journal])}


def broken() -> Any:
    raise RuntimeError("broken")


def until(condition: Callable[[], Any]) -> Any:
    """Wait for what tells nobody when it happens."""
    for _ in range(int(WAIT * 100)):
        if value := condition():
            return value
        process.sleep(0.01)
    raise AssertionError("it did not happen")


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture(autouse=True)
def _handlers_are_put_back() -> Iterator[None]:
    """Whatever a test does: run leaves the signal handlers as it found them."""
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    assert [signal.getsignal(number) for number in SIGNALS] == before
    assert signal.set_wakeup_fd(-1) == -1


# ---- signals


@pytest.mark.parametrize("number", SIGNALS)
def test_signal_stops_the_tree_in_order(journal: Journal, log_events: Any, number: Any) -> None:
    """The newest child first, each with its "shutdown"; and that is a clean end."""
    children = [child("a", journal), child("b", journal), after(send(number))]
    assert run(children) == 0
    assert journal.events == [
        ("start", "a"),
        ("start", "b"),
        ("term", "b", "shutdown"),
        ("term", "a", "shutdown"),
    ]
    (event,) = [event for event in log_events if event["event"] == "program_stopping"]
    assert event["signal"] == number.name


def test_signal_that_comes_during_the_start_stops_the_tree_when_it_stands(
    journal: Journal,
) -> None:
    """A supervisor in its start is not interrupted, and the signal is not lost."""

    def init_sends(doer: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)

    first = {"id": "first", "start": (Doer, "start_link", [init_sends])}
    assert run([first, child("a", journal)]) == 0
    assert journal.events == [("start", "a"), ("term", "a", "shutdown")]


def test_signal_handlers_are_put_back_and_replaced_only_meanwhile() -> None:
    """A library that kept the handlers would take Ctrl-C from the rest of the program."""

    def mine(number: int, frame: Any) -> None:
        raise NotImplementedError

    before = signal.signal(signal.SIGTERM, mine)
    seen: list[Any] = []
    try:
        look = after(lambda: seen.append(signal.getsignal(signal.SIGTERM)) or send(2)())
        assert run([look]) == 0
        assert seen != [mine]
        assert signal.getsignal(signal.SIGTERM) is mine
        with pytest.raises(ChildSpecError):
            run([{"id": "no start"}])
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)


def test_stop_that_a_child_spoils_is_still_clean(log_events: Any) -> None:
    """A child that crashes while it is stopped is reported; the tree ended as it was asked to."""

    class Spoiler(GenServer):
        trap_exit = True

        def terminate(self, reason: Any) -> Any:
            raise RuntimeError("spoilt")

    assert run([Spoiler, after(send(signal.SIGTERM))]) == 0
    assert "child_shutdown_error" in [event["event"] for event in log_events]


# ---- ends of its own


def test_tree_that_gives_up_is_a_failure(log_events: Any) -> None:
    """Whoever looks after the program starts it again."""
    assert run([{"id": "b", "start": (Acts, "start_link", [broken])}], max_restarts=2) == 1
    assert "reached_max_restarts" in [event["event"] for event in log_events]


def test_tree_that_is_done_is_a_clean_end(journal: Journal) -> None:
    """A significant child ended on purpose; its supervisor's "shutdown" is no giving up."""
    significant = {
        "id": "job",
        "start": (Acts, "start_link", [lambda: Stop("normal")]),
        "restart": "transient",
        "significant": True,
    }
    assert run([child("a", journal), significant], auto_shutdown="any_significant") == 0
    assert journal.events == [("start", "a"), ("term", "a", "shutdown")]


@pytest.mark.parametrize(
    ("reason", "code"), [("normal", 0), ("shutdown", 0), (("shutdown", "x"), 0), ("boom", 1)]
)
def test_tree_that_somebody_stopped_ends_as_its_reason_says(reason: Any, code: int) -> None:
    """An operator's stop is a clean end, unless it says otherwise."""
    operator = Doer.start()

    def stop_all() -> None:
        process.send(operator, lambda doer: stop("top", reason))

    assert run([after(stop_all)], name="top") == code


def test_killed_tree_is_a_failure() -> None:
    """Nobody means that as an end."""
    assert run([after(lambda: process.exit(process.whereis("top"), "kill"))], name="top") == 1


# ---- what stands at the top


class Shop(Supervisor):
    """A supervisor of the user's."""

    def init(self, act: Any, **flags: Any) -> Any:
        return Supervise([{"id": "acts", "start": (Acts, "start_link", [act])}], **flags)


def test_children_stand_under_a_supervisor_with_name_and_flags() -> None:
    """`run([...], name=..., strategy=...)` is Supervisor.start_link([...], ...) for a program."""
    seen: list[Any] = []

    def look() -> None:
        top = process.whereis("top")
        seen.append(process.info(top)["parent"])
        process.send(
            operator, lambda doer: seen.append(Supervisor.which_children("top")) or send(2)()
        )

    operator = Doer.start()
    assert run([after(look)], name="top", strategy="rest_for_one") == 0
    parent, (info,) = seen
    assert parent is None
    assert info.id == "acts"


def test_single_supervisor_stands_at_the_top_itself() -> None:
    """When it gives up, so does the program: nothing above restarts it."""
    starts = Journal()

    def fail() -> Any:
        starts("try")
        raise RuntimeError("broken")

    assert run(Shop.child_spec(fail, max_restarts=1)) == 1
    assert starts.events == ["try"] * 2


def test_single_supervisor_that_is_done_is_a_clean_end() -> None:
    """Its "shutdown" is told from giving up here, too."""

    def done() -> Any:
        until(lambda: top().ties.watchers)  # Until run waits for the end.
        return Stop("normal")

    def top() -> Any:
        return process.whereis("job")._inbox

    class Job(Supervisor):
        def init(self) -> Any:
            job = after(done) | {"significant": True}
            return Supervise([job], auto_shutdown="any_significant")

    assert run(Job.child_spec(name="job")) == 0


def test_single_supervisor_with_a_name_or_flags_gets_a_supervisor() -> None:
    """Name and flags are for one that run makes."""
    tries = Journal()

    def fail() -> Any:
        tries("try")
        raise RuntimeError("broken")

    assert run((Shop, fail), max_restarts=0) == 1
    assert len(tries.events) == 4


@pytest.mark.parametrize(
    "form", [dict, lambda spec: (Acts, send(signal.SIGTERM)), lambda spec: [spec]]
)
def test_single_child_gets_a_supervisor(form: Any) -> None:
    """In every form of a child: a dictionary, a tuple; a list is a list of children."""
    spec = {"id": "a", "start": (Acts, "start_link", [send(signal.SIGTERM)])}
    assert run(form(spec), name="top") == 0


def test_dynamic_supervisor_may_stand_at_the_top() -> None:
    """It has no children yet; somebody brings them."""
    helper = Doer.start()

    def fill(doer: Any) -> Any:
        top = until(lambda: process.whereis("pool"))
        DynamicSupervisor.start_child(top, after(send(signal.SIGTERM)))

    process.send(helper, fill)
    assert run(DynamicSupervisor.child_spec(name="pool")) == 0


# ---- what does not start


def test_tree_that_does_not_start_says_why(journal: Journal, log_events: Any) -> None:
    """What was started is stopped again, and the exit code says that it failed."""
    bad = {"id": "bad", "start": (Doer, "start_link", [lambda doer: Stop("no_disk")])}
    assert run([child("a", journal), bad]) == 1
    assert journal.events == [("start", "a"), ("term", "a", "shutdown")]
    (event,) = [event for event in log_events if event["event"] == "program_start_failed"]
    assert event["log_level"] == "error"
    assert event["reason"] == ("shutdown", ("failed_to_start_child", "bad", "no_disk"))


def test_name_that_is_taken_is_a_start_that_failed(log_events: Any) -> None:
    """Two trees of one name in one program are a mistake that must be seen."""
    holder = Doer.start(name="top")
    assert run([], name="top") == 1
    assert log_events[-1]["reason"] == ("already_started", holder)


@pytest.mark.parametrize(
    ("children", "reason"),
    [
        ([{"id": "a"}], "missing_start"),
        ([42], ("invalid_child_spec", 42)),
        (42, ("badarg", 42)),
        ({"start": (Doer, "start_link", [])}, "missing_id"),
    ],
)
def test_wrong_children_raise(children: Any, reason: Any) -> None:
    """A mistake in the code is raised where it stands."""
    with pytest.raises(ChildSpecError) as refused:
        run(children)
    assert refused.value.reason == reason


def test_wrong_flag_raises() -> None:
    """The flags are a supervisor's, checked as there."""
    with pytest.raises(ChildSpecError, match="did you mean 'strategy'"):
        run([Doer], stratgy="one_for_all")


def test_top_that_ignores_is_a_clean_end(log_events: Any) -> None:
    """There is nothing to run, and it says so."""

    class Nothing(Supervisor):
        def init(self) -> Any:
            return Ignore()

    assert run(Nothing) == 0
    assert [event["event"] for event in log_events] == ["program_ignored"]


def test_top_that_is_no_process_is_a_start_that_failed(log_events: Any) -> None:
    """A start function at the top answers a ref."""
    assert run({"id": "top", "start": (lambda: 42, []), "type": "supervisor"}) == 1
    assert log_events[-1]["reason"] == ("bad_return_value", 42)


# ---- where it may be called


def test_other_threads_are_refused() -> None:
    """Signals reach the main thread only; a run that never heard of them would never stop."""
    refused: list[BaseException] = []

    def attempt() -> None:
        try:
            run([])
        except RuntimeError as error:
            refused.append(error)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join(WAIT)
    assert "main thread" in str(refused[0])
    assert "Supervisor.start_link" in str(refused[0])


def test_processes_are_refused() -> None:
    """A process that waited for signals would serve nobody; also an attached thread is one."""

    def attempt(doer: Any) -> Any:
        with pytest.raises(RuntimeError, match="this is a process"):
            run([])
        return Reply("refused")

    assert call(Doer.start(), attempt) == "refused"
    with process.attach(), pytest.raises(RuntimeError, match="this is a process"):
        run([])


# ---- whole programs

TILL = """
import os, signal, structlog, subprocess, sys, time
from elsa_actors import *
from elsa_actors.program import run
from elsa_actors.otp.wrapper import Wrapper

def say(*words):
    # In one piece, also when several threads have something to say.
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

class Till(GenServer):
    trap_exit = True

    def init(self, seconds=0.0, opening=0.0):
        say("opening")
        time.sleep(opening)
        say("open")
        return Ok(seconds)

    def terminate(self, reason):
        say("closing", reason)
        time.sleep(self.state)
        say("closed")
"""


# The command line configures its own.
LOGS = """
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
"""


class Running:
    """A program under test: what it says is read line by line; it never outlives its test."""

    def __init__(self, *arguments: str, cwd: Path = ROOT) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said: list[str] = []

    def hears(self, line: str) -> None:
        """Wait until the program says this line."""
        assert self.popen.stdout is not None
        for said in self.popen.stdout:
            self.said.append(said.strip())
            if said.strip() == line:
                return
        raise AssertionError(f"never said {line!r}: {self.said} {self.popen.stderr.read()}")  # type: ignore[union-attr]

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def ends_within(self, seconds: float) -> bool:
        try:
            self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def end(self) -> tuple[int, str, str]:
        """Wait for its end: exit code, what else it said, and its errors."""
        out, err = self.popen.communicate(timeout=WAIT * 4)
        return self.popen.returncode, out, err


@pytest.fixture
def program() -> Iterator[Callable[..., Running]]:
    """Starts programs and ends them after the test."""
    started: list[Running] = []

    def start(*arguments: str, **options: Any) -> Running:
        started.append(Running(*arguments, **options))
        return started[-1]

    yield start
    for one in started:
        one.popen.kill()
        one.popen.communicate()


@pytest.mark.parametrize("number", SIGNALS)
def test_program_ends_with_0_after_a_signal(program: Any, number: int) -> None:
    """The main thread is woken out of its wait, and sys.exit gets a 0."""
    running = program("-c", TILL + LOGS + "sys.exit(run([Till]))")
    running.hears("open")
    running.signal(number)
    code, out, err = running.end()
    assert code == 0, err
    assert out == "closing shutdown\nclosed\n"
    assert "program_stopping" in err
    assert "Traceback" not in err


def test_program_that_gives_up_ends_with_1(program: Any) -> None:
    """And the events have said what happened."""
    code = "class Bad(GenServer):\n  def init(self): return Ok(then=Continue())\n"
    running = program("-c", TILL + LOGS + code + "sys.exit(run([Bad]))")
    code, _, err = running.end()
    assert code == 1
    assert "reached_max_restarts" in err


@pytest.mark.parametrize(("first", "second"), [(2, 2), (15, 15), (2, 15), (15, 2)])
def test_second_signal_ends_the_program_at_once(program: Any, first: int, second: int) -> None:
    """Whoever asks twice does not want to wait for a child; the shell sees 128 + the signal."""
    running = program("-c", TILL + LOGS + "sys.exit(run([(Till, 600.0)], name='shop'))")
    running.hears("open")
    running.signal(first)
    running.hears("closing shutdown")
    running.signal(second)
    code, out, _ = running.end()
    assert code == -second
    assert "closed" not in out


def test_second_signal_ends_a_start_that_hangs(program: Any) -> None:
    """The first waits for the tree to stand; the second waits for nothing."""
    running = program("-c", TILL + LOGS + "sys.exit(run([(Till, 0.0, 600.0)]))")
    running.hears("opening")
    running.signal(signal.SIGTERM)
    assert not running.ends_within(NEVER)
    running.signal(signal.SIGTERM)
    # Two signals that come together may be told to the main thread as one.
    until(lambda: running.ends_within(NEVER) or running.signal(signal.SIGTERM))
    code, _, _ = running.end()
    assert code == -signal.SIGTERM


def test_program_leaves_no_other_program_behind(program: Any) -> None:
    """What a Wrapper runs is stopped with the tree."""
    code = """
class Says(GenServer):
    def init(self): return Ok(then=Continue())
    def handle_continue(self, _):
        say("pid", Wrapper.wrapped("wrapper").pid)
        say("up")

sleeps = [sys.executable, "-c", "import time; time.sleep(600)"]
sys.exit(run([Wrapper.child_spec((subprocess.Popen, [sleeps]), name="wrapper"), Says]))
"""
    running = program("-c", TILL + LOGS + code)
    running.hears("up")
    running.signal(signal.SIGTERM)
    assert running.end()[0] == 0
    word, pid = running.said[-2].split()
    assert word == "pid"
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


# ---- the command line

SHOP = (
    TILL
    + """
children = [Till]
till = {"id": "till", "start": (Till, "start_link", [])}
def make():
    return [Till]
class Shop(Supervisor):
    def init(self):
        return Supervise([Till])
def broken():
    raise RuntimeError("no till today")
empty = []
wrong = [{"id": "till", "strt": (Till, "start_link", [])}]
class Refuses(GenServer):
    def init(self):
        return Stop("no_disk")
refuses = [Refuses]
class trees:
    small = [Till]
"""
)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with a module of the user's, in which commands are run."""
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "faulty.py").write_text("raise RuntimeError('faulty')\n")
    (tmp_path / "needy.py").write_text("import not_installed_here\n")
    return tmp_path


@pytest.mark.parametrize(
    "spec",
    ["shop:children", "shop:till", "shop:make", "shop:Shop", "shop:Till", "shop:trees.small"],
)
def test_command_runs_what_a_module_says(program: Any, shop: Path, spec: str) -> None:
    """A list of children, a child, a function that makes one: until a signal comes."""
    running = program("-m", "elsa_actors", "run", spec, cwd=shop)
    running.hears("open")
    running.signal(signal.SIGTERM)
    code, out, err = running.end()
    assert code == 0, err
    assert out == "closing shutdown\nclosed\n"


def test_command_logs_to_standard_error_for_people(program: Any, shop: Path) -> None:
    """Standard output is the program's own; a pipe gets no colours."""
    running = program("-m", "elsa_actors", "run", "shop:children", cwd=shop)
    running.hears("open")
    running.signal(signal.SIGINT)
    code, out, err = running.end()
    assert code == 0
    assert "program_stopping" in err
    assert "SIGINT" in err
    assert "child_started" not in err  # That is for debugging.
    assert "\x1b" not in err
    assert "program_stopping" not in out


def test_command_can_log_more(program: Any, shop: Path) -> None:
    """Every event is there for who asks."""
    running = program(
        *("-m", "elsa_actors", "run", "shop:children", "--log-level", "debug", "--name", "till"),
        cwd=shop,
    )
    running.hears("open")
    running.signal(signal.SIGTERM)
    code, _, err = running.end()
    assert code == 0
    assert "child_started" in err
    assert "supervisor=till" in err


def test_command_that_cannot_start_its_tree_ends_with_1(program: Any, shop: Path) -> None:
    """Refused: the usage was right."""
    code, _, err = program("-m", "elsa_actors", "run", "shop:refuses", cwd=shop).end()
    assert code == 1
    assert "program_start_failed" in err
    assert "no_disk" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "usage: elsa-actors"),
        (["run"], "SPEC"),
        (["dance"], "invalid choice: 'dance'"),
        (["run", "shop"], "expected SPEC to be like pkg.mod:spec, got: 'shop'"),
        (["run", ":spec"], "expected SPEC to be like pkg.mod:spec"),
        (["run", "nowhere:spec"], "there is no module 'nowhere'"),
        (["run", "shop:nothing"], "shop has no 'nothing'"),
        (["run", "shop:wrong"], "did you mean 'start'"),
        (["run", "faulty:spec"], "RuntimeError: faulty"),
        (["run", "needy:spec"], "No module named 'not_installed_here'"),
        (["run", "shop:broken"], "RuntimeError: no till today"),
        (["run", "shop:broken"], "elsa-actors: error: cannot call 'shop:broken', see above"),
        (["run", "shop:children", "--log-level", "loud"], "invalid choice: 'loud'"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_was_expected(
    program: Any, shop: Path, arguments: list[str], words: str
) -> None:
    """A mistake on the command line is told from a tree that failed."""
    code, out, err = program("-m", "elsa_actors", *arguments, cwd=shop).end()
    assert code == 2
    assert words in err
    assert out == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--help"], "run a supervision tree"), (["run", "--help"], "elsa-actors run shop:spec")],
)
def test_help_has_an_example(capsys: Any, arguments: list[str], words: str) -> None:
    """Help is what people read instead of the documentation."""
    with pytest.raises(SystemExit) as done:
        main(arguments)
    assert done.value.code == 0
    assert words in capsys.readouterr().out


def test_version_is_that_of_the_package(capsys: Any) -> None:
    """The first thing that is asked of whoever reports a fault."""
    with pytest.raises(SystemExit) as done:
        main(["--version"])
    assert done.value.code == 0
    assert capsys.readouterr().out == f"elsa-actors {metadata.version('elsa-actors')}\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("errors", ["", "2>&1"])
def test_command_whose_reader_is_gone_ends_quietly(errors: str, unbuffered: str) -> None:
    """As in `elsa-actors demo | head -1`: who has read enough wants no traceback."""
    command = f"{sys.executable} -m elsa_actors demo --seconds 0.5 {errors} || echo $? >&3"
    ran = subprocess.run(
        ["bash", "-c", f"{{ {command}; }} 3>&2 | head -1"],
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        capture_output=True,
        text=True,
        timeout=WAIT * 8,
    )
    assert len(ran.stdout.splitlines()) == 1
    assert ran.stderr == "141\n"


def test_start_error_has_the_reason_that_the_event_shows() -> None:
    """The same tree, started without run, raises what run reports."""
    bad = {"id": "bad", "start": (Doer, "start_link", [lambda doer: Stop("no_disk")])}
    with pytest.raises(StartError) as failed:
        Supervisor.start_link([bad])
    assert failed.value.reason == ("shutdown", ("failed_to_start_child", "bad", "no_disk"))


def test_examples(log_events: Any) -> None:
    """What the docstrings show is what happens."""
    results = doctest.testmod(program_module, report=False)
    assert results.failed == 0
    assert results.attempted > 0
