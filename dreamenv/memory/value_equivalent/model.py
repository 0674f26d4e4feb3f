"""A value-equivalent model (Schrittwieser et al. 2020, MuZero): rewards, ends, values, policies of a hidden state."""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium as gym
import torch
from gymnasium import spaces
from torch import Tensor, nn

from dreamenv.errors import ConfigurationError
from dreamenv.memory.actions import ActionEncoder
from dreamenv.memory.base import MemoryModel, Prediction
from dreamenv.memory.heads import TerminationHead
from dreamenv.memory.value_equivalent.two_hot import TwoHotHead
from dreamenv.noise.base import Noise, as_noise

TERMINATIONS = ("sample", "cut")


class HiddenState(NamedTuple):
    """One moment of B dreams: `hidden` `[B, H]`, in [0, 1]."""

    hidden: Tensor


class ValueEquivalent(MemoryModel[HiddenState]):
    """M of MuZero: a representation of the embedding, dynamics, and heads for reward, end, value and policy.

    A state means nothing but what the heads read off it. Features and latent are the state itself, scaled to [0, 1] by
    its least and largest numbers (appendix G); nothing is drawn but ends. The planners use `prior` and `value`.

    Departures: the task's end is predicted by a head of its own, where MuZero learns that ended tasks pay nothing more;
    the dynamics add to the state.

    Args:
        embedding_size: E.
        action_space: Discrete.
        hidden_size: H.
        width: Units of the networks' hidden layers.
        support: Largest |h(x)| of values and rewards; see `TwoHotHead`.
        termination: "sample", or "cut" at more likely than not (weighted).
        termination_weight: Weight of ends in the termination loss.

    Raises:
        ConfigurationError: Actions that are not Discrete, a number out of range, or an unknown choice.
    """

    markov = True
    memoryless = True
    terminations = TERMINATIONS
    latent_std: Tensor

    def __init__(
        self,
        embedding_size: int,
        action_space: gym.Space[Any],
        hidden_size: int = 64,
        *,
        width: int = 128,
        support: int = 40,
        termination: str = "sample",
        termination_weight: float = 1.0,
    ) -> None:
        super().__init__()
        actions = check_discrete(action_space)
        if min(embedding_size, hidden_size, width) < 1:
            raise ConfigurationError(
                f"embedding_size, hidden_size, width must be at least 1; got {embedding_size}, {hidden_size}, {width}"
            )
        if termination not in TERMINATIONS:
            raise ConfigurationError(f"termination={termination!r}; expected one of {TERMINATIONS}")
        self._config = {
            "embedding_size": embedding_size,
            "hidden_size": hidden_size,
            "width": width,
            "support": support,
        }
        self.embedding_size = embedding_size
        self.latent_size = self.feature_size = hidden_size
        self.termination = termination
        self.action_encoder = ActionEncoder(action_space)
        self.representation = _network(embedding_size, width, hidden_size)
        self.dynamics = _network(hidden_size + self.action_encoder.size, width, hidden_size)
        self.reward_head = TwoHotHead(hidden_size, width=width, support=support)
        self.value_head = TwoHotHead(hidden_size, width=width, support=support)
        self.termination_head = TerminationHead(hidden_size, weight=termination_weight)
        self.policy_head = nn.Sequential(nn.Linear(hidden_size, width), nn.SiLU(), nn.Linear(width, int(actions.n)))
        self.register_buffer("latent_std", torch.ones(hidden_size))

    @property
    def state_type(self) -> type[HiddenState]:
        return HiddenState

    def config(self) -> dict[str, Any]:
        ends = {"termination": self.termination, "termination_weight": self.termination_head.weight}
        return {"kind": "value_equivalent"} | self._config | ends

    @property
    def termination_threshold(self) -> float:
        return self.termination_head.threshold

    def features(self, state: HiddenState) -> Tensor:
        return state.hidden

    def latent(self, state: HiddenState) -> Tensor:
        return state.hidden

    def with_latent(self, state: HiddenState, latent: Tensor) -> HiddenState:
        return HiddenState(latent)

    def value(self, state: HiddenState) -> Tensor:
        value: Tensor = self.value_head(state.hidden)
        return value

    def prior(self, state: HiddenState) -> Tensor:
        logits: Tensor = self.policy_head(state.hidden)
        return logits.float()

    def initial(self, embedding: Tensor, *, noise: torch.Generator | Noise) -> HiddenState:
        return HiddenState(_scaled(self.representation(embedding)))

    def observe(
        self, state: HiddenState, action: Tensor, embedding: Tensor, *, noise: torch.Generator | Noise
    ) -> tuple[HiddenState, Prediction]:
        """A real step; what the state was is forgotten, as MuZero represents each observation anew."""
        _, prediction = self.imagine(state, action, noise=noise)
        return self.initial(embedding, noise=noise), prediction

    def imagine(
        self, state: HiddenState, action: Tensor, *, noise: torch.Generator | Noise, temperature: float = 1.0
    ) -> tuple[HiddenState, Prediction]:
        following = self.advance(state, action)
        logit = self.termination_head(following.hidden)
        probability = self.termination_head.probability(logit)
        uniform = as_noise(noise).uniform(len(logit), 1)[:, 0]
        terminated = self.termination_head.ends(
            logit, probability, uniform, termination=self.termination, mode=temperature == 0
        )
        return following, Prediction(self.reward_head(following.hidden), probability, terminated)

    def advance(self, state: HiddenState, action: Tensor) -> HiddenState:
        """The state behind an action, which nothing is random about."""
        inputs = torch.cat([state.hidden, self.action_encoder(action).to(state.hidden)], -1)
        return HiddenState(_scaled(state.hidden + self.dynamics(inputs)))


def check_discrete(action_space: gym.Space[Any]) -> spaces.Discrete:
    """The actions, which a value-equivalent memory has a policy over.

    Raises:
        ConfigurationError: They are not Discrete.
    """
    if not isinstance(action_space, spaces.Discrete):
        raise ConfigurationError(
            f"a value-equivalent memory has a policy over Discrete actions, got {action_space}. For Box actions "
            "take the recipe 'rssm', 'mdn_rnn' or 'ensemble'."
        )
    return action_space


def _scaled(hidden: Tensor) -> Tensor:
    hidden = hidden.float()
    low, high = hidden.amin(-1, keepdim=True), hidden.amax(-1, keepdim=True)
    return (hidden - low) / (high - low).clamp(min=1e-5)


def _network(inputs: int, width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, width, bias=False),
        nn.LayerNorm(width),
        nn.SiLU(),
        nn.Linear(width, width, bias=False),
        nn.LayerNorm(width),
        nn.SiLU(),
        nn.Linear(width, outputs),
    )
