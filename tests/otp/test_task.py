"""Task: a function in a process of its own, and who gets its result."""

import doctest
import threading
import time

import pytest

from elsa_actors.otp import debug, task
from elsa_actors.otp.gen_server import call, cast, stop
from elsa_actors.otp.results import Reply, Stop
from elsa_actors.otp.supervisor import Supervisor
from elsa_actors.otp.task import Task
from elsa_actors.runtime import process
from elsa_actors.runtime.errors import (
    CallExit,
    CallTimeout,
    ChildError,
    NoProcess,
    ReceiveTimeout,
)
from elsa_actors.runtime.exits import Exit, ProcessExit
from tests.servers import WAIT, Doer, Gate, Journal, Oops, exit_of, nothing_comes

OOPS = Oops()


def raises():
    raise OOPS


def do(ref, act):
    """Have a Doer do this in its own process, and return what came of it."""
    return call(ref, lambda server: Reply(act()), WAIT * 2)


def links(ref):
    return process.info(ref)["links"]


def until(condition):
    """Wait for what another process is about to do."""
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.001)


@pytest.fixture
def quiet():
    """A Doer that does not trap exits."""
    return Doer.start()


# ---- a result


def test_async_and_await(me):
    """The result of a function that runs elsewhere meanwhile; nothing is left of it. TASK-01."""
    gate = Gate()
    job = Task.async_(lambda a, b: (gate(), process.current(), a + b), 1, 2)
    gate.reached()
    assert job.owner is me.ref
    assert links(me.ref) == [job.ref]
    assert links(job.ref) == [me.ref]
    gate.open()
    assert job.await_() == (None, job.ref, 3)
    assert exit_of(job.ref) in ("normal", "noproc")
    assert links(me.ref) == []
    assert nothing_comes()


def test_nothing_is_left_of_many_tasks(me):
    """An owner that traps exits finds no Exit of a task that did well, however they end.
    TASK-01."""
    for _ in range(20):
        jobs = [Task.async_(abs, -n) for n in range(10)]
        assert [job.await_() for job in jobs] == list(range(10))
        with pytest.raises(ReceiveTimeout):
            me.receive(timeout=0)
    for job in jobs:
        exit_of(job.ref)
    with pytest.raises(ReceiveTimeout):
        me.receive(timeout=0)


def test_tasks_run_side_by_side(me):
    """Tasks may block: each is a process of its own, and holds up neither others nor its owner."""
    meet = threading.Barrier(5)
    jobs = [Task.async_(meet.wait, WAIT) for _ in range(5)]
    assert sorted(job.await_() for job in jobs) == [0, 1, 2, 3, 4]


def test_result_that_came_before_it_is_awaited(me):
    """A result waits for its owner, whose mail keeps its order meanwhile. TASK-01."""
    job = Task.async_(lambda: "done")
    process.send(me.ref, "mail")
    exit_of(job.ref)
    assert job.await_(timeout=0) == "done"
    assert me.receive(timeout=0) == "mail"


def test_result_may_be_anything(me):
    """None, an exception and a reason-like tuple are results like others."""
    for value in (None, OOPS, ("exit", "r"), False):
        assert Task.async_(lambda value=value: value).await_() is value
    assert Task.async_(lambda: None).yield_(WAIT) == ("ok", None)


@pytest.mark.parametrize("fn", [None, "text", 5])
def test_what_is_no_function(me, fn):
    """A task that cannot run is refused where it was written."""
    for start in (Task.async_, Task.start, Task.start_link, Task.child_spec):
        with pytest.raises(TypeError, match="expected a task to be a function"):
            start(fn)
    assert process.list() == []


# ---- failures


