"""Which children a supervisor restarts, in which order, how often, and when it gives up."""

import time

import pytest

from elsa_actors import (
    DynamicSupervisor,
    Exit,
    ProcessExit,
    Reply,
    Supervisor,
    call,
    cast,
    debug,
    process,
)
from tests.otp.supervised import (
    Forever,
    answers,
    children,
    counts,
    crash,
    crash_doer,
    crash_together,
    kill,
    nested,
    queued,
    ref_of,
    settled,
    spec,
    specs,
    start,
    until,
)
from tests.servers import WAIT, Child, Doer, Gate, Journal, nothing_comes

ENDLESS = 10**9

REASONS = ["normal", "shutdown", ("shutdown", "x"), "boom"]


def ended(me, sup):
    """The reason with which the supervisor ends."""
    message = me.receive(lambda message: message.ref is sup, WAIT)
    assert not process.is_alive(sup)
    return message.reason


# ---- restart types


@pytest.mark.parametrize("reason", REASONS)
def test_a_permanent_child_is_always_restarted(me, reason):
    """However it ends, a permanent child has to run. SRTY-01."""
    sup = Supervisor.start_link(specs("a", Journal()))
    old = ref_of(sup, "a")
    crash(old, reason)
    assert ref_of(sup, "a") is not old
    kill(ref_of(sup, "a"))
    assert counts(sup) == [1, 1, 0, 1]


@pytest.mark.parametrize("reason", ["normal", "shutdown", ("shutdown", "x")])
def test_a_transient_child_that_ends_on_purpose_is_done(me, reason):
    """Its spec stays on the list, not running. SRTY-02."""
    journal = Journal()
    sup = Supervisor.start_link(specs("a", journal, restart="transient"))
    crash(ref_of(sup, "a"), reason)
    assert children(sup) == {"a": None}
    assert counts(sup) == [1, 0, 0, 1]
    assert journal.take() == [("start", "a"), ("term", "a", reason)]


def test_a_transient_child_that_fails_is_restarted(me):
    """A crash or a kill is no end on purpose. SRTY-03."""
    sup = Supervisor.start_link(specs("a", Journal(), restart="transient"))
    first = ref_of(sup, "a")
    crash(first, "boom")
    second = ref_of(sup, "a")
    kill(second)
    assert len({first, second, ref_of(sup, "a")}) == 3


@pytest.mark.parametrize("reason", [*REASONS, "killed"])
def test_a_temporary_child_is_never_restarted(me, reason):
    """Whatever the reason, it leaves the list at once. SRTY-04."""
    journal = Journal()
    sup = Supervisor.start_link(specs("ab", journal, restart="temporary"))
    ref = ref_of(sup, "a")
    kill(ref) if reason == "killed" else crash(ref, reason)
    assert list(children(sup)) == ["b"]
    assert counts(sup) == [1, 1, 0, 1]
    assert journal.take().count(("start", "a")) == 1


def test_each_restart_of_a_permanent_child_counts(me):
    """A child that ends normally again and again is a fault too. SRTY-05, SINT-15."""
    sup = Supervisor.start_link(specs("a", Journal()), max_restarts=1)
    crash(ref_of(sup, "a"), "normal")
    crash(ref_of(sup, "a"), "normal")
    assert ended(me, sup) == "shutdown"


def test_ends_that_lead_to_no_restart_do_not_count(me):
    """The window counts restarts, not ends. SRTY-06."""
    journal = Journal()
    tree = [*specs("ab", journal, restart="transient"), *specs("cd", journal, restart="temporary")]
    sup = Supervisor.start_link(tree, max_restarts=0)
    for label in "abcd":
        crash(ref_of(sup, label), "normal")
    assert counts(sup) == [2, 0, 0, 2]


def test_a_restart_is_a_start_with_the_original_arguments(me):
    """The new process begins where the first one did. SRTY-07."""

    class Remembering(Doer):
        def init(self, given, journal):
            journal("given", list(given))
            given.append("mutated by the child")
            return super().init(None, journal)

    journal, given = Journal(), ["x"]
    child = {"id": "a", "start": (lambda: Remembering.start_link(list(given), journal), [])}
    sup = Supervisor.start_link([child])
    old = ref_of(sup, "a")
    crash_doer(old)
    assert ref_of(sup, "a") is not old
    assert [event for event in journal.take() if event[0] == "given"] == [("given", ["x"])] * 2


