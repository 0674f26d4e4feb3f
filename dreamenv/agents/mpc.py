"""A planner as an agent: model-predictive control from what M remembers."""

from __future__ import annotations

import hashlib
from dataclasses import fields
from types import NoneType
from typing import Any, ClassVar, NamedTuple, get_args, get_type_hints

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from dreamenv.agents.base import as_batch, check_spaces
from dreamenv.agents.places import read_agent_of
from dreamenv.errors import BundleError, ConfigurationError, SpaceMismatchError, UnknownDreamError, did_you_mean
from dreamenv.noise.branching import RowNoise
from dreamenv.planners.arguments import check_count
from dreamenv.planners.base import Guidable, Planner
from dreamenv.planners.schemes import PLANNERS, make_planner
from dreamenv.world_model import WorldModel

PREFIX = "planner:"
_OWN_SETTINGS: dict[str, Any] = {"seed": int, "execute": int, "guide": str}
_GUIDES = (
    "Agents that guide are made by `dreamenv distill`, and by `dreamenv train-agent` where no reward is clipped or "
    "squashed"
)
# Types of the settings that a name can say
_IN_NAMES = {int, float, bool, NoneType, str}


class MPCState(NamedTuple):
    """What the agent remembers of B episodes between two calls of `predict`.

    Attributes:
        proposal: `[B, K, D]` of the last plan, where the next one begins.
        actions: `[B, execute, A]` or `[B, execute]`, the first actions of the last plan.
        played: `[B]` int64, how many of them have been taken.
        key: `[B]` uint64, from which the episode's random numbers are made.
        step: `[B]` int64, actions taken in the episode.
    """

    proposal: Tensor
    actions: Tensor
    played: NDArray[np.int64]
    key: NDArray[np.uint64]
    step: NDArray[np.int64]

    def of_rows(self, kept: NDArray[np.bool_]) -> MPCState:
        """What it remembers of the rows that are `kept` `[B]`."""
        proposal, actions = self.proposal[kept], self.actions[kept]
        return MPCState(proposal, actions, self.played[kept], self.key[kept], self.step[kept])


