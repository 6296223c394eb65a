"""The rules of the house: who imports whom, and who knows threads, the clock, Pykka and Kafka.

A room imports only from the rooms above it in the list, a file only from the files listed before
it in its room, and nobody from a front door (an `__init__.py`). Imports under `if TYPE_CHECKING` do
not count; imports inside functions do.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "elsa_actors"

# Each room's files in reading order. A new file is put where a reader should meet it.
ROOMS = {
    "runtime": [
        "errors",
        "exits",
        "clock",
        "scheduler",
        "waiting",
        "mailbox",
        "links",
        "names",
        "living",
        "death",
        "actor",
        "process",
    ],
    "otp": [
        "results",
        "gen_server",
        "child_spec",
        "restart",
        "reports",
        "child",
        "supervisor",
        "dynamic_supervisor",
        "registry",
        "backoff",
        "wrapper",
        "task",
        "agent",
        "debug",
    ],
    "kafka": [
        "errors",
        "message",
        "librdkafka",
        "message_handler",
        "config",
        "partitioner",
        "offsets",
        "driver",
        "connection",
        "client",
        "producer",
        "consumer",
        "worker",
        "process_manager",
        "supervisor",
        "topic",
        "produce",
        "fetch",
        "embedded",
        "distribution",
        "apache",
        "cli",
    ],
    "ops": [
        "snapshot",
        "commands",
        "control",
        "render",
        "cli",
        "observer",
    ],
    "testing": [],
}

# The files that stand above all rooms; these too in reading order.
TOP = ["program", "demo_screen", "demo", "__main__"]

# Which rooms a room may use besides itself. Kafka and ops do not know each other; nobody uses
# testing. The last line is for the files at the top.
USES = {
    "runtime": [],
    "otp": ["runtime"],
    "kafka": ["runtime", "otp"],
    "ops": ["runtime", "otp"],
    "testing": ["runtime", "otp", "kafka", "ops"],
    "": ["runtime", "otp", "kafka", "ops"],
}

# What only some know: a room, or one file of a room. Kafka knows threads because librdkafka calls
# back on its own, and a wrapper because it watches what is no process.
KNOWN_ONLY_TO = {
    "pykka": ["runtime/actor", "runtime/mailbox"],
    "confluent_kafka": ["kafka"],
    "threading": ["runtime", "kafka", "otp/wrapper"],
    "_thread": ["runtime", "kafka", "otp/wrapper"],
    "time": ["runtime/clock"],
}

# Files that decide and never do: their tests need no thread, no process and no clock.
PURE = ["runtime/links", "otp/restart", "otp/backoff", "kafka/offsets", "ops/render"]
IMPURE = [
    "threading",
    "_thread",
    "time",
    "pykka",
    "confluent_kafka",
    "elsa_actors.runtime.clock",
    "elsa_actors.runtime.scheduler",
    "elsa_actors.runtime.waiting",
    "elsa_actors.runtime.mailbox",
    "elsa_actors.runtime.death",
    "elsa_actors.runtime.actor",
    "elsa_actors.runtime.process",
]


# --- what a file imports -----------------------------------------------------------------------


@dataclass(frozen=True)
class Import:
    """One name that a file imports, in full: `pykka.messages`, `elsa_actors.otp.results.Reply`."""

    line: int
    name: str


def imports_of(source: str, package: str) -> Iterator[Import]:
    """Every import that can happen at run time; a relative one starts from `package`."""
    for node in _nodes_that_run(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                for alias in names:
                    yield Import(node.lineno, alias.name)
            case ast.ImportFrom(module=module, names=names, level=level):
                start = (
                    ".".join(package.split(".")[: len(package.split(".")) - level + 1])
                    if level
                    else ""
                )
                origin = ".".join(part for part in (start, module) if part)
                for alias in names:
                    yield Import(node.lineno, f"{origin}.{alias.name}")
            case ast.Call(
                func=ast.Name(id="__import__" | "import_module")
                | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield Import(node.lineno, name)


def _nodes_that_run(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and _is_type_checking(child.test):
            for other in child.orelse:
                yield from _nodes_that_run(other)
        else:
            yield from _nodes_that_run(child)


def _is_type_checking(test: ast.expr) -> bool:
    match test:
        case ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"):
            return True
    return False


# --- which of them are against the rules -------------------------------------------------------


def complaints(file: str, source: str) -> list[str]:
    """What is wrong with a file's imports, one sentence each; `file` is like "otp/restart"."""
    room, _, name = file.rpartition("/")
    package = f"elsa_actors.{room}" if room else "elsa_actors"
    found = []
    for imported in imports_of(source, package):
        for complaint in (
            _wrong_neighbour(room, name, imported.name),
            _wrong_acquaintance(file, imported.name),
            _impure(file, imported.name),
        ):
            if complaint:
                found.append(f"elsa_actors/{file}.py, line {imported.line}: {complaint}")
    return found