def test_what_a_start_function_says_more_is_no_matter_at_a_restart(me):
    """(ref, info) is a good answer at a restart too. SRTY-08."""
    sup = Supervisor.start_link([spec("a", Journal(), script=["ok", "info"])])
    old = ref_of(sup, "a")
    crash(old)
    assert call(ref_of(sup, "a"), "hello") == "hello"
    assert ref_of(sup, "a") is not old


@pytest.mark.parametrize("restart", ["permanent", "transient"])
def test_a_child_that_ignores_at_a_restart_stays_down(me, restart):
    """It says itself that there is nothing to run; no retry, and the supervisor lives. SRTY-09."""
    journal = Journal()
    child = spec("a", journal, script=["ok", "ignore"], restart=restart)
    sup = Supervisor.start_link([child], max_restarts=1)
    crash(ref_of(sup, "a"))
    assert children(sup) == {"a": None}
    assert journal.take()[-1] == ("try", "a", "ignore")


def test_the_new_process_has_an_empty_mailbox(me):
    """What was sent to the dead is lost, and the state is fresh. SRTY-11."""
    journal, gate = Journal(), Gate()
    child = {"id": "a", "start": (Doer, "start_link", [None, journal], {"label": "fresh"})}
    sup = Supervisor.start_link([child])
    old = ref_of(sup, "a")

    def hold(server):
        server.label = "stale"
        gate(library=True)

    cast(old, hold)
    gate.reached()
    process.send(old, "lost")
    cast(old, lambda server: server.journal("lost"))
    kill(old)
    assert call(ref_of(sup, "a"), lambda server: Reply(server.label)) == "fresh"
    assert journal.take() == []


# ---- strategies and order


def test_one_for_one_restarts_the_one(me):
    """The others know nothing of it. SSTR-01."""
    journal = Journal()
    sup = Supervisor.start_link(specs("abc", journal))
    before = children(sup)
    journal.take()
    crash(before["b"])
    after = children(sup)
    assert (after["a"], after["c"]) == (before["a"], before["c"])
    assert after["b"] is not before["b"]
    assert journal.take() == [("term", "b", "boom"), ("start", "b")]


def test_one_for_all_restarts_all_in_order(me):
    """Stopped in reverse, started in order; the one that failed is not stopped again.
    SSTR-02, SSTR-14."""
    journal = Journal()
    sup = Supervisor.start_link(specs("abc", journal), strategy="one_for_all")
    before = children(sup)
    journal.take()
    crash(before["b"])
    assert not set(before.values()) & set(children(sup).values())
    assert journal.take() == [
        ("term", "b", "boom"),
        ("term", "c", "shutdown"),
        ("term", "a", "shutdown"),
        ("start", "a"),
        ("start", "b"),
        ("start", "c"),
    ]


def test_rest_for_one_restarts_what_came_after(me):
    """What came before does not depend on it. SSTR-03, SSTR-14."""
    journal = Journal()
    sup = Supervisor.start_link(specs("abcd", journal), strategy="rest_for_one")
    first = ref_of(sup, "a")
    journal.take()
    crash(ref_of(sup, "b"))
    assert ref_of(sup, "a") is first
    assert journal.take() == [
        ("term", "b", "boom"),
        ("term", "d", "shutdown"),
        ("term", "c", "shutdown"),
        ("start", "b"),
        ("start", "c"),
        ("start", "d"),
    ]


def test_rest_for_one_at_its_two_ends(me):
    """The last one stands alone, the first one is everybody. SSTR-04."""
    journal = Journal()
    sup = Supervisor.start_link(specs("abc", journal), strategy="rest_for_one")
    journal.take()
    crash(ref_of(sup, "c"))
    assert children(sup).keys() == {"a", "b", "c"}
    assert journal.take() == [("term", "c", "boom"), ("start", "c")]
    crash(ref_of(sup, "a"))
    assert counts(sup) == [3, 3, 0, 3]
    assert journal.take() == [
        ("term", "a", "boom"),
        ("term", "c", "shutdown"),
        ("term", "b", "shutdown"),
        ("start", "a"),
        ("start", "b"),
        ("start", "c"),
    ]


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_an_end_that_leads_to_no_restart_concerns_nobody_else(me, strategy):
    """Groups are restarted with a child, and this one is not. SSTR-05, SSTR-11."""
    journal = Journal()
    tree = [
        spec("a", journal),
        spec("b", journal, restart="transient"),
        spec("t", journal, restart="temporary"),
        spec("c", journal),
    ]
    sup = Supervisor.start_link(tree, strategy=strategy, max_restarts=0)
    before = children(sup)
    journal.take()
    crash(before["b"], "normal")
    crash(before["t"], "boom")
    assert children(sup) == {"a": before["a"], "b": None, "c": before["c"]}
    assert journal.take() == [("term", "b", "normal"), ("term", "t", "boom")]


