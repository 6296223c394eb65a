"""What `debug` shows of a running server, and what it can do to one."""

from __future__ import annotations

import inspect
import threading
from typing import Any

import pytest

from elsa_actors import (
    TIMEOUT,
    CallExit,
    CallingSelf,
    CallTimeout,
    Continue,
    DynamicSupervisor,
    Exit,
    GenServer,
    NoProcess,
    NoReply,
    Ok,
    Process,
    Reply,
    Stop,
    Supervisor,
    Timeout,
    call,
    cast,
    debug,
    process,
    send_request,
    stop,
)
from elsa_actors.runtime.clock import clock
from tests.servers import NEVER, WAIT, Child, Doer, Gate, Journal, Oops, exit_of

SHORT = 0.05
"""A timeout that is meant to pass."""


class Account(GenServer):
    """A balance: adds in calls and casts, ignores messages."""

    def handle_call(self, request: Any, sender: Any) -> Any:
        match request:
            case "get":
                return Reply(self.state)
            case ("add", amount):
                self.state += amount
                return Reply(self.state)
            case ("close", reason):
                return Stop(reason, reply="bye")
            case "later":
                return NoReply()

    def handle_cast(self, request: Any) -> Any:
        self.state += request[1]

    def handle_info(self, message: Any) -> Any:
        return NoReply()


class Vault(Account):
    """Shows its state to nobody."""

    def format_status(self, status: dict[str, Any]) -> dict[str, Any]:
        return {**status, "state": "hidden"}

    def status(self) -> dict[str, Any]:
        return {"doors": 2}


def wait_queued(ref: Any, count: int) -> None:
    """Wait until so many messages wait in a server's mailbox."""
    deadline = clock.now() + WAIT
    while process.info(ref)["message_queue_len"] != count:
        assert clock.now() < deadline, "the messages did not come"
        process.sleep(0.001)


# ---- state


@pytest.mark.parametrize("attached", [False, True])
def test_get_state_gives_the_state_by_ref_and_by_name(attached: bool) -> None:
    """Who debugs has a name or a ref at hand, on a plain thread or in a process. SYS-01."""
    state = {"balance": 1}
    ref = Doer.start(lambda _: Ok(state), name="account")

    def look() -> None:
        assert debug.get_state(ref) is state
        assert debug.get_state("account") is state

    if attached:
        with process.attach():
            look()
    else:
        look()


def test_get_state_sees_what_was_asked_for_before() -> None:
    """A system message keeps its place behind the messages of the same sender. SYS-01."""
    ref = Account.start(0)
    for amount in range(50):
        cast(ref, ("add", amount))
    assert debug.get_state(ref) == sum(range(50))


def test_get_state_of_a_server_whose_init_still_runs_waits_for_it() -> None:
    """A server has no state to show before init has answered. SYS-01."""
    gate = Gate()

    def start(server: Any) -> Any:
        gate()
        return Ok("ready")

    starter = threading.Thread(target=lambda: Doer.start(start, name="slow"), daemon=True)
    starter.start()
    gate.reached()
    with pytest.raises(CallTimeout):
        debug.get_state("slow", timeout=SHORT)
    gate.open()
    assert debug.get_state("slow") == "ready"
    starter.join(WAIT)


def test_a_busy_server_lets_debug_run_into_its_timeout() -> None:
    """Looking in must not hang behind a stuck server; the error says who asked what. SYS-02."""
    gate = Gate()
    ref = Doer.start(lambda _: Ok(7))
    cast(ref, lambda _: gate())
    gate.reached()
    with pytest.raises(CallTimeout) as raised:
        debug.get_state(ref, timeout=SHORT)
    assert raised.value.reason == "timeout"
    assert raised.value.server is ref
    assert raised.value.request == "get_state"
    gate.open()
    assert debug.get_state(ref) == 7


@pytest.mark.parametrize("name", debug.__all__)
def test_every_function_waits_five_seconds_unless_told_otherwise(name: str) -> None:
    """Nobody who looks in by hand wants to wait for ever, or to type a timeout. SYS-02."""
    timeout = inspect.signature(getattr(debug, name)).parameters["timeout"]
    assert timeout.default == 5.0


def test_replace_state_returns_and_stores_the_new_state() -> None:
    """The new state is the one that the next request meets. SYS-03."""
    ref = Account.start(1, name="account")
    assert debug.replace_state("account", lambda state: state + 10) == 11
    assert call(ref, "get") == 11


