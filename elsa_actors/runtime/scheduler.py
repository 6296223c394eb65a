"""Lend a worker thread to a process while it has mail; grow when workers block.

One worker runs at a time as long as nobody blocks: Python runs one thread at a time anyway, and a
second would only make the first one wait. A worker that waits in the library says so and another
takes over; one that blocks without a word is noticed by the watchdog. The invariants stand in
docs/design.md.
"""

from __future__ import annotations

import _thread
import ctypes
import dis
import logging
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from types import CodeType, FrameType
from typing import Any, Protocol

import structlog

from elsa_actors.runtime.clock import clock
from elsa_actors.runtime.errors import Forked
from elsa_actors.runtime.exits import ProcessExit

log = structlog.get_logger("elsa_actors")
fallback_log = logging.getLogger("elsa_actors")

MAX_WORKERS = 1000
TICK = 0.01
"""How often the watchdog looks, in seconds, while processes wait for a worker."""
_QUIET_TICKS = 10  # After so many looks with nobody waiting, the watchdog sleeps.
_LATE = 0.0025  # A watchdog woken later than this had to fight for the GIL: nobody is blocked.
GRACE = 0.2
"""How long the `finally` blocks of a leftover get after the first ProcessExit, in seconds."""
_KEPT_IDLE = 4
_IDLE_SECONDS = 10.0

RUNNING, BLOCKED, STUCK, PARKED, ORPHAN, GONE, OWN = (
    "running",
    "blocked",
    "stuck",
    "parked",
    "orphan",
    "gone",
    "own",
)


class Runnable(Protocol):
    """What the scheduler runs: a process's mailbox."""

    def turn(self, worker: Worker) -> bool:
        """Handle some mail; False when the worker ran a leftover and must end."""
        ...

    def end_leftover(self) -> None:
        """The last thing that a worker does that ran a leftover."""
        ...


class Here(threading.local):
    """Who is running on this thread."""

    inbox: Any = None  # the running process's mailbox; None on a plain thread
    worker: Worker | None = None  # this thread's worker
    depth: int = 0  # inline calls on this thread's stack
    deaths: Any = None  # deaths whose consequences this thread is carrying out


here = Here()


class Worker:
    """A thread that the scheduler lends, or that one process owns."""

    __slots__ = (
        "ident", "inbox", "lock", "looked", "looks", "not_before", "reported", "shots", "state",
        "turns", "unwind",
    )  # fmt: skip

    def __init__(self, state: str) -> None:
        self.lock = _thread.allocate_lock()
        self.lock.acquire()
        self.state = state
        self.ident = 0
        self.turns = 0
        self.looked = -1
        self.inbox: Any = None
        self.looks = 0
        self.shots = 0
        self.not_before = 0.0
        self.reported = False
        self.unwind = True  # whether its leftover may be ended by an exception


def wake(lock: Any) -> None:
    """Release a lock that a thread waits on; harmless when it is released already."""
    try:
        lock.release()
    except RecursionError:
        raise  # It is a RuntimeError, and the lock is not released.
    except RuntimeError:
        pass


def report(write: Callable[[], Any]) -> None:
    """Log an event of the scheduler's own; what a log processor raises must not end its threads."""
    try:
        write()
    except Exception:
        fallback_log.exception("an event could not be logged")


