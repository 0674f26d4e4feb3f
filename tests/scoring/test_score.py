from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from dreamenv.agents import LinearController, mpc_agent, save_agent, weight_shape
from dreamenv.errors import ConfigurationError, NonFiniteError, SpaceMismatchError, UnknownDreamError
from dreamenv.scoring import EpisodeResult, Validator, bootstrap_interval, evaluate
from dreamenv.scoring.gap import GapOptions
from dreamenv.types import RealEnvSpec, Wrapper, episode_seeds
from dreamenv.workers import Place, run_tasks
from dreamenv.world_model import WorldModel
from tests.fakes import trained_like_world_model

PENDULUM = spaces.Box(-2, 2, (1,), np.float32)


def pendulum_model(**real: Any) -> WorldModel:
    spec = RealEnvSpec("Pendulum-v1", **({"max_episode_steps": 30} | real))
    return trained_like_world_model(action_space=PENDULUM, image=False, real=spec, latent_size=3)


def cartpole_model() -> WorldModel:
    return trained_like_world_model(action_space=spaces.Discrete(2), image=False, real=RealEnvSpec("CartPole-v1"))


def fragile_model(folder: Path, **kwargs: Any) -> WorldModel:
    spec = RealEnvSpec("tests.fragile_env:Fragile-v0", kwargs={"fuse": str(folder / "fuse"), **kwargs})
    return trained_like_world_model(action_space=spaces.Discrete(2), image=False, real=spec, latent_size=2)


def controller(model: WorldModel, **provenance: Any) -> LinearController:
    weights = np.random.default_rng(2).normal(size=weight_shape(model))
    return LinearController(weights, model.observation_space(), model.action_space, provenance=provenance)


def test_returns_are_those_of_the_real_environment_played_by_hand() -> None:
    model = cartpole_model()
    agent = controller(model)
    score = evaluate(model, agent, episodes=3, seed=7, workers=0)
    env = gym.make("CartPole-v1")
    noise = torch.Generator()
    for seed, expected, length in zip(episode_seeds("evaluation", 7, 3), score.returns, score.lengths, strict=True):
        observation, _ = env.reset(seed=seed)
        state = model.memory.initial(torch.from_numpy(observation)[None], noise=noise)
        total, steps, over = 0.0, 0, False
        with torch.no_grad():
            while not over:
                action, _ = agent.predict(model.memory.features(state)[0].numpy())
                observation, reward, terminated, truncated, _ = env.step(int(action))
                latent = torch.from_numpy(observation)[None]
                state, _ = model.memory.observe(state, torch.from_numpy(action)[None], latent, noise=noise)
                total, steps, over = total + float(reward), steps + 1, terminated or truncated
        assert (total, steps) == (expected, length)
    assert score.seeds == tuple(episode_seeds("evaluation", 7, 3))
    assert score.mean == pytest.approx(np.mean(score.returns))
    assert score.std == pytest.approx(np.std(score.returns, ddof=1))
    assert score.ci95[0] <= score.mean <= score.ci95[1]


@pytest.mark.integration
def test_the_score_does_not_depend_on_the_number_of_workers() -> None:
    model = pendulum_model()
    agent = controller(model)
    seen: list[EpisodeResult] = []
    alone = evaluate(model, agent, episodes=5, workers=0)
    together = evaluate(model, agent, episodes=5, workers=2, progress=seen.append)
    assert alone == together
    assert sorted(result.seed for result in seen) == list(alone.seeds)
    assert len(set(alone.returns)) == 5


@pytest.mark.integration
def test_a_planner_plays_the_same_episodes_one_by_one_and_side_by_side() -> None:
    model = cartpole_model()
    planner = "planner:shooting,candidates=16,horizon=6"
    calls: list[int] = []
    agent = mpc_agent(planner, model)
    decide = agent.predict
    agent.predict = lambda seen, state=None: (calls.append(len(seen)), decide(seen, state))[1]  # type: ignore[method-assign]
    alone = evaluate(model, planner, episodes=5, workers=0)
    told: list[tuple[int, int]] = []

    def tell(result: EpisodeResult) -> None:
        told.append((len(calls), result.seed))

    side_by_side = evaluate(model, agent, episodes=5, at_once=3, workers=0, progress=tell)
    workers = evaluate(model, planner, episodes=5, at_once=3, workers=2)
    assert len(set(alone.lengths)) > 1, "episodes that end at different moments"
    for score in (side_by_side, workers):
        assert (score.returns, score.lengths) == (alone.returns, alone.lengths)
        assert score.to_json()["at_once"] == 3
    # Each episode is told of when it has ended, not when the last one of its lot has
    lengths = dict(zip(alone.seeds, alone.lengths, strict=True))
    longest = max(alone.lengths[:3])
    assert told == sorted((lengths[seed] + longest * (seed in alone.seeds[3:]), seed) for seed in alone.seeds)
    # Who has ended is not planned for any more
    first, second = alone.lengths[:3], alone.lengths[3:]
    assert calls == [sum(length > step for length in group) for group in (first, second) for step in range(max(group))]
    assert evaluate(model, controller(model), episodes=2, at_once=2).at_once == 1