@pytest.mark.parametrize("error", [Oops("no"), SystemExit(3), KeyboardInterrupt()])
def test_replace_state_whose_function_raises_changes_nothing(error: BaseException) -> None:
    """A slip of the operator's must cost the operator, not the server. SYS-04."""
    ref = Account.start(1)

    def slip(state: Any) -> Any:
        raise error

    with pytest.raises(CallExit) as raised:
        debug.replace_state(ref, slip)
    assert raised.value.reason == ("callback_failed", error)
    assert raised.value.__cause__ is error
    assert debug.get_state(ref) == 1
    assert call(ref, "get") == 1


def test_replace_state_whose_function_exits_changes_nothing() -> None:
    """An exit in the function is caught like a raise. SYS-04."""
    ref = Account.start(1)
    with pytest.raises(CallExit) as raised:
        debug.replace_state(ref, lambda _: process.exit_self("gone"))
    kind, error = raised.value.reason
    assert (kind, error.reason) == ("callback_failed", "gone")
    assert call(ref, "get") == 1


def test_replace_state_of_a_server_that_is_killed_meanwhile_fails_with_the_kill() -> None:
    """A dead server answers nobody: the function's late result vanishes. SYS-03."""
    gate = Gate()
    ref = Account.start(1)
    failures: list[Any] = []

    def ask() -> None:
        with pytest.raises(CallExit) as raised:
            debug.replace_state(ref, lambda _: gate(library=True))
        failures.append(raised.value.reason)

    asker = threading.Thread(target=ask, daemon=True)
    asker.start()
    gate.reached()
    process.exit(ref, "kill")
    asker.join(WAIT)
    assert failures == ["killed"]


# ---- suspended


def test_a_suspended_server_handles_its_messages_only_when_it_is_resumed(me: Any) -> None:
    """Suspend stops the work, not the mail: nothing is lost and the order stands. SYS-05."""
    journal = Journal()
    ref = Doer.start(journal=journal)
    assert debug.suspend(ref) is None
    with pytest.raises(CallTimeout):
        call(ref, lambda _: journal("first call"), timeout=SHORT)
    process.send(ref, "info")
    cast(ref, lambda _: journal("cast"))
    request = send_request(ref, lambda _: journal("second call"))
    assert not request.wait(NEVER)
    wait_queued(ref, 4)
    assert journal.take() == []

    assert debug.resume(ref) is None
    assert request.receive(WAIT) is None
    assert journal.take() == ["first call", ("info", "info"), "cast", "second call"]


def test_what_waited_comes_before_what_was_sent_after_resume() -> None:
    """A message that stands behind the resume must not overtake one that waited. SYS-05."""
    journal, gate = Journal(), Gate()
    ref = Doer.start(journal=journal)
    debug.suspend(ref)
    for number in range(250):  # more than one fair share
        process.send(ref, number)
    debug.get_state(ref)
    holder = threading.Thread(target=debug.replace_state, args=(ref, lambda _: gate()))
    holder.start()
    gate.reached()
    resumer = threading.Thread(target=debug.resume, args=(ref,))
    resumer.start()
    wait_queued(ref, 251)
    for number in range(250, 300):
        process.send(ref, number)
    gate.open()
    resumer.join(WAIT)
    holder.join(WAIT)
    call(ref, lambda _: None)
    assert journal.take() == [("info", number) for number in range(300)]


def test_one_resume_undoes_any_number_of_suspends() -> None:
    """Two operators who suspend one server need not both come back. SYS-06."""
    ref = Account.start(1)
    debug.suspend(ref)
    debug.suspend(ref)
    assert debug.get_status(ref)["status"] == "suspended"
    debug.resume(ref)
    assert call(ref, "get") == 1
    debug.resume(ref)
    assert debug.get_status(ref)["status"] == "running"
    assert call(ref, "get") == 1


def test_a_suspended_server_can_still_be_looked_into() -> None:
    """Suspending is for looking in peace: all of debug works on a suspended server. SYS-07."""
    ref = Account.start(1)
    debug.suspend(ref)
    waiting = send_request(ref, ("add", 1))
    assert debug.get_state(ref) == 1
    assert debug.replace_state(ref, lambda state: state * 10) == 10
    assert debug.get_status(ref)["state"] == 10
    debug.statistics(ref, True)
    debug.log(ref, True)
    assert debug.get_log(ref) == []
    assert not waiting.check()
    debug.resume(ref)
    assert waiting.receive(WAIT) == 11


