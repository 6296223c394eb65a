"""Messages to and from Kafka: through a supervised tree, and by the bare client.

The broker is librdkafka's own, in a process of its own, so that it takes nothing from either side.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from time import perf_counter
from typing import Any

import confluent_kafka
from confluent_kafka import TopicPartition

from benchmarks.report import Comparison, Measure, Section, Settings, Target
from elsa_actors import Supervisor
from elsa_actors.kafka import (
    ElsaSupervisor,
    Message,
    MessageHandler,
    Murmur2,
    produce,
    producers_ready,
)

RAW_READ = "bare consume(500)"
RAW_POLLED = "bare poll, then consume(499, 0)"
OURS_READ = "batches to handlers"
RAW_WRITE = "bare produce with on_delivery"
OURS_WRITE = "produce, confirmed"
RAW_LONE = "bare produce and flush"
OURS_LONE = "produce, confirmed"
SELDOM = ", gc.set_threshold(5000)"

_PARTITIONS = 4
_READ = 120_000  # the broker keeps 5 MiB a partition
_WRITTEN = 20_000
_LONE = 200
_VALUE = b"x" * 100
_CONNECTION = "benchmarks"
_TOPICS = {"read": _PARTITIONS, "written": _PARTITIONS, "lone": 1}
_QUICK_FETCH = {"fetch.wait.max.ms": 10}  # The broker does not wake a fetch that waits for data.


@contextmanager
def broker() -> Iterator[str]:
    """A broker in a process of its own; its endpoints."""
    command = [sys.executable, "-m", "elsa_actors", "broker"]
    for topic, partitions in _TOPICS.items():
        command += ["--topic", f"{topic}:{partitions}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[0]
    finally:
        process.terminate()
        process.wait()


def fill(endpoints: str) -> None:
    producer = bare_producer(endpoints)
    for number in range(_READ):
        producer.produce("read", _VALUE, partition=number % _PARTITIONS)
        if number % 10_000 == 0:
            producer.flush()
    producer.flush()
    producer.close()


def bare_producer(endpoints: str) -> Any:
    return confluent_kafka.Producer({"bootstrap.servers": endpoints, "enable.idempotence": True})


# ---- reading


def bare_reader(endpoints: str, polled: bool) -> Measure:
    """From the first message to the last, the consumer's start left out on both sides."""

    def measure() -> float:
        consumer = confluent_kafka.Consumer(
            {
                "bootstrap.servers": endpoints,
                "group.id": "bare",
                "enable.auto.commit": False,
                **_QUICK_FETCH,
            }
        )
        consumer.assign([TopicPartition("read", number, 0) for number in range(_PARTITIONS)])
        count, started = 0, 0.0
        while count < _READ:
            if polled:
                first = consumer.poll(0.2)
                messages = [] if first is None else [first, *consumer.consume(499, 0)]
            else:
                messages = consumer.consume(500, 0.2)
            if messages and not started:
                started = perf_counter()
            count += len(messages)
        seconds = perf_counter() - started
        consumer.close()
        return seconds / _READ

    return measure


class Counting(MessageHandler):
    lock = threading.Lock()
    count = 0
    started = 0.0
    all_there = threading.Event()

    def handle_messages(self, messages: list[Message]) -> str:
        with self.lock:
            if not Counting.started:
                Counting.started = perf_counter()
            Counting.count += len(messages)
            if Counting.count >= _READ:
                self.all_there.set()
        return "ack"


def reader(endpoints: str) -> Measure:
    """The same by the simple consumer, whose handlers acknowledge every batch."""

    def measure() -> float:
        Counting.count, Counting.started = 0, 0.0
        Counting.all_there.clear()
        tree = ElsaSupervisor.start_link(
            endpoints=endpoints,
            connection=f"{_CONNECTION}.read",
            consumer={"topic": "read", "handler": Counting, "config": _QUICK_FETCH},
        )
        assert Counting.all_there.wait(60), f"{Counting.count} of {_READ} messages were handled"
        seconds = perf_counter() - Counting.started
        Supervisor.stop(tree)
        return seconds / _READ

    return measure


# ---- writing


def bare_writer(endpoints: str, stack: ExitStack) -> Measure:
    producer = bare_producer(endpoints)
    stack.callback(producer.close)

    def measure() -> float:
        delivered = 0

        def count(error: Any, message: Any) -> None:
            nonlocal delivered
            delivered += error is None

        started = perf_counter()
        for number in range(_WRITTEN):
            producer.produce("written", _VALUE, partition=0, on_delivery=count)
            if number % 500 == 0:
                producer.poll(0)
        producer.flush()
        seconds = perf_counter() - started
        assert delivered == _WRITTEN, f"{delivered} of {_WRITTEN} messages were delivered"
        return seconds / _WRITTEN

    return measure


