"""What may be configured, and what is said of what may not."""

import pytest

from elsa_actors.kafka.config import (
    CONSUMER_KEYS,
    ConsumerOptions,
    ProducerOptions,
    check_config,
    consumer_options,
    hidden,
    is_secret,
    names_connection,
    parse_endpoints,
    producer_config,
    producer_options,
)
from elsa_actors.kafka.errors import ConfigError, KafkaError
from elsa_actors.kafka.librdkafka import property_names
from elsa_actors.kafka.message_handler import MessageHandler
from elsa_actors.runtime.errors import ElsaError


class Handler(MessageHandler):
    def handle_messages(self, messages):
        return "ack"


class NoHandler(MessageHandler):
    pass


def refused(act, *arguments, **options):
    with pytest.raises(ConfigError) as caught:
        act(*arguments, **options)
    assert isinstance(caught.value, ElsaError)
    assert isinstance(caught.value, ValueError)
    return caught.value


# --- endpoints ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoints", "parsed"),
    [
        ("localhost:9092", "localhost:9092"),
        ("a:9092,b:9093", "a:9092,b:9093"),
        (" a:9092 , b:9093 ", "a:9092,b:9093"),
        ("[::1]:9092", "[::1]:9092"),
        ("10.0.0.1:1,kafka-0.kafka.svc:65535", "10.0.0.1:1,kafka-0.kafka.svc:65535"),
        (["localhost:9092"], "localhost:9092"),
        (["a:9092", " b:9093 "], "a:9092,b:9093"),
        (["a:1,b:2", "c:3"], "a:1,b:2,c:3"),
        ([("localhost", 9092)], "localhost:9092"),
        ([("a", 1), "b:2", ["c", 3]], "a:1,b:2,c:3"),
        ([("::1", 9092)], "[::1]:9092"),
        ([("[::1]", 9092)], "[::1]:9092"),
        ({"localhost": 9092}, "localhost:9092"),
        ({" a ": 1, "b": 2}, "a:1,b:2"),
    ],
)
def test_endpoints_in_every_form(endpoints, parsed):
    """Elsa's keyword lists and Kafka's own text, one way for librdkafka."""
    assert parse_endpoints(endpoints) == parsed


@pytest.mark.parametrize(
    ("endpoints", "says"),
    [
        ("localhost", "got: 'localhost', which has no port"),
        ("a:1,b", "got 'b' as piece 2, which has no port"),
        ("[::1]", "which has no port"),
        ("", "got: '', which is empty"),
        ("a:1,", "got '' as piece 2, which is empty"),
        ("localhost:", "whose port is no whole number"),
        ("localhost:x", "whose port is no whole number"),
        ("localhost:0", "from 1 to 65535"),
        ("localhost:65536", "from 1 to 65535"),
        ("localhost:-1", "from 1 to 65535"),
        ("localhost:9092.0", "from 1 to 65535"),
        ("localhost:٩", "from 1 to 65535"),
        (":9092", "whose host is none"),
        ("::1:9092", "stands in brackets"),
        ("[::x]:9092", "whose host is none"),
        ("a b:9092", "whose host is none"),
        ("SSL://a:9092", "whose host is none"),
        ([], "which names no broker"),
        ({}, "which names no broker"),
        ([("a", 1), ("b", "2")], "got ('b', '2') as piece 2, whose port"),
        ([("a", True)], "whose port"),
        ([("a", 0)], "whose port"),
        ([("a", 1.0)], "whose port"),
        ([("", 1)], "whose host"),
        ([("a:1", 1)], "whose host"),
        ([("a", 1, 2)], "got: ('a', 1, 2)"),
        ([1], "got: 1"),
        ([None], "got: None"),
        ({1: "a"}, "got: (1, 'a')"),
        ({"a": None}, "whose port"),
        (("localhost", 9092), "put it in a list: [('localhost', 9092)]"),
        (("localhost:9092",), "got: ('localhost:9092',)"),
        (b"localhost:9092", "got: b'localhost:9092'"),
        (9092, "got: 9092"),
        (None, "got: None"),
    ],
)
def test_wrong_endpoints_are_refused(endpoints, says):
    """At once, in the caller, with the piece that is wrong: librdkafka would try it for ever."""
    with pytest.raises(KafkaError) as caught:
        parse_endpoints(endpoints)
    assert caught.value.reason == ("bad_endpoints", endpoints)
    assert says in str(caught.value)
    assert str(caught.value).startswith("expected endpoints as 'host:port'")


