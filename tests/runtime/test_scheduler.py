"""The scheduler and the mailbox's token: nothing is lost, nothing runs twice, nobody starves."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest

from elsa_actors import CallExit, GenServer, NoReply, Ok, Reply, call, cast, process, stop
from elsa_actors.runtime import scheduler as scheduler_module
from elsa_actors.runtime.actor import ActorDead, Process
from elsa_actors.runtime.mailbox import Mailbox
from elsa_actors.runtime.scheduler import scheduler
from tests.servers import WAIT, Doer, Gate, Journal, exit_of

# What ends a leftover may strike in a finaliser or a callback of the garbage collector's that
# runs on its thread; Python reports and drops it there, and the watchdog fires again.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def switching() -> Iterator[None]:
    """Threads switch as often as they can: races that are rare become common."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class SpiedToken:
    """A token that lets a test act just before or just after it is released."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.before: Any = None
        self.after: Any = None

    def acquire(self, blocking: bool = True) -> bool:
        return self._lock.acquire(blocking)

    def locked(self) -> bool:
        return self._lock.locked()

    def release(self) -> None:
        if self.before:
            self.before()
        self._lock.release()
        if self.after:
            self.after()


class Pushes:
    """A runner that only notes who was pushed."""

    def __init__(self) -> None:
        self.queue: deque[Any] = deque()

    def push(self, inbox: Any) -> None:
        self.queue.append(inbox)

    def rouse(self) -> None:
        return

    @property
    def pushed(self) -> list[Any]:
        return list(self.queue)


def spied_mailbox() -> tuple[Mailbox, SpiedToken, Pushes]:
    inbox = Process()._inbox
    token, runner = SpiedToken(), Pushes()
    inbox.token = token  # type: ignore[assignment]
    inbox.runner = runner
    assert token.acquire(False)
    return inbox, token, runner


def test_message_between_the_last_look_and_the_release_is_not_lost():
    """Whoever gives the token back looks once more: the sender found it taken and went away."""
    inbox, token, runner = spied_mailbox()
    token.before = lambda: inbox.put("late")
    inbox.give_token_back()
    assert runner.pushed == [inbox]
    assert not token.acquire(False), "the token belongs to the one push"


def test_message_after_the_release_is_pushed_once():
    """The sender took the token and pushed; the second look must not push the process again."""
    inbox, token, runner = spied_mailbox()
    token.after = lambda: inbox.put("later")
    inbox.give_token_back()
    assert runner.pushed == [inbox]


def test_death_between_the_last_look_and_the_release_is_buried():
    """A process that dies while its token is held is buried by whoever held it."""
    inbox, token, runner = spied_mailbox()
    token.before = lambda: process.exit(inbox.ref, "kill")
    inbox.give_token_back()
    assert runner.pushed == [inbox]
    assert inbox.turn(scheduler_module.Worker("test"))
    assert inbox.is_buried()


def test_message_to_the_dead_leaves_nothing_behind():
    """A ref that outlives its process must not gather mail for ever."""
    ref = Doer.start()
    process.exit(ref, "kill")
    for _ in range(100):
        process.send(ref, "hello")
    assert len(ref._inbox.items) == 0


@pytest.mark.usefixtures("switching")
def test_no_message_is_lost_or_handled_twice_under_racing_senders():
    """Put against release: many senders to one server that is idle most of the time."""
    seen: list[int] = []
    ref = Doer.start()

    def note(number: int) -> Any:
        return lambda server: seen.append(number)

    def send(start: int) -> None:
        for number in range(start, start + 300):
            cast(ref, note(number))

    threads = [threading.Thread(target=send, args=(start,)) for start in range(0, 1800, 300)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT * 4)
    call(ref, lambda server: Reply("done"), timeout=WAIT * 4)
    assert sorted(seen) == list(range(1800))
    for start in range(0, 1800, 300):
        mine = [number for number in seen if start <= number < start + 300]
        assert mine == sorted(mine), "one sender's messages keep their order"


@pytest.mark.usefixtures("switching")
def test_a_server_never_runs_on_two_threads_at_once():
    """Pooled turns and inline calls exclude each other: one lock guards both ways."""

    class Exclusive(GenServer):
        inline = True
        inside = 0
        clashes = 0

        def handle_call(self, request: Any, sender: Any) -> Any:
            self.work()
            return Reply(self.clashes)

        def handle_cast(self, request: Any) -> Any:
            self.work()

        def work(self) -> None:
            self.inside += 1
            for _ in range(20):
                if self.inside != 1:
                    self.clashes += 1
            self.inside -= 1

    ref = Exclusive.start()

    def use() -> None:
        for number in range(200):
            if number % 3:
                call(ref, "work", timeout=WAIT * 4)
            else:
                cast(ref, "work")

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT * 4)
        assert not thread.is_alive()
    assert call(ref, "how many clashes", timeout=WAIT) == 0


@pytest.mark.usefixtures("switching")
@pytest.mark.parametrize("attempt", range(20))
def test_every_ask_that_meets_a_stop_is_answered(attempt: int):
    """In Pykka an ask can fall between the last look and the end, and hang for ever."""

    class Echo(Process):
        def on_receive(self, message: Any) -> Any:
            return message

    ref = Echo.start()
    results: list[Any] = []

    def ask() -> None:
        for number in range(50):
            try:
                results.append(ref.ask(number, timeout=WAIT))
            except ActorDead:
                results.append("dead")

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    ref.stop(timeout=WAIT)
    for thread in threads:
        thread.join(WAIT * 4)
        assert not thread.is_alive()
    assert len(results) == 200


@pytest.mark.usefixtures("switching")
@pytest.mark.parametrize("kind", ["pooled", "inline", "dedicated"])
def test_every_call_that_meets_a_kill_is_answered(kind: str):
    """Kill against finish: a caller gets an answer, or the exit; it never waits in vain."""

    class Echo(GenServer):
        inline = kind == "inline"
        dedicated_thread = kind == "dedicated"

        def handle_call(self, request: Any, sender: Any) -> Any:
            return Reply(request)

    outcomes: list[Any] = []
    for _ in range(50):
        ref = Echo.start()

        def use(ref: Any = ref) -> None:
            for number in range(10):
                try:
                    outcomes.append(call(ref, number, timeout=WAIT))
                except CallExit as error:
                    outcomes.append(error.reason)

        threads = [threading.Thread(target=use) for _ in range(2)]
        for thread in threads:
            thread.start()
        process.exit(ref, "kill")
        assert not process.is_alive(ref)
        for thread in threads:
            thread.join(WAIT * 4)
            assert not thread.is_alive()
    assert len(outcomes) == 1000
    assert {outcome for outcome in outcomes if isinstance(outcome, str)} <= {"killed", "noproc"}


def test_processes_that_block_without_a_word_do_not_starve_others():
    """The watchdog adds workers until every blocked process has one, and one more can run."""
    gates = [Gate() for _ in range(40)]
    refs = [Doer.start() for _ in gates]
    for ref, gate in zip(refs, gates, strict=True):
        cast(ref, lambda server, gate=gate: gate())
    for gate in gates:
        gate.reached()
    assert call(Doer.start(), lambda server: Reply("alive"), timeout=WAIT) == "alive"
    for gate in gates:
        gate.open()


def test_handlers_that_each_wait_a_little_run_side_by_side():
    """A queue that moves, slowly, while the processor idles gets more workers, too."""
    lock = threading.Lock()
    inside, most = 0, 0

    def work(server: Any) -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.005)
        with lock:
            inside -= 1

    refs = [Doer.start() for _ in range(50)]
    for _ in range(10):
        for ref in refs:
            cast(ref, work)
    for ref in refs:
        call(ref, lambda server: Reply("done"), timeout=WAIT * 4)
    assert most >= 4


def test_waits_of_the_library_let_others_run_at_once():
    """A process that waits in `receive` tells the scheduler; no watchdog is needed."""
    journal = Journal()

    def wait(server: Any) -> None:
        journal("waits")
        journal("got", process.receive(str, timeout=WAIT))

    refs = [Doer.start() for _ in range(30)]
    for ref in refs:
        cast(ref, wait)
    assert call(Doer.start(), lambda server: Reply("alive"), timeout=WAIT) == "alive"
    for ref in refs:
        process.send(ref, "hello")
    for ref in refs:
        call(ref, lambda server: Reply("done"), timeout=WAIT)
    assert journal.take().count(("got", "hello")) == 30


def test_idle_processes_hold_no_threads():
    """Two thousand servers at rest are memory only, however many threads a burst took."""
    before = threading.active_count()
    refs = [Doer.start() for _ in range(2000)]
    for ref in refs:
        cast(ref, lambda server: None)
    for ref in refs:
        call(ref, lambda server: Reply("done"), timeout=WAIT)
    assert threading.active_count() - before < 200


def test_a_long_queue_of_quick_handlers_is_no_reason_for_threads():
    """A busy processor is not a blocked worker: a burst must not start hundreds of threads."""

    def burn(server: Any) -> None:
        for _ in range(2000):
            pass

    refs = [Doer.start() for _ in range(500)]
    before = len(scheduler.workers)
    for _ in range(10):
        for ref in refs:
            cast(ref, burn)
    for ref in refs:
        call(ref, lambda server: Reply("done"), timeout=WAIT * 4)
    assert len(scheduler.workers) - before < 100


def test_saturation_is_logged_once_and_work_goes_on(monkeypatch: Any, log_events: Any):
    """At the most workers there may be, processes wait; the event says so once."""
    most = len(scheduler.workers) + 3
    monkeypatch.setattr(scheduler_module, "MAX_WORKERS", most)
    gates = [Gate() for _ in range(most + 5)]
    refs = [Doer.start(lambda server: None) for _ in gates]
    for ref, gate in zip(refs, gates, strict=True):
        cast(ref, lambda server, gate=gate: gate())
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline:
        if any(event["event"] == "scheduler_saturated" for event in log_events):
            break
        time.sleep(0.01)
    for gate in gates:
        gate.open()
    for ref in refs:
        call(ref, lambda server: Reply("done"), timeout=WAIT)
    saturated = [event for event in log_events if event["event"] == "scheduler_saturated"]
    assert len(saturated) == 1
    assert saturated[0]["waiting"] >= 1


def test_an_idle_program_has_no_ticking_watchdog():
    """The watchdog sleeps when nobody waits for a worker and no leftover runs."""
    gate = Gate()
    first, second = Doer.start(), Doer.start()
    cast(first, lambda server: gate())
    gate.reached()
    call(second, lambda server: Reply("done"), timeout=WAIT)
    gate.open()
    call(first, lambda server: Reply("done"), timeout=WAIT)
    deadline = time.monotonic() + WAIT
    while scheduler.watchdog.awake and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not scheduler.watchdog.awake


def test_a_fair_share_lets_others_have_the_worker():
    """A process with endless mail gives its worker away between fair shares."""
    journal = Journal()
    greedy = Doer.start()
    gate = Gate()

    def again(server: Any) -> None:
        if not gate._open.is_set():
            cast(greedy, again)

    cast(greedy, again)
    assert call(Doer.start(), lambda server: Reply("alive"), timeout=WAIT) == "alive"
    gate.open()
    call(greedy, lambda server: Reply(journal("calm")), timeout=WAIT)


def test_a_worker_that_ran_a_leftover_never_runs_another_process():
    """What was meant for a leftover must not hit the next process on the same thread."""
    for _ in range(30):
        idents: list[int] = []
        gate = Gate()

        def spin(server: Any, idents: list[int] = idents, gate: Gate = gate) -> None:
            idents.append(threading.get_ident())
            gate._reached.set()
            while True:
                pass

        ref = Doer.start()
        cast(ref, spin)
        gate.reached()
        leftover = next(thread for thread in threading.enumerate() if thread.ident == idents[0])
        process.exit(ref, "kill")
        assert call(Doer.start(), lambda server: Reply("alive"), timeout=WAIT) == "alive"
        leftover.join(WAIT)
        assert not leftover.is_alive(), "a pure Python loop is unwound, and its thread ends"


@pytest.mark.usefixtures("switching")
def test_unwinding_hits_nobody_else():
    """Kills of busy processes never end, nor corrupt, the healthy ones beside them."""
    counts = [0] * 8
    gate = Gate()

    class Healthy(GenServer):
        def init(self, place: int) -> Any:
            return Ok(place)

        def handle_info(self, message: Any) -> Any:
            counts[self.state] += 1
            if not gate._open.is_set():
                process.send(process.current(), "again")
            return NoReply()

    healthy = [Healthy.start(place) for place in range(8)]
    for ref in healthy:
        process.send(ref, "go")

    def spin(server: Any) -> None:
        numbers = []
        while True:
            numbers = [number * 2 for number in range(50)]
            numbers.sort()

    for _ in range(60):
        ref = Doer.start()
        cast(ref, spin)
        process.exit(ref, "kill")
    gate.open()
    for ref in healthy:
        assert process.is_alive(ref)
        stop(ref, timeout=WAIT)
    assert all(counts)


def test_a_dedicated_process_keeps_its_thread():
    """What is bound to a thread, such as a C library's handle, finds the same one each time."""

    class Bound(GenServer):
        dedicated_thread = True

        def init(self) -> Any:
            return Ok(threading.get_ident())

        def handle_call(self, request: Any, sender: Any) -> Any:
            return Reply(threading.get_ident() == self.state)

    ref = Bound.start()
    others = [Doer.start() for _ in range(5)]
    for _ in range(50):
        assert call(ref, "same?", timeout=WAIT)
        for other in others:
            call(other, lambda server: Reply("done"), timeout=WAIT)
    stop(ref)


