"""produce: what arrives, and what the caller is told of what does not."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from functools import partial
from typing import Any

import pytest
from confluent_kafka import murmur2

from elsa_actors import GenServer, NoReply, Supervisor, Task, cast, debug, process
from elsa_actors.kafka import (
    ElsaSupervisor,
    EmbeddedKafka,
    First,
    KafkaError,
    Md5,
    Murmur2,
    ProduceError,
    Random,
    fetch,
)
from elsa_actors.kafka import client as clients
from elsa_actors.kafka import connection as connections
from elsa_actors.kafka import produce as kafka_produce
from elsa_actors.kafka.producer import DRAIN_SECONDS, Batch
from elsa_actors.runtime.clock import clock
from tests.kafka.trees import (
    SOON,
    Collector,
    consumer,
    librdkafka_threads,
    new_name,
    no_new_librdkafka_threads,
    settled_librdkafka_threads,
    tree,
    wait_until,
)
from tests.servers import Gate, in_thread


def failed(*args: Any, **options: Any) -> ProduceError:
    """The ProduceError of a produce that must fail."""
    with pytest.raises(ProduceError) as caught:
        kafka_produce(*args, **options)
    return caught.value


# ---- what arrives


def test_every_form_of_a_message_reaches_the_handler_as_it_was_given(embedded, new_topic):
    """Text becomes UTF-8, a key left out is None, repeated and null headers and times stay."""
    topic = new_topic(embedded)
    seen = Collector()
    with tree(embedded, producer={"topic": topic}, consumer=consumer(topic, seen)) as shop:
        headers = [("a", b"1"), ("a", "zwei"), ("n", None), ("e", b"")]
        shop.produce(
            topic,
            [
                b"bytes",
                "text: ä",
                ("key", "value"),
                (None, b"no key"),
                ("gone", None),
                ("", ""),
                {"value": "v", "key": b"k", "headers": headers, "timestamp": 1_700_000_000_123},
                {"value": None, "key": "k2", "headers": []},
            ],
        )
        seen.wait_for(8)
        assert [(m.key, m.value) for m in seen.messages] == [
            (None, b"bytes"),
            (None, "text: ä".encode()),
            (b"key", b"value"),
            (None, b"no key"),
            (b"gone", None),
            (b"", b""),
            (b"k", b"v"),
            (b"k2", None),
        ]
        full = seen.messages[6]
        assert list(full.headers) == [("a", b"1"), ("a", b"zwei"), ("n", None), ("e", b"")]
        assert full.timestamp == 1_700_000_000_123
        assert [m.offset for m in seen.messages] == list(range(8))
        assert {(m.topic, m.partition, m.generation_id) for m in seen.messages} == {
            (topic, 0, None)
        }


@pytest.mark.parametrize("messages", ["one", b"one", (None, "one"), {"value": "one"}, ["one"]])
def test_one_message_needs_no_list(embedded, new_topic, messages):
    """A lone message of any form is a list of one."""
    topic = new_topic(embedded)
    seen = Collector()
    with tree(embedded, producer={"topic": topic}, consumer=consumer(topic, seen)) as shop:
        shop.produce(topic, messages)
        assert seen.wait_for(1) == [b"one"]


def test_a_generator_is_read_once_and_an_empty_list_is_delivered_at_once(embedded, new_topic):
    """What cannot be read twice is not; nothing to send needs no broker."""
    topic = new_topic(embedded)
    seen = Collector()
    with tree(embedded, producer={"topic": topic}, consumer=consumer(topic, seen)) as shop:
        shop.produce(topic, (f"{i}" for i in range(5)))
        shop.produce(topic, [])
        assert seen.wait_for(5) == [b"0", b"1", b"2", b"3", b"4"]


def test_messages_of_one_partition_arrive_in_order(embedded, new_topic):
    """Batches of one call, and calls of one thread, keep their order."""
    topic = new_topic(embedded)
    seen = Collector()
    with tree(embedded, producer={"topic": topic}, consumer=consumer(topic, seen)) as shop:
        for start in range(0, 3000, 1500):
            shop.produce(topic, [str(i) for i in range(start, start + 1500)])
        assert seen.wait_for(3000) == [str(i).encode() for i in range(3000)]


def test_twenty_thousand_messages_reach_four_partitions_exactly_once(embedded, new_topic):
    """A quiet run neither loses nor repeats."""
    topic = new_topic(embedded, 4)
    seen = Collector()
    with tree(embedded, producer={"topic": topic}, consumer=consumer(topic, seen)) as shop:
        shop.produce(topic, [(str(i), str(i)) for i in range(20_000)])
        values = seen.wait_for(20_000, 30.0)
        assert sorted(map(int, values)) == list(range(20_000))
        for partition in range(4):
            mine = [int(value) for value in seen.values(partition)]
            assert mine
            assert mine == sorted(mine)


# ---- which partition


def test_partition_sends_everything_there(embedded, new_topic):
    """A key decides nothing when the caller names the partition."""
    topic = new_topic(embedded, 4)
    seen = Collector()
    with tree(embedded, producer={"topic": topic}, consumer=consumer(topic, seen)) as shop:
        shop.produce(topic, [(str(i), str(i)) for i in range(20)], partition=2)
        seen.wait_for(20)
        assert {m.partition for m in seen.messages} == {2}


class Last:
    """A partitioner of a user."""

    def partition(self, count: int, key: bytes | None) -> int:
        return count - 1


@pytest.mark.parametrize(
    ("partitioner", "expected"),
    [
        (First, lambda key: {0}),
        (Last(), lambda key: {3}),
        (Md5, lambda key: {sum(hashlib.md5(key).digest()) % 4}),
        (Random, lambda key: {0, 1, 2, 3}),
        (Murmur2, lambda key: {murmur2(key, 4)}),
    ],
)
def test_each_partitioner_decides_by_the_key(embedded, new_topic, partitioner, expected):
    """The partition that a message arrives in is the one that the partitioner says."""
    topic = new_topic(embedded, 4)
    seen = Collector()
    with tree(embedded, producer={"topic": topic}, consumer=consumer(topic, seen)) as shop:
        shop.produce(topic, [(key, key) for key in "abcd"], partitioner=partitioner)
        seen.wait_for(4)
        for m in seen.messages:
            assert m.partition in expected(m.key)


# ---- what is refused before anything is sent


def test_unknown_connection_fails_everything_and_names_it():
    """No tree of that name runs: the caller is told so at once."""
    error = failed("nosuchshop", "orders", ["a", "b"])
    assert (error.reason, error.sent, error.failed) == (
        ("unknown_connection", "nosuchshop"),
        0,
        ["a", "b"],
    )
    assert "nosuchshop" in str(error)


def test_a_topic_without_producers_is_unknown_to_its_connection(embedded, new_topic):
    """A tree produces to the topics it lists; another is an error, not a new topic."""
    topic = new_topic(embedded)
    with tree(embedded, producer={"topic": topic}) as shop:
        error = failed(shop.connection, "others", "a", timeout=5.0)
        assert (error.reason, error.sent, error.failed) == (("unknown_topic", "others"), 0, ["a"])


def test_a_listed_topic_that_the_brokers_lack_is_unknown(embedded):
    """It is looked for and not made."""
    with tree(embedded, ready=False, producer={"topic": "never-made"}) as shop:
        error = failed(shop.connection, "never-made", "a", timeout=10.0)
        assert error.reason == ("unknown_topic", "never-made")


def test_unknown_partition_fails_everything(embedded, new_topic):
    """The error says which partitions there are."""
    topic = new_topic(embedded, 2)
    with tree(embedded, producer={"topic": topic}) as shop:
        error = failed(shop.connection, topic, ["a", "b"], partition=2)
        assert error.reason == ("unknown_partition", topic, 2)
        assert (error.sent, error.failed) == (0, ["a", "b"])
        assert failed(shop.connection, topic, "a", partition="0").reason == ("bad_partition", "0")


def test_a_malformed_message_in_the_middle_sends_none_of_the_list(embedded, new_topic):
    """The list is checked before the first message leaves; the error names the wrong one."""
    topic = new_topic(embedded)
    seen = Collector()
    with tree(embedded, producer={"topic": topic}, consumer=consumer(topic, seen)) as shop:
        error = failed(shop.connection, topic, ["a", 7, "c"])
        assert (error.reason, error.sent, error.failed) == (("bad_message", 7), 0, ["a", 7, "c"])
        shop.produce(topic, "later")
        assert seen.wait_for(1) == [b"later"]


def test_wrong_arguments_raise_at_once(embedded):
    """They are a mistake in the program, and nothing is asked of a broker."""
    with pytest.raises((TypeError, ValueError)):
        kafka_produce("shop", "orders", "a", timeout=-1.0)
    with pytest.raises(ValueError, match="topic"):
        kafka_produce("shop", "not a topic", "a")
    error = failed("localhost:port", "orders", "a")
    assert (error.sent, error.failed) == (0, ["a"])


# ---- what brokers and librdkafka refuse


def test_a_message_above_message_max_bytes_fails_alone(embedded, new_topic):
    """What librdkafka will not take does not stop what stands around it."""
    topic = new_topic(embedded)
    seen = Collector()
    big = ("big", "x" * 5000)
    with tree(
        embedded,
        config={"message.max.bytes": 2000},
        producer={"topic": topic},
        consumer=consumer(topic, seen),
    ) as shop:
        error = failed(shop.connection, topic, ["a", big, "c"], timeout=10.0)
        assert (error.reason, error.sent, error.failed) == ("message_too_large", 2, [big])
        assert seen.wait_for(2) == [b"a", b"c"]


def test_a_batch_refused_as_too_large_is_sent_again_message_by_message():
    """One message that is too large for the broker takes the others of its batch along."""
    with EmbeddedKafka(topics={"orders": 1}) as kafka:
        seen = Collector()
        with tree(
            kafka,
            config={"linger.ms": 100},  # so that the three are one request
            producer={"topic": "orders"},
            consumer=consumer("orders", seen),
        ) as shop:
            # The batch, then the first of the single ones.
            kafka.push_errors("Produce", "MSG_SIZE_TOO_LARGE", "MSG_SIZE_TOO_LARGE")
            error = failed(shop.connection, "orders", ["a", "b", "c"], timeout=20.0)
            assert (error.reason, error.sent, error.failed) == ("message_too_large", 2, ["a"])
            assert seen.wait_for(2) == [b"b", b"c"]


def test_a_batch_that_fits_message_by_message_is_delivered():
    """The caller hears nothing of a batch that was refused and sent again."""
    with EmbeddedKafka(topics={"orders": 1}) as kafka:
        seen = Collector()
        with tree(
            kafka,
            config={"linger.ms": 100},
            producer={"topic": "orders"},
            consumer=consumer("orders", seen),
        ) as shop:
            kafka.push_errors("Produce", "MSG_SIZE_TOO_LARGE")
            shop.produce("orders", ["a", "b", "c"])
            assert seen.wait_for(3) == [b"a", b"b", b"c"]


def test_one_that_is_too_large_costs_few_requests():
    """The others are sent again in halves, not one by one: brokers may be far away."""
    with (
        EmbeddedKafka(topics={"orders": 1}) as kafka,
        tree(kafka, producer={"topic": "orders"}) as shop,
    ):
        shop.produce("orders", "first")
        kafka.set_latency(None, 0.05)
        kafka.push_errors("Produce", *["MSG_SIZE_TOO_LARGE"] * 3)
        shop.produce("orders", [b"%d" % number for number in range(500)], timeout=10.0)
        kafka.set_latency(None, 0.0)
        _, messages = fetch(kafka.endpoints, "orders")
        assert len(messages) == 501


def test_what_is_too_large_when_it_is_sent_again_fails_alone():
    """Doubtful messages are cut in halves as all others are."""
    with (
        EmbeddedKafka(topics={"orders": 1}) as kafka,
        tree(kafka, config={"linger.ms": 30}, producer={"topic": "orders"}) as shop,
    ):
        shop.produce("orders", "first")
        kafka.push_errors("Produce", "DUPLICATE_SEQUENCE_NUMBER", "MSG_SIZE_TOO_LARGE")
        shop.produce("orders", ["a", "b", "c", "d"], timeout=20.0)


def test_a_timeout_by_endpoints_is_a_timeout():
    """What closing the client does to what is under way is nobody's reason."""
    with EmbeddedKafka(topics={"orders": 1}) as kafka:
        kafka.set_leader("orders", 0, None)
        error = failed(kafka.endpoints, "orders", "a", timeout=0.5)
        assert (error.reason, error.sent, error.failed) == ("timeout", 0, ["a"])


