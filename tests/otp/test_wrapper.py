"""Wrapper: it starts a thing, spaces its failures, stops it, and never leaves it behind."""

from __future__ import annotations

import doctest
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pykka
import pytest

from elsa_actors import (
    AlreadyStarted,
    Backoff,
    CallExit,
    ChildSpecError,
    Down,
    DynamicSupervisor,
    Exit,
    GenServer,
    NoProcess,
    NoReply,
    Ok,
    ProcessExit,
    Reply,
    StartError,
    Stop,
    Supervisor,
    call,
    cast,
    debug,
    process,
    stop,
)
from elsa_actors.otp import wrapper as wrapper_module
from elsa_actors.otp.child_spec import normalise
from elsa_actors.otp.registry import Registry, Via
from elsa_actors.otp.wrapper import Aside, Watcher, Wrapper, _options
from tests.servers import NEVER, WAIT, Child, Doer, Gate, Journal, Oops, exit_of, nothing_comes

LONG = 60.0
"""A delay or a kill_timeout that no test waits for: what happens does not wait for it either."""


class Stubborn(GenServer):
    """Traps exits, and stands at a gate when it is told to end."""

    def init(self, gate: Gate, journal: Journal) -> Any:
        self.trap_exit = True
        self.gate, self.journal = gate, journal
        return Ok()

    def terminate(self, reason: Any) -> Any:
        self.journal("asked", reason)
        self.gate()


class Deaf(GenServer):
    """Traps exits, and takes no notice of any, unless its parent sends it."""

    def init(self, journal: Journal) -> Any:
        self.trap_exit = True
        self.journal = journal
        return Ok()

    def handle_info(self, message: Any) -> Any:
        self.journal("ignored", message.reason)
        return NoReply()


def child(label: Any, journal: Journal, trap: bool = True) -> Any:
    """A start function's tuple for a Child."""
    return (Child, "start_link", [label, journal, trap])


def raise_(error: BaseException) -> Any:
    raise error


def python(code: str, **options: Any) -> Any:
    """A start function's tuple for a Python that runs this code."""
    code = f"import os, signal, sys, time\n{code}"
    return (subprocess.Popen, [[sys.executable, "-c", code]], options)


# These say when they are ready for what comes; `wrapped_popen` listens.
SLEEPS = python("print('up', flush=True); time.sleep(60)", stdout=subprocess.PIPE)
IGNORES_SIGTERM = python(
    "signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)",
    stdout=subprocess.PIPE,
)


def wrapped_popen(wrapper: Any) -> Any:
    """The Popen that runs in this Wrapper, once it says that it is up."""
    popen = Wrapper.wrapped(wrapper)
    with popen.stdout as said:
        assert said.readline() == b"up\n"
    return popen


def is_reaped(popen: Any) -> bool:
    """Whether the system knows this process no more: not even as a zombie."""
    try:
        os.waitid(os.P_PID, popen.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False


def until(condition: Callable[[], Any]) -> Any:
    """Wait for what tells nobody when it happens."""
    deadline = time.monotonic() + WAIT
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)
    return value


def exit_from(me: Any, ref: Any, timeout: float = WAIT) -> Any:
    """The reason of a linked process's end: a link, unlike a monitor, cannot come too late."""
    return me.receive(
        lambda message: isinstance(message, Exit) and message.ref is ref, timeout
    ).reason


def watching(ref: Any) -> Callable[[], Any]:
    """Watch from now on: a function that waits for the end and returns its reason."""
    watch = process.monitor(ref)
    return lambda: (
        process.receive(
            lambda message: isinstance(message, Down) and message.monitor is watch, WAIT
        ).reason
    )


def events(log_events: list[Any], name: str) -> list[Any]:
    return [event for event in log_events if event["event"] == name]


def event_named(log_events: list[Any], name: str) -> Any:
    """The one event of this name, waited for."""
    until(lambda: events(log_events, name))
    (event,) = events(log_events, name)
    return event


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A gate that no callback stands at when the test is over."""
    gate = Gate()
    yield gate
    gate.open()


@pytest.fixture
def registry() -> Any:
    return Registry.start_link(name="things")


# ---- start


def test_start_function_runs_in_the_wrapper(me: Any) -> None:
    """What it starts by start_link is linked to the Wrapper, whose child it is."""
    seen = []
    wrapper = Wrapper.start_link(
        (lambda: seen.append(process.current()) or Child.start_link("a", Journal()), [])
    )
    assert seen == [wrapper]
    inside = Wrapper.wrapped(wrapper)
    assert process.info(inside)["parent"] == wrapper
    assert process.info(wrapper)["trap_exit"] is True


@pytest.mark.parametrize(
    "mfa",
    [
        (Doer, "start_link", []),
        (Doer, "start_link", [], {"label": "doer"}),
        (Doer.start_link, []),
        (Doer.start_link, [], {"label": "doer"}),
        [Doer, "start_link", []],
        ["tests.servers:Doer", "start_link", []],
        ("tests.servers:Doer.start_link", []),
    ],
)
def test_start_function_takes_every_form_of_a_child_specs_start(mfa: Any) -> None:
    """Who can write a child spec can write a Wrapper."""
    wrapper = Wrapper.start_link(mfa)
    assert call(Wrapper.wrapped(wrapper), lambda doer: Reply(doer.label)) == "doer"


def test_wrapper_may_have_a_name(me: Any) -> None:
    """The Wrapper is found by it, not the thing."""
    wrapper = Wrapper.start_link((Doer, "start_link", []), name="wrapper")
    assert process.whereis("wrapper") is wrapper
    with pytest.raises(AlreadyStarted):
        Wrapper.start_link((Doer, "start_link", []), name="wrapper")


def test_failed_start_is_reported_then_holds_the_starter_up_then_fails(
    me: Any, log_events: Any
) -> None:
    """A supervisor must not use its restarts up within a millisecond: a failure takes `delay`."""

    def fail() -> Any:
        raise StartError("no_broker")

    started = time.monotonic()
    with pytest.raises(StartError) as failed:
        Wrapper.start_link((fail, []), delay=0.3)
    assert time.monotonic() - started >= 0.3
    assert failed.value.reason == "no_broker"
    assert nothing_comes()
    (event,) = log_events  # One failure, one report.
    assert event["event"] == "wrapped_start_failed"
    assert event["log_level"] == "error"
    assert (event["reason"], event["delay"]) == ("no_broker", 0.3)


def test_report_of_a_failed_start_comes_before_the_delay(log_events: Any) -> None:
    """An operator who watches a program that hangs must see why it does."""
    starter = Doer.start()
    cast(starter, lambda doer: Wrapper.start_link((raise_, [Oops()]), delay=LONG))
    event_named(log_events, "wrapped_start_failed")


@pytest.mark.parametrize("error", [Oops("x"), SystemExit(3)])
def test_exception_of_a_start_function_is_the_reason_itself(me: Any, error: Any) -> None:
    """The caller can match its type, and look into it."""
    with pytest.raises(StartError) as failed:
        Wrapper.start_link((raise_, [error]), delay=0.0)
    assert failed.value.reason is error
    assert failed.value.__cause__ is error


def test_start_function_that_exits_fails_with_that_reason(me: Any) -> None:
    """exit_self in a start function is a failed start like any other."""
    with pytest.raises(StartError) as failed:
        Wrapper.start_link((process.exit_self, ["away"]), delay=0.0)
    assert failed.value.reason == "away"


def test_child_that_fails_in_its_init_gives_its_reason(me: Any) -> None:
    """`{:error, r}` of the wrapped start_link is `{:error, r}` of the Wrapper's."""
    with pytest.raises(StartError) as failed:
        Wrapper.start_link((Doer, "start_link", [lambda doer: Stop("bad_config")]), delay=0.0)
    assert failed.value.reason == "bad_config"


