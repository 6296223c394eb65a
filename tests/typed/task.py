"""Tasks keep the type of their function's value; an agent keeps a value for several processes."""
# ruff: noqa: T201  (an example prints)

from __future__ import annotations

from elsa_actors import Agent, CallExit, CallTimeout, Supervisor, Task, process


def word_count(text: str) -> int:
    return len(text.split())


def total(texts: list[str]) -> int:
    tasks = [Task.async_(word_count, text) for text in texts]
    return sum(task.await_(timeout=5.0) for task in tasks)


def patient(seconds: float) -> str:
    task = Task.async_(process.sleep, seconds)
    match task.yield_(timeout=0.0):
        case ("ok", _):
            return "done"
        case ("exit", reason):
            return f"failed: {reason}"
        case _:
            task.shutdown(timeout=1.0)
            return "given up"


def main() -> None:
    print(total(["to be", "or not to be"]))  # -> 6
    print(patient(60.0))  # -> given up
    try:
        Task.async_(word_count, "x").await_(timeout=5.0)
        Task.async_(int, "not a number").await_()
    except CallTimeout:
        print("too slow")
        raise
    except CallExit as error:
        print(type(error.reason).__name__)  # -> ValueError

    Supervisor.start_link(
        [
            Task.Supervisor.child_spec(name="jobs"),
            Agent.child_spec(dict, name="counts"),
        ],
        name="typed_tasks",
    )
    counted: Task[int] = Task.Supervisor.async_("jobs", word_count, "one two three")
    count: int = counted.await_()
    Agent.update("counts", lambda counts: {**counts, "words": count})
    print(Agent.get("counts", lambda counts: counts["words"]))  # -> 3
    Supervisor.stop("typed_tasks")


if __name__ == "__main__":
    main()
