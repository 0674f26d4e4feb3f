from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor
from typer.testing import CliRunner

from dreamenv.agents import LinearController, RandomAgent, save_agent, weight_shape
from dreamenv.cli import load_verbs
from dreamenv.data.episodes import EpisodeStore
from dreamenv.errors import BundleError, ConfigurationError, SpaceMismatchError, UnknownDreamError
from dreamenv.figures.gap import write_gap_report
from dreamenv.memory.base import Prediction
from dreamenv.noise.base import Noise, as_noise
from dreamenv.scoring import evaluate
from dreamenv.scoring.gap import Gap, GapOptions, dream_gap, measure_gap, record_agent
from dreamenv.types import Episode, RealEnvSpec, episode_seeds
from tests.fakes import CountingMemory, FakeState, fake_world_model, trained_like_world_model

ACTION, DRIFT = 2, 0.5
PENDULUM = spaces.Box(-2, 2, (1,), np.float32)


def episode(
    steps: int,
    *,
    terminated: bool = False,
    surprise: float = 0.0,
    valid: bool = True,
    observations: Any = None,
) -> Episode:
    """The action is always ACTION, latents grow by DRIFT more than the fake dreams, and rewards alternate by `surprise`
    around what it predicts (the action plus the age)."""
    if observations is None:
        observations = (ACTION + DRIFT) * np.arange(steps + 1, dtype=np.float32)[:, None].repeat(3, 1)
        if not valid:
            observations[-1] = 1e6
    sign = np.where(np.arange(steps) % 2 == 0, 1.0, -1.0)
    return Episode(
        observations=observations,
        actions=np.full(steps, ACTION, np.int64),
        rewards=(ACTION + 1 + np.arange(steps) + surprise * sign).astype(np.float32),
        terminated=terminated,
        truncated=not terminated,
        seed=steps,
        policy="test",
        real_frames=2 * steps,
        final_observation_valid=valid,
    )


def gap_of(memory: CountingMemory, *episodes: Episode, image: bool = False, **kwargs: Any) -> Gap:
    model = fake_world_model(memory, image=image)
    agent = RandomAgent(model.observation_space(), model.action_space, generator=0)
    options = GapOptions(**({"horizons": (1, 5), "samples": 2, "dreams": 4} | kwargs))
    return measure_gap(model, agent, episodes, options, label="test")


def test_open_loop_errors_that_are_known() -> None:
    gap = gap_of(CountingMemory(), episode(40), episode(23), episode(3))
    one, five = gap.open_loop
    # After h steps the dream is h · DRIFT short, and the present h · (ACTION + DRIFT)
    assert (one.horizon, one.latent_mse, one.latent_mse_no_change) == (1, pytest.approx(0.25), pytest.approx(6.25))
    assert (five.horizon, five.latent_mse, five.latent_mse_no_change) == (5, pytest.approx(6.25), pytest.approx(156.25))
    assert five.latent_mse_sample == pytest.approx(6.25)
    assert one.pixel_mse is None
    # 16 moments of the first episode, 13 (10 to 22) of the second, the last step of the third
    assert one.moments == 16 + 13 + 1
    assert five.moments == one.moments - 2 - 4 - 1  # those less than 5 steps before the end
    assert gap.open_loop == gap_of(CountingMemory(), episode(40), episode(23), episode(3)).open_loop


def test_a_horizon_that_no_episode_reaches_has_no_errors() -> None:
    row = gap_of(CountingMemory(), episode(8), horizons=(1, 50)).open_loop[1]
    assert (row.horizon, row.moments, row.latent_mse, row.latent_mse_no_change) == (50, 0, None, None)


def test_invalid_final_frames_are_not_compared() -> None:
    gap = gap_of(CountingMemory(), episode(20, terminated=True, valid=False), episode(18))
    assert [row.latent_mse for row in gap.open_loop] == [pytest.approx(0.25), pytest.approx(6.25)]


def test_latents_are_compared_in_the_units_of_memory() -> None:
    memory = CountingMemory()
    memory.register_buffer("latent_std", torch.tensor([1.0, 2.0, 5.0]))
    row = gap_of(memory, episode(20)).open_loop[0]
    assert row.latent_mse == pytest.approx(0.25 * (1 + 1 / 4 + 1 / 25) / 3)


