"""Tell the story of `make demo`: a shop on Kafka that loses processes, and no order."""

from __future__ import annotations

import json
import random
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import structlog

from elsa_actors.demo_screen import Box, Frame, Light, Screen, best_screen
from elsa_actors.kafka.apache import ApacheKafka
from elsa_actors.kafka.connection import holder
from elsa_actors.kafka.embedded import EmbeddedKafka
from elsa_actors.kafka.errors import KafkaError, ProduceError
from elsa_actors.kafka.message import Message
from elsa_actors.kafka.message_handler import MessageHandler
from elsa_actors.kafka.produce import produce
from elsa_actors.kafka.supervisor import ElsaSupervisor, producers_ready
from elsa_actors.kafka.topic import create_topic, delete_topic
from elsa_actors.otp.gen_server import GenServer, call, cast
from elsa_actors.otp.results import NoReply, Ok, Reply, Stop, Supervise
from elsa_actors.otp.supervisor import Supervisor
from elsa_actors.otp.task import Task
from elsa_actors.otp.wrapper import Wrapper
from elsa_actors.runtime import process
from elsa_actors.runtime.clock import clock
from elsa_actors.runtime.errors import ElsaError, ReceiveTimeout

PROVEN, LOST, NOT_STARTED, INTERRUPTED = 0, 1, 2, 130

SECONDS = 8.0
"""How long orders come in."""
PATIENCE = 15.0
"""How long is waited for what should happen at once, before it counts as failed, in seconds."""
BROKER_SECONDS = 5.0
"""How long the user's broker may take to answer at first."""
PARTITIONS = 4
ORDERS_A_SECOND = 1000
TILLS = 2
CONNECTION = "shop"

