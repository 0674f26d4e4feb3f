"""The presets that come with the list of figures: each fits the schema, and its recipe takes its options."""

from __future__ import annotations

from pathlib import Path

import pytest

from dreamenv.cli.options import checked, recipe_and_options
from dreamenv.registry import read_registry
from dreamenv.workflows.loop_options import LoopOptions
from dreamenv.workflows.published.entries import PRESETS

FILES = sorted(PRESETS.glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_preset_is_one(file: Path) -> None:
    for entry in read_registry(file).values():
        real = entry.section.real.spec()
        assert entry.section.latent_id == entry.id.replace("Dream", "Latent")
        assert real.from_json(real.to_json()) == real
        recipe_and_options(entry.section, None, [])
        loop = {key: value for key, value in entry.section.train.loop.items() if key != "train"}
        checked(LoopOptions, loop, entry.section, "train.loop")


def test_there_are_presets() -> None:
    assert {"gallery", "cartpole_swingup"} <= {file.stem for file in FILES}
