"""A model of supervisors, without processes: what must be seen when a scenario is played.

Written from OTP's documentation and from what OTP was seen to do, not from our supervisor, and
held against OTP's own answers by test_against_otp.py. It says what `scenarios.play` must see of a
scenario of the family "supervisor".
"""

from __future__ import annotations

from collections import deque
from typing import Any

CLEAN = ("normal", "shutdown")

FAILED_STARTS = {
    "error": "nope",
    "stop": "istop",
    "raise": ["EXIT", "raised"],
    "raise_in_init": "raised",
    "exit": ["EXIT", "gone"],
    "wrong": "foo",
    "wrong_in_init": "bad_return_value",
}


def predict(scenario: dict[str, Any]) -> list[Any]:
    """What is seen of this scenario. Consumes nothing of it."""
    log: list[Any] = []
    top = Tree(scenario["flags"], [Kid(child) for child in scenario["children"]], log, None)
    failure = top.start()
    if failure is not None:
        return [["not started", failure, log]]
    saw = [["started", take(log), shape(top)]]
    for step in scenario["steps"]:
        result = STEPS[step[0]](top, *step[1:])
        saw.append([result, take(log), shape(top)])
        if top.reason is not None:
            return saw
    top.stop_all()
    return [*saw, ["ended", scenario["end"][1], log]]


def take(log: list[Any]) -> list[Any]:
    events = list(log)
    log.clear()
    return events


def shape(tree: Tree) -> list[Any]:
    if tree.reason is not None:
        return ["ended", tree.reason]
    kinds = [kid.kind for kid in tree.kids]
    up = sum(kid.state == "up" for kid in tree.kids)
    return [lines(tree), [len(kinds), up, kinds.count("supervisor"), kinds.count("worker")]]


def lines(tree: Tree) -> list[Any]:
    return [
        [kid.id, kid.kind, kid.state, *([lines(kid.tree)] if kid.tree is not None else [])]
        for kid in reversed(tree.kids)
    ]


class Kid:
    """A child: what it is, and what its supervisor takes it for."""

    def __init__(self, child: dict[str, Any]) -> None:
        self.id: str = child["id"]
        self.restart: str = child["restart"]
        self.significant: bool = child["significant"]
        self.state = "down"  # or "up", or "restarting"
        self.alive = False  # what it is; its supervisor may not have heard yet
        self.kind = "supervisor" if "children" in child else "worker"
        self.tree: Tree | None = None  # of a supervisor that is up
        self.home: Tree | None = None
        if self.kind == "worker":
            self.script = list(child["script"])
            self.trap: bool = child["trap"]
            self.brutal = child["shutdown"] == "brutal_kill"
        else:
            self.flags = child["flags"]
            # Their scripts go on where they were when the supervisor is started again.
            self.inner = [Kid(inner) for inner in child["children"]]

    def die(self, reason: Any) -> None:
        """End by itself; its supervisor has mail."""
        self.alive = False
        assert self.home is not None
        self.home.mail.append(("exit", self, reason))

    def fresh_inner(self) -> list[Kid]:
        for kid in self.inner:
            kid.state, kid.alive, kid.tree = "down", False, None
        return list(self.inner)


class Tree:
    """A supervisor."""

    def __init__(self, flags: Any, kids: list[Kid], log: list[Any], owner: Kid | None) -> None:
        self.strategy, self.limit, self.auto_shutdown = flags
        self.kids = kids
        self.log = log
        self.owner = owner
        self.used = 0
        self.reason: str | None = None
        self.mail: deque[tuple[str, Kid, Any]] = deque()

    def start(self) -> Any:
        """Start all; the reason when one of them failed."""
        for kid in list(self.kids):
            failure = self.start_one(kid)
            if failure is not None:
                self.stop_all()
                return ["shutdown", ["failed_to_start_child", kid.id, failure]]
        return None

    def start_one(self, kid: Kid) -> Any:
        kid.home = self
        if kid.kind == "supervisor":
            tree = Tree(kid.flags, kid.fresh_inner(), self.log, kid)
            failure = tree.start()
            if failure is None:
                kid.state, kid.alive, kid.tree = "up", True, tree
            return failure
        word = kid.script.pop(0) if kid.script else "ok"
        self.log.append(["try", kid.id, word])
        if word in FAILED_STARTS:
            return FAILED_STARTS[word]
        if word in ("ignore", "ignore_in_init"):
            kid.state = "down"
            if kid.restart == "temporary":
                self.forget(kid)
            return None
        self.log.append(["start", kid.id])
        kid.state, kid.alive = "up", True
        return None

    def stop_one(self, kid: Kid) -> None:
        if kid.alive:
            if kid.tree is not None:
                kid.tree.stop_all()
            elif kid.trap and not kid.brutal:
                self.log.append(["term", kid.id, "shutdown"])
        kid.state, kid.alive, kid.tree = "down", False, None
        if kid.restart == "temporary":
            self.forget(kid)

    def stop_all(self) -> None:
        for kid in list(reversed(self.kids)):
            self.stop_one(kid)

    def forget(self, kid: Kid) -> None:
        if kid in self.kids:
            self.kids.remove(kid)

    # ---- what the supervisor learns

    def work(self) -> None:
        """Handle the mail, until nothing moves or the supervisor is gone."""
        while self.mail and self.reason is None:
            what, kid, reason = self.mail.popleft()
            if what == "again":
                if kid.state == "restarting":
                    self.restart(kid)
            elif kid.state == "up" and not kid.alive:
                self.ended(kid, reason)

    def ended(self, kid: Kid, reason: Any) -> None:
        kid.state, kid.tree = "down", None
        clean = reason in CLEAN or (isinstance(reason, list) and reason[0] == "shutdown")
        if kid.restart == "permanent" or (kid.restart == "transient" and not clean):
            self.restart(kid)
            return
        if kid.restart == "temporary":
            self.forget(kid)
        if not kid.significant or self.auto_shutdown == "never":
            return
        others = [one for one in self.kids if one.significant and one.state != "down"]
        if self.auto_shutdown == "any_significant" or not others:
            self.give_up()

    def restart(self, kid: Kid) -> None:
        kid.state = "down"
        self.used += 1
        if self.used > self.limit:
            self.give_up()
            return
        place = self.kids.index(kid)
        group = {
            "one_for_one": [kid],
            "one_for_all": list(self.kids),
            "rest_for_one": self.kids[place:],
        }[self.strategy]
        for one in reversed(group):
            if one is not kid:
                self.stop_one(one)
        for one in group:
            if one in self.kids:
                failure = self.start_one(one)
                if failure is not None:
                    one.state = "restarting"
                    self.mail.append(("again", one, None))
                    break

    def give_up(self) -> None:
        self.stop_all()
        self.reason = "shutdown"
        if self.owner is not None:
            self.owner.die("shutdown")