def test_start_function_that_answers_none_is_ignored(me: Any) -> None:
    """None is OTP's `:ignore`: there is nothing to wrap, and nobody failed."""
    assert Wrapper.start_link((lambda: None, [])) is None
    assert nothing_comes()


def test_start_function_may_answer_a_ref_with_info() -> None:
    """`{:ok, pid, info}` is an answer of every start function."""
    wrapper = Wrapper.start_link((lambda: (Doer.start_link(), "info"), []))
    assert call(Wrapper.wrapped(wrapper), lambda doer: Reply(doer.label)) == "doer"


def test_start_function_that_answers_something_else_fails(me: Any) -> None:
    """What cannot be watched cannot be wrapped; the reason shows it."""
    with pytest.raises(StartError) as failed:
        Wrapper.start_link((lambda: 42, []), delay=0.0)
    assert failed.value.reason == ("bad_return_value", 42)


def test_starter_that_does_not_trap_dies_of_a_failed_start(me: Any) -> None:
    """A Wrapper is started as any server is: a linked starter shares its fate."""
    starter = Doer.start()
    ends = watching(starter)
    cast(starter, lambda doer: Wrapper.start_link((raise_, [StartError("r")]), delay=0.0))
    assert ends() == "r"


def test_failing_starts_leave_the_supervisors_window_alone(journal: Journal) -> None:
    """With the delay between them, failures are never too many for the window."""
    answers = iter([None, Oops(), Oops(), Oops(), Oops(), None])

    def start() -> Any:
        answer = next(answers)
        journal("try")
        if answer is not None:
            raise answer
        return Child.start_link("a", journal)

    sup = Supervisor.start_link(
        [Wrapper.child_spec((start, []), delay=0.15)], max_restarts=1, max_seconds=0.1
    )
    (info,) = Supervisor.which_children(sup)
    cast(Wrapper.wrapped(info.child), ("stop", "lost"))
    until(lambda: journal.events.count(("start", "a")) == 2)
    assert journal.events.count("try") == 6
    assert process.is_alive(sup)


def test_kill_ends_the_wait_after_a_failed_start_at_once(me: Any, log_events: Any) -> None:
    """Whoever waits in the library is killed like anybody else."""
    starter = Doer.start()
    ends = watching(starter)
    cast(starter, lambda doer: Wrapper.start_link((raise_, [Oops()]), delay=LONG, name="waits"))
    event_named(log_events, "wrapped_start_failed")
    process.exit(process.whereis("waits"), "kill")
    assert ends() == "killed"


@pytest.mark.parametrize("reason", ["shutdown", "kill"])
def test_parents_end_ends_the_wait_after_a_failed_start(
    me: Any, log_events: Any, reason: str
) -> None:
    """Nobody waits for the answer any more."""
    starter = Doer.start()
    cast(starter, lambda doer: Wrapper.start_link((raise_, [Oops()]), delay=LONG, name="waits"))
    event_named(log_events, "wrapped_start_failed")
    wrapper = process.whereis("waits")
    ends = watching(wrapper)
    process.exit(starter, reason)
    assert ends() == ("killed" if reason == "kill" else reason)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"mfa": print}, ("invalid_mfa", print)),
        ({"mfa": (Doer, [])}, ("invalid_mfa", (Doer, []))),
        ({"delay": -1}, ("invalid_delay", -1)),
        ({"delay": None}, ("invalid_delay", None)),
        ({"delay": True}, ("invalid_delay", True)),
        ({"delay": float("inf")}, ("invalid_delay", float("inf"))),
        ({"kill_timeout": "5"}, ("invalid_kill_timeout", "5")),
        ({"kill_timeout": None}, ("invalid_kill_timeout", None)),
        ({"stop": "terminate"}, ("invalid_stop", "terminate")),
        ({"register": "things"}, ("invalid_register", "things")),
        ({"register": ("things", [])}, ("invalid_register", ("things", []))),
    ],
)
@pytest.mark.parametrize("function", [Wrapper.start_link, Wrapper.start, Wrapper.child_spec])
def test_wrong_arguments_are_refused_in_the_caller(
    function: Any, arguments: Any, reason: Any
) -> None:
    """They are checked where they are written, and nothing is started."""
    before = process.list()
    with pytest.raises(ChildSpecError) as refused:
        function(**{"mfa": (Doer, "start_link", [])} | arguments)
    assert refused.value.reason == reason
    assert process.list() == before


# ---- the child spec


def test_shutdown_time_of_a_wrapper_is_longer_than_its_kill_timeout() -> None:
    """With both at 5 s the supervisor would kill the Wrapper before that kills its child."""
    mfa = (Doer, "start_link", [])
    assert Wrapper.child_spec(mfa=mfa)["shutdown"] == 6.0
    assert Wrapper.child_spec(mfa=mfa, kill_timeout=20)["shutdown"] == 21
    assert Wrapper.child_spec(mfa, None, 1.0, 2.0)["shutdown"] == 3.0
    assert Wrapper.child_spec(mfa, kill_timeout="infinity")["shutdown"] == "infinity"


@pytest.mark.parametrize(
    ("start", "shutdown"),
    [
        ((Wrapper, "start_link", [(print, [])]), 6.0),
        ((Wrapper, "start_link", [], {"mfa": (print, []), "kill_timeout": 9.0}), 10.0),
        ((Wrapper, "start_link", [(print, []), None, 5.0, 9.0]), 10.0),
        ((Wrapper, "start", [(print, []), None, 5.0, 9.0]), 10.0),
        ((Wrapper.start_link, [(print, [])], {"kill_timeout": 9.0}), 10.0),
        (["elsa_actors.otp.wrapper:Wrapper", "start_link", [], {"kill_timeout": 9.0}], 10.0),
    ],
)
def test_shutdown_time_is_right_in_a_bare_dictionary_too(start: Any, shutdown: float) -> None:
    """Specs are written by hand, and nobody remembers this rule."""
    assert normalise({"id": "w", "start": start}).shutdown == shutdown
    assert normalise({"id": "w", "start": start, "shutdown": 1.0}).shutdown == 1.0


def test_subclass_may_set_its_own_shutdown_time_and_arguments() -> None:
    """The fourth argument of another start_link is no kill_timeout."""

    class Patient(Wrapper):
        shutdown = 30.0

    class Other(Wrapper):
        @classmethod
        def start_link(cls, *args: Any) -> Any:  # type: ignore[override]
            raise NotImplementedError

    assert Patient.child_spec((print, []))["shutdown"] == 30.0
    assert Other.child_spec(1, 2, 3, 400)["shutdown"] == 6.0


