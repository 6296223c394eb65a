"""What a process can do: messages, waits, what it owns, looking at others; attached threads."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import signal
import subprocess
import sys
import textwrap
import threading
import weakref

import pykka
import pytest

from elsa_actors import (
    Down,
    Exit,
    GenServer,
    NoProcess,
    NotAProcess,
    Ok,
    ProcessExit,
    ReceiveTimeout,
    Reply,
    StartError,
    Stop,
    call,
    cast,
    process,
    send_request,
    stop,
)
from elsa_actors.runtime import actor
from elsa_actors.runtime.clock import clock
from elsa_actors.runtime.names import Named
from elsa_actors.runtime.process import Process
from tests.servers import NEVER, WAIT, Doer, Gate, Journal, Oops, nothing_comes


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


def eventually(fact):
    """Wait until something that nobody announces is so."""
    pause = threading.Event()
    for _ in range(int(WAIT / 0.01)):
        if fact():
            return True
        pause.wait(0.01)
    return False


class Door(Named):
    """A name that something else keeps."""

    ref = None

    def whereis(self):
        return self.ref

    def register(self, ref):
        self.ref = ref

    def unregister(self, ref):
        self.ref = None


class Hearer(Process):
    """A plain process: calls what it is told, and writes down the rest."""

    def __init__(self, journal=None):
        super().__init__()
        self.journal = journal or Journal()

    def on_receive(self, message):
        if callable(message):
            return message()
        self.journal("heard", message)
        return None


@pytest.fixture
def plain_actor():
    class Plain(pykka.ThreadingActor):
        pass

    ref = Plain.start()
    yield ref
    ref.stop()


# ---- current


def test_current_is_the_running_process(me):
    """Everything that runs in a process can say in which. INIT-24."""
    journal = Journal()
    server = Doer.start(lambda server: journal("init", process.current()))
    assert within(server, process.current) is server
    assert journal.events == [("init", server)]
    assert process.current() is me.ref


def test_current_is_none_on_a_plain_thread():
    """A plain thread is no process, and neither is a thread that a process starts."""
    assert process.current() is None
    server = Doer.start()
    assert within(server, lambda: on_a_thread(process.current)) is None


def test_work_that_a_handler_gives_away_is_not_the_process():
    """Context variables travel with the work, being the process does not."""
    server = Doer.start()

    async def ask_in_a_thread():
        return await asyncio.to_thread(process.current)

    assert within(server, lambda: asyncio.run(ask_in_a_thread())) is None
    assert within(server, lambda: contextvars.copy_context().run(process.current)) is server


def test_process_runs_in_a_copy_of_its_starters_context():
    """A request id, a logger's context: set once, they hold for what is started from there, and
    nobody's changes reach anybody else.
    """
    word = contextvars.ContextVar("word", default="unset")
    word.set("starter's")
    journal = Journal()

    def look_and_set(server):
        journal(word.get())
        word.set("server's")

    server = Doer.start(look_and_set)
    word.set("starter's later")
    assert within(server, word.get) == "server's"
    assert word.get() == "starter's later"
    grandchild = within(server, lambda: Doer.start())
    assert within(grandchild, word.get) == "server's"
    within(grandchild, lambda: word.set("grandchild's"))
    assert within(grandchild, word.get) == "grandchild's"
    assert within(server, word.get) == "server's"
    assert journal.events == ["starter's"]


def test_context_follows_a_process_from_thread_to_thread():
    """Thread-locals do not follow a process, context variables do."""
    word = contextvars.ContextVar("word", default="unset")
    server, gate = Doer.start(), Gate()
    first = within(server, lambda: (word.set("kept"), threading.get_ident())[1])
    # Its worker is made to block elsewhere, so that another one runs it.
    blocker = Doer.start()
    cast(blocker, lambda blocker: gate())
    gate.reached()
    seen = [within(server, lambda: (word.get(), threading.get_ident())) for _ in range(3)]
    gate.open()
    assert {value for value, _ in seen} == {"kept"}
    assert isinstance(first, int)


# ---- send, send_after


@pytest.mark.parametrize("name", ["addressed", Door()], ids=["local", "via"])
def test_message_reaches_a_ref_or_a_name(me, name):
    """A letter needs an address, of any kind."""
    journal = Journal()
    server = Doer.start(None, journal, name=name)
    assert process.send(server, 1) is None
    assert process.send(name, 2) is None
    within(server, lambda: None)
    assert journal.events == [("info", 1), ("info", 2)]


def test_message_to_the_dead_is_dropped(me):
    """The sender cannot know, and need not care. DEAD-05."""
    server = Doer.start()
    stop(server)
    assert process.send(server, "late") is None


@pytest.mark.parametrize("name", ["unknown", Door()], ids=["local", "via"])
def test_message_to_an_unknown_name_is_an_error(name):
    """A name that nobody has is a mistake in the address."""
    with pytest.raises(LookupError) as raised:
        process.send(name, "lost")
    assert isinstance(raised.value, NoProcess)
    assert raised.value.reason == "noproc"


@pytest.mark.parametrize("message", [None, 0, False, (), [], Oops(), Stop("x"), Exit(None, "x")])
def test_any_term_is_a_message(me, message):
    """Users' terms are passed on as they are, the same object."""
    process.send(me.ref, message)
    assert process.receive(timeout=0) is message


def test_messages_of_one_sender_keep_their_order(me):
    """What was said first is heard first."""
    sender = Doer.start()
    within(sender, lambda: [process.send(me.ref, n) for n in range(1000)])
    assert [process.receive(timeout=0) for _ in range(1000)] == list(range(1000))


def test_send_after_sends_when_the_time_has_come(me):
    """A reminder comes by mail, in the order of the times, not of the asking."""
    process.send_after(me.ref, "late", 0.2)
    process.send_after(me.ref, "soon", 0.05)
    process.send_after(me.ref, "now", 0)
    process.send(me.ref, "at once")
    assert {process.receive(timeout=WAIT), process.receive(timeout=WAIT)} == {"now", "at once"}
    assert [process.receive(timeout=WAIT) for _ in range(2)] == ["soon", "late"]


def test_send_after_to_a_name_finds_its_holder_when_it_is_due(me):
    """A name is looked up when the message is sent, as with send; nobody there: dropped."""
    process.send_after("later holder", "for the holder", 0.05)
    process.send_after("nobody ever", "for nobody", 0)
    process.register("later holder", me.ref)
    assert process.receive(timeout=WAIT) == "for the holder"
    assert nothing_comes()


def test_send_after_to_the_dead_is_dropped(me):
    """As send."""
    server = Doer.start()
    process.send_after(server, "late", 0.05)
    stop(server)
    process.send_after(server, "later", 0)
    process.send_after(me.ref, "the clock goes on", 0.1)
    assert process.receive(timeout=WAIT) == "the clock goes on"


