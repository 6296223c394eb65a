"""Registry and Via: who holds a key, and that the dead hold none."""

import doctest
import threading
import time
from collections import Counter

import pytest

from elsa_actors.otp import debug, registry
from elsa_actors.otp.gen_server import call, cast, stop, system_call
from elsa_actors.otp.registry import Registry, Via
from elsa_actors.otp.results import Ignore, Reply, Stop
from elsa_actors.otp.supervisor import Supervisor
from elsa_actors.runtime import death, process
from elsa_actors.runtime.death import both
from elsa_actors.runtime.errors import (
    AlreadyStarted,
    CallExit,
    ChildSpecError,
    ElsaError,
    NameTaken,
    NoProcess,
    NotAProcess,
    StartError,
)
from elsa_actors.runtime.exits import Down, Exit, ProcessExit
from elsa_actors.runtime.names import NameTable
from tests.servers import WAIT, Doer, Gate, Journal, Oops, exit_of, nothing_comes


@pytest.fixture
def unique():
    """A registry of unique keys, "shop"."""
    return Registry.start(name="shop")


@pytest.fixture
def duplicate():
    """A registry of duplicate keys, "rooms"."""
    return Registry.start(name="rooms", keys="duplicate")


class Keeper(Doer):
    """A Doer that registers itself first, under some (key, value)."""

    unwind = False

    def init(self, where, entries=(), trap=False):
        result = super().init(trap=trap)
        for key, value in entries:
            Registry.register(where, key, value)
        return result


def keeper(name, *entries, trap=False):
    return Keeper.start(name, entries, trap)


def do(ref, act):
    """Have a Doer do this in its own process, and return what came of it."""
    return call(ref, lambda server: Reply(act()))


def links(ref):
    return process.info(ref)["links"]


def until(condition):
    """Wait for what another process is about to do."""
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.001)


# ---- unique keys


def test_register_and_look_up(me, unique):
    """A process is found under its key, with its value, and the registry owns the entry. REG-01."""
    assert Registry.register("shop", "k", "v") is unique
    assert Registry.lookup("shop", "k") == [(me.ref, "v")]
    assert Registry.register("shop", ("orders", 3)) is unique
    assert Registry.lookup("shop", ("orders", 3)) == [(me.ref, None)]
    assert Registry.lookup("shop", "unknown") == []
    assert Registry.lookup(unique, "k") == [(me.ref, "v")]


@pytest.mark.parametrize("by", ["itself", "another"])
def test_unique_key_that_is_taken(me, unique, by):
    """A key has one holder: a second registration is refused, and says by whom. REG-02."""
    holder = me.ref
    if by == "another":
        holder = keeper("shop", ("k", "first"))
    else:
        Registry.register("shop", "k", "first")
    with pytest.raises(NameTaken) as error:
        Registry.register("shop", "k", "second")
    assert error.value.reason == ("already_registered", holder)
    assert error.value.ref is holder
    assert isinstance(error.value, ElsaError)
    assert isinstance(error.value, ValueError)
    assert str(error.value) == (
        f"expected key 'k' of registry 'shop' to be free, but {holder!r} holds it;"
        " use another key, or unregister it there first"
    )
    assert Registry.lookup("shop", "k") == [(holder, "first")]


def test_failed_registration_leaves_no_trace(me, unique):
    """Whoever is refused again and again costs nothing, and is not linked. REG-28."""
    keeper("shop", ("k", 1))
    for _ in range(100):
        with pytest.raises(NameTaken):
            Registry.register("shop", "k")
    assert Registry.count("shop") == 1
    assert Registry.keys("shop", me.ref) == []
    assert me.ref._inbox.names in (None, {})
    assert links(me.ref) == []


@pytest.mark.parametrize("end", ["kill", "stop", "raise"])
def test_keys_vanish_with_their_holder(unique, end):
    """Nobody unregisters a dead process, and nobody finds it. REG-03."""
    holder = keeper("shop", ("one", 1), ("two", 2))
    other = keeper("shop", ("three", 3))
    assert Registry.count("shop") == 3
    match end:
        case "kill":
            process.exit(holder, "kill")
        case "stop":
            stop(holder)
        case "raise":
            cast(holder, lambda server: 1 / 0)
            exit_of(holder)
    assert Registry.lookup("shop", "one") == Registry.lookup("shop", "two") == []
    assert Registry.count("shop") == 1
    assert Registry.keys("shop", holder) == []
    assert Registry.values("shop", "one", holder) == []
    assert Registry.select("shop", lambda key, ref, value: True) == [("three", other, 3)]


def held_up_death(ref, gate, monkeypatch):
    """A thread in which this process dies, and stands at the gate before anybody is told."""
    monkeypatch.setattr(death, "_release_thread", lambda inbox: gate())
    dying = threading.Thread(target=death.die, args=(ref._inbox, "killed"))
    dying.start()
    gate.reached()
    monkeypatch.undo()
    return dying


def test_dead_holder_that_is_not_cleaned_up_yet(me, unique, monkeypatch):
    """From the moment of its death a holder counts as none; its cleaning up harms no successor.
    REG-04."""
    holder, gate = keeper("shop", ("k", "old")), Gate()
    dying = held_up_death(holder, gate, monkeypatch)
    assert holder._inbox.names, "cleaned up already: this test shows nothing"
    assert Registry.whereis_name(("shop", "k")) is None
    assert process.whereis(Via("shop", "k")) is None
    assert Registry.lookup("shop", "k") == []
    assert Registry.count("shop") == 0
    assert Registry.keys("shop", holder) == []
    Registry.register("shop", "k", "new")
    gate.open()
    dying.join()
    assert holder._inbox.names is None
    assert Registry.lookup("shop", "k") == [(me.ref, "new")]


def test_keys_compare_with_their_types(me, unique):
    """1, 1.0 and True are one key of a dictionary, and three of a registry. REG-18."""
    for key in (1, 1.0, True, (1, "a"), (1.0, "a"), "1", b"1", None):
        assert Registry.lookup("shop", key) == []
        Registry.register("shop", key, repr(key))
    assert Registry.count("shop") == 8
    assert Registry.lookup("shop", True) == [(me.ref, "True")]
    assert Registry.values("shop", 1.0, me.ref) == ["1.0"]
    assert Registry.keys("shop", me.ref)[:3] == [1, 1.0, True]
    assert [type(key) for key in Registry.keys("shop", me.ref)[:3]] == [int, float, bool]
    Registry.unregister("shop", 1)
    assert Registry.lookup("shop", 1) == []
    assert Registry.lookup("shop", True) == [(me.ref, "True")]
    assert Registry.lookup("shop", (1.0, "a")) == [(me.ref, "(1.0, 'a')")]