def test_child_spec_takes_no_unknown_argument() -> None:
    """A typo in a spec must not be silent until its child is started."""
    with pytest.raises(TypeError, match="dealy"):
        Wrapper.child_spec((print, []), dealy=1.0)


# ---- the thing ends


@pytest.mark.parametrize("reason", ["normal", "shutdown", ("shutdown", 1), "lost", ("a", [1])])
def test_wrapper_ends_with_the_reason_of_what_it_wraps(
    me: Any, journal: Journal, reason: Any
) -> None:
    """Its supervisor decides by that reason as if there were no Wrapper, "normal" included."""
    wrapper = Wrapper.start_link(child("a", journal), delay=0.0)
    cast(Wrapper.wrapped(wrapper), ("stop", reason))
    assert exit_from(me, wrapper) == reason


def test_wrapper_ends_with_the_very_exception_of_what_it_wraps(
    me: Any, journal: Journal, log_events: Any
) -> None:
    """One crash, one report: the child's own; the Wrapper only says what it does next."""
    wrapper = Wrapper.start_link(child("a", journal), delay=0.0)
    inside = Wrapper.wrapped(wrapper)
    cast(inside, "raise")
    reason = exit_from(me, wrapper)
    assert type(reason) is Oops
    (crash,) = events(log_events, "process_crashed")
    assert crash["reason"] is reason
    assert crash["module"] == "Child"
    (event,) = events(log_events, "wrapped_terminated")
    assert event["reason"] is reason


def test_killed_child_gives_killed(me: Any, journal: Journal) -> None:
    """A kill arrives everywhere else as "killed"."""
    wrapper = Wrapper.start_link(child("a", journal), delay=0.0)
    process.exit(Wrapper.wrapped(wrapper), "kill")
    assert exit_from(me, wrapper) == "killed"


@pytest.mark.parametrize("age", [0.0, 0.2, 0.6])
def test_end_is_delayed_by_what_is_missing_from_the_delay(
    me: Any, journal: Journal, log_events: Any, age: float
) -> None:
    """As the original was measured: 504, 299 and 2 ms for ages 0, 200 and 600 with delay 500."""
    started = time.monotonic()
    wrapper = Wrapper.start_link(child("a", journal), delay=0.5)
    process.sleep(age)
    before = time.monotonic()
    cast(Wrapper.wrapped(wrapper), ("stop", "lost"))
    assert exit_from(me, wrapper) == "lost"
    ended = time.monotonic()
    event = event_named(log_events, "wrapped_terminated")
    assert event["lifetime"] >= age
    assert event["delay"] == pytest.approx(max(0.5 - event["lifetime"], 0.0))
    assert ended - before >= event["delay"]
    assert ended - started >= 0.5


def test_delay_after_a_life() -> None:
    """Failures are that far apart, however long each life was."""
    options = _options((print, []), delay=0.5)
    ages = (0.0, 0.125, 0.5, 9.0)
    assert [options.delay_after(age) for age in ages] == [0.5, 0.375, 0.0, 0.0]


def test_backoff_grows_from_try_to_try_and_starts_over_after_a_long_life() -> None:
    """One object for each child: it stands in the spec and remembers its tries."""
    options = _options((print, []), delay=Backoff(1.0, 8.0, 2.0, 0.0))
    ages = (0.0, 0.5, 0.0, 7.0, 8.0, 8.5, 0.0)
    assert [options.delay_after(age) for age in ages] == [1.0, 1.5, 4.0, 1.0, 0.0, 0.0, 2.0]


def test_backoff_of_a_spec_remembers_across_restarts(journal: Journal, log_events: Any) -> None:
    """A restarted Wrapper goes on where its predecessor was, by failed starts and by deaths."""
    backoff = Backoff(0.01, 10.0, 2.0, 0.0)
    answers = iter(["child", "fail", "fail", "child"])

    def start() -> Any:
        if next(answers) == "fail":
            raise Oops
        return Child.start_link("a", journal)

    sup = Supervisor.start_link([Wrapper.child_spec((start, []), delay=backoff)], max_restarts=9)
    (info,) = Supervisor.which_children(sup)
    process.exit(Wrapper.wrapped(info.child), "kill")
    until(lambda: journal.events.count(("start", "a")) == 2)
    assert backoff.tries == 3
    assert [event["delay"] for event in events(log_events, "wrapped_start_failed")] == [0.02, 0.04]


def test_delay_yields_at_once_to_a_shutdown(journal: Journal, log_events: Any) -> None:
    """A tree whose broker is gone can be stopped; its supervisor finds nothing odd about it."""
    spec = Wrapper.child_spec(child("a", journal), delay=LONG)
    sup = Supervisor.start_link([spec])
    (info,) = Supervisor.which_children(sup)
    cast(Wrapper.wrapped(info.child), ("stop", "lost"))
    event_named(log_events, "wrapped_terminated")
    Supervisor.terminate_child(sup, "Wrapper")
    assert not process.is_alive(info.child)
    assert events(log_events, "child_shutdown_error") == []
    assert events(log_events, "process_crashed") == [
        event for event in log_events if event.get("module") == "Child"
    ]


def test_delay_yields_to_the_parents_end_whatever_it_is(
    me: Any, log_events: Any, journal: Journal
) -> None:
    """Who waits for nobody need not wait."""
    parent = Doer.start()
    wrapper = call(parent, lambda doer: Reply(Wrapper.start_link(child("a", journal), delay=LONG)))
    process.exit(Wrapper.wrapped(wrapper), "kill")
    event_named(log_events, "wrapped_terminated")
    ends = watching(wrapper)
    process.exit(parent, "boom")
    assert ends() == "boom"


def test_wrapper_can_be_stopped_and_looked_into_during_the_delay(
    me: Any, journal: Journal, log_events: Any
) -> None:
    """It waits for a message, not in a callback."""
    wrapper = Wrapper.start_link(child("a", journal), delay=LONG)
    process.exit(Wrapper.wrapped(wrapper), "kill")
    event_named(log_events, "wrapped_terminated")
    assert Wrapper.wrapped(wrapper) is None
    stop(wrapper)
    assert exit_from(me, wrapper) == "normal"


def test_thing_that_was_dead_before_the_wrapper_saw_it_gives_its_own_reason(me: Any) -> None:
    """Its link and its monitor come too late, and still the reason is not "noproc"."""

    def start() -> Any:
        ref = Doer.start()
        process.exit(ref, "early")
        return ref

    assert exit_from(me, Wrapper.start_link((start, []), delay=0.05)) == "early"


def test_thing_that_dies_at_once_after_its_start(me: Any) -> None:
    """That is a start that succeeded, and a life of no time."""
    mfa = (
        Doer,
        "start_link",
        [lambda doer: cast(process.current(), lambda doer: Stop("short")) or Ok()],
    )
    assert exit_from(me, Wrapper.start_link(mfa, delay=0.05)) == "short"


def test_child_that_unlinks_itself_is_still_watched(me: Any) -> None:
    """Nothing ends silently: the Wrapper monitors what it wraps."""
    wrapper = Wrapper.start_link((Doer, "start_link", []), delay=0.0)
    inside = Wrapper.wrapped(wrapper)
    call(inside, lambda doer: process.unlink(wrapper))
    cast(inside, lambda doer: Stop("quiet"))
    assert exit_from(me, wrapper) == "quiet"


