"""What users send, own and name that nobody can look at: it harms nobody but itself."""

from __future__ import annotations

import copy
import dataclasses
import multiprocessing
import pickle
import threading
import weakref
from concurrent.futures import ProcessPoolExecutor

import pykka
import pytest
import structlog

from elsa_actors import (
    CallingSelf,
    DynamicSupervisor,
    Exit,
    GenServer,
    NameTaken,
    NoProcess,
    Ok,
    ProcessExit,
    Reply,
    StartError,
    Supervisor,
    call,
    cast,
    process,
    send_request,
)
from elsa_actors.runtime.errors import (
    AlreadyStarted,
    CallExit,
    CallTimeout,
    ChildError,
    ChildSpecError,
    Forked,
    NotAProcess,
    ReceiveTimeout,
)
from elsa_actors.runtime.process import Process
from tests.servers import WAIT, Child, Doer, Gate, Journal, Oops, exit_of, in_thread


class Unprintable:
    def __repr__(self):
        raise Oops("no repr")


class Thing:
    """What a weak reference can be to."""


def dead_proxy():
    """An object of which not even the class can be asked."""
    return weakref.proxy(Thing())


# ---- messages


def test_crash_with_a_message_that_cannot_be_looked_at_is_told(log_events):
    """The supervisor hears of it and starts another; the log has what can be shown."""

    class Crasher(GenServer):
        def handle_cast(self, request):
            raise Oops

    supervisor = Supervisor.start([Crasher])
    child = Supervisor.which_children(supervisor)[0].child
    cast(child, dead_proxy())
    assert isinstance(exit_of(child), Oops)
    other = Supervisor.which_children(supervisor)[0].child
    assert other is not child
    assert process.is_alive(other)
    [crash] = [event for event in log_events if event["event"] == "process_crashed"]
    assert isinstance(crash["reason"], Oops)


def test_message_that_cannot_be_looked_at_is_a_message_like_any_other():
    """It is neither a call nor a signal: handle_info gets it."""
    got = Journal()

    class Taker(GenServer):
        def handle_info(self, message):
            got(type(message))

    process.send(Taker.start(), dead_proxy())
    got.wait_for(weakref.ProxyType)


def test_what_cannot_be_looked_at_is_received():
    """It stands in nobody's way, and is no envelope of ours."""

    def take(server):
        process.send(process.current(), dead_proxy())
        return Reply(type(process.receive(timeout=WAIT)))

    assert call(Doer.start(), take) is weakref.ProxyType


class Patient(GenServer):
    """Knows one call, and no other message."""

    def handle_call(self, request, sender):
        return Reply("alive")


@pytest.mark.parametrize(
    ("start", "looks"),
    [
        (Patient.start, lambda ref: call(ref, "known") == "alive"),
        (lambda: Supervisor.start([]), lambda ref: Supervisor.which_children(ref) == []),
        (DynamicSupervisor.start, lambda ref: DynamicSupervisor.which_children(ref) == []),
    ],
    ids=["server", "supervisor", "dynamic"],
)
def test_unexpected_message_without_a_repr_ends_nobody(start, looks):
    """The log has no line of it; whoever got it lives on."""
    ref = start()
    process.send(ref, Unprintable())
    assert looks(ref)
    request = send_request(ref, Unprintable())
    assert request.wait(WAIT)
    assert looks(ref)


def test_log_processor_that_raises_ends_no_server():
    """Of a message that nobody handles."""

    def fail(*_):
        raise Oops("the log")

    structlog.configure(processors=[fail])
    server = Patient.start()
    supervisor = Supervisor.start([])
    process.send(server, "unknown")
    process.send(supervisor, "unknown")
    assert Supervisor.which_children(supervisor) == []
    assert call(server, "known") == "alive"


# ---- what a process owns


def test_close_that_raises_over_a_thing_without_a_repr_leaves_no_other_open():
    """The oldest is closed last, whatever the others did."""
    closed = Journal()

    def own(server):
        process.own("file", closed)
        process.own(Unprintable(), lambda thing: 1 / 0)

    server = Doer.start(own)
    process.exit(server, "kill")
    closed.wait_for("file")


