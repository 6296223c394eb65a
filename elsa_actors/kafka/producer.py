"""Producer: hands the messages of one partition to librdkafka, and answers when they are there.

The original: https://hexdocs.pm/elsa/Elsa.Producer.html
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import MethodType
from typing import Any

import structlog
from confluent_kafka import KafkaError as DriverError
from confluent_kafka import KafkaException
from confluent_kafka import Producer as DriverProducer

from elsa_actors.kafka import connection as connections
from elsa_actors.kafka.client import (
    LOOK,
    ClientGone,
    Evidence,
    SharedProducer,
    shared_producer,
)
from elsa_actors.kafka.message import Record
from elsa_actors.otp.gen_server import GenServer
from elsa_actors.otp.results import Continue, NoReply, Ok, Stop
from elsa_actors.runtime import process
from elsa_actors.runtime.clock import clock
from elsa_actors.runtime.exits import Down, Exit

log = structlog.get_logger("elsa_actors")

DRAIN_SECONDS = 4.0
"""How long a Producer that is told to stop waits for what is under way."""
_RETRY_SECONDS = 0.01  # librdkafka's queue is full: room comes as fast as brokers answer.
_ATTACH_SECONDS = 0.1


class Batch:
    """Messages for one partition on their way, and what became of each.

    A record that is bytes is a value without a key. ``places`` says where each record stands in the
    list of whoever produces them.

    Three threads meet here: who sends it, the Producer, and the one on which librdkafka tells of
    deliveries. Each counts on its own; who counts the last message answers.
    """

    __slots__ = (
        "_claims",
        "delivered",
        "doubtful",
        "failures",
        "next",
        "on_done",
        "partition",
        "places",
        "records",
        "total",
    )

    def __init__(
        self, partition: int, records: Sequence[Record | bytes], places: Sequence[int]
    ) -> None:
        self.partition = partition
        self.records = records
        self.places = places
        self.total = len(records)
        # Who has begun to hand it over to librdkafka. Appending is one step: the first has it.
        self._claims: list[Any] = []
        self.next = 0  # the first that librdkafka does not have yet
        # Appending is one step, and so is asking for the length.
        self.delivered: list[int] = []
        self.failures: list[tuple[int, DriverError]] = []
        self.doubtful: list[int] = []
        self.on_done: Any = None

    @property
    def begun(self) -> bool:
        """Whether librdkafka may have some of it."""
        return bool(self._claims)

    def begin(self, who: Any) -> bool:
        """Begin to hand it over, or go on; False when somebody else has begun already."""
        if not self._claims:
            self._claims.append(who)
        return self._claims[0] is who

    def give_back(self) -> None:
        """Whoever has begun has handed over nothing, if so: another may begin."""
        if self.next == 0:
            self._claims.clear()

    def hand_over(self, driver: DriverProducer, topic: str, evidence: Evidence | None) -> bool:
        """Give librdkafka what it does not have yet; False when its queue is full.

        What is told to be delivered without ``evidence`` is doubtful; without any, all is believed.
        Raises Fatal when this librdkafka producer takes nothing any more.
        """
        produce: Any = driver.produce
        tell, partition, begin = self.teller(evidence), self.partition, self.next
        records = self.records[begin:] if begin else self.records
        # A bound method is one object for the garbage collector, a partial two.
        for place, record in enumerate(records, begin):
            try:
                if type(record) is bytes:
                    produce(topic, record, None, partition, MethodType(tell, place))
                    continue
                key, value, headers, timestamp, _ = record
                if headers is None and timestamp is None:
                    produce(topic, value, key, partition, MethodType(tell, place))
                else:
                    produce(
                        topic, value, key, partition, MethodType(tell, place),
                        timestamp=timestamp or 0, headers=headers,
                    )  # fmt: skip
            except BufferError:
                self.next = place
                return False
            except KafkaException as error:
                if error.args[0].code() == DriverError._FATAL:
                    self.next = place
                    raise Fatal(error.args[0]) from None
                tell(place, error.args[0], None)
        self.next = self.total
        return True

    def teller(self, evidence: Evidence | None) -> Callable[[int, DriverError | None, Any], None]:
        """What is told of each message that it was delivered, or never will be."""
        # Called for every message: what it needs stands in its own variables.
        delivered, failures, doubtful = self.delivered, self.failures, self.doubtful
        total, was_written = self.total, None if evidence is None else evidence.of

        def tell(place: int, error: DriverError | None, message: Any) -> None:
            if error is not None:
                failures.append((place, error))
            elif was_written is None or was_written(message.offset()):
                delivered.append(place)
                if len(delivered) < total and not failures and not doubtful:
                    return  # So it is with nearly all.
            else:
                doubtful.append(place)
            if self.done and self.on_done is not None:
                self.on_done()

        return tell

    @property
    def done(self) -> bool:
        told = len(self.delivered) + len(self.failures) + len(self.doubtful)
        return told >= self.total


class Fatal(KafkaException):
    """librdkafka has ended this producer for good; another must take its place."""


@dataclass(frozen=True, slots=True)
class Deliver:
    """Deliver a batch; past ``deadline`` nobody waits for what was not begun."""

    batch: Batch
    deadline: float

    def __repr__(self) -> str:
        return f"<Deliver {self.batch.total} messages>"


ATTACH = "attach"
RETRY = "retry"


class Producer(GenServer):
    """Produces to one partition of one topic, over the connection's librdkafka producer."""

    inline = True  # A call costs no switch of threads: handing over never blocks.
    inline_limit = 1.0  # On a busy machine five hundred messages take their time.
    trap_exit = True

    def init(self, connection: str, topic: str, partition: int) -> Ok:
        self.connection = connection
        self.topic = topic
        self.partition = partition
        self.shared: SharedProducer | None = None
        self.client: Any = None
        self.waiting: deque[tuple[Batch, float]] = deque()
        self.under_way: set[Batch] = set()  # Adding and discarding are one step each.
        self._retrying = False
        return Ok(then=Continue(ATTACH))

    def handle_continue(self, argument: Any) -> Any:
        self._attach()
        return NoReply()

    def handle_call(self, request: Any, sender: Any) -> Any:
        match request:
            case Deliver(batch, deadline):
                batch.on_done = partial(self._done, batch, sender)
                self.under_way.add(batch)
                self.waiting.append((batch, deadline))
                self._hand_over()
                return NoReply()
            case unknown:
                return Stop(("unknown_request", unknown))

    def handle_info(self, message: Any) -> Any:
        match message:
            case "retry":
                self._retrying = False
                self._hand_over()
            case "attach":
                self._attach()
            case Down(ref=ref) if ref is self.client:
                # What it had fails as librdkafka is closed; what waits here goes to the next.
                self.client = self.shared = None
                self._attach()
            case Exit(reason=reason):
                return Stop(reason)
            case unexpected:
                super().handle_info(unexpected)
        return NoReply()

    def _attach(self) -> None:
        """Find the Client that there is now; look again a little later when there is none."""
        if self.shared is not None:
            return
        client = connections.holder(self.connection, "client")
        if client is not None:
            try:
                self.shared = shared_producer(self.connection)
            except ClientGone:
                pass
            else:
                self.client = client
                process.monitor(client)
                self._hand_over()
                return
        process.send_after(process.current(), ATTACH, _ATTACH_SECONDS)

    def _hand_over(self) -> None:
        while self.waiting and self.shared is not None:
            batch, deadline = self.waiting[0]
            late = not batch.begun and clock.now() > deadline
            if late or not batch.begin(self):
                # Whoever asked has gone, and told its caller so; or one that died has begun it.
                self.waiting.popleft()
                self.under_way.discard(batch)
                continue
            try:
                with self.shared as driver:
                    everything = batch.hand_over(driver, self.topic, self.shared.evidence)
            except ClientGone:
                batch.give_back()
                return  # Its Down is on the way.
            except Fatal as fatal:
                batch.give_back()
                self.shared.fatal = fatal.args[0]
                process.send(self.client, LOOK)
                return  # The next Client's producer gets the rest.
            if not everything:
                batch.give_back()
                if not self._retrying:
                    self._retrying = True
                    process.send_after(process.current(), RETRY, _RETRY_SECONDS)
                return
            self.waiting.popleft()

    def _done(self, batch: Batch, sender: Any) -> None:
        # On the thread that polls librdkafka, which is not this process's: no `reply`.
        self.under_way.discard(batch)
        sender.answer("done")

    def terminate(self, reason: Any) -> None:
        """Wait for what is under way; what is not begun, its sender gives to the next Producer."""
        deadline = clock.now() + DRAIN_SECONDS
        while (begun := self._begun()) and clock.now() < deadline:
            process.sleep(0.01)
            self._hand_over()
        if begun:
            log.warning(
                "producer_stopped_early",
                connection=self.connection,
                topic=self.topic,
                partition=self.partition,
                batches=begun,
            )

    def _begun(self) -> int:
        return sum(batch.begun for batch in tuple(self.under_way))

    def status(self) -> dict[str, Any]:
        return {
            "topic": self.topic,
            "partition": self.partition,
            "attached": self.shared is not None,
            "under_way": sum(batch.total - len(batch.delivered) for batch in tuple(self.under_way)),
        }