def test_key_that_cannot_be_one(me, unique):
    """What cannot be hashed cannot be looked up either."""
    with pytest.raises(TypeError, match="unhashable"):
        Registry.register("shop", ["a"])
    with pytest.raises(TypeError, match="unhashable"):
        Registry.lookup("shop", ("a", ["b"]))
    assert links(me.ref) == []


@pytest.mark.parametrize("name", ["shop", "rooms"])
def test_unregister_takes_away_only_the_callers_entries(me, unique, duplicate, name):
    """A process cannot take a key from another by mistake; asking twice is no error. REG-06."""
    other = keeper(name, ("theirs", 1))
    Registry.register(name, "mine", 1)
    assert Registry.unregister(name, "theirs") is None
    assert Registry.lookup(name, "theirs") == [(other, 1)]
    assert Registry.unregister(name, "mine") is None
    assert Registry.lookup(name, "mine") == []
    assert Registry.unregister(name, "mine") is None
    assert Registry.unregister(name, "nobody's") is None
    Registry.register(name, "mine", 2)
    assert Registry.lookup(name, "mine") == [(me.ref, 2)]


def test_keys_values_and_count(me, unique):
    """What a process holds can be asked by the process, too. REG-07."""
    other = keeper("shop", ("c", 3))
    assert Registry.keys("shop", me.ref) == []
    Registry.register("shop", "b", 2)
    Registry.register("shop", "a", 1)
    assert Registry.keys("shop", me.ref) == ["b", "a"]
    assert Registry.keys("shop", other) == ["c"]
    assert Registry.values("shop", "b", me.ref) == [2]
    assert Registry.values("shop", "c", me.ref) == []
    assert Registry.values("shop", "unknown", me.ref) == []
    assert Registry.count("shop") == 3


def test_registries_do_not_mix(me, unique, duplicate):
    """What a process holds in one registry is not seen in another, nor as a local name."""
    process.register("k", me.ref)
    for n in range(10):
        keeper("rooms", ("k", n))
    Registry.register("shop", "k", "shop")
    Registry.register("rooms", "k", "rooms")
    assert Registry.keys("shop", me.ref) == Registry.keys("rooms", me.ref) == ["k"]
    assert Registry.values("shop", "k", me.ref) == ["shop"]
    Registry.unregister("rooms", "k")
    assert Registry.count("rooms") == 10
    assert Registry.lookup("shop", "k") == [(me.ref, "shop")]
    assert process.registered()["k"] is me.ref
    assert process.info(me.ref)["registered_name"] == "k"


# ---- duplicate keys


def test_duplicate_keys(me, duplicate):
    """Any number may hold a key, one process several times; the oldest comes first. REG-05,
    REG-07."""
    Registry.register("rooms", "lobby", 1)
    other = keeper("rooms", ("lobby", 2), ("bar", 3))
    Registry.register("rooms", "lobby", 4)
    assert Registry.lookup("rooms", "lobby") == [(me.ref, 1), (other, 2), (me.ref, 4)]
    assert Registry.keys("rooms", me.ref) == ["lobby", "lobby"]
    assert Registry.keys("rooms", other) == ["lobby", "bar"]
    assert Registry.values("rooms", "lobby", me.ref) == [1, 4]
    assert Registry.count("rooms") == 4


def test_unregister_takes_all_of_the_callers_duplicates(me, duplicate):
    """One unregister undoes all registrations of a key, and touches nobody else's. REG-06."""
    others = [keeper("rooms", ("lobby", n)) for n in range(10)]
    for value in (1, 3):
        Registry.register("rooms", "lobby", value)
    Registry.register("rooms", "bar")
    Registry.unregister("rooms", "lobby")
    assert Registry.lookup("rooms", "lobby") == list(zip(others, range(10), strict=True))
    assert Registry.keys("rooms", me.ref) == ["bar"]


def test_death_frees_one_of_many_holders(duplicate):
    """The dead one goes, the others keep their order. REG-03."""
    one, two, three = (keeper("rooms", ("lobby", n)) for n in (1, 2, 3))
    process.exit(two, "kill")
    assert Registry.lookup("rooms", "lobby") == [(one, 1), (three, 3)]
    process.exit(one, "kill")
    process.exit(three, "kill")
    assert Registry.lookup("rooms", "lobby") == []
    assert Registry.count("rooms") == 0


# ---- values, dispatch, select


def test_update_value(me, unique):
    """The holder replaces its value, and gets both. REG-14."""
    Registry.register("shop", "k", 1)
    assert Registry.update_value("shop", "k", lambda old: old + 9) == (10, 1)
    assert Registry.lookup("shop", "k") == [(me.ref, 10)]


@pytest.mark.parametrize("holder", ["another", "nobody"])
def test_update_value_of_what_one_does_not_hold(me, unique, holder):
    """A value belongs to the holder of its key; the function is not even called. REG-14."""
    ref = keeper("shop", ("k", 1)) if holder == "another" else None
    called = []
    with pytest.raises(LookupError) as error:
        Registry.update_value("shop", "k", called.append)
    assert isinstance(error.value, NoProcess)
    assert str(error.value) == (
        f"expected key 'k' of registry 'shop' to be held by the running process {me.ref!r},"
        f" got: {'no holder' if ref is None else repr(ref)}; register it first"
    )
    assert called == []
    if ref is not None:
        assert Registry.lookup("shop", "k") == [(ref, 1)]


def test_update_value_whose_function_raises(me, unique):
    """What the function raises is the caller's, and the old value stays."""
    Registry.register("shop", "k", 1)
    with pytest.raises(ZeroDivisionError):
        Registry.update_value("shop", "k", lambda old: 1 / 0)
    assert Registry.lookup("shop", "k") == [(me.ref, 1)]


def test_update_value_in_a_registry_of_duplicates(me, duplicate):
    """Where a process may hold a key twice, nobody could say which value is meant. REG-14."""
    Registry.register("rooms", "lobby", 1)
    with pytest.raises(ValueError, match="Registry.update_value needs a registry with unique keys"):
        Registry.update_value("rooms", "lobby", lambda old: 2)
    assert Registry.lookup("rooms", "lobby") == [(me.ref, 1)]


