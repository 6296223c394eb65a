"""How a supervisor starts: its flags, its children in order, and what a failing child does."""

import gc
import weakref

import pykka
import pytest

from elsa_actors import (
    AlreadyStarted,
    CallExit,
    CallingSelf,
    ChildError,
    ChildSpecError,
    DynamicSupervisor,
    GenServer,
    Ignore,
    Ok,
    Registry,
    StartError,
    Stop,
    Supervise,
    Supervisor,
    call,
    cast,
    process,
    run,
)
from tests.otp.supervised import (
    Aside,
    children,
    counts,
    crash,
    crash_doer,
    kill,
    nested,
    queued,
    reason_of,
    ref_of,
    spec,
    specs,
    start,
    until,
)
from tests.servers import WAIT, Child, Doer, Gate, Journal, Oops, nothing_comes


class Answering(Supervisor):
    """Its init answers what it is given; a function is called for it."""

    def init(self, answer):
        return answer() if callable(answer) else answer


def refused(*args, **flags):
    """The reason for which this supervisor does not start."""
    with pytest.raises(StartError) as caught:
        Supervisor.start_link(*args, **flags)
    return caught.value.reason


def failing(label, journal, word, **fields):
    return spec(label, journal, script=[word], **fields)


# ---- in order, and all before start_link returns


def test_children_are_started_in_the_order_of_the_list(me):
    """A child may rely on those listed before it, which have started completely. SINI-01."""
    journal = Journal()
    sup = Supervisor.start_link(specs("bac", journal, script=["ok"]))
    assert journal.take() == [
        ("try", "b", "ok"),
        ("start", "b"),
        ("try", "a", "ok"),
        ("start", "a"),
        ("try", "c", "ok"),
        ("start", "c"),
    ]
    assert list(children(sup)) == ["b", "a", "c"]


def test_start_link_returns_after_the_last_child_has_started():
    """Whoever starts a tree can use it on the next line. SINI-01, SINI-02."""
    journal, gate = Journal(), Gate()
    slow = {"id": "slow", "start": (Doer, "start_link", [lambda _server: gate(), journal])}
    starting = Aside(Supervisor.start, [spec("first", journal), slow, spec("last", journal)])
    gate.reached()
    assert journal.take() == [("start", "first")]
    assert starting.waits()
    gate.open()
    assert list(children(starting.answer())) == ["first", "slow", "last"]
    assert journal.take() == [("start", "last")]


def test_a_supervisor_may_have_no_child_yet(me):
    """Children may all come later, by start_child. SINI-01."""
    sup = Supervisor.start_link([])
    assert counts(sup) == [0, 0, 0, 0]
    assert process.is_alive(sup)


def test_a_plain_thread_starts_a_supervisor_that_is_linked_to_nobody():
    """A script starts a tree without being a process; nobody's end stops that tree. SINI-02."""
    sup = Supervisor.start_link(specs("a", Journal()))
    assert process.info(sup)["parent"] is None
    assert process.info(sup)["links"] == [ref_of(sup, "a")]


# ---- what init answers


def test_a_supervisor_that_ignores_does_not_start(me):
    """A part of a program that is switched off says Ignore(). SINI-03."""
    assert Answering.start_link(Ignore()) is None
    assert nothing_comes()
    assert process.list() == []


@pytest.mark.parametrize("answer", [42, None, [], Ok(), Stop("no"), Supervise])
def test_a_wrong_answer_of_init_is_named(me, answer):
    """A forgotten return must be found by reading the error. SINI-04."""
    with pytest.raises(StartError) as caught:
        Answering.start_link(lambda: answer)
    assert caught.value.reason == ("bad_return", (Answering, "init", answer))
    assert nothing_comes()


def test_a_raise_in_init_is_the_reason(me):
    """The exception itself says what went wrong. SINI-05."""

    def init():
        raise Oops

    with pytest.raises(StartError) as caught:
        Answering.start_link(init)
    assert isinstance(caught.value.reason, Oops)
    assert caught.value.__cause__ is caught.value.reason