class Scheduler:
    """The pool: a queue of processes with mail, and the workers that run them."""

    def __init__(self) -> None:
        self.forked = False
        self.used = False  # there was a process
        self.queue: deque[Runnable] = deque()
        self.lock = threading.RLock()
        self.running = 0
        self.workers: set[Worker] = set()
        self.idle: list[Worker] = []
        self.blocked_silently = 0
        self.saturated = False
        self.watchdog = Watchdog(self)

    # ---- giving work

    def push(self, inbox: Runnable) -> None:
        """Run this mailbox soon. The caller holds its token and gives it away."""
        self.queue.append(inbox)
        self.rouse()

    def rouse(self) -> None:
        """See to it that somebody runs what is queued; harmless when somebody does already."""
        # The queue first, then the count: a worker that parks does it the other way round.
        if self.running == 0:
            self.start_workers(1)
        elif not self.watchdog.awake:
            self.watchdog.wake()

    def start_workers(self, count: int, beyond: int = 0) -> None:
        """Let up to ``count`` workers run, unless more than ``beyond`` run already."""
        if self.forked:
            return  # No process lives here.
        try:
            with self.lock:
                saturated = self._start_some(count, beyond)
        except BaseException:
            self.watchdog.alarms.put(self.repair)
            raise
        if saturated:
            self._report_saturation()

    def _start_some(self, count: int, beyond: int) -> bool:
        """As `start_workers`; True when there can be no more, and nobody was told yet."""
        for _ in range(count):
            if not self.queue or self.running > beyond:
                break
            if self.idle:
                worker = self.idle.pop()
                worker.state = RUNNING
                self.running += 1
                wake(worker.lock)
            elif len(self.workers) >= MAX_WORKERS or not self._hire():
                told, self.saturated = self.saturated, True
                return not told
        return False

    def _hire(self) -> bool:
        worker = Worker(RUNNING)
        self.workers.add(worker)
        self.running += 1
        try:
            self.start_thread(worker, self._work, "elsa-worker")
        except BaseException as error:
            self.workers.discard(worker)
            self.running -= 1
            if isinstance(error, RuntimeError) and not isinstance(error, RecursionError):
                return False  # The system gives no more threads: what there is must do.
            raise
        return True

    def start_thread(self, worker: Worker, work: Callable[[Worker], None], name: str) -> None:
        """Start a worker's thread, or raise, and then its thread does nothing if there is one."""
        with self.lock:
            try:
                threading.Thread(target=work, args=(worker,), name=name, daemon=True).start()
            except BaseException:
                worker.state = GONE
                raise

    def begins(self, worker: Worker) -> bool:
        """The first thing that a worker's thread asks: whether it is wanted still."""
        with self.lock:  # Held while it is started.
            if worker.state is GONE:
                return False
            worker.ident = _thread.get_ident()
        here.worker = worker
        return True

    def begin(self) -> None:
        """There is a process in this program now, and whoever is struck is heard."""
        self.used = True
        self.watchdog.start()

    def repair(self) -> None:
        """Finish what somebody had begun who was struck while he woke a worker.

        Between any two steps on the main thread Ctrl-C may strike, and near the recursion limit any
        call may fail. What is in the queue is not lost; who is counted may not have been woken.
        """
        with self.lock:
            for worker in self.workers:
                if worker.state is RUNNING:
                    wake(worker.lock)  # Once too often does no harm.
                elif worker.state is PARKED and worker not in self.idle:
                    self.idle.append(worker)
            self.running = sum(worker.state is RUNNING for worker in self.workers)
        if self.queue:
            self.rouse()

    def _report_saturation(self) -> None:
        # As on a plain thread, with no lock held: a log processor may use the library.
        running, here.inbox = here.inbox, None
        try:
            report(
                lambda: log.error(
                    "scheduler_saturated",
                    workers=len(self.workers),
                    waiting=len(self.queue),
                    orphans=len(self.watchdog.orphans),
                )
            )
        finally:
            here.inbox = running

    # ---- a worker's life

    def _work(self, worker: Worker) -> None:
        if not self.begins(worker):
            return
        queue = self.queue
        inbox: Any
        while True:
            try:
                inbox = queue.popleft()
            except IndexError:
                inbox = worker.inbox = None  # A parked worker keeps nobody from being let go.
                if self._park(worker):
                    continue
                return
            worker.turns += 1
            if not _turn(inbox, worker):
                self.leave(worker)
                inbox.end_leftover()
                return
            if worker.state is not RUNNING:
                self._back(worker)

    def _park(self, worker: Worker) -> bool:
        with self.lock:
            # The count first, then the queue: `push` does it the other way round, so that one
            # of the two sees the other.
            # The watchdog may have taken it for stuck a moment ago; then it is not counted.
            self._drop(worker)
            worker.state = PARKED
            if self.queue:
                worker.state = RUNNING
                self.running += 1
                return True
            self.idle.append(worker)
            self.saturated = False
        if not worker.lock.acquire(True, _IDLE_SECONDS):
            with self.lock:
                if worker in self.idle and len(self.idle) > _KEPT_IDLE:
                    self.idle.remove(worker)
                    self.workers.discard(worker)
                    worker.state = GONE
                    return False
            worker.lock.acquire()
        if worker.state is not RUNNING:
            self._resume(worker)
        return True

    def _resume(self, worker: Worker) -> None:
        # It was woken once too often, by `repair`.
        with self.lock:
            if worker.state is PARKED:
                if worker in self.idle:
                    self.idle.remove(worker)
                worker.state = RUNNING
                self.running += 1

    def _back(self, worker: Worker) -> None:
        with self.lock:
            if worker.state is STUCK:
                self.blocked_silently -= 1
                worker.state = RUNNING
                self.running += 1

    def leave(self, worker: Worker) -> None:
        """The worker ran a leftover; it ends, so that nothing meant for that hits another."""
        while True:
            try:
                with self.lock:
                    self._drop(worker)
                    worker.state = GONE
                    self.workers.discard(worker)
                    self.watchdog.orphans.discard(worker)
                break
            except ProcessExit:
                continue
        # Nobody shoots at it any more. What may still be on its way is replaced by a shot that hits
        # here: where nothing takes its place, CPython 3.11 and 3.12 look for it for ever, on every
        # thread, and function calls that are traced (a debugger, coverage) hang.
        try:
            while True:
                _set_async_exc(worker.ident, Unwound)
        except ProcessExit:
            pass
        if self.queue and self.running == 0:
            self.start_workers(1)

    def _drop(self, worker: Worker) -> None:
        """This worker does not count any more among those that run."""
        if worker.state is RUNNING:
            self.running -= 1
        elif worker.state is STUCK:
            self.blocked_silently -= 1

    # ---- waits that say so

    def block(self, worker: Worker) -> None:
        """This worker is about to wait in the library: another may run."""
        with self.lock:
            if worker.state is RUNNING or worker.state is STUCK:
                self._drop(worker)
                worker.state = BLOCKED
        if self.queue and self.running == 0:
            self.start_workers(1)

    def unblock(self, worker: Worker) -> None:
        """This worker's wait is over."""
        with self.lock:
            if worker.state is BLOCKED:
                worker.state = RUNNING
                self.running += 1

    # ---- the dead

    def orphan(self, worker: Worker, unwind: bool) -> None:
        """The process that this worker runs is dead; what it still runs is a leftover."""
        with self.lock:
            if worker.state is GONE:
                return
            self._drop(worker)
            worker.state = ORPHAN
            worker.unwind = unwind
            self.watchdog.orphans.add(worker)
        if self.queue and self.running == 0:
            self.start_workers(1)
        self.watchdog.wake()

    def after_fork(self) -> None:
        # A program that had no process yet has lost none: web servers load it, then fork.
        forked = self.used
        self.__init__()  # type: ignore[misc]
        self.used = self.forked = forked
        if here.inbox is not None:
            here.inbox.end_in_child()
        here.inbox = here.worker = here.deaths = None
        here.depth = 0


