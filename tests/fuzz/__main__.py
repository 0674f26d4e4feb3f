"""`make fuzz`: ten thousand damaged inputs of every kind, and a table of what became of them."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from dreamenv.files import write_json
from tests.fuzz.run import OUTCOMES, fuzz
from tests.fuzz.subjects import subjects


def main() -> int:
    """Status 1 where something happened that must not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000, help="Damaged inputs of each kind.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="Kinds whose name contains this.")
    parser.add_argument("--json", type=Path, default=None, help="Write the figures there.")
    arguments = parser.parse_args()
    bad: list[str] = []
    figures: dict[str, dict[str, float]] = {}
    print(f"{'kind':28} {'inputs':>8} {' '.join(f'{name:>9}' for name in OUTCOMES)} {'slowest':>9} {'grown':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for name, subject in subjects(Path(folder)).items():
            if arguments.only not in name:
                continue
            began = time.monotonic()
            found = fuzz(subject, arguments.inputs, arguments.seed)
            counts = " ".join(f"{found.counts[outcome]:>9,}" for outcome in OUTCOMES)
            print(
                f"{name:28} {arguments.inputs:>8,} {counts} {found.slowest:>7.2f} s {found.grown:>5.0f} MB"
                f"   ({time.monotonic() - began:.0f} s)",
                flush=True,
            )
            bad += [f"{name}: {report}" for report in found.bad]
            key = name.replace(", ", "-").replace(" ", "-")
            figures[key] = {outcome: found.counts[outcome] for outcome in OUTCOMES}
            figures[key] |= {"inputs": arguments.inputs, "slowest_seconds": found.slowest, "grown_mb": found.grown}
    total = {outcome: sum(each[outcome] for each in figures.values()) for outcome in OUTCOMES}
    print(f"in all: {total}; {len(bad)} that must not be")
    for report in bad[:40]:
        print(report, file=sys.stderr)
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(arguments.json, {"kinds": figures, "total": total, "bad": len(bad), "seed": arguments.seed})
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
