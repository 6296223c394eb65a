"""Read messages without a tree: one fetch, a stream from one offset to another, searches.

The original: https://hexdocs.pm/elsa/Elsa.Fetch.html
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any

from confluent_kafka import Consumer as DriverConsumer
from confluent_kafka import KafkaError as DriverError
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka import Message as DriverMessage

from elsa_actors.kafka.config import check_topic
from elsa_actors.kafka.driver import POLL_SECONDS, close_in_time, in_librdkafka
from elsa_actors.kafka.errors import (
    ConfigError,
    KafkaError,
    error_of,
    reason_of,
    unknown_partition,
    unknown_topic,
)
from elsa_actors.kafka.message import Message, messages_of
from elsa_actors.kafka.topic import (
    ShortLived,
    endpoints_of,
    seconds_of,
)
from elsa_actors.runtime.clock import clock
from elsa_actors.runtime.errors import Forked

TIMEOUT_SECONDS = 30.0
FETCH_BYTES = 1_000_000
_STREAM_BYTES = 16_000_000  # What librdkafka may have fetched ahead of the caller.
_MOST_KIBIBYTES = 1_000_000
_READ_AT_ONCE = 500

_PASSING = ("no_broker", "timeout")
_OUT_OF_RANGE = (DriverError._AUTO_OFFSET_RESET, DriverError.OFFSET_OUT_OF_RANGE)
_NO_TOPIC = (DriverError.UNKNOWN_TOPIC_OR_PART, DriverError._UNKNOWN_TOPIC)

_READING = {
    "group.id": "elsa-fetch",  # librdkafka wants one, and here it joins none.
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,  # The last offsets may be no messages, but a transaction's marks.
    "fetch.wait.max.ms": 100,
    "fetch.queue.backoff.ms": 10,
}


# ---- the calls


def fetch(
    endpoints: Any,
    topic: str,
    *,
    partition: int = 0,
    offset: int | None = None,
    max_bytes: int = FETCH_BYTES,
    timeout: float | None = None,
) -> tuple[int, list[Message]]:
    """The messages of a partition from ``offset`` on, and the offset to go on at.

    They are all that are there now, but no more than it takes to reach ``max_bytes``: a long
    partition is read by one call after the other. ``offset`` None starts at the earliest there is.
    At the end of the partition, and past it, there are none: ``(end, [])``.

    Blocks until it has them, up to ``timeout`` seconds, None means 30; what it has by then is the
    answer. Raises KafkaError when it has none: "no_broker" or "timeout"; ``("unknown_topic",
    topic)``, ``("unknown_partition", topic, partition)``, and ``("offset_out_of_range", topic,
    partition, offset)`` for messages that are deleted already.

        next_offset, messages = fetch("localhost:9092", "orders", partition=3)
    """
    check_topic(topic, "fetch")
    _check_whole("fetch", "partition", partition)
    _check_offset("fetch", "offset", offset)
    _check_whole("fetch", "max_bytes", max_bytes, 1)
    seconds = seconds_of(timeout, TIMEOUT_SECONDS)
    deadline = clock.now() + seconds
    # No more is fetched ahead than the answer may have.
    with closing(_Reader(endpoints_of(endpoints), topic, offset, max_bytes)) as reader:
        end = reader.open(partition, None, deadline)[partition]
        messages: list[Message] = []
        size = 0
        while reader.unread:
            for raw in reader.read(deadline):
                messages += messages_of([raw], None)
                size += _size(raw)
                if size >= max_bytes:
                    return messages[-1].offset + 1, messages
            if reader.unread and clock.now() >= deadline:
                if not messages:
                    raise reader.late()
                return messages[-1].offset + 1, messages
        return end, messages


def fetch_stream(
    endpoints: Any,
    topic: str,
    *,
    partition: int | None = None,
    start_offset: int | None = None,
    end_offset: int | None = None,
    timeout: float | None = None,
) -> Generator[Message, None, None]:
    """The messages of a partition, or of all of a topic's, one by one, as they are asked for.

    Each partition is read from ``start_offset`` (None: the earliest there is) up to ``end_offset``,
    which is not among them (None, or one that lies ahead: the end as it is when the first message
    is asked for). So the stream always ends. The messages of one partition come in order,
    those of several partitions mixed.

    Wrong arguments raise at once, all else while the stream is read: KafkaError as in `fetch`,
    "timeout" when the brokers told nothing for ``timeout`` seconds, None means 30. The client that
    reads is made when the first message is asked for, and closed when the stream ends: by its end,
    an error, `close()`, or when nobody has it any more. One thread at a time may read; a forked
    child gets Forked.

        for message in fetch_stream("localhost:9092", "orders"):
            print(message.partition, message.offset, message.value)
    """
    check_topic(topic, "fetch_stream")
    if partition is not None:
        _check_whole("fetch_stream", "partition", partition)
    _check_offset("fetch_stream", "start_offset", start_offset)
    _check_offset("fetch_stream", "end_offset", end_offset)
    seconds = seconds_of(timeout, TIMEOUT_SECONDS)
    return _stream(endpoints_of(endpoints), topic, partition, start_offset, end_offset, seconds)


def search(
    endpoints: Any,
    topic: str,
    predicate: Callable[[Message], Any],
    *,
    partition: int | None = None,
    start_offset: int | None = None,
    end_offset: int | None = None,
    timeout: float | None = None,
) -> Generator[Message, None, None]:
    """The messages of a `fetch_stream` for which ``predicate(message)`` is true.

    What it raises ends the stream. All else is as in `fetch_stream`.

        large = search("localhost:9092", "orders", lambda message: len(message.value or b"") > 1000)
    """
    if not callable(predicate):
        raise TypeError(f"expected predicate to be a function of a message, got: {predicate!r}")
    stream = fetch_stream(
        endpoints,
        topic,
        partition=partition,
        start_offset=start_offset,
        end_offset=end_offset,
        timeout=timeout,
    )
    return _matching(stream, predicate)


def search_keys(
    endpoints: Any,
    topic: str,
    text: str | bytes,
    *,
    partition: int | None = None,
    start_offset: int | None = None,
    end_offset: int | None = None,
    timeout: float | None = None,
) -> Generator[Message, None, None]:
    """The messages whose key contains ``text``, as UTF-8; one without a key never does.

    All else is as in `fetch_stream`.
    """
    sought = _sought("search_keys", text)
    return search(
        endpoints,
        topic,
        lambda message: (key := message.key) is not None and sought in key,
        partition=partition,
        start_offset=start_offset,
        end_offset=end_offset,
        timeout=timeout,
    )


def search_values(
    endpoints: Any,
    topic: str,
    text: str | bytes,
    *,
    partition: int | None = None,
    start_offset: int | None = None,
    end_offset: int | None = None,
    timeout: float | None = None,
) -> Generator[Message, None, None]:
    """The messages whose value contains ``text``, as UTF-8; a tombstone's never does.

    All else is as in `fetch_stream`.
    """
    sought = _sought("search_values", text)
    return search(
        endpoints,
        topic,
        lambda message: (value := message.value) is not None and sought in value,
        partition=partition,
        start_offset=start_offset,
        end_offset=end_offset,
        timeout=timeout,
    )


# ---- how they are made


def _stream(
    endpoints: str,
    topic: str,
    partition: int | None,
    start_offset: int | None,
    end_offset: int | None,
    seconds: float,
) -> Generator[Message, None, None]:
    with closing(_Reader(endpoints, topic, start_offset, _STREAM_BYTES)) as reader:
        reader.open(partition, end_offset, clock.now() + seconds)
        while reader.unread:
            # From now on: how long the caller took for the last messages does not count.
            messages = reader.read(clock.now() + seconds)
            if not messages and reader.unread:
                raise reader.late()
            yield from messages_of(messages, None)


def _matching(
    stream: Generator[Message, None, None], predicate: Callable[[Message], Any]
) -> Generator[Message, None, None]:
    with closing(stream):
        for message in stream:
            if predicate(message):
                yield message


def _size(message: Any) -> int:
    of_headers = sum(len(name) + len(value or b"") for name, value in message.headers() or ())
    return len(message.key() or b"") + len(message.value() or b"") + of_headers


class _Reader(ShortLived):
    """A librdkafka consumer that reads some partitions of a topic, each up to an offset."""

    def __init__(self, endpoints: str, topic: str, start: int | None, ahead: int) -> None:
        self.topic = topic
        self.unread: dict[int, int] = {}
        """The partitions that are not read to their end yet, and their ends."""
        self._start = start
        self._failed: KafkaError | None = None
        self._pid = os.getpid()
        config = {
            **_READING,
            "queued.max.messages.kbytes": min(ahead // 1024 + 1, _MOST_KIBIBYTES),
            # Who named an offset hears when it is gone; who did not wants what is there.
            "auto.offset.reset": "earliest" if start is None else "error",
        }
        super().__init__(DriverConsumer, endpoints, config)

    def open(self, partition: int | None, end: int | None, deadline: float) -> dict[int, int]:
        """Start reading one partition, or all; returns the offset where each ends now."""
        ends: dict[int, int] = {}
        assigned: list[TopicPartition] = []
        for number in self._partitions(partition, deadline):
            low, high = self._watermarks(number, deadline)
            start = low if self._start is None else self._start
            if start < low:
                raise self._out_of_range(number, f"from {low} to {high}")
            ends[number] = high
            last = high if end is None else min(end, high)
            if start < last:
                self.unread[number] = last
                assigned.append(TopicPartition(self.topic, number, start))
        if assigned:
            self.driver.incremental_assign(assigned)
        return ends

    def _partitions(self, partition: int | None, deadline: float) -> list[int]:
        numbers = self.partitions(self.topic, deadline)
        if partition is None:
            return numbers
        if partition not in numbers:
            raise unknown_partition(self.topic, partition, len(numbers))
        return [partition]

    def _watermarks(self, partition: int, deadline: float) -> tuple[int, int]:
        """The first offset, and the one after the last that may be read."""
        place = TopicPartition(self.topic, partition)
        try:
            low, high = self.answer(
                lambda seconds: self.driver.get_watermark_offsets(place, timeout=seconds), deadline
            )
        except KafkaException as raised:
            error = raised.args[0]
        else:
            return low, high
        raise error_of(error, f"could not ask for the offsets of {self._name(partition)}")

    def read(self, deadline: float) -> list[DriverMessage]:
        """The next messages, in order within each partition.

        None when all partitions are read to their ends, or when none came until the deadline.
        """
        if self._pid != os.getpid():
            raise Forked
        while self.unread:
            if self._failed is not None:
                raise self._failed
            # A poll, then what is there: the rate of batches at the latency of single messages.
            with in_librdkafka():
                first = self.driver.poll(POLL_SECONDS)
                raw = [] if first is None else [first, *self.driver.consume(_READ_AT_ONCE - 1, 0)]
            if messages := self._sort_out(raw):
                return messages
            if clock.now() >= deadline:
                break
        return []

    def late(self) -> KafkaError:
        """The error of a caller who has waited long enough."""
        if self._failed is not None:
            return self._failed
        names = ", ".join(map(self._name, self.unread))
        why = f": {self.trouble.last}" if self.trouble.last else ""
        return KafkaError("timeout", f"no message of {names} came in time, and there are some{why}")

    def _sort_out(self, raw: list[Any]) -> list[DriverMessage]:
        """The messages that are asked for, up to an error, which the next read raises."""
        messages = []
        for message in raw:
            partition, offset = message.partition(), message.offset()
            error = message.error()
            if error is not None and error.code() != DriverError._PARTITION_EOF:
                self._failed = self._failure(error, partition)
                if self._failed is not None:
                    break
            elif partition in self.unread:
                end = self.unread[partition]
                if error is None and offset < end:
                    messages.append(message)
                if error is not None or offset >= end - 1:
                    self._finish(partition)
        return messages

    def _finish(self, partition: int) -> None:
        del self.unread[partition]
        self.driver.incremental_unassign([TopicPartition(self.topic, partition)])

    def _failure(self, error: DriverError, partition: int) -> KafkaError | None:
        """What an error means; None for one that passes by itself, or ends in a timeout."""
        if error.code() in _OUT_OF_RANGE:
            return self._out_of_range(partition, "that is still there")
        if error.code() in _NO_TOPIC:
            return unknown_topic(self.topic)
        if reason_of(error) in _PASSING:
            self.trouble.heard(error)
            return None
        return error_of(error, f"could not read {self._name(partition)}")

    def _out_of_range(self, partition: int, expected: str) -> KafkaError:
        return KafkaError(
            ("offset_out_of_range", self.topic, partition, self._start),
            f"expected an offset of {self._name(partition)} {expected}, got: {self._start}; older"
            " messages are deleted; None starts at the first there is",
        )

    def _name(self, partition: int) -> str:
        return f"{self.topic}[{partition}]"

    def close(self) -> None:
        """End librdkafka's threads."""
        if self._pid == os.getpid():
            close_in_time(self.driver.close)
        else:
            # A forked child has none of the threads that closing, or forgetting it, waits for.
            _inherited.append(self.driver)


_inherited: list[Any] = []


# ---- what a caller gives


def _check_offset(call: str, name: str, value: Any) -> None:
    if value is not None:
        _check_whole(call, name, value, or_none=" or None")


def _check_whole(call: str, name: str, value: Any, least: int = 0, or_none: str = "") -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(
            ("bad_value", name, value),
            f"{call}: expected {name} to be a whole number, {least} or more{or_none},"
            f" got: {value!r}",
        )


def _sought(call: str, text: Any) -> bytes:
    match text:
        case str():
            return text.encode()
        case bytes():
            return text
    raise TypeError(f"{call}: expected the text to look for as str or bytes, got: {text!r}")
