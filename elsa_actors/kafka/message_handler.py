"""Write what is done with the messages of a partition, and understand what a handler answers."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from elsa_actors.kafka.errors import ConfigError, KafkaError
from elsa_actors.kafka.message import Message
from elsa_actors.otp.results import Ok


@dataclass(frozen=True, slots=True)
class Ack:
    """Everything delivered up to and with this offset is done; what came after it is not yet.

    Raises ValueError for an offset that is no whole number from 0 on.
    """

    offset: int

    def __post_init__(self) -> None:
        offset: Any = self.offset
        if isinstance(offset, bool) or not isinstance(offset, int) or offset < 0:
            raise ValueError(
                f"expected the offset of a message, a whole number from 0 on, got: {offset!r}"
            )


class MessageHandler:
    """What is done with the messages of one partition; subclass it and write `handle_messages`.

    Every partition has a handler of its own, run by one process, a callback at a time. When it
    raises, the process ends, and a new handler starts at the first message that was not
    acknowledged. ``topic``, ``partition``, ``connection`` and ``generation_id`` (the group's, None
    for a simple consumer) are there from `init` on; ``state`` is yours.

        >>> class Printer(MessageHandler):
        ...     def handle_messages(self, messages):
        ...         for message in messages:
        ...             print(message.offset, message.value)
        ...         return "ack"
        >>> Printer().handle_messages([Message("orders", 0, 7, value=b"tea")])
        7 b'tea'
        'ack'
    """

    topic: str = ""
    partition: int = -1
    generation_id: int | None = None
    connection: Any = None
    state: Any = None

    def init(self, args: Any) -> Any:
        """Prepare, given ``handler_init_args``; answer ``Ok(state)``. Runs before any message."""
        return Ok(None)

    def handle_messages(self, messages: list[Message]) -> Any:
        """Work on messages of the partition, in order: at least one, none twice unless it restarts.

        Answer "ack" (all are done), ``Ack(offset)`` (done up to and with this one), "no_ack"
        (somebody calls `Consumer.ack` later) or "continue" (more please, nothing is done yet).
        It may block; messages that come meanwhile wait.
        """
        raise NotImplementedError(
            f"{type(self).__qualname__} has no handle_messages(self, messages); write it, and"
            " answer 'ack' when the messages are done"
        )

    def terminate(self, reason: Any) -> None:
        """Clean up; ``reason`` is why it ends. Not called when the process is killed."""


def check_handler(handler: Any, where: str) -> type[MessageHandler]:
    """The handler, once it is seen to be a class that can handle messages; else a ConfigError.

    ``where`` says whose handler it is: "consumer 'orders'". The reason is ``("missing_option",
    "handler")`` or ``("bad_value", "handler", handler)``.
    """
    expected = f"{where}: expected handler to be a subclass of MessageHandler"
    if handler is None:
        raise ConfigError(("missing_option", "handler"), f"{expected}, got none")
    if isinstance(handler, MessageHandler):
        name = type(handler).__qualname__
        problem = f"{expected}, got an instance; give the class, {name}: each partition has its own"
    elif not isinstance(handler, type):
        problem = f"{expected}, got: {handler!r}"
    elif not issubclass(handler, MessageHandler):
        problem = f"{expected}, got {handler.__qualname__}, which is none"
    elif handler.handle_messages is MessageHandler.handle_messages:
        problem = (
            f"{expected} with a handle_messages(self, messages), {handler.__qualname__} has none"
        )
    elif found := [name for name in _CALLBACKS if _is_async(handler, name)]:
        problem = (
            f"{expected} whose {found[0]} is a plain function, that of {handler.__qualname__}"
            " is async; call asyncio.run(...) in it"
        )
    elif found := _misfits(handler):
        problem = f"{expected} {found[0]}"
    else:
        return handler
    raise ConfigError(("bad_value", "handler", handler), problem)


_CALLBACKS = ("init", "handle_messages", "terminate")


def _is_async(handler: type[MessageHandler], name: str) -> bool:
    function = getattr(handler, name)
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def _misfits(handler: type[MessageHandler]) -> list[str]:
    """What of a handler cannot be called as it will be: found out here, not from crash to crash."""
    found = []
    if not _takes(handler):
        found.append(
            f"that is made without arguments, {handler.__qualname__} wants some;"
            " give them as handler_init_args, and take them in init(self, args)"
        )
    for name, argument in zip(_CALLBACKS, ("args", "messages", "reason"), strict=True):
        function = inspect.getattr_static(handler, name)
        if inspect.isfunction(function) and not _takes(function, None, None):
            found.append(
                f"whose {name} takes (self, {argument}), that of {handler.__qualname__} takes"
                f" {inspect.signature(function)}"
            )
    return found


def _takes(function: Any, *arguments: Any) -> bool:
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return False
    except ValueError:
        return True  # It does not say what it takes.
    return True


def ack_of(answer: Any, messages: list[Message]) -> int | None:
    """Up to which offset a handler's answer to these messages acknowledges, None for nothing.

    What was delivered before, and answered with "continue", is acknowledged along. Raises
    KafkaError (("bad_return_value", answer)) for what is no answer, and for an `Ack` of an offset
    that is still to come.

        >>> messages = [Message("orders", 0, 7), Message("orders", 0, 8)]
        >>> [ack_of(answer, messages) for answer in ("ack", Ack(7), "no_ack", "continue")]
        [8, 7, None, None]
    """
    # "ack" first: it is the answer of nearly every batch.
    if answer == "ack":
        return messages[-1].offset if messages else None
    match answer:
        case "no_ack" | "continue":
            return None
        case Ack(offset) if messages and offset <= messages[-1].offset:
            return offset
        case Ack(offset):
            last = messages[-1].offset if messages else None
            got = f"an Ack({offset}), and the last offset delivered was {last}"
        case None:
            got = "None; a handler that is done says `return 'ack'`"
        case _:
            got = repr(answer)
    raise KafkaError(
        ("bad_return_value", answer),
        "expected handle_messages to answer 'ack', Ack(offset) of a message it was given, 'no_ack'"
        f" or 'continue', got: {got}",
    )
