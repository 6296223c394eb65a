"""Reading messages without a tree."""

import gc
import itertools
import os
import signal
import socket
import sys
import threading
import time

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from elsa_actors import Forked, Task, process
from elsa_actors.kafka.embedded import EmbeddedKafka
from elsa_actors.kafka.errors import ConfigError, KafkaError
from elsa_actors.kafka.fetch import fetch, fetch_stream, search, search_keys, search_values
from elsa_actors.kafka.message import Message
from elsa_actors.kafka.produce import produce
from elsa_actors.runtime.clock import clock
from tests.kafka.trees import librdkafka_threads, no_new_librdkafka_threads, wait_until

SEARCHES = [
    pytest.param(lambda *where, **more: fetch_stream(*where, **more), id="fetch_stream"),
    pytest.param(lambda *where, **more: search(*where, bool, **more), id="search"),
    pytest.param(lambda *where, **more: search_keys(*where, "k", **more), id="search_keys"),
    pytest.param(lambda *where, **more: search_values(*where, "v", **more), id="search_values"),
]
CALLS = [pytest.param(lambda *where, **more: fetch(*where, **more), id="fetch"), *SEARCHES]


@pytest.fixture
def nowhere():
    """Endpoints where nobody listens, and nobody will during the test."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def numbers(embedded, new_topic):
    """A topic of three partitions; ten messages, "v0" to "v9", are in partition 1."""
    topic = new_topic(embedded, 3)
    messages = [(f"k{number}", f"v{number}") for number in range(10)]
    produce(embedded.endpoints, topic, messages, partition=1)
    return topic


def offsets(messages):
    return [message.offset for message in messages]


def transaction(endpoints, topic, values, end="commit"):
    """Write messages in a transaction, and end it; "open" leaves it, and returns the producer."""
    producer = Producer({"bootstrap.servers": endpoints, "transactional.id": topic, "log_level": 0})
    producer.init_transactions(30)
    producer.begin_transaction()
    for value in values:
        producer.produce(topic, value, partition=0)
    assert producer.flush(30) == 0
    if end == "commit":
        producer.commit_transaction(30)
    elif end == "abort":
        producer.abort_transaction(30)
    return producer


def await_end(endpoints, topic, end):
    """Kafka says that a transaction is over a little before it can be read."""
    wait_until(lambda: fetch(endpoints, topic, offset=end)[0] == end)


# ---- fetch


def test_fetch_gives_all_messages_and_where_to_go_on(embedded, numbers):
    """What the next call is given as offset."""
    next_offset, messages = fetch(embedded.endpoints, numbers, partition=1)
    assert next_offset == 10
    assert [message.value for message in messages] == [b"v%d" % number for number in range(10)]


def test_fetch_gives_messages_as_handlers_get_them(embedded, new_topic):
    """Every field is there, after the client that read them has been closed."""
    topic = new_topic(embedded)
    sent = {"key": "k", "value": None, "headers": [("a", b"1"), ("a", None)], "timestamp": 1234}
    produce(embedded.endpoints, topic, sent)
    _, [message] = fetch(embedded.endpoints, topic)
    assert message == Message(topic, 0, 0, b"k", None, 1234, [("a", b"1"), ("a", None)], None)


@pytest.mark.parametrize("offset", [0, 4, 9])
def test_fetch_starts_at_the_offset(embedded, numbers, offset):
    """Nothing before it, and the message there is the first."""
    next_offset, messages = fetch(embedded.endpoints, numbers, partition=1, offset=offset)
    assert next_offset == 10
    assert offsets(messages) == [*range(offset, 10)]


@pytest.mark.parametrize("offset", [10, 11, 5000])
def test_past_the_end_there_is_nothing(embedded, numbers, offset):
    """The end is told, so that the next call can go on there."""
    assert fetch(embedded.endpoints, numbers, partition=1, offset=offset) == (10, [])


def test_empty_partition_has_nothing(embedded, numbers):
    """And the answer comes at once, not when the time is over."""
    began = time.monotonic()
    assert fetch(embedded.endpoints, numbers) == (0, [])
    assert time.monotonic() - began < 10.0


def test_long_partition_is_fetched_piece_by_piece(embedded, new_topic):
    """One call does not fill the memory; none is left out between two."""
    topic = new_topic(embedded)
    produce(embedded.endpoints, topic, [(f"{number:03}", "v" * 97) for number in range(100)])
    read, offset, calls = [], None, 0
    while True:
        offset, messages = fetch(embedded.endpoints, topic, offset=offset, max_bytes=2000)
        if not messages:
            break
        read += messages
        calls += 1
        assert len(messages) == 20
    assert offsets(read) == [*range(100)]
    assert (offset, calls) == (100, 5)


def test_message_that_is_larger_than_max_bytes_is_fetched_alone(embedded, numbers):
    """Else nobody could ever get past it."""
    next_offset, messages = fetch(embedded.endpoints, numbers, partition=1, offset=3, max_bytes=1)
    assert (next_offset, offsets(messages)) == (4, [3])


def test_max_bytes_may_be_more_than_there_is(embedded, numbers):
    """More than librdkafka would have, too."""
    assert fetch(embedded.endpoints, numbers, partition=1, max_bytes=10**13)[0] == 10


def test_partition_without_a_leader_is_an_error_in_time():
    """Nobody can tell what is in it."""
    with EmbeddedKafka(topics={"orders": 2}) as kafka:
        kafka.set_leader("orders", 1, None)
        assert fetch(kafka.endpoints, "orders", partition=0) == (0, [])
        with pytest.raises(KafkaError, match=r"orders\[1\]"):
            fetch(kafka.endpoints, "orders", partition=1, timeout=0.5)


def test_deleted_messages_are_out_of_range(apache, new_topic):
    """Who asks for what is gone hears it; who takes what there is starts at the first."""
    topic = new_topic(apache)
    produce(apache.endpoints, topic, [str(number) for number in range(10)])
    admin = AdminClient({"bootstrap.servers": apache.endpoints, "log_level": 0})
    for future in admin.delete_records([TopicPartition(topic, 0, 4)]).values():
        future.result(timeout=30)
    with pytest.raises(KafkaError, match=r"from 4 to 10, got: 2; older messages are del") as raised:
        fetch(apache.endpoints, topic, offset=2)
    assert raised.value.reason == ("offset_out_of_range", topic, 0, 2)
    with pytest.raises(KafkaError, match="from 4 to 10"):
        list(fetch_stream(apache.endpoints, topic, start_offset=3))
    next_offset, messages = fetch(apache.endpoints, topic)
    assert (next_offset, offsets(messages)) == (10, [4, 5, 6, 7, 8, 9])
    assert offsets(fetch_stream(apache.endpoints, topic, end_offset=6)) == [4, 5]
    assert offsets(fetch_stream(apache.endpoints, topic, end_offset=3)) == []


# ---- offsets that are no messages


def test_marks_of_transactions_are_no_messages(apache, new_topic):
    """The last offset is a mark; whoever waited for a message there would wait for ever."""
    topic = new_topic(apache)
    transaction(apache.endpoints, topic, ["a", "b"])
    await_end(apache.endpoints, topic, 3)
    next_offset, messages = fetch(apache.endpoints, topic, timeout=20.0)
    assert ([message.value for message in messages], next_offset) == ([b"a", b"b"], 3)
    assert fetch(apache.endpoints, topic, offset=2, timeout=20.0) == (3, [])
    assert offsets(fetch_stream(apache.endpoints, topic, timeout=20.0)) == [0, 1]
    produce(apache.endpoints, topic, "after the mark")
    assert offsets(fetch_stream(apache.endpoints, topic, end_offset=3)) == [0, 1]
    assert offsets(fetch_stream(apache.endpoints, topic)) == [0, 1, 3]


def test_aborted_messages_are_not_read(apache, new_topic):
    """A partition of nothing else has an end, and nothing before it."""
    topic = new_topic(apache)
    transaction(apache.endpoints, topic, ["a", "b"], "abort")
    await_end(apache.endpoints, topic, 3)
    assert fetch(apache.endpoints, topic, timeout=20.0) == (3, [])
    assert list(fetch_stream(apache.endpoints, topic, timeout=20.0)) == []


def test_open_transaction_is_the_end(apache, new_topic):
    """What is not committed yet is there later; it is not waited for."""
    topic = new_topic(apache)
    produce(apache.endpoints, topic, ["a"])
    producer = transaction(apache.endpoints, topic, ["b"], "open")
    next_offset, messages = fetch(apache.endpoints, topic, timeout=20.0)
    assert (next_offset, offsets(messages)) == (1, [0])
    producer.commit_transaction(30)
    await_end(apache.endpoints, topic, 3)
    next_offset, messages = fetch(apache.endpoints, topic, offset=next_offset, timeout=20.0)
    assert (next_offset, offsets(messages)) == (3, [1])


# ---- fetch_stream


def test_stream_of_a_partition(embedded, numbers):
    """In order, from the first to the last."""
    assert offsets(fetch_stream(embedded.endpoints, numbers, partition=1)) == [*range(10)]
    assert offsets(fetch_stream(embedded.endpoints, numbers, partition=2)) == []


def test_stream_of_a_topic_is_that_of_all_its_partitions(embedded, new_topic):
    """Each in its order."""
    topic = new_topic(embedded, 5)
    for partition in range(4):  # one is empty
        produce(embedded.endpoints, topic, ["x"] * (700 + partition), partition=partition)
    read = {partition: [] for partition in range(5)}
    for message in fetch_stream(embedded.endpoints, topic):
        read[message.partition].append(message.offset)
    assert read == {p: [*range(700 + p)] for p in range(4)} | {4: []}


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (None, None, range(10)),
        (3, None, range(3, 10)),
        (None, 4, range(4)),
        (3, 6, [3, 4, 5]),
        (3, 4, [3]),
        (3, 3, []),
        (6, 3, []),
        (0, 0, []),
        (8, 100, [8, 9]),
        (10, None, []),
        (100, 200, []),
    ],
)
def test_stream_goes_from_one_offset_to_the_other(embedded, numbers, start, end, expected):
    """The end is not among them; one that lies ahead is not waited for."""
    stream = fetch_stream(
        embedded.endpoints, numbers, partition=1, start_offset=start, end_offset=end
    )
    assert offsets(stream) == [*expected]


def test_stream_ends_at_the_end_there_was(embedded, numbers):
    """A topic that is written to all the time is no stream without an end."""
    stream = fetch_stream(embedded.endpoints, numbers)
    first = next(stream)
    produce(embedded.endpoints, numbers, ["later"] * 10, partition=1)
    produce(embedded.endpoints, numbers, ["later"] * 10, partition=0)
    assert offsets([first, *stream]) == [*range(10)]


def test_stream_asks_nobody_before_it_is_read(nowhere):
    """It can be made in one place and read in another; what is never read costs nothing."""
    threads = librdkafka_threads()
    stream = fetch_stream(nowhere, "orders", timeout=0.2)
    assert librdkafka_threads() <= threads
    with pytest.raises(KafkaError):
        next(stream)


# ---- the client of a stream


def ended(stream):
    assert sum(1 for _ in stream) > 0


def closed(stream):
    next(stream)
    stream.close()


def thrown_into(stream):
    next(stream)
    with pytest.raises(ZeroDivisionError):
        stream.throw(ZeroDivisionError)


def forgotten(stream):
    next(stream)
    # The caller's is the last reference.


def cut(stream):
    assert len(list(itertools.islice(stream, 3))) == 3
    stream.close()


@pytest.mark.parametrize("end", [ended, closed, thrown_into, forgotten, cut])
@pytest.mark.parametrize("kind", SEARCHES[:2])
def test_client_ends_with_its_stream(embedded, numbers, kind, end):
    """However it ends; librdkafka's threads are gone when the call is over."""
    gc.disable()
    try:
        threads = librdkafka_threads()
        stream = kind(embedded.endpoints, numbers)
        end(stream)
        del stream
        assert librdkafka_threads() <= threads
    finally:
        gc.enable()


