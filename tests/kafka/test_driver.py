"""What librdkafka's clients are given: a configuration, a log, a hearer of errors."""

from __future__ import annotations

import logging
import os
import threading
import traceback
from typing import Any, ClassVar

import pytest
from confluent_kafka import KafkaError as DriverError
from confluent_kafka import KafkaException
from confluent_kafka import Producer as DriverProducer

from elsa_actors import Task, process
from elsa_actors.kafka import driver
from elsa_actors.kafka.driver import (
    ClientLog,
    Trouble,
    client_config,
    close_in_time,
    guarded,
    in_librdkafka,
    new_client,
    try_out,
)
from elsa_actors.kafka.errors import ConfigError
from tests.kafka.trees import SOON, no_new_librdkafka_threads, stays, wait_until

DOWN = DriverError(DriverError._ALL_BROKERS_DOWN)
TRANSPORT = DriverError(DriverError._TRANSPORT)


def names(log_events: Any) -> list[str]:
    return [event["event"] for event in log_events]


def test_brokers_that_are_gone_are_told_once_and_so_is_their_return(log_events, monkeypatch):
    """librdkafka says it again and again."""
    monkeypatch.setattr(driver, "SETTLING_SECONDS", 0.0)
    trouble = Trouble("shop")
    for _ in range(3):
        trouble.heard(DOWN)
    assert trouble.down
    trouble.over()
    trouble.over()
    assert not trouble.down
    assert names(log_events) == ["kafka_unreachable", "kafka_reachable"]
    trouble.heard(DOWN)
    assert names(log_events)[2:] == ["kafka_unreachable"]


def test_other_errors_are_told_once_each_in_half_a_minute(log_events):
    """And again after brokers were gone: then it is news."""
    trouble = Trouble("shop")
    trouble.heard(TRANSPORT)
    trouble.heard(TRANSPORT)
    trouble.heard(DriverError(DriverError._AUTHENTICATION))
    assert [event["cause"] for event in log_events] == ["_TRANSPORT", "_AUTHENTICATION"]


def test_a_quiet_one_only_remembers(log_events):
    """Whoever made the client hears of it as an exception."""
    trouble = Trouble("produce", quiet=True)
    trouble.heard(TRANSPORT)
    trouble.heard(DOWN)
    assert trouble.last == TRANSPORT.str()
    trouble.over()
    assert trouble.last is None
    assert not log_events


def test_why_no_broker_is_reached_is_what_was_told_before(log_events):
    """That all brokers are down is no reason; it is told where there is no other."""
    trouble = Trouble("shop")
    assert trouble.why() == ""
    trouble.heard(DriverError(DriverError._AUTHENTICATION, "wrong password"))
    assert trouble.why() == ""
    trouble.heard(DOWN)
    assert trouble.why() == "; no broker is reached: wrong password"
    assert log_events[-1]["error"] == "wrong password"
    trouble.over()
    assert trouble.why() == ""
    nothing_else = Trouble("shop")
    nothing_else.heard(DOWN)
    assert nothing_else.why() == f"; no broker is reached: {DOWN.str()}"


def test_librdkafkas_log_becomes_events_and_no_storm(log_events):
    """Each kind once in half a minute; lines about lost connections are for debugging."""
    log = ClientLog(Trouble("shop"))
    for _ in range(3):
        log.log(logging.WARNING, "%s", "CONFWARN something is odd")
        log.log(logging.ERROR, "FAIL connection refused")
    assert [(event["event"], event["log_level"]) for event in log_events] == [
        ("librdkafka", "warning"),
        ("librdkafka", "debug"),
    ]
    assert log_events[0]["connection"] == "shop"


def test_a_callback_that_raises_is_logged_and_goes_no_further(log_events):
    """What came out of librdkafka's poll would take messages along."""

    def callback(_: Any) -> None:
        raise ValueError("oops")

    guarded(callback)(1)
    [event] = log_events
    assert event["event"] == "kafka_callback_failed"
    assert "callback" in event["callback"]


def test_a_users_keys_go_before_ours_and_never_before_the_brokers():
    """The library sets where it connects and where its log goes."""
    given = {"socket.keepalive.enable": False, "bootstrap.servers": "elsewhere:1"}
    config = client_config("here:1", [given], Trouble("shop"))
    assert config["socket.keepalive.enable"] is False
    assert config["bootstrap.servers"] == "here:1"
    assert isinstance(config["logger"], ClientLog)


