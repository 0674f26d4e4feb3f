"""Hyperparameters of what learns inside a dream: `evolve` (and `score_population`), `train_actor_critic`, `distill`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from dreamenv.errors import ConfigurationError
from dreamenv.types import Start
from dreamenv.workers import AnyWorkers
from dreamenv.world_model import check_temperature

SLOW_CRITICS = ("target", "regulariser")
GRADIENTS = ("dynamics", "reinforce")
DISTILLED_VALUES = ("plan", "return")
# One of so many decisions is held out of a distillation's fit
HELD_OUT = 10


@dataclass(frozen=True)
class PopulationOptions:
    """How `score_population` dreams.

    Attributes:
        rollouts: R, dreams a candidate.
        horizon: Longest dream in actions; None takes the model's limit.
        temperature: Of the dream, at least 0; None takes the model's own.
        start: Where dreams begin; see `dreamenv.types.Start`.
        observation: What a controller reads, "features" or "latent".
        action_map: See `ActionMap`; None fits the action space.
        expected: Weigh each reward by the probability that the task still goes on, in place of ending the dream by
            chance: of the same mean, with the variance of the ends taken out (the Rao-Blackwell estimator). A dream
            leaves when less than `LEAST_REACHED` of it is left.
        action_noise: How much the dream disturbs actions; see `ActionNoise`. 0 disturbs none.
        reward_clip: The reward of each step is clipped to this range; None clips nothing.
        max_disagreement: Of a dream of an ensemble: it is cut, without the step's reward, where the members disagree by
            more, in standard deviations of a step's change (see `DreamEnv`); None cuts nothing.
        max_batch: Most dreams at once; larger populations are scored in parts, with the same numbers.
        compact_below: Ended dreams leave when the share of living ones falls below this; 0 keeps them all.
        precision: Of the dream's products, as for `DreamVectorEnv` with P * R dreams.
    """

    rollouts: int
    horizon: int | None = None
    temperature: float | None = None
    start: Start = "initial"
    observation: str = "features"
    action_map: str | None = None
    expected: bool = False
    action_noise: float = 0.0
    reward_clip: tuple[float, float] | None = None
    max_disagreement: float | None = None
    max_batch: int = 16384
    compact_below: float = 0.75
    precision: str = "auto"

    def __post_init__(self) -> None:
        for name in ("rollouts", "horizon", "max_batch"):
            _check_count(name, getattr(self, name))
        check_temperature(self.temperature)
        _check_guards(self)
        if not 0 <= self.compact_below <= 1:
            raise ConfigurationError(f"compact_below must be in [0, 1], got {self.compact_below}")


@dataclass(frozen=True)
class EvolutionOptions:
    """Hyperparameters of `evolve`.

    Attributes:
        generations: In all, those of interrupted calls included; a finished run goes on when it is raised.
        optimiser: "cma" (CMA-ES) or "openai" (OpenAI-ES).
        optimiser_options: Keyword arguments of the optimiser's constructor.
        population: Candidates a generation.
        rollouts: Dreams a candidate.
        horizon: Longest dream in actions; None takes the model's limit.
        temperature: Of the dream, at least 0; None takes the model's own.
        start: Where dreams begin; see `dreamenv.types.Start`.
        expected, action_noise, reward_clip, max_disagreement: As for `PopulationOptions`.
        sigma: Initial step size of the weights, above 0.
        observation: What the controller reads, "features" or "latent".
        action_map: See `ActionMap`; None fits the action space.
        max_batch: Most dreams at once; it changes no result.
        workers: Who dreams parts of the population, each on one thread (see `dreamenv.workers.find_place`); the result
            is the same for all of them, 0 included. None dreams the whole population at once in this process, on all
            of torch's threads, which rounds otherwise.
        part: Candidates that a worker dreams together; rounding depends on it. Without workers it has no effect.
    """

    generations: int = 100
    optimiser: str = "cma"
    optimiser_options: dict[str, Any] = field(default_factory=dict)
    population: int = 64
    rollouts: int = 16
    horizon: int | None = None
    temperature: float | None = None
    start: Start = "initial"
    expected: bool = False
    action_noise: float = 0.0
    reward_clip: tuple[float, float] | None = None
    max_disagreement: float | None = None
    sigma: float = 0.1
    observation: str = "features"
    action_map: str | None = None
    max_batch: int = 16384
    workers: AnyWorkers = None
    part: int = 16

    def __post_init__(self) -> None:
        for name in ("generations", "population", "rollouts", "horizon", "max_batch", "part"):
            _check_count(name, getattr(self, name))
        check_temperature(self.temperature)
        _check_guards(self)
        _check_positive("sigma", self.sigma)


@dataclass(frozen=True)
class ImaginationOptions:
    """Hyperparameters of `train_actor_critic`.

    Attributes:
        steps: Optimiser steps.
        batch_size: Dreams per step.
        horizon: Length of a dream in actions.
        discount: γ per action.
        trace: λ of the λ-return.
        learning_rate: Adam's, for actor and critic.
        critic_first: The first so many steps are the critic's alone, where the actor has learned before: a critic that
            knows nothing yet would spoil it.
        entropy: Weight of the policy's entropy in nats.
        replay_share: Share of dreams that start from replay states; the others start where dreams do.
        first_share: Share of dreams that start from the first observations of real episodes: they lie before a start
            margin, where no dream begins and yet the agent has to act in reality.
        target_rate: How far the slow critic moves at each step.
        reward_clip: Rewards are clipped to this range, so that one rare prediction does not carry the policy.
        reward_squash: S in S·tanh(r / S), which a reward r counts for once clipped; None counts it as it is.
            A discounted return pays for time that is saved, also where the task has no use for it: many small rewards
            then count for more than few large ones of the same sum.
        temperature: Of the dream; None takes the model's own.
        width: Hidden units of actor and critic.
        action_map: See `ActionMap`.
        gradient: Of the actor. "dynamics": through the dream's states and rewards (Hafner et al. 2020). "reinforce":
            the score of its actions times their advantage (Hafner et al. 2023), for which M is asked for dreams but
            never for its derivatives.
        gradient_clip: With gradient="dynamics", how many times the 0.9 quantile over all dreams the gradient of one
            dream with respect to a state may be long (`clip_gradients`); None leaves gradients as they are.
        value_bound: Largest value, on both sides of zero, that the critic can say. Returns beyond it count as the
            largest, and a warning says so.
        slow_critic: "target": the slow critic gives the values of returns (Hafner et al. 2020). "regulariser": the
            critic itself gives them and is drawn towards what the slow one says (Hafner et al. 2023).
        actor_average: How far a running mean of the actor's weights moves at each step (Polyak & Juditsky 1992). The
            mean plays and is kept, since single steps make an actor better and worse at random; None: the actor itself.
        replay_critic: Weight of the critic's loss on what really followed the moments that are replayed (0.3 in Dreamer
            V3), where the agent learns while the model does; 0 has the critic learn in dreams alone.
    """

    steps: int = 1500
    batch_size: int = 256
    horizon: int = 15
    discount: float = 0.97
    trace: float = 0.95
    learning_rate: float = 5e-4
    entropy: float = 1e-3
    replay_share: float = 0.9
    first_share: float = 0.0
    target_rate: float = 0.02
    reward_clip: tuple[float, float] | None = None
    reward_squash: float | None = None
    temperature: float | None = None
    width: int = 128
    action_map: str | None = None
    gradient: str = "dynamics"
    slow_critic: str = "target"
    replay_critic: float = 0.0
    critic_first: int = 0
    actor_average: float | None = None
    gradient_clip: float | None = None
    value_bound: float = 1000.0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "horizon", "width"):
            _check_count(name, getattr(self, name))
        for name in ("trace", "replay_share", "first_share", "target_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigurationError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if self.replay_share + self.first_share > 1:
            raise ConfigurationError(
                f"replay_share and first_share must be at most 1 together, got {self.replay_share}, {self.first_share}"
            )
        if not 0 < self.discount <= 1:
            raise ConfigurationError(f"discount must be in (0, 1], got {self.discount}")
        for name in ("entropy", "replay_critic", "critic_first"):
            if not getattr(self, name) >= 0:
                raise ConfigurationError(f"{name} must be at least 0, got {getattr(self, name)}")
        if self.gradient not in GRADIENTS:
            raise ConfigurationError(f"gradient={self.gradient!r} is not known; expected one of {GRADIENTS}")
        if self.slow_critic not in SLOW_CRITICS:
            raise ConfigurationError(f"slow_critic={self.slow_critic!r} is not known; expected one of {SLOW_CRITICS}")
        check_temperature(self.temperature)
        _check_clip(self.reward_clip)
        _check_positive("learning_rate", self.learning_rate)
        _check_positive("reward_squash", self.reward_squash)
        _check_positive("value_bound", self.value_bound)
        _check_positive("gradient_clip", self.gradient_clip)
        _check_rate("actor_average", self.actor_average)

    @property
    def counts_rewards_as_they_are(self) -> bool:
        """Whether no reward is clipped or squashed."""
        return self.reward_clip is None and self.reward_squash is None


@dataclass(frozen=True)
class DistillationOptions:
    """Hyperparameters of `distill` and `distill_environment`.

    Attributes:
        rounds: Times that the planner decides and the network learns; from the second on a planner that takes a guide,
            as all of dreamenv do, is guided by the network of the round before.
        decisions: Decisions of the planner in each round.
        window: Rounds whose decisions are learned from, the newest ones.
        dreams: Dreams that are played at once.
        part: Dreams of them that a worker plays together; rounding and random numbers depend on it. Without workers it
            has no effect.
        max_steps: Longest episode in actions; None takes the model's own limit.
        replay_share: Share of dreams that begin at moments of real episodes, where the model holds such.
        student_share: Share of steps in which the network of the round before acts, so that the planner decides where
            the network gets to.
        random_share: Share of steps with a random action.
        value: What the value learns: "plan", what the planner expects of its plan; or "return", the discounted return
            of the episode as it was played, up to its end or to what the planner expected where it was cut.
        discount: γ per action, in (0, 1]; of `distill_environment` also in [-1, 0), where two players take turns (see
            `search_environment`).
        steps: Optimiser steps of each round.
        batch_size: Decisions of a step.
        learning_rate: Adam's.
        value_weight: Of the value's loss next to the policy's.
        width: Units of the hidden layers.
    """

    rounds: int = 2
    decisions: int = 4000
    window: int = 3
    dreams: int = 16
    part: int = 4
    max_steps: int | None = None
    replay_share: float = 0.5
    student_share: float = 0.5
    random_share: float = 0.1
    value: str = "plan"
    discount: float = 0.99
    steps: int = 2000
    batch_size: int = 256
    learning_rate: float = 1e-3
    value_weight: float = 0.5
    width: int = 128

    def __post_init__(self) -> None:
        for name in ("rounds", "decisions", "window", "dreams", "part", "max_steps", "steps", "batch_size", "width"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise ConfigurationError(f"{name} must be at least 1, got {count}")
        for name in ("replay_share", "student_share", "random_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigurationError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if self.value not in DISTILLED_VALUES:
            raise ConfigurationError(f"value={self.value!r} is not known; expected one of {DISTILLED_VALUES}")
        if not (0 < abs(self.discount) <= 1 and self.learning_rate > 0 and self.value_weight >= 0):
            raise ConfigurationError(
                "need discount in (0, 1] or [-1, 0), learning_rate above 0 and value_weight of at least 0; got "
                f"{self.discount}, {self.learning_rate}, {self.value_weight}"
            )
        if self.decisions < 2 * HELD_OUT:
            raise ConfigurationError(
                f"decisions={self.decisions}: a tenth is held out of the fit, so at least {2 * HELD_OUT} are needed"
            )


def _check_count(name: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise ConfigurationError(f"{name} must be at least 1, got {value}")


def _check_positive(name: str, value: float | None) -> None:
    if value is not None and not 0 < value < math.inf:
        raise ConfigurationError(f"{name} must be above 0 and finite, got {value}")


def _check_rate(name: str, value: float | None) -> None:
    if value is not None and not 0 < value <= 1:
        raise ConfigurationError(f"{name} must be in (0, 1], got {value}")


def _check_guards(options: PopulationOptions | EvolutionOptions) -> None:
    """Against exploitation: noise, clipping and cuts."""
    if not 0 <= options.action_noise < math.inf:
        raise ConfigurationError(f"action_noise must be at least 0 and finite, got {options.action_noise}")
    _check_clip(options.reward_clip)
    _check_positive("max_disagreement", options.max_disagreement)


def _check_clip(clip: tuple[float, float] | None) -> None:
    if clip is not None and not (len(clip) == 2 and clip[0] < clip[1]):
        raise ConfigurationError(f"reward_clip must be (least, most), got {clip}")
