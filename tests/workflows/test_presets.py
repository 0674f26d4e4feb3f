"""The preset files that come with the list of published figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from dreamenv.options import options_from, overlay
from dreamenv.registry import read_registry
from dreamenv.training.recipes.kinds import RECIPES
from dreamenv.workflows.loop_options import LoopOptions
from dreamenv.workflows.published.entries import PRESETS


@pytest.mark.parametrize("file", sorted(PRESETS.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_preset_is_one_that_its_recipe_and_the_loop_take(file: Path) -> None:
    for entry in read_registry(file).values():
        train = entry.section.train
        options = options_from(RECIPES[train.recipe].options_type, train.options, where=file.name)
        fit = {"recipe": train.recipe, "options": options}
        loop = overlay(train.loop, {"first_frames": train.frames, "train": fit})
        assert options_from(LoopOptions, loop, where=file.name).rounds > 0
        if train.mbpo:
            mbpo = pytest.importorskip("dreamenv.sb3.mbpo")
            assert options_from(mbpo.MBPOOptions, train.mbpo, where=file.name).steps > 0