def test_dispatch_runs_once_in_the_caller(me, duplicate):
    """The function gets all holders at once and runs where it was called; there are no partitions
    over which it could be spread. REG-15, REG-16."""
    others = [keeper("rooms", ("lobby", n)) for n in range(20)]
    journal = Journal()
    assert Registry.dispatch("rooms", "lobby", lambda got: journal(process.current(), got)) is None
    assert journal.events == [(me.ref, list(zip(others, range(20), strict=True)))]


def test_dispatch_to_nobody(me, unique, duplicate):
    """Without holders there is nothing to do. REG-15."""
    called = []
    assert Registry.dispatch("rooms", "lobby", called.append) is None
    assert Registry.dispatch("shop", "k", called.append) is None
    Registry.register("shop", "k", 1)
    Registry.dispatch("shop", "k", called.append)
    assert called == [[(me.ref, 1)]]


def test_dispatch_that_raises(me, duplicate):
    """The function is the caller's, and so is what it raises; the registry lives on. REG-15."""
    Registry.register("rooms", "lobby")

    def raises(holders):
        raise Oops

    with pytest.raises(Oops):
        Registry.dispatch("rooms", "lobby", raises)
    assert process.is_alive("rooms")


@pytest.mark.parametrize("name", ["shop", "rooms"])
def test_select(me, unique, duplicate, name):
    """All entries can be asked by key, process and value together. REG-19."""
    other = keeper(name, ("c", 3), (("x", 1), 4))
    Registry.register(name, "a", 1)
    Registry.register(name, "b", 2)

    def found(predicate):
        return Counter(Registry.select(name, predicate))

    everything = {("a", me.ref, 1), ("b", me.ref, 2), ("c", other, 3), (("x", 1), other, 4)}
    assert found(lambda key, ref, value: True) == Counter(everything)
    assert found(lambda key, ref, value: ref is other and value > 3) == {(("x", 1), other, 4): 1}
    assert found(lambda key, ref, value: False) == {}
    assert found(lambda entry: entry[0] == "a") == {("a", me.ref, 1): 1}
    with pytest.raises(ZeroDivisionError):
        Registry.select(name, lambda key, ref, value: 1 / 0)


# ---- Via: a key as a name


class Early(Doer):
    """Writes down who it is found to be while its init runs, then does what `start` says."""

    def init(self, journal, start=None):
        journal(process.whereis(Via("shop", "k")) is process.current())
        return super().init(start)


def test_server_under_a_via(me, unique):
    """A server is called, cast to, watched and stopped under its key as under a name. REG-08,
    NAME-01."""
    via, journal = Via("shop", "k"), Journal()
    ref = Early.start_link(journal, name=via)
    assert journal.events == [True]
    assert call(via, lambda server: Reply("called")) == "called"
    cast(via, lambda server: journal("cast"))
    journal.wait_for("cast")
    assert process.whereis(via) is ref
    assert process.is_alive(via)
    assert process.info(via)["class"] is Early
    process.send(via, lambda server: journal("sent"))
    journal.wait_for("sent")
    watch = process.monitor(via)
    assert stop(via) is None
    assert me.receive(Down, WAIT) == Down(watch, via, "normal")
    assert me.receive(Exit, WAIT) == Exit(ref, "normal")
    assert process.whereis(via) is None
    assert not process.is_alive(via)


@pytest.mark.parametrize("start", [Doer.start, Doer.start_link], ids=["start", "start_link"])
def test_via_that_is_taken(me, unique, start):
    """A second server under the key is not started, and harms neither holder nor caller. REG-08."""
    holder = Doer.start(name=Via("shop", "k", 1))
    process.trap_exit(False)
    with pytest.raises(AlreadyStarted) as error:
        start(name=Via("shop", "k", 2))
    assert error.value.reason == ("already_started", holder)
    assert error.value.ref is holder
    assert "Via('shop', 'k', 2) is already taken" in str(error.value)
    assert Registry.lookup("shop", "k") == [(holder, 1)]
    assert do(holder, process.current) is holder
    assert links(me.ref) == []
    assert process.list() == [unique, holder]


def test_value_of_a_via(unique):
    """Whoever starts a server under a key may store something beside it. REG-09."""
    one = Doer.start(name=Via("shop", "one", "value"))
    two = Doer.start(name=Via("shop", "two"))
    assert Registry.lookup("shop", "one") == [(one, "value")]
    assert Registry.lookup("shop", "two") == [(two, None)]


def raises(server):
    raise Oops


@pytest.mark.parametrize(
    "init",
    [lambda server: Stop("r"), lambda server: Ignore(), lambda server: 4711, raises],
    ids=["stop", "ignore", "bad value", "raise"],
)
def test_via_is_free_after_a_start_that_failed(unique, init):
    """An immediate retry never finds the name taken by what did not start. REG-10, NAME-04."""
    for _ in range(20):
        try:
            assert Early.start(Journal(), init, name=Via("shop", "k")) is None
        except StartError as error:
            assert not isinstance(error, AlreadyStarted)  # noqa: PT017
        assert Registry.lookup("shop", "k") == []
    assert Registry.count("shop") == 0
    assert process.whereis(Via("shop", "k")) is None


def test_via_is_free_after_stop(unique):
    """When stop has returned, the key is free for the next server. REG-10, NAME-05."""
    for _ in range(20):
        ref = Doer.start(name=Via("shop", "k"))
        stop(Via("shop", "k"))
        assert process.whereis(Via("shop", "k")) is None
        assert not process.is_alive(ref)


def test_via_that_nobody_has(me, unique):
    """Whoever wants an answer is told that nobody is there; a cast is not. REG-11, DEAD-02,
    DEAD-04."""
    via = Via("shop", "unknown")
    with pytest.raises(NoProcess) as error:
        call(via, "question")
    assert (error.value.reason, error.value.server) == ("noproc", via)
    assert cast(via, "statement") is None
    for act in (lambda: process.send(via, "x"), lambda: Registry.send(("shop", "unknown"), "x")):
        with pytest.raises(LookupError):
            act()
    with pytest.raises(NoProcess):
        stop(via)
    watch = process.monitor(via)
    assert me.receive(Down, WAIT) == Down(watch, via, "noproc")
    assert process.whereis(via) is None
    assert process.info(via) is None


def test_via_without_its_registry(me):
    """For callers a registry that does not run is nobody there; for a start it is an error.
    REG-13."""
    via = Via("nope", "k")
    with pytest.raises(NoProcess):
        call(via, "question")
    assert cast(via, "statement") is None
    assert process.whereis(via) is None
    with pytest.raises(LookupError, match="unknown registry"):
        Doer.start_link(name=via)
    assert process.list() == []
    assert links(me.ref) == []