def test_after_a_fatal_error_the_next_call_waits_for_the_next_client():
    """Only what was under way is lost with the producer that librdkafka has ended."""
    with (
        EmbeddedKafka(topics={"orders": 1}) as kafka,
        tree(kafka, producer={"topic": "orders"}) as shop,
    ):
        shop.produce("orders", "a")
        kafka.push_errors("Produce", "OUT_OF_ORDER_SEQUENCE_NUMBER")
        assert failed(shop.connection, "orders", "b", timeout=10.0).sent == 0
        for value in ("c", "d", "e"):
            shop.produce("orders", value)


def test_what_a_closed_client_did_not_take_goes_to_the_next_producer(monkeypatch):
    """A Producer that ends before it has heard of its Client's end loses nothing for it."""
    monkeypatch.setattr(clients, "POLL_SECONDS", 60.0)  # The Client does not look for itself.
    with (
        EmbeddedKafka(topics={"orders": 1}) as kafka,
        tree(kafka, producer={"topic": "orders"}) as shop,
    ):
        shop.produce("orders", "a")
        # As between the Client's last step and its Down.
        connections.find(shop.connection).shared.close()
        result: list[Any] = []
        thread = threading.Thread(target=lambda: result.append(shop.produce("orders", "b")))
        thread.start()
        producer, client = shop.producer("orders"), shop.client()
        wait_until(lambda: debug.get_status(producer)["details"]["under_way"] == 1)
        began = clock.now()
        process.exit(producer, "shutdown")
        shop.another(lambda: shop.producer("orders"), producer)
        assert clock.now() - began < DRAIN_SECONDS
        shop.kill(client)
        thread.join(SOON)
        assert result == [None]


