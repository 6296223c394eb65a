"""Exit signals: who dies of them, who hears of them, and in which order."""

from __future__ import annotations

import threading
import time

import pytest

from elsa_actors import (
    CallExit,
    Down,
    Exit,
    ProcessExit,
    Reply,
    Stop,
    call,
    cast,
    process,
    send_request,
)
from elsa_actors.runtime import death
from tests.otp.supervised import until
from tests.servers import WAIT, Doer, Gate, Journal, nothing_comes


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


# ---- to others


@pytest.mark.parametrize("reason", ["foo", "shutdown", ("shutdown", 1), "killed", 7, None])
def test_signal_ends_what_does_not_trap(me, reason):
    """Any reason but "normal" does. SIG-01."""
    server = Doer.start()
    watch = process.monitor(server)
    assert process.exit(server, reason) is None
    assert not process.is_alive(server)
    assert process.receive(timeout=0) == Down(watch, server, reason)


@pytest.mark.parametrize("reason", ["foo", "shutdown", "normal", "killed"])
def test_signal_is_a_message_for_what_traps(me, reason):
    """It says who sent it and why, and the receiver lives. SIG-02, SIG-03."""
    journal = Journal()
    server = Doer.start(None, journal, True)
    assert process.exit(server, reason) is None
    assert within(server, lambda: "alive") == "alive"
    assert journal.events == [("info", Exit(me.ref, reason))]


def test_normal_signal_to_another_is_ignored(me):
    """ "normal" says that there is nothing to worry about. SIG-03."""
    server = Doer.start()
    assert process.exit(server, "normal") is None
    assert within(server, lambda: "alive") == "alive"


def test_signal_to_the_dead_is_lost(me):
    """Whether it was dead before or died of this, the sender cannot know, and need not. SIG-08."""
    server = Doer.start()
    process.exit(server, "kill")
    for reason in ("kill", "foo", "normal"):
        assert process.exit(server, reason) is None
    assert nothing_comes()


@pytest.mark.parametrize("trap", [True, False])
def test_kill_ends_everybody_and_is_told_as_killed(me, trap):
    """A kill cannot be trapped; and who hears of it is not killed by the news. SIG-07, SIG-13."""
    server = Doer.start(None, Journal(), trap)
    process.link(server)
    watch = process.monitor(server)
    process.exit(server, "kill")
    assert not process.is_alive(server)
    assert {process.receive(timeout=0), process.receive(timeout=0)} == {
        Exit(server, "killed"),
        Down(watch, server, "killed"),
    }


def test_only_the_very_word_kills(me):
    """A reason that looks like it, or contains it, is a reason like any other. SIG-07."""

    class Odd(str):
        __slots__ = ()

    journal = Journal()
    server = Doer.start(None, journal, True)
    for reason in (("kill",), b"kill", "KILL", "killed"):
        process.exit(server, reason)
    assert within(server, lambda: "alive") == "alive"
    assert [event[1].reason for event in journal.events] == [("kill",), b"kill", "KILL", "killed"]
    process.exit(server, Odd("kill"))
    assert not process.is_alive(server)


class Quarrel:
    """A term that refuses to be compared."""

    def __eq__(self, other):
        raise RuntimeError("do not compare me")

    __hash__ = None


def test_reason_that_cannot_be_compared_is_a_reason(me):
    """Users' terms are passed on, not looked into. SIG-01, SIG-02."""
    reason = Quarrel()
    server, trapping = Doer.start(), Doer.start(None, journal := Journal(), True)
    process.link(server)
    process.exit(trapping, reason)
    process.exit(server, reason)
    assert process.receive(timeout=0).reason is reason
    assert within(trapping, lambda: "alive") == "alive"
    assert journal.events[0][1].reason is reason


def test_signal_from_a_plain_thread_has_no_sender(me):
    """Scripts and the REPL may send signals; there is no ref to name. SIG-02."""
    journal = Journal()
    server = Doer.start(None, journal, True)
    thread = threading.Thread(target=process.exit, args=(server, "foo"))
    thread.start()
    thread.join(WAIT)
    assert within(server, lambda: "alive") == "alive"
    assert journal.events == [("info", Exit(None, "foo"))]


