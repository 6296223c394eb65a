"""Dying: what a death is for everyone else, and what becomes of the code that is left over."""

from __future__ import annotations

import _thread
import gc
import io
import logging
import queue
import sys
import threading
import time
import weakref

import pytest
import structlog

from elsa_actors import (
    AlreadyStarted,
    CallExit,
    Continue,
    Down,
    Exit,
    GenServer,
    NoProcess,
    NoReply,
    Ok,
    ProcessExit,
    Reply,
    StartError,
    Stop,
    Supervisor,
    Timeout,
    call,
    cast,
    process,
    reply,
    send_request,
    stop,
)
from elsa_actors.runtime import scheduler
from elsa_actors.runtime.clock import clock
from elsa_actors.runtime.process import Process
from tests.servers import WAIT, Child, Doer, Gate, Journal, Oops, nothing_comes

# What ends a leftover may strike in a finaliser or a callback of the garbage collector's that
# runs on its thread; Python reports and drops it there, and the watchdog fires again.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

LONG = 20.0
"""How long a leftover may need to be unwound on a machine that has much else to do."""


def within(ref, function):
    """What this function gives inside that process."""
    return call(ref, lambda server: Reply(function()), timeout=WAIT)


def end_of(ref, act):
    """The reason with which a process ends when ``act`` is done; the running process watches."""
    watch = process.monitor(ref)
    act()
    return process.receive(
        lambda message: isinstance(message, Down) and message.monitor is watch, WAIT
    ).reason


def eventually(fact, seconds=WAIT):
    """Wait until something that nobody announces is so."""
    pause = threading.Event()
    for _ in range(int(seconds / 0.01)):
        if fact():
            return True
        pause.wait(0.01)
    return False


def kill(ref):
    process.exit(ref, "kill")


def at_a_gate(server, then=None, request=False):
    """Have this server stand in a callback, where the library does not see it wait."""
    gate = Gate()

    def stand(server):
        gate()
        return None if then is None else then(server)

    asked = send_request(server, stand) if request else cast(server, stand)
    gate.reached()
    return (gate, asked) if request else gate


