"""How children are stopped, how a supervisor ends, and when it ends by itself."""

import os
import subprocess
import sys
import textwrap
import time

import pytest

from elsa_actors import (
    CallExit,
    Reply,
    Stop,
    Supervisor,
    call,
    cast,
    debug,
    process,
    send_request,
)
from elsa_actors.otp.supervisor import _tops
from tests.otp.supervised import (
    Aside,
    answers,
    children,
    counts,
    crash,
    crash_doer,
    crash_together,
    kill,
    nested,
    reason_of,
    ref_of,
    settled,
    spec,
    specs,
    until,
)
from tests.servers import WAIT, Child, Doer, Gate, Journal, Oops, nothing_comes

REASONS = ["normal", "shutdown", ("shutdown", "x"), "boom"]


def ended(me, sup):
    """The reason with which the supervisor ends."""
    message = me.receive(lambda message: message.ref is sup, WAIT)
    assert not process.is_alive(sup)
    return message.reason


def significant(label, journal, **fields):
    return spec(label, journal, **{"restart": "transient", "significant": True, **fields})


# ---- auto_shutdown and significant children


def test_the_end_of_any_significant_child_ends_the_supervisor(me):
    """A group whose work is done goes away, in reverse order. SAUT-01."""
    journal = Journal()
    tree = [spec("a", journal), significant("s", journal), spec("b", journal)]
    sup = Supervisor.start_link(tree, auto_shutdown="any_significant")
    journal.take()
    crash(ref_of(sup, "s"), "normal")
    assert ended(me, sup) == "shutdown"
    assert journal.take() == [
        ("term", "s", "normal"),
        ("term", "b", "shutdown"),
        ("term", "a", "shutdown"),
    ]


@pytest.mark.parametrize("auto_shutdown", ["any_significant", "all_significant"])
def test_a_significant_child_that_fails_is_restarted(me, auto_shutdown):
    """A crash is no end of the work. SAUT-02."""
    sup = Supervisor.start_link([significant("s", Journal())], auto_shutdown=auto_shutdown)
    first = ref_of(sup, "s")
    crash(first)
    second = ref_of(sup, "s")
    kill(second)
    assert len({first, second, ref_of(sup, "s")}) == 3


@pytest.mark.parametrize("reason", [*REASONS, "killed"])
def test_any_end_of_a_temporary_significant_child_counts(me, reason):
    """It is not restarted, so its work is over however it ended. SAUT-03."""
    journal = Journal()
    tree = [spec("a", journal), significant("s", journal, restart="temporary")]
    sup = Supervisor.start_link(tree, auto_shutdown="any_significant")
    ref = ref_of(sup, "s")
    kill(ref) if reason == "killed" else crash(ref, reason)
    assert ended(me, sup) == "shutdown"
    assert journal.take()[-1] == ("term", "a", "shutdown")


@pytest.mark.parametrize("restart", ["transient", "temporary"])
def test_an_operator_may_stop_a_significant_child(me, restart):
    """terminate_child is no end of the child's own accord. SAUT-04."""
    tree = [spec("a", Journal()), significant("s", Journal(), restart=restart)]
    sup = Supervisor.start_link(tree, auto_shutdown="any_significant")
    Supervisor.terminate_child(sup, "s")
    assert process.is_alive(ref_of(sup, "a"))
    assert nothing_comes()


def test_the_last_of_all_significant_children_ends_the_supervisor(me):
    """The group goes when the last of them is done. SAUT-05."""
    journal = Journal()
    tree = [significant("s", journal), spec("a", journal), significant("t", journal)]
    sup = Supervisor.start_link(tree, auto_shutdown="all_significant")
    journal.take()
    crash(ref_of(sup, "s"), "normal")
    assert answers(sup)
    crash(ref_of(sup, "t"), "normal")
    assert ended(me, sup) == "shutdown"
    assert journal.take() == [
        ("term", "s", "normal"),
        ("term", "t", "normal"),
        ("term", "a", "shutdown"),
    ]


def test_a_significant_child_that_was_stopped_is_not_waited_for(me):
    """An operator stopped one, the other is done: nothing significant runs. SAUT-06."""
    tree = [significant("s", Journal()), significant("t", Journal())]
    sup = Supervisor.start_link(tree, auto_shutdown="all_significant")
    Supervisor.terminate_child(sup, "s")
    assert answers(sup)
    crash(ref_of(sup, "t"), "normal")
    assert ended(me, sup) == "shutdown"


