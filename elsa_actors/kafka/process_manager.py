"""ProcessManager: sees to it that every partition has its process, and goes on seeing to it.

The original: https://hexdocs.pm/elsa/Elsa.DynamicProcessManager.html
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import structlog

from elsa_actors.kafka import client
from elsa_actors.kafka import connection as connections
from elsa_actors.kafka.config import ConsumerOptions
from elsa_actors.kafka.connection import Connection, via
from elsa_actors.kafka.errors import KafkaError
from elsa_actors.kafka.producer import Producer
from elsa_actors.kafka.worker import Worker
from elsa_actors.otp.backoff import Backoff
from elsa_actors.otp.dynamic_supervisor import DynamicSupervisor
from elsa_actors.otp.gen_server import GenServer, reply
from elsa_actors.otp.results import Continue, NoReply, Ok, Reply, Stop
from elsa_actors.otp.wrapper import Wrapper
from elsa_actors.runtime import process
from elsa_actors.runtime.clock import Timer, clock
from elsa_actors.runtime.errors import CallExit, StartError
from elsa_actors.runtime.exits import Down

log = structlog.get_logger("elsa_actors")

MISSED_LOOKS = 3
"""A topic that was there counts as deleted when it is missing so often in a row."""
LOOK_AGAIN_SECONDS = 1.0
LEAVING_SECONDS = 12.0
"""How long a process whose partition is gone may take to end: its shutdown time and a bit."""

Key = tuple[str, int]


class Plan(ABC):
    """What a ProcessManager keeps running."""

    supervisor: Any
    """The registry key of the DynamicSupervisor under which the processes stand."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    @abstractmethod
    def topics(self) -> Iterable[str]:
        """The topics whose partitions have a process each."""

    @abstractmethod
    def poll(self) -> float:
        """How often, in seconds, to look for new partitions."""

    @abstractmethod
    def registered(self, key: Key) -> Any:
        """The registry key of a partition's process."""

    @abstractmethod
    def spec(self, key: Key) -> dict[str, Any]:
        """The child spec of a partition's process."""

    def backoff(self) -> Backoff:
        """How long to wait before a partition's process is started again."""
        return Backoff(min=0.1, max=30.0)

    def wanted(self, topic: str, count: int) -> Iterable[int]:
        """Which of a topic's partitions have a process."""
        return range(count)

    def counted(self, topic: str, count: int) -> None:
        """The brokers told how many partitions a topic has; 0: there is no such topic."""
        return

    def deleted(self, key: Key) -> None:
        """A partition is no more, and now its process has ended."""
        return

    def gone(self, topic: str, count: int = 0) -> None:
        """A topic has no more than so many partitions; none: it is deleted."""
        return


class Producing(Plan):
    """A Producer in a Wrapper for each partition of each topic that is produced to."""

    supervisor = "producers"

    def topics(self) -> Iterable[str]:
        return self.connection.producing.all()

    def poll(self) -> float:
        return min(self.connection.poll.values(), default=60.0)

    def registered(self, key: Key) -> Any:
        return ("producer", *key)

    def spec(self, key: Key) -> dict[str, Any]:
        name = self.connection.name
        return {
            "id": key,
            "start": (
                Wrapper,
                "start_link",
                [],
                {
                    "mfa": (Producer, "start_link", [name, *key]),
                    "register": (self.connection.registry, self.registered(key)),
                    "delay": 0.0,  # The ProcessManager waits, longer from death to death.
                },
            ),
            "restart": "temporary",
        }

    def backoff(self) -> Backoff:
        return Backoff(min=0.1, max=5.0)  # Somebody waits for it, in `produce`.

    def counted(self, topic: str, count: int) -> None:
        self.connection.producing.put(topic, count)


class Consuming(Plan):
    """A Worker for each partition of the simple consumer's topic, or for the one it names."""

    supervisor = ("workers", None)

    def __init__(self, connection: Connection, options: ConsumerOptions) -> None:
        super().__init__(connection)
        self.options = options

    def topics(self) -> Iterable[str]:
        return [self.options.topic]

    def poll(self) -> float:
        return self.options.poll

    def registered(self, key: Key) -> Any:
        return ("worker", None, *key)

    def spec(self, key: Key) -> dict[str, Any]:
        return Worker.child_spec(self.connection.name, self.options, *key)

    def wanted(self, topic: str, count: int) -> Iterable[int]:
        partition = self.options.partition
        return range(count) if partition is None else [partition] if partition < count else []

    def deleted(self, key: Key) -> None:
        self.connection.positions.forget(*key)

    def gone(self, topic: str, count: int = 0) -> None:
        # All that is known of it: a ProcessManager before this one may have known more partitions.
        for key in self.connection.positions.all():
            if key[0] == topic and key[1] >= count:
                self.connection.positions.forget(*key)


