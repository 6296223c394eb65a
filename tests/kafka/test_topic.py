"""Creating, deleting and listing topics without a tree."""

import gc
import socket
import threading
import time
import uuid

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource

from elsa_actors import ElsaError, Task, process
from elsa_actors.kafka.embedded import EmbeddedKafka
from elsa_actors.kafka.errors import ConfigError, KafkaError
from elsa_actors.kafka.topic import (
    INTERNAL,
    create_topic,
    delete_topic,
    list_topics,
    topic_exists,
)
from tests.kafka.trees import librdkafka_threads, no_new_librdkafka_threads, wait_until

CALLS = [
    pytest.param(lambda endpoints, **more: list_topics(endpoints, **more), id="list_topics"),
    pytest.param(lambda endpoints, **more: topic_exists(endpoints, "t", **more), id="topic_exists"),
    pytest.param(lambda endpoints, **more: create_topic(endpoints, "t", **more), id="create_topic"),
    pytest.param(lambda endpoints, **more: delete_topic(endpoints, "t", **more), id="delete_topic"),
]
NAMED = [topic_exists, create_topic, delete_topic]


def a_name():
    return f"topic-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def nowhere():
    """Endpoints where nobody listens, and nobody will during the test."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


# ---- what is there


def test_list_gives_names_and_partitions(embedded, new_topic):
    """What an operator asks first."""
    small, large = new_topic(embedded), new_topic(embedded, 7)
    listed = list_topics(embedded.endpoints)
    assert (small, 1) in listed
    assert (large, 7) in listed
    assert listed == sorted(listed)


def test_endpoints_come_in_every_form(embedded, new_topic):
    """The same forms as for a supervisor."""
    name = new_topic(embedded)
    host, _, port = embedded.endpoints.partition(":")
    for endpoints in ([embedded.endpoints], [(host, int(port))], {host: int(port)}):
        assert topic_exists(endpoints, name)


def test_to_ask_for_a_topic_does_not_create_it(embedded):
    """The embedded broker makes each topic that it is asked for by name."""
    name = a_name()
    assert topic_exists(embedded.endpoints, name) is False
    assert topic_exists(embedded.endpoints, name) is False
    assert name not in dict(list_topics(embedded.endpoints))


def test_topic_that_is_there_exists(embedded, new_topic):
    """And the answer is a bool, never an error that is true."""
    assert topic_exists(embedded.endpoints, new_topic(embedded)) is True


def test_kafkas_own_topics_are_not_listed():
    """Nobody made them; they would stand in every answer. A user's name may begin so, too."""
    with EmbeddedKafka(topics={"__consumer_offsets": 50, "__mine": 1, "orders": 2}) as kafka:
        assert "__consumer_offsets" in INTERNAL
        assert list_topics(kafka.endpoints) == [("__mine", 1), ("orders", 2)]
        assert topic_exists(kafka.endpoints, "__consumer_offsets")


# ---- creating and deleting


def test_created_topic_can_be_used_at_once(apache):
    """It is no good to hear of a topic that has no leaders yet."""
    name = a_name()
    assert create_topic(apache.endpoints, name, partitions=5) is None
    admin = AdminClient({"bootstrap.servers": apache.endpoints, "log_level": 0})
    partitions = admin.list_topics(timeout=10).topics[name].partitions
    assert sorted(partitions) == [0, 1, 2, 3, 4]
    assert all(partition.leader >= 0 for partition in partitions.values())
    assert (name, 5) in list_topics(apache.endpoints)


def test_created_topic_has_one_partition_unless_said(apache):
    """The original's defaults: one partition, one replica."""
    name = a_name()
    create_topic(apache.endpoints, name)
    assert dict(list_topics(apache.endpoints))[name] == 1


def test_created_topic_has_its_configuration(apache):
    """Numbers and booleans are Kafka's texts for them."""
    name = a_name()
    wanted = {
        "cleanup.policy": "compact",
        "retention.ms": 60_000,
        "preallocate": True,
        "min.cleanable.dirty.ratio": 0.25,
    }
    create_topic(apache.endpoints, name, config=wanted)
    admin = AdminClient({"bootstrap.servers": apache.endpoints, "log_level": 0})
    resource = ConfigResource(ConfigResource.Type.TOPIC, name)
    there = admin.describe_configs([resource])[resource].result(timeout=10)
    assert {key: there[key].value for key in wanted} == {
        "cleanup.policy": "compact",
        "retention.ms": "60000",
        "preallocate": "true",
        "min.cleanable.dirty.ratio": "0.25",
    }