def test_exit_signal_of_a_living_child_is_no_end(me: Any) -> None:
    """A Wrapper that took the signal for the end would start a second client beside the first."""
    wrapper = Wrapper.start_link((Doer, "start_link", []), delay=0.0)
    inside = Wrapper.wrapped(wrapper)
    call(inside, lambda doer: process.exit(wrapper, "boo"))
    assert Wrapper.wrapped(wrapper) is inside


# ---- other messages


def test_ends_that_a_wrapper_knows_of_are_no_unexpected_messages(
    me: Any, journal: Journal, registry: Any, log_events: Any
) -> None:
    """Links and monitors tell the same twice; a log that showed that would hide what counts."""
    options = {"register": ("things", "k"), "delay": LONG}
    inside = Wrapper.wrapped(first := Wrapper.start_link(child("a", journal), **options))
    process.exit(inside, "kill")
    until(lambda: Wrapper.wrapped(first) is None)
    second = Wrapper.start_link((threading.Thread, [], {"target": int}), **options)
    until(lambda: Wrapper.wrapped(second) is None)
    third = Wrapper.start_link(
        (threading.Thread, [], {"target": time.sleep, "args": (0.01,)}), **options
    )
    process.exit(registry, "kill")
    until(lambda: Wrapper.wrapped(third) is None)
    assert events(log_events, "unexpected_message") == []


def test_other_messages_are_logged_and_ignored(me: Any, journal: Journal, log_events: Any) -> None:
    """As in the original, an exit signal of a stranger is one of them, "shutdown" included."""
    wrapper = Wrapper.start_link(child("a", journal))
    inside = Wrapper.wrapped(wrapper)
    stranger = Doer.start()
    process.send(wrapper, "hello")
    process.send(wrapper, None)
    cast(wrapper, "do")
    call(stranger, lambda doer: process.exit(wrapper, "shutdown"))
    assert Wrapper.wrapped(wrapper) is inside
    logged = [event["message"] for event in events(log_events, "unexpected_message")]
    assert logged == ["'hello'", "None", "'do'", repr(Exit(stranger, "shutdown"))]


def test_unknown_call_fails_its_caller_alone(me: Any, journal: Journal, log_events: Any) -> None:
    """A wrong question must not cost the connection that is wrapped."""
    wrapper = Wrapper.start_link(child("a", journal))
    with pytest.raises(CallExit) as failed:
        call(wrapper, "what")
    assert failed.value.reason == ("unknown_request", "what")
    assert Wrapper.wrapped(wrapper) is not None


# ---- stop


@pytest.mark.parametrize("reason", ["normal", "shutdown", ("shutdown", 1), "boom"])
def test_reason_of_a_stop_is_passed_on(me: Any, journal: Journal, reason: Any) -> None:
    """The child ends as it would without a Wrapper, and before the Wrapper does."""
    wrapper = Wrapper.start_link(child("a", journal))
    inside = Wrapper.wrapped(wrapper)
    stop(wrapper, reason)
    assert journal.events == [("start", "a"), ("term", "a", reason)]
    assert not process.is_alive(inside)


@pytest.mark.parametrize("reason", ["normal", "shutdown", "boom"])
def test_child_that_does_not_trap_ends_at_once(me: Any, journal: Journal, reason: Any) -> None:
    """ "normal" would end nobody who does not trap; it would be waited for, then killed."""
    wrapper = Wrapper.start_link(child("a", journal, trap=False), kill_timeout=LONG)
    ends = watching(Wrapper.wrapped(wrapper))
    stop(wrapper, reason)
    assert ends() == ("shutdown" if reason == "normal" else reason)


def test_kill_as_a_reason_leaves_the_child_its_time(me: Any, journal: Journal) -> None:
    """A parent that ended itself with "kill" passes a reason on, and no signal."""
    parent = Doer.start()
    call(parent, lambda doer: Reply(Wrapper.start_link(child("a", journal), kill_timeout=LONG)))
    cast(parent, lambda doer: process.exit_self("kill"))
    journal.wait_for("term", "a", "killed")


def test_stubborn_child_is_killed_after_kill_timeout(
    me: Any, gate: Gate, journal: Journal, log_events: Any
) -> None:
    """It had its time, and not a second stop waits for it."""
    wrapper = Wrapper.start_link((Stubborn, "start_link", [gate, journal]), kill_timeout=0.2)
    inside = Wrapper.wrapped(wrapper)
    ends = watching(inside)
    started = time.monotonic()
    stop(wrapper, "shutdown")
    assert time.monotonic() - started >= 0.2
    assert journal.events == [("asked", "shutdown")]
    assert not process.is_alive(inside)
    assert ends() == "killed"
    assert event_named(log_events, "wrapped_stop_timeout")["kill_timeout"] == 0.2


def test_stubborn_child_never_leaks_under_a_supervisor(
    gate: Gate, journal: Journal, log_events: Any
) -> None:
    """The original's leaked: supervisor and Wrapper both gave up after 5 s."""
    spec = {
        "id": "w",
        "start": (Wrapper, "start_link", [(Stubborn, "start_link", [gate, journal])],
                  {"kill_timeout": 0.2}),
    }  # fmt: skip
    sup = Supervisor.start_link([spec])
    (info,) = Supervisor.which_children(sup)
    inside = Wrapper.wrapped(info.child)
    Supervisor.stop(sup)
    assert not process.is_alive(inside)
    assert events(log_events, "child_shutdown_error") == []


def test_child_that_crashes_while_it_is_stopped(me: Any, log_events: Any) -> None:
    """It is gone, which is all that was asked for: the Wrapper ends with its own reason."""

    class Clumsy(GenServer):
        trap_exit = True

        def terminate(self, reason: Any) -> Any:
            raise Oops

    wrapper = Wrapper.start_link((Clumsy, "start_link", []), delay=LONG, kill_timeout=LONG)
    stop(wrapper, "shutdown")
    (crash,) = events(log_events, "process_crashed")
    assert crash["module"].endswith("Clumsy")


def test_child_that_ends_of_itself_while_it_is_stopped(me: Any, gate: Gate) -> None:
    """Its end is taken for the answer, whichever comes first."""
    wrapper = Wrapper.start_link(
        (
            Doer,
            "start_link",
            [lambda doer: process.send(process.current(), lambda d: gate() or Stop("own"))],
            {"trap": True},
        ),
        delay=LONG,
        kill_timeout=LONG,
    )
    gate.reached()
    ends = watching(wrapper)
    stopper = Doer.start()
    cast(stopper, lambda doer: stop(wrapper, "shutdown"))
    until(lambda: process.info(wrapper)["status"] == "waiting")
    gate.open()
    assert ends() == "shutdown"


def test_child_that_ended_while_the_wrapper_was_suspended(me: Any, journal: Journal) -> None:
    """A suspended server keeps its messages for later, and a stop does not wait for them."""
    wrapper = Wrapper.start_link(child("a", journal), delay=LONG, kill_timeout=LONG)
    inside = Wrapper.wrapped(wrapper)
    debug.suspend(wrapper)
    process.exit(inside, "kill")
    until(lambda: process.info(wrapper)["message_queue_len"] > 0)
    stop(wrapper)
    assert exit_from(me, wrapper) == "normal"