CUSTOMERS = ["Ada", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gus", "Hal", "Ida", "Jo", "Kim", "Lea"]
PRICES = {"lamp": 39_90, "chair": 89_00, "kettle": 24_50, "rug": 120_00, "clock": 17_25}


# ---- orders, and the books


@dataclass(frozen=True, slots=True)
class Order:
    number: int
    customer: str
    item: str
    cents: int

    def message(self) -> tuple[str, str]:
        """Its customer is its key, so one customer's orders stay in order."""
        return self.customer, json.dumps([self.number, self.customer, self.item, self.cents])

    @classmethod
    def read(cls, value: Any) -> Order:
        return cls(*json.loads(value))


@dataclass(frozen=True, slots=True)
class Sale:
    """Orders for a till to sell."""

    orders: Sequence[Order]


@dataclass(frozen=True, slots=True)
class Write:
    """An entry for the books: ``column`` is "confirmed" or "handled"."""

    column: str
    orders: Sequence[Order]


class Books(GenServer):
    """Keeps what customers ordered, what Kafka confirmed and what was handled; is never killed."""

    def init(self) -> Ok:
        self.placed = self.sent_again = self.again = 0
        self.confirmed: dict[int, int] = {}
        self.handled: dict[int, list[int]] = {}
        return Ok()

    def handle_call(self, request: Any, sender: Any) -> Any:
        match request:
            case Write("confirmed", orders):
                self.confirmed |= {order.number: order.cents for order in orders}
                return Reply(None)
            case Write("handled", orders):
                for order in orders:
                    times = self.handled.setdefault(order.number, [])
                    self.again += bool(times)
                    times.append(order.cents)
                return Reply(None)
            case "totals":
                counts = len(self.confirmed), len(self.handled), self.again, self.sent_again
                return Reply((self.placed, *counts))
            case "is_all_handled":
                return Reply(self.confirmed.keys() <= self.handled.keys())
            case "accounts":
                return Reply(
                    (self.confirmed.copy(), self.handled.copy(), self.placed, self.sent_again)
                )
            case unknown:
                return Stop(("unknown_request", unknown))

    def handle_cast(self, request: Any) -> Any:
        match request:
            case ("placed", int(count)):
                self.placed += count
            case ("sent_again", int(count)):
                self.sent_again += count
            case unknown:
                return Stop(("unknown_request", unknown))
        return NoReply()

    @staticmethod
    def write(column: str, orders: Sequence[Order]) -> None:
        call("books", Write(column, orders))


# ---- who orders, who sells, who handles


class Customers(GenServer):
    """Order so many things a second, from when they are let in until the shop closes."""

    TICK_SECONDS = 0.02

    def init(self) -> Ok:
        self.chance = random.Random(7)
        self.since: float | None = None
        self.count = 0
        return Ok()

    def handle_call(self, request: Any, sender: Any) -> Any:
        self.since = clock.now() if request == "open" else None
        process.send(process.current(), "tick")
        return Reply(None)

    def handle_info(self, message: Any) -> Any:
        if self.since is not None:
            self._order(int((clock.now() - self.since) * ORDERS_A_SECOND) - self.count)
            process.send_after(process.current(), "tick", self.TICK_SECONDS)
        return NoReply()

    def _order(self, count: int) -> None:
        orders = [self._one(self.count + i) for i in range(count)]
        self.count += count
        cast("books", ("placed", count))
        for number in range(TILLS):
            process.send(_till(number), Sale(orders[number::TILLS]))

    def _one(self, number: int) -> Order:
        item = self.chance.choice(list(PRICES))
        return Order(number, self.chance.choice(CUSTOMERS), item, PRICES[item])


class Till(GenServer):
    """Produces orders, and sends again what Kafka has not confirmed: that is the application's."""

    def init(self, topic: str) -> Ok:
        return Ok(topic)

    def handle_call(self, request: Any, sender: Any) -> Any:
        return Reply(None)  # It was asked whether all is sold: what came before has been sold now.

    def handle_info(self, message: Any) -> Any:
        orders = list(message.orders)
        # What has come while Kafka was slow goes along, so that the queue never grows for long.
        while True:
            try:
                orders += process.receive(Sale, timeout=0).orders
            except ReceiveTimeout:
                break
        self._sell(orders)
        return NoReply()

    def _sell(self, orders: Sequence[Order]) -> None:
        while orders:
            failed: Sequence[Order] = []
            try:
                produce(CONNECTION, self.state, [order.message() for order in orders])
            except ProduceError as error:
                failed = [Order.read(value) for _, value in error.failed]
                cast("books", ("sent_again", len(failed)))
                process.sleep(0.01)
            numbers = {order.number for order in failed}
            Books.write("confirmed", [order for order in orders if order.number not in numbers])
            orders = failed


class Clerk(MessageHandler):
    """Handles the orders of one partition: writes them into the books, and packs them."""

    PACKING_SECONDS = 0.004

    def handle_messages(self, messages: list[Message]) -> str:
        Books.write("handled", [Order.read(message.value) for message in messages])
        # Killed here, before the ack, the next Clerk is given the same orders: at least once.
        process.sleep(self.PACKING_SECONDS)
        return "ack"


class Shop(Supervisor):
    """The whole program; the connection to Kafka is one child of it."""

    def init(self, endpoints: str, topic: str) -> Supervise:
        kafka = ElsaSupervisor.child_spec(
            endpoints=endpoints,
            connection=CONNECTION,
            name="shop_kafka",
            producer={"topic": topic},
            consumer={
                "topic": topic,
                "handler": Clerk,
                "begin_offset": "earliest",
                "config": {"fetch.wait.max.ms": 20},
            },
        )
        tills = [
            Till.child_spec(topic, name=_till(number)) | {"id": _till(number)}
            for number in range(TILLS)
        ]
        return Supervise(
            [
                Books.child_spec(name="books") | {"id": "books"},
                kafka | {"id": "kafka"},
                *tills,
                Customers.child_spec(name="customers") | {"id": "customers"},
            ],
            strategy="rest_for_one",
        )


def _till(number: int) -> str:
    return f"till_{number}"


# ---- who is running


@dataclass
class Post:
    """One of the connection's processes: who holds its place, and since when."""

    group: str
    name: str
    key: Any
    ref: Any = None
    restarts: int = 0
    since: float = 0.0


@dataclass(frozen=True)
class Back:
    """Processes that were started again, and how long after the last kill."""

    names: Sequence[str]
    seconds: float


class Watch:
    """Looks for the connection's processes under their names in its registry."""

    BLINK_SECONDS = 1.0

    def __init__(self, topic: str) -> None:
        numbers = range(PARTITIONS)
        self.posts = [
            Post("client", "client", "client"),
            *(Post("producers", f"producer {n}", ("producer", topic, n)) for n in numbers),
            Post("producer_manager", "producer_manager", "producer_manager"),
            *(Post("workers", f"worker {n}", ("worker", None, topic, n)) for n in numbers),
            Post("consumer", "consumer", ("consumer", None)),
        ]
        self.killed_at = 0.0

    def kill(self, name: str) -> None:
        [post] = [post for post in self.posts if post.name == name]
        self.killed_at = clock.now()
        process.exit(post.ref, "kill")

    def look(self) -> Back | None:
        """Who has come back since the last look, if anybody has."""
        names = []
        now = clock.now()
        for post in self.posts:
            ref = holder(CONNECTION, post.key)
            if ref is not None and ref != post.ref:
                if post.ref is not None:
                    post.restarts += 1
                    post.since = now
                    names.append(post.name)
                post.ref = ref
        return Back(names, now - self.killed_at) if names else None

    def missing(self) -> list[str]:
        return [post.name for post in self.posts if not _is_up(post)]

    def lights(self) -> list[Light]:
        now = clock.now()
        return [
            Light(
                post.group,
                _is_up(post),
                post.restarts > 0 and now - post.since < self.BLINK_SECONDS,
                post.restarts,
            )
            for post in self.posts
        ]

    def names(self) -> dict[Any, str]:
        return {post.ref: post.name for post in self.posts}


def _is_up(post: Post) -> bool:
    return post.ref is not None and process.is_alive(post.ref)


def tree_of(name: str, ref: Any, names: Mapping[Any, str], known: Sequence[Any]) -> Box:
    """The tree below a process, as its supervisors tell; what is not among ``known`` is fresh."""
    if not hasattr(ref, "actor_class"):
        return Box(name, str(ref), "", True)
    kind, thing = ref.actor_class.__name__, ref
    if ref.actor_class is Wrapper:
        thing = Wrapper.wrapped(ref) or ref
        kind = f"{thing.actor_class.__name__} (wrapped)"
    children = []
    if issubclass(ref.actor_class, Supervisor) or kind == "DynamicSupervisor":
        for child in reversed(Supervisor.which_children(ref)):
            children.append(tree_of(str(child.id), child.child, names, known))
    name = names.get(thing, name)
    if kind == "DynamicSupervisor":
        children.sort(key=lambda box: box.name)
    number = thing.actor_urn.removeprefix("urn:uuid:")[:4]
    return Box(name, kind, number, bool(known) and thing not in known, children)


# ---- the proof


@dataclass(frozen=True)
class Proof:
    """What became of the orders."""

    placed: int
    confirmed: int
    handled: int
    lost: Sequence[int]
    wrong: Sequence[int]
    again: int
    sent_again: int
    cents: tuple[int, int]

    @property
    def holds(self) -> bool:
        return 0 < self.placed == self.confirmed and not self.lost and not self.wrong


def prove(
    confirmed: Mapping[int, int],
    handled: Mapping[int, Sequence[int]],
    placed: int,
    sent_again: int = 0,
) -> Proof:
    """Compare the cents of each confirmed order with those of each time that it was handled."""
    amounts = {number: set(handled.get(number, ())) for number in confirmed}
    return Proof(
        placed=placed,
        confirmed=len(confirmed),
        handled=sum(bool(cents) for cents in amounts.values()),
        lost=[number for number, cents in amounts.items() if not cents],
        wrong=[n for n, cents in amounts.items() if cents and cents != {confirmed[n]}],
        again=sum(len(times) - 1 for times in handled.values()),
        sent_again=sent_again,
        cents=(sum(confirmed.values()), sum(sum(cents) for cents in amounts.values())),
    )


def conclude(screen: Screen, proof: Proof, complaints: Sequence[str], ended: str = "") -> int:
    """Show the proof; the exit code is 0 only if it holds and there are no complaints."""
    confirmed, handled = (f"{cents / 100:,.2f}" for cents in proof.cents)
    rows = [
        ("orders", f"{proof.placed:,}"),
        ("of these confirmed by Kafka", f"{proof.confirmed:,}"),
        ("of these handled", f"{proof.handled:,}"),
        ("lost", f"{len(proof.lost):,}"),
        ("sent again, as their producer was gone", f"{proof.sent_again:,}"),
        ("handled once more (at least once)", f"{proof.again:,}"),
        ("worth, as confirmed", confirmed),
        ("worth, as handled, each order once", handled),
    ]
    holds = proof.holds and not complaints
    verdict = f"Every one of {proof.placed:,} orders was confirmed and handled. {ended}".rstrip()
    if not holds:
        troubles = list(complaints)
        if not proof.placed:
            troubles.append("there were no orders")
        if proof.placed != proof.confirmed:
            troubles.append(f"{proof.placed - proof.confirmed:,} orders were not confirmed")
        for what, numbers in (("lost", proof.lost), ("handled wrongly", proof.wrong)):
            if numbers:
                some = ", ".join(map(str, numbers[:5])) + (" ..." if len(numbers) > 5 else "")
                troubles.append(f"{len(numbers):,} confirmed orders were {what}: {some}")
        verdict = f"NOT PROVEN: {'; '.join(troubles)}."
    screen.proof(rows, verdict, holds)
    return PROVEN if holds else LOST


# ---- the story


@dataclass(frozen=True)
class Stage:
    """The Kafka on which the story plays; ``broker`` is one that may be killed."""

    what: str
    endpoints: str
    topic: str
    broker: ApacheKafka | None = None


@dataclass
class Story:
    screen: Screen
    stage: Stage
    log: deque[Mapping[str, Any]]
    seconds: float
    patience: float
    complaints: list[str] = field(default_factory=list)
    chance: random.Random = field(default_factory=random.Random)

    FRAME_SECONDS = 0.08
    LOOK_SECONDS = 0.005

    def tell(self) -> int:
        """From the opening of the shop to the proof; returns the exit code."""
        screen, self.watch = self.screen, Watch(self.stage.topic)
        self.began = self._next_frame = clock.now()
        shop = Shop.start(self.stage.endpoints, self.stage.topic, name="shop")
        try:
            before, known = self._open(shop)
            self._orders_until(0.15)
            self._kill(f"worker {self.chance.randrange(PARTITIONS)}")
            self._orders_until(0.40)
            self._kill(f"producer {self.chance.randrange(PARTITIONS)}")
            self._orders_until(0.65)
            self._kill("client", ", and so what depends on it will be started again, too")
            if self.stage.broker is not None:
                self._orders_until(0.80)
                self._kill_broker(self.stage.broker)
            self._orders_until(1.0)
            self._close()
            screen.end_picture()
            screen.trees(before, tree_of("shop", shop, self.watch.names(), known))
            accounts = call("books", "accounts")
        finally:
            screen.end_picture()
            stopping = clock.now()
            Supervisor.stop(shop)
        ended = f"The tree stopped in {clock.now() - stopping:.2f} s."
        return conclude(screen, prove(*accounts), self.complaints, ended)

    def _open(self, shop: Any) -> tuple[Box, Sequence[Any]]:
        self.screen.say(f"A shop on {self.stage.what}, {self.stage.endpoints}.", "title")
        self.screen.say(
            f"Its orders go to topic {self.stage.topic} ({PARTITIONS} partitions); a handler for"
            " each partition books them."
        )
        producers_ready(CONNECTION, self.patience)
        self._until(lambda: not self.watch.missing(), "every process to be up")
        took = clock.now() - self.began
        known = [ref for ref in process.list() if process.is_alive(ref)]
        before = tree_of("shop", shop, self.watch.names(), [])
        self.screen.tree(f"Everything was up after {took:.2f} s. The tree:", before)
        self.screen.say(f"{ORDERS_A_SECOND:,} orders a second, and some accidents:", "title")
        self.opened = clock.now()
        call("customers", "open")
        return before, known

    def _kill(self, name: str, along: str = "") -> None:
        self.screen.say(f"{name} is killed{along}", "kill")
        self.watch.kill(name)

    def _kill_broker(self, broker: ApacheKafka) -> None:
        self.screen.say("the broker itself is killed; the orders wait", "kill")
        broker.kill(0)
        killed = clock.now()
        self._moments(1.5)
        handled = self._totals()[2]
        start = Task.async_(broker.start, 0)
        self._until(_is_over(start), "the broker to start again", 60.0)
        self.screen.say(f"the broker is up again, {clock.now() - killed:.2f} s later", "back")
        self._until(lambda: self._totals()[2] > handled, "orders to be handled again", 60.0)
        self.screen.say(f"orders are handled again, {clock.now() - killed:.2f} s later", "back")

    def _close(self) -> None:
        """No more orders; wait until those that there are have been sold and handled."""
        call("customers", "close")
        sold = [Task.async_(call, _till(number), "sold?", None) for number in range(TILLS)]
        for task in sold:
            self._until(_is_over(task), "all orders to be confirmed")
        # Not the counts: an order may be handled whose confirmation was lost.
        self._until(
            lambda: bool(call("books", "is_all_handled")), "all confirmed orders to be handled"
        )
        self._frame()

    # ---- time passes

    def _orders_until(self, share: float) -> None:
        """Let orders come in until so much of the time is over, and everybody is back."""
        self._moments(self.opened + share * self.seconds - clock.now())
        self._until(lambda: not self.watch.missing(), "everybody to be back")

    def _moments(self, seconds: float) -> None:
        until = clock.now() + seconds
        while clock.now() < until:
            self._moment()

    def _until(self, is_so: Callable[[], bool], what: str, patience: float | None = None) -> None:
        patience = self.patience if patience is None else patience
        deadline = clock.now() + patience
        self._moment()
        while not is_so():
            if clock.now() > deadline:
                missing = ", ".join(self.watch.missing())
                lack = f" ({missing} missing)" if missing else ""
                self.complaints.append(f"waited {patience:g} s in vain for {what}{lack}")
                self.screen.say(self.complaints[-1], "bad")
                return
            self._moment()

    def _moment(self) -> None:
        """Look who is back, show what was logged and how it stands, and rest a little."""
        back = self.watch.look()
        while self.log:
            event = self.log.popleft()
            if "reason" in event or "error" in event:  # Somebody crashed, or a broker is gone.
                self.screen.say(_short(event), "log")
        if back is not None:
            self.screen.say(f"back after {back.seconds:.3f} s: {', '.join(back.names)}", "back")
        if hasattr(self, "opened") and clock.now() >= self._next_frame:
            self._frame()
        process.sleep(self.LOOK_SECONDS)

    def _frame(self) -> None:
        seconds = clock.now() - self.opened
        placed, confirmed, handled, again, sent_again = self._totals()
        lights = self.watch.lights()
        share = seconds / self.seconds
        self.screen.frame(
            Frame(seconds, share, placed, confirmed, handled, again, sent_again, lights)
        )
        self._next_frame = clock.now() + self.FRAME_SECONDS

    def _totals(self) -> tuple[int, int, int, int, int]:
        totals: tuple[int, int, int, int, int] = call("books", "totals")
        return totals


def _is_over(task: Task[Any]) -> Callable[[], bool]:
    return lambda: task.yield_(0) is not None


def _short(event: Mapping[str, Any]) -> str:
    """An event of the library as a short line."""
    who = event.get("child") or event.get("thing") or event.get("connection") or ""
    kind = getattr(getattr(who, "actor_class", None), "__name__", "")
    if not kind:
        kind = str(who).removeprefix("<ActorRef for ").partition(" (urn:")[0]
    parts = [str(event["event"]), kind]
    parts += [f"{key}={event[key]}" for key in ("reason", "then", "error") if key in event]
    return " ".join(part for part in parts if part)


@contextmanager
def _log_kept() -> Iterator[deque[Mapping[str, Any]]]:
    """Keep what the library logs, from warnings on, instead of writing it."""
    kept: deque[Mapping[str, Any]] = deque()

    def keep(logger: Any, method: str, event: Any) -> Any:
        kept.append(event)
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30), processors=[keep])
    try:
        yield kept
    finally:
        structlog.configure(**before)


