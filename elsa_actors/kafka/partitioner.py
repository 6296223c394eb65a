"""Choose the partition of a message that is to be produced."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from typing import Any, Protocol

import confluent_kafka

from elsa_actors.kafka.errors import KafkaError


class Partitioner(Protocol):
    """Whatever chooses partitions: any object with this method."""

    def partition(self, count: int, key: bytes | None, /) -> int:
        """The partition for a key, from 0 to ``count - 1``; a message without a key has None."""
        ...


class Murmur2:
    """The partition that Kafka's Java clients choose; the default.

    Without a key, all messages go to one partition, drawn by chance for each call of `produce`.
    A key of b"" is a key.
    """

    __slots__ = ("_count", "_random", "_sticky")

    def __init__(self, *, rng: Callable[[int], int] = random.randrange) -> None:
        self._random = rng
        self._count = 0
        self._sticky = 0

    def partition(self, count: int, key: bytes | None) -> int:
        if key is not None:
            return confluent_kafka.murmur2(key, count)
        # One object may serve several topics; where it cannot stay, it draws again.
        if count != self._count:
            self._count, self._sticky = count, self._random(count)
        return self._sticky

    def fresh(self) -> Murmur2:
        """One that has not drawn yet."""
        return Murmur2(rng=self._random)

    def __repr__(self) -> str:
        return "<Murmur2>"


class Md5:
    """The partition that Elsa's Md5 chooses: the sum of the bytes of the key's MD5, modulo count.

    No key counts as an empty one, as in Elsa, where a message without a key has the key "".
    """

    __slots__ = ()

    def partition(self, count: int, key: bytes | None) -> int:
        return sum(hashlib.md5(key or b"", usedforsecurity=False).digest()) % count

    def __repr__(self) -> str:
        return "<Md5>"


class Random:
    """Any partition, drawn for every message, whatever its key."""

    __slots__ = ("_random",)

    def __init__(self, *, rng: Callable[[int], int] = random.randrange) -> None:
        self._random = rng

    def partition(self, count: int, key: bytes | None) -> int:
        return self._random(count)

    def __repr__(self) -> str:
        return "<Random>"


class First:
    """Always partition 0, Elsa's default."""

    __slots__ = ()

    def partition(self, count: int, key: bytes | None) -> int:
        return 0

    def __repr__(self) -> str:
        return "<First>"


DEFAULT = Murmur2


def partitioner_of(given: Any) -> Partitioner:
    """The partitioner for one call of `produce`: of a class an instance, else what was given.

    A `Murmur2` starts afresh, so that it draws again for each call, and calls on several threads
    share nothing. Raises KafkaError (("bad_partitioner", given)).
    """
    partitioner: Any = given
    if isinstance(given, type) and _can_choose(given):
        try:
            partitioner = given()
        except TypeError as error:
            raise KafkaError(
                ("bad_partitioner", given),
                f"could not make a partitioner of {given.__qualname__}: {error};"
                " give an instance instead of the class",
            ) from error
    if isinstance(partitioner, type) or not _can_choose(partitioner):
        raise KafkaError(
            ("bad_partitioner", given),
            "expected a partitioner: Murmur2, Md5, Random, First or an object with"
            f" partition(count, key), got: {given!r}",
        )
    chooser: Partitioner = given.fresh() if type(given) is Murmur2 else partitioner
    return chooser


def _can_choose(given: Any) -> bool:
    # Text has a partition() too, which cuts it in three.
    cuts = hasattr(given, "rpartition")
    return not cuts and callable(getattr(given, "partition", None))


def partition_of(partitioner: Any, count: int, key: bytes | None) -> int:
    """The partition that a partitioner, an object or a class, chooses, once it is seen to be one.

    Many messages of one call want one `partitioner_of` for all of them: a class is made anew here.
    Raises KafkaError (("bad_partition", answer)) for an answer that is no partition of ``count``;
    what the partitioner itself raises comes out.

        >>> partition_of(Md5, 2, b"key1")
        1
    """
    chooser = partitioner_of(partitioner) if isinstance(partitioner, type) else partitioner
    partition = chooser.partition(count, key)
    if type(partition) is int and 0 <= partition < count:
        return partition
    raise KafkaError(
        ("bad_partition", partition),
        f"expected {chooser!r} to answer a whole number from 0 to {count - 1} for key {key!r},"
        f" got: {partition!r}",
    )
