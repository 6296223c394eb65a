"""A tree under load, on a real broker, while everything that can break does."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from elsa_actors import Supervisor, Wrapper, call, debug, process
from elsa_actors.kafka import Message, ProduceError, produce
from elsa_actors.kafka.apache import ApacheKafka
from tests.scenarios.shop import (
    PARTITIONS,
    SLACK,
    WAIT,
    Clerk,
    Events,
    Shop,
    in_time,
    logged,
    named,
    until,
)

OUTAGE = 10.0

Find = Callable[[Shop], Any]

PROCESSES: dict[str, Find] = {
    "registry": lambda shop: shop.child("registry"),
    "positions": lambda shop: shop.child("positions"),
    "client wrapper": lambda shop: shop.child("client"),
    "client": lambda shop: shop.holder("client"),
    "producers": lambda shop: shop.child("producers"),
    "producer wrapper": lambda shop: wrapper_of(shop, ("producer", shop.topic, 1)),
    "producer": lambda shop: shop.holder(("producer", shop.topic, 1)),
    "producer manager": lambda shop: shop.child("producer_manager"),
    "consumer supervisor": lambda shop: shop.child("consumer"),
    "workers": lambda shop: shop.child("consumer", "workers"),
    "consumer": lambda shop: shop.child("consumer", "consumer"),
    "manager": lambda shop: shop.child("consumer", "manager"),
    "worker": lambda shop: shop.holder(("worker", None, shop.topic, 1)),
}
SUPERVISORS = {"producers", "consumer supervisor", "workers"}
WRAPPERS = {"client wrapper", "producer wrapper"}


def wrapper_of(shop: Shop, key: Any) -> Any:
    """The Wrapper of the process that is registered under this key."""
    wrapped = shop.holder(key)
    wrappers = [info.child for info in Supervisor.which_children(shop.child("producers"))]
    return next(ref for ref in wrappers if Wrapper.wrapped(ref) is wrapped)


class Sleeper(Clerk):
    """Sleeps over one batch of partition 1, in a way that nobody can end."""

    gate = threading.Event()
    asleep = threading.Event()
    thread: threading.Thread

    def handle_messages(self, messages: list[Message]) -> Any:
        answer = super().handle_messages(messages)
        if self.partition == 1 and not self.asleep.is_set():
            type(self).thread = threading.current_thread()
            self.asleep.set()
            self.gate.wait(WAIT)
        return answer


# ---- a process dies


@pytest.mark.parametrize("who", PROCESSES)
def test_any_process_may_be_killed(apache: Any, new_topic: Callable[..., str], who: str) -> None:
    """Whoever is killed under load: the tree mends itself, and no order is lost or repeated."""
    with Shop(apache, new_topic(apache, PARTITIONS)) as shop:
        shop.open()
        victim = PROCESSES[who](shop)
        process.exit(victim, "kill")
        assert not process.is_alive(victim)
        shop.settle()


@pytest.mark.parametrize("who", PROCESSES)
def test_any_process_may_crash(apache: Any, new_topic: Callable[..., str], who: str) -> None:
    """Whoever ends of an error of its own: the tree mends itself, and no order is lost."""
    with Shop(apache, new_topic(apache, PARTITIONS)) as shop:
        shop.open()
        victim = PROCESSES[who](shop)
        if who in SUPERVISORS | WRAPPERS:  # They answer what they do not know with an error.
            debug.terminate(victim, "boom")
        else:
            with pytest.raises(Exception):  # noqa: B017
                call(victim, "nonsense")
            if process.is_alive(victim):
                debug.terminate(victim, "boom")
        until(lambda: not process.is_alive(victim), f"{who} ended")
        shop.settle()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_several_processes_may_be_killed_together(
    apache: Any, new_topic: Callable[..., str], seed: int
) -> None:
    """Three deaths in a moment, each in the middle of the others' repair, are mended as well."""
    with Shop(apache, new_topic(apache, PARTITIONS)) as shop:
        shop.open()
        victims = random.Random(seed).sample(list(PROCESSES), 3)
        for victim in [PROCESSES[who](shop) for who in victims]:
            process.exit(victim, "kill")
        shop.settle()


