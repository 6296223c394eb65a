"""Run a real Apache Kafka on loopback for as long as a block lasts."""

from __future__ import annotations

import base64
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from elsa_actors.kafka.distribution import (
    VERSION,
    Distribution,
    check_version,
    find_distribution,
    lock,
)
from elsa_actors.kafka.embedded import check_broker, check_brokers, check_topic, check_topics
from elsa_actors.runtime import process
from elsa_actors.runtime.clock import clock
from elsa_actors.runtime.errors import ElsaError

_START_DEADLINE = 60.0
_STOP_DEADLINE = 30.0
_KILL_DEADLINE = 10.0
_TOPIC_DEADLINE = 30.0
_ANSWER_DEADLINE = 2.0
_CLIENT_SECONDS = 10.0  # so long one client is asked about a broker
_TRAIN_DEADLINE = 120.0
_PAUSE = 0.02

_LOG_END = 2_000

# Below what systems hand out to clients, so that nobody is given the port of a broker that is down.
_PORTS = range(20_000, 32_000)

# From this release on Java can keep what it found out about Kafka's classes: half the start-up.
_KEEPS_CLASSES = 25

# Quick to start rather than quick later.
_JVM = [
    "-Xms128m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
]

# Tells the watchdog its number, and becomes Java under that number.
_BROKER = 'echo "add $$"; log="$1"; shift; exec "$@" </dev/null >>"$log" 2>&1'

# Outlives this program, however it ends: kills the brokers and removes their folder.
_WATCHDOG = """
brokers=
while read -r verb broker; do
    case $verb in
        add) brokers="$brokers $broker" ;;
        remove)
            rest=
            for other in $brokers; do [ "$other" = "$broker" ] || rest="$rest $other"; done
            brokers=$rest ;;
    esac
done
[ -z "$brokers" ] || kill -9 $brokers
rm -rf "$1"
[ ! -e "$1" ] || { sleep 1; rm -rf "$1"; }
"""


class ApacheKafka:
    """An Apache Kafka of ``brokers`` brokers, each a process of its own, on loopback ports.

    It runs while the ``with`` block does, and forgets everything after it; the brokers also end
    when this program does, even if it is killed. Brokers are counted from 0, ``n=None`` means all.
    Each function returns when what it says is done, blocks until then, and may be called from any
    thread, one at a time. Raises ElsaError for a wrong argument, for a broker that is not up
    within a minute (with the end of its log), outside of the block and in a forked child.

    ``config`` are settings of the broker, like ``{"message.max.bytes": 20_000}``. Topics have as
    many replicas as there are brokers, at most three. Nothing is made by itself: writing to a topic
    that was not created is an error.

    Apache Kafka and a Java come with ``pip install 'elsa-actors[apache-kafka]'``; the first use of
    a ``version`` fetches it from Maven Central, 45 MB, and makes it ready: about half a minute. The
    environment variable ELSA_ACTORS_JAVA names another Java.

        with ApacheKafka(topics={"orders": 8}) as kafka:
            produce(kafka.endpoints, "orders", "a coffee")
            kafka.kill(0)
            kafka.start(0)
    """

    def __init__(
        self,
        brokers: int = 1,
        topics: Mapping[str, int] | None = None,
        config: Mapping[str, object] | None = None,
        version: str = VERSION,
    ) -> None:
        self._count = check_brokers(brokers)
        self._topics = check_topics(topics)
        self._config = _check_config(config)
        self._version = check_version(version)
        self._lock = threading.RLock()
        self._cluster: _Cluster | None = None

    def __repr__(self) -> str:
        if (cluster := self._cluster) is None:
            return "<ApacheKafka not running>"
        parts = [cluster.endpoints]
        for word in ("down", "frozen"):
            if brokers := [str(broker.n) for broker in cluster.brokers if broker.state == word]:
                parts.append(f"{word}: {', '.join(brokers)}")
        return f"<ApacheKafka {'; '.join(parts)}>"

    def __enter__(self) -> Self:
        if self._cluster is not None:
            raise ElsaError(
                "running", f"{self!r} is already running; make another ApacheKafka for another"
            )
        distribution = prepare(self._version)
        cluster = self._cluster = _Cluster(distribution, self._count, self._config)
        try:
            cluster.start(cluster.brokers)
            cluster.create_topics(self._topics)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        cluster = self._cluster
        if cluster is not None and cluster.pid == os.getpid():
            with self._lock:
                self._cluster = None
                cluster.close()

    @property
    def endpoints(self) -> str:
        """Where clients find it: ``"127.0.0.1:20001,127.0.0.1:20002"``."""
        if self._cluster is None:
            raise _not_running()
        return self._cluster.endpoints

    def stop(self, n: int | None = None) -> None:
        """Stop brokers in order: each hands its partitions over where it can, and ends."""
        with self._lock:
            self._running().stop(self._meant(n))

    def kill(self, n: int | None = None) -> None:
        """End brokers at once, as a crash or a power cut would."""
        with self._lock:
            self._running().kill(self._meant(n))

    def start(self, n: int | None = None) -> None:
        """Start brokers that are down, with their data and on their ports, until they answer."""
        with self._lock:
            self._running().start(self._meant(n))

    def freeze(self, n: int | None = None) -> None:
        """Stop the execution of brokers: connections stay, and nobody answers."""
        with self._lock:
            for broker in self._meant(n):
                broker.freeze()

    def thaw(self, n: int | None = None) -> None:
        """Let frozen brokers go on, until they answer."""
        with self._lock:
            self._running().thaw(self._meant(n))

    def create_topic(self, name: str, partitions: int = 1) -> None:
        """Make a topic; it is there, and every partition has its leader, when this returns."""
        check_topic(name, partitions)
        with self._lock:
            self._running().create_topics({name: partitions})

    def delete_topic(self, name: str) -> None:
        """Delete a topic and its messages."""
        check_topic(name, 1)
        with self._lock:
            self._running().delete_topic(name)

    def _meant(self, n: int | None) -> list[_Broker]:
        brokers = self._running().brokers
        return [brokers[i] for i in check_broker(n, self._count)]

    def _running(self) -> _Cluster:
        if self._cluster is None:
            raise _not_running()
        if self._cluster.pid != os.getpid():
            raise ElsaError(
                "fork",
                "this ApacheKafka was started before a fork and belongs to the parent; control it"
                " there, or start another in the child",
            )
        return self._cluster


