"""Episodes of an agent: the one loop in which agents play, and real episodes in this process or in several."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import gymnasium as gym
import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec

from dreamenv.agents.base import Agent
from dreamenv.agents.mpc import MPCAgent
from dreamenv.agents.resolve import AgentDescription, ResolvedAgent
from dreamenv.data.preprocess import make_known, make_real_env, modules_of, registration_of
from dreamenv.data.recorder import EpisodeRecorder
from dreamenv.envs.elsewhere import PackedModel, one_thread
from dreamenv.envs.latent_observation import LatentObservation
from dreamenv.errors import ConfigurationError
from dreamenv.types import Episode
from dreamenv.workers import AnyWorkers, Parcel, find_place, run_tasks
from dreamenv.world_model import WorldModel


class OfSeed(Protocol):
    """What is kept of a real episode."""

    @property
    def seed(self) -> int:
        """Of the episode's reset."""


ResultT = TypeVar("ResultT", bound=OfSeed)
# Plays the episodes of some seeds side by side, and gives what is kept of each as soon as it has ended
Played = Callable[["RealEpisodes", tuple[int, ...]], Iterable[ResultT]]


class Moment(NamedTuple):
    """What follows `reset` or an action; of a vector environment each with a row an episode.

    Attributes:
        observation: What the agent sees.
        reward: Of the action, in units of the real environment; 0 behind `reset`.
        terminated, truncated: Whether the episode is over.
        info: The environment's.
        deciding_s: Seconds that the agent spent in `predict`.
    """

    observation: Any
    reward: Any
    terminated: Any
    truncated: Any
    info: dict[str, Any]
    deciding_s: float = 0.0


def play(env: Any, agent: Agent, *, seed: int, steps: int | None = None) -> Iterator[Moment]:
    """Play one episode, in a vector environment one in each row: what follows `reset` and each action, as it comes.

    Args:
        env: A Gymnasium environment or vector environment whose observations the agent reads. Rows that have ended go
            on until all have; what they show then means nothing.
        agent: Acts deterministically; its state begins anew.
        seed: Of the reset.
        steps: Most actions.
    """
    observation, info = env.reset(seed=seed)
    yield Moment(observation, 0.0, False, False, info)
    rows = getattr(env, "num_envs", 1)
    begins, ended = np.ones(rows, np.bool_), np.zeros(rows, np.bool_)
    state: Any = None
    taken = 0
    while not ended.all() and taken != steps:
        began = time.perf_counter()
        action, state = agent.predict(observation, state, begins, True)
        deciding_s = time.perf_counter() - began
        observation, reward, terminated, truncated, info = env.step(action)
        yield Moment(observation, reward, terminated, truncated, info, deciding_s)
        begins = np.zeros(rows, np.bool_)
        ended |= np.logical_or(terminated, truncated)
        taken += 1


def play_together(
    envs: Sequence[gym.Env[Any, Any]],
    planner: MPCAgent,
    seeds: Sequence[int],
    change: Callable[[int, Any, Any], Any] = lambda number, observation, action: action,
) -> Iterator[tuple[int, Moment]]:
    """Play an episode in each environment, where the planner decides for all that go on in one batch.

    Args:
        envs: At least as many as there are seeds.
        planner: Acts in episodes of different lengths.
        seeds: Of the resets.
        change: Gives the action that is taken, from the episode's number, what was seen and what the planner would do.

    Yields:
        The number of an episode, and its next moment; `deciding_s` is its share of the batch's time.
    """
    seen = []
    for number, seed in enumerate(seeds):
        observation, info = envs[number].reset(seed=seed)
        seen.append(observation)
        yield number, Moment(observation, 0.0, False, False, info)
    going_on = np.arange(len(seeds))
    state: Any = None
    while len(going_on):
        began = time.perf_counter()
        actions, state = planner.predict(np.stack([seen[number] for number in going_on]), state)
        deciding_s = (time.perf_counter() - began) / len(going_on)
        ended = np.zeros(len(going_on), np.bool_)
        for row, number in enumerate(going_on.tolist()):
            action = change(number, seen[number], actions[row])
            moment = Moment(*envs[number].step(action), deciding_s)
            seen[number], ended[row] = moment.observation, moment.terminated or moment.truncated
            yield number, moment
        going_on, state = going_on[~ended], state.of_rows(~ended)