@pytest.mark.parametrize("end", [stop, debug.terminate])
def test_a_suspended_server_can_be_stopped(end: Any) -> None:
    """Whoever suspended it may be gone; `terminate` runs, and who waits is told. SYS-07, SYS-20."""
    journal = Journal()
    ref = Doer.start(journal=journal)
    debug.suspend(ref)
    waiting = send_request(ref, lambda _: journal("handled"))
    end(ref, ("shutdown", "now"), timeout=WAIT)
    assert journal.take() == [("terminate", ("shutdown", "now"))]
    with pytest.raises(CallExit) as raised:
        waiting.receive(WAIT)
    assert raised.value.reason == ("shutdown", "now")


def test_a_suspended_server_ends_with_its_parent(me: Any) -> None:
    """A suspended branch must not outlive the tree: the parent's exit is acted on. SYS-09."""
    journal = Journal()
    parent = Doer.start()
    ref = call(parent, lambda _: Reply(Doer.start_link(journal=journal, trap=True)))
    watch = process.monitor(ref)
    debug.suspend(ref)
    process.send(ref, "waits")
    process.exit(parent, "gone")
    assert me.receive(timeout=WAIT).reason == "gone"
    assert not watch.active
    assert journal.take() == [("terminate", "gone")]


def test_a_suspended_server_keeps_another_processs_exit_until_it_is_resumed(me: Any) -> None:
    """For a server that traps, an exit signal that is not its parent's is a message. SYS-10."""
    journal = Journal()
    ref = Doer.start(journal=journal, trap=True)
    debug.suspend(ref)
    process.exit(ref, "shutdown")
    debug.get_state(ref)
    assert journal.take() == []
    debug.resume(ref)
    journal.wait_for("info", Exit(me.ref, "shutdown"))
    assert process.is_alive(ref)


def test_a_suspended_server_that_does_not_trap_dies_of_a_signal(me: Any) -> None:
    """An exit signal acts where it is sent; suspending is no shield. SYS-11."""
    journal = Journal()
    ref = Doer.start(journal=journal)
    watch = process.monitor(ref)
    debug.suspend(ref)
    process.exit(ref, "foo")
    assert not process.is_alive(ref)
    down = me.receive(timeout=WAIT)
    assert (down.monitor, down.reason) == (watch, "foo")
    assert journal.take() == []


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
def test_a_suspended_child_is_stopped_by_its_supervisor(kind: Any) -> None:
    """A shutdown must not run into its timeout because somebody was looking. SYS-12."""
    journal = Journal()
    spec = {"id": "a", "start": (Child, "start_link", ["a", journal]), "shutdown": "infinity"}
    sup = Supervisor.start([]) if kind is Supervisor else DynamicSupervisor.start()
    ref = kind.start_child(sup, spec)
    debug.suspend(ref)
    kind.stop(sup, timeout=WAIT)
    assert not process.is_alive(ref)
    assert journal.take() == [("start", "a"), ("term", "a", "shutdown")]


def test_an_idle_timeout_starts_anew_with_resume() -> None:
    """A server that may not work is not idle: the time counts from resume on. SYS-13."""
    idle = 0.2
    journal = Journal()
    ref = Doer.start(lambda _: Ok(None, Timeout(idle)), journal)
    debug.suspend(ref)
    process.sleep(idle * 2)
    debug.get_state(ref)
    assert journal.take() == []
    resumed = clock.now()
    debug.resume(ref)
    journal.wait_for("info", TIMEOUT)
    assert clock.now() - resumed >= idle
    assert journal.take() == [("info", TIMEOUT)]


def test_a_message_that_waited_cancels_the_idle_timeout() -> None:
    """Any message does, and one that waited is handled before the time is over. SYS-13."""
    journal = Journal()
    ref = Doer.start(lambda _: Ok(None, Timeout(SHORT)), journal)
    debug.suspend(ref)
    process.send(ref, "waited")
    process.sleep(SHORT * 2)
    debug.resume(ref)
    journal.wait_for("info", "waited")
    process.sleep(SHORT * 2)
    assert journal.take() == [("info", "waited")]


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_a_suspended_supervisor_restarts_nobody_until_it_is_resumed(kind: str) -> None:
    """That is how one arranges several failures at once: they meet the strategy later. SYS-23."""
    journal = Journal()
    spec = {"id": "a", "start": (Child, "start_link", ["a", journal])}
    if kind == "static":
        sup = Supervisor.start([spec])
        (info,) = Supervisor.which_children(sup)
        child = info.child
    else:
        sup = DynamicSupervisor.start()
        child = DynamicSupervisor.start_child(sup, spec)
    journal.take()
    debug.suspend(sup)
    process.exit(child, "kill")
    assert debug.get_status(sup)["status"] == "suspended"
    assert debug.get_status(sup)["message_queue_len"] == 1
    assert journal.take() == []
    debug.resume(sup)
    journal.wait_for("start", "a")
    (info,) = Supervisor.which_children(sup)
    assert info.child.is_alive()
    assert info.child is not child


