from __future__ import annotations

import pytest
import torch

from dreamenv.errors import ConfigurationError
from dreamenv.noise.base import GeneratorNoise
from dreamenv.planners import CommonNoise, RowNoise


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.mark.parametrize("kind", ["uniform", "normal"])
def test_each_row_draws_from_its_own_generator(kind: str) -> None:
    together, alone = RowNoise(seeded(1, 2)), [RowNoise(seeded(1)), RowNoise(seeded(2))]
    for rows, columns in ((2, 3), (6, 1), (2, 5)):
        drawn = getattr(together, kind)(rows, columns)
        apart = [getattr(one, kind)(rows // 2, columns) for one in alone]
        assert torch.equal(drawn, torch.cat(apart))
    assert drawn[0].tolist() != drawn[1].tolist()


def test_a_fork_leaves_the_stream_where_it_is() -> None:
    one, other = RowNoise(seeded(1, 2)), RowNoise(seeded(1, 2))
    branch, same = one.fork(), other.fork()
    assert torch.equal(branch.normal(4, 3), same.normal(4, 3))
    same.normal(200, 3)
    assert torch.equal(one.normal(2, 3), other.normal(2, 3))
    assert not torch.equal(one.fork().normal(2, 3), branch.normal(2, 3))


def test_a_draw_divides_among_the_generators() -> None:
    with pytest.raises(ConfigurationError, match="5 rows does not divide among 2 generators"):
        RowNoise(seeded(1, 2)).uniform(5, 1)
    with pytest.raises(ConfigurationError, match="got no generators"):
        RowNoise([])


@pytest.mark.parametrize("kind", ["uniform", "normal"])
def test_common_noise_is_the_same_for_all_candidates_of_a_row(kind: str) -> None:
    noise = CommonNoise(GeneratorNoise(torch.Generator().manual_seed(0)), 2, 3)
    drawn = getattr(noise, kind)(2 * 3 * 4, 5).view(2, 3, 4, 5)
    assert torch.equal(drawn[:, :1].expand_as(drawn), drawn)
    flat = drawn[:, 0].flatten()
    assert len(flat.unique()) == len(flat)
