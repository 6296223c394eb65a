"""DynamicSupervisor: children on demand, in no order."""

import gc
import weakref

import pytest

from elsa_actors import (
    AlreadyStarted,
    CallExit,
    ChildError,
    ChildSpecError,
    DynamicSupervisor,
    Exit,
    NoProcess,
    StartError,
    Supervisor,
    call,
    cast,
    debug,
    process,
)
from tests.otp.supervised import (
    Aside,
    Forever,
    counts,
    crash,
    kill,
    nested,
    queued,
    reason_of,
    ref_of,
    spec,
    start,
    until,
)
from tests.servers import WAIT, Child, Doer, Gate, Journal, Oops, nothing_comes

REASONS = ["normal", "shutdown", ("shutdown", "x"), "boom"]


def refs(sup):
    """The refs of the children that run, as a set: there is no order."""
    infos = DynamicSupervisor.which_children(sup)
    return {info.child for info in infos if info.child not in (None, "restarting")}


def only(sup):
    (ref,) = refs(sup)
    return ref


def refused(sup, child):
    with pytest.raises((ChildError, StartError)) as caught:
        DynamicSupervisor.start_child(sup, child)
    return caught.value


def ended(me, sup):
    message = me.receive(lambda message: message.ref is sup, WAIT)
    assert not process.is_alive(sup)
    return message.reason


# ---- start_child


def test_a_child_is_started_on_demand(me):
    """A connection, a session: something for each of what comes. DSUP-01."""
    sup = DynamicSupervisor.start_link()
    ref = DynamicSupervisor.start_child(sup, spec("a", Journal()))
    assert refs(sup) == {ref}
    assert call(ref, "hello") == "hello"
    assert process.info(ref)["parent"] is sup


def test_what_a_start_function_says_more_is_passed_on(me):
    """(ref, info), as it came. DSUP-01."""
    sup = DynamicSupervisor.start_link()
    answer = DynamicSupervisor.start_child(sup, spec("a", Journal(), script=["info"]))
    assert answer == (only(sup), "info of a")


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
def test_a_child_that_ignores_is_not_kept(me, restart):
    """Nobody could find it again, so there is nothing to keep. DSUP-02."""
    sup = DynamicSupervisor.start_link()
    child = spec("a", Journal(), script=["ignore"], restart=restart)
    assert DynamicSupervisor.start_child(sup, child) is None
    assert DynamicSupervisor.which_children(sup) == []
    assert counts(sup) == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("word", "reason"), [("stop", "istop"), ("error", "nope"), ("exit", "gone"), ("foo", "foo")]
)
def test_a_failed_start_has_the_reason_as_it_is(me, word, reason):
    """No wrapping here: an exit is its reason, a wrong answer is the answer. DSUP-03, DSUP-04."""
    sup = DynamicSupervisor.start_link()
    error = refused(sup, spec("a", Journal(), script=[word]))
    assert type(error) is StartError
    assert error.reason == reason
    assert error.child["id"] == "a"
    assert counts(sup) == [0, 0, 0, 0]


@pytest.mark.parametrize("word", ["raise", "raise in init"])
def test_a_raise_is_its_own_reason(me, word):
    """Whether the start function raises or the child's init. DSUP-04, DSUP-03."""
    sup = DynamicSupervisor.start_link()
    error = refused(sup, spec("a", Journal(), script=[word]))
    assert isinstance(error.reason, Oops)
    assert error.__cause__ is error.reason
    assert process.is_alive(sup)


def test_a_taken_name_is_already_started(me):
    """The caller gets the process that it wanted to have. DSUP-03."""
    holder = Doer.start(name="taken")
    sup = DynamicSupervisor.start_link()
    child = {"id": "a", "start": (Doer, "start_link", [], {"name": "taken"})}
    error = refused(sup, child)
    assert isinstance(error, AlreadyStarted)
    assert error.ref is holder


def test_the_same_spec_makes_many_children(me):
    """Ids are asked for and not looked at. DSUP-05."""
    sup = DynamicSupervisor.start_link()
    child = spec("a", Journal())
    made = {DynamicSupervisor.start_child(sup, child) for _ in range(3)}
    assert len(made) == 3
    assert refs(sup) == made


