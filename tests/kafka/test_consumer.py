"""Consumer: what is read, from where, and how it is shared out."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import confluent_kafka
import pytest
from confluent_kafka import TopicPartition

from elsa_actors import Agent, DynamicSupervisor, Supervisor, debug, process
from elsa_actors.kafka import Consumer, EmbeddedKafka, KafkaError, Random, process_manager
from elsa_actors.kafka import connection as connections
from elsa_actors.kafka import consumer as consumer_module
from elsa_actors.kafka.consumer import Handled, Subscribe
from elsa_actors.kafka.worker import GO_ON
from elsa_actors.otp.gen_server import cast, system_call
from tests.kafka.trees import Collector, consumer, new_name, stays, tree, wait_until
from tests.servers import Gate


def feed(shop: Any, topic: str, partition: int = 0) -> dict[str, Any]:
    """How a partition's worker is fed now: its line in the Consumer's status."""
    details = debug.get_status(shop.kafka_consumer())["details"]
    nothing = {"waiting": 0, "bytes": 0, "held": 0, "paused": False}  # Its worker is on the way.
    return dict(details.get(f"{topic}[{partition}]", nothing))


# ---- how much


def test_a_worker_never_has_more_than_prefetch_count_waiting(embedded, new_topic):
    """The rest waits in the Consumer and at the broker, is paused and resumed, and none is lost."""
    topic = new_topic(embedded)
    gate = Gate()

    def answer(handler: Any, messages: list[Any]) -> str:
        if messages[0].offset == 0:
            gate()
        return "ack"

    seen = Collector(answer=answer)
    options = consumer(topic, seen, prefetch_count=10)
    with tree(embedded, producer={"topic": topic}, consumer=options) as shop:
        shop.produce(topic, [str(i) for i in range(3000)])
        gate.reached()
        wait_until(lambda: feed(shop, topic)["paused"])
        assert feed(shop, topic)["waiting"] == 10
        assert stays(lambda: feed(shop, topic)["waiting"] == 10, 0.2)
        gate.open()
        values = seen.wait_for(3000, 40.0)
        assert values == [str(i).encode() for i in range(3000)]
        assert max(seen.batches) <= 10
        wait_until(lambda: not feed(shop, topic)["paused"])
        shop.produce(topic, "after the resume")
        assert seen.wait_for(3001)[-1] == b"after the resume"


def test_a_worker_that_is_done_is_given_more_at_once(embedded, new_topic):
    """Not when the Consumer comes back from librdkafka, a tenth of a second for each message."""
    topic = new_topic(embedded)
    gate = Gate()

    def answer(handler: Any, messages: list[Any]) -> str:
        if messages[0].offset == 0:
            gate()
        return "ack"

    seen = Collector(answer=answer)
    options = consumer(topic, seen, prefetch_count=1)
    with tree(embedded, producer={"topic": topic}, consumer=options) as shop:
        shop.produce(topic, [str(i) for i in range(200)])
        gate.reached()
        wait_until(lambda: feed(shop, topic)["held"] > 0)
        start = time.monotonic()
        gate.open()
        assert seen.wait_for(200, 30.0) == [str(i).encode() for i in range(200)]
        assert time.monotonic() - start < 12.0


@pytest.mark.parametrize(
    "messages", [[b"x" * 400] * 20, [(b"k" * 400, None)] * 20, [(b"k" * 200, b"x" * 200)] * 20]
)
def test_keys_and_values_count_for_prefetch_bytes(embedded, new_topic, messages):
    """A batch is never larger, unless one message is."""
    topic = new_topic(embedded)
    seen = Collector()
    with tree(embedded, producer={"topic": topic}) as shop:
        shop.produce(topic, messages)
    options = consumer(topic, seen, prefetch_bytes=1000)
    with tree(embedded, consumer=options):
        seen.wait_for(20)
        assert max(seen.batches) <= 2
    alone = Collector()
    with tree(embedded, consumer=consumer(topic, alone, prefetch_bytes=100)):
        alone.wait_for(20)
        assert max(alone.batches) == 1


def test_a_worker_never_has_more_than_prefetch_bytes_waiting(embedded, new_topic):
    """Large messages are counted by their size; one that is larger than the limit comes alone."""
    topic = new_topic(embedded)
    gate = Gate()

    def answer(handler: Any, messages: list[Any]) -> str:
        if messages[0].offset == 0:
            gate()
        return "ack"

    seen = Collector(answer=answer)
    options = consumer(topic, seen, prefetch_bytes=1000)
    with tree(embedded, producer={"topic": topic}, consumer=options) as shop:
        shop.produce(topic, ["x" * 300] * 30 + ["y" * 3000, "z"])
        gate.reached()
        wait_until(lambda: feed(shop, topic)["paused"])
        assert feed(shop, topic)["bytes"] < 1000 + 300
        gate.open()
        seen.wait_for(32)
        assert [len(value) for value in seen.values()] == [300] * 30 + [3000, 1]
        assert seen.offsets() == list(range(32))


def test_a_small_message_does_not_overtake_a_large_one_that_is_held_back(embedded, new_topic):
    """There would be room for it; but the worker would be done with an offset it never saw."""
    topic = new_topic(embedded)
    gate = Gate()
    seen = Collector(answer=lambda handler, messages: gate() or "ack")
    options = consumer(topic, seen, prefetch_bytes=1000)
    with tree(embedded, producer={"topic": topic}, consumer=options) as shop:
        shop.produce(topic, "a" * 600)
        gate.reached()
        shop.produce(topic, "b" * 600)
        wait_until(lambda: feed(shop, topic)["held"] == 1)
        shop.produce(topic, "c")
        wait_until(lambda: sum(feed(shop, topic)[k] for k in ("held", "waiting")) == 3)
        assert feed(shop, topic)["held"] == 2
        gate.open()
        seen.wait_for(3)
        assert seen.offsets() == [0, 1, 2]


@pytest.mark.parametrize("wrong", [{"number": 0}, {"worker": None}, {"partition": 7}])
def test_what_another_than_the_worker_has_handled_makes_no_room(embedded, new_topic, wrong):
    """It was given to one before, or before a reset: the worker has its messages still."""
    topic = new_topic(embedded)
    gate = Gate()
    seen = Collector(answer=lambda handler, messages: gate() or "ack")
    options = consumer(topic, seen, prefetch_count=1)
    with tree(embedded, producer={"topic": topic}, consumer=options) as shop:
        shop.produce(topic, ["a", "b", "c"])
        gate.reached()
        wait_until(lambda: feed(shop, topic)["held"] == 2)
        before, reader = feed(shop, topic), shop.kafka_consumer()
        number = system_call(reader, lambda server: server.feeds[topic, 0].number, 5.0)
        done = Handled(topic, 0, shop.worker(topic), number, 1, 1)
        cast(reader, replace(done, **wrong))
        assert feed(shop, topic) == before
        assert shop.kafka_consumer() is reader
        gate.open()
        assert seen.wait_for(3) == [b"a", b"b", b"c"]


def test_a_worker_that_is_done_all_the_time_holds_up_no_other(embedded, new_topic):
    """What is held back for it is many small steps; librdkafka is looked at in between."""
    topic = new_topic(embedded, 2)

    def answer(handler: Any, messages: list[Any]) -> str:
        if handler.partition == 0:
            process.sleep(0.004)
        return "ack"

    seen = Collector(answer=answer)
    options = consumer(topic, seen, prefetch_count=1)
    with tree(embedded, producer={"topic": topic}, consumer=options) as shop:
        shop.produce(topic, [str(i) for i in range(1500)], partition=0)
        wait_until(lambda: feed(shop, topic)["held"] > 1000)
        shop.produce(topic, "quick", partition=1)
        wait_until(lambda: seen.values(1), what="the other partition's message handled")
        assert len(seen.values(0)) < 1400


def test_a_paused_partition_holds_up_no_other(embedded, new_topic):
    """One slow partition, full to the brim, leaves the others their speed."""
    topic = new_topic(embedded, 2)
    gate = Gate()

    def answer(handler: Any, messages: list[Any]) -> str:
        if handler.partition == 0:
            gate()
        return "ack"

    seen = Collector(answer=answer)
    options = consumer(topic, seen, prefetch_count=10)
    with tree(embedded, producer={"topic": topic}, consumer=options) as shop:
        shop.produce(topic, [str(i) for i in range(3000)], partition=0)
        gate.reached()
        wait_until(lambda: feed(shop, topic)["paused"])
        for i in range(20):
            shop.produce(topic, str(i), partition=1)
        wait_until(lambda: len(seen.values(1)) == 20)
        assert not seen.values(0)
        gate.open()
        wait_until(lambda: len(seen.values(0)) == 3000, 30.0)
        assert seen.offsets(0) == list(range(3000))


def test_a_worker_that_dies_while_its_partition_is_paused_is_replaced_by_one_that_reads_on(
    embedded, new_topic
):
    """The pause and what was held belong to the dead one, and no new client is needed to end it."""
    topic = new_topic(embedded)
    gate = Gate()
    blocking = [True]

    def answer(handler: Any, messages: list[Any]) -> str:
        if blocking:
            blocking.clear()
            gate()
        return "ack"

    seen = Collector(answer=answer)
    options = consumer(topic, seen, prefetch_count=10)
    with tree(embedded, producer={"topic": topic}, consumer=options) as shop:
        shop.produce(topic, [str(i) for i in range(3000)])
        gate.reached()
        wait_until(lambda: feed(shop, topic)["paused"])
        reader = shop.kafka_consumer()
        process.exit(shop.worker(topic), "kill")
        wait_until(lambda: len(seen.offsets()) >= 3000, 30.0)
        assert seen.offsets() == list(range(3000))
        assert shop.kafka_consumer() is reader  # Another one is what a stalled partition gets.
        gate.open()


# ---- from where


@pytest.mark.parametrize(
    ("begin", "expected"), [("earliest", [0, 1, 2, 3, 4]), (3, [3, 4]), (0, [0, 1, 2, 3, 4])]
)
def test_begin_offset_is_where_a_consumer_starts(embedded, new_topic, begin, expected):
    """The earliest message there is, or the one with this number."""
    topic = new_topic(embedded)
    seen = Collector()
    with tree(embedded, producer={"topic": topic}) as shop:
        shop.produce(topic, [str(i) for i in range(5)])
    with tree(embedded, consumer=consumer(topic, seen, begin_offset=begin)):
        seen.wait_for(len(expected))
        assert seen.offsets() == expected


def test_latest_reads_what_is_written_from_the_start_on(embedded, new_topic):
    """What was there before is not read."""
    topic = new_topic(embedded)
    seen = Collector()
    with tree(
        embedded,
        producer={"topic": topic},
        consumer=consumer(topic, seen, begin_offset="latest"),
    ) as shop:
        wait_until(lambda: seen.started)
        wait_until(lambda: connections.find(shop.connection).positions.get(topic, 0) == 0)
        shop.produce(topic, ["a", "b"])
        assert seen.wait_for(2) == [b"a", b"b"]
    late = Collector()
    with tree(
        embedded,
        producer={"topic": topic},
        consumer=consumer(topic, late, begin_offset="latest"),
    ) as shop:
        wait_until(lambda: connections.find(shop.connection).positions.get(topic, 0) == 2)
        shop.produce(topic, "c")
        assert late.wait_for(1) == [b"c"]


def test_latest_is_resolved_once(embedded, new_topic):
    """A worker that is killed before its first ack skips nothing that was written meanwhile."""
    topic = new_topic(embedded)
    seen = Collector(answer="no_ack")
    with tree(
        embedded,
        producer={"topic": topic},
        consumer=consumer(topic, seen, begin_offset="latest"),
    ) as shop:
        wait_until(lambda: connections.find(shop.connection).positions.get(topic, 0) == 0)
        shop.produce(topic, ["a", "b"])
        seen.wait_for(2)
        shop.kill(shop.worker(topic))
        shop.produce(topic, "c")
        seen.wait_for(5)
        assert seen.offsets() == [0, 1, 0, 1, 2]


def test_a_late_request_of_a_dead_worker_takes_nothing_from_its_successor(embedded, new_topic):
    """What a dead worker asked for, and is tried again, is not heard any more."""
    topic = new_topic(embedded)
    seen = Collector()
    with tree(embedded, producer={"topic": topic}, consumer=consumer(topic, seen)) as shop:
        shop.produce(topic, "a")
        seen.wait_for(1)
        dead = shop.kill(shop.worker(topic))
        shop.another(lambda: shop.worker(topic), dead)
        shop.produce(topic, "b")
        seen.wait_for(2)
        cast(shop.kafka_consumer(), Subscribe(topic, 0, "latest", dead, 1))
        shop.produce(topic, "c")
        assert seen.wait_for(3) == [b"a", b"b", b"c"]


def test_latest_waits_for_a_broker_and_then_resolves():
    """Without a broker nobody knows where the end is; it is asked again, and nothing is skipped."""
    with EmbeddedKafka(topics={"orders": 1}) as kafka:
        seen = Collector()
        with tree(kafka, producer={"topic": "orders"}) as shop:
            shop.produce("orders", ["a", "b"])
        kafka.stop()
        with tree(
            kafka,
            ready=False,
            producer={"topic": "orders"},
            consumer=consumer("orders", seen, begin_offset="latest"),
        ) as shop:
            positions = connections.find(shop.connection).positions
            assert stays(lambda: positions.get("orders", 0) is None)
            kafka.start()
            wait_until(lambda: positions.get("orders", 0) == 2)
            shop.produce("orders", "c")
            assert seen.wait_for(1) == [b"c"]


@pytest.mark.parametrize(
    ("policy", "expected"), [("reset_to_earliest", [0, 1, 2]), ("reset_to_latest", [2])]
)
def test_an_offset_that_does_not_exist_is_reset_by_the_policy(
    embedded, new_topic, log_events, policy, expected
):
    """The log says where it was, and by which policy it goes on."""
    topic = new_topic(embedded)
    seen = Collector()
    with tree(embedded, producer={"topic": topic}) as shop:
        shop.produce(topic, ["a", "b"])
    options = consumer(topic, seen, begin_offset=100, offset_reset_policy=policy)
    with tree(embedded, producer={"topic": topic}, consumer=options) as shop:
        [event] = wait_until(lambda: [e for e in log_events if e["event"] == "offset_reset"])
        assert (event["policy"], event["topic"], event["partition"], event["offset"]) == (
            policy,
            topic,
            0,
            100,
        )
        if policy == "reset_to_latest":
            wait_until(lambda: connections.find(shop.connection).positions.get(topic, 0) == 2)
        shop.produce(topic, "c")
        seen.wait_for(len(expected))
        assert seen.offsets() == expected


def test_after_a_reset_a_crash_before_the_first_ack_loses_nothing(embedded, new_topic):
    """The policy decided once where to go on; begin_offset is not asked again."""
    topic = new_topic(embedded)
    crashes = iter([True])

    def crash_once(handler: Any, messages: Any) -> str:
        if next(crashes, False):
            raise ValueError("once")
        return "ack"

    seen = Collector(answer=crash_once)
    with tree(embedded, producer={"topic": topic}) as shop:
        shop.produce(topic, ["a", "b"])
    options = consumer(topic, seen, begin_offset="latest")
    with tree(embedded, producer={"topic": topic}, consumer=options) as shop:
        positions = connections.find(shop.connection).positions
        wait_until(lambda: positions.get(topic, 0) == 2)
        embedded.delete_topic(topic)
        embedded.create_topic(topic, 1)
        # Fewer than before, so that the position is past the end.
        shop.produce(topic, "c")
        assert seen.wait_for(1) == [b"c"]


def test_the_policy_stop_ends_the_worker_again_and_again(embedded, new_topic, log_events):
    """Nothing is read until somebody sees to it; the waits grow, and the tree stands."""
    topic = new_topic(embedded)
    seen = Collector()
    options = consumer(topic, seen, begin_offset=100, offset_reset_policy="stop")
    with tree(embedded, producer={"topic": topic}, consumer=options) as shop:
        shop.produce(topic, ["a", "b"])
        wait_until(lambda: len(seen.ended) >= 2)
        assert seen.ended[0] == (0, ("offset_out_of_range", 100))
        assert not seen.messages
        assert process.is_alive(shop.ref)


# ---- deaths and brokers


def test_a_consumer_that_is_killed_loses_and_repeats_nothing_that_was_acked(embedded, new_topic):
    """The next one reads on where the handlers are."""
    topic = new_topic(embedded, 2)
    seen = Collector()
    with tree(embedded, producer={"topic": topic}, consumer=consumer(topic, seen)) as shop:
        shop.produce(topic, [(str(i), str(i)) for i in range(100)])
        seen.wait_for(100)
        shop.kill(shop.kafka_consumer())
        shop.produce(topic, [(str(i), str(i)) for i in range(100, 200)])
        seen.wait_for(200)
        assert stays(lambda: len(seen.messages) == 200, 0.2)
        assert sorted(map(int, seen.values())) == list(range(200))


def test_reading_goes_on_when_the_broker_is_back(log_events):
    """The tree stays up and quiet; one event says that the brokers are gone, one that they are
    back."""
    with EmbeddedKafka(topics={"orders": 1}) as kafka:
        seen = Collector()
        with tree(kafka, producer={"topic": "orders"}, consumer=consumer("orders", seen)) as shop:
            shop.produce("orders", "a")
            seen.wait_for(1)
            before = [shop.kafka_consumer(), shop.client(), shop.worker("orders")]
            kafka.stop()
            wait_until(lambda: any(e["event"] == "kafka_unreachable" for e in log_events))
            time.sleep(1.0)
            kafka.start()
            shop.produce("orders", "b", timeout=30.0)
            assert seen.wait_for(2) == [b"a", b"b"]
            assert [shop.kafka_consumer(), shop.client(), shop.worker("orders")] == before
            wait_until(lambda: any(e["event"] == "kafka_reachable" for e in log_events))
            names = [e["event"] for e in log_events]
            assert names.count("kafka_unreachable") == 1
            assert "child_terminated" not in names


def test_a_tree_that_starts_without_a_broker_reads_when_there_is_one():
    """It starts at once, and waits for what it needs."""
    with EmbeddedKafka(topics={"orders": 1}) as kafka:
        kafka.stop()
        seen = Collector()
        start = time.monotonic()
        with tree(
            kafka,
            ready=False,
            producer={"topic": "orders"},
            consumer=consumer("orders", seen),
            connection=new_name(),
        ) as shop:
            assert time.monotonic() - start < 1.0
            done = threading.Thread(
                target=lambda: shop.produce("orders", "a", timeout=30.0), daemon=True
            )
            done.start()
            time.sleep(0.3)
            kafka.start()
            assert seen.wait_for(1, 30.0) == [b"a"]
            done.join(10.0)


def test_a_request_that_nobody_knows_ends_it(embedded, new_topic):
    """It is a mistake in the program, and the tree starts it again."""
    topic = new_topic(embedded)
    seen = Collector()
    with tree(embedded, producer={"topic": topic}, consumer=consumer(topic, seen)) as shop:
        old = wait_until(shop.kafka_consumer)
        cast(old, "nonsense")
        shop.another(shop.kafka_consumer, old)
        shop.produce(topic, "a")
        assert seen.wait_for(1) == [b"a"]


# ---- when librdkafka reads on no more


def hinder(shop: Any, topic: str, partition: int = 0) -> None:
    """Have librdkafka give nothing of a partition, and the Consumer know nothing of it."""

    def pause(server: Any) -> None:
        server.driver.pause([TopicPartition(topic, partition)])

    system_call(shop.kafka_consumer(), pause, 5.0)


def test_a_partition_that_stands_still_is_begun_anew_and_then_the_client(
    embedded, new_topic, log_events, monkeypatch
):
    """After a broker had hung librdkafka was seen to read nothing; the handler reads on."""
    monkeypatch.setattr(consumer_module, "STALL_SECONDS", 0.2)
    topic = new_topic(embedded, 2)
    seen = Collector()
    with tree(embedded, producer={"topic": topic}, consumer=consumer(topic, seen)) as shop:
        shop.produce(topic, ["a"], partition=0)
        shop.produce(topic, ["b"], partition=1)
        seen.wait_for(2)
        before = shop.kafka_consumer()
        hinder(shop, topic)
        shop.produce(topic, ["c"], partition=0)
        # A pause outlives the new assignment, so that only a new client helps here.
        seen.wait_for(3)
        assert seen.offsets(0) == [0, 1]
        stalled = [event for event in log_events if event["event"] == "partition_stalled"]
        assert [(event["topic"], event["partition"]) for event in stalled] == [(topic, 0)]
        assert shop.kafka_consumer() is not before
        assert before._inbox.reason == ("stalled", topic, 0)


def test_a_partition_that_was_begun_anew_reads_on_without_a_new_client(
    embedded, new_topic, log_events, monkeypatch
):
    """What helps is enough: the other partitions keep their client."""
    monkeypatch.setattr(consumer_module, "STALL_SECONDS", 0.2)
    topic = new_topic(embedded)
    seen = Collector()
    with tree(embedded, producer={"topic": topic}, consumer=consumer(topic, seen)) as shop:
        shop.produce(topic, ["a"])
        seen.wait_for(1)
        before = shop.kafka_consumer()

        def unassign(server: Any) -> None:
            server.driver.pause([TopicPartition(topic, 0)])
            begin = server._begin_anew

            def begin_anew(*args: Any) -> None:
                server.driver.resume([TopicPartition(topic, 0)])
                begin(*args)

            server._begin_anew = begin_anew

        system_call(before, unassign, 5.0)
        shop.produce(topic, ["b", "c"])
        seen.wait_for(3)
        assert seen.offsets() == [0, 1, 2]
        assert shop.kafka_consumer() is before
        assert len([e for e in log_events if e["event"] == "partition_stalled"]) == 1


def test_an_idle_partition_is_no_stalled_one(embedded, new_topic, log_events, monkeypatch):
    """Nothing comes because there is nothing: at the end, in an empty partition, and held back."""
    monkeypatch.setattr(consumer_module, "STALL_SECONDS", 0.05)
    topic = new_topic(embedded, 3)
    gate = Gate()
    seen = Collector(answer=lambda handler, messages: gate() or "ack")
    options = consumer(topic, seen, prefetch_count=1)
    with tree(embedded, producer={"topic": topic}, consumer=options) as shop:
        shop.produce(topic, ["a", "b", "c"], partition=1)
        gate.reached()
        before = shop.kafka_consumer()
        assert stays(lambda: shop.kafka_consumer() is before, 1.0)
        gate.open()
        seen.wait_for(3)
        assert stays(lambda: shop.kafka_consumer() is before, 0.5)
        assert not [e for e in log_events if e["event"] == "partition_stalled"]


def test_an_open_transaction_is_no_stall(apache, new_topic, log_events, monkeypatch):
    """What is not committed cannot be read yet, and the marks of transactions never."""
    monkeypatch.setattr(consumer_module, "STALL_SECONDS", 0.1)
    topic = new_topic(apache)
    seen = Collector()
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": apache.endpoints, "transactional.id": topic, "log_level": 0}
    )
    producer.init_transactions(30)
    with tree(apache, consumer=consumer(topic, seen)) as shop:
        producer.begin_transaction()
        producer.produce(topic, b"a")
        producer.commit_transaction(30)
        seen.wait_for(1)
        before = shop.kafka_consumer()
        producer.begin_transaction()
        producer.produce(topic, b"dropped")
        assert producer.flush(30) == 0
        assert stays(lambda: shop.kafka_consumer() is before, 1.0)
        producer.abort_transaction(30)
        assert stays(lambda: shop.kafka_consumer() is before, 0.5)
        producer.begin_transaction()
        producer.produce(topic, b"b")
        producer.commit_transaction(30)
        assert seen.wait_for(2) == [b"a", b"b"]
        assert shop.kafka_consumer() is before
        assert not [event for event in log_events if event["event"] == "partition_stalled"]
    producer.close()


# ---- what was found by attacking it


def test_a_partition_that_is_begun_anew_before_it_was_read_begins_where_the_worker_is(
    log_events, monkeypatch
):
    """librdkafka has no position yet; the beginning of the topic is none of ours."""
    monkeypatch.setattr(consumer_module, "STALL_SECONDS", 0.3)
    with EmbeddedKafka(topics={"orders": 1}) as kafka:
        seen = Collector()
        options = consumer("orders", seen)
        with tree(kafka, producer={"topic": "orders"}, consumer=options) as shop:
            shop.produce("orders", [str(i) for i in range(20)])
            seen.wait_for(20)
            wait_until(lambda: connections.find(shop.connection).positions.get("orders", 0) == 20)
            kafka.push_errors("Fetch", *["NOT_LEADER_FOR_PARTITION"] * 500)
            shop.kill(shop.worker("orders"))
            shop.produce("orders", "new")
            wait_until(lambda: [e for e in log_events if e["event"] == "partition_stalled"])
            kafka.clear_errors("Fetch")
            seen.wait_for(21)
            assert stays(lambda: seen.offsets() == list(range(21)))


def test_a_handler_may_do_what_it_likes_with_its_list(embedded, new_topic):
    """What it was given is acknowledged, and it is given more."""
    topic = new_topic(embedded)

    def empty(handler: Any, messages: list[Any]) -> str:
        messages.clear()
        return "ack"

    seen = Collector(answer=empty)
    options = consumer(topic, seen, prefetch_count=5)
    with tree(embedded, producer={"topic": topic}, consumer=options) as shop:
        shop.produce(topic, [str(i) for i in range(50)])
        wait_until(lambda: connections.find(shop.connection).positions.get(topic, 0) == 50)
        assert feed(shop, topic)["waiting"] == 0


def test_a_consumer_that_an_operator_restarts_is_asked_again(embedded, new_topic):
    """The workers have lived on, and nobody else knows what they want to read."""
    topic = new_topic(embedded, 2)
    seen = Collector()
    options = consumer(topic, seen)
    with tree(embedded, producer={"topic": topic}, consumer=options) as shop:
        shop.produce(topic, ["a", "b"], partition=0)
        seen.wait_for(2)
        worker = shop.worker(topic)
        group = shop.child("consumer")
        Supervisor.terminate_child(group, "consumer")
        shop.produce(topic, "c", partition=0)
        Supervisor.restart_child(group, "consumer")
        seen.wait_for(3)
        shop.produce(topic, "d", partition=1)
        seen.wait_for(4)
        assert seen.offsets(0) == [0, 1, 2]
        assert shop.worker(topic) is worker


def test_workers_that_an_operator_restarts_read_on_at_once(embedded, new_topic, monkeypatch):
    """Nobody crashed: there is no reason to wait as after crashes."""
    tries: list[Any] = []
    start_child = DynamicSupervisor.start_child

    def counted(*args: Any) -> Any:
        tries.append(args)
        return start_child(*args)

    topic = new_topic(embedded)
    seen = Collector()
    options = consumer(topic, seen)
    with tree(embedded, producer={"topic": topic}, consumer=options) as shop:
        shop.produce(topic, "a")
        seen.wait_for(1)
        group = shop.child("consumer")
        Supervisor.terminate_child(group, "workers")
        monkeypatch.setattr(process_manager, "LOOK_AGAIN_SECONDS", 0.05)
        monkeypatch.setattr(DynamicSupervisor, "start_child", counted)
        wait_until(lambda: len(tries) >= 10)  # With waits that grow the tenth comes in a minute.
        Supervisor.restart_child(group, "workers")
        shop.produce(topic, "b")
        seen.wait_for(2, 5.0)


def test_a_worker_that_is_to_end_works_off_no_queue(embedded, new_topic):
    """The running call may end; then comes terminate, and the rest is another's."""
    topic = new_topic(embedded)
    gate = Gate()

    def answer(handler: Any, messages: list[Any]) -> str:
        gate()
        return "ack"

    seen = Collector(answer=answer)
    options = consumer(topic, seen)
    with tree(embedded, producer={"topic": topic}, consumer=options) as shop:
        for number in range(5):
            shop.produce(topic, str(number))
        gate.reached()
        wait_until(lambda: feed(shop, topic)["waiting"] == 5)
        first = shop.worker(topic)
        process.exit(first, "shutdown")
        gate.open()
        wait_until(lambda: seen.ended)
        assert seen.ended == [(0, "shutdown")]
        assert len(seen.batches) == 1
        seen.wait_for(5)
        assert seen.offsets() == [0, 1, 2, 3, 4]


