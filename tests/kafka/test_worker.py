"""Worker: a handler's whole life, and how far it has come."""

from __future__ import annotations

import threading
import time
from itertools import pairwise
from typing import Any

import confluent_kafka
import pytest

from elsa_actors import Ok, Supervisor, debug, process
from elsa_actors.kafka import Ack, Consumer, ElsaSupervisor, EmbeddedKafka, produce
from elsa_actors.kafka import connection as connections
from elsa_actors.kafka.consumer import Deliveries, OutOfRange
from tests.kafka.trees import SOON, Collector, consumer, stays, tree, wait_until
from tests.servers import Gate, Oops


def position(shop: Any, topic: str, partition: int = 0) -> int | None:
    """Where the handler of a partition would go on."""
    return connections.find(shop.connection).positions.get(topic, partition)


# ---- the handler's life


def test_a_handler_knows_where_it_is_before_init(embedded, new_topic):
    """topic, partition, connection and generation_id are there from init on, with the arguments."""
    topic = new_topic(embedded, 2)
    told: list[Any] = []

    def on_init(handler: Any) -> None:
        told.append((handler.topic, handler.partition, handler.connection, handler.generation_id))

    seen = Collector(on_init=on_init)
    with tree(embedded, consumer=consumer(topic, seen)) as shop:
        wait_until(lambda: len(told) == 2)
        assert sorted(told) == [
            (topic, 0, shop.connection, None),
            (topic, 1, shop.connection, None),
        ]
    wait_until(lambda: len(seen.ended) == 2)
    assert sorted(seen.ended) == [(0, "shutdown"), (1, "shutdown")]


def test_a_state_of_init_is_the_handlers(embedded, new_topic):
    """Ok(state) sets self.state, which a handler may change."""
    topic = new_topic(embedded)
    states: list[int] = []

    def answer(handler: Any, messages: list[Any]) -> str:
        handler.state += len(messages)
        states.append(handler.state)
        return "ack"

    seen = Collector(answer=answer, on_init=lambda handler: Ok(100))
    with tree(embedded, producer={"topic": topic}, consumer=consumer(topic, seen)) as shop:
        for _ in range(3):
            shop.produce(topic, "a")
        seen.wait_for(3)
        assert states[-1] == 103


def test_a_handler_that_raises_once_is_given_the_messages_again(embedded, new_topic):
    """A new handler starts at the first message that was not acknowledged."""
    topic = new_topic(embedded)
    raised: list[int] = []

    def answer(handler: Any, messages: list[Any]) -> str:
        if not raised and messages[-1].offset >= 3:
            raised.append(messages[0].offset)
            raise Oops("once")
        return "ack"

    seen = Collector(answer=answer)
    with tree(embedded, producer={"topic": topic}, consumer=consumer(topic, seen)) as shop:
        for i in range(6):
            shop.produce(topic, str(i))
        assert seen.wait_for(6) == [str(i).encode() for i in range(6)]
        assert raised
        assert len(seen.started) == 2
        assert seen.ended[0][0] == 0
        assert "Oops" in repr(seen.ended[0][1])


def test_a_handler_that_always_raises_waits_longer_each_time_and_disturbs_nobody(
    embedded, new_topic
):
    """A poison message never spins, and the other partitions do not hear of it."""
    topic = new_topic(embedded, 2)

    def answer(handler: Any, messages: list[Any]) -> str:
        if handler.partition == 0:
            raise Oops("always")
        return "ack"

    seen = Collector(answer=answer)
    with tree(embedded, producer={"topic": topic}, consumer=consumer(topic, seen)) as shop:
        shop.produce(topic, "poison", partition=0)
        wait_until(lambda: len([1 for _, partition in seen.calls if partition == 0]) >= 4)
        times = [when for when, partition in seen.calls if partition == 0]
        waits = [later - earlier for earlier, later in pairwise(times)]
        assert waits[2] > waits[0]
        assert waits[2] > 0.2
        for i in range(5):
            shop.produce(topic, str(i), partition=1)
        wait_until(lambda: seen.values(1) == [str(i).encode() for i in range(5)])
        assert [place for place in seen.started if place == (topic, 1)] == [(topic, 1)]
        assert process.is_alive(shop.ref)


