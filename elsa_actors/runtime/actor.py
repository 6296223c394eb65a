"""Process: a Pykka actor that can crash and be noticed; its ref, its life, its death."""

from __future__ import annotations

import contextvars
import logging
import queue
import random
import sys
import threading
import uuid
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, ClassVar, Self

import pykka
import structlog
from pykka._envelope import Envelope
from pykka.messages import _ActorStop

from elsa_actors.runtime.clock import clock
from elsa_actors.runtime.death import both, die, drop_link, exit_signal
from elsa_actors.runtime.errors import CallingSelf, NoProcess
from elsa_actors.runtime.exits import Exit, ProcessExit, is_clean
from elsa_actors.runtime.links import ties_of
from elsa_actors.runtime.living import forget, living
from elsa_actors.runtime.mailbox import ALIVE, FAIR_SHARE, Ask, Halt, Internal, Mailbox
from elsa_actors.runtime.names import local_names
from elsa_actors.runtime.scheduler import (
    OwnThread,
    check_fork,
    fence,
    here,
    report,
    scheduler,
    wake,
)
from elsa_actors.runtime.waiting import new_slot, wait

pykka_log = logging.getLogger("pykka")
log = structlog.get_logger("elsa_actors")

_random = random.Random()
_urn_lock = threading.RLock()

_ExceptionType = type[BaseException] | None
_LAST = (-1,)

OWNED_SECONDS = 5.0
"""How long what a process owns may take to close before its end is told all the same."""


# Pykka's own list becomes ours; who is in it already stays.
for _ref in pykka.ActorRegistry._actor_refs:
    living.append(_ref)
pykka.ActorRegistry._actor_refs = living  # type: ignore[assignment]


_OURS = ("elsa_actors.otp.", "elsa_actors.runtime.", "elsa_actors.program", "pykka.")
_SET_IN_INIT = ("elsa_actors.otp.registry", "elsa_actors.otp.wrapper")
"""Whose classes set their own attributes in an `init` that users' subclasses inherit."""


def _private_names(cls: type) -> frozenset[str]:
    names: set[str] = set()
    for base in cls.__mro__[1:]:
        if base.__module__.startswith(_OURS):
            names.update(base.__dict__)
    # Attributes of every process, and what Python and we write into every class.
    names -= {"_inbox", "_last_message", "_abc_impl", "_private", "_quick_init"}
    return frozenset(n for n in names if n.startswith("_") and not n.startswith("__"))


def _own_data(cls: type) -> set[str]:
    """The attributes that our own `init` sets in an object of a user's class."""
    names: set[str] = set()
    for base in cls.__mro__[1:]:
        if base.__module__ in _SET_IN_INIT:
            names.update(n for n, v in base.__dict__.items() if not hasattr(type(v), "__get__"))
    return names


def users_frames(traceback: TracebackType | None) -> TracebackType | None:
    """A traceback without our own frames at its head: a state that is hidden stands in them.

    A renderer that shows the locals of frames would show it. The last frame always stays.
    """
    while traceback is not None and traceback.tb_next is not None:
        if not str(traceback.tb_frame.f_globals.get("__name__")).startswith(_OURS):
            break
        traceback = traceback.tb_next
    return traceback


class ActorDead(NoProcess, pykka.ActorDeadError):
    """A message by `tell`, `ask` or a proxy met a dead actor."""