def test_a_dedicated_thread_ends_with_its_process():
    """Killed while idle, the process leaves no thread behind."""

    class Bound(GenServer):
        dedicated_thread = True

        def handle_call(self, request: Any, sender: Any) -> Any:
            return Reply(threading.current_thread())

    ref = Bound.start()
    thread = call(ref, "thread", timeout=WAIT)
    process.exit(ref, "kill")
    thread.join(WAIT)
    assert not thread.is_alive()


def test_a_dedicated_process_that_gets_no_thread_never_lived(monkeypatch):
    """Whoever starts it hears of it; nothing that lives nowhere keeps the name."""

    class Bound(GenServer):
        dedicated_thread = True

    class Plain(Process):
        dedicated_thread = True

        def __init__(self) -> None:
            super().__init__()
            process.register("plain", self.actor_ref)

    def no_more(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_more)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            Bound.start(name="bound")
        with pytest.raises(RuntimeError, match="can't start new thread"):
            Plain.start()
    assert process.whereis("bound") is process.whereis("plain") is None
    stop(Bound.start(name="bound"), timeout=WAIT)
    stop(Plain.start(), timeout=WAIT)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_in_a_forked_child_every_call_says_so():
    """No process lives in a forked child; a call there must not wait for ever."""
    ref = Doer.start()
    code = (
        "import os, sys\n"
        "from elsa_actors import GenServer, call, cast, process, stop\n"
        "from elsa_actors.runtime.errors import Forked\n"
        "ref = GenServer.start()\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    bad = 0\n"
        "    for attempt in (lambda: call(ref, 1), lambda: cast(ref, 1), lambda: stop(ref),\n"
        "                    lambda: process.send(ref, 1), lambda: process.exit(ref, 'kill'),\n"
        "                    lambda: GenServer.start(), lambda: process.attach().__enter__()):\n"
        "        try:\n"
        "            attempt()\n"
        "            bad += 1\n"
        "        except Forked as error:\n"
        "            bad += 'fork' not in str(error)\n"
        "    os._exit(bad)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    import subprocess

    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], timeout=60)
    assert done.returncode == 0
    assert process.is_alive(ref)