def _wrong_neighbour(room: str, name: str, imported: str) -> str | None:
    """Whether a file of a room ("" for the top) may import this name of ours."""
    top, *rest = imported.split(".")
    if top != "elsa_actors":
        return None
    match rest:
        case [their_room, *their_file] if their_room in ROOMS:
            listed = ROOMS[their_room]
        case _:
            their_room, their_file, listed = "", rest, TOP
    if their_room and their_room not in (room, *USES[room]):
        return f"{room or 'the top'} may use {', '.join(USES[room]) or 'no room'}; not {imported}"
    if not their_file or their_file[0] not in listed:
        return f"{imported} is a front door's or of no listed file; name the file it comes from"
    if their_room != room:
        return None if their_room else f"{imported} stands above the rooms; {room} may not use it"
    if name == "__init__" or name not in listed:
        return None
    if listed.index(their_file[0]) < listed.index(name):
        return None
    return f"{imported} is not listed before {name}; put what both need in a file that is"


def _wrong_acquaintance(file: str, imported: str) -> str | None:
    top = imported.split(".")[0]
    knowing = KNOWN_ONLY_TO.get(top)
    if knowing is None or any(file == one or file.startswith(f"{one}/") for one in knowing):
        return None
    return f"{imported} is known only to {', '.join(knowing)}"


def _impure(file: str, imported: str) -> str | None:
    if file in PURE and any(imported == one or imported.startswith(f"{one}.") for one in IMPURE):
        return f"a pure file imports {imported}; take values in, and let a process file do the rest"
    return None


# --- the house ---------------------------------------------------------------------------------


def _files() -> list[str]:
    """Every Python file of the package that there is."""
    return sorted(
        path.relative_to(PACKAGE).with_suffix("").as_posix() for path in PACKAGE.rglob("*.py")
    )


