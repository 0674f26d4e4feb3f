"""The one place where dreams are stepped: N memory states, their noise, their start states."""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreamenv.envs.actions import ActionChecker
from dreamenv.errors import ConfigurationError, NonFiniteError, StepError
from dreamenv.memory.base import Outcome
from dreamenv.memory.ordinary import in_ordinary_torch, ordinary_torch
from dreamenv.memory.states import select
from dreamenv.noise.hashed import EpisodeNoise
from dreamenv.types import Start
from dreamenv.world_model import WorldModel, check_temperature

# Pictures decoded at once; the decoder's activations are about 100 kB a picture.
_DECODE_ROWS = 256


class OneThread:
    """A context that a second thread cannot enter while a first one is in it; the first may enter it again."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise StepError(
                "another thread is stepping or resetting these dreams; give each thread an environment of its own, "
                "which shares the model's weights, or take turns"
            )

    def __exit__(self, *reason: object) -> None:
        self._lock.release()

    def __deepcopy__(self, memo: dict[int, Any]) -> OneThread:
        return OneThread()

    def __reduce__(self) -> tuple[type[OneThread], tuple[()]]:
        return OneThread, ()


class _Guarded(Protocol):
    @property
    def one_thread(self) -> OneThread: ...


SelfT = TypeVar("SelfT", bound=_Guarded)
P = ParamSpec("P")
ResultT = TypeVar("ResultT")


def by_one_thread(method: Callable[Concatenate[SelfT, P], ResultT]) -> Callable[Concatenate[SelfT, P], ResultT]:
    """A method that runs within its object's `one_thread`, and within `ordinary_torch` whatever the caller has set.

    Raises:
        StepError: Another thread is in one of these methods.
    """

    @functools.wraps(method)
    def run(self: SelfT, /, *args: P.args, **kwargs: P.kwargs) -> ResultT:
        with self.one_thread:
            if not torch.is_inference_mode_enabled() and torch.get_default_dtype() is torch.float32:
                return method(self, *args, **kwargs)
            with ordinary_torch():
                return method(self, *args, **kwargs)

    return cast(Callable[Concatenate[SelfT, P], ResultT], run)


def check_snapshot(state: object, parts: set[str], of: str) -> None:
    """Refuse what is no snapshot of a dream or an environment.

    Raises:
        ConfigurationError: It is no dict, or lacks some of its parts.
    """
    if not isinstance(state, dict):
        raise ConfigurationError(f"no snapshot of a {of}: got {type(state).__name__}, expected what get_state returns")
    missing = sorted(parts - state.keys())
    if missing:
        raise ConfigurationError(f"no snapshot of a {of}: it lacks {', '.join(missing)}")


def check_environment_snapshot(state: object, parts: set[str], of: str, world_model: WorldModel) -> None:
    """Refuse what is no snapshot of an environment, or of a dream of another real environment: sizes may be alike.

    Raises:
        ConfigurationError: It is such.
    """
    check_snapshot(state, parts | {"real_id"}, of)
    found = cast(dict[str, Any], state)["real_id"]
    if found != world_model.real.id:
        raise ConfigurationError(f"the snapshot is of a dream of {found}, this one is of {world_model.real.id}")


def generator_of(found: Any) -> np.random.Generator:
    """The random generator whose state a snapshot holds.

    Raises:
        ConfigurationError: It is no such state.
    """
    generator = np.random.Generator(np.random.PCG64(0))
    try:
        generator.bit_generator.state = found
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise ConfigurationError(f"the snapshot holds no state of a PCG64 generator, but {found!r}") from error
    return generator


class DreamRollout:
    """N dreams of one world model, stepped as one batch; without time limit and without autoreset.

    Row i depends on its own generator and actions only: at the start of an episode it draws from that generator the
    index of its start state and the key of its noise, and nothing afterwards.

    Args:
        world_model: The model; it is read, never changed.
        rows: N.
        observation: "features", "latent", "pixels" or "state".
        temperature: Spread of what M draws, finite and at least 0 (the mode); None is the model's default.
        start: "first", "initial" or "replay".
        precision: Of the products, "float32", "bfloat16" or "auto".
        compiled: Whether `torch.compile` makes the step, its noise within.
        max_disagreement: What an ensemble's disagreement may be until `untrusted` says otherwise; None asks nothing.

    Attributes:
        one_thread: What only one thread at a time may hold; whoever steps or resets does.
        returns: `[N]` float64, rewards summed since the row's episode started.
        last_reward: `[N]` float64, reward of the row's last step.
        precision: "float32" or "bfloat16".
    """

    @in_ordinary_torch
    def __init__(
        self,
        world_model: WorldModel,
        rows: int,
        *,
        observation: str = "features",
        temperature: float | None = None,
        start: Start = "initial",
        precision: str = "auto",
        compiled: bool = False,
        max_disagreement: float | None = None,
    ) -> None:
        if isinstance(rows, bool) or not isinstance(rows, (int, np.integer)) or rows < 1:
            raise ConfigurationError(f"the number of dreams must be an integer of at least 1, got {rows!r}")
        self.world_model = world_model
        self.rows = int(rows)
        self.observation = observation
        self.observation_space = world_model.observation_space(observation)
        self.temperature = temperature
        self.start = start
        self.compiled = compiled
        self.max_disagreement = checked_threshold(max_disagreement, world_model)
        self.returns: NDArray[np.float64] = np.zeros(rows)
        self.last_reward: NDArray[np.float64] = np.zeros(rows)
        self.one_thread = OneThread()
        self._device = world_model.device
        self._start_count = world_model.start_count(start)
        self._actions = ActionChecker(world_model.action_space)
        self._stepper = world_model.memory.stepper(self.rows, precision=precision, compiled=compiled)
        self.precision = self._stepper.precision
        self._noise = EpisodeNoise(self.rows, device=self._device)
        # In the form of the stepper's, which alone knows what it is
        self._dreams: Any = None

    @property
    def temperature(self) -> float:
        """Spread of what M draws, which may be set between two steps; None sets the model's default.

        Raises:
            ConfigurationError: Set to what is no finite number of at least 0.
        """
        return self._temperature

    @temperature.setter
    def temperature(self, value: float | None) -> None:
        check_temperature(value)
        self._temperature = float(self.world_model.temperature if value is None else value)

    @property
    def started(self) -> bool:
        """Whether all rows have a state to step from."""
        return self._dreams is not None

    @property
    def elapsed(self) -> NDArray[np.int64]:
        """`[N]` steps since the row's episode started."""
        return self._noise.steps

    @by_one_thread
    @torch.no_grad()
    def reset(self, rows: NDArray[np.int64], generators: Sequence[np.random.Generator]) -> None:
        """Start new episodes in `rows` `[R]`, drawn from the `generators` of those rows.

        Raises:
            StepError: Some rows never had an episode and `rows` does not name them all.
        """
        if self._dreams is None and len(rows) != self.rows:
            raise StepError(f"reset of {len(rows)} out of {self.rows} dreams before any of the whole; reset all first")
        index = np.empty(len(rows), np.int64)
        keys = np.empty(len(rows), np.uint64)
        for place, generator in enumerate(generators):
            index[place] = generator.integers(self._start_count)
            keys[place] = generator.integers(2**63)
        self._noise.begin_episodes(rows, keys)
        fresh = self.world_model.start(torch.from_numpy(index).to(self._device), start=self.start, noise=self._noise)
        self._dreams = self._stepper.enter(fresh if len(rows) == self.rows else self._overwrite(rows, fresh))
        self.returns[rows] = 0.0
        self.last_reward[rows] = 0.0

    @by_one_thread
    def step(self, actions: Any, active: NDArray[np.bool_] | None = None) -> Outcome:
        """Imagine one step of every row.

        Args:
            actions: `[N]` integers (Discrete) or `[N, A]` numbers (Box).
            active: `[N]`; of the other rows the action is not looked at, time does not pass, and state and results mean
                nothing until they are reset. None: all.

        Raises:
            StepError: Before the first reset.
            InvalidActionError: An action outside the space, of a wrong shape, or not finite.
            NonFiniteError: The dream became NaN or infinite; it has to be reset.
        """
        if self._dreams is None:
            raise StepError("step before reset; call reset() first")
        checked = self._actions.check(actions, self.rows, active)
        self._noise.begin_step()
        self._dreams, outcome = self._stepper.advance(
            self._dreams, checked, noise=self._noise, temperature=self.temperature
        )
        self._noise.end_step(active)
        # What finite numbers add up to is finite, and one call finds out
        if not math.isfinite(outcome.reward.item() if self.rows == 1 else outcome.reward.sum()):
            self._check_finite(outcome.reward, active)
        self.last_reward = outcome.reward.copy()
        self.returns += outcome.reward
        return outcome

    def untrusted(self, outcome: Outcome) -> NDArray[np.bool_]:
        """`[N]`, the dreams whose last step the members of the ensemble disagree on by more than is allowed."""
        if self.max_disagreement is None:
            return np.zeros(self.rows, np.bool_)
        return outcome.extras["disagreement"] > self.max_disagreement

    def _check_finite(self, reward: NDArray[np.float64], active: NDArray[np.bool_] | None) -> None:
        finite = np.isfinite(reward) if active is None else np.isfinite(reward) | ~active
        if not finite.all():
            row = int(finite.argmin())
            self._dreams = None
            raise NonFiniteError(
                f"dream {row} has reward {reward[row]} at step {self.elapsed[row]} of its episode, expected a finite "
                f"number. Reset, and lower temperature={self.temperature} if it comes again."
            )

    def _finite(self, observations: NDArray[Any]) -> NDArray[Any]:
        """The same, unless the dream became NaN or infinite, though its rewards may not."""
        if not math.isfinite(observations.sum()) and not np.isfinite(observations).all():
            self._dreams = None
            raise NonFiniteError(
                f"the dream's {self.observation} are NaN or infinite. Reset, and lower "
                f"temperature={self.temperature:g} if it comes again."
            )
        return observations

    def observations(self, rows: NDArray[np.int64] | None = None) -> NDArray[Any]:
        """Fresh observations of `rows` (None: all), `[R, F]` or `[R, Z]` float32, or `[R, 64, 64, 3]` uint8."""
        if self.observation == "pixels":
            return self.pictures(rows)
        if self.observation == "features" and rows is None and self._dreams is not None:
            return self._finite(self._stepper.features(self._dreams))
        state = self._rows_of_state(rows)
        with torch.no_grad():
            seen = self.world_model.observation(state, self.observation).float()
        storage = seen.untyped_storage().data_ptr()
        if any(part.untyped_storage().data_ptr() == storage for part in state):
            seen = seen.clone()
        return self._finite(seen.cpu().numpy())

    @in_ordinary_torch
    @torch.no_grad()
    def pictures(self, rows: NDArray[np.int64] | None = None) -> NDArray[np.uint8]:
        """Decoded pictures of `rows` (None: all), `[R, 64, 64, 3]` uint8."""
        latents = self.world_model.memory.latent(self._rows_of_state(rows))
        parts = [self.world_model.vision.decode_uint8(part).cpu() for part in latents.split(_DECODE_ROWS)]
        return torch.cat(parts).numpy()

    @in_ordinary_torch
    @torch.no_grad()
    def latents(self) -> NDArray[np.float32]:
        """Latents of all rows, `[N, Z]` float32."""
        return self.world_model.memory.latent(self._rows_of_state(None)).float().cpu().numpy().copy()

    @by_one_thread
    def get_state(self) -> dict[str, Any]:
        """A snapshot of plain tensors and arrays that shares no memory with this rollout.

        Raises:
            StepError: Before the first reset.
        """
        if self._dreams is None:
            raise StepError("get_state before reset; call reset() first")
        return {
            "memory": {name: part.clone() for name, part in self._stepper.leave(self._dreams)._asdict().items()},
            "noise_keys": self._noise.keys.copy(),
            "elapsed": self._noise.steps.copy(),
            "returns": self.returns.copy(),
            "last_reward": self.last_reward.copy(),
        }

    @by_one_thread
    def set_state(self, state: dict[str, Any]) -> None:
        """Go back to a snapshot; the dreams continue bit for bit. The snapshot may be used again.

        Raises:
            ConfigurationError: A snapshot of another number of dreams or of another memory model.
        """
        check_snapshot(state, {"memory", "noise_keys", "elapsed", "returns", "last_reward"}, "dream")
        memory = self.world_model.memory
        fields = memory.state_type._fields
        if tuple(state["memory"]) != tuple(fields):
            raise ConfigurationError(
                f"the snapshot's memory state has {list(state['memory'])}, expected {list(fields)}"
            )
        if len(state["elapsed"]) != self.rows:
            raise ConfigurationError(f"the snapshot is of {len(state['elapsed'])} dreams, expected {self.rows}")
        restored = memory.state_from_tensors(
            {name: part.to(self._device, copy=True) for name, part in state["memory"].items()}
        )
        sizes = (memory.latent(restored).shape[1], memory.features(restored).shape[1])
        if sizes != (memory.latent_size, memory.feature_size):
            raise ConfigurationError(
                f"the snapshot has {sizes[0]} latents and {sizes[1]} features, expected {memory.latent_size} and "
                f"{memory.feature_size}: it is of another world model"
            )
        self._dreams = self._stepper.enter(restored)
        self._noise.restore(state["noise_keys"], state["elapsed"])
        self.returns = np.array(state["returns"])
        self.last_reward = np.array(state["last_reward"])

    def _rows_of_state(self, rows: NDArray[np.int64] | None) -> Any:
        if self._dreams is None:
            raise StepError("there is no dream to look at before reset; call reset() first")
        state = self._stepper.leave(self._dreams)
        return state if rows is None else select(state, torch.from_numpy(rows).to(self._device))

    def _overwrite(self, rows: NDArray[np.int64], fresh: Any) -> Any:
        index = torch.from_numpy(rows).to(self._device)
        state = self._stepper.leave(self._dreams)
        parts: list[Tensor] = []
        for part, new in zip(state, fresh, strict=True):
            # In place saves a copy of the whole batch; a broadcast part cannot be written to.
            own = part if 0 not in part.stride() else part.contiguous()
            parts.append(own.index_copy_(0, index, new.to(own.dtype)))
        return type(state)(*parts)


