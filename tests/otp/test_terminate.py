"""When terminate runs, with which reason and state; and what stop gives its caller."""

from __future__ import annotations

import threading

import pytest

from elsa_actors import (
    CallExit,
    CallingSelf,
    CallTimeout,
    Continue,
    Down,
    Exit,
    GenServer,
    NoProcess,
    NoReply,
    Ok,
    ProcessExit,
    Reply,
    Stop,
    Supervisor,
    call,
    cast,
    process,
    send_request,
    stop,
)
from elsa_actors.otp import debug
from elsa_actors.runtime.names import Named
from elsa_actors.runtime.process import Process
from tests.servers import WAIT, Child, Doer, Gate, Journal, Oops, in_thread, nothing_comes


class Teller(Doer):
    """A Doer that also writes down the state with which it terminates."""

    def terminate(self, reason):
        self.journal("terminate", reason, self.state)


class Bare(GenServer):
    """A server without a terminate of its own; does what it is told."""

    def handle_cast(self, request):
        return request(self)


def end_of(ref, act):
    """The reason with which a process ends when ``act`` is done; the running process watches."""
    watch = process.monitor(ref)
    act()
    return process.receive(
        lambda message: isinstance(message, Down) and message.monitor is watch, WAIT
    ).reason


def within(ref, function):
    """What this function gives inside that process."""
    return call(ref, lambda server: Reply(function()), timeout=WAIT)


def eventually(fact):
    """Wait until something that nobody announces is so."""
    pause = threading.Event()
    for _ in range(int(WAIT / 0.01)):
        if fact():
            return True
        pause.wait(0.01)
    return False


def family(journal, trap):
    """A parent, started by nobody's link, and the server that it start_linked."""
    parent = Doer.start()
    return parent, within(parent, lambda: Doer.start_link(None, journal, trap))


def raise_oops(server=None):
    raise Oops


CALLBACKS = {
    "call": send_request,
    "cast": cast,
    "info": process.send,
    "continue": lambda ref, act: cast(ref, lambda server: NoReply(Continue(act))),
}
every_callback = pytest.mark.parametrize("way", CALLBACKS.values(), ids=CALLBACKS.keys())


# ---- the reason and the state that terminate is given


@every_callback
def test_stop_from_a_callback_terminates_with_the_new_state(me, way):
    """What the callback did counts: terminate sees the state it left. TERM-01."""
    journal = Journal()
    server = Teller.start(lambda server: Ok("old"), journal)

    def change_and_stop(server):
        server.state = "new"
        return Stop("done")

    assert end_of(server, lambda: way(server, change_and_stop)) == "done"
    assert journal.events == [("terminate", "done", "new")]


@every_callback
def test_raise_in_a_callback_terminates_with_the_old_state(me, way):
    """A callback that broke off half way has no new state: terminate sees the one before.

    TERM-02.
    """
    journal = Journal()
    server = Teller.start(lambda server: Ok("old"), journal)

    def change_and_raise(server):
        server.state = "half done"
        raise Oops

    reason = end_of(server, lambda: way(server, change_and_raise))
    assert isinstance(reason, Oops)
    assert journal.events == [("terminate", reason, "old")]


@pytest.mark.parametrize("reason", ["boom", "normal", "shutdown", ("shutdown", 1)])
@every_callback
def test_exit_self_in_a_callback_terminates_with_the_bare_reason(me, way, reason):
    """Leaving by exit_self is no crash: the reason comes as it was given. TERM-03, TERM-04."""
    journal = Journal()
    server = Teller.start(lambda server: Ok("old"), journal)

    def change_and_exit(server):
        server.state = "half done"
        process.exit_self(reason)

    assert end_of(server, lambda: way(server, change_and_exit)) == reason
    assert journal.events == [("terminate", reason, "old")]


@every_callback
def test_wrong_answer_terminates_with_bad_return_value(me, way):
    """A callback that answers what no callback may is wrong, and the value says how. TERM-05."""
    journal = Journal()
    server = Teller.start(lambda server: Ok("old"), journal)
    reason = ("bad_return_value", "nonsense")
    assert end_of(server, lambda: way(server, lambda server: "nonsense")) == reason
    assert journal.events == [("terminate", reason, "old")]