def test_a_process_runs_in_a_copy_of_its_starters_context():
    """Context variables follow a process; what it sets stays its own."""
    import contextvars

    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("starter")
    ref = Doer.start()
    variable.set("changed later")

    def read(server: Any) -> Any:
        return Reply(variable.get())

    assert call(ref, read) == "starter"
    call(ref, lambda server: Reply(variable.set("its own")))
    assert call(ref, read) == "its own"
    assert variable.get() == "changed later"


def test_attached_threads_are_not_the_pools(me: Any):
    """An attached thread waits on its own; killing it from outside ends its wait."""
    target = me.ref
    killer = Doer.start()
    cast(killer, lambda server: process.exit(target, "kill"))
    with pytest.raises(process.ProcessExit) as caught:
        me.receive(timeout=WAIT)
    assert caught.value.reason == "killed"
    assert exit_of_ref(target) == "killed"


def exit_of_ref(ref: Any) -> Any:
    """The reason of a process that is dead already."""
    return ref._inbox.reason


def test_a_leftover_stuck_in_c_is_logged_once(monkeypatch: Any, log_events: Any):
    """What cannot be unwound is counted and shown to operators, with where it stands."""
    gate = Gate()
    release = threading.Event()

    def stuck(server: Any) -> None:
        gate._reached.set()
        release.wait(WAIT * 4)

    ref = Doer.start()
    cast(ref, stuck)
    gate.reached()
    process.exit(ref, "kill")
    assert exit_of(ref) == "killed"
    deadline = time.monotonic() + WAIT * 2
    while time.monotonic() < deadline:
        if any(event["event"] == "orphan_thread" for event in log_events):
            break
        time.sleep(0.02)
    assert len(scheduler.watchdog.orphans) == 1
    release.set()
    deadline = time.monotonic() + WAIT
    while scheduler.watchdog.orphans and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not scheduler.watchdog.orphans
    assert len([event for event in log_events if event["event"] == "orphan_thread"]) == 1


