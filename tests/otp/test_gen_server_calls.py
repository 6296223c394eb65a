"""Calls: what the caller gets, when nobody answers, later answers, dead servers, inline servers."""

import contextvars
import gc
import inspect
import itertools
import signal
import threading
import time
import traceback
from collections import deque

import pykka
import pytest

from elsa_actors import (
    TIMEOUT,
    CallExit,
    CallingSelf,
    CallTimeout,
    Continue,
    Down,
    DynamicSupervisor,
    Exit,
    GenServer,
    Hibernate,
    Ignore,
    NoProcess,
    NoReply,
    Ok,
    Process,
    ProcessExit,
    ReceiveTimeout,
    Reply,
    StartError,
    Stop,
    Supervisor,
    Timeout,
    call,
    cast,
    debug,
    process,
    reply,
    send_request,
    stop,
)
from elsa_actors.otp.gen_server import MAX_INLINE_DEPTH
from elsa_actors.runtime.names import Named, NameTable
from tests.servers import NEVER, WAIT, Doer, Gate, Journal, Oops, in_thread, nothing_comes

OOPS = Oops("call")


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


class Known(Named):
    """A name that stands for one ref, whoever else there is."""

    def __init__(self, ref=None):
        self.ref = ref

    def whereis(self):
        return self.ref

    def register(self, ref):
        self.ref = ref

    def unregister(self, ref):
        self.ref = None


def raises(server):
    raise OOPS


def exits(reason):
    return lambda server: process.exit_self(reason)


def keep(server):
    """Answer this call later: whoever wants to finds its sender in `kept`."""
    server.kept = server.sender
    return NoReply()


def answer(value):
    """Answer the call that was kept."""
    return lambda server: reply(server.kept, value)


def failure_of(server, request, timeout=WAIT):
    """The error that a call raises."""
    with pytest.raises(CallExit) as error:
        call(server, request, timeout)
    return error.value


def dead_server():
    ref = Doer.start()
    stop(ref)
    return ref


def wait_until(condition):
    """Poll a condition that no event tells of."""
    pause = threading.Event()
    for _ in range(int(WAIT / 0.01)):
        if condition():
            return
        pause.wait(0.01)
    pytest.fail("it did not come true")


def settle(ref):
    """Wait until a server is idle: the thread that ran it has gone."""
    wait_until(lambda: not ref.actor_inbox.token.locked())


# ---- answers


def test_reply_goes_to_the_caller_and_the_state_is_kept():
    """A call is a question and a step: the next one sees what this one did. CALL-01."""
    ref = Counter.start(1)
    assert call(ref, ("add", 2)) == 3
    assert call(ref, ("add", 4), timeout=None) == 7
    assert call(ref, "get", timeout=1) == 7


@pytest.mark.parametrize("value", [None, False, (), Stop("not meant"), TIMEOUT])
def test_any_value_can_be_the_answer(value):
    """What stands in a Reply is the caller's business, whatever it is."""
    assert call(Doer.start(), lambda server: Reply(value)) is value


def test_subclasses_of_results_are_results():
    """A team may give an answer a name of its own."""

    class Receipt(Reply):
        pass

    class Later(NoReply):
        pass

    class Bye(Stop):
        pass

    ref = Doer.start()
    assert call(ref, lambda server: Receipt(1)) == 1
    request = send_request(ref, lambda server: (keep(server), Later())[1])
    cast(ref, answer(2))
    assert request.receive(WAIT) == 2
    assert call(ref, lambda server: Bye("normal", 3)) == 3


def test_idle_timeout_after_a_reply():
    """The caller has its answer at once, the server its tick when nothing comes. CALL-02."""
    journal = Journal()
    ref = Doer.start(journal=journal)
    assert call(ref, lambda server: Reply("now", then=Timeout(0.03))) == "now"
    journal.wait_for("info", TIMEOUT)


def test_hibernate_after_a_reply():
    """A hibernating server answers as before. CALL-03."""
    ref = Doer.start()
    assert call(ref, lambda server: Reply(1, then=Hibernate())) == 1
    assert call(ref, lambda server: Reply(2)) == 2


def test_reply_leaves_before_the_continue():
    """Slow work after the answer does not delay the caller. CALL-04."""
    gate, journal = Gate(), Journal()
    ref = Doer.start()

    def work(server):
        gate()
        journal("worked")

    assert call(ref, lambda server: Reply("answer", then=Continue(work))) == "answer"
    gate.reached()
    assert journal.events == []
    later = send_request(ref, lambda server: Reply(list(journal.events)))
    gate.open()
    assert later.receive(WAIT) == ["worked"]


def by_cast(ref, act):
    cast(ref, act)


def by_info(ref, act):
    process.send(ref, act)


def by_call(ref, act):
    call(ref, act)


def by_continue(ref, act):
    cast(ref, lambda server: NoReply(then=Continue(act)))


@pytest.mark.parametrize("way", [by_cast, by_info, by_call, by_continue])
def test_answer_later(way):
    """A server that waits for something goes on with the others, and answers then. CALL-05."""
    ref = Doer.start()
    request = send_request(ref, keep)
    assert call(ref, lambda server: Reply("meanwhile")) == "meanwhile"
    assert not request.check()
    way(ref, answer("later"))
    assert request.receive(WAIT) == "later"


def test_call_that_is_answered_later():
    """The caller of `call` just waits; it need not know who answers when. CALL-05."""
    journal = Journal()
    ref, caller = Doer.start(), Doer.start()
    kept = Gate()
    cast(caller, lambda _: journal("got", call(ref, lambda s: (kept.open(), keep(s))[1])))
    kept()
    assert journal.events == []
    cast(ref, answer("later"))
    journal.wait_for("got", "later")


def test_idle_timeout_while_a_caller_waits():
    """The server may use its idle tick to answer whom it kept waiting. CALL-06."""

    class Ticking(GenServer):
        def handle_call(self, request, sender):
            self.state = sender
            return NoReply(then=Timeout(0.03))

        def handle_info(self, message):
            reply(self.state, message)

    assert call(Ticking.start(), "tick") is TIMEOUT


def test_answer_from_the_continue():
    """An answer that takes several steps is given at the last. CALL-07."""
    ref = Doer.start()

    def ask(server):
        keep(server)
        return NoReply(then=Continue(answer("from the continue")))

    assert call(ref, ask) == "from the continue"


@pytest.mark.parametrize("value", ["bye", None])
@pytest.mark.parametrize("reason", ["normal", "r"])
def test_stop_with_a_reply(me, value, reason):
    """The caller gets its answer, not an exit; None is an answer too. CALL-08."""
    ref = Doer.start_link()
    assert call(ref, lambda server: Stop(reason, reply=value)) is value
    assert me.receive(Exit, WAIT) == Exit(ref, reason)


def test_stop_terminates_before_it_replies():
    """Whoever has the answer of a stop knows that the server has cleaned up. CALL-09."""
    gate, journal = Gate(), Journal()

    class Slow(Doer):
        def terminate(self, reason):
            super().terminate(reason)
            gate()

    ref = Slow.start(journal=journal)
    request = send_request(ref, lambda server: Stop("r", reply="bye"))
    gate.reached()
    assert journal.events == [("terminate", "r")]
    assert not request.check()
    gate.open()
    assert request.receive(WAIT) == "bye"


def test_stop_replies_even_when_terminate_raises(me):
    """The work was done; that the clean-up failed is told by the exit reason. CALL-10."""

    class Messy(Doer):
        def terminate(self, reason):
            raise OOPS

    ref = Messy.start_link()
    assert call(ref, lambda server: Stop("normal", reply="bye")) == "bye"
    assert me.receive(Exit, WAIT) == Exit(ref, OOPS)