def checked_threshold(most: float | None, world_model: WorldModel) -> float | None:
    """`most` as `max_disagreement` of a dream of the model.

    Raises:
        ConfigurationError: No finite number above 0, or a memory without members.
    """
    if most is None:
        return None
    if (
        isinstance(most, bool)
        or not isinstance(most, (int, float, np.number))
        or not (math.isfinite(most) and most > 0)
    ):
        raise ConfigurationError(
            f"max_disagreement must be a finite number above 0, got {most!r}. It is in standard deviations of a step's "
            "change: about 0.1 where an ensemble knows its way, near 1 where it does not"
        )
    if "disagreement" not in world_model.memory.figures:
        raise ConfigurationError(
            f"max_disagreement={most}: {type(world_model.memory).__name__} has no members that could disagree; leave "
            "it out, or take a model of the recipe 'ensemble'"
        )
    return float(most)


class OverRollout:
    """What environments have of the rollout that they step.

    Attributes:
        rollout: Their dreams.
    """

    rollout: DreamRollout

    @property
    def one_thread(self) -> OneThread:
        """What only one thread at a time may hold; `reset` and `step` do."""
        return self.rollout.one_thread

    @property
    def temperature(self) -> float:
        """Spread of what M draws; set, it holds from the next step on, for all dreams. None sets the model's default.

        Raises:
            ConfigurationError: Set to what is no finite number of at least 0.
        """
        return self.rollout.temperature

    @temperature.setter
    def temperature(self, value: float | None) -> None:
        self.rollout.temperature = value
