"""Wrappers around another program and a thread, with a backoff, under a supervisor."""
# ruff: noqa: T201  (an example prints)

from __future__ import annotations

import subprocess
import sys
import threading

from elsa_actors import Backoff, Exit, StartError, Supervisor, Wrapper, process


class Poller(threading.Thread):
    def __init__(self, topic: str) -> None:
        super().__init__(name=topic, daemon=True)
        self.ended = threading.Event()

    def run(self) -> None:
        self.ended.wait()


def end(poller: Poller) -> None:
    poller.ended.set()


def program(code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code])


def start_nothing() -> None:
    raise ConnectionError("no broker")


def main() -> None:
    poller = Wrapper.child_spec(mfa=(Poller, ["orders"]), stop=end, kill_timeout=2.0)
    server = Wrapper.child_spec(
        mfa=(program, ["import time; time.sleep(60)"]), delay=Backoff(min=0.1, max=10.0)
    )
    tree = Supervisor.start_link([{**poller, "id": "poller"}, {**server, "id": "server"}])
    print(Supervisor.get_childspec(tree, "poller")["shutdown"])  # -> 3.0
    print(Supervisor.count_children(tree)["active"])  # -> 2
    thread: Poller = Wrapper.wrapped(Supervisor.which_children(tree)[1].child)
    Supervisor.stop(tree)
    print(thread.is_alive())  # -> False

    with process.attach(trap_exit=True) as me:
        Wrapper.start_link(mfa=(program, ["raise SystemExit(2)"]), delay=0.0)
        notice: Exit = me.receive(Exit, timeout=20.0)
        print(notice.reason)  # -> ('exit_status', 2)
    try:
        Wrapper.start(mfa=(start_nothing, []), delay=0.0)
    except StartError as error:
        print(repr(error.reason))  # -> ConnectionError('no broker')


if __name__ == "__main__":
    main()