def test_a_group_restart_revives_what_was_done_stopped_or_ignored(me):
    """All shall be as at the beginning, so all are started, temporary ones apart. SSTR-06,
    SSTR-07, SSTR-08."""
    journal = Journal()
    tree = [
        spec("a", journal),
        spec("done", journal, restart="transient"),
        spec("stopped", journal),
        spec("ignored", journal, script=["ignore", "ignore", "ok"]),
    ]
    sup = Supervisor.start_link(tree, strategy="one_for_all")
    crash(ref_of(sup, "done"), "normal")
    Supervisor.terminate_child(sup, "stopped")
    assert counts(sup) == [4, 1, 0, 4]
    journal.take()
    crash(ref_of(sup, "a"))
    assert counts(sup) == [4, 3, 0, 4]
    assert children(sup)["ignored"] is None
    assert journal.take() == [
        ("term", "a", "boom"),
        ("start", "a"),
        ("start", "done"),
        ("start", "stopped"),
        ("try", "ignored", "ignore"),
    ]
    crash(ref_of(sup, "a"))
    assert counts(sup) == [4, 4, 0, 4]


def test_one_for_one_leaves_a_stopped_child_stopped(me):
    """What an operator stopped stays so, whatever happens to others. SSTR-09."""
    sup = Supervisor.start_link(specs("ab", Journal()))
    Supervisor.terminate_child(sup, "b")
    crash(ref_of(sup, "a"))
    assert children(sup) == {"a": ref_of(sup, "a"), "b": None}


def test_a_temporary_bystander_is_stopped_and_forgotten(me):
    """Its group is gone, and it is never started a second time. SSTR-10."""
    journal = Journal()
    tree = [spec("a", journal), spec("t", journal, restart="temporary"), spec("b", journal)]
    sup = Supervisor.start_link(tree, strategy="one_for_all")
    journal.take()
    crash(ref_of(sup, "a"))
    assert list(children(sup)) == ["a", "b"]
    assert journal.take() == [
        ("term", "a", "boom"),
        ("term", "b", "shutdown"),
        ("term", "t", "shutdown"),
        ("start", "a"),
        ("start", "b"),
    ]


def test_rest_for_one_stops_temporary_children_after_it(me):
    """Those before it stay, those after it go. SSTR-12."""
    journal = Journal()
    tree = [
        spec("before", journal, restart="temporary"),
        spec("a", journal),
        spec("after", journal, restart="temporary"),
        spec("b", journal),
    ]
    sup = Supervisor.start_link(tree, strategy="rest_for_one")
    before = ref_of(sup, "before")
    journal.take()
    crash(ref_of(sup, "a"))
    assert list(children(sup)) == ["before", "a", "b"]
    assert ref_of(sup, "before") is before
    assert journal.take() == [
        ("term", "a", "boom"),
        ("term", "b", "shutdown"),
        ("term", "after", "shutdown"),
        ("start", "a"),
        ("start", "b"),
    ]


def test_children_that_were_added_have_their_place_in_the_order(me):
    """The rest is what started after, by start_link or by start_child. SSTR-13."""
    journal = Journal()
    sup = Supervisor.start_link(specs("ab", journal), strategy="rest_for_one")
    Supervisor.start_child(sup, spec("c", journal))
    Supervisor.start_child(sup, spec("d", journal))
    journal.take()
    crash(ref_of(sup, "c"))
    assert counts(sup) == [4, 4, 0, 4]
    assert journal.take() == [
        ("term", "c", "boom"),
        ("term", "d", "shutdown"),
        ("start", "c"),
        ("start", "d"),
    ]