def test_via_on_a_registry_of_duplicates(me, duplicate):
    """A name means one process; a key that many hold is none. REG-12."""
    via = Via("rooms", "lobby")
    Registry.register("rooms", "lobby")
    for act in (
        lambda: Doer.start(name=via),
        lambda: call(via, "x"),
        lambda: process.send(via, "x"),
        lambda: process.whereis(via),
        lambda: Registry.register_name(("rooms", "lobby"), me.ref),
        lambda: Registry.unregister_name(("rooms", "lobby")),
        lambda: Registry.whereis_name(("rooms", "lobby")),
        lambda: Registry.send(("rooms", "lobby"), "x"),
    ):
        with pytest.raises(ValueError, match="needs a registry with unique keys") as error:
            act()
        assert "use register, lookup or dispatch" in str(error.value)
    assert process.list() == [duplicate]
    assert Registry.lookup("rooms", "lobby") == [(me.ref, None)]


def test_via_is_a_value():
    """A Via can be a child's id or a dictionary's key, and is what it names, with the key's
    type. REG-18."""
    assert Via("shop", "k") == Via("shop", "k", "value")
    assert len({Via("shop", "k"), Via("shop", "k", ["unhashable"])}) == 1
    assert Via("shop", 1) != Via("shop", 1.0)
    assert len({Via("shop", 1), Via("shop", 1.0), Via("shop", True), Via("shop", (1,))}) == 4
    assert Via("shop", "k") != Via("rooms", "k")
    assert Via("shop", "k") != ("shop", "k")
    assert repr(Via("shop", ("a", 1))) == "Via('shop', ('a', 1))"
    assert repr(Via("shop", "k", 5)) == "Via('shop', 'k', 5)"
    with pytest.raises(AttributeError):
        Via("shop", "k").key = "other"
    with pytest.raises(TypeError, match="unhashable"):
        Via("shop", ["k"])
    with pytest.raises(TypeError, match="with register_name, unregister_name, whereis_name, send"):
        Via(7, "k")


