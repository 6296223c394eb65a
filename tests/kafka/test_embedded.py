"""The embedded broker: what it does, what can be done to it, and that it is gone afterwards."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from elsa_actors.kafka.embedded import EmbeddedKafka
from elsa_actors.kafka.librdkafka import library
from elsa_actors.runtime.errors import ElsaError

PATIENCE = 20.0


class Sender:
    """A producer that remembers what came back."""

    def __init__(self, kafka, **config):
        config = {name.replace("_", "."): value for name, value in config.items()}
        self.producer = Producer(
            {"bootstrap.servers": kafka.endpoints, "linger.ms": 0, "log_level": 0} | config
        )
        self.reports = []

    def send(self, topic, partition=0):
        self.producer.produce(
            topic,
            b"x",
            partition=partition,
            on_delivery=lambda error, message: self.reports.append(
                error.name() if error else message.offset()
            ),
        )

    def report(self, within=PATIENCE):
        """The next delivery report, an offset or an error's name; None when none comes."""
        due = time.monotonic() + within
        while not self.reports and time.monotonic() < due:
            self.producer.poll(0.05)
        return self.reports.pop(0) if self.reports else None

    def deliver(self, topic, partition=0):
        self.send(topic, partition)
        return self.report()


def metadata(kafka):
    return Sender(kafka).producer.list_topics(timeout=PATIENCE)


def leaders(kafka, topic):
    return {n: p.leader for n, p in metadata(kafka).topics[topic].partitions.items()}


def offsets_read(kafka, topic, count):
    """The offsets of the first messages of partition 0."""
    consumer = Consumer(
        {"bootstrap.servers": kafka.endpoints, "group.id": "reader", "log_level": 0}
    )
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        read, due = [], time.monotonic() + PATIENCE
        while len(read) < count and time.monotonic() < due:
            if (message := consumer.poll(0.1)) is not None and message.error() is None:
                read.append(message.offset())
        return read
    finally:
        consumer.close()


# ---- a cluster


def test_topics_have_the_partitions_that_were_asked_for():
    """librdkafka's own would all have 4."""
    with EmbeddedKafka(topics={"orders": 8, "bills": 1}) as kafka:
        topics = metadata(kafka).topics
        assert {name: len(topic.partitions) for name, topic in topics.items()} == {
            "orders": 8,
            "bills": 1,
        }


def test_what_is_produced_can_be_consumed(embedded, new_topic):
    """It is a broker to every client, not a stand-in for one."""
    topic = new_topic(embedded)
    sender = Sender(embedded)
    assert [sender.deliver(topic) for _ in range(3)] == [0, 1, 2]
    assert offsets_read(embedded, topic, 3) == [0, 1, 2]


def test_endpoints_name_every_broker():
    """A client may begin at any of them."""
    with EmbeddedKafka(brokers=3) as kafka:
        endpoints = kafka.endpoints.split(",")
        assert len(set(endpoints)) == 3
        found = {f"{b.host}:{b.port}" for b in metadata(kafka).brokers.values()}
        assert found == set(endpoints)


def test_first_group_member_need_not_wait():
    """Elsewhere it waits 3 s for others: too long for a test."""
    with EmbeddedKafka(topics={"t": 1}) as kafka:
        Sender(kafka).deliver("t")
        consumer = Consumer(
            {
                "bootstrap.servers": kafka.endpoints,
                "group.id": "g",
                "auto.offset.reset": "earliest",
                "log_level": 0,
            }
        )
        consumer.subscribe(["t"])
        began = time.monotonic()
        message = consumer.poll(PATIENCE)
        took = time.monotonic() - began
        consumer.close()
        assert message is not None
        assert took < 2.5


def test_its_threads_end_with_the_block():
    """A test suite that makes a thousand of them must not drown."""
    before = library().rd_kafka_thread_cnt()
    with EmbeddedKafka(brokers=3, topics={"t": 3}):
        assert library().rd_kafka_thread_cnt() > before
    assert library().rd_kafka_thread_cnt() == before


def test_its_threads_end_when_the_block_raises_or_never_begins():
    """Half a start leaves nothing behind."""
    before = library().rd_kafka_thread_cnt()
    with pytest.raises(ZeroDivisionError), EmbeddedKafka():
        1 / 0
    kafka = EmbeddedKafka(topics={"t": 1})
    kafka._topics["t"] = -5  # librdkafka refuses what we would have refused before
    with pytest.raises(ElsaError):
        kafka.__enter__()
    assert library().rd_kafka_thread_cnt() == before


