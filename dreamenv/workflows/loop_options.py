"""Hyperparameters of the loop."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from dreamenv.errors import ConfigurationError
from dreamenv.options import options_from
from dreamenv.training.pipeline import TrainOptions
from dreamenv.training.recipes.base import Recipe
from dreamenv.training.recipes.kinds import RECIPES
from dreamenv.workflows.learners import LEARNERS, Learner, make_learner

# Folders of rounds are in the order of their names, and the seeds of one run do not meet those of the next
_MOST_ROUNDS = 100


@dataclass(frozen=True)
class LoopOptions:
    """Hyperparameters of `run_loop`.

    Attributes:
        rounds: Rounds, at most 100, the first from exploration alone.
        first_frames: Real frames that the first round explores.
        max_frames: Real frames that the whole loop consumes at most, validation included, as far as can be told before
            a round: from the third on none begins that would pass them if it consumed as many as the one before. None
            sets no limit.
        greedy_episodes: Episodes without noise that each later round collects, in expectation.
        noisy_episodes: Episodes with noise that each later round collects; the sum of both is exact.
        train: The recipe and its options. A later round starts from the model before, with what the recipe's `refit`
            makes of them.
        curious_rounds: So many rounds, the first ones, leave an agent that learns to go where the members of the
            ensemble disagree, in place of the reward, and collects for the round that follows (Sekar et al. 2020,
            "Planning to explore via self-supervised world models"). The first agent that learns for the reward begins
            afresh. A planner that is scored by validation episodes plans for the reward in every round, in the curious
            ones guided, if at all, by what has learned for disagreement. By rounds only.
        train_ratio: Real actions that are replayed for each one collected. By rounds it sets the length of a later
            round's fit, and None takes that from the recipe's options.
        update_every: The grain. None fits model and agent once a round. A number learns continually, as Dreamer does:
            after so many real actions (at the end of the episode in which they are reached) model and agent go on
            learning until `train_ratio` is met, and the next episode is played by what they have become. Model,
            agent and validation of each round are kept as by rounds.
        episodes_at_once: Learning continually, episodes that are played with the same weights. One is played in this
            process; several by the loop's workers, side by side, which pays where learning is much faster than playing,
            as on a GPU. Without workers (0) a planner decides for all of them in one batch, many times faster where a
            decision is small; so it does for as many validation episodes.
        learner: What learns in the dream: "actor-critic", "actor-critic:NAME,SETTING=VALUE" (the planner of that name
            plays, guided by it), "evolve", "planner:NAME,SETTING=VALUE", "sb3:ALGORITHM", or a kind of
            `register_learner`. A later round goes on from the agent of the round before.
        agent: The learner's options: its own dataclass (`ImaginationOptions`, `EvolutionOptions`, `SB3Options`), or a
            mapping, which becomes one; None takes its defaults.
        validation_episodes: Real episodes that score each round's agent.
        best_over: The best round is the one behind which the validation episodes of so many rounds, itself and those
            before it, have the highest mean. 1 trusts each round's own, which suits many episodes a round; of two or
            three a round the highest is the luckiest.
        dreams: Whole dreams of each round, whose mean return is set beside the real one. None has as many as the
            learner wants: 64, and 4 of a planner, which plans each of their actions.
    """

    rounds: int = 6
    first_frames: int = 200_000
    max_frames: int | None = None
    greedy_episodes: int = 8
    noisy_episodes: int = 16
    curious_rounds: int = 0
    train: TrainOptions = field(default_factory=TrainOptions)
    train_ratio: float | None = None
    update_every: int | None = None
    episodes_at_once: int = 1
    learner: str = "actor-critic"
    agent: Any = None
    validation_episodes: int = 10
    best_over: int = 1
    dreams: int | None = None

    def __post_init__(self) -> None:
        kind = LEARNERS[self.learner.partition(":")[0]]
        object.__setattr__(self, "agent", options_from(kind.options_type, self.agent, where=self.learner))
        learner, recipe = self.make_learner(), RECIPES[self.train.recipe]
        if self.update_every is not None:
            self._check_continual(learner)
        least = min(self.rounds, self.first_frames, self.validation_episodes, self.best_over)
        if least < 1 or self.rounds > _MOST_ROUNDS:
            raise ConfigurationError(
                "rounds, first_frames, validation_episodes and best_over must be at least 1, and rounds at most "
                f"{_MOST_ROUNDS}; got {self.rounds}, {self.first_frames}, {self.validation_episodes}, {self.best_over}"
            )
        for name in ("max_frames", "dreams"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ConfigurationError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.curious_rounds < 0 or (self.curious_rounds and self.update_every is not None):
            raise ConfigurationError(
                f"curious_rounds={self.curious_rounds}, update_every={self.update_every}: curious_rounds must be at "
                "least 0, and curiosity learns by rounds; leave update_every out"
            )
        if self.train_ratio is not None and not 0 < self.train_ratio < math.inf:
            raise ConfigurationError(f"train_ratio must be a finite number above 0, got {self.train_ratio}")
        if self.update_every is not None and (self.update_every < 1 or self.train_ratio is None):
            raise ConfigurationError(
                f"update_every={self.update_every}, train_ratio={self.train_ratio}: update_every must be at least 1, "
                "and it needs a train_ratio, which is how many actions to replay for each real one"
            )
        if self.episodes_at_once < 1 or (self.episodes_at_once > 1 and self.update_every is None):
            raise ConfigurationError(
                f"episodes_at_once={self.episodes_at_once}, update_every={self.update_every}: episodes_at_once must be "
                "at least 1, and it is for a loop that learns continually; by rounds, workers always play side by side"
            )
        if min(self.greedy_episodes, self.noisy_episodes) < 0 or self.greedy_episodes + self.noisy_episodes < 1:
            raise ConfigurationError(
                "a later round needs episodes: greedy_episodes and noisy_episodes are at least 0 and together at least "
                f"1, got {self.greedy_episodes} and {self.noisy_episodes}"
            )
        self._check_recipe(recipe)
        self._check_windows(learner, recipe)

    def _check_recipe(self, recipe: type[Recipe[Any]]) -> None:
        asked = {
            "curious_rounds": self.curious_rounds,
            "agent.max_disagreement": getattr(self.agent, "max_disagreement", None),
        }
        for name, value in asked.items():
            if value and not recipe.disagrees:
                raise ConfigurationError(
                    f"{name}={value}: models of the recipe {self.train.recipe!r} have no members that could disagree; "
                    "take the recipe 'ensemble'"
                )
        if self.update_every is not None and not recipe.learns_continually():
            raise ConfigurationError(
                f"the recipe {self.train.recipe!r} fits V and M once a round: leave update_every out, or take 'rssm' "
                "or 'value_equivalent'"
            )

    def _check_windows(self, learner: Learner[Any], recipe: type[Recipe[Any]]) -> None:
        if self.update_every is not None and recipe.windows:
            return
        for name in learner.windows_only:
            if getattr(self.agent, name):
                raise ConfigurationError(
                    f"agent.{name}={getattr(self.agent, name)} learns from what really followed the moments that are "
                    "replayed, which only a continual loop of the recipe 'rssm' tells: leave it out, or take "
                    "update_every and that recipe"
                )

    def _check_continual(self, learner: Learner[Any]) -> None:
        if not learner.continual:
            raise ConfigurationError(
                f"learner={self.learner!r} learns by rounds: leave update_every out, or take 'actor-critic' or a "
                "planner"
            )
        for name in learner.by_rounds_only:
            if getattr(self.agent, name):
                raise ConfigurationError(
                    f"agent.{name}={getattr(self.agent, name)} has no use where the agent learns while the model does: "
                    "leave it out, or update_every"
                )

    def make_learner(self) -> Learner[Any]:
        """What `learner` and `agent` say."""
        return make_learner(self.learner, self.agent)