def test_cancelled_timer_sends_nothing(me):
    """cancel says whether it came in time, so that one knows whether to expect the message."""
    timer = process.send_after(me.ref, "never", 0.05)
    assert timer.cancel() is True
    assert timer.cancel() is False
    done = process.send_after(me.ref, "sent", 0)
    assert process.receive(timeout=WAIT) == "sent"
    assert done.cancel() is False
    assert nothing_comes(timeout=2 * NEVER)


def test_cancel_and_the_clock_agree(me):
    """However close it was: cancelled and never sent, or sent and not cancelled."""
    for n in range(200):
        timer = process.send_after(me.ref, n, 0.0005)
        process.sleep(0.0004)
        if timer.cancel():
            assert nothing_comes(timeout=0.002)
        else:
            assert process.receive(timeout=WAIT) == n


@pytest.mark.parametrize("seconds", [-1, "1", None, float("nan"), True])
def test_send_after_refuses_what_is_no_time(me, seconds):
    """A reminder for no time at all is a mistake."""
    with pytest.raises(ValueError, match="seconds"):
        process.send_after(me.ref, "never", seconds)
    assert nothing_comes()


def test_send_after_outlives_its_sender(me):
    """A reminder that was given away is given away."""
    sender = Doer.start()
    within(sender, lambda: process.send_after(me.ref, "posthumous", 0.1))
    process.exit(sender, "kill")
    assert process.receive(timeout=WAIT) == "posthumous"


# ---- receive


def test_receive_takes_messages_in_the_order_of_arrival(me):
    """Without a wish of one's own, first come, first served."""
    for n in range(3):
        process.send(me.ref, n)
    assert [process.receive() for _ in range(3)] == [0, 1, 2]


def test_receive_is_selective_and_keeps_the_rest_in_order(me):
    """What one does not wait for now is still there when one does."""
    for message in ("a", 1, "b", 2.0, "c", 3):
        process.send(me.ref, message)
    assert process.receive(int) == 1
    assert process.receive(lambda message: message == "c") == "c"
    assert process.receive((float, bytes)) == 2.0
    assert [process.receive(timeout=0) for _ in range(3)] == ["a", "b", 3]
    assert nothing_comes(timeout=0)


def test_what_was_looked_at_keeps_its_place_across_waits(me):
    """A wait that ended in vain, or went on for many messages, has moved nothing."""
    for n in range(3):
        process.send(me.ref, n)
    with pytest.raises(ReceiveTimeout):
        process.receive(str, timeout=0.05)
    sender = Doer.start()
    cast(sender, lambda sender: [process.send(me.ref, n) for n in (3, 4, "wanted", 5)] and None)
    assert process.receive(str, timeout=WAIT) == "wanted"
    assert [process.receive(int, WAIT) for _ in range(6)] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("timeout", [0, 0.05])
def test_receive_gives_up_in_time(me, timeout):
    """Nobody has to wait for ever."""
    process.send(me.ref, "not this one")
    with pytest.raises(ReceiveTimeout) as raised:
        process.receive(int, timeout)
    assert raised.value.reason == "timeout"
    assert isinstance(raised.value, TimeoutError)
    assert process.receive(timeout=0) == "not this one"


@pytest.mark.parametrize("timeout", [-1, "1", float("nan"), True])
def test_receive_refuses_what_is_no_timeout(me, timeout):
    """A wrong time must not become a wait for ever, nor take a message."""
    process.send(me.ref, "still here")
    with pytest.raises(ValueError, match="timeout"):
        process.receive(timeout=timeout)
    assert process.receive(timeout=0) == "still here"


@pytest.mark.parametrize("match", [7, "text", [int]])
def test_receive_refuses_what_is_no_match(me, match):
    """A value is not a pattern: whoever writes one means a predicate."""
    with pytest.raises(TypeError, match="predicate"):
        process.receive(match, timeout=0)


def test_predicate_that_raises_raises_in_its_caller_and_takes_nothing(me):
    """A mistake in the predicate must not cost a message, nor deafen the process."""
    process.send(me.ref, "a")
    process.send(me.ref, 0)

    def divide(message):
        return 1 / message if isinstance(message, int) else False

    with pytest.raises(ZeroDivisionError):
        process.receive(divide, timeout=WAIT)
    assert [process.receive(timeout=0) for _ in range(2)] == ["a", 0]
    # The same when the message comes during the wait.
    process.send_after(me.ref, 0, 0.05)
    with pytest.raises(ZeroDivisionError):
        process.receive(divide, timeout=WAIT)
    process.send_after(me.ref, "c", 0.05)
    assert [process.receive(timeout=WAIT) for _ in range(2)] == [0, "c"]


def test_predicate_sees_each_message_once(me):
    """A predicate may be costly; what did not match is not asked about again and again."""
    seen = []
    for n in range(3):
        process.send(me.ref, n)
    for n in (3, 4):
        process.send_after(me.ref, n, 0.05 * n)

    def wanted(message):
        seen.append(message)
        return message == 4

    assert process.receive(wanted, timeout=WAIT) == 4
    assert seen == [0, 1, 2, 3, 4]


def test_receive_in_a_callback_waits_for_what_it_needs(me):
    """A server may ask another and wait for the answer as a message; the rest of its mail stays."""
    journal = Journal()
    server = Doer.start(None, journal)

    def ask_back(server):
        process.send(me.ref, "which?")
        return Reply(process.receive(int, WAIT))

    process.send(server, "before")
    asked = send_request(server, ask_back)
    assert process.receive(timeout=WAIT) == "which?"
    process.send(server, "meanwhile")
    process.send(server, 7)
    assert asked.receive(WAIT) == 7
    within(server, lambda: None)
    assert journal.events == [("info", "before"), ("info", "meanwhile")]


def test_receive_does_not_see_calls_and_casts(me):
    """They are for handle_call and handle_cast, which answer them; afterwards, in their order."""
    journal, gate = Journal(), Gate()
    server = Doer.start(None, journal)

    def take_all(server):
        gate()
        taken = []
        try:
            while True:
                taken.append(process.receive(timeout=0.05))
        except ReceiveTimeout:
            return Reply(taken)

    asked = send_request(server, take_all)
    gate.reached()
    cast(server, lambda server: journal("cast"))
    process.send(server, "a")
    called = send_request(server, lambda server: (journal("call"), Reply("answer"))[1])
    process.send(server, "b")
    stopping = send_request(Doer.start(), lambda stopper: Reply(stop(server)))
    gate.open()
    assert asked.receive(WAIT) == ["a", "b"]
    assert called.receive(WAIT) == "answer"
    assert stopping.receive(WAIT) is None
    assert journal.events == ["cast", "call", ("terminate", "normal")]


