"""Task: run one function in a process of its own, and fetch its result when it is wanted.

The original: https://hexdocs.pm/elixir/Task.html
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from elsa_actors.otp.dynamic_supervisor import DynamicSupervisor
from elsa_actors.otp.gen_server import GenServer
from elsa_actors.otp.results import Continue, Ignore, Ok, Stop
from elsa_actors.runtime import process
from elsa_actors.runtime.death import drop_link, exit_signal
from elsa_actors.runtime.errors import CallExit, CallTimeout, NoProcess
from elsa_actors.runtime.exits import is_word
from elsa_actors.runtime.mailbox import Ask, Mailbox
from elsa_actors.runtime.scheduler import fence
from elsa_actors.runtime.waiting import check_timeout, deadline_of, new_slot, remaining, wait

T = TypeVar("T")


@dataclass(frozen=True, slots=True, repr=False)
class Run:
    """A task's function and its arguments."""

    fn: Callable[..., Any]
    args: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not callable(self.fn):
            raise TypeError(f"expected a task to be a function and its arguments, got: {self.fn!r}")

    def __repr__(self) -> str:
        # The number of arguments: they themselves may hold passwords, and this goes into logs.
        name = getattr(self.fn, "__qualname__", None) or type(self.fn).__qualname__
        return f"{name}/{len(self.args)}"


class Outcome(Ask):
    """What comes of a task that has an owner: its value, or the reason of its end."""

    __slots__ = ()

    def __init__(self, run: Run, owner: Mailbox | None) -> None:
        super().__init__(run, owner, None)  # type: ignore[arg-type]

    def wait(self, timeout: float | None) -> bool:
        return self.is_answered(timeout)


class TaskProcess(GenServer):
    """The process of a task: runs its function, hands the value over, ends with "normal"."""

    restart = "temporary"
    _quick_init = True

    def init(self, run: Run, outcome: Outcome | None = None) -> Any:
        self._outcome = outcome
        if outcome is not None:
            self._inbox.later(outcome)  # From here on its own death settles it.
            if outcome.asker is not None:
                try:
                    process.link(outcome.asker.ref)
                except NoProcess:
                    return Ignore()  # Nobody is left to want the result.
        return Ok(then=Continue(run))

    def handle_continue(self, argument: Run) -> Any:
        value = argument.fn(*argument.args)
        outcome, inbox = self._outcome, self._inbox
        if outcome is not None:
            if outcome.asker is not None:
                # Before the answer: an owner that traps exits, and goes on at once, must not find
                # the Exit of a task that did well in its mail.
                drop_link(inbox, outcome.asker)
            with inbox.lock:
                inbox.check_alive()
                outcome.answer(value)
        return Stop("normal")


class TaskSupervisor(DynamicSupervisor):
    """A supervisor of tasks, `Task.Supervisor`: none of them is ever restarted.

    >>> tasks = Task.Supervisor.start_link(name="tasks")
    >>> task = Task.Supervisor.async_("tasks", pow, 2, 5)
    >>> task.await_()
    32
    >>> Task.Supervisor.stop("tasks")

    """

    @staticmethod
    def async_(sup: Any, fn: Callable[..., T], *args: Any) -> Task[T]:
        """As `Task.async_`, under the supervisor ``sup``; the task is linked to its owner as well.

        Raises what `DynamicSupervisor.start_child` raises.
        """
        me = fence()
        outcome = Outcome(Run(fn, args), me)
        return Task(
            DynamicSupervisor.start_child(sup, _supervised(outcome.message, outcome)), outcome
        )

    @staticmethod
    def start_child(sup: Any, child: Callable[..., Any], *args: Any) -> Any:
        """Start a task, ``child(*args)``, that nobody waits for, and return its ref."""
        return DynamicSupervisor.start_child(sup, _supervised(Run(child, args)))

    @staticmethod
    def children(sup: Any) -> list[Any]:
        """The refs of the tasks that run."""
        return [info.child for info in DynamicSupervisor.which_children(sup)]


