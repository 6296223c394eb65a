"""Up to where the messages of a partition are done."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elsa_actors.kafka.offsets import Offsets, offsets_of


def offsets(position, *batches):
    made = Offsets(position)
    for batch in batches:
        made.delivered(batch)
    return made


def where(made):
    return made.position, made.unacked


def test_nothing_delivered_nothing_done():
    """The position is where it began."""
    assert where(Offsets(10)) == (10, 0)


def test_delivered_is_not_done():
    """A message counts when the handler says so, not when it gets it."""
    assert where(offsets(10, range(10, 15))) == (10, 5)


def test_a_batch_acked_as_a_whole():
    """The usual course of things."""
    made = offsets(10, range(10, 15))
    assert made.ack_to(14) is True
    assert where(made) == (15, 0)


def test_a_batch_acked_in_part():
    """`Ack(offset)` in the middle of it."""
    made = offsets(10, range(10, 15))
    assert made.ack_to(11) is True
    assert where(made) == (12, 3)
    assert made.ack_to(14) is True
    assert where(made) == (15, 0)


def test_several_batches_acked_at_once():
    """ "continue", "continue", "ack"."""
    made = offsets(0, range(5), range(5, 10), range(10, 15))
    assert made.ack_to(11) is True
    assert where(made) == (12, 3)


def test_single_acks_in_order_move_the_position():
    """One by one is in order, too."""
    made = offsets(0, range(3), range(3, 5))
    assert [(made.ack(offset), made.position) for offset in range(5)] == [
        (True, 1),
        (True, 2),
        (True, 3),
        (True, 4),
        (True, 5),
    ]
    assert made.unacked == 0


def test_a_later_ack_waits_for_the_earlier_ones():
    """Committed beyond a message that is not done, that message would be lost in a crash."""
    made = offsets(0, range(3), range(3, 6))
    for offset in (5, 1, 3, 4, 2):
        assert made.ack(offset) is True
        assert made.position == 0
    assert made.unacked == 1
    assert made.ack(0) is True
    assert where(made) == (6, 0)


def test_position_steps_over_gaps():
    """Compaction and transaction markers leave offsets that no message has."""
    made = offsets(0, [4, 7, 9])
    assert where(made) == (0, 3)
    made.ack(4)
    assert where(made) == (5, 2)
    made.ack(9)
    assert where(made) == (5, 1)
    made.ack(7)
    assert where(made) == (10, 0)


def test_ack_to_an_offset_in_a_gap_acks_what_is_before_it():
    """All delivered up to it is meant."""
    made = offsets(0, [4, 7], [12, 13])
    assert made.ack_to(5) is True
    assert where(made) == (5, 3)
    assert made.ack_to(10) is True
    assert where(made) == (8, 2)
    assert made.ack_to(11) is False
    assert where(made) == (8, 2)


def test_ack_to_counts_what_was_acked_singly_only_once():
    """`unacked` decides when to pause: it must not drift."""
    made = offsets(0, range(5), range(5, 10))
    for offset in (1, 3, 6, 8):
        made.ack(offset)
    assert made.unacked == 6
    assert made.ack_to(7) is True
    assert where(made) == (9, 1)
    assert made.ack(9) is True
    assert where(made) == (10, 0)


def test_ack_to_an_offset_that_was_acked_singly_counts_it_only_once():
    """The last of what it takes along is among them, too."""
    made = offsets(10, range(10, 15))
    assert made.ack(12) is True
    assert made.ack_to(12) is True
    assert where(made) == (13, 2)


@pytest.mark.parametrize("act", ["ack", "ack_to"])
def test_what_was_never_delivered_cannot_be_acked(act):
    """Nothing changes: the caller warns, and goes on."""
    made = offsets(10, range(10, 15))
    assert getattr(made, act)(15) is False
    assert getattr(made, act)(9) is False
    assert getattr(Offsets(10), act)(10) is False
    assert where(made) == (10, 5)


def test_an_offset_in_a_gap_cannot_be_acked_alone():
    """There is no such message."""
    made = offsets(0, [4, 7])
    assert made.ack(5) is False
    assert where(made) == (0, 2)


@pytest.mark.parametrize("act", ["ack", "ack_to"])
def test_what_is_acked_cannot_be_acked_again(act):
    """Two who ack one message make no message of it twice."""
    made = offsets(0, range(5))
    made.ack(0)
    assert getattr(made, act)(0) is False
    made.ack(2)
    assert made.ack(2) is False
    made.ack_to(4)
    assert getattr(made, act)(3) is False
    assert where(made) == (5, 0)


def test_reset_forgets_all():
    """A worker that starts again gets its messages again, and old acks mean nothing."""
    made = offsets(0, range(5))
    made.ack(3)
    made.reset(1)
    assert where(made) == (1, 0)
    assert made.ack(2) is False
    made.delivered(range(1, 5))
    assert made.ack_to(2) is True
    assert where(made) == (3, 2)


def test_delivery_after_all_was_acked():
    """The next batch follows where the last one ended, or later."""
    made = offsets(0, range(3))
    made.ack_to(2)
    made.delivered([5, 6])
    assert where(made) == (3, 2)
    made.ack_to(6)
    assert where(made) == (7, 0)


@pytest.mark.parametrize("again", [range(4, 8), range(5), [3, 9], [20, 8], [9, 9]])
def test_delivering_anew_without_reset_is_refused(again):
    """Counted twice, the message would never be done."""
    made = offsets(0, range(5))
    with pytest.raises(ValueError, match="expected growing offsets from 5 on"):
        made.delivered(again)
    made.ack_to(4)
    with pytest.raises(ValueError, match="expected growing offsets from 5 on"):
        made.delivered(again)
    assert where(made) == (5, 0)


def test_an_empty_batch_is_nothing():
    """A poll that brought nothing."""
    made = offsets(3, [], range(0))
    assert where(made) == (3, 0)


def test_repr_says_where_it_is():
    """For the repr of a consumer."""
    assert repr(offsets(812, range(812, 816))) == "<Offsets position 812, 4 unacked>"


def test_offsets_of_messages():
    """A range without gaps, so that a batch costs the same whatever its length."""
    batch = [SimpleNamespace(offset=offset) for offset in range(7, 12)]
    assert offsets_of(batch) == range(7, 12)
    del batch[2]
    assert list(offsets_of(batch)) == [7, 8, 10, 11]
    assert not offsets_of([])


def test_batches_acked_in_order_leave_nothing_behind():
    """A program that runs for months must not grow with every batch."""
    made = Offsets(0)
    for first in range(0, 500_000, 500):
        made.delivered(range(first, first + 500))
        assert made.ack_to(first + 499)
    assert len(made._batches) < 200
    assert len(made._lasts) < 200


def test_a_batch_is_not_looked_at_message_by_message():
    """A range of a billion offsets is acked as quickly as one of ten."""
    made = offsets(0, range(10**9), range(10**9, 2 * 10**9))
    assert made.ack(10**9 + 5)
    assert made.ack_to(10**9 + 3)
    assert where(made) == (10**9 + 4, 10**9 - 5)


# --- against a model that is too simple to be wrong --------------------------------------------


class Model:
    """Every delivered offset in a list, acked or not."""

    def __init__(self, position):
        self.position, self.acked = position, {}

    def delivered(self, offsets):
        self.acked.update(dict.fromkeys(offsets, False))

    def ack(self, offset):
        return self._ack([offset] if offset in self.acked else [])

    def ack_to(self, offset):
        if not self.acked or offset > max(self.acked):
            return False
        return self._ack([one for one in self.acked if one <= offset])

    def _ack(self, offsets):
        new = [one for one in offsets if not self.acked[one]]
        self.acked.update(dict.fromkeys(new, True))
        for one in sorted(self.acked):
            if not self.acked[one]:
                break
            self.position = max(self.position, one + 1)
        return bool(new)

    @property
    def unacked(self):
        return sum(not acked for acked in self.acked.values())

    def reset(self, position):
        self.__init__(position)


STEPS = st.one_of(
    st.tuples(st.just("delivered"), st.lists(st.integers(1, 3), max_size=6)),
    st.tuples(st.just("dense"), st.integers(0, 6)),
    st.tuples(st.just("ack"), st.integers(-20, 3)),
    st.tuples(st.just("ack"), st.integers(-20, 3)),
    st.tuples(st.just("ack_to"), st.integers(-20, 3)),
    st.tuples(st.just("reset"), st.integers(0, 3)),
)


@given(st.lists(STEPS, max_size=60), st.integers(0, 5))
def test_agrees_with_the_simple_model(steps, start):
    """In any order of deliveries, gaps, acks and resets."""
    made, model, last = Offsets(start), Model(start), start - 1
    for step, argument in steps:
        match step:
            case "delivered" | "dense":
                batch = range(last + 1, last + 1 + argument) if step == "dense" else []
                for gap in argument if step == "delivered" else []:
                    batch.append((batch[-1] if batch else last) + gap)
                made.delivered(batch)
                model.delivered(batch)
                last = batch[-1] if batch else last
            case "reset":
                last += argument
                made.reset(last + 1)
                model.reset(last + 1)
            case _:
                offset = last + argument
                assert getattr(made, step)(offset) is getattr(model, step)(offset)
        assert where(made) == (model.position, model.unacked)