def test_receive_does_not_see_what_is_asked_of_a_plain_process(me):
    """The same for Pykka's ask."""
    gate = Gate()
    plain = Hearer.start()

    def take():
        gate()
        return process.receive(timeout=WAIT)

    asked = plain.ask(take, block=False)
    gate.reached()
    later = plain.ask(lambda: "later", block=False)
    process.send(plain, "for receive")
    gate.open()
    assert asked.get(timeout=WAIT) == "for receive"
    assert later.get(timeout=WAIT) == "later"


def test_every_message_wakes_who_waits(me):
    """No wake-up is lost between the look into the mail and the wait."""
    rounds = 2000

    def pong(server):
        for _ in range(rounds):
            ref, n = process.receive(tuple, WAIT)
            process.send(ref, n)
        return Reply("done")

    server = Doer.start()
    asked = send_request(server, pong)
    for n in range(rounds):
        process.send(server, (me.ref, n))
        assert process.receive(int, WAIT) == n
    assert asked.receive(WAIT) == "done"


def test_mail_from_many_threads_arrives_complete(me):
    """Messages that come while others are picked out are neither lost nor doubled."""
    senders, each = 4, 500

    def send_all(sender):
        for n in range(each):
            process.send(me.ref, (sender, n))

    threads = [threading.Thread(target=send_all, args=(n,)) for n in range(senders)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for sender in reversed(range(senders)):
            heard = [
                process.receive(lambda message, sender=sender: message[0] == sender, WAIT)
                for _ in range(each)
            ]
            assert heard == [(sender, n) for n in range(each)]
    finally:
        sys.setswitchinterval(interval)
    for thread in threads:
        thread.join(WAIT)
    assert nothing_comes(timeout=0)


def test_receive_ends_with_its_process():
    """A wait for mail is over when nobody is there to read it."""
    server, journal = Doer.start(), Journal()

    def wait_for_ever(server):
        journal("waiting")
        try:
            process.receive(str)
        except BaseException as error:
            journal(type(error), error.reason)
            raise

    cast(server, wait_for_ever)
    journal.wait_for("waiting")
    process.exit(server, "boom")
    journal.wait_for(ProcessExit, "boom")


def test_exits_and_downs_are_received_as_messages(me):
    """Notices are mail like any other, and can be picked out. LINK-02."""
    server = Doer.start_link()
    watch = process.monitor(server)
    process.send(me.ref, "first")
    stop(server)
    assert process.receive(Down, WAIT) == Down(watch, server, "normal")
    assert process.receive(Exit, WAIT) == Exit(server, "normal")
    assert process.receive(timeout=0) == "first"


# ---- sleep


def test_sleep_takes_its_time(me):
    """It sleeps at least as long as it was asked to, also not at all."""
    started = clock.now()
    process.sleep(0.1)
    assert clock.now() - started >= 0.1
    process.sleep(0)


def test_sleep_works_on_a_plain_thread():
    """Code that sleeps need not know where it runs."""
    assert on_a_thread(lambda: process.sleep(0.01)) is None


@pytest.mark.parametrize("seconds", [-1, "1", float("nan"), True])
def test_sleep_refuses_what_is_no_time(seconds):
    """A wrong time must not become a sleep for ever."""
    with pytest.raises(ValueError, match="seconds"):
        process.sleep(seconds)


@pytest.mark.parametrize("reason", ["boom", "shutdown", "kill"])
def test_deadly_signal_ends_a_sleep(reason):
    """Who does not trap does not sleep through its own death. SIG-11."""
    server, journal = Doer.start(), Journal()

    def sleep_long(server):
        journal("asleep")
        try:
            process.sleep(60)
        except BaseException as error:
            journal(type(error), error.reason)
            raise

    cast(server, sleep_long)
    journal.wait_for("asleep")
    process.exit(server, reason)
    journal.wait_for(ProcessExit, "killed" if reason == "kill" else reason)


def test_trapping_process_sleeps_on(me):
    """An Exit is mail, and mail does not wake a sleeper; it is there afterwards."""
    process.exit(me.ref, "boom")
    process.send_after(me.ref, "mail", 0)
    started = clock.now()
    server = Doer.start_link()
    cast(server, lambda server: Stop("bang"))
    process.sleep(0.2)
    assert clock.now() - started >= 0.2
    heard = [process.receive(timeout=WAIT) for _ in range(3)]
    assert heard[0] == Exit(me.ref, "boom")
    assert set(heard) == {Exit(me.ref, "boom"), "mail", Exit(server, "bang")}


def test_kill_ends_the_sleep_of_a_trapping_process():
    """Nobody sleeps through a kill."""
    server, journal = Doer.start(None, None, True), Journal()

    def sleep_long(server):
        journal("asleep")
        try:
            process.sleep(60)
        except BaseException as error:
            journal(type(error), error.reason)
            raise

    cast(server, sleep_long)
    journal.wait_for("asleep")
    process.exit(server, "boom")
    process.exit(server, "kill")
    journal.wait_for(ProcessExit, "killed")
    assert journal.events == ["asleep", (ProcessExit, "killed")]


def test_sleepers_do_not_hold_up_others():
    """A thousandth of a second of many is what the scheduler is for: all sleep side by side."""
    servers = [Doer.start() for _ in range(20)]
    started = clock.now()
    asked = [send_request(server, lambda server: process.sleep(0.5)) for server in servers]
    assert [request.receive(WAIT) for request in asked] == [None] * 20
    assert clock.now() - started < 20 * 0.5 / 2


@pytest.mark.skipif(
    not hasattr(signal, "pthread_kill"), reason="needs signals between threads of one program"
)
@pytest.mark.parametrize("waits", ["sleeps", "receives"])
@pytest.mark.parametrize("act", ["kill", "message"])
def test_signal_handler_that_waits_does_not_deafen_the_wait_below_it(waits, act):
    """Python runs handlers of SIGUSR1 in the main thread, on top of what that waits for: the
    outer wait must still be woken.
    """
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals are handled in the main thread")
    entered, handled = threading.Event(), threading.Event()

    def handler(*_):
        entered.set()
        if waits == "sleeps":
            process.sleep(0.1)
        else:
            with pytest.raises(ReceiveTimeout):
                process.receive(int, 0.1)
        handled.set()

    def disturb(me):
        eventually(lambda: process.info(me)["status"] == "waiting")
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
        if act == "kill":
            handled.wait(WAIT)
            process.exit(me, "woken")
        else:
            entered.wait(WAIT)
            process.send(me, "woken")

    before = signal.signal(signal.SIGUSR1, handler)
    started = clock.now()
    woken = None
    try:
        with process.attach() as me:
            thread = threading.Thread(target=disturb, args=(me.ref,))
            thread.start()
            woken = process.receive(str, timeout=2 * WAIT)
    except ProcessExit as error:
        woken = error.reason
    finally:
        signal.signal(signal.SIGUSR1, before)
    thread.join(WAIT)
    assert woken == "woken"
    assert handled.is_set()
    assert clock.now() - started < 1.5 * WAIT


# ---- own and disown


def test_owned_thing_is_closed_when_its_process_ends(me):
    """A connection does not outlive who opened it; own gives it back, to be used in one line."""
    journal = Journal()
    server = Doer.start(None, journal)
    thing = object()
    close = lambda thing: journal("closed", thing)  # noqa: E731
    assert within(server, lambda: process.own(thing, close)) is thing
    assert journal.events == []
    assert end_of(server, lambda: stop(server, "done")) == "done"
    assert journal.events == [("terminate", "done"), ("closed", thing)]


def fail(server):
    raise Oops


ENDS = {
    "stop": stop,
    "Stop": lambda ref: cast(ref, lambda server: Stop("boom")),
    "raise": lambda ref: cast(ref, fail),
    "exit_self": lambda ref: cast(ref, lambda server: process.exit_self("boom")),
    "signal": lambda ref: process.exit(ref, "boom"),
    "kill": lambda ref: process.exit(ref, "kill"),
    "linked": lambda ref: process.exit(within(ref, lambda: Doer.start_link()), "kill"),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
@pytest.mark.parametrize(
    "server_class", [Doer, type("Dedicated", (Doer,), {"dedicated_thread": True})]
)
def test_every_end_closes_what_is_owned_once(me, server_class, end):
    """In any way, kill included: that is what own is for."""
    journal = Journal()
    server = server_class.start()
    for thing in ("a", "b", "c"):
        within(server, lambda thing=thing: process.own(thing, journal))
    end(server)
    for thing in ("a", "b", "c"):
        journal.wait_for(thing)
    assert eventually(lambda: server._inbox.is_buried())
    assert sorted(journal.events) == ["a", "b", "c"]


def test_end_is_told_when_all_is_closed(me):
    """A successor that opens the same file or port must not come too early."""
    gate, journal = Gate(), Journal()
    server = Doer.start(name="closing")
    watch = process.monitor(server)
    within(server, lambda: process.own("thing", lambda thing: (gate(), journal("closed"))))
    cast(server, lambda server: Stop("done"))
    gate.reached()
    assert nothing_comes()
    assert process.whereis("closing") is server
    gate.open()
    assert process.receive(timeout=WAIT) == Down(watch, server, "done")
    assert journal.events == ["closed"]


def test_close_may_use_the_library_when_the_process_ends_by_itself(me):
    """Closing often means saying goodbye to somebody."""
    server, other = Doer.start(), Doer.start()

    def say_goodbye(thing):
        process.send(me.ref, ("goodbye of", process.current()))
        process.send(me.ref, call(other, lambda server: Reply("bye")))

    within(server, lambda: process.own("thing", say_goodbye))
    stop(server)
    assert process.receive(timeout=0) == ("goodbye of", server)
    assert process.receive(timeout=0) == "bye"


def test_killed_idle_process_closes_on_a_worker(me):
    """The killer has other things to do than to close the dead one's connections."""
    gate, journal = Gate(), Journal()
    server = Doer.start()

    def close(thing):
        gate()
        journal("closed", threading.current_thread() is threading.main_thread())

    within(server, lambda: process.own("thing", close))
    assert end_of(server, lambda: process.exit(server, "kill")) == "killed"
    gate.reached()
    assert journal.events == []
    gate.open()
    journal.wait_for("closed", False)


def test_killed_busy_process_closes_on_its_own_thread_when_its_code_has_ended(me):
    """A thing is not closed under the hands of code that still uses it."""
    gate, journal = Gate(), Journal()
    server = Doer.start()

    def work(server):
        process.own("thing", lambda thing: journal("closed", threading.get_ident()))
        gate()
        journal("worked", threading.get_ident())

    cast(server, work)
    gate.reached()
    assert end_of(server, lambda: process.exit(server, "kill")) == "killed"
    assert journal.events == []
    gate.open()
    assert eventually(lambda: len(journal.events) == 2)
    (worked, thread), (closed, same_thread) = journal.events
    assert (worked, closed) == ("worked", "closed")
    assert thread == same_thread


def test_killed_dedicated_process_closes_on_its_dedicated_thread(me):
    """What is bound to a thread must be closed there."""

    class Dedicated(Doer):
        dedicated_thread = True

    journal = Journal()
    server = Dedicated.start()
    thread = within(server, threading.get_ident)
    within(server, lambda: process.own("t", lambda thing: journal("closed", threading.get_ident())))
    process.exit(server, "kill")
    journal.wait_for("closed", thread)


def test_close_of_a_killed_process_is_not_unwound(me):
    """A leftover is ended by force; what it owned is still closed to the end."""
    gate, journal = Gate(), Journal()
    server = Doer.start()

    def slow_close(thing):
        journal("closing", thing)
        deadline = clock.now() + 0.3
        turns = 0
        while clock.now() < deadline:
            turns += 1
        journal("closed", thing)

    def work(server):
        process.own("a", slow_close)
        process.own("b", slow_close)
        turns = 0
        gate()
        while True:
            turns += 1

    cast(server, work)
    gate.reached()
    process.exit(server, "kill")
    gate.open()
    journal.wait_for("closed", "a")
    journal.wait_for("closed", "b")
    assert len(journal.events) == 4


def test_close_that_raises_is_logged_and_stops_nothing(me, log_events):
    """The other things are closed, and the reason is not changed by it."""
    journal = Journal()
    server = Doer.start()
    within(server, lambda: process.own("first", journal))
    within(server, lambda: process.own("second", fail))
    within(server, lambda: process.own("third", journal))
    assert end_of(server, lambda: stop(server)) == "normal"
    assert sorted(journal.events) == ["first", "third"]
    (event,) = [event for event in log_events if event["event"] == "close_failed"]
    assert isinstance(event["error"], Oops)
    assert event["thing"] == "'second'"


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, ProcessExit("x")])
def test_close_that_raises_what_is_no_exception_stops_nothing(me, error, log_events):
    """Not even those reach beyond the process that is ending."""
    journal = Journal()
    server = Doer.start()

    def refuse(thing):
        raise error

    within(server, lambda: process.own("first", journal))
    within(server, lambda: process.own("second", refuse))
    assert end_of(server, lambda: stop(server)) == "normal"
    assert journal.events == ["first"]


