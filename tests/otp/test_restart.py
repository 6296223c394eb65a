"""The restart policy, decided without a process: fates, plans, the window, the end."""

from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from elsa_actors.otp.restart import (
    Fate,
    Window,
    fate,
    is_expected_in_shutdown,
    is_reported,
    plan,
    shuts_down,
)
from tests.servers import Oops

on_a_busy_machine = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclass(eq=False)
class Kid:
    """What the policy knows about a child."""

    label: str
    restart: str = "permanent"
    significant: bool = False

    def __repr__(self):
        return self.label


CLEAN = ["normal", "shutdown", ("shutdown", "x"), ("shutdown", None)]
FAILED = ["boom", "killed", "kill", "noproc", ("shutdown",), ("shutdown", 1, 2), None, Oops(), 0]


@pytest.mark.parametrize("reason", CLEAN + FAILED)
def test_the_fate_of_a_child(reason):
    """A permanent child comes back, a temporary one never, a transient one if it failed. SRTY-01,
    SRTY-02, SRTY-03, SRTY-04."""
    assert fate("permanent", reason) is Fate.RESTART
    assert fate("temporary", reason) is Fate.REMOVE
    assert fate("transient", reason) is (Fate.KEEP if reason in CLEAN else Fate.RESTART)


class Contrary:
    """A reason of a user's own whose `==` says yes to everything."""

    def __eq__(self, other):
        return True

    def __hash__(self):
        return 0


def test_a_reason_that_equals_everything_is_no_clean_one():
    """Users' terms may compare oddly; only the very words count. SRTY-03."""
    assert fate("transient", Contrary()) is Fate.RESTART
    assert not is_expected_in_shutdown("transient", 5.0, Contrary())


@pytest.mark.parametrize("reason", CLEAN + FAILED)
def test_which_ends_are_worth_a_report(reason):
    """Every end of a permanent child, and the failures of others. LOGR-05."""
    assert is_reported("permanent", reason)
    for restart in ("transient", "temporary"):
        assert is_reported(restart, reason) is (reason not in CLEAN)


@pytest.mark.parametrize(
    ("restart", "shutdown", "expected"),
    [
        ("permanent", 5.0, ["shutdown"]),
        ("permanent", "infinity", ["shutdown"]),
        ("permanent", "brutal_kill", ["killed"]),
        ("transient", 5.0, CLEAN),
        ("temporary", "infinity", CLEAN),
        ("transient", "brutal_kill", ["killed", *CLEAN]),
    ],
)
def test_which_ends_a_shutdown_expects(restart, shutdown, expected):
    """What was asked for, and an end on purpose of one that may end so. LOGR-08."""
    for reason in CLEAN + FAILED:
        assert is_expected_in_shutdown(restart, shutdown, reason) is (reason in expected)


A, B, C, D = kids = [Kid(label) for label in "abcd"]


@pytest.mark.parametrize(
    ("strategy", "failed", "to_stop", "to_start"),
    [
        ("one_for_one", B, [], [B]),
        ("one_for_all", B, [D, C, A], [A, B, C, D]),
        ("one_for_all", A, [D, C, B], [A, B, C, D]),
        ("rest_for_one", B, [D, C], [B, C, D]),
        ("rest_for_one", A, [D, C, B], [A, B, C, D]),
        ("rest_for_one", D, [], [D]),
    ],
)
def test_whom_a_failure_concerns(strategy, failed, to_stop, to_start):
    """Stopped in reverse, started in order; who failed is not stopped. SSTR-01, SSTR-02, SSTR-03,
    SSTR-04, SSTR-14."""
    assert plan(kids, failed, strategy) == (to_stop, to_start)


def test_a_temporary_child_of_the_group_is_stopped_only():
    """It is never started a second time. SSTR-10, SSTR-12."""
    temporary = Kid("t", "temporary")
    children = [A, temporary, B]
    assert plan(children, A, "one_for_all") == ([B, temporary], [A, B])
    assert plan(children, A, "rest_for_one") == ([B, temporary], [A, B])
    assert plan(children, B, "rest_for_one") == ([], [B])


