"""Consumer: owns a librdkafka consumer, reads it, and shares out what it reads to the Workers.

The original: https://hexdocs.pm/elsa/Elsa.Consumer.html
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import structlog
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, KafkaException, TopicPartition
from confluent_kafka import Consumer as DriverConsumer
from confluent_kafka import KafkaError as DriverError
from confluent_kafka import Message as DriverMessage

from elsa_actors.kafka import connection as connections
from elsa_actors.kafka.config import ConsumerOptions
from elsa_actors.kafka.connection import Connection, take_key
from elsa_actors.kafka.driver import POLL_SECONDS, new_client, try_out
from elsa_actors.kafka.errors import KafkaError, described
from elsa_actors.otp.backoff import Backoff
from elsa_actors.otp.gen_server import GenServer, cast
from elsa_actors.otp.results import TIMEOUT, Continue, NoReply, Ok, Stop, Timeout
from elsa_actors.runtime import process
from elsa_actors.runtime.clock import Timer, clock
from elsa_actors.runtime.exits import Down, Exit, is_word

log = structlog.get_logger("elsa_actors")

READ_AT_ONCE = 1000
HELD_SECONDS = 0.01
"""How often librdkafka is looked at while a worker is waited for."""
SHUTDOWN_SECONDS = 15.0
"""Closing took 6 s without a broker."""
HELD_MOST = 2 * READ_AT_ONCE
"""So many messages are held back for a worker that has had its fill; then comes a pause."""
STALL_SECONDS = 5.0
"""How often a partition is looked at from which nothing comes."""
SILENT_MOST = 2
"""So many brokers without an answer are waited for at once: each takes a second."""
RESOLVE_SECONDS = 1.0
"""How long the brokers may take to tell offsets: nothing is read meanwhile."""
_OUT_OF_RANGE = (DriverError._AUTO_OFFSET_RESET, DriverError.OFFSET_OUT_OF_RANGE)
RESOLVE_AGAIN_SECONDS = 0.5
GATHER_SECONDS = 0.01
"""How long one who wants to hear where it begins waits for others who do."""

READ = "read"
RESOLVE = "resolve"

OURS = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",
    "enable.partition.eof": True,  # Who has come to the end does not stand still.
    "fetch.wait.max.ms": 100,
    "fetch.queue.backoff.ms": 10,  # With its second, a drained queue would stay empty that long.
}

Key = tuple[str, int]
"""A topic and a partition."""


def _config(connection: Connection, options: ConsumerOptions) -> Iterator[Mapping[str, Any]]:
    yield OURS
    yield connection.config
    yield options.config
    yield {"group.id": f"elsa-{connection.name}"}  # librdkafka wants one, and here it joins none.


def check_consumer_config(connection: Connection, options: ConsumerOptions) -> None:
    """Raise ConfigError when librdkafka makes no consumer of this."""
    try_out(DriverConsumer, _config(connection, options))


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Read a partition from this offset on, "earliest" or "latest", for this worker.

    ``number`` is the worker's own for this request. With ``keep`` the offset becomes the position:
    a worker that dies before its first ack begins there.
    """

    topic: str
    partition: int
    offset: int | str
    worker: Any
    number: int
    keep: bool = False


@dataclass(frozen=True, slots=True)
class Handled:
    """The worker is done with so much of what it was given."""

    topic: str
    partition: int
    worker: Any
    number: int
    count: int
    size: int


@dataclass(frozen=True, slots=True)
class Deliveries:
    """What the Consumer gives a worker: messages of its partition, in order."""

    raw: list[DriverMessage]
    size: int
    number: int

    def __repr__(self) -> str:
        return f"<Deliveries {len(self.raw)} messages from offset {self.raw[0].offset()}>"


@dataclass(frozen=True, slots=True)
class OutOfRange:
    """The brokers have no such offset any more, or not yet; the worker says where to go on."""

    offset: int
    text: str
    number: int


