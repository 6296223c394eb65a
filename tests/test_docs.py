"""The documentation is right: its blocks run, its claims hold, its links lead somewhere."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages import LANGUAGES, ROOT, SECONDS, Block, blocks_of, matches

PAGES = ["README.md", "CHANGELOG.md", *sorted(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))]
TYPED = sorted(f"tests/typed/{path.name}" for path in ROOT.glob("tests/typed/*.py"))
RUNNER = [sys.executable, "-W", "error", str(ROOT / "tests" / "pages.py")]

# In the README every block is a program that runs as it stands; elsewhere those marked so.
PROGRAMS = [
    block
    for page in PAGES
    for block in blocks_of(page)
    if block.is_run and (page == "README.md" or block.program)
]
SHARED = [
    page
    for page in PAGES
    if page != "README.md" and any(b.is_run and not b.program for b in blocks_of(page))
]


def _run(arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        arguments,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def _finish(program: subprocess.Popen[str], printed: str = "") -> tuple[int, str, str]:
    """The program's exit status, output and errors; it is killed when it does not end in time."""
    try:
        rest, errors = program.communicate(timeout=SECONDS + 10)
    except subprocess.TimeoutExpired:
        program.kill()
        rest, errors = program.communicate()
        pytest.fail(f"did not end within {SECONDS + 10} s:\n{printed}{rest}\n{errors}")
    return program.returncode, printed + rest, errors


# ---- what runs


@pytest.mark.parametrize("page", SHARED)
def test_the_blocks_of_a_page_run_and_their_claims_hold(page: str) -> None:
    """What a page shows is what the library does; blocks run in the order of reading."""
    status, printed, errors = _finish(_run([*RUNNER, page]))
    assert (status, errors) == (0, ""), f"{errors}\n{printed}"


@pytest.mark.parametrize("block", PROGRAMS, ids=lambda block: f"{block.page}:{block.line}")
def test_a_program_runs_as_it_stands(block: Block) -> None:
    """A reader copies the block into a file and runs it: it works, prints what it says and ends."""
    how = block.program
    program = _run([*RUNNER, block.page, str(block.line)])
    printed = ""
    if how is not None and how["signal"]:
        assert program.stdout is not None
        for line in program.stdout:
            printed += line
            if how["after"] in line:
                program.send_signal(signal.Signals[how["signal"]])
                break
    status, printed, errors = _finish(program, printed)
    expected = int(how["status"] or 0) if how is not None else 0
    assert (status, errors) == (expected, ""), f"{errors}\n{printed}"
    if block.prints is not None:
        assert matches(block.prints, printed), f"{block.prints}\nit printed:\n{printed}"


@pytest.mark.parametrize("example", TYPED)
def test_a_typed_example_runs(example: str) -> None:
    """What mypy and pyright accept in `make check` also does what it looks like."""
    status, printed, errors = _finish(_run([*RUNNER, example]))
    assert (status, errors) == (0, ""), f"{errors}\n{printed}"


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_what_it_is(page: str) -> None:
    """A block without a language, or one that is not run without a reason, would slip through."""
    for block in blocks_of(page):
        where = f"{page}, line {block.line}"
        assert block.language in LANGUAGES, f"{where}: expected one of {LANGUAGES}"
        if block.comment.startswith(("not run", "program")):
            assert re.fullmatch(r"not run: .{10,}", block.comment) or block.program, where


# ---- the checker itself


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("1 + 1  # -> 3", "line 2: 3\nit is: 2"),
        ("print('a', 'b')  # -> a c", "line 2: a c\nit is: a b"),
        ("x = 1\n[x]\n# -> [1,\n#     2]", "line 3: [1,\n2]\nit is: [1]"),
        ("if False:\n    1  # -> 1", "line 3: never reached: 1"),
        ("def f():\n    f  # raises KeyError", "line 3: never reached: KeyError"),
        ("x = 1  # -> 1", "line 2: a claim about no statement"),
        ("1  # raises KeyError", "line 2: KeyError\nnothing was raised"),
        ("{}[1]  # raises ValueError", "line 2: ValueError\nit was: KeyError(1)"),
        ("{}[1]  # raises KeyError: 2", "line 2: KeyError: 2\nit was: KeyError(1)"),
        ("{}[1]  # raises KeyError, reason 1", "it was: KeyError(1) with the reason None"),
        ("assert 1 == 2", "assert 1 == 2"),
    ],
)
def test_the_checker_sees_what_is_wrong(tmp_path: Path, source: str, complaint: str) -> None:
    """A checker that finds nothing wrong with a wrong page would be worth nothing."""
    page = tmp_path / "page.md"
    page.write_text(f"```python\n{source}\n```\n")
    status, _, errors = _finish(_run([*RUNNER, str(page)]))
    assert status != 0
    assert complaint in errors