def test_raise_in_a_continue_terminates_with_the_state_that_it_was_given(me):
    """The callback before had returned: its state is the old one of the continue. TERM-06."""
    journal = Journal()
    server = Teller.start(lambda server: Ok("old"), journal)

    def change_and_go_on(server):
        server.state = "new"
        return NoReply(Continue(raise_oops))

    reason = end_of(server, lambda: cast(server, change_and_go_on))
    assert isinstance(reason, Oops)
    assert journal.events == [("terminate", reason, "new")]


def test_server_without_terminate_ends_with_the_same_reasons(me, log_events):
    """terminate is an offer, not a duty. TERM-23."""
    assert end_of(server := Bare.start(), lambda: stop(server)) == "normal"
    assert end_of(server := Bare.start(), lambda: stop(server, "shutdown")) == "shutdown"
    assert end_of(server, lambda: None) == "noproc"
    server = Bare.start()
    assert end_of(server, lambda: cast(server, lambda server: Stop("done"))) == "done"
    server = Bare.start()
    assert isinstance(end_of(server, lambda: cast(server, raise_oops)), Oops)
    assert [event["event"] for event in log_events] == ["process_crashed", "process_crashed"]


# ---- terminate itself fails, or does things


class Clumsy(Doer):
    """Its label is what it does in terminate."""

    def terminate(self, reason):
        self.journal("terminate", reason)
        return self.label()


def clumsy(act):
    return Clumsy.start(None, None, False, act)


def test_raise_in_terminate_is_the_reason(me):
    """A server that fails to clean up has crashed, whatever it wanted to end with. TERM-19."""
    server = clumsy(raise_oops)
    assert isinstance(end_of(server, lambda: cast(server, lambda server: Stop("normal"))), Oops)


def test_raise_in_terminate_hides_the_raise_before(me):
    """The last error is the one that ended it. TERM-22."""

    def raise_anew():
        raise ValueError("from terminate")

    server = clumsy(raise_anew)
    assert isinstance(end_of(server, lambda: cast(server, raise_oops)), ValueError)


def test_undefined_name_in_terminate_is_not_hidden(me):
    """A server that has a terminate with a mistake in it is not one without. TERM-24."""
    server = clumsy(lambda: undefined_name)  # type: ignore[name-defined] # noqa: F821
    assert isinstance(end_of(server, lambda: cast(server, lambda server: Stop("r"))), NameError)


def test_exit_self_in_terminate_is_the_reason(me):
    """terminate may still choose another reason. TERM-20."""
    server = clumsy(lambda: process.exit_self("x"))
    assert end_of(server, lambda: cast(server, lambda server: Stop("r"))) == "x"


def test_answer_of_terminate_is_ignored(me):
    """terminate is the last word, there is nothing left to decide. TERM-21."""
    server = clumsy(lambda: Stop("other"))
    assert end_of(server, lambda: cast(server, lambda server: Stop("r"))) == "r"


def test_terminate_runs_in_the_server_and_may_call_others(me):
    """Cleaning up often means telling a neighbour. TERM-32."""
    neighbour = Doer.start()
    seen = Journal()

    def tell_neighbour():
        seen(process.current(), call(neighbour, lambda server: Reply("noted")))

    server = clumsy(tell_neighbour)
    assert end_of(server, lambda: cast(server, lambda server: Stop("r"))) == "r"
    assert seen.events == [(server, "noted")]


def test_server_is_alive_and_has_its_name_while_it_terminates(me):
    """Its end is told when it has cleaned up, not before: a successor would meet its rubbish."""
    gate = Gate()
    server = Clumsy.start(None, None, False, gate, name="slow_leaver")
    watch = process.monitor(server)
    cast(server, lambda server: Stop("done"))
    gate.reached()
    assert process.whereis("slow_leaver") is server
    assert nothing_comes(Down)
    gate.open()
    assert process.receive(Down, WAIT) == Down(watch, server, "done")
    assert process.whereis("slow_leaver") is None


