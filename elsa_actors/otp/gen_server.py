"""GenServer: a server process; call, cast, reply, stop and send_request are its callers' side.

The original: https://www.erlang.org/doc/apps/stdlib/gen_server.html
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from itertools import starmap
from typing import TYPE_CHECKING, Any, ClassVar, Self

import structlog

from elsa_actors.otp.results import (
    TIMEOUT,
    UNSET,
    Continue,
    Hibernate,
    Ignore,
    NoReply,
    Ok,
    Reply,
    Stop,
    Timeout,
)
from elsa_actors.runtime.actor import Asked, Process, ProcessRef, users_frames
from elsa_actors.runtime.clock import Timer, clock
from elsa_actors.runtime.death import drop_link, exit_signal, traps
from elsa_actors.runtime.errors import (
    AlreadyStarted,
    CallExit,
    CallingSelf,
    CallTimeout,
    NameTaken,
    NoProcess,
    StartError,
)
from elsa_actors.runtime.exits import Exit, ProcessExit, is_clean, is_word
from elsa_actors.runtime.mailbox import (
    ALIVE,
    FAIR_SHARE,
    NO_WAIT,
    PYKKA_MESSAGES,
    Ask,
    Halt,
    Internal,
    Mailbox,
)
from elsa_actors.runtime.names import Named, local_names
from elsa_actors.runtime.process import check_name, death_of, find
from elsa_actors.runtime.scheduler import (
    CALLBACK_CALLERS,
    check_fork,
    fence,
    here,
    report,
    scheduler,
)
from elsa_actors.runtime.waiting import check_timeout, wait

if TYPE_CHECKING:
    from pykka import ActorRef

log = structlog.get_logger("elsa_actors")

MAX_INLINE_DEPTH = 16
"""Inline calls that may stand on one thread's stack; a deeper one goes through the mailbox."""

_NO_ARGUMENTS = ((),)


class Request(Ask):
    """A request under way: what `send_request` returns, and the ``sender`` in `handle_call`."""

    __slots__ = ("abandoned", "server")

    def __init__(self, message: Any, asker: Mailbox | None, target: Mailbox, server: Any) -> None:
        # As Ask's, written out: there is one of these for every call.
        self.message = message
        self.asker = asker
        self.target = target
        self.slot = None
        self.answers = []
        self.server = server
        self.abandoned = False

    @property
    def ref(self) -> Any:
        """The process that asks; None when a plain thread does."""
        return None if self.asker is None else self.asker.ref

    def wait(self, timeout: float | None = None) -> bool:
        """Whether an answer or a failure is there, waiting up to ``timeout`` seconds for it."""
        fence()
        check_timeout(timeout)
        if self.abandoned:
            return False
        return self.is_answered(timeout)

    def check(self) -> bool:
        """Whether an answer or a failure is there; does not wait."""
        return self.wait(0)

    def receive(self, timeout: float | None = 5.0) -> Any:
        """The answer; raises CallExit when the server ended, CallTimeout when none came in time.

        After CallTimeout the request is abandoned: its late answer vanishes.
        """
        if not self.wait(timeout):
            self.abandoned = True
            raise CallTimeout(self.server, self.message, timeout)
        succeeded, outcome = self.answers[0]
        if succeeded:
            return outcome
        raise self.failure(outcome)

    def failure(self, reason: Any) -> CallExit:
        if is_word(reason, "noproc"):
            return NoProcess(self.server, self.message)
        if is_word(reason, "calling_self"):
            return CallingSelf(self.server, self.message)
        return CallExit(reason, self.server, self.message)

    def __repr__(self) -> str:
        return f"<Request {self.message!r} to {self.server!r}>"


class Cast(Internal):
    """A request that wants no answer."""

    __slots__ = ("request",)

    def __init__(self, request: Any) -> None:
        self.request = request


class System(Ask):
    """A system message: runs in the server between messages, also while it is suspended."""

    __slots__ = ()


class Begin(Ask):
    """The first message of a server's life: run `init` with these arguments."""

    __slots__ = ("args", "kwargs")

    def __init__(self, args: Any, kwargs: Any, asker: Mailbox | None, target: Mailbox) -> None:
        super().__init__("init", asker, target)
        self.args = args
        self.kwargs = kwargs


class Resume(Internal):
    """Go on with what an inline handler said comes next."""

    __slots__ = ("then",)

    def __init__(self, then: Any) -> None:
        self.then = then


