"""Record what the real OTP does in random scenarios, for test_against_otp.py to compare with.

    python tests/otp/record_otp_scenarios.py                      write the data file anew
    python tests/otp/record_otp_scenarios.py --compare SEED COUNT play new ones on both, now

It needs Erlang (`apt-get install erlang-base`; the file in tests/data was made with OTP 25). One
thing is put right on the way: OTP 25 leaves the 'EXIT' of a process that ignored in the mail of
its starter, where later OTPs and this library leave nothing (otp_scenarios.erl says where).
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ORACLE = HERE / "otp_scenarios.erl"
DATA = HERE.parent / "data" / "otp_scenarios.jsonl"

SEED = 20_25
SUPERVISORS, SERVERS = 600, 400

REASONS = ["boom", "boom", "normal", "shutdown", ["shutdown", "x"]]
STRATEGIES = ["one_for_one", "one_for_all", "rest_for_one"]


# ---- scenarios of supervisors


class Tree:
    """Makes one scenario of a supervisor."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.names = (f"{letter}{round or ''}" for round in range(9) for letter in "abcdefghij")
        self.workers: list[str] = []
        self.top: list[str] = []
        self.killable: list[str] = []

    def scenario(self) -> dict[str, Any]:
        rng = self.rng
        if rng.random() < 0.15:
            return self.work_that_ends()
        strategy, limit = rng.choice(STRATEGIES), rng.choice([0, 1, 2, 3, 5])
        auto = rng.choices(["never", "any_significant", "all_significant"], [4, 1, 2])[0]
        self.auto_shutdown = auto
        children = [self.child(auto, top=True) for _ in range(rng.randint(1, 5))]
        steps = [self.step() for _ in range(rng.randint(2, 9))]
        end = rng.choice(
            [["signal", "shutdown"], ["signal", rng.choice(REASONS)], ["stop", "normal"]]
        )
        return {
            "family": "supervisor",
            "flags": [strategy, limit, auto],
            "children": children,
            "steps": steps,
            "end": end,
        }

    def work_that_ends(self) -> dict[str, Any]:
        """Significant children that are done, fail and cannot start again, all at once."""
        rng, names = self.rng, "abcd"[: self.rng.randint(2, 4)]
        auto = rng.choice(["all_significant", "all_significant", "any_significant"])
        children = [
            {
                "id": name,
                "restart": rng.choice(["transient", "transient", "temporary"]),
                "significant": rng.random() < 0.9,
                "shutdown": 5,
                "trap": True,
                "script": ["ok", *rng.choices(["ok", "error", "ignore"], [4, 4, 1], k=3)],
            }
            for name in names
        ]
        steps = []
        for _ in range(rng.randint(1, 3)):
            several = rng.sample(names, rng.randint(1, len(names)))
            steps.append(["together", [[one, rng.choice(REASONS)] for one in several]])
        return {
            "family": "supervisor",
            "flags": [rng.choice(STRATEGIES), 5, auto],
            "children": children,
            "steps": steps,
            "end": ["stop", "normal"],
        }

    def child(self, auto: str, top: bool) -> dict[str, Any]:
        if top and self.rng.random() < 0.2:
            return self.supervisor(auto)
        child = self.worker(next(self.names), auto)
        self.workers.append(child["id"])
        self.killable.append(child["id"])
        if top:
            self.top.append(child["id"])
        return child

    def common(self, child_id: str, auto: str) -> dict[str, Any]:
        restart = self.rng.choice(["permanent", "permanent", "transient", "temporary"])
        significant = auto != "never" and restart != "permanent" and self.rng.random() < 0.7
        return {"id": child_id, "restart": restart, "significant": significant}

    def worker(self, child_id: str, auto: str, traps: float = 0.7) -> dict[str, Any]:
        rng = self.rng
        script: list[str] = []
        if rng.random() < 0.6:
            first = rng.choices(
                ["ok", "info", "ignore", "ignore_in_init", "stop"], [20, 2, 2, 1, 1]
            )
            words = ["ok", "error", "stop", "raise", "raise_in_init", "exit", "wrong"]
            words += ["wrong_in_init", "ignore", "ignore_in_init", "info"]
            weights = [9, 3, 2, 1, 1, 1, 1, 1, 2, 1, 1]
            script = first + rng.choices(words, weights, k=rng.randint(0, 5))
        return {
            **self.common(child_id, auto),
            "shutdown": rng.choice([5, 5, "infinity", "brutal_kill"]),
            "trap": rng.random() < traps,
            "script": script,
        }

    def supervisor(self, auto: str) -> dict[str, Any]:
        rng, child_id = self.rng, next(self.names)
        self.top.append(child_id)
        inner_auto = rng.choices(["never", "any_significant", "all_significant"], [5, 1, 1])[0]
        kind = rng.random() < 0.4
        children = []
        for _ in range(rng.randint(1, 3)):
            child = self.worker(next(self.names), inner_auto, traps=0.0 if kind else 0.8)
            self.workers.append(child["id"])
            children.append(child)
        if kind:
            self.killable.append(child_id)
        return {
            **self.common(child_id, auto),
            "flags": [rng.choice(STRATEGIES), rng.choice([0, 1, 3]), inner_auto],
            "children": children,
        }

    def step(self) -> list[Any]:
        rng = self.rng
        kind = rng.choices(
            ["crash", "kill", "signal", "together", "start", "restart", "terminate", "delete"],
            [7, 2, 1, 4, 2, 3, 3, 2],
        )[0]
        anybody = [*self.top, "nobody"]
        match kind:
            case "crash":
                return ["crash", rng.choice([*self.workers, "nobody"]), rng.choice(REASONS)]
            case "kill":
                return ["kill", rng.choice([*self.killable, "nobody"])]
            case "signal":
                return ["signal", rng.choice([*self.workers, *self.top]), rng.choice(REASONS)]
            case "together":
                workers = [label for label in self.top if label in self.workers]
                several = rng.sample(workers, min(len(workers), rng.randint(2, 4)))
                return ["together", [[one, rng.choice([*REASONS, "kill"])] for one in several]]
            case "start":
                if rng.random() < 0.3 and self.workers:
                    return ["start_child", self.worker(rng.choice(self.top), self.auto_shutdown)]
                return ["start_child", self.child(self.auto_shutdown, top=True)]
            case other:
                return [f"{other}_child", rng.choice(anybody)]


