"""Random supervisors do what a small model of them says, step by step."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.otp.restart_model import predict
from tests.otp.scenarios import play

REASONS = st.sampled_from(["boom", "normal", "shutdown", ["shutdown", "x"]])
STRATEGIES = st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"])
AUTO_SHUTDOWNS = st.sampled_from(["never", "any_significant", "all_significant"])
TOP, INNER, LATER = "abcd", "xyz", "efg"


@st.composite
def workers(draw, child_id, auto_shutdown, traps=None):
    restart = draw(st.sampled_from(["permanent", "transient", "temporary"]))
    may_be_significant = auto_shutdown != "never" and restart != "permanent"
    first = st.sampled_from(["ok", "ok", "ok", "ok", "ok", "ok", "info", "ignore"])
    later = st.sampled_from(
        ["ok", "ok", "ok", "error", "stop", "raise", "raise_in_init", "exit", "wrong", "ignore"]
    )
    return {
        "id": child_id,
        "restart": restart,
        "significant": may_be_significant and draw(st.booleans()),
        "shutdown": draw(st.sampled_from([5, "infinity", "brutal_kill"])),
        "trap": draw(st.booleans()) if traps is None else traps,
        "script": draw(st.lists(first, max_size=1)) + draw(st.lists(later, max_size=4)),
    }


@st.composite
def supervisors(draw, child_id, auto_shutdown, traps):
    auto = draw(AUTO_SHUTDOWNS)
    child = draw(workers(child_id, auto_shutdown))
    labels = INNER[: draw(st.integers(1, 3))]
    return {
        "id": child_id,
        "restart": child["restart"],
        "significant": child["significant"],
        "flags": [draw(STRATEGIES), draw(st.integers(0, 3)), auto],
        "children": [draw(workers(label, auto, traps)) for label in labels],
    }


def steps(auto_shutdown, killable):
    anywhere, top = st.sampled_from(TOP + INNER + "e"), st.sampled_from(TOP + "es" + "n")
    several = st.lists(st.sampled_from(TOP), min_size=2, max_size=4, unique=True)
    together = several.flatmap(
        lambda labels: st.tuples(*[
            st.tuples(st.just(one), REASONS | st.just("kill")).map(list) for one in labels
        ]).map(lambda hits: ["together", list(hits)])
    )  # fmt: skip
    started = st.sampled_from(TOP + LATER).flatmap(lambda label: workers(label, auto_shutdown))
    return st.one_of(
        st.tuples(st.just("crash"), anywhere, REASONS).map(list),
        st.tuples(st.just("crash"), st.sampled_from(TOP), st.just("boom")).map(list),
        st.tuples(st.just("kill"), st.sampled_from(killable)).map(list),
        st.tuples(st.just("signal"), anywhere | st.just("s"), REASONS).map(list),
        together,
        together,
        started.map(lambda child: ["start_child", child]),
        st.tuples(st.sampled_from(["restart_child", "terminate_child"]), top).map(list),
        st.tuples(st.just("delete_child"), top).map(list),
    )


@st.composite
def scenarios(draw):
    auto = draw(AUTO_SHUTDOWNS)
    labels = TOP[: draw(st.integers(1, 4))]
    children = [draw(workers(label, auto)) for label in labels]
    killable = TOP
    if draw(st.integers(0, 3)) == 0:
        traps = draw(st.sampled_from([None, False]))
        if traps is False:
            killable += "s"  # Nobody in it says goodbye, so its death is one step.
        place = draw(st.integers(0, len(children)))
        children.insert(place, draw(supervisors("s", auto, traps)))
    return {
        "family": "supervisor",
        "flags": [draw(STRATEGIES), draw(st.integers(0, 5)), auto],
        "children": children,
        "steps": draw(st.lists(steps(auto, killable), min_size=1, max_size=8)),
        "end": draw(st.sampled_from([["signal", "shutdown"], ["stop", "normal"]])),
    }


@pytest.mark.timeout(180)
@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(scenarios())
def test_a_supervisor_does_what_the_model_says(scenario):
    """Which children run, who was started and stopped in which order, what operators were
    answered, and the end: after every step as written down in a page of Python. SRTY-01, SRTY-02,
    SRTY-03, SRTY-04, SRTY-09, SSTR-01, SSTR-02, SSTR-03, SSTR-06, SSTR-10, SSTR-15, SSTR-16,
    SMUL-01, SMUL-02, SMUL-03, SINT-01, SINT-06, SINT-12, SAUT-01, SAUT-05, SADM-10, SADM-16."""
    expected = predict(scenario)
    got = json.loads(json.dumps(play(scenario)))
    for place, step in enumerate(["the start", *scenario["steps"], "the end"][: len(expected)]):
        assert got[place] == expected[place], f"after {step}"
    assert len(got) == len(expected)