@pytest.mark.parametrize("awaits", [True, False])
def test_owner_that_does_not_trap_dies_of_its_task(quiet, awaits):
    """What a task cannot do its owner cannot either, whether it waits or not. TASK-02."""
    gate, journal = Gate(), Journal()

    def own(server):
        job = Task.async_(lambda: gate() or raises())
        journal("started")
        if awaits:
            journal(job.await_())

    cast(quiet, own)
    gate.reached()
    gate.open()
    assert exit_of(quiet) is OOPS
    assert journal.events == ["started"]


def test_owner_that_traps_gets_the_reason(me, log_events):
    """Whoever traps exits gets an error of its own, and the Exit of the link as well. TASK-03."""
    job = Task.async_(raises)
    with pytest.raises(CallExit) as error:
        job.await_()
    assert error.value.reason is OOPS
    assert error.value.__cause__ is OOPS
    assert error.value.server is job.ref
    assert me.receive(Exit, WAIT) == Exit(job.ref, OOPS)
    assert nothing_comes()
    (report,) = log_events
    assert report["event"] == "process_crashed"
    assert report["reason"] is OOPS
    assert repr(report["last_message"]) == "raises/0"


def test_reports_show_no_arguments(me, log_events):
    """What a function is called with may be a password; a log has its name only."""
    Task.async_(int, "secret").yield_(WAIT)
    assert "secret" not in repr([(e["last_message"], e["state"]) for e in log_events])
    assert "int/1" in repr(log_events)


@pytest.mark.parametrize("reason", ["normal", "u", ("shutdown", 1)])
def test_task_that_exits(me, reason, log_events):
    """A task that ends without a result, of its own will, fails whoever waits. TASK-04, TASK-05."""
    job = Task.async_(process.exit_self, reason)
    with pytest.raises(CallExit) as error:
        job.await_()
    assert error.value.reason == reason
    assert me.receive(Exit, WAIT) == Exit(job.ref, reason)
    assert [e["event"] for e in log_events] == ["process_crashed"] * (reason == "u")


def test_task_that_is_killed(me):
    """A task that somebody kills has no result. TASK-03."""
    job = Task.async_(process.sleep, 60)
    process.exit(job.ref, "kill")
    with pytest.raises(CallExit) as error:
        job.await_()
    assert error.value.reason == "killed"
    assert me.receive(Exit, WAIT) == Exit(job.ref, "killed")


# ---- in time


def test_await_that_takes_too_long(me):
    """A late result reaches nobody; the task itself goes on. TASK-06."""
    gate, journal = Gate(), Journal()
    job = Task.async_(lambda: gate() or journal("done"))
    gate.reached()
    with pytest.raises(CallTimeout) as error:
        job.await_(timeout=0.05)
    assert error.value.reason == "timeout"
    assert error.value.server is job.ref
    assert process.is_alive(job.ref)
    gate.open()
    journal.wait_for("done")
    assert exit_of(job.ref) in ("normal", "noproc")
    assert nothing_comes()
    assert job.yield_(timeout=0.05) is None
    with pytest.raises(CallTimeout):
        job.await_(timeout=0.05)


def test_owner_that_dies_of_its_own_timeout(quiet):
    """An await that nobody catches ends the owner, and by the link its task. TASK-06, TASK-16."""
    jobs = []

    def own(server):
        jobs.append(Task.async_(process.sleep, 60))
        jobs[0].await_(timeout=0.05)

    cast(quiet, own)
    reason = exit_of(quiet)
    assert type(reason) is CallTimeout
    assert jobs[0].ref._inbox.reason is reason


@pytest.mark.parametrize("first", ["await_", "yield_"])
def test_result_is_taken_once(me, first):
    """A result is handed over once; who asks again waits for what never comes. TASK-07."""
    job = Task.async_(lambda: "value")
    getattr(job, first)(WAIT)
    started = time.monotonic()
    with pytest.raises(CallTimeout, match="expected to await a result once") as error:
        job.await_(timeout=0.05)
    assert time.monotonic() - started >= 0.05
    assert error.value.reason == "timeout"
    assert job.yield_(timeout=0.01) is None
    assert job.shutdown() is None
    with pytest.raises(CallTimeout):
        job.await_(timeout=None)