# ---- scenarios of servers


class Server:
    """Makes one scenario of a server."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def scenario(self) -> dict[str, Any]:
        rng = self.rng
        init = rng.choices(
            ["ok", "ignore", "stop", "raise", "exit", "wrong"], [20, 0.7, 1, 0.5, 0.5, 0.5]
        )[0]
        return {
            "family": "server",
            "how": rng.choice(["start", "start_link"]),
            "trap": rng.random() < 0.6,
            "init": ["ok", self.then()] if init == "ok" else self.word(init),
            "terminate": rng.choices([["fine"], ["raise"], ["exit", self.reason()]], [8, 1, 1])[0],
            "steps": [self.step() for _ in range(rng.randint(1, 8))],
        }

    def reason(self) -> Any:
        return self.rng.choice(REASONS[1:])

    def word(self, word: str) -> list[Any]:
        return [word, self.reason()] if word in ("stop", "exit") else [word]

    def then(self, depth: int = 0) -> Any:
        word = self.rng.choices(
            [None, "hibernate", "now", "later", "never", "continue"], [12, 1, 2, 1, 1, 5]
        )[0]
        match word:
            case "now":
                return ["timeout", 0]
            case "later":
                return ["timeout", 60_000]
            case "never":
                return ["timeout", "infinity"]
            case "continue":
                return ["continue", self.action(depth + 1)] if depth < 3 else None
        return word

    def action(self, depth: int = 0) -> list[Any]:
        """What a cast, an info or a continue does."""
        word = self.rng.choices(
            ["noreply", "answer", "stop", "raise", "exit", "wrong"], [14, 4, 0.6, 0.3, 0.3, 0.3]
        )[0]
        match word:
            case "noreply":
                return ["noreply", self.then(depth)]
            case "answer":
                return ["answer", self.rng.randint(0, 9), self.then(depth)]
        return self.word(word)

    def request(self, keep: bool) -> list[Any]:
        """What a call does; with ``keep`` it may leave the caller without an answer."""
        rng = self.rng
        word = rng.choices(
            ["reply", "reply_first", "reply_stop", "stop_reply", "stop", "raise", "exit", "wrong"],
            [14, 5, 0.4, 0.4, 0.4, 0.3, 0.3, 0.3],
        )[0]
        if keep and rng.random() < 0.5:
            return ["keep", self.then()]
        match word:
            case "reply" | "reply_first":
                return [word, rng.randint(0, 9), self.then()]
            case "reply_stop" | "stop_reply":
                return [word, self.reason(), rng.randint(0, 9)]
        return self.word(word)

    def step(self) -> list[Any]:
        rng = self.rng
        kind = rng.choices(["call", "stop", "suspended", "other"], [6, 0.5, 3, 10])[0]
        match kind:
            case "call":
                return ["call", self.request(keep=False)]
            case "stop":
                return ["stop", self.reason()]
            case "suspended":
                return ["suspended", [self.plain_step() for _ in range(rng.randint(0, 4))]]
        return self.plain_step()

    def plain_step(self) -> list[Any]:
        """A step that does not wait for the server's own code."""
        rng = self.rng
        kind = rng.choices(
            ["ask", "cast", "info", "signal", "stranger", "peer", "get_state", "replace_state"],
            [6, 6, 6, 0.6, 0.6, 0.6, 2, 1],
        )[0]
        match kind:
            case "ask":
                return ["ask", self.request(keep=True)]
            case "cast" | "info":
                return [kind, self.action()]
            case "signal" | "stranger":
                return [kind, rng.choice([*REASONS, "kill"])]
            case "peer":
                return [kind, rng.choice(REASONS)]
            case "replace_state":
                return [kind, rng.randint(100, 900)]
        return [kind]