def test_whole_tree_may_be_killed(apache: Any, new_topic: Callable[..., str]) -> None:
    """Its supervisor starts another, which waits for what is left of the first and begins anew."""
    with Shop(apache, new_topic(apache, PARTITIONS)) as shop:
        shop.move_under_a_supervisor()
        shop.open()
        shop.ledger.forget()  # Positions live as long as the tree.
        process.exit(shop.tree, "kill")
        shop.tree = until(lambda: process.whereis(shop.name), "there is another tree")
        shop.settle()


# ---- an operator


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_operators_stop_and_start_children_in_any_order(
    apache: Any, new_topic: Callable[..., str], seed: int
) -> None:
    """Children that were terminated and restarted, in whatever order, work together again."""
    dice = random.Random(seed)
    ids = ["client", "producers", "producer_manager", "consumer", "positions"]
    with Shop(apache, new_topic(apache, PARTITIONS)) as shop:
        shop.open()
        down: list[str] = []
        for _ in range(8):
            child_id = dice.choice(ids)
            if child_id in down:
                in_time(SLACK, Supervisor.restart_child, shop.tree, child_id)
                down.remove(child_id)
            else:
                in_time(WAIT, Supervisor.terminate_child, shop.tree, child_id)
                down.append(child_id)
            time.sleep(dice.choice([0.0, 0.05, 0.2]))
        dice.shuffle(down)
        for child_id in down:
            in_time(SLACK, Supervisor.restart_child, shop.tree, child_id)
        shop.settle()


# ---- a broker is gone


def test_broker_that_is_not_there_yet(
    breakable: ApacheKafka, new_topic: Callable[..., str]
) -> None:
    """The tree starts at once without a broker, and works when there is one."""
    topic = new_topic(breakable, PARTITIONS)
    breakable.stop()
    with logged() as events, Shop(breakable, topic) as shop:
        until(lambda: named(events, "kafka_unreachable"), "the log says that no broker is there")
        with pytest.raises(ProduceError) as caught:
            in_time(1.0 + SLACK, produce, shop.connection, topic, "early", timeout=1.0)
        assert caught.value.failed == ["early"]
        breakable.start()
        shop.open()
        shop.settle()


def test_broker_is_down_for_ten_seconds(
    breakable: ApacheKafka, new_topic: Callable[..., str]
) -> None:
    """All flows again when it is back; nobody had to die of it; a tree can be stopped meanwhile."""
    other = new_topic(breakable, PARTITIONS)
    with logged() as events, Shop(breakable, new_topic(breakable, PARTITIONS)) as shop:
        shop.open()
        before = processes_of(shop)
        with Shop(breakable, other, within=shop) as closing:
            closing.open()
            went = time.monotonic()
            breakable.stop()
            stop_without_a_broker(closing)
        time.sleep(max(went + OUTAGE - time.monotonic(), 0.0))
        breakable.start()
        shop.settle()
        assert processes_of(shop) == before
    assert_told([event for event in events if event.get("connection") != closing.connection], went)


def test_broker_is_killed(breakable: ApacheKafka, new_topic: Callable[..., str]) -> None:
    """A broker that crashed and came back finds all at work; what it confirmed is there."""
    with logged() as events, Shop(breakable, new_topic(breakable, PARTITIONS)) as shop:
        shop.open()
        went = time.monotonic()
        breakable.kill()
        until(lambda: named(events, "kafka_unreachable"), "the log says that the broker is gone")
        breakable.start()
        shop.settle()
    assert_told(events, since=went)