@contextmanager
def _stage(screen: Screen, endpoints: str | None, apache: bool) -> Iterator[Stage]:
    """Some Kafka with an empty topic on it. Raises ElsaError when there is none to be had."""
    topics = {"orders": PARTITIONS}
    if apache:
        screen.say("Starting Apache Kafka; the first time it is fetched, which takes a while ...")
        with ApacheKafka(topics=topics) as kafka:
            yield Stage("an Apache Kafka of its own", kafka.endpoints, "orders", kafka)
    elif endpoints is not None:
        topic = f"elsa-actors-demo-{random.SystemRandom().randrange(16**8):08x}"
        create_topic(endpoints, topic, partitions=PARTITIONS, timeout=BROKER_SECONDS)
        try:
            yield Stage("your Kafka", endpoints, topic)
        finally:
            try:
                delete_topic(endpoints, topic)
            except KafkaError as error:
                screen.say(f"the demo's topic {topic} is left behind: {error}", "bad")
    else:
        with EmbeddedKafka(topics=topics) as embedded:
            embedded.set_latency(None, 0.01)  # As over a network: something is always under way.
            yield Stage("librdkafka's embedded broker", embedded.endpoints, "orders")


def run_demo(
    screen: Screen | None = None,
    *,
    endpoints: str | None = None,
    apache: bool = False,
    seconds: float = SECONDS,
    patience: float = PATIENCE,
) -> int:
    """Tell the story; blocks for about ``seconds`` (how long orders come in) and a little more.

    It plays on an embedded broker, on the user's at ``endpoints``, or on an ApacheKafka. Returns
    the exit code: 0 when every confirmed order was handled, 1 when not, 2 when there is no Kafka to
    play on, 130 after Ctrl-C. What should happen at once is waited for ``patience`` seconds.
    """
    screen = best_screen() if screen is None else screen
    try:
        with screen, _log_kept() as log, ExitStack() as stack:
            try:
                stage = stack.enter_context(_stage(screen, endpoints, apache))
            except ElsaError as error:
                print(f"elsa-actors: error: {' '.join(str(error).split())}", file=sys.stderr)
                return NOT_STARTED
            return Story(screen, stage, log, seconds, patience).tell()
    except ElsaError as error:
        screen.say(f"The story broke off: {error}", "bad")
        return LOST
    except KeyboardInterrupt:
        screen.say("Interrupted: everything was stopped in order.", "bad")
        return INTERRUPTED
