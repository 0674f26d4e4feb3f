"""Playing an agent through real episodes, in this process or in several, with the same result."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from dreamenv.agents.base import Agent, SavableAgent, check_spaces, observation_kind
from dreamenv.agents.mpc import MPCAgent
from dreamenv.agents.random_agent import RandomAgent
from dreamenv.agents.resolve import AGENT_KINDS, load_agent, save_agent
from dreamenv.data.preprocess import make_real_env
from dreamenv.envs.latent_observation import LatentObservation
from dreamenv.errors import ConfigurationError, NonFiniteError
from dreamenv.workers import run_tasks
from dreamenv.world_model import WorldModel

RANDOM = "random"


@dataclass(frozen=True)
class EpisodeResult:
    """One real episode.

    Attributes:
        seed: Seed of its reset.
        undiscounted_return: Sum of the rewards, in units of the real environment.
        length: Actions taken.
        real_frames: Real frames consumed, action repeat counted.
        terminated: It ended by the task, not by the time limit.
        deciding_s: Seconds spent in the agent's `predict`, V and M not counted; equal episodes may differ in it.
    """

    seed: int
    undiscounted_return: float
    length: int
    real_frames: int
    terminated: bool
    deciding_s: float = field(default=0.0, compare=False)


def play_episodes(
    model: WorldModel,
    agent: Agent | str,
    seeds: Sequence[int],
    *,
    workers: int,
    progress: Callable[[EpisodeResult], None] | None = None,
    report: Callable[[str], None] = print,
) -> list[EpisodeResult]:
    """Results of real episodes in the order of `seeds`; they do not depend on `workers`.

    Networks run on the CPU in one thread each, since another number of threads may round otherwise and send a chaotic
    episode elsewhere. One environment is stepped at a time for the same reason: a batch rounds by its size.

    Args:
        model: The world model through which the agent sees.
        agent: The agent, or "random" for actions uniform over the action space, drawn from the episode's seed.
        seeds: One an episode.
        workers: Processes; 0 plays in this one.
        progress: Called after each episode, in the order in which they end.
        report: Receives a line when a worker dies; its episode is tried again.

    Raises:
        SpaceMismatchError: The agent's spaces are not those of the model.
        ConfigurationError: Workers, and an agent that cannot be saved.
        CollectionError: An episode kills its worker again and again.
    """
    if not isinstance(agent, str):
        seen = model.observation_space(observation_kind(agent, model))
        check_spaces(agent, seen, model.action_space, f"the model of {model.real.id}")
    results: dict[int, EpisodeResult] = {}

    def keep(result: EpisodeResult) -> None:
        results[result.seed] = result
        if progress is not None:
            progress(result)

    if workers == 0:
        with _one_thread(), _Player(model, agent) as player:
            for seed in seeds:
                keep(player.play(seed))
    else:
        with tempfile.TemporaryDirectory(prefix="dreamenv-") as folder:
            setup = _hand_over(model, agent, Path(folder))
            for _, result in run_tasks(seeds, _make_player, setup, workers=min(workers, len(seeds)), report=report):
                keep(result)
    return [results[seed] for seed in seeds]


class _Player:
    """A real environment and an agent before it; open until `close`."""

    def __init__(self, model: WorldModel, agent: Agent | str) -> None:
        real = make_real_env(model.real)
        self._agent: Agent | None = None
        self._env: Any = real
        try:
            if isinstance(agent, str):
                RandomAgent(real.observation_space, real.action_space, generator=0)  # refuses unbounded spaces
                return
            self._env = LatentObservation(real, model, observation=observation_kind(agent, model))
            self._agent = agent
        except BaseException:
            real.close()
            raise

    def __enter__(self) -> _Player:
        return self

    def __exit__(self, *_: object) -> None:
        self._env.close()

    def play(self, seed: int) -> EpisodeResult:
        env = self._env
        # V and M cost more than the environment, and a random agent looks at neither
        agent = self._agent or RandomAgent(env.observation_space, env.action_space, generator=seed)
        observation, _ = env.reset(seed=seed)
        state, total, length, frames, deciding_s = None, 0.0, 0, 0, 0.0
        terminated = truncated = False
        while not (terminated or truncated):
            begin = time.perf_counter()
            action, state = agent.predict(
                observation, state=state, episode_start=np.array([length == 0]), deterministic=True
            )
            deciding_s += time.perf_counter() - begin
            observation, reward, terminated, truncated, info = env.step(action)
            total += float(reward)
            length += 1
            frames += int(info["real_frames"])
            if not np.isfinite(total):
                raise NonFiniteError(f"reward {reward} at step {length} of the real episode with seed {seed}")
        return EpisodeResult(seed, total, length, frames, bool(terminated), deciding_s)


def can_be_handed_over(agent: Agent | str) -> bool:
    """Whether worker processes can load the agent."""
    if isinstance(agent, MPCAgent):
        return agent.name is not None
    return isinstance(agent, (str, SavableAgent)) or _algorithm_of(agent) is not None


def _algorithm_of(agent: Any) -> str | None:
    if "stable_baselines3" not in sys.modules:  # then it cannot be a model of it, and may not be installed
        return None
    from dreamenv.sb3.models import algorithm_name

    return algorithm_name(agent)


def _hand_over(model: WorldModel, agent: Any, folder: Path) -> tuple[str, str, str | None]:
    """Write model and agent where workers read them, exact to the bit; the algorithm is that of stable-baselines3."""
    algo = None
    if isinstance(agent, str):
        where = agent
    elif isinstance(agent, SavableAgent) and agent.kind in AGENT_KINDS:
        where = str(save_agent(agent, folder))
    elif isinstance(agent, MPCAgent) and agent.name is not None:
        if agent.world_model is not model:
            raise ConfigurationError(
                "the planner dreams with another model than it is scored on; use workers=0, or score it on its own: "
                "evaluate(agent.world_model, agent)"
            )
        where = agent.name
    elif (algo := _algorithm_of(agent)) is not None:
        where = str(folder / "agent.zip")
        agent.save(where)
    else:
        raise ConfigurationError(
            f"an agent of class {type(agent).__name__} cannot be handed to worker processes; use workers=0"
        )
    model.save(folder)
    weights = {f"vision.{name}": part for name, part in model.vision.state_dict().items()}
    weights |= {f"memory.{name}": part for name, part in model.memory.state_dict().items()}
    # A saved bundle holds half precision; the workers' model is to be this one
    save_file(
        {name: part.detach().cpu().contiguous() for name, part in weights.items()},
        folder / "model.safetensors",
        metadata={"format_version": "1"},
    )
    return str(folder), where, algo


def _make_player(setup: tuple[str, str, str | None]) -> Callable[[int], EpisodeResult]:
    torch.set_num_threads(1)
    folder, where, algo = setup
    model = WorldModel.load(Path(folder))
    agent = where if where == RANDOM else load_agent(where, algo=algo, world_model=model)
    return _Player(model, agent).play


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