def test_kill_while_terminating_ends_it_as_killed(me):
    """terminate is no shelter; what it would have ended with does not count any more."""
    gate = Gate()
    server = clumsy(gate)
    watch = process.monitor(server)
    process.link(server)
    cast(server, lambda server: Stop("done"))
    gate.reached()
    process.exit(server, "kill")
    assert process.receive(Down, 0) == Down(watch, server, "killed")
    gate.open()
    assert process.receive(Exit, WAIT) == Exit(server, "killed")
    assert nothing_comes()


# ---- the parent's end


ENDS = ["normal", "shutdown", ("shutdown", "x"), "boom"]


@pytest.mark.parametrize("reason", ENDS)
def test_trapping_server_terminates_when_its_parent_ends(me, reason):
    """Without its parent a server has no purpose, even if that ended normally; handle_info
    hears nothing of it. TERM-08, TERM-09.
    """
    journal = Journal()
    parent, server = family(journal, trap=True)
    assert end_of(server, lambda: cast(parent, lambda parent: Stop(reason))) == reason
    assert journal.events == [("terminate", reason)]


@pytest.mark.parametrize("trap", [True, False])
def test_killed_parent_is_killed_for_its_server(me, trap):
    """ "kill" is a signal, "killed" is what others hear: only who traps can clean up. TERM-12,
    TERM-08, TERM-11.
    """
    journal = Journal()
    parent, server = family(journal, trap)
    assert end_of(server, lambda: process.exit(parent, "kill")) == "killed"
    assert journal.events == ([("terminate", "killed")] if trap else [])


def test_server_that_does_not_trap_outlives_a_normal_end_of_its_parent(me):
    """A normal end harms nobody who does not ask to hear of it. TERM-10."""
    journal = Journal()
    parent, server = family(journal, trap=False)
    assert end_of(parent, lambda: stop(parent)) == "normal"
    assert within(server, lambda: "alive") == "alive"
    assert journal.events == []


@pytest.mark.parametrize("reason", ["boom", "shutdown", ("shutdown", "x")])
def test_server_that_does_not_trap_dies_with_its_parent(me, reason):
    """It dies where it stands, and terminate does not run. TERM-11."""
    journal = Journal()
    parent, server = family(journal, trap=False)
    assert end_of(server, lambda: cast(parent, lambda parent: Stop(reason))) == reason
    assert journal.events == []


@pytest.mark.parametrize("reason", [*ENDS])
def test_exit_signal_sent_by_the_parent_counts_as_the_parents_end(me, reason):
    """A supervisor asks its children to stop by a signal, and is not dead itself. TERM-13."""
    journal = Journal()
    parent, server = family(journal, trap=True)
    assert end_of(server, lambda: within(parent, lambda: process.exit(server, reason))) == reason
    assert journal.events == [("terminate", reason)]
    # "normal" and the rest end the parent too or not, as a link always does.
    assert process.is_alive(parent) is (reason == "normal")


def test_parent_of_a_started_thread_is_the_attached_process(me):
    """Who start_links is the parent, an attached thread as well. TERM-13, TERM-08."""
    journal = Journal()
    server = Doer.start_link(None, journal, True)
    assert end_of(server, lambda: process.exit(server, "shutdown")) == "shutdown"
    assert journal.events == [("terminate", "shutdown")]


def test_exit_signal_of_a_stranger_is_information(me):
    """Only the parent decides on its child's end; a stranger's signal can be looked at. TERM-14."""
    journal = Journal()
    _, server = family(journal, trap=True)
    for reason in ("normal", "shutdown", "boom"):
        process.exit(server, reason)
    assert within(server, lambda: "alive") == "alive"
    assert journal.events == [
        ("info", Exit(me.ref, reason)) for reason in ("normal", "shutdown", "boom")
    ]


def test_exit_signal_of_a_plain_thread_is_information_from_nobody():
    """A plain thread has no ref, and a server without a parent takes it for none. TERM-14."""
    journal = Journal()
    server = Doer.start(None, journal, True)
    process.exit(server, "boom")
    assert within(server, lambda: "alive") == "alive"
    assert journal.events == [("info", Exit(None, "boom"))]


