"""Algorithms of Stable-Baselines3 by name, and the models they save as agents."""

from __future__ import annotations

import copy
import errno
import importlib
import json
import zipfile
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
from gymnasium import spaces

from dreamenv.agents.base import describe_space
from dreamenv.errors import BundleError, ConfigurationError, did_you_mean, missing_extra
from dreamenv.files import atomic, parse_json
from dreamenv.keywords import check_known

try:
    from stable_baselines3.common.base_class import BaseAlgorithm
except ImportError as _error:
    raise missing_extra("stable-baselines3", "sb3") from _error

# What every algorithm's file holds
_ALL_HOLD = frozenset({"policy_class", "observation_space", "action_space", "policy_kwargs"})
# What deflate makes of a byte that repeats, and room for small files
_MOST_EXPANSION, _ROOM, _MOST_SETTINGS = 100, 1 << 24, 64 << 20
_BOX, _DISCRETE = (spaces.Box,), (spaces.Discrete,)


class _Algorithm(NamedTuple):
    """Where a class is, the action spaces of dreams that it takes, and settings that its files hold or lack."""

    package: str
    name: str
    actions: tuple[type[gym.Space[Any]], ...]
    holds: frozenset[str]
    lacks: frozenset[str] = frozenset()
    policy: str = "MlpPolicy"


# A buffer of the size of training would be made anew in every process that plays
_NO_REPLAY: dict[str, Any] = {"buffer_size": 1, "replay_buffer_class": None, "replay_buffer_kwargs": {}}

_CLIPPED = frozenset({"clip_range", "n_epochs"})
_TWIN = frozenset({"policy_delay", "target_policy_noise"})
# Package and extra by module, where these differ from sb3's
_EXTRAS = {"sbx": ("sbx-rl", "sbx")}
_JAX = frozenset({"qf_learning_rate", "param_resets"})
_GREEDY = frozenset({"exploration_fraction"})

ALGORITHMS: dict[str, _Algorithm] = {
    "a2c": _Algorithm(
        "stable_baselines3", "A2C", _BOX + _DISCRETE, frozenset({"gae_lambda"}), frozenset({"n_epochs", "cg_max_steps"})
    ),
    "ddpg": _Algorithm("stable_baselines3", "DDPG", _BOX, _TWIN, _JAX),
    "dqn": _Algorithm("stable_baselines3", "DQN", _DISCRETE, _GREEDY, frozenset({"n_quantiles"})),
    "ppo": _Algorithm("stable_baselines3", "PPO", _BOX + _DISCRETE, _CLIPPED),
    "qrdqn": _Algorithm("sb3_contrib", "QRDQN", _DISCRETE, _GREEDY | {"n_quantiles"}),
    "recurrent_ppo": _Algorithm("sb3_contrib", "RecurrentPPO", _BOX + _DISCRETE, _CLIPPED, policy="MlpLstmPolicy"),
    "sac": _Algorithm(
        "stable_baselines3",
        "SAC",
        _BOX,
        frozenset({"target_entropy", "target_update_interval"}),
        frozenset({"top_quantiles_to_drop_per_net"}),
    ),
    "sbx_sac": _Algorithm("sbx", "SAC", _BOX, _JAX | {"ent_coef_init"}),
    "sbx_td3": _Algorithm("sbx", "TD3", _BOX, _JAX | _TWIN),
    "td3": _Algorithm("stable_baselines3", "TD3", _BOX, _TWIN, _JAX),
    "tqc": _Algorithm("sb3_contrib", "TQC", _BOX, frozenset({"top_quantiles_to_drop_per_net"})),
    "trpo": _Algorithm("sb3_contrib", "TRPO", _BOX + _DISCRETE, frozenset({"cg_max_steps"})),
}


