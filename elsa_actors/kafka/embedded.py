"""Run librdkafka's own in-process broker, which can be made to fail at will."""

from __future__ import annotations

import ctypes
import os
import re
import threading
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from confluent_kafka import KafkaError

from elsa_actors.kafka.errors import nearest
from elsa_actors.kafka.librdkafka import library
from elsa_actors.runtime.errors import ElsaError

_PRODUCER = 0  # of rd_kafka_type_t; the cluster needs some client to belong to
_ALL, _NOBODY = -1, -1  # in the place of a broker's number
_ERRSTR = 512
_DEFAULT_REPLICAS = 3

# What a client takes to come back after its connection was closed, roughly.
_RECONNECT = 2.0

# Longer than any client waits, and small enough for a C int in microseconds.
_FROZEN_MS = 2_000_000

_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")

# The requests that the broker answers.
_API_KEYS = {
    "Produce": 0,
    "Fetch": 1,
    "ListOffsets": 2,
    "Metadata": 3,
    "OffsetCommit": 8,
    "OffsetFetch": 9,
    "FindCoordinator": 10,
    "JoinGroup": 11,
    "Heartbeat": 12,
    "LeaveGroup": 13,
    "SyncGroup": 14,
    "ListGroups": 16,
    "ApiVersions": 18,
    "InitProducerId": 22,
    "OffsetForLeaderEpoch": 23,
    "AddPartitionsToTxn": 24,
    "AddOffsetsToTxn": 25,
    "EndTxn": 26,
    "TxnOffsetCommit": 28,
    "ConsumerGroupHeartbeat": 68,
    "GetTelemetrySubscriptions": 71,
    "PushTelemetry": 72,
    "ShareGroupHeartbeat": 76,
    "ShareFetch": 78,
    "ShareAcknowledge": 79,
}


def check_topics(topics: Any) -> dict[str, int]:
    """Topics and their number of partitions, checked. Raises ElsaError."""
    if topics is None:
        return {}
    if not isinstance(topics, Mapping):
        raise ElsaError(
            ("invalid_topics", topics),
            "expected topics to be names and their partitions, like {'orders': 8},"
            f" got: {topics!r}",
        )
    for name, partitions in topics.items():
        check_topic(name, partitions)
    return dict(topics)


def check_topic(name: Any, partitions: Any) -> None:
    """Refuse by ElsaError what Kafka would not take as a topic and its number of partitions."""
    if not isinstance(name, str) or not _TOPIC.fullmatch(name) or name in {".", ".."}:
        raise ElsaError(
            ("invalid_topic", name),
            "expected a topic's name of 1 to 249 letters, digits, dots, underscores and hyphens,"
            f" got: {name!r}",
        )
    if not is_count(partitions) or partitions < 1:
        raise ElsaError(
            ("invalid_partitions", partitions),
            f"expected the partitions of {name!r} to be an int (1 or more), got: {partitions!r}",
        )


def check_brokers(brokers: Any) -> int:
    """The number of brokers to start. Raises ElsaError."""
    if not is_count(brokers) or brokers < 1:
        raise ElsaError(
            ("invalid_brokers", brokers),
            f"expected brokers to be an int (1 or more), got: {brokers!r}",
        )
    return int(brokers)


def check_broker(n: Any, brokers: int) -> Iterable[int]:
    """The brokers that ``n`` means: itself, or all for None. Raises ElsaError."""
    if n is None:
        return range(brokers)
    if not is_count(n) or not 0 <= n < brokers:
        raise ElsaError(
            ("unknown_broker", n),
            f"expected n to be a broker from 0 to {brokers - 1}, or None for all, got: {n!r}",
        )
    return [n]


def is_count(value: Any) -> bool:
    """Whether it is an int, and no bool."""
    return isinstance(value, int) and not isinstance(value, bool)


