"""`make torture`: runs stopped at any moment, millions of dreamed steps, thousands of environments and visitors."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dreamenv import registry
from dreamenv.files import write_json
from tests.torture.interruptions import VERBS, interrupt
from tests.torture.memory import Endured, dream_on, make_and_close
from tests.torture.visitors import visit


def main() -> int:
    """Status 1 where something happened that must not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moments", type=int, default=20, help="Moments at which each verb is stopped by each signal.")
    parser.add_argument("--steps", type=int, default=10_000_000, help="Dreamed steps of each shipped dream.")
    parser.add_argument("--environments", type=int, default=20_000, help="How many are made and closed.")
    parser.add_argument("--connections", type=int, default=10_000, help="Visits of the page.")
    parser.add_argument("--at-once", type=int, default=50, help="Visitors at one time.")
    parser.add_argument("--only", choices=("runs", "dreams", "environments", "page"), action="append")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=None, help="Write the figures there.")
    arguments = parser.parse_args()
    chosen = arguments.only or ["runs", "dreams", "environments", "page"]
    faults: list[str] = []
    figures: dict[str, Any] = {"runs": {}, "endured": {}}
    if "runs" in chosen:
        for verb in VERBS:
            began = time.monotonic()
            with tempfile.TemporaryDirectory() as folder:
                found = interrupt(verb, Path(folder), moments=arguments.moments, seed=arguments.seed)
            stopped = ", ".join(f"{name} {number}" for name, number in found.stopped.items())
            print(
                f"{verb}: stopped by {stopped}; {len(found.faults)} faults ({time.monotonic() - began:.0f} s)",
                flush=True,
            )
            _tell(found.faults)
            figures["runs"][verb] = {"stopped": sum(found.stopped.values()), "faults": len(found.faults)}
            faults += found.faults
    for endured in _endured(arguments, chosen):
        files = f", {endured.more_files:+d} open files" if "close" in endured.what else ""
        print(f"{endured.count:,} {endured.what}: memory {endured.grown_mb:+.1f} MB{files}", flush=True)
        _tell(endured.faults)
        figures["endured"][endured.key] = asdict(endured) | {"faults": len(endured.faults)}
        faults += endured.faults
    print(f"{len(faults)} faults")
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(arguments.json, figures | {"faults": len(faults), "seed": arguments.seed})
    return 1 if faults else 0


def _tell(faults: list[str]) -> None:
    for fault in faults:
        print(fault, file=sys.stderr, flush=True)


def _endured(arguments: argparse.Namespace, chosen: list[str]) -> Any:
    """What is asked for, one after the other."""
    dreams = sorted(registry.read_registry(registry.shipped_registry_path()))
    works: list[tuple[str, Any]] = []
    works += [("dreams", lambda dream=dream: dream_on(dream, arguments.steps)) for dream in dreams]
    works += [("environments", lambda: make_and_close("DreamCarRacing-v0", arguments.environments))]
    works += [("page", lambda: visit("DreamDoom-v0", connections=arguments.connections, at_once=arguments.at_once))]
    for kind, work in works:
        if kind in chosen:
            found: Endured = work()
            yield found


if __name__ == "__main__":
    sys.exit(main())
