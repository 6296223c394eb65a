"""The Kafka commands of the command line."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from confluent_kafka.admin import AdminClient

PATIENCE = 30.0


def ran_until_term(*arguments):
    """The endpoints that the command prints, and its exit code after SIGTERM."""
    command = subprocess.Popen(
        [sys.executable, "-m", "elsa_actors", "broker", *arguments],
        stdout=subprocess.PIPE,
        text=True,
    )
    with command:
        endpoints = command.stdout.readline().strip()
        try:
            admin = AdminClient({"bootstrap.servers": endpoints, "log_level": 0})
            topics = admin.list_topics(timeout=PATIENCE).topics
        finally:
            command.send_signal(signal.SIGTERM)
        found = {name: len(topic.partitions) for name, topic in topics.items()}
        return endpoints, found, command.wait(PATIENCE)


@pytest.mark.parametrize("kind", [(), ("--apache",)])
def test_command_runs_brokers_until_it_is_told_to_stop(kind):
    """One line says where they are, for scripts."""
    endpoints, topics, code = ran_until_term(*kind, "--topic", "orders:8", "--topic", "bills")
    assert endpoints.startswith("127.0.0.1:")
    assert topics == {"orders": 8, "bills": 1}
    assert code == 0


@pytest.mark.parametrize("wrong", [["--brokers", "0"], ["--topic", "t:x"], ["--topic", "a b"]])
def test_command_refuses_what_cannot_be_started(wrong):
    """Wrong usage is 2."""
    ran = subprocess.run(
        [sys.executable, "-m", "elsa_actors", "broker", *wrong],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert ran.returncode == 2
    assert "expected" in ran.stderr
    assert ran.stdout == ""
