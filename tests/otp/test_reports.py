"""What is logged when processes end and supervisors act, and what is not."""

from __future__ import annotations

import copy
import logging
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from structlog.tracebacks import ExceptionDictTransformer

from elsa_actors import (
    CallExit,
    DynamicSupervisor,
    GenServer,
    Ignore,
    Ok,
    Process,
    Reply,
    StartError,
    Stop,
    Supervisor,
    call,
    cast,
    debug,
    process,
    send_request,
    stop,
)
from tests.servers import WAIT, Child, Doer, Gate, Journal, Oops, exit_of

CLEAN = ["normal", "shutdown", ("shutdown", "done")]
ABNORMAL = ["oops", ("shutdown", "a", "b"), "killed", ("normal", 1)]


def names(log_events: Any) -> list[str]:
    """The names of the events, without those that tell of a normal course."""
    return [
        event["event"]
        for event in log_events
        if event["event"] not in ("child_started", "child_restarted")
    ]


def the(log_events: Any, name: str) -> Any:
    """The one event of this name."""
    (event,) = [event for event in log_events if event["event"] == name]
    return event


def raise_oops(*_: Any) -> Any:
    raise Oops("broken")


def exits(reason: Any) -> Any:
    """A callback that ends its server with this reason."""
    return lambda _: process.exit_self(reason)


def reason_after(ref: Any, act: Any) -> Any:
    """The reason with which a process ends when one does this to it."""
    if process.current() is None:
        with process.attach():
            return reason_after(ref, act)
    watch = process.monitor(ref)
    act(ref)
    return process.receive(lambda down: getattr(down, "monitor", None) is watch, WAIT).reason


def spec(journal: Journal, child_id: str = "a", **more: Any) -> dict[str, Any]:
    return {"id": child_id, "start": (Child, "start_link", [child_id, journal]), **more}


def child_of(sup: Any, child_id: Any = "a") -> Any:
    """The ref of this child; the supervisor has handled everything that came before."""
    return {info.id: info.child for info in Supervisor.which_children(sup)}[child_id]


# ---- a server ends


@pytest.mark.parametrize("reason", CLEAN)
@pytest.mark.parametrize("trap", [False, True])
def test_a_clean_end_is_silent(me: Any, log_events: Any, reason: Any, trap: bool) -> None:
    """What ends on purpose is no fault: stop, exit, callback and parent alike. LOGR-01."""
    stopped = Doer.start(trap=trap)
    stop(stopped, reason)

    answering = Doer.start(trap=trap)
    assert reason_after(answering, lambda ref: cast(ref, lambda _: Stop(reason))) == reason

    leaving = Doer.start(trap=trap)
    assert reason_after(leaving, lambda ref: cast(ref, exits(reason))) == reason

    parent = Doer.start()
    child = call(parent, lambda _: Reply(Doer.start_link(trap=trap)))
    if trap or reason != "normal":
        assert reason_after(child, lambda _: stop(parent, reason)) == reason
    assert log_events == []


@pytest.mark.parametrize("reason", ABNORMAL)
@pytest.mark.parametrize("way", ["cast", "exit", "stop"])
def test_any_other_end_is_reported_once(log_events: Any, reason: Any, way: str) -> None:
    """One crash, one report, and only the three clean reasons are none. LOGR-02."""
    ref = Doer.start(lambda _: Ok(3), name="till")
    process.send(ref, "before")
    if way == "stop":
        stop(ref, reason)
    else:
        act = exits(reason) if way == "exit" else lambda _: Stop(reason)
        assert reason_after(ref, lambda ref: cast(ref, act)) == reason
    (event,) = log_events
    assert event["event"] == "process_crashed"
    assert event["log_level"] == "error"
    assert event["process"] == "till"
    assert event["module"] == "Doer"
    assert event["reason"] == reason
    assert event["state"] == 3
    assert event["exc_info"] is None
    if way == "stop":
        assert event["last_message"] == "before"
    else:
        assert callable(event["last_message"])