class MPCAgent:
    """Plans anew at every step in the dream of `world_model`, from the memory state in which the episode is.

    It reads observations of kind "state", which dreams and their real twins show alike: there M has been fed with what
    was seen and which actions were taken, so the agent need not follow the episode with V and M itself. Its random
    numbers are a function of its seed, the first observation of the episode and the step: the same episode is played
    alike in any batch (up to the rounding of a batched matrix product), order and process.

    Attributes:
        world_model: The dream it plans in.
        planner: How it plans.
        seed: Of its random numbers.
        execute: Actions of a plan that are taken before it plans anew.
        guide: Where the agent lies that guides the search, for its name; None where nothing does.
        guided_by: That agent.
        provenance: That agent's; a planner alone has learned nothing, and consumed no real frames.
    """

    kind: ClassVar[str] = "planner"
    observation: ClassVar[str] = "state"

    def __init__(
        self,
        world_model: WorldModel,
        planner: Planner,
        *,
        seed: int = 0,
        execute: int = 1,
        guide: str | None = None,
    ) -> None:
        """
        Args:
            world_model: The dream it plans in.
            planner: How it plans.
            seed: Of its random numbers.
            execute: Actions of a plan that are taken before it plans anew.
            guide: File, folder, run or id of a distilled agent, or of an actor-critic, whose policy and value the
                planner begins from.

        Raises:
            ConfigurationError: `execute` is not between 1 and the plan's length, the planner does not take the
                model's actions, or the guide cannot guide it.
            UnknownDreamError, BundleError: There is no such guide.
        """
        self.guided_by: Any = None
        if guide is not None:
            self.guided_by = read_guide(guide, planner)
            planner = guided(planner, guide, world_model, self.guided_by)
        check_execute(planner, execute)
        self._cold = planner.cold(world_model, 1)  # refuses actions that cannot be planned
        self.world_model = world_model
        self.planner = planner
        self.seed = seed
        self.execute = execute
        self.guide = guide
        self.observation_space = world_model.observation_space("state")
        self.action_space = world_model.action_space
        own = {"real_frames": 0}
        self.provenance: dict[str, Any] = own if self.guided_by is None else dict(self.guided_by.provenance)

    def predict(
        self,
        observation: NDArray[Any],
        state: MPCState | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[Any], MPCState]:
        """Actions of observations `[S]` or `[B, S]` of kind "state", and what to hand to the next call.

        Args:
            observation: Memory states as vectors.
            state: What the last call returned; None begins an episode in every row.
            episode_start: `[B]`, rows in which an episode begins.
            deterministic: Changes nothing: the same calls always give the same actions.

        Raises:
            SpaceMismatchError: An observation of another shape, or a state of another number of rows.
            NonFiniteError: A dreamed return that is not finite.
        """
        batch, single = as_batch(observation, self.observation_space)
        rows = len(batch)
        begins = np.ones(rows, np.bool_) if episode_start is None else np.array(episode_start, np.bool_).reshape(-1)
        if state is None:
            state, begins = self._blank(rows), np.ones(rows, np.bool_)
        elif episode_start is None:
            begins = np.zeros(rows, np.bool_)
        if len(state.step) != rows or len(begins) != rows:
            raise SpaceMismatchError(
                f"got {rows} observations with a state of {len(state.step)} and episode_start of {len(begins)} rows; "
                "hand back the state that the last call returned for the same rows"
            )
        key, step = state.key.copy(), np.where(begins, 0, state.step)
        for row in np.flatnonzero(begins):
            key[row] = self._key(batch[row])
        played = state.played.copy()
        proposal, actions = state.proposal, state.actions
        due = np.flatnonzero(begins | (played >= self.execute))
        if due.size:
            index = torch.from_numpy(due).to(proposal.device)
            warm = self.planner.shifted(self.world_model, proposal[index], self.execute)
            fresh = torch.from_numpy(begins[due]).to(proposal.device)
            warm = torch.where(fresh.view(-1, 1, 1), self._cold, warm)
            seen = torch.from_numpy(np.ascontiguousarray(batch[due], np.float32)).to(proposal.device)
            plan = self.planner.plan(
                self.world_model,
                self.world_model.memory_state(seen),
                noise=RowNoise([self._generator(key[row], step[row]) for row in due]),
                warm=warm,
            )
            proposal = proposal.index_copy(0, index, plan.proposal)
            actions = actions.index_copy(0, index, plan.actions[:, : self.execute].to(actions))
            played[due] = 0
        chosen = actions[torch.arange(rows, device=actions.device), torch.from_numpy(played).to(actions.device)]
        action = self._as_numpy(chosen)
        following = MPCState(proposal, actions, played + 1, key, step + 1)
        return (np.asarray(action[0]) if single else action), following

    @property
    def name(self) -> str | None:
        """The name that `mpc_agent` and `load_agent` read; None where no name says it.

        That is so of functions, of settings that are no plain number or word, and of a planner that is not registered.
        """
        if self.planner.scheme not in PLANNERS or PLANNERS[self.planner.scheme] is not type(self.planner):
            return None
        parts = [PREFIX + self.planner.scheme]
        hints = get_type_hints(PLANNERS[self.planner.scheme])
        for entry in fields(PLANNERS[self.planner.scheme]):
            value = getattr(self.planner, entry.name)
            if callable(value) and self.guide is None:
                return None
            if callable(value) or (self.guide is not None and entry.name == "rollout"):
                continue  # the guide's
            if value != entry.default:
                if not _kinds(hints[entry.name]) <= _IN_NAMES:
                    return None  # such as a tuple, which no name says
                parts.append(f"{entry.name}={value}")
        parts += [f"{key}={value}" for key, value in (("seed", self.seed), ("execute", self.execute))]
        parts += [] if self.guide is None else [f"guide={self.guide}"]
        return ",".join(parts)

    def _blank(self, rows: int) -> MPCState:
        shape = (rows, self.execute, *(self.action_space.shape or ()))
        kind = torch.int64 if isinstance(self.action_space, spaces.Discrete) else torch.float32
        zeros = np.zeros(rows, np.int64)
        actions = torch.zeros(shape, dtype=kind, device=self._cold.device)
        return MPCState(self._cold.expand(rows, -1, -1), actions, zeros, zeros.astype(np.uint64), zeros)

    def _key(self, observation: NDArray[Any]) -> np.uint64:
        return _hashed(str(self.seed).encode(), np.ascontiguousarray(observation, np.float32).tobytes())

    def _generator(self, key: np.uint64, step: np.int64) -> torch.Generator:
        seed = int(_hashed(key.tobytes(), step.tobytes())) >> 1
        return torch.Generator(self._cold.device).manual_seed(seed)

    def _as_numpy(self, action: Tensor) -> NDArray[Any]:
        array = action.cpu().numpy()
        if isinstance(self.action_space, spaces.Box):
            return np.clip(array.astype(self.action_space.dtype), self.action_space.low, self.action_space.high)
        return array


def check_execute(planner: Planner, execute: int) -> None:
    """Refuse to take more actions of a plan than it holds.

    Raises:
        ConfigurationError: They are more, or less than one.
    """
    check_count(execute=execute)
    if execute > planner.length:
        raise ConfigurationError(f"execute={execute}: a plan of {planner.scheme!r} holds {planner.length} actions")


def read_guide(guide: str, planner: Planner) -> Any:
    """The agent in the file, folder or run `guide`, or of that id, which has a policy and a value to search with.

    Raises:
        UnknownDreamError, BundleError: There is no agent.
        ConfigurationError: It has no policy and value, its values are of another discount than plans, or the planner
            takes no guide.
    """
    if not guide.strip():
        raise ConfigurationError("guide= names no agent; expected a file, folder, run or id")
    try:
        agent: Any = read_agent_of(guide)
    except (UnknownDreamError, BundleError) as error:
        raise type(error)(f"guide={guide}: {error}. {_GUIDES}") from error
    if getattr(agent, "guide", None) is None:
        raise ConfigurationError(
            f"guide={guide}: this agent of kind {agent.kind!r} has no policy and value to search with. {_GUIDES}"
        )
    guidable(planner, f"guide={guide}")
    theirs, own = getattr(agent.guide, "discount", None), getattr(planner, "discount", None)
    if None not in (theirs, own) and theirs != own:
        raise ConfigurationError(
            f"guide={guide}: its values are those of discount={theirs}, those of plans of discount={own}; give the "
            f"planner discount={theirs}"
        )
    return agent