def test_one_for_all_tries_the_whole_group_again(me):
    """A group is up when all are, so those that started are stopped again. SSTR-15."""
    journal = Journal()
    tree = [spec("a", journal), spec("x", journal, script=["ok", "error"]), spec("d", journal)]
    sup = Supervisor.start_link(tree, strategy="one_for_all")
    journal.take()
    crash(ref_of(sup, "a"))
    assert None not in settled(sup).values()
    assert journal.take() == [
        ("term", "a", "boom"),
        ("term", "d", "shutdown"),
        ("term", "x", "shutdown"),
        ("start", "a"),
        ("try", "x", "error"),
        ("term", "a", "shutdown"),
        ("start", "a"),
        ("try", "x", "ok"),
        ("start", "x"),
        ("start", "d"),
    ]


def test_rest_for_one_goes_on_where_it_failed(me):
    """What started before the one that failed does not depend on it. SSTR-16."""
    journal = Journal()
    tree = [spec("a", journal), spec("x", journal, script=["ok", "error"]), spec("d", journal)]
    sup = Supervisor.start_link(tree, strategy="rest_for_one")
    journal.take()
    crash(ref_of(sup, "a"))
    assert None not in settled(sup).values()
    assert journal.take() == [
        ("term", "a", "boom"),
        ("term", "d", "shutdown"),
        ("term", "x", "shutdown"),
        ("start", "a"),
        ("try", "x", "error"),
        ("try", "x", "ok"),
        ("start", "x"),
        ("start", "d"),
    ]


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_while_a_group_waits_for_its_next_try(me, strategy):
    """Those before the one that failed run, those after it do not. SSTR-17."""
    journal = Journal()
    tree = [spec("a", journal), spec("x", journal, script=["ok", "error"]), spec("d", journal)]
    sup = Supervisor.start_link(tree, strategy=strategy)
    ref = ref_of(sup, "a")
    debug.suspend(sup)
    crash(ref)
    looking = queued(sup, Supervisor.which_children)
    counting = queued(sup, counts)
    debug.resume(sup)
    (_, last, _, _), (_, failed, _, _), (_, first, _, _) = looking.answer()
    assert (failed, last) == ("restarting", None)
    assert first not in (ref, None)
    assert counting.answer() == [3, 1, 0, 3]
    assert None not in settled(sup).values()


def test_a_group_restart_stops_whole_subtrees(me):
    """A supervisor under a supervisor is stopped with all it has, before its siblings. SSTR-18."""
    journal = Journal()
    tree = [
        spec("a", journal),
        nested("sub", specs("xyz", journal)),
        spec("b", journal),
    ]
    sup = Supervisor.start_link(tree, strategy="one_for_all")
    journal.take()
    crash(ref_of(sup, "a"))
    assert counts(sup) == [3, 3, 1, 2]
    assert journal.take() == [
        ("term", "a", "boom"),
        ("term", "b", "shutdown"),
        ("term", "z", "shutdown"),
        ("term", "y", "shutdown"),
        ("term", "x", "shutdown"),
        ("start", "a"),
        ("start", "x"),
        ("start", "y"),
        ("start", "z"),
        ("start", "b"),
    ]


# ---- several failures at once


def test_a_group_that_fails_together_is_restarted_once(me):
    """The second end is known already when the group is stopped. SMUL-01, SMUL-06."""
    journal = Journal()
    sup = Supervisor.start_link(specs("abc", journal), strategy="one_for_all", max_restarts=1)
    journal.take()
    crash_together(sup, "a", "b")
    assert counts(sup) == [3, 3, 0, 3]
    assert journal.take() == [
        ("term", "a", "boom"),
        ("term", "b", "boom"),
        ("term", "c", "shutdown"),
        ("start", "a"),
        ("start", "b"),
        ("start", "c"),
    ]


def test_single_children_that_fail_together_count_each(me):
    """One for one means one restart for each. SMUL-02, SINT-04."""
    journal = Journal()
    sup = Supervisor.start_link(specs("abc", journal), max_restarts=1)
    journal.take()
    crash_together(sup, "a", "b")
    assert ended(me, sup) == "shutdown"
    assert journal.take() == [
        ("term", "a", "boom"),
        ("term", "b", "boom"),
        ("start", "a"),
        ("term", "c", "shutdown"),
        ("term", "a", "shutdown"),
    ]