@pytest.mark.parametrize("given", ["shop", "shop-2", "my shop", "localhost"])
def test_text_without_a_port_names_a_connection(given):
    """`produce("shop", ...)` uses the tree that runs."""
    assert names_connection(given) is True


@pytest.mark.parametrize(
    "given", ["localhost:9092", "a:1,b:2", "a,b", "[::1]", "", " ", ["shop"], {"a": 1}, None, 5]
)
def test_everything_else_is_endpoints(given):
    """Good ones or bad ones: what is wrong with them, parse_endpoints says."""
    assert names_connection(given) is False


# --- librdkafka's keys -------------------------------------------------------------------------


def test_good_config_is_copied():
    """The caller's dictionary may change later."""
    config = {"linger.ms": 5, "acks": "all", "enable.idempotence": True, "client.id": "shop"}
    checked = check_config(config, "connection 'shop'")
    assert checked == config
    assert checked is not config
    assert check_config(None, "connection 'shop'") == {}


def test_callbacks_of_confluent_kafka_that_a_caller_may_set():
    """Tokens and statistics are the caller's business."""
    config = {"oauth_cb": print, "stats_cb": print, "throttle_cb": print}
    assert check_config(config, "x") == config
    error = refused(check_config, {"stats_cb": "print"}, "x")
    assert error.reason == ("bad_value", "stats_cb", "print")
    assert "a function" in str(error)


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("linger.mss", "did you mean 'linger.ms'?"),
        ("session_timeout_ms", "did you mean 'session.timeout.ms'?"),
        ("Client.Id", "did you mean 'client.id'?"),
        ("stats_bc", "did you mean 'stats_cb'?"),
        ("begin_offset", "belongs to a consumer"),
        ("zzzzzzzz", "got: 'zzzzzzzz'"),
        (5, "expected text as a key"),
        (None, "expected text as a key"),
    ],
)
def test_unknown_keys_are_refused_with_the_nearest(key, says):
    """A misspelled key that is ignored is a setting that nobody has."""
    error = refused(check_config, {"client.id": "shop", key: 5}, "connection 'shop'")
    assert error.reason == ("unknown_key", key)
    assert str(error).startswith("connection 'shop': expected ")
    assert says in str(error)


def test_own_keys_pass_unchecked():
    """Elsa's names among librdkafka's; their values are looked at by those who know them."""
    config = {"begin_offset": object(), "client.id": "a"}
    assert check_config(config, "consumer 'in'", CONSUMER_KEYS) == config
    error = refused(check_config, {"begin_ofset": 1}, "consumer 'in'", CONSUMER_KEYS)
    assert "did you mean 'begin_offset'?" in str(error)


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("bootstrap.servers", "endpoints"),
        ("metadata.broker.list", "endpoints"),
        ("group.id", "in no group"),
        ("auto.offset.reset", "begin_offset"),
        ("auto.offset.reset", "offset_reset_policy"),
        ("enable.auto.commit", "keeps what handlers acknowledge"),
        ("auto.commit.interval.ms", "commits nothing"),
        ("enable.auto.offset.store", "acknowledge"),
        ("enable.partition.eof", "no event"),
        ("partitioner", "produce(..., partitioner=...)"),
        ("transactional.id", "not supported"),
        ("error_cb", "log events"),
        ("logger", "structlog"),
        ("on_delivery", "ProduceError"),
        ("on_commit", "commits"),
        ("default.topic.config", "straight into config"),
    ],
)
def test_what_the_library_sets_is_refused_with_what_to_do(key, says):
    """Silently overwritten, it would be believed to work."""
    error = refused(check_config, {key: True}, "connection 'shop'")
    assert error.reason == ("reserved_key", key)
    assert says in str(error)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("linger.ms", "soon", "Invalid value"),
        ("security.protocol", "ssh", 'Invalid value "ssh"'),
        ("message.timeout.ms", -5, "outside allowed range"),
        ("linger.ms", None, "cannot be set to empty value"),
        ("linger.ms", [5], "text, a number or a boolean, got: [5]"),
        ("client.id", b"shop", "text, a number or a boolean, got: b'shop'"),
    ],
)
def test_values_are_refused_in_librdkafkas_own_words(key, value, says):
    """It knows the ranges; whoever set the value sees which key it was, alias or not."""
    error = refused(check_config, {key: value}, "producer 'out'")
    assert error.reason == ("bad_value", key, value)
    assert str(error).startswith(f"producer 'out': expected {key} to be ")
    assert says in str(error)


