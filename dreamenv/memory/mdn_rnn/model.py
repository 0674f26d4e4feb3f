"""The MDN-RNN of World Models (Ha & Schmidhuber 2018, appendix A.2), with reward and termination heads."""

from __future__ import annotations

import math
from typing import Any, final

import gymnasium as gym
import torch
from torch import Tensor, nn
from torch.nn import functional

from dreamenv.errors import ConfigurationError
from dreamenv.memory.actions import ActionEncoder
from dreamenv.memory.base import PRECISIONS, LatentMixture, MemoryModel, Prediction, Stepper
from dreamenv.memory.heads import REWARD_BOUND, RewardHead, TerminationHead, masked_mean
from dreamenv.memory.kinds import STEPPERS
from dreamenv.memory.mdn_rnn.likelihood import LOG_STD_RANGE, mixture_nll
from dreamenv.memory.mdn_rnn.state import Heads, MDNRNNState
from dreamenv.memory.sequences import SequenceBatch
from dreamenv.noise.base import GeneratorNoise, Noise, as_noise

TERMINATIONS = ("sample", "cut")
COMPONENTS = ("per_dimension", "joint")
# Deviations that a latent's mean may be away from 0 before its scale, within the fast step's weights, costs digits
_MOST_OFFSET = 100.0