# ---- kill


def test_killed_wrapper_takes_its_child_along(me: Any, journal: Journal) -> None:
    """A child that traps exits closes in order; one that does not is dead at once."""
    for trap in (True, False):
        wrapper = Wrapper.start_link(child(trap, journal, trap), kill_timeout=LONG)
        inside = Wrapper.wrapped(wrapper)
        ends = watching(inside)
        process.exit(wrapper, "kill")
        if not trap:
            assert not process.is_alive(inside)
        assert ends() == "killed"
    assert journal.events == [("start", True), ("term", True, "killed"), ("start", False)]


def test_killed_wrapper_takes_a_stubborn_child_along(me: Any, gate: Gate, journal: Journal) -> None:
    """The original's lived on, an orphan; here it has `kill_timeout`."""
    wrapper = Wrapper.start_link((Stubborn, "start_link", [gate, journal]), kill_timeout=0.1)
    inside = Wrapper.wrapped(wrapper)
    ends = watching(inside)
    process.exit(wrapper, "kill")
    assert ends() == "killed"
    assert journal.events == [("asked", "killed")]


def test_killed_wrapper_takes_along_who_is_not_its_child(me: Any, journal: Journal) -> None:
    """One that traps exits and has another parent takes no notice of them."""
    wrapper = Wrapper.start_link((Deaf, "start", [journal]), kill_timeout=0.1)
    inside = Wrapper.wrapped(wrapper)
    ends = watching(inside)
    process.exit(wrapper, "kill")
    assert ends() == "killed"
    assert journal.events == [("ignored", "killed")]


def test_wrapper_that_is_killed_while_it_stops_kills_at_once(
    me: Any, gate: Gate, journal: Journal
) -> None:
    """Its supervisor's patience is over, and the child's with it."""
    wrapper = Wrapper.start_link((Stubborn, "start_link", [gate, journal]), kill_timeout=LONG)
    inside = Wrapper.wrapped(wrapper)
    stopper = Doer.start()
    cast(stopper, lambda doer: stop(wrapper, "shutdown"))
    gate.reached()
    ends = watching(inside)
    process.exit(wrapper, "kill")
    assert ends() == "killed"


def test_killed_during_the_delay(me: Any, journal: Journal, log_events: Any) -> None:
    """There is nothing to take along."""
    wrapper = Wrapper.start_link(child("a", journal), delay=LONG)
    process.exit(Wrapper.wrapped(wrapper), "kill")
    event_named(log_events, "wrapped_terminated")
    process.exit(wrapper, "kill")
    assert me.receive(Exit, WAIT) == Exit(wrapper, "killed")


def test_killed_wrapper_starts_no_thread(gate: Gate) -> None:
    """What was only made, and not started, needs nobody to end it."""
    made: list[threading.Thread] = []

    def make() -> Any:
        gate()
        made.append(threading.Thread(target=gate))
        return made[0]

    starter = Doer.start()
    cast(starter, lambda doer: Wrapper.start_link((make, []), name="w"))
    gate.reached()
    wrapper = process.whereis("w")
    process.exit(wrapper, "kill")
    gate.open()
    until(lambda: made and wrapper._inbox.process is None)  # Its leftover has ended.
    assert made[0].ident is None


@pytest.mark.parametrize("kind", ["process", "os process"])
def test_killed_while_it_starts(me: Any, gate: Gate, kind: str) -> None:
    """What a start function brings when its Wrapper is dead already is ended too."""
    started: list[Any] = []

    def start() -> Any:
        gate()
        if kind == "process":
            # The library refuses what the dead ask for; a ref of another's is brought all the same.
            started.append(ready)
        else:
            started.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]))
        return started[0]

    ready = Deaf.start(Journal())
    starter = Doer.start()
    ends, ready_ends = watching(starter), watching(ready)
    cast(starter, lambda doer: Wrapper.start_link((start, []), name="w", kill_timeout=0.0))
    gate.reached()
    process.exit(process.whereis("w"), "kill")
    assert ends() == "killed"
    gate.open()
    thing = until(lambda: started)[0]
    if kind == "process":
        assert ready_ends() == "killed"
    else:
        assert until(lambda: thing.returncode) == -signal.SIGKILL


