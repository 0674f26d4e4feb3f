"""Exploration policies: what drives the real environment while there is no agent yet, or beside one."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dreamenv.data.actions import finite_range
from dreamenv.errors import ConfigurationError, did_you_mean

Range = tuple[float, float]


class Actor(ABC):
    """Chooses the actions of one episode.

    Attributes:
        name: What it is called in the episode's record.
    """

    name: str

    def view(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        """The preprocessed real environment as this actor looks at it: by default as it is."""
        return env

    @abstractmethod
    def act(self, observation: NDArray[Any]) -> Any:
        """The action at `observation` of its view."""


class Uniform(Actor):
    """Independent uniform actions."""

    def __init__(self, action_space: gym.Space[Any], rng: np.random.Generator) -> None:
        self.name = "uniform"
        self._space, self._rng = action_space, rng

    def act(self, observation: NDArray[Any]) -> Any:
        return uniform_action(self._space, self._rng)


class Autocorrelated(Actor):
    """A first-order autoregressive process around a bias, clipped to the Box.

    In units where the Box is [-1, 1]: x' = ρ x + sqrt(1 - ρ²) σ ε, action = clip(bias + x), with ρ from `correlation`
    and σ from `scale`. `bias` is one range per action dimension, in units of the action. The parameters are drawn at
    the episode's beginning; with `redraw`, again at each step with the probability 1 / `redraw`, so that one episode
    holds several manners of driving and what lies between them.
    """

    def __init__(
        self,
        action_space: gym.Space[Any],
        rng: np.random.Generator,
        *,
        scale: Range = (0.1, 1.0),
        correlation: Range = (0.0, 0.98),
        bias: list[Range] | None = None,
        redraw: float | None = None,
    ) -> None:
        if not isinstance(action_space, spaces.Box):
            raise ConfigurationError(
                f"policy 'autocorrelated' needs a Box action space, got {action_space}; try 'sticky'"
            )
        self._low, self._high = _finite_bounds(action_space)
        size = len(self._low)
        if bias is not None and len(bias) != size:
            raise ConfigurationError(f"policy 'autocorrelated': {len(bias)} bias ranges for {size} action dimensions")
        if redraw is not None and not redraw >= 1:
            raise ConfigurationError(f"exploration: redraw is {redraw!r}, expected a number of steps of at least 1")
        self._rng = rng
        self._half = (self._high - self._low) / 2
        self._ranges = checked_range("scale", scale, 0.0, np.inf), checked_range("correlation", correlation, 0.0, 1.0)
        self._biases = None if bias is None else [checked_range("bias", pair, -np.inf, np.inf) for pair in bias]
        self._redraw = redraw
        self._draw()
        self._x = self._sigma * rng.standard_normal(size)
        self.name = f"autocorrelated(scale={self._sigma.mean():.2f}, correlation={self._rho.mean():.2f})"

    def _draw(self) -> None:
        size = len(self._low)
        self._sigma, self._rho = (self._rng.uniform(*ends, size=size) for ends in self._ranges)
        if self._biases is None:
            self._bias = (self._low + self._high) / 2 + self._half * self._rng.uniform(-0.5, 0.5, size=size)
        else:
            self._bias = np.array([self._rng.uniform(*ends) for ends in self._biases])

    def offset(self) -> NDArray[np.float64]:
        """The process's next value in units of the action, before bias and clipping."""
        noise = self._rng.standard_normal(len(self._x))
        self._x = self._rho * self._x + np.sqrt(1 - self._rho**2) * self._sigma * noise
        return self._half * self._x

    def act(self, observation: NDArray[Any]) -> NDArray[np.float32]:
        if self._redraw is not None and self._rng.random() < 1 / self._redraw:
            self._draw()
        return np.clip(self._bias + self.offset(), self._low, self._high).astype(np.float32)


class Sticky(Actor):
    """Discrete actions held for a while: each step keeps the action with a probability drawn once an episode."""

    def __init__(self, action_space: gym.Space[Any], rng: np.random.Generator, *, stay: Range = (0.5, 0.98)) -> None:
        if not isinstance(action_space, spaces.Discrete):
            raise ConfigurationError(f"policy 'sticky' needs a Discrete action space, got {action_space}")
        self._space, self._rng = action_space, rng
        self._stay = float(rng.uniform(*checked_range("stay", stay, 0.0, 1.0)))
        self._action = uniform_action(action_space, rng)
        self.name = f"sticky(stay={self._stay:.2f})"

    def act(self, observation: NDArray[Any]) -> np.int64:
        if self._rng.random() >= self._stay:
            self._action = uniform_action(self._space, self._rng)
        return self._action