class IdleOver(Internal):
    """The idle timeout is over, unless another message came before."""

    __slots__ = ()


class GenServer(Process):
    """A server: keeps a state, handles one request at a time.

    Subclass it, and write `init` and the handlers you need. ``self.state`` is the server's state;
    after a raise in a callback it is put back to the object it was before.

        class Counter(GenServer):
            def init(self, start=0):
                return Ok(start)

            def handle_call(self, request, sender):
                match request:
                    case ("add", n):
                        self.state += n
                        return Reply(self.state)

    """

    state: Any = None

    _serves = True
    _suspended: bool = False
    _idle_marker: IdleOver | None = None
    _idle_seconds: float = 0.0
    _idle_timer: Timer | None = None
    _observer: Any = None
    inline_limit: ClassVar[float] = 0.01
    """An inline handler that takes longer, in seconds, has broken its word, and is logged."""
    _overrun: float = 0.0
    _quick_init: ClassVar[bool] = True
    """Whether `init` never blocks, and may run on the starter's thread."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _check_no_dunder_init(cls)
        if cls.dedicated_thread and cls.inline:
            raise TypeError(
                f"{cls.__qualname__} has both dedicated_thread and inline; a server stays on a"
                " thread of its own or runs on its callers': choose one"
            )
        # Wherever init comes from, a mixin too, only its writer can say that it never blocks.
        writer = next(base for base in cls.__mro__ if "init" in base.__dict__)
        if "_quick_init" not in cls.__dict__:
            cls._quick_init = bool(writer.__dict__.get("_quick_init", False))
        if writer is cls or not issubclass(writer, GenServer):
            _check_init(cls, writer.__dict__["init"])

    # ---- start

    @classmethod
    def start(
        cls, *args: Any, name: Any = None, timeout: float | None = None, **kwargs: Any
    ) -> ActorRef[Self] | Any:
        """Start the server, linked to nobody, and return its ref when `init` has answered.

        ``args`` and ``kwargs`` go to `init`. ``name`` is a string or a Via; ``timeout`` is in
        seconds, None waits for ever. Returns None when `init` answers Ignore(). Raises StartError
        with the reason of a Stop, a raise, a wrong answer or "timeout", and AlreadyStarted.
        """
        return cls._begin(args, kwargs, name, timeout, link=False)

    @classmethod
    def start_link(
        cls, *args: Any, name: Any = None, timeout: float | None = None, **kwargs: Any
    ) -> ActorRef[Self] | Any:
        """As `start`, linked to the running process; on a plain thread it is not linked.

        A process that does not trap exits dies of a failing start, by ProcessExit; except of
        Stop("normal"), a timeout and AlreadyStarted, which are StartErrors for everybody.
        """
        return cls._begin(args, kwargs, name, timeout, link=True)

    @classmethod
    def _begin(cls, args: Any, kwargs: Any, name: Any, timeout: float | None, link: bool) -> Any:
        check_fork()
        check_timeout(timeout)
        if cls.__init__ is not Process.__init__:
            _check_no_dunder_init(cls)  # A decorator, such as dataclass, writes it later.
        me = here.inbox
        if me is not None:
            me.check_alive()
        process = cls.__new__(cls)
        process._set_up()
        inbox = process._inbox
        begin = Begin(args, kwargs, me, inbox)
        quick = timeout is None and cls._quick_init and not cls.dedicated_thread
        inline = quick and here.depth < MAX_INLINE_DEPTH
        # Before the name: once it is known there may be mail, and init comes before it.
        if not inline:
            inbox.items.append(begin)
        try:
            # The parent first: it is the oldest link, and hears of a child whose name ends it.
            if link and me is not None:
                process._link_to_parent(me)
            _take_name(name, inbox)
            process._launch()
            if inline:
                _run_inline(inbox, begin, me, mine=True)
            else:
                inbox.runner.push(inbox)
        except BaseException as error:
            process._never_lives(error.reason if isinstance(error, ProcessExit) else "normal")
            raise
        return _await_start(begin, inbox, me, timeout, inline)

    if TYPE_CHECKING:

        def init(self, *args: Any, **kwargs: Any) -> Any:
            """As below; so written, a subclass's own signature is no type error."""

    else:

        def init(self, state=None):
            """Set the server up, in the new process: Ok(state, then), Ignore() or Stop(reason).

            The default takes its one argument as the state.
            """
            return Ok(state)

    # ---- what users write

    def handle_call(self, request: Any, sender: Any) -> Any:
        """Answer a call: Reply(value, then), NoReply(then) or Stop(reason, reply=...)."""
        raise RuntimeError(
            f"attempted to call {type(self).__name__} {self._title()} with {request!r},"
            " but it has no handle_call"
        )

    def handle_cast(self, request: Any) -> Any:
        """Carry out a cast: NoReply(then), Stop(reason), or None, which means NoReply()."""
        raise RuntimeError(
            f"attempted to cast {type(self).__name__} {self._title()} {request!r},"
            " but it has no handle_cast"
        )

    def handle_info(self, message: Any) -> Any:
        """Take any other message: a plain send, an Exit, a Down, TIMEOUT. The same answers."""
        report_unexpected(self, message)

    def handle_continue(self, argument: Any) -> Any:
        """Go on after Continue(argument), before anything queued. The same answers."""
        raise RuntimeError(
            f"{type(self).__name__} {self._title()} said Continue({argument!r}),"
            " but it has no handle_continue"
        )

    def terminate(self, reason: Any) -> Any:
        """Clean up; runs when the server ends of its own accord, is stopped, or traps exits.

        It is not called for a kill, nor for an exit signal to a server that does not trap exits.
        """

    def status(self) -> dict[str, Any]:
        """What operators see, as a plain dictionary; runs between messages."""
        return {}

    def format_status(self, status: dict[str, Any]) -> dict[str, Any]:
        """Hide what must not be logged or shown: gets and returns a dictionary.

        Its keys: "state"; in a crash report also "message" and "reason".
        """
        return status

    # ---- turns

    def _turn(self) -> None:
        inbox = self._inbox
        items = inbox.items
        for _ in range(FAIR_SHARE):
            try:
                item = items.popleft()
            except IndexError:
                return
            if self._suspended and not self._acts_at_once(item):
                if inbox.held is None:
                    inbox.held = type(items)()
                inbox.held.append(item)
                continue
            then = self._handle(item)
            if inbox.reason is not ALIVE:
                return
            if then is not None:
                self._proceed(then)
                if inbox.reason is not ALIVE:
                    return

    def _inline_turn(self, item: Any) -> None:
        then = self._handle(item)
        inbox = self._inbox
        if then is not None and inbox.reason is ALIVE:
            inbox.items.appendleft(Resume(then))

    def _acts_at_once(self, item: Any) -> bool:
        """Whether even a suspended server acts on this: system messages, stop, its parent's end."""
        if isinstance(item, Exit):
            return item.ref is not None and self._is_parent(item.ref)
        return isinstance(item, System | Halt) or _is_pykka_stop(item)

    def _handle(self, item: Any) -> Any:
        """Handle one message; what the callback said comes next is returned."""
        kind = type(item)
        if kind is Request or kind is Asked:
            if self._idle_marker is not None:
                self._cancel_idle()
            return self._handle_request(item)
        if kind is Cast:
            if self._idle_marker is not None:
                self._cancel_idle()
            return self._handle_noreply(self.handle_cast, item.request, "cast")
        if not issubclass(kind, Internal):
            if kind is Exit and self._ends_me(item):
                self._terminate(item.reason)
                return None
            self._cancel_idle()
            if kind.__module__ == PYKKA_MESSAGES:
                self._handle_deferred(item)
                return None
            return self._handle_plain(item)
        return self._handle_internal(item)

    def _handle_deferred(self, message: Any) -> None:
        """A proxied call that nobody waits for; what it raises ends the server."""
        before = self.state
        try:
            self._callback(self._handle_receive, message)
        except BaseException as error:
            self._raised(error, before)

    def _handle_internal(self, item: Any) -> Any:
        match item:
            case System():
                self._handle_system(item)
            case Begin():
                return self._handle_begin(item)
            case IdleOver():
                if item is self._idle_marker:
                    self._idle_marker = None
                    return self._handle_noreply(self.handle_info, TIMEOUT, "info")
            case Resume(then=then):
                return then
            case Halt(reason=reason):
                self._terminate(reason)
        return None

    def _handle_plain(self, message: Any) -> Any:
        return self._handle_noreply(self.handle_info, message, "info")

    def _ends_me(self, notice: Exit) -> bool:
        """Whether this Exit ends the server: its parent's, or its own when it has no parent."""
        parent = self._inbox.parent
        if parent is None:
            return notice.ref is self._inbox.ref
        return notice.ref is parent.ref

    def _handle_begin(self, begin: Begin) -> Any:
        inbox = self._inbox
        inbox.current = begin
        if inbox.reason is not ALIVE:
            return None
        try:
            result = self._callback_init(begin)
        except BaseException as error:
            self._fail_start(begin, error.reason if isinstance(error, ProcessExit) else error)
            return None
        match result:
            case Ok(state, then) if _is_then(then):
                if state is not UNSET:
                    self.state = state
                inbox.current = None
                inbox.inline = self.inline
                begin.answer(inbox.ref)
                return then
            case Ignore():
                self._leave_parent()
                inbox.current = None
                self._end("normal")
                begin.answer(None)
            case Stop(reason, reply) if reply is UNSET:
                self._fail_start(begin, reason)
            case wrong:
                self._fail_start(begin, ("bad_return_value", wrong))
        return None

    def _callback_init(self, begin: Begin) -> Any:
        answer = self.init(*begin.args, **begin.kwargs)
        if isinstance(answer, Ok):
            self._check_own_names()
        return answer

    def _fail_start(self, begin: Begin, reason: Any) -> None:
        inbox = self._inbox
        if inbox.reason is not ALIVE:
            return
        parent = inbox.parent
        if parent is not None and (traps(parent) or is_word(reason, "normal")):
            # A parent that traps gets the error, and finds no stray Exit in its mail.
            self._leave_parent()
        inbox.current = None
        self._end(reason, self._crash_report(reason, "init"))
        begin.fail(reason)

    def _handle_request(self, request: Any) -> Any:
        inbox = self._inbox
        inbox.current = request
        # Current first, then the look: a death does it the other way round.
        if inbox.reason is not ALIVE:
            return None
        if type(request) is Asked and type(request.message).__module__ == PYKKA_MESSAGES:
            return self._handle_pykka(request)
        if self._observer is not None:
            self._observe("in", ("call", request.message, request))
            if inbox.reason is not ALIVE:
                return None
        self._last_message = request
        before = self.state
        try:
            result = self.handle_call(request.message, request)
        except BaseException as error:
            self._raised(error, before)
            return None
        if isinstance(result, Reply):
            then = result.then
            if then is None or _is_then(then):
                with inbox.lock:
                    if inbox.reason is ALIVE:
                        request.answer(result.value)
                inbox.end_current(request)
                if self._observer is not None:
                    self._observe("out", result.value, request)
                return then
        elif isinstance(result, NoReply):
            then = result.then
            if then is None or _is_then(then):
                if not request.answers:
                    if type(request) is Asked:
                        # Who waits for the future holds the request; else our death would miss it.
                        vars(request.future)["asked"] = request
                    inbox.later(request)
                inbox.end_current(request)
                if self._observer is not None:
                    self._observe("noreply")
                return then
        elif isinstance(result, Stop):
            self._terminate(result.reason, request, result.reply)
            return None
        self._answered_nonsense(result, before)
        return None

    def _handle_noreply(self, callback: Callable[[Any], Any], argument: Any, kind: str) -> Any:
        """Run a callback of the user's; what it raises ends the server."""
        if self._inbox.reason is not ALIVE:
            return None
        if self._observer is not None:
            if kind == "continue":
                self._observe(kind, argument)
            else:
                self._observe("in", (kind, argument))
            if self._inbox.reason is not ALIVE:
                return None
        self._last_message = argument
        before = self.state
        try:
            result = callback(argument)
        except BaseException as error:
            self._raised(error, before)
            return None
        if result is None:
            then = None
        elif isinstance(result, NoReply) and (result.then is None or _is_then(result.then)):
            then = result.then
        elif isinstance(result, Stop) and result.reply is UNSET:
            self._terminate(result.reason)
            return None
        else:
            self._answered_nonsense(result, before)
            return None
        if self._observer is not None:
            self._observe("noreply")
        return then

    def _answered_nonsense(self, result: Any, before: Any) -> None:
        """End with a bad_return_value; like a raise, it leaves the state as it was before."""
        self.state = before
        self._terminate(("bad_return_value", result))

    def _handle_pykka(self, asked: Asked) -> Any:
        """A proxied call, attribute or stop: what it raises fails its caller only."""
        try:
            answer = self._callback(self._handle_receive, asked.message)
        except Exception as error:
            asked.fail_with(error)
        except BaseException as error:
            self._crash(error)
        else:
            with self._inbox.lock:
                if self._inbox.reason is ALIVE:
                    asked.answer(answer)
        self._inbox.end_current(asked)
        return None

    def _handle_system(self, item: System) -> None:
        inbox = self._inbox
        inbox.current = item
        if inbox.reason is not ALIVE:
            return
        try:
            succeeded, outcome = True, item.message(self)
        except BaseException as error:
            # What the asker sent along failed, not the server: it lives on.
            succeeded, outcome = False, ("callback_failed", error)
        with inbox.lock:
            if inbox.reason is not ALIVE:
                return
            if succeeded:
                item.answer(outcome)
            else:
                item.fail(outcome)
        inbox.current = None
        if self._idle_marker is not None:
            self._arm(self._idle_seconds)

    def _raised(self, error: BaseException, before: Any) -> None:
        """A callback raised: end with it, the state as it was before."""
        if self._inbox.reason is ALIVE:
            self.state = before
            # Here, since it may be the cause or the context of what others log.
            error.__traceback__ = users_frames(error.__traceback__)
            self._crash(error)

    def _proceed(self, then: Any) -> None:
        """Do what a callback said comes next."""
        inbox = self._inbox
        while then is not None and inbox.reason is ALIVE:
            if isinstance(then, Continue):
                then = self._handle_noreply(self.handle_continue, then.argument, "continue")
            elif isinstance(then, Timeout):
                if then.seconds == 0 and not inbox.items:
                    then = self._handle_noreply(self.handle_info, TIMEOUT, "info")
                else:
                    if not is_word(then.seconds, "infinity"):
                        self._arm(then.seconds)
                    return
            else:
                return  # Hibernate: an idle process holds no thread and no stack anyway.

    # ---- the idle timeout

    def _arm(self, seconds: float) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        inbox, marker = self._inbox, IdleOver()
        self._idle_marker = marker
        self._idle_seconds = seconds
        if seconds == 0:
            # Behind what is queued: a message there cancels it, a system message does not.
            self._idle_timer = None
            inbox.items.append(marker)
        else:
            self._idle_timer = clock.call_later(seconds, lambda: inbox.put(marker))

    def _cancel_idle(self) -> None:
        if self._idle_marker is not None:
            self._idle_marker = None
            if self._idle_timer is not None:
                self._idle_timer.cancel()
                self._idle_timer = None

    # ---- suspended

    def _suspend(self) -> None:
        self._suspended = True
        self._inbox.inline = False

    def _resume(self) -> None:
        inbox = self._inbox
        self._suspended = False
        inbox.inline = self.inline
        held, inbox.held = inbox.held, None
        if held:
            inbox.items.extendleft(reversed(held))

    # ---- ends

    def _crash(self, error: BaseException) -> None:
        if self._inbox.reason is ALIVE:
            self._terminate(error.reason if isinstance(error, ProcessExit) else error)

    def _terminate(self, reason: Any, request: Any = None, answer: Any = UNSET) -> None:
        """Run `terminate`, report, answer the caller of a Stop with a reply, and end."""
        inbox = self._inbox
        if inbox.reason is not ALIVE:
            return
        try:
            self._callback(self.terminate, reason)
        except BaseException as error:
            reason = error.reason if isinstance(error, ProcessExit) else error
        if inbox.reason is not ALIVE:
            return
        report = self._crash_report(reason, self._last_message)
        if answer is not UNSET:
            with inbox.lock:
                if inbox.reason is ALIVE:
                    request.answer(answer)
            if self._observer is not None:
                self._observe("out", answer, request)
        self._cancel_idle()
        self._end(reason, report)

    def _buried(self) -> None:
        self._cancel_idle()

    def _finish(self, cause: Any) -> None:
        """A Pykka stop, or a BaseException: as `stop`."""
        self._terminate(cause.reason if isinstance(cause, ProcessExit) else cause)

    def _state(self) -> Any:
        return self.state

    def _formatted(self, status: dict[str, Any]) -> dict[str, Any]:
        try:
            return dict(self._callback(self.format_status, dict(status)))
        except BaseException:
            hidden = f"{type(self).__name__}.format_status crashed"
            return {key: hidden if key != "reason" else status[key] for key in status}

    def _observe(self, *event: Any) -> None:
        observer = self._observer
        if observer is not None:
            observer(self, event)

    @classmethod
    def _ask_failure(cls, asked: Asked, reason: Any) -> BaseException:
        ref = asked.target.ref
        if is_word(reason, "noproc"):
            return super()._ask_failure(asked, reason)
        return CallExit(reason, ref, asked.message)

    @classmethod
    def _self(cls) -> type[Self]:
        return cls


