"""Central types of the package.

Letters in shapes: B batch, T time (actions), Z latent, H hidden, F features, A action, D vector observation.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from dataclasses import fields as dataclass_fields
from numbers import Integral
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dreamenv.errors import ConfigurationError
from dreamenv.keywords import checked_keywords, keywords_from_json, keywords_to_json

# Seeds of real episodes are drawn from three ranges that never meet, so that no episode which trained a model or
# chose an agent is ever used to score it.
SEED_ROLES = {"collect": 0, "validation": 2**29, "evaluation": 2**30}


# Of an environment that declares none
_FRAMES_PER_SECOND = 50.0

# Where dreams begin. "first": the first observation of a real episode. "initial": the first moment behind the start
# margin (`RealEnvSpec.start_margin`; without one, the same as "first"), where dreams begin by default. "replay": any
# moment of a real episode, with what M remembered there.
Start = Literal["first", "initial", "replay"]
STARTS: tuple[Start, ...] = get_args(Start)


def episode_seeds(role: str, seed: int, count: int) -> list[int]:
    """Seeds of `count` real episodes for `role` ("collect", "validation" or "evaluation").

    Ranges of different roles are disjoint for every `seed` in [0, 5000) and `count` up to 100,000.

    Raises:
        ConfigurationError: An unknown role, or a number out of range.
    """
    if role not in SEED_ROLES:
        raise ConfigurationError(f"role must be one of {sorted(SEED_ROLES)}, got {role!r}")
    if not isinstance(seed, (int, np.integer)) or not 0 <= seed < 5000:
        raise ConfigurationError(f"seed must be an integer in [0, 5000), got {seed!r}")
    if not 0 <= count <= 100_000:
        raise ConfigurationError(f"count must be in [0, 100000], got {count}")
    first = SEED_ROLES[role] + seed * 100_000
    return list(range(first, first + count))


def consumed_frames(*provenances: Mapping[str, Any]) -> int | None:
    """Real frames that world models and agents of these provenances consumed together; None if one does not say."""
    total = 0
    for provenance in provenances:
        frames = provenance.get("real_frames")
        if frames is None:
            return None
        total += sum(frames.values()) if isinstance(frames, Mapping) else int(frames)
    return total


# A bound of a space beyond this is none: what is finite may be float32's largest number
UNBOUNDED = 1e18

# What a player can hold down; `NO_KEY` is all of them let go.
ARROWS = ("LEFT", "RIGHT", "UP", "DOWN")
DIGITS = tuple("0123456789")
KEYS = (*ARROWS, *DIGITS)
NO_KEY = "NONE"


@dataclass(frozen=True)
class Control:
    """What a key does in a real environment and in dreams of it.

    Attributes:
        label: A word or two for the player.
        action: The action while the key alone is held down: a number (Discrete), or `A` of them (Box).
    """

    label: str
    action: int | tuple[float, ...]


@dataclass(frozen=True)
class Wrapper:
    """A Gymnasium wrapper around a real environment, by where it is imported from.

    Attributes:
        path: `"package.module:Name"`, or `"package.module.Name"`.
        kwargs: Its keyword arguments.

    Raises:
        ConfigurationError: Keyword arguments that a file cannot hold.
    """

    path: str
    kwargs: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kwargs", checked_keywords(self.kwargs, f"wrapper {self.path}: kwargs"))


# How an array is taken: a picture for V, a vector, or whichever it looks like
ObserveAs = Literal["auto", "picture", "vector"]


@dataclass(frozen=True)
class RealEnvSpec:
    """How a real environment is made and what of it a world model sees.

    Attributes:
        id: Gymnasium id of the real environment.
        kwargs: Keyword arguments of `gym.make`: numbers, text, lists, tuples and dicts.
        wrappers: Gymnasium wrappers around it, the first one innermost.
        observation_key: Entry of a `Dict` observation to use, or several, which are joined to one vector in this order;
            None takes an observation as a whole, and joins a `Dict` of vectors.
        observe_as: "picture" or "vector"; "auto" decides by the array's shape and type (see `data.observations`).
        channels: Which channels of a picture, or pictures of a stack, are the colours: one (grey) or three; None takes
            one or three as they are, the first three of four in the last place, and the last three of a stack.
        action_bounds: `(low, high)` of all action dimensions, or one pair for each, within which Box actions are taken;
            None takes the space's own bounds, and a range of 2 where it has none.
        crop: Rows and columns of the frame to keep, `(top, bottom, left, right)` in pixels, half open; None keeps all.
        image_size: Side in pixels of the square that image frames are resized to (area average).
        action_repeat: Real frames per action; their rewards are summed.
        max_episode_steps: Time limit in real frames; None takes the limit of the environment's own spec.
        drop_terminal_observation: A termination's frame is meaningless (ViZDoom's: zeros); repeat the one before.
        start_margin: Real frames at the start of an episode that look like nothing else in it (a camera that zooms
            in); dreams begin behind them.
        module: Module whose import makes `id` known to Gymnasium, or `module:function` to call for it; None for
            Gymnasium's own, and for ids that name theirs (`module:Name-v0`).
        skip_unseen_frames: Kind of `data.unseen_frames.UNSEEN_FRAMES` that leaves frames within an action repeat
            undrawn; None draws all.
        scratch_folder: It writes into the folder in which it is made (ViZDoom's engine): make it in one of its own,
            which is removed when it is closed.
        frames_per_second: Real frames a second at which the environment looks right; None for what it declares itself
            (`render_fps`), which a model that is made of it then holds.
        controls: What each key of `KEYS`, and `NO_KEY`, does; empty for keys by the action space.

    Raises:
        ConfigurationError: Keyword arguments that a file cannot hold, an unknown `observe_as`, or a number that is out
            of range.
    """

    id: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    wrappers: tuple[Wrapper, ...] = ()
    observation_key: str | tuple[str, ...] | None = None
    observe_as: ObserveAs = "auto"
    channels: tuple[int, ...] | None = None
    action_bounds: tuple[tuple[float, float], ...] | None = None
    crop: tuple[int, int, int, int] | None = None
    image_size: int = 64
    action_repeat: int = 1
    max_episode_steps: int | None = None
    drop_terminal_observation: bool = False
    start_margin: int = 0
    module: str | None = None
    skip_unseen_frames: str | None = None
    scratch_folder: bool = False
    frames_per_second: float | None = None
    controls: Mapping[str, Control] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kwargs", checked_keywords(self.kwargs, f"{self.id}: kwargs"))
        if self.observe_as not in get_args(ObserveAs):
            raise ConfigurationError(f"{self.id}: observe_as is {self.observe_as!r}, expected {get_args(ObserveAs)}")
        for name, least in (("action_repeat", 1), ("image_size", 1), ("start_margin", 0), ("max_episode_steps", 1)):
            value = getattr(self, name)
            absent = name == "max_episode_steps" and value is None
            if not absent and (isinstance(value, bool) or not isinstance(value, Integral) or value < least):
                raise ConfigurationError(f"{self.id}: {name} is {value!r}, expected a whole number from {least} on")
        speed: object = self.frames_per_second
        if speed is not None and not (isinstance(speed, (int, float)) and 0 < speed < math.inf):
            raise ConfigurationError(f"{self.id}: frames_per_second is {speed!r}, expected a number above 0")

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> RealEnvSpec:
        """The inverse of `to_json`. Fields that change nothing in a recorded episode may be missing.

        Raises:
            TypeError, KeyError, ValueError: `stored` is not what `to_json` gives.
        """
        fields = dict(stored)
        missing = recorded_fields({f.name: None for f in dataclass_fields(cls)}).keys() - fields.keys() - _OF_LATER
        if missing:
            raise KeyError(*sorted(missing))
        if fields.get("crop") is not None:
            top, bottom, left, right = fields["crop"]
            fields["crop"] = (top, bottom, left, right)
        if isinstance(fields["observation_key"], list):
            fields["observation_key"] = tuple(fields["observation_key"])
        if fields.get("channels") is not None:
            fields["channels"] = tuple(fields["channels"])
        if fields.get("action_bounds") is not None:
            fields["action_bounds"] = tuple((low, high) for low, high in fields["action_bounds"])
        fields["kwargs"] = keywords_from_json(fields["kwargs"])
        fields["wrappers"] = tuple(
            Wrapper(wrapper["path"], keywords_from_json(wrapper.get("kwargs", {})))
            for wrapper in fields.get("wrappers", ())
        )
        fields["controls"] = {key: _control(stored) for key, stored in fields.get("controls", {}).items()}
        return cls(**fields)

    def to_json(self) -> dict[str, Any]:
        """All fields, of what JSON and YAML have alike."""
        fields = asdict(self) | {"kwargs": keywords_to_json(self.kwargs)}
        fields["wrappers"] = [{"path": w.path, "kwargs": keywords_to_json(w.kwargs)} for w in self.wrappers]
        return dict(json.loads(json.dumps(fields)))

    @property
    def steps_per_second(self) -> int:
        """Actions a second that look as fast as the real environment, at least 1."""
        return max(1, round((self.frames_per_second or _FRAMES_PER_SECOND) / self.action_repeat))

    @property
    def margin_actions(self) -> int:
        """Actions until the start margin is over."""
        return math.ceil(self.start_margin / self.action_repeat)

    @property
    def first_moment(self) -> int:
        """Actions before an episode's pictures are worth showing: the start margin, and ten for M to settle."""
        return self.margin_actions + 10


# Fields that the bundles of this package were written without; their defaults are what held
_OF_LATER = {"wrappers", "observe_as", "channels", "action_bounds"}


def recorded_fields(real: Mapping[str, Any]) -> dict[str, Any]:
    """`RealEnvSpec.to_json` without the fields that change nothing in a recorded episode."""
    without = ("module", "skip_unseen_frames", "scratch_folder", "frames_per_second", "controls")
    return {name: value for name, value in real.items() if name not in without}


def _control(stored: Mapping[str, Any]) -> Control:
    action = stored["action"]
    return Control(stored["label"], tuple(action) if isinstance(action, (list, tuple)) else action)


@dataclass(frozen=True)
class Episode:
    """One real episode: T actions and T+1 observations, as the world model sees them.

    Attributes:
        observations: `[T+1, 64, 64, 3]` uint8 for image environments, `[T+1, D]` float32 for vector ones.
        actions: `[T, A]` float32 (Box) or `[T]` int64 (Discrete), one an action repeat.
        rewards: `[T]` float32 in units of the real environment, summed over the action repeat.
        terminated: The task ended at step T.
        truncated: The time limit was reached at step T.
        final_observation_valid: False when the last observation is a repeat of the one before.
        seed: Seed of the real `reset`.
        policy: Name and parameters of what chose the actions.
        real_frames: Real frames consumed, action repeat counted.
    """

    observations: NDArray[Any]
    actions: NDArray[Any]
    rewards: NDArray[np.float32]
    terminated: bool
    truncated: bool
    seed: int
    policy: str
    real_frames: int
    final_observation_valid: bool = True

    def __post_init__(self) -> None:
        steps = len(self.rewards)
        if len(self.observations) != steps + 1 or len(self.actions) != steps:
            raise ValueError(
                f"an episode of {steps} rewards needs {steps + 1} observations and {steps} actions, "
                f"got {len(self.observations)} and {len(self.actions)}"
            )

    def __len__(self) -> int:
        return len(self.rewards)

    @property
    def usable_steps(self) -> int:
        """Actions after which the observation is a real one."""
        return len(self) - (0 if self.final_observation_valid else 1)

    @property
    def undiscounted_return(self) -> float:
        """Sum of the rewards, in units of the real environment."""
        return float(self.rewards.sum(dtype=np.float64))