def test_a_client_of_this_configuration_writes_nothing_to_stderr(capfd, log_events):
    """What it has to say of a broker that is not there goes to structlog."""
    with no_new_librdkafka_threads():
        driver = DriverProducer(client_config("127.0.0.1:1", [], Trouble("shop")))
        wait_until(lambda: driver.poll(0.05) or "kafka_unreachable" in names(log_events))
        driver.close()
    captured = capfd.readouterr()
    assert "refused" not in captured.err
    assert "rdkafka#" not in captured.err


def test_a_process_that_has_died_is_told_when_it_comes_back_from_librdkafka(me):
    """It does no more harm, and what it owns was closed."""
    inside, go_on = threading.Event(), threading.Event()
    after: list[str] = []

    def block() -> None:
        with in_librdkafka():
            inside.set()
            go_on.wait(SOON)
        after.append("went on")

    task = Task.start_link(block)
    assert inside.wait(SOON)
    process.exit(task, "kill")
    wait_until(lambda: not process.is_alive(task))
    go_on.set()
    assert stays(lambda: not after, 0.1)


def test_a_plain_thread_may_call_librdkafka_too():
    """It is no process, and nothing is asked of it."""
    with in_librdkafka():
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_hears_that_no_client_works_there(me):
    """At once, instead of a wait that nothing ends."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with in_librdkafka():
                said = "went on"
        except BaseException as error:
            said = str(error)
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    said = os.read(reading, 10_000).decode()
    os.waitpid(child, 0)
    os.close(reading)
    assert "fork" in said


def test_an_outage_that_one_client_tells_late_is_not_told_twice(log_events):
    """Two clients hear of one outage; after its end a broker is asked before it is told again."""
    trouble = Trouble("shop")
    trouble.heard(DriverError(DriverError._ALL_BROKERS_DOWN))
    trouble.over()
    trouble.heard(DriverError(DriverError._ALL_BROKERS_DOWN))
    assert trouble.suspected
    assert not trouble.down
    trouble.over()
    assert not trouble.suspected
    names = [event["event"] for event in log_events]
    assert names == ["kafka_unreachable", "kafka_reachable"]
    trouble.heard(DriverError(DriverError._ALL_BROKERS_DOWN))
    trouble.is_down()  # Nobody answered.
    assert [event["event"] for event in log_events] == [*names, "kafka_unreachable"]


class Refusing:
    """A kind of client that librdkafka makes none of."""

    given: ClassVar[dict[str, Any]] = {}

    def __init__(self, config: dict[str, Any]) -> None:
        Refusing.given = config
        raise KafkaException(DriverError(DriverError._INVALID_ARG, "no such file"))


@pytest.mark.parametrize("endpoints", ["here:1", None])
def test_no_frame_of_a_client_that_is_not_made_holds_a_password(endpoints):
    """There are logs that show what the frames of a traceback hold."""
    parts = ({"sasl.password": "tea"}, {"client.id": "shop"})
    with pytest.raises(KafkaException) as raised:
        new_client(Refusing, endpoints, iter(parts), Trouble("shop"))
    assert Refusing.given["sasl.password"] == "tea"
    frames = traceback.walk_tb(raised.value.__traceback__)
    ours = [frame for frame, _ in frames if "elsa_actors/kafka" in frame.f_code.co_filename]
    assert [frame.f_code.co_name for frame in ours] == ["new_client"]
    assert "tea" not in repr([frame.f_locals for frame in ours])


def test_a_configuration_is_tried_out_without_endpoints():
    """Closing waits for the look-up of their names, and a start does not wait for a name server."""
    with pytest.raises(ConfigError, match="no refusing of this configuration") as raised:
        try_out(Refusing, [{"client.id": "shop"}])
    assert raised.value.reason[0] == "bad_config"
    assert "bootstrap.servers" not in Refusing.given


def test_a_client_that_takes_long_to_close_is_left_behind(monkeypatch):
    """A call is over in its time, whatever a name server does."""
    monkeypatch.setattr(driver, "CLOSE_SECONDS", 0.05)
    may_end, ended = threading.Event(), threading.Event()

    def close() -> None:
        assert may_end.wait(10.0)
        ended.set()

    close_in_time(close)
    assert not ended.is_set()
    may_end.set()
    assert ended.wait(10.0)