def test_ctrl_c_on_the_main_thread_ends_the_wait_and_harms_nobody_else():
    """Python runs a signal's handler between any two steps of the main thread, those of a callback

    of librdkafka's too. So it polls for no delivery: those of others would be lost with it.
    """
    assert threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        with (
            EmbeddedKafka(topics={"orders": 2}) as kafka,
            tree(kafka, producer={"topic": "orders"}) as shop,
        ):
            shop.produce("orders", "first")
            kafka.set_latency(None, 0.1)
            for _ in range(3):
                other, outcome = in_thread(partial(shop.produce, "orders", "theirs", partition=0))
                with pytest.raises(KeyboardInterrupt):
                    signal.setitimer(signal.ITIMER_REAL, 0.05)
                    shop.produce("orders", "ours", partition=1)
                    process.sleep(1.0)  # It may have been quicker.
                other.join(SOON)
                assert outcome == [None]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_ctrl_c_while_the_main_thread_hands_over_writes_nothing_twice(monkeypatch):
    """The Producer's work is done on another thread, whatever strikes here."""
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    hand_over = Batch.hand_over

    def interrupted(batch: Batch, driver: Any, *args: Any) -> bool:
        signal.raise_signal(signal.SIGALRM)
        return hand_over(batch, driver, *args)

    try:
        with (
            EmbeddedKafka(topics={"orders": 1}) as kafka,
            tree(kafka, producer={"topic": "orders"}) as shop,
        ):
            shop.produce("orders", "first")
            monkeypatch.setattr(Batch, "hand_over", interrupted)
            with pytest.raises(KeyboardInterrupt):
                shop.produce("orders", ["a", "b", "c"])
            monkeypatch.undo()
            shop.produce("orders", "last")
            _, messages = fetch(kafka.endpoints, "orders")
            assert sorted(m.value for m in messages) == [b"a", b"b", b"c", b"first", b"last"]
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_callback_of_librdkafkas_that_produces_is_refused():
    """Deliveries are told when it has returned: it would wait for nothing, and all others too."""
    refused: list[Any] = []

    def statistics(text: str) -> None:
        try:
            kafka_produce(name, "orders", text, timeout=5.0)
        except ProduceError as error:
            refused.append(error)

    name = new_name()
    with (
        EmbeddedKafka(topics={"orders": 1}) as kafka,
        tree(
            kafka,
            connection=name,
            config={"statistics.interval.ms": 50, "stats_cb": statistics},
            producer={"topic": "orders"},
        ) as shop,
    ):
        wait_until(lambda: refused)
        assert (refused[0].reason, refused[0].sent) == ("in_callback", 0)
        assert "have a process do it" in str(refused[0])
        shop.produce("orders", "a", timeout=2.0)


