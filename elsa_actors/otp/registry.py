"""Registry: processes under keys of any kind, forgotten when they die; Via: such a key as a name.

The original: https://hexdocs.pm/elixir/Registry.html
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from elsa_actors.otp.gen_server import Request, call, cast, reply
from elsa_actors.otp.results import NoReply, Ok, Reply
from elsa_actors.otp.supervisor import CountChildren, Supervising, WhichChildren, count
from elsa_actors.runtime import process
from elsa_actors.runtime.actor import ProcessRef
from elsa_actors.runtime.death import both, drop_link, exit_signal
from elsa_actors.runtime.errors import ChildSpecError, NameTaken, NoProcess
from elsa_actors.runtime.exits import Down, Exit, ProcessExit, is_word
from elsa_actors.runtime.links import Monitor, links_of, ties_of
from elsa_actors.runtime.mailbox import Mailbox
from elsa_actors.runtime.names import Named, NameTable, strict
from elsa_actors.runtime.process import _me, _process_ref, find
from elsa_actors.runtime.scheduler import fence

T = TypeVar("T")

KEYS = ("unique", "duplicate")


# ---- what its callers ask the registry's process for


@dataclass(frozen=True, slots=True, eq=False)
class Lock:
    """A claim to the lock of a key; it is one of a kind."""

    key: Any


@dataclass(frozen=True, slots=True)
class Unlock:
    claim: Lock


class Registry(Supervising):
    """Keeps processes under keys of any kind; looking one up never waits for a process.

    Keys are unique, or with ``keys="duplicate"`` any number of processes may hold one. They
    compare with their types: 1, 1.0 and True are three keys, inside tuples too. A process's keys
    vanish with it. A registered process is linked to the registry and dies with it; a registry
    that starts again is empty.

        >>> registry = Registry.start_link(name="rooms", keys="duplicate")
        >>> with process.attach() as me:
        ...     joined = Registry.register("rooms", "lobby", "Ann")
        ...     Registry.lookup("rooms", "lobby") == [(me.ref, "Ann")]
        True
        >>> Registry.lookup("rooms", "lobby")  # The block is over, its process has ended.
        []
        >>> process.exit(registry, "kill")

    All functions here take the registry by its name or its ref, and raise NoProcess, which is a
    LookupError, when no such registry runs.
    """

    _quick_init = True
    _table: NameTable | None = None
    _closed = False

    # ---- start

    @classmethod
    def start_link(  # type: ignore[override]
        cls, *, name: Any = None, keys: str = "unique", timeout: float | None = None
    ) -> Any:
        """Start the registry ``name``, a string, linked to the running process.

        ``keys`` is "unique" or "duplicate". Raises ChildSpecError, which is a ValueError, for
        anything else, and AlreadyStarted when the name is taken.
        """
        _check_options(name, keys)
        return cls._begin((keys,), {}, name, timeout, link=True)

    @classmethod
    def start(  # type: ignore[override]
        cls, *, name: Any = None, keys: str = "unique", timeout: float | None = None
    ) -> Any:
        """As `start_link`, linked to nobody."""
        _check_options(name, keys)
        return cls._begin((keys,), {}, name, timeout, link=False)

    @classmethod
    def child_spec(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The child spec of ``start_link(name=..., keys=...)``; the name is its id."""
        _check_options(kwargs.get("name"), kwargs.get("keys", "unique"))
        return super().child_spec(*args, **kwargs)

    # ---- the running process's own keys

    @staticmethod
    def register(registry: Any, key: Any, value: Any = None) -> Any:
        """Put the running process under ``key``, with a value; returns the registry's ref.

        The process is linked to the registry until its last key is gone. Raises NameTaken when a
        unique key has a holder, this process included; NotAProcess on a plain thread.
        """
        me = _me("Registry.register")
        return _home(registry)._enter(me, key, value)

    @staticmethod
    def unregister(registry: Any, key: Any) -> None:
        """Take the running process's own entries under ``key`` away, if it has any."""
        me = _me("Registry.unregister")
        _home(registry)._leave(me, key)

    @staticmethod
    def update_value(registry: Any, key: Any, fn: Callable[[Any], Any]) -> tuple[Any, Any]:
        """Give the running process's unique key the value ``fn(old)``; returns (new, old).

        Raises NoProcess, a LookupError, when this process does not hold the key; ValueError on a
        registry with duplicate keys.
        """
        me = _me("Registry.update_value")
        table = _home(registry)._unique_table("Registry.update_value")
        entry = next((entry for entry in table.entries(key) if entry.inbox is me), None)
        if entry is None:
            raise NoProcess(
                key,
                message=f"expected key {key!r} of registry {table.title!r} to be held by the"
                f" running process {me.ref!r}, got: {_holders(table, key)}; register it first",
            )
        old = entry.value
        new = fn(old)
        with me.lock:
            me.check_alive()
            entry.value = new
        return new, old

    # ---- looking up

    @staticmethod
    def lookup(registry: Any, key: Any) -> list[tuple[Any, Any]]:
        """Who holds ``key``: a list of (ref, value), the oldest entry first; [] for nobody."""
        return _pairs(_table_of(registry), key)

    @staticmethod
    def keys(registry: Any, ref: Any) -> list[Any]:
        """The keys that this process holds, as often as it holds them, in the order of coming."""
        table, inbox = _table_of(registry), find(ref)
        return [] if inbox is None else [entry.key for entry in table.entries_of(inbox)]

    @staticmethod
    def values(registry: Any, key: Any, ref: Any) -> list[Any]:
        """The values that this process has under ``key``."""
        table, inbox = _table_of(registry), find(ref)
        if inbox is None:
            return []
        place = strict(key)
        return [entry.value for entry in table.entries_of(inbox) if entry.place == place]

    @staticmethod
    def count(registry: Any) -> int:
        """How many entries there are."""
        return len(_table_of(registry).all())

    @staticmethod
    def select(registry: Any, predicate: Callable[..., Any]) -> list[tuple[Any, Any, Any]]:
        """All entries (key, ref, value) for which ``predicate(key, ref, value)`` is true.

        A predicate with one parameter is given the whole entry.
        """
        accepts = _over_entries(predicate)
        entries = [(e.key, e.inbox.ref, e.value) for e in _table_of(registry).all()]
        return [entry for entry in entries if accepts(entry)]

    @staticmethod
    def dispatch(registry: Any, key: Any, fn: Callable[[list[tuple[Any, Any]]], Any]) -> None:
        """Call ``fn`` once, here, with the list of all (ref, value) under ``key``.

        It is not called when there are none; what it raises is raised here.

            >>> registry = Registry.start_link(name="topics", keys="duplicate")
            >>> with process.attach() as me:
            ...     subscribed = Registry.register("topics", "weather")
            ...     def send_all(holders):
            ...         for ref, value in holders:
            ...             process.send(ref, "rain")
            ...     Registry.dispatch("topics", "weather", send_all)
            ...     me.receive(timeout=1.0)
            'rain'
            >>> process.exit(registry, "kill")

        """
        pairs = _pairs(_table_of(registry), key)
        if pairs:
            fn(pairs)

    # ---- exclusion

    @staticmethod
    def lock(registry: Any, key: Any, fn: Callable[[], T]) -> T:
        """Call ``fn()`` while nobody else is in a lock of the same key; returns its answer.

        Waits its turn for ever. The lock is free again when ``fn`` returns or raises, or its
        process dies. Locks have nothing to do with who is registered. Raises RuntimeError when the
        running process is in this very lock.
        """
        home = _home(registry)
        ref, claim = home._inbox.ref, Lock(key)
        strict(key)
        try:
            if not call(ref, claim, None):
                raise RuntimeError(
                    f"{process.current()!r} holds the lock {key!r} of registry {home._title()!r}"
                    " and would wait for itself for ever; call the function directly"
                )
            return fn()
        finally:
            # Also when the wait was broken off: a claim that nobody waits for must not be granted.
            cast(ref, Unlock(claim))

    # ---- names for others: the calls that a name (registry, key) takes

    @staticmethod
    def register_name(name: Any, ref: Any) -> bool:
        """Put any process under (registry, key) or (registry, key, value); False when it is taken.

        Raises NoProcess for the dead, ValueError on a registry with duplicate keys.
        """
        try:
            _via(name).register(ref)
        except NameTaken:
            return False
        return True

    @staticmethod
    def unregister_name(name: Any) -> None:
        """Take the key from its holder, whoever that is, if there is one."""
        via = _via(name)
        table = _home(via.registry)._unique_table(via)
        holder = table.find(via.key)
        if holder is not None:
            via.unregister(holder.ref)

    @staticmethod
    def whereis_name(name: Any) -> Any:
        """The ref under (registry, key), or None."""
        via = _via(name)
        holder = _home(via.registry)._unique_table(via).find(via.key)
        return None if holder is None else holder.ref

    @staticmethod
    def send(name: Any, message: Any) -> None:
        """Send a message to the process under (registry, key); NoProcess when nobody is there."""
        via = _via(name)
        _home(via.registry)
        process.send(via, message)

    # ---- the process

    def init(self, keys: str) -> Any:
        self._claims: dict[Any, list[Claim]] = {}
        self._by_watch: dict[Monitor, Claim] = {}
        self._table = NameTable(self._title(), unique=keys == "unique")
        return Ok()

    def handle_call(self, request: Any, sender: Any) -> Any:
        match request:
            case Lock():
                return self._claim(request, sender)
            case WhichChildren():
                return Reply([])  # A supervisor by its type, as the original is; without children.
            case CountChildren():
                return Reply(count([]))
            case unknown:
                return self._unknown(unknown, sender)

    def handle_cast(self, request: Any) -> Any:
        match request:
            case Unlock(lock):
                queue = self._claims.get(strict(lock.key), ())
                for claim in [claim for claim in queue if claim.lock is lock]:
                    self._release(claim)
                return NoReply()
            case unknown:
                return self.handle_info(unknown)

    def handle_info(self, message: Any) -> Any:
        match message:
            case Exit():
                return NoReply()  # A holder's end; its death has freed its keys.
            case Down(monitor=watch) if watch in self._by_watch:
                self._release(self._by_watch[watch])
                return NoReply()
            case unknown:
                return super().handle_info(unknown)

    def terminate(self, reason: Any) -> None:
        if not is_word(reason, "normal"):
            return  # The links carry it to the holders.
        table, mine = self._table, self._inbox
        assert table is not None
        with table.lock:
            self._closed = True
        with mine.lock:
            peers = links_of(mine)
        for peer in peers:
            # "normal" would harm no holder, and leave it registered nowhere.
            if table.entries_of(peer):
                if peer is not mine.parent:
                    drop_link(mine, peer)
                exit_signal(peer, mine, "shutdown")

    def status(self) -> dict[str, Any]:
        table = self._table
        assert table is not None
        return {"keys": "unique" if table.unique else "duplicate", "entries": len(table.all())}

    # ---- entries; these run in the callers

    def _unique_table(self, what: Any) -> NameTable:
        table = self._table
        assert table is not None
        if not table.unique:
            raise ValueError(
                f"{what} needs a registry with unique keys, and {table.title!r} has duplicate keys;"
                " use register, lookup or dispatch"
            )
        return table

    def _enter(self, holder: Mailbox, key: Any, value: Any) -> Any:
        table, mine = self._table, self._inbox
        assert table is not None
        # One step for both: no entry in a registry that has ended, none for a dead process, and
        # none without its link.
        with table.lock, both(holder, mine):
            if self._closed or mine.is_dead():
                raise _unknown(table.title)
            try:
                table.register(key, holder, value)
            except NameTaken as taken:
                taken.message = (
                    f"expected key {key!r} of registry {table.title!r} to be free, but"
                    f" {taken.ref!r} holds it; use another key, or unregister it there first"
                )
                raise
            if holder is not mine:
                ties_of(holder).links.setdefault(mine)
                ties_of(mine).links.setdefault(holder)
        return mine.ref

    def _leave(self, holder: Mailbox, key: Any) -> None:
        table, mine = self._table, self._inbox
        assert table is not None
        with table.lock, both(holder, mine):
            if not table.unregister(key, holder):
                return
            # The link to a parent is older than any entry, and not ours to cut.
            if holder is not mine.parent and not _has_entries(table, holder):
                drop_link(holder, mine)

    # ---- locks; these run in the registry

    def _claim(self, lock: Lock, sender: Request) -> Any:
        place = strict(lock.key)
        queue = self._claims.setdefault(place, [])
        if queue and sender.ref is not None and queue[0].sender.ref is sender.ref:
            return Reply(False)
        watch = None if sender.ref is None else process.monitor(sender.ref)
        claim = Claim(lock, place, sender, watch)
        if watch is not None:
            self._by_watch[watch] = claim
        queue.append(claim)
        return Reply(True) if queue[0] is claim else NoReply()

    def _release(self, claim: Claim) -> None:
        if claim.watch is not None:
            del self._by_watch[claim.watch]
            process.demonitor(claim.watch, flush=True)
        queue = self._claims[claim.place]
        queue.remove(claim)
        if queue:
            reply(queue[0].sender, True)  # Who was first before has its answer; this one vanishes.
        else:
            del self._claims[claim.place]


