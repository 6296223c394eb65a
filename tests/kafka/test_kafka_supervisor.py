"""ElsaSupervisor: the tree of a connection, from start to stop, and whatever dies in between."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from elsa_actors import AlreadyStarted, CallTimeout, StartError, Supervisor, debug, process
from elsa_actors.kafka import (
    ConfigError,
    ElsaSupervisor,
    EmbeddedKafka,
    KafkaError,
    produce,
    producers_ready,
)
from elsa_actors.kafka import connection as connections
from elsa_actors.otp.gen_server import system_call
from tests.kafka.trees import (
    SOON,
    Collector,
    consumer,
    new_name,
    no_new_librdkafka_threads,
    stays,
    tree,
    wait_until,
)
from tests.servers import Gate

PASSWORD = "hunter2-secret"


def children(shop: Any) -> list[Any]:
    return [child.id for child in Supervisor.which_children(shop.name)]


# ---- start


def test_the_tree_has_the_children_that_it_is_told_to_have(embedded, new_topic):
    """Their ids are the handles of an operator."""
    topic = new_topic(embedded)
    base = ["registry", "positions", "client", "producers", "producer_manager"]
    with tree(embedded) as shop:
        assert sorted(children(shop)) == sorted(base)
    with tree(embedded, consumer=consumer(topic, Collector())) as shop:
        assert sorted(children(shop)) == sorted([*base, "consumer"])


def test_the_registry_knows_every_process_by_its_key(embedded, new_topic):
    """Its name is made of the connection's."""
    topic = new_topic(embedded, 2)
    seen = Collector()
    with tree(embedded, producer={"topic": topic}, consumer=consumer(topic, seen)) as shop:
        assert ElsaSupervisor.registry(shop.connection) == f"elsa_registry_{shop.connection}"
        wait_until(lambda: shop.worker(topic, 1))
        for key in [
            ("client",),
            ("producer", topic, 0),
            ("producer", topic, 1),
            ("consumer", None),
            ("worker", None, topic, 0),
        ]:
            assert process.is_alive(shop.holder(*key)), key


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"endpoints": "localhost"}, KafkaError),
        ({"endpoints": "localhost:0"}, KafkaError),
        ({"connection": ""}, ConfigError),
        ({"connection": "a:b"}, ConfigError),
        ({"connection": 7}, ConfigError),
        ({"config": {"no.such.key": 1}}, ConfigError),
        ({"config": {"bootstrap.servers": "x:1"}}, ConfigError),
        ({"producer": {"topic": "a", "pol": 1.0}}, ConfigError),
        ({"producer": [{"topic": "a"}, {"topic": "a"}]}, ConfigError),
        ({"producer": "a"}, ConfigError),
        ({"consumer": {"topic": "a"}}, ConfigError),
        ({"consumer": {"topic": "a", "handler": int}}, ConfigError),
        ({"consumer": {"topic": "a", "handler": None, "begin_offset": "last"}}, ConfigError),
    ],
)
def test_options_that_are_wrong_raise_in_the_caller_and_start_nothing(options, error):
    """A mistake in the program is not a crash loop of a tree."""
    given = {"endpoints": "localhost:9092", "connection": new_name(), **options}
    before = process.list()
    with pytest.raises(error):
        ElsaSupervisor.start_link(**given)
    assert process.list() == before


def test_a_second_tree_of_a_connection_is_refused(embedded):
    """The first goes on, and its name stays its own."""
    with tree(embedded) as shop:
        with pytest.raises(StartError):
            ElsaSupervisor.start_link(endpoints=embedded.endpoints, connection=shop.connection)
        assert process.is_alive(shop.ref)
        assert process.is_alive(shop.client())


def test_two_connections_live_side_by_side(embedded, new_topic):
    """Each has its own processes and its own client."""
    topic = new_topic(embedded)
    seen = Collector()
    with tree(embedded, producer={"topic": topic}) as one:
        with tree(embedded, producer={"topic": topic}, consumer=consumer(topic, seen)) as two:
            one.produce(topic, "a")
            two.produce(topic, "b")
            seen.wait_for(2)
        one.produce(topic, "c")