def test_client_ends_with_a_predicate_that_raises(embedded, numbers):
    """The error is the caller's own, and its traceback keeps no client."""
    threads = librdkafka_threads()
    stream = search(embedded.endpoints, numbers, lambda message: 1 / 0)
    with pytest.raises(ZeroDivisionError) as raised:
        next(stream)
    assert librdkafka_threads() <= threads
    assert raised.value.__traceback__ is not None


@pytest.mark.parametrize("call", CALLS)
def test_client_ends_with_an_error(embedded, call):
    """An error that somebody keeps must not keep threads and connections."""
    threads = librdkafka_threads()
    with pytest.raises(KafkaError) as raised:
        list(call(embedded.endpoints, "no-such-topic"))
    assert librdkafka_threads() <= threads
    assert raised.value.reason == ("unknown_topic", "no-such-topic")


def test_client_ends_with_a_killed_process(nowhere):
    """It waits in librdkafka for a second at most."""
    threads = librdkafka_threads()
    fetching = Task.start(lambda: fetch(nowhere, "orders", timeout=50.0))
    wait_until(lambda: librdkafka_threads() > threads)
    process.exit(fetching, "kill")
    wait_until(lambda: librdkafka_threads() <= threads, 5.0)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_stream_does_not_go_on_in_a_forked_child(embedded, numbers):
    """Its client's threads are the parent's; to read on, or to close it, would wait for ever."""
    produce(embedded.endpoints, numbers, ["x"] * 2000, partition=1)
    stream = fetch_stream(embedded.endpoints, numbers)
    next(stream)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            list(stream)  # what it has at hand, and then no more
        except Forked:
            del stream
            gc.collect()
            code = 0
        finally:
            os._exit(code)

    def exit_code():
        pid, status = os.waitpid(child, os.WNOHANG)
        return (os.waitstatus_to_exitcode(status),) if pid else None

    codes = []
    try:
        codes.append(wait_until(exit_code))
    finally:
        if not codes:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    assert codes == [(0,)]
    assert offsets(stream) == [*range(1, 2010)]