def test_a_significant_child_whose_restart_is_tried_again_is_waited_for(me):
    """Its work isn't done, it only can't start just now. SAUT-05, SRST-01."""
    journal = Journal()
    tree = [
        significant("s", journal, script=["ok", "error", "ok"]),
        significant("t", journal, restart="temporary"),
    ]
    sup = Supervisor.start_link(tree, auto_shutdown="all_significant")
    crash_together(sup, "s", "t")
    assert settled(sup) == {"s": ref_of(sup, "s")}
    assert journal.take()[-2:] == [("try", "s", "ok"), ("start", "s")]
    crash(ref_of(sup, "s"), "normal")
    assert ended(me, sup) == "shutdown"


@pytest.mark.parametrize("auto_shutdown", ["never", "any_significant", "all_significant"])
@pytest.mark.parametrize("restart", ["transient", "temporary"])
def test_the_end_of_others_is_not_significant(me, auto_shutdown, restart):
    """Only who is called significant decides. SAUT-07."""
    sup = Supervisor.start_link(
        specs("ab", Journal(), restart=restart), auto_shutdown=auto_shutdown
    )
    crash(ref_of(sup, "a"), "normal")
    crash(ref_of(sup, "b"), "normal")
    assert counts(sup)[1] == 0


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
@pytest.mark.parametrize("auto_shutdown", ["any_significant", "all_significant"])
def test_a_significant_bystander_ends_nobody(me, strategy, auto_shutdown):
    """Its supervisor stopped it for a sibling's sake. SAUT-08."""
    journal = Journal()
    tree = [
        spec("a", journal),
        significant("s", journal),
        significant("t", journal, restart="temporary"),
    ]
    sup = Supervisor.start_link(tree, strategy=strategy, auto_shutdown=auto_shutdown)
    crash(ref_of(sup, "a"))
    assert children(sup) == {"a": ref_of(sup, "a"), "s": ref_of(sup, "s")}


@pytest.mark.parametrize("is_significant", [True, False])
def test_a_supervisor_that_is_done_may_be_significant_itself(me, is_significant):
    """Work that is done can close a whole tree, level by level. SAUT-09."""
    sub = nested(
        "sub",
        [significant("s", Journal())],
        {"auto_shutdown": "any_significant"},
        restart="transient",
        significant=is_significant,
    )
    sup = Supervisor.start_link([spec("a", Journal()), sub], auto_shutdown="any_significant")
    crash(ref_of(ref_of(sup, "sub"), "s"), "normal")
    if is_significant:
        assert ended(me, sup) == "shutdown"
    else:
        until(lambda: children(sup)["sub"] is None)
        assert process.is_alive(ref_of(sup, "a"))


def test_a_supervisor_never_ends_by_itself_without_being_told_to(me):
    """The default is "never": a supervisor without running children waits for new ones. SAUT-07."""
    sup = Supervisor.start_link(specs("a", Journal(), restart="temporary"))
    crash(ref_of(sup, "a"), "normal")
    assert counts(sup) == [0, 0, 0, 0]


# ---- the shutdown of a child


class Held(Child):
    """Holds at a gate in its terminate."""

    def init(self, label, journal, gate, library=True):
        self.gate, self.library = gate, library
        return super().init(label, journal)

    def terminate(self, reason):
        self.journal("stopping", self.label, reason)
        self.gate(self.library)
        super().terminate(reason)


def held(label, journal, gate, **fields):
    return {"id": label, "start": (Held, "start_link", [label, journal, gate]), **fields}


def stopped(sup, label):
    """Terminate a child; its reason, and the seconds that it took."""
    ref, start = ref_of(sup, label), time.monotonic()
    reason = reason_of(ref, Supervisor.terminate_child, sup, label)
    return reason, time.monotonic() - start


def test_a_child_that_cleans_up_in_time_ends_with_shutdown(me):
    """What traps exits gets "shutdown" and its time. SSHD-01."""
    journal = Journal()
    sup = Supervisor.start_link(specs("a", journal, shutdown=60))
    reason, took = stopped(sup, "a")
    assert reason == "shutdown"
    assert took < 30
    assert journal.take()[-1] == ("term", "a", "shutdown")


def test_a_child_that_takes_too_long_is_killed(me):
    """When the time is over the supervisor goes on without it. SSHD-02."""
    journal, gate = Journal(), Gate()
    sup = Supervisor.start_link([held("a", journal, gate, shutdown=0.1)])
    reason, took = stopped(sup, "a")
    assert reason == "killed"
    assert took >= 0.1
    assert children(sup) == {"a": None}
    assert journal.take()[-1] == ("stopping", "a", "shutdown")


