"""Registries: servers under keys by Via, and subscribers under one key."""
# ruff: noqa: T201  (an example prints)

from __future__ import annotations

from typing import Any

from pykka import ActorRef

from elsa_actors import (
    AlreadyStarted,
    Exit,
    GenServer,
    NameTaken,
    Ok,
    Registry,
    Reply,
    Supervisor,
    Via,
    call,
    process,
)


class Session(GenServer):
    def init(self, user: str) -> Ok:
        return Ok(user)

    def handle_call(self, request: Any, sender: Any) -> Reply:
        return Reply((request, self.state))


def session_of(user: str) -> ActorRef[Any]:
    """The one session of a user, started when there is none."""
    try:
        return Session.start(user, name=Via("sessions", user))
    except AlreadyStarted as error:
        running: ActorRef[Any] = error.ref
        return running


def publish(topic: str, message: object) -> int:
    """Send to all subscribers; how many there were."""
    sent: list[ActorRef[Any]] = []

    def to_all(subscribers: list[tuple[Any, Any]]) -> None:
        for ref, _ in subscribers:
            process.send(ref, message)
            sent.append(ref)

    Registry.dispatch("topics", topic, to_all)
    return len(sent)


def main() -> None:
    Supervisor.start_link(
        [
            Registry.child_spec(name="sessions", keys="unique"),
            Registry.child_spec(name="topics", keys="duplicate"),
        ],
        name="registries",
    )
    session = session_of("ann")
    print(session_of("ann") == session)  # -> True
    print(call(Via("sessions", "ann"), "hello"))  # -> ('hello', 'ann')
    print([key for key, _, _ in Registry.select("sessions", lambda key, ref, value: True)])
    # -> ['ann']

    with process.attach(trap_exit=True) as me:
        Registry.register("topics", "weather", 1)
        Registry.register("topics", "weather", 2)
        print(publish("weather", "rain"), me.receive(str, timeout=5.0))  # -> 2 rain
        print(Registry.values("topics", "weather", me.ref))  # -> [1, 2]
        Registry.unregister("topics", "weather")
        print(Registry.lookup("topics", "weather"))  # -> []
        try:
            Registry.register("sessions", "ann")
        except NameTaken as error:
            print(error.ref == session)  # -> True
        ended: ActorRef[Any] | None = process.whereis("topics")
        Registry.register("topics", "weather")
        Supervisor.terminate_child("registries", "topics")
        exit_notice: Exit = me.receive(Exit, timeout=5.0)
        print(exit_notice.ref == ended, exit_notice.reason)  # -> True shutdown
    Supervisor.stop("registries")


if __name__ == "__main__":
    main()