# ---- searches


def test_search_gives_what_the_predicate_takes(embedded, numbers):
    """It sees whole messages."""
    found = search(embedded.endpoints, numbers, lambda message: message.offset % 4 == 1)
    assert [message.value for message in found] == [b"v1", b"v5", b"v9"]


def test_search_of_keys_and_values(embedded, new_topic):
    """Text anywhere in them; what is not there contains nothing, not even the empty text."""
    topic = new_topic(embedded)
    messages = [("köln", "one"), (None, "köln"), ("kö", None), ("", ""), ("alt-köln-ost", "two")]
    produce(embedded.endpoints, topic, messages)
    where = embedded.endpoints, topic
    assert offsets(search_keys(*where, "köln")) == [0, 4]
    assert offsets(search_keys(*where, "köln".encode())) == [0, 4]
    assert offsets(search_keys(*where, "")) == [0, 2, 3, 4]
    assert offsets(search_values(*where, "o")) == [0, 4]
    assert offsets(search_values(*where, "")) == [0, 1, 3, 4]
    assert offsets(search_values(*where, "KÖLN")) == []


def test_search_is_within_offsets(embedded, numbers):
    """As a stream is."""
    where = embedded.endpoints, numbers
    within = {"partition": 1, "start_offset": 2, "end_offset": 5}
    assert offsets(search(*where, lambda message: True, **within)) == [2, 3, 4]
    assert offsets(search_keys(*where, "k", **within)) == [2, 3, 4]
    assert offsets(search_values(*where, "v", **within)) == [2, 3, 4]
    assert offsets(search_values(*where, "v", partition=0)) == []


