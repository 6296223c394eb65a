"""What is received and what is sent: messages from Kafka, and records made of what callers give."""

from __future__ import annotations

import reprlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any, NamedTuple, NoReturn

import confluent_kafka

from elsa_actors.kafka.errors import KafkaError, nearest

CHUNK_BYTES = 900_000
"""A chunk of messages stays below this many bytes: a broker takes about a million by default."""

_KEYS = ("key", "value", "headers", "timestamp")
_NO_TIMESTAMP = confluent_kafka.TIMESTAMP_NOT_AVAILABLE
_LAST_TIMESTAMP = 2**63 - 1
_RECORD_BYTES = 10  # counted for every record besides its contents
_EXPECTED = (
    "text, bytes, (key, value) or"
    " {'key': ..., 'value': ..., 'headers': [(name, value)], 'timestamp': milliseconds}"
)

_CREATE_TIME = confluent_kafka.TIMESTAMP_CREATE_TIME
_make_raw: Any = confluent_kafka.Message

# Calling a NamedTuple runs a Python function for each one; this makes the same tuple without.
_new = tuple.__new__


class Message:
    """A message as it came from Kafka; its fields are read when they are asked for.

    ``key`` and ``value`` are bytes or None (a value of None is a tombstone), ``timestamp`` is in
    milliseconds since the epoch or None, ``headers`` a list of (str, bytes or None), repeats kept.
    ``generation_id`` is that of the group's assignment, None for a simple consumer.

        >>> Message("orders", 3, 812, key=b"customer-1", value=b"two lamps").value
        b'two lamps'
    """

    __slots__ = ("_generation_id", "_raw")
    __match_args__ = _FIELDS = (
        "topic", "partition", "offset", "key", "value", "timestamp", "headers", "generation_id",
    )  # fmt: skip

    _raw: confluent_kafka.Message
    _generation_id: int | None

    def __init__(
        self,
        topic: str,
        partition: int,
        offset: int,
        key: bytes | None = None,
        value: bytes | None = None,
        timestamp: int | None = None,
        headers: Sequence[tuple[str, bytes | None]] = (),
        generation_id: int | None = None,
    ) -> None:
        stamp = (_NO_TIMESTAMP, 0) if timestamp is None else (_CREATE_TIME, timestamp)
        self._raw = _make_raw(
            topic=topic, partition=partition, offset=offset, key=key, value=value,
            timestamp=stamp, headers=list(headers),
        )  # fmt: skip
        if generation_id is not None:
            self._generation_id = generation_id

    @property
    def topic(self) -> str:
        return self._raw.topic()  # type: ignore[return-value]

    @property
    def partition(self) -> int:
        return self._raw.partition()  # type: ignore[return-value]

    @property
    def offset(self) -> int:
        return self._raw.offset()  # type: ignore[return-value]

    @property
    def key(self) -> bytes | None:
        return self._raw.key()

    @property
    def value(self) -> bytes | None:
        return self._raw.value()

    @property
    def timestamp(self) -> int | None:
        kind, milliseconds = self._raw.timestamp()
        return None if kind == _NO_TIMESTAMP else milliseconds

    @property
    def headers(self) -> list[tuple[str, bytes | None]]:
        headers: Any = self._raw.headers()
        return headers or []

    @property
    def generation_id(self) -> int | None:
        try:
            return self._generation_id
        except AttributeError:
            return None  # Not written for each message of a simple consumer.

    def _fields(self) -> tuple[Any, ...]:
        return tuple([getattr(self, name) for name in self._FIELDS])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Message) and self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash((self.topic, self.partition, self.offset))

    def __reduce__(self) -> Any:
        return Message, self._fields()

    def __repr__(self) -> str:
        fields = zip(self._FIELDS, self._fields(), strict=True)
        return f"Message({', '.join(f'{name}={value!r}' for name, value in fields)})"