@pytest.mark.parametrize("answer", [None, "done", ("ack", 1), Ack(1_000_000)])
def test_an_answer_that_is_none_ends_the_worker_and_acknowledges_nothing(
    embedded, new_topic, answer
):
    """The message comes again, and the log says what was answered."""
    topic = new_topic(embedded)
    answers = [answer]
    seen = Collector(answer=lambda handler, messages: answers.pop() if answers else "ack")
    with tree(embedded, producer={"topic": topic}, consumer=consumer(topic, seen)) as shop:
        shop.produce(topic, "a")
        assert seen.wait_for(2) == [b"a", b"a"]
        assert "bad_return_value" in repr(seen.ended[0][1])
        wait_until(lambda: position(shop, topic) == 1)


@pytest.mark.parametrize("wrong", ["raise", "nonsense"])
def test_init_that_fails_is_tried_again(embedded, new_topic, wrong):
    """A handler that cannot start now may be able to later; the tree stands meanwhile."""
    topic = new_topic(embedded)
    tries: list[float] = []

    def on_init(handler: Any) -> Any:
        tries.append(time.monotonic())
        if len(tries) < 3:
            if wrong == "raise":
                raise Oops("not yet")
            return "nonsense"
        return None

    seen = Collector(on_init=on_init)
    with tree(embedded, producer={"topic": topic}, consumer=consumer(topic, seen)) as shop:
        shop.produce(topic, "a")
        assert seen.wait_for(1) == [b"a"]
        assert len(tries) == 3
        assert process.is_alive(shop.ref)


def test_init_that_blocks_leaves_the_tree_operable(embedded, new_topic):
    """It runs in the worker: the others work, and operators are answered."""
    topic = new_topic(embedded, 2)
    gate = Gate()

    def on_init(handler: Any) -> None:
        if handler.partition == 0:
            gate()

    seen = Collector(on_init=on_init)
    with tree(embedded, producer={"topic": topic}, consumer=consumer(topic, seen)) as shop:
        gate.reached()
        shop.produce(topic, "a", partition=1)
        assert seen.wait_for(1) == [b"a"]
        assert len(Supervisor.which_children(shop.name)) == 6
        shop.produce(topic, "b", partition=0)
        gate.open()
        seen.wait_for(2)


def test_a_handler_that_blocks_holds_up_no_other_partition(embedded, new_topic):
    """Each partition has a process of its own."""
    topic = new_topic(embedded, 2)
    gate = Gate()

    def answer(handler: Any, messages: list[Any]) -> str:
        if handler.partition == 0:
            gate()
        return "ack"

    seen = Collector(answer=answer)
    with tree(embedded, producer={"topic": topic}, consumer=consumer(topic, seen)) as shop:
        shop.produce(topic, "blocks", partition=0)
        gate.reached()
        shop.produce(topic, [str(i) for i in range(2000)], partition=1)
        wait_until(lambda: len(seen.values(1)) == 2000)
        assert not seen.values(0)
        gate.open()
        wait_until(lambda: seen.values(0) == [b"blocks"])


def test_stop_lets_the_running_call_of_the_handler_end(embedded, new_topic):
    """What it has done by then is acknowledged; terminate comes after it."""
    topic = new_topic(embedded)
    gate = Gate()
    seen = Collector(answer=lambda handler, messages: (gate(), "ack")[1])
    with tree(embedded, producer={"topic": topic}, consumer=consumer(topic, seen)) as shop:
        shop.produce(topic, "a")
        gate.reached()
        stopping = threading.Thread(target=Supervisor.stop, args=(shop.name,))
        stopping.start()
        assert stays(stopping.is_alive)
        gate.open()
        stopping.join(SOON)
        assert not stopping.is_alive()
        assert seen.values() == [b"a"]
        assert seen.ended == [(0, "shutdown")]


def test_stop_ends_within_the_shutdown_times_whatever_a_handler_does(embedded, new_topic):
    """A handler that never returns is left behind after its ten seconds."""
    topic = new_topic(embedded)
    gate = Gate()
    seen = Collector(answer=lambda handler, messages: (gate(), "ack")[1])
    with tree(embedded, producer={"topic": topic}, consumer=consumer(topic, seen)) as shop:
        shop.produce(topic, "a")
        gate.reached()
        start = time.monotonic()
        Supervisor.stop(shop.name)
        assert 9.0 < time.monotonic() - start < 14.0
        gate.open()


# ---- acknowledging


def test_continue_acknowledges_nothing_until_a_later_ack(embedded, new_topic):
    """An "ack" takes along what was answered with "continue" before it."""
    topic = new_topic(embedded)
    seen = Collector(
        answer=lambda handler, messages: "ack" if messages[-1].value == b"last" else "continue"
    )
    with tree(embedded, producer={"topic": topic}, consumer=consumer(topic, seen)) as shop:
        shop.produce(topic, ["a", "b"])
        seen.wait_for(2)
        assert stays(lambda: not position(shop, topic), 0.1)
        shop.produce(topic, "last")
        seen.wait_for(3)
        wait_until(lambda: position(shop, topic) == 3)


