"""The brokers of the stories: the shared one, and one of their own that may be broken."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from elsa_actors.kafka.apache import ApacheKafka
from tests.kafka.conftest import _apache, apache, new_topic

pytest.register_assert_rewrite("tests.scenarios.shop")

__all__ = ["_apache", "apache", "new_topic"]


@pytest.fixture(scope="module")
def _breakable() -> Iterator[ApacheKafka]:
    with ApacheKafka() as kafka:
        yield kafka


@pytest.fixture
def breakable(_breakable: ApacheKafka) -> Iterator[ApacheKafka]:
    """A broker that a test may stop, kill and freeze; it runs again at the end of each test."""
    yield _breakable
    _breakable.thaw()
    _breakable.start()