WRONG_FLAGS = [
    ({"strategy": "one_for_none"}, ("invalid_strategy", "one_for_none")),  # SINI-06
    ({"max_restarts": -1}, ("invalid_intensity", -1)),  # SINI-07
    ({"max_restarts": 1.5}, ("invalid_intensity", 1.5)),
    ({"max_seconds": 0}, ("invalid_period", 0)),  # SINI-08
    ({"max_seconds": "5"}, ("invalid_period", "5")),
    ({"auto_shutdown": "always"}, ("invalid_auto_shutdown", "always")),  # SINI-09
    ({"strategy": "simple_one_for_one"}, ("invalid_strategy", "simple_one_for_one")),
]


@pytest.mark.parametrize(("flags", "reason"), WRONG_FLAGS)
def test_wrong_flags_are_refused_in_the_caller(me, flags, reason):
    """A flag is checked where it is written, and nothing is started. SINI-06, SINI-07, SINI-08,
    SINI-09."""
    journal = Journal()
    for start_it in (Supervisor.start_link, Supervisor.start):
        with pytest.raises(ChildSpecError) as caught:
            start_it(specs("a", journal), **flags)
        assert caught.value.reason == reason
    assert journal.take() == []
    assert process.list() == []


@pytest.mark.parametrize(("flags", "reason"), WRONG_FLAGS)
def test_wrong_flags_of_a_subclass_fail_its_start(me, flags, reason):
    """What init answers is known in the new process only. SINI-06, SINI-07, SINI-08, SINI-09."""
    journal = Journal()
    with pytest.raises(StartError) as caught:
        Answering.start_link(Supervise(specs("a", journal), **flags))
    assert caught.value.reason == ("supervisor_data", reason)
    assert journal.take() == []
    assert nothing_comes()


def test_simple_one_for_one_is_refused_whatever_its_auto_shutdown(me):
    """A supervisor of children on demand never shut itself down; here it is another class.
    SAUT-10."""
    with pytest.raises(ChildSpecError, match="DynamicSupervisor") as caught:
        Supervisor.start_link([], strategy="simple_one_for_one", auto_shutdown="any_significant")
    assert caught.value.reason == ("invalid_strategy", "simple_one_for_one")


def test_children_that_are_no_list_fail_the_start(me):
    """The likeliest slip is a single child without its list. SINI-15."""
    with pytest.raises(ChildSpecError) as caught:
        Supervisor.start_link(Child)
    assert caught.value.reason == ("badarg", Child)
    with pytest.raises(StartError) as failed:
        Answering.start_link(Supervise(42))
    assert failed.value.reason == ("start_spec", ("badarg", 42))


def test_the_default_is_one_for_one_with_three_restarts(me):
    """Elixir's defaults: whoever says nothing gets 3 restarts in 5 seconds. SINI-12, SINT-17."""
    journal = Journal()
    sup = Supervisor.start_link(specs("ab", journal))
    other = ref_of(sup, "b")
    for _ in range(3):
        crash(ref_of(sup, "a"))
    assert ref_of(sup, "b") is other
    crash(ref_of(sup, "a"))
    assert me.receive(timeout=WAIT).reason == "shutdown"
    assert not process.is_alive(sup)


def test_the_default_of_a_subclass_is_the_same(me):
    """Supervise has the defaults of start_link. SINI-12."""
    sup = Answering.start_link(Supervise(specs("a", Journal())))
    for _ in range(3):
        crash(ref_of(sup, "a"))
    crash(ref_of(sup, "a"))
    assert me.receive(timeout=WAIT).reason == "shutdown"


def test_a_supervisor_traps_exits(me):
    """Its children's ends must reach it as messages. SINI-13."""
    sup = Supervisor.start_link([])
    assert process.info(sup)["trap_exit"] is True
    stranger = Doer.start()
    call(stranger, lambda _server: process.link(sup))
    crash_doer(stranger)
    assert counts(sup) == [0, 0, 0, 0]


@pytest.mark.parametrize("base", [Supervisor, DynamicSupervisor, Registry])
def test_a_supervisor_that_says_it_does_not_trap_exits_is_refused(base):
    """One child's end would end it with all the others. SINI-13."""
    with pytest.raises(TypeError, match="Mine sets trap_exit to False; supervisors always trap"):
        type("Mine", (base,), {"trap_exit": False, "__qualname__": "Mine"})
    mixin = type("Mixin", (), {"trap_exit": False})
    with pytest.raises(TypeError, match="supervisors always trap exits"):
        type("Mine", (mixin, base), {})
    type("Mine", (base,), {"trap_exit": True})


