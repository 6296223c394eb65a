"""Wrapper: a process around a thing that is none, or that restarts too eagerly.

The original: https://hexdocs.pm/elsa/Elsa.Wrapper.html
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import structlog

from elsa_actors.otp.backoff import Backoff
from elsa_actors.otp.child_spec import Start, parse_start
from elsa_actors.otp.gen_server import GenServer, call
from elsa_actors.otp.registry import Registry, Via
from elsa_actors.otp.results import Ignore, NoReply, Ok, Reply, Stop
from elsa_actors.runtime import process
from elsa_actors.runtime.actor import Process, ProcessRef, is_plain_actor
from elsa_actors.runtime.clock import clock
from elsa_actors.runtime.death import exit_signal, traps
from elsa_actors.runtime.errors import (
    AlreadyStarted,
    ChildSpecError,
    NameTaken,
    ReceiveTimeout,
    StartError,
)
from elsa_actors.runtime.exits import Down, Exit, ProcessExit, is_clean, is_word
from elsa_actors.runtime.links import Monitor
from elsa_actors.runtime.mailbox import Mailbox
from elsa_actors.runtime.names import Named
from elsa_actors.runtime.scheduler import here
from elsa_actors.runtime.waiting import deadline_of, remaining

log = structlog.get_logger("elsa_actors")

DELAY = 5.0
KILL_TIMEOUT = 5.0
FORCED_SECONDS = 5.0
"""How long a thing that was killed may take to be gone; only an OS process takes any time."""


# ---- what can be wrapped


class _Running:
    def __repr__(self) -> str:
        return "RUNNING"


RUNNING: Any = _Running()
"""The exit reason of a thing that has none yet."""


class Thing(ABC):
    """What is wrapped: how its end is noticed, asked for and forced."""

    def __init__(self, thing: Any) -> None:
        self.thing = thing

    @property
    @abstractmethod
    def reason(self) -> Any:
        """Of what it ended; RUNNING as long as it has not, or nobody knows yet."""

    @abstractmethod
    def stand_in(self) -> Any:
        """A process that is linked to the running one, and ends when the thing has."""

    @abstractmethod
    def ask(self, reason: Any) -> None:
        """Ask it to end; does not wait."""

    @abstractmethod
    def force(self) -> bool:
        """End it, whatever it does; False when there is no such means."""

    @abstractmethod
    def take_along(self, seconds: float | None, stop: Callable[[Any], Any] | None) -> bool:
        """Its Wrapper was killed: see to its end; False when there is no means."""

    def __repr__(self) -> str:
        return repr(self.thing)


class WrappedProcess(Thing):
    """A process of ours."""

    @property
    def reason(self) -> Any:
        inbox = self.thing._inbox
        return inbox.reason if inbox.is_dead() else RUNNING

    def stand_in(self) -> Any:
        process.link(self.thing)
        return self.thing

    def ask(self, reason: Any) -> None:
        if is_word(reason, "normal") and not traps(self.thing._inbox):
            reason = "shutdown"  # "normal" ends nobody who does not trap.
        elif is_word(reason, "kill"):
            reason = "killed"  # A reason that was passed on; as a signal it would leave no time.
        process.exit(self.thing, reason)

    def force(self) -> bool:
        process.exit(self.thing, "kill")
        return True

    def take_along(self, seconds: float | None, stop: Callable[[Any], Any] | None) -> bool:
        # The link has told it. What traps gets its time to close, without a thread that waits.
        inbox = self.thing._inbox
        if seconds is not None:
            clock.call_later(seconds, lambda: exit_signal(inbox, None, "kill"))
        return True


class Watched(Thing):
    """What is no process: a watcher blocks until it has ended."""

    ended: Any = RUNNING

    @property
    def reason(self) -> Any:
        return self.ended

    def stand_in(self) -> Any:
        return Watcher.start_link(self.watch)

    @abstractmethod
    def watch(self) -> None:
        """Block until it has ended, then set ``ended``."""


class WrappedActor(Watched):
    """A plain Pykka actor, by its ref; however it ends, it is "normal"."""

    def __init__(self, thing: Any) -> None:
        super().__init__(thing)
        self._asking = threading.Lock()
        self._answer: Any = None

    def watch(self) -> None:
        self.thing.actor_stopped.wait()
        with self._asking:
            answer = self._answer
        if answer is not None:
            answer.get()  # `on_stop` runs after the event.
        self.ended = "normal"

    def ask(self, reason: Any) -> None:
        with self._asking:
            self._answer = self.thing.stop(block=False)

    def force(self) -> bool:
        return False

    def take_along(self, seconds: float | None, stop: Callable[[Any], Any] | None) -> bool:
        (stop or (lambda ref: ref.stop(block=False)))(self.thing)
        return True


class WrappedThread(Watched):
    """A thread; nothing but itself can end it."""

    thing: threading.Thread

    def watch(self) -> None:
        self.thing.join()
        self.ended = "normal"

    def ask(self, reason: Any) -> None:
        """There is no way: it is waited for."""

    def force(self) -> bool:
        return False

    def take_along(self, seconds: float | None, stop: Callable[[Any], Any] | None) -> bool:
        if stop is not None:
            stop(self.thing)
        return stop is not None


class WrappedOsProcess(Watched):
    """A `subprocess.Popen` or a `multiprocessing.Process`: SIGTERM, then SIGKILL."""

    def __init__(self, thing: Any) -> None:
        super().__init__(thing)
        # Reaping frees the number of the process: no signal may be on its way to it then.
        self._reaping = threading.Lock()
        self._is_popen = isinstance(thing, subprocess.Popen)

    def watch(self) -> None:
        try:
            self._wait()
            with self._reaping:
                self.ended = self._reap()
        # Somebody else closed or reaped it; then nobody knows how it ended.
        except (OSError, ValueError, AssertionError) as error:
            self.ended = error

    def _wait(self) -> None:
        """Block until it has ended, and leave it to be reaped."""
        try:
            os.waitid(os.P_PID, self.thing.pid, os.WEXITED | os.WNOWAIT)
        # No such call on this system, or it is no child of ours (a fork server's is not).
        except (AttributeError, ChildProcessError):
            if self._is_popen:
                self.thing.wait()
            else:
                from multiprocessing.connection import wait

                wait([self.thing.sentinel])

    def _reap(self) -> Any:
        if self._is_popen:
            code = self.thing.wait()
        else:
            code = self._exit_code()
        if code == 0:
            return "normal"
        return ("signal", -code) if code is not None and code < 0 else ("exit_status", code)

    def _exit_code(self) -> int | None:
        """A multiprocessing process's; None when nobody knows it."""
        for _ in range(100):
            self.thing.join()
            code: int | None = self.thing.exitcode
            if code is not None:
                return code
            # Another thread, in `active_children()` say, has just reaped it and is to note it.
            threading.Event().wait(0.01)
        return None

    def ask(self, reason: Any) -> None:
        self._signal(self.thing.terminate)

    def force(self) -> bool:
        self._signal(self.thing.kill)
        return True

    def _signal(self, send: Callable[[], None]) -> None:
        with self._reaping:
            if self.ended is RUNNING:
                send()

    def take_along(self, seconds: float | None, stop: Callable[[Any], Any] | None) -> bool:
        # At once: what replaces it would meet it on its port and its files.
        self.force()
        ended = threading.Thread(target=self.watch, name="elsa-reaper", daemon=True)
        ended.start()
        ended.join(FORCED_SECONDS)
        return True

    def __repr__(self) -> str:
        # Without its arguments: they may hold passwords.
        return f"<{type(self.thing).__name__} {self.thing.pid}>"