def report_unexpected(server: GenServer, message: Any) -> None:
    """A message that nobody handles is dropped, and logged; it must not end whoever got it."""
    report(
        lambda: log.warning("unexpected_message", process=server._title(), message=repr(message))
    )


CALLBACK_CALLERS.update(("_handle_request", "_handle_noreply", "_callback_init"))


def _is_pykka_stop(item: Any) -> bool:
    kind = type(item.message if isinstance(item, Asked) else item)
    return kind.__name__ == "_ActorStop" and kind.__module__ == PYKKA_MESSAGES


def _check_no_dunder_init(cls: type) -> None:
    """Refuse an `__init__` from wherever: nobody would call it."""
    for base in cls.__mro__:
        if base is Process:
            return
        # What typing writes into every Protocol does nothing.
        if "__init__" in base.__dict__ and not base.__dict__.get("_is_protocol"):
            whose = "" if base is cls else f", that of {base.__qualname__}"
            raise TypeError(
                f"{cls.__qualname__} defines __init__{whose}; a GenServer is set up in"
                " init(self, ...), which runs in the new process"
            )


def _check_init(cls: type, init: Any) -> None:
    try:
        parameters = inspect.signature(init).parameters
    except (TypeError, ValueError):
        return
    for reserved in ("name", "timeout"):
        if reserved in parameters and parameters[reserved].kind is not (
            inspect.Parameter.VAR_KEYWORD
        ):
            raise TypeError(
                f"{cls.__qualname__}.init has a parameter {reserved!r}; that word belongs to"
                " start and start_link, and never reaches init: choose another"
            )


