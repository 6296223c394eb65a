"""What a handler is, and what its answers mean."""

from typing import Any

import pytest

from elsa_actors.kafka.errors import ConfigError, KafkaError
from elsa_actors.kafka.message import Message
from elsa_actors.kafka.message_handler import Ack, MessageHandler, ack_of, check_handler
from elsa_actors.otp.results import Ok

MESSAGES = [Message("orders", 0, offset) for offset in (7, 8, 11)]


class Done(MessageHandler):
    def handle_messages(self, messages):
        return "ack"


class Idle(MessageHandler):
    pass


class Async(MessageHandler):
    async def handle_messages(self, messages):
        return "ack"


# --- the base class ----------------------------------------------------------------------------


def test_a_handler_needs_only_handle_messages():
    """init and terminate are there for those who want them."""
    handler = Done()
    assert handler.init({"any": "thing"}) == Ok(None)
    assert handler.terminate("normal") is None
    assert handler.handle_messages(MESSAGES) == "ack"


def test_a_handler_has_its_attributes_before_it_runs():
    """They can be read, in a test of one's own handler too, and are each handler's own."""
    handler = Done()
    assert (handler.generation_id, handler.connection, handler.state) == (None, None, None)
    handler.topic, handler.partition = "orders", 3
    assert (Done().topic, Done().partition) == ("", -1)


def test_handle_messages_must_be_written():
    """Messages that nobody looks at must not count as done."""
    with pytest.raises(NotImplementedError, match="Idle has no handle_messages"):
        Idle().handle_messages(MESSAGES)


# --- which classes are handlers ----------------------------------------------------------------


def test_a_subclass_that_handles_messages_is_a_handler():
    """Written in the class or in one of its bases."""

    class Further(Done):
        pass

    assert check_handler(Done, "consumer 'orders'") is Done
    assert check_handler(Further, "consumer 'orders'") is Further


@pytest.mark.parametrize(
    ("handler", "says"),
    [
        (Done(), "got an instance; give the class, Done"),
        (Idle, "Idle has none"),
        (MessageHandler, "MessageHandler has none"),
        (Async, "that of Async is async"),
        (dict, "got dict, which is none"),
        (print, "got: <built-in function print>"),
        ("Done", "got: 'Done'"),
    ],
)
def test_other_things_are_refused_when_the_options_are_made(handler, says):
    """Not when the first message comes."""
    with pytest.raises(ConfigError) as caught:
        check_handler(handler, "consumer 'orders'")
    assert caught.value.reason == ("bad_value", "handler", handler)
    assert str(caught.value).startswith("consumer 'orders': expected handler to be a subclass")
    assert says in str(caught.value)


def test_a_missing_handler_is_named():
    """It has no default."""
    with pytest.raises(ConfigError) as caught:
        check_handler(None, "consumer 'orders'")
    assert caught.value.reason == ("missing_option", "handler")


# --- acks --------------------------------------------------------------------------------------


def test_ack_holds_an_offset():
    """Equal by value, and not to be changed."""
    assert Ack(0) == Ack(0) != Ack(1)
    with pytest.raises(AttributeError):
        Ack(0).offset = 1


@pytest.mark.parametrize("offset", [-1, True, 1.0, "1", None, MESSAGES[0]])
def test_ack_of_what_is_no_offset_is_refused(offset):
    """In the handler's own line, where the mistake is."""
    with pytest.raises(ValueError, match="whole number from 0 on"):
        Ack(offset)


@pytest.mark.parametrize(
    ("answer", "offset"),
    [
        ("ack", 11),
        (Ack(11), 11),
        (Ack(8), 8),
        (Ack(7), 7),
        (Ack(9), 9),  # there is no message 9: all before it are meant
        (Ack(2), 2),  # of an earlier batch, answered with "continue"
        ("no_ack", None),
        ("continue", None),
    ],
)
def test_what_an_answer_acknowledges(answer, offset):
    """ "ack" is all of them, Ack up to and with its offset, the other two nothing."""
    assert ack_of(answer, MESSAGES) == offset


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (None, "None; a handler that is done says `return 'ack'`"),
        ("acks", "'acks'"),
        ("Ack", "'Ack'"),
        (True, "True"),
        (11, "11"),
        (Ok(None), "Ok("),
        (("ack", 5), "('ack', 5)"),
        (Ack, "class"),
        (Ack(12), "an Ack(12), and the last offset delivered was 11"),
    ],
)
def test_what_is_no_answer_is_refused(answer, says):
    """A handler that forgot to answer, and one that acks what it never saw, are mistakes."""
    with pytest.raises(KafkaError) as caught:
        ack_of(answer, MESSAGES)
    assert caught.value.reason == ("bad_return_value", answer)
    assert says in str(caught.value)


def test_nothing_delivered_nothing_acknowledged():
    """There is no last offset then, and no Ack can be right."""
    assert ack_of("ack", []) is None
    with pytest.raises(KafkaError):
        ack_of(Ack(0), [])


class WantsMore(MessageHandler):
    def __init__(self, shop: str) -> None:
        self.shop = shop

    def handle_messages(self, messages: Any) -> str:
        return "ack"


class InitWithoutArguments(MessageHandler):
    def init(self) -> Any:  # type: ignore[override]
        return Ok()

    def handle_messages(self, messages: Any) -> str:
        return "ack"


class HandlesNothing(MessageHandler):
    def handle_messages(self) -> str:  # type: ignore[override]
        return "ack"


class HandlesAnything(MessageHandler):
    def __init__(self, *more: Any, **options: Any) -> None:
        self.more = (more, options)

    def init(self, *args: Any) -> Any:
        return Ok()

    @staticmethod
    def handle_messages(messages: Any, speed: int = 1) -> str:  # type: ignore[override]
        return "ack"


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        (WantsMore, "made without arguments, WantsMore wants some; give them as handler_init_args"),
        (InitWithoutArguments, r"init takes \(self, args\), that of InitWithoutArguments takes"),
        (HandlesNothing, r"handle_messages takes \(self, messages\), that of HandlesNothing takes"),
    ],
)
def test_a_handler_that_cannot_be_called_is_refused_where_it_is_given(handler, words):
    """Not by every worker, from crash to crash."""
    with pytest.raises(ConfigError, match=words) as caught:
        check_handler(handler, "consumer 'orders'")
    assert caught.value.reason == ("bad_value", "handler", handler)


def test_a_handler_may_take_more_than_it_is_given():
    """What has a default, or takes anything, can be called."""
    assert check_handler(HandlesAnything, "consumer 'orders'") is HandlesAnything
