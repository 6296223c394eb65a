"""Links: both ends hear of the other's end, once, and not after an unlink."""

from __future__ import annotations

import threading

import pytest

from elsa_actors import (
    Down,
    Exit,
    NoProcess,
    Ok,
    ProcessExit,
    Reply,
    Stop,
    call,
    cast,
    process,
    send_request,
    stop,
)
from elsa_actors.runtime.process import Process
from tests.servers import WAIT, Doer, Gate, Journal, Oops, nothing_comes


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


def ends_with(reason):
    return lambda server: Stop(reason)


def links_of(ref):
    return process.info(ref)["links"]


# ---- what a link does


def test_linked_process_dies_of_the_same_reason(me):
    """What belongs together ends together. LINK-01."""
    one, other = Doer.start(), Doer.start()
    within(one, lambda: process.link(other))
    assert end_of(one, lambda: cast(other, ends_with("boom"))) == "boom"


def test_linked_process_that_traps_gets_a_message(me):
    """Who traps decides itself what another's end means. LINK-02."""
    other = Doer.start()
    process.link(other)
    cast(other, ends_with("boom"))
    assert process.receive(timeout=WAIT) == Exit(other, "boom")
    assert nothing_comes()


def test_raise_reaches_the_linked_process_as_the_exception_itself(me):
    """The reason of a crash is the error, for everybody who hears of it. LINK-01, LINK-02."""
    other, error = Doer.start(), Oops()
    process.link(other)

    def fail(server):
        raise error

    cast(other, fail)
    assert process.receive(Exit, WAIT).reason is error


def test_normal_end_harms_nobody_and_tells_who_traps(me):
    """A normal end is news, not a fault. LINK-03."""
    one, other = Doer.start(), Doer.start()
    within(one, lambda: process.link(other))
    process.link(other)
    assert end_of(other, lambda: stop(other)) == "normal"
    assert process.receive(Exit, WAIT) == Exit(other, "normal")
    assert within(one, lambda: "alive") == "alive"
    assert links_of(one) == []


@pytest.mark.parametrize("dies", [0, 1])
def test_links_go_both_ways(me, dies):
    """It does not matter who made the link. LINK-04."""
    pair = [Doer.start(), Doer.start()]
    within(pair[0], lambda: process.link(pair[1]))
    assert [links_of(pair[0]), links_of(pair[1])] == [[pair[1]], [pair[0]]]
    assert end_of(pair[1 - dies], lambda: cast(pair[dies], ends_with("boom"))) == "boom"


def test_two_links_are_one(me):
    """A link is a fact, not a count: one message, and one unlink takes it away. LINK-05."""
    one, other = Doer.start(), Doer.start()
    for ref in (one, other):
        process.link(ref)
        process.link(ref)
        within(ref, lambda: process.link(me.ref))
    assert links_of(one) == [me.ref]
    assert end_of(one, lambda: cast(one, ends_with("boom"))) == "boom"
    assert process.receive(Exit, WAIT) == Exit(one, "boom")
    process.unlink(other)
    assert end_of(other, lambda: cast(other, ends_with("boom"))) == "boom"
    assert nothing_comes()


@pytest.mark.parametrize("who", ["the one who linked", "the other"])
def test_unlinked_processes_do_not_hear_of_each_other(me, who):
    """Either side may undo it. LINK-06."""
    one, other = Doer.start(), Doer.start()
    within(one, lambda: process.link(other))
    if who == "the other":
        within(other, lambda: process.unlink(one))
    else:
        within(one, lambda: process.unlink(other))
    assert (links_of(one), links_of(other)) == ([], [])
    assert end_of(other, lambda: cast(other, ends_with("boom"))) == "boom"
    assert within(one, lambda: "alive") == "alive"


def test_unlink_without_a_link_does_nothing(me):
    """What is not there is gone already, be the other one alive or dead. LINK-07."""
    other = Doer.start()
    assert process.unlink(other) is None
    stop(other)
    assert process.unlink(other) is None
    assert process.unlink(me.ref) is None
    assert nothing_comes()


def test_linking_the_dead_raises_or_tells(me):
    """A link to the dead cannot be made; who traps gets it as the news it is. LINK-08."""
    dead = Doer.start()
    stop(dead, "was ended by this")
    plain = Doer.start()

    def try_to_link():
        with pytest.raises(NoProcess) as raised:
            process.link(dead)
        return raised.value.reason

    assert within(plain, try_to_link) == "noproc"
    assert links_of(plain) == []
    assert process.link(dead) is None
    assert process.receive(timeout=0) == Exit(dead, "noproc")
    assert links_of(me.ref) == []