def test_a_supervisor_traps_exits_whatever_its_init_has_set(me):
    """The end of one child is not the end of all. SINI-13."""

    class Mine(Supervisor):
        def init(self, children):
            self.trap_exit = False
            return Supervise(children)

    sup = Mine.start_link(specs("ab", Journal()))
    other = ref_of(sup, "b")
    kill(ref_of(sup, "a"))
    assert counts(sup) == [2, 2, 0, 2]
    assert ref_of(sup, "b") is other


def test_a_dynamic_supervisor_traps_exits_whatever_its_init_has_set(me):
    """As a supervisor. SINI-13."""

    class Mine(DynamicSupervisor):
        def init(self, flags):
            process.trap_exit(False)
            return super().init(flags)

    sup = Mine.start_link()
    kill(DynamicSupervisor.start_child(sup, spec("a", Journal())))
    assert counts(sup) == [1, 1, 0, 1]


@pytest.mark.parametrize("base", [Supervisor, DynamicSupervisor])
def test_plain_names_of_a_subclass_are_its_own(me, base):
    """A user's `retry` or `gives_up` does not stand in the place of the library's."""

    class Mine(base):
        retry = 3
        unknown = None

        def gives_up(self):
            return True

        def init(self, *args):
            self.retry = 4
            return super().init(*args) if base is DynamicSupervisor else Supervise([])

    sup = Mine.start_link()
    child = base.start_child(sup, spec("a", Journal(), script=["ok", "error", "ok"]))
    crash(child)
    with pytest.raises(CallExit) as error:
        call(sup, "what?")
    assert error.value.reason == ("unknown_request", "what?")
    until(lambda: counts(sup) == [1, 1, 0, 1])


@pytest.mark.parametrize("name", ["_retry", "_gives_up", "_unknown", "_start"])
def test_private_name_of_ours_in_an_object_of_a_supervisor_is_refused(name):
    """What init sets is looked at as in any server, before a child is started."""
    journal = Journal()

    class Mine(Supervisor):
        def init(self):
            setattr(self, name, 3)
            return Supervise(specs("a", journal))

    with pytest.raises(StartError, match=f"Mine sets self.{name}, "):
        Mine.start()
    assert journal.events == []
    with pytest.raises(TypeError, match=f"Other defines {name}, "):
        type("Other", (Supervisor,), {name: 3, "__qualname__": "Other"})


def test_run_of_a_supervisor_whose_start_function_raises_says_so(log_events):
    """A program that could not start ends with 1, however its start function failed."""
    top = {"id": 1, "type": "supervisor", "start": (lambda: 1 / 0, [])}
    assert run(top) == 1
    [event] = log_events
    assert event["event"] == "program_start_failed"
    assert isinstance(event["reason"], ZeroDivisionError)
    with pytest.raises(ChildSpecError):
        run(top | {"start": (Supervisor, "start_link", [[42]])})


def test_the_name_of_a_supervisor_is_known_while_its_children_start(me):
    """A child may call its supervisor's name, or hand it on. SINI-14."""
    journal = Journal()
    look = (Doer, "start_link", [lambda _server: journal(process.whereis("top"))])
    sup = Supervisor.start_link([{"id": "a", "start": look}], name="top")
    assert journal.take() == [sup]


def test_a_named_supervisor_is_started_once(me):
    """The second start learns who has the name, and starts no child. SINI-14."""
    journal = Journal()
    first = Supervisor.start_link([], name="top")
    with pytest.raises(AlreadyStarted) as caught:
        Supervisor.start_link(specs("a", journal), name="top")
    assert caught.value.ref is first
    assert caught.value.reason == ("already_started", first)
    assert journal.take() == []
    assert nothing_comes()