@dataclass
class Feed:
    """How one partition's worker is fed."""

    worker: Any
    watch: Any
    number: int
    start: int  # where it began; negative: at the beginning
    count: int = 0  # given to the worker, not handled yet
    size: int = 0
    held: deque[DriverMessage] = field(default_factory=deque)  # read, not given yet
    held_size: int = 0
    fault: OutOfRange | None = None  # comes after what is held
    end: int = 0  # librdkafka has told that it came to the end of the partition, here
    behind_at: int | None = None  # where it stood when there was more and nothing came
    reassigned: bool = False
    paused: bool = False


class Consumer(GenServer):
    """Reads on a thread of its own: librdkafka bears one thread, and here it is."""

    dedicated_thread = True
    trap_exit = True
    shutdown = SHUTDOWN_SECONDS

    @staticmethod
    def ack(
        connection: str,
        topic: str,
        partition: int,
        generation_id: int | None,
        offset: int,
        group: str | None = None,
    ) -> None:
        """Acknowledge one message, for a handler that answered "no_ack".

        Never blocks. ``generation_id`` is the message's; ``group`` None means the simple consumer.
        Raises KafkaError when the connection is unknown, and for what is no offset. An ack for a
        partition that has no worker now, or of an old generation, is dropped: its message is
        delivered again.
        """
        connections.find(connection)
        _check_offset(offset)
        worker = connections.holder(connection, ("worker", group, topic, partition))
        if worker is None:
            Acked(generation_id, offset).dropped(connection, topic, partition)
        else:
            cast(worker, Acked(generation_id, offset))

    def init(self, connection: str, options: ConsumerOptions) -> Ok:
        self.connection = connections.find(connection)
        self.options = options
        self.feeds: dict[Key, Feed] = {}
        self.driver: Any = None
        self._next_look = 0.0
        self._reading: Timer | None = None
        self._unresolved: dict[Key, Subscribe] = {}  # of those who wait to hear where they begin
        self._resolving: Timer | None = None
        self._patience = Backoff(RESOLVE_AGAIN_SECONDS, 5.0)
        self._leaders: dict[int, int] = {}  # by partition, as far as it was told
        self._silent: dict[int, float] = {}  # whose broker did not answer, and when
        take_key(self.connection.name, ("consumer", None), SHUTDOWN_SECONDS)
        return Ok(then=Continue("open"))

    def handle_continue(self, argument: Any) -> Any:
        connection = self.connection
        self.driver = new_client(
            DriverConsumer,
            connection.endpoints,
            _config(connection, self.options),
            connection.trouble,
        )
        process.own(self.driver, DriverConsumer.close)
        self._learn(self.options.topic)
        return NoReply(self._then_read())

    def handle_cast(self, request: Any) -> Any:
        match request:
            case Subscribe():
                self._subscribe(request)
            case Handled():
                self._handled(request)
            case unknown:
                return Stop(("unknown_request", unknown))
        return NoReply(self._then_read())

    def handle_info(self, message: Any) -> Any:
        if message is TIMEOUT or is_word(message, READ):
            if message is not TIMEOUT:
                self._reading = None
            if not self._read() and clock.now() >= self._next_look:
                self._next_look = clock.now() + STALL_SECONDS
                stalled = self._look_for_stalls()
                if stalled is not None:
                    return Stop(("stalled", *stalled))
            return NoReply(self._then_read())
        match message:
            case "resolve":
                self._resolving = None
                self._resolve()
            case Down(ref=ref):
                for key, feed in tuple(self.feeds.items()):
                    if feed.worker is ref:
                        self._drop(key)
            case Exit(reason=reason):
                return Stop(reason)
            case unexpected:
                super().handle_info(unexpected)
        return NoReply(self._then_read())

    # ---- who reads what

    def _subscribe(self, request: Subscribe) -> None:
        key = (request.topic, request.partition)
        if not process.is_alive(request.worker):
            return
        if key in self.feeds:
            self._drop(key)
        self._unresolved.pop(key, None)
        if isinstance(request.offset, int):
            self._feed(key, request, request.offset)
        elif request.offset == "earliest" and not request.keep:
            self._feed(key, request, OFFSET_BEGINNING)
        else:
            # Those of all partitions ask together, once all there are have said so.
            self._unresolved[key] = request
            self._resolve_in(GATHER_SECONDS)

    def _feed(self, key: Key, request: Subscribe, offset: int) -> None:
        watch = process.monitor(request.worker)
        self.feeds[key] = Feed(request.worker, watch, request.number, offset)
        self.driver.incremental_assign([TopicPartition(*key, offset)])

    def _resolve_in(self, seconds: float) -> None:
        if self._resolving is None:
            self._resolving = process.send_after(process.current(), RESOLVE, seconds)

    def _resolve(self) -> None:
        """Begin to read those of the waiting of whom the brokers tell where they begin."""
        for key, request in tuple(self._unresolved.items()):
            if not process.is_alive(request.worker):
                del self._unresolved[key]
        for which, word in ((OFFSET_BEGINNING, "earliest"), (OFFSET_END, "latest")):
            keys = [key for key, asked in self._unresolved.items() if asked.offset == word]
            for key, offset in self._offsets(keys, which, tell=True).items():
                request = self._unresolved.pop(key)
                if process.is_alive(request.worker):
                    # Once: whatever is written from now on is read, whoever dies before it is.
                    self.connection.positions.put(*key, offset)
                    self._feed(key, request, offset)
        if self._unresolved:
            # Ever rarer: nothing is read while a silent broker is asked.
            self._resolve_in(self._patience.next())
            self._read()
        else:
            self._patience.reset()

    def _offsets(self, keys: Iterable[Key], which: int, tell: bool = False) -> dict[Key, int]:
        """The first or the last offsets of partitions, of which the brokers tell them in a second.

        All are asked for at once: each request waits behind a fetch that waits for messages.
        """
        wanted = [TopicPartition(*key, which) for key in keys]
        if not wanted:
            return {}
        found = self._ask(wanted, tell)
        offsets = {}
        for one in found:
            key = (one.topic, one.partition)
            if one.error is None:
                offsets[key] = int(one.offset)
            elif tell:
                self._tell(key, one.error)
        if tell and len(offsets) < len(found):
            self._learn(self.options.topic)  # It may not know the partition yet.
        return offsets

    def _ask(self, wanted: list[TopicPartition], tell: bool) -> list[TopicPartition]:
        if not self._silent:
            try:
                return list(self.driver.offsets_for_times(wanted, RESOLVE_SECONDS))
            except KafkaException as error:
                if tell:
                    self._tell((wanted[0].topic, wanted[0].partition), error.args[0])
        # One silent broker keeps the answers of all others back: each is asked by itself.
        found: list[TopicPartition] = []
        silent = 0
        for group in self._groups(wanted):
            try:
                found += self.driver.offsets_for_times(group, RESOLVE_SECONDS)
            except KafkaException:
                self._silent |= dict.fromkeys([one.partition for one in group], clock.now())
                silent += 1
                if silent == SILENT_MOST:
                    break
            else:
                for one in group:
                    self._silent.pop(one.partition, None)
        if silent:
            self._learn(self.options.topic)  # Others may lead them by now.
        return found

    def _groups(self, wanted: list[TopicPartition]) -> list[list[TopicPartition]]:
        """What each broker is asked; first those that have not been silent for the longest time."""
        groups: dict[Any, list[TopicPartition]] = {}
        for one in wanted:
            leader = self._leaders.get(one.partition, ("unknown", one.partition))
            groups.setdefault(leader, []).append(one)
        return sorted(
            groups.values(),
            key=lambda group: max(self._silent.get(one.partition, 0.0) for one in group),
        )

    def _drop(self, key: Key) -> None:
        feed = self.feeds.pop(key)
        self._silent.pop(key[1], None)
        process.demonitor(feed.watch, flush=True)
        if feed.paused:
            self.driver.resume([TopicPartition(*key)])  # A pause outlives the assignment.
        # What librdkafka has fetched of it goes with the assignment.
        self.driver.incremental_unassign([TopicPartition(*key)])

    # ---- reading

    def _then_read(self) -> Timeout | None:
        if not self._holds_back():
            return Timeout(0)
        # A worker that has had its fill is given more when it says so: then that is waited for, and
        # librdkafka only looked at; by a timer of its own, which no other message puts off.
        if self._reading is None:
            self._reading = process.send_after(process.current(), READ, HELD_SECONDS)
        return None

    def _holds_back(self) -> bool:
        return any(feed.held for feed in self.feeds.values())

    def _read(self) -> bool:
        """Share out what there is; False when there is nothing."""
        # A poll, then what is there: the rate of batches at the latency of single messages.
        first = self.driver.poll(0 if self._holds_back() else POLL_SECONDS)
        if first is None:
            return False
        raw = [first, *self.driver.consume(READ_AT_ONCE - 1, 0)]
        self.connection.trouble.over()
        # What is asked of every message is asked by C functions: half a million a second pass.
        faults: list[DriverMessage] = []
        if any(map(DriverMessage.error, raw)):
            faults = [message for message in raw if message.error() is not None]
            raw = [message for message in raw if message.error() is None]
        for partition, messages in _by_partition(raw):
            key = (self.options.topic, partition)
            feed = self.feeds.get(key)
            if feed is not None:
                feed.behind_at = None
                self._give(key, feed, messages)
        for fault in faults:  # Of a partition whose messages came before.
            self._failed(_key_of(fault), fault)
        return True

    # ---- partitions that stand still

    def _look_for_stalls(self) -> Key | None:
        """Find partitions that have more to read of which nothing comes, and begin them anew.

        librdkafka has been seen to read on from no partition after a broker had hung. Returns a
        partition that a new beginning did not help: then the whole client is to be made anew.
        """
        if self.connection.trouble.down:
            return None
        behind: dict[Key, int] = {}
        reading = {key: feed for key, feed in self.feeds.items() if not (feed.paused or feed.held)}
        for key, end in self._offsets(reading, OFFSET_END).items():
            feed = reading[key]
            if end > self._position(key, feed):
                behind[key] = end
            else:
                feed.behind_at, feed.reassigned = None, False
        for key, first in self._offsets(behind, OFFSET_BEGINNING).items():
            feed, end = reading[key], behind[key]
            position = max(self._position(key, feed), first)
            if end <= position:
                feed.behind_at, feed.reassigned = None, False
            elif feed.behind_at != position:
                feed.behind_at = position  # It may come yet: look again.
            elif feed.reassigned:
                return key
            else:
                self._begin_anew(key, feed, position, end)
        return None

    def _position(self, key: Key, feed: Feed) -> int:
        """Up to where librdkafka has read, marks of transactions and the like included."""
        [there] = self.driver.position([TopicPartition(*key)])
        return max(int(there.offset), feed.end, feed.start)  # Negative: it has read nothing yet.

    def _begin_anew(self, key: Key, feed: Feed, position: int, end: int) -> None:
        log.warning(
            "partition_stalled",
            connection=self.connection.name,
            topic=key[0],
            partition=key[1],
            position=position,
            end=end,
        )
        feed.reassigned = True
        self.driver.incremental_unassign([TopicPartition(*key)])
        self.driver.incremental_assign([TopicPartition(*key, position)])

    def _give(self, key: Key, feed: Feed, messages: list[DriverMessage]) -> None:
        """Give the worker as much as it may have; hold back the rest, and pause when it is much."""
        size = _size_of(messages)
        room = self.options.prefetch_count - feed.count
        fits = len(messages) <= room and feed.size + size <= self.options.prefetch_bytes
        if fits and not feed.held:
            self._send(feed, messages, size)
            return
        feed.held.extend(messages)
        feed.held_size += size
        self._give_held(feed)
        # A pause throws away what librdkafka has fetched, and costs up to a second: rarely, then.
        if not feed.paused and self._holds(feed, 1):
            feed.paused = True
            self.driver.pause([TopicPartition(*key)])

    def _give_held(self, feed: Feed) -> None:
        options, held = self.options, feed.held
        given: list[DriverMessage] = []
        size = 0
        while held and feed.count + len(given) < options.prefetch_count:
            more = _size_of([held[0]])
            # One that is too large for the limit goes alone.
            if (feed.count or given) and feed.size + size + more > options.prefetch_bytes:
                break
            size += more
            given.append(held.popleft())
        if given:
            feed.held_size -= size
            self._send(feed, given, size)
        self._tell_fault(feed)

    def _holds(self, feed: Feed, part: int) -> bool:
        """Whether more is held back than this part of what may be."""
        return (
            len(feed.held) > HELD_MOST // part
            or feed.held_size > self.options.prefetch_bytes // part
        )

    def _send(self, feed: Feed, messages: list[DriverMessage], size: int) -> None:
        feed.count += len(messages)
        feed.size += size
        process.send(feed.worker, Deliveries(messages, size, feed.number))

    def _handled(self, done: Handled) -> None:
        key = (done.topic, done.partition)
        feed = self.feeds.get(key)
        if feed is None or feed.worker is not done.worker or feed.number != done.number:
            return
        feed.count -= done.count
        feed.size -= done.size
        if feed.held:
            self._give_held(feed)
        if feed.paused and not self._holds(feed, 4):
            feed.paused = False
            self.driver.resume([TopicPartition(*key)])

    def _failed(self, key: Key, message: DriverMessage) -> None:
        feed, error = self.feeds.get(key), message.error()
        assert error is not None
        if error.code() == DriverError._PARTITION_EOF:
            if feed is not None:
                feed.end, feed.reassigned = message.offset() or 0, False
        elif feed is not None and error.code() in _OUT_OF_RANGE:
            feed.fault = OutOfRange(message.offset() or 0, error.str(), feed.number)
            self._tell_fault(feed)
        else:
            self._tell(key, error)

    def _tell_fault(self, feed: Feed) -> None:
        if feed.fault is not None and not feed.held:
            process.send(feed.worker, feed.fault)
            feed.fault = None

    def _tell(self, key: Key, error: DriverError) -> None:
        if self.connection.trouble.is_news(f"{error.name()} {key}"):
            log.warning(
                "consumer_error",
                connection=self.connection.name,
                topic=key[0],
                partition=key[1],
                error=described(error),
            )

    def _learn(self, topic: str) -> None:
        """Have librdkafka know a topic's leaders; else it would find out a second later."""
        try:
            found = self.driver.list_topics(topic, RESOLVE_SECONDS).topics.get(topic)
        except KafkaException:
            return  # It goes on asking by itself.
        if found is not None:
            self._leaders = {one.id: one.leader for one in found.partitions.values()}

    def terminate(self, reason: Any) -> None:
        if self.driver is not None:
            process.disown(self.driver)
            self.driver.close()

    def status(self) -> dict[str, Any]:
        return {
            f"{topic}[{partition}]": {
                "waiting": feed.count,
                "bytes": feed.size,
                "held": len(feed.held),
                "paused": feed.paused,
            }
            for (topic, partition), feed in tuple(self.feeds.items())
        }


