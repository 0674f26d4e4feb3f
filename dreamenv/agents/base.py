"""What an agent is: SB3's `predict`, and which observation of the dream it reads."""

from __future__ import annotations

import operator
from typing import Any, ClassVar, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dreamenv.errors import SpaceMismatchError
from dreamenv.vision.identity import IdentityVision
from dreamenv.world_model import OBSERVATION_KINDS, WorldModel


@runtime_checkable
class Agent(Protocol):
    """Chooses actions from observations, one at a time or a batch at once; models of stable-baselines3 fit too.

    The observation kind ("features", "latent", "pixels" or "state") an agent expects is its attribute `observation`; an
    agent without that attribute is given the kind whose space is its own (`observation_kind`).
    """

    @property
    def observation_space(self) -> gym.Space[Any]:
        """Space of one observation."""

    @property
    def action_space(self) -> gym.Space[Any]:
        """Space of one action."""

    def predict(
        self,
        observation: NDArray[Any],
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[Any], Any]:
        """Action `[A]` (Box) or `[]` (Discrete) of one observation, or `[B, A]` or `[B]` of a batch; and the state.

        `state` is None or what the last call returned; `episode_start` `[B]` marks rows whose state begins anew.
        """


@runtime_checkable
class SavableAgent(Agent, Protocol):
    """An agent that `save_agent` can write. Its `kind` is entered by `register_agent`."""

    kind: ClassVar[str]
    provenance: dict[str, Any]

    @property
    def observation(self) -> str:
        """Observation kind: "features", "latent" or "pixels"."""

    def tensors(self) -> dict[str, Tensor]:
        """The parameters by name."""

    def config(self) -> dict[str, Any]:
        """JSON-ready settings beside spaces, observation kind and provenance."""

    @classmethod
    def from_tensors(
        cls,
        tensors: dict[str, Tensor],
        *,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        observation: str,
        provenance: dict[str, Any],
        **config: Any,
    ) -> SavableAgent:
        """The inverse of `tensors` and `config`."""


def observation_kind(agent: Agent, model: WorldModel) -> str:
    """The observation kind an agent reads: its attribute `observation`, or else the kind whose space is its own.

    Where a latent is the observation itself, an agent that learned in the real environment reads "latent": its own
    space has that one's shape, and bounds of its own.

    Raises:
        SpaceMismatchError: No kind of the model has the agent's observation space; they are shown beside it.
    """
    named: str | None = getattr(agent, "observation", None)
    if named is not None:
        return named
    kinds = [kind for kind in OBSERVATION_KINDS if kind != "pixels" or model.vision.is_image]
    spaces = {kind: model.observation_space(kind) for kind in kinds}
    for kind, space in spaces.items():
        if _same_observations(agent.observation_space, space):
            return kind
    if _learned_in_reality(agent, model):
        return "latent"
    known = ", ".join(f"{kind} {describe_space(space)}" for kind, space in spaces.items())
    raise SpaceMismatchError(
        f"observation spaces differ: the agent has {describe_space(agent.observation_space)}, the model of "
        f"{model.real.id} has {known}. Load an agent that was trained for this model, or train one."
    )


def check_fits(agent: Agent, model: WorldModel, kind: str) -> None:
    """Refuse an agent that cannot play through a model, of whose observations it reads `kind`.

    Raises:
        SpaceMismatchError: With both spaces side by side.
    """
    shown = agent.observation_space if _learned_in_reality(agent, model) else model.observation_space(kind)
    check_spaces(agent, shown, model.action_space, f"the model of {model.real.id}")


def check_spaces(agent: Agent, observation_space: gym.Space[Any], action_space: gym.Space[Any], where: str) -> None:
    """Refuse an agent whose spaces are not those of `where` (an environment's or a model's name).

    Pictures whose channels come first are those of `where`: models of stable-baselines3 turn what they see themselves.

    Raises:
        SpaceMismatchError: With both spaces side by side.
    """
    for name, own, other, same in (
        ("observation", agent.observation_space, observation_space, _same_observations),
        ("action", agent.action_space, action_space, operator.eq),
    ):
        if not same(own, other):
            raise SpaceMismatchError(
                f"{name} spaces differ: the agent has {describe_space(own)}, {where} has {describe_space(other)}. "
                "Load an agent that was trained for this model, or train one."
            )


def _learned_in_reality(agent: Agent, model: WorldModel) -> bool:
    """Whether an agent may have learned from the observations themselves, which are the model's latents."""
    own = agent.observation_space
    if not (isinstance(model.vision, IdentityVision) and isinstance(own, gym.spaces.Box)):
        return False
    named = getattr(agent, "observation", "latent") == "latent"
    return named and np.issubdtype(own.dtype, np.floating) and own.shape == model.observation_space("latent").shape


def _same_observations(own: gym.Space[Any], other: gym.Space[Any]) -> bool:
    if isinstance(other, gym.spaces.Box) and other.dtype == np.uint8 and len(other.shape) == 3:
        low, high = (np.moveaxis(side, -1, 0) for side in (other.low, other.high))
        return own in (other, gym.spaces.Box(low, high, dtype=np.uint8))
    return own == other


def describe_space(space: gym.Space[Any]) -> str:
    """A space in one short line: long Box bounds are given by their extremes."""
    if isinstance(space, gym.spaces.Box):
        return f"Box({space.low.min():g}..{space.high.max():g}, shape={space.shape}, {space.dtype})"
    return str(space)


def as_batch(observation: NDArray[Any], space: gym.Space[Any]) -> tuple[NDArray[Any], bool]:
    """`observation` with a batch axis, and whether it came without one.

    Raises:
        SpaceMismatchError: Its shape is neither that of `space` nor a batch of it.
    """
    observation = np.asarray(observation)
    if observation.shape == space.shape:
        return observation[None], True
    if observation.ndim > 0 and observation.shape[1:] == space.shape:
        return observation, False
    raise SpaceMismatchError(
        f"got an observation of shape {observation.shape}; this agent reads {space.shape} or a batch of it. "
        "Make the environment with the observation kind that the agent reads: observation='state' for a planner, else "
        "the one that it was trained on."
    )