def test_who_does_not_trap_dies_of_a_supervisor_that_does_not_start(me):
    """A program whose tree cannot start must not run on without it. SINI-16."""
    journal = Journal()
    doer = Doer.start()
    reason = reason_of(
        doer, cast, doer, lambda _server: Supervisor.start_link([failing("x", journal, "stop")])
    )
    assert reason == ("shutdown", ("failed_to_start_child", "x", "istop"))


# ---- a child that does not start


def test_a_child_that_does_not_start_fails_the_supervisor(me):
    """All or nothing: those that run are stopped in reverse, the rest never starts.
    SFAI-01, SFAI-02."""
    journal = Journal()
    tree = [*specs("ab", journal), failing("x", journal, "stop"), spec("d", journal)]
    assert refused(tree) == ("shutdown", ("failed_to_start_child", "x", "istop"))
    assert journal.take() == [
        ("start", "a"),
        ("start", "b"),
        ("try", "x", "stop"),
        ("term", "b", "shutdown"),
        ("term", "a", "shutdown"),
    ]
    assert nothing_comes()
    assert process.list() == []


def cause_of(me, child):
    """Why this child did not start, as its supervisor says it."""
    word, (what, label, cause) = refused([child])
    assert (word, what, label) == ("shutdown", "failed_to_start_child", "x")
    assert nothing_comes(timeout=0)
    return cause


def test_a_start_error_of_the_start_function_is_the_cause(me):
    """OTP's {error, e} is our StartError("e"). SFAI-03."""
    assert cause_of(me, failing("x", Journal(), "error")) == "nope"


def test_a_raise_of_the_start_function_is_told_from_one_in_init(me):
    """("EXIT", what) says that the start function itself broke, not the child. SFAI-04."""
    word, error = cause_of(me, failing("x", Journal(), "raise"))
    assert word == "EXIT"
    assert isinstance(error, Oops)
    assert cause_of(me, failing("x", Journal(), "exit")) == ("EXIT", "gone")
    assert isinstance(cause_of(me, failing("x", Journal(), "raise in init")), Oops)


@pytest.mark.parametrize("answer", ["foo", 42, (), ("ref", "info"), True])
def test_a_wrong_answer_of_the_start_function_is_the_cause(me, answer):
    """What is no ref, None or (ref, info) is shown as it came. SFAI-05, SFAI-12."""
    assert cause_of(me, failing("x", Journal(), answer)) == answer


def test_a_start_function_that_is_not_there_is_the_cause(me):
    """A method may come later, so its absence shows when the child starts. SFAI-06."""
    word, error = cause_of(me, {"id": "x", "start": (Child, "start_lnk", [])})
    assert word == "EXIT"
    assert isinstance(error, AttributeError)
    assert "start_lnk" in str(error)


def test_reasons_of_nested_supervisors_nest(me):
    """The path to the child that failed can be read in the reason. SFAI-07."""
    journal = Journal()
    inner = nested("sub", [spec("a", journal), failing("x", journal, "error")])
    inner_reason = ("shutdown", ("failed_to_start_child", "x", "nope"))
    assert refused([inner]) == ("shutdown", ("failed_to_start_child", "sub", inner_reason))
    assert journal.take()[-1] == ("term", "a", "shutdown")


def test_a_supervisor_that_fails_ends_with_the_same_reason(me):
    """Who monitors it and who starts it learn the same. SFAI-08."""
    journal, gate = Journal(), Gate()

    def start_it():
        journal(process.current())
        gate()
        raise StartError("nope")

    starting = Aside(Supervisor.start, [{"id": "x", "start": (start_it, [])}])
    gate.reached()
    (sup,) = journal.take()
    process.monitor(sup)
    gate.open()
    reason = ("shutdown", ("failed_to_start_child", "x", "nope"))
    assert me.receive(timeout=WAIT).reason == reason
    with pytest.raises(StartError) as caught:
        starting.answer()
    assert caught.value.reason == reason


@pytest.mark.parametrize("restart", ["permanent", "transient"])
def test_a_child_that_ignores_stays_on_the_list(me, restart):
    """Its spec is kept, so that an operator can start it later. SFAI-09."""
    journal = Journal()
    ignoring = failing("x", journal, "ignore", restart=restart)
    sup = Supervisor.start_link([ignoring, spec("a", journal)])
    assert children(sup) == {"x": None, "a": ref_of(sup, "a")}
    assert counts(sup) == [2, 1, 0, 2]
    assert Supervisor.restart_child(sup, "x") is ref_of(sup, "x")