@pytest.mark.parametrize("reason", ENDS)
def test_end_of_a_linked_process_that_is_no_parent_is_information(me, reason):
    """A trapping server looks after its neighbours and goes on. TERM-15."""
    journal = Journal()
    _, server = family(journal, trap=True)
    peer = Doer.start()
    within(server, lambda: process.link(peer))
    assert end_of(peer, lambda: cast(peer, lambda peer: Stop(reason))) == reason
    assert within(server, lambda: "alive") == "alive"
    assert journal.events == [("info", Exit(peer, reason))]


def test_who_starts_without_a_link_is_no_parent(me):
    """start makes no parent: the starter's signal is anybody's signal. TERM-25."""
    journal = Journal()
    starter = Doer.start()
    server = within(starter, lambda: Doer.start(None, journal, True))
    within(starter, lambda: process.exit(server, "boom"))
    assert within(server, lambda: "alive") == "alive"
    assert journal.events == [("info", Exit(starter, "boom"))]


def test_link_made_later_makes_no_parent(me):
    """A parent is who start_linked, not whoever is linked. TERM-25, TERM-15."""
    journal = Journal()
    starter = Doer.start()
    server = within(starter, lambda: Doer.start(None, journal, True))
    within(starter, lambda: process.link(server))
    assert end_of(starter, lambda: cast(starter, lambda starter: Stop("boom"))) == "boom"
    assert within(server, lambda: "alive") == "alive"
    assert journal.events == [("info", Exit(starter, "boom"))]


def test_unlinked_parent_is_still_the_parent(me):
    """Unlinking says who hears of ends, not whose child one is. TERM-13."""
    journal = Journal()
    parent, server = family(journal, trap=True)
    within(parent, lambda: process.unlink(server))
    assert end_of(server, lambda: within(parent, lambda: process.exit(server, "bye"))) == "bye"
    assert journal.events == [("terminate", "bye")]


def test_server_without_a_parent_is_its_own(me):
    """A trapping server that sends itself a signal means it. TERM-26."""
    journal = Journal()
    server = Doer.start(None, journal, True)
    reason = end_of(server, lambda: within(server, lambda: process.exit(server, "normal")))
    assert reason == "normal"
    assert journal.events == [("terminate", "normal")]


# ---- exit signals


@pytest.mark.parametrize("trap", [True, False])
def test_kill_ends_a_server_without_terminate(me, trap):
    """A kill is for servers that cannot be asked any more. TERM-16."""
    journal = Journal()
    server = Doer.start(None, journal, trap)
    assert end_of(server, lambda: process.exit(server, "kill")) == "killed"
    assert journal.events == []


@pytest.mark.parametrize("reason", ["foo", "shutdown", ("shutdown", 1)])
def test_exit_signal_ends_what_does_not_trap_without_terminate(me, reason):
    """What must clean up has to trap. TERM-17."""
    journal = Journal()
    server = Doer.start(None, journal, False)
    assert end_of(server, lambda: process.exit(server, reason)) == reason
    assert journal.events == []


def test_normal_signal_of_a_stranger_is_ignored(me):
    """Nobody ends another process normally. TERM-18."""
    journal = Journal()
    server = Doer.start(None, journal, False)
    process.exit(server, "normal")
    assert within(server, lambda: "alive") == "alive"
    assert journal.events == []


def test_trapping_can_be_switched_while_running(me):
    """The flag is the running process's own; the old value comes back, the new one holds at once.

    TERM-31.
    """
    journal = Journal()
    server = Doer.start(None, journal, False)
    assert within(server, lambda: process.trap_exit(True)) is False
    process.exit(server, "one")
    assert within(server, lambda: process.trap_exit(True)) is True
    assert journal.events == [("info", Exit(me.ref, "one"))]
    assert within(server, lambda: process.trap_exit(False)) is True
    assert end_of(server, lambda: process.exit(server, "two")) == "two"


def test_trapping_holds_within_the_very_callback(me):
    """What is switched on is on, not from the next message on. TERM-31."""
    journal, gate = Journal(), Gate()
    server = Doer.start(None, journal, False)

    def trap_and_wait(server):
        process.trap_exit(True)
        gate()

    cast(server, trap_and_wait)
    gate.reached()
    process.exit(server, "boom")
    gate.open()
    assert within(server, lambda: "alive") == "alive"
    assert journal.events == [("info", Exit(me.ref, "boom"))]