@pytest.mark.parametrize("alone", [False, True], ids=["tree", "endpoints"])
def test_a_delivery_without_an_offset_is_none_and_is_sent_again(log_events, alone):
    """librdkafka takes "duplicate sequence number" for a delivery; after a topic was made again the

    number is another message's. Here the broker says so of a message that it never had.
    """
    with EmbeddedKafka(topics={"orders": 1}) as kafka:
        seen = Collector()
        with tree(kafka, producer={"topic": "orders"}, consumer=consumer("orders", seen)) as shop:
            shop.produce("orders", "first")
            kafka.push_errors("Produce", *["DUPLICATE_SEQUENCE_NUMBER"] * 2)
            where = kafka.endpoints if alone else shop.connection
            kafka_produce(where, "orders", ["a", "b"])
            assert sorted(seen.wait_for(3)) == [b"a", b"b", b"first"]
    [told] = [event for event in log_events if event["event"] == "delivery_doubtful"]
    assert (told["log_level"], told["topic"]) == ("warning", "orders")
    assert told["connection"] == where


def test_deliveries_that_stay_doubtful_have_failed_at_the_deadline(log_events):
    """Nothing is reported delivered that is not, and the call ends in time."""
    with (
        EmbeddedKafka(topics={"orders": 1}) as kafka,
        tree(kafka, producer={"topic": "orders"}) as shop,
    ):
        shop.produce("orders", "first")
        kafka.push_errors("Produce", *["DUPLICATE_SEQUENCE_NUMBER"] * 100)
        error = failed(shop.connection, "orders", ["a", "b"], timeout=0.5)
        assert (error.reason, error.sent, error.failed) == ("timeout", 0, ["a", "b"])
        kafka.clear_errors("Produce")
        assert len([event for event in log_events if event["event"] == "delivery_doubtful"]) == 1