def test_rest_for_one_that_fails_in_two_places(me):
    """The later one is restarted, and then again with the group of the earlier. SMUL-03."""
    journal = Journal()
    sup = Supervisor.start_link(specs("abc", journal), strategy="rest_for_one", max_restarts=2)
    journal.take()
    crash_together(sup, "c", "a")
    assert counts(sup) == [3, 3, 0, 3]
    assert journal.take() == [
        ("term", "c", "boom"),
        ("term", "a", "boom"),
        ("start", "c"),
        ("term", "c", "shutdown"),
        ("term", "b", "shutdown"),
        ("start", "a"),
        ("start", "b"),
        ("start", "c"),
    ]


def test_rest_for_one_whose_group_holds_the_second_failure(me):
    """An end that the group's stop has met is old news. SMUL-03, SMUL-06."""
    journal = Journal()
    sup = Supervisor.start_link(specs("abc", journal), strategy="rest_for_one", max_restarts=1)
    journal.take()
    crash_together(sup, "a", "c")
    assert counts(sup) == [3, 3, 0, 3]
    assert journal.take() == [
        ("term", "a", "boom"),
        ("term", "c", "boom"),
        ("term", "b", "shutdown"),
        ("start", "a"),
        ("start", "b"),
        ("start", "c"),
    ]


@pytest.mark.parametrize("reason", ["normal", "shutdown", "boom"])
def test_children_that_end_while_the_supervisor_stops(me, reason):
    """Nobody is restarted, nothing hangs, and the supervisor ends as it was told. SMUL-04,
    SSHD-17."""
    journal = Journal()

    class Last(Child):
        def terminate(self, _reason):
            for name in ("a", "b"):
                crash(process.whereis(name), reason)

    def named(label):
        return {"id": label, "start": (Child, "start_link", [label, journal], {"name": label})}

    last = {"id": "last", "start": (Last, "start_link", ["last", journal])}
    sup = Supervisor.start_link([named("a"), named("b"), spec("c", journal), last])
    journal.take()
    process.exit(sup, "shutdown")
    assert ended(me, sup) == "shutdown"
    assert journal.take() == [
        ("term", "a", reason),
        ("term", "b", reason),
        ("term", "c", "shutdown"),
    ]


def test_the_end_of_a_stranger_is_no_childs(me):
    """A supervisor may be linked to anybody; only children are restarted. SMUL-05."""
    journal = Journal()
    sup = Supervisor.start_link(specs("a", journal), max_restarts=0)
    stranger = Doer.start()
    call(stranger, lambda _server: process.link(sup))
    crash_doer(stranger)
    assert counts(sup) == [1, 1, 0, 1]
    assert journal.take() == [("start", "a")]


def test_the_end_of_a_child_that_was_replaced_is_old_news(me):
    """A child that unlinked itself and was replaced by operators is nobody's child. SMUL-06."""
    sup = Supervisor.start_link(specs("a", Journal()), max_restarts=0)
    old = ref_of(sup, "a")
    Supervisor.terminate_child(sup, "a")
    new = Supervisor.restart_child(sup, "a")
    process.send(sup, Exit(old, "boom"))
    assert ref_of(sup, "a") is new


def test_the_window_is_the_supervisors(me):
    """One failure of each of two children is two restarts. SMUL-07."""
    sup = Supervisor.start_link(specs("ab", Journal()), max_restarts=1)
    crash(ref_of(sup, "a"))
    crash(ref_of(sup, "b"))
    assert ended(me, sup) == "shutdown"


# ---- restart intensity


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_one_restart_too_many_ends_the_supervisor(me, limit):
    """So many restarts are allowed, and the next failure is for somebody above. SINT-01,
    SINT-03."""
    journal = Journal()
    sup = Supervisor.start_link(specs("a", journal), max_restarts=limit)
    for _ in range(limit):
        crash(ref_of(sup, "a"))
        assert process.is_alive(ref_of(sup, "a"))
    crash(ref_of(sup, "a"), "own reason")
    assert ended(me, sup) == "shutdown"
    assert journal.take().count(("start", "a")) == 1 + limit


