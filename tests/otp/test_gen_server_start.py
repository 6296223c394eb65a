"""How a server starts: what `init` answers, whom the start concerns, its time limit, its name."""

import contextvars
import dataclasses
import sqlite3
import threading
import time
import typing

import pykka
import pytest

from elsa_actors import (
    TIMEOUT,
    Agent,
    AlreadyStarted,
    CallExit,
    Continue,
    Down,
    DynamicSupervisor,
    Exit,
    GenServer,
    Hibernate,
    Ignore,
    NameTaken,
    NoProcess,
    NoReply,
    Ok,
    Process,
    ProcessExit,
    Registry,
    Reply,
    StartError,
    Stop,
    Supervise,
    Supervisor,
    Task,
    Timeout,
    Via,
    Wrapper,
    call,
    cast,
    process,
    stop,
)
from elsa_actors.runtime.names import Named
from tests.servers import (
    NEVER,
    WAIT,
    Doer,
    Gate,
    Journal,
    Oops,
    nothing_comes,
)

OOPS = Oops("init")


class Counter(GenServer):
    def init(self, start=0):
        return Ok(start)

    def handle_call(self, request, sender):
        match request:
            case "get":
                return Reply(self.state)
            case ("add", n):
                self.state += n
                return Reply(self.state)


class Shelf(Named):
    """A name kept in a dictionary: all that a server needs to be found under a name of your own."""

    def __init__(self, key, holders):
        self.key, self.holders = key, holders

    def whereis(self):
        ref = self.holders.get(self.key)
        return ref if ref is not None and process.is_alive(ref) else None

    def register(self, ref):
        holder = self.whereis()
        if holder is not None:
            raise NameTaken(self.key, holder)
        self.holders[self.key] = ref

    def unregister(self, ref):
        if self.holders.get(self.key) is ref:
            del self.holders[self.key]


def raises(server):
    raise OOPS


FAILURES = {
    "stop": (lambda server: Stop("r"), "r"),
    "raise": (raises, OOPS),
    "exit": (lambda server: process.exit_self("r"), "r"),
    "bad value": (lambda server: 4711, ("bad_return_value", 4711)),
    "killed": (lambda server: process.exit(process.current(), "kill"), "killed"),
}
failures = pytest.mark.parametrize(("init", "reason"), FAILURES.values(), ids=FAILURES)


def outcome_of(start):
    """What a start returned, or the error that it raised."""
    try:
        return start()
    except StartError as error:
        return error


def nothing_happens_to(ref, journal):
    """Whether a server stays idle for a while: its journal does not grow."""
    before = list(journal.events)
    threading.Event().wait(NEVER)
    return journal.events == before and process.is_alive(ref)


def wait_until(condition):
    """Poll a condition that no event tells of."""
    pause = threading.Event()
    for _ in range(int(WAIT / 0.01)):
        if condition():
            return
        pause.wait(0.01)
    pytest.fail("it did not come true")


# ---- what init answers


def test_ok_gives_a_living_server_with_its_state():
    """`Ok(state)` is the common case: a ref, and the state that init gave. INIT-01."""
    ref = Counter.start(41)
    assert process.is_alive(ref)
    assert call(ref, "get") == 41


def test_ok_without_a_state_leaves_what_init_left():
    """A server that keeps attributes of its own need not name a state; None is a state too."""

    class Keeper(GenServer):
        def init(self, state, answer):
            self.state = state
            return answer

        def handle_call(self, request, sender):
            return Reply(self.state)

    assert call(Keeper.start("mine", Ok()), "get") == "mine"
    assert call(Keeper.start("mine", Ok(None)), "get") is None
    assert call(Keeper.start(None, Ok()), "get") is None


def test_subclasses_of_results_are_results():
    """A team may give an answer a name of its own."""

    class Ready(Ok):
        pass

    class Refuse(Stop):
        pass

    assert process.is_alive(Doer.start(lambda server: Ready()))
    with pytest.raises(StartError) as error:
        Doer.start(lambda server: Refuse("no"))
    assert error.value.reason == "no"


def test_idle_timeout_of_init():
    """A server may ask init for a tick when nothing comes; it comes once. INIT-02."""
    journal = Journal()
    ref = Doer.start(lambda server: Ok(then=Timeout(0.03)), journal)
    journal.wait_for("info", TIMEOUT)
    assert nothing_happens_to(ref, journal)
    assert journal.events == [("info", TIMEOUT)]


def test_idle_timeout_of_zero():
    """With an empty mailbox, 0 seconds are over at once. INIT-03."""
    journal = Journal()
    Doer.start(lambda server: Ok(then=Timeout(0)), journal)
    journal.wait_for("info", TIMEOUT)


@pytest.mark.parametrize("then", [None, Timeout("infinity"), Timeout(float("inf")), Hibernate()])
def test_no_idle_timeout(then):
    """An infinite timeout is none, and a hibernating server answers as before. INIT-04, INIT-06."""
    journal = Journal()
    ref = Doer.start(lambda server: Ok(then=then), journal)
    assert call(ref, lambda server: Reply("here")) == "here"
    assert nothing_happens_to(ref, journal)
    assert journal.events == []


@pytest.mark.parametrize(
    "then",
    [
        Timeout(-1),
        Timeout("soon"),
        Timeout(None),
        Timeout(True),
        Timeout(float("nan")),
        Continue,
        "bogus",
        20,
        (),
    ],
)
def test_wrong_then_of_init(then):
    """A `then` that means nothing makes the whole answer wrong, not half of it. INIT-05."""
    answer = Ok("state", then)
    with pytest.raises(StartError) as error:
        Doer.start(lambda server: answer)
    word, value = error.value.reason
    assert word == "bad_return_value"
    assert value is answer