def test_yield(me):
    """Whoever has other things to do asks now and then. TASK-09."""
    gate = Gate()
    job = Task.async_(lambda: gate() or "value")
    assert job.yield_(timeout=0) is None
    assert job.yield_(timeout=0.01) is None
    gate.open()
    assert job.yield_(timeout=WAIT) == ("ok", "value")
    assert job.yield_(timeout=0) is None


def test_yield_of_a_task_that_fails(me):
    """A failure is a value here, and nothing is raised. TASK-09."""
    assert Task.async_(raises).yield_(WAIT) == ("exit", OOPS)
    assert Task.async_(process.exit_self, "r").yield_(timeout=None) == ("exit", "r")


@pytest.mark.parametrize("timeout", [-1, "soon", True, float("nan")])
def test_what_is_no_timeout(me, timeout):
    """A wrong timeout is refused, and the task does not suffer."""
    job = Task.async_(lambda: "value")
    for ask in (job.await_, job.yield_, job.shutdown):
        with pytest.raises(ValueError, match="expected timeout to be seconds"):
            ask(timeout=timeout)
    assert job.await_() == "value"


# ---- shutdown


@pytest.mark.parametrize("how", [WAIT, "brutal_kill", None])
def test_shutdown_of_a_task_that_runs(me, how):
    """A task that is not needed any more is dead on return, and leaves nothing. TASK-10,
    TASK-11."""
    gate = Gate()
    job = Task.async_(lambda: gate(library=True))
    gate.reached()
    assert job.shutdown(how) is None
    assert not process.is_alive(job.ref)
    assert job.ref._inbox.reason == ("killed" if how == "brutal_kill" else "shutdown")
    assert links(me.ref) == []
    assert nothing_comes()


def test_shutdown_harms_no_owner(quiet):
    """An owner that does not trap exits lives on: the link is cut first. TASK-10."""
    assert do(quiet, lambda: Task.async_(process.sleep, 60).shutdown()) is None
    assert do(quiet, lambda: Task.async_(process.sleep, 60).shutdown("brutal_kill")) is None
    assert process.is_alive(quiet)
    assert links(quiet) == []


def test_shutdown_of_a_task_that_has_answered(me):
    """What was done in time is not thrown away. TASK-10."""
    job = Task.async_(lambda: "value")
    exit_of(job.ref)
    assert job.shutdown() == ("ok", "value")
    assert job.shutdown() is None


def test_shutdown_of_a_task_that_failed(me):
    """A failure from before shows. TASK-10."""
    job = Task.async_(raises)
    exit_of(job.ref)
    assert job.shutdown() == ("exit", OOPS)


def trapping(gate, act):
    """A task's function that traps exits, and then does this."""
    process.trap_exit(True)
    gate()
    return act()


def test_shutdown_of_a_task_that_does_not_listen(me):
    """A task that traps exits and goes on is killed when its time is over. TASK-11."""
    gate = Gate()
    job = Task.async_(trapping, gate, lambda: process.sleep(60))
    gate.reached()
    gate.open()
    assert job.shutdown(timeout=0.05) == ("exit", "killed")
    assert not process.is_alive(job.ref)
    assert nothing_comes()


def test_brutal_kill_of_a_task_that_does_not_listen(me):
    """Who wants no answer gives no time. TASK-11."""
    gate = Gate()
    job = Task.async_(trapping, gate, lambda: process.sleep(60))
    gate.reached()
    gate.open()
    assert job.shutdown("brutal_kill") is None
    assert job.ref._inbox.reason == "killed"


