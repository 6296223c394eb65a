"""Names: one holder each, freed by its death, keys that are equal only if they are the same."""

from __future__ import annotations

import pickle
import threading
from collections import namedtuple

import pykka
import pytest

from elsa_actors import (
    AlreadyStarted,
    NameTaken,
    NoProcess,
    ProcessExit,
    Reply,
    call,
    cast,
    process,
    send_request,
    stop,
)
from elsa_actors.runtime.names import Named, NameTable
from elsa_actors.runtime.process import Process
from tests.servers import WAIT, Doer, Gate, Journal


class Door(Named):
    """A name that something else keeps."""

    ref = None

    def whereis(self):
        return self.ref

    def register(self, ref):
        self.ref = ref

    def unregister(self, ref):
        self.ref = None


@pytest.fixture
def table():
    return NameTable("a table of the test's own")


def inbox_of(ref):
    return ref._inbox


# ---- register and unregister


def test_registered_process_is_found_and_addressed_by_its_name():
    """A name is for those who do not know the ref. NAME-15."""
    server = Doer.start()
    assert process.register("clerk", server) is None
    assert process.whereis("clerk") is server
    assert process.registered()["clerk"] is server
    assert process.info(server)["registered_name"] == "clerk"
    assert call("clerk", lambda server: Reply("at your service")) == "at your service"


def test_taken_name_is_refused_and_nothing_changes():
    """A name that passed silently would send letters to a stranger. NAME-10."""
    holder, other = Doer.start(name="taken"), Doer.start()
    with pytest.raises(NameTaken, match="'taken'") as raised:
        process.register("taken", other)
    assert raised.value.reason == ("already_registered", holder)
    assert raised.value.ref is holder
    assert isinstance(raised.value, ValueError)
    assert process.whereis("taken") is holder
    assert process.info(other)["registered_name"] is None


def test_process_has_one_local_name():
    """The name that logs show must be the one that works; a second is refused, be it another or the
    same again. NAME-10.
    """
    server = Doer.start(name="first name")
    for name in ("second name", "first name"):
        with pytest.raises(NameTaken, match="'first name'") as raised:
            process.register(name, server)
        assert raised.value.reason == ("already_registered", server)
    assert process.whereis("second name") is None
    assert process.registered() == {"first name": server}
    process.unregister("first name")
    process.register("second name", server)
    assert process.registered() == {"second name": server}


def test_dead_process_gets_no_name():
    """Nobody would ever answer, and nothing would free it. NAME-10."""
    dead = Doer.start()
    stop(dead)
    with pytest.raises(NoProcess) as raised:
        process.register("late", dead)
    assert raised.value.reason == "noproc"
    assert process.whereis("late") is None
    assert "late" not in process.registered()


def test_dead_process_with_a_leftover_gets_no_name():
    """Dead is dead, even while its code still runs. NAME-10."""
    server, gate = Doer.start(), Gate()
    cast(server, lambda server: gate())
    gate.reached()
    process.exit(server, "kill")
    with pytest.raises(NoProcess):
        process.register("late", server)
    gate.open()


@pytest.mark.parametrize("name", [7, None, b"bytes", ("a", "tuple"), ""])
def test_name_is_a_string(name):
    """Other terms are keys of a Registry; the empty name is a mistake. NAME-11."""
    server = Doer.start()
    with pytest.raises(TypeError, match="name"):
        process.register(name, server)
    with pytest.raises(TypeError, match="name"):
        process.unregister(name)
    assert process.registered() == {}


def test_unregister_frees_the_name_and_leaves_the_process():
    """A name is not a life. NAME-12."""
    server = Doer.start(name="laid down")
    assert process.unregister("laid down") is None
    assert process.whereis("laid down") is None
    assert call(server, lambda server: Reply("alive")) == "alive"
    successor = Doer.start(name="laid down")
    stop(server)
    assert process.whereis("laid down") is successor


@pytest.mark.parametrize("error", [NoProcess, LookupError])
def test_unregister_of_an_unknown_name_fails(error):
    """Whoever took it away already, this caller is mistaken. NAME-12."""
    with pytest.raises(error, match="'never heard of'"):
        process.unregister("never heard of")


def test_no_name_means_none():
    """name=None is for those who pass an option on. NAME-13."""
    assert process.info(Doer.start(name=None))["registered_name"] is None
    assert process.info(Doer.start_link(name=None))["registered_name"] is None
    assert process.registered() == {}