class SlowNames:
    """An object with a registry's four functions, which holds whoever registers at a gate."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    def whereis_name(self, key: Any) -> Any:
        return None

    def register_name(self, key: Any, ref: Any) -> bool:
        self.gate()
        return True

    def unregister_name(self, key: Any) -> None:
        raise NotImplementedError

    def send(self, key: Any, message: Any) -> None:
        raise NotImplementedError


def test_killed_while_it_registers(me: Any, gate: Gate, journal: Journal) -> None:
    """Between start and registration the thing is owned already."""
    starter = Doer.start()
    options = {"register": Via(SlowNames(gate), "k"), "name": "w", "kill_timeout": 0.0}
    mfa = (lambda: journal("thing", ref := Deaf.start(journal)) or ref, [])
    cast(starter, lambda doer: Wrapper.start_link(mfa, **options))
    gate.reached()
    inside = journal.events[0][1]
    ends = watching(inside)
    process.exit(process.whereis("w"), "kill")
    gate.open()
    assert ends() == "killed"


# ---- the registry


def test_what_was_started_is_registered_under_its_key(me: Any, registry: Any) -> None:
    """Others find the connection by its key, whatever process it is at the moment."""
    wrapper = Wrapper.start_link((Doer, "start_link", []), register=("things", ("client", 1)))
    inside = Wrapper.wrapped(wrapper)
    assert Registry.whereis_name(("things", ("client", 1))) is inside
    assert call(Via("things", ("client", 1)), lambda doer: Reply(doer.label)) == "doer"
    stop(wrapper)
    assert Registry.whereis_name(("things", ("client", 1))) is None


@pytest.mark.parametrize("register", [["things", "k"], Via("things", "k")])
def test_key_may_be_a_list_or_a_via(me: Any, registry: Any, register: Any) -> None:
    """Specs stand in JSON, too, and a Via is how a key is written elsewhere."""
    wrapper = Wrapper.start_link((Doer, "start_link", []), register=register)
    assert Registry.whereis_name(("things", "k")) is Wrapper.wrapped(wrapper)


def test_key_that_is_taken_stops_the_thing_at_once(
    me: Any, journal: Journal, registry: Any, log_events: Any
) -> None:
    """A second start is refused by its key; no delay would change that, and nobody crashed."""
    first = Wrapper.start_link(child("first", journal), register=("things", "k"))
    with pytest.raises(AlreadyStarted) as refused:
        Wrapper.start_link(child("second", journal), register=("things", "k"), delay=LONG)
    assert refused.value.ref is Wrapper.wrapped(first)
    assert journal.events == [
        ("start", "first"), ("start", "second"), ("term", "second", "shutdown")
    ]  # fmt: skip
    assert nothing_comes()
    assert log_events == []


def test_key_that_is_taken_harms_no_starter(journal: Journal, registry: Any) -> None:
    """AlreadyStarted is an answer, also for a process that does not trap exits."""
    Wrapper.start_link(child("first", journal), register=("things", "k"))
    starter = Doer.start()

    def attempt(doer: Any) -> Any:
        with pytest.raises(AlreadyStarted):
            Wrapper.start_link(child("second", journal), register=("things", "k"))
        return Reply("alive")

    assert call(starter, attempt) == "alive"
    assert call(starter, lambda doer: Reply("alive")) == "alive"


def test_name_of_the_thing_that_is_taken_is_a_failed_start(me: Any, log_events: Any) -> None:
    """It holds its starter up for the delay, as any other: a supervisor is not to spin."""
    holder = Doer.start(name="taken")
    began = time.monotonic()
    with pytest.raises(AlreadyStarted) as refused:
        Wrapper.start_link((Doer, "start_link", [], {"name": "taken"}), delay=0.2)
    assert time.monotonic() - began >= 0.2
    assert refused.value.ref is holder
    [failed] = events(log_events, "wrapped_start_failed")
    assert failed["delay"] == 0.2


def test_name_of_the_thing_that_is_taken_harms_no_starter(log_events: Any) -> None:
    """AlreadyStarted is an answer, also for a process that does not trap exits. NAME-03."""
    holder = Doer.start(name="taken")
    starter = Doer.start()

    def attempt(doer: Any) -> Any:
        with pytest.raises(AlreadyStarted) as refused:
            Wrapper.start_link((Doer, "start_link", [], {"name": "taken"}), delay=0.0)
        return Reply(refused.value.ref)

    assert call(starter, attempt) is holder
    assert call(starter, lambda doer: Reply("alive")) == "alive"


def test_dynamic_supervisor_passes_already_started_on(journal: Journal, registry: Any) -> None:
    """The one who starts a second producer learns who the first is, and waits for nothing."""
    sup = DynamicSupervisor.start_link()
    spec = Wrapper.child_spec(child("a", journal), register=("things", "k"), delay=LONG)
    first = DynamicSupervisor.start_child(sup, spec)
    with pytest.raises(AlreadyStarted) as refused:
        DynamicSupervisor.start_child(sup, spec)
    assert refused.value.ref is Wrapper.wrapped(first)


def test_thing_that_has_registered_itself_is_content(me: Any, registry: Any) -> None:
    """The key is held by whom it is meant for."""
    mfa = (Doer, "start_link", [], {"name": Via("things", "k")})
    wrapper = Wrapper.start_link(mfa, register=("things", "k"))
    assert Registry.whereis_name(("things", "k")) is Wrapper.wrapped(wrapper)


@pytest.mark.parametrize("taken", ["key", "name"])
def test_successor_of_a_killed_wrapper_waits_for_the_old_child(
    gate: Gate, journal: Journal, registry: Any, log_events: Any, taken: str
) -> None:
    """The old connection still closes; two at a time would fight, and three failed restarts within
    a millisecond would end the supervisor. So for a name that the child takes itself."""
    name = "client" if taken == "name" else None

    def start() -> Any:
        journal("start")
        return Stubborn.start_link(gate, journal, name=name)

    register = ("things", "k") if taken == "key" else None
    spec = Wrapper.child_spec((start, []), register=register, kill_timeout=LONG, delay=LONG)
    sup = Supervisor.start_link([spec])
    (info,) = Supervisor.which_children(sup)
    old = Wrapper.wrapped(info.child)
    process.exit(info.child, "kill")
    gate.reached()
    until(lambda: [ref for ref in process.list() if ref.actor_class is Wrapper])
    (second,) = [ref for ref in process.list() if ref.actor_class is Wrapper]
    until(lambda: process.info(second)["status"] == "waiting")
    tries = journal.take()
    assert tries.count("start") == (1 if taken == "key" else 2)
    gate.open()
    new = until(lambda: Wrapper.wrapped(second, None))
    assert new is not old
    assert not process.is_alive(old)
    if taken == "key":
        assert Registry.whereis_name(("things", "k")) is new
    else:
        assert process.whereis("client") is new
    assert journal.take() == ["start"]
    assert events(log_events, "child_start_failed") == []


def test_holder_that_does_not_end_in_time_keeps_its_key(
    me: Any, gate: Gate, journal: Journal, registry: Any
) -> None:
    """The wait is as long as `kill_timeout`; after it the answer is AlreadyStarted."""
    parent = Doer.start()
    old = call(parent, lambda doer: Reply(Stubborn.start_link(gate, journal)))
    Registry.register_name(("things", "k"), old)
    process.exit(parent, "kill")
    gate.reached()
    with pytest.raises(AlreadyStarted) as refused:
        Wrapper.start_link((Doer, "start_link", []), register=("things", "k"), kill_timeout=0.1)
    assert refused.value.ref is old


def test_thing_that_ends_before_it_is_registered_gives_its_own_reason(
    me: Any, registry: Any, journal: Journal
) -> None:
    """The registry refuses the dead; that the start succeeded all the same."""

    def start() -> Any:
        ref = Doer.start()
        process.exit(ref, "early")
        return ref

    wrapper = Wrapper.start_link((start, []), register=("things", "k"), delay=0.05)
    assert exit_from(me, wrapper) == "early"


def test_unknown_registry_fails_the_start_before_the_thing_is_started(me: Any) -> None:
    """A thing that nobody can find is not started, only to be stopped again."""
    journal = Journal()
    with pytest.raises(StartError) as failed:
        Wrapper.start_link(child("a", journal), register=("nowhere", "k"), delay=0.0)
    assert type(failed.value.reason) is NoProcess
    assert journal.events == []


def test_thing_that_is_no_process_is_found_by_its_wrapper(me: Any, registry: Any) -> None:
    """Somebody must stand in the registry: to stop the Wrapper is to stop the thing."""
    over = threading.Event()
    thread = (threading.Thread, [], {"target": over.wait})
    wrapper = Wrapper.start_link(thread, register=("things", "k"), delay=LONG)
    assert Registry.whereis_name(("things", "k")) is wrapper
    over.set()
    until(lambda: Registry.whereis_name(("things", "k")) is None)
    assert process.is_alive(wrapper)


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_end_of_the_registry_is_the_end_of_what_is_registered(
    me: Any, journal: Journal, registry: Any, end: str
) -> None:
    """A registered process dies with its registry, also if it traps exits: nobody finds it."""
    wrapper = Wrapper.start_link(child("a", journal), register=("things", "k"), delay=0.0)
    if end == "kill":
        process.exit(registry, "kill")
    else:
        stop(registry)
    reason = "killed" if end == "kill" else "shutdown"
    assert exit_from(me, wrapper) == reason
    assert journal.events == [("start", "a"), ("term", "a", reason)]


def test_end_of_the_registry_ends_an_os_process(me: Any, registry: Any) -> None:
    """Also where the Wrapper itself stands in the registry."""
    wrapper = Wrapper.start_link(SLEEPS, register=("things", "k"), delay=0.0)
    popen = wrapped_popen(wrapper)
    process.exit(registry, "kill")
    assert exit_from(me, wrapper) == "killed"
    assert popen.returncode == -signal.SIGTERM


# ---- plain Pykka actors


class Plain(pykka.ThreadingActor):
    """A plain Pykka actor: writes down its end, stands at a gate if it has one."""

    def __init__(self, journal: Journal, gate: Gate | None = None) -> None:
        super().__init__()
        self.journal, self.gate = journal, gate

    def on_receive(self, message: Any) -> Any:
        if message == "raise":
            raise Oops
        if message == "stop":
            self.stop()

    def on_stop(self) -> None:
        self.journal("on_stop begins")
        if self.gate is not None:
            self.gate()
        time.sleep(0.02)
        self.journal("on_stop ends")


@pytest.mark.parametrize("message", ["stop", "raise"])
def test_end_of_a_plain_actor_is_normal(
    me: Any, journal: Journal, message: str, caplog: Any
) -> None:
    """Pykka keeps no record of why an actor ended."""
    wrapper = Wrapper.start_link((Plain, "start", [journal]), delay=0.0)
    Wrapper.wrapped(wrapper).tell(message)
    assert exit_from(me, wrapper) == "normal"


def test_plain_actor_is_stopped_in_order(me: Any, journal: Journal) -> None:
    """The Wrapper ends after the actor's `on_stop`, which runs when Pykka calls it dead."""
    wrapper = Wrapper.start_link((Plain.start, [journal]))
    actor = Wrapper.wrapped(wrapper)
    stop(wrapper)
    assert not actor.is_alive()
    assert journal.events == ["on_stop begins", "on_stop ends"]