@pytest.mark.parametrize("config", ["linger.ms=5", [("sasl.password", "tea")], 5])
def test_config_is_a_dictionary(config):
    """And what came instead is not shown: it may hold a password."""
    error = refused(check_config, config, "x")
    assert error.reason[:2] == ("bad_value", "config")
    assert "tea" not in f"{error}{error!r}"


def test_every_name_of_librdkafka_is_known_or_reserved():
    """None falls between: its value is looked at, or the library says why not."""
    reasons = {refused(check_config, {name: object()}, "x").reason[0] for name in property_names()}
    assert reasons == {"bad_value", "reserved_key"}


# --- secrets -----------------------------------------------------------------------------------

SECRETS = [
    "sasl.password",
    "ssl.key.password",
    "ssl.keystore.password",
    "ssl.key.pem",
    "ssl_key",
    "sasl.oauthbearer.config",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.client.credentials.client.secret",
    "sasl.oauthbearer.assertion.private.key.pem",
    "sasl.oauthbearer.assertion.private.key.passphrase",
]


@pytest.mark.parametrize("key", [*SECRETS, "sasl.passwrod.password", "SASL.PASSWORD"])
def test_secrets_are_masked(key):
    """Those that there are, misspelled ones, and in dictionaries within."""
    assert is_secret(key)
    assert hidden({key: "tea", "client.id": "shop"}) == {key: "***", "client.id": "shop"}
    nested = {"config": {key: "tea"}, "producer": [{"config": {key: "tea"}}]}
    assert "tea" not in str(hidden(nested))
    assert nested["config"][key] == "tea"


def test_other_keys_are_shown():
    """A masked client.id helps nobody."""
    shown = {
        key
        for key in property_names()
        if not is_secret(key) and ("key" in key or "token" in key or "user" in key)
    }
    assert {"ssl.key.location", "sasl.username", "sasl.oauthbearer.token.endpoint.url"} <= shown
    assert "sasl.oauthbearer.assertion.private.key.file" in shown


@pytest.mark.parametrize("key", SECRETS)
@pytest.mark.parametrize(
    "value", [["tea-and-milk"], b"tea-and-milk", {"x": "tea-and-milk"}, "tea-and-milk\0"]
)
def test_a_refused_secret_is_not_shown(key, value):
    """Neither in the text nor in the reason, which is logged too."""
    error = refused(check_config, {key: value}, "x")
    assert error.reason[:2] == ("bad_value", key)
    assert "milk" not in f"{error} {error!r} {error.reason}"


def test_librdkafkas_words_about_a_secret_are_not_repeated():
    """It may quote the value."""
    error = refused(check_config, {"sasl.password": "tea\0"}, "x")
    assert "librdkafka refuses it, got: '***'" in str(error)


def test_no_error_shows_the_other_keys_of_a_config():
    """What is wrong is one key; the password beside it stays unsaid."""
    for config in ({"zzz": 1}, {"linger.ms": "x"}, {"group.id": "g"}):
        error = refused(check_config, {"sasl.password": "milk", **config}, "x")
        assert "milk" not in f"{error} {error!r} {error.reason}"
    error = refused(check_config, {"sasl.pasword": "milk"}, "x")
    assert "did you mean 'sasl.password'?" in str(error)
    assert "milk" not in f"{error} {error!r} {error.reason}"


# --- consumers ---------------------------------------------------------------------------------


def consumer(**options):
    return consumer_options({"topic": "in", "handler": Handler, **options})


def test_consumer_with_defaults():
    """A topic and a handler are enough."""
    assert consumer() == ConsumerOptions(
        topic="in",
        handler=Handler,
        partition=None,
        handler_init_args=None,
        poll=60.0,
        begin_offset="earliest",
        offset_reset_policy="reset_to_earliest",
        commit_interval=5.0,
        prefetch_count=10_000,
        prefetch_bytes=8 * 1024 * 1024,
        config={},
    )