def test_it_stands_in_a_users_own_supervisor(me, embedded, new_topic):
    """Its child spec has the name or the connection as its id, and it restarts there."""
    topic = new_topic(embedded)
    name = new_name()
    seen = Collector()
    spec = ElsaSupervisor.child_spec(
        endpoints=embedded.endpoints,
        connection=name,
        producer={"topic": topic},
        consumer=consumer(topic, seen),
    )
    assert (spec["id"], spec["type"]) == (name, "supervisor")
    user = Supervisor.start_link([spec])
    try:
        produce(name, topic, "a", timeout=SOON)
        seen.wait_for(1)
        [child] = Supervisor.which_children(user)
        process.exit(child.child, "kill")
        produce(name, topic, "b", timeout=SOON)
        wait_until(lambda: b"b" in seen.values())
        # It burned one restart of the user's supervisor, and no more.
        assert process.is_alive(user)
    finally:
        Supervisor.stop(user)


# ---- killed and started again


@pytest.mark.parametrize("blocked", [False, True])
def test_a_tree_that_is_killed_can_be_started_again_at_once(me, embedded, new_topic, blocked):
    """The new one waits for what is left of the old, and fails no start for it."""
    topic = new_topic(embedded)
    name = new_name()
    gate = Gate()
    seen = Collector(
        answer=lambda handler, messages: (blocked and len(seen.calls) == 1 and gate(), "ack")[1]
    )
    options: dict[str, Any] = {
        "endpoints": embedded.endpoints,
        "connection": name,
        "producer": {"topic": topic},
        "consumer": consumer(topic, seen),
    }
    first = ElsaSupervisor.start_link(**options)
    produce(name, topic, "a", timeout=SOON)
    if blocked:
        gate.reached()
    else:
        seen.wait_for(1)
    process.exit(first, "kill")
    wait_until(lambda: not process.is_alive(first))
    second = ElsaSupervisor.start_link(**options)
    try:
        produce(name, topic, "b", timeout=SOON)
        wait_until(lambda: b"b" in seen.values())
        gate.open()
        assert stays(lambda: process.is_alive(second), 0.3)
    finally:
        gate.open()
        Supervisor.stop(second)


def test_a_user_supervisor_of_a_killed_tree_uses_one_restart(me, new_topic, log_events):
    """A start that failed within a millisecond, and again, would end the user's supervisor too."""
    with EmbeddedKafka(topics={"orders": 4}) as kafka:
        name = new_name()
        gate = Gate()
        seen = Collector(answer=lambda handler, messages: (gate(), "ack")[1])
        spec = ElsaSupervisor.child_spec(
            endpoints=kafka.endpoints,
            connection=name,
            producer={"topic": "orders"},
            consumer=consumer("orders", seen),
        )
        user = Supervisor.start_link([spec], max_restarts=1, max_seconds=30.0)
        produce(name, "orders", "a", timeout=SOON)
        gate.reached()
        [child] = Supervisor.which_children(user)
        process.exit(child.child, "kill")
        produce(name, "orders", "b", timeout=SOON)
        gate.open()
        wait_until(lambda: b"b" in seen.values())
        assert process.is_alive(user)
        assert not [e for e in log_events if e["event"] == "child_start_failed"]
        Supervisor.stop(user)


@pytest.mark.parametrize("blocked", [False, True])
def test_a_consumer_supervisor_that_is_killed_uses_one_restart(
    embedded, new_topic, log_events, blocked
):
    """Its successor waits for the workers that are still being stopped."""
    topic = new_topic(embedded)
    gate = Gate()
    seen = Collector(
        answer=lambda handler, messages: (gate() if blocked else None, "ack")[1],
    )
    with tree(embedded, producer={"topic": topic}, consumer=consumer(topic, seen)) as shop:
        shop.produce(topic, "a")
        if blocked:
            gate.reached()
        shop.kill(shop.child("consumer"))
        assert stays(lambda: process.is_alive(shop.ref), 0.5)
        gate.open()
        shop.produce(topic, "b")
        wait_until(lambda: b"b" in seen.values())
        assert not [e for e in log_events if e["event"] == "child_start_failed"]


