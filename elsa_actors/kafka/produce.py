"""produce: send messages and return when all of them are delivered.

The original: https://hexdocs.pm/elsa/Elsa.html#produce/4
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import structlog
from confluent_kafka import KafkaException
from confluent_kafka import Producer as DriverProducer

from elsa_actors.kafka import connection as connections
from elsa_actors.kafka.client import OURS, ClientGone, Evidence
from elsa_actors.kafka.config import check_topic, names_connection, parse_endpoints
from elsa_actors.kafka.connection import Connection
from elsa_actors.kafka.driver import (
    POLL_SECONDS,
    Trouble,
    check_alive,
    close_in_time,
    in_librdkafka,
)
from elsa_actors.kafka.errors import (
    KafkaError,
    ProduceError,
    produce_error,
    reason_of,
    undelivered,
    unknown_partition,
    unknown_topic,
)
from elsa_actors.kafka.message import Record, chunks, listed, records_of, size_of
from elsa_actors.kafka.partitioner import Murmur2, partition_of, partitioner_of
from elsa_actors.kafka.producer import Batch, Deliver
from elsa_actors.kafka.topic import ShortLived
from elsa_actors.otp.backoff import Backoff
from elsa_actors.otp.gen_server import Request, send_request
from elsa_actors.runtime import process
from elsa_actors.runtime.clock import clock
from elsa_actors.runtime.errors import CallExit, CallTimeout
from elsa_actors.runtime.scheduler import wake
from elsa_actors.runtime.waiting import check_timeout, new_slot, wait

log = structlog.get_logger("elsa_actors")

TIMEOUT_SECONDS = 60.0
_LOOK_AGAIN = 0.02
_GONE_SECONDS = 5.0  # A connection that is missing so long is not being restarted.
_TOO_LARGE = "message_too_large"

BATCH = 500
"""So many messages are handed over at once; that takes a few milliseconds."""


def produce(
    where: Any,
    topic: str,
    messages: Any,
    *,
    partition: int | None = None,
    partitioner: Any = Murmur2,
    timeout: float | None = None,
) -> None:
    """Send messages to a topic; returns None when every one of them is delivered.

    ``where`` is the name of a connection whose ElsaSupervisor runs, or endpoints: then a client is
    made for this call alone. ``messages`` is one message or an iterable of them, each a bytes, str,
    (key, value) or a dictionary with "value" and perhaps "key", "headers", "timestamp" (ms).
    ``partition`` says where they all go; without it the ``partitioner`` decides by key.

    Blocks up to ``timeout`` seconds, None means 60. Raises ProduceError when some were not
    delivered: ``.sent`` is how many were, ``.failed`` the others as they were given, in order, and
    ``.reason`` why the first of them failed. What had not been refused may still arrive after a
    timeout. While the tree restarts something it waits for that. Nothing is sent, and all have
    failed, when the connection, the topic or the partition is unknown, or a message malformed.

        produce("shop", "orders", [("customer-1", "two lamps"), ("customer-2", "a chair")])
    """
    check_timeout(timeout)
    check_topic(topic, "produce")
    deadline = clock.now() + (TIMEOUT_SECONDS if timeout is None else timeout)
    records = _checked(messages)
    if not records:
        return
    try:
        way = _way(where, topic, deadline)
    except KafkaError as error:
        raise _all_failed(error, records) from None
    with closing(way):
        try:
            batches = _split(records, way.partitions(), topic, partition, partitioner)
        except KafkaError as error:
            raise _all_failed(error, records) from None
        way.carry_out(partial(_deliver, way, batches))
        _report(records, batches, way)


def _way(where: Any, topic: str, deadline: float) -> _Way:
    if isinstance(where, str) and names_connection(where):
        return _Tree(connections.find(where), topic, deadline)
    return _Alone(parse_endpoints(where), topic, deadline)


Records = Sequence[Record | bytes]
"""Bytes are a value without a key, and need no record made of them."""


def _checked(messages: Any) -> Records:
    given = listed(messages)
    if set(map(type, given)) == {bytes}:
        return given
    try:
        return records_of(given)
    except KafkaError as error:
        raise ProduceError(error.reason, 0, given, str(error)) from None


def _all_failed(error: KafkaError, records: Records) -> ProduceError:
    return ProduceError(error.reason, 0, list(map(_given, records)), str(error))


def _given(record: Record | bytes) -> Any:
    return record if type(record) is bytes else record.given  # type: ignore[union-attr]


def _key(record: Record | bytes) -> bytes | None:
    return None if type(record) is bytes else record.key  # type: ignore[union-attr]


def _split(
    records: Records, count: int, topic: str, partition: int | None, partitioner: Any
) -> list[Batch]:
    """Sort the messages by partition and cut them into batches."""
    if partition is not None:
        if isinstance(partition, bool) or not isinstance(partition, int):
            raise KafkaError(
                ("bad_partition", partition),
                f"expected partition to be a number or None, got: {partition!r}",
            )
        if not 0 <= partition < count:
            raise unknown_partition(topic, partition, count)
        return _cut(partition, records, range(len(records)))
    partitioner = partitioner_of(partitioner)
    by_partition: dict[int, tuple[list[Record | bytes], list[int]]] = {}
    for place, record in enumerate(records):
        number = partition_of(partitioner, count, _key(record))
        if number not in by_partition:
            by_partition[number] = ([], [])
        there, places = by_partition[number]
        there.append(record)
        places.append(place)
    return [
        batch
        for number, (there, places) in by_partition.items()
        for batch in _cut(number, there, places)
    ]


def _cut(partition: int, records: Records, places: Sequence[int]) -> list[Batch]:
    """Batches of at most so many messages, and so many bytes."""
    batches: list[Batch] = []
    for start in range(0, len(records), BATCH):
        few = records[start : start + BATCH]
        for chunk in [few] if _is_small(few) else chunks(few):
            batches.append(Batch(partition, chunk, places[start : start + len(chunk)]))
            start += len(chunk)
    return batches


def _is_small(records: Records) -> bool:
    """Whether these are certainly no more than a batch may have; quicker than adding them up."""
    if set(map(type, records)) == {bytes}:
        return max(map(len, records)) < 900
    return max(map(size_of, records)) < 1000


def _deliver(way: _Way, batches: list[Batch]) -> None:
    """Send all batches; of each message it is booked there what became of it."""
    way.deliver(batches)
    for batch in batches:
        _send_in_halves(way, batch, _take_too_large(batch))
    _send_again_what_is_doubtful(way, batches)


def _take_too_large(batch: Batch) -> list[int]:
    """The messages that were refused as too large, not booked any more: perhaps another was.

    One message that a broker finds too large fails all that were written along with it.
    """
    if batch.total == 1:
        return []  # It is too large itself.
    refused = [i for i, error in batch.failures if reason_of(error) == _TOO_LARGE]
    batch.failures[:] = [one for one in batch.failures if one[0] not in set(refused)]
    return sorted(refused)


def _send_in_halves(way: _Way, batch: Batch, some: list[int]) -> None:
    """Send these again, in ever smaller parts, until those that are too large stand alone."""
    half = len(some) // 2
    for part in (some[:half], some[half:]):
        if part and way.left():
            _send_in_halves(way, batch, _send_again(way, batch, part))


def _send_again_what_is_doubtful(way: _Way, batches: list[Batch]) -> None:
    """Twice is better than never: librdkafka's word without an offset is no delivery."""
    doubtful = [batch for batch in batches if batch.doubtful]
    if doubtful:
        count = sum(len(batch.doubtful) for batch in doubtful)
        log.warning(
            "delivery_doubtful",
            connection=way.trouble.connection,
            topic=way.topic,
            messages=count,
        )
    backoff = Backoff(min=0.02, max=1.0)
    while doubtful and way.left():
        for batch in doubtful:
            again = sorted(batch.doubtful)
            batch.doubtful.clear()
            _send_in_halves(way, batch, _send_again(way, batch, again))
        doubtful = [batch for batch in doubtful if batch.doubtful]
        if doubtful:
            process.sleep(min(backoff.next(), way.left()))


