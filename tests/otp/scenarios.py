"""Scenarios that can be played on OTP and on this library, and what is seen of them.

A scenario is plain JSON, so that it can be kept in a file and read by other programs; what is seen
of it is JSON too. `play` plays one here, `otp_scenarios.erl` plays it on the real OTP.

A reason is a word, or ``["shutdown", word]``. In what is seen, an exception is "raised" and a wrong
return value "bad_return_value".

A scenario of a supervisor has ``flags`` [strategy, max_restarts, auto_shutdown], ``children``,
``steps`` and an ``end``. A child has an id, a restart type, says whether it is significant, and is
a worker (with shutdown, trap and a script: the words of its starts, which then go on well) or a
supervisor (with flags and children). The steps, each played when nothing moves any more:

    ["crash", id, reason]        the worker stops itself with this reason
    ["kill", id]                 a worker, or a supervisor none of whose workers traps exits
    ["signal", id, reason]       a stranger sends an exit signal
    ["together", [[id, reason or "kill"], …]]    these end before the supervisor reacts to any
    ["start_child", child]  ["restart_child", id]  ["terminate_child", id]  ["delete_child", id]

and the end: ["stop", reason], or ["signal", reason] by the one that started it.

A scenario of a server says ``how`` it is started, whether it traps exits (``trap``), what its
``init`` and ``terminate`` do, and has ``steps``. What a callback does is a list like
["reply", value, then], where ``then`` is None, "hibernate", ["timeout", milliseconds] or
["continue", action]. Each action that answers rightly adds one to the server's state.
"""

from __future__ import annotations

import time
from typing import Any