def test_a_second_block_starts_with_empty_topics():
    """It keeps nothing, and may be used again."""
    kafka = EmbeddedKafka(topics={"t": 1})
    with kafka:
        assert Sender(kafka).deliver("t") == 0
        kafka.create_topic("more")
        kafka.stop()
    with kafka:
        assert Sender(kafka).deliver("t") == 0
        assert set(metadata(kafka).topics) == {"t"}


def test_it_says_nothing_by_itself(capfd):
    """Its log would stand between the lines of the program that tries it out."""
    with EmbeddedKafka(brokers=2, topics={"t": 1}) as kafka:
        sender = Sender(kafka)
        sender.deliver("t")
        kafka.stop()
        kafka.start()
        sender.deliver("t")
    assert capfd.readouterr() == ("", "")


def test_repr_says_what_is_wrong_with_it():
    """Who forgot to start a broker again sees it."""
    kafka = EmbeddedKafka(brokers=3)
    assert repr(kafka) == "<EmbeddedKafka not running>"
    with kafka:
        assert repr(kafka) == f"<EmbeddedKafka {kafka.endpoints}>"
        kafka.stop(1)
        kafka.freeze(2)
        assert repr(kafka) == f"<EmbeddedKafka {kafka.endpoints}; down: 1; frozen: 2>"


# ---- topics and leaders


def test_deleted_topic_is_gone_and_can_be_made_anew(embedded, new_topic):
    """With other partitions, and without the old messages."""
    topic = new_topic(embedded)
    Sender(embedded).deliver(topic)
    embedded.delete_topic(topic)
    assert topic not in metadata(embedded).topics
    with pytest.raises(ElsaError) as caught:
        embedded.delete_topic(topic)
    assert caught.value.reason == ("unknown_topic", topic)
    embedded.create_topic(topic, 2)
    assert Sender(embedded).deliver(topic, partition=1) == 0


def test_topic_cannot_be_made_twice(embedded, new_topic):
    """The second one would silently have the partitions of the first."""
    topic = new_topic(embedded, 3)
    with pytest.raises(ElsaError, match=topic) as caught:
        embedded.create_topic(topic, 5)
    assert caught.value.reason == ("topic_already_exists", topic)


def test_leader_can_be_moved_and_removed():
    """What a broker does when one of several goes down is done by hand here."""
    with EmbeddedKafka(brokers=3, topics={"t": 2}) as kafka:
        for n in range(3):
            kafka.set_leader("t", 1, n)
            assert leaders(kafka, "t")[1] == n + 1
        kafka.set_leader("t", 1, None)
        assert leaders(kafka, "t")[1] == -1
        with pytest.raises(ElsaError):
            kafka.set_leader("t", 2, 0)


def test_coordinator_can_be_moved():
    """A group whose coordinator is down gets no answer until another takes over."""
    with EmbeddedKafka(brokers=2, topics={"t": 1}) as kafka:
        kafka.set_coordinator("g", 1)
        kafka.stop(1)
        consumer = Consumer({"bootstrap.servers": kafka.endpoints, "group.id": "g", "log_level": 0})
        with pytest.raises(KafkaException):
            consumer.committed([TopicPartition("t", 0)], timeout=1.0)
        kafka.set_coordinator("g", 0)
        [found] = consumer.committed([TopicPartition("t", 0)], timeout=PATIENCE)
        assert found.error is None
        consumer.close()


def test_transaction_coordinator_can_be_moved():
    """The same for a transactional producer."""
    with EmbeddedKafka(brokers=2, topics={"t": 1}) as kafka:
        kafka.set_transaction_coordinator("x", 1)
        kafka.stop(1)
        producer = Sender(kafka, transactional_id="x").producer
        with pytest.raises(KafkaException):
            producer.init_transactions(1.0)
        kafka.set_transaction_coordinator("x", 0)
        producer.init_transactions(PATIENCE)


# ---- faults


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_message_waits_while_the_broker_is_down(end):
    """Sent meanwhile, it arrives when the broker is back: on the same port, with its messages."""
    with EmbeddedKafka(topics={"t": 1}) as kafka:
        sender = Sender(kafka)
        assert sender.deliver("t") == 0
        getattr(kafka, end)(0)
        sender.send("t")
        assert sender.report(within=0.5) is None
        kafka.start(0)
        assert sender.report() == 1
        assert offsets_read(kafka, "t", 2) == [0, 1]


def test_one_of_several_can_be_taken_down():
    """Counted from 0, and the others go on."""
    with EmbeddedKafka(brokers=2, topics={"t": 2}) as kafka:
        kafka.set_leader("t", 0, 0)
        kafka.set_leader("t", 1, 1)
        kafka.stop(0)
        up, down = Sender(kafka), Sender(kafka)
        down.send("t", partition=0)
        assert up.deliver("t", partition=1) == 0
        assert down.report(within=0.3) is None
        kafka.start()
        assert down.report() == 0