# ---- under a supervisor


def supervised(shutdown, trap, journal):
    spec = {"id": "c", "start": (Child, "start_link", ["c", journal, trap]), "shutdown": shutdown}
    supervisor = Supervisor.start_link([{**spec, "restart": "temporary"}])
    child = Supervisor.which_children(supervisor)[0].child
    journal.take()
    return supervisor, child


@pytest.mark.parametrize("shutdown", [WAIT, "infinity"])
def test_supervisor_gives_a_trapping_child_its_time(me, shutdown):
    """It is asked to stop, and cleans up. TERM-27."""
    journal = Journal()
    supervisor, child = supervised(shutdown, True, journal)
    assert end_of(child, lambda: Supervisor.terminate_child(supervisor, "c")) == "shutdown"
    assert journal.events == [("term", "c", "shutdown")]


@pytest.mark.parametrize("shutdown", [WAIT, "infinity"])
def test_supervisor_ends_what_does_not_trap_at_once(me, shutdown):
    """terminate runs only in children that trap. TERM-28."""
    journal = Journal()
    supervisor, child = supervised(shutdown, False, journal)
    assert end_of(child, lambda: Supervisor.terminate_child(supervisor, "c")) == "shutdown"
    assert journal.events == []


@pytest.mark.parametrize("trap", [True, False])
def test_brutal_kill_leaves_no_time(me, trap):
    """The word says it. TERM-29."""
    journal = Journal()
    supervisor, child = supervised("brutal_kill", trap, journal)
    assert end_of(child, lambda: Supervisor.terminate_child(supervisor, "c")) == "killed"
    assert journal.events == []


@pytest.mark.parametrize("trap", [True, False])
def test_children_of_a_killed_supervisor_end_as_killed(me, trap):
    """No child outlives its supervisor for long; who traps cleans up first. TERM-30."""
    journal = Journal()
    supervisor, child = supervised(WAIT, trap, journal)
    assert end_of(child, lambda: process.exit(supervisor, "kill")) == "killed"
    assert journal.events == ([("term", "c", "killed")] if trap else [])


# ---- stop


@pytest.mark.parametrize("trap", [True, False])
def test_stop_returns_when_the_server_has_terminated_and_is_dead(me, trap):
    """Whoever stopped a server may start its successor at once; trapping is not needed for
    terminate. STOP-01, TERM-07.
    """
    journal = Journal()
    server = Doer.start(None, journal, trap, name="stopped")
    watch = process.monitor(server)
    assert stop(server) is None
    assert journal.events == [("terminate", "normal")]
    assert not process.is_alive(server)
    assert process.whereis("stopped") is None
    assert process.receive(Down, 0) == Down(watch, server, "normal")


@pytest.mark.parametrize("reason", ["other", "shutdown", ("shutdown", {"a": 1}), 7])
def test_stop_with_a_reason_ends_with_that_reason(me, reason):
    """The reason asked for is no failure. STOP-02."""
    journal = Journal()
    server = Doer.start(None, journal)
    assert end_of(server, lambda: stop(server, reason, None)) == reason
    assert journal.events == [("terminate", reason)]


def test_stop_with_an_exception_as_reason_is_no_failure(me):
    """An exception is equal to itself, and it is what was asked for. STOP-02."""
    server, error = Doer.start(), Oops()
    assert end_of(server, lambda: stop(server, error)) is error


def test_what_is_queued_before_stop_is_handled_first(me):
    """stop stands in line: no request that came before it is lost. STOP-03."""
    journal, gate = Journal(), Gate()
    server = Doer.start(None, journal)
    cast(server, lambda server: gate())
    gate.reached()
    asked = send_request(server, lambda server: (journal("call"), Reply("answered"))[1])
    cast(server, lambda server: journal("cast"))
    process.send(server, "info")
    stopper = Doer.start()
    stopping = send_request(stopper, lambda stopper: Reply(stop(server)))
    assert eventually(lambda: process.info(server)["message_queue_len"] == 4)
    cast(server, lambda server: journal("too late"))
    gate.open()
    assert stopping.receive(WAIT) is None
    assert asked.receive(0) == "answered"
    assert journal.events == ["call", "cast", ("info", "info"), ("terminate", "normal")]