def test_without_acknowledgements_no_offset_is_told_and_none_is_missed(log_events):
    """Who wants acks=0 trusts librdkafka's word: nothing is sent twice."""
    with EmbeddedKafka(topics={"orders": 1}) as kafka:
        seen = Collector()
        with tree(
            kafka,
            config={"acks": 0, "enable.idempotence": False},
            producer={"topic": "orders"},
            consumer=consumer("orders", seen),
        ) as shop:
            shop.produce("orders", ["a", "b"])
            shop.produce("orders", "c")
            assert seen.wait_for(3) == [b"a", b"b", b"c"]
    assert "delivery_doubtful" not in [event["event"] for event in log_events]


def test_an_error_of_a_broker_is_the_reason_of_the_first_that_failed():
    """What the broker says for good comes through with librdkafka's name for it."""
    with (
        EmbeddedKafka(topics={"orders": 1}) as kafka,
        tree(kafka, producer={"topic": "orders"}) as shop,
    ):
        kafka.push_errors("Produce", "INVALID_RECORD")
        error = failed(shop.connection, "orders", "a", timeout=10.0)
        assert error.reason == ("kafka", "INVALID_RECORD")
        assert "INVALID_RECORD" in str(error)


def test_what_can_be_tried_again_is_and_nobody_hears_of_it():
    """A leader that has moved is librdkafka's business."""
    with (
        EmbeddedKafka(topics={"orders": 1}) as kafka,
        tree(kafka, producer={"topic": "orders"}) as shop,
    ):
        kafka.push_errors("Produce", "NOT_LEADER_FOR_PARTITION", "_TRANSPORT")
        shop.produce("orders", ["a", "b"])


