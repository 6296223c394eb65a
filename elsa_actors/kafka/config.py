"""Check what a caller configures: endpoints, librdkafka's keys, producers and consumers."""

from __future__ import annotations

import ipaddress
import math
import re
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from elsa_actors.kafka.errors import ConfigError, nearest
from elsa_actors.kafka.librdkafka import check_property, property_names
from elsa_actors.kafka.message_handler import MessageHandler, check_handler

CONSUMER_KEYS = (
    "begin_offset",
    "offset_reset_policy",
    "commit_interval",
    "prefetch_count",
    "prefetch_bytes",
)
"""Elsa's names that may stand in a consumer's `config` among librdkafka's, or beside it."""

POLL_SECONDS = 60.0
COMMIT_SECONDS = 5.0
PREFETCH_COUNT = 10_000
PREFETCH_BYTES = 8 * 1024 * 1024

HIDDEN = "***"

# Callbacks of confluent-kafka that a caller may set; librdkafka's threads run them.
_CALLBACKS = ("oauth_cb", "stats_cb", "throttle_cb")

# What the library sets itself, and what a caller does instead.
_RESERVED = {
    "bootstrap.servers": "give the brokers as endpoints",
    "metadata.broker.list": "give the brokers as endpoints",
    "group.id": "a simple consumer is in no group",
    "auto.offset.reset": "use begin_offset for where to start, and offset_reset_policy for offsets"
    " that are gone",
    "enable.auto.commit": "a simple consumer commits nothing; it keeps what handlers acknowledge",
    "auto.commit.enable": "a simple consumer commits nothing; it keeps what handlers acknowledge",
    "auto.commit.interval.ms": "a simple consumer commits nothing",
    "enable.auto.offset.store": "stored is what handlers acknowledge",
    "offset.store.method": "offsets are kept by the broker",
    "enable.partition.eof": "the end of a partition is no event here",
    "partitioner": "use produce(..., partitioner=...)",
    "delivery.report.only.error": "produce returns when every message is delivered, and has to"
    " hear of it",
    "transactional.id": "transactions are not supported",
    "default.topic.config": "put its keys straight into config",
    "error_cb": "errors are log events",
    "logger": "librdkafka's log goes to structlog",
    "log.queue": "librdkafka's log goes to structlog",
    "log_cb": "librdkafka's log goes to structlog",
    "on_delivery": "produce returns when every message is delivered, or raises ProduceError",
    "dr_cb": "produce returns when every message is delivered, or raises ProduceError",
    "dr_msg_cb": "produce returns when every message is delivered, or raises ProduceError",
    "on_commit": "a simple consumer commits nothing",
    "offset_commit_cb": "a simple consumer commits nothing",
    "rebalance_cb": "a simple consumer is in no group, and has its partitions for good",
}

_SECRETS = frozenset({"ssl_key", "sasl.oauthbearer.config", "sasl.jaas.config"})
# Whatever is called so is secret, a misspelled or future key too.
_SECRET = re.compile(r"pass(word|wd|phrase)|secret|private[._]key(?![._]file)|key\.pem", re.I)

# Two names of one property, the one that librdkafka's manual calls the alias first.
_SAME = {
    "linger.ms": "queue.buffering.max.ms",
    "retries": "message.send.max.retries",
    "acks": "request.required.acks",
    "delivery.timeout.ms": "message.timeout.ms",
    "compression.type": "compression.codec",
    "max.in.flight": "max.in.flight.requests.per.connection",
    "sasl.mechanism": "sasl.mechanisms",
}

_PORT = re.compile("[0-9]{1,5}")
_HOST = re.compile(r"[^\s,/:@\[\]]+")
_TOPIC = re.compile("[a-zA-Z0-9._-]{1,249}")


# ---- endpoints