# ---- which_children and count_children


def test_children_have_no_ids(me):
    """A line of which_children knows the process, type and modules. DSUP-06."""
    sup = DynamicSupervisor.start_link()
    one = DynamicSupervisor.start_child(sup, spec("a", Journal()))
    two = DynamicSupervisor.start_child(sup, nested("sub", []))
    infos = {info.child: info for info in DynamicSupervisor.which_children(sup)}
    assert infos == {
        one: (None, one, "worker", [start.__module__]),
        two: (None, two, "supervisor", [Supervisor]),
    }


def test_a_child_that_is_tried_again_is_restarting(me):
    """Between two tries it has no process. DSUP-06."""
    script = Forever("ok", then="error")
    sup = DynamicSupervisor.start_link(max_restarts=10**9)
    crash(DynamicSupervisor.start_child(sup, spec("a", Journal(), script=script)))
    assert [info.child for info in DynamicSupervisor.which_children(sup)] == ["restarting"]
    assert counts(sup) == [1, 0, 0, 1]
    script.word = "ok"
    until(lambda: counts(sup) == [1, 1, 0, 1])


def test_specs_are_the_children_that_there_are(me):
    """An empty one has none. DSUP-07."""
    sup = DynamicSupervisor.start_link()
    assert DynamicSupervisor.count_children(sup) == {
        "specs": 0,
        "active": 0,
        "supervisors": 0,
        "workers": 0,
    }
    for child in [spec("a", Journal()), spec("b", Journal()), nested("sub", [])]:
        DynamicSupervisor.start_child(sup, child)
    assert list(DynamicSupervisor.count_children(sup).values()) == [3, 3, 1, 2]


def test_the_functions_that_look_are_the_same_for_both(me):
    """An operator's tool need not know which kind of supervisor it looks at. DSUP-06, DSUP-07."""
    sup = DynamicSupervisor.start_link()
    DynamicSupervisor.start_child(sup, spec("a", Journal()))
    assert Supervisor.which_children(sup) == DynamicSupervisor.which_children(sup)
    assert Supervisor.count_children(sup) == DynamicSupervisor.count_children(sup)
    with pytest.raises(CallExit) as caught:
        Supervisor.restart_child(sup, "a")
    assert caught.value.reason[0] == "unknown_request"
    assert process.is_alive(sup)


# ---- max_children


def test_no_more_children_than_allowed(me):
    """A limit keeps a flood outside; an end makes room. DSUP-08."""
    journal = Journal()
    sup = DynamicSupervisor.start_link(max_children=2)
    child = spec("a", journal, restart="temporary")
    first = DynamicSupervisor.start_child(sup, child)
    DynamicSupervisor.start_child(sup, child)
    journal.take()
    error = refused(sup, child)
    assert isinstance(error, ChildError)
    assert error.reason == "max_children"
    assert journal.take() == []
    crash(first)
    DynamicSupervisor.start_child(sup, child)
    assert refused(sup, child).reason == "max_children"
    assert counts(sup) == [2, 2, 0, 2]


def test_no_children_may_be_allowed_at_all(me):
    """A supervisor that is switched off refuses everything. DSUP-08."""
    sup = DynamicSupervisor.start_link(max_children=0)
    assert refused(sup, spec("a", Journal())).reason == "max_children"


def test_children_that_are_tried_again_count(me):
    """They will be back, and their places are theirs. DSUP-09."""
    script = Forever("ok", then="error")
    sup = DynamicSupervisor.start_link(max_children=1, max_restarts=10**9)
    crash(DynamicSupervisor.start_child(sup, spec("a", Journal(), script=script)))
    assert refused(sup, spec("b", Journal())).reason == "max_children"
    script.word = "ok"
    until(lambda: counts(sup) == [1, 1, 0, 1])


# ---- terminate_child


def test_a_child_is_terminated_by_its_ref(me):
    """It is gone for good, within its shutdown time. DSUP-10."""
    journal = Journal()
    sup = DynamicSupervisor.start_link()
    ref = DynamicSupervisor.start_child(sup, spec("a", journal))
    other = DynamicSupervisor.start_child(sup, spec("b", journal))
    assert reason_of(ref, DynamicSupervisor.terminate_child, sup, ref) == "shutdown"
    assert refs(sup) == {other}
    assert journal.take()[-1] == ("term", "a", "shutdown")