from elsa_actors import (
    TIMEOUT,
    AlreadyStarted,
    CallExit,
    ChildError,
    Continue,
    Down,
    Exit,
    GenServer,
    Hibernate,
    Ignore,
    NoReply,
    Ok,
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

WAIT = 20.0
"""How long anything may take, in seconds; only a hang takes so long."""


def play(scenario: dict[str, Any]) -> list[Any]:
    """Play a scenario with this library; returns what was seen. Not inside a process."""
    with process.attach(trap_exit=True) as me:
        family = SupervisorPlay if scenario["family"] == "supervisor" else ServerPlay
        return family(me, scenario).play()


class Oops(Exception):
    """What is raised in scenarios."""


def reason_in(given: Any) -> Any:
    """A reason as a scenario says it."""
    return tuple(given) if isinstance(given, list) else given


def seen(term: Any) -> Any:
    """A reason or value as it is shown."""
    if isinstance(term, Oops):
        return "raised"
    if isinstance(term, list | tuple):
        if len(term) == 2 and term[0] == "bad_return_value":
            return "bad_return_value"
        return [seen(part) for part in term]
    assert term is None or isinstance(term, str | int), f"a surprise: {term!r}"
    return term


class Events:
    """What happened since it was last asked for."""

    def __init__(self) -> None:
        self._events: list[Any] = []

    def add(self, *event: Any) -> None:
        self._events.append([seen(part) for part in event])

    def take(self) -> list[Any]:
        events, self._events = self._events, []
        return events


class Stranger(GenServer):
    """A process that has nothing to do with those in the scenario."""

    def handle_call(self, request: Any, sender: Any) -> Any:
        match request:
            case ("signal", ref, reason):
                process.exit(ref, reason)
                return Reply(None)
            case ("link", ref):
                try:
                    process.link(ref)
                except CallExit:
                    pass  # It is dead already.
                return Reply(None)


class Play:
    """What both families share."""

    def __init__(self, me: Any, scenario: dict[str, Any]) -> None:
        self.me = me
        self.scenario = scenario
        self.events = Events()

    def end_of(self, ref: Any, act: Any) -> Any:
        """Do what ends a process, and return its reason."""
        watch = process.monitor(ref)
        act()
        return self.down(watch)

    def down(self, watch: Any) -> Any:
        return self.me.receive(lambda m: isinstance(m, Down) and m.monitor is watch, WAIT).reason

    def exit_of(self, ref: Any) -> Any:
        return seen(self.me.receive(lambda m: isinstance(m, Exit) and m.ref is ref, WAIT).reason)

    def signal_from_stranger(self, ref: Any, reason: Any) -> None:
        stranger = Stranger.start()
        call(stranger, ("signal", ref, reason))
        stop(stranger)


# ---- supervisors


class Worker(GenServer):
    """A worker under a supervisor: says when it starts and when it cleans up."""

    def init(self, events: Events, child: dict[str, Any], word: str) -> Any:
        self.trap_exit = child["trap"]
        self.events, self.label = events, child["id"]
        match word:
            case "stop":
                return Stop("istop")
            case "raise_in_init":
                raise Oops
            case "ignore_in_init":
                return Ignore()
            case "wrong_in_init":
                return "wrong"
        events.add("start", self.label)
        return Ok()

    def handle_cast(self, request: Any) -> Any:
        return Stop(request)

    def handle_info(self, message: Any) -> Any:
        return NoReply()

    def terminate(self, reason: Any) -> Any:
        self.events.add("term", self.label, reason)


def start_worker(events: Events, child: dict[str, Any], script: list[str]) -> Any:
    word = script.pop(0) if script else "ok"
    events.add("try", child["id"], word)
    match word:
        case "error":
            raise StartError("nope")
        case "raise":
            raise Oops
        case "exit":
            return process.exit_self("gone")
        case "wrong":
            return "foo"
        case "ignore":
            return None
    ref = Worker.start_link(events, child, word)
    return (ref, "info") if word == "info" else ref


def spec_of(events: Events, child: dict[str, Any]) -> dict[str, Any]:
    """The child spec; a script is shared by all starts of the child."""
    common = {key: child[key] for key in ("id", "restart", "significant")}
    if "children" in child:
        specs = [spec_of(events, inner) for inner in child["children"]]
        start = (Supervisor, "start_link", [specs], flags_of(child["flags"]))
        return {**common, "start": start, "type": "supervisor"}
    start = (start_worker, [events, child, list(child["script"])])
    return {**common, "start": start, "shutdown": child["shutdown"]}


def flags_of(flags: list[Any]) -> dict[str, Any]:
    strategy, max_restarts, auto_shutdown = flags
    return {
        "strategy": strategy,
        "max_restarts": max_restarts,
        "max_seconds": 3600.0,
        "auto_shutdown": auto_shutdown,
    }


class SupervisorPlay(Play):
    """One supervisor, from its start to its end."""

    def play(self) -> list[Any]:
        scenario, events = self.scenario, self.events
        specs = [spec_of(events, child) for child in scenario["children"]]
        try:
            self.sup = Supervisor.start_link(specs, **flags_of(scenario["flags"]))
        except StartError as error:
            return [["not started", seen(error.reason), events.take()]]
        saw = [["started", events.take(), self.settled()]]
        for step in scenario["steps"]:
            result = seen(self.step(step))
            shape = self.settled()
            saw.append([result, events.take(), shape])
            if shape[0] == "ended":
                return saw
        how, reason = scenario["end"]
        if how == "stop":
            Supervisor.stop(self.sup, reason_in(reason))
        else:
            process.exit(self.sup, reason_in(reason))
        reason = self.exit_of(self.sup)
        return [*saw, ["ended", reason, events.take()]]

    def settled(self) -> list[Any]:
        """Wait until nothing moves any more; the children and their counts, or the end."""
        deadline = time.monotonic() + WAIT
        while time.monotonic() < deadline:
            try:
                infos = Supervisor.which_children(self.sup)
            except CallExit:
                return ["ended", self.exit_of(self.sup)]
            tree = self.tree_of(infos)
            if tree is not None:
                return [tree, list(Supervisor.count_children(self.sup).values())]
            time.sleep(0.0005)
        raise AssertionError("it does not settle")

    def tree_of(self, infos: Any) -> Any:
        """The children, the newest first, with theirs; None while something moves."""
        tree = []
        for info in infos:
            line = [info.id, info.type, "down" if info.child is None else "up"]
            if info.child == "restarting":
                return None
            if info.type == "supervisor" and info.child is not None:
                try:
                    inner = self.tree_of(Supervisor.which_children(info.child))
                except CallExit:
                    return None
                if inner is None:
                    return None
                line.append(inner)
            tree.append(line)
        return tree

    def find(self, child_id: str, sup: Any = None) -> Any:
        """The ref of a child anywhere in the tree, None when it is down, "unknown"."""
        infos = Supervisor.which_children(sup or self.sup)
        for info in infos:
            if info.id == child_id:
                return info.child
        for info in infos:
            if info.type == "supervisor" and info.child is not None:
                found = self.find(child_id, info.child)
                if found != "unknown":
                    return found
        return "unknown"

    def step(self, step: list[Any]) -> Any:
        match step:
            case ["crash", child_id, reason]:
                return self.hit(self.find(child_id), reason_in(reason))
            case ["kill", child_id]:
                return self.hit(self.find(child_id), "kill")
            case ["signal", child_id, reason]:
                ref = self.find(child_id)
                if ref is None or ref == "unknown":
                    return self.hit(ref, None)
                self.signal_from_stranger(ref, reason_in(reason))
                return "ok"
            case ["together", hits]:
                targets = [(self.find(child_id), reason_in(how)) for child_id, how in hits]
                debug.suspend(self.sup)
                ends = [self.hit(ref, how) for ref, how in targets]
                debug.resume(self.sup)
                return ends
            case ["start_child", child]:
                spec = spec_of(self.events, child)
                return self.answer(Supervisor.start_child, spec)
            case ["restart_child", child_id]:
                return self.answer(Supervisor.restart_child, child_id)
            case ["terminate_child", child_id]:
                return self.answer(Supervisor.terminate_child, child_id)
            case ["delete_child", child_id]:
                return self.answer(Supervisor.delete_child, child_id)
        raise AssertionError(f"no such step: {step}")

    def hit(self, ref: Any, how: Any) -> Any:
        if ref is None:
            return "down"
        if ref == "unknown":
            return ref
        if how == "kill":
            return ["died", self.end_of(ref, lambda: process.exit(ref, "kill"))]
        return ["died", self.end_of(ref, lambda: cast(ref, how))]

    def answer(self, function: Any, argument: Any) -> Any:
        try:
            answer = function(self.sup, argument)
        except AlreadyStarted:
            return ["error", "already_started"]
        except (ChildError, StartError) as error:
            return ["error", error.reason]
        match answer:
            case None:
                return ["ok", None]
            case (_, info):
                return ["ok", "up", info]
            case _:
                return ["ok", "up"]


# ---- servers


class Acting(GenServer):
    """A server whose callbacks do what each message says."""

    def init(self, events: Events, scenario: dict[str, Any]) -> Any:
        self.trap_exit = scenario["trap"]
        self.events, self.ending = events, scenario["terminate"]
        self.kept: list[Any] = []
        self.state = 0
        events.add("init")
        match scenario["init"]:
            case ["ok", then]:
                return Ok(0, then_of(then))
            case ["ignore"]:
                return Ignore()
            case other:
                return self.act(other, None)

    def handle_call(self, action: Any, sender: Any) -> Any:
        self.events.add("call", action[0], self.state)
        return self.act(action, sender)

    def handle_cast(self, action: Any) -> Any:
        self.events.add("cast", action[0], self.state)
        return self.act(action, None)

    def handle_info(self, message: Any) -> Any:
        if message is TIMEOUT:
            self.events.add("timeout", self.state)
            return self.act(["noreply", None], None)
        if isinstance(message, Exit):
            self.events.add("exit", message.reason, self.state)
            return self.act(["noreply", None], None)
        self.events.add("info", message[0], self.state)
        return self.act(message, None)

    def handle_continue(self, action: Any) -> Any:
        self.events.add("continue", action[0], self.state)
        return self.act(action, None)

    def terminate(self, reason: Any) -> Any:
        self.events.add("terminate", reason, self.state)
        match self.ending:
            case ["raise"]:
                raise Oops
            case ["exit", reason]:
                process.exit_self(reason_in(reason))
        return "whatever"

    def act(self, action: list[Any], sender: Any) -> Any:
        if action == ["wrong"]:
            return "wrong"
        self.state += 1
        match action:
            case ["noreply", then]:
                return NoReply(then_of(then))
            case ["reply", value, then]:
                return Reply(value, then_of(then))
            case ["reply_first", value, then]:
                reply(sender, value)
                return NoReply(then_of(then))
            case ["keep", then]:
                self.kept.append(sender)
                return NoReply(then_of(then))
            case ["answer", value, then]:
                if self.kept:
                    reply(self.kept.pop(0), value)
                return NoReply(then_of(then))
            case ["stop", reason]:
                return Stop(reason_in(reason))
            case ["stop_reply", reason, value]:
                return Stop(reason_in(reason), reply=value)
            case ["reply_stop", reason, value]:
                reply(sender, value)
                return Stop(reason_in(reason))
            case ["exit", reason]:
                process.exit_self(reason_in(reason))
            case ["raise"]:
                raise Oops
        raise AssertionError(f"no such action: {action}")


def then_of(then: Any) -> Any:
    match then:
        case ["timeout", "infinity"]:
            return Timeout("infinity")  # type: ignore[arg-type]
        case ["timeout", milliseconds]:
            return Timeout(milliseconds / 1000)
        case ["continue", action]:
            return Continue(action)
        case "hibernate":
            return Hibernate()
    return None


class ServerPlay(Play):
    """One server, from its start to its end."""

    def play(self) -> list[Any]:
        scenario, events = self.scenario, self.events
        start = Acting.start if scenario["how"] == "start" else Acting.start_link
        try:
            self.ref = start(events, scenario)
        except StartError as error:
            return [["not started", seen(error.reason), events.take()]]
        if self.ref is None:
            return [["ignored", events.take(), self.exits()]]
        self.requests: list[Any] = []
        watch = process.monitor(self.ref)
        self.quiet()
        saw = [["started", events.take()]]
        for step in scenario["steps"]:
            result = self.step(step)
            self.quiet()
            saw.append([result, events.take()])
        if process.is_alive(self.ref):
            saw.append([self.step(["stop", "normal"]), events.take()])
        reason = seen(self.down(watch))
        answers = [self.answer_of(request.receive, WAIT) for request in self.requests]
        return [*saw, ["ended", reason, answers, self.exits()]]

    def quiet(self) -> None:
        """Wait until the server has nothing to do, or is dead."""
        deadline = time.monotonic() + WAIT
        while time.monotonic() < deadline:
            info = process.info(self.ref)
            if info is None or (info["status"] == "idle" and info["message_queue_len"] == 0):
                return
            time.sleep(0.0002)
        raise AssertionError("it does not come to rest")

    def exits(self) -> list[Any]:
        """The exit signals that came to the starter, oldest first."""
        exits = []
        while True:
            try:
                exits.append(seen(self.me.receive(Exit, 0).reason))
            except ReceiveTimeout:
                return exits

    def answer_of(self, function: Any, *args: Any) -> Any:
        try:
            return ["answer", seen(function(*args))]
        except CallExit as error:
            return ["exit", seen(error.reason)]

    def step(self, step: list[Any]) -> Any:
        match step:
            case ["call", action]:
                return self.answer_of(call, self.ref, action, WAIT)
            case ["ask", action]:
                self.requests.append(send_request(self.ref, action))
            case ["cast", action]:
                cast(self.ref, action)
            case ["info", action]:
                process.send(self.ref, action)
            case ["signal", reason]:
                process.exit(self.ref, reason_in(reason))
            case ["stranger", reason]:
                self.signal_from_stranger(self.ref, reason_in(reason))
            case ["peer", reason]:
                peer = Stranger.start()
                call(peer, ("link", self.ref))
                if process.is_alive(peer):
                    stop(peer, reason_in(reason))
            case ["get_state"]:
                return self.answer_of(debug.get_state, self.ref)
            case ["replace_state", state]:
                return self.answer_of(debug.replace_state, self.ref, lambda _old: state)
            case ["stop", reason]:
                return self.answer_of(stop, self.ref, reason_in(reason), WAIT)
            case ["suspended", steps]:
                results = [self.answer_of(debug.suspend, self.ref)]
                for one in steps:
                    results.append(self.step(one))
                    if one[0] in ("signal", "stranger", "peer"):
                        # It may end it: what comes next must find it dead or alive, not dying.
                        self.answer_of(debug.get_state, self.ref)
                return [*results, self.answer_of(debug.resume, self.ref)]
        return "ok"