def test_a_crash_report_has_the_last_message_the_state_and_the_traceback(log_events: Any) -> None:
    """Those three are what one needs to find the fault. LOGR-02."""

    class Till(GenServer):
        def handle_call(self, request: Any, sender: Any) -> Any:
            self.state = "half done"
            raise Oops("broken")

    ref = Till.start(7)
    with pytest.raises(CallExit) as raised:
        call(ref, ("pay", 3))
    event = the(log_events, "process_crashed")
    assert event["process"] == str(ref)
    assert event["last_message"] == ("pay", 3)
    assert event["state"] == 7  # the state before the raise
    assert event["reason"] is raised.value.reason
    assert event["exc_info"] is raised.value.reason
    frames = []
    traceback = event["exc_info"].__traceback__
    while traceback is not None:
        frames.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    assert frames[-1] == "handle_call"
    assert len(log_events) == 1


@pytest.mark.parametrize(
    ("act", "last"),
    [
        (lambda ref: cast(ref, raise_oops), raise_oops),
        (lambda ref: process.send(ref, raise_oops), raise_oops),
        (lambda ref: ref.tell(raise_oops), raise_oops),
    ],
)
def test_every_kind_of_message_can_be_the_last(log_events: Any, act: Any, last: Any) -> None:
    """The report shows what was sent, not the envelope that it came in. LOGR-02."""
    ref = Doer.start()
    assert isinstance(reason_after(ref, act), Oops)
    event = the(log_events, "process_crashed")
    assert event["last_message"] is last
    assert isinstance(event["exc_info"], Oops)


def test_a_wrong_answer_is_reported(log_events: Any) -> None:
    """A callback that answers nonsense is a fault, and the report shows the nonsense. LOGR-02."""
    ref = Doer.start()
    with pytest.raises(CallExit):
        call(ref, lambda _: "nonsense")
    event = the(log_events, "process_crashed")
    assert event["reason"] == ("bad_return_value", "nonsense")
    assert event["exc_info"] is None


def test_a_raise_in_terminate_is_reported_in_the_place_of_a_clean_reason(log_events: Any) -> None:
    """A clean end that fails is no clean end. LOGR-02."""

    class Messy(Doer):
        def terminate(self, reason: Any) -> Any:
            raise Oops("terminate")

    ref = Messy.start(lambda _: Ok("state"))
    with pytest.raises(CallExit):
        stop(ref)
    event = the(log_events, "process_crashed")
    assert isinstance(event["reason"], Oops)
    assert event["state"] == "state"
    assert len(log_events) == 1


def test_the_report_is_written_before_anybody_is_told(me: Any, log_events: Any) -> None:
    """Who hears of a crash and looks into the log finds it there. LOGR-02."""
    for _ in range(50):
        ref = Doer.start()
        watch = process.monitor(ref)
        cast(ref, raise_oops)
        assert me.receive(timeout=WAIT).monitor is watch
        assert names(log_events) == ["process_crashed"]
        log_events.clear()


def test_a_supervisor_whose_parent_crashes_reports_like_any_server(
    me: Any, log_events: Any
) -> None:
    """It ends with its parent's reason, and that one is abnormal. LOGR-02."""
    parent = Doer.start()
    sup = call(parent, lambda _: Reply(Supervisor.start_link([], name="shop")))
    process.monitor(sup)
    process.exit(parent, "gone")
    assert me.receive(timeout=WAIT).reason == "gone"
    event = the(log_events, "process_crashed")
    assert (event["process"], event["reason"]) == ("shop", "gone")


@pytest.mark.parametrize("trap", [False, True])
def test_a_killed_server_reports_nothing(log_events: Any, trap: bool) -> None:
    """The dead cannot write; their supervisor does. LOGR-03."""
    ref = Doer.start(trap=trap)
    process.exit(ref, "kill")
    assert not process.is_alive(ref)
    busy, gate = Doer.start(trap=trap), Gate()
    cast(busy, lambda _: gate(library=True))
    gate.reached()
    process.exit(busy, "kill")
    assert not process.is_alive(busy)
    assert log_events == []


def test_an_exit_signal_to_a_server_that_does_not_trap_is_silent(me: Any, log_events: Any) -> None:
    """The one whose fault it was has reported; those it pulls along do not. LOGR-03."""
    ref = Doer.start()
    process.exit(ref, "foo")
    assert not process.is_alive(ref)

    first = Doer.start()
    second = call(first, lambda _: Reply(Doer.start_link()))
    process.monitor(second)
    cast(first, raise_oops)
    assert isinstance(me.receive(timeout=WAIT).reason, Oops)
    assert the(log_events, "process_crashed")["process"] == str(first)
    assert len(log_events) == 1