# ---- nobody answers


@pytest.mark.parametrize("call", CALLS)
def test_without_a_broker_it_is_an_error_in_time(nowhere, call):
    """The original could not make sense of the answer."""
    began = time.monotonic()
    with no_new_librdkafka_threads(), pytest.raises(KafkaError, match=nowhere) as raised:
        list(call(nowhere, "orders", timeout=0.5))
    assert raised.value.reason == "no_broker"
    assert 0.4 < time.monotonic() - began < 5.0


@pytest.mark.parametrize("call", CALLS)
def test_broker_that_hangs_is_an_error_in_time(call):
    """A connection that stays and says nothing is no better than none."""
    with EmbeddedKafka(topics={"orders": 1}) as kafka:
        kafka.freeze()
        began = time.monotonic()
        with pytest.raises(KafkaError) as raised:
            list(call(kafka.endpoints, "orders", timeout=0.5))
        assert raised.value.reason == "no_broker"
        assert time.monotonic() - began < 5.0
        kafka.thaw()


@pytest.mark.parametrize("harm", ["freeze", "stop"])
def test_broker_that_is_lost_in_a_stream_is_an_error_in_time(harm, monkeypatch):
    """What was read stays good; where to go on is the offset after it."""
    # It shall not have all by then.
    monkeypatch.setattr(sys.modules[fetch.__module__], "_STREAM_BYTES", 100_000)
    with EmbeddedKafka(topics={"orders": 1}) as kafka:
        for _ in range(4):
            produce(kafka.endpoints, "orders", ["x" * 100_000] * 9)
        stream = fetch_stream(kafka.endpoints, "orders", timeout=1.0)
        first = next(stream)
        getattr(kafka, harm)()
        read = [first]
        began = time.monotonic()
        with pytest.raises(KafkaError, match=r"orders\[0\]") as raised:
            read += stream
        assert raised.value.reason == "timeout"
        assert time.monotonic() - began < 8.0
        kafka.start()
        kafka.thaw()
    assert offsets(read) == [*range(len(read))]


