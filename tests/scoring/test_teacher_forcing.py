from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from dreamenv.agents import RandomAgent
from dreamenv.scoring.gap import GapOptions, measure_gap
from dreamenv.scoring.teacher_forcing import force_episodes
from dreamenv.types import Episode
from dreamenv.world_model import WorldModel
from tests.fakes import BOX, trained_like_world_model


def small_episodes(model: WorldModel, *lengths: int) -> list[Episode]:
    rng = np.random.default_rng(1)
    return [
        Episode(
            observations=rng.normal(size=(n + 1, model.memory.latent_size)).astype(np.float32),
            actions=rng.uniform(BOX.low, BOX.high, size=(n, 2)).astype(np.float32),
            rewards=np.zeros(n, np.float32),
            terminated=True,
            truncated=False,
            seed=n,
            policy="test",
            real_frames=n,
        )
        for n in lengths
    ]


def test_episodes_of_any_length_are_forced_together_as_alone() -> None:
    model = trained_like_world_model(image=False)
    model.memory.termination_head.weight = 5.0
    episodes = small_episodes(model, 3, 14, 9, 14)
    forced = force_episodes(model, episodes, moments=4, horizons=(1,), seed=0)
    with torch.no_grad():
        for index, played in enumerate(episodes):
            latents, actions = (torch.from_numpy(part)[None] for part in (played.observations, played.actions))
            heads = model.memory.teacher_force(latents, actions)
            np.testing.assert_allclose(forced.rewards[index], heads.reward[0], atol=1e-5)
            wanted = heads.termination_probability[0]
            np.testing.assert_allclose(forced.termination_probability[index], wanted, atol=1e-5)
            for row in np.flatnonzero(forced.moments[:, 0] == index):
                step = forced.moments[row, 1]
                assert torch.equal(forced.state.latent[row], latents[0, step])
                state = model.memory.initial(latents[:, 0], noise=torch.Generator())
                for now in range(step):
                    state, _ = model.memory.observe(
                        state, actions[:, now], latents[:, now + 1], noise=torch.Generator()
                    )
                torch.testing.assert_close(forced.state.hidden[row], state.hidden[0])
    assert sorted(forced.moments[forced.moments[:, 0] == 1, 1].tolist()) == [10, 11, 12, 13]


def test_the_cut_is_the_weighted_heads_own() -> None:
    model = trained_like_world_model(image=False)
    model.memory.termination_head.weight = 5.0
    episodes = small_episodes(model, 12, 12)
    with torch.no_grad():

        def logits() -> Any:
            pairs = [(torch.from_numpy(e.observations)[None], torch.from_numpy(e.actions)[None]) for e in episodes]
            return np.concatenate([model.memory.teacher_force(*pair).termination_logit.numpy() for pair in pairs])

        model.memory.termination_head.network[-1].bias.sub_(float(np.median(logits())))  # half of the steps
        said = logits() > 0
    agent = RandomAgent(model.observation_space(), model.action_space, generator=0)
    gap = measure_gap(model, agent, episodes, GapOptions(horizons=(1,), samples=1, dreams=2))
    assert gap.termination_threshold == pytest.approx(1 / 6)
    assert 0 < said.sum() < said.size
    assert gap.termination_precision == pytest.approx(said[:, -1].sum() / said.sum())
    assert gap.termination_recall == pytest.approx(said[:, -1].mean())
