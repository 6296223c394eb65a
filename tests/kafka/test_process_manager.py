"""ProcessManager: a process for every partition, and never two."""

from __future__ import annotations

from typing import Any

import pytest

from elsa_actors import Supervisor, debug, process
from elsa_actors.kafka import EmbeddedKafka, ProduceError, client, process_manager, produce
from elsa_actors.kafka import connection as connections
from tests.kafka.trees import Collector, consumer, stays, tree, wait_until
from tests.servers import Gate


def alive(name: str) -> int:
    """How many processes of a class there are."""
    return sum(f"for {name} " in repr(ref) for ref in process.list())


def test_a_manager_that_is_killed_leaves_its_producers_to_the_next(embedded, new_topic):
    """They are adopted: the same processes, none twice, and watched as before."""
    topic = new_topic(embedded, 3)
    with tree(embedded, producer={"topic": topic}) as shop:
        before = [shop.producer(topic, partition) for partition in range(3)]
        for _ in range(2):
            shop.kill(shop.child("producer_manager"))
            wait_until(lambda: shop.child("producer_manager"))
            shop.produce(topic, [("k", "a"), ("l", "b")])
        assert [shop.producer(topic, partition) for partition in range(3)] == before
        assert alive("Producer") == 3
        shop.kill(before[1])
        new = shop.another(lambda: shop.producer(topic, 1), before[1])
        shop.produce(topic, "c", partition=1)
        assert [shop.producer(topic, 0), shop.producer(topic, 2)] == [before[0], before[2]]
        assert process.is_alive(new)
        wait_until(lambda: alive("Producer") == 3)


def test_a_manager_of_workers_that_is_killed_doubles_no_worker(embedded, new_topic):
    """One worker reads a partition, whoever started it."""
    topic = new_topic(embedded, 2)
    seen = Collector()
    with tree(embedded, producer={"topic": topic}, consumer=consumer(topic, seen)) as shop:
        shop.produce(topic, [("a", "a"), ("b", "b")])
        seen.wait_for(2)
        [manager] = [
            child.child
            for child in Supervisor.which_children(shop.child("consumer"))
            if child.id == "manager"
        ]
        shop.kill(manager)
        shop.produce(topic, [(str(i), str(i)) for i in range(50)])
        seen.wait_for(52)
        assert stays(lambda: len(seen.messages) == 52, 0.3)
        wait_until(lambda: alive("Worker") == 2)


def test_the_death_of_all_producers_at_once_does_not_end_the_tree(embedded, new_topic):
    """A fault of many partitions is many deaths in one window; they are temporary, and come
    back."""
    topic = new_topic(embedded, 8)
    with tree(embedded, producer={"topic": topic}) as shop:
        before = [shop.producer(topic, partition) for partition in range(8)]
        for ref in before:
            process.exit(ref, "kill")
        wait_until(
            lambda: all(
                (ref := shop.producer(topic, partition)) is not None and ref not in before
                for partition in range(8)
            )
        )
        assert process.is_alive(shop.ref)
        shop.produce(topic, [(str(i), "x") for i in range(50)])


def test_a_topic_that_comes_later_gets_its_producers_and_workers():
    """It is looked for every second while it is missing."""
    with EmbeddedKafka() as kafka:
        seen = Collector()
        with tree(
            kafka, ready=False, producer={"topic": "late"}, consumer=consumer("late", seen)
        ) as shop:
            with pytest.raises(ProduceError, match="late"):
                shop.produce("late", "a", timeout=5.0)
            kafka.create_topic("late", 2)
            wait_until(lambda: shop.producer("late", 1))
            shop.produce("late", "a")
            assert seen.wait_for(1) == [b"a"]


def test_a_topic_that_is_missed_once_is_not_deleted(log_events):
    """One answer without it may come from a broker that has only just started."""
    with EmbeddedKafka(topics={"orders": 1}) as kafka:
        seen = Collector()
        with tree(
            kafka,
            producer={"topic": "orders", "poll": 0.2},
            consumer=consumer("orders", seen, poll=0.2),
        ) as shop:
            shop.produce("orders", "a")
            seen.wait_for(1)
            before = (shop.producer("orders"), shop.worker("orders"))
            kafka.push_errors("Metadata", "UNKNOWN_TOPIC_OR_PART")
            assert stays(lambda: (shop.producer("orders"), shop.worker("orders")) == before, 1.5)
            assert not [e for e in log_events if e["event"] == "topic_missing"]