def test_shutdown_of_a_task_that_finishes_in_time(me):
    """A task that traps exits may see the request, finish, and still answer. TASK-10."""
    gate = Gate()
    job = Task.async_(trapping, gate, lambda: process.receive(Exit, WAIT).reason)
    gate.reached()
    gate.open()
    assert job.shutdown() == ("ok", "shutdown")
    assert not process.is_alive(job.ref)
    assert nothing_comes()


@pytest.mark.parametrize("seconds", [WAIT, 0.05])
def test_shutdown_waits_for_the_end(me, seconds):
    """A task may have answered and still be closing what it owns; then its time counts too.
    TASK-10."""
    gate = Gate()

    def act():
        process.own("thing", lambda thing: time.sleep(0.3))
        return process.receive(Exit, WAIT).reason

    job = Task.async_(trapping, gate, act)
    gate.reached()
    gate.open()
    assert job.shutdown(timeout=seconds) == ("ok", "shutdown")
    assert not process.is_alive(job.ref)
    assert job.ref._inbox.reason == ("normal" if seconds == WAIT else "killed")


def test_shutdown_after_an_await_in_vain(me):
    """Whoever gave a result up can still end the task. TASK-06, TASK-10."""
    job = Task.async_(process.sleep, 60)
    with pytest.raises(CallTimeout):
        job.await_(timeout=0.01)
    assert job.shutdown() is None
    assert not process.is_alive(job.ref)
    assert nothing_comes()


# ---- whose it is


def test_task_is_asked_by_its_owner_only(me, quiet):
    """A result goes to the one who is linked to the task; anybody else is told so. TASK-08."""
    job = Task.async_(lambda: "value")
    for ask in (job.await_, job.yield_, job.shutdown):
        with pytest.raises(CallExit) as error:
            do(Doer.start(), ask)
        refusal = error.value.reason
        assert type(refusal) is RuntimeError
        assert f"of {job!r} to be called by its owner, {me.ref!r}, got: <ActorRef" in str(refusal)

    def from_a_plain_thread():
        with pytest.raises(RuntimeError, match="got: a plain thread"):
            job.await_()
        seen.append("refused")

    seen = []
    thread = threading.Thread(target=from_a_plain_thread)
    thread.start()
    thread.join(WAIT)
    assert seen == ["refused"]
    assert job.await_() == "value"


def test_task_of_a_plain_thread():
    """A plain thread cannot be linked; its task is fetched by any plain thread. TASK-08."""
    job = Task.async_(lambda: "value")
    assert job.owner is None
    assert links_or_none(job.ref) in ([], None)
    with process.attach(), pytest.raises(RuntimeError, match="its owner, a plain thread"):
        job.await_()
    seen = []
    thread = threading.Thread(target=lambda: seen.append(job.await_()))
    thread.start()
    thread.join(WAIT)
    assert seen == ["value"]


def links_or_none(ref):
    info = process.info(ref)
    return info and info["links"]


def test_failing_task_of_a_plain_thread():
    """A plain thread has nothing to die of; it gets the error when it asks. TASK-03."""
    job = Task.async_(raises)
    with pytest.raises(CallExit) as error:
        job.await_()
    assert error.value.reason is OOPS
    assert Task.async_(raises).yield_(WAIT) == ("exit", OOPS)
    job = Task.async_(process.sleep, 60)
    assert job.shutdown() is None
    assert not process.is_alive(job.ref)


@pytest.mark.parametrize(("how", "reason"), [("kill", "killed"), ("boom", "boom"), ("raise", OOPS)])
def test_task_dies_with_its_owner(quiet, how, reason):
    """Work for one who is dead is not done. TASK-16."""
    job = do(quiet, lambda: Task.async_(process.sleep, 60))
    if how == "raise":
        cast(quiet, lambda server: raises())
        exit_of(quiet)
    else:
        process.exit(quiet, how)
    assert exit_of(job.ref) in ("noproc", reason)
    assert job.ref._inbox.reason == reason