def algorithm(name: str, action_space: gym.Space[Any] | None = None) -> type[BaseAlgorithm]:
    """The class of an algorithm.

    Args:
        name: "a2c", "ddpg", "dqn", "ppo", "sac" or "td3"; with sb3-contrib also "qrdqn", "recurrent_ppo", "tqc" or
            "trpo", with SBX (Stable-Baselines3 in JAX) "sbx_sac" or "sbx_td3".
        action_space: The actions it is to take; None asks nothing.

    Raises:
        ConfigurationError: No such algorithm, or it cannot take such actions; those that can are named.
        MissingExtraError: One of sb3-contrib or SBX, which is not installed.
    """
    known = ALGORITHMS.get(name)
    if known is None:
        raise ConfigurationError(f"no algorithm is called {name!r}. {did_you_mean(name, ALGORITHMS)}")
    if action_space is not None and not isinstance(action_space, known.actions):
        able = [other for other, entry in ALGORITHMS.items() if isinstance(action_space, entry.actions)]
        takes = " or ".join(kind.__name__ for kind in known.actions)
        raise ConfigurationError(
            f"{name} takes {takes} actions, these are {describe_space(action_space)}. "
            f"Algorithms that take them: {', '.join(able) or 'none'}."
        )
    try:
        module = importlib.import_module(known.package)
    except ImportError as error:
        raise missing_extra(*_EXTRAS.get(known.package, (known.package.replace("_", "-"), "sb3"))) from error
    return getattr(module, known.name)


def check_settings(name: str, settings: Mapping[str, Any], *, own: Collection[str]) -> None:
    """Refuse keyword arguments that an algorithm does not take, before anything is learned.

    Args:
        name: Of the algorithm, which there is.
        settings: Keyword arguments.
        own: Those of them that the caller gives itself.

    Raises:
        ConfigurationError: An unknown one (the nearest are named), or one of the caller's.
    """
    otherwise = {word: f"{word}: it is set otherwise than among the settings of {name}; leave it out" for word in own}
    check_known(settings, algorithm(name), own=otherwise, unknown=f"{name} takes no setting")


def new_model(name: str, env: Any, settings: Mapping[str, Any], **own: Any) -> BaseAlgorithm:
    """An algorithm that has learned nothing yet, with the policy that it wants for vectors.

    Args:
        name: Of the algorithm.
        env: What it learns in.
        settings: Keyword arguments that a user has given.
        own: Those of the caller.

    Raises:
        ConfigurationError: As for `algorithm`, or settings that it refuses.
    """
    kind: Any = algorithm(name, env.action_space)
    try:
        # It writes into what it is given
        made: BaseAlgorithm = kind(ALGORITHMS[name].policy, env, **own, **copy.deepcopy(dict(settings)))
    except (TypeError, ValueError, AssertionError) as error:
        told = ", ".join(f"{key}={value!r}" for key, value in settings.items())
        raise ConfigurationError(f"{name} cannot be made with {told or 'its defaults'}: {error}") from error
    return made


def algorithm_name(model: Any) -> str | None:
    """The name of the algorithm whose class is the model's own; None for a class of somebody else."""
    for name, entry in ALGORITHMS.items():
        if type(model).__name__ == entry.name and type(model).__module__.split(".")[0] == entry.package:
            return name
    return None