def test_a_killed_tree_is_followed_by_one_that_waits_for_its_registry(embedded):
    """It dies later than its supervisor when it is busy, and has its name until then."""
    gate = Gate()
    started: list[Any] = []
    with tree(embedded) as shop:
        registry = process.whereis(ElsaSupervisor.registry(shop.connection))
        options = {"endpoints": embedded.endpoints, "connection": shop.connection}
        busy = threading.Thread(
            target=system_call, args=(registry, lambda server: gate(), SOON), daemon=True
        )
        starting = threading.Thread(
            target=lambda: started.append(ElsaSupervisor.start_link(**options, name=shop.name))
        )
        busy.start()
        gate.reached()
        shop.kill(shop.ref)
        starting.start()
        assert stays(starting.is_alive)
        gate.open()
        starting.join(SOON)
        assert started == [process.whereis(shop.name)]
        assert process.whereis(ElsaSupervisor.registry(shop.connection)) is not registry
        busy.join(SOON)


def test_a_consumer_that_is_killed_takes_all_of_its_group_along(embedded, new_topic):
    """One for all: its workers end in order and begin anew, as does who starts them."""
    topic = new_topic(embedded)
    seen = Collector()

    def group() -> dict[str, Any]:
        return {one.id: one.child for one in Supervisor.which_children(shop.child("consumer"))}

    with tree(embedded, producer={"topic": topic}, consumer=consumer(topic, seen)) as shop:
        shop.produce(topic, "a")
        seen.wait_for(1)
        above, before = shop.child("consumer"), group()
        shop.kill(shop.kafka_consumer())
        wait_until(lambda: all(process.is_alive(ref) for ref in group().values()))
        after = group()
        assert sorted(after) == ["consumer", "manager", "workers"]
        assert not [child_id for child_id, ref in after.items() if ref is before[child_id]]
        assert shop.child("consumer") is above
        assert seen.ended == [(0, "shutdown")]
        shop.produce(topic, "b")
        assert seen.wait_for(2) == [b"a", b"b"]


# ---- operators


def test_an_operator_ends_and_starts_the_client_in_any_order(embedded, new_topic):
    """Producers find the one there is by its name."""
    topic = new_topic(embedded)
    seen = Collector()
    with tree(embedded, producer={"topic": topic}, consumer=consumer(topic, seen)) as shop:
        producer = shop.producer(topic)
        for number in range(3):
            Supervisor.terminate_child(shop.name, "client")
            assert shop.client() is None
            late = threading.Thread(target=shop.produce, args=(topic, f"down {number}"))
            late.start()
            assert stays(late.is_alive, 0.1)
            Supervisor.restart_child(shop.name, "client")
            late.join(SOON)
            assert not late.is_alive()
            shop.produce(topic, f"up {number}")
            seen.wait_for(2 * number + 2)
        Supervisor.terminate_child(shop.name, "client")
        Supervisor.terminate_child(shop.name, "client")
        Supervisor.restart_child(shop.name, "client")
        shop.produce(topic, "last")
        assert seen.wait_for(7)[-1] == b"last"
        assert shop.producer(topic) is producer


@pytest.mark.parametrize("child", ["producers", "producer_manager", "consumer", "positions"])
def test_an_operator_ends_and_starts_any_other_child(embedded, new_topic, child):
    """After both, everything works as before."""
    topic = new_topic(embedded, 2)
    seen = Collector()
    with tree(embedded, producer={"topic": topic}, consumer=consumer(topic, seen)) as shop:
        shop.produce(topic, "a")
        seen.wait_for(1)
        Supervisor.terminate_child(shop.name, child)
        time.sleep(0.1)
        Supervisor.restart_child(shop.name, child)
        shop.produce(topic, "b")
        assert seen.wait_for(2) == [b"a", b"b"]


# ---- start_producer and producers_ready


