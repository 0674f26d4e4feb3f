"""Plans as vectors: how sequences of Box and Discrete actions are drawn, averaged and turned into actions.

Letters in shapes: B rows, N candidates, K entries of a plan, D size of an entry.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from dreamenv.errors import ConfigurationError
from dreamenv.noise.base import Noise


class Sequences(ABC):
    """What the planners of sequences need to know of an action space.

    A distribution over plans is a centre `[B, K, D]` and a spread that broadcasts to it; candidates are `[B, N, K, D]`.

    Attributes:
        size: D.
    """

    size: int

    @abstractmethod
    def neutral(self, rows: int, entries: int) -> Tensor:
        """The centre that prefers nothing, `[rows, entries, D]`."""

    @abstractmethod
    def uniform(self, rows: int, candidates: int, entries: int, noise: Noise) -> Tensor:
        """Candidates drawn uniformly, `[rows, candidates, entries, D]`."""

    @abstractmethod
    def around(self, centre: Tensor, spread: Tensor, candidates: int, noise: Noise, *, colour: float = 0.0) -> Tensor:
        """Candidates drawn around a centre, `[B, candidates, K, D]`.

        With `colour` β above 0 the entries of a candidate go together: the power of their draws falls with the
        frequency as f^-β.

        Raises:
            ConfigurationError: A `colour` for draws that have none.
        """

    @abstractmethod
    def check_colour(self, colour: float) -> None:
        """Refuse a `colour` for draws that have none.

        Raises:
            ConfigurationError: Such a colour.
        """

    @abstractmethod
    def initial_spread(self, centre: Tensor, spread: float) -> Tensor:
        """The spread in which a search begins."""

    @abstractmethod
    def refit_spread(self, candidates: Tensor, weights: Tensor, least: float) -> Tensor:
        """The spread of weighted candidates, `least` at least; `weights` `[B, N]` sum to 1 in each row."""

    @abstractmethod
    def mode(self, centre: Tensor) -> Tensor:
        """The likeliest plan of a centre, `[B, K, D]`."""

    @abstractmethod
    def actions(self, plans: Tensor) -> Tensor:
        """Plans `[..., D]` as actions `[..., A]` float32 or `[...]` int64."""

    @abstractmethod
    def plans(self, actions: Tensor) -> Tensor:
        """The inverse of `actions`: `[..., A]` or `[...]` as plans `[..., D]`."""

    def refit_centre(self, candidates: Tensor, weights: Tensor) -> Tensor:
        """The mean of candidates `[B, N, K, D]` under weights `[B, N]`."""
        return torch.einsum("bn,bnkd->bkd", weights, candidates)


class BoxSequences(Sequences):
    """Box actions in units of half their range around its middle: entries are in [-1, 1]; a spread is a deviation."""

    def __init__(self, action_space: spaces.Box, device: torch.device) -> None:
        self.size = int(action_space.shape[0])
        self._low = torch.from_numpy(action_space.low.astype(np.float32)).to(device)
        self._high = torch.from_numpy(action_space.high.astype(np.float32)).to(device)

    @property
    def half_range(self) -> Tensor:
        """`[A]`, what 1 of an entry is in units of the action."""
        return (self._high - self._low) / 2

    def neutral(self, rows: int, entries: int) -> Tensor:
        return torch.zeros(rows, entries, self.size, device=self._low.device)

    def uniform(self, rows: int, candidates: int, entries: int, noise: Noise) -> Tensor:
        drawn = noise.uniform(rows * candidates, entries * self.size)
        return (2 * drawn - 1).view(rows, candidates, entries, self.size)

    def check_colour(self, colour: float) -> None:
        del colour  # any

    def around(self, centre: Tensor, spread: Tensor, candidates: int, noise: Noise, *, colour: float = 0.0) -> Tensor:
        rows, entries, size = centre.shape
        drawn = noise.normal(rows * candidates, entries * size).view(rows, candidates, entries, size)
        if colour > 0:
            drawn = coloured(drawn, colour)
        return (centre.unsqueeze(1) + spread.unsqueeze(1) * drawn).clamp(-1, 1)

    def initial_spread(self, centre: Tensor, spread: float) -> Tensor:
        return torch.full_like(centre, spread)

    def refit_spread(self, candidates: Tensor, weights: Tensor, least: float) -> Tensor:
        centre = self.refit_centre(candidates, weights).unsqueeze(1)
        return self.refit_centre((candidates - centre).square(), weights).sqrt().clamp(min=least)

    def mode(self, centre: Tensor) -> Tensor:
        return centre.clamp(-1, 1)

    def actions(self, plans: Tensor) -> Tensor:
        action = self._low + (self._high - self._low) * ((plans + 1) / 2)
        return torch.maximum(torch.minimum(action, self._high), self._low)

    def plans(self, actions: Tensor) -> Tensor:
        width = self._high - self._low
        share = (actions - self._low) / torch.where(width > 0, width, 1.0)
        return (2 * share - 1).clamp(-1, 1)


class DiscreteSequences(Sequences):
    """Discrete actions as one-hot vectors: a centre holds probabilities, a spread is the share drawn uniformly."""

    def __init__(self, action_space: spaces.Discrete, device: torch.device) -> None:
        self.size = int(action_space.n)
        self._start = int(action_space.start)
        self._device = device

    def neutral(self, rows: int, entries: int) -> Tensor:
        return torch.full((rows, entries, self.size), 1 / self.size, device=self._device)

    def uniform(self, rows: int, candidates: int, entries: int, noise: Noise) -> Tensor:
        drawn = noise.uniform(rows * candidates, entries).view(rows, candidates, entries)
        return self._one_hot((drawn * self.size).long().clamp(max=self.size - 1))

    def check_colour(self, colour: float) -> None:
        if colour > 0:
            raise ConfigurationError(
                f"colour={colour}: draws of Discrete actions have no colour; leave it out, or take action_repeat, "
                "which holds actions"
            )

    def around(self, centre: Tensor, spread: Tensor, candidates: int, noise: Noise, *, colour: float = 0.0) -> Tensor:
        self.check_colour(colour)
        rows, entries, size = centre.shape
        drawn = noise.uniform(rows * candidates, entries).view(rows, candidates, entries, 1)
        bounds = ((1 - spread) * centre + spread / size).cumsum(-1)[..., :-1]
        return self._one_hot((drawn >= bounds.unsqueeze(1)).sum(-1))

    def initial_spread(self, centre: Tensor, spread: float) -> Tensor:
        return torch.full_like(centre[..., :1], min(spread, 1.0))

    def refit_spread(self, candidates: Tensor, weights: Tensor, least: float) -> Tensor:
        # The frequencies of the centre are spread already; this keeps an action from dying out.
        return self.initial_spread(candidates[:, 0], least)

    def mode(self, centre: Tensor) -> Tensor:
        return self._one_hot(centre.argmax(-1))

    def actions(self, plans: Tensor) -> Tensor:
        return plans.argmax(-1) + self._start

    def plans(self, actions: Tensor) -> Tensor:
        return self._one_hot(actions - self._start)

    def _one_hot(self, index: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(index, self.size).float()


def coloured(white: Tensor, colour: float) -> Tensor:
    """Standard normal draws `[..., K, D]` as draws whose power over the K entries falls as f^-`colour`, each of
    variance 1 still (Timmer & König 1995, "On generating power law noise"). The lowest frequency, 0, counts as the
    first above it.
    """
    entries = white.shape[-2]
    frequency = torch.fft.rfftfreq(entries, device=white.device)
    scale = (frequency * entries).clamp(min=1.0) ** (-colour / 2)  # at most 1, however strong the colour
    counted = torch.full_like(
        scale, 2.0
    )  # of a real signal, each frequency but 0 and the highest even one is there twice
    counted[0] = 1.0
    if entries % 2 == 0:
        counted[-1] = 1.0
    variance = (counted * scale.square()).sum() / entries
    spectrum = torch.fft.rfft(white, dim=-2) * (scale / variance.sqrt()).unsqueeze(-1)
    return torch.fft.irfft(spectrum, n=entries, dim=-2)


def sequences_of(action_space: gym.Space[Any], device: torch.device) -> Sequences:
    """Sequences of actions of a Discrete or a bounded, one-dimensional Box space.

    Raises:
        ConfigurationError: Another space, or a Box without finite bounds.
    """
    if isinstance(action_space, spaces.Discrete):
        return DiscreteSequences(action_space, device)
    if not isinstance(action_space, spaces.Box) or len(action_space.shape) != 1:
        raise ConfigurationError(f"planners act in Discrete or one-dimensional Box spaces, got {action_space}")
    if not (np.isfinite(action_space.low).all() and np.isfinite(action_space.high).all()):
        raise ConfigurationError(
            f"{action_space} has no finite bounds to draw actions from. "
            "Wrap the real environment in gymnasium.wrappers.RescaleAction or bound its space first."
        )
    return BoxSequences(action_space, device)


def box_sequences(action_space: gym.Space[Any], scheme: str, device: torch.device) -> BoxSequences:
    """Sequences of Box actions, for a planner that takes no others.

    Raises:
        ConfigurationError: Another space, or a Box without finite bounds.
    """
    found = sequences_of(action_space, device)
    if not isinstance(found, BoxSequences):
        raise ConfigurationError(
            f"planner {scheme!r} follows gradients of Box actions, got {action_space}. Discrete actions: 'cem', "
            "'mppi', 'shooting' or 'mcts'."
        )
    return found
