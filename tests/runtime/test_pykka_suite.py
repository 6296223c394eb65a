"""Process passes Pykka's own test suite in the place of ThreadingActor.

Pykka's tests are in its source distribution alone; `make test` unpacks that of the installed
version into .cache/pykka. They run in a Python of their own, where pykka_suite_plugin.py has put
Process in ThreadingActor's place and taken out, by name and with a reason, the few about threads.
"""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from importlib.metadata import version
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SUITE = HERE.parents[1] / ".cache" / "pykka" / f"pykka-{version('pykka')}"

AT_LEAST = 148
"""Tests of Pykka 4.5.0 that are about actors; a suite with fewer has lost some."""


@pytest.mark.timeout(120)
def test_process_passes_pykkas_own_tests_in_the_place_of_threading_actor(tmp_path: Path) -> None:
    """What Pykka promises of an actor, its ref, proxy, future and registry holds for a Process."""
    if not (SUITE / "tests" / "conftest.py").is_file():
        pytest.fail(f"{SUITE} has no tests in it; run `make test` once, which fetches them")
    report = tmp_path / "report.xml"

    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "tests", "-q", f"--junitxml={report}"),
            *("-p", "pytest_mock", "-p", "pytest_timeout", "-p", "pykka_suite_plugin"),
            # Nothing of our own settings.
            *("-c", os.devnull, "--rootdir", str(SUITE), "-p", "no:cacheprovider"),
            # Pykka's tests leave event loops open: that says nothing about us.
            *("-W", "error", "-W", "ignore::ResourceWarning", "--timeout=30"),
        ],
        cwd=SUITE,
        env={
            **os.environ,
            "PYTHONPATH": str(HERE),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTEST_ADDOPTS": "",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
    )

    assert run.returncode == 0, f"{run.stdout}\n{run.stderr}"
    counts = ET.parse(report).getroot().find("testsuite")
    assert counts is not None
    assert int(counts.attrib["tests"]) >= AT_LEAST, run.stdout
    assert [counts.attrib[kind] for kind in ("failures", "errors", "skipped")] == ["0", "0", "0"]