def test_an_unknown_child_is_not_found(me):
    """The dead, strangers and what is no ref at all. DSUP-10."""
    sup = DynamicSupervisor.start_link()
    gone = DynamicSupervisor.start_child(sup, spec("a", Journal()))
    assert DynamicSupervisor.terminate_child(sup, gone) is None
    stranger = Doer.start()
    for unknown in (gone, stranger, "a", None, ["a"]):
        with pytest.raises(ChildError) as caught:
            DynamicSupervisor.terminate_child(sup, unknown)
        assert caught.value.reason == "not_found"
    assert process.is_alive(stranger)


def test_a_child_that_is_tried_again_is_terminated_by_its_old_ref(me):
    """That is the ref that its starter has. DSUP-11."""
    journal = Journal()
    sup = DynamicSupervisor.start_link(max_restarts=10**9)
    child = spec("a", journal, script=Forever("ok", then="error"))
    ref = DynamicSupervisor.start_child(sup, child)
    crash(ref)
    assert counts(sup) == [1, 0, 0, 1]
    assert DynamicSupervisor.terminate_child(sup, ref) is None
    assert counts(sup) == [0, 0, 0, 0]
    journal.take()
    assert nothing_comes()
    assert journal.take() == []


def test_a_child_that_takes_too_long_is_killed(me):
    """As in a static supervisor. DSUP-10, SSHD-02."""
    gate = Gate()
    sup = DynamicSupervisor.start_link()
    child = {"start": (Doer, "start_link", [], {"trap": True}), "id": 1, "shutdown": 0.1}
    ref = DynamicSupervisor.start_child(sup, child)
    cast(ref, lambda _server: gate())
    gate.reached()
    assert reason_of(ref, DynamicSupervisor.terminate_child, sup, ref) == "killed"
    gate.open()


# ---- extra arguments


def test_extra_arguments_come_first(me):
    """What all children need is said once, and at restarts too. DSUP-12."""
    journal = Journal()

    class Told(Child):
        def init(self, *args):
            journal("told", args)
            return super().init(args[-1], journal)

    sup = DynamicSupervisor.start_link(extra_arguments=["pool", 7])
    ref = DynamicSupervisor.start_child(sup, (Told, "own"))
    crash(ref)
    assert only(sup) is not ref
    told = [event for event in journal.take() if event[0] == "told"]
    assert told == [("told", ("pool", 7, "own"))] * 2


# ---- restarts


@pytest.mark.parametrize("reason", [*REASONS, "killed"])
@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
def test_restart_types_are_those_of_every_supervisor(me, restart, reason):
    """Permanent always, transient when it failed, temporary never. DSUP-13."""
    sup = DynamicSupervisor.start_link()
    ref = DynamicSupervisor.start_child(sup, spec("a", Journal(), restart=restart))
    kill(ref) if reason == "killed" else crash(ref, reason)
    again = restart == "permanent" or (restart == "transient" and reason in ("boom", "killed"))
    assert len(refs(sup) - {ref}) == again
    assert counts(sup)[0] == again


def test_three_restarts_are_the_default(me):
    """The fourth failure within five seconds ends the supervisor. DSUP-14, SINT-17."""
    journal = Journal()
    sup = DynamicSupervisor.start_link()
    DynamicSupervisor.start_child(sup, spec("a", journal))
    for _ in range(3):
        crash(only(sup))
    other = DynamicSupervisor.start_child(sup, spec("b", journal, restart="temporary"))
    (ref,) = refs(sup) - {other}
    process.monitor(other)
    crash(ref)
    assert me.receive(timeout=WAIT).reason == "shutdown"
    assert ended(me, sup) == "shutdown"
    assert journal.take()[-2:] == [("term", "a", "boom"), ("term", "b", "shutdown")]


@pytest.mark.parametrize("word", ["error", "stop", "raise", "foo"])
def test_a_restart_that_fails_is_tried_again_and_counts(me, word):
    """With three restarts there are three tries. DSUP-15."""
    journal = Journal()
    sup = DynamicSupervisor.start_link(max_restarts=3)
    child = spec("a", journal, script=Forever("ok", then=word))
    crash(DynamicSupervisor.start_child(sup, child))
    assert ended(me, sup) == "shutdown"
    assert journal.take()[3:] == [("try", "a", word)] * 3


