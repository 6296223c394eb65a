"""What a caller of the Kafka part can catch, and what librdkafka's errors are called here."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

import confluent_kafka

from elsa_actors.runtime.errors import ElsaError

# The reasons that have a plain word: the names of librdkafka's errors, and a sentence for each
# word. An error that is not here has the reason ("kafka", name), for instance
# ("kafka", "UNKNOWN_TOPIC_OR_PART"); who knows the topic says `unknown_topic` instead.
_WORDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "timeout": (
        "no answer came in time",
        ("_MSG_TIMED_OUT", "_TIMED_OUT", "_TIMED_OUT_QUEUE", "REQUEST_TIMED_OUT"),
    ),
    "no_broker": (
        "no broker can be reached",
        ("_ALL_BROKERS_DOWN", "_TRANSPORT", "_RESOLVE", "BROKER_NOT_AVAILABLE"),
    ),
    "message_too_large": (
        "the message is larger than the topic or the client allows",
        ("MSG_SIZE_TOO_LARGE", "RECORD_LIST_TOO_LARGE"),
    ),
    "client_down": (
        "the client ended before it heard what became of it",
        ("_PURGE_QUEUE", "_PURGE_INFLIGHT", "_DESTROY"),
    ),
    "queue_full": ("too many messages wait to be sent", ("_QUEUE_FULL",)),
    "fenced": (
        "another client has taken this one's place",
        ("_FENCED", "PRODUCER_FENCED", "INVALID_PRODUCER_EPOCH", "FENCED_INSTANCE_ID"),
    ),
    "not_authenticated": (
        "the broker does not accept the credentials",
        ("_AUTHENTICATION", "SASL_AUTHENTICATION_FAILED"),
    ),
    "not_authorized": (
        "the credentials do not allow this",
        (
            "TOPIC_AUTHORIZATION_FAILED",
            "GROUP_AUTHORIZATION_FAILED",
            "CLUSTER_AUTHORIZATION_FAILED",
            "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
        ),
    ),
}

_WORD_OF = {name: word for word, (_, names) in _WORDS.items() for name in names}


class KafkaError(ElsaError):
    """The root of this room's errors; ``reason`` is a word or a tuple that begins with one."""


class ProduceError(KafkaError):
    """Not every message was delivered.

    ``sent`` is how many were; ``failed`` are those that were not, as the caller gave them, in
    order. After a timeout some of these may still arrive.

        >>> raise ProduceError("timeout", 2, ["c"])
        Traceback (most recent call last):
        ...
        elsa_actors.kafka.errors.ProduceError: 1 of 3 messages was not delivered: no answer came \
in time
    """

    def __init__(
        self, reason: Any, sent: int, failed: Sequence[Any], message: str | None = None
    ) -> None:
        failed = list(failed)
        super().__init__(reason, message or _undelivered(sent, failed, in_words(reason)))
        self.sent = sent
        self.failed = failed


class ConfigError(KafkaError, ValueError):
    """An option or a configuration key is wrong; ``reason`` names it."""


# ---- what librdkafka says


def reason_of(error: confluent_kafka.KafkaError) -> Any:
    """A short, stable reason for an error of librdkafka.

    A plain word for the common ones ("timeout", "no_broker", "message_too_large", "queue_full",
    "client_down", "fenced", "not_authenticated", "not_authorized"), ``("kafka", name)`` for others.
    """
    name = error.name()
    return _WORD_OF.get(name, ("kafka", name))


def in_words(reason: Any) -> str:
    """A reason as a phrase that fits behind a colon; a reason without one as it is."""
    match reason:
        case str() if reason in _WORDS:
            return _WORDS[reason][0]
        case ("kafka", str() as name):
            return f"the broker or librdkafka said {name}"
        case ("producer_down", why):
            return f"its producer ended before it heard what became of it: {in_words(why)}"
        case ("unknown_topic", topic):
            return f"the broker knows no topic {topic!r}"
        case BaseException():
            return f"{type(reason).__name__}: {reason}"
    return reason if isinstance(reason, str) else repr(reason)


def described(error: confluent_kafka.KafkaError) -> str:
    """What an error means, with librdkafka's name and text for it."""
    said = f"{error.name()}: {error.str()}"
    word = _WORD_OF.get(error.name())
    return said if word is None else f"{_WORDS[word][0]} ({said})"


def error_of(error: confluent_kafka.KafkaError, what: str | None = None) -> KafkaError:
    """librdkafka's error as ours; ``what`` says what failed, "could not list topics"."""
    text = described(error)
    return KafkaError(reason_of(error), text if what is None else f"{what}: {text}")


def produce_error(
    error: confluent_kafka.KafkaError, sent: int, failed: Sequence[Any]
) -> ProduceError:
    """A ProduceError for what librdkafka said against the first message that failed."""
    failed = list(failed)
    text = _undelivered(sent, failed, described(error))
    return ProduceError(reason_of(error), sent, failed, text)


def undelivered(reason: Any, sent: int, failed: Sequence[Any], more: str = "") -> ProduceError:
    """A ProduceError for what librdkafka has said nothing about; ``more`` ends its text."""
    failed = list(failed)
    return ProduceError(reason, sent, failed, _undelivered(sent, failed, in_words(reason) + more))


def _undelivered(sent: int, failed: Sequence[Any], why: str) -> str:
    count = len(failed)
    total = sent + count
    return (
        f"{count} of {total} message{'' if total == 1 else 's'}"
        f" {'was' if count == 1 else 'were'} not delivered: {why}"
    )


# ---- what is not there


def unknown_topic(topic: Any, known: Iterable[str] = (), is_needed: bool = True) -> KafkaError:
    """Nobody has this topic; the nearest of the ``known`` ones is shown."""
    advice = "; create it first: create_topic(endpoints, topic)" if is_needed else ""
    return KafkaError(
        ("unknown_topic", topic),
        f"the broker knows no topic {topic!r}{nearest(topic, known)}{advice}",
    )


def unknown_partition(topic: Any, partition: Any, count: int) -> KafkaError:
    """The topic has no such partition, but ``count`` of them."""
    return KafkaError(
        ("unknown_partition", topic, partition),
        f"expected a partition of topic {topic!r} from 0 to {count - 1}, got: {partition!r}"
        if count > 1
        else f"expected partition 0 of topic {topic!r}, its only one, got: {partition!r}",
    )


def unknown_connection(name: Any, known: Iterable[str] = ()) -> KafkaError:
    """No supervisor of this connection runs here; the ``known`` ones are listed."""
    names = sorted(str(one) for one in known)
    running = ", ".join(repr(one) for one in names) if names else "none"
    return KafkaError(
        ("unknown_connection", name),
        f"no connection {name!r} is running here{nearest(name, names)}; running: {running}."
        " Start an ElsaSupervisor with it, or give endpoints with a port: 'localhost:9092'",
    )


def nearest(name: Any, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` for the known name that looks most alike, "" when none does."""
    spelled = {one.lower(): one for one in known}
    found = difflib.get_close_matches(str(name).lower(), list(spelled), 1, 0.7)
    return f"; did you mean {spelled[found[0]]!r}?" if found else ""