def test_one_for_one_does_not_look_at_the_others():
    """With 100,000 siblings a restart costs what it costs with none. SSTR-01, SMSC-04."""

    def nobody():
        raise AssertionError
        yield A

    assert plan(nobody(), A, "one_for_one") == ([], [A])


@on_a_busy_machine
@given(
    st.lists(st.sampled_from(["permanent", "transient", "temporary"]), min_size=1, max_size=8),
    st.data(),
)
def test_a_plan_names_everybody_at_most_once(restarts, data):
    """Whatever the group, nobody is stopped or started twice, and orders are mirrored. SSTR-02,
    SSTR-03."""
    group = [Kid(str(place), restart) for place, restart in enumerate(restarts)]
    failed = data.draw(st.sampled_from(group))
    failed.restart = "permanent"
    for strategy in ("one_for_one", "one_for_all", "rest_for_one"):
        to_stop, to_start = plan(group, failed, strategy)
        assert failed not in to_stop
        assert failed in to_start
        assert sorted(to_stop, key=group.index, reverse=True) == to_stop
        assert sorted(to_start, key=group.index) == to_start
        assert {kid for kid in to_stop if kid.restart != "temporary"} == set(to_start) - {failed}


SIGNIFICANT = Kid("s", "transient", significant=True)
OTHER = Kid("o", "transient")


def test_never_is_never():
    """Without auto_shutdown nobody's end ends the supervisor. SAUT-07."""
    assert not shuts_down("never", SIGNIFICANT, [])


def test_any_significant_child_is_enough():
    """Whoever else runs. SAUT-01, SAUT-07."""
    assert shuts_down("any_significant", SIGNIFICANT, [SIGNIFICANT, OTHER])
    assert not shuts_down("any_significant", OTHER, [])


def test_all_significant_children_must_be_gone():
    """Others do not count, on either side. SAUT-05, SAUT-07."""
    assert not shuts_down("all_significant", SIGNIFICANT, [OTHER, SIGNIFICANT])
    assert shuts_down("all_significant", SIGNIFICANT, [OTHER])
    assert shuts_down("all_significant", SIGNIFICANT, [])
    assert not shuts_down("all_significant", OTHER, [])


def test_the_window_admits_so_many_and_no_more():
    """The restart after the last allowed one is one too many. SINT-01, SINT-02."""
    window = Window(3, 5.0)
    assert [window.admit(0.0) for _ in range(5)] == [True, True, True, False, False]
    assert not Window(0, 5.0).admit(0.0)


def test_restarts_leave_the_window_when_they_are_older_than_it():
    """At exactly its length they still count. SINT-09, SINT-10."""
    window = Window(1, 5.0)
    assert window.admit(100.0)
    assert window.admit(105.1)
    assert not window.admit(110.1)
    assert window.admit(200.0)


@on_a_busy_machine
@given(
    st.integers(0, 5),
    st.floats(0.1, 10.0),
    st.lists(st.floats(0.0, 5.0), max_size=30),
)
def test_the_window_counts_what_is_in_it(max_restarts, max_seconds, pauses):
    """The same answer as counting all restarts of the last max_seconds by hand. SINT-10."""
    window, now, restarts = Window(max_restarts, max_seconds), 0.0, []
    for pause in pauses:
        now += pause
        restarts.append(now)
        within = [then for then in restarts if now - then <= max_seconds]
        assert window.admit(now) is (len(within) <= max_restarts)


def test_a_window_says_how_full_it_is():
    """An operator sees how near a supervisor is to giving up."""
    window = Window(3, 5.0)
    window.admit(0.0)
    assert repr(window) == "<Window 1 of 3 restarts in 5 s>"