def test_frozen_broker_answers_when_it_thaws():
    """Nothing is lost; and what is delayed by the broker itself comes in its time again."""
    with EmbeddedKafka(topics={"t": 1}) as kafka:
        sender = Sender(kafka)
        assert sender.deliver("t") == 0
        kafka.freeze(0)
        sender.send("t")
        assert sender.report(within=0.5) is None
        kafka.thaw(0)
        assert sender.report() == 1
        # Fetches are late answers too: they would wait for the frozen ones for ever.
        assert offsets_read(kafka, "t", 2) == [0, 1]
        kafka.set_latency(0, 0.1)
        assert sender.deliver("t") == 2


def test_latency_delays_each_answer():
    """A slow link: every send takes as long as it was set to, and not afterwards."""
    with EmbeddedKafka(topics={"t": 1}) as kafka:
        sender = Sender(kafka)
        sender.deliver("t")
        kafka.set_latency(None, 0.4)
        began = time.monotonic()
        assert sender.deliver("t") == 1
        assert time.monotonic() - began >= 0.4
        kafka.set_latency(None, 0.0)
        sender.deliver("t")
        began = time.monotonic()
        assert sender.deliver("t") == 3
        assert time.monotonic() - began < 0.4


def test_latency_outlives_a_freeze():
    """A slow broker that froze is slow again when it thaws."""
    with EmbeddedKafka(topics={"t": 1}) as kafka:
        sender = Sender(kafka)
        sender.deliver("t")
        kafka.freeze()
        kafka.set_latency(0, 0.3)
        sender.send("t")
        assert sender.report(within=0.5) is None
        kafka.thaw()
        assert sender.report() == 1
        began = time.monotonic()
        sender.deliver("t")
        assert time.monotonic() - began >= 0.3


def test_pushed_errors_meet_the_next_requests():
    """One request each, in their order, then all is well again."""
    with EmbeddedKafka(topics={"t": 1}) as kafka:
        sender = Sender(kafka, retries=0)
        assert sender.deliver("t") == 0
        kafka.push_errors("Produce", "INVALID_RECORD", "NO_ERROR", 10)
        assert sender.deliver("t") == "INVALID_RECORD"
        assert sender.deliver("t") == 1
        assert sender.deliver("t") == "MSG_SIZE_TOO_LARGE"
        assert sender.deliver("t") == 2


def test_pushed_errors_can_be_forgotten():
    """A test that pushed too many need not send as often."""
    with EmbeddedKafka(topics={"t": 1}) as kafka:
        sender = Sender(kafka, retries=0)
        sender.deliver("t")
        kafka.push_errors(0, *["INVALID_RECORD"] * 100)
        assert sender.deliver("t") == "INVALID_RECORD"
        kafka.clear_errors("Produce")
        assert sender.deliver("t") == 1


# ---- wrong use


CALLS = [
    lambda kafka: kafka.endpoints,
    lambda kafka: kafka.create_topic("t"),
    lambda kafka: kafka.delete_topic("t"),
    lambda kafka: kafka.set_leader("t", 0, 0),
    lambda kafka: kafka.set_coordinator("g", 0),
    lambda kafka: kafka.set_transaction_coordinator("x", 0),
    lambda kafka: kafka.stop(),
    lambda kafka: kafka.kill(0),
    lambda kafka: kafka.start(0),
    lambda kafka: kafka.freeze(0),
    lambda kafka: kafka.thaw(0),
    lambda kafka: kafka.set_latency(0, 0.1),
    lambda kafka: kafka.push_errors("Produce", "INVALID_RECORD"),
    lambda kafka: kafka.clear_errors("Produce"),
]


@pytest.mark.parametrize("act", CALLS)
def test_use_outside_of_the_block_is_an_error(act):
    """librdkafka would follow a pointer to nothing and end the program."""
    kafka = EmbeddedKafka()
    for _ in range(2):
        with pytest.raises(ElsaError, match="not running") as caught:
            act(kafka)
        assert caught.value.reason == "not_running"
        with kafka:
            pass


def test_use_while_another_thread_leaves_the_block_is_an_error():
    """The pointer is not freed under a call. Often: the moment is short."""
    for _ in range(30):
        kafka = EmbeddedKafka(topics={"t": 1})
        reasons, begun = [], threading.Barrier(4)
        with kafka:
            threads = [
                threading.Thread(target=hammer, args=(kafka, begun, reasons), daemon=True)
                for _ in range(3)
            ]
            for thread in threads:
                thread.start()
            begun.wait(PATIENCE)
        for thread in threads:
            thread.join(PATIENCE)
        assert reasons == ["not_running"] * 3


