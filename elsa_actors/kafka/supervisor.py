"""ElsaSupervisor: the tree of one connection.

The original: https://hexdocs.pm/elsa/Elsa.Supervisor.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from elsa_actors.kafka import connection as connections
from elsa_actors.kafka.client import OURS, Client, check_producer_config
from elsa_actors.kafka.config import (
    HIDDEN,
    POLL_SECONDS,
    ConsumerOptions,
    check_config,
    consumer_options,
    is_same_value,
    is_secret,
    names_connection,
    parse_endpoints,
    producer_config,
    producer_options,
    value_of,
)
from elsa_actors.kafka.connection import Connection, registry_of, via
from elsa_actors.kafka.consumer import SHUTDOWN_SECONDS, Consumer, check_consumer_config
from elsa_actors.kafka.errors import ConfigError, KafkaError, unknown_topic
from elsa_actors.kafka.process_manager import (
    Consuming,
    ProcessManager,
    Producing,
    StartProducer,
    WhenReady,
)
from elsa_actors.otp.backoff import Backoff
from elsa_actors.otp.dynamic_supervisor import DynamicSupervisor
from elsa_actors.otp.gen_server import GenServer, call
from elsa_actors.otp.registry import Registry
from elsa_actors.otp.results import Ok, Supervise
from elsa_actors.otp.supervisor import Supervisor
from elsa_actors.otp.wrapper import Wrapper
from elsa_actors.runtime import process
from elsa_actors.runtime.errors import AlreadyStarted, CallExit, CallTimeout
from elsa_actors.runtime.waiting import check_timeout, deadline_of, remaining

START_PRODUCER_SECONDS = 10.0


class PositionsKeeper(GenServer):
    """Shows operators where the simple consumer's handlers go on; the record itself outlives it."""

    def init(self, connection: str) -> Ok:
        return Ok(connections.find(connection))

    def status(self) -> dict[str, Any]:
        positions = self.state.positions.all()
        return {f"{topic}[{partition}]": offset for (topic, partition), offset in positions.items()}


class ConsumerSupervisor(Supervisor):
    """The simple consumer: its Workers, the Consumer that feeds them, and who starts them."""

    def init(self, connection: Connection, options: ConsumerOptions) -> Supervise:
        name = connection.name
        _outlive(connections.holder(name, ("workers", None)))
        return Supervise(
            [
                _dynamic("workers", via(name, ("workers", None))),
                Consumer.child_spec(name, options) | {"id": "consumer"},
                ProcessManager.child_spec(Consuming(connection, options)) | {"id": "manager"},
            ],
            strategy="one_for_all",
        )