def adopt(answer: Any) -> Thing | None:
    """What a start function answered, as a Thing; threads and processes are started if need be.

    None when it can't be wrapped.
    """
    match answer:
        case ProcessRef() | (ProcessRef(), _):
            return WrappedProcess(answer if isinstance(answer, ProcessRef) else answer[0])
        case threading.Thread():
            if answer.ident is None:
                here.inbox.check_alive()
                answer.start()
            return WrappedThread(answer)
        case subprocess.Popen():
            return WrappedOsProcess(answer)
    if is_plain_actor(answer):
        return WrappedActor(answer)
    # Whoever has such a process has imported its module; nobody else pays for it.
    multiprocessing = sys.modules.get("multiprocessing.process")
    if multiprocessing is not None and isinstance(answer, multiprocessing.BaseProcess):
        if answer.pid is None:
            here.inbox.check_alive()
            answer.start()
        return WrappedOsProcess(answer)
    return None


# ---- helpers of a Wrapper: processes with a thread of their own


class Aside(Process):
    """Runs one function on a thread of its own, and ends."""

    dedicated_thread = True

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        super().__init__()
        self._function = function
        self._args = args

    def on_start(self) -> None:
        self._function(*self._args)
        process.exit_self("normal")


class Watcher(Aside):
    """Blocks until a thing has ended, and ends with it."""

    unwind: ClassVar[bool] = False  # It holds nothing, and ends when the thing does.