def test_worker_taken_for_stuck_as_it_parks_is_counted_once(monkeypatch: Any):
    """The watchdog may look between a worker's last turn and its parking; the count stays true."""
    own = scheduler_module.Scheduler()
    monkeypatch.setattr(own, "_hire", lambda: True)
    worker = scheduler_module.Worker(scheduler_module.RUNNING)
    own.workers.add(worker)
    own.running = 1
    worker.looked = worker.turns
    own.queue.append(Process()._inbox)
    own.watchdog._relieve(late=1.0)
    own.queue.clear()
    assert worker.state is scheduler_module.STUCK
    scheduler_module.wake(worker.lock)
    assert own._park(worker)
    # Woken by nobody who counted it, it counts itself.
    assert (own.running, own.blocked_silently) == (1, 0)


def test_a_flood_of_mail_does_not_keep_the_next_process_waiting() -> None:
    """A worker gives a process its fair share of messages, then the next one its turn."""
    journal = Journal()
    flooded, other, sender = Doer.start(), Doer.start(), Doer.start()

    def flood(_server: Any) -> None:
        for _ in range(3000):
            cast(flooded, lambda server: journal("flooded"))
        cast(other, lambda server: journal("other"))

    call(sender, flood, WAIT)
    call(flooded, lambda server: None, WAIT * 4)
    call(other, lambda server: None, WAIT)
    assert journal.events.index("other") < 1000