class EmbeddedKafka:
    """A cluster of ``brokers`` brokers inside this process, on loopback ports chosen for you.

    It speaks Kafka's protocol to every client in this process and in others, needs nothing
    installed and keeps nothing: its topics die with it. It is there while the ``with`` block runs;
    a second block starts an empty one on other ports. All its functions return when the change is
    made, may be called from any thread, and raise ElsaError for a wrong argument, outside of the
    block, and in a forked child. Brokers are counted from 0; ``n=None`` means all.

        with EmbeddedKafka(topics={"orders": 8}) as kafka:
            produce(kafka.endpoints, "orders", "a coffee")

    It is no Apache Kafka: a topic that a client asks for is made by that, with 4 partitions;
    partitions get no other leader when theirs goes down (``set_leader`` does that); a topic cannot
    be made through the protocol; aborted transactions are read. ``ApacheKafka`` is the real thing.
    """

    def __init__(self, brokers: int = 1, topics: Mapping[str, int] | None = None) -> None:
        self._brokers = check_brokers(brokers)
        self._topics = check_topics(topics)
        self._lock = threading.RLock()
        self._client: Any = None
        self._cluster: Any = None
        self._endpoints = ""
        self._pid = 0
        self._down: set[int] = set()
        self._frozen: set[int] = set()
        self._latency: dict[int, float] = {}

    def __repr__(self) -> str:
        if self._cluster is None:
            return "<EmbeddedKafka not running>"
        parts = [self._endpoints]
        for word, brokers in (("down", self._down), ("frozen", self._frozen)):
            if brokers:
                parts.append(f"{word}: {', '.join(map(str, sorted(brokers)))}")
        return f"<EmbeddedKafka {'; '.join(parts)}>"

    def __enter__(self) -> Self:
        if self._cluster is not None:
            raise ElsaError(
                "running", f"{self!r} is already running; make another EmbeddedKafka for another"
            )
        lib = library()
        why = ctypes.create_string_buffer(_ERRSTR)
        conf = lib.rd_kafka_conf_new()
        # Its clients log what they see; what the broker itself says goes to stderr, so nothing.
        lib.rd_kafka_conf_set(conf, b"log_level", b"0", why, _ERRSTR)
        client = lib.rd_kafka_new(_PRODUCER, conf, why, _ERRSTR)
        if not client:
            lib.rd_kafka_conf_destroy(conf)
            raise _not_started(why.value.decode(errors="replace"))
        cluster = lib.rd_kafka_mock_cluster_new(client, self._brokers)
        if not cluster:
            lib.rd_kafka_destroy(client)
            raise _not_started("no sockets could be opened")
        self._pid = os.getpid()
        self._client, self._cluster = client, cluster
        self._endpoints = lib.rd_kafka_mock_cluster_bootstraps(cluster).decode()
        self._down, self._frozen, self._latency = set(), set(), {}
        # The first member of a group need not wait 3 s for others.
        self._call("group_initial_rebalance_delay_ms", 0)
        try:
            for name, partitions in self._topics.items():
                self.create_topic(name, partitions)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._pid != os.getpid():
            return  # a forked child has the pointers, and none of the threads behind them
        with self._lock:
            client, cluster = self._client, self._cluster
            self._client = self._cluster = None
            if cluster is not None:
                library().rd_kafka_mock_cluster_destroy(cluster)
                library().rd_kafka_destroy(client)

    @property
    def endpoints(self) -> str:
        """Where clients find it: ``"127.0.0.1:40001,127.0.0.1:40002"``. Valid in children too."""
        if self._cluster is None:
            raise _not_running()
        return self._endpoints

    # ---- topics

    def create_topic(self, name: str, partitions: int = 1) -> None:
        """Make a topic, replicated to three brokers where there are three.

        Raises ElsaError ("topic_already_exists") when it is there.
        """
        check_topic(name, partitions)
        replicas = min(self._brokers, _DEFAULT_REPLICAS)
        self._try(name, "topic_create", name.encode(), partitions, replicas)

    def delete_topic(self, name: str) -> None:
        """Delete a topic and its messages. A producer that still writes to it makes it again.

        Raises ElsaError ("unknown_topic") when it is not there.
        """
        check_topic(name, 1)
        self._try(name, "topic_delete", name.encode())

    def set_leader(self, topic: str, partition: int, n: int | None) -> None:
        """Have broker ``n`` lead a partition; None leaves it without a leader.

        A topic that is not there is made, with 4 partitions.
        """
        check_topic(topic, 1)
        if not is_count(partition) or not 0 <= partition < 2**31:
            raise ElsaError(
                ("invalid_partition", partition),
                f"expected partition to be an int (0 or more), got: {partition!r}",
            )
        leader = _NOBODY if n is None else self._one(n)
        where = (topic, partition)
        self._try(where, "partition_set_leader", topic.encode(), partition, leader)

    def set_coordinator(self, group: str, n: int) -> None:
        """Have broker ``n`` coordinate a consumer group."""
        self._try(group, "coordinator_set", b"group", _text("group", group), self._one(n))

    def set_transaction_coordinator(self, transactional_id: str, n: int) -> None:
        """Have broker ``n`` coordinate the transactions of a ``transactional.id``."""
        key = _text("transactional_id", transactional_id)
        self._try(transactional_id, "coordinator_set", b"transaction", key, self._one(n))

    # ---- faults

    def stop(self, n: int | None = None) -> None:
        """Take a broker down: its connections are closed, and no new ones accepted."""
        meant = self._meant(n)
        with self._lock:
            for broker in meant:
                self._try(broker, "broker_set_down", broker + 1)
                self._down.add(broker)

    def kill(self, n: int | None = None) -> None:
        """The same as stop: a broker that keeps nothing has nothing to put in order first."""
        self.stop(n)

    def start(self, n: int | None = None) -> None:
        """Bring a broker up again, on its old port and with its messages."""
        meant = self._meant(n)
        with self._lock:
            for broker in meant:
                self._try(broker, "broker_set_up", broker + 1)
                self._down.discard(broker)

    def freeze(self, n: int | None = None) -> None:
        """Let a broker fall silent: it accepts connections and requests, and answers none.

        Unlike a process that is stopped it still carries requests out: a message produced now is
        written, and its producer does not hear of it before ``thaw``.
        """
        meant = self._meant(n)
        with self._lock:
            for broker in meant:
                self._set_rtt(broker, _FROZEN_MS)
                self._frozen.add(broker)

    def thaw(self, n: int | None = None) -> None:
        """Let a frozen broker give all its answers; it closes its connections after that."""
        meant = self._meant(n)
        with self._lock:
            for broker in meant:
                if broker in self._frozen:
                    self._set_rtt(broker, _milliseconds(self._latency.get(broker, 0.0)))
                    self._frozen.discard(broker)
                    self._reconnect(broker)

    def set_latency(self, n: int | None, seconds: float) -> None:
        """Have each answer of a broker come ``seconds`` later, at most 1,000; 0.0 is the normal.

        When it becomes shorter by more than 2 s, the broker closes its connections.
        """
        _check_latency(seconds)
        meant = self._meant(n)
        with self._lock:
            for broker in meant:
                before = self._latency.get(broker, 0.0)
                self._latency[broker] = seconds
                if broker not in self._frozen:
                    self._set_rtt(broker, _milliseconds(seconds))
                    if before - seconds > _RECONNECT:
                        self._reconnect(broker)

    def push_errors(self, api: str | int, *codes: str | int) -> None:
        """Fail the next requests of a kind, one with each of ``codes``, in their order.

        ``api`` is the request as the protocol calls it ("Produce", "OffsetCommit", ...) or its
        number, each of ``codes`` the name of a broker's error in ``confluent_kafka.KafkaError``
        ("NOT_LEADER_FOR_PARTITION") or its number. "NO_ERROR" lets one request through,
        "_TRANSPORT" closes the connection instead of answering.

            kafka.push_errors("Produce", "NOT_LEADER_FOR_PARTITION", "NO_ERROR", "_TRANSPORT")
        """
        key = _api_key(api)
        numbers = [_error_code(code) for code in codes]
        if not numbers:
            raise ElsaError(
                "no_codes", "expected at least one error to push, like 'NOT_LEADER_FOR_PARTITION'"
            )
        array = (ctypes.c_int * len(numbers))(*numbers)
        self._call("push_request_errors_array", key, len(numbers), array)

    def clear_errors(self, api: str | int) -> None:
        """Forget the errors that were pushed on a kind of request and not met yet."""
        self._call("clear_request_errors", _api_key(api))

    def _set_rtt(self, broker: int, milliseconds: int) -> None:
        self._try(broker, "broker_set_rtt", broker + 1, milliseconds)

    def _reconnect(self, broker: int) -> None:
        """Close a broker's connections.

        Each has one timer for its next late answer, and a shorter wait does not shorten it: the
        next one would wait for it, for ever after a freeze.
        """
        if broker not in self._down:
            self._try(broker, "broker_set_down", broker + 1)
            self._try(broker, "broker_set_up", broker + 1)

    # ---- calls

    def _meant(self, n: int | None) -> Iterable[int]:
        self._check_running()
        return check_broker(n, self._brokers)

    def _one(self, n: int) -> int:
        """librdkafka's id of a broker."""
        if n is None:
            raise ElsaError(
                ("unknown_broker", n),
                f"expected n to be a broker from 0 to {self._brokers - 1}, got: None",
            )
        [broker] = check_broker(n, self._brokers)
        return broker + 1

    def _try(self, subject: Any, function: str, *arguments: Any) -> None:
        """Call a function that answers an error code."""
        if code := self._call(function, *arguments):
            name, text = KafkaError(code).name(), KafkaError(code).str()
            reason = "unknown_topic" if name == "UNKNOWN_TOPIC_OR_PART" else name.lower()
            raise ElsaError((reason, subject), f"{subject!r}: {text} ({function})")

    def _check_running(self) -> None:
        # First the fork: the child's lock may be one that nobody will ever release.
        if self._pid not in (0, os.getpid()):
            raise ElsaError(
                "fork",
                "this EmbeddedKafka was started before a fork and lives in the parent; control it"
                " there, or start another in the child",
            )
        if self._cluster is None:
            raise _not_running()

    def _call(self, function: str, *arguments: Any) -> Any:
        """Call a control function; one on a cluster that is gone would end the program."""
        self._check_running()
        with self._lock:
            self._check_running()
            return getattr(library(), f"rd_kafka_mock_{function}")(self._cluster, *arguments)


