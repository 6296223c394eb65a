"""Worker: runs the handler of one partition, and keeps how far it has come.

The original: https://hexdocs.pm/elsa/Elsa.Consumer.Worker.html
"""

from __future__ import annotations

from typing import Any

import structlog

from elsa_actors.kafka import connection as connections
from elsa_actors.kafka.config import ConsumerOptions
from elsa_actors.kafka.connection import take_key
from elsa_actors.kafka.consumer import (
    Acked,
    Deliveries,
    Handled,
    OutOfRange,
    Subscribe,
)
from elsa_actors.kafka.message import messages_of
from elsa_actors.kafka.message_handler import MessageHandler, ack_of
from elsa_actors.kafka.offsets import Offsets, offsets_of
from elsa_actors.otp.gen_server import GenServer, cast
from elsa_actors.otp.results import UNSET, Continue, NoReply, Ok, Stop
from elsa_actors.runtime import process
from elsa_actors.runtime.errors import ReceiveTimeout
from elsa_actors.runtime.exits import Down, Exit, is_word

log = structlog.get_logger("elsa_actors")


GO_ON = object()
AGAIN_SECONDS = 0.1
"""How soon a Consumer is looked for again that is being restarted."""


class Worker(GenServer):
    """Has one partition's messages handled, in order, and acknowledges what the handler says."""

    restart = "temporary"  # A ProcessManager starts it again, later from crash to crash.
    shutdown = 10.0  # The running call of the handler may end.
    trap_exit = True

    def init(self, connection: str, options: ConsumerOptions, topic: str, partition: int) -> Ok:
        self.connection = connections.find(connection)
        self.options = options
        self.topic = topic
        self.partition = partition
        self.handler: MessageHandler | None = None
        self.offsets: Offsets | None = None  # made of the first messages, which say where we are
        self.number = 0  # of the last subscription: what comes of another is out of date
        self._consumer: Any = None  # the monitor of the Consumer that was asked
        self._again: Any = None  # the timer of a worker that has found none
        self._reset: tuple[str, int | None] | None = None  # where to go on, and the position before
        take_key(connection, ("worker", None, topic, partition), self.shutdown)
        return Ok(then=Continue("start"))

    def handle_continue(self, argument: Any) -> Any:
        handler = self.options.handler()
        handler.connection = self.connection.name
        handler.topic = self.topic
        handler.partition = self.partition
        answer = handler.init(self.options.handler_init_args)
        if not isinstance(answer, Ok):
            return Stop(("bad_return_value", answer))
        if answer.state is not UNSET:
            handler.state = answer.state
        self.handler = handler
        self._go_on()
        return NoReply()

    def handle_cast(self, request: Any) -> Any:
        match request:
            case Acked():
                self._acked(request)
                return NoReply()
            case unknown:
                return Stop(("unknown_request", unknown))

    def handle_info(self, message: Any) -> Any:
        match message:
            case Deliveries() if message.number == self.number:
                # What is queued is not worked off first by one that is to end.
                if (end := self._end_in_mail()) is not None:
                    return Stop(end.reason)
                self._run_handler(message)
            case OutOfRange() if message.number == self.number:
                return self._out_of_range(message)
            case Deliveries() | OutOfRange():
                pass  # Of a Consumer that is dead, or of before a reset.
            case Down(monitor) if monitor is self._consumer:
                self._go_on()
            case _ if message is GO_ON:
                self._again = None
                self._go_on()
            case Exit(reason=reason):
                # Of a helper that the handler has linked, say; its normal end harms nobody.
                return NoReply() if is_word(reason, "normal") else Stop(reason)
            case unexpected:
                super().handle_info(unexpected)
        return NoReply()

    def _end_in_mail(self) -> Exit | None:
        try:
            end: Exit = process.receive(_ends, 0)
        except ReceiveTimeout:
            return None
        return end

    def _go_on(self) -> None:
        """Have the partition read from where the handlers are."""
        position = self.connection.positions.get(self.topic, self.partition)
        if self._reset is not None and self._reset[1] == position:
            self._subscribe(self._reset[0], keep=True)  # Nobody has told yet where that is.
        else:
            self._subscribe(self.options.begin_offset if position is None else position)

    def _subscribe(self, offset: int | str, keep: bool = False) -> None:
        self.offsets = None
        self.number += 1
        me = process.current()
        if self._consumer is not None:
            process.demonitor(self._consumer, flush=True)
            self._consumer = None
        consumer = connections.holder(self.connection.name, ("consumer", None))
        if consumer is not None:
            self._consumer = process.monitor(consumer)
            cast(consumer, Subscribe(self.topic, self.partition, offset, me, self.number, keep))
        elif self._again is None:
            self._again = process.send_after(me, GO_ON, AGAIN_SECONDS)

    def _run_handler(self, given: Deliveries) -> None:
        self._reset = None
        messages = messages_of(given.raw, None)
        if self.offsets is None:
            self.offsets = Offsets(messages[0].offset)
        self.offsets.delivered(offsets_of(messages))
        assert self.handler is not None
        # A list of its own: it may empty it, or sort it.
        done = ack_of(self.handler.handle_messages(messages.copy()), messages)
        if done is not None and self.offsets.ack_to(done):
            self._keep_position()
        cast(
            self._consumer.ref,
            Handled(
                self.topic,
                self.partition,
                process.current(),
                given.number,
                len(messages),
                given.size,
            ),
        )

    def _acked(self, ack: Acked) -> None:
        offsets = self.offsets
        if ack.generation_id is None and offsets is not None and offsets.ack(ack.offset):
            self._keep_position()
        else:
            ack.dropped(self.connection.name, self.topic, self.partition)

    def _keep_position(self) -> None:
        assert self.offsets is not None
        self.connection.positions.put(self.topic, self.partition, self.offsets.position)

    def _out_of_range(self, fault: OutOfRange) -> Any:
        policy = self.options.offset_reset_policy
        # A broker that says so again and again is no storm of events.
        if self.connection.trouble.is_news(
            f"offset_reset {self.topic} {self.partition} {fault.offset}"
        ):
            log.warning(
                "offset_reset",
                connection=self.connection.name,
                topic=self.topic,
                partition=self.partition,
                offset=fault.offset,
                policy=policy,
                error=fault.text,
            )
        if policy == "stop":
            return Stop(("offset_out_of_range", fault.offset))
        offset = "latest" if policy == "reset_to_latest" else "earliest"
        self._reset = (offset, self.connection.positions.get(self.topic, self.partition))
        self._subscribe(offset, keep=True)
        return NoReply()

    def terminate(self, reason: Any) -> None:
        if self.handler is not None:
            self.handler.terminate(reason)

    def status(self) -> dict[str, Any]:
        offsets = self.offsets
        return {
            "topic": self.topic,
            "partition": self.partition,
            "position": None if offsets is None else offsets.position,
            "unacked": 0 if offsets is None else offsets.unacked,
        }


def _ends(message: Any) -> bool:
    return isinstance(message, Exit) and not is_word(message.reason, "normal")
