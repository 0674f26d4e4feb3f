"""Two agents' scores on the same real episodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dreamenv.errors import ConfigurationError
from dreamenv.scoring.compare import compare_scores


def score(returns: dict[int, float], **changed: Any) -> dict[str, Any]:
    content = {"real_id": "CartPole-v1", "agent": "mine", "seeds": list(returns), "returns": list(returns.values())}
    return content | changed


def test_episodes_are_paired_by_their_seed() -> None:
    first = score({7: 10.0, 8: 20.0, 9: 33.0, 5: -100.0}, agent="old")
    second = score({9: 30.0, 8: 24.0, 7: 12.0, 6: 500.0}, agent="new")
    found = compare_scores(first, second)
    assert (found.agents, found.episodes, found.real_id) == (("old", "new"), 3, "CartPole-v1")
    assert found.means == (21.0, 22.0)
    assert found.difference == 1.0, "2, 4 and -3"
    assert found.standard_error == pytest.approx(np.sqrt(13 / 3))
    assert (found.higher, found.lower) == (2, 1)
    back = compare_scores(second, first)
    assert (back.difference, back.higher, back.ci95) == (-1.0, 1, (-found.ci95[1], -found.ci95[0]))


def test_what_both_find_hard_cancels_out() -> None:
    hardness = np.random.default_rng(0).normal(0, 100, 100)
    first = score(dict(enumerate(hardness)))
    second = score({seed: value + 2 + 0.01 * seed for seed, value in enumerate(hardness)})
    low, high = compare_scores(first, second).ci95
    assert 2 < low < compare_scores(first, second).difference < high < 3


def test_a_single_episode_has_no_error() -> None:
    found = compare_scores(score({1: 3.0}), score({1: 5.0}))
    assert (found.difference, found.standard_error, found.ci95) == (2.0, 0.0, (2.0, 2.0))


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (score({3: 1.0}), "no episode was played by both agents; score both with the same --seed"),
        (score({1: 1.0}, real_id="Acrobot-v1"), "the real environment differs: CartPole-v1 and Acrobot-v1"),
        (score({1: 1.0}, kwargs={"g": 2.0}), "what the real environment is made with differs: None and {'g': 2.0}"),
        (score({1: 1.0}, changed={"kwargs": {"g": 2.0}}), "what was changed of the real environment differs: None and"),
        (score({1: 1.0}) | {"returns": [1.0, 2.0]}, "as many returns as seeds"),
        (score({1: 1.0}) | {"returns": [None]}, "seeds and returns are numbers"),
        (score({1: 1.0}) | {"seeds": ["a"]}, "seeds and returns are numbers"),
        (score({1: float("nan")}), "a return is not finite"),
        ({"mean": 3.0}, "no score: expected what `dreamenv eval --json` writes"),
        ([1, 2], "no score"),
    ],
)
def test_what_cannot_be_compared_is_refused(second: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        compare_scores(score({1: 2.0}), second)
