"""Fitting M: the windows it is given, the units it works in, and what it learns of a known process."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from dreamenv.errors import ConfigurationError
from dreamenv.memory.mdn_rnn.model import MDNRNN
from dreamenv.noise.base import seeded_weights
from dreamenv.training.explained import explained
from dreamenv.training.recipes.fit_mdn_rnn import FitMemoryOptions, fit_memory, set_latent_scale
from dreamenv.training.sequences import LatentEpisodes, SequenceSampler, encode_episodes
from dreamenv.vision.identity import IdentityVision
from dreamenv.vision.vae import ConvVAE
from tests.fakes import draw_weights
from tests.training.synthetic import counted, exact, rotation, squares

BOX = spaces.Box(-1, 1, (1,), np.float32)


class Stop(Exception):
    """Stands for a kill."""


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def new_memory(**options: Any) -> MDNRNN:
    with seeded_weights(0):
        return MDNRNN(2, BOX, **({"hidden_size": 16, "mixtures": 2} | options))


def sampler(
    lengths: list[int], episodes: list[int], *, length: int = 4, burn_in: int = 1, **ends: Any
) -> SequenceSampler:
    cache = counted(lengths, **ends)
    return SequenceSampler(
        cache, exact(cache), np.array(episodes), length=length, burn_in=burn_in, latents_as="mean"
    )  # fmt: skip


def test_a_window_is_the_rows_of_its_episode() -> None:
    # episode 1 has 6 steps; the windows of its steps 0 to 5 begin at 0, 1, 2, 2, 2, 2
    windows = sampler([3, 6], [1], terminated=[False, True], final_valid=[True, False])
    assert len(windows) == 6
    found = windows.windows(np.array([0, 1, 2, 5]), seeded())
    assert found.latents[..., 0].tolist() == [
        [100, 101, 102, 103, 104], [101, 102, 103, 104, 105], [102, 103, 104, 105, 106], [102, 103, 104, 105, 106],
    ]  # fmt: skip
    assert torch.equal(found.latents[..., 1], 100 - found.latents[..., 0])
    assert found.actions.tolist() == [[10, 11, 12, 13], [11, 12, 13, 14], [12, 13, 14, 15], [12, 13, 14, 15]]
    assert found.rewards[:, 0].tolist() == [1000, 1001, 1002, 1002]
    assert found.rewards[0].tolist() == [1000, 1001, 1002, 1003]
    # the first window begins where the episode does: nothing need be burned in
    assert found.mask.tolist() == [[1, 1, 1, 1], [0, 1, 1, 1], [0, 1, 1, 1], [0, 1, 1, 1]]
    # the end is told at the last step, whose next observation was never really seen
    assert found.terminated.tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 1]]
    assert found.latent_mask.tolist() == [[1, 1, 1, 1], [0, 1, 1, 1], [0, 1, 1, 0], [0, 1, 1, 0]]
    assert {part.dtype for part in vars(found).values()} == {torch.float32, torch.int64}


def test_a_short_episode_is_padded_and_the_padding_does_not_count() -> None:
    windows = sampler([2, 6], [0], length=4, burn_in=2, terminated=[True, False])
    for which in (0, 1):
        found = windows.windows(np.array([which]), seeded())
        assert found.latents[0, :, 0].tolist() == [0, 1, 2, 2, 2]
        assert found.actions[0].tolist() == [0, 1, 1, 1]
        assert found.mask[0].tolist() == found.latent_mask[0].tolist() == [1, 1, 0, 0]
        assert found.terminated[0].tolist() == [0, 1, 0, 0]


def test_a_truncation_is_no_end_and_its_observation_was_seen() -> None:
    found = sampler([4], [0], terminated=[False]).windows(np.array([0]), seeded())
    assert not found.terminated.any()
    assert found.latent_mask[0].tolist() == [1, 1, 1, 1]


def test_every_step_is_drawn_as_often() -> None:
    windows = sampler([3, 9, 5], [0, 2], length=2, burn_in=0)
    assert len(windows) == 8
    found = windows.draw(16_000, np.random.default_rng(0), seeded())
    starts, counts = found.latents[:, 0, 0].unique(return_counts=True)
    assert starts.tolist() == [0, 1, 200, 201, 202, 203]  # none of episode 1
    # moved back from the last step, a window begins one step earlier
    np.testing.assert_allclose(counts.numpy() / 2000, [1, 2, 1, 1, 1, 2], rtol=0.1)


def test_latents_are_means_or_drawn_anew_or_to_be_denoised() -> None:
    cache = counted([50, 50])
    latents = exact(cache, std=0.5)
    mean, sample, denoise = (
        SequenceSampler(cache, latents, np.array([0]), length=40, burn_in=0, latents_as=kind)
        for kind in ("mean", "sample", "denoise")
    )
    which = np.zeros(64, np.int64)
    plain = mean.windows(which, seeded()).latents
    assert torch.equal(plain[0, :, 0], torch.arange(41.0))
    assert torch.equal(mean.windows(which, seeded()).targets, plain[:, 1:])
    for sampler_of_noise in (sample, denoise):
        found = sampler_of_noise.windows(which, seeded(1))
        noise = found.latents - plain
        assert noise.std().item() == pytest.approx(0.5, rel=0.05)
        assert noise.mean().item() == pytest.approx(0, abs=0.03)
        again, other = (sampler_of_noise.windows(which, seeded(seed)) for seed in (1, 2))
        assert torch.equal(again.latents, found.latents)
        assert torch.equal(again.targets, found.targets)
        assert not torch.equal(other.latents, found.latents)
        if sampler_of_noise is sample:
            assert torch.equal(found.targets, found.latents[:, 1:])
            continue
        left = found.targets - plain[:, 1:]
        assert left.std().item() == pytest.approx(0.25 * 0.5, rel=0.05)
        # of its own: else M could read it off what it is given next
        assert abs(torch.corrcoef(torch.stack([left.flatten(), noise[:, 1:].flatten()]))[0, 1]) < 0.05


@pytest.mark.parametrize("options", [{"latents_as": "means"}, {"length": 1}, {"burn_in": 4}, {"burn_in": -1}])
def test_samplers_out_of_range_are_refused(options: dict[str, Any]) -> None:
    cache = counted([5, 5])
    kept: dict[str, Any] = {"length": 4, "burn_in": 1, "latents_as": "mean"} | options
    with pytest.raises(ConfigurationError):
        SequenceSampler(cache, exact(cache), np.array([0]), **kept)


def test_every_observation_is_encoded_in_its_row() -> None:
    cache = squares(2, 4)
    vision = ConvVAE(3, 4)
    draw_weights(vision, seeded(1))
    rows: list[tuple[int, int]] = []
    found = encode_episodes(vision, cache, batch_size=4, progress=lambda row, count: rows.append((row, count)))
    mean, std = vision.posterior(torch.from_numpy(np.asarray(cache.observations)))
    np.testing.assert_allclose(found.mean, mean.detach().numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.std, std.detach().numpy(), rtol=1e-4, atol=1e-5)
    assert rows == [(4, 10), (8, 10), (10, 10)]
    vectors = counted([3, 2])
    assert np.array_equal(encode_episodes(IdentityVision(2), vectors).mean, vectors.observations)


def test_the_scale_of_dead_dimensions_is_floored() -> None:
    rng = np.random.default_rng(0)
    mean = (rng.normal(size=(5000, 4)) * [2.0, 0.5, 0.01, 0.0] + [1, 2, 3, 4]).astype(np.float32)
    std = np.broadcast_to(np.array([0.1, 0.3, 1.0, 1.0], np.float32), mean.shape)
    memory = MDNRNN(4, BOX, hidden_size=4, mixtures=1)
    assert set_latent_scale(memory, LatentEpisodes(mean, std), sample=False) == 2
    np.testing.assert_allclose(memory.latent_mean, mean.mean(0), rtol=1e-5)
    np.testing.assert_allclose(memory.latent_std, [2.0, 0.5, 0.2, 0.2], rtol=0.05)
    # what is sampled varies by its noise too
    assert set_latent_scale(memory, LatentEpisodes(mean, std), sample=True) == 2
    np.testing.assert_allclose(memory.latent_std, [2.0, (0.25 + 0.09) ** 0.5, 1.0, 1.0], rtol=0.05)


def test_exact_latents_keep_their_own_scale() -> None:
    """A velocity of some thousandths beside a position of some hundreds is no dead dimension."""
    rng = np.random.default_rng(0)
    mean = (rng.normal(size=(5000, 3)) * [300.0, 0.002, 0.0] + [0, 0, 7]).astype(np.float32)
    memory = MDNRNN(3, BOX, hidden_size=4, mixtures=1)
    set_latent_scale(memory, LatentEpisodes(mean, np.zeros_like(mean)), sample=False)
    np.testing.assert_allclose(memory.latent_std, [300.0, 0.002, 1.0], rtol=0.05)
    assert memory.normalise(torch.from_numpy(mean)).abs().max() < 6


def test_the_mean_of_very_many_rows_is_exact() -> None:
    mean = np.full((300_000, 1), 1000.1, np.float32)
    mean[::2] += 0.5
    memory = MDNRNN(1, BOX, hidden_size=4, mixtures=1)
    set_latent_scale(memory, LatentEpisodes(mean, np.zeros_like(mean)), sample=False)
    assert memory.latent_mean.item() == pytest.approx(1000.35, abs=1e-3)
    assert memory.latent_std.item() == pytest.approx(0.25, rel=1e-2)


@pytest.mark.parametrize("latents_as", ["mean", "sample", "denoise"])
def test_a_known_process_is_learned(tmp_path: Path, latents_as: str) -> None:
    """Clearly better than to say that nothing changes, and the reward and the ends along with it."""
    cache = rotation(60)
    latents = exact(cache, std=0.0 if latents_as == "mean" else 0.01)
    memory = new_memory(hidden_size=32)
    found = fit_memory(
        memory, cache, latents, tmp_path, FitMemoryOptions(
            steps=200, validate_every=100, sequence_length=20, burn_in=2, learning_rate=1e-2, latents_as=latents_as,
            precision="float32",
        ),
    )  # fmt: skip
    assert found.best["reward_r2"] > 0.8
    assert found.best["window_return_r2"] > 0.8
    errors, no_change, chances, ends = [], [], [], []
    for episode in (19, 39, 59):
        first, step, length = cache.first[episode], cache.first_step[episode], cache.lengths[episode]
        real = torch.from_numpy(np.asarray(cache.observations[first : first + length + 1]))
        moves = torch.from_numpy(cache.actions[step : step + length])
        state = memory.initial(real[:1], noise=seeded())
        with torch.no_grad():
            for t in range(length):
                dreamed, prediction = memory.imagine(state, moves[t : t + 1], noise=seeded(t))
                state, _ = memory.observe(state, moves[t : t + 1], real[t + 1 : t + 2], noise=seeded())
                errors.append((dreamed.latent[0] - real[t + 1]).square().mean())
                no_change.append((real[t] - real[t + 1]).square().mean())
                chances.append(prediction.termination_probability[0])
                ends.append(bool(cache.terminated[episode]) and t == length - 1)
    assert torch.stack(errors).mean() < 0.1 * torch.stack(no_change).mean()
    ended = torch.tensor(ends)
    assert ended.any()
    assert torch.stack(chances)[ended].mean() > 10 * torch.stack(chances)[~ended].mean()


def test_an_interrupted_fit_ends_bit_for_bit_as_an_unbroken_one(tmp_path: Path) -> None:
    cache = rotation()
    latents = exact(cache, std=0.05)
    options = FitMemoryOptions(
        steps=12, validate_every=4, batch_size=4, sequence_length=10, burn_in=2, latents_as="sample",
        own_inputs=0.5, precision="float32",
    )  # fmt: skip

    def stop(step: int, steps: int, scalars: dict[str, float]) -> None:
        raise Stop

    whole, last = new_memory(dropout=0.3), new_memory(dropout=0.3)
    expected = fit_memory(whole, cache, latents, tmp_path / "whole", options)
    for _ in range(2):
        with pytest.raises(Stop):
            fit_memory(new_memory(dropout=0.3), cache, latents, tmp_path / "broken", options, progress=stop)
    assert fit_memory(last, cache, latents, tmp_path / "broken", options) == expected
    for name, part in whole.state_dict().items():
        assert torch.equal(last.state_dict()[name], part), name
    forced = dataclasses.replace(options, own_inputs=0.0)
    with pytest.raises(ConfigurationError, match="own_inputs"):
        fit_memory(new_memory(dropout=0.3), cache, latents, tmp_path / "broken", forced)
    without = fit_memory(new_memory(dropout=0.3), cache, latents, tmp_path / "forced", forced)
    assert without.best["loss"] != expected.best["loss"]


def test_held_out_episodes_do_not_train(tmp_path: Path) -> None:
    """What is changed in a held-out episode changes the held-out loss and no weight."""
    cache = rotation(5)
    first = cache.first_step[0]
    rewards = cache.rewards.copy()
    rewards[first : first + cache.lengths[0]] += 3.0
    found, weights = [], []
    for number, other in enumerate((cache, dataclasses.replace(cache, rewards=rewards))):
        memory = new_memory()
        fitted = fit_memory(
            memory, other, exact(cache), tmp_path / str(number), FitMemoryOptions(
                steps=3, validate_every=3, sequence_length=10, burn_in=0, precision="float32",
            ),
        )  # fmt: skip
        found.append(fitted.best["loss"])
        weights.append(memory.lstm.weight_ih_l0.detach())
    assert found[1] != found[0]
    assert torch.equal(*weights)


def test_rewards_that_the_head_cannot_say_are_refused(tmp_path: Path) -> None:
    cache = rotation(3)
    cache = dataclasses.replace(cache, rewards=cache.rewards - 1000)
    with pytest.raises(ConfigurationError, match="Use reward_head='mse'"):
        fit_memory(new_memory(), cache, exact(cache), tmp_path, FitMemoryOptions(steps=1))


def test_explained_variance() -> None:
    real = torch.tensor([0.0, 1.0, 2.0, 3.0])
    assert explained(real, real) == 1
    assert explained(real, real.mean().expand(4)) == pytest.approx(0)
    assert explained(real, -real) < 0
    # every reward of CartPole is 1: there is nothing to explain
    assert explained(torch.ones(4), torch.full((4,), 1.001)) == 0