def test_task_goes_on_after_its_owner_that_is_done(quiet):
    """An owner that ends as it should leaves its task to itself. TASK-17."""
    gate, journal = Gate(), Journal()
    job = do(quiet, lambda: Task.async_(lambda: gate() or journal("done")))
    gate.reached()
    stop(quiet)
    assert process.is_alive(job.ref)
    gate.open()
    journal.wait_for("done")
    assert exit_of(job.ref) in ("noproc", "normal")


def test_killed_owner_that_waits(quiet):
    """An owner that is killed while it waits is gone at once, and its task too. TASK-16."""
    jobs = []

    def own(server):
        jobs.append(Task.async_(process.sleep, 60))
        jobs[0].await_(timeout=None)

    cast(quiet, own)
    until(lambda: process.info(quiet)["status"] == "waiting")
    process.exit(quiet, "kill")
    assert not process.is_alive(jobs[0].ref)
    assert jobs[0].ref._inbox.reason == "killed"


def test_leftover_code_starts_no_task():
    """What still runs of a dead process starts nothing and fetches nothing."""

    class Stubborn(Doer):
        unwind = False

    ref, gate, journal = Stubborn.start(), Gate(), Journal()

    def run(server):
        job = Task.async_(lambda: "value")
        gate()
        for act in (lambda: Task.async_(journal, "ran"), job.await_, job.yield_, job.shutdown):
            try:
                act()
            except ProcessExit as error:
                journal("refused", error.reason)

    cast(ref, run)
    gate.reached()
    process.exit(ref, "kill")
    gate.open()
    until(lambda: len(journal.events) == 4)
    assert process.list() == []
    assert journal.events == [("refused", "killed")] * 4


def test_task_of_a_task(me):
    """A task that is started by a task is that one's own. TASK-01."""
    outer = Task.async_(lambda: Task.async_(lambda: links(process.current())).await_())
    assert outer.await_() == [outer.ref]


def test_tasks_and_their_owner_under_load(me):
    """Many tasks, each of which has tasks, and every result reaches its owner. TASK-01."""

    def total(depth, n):
        if depth == 0:
            return n
        return sum(
            job.await_(WAIT * 4) for job in [Task.async_(total, depth - 1, n + k) for k in range(4)]
        )

    assert Task.async_(total, 4, 1).await_(WAIT * 4) == sum(
        1 + a + b + c + d for a in range(4) for b in range(4) for c in range(4) for d in range(4)
    )


def test_repr(me):
    """A task shows what it runs and how far it is."""
    gate = Gate()
    job = Task.async_(gate)
    gate.reached()
    assert repr(job) == "<Task Gate/0 running>"
    gate.open()
    exit_of(job.ref)
    assert repr(job) == "<Task Gate/0 done>"
    job.await_()
    assert repr(job) == "<Task Gate/0 taken>"
    assert repr(Task.async_(int, "1")).startswith("<Task int/1 ")


# ---- nobody waits


def test_start(quiet):
    """Fire and forget: the task's end is its own. TASK-15."""
    journal = Journal()
    ref = do(quiet, lambda: Task.start(lambda *args: journal(process.current(), *args), 1, 2))
    until(lambda: journal.events)
    assert journal.events == [(ref, 1, 2)]
    ref = do(quiet, lambda: Task.start(raises))
    assert exit_of(ref) in ("noproc", OOPS)
    assert links(quiet) == []
    assert do(quiet, lambda: "lives") == "lives"


def test_start_link(quiet):
    """A linked task takes a starter along that does not trap exits; its good end does not.
    TASK-15."""
    ref = do(quiet, lambda: Task.start_link(lambda: "value"))
    assert exit_of(ref) in ("noproc", "normal")
    assert do(quiet, lambda: "lives") == "lives"
    gate = Gate()
    ref = do(quiet, lambda: Task.start_link(lambda: gate() or raises()))
    assert ref in links(quiet)
    gate.open()
    assert exit_of(quiet) is OOPS


