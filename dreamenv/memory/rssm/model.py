"""The recurrent state-space model: a deterministic path and a stochastic state (Hafner et al. 2019, PlaNet)."""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium as gym
import torch
from torch import Tensor, nn

from dreamenv.errors import ConfigurationError
from dreamenv.memory.actions import ActionEncoder
from dreamenv.memory.base import PRECISIONS, MemoryModel, Prediction, Stepper
from dreamenv.memory.heads import REWARD_BOUND, RewardHead, TerminationHead
from dreamenv.memory.kinds import STEPPERS
from dreamenv.memory.rssm.latents import CategoricalLatents, GaussianLatents, Latents
from dreamenv.noise.base import Noise, as_noise

LATENTS = ("categorical", "gaussian")
TERMINATIONS = ("sample", "cut")


class RSSMState(NamedTuple):
    """One moment of B dreams.

    Attributes:
        hidden: `[B, H]`, h, the deterministic path.
        stochastic: `[B, S]`, z, what was drawn: G one-hot vectors of C classes, or normal numbers.
    """

    hidden: Tensor
    stochastic: Tensor


class Observed(NamedTuple):
    """What an RSSM makes of real sequences, `[B, T, ...]`.

    Attributes:
        features: `[B, T, H + S]`, [h, z] with z drawn from the posterior.
        posterior: `[B, T, P]` statistics of q(z | h, embedding), or of the prior where nothing was seen.
        prior: `[B, T, P]` statistics of p(z | h).
    """

    features: Tensor
    posterior: Tensor
    prior: Tensor