@pytest.mark.parametrize("file", _files())
def test_file_imports_only_what_it_may(file: str) -> None:
    """The reading order is true: whoever reads a file has met all that it uses."""
    assert complaints(file, (PACKAGE / f"{file}.py").read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("room", ROOMS)
def test_room_has_exactly_the_files_that_are_listed(room: str) -> None:
    """A file without a place in the reading order has no place in the house."""
    here = {file.removeprefix(f"{room}/") for file in _files() if file.startswith(f"{room}/")}
    if not here:
        pytest.skip(f"{room} is not built yet")
    assert here == {"__init__", *ROOMS[room]}


def test_nothing_else_stands_in_the_house() -> None:
    """Above the rooms there are only the files that are listed, and there is no other room."""
    others = {file for file in _files() if file.partition("/")[0] not in ROOMS}
    assert others <= {"__init__", *TOP}


def test_importing_elsa_actors_loads_runtime_and_otp_only() -> None:
    """Who wants no Kafka and no operators' tools does not pay for them."""
    loaded = subprocess.run(
        [sys.executable, "-c", "import elsa_actors, sys; print(*sys.modules)"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    others = ("confluent_kafka", "elsa_actors.kafka", "elsa_actors.ops", "elsa_actors.testing")
    assert [module for module in loaded if module.startswith(others)] == []
    assert {"elsa_actors.runtime.process", "elsa_actors.otp.supervisor"} <= set(loaded)


# --- the checker itself ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "source", "complaint"),
    [
        ("runtime/errors", "from elsa_actors.otp.results import Reply", "may use no room; not"),
        ("otp/task", "import elsa_actors.kafka.client", "may use runtime; not"),
        ("kafka/client", "from elsa_actors.ops.control import x", "may use runtime, otp; not"),
        ("ops/control", "from elsa_actors.kafka.client import x", "may use runtime, otp; not"),
        ("demo", "from elsa_actors.testing.fixtures import x", "the top may use"),
        ("otp/task", "from elsa_actors.program import run", "stands above the rooms"),
        ("runtime/exits", "from elsa_actors.runtime.clock import clock", "not listed before exits"),
        ("runtime/exits", "from elsa_actors.runtime import clock", "not listed before exits"),
        ("runtime/exits", "from .clock import clock", "not listed before exits"),
        ("runtime/exits", "from elsa_actors.runtime.exits import Exit", "not listed before exits"),
        ("program", "from elsa_actors.demo import story", "not listed before program"),
        ("otp/task", "def f():\n    import elsa_actors.otp.agent", "line 2: elsa_actors.otp.agent"),
        (
            "otp/task",
            "if not TYPE_CHECKING:\n    import elsa_actors.otp.agent",
            "not listed before",
        ),
        (
            "otp/task",
            "if TYPE_CHECKING:\n    pass\nelse:\n    import elsa_actors.otp.agent",
            "line 4",
        ),
        ("otp/task", "importlib.import_module('elsa_actors.otp.agent')", "not listed before task"),
        ("otp/task", "import elsa_actors", "front door"),
        ("otp/task", "from elsa_actors import process", "front door"),
        ("otp/task", "from elsa_actors import runtime", "front door"),
        ("otp/task", "from elsa_actors.otp import GenServer", "front door"),
        ("otp/task", "from . import GenServer", "front door"),
        ("otp/task", "from .. import process", "front door"),
        ("kafka/cli", "from elsa_actors.otp import call", "front door"),
        ("otp/task", "from elsa_actors.otp.unlisted import x", "no listed file"),
        ("demo", "from elsa_actors.kafka import ElsaSupervisor", "front door"),
        ("__init__", "from elsa_actors.otp import GenServer", "front door"),
        ("otp/__init__", "from elsa_actors.kafka.client import Client", "may use runtime; not"),
        ("otp/gen_server", "import pykka", "known only to runtime/actor, runtime/mailbox"),
        ("runtime/process", "from pykka.messages import ProxyCall", "known only to runtime/actor"),
        ("otp/task", "import confluent_kafka as ck", "known only to kafka"),
        ("otp/supervisor", "import threading", "known only to runtime, kafka, otp/wrapper"),
        ("otp/supervisor", "import _thread", "known only to runtime, kafka, otp/wrapper"),
        ("runtime/scheduler", "from time import monotonic", "known only to runtime/clock"),
        ("otp/restart", "from elsa_actors.runtime.process import link", "a pure file imports"),
        ("runtime/links", "import threading", "a pure file imports threading"),
    ],
)
def test_checker_complains(file: str, source: str, complaint: str) -> None:
    """A rule that nobody can break by accident is one that the checker sees broken."""
    assert complaint in "\n".join(complaints(file, source))


@pytest.mark.parametrize(
    ("file", "source"),
    [
        (
            "runtime/actor",
            "import pykka\nimport threading\nfrom elsa_actors.runtime.errors import NoProcess",
        ),
        ("runtime/clock", "import time"),
        ("otp/task", "from elsa_actors.runtime import process"),
        ("otp/task", "from elsa_actors.otp.gen_server import GenServer"),
        ("otp/task", "from .gen_server import GenServer"),
        ("otp/task", "import timeit, threading_utils, structlog"),
        (
            "otp/task",
            "if TYPE_CHECKING:\n    import pykka\n    from elsa_actors.otp.agent import Agent",
        ),
        ("otp/task", "if typing.TYPE_CHECKING:\n    from elsa_actors import Agent"),
        ("otp/wrapper", "import threading"),
        ("otp/__init__", "from elsa_actors.otp.agent import Agent"),
        (
            "kafka/client",
            "import threading, confluent_kafka\nfrom elsa_actors.otp.wrapper import Wrapper",
        ),
        ("__init__", "from elsa_actors.program import run\nfrom elsa_actors.otp.task import Task"),
        ("__main__", "from elsa_actors.demo import story\nfrom elsa_actors.ops.cli import main"),
        ("testing/fixtures", "from elsa_actors.ops.render import render"),
    ],
)
def test_checker_is_content(file: str, source: str) -> None:
    """A checker that cried at everything would be obeyed by nobody."""
    assert complaints(file, source) == []