def test_consumer_with_everything():
    """Each option arrives where it belongs."""
    options = consumer(
        partition=0,
        begin_offset=7,
        handler_init_args={"any": "thing"},
        poll=1,
        offset_reset_policy="stop",
        commit_interval=0.5,
        prefetch_count=1,
        prefetch_bytes=1000,
        config={"client.id": "shop"},
    )
    assert options == ConsumerOptions(
        topic="in",
        handler=Handler,
        partition=0,
        handler_init_args={"any": "thing"},
        poll=1.0,
        begin_offset=7,
        offset_reset_policy="stop",
        commit_interval=0.5,
        prefetch_count=1,
        prefetch_bytes=1000,
        config={"client.id": "shop"},
    )


def test_elsas_keys_may_stand_in_config():
    """They are taken out before librdkafka sees them; the caller's dictionary stays whole."""
    config = {
        "begin_offset": "latest",
        "offset_reset_policy": "reset_to_latest",
        "commit_interval": 1,
        "prefetch_count": 5,
        "prefetch_bytes": 6,
        "client.id": "shop",
    }
    options = consumer(config=config)
    assert options.begin_offset == "latest"
    assert options.offset_reset_policy == "reset_to_latest"
    assert (options.commit_interval, options.prefetch_count, options.prefetch_bytes) == (1.0, 5, 6)
    assert options.config == {"client.id": "shop"}
    assert len(config) == 6


@pytest.mark.parametrize("name", CONSUMER_KEYS)
def test_elsas_keys_in_both_places_are_refused(name):
    """Which of the two would hold?"""
    error = refused(consumer, **{name: 5}, config={name: 5})
    assert error.reason == ("given_twice", name)
    assert "consumer 'in'" in str(error)


@pytest.mark.parametrize("place", ["beside", "in config"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("begin_offset", "first"),
        ("begin_offset", -1),
        ("begin_offset", 2**63),
        ("begin_offset", True),
        ("begin_offset", 1.0),
        ("begin_offset", None),
        ("begin_offset", ["earliest"]),
        ("offset_reset_policy", "earliest"),
        ("offset_reset_policy", None),
        ("commit_interval", 0),
        ("commit_interval", "5"),
        ("commit_interval", float("inf")),
        ("prefetch_count", 0),
        ("prefetch_count", 1.5),
        ("prefetch_count", True),
        ("prefetch_bytes", 0),
        ("prefetch_bytes", None),
    ],
)
def test_wrong_values_of_elsas_keys(place, name, value):
    """Refused in both places, with what would be right."""
    options = {name: value} if place == "beside" else {"config": {name: value}}
    error = refused(consumer, **options)
    assert error.reason == ("bad_value", name, value)
    assert str(error).startswith(f"consumer 'in': expected {name} to be ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("partition", -1),
        ("partition", "0"),
        ("partition", True),
        ("partition", [0]),
        ("poll", 0),
        ("poll", -1),
        ("poll", True),
        ("poll", "60"),
        ("poll", None),
        ("poll", float("nan")),
        ("topic", ""),
        ("topic", 5),
        ("topic", None),
        ("topic", "a b"),
        ("topic", "."),
        ("topic", ".."),
        ("topic", "x" * 250),
        ("handler", NoHandler),
        ("handler", "Handler"),
    ],
)
def test_wrong_values_of_consumer_options(name, value):
    """In the caller's line, not in a process that starts later."""
    assert refused(consumer, **{name: value}).reason == ("bad_value", name, value)


def test_missing_options_are_named():
    """A consumer without a topic or a handler is none."""
    assert refused(consumer_options, {"handler": Handler}).reason == ("missing_option", "topic")
    assert refused(consumer_options, {"topic": "in"}).reason == ("missing_option", "handler")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("hander", "did you mean 'handler'?"),
        ("begin_ofset", "did you mean 'begin_offset'?"),
        ("client.id", "librdkafka's keys stand in 'config'"),
        ("zzzzzzz", "got: 'zzzzzzz'"),
        (5, "got: 5"),
    ],
)
def test_unknown_options_are_refused_with_the_nearest(name, says):
    """Elsa ignores them; here they are mistakes."""
    error = refused(consumer_options, {"topic": "in", "handler": Handler, name: 1})
    assert error.reason == ("unknown_option", name)
    assert str(error).startswith("consumer 'in': expected the options topic, ")
    assert says in str(error)


def test_wrong_config_of_a_consumer_is_refused():
    """With the topic, for a program may have many."""
    error = refused(consumer, config={"group.id": "g"})
    assert error.reason == ("reserved_key", "group.id")
    assert "consumer 'in'" in str(error)