def test_broker_hangs_for_ten_seconds(
    breakable: ApacheKafka, new_topic: Callable[..., str]
) -> None:
    """One that does not answer, and then does: all goes on; a tree can be stopped meanwhile."""
    other = new_topic(breakable, PARTITIONS)
    hasty = {"socket.timeout.ms": 3000}  # A hanging broker is noticed after that, and not before.
    with (
        logged() as events,
        Shop(breakable, new_topic(breakable, PARTITIONS), config=hasty) as shop,
    ):
        shop.open()
        before = processes_of(shop)
        with Shop(breakable, other, within=shop) as closing:
            closing.open()
            went = time.monotonic()
            breakable.freeze()
            stop_without_a_broker(closing)
        time.sleep(max(went + OUTAGE - time.monotonic(), 0.0))
        until(lambda: named(events, "kafka_unreachable"), "the log says that the broker is gone")
        breakable.thaw()
        shop.settle()
        assert processes_of(shop) == before
    assert_told([event for event in events if event.get("connection") != closing.connection], went)


def test_client_dies_while_the_broker_is_down(
    breakable: ApacheKafka, new_topic: Callable[..., str]
) -> None:
    """Orders that were under way, and died with their client, are not called delivered."""
    with Shop(breakable, new_topic(breakable, PARTITIONS)) as shop:
        shop.open()
        breakable.kill()
        client = shop.holder("client")
        until(lambda: status_of(client)["in_flight"], "orders are under way")
        process.exit(client, "kill")
        breakable.start()
        shop.settle()


def stop_without_a_broker(shop: Shop) -> None:
    """It ends in time, with all its processes and threads, and so does who is ordering."""
    assert shop.load is not None
    shop.stop(limit=15.0)
    shop.load.stop()
    shop.load.check()


def processes_of(shop: Shop) -> set[Any]:
    """The processes of a shop that runs, all the way down."""
    shop.wait_whole()
    return set(process.list())


def assert_told(events: Events, since: float) -> None:
    """The log said once what is wrong, once that it is over, and else was quiet.

    At most one event a second of each kind and cause.
    """
    told = [event for event in events if event["at"] >= since]
    told_of_brokers = named(told, "kafka_unreachable", "kafka_reachable")
    assert [event["event"] for event in told_of_brokers] == ["kafka_unreachable", "kafka_reachable"]
    times: dict[str, list[float]] = {}
    for event in told:
        said = [event[key] for key in ("event", "cause", "topic", "partition") if key in event]
        if "text" in event:  # librdkafka's own: "FAIL [rdkafka#consumer-4] ..."
            said.append(event["text"].partition(" ")[0])
        times.setdefault(repr(said), []).append(event["at"])
    storms = {
        said: ats
        for said, ats in times.items()
        if any(sum(at <= other < at + 1.0 for other in ats) > 1 for at in ats)
    }
    assert storms == {}


# ---- a topic is gone


def test_topic_that_is_made_later(apache: Any, new_topic: Callable[..., str]) -> None:
    """A topic that is missing at first is told of once, and served as soon as it is there."""
    topic = new_topic(apache, 1)  # for its name
    apache.delete_topic(topic)
    with logged() as events, Shop(apache, topic) as shop:
        with pytest.raises(ProduceError) as caught:
            in_time(5.0 + SLACK, produce, shop.connection, topic, "early", timeout=5.0)
        assert caught.value.reason == ("unknown_topic", topic)
        apache.create_topic(topic, PARTITIONS)
        shop.open()
        shop.settle()
    assert 1 <= len(named(events, "topic_missing")) <= 2  # its producers, its consumer


def test_topic_that_is_deleted_and_made_again(apache: Any, new_topic: Callable[..., str]) -> None:
    """A deleted topic's processes end and its positions are forgotten; made again, it begins."""
    topic = new_topic(apache, PARTITIONS)
    with Shop(apache, topic) as shop:
        shop.open()
        assert shop.load is not None
        shop.load.stop()
        shop.wait_handled()
        assert positions_of(shop)
        apache.delete_topic(topic)
        shop.wait_whole(partitions=0)
        assert positions_of(shop) == {}
        with pytest.raises(ProduceError) as caught:
            in_time(SLACK, produce, shop.connection, topic, "early", timeout=5.0)
        assert caught.value.reason == ("unknown_topic", topic)
        shop.ledger.forget()
        apache.create_topic(topic, PARTITIONS)
        shop.open()
        shop.settle()