def test_a_shutdown_of_no_time_kills_what_does_not_end_at_once(me):
    """0 is a time like any other. SSHD-03."""
    journal, gate = Journal(), Gate()
    sup = Supervisor.start_link([held("a", journal, gate, shutdown=0)])
    assert stopped(sup, "a")[0] == "killed"


def test_a_child_that_does_not_trap_ends_at_once(me):
    """It asked for no time, whatever its spec says; terminate does not run. SSHD-04."""
    journal, gate = Journal(), Gate()
    child = {"id": "a", "start": (Doer, "start_link", [None, journal]), "shutdown": 60}
    sup = Supervisor.start_link([child])
    cast(ref_of(sup, "a"), lambda _server: gate())
    gate.reached()
    reason, took = stopped(sup, "a")
    assert reason == "shutdown"
    assert took < 30
    gate.open()
    assert journal.take() == []


def test_infinity_waits_as_long_as_it_takes(me):
    """A supervisor under a supervisor must never be killed half-way. SSHD-05."""
    journal, gate = Journal(), Gate()
    sup = Supervisor.start_link([held("a", journal, gate, shutdown="infinity")])
    process.monitor(ref_of(sup, "a"))
    stopping = Aside(Supervisor.terminate_child, sup, "a")
    gate.reached()
    assert nothing_comes()
    assert stopping.waits()
    gate.open()
    assert stopping.answer() is None
    assert me.receive(timeout=WAIT).reason == "shutdown"
    assert journal.take()[-1] == ("term", "a", "shutdown")


@pytest.mark.parametrize("trap", [True, False])
def test_a_brutal_kill_asks_nobody(me, trap):
    """For children whose cleanup is worth nothing. SSHD-06."""
    journal = Journal()
    sup = Supervisor.start_link(specs("a", journal, trap=trap, shutdown="brutal_kill"))
    assert stopped(sup, "a")[0] == "killed"
    assert journal.take() == [("start", "a")]


def test_a_child_stuck_in_a_callback_is_killed_when_its_time_is_over(me):
    """A stuck child that traps never sees the signal; it can't hold up its supervisor. SSHD-07."""
    journal, gate = Journal(), Gate()
    child = {
        "id": "a",
        "start": (Doer, "start_link", [None, journal], {"trap": True}),
        "shutdown": 0.1,
    }
    sup = Supervisor.start_link([child])
    cast(ref_of(sup, "a"), lambda _server: gate())
    gate.reached()
    reason, took = stopped(sup, "a")
    assert reason == "killed"
    assert took >= 0.1
    gate.open()
    assert nothing_comes()
    assert journal.take() == []


def test_the_name_of_a_killed_child_is_free_for_the_next_one(me):
    """A stuck child must not stand in the way of its own restart. SSHD-07, NAME-16."""
    journal, gate = Journal(), Gate()
    named = {"name": "stuck", "trap": True}
    stuck = {"id": "b", "start": (Doer, "start_link", [None, journal], named), "shutdown": 0}
    sup = Supervisor.start_link([spec("a", journal), stuck], strategy="one_for_all", max_restarts=1)
    old = ref_of(sup, "b")
    cast(old, lambda _server: gate())
    gate.reached()
    crash(ref_of(sup, "a"))
    new = ref_of(sup, "b")
    assert new is not old
    assert process.whereis("stuck") is new
    gate.open()


def test_a_child_that_unlinked_itself_is_stopped_all_the_same(me):
    """Its end brings no signal, and the supervisor does not wait for one. SSHD-14."""
    journal = Journal()
    child = {"id": "a", "start": (Doer, "start_link", [None, journal], {"trap": True})}
    sup = Supervisor.start_link([child])
    for stop in (lambda: Supervisor.terminate_child(sup, "a"), lambda: Supervisor.stop(sup)):
        ref = ref_of(sup, "a")
        call(ref, lambda _server: process.unlink(sup))
        assert reason_of(ref, stop) == "shutdown"
        if process.is_alive(sup):
            Supervisor.restart_child(sup, "a")
    assert journal.take() == [("terminate", "shutdown")] * 2


