"""What operators see of a supervisor's children, and what they do to them."""

import pytest

from elsa_actors import (
    AlreadyStarted,
    CallExit,
    ChildError,
    ChildInfo,
    GenServer,
    NoProcess,
    Ok,
    Process,
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
    children,
    counts,
    crash,
    crash_doer,
    nested,
    queued,
    reason_of,
    ref_of,
    settled,
    spec,
    specs,
    start,
)
from tests.servers import WAIT, Child, Doer, Gate, Journal, Oops, nothing_comes


def refusal(function, *args):
    """The error with which the supervisor refuses."""
    with pytest.raises((ChildError, StartError)) as caught:
        function(*args)
    return caught.value


def refused(function, sup, child_id):
    error = refusal(function, sup, child_id)
    assert isinstance(error, ChildError)
    assert error.child_id == child_id
    return error.reason


def refused_child(sup, child):
    error = refusal(Supervisor.start_child, sup, child)
    assert isinstance(error, ChildError)
    assert error.child_id == child["id"]
    return error.reason


# ---- start_child


def test_a_new_child_goes_to_the_end(me):
    """A child that comes later may rely on all that were there. SADM-01."""
    journal = Journal()
    sup = Supervisor.start_link(specs("ab", journal))
    ref = Supervisor.start_child(sup, spec("c", journal))
    assert children(sup) == {"a": ref_of(sup, "a"), "b": ref_of(sup, "b"), "c": ref}
    assert list(children(sup)) == ["a", "b", "c"]
    assert journal.take()[-1] == ("start", "c")
    assert call(ref, "hello") == "hello"


def test_what_a_start_function_says_more_is_passed_on(me):
    """A start function may tell its starter a port, say: (ref, info). SADM-02."""
    sup = Supervisor.start_link([])
    ref, info = Supervisor.start_child(sup, spec("a", Journal(), script=["info"]))
    assert ref is ref_of(sup, "a")
    assert info == "info of a"


def test_a_child_whose_id_runs_is_not_started_again(me):
    """The caller learns who runs; no second one is started. SADM-03."""
    journal = Journal()
    sup = Supervisor.start_link(specs("a", journal))
    running = ref_of(sup, "a")
    journal.take()
    error = refusal(Supervisor.start_child, sup, spec("a", journal, script=["ok"]))
    assert isinstance(error, AlreadyStarted)
    assert error.reason == ("already_started", running)
    assert error.ref is running
    assert journal.take() == []


def test_a_child_whose_id_does_not_run_is_already_present(me):
    """The one on the list is meant to be restarted or deleted first. SADM-04."""
    journal = Journal()
    tree = [spec("stopped", journal), spec("ignored", journal, script=["ignore"])]
    sup = Supervisor.start_link(tree)
    Supervisor.terminate_child(sup, "stopped")
    journal.take()
    for label in ("stopped", "ignored"):
        assert refused_child(sup, spec(label, journal)) == "already_present"
    assert journal.take() == []


def test_a_child_that_does_not_start_is_not_kept(me):
    """The error has the bare reason, and the spec for a log; a better one may follow. SADM-05."""
    journal = Journal()
    sup = Supervisor.start_link([])
    for word, reason in [("error", "nope"), ("stop", "istop"), ("foo", "foo")]:
        error = refusal(Supervisor.start_child, sup, spec("a", journal, script=[word]))
        assert type(error) is StartError
        assert error.reason == reason
        assert error.child["id"] == "a"
        assert error.child["restart"] == "permanent"
        assert children(sup) == {}
    assert Supervisor.start_child(sup, spec("a", journal)) is ref_of(sup, "a")


def test_a_start_function_that_raises_is_told_from_a_child_that_does(me):
    """("EXIT", what) is the start function's own fault. SADM-06."""
    sup = Supervisor.start_link([])
    error = refusal(Supervisor.start_child, sup, spec("a", Journal(), script=["raise"]))
    word, cause = error.reason
    assert word == "EXIT"
    assert isinstance(cause, Oops)
    assert error.child["id"] == "a"
    error = refusal(Supervisor.start_child, sup, spec("a", Journal(), script=["raise in init"]))
    assert isinstance(error.reason, Oops)
    assert process.is_alive(sup)


