"""Monitors: one Down for each, about a process that they do not touch."""

from __future__ import annotations

import threading

import pytest

from elsa_actors import Down, Exit, Reply, Stop, call, cast, process, send_request, stop
from elsa_actors.runtime.names import Named
from elsa_actors.runtime.process import Process
from tests.servers import WAIT, Doer, Gate, Journal, Oops, nothing_comes


def within(ref, function):
    """What this function gives inside that process."""
    return call(ref, lambda server: Reply(function()), timeout=WAIT)


def ends_with(reason):
    return lambda server: Stop(reason)


def watchers_of(ref):
    return process.info(ref)["monitored_by"]


class Door(Named):
    """A name that something else keeps."""

    ref = None

    def whereis(self):
        return self.ref

    def register(self, ref):
        self.ref = ref

    def unregister(self, ref):
        self.ref = None


# ---- what comes


def test_monitor_tells_of_the_end_once(me):
    """One watch, one message. MON-01."""
    server = Doer.start()
    watch = process.monitor(server)
    cast(server, ends_with("boom"))
    assert process.receive(timeout=WAIT) == Down(watch, server, "boom")
    assert nothing_comes()


def test_down_carries_the_reason_as_it_is(me):
    """Whatever ended it, the watcher sees the very reason. MON-02."""

    def down_after(act):
        server = Doer.start()
        process.monitor(server)
        act(server)
        return process.receive(Down, WAIT).reason

    error, term = Oops(), {"any": ["term", 1]}

    def fail(server):
        raise error

    assert down_after(stop) == "normal"
    assert down_after(lambda server: process.exit(server, "kill")) == "killed"
    assert down_after(lambda server: cast(server, fail)) is error
    assert down_after(lambda server: cast(server, ends_with(term))) is term
    assert down_after(lambda server: process.exit(server, ("shutdown", 1))) == ("shutdown", 1)
    assert down_after(lambda server: cast(server, lambda server: 7)) == ("bad_return_value", 7)


def test_monitor_of_the_dead_tells_at_once(me):
    """Nobody waits for news of the dead. MON-03."""
    dead = Doer.start()
    stop(dead)
    watch = process.monitor(dead)
    assert process.receive(timeout=0) == Down(watch, dead, "noproc")
    assert nothing_comes()


@pytest.mark.parametrize("name", ["nobody here", Door()], ids=["local", "via"])
def test_monitor_of_an_unknown_name_tells_at_once(me, name):
    """Nobody is there, and the message says whom one asked for. MON-04."""
    watch = process.monitor(name)
    assert process.receive(timeout=0) == Down(watch, name, "noproc")


@pytest.mark.parametrize("name", ["watched by name", Door()], ids=["local", "via"])
def test_down_of_a_name_names_it(me, name):
    """Who watches a name knows no ref, and could not tell whose end this was. MON-05."""
    server = Doer.start(name=name)
    watch = process.monitor(name)
    stop(server)
    assert process.receive(timeout=WAIT) == Down(watch, name, "normal")


def test_monitor_by_name_stays_with_the_holder_of_that_moment(me):
    """A name that passes on takes no watch along. MON-05."""
    first = Doer.start(name="passed on")
    watch = process.monitor("passed on")
    process.unregister("passed on")
    second = Doer.start(name="passed on")
    stop(second)
    assert nothing_comes()
    stop(first, "late")
    assert process.receive(timeout=WAIT) == Down(watch, "passed on", "late")


def test_each_monitor_has_its_own_down(me):
    """Two parts of a program may watch the same process and not know of each other. MON-06."""
    server = Doer.start()
    watches = [process.monitor(server) for _ in range(3)]
    stop(server)
    downs = [process.receive(Down, WAIT) for _ in range(3)]
    assert [down.monitor for down in downs] == watches
    assert len(set(watches)) == 3
    assert nothing_comes()


def test_second_monitor_after_the_death_does_not_know_the_reason(me):
    """Reasons are told, not kept. MON-17."""
    server = Doer.start()
    first = process.monitor(server)
    cast(server, ends_with("boom"))
    assert process.receive(Down, WAIT) == Down(first, server, "boom")
    second = process.monitor(server)
    assert process.receive(timeout=0) == Down(second, server, "noproc")


# ---- demonitor


