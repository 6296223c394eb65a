"""A real Apache Kafka: it starts, can be broken and mended, and is gone afterwards."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from elsa_actors.kafka import apache
from elsa_actors.kafka.apache import ApacheKafka
from elsa_actors.runtime.errors import ElsaError
from tests.kafka.trees import wait_until

PATIENCE = 30.0


class Sender:
    """A producer that wants every replica's word, and remembers what came back."""

    def __init__(self, kafka):
        self.producer = Producer(
            {"bootstrap.servers": kafka.endpoints, "enable.idempotence": True, "log_level": 0}
        )
        self.reports = []

    def send(self, topic, value=b"x"):
        self.producer.produce(
            topic,
            value,
            partition=0,
            on_delivery=lambda error, message: self.reports.append(
                error.name() if error else message.offset()
            ),
        )

    def report(self, within=PATIENCE):
        """The next delivery report, an offset or an error's name; None when none comes."""
        due = time.monotonic() + within
        while not self.reports and time.monotonic() < due:
            self.producer.poll(0.05)
        return self.reports.pop(0) if self.reports else None

    def deliver(self, topic, value=b"x"):
        self.send(topic, value)
        return self.report()


def metadata(kafka):
    admin = AdminClient({"bootstrap.servers": kafka.endpoints, "log_level": 0})
    return admin.list_topics(timeout=PATIENCE)


def values_read(kafka, topic, count):
    """The values of the first messages of partition 0."""
    consumer = Consumer(
        {"bootstrap.servers": kafka.endpoints, "group.id": "reader", "log_level": 0}
    )
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        read, due = [], time.monotonic() + PATIENCE
        while len(read) < count and time.monotonic() < due:
            if (message := consumer.poll(0.1)) is not None and message.error() is None:
                read.append(message.value())
        return read
    finally:
        consumer.close()


def is_gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # It may be dead and wait for a parent that asks for its exit code.
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z"


def comes_true(claim, within=PATIENCE):
    due = time.monotonic() + within
    while not claim():
        if time.monotonic() > due:
            return False
        time.sleep(0.05)
    return True


def pids(kafka):
    return [broker._process.pid for broker in kafka._cluster.brokers if broker._process]


# ---- a cluster


def test_shared_broker_takes_and_gives_messages(apache, new_topic):
    """What every other test of the real thing stands on."""
    topic = new_topic(apache, 3)
    assert len(metadata(apache).topics[topic].partitions) == 3
    assert Sender(apache).deliver(topic, b"a coffee") == 0
    assert values_read(apache, topic, 1) == [b"a coffee"]


def test_topic_is_made_once_and_deleted_once(apache, new_topic):
    """Each is done when the call returns, and a second time is an error with the topic's name."""
    topic = new_topic(apache)
    apache.delete_topic(topic)
    assert topic not in metadata(apache).topics
    apache.create_topic(topic, 2)
    assert len(metadata(apache).topics[topic].partitions) == 2
    if isinstance(apache, ApacheKafka):
        with pytest.raises(ElsaError, match=topic) as caught:
            apache.create_topic(topic)
        assert caught.value.reason == ("topic_already_exists", topic)
        apache.delete_topic(topic)
        with pytest.raises(ElsaError, match=topic) as caught:
            apache.delete_topic(topic)
        assert caught.value.reason == ("unknown_topic", topic)


