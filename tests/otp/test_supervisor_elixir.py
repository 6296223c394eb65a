"""What Elixir adds to supervisors: classes as children, child_spec, one life cycle of calls."""

import pytest

from elsa_actors import (
    ChildError,
    ChildSpecError,
    DynamicSupervisor,
    GenServer,
    Ok,
    Reply,
    Stop,
    Supervise,
    Supervisor,
    call,
    debug,
    process,
)
from tests.otp.supervised import answers, children, counts, crash, kill, reason_of, ref_of, spec
from tests.servers import WAIT, Journal


class Counter(GenServer):
    """The example of the documentation."""

    def init(self, start=0):
        return Ok(start)

    def handle_call(self, request, sender):
        match request:
            case "get":
                return Reply(self.state)
            case "stop":
                return Stop("normal", reply="stopping")
            case ("add", number):
                self.state += number
                return Reply(self.state)


class Shop(Supervisor):
    """A supervisor with an init of its own."""

    def init(self, *children, **flags):
        return Supervise(children, **flags)


# ---- a child in a list


def test_a_class_stands_for_a_child_without_arguments(me):
    """The shortest way to write a tree. ESUP-02."""
    sup = Supervisor.start_link([Counter])
    assert children(sup) == {"Counter": ref_of(sup, "Counter")}
    assert call(ref_of(sup, "Counter"), "get") == 0


def test_a_tuple_stands_for_a_child_with_arguments(me):
    """`(Counter, 10)` is `Counter.child_spec(10)`. ESUP-02."""
    sup = Supervisor.start_link([(Counter, 10)])
    assert call(ref_of(sup, "Counter"), "get") == 10


def test_a_class_makes_its_own_child_spec():
    """start_link with the arguments, keywords as a fourth element; a name is an id. ESUP-03."""
    assert Counter.child_spec(10) == {
        "id": "Counter",
        "start": (Counter, "start_link", [10]),
    }
    assert Counter.child_spec(10, name="till") == {
        "id": "till",
        "start": (Counter, "start_link", [10], {"name": "till"}),
    }


def test_a_class_sets_the_defaults_of_its_child_spec(me):
    """The author of a server knows best how it is restarted and stopped. ESUP-03."""

    class Careful(Counter):
        id = "careful"
        restart = "transient"
        shutdown = 30.0
        significant = True

    assert Careful.child_spec() == {
        "id": "careful",
        "start": (Careful, "start_link", []),
        "restart": "transient",
        "shutdown": 30.0,
        "significant": True,
    }
    sup = Supervisor.start_link([Careful], auto_shutdown="any_significant")
    assert call(ref_of(sup, "careful"), "stop") == "stopping"
    assert me.receive(timeout=WAIT).reason == "shutdown"


def test_a_supervisor_class_is_a_child_of_type_supervisor(me):
    """So its shutdown is "infinity", and count_children knows it. ESUP-04."""
    assert Shop.child_spec(Counter) == {
        "id": "Shop",
        "start": (Shop, "start_link", [Counter]),
        "type": "supervisor",
    }
    assert DynamicSupervisor.child_spec(name="pool")["type"] == "supervisor"
    sup = Supervisor.start_link([(Shop, Counter), DynamicSupervisor])
    assert counts(sup) == [2, 2, 2, 0]
    assert Supervisor.get_childspec(sup, "Shop")["shutdown"] == "infinity"
    assert list(children(ref_of(sup, "Shop"))) == ["Counter"]


def test_child_spec_replaces_keys_of_any_child(me):
    """The same class twice under other ids, or restarted otherwise. ESUP-05."""
    other = Supervisor.child_spec((Counter, 10), id="other", restart="temporary")
    assert other == {
        "id": "other",
        "start": (Counter, "start_link", [10]),
        "restart": "temporary",
    }
    sup = Supervisor.start_link([Counter, other])
    assert call(ref_of(sup, "other"), "get") == 10
    kill(ref_of(sup, "other"))
    assert list(children(sup)) == ["Counter"]


def test_child_spec_refuses_an_unknown_key():
    """A typo in an override would change nothing, silently. ESUP-05."""
    with pytest.raises(ChildSpecError, match="did you mean 'restart'") as caught:
        Supervisor.child_spec(Counter, restrat="temporary")
    assert caught.value.reason == ("unknown_key", "restrat")
    assert isinstance(caught.value, ValueError)


class Bare:
    """A class without child_spec."""


