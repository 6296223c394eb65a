"""DynamicSupervisor: children on demand, in no order, stopped side by side.

The original: https://hexdocs.pm/elixir/DynamicSupervisor.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from elsa_actors.otp import reports, restart
from elsa_actors.otp.child import Child, StartFailed, Stopping, start_error
from elsa_actors.otp.child_spec import (
    ChildInfo,
    ChildSpec,
    DynamicFlags,
    check_dynamic_flags,
    normalise_dynamic,
)
from elsa_actors.otp.gen_server import stop
from elsa_actors.otp.results import NoReply, Ok, Reply, Stop
from elsa_actors.otp.supervisor import (
    CountChildren,
    Retry,
    StartChild,
    Supervising,
    TerminateChild,
    WhichChildren,
    ask_supervisor,
    count,
)
from elsa_actors.runtime.errors import ChildError
from elsa_actors.runtime.exits import Exit

if TYPE_CHECKING:
    from pykka import ActorRef


class DynamicSupervisor(Supervising):
    """A supervisor that starts with no child and gets them by `start_child`.

    Its children need no ids of their own. It knows the one strategy one_for_one.
    """

    _quick_init = True

    @classmethod
    def start_link(
        cls, *flags: Any, name: Any = None, timeout: float | None = None, **more: Any
    ) -> ActorRef[Self] | Any:
        """Start it, linked to the running process.

        ``max_children`` (an int or "infinity"), ``extra_arguments`` (put before those of every
        start function), ``max_restarts`` in ``max_seconds`` (seconds). Raises ChildSpecError for
        wrong ones, AlreadyStarted.
        """
        return cls._begin((check_dynamic_flags(*flags, **more),), {}, name, timeout, link=True)

    @classmethod
    def start(
        cls, *flags: Any, name: Any = None, timeout: float | None = None, **more: Any
    ) -> ActorRef[Self] | Any:
        """As `start_link`, linked to nobody."""
        return cls._begin((check_dynamic_flags(*flags, **more),), {}, name, timeout, link=False)

    @staticmethod
    def start_child(sup: Any, child: Any) -> Any:
        """Start a child: its ref, None when it ignores (nothing is kept), (ref, info).

        Raises ChildSpecError in the caller at once, ChildError("max_children"), StartError with
        the reason as it is. Waits for ever.
        """
        return ask_supervisor(sup, StartChild(normalise_dynamic(child)))

    @staticmethod
    def terminate_child(sup: Any, ref: Any) -> None:
        """Stop a child within its shutdown time, and forget it. ChildError("not_found")."""
        ask_supervisor(sup, TerminateChild(ref))

    @staticmethod
    def which_children(sup: Any) -> list[ChildInfo]:
        """The children, in no order; their ids are None."""
        children: list[ChildInfo] = ask_supervisor(sup, WhichChildren())
        return children

    @staticmethod
    def count_children(sup: Any) -> dict[str, int]:
        """How many: "specs", "active" (alive), "supervisors" and "workers"."""
        counts: dict[str, int] = ask_supervisor(sup, CountChildren())
        return counts

    @staticmethod
    def stop(sup: Any, reason: Any = "normal", timeout: float | None = None) -> None:  # type: ignore[override]
        """Stop it: all children at once, each within its own shutdown time, then itself."""
        stop(sup, reason, timeout)

    # ---- the process

    def init(self, flags: DynamicFlags) -> Any:
        self._flags = flags
        self._window = restart.Window(flags.max_restarts, flags.max_seconds)
        # By ref; a child that is being restarted stands under the ref it had.
        self._children: dict[Any, Child] = {}
        return Ok()

    def handle_call(self, request: Any, sender: Any) -> Any:
        match request:
            case StartChild(spec):
                return Reply(self._start_child(spec))
            case TerminateChild(ref):
                return Reply(self._terminate_child(ref))
            case WhichChildren():
                return Reply([_nameless(child.info()) for child in self._children.values()])
            case CountChildren():
                return Reply(count(self._children.values()))
            case unknown:
                return self._unknown(unknown, sender)

    def handle_cast(self, request: Any) -> Any:
        match request:
            case Retry(key):
                child = self._children.get(key)
                if child is not None and child.restarting:
                    return self._restart(key, child)
                return NoReply()
            case unknown:
                return self.handle_info(unknown)

    def handle_info(self, message: Any) -> Any:
        match message:
            case Exit(ref, reason):
                child = self._children.get(ref)
                if child is None or child.ref is not ref:
                    return NoReply()
                return self._ended(child, reason)
            case unknown:
                return super().handle_info(unknown)

    def terminate(self, reason: Any) -> None:
        title = self._title()
        running = [child for child in self._children.values() if child.ref is not None]
        self._children.clear()
        # All are told before one is waited for, and the shortest time is waited for first: so each
        # has its own time, and no more.
        told = [Stopping(self._inbox, title, child) for child in running]
        for stopping in sorted(told, key=lambda one: one.deadline):
            stopping.finish()

    def _ended(self, child: Child, reason: Any) -> Any:
        spec, ref = child.spec, child.ref
        fate = restart.fate(spec.restart, reason)
        if restart.is_reported(spec.restart, reason):
            reports.child_terminated(self._title(), spec, ref, reason, fate.value)
        if fate is restart.Fate.RESTART:
            return self._restart(ref, child)
        del self._children[ref]
        return NoReply()

    def _restart(self, key: Any, child: Child) -> Any:
        child.will_restart()
        if self._gives_up(child.spec, self._window):
            return Stop("shutdown")
        try:
            child.start(self._flags.extra_arguments)
        except StartFailed as failed:
            reports.child_start_failed(self._title(), child.spec, failed.reason)
            self._retry(key)
            return NoReply()
        del self._children[key]
        if child.ref is not None:
            self._children[child.ref] = child
            reports.child_restarted(self._title(), child.spec, child.ref)
        return NoReply()

    def _start_child(self, spec: ChildSpec) -> Any:
        if len(self._children) >= self._flags.max_children:
            return ChildError("max_children", spec.id)
        child = Child(spec)
        try:
            answer = child.start(self._flags.extra_arguments)
        except StartFailed as failed:
            return start_error(failed.reason, spec)
        if child.ref is not None:
            self._children[child.ref] = child
            reports.child_started(self._title(), spec, child.ref)
        return answer

    def _terminate_child(self, ref: Any) -> Any:
        try:
            child = self._children.pop(ref, None)
        except TypeError:
            child = None
        if child is None:
            return ChildError("not_found", ref)
        if child.ref is not None:
            Stopping(self._inbox, self._title(), child).finish()
        child.stopped()
        return None


def _nameless(info: ChildInfo) -> ChildInfo:
    return info._replace(id=None)