def test_only_one_of_many_that_start_at_once(unique):
    """Of servers that claim a key at the same time one gets it, and the others know which.
    REG-08."""
    results, start = [], threading.Barrier(8)

    def run():
        start.wait(WAIT)
        try:
            results.append(("won", Doer.start(name=Via("shop", "k"))))
        except AlreadyStarted as error:
            results.append(("lost", error.ref))

    for _ in range(25):
        results.clear()
        threads = [threading.Thread(target=run) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
        assert sorted(outcome for outcome, _ in results) == ["lost"] * 7 + ["won"]
        assert {ref for _, ref in results} == {ref for ref, _ in Registry.lookup("shop", "k")}
        stop(Via("shop", "k"))


def test_supervised_server_under_a_via(unique):
    """A restarted child is found under its key again, by whoever knows the key only. REG-08."""
    sup = Supervisor.start_link(
        [{"id": "one", "start": (Doer, "start_link", [], {"name": Via("shop", "k")})}]
    )
    first = process.whereis(Via("shop", "k"))
    process.exit(first, "kill")
    until(lambda: process.whereis(Via("shop", "k")) not in (None, first))
    assert Supervisor.which_children(sup)[0].child is process.whereis(Via("shop", "k"))
    Supervisor.stop(sup)


class Shelf:
    """Names of somebody else's: what a Via needs, in a dictionary."""

    def __init__(self):
        self.holders = {}
        self.asked = []

    def register_name(self, name, ref):
        self.asked.append(("register", name))
        return self.holders.setdefault(name, ref) is ref

    def unregister_name(self, name):
        self.asked.append(("unregister", name))
        del self.holders[name]

    def whereis_name(self, name):
        return self.holders.get(name)

    def send(self, name, message):
        process.send(self.holders[name], message)


def test_via_by_any_object(me):
    """A name may be kept by any object that answers the four calls. NAME-09."""
    shelf = Shelf()
    via = Via(shelf, "k")
    ref = Doer.start(name=via)
    assert shelf.holders == {"k": ref}
    assert process.whereis(via) is ref
    assert call(via, lambda server: Reply("yes")) == "yes"
    with pytest.raises(AlreadyStarted) as error:
        Doer.start(name=via)
    assert error.value.ref is ref
    stop(via)
    assert shelf.holders == {}
    with pytest.raises(NoProcess):
        call(via, "x")
    with pytest.raises(StartError):
        Early.start(Journal(), lambda server: Stop("r"), name=via)
    assert shelf.holders == {}


def test_killed_holder_of_a_foreign_name(me):
    """A foreign keeper of names may know of a kill already, and have another holder: we do not
    meddle."""
    shelf = Shelf()
    ref = Doer.start(name=Via(shelf, "k"))
    process.exit(ref, "kill")
    assert process.whereis(Via(shelf, "k")) is None
    until(lambda: ref._inbox.process is None)
    assert shelf.asked == [("register", "k")]


def test_registry_class_in_a_via(unique):
    """Registry itself answers the four calls: `Via(Registry, (registry, key, value))`. REG-09."""
    ref = Doer.start(name=Via(Registry, ("shop", "k", 7)))
    assert Registry.lookup("shop", "k") == [(ref, 7)]
    assert process.whereis(Via(Registry, ("shop", "k"))) is ref
    stop(Via(Registry, ("shop", "k")))
    assert Registry.lookup("shop", "k") == []


# ---- names for others


def test_names_for_others(me, unique):
    """A manager registers what it started, and takes the name away again."""
    one, two = Doer.start(), Doer.start()
    assert Registry.register_name(("shop", "k"), one) is True
    assert Registry.register_name(("shop", "k"), two) is False
    assert Registry.register_name(("shop", "k"), one) is False
    assert Registry.register_name(("shop", "v", 5), two) is True
    assert Registry.whereis_name(("shop", "k")) is one
    assert Registry.lookup("shop", "v") == [(two, 5)]
    journal = Journal()
    assert Registry.send(("shop", "k"), lambda server: journal("got it")) is None
    journal.wait_for("got it")
    assert unique in links(one)
    assert Registry.unregister_name(("shop", "k")) is None
    assert Registry.whereis_name(("shop", "k")) is None
    assert Registry.unregister_name(("shop", "k")) is None
    assert unique not in links(one)
    with pytest.raises(TypeError, match="expected a name to be"):
        Registry.register_name("k", one)
    with pytest.raises(TypeError, match="expected what is registered to be a process's ref"):
        Registry.register_name(("shop", "k"), "one")


def test_name_for_the_dead(unique):
    """A dead process holds nothing, and whoever registers it is told."""
    ref = Doer.start()
    process.exit(ref, "kill")
    with pytest.raises(NoProcess):
        Registry.register_name(("shop", "k"), ref)
    assert Registry.count("shop") == 0


def test_names_from_a_plain_thread(unique):
    """A plain thread cannot be registered, and may look at everything."""
    for act in (
        lambda: Registry.register("shop", "k"),
        lambda: Registry.unregister("shop", "k"),
        lambda: Registry.update_value("shop", "k", lambda old: 1),
    ):
        with pytest.raises(NotAProcess, match=r"Registry\.\w+ needs a running process"):
            act()
    ref = keeper("shop", ("k", 1))
    assert Registry.lookup("shop", "k") == [(ref, 1)]


# ---- linked to the registry


def test_link_lasts_from_the_first_key_to_the_last(unique):
    """A registered process dies with its registry; one that is not registered any more does
    not. REG-22."""
    ref = Doer.start()
    assert links(ref) == links(unique) == []
    for key in ("one", "two"):
        do(ref, lambda key=key: Registry.register("shop", key))
        assert links(ref) == [unique]
        assert links(unique) == [ref]
    do(ref, lambda: Registry.unregister("shop", "unknown"))
    do(ref, lambda: Registry.unregister("shop", "one"))
    assert links(ref) == [unique]
    do(ref, lambda: Registry.unregister("shop", "two"))
    assert links(ref) == links(unique) == []
    process.exit(unique, "kill")
    assert process.is_alive(ref)


def test_link_to_a_parent_stays(me):
    """Whoever started the registry is linked to it for another reason. REG-22."""
    ref = Registry.start_link(name="shop")
    Registry.register("shop", "k")
    Registry.unregister("shop", "k")
    assert links(me.ref) == [ref]
    assert links(ref) == [me.ref]


ENDS = {
    "stop": (lambda ref: stop(ref), "shutdown"),
    "stop shutdown": (lambda ref: stop(ref, "shutdown"), "shutdown"),
    "stop boom": (lambda ref: stop(ref, "boom"), "boom"),
    "kill": (lambda ref: process.exit(ref, "kill"), "killed"),
}


@pytest.mark.parametrize(("end", "reason"), ENDS.values(), ids=ENDS)
def test_holders_end_with_their_registry(unique, end, reason):
    """Rather than live where nobody finds it, a holder ends, whatever the registry ends of.
    REG-23."""
    journal = Journal()
    plain, bystander = keeper("shop", ("k", 1)), Doer.start()
    trapping = Doer.start(None, journal, True)
    do(trapping, lambda: Registry.register("shop", "l"))
    end(unique)
    assert exit_of(unique) in ("normal", reason)
    assert plain._inbox.reason == reason
    journal.wait_for("info", Exit(unique, reason))
    assert do(trapping, lambda: None) is None
    assert journal.events == [("info", Exit(unique, reason))]
    assert process.is_alive(bystander)


def test_holders_end_with_a_registry_that_its_supervisor_stops(me):
    """A tree that is stopped takes everybody along who is registered in it. REG-23."""
    sup = Supervisor.start_link([Registry.child_spec(name="shop")])
    ref = keeper("shop", ("k", 1))
    Supervisor.terminate_child(sup, "shop")
    assert exit_of(ref) in ("noproc", "shutdown")
    assert ref._inbox.reason == "shutdown"


def test_registering_parent_of_a_registry_that_is_stopped(me):
    """The one who started the registry and is registered in it hears of both. REG-23."""
    ref = Registry.start_link(name="shop")
    Registry.register("shop", "k")
    stop("shop")
    assert me.receive(Exit, WAIT) == Exit(ref, "shutdown")
    assert me.receive(Exit, WAIT) == Exit(ref, "normal")
    assert nothing_comes()


def test_restarted_registry_is_empty(me):
    """A table dies with its registry; who survived must register anew. REG-24."""
    sup = Supervisor.start_link([Registry.child_spec(name="shop")])
    first = process.whereis("shop")
    Registry.register("shop", "k", "old")
    process.exit(first, "kill")
    assert me.receive(Exit, WAIT) == Exit(first, "killed")
    until(lambda: process.whereis("shop") is not None)
    assert Registry.lookup("shop", "k") == []
    assert Registry.count("shop") == 0
    assert Registry.keys("shop", me.ref) == []
    second = Registry.register("shop", "k", "new")
    assert second is not first
    assert Registry.values("shop", "k", me.ref) == ["new"]
    Supervisor.stop(sup)
    assert me.receive(lambda m: m == Exit(second, "shutdown"), WAIT)


def test_rest_for_one_starts_the_registered_again(me):
    """Registry first, those who register after it: a new registry is filled by itself. REG-23,
    REG-24."""
    Supervisor.start_link(
        [
            Registry.child_spec(name="shop"),
            {"id": "one", "start": (Keeper, "start_link", ["shop", [("k", 1)]])},
        ],
        strategy="rest_for_one",
    )
    first = Registry.whereis_name(("shop", "k"))
    process.exit(process.whereis("shop"), "kill")

    def is_back():
        try:
            return Registry.lookup("shop", "k") not in ([], [(first, 1)])
        except NoProcess:
            return False

    until(is_back)


def test_registry_ignores_the_ends_of_its_holders(unique, log_events):
    """A registry outlives those who crash, and has nothing to say about it. REG-03."""
    holders = [keeper("shop", (n, n)) for n in range(5)]
    for ref in holders:
        process.exit(ref, "boom")
    Supervisor.which_children("shop")  # It has read its mail.
    assert Registry.count("shop") == 0
    assert links(unique) == []
    assert log_events == []


# ---- when one of both is dead


UNKNOWN = {
    "register": lambda name: Registry.register(name, "k"),
    "unregister": lambda name: Registry.unregister(name, "k"),
    "lookup": lambda name: Registry.lookup(name, "k"),
    "keys": lambda name: Registry.keys(name, process.current()),
    "values": lambda name: Registry.values(name, "k", process.current()),
    "count": lambda name: Registry.count(name),
    "update_value": lambda name: Registry.update_value(name, "k", lambda old: 1),
    "dispatch": lambda name: Registry.dispatch(name, "k", print),
    "select": lambda name: Registry.select(name, lambda key, ref, value: True),
    "lock": lambda name: Registry.lock(name, "k", print),
    "register_name": lambda name: Registry.register_name((name, "k"), process.current()),
    "unregister_name": lambda name: Registry.unregister_name((name, "k")),
    "whereis_name": lambda name: Registry.whereis_name((name, "k")),
    "send": lambda name: Registry.send((name, "k"), "x"),
    "start": lambda name: Doer.start(name=Via(name, "k")),
}


@pytest.mark.parametrize("act", UNKNOWN.values(), ids=UNKNOWN)
def test_unknown_registry(me, act):
    """A mistyped registry is no empty one, in any call; nor is a process that is none. REG-13."""
    Doer.start(name="doer")
    for name in ("nope", "doer"):
        with pytest.raises(LookupError) as error:
            act(name)
        assert isinstance(error.value, NoProcess)
        assert error.value.reason == "noproc"
        assert str(error.value) == (
            f"unknown registry: expected the name of a Registry that runs, got: {name!r};"
            " start it first, with Registry.start_link(name=...) or in a supervisor"
        )


@pytest.mark.parametrize("act", UNKNOWN.values(), ids=UNKNOWN)
def test_dead_registry_is_unknown_at_once(me, unique, act):
    """Nobody finds a process in the table of a registry that was killed. REG-13, REG-24."""
    Registry.register("shop", "k")
    process.exit(unique, "kill")
    for name in ("shop", unique):
        with pytest.raises(NoProcess, match="unknown registry"):
            act(name)


def test_dead_registry_that_is_not_cleaned_up_yet(me, unique, monkeypatch):
    """From the moment of its death on, nobody gets in; who was in is about to end. REG-13."""
    holder, gate = keeper("shop", ("k", 1)), Gate()
    dying = held_up_death(unique, gate, monkeypatch)
    assert process.is_alive(holder)
    for act in (
        lambda: Registry.lookup("shop", "k"),
        lambda: Registry.lookup(unique, "k"),
        lambda: Registry.register("shop", "l"),
        lambda: Doer.start(name=Via("shop", "m")),
    ):
        with pytest.raises(NoProcess, match="unknown registry"):
            act()
    assert process.whereis(Via("shop", "k")) is None
    gate.open()
    dying.join()
    assert not process.is_alive(holder)
    assert links(me.ref) == []


def test_registry_that_dies_while_one_gets_in(me, unique, monkeypatch):
    """A registry that dies in the very moment takes nobody in, and is linked to nobody. REG-23."""

    def after_its_death(holder, home):
        process.exit(home.ref, "kill")
        return both(holder, home)

    monkeypatch.setattr(registry, "both", after_its_death)
    with pytest.raises(NoProcess, match="unknown registry"):
        Registry.register("shop", "k")
    assert links(me.ref) == []
    assert me.ref._inbox.names in (None, {})


def test_registry_that_is_about_to_end(me, unique):
    """While a registry says goodbye to its holders, nobody comes in who would not be told.
    REG-23."""
    holder = keeper("shop", ("k", 1))
    system_call(unique, lambda server: server.terminate("normal"), WAIT)
    assert holder._inbox.reason == "shutdown"
    with pytest.raises(NoProcess, match="unknown registry"):
        Registry.register("shop", "k")
    with pytest.raises(NoProcess, match="unknown registry"):
        Doer.start(name=Via("shop", "k"))
    assert links(unique) == []


def test_holder_that_dies_while_it_makes_a_new_value(unique):
    """What a dead process works out is not written down."""
    ref, gate, journal = keeper("shop", ("k", "old")), Gate(), Journal()

    def run(server):
        try:
            Registry.update_value("shop", "k", lambda old: gate() or "new")
        except ProcessExit as error:
            journal("refused", error.reason)
            raise

    (entry,) = unique._inbox.process._table.entries("k")
    cast(ref, run)
    gate.reached()
    process.exit(ref, "kill")
    gate.open()
    journal.wait_for("refused", "killed")
    assert entry.value == "old"


LEFTOVER = {name: act for name, act in UNKNOWN.items() if name != "keys"}


@pytest.mark.parametrize("act", LEFTOVER.values(), ids=LEFTOVER)
def test_leftover_code_cannot_touch_a_registry(unique, act):
    """What still runs of a dead process registers nothing and finds nothing."""
    ref, gate, journal = keeper("shop", ("mine", 1)), Gate(), Journal()

    def run(server):
        gate()
        try:
            act("shop")
        except ProcessExit as error:
            journal("refused", error.reason)
            raise
        journal("went on")

    cast(ref, run)
    gate.reached()
    process.exit(ref, "kill")
    gate.open()
    until(lambda: journal.events)
    assert journal.events == [("refused", "killed")]
    assert Registry.count("shop") == 0
    assert links(unique) == []


def test_registering_while_the_registry_dies():
    """Whoever is registered has the link; nobody lives on in the table of a dead registry.
    REG-23."""

    def register(server):
        try:
            Registry.register("shop", "k")
        except NoProcess:
            return Reply("refused")
        return Reply("registered")

    seen = Counter()
    for _ in range(150):
        unique, ref, start = Registry.start(name="shop"), Doer.start(), threading.Barrier(2)

        def kill(unique=unique, start=start):
            start.wait(WAIT)
            process.exit(unique, "kill")

        killer = threading.Thread(target=kill)
        killer.start()
        start.wait(WAIT)
        try:
            outcome = call(ref, register)
        except CallExit as error:
            outcome = error.reason
        killer.join()
        seen[outcome] += 1
        if outcome == "refused":
            assert process.is_alive(ref)
            assert links(ref) == []
            process.exit(ref, "kill")
        else:
            assert ref._inbox.reason == "killed"
    assert set(seen) <= {"refused", "registered", "killed"}


def test_starting_under_a_via_while_the_registry_dies():
    """A server that is started into a dying registry is refused, or ends with it. REG-23."""
    seen = Counter()
    for _ in range(150):
        unique, start = Registry.start(name="shop"), threading.Barrier(2)

        def kill(unique=unique, start=start):
            start.wait(WAIT)
            process.exit(unique, "kill")

        killer = threading.Thread(target=kill)
        killer.start()
        start.wait(WAIT)
        try:
            ref = Doer.start(name=Via("shop", "k"))
            outcome = "started"
        except (NoProcess, StartError) as error:
            ref, outcome = None, error.reason
        killer.join()
        seen[outcome] += 1
        if ref is not None:
            assert ref._inbox.reason == "killed"
        assert process.list() == []
    assert set(seen) <= {"started", "noproc", "killed"}


def test_registering_while_the_holder_dies(unique):
    """A dead process never stays registered, however its death and the registration meet.
    REG-03."""
    for _ in range(150):
        ref, start = Doer.start(), threading.Barrier(2)

        def kill(ref=ref, start=start):
            start.wait(WAIT)
            process.exit(ref, "kill")

        killer = threading.Thread(target=kill)
        killer.start()
        start.wait(WAIT)
        try:
            assert Registry.register_name(("shop", "k"), ref)
        except NoProcess:
            pass
        killer.join()
        assert Registry.lookup("shop", "k") == []
        assert Registry.count("shop") == 0
    assert links(unique) == []
    assert process.is_alive(unique)


# ---- never waits


def test_nothing_waits_for_the_registry(me, unique, duplicate):
    """A registry that is busy or suspended is written and read all the same."""
    debug.suspend(unique)
    debug.suspend(duplicate)
    Registry.register("shop", "k", 1)
    Registry.register("rooms", "lobby", 1)
    assert Registry.lookup("shop", "k") == Registry.lookup("rooms", "lobby") == [(me.ref, 1)]
    assert Registry.update_value("shop", "k", lambda old: 2) == (2, 1)
    ref = Doer.start(name=Via("shop", "l"))
    assert process.whereis(Via("shop", "l")) is ref
    assert Registry.count("shop") == 2
    Registry.unregister("shop", "k")
    process.exit(ref, "kill")
    assert Registry.count("shop") == 0


@pytest.mark.parametrize("keys", ["unique", "duplicate"])
def test_looking_up_while_others_come_and_go(keys):
    """Readers take no lock, and never meet a table in the middle of a change."""
    Registry.start(name="busy", keys=keys)
    staying = keeper("busy", ("stays", 1), (("k", 0), 1))
    over, errors = threading.Event(), []

    def churn(name):
        try:
            with process.attach():
                while not over.is_set():
                    for key in range(1, 20):
                        Registry.register(
                            "busy", ("k", key if keys == "duplicate" else (name, key))
                        )
                    for key in range(1, 20):
                        Registry.unregister(
                            "busy", ("k", key if keys == "duplicate" else (name, key))
                        )
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=churn, args=(name,)) for name in range(3)]
    for thread in threads:
        thread.start()
    try:
        for key in range(400):
            assert Registry.lookup("busy", "stays") == [(staying, 1)]
            Registry.lookup("busy", ("k", key % 20))
            assert ("stays", staying, 1) in Registry.select("busy", lambda key, ref, value: True)
            assert Registry.count("busy") >= 2
            assert Registry.keys("busy", staying) == ["stays", ("k", 0)]
    finally:
        over.set()
        for thread in threads:
            thread.join(WAIT)
    assert errors == []
    until(lambda: Registry.count("busy") == 2)