def test_a_name_taken_elsewhere_is_already_started_too(me):
    """Whose name is taken runs already, and that is what the caller wanted to know. SADM-07."""
    holder = Doer.start(name="taken")
    sup = Supervisor.start_link([])
    child = {"id": "a", "start": (Doer, "start_link", [], {"name": "taken"})}
    error = refusal(Supervisor.start_child, sup, child)
    assert isinstance(error, AlreadyStarted)
    assert error.reason == ("already_started", holder)
    assert error.ref is holder
    assert children(sup) == {}


@pytest.mark.parametrize("restart", ["permanent", "transient"])
def test_a_child_that_ignores_is_kept(me, restart):
    """It has nothing to do now; its spec waits for restart_child. SADM-08."""
    journal = Journal()
    sup = Supervisor.start_link([])
    child = spec("a", journal, script=["ignore"], restart=restart)
    assert Supervisor.start_child(sup, child) is None
    assert children(sup) == {"a": None}
    assert refused_child(sup, child) == "already_present"
    assert Supervisor.restart_child(sup, "a") is ref_of(sup, "a")


def test_a_temporary_child_that_ignores_is_not_kept(me):
    """The same id can be added again. SADM-09."""
    journal = Journal()
    sup = Supervisor.start_link([])
    script = ["ignore", "ignore", "ok"]
    child = spec("a", journal, script=script, restart="temporary")
    assert Supervisor.start_child(sup, child) is None
    assert children(sup) == {}
    assert Supervisor.start_child(sup, child) is None
    assert Supervisor.start_child(sup, child) is ref_of(sup, "a")


def test_every_form_of_a_child_can_be_added(me):
    """A class, a class with arguments, a dictionary, OTP's old six-tuple. SADM-24."""

    class Simple(GenServer):
        pass

    sup = Supervisor.start_link([])
    for child, child_id, state in [
        (Simple, "Simple", None),
        ((Simple.child_spec(7) | {"id": "dictionary"}), "dictionary", 7),
        (("six", (Simple, "start_link", [8]), "transient", 1.0, "worker", [Simple]), "six", 8),
    ]:
        ref = Supervisor.start_child(sup, child)
        assert ref is ref_of(sup, child_id)
        assert debug.get_state(ref) == state
    Supervisor.terminate_child(sup, "Simple")
    Supervisor.delete_child(sup, "Simple")
    assert debug.get_state(Supervisor.start_child(sup, (Simple, 9))) == 9


def test_one_request_at_a_time(me):
    """While a child starts, nobody sees the list half changed. SADM-22."""
    gate = Gate()
    sup = Supervisor.start_link([])
    slow = {"id": "slow", "start": (Doer, "start_link", [lambda _server: gate()])}
    adding = Aside(Supervisor.start_child, sup, slow)
    gate.reached()
    looking = queued(sup, Supervisor.which_children)
    assert looking.waits()
    gate.open()
    ref = adding.answer()
    assert [info.child for info in looking.answer()] == [ref]


# ---- terminate_child


@pytest.mark.parametrize("restart", ["permanent", "transient"])
def test_a_child_that_is_terminated_stays_down(me, restart):
    """An operator who stops a child wants it stopped, and may start it again. SADM-10."""
    journal = Journal()
    sup = Supervisor.start_link(specs("abc", journal, restart=restart))
    process.monitor(ref_of(sup, "b"))
    assert Supervisor.terminate_child(sup, "b") is None
    assert me.receive(timeout=WAIT).reason == "shutdown"
    assert children(sup) == {"a": ref_of(sup, "a"), "b": None, "c": ref_of(sup, "c")}
    assert journal.take()[-1] == ("term", "b", "shutdown")
    assert counts(sup) == [3, 2, 0, 3]


def test_a_temporary_child_that_is_terminated_is_forgotten(me):
    """A temporary child is on the list only while it runs. SADM-11."""
    sup = Supervisor.start_link(specs("ab", Journal(), restart="temporary"))
    assert Supervisor.terminate_child(sup, "a") is None
    assert list(children(sup)) == ["b"]
    assert refused(Supervisor.terminate_child, sup, "a") == "not_found"


