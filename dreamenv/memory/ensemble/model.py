"""A probabilistic ensemble: several Gaussian networks that disagree where they have no data."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium as gym
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreamenv.errors import ConfigurationError, did_you_mean
from dreamenv.memory.actions import ActionEncoder
from dreamenv.memory.base import LatentMixture, MemoryModel, Outcome, PlainStepper, Prediction, Stepper, outcome_of
from dreamenv.memory.ensemble.members import Gaussian, GaussianMembers
from dreamenv.memory.heads import TerminationHead, masked_mean
from dreamenv.memory.sequences import SequenceBatch
from dreamenv.noise.base import DreamNoise, Noise, as_noise

PROPAGATIONS = ("step", "episode")
TERMINATIONS = ("sample", "cut")
DISAGREEMENT = "disagreement"
_LEAST_VARIANCE = 1e-16
# Files hold finite numbers only
_UNBOUNDED = torch.finfo(torch.float32).max
# Standard deviations of the real latents from their mean, beyond which no dream goes
_FARTHEST = 1000.0
TerminationFunction = Callable[[Tensor, Tensor, Tensor], Tensor]


class EnsembleState(NamedTuple):
    """One moment of B dreams.

    Attributes:
        latent: `[B, Z]`.
        member: `[B]` int64, the member that dreams the row on ("episode"); with "step" it is drawn anew each step.
    """

    latent: Tensor
    member: Tensor


class ProbabilisticEnsemble(MemoryModel[EnsembleState]):
    """M without memory: E networks, each a Gaussian over the next latent and the reward (Chua et al. 2018, "Deep
    reinforcement learning in a handful of trials using probabilistic dynamics models", section 4; used for branched
    dreams by Janner et al. 2019, "When to trust your model: model-based policy optimization").

    The networks read the normalised latent and action and predict the change of the latent and the reward, normalised,
    with learned variances whose bounds are learned too (appendix A.1 of Chua et al.). The spread of the members' means
    is what the ensemble does not know; the variances are what cannot be known. It suits vector observations that hold
    all there is to know (`IdentityVision`); pictures want a memory, such as `MDNRNN`.

    Departures: a dream's reward is the expected one, not a sample, and stays within `reward_range`: off the data a
    network goes on in a straight line, and an agent would look for where it leads. For the same reason latents stay
    within a thousand standard deviations of their mean, which a million real moments do not leave: a dream that grows
    by a tenth a step would pass what numbers can hold. Ends are predicted by a head that
    all members share, which reads the normalised latent, action and next latent, where the sources are given a function
    for each environment. Such a function may be given as `termination_fn`; it then decides the ends of dreams, and the
    head is still trained. It is code and is not saved: a loaded bundle uses the head until the attribute is set again.

    Args:
        latent_size: Z.
        action_space: Discrete, or Box of one dimension.
        members: E.
        elites: Members that dream, those of the lowest held-out loss (Janner et al.: 5 of 7).
        hidden_size: Width of the hidden layers.
        layers: Hidden layers.
        propagation: "step" draws one of the elites for each row and step (TS1 of Chua et al., MBPO; at temperature 0 it
            takes the mean of their predictions); "episode" keeps the member that was drawn at the row's start (TS∞).
        termination: "sample" or "cut", as for `MDNRNN`.
        termination_weight: Weight of ends in the termination loss.
        reward_weight: What the members' rewards count in those of the dream.
        bonus: What the disagreement counts there; above 0, agents are paid for what the ensemble does not know yet.
        termination_fn: `(latent [B, Z], action, next latent [B, Z]) -> [B] bool`.

    Attributes:
        reward_range: `[2]`, the least and the largest reward that is dreamed, in units of the real environment; without
            a bound until `set_scale` has seen data.

    Raises:
        ConfigurationError: A number out of range, or an unknown propagation or termination.
    """

    markov = True
    memoryless = True
    terminations = TERMINATIONS
    figures = (DISAGREEMENT,)
    latent_mean: Tensor
    latent_std: Tensor
    change_mean: Tensor
    change_std: Tensor
    elite_members: Tensor
    reward_range: Tensor

    def __init__(  # noqa: PLR0913  (they are the model's configuration)
        self,
        latent_size: int,
        action_space: gym.Space[Any],
        members: int = 7,
        elites: int = 5,
        *,
        hidden_size: int = 200,
        layers: int = 4,
        propagation: str = "step",
        termination: str = "sample",
        termination_weight: float = 1.0,
        reward_weight: float = 1.0,
        bonus: float = 0.0,
        termination_fn: TerminationFunction | None = None,
    ) -> None:
        super().__init__()
        if min(latent_size, hidden_size, layers) < 1:
            raise ConfigurationError(
                f"latent_size, hidden_size, layers must be at least 1; got {latent_size}, {hidden_size}, {layers}"
            )
        if not 1 <= elites <= members:
            raise ConfigurationError(f"need 1 <= elites <= members, got elites={elites} and members={members}")
        for name, value, known in (
            ("propagation", propagation, PROPAGATIONS),
            ("termination", termination, TERMINATIONS),
        ):
            if value not in known:
                raise ConfigurationError(f"{name}={value!r} is not known. {did_you_mean(str(value), known)}")
        self.embedding_size = self.latent_size = self.feature_size = latent_size
        self.members = members
        self.elites = elites
        self.hidden_size = hidden_size
        self.layers = layers
        self.propagation = propagation
        self.termination = termination
        self.termination_fn = termination_fn
        self.reward_weight, self.bonus = _checked_weights(reward_weight, bonus)
        self.action_encoder = ActionEncoder(action_space)
        inputs = latent_size + self.action_encoder.size
        outputs = latent_size + 1
        self.networks = GaussianMembers(members, inputs, outputs, hidden_size=hidden_size, layers=layers)
        self.termination_head = TerminationHead(inputs + latent_size, weight=termination_weight, width=64)
        self.register_buffer("latent_mean", torch.zeros(latent_size))
        self.register_buffer("latent_std", torch.ones(latent_size))
        self.register_buffer("change_mean", torch.zeros(outputs))
        self.register_buffer("change_std", torch.ones(outputs))
        self.register_buffer("elite_members", torch.arange(elites))
        self.register_buffer("reward_range", torch.tensor([-_UNBOUNDED, _UNBOUNDED]))

    @property
    def state_type(self) -> type[EnsembleState]:
        return EnsembleState

    def config(self) -> dict[str, Any]:
        return {
            "kind": "probabilistic_ensemble",
            "latent_size": self.latent_size,
            "members": self.members,
            "elites": self.elites,
            "hidden_size": self.hidden_size,
            "layers": self.layers,
            "propagation": self.propagation,
            "termination": self.termination,
            "termination_weight": self.termination_head.weight,
            "reward_weight": self.reward_weight,
            "bonus": self.bonus,
        }

    def with_bonus(self, bonus: float, *, reward: float = 1.0) -> ProbabilisticEnsemble:
        other = copy.copy(self)
        other.reward_weight, other.bonus = _checked_weights(reward, bonus)
        return other

    def stepper(self, rows: int, *, precision: str = "auto", compiled: bool = False) -> Stepper[EnsembleState]:
        super().stepper(rows, precision=precision, compiled=compiled)  # refuses what there is not
        return _EnsembleStepper(self)

    def initial(self, embedding: Tensor, *, noise: torch.Generator | Noise) -> EnsembleState:
        return EnsembleState(embedding, self._draw_members(len(embedding), as_noise(noise)))

    def branch(self, state: EnsembleState, times: int, *, noise: torch.Generator | Noise) -> EnsembleState:
        """Branches of "episode" get a member each, as particles do at the start of a plan (Chua et al., algorithm
        1)."""
        branches = super().branch(state, times, noise=noise)
        if self.propagation == "step":
            return branches
        return branches._replace(member=self._draw_members(len(branches.latent), as_noise(noise)))

    @property
    def termination_threshold(self) -> float:
        return self.termination_head.threshold

    def features(self, state: EnsembleState) -> Tensor:
        return state.latent

    def latent(self, state: EnsembleState) -> Tensor:
        return state.latent

    def observe(
        self, state: EnsembleState, action: Tensor, embedding: Tensor, *, noise: torch.Generator | Noise
    ) -> tuple[EnsembleState, Prediction]:
        noise = as_noise(noise)
        member = self._members_of_step(state, noise)
        encoded = self.action_encoder(action)
        mean, _ = self._by_member(state.latent, encoded, member)
        apart = self.disagreement(state, action)
        prediction = self._predict(state.latent, action, encoded, embedding, mean[:, -1], noise, apart=apart)
        return EnsembleState(embedding, member), prediction

    def imagine(
        self,
        state: EnsembleState,
        action: Tensor,
        *,
        noise: torch.Generator | Noise,
        temperature: float = 1.0,
    ) -> tuple[EnsembleState, Prediction]:
        """As `MemoryModel.imagine`; the disagreement, which asks all members, is left out unless rewards hold it."""
        return self.step(state, action, noise=as_noise(noise), temperature=temperature, everyone=self.bonus != 0)

    def step(
        self, state: EnsembleState, action: Tensor, *, noise: Noise, temperature: float, everyone: bool
    ) -> tuple[EnsembleState, Prediction]:
        """`imagine`, and with `everyone` all members are asked and the prediction holds their disagreement."""
        encoded = self.action_encoder(action)
        mode = temperature == 0
        member = state.member if mode else self._members_of_step(state, noise)
        mean_of_all = mode and self.propagation == "step"
        said = self.gaussian(state.latent, action) if everyone or mean_of_all else None
        if said is None:
            mean, log_variance = self._by_member(state.latent, encoded, member)
        elif mean_of_all:
            # The mode of a mixture of members whose means lie close together
            mean, log_variance = (part[self.elite_members].mean(0) for part in said)
        else:
            mean, log_variance = (part[member, torch.arange(len(member), device=member.device)] for part in said)
        spread = (0.5 * log_variance[:, :-1]).exp() * math.sqrt(temperature)
        change = mean[:, :-1] + spread * noise.normal(len(member), self.latent_size)
        latent = state.latent + change * self.change_std[:-1] + self.change_mean[:-1]
        farthest = _FARTHEST * self.latent_std
        latent = latent.clamp(self.latent_mean - farthest, self.latent_mean + farthest)
        apart = self._apart(said) if said is not None and everyone else None
        prediction = self._predict(state.latent, action, encoded, latent, mean[:, -1], noise, mode=mode, apart=apart)
        return EnsembleState(latent, member), prediction

    def embedding_of(self, seen: Tensor, kind: str) -> Tensor:
        return seen

    def predicted_latent(self, state: EnsembleState, action: Tensor, *, temperature: float = 1.0) -> LatentMixture:
        """The elites, each of the same weight; of "episode" the row's own member."""
        parts = [part[..., :-1] for part in self.gaussian(state.latent, action)]
        if self.propagation == "episode":
            parts = [part[state.member, torch.arange(part.shape[1])].unsqueeze(0) for part in parts]
        else:
            parts = [part[self.elite_members] for part in parts]
        if temperature == 0:
            parts = [part.mean(0, keepdim=True) for part in parts]
        mean, log_variance = (part.movedim(0, 1) for part in parts)
        return LatentMixture(
            torch.full_like(mean, 1 / mean.shape[1]),
            state.latent.unsqueeze(1) + mean * self.change_std[:-1] + self.change_mean[:-1],
            (0.5 * log_variance).exp() * math.sqrt(temperature) * self.change_std[:-1],
        )

    def with_latent(self, state: EnsembleState, latent: Tensor) -> EnsembleState:
        return state._replace(latent=latent)

    def normalise(self, latent: Tensor) -> Tensor:
        """Latents in the units in which the networks read them."""
        return (latent - self.latent_mean) / self.latent_std

    def gaussian(self, latent: Tensor, action: Tensor) -> Gaussian:
        """What all members say in normalised units, `[E, B, Z + 1]`: the change of the latent, then the reward.

        Args:
            latent: `[E, B, Z]`, or `[B, Z]` for all members.
            action: `[E, B, A]` (Box) or `[E, B]` (Discrete), or without the first axis for all members.
        """
        inputs = torch.cat([self.normalise(latent), self.action_encoder(action)], dim=-1)
        if inputs.dim() == 2:
            inputs = inputs.unsqueeze(0).expand(self.members, -1, -1)
        return self.networks(inputs)

    def disagreement(self, state: EnsembleState, action: Tensor) -> Tensor:
        """`[B]`: how far the elites' expected next latents lie apart, the root mean square over dimensions of their
        standard deviations, in standard deviations of the change of the latent. Differentiable; near 0 on data, larger
        off it (the epistemic part of Chua et al., section 4)."""
        return self._apart(self.gaussian(state.latent, action))

    def _apart(self, said: Gaussian) -> Tensor:
        means = said.mean[self.elite_members, :, :-1]
        # The root has no slope at 0, where all say the same
        return means.var(0, unbiased=False).mean(-1).clamp(min=_LEAST_VARIANCE).sqrt()

    @torch.no_grad()
    def set_scale(self, latents: Tensor, next_latents: Tensor, rewards: Tensor) -> None:
        """Take the units from `[N, Z]`, `[N, Z]` and `[N]` of real transitions; what is constant keeps a scale of 1.

        Dreamed rewards may go beyond the real ones by as much as these lie apart, and no further.
        """
        outcome = torch.cat([next_latents - latents, rewards.unsqueeze(1)], 1)
        for values, mean, std in (
            (latents, self.latent_mean, self.latent_std),
            (outcome, self.change_mean, self.change_std),
        ):
            center, spread = values.double().mean(0), values.double().std(0, unbiased=False)
            mean.copy_(center)
            std.copy_(torch.where(spread > 1e-6 * (1 + center.abs()), spread, 1.0))
        least, most = rewards.aminmax()
        self.reward_range.copy_(torch.stack([least - (most - least), most + (most - least)]))

    def likelihood(
        self, latent: Tensor, action: Tensor, next_latent: Tensor, reward: Tensor, *, beta: float = 0.0
    ) -> Tensor:
        """Negative log-likelihood `[E, B, Z + 1]` in nats (normalised units), the reward in the last column.

        Shapes as for `gaussian`; `reward` is `[E, B]` or `[B]`; `beta` as in `EnsembleFitOptions`.
        """
        outcome = torch.cat([next_latent - latent, reward.unsqueeze(-1)], dim=-1)
        return self.gaussian(latent, action).nll((outcome - self.change_mean) / self.change_std, beta)

    def termination_loss(self, latent: Tensor, action: Tensor, next_latent: Tensor, terminated: Tensor) -> Tensor:
        """Weighted cross-entropy in nats of the head, of the shape of `terminated`."""
        return self.termination_head.loss(
            self._transition(latent, self.action_encoder(action), next_latent), terminated
        )

    def loss(self, batch: SequenceBatch) -> dict[str, Tensor]:
        """`loss` = `latent_nll` + `reward` + `termination` + the penalty on the variances' bounds. All members see the
        same steps; `fit_ensemble` gives each its own. In nats a latent dimension, nats, and nats."""
        latents, actions = batch.latents[:, :-1].flatten(0, 1), batch.actions.flatten(0, 1)
        targets, rewards = batch.targets.flatten(0, 1), batch.rewards.flatten()
        nll = self.likelihood(latents, actions, targets, rewards).mean(0)
        latent_nll = masked_mean(nll[:, :-1].mean(-1), batch.latent_mask.flatten())
        reward = masked_mean(nll[:, -1], batch.mask.flatten())
        ends = self.termination_loss(latents, actions, targets, batch.terminated.flatten())
        termination = masked_mean(ends, batch.mask.flatten())
        return {
            "loss": latent_nll + reward + termination + self.networks.bound_penalty(),
            "latent_nll": latent_nll.detach(),
            "reward": reward.detach(),
            "termination": termination.detach(),
        }

    def _by_member(self, latent: Tensor, encoded: Tensor, member: Tensor) -> Gaussian:
        return self.networks.by_member(torch.cat([self.normalise(latent), encoded], dim=-1), member)

    def _members_of_step(self, state: EnsembleState, noise: Noise) -> Tensor:
        return state.member if self.propagation == "episode" else self._draw_members(len(state.latent), noise)

    def _draw_members(self, rows: int, noise: Noise) -> Tensor:
        drawn = (noise.uniform(rows, 1).squeeze(1) * self.elites).long().clamp(max=self.elites - 1)
        return self.elite_members[drawn.to(self.elite_members.device)]

    def _transition(self, latent: Tensor, encoded: Tensor, next_latent: Tensor) -> Tensor:
        return torch.cat([self.normalise(latent), encoded, self.normalise(next_latent)], dim=-1)

    def _predict(
        self,
        latent: Tensor,
        action: Tensor,
        encoded: Tensor,
        next_latent: Tensor,
        reward: Tensor,
        noise: Noise,
        *,
        mode: bool = False,
        apart: Tensor | None = None,
    ) -> Prediction:
        reward = (reward * self.change_std[-1] + self.change_mean[-1]).clamp(*self.reward_range)
        reward = self.reward_weight * reward
        extras = {} if apart is None else {DISAGREEMENT: apart}
        if apart is not None and self.bonus:
            reward = reward + self.bonus * apart
        if self.termination_fn is not None:
            known = self.termination_fn(latent, action, next_latent)
            return Prediction(reward, known.float(), known.bool(), extras)
        logit = self.termination_head(self._transition(latent, encoded, next_latent))
        probability = self.termination_head.probability(logit)
        if self.termination == "cut":
            return Prediction(reward, probability, logit > 0, extras)
        uniform = noise.uniform(len(latent), 1).squeeze(1)
        return Prediction(reward, probability, probability > 0.5 if mode else uniform < probability, extras)


class _EnsembleStepper(PlainStepper[EnsembleState]):
    """Environments show where the members disagree; planners, which call the stepper, do not pay for it."""

    def __init__(self, memory: ProbabilisticEnsemble) -> None:
        super().__init__(memory)
        self._ensemble = memory

    @torch.no_grad()
    def advance(
        self, dreams: EnsembleState, action: NDArray[Any], *, noise: DreamNoise, temperature: float
    ) -> tuple[EnsembleState, Outcome]:
        actions = torch.from_numpy(action).to(self.device)
        state, prediction = self._ensemble.step(dreams, actions, noise=noise, temperature=temperature, everyone=True)
        return state, outcome_of(prediction)


def _checked_weights(reward: float, bonus: float) -> tuple[float, float]:
    if not (math.isfinite(reward) and math.isfinite(bonus)):
        raise ConfigurationError(f"the weights of reward and bonus must be finite, got {reward!r} and {bonus!r}")
    return float(reward), float(bonus)