class SpreadMemory(CountingMemory):
    """Dreams spread by a normal step times the temperature."""

    def imagine(
        self, state: FakeState, action: Tensor, *, noise: torch.Generator | Noise, temperature: float = 1.0
    ) -> tuple[FakeState, Prediction]:
        dreamed, prediction = super().imagine(state, action, noise=noise)
        noise = as_noise(noise).normal(*state.latent.shape) * temperature
        return dreamed._replace(latent=dreamed.latent + noise), prediction


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_prediction_is_the_mean_of_the_samples(temperature: float) -> None:
    gap = gap_of(SpreadMemory(), *[episode(60)] * 20, samples=8, horizons=(1, 4), temperature=temperature)
    for row in gap.open_loop:
        spread, bias = temperature**2 * row.horizon, (DRIFT * row.horizon) ** 2
        assert row.latent_mse_sample == pytest.approx(bias + spread, rel=0.1)
        assert row.latent_mse == pytest.approx(bias + spread / 8, rel=0.1)
    assert (gap.samples, gap.open_loop_temperature) == (8, temperature)


def test_pixel_errors_by_hand() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (13, 64, 64, 3), dtype=np.uint8)
    memory = CountingMemory()
    model = fake_world_model(memory, image=True)
    row = gap_of(memory, episode(12, observations=frames), image=True, moments=1, horizons=(2,)).open_loop[0]
    with torch.no_grad():
        seen = torch.from_numpy(frames[[10, 12]])  # the only moment from which two steps follow a settled start
        latents = model.vision.encode(seen)
        real = seen.float() / 255

        def error(latent: Tensor) -> Any:
            return pytest.approx(float((model.vision.decode(latent[None])[0] - real[1]).square().mean()), rel=1e-4)

        assert row.pixel_mse == error(latents[0] + 2 * ACTION)
        assert row.pixel_mse_sample == error(latents[0] + 2 * ACTION)
        assert row.pixel_mse_no_change == error(latents[0])
        assert row.pixel_mse_reconstruction == error(latents[1])
        assert row.pixel_mse_frame_no_change == pytest.approx(float((real[0] - real[1]).square().mean()))
        assert row.latent_mse == pytest.approx(float((latents[0] + 2 * ACTION - latents[1]).square().mean()), rel=1e-4)


def test_rewards_and_returns() -> None:
    gap = gap_of(CountingMemory(), episode(10, surprise=1.0), episode(7, surprise=1.0))
    real = np.concatenate([episode(10, surprise=1.0).rewards, episode(7, surprise=1.0).rewards])
    assert gap.reward_r2 == pytest.approx(1 - 1 / real.var(), rel=1e-4)
    assert gap.predicted_returns == (10 * ACTION + 55, 7 * ACTION + 28)
    assert gap.real_returns == (10 * ACTION + 55, 7 * ACTION + 28 + 1)  # a surprise without its opposite
    assert gap.predicted_return == (75 + 42) / 2
    assert gap.real_return == (75 + 43) / 2
    assert len(gap.dream_returns) == 4
    assert gap.dream_return == pytest.approx(np.mean(gap.dream_returns))
    assert (gap.seeds, gap.played_frames) == ((10, 7), 34)
    assert gap_of(CountingMemory(), episode(10)).reward_r2 == 1.0


def test_precision_and_recall_of_ends() -> None:
    """The fake says "it ends" from the fifth step on."""
    memory = CountingMemory(lifetime=5)
    gap = gap_of(
        memory,
        episode(5, terminated=True),  # right
        episode(7, terminated=True),  # twice too early, then right
        episode(4, terminated=True),  # missed
        episode(5),  # a time limit is no end
    )
    assert gap.termination_precision == 2 / 5
    assert gap.termination_recall == 2 / 3
    assert (gap.termination_threshold, gap.real_ends) == (0.5, 3)
    never, always = gap.termination_calibration
    assert never == {"predicted": 0.0, "real": pytest.approx(1 / 16), "steps": 16}
    assert always == {"predicted": 1.0, "real": pytest.approx(2 / 5), "steps": 5}
    nothing = gap_of(CountingMemory(), episode(5))
    assert (nothing.termination_precision, nothing.termination_recall) == (None, None)


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(load_verbs(), arguments)


