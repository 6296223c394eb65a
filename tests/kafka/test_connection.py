"""The record of a connection, and who may have its names."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from elsa_actors import AlreadyStarted, GenServer, Ok, Registry, StartError, Supervisor, process
from elsa_actors.kafka import ElsaSupervisor, KafkaError
from elsa_actors.kafka import connection as connections
from elsa_actors.kafka.connection import Connection, Positions, Topics
from tests.kafka.trees import SOON, new_name, tree, wait_until
from tests.servers import Gate


def test_positions_are_kept_until_they_are_forgotten():
    """A partition without one has None."""
    positions = Positions()
    assert positions.get("orders", 0) is None
    positions.put("orders", 0, 5)
    positions.put("orders", 1, 7)
    assert positions.all() == {("orders", 0): 5, ("orders", 1): 7}
    positions.forget("orders", 0)
    positions.forget("orders", 0)
    assert positions.all() == {("orders", 1): 7}


def test_topics_know_what_is_produced_to_and_how_many_partitions_it_has():
    """None is not known yet; what nobody produces to stays out."""
    topics = Topics()
    assert topics.add("orders")
    assert not topics.add("orders", 3)
    assert topics.partitions("orders") is None
    topics.put("orders", 4)
    topics.put("others", 4)
    assert topics.all() == {"orders": 4}
    assert "others" not in topics


def test_a_connection_shows_no_configuration():
    """There may be passwords in it."""
    record = Connection("shop", "localhost:9092", {"sasl.password": "tea"})
    assert "tea" not in repr(record)


def test_a_connection_is_found_while_its_tree_runs(embedded):
    """Before and after, it is unknown, and the error lists what runs."""
    with tree(embedded) as shop:
        assert connections.find(shop.connection).name == shop.connection
        with pytest.raises(KafkaError, match=shop.connection):
            connections.find("nosuchshop")
    with pytest.raises(KafkaError):
        connections.find(shop.connection)


def test_a_second_tree_does_not_take_the_record_of_the_first(embedded):
    """The one that runs keeps it, whatever becomes of the other."""
    with tree(embedded) as shop:
        record = connections.find(shop.connection)
        with pytest.raises(StartError):
            ElsaSupervisor.start_link(endpoints=embedded.endpoints, connection=shop.connection)
        assert connections.find(shop.connection) is record


class Keyed(GenServer):
    """Takes a key of a connection's registry; ends when its gate is open."""

    trap_exit = True

    def init(self, connection: str, gate: Any, patience: float) -> Ok:
        self.gate = gate
        connections.take_key(connection, "key", patience)
        return Ok()

    def terminate(self, reason: Any) -> None:
        self.gate()


def start(supervisor: Any, connection: str, gate: Gate, patience: float = SOON) -> Any:
    return Supervisor.start_child(
        supervisor,
        {
            "id": "keyed",
            "start": (Keyed, "start_link", [connection, gate, patience]),
            "restart": "temporary",
        },
    )


def test_a_key_is_refused_while_its_holder_has_a_supervisor(me):
    """It is well, and nobody waits for its end."""
    connection = new_name()
    Registry.start_link(name=connections.registry_of(connection), keys="unique")
    gate = Gate()
    gate.open()
    one, two = Supervisor.start_link([]), Supervisor.start_link([])
    holder = start(one, connection, gate)
    with pytest.raises(StartError):
        start(two, connection, gate)
    assert connections.holder(connection, "key") is holder


def test_a_key_is_waited_for_when_its_holder_has_lost_its_supervisor(me):
    """The successor starts when the orphan has ended, and not before."""
    process.trap_exit(True)
    connection = new_name()
    Registry.start_link(name=connections.registry_of(connection), keys="unique")
    gate, open_gate = Gate(), Gate()
    open_gate.open()
    one, two = Supervisor.start_link([]), Supervisor.start_link([])
    holder = start(one, connection, gate)
    process.exit(one, "kill")
    gate.reached()
    started: list[Any] = []
    thread = threading.Thread(target=lambda: started.append(start(two, connection, open_gate)))
    thread.start()
    thread.join(0.2)
    assert not started
    gate.open()
    thread.join(SOON)
    assert process.is_alive(started[0])
    assert not process.is_alive(holder)


def test_an_orphan_that_does_not_end_is_waited_for_so_long_and_no_longer(me):
    """Then the start fails as if the holder were well."""
    connection = new_name()
    Registry.start_link(name=connections.registry_of(connection), keys="unique")
    gate = Gate()
    one, two = Supervisor.start_link([]), Supervisor.start_link([])
    start(one, connection, gate)
    process.exit(one, "kill")
    gate.reached()
    with pytest.raises(StartError):
        start(two, connection, gate, 0.1)
    gate.open()
    wait_until(lambda: connections.holder(connection, "key") is None)


def test_outlive_says_who_is_still_there(me):
    """A holder whose supervisor lives is no orphan."""
    connection = new_name()
    Registry.start_link(name=connections.registry_of(connection), keys="unique")
    gate = Gate()
    gate.open()
    holder = start(Supervisor.start_link([]), connection, gate)
    with pytest.raises(AlreadyStarted):
        connections.outlive(holder, 0.1)
    process.exit(holder, "kill")
    wait_until(lambda: not process.is_alive(holder))
    connections.outlive(holder, 0.1)