@dataclass
class Post:
    """One partition's process: who it is now, or when it is tried again."""

    ref: Any = None
    since: float = 0.0
    timer: Timer | None = None
    backoff: Backoff = field(default_factory=Backoff)


@dataclass(frozen=True, slots=True)
class Again:
    """Time to start a partition's process again."""

    key: Key


@dataclass(frozen=True, slots=True)
class Overdue:
    """This process was told to end, and has had its time."""

    ref: Any


@dataclass(frozen=True, slots=True)
class StartProducer:
    topic: str
    poll: float


@dataclass(frozen=True, slots=True)
class WhenReady:
    pass


LOOK = "look"


class ProcessManager(GenServer):
    """Asks for partitions, starts a process for each, and starts again what has died.

    It adopts what a ProcessManager before it has started: nothing runs twice.
    """

    def init(self, plan: Plan) -> Ok:
        self.plan = plan
        self.name = plan.connection.name
        self.posts: dict[Key, Post] = {}
        self.leaving: dict[Any, Key] = {}  # told to end, and busy perhaps
        self.counts: dict[str, int] = {}
        self.missed: dict[str, int] = {}
        self.waits_for_partition: set[str] = set()
        self.looking = Backoff(min=0.1, max=LOOK_AGAIN_SECONDS)
        self.waiting: list[Any] = []
        self.starting: list[tuple[str, Any]] = []  # who wants to hear of a topic's new Producers
        self._look_timer: Timer | None = None
        return Ok(then=Continue(LOOK))

    def handle_continue(self, argument: Any) -> Any:
        self._look()
        return NoReply()

    def handle_call(self, request: Any, sender: Any) -> Any:
        match request:
            case StartProducer(topic, poll):
                answer = self._start_producer(topic, poll)
                if answer is not None:
                    return Reply(answer)
                self.starting.append((topic, sender))
                self._tell_if_ready()
                return NoReply()
            case WhenReady():
                self.waiting = [other for other in self.waiting if not other.abandoned]
                self.waiting.append(sender)
                self._tell_if_ready()
                return NoReply()
            case unknown:
                return Stop(("unknown_request", unknown))

    def handle_info(self, message: Any) -> Any:
        match message:
            case "look":
                self._look()
            case Again(key) if key in self.posts:
                self.posts[key].timer = None
                self._start(key)
                self._tell_if_ready()
            case Down(ref=ref):
                self._ended(ref)
            case Overdue(ref):
                if ref in self.leaving:
                    process.exit(ref, "kill")
            case Again():
                pass
            case unexpected:
                super().handle_info(unexpected)
        return NoReply()

    # ---- partitions

    def _look(self) -> None:
        try:
            known = client.topics(self.name)
        except KafkaError:
            self._look_in(self.looking.next())  # The connection tells of its troubles itself.
            return
        self.looking.reset()
        all_there = [self._count(topic, known.get(topic, 0)) for topic in self.plan.topics()]
        self._look_in(self.plan.poll() if all(all_there) else LOOK_AGAIN_SECONDS)
        self._tell_if_ready()

    def _look_in(self, seconds: float) -> None:
        if self._look_timer is not None:
            self._look_timer.cancel()
        self._look_timer = process.send_after(process.current(), LOOK, seconds)

    def _count(self, topic: str, count: int | None) -> bool:
        """Fit the processes to what the brokers tell of a topic; False when that is doubtful."""
        if count is None:
            return False
        known = self.counts.get(topic, 0)
        missed = self.missed.get(topic, 0) + 1 if count < max(known, 1) else 0
        self.missed[topic] = missed
        if known and 0 < missed < MISSED_LOOKS:
            return False  # One such answer may come from a broker that has only just started.
        if count == 0 and (known or missed == 1):
            log.warning("topic_missing", connection=self.name, topic=topic)
        self.counts[topic] = count
        if count:
            self.missed[topic] = 0
        self.plan.counted(topic, count)
        self._remove([key for key in self.posts if key[0] == topic and key[1] >= count])
        if missed == MISSED_LOOKS:
            self.plan.gone(topic, count)
        self._start_new(topic, count)
        return count > 0

    def _start_new(self, topic: str, count: int) -> None:
        wanted = list(self.plan.wanted(topic, count))
        if count and not wanted and topic not in self.waits_for_partition:
            self.waits_for_partition.add(topic)
            log.warning("partition_missing", connection=self.name, topic=topic, partitions=count)
        for partition in wanted:
            if (topic, partition) not in self.posts:
                self.posts[topic, partition] = Post(backoff=self.plan.backoff())
                self._start((topic, partition))

    def _remove(self, keys: list[Key]) -> None:
        for key in keys:
            post = self.posts.pop(key)
            if post.timer is not None:
                post.timer.cancel()
            # A Wrapper obeys its supervisor alone: the process in it is told, and takes it along.
            ref = connections.holder(self.name, self.plan.registered(key)) or post.ref
            if ref is not None:
                process.exit(ref, "shutdown")
            if post.ref is not None:
                self.leaving[post.ref] = key
                process.send_after(process.current(), Overdue(post.ref), LEAVING_SECONDS)

    # ---- processes

    def _start(self, key: Key) -> None:
        post = self.posts[key]
        if key in self.leaving.values():
            self._try_again(key, LOOK_AGAIN_SECONDS)
            return
        ref = connections.holder(self.name, self.plan.registered(key))
        if ref is None:
            try:
                ref = DynamicSupervisor.start_child(
                    via(self.name, self.plan.supervisor), self.plan.spec(key)
                )
            except StartError:
                self._try_again(key, post.backoff.next())  # It was logged by who knows more.
                return
            except CallExit:
                self._try_again(key, LOOK_AGAIN_SECONDS)  # The supervisor is away; nobody crashed.
                return
        post.ref = ref
        post.since = clock.now()
        process.monitor(ref)

    def _ended(self, ref: Any) -> None:
        if ref in self.leaving:
            self.plan.deleted(self.leaving.pop(ref))  # It may have acknowledged since.
            return
        for key, post in self.posts.items():
            if post.ref is ref:
                post.ref = None
                post.backoff.lived(clock.now() - post.since)
                self._try_again(key, post.backoff.next())
                return

    def _try_again(self, key: Key, seconds: float) -> None:
        self.posts[key].timer = process.send_after(process.current(), Again(key), seconds)

    # ---- producers

    def _start_producer(self, topic: str, poll: float) -> Any:
        """What to answer; None: that its Producers run, when they do."""
        connection = self.plan.connection
        if topic in connection.producing:
            if connection.producing.partitions(topic) == 0:
                return ("unknown_topic", topic)
            return ("already_started", self._refs(topic))
        try:
            count = client.topics(self.name).get(topic, 0)
            if count is None:
                raise KafkaError("timeout", f"the brokers do not tell about topic {topic!r} now")
        except KafkaError as error:
            return ("error", error)
        if not count:
            return ("unknown_topic", topic)
        connection.poll[topic] = poll
        connection.producing.add(topic)
        self._count(topic, count)
        self._look_in(LOOK_AGAIN_SECONDS)  # Not later: another topic may be missing.
        return None

    def _refs(self, topic: str) -> list[Any]:
        return [post.ref for key, post in sorted(self.posts.items()) if key[0] == topic]

    def _tell_if_ready(self) -> None:
        for topic, sender in tuple(self.starting):
            refs = self._refs(topic)
            if sender.abandoned or all(ref is not None for ref in refs):
                self.starting.remove((topic, sender))
                reply(sender, ("ok", refs))
        if not self.waiting:
            return
        all_there = all(self.counts.get(topic) for topic in self.plan.topics())
        if all_there and all(post.ref is not None for post in self.posts.values()):
            for sender in self.waiting:
                reply(sender, None)
            self.waiting.clear()

    def status(self) -> dict[str, Any]:
        return {
            "topics": dict(self.counts),
            "running": sum(post.ref is not None for post in self.posts.values()),
            "waiting": sum(post.ref is None for post in self.posts.values()),
        }
