"""`make torture`: runs stopped at any moment, millions of dreamed steps, thousands of environments and visitors."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from dreamenv import registry
from dreamenv.files import read_json, write_json
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
    parser.add_argument(
        "--json", type=Path, default=None, help="Write the figures there; what it holds is not repeated."
    )
    arguments = parser.parse_args()
    record = Record.begin(arguments.json, {key: value for key, value in vars(arguments).items() if key != "json"})
    chosen = arguments.only or ["runs", "dreams", "environments", "page"]
    for verb in VERBS if "runs" in chosen else ():
        if verb not in record.runs:
            record.runs[verb] = _stop_and_go_on(verb, moments=arguments.moments, seed=arguments.seed)
            record.write()
    for kind, key, work in _works(arguments):
        if kind in chosen and key not in record.endured:
            record.endured[key] = _told(work())
            record.write()
    print(f"{record.faults} faults")
    record.write(finished=True)
    return 1 if record.faults else 0


@dataclass
class Record:
    """The figures so far, in a file. A run that was stopped goes on behind what its file holds.

    Attributes:
        file: None keeps them in memory only.
        settings: Of the run; a file of others begins anew, and so does one of a run that has ended.
        runs: Figures by verb.
        endured: Figures by key.
    """

    file: Path | None
    settings: dict[str, Any]
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    endured: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def begin(cls, file: Path | None, settings: dict[str, Any]) -> Record:
        """That of the file, or an empty one."""
        found: dict[str, Any] = read_json(file) if file is not None and file.exists() else {}
        if found.get("finished", True) or found["settings"] != settings:
            return cls(file, settings)
        return cls(file, settings, found["runs"], found["endured"])

    @property
    def faults(self) -> int:
        """What must not be, in all."""
        return sum(figures["faults"] for figures in (*self.runs.values(), *self.endured.values()))

    def write(self, *, finished: bool = False) -> None:
        """Write the file."""
        if self.file is not None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            figures = {"runs": self.runs, "endured": self.endured, "faults": self.faults}
            write_json(self.file, figures | {"settings": self.settings, "finished": finished})


def _stop_and_go_on(verb: str, *, moments: int, seed: int) -> dict[str, Any]:
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = interrupt(verb, Path(folder), moments=moments, seed=seed)
    stopped = ", ".join(f"{name} {number}" for name, number in found.stopped.items())
    print(f"{verb}: stopped by {stopped}; {len(found.faults)} faults ({time.monotonic() - began:.0f} s)", flush=True)
    _tell(found.faults)
    return {"stopped": sum(found.stopped.values()), "faults": len(found.faults)}


def _told(endured: Endured) -> dict[str, Any]:
    files = f", {endured.more_files:+d} open files" if "close" in endured.what else ""
    print(f"{endured.count:,} {endured.what}: memory {endured.grown_mb:+.1f} MB{files}", flush=True)
    _tell(endured.faults)
    return asdict(endured) | {"faults": len(endured.faults)}


def _tell(faults: list[str]) -> None:
    for fault in faults:
        print(fault, file=sys.stderr, flush=True)


def _works(arguments: argparse.Namespace) -> Iterator[tuple[str, str, Callable[[], Endured]]]:
    """Kind, key of the figures, and what measures them."""
    for dream in sorted(registry.read_registry(registry.shipped_registry_path())):
        yield "dreams", f"steps-{dream}", partial(dream_on, dream, arguments.steps)
    yield "environments", "environments", partial(make_and_close, "DreamCarRacing-v0", arguments.environments)
    visits = partial(visit, "DreamDoom-v0", connections=arguments.connections, at_once=arguments.at_once)
    yield "page", "visits", visits


if __name__ == "__main__":
    sys.exit(main())