def test_a_temporary_child_that_ignores_is_forgotten(me):
    """A temporary child is on the list only while it runs. SFAI-10."""
    journal = Journal()
    ignoring = failing("x", journal, "ignore", restart="temporary")
    sup = Supervisor.start_link([ignoring, spec("a", journal)])
    assert list(children(sup)) == ["a"]


def test_a_child_whose_name_is_taken_names_the_holder(me):
    """Two trees with one name are found by the reason. SFAI-11."""
    holder = Doer.start(name="taken")
    child = {"id": "x", "start": (Doer, "start_link", [], {"name": "taken"})}
    assert cause_of(me, child) == ("already_started", holder)
    assert process.is_alive(holder)


def test_a_start_function_cannot_call_its_own_supervisor(me):
    """Start functions run in the supervisor, which would wait for itself. SFAI-13."""
    child = {"id": "x", "start": (lambda: Supervisor.which_children(process.current()), [])}
    word, error = cause_of(me, child)
    assert word == "EXIT"
    assert isinstance(error, CallingSelf)


class Plain(pykka.ThreadingActor):
    """An actor that is no process."""


@pytest.mark.parametrize("more", [(), ("info",)])
def test_a_plain_pykka_actor_is_no_child(me, more):
    """Nobody would notice its crash; the error names what makes a child of it. SFAI-05."""
    plain = Plain.start()
    child = {"id": "x", "start": (lambda: (plain, *more) if more else plain, [])}
    assert cause_of(me, child) == ("not_a_process", plain)
    sup = Supervisor.start_link([])
    with pytest.raises(StartError, match="Wrapper") as caught:
        Supervisor.start_child(sup, child)
    assert caught.value.reason == ("not_a_process", plain)
    with pytest.raises(StartError, match="run it in a Wrapper") as listed:
        Supervisor.start_link([child])
    assert "failed_to_start_child" in str(listed.value)


def test_a_start_that_times_out_takes_its_children_along(me):
    """What is killed in its init leaves nothing behind. SFAI-02."""
    journal, gate = Journal(), Gate()
    slow = {"id": "slow", "start": (Doer, "start_link", [lambda _server: gate(library=True)])}
    with pytest.raises(StartError) as caught:
        Supervisor.start_link([spec("a", journal), slow], timeout=0.1)
    assert caught.value.reason == "timeout"
    journal.wait_for("term", "a", "killed")
    assert nothing_comes()


# ---- wrong specs, at every door

START = (Child, "start_link", ["x", Journal()])
GOOD = {"id": "x", "start": START}
WRONG_SPECS = [
    ({"start": START}, "missing_id"),  # SSPC-01
    ({"id": "x"}, "missing_start"),
    ({"id": "x", "start": Child}, ("invalid_mfa", Child)),  # SSPC-02
    ({"id": "x", "start": (Child, "start_link", 1)}, ("invalid_mfa", (Child, "start_link", 1))),
    ({**GOOD, "restart": "always"}, ("invalid_restart_type", "always")),  # SSPC-03
    ({**GOOD, "shutdown": -10}, ("invalid_shutdown", -10)),  # SSPC-04
    ({**GOOD, "shutdown": "later"}, ("invalid_shutdown", "later")),
    ({**GOOD, "type": "boss"}, ("invalid_child_type", "boss")),  # SSPC-05
    ({**GOOD, "modules": 1}, ("invalid_modules", 1)),  # SSPC-06
    ({**GOOD, "modules": [1]}, ("invalid_module", 1)),
    ({**GOOD, "significant": 1}, ("invalid_significant", 1)),  # SSPC-07
    (
        {**GOOD, "significant": True, "restart": "transient"},  # SSPC-08
        ("bad_combination", [("auto_shutdown", "never"), ("significant", True)]),
    ),
    (42, ("invalid_child_spec", 42)),  # SSPC-10
    ({**GOOD, "strat": START}, ("unknown_key", "strat")),
]


