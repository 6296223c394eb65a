"""Casts, other messages, continues and idle timeouts: what needs no answer, and in which order."""

import copy
import pickle
import threading

import pytest

from elsa_actors import (
    TIMEOUT,
    CallExit,
    Continue,
    Down,
    Exit,
    GenServer,
    Hibernate,
    Ignore,
    NoReply,
    Ok,
    Reply,
    Stop,
    Timeout,
    call,
    cast,
    debug,
    process,
    send_request,
    stop,
)
from elsa_actors.runtime.clock import clock
from tests.otp.supervised import until
from tests.servers import NEVER, WAIT, Doer, Gate, Journal, Oops, nothing_comes

OOPS = Oops("message")


def raises(server):
    raise OOPS


def exits(server):
    process.exit_self("boom")


# The ways in which a server is made to do something, without anybody waiting for an answer.


def by_cast(ref, act):
    cast(ref, act)


def by_info(ref, act):
    process.send(ref, act)


def by_continue(ref, act):
    cast(ref, lambda server: NoReply(then=Continue(act)))


def by_continue_of_a_call(ref, act):
    call(ref, lambda server: Reply(None, then=Continue(act)))


def by_timeout(ref, act):
    cast(ref, lambda server: (server.at_timeout.append(act), NoReply(then=Timeout(0)))[1])


WAYS = [by_cast, by_info, by_continue, by_continue_of_a_call, by_timeout]
ways = pytest.mark.parametrize("way", WAYS)


class Actor(Doer):
    """A Doer that also acts at its idle timeout, and ends with its state in the journal."""

    def init(self, *args, **kwargs):
        self.at_timeout = []
        return super().init(*args, **kwargs)

    def handle_info(self, message):
        if message is TIMEOUT and self.at_timeout:
            return self.at_timeout.pop()(self)
        return super().handle_info(message)

    def terminate(self, reason):
        self.journal("terminate", reason, self.state)


def wait_until(condition):
    """Poll a condition that no event tells of."""
    pause = threading.Event()
    for _ in range(int(WAIT / 0.005)):
        if condition():
            return
        pause.wait(0.005)
    pytest.fail("it did not come true")


def idle(ref):
    """Wait until a server has handled all that came so far, and runs no more."""
    wait_until(lambda: process.info(ref)["message_queue_len"] == 0)
    wait_until(lambda: process.info(ref)["status"] == "idle")


class Timers:
    """The program's clock in the hand of the test: time passes when it says so."""

    def __init__(self):
        self.now = 0.0
        self.timers = []

    def call_later(self, seconds, action):
        timer = FakeTimer(self.now + seconds, action)
        self.timers.append(timer)
        return timer

    def advance(self, seconds):
        self.now += seconds
        due = [timer for timer in self.timers if timer.due <= self.now + 1e-9]
        self.timers = [timer for timer in self.timers if timer not in due]
        for timer in due:
            if not timer.cancelled:
                timer.action()


class FakeTimer:
    def __init__(self, due, action):
        self.due, self.action, self.cancelled = due, action, False

    def cancel(self):
        was, self.cancelled = self.cancelled, True
        return not was


@pytest.fixture
def timers(monkeypatch):
    """Idle timeouts run out when the test says `timers.advance(seconds)`."""
    timers = Timers()
    monkeypatch.setattr(clock, "call_later", timers.call_later)
    return timers


# ---- casts and other messages


def test_cast_returns_at_once():
    """Whether the server has time is not the sender's concern. CIC-01."""
    gate, journal = Gate(), Journal()
    ref = Doer.start()
    cast(ref, lambda server: gate())
    gate.reached()
    assert cast(ref, lambda server: journal("done")) is None
    assert journal.events == []
    gate.open()
    journal.wait_for("done")


@pytest.mark.parametrize("answer", [None, NoReply(), NoReply(None), NoReply(Hibernate())])
@ways
def test_state_is_kept(way, answer):
    """What a handler did to the state is there for the next, None meaning NoReply(). CIC-01."""
    ref = Actor.start()

    def change(server):
        server.state = (server.state or 0) + 1
        return answer

    for _ in range(2):
        way(ref, change)
        idle(ref)
    assert call(ref, lambda server: Reply(server.state)) == 2


def test_subclasses_of_results_are_results(me):
    """A team may give an answer a name of its own."""

    class Done(NoReply):
        pass

    class Bye(Stop):
        pass

    ref = Doer.start_link()
    cast(ref, lambda server: Done())
    assert call(ref, lambda server: Reply("alive")) == "alive"
    cast(ref, lambda server: Bye("bye"))
    assert me.receive(Exit, WAIT) == Exit(ref, "bye")