def test_many_entries_under_one_key(me, duplicate):
    """The entries of a key cost each the same: with 30,000 the square of that would take
    minutes."""
    for n in range(30_000):
        Registry.register("rooms", "lobby", n)
    assert Registry.count("rooms") == 30_000
    assert Registry.lookup("rooms", "lobby")[-1] == (me.ref, 29_999)
    other = keeper("rooms", ("lobby", "other"))
    Registry.unregister("rooms", "lobby")
    assert Registry.lookup("rooms", "lobby") == [(other, "other")]
    for n in range(10_000):
        Registry.register("rooms", n)
    for n in range(10_000):
        Registry.unregister("rooms", n)
    assert Registry.count("rooms") == 1


def test_many_holders_of_one_key(duplicate):
    """A thousand subscribers come, go and die with their registry."""
    holders = [keeper("rooms", ("lobby", n)) for n in range(1_000)]
    assert [ref for ref, _ in Registry.lookup("rooms", "lobby")] == holders
    for ref in holders[:500]:
        process.exit(ref, "kill")
    assert [ref for ref, _ in Registry.lookup("rooms", "lobby")] == holders[500:]
    process.exit(duplicate, "kill")
    assert [ref for ref in holders if process.is_alive(ref)] == []


# ---- locks


def lock(ref, key, act):
    cast(ref, lambda server: Registry.lock("shop", key, act) and None)