def saved_pendulum(folder: Path) -> Path:
    real = RealEnvSpec("Pendulum-v1", max_episode_steps=24)
    model = trained_like_world_model(action_space=PENDULUM, image=False, real=real, latent_size=3)
    model.save(folder)
    weights = np.random.default_rng(2).normal(size=weight_shape(model))
    save_agent(LinearController(weights, model.observation_space(), model.action_space), folder)
    return folder


def test_the_command_measures_the_episodes_that_eval_scores(tmp_path: Path) -> None:
    bundle = saved_pendulum(tmp_path / "bundle")
    files = tmp_path / "gap.json", tmp_path / "page" / "gap.html"
    options = ["--episodes", "3", "--horizons", "1,5,50", "--samples", "2", "--seed", "4", "--workers", "0"]
    outputs = ["--json", str(files[0]), "--html", str(files[1]), "--out", str(tmp_path / "plots")]
    result = invoke("gap", str(bundle), *options, *outputs)
    assert result.exit_code == 0, result.output
    found = json.loads(files[0].read_text())
    score = evaluate(bundle, episodes=3, seed=4, workers=0)
    assert tuple(found["seeds"]) == score.seeds == tuple(episode_seeds("evaluation", 4, 3))
    assert found["real_returns"] == pytest.approx(score.returns, rel=1e-5)
    assert found["real_return"] == pytest.approx(score.mean, rel=1e-5)
    public = {"dream_return", "real_return", "reward_r2", "termination_precision", "termination_recall", "open_loop"}
    assert public <= found.keys()
    assert [row["horizon"] for row in found["open_loop"]] == [1, 5, 50]
    row_keys = {"horizon", "latent_mse", "pixel_mse", "latent_mse_no_change", "pixel_mse_no_change"}
    assert all(row_keys <= row.keys() for row in found["open_loop"])
    assert found["open_loop"][0]["pixel_mse"] is None
    drawn = {f"{name}.{kind}" for name in ("returns", "rewards", "ends", "open_loop_errors") for kind in ("png", "svg")}
    assert {file.name for file in (tmp_path / "plots").iterdir()} == drawn
    page = files[1].read_text(encoding="utf-8")
    assert page.count("<svg") == 4
    assert not re.search(r'(src|href)="(?!#|data:)', page.replace('xlink:href="#', ""))  # it needs no other file
    assert "Pendulum-v1: how wrong is the dream?" in page


def test_planners_and_models_of_sb3_are_measured_as_they_are_scored(tmp_path: Path) -> None:
    sb3 = pytest.importorskip("stable_baselines3")
    bundle = saved_pendulum(tmp_path / "bundle")
    envs = importlib.import_module("dreamenv.sb3").DreamVecEnv(bundle, num_envs=2)
    sb3.PPO("MlpPolicy", envs, n_steps=8, batch_size=16, seed=0, device="cpu").save(tmp_path / "ppo.zip")
    planner = "planner:shooting,candidates=4,horizon=3"
    settings: dict[str, Any] = {"episodes": 1, "options": GapOptions(horizons=(1,), samples=1)}
    for agent, algo in ((planner, None), (str(tmp_path / "ppo.zip"), "ppo")):
        gap = dream_gap(bundle, agent, algo=algo, workers=0, **settings)
        score = evaluate(bundle, agent, algo=algo, episodes=1, workers=0)
        assert gap.real_returns == pytest.approx(score.returns, rel=1e-5)
    with pytest.raises(BundleError, match="--algo ppo"):
        dream_gap(bundle, tmp_path / "ppo.zip", workers=0, **settings)


def test_a_planner_is_recorded_side_by_side_as_it_is_alone() -> None:
    model = trained_like_world_model(action_space=spaces.Discrete(2), image=False, real=RealEnvSpec("CartPole-v1"))
    told: list[int] = []
    settings: dict[str, Any] = {"episodes": 3, "seed": 0, "workers": 0, "progress": told.append}
    alone, side_by_side = (
        record_agent(model, "planner:shooting,candidates=16,horizon=6", at_once=count, **settings) for count in (1, 2)
    )
    for ours, other in zip(alone, side_by_side, strict=True):
        assert np.array_equal(ours.observations, other.observations)
        assert (ours.seed, ours.policy, ours.terminated) == (other.seed, other.policy, other.terminated)
    assert told == [1, 2, 3] * 2