class RSSM(MemoryModel[RSSMState]):
    """M of PlaNet and Dreamer: h' = GRU(h, [z, a]), a prior p(z' | h'), and a posterior q(z' | h', embedding).

    A dream draws z' from the prior; a real step draws it from the posterior, which has seen the observation. Reward and
    end are read off [h', z'], and so is the picture: `latent` and `features` are both [h, z], and V decodes that. The
    GRU is normalised, and prior and posterior are networks of one hidden layer, as in Dreamer V2 and V3 (Hafner et al.
    2021 and 2023). At an episode's first observation there is no history and no action: h and z are zero before it.

    Departures from Dreamer: the reward head's classes are weighted between neighbours in units of the reward
    (`RewardHead`), and ends are predicted as ends and not as continuations.

    Args:
        embedding_size: E.
        action_space: Discrete, or Box of one dimension.
        hidden_size: H.
        latents: "categorical" or "gaussian".
        groups, classes: G and C of categorical ones.
        gaussian_size: S of Gaussian ones.
        width: Units of the networks' hidden layers.
        uniform_mix: Share of uniform in categorical ones.
        reward_head: "two_hot" or "mse".
        reward_bound: Largest reward that a two_hot head can say.
        termination: "sample", or "cut" at more likely than not (weighted).
        termination_weight: Weight of ends in the termination loss.

    Raises:
        ConfigurationError: A number out of range, or an unknown choice.
    """

    markov = True  # h and z are all it remembers
    terminations = TERMINATIONS
    latent_std: Tensor

    def __init__(  # noqa: PLR0913  (the settings of a model, by keyword)
        self,
        embedding_size: int,
        action_space: gym.Space[Any],
        hidden_size: int = 256,
        *,
        latents: str = "categorical",
        groups: int = 16,
        classes: int = 16,
        gaussian_size: int = 32,
        width: int = 256,
        uniform_mix: float = 0.01,
        reward_head: str = "two_hot",
        reward_bound: float = REWARD_BOUND,
        termination: str = "sample",
        termination_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if min(embedding_size, hidden_size, width) < 1:
            raise ConfigurationError(
                f"embedding_size, hidden_size, width must be at least 1; got {embedding_size}, {hidden_size}, {width}"
            )
        if latents not in LATENTS:
            raise ConfigurationError(f"latents={latents!r}; expected one of {LATENTS}")
        if termination not in TERMINATIONS:
            raise ConfigurationError(f"termination={termination!r}; expected one of {TERMINATIONS}")
        self.latents: Latents = (
            CategoricalLatents(groups, classes, uniform_mix)
            if latents == "categorical"
            else GaussianLatents(gaussian_size)
        )
        self._config = {
            "embedding_size": embedding_size,
            "hidden_size": hidden_size,
            "latents": latents,
            "groups": groups,
            "classes": classes,
            "gaussian_size": gaussian_size,
            "width": width,
            "uniform_mix": uniform_mix,
            "reward_head": reward_head,
            "reward_bound": reward_bound,
        }
        self.embedding_size, self.hidden_size = embedding_size, hidden_size
        self.termination = termination
        self.latent_size = self.feature_size = hidden_size + self.latents.width
        self.action_encoder = ActionEncoder(action_space)
        self.enter = _layer(self.latents.width + self.action_encoder.size, width)
        self.gates = nn.Sequential(
            nn.Linear(width + hidden_size, 3 * hidden_size, bias=False), nn.LayerNorm(3 * hidden_size)
        )
        self.prior_network = nn.Sequential(_layer(hidden_size, width), nn.Linear(width, self.latents.statistics))
        self.posterior_network = nn.Sequential(
            _layer(hidden_size + embedding_size, width), nn.Linear(width, self.latents.statistics)
        )
        self.reward_head = RewardHead(self.feature_size, reward_head, bound=reward_bound)
        self.termination_head = TerminationHead(self.feature_size, weight=termination_weight)
        self.register_buffer("latent_std", torch.ones(self.latent_size))

    @property
    def state_type(self) -> type[RSSMState]:
        return RSSMState

    def config(self) -> dict[str, Any]:
        ends = {"termination": self.termination, "termination_weight": self.termination_head.weight}
        return {"kind": "rssm"} | self._config | ends

    @property
    def termination_threshold(self) -> float:
        return self.termination_head.threshold

    def features(self, state: RSSMState) -> Tensor:
        return torch.cat(state, dim=-1)

    def latent(self, state: RSSMState) -> Tensor:
        return torch.cat(state, dim=-1)

    def initial(self, embedding: Tensor, *, noise: torch.Generator | Noise) -> RSSMState:
        hidden = self._advance(self.blank(embedding), self._no_action(embedding))
        return RSSMState(hidden, self.latents.sample(self.posterior(hidden, embedding), as_noise(noise)))

    def observe(
        self, state: RSSMState, action: Tensor, embedding: Tensor, *, noise: torch.Generator | Noise
    ) -> tuple[RSSMState, Prediction]:
        """A real step; z is drawn from the posterior, and the prediction is made from a draw of the prior."""
        noise = as_noise(noise)
        hidden = self._advance(state, self.action_encoder(action))
        expected = RSSMState(hidden, self.latents.sample(self.prior_network(hidden), noise))
        prediction = self._predict(expected, noise)
        return RSSMState(hidden, self.latents.sample(self.posterior(hidden, embedding), noise)), prediction

    def imagine(
        self, state: RSSMState, action: Tensor, *, noise: torch.Generator | Noise, temperature: float = 1.0
    ) -> tuple[RSSMState, Prediction]:
        noise = as_noise(noise)
        hidden = self._advance(state, self.action_encoder(action))
        following = RSSMState(hidden, self.latents.sample(self.prior_network(hidden), noise, temperature))
        return following, self._predict(following, noise, mode=temperature == 0)

    def stepper(self, rows: int, *, precision: str = "auto", compiled: bool = False) -> Stepper[RSSMState]:
        if compiled or precision not in ("auto", *PRECISIONS):
            return super().stepper(rows, precision=precision, compiled=compiled)
        return STEPPERS["rssm"](self, rows, precision)

    def observe_sequence(
        self, embeddings: Tensor, actions: Tensor, first: Tensor, noise: Noise, *, seen: Tensor | None = None
    ) -> Observed:
        """Real sequences that are cut anywhere, episodes' ends within them included.

        The first moment of a sequence has no history, whether or not an episode begins there; a moment that `first`
        marks has neither history nor action, as in `initial`.

        Args:
            embeddings: `[B, T, E]`.
            actions: `[B, T, A]` or `[B, T]`; the one that led to each moment, of any value where `first` is true.
            first: `[B, T]` bool, whether an episode begins at the moment.
            noise: Draws the posteriors.
            seen: `[B, T]`, 0 at moments without an observation of their own, where z is drawn from the prior whatever
                the embedding is; None has seen all.
        """
        unseen = torch.zeros_like(first) if seen is None else seen == 0
        if unseen.device.type == "cpu":
            expected = unseen.any(0).tolist()
        else:  # asking a GPU would cost more than the prior does
            expected = [seen is not None] * unseen.shape[1]
        encoded = self.action_encoder(actions)
        state = self.blank(embeddings[:, 0])
        kept, hiddens = [], []
        for step in range(embeddings.shape[1]):
            goes_on = (~first[:, step]).to(encoded).unsqueeze(1)
            state = RSSMState(state.hidden * goes_on, state.stochastic * goes_on)
            hidden = self._advance(state, encoded[:, step] * goes_on)
            posterior = self.posterior(hidden, embeddings[:, step])
            if expected[step]:
                posterior = torch.where(unseen[:, step, None], self.prior_network(hidden).to(posterior), posterior)
            state = RSSMState(hidden, self.latents.sample(posterior, noise))
            hiddens.append(hidden)
            kept.append((self.features(state), posterior))
        features, posterior = (torch.stack(parts, 1) for parts in zip(*kept, strict=True))
        return Observed(features, posterior, self.prior_network(torch.stack(hiddens, 1)))

    def state_of(self, features: Tensor) -> RSSMState:
        """The states behind features `[N, H + S]`: the inverse of `features`."""
        return RSSMState(*features.split([self.hidden_size, self.latents.width], -1))

    def blank(self, like: Tensor) -> RSSMState:
        """States before any observation, as many as `like` has rows."""
        sizes = self.hidden_size, self.latents.width
        return RSSMState(*(torch.zeros(len(like), size, device=like.device) for size in sizes))

    def posterior(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        """Statistics `[B, P]` of q(z | h, embedding)."""
        statistics: Tensor = self.posterior_network(torch.cat([hidden, embedding.to(hidden.dtype)], -1))
        return statistics

    def _no_action(self, like: Tensor) -> Tensor:
        return torch.zeros(len(like), self.action_encoder.size, device=like.device)

    def _advance(self, state: RSSMState, encoded: Tensor) -> Tensor:
        """h' `[B, H]`: a GRU whose gates are normalised, and whose update begins near keeping what is there."""
        inputs = self.enter(torch.cat([state.stochastic, encoded], -1))
        reset, candidate, update = (
            self.gates(torch.cat([inputs, state.hidden.to(inputs.dtype)], -1)).float().chunk(3, -1)
        )
        update = (update - 1.0).sigmoid()
        return update * (reset.sigmoid() * candidate).tanh() + (1 - update) * state.hidden

    def _predict(self, state: RSSMState, noise: Noise, *, mode: bool = False) -> Prediction:
        features = self.features(state)
        logit = self.termination_head(features)
        probability = self.termination_head.probability(logit)
        uniform = noise.uniform(len(features), 1)[:, 0]
        terminated = self.termination_head.ends(logit, probability, uniform, termination=self.termination, mode=mode)
        return Prediction(self.reward_head(features), probability, terminated)


def _layer(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs, bias=False), nn.LayerNorm(outputs), nn.SiLU())
