"""What every librdkafka client is given: configuration, a place for its log, a hearer of errors.

Callbacks that librdkafka makes never raise: what they raise would come out of a later poll, and
messages that were already taken off the queue would be lost with it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import structlog
from confluent_kafka import KafkaError as DriverError
from confluent_kafka import KafkaException

from elsa_actors.kafka.errors import ConfigError
from elsa_actors.runtime.clock import clock
from elsa_actors.runtime.exits import ProcessExit
from elsa_actors.runtime.scheduler import check_fork, here, wake
from elsa_actors.runtime.waiting import blocking, new_slot, wait

log = structlog.get_logger("elsa_actors")

POLL_SECONDS = 0.1
"""How long a thread sits in librdkafka before it looks whether it is still wanted."""
SETTLING_SECONDS = 3.0
"""So long after an outage one client may still tell of it when another is answered already."""
QUIET_SECONDS = 30.0
"""The same trouble is reported again after so long, not before."""

CLOSE_SECONDS = 1.0
"""How long a call waits for the end of the client that was made for it."""

_UNANSWERED = ("stats_cb", "throttle_cb")  # the user's callbacks whose answer nobody needs


class Trouble:
    """Tells of a connection's troubles: once, not in a storm, and once when they are over.

    With ``quiet`` it only keeps the last one, for a caller who will hear of it as an exception.
    """

    def __init__(self, connection: str, quiet: bool = False) -> None:
        self.connection = connection
        self.down = False
        self.suspected = False
        """A client said so just after another was answered: whoever can is to ask a broker."""
        self._over_at = -SETTLING_SECONDS
        self.last: str | None = None
        """What librdkafka told last; "all brokers are down" only when it gave no reason before."""
        self._quiet = quiet
        self._lock = threading.Lock()
        self._told: dict[str, float] = {}

    def heard(self, error: DriverError) -> None:
        """librdkafka told of an error that belongs to no message."""
        if error.code() == DriverError._ALL_BROKERS_DOWN:
            self.last = self.last or error.str()
            if clock.now() - self._over_at < SETTLING_SECONDS:
                self.suspected = True
            else:
                self.is_down()
            return
        self.last = error.str()
        if self.is_news(error.name()):
            log.warning(
                "kafka_error", connection=self.connection, cause=error.name(), error=error.str()
            )

    def is_news(self, cause: str) -> bool:
        """Whether this cause is to be told now: it was not, in the last half minute."""
        if self._quiet:
            return False
        now = clock.now()
        with self._lock:
            if now - self._told.get(cause, -QUIET_SECONDS) < QUIET_SECONDS:
                return False
            self._told[cause] = now
            return True

    def is_down(self) -> None:
        """No broker answers."""
        self.suspected = False
        if self._set_down(True) and not self._quiet:
            log.error("kafka_unreachable", connection=self.connection, error=self.last)

    def over(self) -> None:
        """A broker answered."""
        self.suspected = False
        # Who reads and who asks may both be answered now: one of them changes it.
        if self.down and self._set_down(False) and not self._quiet:
            log.info("kafka_reachable", connection=self.connection)

    def why(self) -> str:
        """ "; and why no broker is reached", for the end of an error's text; "" while one is."""
        return f"; no broker is reached: {self.last}" if self.down else ""

    def _set_down(self, down: bool) -> bool:
        """Whether this is a change."""
        with self._lock:
            if down is self.down:
                return False
            self.down = down
            if not down:
                self.last = None
                self._told.clear()
                self._over_at = clock.now()
            return True


class ClientLog(logging.Logger):
    """librdkafka's own log lines as structlog events, each kind once in half a minute.

    What it says of lost connections it also says by its error callback, whose events people
    shall see: those lines are for debugging.
    """

    _SAID_ELSEWHERE = frozenset({"FAIL", "ERROR"})

    def __init__(self, trouble: Trouble) -> None:
        super().__init__("elsa_actors.librdkafka")
        self._trouble = trouble

    def log(self, level: int, msg: object, *args: object, **_: Any) -> None:
        text = str(msg) % args if args else str(msg)
        facility = text.partition(" ")[0]
        if self._trouble.is_news(f"log {facility}"):
            log.log(
                logging.DEBUG if facility in self._SAID_ELSEWHERE else level,
                "librdkafka",
                connection=self._trouble.connection,
                text=text,
            )


def new_client(
    kind: Callable[[dict[str, Any]], Any],
    endpoints: str | None,
    parts: Iterable[Mapping[str, Any]],
    trouble: Trouble,
) -> Any:
    """A client of librdkafka's; of the ``parts`` of its configuration, the user's win over ours.

    Raises KafkaException when librdkafka makes none of it. No frame of its traceback holds a
    configuration: there may be passwords in it, and there are logs that show what frames hold.
    """
    try:
        return kind(client_config(endpoints, parts, trouble))
    except KafkaException as raised:
        error = raised.args[0]
    del parts
    raise KafkaException(error)


def client_config(
    endpoints: str | None, parts: Iterable[Mapping[str, Any]], trouble: Trouble
) -> dict[str, Any]:
    """The configuration of one client; later parts win over earlier ones."""
    config: dict[str, Any] = {"log.connection.close": False, "socket.keepalive.enable": True}
    for part in parts:
        config |= part
    config |= {key: guarded(config[key]) for key in _UNANSWERED if key in config}
    config |= {"logger": ClientLog(trouble), "error_cb": guarded(trouble.heard)}
    return config if endpoints is None else config | {"bootstrap.servers": endpoints}


def close_in_time(close: Callable[[], Any]) -> None:
    """Close a client, and wait for that a second at most.

    Closing waits for the look-up of a broker's name, and a name server that is away takes long.
    """
    closed = new_slot()

    def run() -> None:
        try:
            close()
        except KafkaException:
            pass  # The fatal error that it has ended of.
        finally:
            wake(closed)

    threading.Thread(target=run, name="elsa-close", daemon=True).start()
    wait(closed, CLOSE_SECONDS)


def try_out(
    kind: Callable[[dict[str, Any]], Any], parts: Iterable[Mapping[str, Any]], advice: str = ""
) -> None:
    """Raise ConfigError (("bad_config", text)) when librdkafka makes no client of a configuration.

    Each key may be well and two of them contradict each other, or name a file that is not there.
    """
    try:
        # Without endpoints: closing waits for the look-up of their names, however long it takes.
        driver = new_client(kind, None, parts, Trouble("check", quiet=True))
    except KafkaException as error:
        text = error.args[0].str()
        raise ConfigError(
            ("bad_config", text),
            f"librdkafka makes no {getattr(kind, '__name__', 'client').lower()} of this"
            f" configuration: {text}{advice if 'idempotence' in text else ''}",
        ) from None
    driver.close()


def guarded(callback: Callable[..., Any]) -> Callable[..., None]:
    """A callback for librdkafka: what it raises is logged, and goes no further."""

    def call(*args: Any) -> None:
        try:
            callback(*args)
        except ProcessExit:
            pass  # The process that polls is dead.
        except Exception as error:
            name = getattr(callback, "__qualname__", repr(callback))
            log.error("kafka_callback_failed", callback=name, exc_info=error)

    return call


@contextmanager
def in_librdkafka() -> Iterator[None]:
    """Around a call that blocks in librdkafka: other processes run meanwhile.

    Raises Forked in a forked child, where no client made before works, and ProcessExit when the
    running process has died.
    """
    check_fork()
    check_alive()
    with blocking():
        yield
    check_alive()


def check_alive() -> None:
    """Raise ProcessExit in code whose process has died."""
    me = here.inbox
    if me is not None:
        me.check_alive()
