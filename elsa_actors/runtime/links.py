"""Who is linked to or monitors whom; answers "whom do I tell?"."""

from __future__ import annotations

from typing import Any, Self


class Monitor:
    """One process watches another: a `Down` that carries this object tells of the end, once."""

    __slots__ = ("active", "ref", "target", "watcher")

    def __init__(self, watcher: Any, target: Any, ref: Any) -> None:
        self.watcher = watcher
        self.target = target
        self.ref = ref
        self.active = True

    # As a ref, a monitor is a value: a `Down` is known by the very object.
    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: Any) -> Self:
        return self

    def __reduce__(self) -> Any:
        raise TypeError(f"cannot pickle {self!r}: a monitor belongs to its program")

    def __repr__(self) -> str:
        return f"<Monitor of {self.ref!r}{'' if self.active else ', done'}>"


class Ties:
    """A process's links and monitors, by the other one's mailbox; order is the order of making."""

    __slots__ = ("links", "watchers", "watching")

    def __init__(self) -> None:
        # The values are None, and at the very end the message that comes of it.
        self.links: dict[Any, Any] = {}
        self.watchers: dict[Any, None] = {}  # what tells others of this process's death
        self.watching: dict[Monitor, Any] = {}  # this process's own monitors


def links_of(inbox: Any) -> list[Any]:
    """The mailboxes linked to this one, the oldest link first: a parent comes before all others."""
    ties = inbox.ties
    return list(ties.links) if ties is not None else []


def watchers_of(inbox: Any) -> list[Any]:
    """The watchers of this mailbox, the oldest first."""
    ties = inbox.ties
    return list(ties.watchers) if ties is not None else []


def ties_of(inbox: Any) -> Ties:
    """This mailbox's ties, made when first needed; the caller holds the mailbox's lock."""
    if inbox.ties is None:
        inbox.ties = Ties()
    ties: Ties = inbox.ties
    return ties