def test_stop_that_takes_too_long_fails_and_the_server_still_stops(me):
    """The caller has a life of its own; its wish stays in the queue. STOP-04."""
    journal, gate = Journal(), Gate()
    server = Doer.start(None, journal)
    cast(server, lambda server: gate())
    gate.reached()
    with pytest.raises(CallTimeout) as raised:
        stop(server, timeout=0.05)
    assert raised.value.reason == "timeout"
    assert raised.value.server is server
    assert process.is_alive(server)
    assert end_of(server, gate.open) == "normal"
    assert journal.events == [("terminate", "normal")]
    assert nothing_comes()


def test_stop_that_took_too_long_leaves_nothing_behind(me):
    """A server that is stopped in vain a thousand times must not remember each of them."""
    gate = Gate()
    server = Doer.start()
    cast(server, lambda server: gate())
    gate.reached()
    for _ in range(3):
        with pytest.raises(CallTimeout):
            stop(server, timeout=0)
    ties = server._inbox.ties
    assert ties is None or not ties.watchers
    gate.open()


def test_stopper_that_died_waiting_leaves_nothing_behind(me):
    """Nor those who were killed while they waited for its end."""
    gate = Gate()
    server = Doer.start()
    cast(server, lambda server: gate())
    gate.reached()
    for _ in range(3):
        stopper = Doer.start()
        cast(stopper, lambda stopper: stop(server))
        assert eventually(lambda stopper=stopper: process.info(stopper)["status"] == "waiting")
        process.exit(stopper, "kill")
        assert eventually(stopper._inbox.is_buried)
    ties = server._inbox.ties
    assert ties is None or not ties.watchers
    gate.open()


def test_raise_in_terminate_fails_the_stop(me):
    """Whoever stops must hear that it was no clean stop. STOP-05."""
    server = clumsy(raise_oops)
    with pytest.raises(CallExit) as raised:
        stop(server)
    assert isinstance(raised.value.reason, Oops)
    assert raised.value.__cause__ is raised.value.reason


def test_exit_in_terminate_fails_the_stop_with_its_reason(me):
    """The server had the last word. STOP-06."""
    server = clumsy(lambda: process.exit_self("x"))
    with pytest.raises(CallExit) as raised:
        stop(server, "shutdown")
    assert raised.value.reason == "x"


@pytest.mark.parametrize(("asked", "given"), [(1, True), (1, 1.0), (("shutdown", 1), ("shut", 1))])
def test_stop_fails_with_what_only_looks_like_its_reason(me, asked, given):
    """Another reason is another reason."""
    server = clumsy(lambda: process.exit_self(given))
    with pytest.raises(CallExit) as raised:
        stop(server, asked)
    assert raised.value.reason is given


def test_stop_from_inside_is_refused_and_the_server_lives(me):
    """It would wait for itself for ever; Stop(reason) is the way. STOP-07."""
    server = Doer.start(name="selfish")

    def stop_myself(server):
        reasons = []
        for name in (process.current(), "selfish"):
            with pytest.raises(CallingSelf) as raised:
                stop(name)
            reasons.append(raised.value.reason)
        return Reply(reasons)

    assert call(server, stop_myself) == ["calling_self", "calling_self"]
    assert process.is_alive(server)


@pytest.mark.parametrize("reason", ["boom", "shutdown"])
def test_linked_caller_that_does_not_trap_dies_of_its_own_stop(reason):
    """A link makes no exception for the one who asked. STOP-08."""
    with process.attach() as me:
        server = Doer.start_link()
        with pytest.raises(ProcessExit) as raised:
            stop(server, reason)
        assert raised.value.reason == reason
        assert not me.ref.is_alive()


def test_linked_caller_survives_a_normal_stop():
    """A normal end harms nobody. STOP-09."""
    with process.attach() as me:
        assert stop(Doer.start_link()) is None
        assert me.ref.is_alive()