# ---- names of attributes


@pytest.mark.parametrize("name", ["_state", "_title", "_handle", "_suspended", "_turn"])
def test_attribute_that_is_called_as_one_of_ours_fails_the_start(name):
    """It would stand in the place of ours, and nobody would understand what happens."""

    class Careless(GenServer):
        def init(self):
            setattr(self, name, {})
            return Ok()

    with pytest.raises(StartError, match=f"sets self.{name}, which its base class needs"):
        Careless.start()


def test_plain_process_is_refused_the_same_names():
    """In its class, where it is written, and in __init__, when it is started."""
    with pytest.raises(TypeError, match="defines _callback, which its base class needs"):

        class Careless(Process):
            def _callback(self):
                pass

    class Late(Process):
        def __init__(self):
            super().__init__()
            self._launch = None

    with pytest.raises(TypeError, match="sets self._launch"):
        Late.start()
    assert process.list() == []


def test_class_that_a_decorator_makes_anew_is_no_other():
    """What Python and the library write into every class is nobody's choice."""

    @dataclasses.dataclass(slots=True)
    class Record(Process):
        number: int = 0

        def __post_init__(self):
            Process.__init__(self)

        def on_receive(self, message):
            return self.number

    assert Record.start(5).ask("number") == 5

    @dataclasses.dataclass(slots=True, init=False)
    class Server(GenServer):
        def handle_call(self, request, sender):
            return Reply(request)

    assert call(Server.start(), "x") == "x"


def test_names_of_ones_own_are_free():
    """An underscore alone is nobody's."""

    class Careful(GenServer):
        def init(self):
            self._orders, self.__really_mine = [], 1
            return Ok()

        def _helper(self):
            return 7

        def handle_call(self, request, sender):
            return Reply(self._helper())

    assert call(Careful.start(), "any") == 7


def test_name_that_a_constructor_took_before_it_raised_is_free_again():
    """What never lived holds nothing; a supervisor can start it the next time."""

    class Named(Process):
        def __init__(self, fails):
            super().__init__()
            process.register("taken", self.actor_ref)
            if fails:
                raise Oops

    with pytest.raises(Oops):
        Named.start(True)
    assert process.whereis("taken") is None
    assert process.whereis("taken") is None
    ref = Named.start(False)
    assert process.whereis("taken") is ref


# ---- oneself, the dead, errors


@pytest.mark.parametrize("wait", [lambda ref: ref.ask("again"), lambda ref: ref.stop()])
def test_process_that_waits_for_itself_by_its_ref_is_told(wait):
    """As `call` and `stop` tell it."""

    def to_oneself(server):
        try:
            wait(process.current())
        except CallingSelf as error:
            return Reply(error.reason)

    assert call(Doer.start(), to_oneself) == "calling_self"


def test_proxy_of_the_dead_is_refused_as_everything_else_of_theirs():
    """It is Pykka's error, and the library's."""
    ref = Process.start()
    ref.stop()
    with pytest.raises(pykka.ActorDeadError) as caught:
        ref.proxy()
    assert isinstance(caught.value, NoProcess)
    assert caught.value.reason == "noproc"