def test_a_second_try_may_succeed(me):
    """The child runs again, under another ref. DSUP-16."""
    sup = DynamicSupervisor.start_link(max_restarts=2)
    ref = DynamicSupervisor.start_child(sup, spec("a", Journal(), script=["ok", "error", "ok"]))
    crash(ref)
    until(lambda: counts(sup) == [1, 1, 0, 1])
    assert only(sup) is not ref
    with pytest.raises(ChildError):
        DynamicSupervisor.terminate_child(sup, ref)


def test_a_child_that_ignores_at_a_restart_is_dropped(me):
    """There is nothing left to find it by. DSUP-17."""
    sup = DynamicSupervisor.start_link()
    crash(DynamicSupervisor.start_child(sup, spec("a", Journal(), script=["ok", "ignore"])))
    assert counts(sup) == [0, 0, 0, 0]
    assert DynamicSupervisor.which_children(sup) == []


def test_a_restart_that_says_more_is_a_restart(me):
    """(ref, info) is a good answer at a restart too. DSUP-16."""
    sup = DynamicSupervisor.start_link()
    ref = DynamicSupervisor.start_child(sup, spec("a", Journal(), script=["ok", "info"]))
    crash(ref)
    assert call(only(sup), "hello") == "hello"


def test_children_do_not_know_each_other(me):
    """The crash of one is no other's matter. DSUP-13."""
    sup = DynamicSupervisor.start_link()
    one, two = (DynamicSupervisor.start_child(sup, spec("a", Journal())) for _ in range(2))
    crash(one)
    assert two in refs(sup)
    assert len(refs(sup)) == 2


# ---- flags and specs


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one", "simple_one_for_one", 1])
def test_it_has_one_strategy(me, strategy):
    """Without an order of children there is nothing but one_for_one. DSUP-18."""
    with pytest.raises(ChildSpecError) as caught:
        DynamicSupervisor.start_link(strategy=strategy)
    assert caught.value.reason == ("invalid_strategy", strategy)
    assert process.is_alive(DynamicSupervisor.start_link(strategy="one_for_one"))


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({"max_children": -1}, ("invalid_max_children", -1)),
        ({"max_children": "many"}, ("invalid_max_children", "many")),
        ({"extra_arguments": 1}, ("invalid_extra_arguments", 1)),
        ({"max_restarts": -1}, ("invalid_intensity", -1)),
        ({"max_seconds": 0}, ("invalid_period", 0)),
        ({"auto_shutdown": "any_significant"}, ("invalid_auto_shutdown", "any_significant")),
        ({"max_childs": 1}, ("unknown_key", "max_childs")),
    ],
)
def test_wrong_flags_are_refused_in_the_caller(me, flags, reason):
    """Checked where they are written; nothing is started. DSUP-19, SAUT-11."""
    for start_it in (DynamicSupervisor.start_link, DynamicSupervisor.start):
        with pytest.raises(ChildSpecError) as caught:
            start_it(**flags)
        assert caught.value.reason == reason
    assert process.list() == []


GOOD = spec("a", Journal())


@pytest.mark.parametrize(
    ("child", "reason"),
    [
        ({}, ("invalid_child_spec", {})),
        ({"id": "a"}, ("invalid_child_spec", {"id": "a"})),
        ({"start": GOOD["start"]}, ("invalid_child_spec", {"start": GOOD["start"]})),
        (42, ("invalid_child_spec", 42)),
        ({**GOOD, "start": Child}, ("invalid_mfa", Child)),
        ({**GOOD, "shutdown": -1}, ("invalid_shutdown", -1)),
        ({**GOOD, "restart": "always"}, ("invalid_restart_type", "always")),
        ({**GOOD, "significant": True}, ("invalid_significant", True)),
        ({**GOOD, "strat": 1}, ("unknown_key", "strat")),
    ],
)
def test_wrong_specs_are_refused_in_the_caller(me, child, reason):
    """Even when there is no such supervisor: the spec is looked at first. DSUP-20."""
    sup = DynamicSupervisor.start_link()
    for target in (sup, "nobody"):
        with pytest.raises(ChildSpecError) as caught:
            DynamicSupervisor.start_child(target, child)
        assert caught.value.reason == reason
    assert counts(sup) == [0, 0, 0, 0]


