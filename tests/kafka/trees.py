"""What the tests of the Kafka processes share: a tree that is stopped, handlers that tell."""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from elsa_actors import Ok, Registry, Supervisor, process
from elsa_actors.kafka import ElsaSupervisor, MessageHandler, produce, producers_ready

SOON = 15.0
"""How long a test waits for what must happen: long, since machines are busy."""

_numbers = itertools.count(1)


def wait_until(condition: Callable[[], Any], seconds: float = SOON, what: str = "") -> Any:
    """Wait until the condition is true, and return what it gave; an AssertionError when late."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what or condition!r}"
        time.sleep(0.005)
    return value


def librdkafka_threads() -> int:
    """How many threads of librdkafka clients run in this program, an embedded broker's included."""
    names = []
    for task in Path("/proc/self/task").iterdir():
        try:
            names.append((task / "comm").read_text().strip())
        except OSError:
            continue  # It has just ended.
    return sum(name.startswith("rdk:") for name in names)


def settled_librdkafka_threads() -> int:
    """How many there are when no more come: a new broker is still starting its own."""
    count, since = librdkafka_threads(), time.monotonic()
    while time.monotonic() < since + 0.2:
        time.sleep(0.01)
        if (now := librdkafka_threads()) != count:
            count, since = now, time.monotonic()
    return count


@contextmanager
def no_new_librdkafka_threads(seconds: float = SOON) -> Iterator[None]:
    """When the block is over, so are the librdkafka clients that were made in it."""
    before = settled_librdkafka_threads()
    yield
    wait_until(lambda: librdkafka_threads() <= before, seconds, "librdkafka's threads are left")


@dataclass
class Collector:
    """Keeps what handlers were given, and decides what they do: give it as handler_init_args.

    ``answer`` is what `handle_messages` answers, or a function of the handler and the messages,
    which may block or raise; ``on_init`` a function of the handler.
    """

    answer: Any = "ack"
    on_init: Callable[[Any], Any] | None = None
    messages: list[Any] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    started: list[tuple[str, int]] = field(default_factory=list)
    ended: list[tuple[int, Any]] = field(default_factory=list)
    calls: list[tuple[float, int]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def values(self, partition: int | None = None) -> list[Any]:
        """The values that were handled, in order; of one partition or all."""
        with self.lock:
            seen = list(self.messages)
        return [m.value for m in seen if partition is None or m.partition == partition]

    def offsets(self, partition: int = 0) -> list[int]:
        with self.lock:
            return [m.offset for m in self.messages if m.partition == partition]

    def wait_for(self, count: int, seconds: float = SOON) -> list[Any]:
        """Wait until so many messages were handled; returns their values."""
        wait_until(
            lambda: len(self.messages) >= count,
            seconds,
            f"{count} messages handled; {len(self.messages)} were",
        )
        return self.values()


class Collecting(MessageHandler):
    """The handler of a Collector."""

    def init(self, args: Any) -> Any:
        self.collector: Collector = args
        with args.lock:
            args.started.append((self.topic, self.partition))
        if args.on_init is not None:
            answer = args.on_init(self)
            if answer is not None:
                return answer
        return Ok(None)

    def handle_messages(self, messages: list[Any]) -> Any:
        collector = self.collector
        with collector.lock:
            collector.calls.append((time.monotonic(), self.partition))
        answer = collector.answer
        if callable(answer):
            answer = answer(self, messages)
        # What raises has handled nothing.
        with collector.lock:
            collector.messages.extend(messages)
            collector.batches.append(len(messages))
        return answer

    def terminate(self, reason: Any) -> None:
        with self.collector.lock:
            self.collector.ended.append((self.partition, reason))


def consumer(topic: str, collector: Collector, **options: Any) -> dict[str, Any]:
    """The `consumer` options of a Collector."""
    return {"topic": topic, "handler": Collecting, "handler_init_args": collector, **options}


def new_name() -> str:
    """The name of a connection that nothing else has."""
    return f"shop-{next(_numbers)}-{uuid.uuid4().hex[:6]}"


@dataclass
class Tree:
    """A running ElsaSupervisor, and what tests ask of it."""

    connection: str
    name: str
    ref: Any

    def holder(self, *key: Any) -> Any:
        """The process that the registry has under a key, None when there is none."""
        registry = ElsaSupervisor.registry(self.connection)
        try:
            return Registry.whereis_name((registry, key[0] if len(key) == 1 else key))
        except LookupError:
            return None

    def producer(self, topic: str, partition: int = 0) -> Any:
        return self.holder("producer", topic, partition)

    def worker(self, topic: str, partition: int = 0) -> Any:
        return self.holder("worker", None, topic, partition)

    def kafka_consumer(self) -> Any:
        return self.holder("consumer", None)

    def client(self) -> Any:
        return self.holder("client")

    def child(self, child_id: str) -> Any:
        """The process of one of the ElsaSupervisor's children now; None when it is down."""
        for child in Supervisor.which_children(self.name):
            if child.id == child_id:
                return child.child if process.is_alive(child.child) else None
        raise AssertionError(f"no child {child_id!r}")

    def kill(self, ref: Any) -> Any:
        """Kill a process, and wait until it is dead."""
        assert ref is not None
        process.exit(ref, "kill")
        wait_until(lambda: not process.is_alive(ref), what=f"{ref!r} dead")
        return ref

    def produce(self, topic: str, messages: Any, **options: Any) -> None:
        produce(self.connection, topic, messages, **{"timeout": 20.0, **options})

    def another(self, find: Callable[[], Any], old: Any) -> Any:
        """Wait until there is a process other than the old one; returns it."""
        return wait_until(
            lambda: (now := find()) is not None and now is not old and now, what=f"after {old!r}"
        )


@contextmanager
def tree(kafka: Any, ready: bool = True, **options: Any) -> Iterator[Tree]:
    """An ElsaSupervisor at these brokers, stopped at the end; ``ready`` waits for its producers.

    Not linked to anything: it is started from a thread that is no process.
    """
    options.setdefault("endpoints", kafka if isinstance(kafka, str) else kafka.endpoints)
    connection = options.setdefault("connection", new_name())
    name = options.setdefault("name", f"{connection}-tree")
    ref = ElsaSupervisor.start_link(**options)
    try:
        if ready and options.get("producer"):
            producers_ready(connection, SOON)
        yield Tree(connection, name, ref)
    finally:
        if (running := process.whereis(name)) is not None:
            Supervisor.stop(running, timeout=60.0)


def stays(condition: Callable[[], Any], seconds: float = 0.3) -> bool:
    """Whether the condition is true now and for so long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not condition():
            return False
        time.sleep(0.005)
    return True