class Record(NamedTuple):
    """A message to produce, in Kafka's terms; ``given`` is what the caller gave for it."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]] | None
    timestamp: int | None
    given: Any


# ---- messages received


def messages_of(raw: list[confluent_kafka.Message], generation_id: int | None) -> list[Message]:
    """The messages of what a librdkafka consumer read; errors must be sorted out before."""
    # Without a Python function for each message: half a million a second come through here.
    messages: list[Message] = list(map(object.__new__, repeat(Message, len(raw))))
    deque(map(_set_raw, messages, raw), 0)
    if generation_id is not None:
        deque(map(_set_generation_id, messages, repeat(generation_id)), 0)
    return messages


_set_raw = vars(Message)["_raw"].__set__
_set_generation_id = vars(Message)["_generation_id"].__set__


# ---- messages to produce


def records_of(messages: Any) -> list[Record]:
    """The records of what a caller wants produced: one message, or any iterable of messages.

    A message is bytes or text (UTF-8), a tuple ``(key, value)``, or a dictionary with a "value" and
    perhaps a "key", "headers" and a "timestamp". A tuple is always one message; lists, generators
    and the like hold several. No key is None, and a value of None is a tombstone. Raises KafkaError
    (("bad_message", message)) that says which one is wrong, and sends none.

        >>> [(record.key, record.value) for record in records_of(["a", ("k", "b")])]
        [(None, b'a'), (b'k', b'b')]
    """
    if _is_one(messages):
        return [record_of(messages)]
    return [
        _new(Record, (None, message, None, None, message))
        if type(message) is bytes
        else _record(message, index)
        for index, message in enumerate(messages)
    ]


def listed(messages: Any) -> list[Any]:
    """What a caller wants produced as a list of messages, as they were given and not looked at.

    `records_of` makes the same of it; a generator, which can be read only once, is not lost.
    """
    return [messages] if _is_one(messages) else list(messages)


def _is_one(messages: Any) -> bool:
    single = isinstance(messages, str | bytes | bytearray | memoryview | tuple | Mapping)
    return single or not isinstance(messages, Iterable)


def record_of(message: Any) -> Record:
    """The record of one message, in any of the forms of `records_of`."""
    return _record(message, None)


def _record(message: Any, index: int | None) -> Record:
    """The record of a message, which stands at ``index`` of what the caller gave."""
    # The usual form, without the cost of the patterns.
    if type(message) is tuple and len(message) == 2:
        key = _bytes("key", message[0], message, index)
        value = _bytes("value", message[1], message, index)
        return _new(Record, (key, value, None, None, message))
    match message:
        case str() | bytes():
            return Record(None, _bytes("value", message, message, index), None, None, message)
        case Message() | Record():
            _refuse(
                message,
                index,
                _EXPECTED,
                f"a {type(message).__name__}; to send it on, give (message.key, message.value)",
            )
        case tuple() if len(message) == 2:
            return _record(tuple(message), index)._replace(given=message)
        case Mapping():
            return _record_of_mapping(message, index)
    advice = ""
    if isinstance(message, tuple):
        advice = "; a tuple is one message, put several messages in a list"
    elif isinstance(message, bytearray | memoryview):
        advice = "; give bytes(...) of it"
    elif message is None:
        advice = "; a tombstone is (key, None)"
    return _refuse(message, index, _EXPECTED, _short(message) + advice)


def _record_of_mapping(message: Mapping[Any, Any], index: int | None) -> Record:
    for name in message:
        if name not in _KEYS:
            known = ", ".join(repr(key) for key in _KEYS)
            _refuse(message, index, f"the keys {known}", f"{name!r}{nearest(name, _KEYS)}")
    if "value" not in message:
        _refuse(
            message, index, "a 'value' (None for a tombstone)", f"only {sorted(message, key=str)}"
        )
    return Record(
        _bytes("key", message.get("key"), message, index),
        _bytes("value", message["value"], message, index),
        _headers(message.get("headers"), message, index),
        _timestamp(message.get("timestamp"), message, index),
        message,
    )


def _bytes(field: str, value: Any, message: Any, index: int | None) -> bytes | None:
    if value is None or type(value) is bytes:
        return value
    if isinstance(value, str):
        return _utf8(field, value, message, index)
    if isinstance(value, bytes):
        return bytes(value)
    return _refuse(message, index, f"a {field} of text, bytes or None", _short(value))


def _utf8(field: str, text: str, message: Any, index: int | None) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        _refuse(message, index, f"a {field} that can be written as UTF-8", _short(text))


def _headers(
    headers: Any, message: Any, index: int | None
) -> list[tuple[str, bytes | None]] | None:
    if headers is None:
        return None
    expected = "headers as a list of (name, value)"
    if isinstance(headers, Mapping):
        _refuse(
            message, index, expected, "a dictionary; names may repeat, give list(headers.items())"
        )
    if not isinstance(headers, list | tuple):
        _refuse(message, index, expected, _short(headers))
    pairs = []
    for place, header in enumerate(headers):
        if not (isinstance(header, tuple | list) and len(header) == 2):
            _refuse(message, index, expected, f"{_short(header)} as header {place}")
        name, value = header
        if not isinstance(name, str):
            _refuse(message, index, "text as a header's name", f"{_short(name)} in header {place}")
        _utf8("header's name", name, message, index)
        if "\0" in name:  # librdkafka would cut it there.
            _refuse(message, index, "a header's name without a NUL", f"{_short(name)}")
        pairs.append((name, _bytes(f"value in header {name!r}", value, message, index)))
    return pairs or None


def _timestamp(timestamp: Any, message: Any, index: int | None) -> int | None:
    if timestamp is None:
        return None
    if isinstance(timestamp, bool) or not isinstance(timestamp, int):
        advice = "; int(seconds * 1000)" if isinstance(timestamp, float) else ""
        _refuse(
            message,
            index,
            "a timestamp in milliseconds since the epoch, a whole number",
            _short(timestamp) + advice,
        )
    # 0 is librdkafka's word for "now": it would write another time than was asked for.
    if not 0 < timestamp <= _LAST_TIMESTAMP:
        _refuse(
            message,
            index,
            "a timestamp in milliseconds since the epoch, 1 or more",
            f"{timestamp}; leave it out for the present time",
        )
    return timestamp


def _refuse(message: Any, index: int | None, expected: str, got: str) -> NoReturn:
    where = "" if index is None else f"message {index} of the list: "
    raise KafkaError(("bad_message", message), f"{where}expected {expected}, got: {got}")


def _short(value: Any) -> str:
    return reprlib.repr(value)


# ---- chunks


def size_of(record: Record | bytes) -> int:
    """How many bytes a record counts for: key, value, headers, and 10 for all else.

    Bytes are a value alone.
    """
    if isinstance(record, bytes):
        return _RECORD_BYTES + len(record)
    key, value, headers, _, _ = record
    size = _RECORD_BYTES
    if key is not None:
        size += len(key)
    if value is not None:
        size += len(value)
    if headers is not None:
        for name, content in headers:
            size += len(name.encode()) + len(content or b"")
    return size


def chunks(
    records: Iterable[Record | bytes], limit: int = CHUNK_BYTES
) -> Iterator[list[Record | bytes]]:
    """Cut records, in order, into chunks of fewer than ``limit`` bytes by `size_of`.

    No chunk is empty; a record that is larger on its own is a chunk of its own.
    """
    chunk: list[Record | bytes] = []
    total = 0
    for record in records:
        size = size_of(record)
        if chunk and total + size >= limit:
            yield chunk
            chunk, total = [], 0
        chunk.append(record)
        total += size
    if chunk:
        yield chunk
