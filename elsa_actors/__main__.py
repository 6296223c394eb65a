"""The command line: elsa-actors run, demo, broker.

Exit codes: 0 done, 1 refused, 2 wrong usage, 141 nobody reads what is printed any more.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import structlog

from elsa_actors.kafka.cli import add_commands as add_kafka_commands
from elsa_actors.program import run
from elsa_actors.runtime.errors import ChildSpecError

DONE, REFUSED, WRONG_USAGE = 0, 1, 2
BROKEN_PIPE = 141
"""What a shell reports of a program that SIGPIPE has ended."""


class WrongUsage(Exception):
    """The command line cannot be understood; the message says what was expected."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command; returns its exit code. Wrong options end by SystemExit(2)."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help(sys.stderr)
        return WRONG_USAGE
    configure_logging(options.log_level)
    try:
        code = _carry_out(options)
        _flush()  # Here, where an error can still be met.
    except BrokenPipeError:
        _let_go_of_broken_pipes()
        return BROKEN_PIPE
    return code


def _carry_out(options: argparse.Namespace) -> int:
    try:
        code: int = options.command(options)
    except WrongUsage as error:
        print(f"elsa-actors: error: {error}", file=sys.stderr)
        return WRONG_USAGE
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="elsa-actors", description="Supervised processes for Python, run and looked after."
    )
    parser.add_argument(
        "--version", action="version", version=_version(), help="show the version and exit"
    )
    parser.set_defaults(command=None, log_level="info")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add_run(commands)
    _add_demo(commands)
    add_kafka_commands(commands)
    # The other commands join here: those of ops/cli.py.
    return parser


def _version() -> str:
    try:
        return f"elsa-actors {metadata.version('elsa-actors')}"
    except metadata.PackageNotFoundError:
        return "elsa-actors, from a folder in which it is not installed"


def configure_logging(level: str) -> None:
    """Have events written to standard error, for people, with colours on a terminal."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False),
            # Plain tracebacks: those that show variables show passwords, and take their time.
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _flush() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()


def _let_go_of_broken_pipes() -> None:
    """Have what is still to be written go nowhere, or the end of the program tries again."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


# ---- run


def _add_run(commands: Any) -> None:
    command = commands.add_parser(
        "run",
        help="run a supervision tree until Ctrl-C, SIGTERM or its end",
        description=(
            "Run a supervision tree until Ctrl-C, SIGTERM or its end. SPEC is a list of children,"
            " a child, or a function without arguments that returns one of them. A signal stops"
            " the tree in order, a second one at once."
        ),
        epilog=(
            "example:\n"
            "  # shop.py\n"
            "  spec = [Till, (Clerk, 'Ann')]\n\n"
            "  elsa-actors run shop:spec --name shop\n\n"
            "exit codes: 0 stopped, or ended cleanly; 1 not started, or gave up; 2 wrong usage"
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("spec", metavar="SPEC", help="where it stands, as pkg.mod:spec")
    command.add_argument("--name", help="the name of the supervisor at the top")
    command.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        default="info",
        help="the least that is logged, to standard error (default: info)",
    )
    command.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    spec = _load(options.spec)
    if callable(spec) and not isinstance(spec, type):
        try:
            spec = spec()
        except Exception as error:
            raise _broken("call", options.spec) from error
    try:
        return run(spec, name=options.name)
    except ChildSpecError as error:
        raise WrongUsage(f"{options.spec}: {error}") from error


def _add_demo(commands: Any) -> None:
    command = commands.add_parser(
        "demo",
        help="see a shop on Kafka lose processes, and no order",
        description=(
            "Produce and handle orders under a supervisor, kill a worker, a producer and the client"
            " meanwhile, and prove that every order was handled. Takes ten seconds, on a broker"
            " inside of this program that needs nothing installed."
        ),
        epilog=(
            "examples:\n"
            "  elsa-actors demo\n"
            "  elsa-actors demo --endpoints localhost:9092\n\n"
            "exit codes: 0 proven; 1 an order was lost; 2 no broker, or wrong usage; 130 Ctrl-C"
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kafka = command.add_mutually_exclusive_group()
    kafka.add_argument(
        "--endpoints",
        metavar="HOST:PORT",
        help="play on this Kafka, on a topic that is made for it and deleted at the end",
    )
    kafka.add_argument(
        "--apache",
        action="store_true",
        help="start an Apache Kafka, and kill that as well (needs elsa-actors[apache-kafka])",
    )
    command.add_argument(
        "--seconds",
        type=_seconds,
        default=8.0,
        metavar="N",
        help="how long orders come in (default: 8)",
    )
    # The demo shows what is logged in its own way; until then there is nothing to tell.
    command.set_defaults(command=_demo, log_level="critical")


def _demo(options: argparse.Namespace) -> int:
    # Here and not above: it loads librdkafka, for which no other command should wait.
    from elsa_actors.demo import run_demo

    return run_demo(endpoints=options.endpoints, apache=options.apache, seconds=options.seconds)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"expected seconds (more than 0), got: {text!r}")
    return seconds


def _load(path: str) -> Any:
    """What stands under pkg.mod:spec; modules are looked for in the working directory first."""
    module_name, colon, names = path.partition(":")
    if not (module_name and colon and names):
        raise WrongUsage(f"expected SPEC to be like pkg.mod:spec, got: {path!r}")
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # Only if it is that module itself, or its package, that is missing; else it has a fault.
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            raise WrongUsage(f"there is no module {error.name!r} to load {path!r} from") from None
        raise _broken("import", module_name) from error
    except Exception as error:
        raise _broken("import", module_name) from error
    for name in names.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise WrongUsage(f"{module_name} has no {names!r}") from None
    return found


def _broken(verb: str, what: str) -> WrongUsage:
    """The user's module or function raised; its traceback is shown."""
    traceback.print_exc()
    return WrongUsage(f"cannot {verb} {what!r}, see above")


if __name__ == "__main__":
    sys.exit(main())