def prepare(version: str = VERSION) -> Distribution:
    """Have that version of Apache Kafka on this machine, ready to start quickly.

    The first time it is fetched, and started once, which takes about half a minute; after that it
    returns at once. Raises ElsaError when Java, jgo or the network are missing.
    """
    distribution = find_distribution(version)
    if not _is_ready(distribution):
        with lock(distribution.folder):
            # Another process may have been quicker.
            if not _storage(distribution).is_dir():
                _format(distribution)
            if not _is_ready(distribution):
                _train(distribution)
    return distribution


# ---- what is kept from the first start


def _is_ready(distribution: Distribution) -> bool:
    trained = distribution.java_release < _KEEPS_CLASSES or _trained(distribution).exists()
    return trained and _storage(distribution).is_dir()


def _storage(distribution: Distribution) -> Path:
    """A formatted log folder, to be copied: formatting one takes a second."""
    return distribution.folder / "storage"


def _classes(distribution: Distribution) -> Path:
    """What Java has found out about Kafka's classes."""
    return distribution.folder / "classes.aot"


def _trained(distribution: Distribution) -> Path:
    """Says that it was tried to have these: without them all works, just slower."""
    return distribution.folder / "trained"


def _format(distribution: Distribution) -> None:
    with tempfile.TemporaryDirectory(dir=distribution.folder) as folder:
        properties = Path(folder, "server.properties")
        logs = Path(folder, "logs")
        properties.write_text(_properties(0, [9092], [9093], logs, {}))
        arguments = ["format", "-t", _random_id(), "-c", str(properties)]
        try:
            ran = subprocess.run(
                distribution.command(_JVM, "kafka.tools.StorageTool", *arguments),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_START_DEADLINE,
            )
        except subprocess.TimeoutExpired:
            raise _not_formatted(f"not done after {_START_DEADLINE:g} s") from None
        if ran.returncode:
            raise _not_formatted((ran.stdout + ran.stderr)[-_LOG_END:])
        # Whole or not at all.
        os.replace(logs, _storage(distribution))


def _train(distribution: Distribution) -> None:
    """Start a broker and use it, so that Java writes down what it found out."""
    result = distribution.folder / "classes.new"
    cluster = _Cluster(distribution, 1, {}, [f"-XX:AOTCacheOutput={result}"])
    try:
        cluster.start(cluster.brokers)
        cluster.create_topics({"training": 1})
        # It is written when Java ends.
        cluster.stop(cluster.brokers, _TRAIN_DEADLINE)
        if result.is_file():
            os.replace(result, _classes(distribution))
        _trained(distribution).touch()
    finally:
        cluster.close()


