"""What a connection is: where its brokers are, and the record that outlives its processes.

One Connection belongs to each ElsaSupervisor. Its processes die and are started again; what should
be producing and consuming, and how far the handlers have come, stands here.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from elsa_actors.kafka.driver import Trouble
from elsa_actors.kafka.errors import unknown_connection
from elsa_actors.otp.registry import Registry, Via
from elsa_actors.runtime import process
from elsa_actors.runtime.errors import AlreadyStarted, NameTaken, ReceiveTimeout
from elsa_actors.runtime.exits import Down


def registry_of(connection: str) -> str:
    """The name of a connection's registry."""
    return f"elsa_registry_{connection}"


def via(connection: str, key: Any) -> Via:
    """The process that a connection's registry has under a key."""
    return Via(registry_of(connection), key)


def holder(connection: str, key: Any) -> Any:
    """The ref that a connection's registry has under a key; None when there is none."""
    try:
        return Registry.whereis_name((registry_of(connection), key))
    except LookupError:
        return None


class Positions:
    """Where each partition's handler goes on: the offset after what it has acknowledged.

    Any thread may ask and tell. What is told stays until the topic is forgotten.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._offsets: dict[tuple[str, int], int] = {}

    def get(self, topic: str, partition: int) -> int | None:
        with self._lock:
            return self._offsets.get((topic, partition))

    def put(self, topic: str, partition: int, offset: int) -> None:
        """Raises ProcessExit in what a dead process left running: its successor may be further."""
        with self._lock:
            process.current()  # Under the lock: who asks after a death gets what was told before.
            self._offsets[topic, partition] = offset

    def forget(self, topic: str, partition: int) -> None:
        with self._lock:
            self._offsets.pop((topic, partition), None)

    def all(self) -> dict[tuple[str, int], int]:
        with self._lock:
            return dict(self._offsets)


class Topics:
    """Which topics have producers, and how many partitions each has as far as we know.

    None: nobody has answered yet. 0: the brokers say that there is no such topic.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._partitions: dict[str, int | None] = {}

    def add(self, topic: str, partitions: int | None = None) -> bool:
        """False when the topic is there already."""
        with self._lock:
            if topic in self._partitions:
                return False
            self._partitions[topic] = partitions
            return True

    def put(self, topic: str, partitions: int) -> None:
        with self._lock:
            if topic in self._partitions:
                self._partitions[topic] = partitions

    def __contains__(self, topic: str) -> bool:
        return topic in self._partitions

    def partitions(self, topic: str) -> int | None:
        return self._partitions.get(topic)

    def all(self) -> dict[str, int | None]:
        with self._lock:
            return dict(self._partitions)


@dataclass(eq=False)
class Connection:
    """A connection's record. ``owner`` is its ElsaSupervisor, once that runs."""

    name: str
    endpoints: str
    config: Mapping[str, Any] = field(repr=False)
    producing: Topics = field(default_factory=Topics)
    poll: dict[str, float] = field(default_factory=dict)
    positions: Positions = field(default_factory=Positions)
    owner: Any = None
    shared: Any = None
    """The librdkafka producer of the Client there is, or was."""

    def __post_init__(self) -> None:
        self.trouble = Trouble(self.name)

    @property
    def registry(self) -> str:
        return registry_of(self.name)


_lock = threading.Lock()
_connections: dict[str, Connection] = {}


def enter(connection: Connection) -> Any:
    """Make the running process, an ElsaSupervisor, the owner of this connection.

    Returns another living owner whose it is already, and stays; None when there is none.
    """
    with _lock:
        present = _connections.get(connection.name)
        if present is not None and process.is_alive(present.owner):
            return present.owner
        connection.owner = process.current()
        _connections[connection.name] = connection
    process.own(connection, _leave)
    return None


def _leave(connection: Connection) -> None:
    with _lock:
        if _connections.get(connection.name) is connection:
            del _connections[connection.name]


def find(name: str) -> Connection:
    """The connection of this name; KafkaError ("unknown_connection", name) when there is none."""
    connection = _connections.get(name)
    if connection is None:
        raise unknown_connection(name, sorted(_connections))
    return connection


# ---- holders that have lost their supervisor


_holders: dict[tuple[str, Any], tuple[Any, Any]] = {}
"""Who has taken a key, and the ElsaSupervisor it belongs to: a registry dies before it does."""


def take_key(connection: str, key: Any, patience: float) -> None:
    """Register the running process; wait for a holder that has lost its supervisor to end.

    Raises AlreadyStarted when the holder is well, or takes longer than ``patience`` seconds.
    """
    place, me = (connection, key), process.current()
    holder, owner = _holders.get(place, (None, None))
    if holder is not None and not process.is_alive(owner):
        _await_end(holder, patience)  # Of a tree that was killed, and busy still.
    _register(registry_of(connection), key, patience)
    record = _connections.get(connection)
    if record is not None:
        taken = _holders[place] = (me, record.owner)
        process.own((place, taken), _forget)


def _forget(entry: tuple[tuple[str, Any], tuple[Any, Any]]) -> None:
    place, taken = entry
    if _holders.get(place) is taken:
        _holders.pop(place, None)


def _register(registry: str, key: Any, patience: float) -> None:
    """Register the running process, once a holder that is an orphan has ended."""
    try:
        Registry.register(registry, key)
    except NameTaken as taken:
        outlive(taken.ref, patience)
        try:
            Registry.register(registry, key)
        except NameTaken as again:
            raise AlreadyStarted(again.ref) from None


def outlive(holder: Any, patience: float) -> None:
    """Wait until a process that has lost its supervisor has ended.

    Raises AlreadyStarted when it has not lost it, or takes longer than ``patience`` seconds.
    """
    if not _is_orphan(holder):
        raise AlreadyStarted(holder)
    _await_end(holder, patience)


def _await_end(holder: Any, patience: float) -> None:
    watch = process.monitor(holder)
    try:
        process.receive(lambda m: isinstance(m, Down) and m.ref is holder, patience)
    except ReceiveTimeout:
        process.demonitor(watch, flush=True)
        raise AlreadyStarted(holder) from None


def _is_orphan(ref: Any) -> bool:
    """Whether the process that started this one is dead, or this one itself."""
    info = process.info(ref)
    return info is None or info["parent"] is None or not process.is_alive(info["parent"])