def test_continue_without_an_ack_is_delivered_again_after_a_death(embedded, new_topic):
    """A worker that is killed goes on at the last acknowledged offset."""
    topic = new_topic(embedded)
    seen = Collector(
        answer=lambda handler, messages: "ack" if messages[-1].offset == 0 else "continue"
    )
    with tree(embedded, producer={"topic": topic}, consumer=consumer(topic, seen)) as shop:
        shop.produce(topic, "a")
        seen.wait_for(1)
        shop.produce(topic, ["b", "c"])
        seen.wait_for(3)
        shop.kill(shop.worker(topic))
        seen.wait_for(5)
        assert seen.offsets() == [0, 1, 2, 1, 2]


def test_ack_of_an_offset_acknowledges_up_to_and_with_it(embedded, new_topic):
    """What came after it is delivered again to the next handler."""
    topic = new_topic(embedded)
    seen = Collector(answer=lambda handler, messages: Ack(min(1, messages[-1].offset)))
    with tree(embedded, producer={"topic": topic}, consumer=consumer(topic, seen)) as shop:
        shop.produce(topic, ["a", "b", "c", "d"])
        seen.wait_for(4)
        wait_until(lambda: position(shop, topic) == 2)
        shop.kill(shop.worker(topic))
        seen.wait_for(6)
        assert seen.offsets() == [0, 1, 2, 3, 2, 3]


def test_no_ack_is_acknowledged_by_somebody_else_in_any_order(embedded, new_topic):
    """The position moves over what is acknowledged without a gap."""
    topic = new_topic(embedded)
    seen = Collector(answer="no_ack")
    with tree(embedded, producer={"topic": topic}, consumer=consumer(topic, seen)) as shop:
        shop.produce(topic, ["a", "b", "c", "d"])
        seen.wait_for(4)

        def ack(offset: int) -> None:
            Consumer.ack(shop.connection, topic, 0, None, offset)

        ack(1)
        ack(3)
        assert stays(lambda: not position(shop, topic), 0.1)
        ack(0)
        wait_until(lambda: position(shop, topic) == 2)
        ack(2)
        wait_until(lambda: position(shop, topic) == 4)


def test_no_ack_that_nobody_acknowledges_comes_again_after_a_death(embedded, new_topic):
    """Only the acknowledged prefix is done."""
    topic = new_topic(embedded)
    seen = Collector(answer="no_ack")
    with tree(embedded, producer={"topic": topic}, consumer=consumer(topic, seen)) as shop:
        shop.produce(topic, ["a", "b", "c"])
        seen.wait_for(3)
        Consumer.ack(shop.connection, topic, 0, None, 0)
        Consumer.ack(shop.connection, topic, 0, None, 2)
        wait_until(lambda: position(shop, topic) == 1)
        shop.kill(shop.worker(topic))
        seen.wait_for(5)
        assert seen.offsets() == [0, 1, 2, 1, 2]


@pytest.mark.parametrize(("generation_id", "offset"), [(None, 0), (None, 99), (7, 1)])
def test_an_ack_that_is_stale_is_dropped_with_a_warning(
    embedded, new_topic, log_events, generation_id, offset
):
    """Twice acknowledged, never delivered, or of a generation: nothing changes."""
    topic = new_topic(embedded)
    seen = Collector(answer="no_ack")
    with tree(embedded, producer={"topic": topic}, consumer=consumer(topic, seen)) as shop:
        shop.produce(topic, ["a", "b"])
        seen.wait_for(2)
        Consumer.ack(shop.connection, topic, 0, None, 0)
        wait_until(lambda: position(shop, topic) == 1)
        Consumer.ack(shop.connection, topic, 0, generation_id, offset)
        [event] = wait_until(lambda: [e for e in log_events if e["event"] == "ack_dropped"])
        assert (event["offset"], event["generation_id"], event["log_level"]) == (
            offset,
            generation_id,
            "warning",
        )
        assert position(shop, topic) == 1


def test_an_ack_for_no_worker_is_dropped_and_for_no_connection_an_error(embedded, new_topic):
    """Nobody waits for it; a wrong name is a mistake in the program."""
    topic = new_topic(embedded)
    with tree(embedded, consumer=consumer(topic, Collector())) as shop:
        Consumer.ack(shop.connection, topic, 17, None, 0)
        with pytest.raises(Exception, match="nosuchshop"):
            Consumer.ack("nosuchshop", topic, 0, None, 0)


