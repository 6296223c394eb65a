"""Show the demo's story: as a live picture on a terminal that has rich, as plain lines else."""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self, TextIO

NICER = "(pip install 'elsa-actors[demo]' makes a live picture of this)"
PLAIN_EVERY = 1.0
"""How often, in seconds, plain lines tell how many orders there are."""


# ---- what is shown


@dataclass(frozen=True)
class Box:
    """A process in the tree. ``fresh``: it was not there when the story began."""

    name: str
    kind: str
    number: str
    fresh: bool
    children: Sequence[Box] = ()

    def walk(self, depth: int = 0) -> Iterator[tuple[int, Box]]:
        yield depth, self
        for child in self.children:
            yield from child.walk(depth + 1)


@dataclass(frozen=True)
class Light:
    """Whether a process is running now. ``blinks``: it is back since a moment ago."""

    group: str
    is_on: bool
    blinks: bool
    restarts: int


@dataclass(frozen=True)
class Frame:
    """One look at the shop: how many orders there are, and who is running."""

    seconds: float
    share: float
    placed: int
    confirmed: int
    handled: int
    again: int
    sent_again: int
    lights: Sequence[Light]


# ---- how it is shown


class Screen(ABC):
    """Where the story is told, within a ``with`` block."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end_picture()

    @abstractmethod
    def say(self, text: str, mood: str = "plain") -> None:
        """A line of the story. Moods: plain, title, kill, back, log, good, bad."""

    @abstractmethod
    def tree(self, title: str, top: Box) -> None:
        """The whole tree, as it is now."""

    @abstractmethod
    def trees(self, before: Box, after: Box) -> None:
        """The tree as it was and as it is."""

    @abstractmethod
    def frame(self, frame: Frame) -> None:
        """How it stands; called all the time, and shown as often as is good."""

    def end_picture(self) -> None:
        """What follows are words again."""
        return

    @abstractmethod
    def proof(self, rows: Sequence[tuple[str, str]], verdict: str, holds: bool) -> None:
        """What the whole story has shown."""


def best_screen(out: TextIO | None = None) -> Screen:
    """The nicest screen there can be for this output (None: standard output)."""
    target: TextIO = sys.stdout if out is None else out
    if not target.isatty() or os.environ.get("TERM") == "dumb":
        return PlainScreen(target)
    try:
        return RichScreen()
    except ImportError:
        screen = PlainScreen(target)
        screen.say(NICER)
        return screen


class PlainScreen(Screen):
    """One line after the other, in ASCII: for pipes, logs and terminals without rich."""

    MARKS = {"kill": "  x ", "back": "  + ", "log": "      log: "}

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._next = PLAIN_EVERY

    def say(self, text: str, mood: str = "plain") -> None:
        if mood == "title":
            self._line("")
        self._line(self.MARKS.get(mood, "") + text)

    def tree(self, title: str, top: Box) -> None:
        self.say(title, "title")
        for depth, box in top.walk(1):
            mark = "  (new)" if box.fresh else ""
            self._line(f"{'  ' * depth + box.name:<24}{box.kind:<22}{box.number}{mark}".rstrip())

    def trees(self, before: Box, after: Box) -> None:
        self.tree("The tree after it all:", after)

    def frame(self, frame: Frame) -> None:
        if frame.seconds < self._next:
            return
        self._next = frame.seconds + PLAIN_EVERY
        self._line(
            f"{frame.seconds:5.1f} s  {frame.placed:>7,} placed {frame.confirmed:>7,} confirmed"
            f" {frame.handled:>7,} handled"
        )

    def proof(self, rows: Sequence[tuple[str, str]], verdict: str, holds: bool) -> None:
        self.say("The proof:", "title")
        for name, value in rows:
            self._line(f"  {name:<42}{value:>16}")
        self._line("")
        self._line(verdict)

    def _line(self, text: str) -> None:
        self._out.write(f"{text}\n")
        self._out.flush()


class RichScreen(Screen):
    """A picture that moves below, and the story that scrolls above it. Raises ImportError."""

    STYLES = {
        "plain": ("", ""),
        "title": ("", "bold"),
        "kill": ("  ✗ ", "bold red"),
        "back": ("  ↻ ", "green"),
        "log": ("      log: ", "dim"),
        "good": ("", "bold green"),
        "bad": ("", "bold red"),
    }
    BARS = "▁▂▃▄▅▆▇█"
    WINDOW = 0.25
    """Over how many seconds each bar counts what was handled."""

    def __init__(self, console: Any = None) -> None:
        from rich.console import Console

        self._console = Console(highlight=False) if console is None else console
        self._live: Any = None
        self._rates: deque[float] = deque(maxlen=30)
        self._last: Frame | None = None

    def say(self, text: str, mood: str = "plain") -> None:
        from rich.text import Text

        mark, style = self.STYLES[mood]
        if mood == "title":
            self._console.print()
        # A line that is too long would push the picture down by a line that nobody counted.
        line = Text(mark + text, style=style, no_wrap=self._live is not None, overflow="ellipsis")
        self._console.print(line)

    def tree(self, title: str, top: Box) -> None:
        self.say(title, "title")
        self._console.print(self._drawn(top, with_kind=True))

    def trees(self, before: Box, after: Box) -> None:
        from rich.table import Table

        table = Table.grid(padding=(0, 3))
        self.say("")
        table.add_row("[bold]before[/]", "[bold]after[/] ([green]green: a new process[/])")
        # Side by side there is no room for the kinds; they stand in the first tree.
        table.add_row(self._drawn(before, with_kind=False), self._drawn(after, with_kind=False))
        self._console.print(table)

    def _drawn(self, top: Box, with_kind: bool) -> Any:
        from rich.text import Text
        from rich.tree import Tree

        label = Text.assemble(
            (top.name, "bold green" if top.fresh else "bold"),
            (f" {top.kind}" if with_kind else "", "dim"),
            (f" {top.number}", "green" if top.fresh else "cyan"),
        )
        label.no_wrap = True
        label.overflow = "ellipsis"
        tree = Tree(label, guide_style="dim")
        for child in top.children:
            tree.children.append(self._drawn(child, with_kind))
        return tree

    def frame(self, frame: Frame) -> None:
        from rich.live import Live

        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        self._count(frame)
        self._live.update(self._picture(frame), refresh=True)

    def _count(self, frame: Frame) -> None:
        last = self._last
        if last is not None and frame.seconds - last.seconds < self.WINDOW:
            return
        if last is not None:
            self._rates.append((frame.handled - last.handled) / (frame.seconds - last.seconds))
        self._last = frame

    def _picture(self, frame: Frame) -> Any:
        from rich.panel import Panel
        from rich.table import Table

        picture = Table.grid(expand=True)
        picture.add_column(ratio=1)
        picture.add_column(ratio=1)
        picture.add_row(
            Panel(self._lamps(frame.lights), title="running now", height=9),
            Panel(self._figures(frame), title=f"orders, {frame.seconds:.1f} s", height=9),
        )
        return picture

    def _lamps(self, lights: Sequence[Light]) -> Any:
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        for group in dict.fromkeys(light.group for light in lights):
            members = [light for light in lights if light.group == group]
            lamps = Text(" ").join(Text("●", style=_colour(light)) for light in members)
            restarts = sum(light.restarts for light in members)
            table.add_row(group, lamps, f"↻ {restarts}" if restarts else "")
        return table

    def _figures(self, frame: Frame) -> Any:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        table = Table.grid(padding=(0, 2), expand=True)
        table.add_column()
        table.add_column(justify="right")
        for name, value, style in (
            ("placed", frame.placed, "bold"),
            ("confirmed by Kafka", frame.confirmed, "bold cyan"),
            ("handled", frame.handled, "bold green"),
            ("sent again", frame.sent_again, "yellow"),
            ("handled again", frame.again, "yellow"),
        ):
            table.add_row(name, f"[{style}]{value:,}[/]")
        rate = self._rates[-1] if self._rates else 0.0
        table.add_row(f"[green]{self._bars()}[/]", f"{rate:,.0f}/s")
        figures = Table.grid(expand=True)
        figures.add_row(table)
        figures.add_row(ProgressBar(total=1.0, completed=min(frame.share, 1.0)))
        return figures

    def _bars(self) -> str:
        most = max(self._rates, default=0.0)
        top = len(self.BARS) - 1
        return "".join(
            self.BARS[round(rate / most * top) if most else 0] for rate in list(self._rates)[-22:]
        )

    def end_picture(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def proof(self, rows: Sequence[tuple[str, str]], verdict: str, holds: bool) -> None:
        from rich.panel import Panel
        from rich.table import Table

        colour = "green" if holds else "red"
        table = Table.grid(padding=(0, 3))
        table.add_column()
        table.add_column(justify="right", style="bold")
        for row in rows:
            table.add_row(*row)
        self._console.print(
            Panel(table, title="the proof", border_style=colour, expand=False, padding=(0, 2))
        )
        self.say(verdict, "good" if holds else "bad")


def _colour(light: Light) -> str:
    if not light.is_on:
        return "bold red"
    return "bold yellow" if light.blinks else "green"