# ---- a server does not start


@pytest.mark.parametrize("reason", ["oops", ("bad", 1)])
def test_a_start_that_fails_is_reported_once(me: Any, log_events: Any, reason: Any) -> None:
    """The starter gets the reason, the log the report, with or without a link. LOGR-04."""
    for start in (Doer.start, Doer.start_link):
        with pytest.raises(StartError) as raised:
            start(lambda _: Stop(reason))
        assert raised.value.reason == reason
        event = the(log_events, "process_crashed")
        assert (event["reason"], event["exc_info"], event["module"]) == (reason, None, "Doer")
        log_events.clear()


def test_an_init_that_raises_is_reported_with_its_traceback(log_events: Any) -> None:
    """A start that fails in production is found by its report alone. LOGR-04."""
    with pytest.raises(StartError):
        Doer.start(raise_oops, name="till")
    event = the(log_events, "process_crashed")
    assert event["process"] == "till"
    assert isinstance(event["exc_info"], Oops)
    assert event["exc_info"].__traceback__ is not None


@pytest.mark.parametrize(
    "answer",
    [
        Stop("normal"),
        Stop("shutdown"),
        Stop(("shutdown", 1)),
        Ignore(),
    ],
)
def test_a_start_that_is_called_off_is_silent(me: Any, log_events: Any, answer: Any) -> None:
    """A server that says in init that it is not needed is no fault. LOGR-04."""
    for start in (Doer.start, Doer.start_link):
        if isinstance(answer, Ignore):
            assert start(lambda _: answer) is None
        else:
            with pytest.raises(StartError):
                start(lambda _: answer)
    assert log_events == []


def test_a_start_that_takes_too_long_is_silent(log_events: Any) -> None:
    """The starter gets the timeout; the server was killed and says nothing. LOGR-03, LOGR-04."""
    gate = Gate()
    with pytest.raises(StartError) as raised:
        Doer.start(lambda _: gate(library=True), timeout=0.05)
    assert raised.value.reason == "timeout"
    assert log_events == []


# ---- a supervisor's child ends


@pytest.mark.parametrize("reason", [*CLEAN, "oops"])
def test_a_permanent_childs_end_is_always_reported(log_events: Any, reason: Any) -> None:
    """A permanent child should not end at all: any reason is news. LOGR-05."""
    journal = Journal()
    sup = Supervisor.start([spec(journal)], name="shop")
    child = child_of(sup)
    journal.take()
    cast(child, ("stop", reason))
    journal.wait_for("start", "a")
    assert journal.take() == [("term", "a", reason), ("start", "a")]
    new = child_of(sup)
    event = the(log_events, "child_terminated")
    assert event == {
        "event": "child_terminated",
        "log_level": "error",
        "supervisor": "shop",
        "child_id": "a",
        "child": child,
        "reason": reason,
        "restart": "permanent",
        "then": "restart",
    }
    assert new is not child
    assert the(log_events, "child_restarted")["child"] is new
    order = [event["event"] for event in log_events]
    crash = ["process_crashed"] if reason == "oops" else []
    assert order == ["child_started", *crash, "child_terminated", "child_restarted"]


@pytest.mark.parametrize("kind", ["static", "dynamic"])
@pytest.mark.parametrize("restart", ["transient", "temporary"])
@pytest.mark.parametrize("reason", CLEAN)
def test_a_clean_end_of_other_children_is_silent(
    log_events: Any, kind: str, restart: str, reason: Any
) -> None:
    """Children that may end, and end well, are no news. LOGR-05."""
    sup, child = _one_child(kind, restart)
    cast(child, ("stop", reason))
    exit_of(child)
    Supervisor.count_children(sup)
    assert names(log_events) == []