def test_no_restart_allowed_means_none(me):
    """With max_restarts=0 the first failure ends the supervisor, without a try. SINT-02."""
    journal = Journal()
    sup = Supervisor.start_link([spec("a", journal, script=["ok"])], max_restarts=0)
    crash(ref_of(sup, "a"))
    assert ended(me, sup) == "shutdown"
    assert journal.take() == [("try", "a", "ok"), ("start", "a"), ("term", "a", "boom")]


def test_a_supervisor_that_gives_up_stops_the_rest_in_reverse(me):
    """It leaves nothing running, and starts nothing. SINT-04, SINT-03."""
    journal = Journal()
    sup = Supervisor.start_link(specs("abcd", journal), max_restarts=0)
    journal.take()
    crash(ref_of(sup, "b"))
    assert ended(me, sup) == "shutdown"
    assert journal.take() == [
        ("term", "b", "boom"),
        ("term", "d", "shutdown"),
        ("term", "c", "shutdown"),
        ("term", "a", "shutdown"),
    ]


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_a_group_at_the_limit_is_stopped_once(me, strategy):
    """Nothing is started when the restart is one too many. SINT-05."""
    journal = Journal()
    sup = Supervisor.start_link(specs("abc", journal), strategy=strategy, max_restarts=0)
    journal.take()
    crash(ref_of(sup, "a"))
    assert ended(me, sup) == "shutdown"
    assert journal.take() == [
        ("term", "a", "boom"),
        ("term", "c", "shutdown"),
        ("term", "b", "shutdown"),
    ]


@pytest.mark.parametrize("word", ["error", "stop", "raise", "raise in init", "exit", "foo"])
def test_a_restart_that_fails_counts_and_is_tried_again(me, word):
    """With three restarts left there are exactly three tries. SINT-06."""
    journal = Journal()
    child = spec("a", journal, script=Forever("ok", then=word))
    sup = Supervisor.start_link([child], max_restarts=3)
    ref = ref_of(sup, "a")
    journal.take()
    crash(ref)
    assert ended(me, sup) == "shutdown"
    assert journal.take() == [("term", "a", "boom"), *[("try", "a", word)] * 3]


def test_a_restart_that_succeeds_at_last_is_a_restart(me):
    """The failed tries have used up the window, and the child runs. SINT-07."""
    journal = Journal()
    child = spec("a", journal, script=["ok", "error", "error", "ok"])
    sup = Supervisor.start_link([child], max_restarts=3)
    crash(ref_of(sup, "a"))
    crash(settled(sup)["a"])
    assert ended(me, sup) == "shutdown"
    assert journal.take().count(("try", "a", "error")) == 2


def test_between_tries_a_supervisor_serves_others(me):
    """The tries go through the mailbox, one by one. SINT-08."""
    journal = Journal()
    script = Forever("ok", then="error")
    tree = [spec("a", journal, script=script), spec("b", journal)]
    sup = Supervisor.start_link(tree, max_restarts=ENDLESS)
    crash(ref_of(sup, "a"))
    for _ in range(20):
        assert children(sup)["a"] == "restarting"
    assert Supervisor.start_child(sup, spec("c", journal)) is ref_of(sup, "c")
    crash(ref_of(sup, "b"))
    assert process.is_alive(ref_of(sup, "b"))
    script.word = "ok"
    assert settled(sup)["a"] is ref_of(sup, "a")


def test_restarts_that_are_old_enough_do_not_count(me):
    """Two failures in the window end it, two failures apart do not. SINT-09."""
    sup = Supervisor.start_link(specs("a", Journal()), max_restarts=1, max_seconds=0.2)
    for _ in range(3):
        crash(ref_of(sup, "a"))
        assert process.is_alive(ref_of(sup, "a"))
        time.sleep(0.25)
    assert answers(sup)


def test_restarts_within_the_window_count(me):
    """A long window remembers what a short one has forgotten. SINT-10."""
    sup = Supervisor.start_link(specs("a", Journal()), max_restarts=1, max_seconds=600)
    crash(ref_of(sup, "a"))
    assert answers(sup)
    time.sleep(0.25)
    crash(ref_of(sup, "a"))
    assert ended(me, sup) == "shutdown"


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_a_group_restart_counts_once(me, strategy):
    """The window counts failures, however many children go along. SINT-11."""
    sup = Supervisor.start_link(specs("abcdef", Journal()), strategy=strategy, max_restarts=2)
    for _ in range(2):
        crash(ref_of(sup, "a"))
        assert counts(sup) == [6, 6, 0, 6]
    crash(ref_of(sup, "a"))
    assert ended(me, sup) == "shutdown"