def _is_then(then: Any) -> bool:
    """Whether this may stand as the `then` of a result."""
    if then is None or isinstance(then, Continue | Hibernate):
        return True
    if not isinstance(then, Timeout):
        return False
    seconds: Any = then.seconds
    return is_word(seconds, "infinity") or (
        isinstance(seconds, int | float) and not isinstance(seconds, bool) and seconds >= 0
    )


def _take_name(name: Any, inbox: Mailbox) -> None:
    if name is None:
        return
    try:
        if isinstance(name, Named):
            name.register(inbox.ref)
        else:
            check_name(name)
            local_names.register(name, inbox)
    except NameTaken as taken:
        raise AlreadyStarted(taken.ref, f"{name!r} is already taken by {taken.ref!r}") from None


def _run_inline(inbox: Mailbox, item: Any, me: Mailbox | None, mine: Any = False) -> bool:
    """Handle one message on this thread, as that process; False when somebody else comes first.

    ``mine`` says whether this thread has the token already. Ctrl-C or a RecursionError may strike
    between any two steps: what moves the token says in the same step whose it is (design.md, S6).
    """
    depth, runs = here.depth, True
    try:
        process: Any = inbox.process
        if not mine:
            (mine,) = map(inbox.token.acquire, NO_WAIT)
            if not mine:
                return False
            # The token, then the look: from here on what others send comes after this.
            runs = (
                not inbox.items
                and inbox.reason is ALIVE
                and not process._suspended
                and (me is None or me.reason is ALIVE)
            )
        if runs:
            here.inbox, here.depth = inbox, depth + 1
            try:
                inbox.context.run(process._inline_turn, item)  # type: ignore[union-attr]
            except KeyboardInterrupt as error:
                if inbox.reason is ALIVE:
                    process._end_at_once(error)  # As in its handler: what it was at is not done.
                raise
            here.inbox, here.depth = me, depth
        dead = inbox.reason is not ALIVE
        # A worker closes what a dead process owns: this thread's process is not the owner.
        if not runs or inbox.items or (dead and inbox.owned):
            (mine,) = map(inbox.runner.queue.append, (inbox,))
            inbox.runner.rouse()
        elif dead:
            inbox.bury()
            mine = False
        else:
            (mine,) = starmap(inbox.token.release, _NO_ARGUMENTS)
            if inbox.items or inbox.reason is not ALIVE:
                inbox.enqueue()
        return runs
    except BaseException:
        here.inbox, here.depth = me, depth
        # Only calls into C: near the recursion limit there may be no room for others. A process
        # that was about to be started never lives, and nothing may run it.
        if mine and type(item) is not Begin:
            inbox.runner.queue.append(inbox)
        scheduler.watchdog.alarms.put(inbox.repair)
        raise