def test_a_good_spec_for_nobody_finds_nobody(me):
    """A supervisor that is not there is told as such. DSUP-20, DEAD-08."""
    for act in [
        lambda: DynamicSupervisor.start_child("nobody", GOOD),
        lambda: DynamicSupervisor.terminate_child("nobody", me.ref),
        lambda: DynamicSupervisor.which_children("nobody"),
        lambda: DynamicSupervisor.count_children("nobody"),
        lambda: DynamicSupervisor.stop("nobody"),
    ]:
        with pytest.raises(NoProcess):
            act()


# ---- its end


class Held(Child):
    """Holds at a gate in its terminate."""

    def init(self, label, journal, gate):
        self.gate = gate
        return super().init(label, journal)

    def terminate(self, reason):
        self.journal("stopping", self.label, reason)
        self.gate(library=True)
        super().terminate(reason)


def held(label, journal, gate, **fields):
    return {"id": label, "start": (Held, "start_link", [label, journal, gate]), **fields}


def test_all_children_are_stopped_side_by_side(me):
    """They do not depend on each other, so nobody waits for another. DSUP-21."""
    journal, gates = Journal(), [Gate() for _ in range(3)]
    sup = DynamicSupervisor.start_link()
    for place, gate in enumerate(gates):
        DynamicSupervisor.start_child(sup, held(place, journal, gate))
    brutal = DynamicSupervisor.start_child(sup, spec("brutal", journal, shutdown="brutal_kill"))
    plain = DynamicSupervisor.start_child(sup, spec("plain", journal, trap=False))
    process.monitor(brutal)
    process.monitor(plain)
    process.exit(sup, "shutdown")
    for gate in gates:
        gate.reached()
    assert sorted([me.receive(timeout=WAIT).reason, me.receive(timeout=WAIT).reason]) == [
        "killed",
        "shutdown",
    ]
    for place in range(3):
        journal.wait_for("stopping", place, "shutdown")
    assert process.is_alive(sup)
    for gate in gates:
        gate.open()
    assert ended(me, sup) == "shutdown"
    events = journal.take()
    assert {("term", place, "shutdown") for place in range(3)} <= set(events)
    assert not any(event[:2] == ("term", "brutal") for event in events)


def test_each_child_has_its_own_time(me):
    """A child without a limit does not lengthen another's. DSUP-21."""
    journal, slow, stuck = Journal(), Gate(), Gate()
    sup = DynamicSupervisor.start_link()
    DynamicSupervisor.start_child(sup, held("slow", journal, slow, shutdown="infinity"))
    short = DynamicSupervisor.start_child(sup, held("stuck", journal, stuck, shutdown=0.1))
    process.monitor(short)
    process.exit(sup, "shutdown")
    assert me.receive(timeout=WAIT).reason == "killed"
    assert process.is_alive(sup)
    slow.open()
    assert ended(me, sup) == "shutdown"


@pytest.mark.parametrize("reason", REASONS)
def test_stop_ends_it_with_the_reason_given(me, reason):
    """Its children get "shutdown" whatever its own reason is. DSUP-21, SSHD-10."""
    journal = Journal()
    sup = DynamicSupervisor.start_link()
    DynamicSupervisor.start_child(sup, spec("a", journal))
    assert DynamicSupervisor.stop(sup, reason) is None
    assert ended(me, sup) == reason
    assert journal.take()[-1] == ("term", "a", "shutdown")


@pytest.mark.parametrize("reason", REASONS)
def test_a_strangers_signal_is_ignored(me, reason):
    """Only its parent and a kill end it. DSUP-22."""
    sup = DynamicSupervisor.start()
    DynamicSupervisor.start_child(sup, spec("a", Journal()))
    stranger = Doer.start()
    call(stranger, lambda _server: process.exit(sup, reason))
    assert counts(sup) == [1, 1, 0, 1]