@pytest.mark.parametrize("dies", ["before", "long before"])
def test_a_child_that_is_dead_already_is_stopped_already(me, dies):
    """Whoever is dead needs no time. SSHD-14, SADM-12."""
    sup = Supervisor.start_link([{"id": "a", "start": (Doer, "start_link", [])}])
    ref = ref_of(sup, "a")
    call(ref, lambda _server: process.unlink(sup))
    crash_doer(ref)
    if dies == "long before":
        assert counts(sup) == [1, 0, 0, 1]
    assert Supervisor.terminate_child(sup, "a") is None
    assert children(sup) == {"a": None}


@pytest.mark.parametrize("act", ["raises", "exits"])
def test_an_odd_end_in_shutdown_is_only_reported(me, log_events, act):
    """The supervisor's own reason stays what it was. SSHD-15."""

    class Odd(Child):
        def terminate(self, _reason):
            if act == "raises":
                raise Oops
            process.exit_self("odd")

    journal = Journal()
    tree = [spec("a", journal), {"id": "b", "start": (Odd, "start_link", ["b", journal])}]
    sup = Supervisor.start_link(tree)
    assert reason_of(sup, process.exit, sup, "shutdown") == "shutdown"
    assert journal.take()[-1] == ("term", "a", "shutdown")
    (report,) = [event for event in log_events if event["event"] == "child_shutdown_error"]
    assert report["child_id"] == "b"
    assert isinstance(report["reason"], Oops) if act == "raises" else report["reason"] == "odd"


# ---- the end of a supervisor


def test_children_are_stopped_one_at_a_time_in_reverse(me):
    """A child may rely on those that started before it, to its very end. SSHD-08."""
    journal, first, second = Journal(), Gate(), Gate()
    tree = [spec("a", journal), held("b", journal, first), held("c", journal, second)]
    sup = Supervisor.start_link(tree)
    journal.take()
    process.exit(sup, "shutdown")
    second.reached()
    assert nothing_comes()
    assert journal.take() == [("stopping", "c", "shutdown")]
    second.open()
    first.reached()
    assert journal.take() == [("term", "c", "shutdown"), ("stopping", "b", "shutdown")]
    first.open()
    assert ended(me, sup) == "shutdown"
    assert journal.take() == [("term", "b", "shutdown"), ("term", "a", "shutdown")]


@pytest.mark.parametrize("reason", REASONS)
def test_a_supervisor_ends_with_its_parent(me, reason):
    """Its children are shut down, and it ends with its parent's reason. SSHD-09."""
    journal = Journal()
    parent = Doer.start()
    sup = call(parent, lambda _server: Reply(Supervisor.start_link(specs("ab", journal))))
    process.monitor(sup)
    cast(parent, lambda _server: Stop(reason))
    assert me.receive(timeout=WAIT).reason == reason
    assert journal.take()[-2:] == [("term", "b", "shutdown"), ("term", "a", "shutdown")]


def test_a_supervisor_ends_with_a_killed_parent(me):
    """The parent's "killed" is a reason like any other. SSHD-09."""
    journal = Journal()
    parent = Doer.start()
    sup = call(parent, lambda _server: Reply(Supervisor.start_link(specs("a", journal))))
    assert reason_of(sup, process.exit, parent, "kill") == "killed"
    assert journal.take()[-1] == ("term", "a", "shutdown")


@pytest.mark.parametrize("reason", REASONS)
def test_stop_ends_a_supervisor_with_the_reason_given(me, reason):
    """Children are shut down, whatever the supervisor's reason; who is linked learns it.
    SSHD-10."""
    journal = Journal()
    sup = Supervisor.start_link(specs("ab", journal))
    assert Supervisor.stop(sup, reason) is None
    assert not process.is_alive(sup)
    assert journal.take()[-2:] == [("term", "b", "shutdown"), ("term", "a", "shutdown")]
    assert ended(me, sup) == reason


def test_stop_means_normal(me):
    """Without a word more, stopping a tree is a normal end. SSHD-10."""
    sup = Supervisor.start_link(specs("a", Journal()))
    Supervisor.stop(sup)
    assert ended(me, sup) == "normal"


@pytest.mark.parametrize("reason", REASONS)
def test_a_stranger_cannot_end_a_supervisor_by_a_signal(me, reason):
    """A supervisor hears its parent and the kill, nobody else. SSHD-11."""
    journal = Journal()
    sup = Supervisor.start(specs("a", journal))
    stranger = Doer.start()
    call(stranger, lambda _server: process.exit(sup, reason))
    process.exit(sup, reason)
    assert counts(sup) == [1, 1, 0, 1]
    assert journal.take() == [("start", "a")]


