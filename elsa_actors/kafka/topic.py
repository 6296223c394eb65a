"""Create, delete and list topics, in single calls that need no tree.

The original: https://hexdocs.pm/elsa/Elsa.Topic.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, NoReturn

from confluent_kafka import KafkaError as DriverError
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from elsa_actors.kafka.config import check_topic, names_connection, parse_endpoints
from elsa_actors.kafka.driver import (
    POLL_SECONDS,
    Trouble,
    close_in_time,
    in_librdkafka,
    new_client,
)
from elsa_actors.kafka.errors import ConfigError, KafkaError, error_of, reason_of, unknown_topic
from elsa_actors.runtime import process
from elsa_actors.runtime.clock import clock
from elsa_actors.runtime.scheduler import check_fork
from elsa_actors.runtime.waiting import check_timeout

TIMEOUT_SECONDS = 10.0
CONTROLLER_SECONDS = 3.0
"""So long a cluster may be without a controller: one is elected when the last one is lost."""
_FIRST_SECONDS = 1.0
"""How long the first answer is waited for: it may be lost; the next ones twice as long each."""
_MOST_SECONDS = 10.0  # A killed process shall end soon.
_LONGEST_SECONDS = 3600.0  # librdkafka's
LOOK_AGAIN_SECONDS = 0.05

OURS = {
    # A broker that comes up within the call's time is found then.
    "reconnect.backoff.ms": 50,
    "reconnect.backoff.max.ms": 500,
}
"""The configuration of a client that lives as long as one call."""

REFUSED = ("not_authenticated", "not_authorized")
"""What asking again does not help against."""

INTERNAL = frozenset(
    {
        "__consumer_offsets",
        "__transaction_state",
        "__share_group_state",
        "__cluster_metadata",
        "__remote_log_metadata",
    }
)
"""Kafka's own topics, which it makes by itself."""


# ---- the calls


def create_topic(
    endpoints: Any,
    topic: str,
    partitions: int = 1,
    replicas: int = 1,
    config: Mapping[str, str | int | float | bool] | None = None,
    timeout: float | None = None,
) -> None:
    """Create a topic; returns when each of its partitions has a leader.

    ``config`` are the topic's own settings, like ``{"retention.ms": 60_000}``. Blocks up to
    ``timeout`` seconds, None means 10. Raises KafkaError: ``("topic_exists", topic)``,
    "no_broker" when none answers, "no_controller" when the brokers have none (`EmbeddedKafka`: use
    its own `create_topic`), "timeout" when it is not ready in time, though it may be there later;
    and what the broker refuses, in its words. ConfigError for arguments that cannot be right.

        create_topic("localhost:9092", "orders", partitions=8, config={"cleanup.policy": "compact"})
    """
    check_topic(topic, "create_topic")
    _check_count("partitions", partitions)
    _check_count("replicas", replicas)
    settings = _settings(config)
    with _asking(endpoints, timeout) as brokers:
        brokers.await_controller()
        new = NewTopic(topic, partitions, replicas, config=settings)
        error = brokers.ask(
            lambda admin, seconds: admin.create_topics(
                [new], operation_timeout=seconds, request_timeout=seconds
            )[topic]
        )
        if error is not None and error.code() == DriverError.TOPIC_ALREADY_EXISTS:
            raise KafkaError(
                ("topic_exists", topic),
                f"topic {topic!r} is there already; delete_topic(endpoints, {topic!r}) removes it"
                " and its messages",
            )
        if error is not None:
            raise error_of(error, f"could not create topic {topic!r}")
        while not _is_ready(brokers.topics().get(topic), partitions):
            brokers.look_again(
                f"topic {topic!r} was created, and has not a leader for each of its {partitions}"
                " partitions yet; are all brokers up?"
            )


