"""Client: the connection, with the one librdkafka producer that all of its Producers share.

The original: https://hexdocs.pm/elsa/Elsa.Supervisor.html, where brod_client stands in this place.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog
from confluent_kafka import KafkaError as DriverError
from confluent_kafka import KafkaException
from confluent_kafka import Producer as DriverProducer

from elsa_actors.kafka import connection as connections
from elsa_actors.kafka.driver import (
    POLL_SECONDS,
    check_alive,
    in_librdkafka,
    new_client,
    try_out,
)
from elsa_actors.kafka.errors import KafkaError, error_of
from elsa_actors.otp.gen_server import GenServer, Request, call
from elsa_actors.otp.results import Continue, NoReply, Ok, Reply, Stop
from elsa_actors.runtime import process
from elsa_actors.runtime.clock import Timer, clock
from elsa_actors.runtime.errors import CallExit
from elsa_actors.runtime.exits import Exit, is_word
from elsa_actors.runtime.scheduler import wake
from elsa_actors.runtime.waiting import new_slot

log = structlog.get_logger("elsa_actors")

METADATA_SECONDS = 2.0
"""How long the brokers may take to tell what topics there are."""
PROBE_SECONDS = 1.0
"""How often a connection without a broker looks for one."""
CLOSE_SECONDS = 10.0
"""How long the librdkafka producer waits to be closed for those who are using it."""

OURS = {"enable.idempotence": True, "linger.ms": 0}
"""What a user's own configuration overrides."""
_UNKNOWN = (DriverError.UNKNOWN_TOPIC_OR_PART, DriverError._UNKNOWN_TOPIC)
_TRUE = ("true", "t", "1")  # as librdkafka writes it


def check_producer_config(config: Mapping[str, Any]) -> None:
    """Raise ConfigError when librdkafka makes no producer of this."""
    try_out(DriverProducer, (OURS, config), "; enable.idempotence is True where it is not given")


class ClientGone(KafkaError):
    """The librdkafka producer was closed; another comes with the next Client."""

    def __init__(self, connection: str) -> None:
        super().__init__("client_down", f"the client of connection {connection!r} is down")


class Evidence:
    """Whether what an idempotent librdkafka producer says of deliveries is true.

    It says "delivered" when a broker refuses a sequence number that it has had already. When the
    topic was deleted and made again, that number was another message's, and this one is not there.
    What was written has an offset. Of the messages of a request that was refused the first has
    none; the others have none either, or are counted on from 0.
    """

    __slots__ = ("_refused",)

    def __init__(self) -> None:
        self.other_requests()

    def other_requests(self) -> None:
        """What is told from now on is of other requests: a poll tells all of one at once."""
        self._refused = -1  # the offset of the next message, if it was refused with the last one

    def of(self, offset: int | None) -> bool:
        """Whether a message of this offset, the next in librdkafka's order, was written."""
        if offset is None:
            self._refused = 0
            return False
        if offset == self._refused:
            self._refused += 1
            return False
        self._refused = -1
        return True