class ElsaSupervisor(Supervisor):
    """Runs a connection's producers and consumer, and starts again what dies of it.

    It starts at once whether there is a broker or not; what needs one waits for it.
    """

    @classmethod
    def start_link(  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        cls,
        *,
        endpoints: Any,
        connection: str,
        name: Any = None,
        timeout: float | None = None,
        config: Mapping[str, Any] | None = None,
        producer: Any = None,
        consumer: Any = None,
    ) -> Any:
        """Start the tree of a connection, linked to the running process.

        ``endpoints`` are the brokers: "host:9092", "host:9092,host2:9092", ["host:9092"],
        [("host", 9092)] or {"host": 9092}. ``connection`` is what `produce` and the others call it.
        ``config`` has librdkafka's keys for all of its clients. ``producer`` is a dictionary or a
        list of them: "topic" and perhaps "poll" (seconds between looks for new partitions, 60) and
        "config". ``consumer`` is a dictionary: "topic" and "handler" (a MessageHandler), and
        perhaps "partition" (None: all), "begin_offset" ("earliest", "latest" or a number),
        "handler_init_args", "poll", "offset_reset_policy" ("reset_to_earliest",
        "reset_to_latest", "stop"), "prefetch_count", "prefetch_bytes", "config".

        Does not wait for a broker. Raises here, and starts nothing: KafkaError for endpoints that
        do not parse, ConfigError (a ValueError) for unknown or wrong options and keys, and
        StartError when the connection is running already.
        """
        record = _record(endpoints, connection, config, producer)
        options = None if consumer is None else consumer_options(consumer)
        if options is not None:
            check_consumer_config(record, options)
        return super().start_link(record, options, name=name, timeout=timeout)

    @classmethod
    def child_spec(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The child spec of a connection's tree; its id is ``name=``, else ``connection=``."""
        spec = super().child_spec(*args, **kwargs)
        if cls.id is None and kwargs.get("name") is None and "connection" in kwargs:
            spec["id"] = kwargs["connection"]
        return spec

    def init(self, record: Connection, options: ConsumerOptions | None) -> Supervise:
        _outlive_the_last(record)
        registry = Registry.child_spec(name=record.registry, keys="unique") | {"id": "registry"}
        owner = connections.enter(record)
        if owner is not None:  # Also while it starts its registry again, and the name is free.
            registry["start"] = (_refuse, [owner])
        name = record.name
        children = [
            registry,
            PositionsKeeper.child_spec(name) | {"id": "positions"},
            Wrapper.child_spec(
                mfa=(Client, "start_link", [name]),
                register=(record.registry, "client"),
                delay=Backoff(min=0.5, max=5.0),
            )
            | {"id": "client"},
            _dynamic("producers", via(name, "producers")),
            ProcessManager.child_spec(Producing(record), name=via(name, "producer_manager"))
            | {"id": "producer_manager"},
        ]
        if options is not None:
            children.append(ConsumerSupervisor.child_spec(record, options) | {"id": "consumer"})
        return Supervise(children, strategy="rest_for_one")

    @staticmethod
    def start_producer(
        connection: str, *, topic: str, poll: float = POLL_SECONDS, config: Any = None
    ) -> list[Any]:
        """Produce to one more topic; returns the refs of its producers' Wrappers, by partition.

        Blocks until the brokers have told how many those are. Raises AlreadyStarted when the topic
        has producers, and KafkaError for an unknown connection or topic, or when no broker answers.
        A connection's producers share one client: ``config`` may only repeat what that has.
        """
        record = connections.find(connection)
        [options] = producer_options({"topic": topic, "poll": poll, "config": config or {}})
        for key, value in options.config.items():
            running = value_of({**OURS, **record.config}, key)
            if not is_same_value(running, value):
                shown = HIDDEN if is_secret(key) else repr(running)
                raise ConfigError(
                    ("contradiction", key),
                    f"connection {connection!r} is running with {key} = {shown};"
                    f" give {key} to its start_link",
                )
        try:
            match call(
                via(connection, "producer_manager"),
                StartProducer(topic, options.poll),
                START_PRODUCER_SECONDS,
            ):
                case ("ok", refs):
                    return list(refs)
                case ("already_started", refs):
                    raise AlreadyStarted(
                        refs[0] if refs else None,
                        f"connection {connection!r} has producers for topic {topic!r} already",
                    )
                case ("unknown_topic", _):
                    raise unknown_topic(topic)
                case ("error", error):
                    raise error
        except CallExit as error:
            raise KafkaError(
                "client_down", f"the producers of connection {connection!r} are being restarted"
            ) from error
        raise AssertionError("the producer manager gave an unknown answer")

    @staticmethod
    def registry(connection: str) -> str:
        """The name of the registry that knows a connection's processes.

        Its keys: "client", ("producer", topic, partition), ("consumer", None), ("worker", None,
        topic, partition), and "producers", ("workers", None), "producer_manager".
        """
        return registry_of(connection)


def producers_ready(connection: str, timeout: float = 10.0) -> None:
    """Wait until every partition that the connection produces to has its producer.

    Returns None, and raises CallTimeout after ``timeout`` seconds, KafkaError for an unknown
    connection. The tree may restart meanwhile.
    """
    check_timeout(timeout)
    connections.find(connection)
    deadline = deadline_of(timeout)
    manager = via(connection, "producer_manager")
    while True:
        try:
            call(manager, WhenReady(), remaining(deadline))
            return
        except CallTimeout:
            raise CallTimeout(manager, WhenReady(), timeout) from None
        except CallExit:
            if not remaining(deadline):
                raise CallTimeout(manager, WhenReady(), timeout) from None
            process.sleep(0.02)


def _record(
    endpoints: Any, connection: Any, config: Mapping[str, Any] | None, producer: Any
) -> Connection:
    """The record of a connection, its options checked."""
    if not names_connection(connection):
        raise ConfigError(
            ("bad_value", "connection", connection),
            f"expected connection to be a name without colon and comma, got: {connection!r}",
        )
    producers = producer_options(producer)
    record = Connection(
        connection,
        parse_endpoints(endpoints),
        producer_config(producers, check_config(config, f"connection {connection!r}")),
    )
    check_producer_config(record.config)
    for options in producers:
        record.producing.add(options.topic)
        record.poll[options.topic] = options.poll
    return record


def _refuse(owner: Any) -> None:
    raise AlreadyStarted(owner)


def _outlive_the_last(record: Connection) -> None:
    """Wait for what is left of a tree of this name whose supervisor was killed.

    Otherwise our own start would fail, again and again within a millisecond.
    """
    _outlive(process.whereis(record.registry))


def _outlive(holder: Any) -> None:
    if holder is not None:
        try:
            connections.outlive(holder, SHUTDOWN_SECONDS)
        except AlreadyStarted:
            pass  # Whoever wants its name says so, when it is not started.


def _dynamic(child_id: str, name: Any) -> dict[str, Any]:
    return DynamicSupervisor.child_spec(name=name) | {"id": child_id}