@dataclass(frozen=True, slots=True, eq=False)
class Claim:
    """Somebody who has a lock, or waits for it; the first in its queue has it."""

    lock: Lock
    place: Any
    sender: Request
    watch: Monitor | None


@dataclass(frozen=True, eq=False, repr=False)
class Via(Named):
    """A key in a registry as a name: ``Via("shop", ("orders", 3))``, wherever a server is named.

    ``start(name=Via(registry, key, value))`` registers the new process before its `init` runs, and
    raises AlreadyStarted when the key is taken. In the place of the registry's name may stand any
    object with register_name(key, ref) -> bool, unregister_name(key), whereis_name(key) -> ref or
    None, and send(key, message). Such an object must itself notice when a holder is killed; a
    server that ends otherwise, or fails to start, gives its name back.

    Two are equal when registry and key are; ``value`` is what is stored beside the key.

        >>> registry = Registry.start_link(name="shop")
        >>> with process.attach() as me:
        ...     registered = Registry.register("shop", ("orders", 3))
        ...     process.send(Via("shop", ("orders", 3)), "hello")
        ...     me.receive(timeout=1.0)
        'hello'
        >>> process.exit(registry, "kill")

    """

    registry: Any
    key: Any
    value: Any = None

    def __post_init__(self) -> None:
        strict(self.key)  # A TypeError for what cannot be a key.
        if not self._is_ours() and not all(
            callable(getattr(self.registry, function, None)) for function in _NAME_FUNCTIONS
        ):
            raise TypeError(
                "expected the registry of a Via to be a registry's name, or an object with"
                f" {', '.join(_NAME_FUNCTIONS)}, got: {self.registry!r}"
            )

    def _is_ours(self) -> bool:
        return isinstance(self.registry, str | ProcessRef)

    def whereis(self) -> Any:
        """The holder's ref; None when there is none, or no such registry.

        Raises ValueError on a registry with duplicate keys.
        """
        if not self._is_ours():
            return self.registry.whereis_name(self.key)
        home = _home_or_none(self.registry)
        holder = None if home is None else home._unique_table(self).find(self.key)
        return None if holder is None else holder.ref

    def register(self, ref: Any) -> None:
        """Make ``ref`` the holder. Raises NameTaken; NoProcess for a dead process or registry."""
        inbox = _process_ref(ref, "what is registered")._inbox
        if self._is_ours():
            home = _home(self.registry)
            home._unique_table(self)
            try:
                home._enter(inbox, self.key, self.value)
            except ProcessExit:
                raise NoProcess(ref) from None
        elif not self.registry.register_name(self.key, ref):
            raise NameTaken(self.key, self.registry.whereis_name(self.key))
        else:
            if inbox.owned is None:
                inbox.owned = []
            inbox.owned.append((self, lambda via: via._give_back(inbox)))

    def unregister(self, ref: Any) -> None:
        """Take the name from ``ref``, if it is the holder."""
        if self._is_ours():
            inbox = _process_ref(ref, "what is unregistered")._inbox
            _home(self.registry)._leave(inbox, self.key)
        elif self.registry.whereis_name(self.key) is ref:
            self.registry.unregister_name(self.key)

    def _give_back(self, inbox: Mailbox) -> None:
        # Only the living may: of the dead the object may know already, and have a new holder.
        if not inbox.is_dead():
            self.unregister(inbox.ref)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Via):
            return NotImplemented
        return strict((self.registry, self.key)) == strict((other.registry, other.key))

    def __hash__(self) -> int:
        return hash(strict((self.registry, self.key)))

    def __repr__(self) -> str:
        value = "" if self.value is None else f", {self.value!r}"
        return f"Via({self.registry!r}, {self.key!r}{value})"


