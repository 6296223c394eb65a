"""Which partition a message goes to."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elsa_actors.kafka.errors import KafkaError
from elsa_actors.kafka.partitioner import (
    DEFAULT,
    First,
    Md5,
    Murmur2,
    Random,
    partition_of,
    partitioner_of,
)

# What Kafka's own tests say that murmur2 makes of these keys, as a signed number.
JAVA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize("count", [1, 2, 3, 8, 1000, 2**31 - 1])
@pytest.mark.parametrize(("key", "hashed"), JAVA.items())
def test_murmur2_chooses_as_java_does(key, hashed, count):
    """Programs in both languages must agree, or the order for each key is lost."""
    assert Murmur2().partition(count, key) == (hashed & 0x7FFFFFFF) % count


def test_murmur2_is_the_default():
    """What a Kafka user expects."""
    assert DEFAULT is Murmur2


def test_murmur2_stays_with_one_partition_for_messages_without_a_key():
    """One full batch is sent faster than eight small ones."""
    sticky = Murmur2()
    assert len({sticky.partition(1000, None) for _ in range(50)}) == 1


def test_murmur2_draws_anew_for_each_call():
    """Calls are spread, though the messages of one are not; also from one object of the user's."""
    mine = Murmur2()
    for partitioner in (Murmur2, mine):
        drawn = {partition_of(partitioner_of(partitioner), 1000, None) for _ in range(50)}
        assert len(drawn) > 10


def test_murmur2_draws_anew_for_another_count():
    """A topic of 2 partitions has no partition 700."""
    sticky = Murmur2(rng=lambda count: count - 1)
    assert [sticky.partition(count, None) for count in (1000, 2, 1000)] == [999, 1, 999]


def test_murmur2_takes_an_empty_key_for_a_key():
    """Only None is no key."""
    murmur2 = Murmur2()
    assert {murmur2.partition(1000, b"") for _ in range(10)} == {275646681 % 1000}


@pytest.mark.parametrize(
    ("count", "key", "partition"),
    [
        (2, b"key1", 1),
        # The digests: d41d8cd98f00b204e9800998ecf8427e and 900150983cd24fb0d6963f7d28e17f72.
        (1000, b"", sum(bytes.fromhex("d41d8cd98f00b204e9800998ecf8427e")) % 1000),
        (7, b"abc", sum(bytes.fromhex("900150983cd24fb0d6963f7d28e17f72")) % 7),
    ],
)
def test_md5_chooses_as_elsa_does(count, key, partition):
    """A program that moves from Elsa to here keeps its keys where they were."""
    assert Md5().partition(count, key) == partition


def test_md5_takes_no_key_for_an_empty_one():
    """Elsa's messages without a key have the key ""."""
    assert Md5().partition(1000, None) == Md5().partition(1000, b"")


def test_random_spreads():
    """Over all partitions, whatever the key."""
    draws = Random(rng=random.Random(1).randrange)
    counted = Counter(draws.partition(4, b"same") for _ in range(400))
    assert sorted(counted) == [0, 1, 2, 3]
    assert min(counted.values()) > 50
    assert Random().partition(1, None) == 0


def test_first_is_always_the_first():
    """Elsa's default."""
    assert {First().partition(8, key) for key in (None, b"", b"a", b"b")} == {0}


@given(
    st.sampled_from([Murmur2, Md5, Random, First]),
    st.integers(1, 10_000),
    st.none() | st.binary(),
)
def test_every_partitioner_names_a_partition_that_there_is(partitioner, count, key):
    """Class or instance, any key, any count."""
    assert 0 <= partition_of(partitioner, count, key) < count
    assert 0 <= partition_of(partitioner(), count, key) < count


# --- partitioners of one's own -----------------------------------------------------------------


class Mine:
    def __init__(self, answer=0):
        self.answer = answer

    def partition(self, count, key):
        return self.answer


def test_any_object_with_partition_will_do():
    """Class or instance, as with ours; an instance keeps what it knows."""
    assert partition_of(Mine(3), 8, b"k") == 3
    assert partition_of(Mine, 8, b"k") == 0
    mine = Mine(3)
    assert partitioner_of(mine) is mine
    assert isinstance(partitioner_of(Mine), Mine)


def test_a_subclass_of_murmur2_stays_itself():
    """Only Murmur2 itself is made anew for each call."""

    class Loyal(Murmur2):
        pass

    loyal = Loyal()
    assert partitioner_of(loyal) is loyal


@pytest.mark.parametrize("answer", [8, -1, 1.0, None, True, "0", b"0"])
def test_an_answer_that_is_no_partition_is_refused(answer):
    """Before it reaches librdkafka, where -1 would mean something else."""
    with pytest.raises(KafkaError, match="whole number from 0 to 7 for key b'k'") as caught:
        partition_of(Mine(answer), 8, b"k")
    assert caught.value.reason == ("bad_partition", answer)


def test_what_a_partitioner_raises_comes_out():
    """It is the caller's own code, and the caller's own error."""

    class Broken:
        def partition(self, count, key):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        partition_of(Broken(), 8, b"k")


class NeedsMore:
    def __init__(self, seed):
        self.seed = seed

    def partition(self, count, key):
        return 0


@pytest.mark.parametrize("given", [None, "murmur2", b"", str, 5, dict, object(), NeedsMore])
def test_what_is_no_partitioner_is_refused(given):
    """Before any message is sent."""
    with pytest.raises(KafkaError) as caught:
        partitioner_of(given)
    assert caught.value.reason == ("bad_partitioner", given)


def test_partitioners_say_what_they_are():
    """In errors, and in the state of a process."""
    assert [repr(one()) for one in (Murmur2, Md5, Random, First)] == [
        "<Murmur2>",
        "<Md5>",
        "<Random>",
        "<First>",
    ]