@pytest.mark.parametrize("flush", [True, False])
def test_demonitored_process_ends_without_a_message(me, flush):
    """Who does not want to know is not told. MON-07, MON-10."""
    server = Doer.start()
    watch = process.monitor(server)
    assert process.demonitor(watch, flush=flush) is True
    assert watchers_of(server) == []
    stop(server)
    assert nothing_comes()


def test_down_that_came_before_demonitor_stays(me):
    """demonitor looks forward; what has arrived is the receiver's. MON-08, MON-10."""
    server = Doer.start()
    watch = process.monitor(server)
    stop(server)
    assert process.demonitor(watch) is False
    assert process.receive(timeout=0) == Down(watch, server, "normal")


def test_flush_removes_the_down_and_nothing_else(me):
    """After demonitor with flush no Down of this watch exists, wherever it stood. MON-09."""
    server, other = Doer.start(), Doer.start()
    watch, twin, stranger = (process.monitor(ref) for ref in (server, server, other))
    process.send(me.ref, "before")
    stop(server)
    stop(other)
    process.send(me.ref, "after")
    assert process.demonitor(watch, flush=True) is False
    assert [process.receive(timeout=0) for _ in range(4)] == [
        "before",
        Down(twin, server, "normal"),
        Down(stranger, other, "normal"),
        "after",
    ]
    assert nothing_comes(timeout=0)


def test_demonitor_twice_does_nothing_more(me):
    """What is undone stays undone. MON-11."""
    server = Doer.start()
    watch = process.monitor(server)
    process.demonitor(watch)
    process.demonitor(watch)
    process.demonitor(watch, flush=True)
    stop(server)
    assert process.demonitor(watch, flush=True) is False
    assert nothing_comes()


def test_demonitor_of_anothers_watch_leaves_it_alone(me):
    """A watch belongs to who made it. MON-16."""
    server, other = Doer.start(), Doer.start()
    watch = process.monitor(server)
    assert within(other, lambda: process.demonitor(watch)) is True
    assert within(other, lambda: process.demonitor(watch, flush=True)) is True
    stop(server)
    assert process.receive(timeout=WAIT) == Down(watch, server, "normal")


@pytest.mark.parametrize("wrong", ["a name", None, 7])
def test_demonitor_of_what_is_no_monitor_is_refused(me, wrong):
    """A mistake in the caller, and it should hear of it. MON-16."""
    with pytest.raises(TypeError, match="Monitor"):
        process.demonitor(wrong)
    with pytest.raises(TypeError, match="Monitor"):
        process.demonitor(me.ref)


def test_demonitor_with_flush_at_the_moment_of_a_death_leaves_nothing(me):
    """Whoever flushed meets no Down later, however close it was. MON-09, MON-07."""
    killer = Doer.start()
    outcomes = set()
    for _ in range(300):
        server = Doer.start()
        watch, other = process.monitor(server), process.monitor(server)
        cast(killer, lambda killer, server=server: process.exit(server, "boom"))
        outcomes.add(process.demonitor(watch, flush=True))
        assert process.receive(timeout=WAIT) == Down(other, server, "boom")
        assert nothing_comes(timeout=0)
    assert outcomes <= {True, False}


# ---- what a monitor is not


def test_monitor_touches_neither_side(me):
    """Watching is one way: nobody dies of it, nobody hears of the watcher's end. MON-12."""
    target = Doer.start(None, journal := Journal(), True)
    watcher = Doer.start()
    within(watcher, lambda: process.monitor(target))
    process.exit(watcher, "kill")
    assert within(target, lambda: "alive") == "alive"
    watcher = Doer.start()  # does not trap
    within(watcher, lambda: process.monitor(target))
    process.exit(target, "kill")
    assert within(watcher, lambda: "alive") == "alive"
    assert journal.events == []


def test_monitor_of_oneself_never_speaks(me):
    """The dead read no mail. MON-13."""
    server = Doer.start()
    watch = within(server, lambda: process.monitor(server))
    assert isinstance(watch, type(process.monitor(me.ref)))
    assert within(server, lambda: process.demonitor(watch)) is True
    stop(server)
    assert nothing_comes()


def test_link_and_monitor_both_tell(me):
    """They are two facts; which comes first is nobody's business. MON-15."""
    server = Doer.start()
    process.link(server)
    watch = process.monitor(server)
    cast(server, ends_with("boom"))
    notices = {process.receive(timeout=WAIT), process.receive(timeout=WAIT)}
    assert notices == {Exit(server, "boom"), Down(watch, server, "boom")}
    assert nothing_comes()


# ---- order