@pytest.mark.parametrize("reason", ["shutdown", ("shutdown", "x"), "boom"])
def test_shutdown_travels_through_links_like_any_reason(me, reason):
    """It is a clean end for the log, and an end all the same for who is linked. SIG-12."""
    one, other = Doer.start(), Doer.start()
    within(one, lambda: process.link(other))
    assert end_of(one, lambda: process.exit(other, reason)) == reason


# ---- to oneself


def test_normal_signal_to_oneself_ends(me):
    """To oneself even "normal" is meant. SIG-04."""
    server = Doer.start()
    reached = Journal()

    def end_myself(server):
        process.exit(process.current(), "normal")
        reached("beyond")

    assert end_of(server, lambda: cast(server, end_myself)) == "normal"
    assert reached.events == []


def test_signal_to_oneself_cannot_be_caught(me):
    """The process is dead, whatever its code does with the ProcessExit. SIG-05."""
    server, journal = Doer.start(), Journal()

    def catch_it(server):
        try:
            process.exit(process.current(), "foo")
        except BaseException as error:
            journal("caught", type(error), error.reason)
        try:
            process.send(me.ref, "from beyond")
        except ProcessExit as error:
            journal("refused", error.reason)
        return Reply("from beyond")

    asked = send_request(server, catch_it)
    with pytest.raises(CallExit) as raised:
        asked.receive(WAIT)
    assert raised.value.reason == "foo"
    journal.wait_for("refused", "foo")
    assert journal.events == [("caught", ProcessExit, "foo"), ("refused", "foo")]
    assert nothing_comes()


@pytest.mark.parametrize("reason", ["foo", "normal"])
def test_signal_to_oneself_is_ones_own_message_when_trapping(me, reason):
    """Trapping makes no difference between senders. SIG-06."""
    assert process.exit(me.ref, reason) is None
    assert process.receive(timeout=0) == Exit(me.ref, reason)
    journal = Journal()
    parent = Doer.start()
    server = within(parent, lambda: Doer.start_link(None, journal, True))
    within(server, lambda: process.exit(server, reason))
    assert within(server, lambda: "alive") == "alive"
    assert journal.events == [("info", Exit(server, reason))]


@pytest.mark.parametrize("trap", [True, False])
def test_process_can_kill_itself(me, trap):
    """A kill is a kill. SIG-07."""
    server = Doer.start(None, Journal(), trap)
    assert end_of(server, lambda: cast(server, lambda s: process.exit(server, "kill"))) == "killed"


# ---- order and competition


def test_first_of_two_signals_wins(me):
    """One dies once. SIG-09."""
    for _ in range(50):
        server = Doer.start()
        watch = process.monitor(server)
        process.exit(server, "first")
        process.exit(server, "second")
        assert process.receive(timeout=0) == Down(watch, server, "first")
    assert nothing_comes()


def test_signals_sent_at_once_agree_on_one_reason(me):
    """Links, monitors, callers: all hear of the same end. SIG-09."""
    for _ in range(200):
        server, gate = Doer.start(), Gate()
        asked = send_request(server, lambda server, gate=gate: gate(library=True))
        gate.reached()
        process.link(server)
        process.monitor(server)
        threads = [
            threading.Thread(target=process.exit, args=(server, reason))
            for reason in ("left", "right")
        ]
        for thread in threads:
            thread.start()
        reasons = [process.receive((Exit, Down), WAIT).reason for _ in range(2)]
        with pytest.raises(CallExit) as raised:
            asked.receive(WAIT)
        assert [raised.value.reason] * 2 == reasons
        assert reasons[0] in ("left", "right")
        for thread in threads:
            thread.join(WAIT)
        assert nothing_comes(timeout=0)


def test_signal_keeps_its_place_among_its_senders_messages(me):
    """What traps reads one sender's messages and signals in the order of sending. SIG-10."""
    journal = Journal()
    server, gate = Doer.start(None, journal, True), Gate()
    cast(server, lambda server: gate())
    gate.reached()
    process.send(server, "m1")
    process.exit(server, "foo")
    process.send(server, "m2")
    gate.open()
    within(server, lambda: None)
    assert journal.events == [("info", "m1"), ("info", Exit(me.ref, "foo")), ("info", "m2")]