def _await_start(
    begin: Begin, inbox: Mailbox, me: Mailbox | None, timeout: float | None, inline: bool
) -> Any:
    if not begin.is_answered(timeout):
        if me is not None:
            drop_link(me, inbox)
        exit_signal(inbox, None, "kill")
        _forget_exit(me, inbox)
        raise StartError("timeout", f"init did not answer within {timeout} s; it was killed")
    if me is not None:
        me.check_alive()
    succeeded, outcome = begin.answers[0]
    if succeeded:
        return outcome
    _forget_exit(me, inbox)
    if inline:
        _pass_on_ctrl_c(outcome)
    raise StartError(outcome)


def _pass_on_ctrl_c(reason: Any) -> None:
    """Raise a Ctrl-C again that struck while the main thread ran another process's callback."""
    if here.worker is None and isinstance(reason, KeyboardInterrupt):
        raise reason


def _forget_exit(me: Mailbox | None, inbox: Mailbox) -> None:
    """Take the Exit of a process that did not start out of its parent's mail."""
    if me is not None and inbox.parent is me:
        me.take(lambda message: isinstance(message, Exit) and message.ref is inbox.ref)


# ---- the callers' side


def call(server: Any, request: Any, timeout: float | None = 5.0) -> Any:
    """Send a request and wait for the answer.

    ``server`` is a ref, a name or a Via; ``timeout`` is in seconds, None waits for ever. Raises
    NoProcess when nobody is there, CallTimeout, CallingSelf, and CallExit with the server's reason
    when it ends before it answers, "normal" included. Blocks the caller; other processes run.
    """
    if scheduler.forked:
        check_fork()
    if timeout is not None and timeout != 5.0:
        check_timeout(timeout)
    inbox = server._inbox if type(server) is ProcessRef else _find(server)
    me = here.inbox
    if me is not None:
        me.check_alive()
        if inbox is me:
            raise CallingSelf(server, request)
    if inbox is None:
        raise NoProcess(server, request)
    asked = Request(request, me, inbox, server)
    if inbox.inline and here.depth < MAX_INLINE_DEPTH and not inbox.token.locked():
        _call_inline(inbox, asked, me)
    else:
        _post(me, inbox, asked)
    if not asked.answers and not asked.is_answered(timeout):
        asked.abandoned = True
        raise CallTimeout(server, request, timeout)
    succeeded, outcome = asked.answers[0]
    if succeeded:
        return outcome
    if me is not None:
        me.check_alive()  # The server's end may have been its own.
    raise asked.failure(outcome)