def parse_endpoints(endpoints: Any) -> str:
    """The endpoints as librdkafka wants them, "host:port,host:port".

    Accepted are text of that form, a list of such texts or of (host, port), and a dictionary of
    hosts and ports; an IPv6 address stands in brackets before a port. Raises ConfigError
    (("bad_endpoints", endpoints)) that says which piece is wrong.

        >>> parse_endpoints(["localhost:9092", ("::1", 9093)])
        'localhost:9092,[::1]:9093'
    """

    def refuse(problem: str) -> NoReturn:
        raise ConfigError(
            ("bad_endpoints", endpoints),
            "expected endpoints as 'host:port', ['host:port'], [('host', port)] or {'host': port},"
            f" {problem}",
        )

    match endpoints:
        case str():
            pieces: list[Any] = endpoints.split(",")
        case list():
            pieces = []
            for piece in endpoints:
                pieces.extend(piece.split(",") if isinstance(piece, str) else [piece])
        case Mapping():
            pieces = list(endpoints.items())
        case (str(), int()):
            refuse(f"got: {endpoints!r}; put it in a list: [{endpoints!r}]")
        case _:
            refuse(f"got: {reprlib.repr(endpoints)}")
    if not pieces:
        refuse(f"got: {endpoints!r}, which names no broker")
    parsed = []
    for place, piece in enumerate(pieces, 1):
        got = f"got: {piece!r}" if len(pieces) == 1 else f"got {piece!r} as piece {place}"
        match piece:
            case str():
                host, colon, digits = piece.strip().rpartition(":")
                if not piece.strip():
                    refuse(f"{got}, which is empty")
                if not colon or piece.strip().endswith("]"):
                    refuse(f"{got}, which has no port; Kafka's usual one is 9092")
                port = int(digits) if _PORT.fullmatch(digits) else digits
            case (str() as host, port):
                host = host.strip()
                if ":" in host and not host.startswith("["):
                    host = f"[{host}]"
            case _:
                refuse(got)
        if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535:
            refuse(f"{got}, whose port is no whole number from 1 to 65535")
        if not _is_host(host):
            refuse(f"{got}, whose host is none; an IPv6 address stands in brackets")
        parsed.append(f"{host}:{port}")
    return ",".join(parsed)


def _is_host(host: str) -> bool:
    if host.startswith("[") and host.endswith("]"):
        try:
            ipaddress.IPv6Address(host[1:-1])
        except ValueError:
            return False
        return True
    return _HOST.fullmatch(host) is not None


def names_connection(given: Any) -> bool:
    """Whether this, where a connection or endpoints may stand, is a connection's name.

    That is text without a port: `produce("shop", ...)`, against `produce("localhost:9092", ...)`.
    """
    return isinstance(given, str) and bool(given.strip()) and ":" not in given and "," not in given


# ---- librdkafka's keys


def check_config(config: Any, where: str, own: Iterable[str] = ()) -> dict[str, Any]:
    """A copy of a caller's `config`, once every key is known and every value fits.

    Known are librdkafka's properties, the callbacks oauth_cb, stats_cb and throttle_cb, and the
    names in ``own``, whose values are not looked at. ``where`` says whose it is: "consumer
    'orders'". None is an empty one. Raises ConfigError with the reason ``("unknown_key", key)``,
    ``("reserved_key", key)`` (the library sets it itself) or ``("bad_value", key, value)``; no
    error shows a secret.
    """
    if config is None:
        return {}
    if not isinstance(config, Mapping):
        _no_dictionary(where, "config", config, "a dictionary of librdkafka's keys")
    own = tuple(own)
    for key, value in config.items():
        if key not in own:
            _check_key(key, where, own)
            _check_value(key, value, where)
    return dict(config)


def _check_key(key: Any, where: str, own: tuple[str, ...]) -> None:
    if not isinstance(key, str):
        raise ConfigError(
            ("unknown_key", key), f"{where}: expected text as a key of config, got: {key!r}"
        )
    if key in _RESERVED:
        raise ConfigError(
            ("reserved_key", key),
            f"{where}: {key!r} is set by the library and cannot stand in config; {_RESERVED[key]}",
        )
    if key in _CALLBACKS or key in property_names():
        return
    if key in CONSUMER_KEYS:
        advice = "; it belongs to a consumer"
    else:
        # "session_timeout_ms" means "session.timeout.ms", whatever else looks alike.
        known = (*property_names(), *_CALLBACKS, *own)
        dotted = key.replace("_", ".")
        advice = f"; did you mean {dotted!r}?" if dotted in known else nearest(key, sorted(known))
    raise ConfigError(
        ("unknown_key", key),
        f"{where}: expected a configuration key of librdkafka"
        f"{' or one of ' + ', '.join(own) if own else ''}, got: {key!r}{advice}",
    )


def _check_value(key: str, value: Any, where: str) -> None:
    if key in _CALLBACKS:
        if not callable(value):
            _bad_value(where, key, value, "a function")
        return
    if value is not None and not isinstance(value, str | int | float):
        _bad_value(where, key, value, "text, a number or a boolean")
    if complaint := check_property(key, value):
        # librdkafka's own words may repeat the value.
        said = "librdkafka refuses it" if is_secret(key) else f"librdkafka says: {complaint}"
        _bad_value(where, key, value, f"a value that fits; {said}")


def is_secret(key: Any) -> bool:
    """Whether the value of this key is nobody else's business."""
    return isinstance(key, str) and (key in _SECRETS or _SECRET.search(key) is not None)