def test_close_that_hangs_does_not_hold_up_the_end_for_ever(me, monkeypatch):
    """After some seconds the end is told all the same: those who wait for it have waited enough."""
    monkeypatch.setattr(actor, "OWNED_SECONDS", 0.1)
    gate = Gate()
    server = Doer.start(name="cannot close")
    watch = process.monitor(server)
    process.link(server)
    within(server, lambda: process.own("thing", lambda thing: gate()))
    cast(server, lambda server: Stop("done"))
    gate.reached()
    assert process.receive(Down, WAIT) == Down(watch, server, "done")
    assert process.receive(Exit, WAIT) == Exit(server, "done")
    assert process.whereis("cannot close") is None
    gate.open()
    assert nothing_comes()


def test_close_that_hangs_in_a_library_wait_is_ended_with_its_time(me, monkeypatch):
    """Its time over, the process is dead, and its waits end as those of all the dead."""
    monkeypatch.setattr(actor, "OWNED_SECONDS", 0.1)
    journal = Journal()
    server = Doer.start()

    def close(thing):
        try:
            process.sleep(60)
        except BaseException as error:
            journal(type(error), error.reason)
            raise

    within(server, lambda: process.own("thing", close))
    assert end_of(server, lambda: cast(server, lambda server: Stop("done"))) == "done"
    journal.wait_for(ProcessExit, "done")