def _find(server: Any) -> Mailbox | None:
    """The server's mailbox; None, which `whereis` answers, is a name that nobody has."""
    return None if server is None else find(server)


def _post(me: Mailbox | None, inbox: Mailbox, item: Any) -> None:
    """Put a message into a mailbox, unless its sender is dead."""
    if me is None:
        inbox.put(item)
    else:
        # The own lock makes a death one step: nothing that a process sends comes after it.
        with me.lock:
            me.check_alive()
            inbox.put(item)


def _call_inline(inbox: Mailbox, asked: Request, me: Mailbox | None) -> None:
    process: Any = inbox.process  # A GenServer, for nothing else is inline.
    started = clock.now()
    if not _run_inline(inbox, asked, me):
        _post(me, inbox, asked)
        return
    took = clock.now() - started
    if took > process.inline_limit and took > process._overrun:
        # Ever rarer: a busy machine makes everybody late now and then.
        process._overrun = 2 * took
        report(
            lambda: log.warning(
                "inline_overrun",
                process=process._title(),
                seconds=took,
                request=repr(asked.message),
            )
        )
    if inbox.reason is not ALIVE:
        _pass_on_ctrl_c(inbox.reason)  # Not from the answer: one may have gone out before.
    if me is not None:
        me.check_alive()