def test_a_stopped_child_can_be_terminated_again(me):
    """Terminating says how it shall be, not what to change. SADM-12."""
    sup = Supervisor.start_link([spec("a", Journal()), spec("b", Journal(), script=["ignore"])])
    for _ in range(2):
        assert Supervisor.terminate_child(sup, "a") is None
        assert Supervisor.terminate_child(sup, "b") is None
    assert children(sup) == {"a": None, "b": None}


def test_terminate_child_knows_ids_only(me):
    """A ref is no id: by the time it is read, another process may stand in its place. SADM-13."""
    sup = Supervisor.start_link(specs("a", Journal()))
    running = ref_of(sup, "a")
    for unknown in ("b", running, None, ["a"]):
        assert refused(Supervisor.terminate_child, sup, unknown) == "not_found"
    assert ref_of(sup, "a") is running


def test_a_child_that_is_being_restarted_can_be_terminated(me):
    """An operator ends the tries of a child that cannot start. SADM-14, SRST-02."""
    journal, script = Journal(), Forever("ok", then="error")
    sup = Supervisor.start_link([spec("a", journal, script=script)], max_restarts=10**9)
    crash(ref_of(sup, "a"))
    assert Supervisor.terminate_child(sup, "a") is None
    assert children(sup) == {"a": None}
    journal.take()
    assert nothing_comes()
    assert journal.take() == []
    script.word = "ok"
    assert Supervisor.restart_child(sup, "a") is ref_of(sup, "a")


def test_a_terminated_child_gets_its_shutdown_time(me):
    """terminate_child returns when the child is dead, however long it takes. SADM-10."""
    gate = Gate()

    class Slow(Child):
        def terminate(self, reason):
            gate()

    slow = {"id": "slow", "start": (Slow, "start_link", ["slow", Journal()])}
    sup = Supervisor.start_link([slow])
    ref = ref_of(sup, "slow")
    stopping = Aside(Supervisor.terminate_child, sup, "slow")
    gate.reached()
    assert stopping.waits()
    assert process.is_alive(ref)
    gate.open()
    assert stopping.answer() is None
    assert not process.is_alive(ref)


# ---- restart_child


def test_a_stopped_child_starts_again_in_its_place(me):
    """Its place in the order is kept for it. SADM-15."""
    sup = Supervisor.start_link(specs("abc", Journal()))
    old = ref_of(sup, "b")
    Supervisor.terminate_child(sup, "b")
    new = Supervisor.restart_child(sup, "b")
    assert new is not old
    assert list(children(sup).items())[1] == ("b", new)
    assert list(children(sup)) == ["a", "b", "c"]


def test_what_runs_or_is_unknown_is_not_restarted(me):
    """restart_child never makes a second one of a child. SADM-16."""
    journal, script = Journal(), Forever("ok", then="error")
    tree = [spec("a", journal), spec("retried", journal, script=script)]
    sup = Supervisor.start_link(tree, max_restarts=10**9)
    running = ref_of(sup, "a")
    assert refused(Supervisor.restart_child, sup, "a") == "running"
    assert refused(Supervisor.restart_child, sup, "b") == "not_found"
    assert refused(Supervisor.restart_child, sup, running) == "not_found"
    crash(ref_of(sup, "retried"))
    assert refused(Supervisor.restart_child, sup, "retried") == "restarting"
    assert ref_of(sup, "a") is running
    script.word = "ok"
    settled(sup)


def test_a_child_that_does_not_start_again_is_kept(me):
    """The bare reason, and the spec stays for the next try. SADM-17."""
    journal = Journal()
    script = ["ok", "error", "raise", "stop", "ok"]
    sup = Supervisor.start_link([spec("a", journal, script=script)])
    Supervisor.terminate_child(sup, "a")
    error = refusal(Supervisor.restart_child, sup, "a")
    assert error.reason == "nope"
    assert error.child["id"] == "a"
    word, cause = refusal(Supervisor.restart_child, sup, "a").reason
    assert word == "EXIT"
    assert isinstance(cause, Oops)
    assert refusal(Supervisor.restart_child, sup, "a").reason == "istop"
    assert children(sup) == {"a": None}
    assert Supervisor.restart_child(sup, "a") is ref_of(sup, "a")