def test_linked_caller_that_traps_gets_the_exit_too(me):
    """The stop answers the caller, the link tells it as well. STOP-10."""
    server = Doer.start_link()
    assert stop(server) is None
    assert process.receive(timeout=0) == Exit(server, "normal")
    assert nothing_comes()


def test_suspended_server_can_be_stopped(me):
    """Suspended is not frozen: it leaves what it holds back, and terminates. STOP-11."""
    journal = Journal()
    server = Doer.start(None, journal)
    debug.suspend(server)
    held = send_request(server, lambda server: Reply("never"))
    assert stop(server, "done", WAIT) is None
    assert journal.events == [("terminate", "done")]
    with pytest.raises(CallExit) as raised:
        held.receive(WAIT)
    assert raised.value.reason == "done"


@pytest.mark.parametrize("timeout", [-1, -0.5, "5", float("nan"), True])
def test_wrong_timeout_is_refused_and_the_server_lives(me, timeout):
    """A wrong call must not do half of its work. STOP-12."""
    server = Doer.start()
    with pytest.raises(ValueError, match="timeout"):
        stop(server, timeout=timeout)
    assert within(server, lambda: "alive") == "alive"


class House(Named):
    """A name that something else keeps, as a Registry does."""

    kept: dict[str, object] = {}

    def __init__(self, door):
        self.door = door

    def whereis(self):
        return self.kept.get(self.door)

    def register(self, ref):
        self.kept[self.door] = ref

    def unregister(self, ref):
        del self.kept[self.door]


@pytest.mark.parametrize("name", ["stop_me", House(7)], ids=["local", "via"])
def test_stop_by_name_reaches_the_holder(me, name):
    """Every function that takes a server takes its name. STOP-13."""
    server = Doer.start(name=name)
    assert end_of(server, lambda: stop(name, "done")) == "done"


@pytest.mark.parametrize("server", ["nobody", House(8)], ids=["local", "via"])
def test_stop_of_an_unknown_name_fails(me, server):
    """There is nobody to stop, and the caller should know."""
    with pytest.raises(NoProcess) as raised:
        stop(server)
    assert (raised.value.reason, raised.value.server) == ("noproc", server)


def test_stop_of_the_dead_fails(me):
    """What ended already was not ended by this stop."""
    server = Doer.start()
    stop(server)
    with pytest.raises(NoProcess) as raised:
        stop(server)
    assert raised.value.reason == "noproc"


def test_kill_fails_a_stop_that_waits(me):
    """The server ended, but not as it was asked to."""
    gate = Gate()
    server = Doer.start()
    cast(server, lambda server: gate())
    gate.reached()
    stopper = Doer.start()
    stopping = send_request(stopper, lambda stopper: Reply(stop(server)))
    assert eventually(lambda: process.info(stopper)["status"] == "waiting")
    process.exit(server, "kill")
    with pytest.raises(CallExit) as raised:
        stopping.receive(WAIT)
    # The stopper did not catch it, and it ended by that error.
    assert isinstance(raised.value.reason, CallExit)
    assert raised.value.reason.reason == "killed"
    gate.open()


def test_many_stop_at_once_and_all_return(me):
    """One end is everybody's: nobody waits for a second one, nobody is told of a failure."""
    for _ in range(50):
        server = Doer.start()
        start_line = threading.Barrier(4)
        outcomes = []

        def stop_it(server=server, start_line=start_line, outcomes=outcomes):
            start_line.wait(WAIT)
            try:
                outcomes.append(stop(server, "done", WAIT))
            except NoProcess:
                outcomes.append("was dead")

        threads = [threading.Thread(target=stop_it) for _ in range(3)]
        for thread in threads:
            thread.start()
        start_line.wait(WAIT)
        for thread in threads:
            thread.join(WAIT)
        assert len(outcomes) == 3
        assert set(outcomes) <= {None, "was dead"}
        assert None in outcomes


class Plain(Process):
    """A plain process that writes down its end."""

    def __init__(self, journal):
        super().__init__()
        self.journal = journal

    def on_stop(self):
        self.journal("on_stop")