def test_start_does_not_wait_for_continue():
    """Long work belongs into handle_continue, just because nobody waits for it. INIT-07."""
    gate = Gate()
    ref = Doer.start(lambda server: Ok(then=Continue(lambda server: gate())))
    gate.reached()
    assert process.is_alive(ref)
    gate.open()


def test_continue_runs_before_what_is_queued():
    """What init put off is done before anybody can see that it was put off. INIT-08."""
    journal = Journal()

    def init(server):
        process.send(process.current(), "queued")
        return Ok(then=Continue("first"))

    Doer.start(init, journal)
    journal.wait_for("info", "queued")
    assert journal.events == [("continue", "first"), ("info", "queued")]


def test_continue_that_raises_ends_a_started_server(me):
    """The start was good; what fails later is a crash like any other. INIT-09."""
    ref = Doer.start_link(lambda server: Ok(then=Continue(raises)))
    assert me.receive(Exit, WAIT) == Exit(ref, OOPS)


def watched(watcher, init):
    """This init, after the watcher began to monitor the new process."""

    def watched_init(server):
        ref = process.current()
        call(watcher, lambda watcher: (process.monitor(ref), Reply(None))[1])
        return init(server)

    return watched_init


@pytest.mark.parametrize("start", ["start", "start_link"])
def test_ignore_is_no_failure(me, start):
    """A server that has nothing to do says so: no ref, no error, a normal end. INIT-10, LNKS-07."""
    seen = Journal()
    watcher = Doer.start(journal=seen)
    assert getattr(Doer, start)(watched(watcher, lambda server: Ignore())) is None
    call(watcher, lambda server: None)
    [(_, down)] = seen.events
    assert isinstance(down, Down)
    assert down.reason == "normal"
    assert not process.is_alive(down.ref)
    assert nothing_comes()


@pytest.mark.parametrize("reason", ["r", ("my", 1), "normal", "shutdown", ("shutdown", "x")])
@pytest.mark.parametrize("start", ["start", "start_link"])
def test_stop_gives_its_reason(me, start, reason):
    """The reason of a Stop comes to the caller as it is. INIT-11, INIT-12, INIT-13, LNKS-05."""
    with pytest.raises(StartError) as error:
        getattr(Doer, start)(lambda server: Stop(reason))
    assert error.value.reason == reason
    assert type(error.value) is StartError
    assert nothing_comes()


class Answering(GenServer):
    def init(self, answer):
        return answer


@pytest.mark.parametrize(
    "answer",
    [4711, None, True, ("ok", 1), Reply(1), NoReply(), Stop("r", reply=1), Ok, Ignore],
)
def test_any_other_answer_of_init_is_wrong(answer):
    """A server whose init answers nonsense, or nothing, is in no state to serve. INIT-15."""
    with pytest.raises(StartError) as error:
        Answering.start(answer)
    assert error.value.reason == ("bad_return_value", answer)


def test_init_that_raises():
    """The exception is the reason, and the cause that a traceback shows. INIT-16."""
    with pytest.raises(StartError) as error:
        Doer.start(raises)
    assert error.value.reason is OOPS
    assert error.value.__cause__ is OOPS