def test_plain_actor_that_does_not_stop_is_an_orphan(
    me: Any, journal: Journal, gate: Gate, log_events: Any
) -> None:
    """A thread can't be killed; it is told of, and not waited for."""
    wrapper = Wrapper.start_link((Plain.start, [journal, gate]), kill_timeout=0.1)
    stop(wrapper)
    assert journal.events == ["on_stop begins"]
    event_named(log_events, "orphan_thread")


def test_killed_wrapper_takes_a_plain_actor_along(me: Any, journal: Journal) -> None:
    """It is asked to stop, which is all that Pykka offers."""
    wrapper = Wrapper.start_link((Plain.start, [journal]))
    process.exit(wrapper, "kill")
    journal.wait_for("on_stop ends")


# ---- threads


def test_end_of_a_thread_is_normal(me: Any) -> None:
    """A thread says nothing of why it ended; one that was not started yet is started."""
    over = threading.Event()
    wrapper = Wrapper.start_link((threading.Thread, [], {"target": over.wait}), delay=0.0)
    assert Wrapper.wrapped(wrapper).is_alive()
    over.set()
    assert exit_from(me, wrapper) == "normal"


def test_thread_without_a_stop_is_waited_for(me: Any, log_events: Any) -> None:
    """It may be about to end of itself."""
    over = threading.Event()
    wrapper = Wrapper.start_link((threading.Thread, [], {"target": over.wait}), kill_timeout=LONG)
    thread = Wrapper.wrapped(wrapper)
    stopper = Doer.start()
    cast(stopper, lambda doer: stop(wrapper))
    until(lambda: process.info(wrapper)["status"] == "waiting")
    over.set()
    assert exit_from(me, wrapper) == "normal"
    assert not thread.is_alive()
    assert events(log_events, "orphan_thread") == []


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_thread_that_does_not_end_is_an_orphan(me: Any, log_events: Any, end: str) -> None:
    """Nothing in Python ends a thread; an operator is told, once."""
    over = threading.Event()
    wrapper = Wrapper.start_link((threading.Thread, [], {"target": over.wait}), kill_timeout=0.05)
    if end == "stop":
        stop(wrapper)
    else:
        process.exit(wrapper, "kill")
    assert "Thread-" in event_named(log_events, "orphan_thread")["thing"]
    over.set()


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_stop_function_ends_a_thread(me: Any, log_events: Any, end: str) -> None:
    """It gets the thing, and is called for a killed Wrapper too."""
    over = threading.Event()
    given = []

    def set_over(thing: Any) -> None:
        given.append(thing)
        over.set()

    wrapper = Wrapper.start_link((threading.Thread, [], {"target": over.wait}), stop=set_over)
    thread = Wrapper.wrapped(wrapper)
    if end == "stop":
        stop(wrapper)
        assert not thread.is_alive()
    else:
        process.exit(wrapper, "kill")
        thread.join(WAIT)
    assert given == [thread]
    assert events(log_events, "orphan_thread") == []


# ---- OS processes


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("sys.exit(0)", "normal"),
        ("sys.exit(3)", ("exit_status", 3)),
        ("os.kill(os.getpid(), signal.SIGKILL)", ("signal", 9)),
    ],
)
def test_exit_status_of_an_os_process_is_the_reason(me: Any, code: str, reason: Any) -> None:
    """0 is "normal", so that a transient one is done; anything else is not."""
    wrapper = Wrapper.start_link(python(code), delay=0.0)
    assert exit_from(me, wrapper) == reason


def test_os_process_that_exits_at_once(me: Any) -> None:
    """It may be over before its Wrapper has looked."""
    wrapper = Wrapper.start_link(
        (lambda: (popen := subprocess.Popen([sys.executable, "-c", ""])).wait() or popen, []),
        delay=0.05,
    )
    assert exit_from(me, wrapper) == "normal"


def test_os_process_gets_sigterm(me: Any) -> None:
    """And is gone, reaped, when the stop returns."""
    wrapper = Wrapper.start_link(SLEEPS, kill_timeout=LONG)
    popen = wrapped_popen(wrapper)
    stop(wrapper)
    assert popen.returncode == -signal.SIGTERM
    assert is_reaped(popen)


def test_os_process_that_ignores_sigterm_gets_sigkill(me: Any, log_events: Any) -> None:
    """After `kill_timeout`, as any stubborn child."""
    wrapper = Wrapper.start_link(IGNORES_SIGTERM, kill_timeout=0.1)
    popen = wrapped_popen(wrapper)
    stop(wrapper)
    assert popen.returncode == -signal.SIGKILL
    assert is_reaped(popen)
    assert event_named(log_events, "wrapped_stop_timeout")["thing"] == f"<Popen {popen.pid}>"


@pytest.mark.parametrize("mfa", [SLEEPS, IGNORES_SIGTERM])
def test_killed_wrapper_takes_an_os_process_along(me: Any, mfa: Any) -> None:
    """At once, since its successor would meet it on its port; and it leaves no zombie."""
    wrapper = Wrapper.start_link(mfa, kill_timeout=LONG)
    popen = wrapped_popen(wrapper)
    process.exit(wrapper, "kill")
    assert until(lambda: popen.returncode) == -signal.SIGKILL
    assert is_reaped(popen)


def test_wrapper_that_is_killed_while_it_stops_an_os_process(me: Any) -> None:
    """SIGTERM was ignored, and there is no more time."""
    wrapper = Wrapper.start_link(IGNORES_SIGTERM, kill_timeout=LONG)
    popen = wrapped_popen(wrapper)
    stopper = Doer.start()
    cast(stopper, lambda doer: stop(wrapper, "shutdown"))
    until(lambda: process.info(wrapper)["status"] == "waiting")
    process.exit(wrapper, "kill")
    assert until(lambda: popen.returncode) == -signal.SIGKILL