def test_restart_child_returns_what_start_child_does(me):
    """None for a child that ignores, (ref, info) for one that says more. SADM-18."""
    script = ["ok", "ignore", "info"]
    sup = Supervisor.start_link([spec("a", Journal(), script=script)])
    Supervisor.terminate_child(sup, "a")
    assert Supervisor.restart_child(sup, "a") is None
    assert children(sup) == {"a": None}
    assert Supervisor.restart_child(sup, "a") == (ref_of(sup, "a"), "info of a")


def test_operators_calls_do_not_count_as_restarts(me):
    """However often an operator stops and starts, the window stays empty. SADM-21."""
    sup = Supervisor.start_link(specs("a", Journal()), max_restarts=1)
    for _ in range(5):
        Supervisor.terminate_child(sup, "a")
        Supervisor.restart_child(sup, "a")
    crash(ref_of(sup, "a"))
    assert process.is_alive(ref_of(sup, "a"))


def test_a_transient_child_that_is_done_can_be_revived(me):
    """What ended normally is not restarted by itself, but by an operator. SADM-25."""
    sup = Supervisor.start_link(specs("a", Journal(), restart="transient"))
    old = ref_of(sup, "a")
    crash(old, "normal")
    assert children(sup) == {"a": None}
    new = Supervisor.restart_child(sup, "a")
    assert new is ref_of(sup, "a")
    assert new is not old


# ---- delete_child


def test_only_what_is_stopped_can_be_deleted(me):
    """Nothing that runs, or is about to, may drop out of sight. SADM-19."""
    journal, script = Journal(), Forever("ok", then="error")
    tree = [*specs("ab", journal), spec("retried", journal, script=script)]
    sup = Supervisor.start_link(tree, max_restarts=10**9)
    Supervisor.terminate_child(sup, "a")
    assert Supervisor.delete_child(sup, "a") is None
    assert refused(Supervisor.delete_child, sup, "a") == "not_found"
    assert refused(Supervisor.delete_child, sup, "b") == "running"
    crash(ref_of(sup, "retried"))
    assert refused(Supervisor.delete_child, sup, "retried") == "restarting"
    assert list(children(sup)) == ["b", "retried"]
    script.word = "ok"
    settled(sup)


def test_a_deleted_child_that_comes_back_goes_to_the_end(me):
    """Deleting is how an operator replaces a spec, and the place is the new one's. SADM-20."""
    journal = Journal()
    sup = Supervisor.start_link(specs("abc", journal))
    Supervisor.terminate_child(sup, "a")
    Supervisor.delete_child(sup, "a")
    Supervisor.start_child(sup, spec("a", journal))
    assert list(children(sup)) == ["b", "c", "a"]
    journal.take()
    Supervisor.stop(sup)
    assert [label for _, label, _ in journal.take()] == ["a", "c", "b"]


# ---- the shapes of which_children and count_children


def test_a_line_of_which_children_says_all_about_a_child(me):
    """Id, process, type and modules, by name and by place. SSHP-01."""
    sup = Supervisor.start_link([spec("a", Journal()), nested("sub", [])])
    sub, a = Supervisor.which_children(sup)
    assert a == ChildInfo("a", ref_of(sup, "a"), "worker", [start.__module__])
    assert sub == ("sub", ref_of(sup, "sub"), "supervisor", [Supervisor])
    assert (sub.id, sub.child, sub.type, sub.modules) == tuple(sub)


def test_the_newest_child_comes_first(me):
    """As in OTP, the list is the order in which they would be stopped. SSHP-02."""
    sup = Supervisor.start_link(specs("ab", Journal()))
    Supervisor.start_child(sup, spec("c", Journal()))
    assert [info.id for info in Supervisor.which_children(sup)] == ["c", "b", "a"]


