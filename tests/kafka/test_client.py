"""Client: the one librdkafka producer of a connection, shared, polled and closed."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from confluent_kafka import Producer as DriverProducer

from elsa_actors import debug, process
from elsa_actors.kafka import EmbeddedKafka, KafkaError, ProduceError
from elsa_actors.kafka import client as clients
from elsa_actors.kafka import connection as connections
from elsa_actors.kafka.client import ClientGone, SharedProducer
from tests.kafka.trees import (
    SOON,
    Collector,
    consumer,
    no_new_librdkafka_threads,
    stays,
    tree,
    wait_until,
)
from tests.servers import Gate


def shared_of(kafka: Any) -> SharedProducer:
    return SharedProducer("shop", DriverProducer({"bootstrap.servers": kafka.endpoints}))


def test_closing_waits_for_whoever_is_inside(embedded):
    """librdkafka does not bear being called while it ends."""
    shared = shared_of(embedded)
    gate = Gate()

    def use() -> None:
        with shared as driver:
            gate()
            driver.poll(0)

    user = threading.Thread(target=use)
    user.start()
    gate.reached()
    closer = threading.Thread(target=shared.close)
    closer.start()
    assert stays(closer.is_alive, 0.2)
    with pytest.raises(ClientGone), shared:
        pass
    gate.open()
    closer.join(SOON)
    user.join(SOON)
    assert not closer.is_alive()


def test_closing_twice_is_closing_once(embedded):
    """Whoever owns it may have closed it, and so may its process."""
    with no_new_librdkafka_threads(0.1):
        shared = shared_of(embedded)
        shared.close()
        shared.close()


def test_topics_are_those_of_the_brokers(embedded, new_topic):
    """With their partitions, as the brokers tell now."""
    topic = new_topic(embedded, 3)
    with tree(embedded) as shop:
        assert clients.topics(shop.connection)[topic] == 3


def test_topics_without_a_broker_is_an_error_in_time():
    """Whoever asks may ask again."""
    with EmbeddedKafka() as kafka, tree(kafka) as shop:
        kafka.stop()
        start = time.monotonic()
        with pytest.raises(KafkaError):
            clients.topics(shop.connection, 0.3)
        assert time.monotonic() - start < 3.0


def test_without_a_client_its_producer_is_an_error():
    """It is down, and another may come."""
    with pytest.raises(KafkaError) as caught:
        clients.shared_producer("nosuchshop")
    assert caught.value.reason == "client_down"


def test_a_client_that_is_killed_comes_back_and_leaves_no_thread(embedded, new_topic):
    """What it owned is closed with it."""
    topic = new_topic(embedded)
    with no_new_librdkafka_threads(0.5), tree(embedded, producer={"topic": topic}) as shop:
        for _ in range(2):
            with no_new_librdkafka_threads():
                old = shop.kill(wait_until(shop.client))
                shop.another(shop.client, old)
                shop.produce(topic, "a")


def test_a_client_that_is_killed_while_callers_poll_closes_at_once():
    """Those who wait for deliveries poll librdkafka; they let go of it when it is to end."""
    with (
        EmbeddedKafka(topics={"orders": 1}) as kafka,
        tree(kafka, producer={"topic": "orders"}) as shop,
    ):
        kafka.freeze()
        errors: list[Any] = []

        def caller() -> None:
            try:
                shop.produce("orders", "a", timeout=40.0)
            except ProduceError as error:
                errors.append(error)

        threads = [threading.Thread(target=caller) for _ in range(4)]
        for thread in threads:
            thread.start()
        shared = connections.find(shop.connection).shared
        wait_until(lambda: len(shared._driver) == 4)
        start = time.monotonic()
        shop.kill(shop.client())
        for thread in threads:
            thread.join(8.0)
        assert time.monotonic() - start < 5.0
        # It was closed, and they did not have to wait for the end of their Producer.
        assert {error.reason for error in errors} == {"client_down"}, errors
        kafka.thaw()
        shop.produce("orders", "b")


def test_a_fatal_error_of_librdkafka_ends_the_client_and_the_next_one_works(log_events):
    """An idempotent producer that has lost its order can only be made anew."""
    with EmbeddedKafka(topics={"orders": 1}) as kafka:
        seen = Collector()
        with tree(
            kafka,
            config={"enable.gapless.guarantee": True},
            producer={"topic": "orders"},
            consumer=consumer("orders", seen),
        ) as shop:
            shop.produce("orders", "a")
            old = shop.client()
            kafka.push_errors("Produce", "OUT_OF_ORDER_SEQUENCE_NUMBER")
            try:
                shop.produce("orders", "b", timeout=10.0)
            except ProduceError:
                pass
            wait_until(lambda: not process.is_alive(old))
            shop.another(shop.client, old)
            shop.produce("orders", "c")
            wait_until(lambda: b"c" in seen.values())
            assert any("fatal" in repr(event.get("reason")) for event in log_events)


def test_the_status_says_whether_brokers_can_be_reached(embedded):
    """An operator sees it without asking a broker."""
    with tree(embedded) as shop:
        details = debug.get_status(shop.client())["details"]
        assert details == {
            "connection": shop.connection,
            "endpoints": embedded.endpoints,
            "reachable": True,
            "in_flight": 0,
        }


def test_brokers_that_come_and_go_are_told_once_each(log_events):
    """No storm of events while they are down."""
    with (
        EmbeddedKafka(topics={"orders": 1}) as kafka,
        tree(kafka, producer={"topic": "orders"}) as shop,
    ):
        shop.produce("orders", "a")
        kafka.stop()
        wait_until(lambda: "kafka_unreachable" in [event["event"] for event in log_events])
        assert not debug.get_status(shop.client())["details"]["reachable"]
        time.sleep(1.5)
        kafka.start()
        wait_until(lambda: "kafka_reachable" in [event["event"] for event in log_events])
        assert debug.get_status(shop.client())["details"]["reachable"]
        names = [event["event"] for event in log_events]
        assert names.count("kafka_unreachable") == 1
        assert names.count("kafka_reachable") == 1
        assert "child_terminated" not in names


SASL = {
    "security.protocol": "SASL_PLAINTEXT",
    "sasl.mechanism": "PLAIN",
    "sasl.username": "shop",
    "sasl.password": "a secret",
}


@pytest.mark.parametrize(
    ("config", "cause", "says"),
    [(SASL, "_AUTHENTICATION", "SASL"), ({"security.protocol": "SSL"}, "_TRANSPORT", "SSL")],
    ids=["sasl", "ssl"],
)
def test_a_security_protocol_that_is_not_the_brokers_is_told_once(
    apache, new_topic, log_events, config, cause, says
):
    """The log and the caller both hear the cause, nobody the password, and stopping is quick."""
    topic, seen = new_topic(apache), Collector()
    with no_new_librdkafka_threads():
        with tree(
            apache,
            ready=False,
            config=config,
            producer={"topic": topic},
            consumer=consumer(topic, seen),
        ) as shop:
            with pytest.raises(ProduceError) as caught:
                shop.produce(topic, "a", timeout=5.0)
            assert caught.value.reason == "timeout"
            assert says in str(caught.value)
        told = [(event["event"], event.get("cause")) for event in log_events]
        assert told.count(("kafka_error", cause)) == 1
        assert told.count(("kafka_unreachable", None)) == 1
        assert "a secret" not in repr(log_events)