def test_a_permanent_supervisor_that_gave_up_begins_anew(me):
    """Escalation: the one above restarts it with the children it was given, and only these.
    SINT-12, SINT-14."""
    journal = Journal()
    sub = nested("sub", specs("ab", journal), {"max_restarts": 0})
    sup = Supervisor.start_link([sub])
    inner = ref_of(sup, "sub")
    Supervisor.start_child(inner, spec("added", journal))
    journal.take()
    process.monitor(inner)
    crash(ref_of(inner, "a"))
    assert me.receive(timeout=WAIT).reason == "shutdown"
    new = ref_of(sup, "sub")
    assert new is not inner
    assert list(children(new)) == ["a", "b"]
    assert journal.take() == [
        ("term", "a", "boom"),
        ("term", "added", "shutdown"),
        ("term", "b", "shutdown"),
        ("start", "a"),
        ("start", "b"),
    ]


def test_a_transient_supervisor_that_gave_up_stays_down(me):
    """It ends with "shutdown", an end on purpose: give up loudly, or be permanent. SINT-13."""
    sub = nested("sub", specs("a", Journal()), {"max_restarts": 0}, restart="transient")
    sup = Supervisor.start_link([sub])
    crash(ref_of(ref_of(sup, "sub"), "a"))
    until(lambda: children(sup) == {"sub": None})
    assert counts(sup) == [1, 0, 1, 0]


def test_each_level_multiplies_the_restarts(me):
    """The one above counts one restart for each death of the one below. SINT-16."""
    journal = Journal()
    sub = nested("sub", specs("a", journal), {"max_restarts": 1})
    sup = Supervisor.start_link([sub], max_restarts=1)
    for _ in range(3):
        inner = ref_of(sup, "sub")
        crash(ref_of(inner, "a"))
        assert answers(inner) or ref_of(sup, "sub") is not inner
    crash(ref_of(ref_of(sup, "sub"), "a"))
    assert ended(me, sup) == "shutdown"
    # Two restarts of the worker below, one of the supervisor, and the first start.
    assert journal.take().count(("start", "a")) == 4


# ---- the state "restarting"


@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one", "one_for_all"])
def test_a_supervisor_that_tries_for_ever_can_be_stopped(me, strategy):
    """Its own shutdown stands in the same mailbox as its tries. SRST-03, SRST-04, SINT-08."""
    journal = Journal()
    child = spec("a", journal, script=Forever("ok", then="error"))
    sup = Supervisor.start_link([child], strategy=strategy, max_restarts=ENDLESS)
    crash(ref_of(sup, "a"))
    assert children(sup) == {"a": "restarting"}
    process.exit(sup, "shutdown")
    assert ended(me, sup) == "shutdown"
    journal.take()
    assert nothing_comes()
    assert journal.take() == []


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
def test_what_a_group_tries_again_can_be_terminated(me, strategy):
    """The tries end with the child that could not start; those after it wait for an operator.
    SRST-02, SRST-04."""
    journal = Journal()
    script = Forever("ok", then="error")
    tree = [spec("a", journal), spec("x", journal, script=script), spec("d", journal)]
    sup = Supervisor.start_link(tree, strategy=strategy, max_restarts=ENDLESS)
    crash(ref_of(sup, "x"))
    assert Supervisor.terminate_child(sup, "x") is None
    assert children(sup) == {"a": ref_of(sup, "a"), "x": None, "d": None}
    journal.take()
    assert nothing_comes()
    assert journal.take() == []
    script.word = "ok"
    assert Supervisor.restart_child(sup, "x") is ref_of(sup, "x")
    assert Supervisor.restart_child(sup, "d") is ref_of(sup, "d")


@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one", "one_for_all"])
def test_what_is_tried_again_is_neither_running_nor_gone(me, strategy):
    """Nobody can start it twice, nor take it off the list. SRST-01, SRST-04."""
    journal = Journal()
    script = Forever("ok", then="error")
    child = spec("a", journal, script=script)
    sup = Supervisor.start_link([child], strategy=strategy, max_restarts=ENDLESS)
    crash(ref_of(sup, "a"))
    for act, word in [
        (lambda: Supervisor.start_child(sup, child), "already_present"),
        (lambda: Supervisor.restart_child(sup, "a"), "restarting"),
        (lambda: Supervisor.delete_child(sup, "a"), "restarting"),
    ]:
        with pytest.raises(Exception, match="'a'") as caught:
            act()
        assert caught.value.reason == word
    assert counts(sup) == [1, 0, 0, 1]
    script.word = "ok"
    assert settled(sup) == {"a": ref_of(sup, "a")}