def test_what_does_not_run_has_no_process(me):
    """Stopped, ignored and done children are on the list with None. SSHP-03."""
    journal = Journal()
    tree = [
        spec("stopped", journal),
        spec("ignored", journal, script=["ignore"]),
        spec("done", journal, restart="transient"),
    ]
    sup = Supervisor.start_link(tree)
    Supervisor.terminate_child(sup, "stopped")
    crash(ref_of(sup, "done"), "shutdown")
    assert [info.child for info in Supervisor.which_children(sup)] == [None, None, None]
    assert [info.type for info in Supervisor.which_children(sup)] == ["worker"] * 3


def test_a_child_whose_restart_is_tried_again_is_restarting(me):
    """Between two tries there is no process, but there will be one. SSHP-04, SSHP-07, SADM-04,
    SRST-01."""
    journal = Journal()
    child = spec("a", journal, script=["ok", "error", "ok"])
    sup = Supervisor.start_link([child])
    ref = ref_of(sup, "a")
    debug.suspend(sup)
    crash(ref)
    # All of these stand in the mailbox before the second try.
    looking = queued(sup, Supervisor.which_children)
    counting = queued(sup, Supervisor.count_children)
    starting = queued(sup, Supervisor.start_child, child)
    restarting = queued(sup, Supervisor.restart_child, "a")
    deleting = queued(sup, Supervisor.delete_child, "a")
    debug.resume(sup)
    assert looking.answer() == [("a", "restarting", "worker", [start.__module__])]
    assert counting.answer() == {"specs": 1, "active": 0, "supervisors": 0, "workers": 1}
    assert refusal(starting.answer).reason == "already_present"
    assert refusal(restarting.answer).reason == "restarting"
    assert refusal(deleting.answer).reason == "restarting"
    assert settled(sup) == {"a": ref_of(sup, "a")}


def test_counts_have_four_keys_in_order(me):
    """Specs and what is active, supervisors and workers, by type. SSHP-05."""
    sup = Supervisor.start_link([nested("sub", []), *specs("ab", Journal())])
    assert list(Supervisor.count_children(sup).items()) == [
        ("specs", 3),
        ("active", 3),
        ("supervisors", 1),
        ("workers", 2),
    ]


def test_active_are_those_that_live(me):
    """Supervisors and workers count specs, alive or not. SSHP-06."""
    journal = Journal()
    tree = [nested("sub", []), *specs("ab", journal), spec("c", journal, script=["ignore"])]
    sup = Supervisor.start_link(tree)
    assert counts(sup) == [4, 3, 1, 3]
    Supervisor.terminate_child(sup, "sub")
    Supervisor.terminate_child(sup, "a")
    assert counts(sup) == [4, 1, 1, 3]


def test_a_child_that_unlinked_itself_dies_unnoticed(me):
    """Its supervisor hears of no end, and shows a ref that is dead; active tells. SSHP-08."""
    sup = Supervisor.start_link([{"id": "a", "start": (Doer, "start_link", [])}])
    ref = ref_of(sup, "a")
    call(ref, lambda _server: process.unlink(sup))
    crash_doer(ref)
    assert ref_of(sup, "a") is ref
    assert counts(sup) == [1, 0, 0, 1]
    assert refused(Supervisor.restart_child, sup, "a") == "running"


def test_who_learns_of_an_end_sees_the_new_child(me):
    """The supervisor is told first, so a Down is never answered with the dead. SSHP-09."""
    sup = Supervisor.start_link(specs("a", Journal()), max_restarts=10**9)
    for _ in range(100):
        ref = ref_of(sup, "a")
        crash(ref)
        assert ref_of(sup, "a") is not ref
        assert counts(sup) == [1, 1, 0, 1]


def test_a_restart_keeps_the_place_in_the_order(me):
    """What stands after a child still does when it was restarted. SSHP-10."""
    journal = Journal()
    sup = Supervisor.start_link(specs("abc", journal))
    crash(ref_of(sup, "a"))
    assert list(children(sup)) == ["a", "b", "c"]
    journal.take()
    Supervisor.stop(sup)
    assert [label for _, label, _ in journal.take()] == ["c", "b", "a"]


# ---- no supervisor, odd requests