def test_reply_and_then_stop_without_one(me):
    """The first answer counts; the end after it is nothing to this caller. CALL-13."""
    ref = Doer.start_link()

    def say_and_stop(server):
        reply(server.sender, "said")
        return Stop("normal")

    assert call(ref, say_and_stop) == "said"
    assert me.receive(Exit, WAIT) == Exit(ref, "normal")


# ---- servers that end instead of answering

ENDS = {
    "stop": (lambda server: Stop("r"), "r"),
    "stop normal": (lambda server: Stop("normal"), "normal"),
    "stop shutdown": (lambda server: Stop("shutdown"), "shutdown"),
    "stop with a term": (lambda server: Stop({"any": "term"}), {"any": "term"}),
    "raise": (raises, OOPS),
    "exit": (exits("boom"), "boom"),
    "exit normal": (exits("normal"), "normal"),
    "exit shutdown": (exits("shutdown"), "shutdown"),
    "exit with a detail": (exits(("shutdown", "reason")), ("shutdown", "reason")),
    "bad value": (lambda server: 4711, ("bad_return_value", 4711)),
    "tuple": (lambda server: ("reply", 1), ("bad_return_value", ("reply", 1))),
    "class": (lambda server: NoReply, ("bad_return_value", NoReply)),
    "another callback's": (lambda server: Ok(1), ("bad_return_value", Ok(1))),
    "yet another's": (lambda server: Ignore(), ("bad_return_value", Ignore())),
}
ends = pytest.mark.parametrize(("end", "reason"), ENDS.values(), ids=ENDS)


@ends
def test_caller_learns_why_the_server_ended(me, end, reason):
    """No answer will come, and "normal" is no answer either; the link tells the same.

    CALL-11, CALL-12, CALL-14, CALL-15, CALL-16, CALL-17, CALL-20, CALL-26.
    """
    ref = Doer.start_link(name="ending")
    watch = process.monitor(ref)
    error = failure_of("ending", end)
    assert error.reason == reason
    assert (error.server, error.request) == ("ending", end)
    notices = [me.receive(timeout=WAIT), me.receive(timeout=WAIT)]
    assert sorted(notices, key=lambda notice: type(notice).__name__) == [
        Down(watch, ref, reason),
        Exit(ref, reason),
    ]
    assert nothing_comes()


@ends
def test_caller_that_is_linked_dies_with_its_server(me, end, reason):
    """The link is not the call: catching the call's error does not save the caller. CALL-25."""
    journal = Journal()
    caller = Doer.start_link()

    def ask(server):
        ref = Doer.start_link()
        try:
            call(ref, end)
        except CallExit as error:
            journal("caught", error.reason)
        except ProcessExit as error:
            journal("died", error.reason)
            raise

    cast(caller, ask)
    if reason == "normal":
        journal.wait_for("caught", "normal")
        assert process.is_alive(caller)
    else:
        assert me.receive(Exit, WAIT) == Exit(caller, reason)
        journal.wait_for("died", reason)
    assert len(journal.events) == 1


def test_raise_is_the_cause_of_the_callers_error():
    """The traceback shows both sides: where the server raised, and who asked for it. CALL-14."""
    error = failure_of(Doer.start(), raises)
    assert error.__cause__ is OOPS
    assert "raises" in [frame.name for frame in traceback.extract_tb(OOPS.__traceback__)]


def test_each_caller_gets_an_error_of_its_own():
    """Two who raise one exception object would write into each other's traceback. CALL-27."""
    gate = Gate()
    ref = Doer.start()
    busy = send_request(ref, lambda server: (gate(), raises(server)))
    waiting = [send_request(ref, lambda server: None) for _ in range(3)]
    gate.open()
    errors = []
    for request in [busy, *waiting]:
        with pytest.raises(CallExit) as error:
            request.receive(WAIT)
        errors.append(error.value)
    assert len({id(error) for error in errors}) == 4
    assert [error.reason for error in errors] == [OOPS] * 4
    assert [error.__cause__ for error in errors] == [OOPS] * 4


def test_uncaught_call_error_is_a_raise_like_any_other(me, log_events):
    """A shutdown over there is no shutdown here: the caller crashed, and says so."""
    caller = Doer.start_link()
    ref = Doer.start()
    cast(caller, lambda server: call(ref, lambda server: Stop("shutdown")))
    reason = me.receive(Exit, WAIT).reason
    assert type(reason) is CallExit
    assert reason.reason == "shutdown"
    assert reason.server is ref
    assert [event["reason"] for event in log_events if event["event"] == "process_crashed"] == [
        reason
    ]


class Answering(GenServer):
    """Answers each call with what it was asked for."""

    def handle_call(self, request, sender):
        return request


WRONG_THENS = ["bogus", 20, Timeout(-1), Timeout("soon"), Timeout(True), Timeout(None), Continue]


@pytest.mark.parametrize("wrong", [None, *(Reply(1, t) for t in WRONG_THENS), NoReply("bogus")])
def test_wrong_answer_is_wrong_as_a_whole(me, wrong):
    """None was forgotten, and beside a `then` that means nothing no value is delivered. CALL-21."""
    ref = Answering.start_link()
    error = failure_of(ref, wrong)
    assert error.reason == ("bad_return_value", wrong)
    assert error.reason[1] is wrong
    assert me.receive(Exit, WAIT) == Exit(ref, ("bad_return_value", wrong))


def test_no_handle_call(me):
    """Who calls a server that takes no calls learns which server, and with what. CALL-24."""

    class Mute(GenServer):
        pass

    ref = Mute.start_link(name="mute")
    error = failure_of("mute", "hello")
    assert isinstance(error.reason, RuntimeError)
    assert str(error.reason) == (
        "attempted to call Mute mute with 'hello', but it has no handle_call"
    )
    assert me.receive(Exit, WAIT) == Exit(ref, error.reason)


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (lambda ref: process.exit(ref, "kill"), "killed"),
        (lambda ref: process.exit(ref, "boom"), "boom"),
        (lambda ref: None, OOPS),
    ],
)
def test_queued_callers_are_told_at_once(end, reason):
    """Nobody waits for a timeout to learn that the server died before it read his call. CALL-27."""
    gate, journal = Gate(), Journal()
    ref = Doer.start()

    def ask(server):
        with pytest.raises(CallExit) as error:
            call(ref, lambda server: None, timeout=None)
        journal(error.value.reason)

    cast(ref, lambda server: (gate(), raises(server)))
    gate.reached()
    callers = [Doer.start() for _ in range(3)]
    for caller in callers:
        cast(caller, ask)
    wait_until(lambda: process.info(ref)["message_queue_len"] == 3)
    end(ref)
    gate.open()
    for caller in callers:
        call(caller, lambda server: None)
    assert journal.events == [reason] * 3


class SlowTable(NameTable):
    """Waits at a gate before it frees the name of a process that has died."""

    def __init__(self, freeing):
        super().__init__("slow")
        self.freeing = freeing

    def free(self, entry):
        self.freeing()
        super().free(entry)


def test_queued_callers_are_told_why_whoever_clears_up():
    """Also when the server's own thread comes to the mailbox before the killer does. CALL-27."""
    busy, freeing = Gate(), Gate()

    ref = Doer.start()
    SlowTable(freeing).register("key", ref._inbox)
    cast(ref, lambda server: busy())
    busy.reached()
    queued = send_request(ref, lambda server: None)
    killer = threading.Thread(target=process.exit, args=(ref, "kill"))
    killer.start()
    freeing.reached()
    busy.open()
    wait_until(lambda: ref.actor_inbox.process is None)
    freeing.open()
    killer.join(WAIT)
    with pytest.raises(CallExit) as error:
        queued.receive(WAIT)
    assert error.value.reason == "killed"


