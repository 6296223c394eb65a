"""A shop: a tree that takes orders, a load that places them, and a ledger of what was handled."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import structlog

from elsa_actors import DynamicSupervisor, Registry, Supervisor, Wrapper, debug, process
from elsa_actors.kafka import (
    ElsaSupervisor,
    Message,
    MessageHandler,
    ProduceError,
    produce,
)

PARTITIONS = 4
WAIT = 15.0
"""How long what must happen by itself may take, on a machine that does other things as well."""
SLACK = 2.0
"""How much longer than its deadline a call may take: machines are busy."""
CALL = 4.0
"""The deadline of every produce."""
STOP = 20.0

Events = list[MutableMapping[str, Any]]


def until(condition: Callable[[], Any], what: str | Callable[[], str], wait: float = WAIT) -> Any:
    """Wait until this is true, and return it; ``what`` says what did not come true."""
    deadline = time.monotonic() + wait
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {wait:g} s: {what() if callable(what) else what}")
        time.sleep(0.01)
    return answer


def in_time(limit: float, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What a call returns; it fails when the call takes longer than this."""
    began = time.monotonic()
    answer = function(*args, **kwargs)
    took = time.monotonic() - began
    assert took <= limit, f"{function.__qualname__} took {took:.1f} s, more than {limit:g} s"
    return answer


def librdkafka_threads() -> set[int]:
    """The threads of this program that librdkafka has started."""
    threads = set()
    for task in os.listdir("/proc/self/task"):
        try:
            name = Path("/proc/self/task", task, "comm").read_text()
        except OSError:
            continue  # It has just ended.
        if name.startswith("rdk:"):
            threads.add(int(task))
    return threads


# ---- the log


