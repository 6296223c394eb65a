"""Producer and Batch: what one partition is given, and what becomes of it."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from confluent_kafka import KafkaError as DriverError
from confluent_kafka import Message as DriverMessage

from elsa_actors import CallExit, Supervisor, debug, process
from elsa_actors.kafka import EmbeddedKafka, ProduceError
from elsa_actors.kafka.client import Evidence
from elsa_actors.kafka.message import records_of
from elsa_actors.kafka.producer import Batch, Deliver
from elsa_actors.otp.gen_server import call
from elsa_actors.runtime.clock import clock
from tests.kafka.trees import SOON, Collector, consumer, stays, tree, wait_until


class Librdkafka:
    """As much of librdkafka's producer as a Batch needs: room for some messages."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.given: list[Any] = []

    def produce(self, topic: str, value: Any, key: Any, partition: int, tell: Any, **more: Any):
        if len(self.given) >= self.room:
            raise BufferError("queue full")
        self.given.append((value, key, partition, tell, more))


def test_a_batch_hands_over_what_there_is_room_for_and_goes_on_there():
    """Nothing is handed over twice, and nothing left out."""
    batch = Batch(3, records_of(["a", "b", "c"]), [0, 1, 2])
    full = Librdkafka(2)
    assert not batch.hand_over(full, "orders", None)  # type: ignore[arg-type]
    full.room = 9
    assert batch.hand_over(full, "orders", None)  # type: ignore[arg-type]
    assert [(value, partition) for value, _, partition, _, _ in full.given] == [
        (b"a", 3),
        (b"b", 3),
        (b"c", 3),
    ]


def test_a_batch_is_handed_over_by_the_first_who_begins():
    """A Producer that was killed may still be at it when the next one gets the batch."""
    batch = Batch(0, [b"a"], [0])
    assert not batch.begun
    assert batch.begin("first")
    assert batch.begun
    assert not batch.begin("second")
    assert batch.begin("first")
    batch.give_back()
    assert not batch.begun
    assert batch.begin("second")
    batch.next = 1
    batch.give_back()
    assert batch.begun


def test_a_batch_answers_once_when_the_last_of_it_was_told():
    """Delivered and refused ones count alike."""
    done: list[int] = []
    batch = Batch(0, [b"a", b"b", b"c"], [10, 20, 30])
    batch.on_done = lambda: done.append(1)
    tell = batch.teller(Evidence())
    tell(1, None, DriverMessage(offset=7))
    tell(0, DriverError(DriverError._MSG_TIMED_OUT), None)
    assert not batch.done
    assert not done
    tell(2, None, DriverMessage(offset=8))
    assert batch.done
    assert done == [1]
    assert batch.delivered == [1, 2]
    assert [place for place, _ in batch.failures] == [0]


def test_what_is_told_without_evidence_is_doubtful_and_counts_as_told():
    """Its caller hears of the batch, and sends that message again."""
    batch = Batch(0, [b"a", b"b"], [10, 20])
    tell = batch.teller(Evidence())
    tell(0, None, DriverMessage(offset=-1001))
    assert not batch.done
    tell(1, None, DriverMessage(offset=3))
    assert batch.done
    assert (batch.doubtful, batch.delivered) == ([0], [1])


def test_what_is_told_is_believed_where_there_can_be_no_evidence():
    """Without the idempotent producer nothing is refused for its number."""
    batch = Batch(0, [b"a"], [10])
    batch.teller(None)(0, None, DriverMessage(offset=-1001))
    assert (batch.doubtful, batch.delivered) == ([], [0])


@pytest.mark.parametrize(
    ("offsets", "believed"),
    [
        ([0, 1, 2], [True, True, True]),
        ([None, 7], [False, True]),
        ([None, None, 0, 8], [False, False, False, True]),
        ([5, None, 0, 1, 2, 6, 0], [True, False, False, False, False, True, True]),
        ([None, 0, None, 0], [False, False, False, False]),
    ],
)
def test_messages_refused_for_their_number_have_no_offset_or_count_from_nothing(offsets, believed):
    """librdkafka counts on from the offset of the answer, which has none: -1, 0, 1 and so on."""
    evidence = Evidence()
    assert [evidence.of(offset) for offset in offsets] == believed
    evidence.other_requests()
    assert all(map(evidence.of, range(3)))


def in_background(function: Any) -> tuple[threading.Thread, list[Any]]:
    """Run it on a thread; the list gets what it answers or raises."""
    result: list[Any] = []

    def run() -> None:
        try:
            result.append(function())
        except Exception as error:
            result.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, result