@pytest.mark.parametrize(("child", "reason"), WRONG_SPECS)
def test_a_wrong_spec_is_refused_in_the_caller_of_start_link(me, child, reason):
    """Nothing starts, not even the right children before it. SSPC-01, SSPC-02, SSPC-03, SSPC-04,
    SSPC-05, SSPC-06, SSPC-07, SSPC-08, SSPC-10."""
    journal = Journal()
    with pytest.raises(ChildSpecError) as caught:
        Supervisor.start_link([spec("a", journal), child])
    assert caught.value.reason == reason
    assert journal.take() == []
    assert process.list() == []


@pytest.mark.parametrize(("child", "reason"), WRONG_SPECS)
def test_a_wrong_spec_of_a_subclass_fails_its_start(me, child, reason):
    """OTP's {start_spec, e}: init answered it, so the start fails. SSPC-01, SSPC-02, SSPC-03,
    SSPC-04, SSPC-05, SSPC-06, SSPC-07, SSPC-08, SSPC-10."""
    journal = Journal()
    with pytest.raises(StartError) as caught:
        Answering.start_link(Supervise([spec("a", journal), child]))
    assert caught.value.reason == ("start_spec", reason)
    assert journal.take() == []
    assert nothing_comes()


@pytest.mark.parametrize(("child", "reason"), WRONG_SPECS)
def test_a_wrong_spec_for_start_child_changes_nothing(me, child, reason):
    """An operator's slip leaves the supervisor and its children as they are. SSPC-17, SSPC-01,
    SSPC-02, SSPC-03, SSPC-04, SSPC-05, SSPC-06, SSPC-07, SSPC-08, SSPC-10."""
    sup = Supervisor.start_link(specs("a", Journal()))
    before = Supervisor.which_children(sup)
    with pytest.raises(ChildSpecError) as caught:
        Supervisor.start_child(sup, child)
    assert caught.value.reason == reason
    assert Supervisor.which_children(sup) == before
    assert counts(sup) == [1, 1, 0, 1]


@pytest.mark.parametrize(
    ("child", "reason"), [wrong for wrong in WRONG_SPECS if wrong[1][0] != "bad_combination"]
)
def test_check_childspecs_refuses_what_a_start_would(child, reason):
    """A configuration is checked without a supervisor. SSPC-01, SSPC-02, SSPC-03, SSPC-04,
    SSPC-05, SSPC-06, SSPC-07, SSPC-10."""
    Supervisor.check_childspecs([GOOD])
    with pytest.raises(ChildSpecError) as caught:
        Supervisor.check_childspecs([{**GOOD, "id": "a"}, child])
    assert caught.value.reason == reason


@pytest.mark.parametrize("restart", [{}, {"restart": "permanent"}])
def test_a_permanent_child_is_never_significant(me, restart):
    """A permanent child never ends for good, at no door. SSPC-09."""
    child = {**GOOD, "significant": True, **restart}
    reason = ("bad_combination", [("restart", "permanent"), ("significant", True)])
    sup = Supervisor.start_link([], auto_shutdown="any_significant")
    for act in [
        lambda: Supervisor.start_link([child], auto_shutdown="any_significant"),
        lambda: Supervisor.start_child(sup, child),
        lambda: Supervisor.check_childspecs([child]),
    ]:
        with pytest.raises(ChildSpecError) as caught:
            act()
        assert caught.value.reason == reason


def test_an_id_that_comes_twice_starts_nothing(me):
    """Ids tell the children apart. SSPC-11."""
    journal = Journal()
    with pytest.raises(ChildSpecError) as caught:
        Supervisor.start_link(specs("aba", journal))
    assert caught.value.reason == ("duplicate_child_name", "a")
    with pytest.raises(StartError) as failed:
        Answering.start_link(Supervise(specs("aba", journal)))
    assert failed.value.reason == ("start_spec", ("duplicate_child_name", "a"))
    with pytest.raises(ChildSpecError):
        Supervisor.check_childspecs(specs("aba", journal))
    assert journal.take() == []