def test_an_offset_that_is_gone_is_told_after_what_was_read_before_it():
    """Else what is held would be taken for messages of the new beginning."""
    with EmbeddedKafka(topics={"orders": 1}) as kafka:
        gate = Gate()

        def answer(handler: Any, messages: list[Any]) -> str:
            gate()
            return "ack"

        seen = Collector(answer=answer)
        options = consumer("orders", seen, prefetch_count=3)
        with tree(kafka, producer={"topic": "orders"}, consumer=options) as shop:
            shop.produce("orders", [str(i) for i in range(9)])
            gate.reached()
            wait_until(lambda: feed(shop, "orders")["held"] >= 1)
            wait_until(lambda: sum(feed(shop, "orders")[k] for k in ("held", "waiting")) == 9)
            kafka.push_errors("Fetch", "OFFSET_OUT_OF_RANGE")
            wait_until(
                lambda: system_call(
                    shop.kafka_consumer(), lambda server: server.feeds["orders", 0].fault, 5.0
                )
            )
            gate.open()
            seen.wait_for(18)
            shop.produce("orders", "new")
            assert seen.wait_for(19)[-1] == b"new"
            wait_until(lambda: feed(shop, "orders")["waiting"] == 0)
            assert seen.offsets() == [*range(9), *range(10)]
            assert not seen.ended