def test_limit_of_a_close_that_was_quick_does_nothing(me, monkeypatch):
    """The clock that would have ended it must not strike twice."""
    monkeypatch.setattr(actor, "OWNED_SECONDS", 0.1)
    server = Doer.start()
    within(server, lambda: process.own("thing", lambda thing: None))
    assert end_of(server, lambda: stop(server)) == "normal"
    assert nothing_comes(timeout=0.3)


def test_disowned_thing_is_not_closed(me):
    """What was given away is somebody else's to close."""
    journal = Journal()
    server = Doer.start()
    kept, given = object(), object()
    within(server, lambda: [process.own(thing, journal) for thing in (kept, given)])
    assert within(server, lambda: process.disown(given)) is None
    stop(server)
    assert journal.events == [kept]


def test_disown_goes_by_identity_and_refuses_what_is_not_owned(me):
    """Two equal connections are two."""
    journal = Journal()
    server = Doer.start()
    one, other = [1], [1]

    def try_it():
        process.own(one, journal)
        with pytest.raises(LookupError):
            process.disown(other)
        process.disown(one)
        with pytest.raises(LookupError):
            process.disown(one)

    within(server, try_it)
    stop(server)
    assert journal.events == []


def test_thing_owned_twice_is_closed_twice(me):
    """Each own is a promise of its own; disown takes back one."""
    journal = Journal()
    server = Doer.start()
    within(server, lambda: [process.own("t", lambda t, n=n: journal(n)) for n in range(3)] and None)
    within(server, lambda: process.disown("t"))
    stop(server)
    assert len(journal.events) == 2


def test_thing_that_a_leftover_hands_over_is_closed_with_the_rest(me):
    """Code that opened something just when its process died must not leak it."""
    gate, journal = Gate(), Journal()
    server = Doer.start()

    def open_late(server):
        gate()
        try:
            process.own("late", lambda thing: journal("closed"))
        except ProcessExit:
            journal("refused")
            raise

    cast(server, open_late)
    gate.reached()
    process.exit(server, "kill")
    gate.open()
    journal.wait_for("closed")
    assert journal.events == ["refused", "closed"]


def test_own_refuses_what_cannot_close(me):
    """A mistake that would show when it is too late."""
    with pytest.raises(TypeError, match="close"):
        process.own("thing", None)
    with pytest.raises(LookupError):
        process.disown("thing")


def test_attached_thread_owns_too():
    """Leaving the block closes, on the thread itself, in whatever way it is left."""
    journal = Journal()
    with process.attach() as me:
        process.own("a", lambda thing: journal(thing, process.current(), threading.get_ident()))
        assert journal.events == []
    assert journal.take() == [("a", me.ref, threading.get_ident())]
    with pytest.raises(Oops), process.attach():
        process.own("b", journal)
        raise Oops
    assert journal.take() == ["b"]
    with pytest.raises(ProcessExit), process.attach() as me:
        process.own("c", journal)
        process.exit(me.ref, "kill")
    assert journal.take() == ["c"]
    with process.attach() as me:
        process.own("d", journal)
        on_a_thread(lambda: process.exit(me.ref, "kill"))
        assert journal.events == []
    assert journal.take() == ["d"]


def test_plain_process_owns_too(me):
    """own is for every process; it closes after on_stop."""
    journal = Journal()

    class Owner(Process):
        def on_start(self):
            process.own("thing", lambda thing: journal("closed"))

        def on_stop(self):
            journal("on_stop")

    owner = Owner.start()
    assert end_of(owner, owner.stop) == "normal"
    assert journal.events == ["on_stop", "closed"]


def test_failed_init_closes_what_it_owned(me):
    """A server that could not start leaves nothing open, before its starter hears of it."""
    journal = Journal()

    def open_and_fail(server):
        process.own("half open", journal)
        return Stop("cannot")

    with pytest.raises(StartError) as raised:
        Doer.start(open_and_fail)
    assert raised.value.reason == "cannot"
    assert journal.events == ["half open"]


# ---- how others see it


def test_is_alive_from_start_to_end(me):
    """Alive until its end is told, for refs, names and what stands for names."""
    door = Door()
    server = Doer.start(name="living")
    door.register(server)
    assert all(process.is_alive(it) for it in (server, "living", door, me.ref))
    stop(server)
    assert not any(process.is_alive(it) for it in (server, "living", door, "never heard of"))


def test_process_is_alive_while_it_starts(me):
    """One that is in its init can be killed, so it is alive. NAME-01."""
    gate = Gate()
    asked = send_request(Doer.start(), lambda s: Doer.start(lambda s: gate(), name="starting"))
    gate.reached()
    assert process.is_alive("starting")
    gate.open()
    asked.wait(WAIT)


def test_list_shows_the_living_in_the_order_of_their_start(me):
    """Operators see what runs; an attached thread is no actor of anybody's."""
    first, second = Doer.start(), Hearer.start()
    third = Doer.start()
    assert process.list() == [first, second, third]
    process.exit(second, "kill")
    assert process.list() == [first, third]
    assert me.ref not in process.list()
    stop(first)
    assert process.list() == [third]


def test_registered_shows_all_local_names(me):
    """Operators find processes by their names."""
    process.register("thread", me.ref)
    server = Doer.start(name="server")
    assert process.registered() == {"thread": me.ref, "server": server}
    stop(server)
    assert process.registered() == {"thread": me.ref}