def waits(ref):
    """Wait until a process waits in the registry's queue."""
    until(lambda: process.info(ref)["status"] == "waiting")
    Supervisor.which_children("shop")  # Its request was there before this one.


def test_lock_excludes_others_of_the_same_key(unique):
    """While one is in, another waits; who wants another key does not. REG-27."""
    one, two, three = Doer.start(), Doer.start(), Doer.start()
    journal, gate = Journal(), Gate()
    lock(one, "k", lambda: journal("one in") or gate() or journal("one out"))
    gate.reached()
    lock(two, "k", lambda: journal("two in"))
    waits(two)
    assert do(three, lambda: Registry.lock("shop", "other", lambda: "at once")) == "at once"
    assert do(three, lambda: Registry.lock("shop", 1, lambda: "at once")) == "at once"
    assert journal.events == ["one in"]
    gate.open()
    journal.wait_for("two in")
    assert journal.events == ["one in", "one out", "two in"]


def test_lock_is_released(me, unique):
    """A lock is free when its function has returned, or raised. REG-27."""

    def raises():
        raise Oops

    assert Registry.lock("shop", "k", lambda: "answer") == "answer"
    with pytest.raises(Oops):
        Registry.lock("shop", "k", raises)
    assert do(Doer.start(), lambda: Registry.lock("shop", "k", lambda: "next")) == "next"
    assert nothing_comes()
    Supervisor.which_children("shop")  # It has read its mail.
    assert process.info(unique)["monitors"] == []


def test_lock_of_the_dead_is_free(unique):
    """A holder that dies takes no lock along, and who died waiting is passed over. REG-27."""
    one, two, three = Doer.start(), Doer.start(), Doer.start()
    journal, gate = Journal(), Gate()
    lock(one, "k", lambda: journal("one in") or gate(library=True))
    gate.reached()
    lock(two, "k", lambda: journal("two in"))
    waits(two)
    lock(three, "k", lambda: journal("three in"))
    waits(three)
    process.exit(two, "kill")
    process.exit(one, "kill")
    journal.wait_for("three in")
    assert journal.events == ["one in", "three in"]
    until(
        lambda: (
            system_call(unique, lambda server: (server._claims, server._by_watch), WAIT) == ({}, {})
        )
    )


