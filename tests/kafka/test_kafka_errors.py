"""How errors of Kafka are called, and what they tell."""

import confluent_kafka
import pytest

from elsa_actors.kafka.errors import (
    ConfigError,
    KafkaError,
    ProduceError,
    described,
    error_of,
    in_words,
    produce_error,
    reason_of,
    unknown_connection,
    unknown_partition,
    unknown_topic,
)
from elsa_actors.runtime.errors import ElsaError


def driver_error(name, text=None):
    code = getattr(confluent_kafka.KafkaError, name)
    return (
        confluent_kafka.KafkaError(code) if text is None else confluent_kafka.KafkaError(code, text)
    )


def test_every_error_is_an_elsa_error():
    """One `except ElsaError` around a program's main loop has to be enough."""
    assert issubclass(KafkaError, ElsaError)
    assert issubclass(ProduceError, KafkaError)
    assert issubclass(ConfigError, KafkaError)
    assert issubclass(ConfigError, ValueError)


def test_error_says_its_message_and_keeps_its_reason():
    """People read the text, programs match the reason."""
    error = KafkaError(("unknown_topic", "t"), "no such topic")
    assert (error.reason, str(error)) == (("unknown_topic", "t"), "no such topic")


# --- produce errors ----------------------------------------------------------------------------


def test_produce_error_tells_how_many_were_not_delivered():
    """The first thing an operator asks is how many are missing."""
    error = ProduceError("timeout", 7, ["a", "b", "c"])
    assert str(error) == "3 of 10 messages were not delivered: no answer came in time"
    assert (error.reason, error.sent, error.failed) == ("timeout", 7, ["a", "b", "c"])


@pytest.mark.parametrize(
    ("sent", "failed", "beginning"),
    [
        (0, ["a"], "1 of 1 message was not delivered"),
        (1, ["a"], "1 of 2 messages was not delivered"),
        (0, ["a", "b"], "2 of 2 messages were not delivered"),
    ],
)
def test_produce_error_counts_in_english(sent, failed, beginning):
    """One message is no messages."""
    assert str(ProduceError("timeout", sent, failed)).startswith(beginning + ":")


def test_produce_error_can_bring_its_own_message():
    """Who knows more than the reason says so."""
    assert str(ProduceError("timeout", 0, ["a"], "the broker is being moved")) == (
        "the broker is being moved"
    )


def test_produce_error_keeps_its_own_list_of_what_failed():
    """A caller who retries from the list must not find it changed by the library."""
    failed = ["a"]
    error = ProduceError("timeout", 0, failed)
    failed.clear()
    assert error.failed == ["a"]


def test_produce_error_of_the_driver_keeps_the_drivers_words():
    """Whoever searches the web for it needs librdkafka's name."""
    error = produce_error(driver_error("MSG_SIZE_TOO_LARGE", "Broker: too large"), 2, ["a"])
    assert error.reason == "message_too_large"
    assert str(error).startswith("1 of 3 messages was not delivered: ")
    assert "MSG_SIZE_TOO_LARGE: Broker: too large" in str(error)


# --- reasons -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("_MSG_TIMED_OUT", "timeout"),
        ("_TIMED_OUT", "timeout"),
        ("REQUEST_TIMED_OUT", "timeout"),
        ("MSG_SIZE_TOO_LARGE", "message_too_large"),
        ("RECORD_LIST_TOO_LARGE", "message_too_large"),
        ("_ALL_BROKERS_DOWN", "no_broker"),
        ("_TRANSPORT", "no_broker"),
        ("_RESOLVE", "no_broker"),
        ("_QUEUE_FULL", "queue_full"),
        ("_FENCED", "fenced"),
        ("_AUTHENTICATION", "not_authenticated"),
        ("TOPIC_AUTHORIZATION_FAILED", "not_authorized"),
        ("UNKNOWN_TOPIC_OR_PART", ("kafka", "UNKNOWN_TOPIC_OR_PART")),
        ("ILLEGAL_GENERATION", ("kafka", "ILLEGAL_GENERATION")),
    ],
)
def test_reason_of_what_librdkafka_says(name, reason):
    """The common ones have a word of their own; the others keep librdkafka's name."""
    assert reason_of(driver_error(name)) == reason


def test_every_name_in_the_table_is_one_of_librdkafkas():
    """A word for a name that librdkafka never says would never be heard."""
    from elsa_actors.kafka import errors

    for name, word in errors._WORD_OF.items():
        assert reason_of(driver_error(name)) == word


def test_an_error_in_words_has_librdkafkas_name_and_text():
    """The plain word is for reading, librdkafka's for searching."""
    assert described(driver_error("_TRANSPORT", "connection refused")) == (
        "no broker can be reached (_TRANSPORT: connection refused)"
    )
    assert described(driver_error("ILLEGAL_GENERATION", "Broker: old")) == (
        "ILLEGAL_GENERATION: Broker: old"
    )


def test_error_of_says_what_failed():
    """An error that only says why leaves open what."""
    error = error_of(driver_error("_TIMED_OUT", "Local: Timed out"), "could not list topics")
    assert error.reason == "timeout"
    assert (
        str(error) == "could not list topics: no answer came in time (_TIMED_OUT: Local: Timed out)"
    )
    assert str(error_of(driver_error("_TIMED_OUT", "x"))).startswith("no answer came in time")


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("timeout", "no answer came in time"),
        (("kafka", "ILLEGAL_GENERATION"), "the broker or librdkafka said ILLEGAL_GENERATION"),
        ("elsewhere", "elsewhere"),
        (("unknown_topic", "t"), "the broker knows no topic 't'"),
        (
            ("producer_down", "killed"),
            "its producer ended before it heard what became of it: killed",
        ),
        (("another", "t"), "('another', 't')"),
        (ValueError("bad"), "ValueError: bad"),
    ],
)
def test_reasons_in_words(reason, words):
    """Every reason can stand behind a colon."""
    assert in_words(reason) == words


# --- what is not there -------------------------------------------------------------------------


def test_unknown_topic_shows_the_nearest():
    """A misspelled topic is the usual one."""
    error = unknown_topic("ordres", ["orders", "payments"])
    assert error.reason == ("unknown_topic", "ordres")
    assert "'ordres'; did you mean 'orders'?" in str(error)
    assert "create_topic" in str(error)
    assert "did you mean" not in str(unknown_topic("ordres"))
    assert "did you mean 'ORDERS'?" in str(unknown_topic("orders", ["ORDERS"]))


def test_unknown_partition_says_which_there_are():
    """Partitions count from 0; many a caller counts from 1."""
    error = unknown_partition("orders", 8, 8)
    assert error.reason == ("unknown_partition", "orders", 8)
    assert str(error) == "expected a partition of topic 'orders' from 0 to 7, got: 8"
    assert "partition 0 of topic 'orders', its only one" in str(unknown_partition("orders", 1, 1))


def test_unknown_connection_lists_those_that_run():
    """Which ones there are is what one looks up next."""
    error = unknown_connection("shpo", ["shop", "bank"])
    assert error.reason == ("unknown_connection", "shpo")
    assert "did you mean 'shop'?" in str(error)
    assert "running: 'bank', 'shop'." in str(error)
    assert "running: none." in str(unknown_connection("shop"))