def guided(planner: Planner, guide: str, world_model: WorldModel, agent: Any = None) -> Planner:
    """The planner, which begins its search from the policy and the value of an agent.

    Args:
        planner: How it plans.
        guide: Where the agent lies; see `read_guide`.
        world_model: The dream it plans in.
        agent: What `read_guide` has read there; None reads it.

    Raises:
        UnknownDreamError, BundleError, ConfigurationError: As `read_guide`.
        SpaceMismatchError: An agent for another model.
    """
    agent = read_guide(guide, planner) if agent is None else agent
    check_spaces(agent, world_model.observation_space("features"), world_model.action_space, "the planner's dream")
    return guidable(planner, f"guide={guide}").guided(agent.guide.to(world_model.device))


def guidable(planner: Planner, what: str) -> Guidable:
    """The planner, where it takes a guide; `what` begins the message where it takes none.

    Raises:
        ConfigurationError: It takes none.
    """
    if not isinstance(planner, Guidable):
        raise ConfigurationError(
            f"{what}: planner {planner.scheme!r} takes no guide, since it has no method 'guided'; those of dreamenv do"
        )
    return planner


def split_guide(name: str) -> tuple[str, str | None]:
    """A planner's name without its guide, and the guide."""
    parts = name.split(",")
    guides = [part for part in parts if part.strip().startswith("guide=")]
    if len(guides) != 1:  # none, or an error that `planner_called` tells
        return name, None
    return ",".join(part for part in parts if part is not guides[0]), guides[0].partition("=")[2]


def with_guide(name: str, guide: str | None) -> str:
    """The inverse of `split_guide`.

    Raises:
        ConfigurationError: A path that no name can say.
    """
    if guide is None:
        return name
    if "," in guide:
        raise ConfigurationError(f"{guide}: a planner's name cannot hold the comma in the folder of its guide")
    return f"{name},guide={guide}"


def mpc_agent(name: str, world_model: WorldModel) -> MPCAgent:
    """The agent called `planner:SCHEME[,SETTING=VALUE...]`, such as `planner:cem,horizon=12,candidates=256`.

    Settings are those of the planner that are numbers, and `seed`, `execute` and `guide` of the agent.

    Raises:
        ConfigurationError: An unknown scheme or setting (the nearest are named), or a value that does not fit.
        UnknownDreamError, BundleError: There is no such guide.
    """
    planner, options = planner_called(name)
    return MPCAgent(world_model, planner, **options)


def planner_called(name: str) -> tuple[Planner, dict[str, Any]]:
    """The planner of an agent's name, and the agent's own settings; the model may yet lack what the planner needs.

    Raises:
        ConfigurationError: As for `mpc_agent`.
    """
    scheme, *settings = name.removeprefix(PREFIX).split(",")
    if scheme not in PLANNERS:
        make_planner(scheme)  # says which there are
    hints = get_type_hints(PLANNERS[scheme]) | _OWN_SETTINGS
    own = {entry.name for entry in fields(PLANNERS[scheme])} | set(_OWN_SETTINGS)
    known = {key: hints[key] for key in own if _kinds(hints[key]) <= _IN_NAMES}
    values: dict[str, Any] = {}
    for setting in map(str.strip, settings):
        key, equals, text = setting.partition("=")
        if not equals or key not in known:
            what = f"{key}=VALUE" if key in known else "SETTING=VALUE"
            hint = "" if key in known else f" {did_you_mean(key, known)}"
            raise ConfigurationError(f"{name!r}: got {setting!r}, expected {what} of planner {scheme!r}.{hint}")
        if key in values:
            raise ConfigurationError(f"{name!r}: {key} is given twice")
        values[key] = _value(name, setting, text, _kinds(known[key]))
    options = {key: values.pop(key) for key in _OWN_SETTINGS if key in values}
    return make_planner(scheme, **values), options


def _kinds(hint: Any) -> set[Any]:
    return set(get_args(hint)) or {hint}


def _value(name: str, setting: str, text: str, kinds: set[Any]) -> Any:
    words: dict[str, Any] = {"true": True, "false": False} if bool in kinds else {}
    if NoneType in kinds:
        words["none"] = None
    if str in kinds:
        return text
    if text.lower() in words:
        return words[text.lower()]
    try:
        if int in kinds:
            return int(text)
        if float in kinds:
            return float(text)
    except ValueError:
        pass
    number = "a whole number" if int in kinds else "a number" if float in kinds else ""
    expected = " or ".join(filter(None, [number, *words]))
    raise ConfigurationError(f"{name!r}: got {setting!r}, expected {expected}")


def _hashed(*parts: bytes) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(b"/".join(parts), digest_size=8).digest(), "little"))