def test_start_producer_answers_a_producer_for_each_partition(embedded, new_topic):
    """It works for a topic that the tree was not started with."""
    topic = new_topic(embedded, 3)
    with tree(embedded) as shop:
        refs = ElsaSupervisor.start_producer(shop.connection, topic=topic)
        assert len(refs) == 3
        assert all(map(process.is_alive, refs))
        shop.produce(topic, "a")


def test_start_producer_twice_is_refused_by_name(embedded, new_topic):
    """The topic has producers; nothing is started."""
    topic = new_topic(embedded)
    with tree(embedded) as shop:
        ElsaSupervisor.start_producer(shop.connection, topic=topic)
        old = shop.producer(topic)
        with pytest.raises(AlreadyStarted, match=topic):
            ElsaSupervisor.start_producer(shop.connection, topic=topic)
        assert shop.producer(topic) is old


def test_start_producer_of_what_there_is_not(embedded):
    """An unknown topic or connection is an error that names it, and leaves nothing behind."""
    with tree(embedded) as shop:
        with pytest.raises(KafkaError) as caught:
            ElsaSupervisor.start_producer(shop.connection, topic="nosuchtopic")
        assert caught.value.reason == ("unknown_topic", "nosuchtopic")
        with pytest.raises(KafkaError):
            produce(shop.connection, "nosuchtopic", "a", timeout=2.0)
        with pytest.raises(ConfigError):
            ElsaSupervisor.start_producer(shop.connection, topic="not a topic")
        with pytest.raises(ConfigError):
            ElsaSupervisor.start_producer(shop.connection, topic="a", config={"linger.ms": 7})
    with pytest.raises(KafkaError) as caught:
        ElsaSupervisor.start_producer("nosuchshop", topic="a")
    assert caught.value.reason == ("unknown_connection", "nosuchshop")


@pytest.mark.parametrize("victim", ["producer_manager", "client", "producers", "registry"])
def test_a_topic_of_start_producer_survives_deaths(embedded, new_topic, victim):
    """It stands in the connection's record, and not in a process."""
    topic = new_topic(embedded)
    seen = Collector()
    with tree(embedded, consumer=consumer(topic, seen)) as shop:
        ElsaSupervisor.start_producer(shop.connection, topic=topic)
        shop.produce(topic, "a")
        shop.kill(shop.client() if victim == "client" else shop.child(victim))
        shop.produce(topic, "b")
        assert seen.wait_for(2) == [b"a", b"b"]


def test_start_producer_without_a_broker_fails_in_time():
    """Nobody can tell whether the topic is there; the caller may try again."""
    with EmbeddedKafka(topics={"orders": 1}) as kafka, tree(kafka) as shop:
        kafka.stop()
        with pytest.raises(KafkaError):
            ElsaSupervisor.start_producer(shop.connection, topic="orders")
        kafka.start()

        def started() -> bool:
            try:
                ElsaSupervisor.start_producer(shop.connection, topic="orders")
            except KafkaError:
                return False
            return True

        wait_until(started)
        shop.produce("orders", "a")


def test_producers_ready_waits_for_a_broker_and_gives_up_at_its_deadline():
    """It returns when every partition has its producer, and says when it is too late."""
    with EmbeddedKafka(topics={"orders": 2}) as kafka:
        kafka.stop()
        with tree(kafka, ready=False, producer={"topic": "orders"}) as shop:
            start = time.monotonic()
            with pytest.raises(CallTimeout):
                producers_ready(shop.connection, 0.3)
            assert time.monotonic() - start < 2.0
            kafka.start()
            producers_ready(shop.connection, 30.0)
            assert process.is_alive(shop.producer("orders", 1))
    with pytest.raises(KafkaError):
        producers_ready("nosuchshop")
    with pytest.raises((TypeError, ValueError)):
        producers_ready("nosuchshop", "soon")  # type: ignore[arg-type]


def test_producers_ready_outlives_a_restart_of_the_manager(embedded, new_topic):
    """The caller waits for the next one."""
    with EmbeddedKafka(topics={"orders": 1}) as kafka:
        kafka.stop()
        with tree(kafka, ready=False, producer={"topic": "orders"}) as shop:
            done: list[Any] = []
            waiting = threading.Thread(
                target=lambda: done.append(producers_ready(shop.connection, 30.0))
            )
            waiting.start()
            manager = shop.child("producer_manager")
            wait_until(lambda: system_call(manager, lambda server: len(server.waiting), 5.0) == 1)
            shop.kill(manager)
            kafka.start()
            waiting.join(SOON)
            assert done == [None]