def test_info_of_an_idle_server(me):
    """What operators see of a process, at a glance."""
    server = Doer.start_link(None, None, True, name="seen")
    peer = Doer.start()
    within(server, lambda: [process.link(peer), process.monitor(peer)])
    watch = process.monitor(server)
    info = process.info(server)
    assert info["registered_name"] == "seen"
    assert info["class"] is Doer
    assert info["parent"] is me.ref
    assert info["links"] == [me.ref, peer]
    assert info["monitors"] == [peer]
    assert info["monitored_by"] == [me.ref]
    assert info["message_queue_len"] == 0
    assert info["trap_exit"] is True
    assert info["dedicated_thread"] is False
    assert info["started_at"] <= clock.now()
    assert eventually(lambda: process.info(server)["status"] == "idle")
    assert process.info("seen")["class"] is Doer
    process.demonitor(watch)


def test_info_says_what_a_process_is_doing(me):
    """Running, waiting or idle, and how much it has still to do."""
    server, gate, other = Doer.start(), Gate(), Gate()
    cast(server, lambda server: gate())
    gate.reached()
    cast(server, lambda server: other(library=True))
    process.send(server, "mail")
    info = process.info(server)
    assert (info["status"], info["message_queue_len"]) == ("running", 2)
    gate.open()
    other.reached()
    assert eventually(lambda: process.info(server)["status"] == "waiting")
    assert process.info(server)["message_queue_len"] == 1
    other.open()
    assert eventually(lambda: process.info(server)["status"] == "idle")
    assert process.info(server)["message_queue_len"] == 0


def test_info_of_nobody(me):
    """The dead and the unknown have nothing to show."""
    server = Doer.start()
    stop(server)
    assert process.info(server) is None
    assert process.info("never heard of") is None


def test_info_of_oneself(me):
    """An attached thread can be looked at like any process."""
    info = process.info(me.ref)
    assert info["trap_exit"] is True
    assert info["parent"] is None
    assert info["registered_name"] is None


def test_trap_exit_returns_the_old_value(me):
    """So that it can be put back. TERM-31."""
    assert process.trap_exit(False) is True
    assert process.trap_exit(True) is False
    assert process.trap_exit(True) is True


def test_trap_exit_is_an_attribute_too(me):
    """In a class it is how a server says so without an init; in init it holds from then on."""

    class Trapper(GenServer):
        trap_exit = True

    class Chooser(GenServer):
        def init(self, flag):
            self.trap_exit = flag
            return Ok()

    assert process.info(Trapper.start())["trap_exit"] is True
    assert process.info(Chooser.start(True))["trap_exit"] is True
    assert process.info(Chooser.start(False))["trap_exit"] is False


# ---- attach


def test_leaving_the_block_ends_the_process_normally(me):
    """Links and monitors are told, names are free."""
    heard, gate = Journal(), Gate()
    watcher = Doer.start(None, heard, True)

    def be_a_process():
        with process.attach() as thread:
            process.register("a thread", thread.ref)
            within(watcher, lambda: [process.link(thread.ref), process.monitor(thread.ref)])
            assert process.whereis("a thread") is thread.ref
            gate.thread = thread.ref
        assert process.current() is None

    on_a_thread(be_a_process)
    within(watcher, lambda: None)
    assert process.whereis("a thread") is None
    assert not process.is_alive(gate.thread)
    assert {(type(event[1]), event[1].ref, event[1].reason) for event in heard.events} == {
        (Exit, gate.thread, "normal"),
        (Down, gate.thread, "normal"),
    }


def test_exception_that_leaves_the_block_is_the_reason(me):
    """What ends the block ends the process, and goes on to whoever catches it."""
    error, refs = Oops(), []

    def fail():
        with process.attach() as thread:
            refs.append(thread.ref)
            process.link(me.ref)
            raise error

    with pytest.raises(Oops) as raised:
        on_a_thread(fail)
    assert raised.value is error
    assert process.receive(timeout=WAIT) == Exit(refs[0], error)


def test_exit_self_leaves_the_block_with_its_reason(me):
    """An attached thread can end itself like any process."""
    refs = []

    def leave():
        with process.attach() as thread:
            refs.append(thread.ref)
            process.link(me.ref)
            process.exit_self("enough")

    with pytest.raises(ProcessExit) as raised:
        on_a_thread(leave)
    assert raised.value.reason == "enough"
    assert process.receive(timeout=WAIT) == Exit(refs[0], "enough")


def test_killed_inside_the_next_call_raises():
    """A thread cannot be ended from outside; the library refuses to go on with it."""
    other = Doer.start()
    with pytest.raises(ProcessExit) as raised, process.attach() as me:
        on_a_thread(lambda: process.exit(me.ref, "kill"))
        assert on_a_thread(lambda: process.info(me.ref)) is None
        for refused in (
            lambda: process.send(other, "x"),
            lambda: process.receive(timeout=0),
            lambda: process.sleep(0),
            lambda: call(other, lambda server: None),
            lambda: Doer.start(),
            lambda: process.monitor(other),
            process.current,
        ):
            with pytest.raises(ProcessExit) as refusal:
                refused()
            assert refusal.value.reason == "killed"
        process.exit_self("something else")
    assert raised.value.reason == "killed"


def test_killed_in_a_wait_raises_at_once():
    """The wait is over when the process is."""
    with pytest.raises(ProcessExit) as raised, process.attach() as me:
        threading.Timer(0.05, process.exit, (me.ref, "kill")).start()
        process.receive()
    assert raised.value.reason == "killed"


def test_linked_end_reaches_an_attached_thread():
    """Without trapping a thread dies of its links like any process. LINK-01."""
    with pytest.raises(ProcessExit) as raised, process.attach():
        server = Doer.start_link()
        cast(server, lambda server: Stop("boom"))
        process.receive()
    assert raised.value.reason == "boom"


def test_killed_block_that_makes_no_call_ends_as_killed(me):
    """It is dead however it leaves: the reason is the kill's, told once."""
    refs = []

    def be_killed():
        with process.attach() as thread:
            refs.append(thread.ref)
            process.link(me.ref)
            on_a_thread(lambda: process.exit(thread.ref, "kill"))

    on_a_thread(be_killed)
    assert process.receive(timeout=WAIT) == Exit(refs[0], "killed")
    assert nothing_comes()


def test_attach_twice_is_refused(me):
    """A thread is one process at a time, and the first one is not harmed."""
    with pytest.raises(RuntimeError, match="already"), process.attach():
        pass
    assert process.current() is me.ref
    assert process.is_alive(me.ref)


def test_attach_inside_a_process_is_refused():
    """A process is one already."""
    server = Doer.start()

    def try_to_attach():
        with pytest.raises(RuntimeError, match="already"), process.attach():
            pass
        return process.current()

    assert within(server, try_to_attach) is server