def test_supervisor_restarts_an_os_process_that_was_killed(journal: Journal) -> None:
    """A wrapped program is a child like any other."""
    sup = Supervisor.start_link([Wrapper.child_spec(SLEEPS, delay=0.05)])
    (info,) = Supervisor.which_children(sup)
    first = wrapped_popen(info.child)
    first.kill()
    exit_of(info.child)
    (info,) = until(lambda: [i for i in Supervisor.which_children(sup) if i.child != info.child])
    second = wrapped_popen(info.child)
    assert second.pid != first.pid
    Supervisor.stop(sup)
    assert is_reaped(second)


def test_os_process_that_somebody_else_reaped(me: Any) -> None:
    """Nobody knows how it ended, and its Wrapper does not wait for it for ever."""
    wrapper = Wrapper.start_link(SLEEPS, delay=0.0)
    popen = wrapped_popen(wrapper)
    popen.kill()
    try:
        os.waitpid(popen.pid, 0)
    except ChildProcessError:
        pass  # The Wrapper was quicker.
    assert exit_from(me, wrapper) in ("normal", ("signal", 9))


SPAWN = multiprocessing.get_context("spawn")


@pytest.mark.parametrize(
    ("target", "args", "reason"),
    [
        (time.sleep, (0,), "normal"),
        (os._exit, (3,), ("exit_status", 3)),
        (os.abort, (), ("signal", 6)),
    ],
)
def test_exit_status_of_a_multiprocessing_process(
    me: Any, target: Any, args: Any, reason: Any
) -> None:
    """The same reasons as of any OS process; one that was not started yet is started."""
    wrapper = Wrapper.start_link((SPAWN.Process, [], {"target": target, "args": args}), delay=0.0)
    assert exit_from(me, wrapper, WAIT * 4) == reason


@pytest.mark.parametrize("end", ["stop", "kill"])
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_multiprocessing_process_is_ended(me: Any, end: str, method: str) -> None:
    """SIGTERM for a stop, SIGKILL for a killed Wrapper; of a fork server's process, too."""
    context = multiprocessing.get_context(method)
    wrapper = Wrapper.start_link((context.Process, [], {"target": time.sleep, "args": (60,)}))
    thing = Wrapper.wrapped(wrapper)
    if end == "stop":
        stop(wrapper)
        assert thing.exitcode == -signal.SIGTERM
    else:
        process.exit(wrapper, "kill")
        # Not `exitcode`, which would look itself: a fork server tells only one who looks.
        assert until(lambda: thing._popen.returncode) == -signal.SIGKILL


def test_multiprocessing_process_that_others_look_at_too(me: Any) -> None:
    """Everybody who looks at such a process may reap it; the reason is right all the same."""
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            multiprocessing.active_children()

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(3):
            mfa = (SPAWN.Process, [], {"target": os._exit, "args": (3,)})
            wrapper = Wrapper.start_link(mfa, delay=0.0)
            assert exit_from(me, wrapper, WAIT * 4) == ("exit_status", 3)
    finally:
        over.set()
        looking.join()


# ---- stop functions


def test_stop_function_takes_the_place_of_the_exit_signal(me: Any, journal: Journal) -> None:
    """It says how the thing is stopped, whatever the thing is."""
    wrapper = Wrapper.start_link(child("a", journal), stop=lambda ref: cast(ref, ("stop", "asked")))
    stop(wrapper)
    assert journal.events == [("start", "a"), ("term", "a", "asked")]


def test_stop_function_that_blocks_is_not_waited_for(me: Any, gate: Gate, log_events: Any) -> None:
    """`kill_timeout` is the whole time there is."""
    wrapper = Wrapper.start_link(SLEEPS, stop=lambda popen: gate(), kill_timeout=1.0)
    popen = wrapped_popen(wrapper)
    stop(wrapper)
    gate.reached()
    assert popen.returncode == -signal.SIGKILL
    assert [ref for ref in process.list() if issubclass(ref.actor_class, Aside)] == []


def test_stop_function_that_raises_is_reported_and_the_default_used(
    me: Any, log_events: Any, caplog: Any
) -> None:
    """A mistake in it must not cost the thing its orderly end."""
    wrapper = Wrapper.start_link(SLEEPS, stop=lambda popen: raise_(Oops()), kill_timeout=LONG)
    popen = wrapped_popen(wrapper)
    stop(wrapper)
    assert popen.returncode == -signal.SIGTERM
    assert type(event_named(log_events, "wrapped_stop_failed")["reason"]) is Oops


def test_stop_function_that_does_nothing_is_followed_by_a_kill(me: Any) -> None:
    """It returned, and the thing runs on."""
    wrapper = Wrapper.start_link(SLEEPS, stop=lambda popen: None, kill_timeout=0.1)
    popen = wrapped_popen(wrapper)
    stop(wrapper)
    assert popen.returncode == -signal.SIGKILL


# ---- the watcher


def test_watcher_that_was_killed_is_replaced(me: Any) -> None:
    """A thing that nobody watches would end silently."""
    wrapper = Wrapper.start_link(SLEEPS, delay=0.0)
    popen = wrapped_popen(wrapper)

    def watchers() -> Any:
        return [ref for ref in process.list() if ref.actor_class is Watcher]

    (first,) = watchers()
    process.exit(first, "kill")
    (second,) = until(watchers)
    assert second is not first
    popen.kill()
    assert exit_from(me, wrapper) == ("signal", 9)


def test_status_shows_what_is_wrapped(me: Any, journal: Journal) -> None:
    """Operators see what a Wrapper holds, without the arguments of its start function."""
    wrapper = Wrapper.start_link(child("secret", journal), delay=2.0)
    status = wrapper._inbox.process.status()
    assert status["start"] == "<Start Child.start_link/3>"
    assert status["wraps"] == repr(Wrapper.wrapped(wrapper))
    assert status["delay"] == "2.0"
    assert "secret" not in str(status)


def test_process_exit_passes_through_a_start_function_of_a_dead_wrapper() -> None:
    """Code whose process is dead is ended by its next call into the library."""
    caught = []
    gate = Gate()

    def start() -> Any:
        gate()
        try:
            Doer.start_link()
        except ProcessExit as error:
            caught.append(error.reason)
            raise

    starter = Doer.start()
    cast(starter, lambda doer: Wrapper.start_link((start, []), name="w"))
    gate.reached()
    process.exit(process.whereis("w"), "kill")
    gate.open()
    assert until(lambda: caught) == ["killed"]


def test_nothing_is_left_of_a_wrapped_thread(me: Any) -> None:
    """Watcher and Wrapper end with it."""
    wrapper = Wrapper.start_link((threading.Thread, [], {"target": lambda: None}), delay=0.0)
    assert exit_from(me, wrapper) == "normal"
    until(lambda: process.list() == [])
    assert nothing_comes(lambda message: not isinstance(message, Exit), NEVER)


def test_examples(log_events: Any) -> None:
    """What the docstrings show is what happens."""
    results = doctest.testmod(wrapper_module, report=False)
    assert results.failed == 0
    assert results.attempted > 0
