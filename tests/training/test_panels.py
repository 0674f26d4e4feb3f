"""Pictures of what V and M have learned, beside what was real."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from dreamenv.bundle import StartStates
from dreamenv.errors import ConfigurationError
from dreamenv.memory.base import MemoryModel
from dreamenv.memory.mdn_rnn.model import MDNRNN
from dreamenv.training.panels import open_loop, open_loop_panel, picture_sheet, reconstruct, seen_latents
from dreamenv.types import RealEnvSpec
from dreamenv.vision.base import Vision
from dreamenv.vision.identity import IdentityVision
from dreamenv.vision.vae import ConvVAE
from dreamenv.world_model import WorldModel
from tests.fakes import DISCRETE, CountingMemory, FakeState, draw_weights
from tests.training.synthetic import squares


def small_vae() -> ConvVAE:
    vision = ConvVAE(4, 4)
    draw_weights(vision, torch.Generator().manual_seed(1))
    return vision


def plain(value: int) -> np.ndarray:
    return np.full((2, 3, 3), value, np.uint8)


def test_pictures_are_tiled_on_white() -> None:
    sheet = picture_sheet([[plain(1), plain(2)], [plain(3)]], scale=2, gap=1)
    assert sheet.shape == (1 + 2 * (4 + 1), 1 + 2 * (6 + 1), 3)
    assert sheet[1:5, 1:7].tolist() == np.full((4, 6, 3), 1).tolist()
    assert (sheet[1:5, 8:14] == 2).all()
    assert (sheet[6:10, 1:7] == 3).all()
    assert (sheet[6:10, 8:14] == 255).all()
    assert (sheet[[0, 5, 10]] == 255).all()
    assert (sheet[:, [0, 7, 14]] == 255).all()


def model_of(vision: Vision, memory: MemoryModel[Any], actions: gym.Space[Any] = DISCRETE) -> WorldModel:
    starts = StartStates(torch.zeros(0, vision.embedding_size))
    return WorldModel(vision, memory, RealEnvSpec("Own-v0"), actions, starts, max_episode_steps=9)


def test_reconstructions_are_what_v_decodes_of_what_it_encodes() -> None:
    vision, frames = small_vae(), np.asarray(squares(1, 2).observations)
    memory = MDNRNN(4, spaces.Discrete(2), hidden_size=4, mixtures=2)
    with torch.no_grad():
        expected = vision.decode_uint8(vision.encode(torch.from_numpy(frames))).numpy()
    assert np.array_equal(reconstruct(model_of(vision, memory), frames), expected)


def test_the_memory_holds_what_it_has_seen() -> None:
    """`latent` is M's, not V's: here it is twice what V encodes, less what the actions have brought."""

    class Doubling(CountingMemory):
        def latent(self, state: FakeState) -> torch.Tensor:
            return 2 * state.latent - state.drawn

        def observe(self, state: FakeState, action: torch.Tensor, embedding: torch.Tensor, *, noise: Any) -> Any:
            following, prediction = super().observe(state, action, embedding, noise=noise)
            return following._replace(drawn=state.drawn + action.unsqueeze(1)), prediction

    observations = np.stack([np.full(3, 10.0 * t, np.float32) for t in range(4)])
    model = model_of(IdentityVision(3), Doubling(3))
    found = seen_latents(model, observations, np.array([1, 2, 3]), noise=torch.Generator())
    assert found[:, 0].tolist() == [0, 20 - 1, 40 - 3, 60 - 6]


def test_an_open_loop_dream_follows_the_real_actions() -> None:
    """The fake memory adds each action to the latent, so every dreamed latent is known."""
    observations = np.stack([np.full(3, 10.0 * t, np.float32) for t in range(9)])
    actions = np.array([1, 2, 3, 4, 1, 2, 3, 4])
    for context in (0, 3):
        found = open_loop(
            model_of(IdentityVision(3), CountingMemory(3)), observations, actions, context=context, horizon=4,
            noise=torch.Generator(), samples=2,
        )  # fmt: skip
        assert found.shape == (2, 4, 3)
        expected = 10.0 * context + np.cumsum(actions[context : context + 4])
        assert found[..., 0].tolist() == [expected.tolist()] * 2


def test_samples_are_independent_and_the_noise_decides() -> None:
    memory = MDNRNN(3, DISCRETE, hidden_size=4, mixtures=2)
    observations = np.zeros((6, 3), np.float32)

    def dream(seed: int) -> torch.Tensor:
        return open_loop(
            model_of(IdentityVision(3), memory), observations, np.ones(5, np.int64), context=1, horizon=3,
            noise=torch.Generator().manual_seed(seed), samples=2,
        )  # fmt: skip

    assert torch.equal(dream(1), dream(1))
    assert not torch.equal(dream(1), dream(2))
    assert not torch.equal(dream(1)[0], dream(1)[1])


@pytest.mark.parametrize(("context", "horizon"), [(3, 3), (-1, 2), (0, 0)])
def test_a_dream_beyond_the_episode_is_refused(context: int, horizon: int) -> None:
    with pytest.raises(ConfigurationError, match="do not fit into an episode of 5 actions"):
        open_loop(
            model_of(IdentityVision(3), CountingMemory(3)), np.zeros((6, 3), np.float32), np.ones(5, np.int64),
            noise=torch.Generator(), context=context, horizon=horizon,
        )  # fmt: skip


def test_the_panel_shows_what_really_followed() -> None:
    cache, vision = squares(2, 11), small_vae()
    memory = MDNRNN(4, spaces.Discrete(2), hidden_size=4, mixtures=2)
    model = model_of(vision, memory, spaces.Discrete(2))
    sheet = open_loop_panel(model, cache, 1, context=4, horizons=(1, 3, 7), samples=3)
    side = 64 * 2 + 2
    assert sheet.shape == (2 + 5 * side, 2 + 4 * side, 3)
    episode = np.asarray(cache.observations[12:])
    for column, moment in enumerate((4, 5, 7, 11)):
        shown = sheet[2 : 2 + 128 : 2, 2 + column * side : 2 + column * side + 128 : 2]
        assert np.array_equal(shown, episode[moment])
        seen = sheet[2 + side : 2 + side + 128 : 2, 2 + column * side : 2 + column * side + 128 : 2]
        assert np.abs(seen.astype(int) - reconstruct(model, episode[[moment]])[0]).max() <= 1
    assert np.array_equal(sheet, open_loop_panel(model, cache, 1, context=4, horizons=(1, 3, 7), samples=3))