def test_whereis_finds_names_and_knows_refs():
    """One question for everything that may stand for a process. NAME-15."""
    server, door = Doer.start(name="known"), Door()
    assert process.whereis("known") is server
    assert process.whereis(server) is server
    assert process.whereis("unknown") is None
    assert process.whereis(door) is None
    door.register(server)
    assert process.whereis(door) is server
    stop(server)
    assert process.whereis("known") is None
    assert process.whereis(server) is None
    assert process.whereis(door) is None


@pytest.mark.parametrize("wrong", [7, None, ("a", "b"), object()])
def test_whereis_of_what_is_no_name_is_refused(wrong):
    """A mistake that found nobody would pass for an answer. NAME-15."""
    with pytest.raises(TypeError, match="a ref, a name or a Via"):
        process.whereis(wrong)


def test_plain_pykka_actor_gets_no_name():
    """It cannot be watched, so its name would outlive it; Wrapper makes a process of it."""

    class Plain(pykka.ThreadingActor):
        pass

    plain = Plain.start()
    try:
        with pytest.raises(TypeError, match="Wrapper"):
            process.register("plain", plain)
        with pytest.raises(TypeError, match="Wrapper"):
            process.whereis(plain)
    finally:
        plain.stop()


def test_any_process_may_register_another():
    """Names are the program's, not the process's."""
    one, other = Doer.start(), Doer.start()
    call(one, lambda server: process.register("named by another", other))
    assert process.whereis("named by another") is other
    call(one, lambda server: process.unregister("named by another"))
    assert process.whereis("named by another") is None


def test_plain_process_has_a_name_too():
    """Every process can be registered, and its death frees the name. NAME-06."""

    class Plain(Process):
        pass

    plain = Plain.start()
    process.register("plain process", plain)
    process.exit(plain, "kill")
    assert process.registered() == {}


def test_kill_frees_the_name_at_once():
    """A successor may start in the very next line. NAME-06, NAME-05."""
    for _ in range(100):
        server = Doer.start(name="in line")
        process.exit(server, "kill")
        assert process.whereis("in line") is None
    assert process.registered() == {}


# ---- competition