def test_stop_of_a_plain_process_runs_on_stop(me):
    """stop is for every process; in a plain one, on_stop is what cleans up. STOP-01, STOP-02."""
    journal = Journal()
    plain = Plain.start(journal)
    assert end_of(plain, lambda: stop(plain, "done")) == "done"
    assert journal.events == ["on_stop"]


# ---- a stop that costs no switch


class Idle(GenServer):
    """Has no terminate: there is nothing to do at its end."""

    def handle_call(self, request, sender):
        return Reply(request(self))


@pytest.mark.parametrize("reason", ["normal", "shutdown", ("shutdown", 7), "odd"])
def test_stop_of_an_idle_server_with_nothing_to_do_tells_everybody(me, reason):
    """Whichever thread it runs on: links, monitors, names and the one who stops it."""
    ref = Idle.start(name="plain.stopped")
    call(ref, lambda server: None)
    process.link(ref)
    watch = process.monitor(ref)
    stop(ref, reason)
    assert not process.is_alive(ref)
    assert process.whereis("plain.stopped") is None
    assert me.receive(Down, WAIT) == Down(watch, ref, reason)
    assert me.receive(Exit, WAIT) == Exit(ref, reason)
    assert process.current() is me.ref


def test_stop_comes_after_what_is_queued_though_the_server_has_nothing_to_do():
    """It is not idle then, and is stopped on its own thread."""
    gate, seen = Gate(), []
    ref = Idle.start()
    busy = send_request(ref, lambda server: gate())
    gate.reached()
    queued = send_request(ref, lambda server: seen.append("queued"))
    stopper, outcome = in_thread(lambda: stop(ref))
    gate.open()
    stopper.join(WAIT)
    assert outcome == [None]
    assert busy.wait(WAIT)
    assert queued.receive(WAIT) is None
    assert seen == ["queued"]


def test_stop_of_a_server_that_owns_something_closes_it_on_its_own_thread():
    """Closing may block, and must not hold up a stranger's thread for ever."""
    threads = []
    ref = Idle.start()
    call(ref, lambda server: process.own(0, lambda _: threads.append(threading.get_ident())) and 0)
    stop(ref)
    assert threads
    assert threads != [threading.get_ident()]


def test_stop_of_a_suspended_server_with_nothing_to_do():
    """As of any suspended server."""
    ref = Idle.start()
    debug.suspend(ref)
    stop(ref, timeout=WAIT)
    assert not process.is_alive(ref)


def test_many_stops_and_calls_at_once():
    """Each call is answered or fails with the reason of the end; one stop wins."""
    for _ in range(30):
        ref = Idle.start()
        call(ref, lambda server: None)

        def ask(ref=ref):
            try:
                return call(ref, lambda server: "answer")
            except CallExit as error:
                return error.reason

        def end(ref=ref):
            try:
                return stop(ref)
            except NoProcess:
                return "noproc"

        runs = [in_thread(ask), in_thread(end), in_thread(ask), in_thread(end)]
        outcomes = []
        for thread, outcome in runs:
            thread.join(WAIT)
            outcomes += outcome
        assert len(outcomes) == 4
        assert outcomes[1] is None or outcomes[3] is None
        assert {outcomes[0], outcomes[2]} <= {"answer", "normal", "noproc"}
        assert not process.is_alive(ref)


def test_stop_whose_server_ends_with_an_equal_reason_is_fine():
    """The reason is compared as a value, not as an object. STOP-02."""

    class Leaving(Doer):
        def terminate(self, reason: object) -> None:
            process.exit_self(("shutdown", int("1")))

    stop(Leaving.start(), ("shutdown", 1))


def test_leftover_stops_nobody():
    """Whose process was killed has no hand in what others do."""
    target, ref = Doer.start(), Doer.start()
    gate, seen = Gate(), Journal()

    def later(_server: Doer) -> None:
        gate()
        try:
            stop(target)
        except BaseException as error:
            seen(type(error))
            raise
        seen("stopped")

    cast(ref, later)
    gate.reached()
    process.exit(ref, "kill")
    gate.open()
    seen.wait_for(ProcessExit)
    assert process.is_alive(target)