_NAME_FUNCTIONS = ("register_name", "unregister_name", "whereis_name", "send")


def _check_options(name: Any, keys: Any) -> None:
    if not isinstance(name, str) or not name:
        raise ChildSpecError(
            ("invalid_name", name),
            f"expected the name of a registry to be a string that is not empty, got: {name!r}",
        )
    if keys not in KEYS or not isinstance(keys, str):
        raise ChildSpecError(
            ("invalid_keys", keys), f"expected keys to be 'unique' or 'duplicate', got: {keys!r}"
        )


def _via(name: Any) -> Via:
    """The Via that (registry, key) or (registry, key, value) means."""
    if not isinstance(name, tuple) or len(name) not in (2, 3):
        raise TypeError(
            f"expected a name to be (registry, key) or (registry, key, value), got: {name!r}"
        )
    return Via(*name)


def _home_or_none(registry: Any) -> Registry | None:
    """The Registry that runs under this name; a dead one is none, from the moment of its death."""
    fence()
    inbox = find(registry)
    if inbox is None or inbox.is_dead():
        return None
    home = inbox.process
    return home if isinstance(home, Registry) and home._table is not None else None


def _home(registry: Any) -> Registry:
    home = _home_or_none(registry)
    if home is None:
        raise _unknown(registry)
    return home


def _unknown(registry: Any) -> NoProcess:
    return NoProcess(
        registry,
        message=f"unknown registry: expected the name of a Registry that runs, got: {registry!r};"
        " start it first, with Registry.start_link(name=...) or in a supervisor",
    )


def _table_of(registry: Any) -> NameTable:
    table = _home(registry)._table
    assert table is not None
    return table


def _pairs(table: NameTable, key: Any) -> list[tuple[Any, Any]]:
    return [(entry.inbox.ref, entry.value) for entry in table.entries(key)]


def _holders(table: NameTable, key: Any) -> str:
    return ", ".join(repr(entry.inbox.ref) for entry in table.entries(key)) or "no holder"


def _has_entries(table: NameTable, inbox: Mailbox) -> bool:
    return any(other is table for other in (inbox.names or {}).values())


def _over_entries(predicate: Callable[..., Any]) -> Callable[[Any], Any]:
    """The predicate as a function of one whole entry."""
    try:
        inspect.signature(predicate).bind(None, None, None)
    except TypeError:
        return predicate
    except ValueError:
        pass  # Written in C, without a signature.
    return lambda entry: predicate(*entry)


__all__ = ["Registry", "Via"]
