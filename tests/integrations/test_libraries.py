"""The snippets of docs/integrations.md as they stand: run on a shipped dream, and learning where the best is known."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from tests.integrations.conftest import RunLibrary
from tests.integrations.match_dream import BEST_RETURN, ID, RANDOM_RETURN

pytestmark = [pytest.mark.slow, pytest.mark.library]

MISSING = "{} is not in this environment; `make test-integrations` has it"
# Module that has to be there, and updates until the matching dream is learned.
LIBRARIES = {"torchrl": ("torchrl", 8), "rllib": ("ray", 10), "skrl": ("skrl", 12)}


def snippet(root: Path, language: str, library: str) -> str:
    """The block of docs/integrations.md that opens with `LANGUAGE LIBRARY`."""
    text = (root / "docs" / "integrations.md").read_text(encoding="utf-8")
    blocks = re.findall(rf"^```{language} {library}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1, f"{len(blocks)} blocks `{language} {library}` in docs/integrations.md"
    return blocks[0]


def assert_learned(returns: list[float]) -> None:
    """From guessing to half of the best return and more; pytest -rP shows the figures."""
    print("mean returns:", *(f"{mean:.1f}" for mean in returns))
    assert returns[0] < 3 * RANDOM_RETURN
    assert BEST_RETURN / 2 < max(returns[-3:]) < 1.5 * BEST_RETURN


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_snippet_runs_and_learns(library: str, run_library: RunLibrary, root: Path, tmp_path: Path) -> None:
    module, updates = LIBRARIES[library]
    pytest.importorskip(module, reason=MISSING.format(module))
    code = snippet(root, "python", library)
    seeded = "import torch\ntorch.manual_seed(0)\n"
    shown = f"\nimport json\nprint('MATCH', json.dumps([float(mean) for mean in train({ID!r}, updates={updates})]))\n"
    script = tmp_path / "snippet.py"
    script.write_text(seeded + code + shown, encoding="utf-8")
    lines = run_library(script).splitlines()
    doom = next(line.removeprefix("DreamDoom-v0: ") for line in lines if line.startswith("DreamDoom-v0: "))
    assert all(0 < float(mean) <= 2100 for mean in doom.split())
    assert_learned(json.loads(next(line.removeprefix("MATCH ") for line in lines if line.startswith("MATCH "))))


def test_rl_zoo_runs_and_learns(run_library: RunLibrary, root: Path, tmp_path: Path) -> None:
    pytest.importorskip("rl_zoo3", reason=MISSING.format("rl_zoo3"))
    settings, command = snippet(root, "yaml", "rl-zoo"), snippet(root, "bash", "rl-zoo")
    for dream, steps in (("DreamDoom-v0", "2000"), (ID, "16000")):
        (tmp_path / "dreams.yml").write_text(settings.replace("DreamDoom-v0", dream), encoding="utf-8")
        words = command.replace("\\\n", " ").replace("DreamDoom-v0", dream).replace("100000", steps).split()
        assert words[0] == "python"
        run_library(*words[1:])
        assert (tmp_path / "logs" / "ppo" / f"{dream}_1" / f"{dream}.zip").stat().st_size > 1000
    ends = []
    for file in (tmp_path / "logs" / "ppo" / f"{ID}_1").glob("*.monitor.csv"):
        rows = [line.split(",") for line in file.read_text(encoding="utf-8").splitlines()[2:]]
        ends += [(float(time), float(total)) for total, _, time in rows]
    returns = [total for _, total in sorted(ends)]
    assert_learned([float(np.mean(returns[:200])), float(np.mean(returns[-100:]))])


def test_the_single_file_ppo_learns(run_library: RunLibrary, root: Path) -> None:
    script = root / "examples" / "10_cleanrl_style_ppo.py"
    output = run_library(script, ID, "--steps", "16384")
    assert_learned([float(mean) for mean in re.findall(r"mean return (-?[\d.]+) of", output)])
    assert "mean return" in run_library(script, "DreamDoom-v0", "--steps", "6000")
