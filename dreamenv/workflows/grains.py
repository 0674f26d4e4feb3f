"""How finely the loop alternates between reality and learning: a fit a round, or updates after every episode."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from dreamenv.agents.exploration import FACTORIES
from dreamenv.data.collect import Collected, collect
from dreamenv.data.explore import Exploration
from dreamenv.training.fit import Scalars
from dreamenv.training.ledger import record_frames
from dreamenv.training.pipeline import TrainOptions, train
from dreamenv.training.recipes.kinds import RECIPES
from dreamenv.types import Episode, RealEnvSpec
from dreamenv.workers import AnyWorkers
from dreamenv.workflows.learners import Player
from dreamenv.workflows.live import NOISE
from dreamenv.workflows.loop_options import LoopOptions
from dreamenv.world_model import WorldModel

# The round's bundle with the disagreement as its reward
_CURIOUS = "curious_bundle"


@dataclass(frozen=True)
class Settings:
    """What a loop was called with; see `run_loop`."""

    real: RealEnvSpec
    run_dir: Path
    options: LoopOptions
    explore: tuple[Exploration, ...]
    max_episode_steps: int | None
    workers: AnyWorkers
    seed: int
    provenance: dict[str, Any]
    progress: Callable[[str, int, int, Scalars], None]

    def folder(self, number: int) -> Path:
        """Where round `number` keeps its work."""
        return self.run_dir / "rounds" / f"{number:02d}"

    def episodes(self, number: int) -> Path:
        """Where round `number` keeps its episodes."""
        return self.run_dir / "episodes" / f"{number:02d}"

    def of_round(self, number: int) -> Callable[[str, int, int, Scalars], None]:
        """The progress of a stage of round `number`."""
        return partial(_in_round, self.progress, number)

    def exploration(self) -> Collected:
        """Collect the first round's episodes."""
        return collect(
            self.real,
            self.episodes(0),
            explore=self.explore,
            frames=self.options.first_frames,
            workers=self.workers,
            seed=self.seed * 100,
            factories=FACTORIES,
        )


class Learned(NamedTuple):
    """What a round has collected, and the agent that it has learned."""

    collected: Collected
    player: Player


class Grain(ABC):
    """A loop's rounds, each of which leaves a bundle and an agent in its folder.

    A round that was killed ends as an unbroken one when it is called again.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @abstractmethod
    def round(self, number: int) -> Learned:
        """Round `number`, whose predecessors have ended; leaves `bundle/` and `agent/` in its folder."""

    @abstractmethod
    def held_out(self, model: WorldModel, played: Sequence[Episode]) -> Scalars:
        """Figures of a round's model on episodes that it has not learned from.

        Args:
            model: The round's, as it was saved.
            played: The round's validation episodes.
        """


class ByRounds(Grain):
    """Collect, fit by the recipe, learn in the dream."""

    def round(self, number: int) -> Learned:
        settings, options, seed = self.settings, self.settings.options, self.settings.seed
        folder = settings.folder(number)
        before = settings.folder(number - 1) if number else None
        collected = self._collect(number, before)
        record_frames(settings.run_dir, f"collect {number}", collected.real_frames)
        if not (folder / "bundle" / "config.json").exists():  # the file that a bundle is finished with
            train(
                settings.real,
                folder,
                _train_options(options, number, seed, -(-collected.real_frames // settings.real.action_repeat)),
                episodes=settings.run_dir / "episodes",
                begin=WorldModel.load(before / "bundle") if before else None,
                max_episode_steps=settings.max_episode_steps,
                provenance=settings.provenance | {"round": number},
                progress=settings.of_round(number),
            )
        # The agent learns in the very dream that is kept
        model = WorldModel.load(folder / "bundle")
        curious = number < options.curious_rounds
        if curious:
            model = model.with_bonus(1.0, reward=0.0)
            model.save(folder / _CURIOUS)
        changed = number == options.curious_rounds  # what was learned of curiosity is no help for the reward
        player = options.make_learner().learn(
            model,
            folder / "agent",
            before=before / "agent" if before and not changed else None,
            seed=seed * 1000 + number,
            progress=partial(settings.of_round(number), "agent"),
        )
        return Learned(collected, player)

    def held_out(self, model: WorldModel, played: Sequence[Episode]) -> Scalars:
        found: Scalars = model.provenance["held_out"]
        return found

    def _collect(self, number: int, before: Path | None) -> Collected:
        settings, options = self.settings, self.settings.options
        if before is None:
            return settings.exploration()
        player = options.make_learner().player(before / "agent")
        dream = before / (_CURIOUS if number - 1 < options.curious_rounds else "bundle")
        seeing = {"world_model": str(dream), "agent": player.agent}
        if player.algo is not None:
            seeing["algo"] = player.algo
        greedy, noisy = options.greedy_episodes, options.noisy_episodes
        policies = [
            Exploration("agent", max(greedy, 1e-9), seeing | {"probability": [0.0, 0.0]}),
            Exploration("agent", max(noisy, 1e-9), seeing | {"probability": list(NOISE)}),
        ]
        return collect(
            settings.real,
            settings.episodes(number),
            explore=policies,
            episodes=greedy + noisy,
            workers=settings.workers,
            seed=settings.seed * 100 + number,
            factories=FACTORIES,
        )


def _in_round(
    progress: Callable[[str, int, int, Scalars], None], number: int, stage: str, step: int, steps: int, scalars: Scalars
) -> None:
    progress(f"round {number} {stage}", step, steps, scalars)


def _train_options(options: LoopOptions, number: int, seed: int, collected: int) -> TrainOptions:
    """The round's, in which `collected` real steps were taken."""
    first = replace(options.train, seed=seed)
    if number == 0:
        return first
    replayed = None if options.train_ratio is None else math.ceil(options.train_ratio * collected)
    return replace(first, options=RECIPES[first.recipe]().refit(first.options, replayed=replayed))
