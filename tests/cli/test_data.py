"""`dreamenv data show` through the command line's own parser."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dreamenv.data.collect import collect
from dreamenv.data.episodes import EpisodeStore
from dreamenv.errors import EpisodeFileError
from dreamenv.types import Episode, RealEnvSpec
from tests.command_line import call


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    collect(RealEnvSpec("CartPole-v1"), folder / "episodes", episodes=6, workers=0, seed=3)
    return folder


def test_show_draws_writes_and_tells(run: Path, tmp_path: Path) -> None:
    result = call("data", "show", run, "--out", tmp_path / "plots", "--episodes", "3", "--json", tmp_path / "d.json")
    assert result.exit_code == 0
    names = ("actions", "contact_sheet_1", "lengths", "returns")
    drawn = {file.name for file in (tmp_path / "plots").iterdir()}
    assert drawn == {f"{name}{suffix}" for name in names for suffix in (".png", ".svg")}
    for name in names:
        assert (tmp_path / "plots" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (tmp_path / "plots" / f"{name}.svg").read_text(encoding="utf-8").rstrip().endswith("</svg>")
    found = json.loads((tmp_path / "d.json").read_text(encoding="utf-8"))
    store = EpisodeStore(run / "episodes")
    assert found["all"]["real_frames"] == store.real_frames
    assert sum(found["action_coverage"]["counts"].values()) == sum(len(episode) for episode in store)
    assert set(found["action_coverage"]["counts"]) == {"0", "1"}
    mean = np.mean([episode.undiscounted_return for episode in store])
    assert found["all"]["return_mean"] == pytest.approx(mean)
    table = [line for line in result.stdout.splitlines() if not line.endswith((".png", ".svg"))]
    assert table[0].split() == [
        "policy", "episodes", "real", "frames", "return", "least", "most", "length", "terminated", "truncated",
    ]  # fmt: skip
    assert len(table) == len(found["policies"]) + (2 if len(found["policies"]) > 1 else 1)
    assert len({len(line) for line in table}) == 1


def test_show_of_a_folder_of_episodes_without_a_record(tmp_path: Path) -> None:
    times = np.arange(5, dtype=np.float32)
    EpisodeStore(tmp_path / "own").append(
        Episode(times[:, None], np.stack([times[:4], times[:4]], 1), times[:4], True, False, 0, "human", 4)
    )
    assert call("data", "show", tmp_path / "own", "--out", tmp_path, "--json", tmp_path / "d.json").exit_code == 0
    coverage = json.loads((tmp_path / "d.json").read_text(encoding="utf-8"))["action_coverage"]
    assert (coverage["bounds"], coverage["high"]) == ("data", [3.0, 3.0])


def test_show_names_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EpisodeFileError, match="no such folder"):
        call("data", "show", tmp_path / "nowhere")
    with pytest.raises(EpisodeFileError, match="no episodes; run `dreamenv collect` first"):
        call("data", "show", tmp_path)