@pytest.mark.parametrize("reason", REASONS)
def test_a_parent_can_end_a_supervisor_by_a_signal(me, reason):
    """Even "normal", since the parent lives and asks for it. SSHD-12."""
    journal = Journal()
    sup = Supervisor.start_link(specs("a", journal))
    process.exit(sup, reason)
    assert ended(me, sup) == reason
    assert journal.take()[-1] == ("term", "a", "shutdown")


def test_a_killed_supervisor_takes_its_children_along(me):
    """Those that trap may clean up, and its parent starts it anew. SSHD-13."""
    journal = Journal()
    inner = [spec("trapping", journal), spec("plain", journal, trap=False)]
    sup = Supervisor.start_link([nested("sub", inner)])
    sub = ref_of(sup, "sub")
    trapping, plain = ref_of(sub, "trapping"), ref_of(sub, "plain")
    process.monitor(trapping)
    assert reason_of(plain, kill, sub) == "killed"
    assert me.receive(timeout=WAIT).reason == "killed"
    new = ref_of(sup, "sub")
    assert new is not sub
    assert not {trapping, plain} & set(children(new).values())
    events = journal.take()
    assert ("term", "trapping", "killed") in events
    assert [label for what, label, *_ in events if what == "start"] == ["trapping", "plain"] * 2


def test_a_subtree_is_stopped_before_the_siblings_that_started_first(me):
    """Depth first, in reverse. SSHD-16."""
    journal = Journal()
    tree = [
        spec("a", journal),
        nested("sub", [spec("s1", journal), spec("s2", journal)]),
        spec("z", journal),
    ]
    sup = Supervisor.start_link(tree)
    journal.take()
    Supervisor.stop(sup)
    assert journal.take() == [
        ("term", "z", "shutdown"),
        ("term", "s2", "shutdown"),
        ("term", "s1", "shutdown"),
        ("term", "a", "shutdown"),
    ]


def test_nobody_is_restarted_while_the_supervisor_stops(me):
    """A child that crashes during the stop stays down. SSHD-17."""
    journal, gate = Journal(), Gate()
    tree = [*specs("ab", journal), held("c", journal, gate)]
    sup = Supervisor.start_link(tree)
    first = ref_of(sup, "a")
    journal.take()
    process.exit(sup, "shutdown")
    gate.reached()
    crash(first)
    gate.open()
    assert ended(me, sup) == "shutdown"
    assert journal.take() == [
        ("stopping", "c", "shutdown"),
        ("term", "a", "boom"),
        ("term", "c", "shutdown"),
        ("term", "b", "shutdown"),
    ]


def test_stop_with_a_time_leaves_a_slow_supervisor_stopping(me):
    """The caller goes on, and the supervisor ends later all the same. STOP-04, SSHD-10."""
    journal, gate = Journal(), Gate()
    sup = Supervisor.start_link([held("a", journal, gate)])
    with pytest.raises(CallExit) as caught:
        Supervisor.stop(sup, timeout=0.05)
    assert caught.value.reason == "timeout"
    gate.open()
    assert ended(me, sup) == "normal"


# ---- miscellaneous


def test_an_unexpected_message_is_logged(me, log_events):
    """A supervisor is no mailbox, and a stray message does no harm. SMSC-01."""
    sup = Supervisor.start_link(specs("a", Journal()), name="top")
    process.send(sup, "hello")
    assert counts(sup) == [1, 1, 0, 1]
    (event,) = [event for event in log_events if event["event"] == "unexpected_message"]
    assert event["process"] == "top"
    assert "hello" in event["message"]


def test_the_callers_of_a_child_that_crashes(me):
    """Who waits learns of the crash; who calls the name afterwards gets the new one. SMSC-03."""
    journal, gate = Journal(), Gate()
    child = {"id": "a", "start": (Doer, "start_link", [None, journal], {"name": "worker"})}
    sup = Supervisor.start_link([child])
    cast("worker", lambda _server: gate())
    gate.reached()
    waiting = send_request("worker", lambda _server: Reply("from the old one"))

    def change_and_crash(server):
        server.label = "changed"
        raise Oops

    crashing = Aside(call, "worker", change_and_crash)
    until(lambda: process.info("worker")["message_queue_len"] == 2)
    second = send_request("worker", lambda _server: Reply("never"))
    gate.open()
    assert waiting.receive() == "from the old one"
    with pytest.raises(CallExit) as caught:
        crashing.answer()
    assert isinstance(caught.value.reason, Oops)
    with pytest.raises(CallExit) as failed:
        second.receive()
    assert isinstance(failed.value.reason, Oops)
    assert counts(sup) == [1, 1, 0, 1]
    assert call("worker", lambda server: Reply(server.label)) == "doer"