def test_the_calls_to_a_supervisor_that_is_not_there_say_so(me):
    """An operator's typo in the supervisor's name is told. DEAD-08."""
    for act in [
        lambda: Supervisor.which_children("nobody"),
        lambda: Supervisor.count_children("nobody"),
        lambda: Supervisor.start_child("nobody", Doer),
        lambda: Supervisor.restart_child("nobody", "a"),
        lambda: Supervisor.terminate_child("nobody", "a"),
        lambda: Supervisor.delete_child("nobody", "a"),
        lambda: Supervisor.stop("nobody"),
    ]:
        with pytest.raises(NoProcess) as caught:
            act()
        assert caught.value.reason == "noproc"


def test_a_request_that_no_supervisor_knows_fails_its_caller_only(me):
    """A tree does not fall over a call to the wrong process."""
    sup = Supervisor.start_link(specs("a", Journal()))
    with pytest.raises(CallExit) as caught:
        call(sup, "hello")
    assert caught.value.reason == ("unknown_request", "hello")
    cast(sup, "hello")
    assert counts(sup) == [1, 1, 0, 1]


def test_a_supervisor_is_found_by_its_name(me):
    """Operators address a supervisor by name as well as by ref. SADM-01."""
    Supervisor.start_link([], name="shop")
    ref = Supervisor.start_child("shop", spec("a", Journal()))
    assert [info.child for info in Supervisor.which_children("shop")] == [ref]
    Supervisor.terminate_child("shop", "a")
    assert Supervisor.restart_child("shop", "a") is not ref


class Started(GenServer):
    """Starts with what its start function was given."""

    def init(self, value):
        return Ok(value)


def test_a_start_function_runs_in_the_supervisor(me):
    """That is what links the child to it, and nobody else. SADM-01."""
    sup = Supervisor.start_link([])
    child = {"id": "a", "start": (lambda: Started.start_link(process.current()), [])}
    ref = Supervisor.start_child(sup, child)
    assert debug.get_state(ref) is sup
    assert process.info(ref)["parent"] is sup
    assert process.info(ref)["links"] == [sup]


class Actor(Process):
    """A Pykka actor that is a process by its base class alone."""

    def __init__(self, journal):
        super().__init__()
        self.journal = journal

    def on_receive(self, message):
        if message == "crash":
            raise Oops
        return message

    def on_stop(self):
        self.journal("stopped")


class Bound(Child):
    """A server that has a thread of its own."""

    dedicated_thread = True


def test_a_plain_process_is_a_child(me):
    """A Pykka actor becomes supervisable by its base class; no callback of a server is needed.
    SADM-24, SRTY-01."""
    journal = Journal()
    sup = Supervisor.start_link([(Actor, journal)])
    ref = ref_of(sup, "Actor")
    assert ref.ask("hello") == "hello"
    assert isinstance(reason_of(ref, ref.tell, "crash"), Oops)
    new = ref_of(sup, "Actor")
    assert new is not ref
    assert new.ask("hello") == "hello"
    assert reason_of(new, Supervisor.terminate_child, sup, "Actor") == "shutdown"
    assert counts(sup) == [1, 0, 0, 1]


def test_a_child_may_have_a_thread_of_its_own(me):
    """What is bound to a thread is restarted and stopped like any other. SRTY-01, SSHD-01."""
    journal = Journal()
    sup = Supervisor.start_link([(Bound, "bound", journal)])
    crash(ref_of(sup, "Bound"))
    assert call(ref_of(sup, "Bound"), "hello") == "hello"
    Supervisor.stop(sup)
    assert journal.take() == [
        ("start", "bound"),
        ("term", "bound", "boom"),
        ("start", "bound"),
        ("term", "bound", "shutdown"),
    ]


@pytest.mark.parametrize("forever", [10**400, 1e300])
def test_shutdown_time_longer_than_any_clock_is_for_ever(forever):
    """OTP's whole numbers have no end, and a child that ends is waited for no longer."""
    sup = Supervisor.start_link([{**spec("a", Journal()), "shutdown": forever}])
    assert Supervisor.terminate_child(sup, "a") is None
    assert Supervisor.restart_child(sup, "a") is not None
    Supervisor.stop(sup)
