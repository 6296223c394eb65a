"""The tests cover the behaviours of the original, case by case.

`tests/data/conformance.tsv` lists the observed cases of OTP and Elixir with their priorities. A
test names in its docstring the cases that it covers; `docs/differences.md` names those that are not
ported.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CASE = re.compile(r"\b([A-Z]{3,4})-(\d\d)((?:/\d\d)*)(?!\d)")


def named_in(text: str) -> Iterator[str]:
    """The case ids in a text: INIT-05, and CALL-18/19 for two."""
    for area, first, more in CASE.findall(text):
        for number in (first, *more.split("/")[1:]):
            yield f"{area}-{number}"


def covered() -> set[str]:
    """The ids in the docstrings of test functions; a skipped or unfinished test covers nothing."""
    ids: set[str] = set()
    for path in HERE.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef) or not node.name.startswith("test_"):
                continue
            marks = " ".join(ast.unparse(decorator) for decorator in node.decorator_list)
            if not re.search(r"skip|xfail", marks):
                ids.update(named_in(ast.get_docstring(node) or ""))
    return ids


def cases() -> list[tuple[str, str]]:
    lines = (HERE / "data" / "conformance.tsv").read_text().splitlines()
    return [(case, priority) for case, priority in (line.split("\t") for line in lines)]


def not_ported() -> set[str]:
    return set(named_in((HERE.parent / "docs" / "differences.md").read_text()))


def test_every_serious_case_has_a_test_or_a_reason():
    """A case that a serious user meets is tested, or the documentation says what we do instead."""
    serious = {case for case, priority in cases() if priority in ("P1", "P2")}
    missing = sorted(serious - covered() - not_ported())
    assert not missing, f"{len(missing)} cases have neither a test nor a reason: {missing}"


def test_no_test_names_a_case_that_does_not_exist():
    """A mistyped id would cover nothing while it looks as if it did."""
    known = {case for case, _ in cases()}
    areas = {case.partition("-")[0] for case in known}
    wrong = sorted(case for case in covered() - known if case.partition("-")[0] in areas)
    assert not wrong


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("Stops. TERM-01, TERM-02.", ["TERM-01", "TERM-02"]),
        ("CALL-18/19", ["CALL-18", "CALL-19"]),
        ("UTF-8 and SHA-256", []),
    ],
)
def test_ids_are_found(text: str, ids: list[str]):
    """The reading of docstrings is itself right."""
    assert list(named_in(text)) == ids