def test_start_link_on_a_trapping_process(me):
    """Nobody awaits such a task: its end is news, a good one as well. TASK-15."""
    ref = Task.start_link(lambda: "value")
    assert me.receive(Exit, WAIT) == Exit(ref, "normal")


def test_child_spec():
    """A task is temporary: what is done is done. TASK-21."""
    assert Task.child_spec(print, 1, 2) == {
        "id": "Task",
        "start": (Task, "start_link", [print, 1, 2]),
        "restart": "temporary",
    }


@pytest.mark.parametrize("fn", [lambda journal: journal("ran"), lambda journal: raises()])
def test_task_as_a_child(me, fn):
    """A task in a tree runs once, and its end does nobody harm. TASK-21."""
    journal, ran = Journal(), []
    sup = Supervisor.start_link([(Task, lambda j: (ran.append(1), fn(j)), journal)], name="tree")
    until(lambda: Supervisor.which_children(sup) == [])
    assert ran == [1]
    assert process.is_alive(sup)


# ---- Task.Supervisor


@pytest.fixture
def tasks():
    """A supervisor of tasks, "tasks"."""
    return Task.Supervisor.start(name="tasks")


def test_supervised_task(me, tasks):
    """A task under a supervisor is linked to its owner as well, and awaited like another.
    TSUP-01."""
    gate = Gate()
    job = Task.Supervisor.async_("tasks", lambda a, b: gate() or a + b, 1, 2)
    gate.reached()
    assert sorted(map(str, links(job.ref))) == sorted(map(str, [tasks, me.ref]))
    assert Task.Supervisor.children("tasks") == [job.ref]
    assert process.info(job.ref)["parent"] is tasks
    assert job.owner is me.ref
    gate.open()
    assert job.await_() == 3
    assert links(me.ref) == []
    assert nothing_comes()


def test_supervised_task_that_fails(me, tasks, log_events):
    """Owner and supervisor both learn of it; the supervisor has seen worse. TSUP-01."""
    job = Task.Supervisor.async_(tasks, raises)
    with pytest.raises(CallExit) as error:
        job.await_()
    assert error.value.reason is OOPS
    assert me.receive(Exit, WAIT) == Exit(job.ref, OOPS)
    until(lambda: Task.Supervisor.children(tasks) == [])
    assert process.is_alive(tasks)
    events = [e["event"] for e in log_events]
    assert events.count("process_crashed") == events.count("child_terminated") == 1


def test_owner_of_a_supervised_task_dies_of_it(quiet, tasks):
    """The link to the owner holds from the first instruction of the function. TSUP-01, TASK-02."""
    cast(quiet, lambda server: Task.Supervisor.async_(tasks, raises).await_() and None)
    assert exit_of(quiet) is OOPS
    assert process.is_alive(tasks)


def test_supervised_task_dies_with_its_owner(quiet, tasks):
    """Work for one who is dead is not done, under a supervisor either. TASK-16, TSUP-01."""
    job = do(quiet, lambda: Task.Supervisor.async_(tasks, process.sleep, 60))
    process.exit(quiet, "kill")
    assert job.ref._inbox.reason == "killed"
    until(lambda: Task.Supervisor.children(tasks) == [])


def test_supervised_task_of_a_plain_thread(tasks):
    """A plain thread may use a supervisor of tasks, too. TSUP-01."""
    assert Task.Supervisor.async_(tasks, pow, 2, 5).await_() == 32


def test_supervised_task_for_an_owner_that_died(tasks):
    """Nothing is started for somebody who is dead by the time the supervisor comes to it."""
    ref, journal = Doer.start(), Journal()
    debug.suspend(tasks)
    cast(ref, lambda server: Task.Supervisor.async_(tasks, journal, "ran") and None)
    until(lambda: process.info(ref)["status"] == "waiting")
    process.exit(ref, "kill")
    debug.resume(tasks)
    assert Task.Supervisor.children(tasks) == []
    assert Task.Supervisor.async_(tasks, lambda: "next").await_() == "next"
    assert journal.events == []