def cast(server: Any, request: Any) -> None:
    """Send a request that wants no answer; never blocks, never fails for the dead or unknown."""
    if scheduler.forked:
        check_fork()
    inbox = server._inbox if type(server) is ProcessRef else _find(server)
    me = here.inbox
    if inbox is None:
        if me is not None:
            me.check_alive()
        return
    # What is no server gets the bare request, as it does from `call`.
    process = inbox.process
    item = Cast(request) if process is not None and process._serves else request
    if me is None:
        inbox.put(item)
    else:
        _post(me, inbox, item)


def reply(sender: Any, value: Any) -> None:
    """Answer a call from anywhere; the first answer counts, a late or second one vanishes."""
    check_fork()
    if not isinstance(sender, Request | Asked):
        raise TypeError(f"expected the sender that handle_call was given, got: {sender!r}")
    me = here.inbox
    if me is None:
        sender.answer(value)
    else:
        with me.lock:
            me.check_alive()
            sender.answer(value)


def send_request(server: Any, request: Any) -> Request:
    """Send a request and go on; the Request has the answer later. Sending never fails.

    The handler of an ``inline`` server that is idle runs here and now, on the sender's thread.
    """
    check_fork()
    inbox = _find(server)
    me = here.inbox
    if inbox is None:
        if me is not None:
            me.check_alive()
        return _no_one(server, request)
    asked = Request(request, me, inbox, server)
    if inbox is me:
        asked.fail("calling_self")
    elif inbox.inline and here.depth < MAX_INLINE_DEPTH and not inbox.token.locked():
        _call_inline(inbox, asked, me)
    else:
        _post(me, inbox, asked)
    return asked