def test_brokers_that_hang_hold_up_no_partition_of_others():
    """Whoever asks them for an offset does so ever more rarely, and reads in between."""
    with EmbeddedKafka(brokers=2, topics={"orders": 4}) as kafka:
        for partition in range(4):
            kafka.set_leader("orders", partition, 0 if partition == 3 else 1)
        seen = Collector()
        with tree(kafka, producer={"topic": "orders"}) as producing:
            producing.produce("orders", "first", partition=3)
            kafka.freeze(1)
            options = consumer("orders", seen, begin_offset="latest")
            with tree(kafka, consumer=options) as shop:
                positions = connections.find(shop.connection).positions
                wait_until(lambda: positions.get("orders", 3) == 1, 30.0)
                producing.produce("orders", "second", partition=3)
                seen.wait_for(1, 10.0)
            kafka.thaw(1)


@pytest.mark.parametrize("offset", ["0", None, 1.5, True, -1])
def test_an_ack_of_what_is_no_offset_is_refused_in_its_caller(embedded, new_topic, offset):
    """The worker is not to die of it."""
    topic = new_topic(embedded)
    with tree(embedded, consumer=consumer(topic, Collector())) as shop:
        with pytest.raises(KafkaError) as caught:
            Consumer.ack(shop.connection, topic, 0, None, offset)
        assert caught.value.reason == ("bad_offset", offset)