def load_model(path: str | Path, algo: str) -> BaseAlgorithm:
    """A model that `model.save(path)` has written, on the CPU: an agent for the observation it was trained on.

    Such a file holds pickled parts, and a pickle may run any code when it is read. So load files that you trust, and
    name the algorithm: nothing is unpickled before the file's plain text is that of `algo`. The model comes without
    room for replay; to train it further, load it with the algorithm's own `load`.

    Args:
        path: The zip; its suffix may be left out, as in `model.save`.
        algo: The algorithm that wrote it; see `algorithm`.

    Raises:
        ConfigurationError: An unknown algorithm, or a file of another one.
        MissingExtraError: sb3-contrib or SBX is needed and not installed.
        BundleError: The file is missing, cut short, or not a model's.
    """
    kind = algorithm(algo)
    file = Path(path)
    if not file.is_file():
        file = as_zip(file)
    writers = _writers(file)
    if not writers:
        raise BundleError(
            f"{file}: its plain text is that of no algorithm that dreamenv knows; expected {algo}'s. Nothing of it was "
            "unpickled."
        )
    if algo not in writers:
        raise ConfigurationError(f"{file} was not saved by {algo}. Load it as {' or '.join(writers)}.")
    try:
        return kind.load(file, device="cpu", custom_objects=dict(_NO_REPLAY))
    # What is pickled may raise anything, and weights that do not fit raise several types
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise BundleError(
            f"{file}: {kind.__name__} cannot load it ({type(error).__name__}: {reason}). "
            f"Name the algorithm that saved it; known: {', '.join(sorted(ALGORITHMS))}."
        ) from error


class _AgentFormat:
    """Zips of this library as agents; see `dreamenv.agents.kinds.ForeignFormat`."""

    def load(self, file: Path, algo: str, action_space: gym.Space[Any] | None) -> BaseAlgorithm:
        algorithm(algo, action_space)  # before a file is asked for, say which algorithms could be meant
        return load_model(file, algo)

    def algorithm_of(self, agent: Any) -> str | None:
        return algorithm_name(agent)

    def save(self, agent: Any, file: Path) -> None:
        agent.save(file)


AGENT_FORMAT = _AgentFormat()


def as_zip(path: str | Path) -> Path:
    """`path` with the suffix that `model.save` gives it."""
    path = Path(path)
    return path if path.suffix == ".zip" else path.with_name(f"{path.name}.zip")


def write_provenance(path: str | Path, provenance: dict[str, Any]) -> None:
    """Replace the JSON-ready `provenance` of the model in the zip at `path`, and nothing else, atomically."""
    path = Path(path)
    with atomic(path) as temporary, zipfile.ZipFile(path) as source, zipfile.ZipFile(temporary, "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename == "data":
                content = json.dumps({**json.loads(content), "provenance": provenance}, indent=4).encode()
            target.writestr(entry, content)


def _writers(file: Path) -> list[str]:
    """The algorithms whose settings a model's file holds, read from its JSON alone."""
    try:
        if not file.is_file():
            raise OSError(errno.ENOENT, "no such regular file")
        with zipfile.ZipFile(file) as archive:
            _check_sizes(archive, file.stat().st_size)
            found = parse_json(archive.read("data"))
    except OSError as error:
        raise BundleError(f"{file}: cannot be read ({error.strerror}); give a model that was saved") from error
    except (zipfile.BadZipFile, KeyError, ValueError, RuntimeError, NotImplementedError, EOFError, zlib.error) as error:
        raise BundleError(f"{file}: not a model of stable-baselines3 (cut short?): {error}") from error
    if not isinstance(found, dict):
        raise BundleError(f"{file}: data: found {type(found).__name__}, expected an object of settings")
    held = frozenset(found) if found.keys() >= _ALL_HOLD else frozenset()
    return [name for name, entry in ALGORITHMS.items() if entry.holds <= held and not entry.lacks & held]


def _check_sizes(archive: zipfile.ZipFile, size: int) -> None:
    """Refuse an archive whose parts would grow far beyond what was packed, or have one name twice."""
    parts = archive.infolist()
    if len({part.filename for part in parts}) < len(parts):
        raise ValueError("it has two parts of one name")
    if sum(part.file_size for part in parts) > _MOST_EXPANSION * size + _ROOM:
        raise ValueError(f"its parts are {sum(part.file_size for part in parts):,} bytes, packed in {size:,}")
    if any(part.filename == "data" and part.file_size > _MOST_SETTINGS for part in parts):
        raise ValueError(f"its settings are larger than {_MOST_SETTINGS:,} bytes")