def _send_again(way: _Way, batch: Batch, some: list[int]) -> list[int]:
    """Send some messages of a batch as one of their own, and book what comes of it in the first.

    Returns those that were refused as too large, perhaps for their neighbours' sake.
    """
    repeat = Batch(
        batch.partition, [batch.records[i] for i in some], [batch.places[i] for i in some]
    )
    way.deliver([repeat])
    refused = _take_too_large(repeat)
    batch.delivered.extend([some[i] for i in repeat.delivered])
    batch.failures.extend([(some[i], error) for i, error in repeat.failures])
    batch.doubtful.extend([some[i] for i in repeat.doubtful])
    return [some[i] for i in refused]


def _report(records: Records, batches: list[Batch], way: _Way) -> None:
    """Return when everything was delivered; raise ProduceError otherwise."""
    if sum(len(batch.delivered) for batch in batches) == len(records):
        return
    told: dict[int, Any] = {}
    delivered: set[int] = set()
    for batch in batches:
        delivered.update([batch.places[i] for i in batch.delivered])
        told |= {batch.places[i]: error for i, error in batch.failures}
    if len(delivered) == len(records):
        return
    # From the caller's list, not from the batches: what is in none of them was not delivered.
    failed = [place for place in range(len(records)) if place not in delivered]
    sent, given = len(delivered), [_given(records[place]) for place in failed]
    error = next((told[place] for place in failed if place in told), None)
    if error is not None:
        raise produce_error(error, sent, given)
    raise undelivered(way.reason, sent, given, way.trouble.why())