@pytest.mark.parametrize("kind", ["static", "dynamic"])
@pytest.mark.parametrize(
    ("restart", "then"),
    [("permanent", "restart"), ("transient", "restart"), ("temporary", "remove")],
)
def test_an_abnormal_end_of_any_child_is_reported_with_what_comes_next(
    log_events: Any, kind: str, restart: str, then: str
) -> None:
    """The supervisor knows the child and its policy; it says both, without traceback. LOGR-05."""
    sup, child = _one_child(kind, restart)
    cast(child, "raise")
    exit_of(child)
    Supervisor.count_children(sup)
    assert names(log_events) == ["process_crashed", "child_terminated"]
    crash = the(log_events, "process_crashed")
    event = the(log_events, "child_terminated")
    assert event["child"] is child
    assert event["reason"] is crash["reason"]
    assert (event["restart"], event["then"]) == (restart, then)
    assert "exc_info" not in event
    restarted = [event for event in log_events if event["event"] == "child_restarted"]
    assert len(restarted) == (then == "restart")


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_a_killed_child_is_reported_by_its_supervisor(log_events: Any, kind: str) -> None:
    """A kill leaves no other trace. LOGR-03, LOGR-05."""
    sup, child = _one_child(kind, "permanent")
    process.exit(child, "kill")
    Supervisor.count_children(sup)
    assert names(log_events) == ["child_terminated"]
    assert the(log_events, "child_terminated")["reason"] == "killed"


def _one_child(kind: str, restart: str) -> tuple[Any, Any]:
    child = spec(Journal(), restart=restart)
    if kind == "static":
        sup = Supervisor.start([child])
        return sup, child_of(sup)
    sup = DynamicSupervisor.start()
    return sup, DynamicSupervisor.start_child(sup, child)


def test_what_an_operator_stops_is_silent(log_events: Any) -> None:
    """terminate_child, delete_child and restart_child are no faults. LOGR-05, LOGR-08."""
    sup = Supervisor.start([spec(Journal())])
    Supervisor.terminate_child(sup, "a")
    Supervisor.restart_child(sup, "a")
    Supervisor.terminate_child(sup, "a")
    Supervisor.delete_child(sup, "a")
    Supervisor.stop(sup)
    assert names(log_events) == []


def test_a_child_that_starts_is_a_progress_report(log_events: Any) -> None:
    """At debug level: who wants to see a tree come up can. LOGR-06."""
    sup = Supervisor.start([spec(Journal())], name="shop")
    assert log_events == [
        {
            "event": "child_started",
            "log_level": "debug",
            "supervisor": "shop",
            "child_id": "a",
            "child": child_of(sup),
        }
    ]


# ---- a child does not start


def test_a_child_that_fails_in_the_supervisors_init_is_reported(log_events: Any) -> None:
    """The child's crash, and which supervisor did not come up because of it. LOGR-04, LOGR-06."""
    children = [
        spec(Journal(), "good"),
        {"id": "bad", "start": (Doer, "start_link", [lambda _: Stop("oops")])},
    ]
    with pytest.raises(StartError) as raised:
        Supervisor.start(children, name="shop")
    assert raised.value.reason == ("shutdown", ("failed_to_start_child", "bad", "oops"))
    assert names(log_events) == ["process_crashed", "child_start_failed"]
    assert the(log_events, "child_start_failed") == {
        "event": "child_start_failed",
        "log_level": "error",
        "supervisor": "shop",
        "child_id": "bad",
        "reason": "oops",
    }


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_a_restart_that_fails_is_reported(log_events: Any, kind: str) -> None:
    """A child that does not come back is news, once for every try. LOGR-06, LOGR-07."""
    journal, starts = Journal(), iter(["start", "fail", "start"])

    def start() -> Any:
        if next(starts) == "fail":
            raise StartError("not yet")
        return Child.start_link("a", journal)

    child = {"id": "a", "start": (start, [])}
    if kind == "static":
        sup = Supervisor.start([child])
        first = child_of(sup)
    else:
        sup = DynamicSupervisor.start()
        first = DynamicSupervisor.start_child(sup, child)
    journal.take()
    process.exit(first, "kill")
    journal.wait_for("start", "a")
    Supervisor.count_children(sup)
    assert names(log_events) == ["child_terminated", "child_start_failed"]
    assert the(log_events, "child_start_failed")["reason"] == "not yet"
    the(log_events, "child_restarted")


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
def test_a_start_child_that_fails_is_its_callers_affair(log_events: Any, kind: Any) -> None:
    """The caller has the error in hand; the supervisor adds nothing. LOGR-06."""
    sup = Supervisor.start([]) if kind is Supervisor else DynamicSupervisor.start()
    for answer in ("shutdown", "oops"):
        with pytest.raises(StartError) as raised:
            kind.start_child(
                sup, {"id": "a", "start": (Doer, "start_link", [lambda _, a=answer: Stop(a)])}
            )
        assert raised.value.reason == answer
    # The child's own report of the abnormal one is all.
    assert names(log_events) == ["process_crashed"]