def test_attach_again_is_another_process():
    """What was dead stays dead: each block has a ref of its own, and an empty mailbox."""
    with process.attach() as first:
        process.send(first.ref, "not read")
    with process.attach() as second:
        assert first.ref is not second.ref
        assert not process.is_alive(first.ref)
        assert process.send(first.ref, "late") is None
        assert nothing_comes(timeout=0)


def test_attached_thread_is_not_in_pykkas_registry(me):
    """Nobody who stops all actors means this thread."""
    assert me.ref not in pykka.ActorRegistry.get_all()
    assert me.ref not in process.list()


def test_children_of_an_attached_thread_are_told_and_not_waited_for():
    """Leaving a block must not hang on somebody's slow cleaning up. TERM-09."""
    gate, journal = Gate(), Journal()

    class Slow(Doer):
        def terminate(self, reason):
            self.journal("terminate", reason)
            gate()

    with process.attach():
        child = Slow.start_link(None, journal, True)
        plain = Doer.start_link()
    gate.reached()
    assert journal.events == [("terminate", "normal")]
    assert process.is_alive(child)
    assert within(plain, lambda: "alive") == "alive"
    with process.attach():
        assert end_of(child, gate.open) == "normal"


def test_only_the_attached_thread_receives():
    """A mailbox has one reader."""
    with process.attach() as me:
        with pytest.raises(RuntimeError, match="attached thread"):
            on_a_thread(lambda: me.receive(timeout=0))
        process.send(me.ref, "x")
        assert me.receive(str, 0) == "x"
        with pytest.raises(ReceiveTimeout):
            me.receive(timeout=0)
    with pytest.raises(RuntimeError, match="inside the block"):
        me.receive(timeout=0)


def test_attached_thread_does_not_trap_unless_it_says_so():
    """The default is that of every process."""
    with process.attach() as me:
        assert process.info(me.ref)["trap_exit"] is False
    with process.attach(trap_exit=True) as me:
        assert process.info(me.ref)["trap_exit"] is True


def test_attached_thread_leaves_nothing_behind():
    """A script that attaches a million times does not grow."""
    refs = []
    for _ in range(10):
        with process.attach() as me:
            process.monitor(Doer.start())
            process.link(Doer.start())
            process.send(me.ref, "unread")
            refs.append(weakref.ref(me.ref._inbox))
            del me
    for ref in process.list():
        process.exit(ref, "kill")
    gc.collect()
    assert [ref() for ref in refs] == [None] * 10


# ---- plain threads and plain actors


NEEDS_A_PROCESS = {
    "link": lambda ref: process.link(ref),
    "unlink": lambda ref: process.unlink(ref),
    "monitor": lambda ref: process.monitor(ref),
    "demonitor": lambda ref: process.demonitor(None),
    "exit_self": lambda ref: process.exit_self("x"),
    "trap_exit": lambda ref: process.trap_exit(True),
    "receive": lambda ref: process.receive(timeout=0),
    "own": lambda ref: process.own("thing", print),
    "disown": lambda ref: process.disown("thing"),
}


@pytest.mark.parametrize("what", NEEDS_A_PROCESS)
def test_what_needs_a_process_says_so_on_a_plain_thread(what):
    """The error names the function and the way out."""
    server = Doer.start()
    with pytest.raises(NotAProcess, match=rf"^{what} needs.*attach") as raised:
        NEEDS_A_PROCESS[what](server)
    assert raised.value.reason == "noprocess"
    assert isinstance(raised.value, RuntimeError)


def test_plain_thread_may_do_the_rest():
    """Scripts start, send, ask, look and stop without being a process."""
    server = Doer.start_link(name="for a script")
    process.send(server, "x")
    process.send_after(server, "y", 0).cancel()
    assert process.info(server)["parent"] is None
    assert process.info(server)["links"] == []
    assert process.whereis("for a script") is server
    assert call(server, lambda server: Reply(1)) == 1
    process.exit(server, "boom")
    assert not process.is_alive(server)


TAKES_A_REF = {
    "link": process.link,
    "unlink": process.unlink,
    "monitor": process.monitor,
    "exit": lambda ref: process.exit(ref, "kill"),
    "send": lambda ref: process.send(ref, "x"),
    "send_after": lambda ref: process.send_after(ref, "x", 0),
    "register": lambda ref: process.register("x", ref),
    "whereis": process.whereis,
    "is_alive": process.is_alive,
    "info": process.info,
    "call": lambda ref: call(ref, "x"),
    "cast": lambda ref: cast(ref, "x"),
    "stop": stop,
}


@pytest.mark.parametrize("what", TAKES_A_REF)
def test_plain_pykka_actor_is_refused_by_name_of_the_way_out(me, what, plain_actor):
    """It cannot tell of its end; a Wrapper can, and the error says so."""
    with pytest.raises(TypeError, match="Wrapper"):
        TAKES_A_REF[what](plain_actor)
    assert plain_actor.is_alive()


@pytest.mark.parametrize("what", TAKES_A_REF)
@pytest.mark.parametrize("wrong", [7, (), object()], ids=["7", "()", "object"])
def test_what_is_no_ref_is_refused(me, what, wrong):
    """A wrong address must not pass for a dead one."""
    with pytest.raises(TypeError, match="ref"):
        TAKES_A_REF[what](wrong)


# ---- a plain Process


def test_plain_process_can_be_started_linked_and_supervised_by_its_base_class_alone(me):
    """Whoever has Pykka actors changes the base class, and that is all. TERM-08."""
    journal = Journal()

    class Trapping(Hearer):
        trap_exit = True

        def on_stop(self):
            self.journal("on_stop")

    parent = Doer.start()
    plain = within(parent, lambda: Trapping.start_link(journal))
    assert process.info(plain)["parent"] is parent
    peer = Doer.start()
    plain.ask(lambda: process.link(peer))
    process.exit(peer, "boom")
    journal.wait_for("heard", Exit(peer, "boom"))
    assert end_of(plain, lambda: process.exit(parent, "bye")) == "bye"
    assert journal.events == [("heard", Exit(peer, "boom")), "on_stop"]
    assert Trapping.child_spec(1)["start"] == (Trapping, "start_link", [1])


