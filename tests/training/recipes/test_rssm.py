"""The RSSM's recipe: it learns, continues where it was killed, and its bundle is an environment like any other."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

import dreamenv
from dreamenv.agents import evolve
from dreamenv.agents.options import EvolutionOptions
from dreamenv.data.collect import collect
from dreamenv.envs import DreamEnv, DreamVectorEnv
from dreamenv.errors import ConfigurationError
from dreamenv.memory.rssm.model import RSSM
from dreamenv.options import options_from
from dreamenv.scoring import evaluate
from dreamenv.scoring.gap import GapOptions
from dreamenv.testing import check_memory, check_vision
from dreamenv.testing.fakes import draw_weights
from dreamenv.training.pipeline import TrainOptions, train
from dreamenv.training.recipes.base import Fitted, Job
from dreamenv.training.recipes.joint import LossOptions, RSSMOptions, new_joint_model
from dreamenv.training.recipes.rssm import RSSMRecipe
from dreamenv.training.replay import Replay
from dreamenv.types import RealEnvSpec
from dreamenv.vision.stacked import StackedVision
from dreamenv.world_model import WorldModel
from tests.training.synthetic import rotation, squares

MOVE = spaces.Box(-1.0, 1.0, (1,), np.float32)
SMALL: dict[str, Any] = {
    "network": {"depth": 2, "width": 32},
    "memory": {"hidden_size": 32, "groups": 4, "classes": 4, "width": 32},
    "fit": {"steps": 6, "validate_every": 3, "batch_size": 4, "sequence_length": 8, "precision": "float32"},
}


def options(mirror: tuple[float, ...] | None = None, **sections: Any) -> RSSMOptions:
    merged = {name: SMALL.get(name, {}) | sections.get(name, {}) for name in {*SMALL, *sections}}
    return options_from(RSSMOptions, merged | {"mirror": mirror})


def job(cache: Any, folder: Path, wanted: RSSMOptions, **extra: Any) -> Job[RSSMOptions]:
    space = spaces.Discrete(2) if cache.actions.dtype.kind == "i" else MOVE
    return Job(wanted, cache, RealEnvSpec("Pendulum-v1"), space, folder, seed=1, **extra)


@pytest.mark.slow
@pytest.mark.parametrize("latents", ["categorical", "gaussian"])
def test_it_learns_what_moves_and_what_pays(latents: str, tmp_path: Path) -> None:
    """A damped rotation that the action pushes: rewards are foreseen, and dreams under the real actions stay close."""
    cache = rotation(episodes=40, steps=40)
    wanted = options(
        memory={"hidden_size": 64, "latents": latents, "gaussian_size": 8},
        fit={"steps": 240, "validate_every": 120, "batch_size": 16, "sequence_length": 16, "learning_rate": 4e-3},
    )
    told: list[dict[str, float]] = []
    fitted = RSSMRecipe().fit(job(cache, tmp_path, wanted, progress=lambda *_: told.append(_[3])))
    assert fitted.held_out["reward_r2"] > 0.8
    assert told[-1]["held_out/reconstruction"] < 0.5 * told[0]["train/reconstruction"]
    memory, vision = fitted.memory, fitted.vision
    assert vision.config()["standardised"], "else it hardly sees how large an observation is"
    check_memory(memory, MOVE)
    check_vision(vision, torch.from_numpy(cache.observations[:4]))
    held_out = cache.first[20]  # every twentieth episode is held out
    real = torch.from_numpy(cache.observations[held_out : held_out + 12])
    actions = torch.from_numpy(cache.actions[cache.first_step[20] : cache.first_step[20] + 11])
    rows, noise = 256, torch.Generator().manual_seed(0)
    with torch.no_grad():
        seen = vision.encode(real)
        state = memory.initial(seen[:1].expand(rows, -1), noise=noise)
        for step in range(5):
            action, embedding = actions[step].expand(rows, -1), seen[step + 1 : step + 2].expand(rows, -1)
            state, _ = memory.observe(state, action, embedding, noise=noise)
        for step in range(5, 10):
            state, _ = memory.imagine(state, actions[step].expand(rows, -1), noise=noise)
        dreamed = vision.decode(memory.latent(state)).mean(0)
    # Five dreamed steps turn the vector by 2 rad: what stands still is far off
    still = (real[5] - real[10]).norm()
    assert (dreamed - real[10]).norm() < 0.5 * still


def test_a_killed_fit_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    cache = rotation(episodes=4, steps=12)

    class Killed(Exception):
        pass

    def kill(stage: str, step: int, steps: int, scalars: dict[str, float]) -> None:
        raise Killed

    whole = RSSMRecipe().fit(job(cache, tmp_path / "whole", options()))
    with pytest.raises(Killed):
        RSSMRecipe().fit(job(cache, tmp_path / "killed", options(), progress=kill))
    resumed = RSSMRecipe().fit(job(cache, tmp_path / "killed", options()))
    for part in ("vision", "memory"):
        ours, other = (getattr(found, part).state_dict() for found in (whole, resumed))
        assert all(torch.equal(ours[name], other[name]) for name in ours)
    assert whole.held_out == resumed.held_out
    with pytest.raises(ConfigurationError, match="loss"):
        RSSMRecipe().fit(job(cache, tmp_path / "killed", options(loss={"free_nats": 0.5})))


def test_a_later_fit_begins_with_the_model_before(tmp_path: Path) -> None:
    cache = rotation(episodes=4, steps=12)
    first = RSSMRecipe().fit(job(cache, tmp_path / "first", options()))
    before = job(cache, tmp_path, options()).world_model(first.vision, first.memory)
    wanted = dataclasses.replace(options(), refit_steps=1)
    later: Fitted = RSSMRecipe().fit(job(cache, tmp_path / "later", RSSMRecipe().refit(wanted), begin=before))
    assert RSSMRecipe().refit(wanted, replayed=1000).fit.steps == 32, "of 4 windows of 8 moments"
    moved = [
        float((part - first.memory.state_dict()[name]).abs().max()) for name, part in later.memory.state_dict().items()
        if part.is_floating_point() and name != "latent_std"
    ]  # fmt: skip
    assert 0 < max(moved) < 2e-3, "one step of Adam from where the other ended"
    with pytest.raises(ConfigurationError, match="does not have the sizes"):
        RSSMRecipe().fit(job(cache, tmp_path / "wider", options(memory={"hidden_size": 40}), begin=before))


def test_pictures(tmp_path: Path) -> None:
    cache = squares()
    wanted = options(fit={"sequence_length": 6})
    fitted = RSSMRecipe().fit(job(cache, tmp_path, wanted))
    check_vision(fitted.vision, torch.from_numpy(cache.observations[:3]))
    assert fitted.vision.embedding_size == 4 * 4 * 8 * 2
    assert fitted.vision.latent_size == fitted.memory.latent_size == 32 + 16
    model = job(cache, tmp_path, wanted).world_model(fitted.vision, fitted.memory)
    assert model.observation_space("pixels").shape == (64, 64, 3)


FROZEN: dict[str, Any] = {
    "network": {"depth": 2, "width": 32, "frozen": True},
    "vision": {"latent_size": 6, "channels": 2},
    "fit_vision": {"steps": 2, "batch_size": 4, "validate_every": 1, "precision": "float32"},
}


def test_over_a_frozen_vision_nothing_is_convolved_again(tmp_path: Path) -> None:
    cache = squares()
    wanted = options(**FROZEN, fit={"sequence_length": 6})
    stages: list[str] = []
    fitted = RSSMRecipe().fit(job(cache, tmp_path, wanted, progress=lambda *told: stages.append(told[0])))
    assert list(dict.fromkeys(stages)) == ["vision", "model"]
    vision = fitted.vision
    assert isinstance(vision, StackedVision)
    assert vision.outer.config()["standardised"]
    check_vision(vision, torch.from_numpy(cache.observations[:3]))
    seen = torch.from_numpy(cache.observations[:5])
    with torch.no_grad():
        torch.testing.assert_close(vision.encode(seen), vision.outer.encode(vision.inner.encode(seen)))
    model = job(cache, tmp_path, wanted).world_model(vision, fitted.memory)
    model.save(tmp_path / "bundle", half=False)
    again = WorldModel.load(tmp_path / "bundle")
    np.testing.assert_array_equal(again.encode(cache.observations[:4]), model.encode(cache.observations[:4]))
    again_wanted = RSSMRecipe().refit(dataclasses.replace(wanted, refit_steps=2))
    later = RSSMRecipe().fit(job(cache, tmp_path / "later", again_wanted, begin=model))
    kept = {name: part for name, part in later.vision.state_dict().items() if name.startswith("inner.")}
    assert all(torch.equal(part, vision.state_dict()[name]) for name, part in kept.items())
    assert not torch.equal(later.vision.state_dict()["outer.decoder.2.bias"], vision.outer.decoder[2].bias)
    with pytest.raises(ConfigurationError, match="are for pictures"):
        RSSMRecipe().fit(job(rotation(episodes=3, steps=8), tmp_path / "vectors", wanted))
    # The RSSM knows of which V it is
    shutil.rmtree(tmp_path / "vision")
    other = dataclasses.replace(wanted, fit_vision=dataclasses.replace(wanted.fit_vision, learning_rate=0.5))
    with pytest.raises(ConfigurationError, match="frozen"):
        RSSMRecipe().fit(job(cache, tmp_path, other))


@pytest.mark.parametrize("frozen", [False, True])
def test_learning_on_continues_where_it_was_left(frozen: bool, tmp_path: Path) -> None:
    """Also when more episodes have come in; an update depends on weights, episodes and its number alone."""
    wanted = options(**(FROZEN if frozen else {}), fit={"sequence_length": 6, "batch_size": 2})
    few, more = squares(episodes=3), squares(episodes=4)
    whole = RSSMRecipe().continual(job(few, tmp_path, wanted))
    first, (states, _) = whole.update(0)
    assert len(states.hidden) == 2 * 6
    assert not states.hidden.requires_grad
    kept = {name: part.clone() for name, part in whole.tensors().items()}
    whole.take(more)
    again = RSSMRecipe().continual(job(more, tmp_path / "again", wanted), kept)
    (ours, our), (theirs, their) = whole.update(1), again.update(1)
    assert ours == theirs != first
    assert our.windows is not None
    assert their.windows is not None
    pairs = zip((*our.states, *our.windows), (*their.states, *their.windows), strict=True)
    assert all(torch.equal(mine, other) for mine, other in pairs)
    assert not (tmp_path / "again" / "vision").exists(), "a frozen V is not fitted again"
    assert whole.measure(few).keys() >= {"loss", "reward_r2"}
    rows = np.array([0, 9, len(more.observations) - 1])
    encoded = whole.vision.encode(torch.from_numpy(more.observations[rows]))
    torch.testing.assert_close(whole.embed(more)(rows), encoded.detach(), atol=1e-5, rtol=1e-4)


def test_an_ends_moment_begins_no_dream(tmp_path: Path) -> None:
    cache = dataclasses.replace(rotation(episodes=2, steps=6), terminated=np.array([True, True]))
    fit = RSSMRecipe().continual(job(cache, tmp_path, options(fit={"sequence_length": 14, "batch_size": 1})))
    moments = int(cache.lengths.sum()) + 2
    _, replayed = fit.update(0)
    assert len(replayed.states.hidden) == moments - 2
    assert replayed.windows is not None
    assert replayed.windows.features.shape[:2] == (1, 14)
    assert replayed.windows.terminated.sum() == 2


def test_a_missing_last_frame_tells_nothing_about_the_end(tmp_path: Path) -> None:
    cache = dataclasses.replace(
        rotation(episodes=2, steps=6), terminated=np.array([True, True]), final_valid=np.array([False, True])
    )
    model = new_joint_model(job(cache, tmp_path, options(memory={"latents": "gaussian"})), cache)
    draw_weights(model, torch.Generator().manual_seed(1))  # new heads say the same of everything
    changed = np.array(cache.observations)
    changed[6] += 5.0
    losses = []
    for observations in (cache.observations, changed):
        batch = Replay(dataclasses.replace(cache, observations=observations), np.arange(2), length=14).windows(
            np.array([0])
        )
        losses.append(model.loss(batch, LossOptions(), torch.Generator().manual_seed(0)))
    for name, value in losses[0].items():
        torch.testing.assert_close(losses[1][name], value)


def test_the_reward_heads_range_follows_the_data(tmp_path: Path) -> None:
    cache = rotation(episodes=3, steps=8)
    large = dataclasses.replace(cache, rewards=cache.rewards * 1000)
    fitted = RSSMRecipe().fit(job(large, tmp_path / "large", options(fit={"sequence_length": 6})))
    assert fitted.memory.config()["reward_bound"] >= float(np.abs(large.rewards).max())
    with pytest.raises(ConfigurationError, match="two_hot' reaches 150"):
        RSSMRecipe().fit(job(large, tmp_path / "fixed", options(memory={"reward_bound": 150.0})))


def test_a_head_of_a_wider_range_begins_with_what_it_knew(tmp_path: Path) -> None:
    cache = rotation(episodes=3, steps=8)
    wanted = options(fit={"sequence_length": 6})
    made = job(cache, tmp_path, wanted)
    before = made.world_model(*dataclasses.astuple(RSSMRecipe().fit(made))[:2])
    draw_weights(before.memory.reward_head, torch.Generator().manual_seed(0))
    large = dataclasses.replace(cache, rewards=cache.rewards * 1000)
    later = new_joint_model(job(large, tmp_path, wanted, begin=before), large)
    assert later.memory.reward_head.bound > before.memory.reward_head.bound
    features = torch.randn(50, before.memory.feature_size, generator=torch.Generator().manual_seed(1))
    known, begun = before.memory.reward_head(features), later.memory.reward_head(features)
    before.memory.reward_head.values.copy_(later.memory.reward_head.values)
    stretched = before.memory.reward_head(features)
    assert float((begun - known).abs().mean()) < 0.1 * float((stretched - known).abs().mean())


def test_larger_rewards_than_ever_do_not_stop_a_loop_for_good(tmp_path: Path) -> None:
    cache = rotation(episodes=3, steps=8)
    large = dataclasses.replace(cache, rewards=cache.rewards * 1000)
    wanted = options(fit={"sequence_length": 6})
    learner = RSSMRecipe().continual(job(cache, tmp_path, wanted))
    with pytest.warns(UserWarning, match="reward_head='two_hot' reaches 150.*This run goes on"):
        learner.take(large)
    learner.update(0)
    with pytest.warns(UserWarning, match="reaches 150.*This run goes on"):
        again = RSSMRecipe().continual(job(large, tmp_path, wanted), learner.tensors())
    assert again.memory.config() == learner.memory.config()
    with pytest.raises(ConfigurationError, match="two_hot' reaches 150"):
        RSSMRecipe().continual(job(large, tmp_path, options(memory={"reward_bound": 150.0})))


@pytest.mark.integration
def test_its_bundle_is_an_environment_that_agents_learn_in(tmp_path: Path) -> None:
    real = RealEnvSpec("Pendulum-v1", max_episode_steps=30)
    collect(real, tmp_path / "episodes", episodes=4, workers=0)
    train(real, tmp_path, TrainOptions(recipe="rssm", options=SMALL, replay_starts=6), tensorboard=False)
    model = WorldModel.load(tmp_path / "bundle")
    assert model.memory.config()["kind"] == "rssm"
    assert len(model.starts.replay["hidden"]) == 6
    assert set(model.starts.replay) == {"hidden", "stochastic"}
    envs = DreamVectorEnv(model, 3, max_episode_steps=5, autoreset_mode=gym.vector.AutoresetMode.SAME_STEP)
    envs.reset(seed=0)
    for _ in range(7):
        observations, *_, infos = envs.step(envs.action_space.sample())
        assert np.isfinite(observations).all()
    kept = envs.get_state()
    action = envs.action_space.sample()
    first = envs.step(action)
    envs.set_state(kept)
    for ours, again in zip(first[:4], envs.step(action)[:4], strict=True):
        np.testing.assert_array_equal(ours, again)
    assert "predicted_reward" in infos
    still = DreamEnv(model, temperature=0.0, start="replay")
    rewards = []
    for _ in range(2):
        still.reset(seed=3)
        rewards.append([still.step(np.zeros(1, np.float32))[1] for _ in range(4)])
    assert rewards[0] == rewards[1]
    found = evolve(
        model, out_dir=tmp_path / "agent", options=EvolutionOptions(generations=1, population=4, rollouts=2, horizon=5)
    )
    for agent in (found.agent, "planner:cem,horizon=3,candidates=20"):
        score = evaluate(model, agent, episodes=1, workers=0)
        assert np.isfinite(score.mean)
    measured = GapOptions(horizons=(1, 5), samples=2, moments=2, dreams=2)
    gap = dreamenv.dream_gap(tmp_path / "bundle", "random", measured, episodes=2, workers=0)
    assert all(np.isfinite(row.latent_mse) for row in gap.open_loop)


def test_bad_settings(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="free_nats must be at least 0"):
        options(loss={"free_nats": -1.0})
    with pytest.raises(ConfigurationError, match="latents='binary'"):
        RSSMRecipe().fit(job(rotation(4, 12), tmp_path, options(memory={"latents": "binary"})))
    assert RSSM(4, MOVE).config()["latents"] == "categorical"


def test_reward_and_end_belong_to_the_moment_that_the_action_reached(tmp_path: Path) -> None:
    """The heads are fitted at the very moment of the window at which reward and end came, and asked there in dreams."""
    cache = dataclasses.replace(rotation(episodes=2, steps=6), terminated=np.array([True, False]))
    model = new_joint_model(job(cache, tmp_path, options()), cache)
    batch = Replay(cache, np.arange(2), length=14).windows(np.array([0]))
    observed = model.observe(batch, torch.Generator().manual_seed(0))
    asked: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for name in ("reward_head", "termination_head"):
        head = getattr(model.memory, name)

        def loss(features: torch.Tensor, target: torch.Tensor, name: str = name) -> torch.Tensor:
            asked[name] = features, target
            return features.sum(-1) * 0

        head.loss = loss
    model.losses_of(batch, observed, LossOptions())
    features = observed.features[0]
    first, second = cache.rewards[:6], cache.rewards[6:]
    for name, wanted in (
        ("reward_head", [0.0, *first, 0.0, *second]),
        ("termination_head", [0.0] * 6 + [1.0] + [0.0] * 7),
    ):
        seen, target = asked[name]
        torch.testing.assert_close(seen, features)
        np.testing.assert_allclose(target.numpy(), wanted, rtol=1e-6)
    noise = torch.Generator().manual_seed(1)
    state = model.memory.initial(model.vision.encode(batch.observations[0, :3]), noise=noise)
    following, prediction = model.memory.imagine(state, batch.actions[0, 1:4], noise=noise)
    torch.testing.assert_close(prediction.reward, model.memory.reward_head(model.memory.features(following)))
    logit = model.memory.termination_head(model.memory.features(following))
    torch.testing.assert_close(prediction.termination_probability, model.memory.termination_head.probability(logit))