def test_timeout_with_the_broker_down_fails_everything_in_time():
    """Messages under way are told as failed when the time is over, and not much later."""
    with (
        EmbeddedKafka(topics={"orders": 2}) as kafka,
        tree(kafka, producer={"topic": "orders"}) as shop,
    ):
        kafka.stop()
        start = time.monotonic()
        error = failed(shop.connection, "orders", ["a", "b"], timeout=0.5)
        assert 0.4 < time.monotonic() - start < 5.0
        assert (error.reason, error.sent, error.failed) == ("timeout", 0, ["a", "b"])
        kafka.start()
        shop.produce("orders", "later", timeout=SOON)


def test_timeout_before_any_broker_ever_answered():
    """Nobody knows how many partitions there are: that takes no longer than the caller waits."""
    with EmbeddedKafka(topics={"orders": 1}) as kafka:
        kafka.stop()
        with tree(kafka, ready=False, producer={"topic": "orders"}) as shop:
            error = failed(shop.connection, "orders", "a", timeout=0.3)
            assert (error.reason, error.sent, error.failed) == ("timeout", 0, ["a"])
            kafka.start()
            shop.produce("orders", "a", timeout=30.0)


def test_a_full_queue_of_librdkafka_is_waited_for(embedded, new_topic):
    """BufferError is no error of a caller: the rest follows as room comes."""
    topic = new_topic(embedded, 2)
    seen = Collector()
    with tree(
        embedded,
        config={"queue.buffering.max.messages": 10},
        producer={"topic": topic},
        consumer=consumer(topic, seen),
    ) as shop:
        shop.produce(topic, [(str(i), str(i)) for i in range(1000)], timeout=30.0)
        assert sorted(map(int, seen.wait_for(1000))) == list(range(1000))


def test_many_threads_produce_over_one_connection(embedded, new_topic):
    """Each caller hears of its own messages, whoever polls librdkafka."""
    topic = new_topic(embedded, 2)
    seen = Collector()
    errors: list[Exception] = []
    with tree(embedded, producer={"topic": topic}, consumer=consumer(topic, seen)) as shop:

        def caller(number: int) -> None:
            try:
                for i in range(50):
                    shop.produce(topic, f"{number}-{i}")
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=caller, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SOON)
        assert not errors
        assert len(set(seen.wait_for(400))) == 400


# ---- without a tree


