from __future__ import annotations

import numpy as np
import pytest
import torch

from dreamenv.errors import ConfigurationError
from dreamenv.noise.hashed import BLOCK_STEPS, EpisodeNoise


def begin(noise: EpisodeNoise, keys: list[int]) -> None:
    noise.begin_episodes(np.arange(len(keys)), np.array(keys, np.uint64))


def draw_steps(noise: EpisodeNoise, rows: int, steps: int) -> torch.Tensor:
    drawn = []
    for _ in range(steps):
        noise.begin_step()
        drawn.append(torch.cat([noise.uniform(rows, 3), noise.normal(rows, 2)], dim=1))
        noise.end_step()
    return torch.stack(drawn)


def test_a_row_depends_on_its_own_key_alone() -> None:
    steps = 2 * BLOCK_STEPS + 5
    alone, together = EpisodeNoise(1), EpisodeNoise(3)
    begin(alone, [7])
    begin(together, [5, 7, 9])
    one, three = draw_steps(alone, 1, steps), draw_steps(together, 3, steps)
    assert torch.equal(one[:, 0], three[:, 1])
    assert not torch.equal(three[:, 0], three[:, 1])


def test_numbers_have_the_promised_distribution_and_do_not_repeat() -> None:
    noise = EpisodeNoise(200)
    begin(noise, list(range(200)))
    drawn = draw_steps(noise, 200, 150)
    uniform, normal = drawn[..., :3].flatten(), drawn[..., 3:].flatten()
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert abs(uniform.mean() - 0.5) < 0.005
    assert abs(uniform.var() - 1 / 12) < 0.002
    assert abs(normal.mean()) < 0.015
    assert abs(normal.std() - 1) < 0.01
    assert len(normal.unique()) > 0.99 * len(normal)
    first, second = drawn[:-1, :, 3].flatten(), drawn[1:, :, 3].flatten()
    assert abs((first * second).mean()) < 0.02


def test_start_draws_are_not_step_draws() -> None:
    noise = EpisodeNoise(2)
    begin(noise, [1, 2])
    start = noise.uniform(2, 3)
    noise.begin_step()
    assert not torch.isclose(start, noise.uniform(2, 3)).any()


def test_rows_that_wait_draw_the_same_again_and_restarts_do_not_touch_the_others() -> None:
    noise, undisturbed = EpisodeNoise(2), EpisodeNoise(2)
    begin(noise, [1, 2])
    begin(undisturbed, [1, 2])
    expected = draw_steps(undisturbed, 2, 6)
    draw_steps(noise, 2, 3)
    noise.begin_step()
    before = noise.uniform(2, 3)
    noise.end_step(np.array([True, False]))
    noise.begin_episodes(np.array([1]), np.array([99], np.uint64))
    noise.begin_step()
    after = noise.uniform(2, 3)
    assert torch.equal(before[0], expected[3, 0, :3])
    assert torch.equal(after[0], expected[4, 0, :3])
    assert not torch.equal(after[1], expected[3, 1, :3])
    waiting = EpisodeNoise(1)
    begin(waiting, [4])
    waiting.begin_step()
    first = waiting.normal(1, 2)
    waiting.end_step(np.array([False]))
    waiting.begin_step()
    assert torch.equal(first, waiting.normal(1, 2))


@pytest.mark.parametrize("steps", [3, BLOCK_STEPS - 1, BLOCK_STEPS + 2])
def test_restore_needs_keys_and_steps_alone(steps: int) -> None:
    noise = EpisodeNoise(2)
    begin(noise, [11, 12])
    draw_steps(noise, 2, steps)
    keys, at = noise.keys.copy(), noise.steps.copy()
    expected = draw_steps(noise, 2, 4)
    other = EpisodeNoise(2)
    other.restore(keys, at)
    assert torch.equal(draw_steps(other, 2, 4), expected)


def test_wrong_number_of_rows_is_refused() -> None:
    noise = EpisodeNoise(2)
    begin(noise, [1, 2])
    noise.begin_step()
    with pytest.raises(ConfigurationError, match="3 rows in a batch of 2"):
        noise.uniform(3, 1)


def test_draws_made_together_are_those_made_one_by_one() -> None:
    rows, keys = 12, list(range(12))
    together = EpisodeNoise(rows)
    begin(together, keys)
    # The draws of a step change in number and size; the other is new at every step and has no plan
    for step, sizes in enumerate([(3, 5), (3, 5), (3, 5, 2), (3, 5, 2), (4,), (4, 5), (4, 5)]):
        together.begin_step()
        drawn = [(together.uniform if place % 2 else together.normal)(rows, n) for place, n in enumerate(sizes)]
        alone = EpisodeNoise(rows)
        alone.restore(np.array(keys, np.uint64), np.full(rows, step))
        alone.begin_step()
        for place, n in enumerate(sizes):
            assert torch.equal((alone.uniform if place % 2 else alone.normal)(rows, n), drawn[place])
        together.end_step()