def test_several_models_are_measured_on_the_same_recorded_episodes(tmp_path: Path) -> None:
    bundle, kept = saved_pendulum(tmp_path / "bundle"), tmp_path / "kept"
    options = [str(bundle), "--recorded", str(kept), "--horizons", "1,5", "--samples", "2", "--workers", "0"]

    def measured(*words: str) -> dict[str, Any]:
        result = invoke("gap", *options, *words, "--json", str(tmp_path / "gap.json"))
        assert result.exit_code == 0, result.output
        found: dict[str, Any] = json.loads((tmp_path / "gap.json").read_text())
        return found

    played = measured("--episodes", "3", "--seed", "4")
    store = EpisodeStore(kept)
    assert played["seeds"] == [episode.seed for episode in store] == list(episode_seeds("evaluation", 4, 3))
    # Another agent would play them otherwise
    again = measured("--episodes", "2", "--agent", "random")
    assert again["seeds"] == played["seeds"][:2]
    assert again["real_returns"] == played["real_returns"][:2]
    with pytest.raises(ConfigurationError, match="holds 3 episodes and episodes=20 are wanted"):
        dream_gap(bundle, recorded=kept)
    other = trained_like_world_model(action_space=PENDULUM, image=False, real=RealEnvSpec("Acrobot-v1"), latent_size=3)
    with pytest.raises(ConfigurationError, match="holds episodes of Pendulum-v1"):
        dream_gap(other, "random", episodes=3, recorded=kept)


@pytest.mark.integration
def test_workers_play_the_same_episodes(tmp_path: Path) -> None:
    bundle = saved_pendulum(tmp_path)
    settings: dict[str, Any] = {"episodes": 2, "options": GapOptions(horizons=(1,), samples=1)}
    assert dream_gap(bundle, "random", workers=2, **settings) == dream_gap(bundle, "random", workers=0, **settings)


def test_the_page_shows_pictures_errors_too(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (13, 64, 64, 3), dtype=np.uint8)
    played = episode(12, observations=frames, terminated=True)
    gap = gap_of(CountingMemory(), played, image=True, moments=2, horizons=(1, 50))
    page = write_gap_report(tmp_path / "gap.html", gap).read_text(encoding="utf-8")
    assert "Error of the pictures" in page
    assert f"{gap.open_loop[0].pixel_mse:.4g}" in page
    scalars = gap.scalars()
    assert scalars["latent_mse_1"] == gap.open_loop[0].latent_mse
    assert "latent_mse_50" not in scalars
    assert "termination_precision" not in scalars


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"samples": 0}, "samples must be at least 1, got 0"),
        ({"moments": 0}, "moments must be at least 1, got 0"),
        ({"dreams": 0}, "dreams must be at least 1, got 0"),
        ({"horizons": (0, 5)}, "horizons must be whole numbers"),
        ({"horizons": ()}, "horizons must be whole numbers"),
    ],
)
def test_bad_options(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        GapOptions(**settings)


def test_bad_input(tmp_path: Path) -> None:
    bundle = saved_pendulum(tmp_path)
    for settings, message in (
        ({"episodes": 0}, "episodes must be at least 1, got 0"),
        ({"workers": -1}, "workers must be at least 0"),
        ({"seed": 5000}, "seed must be an integer in"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            dream_gap(bundle, **({"workers": 0, "episodes": 1} | settings))  # type: ignore[arg-type]
    with pytest.raises(UnknownDreamError, match="no dream is called"):
        dream_gap("DreamPendulun-v1")
    other = trained_like_world_model(action_space=spaces.Discrete(2), image=False)
    weights = np.zeros(weight_shape(other))
    file = save_agent(LinearController(weights, other.observation_space(), other.action_space), tmp_path / "other")
    with pytest.raises(SpaceMismatchError, match="spaces differ"):
        dream_gap(bundle, file, workers=0, episodes=1)
    with pytest.raises(ConfigurationError, match="got none"):
        gap_of(CountingMemory())
    result = invoke("gap", str(bundle), "--horizons", "1,five")
    assert isinstance(result.exception, ConfigurationError)