class Answer(pykka.Future[Any]):
    """The future that `ask` returns; any thread or process may wait for it."""

    def __init__(self) -> None:
        super().__init__()
        # One slot for each that waits: a death wakes its own process and nobody else.
        self._slots: list[Any] = []
        # (True, value) or (False, (exception, traceback)); the first one counts.
        self._outcomes: list[tuple[bool, Any]] = []

    def get(self, *, timeout: float | None = None) -> Any:
        fence()
        try:
            return super().get(timeout=timeout)
        except NotImplementedError:
            pass
        if not self._outcomes:
            slot = new_slot()
            self._slots.append(slot)
            try:
                # The slot first, then the look: the answer does it the other way round.
                if not self._outcomes and not wait(slot, timeout) and not self._outcomes:
                    raise pykka.Timeout(f"{timeout} seconds")
            finally:
                self._slots.remove(slot)
        succeeded, outcome = self._outcomes[0]
        if succeeded:
            return outcome
        exception, traceback = outcome
        raise exception.with_traceback(traceback)

    def set(self, value: Any = None) -> None:
        self._settle(True, value)

    def set_exception(self, exc_info: Any = None) -> None:
        exception_type, exception, traceback = exc_info or sys.exc_info()
        if exception is None and exception_type is not None:
            exception = exception_type()
        self._settle(False, (exception, traceback))

    def set_get_hook(self, func: Callable[[float | None], Any]) -> None:
        if self._outcomes:
            raise queue.Full
        super().set_get_hook(func)

    def _settle(self, succeeded: bool, outcome: Any) -> None:
        if self._outcomes or self._get_hook is not None:
            raise queue.Full
        try:
            self._outcomes.append((succeeded, outcome))
            self.repair()
        except BaseException:  # Ctrl-C, or a RecursionError.
            scheduler.watchdog.alarms.put(self.repair)
            raise

    def repair(self) -> None:
        """Wake all who wait, if there is an outcome."""
        for slot in tuple(self._slots) if self._outcomes else ():
            wake(slot)


class Asked(Ask):
    """A message by `ask`, whose answer goes to a future."""

    __slots__ = ("future",)

    def __init__(self, message: Any, asker: Mailbox | None, target: Mailbox) -> None:
        super().__init__(message, asker, target)
        self.future = Answer()

    def answer(self, value: Any) -> None:
        self._settle(True, value)

    def fail(self, reason: Any) -> None:
        if isinstance(self.message, _ActorStop):
            self.answer(None)  # It asked for the end, and here it is.
        else:
            process_class = self.target.ref.actor_class
            self.fail_with(process_class._ask_failure(self, reason))

    def fail_with(self, error: BaseException) -> None:
        self._settle(False, (error, error.__traceback__))

    def _settle(self, succeeded: bool, outcome: Any) -> None:
        try:
            self.future._settle(succeeded, outcome)
        except queue.Full:
            pass  # The first answer counts.


class ProcessRef(pykka.ActorRef[Any]):
    """A handle to a process; it outlives it, and may be passed around freely."""

    __slots__ = ("_inbox", "_urn", "actor_class")

    def __init__(self, process: Process) -> None:
        self._inbox: Mailbox = process._inbox
        self._urn: str | None = None
        self.actor_class = type(process)

    @property
    def actor_urn(self) -> str:  # type: ignore[override]
        if self._urn is None:
            with _urn_lock:
                if self._urn is None:
                    # As uuid4, without its system call, in which another thread would take over.
                    self._urn = uuid.UUID(int=_random.getrandbits(128), version=4).urn
        return self._urn

    @property
    def actor_inbox(self) -> Mailbox:  # type: ignore[override]
        return self._inbox

    @property
    def actor_stopped(self) -> threading.Event:  # type: ignore[override]
        return self._inbox.stopped()

    def _actor_weakref(self) -> Any:  # type: ignore[override]
        return self._inbox.process

    def is_alive(self) -> bool:
        check_fork()  # Even a leftover may ask: it is how it learns that it is dead.
        inbox = self._inbox
        return inbox.reason is ALIVE and not inbox.closing

    def tell(self, message: Any) -> None:
        """Send a message without waiting; ActorDeadError when the process is dead."""
        check_fork()
        inbox, me = self._inbox, here.inbox
        if me is None:
            delivered = not inbox.closing and inbox.put(message)
        else:
            with me.lock:
                me.check_alive()
                delivered = not inbox.closing and inbox.put(message)
        if not delivered:
            raise ActorDead(self, message, f"{self} not found")

    def ask(self, message: Any, *, block: bool = True, timeout: float | None = None) -> Any:
        """Send a message and get the answer, or with ``block=False`` a future of it.

        ``timeout`` is in seconds, None waits for ever. Raises what the process raised,
        pykka.Timeout, ActorDeadError when it is dead, and CallingSelf when a process waits for
        itself.
        """
        check_fork()
        inbox, me = self._inbox, here.inbox
        if block and inbox is me:
            fence()
            raise CallingSelf(self, message)
        asked = Asked(message, me, inbox)
        if me is None:
            delivered = not inbox.closing and inbox.put(asked)
        else:
            with me.lock:
                me.check_alive()
                delivered = not inbox.closing and inbox.put(asked)
        if not delivered:
            asked.future = Answer()
            asked.fail_with(ActorDead(self, message, f"{self} not found"))
        return asked.future.get(timeout=timeout) if block else asked.future

    def stop(self, *, block: bool = True, timeout: float | None = None) -> Any:
        """Stop the process after what is in its mailbox; False when it was dead.

        With ``block=False`` a future of that. Raises CallingSelf when a process waits for itself.
        """
        fence()
        if block and self._inbox is here.inbox:
            raise CallingSelf(self, "stop")
        return super().stop(block=block, timeout=timeout)

    def proxy(self) -> Any:
        """A Pykka proxy: attributes and methods of the process, from outside."""
        fence()
        if not self.is_alive():
            raise ActorDead(self, None, f"{self} not found")
        return super().proxy()

    # A ref is a value, equal to itself alone: a copy would be nobody's.
    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: Any) -> Self:
        return self

    def __reduce__(self) -> Any:
        raise TypeError(
            f"cannot pickle {self!r}: a ref belongs to its program; send a name instead"
        )