@ways
def test_idle_timeout(way):
    """Every callback may ask for a tick when nothing comes. CIC-02, CIC-06, CIC-16."""
    journal = Journal()
    ref = Actor.start(journal=journal)
    way(ref, lambda server: NoReply(then=Timeout(0.02)))
    journal.wait_for("info", TIMEOUT)


@pytest.mark.parametrize("reason", ["r", "normal", "shutdown", OOPS, ("any", "term")])
@ways
def test_stop(me, way, reason):
    """The state that the callback left is what terminate cleans up. CIC-03, CIC-06, CIC-14."""
    journal = Journal()
    ref = Actor.start_link(lambda server: Ok("old"), journal)

    def end(server):
        server.state = "new"
        return Stop(reason)

    way(ref, end)
    assert me.receive(Exit, WAIT) == Exit(ref, reason)
    assert journal.events == [("terminate", reason, "new")]


WRONG = [
    Reply("a"),
    Ok(),
    Ignore(),
    Stop("r", reply=1),
    Stop("r", reply=None),
    NoReply("bogus"),
    NoReply(Timeout(-1)),
    NoReply(Timeout(None)),
    NoReply,
    "ok",
    True,
    ("noreply", "state"),
]


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
@ways
def test_wrong_answer(me, way, wrong):
    """Nobody asked, so there is nothing to reply to, and nothing else means anything.

    The state is the one from before. CIC-04, CIC-07, CIC-15, TERM-05.
    """
    journal = Journal()
    ref = Actor.start_link(lambda server: Ok("old"), journal)

    def answer(server):
        server.state = "new"
        return wrong

    way(ref, answer)
    assert me.receive(Exit, WAIT) == Exit(ref, ("bad_return_value", wrong))
    assert journal.events == [("terminate", ("bad_return_value", wrong), "old")]


@pytest.mark.parametrize(("end", "reason"), [(raises, OOPS), (exits, "boom")])
@ways
def test_raise_ends_the_server_with_its_old_state(me, way, end, reason):
    """A callback that failed has changed nothing that terminate need know of; other attributes
    stay. CIC-08, TERM-02, TERM-03.
    """
    journal, servers = Journal(), []
    bystander = Doer.start()
    ref = Actor.start_link(lambda server: Ok("old"), journal)

    def fail(server):
        servers.append(server)
        server.state = "new"
        server.attribute = "new"
        return end(server)

    way(ref, fail)
    assert me.receive(Exit, WAIT) == Exit(ref, reason)
    assert journal.events == [("terminate", reason, "old")]
    assert servers[0].attribute == "new"
    assert process.is_alive(bystander)


def test_state_before_is_the_callbacks_own(me):
    """What an earlier callback changed is kept: only the failed one is undone. CIC-13, TERM-06."""
    journal = Journal()
    ref = Actor.start_link(lambda server: Ok("old"), journal)

    def change(server):
        server.state = "changed"
        return NoReply(then=Continue(fail))

    def fail(server):
        server.state = "lost"
        raise OOPS

    cast(ref, change)
    assert me.receive(Exit, WAIT) == Exit(ref, OOPS)
    assert journal.events == [("terminate", OOPS, "changed")]


class Silent(GenServer):
    """A server that has no callback at all."""

    def handle_call(self, request, sender):
        return Reply(request, then=Continue("unasked") if request == "continue" else None)


def test_no_handle_info(log_events):
    """A message that a server does not expect is logged and dropped. CIC-09."""
    ref = Silent.start(name="silent")
    process.send(ref, ("odd", 1))
    assert call(ref, "alive") == "alive"
    [event] = [event for event in log_events if event["event"] == "unexpected_message"]
    assert event["process"] == "silent"
    assert event["message"] == "('odd', 1)"
    assert event["log_level"] == "warning"


def test_no_handle_cast(me):
    """A cast is meant for this very server: one that takes none ends loudly. CIC-10."""
    ref = Silent.start_link(name="silent")
    cast("silent", "hello")
    reason = me.receive(Exit, WAIT).reason
    assert isinstance(reason, RuntimeError)
    assert str(reason) == "attempted to cast Silent silent 'hello', but it has no handle_cast"
    assert not process.is_alive(ref)


def test_no_handle_continue(me):
    """So does one that goes on with what it cannot do."""
    ref = Silent.start_link(name="silent")
    assert call(ref, "continue") == "continue"
    reason = me.receive(Exit, WAIT).reason
    assert isinstance(reason, RuntimeError)
    assert str(reason) == "Silent silent said Continue('unasked'), but it has no handle_continue"