def test_messages_of_the_dead_come_before_its_down(me):
    """A Down is the last word: nothing that it sent comes later, nothing is lost. MON-14."""

    def speak_and_end(server):
        for word in range(3):
            process.send(me.ref, word)
        return Stop("boom")

    for _ in range(500):
        server = Doer.start()
        watch = process.monitor(server)
        cast(server, speak_and_end)
        assert [process.receive(timeout=WAIT) for _ in range(4)] == [
            0,
            1,
            2,
            Down(watch, server, "boom"),
        ]


def test_messages_of_the_killed_come_before_its_down(me):
    """The same for one that dies in the middle of a sentence: a killed process sends on until the
    kill and not beyond. MON-14.
    """
    killer = Doer.start()

    def speak(server):
        word = 0
        while True:
            process.send(me.ref, word)
            word += 1

    for _ in range(30):
        server = Doer.start()
        watch = process.monitor(server)
        cast(server, speak)
        heard = [process.receive(timeout=WAIT)]
        cast(killer, lambda killer, server=server: process.exit(server, "kill"))
        while not isinstance(message := process.receive(timeout=WAIT), Down):
            heard.append(message)
        assert message == Down(watch, server, "killed")
        assert heard == list(range(len(heard)))
        assert nothing_comes(timeout=0)


def test_name_is_free_and_process_dead_when_its_down_is_read(me):
    """Who reads a Down may start a successor at once. NAME-06."""
    for _ in range(200):
        server = Doer.start(name="one after the other")
        watch = process.monitor(server)
        cast(server, ends_with("boom"))
        assert process.receive(timeout=WAIT) == Down(watch, server, "boom")
        assert process.whereis("one after the other") is None
        assert not process.is_alive(server)
        assert not server.is_alive()


# ---- what stays behind


def test_dead_watchers_are_forgotten(me):
    """A server that a thousand short-lived processes watched does not remember them."""
    target = Doer.start()
    for _ in range(100):
        watcher = Doer.start()
        within(watcher, lambda: process.monitor(target))
        stop(watcher)
    assert watchers_of(target) == []


def test_dead_targets_are_forgotten(me):
    """A watcher that outlives a thousand targets does not remember them either."""
    for _ in range(100):
        process.monitor(server := Doer.start())
        stop(server)
    assert process.info(me.ref)["monitors"] == []
    process.monitor(survivor := Doer.start())
    assert process.info(me.ref)["monitors"] == [survivor]


def test_watcher_and_target_die_at_once(me):
    """Deaths that meet each other neither hang nor leave a watch behind."""
    for _ in range(100):
        pair = [Doer.start(), Doer.start()]
        within(pair[0], lambda pair=pair: process.monitor(pair[1]))
        within(pair[1], lambda pair=pair: process.monitor(pair[0]))
        watches = [process.monitor(ref) for ref in pair]
        threads = [threading.Thread(target=process.exit, args=(ref, "boom")) for ref in pair]
        for thread in threads:
            thread.start()
        downs = {process.receive(Down, WAIT) for _ in pair}
        assert {down.monitor for down in downs} == set(watches)
        for thread in threads:
            thread.join(WAIT)


def test_monitors_made_while_the_target_dies_all_tell(me):
    """A watch is made before the death or after it: with its reason or "noproc", and always one."""

    def watch_and_hear(target, gate):
        def run(server):
            gate(library=True)
            watch = process.monitor(target)
            down = process.receive(Down, WAIT)
            assert down.monitor is watch
            assert nothing_comes(timeout=0)
            return Reply(down.reason)

        return run

    for _ in range(30):
        target, gate = Doer.start(), Gate()
        asked = [send_request(Doer.start(), watch_and_hear(target, gate)) for _ in range(4)]
        gate.reached()
        gate.open()
        cast(target, ends_with("boom"))
        assert {request.receive(WAIT) for request in asked} <= {"boom", "noproc"}


def test_plain_process_can_watch_and_be_watched(me):
    """Monitors are for processes of every kind."""
    journal = Journal()

    class Watcher(Process):
        def on_receive(self, message):
            if isinstance(message, Down):
                journal(message.ref, message.reason)
            else:
                process.monitor(message)

    class Target(Process):
        def on_receive(self, message):
            raise message

    watcher, target, error = Watcher.start(), Target.start(), Oops()
    watcher.tell(target)
    watcher.tell(target)
    target.tell(error)
    journal.wait_for(target, error)
    stop(watcher)
    assert len(journal.events) == 2