def test_the_number_of_threads_is_given_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        evaluate(pendulum_model(), "random", episodes=1, workers=0)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_random_agent_is_uniform_and_follows_the_episodes_seed() -> None:
    model = cartpole_model()
    score = evaluate(model, "random", episodes=40, seed=1, workers=0)
    assert 18 < score.mean < 27  # a uniform policy balances for 22 steps
    assert score.agent == "random"
    assert score.real_frames == 0
    assert score.returns == evaluate(model, "random", episodes=40, seed=1, workers=0).returns
    assert score.returns != evaluate(model, "random", episodes=40, seed=2, workers=0).returns


def test_roles_never_share_a_seed_and_frames_are_counted() -> None:
    model = pendulum_model(action_repeat=4)
    scores = [evaluate(model, "random", episodes=2, role=role, workers=0) for role in ("validation", "evaluation")]
    assert not set(scores[0].seeds) & set(scores[1].seeds)
    assert scores[0].lengths == (8, 8)  # 30 frames by 4, the last action cut short
    assert scores[0].played_frames == 60


def test_validator_scores_agents_on_validation_episodes() -> None:
    model = pendulum_model()
    agent = controller(model)
    result = Validator(model, episodes=3, seed=2, workers=0)(agent)
    score = evaluate(model, agent, episodes=3, seed=2, role="validation", workers=0)
    assert (result.mean, result.returns, result.real_frames) == (score.mean, score.returns, 90)


def test_agents_by_path_shipped_and_their_frames(tmp_path: Path) -> None:
    model = pendulum_model()
    model.provenance["real_frames"] = 1000
    model.save(tmp_path)
    file = save_agent(controller(model, real_frames=34), tmp_path)
    by_file = evaluate(tmp_path, str(file), episodes=2, workers=0)
    shipped = evaluate(tmp_path, episodes=2, workers=0)
    assert by_file.real_frames == shipped.real_frames == 1034
    assert by_file.returns == shipped.returns
    assert (by_file.agent, shipped.agent) == (str(file), "shipped")
    assert evaluate(model, controller(model), episodes=1, workers=0).real_frames is None
    model.provenance["real_frames"] = {"collect": 7, "loop": 8}
    assert evaluate(model, controller(model, real_frames=1), episodes=1, workers=0).real_frames == 16


def test_json_has_the_public_keys() -> None:
    score = json.loads(json.dumps(evaluate(pendulum_model(), "random", episodes=2, workers=0).to_json()))
    assert {"real_id", "agent", "episodes", "seeds", "returns", "mean", "std", "ci95", "real_frames"} <= score.keys()
    assert score["episodes"] == len(score["returns"]) == len(score["seeds"]) == 2
    assert score["real_id"] == "Pendulum-v1"


@pytest.mark.integration
def test_a_dead_workers_episode_is_played_again(tmp_path: Path) -> None:
    model = fragile_model(tmp_path)
    untouched = evaluate(model, "random", episodes=4, workers=0)
    (tmp_path / "fuse").touch()
    lines: list[str] = []
    assert evaluate(model, "random", episodes=4, workers=2, report=lines.append) == untouched
    assert len(lines) == 1
    assert "a worker died (exit code 3)" in lines[0]


class Recurrent:
    """Counts its own steps in the state it is handed back, and says what it was told."""

    observation_space = trained_like_world_model(action_space=spaces.Discrete(2), image=False).observation_space()
    action_space = spaces.Discrete(2)

    def __init__(self) -> None:
        self.states: list[Any] = []
        self.starts: list[bool] = []

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> Any:
        self.states.append(state)
        self.starts.append(bool(episode_start[0]))
        return np.array(len(self.states) % 2), 0 if state is None else state + 1


def test_agents_of_others_keep_their_state_within_an_episode() -> None:
    agent = Recurrent()
    score = evaluate(cartpole_model(), agent, episodes=2)
    first, second = score.lengths
    assert agent.states == [None, *range(first - 1), None, *range(second - 1)]
    assert agent.starts == [True] + [False] * (first - 1) + [True] + [False] * (second - 1)
    assert score.agent == "Recurrent"
    with pytest.raises(ConfigurationError, match="Recurrent cannot be handed to worker processes; use workers=0"):
        evaluate(cartpole_model(), agent, episodes=2, workers=2)