class SharedProducer:
    """A librdkafka producer that many processes use, each within a `with`, and one closes.

    Closing waits for those who are inside: librdkafka does not bear being called while it ends.

    Of those who wait for a delivery one at a time polls librdkafka, and hears of everybody's: so a
    lone message costs no switch of threads. Who leaves wakes another, to poll in its place.
    """

    def __init__(self, connection: str, driver: DriverProducer, idempotent: bool = True) -> None:
        self._connection = connection
        self._driver = driver
        self.evidence = Evidence() if idempotent else None
        self._lock = threading.Lock()
        self._users = 0
        self._closed = False
        self._unused = new_slot()
        self._polling = threading.Lock()
        self._poller = 0  # the thread that is in librdkafka's poll
        self._waiting: dict[Request, None] = {}
        self.fatal: DriverError | None = None
        """What ended this producer for good; another must take its place."""

    def __enter__(self) -> DriverProducer:
        with self._lock:
            if self._closed:
                raise ClientGone(self._connection)
            self._users += 1
        return self._driver

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if self._closed and self._users == 0:
                wake(self._unused)

    def check_not_polling(self) -> None:
        """Refuse to wait for a delivery in what librdkafka calls: nobody would tell of it."""
        if self._poller == threading.get_ident():
            raise KafkaError(
                "in_callback",
                "a callback of librdkafka's, such as stats_cb, may not wait for a delivery: those"
                " are told when it has returned; have a process do it, by process.send or cast",
            )

    def hear(self) -> None:
        """Hear of what was delivered so far, unless somebody else is at it."""
        if self._polling.acquire(False):
            try:
                with self as driver:
                    self._poll(driver, 0)
            finally:
                self._polling.release()
            self._wake_one()

    def wait_for(self, request: Request, deadline: Callable[[], float]) -> None:
        """Wait until a request is answered, or the deadline; librdkafka must be polled for that.

        Raises ClientGone when this producer was closed, and another may answer.
        """
        if request.slot is None:
            request.slot = new_slot()
        # Among the waiting first, then the look who polls: who stops polling does it the other way
        # round, so that somebody always polls.
        self._waiting[request] = None
        try:
            while not request.answers and (left := deadline() - clock.now()) > 0:
                if not self._polling.acquire(False):
                    request.wait(min(left, POLL_SECONDS))
                    continue
                try:
                    self._poll_for(request, deadline)
                finally:
                    self._polling.release()
        finally:
            del self._waiting[request]
            self._wake_one()

    def _poll_for(self, request: Request, deadline: Callable[[], float]) -> None:
        with self as driver, in_librdkafka():
            while not (request.answers or self._closed) and (left := deadline() - clock.now()) > 0:
                self._poll(driver, min(left, POLL_SECONDS))
                check_alive()

    def _poll(self, driver: DriverProducer, seconds: float) -> None:
        if self.evidence is not None:
            self.evidence.other_requests()
        self._poller = threading.get_ident()
        try:
            driver.poll(seconds)
        except KafkaException as error:
            self.fatal = error.args[0]  # Those it raises here, the others the error callback gets.
        finally:
            self._poller = 0

    def _wake_one(self) -> None:
        if self._waiting and not self._polling.locked():
            for request in tuple(self._waiting)[:1]:
                wake(request.slot)

    def close(self) -> None:
        """Fail what is still under way, and end librdkafka's threads."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            used = self._users > 0
        if used and not self._unused.acquire(True, CLOSE_SECONDS):
            log.error("kafka_client_not_closed", connection=self._connection, users=self._users)
            return
        self._poller = threading.get_ident()
        with suppress(KafkaException):  # One that it has ended of; nobody polls any more.
            self._driver.purge()
            self._driver.close()
        self._poller = 0


@dataclass(frozen=True, slots=True)
class GetProducer:
    pass


LOOK = "look"


class Client(GenServer):
    """Owns a connection's librdkafka producer, and hears what it tells when nobody else does."""

    trap_exit = True  # Whoever stops it waits until librdkafka's threads have ended.

    def init(self, connection: str) -> Ok:
        self.connection = connections.find(connection)
        self.shared: SharedProducer | None = None
        self._next_probe = 0.0
        self._timer: Timer | None = None
        return Ok(then=Continue("connect"))

    def handle_continue(self, argument: Any) -> Any:
        connection = self.connection
        driver = new_client(
            DriverProducer, connection.endpoints, (OURS, connection.config), connection.trouble
        )
        idempotent = connection.config.get("enable.idempotence", OURS["enable.idempotence"])
        idempotent = str(idempotent).lower() in _TRUE
        shared = SharedProducer(connection.name, driver, idempotent)
        self.shared = connection.shared = process.own(shared, SharedProducer.close)
        self._look_later()
        return NoReply()

    def handle_call(self, request: Any, sender: Any) -> Any:
        match request:
            case GetProducer():
                return Reply(self.shared)
            case unknown:
                return Stop(("unknown_request", unknown))

    def handle_info(self, message: Any) -> Any:
        if isinstance(message, Exit):
            return Stop(message.reason)
        if not is_word(message, LOOK):
            super().handle_info(message)
            return NoReply()
        assert self.shared is not None
        self.shared.hear()
        trouble = self.connection.trouble
        if (trouble.down or trouble.suspected) and clock.now() >= self._next_probe:
            with self.shared as driver:
                self._probe(driver)
        if self.shared.fatal is not None:
            return Stop(("fatal", self.shared.fatal.name()))
        self._look_later()
        return NoReply()

    def _look_later(self) -> None:
        # By a timer, which no other message puts off; the one that told of a fatal error replaced.
        if self._timer is not None:
            self._timer.cancel()
        self._timer = process.send_after(process.current(), LOOK, POLL_SECONDS)

    def _probe(self, driver: DriverProducer) -> None:
        # librdkafka tells when the last broker is lost, and not when one is back.
        self._next_probe = clock.now() + PROBE_SECONDS
        try:
            with in_librdkafka():
                driver.list_topics(timeout=PROBE_SECONDS / 2)
        except KafkaException:
            if self.connection.trouble.suspected:
                self.connection.trouble.is_down()
            return
        self.connection.trouble.over()

    def terminate(self, reason: Any) -> None:
        if self.shared is not None:
            self.shared.close()

    def status(self) -> dict[str, Any]:
        shared = self.shared
        return {
            "connection": self.connection.name,
            "endpoints": self.connection.endpoints,
            "reachable": not self.connection.trouble.down,
            "in_flight": 0 if shared is None else len(shared._driver),
        }


def shared_producer(connection: str, timeout: float = 5.0) -> SharedProducer:
    """The librdkafka producer of a connection; KafkaError "client_down" when there is none now.

    Blocks until the Client answers, a tenth of a second.
    """
    try:
        shared: SharedProducer | None = call(
            connections.via(connection, "client"), GetProducer(), timeout
        )
    except CallExit as error:
        raise ClientGone(connection) from error
    if shared is None:
        raise ClientGone(connection)
    return shared


def topics(connection: str, timeout: float = METADATA_SECONDS) -> dict[str, int | None]:
    """Every topic and its number of partitions, as the brokers tell now; None where they do not.

    Blocks for ``timeout`` seconds at most. Raises KafkaError when no broker answers.
    """
    shared = shared_producer(connection)
    try:
        # All of them: asking for one could create it.
        with shared as driver, in_librdkafka():
            answer = driver.list_topics(timeout=timeout)
    except KafkaException as error:
        raise error_of(error.args[0], "could not list the topics") from None
    connections.find(connection).trouble.over()
    return {
        name: None if topic.error else len(topic.partitions)
        for name, topic in answer.topics.items()
        if not (topic.error and topic.error.code() in _UNKNOWN)
    }