@pytest.mark.parametrize("wrong", [None, 42, {"id": "a"}, Child])
def test_check_childspecs_wants_a_list(wrong):
    """A single child without its list is not checked by accident as many. SSPC-12."""
    with pytest.raises(ChildSpecError) as caught:
        Supervisor.check_childspecs(wrong)
    assert caught.value.reason == ("badarg", wrong)


def test_a_childs_spec_can_be_read_back_with_its_defaults(me):
    """Operators see what will happen, not only what was written. SSPC-13."""
    journal = Journal()
    sup = Supervisor.start_link([spec("a", journal), nested("sub", [])])
    assert Supervisor.get_childspec(sup, "a") == {
        "id": "a",
        "start": (start, ["a", journal, True, None]),
        "restart": "permanent",
        "shutdown": 5.0,
        "type": "worker",
        "modules": [start.__module__],
        "significant": False,
    }
    assert Supervisor.get_childspec(sup, "sub")["shutdown"] == "infinity"
    assert Supervisor.get_childspec(sup, "sub")["modules"] == [Supervisor]


def test_the_spec_of_an_unknown_child_is_not_found(me):
    """An operator's typo is told, with the id. SSPC-14."""
    sup = Supervisor.start_link(specs("a", Journal()))
    for unknown in ("b", None, ["a"], 1):
        with pytest.raises(ChildError) as caught:
            Supervisor.get_childspec(sup, unknown)
        assert caught.value.reason == "not_found"
        assert caught.value.child_id == unknown


@pytest.mark.parametrize("shutdown", [0, 0.5, 2, "infinity", "brutal_kill"])
@pytest.mark.parametrize("kind", ["worker", "supervisor"])
def test_any_shutdown_is_legal_for_any_child(me, shutdown, kind):
    """Who knows better than OTP's defaults may say so. SSPC-15, SSPC-04."""
    sup = Supervisor.start_link([spec("a", Journal(), trap=False, shutdown=shutdown, type=kind)])
    child = ref_of(sup, "a")
    process.monitor(child)
    Supervisor.terminate_child(sup, "a")
    assert me.receive(timeout=WAIT).reason == (
        "killed" if shutdown == "brutal_kill" else "shutdown"
    )
    assert Supervisor.get_childspec(sup, "a")["shutdown"] == shutdown


def test_ids_are_any_terms_and_compare_with_their_types(me):
    """1, 1.0 and True are three children; an operator reaches each. SSPC-16."""
    journal = Journal()
    ids = [1, 1.0, True, (1, "a"), None, Child, b"x"]
    sup = Supervisor.start_link([spec(child_id, journal) for child_id in ids])
    assert [info.id for info in reversed(Supervisor.which_children(sup))] == ids
    Supervisor.terminate_child(sup, 1.0)
    stopped = [info.id for info in Supervisor.which_children(sup) if info.child is None]
    assert [(type(one), one) for one in stopped] == [(float, 1.0)]
    assert journal.take()[-1] == ("term", 1.0, "shutdown")


# ---- what a start leaves


def test_a_temporary_childs_arguments_are_not_held_while_it_runs(me):
    """It never starts again, so a big argument need not stay in memory. SRTY-10."""

    class Big:
        pass

    class Forgetful(GenServer):
        def init(self, _big):
            return Ok()

    big = Big()
    watch = weakref.ref(big)
    sup = Supervisor.start_link([])
    Supervisor.start_child(
        sup, {"id": "t", "start": (Forgetful, "start_link", [big]), "restart": "temporary"}
    )
    Supervisor.which_children(sup)
    del big
    gc.collect()
    assert watch() is None
    assert Supervisor.get_childspec(sup, "t")["start"] == (Forgetful, "start_link", [])


def test_requests_wait_while_a_supervisor_starts():
    """A child in its init is part of the supervisor's start. SINI-02, SADM-22."""
    gate = Gate()
    slow = {"id": "slow", "start": (Doer, "start_link", [lambda _server: gate()])}
    starting = Aside(Supervisor.start, [slow], name="top")
    gate.reached()
    looking = queued(process.whereis("top"), Supervisor.which_children)
    assert looking.waits()
    gate.open()
    sup = starting.answer()
    assert [info.child for info in looking.answer()] == [ref_of(sup, "slow")]