@pytest.mark.parametrize(
    "victim",
    [
        *[
            "worker",
            "driver",
            "client",
            "positions",
            "producers",
            "producer_manager",
            "registry",
            "consumer",
        ]
    ],
)
def test_acked_positions_survive_every_death_below_the_tree(embedded, new_topic, victim):
    """Nothing that was acknowledged is delivered again, whoever dies, and work goes on."""
    topic = new_topic(embedded)
    seen = Collector()
    with tree(embedded, producer={"topic": topic}, consumer=consumer(topic, seen)) as shop:
        find = {
            "worker": lambda: shop.worker(topic),
            "driver": shop.kafka_consumer,
            "client": shop.client,
        }.get(victim, lambda: shop.child(victim))
        for number in range(2):
            shop.produce(topic, ["a", "b"])
            seen.wait_for(3 * number + 2)
            wait_until(lambda n=number: position(shop, topic) == 3 * n + 2)
            shop.kill(wait_until(find))
            shop.produce(topic, "after")
            seen.wait_for(3 * number + 3)
        assert seen.offsets() == list(range(6))
        assert process.is_alive(shop.ref)


def test_the_status_tells_the_position_and_what_is_unacked(embedded, new_topic):
    """An operator sees where a partition stands, and no message."""
    topic = new_topic(embedded)
    seen = Collector(answer=Ack(0))
    with tree(embedded, producer={"topic": topic}, consumer=consumer(topic, seen)) as shop:
        shop.produce(topic, ["secret one", "secret two"])
        seen.wait_for(2)
        status = debug.get_status(shop.worker(topic))
        assert "secret" not in repr(status)
        assert "'position': 1" in repr(status)
        assert "'unacked': 1" in repr(status)


# ---- one handler a partition


def test_partition_makes_one_worker(embedded, new_topic):
    """A simple consumer of one partition reads that one alone."""
    topic = new_topic(embedded, 3)
    seen = Collector()
    with tree(
        embedded, producer={"topic": topic}, consumer=consumer(topic, seen, partition=1)
    ) as shop:
        for partition in range(3):
            shop.produce(topic, str(partition), partition=partition)
        assert seen.wait_for(1) == [b"1"]
        assert stays(lambda: seen.started == [(topic, 1)], 0.2)
        assert (shop.worker(topic, 0), shop.worker(topic, 2)) == (None, None)


def test_a_worker_that_is_killed_while_its_handler_blocks_is_replaced(embedded, new_topic):
    """The thread that is lost holds nobody up; its late answer acknowledges nothing."""
    topic = new_topic(embedded)
    gate = Gate()
    first: list[int] = []

    def answer(handler: Any, messages: list[Any]) -> str:
        if not first:
            first.append(1)
            gate()
            return "ack"
        return "no_ack"

    seen = Collector(answer=answer)
    with tree(embedded, producer={"topic": topic}, consumer=consumer(topic, seen)) as shop:
        shop.produce(topic, "a")
        gate.reached()
        process.exit(shop.worker(topic), "kill")
        wait_until(lambda: seen.values() == [b"a"])
        gate.open()
        wait_until(lambda: len(seen.values()) == 2)
        assert stays(lambda: not position(shop, topic), 0.2)
        Consumer.ack(shop.connection, topic, 0, None, 0)
        wait_until(lambda: position(shop, topic) == 1)


def test_two_consumers_of_one_name_are_refused():
    """The second tree of a connection does not start, and the first does not hear of it."""
    with EmbeddedKafka(topics={"orders": 1}) as kafka:
        seen = Collector()
        with tree(kafka, producer={"topic": "orders"}, consumer=consumer("orders", seen)) as shop:
            with pytest.raises(Exception, match="already"):
                ElsaSupervisor.start_link(endpoints=kafka.endpoints, connection=shop.connection)
            shop.produce("orders", "a")
            assert seen.wait_for(1) == [b"a"]


def test_a_handler_may_produce_over_its_own_connection(embedded, new_topic):
    """It reads one topic and writes another, which is what most handlers are for."""
    source, target = new_topic(embedded, 2), new_topic(embedded, 2)

    def answer(handler: Any, messages: list[Any]) -> str:
        produce(handler.connection, target, [(m.key, m.value) for m in messages], timeout=SOON)
        return "ack"

    copied = Collector()
    forward = Collector(answer=answer)
    with (
        tree(embedded, consumer=consumer(target, copied)),
        tree(
            embedded,
            producer=[{"topic": source}, {"topic": target}],
            consumer=consumer(source, forward),
        ) as shop,
    ):
        shop.produce(source, [(str(i), str(i)) for i in range(200)])
        assert sorted(map(int, copied.wait_for(200))) == list(range(200))