def test_handle_info_with_a_mistake_in_it(me):
    """The default for no handle_info hides no error in one that is there. CIC-11."""

    class Mistaken(GenServer):
        def handle_info(self, message):
            self.no_such_method(message)

    ref = Mistaken.start_link()
    process.send(ref, "hello")
    reason = me.receive(Exit, WAIT).reason
    assert isinstance(reason, AttributeError)
    assert reason.name == "no_such_method"


@pytest.mark.parametrize("error_type", [KeyboardInterrupt, SystemExit])
@ways
def test_what_is_no_exception_ends_its_process_alone(me, way, error_type):
    """sys.exit() in a callback is that process's end, not the program's. CIC-08."""
    bystander = Doer.start()
    ref = Actor.start_link()

    def end(server):
        raise error_type

    way(ref, end)
    assert type(me.receive(Exit, WAIT).reason) is error_type
    assert call(bystander, lambda server: Reply("alive")) == "alive"


def test_messages_of_one_sender_keep_their_order():
    """Casts, calls, requests and plain messages stand in one queue. CIC-23."""
    journal = Journal()
    ref = Doer.start()
    for number in range(0, 400, 4):
        cast(ref, lambda server, number=number: journal(number))
        process.send(ref, lambda server, number=number: journal(number + 1))
        send_request(ref, lambda server, number=number: journal(number + 2))
        ref.tell(lambda server, number=number: journal(number + 3))
    call(ref, lambda server: None)
    assert journal.events == list(range(400))


def test_messages_of_several_senders_keep_each_ones_order():
    """Between senders there is no order, but each one's own is kept. CIC-23."""
    journal = Journal()
    ref = Doer.start()

    def send_all(sender):
        for number in range(200):
            cast(ref, lambda server, number=number: journal(sender, number))

    senders = [Doer.start() for _ in range(4)]
    for sender in senders:
        cast(sender, lambda server, sender=sender: send_all(sender))
    for sender in senders:
        call(sender, lambda server: None)
    call(ref, lambda server: None)
    assert len(journal.events) == 800
    for sender in senders:
        assert [n for who, n in journal.events if who is sender] == list(range(200))


# ---- continue


def by_call(ref, act):
    send_request(ref, lambda server: (act(server), Reply(None, then=Continue("next")))[1])


def by_noreply(ref, act):
    send_request(ref, lambda server: (act(server), NoReply(then=Continue("next")))[1])


def by_cast_then(ref, act):
    cast(ref, lambda server: (act(server), NoReply(then=Continue("next")))[1])


def by_info_then(ref, act):
    process.send(ref, lambda server: (act(server), NoReply(then=Continue("next")))[1])


def by_continue_then(ref, act):
    by_continue(ref, lambda server: (act(server), NoReply(then=Continue("next")))[1])


@pytest.mark.parametrize("way", [by_call, by_noreply, by_cast_then, by_info_then, by_continue_then])
def test_continue_runs_before_everything_queued(way):
    """A step that belongs to this message is done before the next one is looked at. CIC-12."""
    gate, journal = Gate(), Journal()
    ref = Doer.start(journal=journal)
    way(ref, lambda server: gate())
    gate.reached()
    cast(ref, lambda server: journal("cast"))
    process.send(ref, "queued")
    gate.open()
    journal.wait_for("info", "queued")
    assert journal.events == [("continue", "next"), "cast", ("info", "queued")]


def test_continues_in_a_row():
    """Each sees what the last one left, and none is overtaken. CIC-13."""
    journal = Journal()

    def step(number):
        def run(server):
            server.state.append(number)
            return NoReply(then=Continue(step(number + 1)) if number < 200 else None)

        return run

    ref = Doer.start(lambda server: Ok([], then=Continue(step(0))), journal)
    states = call(ref, lambda server: Reply(server.state))
    assert states == list(range(201))


# ---- idle timeouts


def test_timeout_is_a_value_of_its_own():
    """No message of a user's is taken for it, and it stays itself when copied."""
    assert TIMEOUT != "timeout"
    assert copy.deepcopy(TIMEOUT) is TIMEOUT
    assert pickle.loads(pickle.dumps(TIMEOUT)) is TIMEOUT
    assert repr(TIMEOUT) == "TIMEOUT"


def test_timeout_that_a_user_sent():
    """It is handled as if the time had run out. CIC-21."""
    journal = Journal()
    ref = Doer.start(journal=journal)
    process.send(ref, TIMEOUT)
    journal.wait_for("info", TIMEOUT)