def writer() -> Measure:
    messages = [_VALUE] * _WRITTEN

    def measure() -> float:
        started = perf_counter()
        produce(_CONNECTION, "written", messages, partition=0)
        return (perf_counter() - started) / _WRITTEN

    return measure


def keyed_writer() -> Measure:
    messages = [(b"%d" % number, _VALUE) for number in range(_WRITTEN)]

    def measure() -> float:
        started = perf_counter()
        produce(_CONNECTION, "written", messages, partitioner=Murmur2)
        return (perf_counter() - started) / _WRITTEN

    return measure


def bare_lone(endpoints: str, stack: ExitStack) -> Measure:
    producer = bare_producer(endpoints)
    stack.callback(producer.close)

    def measure() -> float:
        started = perf_counter()
        for _ in range(_LONE):
            producer.produce("lone", _VALUE)
            producer.flush()
        return (perf_counter() - started) / _LONE

    return measure


def lone() -> float:
    started = perf_counter()
    for _ in range(_LONE):
        produce(_CONNECTION, "lone", _VALUE)
    return (perf_counter() - started) / _LONE


@contextmanager
def tree(endpoints: str) -> Iterator[None]:
    supervisor = ElsaSupervisor.start_link(
        endpoints=endpoints,
        connection=_CONNECTION,
        producer=[{"topic": "written"}, {"topic": "lone"}],
    )
    try:
        producers_ready(_CONNECTION)
        yield
    finally:
        Supervisor.stop(supervisor)


def off_main(measure: Measure) -> Measure:
    """The same on a thread as processes have one; the main thread waits for another's poll."""

    def measured() -> float:
        seconds: list[float] = []
        thread = threading.Thread(target=lambda: seconds.append(measure()))
        thread.start()
        thread.join()
        return seconds[0]

    return measured


def seldom_collected(measure: Measure) -> Measure:
    """The same where Python looks for garbage after 5,000 new objects."""

    def measured() -> float:
        before = gc.get_threshold()
        gc.set_threshold(5000)
        try:
            return measure()
        finally:
            gc.set_threshold(*before)

    return measured


# ---- the tables


def run_reading(settings: Settings) -> Section:
    with broker() as endpoints:
        fill(endpoints)
        found = Comparison(
            {
                RAW_READ: bare_reader(endpoints, polled=False),
                RAW_POLLED: bare_reader(endpoints, polled=True),
                RAW_READ + SELDOM: seldom_collected(bare_reader(endpoints, polled=False)),
                OURS_READ: reader(endpoints),
                OURS_READ + SELDOM: seldom_collected(reader(endpoints)),
            },
            rounds(settings),
        )
    section = found.section("A message read, of 120,000 in 4 partitions", (RAW_READ,))
    rate = found.ratio(RAW_READ, OURS_READ)
    section.targets = [
        Target("rate of batches to handlers, of bare consume(500)", rate, 0.7, at_most=False)
    ]
    return section


def run_writing(settings: Settings) -> Section:
    with ExitStack() as stack:
        endpoints = stack.enter_context(broker())
        stack.enter_context(tree(endpoints))
        found = Comparison(
            {
                RAW_WRITE: off_main(bare_writer(endpoints, stack)),
                RAW_WRITE + SELDOM: seldom_collected(off_main(bare_writer(endpoints, stack))),
                OURS_WRITE: off_main(writer()),
                OURS_WRITE + SELDOM: seldom_collected(off_main(writer())),
                "produce by key, confirmed": off_main(keyed_writer()),
                "produce, confirmed, on the main thread": writer(),
            },
            rounds(settings),
        )
    section = found.section("A message produced and confirmed, of 20,000", (RAW_WRITE,))
    rate = found.ratio(RAW_WRITE, OURS_WRITE)
    section.targets = [
        Target("rate of confirmed produce, of the bare client's", rate, 0.8, at_most=False)
    ]
    return section


def run_lone(settings: Settings) -> Section:
    with ExitStack() as stack:
        endpoints = stack.enter_context(broker())
        stack.enter_context(tree(endpoints))
        found = Comparison(
            {
                RAW_LONE: off_main(bare_lone(endpoints, stack)),
                OURS_LONE: off_main(lone),
                "produce, confirmed, on the main thread": lone,
            },
            rounds(settings),
        )
    section = found.section("A lone message, confirmed", (RAW_LONE,))
    milliseconds = found.median(OURS_LONE) * 1e3
    section.targets = [Target("a lone confirmed send", milliseconds, 0.2, unit="ms")]
    return section


def rounds(settings: Settings) -> int:
    return max(settings.rounds // 3, 3)