def delete_topic(endpoints: Any, topic: str, timeout: float | None = None) -> None:
    """Delete a topic and its messages; returns when the brokers know it no more.

    Blocks up to ``timeout`` seconds, None means 10. Raises KafkaError: ``("unknown_topic",
    topic)``, "no_broker", "no_controller" and "timeout" as `create_topic` does, and what the broker
    refuses.
    """
    check_topic(topic, "delete_topic")
    with _asking(endpoints, timeout) as brokers:
        known = brokers.topics()
        if topic not in known:
            raise unknown_topic(topic, known)
        brokers.await_controller()
        error = brokers.ask(
            lambda admin, seconds: admin.delete_topics(
                [topic], operation_timeout=seconds, request_timeout=seconds
            )[topic]
        )
        if error is not None and error.code() == DriverError.UNKNOWN_TOPIC_OR_PART:
            raise unknown_topic(topic, brokers.topics(), is_needed=False)
        if error is not None:
            raise error_of(error, f"could not delete topic {topic!r}")
        while topic in brokers.topics():
            brokers.look_again(f"topic {topic!r} is being deleted, and still there")


def list_topics(endpoints: Any, timeout: float | None = None) -> list[tuple[str, int]]:
    """The topics and how many partitions each has, by name.

    Kafka's own, like ``__consumer_offsets``, are left out. Blocks up to ``timeout`` seconds, None
    means 10; raises KafkaError "no_broker" when none answers.
    """
    with _asking(endpoints, timeout) as brokers:
        return sorted(
            (name, len(found.partitions))
            for name, found in brokers.topics().items()
            if name not in INTERNAL
        )


def topic_exists(endpoints: Any, topic: str, timeout: float | None = None) -> bool:
    """Whether there is such a topic; asking never creates it.

    Blocks up to ``timeout`` seconds, None means 10; raises KafkaError "no_broker" when none
    answers, ConfigError for a name that no topic can have.
    """
    check_topic(topic, "topic_exists")
    with _asking(endpoints, timeout) as brokers:
        return topic in brokers.topics()


# ---- what a caller gives


def endpoints_of(endpoints: Any) -> str:
    """The endpoints as librdkafka wants them; these calls take no connection's name."""
    if names_connection(endpoints):
        raise ConfigError(
            ("bad_endpoints", endpoints),
            f"expected endpoints, for example 'localhost:9092' or ['localhost:9092'],"
            f" got: {endpoints!r}; without a port it would be the name of a connection, and this"
            " call makes one of its own",
        )
    return parse_endpoints(endpoints)


def seconds_of(timeout: float | None, default: float) -> float:
    """A call's timeout, checked; None is the default."""
    check_timeout(timeout)
    return default if timeout is None else float(timeout)


def _check_count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        _refuse(name, value, "a whole number, 1 or more")


def _settings(config: Any) -> dict[str, str]:
    if config is None:
        return {}
    if not isinstance(config, Mapping):
        _refuse("config", config, "a dictionary of the topic's settings, or None")
    for key, value in config.items():
        if not isinstance(key, str):
            _refuse("config", key, "text as each key")
        if not isinstance(value, str | int | float):
            _refuse(key, value, "text, a number or a boolean")
    return {key: _text(value) for key, value in config.items()}