# ---- what is done to them


def find(tree: Tree, kid_id: str) -> Kid | None:
    for kid in tree.kids:
        if kid.id == kid_id:
            return kid
    for kid in tree.kids:
        if kid.tree is not None and (found := find(kid.tree, kid_id)) is not None:
            return found
    return None


def hit(kid: Kid | None, how: Any) -> Any:
    if kid is None:
        return "unknown"
    if not kid.alive:
        return "down"
    if how == "kill":
        kid.die("killed")
        return ["died", "killed"]
    assert kid.home is not None
    kid.home.log.append(["term", kid.id, how])
    kid.die(how)
    return ["died", how]


def work_from(top: Tree, kid: Kid | None) -> None:
    """Let the supervisors work, from the one of this child to the top."""
    tree = None if kid is None else kid.home
    while tree is not None and tree is not top:
        tree.work()
        tree = tree.owner.home if tree.owner is not None else None
    top.work()


def crash(top: Tree, kid_id: str, reason: Any) -> Any:
    kid = find(top, kid_id)
    result = hit(kid, reason)
    work_from(top, kid)
    return result


def kill(top: Tree, kid_id: str) -> Any:
    return crash(top, kid_id, "kill")


def signal(top: Tree, kid_id: str, reason: Any) -> Any:
    kid = find(top, kid_id)
    if kid is None or kid.state == "down":
        return hit(kid, None)
    if kid.kind == "worker" and not kid.trap and reason != "normal":
        kid.die(reason)
        work_from(top, kid)
    return "ok"


def together(top: Tree, hits: list[Any]) -> Any:
    results = [hit(find(top, kid_id), how) for kid_id, how in hits]
    top.work()
    return results


def start_child(top: Tree, child: dict[str, Any]) -> Any:
    present = next((kid for kid in top.kids if kid.id == child["id"]), None)
    if present is not None:
        return ["error", "already_started" if present.state == "up" else "already_present"]
    kid = Kid(child)
    words = list(getattr(kid, "script", []))
    failure = top.start_one(kid)
    if failure is not None:
        return ["error", failure]
    if kid.state == "up" or kid.restart != "temporary":
        top.kids.append(kid)
    return started(kid, words)


def started(kid: Kid, words: list[str]) -> Any:
    if kid.state != "up":
        return ["ok", None]
    return ["ok", "up", "info"] if words[:1] == ["info"] else ["ok", "up"]


def operated(top: Tree, kid_id: str) -> Kid | None:
    return next((kid for kid in top.kids if kid.id == kid_id), None)


def restart_child(top: Tree, kid_id: str) -> Any:
    kid = operated(top, kid_id)
    if kid is None:
        return ["error", "not_found"]
    if kid.state != "down":
        return ["error", "running" if kid.state == "up" else "restarting"]
    words = list(getattr(kid, "script", []))
    failure = top.start_one(kid)
    return ["error", failure] if failure is not None else started(kid, words)


def terminate_child(top: Tree, kid_id: str) -> Any:
    kid = operated(top, kid_id)
    if kid is None:
        return ["error", "not_found"]
    top.stop_one(kid)
    return ["ok", None]


def delete_child(top: Tree, kid_id: str) -> Any:
    kid = operated(top, kid_id)
    if kid is None:
        return ["error", "not_found"]
    if kid.state != "down":
        return ["error", "running" if kid.state == "up" else "restarting"]
    top.forget(kid)
    return ["ok", None]


STEPS: dict[str, Any] = {
    "crash": crash,
    "kill": kill,
    "signal": signal,
    "together": together,
    "start_child": start_child,
    "restart_child": restart_child,
    "terminate_child": terminate_child,
    "delete_child": delete_child,
}
