"""`dreamenv bench`."""

from __future__ import annotations

import json
from pathlib import Path

from tests.command_line import call


def test_bench_writes_its_rows(bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    result = call("bench", bundle, "--seconds", "0.02", "--max-envs", "1", "--json", file)
    assert "dream vector" in result.stdout
    assert {"case", "num_envs", "steps_per_s", "bound_steps_per_s", "fraction", "device"} <= set(
        json.loads(file.read_text())[0]
    )
