"""The Kafka commands of the command line."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from types import FrameType
from typing import Any

from elsa_actors.runtime.errors import ElsaError

DONE, REFUSED, WRONG_USAGE = 0, 1, 2


def add_commands(commands: Any) -> None:
    """Add them to what argparse's ``add_subparsers`` has made.

    Each sets ``command``, a function from the options to the exit code.
    """
    _add_broker(commands)


# ---- broker


def _add_broker(commands: Any) -> None:
    command = commands.add_parser(
        "broker",
        help="run a Kafka for trying out, until Ctrl-C",
        description=(
            "Run a Kafka on this machine's loopback until Ctrl-C or SIGTERM, and print where it"
            " is: one line, for clients' bootstrap.servers. It forgets everything when it ends."
            " Without --apache it is librdkafka's own small broker, which starts at once; with"
            " --apache it is Apache Kafka, fetched when it is first used (45 MB), for which"
            " pip install 'elsa-actors[apache-kafka]' is needed."
        ),
        epilog=(
            "example: elsa-actors broker --apache --brokers 3 --topic orders:8 --topic bills\n\n"
            "exit codes: 0 stopped; 1 not started; 2 wrong usage"
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--apache", action="store_true", help="run Apache Kafka")
    command.add_argument(
        "--brokers", type=_count, default=1, metavar="N", help="how many (default: 1)"
    )
    command.add_argument(
        "--topic",
        type=_topic,
        action="append",
        default=[],
        dest="topics",
        metavar="NAME[:PARTITIONS]",
        help="make a topic (with 1 partition, if not said); may be given again",
    )
    command.set_defaults(command=_broker)


def _broker(options: argparse.Namespace) -> int:
    # Here and not above: these load librdkafka, for which no other command should wait.
    from elsa_actors.kafka.apache import ApacheKafka
    from elsa_actors.kafka.embedded import EmbeddedKafka

    kind = ApacheKafka if options.apache else EmbeddedKafka
    try:
        kafka = kind(brokers=options.brokers, topics=dict(options.topics))
    except ElsaError as error:
        print(f"elsa-actors: error: {error}", file=sys.stderr)
        return WRONG_USAGE
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        with kafka:
            print(kafka.endpoints, flush=True)
            threading.Event().wait()
    except KeyboardInterrupt:
        pass
    except ElsaError as error:
        print(f"elsa-actors: error: {error}", file=sys.stderr)
        return REFUSED
    return DONE


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Leave the block; a second signal ends the program as if nobody handled it."""
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_DFL)
    raise KeyboardInterrupt


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number (1 or more), got: {text!r}")
    return int(text)


def _topic(text: str) -> tuple[str, int]:
    name, colon, partitions = text.partition(":")
    if not name or (colon and not partitions):
        raise argparse.ArgumentTypeError(f"expected NAME or NAME:PARTITIONS, got: {text!r}")
    return name, _count(partitions) if colon else 1