def test_its_parents_end_is_its_own(me):
    """It ends with the reason of who started it. SSHD-09, DSUP-22."""
    journal = Journal()
    sup = DynamicSupervisor.start_link()
    DynamicSupervisor.start_child(sup, spec("a", journal))
    process.exit(sup, "boom")
    assert ended(me, sup) == "boom"
    assert journal.take()[-1] == ("term", "a", "shutdown")


# ---- under a supervisor


def test_several_stand_under_one_supervisor(me):
    """The id of each is its name. DSUP-23."""
    sup = Supervisor.start_link([
        DynamicSupervisor.child_spec(name="readers"),
        DynamicSupervisor.child_spec(name="writers", max_children=1),
    ])  # fmt: skip
    assert ref_of(sup, "readers") is process.whereis("readers")
    child = spec("a", Journal())
    DynamicSupervisor.start_child("writers", child)
    assert refused("writers", child).reason == "max_children"
    DynamicSupervisor.start_child("readers", child)
    kill(ref_of(sup, "readers"))
    assert counts(ref_of(sup, "readers")) == [0, 0, 0, 0]
    assert counts("writers") == [1, 1, 0, 1]


def test_two_without_a_name_need_two_ids(me):
    """The class alone is one child. DSUP-23."""
    with pytest.raises(ChildSpecError) as caught:
        Supervisor.start_link([DynamicSupervisor, DynamicSupervisor])
    assert caught.value.reason == ("duplicate_child_name", "DynamicSupervisor")
    sup = Supervisor.start_link([DynamicSupervisor])
    with pytest.raises(AlreadyStarted) as running:
        Supervisor.start_child(sup, DynamicSupervisor)
    assert running.value.ref is ref_of(sup, "DynamicSupervisor")


def test_a_subclass_has_its_own_id(me):
    """A class for each pool tells them apart without names. DSUP-23."""

    class Pool(DynamicSupervisor):
        shutdown = 9.0

    sup = Supervisor.start_link([Pool, DynamicSupervisor])
    assert counts(sup) == [2, 2, 2, 0]
    assert Supervisor.get_childspec(sup, "Pool")["shutdown"] == 9.0


def test_requests_are_served_one_at_a_time(me):
    """While a child starts, nobody sees the children half changed. SADM-22."""
    gate = Gate()
    sup = DynamicSupervisor.start_link()
    slow = {"id": 1, "start": (Doer, "start_link", [lambda _server: gate()])}
    adding = Aside(DynamicSupervisor.start_child, sup, slow)
    gate.reached()
    looking = queued(sup, DynamicSupervisor.count_children)
    assert looking.waits()
    gate.open()
    assert adding.answer() is only(sup)
    assert looking.answer()["active"] == 1


def test_a_request_that_it_does_not_know_fails_its_caller_only(me):
    """A call to the wrong process ends nothing."""
    sup = DynamicSupervisor.start_link()
    with pytest.raises(CallExit) as caught:
        call(sup, "hello")
    assert caught.value.reason == ("unknown_request", "hello")
    cast(sup, "hello")
    process.send(sup, "hello")
    assert counts(sup) == [0, 0, 0, 0]


def test_a_temporary_childs_arguments_are_not_held(me):
    """Thousands of sessions do not keep what they were started with. SRTY-10."""

    class Big:
        pass

    big = Big()
    watch = weakref.ref(big)
    sup = DynamicSupervisor.start_link()
    child = {
        "id": 1,
        "start": (lambda _big: Doer.start_link(), [big]),
        "restart": "temporary",
    }
    DynamicSupervisor.start_child(sup, child)
    DynamicSupervisor.which_children(sup)
    del big, child
    gc.collect()
    assert watch() is None


def test_exit_of_a_child_that_is_tried_again_is_old_news(me):
    """It stands under the ref it had, and is not restarted a second time for it. SMUL-06."""
    sup = DynamicSupervisor.start_link(max_restarts=2)
    script = ["ok", "error", "ok"]
    old = DynamicSupervisor.start_child(sup, spec("a", Journal(), script=script))
    debug.suspend(sup)
    crash(old)
    process.send(sup, Exit(old, "boom"))
    debug.resume(sup)
    until(lambda: counts(sup) == [1, 1, 0, 1])
