"""Tell the story of `make demo`: a supervised shop that loses processes, and no order."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from elsa_actors.otp.agent import Agent
from elsa_actors.otp.dynamic_supervisor import DynamicSupervisor
from elsa_actors.otp.gen_server import GenServer, call, cast
from elsa_actors.otp.registry import Registry, Via
from elsa_actors.otp.results import Ignore, Ok, Reply, Supervise
from elsa_actors.otp.supervisor import Supervisor
from elsa_actors.otp.wrapper import Wrapper
from elsa_actors.runtime import process
from elsa_actors.runtime.clock import clock
from elsa_actors.runtime.errors import CallExit
from elsa_actors.runtime.scheduler import scheduler

ORDERS = 400
CLERKS = 4
PATIENCE = 20.0
"""How long an order is offered again before it counts as lost, in seconds."""

Say = Callable[[str], Any]


class Clerk(GenServer):
    """Books orders; dies when it is killed, and of every order that nobody can read."""

    def init(self, number: int) -> Any:
        return Ok(number)

    def handle_call(self, request: Any, sender: Any) -> Any:
        match request:
            case ("book", order):
                Agent.update("ledger", lambda booked: booked | {order: booked.get(order, 0) + 1})
                return Reply(("booked by clerk", self.state))

    def handle_cast(self, request: Any) -> Any:
        raise ValueError(f"cannot read the order {request!r}")


class Connection(GenServer):
    """Stands for what Kafka will be: a thing outside, whose connection drops."""

    def handle_cast(self, request: Any) -> Any:
        process.exit_self(("connection_lost", request))


class Night(GenServer):
    """Works at night only: at first it has nothing to do, and is started by hand later."""

    def init(self, opened: list[bool]) -> Any:
        return Ok() if opened else Ignore()


class Shop(Supervisor):
    """The whole program: what stands further down depends on what stands above."""

    def init(self, opened: list[bool]) -> Any:
        return Supervise(
            [
                Registry.child_spec(name="shop"),
                {"id": "ledger", "start": (Agent, "start_link", [dict], {"name": "ledger"})},
                {
                    "id": "connection",
                    "start": (
                        Wrapper,
                        "start_link",
                        [],
                        {
                            "mfa": (Connection, "start_link", []),
                            "register": ("shop", "connection"),
                            "delay": 0.3,
                        },
                    ),
                },
                {
                    "id": "clerks",
                    "start": (
                        DynamicSupervisor,
                        "start_link",
                        [],
                        {"max_restarts": 100, "name": "clerks"},
                    ),
                    "type": "supervisor",
                },
                (Night, opened),
            ],
            strategy="rest_for_one",
        )


def run_demo(say: Say = print, orders: int = ORDERS) -> int:
    """Run the story; 0 when every order was booked, 1 when one was lost."""
    chance = random.Random(7)
    started = clock.now()
    opened: list[bool] = []
    say("A shop: a registry, a ledger, a wrapped connection, four clerks, and a night shift.\n")
    shop = Shop.start(opened, name="shop_supervisor")
    for number in range(CLERKS):
        DynamicSupervisor.start_child("clerks", _clerk(number))
    _show(say)

    say(f"\n{orders} orders come in; clerks are killed or choke on an order, and the line drops:")
    troubles = {orders * part // 10: part for part in range(1, 10)}
    again = 0
    for order in range(orders):
        if order in troubles:
            _trouble(say, troubles[order], chance)
        again += _book(order, chance)

    say("\nThe night shift had answered Ignore(); the shop kept its record. An operator starts it:")
    opened.append(True)
    say(f"  restart_child(shop, 'Night') -> {_short(Supervisor.restart_child(shop, 'Night'))}\n")
    _show(say)

    booked = Agent.get("ledger", dict)
    lost = [order for order in range(orders) if order not in booked]
    twice = sum(1 for times in booked.values() if times > 1)
    Supervisor.stop(shop)
    say(
        f"\n{len(booked)} of {orders} orders booked, {twice} more than once, {len(lost)} lost;"
        f" {again} were offered again. {clock.now() - started:.1f} s,"
        f" {len(scheduler.workers)} threads, {len(process.list())} processes left."
    )
    return 1 if lost or process.list() else 0


def _clerk(number: int) -> dict[str, Any]:
    return {"id": number, "start": (Clerk, "start_link", [number], {"name": Via("shop", number)})}


def _trouble(say: Say, part: int, chance: random.Random) -> None:
    clerk = Via("shop", chance.randrange(CLERKS))
    if part % 3 == 0:
        ref = Registry.whereis_name(("shop", "connection"))
        say("  the connection is lost; its wrapper's record brings it back after its delay")
        if ref is not None:
            cast(ref, "cable")
    elif part % 3 == 1:
        say(f"  clerk {clerk.key} is killed")
        ref = process.whereis(clerk)
        if ref is not None:
            process.exit(ref, "kill")
    else:
        say(f"  clerk {clerk.key} chokes on an order that nobody can read")
        cast(clerk, "?!")


def _book(order: int, chance: random.Random) -> int:
    """Offer an order until a clerk has booked it; how often it was offered again."""
    deadline = clock.now() + PATIENCE
    tries = 0
    while clock.now() < deadline:
        try:
            call(Via("shop", chance.randrange(CLERKS)), ("book", order))
            return tries
        except (CallExit, LookupError):
            tries += 1
            process.sleep(0.01)
    return tries


def _show(say: Say) -> None:
    for child in reversed(Supervisor.which_children("shop_supervisor")):
        say(f"  {child.id!s:<12} {child.type:<11} {_short(child.child)}")
        if child.id == "clerks":
            for clerk in DynamicSupervisor.which_children(child.child):
                say(f"    {clerk.type:<20} {_short(clerk.child)}")


def _short(ref: Any) -> str:
    if ref is None:
        return "not running (it answered Ignore)"
    return (
        f"{ref.actor_class.__name__} {ref.actor_urn[9:17]}"
        if hasattr(ref, "actor_urn")
        else str(ref)
    )