def test_a_helper_of_the_handlers_that_ends_normally_ends_nobody(embedded, new_topic):
    """Linked processes share their ends, but for a normal one."""
    topic = new_topic(embedded)

    def help_once(handler: Any, messages: list[Any]) -> str:
        helper = Agent.start_link(dict)
        Agent.stop(helper)
        return "ack"

    seen = Collector(answer=help_once)
    with tree(embedded, producer={"topic": topic}, consumer=consumer(topic, seen)) as shop:
        shop.produce(topic, "a")
        seen.wait_for(1)
        worker = shop.worker(topic)
        shop.produce(topic, "b")
        seen.wait_for(2)
        assert stays(lambda: shop.worker(topic) is worker)
        assert not seen.ended


def test_a_request_that_waits_for_its_offset_does_not_replace_a_newer_one():
    """The worker would take what comes of it for out of date, and the partition stand still."""
    with EmbeddedKafka(topics={"orders": 1}) as kafka:
        seen = Collector()
        kafka.push_errors("ListOffsets", "TOPIC_AUTHORIZATION_FAILED")
        options = consumer("orders", seen, begin_offset="latest")
        with tree(kafka, producer={"topic": "orders"}, consumer=options) as shop:
            worker = wait_until(lambda: shop.worker("orders"))
            first = shop.kafka_consumer()
            # The Consumer has refused once, and will be asked again; the worker asks by itself.
            process.send(worker, GO_ON)
            positions = connections.find(shop.connection).positions
            wait_until(lambda: positions.get("orders", 0) == 0)
            assert stays(lambda: shop.kafka_consumer() is first, 1.0)
            shop.produce("orders", ["a", "b"])
            assert seen.wait_for(2) == [b"a", b"b"]
            wait_until(lambda: feed(shop, "orders")["waiting"] == 0)