def test_a_restart_child_that_fails_is_its_callers_affair(log_events: Any) -> None:
    """As with start_child. LOGR-06."""
    starts = iter([True, False])

    def start() -> Any:
        if not next(starts):
            raise StartError("no")
        return Child.start_link("a", Journal())

    sup = Supervisor.start([{"id": "a", "start": (start, [])}])
    Supervisor.terminate_child(sup, "a")
    with pytest.raises(StartError):
        Supervisor.restart_child(sup, "a")
    assert names(log_events) == []


# ---- a supervisor gives up


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_a_supervisor_that_gives_up_says_so(me: Any, log_events: Any, kind: str) -> None:
    """The limit, the child that broke it, and a clean end of the supervisor. LOGR-07."""
    flags = {"max_restarts": 1, "max_seconds": 60.0, "name": "shop"}
    if kind == "static":
        sup = Supervisor.start([spec(Journal())], **flags)
    else:
        sup = DynamicSupervisor.start(**flags)
        DynamicSupervisor.start_child(sup, spec(Journal()))
    process.monitor(sup)
    for _ in range(2):
        (info,) = Supervisor.which_children(sup)
        process.exit(info.child, "kill")
    assert me.receive(timeout=WAIT).reason == "shutdown"
    assert names(log_events) == ["child_terminated", "child_terminated", "reached_max_restarts"]
    assert the(log_events, "reached_max_restarts") == {
        "event": "reached_max_restarts",
        "log_level": "error",
        "supervisor": "shop",
        "child_id": "a",
        "max_restarts": 1,
        "max_seconds": 60.0,
    }


# ---- a child is told to stop and ends otherwise


class Stubborn(Child):
    """Ends otherwise than it is told: hangs, raises or exits in `terminate`."""

    def init(self, label: Any, ending: Any) -> Any:
        self.trap_exit = True
        self.ending = ending
        return Ok()

    def terminate(self, reason: Any) -> Any:
        match self.ending:
            case "hang":
                process.sleep(60)
            case "raise":
                raise Oops
            case ("exit", other):
                process.exit_self(other)


def _stop_stubborn(kind: str, ending: Any, **more: Any) -> Any:
    """Have a supervisor stop such a child, and return the child."""
    child = {"id": "a", "start": (Stubborn, "start_link", ["a", ending]), **more}
    if kind == "static":
        sup = Supervisor.start([child], name="shop")
        ref = child_of(sup)
    else:
        sup = DynamicSupervisor.start(name="shop")
        ref = DynamicSupervisor.start_child(sup, child)
    Supervisor.stop(sup)
    return ref


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_a_child_that_had_to_be_killed_is_reported(log_events: Any, kind: str) -> None:
    """Its shutdown time was too short, or it hangs: somebody should look. LOGR-08."""
    ref = _stop_stubborn(kind, "hang", shutdown=0.05)
    assert log_events[-1] == {
        "event": "child_shutdown_error",
        "log_level": "error",
        "supervisor": "shop",
        "child_id": "a",
        "child": ref,
        "reason": "killed",
        "shutdown": 0.05,
    }
    assert names(log_events) == ["child_shutdown_error"]


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_a_child_that_crashes_on_its_way_out_is_reported(log_events: Any, kind: str) -> None:
    """Its cleaning up failed: the crash, and which child it was. LOGR-08."""
    _stop_stubborn(kind, "raise")
    assert names(log_events) == ["process_crashed", "child_shutdown_error"]
    reason = the(log_events, "child_shutdown_error")["reason"]
    assert isinstance(reason, Oops)
    assert the(log_events, "process_crashed")["reason"] is reason


@pytest.mark.parametrize("kind", ["static", "dynamic"])
@pytest.mark.parametrize(
    ("restart", "reason", "reported"),
    [
        ("permanent", "normal", True),
        ("permanent", ("shutdown", 1), True),
        ("permanent", "shutdown", False),
        ("transient", "normal", False),
        ("transient", ("shutdown", 1), False),
        ("temporary", "normal", False),
    ],
)
def test_a_permanent_child_must_end_with_shutdown(
    log_events: Any, kind: str, restart: str, reason: Any, reported: bool
) -> None:
    """One that ended of its own accord just then was not stopped by the supervisor. LOGR-08."""
    _stop_stubborn(kind, ("exit", reason), restart=restart)
    assert names(log_events) == ["child_shutdown_error"] * reported
    if reported:
        assert the(log_events, "child_shutdown_error")["reason"] == reason


