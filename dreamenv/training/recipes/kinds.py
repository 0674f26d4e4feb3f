"""The register of recipes."""

from __future__ import annotations

from typing import Any

from dreamenv.kinds import Register
from dreamenv.training.recipes.base import Recipe

RECIPES: Register[type[Recipe[Any]]] = Register(
    "recipe",
    {
        "mdn_rnn": "dreamenv.training.recipes.mdn_rnn:MDNRNNRecipe",
        "ensemble": "dreamenv.training.recipes.ensemble:EnsembleRecipe",
        "rssm": "dreamenv.training.recipes.rssm:RSSMRecipe",
        "tabular": "dreamenv.training.recipes.tabular:TabularRecipe",
        "value_equivalent": "dreamenv.training.recipes.value_equivalent:ValueEquivalentRecipe",
    },
    Recipe,
)


def register_recipe(name: str, recipe: type[Recipe[Any]]) -> None:
    """Make `dreamenv train --recipe NAME`, `dreamenv loop` and `TrainOptions` know `recipe`.

    A package can do the same without being imported first, by an entry point: in its pyproject.toml
    `[project.entry-points."dreamenv.recipe"]` with `name = "package.module:Class"`. A recipe whose models are new kinds
    registers these too (`register_memory`, `register_vision`), so that their bundles load.

    Args:
        name: The name.
        recipe: Called without arguments.

    Raises:
        ConfigurationError: Another recipe has this name, or it is no class of recipes.
    """
    RECIPES.add(name, recipe)