def test_uncaught_link_to_the_dead_ends_a_server(me, log_events):
    """Nobody can rely on a process that is not there. LINK-08."""
    dead = Doer.start()
    stop(dead)
    server = Doer.start()
    reason = end_of(server, lambda: cast(server, lambda server: process.link(dead)))
    assert isinstance(reason, NoProcess)


def test_link_to_oneself_does_nothing(me):
    """One dies with oneself anyway. LINK-09."""
    assert process.link(me.ref) is None
    assert links_of(me.ref) == []
    assert nothing_comes()


@pytest.mark.parametrize("killed", [0, 1, 2])
def test_kill_travels_along_a_chain_as_killed(me, killed):
    """Only the signal is a kill; whoever hears of it later could trap it. LINK-10."""
    chain = [Doer.start() for _ in range(3)]
    within(chain[0], lambda: process.link(chain[1]))
    within(chain[1], lambda: process.link(chain[2]))
    watches = [process.monitor(ref) for ref in chain]
    process.exit(chain[killed], "kill")
    downs = {process.receive(Down, 0) for _ in range(3)}
    assert downs == {Down(watch, ref, "killed") for watch, ref in zip(watches, chain, strict=True)}


def test_reason_kill_that_is_no_signal_travels_as_it_is(me):
    """A process that ends itself with "kill" kills nobody: it can be trapped. LINK-11."""
    one, other = Doer.start(), Doer.start()
    within(one, lambda: process.link(other))
    process.link(other)
    reason = end_of(one, lambda: cast(other, lambda server: process.exit_self("kill")))
    assert reason == "kill"
    assert process.receive(Exit, WAIT) == Exit(other, "kill")
    assert process.info(me.ref) is not None


def test_death_along_a_ring_comes_to_an_end(me):
    """Each link tells once, so that news does not go round for ever. LINK-10."""
    ring = [Doer.start() for _ in range(5)]
    for one, other in zip(ring, ring[1:] + ring[:1], strict=True):
        within(one, lambda other=other: process.link(other))
    process.exit(ring[2], "boom")
    assert not any(process.is_alive(ref) for ref in ring)


# ---- after an unlink


def test_nothing_comes_after_unlink_has_returned(me):
    """Who unlinked may forget the other: an Exit is there already, or never comes. LINK-12."""
    killer = Doer.start()
    for _ in range(500):
        other = Doer.start()
        watch = process.monitor(other)
        process.link(other)
        cast(killer, lambda server, other=other: process.exit(other, "boom"))
        process.unlink(other)
        came = not nothing_comes(Exit, 0)
        assert process.receive(Down, WAIT) == Down(watch, other, "boom")
        # The Down is told after all links are.
        assert nothing_comes(timeout=0), f"an Exit came late; before: {came}"


def test_exit_that_came_before_unlink_stays(me):
    """unlink looks forward; what has arrived is the receiver's. LINK-12."""
    other = Doer.start()
    process.link(other)
    process.exit(other, "boom")
    process.unlink(other)
    assert process.receive(timeout=0) == Exit(other, "boom")


def test_unlink_at_the_moment_of_a_death_never_kills_afterwards():
    """The same for who does not trap: it dies in unlink, or never of this. LINK-12."""
    killer = Doer.start()
    outcomes = set()
    for _ in range(200):
        with process.attach() as me:
            other = Doer.start()
            watch = process.monitor(other)
            process.link(other)
            cast(killer, lambda server, other=other: process.exit(other, "boom"))
            try:
                process.unlink(other)
            except ProcessExit as error:
                outcomes.add(error.reason)
                continue
            if not me.ref.is_alive():
                outcomes.add("died before unlink returned")
                continue
            assert process.receive(Down, WAIT) == Down(watch, other, "boom")
            assert nothing_comes(timeout=0)
            outcomes.add("lived")
    assert "lived" in outcomes
    assert outcomes <= {"boom", "lived", "died before unlink returned"}


def test_links_made_and_undone_from_both_sides_at_once_agree(me):
    """Two processes that link and unlink each other neither wait for ever nor disagree."""
    pair = [Doer.start(), Doer.start()]

    def tumble(other):
        def run(server):
            for _ in range(2000):
                process.link(other)
                process.unlink(other)
            return Reply("done")

        return run

    asked = [
        send_request(pair[0], tumble(pair[1])),
        send_request(pair[1], tumble(pair[0])),
    ]
    assert [request.receive(WAIT * 2) for request in asked] == ["done", "done"]
    within(pair[0], lambda: process.unlink(pair[1]))
    assert [links_of(ref) for ref in pair] == [[], []]


