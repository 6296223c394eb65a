"""Messages as they come from Kafka, and every form in which they can be given to produce."""

import enum
import itertools
from typing import NamedTuple

import confluent_kafka
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elsa_actors.kafka.errors import KafkaError
from elsa_actors.kafka.message import (
    Message,
    Record,
    chunks,
    listed,
    messages_of,
    record_of,
    records_of,
    size_of,
)


def raw(**fields):
    return confluent_kafka.Message(**{"topic": "orders", "partition": 3, "offset": 7, **fields})


def refused(act, *arguments):
    with pytest.raises(KafkaError) as caught:
        act(*arguments)
    return caught.value


# --- messages received -------------------------------------------------------------------------


def test_message_of_kafka_has_every_field():
    """Nothing that the broker sent is lost on the way to a handler."""
    headers = [("a", b"1"), ("a", None)]
    one = raw(key=b"k", value=b"v", timestamp=(1, 1234), headers=headers)
    assert messages_of([one], 5) == [Message("orders", 3, 7, b"k", b"v", 1234, headers, 5)]


def test_messages_are_messages():
    """They are made in a quick way, which must not show."""
    (message,) = messages_of([raw(value=b"v")], None)
    assert type(message) is Message
    assert (message.topic, message.offset, message.value) == ("orders", 7, b"v")
    assert message.generation_id is None
    assert Message("orders", 3, 7) != Message("orders", 3, 8)


def test_message_without_key_value_timestamp_and_headers():
    """A tombstone without a key is legal; what is not there is None, headers an empty list."""
    (message,) = messages_of([raw()], 1)
    assert (message.key, message.value, message.timestamp) == (None, None, None)
    assert message.headers == []


def test_empty_key_and_value_are_not_none():
    """b"" is a value and no tombstone."""
    (message,) = messages_of([raw(key=b"", value=b"")], 1)
    assert (message.key, message.value) == (b"", b"")


def test_log_append_time_is_a_timestamp():
    """Topics may stamp messages at the broker."""
    (message,) = messages_of([raw(timestamp=(confluent_kafka.TIMESTAMP_LOG_APPEND_TIME, 9))], 1)
    assert message.timestamp == 9


def test_headers_are_not_shared_between_messages():
    """A handler that adds a header to one message must not find it in the next."""
    first, second = messages_of([raw(), raw()], 1)
    first.headers.append(("seen", b"1"))
    assert second.headers == []
    assert Message("t", 0, 0).headers == []


def test_messages_keep_their_order():
    """Order within a partition is what Kafka promises."""
    assert [one.offset for one in messages_of([raw(offset=n) for n in (3, 5, 9)], 1)] == [3, 5, 9]


# --- messages to produce: the forms ------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "key", "value"),
    [
        (b"v", None, b"v"),
        (b"", None, b""),
        ("grün", None, "grün".encode()),
        ("", None, b""),
        (("k", "v"), b"k", b"v"),
        ((b"k", b"v"), b"k", b"v"),
        ((None, b"v"), None, b"v"),
        ((b"", "v"), b"", b"v"),
        (("", "v"), b"", b"v"),
        (("k", None), b"k", None),
        ({"value": "v"}, None, b"v"),
        ({"value": None}, None, None),
        ({"key": "k", "value": b"v"}, b"k", b"v"),
        ({"key": b"", "value": b"v"}, b"", b"v"),
    ],
)
def test_forms_of_a_message(message, key, value):
    """No key is None and never empty; an empty key that was given stays one."""
    assert record_of(message) == Record(key, value, None, None, message)
    assert records_of(message) == [record_of(message)]
    assert records_of([message]) == [record_of(message)]


def test_record_remembers_what_was_given():
    """A ProduceError hands back the caller's own objects."""
    message = {"value": "v"}
    assert record_of(message).given is message
    assert records_of([b"plain"])[0].given == b"plain"


def test_headers_keep_their_repeats_and_order():
    """Kafka allows a name twice; a missing value is no empty one."""
    headers = [("a", b"1"), ("b", "ü"), ("a", None), ("", b"")]
    wanted = [("a", b"1"), ("b", "ü".encode()), ("a", None), ("", b"")]
    assert record_of({"value": b"v", "headers": headers}).headers == wanted
    assert record_of({"value": b"v", "headers": tuple(headers)}).headers == wanted
    assert record_of({"value": b"v", "headers": [["a", b"1"]]}).headers == [("a", b"1")]