@pytest.mark.parametrize("kind", ["static", "dynamic"])
@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
def test_a_child_that_is_meant_to_be_killed_is_silent(
    log_events: Any, kind: str, restart: str
) -> None:
    """ "brutal_kill" asks for just that. LOGR-08."""
    ref = _stop_stubborn(kind, "hang", shutdown="brutal_kill", restart=restart)
    assert not process.is_alive(ref)
    assert names(log_events) == []


# ---- format_status


class Discreet(Doer):
    """Hides its state, its messages and its reasons."""

    def format_status(self, status: dict[str, Any]) -> dict[str, Any]:
        self.journal(sorted(status))
        return dict.fromkeys(status, "hidden")


def test_a_crash_report_shows_what_format_status_leaves(log_events: Any) -> None:
    """Passwords in states and messages must not get into the log. SYS-24, LOGR-02."""
    journal = Journal()
    ref = Discreet.start(lambda _: Ok("password"), journal)
    assert reason_after(ref, lambda ref: cast(ref, lambda _: Stop("secret"))) == "secret"
    event = the(log_events, "process_crashed")
    assert (event["state"], event["last_message"], event["reason"]) == ("hidden",) * 3
    assert ["message", "reason", "state"] in journal.take()


def test_a_reason_that_is_hidden_is_in_no_traceback(log_events: Any) -> None:
    """A traceback ends with what the exception says."""
    ref = Discreet.start()

    def crash(_: Any) -> Any:
        raise Oops("password")

    cast(ref, crash)
    exit_of(ref)
    event = the(log_events, "process_crashed")
    assert event["reason"] == "hidden"
    assert "password" not in repr(event)


@pytest.mark.parametrize(
    "format_status",
    [copy.deepcopy, lambda status: {"state": "hidden"}],
    ids=["copies", "leaves out"],
)
def test_a_reason_that_is_not_hidden_has_its_traceback(log_events: Any, format_status: Any) -> None:
    """Who copies everything, or speaks of the state alone, hides no reason."""

    class Copying(Doer):
        def format_status(self, status: dict[str, Any]) -> Any:
            return format_status(status)

    def crash(_: Any) -> Any:
        raise Oops("boom")

    ref = Copying.start(lambda server: Ok("state"))
    cast(ref, crash)
    exit_of(ref)
    assert isinstance(the(log_events, "process_crashed")["exc_info"], Oops)


def test_format_status_gets_copies(log_events: Any) -> None:
    """A display that tidies the dictionary it was given changes nothing in the server. SYS-24."""

    class Tidy(Doer):
        def format_status(self, status: dict[str, Any]) -> dict[str, Any]:
            status.clear()
            return {"state": "tidy"}

    ref = Tidy.start(lambda _: Ok("untidy"))
    assert reason_after(ref, lambda ref: cast(ref, lambda _: Stop("oops"))) == "oops"
    event = the(log_events, "process_crashed")
    assert event["state"] == "tidy"
    assert (event["last_message"], event["reason"]) == (None, None)


@pytest.mark.parametrize("fault", [Oops(), SystemExit(1), None, ["no dictionary"]])
def test_a_crash_report_survives_a_failing_format_status(
    me: Any, log_events: Any, fault: Any
) -> None:
    """It says that the display failed, shows nothing of the state, and the end goes on. SYS-24."""

    class Broken(Doer):
        def format_status(self, status: dict[str, Any]) -> Any:
            if isinstance(fault, BaseException):
                raise fault
            return fault

    ref = Broken.start(lambda _: Ok("password"))
    process.monitor(ref)
    cast(ref, lambda _: Stop("oops"))
    assert me.receive(timeout=WAIT).reason == "oops"
    event = the(log_events, "process_crashed")
    assert event["state"] == "Broken.format_status crashed"
    assert event["last_message"] == "Broken.format_status crashed"
    assert event["reason"] == "oops"


# ---- messages that nobody expects