class Register(Account):
    """A server that is called on its callers' threads."""

    inline = True

    def init(self, journal: Any) -> Any:
        self.journal = journal
        return Ok(0)

    def handle_call(self, request: Any, sender: Any) -> Any:
        self.journal(threading.current_thread().name)
        return super().handle_call(request, sender)


def test_a_suspended_inline_server_is_called_through_its_mailbox() -> None:
    """Nobody runs a suspended server's handlers, its callers neither. SYS-05."""
    journal = Journal()
    ref = Register.start(journal)
    assert call(ref, ("add", 1)) == 1
    assert journal.take() == [threading.current_thread().name]
    debug.suspend(ref)
    with pytest.raises(CallTimeout):
        call(ref, ("add", 1), timeout=SHORT)
    assert journal.take() == []
    debug.resume(ref)
    assert call(ref, ("add", 1)) == 3


def test_an_inline_server_stands_still_between_suspend_and_resume() -> None:
    """A caller that was about to run the handler itself must notice the suspend. SYS-05."""
    ref = Register.start(lambda _: None)
    over = threading.Event()

    def hammer() -> None:
        while not over.is_set():
            call(ref, ("add", 1), timeout=None)

    callers = [threading.Thread(target=hammer, daemon=True) for _ in range(2)]
    for caller in callers:
        caller.start()
    try:
        for _ in range(100):
            debug.suspend(ref)
            before = debug.get_state(ref)
            process.sleep(0.001)
            assert debug.get_state(ref) == before
            debug.resume(ref)
    finally:
        debug.resume(ref)
        over.set()
    for caller in callers:
        caller.join(WAIT)
        assert not caller.is_alive()


# ---- status


def test_get_status_tells_who_the_server_is_and_what_it_does(me: Any) -> None:
    """The first look at a strange process answers: who, whose, what, in which state. SYS-08."""
    ref = Account.start_link(5, name="account")
    status = debug.get_status("account")
    assert status["ref"] is ref
    assert status["registered_name"] == "account"
    assert status["class"] is Account
    assert status["parent"] is me.ref
    assert status["status"] == "running"
    assert status["state"] == 5
    assert status["details"] == {}
    assert status["message_queue_len"] == 0
    assert status["debug"] == {"statistics": None, "log": None, "trace": False, "installed": []}

    debug.suspend(ref)
    cast(ref, ("add", 1))
    status = debug.get_status(ref)
    assert status["status"] == "suspended"
    assert status["message_queue_len"] == 1


def test_get_status_lists_what_is_switched_on() -> None:
    """A forgotten trace is found before it fills a disk. SYS-08."""

    def watch(state: Any, event: Any, info: Any) -> Any:
        return state

    ref = Account.start(0)
    debug.statistics(ref, True)
    debug.log(ref, 3)
    debug.trace(ref, True)
    debug.install(ref, watch, None)
    shown = debug.get_status(ref)["debug"]
    assert shown["statistics"]["messages_in"] == 0
    assert (shown["log"], shown["trace"], shown["installed"]) == (3, True, [watch])


def test_get_status_shows_the_state_as_format_status_does() -> None:
    """What a server hides from the log it hides from onlookers too. SYS-24."""
    ref = Vault.start(1)
    status = debug.get_status(ref)
    assert status["state"] == "hidden"
    assert status["details"] == {"doors": 2}
    assert debug.get_state(ref) == 1


@pytest.mark.parametrize("fault", [Oops(), SystemExit(1), None])
def test_a_failing_format_status_is_replaced(fault: BaseException | None) -> None:
    """A fault in the display must neither show the state nor harm the server. SYS-24."""

    class Broken(Account):
        def format_status(self, status: dict[str, Any]) -> Any:
            if fault is not None:
                raise fault

        def status(self) -> Any:
            raise Oops

    ref = Broken.start("secret")
    status = debug.get_status(ref)
    assert status["state"] == "Broken.format_status crashed"
    assert status["details"] == "Broken.status crashed"
    assert call(ref, "get") == "secret"


# ---- statistics