def test_the_supervisor_of_workers_that_is_killed_lets_the_other_partitions_go_on(
    embedded, new_topic
):
    """A worker whose handler blocks outlives it; its partition waits for that, the others go on."""
    topic = new_topic(embedded, 2)
    gate = Gate()

    def answer(handler: Any, messages: list[Any]) -> str:
        if messages[0].value == b"blocks":
            gate()
        return "ack"

    seen = Collector(answer=answer)
    with tree(embedded, producer={"topic": topic}, consumer=consumer(topic, seen)) as shop:
        shop.produce(topic, "blocks", partition=0)
        gate.reached()
        shop.kill(shop.holder(("workers", None)))
        shop.produce(topic, "a", partition=1)
        wait_until(lambda: seen.values(1) == [b"a"])
        assert seen.values(0) == []
        gate.open()
        shop.produce(topic, "b", partition=0)
        wait_until(lambda: b"b" in seen.values(0))
        assert process.is_alive(shop.ref)


def test_a_handler_keeps_the_state_that_its_init_has_set(embedded, new_topic):
    """An Ok without a state leaves self.state as it is."""
    topic = new_topic(embedded)
    states: list[Any] = []

    def on_init(handler: Any) -> Any:
        handler.state = "mine"
        return Ok()

    def answer(handler: Any, messages: list[Any]) -> str:
        states.append(handler.state)
        return "ack"

    seen = Collector(on_init=on_init, answer=answer)
    with tree(embedded, producer={"topic": topic}, consumer=consumer(topic, seen)) as shop:
        shop.produce(topic, "a")
        seen.wait_for(1)
    assert states == ["mine"]


@pytest.mark.parametrize(
    "late",
    [
        Deliveries([confluent_kafka.Message(topic="x", partition=0, offset=9, value=b"z")], 1, 0),
        OutOfRange(9, "gone", 0),
    ],
)
def test_what_comes_of_a_subscription_before_is_not_heard_any_more(embedded, new_topic, late):
    """A Consumer that is dead has sent it, or one that does not know yet of the new beginning."""
    topic = new_topic(embedded)
    seen = Collector()
    options = consumer(topic, seen, offset_reset_policy="stop")
    with tree(embedded, producer={"topic": topic}, consumer=options) as shop:
        shop.produce(topic, "a")
        seen.wait_for(1)
        worker = shop.worker(topic)
        process.send(worker, late)
        shop.produce(topic, "b")
        assert seen.wait_for(2) == [b"a", b"b"]
        assert shop.worker(topic) is worker
        assert not seen.ended


@pytest.mark.parametrize("partition", [5, 0])
def test_an_ack_for_what_has_no_worker_is_told(embedded, new_topic, log_events, partition):
    """Whoever acknowledges in the wrong place finds it in the log."""
    topic = new_topic(embedded)
    with tree(embedded, consumer=consumer(topic, Collector())) as shop:
        wait_until(lambda: shop.worker(topic))
        Consumer.ack(shop.connection, topic if partition else "another", partition, None, 7)
    [event] = [event for event in log_events if event["event"] == "ack_dropped"]
    assert (event["partition"], event["offset"]) == (partition, 7)


def test_two_workers_never_handle_one_partition_when_a_tree_was_killed(embedded, new_topic):
    """The new tree's worker waits for the old one's handler, which is busy and does not die."""
    topic = new_topic(embedded)
    gate, begun, both = Gate(), [], []

    def answer(handler: Any, messages: list[Any]) -> str:
        begun.append(handler)
        if len(begun) == 1:
            gate()
        elif not gate._open.is_set():
            both.append(handler)
        return "ack"

    seen = Collector(answer=answer)
    options: dict[str, Any] = {
        "producer": {"topic": topic},
        "consumer": consumer(topic, seen),
    }
    with tree(embedded, **options) as shop:
        shop.produce(topic, "a")
        gate.reached()
        old = shop.worker(topic)
        shop.kill(shop.ref)
        with tree(embedded, ready=False, connection=shop.connection, **options) as again:
            wait_until(again.kafka_consumer)
            assert stays(lambda: again.worker(topic) is None and process.is_alive(old))
            gate.open()
            again.another(lambda: again.worker(topic), old)
            seen.wait_for(2)
            assert not process.is_alive(old)
    assert not both
