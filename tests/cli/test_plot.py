"""`dreamenv plot`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dreamenv.errors import BundleError, ConfigurationError, UnknownDreamError
from dreamenv.world_model import WorldModel
from tests.command_line import call


def test_plot_of_a_model(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "plots"
    result = call("plot", str(bundle), "--out", str(out), "--horizons", "3,1", "--context", "1", "--samples", "2")
    assert result.exit_code == 0
    expected = {f"{name}.{suffix}" for name in ("open_loop", "reconstructions") for suffix in ("png", "svg")}
    assert {file.name for file in out.iterdir()} == expected


def test_plot_says_when_no_episode_is_long_enough(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"6 actions, 51 are needed"):
        call("plot", str(bundle), "--out", str(tmp_path), "--context", "1")
    with pytest.raises(ConfigurationError, match="1,5,15,50"):
        call("plot", str(bundle), "--out", str(tmp_path), "--horizons", "one")


def test_plot_of_an_evolution(tmp_path: Path) -> None:
    (tmp_path / "agent").mkdir()
    score = {"mean": 3.0, "returns": [3.0], "real_frames": 9}
    history = [
        {"index": 1, "dream_mean": 1.0, "dream_best": 2.0, "validation_mean": None, "validation_best": None},
        {"index": 2, "dream_mean": 2.0, "dream_best": 3.0, "validation_mean": score, "validation_best": score},
    ]
    (tmp_path / "agent" / "evolution.json").write_text(json.dumps({"history": history}))
    assert call("plot", str(tmp_path), "--out", str(tmp_path)).exit_code == 0
    assert (tmp_path / "evolution.png").stat().st_size > 1000
    assert (tmp_path / "evolution.svg").read_text(encoding="utf-8").rstrip().endswith("</svg>")
    assert (tmp_path / "dream_against_real.png").exists()  # generation 2 has both scores
    (tmp_path / "agent" / "evolution.json").write_text('{"history": []}')
    with pytest.raises(BundleError, match="not the history"):
        call("plot", str(tmp_path), "--out", str(tmp_path))


def test_plot_of_loops_compares_them(tmp_path: Path) -> None:
    for name in ("first", "second"):
        row = {"number": 0, "real_frames": 1000, "dream_mean": 5.0, "real_mean": -1.0, "real_std": 2.0}
        (tmp_path / name).mkdir()
        (tmp_path / name / "rounds.json").write_text(json.dumps([row]))
    result = call("plot", tmp_path / "first", tmp_path / "second", "--out", str(tmp_path / "plots"))
    assert "-1.0 ± 2.0" in result.stdout
    drawn = {f"{name}.{suffix}" for name in ("rounds", "dream_against_real") for suffix in ("png", "svg")}
    assert {file.name for file in (tmp_path / "plots").iterdir()} == drawn
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleError, match="nothing to draw"):
        call("plot", str(tmp_path / "empty"), "--out", str(tmp_path))


def test_plot_reads_the_rounds_that_a_bundle_holds(bundle: Path, tmp_path: Path) -> None:
    provenance = WorldModel.load("DreamCarRacing-v0").provenance
    result = call("plot", "DreamCarRacing-v0", "--no-model", "--out", str(tmp_path))
    rows = [line.split() for line in result.stdout.splitlines() if line.startswith("DreamCarRacing-v0")]
    assert [int(row[1]) for row in rows] == list(range(len(provenance["rounds"])))
    assert rows[0][2] == f"{provenance['rounds'][0]['real_frames']:,}"
    assert {file.stem for file in tmp_path.glob("*.svg")} == {"rounds", "dream_against_real"}
    with pytest.raises(BundleError, match="nothing to draw"):
        call("plot", bundle, "--no-model", "--out", tmp_path)


def test_plot_of_a_model_and_a_run_names_the_pictures_of_each(bundle: Path, tmp_path: Path) -> None:
    row = {"number": 0, "real_frames": 1000, "dream_mean": 5.0, "real_mean": -1.0, "real_std": 2.0}
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop" / "rounds.json").write_text(json.dumps([row]))
    options = ("--out", tmp_path / "plots", "--horizons", "1", "--context", "1", "--samples", "1")
    call("plot", bundle, tmp_path / "loop", *options)
    drawn = {file.stem for file in (tmp_path / "plots").iterdir()}
    assert drawn == {"rounds", "dream_against_real", "open_loop_bundle", "reconstructions_bundle"}


def test_plot_refuses_what_is_not_there_and_two_of_one_name(tmp_path: Path) -> None:
    with pytest.raises(UnknownDreamError, match="Did you mean DreamDoom-v0"):
        call("plot", "DreamDom-v0")
    folders = [tmp_path / where / "run" for where in ("here", "there")]
    for folder in folders:
        folder.mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="would both be called 'run'"):
        call("plot", *folders)