def _no_one(server: Any, request: Any) -> Request:
    asked = Request(request, here.inbox, None, server)  # type: ignore[arg-type]
    asked.fail("noproc")
    return asked


def stop(server: Any, reason: Any = "normal", timeout: float | None = None) -> None:
    """Stop a process with ``reason`` after what is queued, and wait until it is dead.

    `terminate` runs. Raises NoProcess, CallTimeout (it still stops, later), CallingSelf, and
    CallExit when it ends with another reason than this one.
    """
    check_fork()
    check_timeout(timeout)
    inbox = _find(server)
    me = here.inbox
    if inbox is not None and inbox is me:
        raise CallingSelf(server, ("stop", reason))
    if me is not None:
        me.check_alive()
    if inbox is None:
        raise NoProcess(server, ("stop", reason))
    with death_of(inbox) as slot:
        if inbox.reason is not ALIVE:
            raise NoProcess(server, ("stop", reason))
        if not _stop_here(inbox, me, reason):
            inbox.put(Halt(reason))
        if not wait(slot, timeout) and inbox.reason is ALIVE:
            raise CallTimeout(server, ("stop", reason), timeout)
    if not _same(inbox.reason, reason):
        raise CallExit(inbox.reason, server, ("stop", reason))


def _stop_here(inbox: Mailbox, me: Mailbox | None, reason: Any) -> bool:
    """Stop an idle server that has nothing to do at its end on this thread: it costs no switch."""
    process: Any = inbox.process
    if (
        not isinstance(process, GenServer)
        or type(process).terminate is not GenServer.terminate
        or process.dedicated_thread
        or process._suspended
        or inbox.owned
        or not is_clean(reason)
        or here.depth >= MAX_INLINE_DEPTH
        or inbox.token.locked()
    ):
        return False
    return _run_inline(inbox, Halt(reason), me)


def system_call(
    server: Any,
    operation: Callable[[Any], Any],
    timeout: float | None,
    request: Any = None,
) -> Any:
    """Run ``operation(server)`` in a GenServer between messages, also while it is suspended.

    ``request`` is what an error shows in the place of ``operation``. Raises as `call` does,
    CallExit(("callback_failed", exception)) for what the operation raised, and TypeError for a
    process that is no GenServer.
    """
    check_fork()
    check_timeout(timeout)
    if request is None:
        request = operation
    inbox = find(server)
    me = here.inbox
    if me is not None:
        me.check_alive()
        if inbox is me:
            raise CallingSelf(server, request)
    if inbox is None:
        raise NoProcess(server, request)
    if inbox.reason is ALIVE and not issubclass(inbox.ref.actor_class, GenServer):
        raise TypeError(
            f"expected a GenServer, got: {inbox.ref!r}; a plain Process takes no system messages,"
            " process.info shows what it does"
        )
    asked = System(operation, me, inbox)
    if me is None:
        inbox.put(asked)
    else:
        with me.lock:
            me.check_alive()
            inbox.put(asked)
    if not asked.is_answered(timeout):
        raise CallTimeout(server, request, timeout)
    succeeded, outcome = asked.answers[0]
    if succeeded:
        return outcome
    if is_word(outcome, "noproc"):
        raise NoProcess(server, request)
    failure = CallExit(outcome, server, request)
    if isinstance(outcome, tuple) and len(outcome) == 2 and isinstance(outcome[1], BaseException):
        failure.__cause__ = outcome[1]
    raise failure


def _same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    try:
        return type(one) is type(other) and bool(one == other)
    except Exception:
        return False


__all__ = ["GenServer", "Request", "call", "cast", "reply", "send_request", "stop"]
