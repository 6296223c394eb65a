"""Supervisors: children in every form, an `init` of one's own, and operators' calls."""
# ruff: noqa: T201  (an example prints)

from __future__ import annotations

from typing import Any

from pykka import ActorRef

from elsa_actors import (
    AlreadyStarted,
    ChildError,
    ChildInfo,
    DynamicSupervisor,
    GenServer,
    Ignore,
    Ok,
    StartError,
    Supervise,
    Supervisor,
    process,
)


class Worker(GenServer):
    def init(self, label: str = "worker") -> Ok:
        return Ok(label)


class Optional(GenServer):
    restart = "transient"

    def init(self) -> Ignore:
        return Ignore()


def start_worker(label: str) -> ActorRef[Any]:
    return Worker.start_link(label)


class Shop(Supervisor):
    def init(self, size: int) -> Supervise | Ignore:
        if size == 0:
            return Ignore()
        children = [
            {"id": number, "start": (start_worker, [f"worker {number}"]), "shutdown": "infinity"}
            for number in range(size)
        ]
        return Supervise(children, strategy="rest_for_one", max_restarts=10, max_seconds=60.0)


def children_of(sup: ActorRef[Any] | str) -> dict[Any, ActorRef[Any] | None]:
    infos: list[ChildInfo] = Supervisor.which_children(sup)
    return {info.id: None if info.child == "restarting" else info.child for info in infos}


def restart(sup: ActorRef[Any] | str, child_id: Any) -> str:
    try:
        child = Supervisor.restart_child(sup, child_id)
    except ChildError as error:
        return f"{error.child_id} {error.reason}"
    except StartError as error:
        return f"failed: {error.reason}"
    return "ignored" if child is None else "started"


def main() -> None:
    tree = Supervisor.start_link(
        [
            Worker,
            (Optional,),
            Shop.child_spec(3),
            DynamicSupervisor.child_spec(name="typed_workers"),
            Supervisor.child_spec((Worker, "other"), id="other", restart="temporary"),
        ],
        strategy="one_for_all",
        auto_shutdown="never",
        name="typed_tree",
    )
    print(restart("typed_tree", "Worker"))  # -> Worker running
    print(restart(tree, "Optional"))  # -> ignored
    print(restart(tree, "nobody"))  # -> nobody not_found
    print(Supervisor.get_childspec(tree, "Worker")["restart"])  # -> permanent
    print(children_of(tree)["Worker"])  # -> Worker (urn:uuid:...)
    spec = {"id": "extra", "start": (start_worker, ["extra"])}
    extra = DynamicSupervisor.start_child("typed_workers", spec)
    DynamicSupervisor.terminate_child("typed_workers", extra)
    try:
        Supervisor.start_child(tree, Worker)
    except AlreadyStarted as error:
        print(process.is_alive(error.ref))  # -> True
    print(Supervisor.count_children(tree)["active"])  # -> 4
    Supervisor.terminate_child(tree, "Worker")
    Supervisor.delete_child(tree, "Worker")
    Supervisor.stop(tree, timeout=5.0)


if __name__ == "__main__":
    main()
