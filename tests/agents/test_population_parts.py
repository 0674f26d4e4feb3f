"""A population in parts: the same candidates, the same returns, whoever dreams them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamenv.agents.optimisers import make_optimiser, pair_noise
from dreamenv.agents.options import EvolutionOptions
from dreamenv.agents.population_parts import _Part
from dreamenv.errors import ConfigurationError
from tests.agents.test_evolution import SMALL, CountedValidation, evolved, same_run, sign_model

SETTINGS: dict[str, Any] = SMALL | {"generations": 3, "part": 4}


@pytest.mark.parametrize("name", ["cma", "openai"])
def test_a_part_makes_the_candidates_that_were_asked_about(name: str) -> None:
    search = make_optimiser(name, np.arange(5.0), population=8, sigma=0.3, seed=2)
    for _ in range(2):
        asked = search.ask()
        for first, last in ((0, 8), (0, 3), (3, 6), (7, 8)):
            part = pickle.loads(pickle.dumps(search.part(first, last)))  # noqa: S301
            np.testing.assert_array_equal(part.weights().astype(np.float32), asked[first:last].astype(np.float32))
        search.tell(np.arange(8.0))


def test_what_is_sent_of_openai_es_does_not_grow_with_the_part() -> None:
    search = make_optimiser("openai", np.zeros(500), population=1000, sigma=0.3, seed=2)
    search.ask()
    assert len(pickle.dumps(search.part(0, 1000))) == pytest.approx(len(pickle.dumps(search.part(0, 1))), abs=16)


def test_no_two_pairs_share_their_noise() -> None:
    draws = [
        pair_noise(seed, generation, pair, 40) for seed in range(3) for generation in range(3) for pair in range(3)
    ]
    assert len(np.unique(np.stack(draws))) == 27 * 40
    assert abs(np.mean(draws)) < 0.15
    assert np.std(draws) == pytest.approx(1.0, abs=0.1)


@pytest.mark.integration
def test_the_number_of_workers_changes_nothing(tmp_path: Path) -> None:
    runs = [
        evolved(
            sign_model(), tmp_path / str(workers), workers=workers, validate=CountedValidation(), validate_every=2,
            **SETTINGS,
        )
        for workers in (0, 2)
    ]  # fmt: skip
    same_run(*runs)


def test_a_run_is_continued_by_other_workers_and_not_without_any(tmp_path: Path) -> None:
    whole = evolved(sign_model(), tmp_path / "whole", workers=0, **SETTINGS)
    evolved(sign_model(), tmp_path / "broken", workers=0, **SETTINGS | {"generations": 1})
    same_run(whole, evolved(sign_model(), tmp_path / "broken", workers="1", **SETTINGS))
    with pytest.raises(ConfigurationError, match="workers: some, with 4 candidates a part there, none here"):
        evolved(sign_model(), tmp_path / "broken", **SETTINGS)
    with pytest.raises(ConfigurationError, match="with 4 candidates a part there, some, with 3 candidates a part here"):
        evolved(sign_model(), tmp_path / "broken", workers=0, **SETTINGS | {"part": 3})


def test_a_lost_part_is_named_without_its_weights() -> None:
    search = make_optimiser("cma", np.zeros(500), population=8, sigma=0.3, seed=2)
    search.ask()
    assert f"task {_Part(3, 4, 8, search.part(4, 8))}" == "task candidates 4 to 7 of generation 3"


def test_a_part_needs_a_candidate() -> None:
    with pytest.raises(ConfigurationError, match="part must be at least 1"):
        EvolutionOptions(part=0)
