"""run: the main thread's door to a supervision tree."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Mapping
from functools import partial
from types import FrameType
from typing import Any, Self

import structlog

from elsa_actors.otp.child_spec import ChildSpec, normalise
from elsa_actors.otp.restart import Window
from elsa_actors.otp.supervisor import Supervisor
from elsa_actors.runtime import process
from elsa_actors.runtime.actor import Process, ProcessRef
from elsa_actors.runtime.death import DeathSlot
from elsa_actors.runtime.errors import ChildSpecError, StartError
from elsa_actors.runtime.exits import is_clean, is_word
from elsa_actors.runtime.links import ties_of
from elsa_actors.runtime.mailbox import Halt, Mailbox
from elsa_actors.runtime.scheduler import check_fork

log = structlog.get_logger("elsa_actors")

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run(children_or_spec: Any, *, name: Any = None, **flags: Any) -> int:
    """Start a supervision tree, wait for its end or a signal, stop it; the exit code, for sys.exit.

    A list of children gets a supervisor at the top, ``name``, with these ``flags``: those of
    `Supervisor.start_link`. So does a single child; but one that is a supervisor itself, given
    without name and flags, stands at the top.

    SIGINT (Ctrl-C) and SIGTERM stop the tree in order, each child within its shutdown time; while
    the tree is being started, as soon as it is. A second one ends the program at once, as if
    nobody handled it: nothing more is stopped or written.

    Returns 0 when the tree was stopped or ended cleanly: with "normal", "shutdown" or
    ("shutdown", x), or had nothing to run. Returns 1 when the top supervisor gave up (too many
    restarts) or ended otherwise, and when the tree did not start: the event
    ``program_start_failed`` says why.

    Blocks the main thread; signal handlers are put back at the end. Raises ChildSpecError for
    wrong children and flags, RuntimeError on another thread or in a process.

        if __name__ == "__main__":
            sys.exit(run([Till, (Clerk, "Ann")], name="shop", strategy="rest_for_one"))

    A program that is over when its work is done:

        >>> from elsa_actors.otp.task import Task
        >>> job = Task.child_spec(print, "working") | {"significant": True}
        >>> run([job], auto_shutdown="any_significant")
        working
        0

    """
    check_fork()
    if process.current() is not None:
        raise RuntimeError(
            "run() is for the main thread, and this is a process"
            f" ({process.current()!r}); start a supervisor there: Supervisor.start_link(...)"
        )
    with Signals() as signals:
        start = _start_of(children_or_spec, name, flags)
        try:
            top = start()
        except ChildSpecError:
            raise
        except StartError as error:
            return _start_failed(error.reason)
        except Exception as error:  # noqa: BLE001  (a start function may raise anything)
            return _start_failed(error)
        if top is None:
            log.info("program_ignored")
            return 0
        ref = top[0] if isinstance(top, tuple) and len(top) == 2 else top
        if not isinstance(ref, ProcessRef):
            return _start_failed(("bad_return_value", top))
        return _run_to_the_end(ref, signals)


class Signals:
    """The first SIGINT or SIGTERM of a program is noted, the second ends it.

    The main thread waits at a socket, not at a lock: Python lets it sleep on when a signal comes
    just before it falls asleep at a lock, or is given to another thread. A byte stays.
    """

    def __init__(self) -> None:
        self.caught: signal.Signals | None = None
        self._ear, self._bell = socket.socketpair()
        self._bell.setblocking(False)
        self._before: dict[signal.Signals, Any] = {}
        self._fd_before = -1

    def __enter__(self) -> Self:
        try:
            self._fd_before = signal.set_wakeup_fd(self._bell.fileno(), warn_on_full_buffer=False)
            for number in SIGNALS:
                self._before[number] = signal.signal(number, self._handle)
        except ValueError:
            self._close()
            raise RuntimeError(
                "run() is for the main thread, which alone gets signals, and this is another;"
                " start a supervisor here: Supervisor.start_link(...)"
            ) from None
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            # None: it was set by C code, and Python cannot put it back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        signal.set_wakeup_fd(self._fd_before)
        self._close()

    def _close(self) -> None:
        self._ear.close()
        self._bell.close()

    def wait(self) -> None:
        """Wait for a signal, or for `release`; it may return without either."""
        self._ear.recv(64)

    def release(self) -> None:
        """Wake the main thread, as a lock that it waits at."""
        try:
            self._bell.send(b"!")
        except OSError:
            pass  # It has been woken so often that it will wake, or it waits no more.

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        # Nothing here may wait for a lock: the code that was interrupted may hold it.
        if self.caught is not None:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.caught = signal.Signals(number)


class Top(Supervisor):
    """The supervisor that run makes; it tells run that it gave up, which its reason hides."""

    def _gives_up(self, spec: ChildSpec, window: Window) -> bool:
        gives_up = super()._gives_up(spec, window)
        if gives_up:
            _gave_up.add(self._inbox.ref)
        return gives_up


_gave_up: set[Any] = set()


def _start_of(children: Any, name: Any, flags: Mapping[str, Any]) -> Callable[[], Any]:
    """What starts the top of the tree."""
    single = isinstance(children, str | bytes | tuple | Mapping | type | ChildSpec)
    if single:
        spec = normalise(children)
        if spec.type == "supervisor" and name is None and not flags:
            return spec.call
        children = [spec]
    return partial(Top.start_link, children, name=name, **flags)


def _start_failed(reason: Any) -> int:
    log.error(
        "program_start_failed",
        reason=reason,
        exc_info=reason if isinstance(reason, BaseException) else None,
    )
    return 1


def _run_to_the_end(top: ProcessRef, signals: Signals) -> int:
    inbox = top._inbox
    supervisor = inbox.process
    _wake_at_death(inbox, signals)
    while signals.caught is None and not inbox.is_dead():
        signals.wait()
    if signals.caught is None:
        return 0 if is_clean(inbox.reason) and not _has_given_up(top, supervisor) else 1
    log.info("program_stopping", signal=signals.caught.name)
    inbox.put(Halt("shutdown"))
    while not inbox.is_dead():
        signals.wait()
    return 0 if is_clean(inbox.reason) else 1


def _wake_at_death(inbox: Mailbox, signals: Signals) -> None:
    with inbox.lock:
        if not inbox.is_dead():
            ties_of(inbox).watchers[DeathSlot(signals)] = None


def _has_given_up(top: ProcessRef, supervisor: Process | None) -> bool:
    """Whether a supervisor that ended by itself had to restart too often."""
    if issubclass(top.actor_class, Top):
        gave_up = top in _gave_up
        _gave_up.discard(top)
        return gave_up
    if not is_word(top._inbox.reason, "shutdown"):
        return False
    if supervisor is None:
        return True  # It ended too soon to be looked at; most likely it could not do its work.
    window = getattr(supervisor, "_window", None)
    return window is not None and len(window._restarts) > window.max_restarts