class Proxied(Doer):
    def touch(self):
        pass


def from_another(ref):
    """A Down of another process."""
    other = Doer.start()
    call(ref, lambda server: (process.monitor(other), Reply(None, then=Timeout(10)))[1])
    stop(other)
    idle(ref)


MESSAGES = {
    "call": lambda ref: call(ref, lambda server: None),
    "cast": lambda ref: cast(ref, lambda server: None),
    "info": lambda ref: process.send(ref, "unrelated"),
    "ask": lambda ref: ref.ask(lambda server: None),
    "tell": lambda ref: ref.tell("unrelated"),
    "proxied call": lambda ref: ref.proxy().touch().get(timeout=WAIT),
    "proxied attribute": lambda ref: ref.proxy().label.get(timeout=WAIT),
    "deferred call": lambda ref: ref.proxy().touch.defer(),
    "exit": lambda ref: process.exit(ref, "unrelated"),
    "down": from_another,
}


@pytest.mark.parametrize("send", MESSAGES.values(), ids=MESSAGES)
def test_any_message_cancels_the_idle_timeout(timers, send):
    """Idle means that nothing came: a message ends the wait for good. CIC-17, CIC-19."""
    journal = Journal()
    ref = Proxied.start(lambda server: Ok(then=Timeout(10)), journal, trap=True)
    idle(ref)
    [armed] = timers.timers
    timers.advance(9.9)
    send(ref)
    idle(ref)
    timers.advance(1000)
    armed.action()  # It was running out in this very moment.
    idle(ref)
    assert ("info", TIMEOUT) not in journal.events
    assert armed.cancelled


def test_new_answer_arms_the_idle_timeout_again(timers):
    """Only what the last callback said counts. CIC-17."""
    journal = Journal()
    ref = Doer.start(lambda server: Ok(then=Timeout(10)), journal)
    idle(ref)
    timers.advance(5)
    cast(ref, lambda server: NoReply(then=Timeout(20)))
    idle(ref)
    timers.advance(19)
    idle(ref)
    assert journal.events == []
    timers.advance(1)
    journal.wait_for("info", TIMEOUT)
    timers.advance(1000)
    idle(ref)
    assert journal.events == [("info", TIMEOUT)]


def test_queued_message_beats_a_timeout_of_zero():
    """A server with mail is not idle. CIC-18, CIC-19."""
    gate, journal = Gate(), Journal()
    ref = Doer.start(journal=journal)
    cast(ref, lambda server: (gate(), NoReply(then=Timeout(0)))[1])
    gate.reached()
    process.send(ref, "queued")
    gate.open()
    journal.wait_for("info", "queued")
    threading.Event().wait(NEVER)
    assert journal.events == [("info", "queued")]


def test_queued_message_beats_a_short_timeout():
    """However long the message before it took. CIC-17."""
    gate, journal = Gate(), Journal()
    ref = Doer.start(journal=journal)
    cast(ref, lambda server: (gate(), NoReply(then=Timeout(0.02)))[1])
    process.send(ref, "queued")
    gate.open()
    journal.wait_for("info", "queued")
    threading.Event().wait(NEVER)
    assert journal.events == [("info", "queued")]


def test_system_message_does_not_beat_a_timeout_of_zero():
    """Who looks in disturbs nothing: the tick still comes. CIC-20."""
    gate, journal = Gate(), Journal()
    ref = Doer.start(lambda server: Ok("state"), journal)
    seen = []
    cast(ref, lambda server: (gate(), NoReply(then=Timeout(0)))[1])
    gate.reached()
    looking = threading.Thread(target=lambda: seen.append(debug.get_state(ref)))
    looking.start()
    wait_until(lambda: process.info(ref)["message_queue_len"] == 1)
    gate.open()
    looking.join(WAIT)
    assert seen == ["state"]
    journal.wait_for("info", TIMEOUT)
    threading.Event().wait(NEVER)
    assert journal.events == [("info", TIMEOUT)]


def test_idle_timeout_that_ran_out_too_late_does_not_beat_a_timeout_of_zero(timers):
    """What is left of a cancelled timeout is no message. CIC-18."""
    gate, journal = Gate(), Journal()
    ref = Doer.start(lambda server: Ok(then=Timeout(10)), journal)
    idle(ref)
    [armed] = timers.timers
    cast(ref, lambda server: (gate(), NoReply(then=Timeout(0)))[1])
    gate.reached()
    armed.action()
    gate.open()
    journal.wait_for("info", TIMEOUT)
    idle(ref)
    assert journal.events == [("info", TIMEOUT)]