def test_what_does_not_trap_handles_nothing_that_was_sent_after_the_signal(me):
    """A signal that ends its receiver acts where it is sent, ahead of queued mail. SIG-10."""
    journal = Journal()
    server, gate = Doer.start(None, journal), Gate()
    cast(server, lambda server: gate())
    gate.reached()
    process.send(server, "m1")
    watch = process.monitor(server)
    process.exit(server, "foo")
    process.send(server, "m2")
    assert process.receive(timeout=0) == Down(watch, server, "foo")
    gate.open()
    assert nothing_comes()
    assert journal.events == []


def test_signal_ends_a_long_wait_at_once(me):
    """A server that sleeps in the library need not finish its callback first. SIG-11."""
    server, journal = Doer.start(), Journal()

    def sleep_long(server):
        journal("asleep")
        process.sleep(60)
        journal("woke up")

    cast(server, sleep_long)
    journal.wait_for("asleep")
    started = time.monotonic()
    assert end_of(server, lambda: process.exit(server, "foo")) == "foo"
    assert time.monotonic() - started < WAIT
    assert journal.events == ["asleep"]


def test_signal_ends_busy_code_for_everyone_else_at_once(me):
    """What Python cannot stop is dead for all others, and its answer is not heard. SIG-11."""
    server, gate, journal = Doer.start(name="busy one"), Gate(), Journal()

    def work_on(server):
        gate()
        journal("worked on")
        return Reply("too late")

    asked = send_request(server, work_on)
    gate.reached()
    watch = process.monitor(server)
    process.exit(server, "foo")
    assert not process.is_alive(server)
    assert process.whereis("busy one") is None
    assert process.receive(timeout=0) == Down(watch, server, "foo")
    with pytest.raises(CallExit) as raised:
        asked.receive(0)
    assert raised.value.reason == "foo"
    gate.open()
    journal.wait_for("worked on")
    with pytest.raises(CallExit):
        asked.receive(0)


def test_target_is_dead_when_exit_returns(me):
    """The sender need not ask whether its kill has arrived yet. SIG-13, SIG-07."""
    for trap in (True, False) * 50:
        server = Doer.start(None, None, trap, name="dead on return")
        process.exit(server, "kill")
        assert not process.is_alive(server)
        assert not server.is_alive()
        assert process.info(server) is None
        assert process.whereis("dead on return") is None
        assert server not in process.list()
        Doer.start(name="dead on return")
        process.exit(process.whereis("dead on return"), "kill")


ENDS = {
    "stop": lambda server: Stop("done"),
    "exit_self": lambda server: process.exit_self("done"),
    "signal to itself": lambda server: process.exit(process.current(), "done"),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
@pytest.mark.parametrize("signal", ["kill", "boom"])
def test_end_of_its_own_and_a_signal_agree_on_one_reason(me, end, signal):
    """Finishing and being killed at once is one end, told alike to all. SIG-09."""
    seen = set()
    for _ in range(100):
        server = Doer.start_link()
        watch = process.monitor(server)
        killer = threading.Thread(target=process.exit, args=(server, signal))
        cast(server, end)
        killer.start()
        notices = {process.receive(timeout=WAIT), process.receive(timeout=WAIT)}
        reason = next(iter(notices)).reason
        assert notices == {Exit(server, reason), Down(watch, server, reason)}
        seen.add(reason)
        killer.join(WAIT)
        assert nothing_comes(timeout=0)
    assert seen <= {"done", "killed" if signal == "kill" else signal}


def test_signal_needs_a_ref(me):
    """A name may have passed on to somebody who should not die."""
    Doer.start(name="not to be killed by name")
    with pytest.raises(TypeError, match="ref"):
        process.exit("not to be killed by name", "kill")
    assert process.whereis("not to be killed by name") is not None


def test_the_dead_send_no_signal(me, monkeypatch):
    """One that is killed while it sends an exit signal sends none. SIG-10."""
    target, sender = Doer.start(), Doer.start_link()
    both = death.both

    def killed_meanwhile(one, other):
        monkeypatch.undo()
        killer = threading.Thread(target=process.exit, args=(sender, "kill"))
        killer.start()
        killer.join(WAIT)
        return both(one, other)

    def send(_server):
        monkeypatch.setattr(death, "both", killed_meanwhile)
        process.exit(target, "boom")

    cast(sender, send)
    assert me.receive(Exit, WAIT) == Exit(sender, "killed")
    until(sender._inbox.is_buried)
    assert process.is_alive(target)