def test_lock_in_the_same_lock(me, unique):
    """Who waits for itself would wait for ever. REG-27."""

    def again():
        return Registry.lock("shop", "k", lambda: "never")

    with pytest.raises(RuntimeError, match="holds the lock 'k' of registry 'shop'"):
        Registry.lock("shop", "k", again)
    assert Registry.lock("shop", "k", lambda: Registry.lock("shop", "l", lambda: 1)) == 1


def test_lock_by_a_plain_thread(unique):
    """A lock has nothing to do with who is registered, nor with being a process. REG-27."""
    ref, journal = Doer.start(), Journal()

    def act():
        lock(ref, "k", lambda: journal("ref in"))
        waits(ref)
        journal("thread out")

    Registry.lock("shop", "k", act)
    journal.wait_for("ref in")
    assert journal.events == ["thread out", "ref in"]


def test_lock_of_a_registry_that_dies(unique):
    """Who waits in a registry that dies is told. REG-27."""
    one, two = Doer.start(), Doer.start()
    gate = Gate()
    lock(one, "k", gate)
    gate.reached()
    lock(two, "k", lambda: None)
    waits(two)
    process.exit(unique, "kill")
    assert isinstance(exit_of(two), CallExit)
    gate.open()
    assert do(one, lambda: "lives") == "lives"


# ---- the process


OPTIONS = {
    "no name": ({}, ("invalid_name", None), "a string that is not empty, got: None"),
    "empty name": ({"name": ""}, ("invalid_name", ""), "a string that is not empty, got: ''"),
    "name of a kind": ({"name": 5}, ("invalid_name", 5), "a string that is not empty, got: 5"),
    "keys": (
        {"name": "shop", "keys": "bag"},
        ("invalid_keys", "bag"),
        "expected keys to be 'unique' or 'duplicate', got: 'bag'",
    ),
    "keys of a kind": (
        {"name": "shop", "keys": ["unique"]},
        ("invalid_keys", ["unique"]),
        "expected keys to be 'unique' or 'duplicate', got: ['unique']",
    ),
}


@pytest.mark.parametrize(("options", "reason", "message"), OPTIONS.values(), ids=OPTIONS)
def test_bad_options(options, reason, message):
    """A wrong option is said at once, where it was written, and nothing is started. REG-25."""
    for start in (Registry.start_link, Registry.start, Registry.child_spec):
        with pytest.raises(ChildSpecError) as error:
            start(**options)
        assert isinstance(error.value, ValueError)
        assert error.value.reason == reason
        assert message in str(error.value)
    assert process.list() == []


def test_there_are_no_partitions():
    """One table serves all: an option for more is refused, not ignored. REG-25, REG-16."""
    with pytest.raises(TypeError, match="partitions"):
        Registry.start_link(name="shop", partitions=0)


@pytest.mark.parametrize("start", [Registry.start, Registry.start_link])
def test_name_that_is_taken(me, unique, start):
    """A second registry of the name is not started, whatever its keys. REG-26."""
    Registry.register("shop", "k")
    with pytest.raises(AlreadyStarted) as error:
        start(name="shop", keys="duplicate")
    assert error.value.ref is unique
    assert Registry.lookup("shop", "k") == [(me.ref, None)]


def test_child_spec(me):
    """In a tree a registry is found by its name, and counts as a supervisor, as the original.
    REG-29."""
    assert Registry.child_spec(name="shop") == {
        "id": "shop",
        "start": (Registry, "start_link", [], {"name": "shop"}),
        "type": "supervisor",
    }
    sup = Supervisor.start_link([Registry.child_spec(name="rooms", keys="duplicate")])
    (info,) = Supervisor.which_children(sup)
    assert (info.id, info.child, info.type) == ("rooms", process.whereis("rooms"), "supervisor")
    assert Supervisor.get_childspec(sup, "rooms")["shutdown"] == "infinity"
    Registry.register("rooms", "lobby")
    Registry.register("rooms", "lobby")
    assert Registry.count("rooms") == 2


def test_tools_for_trees_find_no_children_in_it(unique):
    """Whoever walks a tree asks what is typed a supervisor for its children."""
    assert Supervisor.which_children("shop") == []
    assert Supervisor.count_children("shop") == {
        "specs": 0, "active": 0, "supervisors": 0, "workers": 0,
    }  # fmt: skip


def test_odd_messages_do_not_end_it(unique, log_events):
    """A registry takes everybody along when it ends: a stray message must not be why."""
    with pytest.raises(CallExit) as error:
        call(unique, "odd")
    assert error.value.reason == ("unknown_request", "odd")
    cast(unique, "odd")
    process.send(unique, "odd")
    process.exit(unique, "shutdown")
    process.exit(unique, "boom")
    assert Supervisor.which_children("shop") == []
    assert [event["event"] for event in log_events] == ["unexpected_message"] * 3


def test_registry_ends_with_its_parent(unique):
    """A registry is its starter's, and leaves no table behind."""
    parent = Doer.start()
    ref = do(parent, lambda: Registry.start_link(name="rooms", keys="duplicate"))
    holder = keeper("rooms", ("lobby", 1))
    stop(parent)
    assert exit_of(ref) in ("normal", "noproc")
    assert exit_of(holder) in ("shutdown", "noproc")
    assert holder._inbox.reason == "shutdown"
    with pytest.raises(NoProcess):
        Registry.count("rooms")


def test_what_operators_see(me, unique, duplicate):
    """A registry says what kind it is and how many entries it has."""
    Registry.register("rooms", "lobby")
    assert system_call(unique, lambda s: s.status(), WAIT) == {"keys": "unique", "entries": 0}
    assert system_call(duplicate, lambda s: s.status(), WAIT) == {"keys": "duplicate", "entries": 1}


# ---- the table


def test_table_keeps_nothing_of_the_dead(me):
    """A table is as small as what it holds: no key of a dead process stays. REG-28."""
    for unique in (True, False):
        table = NameTable("table", unique)
        refs = [Doer.start() for _ in range(3)]
        for n, ref in enumerate(refs):
            table.register(("key", n), ref._inbox)
        if not unique:
            table.register(("key", 0), refs[1]._inbox)
        for ref in refs:
            process.exit(ref, "kill")
        assert table.all() == []
        assert table._places == {}


def test_examples(log_events):
    """What the docstrings show is what happens."""
    results = doctest.testmod(registry, report=False)
    assert results.failed == 0
    assert results.attempted > 0