class Given(Actor):
    """Does what it is told: `action`, set before each `act`. For noise on actions that somebody else has chosen."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.action: Any = None

    def act(self, observation: NDArray[Any]) -> Any:
        return self.action


class Noisy(Actor):
    """Another actor's actions with noise: Gaussian and autocorrelated for Box, a sticky random action for Discrete.

    Noise comes in bursts of `1 / (1 - stay)` steps on average; a share `probability`, drawn once an episode, of the
    steps is noisy.
    """

    def __init__(
        self,
        actor: Actor,
        action_space: gym.Space[Any],
        rng: np.random.Generator,
        *,
        probability: Range = (0.0, 0.3),
        stay: float = 0.8,
        scale: Range = (0.1, 0.5),
    ) -> None:
        self._actor, self._rng, self._stay = actor, rng, stay
        self._probability = float(rng.uniform(*checked_range("probability", probability, 0.0, 1.0)))
        self._noise: Sticky | Autocorrelated
        if isinstance(action_space, spaces.Discrete):
            self._noise = Sticky(action_space, rng, stay=(stay, stay))
        else:
            self._low, self._high = _finite_bounds(action_space)
            self._noise = Autocorrelated(action_space, rng, scale=scale, correlation=(stay, stay))
        self._bursting = False
        self.name = f"{actor.name}+noise({self._probability:.2f})"

    def view(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        return self._actor.view(env)

    def act(self, observation: NDArray[Any]) -> Any:
        action = self._actor.act(observation)
        if self._rng.random() >= self._stay:
            self._bursting = bool(self._rng.random() < self._probability)
        if isinstance(self._noise, Sticky):
            random_action = self._noise.act(observation)
            return random_action if self._bursting else action
        offset = self._noise.offset() if self._bursting else 0.0
        return np.clip(np.asarray(action) + offset, self._low, self._high).astype(np.float32)


@dataclass(frozen=True)
class Exploration:
    """One exploration policy.

    Attributes:
        policy: Its name.
        weight: Its share of the episodes, relative to the others'.
        kwargs: Its keyword arguments.
        max_steps: Actions after which its episodes are cut (recorded as truncated): a policy that soon leaves what is
            worth seeing begins anew. None plays whole episodes.
    """

    policy: str
    weight: float = 1.0
    kwargs: dict[str, Any] = field(default_factory=dict)
    max_steps: int | None = None


POLICIES: dict[str, Callable[..., Actor]] = {
    "uniform": Uniform,
    "autocorrelated": Autocorrelated,
    "sticky": Sticky,
}
# Policies that need a world model; `collect` builds them.
MODEL_POLICIES = ("agent", "random_linear")


def reading_files(pack: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Callable[..., Actor]], Any]:
    """Mark a factory of actors whose keyword arguments name files.

    Args:
        pack: From its keyword arguments to the same with a `Parcel` in place of each name of a file or folder, for
            workers on machines that have other files.
    """

    def mark(factory: Callable[..., Actor]) -> Callable[..., Actor]:
        factory.pack = pack  # type: ignore[attr-defined]
        return factory

    return mark


def check_policy(exploration: Exploration, factories: dict[str, Callable[..., Actor]]) -> None:
    """Refuse a policy that neither this module nor `factories` makes, or keyword arguments that it does not take.

    Raises:
        ConfigurationError: With the nearest name.
    """
    name, makers = exploration.policy, POLICIES | factories
    if name not in makers and name in MODEL_POLICIES:
        raise ConfigurationError(f"exploration policy {name!r} needs a world model; see dreamenv.agents.exploration")
    if name not in makers:
        known = [*makers, *MODEL_POLICIES]
        raise ConfigurationError(f"exploration policy {name!r} is not known. {did_you_mean(name, known)}")
    try:
        inspect.signature(makers[name]).bind(None, None, **exploration.kwargs)
    except TypeError as error:
        raise ConfigurationError(f"exploration policy {name!r}: {error}; given {exploration.kwargs}") from error
    if exploration.max_steps is not None and exploration.max_steps < 1:
        raise ConfigurationError(
            f"exploration policy {name!r}: max_steps must be at least 1, got {exploration.max_steps}"
        )
    if not exploration.weight > 0:
        raise ConfigurationError(f"exploration policy {name!r}: weight must be above 0, got {exploration.weight}")


def default_exploration(action_space: gym.Space[Any]) -> list[Exploration]:
    """What to explore an unknown environment with."""
    held = "sticky" if isinstance(action_space, spaces.Discrete) else "autocorrelated"
    return [Exploration(held, 3.0), Exploration("uniform", 1.0)]


def uniform_action(space: gym.Space[Any], rng: np.random.Generator) -> Any:
    """One uniform action; Box dimensions that lack a bound as in `finite_range`."""
    if isinstance(space, spaces.Discrete):
        return np.int64(space.start + rng.integers(space.n))
    low, high = _finite_bounds(space)
    return rng.uniform(low, high).astype(np.float32)


def checked_range(name: str, value: Any, low: float, high: float) -> Range:
    """`value` as a range within [low, high]; a single number in registry.yaml is an easy slip."""
    try:
        first, second = (float(end) for end in value)
    except (TypeError, ValueError):
        raise ConfigurationError(f"exploration: {name} is {value!r}, expected a range [least, most]") from None
    if not low <= first <= second <= high:
        raise ConfigurationError(f"exploration: {name} is {value!r}, expected {low:g} <= least <= most <= {high:g}")
    return first, second


def _finite_bounds(space: gym.Space[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if not isinstance(space, spaces.Box):
        raise ConfigurationError(f"expected a Box action space, got {space}")
    pairs = zip(space.low.astype(np.float64).tolist(), space.high.astype(np.float64).tolist(), strict=True)
    low, high = zip(*(finite_range(*pair) for pair in pairs), strict=True)
    return np.array(low), np.array(high)
