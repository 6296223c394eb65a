"""Supervisor: ordered children, restarted by strategy: one_for_one, one_for_all, rest_for_one.

The original: https://www.erlang.org/doc/apps/stdlib/supervisor.html
"""

from __future__ import annotations

import atexit
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import structlog

from elsa_actors.otp import reports, restart
from elsa_actors.otp.child import Child, StartFailed, Stopping, start_error
from elsa_actors.otp.child_spec import (
    ChildInfo,
    ChildSpec,
    Flags,
    as_dict,
    check_all,
    check_flags,
    check_significant,
    normalise,
    override,
)
from elsa_actors.otp.gen_server import (
    Begin,
    Cast,
    GenServer,
    Request,
    call,
    report_unexpected,
    stop,
)
from elsa_actors.otp.results import Ignore, NoReply, Ok, Reply, Stop, Supervise
from elsa_actors.runtime.clock import clock
from elsa_actors.runtime.errors import AlreadyStarted, CallExit, ChildError, ChildSpecError
from elsa_actors.runtime.exits import Exit
from elsa_actors.runtime.names import strict
from elsa_actors.runtime.scheduler import here, scheduler

if TYPE_CHECKING:
    from pykka import ActorRef

log = structlog.get_logger("elsa_actors")

EXIT_SECONDS = 30.0
"""How long the end of the program waits for each named supervisor at the top of a tree."""


@dataclass(frozen=True, slots=True)
class StartChild:
    spec: ChildSpec


@dataclass(frozen=True, slots=True)
class RestartChild:
    child_id: Any


@dataclass(frozen=True, slots=True)
class TerminateChild:
    child_id: Any


@dataclass(frozen=True, slots=True)
class DeleteChild:
    child_id: Any


@dataclass(frozen=True, slots=True)
class WhichChildren:
    pass


@dataclass(frozen=True, slots=True)
class CountChildren:
    pass


@dataclass(frozen=True, slots=True)
class GetChildspec:
    child_id: Any


@dataclass(frozen=True, slots=True)
class Retry:
    """A restart failed: try it again, after what is in the mailbox."""

    key: Any


class Supervising(GenServer):
    """What both kinds of supervisor share: they trap exits, and answer nobody's odd questions."""

    trap_exit = True
    type = "supervisor"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.trap_exit is not True:
            raise TypeError(
                f"{cls.__qualname__} sets trap_exit to {cls.trap_exit!r}; supervisors always trap"
                " exits, else the end of one child would end them with all children"
            )

    def _callback_init(self, begin: Begin) -> Any:
        try:
            return super()._callback_init(begin)
        finally:
            self.trap_exit = True

    def _unknown(self, request: Any, sender: Request) -> NoReply:
        """Fail the caller of a request that no supervisor knows; the supervisor lives on."""
        report_unexpected(self, request)
        sender.fail(("unknown_request", request))
        return NoReply()

    def _retry(self, key: Any) -> None:
        """Try a restart again, after what is in the mailbox."""
        self._inbox.put(Cast(Retry(key)))

    def _gives_up(self, spec: ChildSpec, window: restart.Window) -> bool:
        """Count a restart; True, with a report, when it is one too many."""
        if window.admit(clock.now()):
            return False
        reports.reached_max_restarts(self._title(), spec, window.max_restarts, window.max_seconds)
        return True