def test_topic_is_not_created_twice(apache, new_topic):
    """The second of two deployments must hear that the first was there."""
    name = new_topic(apache, 3)
    with pytest.raises(KafkaError, match=f"{name}.* is there already") as raised:
        create_topic(apache.endpoints, name, partitions=8)
    assert raised.value.reason == ("topic_exists", name)
    assert (name, 3) in list_topics(apache.endpoints)


@pytest.mark.parametrize(
    ("more", "word", "text"),
    [
        ({"config": {"retention.mss": 1}}, "INVALID_CONFIG", "retention.mss"),
        ({"config": {"retention.ms": "soon"}}, "INVALID_CONFIG", "retention.ms"),
        ({"replicas": 30}, "INVALID_REPLICATION_FACTOR", "30"),
    ],
)
def test_what_the_broker_refuses_it_says_itself(apache, more, word, text):
    """It knows best which settings it has, and how many brokers."""
    name = a_name()
    with pytest.raises(KafkaError, match=f"could not create topic '{name}'.*{text}") as raised:
        create_topic(apache.endpoints, name, **more)
    assert raised.value.reason == ("kafka", word)
    assert not topic_exists(apache.endpoints, name)


def test_deleted_topic_is_gone(apache, new_topic):
    """The name can be given again at once."""
    name = new_topic(apache, 2)
    assert delete_topic(apache.endpoints, name) is None
    assert not topic_exists(apache.endpoints, name)
    create_topic(apache.endpoints, name, partitions=4)
    assert (name, 4) in list_topics(apache.endpoints)


def test_unknown_topic_is_not_deleted(embedded, new_topic):
    """The nearest name is shown: who deletes should know which."""
    name = new_topic(embedded)
    with pytest.raises(KafkaError, match=f"did you mean '{name}'") as raised:
        delete_topic(embedded.endpoints, name + "x")
    assert raised.value.reason == ("unknown_topic", name + "x")


@pytest.mark.parametrize("call", [create_topic, delete_topic])
def test_embedded_broker_says_that_it_cannot(embedded, new_topic, call):
    """It has no controller, and librdkafka would wait for one as long as it may."""
    name = new_topic(embedded)
    began = time.monotonic()
    with pytest.raises(KafkaError, match="no controller.*EmbeddedKafka") as raised:
        call(embedded.endpoints, name, timeout=2.0)
    assert raised.value.reason == "no_controller"
    assert time.monotonic() - began < 7.0
    assert topic_exists(embedded.endpoints, name)


# ---- nobody answers


@pytest.mark.parametrize("call", CALLS)
def test_without_a_broker_it_is_an_error_in_time(nowhere, call):
    """The original raised, exited or answered with an error that was true, each call its own."""
    began = time.monotonic()
    with (
        no_new_librdkafka_threads(),
        pytest.raises(KafkaError, match=f"no broker of {nowhere} answered within") as raised,
    ):
        call(nowhere, timeout=0.5)
    assert raised.value.reason == "no_broker"
    assert 0.4 < time.monotonic() - began < 5.0


@pytest.mark.parametrize("call", CALLS)
def test_broker_that_hangs_is_an_error_in_time(call):
    """A connection that stays and says nothing is no better than none."""
    with EmbeddedKafka(topics={"t": 1}) as kafka:
        kafka.freeze()
        began = time.monotonic()
        with pytest.raises(KafkaError) as raised:
            call(kafka.endpoints, timeout=0.5)
        assert raised.value.reason == "no_broker"
        assert time.monotonic() - began < 5.0
        kafka.thaw()


def test_apache_kafka_that_hangs_is_an_error_in_time(apache):
    """A change, too, and librdkafka bears that its admin client ends while it waits."""
    if not hasattr(apache, "freeze"):
        pytest.skip("the brokers are given, and cannot be frozen")
    name = a_name()
    apache.freeze()
    try:
        with no_new_librdkafka_threads(), pytest.raises(KafkaError) as raised:
            create_topic(apache.endpoints, name, timeout=1.0)
    finally:
        apache.thaw()
    assert raised.value.reason == "no_broker"