@pytest.mark.parametrize("wrong", [Bare, "tests.nowhere:Counter", 42, "Counter"])
def test_what_is_no_child_is_refused_in_the_caller(me, wrong):
    """A class without child_spec, an unknown one, a term that is no spec: three texts. ESUP-06."""
    sup = Supervisor.start_link([])
    texts = set()
    for act in [
        lambda: Supervisor.start_link([wrong]),
        lambda: Supervisor.start_child(sup, wrong),
        lambda: Supervisor.child_spec(wrong, id=1),
    ]:
        with pytest.raises(ChildSpecError) as caught:
            act()
        assert caught.value.reason == ("invalid_child_spec", wrong)
        texts.add(str(caught.value))
    assert len(texts) == 1
    expected = {Bare: "has no child_spec", "tests.nowhere:Counter": "cannot import"}
    assert expected.get(wrong, "expected a child to be a dictionary") in texts.pop()
    assert counts(sup) == [0, 0, 0, 0]


def test_the_same_class_twice_needs_two_ids(me):
    """The error says how to give the second one an id of its own. ESUP-07."""
    with pytest.raises(ChildSpecError, match=r"Supervisor\.child_spec") as caught:
        Supervisor.start_link([Counter, (Counter, 10)])
    assert caught.value.reason == ("duplicate_child_name", "Counter")
    sup = Supervisor.start_link([Counter, Supervisor.child_spec((Counter, 10), id="Counter 2")])
    assert counts(sup) == [2, 2, 0, 2]


# ---- a whole life


def test_the_life_of_a_child(me):
    """Every call of an operator once, in the order of a working day. ESUP-08."""
    sup = Supervisor.start_link([], strategy="one_for_one")
    assert Supervisor.which_children(sup) == []
    ref = Supervisor.start_child(sup, Counter)
    assert Supervisor.which_children(sup) == [("Counter", ref, "worker", [Counter])]
    assert Supervisor.count_children(sup) == {
        "specs": 1,
        "active": 1,
        "supervisors": 0,
        "workers": 1,
    }

    def refused(act):
        with pytest.raises(ChildError) as caught:
            act(sup, "Counter")
        return caught.value.reason

    assert refused(Supervisor.delete_child) == "running"
    assert refused(Supervisor.restart_child) == "running"
    assert reason_of(ref, Supervisor.terminate_child, sup, "Counter") == "shutdown"
    again = Supervisor.restart_child(sup, "Counter")
    assert again is ref_of(sup, "Counter")
    assert again is not ref
    Supervisor.terminate_child(sup, "Counter")
    assert Supervisor.delete_child(sup, "Counter") is None
    assert refused(Supervisor.delete_child) == "not_found"
    assert Supervisor.which_children(sup) == []
    assert Supervisor.stop(sup) is None


def test_a_subclass_answers_children_and_flags(me):
    """Supervise has the flags of start_link, by the same names. ESUP-09."""
    journal = Journal()
    tree = [spec(label, journal) for label in "ab"]
    sup = Shop.start_link(
        *tree, strategy="one_for_all", max_restarts=1, max_seconds=60.0, auto_shutdown="never"
    )
    journal.take()
    crash(ref_of(sup, "a"))
    assert answers(sup)
    assert journal.take() == [
        ("term", "a", "boom"),
        ("term", "b", "shutdown"),
        ("start", "a"),
        ("start", "b"),
    ]
    crash(ref_of(sup, "a"))
    assert me.receive(timeout=WAIT).reason == "shutdown"


def test_supervise_says_what_it_was_not_told():
    """One place has the defaults, and they can be looked at. ESUP-09."""
    supervise = Supervise([Counter])
    assert (supervise.strategy, supervise.auto_shutdown) == ("one_for_one", "never")
    assert (supervise.max_restarts, supervise.max_seconds) == (3, 5.0)


def test_a_permanent_server_that_stops_on_request_comes_back_by_name(me):
    """Callers use the name, and need not know of the restart. ESUP-11."""
    sup = Supervisor.start_link([Counter.child_spec(7, name="till")])
    assert call("till", ("add", 1)) == 8
    ref = process.whereis("till")
    assert reason_of(ref, call, "till", "stop") == "normal"
    assert counts(sup) == [1, 1, 0, 1]
    assert process.whereis("till") is not ref
    assert call("till", "get") == 7
    assert debug.get_state("till") == 7
