"""What librdkafka can tell beside what confluent-kafka binds."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import confluent_kafka
import pytest

from elsa_actors.kafka.librdkafka import check_property, library, property_names
from elsa_actors.runtime.errors import ElsaError


def test_the_library_is_the_one_that_confluent_kafka_uses():
    """Two versions in one program would disagree about what a property may be."""
    assert library().rd_kafka_version_str().decode() == confluent_kafka.libversion()[0]


@pytest.mark.skipif(sys.platform not in {"linux", "darwin"}, reason="Windows cannot be asked")
def test_a_library_outside_of_the_wheel_is_found(monkeypatch, tmp_path):
    """Built from source, confluent-kafka has no folder of libraries, but it has loaded one."""
    monkeypatch.setattr(confluent_kafka, "__file__", str(tmp_path / "confluent_kafka" / "x.py"))
    assert library.__wrapped__().rd_kafka_conf_new()


def test_no_library_of_that_version_is_an_error_that_says_what_to_do(monkeypatch):
    """Who built it without a shared library reads what to install instead of a stack of ctypes."""
    monkeypatch.setattr(confluent_kafka, "libversion", lambda: ("0.0.7", 7))
    with pytest.raises(ElsaError, match=r"librdkafka 0\.0\.7 .* pip install") as caught:
        library.__wrapped__()
    assert caught.value.reason == "no_librdkafka"


@pytest.mark.parametrize(
    "name",
    [
        "linger.ms",  # an alias
        "queue.buffering.max.ms",
        "acks",  # an alias of a topic's
        "partitioner",
        "auto.offset.reset",
        "bootstrap.servers",  # has no value to begin with
        "group.id",
        "sasl.password",
        "ssl.ca.location",
        "debug",
        "test.mock.num.brokers",  # not in the manual
    ],
)
def test_property_is_known(name):
    """A key that the check does not know would be refused although librdkafka takes it."""
    assert name in property_names()


@pytest.mark.parametrize("name", ["error_cb", "opaque", "Property", "---", "", "no.such.thing"])
def test_what_cannot_be_set_as_text_is_no_property(name):
    """Offered as the nearest key it would only be refused again."""
    assert name not in property_names()


def test_every_property_that_the_library_knows_is_listed():
    """Whatever text in the library it takes as a property must be in the list, and the reverse."""
    binary = Path(library()._name).read_bytes()
    texts = {text.decode() for text in re.findall(rb"(?<=\0)[a-z][a-z_.]{2,60}(?=\0)", binary)}
    likely = {text for text in texts if "." in text} | {"acks", "debug", "retries"}
    known = {name for name in likely if is_settable(name)}
    assert len(known) > 150
    assert known <= property_names()
    assert all(is_settable(name) for name in property_names())


def is_settable(name):
    said = check_property(name, "x") or ""
    # Some of Java's are known only to say what to use instead.
    no = ("No such configuration property", "dedicated", "Java TrustStore", "Java JAAS")
    return not any(words in said for words in no)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("linger.ms", 5),
        ("linger.ms", 0.5),
        ("acks", "all"),
        ("enable.idempotence", True),
        ("bootstrap.servers", None),
        ("partitioner", "murmur2"),
        ("plugin.library.paths", "no-such-library"),
    ],
)
def test_good_value_is_not_refused(name, value):
    """As confluent-kafka hands it on: as text. No plugin is loaded only to look."""
    assert check_property(name, value) is None


@pytest.mark.parametrize(
    ("name", "value", "answer"),
    [
        ("no.such.thing", 1, 'No such configuration property: "no.such.thing"'),
        ("linger.ms", "soon", "Invalid value"),
        ("acks", 5000, "outside allowed range"),
        ("group.protocol", "magic", 'Invalid value "magic"'),
        ("linger.ms", None, "cannot be set to empty value"),
        ("linger.ms\0x", 5, "null character"),
        ("client.id", "a\0b", "null character"),
    ],
)
def test_bad_value_is_refused_with_the_reason(name, value, answer):
    """What librdkafka would say later, in a process that was just started, is said now."""
    said = check_property(name, value)
    assert said is not None
    assert answer in said
    assert said == said.strip()