class _Way(ABC):
    """How the messages reach the brokers: through a tree, or by a client of this call's own."""

    reason: Any = "timeout"
    """Why what was neither delivered nor refused has failed."""
    trouble: Trouble

    def __init__(self, topic: str, deadline: float) -> None:
        self.topic = topic
        self.deadline = deadline

    @abstractmethod
    def partitions(self) -> int:
        """How many partitions the topic has; KafkaError when it is unknown, or nobody answers."""

    @abstractmethod
    def deliver(self, batches: list[Batch]) -> None:
        """Send all batches at once; returns when each message was delivered, refused, or late."""

    def carry_out(self, delivering: Callable[[], None]) -> None:
        """Have everything delivered."""
        delivering()

    def close(self) -> None:
        """End what was begun for this call alone."""
        return

    def left(self) -> float:
        return max(self.deadline - clock.now(), 0.0)


class _Tree(_Way):
    """By the Producers of a connection, which are found by name: they may be restarted."""

    def __init__(self, connection: Connection, topic: str, deadline: float) -> None:
        super().__init__(topic, deadline)
        self.connection = connection
        self.trouble = connection.trouble
        self._seen = clock.now()

    def partitions(self) -> int:
        topic = self.topic
        if self.connection.shared is not None:
            self.connection.shared.check_not_polling()
        while True:
            self._look_up()
            producing = self.connection.producing
            if topic not in producing:
                raise KafkaError(
                    ("unknown_topic", topic),
                    f"connection {self.connection.name!r} has no producer for topic {topic!r};"
                    " list it under `producer`, or call ElsaSupervisor.start_producer",
                )
            count = producing.partitions(topic)
            if count == 0:
                raise unknown_topic(topic)
            if count is not None:
                return count
            if not self.left():
                raise KafkaError(
                    "timeout",
                    f"no broker told in time how many partitions {topic!r} has{self.trouble.why()}",
                )
            process.sleep(_LOOK_AGAIN)

    def _look_up(self) -> None:
        """Find the connection's record anew: the whole tree may be restarted, in a moment."""
        try:
            self.connection = connections.find(self.connection.name)
            self.trouble = self.connection.trouble
            self._seen = clock.now()
        except KafkaError:
            if clock.now() - self._seen > _GONE_SECONDS:
                raise

    def carry_out(self, delivering: Callable[[], None]) -> None:
        """Have everything delivered; for the main thread another thread does it.

        Python runs signal handlers on the main thread, between any two steps: a Ctrl-C there would
        strike in the middle of a Producer's work, or of what librdkafka tells of others' messages.
        """
        if threading.current_thread() is not threading.main_thread():
            delivering()
            return
        done, raised = new_slot(), list[BaseException]()

        def run() -> None:
            try:
                delivering()
            except BaseException as error:  # noqa: BLE001  (it is raised where it belongs)
                raised.append(error)
            finally:
                wake(done)

        try:
            threading.Thread(target=run, name="elsa-produce", daemon=True).start()
            wait(done)
        except BaseException:
            self.deadline = 0.0  # Nobody waits for it any more.
            raise
        for error in raised:
            raise error

    def deliver(self, batches: list[Batch]) -> None:
        requests = []
        for batch in batches:
            requests.append(self._send(batch))
            if len(batches) > 1:
                self._hear()
        for batch, request in zip(batches, requests, strict=True):
            while request is not None and self._is_to_be_sent_again(batch, request):
                process.sleep(_LOOK_AGAIN)
                request = self._send(batch)  # None: there was no Producer in time.

    def _is_to_be_sent_again(self, batch: Batch, request: Request) -> bool:
        """Wait for the answer; true when the Producer has died before it began."""
        try:
            while not request.answers and self.left():
                try:
                    shared = self.connection.shared
                    if shared is None:
                        request.wait(min(self.left(), _LOOK_AGAIN))
                    else:
                        shared.wait_for(request, lambda: self.deadline)
                except ClientGone:
                    request.wait(min(self.left(), _LOOK_AGAIN))  # The Producers find the next one.
            request.receive(0.0)
        except CallTimeout:
            pass
        except CallExit as error:
            if not batch.begun and self.left():
                return True
            self.reason = ("producer_down", error.reason)
            if self.connection.producing.partitions(self.topic) == 0:
                self.reason = ("unknown_topic", self.topic)  # That is why it has ended.
        return False

    def _send(self, batch: Batch) -> Request | None:
        """Give a batch to its Producer, which is idle, mostly, and then works on this thread."""
        producer = self._producer(batch.partition)
        return None if producer is None else send_request(producer, Deliver(batch, self.deadline))

    def _hear(self) -> None:
        """Hear of deliveries meanwhile: else they would all come at the end."""
        shared = self.connection.shared
        if shared is not None:
            try:
                shared.hear()
            except ClientGone:
                pass

    def _producer(self, partition: int) -> Any:
        """The Producer of a partition, waiting for one that is being started; None: too late."""
        while True:
            try:
                self._look_up()
            except KafkaError as error:
                self.reason = error.reason
                return None
            ref = connections.holder(self.connection.name, ("producer", self.topic, partition))
            if ref is not None:
                return ref
            if self.connection.producing.partitions(self.topic) == 0:
                self.reason = ("unknown_topic", self.topic)
                return None
            if not self.left():
                return None
            process.sleep(_LOOK_AGAIN)


class _Alone(_Way):
    """By a client that lives as long as the call."""

    def __init__(self, endpoints: str, topic: str, deadline: float) -> None:
        super().__init__(topic, deadline)
        self.client = ShortLived(DriverProducer, endpoints, OURS)
        self.trouble = self.client.trouble
        self.evidence = Evidence()

    def partitions(self) -> int:
        return len(self.client.partitions(self.topic, self.deadline))

    def deliver(self, batches: list[Batch]) -> None:
        driver = self.client.driver
        waiting = batches
        while not all(batch.done for batch in batches):
            check_alive()  # What a dead process still runs produces nothing.
            try:
                waiting = [b for b in waiting if not b.hand_over(driver, self.topic, self.evidence)]
                self.evidence.other_requests()
                with in_librdkafka():
                    driver.poll(0.001 if waiting else min(self.left(), POLL_SECONDS))
            except KafkaException as error:  # It is fatal.
                self.reason = reason_of(error.args[0])
                return
            if not self.left():
                return

    def close(self) -> None:
        driver = self.client.driver

        def end() -> None:
            driver.purge()
            driver.close()

        close_in_time(end)
