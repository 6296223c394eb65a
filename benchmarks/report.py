"""Measure peers in alternating rounds; show medians, ratios, and which targets are reached."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from os import cpu_count, getloadavg
from statistics import median
from typing import Any

Measure = Callable[[], float]
"""Runs one round and returns the seconds that one operation took in it."""


@dataclass(frozen=True)
class Settings:
    """How much to measure: rounds of each comparison, and how many servers `many` starts."""

    rounds: int = 31
    long_rounds: int = 3  # where a round takes seconds
    sizes: tuple[int, ...] = (1_000, 10_000, 100_000)


@dataclass(frozen=True)
class Target:
    """What a figure must be: at most ``limit``, or at least."""

    claim: str
    figure: float
    limit: float
    at_most: bool = True
    unit: str = "x"

    @property
    def reached(self) -> bool:
        return self.figure <= self.limit if self.at_most else self.figure >= self.limit


@dataclass
class Section:
    """What one subject found: a table, its targets, and the figures of every round."""

    title: str
    headings: Sequence[str]
    rows: list[Sequence[str]]
    targets: list[Target] = field(default_factory=list)
    rounds: Mapping[str, Sequence[float]] = field(default_factory=dict)
    note: str = ""


class Comparison:
    """Seconds per operation of several peers, round by round.

    All run in every round, one after the other, so that what disturbs the machine disturbs all.
    """

    def __init__(self, peers: Mapping[str, Measure], rounds: int) -> None:
        for measure in peers.values():
            measure()  # The first one pays for imports, threads and caches.
        self.rounds: dict[str, list[float]] = {name: [] for name in peers}
        for _ in range(rounds):
            for name, measure in peers.items():
                self.rounds[name].append(measure())

    def median(self, name: str) -> float:
        return median(self.rounds[name])

    def ratio(self, name: str, peer: str) -> float:
        """How long ``name`` takes, in ``peer``s: the median of the rounds' ratios."""
        pairs = zip(self.rounds[name], self.rounds[peer], strict=True)
        return median(one / other for one, other in pairs)

    def section(self, title: str, against: Sequence[str], note: str = "") -> Section:
        """A table of all peers, and how long each takes in those of ``against``."""
        rows: list[Sequence[str]] = [
            (
                name,
                micros(self.median(name)),
                *(f"{self.ratio(name, peer):.2f}" for peer in against),
            )
            for name in self.rounds
        ]
        headings = ("", "us", *(f"/ {peer}" for peer in against))
        return Section(title, headings, rows, [], self.rounds, note)


def micros(seconds: float) -> str:
    return f"{seconds * 1e6:.2f}"


# ---- printing


def heading() -> str:
    """What was measured, and on what."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("elsa-actors", "pykka"))
    return (
        f"{versions}; {platform.python_implementation()} {platform.python_version()},"
        f" {platform.system()} {platform.machine()}, {cpu_count()} cores,"
        f" load {getloadavg()[0]:.1f}, switch interval {sys.getswitchinterval() * 1e3:g} ms"
    )


def show(section: Section) -> None:
    """Print a section's table."""
    print(f"\n{section.title}")
    lines = [section.headings, *section.rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        first, *rest = (
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        print("  " + "   ".join((first, *rest)))
    if section.note:
        print(f"  {section.note}")


def summarise(sections: Iterable[Section]) -> None:
    """Print every target, and whether it was reached."""
    targets = [target for section in sections for target in section.targets]
    if not targets:
        return
    rows = [
        (
            target.claim,
            f"{target.figure:.{2 if target.figure >= 1 else 3}f} {target.unit}",
            f"{'<=' if target.at_most else '>='} {target.limit:g} {target.unit}",
            "reached" if target.reached else "MISSED",
        )
        for target in targets
    ]
    missed = sum(not target.reached for target in targets)
    show(Section("Targets", ("", "measured", "wanted", ""), list(rows)))
    print(f"\n{len(targets) - missed} of {len(targets)} targets reached.")


def as_json(sections: Iterable[Section]) -> dict[str, Any]:
    """Everything measured, for a file."""
    return {
        "about": heading(),
        "command": sys.argv,
        "sections": [
            {
                "title": section.title,
                "headings": list(section.headings),
                "rows": [list(row) for row in section.rows],
                "rounds": {name: list(figures) for name, figures in section.rounds.items()},
                "targets": [
                    {
                        "claim": target.claim,
                        "figure": target.figure,
                        "limit": target.limit,
                        "at_most": target.at_most,
                        "unit": target.unit,
                        "reached": target.reached,
                    }
                    for target in section.targets
                ],
            }
            for section in sections
        ],
    }