def test_bad_input(tmp_path: Path) -> None:
    model = pendulum_model()
    for settings, message in (
        ({"episodes": 0}, "episodes must be at least 1"),
        ({"at_once": 0}, "at_once must be at least 1"),
        ({"workers": -1}, "workers must be at least 0"),
        ({"seed": -1}, "seed must be an integer in"),
        ({"seed": None}, "seed must be an integer in"),
        ({"role": "test"}, "role must be one of"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            evaluate(model, "random", **({"episodes": 1, "workers": 0} | settings))  # type: ignore[arg-type]
    for real in ({"wrappers": 5}, {"wrappers": [{"name": "x"}]}, {"kwargs": 5}):
        with pytest.raises(ConfigurationError, match=r"real=\{"):
            evaluate(model, "random", episodes=1, workers=0, real=real)
    with pytest.raises(ConfigurationError, match="temperature"):
        GapOptions(temperature=-1.0)
    with pytest.raises(ConfigurationError, match="give an agent"):
        evaluate(model, episodes=1)
    with pytest.raises(ConfigurationError, match="got function, expected an agent: its name, or an object"):
        evaluate(model, lambda observation: 0, episodes=1)  # type: ignore[arg-type]
    with pytest.raises(UnknownDreamError, match="no dream is called 'rando'"):
        evaluate(model, "rando", episodes=1)
    with pytest.raises(SpaceMismatchError, match=r"(action|observation) spaces differ"):
        evaluate(model, controller(cartpole_model()), episodes=1, workers=0)
    with pytest.raises(NonFiniteError, match="reward nan at step 1 of the real episode"):
        evaluate(fragile_model(tmp_path, broken=True), "random", episodes=1, workers=0)


def test_a_wrapper_around_the_real_environment_is_told_in_json() -> None:
    path = "gymnasium.wrappers:NormalizeReward"
    model = pendulum_model()
    for given in (path, [path], {"path": path}, [Wrapper(path)]):
        score = evaluate(model, "random", episodes=1, workers=0, real={"wrappers": given})
        assert path in json.dumps(score.to_json())


def test_what_the_real_environment_is_made_with_is_told_in_json() -> None:
    model = pendulum_model()
    assert "kwargs" not in evaluate(model, "random", episodes=1, workers=0).to_json()
    heavy = model.with_real(replace(model.real, kwargs={"g": 9.0}))
    score = evaluate(heavy, "random", episodes=1, workers=0, real={"kwargs": {"g": 2.0}}).to_json()
    assert (score["kwargs"], score["changed"]) == ({"g": 9.0}, {"kwargs": {"g": 2.0}})


def test_an_agent_of_another_model_is_told_of() -> None:
    model, other = pendulum_model(), pendulum_model()
    with torch.no_grad():
        next(other.memory.parameters()).add_(1.0)
    lines: list[str] = []
    for learned_in in (model, other):
        agent = controller(model, weights=learned_in.weights_digest())
        evaluate(model, agent, episodes=1, workers=0, report=lines.append)
    assert lines == ["note: linear has learned in another model than this one, which may see the game otherwise"]


def test_bootstrap_interval_of_known_data() -> None:
    assert bootstrap_interval([3.0]) == (3.0, 3.0)
    # Of a fair coin's 0 and 1 the resampled mean is Binomial(n, 1/2) / n: 95% of it within 0.402 and 0.598 for n = 100
    low, high = bootstrap_interval([0.0, 1.0] * 50)
    assert (low, high) == (pytest.approx(0.4, abs=0.011), pytest.approx(0.6, abs=0.011))
    values = np.random.default_rng(0).normal(5, 2, 400)
    low, high = bootstrap_interval(values.tolist())
    assert (low, high) == (
        pytest.approx(values.mean() - 1.96 * values.std() / 20, abs=0.02),
        pytest.approx(values.mean() + 1.96 * values.std() / 20, abs=0.02),
    )
    assert bootstrap_interval(values.tolist()) == (low, high)
    wide = bootstrap_interval(values.tolist(), level=0.99)
    assert wide[0] < low
    assert wide[1] > high


def test_bootstrap_needs_returns() -> None:
    with pytest.raises(ConfigurationError, match="needs returns"):
        bootstrap_interval([])
    for settings in ({"level": 1.0}, {"resamples": 0}):
        with pytest.raises(ConfigurationError, match="needs returns"):
            bootstrap_interval([1.0], **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cores", "episodes", "given", "expected"),
    [(3, 5, None, 3), (3, 2, None, 2), (1, 2, None, 0), (3, 1, None, 0), (3, 5, 2, 2), (1, 5, 4, 4), (3, 5, 0, 0)],
)
def test_workers_default_to_the_cores(
    monkeypatch: pytest.MonkeyPatch, cores: int, episodes: int, given: int | None, expected: int
) -> None:
    used = workers_used(monkeypatch, cores)
    model = pendulum_model(max_episode_steps=2)
    assert evaluate(model, "random", episodes=episodes, workers=given).episodes == episodes
    assert used == ([expected] if expected else [])


def test_an_agent_that_cannot_be_handed_over_plays_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    used = workers_used(monkeypatch, 3)
    evaluate(cartpole_model(), Recurrent(), episodes=2)
    assert used == []


def workers_used(monkeypatch: pytest.MonkeyPatch, cores: int) -> list[int]:
    """Claim `cores` cores; the list that is returned receives each number of processes, while this one plays."""
    used: list[int] = []

    def run(*arguments: Any, workers: Place, **options: Any) -> Any:
        used.append(workers.processes)
        return run_tasks(*arguments, workers=0, **options)

    monkeypatch.setattr("dreamenv.workers.place.cores", lambda: cores)
    monkeypatch.setattr("dreamenv.scoring.play.run_tasks", run)
    return used