class Supervisor(Supervising):
    """A supervisor: starts its children in order, restarts them by strategy, stops them in reverse.

    Use it as it is, `Supervisor.start_link(children, strategy=...)`, or subclass it with an
    `init(self, ...)` that answers `Supervise(children, strategy=...)` or `Ignore()`.
    """

    _quick_init = False

    # ---- the callers' side

    @classmethod
    def start_link(
        cls, *args: Any, name: Any = None, timeout: float | None = None, **kwargs: Any
    ) -> ActorRef[Self] | Any:
        """Start the supervisor and its children, linked to the running process.

        On Supervisor itself: ``children``, ``strategy``, ``max_restarts`` in ``max_seconds``
        (seconds), ``auto_shutdown``; wrong ones raise ChildSpecError here and nothing is started.
        A subclass's arguments go to its `init`. Returns when the last child has started. Raises
        StartError(("shutdown", ("failed_to_start_child", id, reason))) when one did not.
        """
        args, kwargs = cls._checked(args, kwargs)
        return cls._begin(args, kwargs, name, timeout, link=True)

    @classmethod
    def start(
        cls, *args: Any, name: Any = None, timeout: float | None = None, **kwargs: Any
    ) -> ActorRef[Self] | Any:
        """As `start_link`, linked to nobody."""
        args, kwargs = cls._checked(args, kwargs)
        return cls._begin(args, kwargs, name, timeout, link=False)

    @classmethod
    def _checked(cls, args: Any, kwargs: Any) -> tuple[Any, Any]:
        if cls.init is not Supervisor.init:
            return args, kwargs
        children, flags = _children_and_flags(*args, **kwargs)
        return (check_all(children, flags.auto_shutdown), flags), {}

    @classmethod
    def child_spec(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """On Supervisor itself: ``child_spec(child, **overrides)`` as a dictionary, keys replaced.

        On a subclass: the spec that starts it with these arguments.
        """
        if cls is Supervisor:
            return override(*args, **kwargs)
        return super().child_spec(*args, **kwargs)

    @staticmethod
    def start_child(sup: Any, child: Any) -> Any:
        """Add a child and start it: its ref, None when it ignores, (ref, info) when it says more.

        It goes to the end of the start order. Waits for ever. Raises ChildSpecError at once,
        AlreadyStarted when the id runs, ChildError("already_present") when it is known and does
        not, StartError with the bare reason; then the spec is not kept.
        """
        return ask_supervisor(sup, StartChild(normalise(child)))

    @staticmethod
    def restart_child(sup: Any, child_id: Any) -> Any:
        """Start a child that is known and not running. Returns as `start_child` does.

        Raises ChildError: "not_found", "running", "restarting"; StartError: the spec is kept.
        """
        return ask_supervisor(sup, RestartChild(child_id))

    @staticmethod
    def terminate_child(sup: Any, child_id: Any) -> None:
        """Stop a child within its shutdown time; it is not restarted, a temporary one is forgotten.

        Raises ChildError("not_found"). Waits for ever.
        """
        ask_supervisor(sup, TerminateChild(child_id))

    @staticmethod
    def delete_child(sup: Any, child_id: Any) -> None:
        """Forget a child that is not running. ChildError: "not_found", "running", "restarting"."""
        ask_supervisor(sup, DeleteChild(child_id))

    @staticmethod
    def which_children(sup: Any) -> list[ChildInfo]:
        """The children, the newest first; ``child`` is a ref, None or "restarting"."""
        children: list[ChildInfo] = ask_supervisor(sup, WhichChildren())
        return children

    @staticmethod
    def count_children(sup: Any) -> dict[str, int]:
        """How many: "specs", "active" (alive), "supervisors" and "workers" (alive or not)."""
        counts: dict[str, int] = ask_supervisor(sup, CountChildren())
        return counts

    @staticmethod
    def get_childspec(sup: Any, child_id: Any) -> dict[str, Any]:
        """The child's spec with all defaults filled in. ChildError("not_found").

        A temporary child's arguments are not kept once it runs; [] stands for them.
        """
        spec: dict[str, Any] = ask_supervisor(sup, GetChildspec(child_id))
        return spec

    @staticmethod
    def check_childspecs(children: Any) -> None:
        """Check a list of children as `start_link` does, and start nothing."""
        check_all(children)

    @staticmethod
    def stop(sup: Any, reason: Any = "normal", timeout: float | None = None) -> None:  # type: ignore[override]
        """Stop the supervisor: its children in reverse order, then itself, with ``reason``."""
        stop(sup, reason, timeout)

    # ---- the process

    def init(self, *args: Any, **_kwargs: Any) -> Any:
        """Answer Supervise(children, ...) or Ignore(); runs in the new supervisor.

        A subclass gives it the parameters that it likes: they are those of its start_link.
        """
        children, flags = args
        return Supervise(
            children, flags.strategy, flags.max_restarts, flags.max_seconds, flags.auto_shutdown
        )

    def _callback_init(self, begin: Begin) -> Any:
        supervise = self.init(*begin.args, **begin.kwargs)
        self.trap_exit = True  # Whatever init has set: the end of a child must not end it.
        if isinstance(supervise, Ignore):
            return supervise
        if not isinstance(supervise, Supervise):
            return Stop(("bad_return", (type(self), "init", supervise)))
        try:
            flags = check_flags(
                supervise.strategy,
                supervise.max_restarts,
                supervise.max_seconds,
                supervise.auto_shutdown,
            )
        except ChildSpecError as error:
            return Stop(("supervisor_data", error.reason))
        try:
            specs = check_all(supervise.children, flags.auto_shutdown)
        except ChildSpecError as error:
            return Stop(("start_spec", error.reason))
        self._check_own_names()
        self._flags = flags
        self._window = restart.Window(flags.max_restarts, flags.max_seconds)
        # In start order; a group restart keeps every child's place.
        self._children: dict[Any, Child] = {strict(spec.id): Child(spec) for spec in specs}
        self._by_ref: dict[Any, Child] = {}
        if self._inbox.parent is None and self._inbox.names:
            _stop_at_exit(self._inbox.ref)
        return self._start_all()

    def _start_all(self) -> Any:
        for child in list(self._children.values()):
            try:
                self._start(child)
            except StartFailed as failed:
                reason = _wrapped(failed)
                reports.child_start_failed(self._title(), child.spec, reason)
                self._stop_children(list(reversed(self._children.values())))
                return Stop(("shutdown", ("failed_to_start_child", child.spec.id, reason)))
        return Ok()

    def handle_call(self, request: Any, sender: Any) -> Any:
        match request:
            case StartChild(spec):
                return Reply(self._start_child(spec))
            case RestartChild(child_id):
                return Reply(self._restart_child(child_id))
            case TerminateChild(child_id):
                return Reply(self._terminate_child(child_id))
            case DeleteChild(child_id):
                return Reply(self._delete_child(child_id))
            case WhichChildren():
                return Reply([child.info() for child in reversed(self._children.values())])
            case CountChildren():
                return Reply(count(self._children.values()))
            case GetChildspec(child_id):
                child = self._children.get(_key(child_id))
                return Reply(
                    ChildError("not_found", child_id) if child is None else as_dict(child.spec)
                )
            case unknown:
                return self._unknown(unknown, sender)

    def handle_cast(self, request: Any) -> Any:
        match request:
            case Retry(key):
                child = self._children.get(key)
                if child is not None and child.restarting:
                    return self._restart(child)
                return NoReply()
            case unknown:
                return self.handle_info(unknown)

    def handle_info(self, message: Any) -> Any:
        match message:
            case Exit(ref, reason):
                child = self._by_ref.get(ref)
                return NoReply() if child is None else self._ended(child, reason)
            case unknown:
                return super().handle_info(unknown)

    def terminate(self, reason: Any) -> None:
        self._stop_children(list(reversed(self._children.values())))

    # ---- a child ended

    def _ended(self, child: Child, reason: Any) -> Any:
        spec, ref = child.spec, child.ref
        fate = restart.fate(spec.restart, reason)
        if restart.is_reported(spec.restart, reason):
            reports.child_terminated(self._title(), spec, ref, reason, fate.value)
        if fate is restart.Fate.RESTART:
            return self._restart(child)
        self._gone(child)
        if fate is restart.Fate.REMOVE:
            self._forget(child)
        others = (other for other in self._children.values() if other.is_up())
        if restart.shuts_down(self._flags.auto_shutdown, child, others):
            return Stop("shutdown")
        return NoReply()

    def _restart(self, failed: Child) -> Any:
        self._gone(failed)
        if self._gives_up(failed.spec, self._window):
            return Stop("shutdown")
        to_stop, to_start = restart.plan(self._children.values(), failed, self._flags.strategy)
        self._stop_children(to_stop)
        for child in to_start:
            try:
                self._start(child, again=True)
            except StartFailed as error:
                reports.child_start_failed(self._title(), child.spec, _wrapped(error))
                child.will_restart()
                self._retry(strict(child.spec.id))
                break
        return NoReply()

    # ---- operators

    def _start_child(self, spec: ChildSpec) -> Any:
        try:
            check_significant(spec, self._flags.auto_shutdown)
        except ChildSpecError as error:
            return error
        key = strict(spec.id)
        present = self._children.get(key)
        if present is not None:
            if present.ref is not None:
                return AlreadyStarted(
                    present.ref, f"child {spec.id!r} is already running as {present.ref!r}"
                )
            return ChildError("already_present", spec.id)
        child = Child(spec)
        try:
            answer = self._start(child)
        except StartFailed as failed:
            return start_error(_wrapped(failed), spec)
        if child.ref is not None or spec.restart != "temporary":
            self._children[key] = child
        return answer

    def _restart_child(self, child_id: Any) -> Any:
        child = self._children.get(_key(child_id))
        if child is None:
            return ChildError("not_found", child_id)
        if child.restarting:
            return ChildError("restarting", child_id)
        if child.ref is not None:
            return ChildError("running", child_id)
        try:
            return self._start(child)
        except StartFailed as failed:
            return start_error(_wrapped(failed), child.spec)

    def _terminate_child(self, child_id: Any) -> Any:
        child = self._children.get(_key(child_id))
        if child is None:
            return ChildError("not_found", child_id)
        self._stop_children([child])
        return None

    def _delete_child(self, child_id: Any) -> Any:
        child = self._children.get(_key(child_id))
        if child is None:
            return ChildError("not_found", child_id)
        if child.restarting:
            return ChildError("restarting", child_id)
        if child.ref is not None:
            return ChildError("running", child_id)
        self._forget(child)
        return None

    # ---- children

    def _start(self, child: Child, again: bool = False) -> Any:
        answer = child.start()
        ref = child.ref
        if ref is not None:
            self._by_ref[ref] = child
            (reports.child_restarted if again else reports.child_started)(
                self._title(), child.spec, ref
            )
        elif child.restart == "temporary":
            self._forget(child)
        return answer

    def _stop_children(self, children: list[Child]) -> None:
        """Stop these, one after the other."""
        for child in children:
            if child.ref is not None:
                self._by_ref.pop(child.ref, None)
                Stopping(self._inbox, self._title(), child).finish()
            child.stopped()
            if child.restart == "temporary":
                self._forget(child)

    def _gone(self, child: Child) -> None:
        if child.ref is not None:
            self._by_ref.pop(child.ref, None)
        child.stopped()

    def _forget(self, child: Child) -> None:
        self._children.pop(strict(child.spec.id), None)


def _children_and_flags(children: Any, *args: Any, **flags: Any) -> tuple[Any, Flags]:
    return children, check_flags(*args, **flags)


def _key(child_id: Any) -> Any:
    """The key of a child id; what cannot be one is no child's."""
    try:
        return strict(child_id)
    except TypeError:
        return None


def _wrapped(failed: StartFailed) -> Any:
    """A static supervisor's word for a start function that raised: ("EXIT", what)."""
    return ("EXIT", failed.reason) if failed.raised else failed.reason


def ask_supervisor(sup: Any, request: Any) -> Any:
    """Call a supervisor, for as long as it takes; an error that it answers is raised here."""
    answer = call(sup, request, None)
    if isinstance(answer, Exception):
        raise answer
    return answer


def count(children: Iterable[Child]) -> dict[str, int]:
    """Count children as count_children shows them."""
    counts = {"specs": 0, "active": 0, "supervisors": 0, "workers": 0}
    for child in children:
        counts["specs"] += 1
        counts["supervisors" if child.spec.type == "supervisor" else "workers"] += 1
        if child.ref is not None and child.ref.is_alive():
            counts["active"] += 1
    return counts


# ---- the end of the program

_tops: list[ActorRef[Any]] = []


def _stop_at_exit(ref: ActorRef[Any]) -> None:
    _tops[:] = [top for top in _tops if top.is_alive()] + [ref]


@atexit.register
def _stop_tops() -> None:
    """Stop the named supervisors at the top of trees, the newest first."""
    if here.inbox is not None or scheduler.forked:
        return
    for top in reversed(_tops):
        try:
            stop(top, "shutdown", EXIT_SECONDS)
        except CallExit as error:
            if error.reason != "noproc":
                log.error("exit_unclean", supervisor=str(top), reason=error.reason)