def test_statistics_count_messages_in_and_answers_out() -> None:
    """A call, a cast and a message are three in and one out; looking in does not count. SYS-14."""
    ref = Account.start(0)
    assert debug.statistics(ref, "get") is None
    call(ref, "get")
    assert debug.statistics(ref, True) is None
    call(ref, ("add", 1))
    cast(ref, ("add", 1))
    process.send(ref, "message")
    debug.get_state(ref)
    counts = debug.statistics(ref, "get")
    assert counts is not None
    assert set(counts) == {
        "start_time",
        "current_time",
        "reductions",
        "messages_in",
        "messages_out",
    }
    assert (counts["messages_in"], counts["messages_out"], counts["reductions"]) == (3, 1, 0)
    assert abs(counts["current_time"] - counts["start_time"]) < 3600
    assert abs(clock.wall_time() - counts["current_time"]) < 3600


def test_statistics_go_on_when_switched_on_twice_and_end_when_switched_off() -> None:
    """A second operator must not set the first one's counts back. SYS-14."""
    ref = Account.start(0)
    debug.statistics(ref, True)
    cast(ref, ("add", 1))
    debug.statistics(ref, True)
    counts = debug.statistics(ref, "get")
    assert counts is not None
    assert counts["messages_in"] == 1
    assert debug.statistics(ref, False) is None
    assert debug.statistics(ref, "get") is None


def test_pykkas_tell_and_ask_are_messages_too() -> None:
    """`ask` is a call and `tell` a message; both are counted. SYS-14."""
    ref = Account.start(0)
    debug.statistics(ref, True)
    ref.tell("message")
    assert ref.ask(("add", 2), timeout=WAIT) == 2
    counts = debug.statistics(ref, "get")
    assert counts is not None
    assert (counts["messages_in"], counts["messages_out"]) == (2, 1)


# ---- log


def test_the_log_keeps_events_in_their_order(me: Any) -> None:
    """What came in and what it made of it, with the state after each. SYS-15."""
    ref = Account.start(0)
    assert debug.log(ref, True) is None
    call(ref, ("add", 1))
    cast(ref, ("add", 2))
    process.send(ref, "message")
    events = debug.get_log(ref)
    sender = events[0][1][2]
    assert sender.ref is me.ref
    assert events == [
        ("in", ("call", ("add", 1), sender)),
        ("out", 1, sender, 1),
        ("in", ("cast", ("add", 2))),
        ("noreply", 3),
        ("in", ("info", "message")),
        ("noreply", 3),
    ]


def test_the_log_keeps_the_last_events_only() -> None:
    """Ten unless told otherwise; a smaller log drops the oldest, a larger one keeps all. SYS-16."""
    ref = Account.start(0)
    debug.log(ref, True)
    for _ in range(6):
        cast(ref, ("add", 1))
    assert len(debug.get_log(ref)) == 10
    debug.log(ref, 2)
    assert debug.get_log(ref) == [("in", ("cast", ("add", 1))), ("noreply", 6)]
    debug.log(ref, 3)
    cast(ref, ("add", 1))
    assert debug.get_log(ref) == [("noreply", 6), ("in", ("cast", ("add", 1))), ("noreply", 7)]
    assert debug.log(ref, False) is None
    assert debug.get_log(ref) == []
    debug.log(ref, True)
    assert debug.get_log(ref) == []


def test_the_log_shows_what_a_continue_did() -> None:
    """Work that no message started is an event of its own. SYS-15."""
    ref = Doer.start(lambda _: Ok(0))
    debug.log(ref, True)
    call(ref, lambda _: Reply("ok", Continue("rest")))
    kinds = [event[0] for event in debug.get_log(ref)]
    assert kinds == ["in", "out", "continue", "noreply"]
    assert debug.get_log(ref)[2] == ("continue", "rest")


# ---- trace


def test_a_trace_is_one_line_for_each_event(me: Any, log_events: Any) -> None:
    """Who came with what, what was sent to whom, and the state that it left. SYS-17."""
    ref = Account.start(0, name="account")
    assert debug.trace(ref, True) is None
    call(ref, ("add", 1))
    cast(ref, ("add", 2))
    process.send(ref, "message")
    debug.trace(ref, False)
    call(ref, "get")
    assert [event for event in log_events if event["event"] == "trace"] == [
        {"event": "trace", "log_level": "info", "process": "account", "line": line}
        for line in (
            f"got call ('add', 1) from {me.ref!r}",
            f"sent 1 to {me.ref!r}, new state 1",
            "got cast ('add', 2)",
            "new state 3",
            "got 'message'",
            "new state 3",
        )
    ]


