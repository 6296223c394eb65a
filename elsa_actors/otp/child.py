"""Child: a spec and the process it has now; start it, stop it within its shutdown time."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from elsa_actors.otp import reports, restart
from elsa_actors.otp.child_spec import ChildInfo, ChildSpec, as_dict
from elsa_actors.runtime import process
from elsa_actors.runtime.actor import ProcessRef, is_plain_actor
from elsa_actors.runtime.clock import LONGEST_WAIT, clock
from elsa_actors.runtime.death import drop_link, exit_signal
from elsa_actors.runtime.errors import AlreadyStarted, StartError
from elsa_actors.runtime.exits import ProcessExit
from elsa_actors.runtime.mailbox import Mailbox
from elsa_actors.runtime.scheduler import here


class StartFailed(Exception):
    """A start function failed; ``reason`` is OTP's, ``raised`` whether it raised or exited."""

    def __init__(self, reason: Any, raised: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.raised = raised


class Child:
    """A child of a supervisor."""

    __slots__ = ("ref", "restarting", "spec")

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.ref: ProcessRef | None = None
        self.restarting = False

    @property
    def restart(self) -> str:
        return self.spec.restart

    @property
    def significant(self) -> bool:
        return self.spec.significant

    def is_up(self) -> bool:
        """Whether it runs as far as its supervisor knows, or its restart is being tried again."""
        return self.ref is not None or self.restarting

    def start(self, extra: Iterable[Any] = ()) -> Any:
        """Call the start function, in the supervisor's process; returns a ref, None, (ref, info).

        Afterwards ``ref`` is the process, or None when it answered Ignore(). Raises StartFailed.
        """
        answer = _start(self.spec, extra)
        self.ref = answer[0] if isinstance(answer, tuple) else answer
        self.restarting = False
        if self.spec.restart == "temporary":
            # It never starts again: what it was given is not held for as long as it runs.
            self.spec = replace(self.spec, start=replace(self.spec.start, args=(), kwargs=None))
        return answer

    def stopped(self) -> None:
        """The process is gone."""
        self.ref, self.restarting = None, False

    def will_restart(self) -> None:
        """It ended, and no restart has succeeded yet."""
        self.ref, self.restarting = None, True

    def info(self) -> ChildInfo:
        return self.spec.info("restarting" if self.restarting else self.ref)

    def __repr__(self) -> str:
        state = "restarting" if self.restarting else "running" if self.ref else "not running"
        return f"<Child {self.spec.id!r} {state}>"


def _start(spec: ChildSpec, extra: Iterable[Any]) -> Any:
    inbox = here.inbox
    try:
        answer = spec.call(extra)
    except StartError as error:
        raise StartFailed(error.reason) from error
    except ProcessExit as error:
        inbox.check_alive()  # The supervisor itself may have been killed meanwhile.
        raise StartFailed(error.reason, raised=True) from None
    except BaseException as error:
        raise StartFailed(error, raised=True) from error
    match answer:
        case None | ProcessRef():
            return answer
        case (ProcessRef() as ref, info):
            return ref, info
        case (ref, _) | ref if is_plain_actor(ref):
            raise StartFailed(("not_a_process", ref))
        case _:
            raise StartFailed(answer)


def start_error(reason: Any, spec: ChildSpec | None = None) -> StartError:
    """The StartError for this reason; it names Wrapper where that is the way out."""
    child = None if spec is None else as_dict(spec)
    if isinstance(reason, tuple) and len(reason) == 2 and isinstance(reason[0], str):
        if reason[0] == "already_started":
            return AlreadyStarted(reason[1], child=child)
        if reason[0] == "not_a_process":
            return StartError(
                reason,
                f"expected the start function to return a process's ref, got the plain Pykka actor"
                f" {reason[1]!r}; run it in a Wrapper, or derive its class from Process",
                child,
            )
    return StartError(reason, None, child)


class Stopping:
    """One child on its way out: told to stop, waited for, killed when its time is over."""

    def __init__(self, supervisor: Mailbox, title: str, child: Child) -> None:
        assert child.ref is not None
        self.title = title
        self.child = child
        self.inbox = child.ref._inbox
        self.deadline = math.inf
        drop_link(supervisor, self.inbox)
        shutdown = child.spec.shutdown
        if shutdown == "brutal_kill":
            exit_signal(self.inbox, supervisor, "kill")
        else:
            exit_signal(self.inbox, supervisor, "shutdown")
            if shutdown != "infinity":
                self.deadline = clock.now() + min(shutdown, LONGEST_WAIT)

    def finish(self) -> None:
        """Wait for the end, kill when the time is over, report an unexpected reason."""
        left = None if self.deadline == math.inf else max(self.deadline - clock.now(), 0.0)
        if not process.wait_dead(self.inbox, left):
            exit_signal(self.inbox, None, "kill")
            # It may have died by itself just then: its end is told before another one starts.
            process.wait_dead(self.inbox)
        spec, reason = self.child.spec, self.inbox.reason
        if not restart.is_expected_in_shutdown(spec.restart, spec.shutdown, reason):
            reports.child_shutdown_error(self.title, spec, self.child.ref, reason)
        self.child.stopped()