def test_a_deleted_topic_ends_its_processes_and_made_again_begins_anew():
    """Its positions are forgotten: the new topic is read from begin_offset."""
    with EmbeddedKafka(topics={"orders": 2, "others": 1}) as kafka:
        seen = Collector()
        with tree(
            kafka,
            # The producer is another topic's: one that writes to a deleted topic makes it again.
            producer={"topic": "others"},
            consumer=consumer("orders", seen, poll=0.2),
        ) as shop:
            produce(kafka.endpoints, "orders", ["a", "b", "c"], partition=0)
            seen.wait_for(3)
            positions = connections.find(shop.connection).positions
            wait_until(lambda: positions.get("orders", 0) == 3)
            kafka.delete_topic("orders")
            wait_until(lambda: shop.worker("orders") is None and shop.worker("orders", 1) is None)
            wait_until(lambda: positions.get("orders", 0) is None)
            kafka.create_topic("orders", 3)
            wait_until(lambda: shop.worker("orders", 2))
            produce(kafka.endpoints, "orders", ["d"], partition=0)
            produce(kafka.endpoints, "orders", ["e"], partition=2)
            seen.wait_for(5)
            assert sorted(seen.values()[3:]) == [b"d", b"e"]


def test_a_worker_of_a_deleted_topic_that_does_not_end_in_time_is_killed(monkeypatch):
    """Its handler blocks; the topic of the same name that comes after it is to be read."""
    monkeypatch.setattr(process_manager, "LOOK_AGAIN_SECONDS", 0.1)
    monkeypatch.setattr(process_manager, "LEAVING_SECONDS", 0.1)
    with EmbeddedKafka(topics={"orders": 1, "others": 1}) as kafka:
        gate = Gate()
        seen = Collector(answer=lambda handler, messages: gate() or "ack")
        with tree(
            kafka,
            producer={"topic": "others"},
            consumer=consumer("orders", seen, poll=0.05),
        ) as shop:
            produce(kafka.endpoints, "orders", "a")
            gate.reached()
            worker = shop.worker("orders")
            kafka.delete_topic("orders")
            wait_until(lambda: not process.is_alive(worker), 10.0)  # The gate waits for longer.
            kafka.create_topic("orders", 1)
            shop.another(lambda: shop.worker("orders"), worker)
            gate.open()


def test_a_partition_that_is_not_there_yet_has_no_worker(embedded, new_topic):
    """partition= beyond the topic's end waits for it to come."""
    topic = new_topic(embedded, 2)
    seen = Collector()
    with tree(
        embedded, producer={"topic": topic}, consumer=consumer(topic, seen, partition=5)
    ) as shop:
        shop.produce(topic, "a")
        assert stays(lambda: not seen.started, 0.3)
        assert process.is_alive(shop.ref)


def test_the_status_counts_what_runs_and_what_waits(embedded, new_topic):
    """An operator sees at a glance whether every partition has its process."""
    topic = new_topic(embedded, 2)
    with tree(embedded, producer={"topic": topic}) as shop:
        details = debug.get_status(shop.child("producer_manager"))["details"]
        assert details == {"topics": {topic: 2}, "running": 2, "waiting": 0}


def test_a_topic_that_is_deleted_while_the_consumer_dies_is_forgotten_all_the_same():
    """Whoever looks next knows nothing of it but its positions: they are another topic's then."""
    with EmbeddedKafka(topics={"orders": 1}) as kafka:
        seen = Collector()
        with tree(kafka, producer={"topic": "orders"}) as shop:
            shop.produce("orders", ["a", "b"])
        with tree(kafka, consumer=consumer("orders", seen, poll=0.2)) as shop:
            seen.wait_for(2)
            positions = connections.find(shop.connection).positions
            wait_until(lambda: positions.get("orders", 0) == 2)
            kafka.delete_topic("orders")
            shop.kill(shop.kafka_consumer())
            wait_until(lambda: positions.all() == {}, 30.0)


def test_one_answer_with_fewer_partitions_takes_nothing_away(monkeypatch):
    """It may come from a broker that has not heard of the new ones yet."""
    with EmbeddedKafka(topics={"orders": 2}) as kafka:
        seen = Collector()
        told = client.topics
        answers = iter([{"orders": 1}])
        options = consumer("orders", seen, poll=0.1)
        with tree(kafka, producer={"topic": "orders"}, consumer=options) as shop:
            shop.produce("orders", ["a", "b"], partition=1)
            seen.wait_for(2)
            worker = shop.worker("orders", 1)
            asked: list[Any] = []

            def topics(connection: str, *args: Any) -> Any:
                asked.append(connection)
                return next(answers, None) or told(connection, *args)

            monkeypatch.setattr(client, "topics", topics)
            wait_until(lambda: len(asked) >= 3)
            assert shop.worker("orders", 1) is worker
            assert connections.find(shop.connection).positions.get("orders", 1) == 2