class Task(Generic[T]):
    """A function that runs in a process of its own, and whose result its owner can fetch once.

        >>> task = Task.async_(pow, 2, 10)
        >>> task.await_()
        1024

    The owner is the process that started it. The two are linked: a task that fails ends an owner
    that does not trap exits, and an owner that fails ends its task. When the owner is a plain
    thread there is no link, and any plain thread may fetch the result.
    """

    Supervisor = TaskSupervisor

    __slots__ = ("_outcome", "_taken", "ref")

    def __init__(self, ref: Any, outcome: Outcome) -> None:
        self.ref = ref
        self._outcome = outcome
        self._taken = False

    # ---- start

    @staticmethod
    def async_(fn: Callable[..., T], *args: Any) -> Task[T]:
        """Run ``fn(*args)``, which may block, in a new process, linked to this one; do not wait."""
        me = fence()
        outcome = Outcome(Run(fn, args), me)
        return Task(TaskProcess.start_link(outcome.message, outcome), outcome)

    @staticmethod
    def start(fn: Callable[..., Any], *args: Any) -> Any:
        """Run ``fn(*args)`` in a new process that nobody waits for; returns its ref. Not linked."""
        return TaskProcess.start(Run(fn, args))

    @staticmethod
    def start_link(fn: Callable[..., Any], *args: Any) -> Any:
        """As `start`, linked to the running process: for a task under a supervisor."""
        return TaskProcess.start_link(Run(fn, args))

    @staticmethod
    def child_spec(fn: Callable[..., Any], *args: Any) -> dict[str, Any]:
        """The child spec of a task; it is temporary, since what is done is done."""
        Run(fn, args)
        return {"id": "Task", "start": (Task, "start_link", [fn, *args]), "restart": "temporary"}

    # ---- the owner's side

    @property
    def owner(self) -> Any:
        """The ref of the process that may fetch the result; None when plain threads may."""
        asker = self._outcome.asker
        return None if asker is None else asker.ref

    def await_(self, timeout: float | None = 5.0) -> T:
        """The value that the function returned; waits ``timeout`` seconds for it, None for ever.

        Raises CallExit with the task's reason when it ended without one, and CallTimeout: then the
        result is given up, and the task runs on. Whoever awaits the result a second time waits in
        vain, as for a message that was taken: CallTimeout. Another process: RuntimeError.
        """
        outcome = self._outcome_of_mine("await_", timeout)
        if self._taken:
            if timeout is not None:
                wait(new_slot(), timeout)
            again = CallTimeout(self.ref, self, timeout)
            again.message = f"expected to await a result once, got: {self!r}; keep the value"
            raise again
        self._taken = True
        if not outcome.wait(timeout):
            raise CallTimeout(self.ref, self, timeout)
        succeeded, value = outcome.answers[0]
        if not succeeded:
            raise CallExit(value, self.ref, self)
        result: T = value
        return result

    def yield_(self, timeout: float | None = 5.0) -> tuple[str, Any] | None:
        """What there is within ``timeout`` seconds: ("ok", value), ("exit", reason), or None.

        After None it can be asked again. Another process: RuntimeError.
        """
        outcome = self._outcome_of_mine("yield_", timeout)
        if self._taken:
            if timeout is not None:
                wait(new_slot(), timeout)
            return None
        if not outcome.wait(timeout):
            return None
        self._taken = True
        succeeded, value = outcome.answers[0]
        return ("ok" if succeeded else "exit", value)

    def shutdown(self, timeout: float | str | None = 5.0) -> tuple[str, Any] | None:
        """Unlink the task and end it; returns when it is dead.

        ("ok", value) when it had a value already, None when it had not, ("exit", reason) when it
        ended by itself before, or was killed because it had not ended after ``timeout`` seconds.
        ``timeout="brutal_kill"`` kills at once. Another process: RuntimeError.
        """
        brutal = is_word(timeout, "brutal_kill")
        seconds: Any = None if brutal else timeout
        outcome = self._outcome_of_mine("shutdown", seconds)
        me, inbox = outcome.asker, self.ref._inbox
        deadline = deadline_of(seconds)
        if me is not None:
            drop_link(me, inbox)
        exit_signal(inbox, me, "kill" if brutal else "shutdown")
        if not outcome.wait(remaining(deadline)) or not process.wait_dead(
            inbox, remaining(deadline)
        ):
            exit_signal(inbox, me, "kill")
            outcome.wait(None)
        taken, self._taken = self._taken, True
        succeeded, value = outcome.answers[0]
        if taken:
            return None
        if succeeded:
            return ("ok", value)
        if is_word(value, "killed" if brutal else "shutdown"):
            return None
        return ("exit", value)

    def _outcome_of_mine(self, what: str, timeout: Any) -> Outcome:
        check_timeout(timeout)
        me, outcome = fence(), self._outcome
        if me is not outcome.asker:
            owner = "a plain thread" if self.owner is None else repr(self.owner)
            other = "a plain thread" if me is None else repr(me.ref)
            raise RuntimeError(
                f"expected {what} of {self!r} to be called by its owner, {owner}, got: {other};"
                " let the owner fetch the result and send it on"
            )
        return outcome

    def __repr__(self) -> str:
        state = "taken" if self._taken else "done" if self._outcome.answers else "running"
        return f"<Task {self._outcome.message!r} {state}>"


def _supervised(run: Run, *outcome: Outcome) -> dict[str, Any]:
    return {
        "id": "Task",
        "start": (TaskProcess, "start_link", [run, *outcome]),
        "restart": "temporary",
    }


__all__ = ["Task", "TaskSupervisor"]