@final
class MDNRNN(MemoryModel[MDNRNNState]):
    """M: an LSTM over (latent, action), a Gaussian mixture for the next latent, a reward and a termination head.

    For h' = LSTM([z, a], h) and each latent dimension, P(z' | h') = sum_k pi_k N(mu_k, sigma_k²). With joint components
    there is one such mixture of the whole latent, with diagonal covariances: where several futures are possible, a
    sample is one of them, and not each dimension of another one. Temperature tau divides the log weights and
    multiplies the variances (Ha & Eck 2017, eq. 8), as in the paper. Departures from the paper: latents are normalised
    inside M; there is a reward head; components may be joint; ends are sampled from their calibrated probability
    (`termination="sample"`) or cut as in the paper (`"cut"`).

    Args:
        latent_size: Z.
        action_space: Discrete, or Box of one dimension.
        hidden_size: H.
        mixtures: K, components.
        width: Units of a hidden layer before the LSTM and of another before the mixture; 0 (the paper's) has neither.
        components: "per_dimension" (the paper's: K for each latent dimension) or "joint" (K for the whole latent).
        cell_features: Features are [z, h, c] (the paper's Doom) instead of [z, h].
        reward_head: "two_hot" or "mse".
        reward_bound: Largest reward, and negative the least, that a two_hot head can say.
        reward_sees_next: The reward head also reads the next latent, so that the reward fits the sampled future.
        termination: "sample" or "cut".
        termination_weight: Weight of ends in the termination loss.
        dropout: Share of hidden units that training hides from the heads, one draw a sequence.
        dropout_in_dream: Keep hiding in the dream, one draw an episode (Wellmer & Kwok 2021, "Dropout's Dream Land").
    """

    terminations = TERMINATIONS
    latent_mean: Tensor
    latent_std: Tensor

    def __init__(  # noqa: PLR0913  (they are the memory's configuration, by name in each bundle)
        self,
        latent_size: int,
        action_space: gym.Space[Any],
        hidden_size: int = 256,
        mixtures: int = 5,
        *,
        width: int = 0,
        components: str = "per_dimension",
        cell_features: bool = False,
        reward_head: str = "two_hot",
        reward_bound: float = REWARD_BOUND,
        reward_sees_next: bool = False,
        termination: str = "sample",
        termination_weight: float = 1.0,
        dropout: float = 0.0,
        dropout_in_dream: bool = False,
    ) -> None:
        super().__init__()
        if min(latent_size, hidden_size, mixtures) < 1:
            raise ConfigurationError(
                f"latent_size, hidden_size, mixtures must be at least 1; got {latent_size}, {hidden_size}, {mixtures}"
            )
        if width < 0:
            raise ConfigurationError(f"width must be at least 0, got {width}")
        if components not in COMPONENTS:
            raise ConfigurationError(f"components={components!r}; expected one of {COMPONENTS}")
        if termination not in TERMINATIONS:
            raise ConfigurationError(f"termination={termination!r}; expected one of {TERMINATIONS}")
        if not 0 <= dropout < 1:
            raise ConfigurationError(f"dropout must be in [0, 1), got {dropout}")
        self.embedding_size = self.latent_size = latent_size
        self.hidden_size = hidden_size
        self.mixtures = mixtures
        self.width = width
        self.components = components
        self.cell_features = cell_features
        self.reward_sees_next = reward_sees_next
        self.termination = termination
        self.dropout = dropout
        self.dropout_in_dream = dropout_in_dream
        self.feature_size = latent_size + hidden_size * (2 if cell_features else 1)
        self.action_encoder = ActionEncoder(action_space)
        inputs = latent_size + self.action_encoder.size
        self.encoder = nn.Sequential(nn.Linear(inputs, width), nn.SiLU()) if width else nn.Identity()
        self.lstm = nn.LSTM(width or inputs, hidden_size, batch_first=True)
        self.mixture_weights = latent_size if components == "per_dimension" else 1
        self.before_mixture = nn.Sequential(nn.Linear(hidden_size, width), nn.SiLU()) if width else nn.Identity()
        self.mixture_head = nn.Linear(width or hidden_size, mixtures * (self.mixture_weights + 2 * latent_size))
        reward_inputs = hidden_size + (latent_size if reward_sees_next else 0)
        self.reward_head = RewardHead(reward_inputs, reward_head, bound=reward_bound)
        self.termination_head = TerminationHead(hidden_size, weight=termination_weight)
        self.register_buffer("latent_mean", torch.zeros(latent_size))
        self.register_buffer("latent_std", torch.ones(latent_size))

    def __init_subclass__(cls) -> None:
        # The fast steps would pass over what a subclass overrides
        raise TypeError("MDNRNN is final: wrap it, or write a MemoryModel of your own")

    @property
    def state_type(self) -> type[MDNRNNState]:
        return MDNRNNState

    def config(self) -> dict[str, Any]:
        return {
            "kind": "mdn_rnn",
            "latent_size": self.latent_size,
            "hidden_size": self.hidden_size,
            "mixtures": self.mixtures,
            "width": self.width,
            "components": self.components,
            "cell_features": self.cell_features,
            "reward_head": self.reward_head.kind,
            "reward_bound": self.reward_head.bound,
            "reward_sees_next": self.reward_sees_next,
            "termination": self.termination,
            "termination_weight": self.termination_head.weight,
            "dropout": self.dropout,
            "dropout_in_dream": self.dropout_in_dream,
        }

    def normalise(self, latent: Tensor) -> Tensor:
        """Latents in the units in which M works."""
        return (latent - self.latent_mean) / self.latent_std

    def initial(self, embedding: Tensor, *, noise: torch.Generator | Noise) -> MDNRNNState:
        zeros = torch.zeros(len(embedding), self.hidden_size, device=embedding.device)
        return MDNRNNState(embedding, zeros, zeros.clone(), self._draw_dropout(embedding, as_noise(noise)))

    def features(self, state: MDNRNNState) -> Tensor:
        parts = (state.latent, state.hidden, state.cell) if self.cell_features else (state.latent, state.hidden)
        return torch.cat(parts, dim=-1)

    def latent(self, state: MDNRNNState) -> Tensor:
        return state.latent

    def observe(
        self, state: MDNRNNState, action: Tensor, embedding: Tensor, *, noise: torch.Generator | Noise
    ) -> tuple[MDNRNNState, Prediction]:
        hidden, cell = self._advance(state, action)
        uniform = as_noise(noise).uniform(len(embedding), 1)[:, 0]
        prediction = self._predict(state, hidden, self.normalise(embedding), uniform)
        return MDNRNNState(embedding, hidden, cell, state.dropout), prediction

    def imagine(
        self,
        state: MDNRNNState,
        action: Tensor,
        *,
        noise: torch.Generator | Noise,
        temperature: float = 1.0,
    ) -> tuple[MDNRNNState, Prediction]:
        noise = as_noise(noise)
        hidden, cell = self._advance(state, action)
        rows, size = state.latent.shape
        log_weights, means, log_stds = self.mixture(_hide(hidden, state.dropout))
        # A uniform through the inverse of the cumulative weights picks the component, of each dimension or of all.
        weights = _component_weights(log_weights, temperature)
        uniform = noise.uniform(rows, self.uniforms)
        component = (
            (uniform[:, : self.mixture_weights].unsqueeze(1) >= weights.cumsum(1)[:, :-1])
            .sum(1, keepdim=True)
            .expand(rows, 1, size)
        )
        normal = noise.normal(rows, size) * math.sqrt(temperature)
        if weights.requires_grad:
            # The choice has no gradient of its own; the weights get that of a mean over components (Bengio et al. 2013)
            chosen = torch.zeros_like(means).scatter_(1, component, 1.0) + weights - weights.detach()
            normalised = (chosen * (means + log_stds.clamp(*LOG_STD_RANGE).exp() * normal.unsqueeze(1))).sum(1)
        else:
            mean = means.gather(1, component).squeeze(1)
            log_std = log_stds.gather(1, component).squeeze(1).clamp(*LOG_STD_RANGE)
            normalised = mean + log_std.exp() * normal
        latent = normalised * self.latent_std + self.latent_mean
        prediction = self._predict(state, hidden, normalised, uniform[:, -1], mode=temperature == 0)
        return MDNRNNState(latent, hidden, cell, state.dropout), prediction

    def branch(self, state: MDNRNNState, times: int, *, noise: torch.Generator | Noise) -> MDNRNNState:
        branches = super().branch(state, times, noise=noise)
        if not self.hides_in_dreams:
            return branches
        return branches._replace(dropout=self._draw_dropout(branches.latent, as_noise(noise)))

    def embedding_of(self, seen: Tensor, kind: str) -> Tensor:
        return seen[..., : self.latent_size]  # features begin with the latent

    def predicted_latent(self, state: MDNRNNState, action: Tensor, *, temperature: float = 1.0) -> LatentMixture:
        hidden, _ = self._advance(state, action)
        log_weights, means, log_stds = self.mixture(_hide(hidden, state.dropout))
        return LatentMixture(
            _component_weights(log_weights, temperature).expand_as(means),
            means * self.latent_std + self.latent_mean,
            log_stds.clamp(*LOG_STD_RANGE).exp() * math.sqrt(temperature) * self.latent_std,
        )

    def with_latent(self, state: MDNRNNState, latent: Tensor) -> MDNRNNState:
        return state._replace(latent=latent)

    def stepper(self, rows: int, *, precision: str = "auto", compiled: bool = False) -> Stepper[MDNRNNState]:
        if precision not in ("auto", *PRECISIONS) or not self.has_fast_step:
            return super().stepper(rows, precision=precision, compiled=compiled)
        return STEPPERS["mdn_rnn"](self, rows, precision=precision, compiled=compiled)

    @property
    def has_fast_step(self) -> bool:
        """Whether dreams that nobody differentiates may take the fast step: it has no hidden layers before LSTM and
        mixture and no dropout, and with latents far from 0 it would lose digits, since their scale is in its
        weights."""
        offset = float((self.latent_mean / self.latent_std).abs().max())
        return self.width == 0 and not self.hides_in_dreams and offset < _MOST_OFFSET

    @property
    def hides_in_dreams(self) -> bool:
        """Whether dreams hide hidden units from the heads."""
        return self.dropout_in_dream and self.dropout > 0

    @property
    def termination_threshold(self) -> float:
        return self.termination_head.threshold

    @property
    def uniforms(self) -> int:
        """Uniform numbers that a dreamed step takes: one to choose each component, and one for the end."""
        return self.mixture_weights + (self.termination == "sample")

    def teacher_force(self, latents: Tensor, actions: Tensor) -> Heads:
        """What M says of each step of real sequences, from a zero hidden state.

        Args:
            latents: `[B, T+1, Z]`.
            actions: `[B, T, A]` or `[B, T]`.
        """
        hidden, seen, (log_weights, means, log_stds) = self._force(latents, actions, None)
        logit = self.termination_head(hidden)
        return Heads(
            log_weights.log_softmax(2),
            means,
            log_stds,
            self.reward_head(seen),
            self.termination_head.probability(logit),
            logit,
        )

    def loss(self, batch: SequenceBatch, *, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """`loss` = `latent_nll` + `reward` + `termination`, each the mean over the steps that its mask counts.

        `latent_nll` is in nats a latent dimension (normalised units), `reward` and `termination` in the units of their
        heads' losses. `generator` draws the dropout of a training step; None hides nothing.
        """
        hidden, seen, mixture = self._force(batch.latents, batch.actions, generator)
        nll = mixture_nll(self.normalise(batch.targets).unsqueeze(2), *mixture).sum(-1) / self.latent_size
        latent_nll = masked_mean(nll, batch.latent_mask)
        reward = masked_mean(self.reward_head.loss(seen, batch.rewards), batch.mask)
        termination = masked_mean(self.termination_head.loss(hidden, batch.terminated), batch.mask)
        return {
            "loss": latent_nll + reward + termination,
            "latent_nll": latent_nll.detach(),
            "reward": reward.detach(),
            "termination": termination.detach(),
        }

    def drawn(self, latents: Tensor, actions: Tensor, *, uniform: Tensor, normal: Tensor) -> Tensor:
        """A draw `[B, T, Z]` of each next latent, as `imagine` draws it at temperature 1, under teacher forcing.

        Args:
            latents: `[B, T+1, Z]`; the last of a sequence is not looked at.
            actions: `[B, T, A]` or `[B, T]`.
            uniform: `[B, T, Z]`, or `[B, T, 1]` of joint components, in [0, 1); chooses the components.
            normal: `[B, T, Z]`, standard normal.
        """
        _, _, (log_weights, means, log_stds) = self._force(latents, actions, None)
        bounds = log_weights.softmax(2).cumsum(2)[:, :, :-1]
        component = (uniform.unsqueeze(2) >= bounds).sum(2, keepdim=True).expand_as(means[:, :, :1])
        mean, log_std = (part.gather(2, component).squeeze(2) for part in (means, log_stds))
        return (mean + log_std.exp() * normal) * self.latent_std + self.latent_mean

    def _force(
        self, latents: Tensor, actions: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Hidden states `[B, T, H]`, the reward head's input, and log weights, means and log stds `[B, T, K, Z]`."""
        normalised = self.normalise(latents)
        inputs = torch.cat([normalised[:, :-1], self.action_encoder(actions)], dim=-1)
        hidden = self._unrolled(self.encoder(inputs))
        if generator is not None and self.dropout > 0:
            # torch's own dropout takes no generator
            hidden = hidden * self._dropout_factors(hidden, GeneratorNoise(generator)).unsqueeze(1)
        log_weights, means, log_stds = (part.float() for part in self.mixture(hidden))
        seen = torch.cat([hidden, normalised[:, 1:].to(hidden.dtype)], -1) if self.reward_sees_next else hidden
        return hidden, seen, (log_weights, means, log_stds.clamp(*LOG_STD_RANGE))

    def _unrolled(self, inputs: Tensor) -> Tensor:
        """`[B, T, H]`, the LSTM's outputs."""
        try:
            outputs: Tensor = self.lstm(inputs)[0]
        except RuntimeError:
            if inputs.device.type != "cpu":
                raise
            # Within autocast: for processors without AVX-512 there is no LSTM in bfloat16
            with torch.autocast("cpu", enabled=False):
                outputs = self.lstm(inputs.float())[0]
        return outputs

    def mixture(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of hidden states `[..., H]`: log weights `[..., K, Z]` or `[..., K, 1]`, not normalised; means and log
        standard deviations `[..., K, Z]`."""
        sizes = [self.mixtures * each for each in (self.mixture_weights, self.latent_size, self.latent_size)]
        parts = self.mixture_head(self.before_mixture(hidden)).split(sizes, -1)
        log_weights, means, log_stds = (part.unflatten(-1, (self.mixtures, -1)) for part in parts)
        return log_weights, means, log_stds

    def _advance(self, state: MDNRNNState, action: Tensor) -> tuple[Tensor, Tensor]:
        inputs = torch.cat([self.normalise(state.latent), self.action_encoder(action)], dim=-1)
        return torch.lstm_cell(self.encoder(inputs), (state.hidden, state.cell), *self.lstm.all_weights[0])

    def _predict(
        self, state: MDNRNNState, hidden: Tensor, next_normalised: Tensor, uniform: Tensor, *, mode: bool = False
    ) -> Prediction:
        visible = _hide(hidden, state.dropout)
        seen = torch.cat([visible, next_normalised], -1) if self.reward_sees_next else visible
        logit = self.termination_head(visible)
        probability = self.termination_head.probability(logit)
        terminated = self.termination_head.ends(logit, probability, uniform, termination=self.termination, mode=mode)
        return Prediction(self.reward_head(seen), probability, terminated)

    def _draw_dropout(self, like: Tensor, noise: Noise) -> Tensor:
        if not self.hides_in_dreams:
            return torch.ones(len(like), 0, device=like.device)
        return self._dropout_factors(like, noise)

    def _dropout_factors(self, like: Tensor, noise: Noise) -> Tensor:
        keep = noise.uniform(len(like), self.hidden_size) >= self.dropout
        return keep.to(like) / (1 - self.dropout)


def _component_weights(log_weights: Tensor, temperature: float) -> Tensor:
    """`[B, K, ...]` of sum 1 over the components K; at temperature 0, the likeliest has all."""
    if temperature == 0:
        return functional.one_hot(log_weights.argmax(1), log_weights.shape[1]).movedim(-1, 1).to(log_weights)
    return torch.softmax(log_weights / temperature, dim=1)


def _hide(hidden: Tensor, dropout: Tensor) -> Tensor:
    return hidden * dropout if dropout.shape[1] else hidden