@pytest.mark.parametrize("options", [None, "in", [{"topic": "in"}], 5])
def test_consumer_options_are_a_dictionary(options):
    """One: a second consumer is a second connection."""
    assert refused(consumer_options, options).reason[:2] == ("bad_value", "consumer")


def test_options_do_not_show_secrets():
    """A repr stands in crash reports; it says which consumer it is."""
    options = consumer(
        partition=3, handler_init_args="milk", config={"sasl.password": "milk", "client.id": "x"}
    )
    assert repr(options) == "<ConsumerOptions in[3] from earliest, handler Handler>"
    assert repr(consumer()) == "<ConsumerOptions in from earliest, handler Handler>"
    (producer,) = producer_options({"topic": "out", "config": {"sasl.password": "milk"}})
    assert repr(producer) == "<ProducerOptions out>"


# --- producers ---------------------------------------------------------------------------------


def test_producers_one_or_many_or_none():
    """One dictionary, a list of them, or nothing at all."""
    one = ProducerOptions("out", 60.0, {})
    two = ProducerOptions("more", 1.5, {"linger.ms": 5})
    assert producer_options({"topic": "out"}) == [one]
    more = {"topic": "more", "poll": 1.5, "config": {"linger.ms": 5}}
    assert producer_options([{"topic": "out"}, more]) == [one, two]
    assert producer_options([]) == producer_options(None) == []


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({}, ("missing_option", "topic")),
        ({"topic": "a/b"}, ("bad_value", "topic", "a/b")),
        ({"topic": "out", "poll": 0}, ("bad_value", "poll", 0)),
        ({"topic": "out", "pol": 1}, ("unknown_option", "pol")),
        ({"topic": "out", "handler": Handler}, ("unknown_option", "handler")),
        ({"topic": "out", "config": {"zz": 1}}, ("unknown_key", "zz")),
        ({"topic": "out", "config": {"begin_offset": 1}}, ("unknown_key", "begin_offset")),
        ([{"topic": "out"}, {"topic": "out"}], ("given_twice", "out")),
        ("out", ("bad_value", "producer", "str")),
        ([None], ("bad_value", "producer", "NoneType")),
    ],
)
def test_wrong_producers_are_refused(given, reason):
    """Each with the same reasons as a consumer's options."""
    assert refused(producer_options, given).reason == reason


def test_producers_share_one_configuration():
    """There is one librdkafka producer for a connection; what two want alike is no quarrel."""
    producers = producer_options(
        [
            {"topic": "a", "config": {"linger.ms": 5, "acks": "all"}},
            {"topic": "b", "config": {"linger.ms": "5", "compression.type": "lz4"}},
            {"topic": "c"},
        ]
    )
    merged = producer_config(producers)
    assert str(merged.pop("linger.ms")) == "5"
    assert merged == {"acks": "all", "compression.type": "lz4"}
    assert producer_config([]) == {}


def test_a_topics_keys_go_before_the_connections():
    """Also under the other name of the same property: librdkafka would take whichever is last."""
    (producer,) = producer_options({"topic": "a", "config": {"linger.ms": 5}})
    base = {"queue.buffering.max.ms": 100, "client.id": "shop"}
    assert producer_config([producer], base) == {"client.id": "shop", "linger.ms": 5}
    assert base["queue.buffering.max.ms"] == 100


@pytest.mark.parametrize(
    ("first", "second", "key"),
    [
        ({"linger.ms": 5}, {"linger.ms": 6}, "linger.ms"),
        ({"linger.ms": 5}, {"queue.buffering.max.ms": 6}, "queue.buffering.max.ms"),
        ({"acks": "all"}, {"request.required.acks": 0}, "request.required.acks"),
        ({"stats_cb": print}, {"stats_cb": repr}, "stats_cb"),
    ],
)
def test_producers_that_contradict_each_other_are_refused(first, second, key):
    """One of them would not get what it asked for."""
    given = [{"topic": "a", "config": first}, {"topic": "b", "config": second}]
    error = refused(producer_options, given)
    assert error.reason == ("contradiction", key)
    assert "producer 'b'" in str(error)
    assert "producer 'a'" in str(error)


def test_contradicting_secrets_are_not_shown():
    """Two passwords in one sentence."""
    given = [
        {"topic": "a", "config": {"sasl.password": "milk"}},
        {"topic": "b", "config": {"sasl.password": "milky"}},
    ]
    error = refused(producer_options, given)
    assert "milk" not in f"{error} {error!r} {error.reason}"