def _turn(inbox: Any, worker: Worker) -> bool:
    try:
        ended: bool = inbox.turn(worker)
    except ProcessExit:
        return False  # Meant for a leftover's code, and struck just after that had ended.
    return ended


def check_fork() -> None:
    """Refuse to go on in a forked child."""
    if scheduler.forked:
        raise Forked


def fence() -> Any:
    """The running process's mailbox, None on a plain thread.

    Raises ProcessExit in code whose process is dead, and Forked in a forked child.
    """
    check_fork()
    inbox = here.inbox
    if inbox is not None:
        inbox.check_alive()
    return inbox


class Watchdog:
    """Looks for workers that block without saying so, and unwinds leftovers.

    It ticks only while somebody waits for a worker or a leftover runs.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.awake = False
        self.orphans: set[Worker] = set()
        self._lock = threading.RLock()
        self.alarms: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        """None has it look. Whoever is struck by Ctrl-C, or a RecursionError, puts what does again
        what he was at, and may do it once too often. He can be sure of calls into C alone."""
        self._started = self._watching = False

    def start(self) -> None:
        """Start its thread, once; it sleeps until it is woken."""
        if not self._started:
            with self._lock:
                if not self._started:
                    thread = threading.Thread(target=self._watch, name="elsa-watchdog", daemon=True)
                    thread.start()
                    self._started = True

    def wake(self) -> None:
        """Have it look. Only itself says that it is awake: nobody relies on one who is not."""
        if self.alarms.empty():
            self.alarms.put(None)

    def _watch(self) -> None:
        with self._lock:
            if self._watching:
                return  # Whoever had started the first was struck before he could say so.
            self._watching = True
        # Asleep from the first: most programs never need it.
        self._sleep(None)
        self.awake = True
        quiet = 0
        pause = TICK
        while True:
            started = clock.now()
            rung = self._sleep(pause)
            late = clock.now() - started - pause
            if self.scheduler.queue:
                quiet = 0
                if not rung:
                    self._relieve(late)
            else:
                quiet += 1
            pause = self._unwind_leftovers()
            if self.scheduler.queue:
                pause = min(pause, TICK)
            elif quiet >= _QUIET_TICKS and pause >= TICK:
                self.awake = False
                # Asleep first, then the queue: `push` does it the other way round.
                if not self.scheduler.queue:
                    self._sleep(pause if self.orphans else None)
                self.awake = True
                quiet, pause = 0, TICK
            else:
                pause = min(pause, TICK)

    def _sleep(self, seconds: float | None) -> bool:
        """Wait for an alarm; False when ``seconds`` were over first."""
        try:
            repair = self.alarms.get(timeout=seconds)
        except Empty:
            return False
        if repair is not None:
            try:
                repair()
            except Exception:
                fallback_log.exception("what an interrupt had left undone could not be done")
        return True

    def _relieve(self, late: float) -> None:
        """Add workers when those that run are stuck, or the GIL is free while processes wait."""
        scheduler = self.scheduler
        with scheduler.lock:
            moving = False
            for worker in scheduler.workers:
                if worker.state is not RUNNING:
                    continue
                if worker.looked == worker.turns:
                    worker.state = STUCK
                    scheduler.running -= 1
                    scheduler.blocked_silently += 1
                else:
                    worker.looked = worker.turns
                    moving = True
            wanted = min(len(scheduler.queue), max(1, scheduler.blocked_silently))
            if not moving:
                scheduler.start_workers(wanted, beyond=wanted)
            elif late < _LATE:
                # They move, yet the processor was idle: handlers that wait a little each.
                more = scheduler.running + max(1, scheduler.running)
                scheduler.start_workers(more - scheduler.running, beyond=more)

    def _unwind_leftovers(self) -> float:
        """Try to end what dead processes still run; return the pause until the next try."""
        pause = 3600.0
        for worker in list(self.orphans):
            if worker.looks == 200 and not worker.reported:
                worker.reported = True
                _report_orphan(worker)
            worker.looks += 1
            if worker.unwind and clock.now() >= worker.not_before and unwind(worker):
                # Its `finally` blocks get time to run before the next shot.
                worker.shots += 1
                worker.not_before = clock.now() + min(GRACE * 2 ** (worker.shots - 1), 10.0)
            # Every millisecond at first, then ever more rarely.
            pause = min(pause, 0.001 if worker.looks < 100 else min(0.001 * worker.looks, 1.0))
        return pause


_LOCKING_MODULES = frozenset(
    {
        "_weakrefset",
        "asyncio",
        "concurrent",
        "contextlib",
        "functools",
        "importlib",
        "logging",
        "multiprocessing",
        "queue",
        "selectors",
        "socketserver",
        "sqlite3",
        "structlog",
        "subprocess",
        "tempfile",
        "threading",
        "weakref",
    }
)
"""Modules whose Python code holds locks that others need."""

_set_async_exc = ctypes.pythonapi.PyThreadState_SetAsyncExc
_set_async_exc.argtypes = (ctypes.c_ulong, ctypes.py_object)
_set_async_exc.restype = ctypes.c_int
_NOTHING = ctypes.py_object()
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


class Unwound(ProcessExit):
    """The ProcessExit that ends a leftover; made on its thread, with its process's reason."""

    def __init__(self) -> None:
        inbox = here.inbox
        super().__init__("killed" if inbox is None else inbox.reason)