def test_one_broker_that_answers_is_enough(nowhere):
    """Endpoints are a list so that any of them will do."""
    with EmbeddedKafka(brokers=3, topics={"t": 1}) as kafka:
        kafka.stop(0)
        kafka.freeze(1)
        endpoints = [nowhere, *kafka.endpoints.split(",")]
        assert list_topics(endpoints) == [("t", 1)]
        kafka.thaw(1)


def test_broker_that_comes_up_in_time_is_found():
    """A deployment starts everything at once."""
    with EmbeddedKafka(topics={"t": 1}) as kafka:
        kafka.stop()
        answer = []
        asking = threading.Thread(target=lambda: answer.extend(list_topics(kafka.endpoints, 30.0)))
        threads = librdkafka_threads()
        asking.start()
        wait_until(lambda: librdkafka_threads() > threads)
        kafka.start()
        asking.join(20.0)
        assert answer == [("t", 1)]


# ---- wrong arguments


@pytest.mark.parametrize("call", CALLS)
def test_name_of_a_connection_is_refused(call):
    """These calls need no tree and know none."""
    with pytest.raises(KafkaError, match="expected endpoints.*'shop'.*name of a connection"):
        call("shop")


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("endpoints", [None, [], "localhost:x", 9092])
def test_endpoints_that_do_not_parse_are_refused(call, endpoints):
    """At once, without a client."""
    with pytest.raises(KafkaError, match="expected endpoints") as raised:
        call(endpoints)
    assert raised.value.reason[0] == "bad_endpoints"


@pytest.mark.parametrize("call", NAMED)
@pytest.mark.parametrize("name", ["", ".", "..", "a b", "a/b", "ü", "x" * 250, None, b"orders", 3])
def test_name_that_kafka_does_not_allow_is_refused(nowhere, call, name):
    """At once: no broker is asked, and none would make it."""
    with pytest.raises(ConfigError, match=f"{call.__name__}: expected .*name") as raised:
        call(nowhere, name)
    assert raised.value.reason[:2] == ("bad_value", "topic")


@pytest.mark.parametrize("name", ["partitions", "replicas"])
@pytest.mark.parametrize("count", [0, -1, True, 1.0, "3", None])
def test_count_that_is_none_is_refused(nowhere, name, count):
    """-1 would be the broker's default; who wants that many says how many."""
    with pytest.raises(ConfigError, match=f"expected {name} to be a whole number") as raised:
        create_topic(nowhere, "orders", **{name: count})
    assert raised.value.reason == ("bad_value", name, count)


@pytest.mark.parametrize("config", [[], "retention.ms=1", {"retention.ms": None}, {3: "x"}])
def test_configuration_that_is_none_is_refused(nowhere, config):
    """What the broker would be sent is text."""
    with pytest.raises(ConfigError, match="create_topic: expected"):
        create_topic(nowhere, "orders", config=config)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("timeout", [-1, "5", True])
def test_timeout_that_is_none_is_refused(nowhere, call, timeout):
    """Durations are seconds."""
    with pytest.raises(ValueError, match="expected timeout"):
        call(nowhere, timeout=timeout)


# ---- nothing is left


def test_nothing_is_left_of_a_call(apache, new_topic):
    """No thread, no connection: neither when it works nor when it is refused."""
    name, there = a_name(), new_topic(apache)
    gc.disable()  # What is only found by the collector stays for who knows how long.
    try:
        before = librdkafka_threads()
        errors = []
        list_topics(apache.endpoints)
        assert librdkafka_threads() <= before
        create_topic(apache.endpoints, name)
        assert librdkafka_threads() <= before
        for call, topic in ((create_topic, there), (delete_topic, a_name())):
            try:
                call(apache.endpoints, topic)
            except ElsaError as error:
                errors.append(error)  # With its traceback, and the frames in that.
            assert librdkafka_threads() <= before
        assert len(errors) == 2
    finally:
        gc.enable()


def test_killed_process_does_not_finish_its_call(nowhere):
    """It ends within a second or so, and its client with it."""
    threads = librdkafka_threads()
    asking = Task.start(list_topics, nowhere, 50.0)
    wait_until(lambda: librdkafka_threads() > threads)
    process.exit(asking, "kill")
    wait_until(lambda: librdkafka_threads() <= threads, 5.0)