def test_endpoints_need_no_tree_and_leave_nothing_behind(embedded, new_topic):
    """A client is made for the call, and has ended when it returns."""
    topic = new_topic(embedded, 2)
    seen = Collector()
    with no_new_librdkafka_threads(0.5):
        kafka_produce(embedded.endpoints, topic, [(str(i), str(i)) for i in range(100)])
    with tree(embedded, consumer=consumer(topic, seen)):
        assert sorted(map(int, seen.wait_for(100))) == list(range(100))


def test_endpoints_with_an_unknown_topic_or_partition(embedded, new_topic):
    """They are the same errors as with a tree, and the client has ended too."""
    topic = new_topic(embedded)
    with no_new_librdkafka_threads(0.5):
        assert failed(embedded.endpoints, topic, "a", partition=1).reason == (
            "unknown_partition",
            topic,
            1,
        )
        error = failed(embedded.endpoints, "never-made-either", "a", timeout=5.0)
        assert error.reason == ("unknown_topic", "never-made-either")


def test_endpoints_where_nobody_answers_fail_in_time():
    """No broker is an error after the timeout, and no thread stays."""
    with EmbeddedKafka(topics={"orders": 1}) as kafka:
        kafka.stop()
        with no_new_librdkafka_threads(5.0):
            error = failed(kafka.endpoints, "orders", "a", timeout=0.5)
            assert (error.sent, error.failed) == (0, ["a"])
            assert error.reason in ("timeout", "no_broker")


def test_a_process_that_is_killed_while_it_produces_to_endpoints_leaks_no_client(me):
    """The client of its call ends with it."""
    with EmbeddedKafka(topics={"orders": 1}) as kafka:
        before = settled_librdkafka_threads()
        kafka.freeze()
        task = Task.start_link(partial(kafka_produce, kafka.endpoints, "orders", "a", timeout=30.0))
        wait_until(lambda: librdkafka_threads() > before)
        process.exit(task, "kill")
        wait_until(lambda: librdkafka_threads() <= before, what="its threads have ended")


def test_a_process_that_is_killed_while_it_produces_over_a_tree_hinders_nobody(me):
    """Others produce on, and the tree stops without a thread of librdkafka left."""
    with (
        EmbeddedKafka(topics={"orders": 1}) as kafka,
        no_new_librdkafka_threads(),
        tree(kafka, producer={"topic": "orders"}) as shop,
    ):
        kafka.freeze()
        tasks = [
            Task.start_link(partial(kafka_produce, shop.connection, "orders", "a", timeout=30.0))
            for _ in range(3)
        ]
        producer = shop.producer("orders")
        wait_until(lambda: debug.get_status(producer)["details"]["under_way"] == 3)
        for task in tasks:
            process.exit(task, "kill")
        wait_until(lambda: not any(map(process.is_alive, tasks)))
        kafka.thaw()
        shop.produce("orders", "b")


# ---- while the tree restarts something


def test_produce_waits_for_a_client_that_was_killed_just_before():
    """What no Producer had begun goes to the next one; the restart is not held up by it."""
    with EmbeddedKafka(topics={"orders": 2}) as kafka:
        seen = Collector()
        with tree(kafka, producer={"topic": "orders"}, consumer=consumer("orders", seen)) as shop:
            shop.produce("orders", "warm")
            shop.kill(shop.client())
            start = time.monotonic()
            shop.produce("orders", ["a", "b"])
            assert time.monotonic() - start < 3.0
            assert sorted(seen.wait_for(3)) == [b"a", b"b", b"warm"]


def test_what_was_under_way_when_the_client_was_killed_fails_at_once():
    """Nobody knows whether it was written, so the caller hears it; it need not wait for that."""
    with (
        EmbeddedKafka(topics={"orders": 1}) as kafka,
        tree(kafka, producer={"topic": "orders"}) as shop,
    ):
        kafka.freeze()
        errors: list[Any] = []
        thread = threading.Thread(
            target=lambda: errors.append(failed(shop.connection, "orders", ["a"], timeout=30.0))
        )
        thread.start()
        wait_until(lambda: shop.client() is not None and _in_flight(shop) == 1)
        shop.kill(shop.client())
        thread.join(5.0)
        assert not thread.is_alive()
        assert (errors[0].sent, errors[0].failed) == (0, ["a"])
        kafka.thaw()
        shop.produce("orders", "b")