def test_system_message_starts_the_idle_timeout_over(timers):
    """It does not cancel, but the full time counts from it. CIC-20."""
    journal = Journal()
    ref = Doer.start(lambda server: Ok("state", then=Timeout(10)), journal)
    idle(ref)
    timers.advance(6)
    assert debug.get_state(ref) == "state"
    timers.advance(9)
    idle(ref)
    assert journal.events == []
    timers.advance(1)
    journal.wait_for("info", TIMEOUT)


@pytest.mark.parametrize("seconds", [10, 0])
def test_idle_timeout_of_a_suspended_server(timers, seconds):
    """While it is suspended nothing runs out; resumed, it waits its full time again. CIC-20."""
    journal = Journal()
    ref = Doer.start(journal=journal)
    debug.suspend(ref)
    cast(ref, lambda server: NoReply(then=Timeout(seconds)))
    debug.resume(ref)
    if seconds:
        idle(ref)
        debug.suspend(ref)
        timers.advance(100)
        assert debug.get_state(ref) is None
        assert journal.events == []
        debug.resume(ref)
        timers.advance(9)
        idle(ref)
        assert journal.events == []
        timers.advance(1)
    journal.wait_for("info", TIMEOUT)
    idle(ref)
    assert journal.events == [("info", TIMEOUT)]


def test_message_that_waited_for_a_resume_cancels_the_idle_timeout(timers):
    """It came before the time ran out, though it is handled later. CIC-17."""
    journal = Journal()
    ref = Doer.start(lambda server: Ok(then=Timeout(10)), journal)
    debug.suspend(ref)
    process.send(ref, "waited")
    timers.advance(100)
    debug.resume(ref)
    idle(ref)
    timers.advance(1000)
    idle(ref)
    assert journal.events == [("info", "waited")]


def test_idle_timeout_dies_with_its_server(me, timers):
    """Nothing runs out for the dead."""
    ref = Doer.start_link(lambda server: Ok(then=Timeout(10)))
    idle(ref)
    stop(ref)
    assert me.receive(Exit, WAIT) == Exit(ref, "normal")
    assert [timer.cancelled for timer in timers.timers] == [True]


def test_hibernating_server_goes_on_as_before():
    """It is asleep for its memory's sake; a message wakes it like any other. CIC-24."""
    journal = Journal()
    ref = Doer.start(journal=journal)
    for way in (by_cast, by_info, by_continue):
        way(ref, lambda server: NoReply(then=Hibernate()))
    process.send(ref, "hello")
    assert call(ref, lambda server: Reply("alive", then=Hibernate())) == "alive"
    assert call(ref, lambda server: Reply("alive")) == "alive"
    assert journal.events == [("info", "hello")]


# ---- notices


def test_notices_are_messages(me):
    """A server that traps or monitors learns of other ends as of anything else. CIC-06."""
    journal = Journal()
    other = Doer.start()
    ref = Doer.start(journal=journal, trap=True)
    watch = call(ref, lambda server: (process.link(other), Reply(process.monitor(other)))[1])
    process.exit(other, "boom")
    journal.wait_for("info", Exit(other, "boom"))
    journal.wait_for("info", Down(watch, other, "boom"))
    assert len(journal.events) == 2
    assert call(ref, lambda server: Reply("alive")) == "alive"
    assert nothing_comes()


def test_handlers_of_the_dead_do_not_run():
    """What is queued for a killed server is lost, though its code still runs. CALL-29, CIC-12."""
    gate, journal = Gate(), Journal()
    ref = Doer.start(journal=journal)
    cast(ref, lambda server: (gate(), NoReply(then=Continue("next")))[1])
    gate.reached()
    cast(ref, lambda server: journal("cast"))
    process.send(ref, "queued")
    waiting = send_request(ref, lambda server: journal("called"))
    process.exit(ref, "kill")
    gate.open()
    with pytest.raises(CallExit) as error:
        waiting.receive(WAIT)
    assert error.value.reason == "killed"
    threading.Event().wait(NEVER)
    assert journal.events == []


def test_idle_timer_of_a_killed_server_is_cancelled():
    """A timer of an hour would hold the dead for an hour."""
    ref = Doer.start()
    call(ref, lambda server: Reply(1, then=Timeout(3600)))
    until(lambda: not ref._inbox.token.locked())
    timer = ref._inbox.process._idle_timer
    process.exit(ref, "kill")
    until(ref._inbox.is_buried)
    assert timer._action is None
