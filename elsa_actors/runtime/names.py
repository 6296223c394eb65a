"""Names for processes: a locked table with strict keys, local names, names lent from elsewhere."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Hashable
from typing import Any

from elsa_actors.runtime.errors import NameTaken


def strict(key: Any) -> Hashable:
    """The key under which this term is kept: 1, 1.0 and True are three, inside tuples too."""
    kind = type(key)
    if kind is str or kind is bytes:
        return key  # type: ignore[no-any-return]
    if isinstance(key, tuple):
        return (kind, tuple([part if type(part) is str else strict(part) for part in key]))
    if isinstance(key, frozenset):
        return (kind, frozenset(strict(part) for part in key))
    hash(key)
    return (kind, key)


class Entry:
    """One holder of a key; ``place`` is the key in its strict form."""

    __slots__ = ("inbox", "key", "place", "value")

    def __init__(self, key: Any, place: Hashable, inbox: Any, value: Any) -> None:
        self.key = key
        self.place = place
        self.inbox = inbox
        self.value = value


class NameTable:
    """Keys and their holders. A dead holder counts as none, even before it was removed.

    Each holder's mailbox remembers what it holds, so that its death frees just that.
    """

    def __init__(self, title: str, unique: bool = True) -> None:
        self.title = title
        self.unique = unique
        self.lock = threading.RLock()
        # The one entry of a key, or, where a key may have many, a dictionary of them, the oldest
        # first. Readers take no lock: they copy a dictionary in one step of the interpreter.
        self._places: dict[Hashable, Any] = {}

    def register(self, key: Any, inbox: Any, value: Any = None) -> Entry:
        """Make this process a holder of ``key``; NameTaken when it is unique and held.

        Raises ProcessExit when the process is dead.
        """
        place = strict(key)
        with self.lock, inbox.lock:
            inbox.check_alive()
            entry = Entry(key, place, inbox, value)
            if self.unique:
                held = self._places.get(place)
                if held is not None and not held.inbox.is_dead():
                    raise NameTaken(key, held.inbox.ref)
                self._places[place] = entry
            else:
                self._places.setdefault(place, {})[entry] = None
            if inbox.names is None:
                inbox.names = {}
            inbox.names[entry] = self
        return entry

    def unregister(self, key: Any, inbox: Any) -> int:
        """Remove this process's own entries under ``key``; how many there were."""
        with self.lock, inbox.lock:
            return self._take_away(strict(key), inbox.names or {})

    def _take_away(self, place: Hashable, names: dict[Any, Any]) -> int:
        # Its own names or the key's holders, whichever are fewer.
        some = names if len(names) < self._width(place) else self._at(place)
        mine = [e for e in some if names.get(e) is self and e.place == place]
        for entry in mine:
            self._remove(entry)
            del names[entry]
        return len(mine)

    def free(self, entry: Entry) -> None:
        """Remove the entry of a process that died; somebody else's stays."""
        with self.lock:
            self._remove(entry)

    def _remove(self, entry: Entry) -> None:
        place = entry.place
        held = self._places.get(place)
        if self.unique:
            if held is entry:
                del self._places[place]
        elif held is not None and held.pop(entry, entry) is None and not held:
            del self._places[place]

    def _width(self, place: Hashable) -> int:
        """How many entries a key has, dead ones included."""
        held = self._places.get(place)
        return 0 if held is None else 1 if self.unique else len(held)

    def _at(self, place: Hashable) -> list[Entry]:
        """A key's entries, dead ones included."""
        held = self._places.get(place)
        if held is None:
            return []
        return [held] if self.unique else list(held)

    def find(self, key: Any) -> Any:
        """The mailbox of the living holder, or None; takes no lock and never waits."""
        held = self._places.get(strict(key))
        if held is None:
            return None
        for entry in (held,) if self.unique else list(held):
            if not entry.inbox.is_dead():
                return entry.inbox
        return None

    def entries(self, key: Any) -> list[Entry]:
        """The living holders' entries under ``key``, the oldest first."""
        return [entry for entry in self._at(strict(key)) if not entry.inbox.is_dead()]

    def entries_of(self, inbox: Any) -> list[Entry]:
        """This process's own entries, the oldest first; none when it is dead."""
        names = inbox.names
        if names is None or inbox.is_dead():
            return []
        return [entry for entry in list(names) if names.get(entry) is self]

    def all(self) -> list[Entry]:
        """Every living holder's entry."""
        held = list(self._places.values())
        if not self.unique:
            held = [entry for entries in held for entry in list(entries)]
        return [entry for entry in held if not entry.inbox.is_dead()]


local_names = NameTable("local names")
"""The names of this program: strings."""


class Named(ABC):
    """A name that something else keeps, such as a Registry; servers can be found under it."""

    @abstractmethod
    def whereis(self) -> Any:
        """The holder's ref, or None."""

    @abstractmethod
    def register(self, ref: Any) -> None:
        """Make ``ref`` the holder; NameTaken when there is one."""

    @abstractmethod
    def unregister(self, ref: Any) -> None:
        """Take the name from ``ref``, its holder."""