@pytest.mark.timeout(120)  # five starts of a broker
def test_one_broker_stopped_killed_and_frozen(capfd):
    """Each is another kind of trouble, and after each the same broker has its messages again."""
    kafka = ApacheKafka(topics={"t": 8}, config={"message.max.bytes": 1000})
    assert repr(kafka) == "<ApacheKafka not running>"
    with kafka:
        home, port = kafka._cluster.home, kafka.endpoints
        clean = home / "0" / "logs" / ".kafka_cleanshutdown"
        found = metadata(kafka).topics["t"].partitions.values()
        assert [partition.leader for partition in found] == [1] * 8
        sender = Sender(kafka)
        assert sender.deliver("t") == 0
        assert sender.deliver("t", b"x" * 2000) == "MSG_SIZE_TOO_LARGE", "config is heeded"

        kafka.stop(0)
        assert repr(kafka) == f"<ApacheKafka {port}; down: 0>"
        assert clean.exists(), "it had time to put its files in order"
        kafka.stop(0)  # down already
        kafka.start(0)
        assert Sender(kafka).deliver("t") == 1

        kafka.kill(0)
        assert not clean.exists(), "it had no time"
        kafka.start(0)
        kafka.start(0)  # up already
        assert kafka.endpoints == port
        assert Sender(kafka).deliver("t") == 2

        sender = Sender(kafka)
        assert sender.deliver("t") == 3
        kafka.freeze(0)
        kafka.freeze()  # frozen already
        assert repr(kafka) == f"<ApacheKafka {port}; frozen: 0>"
        with pytest.raises(ElsaError, match="frozen"):
            kafka.start(0)
        sender.send("t")
        assert sender.report(within=0.5) is None
        kafka.thaw(0)
        assert sender.report() == 4
        assert len(values_read(kafka, "t", 5)) == 5

        kafka.freeze(0)
        kafka.stop(0)
        assert clean.exists(), "a frozen one can be stopped in order too"
        [broker] = kafka._cluster.brokers
        assert broker.state == "down"
    assert not home.exists()
    assert capfd.readouterr() == ("", "")


@pytest.mark.timeout(120)  # two elections and a start of all
def test_three_brokers_lose_one_and_no_message():
    """Every message that was reported as delivered is read, whichever broker was killed."""
    with ApacheKafka(brokers=3, topics={"t": 1}) as kafka:
        [partition] = metadata(kafka).topics["t"].partitions.values()
        assert len(partition.replicas) == 3
        leader = partition.leader - 1
        sender = Sender(kafka)
        assert sender.deliver("t", b"before") == 0
        kafka.kill(leader)
        assert sender.deliver("t", b"without") == 1
        kafka.start(leader)
        # The others hear of it a moment after it answers.
        wait_until(lambda: len(metadata(kafka).brokers) == 3)
        assert sender.deliver("t", b"after") == 2
        kafka.kill()
        kafka.start()
        assert values_read(kafka, "t", 3) == [b"before", b"without", b"after"]


def test_two_clusters_do_not_meet():
    """Test runs side by side must not find each other's topics, or each other's ports."""
    with ApacheKafka(topics={"one": 1}) as one, ApacheKafka(topics={"two": 1}) as two:
        assert one.endpoints != two.endpoints
        assert set(metadata(one).topics) == {"one"}
        assert set(metadata(two).topics) == {"two"}
        assert metadata(one).cluster_id != metadata(two).cluster_id
        one.kill()
        assert Sender(two).deliver("two") == 0


# ---- how it ends


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), signal.SIGKILL)", "sys.exit(0)"])
def test_brokers_die_with_their_program(end):
    """A test run that is killed must leave no Java behind, nor a broker's folder."""
    script = f"""
        import os, signal, sys
        from elsa_actors.kafka.apache import ApacheKafka

        kafka = ApacheKafka()
        kafka.__enter__()
        print(kafka._cluster.home, kafka._cluster.brokers[0]._process.pid, flush=True)
        {end}
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        text=True,
        timeout=PATIENCE,
    )
    home, pid = ran.stdout.split()
    # Not later: without its folder a broker ends by itself, after a while.
    assert comes_true(lambda: is_gone(int(pid)), within=5.0)
    assert comes_true(lambda: not Path(home).exists())


def test_block_that_raises_ends_the_brokers():
    """As every block does."""
    with pytest.raises(ZeroDivisionError), ApacheKafka() as kafka:
        [pid] = pids(kafka)
        1 / 0
    assert is_gone(pid)
    assert repr(kafka) == "<ApacheKafka not running>"


def test_broker_that_dies_at_start_shows_the_end_of_its_log():
    """A wrong setting is found in the message, not in a folder that has just been removed."""
    kafka = ApacheKafka(config={"num.io.threads": "many"})
    with pytest.raises(ElsaError, match=r"(?s)broker 0 .* num\.io\.threads") as caught:
        kafka.__enter__()
    assert caught.value.reason == ("broker_died", 0)
    with pytest.raises(ElsaError, match="not running"):
        kafka.stop()


def test_forked_child_is_told_so(apache):
    """It must not stop its parent's brokers, by mistake or at its end."""
    if not isinstance(apache, ApacheKafka):
        apache = ApacheKafka()
    script = """
        import os
        from elsa_actors.kafka.apache import ApacheKafka
        from elsa_actors.runtime.errors import ElsaError

        with ApacheKafka() as kafka:
            if (pid := os.fork()) == 0:
                try:
                    kafka.kill()
                except ElsaError as error:
                    print(error.reason, error, flush=True)
            else:
                assert os.waitpid(pid, 0)[1] == 0
                assert kafka._cluster.brokers[0].answers()
    """
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("fork ")
    assert "fork" in ran.stdout.removeprefix("fork ")