def unwind(worker: Worker) -> bool:
    """Raise ProcessExit in a leftover's code if that is safe right now.

    Safe: the stack above the callback shows none of our code, and no module that holds locks in
    Python. Elsewhere a lock could stay held that healthy processes need.
    """
    # With the lock held the thread cannot end, and its number not pass to another thread.
    with scheduler.lock:
        if worker.state is not ORPHAN or not is_safe_to_unwind(_top_frame(worker), worker.inbox):
            return False
        _set_async_exc(worker.ident, Unwound)
        # The thread may have gone on between the look and the shot: look again, take it back.
        if is_safe_to_unwind(_top_frame(worker), worker.inbox):
            return True
        _set_async_exc(worker.ident, _NOTHING)
        return False


def _top_frame(worker: Worker) -> FrameType | None:
    return sys._current_frames().get(worker.ident)


def is_safe_to_unwind(top: FrameType | None, inbox: Any) -> bool:
    """Whether all above this process's callback is user code, and holds no lock of Python's."""
    frame = top
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(_PACKAGE):
            # Our first frame below the user's code must be the one that called the callback, and
            # of this very process: an inline handler of a healthy one may stand above it.
            if frame is top or code.co_name not in CALLBACK_CALLERS:
                return False
            process = frame.f_locals.get("self")
            return getattr(process, "_inbox", None) is inbox
        if _misses_a_handler(frame):
            return False
        module = frame.f_globals.get("__name__", "")
        if module.partition(".")[0] in _LOCKING_MODULES:
            return False
        frame = frame.f_back
    return False


