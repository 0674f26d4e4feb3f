"""Real episodes of an agent that learns meanwhile: one by one here, or several at once by workers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from gymnasium.envs.registration import EnvSpec

from dreamenv.agents.mpc import MPCAgent
from dreamenv.data.collect import record_episode
from dreamenv.data.episode_file import episode_bytes
from dreamenv.data.explore import Given
from dreamenv.data.preprocess import PreprocessedEnv, make_known, make_real_env, modules_of, registration_of
from dreamenv.data.recorder import EpisodeRecorder
from dreamenv.envs.elsewhere import PackedModel, one_thread
from dreamenv.envs.latent_observation import LatentObservation
from dreamenv.errors import DreamEnvError, NonFiniteError
from dreamenv.scoring.play import play_together
from dreamenv.types import RealEnvSpec
from dreamenv.workers import AnyWorkers, Workforce, find_place, open_workers
from dreamenv.workflows.live import LivePlayer
from dreamenv.world_model import WorldModel


class Play(NamedTuple):
    """An episode to be played.

    Attributes:
        number: Of the episode in the round.
        seed: Of the real environment's reset.
        other_seed: Of the reset where the first episode raises an error or is not finite: it is played again, once,
            unless a planner decides for several in one batch.
        own: Seed of what the player draws.
        greedy_share: Probability that the agent plays as well as it can; else it explores.
    """

    number: int
    seed: int
    other_seed: int
    own: tuple[int, ...]
    greedy_share: float

    def drawn(self) -> tuple[np.random.Generator, bool]:
        """What the player draws from, and whether it plays as well as it can, which is drawn first."""
        rng = np.random.default_rng(self.own)
        return rng, bool(rng.random() < self.greedy_share)


class LiveEpisodes(Protocol):
    """Whoever plays the episodes of a round; see `live_episodes`."""

    def play(self, model: WorldModel, player: LivePlayer, plays: Sequence[Play]) -> Iterator[tuple[int, bytes]]:
        """Number and file (`episode_bytes`) of each episode as it is finished, all with the weights as they are now."""


class _Player:
    """Plays single episodes in a real environment, which it opens anew where one fails."""

    def __init__(self, real: RealEnvSpec) -> None:
        self._real, self._env = real, make_real_env(real)

    def __call__(self, model: WorldModel, player: LivePlayer, play: Play) -> bytes:
        """The file of the episode."""
        try:
            return self._once(model, player, play, play.seed)
        except Exception as error:  # whatever a foreign simulator raises
            if isinstance(error, DreamEnvError) and not isinstance(error, NonFiniteError):
                raise
            # A run that goes on from its checkpoint would play the same episode again, and never get behind it
            warnings.warn(f"episode {play.number} is played again from another seed: {error!r}", stacklevel=2)
        with suppress(Exception):  # it may be beyond closing
            self._env.close()
        self._env = make_real_env(self._real)
        return self._once(model, player, play, play.other_seed)

    def _once(self, model: WorldModel, player: LivePlayer, play: Play, seed: int) -> bytes:
        rng, greedy = play.drawn()
        return episode_bytes(record_episode(self._env, player.actor(model, rng, greedy=greedy), seed=seed))

    def close(self) -> None:
        """Close the environment."""
        self._env.close()


class _OneByOne:
    """Episodes in this process, by the model where it is."""

    def __init__(self, played: _Player) -> None:
        self._played = played

    def play(self, model: WorldModel, player: LivePlayer, plays: Sequence[Play]) -> Iterator[tuple[int, bytes]]:
        for play in plays:
            yield play.number, self._played(model, player, play)


class _SideBySide:
    """Episodes of a planner in this process, which decides for all of them in one batch."""

    def __init__(self, real: RealEnvSpec) -> None:
        self._real = real
        self._envs: list[PreprocessedEnv] = []

    def play(
        self, model: WorldModel, player: LivePlayer, planner: MPCAgent, plays: Sequence[Play]
    ) -> Iterator[tuple[int, bytes]]:
        while len(self._envs) < len(plays):
            self._envs.append(make_real_env(self._real))
        recorders = [EpisodeRecorder(env) for env in self._envs[: len(plays)]]
        seen = [
            LatentObservation(recorder, model, observation=planner.observation, predicts=False)
            for recorder in recorders
        ]
        actors = []
        for play in plays:
            chosen = Given(player.label)
            rng, greedy = play.drawn()
            actors.append((chosen, player.exploring(chosen, model, rng, greedy=greedy)))

        def change(number: int, observation: Any, action: Any) -> Any:
            chosen, actor = actors[number]
            chosen.action = action
            return actor.act(observation)

        for number, moment in play_together(seen, planner, [play.seed for play in plays], change):
            if moment.terminated or moment.truncated:
                yield plays[number].number, episode_bytes(recorders[number].episode(actors[number][1].name))

    def close(self) -> None:
        for env in self._envs:
            env.close()


class _ByWorkers:
    """Episodes side by side, each on the CPU and on one thread; but a planner's by `here`, where there is one."""

    def __init__(self, workforce: Workforce, here: _SideBySide | None) -> None:
        self._workforce, self._here = workforce, here

    def play(self, model: WorldModel, player: LivePlayer, plays: Sequence[Play]) -> Iterator[tuple[int, bytes]]:
        if not plays:
            return
        planner = None if self._here is None else player.planner(model)
        if self._here is not None and planner is not None:
            yield from self._here.play(model, player, planner, plays)
            return
        packed = PackedModel.of(model)
        for task, file in self._workforce.results([_Task(play, packed, player) for play in plays]):
            yield task.play.number, file


@contextmanager
def live_episodes(real: RealEnvSpec, *, at_once: int, workers: AnyWorkers) -> Iterator[LiveEpisodes]:
    """Players of real episodes, who are dismissed behind the block.

    Args:
        real: The real environment.
        at_once: How many episodes are played with the same weights. One is played in this process, by the model where
            it is; more are played on the CPU, each on one thread. A planner decides for all that are played in this
            process in one batch, which rounds by its size.
        workers: Who plays several; see `dreamenv.workers.find_place`.
    """
    if at_once == 1:
        with closing(_Player(real)) as played:
            yield _OneByOne(played)
        return
    place = find_place(workers, at_once)
    setup = _Setup(real, None if place.here else registration_of(real))
    with (
        closing(_SideBySide(real)) as here,
        open_workers(_make_runner, setup, workers=place, modules=modules_of(real)) as workforce,
    ):
        yield _ByWorkers(workforce, here if place.here else None)


@dataclass(frozen=True)
class _Setup:
    real: RealEnvSpec
    registration: EnvSpec | None


@dataclass(frozen=True)
class _Task:
    play: Play
    model: PackedModel = field(compare=False)
    player: LivePlayer = field(compare=False)

    def __str__(self) -> str:
        return f"episode {self.play.number}"


def _make_runner(setup: _Setup) -> Callable[[_Task], bytes]:
    make_known(setup.registration)
    played = _Player(setup.real)

    def run(task: _Task) -> bytes:
        with one_thread():
            return played(task.model.unpack(), task.player, task.play)

    return run