def on_a_thread(function):
    """Run this on a plain thread; what it gave or raised, unless it hangs."""
    outcome = []

    def run():
        try:
            outcome.append((True, function()))
        except BaseException as error:
            outcome.append((False, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(WAIT)
    assert outcome, "still at it"
    succeeded, value = outcome[0]
    if succeeded:
        return value
    raise value


@pytest.fixture
def going():
    """Whether this test's endless loops go on: a failing test leaves none to disturb the others."""
    going = [True]
    yield lambda: going[0]
    going[0] = False


# ---- dead at once, for everyone else


def test_killed_busy_process_is_dead_at_once_for_everyone_else(me):
    """Its thread runs on, and nobody notices: the name is free, links and monitors are told,
    callers answered. SIG-11, SIG-13, NAME-06.
    """
    server = Doer.start(None, None, True, name="busy")
    linked = Doer.start(None, heard := Journal(), True)
    within(linked, lambda: process.link(server))
    gate, asked = at_a_gate(server, lambda server: Reply("too late"), request=True)
    queued = send_request(server, lambda server: Reply("never"))
    watch = process.monitor(server)

    kill(server)

    assert not process.is_alive(server)
    assert process.whereis("busy") is None
    assert process.receive(timeout=0) == Down(watch, server, "killed")
    within(linked, lambda: None)
    assert heard.events == [("info", Exit(server, "killed"))]
    for request in (asked, queued):
        assert request.check()
        with pytest.raises(CallExit) as raised:
            request.receive(0)
        assert raised.value.reason == "killed"
    with pytest.raises(NoProcess):
        call(server, lambda server: None)
    successor = Doer.start(name="busy")
    assert process.whereis("busy") is successor
    gate.open()
    assert eventually(server._inbox.is_buried)
    assert process.whereis("busy") is successor
    assert nothing_comes()


def test_caller_that_waits_for_a_delayed_answer_is_told(me):
    """A promise to answer later dies with who gave it. CALL-05."""
    server = Doer.start()
    asked = send_request(server, lambda server: NoReply())
    within(server, lambda: None)
    kill(server)
    with pytest.raises(CallExit) as raised:
        asked.receive(WAIT)
    assert raised.value.reason == "killed"


def test_ask_that_meets_a_death_is_answered():
    """However close it was, Pykka's futures get an answer or an error, never silence. DEAD-03."""

    class Echo(Process):
        def on_receive(self, message):
            return message

    outcomes = set()
    for _ in range(200):
        echo = Echo.start()
        killer = threading.Thread(target=kill, args=(echo,))
        killer.start()
        for _ in range(20):
            try:
                outcomes.add(echo.ask("hello", timeout=WAIT))
            except NoProcess as error:
                outcomes.add(error.reason)
                break
        killer.join(WAIT)
    assert outcomes <= {"hello", "noproc"}


def test_call_that_meets_a_death_is_answered(me):
    """The same for calls: an answer, or the reason of the end, or nobody there. CALL-14."""
    killer = Doer.start()
    outcomes = set()
    for _ in range(300):
        server = Doer.start()
        cast(killer, lambda killer, server=server: process.exit(server, "boom"))
        try:
            while True:
                outcomes.add(call(server, lambda server: Reply("answer"), timeout=WAIT))
        except CallExit as error:
            outcomes.add(error.reason)
    assert outcomes <= {"answer", "boom", "noproc"}
    assert outcomes & {"boom", "noproc"}


LIBRARY = {
    "current": lambda other, me, asked: process.current(),
    "send": lambda other, me, asked: process.send(me, "from beyond"),
    "send_after": lambda other, me, asked: process.send_after(me, "from beyond", 0),
    "call": lambda other, me, asked: call(other, lambda server: server.journal("call")),
    "cast": lambda other, me, asked: cast(other, lambda server: server.journal("cast")),
    "send_request": lambda other, me, asked: send_request(
        other, lambda server: server.journal("request")
    ),
    "reply": lambda other, me, asked: reply(asked, "from beyond"),
    "stop": lambda other, me, asked: stop(other),
    "exit": lambda other, me, asked: process.exit(other, "kill"),
    "exit_self": lambda other, me, asked: process.exit_self("another reason"),
    "link": lambda other, me, asked: process.link(me),
    "unlink": lambda other, me, asked: process.unlink(me),
    "monitor": lambda other, me, asked: process.monitor(me),
    "trap_exit": lambda other, me, asked: process.trap_exit(True),
    "receive": lambda other, me, asked: process.receive(timeout=0),
    "sleep": lambda other, me, asked: process.sleep(0),
    "register": lambda other, me, asked: process.register("from beyond", other),
    "unregister": lambda other, me, asked: process.unregister("other"),
    "whereis": lambda other, me, asked: process.whereis("other"),
    "is_alive": lambda other, me, asked: process.is_alive(other),
    "list": lambda other, me, asked: process.list(),
    "registered": lambda other, me, asked: process.registered(),
    "info": lambda other, me, asked: process.info(other),
    "disown": lambda other, me, asked: process.disown("thing"),
    "start": lambda other, me, asked: Doer.start(None, None, True, name="from beyond"),
    "start_link": lambda other, me, asked: Doer.start_link(None, None, True, name="from beyond"),
    "Process.start": lambda other, me, asked: Process.start(),
    "Supervisor": lambda other, me, asked: Supervisor.start_link([], name="from beyond"),
    "which_children": lambda other, me, asked: Supervisor.which_children(other),
    "tell": lambda other, me, asked: other.tell("from beyond"),
    "ask": lambda other, me, asked: other.ask(lambda server: server.journal("ask")),
}


@pytest.mark.parametrize("function", LIBRARY.values(), ids=LIBRARY.keys())
def test_leftover_code_is_refused_by_every_call(me, function):
    """Nothing that the dead do counts any more: each call raises ProcessExit with the reason,
    which `except Exception` does not catch.
    """
    other = Doer.start(None, journal := Journal(), name="other")
    asker = Doer.start()
    asked = send_request(asker, lambda server: NoReply())
    before = set(process.list())
    outcome = Journal()
    server = Doer.start()

    def haunt(server):
        try:
            try:
                function(other, me.ref, asked)
            except Exception as error:
                outcome("raised", error)
            else:
                outcome("done")
        except ProcessExit as error:
            outcome("refused", error.reason)

    gate = at_a_gate(server, haunt)
    process.exit(server, "boom")
    gate.open()
    assert eventually(lambda: outcome.events)
    assert outcome.events == [("refused", "boom")]
    assert within(other, lambda: "alive") == "alive"
    assert journal.events == []
    assert set(process.list()) == before
    assert process.registered() == {"other": other}
    assert not asked.check()
    assert nothing_comes(timeout=0)
    assert process.info(me.ref)["links"] == []


def test_result_of_a_leftover_counts_for_nothing(me):
    """It answers, stops or goes on in vain: no further callback runs, the reason stays."""
    for result in (Stop("other"), NoReply(Continue("x")), Reply("x"), NoReply(Timeout(0)), "odd"):
        journal = Journal()
        server = Doer.start(None, journal, True)
        watch = process.monitor(server)
        gate, asked = at_a_gate(server, lambda server, result=result: result, request=True)
        process.send(server, "queued")
        kill(server)
        gate.open()
        assert eventually(server._inbox.is_buried)
        assert process.receive(timeout=0) == Down(watch, server, "killed")
        with pytest.raises(CallExit) as raised:
            asked.receive(0)
        assert raised.value.reason == "killed"
        assert journal.events == []


def test_raise_of_a_leftover_is_nobodys_business(me, log_events):
    """The process did not crash, it had been killed: nothing is logged. LOGR-03."""
    server = Doer.start()
    gate = at_a_gate(server, lambda server: 1 / 0)
    kill(server)
    gate.open()
    assert eventually(server._inbox.is_buried)
    assert log_events == []


@pytest.mark.parametrize("hook", ["on_start", "on_stop", "on_receive", "on_failure"])
def test_plain_process_is_killed_in_any_hook(me, hook):
    """Whatever it is doing, it is dead at once, and does nothing more. TERM-16."""
    gate, journal = Gate(), Journal()

    class Plain(Process):
        def on_start(self):
            self.pass_("on_start")

        def on_stop(self):
            self.pass_("on_stop")

        def on_receive(self, message):
            self.pass_("on_receive")
            if message == "raise":
                raise Oops

        def on_failure(self, *info):
            self.pass_("on_failure")

        def pass_(self, where):
            journal(where)
            if where == hook:
                gate()
                journal("passed")

    plain = Plain.start()
    watch = process.monitor(plain)
    if hook == "on_receive":
        plain.tell("x")
    elif hook == "on_failure":
        plain.tell("raise")
    elif hook == "on_stop":
        cast_stop = threading.Thread(target=plain.stop)
        cast_stop.start()
    gate.reached()
    kill(plain)
    assert process.receive(timeout=0) == Down(watch, plain, "killed")
    gate.open()
    journal.wait_for("passed")
    assert eventually(plain._inbox.is_buried)
    assert journal.events[-2:] == [hook, "passed"]
    if hook == "on_stop":
        cast_stop.join(WAIT)
        assert not cast_stop.is_alive()


def test_kill_between_two_messages_runs_no_further_callback(me):
    """Dead is dead: of what was queued nothing is handled. SIG-10."""
    killer = Doer.start()
    for _ in range(100):
        handled = []
        server = Doer.start()
        watch = process.monitor(server)
        for n in range(50):
            cast(server, lambda server, n=n, handled=handled: handled.append(n))
        cast(killer, lambda killer, server=server: kill(server))
        assert process.receive(timeout=WAIT) == Down(watch, server, "killed")
        assert eventually(server._inbox.is_buried)
        count = len(handled)
        assert handled == list(range(count))
        cast(server, lambda server, handled=handled: handled.append("late"))
        assert len(handled) == count


# ---- library waits are woken


def wait_in_call(server):
    call(server.label, lambda other: NoReply(), timeout=None)


def wait_in_stop(server):
    gate = at_a_gate(server.label)
    try:
        stop(server.label)
    finally:
        gate.open()


def wait_in_start(server):
    Doer.start(lambda other: process.sleep(60))


def wait_in_request(server):
    send_request(server.label, lambda other: NoReply()).receive(None)


def wait_in_ask(server):
    server.label.ask(lambda other: NoReply())


WAITS = {
    "sleep": lambda server: process.sleep(60),
    "receive": lambda server: process.receive(int),
    "receive with timeout": lambda server: process.receive(int, 60),
    "call": wait_in_call,
    "stop": wait_in_stop,
    "start": wait_in_start,
    "request": wait_in_request,
    "ask": wait_in_ask,
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS.keys())
@pytest.mark.parametrize("base", [Doer, type("Dedicated", (Doer,), {"dedicated_thread": True})])
def test_library_waits_are_woken_by_death_at_once(me, wait, base):
    """What waits in the library never keeps a thread that nobody needs. SIG-11."""
    journal = Journal()
    server = base.start(None, journal, False, Doer.start())

    def wait_and_tell(server):
        journal("waits")
        try:
            wait(server)
        except BaseException as error:
            journal("woken", type(error), getattr(error, "reason", None))
            raise

    cast(server, wait_and_tell)
    journal.wait_for("waits")
    assert eventually(lambda: process.info(server)["status"] == "waiting")
    process.exit(server, "boom")
    journal.wait_for("woken", ProcessExit, "boom")
    assert eventually(server._inbox.is_buried)


def test_death_just_before_a_wait_is_not_missed(me):
    """Between the look whether one is alive and the wait there is no gap."""
    killer = Doer.start()
    for _ in range(300):
        server, journal = Doer.start(), Journal()

        def sleep_long(server, journal=journal):
            journal("here")
            process.sleep(60)

        cast(server, sleep_long)
        journal.wait_for("here")
        cast(killer, lambda killer, server=server: kill(server))
        assert eventually(server._inbox.is_buried)


# ---- what is left over is unwound


def test_leftover_loop_is_ended_by_a_process_exit(me, going):
    """A loop in Python ends by the same exception that library calls raise, with the reason; its
    `finally` runs.
    """
    server, journal = Doer.start(), Journal()

    def loop(server):
        turns = 0
        try:
            turns += 1
            journal("loops")
            while True:
                turns += 1
                if not going():
                    break
        except BaseException as error:
            journal("ended", isinstance(error, ProcessExit), getattr(error, "reason", None))
            raise
        finally:
            for _ in range(1000):
                turns += 1
            journal("cleaned up")

    cast(server, loop)
    journal.wait_for("loops")
    process.exit(server, "boom")
    journal.wait_for("cleaned up", timeout=LONG)
    assert journal.events == ["loops", ("ended", True, "boom"), "cleaned up"]
    assert eventually(server._inbox.is_buried)


def test_leftover_that_catches_every_exception_is_ended_all_the_same(me, going):
    """A loop that logs each error and goes on is what servers are made of."""
    server, journal = Doer.start(), Journal()

    def loop(server):
        process.own("thing", lambda thing: journal("over"))
        turns = 0
        journal("loops")
        while going():
            try:
                turns += 1
                for n in range(100):
                    turns += n
            except Exception as error:
                journal("swallowed", error)

    cast(server, loop)
    journal.wait_for("loops")
    kill(server)
    journal.wait_for("over", timeout=LONG)
    assert journal.events == ["loops", "over"]


def test_leftover_that_swallows_everything_is_tried_again(me, going):
    """One that eats even the ProcessExit gets another, after some time for its `finally`."""
    server, journal = Doer.start(), Journal()

    def loop(server):
        process.own("thing", lambda thing: journal("over"))
        journal("loops")
        for _ in range(3):
            try:
                turns = 0
                while True:
                    turns += 1
                    if not going():
                        break
            except ProcessExit:
                journal("swallowed")

    cast(server, loop)
    journal.wait_for("loops")
    kill(server)
    journal.wait_for("over", timeout=LONG)
    assert journal.events == ["loops", "swallowed", "swallowed", "swallowed", "over"]


def test_leftover_that_swallowed_its_own_exit_is_ended_too(me, going):
    """Whoever's signal it was, its own included: dead is dead, and what runs on is a leftover.

    SIG-05.
    """
    journal = Journal()

    def loop(server):
        process.own("thing", lambda thing: journal("over"))
        try:
            kill(process.current())
        except ProcessExit:
            journal("swallowed")
        turns = 0
        while going():
            turns += 1

    server = Doer.start()
    thread = within(server, threading.current_thread)
    watch = process.monitor(server)
    cast(server, loop)
    assert process.receive(Down, WAIT) == Down(watch, server, "killed")
    journal.wait_for("over", timeout=LONG)
    assert journal.events == ["swallowed", "over"]
    assert thread is not None


def test_finally_of_a_leftover_loop_runs(me, going):
    """Where the exception strikes is anybody's guess, and what the code cleans up after itself is
    cleaned up wherever it does.
    """

    def work(turns):
        return turns + 1

    for n in range(40):
        journal, server = Journal(), Doer.start()

        def loop(server, journal=journal):
            process.own("thing", lambda thing: journal("over"))
            turns = 0
            journal("loops")
            try:
                while True:
                    turns = work(turns)
                    if not going():
                        break
            finally:
                journal("finally")

        cast(server, loop)
        journal.wait_for("loops")
        kill(server)
        journal.wait_for("over", timeout=LONG)
        assert journal.events == ["loops", "finally", "over"], n


BAD_LOOPS = {
    "with ends with the loop": """
def loop(lock, step):
    with lock:
        turns = 0
        while turns < 10**12:
            turns += 1
            step()
""",
    "try begins with the loop": """
def loop(lock, step):
    lock.acquire()
    try:
        while True: step()
    finally:
        lock.release()
""",
}


@pytest.mark.parametrize("source", BAD_LOOPS.values(), ids=BAD_LOOPS.keys())
def test_leftover_is_not_struck_where_its_lock_would_stay_held(me, source):
    """CPython takes what strikes at a loop's turn for raised outside of the `try` or `with` that
    begins (3.11, 3.12) or ends (3.13) with the loop: no such moment is chosen, even if no other
    comes.
    """

    class Enough(Exception):
        pass

    def step():
        if not go_on:
            raise Enough

    namespace = {}
    exec(source, namespace)
    for _ in range(25):
        lock, journal, go_on, server = threading.Lock(), Journal(), True, Doer.start()

        def run(server, lock=lock, journal=journal):
            process.own("thing", lambda thing: journal("over"))
            journal("loops")
            namespace["loop"](lock, step)

        cast(server, run)
        journal.wait_for("loops")
        kill(server)
        eventually(lambda journal=journal: "over" in journal.events, 0.1)
        go_on = False
        journal.wait_for("over")
        assert not lock.locked()


def test_leftover_of_a_plain_process_is_ended(me, going):
    """Every process's code is, whatever called it."""
    journal = Journal()

    class Looper(Process):
        def on_receive(self, message):
            process.own("thing", lambda thing: journal("over"))
            journal("loops")
            turns = 0
            while going():
                turns += 1

    looper = Looper.start()
    asked = looper.ask("go", block=False)
    journal.wait_for("loops")
    kill(looper)
    with pytest.raises(NoProcess):
        asked.get(timeout=WAIT)
    journal.wait_for("over", timeout=LONG)


@pytest.mark.parametrize("where", ["init", "terminate", "continue"])
def test_leftover_is_ended_wherever_it_runs(me, going, where):
    """init, terminate and the rest are callbacks like any other."""
    journal = Journal()

    def loop(server=None):
        process.own("thing", lambda thing: journal("over"))
        journal("loops", process.current())
        turns = 0
        while going():
            turns += 1

    class Looper(Doer):
        def terminate(self, reason):
            if where == "terminate":
                loop()

    if where == "init":
        starter = Doer.start()
        cast(starter, lambda starter: Looper.start(loop))
    else:
        server = Looper.start()
        cast(server, lambda server: Stop("x") if where == "terminate" else NoReply(Continue(loop)))
    assert eventually(lambda: journal.events)
    kill(journal.events[0][1])
    journal.wait_for("over", timeout=LONG)


def test_unwinding_strikes_no_inline_handler_of_a_healthy_server(me):
    """An inline handler of another server may stand on the dead one's stack: it is let be, and its
    caller ends when it returns.
    """
    journal, gate = Journal(), Gate()

    class Inline(Doer):
        inline = True

    healthy = Inline.start(None, journal)
    server = Doer.start()

    def loop_for_a_while(healthy):
        journal("inside", process.current(), threading.get_ident())
        turns = 0
        deadline = clock.now() + 0.4
        while clock.now() < deadline:
            turns += 1
        gate()
        for n in range(200_000):
            turns += n
        journal("unharmed")
        return Reply("done")

    def call_inline(server):
        process.own("thing", lambda thing: journal("over", threading.get_ident()))
        journal("calls", threading.get_ident())
        call(healthy, loop_for_a_while, timeout=None)
        journal("beyond")

    cast(server, call_inline)
    assert eventually(lambda: len(journal.events) == 2)
    kill(server)
    gate.reached()
    gate.open()
    assert eventually(lambda: len(journal.events) == 4, LONG)
    thread = journal.events[0][1]
    assert journal.events == [
        ("calls", thread),
        ("inside", healthy, thread),  # the test tests what it means to
        "unharmed",
        ("over", thread),
    ]
    assert within(healthy, lambda: "alive") == "alive"


def test_unwind_false_asks_for_no_exception(me):
    """Code that must not be broken off in the middle says so, and ends by itself."""
    journal = Journal()

    class Careful(Doer):
        unwind = False

    server = Careful.start()
    state = {"turns": 0, "go on": True}

    def loop(server):
        process.own("thing", lambda thing: journal("over"))
        journal("loops")
        while state["go on"]:
            state["turns"] += 1
        journal("by itself")

    cast(server, loop)
    journal.wait_for("loops")
    kill(server)
    process.sleep(0.5)
    assert journal.events == ["loops"]
    turns = state["turns"]
    assert eventually(lambda: state["turns"] > turns)
    state["go on"] = False
    journal.wait_for("over")
    assert journal.events == ["loops", "by itself", "over"]


def test_attached_thread_is_never_unwound():
    """It is the user's own thread: it hears of its death by its next library call."""
    with process.attach() as me:
        kill_it = threading.Thread(target=kill, args=(me.ref,))
        kill_it.start()
        kill_it.join(WAIT)
        turns, deadline = 0, time.monotonic() + 0.5
        while time.monotonic() < deadline:
            turns += 1
        with pytest.raises(ProcessExit):
            process.current()


class Locker:
    """What killed processes and a healthy one share: all of it keeps locks in Python."""

    def __init__(self):
        self.queue = queue.Queue()
        self.event = threading.Event()
        self.condition = threading.Condition()
        self.lock = threading.Lock()
        self.rlock = threading.RLock()
        self.stream = io.StringIO()
        self.logger = logging.getLogger("shared by the dead")
        self.logger.propagate = False
        self.logger.setLevel(logging.INFO)
        self.logger.handlers = [logging.StreamHandler(self.stream)]

    def use(self):
        self.queue.put(1)
        try:
            self.queue.get_nowait()
        except queue.Empty:
            pass
        self.event.set()
        self.event.clear()
        self.logger.info("busy")
        with self.condition:
            self.condition.notify_all()
        turns = 0
        with self.lock, self.rlock:
            for n in range(20):
                turns += n


@pytest.mark.timeout(180)
def test_leftovers_leave_no_lock_held_that_others_need(me, going):
    """A process that is killed in the middle of a queue, an event or a log line must not take it
    along: 200 are, and the healthy one that shares all of it works on.
    """
    shared, journal = Locker(), Journal()
    journal.loops = threading.Event()
    healthy = Doer.start()

    def loop(server):
        process.own("thing", lambda thing: journal("over"))
        turns = 0
        while going():
            shared.use()
            for n in range(200):
                turns += n
            journal.loops.set()

    for n in range(200):
        server = Doer.start()
        cast(server, loop)
        assert journal.loops.wait(WAIT)
        kill(server)
        # The healthy one, while the leftover is unwound.
        assert within(healthy, lambda: (shared.use(), "works")[1]) == "works", n
        journal.wait_for("over", timeout=LONG)
        journal.take()
        journal.loops.clear()
        shared.stream.truncate(0)
    handler = shared.logger.handlers[0]
    for lock in (shared.queue.mutex, shared.condition, shared.lock, shared.rlock, handler.lock):
        assert lock.acquire(timeout=WAIT)
        lock.release()


def test_worker_that_ran_a_leftover_ends_with_it(me, going):
    """Nothing that was meant for the dead may strike a process that runs on its thread later."""
    for base in (Doer, type("Dedicated", (Doer,), {"dedicated_thread": True})):
        threads, journal = [], Journal()

        def loop(server, threads=threads, journal=journal):
            threads.append(threading.current_thread())
            journal("loops")
            turns = 0
            while going():
                turns += 1

        for _ in range(20):
            server = base.start()
            cast(server, loop)
            journal.wait_for("loops")
            journal.take()
            kill(server)
        for thread in threads:
            thread.join(LONG)
        assert [thread for thread in threads if thread.is_alive()] == []
        # And one that was killed while it waited in the library, or had just ended.
        server = base.start()
        cast(
            server,
            lambda server, threads=threads: (
                threads.append(threading.current_thread()),
                process.sleep(60),
            ),
        )
        assert eventually(lambda threads=threads: len(threads) == 21)
        kill(server)
        threads[-1].join(LONG)
        assert not threads[-1].is_alive()


def test_who_clears_up_after_the_first_exit_has_time_for_it():
    """A call of the library's has raised it; the watchdog fires no second one right behind."""
    cleared = threading.Event()

    def wait(server):
        try:
            process.receive(timeout=WAIT)
        finally:
            began = time.monotonic()
            while time.monotonic() - began < 0.1:
                pass
            cleared.set()

    ref = Doer.start()
    cast(ref, wait)
    assert eventually(lambda: process.info(ref)["status"] == "waiting")
    process.exit(ref, "kill")
    assert cleared.wait(WAIT)


def test_healthy_processes_are_never_struck(me):
    """Kills fly about for a while: whatever runs elsewhere, or later, is untouched."""
    struck, pairs = [], 100
    steady = [Doer.start() for _ in range(3)]

    def work(server):
        turns = 0
        try:
            for n in range(3000):
                turns += n
        except BaseException as error:
            struck.append(error)
            raise
        return Reply(turns)

    def loop_shortly(server):
        turns = 0
        for n in range(2000):
            turns += n

    for _ in range(pairs):
        server = Doer.start()
        cast(server, loop_shortly)
        asked = [send_request(one, work) for one in steady]
        kill(server)
        assert [request.receive(WAIT) for request in asked] == [sum(range(3000))] * 3
    assert struck == []


def test_threads_do_not_pile_up(me):
    """A thousand killed processes leave no thread behind."""
    before = threading.active_count()
    for n in range(300):
        server = Doer.start()
        cast(server, lambda server: process.sleep(60))
        if n % 2:
            process.sleep(0.001)
        kill(server)
    assert eventually(lambda: threading.active_count() <= before + 8), threading.enumerate()


# ---- orphans


@pytest.fixture
def lock():
    """A lock that is taken, and released after the test at the latest."""
    lock = _thread.allocate_lock()
    lock.acquire()
    yield lock
    if lock.locked():
        lock.release()
    assert eventually(lambda: not scheduler.scheduler.watchdog.orphans)


def stuck_in_c(lock, journal, base=Doer):
    """A killed server whose leftover stands in a call that no exception reaches."""
    server = base.start()

    def stand(server):
        process.own("thing", lambda thing: journal("over"))
        journal("stuck")
        with lock:
            pass
        journal("went on")

    cast(server, stand)
    journal.wait_for("stuck")
    kill(server)
    return server


def orphans_in(log_events):
    return [event for event in log_events if event["event"] == "orphan_thread"]


@pytest.mark.parametrize("unwind", [True, False])
def test_leftover_that_is_stuck_is_counted_and_logged_once(me, log_events, lock, unwind):
    """Operators should know of a thread that cannot be had back; also of one that asked not to be
    ended by force.
    """
    journal = Journal()
    server = stuck_in_c(lock, journal, type("Stuck", (Doer,), {"unwind": unwind}))
    assert eventually(lambda: len(scheduler.scheduler.watchdog.orphans) == 1)
    assert eventually(lambda: orphans_in(log_events), LONG)
    # It is logged once, however long it goes on.
    process.sleep(1)
    (event,) = orphans_in(log_events)
    assert repr(server) in event["process"]
    assert "test_dying.py" in event["where"]
    assert event["log_level"] == "error"
    lock.release()
    journal.wait_for("over")
    assert journal.events == ["stuck", *([] if unwind else ["went on"]), "over"]
    assert eventually(lambda: not scheduler.scheduler.watchdog.orphans)


def test_mail_for_a_stuck_leftover_is_dropped(me):
    """The dead read no mail: what others send to it for hours must not pile up."""
    server = Doer.start()
    gate = at_a_gate(server)
    process.send(server, before := Oops())
    message = weakref.ref(before)
    del before
    kill(server)
    assert message() is None
    for _ in range(1000):
        process.send(server, "to the dead")
        cast(server, "to the dead")
    assert len(server._inbox.items) <= 1
    with pytest.raises(NoProcess):
        call(server, "to the dead")
    gate.open()


def test_stuck_leftovers_do_not_keep_others_from_running(me, lock):
    """A thread that is lost is one thread less, not one process less."""
    journals = [Journal() for _ in range(10)]
    for journal in journals:
        stuck_in_c(lock, journal)
    server = Doer.start()
    assert [within(server, lambda n=n: n) for n in range(100)] == list(range(100))
    lock.release()
    for journal in journals:
        journal.wait_for("over")


def test_log_that_fails_harms_nobody(me, going, lock):
    """A processor of the log that raises must cost no worker, no watchdog and no notice."""
    reached = []

    def refuse(logger, name, event):
        reached.append(event["event"])
        raise OSError("the disk is full")

    journal = Journal()
    structlog.configure(processors=[refuse])
    try:
        # The report of a crash.
        server = Doer.start()
        process.link(server)
        watch = process.monitor(server)
        error = Oops()

        def fail(server):
            raise error

        cast(server, fail)
        assert {process.receive(timeout=WAIT), process.receive(timeout=WAIT)} == {
            Exit(server, error),
            Down(watch, server, error),
        }
        assert eventually(server._inbox.is_buried)
        # The report of an orphan.
        stuck_in_c(lock, journal)
        assert eventually(lambda: "orphan_thread" in reached, LONG)
        lock.release()
        journal.wait_for("over")
        # The watchdog is still there: it helps out when a worker blocks, and unwinds.
        gate = at_a_gate(Doer.start())
        asked = send_request(GenServer.start(), "anything")
        assert asked.wait(WAIT)
        gate.open()
        looper = Doer.start()

        def loop(server):
            process.own("thing", lambda thing: journal("unwound"))
            journal("loops")
            turns = 0
            while going():
                turns += 1

        cast(looper, loop)
        journal.wait_for("loops")
        kill(looper)
        journal.wait_for("unwound", timeout=LONG)
    finally:
        structlog.reset_defaults()
    assert reached[0] == "process_crashed"


# ---- SystemExit and KeyboardInterrupt


@pytest.mark.parametrize("error", [SystemExit, SystemExit(3), KeyboardInterrupt, GeneratorExit])
@pytest.mark.parametrize("kind", ["server", "plain"])
def test_what_ends_programs_ends_one_process_only(me, kind, error):
    """sys.exit in a callback is that process's crash, not the end of all actors."""
    bystander = Doer.start()

    class Plain(Process):
        def on_receive(self, message):
            return message(self)

    def leave(server):
        raise error

    victim = Doer.start() if kind == "server" else Plain.start()
    watch = process.monitor(victim)
    if kind == "server":
        cast(victim, leave)
    else:
        victim.tell(leave)
    down = process.receive(timeout=WAIT)
    assert (down.monitor, down.ref) == (watch, victim)
    assert isinstance(down.reason, error if isinstance(error, type) else type(error))
    assert within(bystander, lambda: "alive") == "alive"


def test_exit_of_the_program_in_init_fails_the_start():
    """The same at the start: the starter gets an error and lives. INIT-16."""

    def leave(server):
        sys.exit(3)

    with pytest.raises(StartError) as raised:
        Doer.start(leave)
    assert isinstance(raised.value.reason, SystemExit)


def test_exit_of_the_program_in_a_call_fails_the_call():
    """The caller did not ask for it."""

    def leave(server):
        sys.exit(3)

    with pytest.raises(CallExit) as raised:
        call(Doer.start(), leave)
    assert isinstance(raised.value.reason, SystemExit)
    assert raised.value.__cause__ is raised.value.reason


# ---- odd terms


class Lazy:
    """A message that stands for something else, and cannot say for what: lazy proxies are so."""

    @property
    def __class__(self):
        raise RuntimeError("working outside of request context")


class Contrary:
    """A message that agrees to nothing."""

    def __eq__(self, other):
        raise RuntimeError("do not compare me")

    def __bool__(self):
        raise RuntimeError("do not ask me")

    def __repr__(self):
        raise RuntimeError("do not show me")

    __hash__ = None


@pytest.mark.parametrize("odd", [Lazy, Contrary])
@pytest.mark.parametrize("kind", ["server", "plain"])
def test_odd_message_costs_no_worker_and_hangs_nobody(me, kind, odd):
    """What users send may be as odd as it likes: it is handled, or it ends its receiver."""

    class Plain(Process):
        def on_receive(self, message):
            return "answer"

    class Server(GenServer):
        def handle_call(self, request, sender):
            return Reply("answer")

        def handle_info(self, message):
            return NoReply()

    receiver = (Server if kind == "server" else Plain).start()
    watch = process.monitor(receiver)
    process.send(receiver, odd())
    try:
        answer = receiver.ask("question", timeout=WAIT)
    except CallExit:  # NoProcess is one.
        down = process.receive(Down, WAIT)
        assert down.monitor is watch
        answer = down.reason
    assert answer == "answer" or isinstance(answer, RuntimeError)
    assert within(Doer.start(), lambda: "the pool is well") == "the pool is well"


def test_odd_reason_is_passed_on(me):
    """Reasons are users' terms, and nobody compares or shows them on the way."""
    reason = Contrary()
    server = Doer.start()
    process.link(server)
    process.monitor(server)
    process.exit(server, reason)
    assert all(process.receive(timeout=0).reason is reason for _ in range(2))
    server = Doer.start()
    asked = send_request(server, lambda server: Stop(reason))
    with pytest.raises(CallExit) as raised:
        asked.receive(WAIT)
    assert raised.value.reason is reason


# ---- cascades


@pytest.mark.timeout(180)
@pytest.mark.parametrize("shape", ["chain", "star"])
def test_death_of_ten_thousand_linked_processes_is_no_recursion(me, shape):
    """What a death causes runs from a queue: a chain as long as it likes, dead when the signal
    that killed its end returns. LINK-10.
    """

    class Link(Process):
        def on_receive(self, message):
            return message()

    first = last = Link.start()
    everybody = [first]
    for _ in range(9_999):
        new = (last if shape == "chain" else first).ask(Link.start_link)
        everybody.append(new)
        last = new
    watch = process.monitor(first)
    process.exit(last, "boom")
    assert process.receive(timeout=0) == Down(watch, first, "boom")
    assert not any(process.is_alive(ref) for ref in everybody)
    assert process.list() == []
    assert eventually(lambda: all(ref._inbox.is_buried() for ref in everybody))


def test_cascade_passes_busy_waiting_and_idle_processes_alike(me):
    """A death does not stop at one that happens to be at work. LINK-10."""
    gates, chain = [], [Doer.start()]
    for n in range(30):
        new = within(chain[-1], Doer.start_link)
        chain.append(new)
        if n % 3 == 1:
            cast(chain[-2], lambda server: process.sleep(60))
        elif n % 3 == 2:
            gates.append(at_a_gate(chain[-2]))
    process.exit(chain[-1], "boom")
    assert not any(process.is_alive(ref) for ref in chain)
    for gate in gates:
        gate.open()
    assert eventually(lambda: all(ref._inbox.is_buried() for ref in chain))


# ---- whoever learns of a death finds its supervisor already told


def supervised(journal):
    child = {"id": "c", "start": (Child, "start_link", ["c", journal]), "restart": "permanent"}
    supervisor = Supervisor.start_link([child], max_restarts=1_000_000)
    return supervisor, lambda: Supervisor.which_children(supervisor)[0].child


def test_supervisor_knows_of_a_death_before_its_watchers(me):
    """Who reads a Down and looks at the supervisor finds the successor. SSHP-09."""
    _, child = supervised(Journal())
    for reason in ("boom", "normal", "kill") * 60:
        old = child()
        watch = process.monitor(old)
        if reason == "kill":
            kill(old)
        else:
            cast(old, ("stop", reason))
        assert process.receive(Down, WAIT).monitor is watch
        assert child() not in (old, None, "restarting")


def test_supervisor_knows_of_a_death_before_its_callers(me, log_events):
    """Who has a failed call in hand and looks at the supervisor finds the successor. SSHP-09."""
    _, child = supervised(Journal())
    for request in ("raise", ("stop", "boom"), ("stop", "normal")) * 60:
        old = child()
        with pytest.raises(CallExit):
            call(old, request)
        assert child() not in (old, None, "restarting")


def test_supervisor_knows_of_a_death_before_its_killer(me):
    """Who has killed finds the successor. SSHP-09, SIG-13."""
    _, child = supervised(Journal())
    for _ in range(100):
        old = child()
        kill(old)
        assert child() not in (old, None, "restarting")


def test_supervisor_knows_of_a_death_before_anybody_else_can(me):
    """Nobody has to be told to learn of a death: one may find nobody at home while the crash is
    still being logged, however slow the log is. SSHP-09.
    """
    supervisor, child = supervised(Journal())
    old = child()
    gate, found = Gate(), []

    def slow_log(logger, name, event):
        if event["event"] == "process_crashed":
            gate()
        raise structlog.DropEvent

    def ask_the_old_one():
        try:
            call(old, "anybody there?", timeout=LONG)
        except CallExit as error:
            found.append((error.reason, child() is old))

    structlog.configure(processors=[slow_log])
    try:
        cast(old, "raise")
        gate.reached()
        asker = threading.Thread(target=ask_the_old_one)
        asker.start()
        asker.join(0.3)
        gate.open()
        asker.join(WAIT)
    finally:
        structlog.reset_defaults()
    assert len(found) == 1
    assert found[0][1] is False, "nobody is at home, and the supervisor still says that it is"
    assert process.is_alive(supervisor)


def test_slow_log_of_one_crash_holds_up_no_other_death(me):
    """Who dies along with the one that crashed is woken, and its own supervisor told, at once: not
    when the log has taken its time. SSHP-09, LINK-01.
    """
    journal = Journal()
    child = {"id": "c", "start": (Child, "start_link", ["c", journal, False])}
    supervisor = Supervisor.start_link([child])
    old = Supervisor.which_children(supervisor)[0].child
    crashing, sleeping = Doer.start(), Doer.start()
    within(crashing, lambda: [process.link(ref) for ref in (sleeping, old)])

    def sleep_long(server):
        journal("asleep")
        try:
            process.sleep(60)
        finally:
            journal("woken")

    cast(sleeping, sleep_long)
    journal.wait_for("asleep")
    gate, found = Gate(), []

    def slow_log(logger, name, event):
        if event["event"] == "process_crashed":
            gate()
        raise structlog.DropEvent

    def ask_the_old_one():
        try:
            call(old, "anybody there?", timeout=LONG)
        except CallExit as error:
            found.append((error.reason, Supervisor.which_children(supervisor)[0].child is old))

    structlog.configure(processors=[slow_log])
    try:
        cast(crashing, lambda server: 1 / 0)
        gate.reached()
        journal.wait_for("woken")
        assert on_a_thread(ask_the_old_one) is None
        assert found == [("noproc", False)]
        gate.open()
    finally:
        gate.open()
        structlog.reset_defaults()


# ---- starts that meet a death


@pytest.mark.parametrize("quick", [True, False], ids=["quick init", "init in its own time"])
@pytest.mark.parametrize("moment", ["_link_to_parent", "_launch"])
def test_starter_that_dies_while_it_starts_leaves_nothing_behind(monkeypatch, quick, moment):
    """Its child is linked or it is not, alive or not: in no case is somebody left over who is in a
    list, has a name, or holds the starter's thread. LINK-13.
    """
    server_class = type("Quick", (GenServer,), {}) if quick else type("Own", (Doer,), {})
    original = getattr(server_class, moment)

    def die_first(self, *args):
        on_a_thread(lambda: kill(refs[0]))
        return original(self, *args)

    def die_afterwards(self, *args):
        original(self, *args)
        on_a_thread(lambda: kill(refs[0]))

    for interfere in (die_first, die_afterwards):
        refs = []
        monkeypatch.setattr(server_class, moment, interfere)

        def start(server_class=server_class, refs=refs):
            with process.attach() as me:
                refs.append(me.ref)
                server_class.start_link(name="left over")

        with pytest.raises(ProcessExit) as raised:
            on_a_thread(start)
        assert raised.value.reason == "killed"
        assert eventually(lambda: process.list() == []), process.list()
        assert process.registered() == {}
        monkeypatch.undo()
        stop(Doer.start(name="left over"))


@pytest.mark.parametrize("moment", ["_link_to_parent", "_launch"])
def test_plain_process_whose_starter_dies_leaves_nothing_behind(monkeypatch, moment):
    """The same for a plain process. LINK-13."""
    plain_class = type("Plain", (Process,), {})
    original = getattr(plain_class, moment)
    refs = []

    def die_afterwards(self, *args):
        original(self, *args)
        on_a_thread(lambda: kill(refs[0]))

    def die_first(self, *args):
        on_a_thread(lambda: kill(refs[0]))
        return original(self, *args)

    def start():
        with process.attach() as me:
            refs.append(me.ref)
            plain_class.start_link()
            process.current()

    for interfere in (die_first, die_afterwards):
        refs.clear()
        monkeypatch.setattr(plain_class, moment, interfere)
        with pytest.raises(ProcessExit):
            on_a_thread(start)
        assert eventually(lambda: process.list() == []), process.list()
        assert plain_class not in {type(ref) for ref in process.list()}


def test_plain_process_hears_what_was_sent_while_it_was_made_after_its_start():
    """Its ref may be known before it runs: on_start comes first, and nobody spins meanwhile."""
    journal, busy = Journal(), []

    class Early(Process):
        def __init__(self):
            super().__init__()
            ref = self.actor_ref
            on_a_thread(lambda: process.send(ref, "early"))
            before = time.process_time()
            time.sleep(0.3)
            busy.append(time.process_time() - before)

        def on_start(self):
            journal("on_start")

        def on_receive(self, message):
            journal(message)

    early = Early.start()
    journal.wait_for("early")
    assert journal.events == ["on_start", "early"]
    assert busy[0] < 0.25
    stop(early)


def test_start_link_that_finds_the_name_taken_leaves_no_link_and_no_exit(me):
    """Who was refused has no child that could die on it. NAME-03."""
    holder = Doer.start(name="held")
    for _ in range(20):
        with pytest.raises(AlreadyStarted):
            Doer.start_link(name="held")
    assert process.info(me.ref)["links"] == []
    kill(holder)
    assert nothing_comes()


@pytest.mark.timeout(120)
def test_hammered_starts_leave_nothing_behind():
    """Starters are killed at any moment of their starts, with switches between threads at every
    occasion: no process, name or thread is left over.
    """
    before = threading.active_count()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for n in range(150):
            starter = Doer.start()
            started = threading.Event()

            def start_many(server, started=started, n=n):
                for count in range(1_000_000):
                    started.set()
                    match count % 3:
                        case 0:
                            GenServer.start_link(name=f"quick {n}")
                        case 1:
                            Doer.start_link(None, None, True, name=f"trapping {n}")
                        case _:
                            Process.start_link()
                    try:
                        process.unregister(f"quick {n}")
                        process.unregister(f"trapping {n}")
                    except LookupError:
                        pass

            cast(starter, start_many)
            assert started.wait(WAIT)
            if n % 2:
                time.sleep(0.001)
            kill(starter)
    finally:
        sys.setswitchinterval(interval)
    assert eventually(lambda: process.list() == []), process.list()
    assert process.registered() == {}
    assert eventually(lambda: threading.active_count() <= before + 8), threading.enumerate()


# ---- what it owned


def test_kill_while_it_closes_does_not_leave_the_rest_open(me):
    """A process that ends, closes, and is killed at that: what it is closing may be broken off,
    what is still to be closed is closed to the end.
    """
    journal, gate = Journal(), Gate()
    server = Doer.start()

    def close_slowly(thing):
        journal("closing", thing)
        turns, deadline = 0, clock.now() + 0.3
        while clock.now() < deadline:
            turns += 1
        journal("closed", thing)

    def close_at_the_gate(thing):
        gate()
        journal("closed", thing)

    closes = {"a": close_slowly, "b": close_slowly, "c": close_at_the_gate}
    within(server, lambda: [process.own(thing, close) for thing, close in closes.items()])
    watch = process.monitor(server)
    cast(server, lambda server: Stop("done"))
    gate.reached()
    kill(server)
    assert process.receive(timeout=0) == Down(watch, server, "killed")
    gate.open()
    for thing in "ab":
        journal.wait_for("closed", thing)
    assert eventually(server._inbox.is_buried)
    closed = [event[1] for event in journal.events if event[0] == "closed"]
    assert len(closed) == len(set(closed))


@pytest.mark.timeout(120)
def test_nothing_owned_is_lost_or_closed_twice_whenever_the_kill_comes(me, going):
    """A process opens and owns, disowns and closes, and is killed in the middle of it."""
    opened, closed = [], []

    def work(server):
        process.trap_exit(True)
        n = 0
        while going():
            thing = (server.label, n)
            process.own(thing, closed.append)
            # Counted only when it is owned: code may be broken off between opening and owning.
            opened.append(thing)
            n += 1
            if n % 3 == 0:
                process.disown(thing)
                closed.append(thing)
            if n > 200:
                process.sleep(60)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    servers = []
    try:
        for n in range(60):
            server = Doer.start(None, None, False, n)
            servers.append(server)
            cast(server, work)
            if n % 3:
                process.sleep(0.0005 * (n % 5))
            kill(server)
    finally:
        sys.setswitchinterval(interval)
    assert eventually(lambda: all(server._inbox.is_buried() for server in servers), LONG)
    # What was broken off between `disown` and its own closing is the user's affair: one each.
    assert eventually(lambda: len(set(opened) - set(closed)) <= len(servers), LONG)
    assert len(closed) == len(set(closed))
    assert all((n + 1) % 3 == 0 for _, n in set(opened) - set(closed))


# ---- what is kept of the dead


def test_dead_process_is_collected(me):
    """Who lets go of the ref lets go of the process, its state and its mail."""

    class Big:
        pass

    states, inboxes = [], []

    def keep(server):
        state = Big()
        states.append(weakref.ref(state))
        return Ok(state)

    for end in (stop, kill, lambda ref: cast(ref, lambda server: Stop("shutdown"))):
        server = Doer.start(keep)
        inboxes.append(weakref.ref(server._inbox))
        end_of(server, lambda end=end, server=server: end(server))
        assert eventually(server._inbox.is_buried)
        del server
    del end
    gc.collect()
    assert [state() for state in states] == [None] * 3
    assert [inbox() for inbox in inboxes] == [None] * 3


def test_state_of_the_dead_is_let_go_even_if_the_ref_is_kept(me):
    """A ref is a handle, not the process: keeping a thousand of the dead costs little."""

    class Big:
        pass

    states = []

    def keep(server):
        state = Big()
        states.append(weakref.ref(state))
        return Ok(state)

    kept = [Doer.start(keep) for _ in range(3)]
    for server in kept:
        kill(server)
    assert eventually(lambda: all(server._inbox.is_buried() for server in kept))
    gc.collect()
    assert [state() for state in states] == [None] * 3


def test_killed_server_with_an_idle_timeout_is_let_go(me):
    """A timer of the dead must not keep them until it is due, which may be in an hour."""
    server = Doer.start()
    call(server, lambda server: Reply(None, Timeout(3600)))
    inbox = weakref.ref(server._inbox)
    kill(server)
    assert eventually(server._inbox.is_buried)
    del server
    gc.collect()
    assert inbox() is None


def test_generations_do_not_remember_their_ancestors():
    """A process that hands over to its child and ends, again and again, does not grow a chain of
    the dead behind it.
    """
    inboxes = []
    parent = Doer.start()
    for _ in range(20):
        child = within(parent, lambda: Doer.start_link(None, None, False))
        inboxes.append(weakref.ref(parent._inbox))
        stop(parent)
        parent = child
    assert within(parent, lambda: "alive") == "alive"
    gc.collect()
    assert sum(inbox() is not None for inbox in inboxes) <= 1


def test_thousands_of_deaths_leave_the_program_as_it_was(me):
    """The books of the living are balanced: nothing of the dead is in any of them."""
    for n in range(500):
        server = Doer.start_link(None, None, bool(n % 2), name=f"short lived {n % 7}")
        process.monitor(server)
        process.send_after(server, "x", 0.001)
        if n % 3 == 0:
            kill(server)
        elif n % 3 == 1:
            stop(server)
        else:
            cast(server, lambda server: process.exit_self("boom"))
        while not isinstance(process.receive(timeout=WAIT), Down):
            pass
    while not nothing_comes(timeout=0):
        pass
    assert process.list() == []
    assert process.registered() == {}
    info = process.info(me.ref)
    assert (info["links"], info["monitors"], info["message_queue_len"]) == ([], [], 0)