def test_where_partitions_end_is_asked_in_few_requests(embedded, new_topic, monkeypatch):
    """Each request may wait behind a fetch that waits for messages; nothing is read meanwhile."""
    asked: list[int] = []

    class Asking(consumer_module.DriverConsumer):
        def offsets_for_times(self, partitions: list[Any], *options: Any) -> Any:
            asked.append(len(partitions))
            return super().offsets_for_times(partitions, *options)

        def get_watermark_offsets(self, *_: Any, **__: Any) -> Any:
            raise AssertionError("one by one")

    monkeypatch.setattr(consumer_module, "DriverConsumer", Asking)
    monkeypatch.setattr(consumer_module, "GATHER_SECONDS", 1.0)
    monkeypatch.setattr(consumer_module, "STALL_SECONDS", 0.05)
    topic = new_topic(embedded, 30)
    seen = Collector()
    with tree(
        embedded,
        producer={"topic": topic},
        consumer=consumer(topic, seen, begin_offset="latest"),
    ) as shop:
        positions = connections.find(shop.connection).positions
        wait_until(lambda: len(positions.all()) == 30)
        assert len(asked) <= 3
        shop.produce(topic, ["a"] * 60, partitioner=Random)
        seen.wait_for(60)
        del asked[:]
        wait_until(lambda: asked)
        assert asked[0] == 30