def hidden(config: Mapping[Any, Any]) -> dict[Any, Any]:
    """A copy to show and log, the secrets in it masked, in dictionaries and lists within it too.

    >>> hidden({"sasl.username": "shop", "sasl.password": "tea"})
    {'sasl.username': 'shop', 'sasl.password': '***'}
    """
    return {key: HIDDEN if is_secret(key) else _masked(value) for key, value in config.items()}


def _masked(value: Any) -> Any:
    if isinstance(value, Mapping):
        return hidden(value)
    if isinstance(value, list | tuple):
        return [_masked(one) for one in value]
    return value


def _bad_value(where: str, key: str, value: Any, expected: str) -> NoReturn:
    shown = HIDDEN if is_secret(key) else _masked(value)
    raise ConfigError(
        ("bad_value", key, shown),
        f"{where}: expected {key} to be {expected}, got: {reprlib.repr(shown)}",
    )


def _no_dictionary(where: str, key: str, value: Any, expected: str) -> NoReturn:
    # What it holds stays unsaid: who can tell which part of it is a password?
    kind = type(value).__name__
    raise ConfigError(
        ("bad_value", key, kind),
        f"{where}: expected {key} to be {expected}, got one of type {kind}",
    )


# ---- options


@dataclass(frozen=True, slots=True, repr=False)
class ConsumerOptions:
    """A simple consumer, checked; ``partition`` None is all of the topic, durations are seconds."""

    topic: str
    handler: type[MessageHandler]
    partition: int | None
    handler_init_args: Any
    poll: float
    begin_offset: str | int
    offset_reset_policy: str
    commit_interval: float
    prefetch_count: int
    prefetch_bytes: int
    config: Mapping[str, Any]

    def __repr__(self) -> str:
        # Neither the arguments of the handler nor the config: there may be passwords in them.
        place = self.topic if self.partition is None else f"{self.topic}[{self.partition}]"
        return (
            f"<ConsumerOptions {place} from {self.begin_offset}, handler"
            f" {self.handler.__qualname__}>"
        )


@dataclass(frozen=True, slots=True, repr=False)
class ProducerOptions:
    """A topic to produce to, checked; ``poll`` is in seconds, ``config`` this topic's own part."""

    topic: str
    poll: float
    config: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"<ProducerOptions {self.topic}>"


_CONSUMER_OPTIONS = ("topic", "partition", "handler", "handler_init_args", "poll", "config")
_PRODUCER_OPTIONS = ("topic", "poll", "config")


def consumer_options(given: Any) -> ConsumerOptions:
    """Check the `consumer` argument of `ElsaSupervisor.start_link`, and fill in what is left out.

    Raises ConfigError: ``("unknown_option", name)``, ``("missing_option", name)``, ``("bad_value",
    name, value)``, ``("given_twice", name)`` for what stands in config and beside it, and what
    `check_config` raises.
    """
    options, where = _options(given, "consumer", (*_CONSUMER_OPTIONS, *CONSUMER_KEYS))
    config = check_config(options.get("config"), where, CONSUMER_KEYS)
    own = take_own(options, config, where)
    partition = options.get("partition")
    if partition is not None and not _whole(partition, 0):
        _bad_value(where, "partition", partition, "None for all, or a whole number from 0 on")
    return ConsumerOptions(
        topic=options["topic"],
        handler=check_handler(options.get("handler"), where),
        partition=partition,
        handler_init_args=options.get("handler_init_args"),
        poll=_poll(options, where),
        config=config,
        **own,
    )


def producer_options(given: Any) -> list[ProducerOptions]:
    """Check the `producer` argument of `ElsaSupervisor.start_link`: one dictionary, or a list.

    None is an empty list. Besides what `consumer_options` raises: ``("given_twice", topic)``, and
    ``("contradiction", key)`` when two of them configure the producer that they share differently.
    """
    if given is None:
        return []
    producers = []
    for one in given if isinstance(given, list | tuple) else [given]:
        options, where = _options(one, "producer", _PRODUCER_OPTIONS)
        config = check_config(options.get("config"), where)
        producers.append(ProducerOptions(options["topic"], _poll(options, where), config))
    topics = set()
    for producer in producers:
        if producer.topic in topics:
            raise ConfigError(
                ("given_twice", producer.topic),
                f"expected one producer for each topic, got two for {producer.topic!r}",
            )
        topics.add(producer.topic)
    producer_config(producers)
    return producers


