"""How waits grow from try to try."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elsa_actors.otp.backoff import Backoff


def waits(backoff, count):
    return [backoff.next() for _ in range(count)]


def test_waits_grow_by_the_factor_up_to_max():
    """A message that always crashes must not spin, and must not be forgotten either."""
    assert waits(Backoff(min=0.5, max=5.0, factor=2.0, jitter=0.0), 6) == [0.5, 1, 2, 4, 5, 5]


def test_defaults():
    """The defaults: half a second, 30 seconds, doubled, a tenth of jitter."""
    backoff = Backoff()
    assert (backoff.min, backoff.max, backoff.factor, backoff.jitter) == (0.5, 30.0, 2.0, 0.1)


def test_jitter_adds_a_random_share():
    """A hundred children that lost one broker must not all come back in one moment."""
    assert Backoff(min=1.0, jitter=0.5, rng=lambda: 0.0).next() == 1.0
    assert Backoff(min=1.0, jitter=0.5, rng=lambda: 0.5).next() == 1.25
    assert len({Backoff().next() for _ in range(20)}) > 1


def test_jitter_does_not_feed_back_into_later_waits():
    """The series itself is fixed; luck in one try does not make the next one longer."""
    draws = itertools.cycle([1.0, 0.0])
    backoff = Backoff(min=1.0, max=100.0, jitter=0.5, rng=lambda: next(draws))
    assert waits(backoff, 4) == [1.5, 2.0, 6.0, 8.0]


def test_reset_starts_over():
    """What was mended is owed no long wait."""
    backoff = Backoff(jitter=0.0)
    first = waits(backoff, 3)
    backoff.reset()
    assert waits(backoff, 3) == first


def test_a_life_longer_than_max_starts_over():
    """A child that ran well for long did not fail again, it failed anew."""
    backoff = Backoff(min=1.0, max=10.0, jitter=0.0)
    waits(backoff, 3)
    backoff.lived(10.0)
    assert backoff.next() == 8.0
    backoff.lived(10.1)
    assert backoff.next() == 1.0


def test_repr_says_where_it_is():
    """An operator who meets it in a state sees how often and how long."""
    backoff = Backoff()
    assert repr(backoff) == "<Backoff after 0 tries, waits 0.5 s next>"
    backoff.next()
    assert repr(backoff) == "<Backoff after 1 try, waits 1 s next>"


@pytest.mark.parametrize(
    "arguments",
    [
        {"min": 0},
        {"min": -1.0},
        {"min": True},
        {"min": "1"},
        {"min": math.nan},
        {"max": 0.4},
        {"max": math.inf},
        {"max": None},
        {"factor": 0.9},
        {"factor": math.nan},
        {"jitter": -0.1},
        {"jitter": 1.1},
        {"jitter": None},
    ],
)
def test_a_wrong_argument_is_refused_where_it_is_made(arguments):
    """A wait of 0, or one that shrinks, would spin: better to hear so at once."""
    (name, value), *_ = arguments.items()
    with pytest.raises(ValueError, match=f"^expected {name} to be .*, got: {value!r}$"):
        Backoff(**arguments)


seconds = st.floats(min_value=1e-6, max_value=1e300)


@given(
    bounds=st.tuples(seconds, seconds).map(sorted),
    factor=st.floats(min_value=1.0, max_value=1e300),
    jitter=st.floats(min_value=0.0, max_value=1.0),
    draw=st.floats(min_value=0.0, max_value=1.0),
)
def test_waits_stay_within_their_bounds_and_never_shrink(bounds, factor, jitter, draw):
    """Whatever the numbers: from min, up to max and its jitter, never shorter than before."""
    low, high = bounds
    series = waits(Backoff(low, high, factor, jitter, rng=lambda: draw), 50)
    assert all(low <= wait <= high * (1 + jitter) for wait in series)
    assert series == sorted(series)


def test_a_thousand_tries_are_no_trouble():
    """The default is to try for ever; no power may overflow on the way."""
    assert waits(Backoff(max=30, factor=1e200, jitter=0), 1000)[-1] == 30