def _in_flight(shop: Any) -> int:
    from elsa_actors.kafka import connection as connections

    with connections.find(shop.connection).shared as driver:
        return len(driver)


def test_a_tree_that_is_stopped_answers_whoever_waits(log_events):
    """Nobody waits for the end of his timeout when there is no tree any more."""
    with (
        EmbeddedKafka(topics={"orders": 1}) as kafka,
        tree(kafka, producer={"topic": "orders"}) as shop,
    ):
        kafka.freeze()
        errors: list[Any] = []
        thread = threading.Thread(
            target=lambda: errors.append(failed(shop.connection, "orders", ["a"], timeout=50.0))
        )
        thread.start()
        wait_until(lambda: _in_flight(shop) == 1)
        Supervisor.stop(shop.name)
        thread.join(SOON)
        assert not thread.is_alive()
        assert errors[0].failed == ["a"]
        assert any(event["event"] == "producer_stopped_early" for event in log_events)


def test_produce_goes_on_after_the_whole_tree_was_killed_and_started_again(me):
    """A caller that waits for partitions finds the tree that stands in the place of the old one."""
    name = new_name()
    with EmbeddedKafka(topics={"orders": 1}) as kafka:
        kafka.stop()
        options = {
            "endpoints": kafka.endpoints,
            "connection": name,
            "name": f"{name}-tree",
            "producer": {"topic": "orders"},
        }
        user = Supervisor.start_link([ElsaSupervisor.child_spec(**options)])
        result: list[Any] = []

        def caller() -> None:
            try:
                result.append(kafka_produce(name, "orders", "a", timeout=30.0))
            except KafkaError as error:
                result.append(error)

        thread = threading.Thread(target=caller)
        thread.start()
        time.sleep(0.2)
        old = process.whereis(f"{name}-tree")
        process.exit(old, "kill")
        wait_until(lambda: process.whereis(f"{name}-tree") not in (None, old))
        kafka.start()
        thread.join(SOON)
        assert result == [None]
        Supervisor.stop(user)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_is_told_that_it_was_forked(embedded, new_topic):
    """A client made before a fork never works in the child; that is said at once."""
    topic = new_topic(embedded)
    with tree(embedded, producer={"topic": topic}) as shop:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                kafka_produce(shop.connection, topic, "a", timeout=5.0)
                said = b"delivered"
            except BaseException as error:
                said = f"{type(error).__name__}: {error}".encode()
            os.write(writing, said)
            os._exit(0)
        os.close(writing)
        said = os.read(reading, 10_000).decode()
        os.waitpid(child, 0)
        os.close(reading)
        assert "fork" in said


def test_what_a_killed_process_still_runs_produces_nothing_by_endpoints(embedded, new_topic):
    """Its produce has begun; what it had not handed over by then is discarded."""
    topic = new_topic(embedded)
    gate = Gate()

    class Slow:
        def partition(self, count: int, key: bytes | None) -> int:
            gate()
            return 0

    class Producing(GenServer):
        unwind = False

        def handle_cast(self, request: Any) -> Any:
            kafka_produce(embedded.endpoints, topic, "x", partitioner=Slow)
            return NoReply()

    ref = Producing.start()
    cast(ref, "go")
    gate.reached()
    process.exit(ref, "kill")
    gate.open()
    wait_until(lambda: ref._inbox.is_buried())
    kafka_produce(embedded.endpoints, topic, "y")
    assert [message.value for message in fetch(embedded.endpoints, topic)[1]] == [b"y"]
