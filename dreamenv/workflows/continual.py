"""The loop at its finest grain: model and agent learn on after every episode (Hafner et al. 2023, algorithm 1)."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from dreamenv.bundle import StartStates
from dreamenv.data.collect import MOST_EPISODES, Collected
from dreamenv.data.episode_file import read_attributes, read_episode
from dreamenv.data.episodes import EpisodeStore
from dreamenv.data.preprocess import at_own_speed, make_real_env
from dreamenv.errors import BundleError
from dreamenv.options import plain
from dreamenv.training.checkpoint import below, load_tensors, save_tensors
from dreamenv.training.fit import Scalars
from dreamenv.training.growing import GrowingCache
from dreamenv.training.ledger import record_frames
from dreamenv.training.pipeline import time_limit, usable_device
from dreamenv.training.recipes.base import Job
from dreamenv.training.recipes.kinds import RECIPES
from dreamenv.training.start_states import make_start_states
from dreamenv.training.tensorboard import TensorBoardRecorder
from dreamenv.types import Episode, episode_seeds
from dreamenv.workflows.grains import Grain, Learned, Settings
from dreamenv.workflows.live_episodes import LiveEpisodes, Play, live_episodes
from dreamenv.world_model import WorldModel

_SECONDS_BETWEEN_CHECKPOINTS = 120.0
_STEPS_BETWEEN_REPORTS = 100


class Continually(Grain):
    """Play an episode, replay, dream, and play the next with what was learned; a round is a number of episodes.

    What happens depends on the seed alone, so a killed loop goes on from its last checkpoint, takes the episodes that
    were played since from the store, and ends on the CPU as an unbroken one.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._learner: ContinualLearner | None = None

    def round(self, number: int) -> Learned:
        settings, options = self.settings, self.settings.options
        store = EpisodeStore(settings.episodes(number))
        if number == 0:
            wanted = settings.exploration().episodes
        else:
            wanted = options.greedy_episodes + options.noisy_episodes
        if self._learner is None:
            self._learner = ContinualLearner(settings, number)
        learner = self._learner
        learner.enter(number)
        learner.catch_up()
        with live_episodes(settings.real, at_once=options.episodes_at_once, workers=settings.workers) as players:
            while learner.episodes < wanted:
                waiting = 0
                while learner.episodes < wanted and waiting < (options.update_every or 1):
                    upto = min(learner.episodes + options.episodes_at_once, wanted)
                    for episode in self._episodes(players, store, number, range(learner.episodes, upto)):
                        learner.take(episode)
                        waiting += len(episode)
                learner.catch_up()
        learner.save()
        returns = [read_attributes(file)["undiscounted_return"] for file in store.own_files()]
        collected = Collected(wanted, store.real_frames, float(np.mean(returns)))
        ledger = record_frames(settings.run_dir, f"collect {number}", collected.real_frames)
        folder = settings.folder(number)
        model = learner.world_model({"round": number, "ledger": ledger, "real_frames": sum(ledger.values())})
        model.save(folder / "bundle")
        learner.agent.save(folder / "agent")
        return Learned(collected, options.make_learner().player(folder / "agent"))

    def held_out(self, model: WorldModel, played: Sequence[Episode]) -> Scalars:
        kept = GrowingCache()
        for episode in played:
            kept.append(episode)
        return self._learner.fit.measure(kept.cache()) if self._learner is not None else {}

    def _episodes(self, players: LiveEpisodes, store: EpisodeStore, number: int, indices: range) -> list[Episode]:
        """Episodes of round `number`: played by the agent as it is now, or as a killed call has left them."""
        assert self._learner is not None
        options, seed = self.settings.options, self.settings.seed
        share = options.greedy_episodes / (options.greedy_episodes + options.noisy_episodes)
        seeds = episode_seeds("collect", seed * 100 + number, MOST_EPISODES)
        plays = [
            Play(index, seeds[index], seeds[-1 - index], (seed, number, index), share)
            for index in indices
            if not store.file(index).exists()
        ]
        for index, file in self._learner.played(players, plays):
            store.put(index, file)
        return [read_episode(store.file(index)) for index in indices]