_bad_loops: weakref.WeakKeyDictionary[CodeType, list[tuple[int, int]]] = weakref.WeakKeyDictionary()


def _misses_a_handler(frame: FrameType) -> bool:
    """Whether an exception that strikes here might miss a `finally` or the end of a `with`.

    Where a loop turns, CPython may take it for raised just before the `try` that begins with the
    loop (3.11, 3.12), or just behind the one that ends with it (3.13).
    """
    loops = _bad_loops.get(frame.f_code)
    if loops is None:
        loops = _bad_loops[frame.f_code] = list(_find_bad_loops(frame.f_code))
    return any(start <= frame.f_lasti <= end for start, end in loops)


def _find_bad_loops(code: CodeType) -> Iterator[tuple[int, int]]:
    bytecode = dis.Bytecode(code)
    handlers = getattr(bytecode, "exception_entries", ())

    def handler(offset: int) -> Any:
        return next((h.target for h in handlers if h.start <= offset < h.end), None)

    for jump in bytecode if handlers else ():
        if "JUMP_BACKWARD" not in jump.opname:
            continue
        turn, start = jump.offset, jump.argval
        if sys.version_info < (3, 13):
            # It is raised where the thread stands.
            if handler(start - 2) != handler(start):
                yield turn, turn
        elif handler(turn) != handler(start):
            # It is raised where the thread looks next, which may be the turn.
            yield start, turn


CALLBACK_CALLERS: set[str] = {"_callback"}
"""Names of the functions that call users' code and can bear a ProcessExit out of it."""


def _report_orphan(worker: Worker) -> None:
    frame = _top_frame(worker)
    where = f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else "unknown"
    report(lambda: log.error("orphan_thread", process=repr(worker.inbox), where=where))


class OwnThread:
    """A thread of one process's own, in the place of the pool."""

    __slots__ = ("queue", "worker")

    def __init__(self) -> None:
        self.queue: deque[Any] = deque()  # its one process, when it has mail
        self.worker: Worker | None = None

    def push(self, inbox: Any) -> None:
        self.queue.append(inbox)
        self.rouse()

    def rouse(self) -> None:
        """As the scheduler's."""
        if scheduler.forked:
            return
        if self.worker is None:
            with scheduler.lock:
                if self.worker is None:
                    worker = Worker(OWN)
                    scheduler.start_thread(worker, self._work, "elsa-own")
                    self.worker = worker
        wake(self.worker.lock)

    def _work(self, worker: Worker) -> None:
        if not scheduler.begins(worker):
            return
        queue = self.queue
        while True:
            while not queue:
                worker.lock.acquire()
            inbox = queue.popleft()
            if not _turn(inbox, worker):
                scheduler.leave(worker)
                inbox.end_leftover()
                return
            if inbox.is_buried():
                return


scheduler = Scheduler()
"""The pool of this program."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=scheduler.after_fork)