def test_start_child(me, tasks):
    """A task that nobody waits for, in a place where it is seen; it is never restarted. TSUP-03."""
    ran, gate = [], Gate()

    def act(word):
        ran.append((word, process.current()))
        gate()
        raises()

    ref = Task.Supervisor.start_child("tasks", act, "word")
    gate.reached()
    assert links(ref) == [tasks]
    assert Task.Supervisor.children(tasks) == [ref]
    gate.open()
    until(lambda: Task.Supervisor.children(tasks) == [])
    assert ran == [("word", ref)]
    assert nothing_comes()


def test_children(me, tasks):
    """All that run are seen, and none that has ended. TSUP-05."""
    gate = Gate()
    refs = [Task.Supervisor.start_child(tasks, gate) for _ in range(3)]
    jobs = [Task.Supervisor.async_(tasks, gate) for _ in range(2)]
    assert set(Task.Supervisor.children(tasks)) == {*refs, *(job.ref for job in jobs)}
    assert Task.Supervisor.count_children(tasks)["active"] == 5
    gate.open()
    for job in jobs:
        job.await_()
    until(lambda: Task.Supervisor.children(tasks) == [])


def test_terminate_child(me, tasks):
    """A task can be ended by its ref, once. TSUP-06."""
    ref = Task.Supervisor.start_child(tasks, process.sleep, 60)
    assert Task.Supervisor.terminate_child(tasks, ref) is None
    assert ref._inbox.reason == "shutdown"
    with pytest.raises(ChildError) as error:
        Task.Supervisor.terminate_child(tasks, ref)
    assert error.value.reason == "not_found"


def test_stopped_supervisor_ends_its_tasks(me, tasks):
    """Tasks end with their supervisor, and who waits for one is told. TSUP-08."""
    ref = Task.Supervisor.start_child(tasks, process.sleep, 60)
    job = Task.Supervisor.async_(tasks, process.sleep, 60)
    Task.Supervisor.stop("tasks")
    assert ref._inbox.reason == job.ref._inbox.reason == "shutdown"
    assert job.yield_(WAIT) == ("exit", "shutdown")
    assert me.receive(Exit, WAIT) == Exit(job.ref, "shutdown")


def test_no_supervisor_there(me):
    """A supervisor that does not run starts nothing."""
    for start in (Task.Supervisor.async_, Task.Supervisor.start_child):
        with pytest.raises(NoProcess):
            start("nope", print)
        with pytest.raises(TypeError, match="expected a task to be a function"):
            start("nope", 5)


def test_supervisor_in_a_tree(me):
    """Several supervisors of tasks may stand in one tree, under their names."""
    sup = Supervisor.start_link(
        [Task.Supervisor.child_spec(name="jobs"), Task.Supervisor.child_spec(name="mails")]
    )
    assert [(info.id, info.type) for info in Supervisor.which_children(sup)] == [
        ("mails", "supervisor"),
        ("jobs", "supervisor"),
    ]
    assert Task.Supervisor.async_("jobs", lambda: "done").await_() == "done"


def test_handler_that_awaits_keeps_its_order(me):
    """A server that awaits a task handles its next message afterwards, and not in between."""
    journal, gate = Journal(), Gate()
    ref = Doer.start(None, journal)
    cast(ref, lambda server: journal("awaited", Task.async_(gate).await_(WAIT)))
    gate.reached()
    cast(ref, lambda server: Stop("normal"))
    gate.open()
    exit_of(ref)
    assert journal.events == [("awaited", None), ("terminate", "normal")]


def test_examples(log_events):
    """What the docstrings show is what happens."""
    results = doctest.testmod(task, report=False)
    assert results.failed == 0
    assert results.attempted > 0