# ---- the Wrapper


@dataclass(frozen=True, slots=True)
class Options:
    """What a Wrapper is told, checked."""

    start: Start
    register: Named | None
    delay: float | Backoff
    kill_timeout: float | None  # None: for ever
    stop: Callable[[Any], Any] | None

    def delay_after(self, lifetime: float) -> float:
        """How long to wait after a life of so many seconds; 0.0 is a start that failed."""
        if isinstance(self.delay, Backoff):
            self.delay.lived(lifetime)
            return max(self.delay.next() - lifetime, 0.0)
        return max(self.delay - lifetime, 0.0)

    def __repr__(self) -> str:
        return f"<Options {self.start!r}>"


class NotStarted(Exception):
    """The start function failed, with this reason."""

    def __init__(self, reason: Any) -> None:
        super().__init__(reason)
        self.reason = reason


class KeyTaken(NotStarted):
    """Another process has the key under which the thing was to be registered."""


class ParentEnded(Exception):
    """The Wrapper's parent ended while the Wrapper started."""

    def __init__(self, reason: Any) -> None:
        super().__init__(reason)
        self.reason = reason


class Wrapper(GenServer):
    """Runs a start function in itself, and ends as what that started ends, but not too soon.

    It stands in a supervisor in the place of a thing that fails again and again for a reason
    outside, such as a broker that is gone: failures are spaced by ``delay``, so that they never use
    the supervisor's restarts up. The thing may be a process, or what is none: a plain Pykka actor,
    a `threading.Thread`, a `subprocess.Popen`, a `multiprocessing.Process`.

        >>> sleeps = [sys.executable, "-c", "import time; time.sleep(60)"]
        >>> spec = Wrapper.child_spec(mfa=(subprocess.Popen, [sleeps]), kill_timeout=2.0)
        >>> spec["shutdown"]  # More than that, so that it can kill what it wraps.
        3.0
        >>> from elsa_actors.otp.supervisor import Supervisor
        >>> tree = Supervisor.start_link([spec])
        >>> popen = Wrapper.wrapped(Supervisor.which_children(tree)[0].child)
        >>> Supervisor.stop(tree)
        >>> popen.returncode  # It was sent SIGTERM.
        -15

    """

    trap_exit = True

    _thing: Thing | None = None
    _watch: Monitor | None = None
    _registry: Any = None
    _registry_watch: Monitor | None = None
    _own_key = False  # whether it stands in the registry for a thing that is no process
    _since = 0.0
    _stopping = False
    _due: Any = None
    _reason: Any = None
    _reported: Any = RUNNING  # the reason that needs no crash report

    # ---- the callers' side

    @classmethod
    def start_link(  # type: ignore[override]
        cls,
        mfa: Any,
        register: Any = None,
        delay: Any = DELAY,
        kill_timeout: Any = KILL_TIMEOUT,
        stop: Any = None,
        name: Any = None,
        timeout: float | None = None,
    ) -> Any:
        """Start a Wrapper, linked to the running process, and in it what ``mfa`` says.

        ``mfa`` is a start function as in a child spec: (callable, [args]) or (class, method,
        [args]). What it answers is registered under ``register``, (registry, key); for a thing that
        is no process the Wrapper itself stands there. ``delay`` is in seconds, or a Backoff, one
        object for each child. ``stop`` is a function of the thing that makes it end; by default a
        process gets the Wrapper's reason as an exit signal, an actor ``ref.stop()``, an OS process
        SIGTERM; what has not ended ``kill_timeout`` seconds later is killed.

        Returns the Wrapper's ref; None when ``mfa`` answers None. Raises ChildSpecError for wrong
        arguments at once, AlreadyStarted when the key is taken, and after ``delay`` StartError with
        the reason of a start that failed: the exception itself when ``mfa`` raised.
        """
        options = _options(mfa, register, delay, kill_timeout, stop)
        return cls._begin_wrapper(options, name, timeout, link=True)

    @classmethod
    def start(  # type: ignore[override]
        cls,
        mfa: Any,
        register: Any = None,
        delay: Any = DELAY,
        kill_timeout: Any = KILL_TIMEOUT,
        stop: Any = None,
        name: Any = None,
        timeout: float | None = None,
    ) -> Any:
        """As `start_link`, linked to nobody."""
        options = _options(mfa, register, delay, kill_timeout, stop)
        return cls._begin_wrapper(options, name, timeout, link=False)

    @classmethod
    def _begin_wrapper(cls, options: Options, name: Any, timeout: Any, link: bool) -> Any:
        try:
            return cls._begin((options,), {}, name, timeout, link)
        except AlreadyStarted:
            raise
        except StartError as error:
            if _is_already_started(error.reason):
                raise AlreadyStarted(error.reason[1]) from None
            raise

    @classmethod
    def child_spec(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The child spec that starts a Wrapper with these arguments, which are checked here.

        Its shutdown time is ``kill_timeout`` and a second, unless the class sets one: a Wrapper
        always has the time to kill what it wraps.
        """
        if _same_start(cls):
            _check_arguments(*args, **kwargs)
        spec = super().child_spec(*args, **kwargs)
        shutdown = cls._default_shutdown(args, kwargs)
        if shutdown is not None:
            spec.setdefault("shutdown", shutdown)
        return spec

    @classmethod
    def _default_shutdown(cls, args: Any, kwargs: Mapping[str, Any]) -> Any:
        """The shutdown time of a child spec that says none: longer than `kill_timeout`."""
        kill_timeout = kwargs.get("kill_timeout", KILL_TIMEOUT)
        if len(args) > 3 and _same_start(cls):
            kill_timeout = args[3]
        if is_word(kill_timeout, "infinity"):
            return "infinity"
        return kill_timeout + 1 if _is_seconds(kill_timeout) else None

    @staticmethod
    def wrapped(wrapper: Any, timeout: float | None = 5.0) -> Any:
        """What runs in this Wrapper now: what its start function answered, None when it ended."""
        return call(wrapper, "wrapped", timeout)

    # ---- start

    def init(self, options: Options) -> Any:
        self._options = options
        try:
            self._start_thing()
        except ParentEnded as ended:
            return Stop(ended.reason)
        except KeyTaken as taken:
            # Nobody's crash, and nothing that waiting would change. It harms no parent.
            self._reported = taken.reason
            self._leave_parent()
            return Stop(taken.reason)
        except NotStarted as failed:
            return self._start_failed(failed.reason)
        return Ignore() if self._thing is None else Ok(self._thing.thing)

    def _start_thing(self) -> None:
        options = self._options
        if options.register is not None:
            holder = _attempt(_holder_of, options.register)
            if holder is not None:
                self._outlived(holder)
        answer = self._run_start()
        if answer is None:
            return
        thing = _attempt(adopt, answer)
        if thing is None:
            raise NotStarted(("bad_return_value", answer))
        self._thing = thing
        process.own(thing, self._take_along)
        self._since = clock.now()
        self._watch_thing()
        if options.register is not None:
            self._register(options.register)

    def _run_start(self) -> Any:
        try:
            return _attempt(self._options.start)
        except NotStarted as failed:
            if _is_already_started(failed.reason) and self._outlived(failed.reason[1]):
                return _attempt(self._options.start)
            raise

    def _outlived(self, holder: Any) -> bool:
        """Wait for the death of a process whose parent is dead; False when it lives on.

        It is a child of this one's predecessor, still closing; what it holds will be free.
        """
        if not isinstance(holder, ProcessRef):
            return False
        parent = holder._inbox.parent
        if parent is None or not parent.is_dead():
            return False
        watch = process.monitor(holder)
        died = self._receive(_down_of(watch), self._options.kill_timeout) is not None
        process.demonitor(watch, flush=True)
        return died

    def _receive(self, match: Callable[[Any], bool], seconds: float | None) -> Any:
        """The first message that matches, None when none came; ParentEnded when that came first."""
        parent = self._inbox.parent

        def matches(message: Any) -> bool:
            return match(message) or _is_exit_of(message, parent)

        try:
            message = process.receive(matches, seconds)
        except ReceiveTimeout:
            return None
        if _is_exit_of(message, parent):
            raise ParentEnded(message.reason)
        return message

    def _watch_thing(self) -> None:
        assert self._thing is not None
        self._watch = process.monitor(self._thing.stand_in())

    def _register(self, key: Named) -> None:
        thing = self._thing
        assert thing is not None
        try:
            if isinstance(thing, WrappedProcess):
                _attempt(key.register, thing.thing)
            else:
                _attempt(key.register, self._inbox.ref)
                self._own_key = True
        except NotStarted as failed:
            if thing.reason is not RUNNING:
                return  # It was quicker; its end is on the way.
            taken = failed.reason
            if isinstance(taken, NameTaken):
                if taken.ref is thing.thing:
                    return  # It has registered itself.
                failed = KeyTaken(("already_started", taken.ref))
            self._stop_thing("shutdown")
            raise failed from None
        if isinstance(key, Via) and isinstance(key.registry, str | ProcessRef):
            self._registry = process.whereis(key.registry)
            self._registry_watch = process.monitor(key.registry)

    def _start_failed(self, reason: Any) -> Stop:
        self._reported = reason
        delay = self._options.delay_after(0.0)
        log.error(
            "wrapped_start_failed",
            wrapper=self._title(),
            start=repr(self._options.start),
            reason=reason,
            delay=delay,
            exc_info=reason if isinstance(reason, BaseException) else None,
        )
        try:
            self._receive(_nothing, delay)
        except ParentEnded as ended:
            return Stop(ended.reason)
        if _is_already_started(reason):
            self._leave_parent()  # An AlreadyStarted harms no parent.
        return Stop(reason)

    # ---- life

    def handle_call(self, request: Any, sender: Any) -> Any:
        if is_word(request, "wrapped"):
            return Reply(None if self._thing is None else self._thing.thing)
        self.handle_info(request)
        sender.fail(("unknown_request", request))
        return NoReply()

    def handle_cast(self, request: Any) -> Any:
        return self.handle_info(request)

    def handle_info(self, message: Any) -> Any:
        match message:
            case Down(monitor) if monitor is self._watch:
                return self._went()
            case Down(monitor, _, reason) if monitor is self._registry_watch:
                return self._registry_went(reason)
            case Exit(ref) if ref is not None and self._knows(ref):
                return NoReply()  # Its Down says the same.
            case _ if message is self._due and message is not None:
                return Stop(self._reason)
        return super().handle_info(message)

    def _knows(self, ref: Any) -> bool:
        watched = None if self._watch is None else self._watch.ref
        return ref is watched or ref is self._registry or issubclass(ref.actor_class, Aside)

    def _went(self) -> Any:
        """The thing has ended, or its watcher was killed."""
        thing = self._thing
        if thing is None:
            return NoReply()
        if thing.reason is RUNNING:
            self._watch_thing()
            return NoReply()
        self._let_go()
        return self._ended(thing, thing.reason)

    def _registry_went(self, reason: Any) -> Any:
        """With its registry a registered process ends: nobody would find it any more."""
        thing, self._registry_watch = self._thing, None
        if thing is None or thing.reason is not RUNNING:
            return NoReply()
        if is_word(reason, "normal"):
            reason = "shutdown"  # What a registered process gets from a registry that stops.
        self._stop_thing(reason)
        return self._ended(thing, reason)

    def _ended(self, thing: Thing, reason: Any) -> Any:
        lifetime = clock.now() - self._since
        delay = self._options.delay_after(lifetime)
        self._reported = reason
        (log.info if is_clean(reason) else log.warning)(
            "wrapped_terminated",
            wrapper=self._title(),
            thing=repr(thing),
            reason=reason,
            lifetime=lifetime,
            delay=delay,
        )
        if not delay:
            return Stop(reason)
        # A message, not a sleep: a shutdown, a stop and operators are served meanwhile.
        self._reason, self._due = reason, object()
        process.send_after(self._inbox.ref, self._due, delay)
        return NoReply()

    def status(self) -> dict[str, Any]:
        thing = self._thing
        return {
            "start": repr(self._options.start),
            "wraps": None if thing is None else repr(thing),
            "age": None if thing is None else clock.now() - self._since,
            "delay": repr(self._options.delay),
        }

    # ---- ends

    def terminate(self, reason: Any) -> Any:
        if self._thing is not None:
            self._stop_thing(reason)

    def _stop_thing(self, reason: Any) -> None:
        """Ask the thing to end; kill it when `kill_timeout` is over."""
        thing = self._thing
        assert thing is not None
        self._stopping = True
        limit = deadline_of(self._options.kill_timeout)
        stopper, asked = self._ask(thing, reason), reason
        if not self._gone(limit, stopper, asked):
            log.warning(
                "wrapped_stop_timeout",
                wrapper=self._title(),
                thing=repr(thing),
                kill_timeout=self._options.kill_timeout,
            )
            if not (thing.force() and self._gone(deadline_of(FORCED_SECONDS))):
                self._report_orphan(thing)
        if stopper is not None and process.is_alive(stopper.ref):
            process.exit(stopper.ref, "kill")
        self._let_go()
        self._stopping = False

    def _ask(self, thing: Thing, reason: Any) -> Monitor | None:
        """Ask the thing to end; with a function of the user's on a thread that may block."""
        if self._options.stop is None:
            thing.ask(reason)
            return None
        return process.monitor(Aside.start_link(self._options.stop, thing.thing))

    def _gone(self, limit: float | None, stopper: Monitor | None = None, asked: Any = None) -> bool:
        """Wait for the thing's end; False when it runs on at ``limit``."""
        thing = self._thing
        assert thing is not None
        while thing.reason is RUNNING:
            try:
                down = process.receive(_down_of(self._watch, stopper), remaining(limit))
            except ReceiveTimeout:
                break
            if down.monitor is stopper:
                if not is_word(down.reason, "normal"):
                    log.error(
                        "wrapped_stop_failed",
                        wrapper=self._title(),
                        thing=repr(thing),
                        reason=down.reason,
                    )
                    thing.ask(asked)
            elif thing.reason is RUNNING:
                self._watch_thing()  # Its watcher was killed.
        return thing.reason is not RUNNING

    def _let_go(self) -> None:
        """The thing is no longer this Wrapper's: it has ended, or nothing will end it."""
        process.disown(self._thing)
        self._thing = self.state = None
        if self._own_key:
            assert self._options.register is not None
            self._own_key = False
            try:
                self._options.register.unregister(self._inbox.ref)
            except LookupError:
                pass  # The registry is dead.

    def _take_along(self, thing: Thing) -> None:
        """The Wrapper was killed, or failed otherwise than it should."""
        if thing.reason is RUNNING:
            # One that was asked before has had its time.
            seconds = 0.0 if self._stopping else self._options.kill_timeout
            if not thing.take_along(seconds, self._options.stop):
                self._report_orphan(thing)

    def _report_orphan(self, thing: Thing) -> None:
        log.error("orphan_thread", process=self._title(), thing=repr(thing))

    def _crash_report(self, reason: Any, message: Any) -> Any:
        """None for what the thing, or an event of this file, has told already."""
        if reason is self._reported:
            return None
        return super()._crash_report(reason, message)


# ---- arguments


def _options(
    mfa: Any,
    register: Any = None,
    delay: Any = DELAY,
    kill_timeout: Any = KILL_TIMEOUT,
    stop: Any = None,
) -> Options:
    """Check a Wrapper's arguments. Raises ChildSpecError."""
    if not isinstance(delay, Backoff) and not _is_seconds(delay):
        raise ChildSpecError(
            ("invalid_delay", delay),
            f"expected delay to be seconds (0 or more) or a Backoff, got: {delay!r}",
        )
    endless = is_word(kill_timeout, "infinity")
    if not endless and not _is_seconds(kill_timeout):
        raise ChildSpecError(
            ("invalid_kill_timeout", kill_timeout),
            f"expected kill_timeout to be seconds (0 or more) or 'infinity', got: {kill_timeout!r}",
        )
    if stop is not None and not callable(stop):
        raise ChildSpecError(
            ("invalid_stop", stop),
            f"expected stop to be a function of the thing, or None, got: {stop!r}",
        )
    return Options(
        parse_start(mfa, field="mfa"),
        _key(register),
        delay,
        None if endless else kill_timeout,
        stop,
    )


def _check_arguments(*args: Any, name: Any = None, timeout: Any = None, **kwargs: Any) -> None:
    _options(*args[:5], **kwargs)


def _key(register: Any) -> Named | None:
    if register is None or isinstance(register, Named):
        return register
    if isinstance(register, tuple | list) and len(register) == 2:
        try:
            return Via(*register)
        except TypeError:
            pass
    raise ChildSpecError(
        ("invalid_register", register),
        f"expected register to be (registry, key) or None, got: {register!r}",
    )


def _holder_of(key: Named) -> Any:
    """Who has this key; NoProcess when there is no such registry."""
    if isinstance(key, Via) and isinstance(key.registry, str | ProcessRef):
        return Registry.whereis_name((key.registry, key.key))
    return key.whereis()


def _is_seconds(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 <= value < math.inf


def _same_start(cls: type[Wrapper]) -> bool:
    """Whether this class takes the arguments that a Wrapper takes."""
    return cls.start_link.__func__ is Wrapper.start_link.__func__  # type: ignore[attr-defined]


# ---- small questions


def _attempt(function: Callable[..., Any], *args: Any) -> Any:
    """Call what may fail in any way; NotStarted says of what."""
    try:
        return function(*args)
    except StartError as error:
        raise NotStarted(error.reason) from error
    except ProcessExit as error:
        here.inbox.check_alive()  # It may be that the Wrapper was killed.
        raise NotStarted(error.reason) from None
    except BaseException as error:
        raise NotStarted(error) from error


def _is_already_started(reason: Any) -> bool:
    return isinstance(reason, tuple) and len(reason) == 2 and is_word(reason[0], "already_started")


def _down_of(*watches: Monitor | None) -> Callable[[Any], bool]:
    def matches(message: Any) -> bool:
        return isinstance(message, Down) and any(message.monitor is watch for watch in watches)

    return matches


def _is_exit_of(message: Any, inbox: Mailbox | None) -> bool:
    return isinstance(message, Exit) and inbox is not None and message.ref is inbox.ref


def _nothing(message: Any) -> bool:
    return False