def test_two_processes_die_at_once_and_each_is_told_of(me):
    """A death that meets another on the way neither hangs nor gets lost."""
    for _ in range(200):
        pair = [Doer.start(), Doer.start()]
        within(pair[0], lambda pair=pair: process.link(pair[1]))
        watches = [process.monitor(ref) for ref in pair]
        cast(pair[0], ends_with("left"))
        cast(pair[1], ends_with("right"))
        downs = {
            message.monitor: message.reason
            for message in (process.receive(Down, WAIT), process.receive(Down, WAIT))
        }
        assert set(downs) == set(watches)
        assert set(downs.values()) <= {"left", "right"}


def test_dead_peers_are_forgotten(me):
    """A process that outlives ten thousand neighbours does not remember them."""
    for reason in ("normal", "boom"):
        for _ in range(100):
            process.link(other := Doer.start())
            stop(other, reason)
    server = Doer.start()
    for _ in range(100):
        other = Doer.start()
        within(server, lambda other=other: process.link(other))
        stop(other)
    assert links_of(server) == []
    assert links_of(me.ref) == []


# ---- links from the start


class Looker(Process):
    """A plain process that tells whom it is linked to when its life begins."""

    def __init__(self, journal):
        super().__init__()
        self.journal = journal

    def on_start(self):
        self.journal("links", links_of(process.current()))


def test_link_is_there_before_the_childs_first_instruction(me):
    """A child that dies in its first line has a parent that hears of it. LINK-13."""
    journal = Journal()

    def look(server):
        journal("links", links_of(process.current()))

    child = Doer.start_link(look)
    plain = Looker.start_link(journal)
    journal.wait_for("links", [me.ref])
    stop(child)
    stop(plain)
    assert journal.events == [("links", [me.ref])] * 2


def test_child_that_dies_at_once_is_heard_of(me):
    """However fast it is, its parent was linked before. LINK-13."""

    class Stillborn(Process):
        def on_start(self):
            process.exit_self("stillborn")

    for _ in range(100):
        child = Stillborn.start_link()
        assert process.receive(timeout=WAIT) == Exit(child, "stillborn")


@pytest.mark.parametrize("reason", ["boom", "shutdown", "kill"])
def test_child_in_init_dies_with_its_parent(me, reason):
    """A start that nobody waits for any more is over, if the child does not trap. LINK-14."""
    journal, gate = Journal(), Gate()
    parent = Doer.start()

    def slow(server):
        journal("child", process.current())
        gate(library=True)

    cast(parent, lambda server: Doer.start_link(slow))
    gate.reached()
    child = journal.events[0][1]
    heard = "killed" if reason == "kill" else reason
    assert end_of(child, lambda: process.exit(parent, reason)) == heard
    assert not process.is_alive(parent)


def test_trapping_child_in_init_finishes_it_and_terminates(me):
    """What traps is asked, not killed: it starts up, and finds that it has to go. LINK-14."""
    journal, gate = Journal(), Gate()
    parent = Doer.start()

    def slow(server):
        process.trap_exit(True)
        server.journal("child", process.current())
        gate(library=True)
        server.journal("init done")
        return Ok("ready")

    cast(parent, lambda server: Doer.start_link(slow, journal, True))
    gate.reached()
    child = journal.take()[0][1]
    watch = process.monitor(child)
    process.exit(parent, "boom")
    assert process.is_alive(child)
    gate.open()
    assert process.receive(Down, WAIT) == Down(watch, child, "boom")
    assert journal.events == ["init done", ("terminate", "boom")]


def test_child_hears_of_a_parent_that_died_just_as_it_was_started(me):
    """No child slips through while its parent dies: none is left over, in no list. LINK-13."""
    for trap in (False, True) * 50:
        parent = Doer.start()
        watch = process.monitor(parent)
        started = threading.Event()

        def start_many(server, trap=trap, started=started):
            while True:
                Doer.start_link(None, None, trap)
                started.set()

        cast(parent, start_many)
        assert started.wait(WAIT)
        process.exit(parent, "boom")
        assert process.receive(Down, WAIT) == Down(watch, parent, "boom")
    deadline = threading.Event()
    for _ in range(int(WAIT / 0.05)):
        if not (left := process.list()):
            break
        deadline.wait(0.05)
    assert left == []


def test_link_needs_a_ref(me):
    """A name may pass to another process; a link is between two that are known."""
    for wrong in ("a name", None, 7):
        with pytest.raises(TypeError, match="ref"):
            process.link(wrong)
