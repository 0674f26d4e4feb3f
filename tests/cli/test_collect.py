"""`dreamenv collect`: where the episodes go."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dreamenv.data.episodes import EpisodeStore
from dreamenv.errors import ConfigurationError
from tests.command_line import call


@pytest.mark.parametrize("part", ["../../x", "gentle/../../x", "{absolute}"])
def test_a_part_that_leaves_the_run_is_refused(part: str, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "own"
    part = part.format(absolute=tmp_path / "x")
    arguments = ["--real", "CartPole-v1", "--episodes", "1", "--workers", "0", "--out", out]
    with pytest.raises(ConfigurationError, match=re.escape(f"--part is {part}; expected a folder within OUT/episodes")):
        call("collect", *arguments, "--part", part)
    assert not (tmp_path / "x").exists()
    assert not (tmp_path / "runs").exists()


def test_a_part_goes_into_a_folder_of_its_own(tmp_path: Path) -> None:
    arguments = ["--real", "CartPole-v1", "--episodes", "1", "--workers", "0", "--out", tmp_path]
    assert call("collect", *arguments, "--part", "round/0").exit_code == 0
    assert len(EpisodeStore(tmp_path / "episodes" / "round" / "0")) == 1