def test_no_headers_is_none():
    """Whether nobody gave any, or none at all."""
    assert record_of({"value": b"v", "headers": None}).headers is None
    assert record_of({"value": b"v", "headers": []}).headers is None


def test_timestamp_is_milliseconds():
    """As Kafka has it, and as Message shows it."""
    assert record_of({"value": b"v", "timestamp": 1_700_000_000_000}).timestamp == 1_700_000_000_000
    assert record_of({"value": b"v", "timestamp": None}).timestamp is None


def test_several_messages_in_any_iterable_but_a_tuple():
    """A list, a generator, the keys of a dictionary: anything that is not one message itself."""
    wanted = [b"a", b"b"]
    for messages in (["a", "b"], iter(["a", "b"]), (c for c in "ab"), {"a": 1, "b": 2}.keys()):
        assert [record.value for record in records_of(messages)] == wanted
    assert [record.value for record in records_of([("k", "a"), b"b"])] == wanted
    assert records_of([]) == []
    assert records_of(iter(())) == []


@pytest.mark.parametrize("messages", ["a", b"a", ("k", "a"), {"value": "a"}, None, 5])
def test_one_message_listed(messages):
    """What `records_of` takes for one message is one, good or bad."""
    assert listed(messages) == [messages]


def test_messages_of_a_generator_are_listed_as_given():
    """Should one be wrong, the caller gets all of them back."""
    assert listed(message for message in ["a", 5, ("k", "v")]) == ["a", 5, ("k", "v")]
    assert listed([]) == []


def test_what_a_generator_raises_comes_out():
    """The library has nothing to add to it."""

    def messages():
        yield "a"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        records_of(messages())


def test_subclasses_are_what_they_are_made_of():
    """An enum of strings is text, a named tuple of two is a pair."""

    class Colour(enum.StrEnum):
        RED = "red"

    class Bytes(bytes):
        pass

    class Pair(NamedTuple):
        key: str
        value: str

    pair = Pair("k", "c")
    records = records_of([Colour.RED, Bytes(b"b"), pair])
    assert [record.value for record in records] == [b"red", b"b", b"c"]
    assert records[2].given is pair
    assert {type(record.value) for record in records} == {bytes}


# --- messages to produce: what is refused ------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (None, "a tombstone is (key, None)"),
        (5, "got: 5"),
        (True, "got: True"),
        (bytearray(b"v"), "give bytes(...) of it"),
        (memoryview(b"v"), "give bytes(...) of it"),
        (("k", "v", "w"), "put several messages in a list"),
        (("k",), "put several messages in a list"),
        ((), "put several messages in a list"),
        ((1, "v"), "expected a key of text, bytes or None, got: 1"),
        (("k", 1.5), "expected a value of text, bytes or None, got: 1.5"),
        (("k", ["v"]), "expected a value of text, bytes or None, got: ['v']"),
        ("\ud800", "can be written as UTF-8"),
        ({}, "expected a 'value'"),
        ({"key": "k"}, "expected a 'value' (None for a tombstone), got: only ['key']"),
        ({"value": "v", "header": []}, "'header'; did you mean 'headers'?"),
        ({"value": "v", "Key": "k"}, "'Key'; did you mean 'key'?"),
        ({"value": "v", 5: "k"}, "got: 5"),
        ({"value": 5}, "expected a value of text, bytes or None, got: 5"),
        ({"value": b"v", "headers": {"a": b"1"}}, "names may repeat"),
        ({"value": b"v", "headers": "ab"}, "headers as a list of (name, value), got: 'ab'"),
        ({"value": b"v", "headers": ("a", b"1")}, "got: 'a' as header 0"),
        ({"value": b"v", "headers": [("a", b"1"), ("b",)]}, "as header 1"),
        ({"value": b"v", "headers": [(b"a", b"1")]}, "text as a header's name, got: b'a'"),
        ({"value": b"v", "headers": [("a", 1)]}, "value in header 'a' of text, bytes or None"),
        ({"value": b"v", "headers": [("\ud800", b"")]}, "can be written as UTF-8"),
        ({"value": b"v", "headers": [("a\0b", b"")]}, "without a NUL"),
        ({"value": b"v", "timestamp": True}, "a whole number, got: True"),
        ({"value": b"v", "timestamp": 1.5}, "int(seconds * 1000)"),
        ({"value": b"v", "timestamp": "1"}, "a whole number, got: '1'"),
        ({"value": b"v", "timestamp": -1}, "1 or more, got: -1"),
        ({"value": b"v", "timestamp": 0}, "leave it out for the present time"),
        ({"value": b"v", "timestamp": 2**63}, "1 or more"),
        (Message("t", 0, 7, b"k", b"v"), "give (message.key, message.value)"),
    ],
)
def test_wrong_forms_are_refused(message, says):
    """Nothing is guessed: what came, and what would have been right, stand in the error."""
    error = refused(record_of, message)
    assert error.reason[0] == "bad_message"
    assert error.reason[1] is message
    assert says in str(error)