@dataclass(frozen=True, slots=True)
class Acked:
    """One message is done, says somebody who is not the handler."""

    generation_id: int | None
    offset: int

    def dropped(self, connection: str, topic: str, partition: int) -> None:
        """Tell that it counts for nothing."""
        log.warning(
            "ack_dropped",
            connection=connection,
            topic=topic,
            partition=partition,
            generation_id=self.generation_id,
            offset=self.offset,
        )


def _size_of(messages: list[DriverMessage]) -> int:
    """The bytes of keys and values; headers are not counted."""
    keys = filter(None, map(DriverMessage.key, messages))
    return sum(map(len, messages)) + sum(map(len, keys))


def _check_offset(offset: Any) -> None:
    if isinstance(offset, bool) or not isinstance(offset, int) or offset < 0:
        raise KafkaError(
            ("bad_offset", offset),
            f"expected the offset of a message, a whole number from 0 on, got: {offset!r}",
        )


def _by_partition(raw: list[DriverMessage]) -> Iterator[tuple[int, list[DriverMessage]]]:
    """The messages in runs of one partition each; librdkafka hands them out in runs."""
    start = 0
    for partition, run in groupby(map(DriverMessage.partition, raw)):
        end = start + len(list(run))
        yield partition or 0, raw if end - start == len(raw) else raw[start:end]
        start = end


def _key_of(message: DriverMessage) -> Key:
    return message.topic() or "", message.partition() or 0