@pytest.mark.parametrize(
    "error",
    [
        CallExit("boom", "server", "request"),
        CallTimeout("server", "request", 5.0),
        NoProcess("server", "request"),
        CallingSelf("server", "request"),
        StartError("boom"),
        AlreadyStarted("ref"),
        ChildError("not_found", "child"),
        ChildSpecError(("bad", 1), "text"),
        ReceiveTimeout(1.0),
        NotAProcess("link"),
        NameTaken("name", "ref"),
        Forked(),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("again", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
def test_errors_can_be_copied_and_sent_to_other_programs(error, again):
    """multiprocessing hands on what a worker raised; an error that cannot be read back hangs it."""
    other = again(error)
    assert type(other) is type(error)
    assert (str(other), other.args, vars(other)) == (str(error), error.args, vars(error))


def test_copies_keep_the_cause_and_what_a_subclass_restores():
    """A copy says as much as the error itself."""
    error = copy.copy(StartError(FileNotFoundError("shop.db")))
    assert isinstance(error.__cause__, FileNotFoundError)

    class Picky(Exception):
        def __init__(self, one, two):
            super().__init__(one)

    foreign = StartError("boom")
    foreign.__cause__ = Picky(1, 2)
    assert pickle.loads(pickle.dumps(foreign)).reason == "boom"

    class Restored(StartError):
        def __setstate__(self, state):
            super().__setstate__(state)
            self.restored = True

    assert copy.copy(Restored("x")).restored


@dataclasses.dataclass
class Order:
    """What users send: with whom to speak in it."""

    number: int
    peer: object


@pytest.mark.parametrize(
    "error_of",
    [
        lambda ref, lock: CallExit("boom", ref, ("get", 1)),
        lambda ref, lock: NoProcess(ref, 1),
        lambda ref, lock: CallTimeout(ref, ("get", lock), 5.0),
        lambda ref, lock: CallExit("boom", "server", lambda: None),
        lambda ref, lock: CallExit("boom", "server", Order(1, ref)),
        lambda ref, lock: AlreadyStarted(ref),
        lambda ref, lock: NameTaken("till", ref),
        lambda ref, lock: CallExit(Oops(lock), "server", 1),
        lambda ref, lock: StartError(("shutdown", ("failed", "a", [{"peer": ref}, 7]))),
        lambda ref, lock: StartError("boom", None, {"start": (Doer, "start_link", [lock])}),
        lambda ref, lock: StartError(CallExit("boom", ref, 1)),
    ],
)
def test_errors_that_hold_a_ref_are_sent_with_its_repr(error_of):
    """A ref does not leave its program, what is said of it does; a pool would lose the error."""
    error = error_of(Doer.start(), threading.Lock())
    other = pickle.loads(pickle.dumps(error))
    assert type(other) is type(error)
    without_quotes = str.maketrans("", "", "'\"")
    assert str(other).translate(without_quotes) == str(error).translate(without_quotes)
    assert vars(other).keys() == vars(error).keys()


def test_errors_that_are_sent_keep_what_can_be_sent():
    """Only what cannot be pickled becomes text, inside of tuples, lists and dictionaries too."""
    ref = Doer.start()
    error = CallExit(("failed", "a", [{"peer": ref}, 7]), ref, ("get", 1))
    again = pickle.loads(pickle.dumps(error))
    assert again.reason == ("failed", "a", [{"peer": repr(ref)}, 7])
    assert again.args[0] is again.reason
    assert (again.server, again.request) == (repr(ref), ("get", 1))
    inside = pickle.loads(pickle.dumps(StartError(error))).reason
    assert (type(inside), inside.request) == (CallExit, ("get", 1))
    assert error.server is ref  # The error itself stays as it was.


def test_errors_that_are_sent_may_hold_themselves_and_what_shows_badly():
    """Whatever users put into a reason, it is the error that arrives."""

    class Picky(Exception):
        def __init__(self, one, two):
            super().__init__(one)

    around = [threading.Lock()]
    around.append(around)
    for reason in (around, Unprintable(), (threading.Lock(), Unprintable()), Picky(1, 2)):
        assert type(pickle.loads(pickle.dumps(StartError(reason)))) is StartError


def raise_with_a_ref():
    raise CallExit("boom", Doer.start(), 1)


def test_errors_that_hold_a_ref_come_out_of_a_pool_of_processes():
    """The pool would break, or never answer."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        with pytest.raises(CallExit) as error:
            pool.submit(raise_with_a_ref).result(60)
        assert error.value.reason == "boom"


@pytest.mark.parametrize("kind", ["ref", "monitor"])
def test_copies_of_refs_and_monitors_are_the_same(me, kind):
    """They are values: a copy would be equal to nothing, and known by nobody."""
    ref = Doer.start()
    value = ref if kind == "ref" else process.monitor(ref)
    assert copy.copy(value) is value
    assert copy.deepcopy({"peer": [value]})["peer"][0] is value
    assert dataclasses.asdict(Exit(value, "boom"))["ref"] is value
    assert dataclasses.replace(Exit(value, "boom")).ref is value
    error = CallExit(("boom", value), value)
    assert copy.copy(error).server is value
    assert copy.deepcopy(error).reason[1] is value


def test_pickling_a_ref_or_a_monitor_says_what_to_do(me):
    """It means something in its own program only."""
    ref = Doer.start()
    with pytest.raises(TypeError, match="a ref belongs to its program; send a name instead"):
        pickle.dumps({"peer": ref})
    with pytest.raises(TypeError, match="a monitor belongs to its program"):
        pickle.dumps(process.monitor(ref))


# ---- leftovers and looking in


def test_leftover_that_asks_itself_is_told_that_it_is_dead():
    """Not that it calls itself: that is an Exception, which it might live on with."""
    gate, got = Gate(), Journal()

    def ask(server):
        me = process.current()
        gate()
        for wait in (me.ask, lambda _: me.stop(), lambda _: me.proxy()):
            try:
                wait("x")
            except BaseException as error:
                got(type(error))
        got("end")

    server = Doer.start()
    cast(server, ask)
    gate.reached()
    process.exit(server, "kill")
    gate.open()
    got.wait_for("end")
    assert got.take() == [*[ProcessExit] * 3, "end"]


def test_leftover_takes_no_message_of_others_back():
    """What a dead process started to send is sent: others may count on it."""
    gate, got = Gate(), Journal()
    receiver = Doer.start(journal=got)

    def schedule(server):
        server.timer = process.send_after(receiver, "late", 0.2)
        gate()
        try:
            server.timer.cancel()
        except ProcessExit as error:
            got(("refused", error.reason))

    sender = Doer.start()
    cast(sender, schedule)
    gate.reached()
    process.exit(sender, "kill")
    gate.open()
    got.wait_for(("refused", "killed"))
    got.wait_for("info", "late")


def test_leftover_gets_no_answers():
    """Not even those that are there already."""
    gate, got = Gate(), Journal()
    other = Doer.start()

    def ask(server):
        request = send_request(other, lambda server: Reply(1))
        future = other.ask(lambda server: Reply(2), block=False)
        assert request.wait(WAIT)
        assert future.get(timeout=WAIT) == 2
        gate()
        for look in (request.check, request.receive, future.get, process.attach().__enter__):
            try:
                look()
            except ProcessExit as error:
                got(error.reason)
            else:
                got("answered")
        got("end")

    asker = Doer.start()
    cast(asker, ask)
    gate.reached()
    process.exit(asker, "kill")
    gate.open()
    got.wait_for("end")
    assert got.take() == [*["killed"] * 4, "end"]


def test_busy_inline_server_is_shown_as_running():
    """It has no worker; an operator must not take it for idle when it hangs."""
    gate = Gate()

    class Inline(Doer):
        inline = True

    server = Inline.start()
    assert process.info(server)["status"] == "idle"
    caller, _ = in_thread(lambda: call(server, lambda server: gate()))
    gate.reached()
    assert process.info(server)["status"] == "running"
    gate.open()
    caller.join(WAIT)


def test_stop_of_ones_own_is_no_message_to_receive():
    """Pykka's requests are left where they are, as calls and casts are."""
    received = Journal()

    class Stopping(Process):
        def on_receive(self, message):
            self.stop()
            process.send(self.actor_ref, "mail")
            received(process.receive(timeout=WAIT))

    ref = Stopping.start()
    ref.tell("go")
    received.wait_for("mail")
    assert exit_of(ref) == "normal"


def test_supervised_children_survive_odd_mail():
    """Of theirs and of their supervisor's."""
    journal = Journal()
    supervisor = Supervisor.start([(Child, "one", journal)])
    [child] = Supervisor.which_children(supervisor)
    process.send(supervisor, Unprintable())
    process.send(child.child, Unprintable())
    assert call(child.child, "still here") == "still here"
    assert Supervisor.which_children(supervisor) == [child]