@pytest.mark.parametrize("kind", ["server", "static", "dynamic"])
def test_a_message_that_nobody_expects_is_a_warning(log_events: Any, kind: str) -> None:
    """A stray message is logged and dropped; it must not end a server or a tree. LOGR-02."""

    class Plain(GenServer):
        pass

    start = {"server": Plain.start, "static": lambda **more: Supervisor.start([], **more)}
    ref = start.get(kind, DynamicSupervisor.start)(name="shop")
    process.send(ref, ("who", "are you"))
    debug.get_state(ref)
    assert log_events == [
        {
            "event": "unexpected_message",
            "log_level": "warning",
            "process": "shop",
            "message": "('who', 'are you')",
        }
    ]
    assert process.is_alive(ref)


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_a_supervisor_fails_only_the_caller_of_an_odd_request(log_events: Any, kind: str) -> None:
    """A slip in one caller must not restart a whole tree. LOGR-02."""
    sup = Supervisor.start([]) if kind == "static" else DynamicSupervisor.start()
    with pytest.raises(CallExit) as raised:
        call(sup, "how are you")
    assert raised.value.reason == ("unknown_request", "how are you")
    assert names(log_events) == ["unexpected_message"]
    assert process.is_alive(sup)


# ---- a plain process


class Plain(Process):
    """Does what it is told; tells when it was stopped."""

    def on_receive(self, message: Any) -> Any:
        return message(self)


@pytest.fixture
def pykka_errors(caplog: pytest.LogCaptureFixture) -> Iterator[Any]:
    with caplog.at_level(logging.ERROR, logger="pykka"):
        yield lambda: [record for record in caplog.records if record.name == "pykka"]


@pytest.mark.parametrize("reason", CLEAN)
def test_a_clean_end_of_a_plain_process_is_silent(
    log_events: Any, pykka_errors: Any, reason: Any
) -> None:
    """What ends on purpose is no fault, whatever it is built on. LOGR-01."""
    leaving, stopped, pulled = Plain.start(), Plain.start(), Plain.start()
    assert reason_after(leaving, lambda ref: ref.tell(exits(reason))) == reason
    stop(stopped, reason)
    process.exit(pulled, reason)
    Plain.start().stop()
    assert log_events == []
    assert pykka_errors() == []


def test_a_plain_process_that_is_killed_or_pulled_along_is_silent(
    log_events: Any, pykka_errors: Any
) -> None:
    """As a server. LOGR-03."""
    killed, pulled = Plain.start(), Plain.start()
    process.exit(killed, "kill")
    process.exit(pulled, "foo")
    assert not killed.is_alive()
    assert not pulled.is_alive()
    assert log_events == []
    assert pykka_errors() == []


def test_a_raise_in_an_asked_message_is_the_askers_affair(
    log_events: Any, pykka_errors: Any
) -> None:
    """The process lives on, and the asker has the exception in hand. LOGR-02."""
    ref = Plain.start()
    with pytest.raises(Oops):
        ref.ask(raise_oops, timeout=WAIT)
    assert ref.ask(lambda _: "alive", timeout=WAIT) == "alive"
    assert log_events == []
    assert pykka_errors() == []


def test_a_crash_of_a_plain_process_is_in_pykkas_log(me: Any, pykka_errors: Any) -> None:
    """Who comes from Pykka looks there, and finds the traceback. LOGR-02."""
    ref = Plain.start()
    process.monitor(ref)
    ref.tell(raise_oops)
    error = me.receive(timeout=WAIT).reason
    (record,) = pykka_errors()
    assert record.getMessage().startswith("Unhandled exception in")
    assert record.exc_info[1] is error


@pytest.mark.parametrize("way", ["raise", "exit", "stop", "raise in on_stop", "SystemExit"])
def test_a_crash_of_a_plain_process_is_reported_like_any(
    me: Any, log_events: Any, way: str
) -> None:
    """A process logs its crash, a plain one too: an alert hangs on one event's name. LOGR-02."""

    class Tidying(Plain):
        def on_stop(self) -> None:
            if way == "raise in on_stop":
                raise Oops

    def leave(_: Any) -> Any:
        raise SystemExit(3)

    ref = Tidying.start()
    process.register("plain", ref)
    process.monitor(ref)
    match way:
        case "raise":
            ref.tell(raise_oops)
        case "exit":
            ref.tell(exits("oops"))
        case "SystemExit":
            ref.tell(leave)
        case "stop":
            stop(ref, "oops")
        case _:
            ref.stop(block=False)
    reason = me.receive(timeout=WAIT).reason
    event = the(log_events, "process_crashed")
    assert (event["process"], event["module"]) == ("plain", Tidying.__qualname__)
    assert event["reason"] is reason or event["reason"] == reason
    if isinstance(reason, BaseException):
        assert event["exc_info"] is reason
    else:
        assert event["exc_info"] is None
    assert len(log_events) == 1


