"""Run the benchmarks: `python -m benchmarks [SUBJECT ...] [--quick] [--json FILE]`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import structlog

from benchmarks import calls, casts, crash, floor, kafka, many, ring
from benchmarks.report import Section, Settings, as_json, heading, show, summarise

SUBJECTS: dict[str, list[Callable[[Settings], Section | None]]] = {
    "floor": [floor.run],
    "calls": [calls.run, calls.run_on_one_core, calls.run_together],
    "casts": [casts.run],
    "ring": [ring.run],
    "crash": [crash.run, crash.run_on_one_core],
    "many": [many.run],
    "kafka": [kafka.run_reading, kafka.run_writing, kafka.run_lone],
}

QUICK = Settings(rounds=3, long_rounds=1, sizes=(1_000, 10_000))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=", ".join(SUBJECTS))
    parser.add_argument("--quick", action="store_true", help="few rounds, no 100,000 servers")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save every round's figures")
    options = parser.parse_args()
    if unknown := set(options.subjects) - set(SUBJECTS):
        parser.error(f"expected some of {', '.join(SUBJECTS)}, got: {', '.join(sorted(unknown))}")
    settings = QUICK if options.quick else Settings()

    # Pykka logs as it does by default, to the standard library's logger; ours is as silent.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    print(heading())
    sections = []
    for subject in options.subjects or SUBJECTS:
        for run in SUBJECTS[subject]:
            section = run(settings)
            if section is not None:
                sections.append(section)
                show(section)
    summarise(sections)
    if options.json is not None:
        options.json.write_text(json.dumps(as_json(sections), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