@pytest.mark.parametrize("messages", [None, 5, bytearray(b"v"), ("a", "b", "c")])
def test_what_is_no_message_is_no_list_of_them_either(messages):
    """A bytearray must not be taken for a list of numbers, a tuple not for a list."""
    assert refused(records_of, messages).reason == ("bad_message", messages)


@pytest.mark.parametrize("wrong", [5, ["b"], {"value": 1}, ("k",)])
def test_error_names_the_place_in_the_list(wrong):
    """In a list of thousands, which one it was is the question."""
    error = refused(records_of, ["a", b"b", wrong, "c"])
    assert str(error).startswith("message 2 of the list: expected ")
    assert error.reason == ("bad_message", wrong)
    assert "of the list" not in str(refused(record_of, wrong))


def test_long_values_are_shortened_in_errors():
    """A megabyte in a log line helps nobody."""
    assert len(str(refused(record_of, ("k", ["v" * 10_000] * 100)))) < 300


# --- chunks ------------------------------------------------------------------------------------


def values(*sizes):
    return records_of([b"v" * size for size in sizes])


def cut(records, limit):
    return [[len(record.value) for record in chunk] for chunk in chunks(records, limit)]


def test_size_counts_all_that_is_sent():
    """Key, value and headers, in bytes and not in characters, and a little for the rest."""
    bare = size_of(record_of((None, None)))
    assert bare == size_of(record_of((b"", b""))) == 10
    assert size_of(record_of(("ü", "grün"))) == bare + 2 + 5
    headers = [("ü", b"abc"), ("b", None)]
    assert size_of(record_of({"value": b"", "headers": headers})) == bare + 2 + 3 + 1


def test_chunks_stay_below_the_limit():
    """Each is one request's worth; the order is kept."""
    assert cut(values(10, 10, 10, 10, 10), 50) == [[10, 10], [10, 10], [10]]


def test_a_chunk_never_reaches_the_limit():
    """As Elsa cuts: two records that make the limit exactly are two chunks."""
    assert cut(values(15, 15), 50) == [[15], [15]]
    assert cut(values(15, 14), 50) == [[15, 14]]


def test_a_record_above_the_limit_is_a_chunk_of_its_own():
    """It may be refused alone; it must not take others along, and never leaves an empty chunk."""
    assert cut(values(100, 1, 1), 50) == [[100], [1, 1]]
    assert cut(values(1, 100, 1), 50) == [[1], [100], [1]]
    assert cut(values(100), 50) == [[100]]


def test_no_records_no_chunks():
    """Elsa's empty chunk was written as an empty message."""
    assert cut([], 50) == []


def test_the_limit_is_elsas():
    """Nine tenths of what a broker takes by default."""
    assert cut(values(449_989, 449_990, 1), 900_000) == [[449_989, 449_990], [1]]
    assert [len(chunk) for chunk in chunks(values(449_989, 449_990, 1))] == [2, 1]


@given(st.lists(st.integers(0, 60)), st.integers(1, 80))
def test_chunks_lose_nothing(sizes, limit):
    """Whatever the sizes: all records, in order, no empty chunk, none too large but single ones."""
    records = values(*sizes)
    parts = list(chunks(records, limit))
    assert [record for part in parts for record in part] == records
    assert all(parts)
    assert all(len(part) == 1 or sum(map(size_of, part)) < limit for part in parts)
    # Greedy: no chunk could have taken the first record of the next.
    for part, following in itertools.pairwise(parts):
        assert sum(map(size_of, part)) + size_of(following[0]) >= limit