def test_a_child_that_is_not_linked_dies_unnoticed(me):
    """A start function must link what it starts, which start_link does. SMSC-06."""
    sup = Supervisor.start_link([{"id": "a", "start": (Doer, "start", [])}])
    ref = ref_of(sup, "a")
    crash_doer(ref)
    assert ref_of(sup, "a") is ref
    assert counts(sup) == [1, 0, 0, 1]


def many(number):
    child = {"start": (Doer, "start_link", []), "restart": "temporary"}
    return Supervisor.start([{**child, "id": place} for place in range(number)])


def seconds_to_start_and_stop(number):
    begin = time.process_time()
    sup = many(number)
    assert counts(sup) == [number, number, 0, number]
    Supervisor.stop(sup)
    return time.process_time() - begin


def seconds_to_remove(number):
    """The time that a supervisor needs to learn of that many ends."""
    sup = many(number)
    refs = children(sup).values()
    debug.suspend(sup)
    for ref in refs:
        process.exit(ref, "shutdown")
    begin = time.process_time()
    debug.resume(sup)
    assert counts(sup) == [0, 0, 0, 0]
    seconds = time.process_time() - begin
    Supervisor.stop(sup)
    return seconds


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seconds", [seconds_to_start_and_stop, seconds_to_remove])
def test_many_children_cost_linear_time(log_events, seconds):
    """Five times the children take five times the processor's time, not twenty-five: a child
    costs the same however many others there are. SMSC-04."""
    small = min(seconds(2_000) for _ in range(3))
    large = seconds(10_000)
    assert large < 15 * small


def run_to_its_end(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program in an interpreter of its own; it must end with 0."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )


def test_the_end_of_the_program_stops_named_supervisors():
    """A script that ends does not leave children in the middle of things. SSHD-10."""
    program = """
        import structlog
        from elsa_actors import GenServer, Ok, Supervisor

        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))

        class Worker(GenServer):
            trap_exit = True
            def init(self, label):
                return Ok(label)
            def terminate(self, reason):
                print(self.state, reason, flush=True)

        def tree(*labels):
            return [{"id": label, "start": (Worker, "start_link", [label])} for label in labels]

        Supervisor.start_link(tree("a", "b"), name="first")
        Supervisor.start_link(tree("c"), name="second")
        Supervisor.start_link(tree("nameless"))
        gone = Supervisor.start_link(tree("d"), name="gone")
        Supervisor.stop(gone)
        print("end of the program", flush=True)
    """
    done = run_to_its_end(program)
    assert done.stdout.splitlines() == [
        "d shutdown",
        "end of the program",
        "c shutdown",
        "b shutdown",
        "a shutdown",
    ]
    assert done.stderr == ""


def test_what_the_end_of_the_program_stops_are_those_who_live():
    """A program that starts and stops supervisors for months does not keep them all."""
    Supervisor.stop(Supervisor.start_link([], name="gone"))
    top = Supervisor.start_link([], name="top")
    assert _tops[-1] is top
    assert all(one.is_alive() for one in _tops)
    Supervisor.stop(top)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_the_end_of_a_forked_child_stops_nobody_and_says_nothing():
    """Its parent's supervisors are not its own; an error there would look like the program's."""
    program = """
        import os, sys, warnings
        from elsa_actors import Supervisor

        warnings.simplefilter("ignore")  # Python's own, about forks and threads
        top = Supervisor.start_link([], name="top")
        sys.stdout.flush()
        if (child := os.fork()) == 0:
            sys.exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert top.is_alive()
    """
    done = run_to_its_end(program)
    assert done.stderr == ""


def test_shutdown_time_is_no_longer_than_said(me):
    """A child that does not listen is killed when its time is over. SSHD-02, SSHD-07."""
    gate = Gate()
    child = {"id": "a", "start": (Doer, "start_link", [], {"trap": True}), "shutdown": 0.1}
    sup = Supervisor.start_link([child])
    cast(ref_of(sup, "a"), lambda server: gate())
    gate.reached()
    began = time.monotonic()
    Supervisor.terminate_child(sup, "a")
    assert time.monotonic() - began < 3.0
    gate.open()