# ---- stop


def test_stop_leaves_no_thread_of_librdkafka(embedded, new_topic):
    """When it returns they have ended."""
    topic = new_topic(embedded, 2)
    seen = Collector()
    with (
        no_new_librdkafka_threads(0.1),
        tree(embedded, producer={"topic": topic}, consumer=consumer(topic, seen)) as shop,
    ):
        shop.produce(topic, "a")
        seen.wait_for(1)


@pytest.mark.parametrize("trouble", ["stop", "freeze"])
def test_stop_leaves_no_thread_of_librdkafka_when_no_broker_answers(trouble):
    """It takes no longer than the shutdown times."""
    with EmbeddedKafka(topics={"orders": 2}) as kafka:
        seen = Collector()
        options = consumer("orders", seen)
        with (
            no_new_librdkafka_threads(0.5),
            tree(kafka, producer={"topic": "orders"}, consumer=options) as shop,
        ):
            shop.produce("orders", "a")
            seen.wait_for(1)
            getattr(kafka, trouble)()
            time.sleep(0.3)
            start = time.monotonic()
            Supervisor.stop(shop.name)
            assert time.monotonic() - start < 20.0


def test_a_killed_tree_leaves_no_thread_of_librdkafka(embedded, new_topic):
    """What trapped the death of its supervisor closes what it owns."""
    topic = new_topic(embedded)
    seen = Collector()
    with (
        no_new_librdkafka_threads(),
        tree(embedded, producer={"topic": topic}, consumer=consumer(topic, seen)) as shop,
    ):
        shop.produce(topic, "a")
        seen.wait_for(1)
        shop.kill(shop.ref)


# ---- secrets


def test_passwords_are_shown_nowhere(embedded, new_topic, log_events, capfd):
    """Neither in logs and crash reports nor in a repr or a status."""
    topic = new_topic(embedded, 2)
    seen = Collector()
    options = consumer(topic, seen, config={"ssl.key.password": PASSWORD})
    config = {"sasl.password": PASSWORD, "sasl.username": "shop"}
    with tree(embedded, config=config, producer={"topic": topic}, consumer=options) as shop:
        shop.produce(topic, "a")
        seen.wait_for(1)
        shown = []
        for ref in process.list():
            shown += [repr(ref), repr(process.info(ref)), repr(debug.get_status(ref))]
        shown += [repr(Supervisor.which_children(shop.name))]
        for find in [
            lambda: shop.worker(topic),
            shop.kafka_consumer,
            shop.client,
            lambda: shop.producer(topic),
        ]:
            shop.kill(wait_until(find))
        shop.kill(shop.ref)
        with pytest.raises(ConfigError) as caught:
            ElsaSupervisor.start_link(
                endpoints="localhost:1", connection="x", config={"sasl.pasword": PASSWORD}
            )
        shown += [str(caught.value), repr(caught.value.reason), repr(log_events)]
        captured = capfd.readouterr()
        shown += [captured.out, captured.err]
        assert not [text for text in shown if PASSWORD in text]


def test_configuration_that_contradicts_itself_is_refused_in_the_caller(embedded):
    """Each key is well; librdkafka makes nothing of them together: the Client could only die."""
    with (
        no_new_librdkafka_threads(),
        pytest.raises(ConfigError, match=r"no producer of this configuration: .*acks") as caught,
    ):
        ElsaSupervisor.start_link(
            endpoints=embedded.endpoints, connection=new_name(), config={"acks": "1"}
        )
    assert caught.value.reason[0] == "bad_config"