def dynamic(journal, *scripts, **flags):
    """A dynamic supervisor with a child for each script, and the children."""
    sup = DynamicSupervisor.start_link(max_restarts=ENDLESS, **flags)
    refs = [
        DynamicSupervisor.start_child(sup, spec(place, journal, script=script))
        for place, script in enumerate(scripts)
    ]
    return sup, refs


def test_children_on_demand_are_restarting_too(me):
    """They have no id; what they were and how many they are can be seen. SRST-05."""
    scripts = [Forever("ok", then="error") for _ in range(3)]
    sup, refs = dynamic(Journal(), *scripts)
    crash(refs[0])
    crash(refs[1])
    infos = DynamicSupervisor.which_children(sup)
    assert sorted((info.child for info in infos), key=str) == [refs[2], "restarting", "restarting"]
    assert {(info.id, info.type) for info in infos} == {(None, "worker")}
    assert all(info.modules == [start.__module__] for info in infos)
    assert counts(sup) == [3, 1, 0, 3]
    for script in scripts:
        script.word = "ok"
    until(lambda: counts(sup) == [3, 3, 0, 3])


def test_a_child_on_demand_that_is_tried_again_can_be_terminated(me):
    """It is known by the ref that it had. SRST-04, SRST-02."""
    journal = Journal()
    sup, (ref,) = dynamic(journal, Forever("ok", then="error"))
    crash(ref)
    assert counts(sup) == [1, 0, 0, 1]
    assert DynamicSupervisor.terminate_child(sup, ref) is None
    assert counts(sup) == [0, 0, 0, 0]
    journal.take()
    assert nothing_comes()
    assert journal.take() == []


def test_a_dynamic_supervisor_that_tries_for_ever_can_be_stopped(me):
    """As a static one. SRST-04, SRST-03."""
    sup, (ref,) = dynamic(Journal(), Forever("ok", then="error"))
    crash(ref)
    assert counts(sup) == [1, 0, 0, 1]
    process.exit(sup, "shutdown")
    assert ended(me, sup) == "shutdown"


# ---- suspended


def test_a_suspended_supervisor_restarts_later(me):
    """An operator may hold a supervisor still to look at what crashed. SYS-23, SMUL-01."""
    journal = Journal()
    sup = Supervisor.start_link(specs("a", journal))
    ref = ref_of(sup, "a")
    debug.suspend(sup)
    crash(ref)
    journal.take()
    assert nothing_comes()
    assert journal.take() == []
    debug.resume(sup)
    assert ref_of(sup, "a") is not ref


def test_a_supervisor_that_is_killed_during_a_restart_leaves_nothing(me, log_events):
    """A start function under way belongs to the dead, and what it starts dies with it. SSHD-13."""
    journal, gate = Journal(), Gate()

    def start_it():
        if not journal.take():
            journal("first")
            return Child.start_link("a", Journal())
        journal("again")
        try:
            gate(library=True)
        except ProcessExit as error:
            journal("unwound", error.reason)
            raise
        return Child.start_link("a", Journal())

    sup = Supervisor.start_link([{"id": "a", "start": (start_it, [])}])
    crash(ref_of(sup, "a"))
    gate.reached()
    process.exit(sup, "kill")
    assert ended(me, sup) == "killed"
    journal.wait_for("unwound", "killed")
    assert process.list() == []
    assert not [event for event in log_events if event["event"] == "child_start_failed"]


def test_exit_of_a_child_that_was_restarted_is_old_news(me):
    """It is of the process that was; the one that runs now is not restarted for it. SMUL-06."""
    sup = Supervisor.start_link(specs("a", Journal()), max_restarts=1)
    old = ref_of(sup, "a")
    crash(old)
    new = ref_of(sup, "a")
    process.send(sup, Exit(old, "boom"))
    assert counts(sup) == [1, 1, 0, 1]
    assert ref_of(sup, "a") is new