def _api_key(api: str | int) -> int:
    if isinstance(api, str):
        if api in _API_KEYS:
            return _API_KEYS[api]
    elif is_count(api) and 0 <= api < 2**15:
        return api
    raise ElsaError(
        ("unknown_api", api),
        f"expected a request like 'Produce', or its number, got: {api!r}{nearest(api, _API_KEYS)}",
    )


def _error_code(code: str | int) -> int:
    known = {name: getattr(KafkaError, name) for name in dir(KafkaError) if name.isupper()}
    if isinstance(code, str):
        if isinstance(known.get(code), int):
            return int(known[code])
    elif is_count(code) and -(2**15) <= code < 2**15:
        return code
    raise ElsaError(
        ("unknown_error", code),
        "expected an error like 'NOT_LEADER_FOR_PARTITION' of confluent_kafka.KafkaError, or its"
        f" number, got: {code!r}{nearest(code, known)}",
    )


def _text(name: str, value: Any) -> bytes:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ElsaError((f"invalid_{name}", value), f"expected {name} to be a text, got: {value!r}")
    return value.encode()


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _check_latency(seconds: Any) -> None:
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not number or not 0 <= seconds <= 1_000:
        raise ElsaError(
            ("invalid_latency", seconds),
            f"expected seconds to be a number from 0 to 1,000, got: {seconds!r}",
        )


def _not_started(why: str) -> ElsaError:
    return ElsaError("not_started", f"librdkafka could not start its broker: {why}")


def _not_running() -> ElsaError:
    return ElsaError(
        "not_running",
        "this EmbeddedKafka is not running; it runs inside of `with EmbeddedKafka(...) as kafka:`",
    )