def _text(value: str | int | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _refuse(name: str, value: Any, expected: str) -> NoReturn:
    raise ConfigError(
        ("bad_value", name, value),
        f"create_topic: expected {name} to be {expected}, got: {value!r}",
    )


# ---- asking the brokers


class ShortLived:
    """A librdkafka client that lives as long as one call."""

    def __init__(self, make: Callable[[dict[str, Any]], Any], endpoints: str, config: Any) -> None:
        check_fork()
        self.endpoints = endpoints
        self.trouble = Trouble(endpoints, quiet=True)
        # Only here, and never a local variable or an argument: the frames that an error keeps would
        # keep an AdminClient, which has no close and ends with the last reference to it.
        self.driver: Any = new_client(make, endpoints, (OURS, config), self.trouble)

    def metadata(self, deadline: float) -> Any:
        """All that the brokers say of themselves and their topics.

        The whole list: to ask for one topic may create it. Raises KafkaError "no_broker" when none
        has answered until the deadline.
        """
        began = clock.now()
        try:
            return self.answer(lambda seconds: self.driver.list_topics(timeout=seconds), deadline)
        except KafkaException as raised:
            error = raised.args[0]
        if reason_of(error) in REFUSED:
            raise error_of(error, "could not list topics")
        self.driver.poll(0)  # Why, is told by a callback.
        raise KafkaError(
            "no_broker",
            f"no broker of {self.endpoints} answered within {clock.now() - began:.1f} s:"
            f" {self.trouble.last or error.str()}",
        )

    def answer(self, ask: Callable[[float], Any], deadline: float) -> Any:
        """Ask, for some seconds each time, until somebody answers.

        Raises the last KafkaException at the deadline, or when asking again does not help.
        """
        patience = _FIRST_SECONDS
        while True:
            seconds = max(min(deadline - clock.now(), patience), 0.01)
            try:
                with in_librdkafka():
                    return ask(seconds)
            except KafkaException as raised:
                if reason_of(raised.args[0]) in REFUSED or clock.now() >= deadline:
                    raise
            process.sleep(LOOK_AGAIN_SECONDS)
            patience = min(2 * patience, _MOST_SECONDS)

    def partitions(self, topic: str, deadline: float) -> list[int]:
        """The numbers of a topic's partitions; KafkaError when it is unknown, as `metadata`."""
        topics = self.metadata(deadline).topics
        if topic not in topics:
            raise unknown_topic(topic, topics)
        if topics[topic].error is not None:
            raise error_of(topics[topic].error, f"could not ask for topic {topic!r}")
        return sorted(topics[topic].partitions)


@contextmanager
def _asking(endpoints: Any, timeout: float | None) -> Iterator[_Brokers]:
    brokers = _Brokers(endpoints_of(endpoints), seconds_of(timeout, TIMEOUT_SECONDS))
    try:
        yield brokers
    finally:
        brokers.close()


class _Brokers(ShortLived):
    """The brokers as an admin client reaches them."""

    def __init__(self, endpoints: str, timeout: float) -> None:
        super().__init__(AdminClient, endpoints, {})
        self.deadline = clock.now() + timeout

    def topics(self) -> dict[str, Any]:
        found: dict[str, Any] = self.metadata(self.deadline).topics
        return found

    def await_controller(self) -> None:
        """Wait until the brokers have a controller, which all changes are for."""
        patience = clock.now() + CONTROLLER_SECONDS
        while (known := self.metadata(self.deadline)).controller_id not in known.brokers:
            if clock.now() >= min(patience, self.deadline):
                raise KafkaError(
                    "no_controller",
                    f"the brokers of {self.endpoints} have no controller to change topics; an"
                    " EmbeddedKafka never has one, use its own create_topic and delete_topic",
                )
            process.sleep(LOOK_AGAIN_SECONDS)

    def ask(self, request: Callable[[Any, float], Future[None]]) -> DriverError | None:
        """Have something changed; returns what the brokers have against it."""
        # Errors are returned: what is raised in AdminClient's own frames would keep it alive.
        try:
            left = self.deadline - clock.now()
            future = request(self.driver, min(max(left, 0.01), _LONGEST_SECONDS))
            while True:
                with in_librdkafka():
                    try:
                        future.result(POLL_SECONDS)
                        return None
                    except TimeoutError:
                        pass
        except KafkaException as error:
            answer: DriverError = error.args[0]
            return answer

    def look_again(self, problem: str) -> None:
        """Wait a moment; KafkaError "timeout" with this problem when there is no time left."""
        if clock.now() >= self.deadline:
            raise KafkaError("timeout", problem)
        process.sleep(LOOK_AGAIN_SECONDS)

    def close(self) -> None:
        # It ends when nothing refers to it any more.
        last = [self.driver]
        self.driver = None
        close_in_time(last.clear)


def _is_ready(found: Any, partitions: int) -> bool:
    return (
        found is not None
        and len(found.partitions) == partitions
        and all(one.leader >= 0 for one in found.partitions.values())
    )
