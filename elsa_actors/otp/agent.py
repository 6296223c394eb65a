"""Agent: a server that keeps a value, and runs its callers' functions on it.

The original: https://hexdocs.pm/elixir/Agent.html
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from elsa_actors.otp.gen_server import GenServer, call, cast, stop
from elsa_actors.otp.results import NoReply, Ok, Reply, Stop
from elsa_actors.runtime.errors import CallExit


@dataclass(frozen=True, slots=True)
class Get:
    fn: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Update:
    fn: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class GetAndUpdate:
    fn: Callable[[Any], Any]


class Agent(GenServer):
    """Keeps a value for several processes.

        >>> basket = Agent.start_link(lambda: ["apple"])
        >>> Agent.update(basket, lambda fruit: fruit + ["pear"])
        >>> Agent.get(basket, len)
        2
        >>> Agent.stop(basket)

    The functions run in the agent, one at a time, and keep everybody else waiting: do long work in
    the caller. One that raises ends the agent, and fails its caller.
    """

    @classmethod
    def start_link(  # type: ignore[override]
        cls, fn: Any, *args: Any, name: Any = None, timeout: float | None = None
    ) -> Any:
        """Start an agent with the value ``fn(*args)``, linked to the running process.

        Returns its ref. Raises as `GenServer.start_link`; the reason of a StartError is what
        ``fn`` raised.
        """
        return cls._begin((_function(fn), *args), {}, name, timeout, link=True)

    @classmethod
    def start(  # type: ignore[override]
        cls, fn: Any, *args: Any, name: Any = None, timeout: float | None = None
    ) -> Any:
        """As `start_link`, linked to nobody."""
        return cls._begin((_function(fn), *args), {}, name, timeout, link=False)

    @staticmethod
    def get(agent: Any, fn: Callable[[Any], Any], timeout: float | None = 5.0) -> Any:
        """What ``fn(value)`` returns. Waits ``timeout`` seconds; raises as `call` does."""
        return call(agent, Get(_function(fn)), timeout)

    @staticmethod
    def update(agent: Any, fn: Callable[[Any], Any], timeout: float | None = 5.0) -> None:
        """Make ``fn(value)`` the value, and wait until it is. Raises as `call` does."""
        call(agent, Update(_function(fn)), timeout)

    @staticmethod
    def get_and_update(agent: Any, fn: Callable[[Any], Any], timeout: float | None = 5.0) -> Any:
        """``fn(value)`` returns a pair: what is returned here, and the new value.

        Anything but a tuple of two ends the agent with ("bad_return_value", it).
        """
        try:
            return call(agent, GetAndUpdate(_function(fn)), timeout)
        except CallExit as error:
            match error.reason:
                case ("bad_return_value", wrong):
                    error.message = (
                        f"{agent!r} ended: expected {fn!r} to return a pair, what is returned and"
                        f" the new value, got: {wrong!r}"
                    )
            raise

    @staticmethod
    def cast(agent: Any, fn: Callable[[Any], Any]) -> None:
        """As `update`, without waiting; never fails for the dead or unknown."""
        cast(agent, Update(_function(fn)))

    @staticmethod
    def stop(agent: Any, reason: Any = "normal", timeout: float | None = None) -> None:  # type: ignore[override]
        """Stop the agent with ``reason`` after what is queued, as `elsa_actors.stop` does."""
        stop(agent, reason, timeout)

    # ---- the process

    def init(self, fn: Callable[..., Any], *args: Any) -> Any:
        return Ok(fn(*args))

    def handle_call(self, request: Any, sender: Any) -> Any:
        match request:
            case Get(fn):
                return Reply(fn(self.state))
            case Update(fn):
                self.state = fn(self.state)
                return Reply(None)
            case GetAndUpdate(fn):
                match fn(self.state):
                    case tuple((value, state)):
                        self.state = state
                        return Reply(value)
                    case wrong:
                        return Stop(("bad_return_value", wrong))
            case unknown:
                return Stop(("unknown_request", unknown))

    def handle_cast(self, request: Any) -> Any:
        match request:
            case Update(fn):
                self.state = fn(self.state)
                return NoReply()
            case unknown:
                return Stop(("unknown_request", unknown))


def _function(fn: Any) -> Any:
    if not callable(fn):
        raise TypeError(f"expected a function of the agent's value, got: {fn!r}")
    return fn


__all__ = ["Agent"]