@pytest.mark.parametrize("error_type", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_init_that_raises_what_is_no_exception(error_type, me):
    """Whatever a callback raises ends its own process only; the starter is told as always."""
    bystander = Doer.start()

    def init(server):
        raise error_type

    with pytest.raises(StartError) as error:
        Doer.start_link(init)
    assert type(error.value.reason) is error_type
    assert process.is_alive(bystander)
    assert nothing_comes()


@pytest.mark.parametrize("reason", ["r", ("my", 1), "normal", "shutdown"])
def test_init_that_exits(reason):
    """exit_self gives its reason bare. INIT-17, INIT-18."""
    with pytest.raises(StartError) as error:
        Doer.start(lambda server: process.exit_self(reason))
    assert error.value.reason == reason


def test_init_that_is_not_there():
    """A server without an init of its own takes its one argument as its state. INIT-20."""

    class Bare(GenServer):
        def handle_call(self, request, sender):
            return Reply(self.state)

    assert call(Bare.start(), "get") is None
    assert call(Bare.start(5), "get") == 5
    assert call(Bare.start(state=6), "get") == 6


@pytest.mark.parametrize(("args", "kwargs"), [((1, 2), {}), ((), {"begin": 1})])
def test_arguments_that_init_does_not_take(args, kwargs):
    """A wrong call of init is a raise in it; the starter learns which argument it was. INIT-16."""
    with pytest.raises(StartError) as error:
        Counter.start(*args, **kwargs)
    assert isinstance(error.value.reason, TypeError)
    assert "init" in str(error.value.reason)


def test_arguments_reach_init():
    """By place and by name, untouched."""
    assert call(Counter.start(3), "get") == 3
    assert call(Counter.start(start=4, name="counter", timeout=WAIT), "get") == 4


@failures
@pytest.mark.parametrize("start", ["start", "start_link"])
def test_failed_init_never_terminates(me, start, init, reason):
    """What was never set up is not cleaned up. INIT-21."""
    journal = Journal()
    with pytest.raises(StartError) as error:
        getattr(Doer, start)(init, journal)
    assert error.value.reason == reason
    assert journal.events == []


def test_ignored_init_never_terminates():
    """Neither is what ignored its start. INIT-21."""
    journal = Journal()
    Doer.start(lambda server: Ignore(), journal)
    assert journal.events == []


def test_start_returns_when_init_has_answered():
    """Who starts a server may use it: its init is over. INIT-22."""
    gate, journal = Gate(), Journal()
    starter = Doer.start()
    cast(starter, lambda server: journal("started", Doer.start(lambda new: gate())))
    gate.reached()
    assert journal.events == []
    gate.open()
    assert call(starter, lambda server: None) is None
    assert len(journal.events) == 1


@pytest.mark.parametrize("way", [way for way in FAILURES if way != "killed"])
def test_failed_start_leaves_nothing_behind(way, me):
    """What a failed process owned is closed before its start returns: each try fails alike.

    Only the killed close later, when their code has come to its end. INIT-23, NAME-04.
    """
    init, reason = FAILURES[way]
    held = []

    def claim(server):
        if held:
            return Stop("resource taken")
        process.own(held, list.clear)
        held.append(process.current())
        return init(server)

    for _ in range(5):
        with pytest.raises(StartError) as error:
            Doer.start_link(claim, name="claimant")
        assert error.value.reason == reason
        assert process.whereis("claimant") is None
    assert process.list() == []


def test_init_runs_in_the_new_process():
    """What init links, monitors or owns belongs to the server, not to its starter. INIT-24."""
    seen = []
    ref = Doer.start(lambda server: seen.append((process.current(), server.actor_ref)))
    assert seen == [(ref, ref)]


# ---- classes that are refused


def test_class_with_its_own_init_dunder_is_refused():
    """`__init__` would run in the starter, before there is a process: it is no place for set-up."""
    with pytest.raises(TypeError, match=r"Wrong defines __init__.*init\(self, \.\.\.\)"):

        class Wrong(GenServer):
            def __init__(self):
                pass


@pytest.mark.parametrize("base", [GenServer, Supervisor, Agent])
def test_class_with_a_mixins_init_dunder_is_refused(base):
    """It would silently never be run; a mixin behind the base would not either, by Python."""

    class Mixin:
        def __init__(self):
            pass

    with pytest.raises(TypeError, match=r"Wrong defines __init__, that of .*Mixin; .*init\(self"):
        type("Wrong", (Mixin, base), {"__qualname__": "Wrong"})
    assert process.is_alive(type("Right", (GenServer, Mixin), {}).start())


@pytest.mark.parametrize("start", ["start", "start_link"])
def test_init_dunder_of_a_dataclass_is_refused_at_the_start(start):
    """A decorator writes it after the class is made; its fields would silently have no value."""

    @dataclasses.dataclass
    class Wrong(GenServer):
        price: int = 3

    for _ in range(2):
        with pytest.raises(TypeError, match=r"Wrong defines __init__; .*init\(self, \.\.\.\)"):
            getattr(Wrong, start)(5)
    assert process.list() == []


def test_protocol_and_dataclass_without_an_init_dunder_are_fine():
    """The one that typing writes into every Protocol is nobody's."""

    class Priced(typing.Protocol):
        price: int

    @dataclasses.dataclass(init=False)
    class Right(Priced, GenServer):
        price: int = 3

    assert process.is_alive(Right.start())


@pytest.mark.parametrize("word", ["name", "timeout"])
def test_init_with_a_reserved_parameter_is_refused(word):
    """`start(name=…)` names the server, so init would never see it: better said at once."""
    space = {}
    exec(f"def init(self, {word}=None): pass", space)
    with pytest.raises(TypeError, match=f"Wrong.init has a parameter '{word}'"):
        type("Wrong", (GenServer,), {"__qualname__": "Wrong", "init": space["init"]})

    # From a base that is no server, too.
    mixin = type("Mixin", (), {"init": space["init"]})
    with pytest.raises(TypeError, match=f"has a parameter '{word}'"):
        type("Mixed", (mixin, GenServer), {})


def test_init_may_take_any_keywords():
    """What takes everything says nothing about name and timeout."""

    class Open(GenServer):
        def init(self, *args, **timeout):
            return Ok((args, timeout))

        def handle_call(self, request, sender):
            return Reply(self.state)

    assert call(Open.start(1, a=2, name="open", timeout=WAIT), "get") == ((1,), {"a": 2})


def test_init_from_a_mixin_runs_like_any_other(me):
    """Wherever init comes from it may block; its starter can be killed, which ends it. LINK-14."""
    gate, journal = Gate(), Journal()

    class Mixin:
        def init(self):
            journal("init", process.current())
            gate()
            return Ok()

    class Mixed(Mixin, GenServer):
        pass

    def start(server):
        try:
            Mixed.start_link()
        except ProcessExit as error:
            journal("left", error.reason)
            raise

    starter = Doer.start()
    cast(starter, start)
    gate.reached()
    [(_, ref)] = journal.events
    watch = process.monitor(ref)
    process.exit(starter, "boom")
    assert me.receive(Down, WAIT) == Down(watch, ref, "boom")
    journal.wait_for("left", "boom")
    gate.open()


def test_dedicated_and_inline_contradict_each_other():
    """A server cannot both stay on its own thread and run on its callers'."""
    with pytest.raises(TypeError, match="dedicated_thread"):

        class Torn(GenServer):
            dedicated_thread = True
            inline = True


@pytest.mark.parametrize("timeout", [-1, "soon", True, float("nan")])
def test_wrong_start_timeout(timeout):
    """Said in the caller, before anything is started."""
    journal = Journal()
    with pytest.raises(ValueError, match="expected timeout to be seconds"):
        Doer.start(lambda server: journal("init"), timeout=timeout)
    assert journal.events == []


# ---- start_link and start: what the caller gets


def test_start_link_links():
    """A server that is part of its starter's work shares its fate. LNKS-01, LNKS-11."""
    starter = Doer.start()
    ref = call(starter, lambda server: Reply(Doer.start_link()))
    assert process.info(ref)["links"] == [starter]
    assert process.info(starter)["links"] == [ref]
    assert process.info(ref)["parent"] is starter


def test_start_does_not_link(me):
    """One that isn't outlives it. LNKS-02, LNKS-03."""
    starter = Doer.start_link()
    ref = call(starter, lambda server: Reply(Doer.start()))
    assert process.info(ref)["links"] == []
    assert process.info(ref)["parent"] is None
    cast(starter, raises)
    assert me.receive(Exit, WAIT) == Exit(starter, OOPS)
    assert call(ref, lambda server: Reply("alive")) == "alive"


def test_on_a_plain_thread_start_link_does_not_link():
    """A thread that is no process has no links; its failing starts are StartErrors."""
    ref = Doer.start_link()
    assert process.info(ref)["links"] == []
    with pytest.raises(StartError) as error:
        Doer.start_link(lambda server: Stop("r"))
    assert error.value.reason == "r"


DEADLY = {
    **FAILURES,
    "shutdown": (lambda server: Stop("shutdown"), "shutdown"),
    "shutdown with a detail": (lambda server: Stop(("shutdown", 1)), ("shutdown", 1)),
}


@pytest.mark.parametrize(("init", "reason"), DEADLY.values(), ids=DEADLY)
def test_starter_that_does_not_trap_dies_of_a_failing_start_link(me, init, reason):
    """The link is there before init runs: no value, no error, the same end.

    LNKS-04, LNKS-08, LNKS-09, LNKS-15, INIT-13.
    """
    seen = Journal()

    def start(server):
        try:
            seen("returned", Doer.start_link(init))
        except Exception as error:
            seen("caught", error)
        except BaseException as error:
            seen("died", type(error), error.reason)
            raise

    starter = Doer.start_link()
    cast(starter, start)
    assert me.receive(Exit, WAIT) == Exit(starter, reason)
    seen.wait_for("died", ProcessExit, reason)
    assert len(seen.events) == 1


@pytest.mark.parametrize(("init", "reason"), DEADLY.values(), ids=DEADLY)
def test_attached_thread_that_does_not_trap_dies_of_a_failing_start_link(init, reason):
    """It is a process like any other: its block is left by a ProcessExit. LNKS-04, LNKS-08."""
    with pytest.raises(ProcessExit) as end, process.attach() as me:
        try:
            Doer.start_link(init)
        except ProcessExit:
            assert not process.is_alive(me.ref)
            raise
    assert end.value.reason == reason


def test_start_errors_that_harm_no_attached_thread():
    """A normal end, a late start, a taken name are told, no more. INIT-12, STMO-03, NAME-03."""
    gate = Gate()
    holder = Doer.start(name="taken")
    with process.attach() as me:
        for start, reason in (
            (lambda: Doer.start_link(lambda server: Stop("normal")), "normal"),
            (lambda: Doer.start_link(lambda server: gate(library=True), timeout=0.05), "timeout"),
            (lambda: Doer.start_link(name="taken"), ("already_started", holder)),
        ):
            with pytest.raises(StartError) as error:
                start()
            assert error.value.reason == reason
        assert process.is_alive(me.ref)
        assert process.info(me.ref)["links"] == []
        assert nothing_comes()


@failures
def test_starter_that_traps_gets_the_error_and_no_exit(me, init, reason):
    """It is told once, by the error; a stray Exit would meet its next receive. LNKS-05, LNKS-06."""
    with pytest.raises(StartError) as error:
        Doer.start_link(init)
    assert error.value.reason == reason
    assert nothing_comes()
    assert process.info(me.ref)["links"] == []


@pytest.mark.parametrize(
    ("init", "reason"),
    [
        (lambda server: Stop("normal"), "normal"),
        (lambda server: process.exit_self("normal"), "normal"),
        (lambda server: Ignore(), None),
    ],
)
def test_starter_that_does_not_trap_survives_a_normal_end(init, reason):
    """Nobody dies of a normal end. INIT-12, INIT-18."""

    def start(server):
        try:
            return Reply(("returned", Doer.start_link(init)))
        except StartError as error:
            return Reply(("raised", error.reason))

    starter = Doer.start()
    assert call(starter, start) == (("returned", None) if reason is None else ("raised", reason))
    assert process.is_alive(starter)
    assert process.info(starter)["links"] == []


def test_start_that_fails_kills_nobody():
    """Without a link a failing start is only an error, trapping or not."""
    starter = Doer.start()

    def start(server):
        with pytest.raises(StartError) as error:
            Doer.start(raises)
        return Reply(error.value.reason)

    assert call(starter, start) is OOPS
    assert process.is_alive(starter)


@pytest.mark.parametrize("reason", ["stopped", "shutdown", ("shutdown", 1), "normal"])
def test_end_of_a_started_server_comes_as_an_exit_to_who_traps(me, reason):
    """From a good start on, the link tells every end, a normal one too. LNKS-11, LNKS-12."""
    ref = Doer.start_link()
    cast(ref, lambda server: Stop(reason))
    assert me.receive(Exit, WAIT) == Exit(ref, reason)


@pytest.mark.parametrize("reason", ["stopped", "shutdown", ("shutdown", 1)])
def test_starter_that_does_not_trap_dies_with_its_server(me, reason):
    """The link works in this direction too. LNKS-11."""
    starter = Doer.start_link()
    ref = call(starter, lambda server: Reply(Doer.start_link()))
    cast(ref, lambda server: Stop(reason))
    assert me.receive(Exit, WAIT) == Exit(starter, reason)


def test_normal_end_of_a_server_leaves_its_starter_alone(me):
    """A server that has done its work takes nobody along. LNKS-12."""
    starter = Doer.start_link()
    ref = call(starter, lambda server: Reply(Doer.start_link()))
    watch = process.monitor(ref)
    cast(ref, lambda server: Stop("normal"))
    assert me.receive(Down, WAIT) == Down(watch, ref, "normal")
    assert call(starter, lambda server: Reply("alive")) == "alive"
    assert nothing_comes()


class Eager(Shelf):
    """A name that does something at once with the process that it is given."""

    def __init__(self, act):
        super().__init__("x", {})
        self.act = act

    def register(self, ref):
        super().register(ref)
        self.act(ref)


class Noting(GenServer):
    def handle_info(self, message):
        self.state(message)


@pytest.mark.parametrize("server", [Noting, Doer])
def test_mail_that_comes_by_the_name_waits_for_init(server):
    """Once a server has its name anybody may write to it; init is over before the first message."""
    journal = Journal()

    def write(ref):
        process.send(ref, "early")
        threading.Event().wait(0.02)  # Whoever would handle it now has the time.

    if server is Noting:
        Noting.start(journal, name=Eager(write))
        journal.wait_for("early")
    else:
        Doer.start(lambda server: journal("init"), journal, name=Eager(write))
        journal.wait_for("info", "early")
        assert journal.events == ["init", ("info", "early")]


@pytest.mark.parametrize("server", [GenServer, Doer])
def test_killed_by_its_name_before_it_started(server):
    """Whoever finds a server by its name can kill it, however young; nothing of it remains."""
    refs = []

    def kill(ref):
        refs.append(ref)
        process.exit(ref, "kill")

    with pytest.raises(StartError) as error:
        server.start(name=Eager(kill))
    assert error.value.reason == "killed"
    assert not process.is_alive(refs[0])
    assert refs[0] not in pykka.ActorRegistry.get_all()


@pytest.mark.parametrize("bare", [False, True])
def test_starter_that_died_leaves_no_half_started_server(me, bare):
    """A name that a server took before its starter died is free again, and no init has run."""
    journal = Journal()

    def kill_the_starter(ref):
        process.register("taken on the way", ref)
        killer = threading.Thread(target=process.exit, args=(starter, "kill"))
        killer.start()
        killer.join()

    starter = Doer.start_link()
    name = Eager(kill_the_starter)
    server, init = (GenServer, None) if bare else (Doer, lambda server: journal("init"))
    cast(starter, lambda _: server.start_link(init, name=name))
    assert me.receive(Exit, WAIT) == Exit(starter, "killed")
    wait_until(lambda: process.whereis("taken on the way") is None)
    assert name.whereis() is None
    assert journal.events == []


# ---- the time limit of a start


def test_start_that_takes_too_long():
    """The caller is told, and the half-started process is dead. STMO-01, STMO-02, STMO-05."""
    gate, refs = Gate(), []

    def init(server):
        refs.append(process.current())
        gate()
        return Ok()

    with pytest.raises(StartError) as error:
        Doer.start(init, name="slow", timeout=0.05)
    assert error.value.reason == "timeout"
    assert not process.is_alive(refs[0])
    assert process.whereis("slow") is None
    with pytest.raises(NoProcess):
        call("slow", lambda server: None)
    gate.open()
    assert process.is_alive(Doer.start(name="slow"))
    assert not process.is_alive(refs[0])


def test_start_that_is_in_time():
    """A limit that is kept is not noticed."""
    assert process.is_alive(Doer.start(timeout=WAIT))
    assert process.is_alive(GenServer.start(timeout=WAIT))


@pytest.mark.parametrize("library", [True, False])
def test_starter_survives_a_start_link_that_takes_too_long(library):
    """It is unlinked before the late one is killed, so even without trapping it lives. STMO-03."""
    gate = Gate()
    starter = Doer.start()

    def start(server):
        with pytest.raises(StartError) as error:
            Doer.start_link(lambda new: gate(library), timeout=0.05)
        return Reply(error.value.reason)

    assert call(starter, start) == "timeout"
    gate.open()
    assert call(starter, lambda server: Reply("alive")) == "alive"
    assert process.info(starter)["links"] == []


def test_late_start_link_leaves_no_exit(me):
    """Who traps is told once, by the error. STMO-04."""
    gate = Gate()
    with pytest.raises(StartError) as error:
        Doer.start_link(lambda server: gate(library=True), timeout=0.05)
    assert error.value.reason == "timeout"
    assert nothing_comes()
    assert process.info(me.ref)["links"] == []


def test_start_without_a_limit_waits():
    """No timeout means none: init takes the time it takes. STMO-06."""
    gate, journal = Gate(), Journal()
    starter = Doer.start()
    cast(starter, lambda server: journal("started", process.is_alive(Doer.start(lambda _: gate()))))
    gate.reached()
    assert nothing_happens_to(starter, journal)
    gate.open()
    journal.wait_for("started", True)


# ---- names


def test_name_resolves_inside_init():
    """A server may hand its name out before it is ready. NAME-01."""
    seen = []
    ref = Doer.start(
        lambda server: seen.append((process.whereis("myself"), process.current())), name="myself"
    )
    assert seen == [(ref, ref)]
    assert process.whereis("myself") is ref
    assert process.registered()["myself"] is ref


@pytest.mark.parametrize("start", ["start", "start_link"])
def test_taken_name(me, start):
    """The second is refused and told who has the name; the first notices nothing. NAME-02."""
    journal = Journal()
    first = Counter.start(1, name="counter")
    for server, args in ((Counter, (2,)), (Doer, (lambda server: journal("init"),))):
        with pytest.raises(AlreadyStarted) as error:
            getattr(server, start)(*args, name="counter")
        assert error.value.reason == ("already_started", first)
        assert error.value.ref is first
        assert isinstance(error.value, StartError)
    assert journal.events == []
    assert process.whereis("counter") is first
    assert call("counter", "get") == 1


def test_taken_name_harms_nobody(me):
    """Neither dies, nor are they linked: not even a starter that does not trap. NAME-03."""
    starter = Doer.start_link()
    holder = Doer.start(name="holder")

    def start(server):
        with pytest.raises(AlreadyStarted) as error:
            Doer.start_link(name="holder")
        return Reply(error.value.ref)

    assert call(starter, start) is holder
    assert process.info(starter)["links"] == [me.ref]
    assert process.info(holder)["links"] == []
    process.exit(holder, "kill")
    assert call(starter, lambda server: Reply("alive")) == "alive"


@pytest.mark.parametrize("init", [lambda server: Ignore(), *(i for i, _ in FAILURES.values())])
@pytest.mark.parametrize("start", ["start", "start_link"])
def test_name_is_free_after_a_start_that_came_to_nothing(me, start, init):
    """Whoever tries again at once is not told that the failed one still has the name. NAME-04."""
    for _ in range(20):
        outcome = outcome_of(lambda: getattr(Doer, start)(init, name="again"))
        assert outcome is None or type(outcome) is StartError
        assert process.whereis("again") is None
        assert "again" not in process.registered()
    assert process.is_alive(Doer.start(name="again"))


def test_name_is_free_when_stop_returns():
    """Stop and start again, without a wait between. NAME-05."""
    for _ in range(50):
        ref = Doer.start(name="phoenix")
        stop(ref)
        assert process.whereis("phoenix") is None


@pytest.mark.parametrize("end", ["kill", "stop", "raise"])
def test_name_is_free_when_the_down_arrives(me, end):
    """Whoever learns of a death can take its place at once. NAME-06."""
    ends = {
        "kill": lambda ref: process.exit(ref, "kill"),
        "stop": lambda ref: cast(ref, lambda server: Stop("normal")),
        "raise": lambda ref: cast(ref, raises),
    }
    for _ in range(20):
        ref = Doer.start(name="phoenix")
        watch = process.monitor("phoenix")
        ends[end](ref)
        down = me.receive(Down, WAIT)
        assert down.monitor is watch
        assert process.whereis("phoenix") is None
        assert not process.is_alive(ref)


def via_a_registry():
    Registry.start(name="registry")
    return Via("registry", ("key", 1))


NAMES = {
    "string": lambda: "by name",
    "Via": via_a_registry,
    "a kind of one's own": lambda: Shelf("by name", {}),
}
names = pytest.mark.parametrize("make_name", NAMES.values(), ids=NAMES)


@names
def test_holder_is_reached_by_its_name(make_name, me):
    """A name stands for its holder wherever a server is expected. NAME-07, NAME-09."""
    name = make_name()
    ref = Doer.start(name=name)
    journal = Journal()
    assert process.whereis(name) is ref
    assert process.is_alive(name)
    assert call(name, lambda server: Reply(process.current())) is ref
    cast(name, lambda server: journal("cast"))
    process.send(name, lambda server: journal("info"))
    journal.wait_for("info")
    assert journal.events == ["cast", "info"]
    watch = process.monitor(name)
    stop(name)
    assert me.receive(Down, WAIT) == Down(watch, name, "normal")
    assert process.whereis(name) is None
    with pytest.raises(NoProcess):
        call(name, lambda server: None)


@names
def test_name_of_any_kind_has_one_holder(make_name):
    """It refuses a second, takes one after the first, and keeps none that did not start.

    NAME-02, NAME-04, NAME-05, NAME-09.
    """
    name = make_name()
    first = Doer.start(name=name)
    with pytest.raises(AlreadyStarted) as error:
        Doer.start_link(name=name)
    assert error.value.ref is first
    stop(first)
    assert process.whereis(name) is None
    with pytest.raises(StartError):
        Doer.start(raises, name=name)
    assert process.whereis(name) is None
    second = Doer.start(name=name)
    assert process.whereis(name) is second


def test_register_that_cannot_be():
    """A taken name, a second name, a dead process: refused, and nothing changes. NAME-10."""
    holder, other, dead = Doer.start(name="taken"), Doer.start(), Doer.start()
    stop(dead)
    with pytest.raises(NameTaken) as error:
        process.register("taken", other)
    assert error.value.reason == ("already_registered", holder)
    assert error.value.ref is holder
    with pytest.raises(NameTaken):
        process.register("taken", holder)
    with pytest.raises(NoProcess):
        process.register("of the dead", dead)
    assert process.registered() == {"taken": holder}
    assert process.info(other)["registered_name"] is None


def test_second_name_for_one_process():
    """A process has one local name: reports and `info` call it by that. NAME-10."""
    holder = Doer.start(name="first")
    with pytest.raises(NameTaken) as error:
        process.register("second", holder)
    assert error.value.ref is holder
    assert process.registered() == {"first": holder}
    process.unregister("first")
    process.register("second", holder)
    assert process.registered() == {"second": holder}


@pytest.mark.parametrize("name", [None, "", 1, ("foo", 1), b"bytes"])
def test_register_what_is_no_name(name):
    """A name is a string; anything else is a slip, told where it was made. NAME-11."""
    ref = Doer.start()
    with pytest.raises(TypeError, match="expected a name to be a string"):
        process.register(name, ref)
    assert process.registered() == {}


def test_unregister():
    """A name is given back once; the process lives on. NAME-12."""
    ref = Doer.start(name="mine")
    process.unregister("mine")
    assert process.whereis("mine") is None
    assert process.is_alive(ref)
    with pytest.raises(LookupError):
        process.unregister("mine")


def test_name_none_is_anonymous():
    """So that a name can be passed on, whether there is one or not. NAME-13."""
    one, other = Doer.start(name=None), Doer.start(name=None)
    assert one is not other
    assert process.registered() == {}
    assert process.info(one)["registered_name"] is None


@pytest.mark.parametrize("name", ["", 1, ("via", "Mod", 1), b"bytes", Shelf])
@pytest.mark.parametrize("start", ["start", "start_link"])
def test_start_with_what_is_no_name(me, start, name):
    """Told in the caller, what was expected and what came; nothing is started. NAME-14."""
    journal = Journal()
    before = process.list()
    with pytest.raises(TypeError, match="expected a name to be a string") as error:
        getattr(Doer, start)(lambda server: journal("init"), name=name)
    assert repr(name) in str(error.value)
    assert journal.events == []
    assert process.list() == before
    assert nothing_comes()


def test_whereis():
    """A name gives its holder, a living ref itself, everything unknown None. NAME-15."""
    holders = {}
    ref = Doer.start(name="named")
    mine = Doer.start(name=Shelf("x", holders))
    assert process.whereis("named") is ref
    assert process.whereis(ref) is ref
    assert process.whereis(Shelf("x", holders)) is mine
    assert process.whereis("unknown") is None
    assert process.whereis(Shelf("unknown", holders)) is None
    stop(ref)
    assert process.whereis(ref) is None


def test_restarted_child_has_its_name_again(me):
    """The dead one's name is free before the new one starts; callers are told. NAME-16."""
    Supervisor.start_link([Doer.child_spec(name="child")], max_restarts=50, max_seconds=60)
    before = process.whereis("child")
    for _ in range(20):
        with pytest.raises(CallExit) as error:
            call("child", raises)
        assert error.value.reason is OOPS
        wait_until(lambda: process.whereis("child") is not None)
        after = call("child", lambda server: Reply(process.current()))
        assert after is not before
        before = after


# ---- context and threads


def test_context_is_a_copy_of_the_starters():
    """A locale set by the starter is there in all callbacks; later changes stay on their side."""
    setting = contextvars.ContextVar("setting", default="unset")
    setting.set("starter's")

    def swap(value):
        def run(server):
            old = setting.get()
            setting.set(value)
            return Reply(old)

        return run

    ref = Doer.start(lambda server: server.__setattr__("seen", setting.get()))
    setting.set("later")
    assert call(ref, lambda server: Reply(server.seen)) == "starter's"
    assert call(ref, swap("server's")) == "starter's"
    assert call(ref, swap("again")) == "server's"
    assert setting.get() == "later"


def test_context_of_a_server_that_a_server_starts():
    """The starter is the running process, whatever the program's thread has set."""
    setting = contextvars.ContextVar("setting", default="unset")

    def start(server):
        setting.set("inner")
        return Reply(Doer.start())

    inner = call(Doer.start(), start)
    assert call(inner, lambda server: Reply(setting.get())) == "inner"
    assert setting.get() == "unset"


class OnItsOwn(Doer):
    dedicated_thread = True


def test_dedicated_thread_is_always_the_same():
    """init, every handler, continue and terminate: a library bound to one thread can be used."""
    threads = Journal()

    def note(server):
        threads(threading.get_ident())

    class NotingTheEnd(OnItsOwn):
        def terminate(self, reason):
            note(self)

    def init(server):
        note(server)
        return Ok(then=Continue(note))

    ref = NotingTheEnd.start(init)
    for _ in range(20):
        call(ref, note)
        cast(ref, note)
        process.send(ref, note)
    # Others want a worker at the same time.
    others = [Doer.start(note) for _ in range(5)]
    for other in others:
        stop(other)
    stop(ref)
    idents = threads.events
    assert len(idents) == 1 + 1 + 60 + 5 + 1
    assert len({ident for ident in idents if ident == idents[0]}) == 1
    assert idents.count(idents[0]) == 63
    assert idents[0] != threading.get_ident()


def test_dedicated_thread_keeps_thread_locals():
    """Thread-locals do not follow a process, unless the thread is its own."""
    local = threading.local()

    def count(server):
        local.count = getattr(local, "count", 0) + 1
        return Reply(local.count)

    ref = OnItsOwn.start()
    assert [call(ref, count) for _ in range(5)] == [1, 2, 3, 4, 5]
    assert call(OnItsOwn.start(), count) == 1


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_dedicated_thread_bears_sqlite3(end):
    """sqlite3 refuses a connection that changes threads: not even its close does here."""
    closed = Journal()

    def close(connection):
        connection.close()  # sqlite3 raises when this is another thread than the one that opened.
        closed("closed")

    def init(server):
        server.db = process.own(sqlite3.connect(":memory:"), close)
        server.db.execute("create table t (x)")

    ref = OnItsOwn.start(init)
    for n in range(10):
        cast(
            ref, lambda server, n=n: (server.db.execute("insert into t values (?)", (n,)), None)[1]
        )
    query = "select sum(x) from t"
    assert call(ref, lambda server: Reply(server.db.execute(query).fetchone())) == (45,)
    if end == "stop":
        stop(ref)
    else:
        process.exit(ref, "kill")
    closed.wait_for("closed")


def test_dedicated_thread_ends_with_its_process():
    """A server that comes and goes leaves no thread behind."""
    threads = []
    ref = OnItsOwn.start(lambda server: threads.append(threading.current_thread()))
    assert threads[0].is_alive()
    stop(ref)
    threads[0].join(WAIT)
    assert not threads[0].is_alive()


def test_start_timeout_of_a_dedicated_thread():
    """The limit counts on a thread of one's own as on any. STMO-01."""
    gate = Gate()
    with pytest.raises(StartError) as error:
        OnItsOwn.start(lambda server: gate(library=True), timeout=0.05)
    assert error.value.reason == "timeout"


@pytest.mark.parametrize("base", [GenServer, Supervisor, DynamicSupervisor, Wrapper])
def test_a_helper_with_a_name_of_ours_is_refused_where_it_is_written(base: type) -> None:
    """A server whose `_handle` replaced the library's would fail in ways nobody understands."""
    with pytest.raises(TypeError, match="Mine defines _handle, .* give yours another name"):
        type("Mine", (base,), {"_handle": lambda self, message: None, "__qualname__": "Mine"})


def test_a_helper_with_a_name_of_a_supervisors_own_is_refused() -> None:
    """A subclass of Supervisor must not replace how children are started."""
    with pytest.raises(TypeError, match="Mine defines _start,"):
        type("Mine", (Supervisor,), {"_start": lambda self: None, "__qualname__": "Mine"})


def test_other_private_names_and_overridden_helpers_of_users_own_are_fine() -> None:
    """Only our names are taken: users override their own helpers as they like."""
    base = type("Base", (GenServer,), {"_price": lambda self: 1})
    assert type("Mine", (base,), {"_price": lambda self: 2})()._price() == 2


class MyProcess(Process):
    pass


class MyServer(GenServer):
    pass


class MySupervisor(Supervisor):
    def init(self, children):
        return Supervise(children)


class MyDynamicSupervisor(DynamicSupervisor):
    pass


class MyTaskSupervisor(Task.Supervisor):
    pass


class MyAgent(Agent):
    pass


class MyRegistry(Registry):
    pass


class MyWrapper(Wrapper):
    pass


STARTS = {
    MyProcess: lambda start: start(),
    MyServer: lambda start: start(1),
    MySupervisor: lambda start: start([]),
    MyDynamicSupervisor: lambda start: start(max_children=1),
    MyTaskSupervisor: lambda start: start(),
    MyAgent: lambda start: start(dict),
    MyRegistry: lambda start: start(name="mine"),
    MyWrapper: lambda start: start((Doer, "start_link", [])),
}


@pytest.mark.parametrize("start", ["start", "start_link"])
@pytest.mark.parametrize("mine", STARTS)
def test_every_behaviour_can_be_subclassed(me, mine, start):
    """What our own init sets is no clash of names of the user's."""
    assert process.is_alive(STARTS[mine](getattr(mine, start)))


@pytest.mark.parametrize("base", [MyRegistry, MyWrapper])
@pytest.mark.parametrize("name", ["_handle", "_leave_parent", "_suspended"])
def test_object_of_a_subclass_must_not_set_what_ours_need(base, name):
    """Methods, and the data of every server, stay refused there too."""

    class Setting(base):
        def init(self, *args):
            setattr(self, name, None)
            return super().init(*args)

    with pytest.raises(StartError, match=f"Setting sets self.{name}, ") as error:
        STARTS[base](Setting.start)
    assert isinstance(error.value.reason, TypeError)


def test_start_time_is_no_longer_than_said(me):
    """Who gives up after a moment goes on after a moment. STMO-01."""
    gate = Gate()
    began = time.monotonic()
    with pytest.raises(StartError):
        Doer.start(lambda server: gate(), timeout=0.05)
    assert time.monotonic() - began < 3.0
    gate.open()


@pytest.mark.parametrize("how", ["ignore", "stop", "raise"])
def test_start_returns_when_all_is_given_back(me, how):
    """The next start finds the name and what the server owned free. INIT-10, INIT-23, NAME-04."""
    held = []

    def close(_):
        time.sleep(0.05)  # A start that did not wait for this would find it held.
        held.clear()

    def init(server):
        assert not held
        held.append(process.own("thing", close))
        if how == "raise":
            raise Oops
        return Ignore() if how == "ignore" else Stop("r")

    for start in (Doer.start, Doer.start_link):
        if how == "ignore":
            assert start(init, name="again") is None
        else:
            with pytest.raises(StartError):
                start(init, name="again")
        assert held == []
        assert process.whereis("again") is None
        assert process.list() == []


class Deadly(Named):
    """A name that kills whoever takes it."""

    def whereis(self):
        return None

    def register(self, ref):
        process.exit(ref, "kill")

    def unregister(self, ref):
        pass


@pytest.mark.parametrize("start", [Doer.start, Doer.start_link])
def test_child_killed_by_its_name_is_linked_before(me, start):
    """Its starter hears of it by the StartError alone, and keeps no link. NAME-04, LNKS-15."""
    with pytest.raises(StartError) as error:
        start(name=Deadly())
    assert error.value.reason == "killed"
    assert nothing_comes()
    assert process.info(me.ref)["links"] == []
    assert process.list() == []


def test_starter_that_does_not_trap_dies_of_a_child_killed_by_its_name(me):
    """The link is older than the name. NAME-04, LNKS-15."""
    starter = Doer.start_link()
    cast(starter, lambda server: Doer.start_link(name=Deadly()))
    assert me.receive(Exit, WAIT) == Exit(starter, "killed")


def test_start_error_of_a_forgotten_return_says_what_init_is_to_return(me):
    """Nobody is to look up what ('bad_return_value', None) means, under a supervisor neither."""
    advice = r"; init is to return Ok\(\.\.\.\), Ignore\(\) or Stop\(\.\.\.\)$"

    class Forgetful(GenServer):
        def init(self):
            pass

    with pytest.raises(StartError, match=advice) as error:
        Forgetful.start()
    assert error.value.reason == ("bad_return_value", None)
    with pytest.raises(StartError, match=advice):
        Supervisor.start_link([Forgetful])


def test_start_error_of_an_error_of_ours_shows_its_text(me):
    """A repr would show the reason alone, which says less."""
    with pytest.raises(StartError) as error:
        Doer.start(lambda server: call("nobody", 1))
    assert str(error.value) == "could not start: no process is alive behind 'nobody'"