# ---- wrong use


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: ApacheKafka(0), ("invalid_brokers", 0)),
        (lambda: ApacheKafka(topics={"a b": 1}), ("invalid_topic", "a b")),
        (lambda: ApacheKafka(topics={"t": 0}), ("invalid_partitions", 0)),
        (lambda: ApacheKafka(config=["x"]), ("invalid_config", ["x"])),
        (lambda: ApacheKafka(config={"a=b": 1}), ("invalid_config", "a=b")),
        (lambda: ApacheKafka(config={"a": "1\nb=2"}), ("invalid_config", "a")),
        (lambda: ApacheKafka(version="newest"), ("invalid_version", "newest")),
    ],
)
def test_wrong_cluster_is_refused_where_it_is_made(make, reason):
    """Not by a broker that does not start."""
    with pytest.raises(ElsaError, match="expected .* got: ") as caught:
        make()
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "act",
    [
        lambda kafka: kafka.endpoints,
        lambda kafka: kafka.stop(),
        lambda kafka: kafka.kill(0),
        lambda kafka: kafka.start(0),
        lambda kafka: kafka.freeze(0),
        lambda kafka: kafka.thaw(0),
        lambda kafka: kafka.create_topic("t"),
        lambda kafka: kafka.delete_topic("t"),
    ],
)
def test_use_outside_of_the_block_is_an_error(act):
    """There is no broker to do it with."""
    with pytest.raises(ElsaError, match="not running") as caught:
        act(ApacheKafka())
    assert caught.value.reason == "not_running"


def test_wrong_broker_is_refused(apache):
    """Three brokers are 0, 1 and 2, and one is 0."""
    if not isinstance(apache, ApacheKafka):
        return
    for act in (apache.stop, apache.kill, apache.start, apache.freeze, apache.thaw):
        with pytest.raises(ElsaError, match="expected n") as caught:
            act(1)
        assert caught.value.reason == ("unknown_broker", 1)
    with pytest.raises(ElsaError, match="already running"):
        apache.__enter__()


def test_a_client_that_hears_nothing_is_replaced(monkeypatch):
    """One did not for a minute, of a broker that had been frozen, and others did."""
    made: list[object] = []

    def admin(endpoints: str) -> object:
        made.append(object())
        return made[-1]

    def metadata(client: object) -> object:
        return None if client is made[0] else SimpleNamespace(brokers={1})

    monkeypatch.setattr(apache, "_admin", admin)
    monkeypatch.setattr(apache, "_metadata", metadata)
    with socket.create_server(("127.0.0.1", 0)) as server:
        broker = apache._Broker(0, server.getsockname()[1], [], Path(), None)
        assert not broker.answers()
        assert not broker.answers()
        assert len(made) == 1
        monkeypatch.setattr(apache, "_CLIENT_SECONDS", -1.0)
        assert not broker.answers()
        assert broker.answers()
        assert len(made) == 2