def producer_config(
    producers: Iterable[ProducerOptions], base: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The configuration of the one librdkafka producer that all these topics share.

    ``base`` is the connection's own; a topic's keys go before it. Raises ConfigError
    (("contradiction", key)) when two topics want different values for a key.
    """
    merged: dict[str, Any] = {}
    wanted: dict[str, tuple[str, str, Any]] = {}
    for producer in producers:
        for key, value in producer.config.items():
            topic, name, other = wanted.setdefault(_canonical(key), (producer.topic, key, value))
            if _text(value) != _text(other):
                mine, theirs = (HIDDEN if is_secret(key) else repr(v) for v in (value, other))
                raise ConfigError(
                    ("contradiction", key),
                    f"producer {producer.topic!r} wants {key} {mine}, producer {topic!r} wants"
                    f" {name} {theirs}; a connection's producers share one client, so give both"
                    " the same, or one of them a connection of its own",
                )
            merged[key] = value
    kept = {key: value for key, value in (base or {}).items() if _canonical(key) not in wanted}
    return {**kept, **merged}


def value_of(config: Mapping[str, Any], key: str) -> Any:
    """What a configuration says of a property under any of its names; None for nothing."""
    values = {_canonical(name): value for name, value in config.items()}
    return values.get(_canonical(key))


def is_same_value(one: Any, other: Any) -> bool:
    """Whether two values mean the same to librdkafka, which reads text: 5 and "5"."""
    return bool(_text(one) == _text(other))


def take_own(options: Mapping[str, Any], config: dict[str, Any], where: str) -> dict[str, Any]:
    """Take Elsa's own keys out of a consumer's ``config``, or from beside it, checked and complete.

    The keys of the answer are `CONSUMER_KEYS`; ``config`` is left with librdkafka's alone.
    """
    own: dict[str, Any] = {
        "begin_offset": "earliest",
        "offset_reset_policy": "reset_to_earliest",
        "commit_interval": COMMIT_SECONDS,
        "prefetch_count": PREFETCH_COUNT,
        "prefetch_bytes": PREFETCH_BYTES,
    }
    for name in CONSUMER_KEYS:
        if name in options and name in config:
            raise ConfigError(
                ("given_twice", name),
                f"{where}: {name} stands in config and beside it; leave one of them out",
            )
        if name in config:
            own[name] = config.pop(name)
        elif name in options:
            own[name] = options[name]
    begin = own["begin_offset"]
    if not (_one_of(begin, ("earliest", "latest")) or (_whole(begin, 0) and begin < 2**63)):
        _bad_value(where, "begin_offset", begin, "'earliest', 'latest' or an offset from 0 on")
    policies = ("reset_to_earliest", "reset_to_latest", "stop")
    if not _one_of(own["offset_reset_policy"], policies):
        _bad_value(
            where,
            "offset_reset_policy",
            own["offset_reset_policy"],
            "'reset_to_earliest', 'reset_to_latest' or 'stop'",
        )
    own["commit_interval"] = _seconds(own["commit_interval"], "commit_interval", where)
    for name in ("prefetch_count", "prefetch_bytes"):
        if not _whole(own[name], 1):
            _bad_value(where, name, own[name], "a whole number, 1 or more")
    return own


def check_topic(topic: Any, where: str) -> str:
    """The name of a topic, once it is seen to be one that Kafka allows."""
    if isinstance(topic, str) and _TOPIC.fullmatch(topic) and topic not in (".", ".."):
        return topic
    _bad_value(where, "topic", topic, "a topic's name: up to 249 letters, digits, '.', '_' and '-'")


def _options(given: Any, kind: str, names: tuple[str, ...]) -> tuple[Mapping[str, Any], str]:
    """The options, their names and the topic checked, and how errors speak of them."""
    if not isinstance(given, Mapping):
        _no_dictionary(f"{kind} options", kind, given, "a dictionary with a 'topic'")
    topic = given.get("topic")
    where = f"{kind} {topic!r}" if isinstance(topic, str) else kind
    for name in given:
        if name not in names:
            raise ConfigError(
                ("unknown_option", name),
                f"{where}: expected the options {', '.join(names)}, got: {name!r}"
                + (
                    "; librdkafka's keys stand in 'config'"
                    if name in property_names()
                    else nearest(name, names)
                ),
            )
    if "topic" not in given:
        raise ConfigError(("missing_option", "topic"), f"{where}: expected a 'topic', got none")
    check_topic(topic, where)
    return given, where


def _poll(options: Mapping[str, Any], where: str) -> float:
    return _seconds(options.get("poll", POLL_SECONDS), "poll", where)


def _seconds(value: Any, name: str, where: str) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and 0 < value < math.inf):
        _bad_value(where, name, value, "seconds above 0")
    return float(value)


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _one_of(value: Any, words: tuple[str, ...]) -> bool:
    return isinstance(value, str) and value in words


def _canonical(key: str) -> str:
    return _SAME.get(key, key)


def _text(value: Any) -> Any:
    """What librdkafka reads: 5 and "5" are one value, as are True and "true"."""
    return str(value).lower() if isinstance(value, str | int | float) else value