class RealEpisodes:
    """The real environment of a world model, and an agent that plays it seeing through V and M.

    Attributes:
        env: The preprocessed real environment.
    """

    def __init__(self, model: WorldModel, agent: ResolvedAgent, *, render_mode: str | None = None) -> None:
        self.env = make_real_env(model.real, render_mode=render_mode)
        self.env.act_like(model.action_space)
        self._model, self._agent = model, agent
        self._others: list[RealEpisodes] = []
        try:
            self._seen = self._as_seen(self.env)
        except BaseException:
            self.env.close()
            raise

    def _as_seen(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        # V and M cost more than the environment
        if self._agent.blind:
            return env
        return LatentObservation(env, self._model, observation=self._agent.observation, predicts=False)

    def play(
        self, seed: int, *, steps: int | None = None, recorder: gym.Env[Any, Any] | None = None
    ) -> Iterator[Moment]:
        """The episode of `seed`, of `steps` actions at most, with a wrapper of `env` that looks on; see `play`."""
        env = self._seen if recorder is None else self._as_seen(recorder)
        return play(env, self._agent.of_episode(seed, env.observation_space), seed=seed, steps=steps)

    def play_together(
        self, seeds: Sequence[int], *, recorders: Sequence[gym.Env[Any, Any]] = ()
    ) -> Iterator[tuple[int, Moment]]:
        """The episodes of `seeds` side by side, each in an environment of its own; see `play_together`.

        Args:
            seeds: Of the episodes; one for an agent that is no planner.
            recorders: Wrappers that look on, one for each environment of `_each`.

        Raises:
            ConfigurationError: Several episodes, and the agent is no planner.
        """
        if len(seeds) == 1:
            alone = self.play(seeds[0], recorder=recorders[0] if recorders else None)
            return ((0, moment) for moment in alone)
        if not isinstance(self._agent.agent, MPCAgent):
            raise ConfigurationError(f"only planners decide for several episodes at once, not {self._agent.label!r}")
        each = self._each(len(seeds))
        seen = [real._as_seen(env) for real, env in zip(each, recorders, strict=True)] if recorders else []
        return play_together(seen or [real._seen for real in each], self._agent.agent, seeds)

    def record(self, seeds: Sequence[int]) -> Iterator[Episode]:
        """The whole episodes of `seeds`, as V is given them, each when it has ended."""
        recorders = [EpisodeRecorder(real.env) for real in self._each(len(seeds))]
        for number, moment in self.play_together(seeds, recorders=recorders):
            if moment.terminated or moment.truncated:
                yield recorders[number].episode(self._agent.label)

    def _each(self, count: int) -> list[RealEpisodes]:
        """This one and others like it."""
        while len(self._others) < count - 1:
            self._others.append(RealEpisodes(self._model, self._agent))
        return [self, *self._others[: count - 1]]

    def close(self) -> None:
        """Close the real environments."""
        for each in (*self._others, self):
            each.env.close()


def in_lots(agent: ResolvedAgent, seeds: Sequence[int], at_once: int) -> list[tuple[int, ...]]:
    """The episodes that are decided together, `at_once` of a planner's; those of other agents are played alone.

    Raises:
        ConfigurationError: Fewer than one at once.
    """
    if at_once < 1:
        raise ConfigurationError(f"at_once must be at least 1, got {at_once}")
    size = at_once if isinstance(agent.agent, MPCAgent) else 1
    return [tuple(seeds[first : first + size]) for first in range(0, len(seeds), size)]


def play_episodes(
    model: WorldModel,
    agent: ResolvedAgent,
    lots: Sequence[tuple[int, ...]],
    played: Played[ResultT],
    *,
    workers: AnyWorkers,
    progress: Callable[[ResultT], None] | None = None,
    report: Callable[[str], None] = print,
) -> list[ResultT]:
    """What `played` gives of real episodes, in the order of their seeds in `lots`; it does not depend on `workers`.

    Networks run on the CPU in one thread each, since another number of threads may round otherwise and send a chaotic
    episode elsewhere. A batch rounds by its size too, so episodes are decided together only within a lot.

    Args:
        model: The world model through which the agent sees.
        agent: What acts.
        lots: Seeds of episodes that are played side by side; see `in_lots`.
        played: Called with the environment and a lot; a module-level function.
        workers: Processes; 0 plays in this one, None takes one a core, if they can make the agent. They are spawned, so
            a script needs its `if __name__ == "__main__"`. Or a Ray cluster; see `dreamenv.workers.find_place`.
        progress: Called after each episode, in the order in which they end; for those of a worker when its lot has.
        report: Receives a line when a worker dies; its lot is tried again.

    Raises:
        ConfigurationError: Workers, and an agent that they cannot make.
        CollectionError: An episode kills its worker again and again.
    """
    place = find_place(0 if workers is None and not agent.portable else workers, len(lots))
    results: dict[int, ResultT] = {}

    def keep(found: Iterable[ResultT]) -> None:
        for result in found:
            results[result.seed] = result
            if progress is not None:
                progress(result)

    if place.here:
        with one_thread(), closing(RealEpisodes(model, agent)) as real:
            for lot in lots:
                keep(played(real, lot))
    else:
        setup = _hand_over(PackedModel.of(model, far=place.elsewhere), model, agent, played)
        modules = modules_of(model.real)
        for _, found in run_tasks(lots, _open, setup, workers=place, modules=modules, report=report):
            keep(found)
    return [results[seed] for lot in lots for seed in lot]


@dataclass(frozen=True)
class _Setup(Generic[ResultT]):
    """What a worker needs; it may see other files."""

    model: PackedModel
    agent: AgentDescription
    agent_files: Parcel
    registration: EnvSpec | None
    played: Played[ResultT]


def _hand_over(
    packed: PackedModel, model: WorldModel, agent: ResolvedAgent, played: Played[ResultT]
) -> _Setup[ResultT]:
    with tempfile.TemporaryDirectory(prefix="dreamenv-") as name:
        described = agent.hand_over(model, Path(name)).moved(Path(name), Path())
        return _Setup(packed, described, Parcel.of(name), registration_of(model.real), played)


def _open(setup: _Setup[ResultT]) -> Callable[[tuple[int, ...]], list[ResultT]]:
    torch.set_num_threads(1)
    make_known(setup.registration)
    model = setup.model.unpack()
    with tempfile.TemporaryDirectory(prefix="dreamenv-") as name:
        agent = setup.agent.moved(Path(), setup.agent_files.lay_out(Path(name))).resolve(model)
    real = RealEpisodes(model, agent)
    return lambda lot: list(setup.played(real, lot))