def hammer(kafka, begun, reasons):
    try:
        kafka.set_latency(0, 0.0)
        begun.wait(PATIENCE)
        while True:
            kafka.set_latency(0, 0.0)
    except ElsaError as error:
        reasons.append(error.reason)


def test_a_block_in_its_own_block_is_refused():
    """It would take the outer one's broker away."""
    kafka = EmbeddedKafka(topics={"t": 1})
    with kafka:
        with pytest.raises(ElsaError, match="already running") as caught:
            kafka.__enter__()
        assert caught.value.reason == "running"
        assert Sender(kafka).deliver("t") == 0


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: EmbeddedKafka(0), ("invalid_brokers", 0)),
        (lambda: EmbeddedKafka(True), ("invalid_brokers", True)),
        (lambda: EmbeddedKafka("3"), ("invalid_brokers", "3")),
        (lambda: EmbeddedKafka(topics=["t"]), ("invalid_topics", ["t"])),
        (lambda: EmbeddedKafka(topics={"t": 0}), ("invalid_partitions", 0)),
        (lambda: EmbeddedKafka(topics={"t": True}), ("invalid_partitions", True)),
        (lambda: EmbeddedKafka(topics={"": 1}), ("invalid_topic", "")),
        (lambda: EmbeddedKafka(topics={"a b": 1}), ("invalid_topic", "a b")),
        (lambda: EmbeddedKafka(topics={"..": 1}), ("invalid_topic", "..")),
    ],
)
def test_wrong_cluster_is_refused_where_it_is_made(make, reason):
    """Not by a broker that does not start."""
    with pytest.raises(ElsaError, match="expected .* got: ") as caught:
        make()
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (lambda kafka: kafka.stop(1), ("unknown_broker", 1)),
        (lambda kafka: kafka.freeze(-1), ("unknown_broker", -1)),
        (lambda kafka: kafka.start("0"), ("unknown_broker", "0")),
        (lambda kafka: kafka.set_leader("t", 0, 1), ("unknown_broker", 1)),
        (lambda kafka: kafka.set_leader("t", -1, 0), ("invalid_partition", -1)),
        (lambda kafka: kafka.set_coordinator("g", None), ("unknown_broker", None)),
        (lambda kafka: kafka.set_coordinator("", 0), ("invalid_group", "")),
        (lambda kafka: kafka.set_latency(0, -1), ("invalid_latency", -1)),
        (lambda kafka: kafka.set_latency(0, "1"), ("invalid_latency", "1")),
        (lambda kafka: kafka.set_latency(0, 1001), ("invalid_latency", 1001)),
        (lambda kafka: kafka.push_errors("Produce"), "no_codes"),
        (lambda kafka: kafka.push_errors("Prodcue", 3), ("unknown_api", "Prodcue")),
        (lambda kafka: kafka.push_errors("Produce", "OOPS"), ("unknown_error", "OOPS")),
        (lambda kafka: kafka.push_errors("Produce", True), ("unknown_error", True)),
        (lambda kafka: kafka.clear_errors(-1), ("unknown_api", -1)),
    ],
)
def test_wrong_argument_is_refused(embedded, act, reason):
    """The control calls would take it silently, for another broker or none."""
    with pytest.raises(ElsaError, match="expected") as caught:
        act(embedded)
    assert caught.value.reason == reason


def test_nearest_word_is_offered(embedded):
    """Nobody knows Kafka's words by heart."""
    with pytest.raises(ElsaError, match="did you mean 'Produce'"):
        embedded.push_errors("Prodcue", 3)
    with pytest.raises(ElsaError, match="did you mean 'INVALID_RECORD'"):
        embedded.push_errors("Produce", "INVALID_RECRD")


def test_forked_child_is_told_so():
    """The child has the pointer and none of its threads: each call would hang it."""
    script = """
        import os, sys
        from elsa_actors.kafka.embedded import EmbeddedKafka
        from elsa_actors.runtime.errors import ElsaError

        with EmbeddedKafka(topics={"t": 1}) as kafka:
            endpoints = kafka.endpoints
            pid = os.fork()
            if pid == 0:
                assert kafka.endpoints == endpoints  # the broker is there, in the parent
                try:
                    kafka.stop()
                except ElsaError as error:
                    print(error.reason, error, flush=True)
            else:
                assert os.waitpid(pid, 0)[1] == 0
                kafka.stop()
                kafka.start()
        print("left", flush=True)
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert ran.returncode == 0, ran.stderr
    first, *rest = ran.stdout.splitlines()
    assert first.startswith("fork ")
    assert "fork" in first.removeprefix("fork ")
    assert rest == ["left", "left"]