@pytest.mark.parametrize("thinks", [0.0, 1000.0])
def test_broker_that_is_back_in_time_is_read_on(monkeypatch, thinks):
    """A restart of a broker is nothing that a reader must know of.

    The time is that of the brokers: how long the reader thinks before does not count.
    """
    now = clock.now
    with EmbeddedKafka(topics={"orders": 1}) as kafka:
        for _ in range(4):
            produce(kafka.endpoints, "orders", ["x" * 100_000] * 9)
        stream = fetch_stream(kafka.endpoints, "orders", timeout=30.0)
        read = [next(stream)]
        kafka.stop()
        monkeypatch.setattr(clock, "now", lambda: now() + thinks)
        back = threading.Timer(0.5, kafka.start)
        back.start()
        read += stream
        back.join()
        assert offsets(read) == [*range(36)]


# ---- wrong arguments


@pytest.mark.parametrize("call", CALLS)
def test_unknown_partition_is_named(embedded, numbers, call):
    """With how many there are."""
    with pytest.raises(KafkaError, match="from 0 to 2, got: 3") as raised:
        list(call(embedded.endpoints, numbers, partition=3))
    assert raised.value.reason == ("unknown_partition", numbers, 3)


def test_unknown_topic_is_not_created(embedded):
    """The embedded broker makes each topic that it is asked for by name."""
    for _ in range(2):
        with pytest.raises(KafkaError, match="no topic 'no-such-topic'"):
            fetch(embedded.endpoints, "no-such-topic")


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("endpoints", "topic", "more"),
    [
        ("shop", "orders", {}),
        ([], "orders", {}),
        ("localhost:1", "a b", {}),
        ("localhost:1", None, {}),
        ("localhost:1", "orders", {"partition": -1}),
        ("localhost:1", "orders", {"partition": "0"}),
        ("localhost:1", "orders", {"partition": True}),
    ],
)
def test_wrong_argument_is_refused_where_it_is_given(call, endpoints, topic, more):
    """At once: not when somebody reads the stream."""
    with pytest.raises(KafkaError, match="expected"):
        call(endpoints, topic, **more)


@pytest.mark.parametrize("offset", [-1, -2, 1.0, "earliest", True])
def test_offset_that_is_none_is_refused(offset):
    """-1 and -2 mean something to Kafka, and would be somebody's arithmetic here."""
    with pytest.raises(ConfigError, match="expected offset to be a whole number, 0 or more or N"):
        fetch("localhost:1", "orders", offset=offset)
    for name in ("start_offset", "end_offset"):
        with pytest.raises(ConfigError, match=f"expected {name} to be a whole number") as raised:
            fetch_stream("localhost:1", "orders", **{name: offset})
        assert raised.value.reason == ("bad_value", name, offset)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("timeout", [-1, "5", True])
def test_timeout_that_is_none_is_refused(call, timeout):
    """Durations are seconds."""
    with pytest.raises(ValueError, match="expected timeout"):
        call("localhost:1", "orders", timeout=timeout)


def test_what_is_sought_is_checked():
    """At once, too."""
    with pytest.raises(TypeError, match="expected predicate to be a function"):
        search("localhost:1", "orders", "text")
    for call in (search_keys, search_values):
        with pytest.raises(TypeError, match=f"{call.__name__}: expected the text"):
            call("localhost:1", "orders", 3)
    with pytest.raises(ConfigError, match="max_bytes"):
        fetch("localhost:1", "orders", max_bytes=0)