def test_the_checker_is_content(tmp_path: Path) -> None:
    """A checker that cried at right pages would be obeyed by nobody."""
    page = tmp_path / "page.md"
    page.write_text(
        "```python\nx = [1, {'a': object()}]\n```\nText.\n```python\n"
        "x  # -> [1, {'a': <object object at ...>}]\nprint(x[0])  # -> 1\n"
        "for y in x: y  # a remark\n"
        "x[7]  # raises IndexError: list index out of range\n"
        "def f():\n    return print(1)\nf()  # -> 1\n```\n"
        "<!-- not run: it would not end -->\n```python\nwhile True: pass\n```\n"
    )
    status, printed, errors = _finish(_run([*RUNNER, str(page)]))
    assert (status, printed, errors) == (0, "1\n1\n", "")


# ---- what leads somewhere


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    plain = (re.sub(r"[^\w\s-]", "", heading.lower()) for heading in headings)
    return {re.sub(r"\s", "-", heading.strip()) for heading in plain}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """A link to a page or a heading that is not there sends the reader nowhere."""
    here = ROOT / page
    prose = re.sub(r"^```.*?^```", "", here.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (here.parent / path).resolve() if path else here
        assert file.exists(), f"{page}: {target}"
        assert not anchor or anchor in _anchors(file), f"{page}: no such heading: {target}"


def test_the_index_lists_every_page() -> None:
    """A page that the index does not name is found by nobody."""
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    pages = {path.name for path in ROOT.glob("docs/*.md")} - {"index.md"}
    assert {name for name in pages if f"]({name})" not in index} == set()


# ---- what the code says, too


LEVELS = ("debug", "info", "warning", "error")


def _logged(source: str) -> set[tuple[str, str, frozenset[str]]]:
    """The structlog events of a source: (event, level, keys)."""
    events = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(args=[ast.Constant(value=str(event)), *_], keywords=keywords):
                # The function may be chosen: (log.info if clean else log.warning)("event", ...).
                for log in ast.walk(node.func):
                    match log:
                        case ast.Attribute(value=ast.Name(id="log"), attr=level):
                            keys = {keyword.arg for keyword in keywords} - {"exc_info"}
                            events.add((event, level, frozenset(map(str, keys))))
    return {event for event in events if event[1] in LEVELS}


def test_the_page_on_logging_lists_every_event() -> None:
    """An alert hangs on an event's name and keys: the page names exactly what the code logs."""
    logged = set()
    for path in (ROOT / "elsa_actors").rglob("*.py"):
        logged |= _logged(path.read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "logging.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ([\w, ]+) \| ([^|]*) \|", page, re.M)
    listed = {
        (event, level, frozenset(re.findall(r"`(\w+)`", keys)))
        for event, levels, keys in rows
        for level in levels.split(", ")
    }
    assert listed == logged


NOT_PORTED = {
    *("INIT-14", "INIT-19", "LNKS-10", "LNKS-13", "LNKS-14", "NAME-08", "CALL-18", "CALL-19"),
    *("CIC-05", "CIC-22", "SFAI-05", "ESUP-01", "ESUP-10", "SINI-11", "SINI-17", "SAUT-10"),
    *("SRST-05", "SADM-23", "SMSC-05", "SYS-21", "SYS-22", "DEAD-10"),
    *("TMO-17", "TMO-18", "TMO-19", "REG-17", "REG-20", "REG-21"),
    *(f"SSOF-{number:02}" for number in range(1, 14)),
    *("TASK-12", "TASK-13", "TASK-14", "TASK-18", "TASK-19", "TASK-20", "TASK-22", "TASK-23"),
    *("TSUP-02", "TSUP-04", "TSUP-09", "PSUP-01", "PSUP-09"),
}


def test_the_differences_list_what_is_not_ported() -> None:
    """A case named there needs no test: the list says what is missing, and excuses nothing else."""
    page = (ROOT / "docs" / "differences.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\b[A-Z]{3,4}-\d\d\b", page)) == NOT_PORTED