@contextmanager
def logged() -> Iterator[Events]:
    """The structlog events of a block, each with the ``at`` of time.monotonic()."""
    events: Events = []

    def keep(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> Any:
        events.append({**event, "log_level": _name, "at": time.monotonic()})
        raise structlog.DropEvent

    processors = structlog.get_config()["processors"]
    before = processors.copy()
    processors[:] = [keep]  # In place: loggers that are cached have this very list.
    try:
        yield events
    finally:
        processors[:] = before


def named(events: Events, *names: str) -> Events:
    return [event for event in events if event["event"] in names]


# ---- what is handled


@dataclass
class Life:
    """One handler's life: the batches that it was given, as first and last offset."""

    partition: int
    opened: float = field(default_factory=time.monotonic)
    batches: list[tuple[int, int]] = field(default_factory=list)
    begun: list[float] = field(default_factory=list)


class Ledger:
    """Books every message that the handlers are given, before anything is done with it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.lives: list[Life] = []
        self.orders: Counter[int] = Counter()
        self.newest: dict[int, int] = {}
        self.begin = 0
        self.poison: Callable[[Message], bool] | None = None

    def open(self, partition: int) -> Life:
        life = Life(partition)
        with self._lock:
            self.lives.append(life)
        return life

    def book(self, life: Life, messages: list[Message]) -> None:
        with self._lock:
            life.batches.append((messages[0].offset, messages[-1].offset))
            life.begun.append(time.monotonic())
            for message in messages:
                number = int(message.value or b"-1")
                self.orders[number] += 1
                self.newest[life.partition] = max(self.newest.get(life.partition, -1), number)
        if self.poison is not None and any(map(self.poison, messages)):
            raise ValueError("this order is poison")

    def of(self, partition: int) -> list[Life]:
        """The lives of a partition's handlers that were given anything, in order."""
        with self._lock:
            return [life for life in self.lives if life.partition == partition and life.batches]

    def forget(self) -> None:
        """Handlers that begin from now on begin at the topic's beginning."""
        with self._lock:
            self.lives.clear()
            self.newest.clear()

    def complaints(self) -> list[str]:
        """What was lost, repeated or handled out of order, by offsets."""
        found = []
        for partition in sorted({life.partition for life in self.lives}):
            in_flight = None
            for life in self.of(partition):
                first, last = life.batches[0]
                if in_flight is None:
                    if first != self.begin:
                        found.append(f"[{partition}] begins at {first}, not at {self.begin}")
                elif not in_flight[0] <= first <= in_flight[1] + 1:
                    found.append(f"[{partition}] goes on at {first} after batch {in_flight}")
                for batch in life.batches[1:]:
                    if batch[0] != last + 1:
                        found.append(f"[{partition}] {batch} comes after {last}")
                    last = batch[1]
                in_flight = life.batches[-1]
        return found


class Clerk(MessageHandler):
    """Books the orders of its partition."""

    def init(self, args: Any) -> Any:
        self.ledger: Ledger = args
        self.life = self.ledger.open(self.partition)
        return super().init(args)

    def handle_messages(self, messages: list[Message]) -> Any:
        self.ledger.book(self.life, messages)
        return "ack"


# ---- what is ordered


class Load:
    """A thread that places numbered orders all the time, and again those that failed."""

    def __init__(self, connection: str, topic: str) -> None:
        self.connection, self.topic = connection, topic
        self.placed = 0
        self.confirmed: set[int] = set()
        self.reasons: Counter[Any] = Counter()
        self.longest = 0.0
        self.error: BaseException | None = None
        self._again: list[tuple[str, str]] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                self._place()
                self._stopped.wait(0.02)
        except BaseException as error:
            self.error = error

    def _place(self) -> None:
        new = range(self.placed, self.placed + max(0, 20 - len(self._again)))
        self.placed = new.stop
        orders = self._again + [(str(number), str(number)) for number in new]
        began = time.monotonic()
        try:
            produce(self.connection, self.topic, orders, timeout=CALL)
            self._again = []
        except ProduceError as error:
            self._again = error.failed
            self.reasons[str(error.reason)] += 1
            if error.sent + len(error.failed) != len(orders) or set(error.failed) - set(orders):
                raise AssertionError(f"{error!r} does not tell of all of {orders}") from error
        self.longest = max(self.longest, time.monotonic() - began)
        failed = {int(value) for _, value in self._again}
        self.confirmed |= {int(value) for _, value in orders} - failed

    def stop(self) -> None:
        """Place no more orders; returns when the last call has ended."""
        self._stopped.set()
        self._thread.join(CALL + SLACK)
        assert not self._thread.is_alive(), f"a produce that may take {CALL:g} s never returned"

    def check(self) -> None:
        assert self.error is None, repr(self.error)
        assert self.longest <= CALL + SLACK, f"a produce with {CALL:g} s took {self.longest:.1f} s"


# ---- the tree


class Shop:
    """A tree with producers and a consumer of one topic, for as long as a block lasts.

    At the end of the block it is stopped, and nothing of it is left. Of a shop ``within`` another's
    block that other one tells whether threads are left: nobody knows whose they are.
    """

    def __init__(
        self,
        kafka: Any,
        topic: str,
        *,
        handler: type[MessageHandler] = Clerk,
        config: dict[str, Any] | None = None,
        within: Shop | None = None,
    ) -> None:
        self.topic = topic
        self.ledger = Ledger()
        self.connection = f"shop-{topic}"
        self.name = f"tree-{topic}"
        self.load: Load | None = None
        self._within = within
        self._threads = librdkafka_threads()
        self._processes = set(process.list())
        self._options = {
            "endpoints": kafka.endpoints,
            "connection": self.connection,
            "name": self.name,
            # The longest wait after a broker is back.
            "config": {"reconnect.backoff.max.ms": 500, **(config or {})},
            "producer": {"topic": topic, "poll": 0.5},
            "consumer": {
                "topic": topic,
                "poll": 0.5,
                "begin_offset": "earliest",
                "handler": handler,
                "handler_init_args": self.ledger,
            },
        }

    def __enter__(self) -> Self:
        self.tree = in_time(SLACK, ElsaSupervisor.start_link, **self._options)
        self._top = self.tree
        return self

    def move_under_a_supervisor(self) -> None:
        """Have the tree, before it is used, run by a supervisor that starts it again."""
        self.stop()
        self._top = Supervisor.start_link([ElsaSupervisor.child_spec(**self._options)])
        self.tree = process.whereis(self.name)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if self.load is not None:
                self.load.stop()
        finally:
            if kind is None:
                self.stop()
            elif process.is_alive(self._top):
                Supervisor.stop(self._top, timeout=STOP)

    def stop(self, limit: float = STOP) -> None:
        """Stop the tree; nothing of it is left when that returns."""
        if process.is_alive(self._top):
            in_time(limit, Supervisor.stop, self._top, timeout=limit)
        if self._within is None:
            assert librdkafka_threads() - self._threads == set(), "threads of librdkafka are left"
        assert set(process.list()) - self._processes == set(), "processes are left"

    def open(self, partitions: int = PARTITIONS) -> None:
        """Wait until the tree is whole, and have orders placed."""
        self.wait_whole(partitions)
        self.place_orders()
        self.wait_flow(partitions)

    def place_orders(self) -> None:
        """Have orders placed from now on."""
        self.load = Load(self.connection, self.topic)

    # ---- who is there

    def child(self, *path: str) -> Any:
        """The ref of the process with this path of ids."""
        ref = self.tree
        for child_id in path:
            children = {info.id: info.child for info in Supervisor.which_children(ref)}
            ref = children[child_id]
            assert ref not in (None, "restarting"), f"{child_id} of {path} is {ref!r}"
        return ref

    def holder(self, key: Any) -> Any:
        """The process that the connection's registry has under this key."""
        return until(
            lambda: Registry.whereis_name((ElsaSupervisor.registry(self.connection), key)),
            f"nobody is registered as {key!r}",
        )

    def census(self) -> list[str]:
        """Every process of the tree, as a path of ids; those that have none by their key."""
        return sorted(self._below(self.tree, ""))

    def _below(self, supervisor: Any, path: str) -> Iterable[str]:
        for info in Supervisor.which_children(supervisor):
            ref = info.child
            here = f"{path}/{info.id}" if info.id is not None else f"{path}/{self._key(ref)}"
            if ref in (None, "restarting"):
                yield f"{here} ({ref})"
                continue
            yield here
            of = process.info(ref)
            if of is None:
                yield f"{here} (dead)"
            elif issubclass(of["class"], Supervisor | DynamicSupervisor):
                yield from self._below(ref, here)
            elif of["class"] is Wrapper:
                yield f"{here}/{self._key(Wrapper.wrapped(ref, 2.0))}"

    def _key(self, ref: Any) -> str:
        keys = Registry.keys(ElsaSupervisor.registry(self.connection), ref)
        return f"{process.info(ref)['class'].__name__} {keys}"  # type: ignore[index]

    def whole(self, partitions: int = PARTITIONS) -> list[str]:
        """What `census` says when all runs."""
        below = {
            "producers": [
                f"Wrapper []/Producer [('producer', '{self.topic}', {n})]"
                for n in range(partitions)
            ],
            "consumer/workers": [
                f"Worker [('worker', None, '{self.topic}', {n})]" for n in range(partitions)
            ],
        }
        paths = [f"/{child}" for child in ("registry", "positions", "client", "producers")]
        paths += ["/client/Client ['client']", "/producer_manager", "/consumer"]
        paths += [f"/consumer/{child}" for child in ("workers", "consumer", "manager")]
        paths += ["/producers/Wrapper []"] * partitions
        paths += [f"/{place}/{one}" for place, ones in below.items() for one in ones]
        return sorted(paths)

    def is_whole(self, partitions: int = PARTITIONS) -> bool:
        try:
            return self.census() == self.whole(partitions)
        except Exception:  # Somebody died while we looked.
            assert process.is_alive(self.tree), "the whole tree is dead"
            return False

    def wait_whole(self, partitions: int = PARTITIONS, wait: float = WAIT) -> None:
        """Wait until all is there again, and nothing twice."""
        expected = self.whole(partitions)

        def difference() -> str:
            there = self.census()
            missing = sorted((Counter(expected) - Counter(there)).elements())
            return f"missing {missing}, too many {sorted(Counter(there) - Counter(expected))}"

        until(lambda: self.is_whole(partitions), difference, wait)
        self._no_doubles(partitions)

    def _no_doubles(self, partitions: int) -> None:
        """Nobody runs outside of the tree either."""
        wanted = {"Client": 1, "Consumer": 1, "Producer": partitions, "Worker": partitions}
        wanted |= {"ProcessManager": 2, "Wrapper": partitions + 1, "Registry": 1}

        def there() -> dict[str, int]:
            infos = [process.info(ref) for ref in set(process.list()) - self._processes]
            classes = Counter(info["class"].__name__ for info in infos if info is not None)
            return {name: classes[name] for name in wanted}

        # What has lost its supervisor may take a while to close.
        until(lambda: there() == wanted, lambda: f"expected {wanted}, there are {there()}")

    # ---- what flows

    def wait_flow(self, partitions: int = PARTITIONS, wait: float = WAIT) -> None:
        """Wait until orders that are placed from now on are handled, in every partition."""
        load = self.load
        assert load is not None
        mark = load.placed

        def flows() -> bool:
            newest = dict(self.ledger.newest)
            return all(newest.get(partition, -1) >= mark for partition in range(partitions))

        until(
            flows,
            lambda: (
                f"orders from {mark} on handled; newest: {self.ledger.newest}, placed:"
                f" {load.placed}, refused: {dict(load.reasons)}; {self._states()}"
            ),
            wait,
        )

    def _states(self) -> dict[str, Any]:
        """What the servers say of themselves, for who looks for the fault."""
        keys = Registry.select(ElsaSupervisor.registry(self.connection), lambda *_: True)
        states: dict[str, Any] = {}
        for key, ref, _ in keys:
            try:
                states[str(key)] = debug.get_status(ref, timeout=1.0)["details"]
            except Exception as error:
                states[str(key)] = repr(error)
        return states

    def settle(self, partitions: int = PARTITIONS) -> None:
        """What every story ends with: all is there, all flows, and nothing was lost or repeated."""
        load = self.load
        assert load is not None
        self.wait_whole(partitions)
        self.wait_flow(partitions)
        load.stop()
        load.check()
        self.wait_handled()
        assert self.ledger.complaints() == []

    def wait_handled(self) -> None:
        """Wait until every order that was confirmed has been handled."""
        load, orders = self.load, self.ledger.orders
        assert load is not None
        until(
            lambda: load.confirmed <= orders.keys(),
            lambda: (
                f"never handled, but confirmed: {sorted(load.confirmed - orders.keys())[:20]};"
                f" offsets: {self.ledger.complaints()}"
            ),
        )
