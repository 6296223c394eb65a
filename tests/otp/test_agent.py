"""Agent: a value that several processes share, by functions that run in one place."""

import doctest

import pytest

from elsa_actors.otp import agent
from elsa_actors.otp.agent import Agent
from elsa_actors.otp.gen_server import call, cast
from elsa_actors.otp.supervisor import Supervisor
from elsa_actors.runtime import process
from elsa_actors.runtime.errors import AlreadyStarted, CallExit, CallTimeout, NoProcess, StartError
from elsa_actors.runtime.exits import Exit
from tests.servers import WAIT, Gate, Journal, Oops, exit_of, nothing_comes

OOPS = Oops()


def raises(*_):
    raise OOPS


def test_life_of_an_agent(me):
    """A value is read, replaced, both at once, and its agent stopped. AGNT-01."""
    ref = Agent.start_link(lambda: 1)
    assert Agent.get(ref, lambda n: n + 1) == 2
    assert Agent.get(ref, lambda n: n) == 1
    assert Agent.update(ref, lambda n: n + 10) is None
    assert Agent.get_and_update(ref, lambda n: (f"was {n}", n * 2)) == "was 11"
    assert Agent.cast(ref, lambda n: n + 1) is None
    assert Agent.get(ref, lambda n: n) == 23
    assert process.info(ref)["links"] == [me.ref]
    assert Agent.stop(ref) is None
    assert not process.is_alive(ref)
    assert me.receive(Exit, WAIT) == Exit(ref, "normal")
    assert nothing_comes()


def test_start_is_not_linked(me):
    """An agent of nobody's outlives its starter. AGNT-01."""
    ref = Agent.start(dict)
    assert process.info(ref)["links"] == []
    assert Agent.get(ref, lambda value: value) == {}


def test_value_from_a_function_with_arguments():
    """The first value is made in the agent, of the arguments that follow the function."""
    ref = Agent.start_link(lambda a, b: (a, b, process.current()), 1, 2)
    assert Agent.get(ref, lambda value: value) == (1, 2, ref)


def test_functions_run_in_the_agent():
    """Whoever calls does not touch the value; the agent does, one function at a time."""
    ref = Agent.start(lambda: None)
    assert Agent.get(ref, lambda value: process.current()) is ref


def test_agent_by_name(me):
    """An agent is found by its name, and there is one of it."""
    ref = Agent.start_link(list, name="basket")
    Agent.update("basket", lambda fruit: [*fruit, "apple"])
    Agent.cast("basket", lambda fruit: [*fruit, "pear"])
    assert Agent.get("basket", len) == 2
    with pytest.raises(AlreadyStarted) as error:
        Agent.start(list, name="basket")
    assert error.value.ref is ref
    Agent.stop("basket", "shutdown")
    assert me.receive(Exit, WAIT) == Exit(ref, "shutdown")
    with pytest.raises(NoProcess):
        Agent.get("basket", len)
    assert Agent.cast("basket", len) is None


@pytest.mark.parametrize("function", ["get", "update", "get_and_update"])
def test_function_that_raises(function):
    """A function that cannot be carried out ends the agent, and fails its caller. AGNT-02."""
    ref = Agent.start(lambda: 1)
    with pytest.raises(CallExit) as error:
        getattr(Agent, function)(ref, raises)
    assert error.value.reason is OOPS
    assert error.value.__cause__ is OOPS
    assert not process.is_alive(ref)
    assert ref._inbox.reason is OOPS


def test_cast_that_raises():
    """Nobody waits for a cast; the agent ends all the same. AGNT-02."""
    ref = Agent.start(lambda: 1)
    Agent.cast(ref, raises)
    assert exit_of(ref) in (OOPS, "noproc")
    assert ref._inbox.reason is OOPS


@pytest.mark.parametrize("answer", [5, None, (1,), (1, 2, 3), [1, 2]])
def test_get_and_update_without_a_pair(answer):
    """Half an answer would be a guess: only a tuple of two will do. AGNT-03."""
    ref = Agent.start(lambda: 1)
    with pytest.raises(CallExit) as error:
        Agent.get_and_update(ref, lambda value: answer)
    assert error.value.reason == ("bad_return_value", answer)
    assert ref._inbox.reason == ("bad_return_value", answer)


def test_start_function_that_raises(me):
    """There is no agent without a value, and the starter is told why. AGNT-04."""
    for start in (Agent.start, Agent.start_link):
        with pytest.raises(StartError) as error:
            start(raises)
        assert error.value.reason is OOPS
    assert process.list() == []
    assert nothing_comes()


def test_get_that_takes_too_long(me):
    """A caller that gives up leaves the agent to its work, which is done. AGNT-05."""
    ref, gate, journal = Agent.start(lambda: 1), Gate(), Journal()

    def slow(value):
        gate()
        journal("done")
        return value

    with pytest.raises(CallTimeout) as error:
        Agent.get(ref, slow, timeout=0.05)
    assert error.value.reason == "timeout"
    with pytest.raises(CallTimeout):
        Agent.update(ref, lambda value: value + 1, timeout=0.05)
    with pytest.raises(CallTimeout):
        Agent.get_and_update(ref, lambda value: (value, value * 10), timeout=0.05)
    gate.open()
    assert Agent.get(ref, lambda value: value) == 20
    assert journal.events == ["done"]
    assert nothing_comes()


@pytest.mark.parametrize("fn", [None, 5, "text"])
def test_what_is_no_function(fn):
    """A mistake is the caller's, and does not reach the agent."""
    ref = Agent.start(lambda: 1)
    for act in (Agent.get, Agent.update, Agent.get_and_update, Agent.cast):
        with pytest.raises(TypeError, match="expected a function of the agent's value"):
            act(ref, fn)
    for start in (Agent.start, Agent.start_link):
        with pytest.raises(TypeError, match="expected a function of the agent's value"):
            start(fn)
    assert Agent.get(ref, lambda value: value) == 1


@pytest.mark.parametrize("ask", [call, cast])
def test_unknown_request(ask):
    """An agent that is mistaken for another server says what it was asked."""
    ref = Agent.start(lambda: 1)
    try:
        ask(ref, "deposit")
    except CallExit as error:
        assert error.reason == ("unknown_request", "deposit")  # noqa: PT017
    assert exit_of(ref) in (("unknown_request", "deposit"), "noproc")
    assert ref._inbox.reason == ("unknown_request", "deposit")


def test_agent_in_a_tree():
    """A restarted agent starts over with its first value. AGNT-02."""
    sup = Supervisor.start_link([Agent.child_spec(lambda: 1, name="one"), (Agent, dict)])
    Agent.update("one", lambda value: value + 1)
    assert Agent.get("one", lambda value: value) == 2
    first = process.whereis("one")
    Agent.cast("one", raises)
    exit_of(first)
    # Whoever learns of a death finds its supervisor already told; restarting is its next turn.
    for _ in range(1000):
        if process.whereis("one") not in (None, first):
            break
        process.sleep(0.005)
    assert Agent.get("one", lambda value: value) == 1
    Supervisor.stop(sup)


def test_get_and_update_without_a_pair_says_what_the_function_is_to_return():
    """The reason alone would look like a fault of the agent's."""
    with pytest.raises(CallExit, match="to return a pair, what is returned and the new value") as e:
        Agent.get_and_update(Agent.start(dict), lambda value: None)
    assert e.value.reason == ("bad_return_value", None)
    assert "Reply" not in str(e.value)


def test_examples():
    """What the docstrings show is what happens."""
    results = doctest.testmod(agent, report=False)
    assert results.failed == 0
    assert results.attempted > 0