def test_topic_that_is_deleted_while_a_handler_is_busy_is_forgotten(
    apache: Any, new_topic: Callable[..., str]
) -> None:
    """What a handler acknowledges after its topic was deleted counts for nothing."""
    topic = new_topic(apache, PARTITIONS)
    with logged() as events, Shop(apache, topic, handler=Sleeper) as shop:
        Sleeper.gate.clear()
        Sleeper.asleep.clear()
        shop.wait_whole()
        shop.place_orders()
        assert Sleeper.asleep.wait(WAIT)
        assert shop.load is not None
        shop.load.stop()
        worker = shop.holder(("worker", None, topic, 1))
        apache.delete_topic(topic)
        until(lambda: len(named(events, "topic_missing")) == 2, "both managers miss the topic")
        Sleeper.gate.set()
        until(lambda: not process.is_alive(worker), "the worker ended")
        until(lambda: positions_of(shop) == {}, lambda: f"still there: {positions_of(shop)}")


def positions_of(shop: Shop) -> dict[str, int]:
    """What the positions keeper shows to operators."""
    return status_of(shop.child("positions"))


def status_of(ref: Any) -> dict[str, Any]:
    """What a server says of itself."""
    status: dict[str, Any] = debug.get_status(ref)["details"]
    return status


def test_topic_that_grows(apache: Any, new_topic: Callable[..., str]) -> None:
    """New partitions get a producer and a worker each, and their messages are handled."""
    topic = new_topic(apache, PARTITIONS)
    with Shop(apache, topic) as shop:
        shop.open()
        add_partitions(apache, topic, PARTITIONS + 2)
        shop.wait_whole(PARTITIONS + 2)
        shop.settle(PARTITIONS + 2)


def add_partitions(kafka: Any, topic: str, count: int) -> None:
    """Give the topic so many partitions. Its client, and its threads, are gone on return."""
    admin = AdminClient({"bootstrap.servers": kafka.endpoints})
    admin.create_partitions([NewPartitions(topic, count)])[topic].result(timeout=WAIT)


# ---- a handler crashes


def test_worker_that_crashes_resumes_where_it_was(
    apache: Any, new_topic: Callable[..., str]
) -> None:
    """It starts again at what it has not acked, waits longer each time, and disturbs nobody."""
    with logged() as events, Shop(apache, new_topic(apache, PARTITIONS)) as shop:
        shop.open()
        ledger = shop.ledger
        ledger.poison = lambda message: message.partition == 2
        until(lambda: len(ledger.of(2)) >= 5, "five crashes")
        ledger.poison = None
        shop.settle()
    crashes = ledger.of(2)[:5]
    assert len({life.batches[0][0] for life in crashes[1:]}) == 1  # the same message each time
    assert crashes[1].batches[0][0] == crashes[0].batches[-1][0]
    waits = [after.opened - life.begun[-1] for life, after in pairwise(crashes)]
    assert all(0.1 * 2**n <= wait < 0.1 * 2**n + SLACK for n, wait in enumerate(waits)), waits
    assert [len(ledger.of(partition)) for partition in (0, 1, 3)] == [1, 1, 1]
    assert len(named(events, "process_crashed")) == len(ledger.of(2)) - 1  # each is told once


def test_killed_worker_that_wakes_up_later_moves_no_position(
    apache: Any, new_topic: Callable[..., str]
) -> None:
    """What a dead worker's handler still acknowledges is ignored: its successor is further on."""
    with Shop(apache, new_topic(apache, PARTITIONS), handler=Sleeper) as shop:
        Sleeper.gate.clear()
        Sleeper.asleep.clear()
        shop.wait_whole()
        shop.place_orders()
        assert Sleeper.asleep.wait(WAIT)
        key = ("worker", None, shop.topic, 1)
        process.exit(shop.holder(key), "kill")
        shop.wait_whole()
        shop.wait_flow()
        Sleeper.gate.set()
        Sleeper.thread.join(WAIT)  # A thread that ran a dead process's code ends with it.
        assert not Sleeper.thread.is_alive()
        process.exit(shop.holder(key), "kill")
        shop.settle()
