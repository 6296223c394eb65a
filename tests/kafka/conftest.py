"""The brokers that the Kafka tests share; each test uses topics of its own."""

from __future__ import annotations

import itertools
import os
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from elsa_actors.kafka.apache import ApacheKafka
from elsa_actors.kafka.embedded import EmbeddedKafka

ENDPOINTS_VARIABLE = "ELSA_ACTORS_TEST_ENDPOINTS"


@pytest.fixture(scope="session")
def embedded() -> Iterator[EmbeddedKafka]:
    """One embedded broker for all tests; who takes it down, or slows it, makes one of its own."""
    with EmbeddedKafka() as kafka:
        yield kafka


@pytest.fixture
def apache(_apache: Any) -> Iterator[Any]:
    """One Apache Kafka broker for all tests, or the brokers that a variable names.

    Who takes it down starts it again, or makes one of its own (there is no other way to take down
    brokers that are given).
    """
    yield _apache
    if not answers(_apache):
        if isinstance(_apache, ApacheKafka):  # the next test shall have it
            _apache.thaw()
            _apache.start()
        pytest.fail(f"the test left the shared broker without an answer: {_apache!r}")


@pytest.fixture(scope="session")
def _apache() -> Iterator[Any]:
    if endpoints := os.environ.get(ENDPOINTS_VARIABLE):
        yield GivenKafka(endpoints)
    else:
        with ApacheKafka() as kafka:
            yield kafka


@pytest.fixture
def new_topic() -> Callable[..., str]:
    """`new_topic(kafka, partitions=1)` makes a topic and returns its name, used nowhere else."""
    numbers = itertools.count(1)

    def new_topic(kafka: Any, partitions: int = 1) -> str:
        name = f"topic-{next(numbers)}-{uuid.uuid4().hex[:12]}"
        kafka.create_topic(name, partitions)
        return name

    return new_topic


class GivenKafka:
    """Brokers that somebody else runs: topics can be made, and nothing can be broken."""

    def __init__(self, endpoints: str) -> None:
        self.endpoints = endpoints

    def __repr__(self) -> str:
        return f"<GivenKafka {self.endpoints}>"

    def create_topic(self, name: str, partitions: int = 1) -> None:
        self._admin().create_topics([NewTopic(name, partitions)])[name].result(timeout=30)

    def delete_topic(self, name: str) -> None:
        self._admin().delete_topics([name])[name].result(timeout=30)

    def _admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.endpoints, "log_level": 0})


def answers(kafka: Any) -> bool:
    """Whether a broker answers within a few seconds."""
    admin = AdminClient({"bootstrap.servers": kafka.endpoints, "log_level": 0})
    try:
        return bool(admin.list_topics(timeout=5).brokers)
    except KafkaException:
        return False