@pytest.mark.parametrize(
    "config",
    [
        {"fetch.max.bytes": 1000, "message.max.bytes": 2000},
        {"security.protocol": "ssl", "ssl.ca.location": "/nowhere"},
    ],
)
def test_consumer_configuration_that_contradicts_itself_is_refused_in_the_caller(embedded, config):
    """The Consumer could only die, and take the whole connection along."""
    with (
        no_new_librdkafka_threads(),
        pytest.raises(ConfigError, match="no consumer of this configuration") as caught,
    ):
        ElsaSupervisor.start_link(
            endpoints=embedded.endpoints,
            connection=new_name(),
            consumer=consumer("orders", Collector(), config=config),
        )
    assert caught.value.reason[0] == "bad_config"


@pytest.mark.parametrize("name", ["a,b", "a:1", " ", "", None, 7])
def test_connection_that_produce_would_take_for_endpoints_is_refused(embedded, name):
    """Nobody could produce by that name."""
    with pytest.raises(ConfigError) as caught:
        ElsaSupervisor.start_link(endpoints=embedded.endpoints, connection=name)
    assert caught.value.reason == ("bad_value", "connection", name)


def test_start_producer_takes_what_the_client_has_in_other_words(embedded, new_topic):
    """librdkafka reads text and knows two names for some keys; what it has by default is known."""
    config = {"linger.ms": 5, "sasl.password": "a secret"}
    with tree(embedded, config=config, producer={"topic": new_topic(embedded)}) as shop:
        for same in (
            {"linger.ms": "5"},
            {"queue.buffering.max.ms": 5},
            {"enable.idempotence": True},
        ):
            topic = new_topic(embedded)
            assert ElsaSupervisor.start_producer(shop.connection, topic=topic, config=same)
        with pytest.raises(ConfigError) as caught:
            ElsaSupervisor.start_producer(
                shop.connection, topic="a", config={"sasl.password": "other"}
            )
        assert "secret" not in str(caught.value)


def test_partition_that_is_not_there_is_told_once(embedded, new_topic, log_events):
    """Nothing is consumed, and an operator sees why."""
    topic = new_topic(embedded, 2)
    seen = Collector()
    with tree(embedded, consumer=consumer(topic, seen, partition=7, poll=0.1)):
        wait_until(lambda: [e for e in log_events if e["event"] == "partition_missing"])
        assert stays(
            lambda: len([e for e in log_events if e["event"] == "partition_missing"]) == 1, 0.5
        )


def test_a_second_tree_is_refused_also_while_the_first_starts_its_registry_again(embedded):
    """The name of the registry is free for a moment then; the connection is not."""
    with tree(embedded, producer=[]) as shop:
        debug.suspend(shop.ref)
        shop.kill(process.whereis(ElsaSupervisor.registry(shop.connection)))
        with pytest.raises(StartError, match="already_started"):
            ElsaSupervisor.start_link(endpoints=embedded.endpoints, connection=shop.connection)
        assert connections.find(shop.connection).owner is shop.ref
        debug.resume(shop.ref)
        wait_until(lambda: process.whereis(ElsaSupervisor.registry(shop.connection)))
        assert process.is_alive(shop.ref)


def test_start_producer_answers_when_the_producers_run(embedded, new_topic):
    """Not before: they may be restarted just now."""
    with tree(embedded, producer=[]) as shop:
        topic = new_topic(embedded, 2)
        Supervisor.terminate_child(shop.name, "producers")
        answers: list[Any] = []
        caller = threading.Thread(
            target=lambda: answers.append(
                ElsaSupervisor.start_producer(shop.connection, topic=topic)
            )
        )
        caller.start()
        assert stays(lambda: not answers)
        Supervisor.restart_child(shop.name, "producers")
        caller.join(SOON)
        [refs] = answers
        assert [process.is_alive(ref) for ref in refs] == [True, True]


def test_start_producer_of_a_listed_topic_that_is_missing_says_so(embedded):
    """It has no producers, already or not."""
    with tree(embedded, ready=False, producer={"topic": "nosuch"}) as shop:
        wait_until(lambda: connections.find(shop.connection).producing.partitions("nosuch") == 0)
        with pytest.raises(KafkaError) as raised:
            ElsaSupervisor.start_producer(shop.connection, topic="nosuch")
        assert raised.value.reason == ("unknown_topic", "nosuch")
