"""A program for tests of `dreamenv reproduce`: python -m tests.workflows.counting FOLDER SEED [OPTIONS].

Each run adds a line to FOLDER/runs.txt, writes FOLDER/score.json in the form of `dreamenv eval`, and prints a line.
With --stops it ends its first run with that status, before it has written anything but the line. With --waits it goes
on for a minute after its line.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

RETURNS = (1.0, 2.0, 6.0)
LENGTHS = (10, 20, 30)


def main() -> None:
    folder, seed = Path(sys.argv[1]), int(sys.argv[2])
    runs = folder / "runs.txt"
    earlier = runs.read_text(encoding="utf-8") if runs.exists() else ""
    runs.write_text(f"{earlier}{seed}\n", encoding="utf-8")
    if "--stops" in sys.argv and not earlier:
        sys.exit(int(sys.argv[sys.argv.index("--stops") + 1]))
    returns = [value + seed for value in RETURNS]
    score = {"mean": sum(returns) / 3, "std": 2.6458, "ci95": [min(returns), max(returns)], "episodes": 3}
    score |= {"returns": returns, "lengths": list(LENGTHS), "real_frames": 41, "real_id": "Counting-v0"}
    (folder / "score.json").write_text(json.dumps(score), encoding="utf-8")
    print(f"seed {seed}: {1000 + seed:,} steps")
    if "--waits" in sys.argv:
        time.sleep(60)


if __name__ == "__main__":
    main()
