"""A server with typed requests and functions beside it: callers see no `Any`."""
# ruff: noqa: T201  (an example prints)

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pykka import ActorRef

from elsa_actors import (
    CallExit,
    CallTimeout,
    Continue,
    GenServer,
    NoProcess,
    NoReply,
    Ok,
    Reply,
    Stop,
    call,
    cast,
    send_request,
    stop,
)


@dataclass(frozen=True)
class Deposit:
    amount: int


@dataclass(frozen=True)
class Withdraw:
    amount: int


class Account(GenServer):
    trap_exit = True
    restart = "transient"
    shutdown = 2.0

    def init(self, balance: int = 0, *, owner: str = "nobody") -> Ok | Stop:
        if balance < 0:
            return Stop(("overdrawn", balance))
        self.owner = owner
        self.greeted = False
        return Ok(balance, then=Continue("greet"))

    def handle_continue(self, argument: Any) -> None:
        self.greeted = True

    def handle_call(self, request: Any, sender: Any) -> Reply | Stop:
        match request:
            case Deposit(amount):
                self.state += amount
                return Reply(self.state)
            case Withdraw(amount) if amount <= self.state:
                self.state -= amount
                return Reply(self.state)
            case unknown:
                return Stop(("unknown_request", unknown))

    def handle_cast(self, request: Any) -> NoReply:
        self.state = 0
        return NoReply()

    def terminate(self, reason: Any) -> None:
        self.greeted = False

    def status(self) -> dict[str, Any]:
        return {"owner": self.owner, "balance": self.state}


def open_account(balance: int, owner: str) -> ActorRef[Any]:
    return Account.start_link(balance, owner=owner, timeout=5.0)


def deposit(account: ActorRef[Any] | str, amount: int) -> int:
    balance: int = call(account, Deposit(amount))
    return balance


def withdraw(account: ActorRef[Any] | str, amount: int) -> int | None:
    try:
        balance: int = call(account, Withdraw(amount), timeout=None)
    except (NoProcess, CallTimeout):
        return None
    except CallExit as error:
        print(error.server, error.reason)  # -> Account (urn:...) ('unknown_request', Withdraw(...))
        return None
    return balance


def main() -> None:
    account = open_account(10, "ann")
    print(deposit(account, 5), withdraw(account, 3))  # -> 15 12
    cast(account, "clear")
    print(withdraw(account, 7))  # -> None
    account = open_account(0, "bob")
    request = send_request(account, Deposit(1))
    if request.wait(5.0):
        print(request.receive())  # -> 1
    stop(account, timeout=5.0)
    print(withdraw(account, 1), account.is_alive())  # -> None False


if __name__ == "__main__":
    main()