def is_plain_actor(ref: Any) -> bool:
    """Whether this is the ref of a Pykka actor that is no process."""
    return isinstance(ref, pykka.ActorRef) and not isinstance(ref, ProcessRef)


class _Start(Internal):
    """The first message of a life."""

    def __repr__(self) -> str:
        return "START"


START = _Start()


class Process(pykka.Actor):
    """A process: runs one message at a time, can be linked, monitored, killed, supervised.

    A plain Process is a Pykka actor in the place of `pykka.ThreadingActor`: `on_start`,
    `on_receive`, `on_stop` and `on_failure` work as Pykka documents them. A subclass of it can be
    listed in a supervisor.
    """

    trap_exit: Any = False
    """Whether exit signals arrive as `Exit` messages instead of ending the process."""
    dedicated_thread: ClassVar[bool] = False
    """Whether the process has a thread of its own, for libraries that are bound to one."""
    inline: ClassVar[bool] = False
    """Whether callers may run the handlers on their own threads; only for what never blocks."""
    unwind: ClassVar[bool] = True
    """Whether code that runs on after its process died may be ended by an exception in it."""

    id: ClassVar[Any] = None
    restart: ClassVar[str | None] = None
    shutdown: ClassVar[Any] = None
    type: ClassVar[str | None] = None
    significant: ClassVar[bool | None] = None

    _inbox: Mailbox
    _last_message: Any = None

    _serves: ClassVar[bool] = False
    """Whether it is a server, which tells casts from other messages."""
    _private: ClassVar[frozenset[str]] = frozenset()
    """What the base classes of a user's class need for themselves, and no object of it may set."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__module__.startswith(_OURS):
            return
        private = _private_names(cls)
        for name in private.intersection(cls.__dict__):
            raise TypeError(
                f"{cls.__qualname__} defines {name}, which its base class needs for itself;"
                " give yours another name"
            )
        cls._private = private - _own_data(cls)

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        self._set_up()

    def _set_up(self) -> None:
        inbox = Mailbox(self)
        # Held until the launch: mail may come as soon as somebody knows the ref.
        inbox.token.acquire()
        self._inbox = inbox
        inbox.ref = ProcessRef(self)

    def _check_own_names(self) -> None:
        """Refuse an attribute that is called as something of ours: it would stand in its place."""
        if self._private.isdisjoint(self.__dict__):
            return
        for name in self._private.intersection(self.__dict__):
            raise TypeError(
                f"{type(self).__qualname__} sets self.{name}, which its base class needs for"
                " itself; give yours another name"
            )

    # ---- Pykka's attributes

    @property
    def _actor_ref(self) -> Any:  # type: ignore[override]
        return self._inbox.ref

    @property
    def actor_urn(self) -> str:  # type: ignore[override]
        urn: str = self._inbox.ref.actor_urn
        return urn

    @property
    def actor_inbox(self) -> Any:  # type: ignore[override]
        return self._inbox

    @property
    def actor_stopped(self) -> threading.Event:  # type: ignore[override]
        return self._inbox.stopped()

    @staticmethod
    def _create_actor_inbox() -> Any:
        raise NotImplementedError("a process makes its own mailbox")

    @staticmethod
    def _create_future() -> Any:
        return Answer()

    # ---- start

    @classmethod
    def start(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, *args: Any, **kwargs: Any
    ) -> pykka.ActorRef[Self] | Any:
        """Start the process, linked to nobody; returns its ref before `on_start` has run."""
        return cls._start_plain(args, kwargs, link=False)

    @classmethod
    def start_link(cls, *args: Any, **kwargs: Any) -> pykka.ActorRef[Self] | Any:
        """Start the process, linked to the running one; on a plain thread it is not linked."""
        return cls._start_plain(args, kwargs, link=True)

    @classmethod
    def child_spec(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The child spec that starts this class with these arguments.

        The id is the class's ``id``, else ``name=``, else the class's name. ``restart``,
        ``shutdown``, ``type`` and ``significant`` are there when the class sets them.
        """
        child_id = _class_attribute(cls, "id")
        if child_id is None:
            child_id = kwargs.get("name")
        spec: dict[str, Any] = {"id": cls.__name__ if child_id is None else child_id}
        start = (cls, "start_link", list(args))
        spec["start"] = (*start, dict(kwargs)) if kwargs else start
        for key in ("restart", "shutdown", "type", "significant"):
            value = _class_attribute(cls, key)
            if value is not None:
                spec[key] = value
        return spec

    @classmethod
    def _start_plain(cls, args: Any, kwargs: Any, link: bool) -> Any:
        check_fork()
        me = here.inbox
        if me is not None:
            me.check_alive()
        process = cls.__new__(cls, *args, **kwargs)
        try:
            process.__init__(*args, **kwargs)  # type: ignore[misc]
            if "_inbox" not in process.__dict__:
                raise AssertionError(
                    "Actor.__init__() have not been called. "
                    "Did you forget to call super() in your override?"
                )
            process._check_own_names()
            if link and me is not None:
                process._link_to_parent(me)
            process._start_actor_loop()
        except BaseException as error:
            if "_inbox" in process.__dict__:
                process._never_lives(error.reason if isinstance(error, ProcessExit) else error)
            raise
        return process._inbox.ref

    def _link_to_parent(self, parent: Mailbox) -> None:
        inbox = self._inbox
        with parent.lock:
            parent.check_alive()
            inbox.parent = parent
            ties_of(inbox).links[parent] = None
            ties_of(parent).links[inbox] = None

    def _launch(self) -> None:
        """Enter the list of the living and run what is in the mailbox."""
        inbox = self._inbox
        inbox.context = contextvars.copy_context()
        inbox.started_at = clock.now()
        if self.dedicated_thread:
            inbox.runner = OwnThread()
        scheduler.begin()
        living.append(inbox.ref)
        if inbox.reason is not ALIVE:
            forget(inbox.ref)  # Killed before it entered the list of the living.
        if pykka_log.isEnabledFor(logging.DEBUG):
            pykka_log.debug(f"Registered {inbox.ref}")
            pykka_log.debug(f"Starting {self}")

    def _start_actor_loop(self) -> None:
        inbox = self._inbox
        # Before what was sent while it was made.
        inbox.items.appendleft(START)
        self._launch()
        inbox.runner.push(inbox)

    def _never_lives(self, reason: Any) -> None:
        """It was not started; what it took on the way, such as a name, is given back."""
        inbox = self._inbox
        try:
            self._leave_parent()
            if inbox.context is None:
                die(inbox, reason)
                inbox.bury()
            else:
                exit_signal(inbox, None, "kill")  # It may run already.
        except BaseException:  # Ctrl-C, or a RecursionError.
            scheduler.watchdog.alarms.put(partial(exit_signal, inbox, None, "kill"))
            raise

    def _leave_parent(self) -> None:
        parent = self._inbox.parent
        if parent is not None:
            drop_link(self._inbox, parent)

    # ---- turns

    def _turn(self) -> None:
        inbox = self._inbox
        items = inbox.items
        for _ in range(FAIR_SHARE):
            try:
                item = items.popleft()
            except IndexError:
                return
            if inbox.reason is not ALIVE:
                if isinstance(item, Ask):
                    item.fail(inbox.reason)
                return
            self._handle(item)
            if inbox.reason is not ALIVE:
                return

    def _callback(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call users' code; when its process is dead, a ProcessExit may be raised in there."""
        return function(*args)

    def _handle(self, item: Any) -> None:
        match item:
            case Ask():
                self._handle_asked(item)
            case Envelope():
                self._handle_envelope(item)
            case _Start():
                self._guard(self.on_start)
            case Halt(reason=reason):
                self._finish(reason)
            case Exit(ref) if ref is not None and self._is_parent(ref):
                self._finish(item.reason)
            case message:
                self._handle_told(message)

    def _is_parent(self, ref: Any) -> bool:
        parent = self._inbox.parent
        return parent is not None and parent.ref is ref

    def _handle_asked(self, asked: Ask) -> None:
        inbox = self._inbox
        inbox.current = asked
        try:
            inbox.check_alive()
            answer = self._callback(self._handle_receive, asked.message)
            with inbox.lock:
                inbox.check_alive()
                asked.answer(answer)
        except Exception as error:
            if inbox.reason is ALIVE:
                pykka_log.info(
                    f"Exception returned from {self} to caller:", exc_info=sys.exc_info()
                )
                asked.fail_with(error)
        except BaseException as error:
            self._last_message = asked.message
            self._finish(error)
        finally:
            inbox.end_current(asked)

    def _handle_envelope(self, envelope: Envelope[Any]) -> None:
        if envelope.reply_to is None:
            self._handle(envelope.message)
            return
        try:
            envelope.reply_to.set(self._callback(self._handle_receive, envelope.message))
        except Exception:
            envelope.reply_to.set_exception()

    def _handle_told(self, message: Any) -> None:
        try:
            self._callback(self._handle_receive, message)
        except BaseException as error:
            self._last_message = message
            if isinstance(error, Exception):
                self._fail(error)
            else:
                self._finish(error)

    def _guard(self, hook: Callable[..., Any], *args: Any) -> None:
        """Run a hook; what it raises ends the process."""
        try:
            self._callback(hook, *args)
        except BaseException as error:
            if self._inbox.reason is not ALIVE:
                return
            if isinstance(error, Exception):
                self._handle_failure(type(error), error, error.__traceback__)
            self._end(error.reason if isinstance(error, ProcessExit) else error)

    # ---- ends

    def _stop(self) -> None:
        """Pykka's stop: no new mail, `on_stop`, the end."""
        self._finish("normal")

    def _finish(self, cause: Any) -> None:
        """Run `on_stop`, then end with ``cause``; a ProcessExit gives its own reason."""
        inbox = self._inbox
        if inbox.reason is not ALIVE:
            return
        self._close_the_door()
        self._guard(self.on_stop)
        self._end(cause.reason if isinstance(cause, ProcessExit) else cause)

    def _fail(self, error: Exception) -> None:
        inbox = self._inbox
        if inbox.reason is not ALIVE:
            return
        info = (type(error), error, error.__traceback__)
        self._handle_failure(*info)
        self._close_the_door()
        self._guard(self.on_failure, *info)
        self._end(error)

    def _close_the_door(self) -> None:
        inbox = self._inbox
        with inbox.lock:
            inbox.closing = True
            inbox.stopped().set()
        forget(inbox.ref)
        if pykka_log.isEnabledFor(logging.DEBUG):
            pykka_log.debug(f"Stopped {self}")

    def _handle_failure(
        self,
        exception_type: _ExceptionType,
        exception_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pykka_log.error(
            f"Unhandled exception in {self}:",
            exc_info=(exception_type, exception_value, traceback),  # type: ignore[arg-type]
        )

    def _end(self, reason: Any, report: Callable[[], Any] | None = None) -> None:
        """End of its own accord: close what the process owns, be dead, report, have others told."""
        inbox = self._inbox
        if report is None:
            report = self._crash_report(reason, self._last_message)
        if inbox.owned:
            limit = clock.call_later(OWNED_SECONDS, lambda: die(inbox, reason, report))
            self._close_owned(while_alive=True)
            limit.cancel()
        die(inbox, reason, report)

    def _end_at_once(self, error: BaseException) -> None:
        """End with an error that nothing has caught; whatever else fails, it is told."""
        try:
            self._end(error)
        except Exception:
            die(self._inbox, error)

    def _crash_report(self, reason: Any, message: Any) -> Callable[[], Any] | None:
        """What writes the crash report; None for an end that is on purpose and not reported."""
        if is_clean(reason):
            return None
        shown: dict[str, Any] = {}
        title = repr(self._inbox.ref)
        try:
            if isinstance(message, Ask):
                message = message.message
            # What users' code has to say is asked for now, while the process lives.
            shown = self._formatted({"state": self._state(), "message": message, "reason": reason})
            title = self._title()
        except Exception as error:
            # A message that cannot be looked at, say. The crash is told all the same.
            shown = {"reason": reason, "state": f"not to be shown: {type(error).__name__}"}
        # Who hides the reason does not want it in a traceback either.
        traced = isinstance(reason, BaseException) and not _is_other(shown, reason)
        if traced:
            reason.__traceback__ = users_frames(reason.__traceback__)
        return lambda: log.error(
            "process_crashed",
            process=title,
            module=type(self).__qualname__,
            reason=shown.get("reason"),
            last_message=shown.get("message"),
            state=shown.get("state"),
            exc_info=reason if traced else None,
        )

    def _state(self) -> Any:
        """What a crash report shows as the state; a plain process has none of its own."""
        return None

    def _formatted(self, status: dict[str, Any]) -> dict[str, Any]:
        return status

    def _title(self) -> str:
        """The process's name, else its class and urn."""
        for entry, table in list((self._inbox.names or {}).items()):
            if table is local_names:
                return str(entry.key)
        return str(self._inbox.ref)

    def _buried(self) -> None:
        """Nothing of the dead process runs any more; let go of what others hold for it."""

    def _close_owned(self, while_alive: bool = False) -> None:
        inbox = self._inbox
        while inbox.owned:
            if while_alive and inbox.reason is not ALIVE:
                return  # Killed meanwhile: `bury` closes the rest, where nothing breaks that off.
            # One step: whoever is struck has it, to close or report it. See `_run_inline`.
            ((thing, close),) = map(inbox.owned.pop, _LAST)
            try:
                self._callback(close, thing)
            except BaseException as error:
                if not isinstance(error, ProcessExit):
                    self._report_close(thing, error)

    def _report_close(self, thing: Any, error: BaseException) -> None:
        report(lambda: log.error("close_failed", process=str(self), thing=repr(thing), error=error))

    @classmethod
    def _ask_failure(cls, asked: Asked, reason: Any) -> BaseException:
        """What an `ask` raises when its process died before it answered."""
        ref = asked.target.ref
        return ActorDead(ref, asked.message, f"{ref} stopped before handling the message")


def _is_other(shown: dict[str, Any], reason: Any) -> bool:
    """Whether users' code shows something else in the place of a reason; a copy is the same."""
    try:
        return "reason" in shown and repr(shown["reason"]) != repr(reason)
    except Exception:
        return True


def _class_attribute(cls: Any, name: str) -> Any:
    """A default that the class sets; a method or property of that name is the user's own thing."""
    value = getattr(cls, name, None)
    return None if hasattr(type(value), "__get__") else value


class Attached(Process):
    """A plain thread that is a process for a while."""

    def _crash_report(self, reason: Any, message: Any) -> None:
        """None: what leaves the block is on its way to whoever wrote it."""


def attach_here(trap_exit: bool) -> Process:
    """Make this thread a process; the caller undoes it with `detach_here`."""
    fence()
    if here.inbox is not None:
        raise RuntimeError(
            "attach() is for a plain thread, and this one already runs " + repr(here.inbox.ref)
        )
    process = Attached()
    process.trap_exit = trap_exit
    inbox = process._inbox
    scheduler.begin()
    inbox.context = None
    inbox.started_at = clock.now()
    here.inbox = inbox
    return process


def detach_here(process: Process, reason: Any) -> None:
    """End the process that this thread was."""
    if scheduler.forked:
        return  # In the child it has ended already.
    inbox = process._inbox
    process._end(reason)
    here.inbox = None
    inbox.bury()


__all__ = ["Process", "ProcessRef", "both", "living"]