def test_one_of_many_that_register_at_once_wins():
    """However close it was, the name has one holder, and the others hear whom. NAME-10."""
    for _ in range(50):
        servers = [Doer.start() for _ in range(4)]
        line, winners, losers = threading.Barrier(4), [], []

        def compete(server, line=line, winners=winners, losers=losers):
            line.wait(WAIT)
            try:
                process.register("wanted", server)
                winners.append(server)
            except NameTaken as taken:
                losers.append(taken.ref)

        threads = [threading.Thread(target=compete, args=(server,)) for server in servers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
        assert len(winners) == 1
        assert losers == winners * 3
        process.unregister("wanted")


def test_one_of_many_names_given_at_once_to_a_process_wins():
    """The other way round: two names do not slip in beside each other. NAME-10."""
    for _ in range(50):
        server = Doer.start()
        line, outcomes = threading.Barrier(4), []

        def compete(name, server=server, line=line, outcomes=outcomes):
            line.wait(WAIT)
            try:
                process.register(name, server)
                outcomes.append(name)
            except NameTaken:
                outcomes.append(None)

        threads = [threading.Thread(target=compete, args=(f"name {n}",)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
        (name,) = [outcome for outcome in outcomes if outcome is not None]
        assert process.registered() == {name: server}
        process.exit(server, "kill")
        assert process.registered() == {}


def test_name_of_a_process_that_is_registered_while_it_dies_is_free_in_the_end():
    """No name stays with the dead, whichever was first. NAME-10."""
    for _ in range(200):
        server = Doer.start()
        killer = threading.Thread(target=process.exit, args=(server, "kill"))
        killer.start()
        try:
            process.register("last minute", server)
        except NoProcess:
            pass
        killer.join(WAIT)
        assert process.whereis("last minute") is None
        assert process.registered() == {}
        process.register("last minute", successor := Doer.start())
        process.exit(successor, "kill")


def test_starts_under_one_name_at_once_give_one_server():
    """The losers get its ref, and it serves them. NAME-02."""
    for _ in range(30):
        line, refs = threading.Barrier(3), []

        def compete(line=line, refs=refs):
            line.wait(WAIT)
            try:
                refs.append(Doer.start(name="the only one"))
            except AlreadyStarted as error:
                refs.append(error.ref)

        threads = [threading.Thread(target=compete) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
        assert refs == [process.whereis("the only one")] * 3
        assert len(process.list()) == 1
        assert call("the only one", lambda server: Reply("served")) == "served"
        process.exit(refs[0], "kill")


def test_failed_start_leaves_no_process_behind():
    """Who found the name taken has started nothing. NAME-02, NAME-03."""
    holder = Doer.start(name="held")
    with process.attach() as me:
        for start in (Doer.start, Doer.start_link):
            with pytest.raises(AlreadyStarted) as raised:
                start(name="held")
            assert raised.value.reason == ("already_started", holder)
        assert process.info(me.ref)["links"] == []
    assert process.list() == [holder]


# ---- names lent from elsewhere


class Reading(Named):
    """A name whose keeper does something at the moment of registration."""

    def __init__(self, act):
        self.act = act

    def whereis(self):
        return None

    def register(self, ref):
        self.act(ref)

    def unregister(self, ref):
        pass


def test_mail_to_a_name_that_is_just_given_waits_for_init():
    """A client that knows the name writes whenever it likes: init comes first all the same.

    NAME-01.
    """
    journal, gate = Journal(), Gate()

    def init(server):
        server.journal("init")
        return

    asked = []

    def write_at_once(ref):
        process.send(ref, "early")
        asked.append(send_request(ref, lambda server: (server.journal("call"), Reply(1))[1]))
        # Long enough for anybody who would run it to run it.
        bystander = Doer.start()
        call(bystander, lambda server: None)
        gate.open()

    server = Doer.start(init, journal, name=Reading(write_at_once))
    assert asked[0].receive(WAIT) == 1
    assert journal.events == ["init", ("info", "early"), "call"]
    assert process.is_alive(server)


def test_process_killed_by_its_name_before_init_fails_its_start():
    """Whoever knows the name may kill its holder, however young: its starter waits no longer.

    NAME-04.
    """
    kill = Reading(lambda ref: process.exit(ref, "kill"))
    outcome = Journal()

    def start():
        try:
            Doer.start(name=kill)
        except Exception as error:
            outcome(type(error).__name__, error.reason)

    thread = threading.Thread(target=start, daemon=True)
    thread.start()
    outcome.wait_for("StartError", "killed")
    thread.join(WAIT)
    assert process.list() == []


def test_starter_killed_while_it_takes_a_name_leaves_no_name_behind():
    """A name that nobody alive holds must be free: else no successor ever starts. NAME-04."""
    for moment in range(300):
        starter = Doer.start()
        started = threading.Event()

        def start_named(server, started=started):
            started.set()
            Doer.start_link(name="half taken")

        cast(starter, start_named)
        started.wait(WAIT)
        process.exit(starter, "kill")
        holder = process.whereis("half taken")
        if holder is not None:
            # Started in time, or the kill is on its way to it: it dies with its parent.
            gone = threading.Event()
            for _ in range(int(WAIT / 0.01)):
                if not process.is_alive(holder):
                    break
                gone.wait(0.01)
        assert process.whereis("half taken") is None, moment
    assert process.registered() == {}


# ---- NameTable


Point = namedtuple("Point", "x y")

LOOKALIKES = [
    [1, 1.0, True],
    [0, 0.0, False],
    [(1, "a"), (1.0, "a"), (True, "a")],
    [(("deep", 1),), (("deep", True),), (("deep", 1.0),)],
    [frozenset([1]), frozenset([True]), frozenset([1.0])],
    [("set", frozenset([(1,)])), ("set", frozenset([(True,)]))],
    [Point(1, 2), Point(True, 2), (1, 2)],
    ["a", b"a"],
    [(), frozenset()],
]


@pytest.mark.parametrize("keys", LOOKALIKES, ids=repr)
def test_keys_compare_with_their_types(table, keys):
    """What Python takes for equal are different keys in OTP, inside tuples too. REG-18."""
    servers = [Doer.start() for _ in keys]
    for key, server in zip(keys, servers, strict=True):
        table.register(key, inbox_of(server))
    assert [table.find(key) for key in keys] == [inbox_of(server) for server in servers]
    assert table.unregister(keys[0], inbox_of(servers[0])) == 1
    assert table.find(keys[0]) is None
    assert [table.find(key) for key in keys[1:]] == [inbox_of(server) for server in servers[1:]]


@pytest.mark.parametrize("key", [1, 1.0, "a", (1, ("b", True)), Point(1, 2), frozenset([1, "a"])])
def test_equal_keys_of_equal_types_are_one(table, key):
    """Strict does not mean by identity: a key that was built anew finds its holder. REG-18."""
    server = Doer.start()
    table.register(key, inbox_of(server))
    again = pickle.loads(pickle.dumps(key))
    assert table.find(again) is inbox_of(server)
    with pytest.raises(NameTaken):
        table.register(again, inbox_of(Doer.start()))


@pytest.mark.parametrize("key", [[1], {"a": 1}, ("a", [1])])
def test_key_that_cannot_be_one_is_refused(table, key):
    """A key that changes under the table could never be found again."""
    server = Doer.start()
    with pytest.raises(TypeError, match="hash"):
        table.register(key, inbox_of(server))
    with pytest.raises(TypeError, match="hash"):
        table.find(key)
    assert table.all() == []


def test_key_keeps_its_form(table):
    """What was registered is what is listed."""
    server = Doer.start()
    key = (1, (True, Point(1.0, "a")))
    table.register(key, inbox_of(server), "value")
    (entry,) = table.all()
    assert entry.key is key
    assert (entry.inbox, entry.value) == (inbox_of(server), "value")


def test_only_the_holder_gives_a_key_back(table):
    """A name is only ever removed by, or for, its own holder."""
    holder, other = Doer.start(), Doer.start()
    table.register("k", inbox_of(holder))
    assert table.unregister("k", inbox_of(other)) == 0
    assert table.find("k") is inbox_of(holder)
    assert table.unregister("k", inbox_of(holder)) == 1
    assert table.unregister("k", inbox_of(holder)) == 0


def test_death_frees_all_keys_of_the_dead_and_no_other(table):
    """What a process held goes with it, in every table. NAME-06."""
    second = NameTable("another")
    holder, other = Doer.start(name="and a local one"), Doer.start()
    for key in range(5):
        table.register(("mine", key), inbox_of(holder))
    second.register("mine", inbox_of(holder))
    table.register("other", inbox_of(other))
    process.exit(holder, "kill")
    assert [entry.key for entry in table.all()] == ["other"]
    assert second.all() == []
    assert process.registered() == {}


def test_dead_holder_counts_as_none_before_it_was_removed(table):
    """A death reaches one table after the other; nobody should meet the dead meanwhile, and what
    is freed late is not the successor's. NAME-06.
    """
    holder, other = Doer.start(), Doer.start()
    table.register("k", inbox_of(holder))
    killer = threading.Thread(target=process.exit, args=(holder, "kill"))
    with table.lock:  # The death cannot free the key before we let it.
        killer.start()
        pause = threading.Event()
        for _ in range(int(WAIT / 0.01)):
            if not process.is_alive(holder):
                break
            pause.wait(0.01)
        assert table.find("k") is None
        assert table.entries("k") == []
        assert table.all() == []
        successor = table.register("k", inbox_of(other))
    killer.join(WAIT)
    assert table.entries("k") == [successor]
    assert table.find("k") is inbox_of(other)


def test_dead_process_holds_no_key(table):
    """A key of the dead would never be freed."""
    dead = Doer.start()
    stop(dead)
    with pytest.raises(ProcessExit):
        table.register("k", inbox_of(dead))
    assert table.all() == []


def test_duplicate_table_keeps_all_holders(table):
    """Topics have many listeners: each is told, the oldest first, the dead are not."""
    table = NameTable("listeners", unique=False)
    servers = [Doer.start() for _ in range(3)]
    for server in servers:
        table.register("topic", inbox_of(server), server)
    table.register("topic", inbox_of(servers[0]), "twice")
    assert [entry.value for entry in table.entries("topic")] == [*servers, "twice"]
    assert table.find("topic") is inbox_of(servers[0])
    process.exit(servers[0], "kill")
    assert [entry.value for entry in table.entries("topic")] == servers[1:]
    assert table.unregister("topic", inbox_of(servers[1])) == 1
    assert table.find("topic") is inbox_of(servers[2])