def _random_id() -> str:
    """A random id as Kafka writes them; none may begin with a hyphen."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text


# ---- the cluster


class _Cluster:
    """The brokers of one block, their folder, their ports, and who cleans up after us."""

    def __init__(
        self,
        distribution: Distribution,
        count: int,
        config: Mapping[str, str],
        flags: Iterable[str] = (),
    ) -> None:
        self.pid = os.getpid()
        self.home = Path(tempfile.mkdtemp(prefix="elsa-actors-kafka-"))
        # A session of its own: Ctrl-C is for this program, which then stops the brokers in order.
        self.watchdog = subprocess.Popen(
            ["/bin/sh", "-c", _WATCHDOG, "watchdog", str(self.home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._reserved, ports = _reserve_ports(2 * count)
        listeners, controllers = ports[:count], ports[count:]
        self.endpoints = ",".join(f"127.0.0.1:{port}" for port in listeners)
        if not flags and _classes(distribution).is_file():
            flags = [f"-XX:AOTCache={_classes(distribution)}", "-Xlog:aot*=off"]
        cluster_id = _random_id()
        self.brokers = []
        for n in range(count):
            folder = self.home / str(n)
            # Native libraries are unpacked into its own tmp: one that is killed leaves them behind.
            (folder / "tmp").mkdir(parents=True)
            properties = folder / "server.properties"
            properties.write_text(_properties(n, listeners, controllers, folder / "logs", config))
            _copy_storage(_storage(distribution), folder / "logs", cluster_id, n + 1)
            every = [*_JVM, *flags, f"-Djava.io.tmpdir={folder / 'tmp'}"]
            command = distribution.command(every, "kafka.Kafka", str(properties))
            self.brokers.append(_Broker(n, listeners[n], command, folder, self.watchdog))

    def start(self, brokers: Iterable[_Broker]) -> None:
        down = []
        for broker in brokers:
            if broker.state == "frozen":
                raise ElsaError(
                    ("frozen", broker.n), f"broker {broker.n} is frozen; thaw it, or kill it first"
                )
            if broker.state == "down":
                down.append(broker)
        for broker in down:
            broker.launch()
        _await_answers(down)

    def thaw(self, brokers: Iterable[_Broker]) -> None:
        frozen = [broker for broker in brokers if broker.state == "frozen"]
        for broker in frozen:
            broker.thaw()
        _await_answers(frozen)

    def stop(self, brokers: Iterable[_Broker], deadline: float = _STOP_DEADLINE) -> None:
        brokers = list(brokers)
        for broker in brokers:
            broker.signal(signal.SIGTERM)
            broker.thaw()  # a frozen one would not notice
        # One that waits for others to take over, and all are gone, does not end by itself.
        for broker in brokers:
            broker.await_end(deadline)
        self.kill(brokers)

    def kill(self, brokers: Iterable[_Broker]) -> None:
        brokers = list(brokers)
        for broker in brokers:
            broker.signal(signal.SIGKILL)
        for broker in brokers:
            broker.await_end(_KILL_DEADLINE)

    def close(self) -> None:
        self.kill(self.brokers)
        for reserved in self._reserved:
            reserved.close()
        with contextlib.suppress(OSError):
            self.watchdog.communicate(timeout=_KILL_DEADLINE)
        shutil.rmtree(self.home, ignore_errors=True)

    # ---- topics

    def create_topics(self, topics: Mapping[str, int]) -> None:
        if not topics:
            return
        admin = _admin(self.endpoints)
        made = admin.create_topics(
            [NewTopic(name, partitions) for name, partitions in topics.items()],
            operation_timeout=_TOPIC_DEADLINE,
            request_timeout=_TOPIC_DEADLINE,
        )
        for name, future in made.items():
            _carried_out(name, future)
        for name, partitions in topics.items():
            self._await_topic(admin, name, partitions)

    def delete_topic(self, name: str) -> None:
        admin = _admin(self.endpoints)
        gone = admin.delete_topics(
            [name], operation_timeout=_TOPIC_DEADLINE, request_timeout=_TOPIC_DEADLINE
        )
        _carried_out(name, gone[name])
        self._await_topic(admin, name, 0)

    def _await_topic(self, admin: AdminClient, name: str, partitions: int) -> None:
        def is_there() -> bool:
            known = _metadata(admin)
            if known is None:
                return False
            found = known.topics[name].partitions.values() if name in known.topics else ()
            return len(found) == partitions and all(one.leader >= 0 for one in found)

        if not _await(is_there, _TOPIC_DEADLINE):
            raise ElsaError(
                ("timeout", name),
                f"topic {name!r} did not come to have {partitions} partitions with a leader each"
                f" within {_TOPIC_DEADLINE:g} s; are all brokers up?",
            )


class _Broker:
    """One broker: its process, while there is one."""

    def __init__(
        self,
        n: int,
        port: int,
        command: list[str],
        folder: Path,
        watchdog: subprocess.Popen[bytes],
    ) -> None:
        self.n = n
        self._port = port
        self._command = command
        self._folder = folder
        self._log = folder / "log"
        self._watchdog = watchdog
        self._process: subprocess.Popen[bytes] | None = None
        self._frozen = False
        self._client: AdminClient | None = None
        self._asked_since = 0.0

    @property
    def state(self) -> str:
        if self._process is None or self._process.poll() is not None:
            return "down"
        return "frozen" if self._frozen else "up"

    def launch(self) -> None:
        self._frozen = False
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _BROKER, "broker", str(self._log), *self._command],
            stdin=subprocess.DEVNULL,
            stdout=self._watchdog.stdin,
            stderr=subprocess.DEVNULL,
            cwd=self._folder,
            start_new_session=True,
        )

    def signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def freeze(self) -> None:
        if self.state != "up":
            return
        self.signal(signal.SIGSTOP)
        self._frozen = True
        # It has stopped when its parent, this program, can be told so.
        if self._process is not None and hasattr(os, "waitid"):
            which, how = self._process.pid, os.WSTOPPED | os.WNOWAIT | os.WNOHANG
            _await(lambda: os.waitid(os.P_PID, which, how) is not None, _KILL_DEADLINE)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)
        self._frozen = False

    def await_end(self, seconds: float) -> None:
        """Wait until it has ended, at most some seconds."""
        if self._process is None:
            return
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return
        # Its number may soon be another's.
        with contextlib.suppress(OSError):
            os.write(_fileno(self._watchdog), f"remove {self._process.pid}\n".encode())
        self._process = None

    def answers(self) -> bool:
        """Whether it takes requests and the cluster counts it in. Raises when it has died."""
        if self._process is not None and (code := self._process.poll()) is not None:
            raise ElsaError(
                ("broker_died", self.n),
                f"broker {self.n} of Apache Kafka ended with {code}; the end of its log:\n"
                f"{self.log_end()}",
            )
        # No client before: it would wait longer after each try.
        if self._client is None:
            try:
                socket.create_connection(("127.0.0.1", self._port), _ANSWER_DEADLINE).close()
            except OSError:
                return False
            self._client = _admin(f"127.0.0.1:{self._port}")
            self._asked_since = clock.now()
        known = _metadata(self._client)
        answered = known is not None and self.n + 1 in known.brokers
        # One has been seen to hear nothing for a minute, while others did: another, then.
        if answered or clock.now() - self._asked_since > _CLIENT_SECONDS:
            self._client = None
        return answered

    def log_end(self) -> str:
        with contextlib.suppress(OSError):
            return self._log.read_text(errors="replace")[-_LOG_END:].strip()
        return "(nothing)"


def _await_answers(brokers: list[_Broker]) -> None:
    silent = list(brokers)

    def all_answer() -> bool:
        while silent and silent[0].answers():
            del silent[0]
        return not silent

    if not _await(all_answer, _START_DEADLINE):
        broker = silent[0]
        raise ElsaError(
            ("timeout", broker.n),
            f"broker {broker.n} of Apache Kafka does not answer after {_START_DEADLINE:g} s;"
            f" with three brokers two must be up. The end of its log:\n{broker.log_end()}",
        )


def _await(done: Callable[[], bool], seconds: float) -> bool:
    """Whether it was done before the time was up."""
    due = clock.now() + seconds
    while not done():
        if clock.now() >= due:
            return False
        process.sleep(_PAUSE)
    return True


# ---- settings


def _check_config(config: Any) -> dict[str, str]:
    if config is None:
        return {}
    if not isinstance(config, Mapping):
        raise ElsaError(
            ("invalid_config", config),
            "expected config to be settings of the broker, like {'message.max.bytes': 20_000},"
            f" got: {config!r}",
        )
    checked = {}
    for key, value in config.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        if not isinstance(key, str) or not key or any(c in key for c in " =:\n\r"):
            raise ElsaError(
                ("invalid_config", key), f"expected the name of a setting as text, got: {key!r}"
            )
        if "\n" in text or "\r" in text:
            raise ElsaError(
                ("invalid_config", key), f"expected the value of {key!r} on one line, got: {text!r}"
            )
        checked[key] = text.replace("\\", "\\\\")
    return checked


def _properties(
    n: int, listeners: list[int], controllers: list[int], logs: Path, config: Mapping[str, str]
) -> str:
    """The settings of broker ``n``, which are controller too; ``config`` goes over ours."""
    replicas = min(len(listeners), 3)
    in_sync = max(1, replicas - 1)
    voters = [f"{i}@127.0.0.1:{port}" for i, port in enumerate(controllers, start=1)]
    settings: dict[str, object] = {
        "process.roles": "broker,controller",
        "node.id": n + 1,
        "controller.quorum.voters": ",".join(voters),
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://127.0.0.1:{listeners[n]},"
        f"CONTROLLER://127.0.0.1:{controllers[n]}",
        "log.dirs": logs,
        "auto.create.topics.enable": "false",
        "default.replication.factor": replicas,
        "min.insync.replicas": in_sync,
        # Few partitions: each is made when it is first used, while somebody waits.
        "offsets.topic.num.partitions": 4,
        "offsets.topic.replication.factor": replicas,
        "transaction.state.log.num.partitions": 4,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.num.partitions": 4,
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": in_sync,
        # Groups form at once, and may be set to notice a dead member soon.
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 1_000,
        "group.consumer.min.session.timeout.ms": 1_000,
        "group.consumer.session.timeout.ms": 6_000,
        "group.consumer.min.heartbeat.interval.ms": 500,
        "group.consumer.heartbeat.interval.ms": 500,
        # A dead broker is noticed in 3 s: until then it cannot come back either.
        "broker.heartbeat.interval.ms": 500,
        "broker.session.timeout.ms": 3_000,
    }
    return "".join(f"{key}={value}\n" for key, value in (settings | dict(config)).items())


def _copy_storage(template: Path, logs: Path, cluster_id: str, node_id: int) -> None:
    """A formatted log folder for a broker, under ids of its own."""
    if not template.is_dir():
        raise ElsaError("no_cache", f"{template} has vanished; try again, it will be made anew")
    shutil.copytree(template, logs)
    path = logs / "meta.properties"
    ids = {"cluster.id": cluster_id, "node.id": str(node_id), "directory.id": _random_id()}
    pairs = [line.split("=", 1) for line in path.read_text().splitlines() if "=" in line]
    path.write_text("".join(f"{key}={ids.get(key, value)}\n" for key, value in pairs))


def _reserve_ports(count: int) -> tuple[list[socket.socket], list[int]]:
    """Free ports, kept from others while the sockets that come with them are open.

    On Linux a broker can bind a port that is bound already, if both allow it and nobody listens.
    Elsewhere it cannot, and nothing but luck keeps the ports.
    """
    sockets: list[socket.socket] = []
    ports: list[int] = []
    keep = sys.platform == "linux"
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        one = socket.socket()
        try:
            one.bind(("127.0.0.1", port))
            if keep:
                # Only after: it would have let us bind what somebody else has reserved so.
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        except OSError:
            one.close()
            continue
        sockets.append(one)
        ports.append(port)
        if len(ports) == count:
            break
    else:
        raise ElsaError("no_ports", f"fewer than {count} of the ports 20000 to 31999 are free")
    if not keep:
        for one in sockets:
            one.close()
        sockets.clear()
    return sockets, ports


# ---- asking the brokers


def _admin(endpoints: str) -> AdminClient:
    return AdminClient(
        {
            "bootstrap.servers": endpoints,
            "reconnect.backoff.max.ms": 200,
            "log_level": 0,  # what it would say goes to stderr
        }
    )


def _metadata(admin: AdminClient) -> Any:
    """What the brokers say about themselves and their topics, None when none answers."""
    try:
        return admin.list_topics(timeout=_ANSWER_DEADLINE)
    except KafkaException:
        return None


def _carried_out(topic: str, future: Any) -> None:
    try:
        future.result(timeout=_TOPIC_DEADLINE)
    except KafkaException as error:
        name, text = error.args[0].name(), error.args[0].str()
        reason = "unknown_topic" if name == "UNKNOWN_TOPIC_OR_PART" else name.lower().lstrip("_")
        raise ElsaError((reason, topic), f"topic {topic!r}: {text}") from error
    except TimeoutError:
        raise ElsaError(
            ("timeout", topic), f"topic {topic!r}: no answer within {_TOPIC_DEADLINE:g} s"
        ) from None


def _fileno(watchdog: subprocess.Popen[bytes]) -> int:
    return watchdog.stdin.fileno() if watchdog.stdin is not None else -1


def _not_formatted(why: str) -> ElsaError:
    return ElsaError("not_formatted", f"Apache Kafka could not format a log folder: {why}")


def _not_running() -> ElsaError:
    return ElsaError(
        "not_running",
        "this ApacheKafka is not running; it runs inside of `with ApacheKafka(...) as kafka:`",
    )
