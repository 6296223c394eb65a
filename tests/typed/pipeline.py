"""A typed pipeline: what users write for Kafka has types without a cast."""
# ruff: noqa: T201  (an example prints)

from __future__ import annotations

from typing import Any

from elsa_actors import Ok, Supervisor
from elsa_actors.kafka import (
    Ack,
    Consumer,
    ElsaSupervisor,
    EmbeddedKafka,
    Md5,
    Message,
    MessageHandler,
    ProduceError,
    create_topic,
    fetch,
    fetch_stream,
    list_topics,
    produce,
    producers_ready,
    topic_exists,
)


class Booker(MessageHandler):
    def init(self, args: dict[str, int]) -> Ok:
        self.booked = args
        return Ok(0)

    def handle_messages(self, messages: list[Message]) -> str | Ack:
        for message in messages:
            key: bytes | None = message.key
            if key is not None:
                self.booked[key.decode()] = message.offset
        if messages[-1].timestamp is None:
            return Ack(messages[0].offset)
        return "ack"

    def terminate(self, reason: Any) -> None:
        self.booked.clear()


class ByLength:
    def partition(self, count: int, key: bytes | None) -> int:
        return len(key or b"") % count


def run_the_shop(booked: dict[str, int]) -> list[tuple[str, int]]:
    with EmbeddedKafka(topics={"orders": 4}) as kafka:
        endpoints: str = kafka.endpoints
        tree = ElsaSupervisor.start_link(
            endpoints=endpoints,
            connection="shop",
            producer=[{"topic": "orders"}],
            consumer={"topic": "orders", "handler": Booker, "handler_init_args": booked},
        )
        producers_ready("shop", timeout=5.0)
        try:
            produce("shop", "orders", [("ann", "two lamps"), {"key": "bob", "value": None}])
            produce("shop", "orders", b"a chair", partition=0)
            produce(endpoints, "orders", "a table", partitioner=ByLength())
            produce(endpoints, "orders", ("cid", "a bed"), partitioner=Md5, timeout=1.0)
        except ProduceError as error:
            lost: list[Any] = error.failed
            sent: int = error.sent
            print(sent, lost, error.reason)
        Consumer.ack("shop", "orders", 0, None, 7)
        next_offset, messages = fetch(endpoints, "orders", partition=0, offset=0)
        values: list[bytes | None] = [message.value for message in messages]
        for message in fetch_stream(endpoints, "orders", end_offset=next_offset):
            values.append(message.value)
        if not topic_exists(endpoints, "bills"):
            create_topic(endpoints, "bills", partitions=2, config={"retention.ms": 60_000})
        Supervisor.stop(tree)
        return list_topics(endpoints)