class ContinualLearner:
    """V, M and an agent with their optimisers, and all experience so far.

    Args:
        settings: Of the loop.
        number: The round that is to be played next; what its predecessors have left is read.

    Attributes:
        fit: V and M.
        agent: What plays, and learns in their dreams.
        episodes: Of the present round, how many it has taken.

    Raises:
        ConfigurationError: A recipe that cannot learn continually, or episodes that it cannot take.
        BundleError: The checkpoint is damaged or missing.
    """

    def __init__(self, settings: Settings, number: int) -> None:
        self._settings, self._seed = settings, settings.seed
        options = settings.options
        self._file = settings.run_dir / "continual.safetensors"
        if number > 0 and not self._file.exists():
            raise BundleError(f"{self._file} is missing, without which this loop cannot go on; take another folder")
        tensors, record = load_tensors(self._file) if self._file.exists() else ({}, {"step": 0, "round": 0})
        self._growing = GrowingCache()
        self._step, self._round = int(record["step"]), int(record["round"])
        for earlier in range(self._round + 1):
            files = EpisodeStore(settings.episodes(earlier)).own_files()
            if earlier == self._round:
                self.episodes = int(record.get("episodes", len(files)))
                # By their numbers, since some may have been set aside
                files = [file for file in files if int(file.stem) < self.episodes]
            for file in files:
                self._growing.append(read_episode(file))
        env = make_real_env(settings.real)
        env.close()
        self._env, self._action_space = env, env.action_space
        self._recorder = TensorBoardRecorder(settings.run_dir / "tensorboard")
        self._device = usable_device(options.train.device)
        job: Job[Any] = Job(
            options.train.options,
            self._growing.cache(),
            settings.real,
            self._action_space,
            settings.run_dir,
            seed=settings.seed,
            device=self._device,
            progress=settings.of_round(number),
            recorder=self._recorder,
        )
        self.fit = RECIPES[options.train.recipe]().continual(job, below("fit.", tensors) or None)
        self._live = self._model()
        self.agent = options.make_learner().live(self._live, seed=settings.seed, checkpoint=self._file)
        if tensors:
            self.agent.load(below("agent.", tensors))
        self._saved = time.monotonic()
        self._sums: dict[str, list[float]] = {}

    def enter(self, number: int) -> None:
        """Begin round `number`, unless it has begun."""
        if number != self._round:
            self._round, self.episodes = number, 0

    def take(self, episode: Episode) -> None:
        """Learn from this episode too, from the next `catch_up` on."""
        self._growing.append(episode)
        self.episodes += 1

    def catch_up(self) -> None:
        """Update until each real action has been replayed `train_ratio` times."""
        ratio = self._settings.options.train_ratio or 0.0
        wanted = math.floor(ratio * self._growing.steps / self.fit.replayed)
        if self._step >= wanted:
            return
        self.fit.take(self._growing.cache())
        while self._step < wanted:
            self._update(self._step)
            self._step += 1
            if self._step % _STEPS_BETWEEN_REPORTS == 0:
                self._report(wanted)
            if time.monotonic() - self._saved > _SECONDS_BETWEEN_CHECKPOINTS:
                self.save()

    def _update(self, step: int) -> None:
        """One step of the model, and one of the agent in dreams from the moments that the model has replayed."""
        found, replayed = self.fit.update(step)
        for part, scalars in (("model", found), ("agent", self.agent.update(replayed, step))):
            for name, value in scalars.items():
                self._sums.setdefault(f"{part}/{name}", []).append(value)

    def _report(self, wanted: int) -> None:
        means = {name: float(np.mean(values)) for name, values in self._sums.items()}
        self._sums = {}
        self._recorder.scalars("learn", self._step, means)
        self._settings.progress(f"round {self._round} learn", self._step, wanted, means)

    def save(self) -> None:
        """Write the checkpoint."""
        tensors = {f"fit.{name}": part for name, part in self.fit.tensors().items()}
        tensors |= {f"agent.{name}": part for name, part in self.agent.tensors().items()}
        save_tensors(self._file, tensors, {"step": self._step, "round": self._round, "episodes": self.episodes})
        self._saved = time.monotonic()

    def played(self, players: LiveEpisodes, plays: Sequence[Play]) -> Iterator[tuple[int, bytes]]:
        """Episodes by the agent as it is now, as `LiveEpisodes.play` gives them."""
        return players.play(self._live, self.agent.as_it_is(), plays)

    def world_model(self, provenance: dict[str, Any]) -> WorldModel:
        """The model as it is, with start states of the episodes so far."""
        options, cache = self._settings.options, self._growing.cache()
        self.fit.take(cache)  # the last episodes may have brought no update
        self.fit.finish()
        starts = make_start_states(
            self.fit.memory,
            cache,
            self.fit.embed(cache),
            episodes=np.arange(cache.episodes),  # it has learned from all of them
            replay=options.train.replay_starts,
            margin=self._settings.real.margin_actions,
            seed=self._seed,
        )
        model = self._model(starts)
        model.provenance = self._settings.provenance | provenance
        model.provenance |= {
            "seed": self._seed,
            "recipe": options.train.recipe,
            "options": plain(options.train.options),
        }
        return model

    def _model(self, starts: StartStates | None = None) -> WorldModel:
        settings, nothing = self._settings, StartStates(torch.zeros(0, self.fit.memory.embedding_size))
        return WorldModel(
            self.fit.vision,
            self.fit.memory,
            at_own_speed(settings.real, self._env),
            self._action_space,
            starts or nothing.to(self._device),
            max_episode_steps=settings.max_episode_steps or time_limit(settings.real, self._env, self._growing.cache()),
            temperature=settings.options.train.temperature,
        )
