"""Hyperparameters of the loop."""

from __future__ import annotations

from dataclasses import dataclass, field

from dreamenv.agents.options import ImaginationOptions
from dreamenv.errors import ConfigurationError
from dreamenv.training.pipeline import TrainOptions


@dataclass(frozen=True)
class LoopOptions:
    """Hyperparameters of `run_loop`.

    Attributes:
        rounds: Rounds, the first from exploration alone.
        first_frames: Real frames that the first round explores.
        greedy_episodes: Episodes without noise that each later round collects, in expectation.
        noisy_episodes: Episodes with noise that each later round collects; the sum of both is exact.
        train: The recipe and its options. A later round starts from the model before, with what the recipe's `refit`
            makes of them.
        train_ratio: Real actions that are replayed for each one collected. By rounds it sets the length of a later
            round's fit, and None takes that from the recipe's options.
        update_every: The grain. None fits model and agent once a round. A number learns continually, as Dreamer does:
            after so many real actions (at the end of the episode in which they are reached) model and agent go on
            learning until `train_ratio` is met, and the next episode is played by what they have become. Model,
            agent and validation of each round are kept as by rounds.
        agent: The actor-critic; a later round starts from the round before.
        validation_episodes: Real episodes that score each round's agent.
    """

    rounds: int = 6
    first_frames: int = 200_000
    greedy_episodes: int = 8
    noisy_episodes: int = 16
    train: TrainOptions = field(default_factory=TrainOptions)
    train_ratio: float | None = None
    update_every: int | None = None
    agent: ImaginationOptions = field(default_factory=ImaginationOptions)
    validation_episodes: int = 10

    def __post_init__(self) -> None:
        if min(self.rounds, self.first_frames, self.validation_episodes) < 1:
            raise ConfigurationError("rounds, first_frames and validation_episodes must be at least 1")
        if self.train_ratio is not None and not self.train_ratio > 0:
            raise ConfigurationError(f"train_ratio must be above 0, got {self.train_ratio}")
        if self.update_every is not None and (self.update_every < 1 or self.train_ratio is None):
            raise ConfigurationError(
                f"update_every={self.update_every}, train_ratio={self.train_ratio}: update_every must be at least 1, "
                "and it needs a train_ratio, which is how many actions to replay for each real one"
            )
        if min(self.greedy_episodes, self.noisy_episodes) < 0 or self.greedy_episodes + self.noisy_episodes < 1:
            raise ConfigurationError(
                "a later round needs episodes: greedy_episodes and noisy_episodes are at least 0 and together at least "
                f"1, got {self.greedy_episodes} and {self.noisy_episodes}"
            )