def test_a_trace_hides_what_format_status_hides(log_events: Any) -> None:
    """A trace is a log, and what must not be logged is not in it. SYS-17, SYS-24."""
    ref = Vault.start(41)
    debug.trace(ref, True)
    call(ref, ("add", 1))
    debug.trace(ref, False)
    lines = [event["line"] for event in log_events if event["event"] == "trace"]
    assert lines == [
        "got call ('add', 1) from a plain thread",
        "sent 42 to a plain thread, new state 'hidden'",
    ]


def test_a_trace_that_cannot_be_written_ends(log_events: Any) -> None:
    """What cannot be shown must not bring down what is looked at. SYS-17."""

    class Shy:
        def __repr__(self) -> str:
            raise Oops

    ref = Account.start(0)
    debug.trace(ref, True)
    process.send(ref, Shy())
    assert call(ref, "get") == 0
    assert debug.get_status(ref)["debug"]["trace"] is False
    assert [event["event"] for event in log_events] == ["debug_function_failed"]


# ---- installed functions


def test_an_installed_function_is_called_with_each_event(me: Any) -> None:
    """Its answer is its next state; info says which server it is. SYS-18."""
    calls: list[Any] = []

    def count(state: int, event: Any, info: Any) -> int:
        calls.append((state, event[0], info))
        return state + 1

    ref = Account.start(0, name="account")
    assert debug.install("account", count, 1) is None
    call(ref, ("add", 1))
    cast(ref, ("add", 1))
    debug.get_state(ref)
    assert calls == [
        (1, "in", "account"),
        (2, "out", "account"),
        (3, "in", "account"),
        (4, "noreply", "account"),
    ]


def test_an_installed_function_of_a_nameless_server_gets_its_ref() -> None:
    """A function installed in many servers tells them apart. SYS-18."""
    seen: list[Any] = []
    ref = Account.start(0)
    debug.install(ref, lambda state, event, info: seen.append(info), None)
    process.send(ref, "message")
    debug.get_state(ref)
    assert seen == [ref, ref]


def test_an_installed_function_goes_when_it_says_done(log_events: Any) -> None:
    """A trap that has gone off takes itself out. SYS-18."""
    seen: list[Any] = []

    def trap(state: Any, event: Any, info: Any) -> Any:
        seen.append(event)
        return "done" if event == ("in", ("cast", ("add", 2))) else state

    ref = Account.start(0)
    debug.install(ref, trap, None)
    for amount in (1, 2, 3):
        cast(ref, ("add", amount))
    assert debug.get_state(ref) == 6
    assert seen == [
        ("in", ("cast", ("add", 1))),
        ("noreply", 1),
        ("in", ("cast", ("add", 2))),
    ]
    assert debug.get_status(ref)["debug"]["installed"] == []
    assert log_events == []


@pytest.mark.parametrize("error", [Oops(), SystemExit(1)])
def test_an_installed_function_that_raises_goes_and_harms_nobody(
    log_events: Any, error: BaseException
) -> None:
    """The server and the other functions go on; the log says why this one is silent. SYS-18."""
    seen: list[Any] = []

    def faulty(state: Any, event: Any, info: Any) -> Any:
        raise error

    ref = Account.start(0, name="account")
    debug.install(ref, faulty, None)
    debug.install(ref, lambda state, event, info: seen.append(event[0]), None)
    cast(ref, ("add", 1))
    assert call(ref, "get") == 1
    assert seen == ["in", "noreply", "in", "out"]
    (event,) = log_events
    assert event["event"] == "debug_function_failed"
    assert event["process"] == "account"
    assert "faulty" in event["function"]
    assert event["exc_info"] is error


def test_installing_a_function_twice_is_installing_it_once() -> None:
    """A function is known by what it is; other functions run beside it. SYS-19."""
    seen: list[Any] = []

    class Watcher:
        def first(self, state: Any, event: Any, info: Any) -> Any:
            seen.append(("first", state, event[0]))
            return state

        def second(self, state: Any, event: Any, info: Any) -> Any:
            seen.append(("second", state, event[0]))
            return state

    watcher = Watcher()
    ref = Account.start(0)
    debug.install(ref, watcher.first, 1)
    debug.install(ref, watcher.first, 2)
    debug.install(ref, watcher.second, 3)
    cast(ref, ("add", 1))
    debug.get_state(ref)
    assert seen == [
        ("first", 1, "in"),
        ("second", 3, "in"),
        ("first", 1, "noreply"),
        ("second", 3, "noreply"),
    ]

    seen.clear()
    assert debug.remove(ref, watcher.first) is None
    debug.remove(ref, watcher.first)
    cast(ref, ("add", 1))
    debug.get_state(ref)
    assert seen == [("second", 3, "in"), ("second", 3, "noreply")]