def test_a_producer_that_is_killed_before_it_has_a_client_passes_its_messages_on():
    """Nothing was begun: the caller gives them to the next Producer, and hears nothing of it."""
    with EmbeddedKafka(topics={"orders": 1}) as kafka:
        seen = Collector()
        with tree(kafka, producer={"topic": "orders"}, consumer=consumer("orders", seen)) as shop:
            Supervisor.terminate_child(shop.name, "client")
            wait_until(lambda: not attached(shop))
            thread, result = in_background(lambda: shop.produce("orders", ["a", "b"]))
            wait_until(lambda: under_way(shop) == 2)
            shop.kill(shop.producer("orders"))
            assert stays(thread.is_alive, 0.2)
            Supervisor.restart_child(shop.name, "client")
            thread.join(SOON)
            assert result == [None]
            assert seen.wait_for(2) == [b"a", b"b"]


def attached(shop: Any) -> bool:
    details = debug.get_status(shop.producer("orders"))["details"]
    return bool(details["attached"])


def under_way(shop: Any) -> int:
    details = debug.get_status(shop.producer("orders"))["details"]
    return int(details["under_way"])


def test_a_producer_that_is_killed_after_it_handed_over_fails_its_callers_at_once():
    """Nobody can tell whether it was written; the caller hears that, and need not wait."""
    with (
        EmbeddedKafka(topics={"orders": 1}) as kafka,
        tree(kafka, producer={"topic": "orders"}) as shop,
    ):
        kafka.freeze()
        thread, result = in_background(lambda: shop.produce("orders", ["a", "b"], timeout=40.0))
        wait_until(lambda: under_way(shop) == 2)
        start = time.monotonic()
        shop.kill(shop.producer("orders"))
        thread.join(5.0)
        assert time.monotonic() - start < 3.0
        [error] = result
        assert isinstance(error, ProduceError)
        assert (error.reason, error.sent, error.failed) == (
            ("producer_down", "killed"),
            0,
            ["a", "b"],
        )
        kafka.thaw()
        shop.produce("orders", "c")


def test_producers_that_are_killed_in_the_middle_never_leave_a_caller_hanging():
    """Whatever moment it dies in: success, or a ProduceError that counts right."""
    with EmbeddedKafka(topics={"orders": 10}) as kafka:
        seen = Collector()
        with tree(kafka, producer={"topic": "orders"}, consumer=consumer("orders", seen)) as shop:
            for number in range(10):
                messages = [f"{number}-{i}" for i in range(2000)]
                thread, result = in_background(
                    lambda messages=messages, number=number: shop.produce(
                        "orders", messages, partition=number
                    )
                )
                time.sleep(0.001 * number)
                if (ref := shop.producer("orders", number)) is not None:
                    process.exit(ref, "kill")
                thread.join(SOON)
                assert not thread.is_alive()
                [answer] = result
                if answer is not None:
                    assert isinstance(answer, ProduceError)
                    assert answer.sent + len(answer.failed) == 2000
                    sure = set(messages) - set(answer.failed)
                else:
                    sure = set(messages)
                wait_until(lambda sure=sure: {s.encode() for s in sure} <= set(seen.values()))


def test_a_stopped_producer_waits_for_what_is_under_way():
    """Its callers hear how it went, when brokers answer in time."""
    with EmbeddedKafka(topics={"orders": 1}) as kafka:
        kafka.set_latency(None, 0.0)
        with tree(kafka, producer={"topic": "orders"}) as shop:
            shop.produce("orders", "warm")
            kafka.set_latency(None, 0.5)
            thread, result = in_background(lambda: shop.produce("orders", "a"))
            wait_until(lambda: under_way(shop) == 1)
            process.exit(shop.producer("orders"), "shutdown")
            thread.join(SOON)
            assert result == [None]


def test_a_batch_that_nobody_waits_for_any_more_is_not_begun():
    """Past its deadline its caller was told that it failed."""
    with EmbeddedKafka(topics={"orders": 1}) as kafka:
        seen = Collector()
        with tree(kafka, producer={"topic": "orders"}, consumer=consumer("orders", seen)) as shop:
            Supervisor.terminate_child(shop.name, "client")
            wait_until(lambda: not attached(shop))
            thread, result = in_background(lambda: shop.produce("orders", "late", timeout=0.2))
            thread.join(SOON)
            assert result[0].reason == "timeout"
            Supervisor.restart_child(shop.name, "client")
            wait_until(lambda: attached(shop))
            shop.produce("orders", "next")
            assert seen.wait_for(1) == [b"next"]
            assert under_way(shop) == 0


def test_a_request_that_nobody_knows_ends_it_loudly(embedded, new_topic):
    """The caller hears which one, and the partition gets another Producer."""
    topic = new_topic(embedded)
    with tree(embedded, producer={"topic": topic}) as shop:
        old = shop.producer(topic)
        with pytest.raises(CallExit) as caught:
            call(old, "nonsense", 5.0)
        assert "unknown_request" in repr(caught.value.reason)
        shop.another(lambda: shop.producer(topic), old)
        shop.produce(topic, "a")


def test_a_request_shows_no_message():
    """Crash reports show requests, and nobody's business should stand in them."""
    batch = Batch(0, records_of([("secret", "secret")]), [0])
    assert repr(Deliver(batch, clock.now())) == "<Deliver 1 messages>"