def scenarios(seed: int, supervisors: int, servers: int) -> Iterator[dict[str, Any]]:
    rng = random.Random(seed)
    for _ in range(supervisors):
        yield Tree(rng).scenario()
    for _ in range(servers):
        yield Server(rng).scenario()


# ---- playing them on OTP


def erlang(term: Any) -> str:
    """JSON as an Erlang term: words are atoms, objects are maps."""
    match term:
        case None:
            return "null"
        case bool():
            return str(term).lower()
        case int():
            return str(term)
        case str():
            return f"'{term}'"
        case list():
            return f"[{','.join(map(erlang, term))}]"
        case dict():
            return f"#{{{','.join(f'{key!r}=>{erlang(term[key])}' for key in term)}}}"
    raise TypeError(term)


def play_on_otp(given: list[dict[str, Any]]) -> list[Any]:
    """What the real OTP does in these scenarios."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["erlc", "-o", folder, str(ORACLE)], check=True)
        terms = Path(folder) / "scenarios.term"
        terms.write_text("".join(f"{erlang(one)}.\n" for one in given))
        command = ["erl", "-noshell", "-pa", folder, "-run", "otp_scenarios", "play", str(terms)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    saw = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(saw) == len(given)
    return saw


def record() -> None:
    given = list(scenarios(SEED, SUPERVISORS, SERVERS))
    with DATA.open("w") as file:
        for scenario, saw in zip(given, play_on_otp(given), strict=True):
            line = json.dumps({"scenario": scenario, "seen": saw}, separators=(",", ":"))
            file.write(f"{line}\n")


def compare(seed: int, count: int) -> int:
    """Play new scenarios on both sides; the number of those that differ."""
    import structlog

    sys.path.insert(0, str(HERE.parents[1]))
    from tests.otp.scenarios import play

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    given = list(scenarios(seed, count * 3 // 5, count - count * 3 // 5))
    different = 0
    for scenario, expected in zip(given, play_on_otp(given), strict=True):
        got = json.loads(json.dumps(play(scenario)))
        if got != expected:
            different += 1
            sys.stdout.write(f"{json.dumps(scenario)}\n")
            for place in range(max(len(got), len(expected))):
                otp, ours = expected[place : place + 1], got[place : place + 1]
                sys.stdout.write(f"  otp  {json.dumps(otp)}\n")
                if otp != ours:
                    sys.stdout.write(f"  OURS {json.dumps(ours)}\n")
    sys.stdout.write(f"{different} of {count} scenarios differ from OTP (seed {seed})\n")
    return different


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--compare", nargs=2, type=int, metavar=("SEED", "COUNT"))
    options = parser.parse_args()
    if options.compare:
        return 1 if compare(*options.compare) else 0
    record()
    return 0


if __name__ == "__main__":
    sys.exit(main())