def test_no_debug_switches_everything_off(log_events: Any) -> None:
    """One call, and the server is as fast as before. SYS-19."""
    seen: list[Any] = []
    ref = Account.start(0)
    debug.statistics(ref, True)
    debug.log(ref, True)
    debug.trace(ref, True)
    debug.install(ref, lambda state, event, info: seen.append(event), None)
    assert debug.no_debug(ref) is None
    call(ref, "get")
    assert debug.statistics(ref, "get") is None
    assert debug.get_log(ref) == []
    assert (seen, log_events) == ([], [])


def test_a_stop_with_a_reply_sends_it_out_as_the_last_event() -> None:
    """The answer of a server that ends is an answer; it leaves after `terminate`. SYS-18."""
    events: list[Any] = []
    ref = Account.start(7)
    debug.install(ref, lambda state, event, info: events.append(event), None)
    assert call(ref, ("close", "normal")) == "bye"
    exit_of(ref)
    sender = events[0][1][2]
    assert events == [
        ("in", ("call", ("close", "normal"), sender)),
        ("out", "bye", sender, 7),
    ]


def test_a_server_that_its_debug_function_killed_handles_nothing_more(log_events: Any) -> None:
    """Dead is dead: the message that was looked at is not handled any more. SYS-18."""
    journal = Journal()
    ref = Doer.start(journal=journal)
    debug.install(ref, lambda state, event, info: process.exit(ref, "kill"), None)
    with pytest.raises(CallExit) as raised:
        call(ref, lambda _: journal("handled"))
    assert raised.value.reason == "killed"
    assert journal.take() == []
    assert log_events == []


# ---- terminate


def test_terminate_ends_a_server_with_the_reason(me: Any) -> None:
    """`terminate` runs with it, and everybody is told it. SYS-20."""
    journal = Journal()
    ref = Doer.start(journal=journal)
    watch = process.monitor(ref)
    assert debug.terminate(ref, ("shutdown", "by hand")) is None
    assert not process.is_alive(ref)
    down = me.receive(timeout=WAIT)
    assert (down.monitor, down.reason) == (watch, ("shutdown", "by hand"))
    assert journal.take() == [("terminate", ("shutdown", "by hand"))]


def test_terminate_ends_a_plain_process_as_well(me: Any) -> None:
    """A process that is no server can be asked to end all the same. SYS-20."""
    ref = Process.start()
    process.monitor(ref)
    debug.terminate(ref, "shutdown")
    assert me.receive(timeout=WAIT).reason == "shutdown"


# ---- whom one cannot look into

# Every function with the arguments that it needs.
CALLS: dict[str, Any] = {
    "get_state": lambda ref: debug.get_state(ref),
    "replace_state": lambda ref: debug.replace_state(ref, lambda state: state),
    "get_status": lambda ref: debug.get_status(ref),
    "suspend": lambda ref: debug.suspend(ref),
    "resume": lambda ref: debug.resume(ref),
    "terminate": lambda ref: debug.terminate(ref, "normal"),
    "statistics": lambda ref: debug.statistics(ref, True),
    "trace": lambda ref: debug.trace(ref, True),
    "log": lambda ref: debug.log(ref, True),
    "get_log": lambda ref: debug.get_log(ref),
    "install": lambda ref: debug.install(ref, lambda state, event, info: state, None),
    "remove": lambda ref: debug.remove(ref, print),
    "no_debug": lambda ref: debug.no_debug(ref),
}


def test_the_list_of_calls_is_complete() -> None:
    """The tests below speak for every function of the file."""
    assert set(CALLS) == set(debug.__all__)


@pytest.mark.parametrize("name", CALLS)
def test_the_dead_and_the_unknown_are_nobody(name: str) -> None:
    """A debugger is told at once that nobody is there, for a ref and for a name. SYS-01."""
    ref = Account.start(0)
    stop(ref)
    for nobody in (ref, "nobody"):
        with pytest.raises(NoProcess) as raised:
            CALLS[name](nobody)
        assert raised.value.reason == "noproc"