def test_raise_ends_its_server_and_no_other(me):
    """A callback's exception is never just handed to the caller; nor does it spread. CALL-28."""
    bystander, other = Doer.start(), GenServer.start()
    ref = Doer.start_link()
    assert failure_of(ref, raises).reason is OOPS
    assert me.receive(Exit, WAIT) == Exit(ref, OOPS)
    assert not process.is_alive(ref)
    assert process.is_alive(bystander)
    assert process.is_alive(other)
    assert call(bystander, lambda server: Reply("alive")) == "alive"


@pytest.mark.parametrize("error_type", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_is_no_exception_ends_its_process_alone(me, error_type):
    """sys.exit() in a callback is that process's end; the program and its other processes go on."""
    bystander = Doer.start()
    ref = Doer.start_link()

    def end(server):
        raise error_type

    error = failure_of(ref, end)
    assert type(error.reason) is error_type
    assert me.receive(Exit, WAIT) == Exit(ref, error.reason)
    assert call(bystander, lambda server: Reply("alive")) == "alive"


def test_queued_casts_and_infos_die_with_their_server():
    """None of them is handled, and nobody is told. CALL-29."""
    gate, journal = Gate(), Journal()
    ref = Doer.start(journal=journal)
    request = send_request(ref, lambda server: (gate(), raises(server)))
    for _ in range(5):
        cast(ref, lambda server: journal("cast"))
        process.send(ref, lambda server: journal("info"))
    gate.open()
    with pytest.raises(CallExit):
        request.receive(WAIT)
    assert nothing_more(journal, [("terminate", OOPS)])


def nothing_more(journal, events):
    """Whether the journal holds these events, and does not grow for a while."""
    threading.Event().wait(NEVER)
    return journal.events == events


# ---- who asks


def test_sender_names_the_caller(me):
    """A server may treat its callers differently, link or monitor them. CALL-22."""
    ref, caller = Doer.start(), Doer.start()
    assert call(ref, lambda server: Reply(server.sender.ref)) is me.ref
    ask = lambda server: Reply(call(ref, lambda server: Reply(server.sender.ref)))  # noqa: E731
    assert call(caller, ask) is caller


def test_sender_on_a_plain_thread():
    """A thread that is no process has no ref. CALL-22."""
    assert call(Doer.start(), lambda server: Reply(server.sender.ref)) is None


def test_error_keeps_the_call_as_it_was_made():
    """By ref or by name, with its request and its timeout: that is what one looks for. CALL-23."""
    ref = Doer.start(name="named")
    gate = Gate()
    cast(ref, lambda server: gate())
    for server in ("named", ref, Known(ref)):
        with pytest.raises(CallTimeout) as late:
            call(server, "request", timeout=0.01)
        assert late.value.server is server
        assert late.value.request == "request"
        assert late.value.timeout == 0.01
        assert "0.01" in str(late.value)
        assert "'request'" in str(late.value)
    gate.open()


# ---- replies


def test_reply_from_anybody(me):
    """A server may pass a request on, and whoever has the answer gives it. RPLY-01, RPLY-05."""
    ref, worker = Doer.start(), Doer.start()

    def delegate(server):
        sender = server.sender
        cast(worker, lambda worker: reply(sender, process.current()))
        return NoReply()

    assert call(ref, delegate) is worker

    request = send_request(ref, keep)
    sender = call(ref, lambda server: Reply(server.kept))
    said = []
    thread = threading.Thread(target=lambda: said.append(reply(sender, "from a thread")))
    thread.start()
    assert request.receive(WAIT) == "from a thread"
    thread.join(WAIT)
    assert said == [None]


def test_reply_to_a_dead_caller(me):
    """Nobody is there to be disturbed, and the server is not. RPLY-02, RPLY-05."""
    ref = Doer.start()
    caller = Doer.start_link()
    cast(caller, lambda server: call(ref, keep))
    wait_until(lambda: call(ref, lambda server: Reply(hasattr(server, "kept"))))
    process.exit(caller, "kill")
    assert call(ref, lambda server: Reply(reply(server.kept, "late"))) is None
    assert process.is_alive(ref)


@pytest.mark.parametrize("first_by_result", [True, False])
def test_second_reply_vanishes(me, first_by_result):
    """The first answer counts; the second neither changes it nor surfaces anywhere. RPLY-03."""
    ref = Doer.start()

    def twice(server):
        keep(server)
        if first_by_result:
            return Reply("first", then=Continue(answer("second")))
        reply(server.sender, "first")
        return Reply("second")

    assert call(ref, twice) == "first"
    assert call(ref, lambda server: Reply("next")) == "next"
    request = send_request(ref, twice)
    call(ref, lambda server: None)
    assert request.receive(WAIT) == "first"
    assert request.receive(WAIT) == "first"
    assert nothing_comes()


def test_reply_after_the_timeout_vanishes(me):
    """It neither surfaces as a message nor answers a later call. RPLY-04, TMO-04."""
    ref = Doer.start()
    with pytest.raises(CallTimeout):
        call(ref, keep, timeout=0.01)
    assert call(ref, lambda server: Reply((answer("late")(server), "own")[1])) == "own"
    assert nothing_comes()


def test_reply_after_the_server_has_stopped():
    """Its death was the answer already; a reply from elsewhere does no harm. RPLY-06."""
    ref = Doer.start()
    request = send_request(ref, keep)
    sender = call(ref, lambda server: Reply(server.kept))
    stop(ref)
    assert reply(sender, "too late") is None
    with pytest.raises(CallExit) as error:
        request.receive(WAIT)
    assert error.value.reason == "normal"

    other = Doer.start()
    request = send_request(other, keep)
    sender = call(other, lambda server: Reply(server.kept))
    reply(sender, "in time")
    stop(other)
    assert request.receive(WAIT) == "in time"


@pytest.mark.parametrize("sender", [None, "sender", 1])
def test_reply_to_what_is_no_sender(sender):
    """A slip is told where it was made."""
    with pytest.raises(TypeError, match="expected the sender that handle_call was given"):
        reply(sender, "value")


def test_reply_of_the_dead_is_discarded(me):
    """What runs on after its process died cannot answer any more."""
    gate, journal = Gate(), Journal()
    ref = Doer.start()

    def late(server):
        try:
            gate()
            reply(server.sender, "from beyond")
        except ProcessExit as error:
            journal("refused", error.reason)
            raise

    request = send_request(ref, late)
    gate.reached()
    process.exit(ref, "kill")
    gate.open()
    with pytest.raises(CallExit) as error:
        request.receive(WAIT)
    assert error.value.reason == "killed"
    journal.wait_for("refused", "killed")


# ---- timeouts


def test_default_timeouts():
    """Five seconds for an answer, for ever for an end, as in OTP. TMO-01."""
    assert inspect.signature(call).parameters["timeout"].default == 5.0
    receive = type(send_request(dead_server(), "x")).receive
    assert inspect.signature(receive).parameters["timeout"].default == 5.0
    assert inspect.signature(stop).parameters["timeout"].default is None


def test_call_without_an_answer_in_time(me):
    """The caller gives up; the server notices nothing, and finishes. TMO-02, TMO-03, TMO-04."""
    gate = Gate()

    class Slow(Counter):
        def handle_call(self, request, sender):
            if request != "get":
                gate()
            return super().handle_call(request, sender)

    ref = Slow.start(1)
    with pytest.raises(CallTimeout) as error:
        call(ref, ("add", 1), timeout=0.05)
    assert error.value.reason == "timeout"
    assert isinstance(error.value, CallExit)
    assert isinstance(error.value, TimeoutError)
    gate.open()
    assert call(ref, "get") == 2
    assert nothing_comes()


def test_timeout_of_zero():
    """No patience at all: an error at once, the request is carried out all the same. TMO-05."""
    gate, journal = Gate(), Journal()
    ref = Doer.start()
    cast(ref, lambda server: gate())
    gate.reached()
    with pytest.raises(CallTimeout):
        call(ref, lambda server: journal("done"), timeout=0)
    gate.open()
    journal.wait_for("done")


@pytest.mark.parametrize("timeout", [-1, -0.001, "5", True, float("nan")])
def test_wrong_timeout(timeout):
    """An error of the caller, not a wait; nothing is sent. TMO-06."""
    journal = Journal()
    ref = Doer.start()
    with pytest.raises(ValueError, match="expected timeout to be seconds"):
        call(ref, lambda server: journal("called"), timeout)
    request = send_request(ref, lambda server: None)
    for wait in (request.wait, request.receive):
        with pytest.raises(ValueError, match="expected timeout to be seconds"):
            wait(timeout)
    assert request.receive(WAIT) is None
    assert journal.events == []


def test_request_outlives_its_caller():
    """What was sent is carried out to the end, though nobody waits any more. TMO-07."""
    gate, journal = Gate(), Journal()
    ref, caller = Doer.start(), Doer.start()
    cast(caller, lambda server: call(ref, lambda server: (gate(), journal("done"))[1]))
    gate.reached()
    process.exit(caller, "kill")
    gate.open()
    journal.wait_for("done")
    assert call(ref, lambda server: Reply("alive")) == "alive"


def test_call_leaves_the_callers_mail_alone(me):
    """What is there stays, in its order, and does not slow the call down. TMO-08, TMO-20."""
    ref = Doer.start()
    count = 30_000
    for number in range(count):
        process.send(me.ref, number)
    for number in range(500):
        assert call(ref, lambda server, number=number: Reply(number)) == number
    assert [me.receive(timeout=WAIT) for _ in range(count)] == list(range(count))


def test_server_that_calls_itself(me):
    """It would wait for itself for ever; it is told at once, however it names itself. TMO-09."""
    ref = Doer.start(name="self")
    for server in (ref, "self", Known(ref)):

        def ask(_, server=server):
            with pytest.raises(CallingSelf) as error:
                call(server, "request", timeout=None)
            return Reply(error.value)

        error = call(ref, ask)
        assert error.reason == "calling_self"
        assert error.server is server
        assert error.request == "request"


def test_request_to_oneself():
    """An asynchronous one is refused as well, when its answer is asked for. TMO-09."""
    ref = Doer.start()

    def ask(server):
        request = send_request(ref, "request")
        assert request.check()
        with pytest.raises(CallingSelf) as error:
            request.receive()
        return Reply(error.value.reason)

    assert call(ref, ask) == "calling_self"


def test_servers_that_call_each_other():
    """A waits for B and B for A: the inner call times out, and both go on. TMO-10."""
    one, other = Doer.start(), Doer.start()
    assert call(one, lambda _: Reply(call(other, lambda _: Reply("fine")))) == "fine"

    def ask_back(server):
        with pytest.raises(CallTimeout):
            call(one, lambda server: None, timeout=0.05)
        return Reply("timed out")

    assert call(one, lambda server: Reply(call(other, ask_back))) == "timed out"
    assert call(one, lambda server: Reply("alive")) == "alive"
    assert call(other, lambda server: Reply("alive")) == "alive"


# ---- requests without waiting


def test_send_request(me):
    """Ask several servers at once, then collect; the order of asking does not matter. TMO-11."""
    gate = Gate()
    slow, fast = Doer.start(), Doer.start()
    requests = [
        send_request(slow, lambda server: (gate(), Reply("slow"))[1]),
        send_request(fast, lambda server: Reply("fast")),
    ]
    assert requests[1].receive(WAIT) == "fast"
    assert not requests[0].check()
    gate.open()
    assert requests[0].receive(WAIT) == "slow"
    assert requests[0].receive(0) == "slow"


@pytest.mark.parametrize("wait", ["wait", "check"])
def test_request_to_nobody(wait):
    """Sending never fails; the error is there when the answer is asked for. TMO-12."""
    for server in (dead_server(), "nobody", Known()):
        request = send_request(server, "request")
        assert request.wait(WAIT) if wait == "wait" else request.check()
        with pytest.raises(NoProcess) as error:
            request.receive()
        assert error.value.reason == "noproc"
        assert error.value.server is server


@ends
def test_request_whose_server_ends(end, reason):
    """The reason comes with `receive`; `wait` and `check` only say that it is there. TMO-13."""
    request = send_request(Doer.start(), end)
    assert request.wait(WAIT)
    assert request.check()
    with pytest.raises(CallExit) as error:
        request.receive()
    assert error.value.reason == reason
    assert error.value.request is end


def test_wait_that_runs_out_abandons_nothing():
    """`wait` may be tried again and again until the answer is there. TMO-14, TMO-16."""
    ref = Doer.start()
    request = send_request(ref, keep)
    assert not request.wait(0.01)
    assert not request.wait(0.01)
    assert not request.check()
    cast(ref, answer("there"))
    assert request.wait(WAIT)
    assert request.check()
    assert request.receive() == "there"


def test_receive_that_runs_out_abandons_the_request(me):
    """Its late answer vanishes: later waits find nothing, no message comes. TMO-15."""
    ref = Doer.start()
    request = send_request(ref, keep)
    with pytest.raises(CallTimeout) as error:
        request.receive(0.01)
    assert error.value.reason == "timeout"
    call(ref, lambda server: answer("late")(server))
    assert not request.wait(0.01)
    assert not request.check()
    with pytest.raises(CallTimeout):
        request.receive(0.01)
    assert nothing_comes()


def test_check_takes_nothing_from_the_mail(me):
    """Unrelated messages are not looked at. TMO-16."""
    process.send(me.ref, "unrelated")
    request = send_request(Doer.start(), keep)
    assert not request.check()
    assert me.receive(timeout=WAIT) == "unrelated"


# ---- nobody there


@pytest.mark.parametrize("kind", ["dead", "unknown", "named", "freed"])
def test_call_to_nobody(kind):
    """An error at once, of the kind that a lookup raises. DEAD-01, DEAD-02, DEAD-06."""
    server = {
        "dead": dead_server,
        "unknown": lambda: "nobody",
        "named": Known,
        "freed": lambda: (stop(Doer.start(name="freed")), "freed")[1],
    }[kind]()
    for ask in (lambda: call(server, "request", None), lambda: stop(server, "r")):
        with pytest.raises(NoProcess) as error:
            ask()
        assert error.value.reason == "noproc"
        assert error.value.server is server
        assert isinstance(error.value, LookupError)
        assert isinstance(error.value, CallExit)
    with pytest.raises(NoProcess) as error:
        call(server, "request")
    assert error.value.request == "request"


@pytest.mark.parametrize("reason", ["kill", "boom", "shutdown"])
def test_server_that_dies_during_the_call(reason):
    """The caller is told at once, though the server's code still runs. DEAD-03."""
    gate = Gate()
    ref = Doer.start()
    request = send_request(ref, lambda server: gate())
    gate.reached()
    process.exit(ref, reason)
    assert request.check()
    with pytest.raises(CallExit) as error:
        request.receive()
    assert error.value.reason == ("killed" if reason == "kill" else reason)
    gate.open()


def test_cast_to_nobody():
    """A cast never fails: whether somebody is there is not asked. DEAD-04."""
    for server in (dead_server(), "nobody", Known(), Known(dead_server())):
        assert cast(server, "request") is None


def test_send_to_nobody():
    """A message to the dead is dropped, an unknown name is a mistake. DEAD-05."""
    assert process.send(dead_server(), "message") is None
    assert process.send(Known(dead_server()), "message") is None
    for unknown in ("nobody", Known()):
        with pytest.raises(LookupError):
            process.send(unknown, "message")


def test_none_stands_for_nobody():
    """What `whereis` did not find can be called: that fails as for any unknown name. DEAD-07."""
    for ask in (
        lambda: call(None, "request"),
        lambda: stop(None),
        lambda: send_request(None, "request").receive(),
    ):
        with pytest.raises(NoProcess) as error:
            ask()
        assert error.value.reason == "noproc"
        assert error.value.server is None
    assert cast(None, "request") is None


@pytest.mark.parametrize(
    "ask",
    [
        Supervisor.which_children,
        Supervisor.count_children,
        lambda sup: Supervisor.start_child(sup, Doer),
        lambda sup: Supervisor.restart_child(sup, "child"),
        lambda sup: Supervisor.terminate_child(sup, "child"),
        lambda sup: Supervisor.delete_child(sup, "child"),
        lambda sup: Supervisor.get_childspec(sup, "child"),
        Supervisor.stop,
        DynamicSupervisor.which_children,
        DynamicSupervisor.count_children,
        lambda sup: DynamicSupervisor.start_child(sup, Doer),
        lambda sup: DynamicSupervisor.terminate_child(sup, "child"),
        DynamicSupervisor.stop,
        debug.suspend,
        debug.resume,
        debug.get_state,
        debug.get_status,
        lambda ref: debug.replace_state(ref, lambda state: state),
        lambda ref: debug.statistics(ref, "get"),
        lambda ref: debug.trace(ref, False),
        lambda ref: debug.terminate(ref, "r"),
    ],
)
def test_supervisor_or_debugged_server_that_is_not_there(ask):
    """The library's own calls fail as everybody's. DEAD-08, DEAD-09."""
    for server in ("nobody", dead_server()):
        with pytest.raises(NoProcess) as error:
            ask(server)
        assert error.value.reason == "noproc"
        assert error.value.server is server


@pytest.mark.parametrize("server", [1, b"bytes", ("name", "node"), Doer, object()])
def test_what_is_no_server(server):
    """A slip is told, with what was expected. DEAD-07."""
    for ask in (
        lambda: call(server, "request"),
        lambda: cast(server, "request"),
        lambda: stop(server),
        lambda: send_request(server, "request"),
        lambda: process.send(server, "request"),
    ):
        with pytest.raises(TypeError, match="expected a ref, a name or a Via, got"):
            ask()


# ---- processes that are no servers


class Plain(Process):
    def on_receive(self, message):
        return message() if callable(message) else ("got", message)


def test_call_to_a_plain_process():
    """It is asked, as Pykka asks: an exception goes to the caller, and the process lives."""
    ref = Plain.start()
    assert call(ref, "hello") == ("got", "hello")
    error = failure_of(ref, lambda: raises(None))
    assert error.reason is OOPS
    assert error.__cause__ is OOPS
    assert error.server is ref
    assert call(ref, "again") == ("got", "again")


def test_plain_process_that_ends_during_a_call(me):
    """Its reason comes as from any server."""
    ref = Plain.start_link()
    assert failure_of(ref, lambda: process.exit_self("boom")).reason == "boom"
    assert me.receive(Exit, WAIT) == Exit(ref, "boom")


def test_cast_to_a_plain_process():
    """It gets the request itself, as a message."""
    journal = Journal()

    class Listening(Process):
        def on_receive(self, message):
            journal(message)

    ref = Listening.start()
    cast(ref, "hello")
    journal.wait_for("hello")
    stop(ref, "r")
    assert not process.is_alive(ref)


def test_cast_to_a_thread(me):
    """An attached thread receives it as any message; a call to it is answered by nobody."""
    cast(me.ref, "hello")
    assert me.receive(timeout=WAIT) == "hello"
    ref = Doer.start()
    ask = lambda _: Reply(type(failure_of(me.ref, "hello", 0.01)))  # noqa: E731
    assert call(ref, ask) is CallTimeout


class Slow(deque):
    """A mailbox whose messages can be stopped on their way out of it."""

    def __init__(self, gate):
        super().__init__()
        self.gate = gate

    def popleft(self):
        item = super().popleft()
        self.gate()
        return item


@pytest.mark.parametrize("server", [Plain, Doer])
def test_death_while_a_request_is_on_its_way(server):
    """Taken from the mailbox and not handled yet: its caller is told like all others. CALL-27."""
    gate = Gate()
    ref = server.start()
    settle(ref)
    ref.actor_inbox.items = Slow(gate)
    request = send_request(ref, lambda server: None)
    gate.reached()
    process.exit(ref, "kill")
    gate.open()
    with pytest.raises(CallExit) as error:
        request.receive(WAIT)
    assert error.value.reason == "killed"


# ---- Pykka's ways to a server


def test_ask_is_call(me):
    """A program that asks its actors can make one of them a server. CALL-01, CALL-05."""
    ref = Doer.start()
    assert ref.ask(lambda server: Reply(server.sender.asker.ref)) is me.ref
    future = ref.ask(keep, block=False)
    cast(ref, answer("later"))
    assert future.get(timeout=WAIT) == "later"
    with pytest.raises(pykka.Timeout):
        ref.ask(keep, timeout=0.01)


@ends
def test_ask_of_a_server_that_ends(me, end, reason):
    """Unlike in a plain actor, an exception ends the server; the asker learns why. CALL-28."""
    ref = Doer.start_link()
    with pytest.raises(CallExit) as error:
        ref.ask(end, timeout=WAIT)
    assert error.value.reason == reason
    assert error.value.server is ref
    assert me.receive(Exit, WAIT) == Exit(ref, reason)
    with pytest.raises(pykka.ActorDeadError) as error:
        ref.ask(end)
    assert isinstance(error.value, NoProcess)


def test_future_of_a_server_that_dies_before_it_answers():
    """A question put off and forgotten still fails with its server; nobody waits for ever."""
    ref = Doer.start()
    future = ref.ask(lambda server: NoReply(), block=False)
    call(ref, lambda server: server.__dict__.pop("sender") and None)
    call(ref, lambda server: None)
    gc.collect()
    process.exit(ref, "kill")
    with pytest.raises(CallExit) as error:
        future.get(timeout=WAIT)
    assert error.value.reason == "killed"


def test_tell_is_an_info_message():
    """What is told needs no answer: handle_info gets it. CIC-06."""
    journal = Journal()
    ref = Doer.start(journal=journal)
    ref.tell("told")
    journal.wait_for("info", "told")
    with pytest.raises(pykka.ActorDeadError):
        dead_server().tell("told")


class Account(GenServer):
    def init(self, balance):
        return Ok(balance)

    def deposit(self, amount):
        if amount < 0:
            raise OOPS
        self.state += amount
        return self.state

    def leave(self, reason):
        process.exit_self(reason)

    def end(self):
        self.stop()
        return "ending"

    def terminate(self, reason):
        account_ends(reason)


account_ends = Journal()


def test_proxy():
    """Methods and attributes of a server can be used from outside, one at a time, in its order."""
    ref = Account.start(1)
    proxy = ref.proxy()
    assert proxy.deposit(2).get(timeout=WAIT) == 3
    assert proxy.state.get(timeout=WAIT) == 3
    proxy.state = 10
    assert proxy.state.get(timeout=WAIT) == 10
    proxy.deposit.defer(5)
    assert proxy.state.get(timeout=WAIT) == 15


def test_proxied_call_that_raises_fails_its_caller_only():
    """It is no callback: the exception is the caller's, as Pykka documents it."""
    ref = Account.start(1)
    with pytest.raises(Oops) as error:
        ref.proxy().deposit(-1).get(timeout=WAIT)
    assert error.value is OOPS
    assert ref.proxy().state.get(timeout=WAIT) == 1


def test_deferred_call_that_raises_ends_the_server(me):
    """Nobody waits for it, so nobody else would learn of it."""
    ref = Account.start_link(1)
    ref.proxy().deposit.defer(-1)
    assert me.receive(Exit, WAIT) == Exit(ref, OOPS)


def test_proxied_call_that_exits(me):
    """exit_self ends the process from everywhere; the caller learns the reason."""
    ref = Account.start_link(1)
    with pytest.raises(CallExit) as error:
        ref.proxy().leave("boom").get(timeout=WAIT)
    assert error.value.reason == "boom"
    assert me.receive(Exit, WAIT) == Exit(ref, "boom")


@pytest.mark.parametrize("suspended", [False, True])
@pytest.mark.parametrize("way", ["ref", "ref without waiting", "self", "registry"])
def test_pykkas_stop_is_stop(me, way, suspended):
    """`terminate` runs, the reason is "normal", a suspended server obeys too."""
    account_ends.take()
    ref = Account.start_link(1)
    if suspended and way != "self":
        debug.suspend(ref)
    match way:
        case "ref":
            assert ref.stop(timeout=WAIT) is True
            assert not process.is_alive(ref)
            assert ref.stop() is False
        case "ref without waiting":
            assert ref.stop(block=False).get(timeout=WAIT) is True
        case "self":
            assert ref.proxy().end().get(timeout=WAIT) == "ending"
        case "registry":
            assert pykka.ActorRegistry.get_by_class(Account) == [ref]
            assert pykka.ActorRegistry.stop_all(timeout=WAIT) == [True]
    assert me.receive(Exit, WAIT) == Exit(ref, "normal")
    assert account_ends.events == ["normal"]
    assert pykka.ActorRegistry.get_all() == []


def test_stop_by_pykka_comes_after_what_is_queued():
    """What was sent before it is carried out. STOP-03."""
    gate, journal = Gate(), Journal()
    ref = Doer.start(journal=journal)
    cast(ref, lambda server: gate())
    cast(ref, lambda server: journal("cast"))
    stopped = ref.stop(block=False)
    gate.open()
    assert stopped.get(timeout=WAIT) is True
    assert journal.events == ["cast", ("terminate", "normal")]


def test_stop_by_pykka_of_a_server_that_ends_badly(me):
    """It asked for the end, and here it is; the reason is told by links and monitors."""

    class Messy(Doer):
        def terminate(self, reason):
            raise OOPS

    ref = Messy.start_link()
    assert ref.stop(timeout=WAIT) is True
    assert me.receive(Exit, WAIT) == Exit(ref, OOPS)


def test_pykkas_hooks_are_not_called(me):
    """init and terminate take their place; two sets of hooks would be one too many."""
    journal = Journal()

    class Hooked(Doer):
        def on_start(self):
            journal("on_start")

        def on_stop(self):
            journal("on_stop")

        def on_failure(self, *info):
            journal("on_failure")

        def on_receive(self, message):
            journal("on_receive")

    ref = Hooked.start(journal=journal)
    ref.tell("told")
    ref.ask(lambda server: None)
    ref.stop()
    ref = Hooked.start_link(journal=journal)
    failure_of(ref, raises)
    assert journal.events == [("info", "told"), ("terminate", "normal"), ("terminate", OOPS)]


# ---- inline servers


class InlineDoer(Doer):
    inline = True


def inline_server(*args, **kwargs):
    """An inline server that is idle."""
    ref = InlineDoer.start(*args, **kwargs)
    settle(ref)
    return ref


def thread_of(server):
    return Reply(threading.get_ident())


def test_inline_call_runs_on_the_callers_thread(me):
    """The caller would only wait; so it lends its thread. All else is as in any process."""
    ref, caller = inline_server(), Doer.start()
    seen = []

    def look(server):
        seen.append((threading.get_ident(), process.current(), server.sender.ref))

    call(ref, look)
    assert seen == [(threading.get_ident(), ref, me.ref)]
    assert process.current() is me.ref
    here, there = call(caller, lambda _: Reply((threading.get_ident(), call(ref, thread_of))))
    assert here == there


def test_only_servers_that_ask_for_it_run_inline():
    """A handler may block, unless its class says that it never does."""
    ref = Doer.start()
    settle(ref)
    assert call(ref, thread_of) != threading.get_ident()


def test_inline_calls_keep_the_order():
    """What one sender sent comes in that order, whichever way it went. CIC-23."""
    journal = Journal()
    ref = inline_server()
    for number in range(100):
        cast(ref, lambda server, number=number: journal("cast", number))
        process.send(ref, lambda server, number=number: journal("info", number))
        call(ref, lambda server, number=number: journal("call", number))
    assert journal.events == [
        (kind, number) for number in range(100) for kind in ("cast", "info", "call")
    ]


def test_inline_calls_exclude_each_other():
    """One at a time, on whatever threads: a step that is not atomic is safe in a server."""
    ref = inline_server()
    call(ref, lambda server: setattr(server, "count", 0))

    def step(server):
        count = server.count
        threading.Event().wait(0)  # Anybody may run now.
        server.count = count + 1

    def steps():
        for _ in range(100):
            call(ref, step)
            cast(ref, step)

    threads = [threading.Thread(target=steps) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT * 4)
    assert call(ref, lambda server: Reply(server.count)) == 800


def test_inline_depth_is_bounded():
    """A long chain of servers goes on on other threads, before the stack is full."""
    length = 5 * MAX_INLINE_DEPTH
    refs = [inline_server() for _ in range(length)]

    def pass_on(place):
        def run(server):
            rest = call(refs[place + 1], pass_on(place + 1)) if place + 1 < length else []
            return Reply([threading.get_ident(), *rest])

        return run

    threads = call(refs[0], pass_on(0))
    assert len(threads) == length
    assert threads[:MAX_INLINE_DEPTH] == [threading.get_ident()] * MAX_INLINE_DEPTH
    assert threads.count(threading.get_ident()) == MAX_INLINE_DEPTH


@ends
def test_inline_server_that_ends(me, end, reason):
    """On its caller's thread, with the same reasons and errors. CALL-14, CALL-20."""
    ref = InlineDoer.start_link()
    settle(ref)
    error = failure_of(ref, end)
    assert error.reason == reason
    assert me.receive(Exit, WAIT) == Exit(ref, reason)
    assert process.current() is me.ref
    with pytest.raises(NoProcess):
        call(ref, lambda server: None)


def test_linked_caller_dies_with_an_inline_server(me):
    """It is dead before its call returns, and its code is told so. CALL-25."""
    journal = Journal()
    caller = Doer.start_link()

    def ask(server):
        ref = InlineDoer.start_link()
        settle(ref)
        try:
            call(ref, raises)
        except CallExit:
            journal("caught")
        except ProcessExit as error:
            journal("died", error.reason)
            raise

    cast(caller, ask)
    assert me.receive(Exit, WAIT) == Exit(caller, OOPS)
    journal.wait_for("died", OOPS)


def test_kill_in_an_inline_handler(me):
    """Dead at once for all; only its caller, whose thread is in there, learns it on return."""
    gate = Gate()
    ref = inline_server(name="inline")
    watch = process.monitor(ref)
    thread, outcome = in_thread(lambda: call(ref, lambda server: gate(), timeout=None))
    gate.reached()
    queued = send_request(ref, lambda server: None)
    process.exit(ref, "kill")
    assert not process.is_alive(ref)
    assert process.whereis("inline") is None
    assert me.receive(Down, WAIT) == Down(watch, ref, "killed")
    assert queued.check()
    with pytest.raises(CallExit) as error:
        queued.receive()
    assert error.value.reason == "killed"
    with pytest.raises(NoProcess):
        call(ref, lambda server: None)
    assert outcome == []
    gate.open()
    thread.join(WAIT)
    assert type(outcome[0]) is CallExit
    assert outcome[0].reason == "killed"


def test_kill_in_a_library_wait_of_an_inline_handler():
    """There it is woken, and its caller is free at once."""
    gate = Gate()
    ref = inline_server()
    thread, outcome = in_thread(lambda: call(ref, lambda server: gate(library=True), timeout=None))
    gate.reached()
    process.exit(ref, "boom")
    thread.join(WAIT)
    assert type(outcome[0]) is CallExit
    assert outcome[0].reason == "boom"


def test_caller_that_dies_in_an_inline_call(me):
    """Dead at once for all others; the handler ends undisturbed, and its caller too."""
    spinning, release, journal = threading.Event(), [], Journal()
    ref = inline_server()
    caller = Doer.start_link()

    def spin(server):
        spinning.set()
        count = 0
        while not release:  # Plain code, such as a leftover would be unwound in.
            count += 1
        journal("handled")
        return Reply(count)

    def ask(server):
        try:
            call(ref, spin, timeout=None)
        except ProcessExit as error:
            journal("died", error.reason)
            raise
        journal("went on")

    cast(caller, ask)
    assert spinning.wait(WAIT)
    process.exit(caller, "kill")
    assert not process.is_alive(caller)
    assert me.receive(Exit, WAIT) == Exit(caller, "killed")
    threading.Event().wait(NEVER)
    assert journal.events == []
    release.append(True)
    journal.wait_for("died", "killed")
    assert journal.events == ["handled", ("died", "killed")]
    assert call(ref, lambda server: Reply("alive")) == "alive"


class DeadlyToken:
    """The right to run a process; whoever tries to take it has somebody killed first."""

    def __init__(self, token, victim):
        self.token, self.victim = token, victim
        self.release, self.locked = token.release, token.locked

    def acquire(self, *args):
        killer = threading.Thread(target=process.exit, args=(self.victim, "kill"))
        killer.start()
        killer.join()
        return self.token.acquire(*args)


def test_caller_that_died_sends_no_inline_call(me):
    """Nothing that a process sends comes after its death, on no way. SIG-10."""
    journal = Journal()
    ref = inline_server()
    inbox = ref.actor_inbox
    caller = Doer.start_link()
    token, inbox.token = inbox.token, DeadlyToken(inbox.token, caller)
    cast(caller, lambda server: call(ref, lambda server: journal("called")))
    assert me.receive(Exit, WAIT) == Exit(caller, "killed")
    inbox.token = token
    assert call(ref, lambda server: Reply("alive")) == "alive"
    assert journal.events == []


def test_then_of_an_inline_call_runs_on_a_worker(me):
    """The caller has its answer; what comes next is not its work. CALL-04."""
    gate, journal = Gate(), Journal()
    ref = inline_server(journal=journal)

    def work(server):
        gate()
        journal("worked", threading.get_ident() == here)

    here = threading.get_ident()
    assert call(ref, lambda server: Reply("answer", then=Continue(work))) == "answer"
    gate.reached()
    later = send_request(ref, lambda server: journal("later"))
    gate.open()
    later.receive(WAIT)
    assert journal.events == [("worked", False), "later"]
    assert call(ref, lambda server: Reply("tick", then=Timeout(0.02))) == "tick"
    journal.wait_for("info", TIMEOUT)
    assert call(ref, lambda server: Reply("tick", then=Timeout(0))) == "tick"
    wait_until(lambda: journal.events.count(("info", TIMEOUT)) == 2)


def test_suspended_inline_server_is_called_through_its_mailbox():
    """It handles nothing until it is resumed, on nobody's thread."""
    journal = Journal()
    ref = inline_server()
    debug.suspend(ref)
    with pytest.raises(CallTimeout):
        call(ref, lambda server: journal("done"), timeout=0.01)
    assert journal.events == []
    debug.resume(ref)
    assert call(ref, lambda server: Reply(list(journal.events))) == ["done"]
    settle(ref)
    assert call(ref, thread_of) == threading.get_ident()


def test_busy_inline_server_is_called_through_its_mailbox():
    """Who comes while it runs waits, with the timeout it gave."""
    gate = Gate()
    ref = inline_server()
    cast(ref, lambda server: gate())
    gate.reached()
    with pytest.raises(CallTimeout):
        call(ref, lambda server: None, timeout=0.01)
    request = send_request(ref, thread_of)
    gate.open()
    assert request.receive(WAIT) != threading.get_ident()


def test_starting_inline_server_is_called_through_its_mailbox():
    """init comes first, whoever knows the name already."""
    gate = Gate()
    starter, start = in_thread(lambda: InlineDoer.start(lambda server: gate(), name="starting"))
    gate.reached()
    caller, outcome = in_thread(lambda: call("starting", thread_of))
    with pytest.raises(CallTimeout):
        call("starting", lambda server: None, timeout=0.01)
    gate.open()
    starter.join(WAIT)
    caller.join(WAIT)
    assert start == [process.whereis("starting")]
    assert outcome[0] not in (threading.get_ident(), caller.ident)


def test_inline_server_whose_init_fails():
    """Whoever called it meanwhile is told why."""
    gate = Gate()

    def init(server):
        gate()
        return Stop("r")

    starter, start = in_thread(lambda: InlineDoer.start(init, name="starting"))
    gate.reached()
    request = send_request("starting", lambda server: None)
    gate.open()
    starter.join(WAIT)
    assert isinstance(start[0], StartError)
    with pytest.raises(CallExit) as error:
        request.receive(WAIT)
    assert error.value.reason == "r"


def test_inline_server_answers_later():
    """Then the caller waits, as for any server. CALL-05."""
    ref = inline_server()
    thread, outcome = in_thread(lambda: call(ref, keep))
    wait_until(lambda: call(ref, lambda server: Reply(hasattr(server, "kept"))))
    assert outcome == []
    cast(ref, answer("later"))
    thread.join(WAIT)
    assert outcome == ["later"]


def test_inline_server_that_calls_itself_or_others():
    """A handler on a lent thread is the server's: it can call others, and not itself. TMO-09."""
    ref, other = inline_server(), Doer.start()
    assert call(ref, lambda _: Reply(call(other, lambda s: Reply(s.sender.ref)))) is ref

    def ask(server):
        with pytest.raises(CallingSelf):
            call(ref, "request")
        return Reply("refused")

    assert call(ref, ask) == "refused"


def test_inline_servers_that_call_each_other():
    """The inner call finds its server busy, and times out. TMO-10."""
    one, other = inline_server(), inline_server()

    def ask_back(server):
        with pytest.raises(CallTimeout):
            call(one, lambda server: None, timeout=0.01)
        return Reply("timed out")

    assert call(one, lambda server: Reply(call(other, ask_back))) == "timed out"


def test_inline_handler_receives_its_own_mail(me):
    """`receive` on a lent thread reads the server's mailbox, not the caller's."""
    ref = inline_server()
    process.send(me.ref, "the caller's")

    def read(server):
        with pytest.raises(ReceiveTimeout):
            process.receive(timeout=0)
        return Reply("nothing")

    assert call(ref, read) == "nothing"
    assert me.receive(timeout=WAIT) == "the caller's"


def test_inline_handler_has_its_servers_context():
    """Not its caller's: the same handler finds the same settings, wherever it runs."""
    setting = contextvars.ContextVar("setting", default="unset")
    ref = inline_server(lambda server: (setting.set("server's"), Ok())[1])
    setting.set("caller's")
    assert call(ref, lambda server: Reply(setting.get())) == "server's"
    call(ref, lambda server: setting.set("changed") and None)
    assert setting.get() == "caller's"
    assert call(ref, lambda server: Reply(setting.get())) == "changed"


def test_inline_handler_that_takes_long_is_logged(log_events):
    """It broke its word: its callers could not be reached meanwhile. Said ever more rarely."""
    ref = inline_server()

    def overrun(server):
        threading.Event().wait(0.05)

    for _ in range(5):
        call(ref, overrun)
    events = [event for event in log_events if event["event"] == "inline_overrun"]
    assert events[0]["process"] == str(ref)
    assert events[0]["seconds"] >= 0.05
    assert "overrun" in events[0]["request"]
    assert events[0]["log_level"] == "warning"
    for before, after in itertools.pairwise(events):
        assert after["seconds"] > 2 * before["seconds"]


@pytest.mark.parametrize("attached", [False, True])
def test_ctrl_c_in_an_inline_handler_on_the_main_thread(attached):
    """The user wants the program to stop: the server ends, and the caller is interrupted too."""
    assert threading.current_thread() is threading.main_thread()
    journal = Journal()
    ref = inline_server(journal=journal)
    bystander = Doer.start()

    def interrupted(server):
        signal.raise_signal(signal.SIGINT)
        while True:  # Python delivers it between two steps of this loop.
            journal.events

    def ask():
        with pytest.raises(KeyboardInterrupt):
            call(ref, interrupted)

    if attached:
        with process.attach() as me:
            watch = process.monitor(ref)
            ask()
            down = me.receive(Down, WAIT)
            assert down.monitor is watch
            assert type(down.reason) is KeyboardInterrupt
            assert process.current() is me.ref
    else:
        ask()
        assert process.current() is None
    assert not process.is_alive(ref)
    [(word, reason)] = journal.events
    assert word == "terminate"
    assert type(reason) is KeyboardInterrupt
    assert call(bystander, lambda server: Reply("alive")) == "alive"


def test_ctrl_c_in_an_inline_handler_that_answers_all_the_same_is_no_answer():
    """`terminate` may answer what the server owes; the user still wants the program to stop."""

    class Owing(GenServer):
        inline = True

        def handle_call(self, request, sender):
            self.sender = sender
            signal.raise_signal(signal.SIGINT)
            return NoReply()

        def terminate(self, reason):
            reply(self.sender, "done")

    with pytest.raises(KeyboardInterrupt):
        call(Owing.start(), "any")


def test_interrupt_raised_in_an_inline_handler_on_a_worker():
    """There it is nobody's Ctrl-C: it ends its own process, and the caller gets an error."""
    ref, caller = inline_server(), Doer.start()

    def interrupt(server):
        raise KeyboardInterrupt

    error = call(caller, lambda server: Reply(failure_of(ref, interrupt)))
    assert type(error.reason) is KeyboardInterrupt
    assert not process.is_alive(ref)
    assert process.is_alive(caller)


def test_system_exit_in_an_inline_handler_ends_the_server_alone():
    """sys.exit() in a server is not the program's. CALL-15."""
    ref = inline_server()

    def leave(server):
        raise SystemExit(3)

    assert type(failure_of(ref, leave).reason) is SystemExit
    assert not process.is_alive(ref)


def test_many_callers_of_one_inline_server():
    """Each gets its own answer, whichever way its call went."""
    ref = inline_server()
    wrong = []

    def ask(caller):
        for number in range(200):
            value = (caller, number)
            if call(ref, lambda server, value=value: Reply(value)) != value:
                wrong.append(value)
        return "done"

    runs = [in_thread(lambda caller=caller: ask(caller)) for caller in range(4)]
    for thread, outcome in runs:
        thread.join(WAIT * 4)
        assert outcome == ["done"]
    assert wrong == []


def test_request_to_an_idle_inline_server_is_handled_at_once():
    """send_request lends its thread as call does; who is busy gets the request into its mailbox."""
    ref = inline_server()
    request = send_request(ref, thread_of)
    assert request.check()
    assert request.receive(WAIT) == threading.get_ident()


def test_request_to_an_inline_server_may_be_answered_later():
    """NoReply leaves the request open, whoever's thread ran the handler."""
    ref = inline_server()
    kept = []
    request = send_request(ref, lambda server: (kept.append(server.sender), NoReply())[1])
    assert not request.check()
    reply(kept[0], "later")
    assert request.receive(WAIT) == "later"


def test_request_that_ends_an_inline_server_fails_and_harms_nobody(me):
    """The sender's thread ran the handler; its end is the server's alone."""
    ref = inline_server()
    request = send_request(ref, lambda server: Stop("over"))
    assert not process.is_alive(ref)
    with pytest.raises(CallExit) as caught:
        request.receive(WAIT)
    assert caught.value.reason == "over"
    assert process.current() is me.ref


def test_call_of_a_handler_that_forgot_its_answer_says_what_was_expected():
    """Nobody is to look up what ('bad_return_value', None) means."""

    class Forgetful(GenServer):
        def handle_call(self, request, sender):
            pass

    with pytest.raises(CallExit, match="returned None, expected Reply, NoReply or Stop$") as error:
        call(Forgetful.start(), 1)
    assert error.value.reason == ("bad_return_value", None)


def test_calls_and_stops_wait_no_longer_than_said():
    """Who gives up after a moment goes on after a moment. TMO-02, TMO-05, STOP-04."""
    gate = Gate()
    ref = Doer.start()
    cast(ref, lambda server: gate())
    gate.reached()
    for act in (
        lambda: call(ref, "x", 0),
        lambda: call(ref, "x", 0.05),
        lambda: stop(ref, timeout=0.05),
    ):
        began = time.monotonic()
        with pytest.raises(CallTimeout):
            act()
        assert time.monotonic() - began < 3.0
    gate.open()


def test_continue_of_an_inline_call_runs_before_what_came_meanwhile():
    """It is the server's very next step, on whatever thread that is. CIC-12."""
    journal = Journal()
    ref = InlineDoer.start(None, journal)
    settle(ref)

    def act(server):
        process.send(ref, "queued")
        return Reply(1, then=Continue("next"))

    call(ref, act)
    journal.wait_for("info", "queued")
    assert journal.events == [("continue", "next"), ("info", "queued")]


class Quiet(GenServer):
    """Inline, and without a terminate: it may be called and stopped on its caller's thread."""

    inline = True

    def init(self, journal):
        self.journal = journal
        return Ok()

    def handle_call(self, request, sender):
        request(self)
        return Reply(None)

    def handle_info(self, message):
        self.journal(message)


@pytest.mark.parametrize("act", ["call", "stop"])
def test_inline_call_and_stop_do_not_overtake_mail_whose_sender_was_slow(act):
    """It was sent before, though nobody runs the server yet. CIC-23, STOP-03."""
    journal = Journal()
    ref = Quiet.start(journal)
    settle(ref)
    ref._inbox.items.append("first")  # Its sender has not looked for the token yet.
    if act == "call":
        call(ref, lambda server: server.journal("second"))
    else:
        stop(ref)
    assert journal.events[0] == "first"


@pytest.mark.parametrize("answer", [lambda: Reply("late"), lambda: NoReply()])
def test_current_caller_is_told_why_whoever_clears_up(answer):
    """The killer is at the names still when the callback ends: its answer must not win. CALL-27."""
    busy, freeing = Gate(), Gate()

    ref = Doer.start()
    SlowTable(freeing).register("key", ref._inbox)

    def handle(server):
        busy()
        return answer()

    request = send_request(ref, handle)
    busy.reached()
    killer = threading.Thread(target=process.exit, args=(ref, "kill"))
    killer.start()
    freeing.reached()
    busy.open()
    wait_until(ref._inbox.is_buried)
    freeing.open()
    killer.join(WAIT)
    with pytest.raises(CallExit) as error:
        request.receive(WAIT)
    assert error.value.reason == "killed"