def test_future_serves_threads_and_processes_side_by_side(me):
    """Whoever of those that wait for it dies, the others still get their answer."""
    gate, journal = Gate(), Journal()
    asked = Hearer.start().ask(lambda: (gate(), "answer")[1], block=False)
    gate.reached()

    def wait_as_thread():
        journal("thread", asked.get(timeout=WAIT))

    threads = [threading.Thread(target=wait_as_thread) for _ in range(3)]
    for thread in threads:
        thread.start()
    waiter = Doer.start()

    def wait_as_process(server):
        journal("process waits")
        asked.get()

    cast(waiter, wait_as_process)
    journal.wait_for("process waits")
    assert eventually(lambda: process.info(waiter)["status"] == "waiting")
    assert end_of(waiter, lambda: process.exit(waiter, "kill")) == "killed"
    # The dead one's code is over: its wait was the one that was woken.
    assert eventually(lambda: waiter._inbox.is_buried())
    gate.open()
    for thread in threads:
        thread.join(WAIT)
    assert journal.events == ["process waits"] + [("thread", "answer")] * 3
    assert asked.get(timeout=0) == "answer"


# ---- forks


FORKED = """
import os, sys, traceback
sys.path[:0] = {path!r}
from elsa_actors import *
from elsa_actors import process
from elsa_actors.runtime.errors import Forked
from elsa_actors.runtime.process import Process
from tests.servers import Doer

def init(server):
    pass

server = Doer.start(name="parent's")
plain = Process.start()
with process.attach() as me:
    watch = process.monitor(server)
    asked = send_request(server, lambda server: Reply(1))
    pid = os.fork()
    if pid:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "the child failed"
        assert call(server, lambda server: Reply("parent lives")) == "parent lives"
        process.send(me.ref, "x")
        assert process.receive(str, 5) == "x"
        print("fine")
        os._exit(0)
    wrong = []
    def refused(name, function):
        try:
            answer = function()
        except Forked as error:
            if "fork" not in str(error) or error.reason != "fork":
                wrong.append((name, str(error)))
        except BaseException as error:
            wrong.append((name, repr(error)))
        else:
            wrong.append((name, answer))
    def attach():
        with process.attach():
            pass
    for name, function in {{
        "current": process.current,
        "link": lambda: process.link(server),
        "unlink": lambda: process.unlink(server),
        "monitor": lambda: process.monitor(server),
        "demonitor": lambda: process.demonitor(watch),
        "exit": lambda: process.exit(server, "kill"),
        "exit_self": lambda: process.exit_self("x"),
        "send": lambda: process.send(server, 1),
        "send by name": lambda: process.send("parent's", 1),
        "send_after": lambda: process.send_after(server, 1, 0),
        "receive": lambda: process.receive(timeout=0),
        "me.receive": lambda: me.receive(timeout=0),
        "sleep": lambda: process.sleep(0),
        "own": lambda: process.own(1, print),
        "disown": lambda: process.disown(1),
        "is_alive": lambda: process.is_alive(server),
        "register": lambda: process.register("x", server),
        "unregister": lambda: process.unregister("parent's"),
        "whereis": lambda: process.whereis("parent's"),
        "list": process.list,
        "registered": process.registered,
        "info": lambda: process.info(server),
        "trap_exit": lambda: process.trap_exit(True),
        "attach": attach,
        "GenServer.start": lambda: Doer.start(),
        "GenServer.start_link": lambda: Doer.start_link(name="x"),
        "Process.start": lambda: Process.start(),
        "Supervisor.start_link": lambda: Supervisor.start_link([]),
        "call": lambda: call(server, lambda server: Reply(1)),
        "cast": lambda: cast(server, lambda server: None),
        "stop": lambda: stop(server),
        "send_request": lambda: send_request(server, 1),
        "Request.receive": lambda: asked.receive(0),
        "which_children": lambda: Supervisor.which_children(server),
        "ref.tell": lambda: server.tell(1),
        "ref.ask": lambda: plain.ask(1),
        "ref.stop": lambda: plain.stop(),
    }}.items():
        refused(name, function)
    try:
        if server.is_alive():
            wrong.append("the ref says it is alive")
    except Forked:
        pass
    for one in wrong:
        print("not refused:", one, flush=True)
    os._exit(len(wrong))
"""

FORKED_FIRST = """
import os, sys
sys.path[:0] = {path!r}
from elsa_actors import Reply, call, process, stop
from tests.servers import Doer

pid = os.fork()
server = Doer.start(name="one each")
assert call("one each", lambda server: Reply("works")) == "works"
with process.attach() as me:
    process.send_after(me.ref, "the clock too", 0.01)
    assert process.receive(str, 5) == "the clock too"
stop(server)
if pid:
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "the child failed"
    print("fine")
else:
    os._exit(0)
"""


def run_script(script):
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script).format(path=sys.path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


needs_fork = pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")


@needs_fork
def test_forked_child_is_told_that_no_process_lives_there():
    """A fork copies one thread and no other: whatever the child asks, nobody would answer; so
    every call says so, and the parent goes on.
    """
    run = run_script(FORKED)
    assert (run.stdout, run.returncode) == ("fine\n", 0), run.stdout + run.stderr


@needs_fork
def test_program_that_forks_before_its_first_process_works_in_both():
    """The error's own advice: fork first. Web servers that load the program and then fork do so."""
    run = run_script(FORKED_FIRST)
    assert (run.stdout, run.returncode) == ("fine\n", 0), run.stdout + run.stderr


FORKED_INSIDE = """
import os, sys, time
sys.path[:0] = {path!r}
from elsa_actors import GenServer, NoReply, Ok, Reply, call, process

class Owner(GenServer):
    trap_exit = True
    def init(self):
        self.parent = os.getpid()
        process.own("file", self.closes)
        return Ok()
    def closes(self, thing):
        os.write(1, b"closed %d\\n" % (os.getpid() == self.parent))
    def handle_call(self, request, sender):
        pid = os.fork()
        if pid:
            self.status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            return Reply(self.status)
        process_list_refused()
        return Reply("from the child")
    def handle_info(self, message):
        os.write(1, b"handled %d\\n" % (os.getpid() == self.parent))
        return NoReply()
    def terminate(self, reason):
        os.write(1, b"terminate %d\\n" % (os.getpid() == self.parent))

def process_list_refused():
    try:
        process.list()
    except Exception as error:
        assert error.reason == "fork"

with process.attach():
    server = Owner.start_link()
    process.send(server, "queued")
    process.send(server, "queued")
    print("child ended with", call(server, "fork", 20), flush=True)
    pid = os.fork()
    if pid:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "the child failed"
if not pid:
    time.sleep(0.3)
    os._exit(0)
while process.list():
    time.sleep(0.01)
"""


@needs_fork
def test_nothing_of_a_process_runs_in_a_forked_child():
    """Neither what is queued, nor terminate, nor what closes things: they are the parent's. A
    callback that forks and returns in the child ends it; leaving `attach` there does nothing.
    """
    run = run_script(FORKED_INSIDE)
    assert run.returncode == 0, run.stdout + run.stderr
    assert sorted(run.stdout.splitlines()) == [
        "child ended with 0",
        "closed 1",
        "handled 1",
        "handled 1",
        "terminate 1",
    ]