@pytest.mark.parametrize("name", CALLS)
def test_a_server_cannot_debug_itself(name: str) -> None:
    """It would wait for itself; it is told so, and goes on. SYS-01."""
    ref = Doer.start()

    def try_it(server: Any) -> Any:
        with pytest.raises(CallingSelf):
            CALLS[name](server.actor_ref)
        return Reply("refused")

    assert call(ref, try_it) == "refused"


@pytest.mark.parametrize("name", sorted(set(CALLS) - {"terminate"}))
def test_a_plain_process_is_refused_at_once(name: str) -> None:
    """Only servers take system messages; a plain actor must not get them as mail, nor hang us."""
    received: list[Any] = []

    class Plain(Process):
        def on_receive(self, message: Any) -> Any:
            received.append(message)

    ref = Plain.start()
    with pytest.raises(TypeError, match="expected a GenServer"):
        CALLS[name](ref)
    assert ref.ask("alive?", timeout=WAIT) is None
    assert received == ["alive?"]


def test_an_attached_thread_is_refused_at_once(me: Any) -> None:
    """A thread that is a process for a while handles no messages by itself."""
    ref = Account.start(0)
    with pytest.raises(CallExit, match="expected a GenServer") as raised:
        debug.replace_state(ref, lambda _: debug.get_state(me.ref))
    assert isinstance(raised.value.reason[1], TypeError)


@pytest.mark.parametrize("wrong", [None, 7, object()])
def test_what_is_no_process_is_refused(wrong: Any) -> None:
    """A wrong argument is the caller's mistake, and not a missing process."""
    with pytest.raises(TypeError, match="expected a ref, a name or a Via"):
        debug.get_state(wrong)


@pytest.mark.parametrize(
    ("error", "wrong"),
    [
        (ValueError, lambda ref: debug.get_state(ref, timeout=-1)),
        (ValueError, lambda ref: debug.get_state(ref, timeout="5")),
        (ValueError, lambda ref: debug.statistics(ref, "on")),
        (ValueError, lambda ref: debug.statistics(ref, 1)),
        (ValueError, lambda ref: debug.trace(ref, "on")),
        (ValueError, lambda ref: debug.trace(ref, 1)),
        (ValueError, lambda ref: debug.log(ref, 0)),
        (ValueError, lambda ref: debug.log(ref, -2)),
        (ValueError, lambda ref: debug.log(ref, "all")),
        (TypeError, lambda ref: debug.replace_state(ref, 5)),
        (TypeError, lambda ref: debug.install(ref, "trap", None)),
    ],
)
def test_wrong_arguments_are_refused_in_the_caller(error: Any, wrong: Any) -> None:
    """The caller's mistake is the caller's error; the server never hears of it."""
    ref = Account.start(0)
    with pytest.raises(error, match="^expected "):
        wrong(ref)
    assert debug.get_status(ref)["debug"] == {
        "statistics": None,
        "log": None,
        "trace": False,
        "installed": [],
    }


def test_a_server_that_ends_before_it_answers_fails_the_debugger() -> None:
    """The debugger gets the server's reason, as every caller does. SYS-02."""
    gate = Gate()
    ref = Doer.start()
    cast(ref, lambda _: gate())
    gate.reached()
    reasons: list[Any] = []

    def look() -> None:
        with pytest.raises(CallExit) as raised:
            debug.get_state(ref)
        reasons.append(raised.value.reason)

    looker = threading.Thread(target=look, daemon=True)
    looker.start()
    wait_queued(ref, 1)
    process.exit(ref, "kill")
    looker.join(WAIT)
    gate.open()
    assert reasons == ["killed"]


def test_a_debugger_that_dies_while_it_waits_is_gone_at_once(me: Any) -> None:
    """Waiting in debug is a library wait like any other: a kill ends it. SYS-02."""
    gate, standing = Gate(), Gate()
    busy = Doer.start()
    cast(busy, lambda _: gate())
    gate.reached()

    def look(server: Any) -> None:
        standing()
        debug.get_state(busy, timeout=None)

    debugger = Doer.start()
    process.monitor(debugger)
    cast(debugger, look)
    standing.reached()
    standing.open()
    wait_queued(busy, 1)
    process.exit(debugger, "kill")
    assert me.receive(timeout=WAIT).reason == "killed"
    gate.open()
    assert debug.get_state(busy) is None


def test_statistics_do_not_count_continues() -> None:
    """A continue is no message: nobody sent it. SYS-14."""
    ref = Doer.start()
    debug.statistics(ref, True)
    call(ref, lambda server: Reply(1, then=Continue("next")))
    counted = debug.statistics(ref, "get")
    assert (counted["messages_in"], counted["messages_out"]) == (1, 1)