def test_what_leaves_an_attached_block_is_no_report(log_events: Any) -> None:
    """The exception is on its way to the caller, who will see it. LOGR-02."""
    with pytest.raises(Oops), process.attach():
        raise_oops()
    assert log_events == []


# ---- a log that cannot be written


@pytest.fixture
def broken_log(caplog: pytest.LogCaptureFixture) -> Iterator[Any]:
    """A structlog whose renderer raises, as one does that meets a dictionary's odd key."""

    def render(logger: Any, name: str, event: Any) -> Any:
        raise TypeError("keys must be strings")

    processors = structlog.get_config()["processors"]
    before = processors.copy()
    processors[:] = [render]
    try:
        with caplog.at_level(logging.ERROR, logger="elsa_actors"):
            yield lambda: [r.getMessage() for r in caplog.records if r.name == "elsa_actors"]
    finally:
        processors[:] = before


def test_a_log_that_cannot_be_written_harms_nobody(me: Any, broken_log: Any) -> None:
    """Tree and servers go on, and the standard log has what could not be rendered. LOGR-02."""
    journal = Journal()
    sup = Supervisor.start([spec(journal)], name="shop")
    child = child_of(sup)
    journal.take()
    with pytest.raises(CallExit) as raised:
        call(child, "raise")
    assert isinstance(raised.value.reason, Oops)
    journal.wait_for("start", "a")
    assert child_of(sup).is_alive()
    assert process.whereis("shop") is sup
    assert broken_log() == [
        "child_started could not be logged",
        f"the crash of {child} could not be logged",
        "child_terminated could not be logged",
        "child_restarted could not be logged",
    ]


class Vault(GenServer):
    """Keeps a secret that its format_status hides; raises when it is told to."""

    def init(self, secret: str) -> Any:
        return Ok({"secret": secret})

    def handle_call(self, request: Any, sender: Any) -> Any:
        if request == "ask":
            return call(sender_of(self), "raise")
        raise Oops(request)

    def handle_cast(self, request: Any) -> Any:
        if request == "both":
            self.tidies = False
        raise Oops(request)

    def handle_info(self, message: Any) -> Any:
        raise Oops(message)

    def terminate(self, reason: Any) -> Any:
        if not getattr(self, "tidies", True):
            raise Oops("terminate")

    def format_status(self, status: dict[str, Any]) -> dict[str, Any]:
        return status | {"state": "hidden"}


def sender_of(_: Any) -> Any:
    return Vault.start("hunter2")


@pytest.mark.parametrize(
    "act",
    [
        lambda ref: cast(ref, "raise"),
        lambda ref: cast(ref, "both"),
        lambda ref: process.send(ref, "raise"),
        lambda ref: send_request(ref, "raise"),
        lambda ref: send_request(ref, "ask"),
    ],
    ids=["cast", "raise in terminate", "info", "call", "call of another"],
)
def test_tracebacks_with_locals_show_no_hidden_state(log_events: Any, act: Any) -> None:
    """Our own frames hold it, and renderers that show locals would print it. LOGR-02."""
    ref = Vault.start("hunter2")
    exit_reason = reason_after(ref, act)
    assert exit_reason is not None
    transform = ExceptionDictTransformer(show_locals=True)
    crashes = [event for event in log_events if event["event"] == "process_crashed"]
    assert crashes
    for event in crashes:
        error = event["exc_info"]
        shown = transform((type(error), error, error.__traceback__))
        assert "Oops" in repr(shown)
        assert "hunter2" not in repr(shown)
        assert shown[0]["frames"][0]["name"].startswith(("handle_", "terminate"))


def test_traceback_of_a_fault_of_our_own_keeps_its_last_frame(log_events: Any) -> None:
    """A server without the callback raises in our file; a report without any place is no help."""
    ref = GenServer.start()
    cast(ref, "what?")
    exit_of(ref)
    frames = traceback.extract_tb(the(log_events, "process_crashed")["exc_info"].__traceback__)
    assert [frame.name for frame in frames] == ["handle_cast"]
