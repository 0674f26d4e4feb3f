"""Collecting real episodes: parallel, resumable, and the same whatever the number of workers."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from gymnasium.envs.registration import EnvSpec
from pydantic import Field, NonNegativeInt, PositiveInt

from dreamenv.data.episode_file import episode_bytes, read_attributes
from dreamenv.data.episodes import EpisodeStore
from dreamenv.data.explore import POLICIES, Actor, Exploration, check_policy, default_exploration
from dreamenv.data.preprocess import PreprocessedEnv, make_known, make_real_env, modules_of, registration_of
from dreamenv.data.recorder import EpisodeRecorder
from dreamenv.data.writing import Writing
from dreamenv.errors import CollectionError, ConfigurationError, DreamEnvError, EpisodeFileError, NonFiniteError
from dreamenv.files import writable_folder, write_json
from dreamenv.options import what_differs
from dreamenv.run_lock import alone_in
from dreamenv.schema import Strict, checked, read_any
from dreamenv.types import Episode, RealEnvSpec, episode_seeds, recorded_fields
from dreamenv.workers import AnyWorkers, Parcel, find_place, run_tasks

ActorFactory = Callable[..., Actor]
# At most so many episodes a seed, so that the seeds of two collections with different seeds never meet.
MOST_EPISODES = 100_000
_COLLECTION_FILE = "collection.json"
# Real frames that an episode without time limit may last, however few are collected
_LEAST_LONG = 1000
# So many episodes are skipped whatever their share, and beyond them this share of all
_FEW_SKIPPED, _MOST_SKIPPED = 3, 0.2
_TRIES = 2
# Fields of `RealEnvSpec` that change no step of an episode
_OF_WHOLE_EPISODES = ("max_episode_steps", "start_margin")


@dataclass(frozen=True)
class _Setup:
    spec: RealEnvSpec
    path: Path
    seed: int
    explore: tuple[Exploration, ...]
    factories: dict[str, ActorFactory] = field(default_factory=dict)
    registration: EnvSpec | None = None
    most_frames: int | None = None

    def packed(self) -> _Setup:
        """The same for workers that see other files: what the policies read goes along."""
        explore = []
        for exploration in self.explore:
            pack = getattr(self.factories.get(exploration.policy), "pack", None)
            explore.append(exploration if pack is None else replace(exploration, kwargs=pack(exploration.kwargs)))
        return replace(self, explore=tuple(explore))

    def laid_out(self, folder: Path) -> _Setup:
        """The inverse of `packed`: what came along is in `folder`."""
        explore = []
        for number, exploration in enumerate(self.explore):
            kwargs = {
                name: str(value.lay_out(folder / str(number) / name)) if isinstance(value, Parcel) else value
                for name, value in exploration.kwargs.items()
            }
            explore.append(replace(exploration, kwargs=kwargs))
        return replace(self, explore=tuple(explore))


@dataclass(frozen=True)
class Collected:
    """What a call of `collect` leaves in its folder.

    Attributes:
        episodes: Episodes in the store.
        real_frames: Their real frames, action repeat counted.
        mean_return: Their mean return, in units of the real environment.
        skipped: Episodes that raised or were not finite, by number with the reason; others were played in their place.
    """

    episodes: int
    real_frames: int
    mean_return: float
    skipped: dict[int, str] = field(default_factory=dict)


@alone_in("path")
def collect(
    spec: RealEnvSpec,
    path: str | Path,
    *,
    explore: Sequence[Exploration] = (),
    episodes: int | None = None,
    frames: int | None = None,
    workers: AnyWorkers = None,
    seed: int = 0,
    factories: dict[str, ActorFactory] | None = None,
    progress: Callable[[int, int, float], None] = lambda episode, real_frames, mean_return: None,
    report: Callable[[str], None] = print,
) -> Collected:
    """Record real episodes into folder `path` until it holds `episodes` episodes or `frames` real frames.

    Episode i depends on `seed` and i alone, so a call that was killed continues where it was and ends as an unbroken
    one, with any number of workers. Episodes that other workers finish beyond the limit are not kept; those that an
    earlier call finished are, also when this call asks for fewer. An episode that raises or is not finite is played
    once more, then skipped and counted: some simulators diverge now and then.

    Args:
        spec: The real environment.
        path: Folder of the episode store.
        explore: Exploration policies with their shares; a mixture fit for the action space by default.
        episodes: Stop at so many episodes; or
        frames: stop when the episodes' real frames (action repeat counted) reach this.
        workers: Processes; 0 collects in this one, None takes one a core. What is collected does not depend on it.
            They are spawned, so a script needs its `if __name__ == "__main__"`. Or a Ray cluster; see
            `dreamenv.workers.find_place`.
        seed: Seed of the collection, in [0, 5000).
        factories: Makers of actors for further policy names (module-level functions, called as
            `factory(action_space, rng, **kwargs)`).
        progress: Called after each episode with its number, the store's real frames and its mean return so far.
        report: Receives a line when a worker dies or an episode is skipped.

    Raises:
        ConfigurationError: Neither or both limits, an unknown policy, a folder collected with other settings, or one
            that holds an import that has not come to its end or that names no environment.
        CollectionError: An episode kills its worker again and again or never ends, more than a fifth of the episodes
            (and more than three) had to be skipped, or the frames need too many episodes.
    """
    limit = _limit(episodes, frames)
    place = find_place(workers, episodes)
    episode_seeds("collect", seed, 0)  # refuses a seed out of range before anything is written
    for exploration in explore:
        check_policy(exploration, factories or {})
    path = Path(path)
    setup = _Setup(
        spec,
        path,
        seed,
        tuple(explore),
        factories or {},
        None if place.here else registration_of(spec),
        None if frames is None else max(frames, _LEAST_LONG),
    )
    store = EpisodeStore(path)
    recorded = _check_same_collection(setup)
    store.sweep()
    held = {int(file.stem): _frames_and_return(file) for file in store.own_files()}
    skipped = {int(index): str(reason) for index, reason in recorded.get("skipped", {}).items()}
    count = _Count(held, skipped, episodes, frames)
    count.update()
    unfinished = recorded.get("unfinished", {})
    keep = count.finished(unfinished, limit)
    origin = {"origin": recorded["origin"]} if "origin" in recorded else {}
    begun = origin | {"unfinished": {"limit": limit, "keep": keep}}
    _write_collection(setup, begun, skipped)
    sent = setup.packed() if place.elsewhere else setup
    total_frames, total_return = sum(n for n, _ in held.values()), sum(r for _, r in held.values())
    with Writing(store) as writing:
        while not count.reached():  # again where an episode was skipped at the very end
            if count.first >= MOST_EPISODES:
                raise CollectionError(
                    f"{MOST_EPISODES} episodes hold fewer than {frames} frames; collect with another seed too"
                )
            for index, found in run_tasks(
                count.missing(), _make_runner, sent, workers=place, modules=modules_of(spec), report=report
            ):
                if isinstance(found, _Skipped):
                    skipped[index] = found.reason
                    report(f"episode {index} is skipped: {found.reason}")
                    _check_share(spec, held, skipped)
                    _write_collection(setup, begun, skipped)
                    count.update()
                    continue
                writing.put(index, found.file)  # workers write nothing: one that outlives its parent could do harm
                held[index] = found.real_frames, found.undiscounted_return
                count.update()
                total_frames, total_return = total_frames + found.real_frames, total_return + found.undiscounted_return
                progress(len(held), total_frames, total_return / len(held))
                if count.reached():
                    break
    keep = max(keep, count.first)
    for file in store.own_files():
        if int(file.stem) >= keep:
            file.unlink()
    store.sweep()
    skipped = {index: reason for index, reason in sorted(skipped.items()) if index < keep}
    _write_collection(setup, origin, skipped)
    kept = [held[index] for index in sorted(held) if index < keep]
    return Collected(len(kept), sum(n for n, _ in kept), float(np.mean([r for _, r in kept])), skipped)


def _check_share(spec: RealEnvSpec, held: dict[int, Any], skipped: dict[int, str]) -> None:
    played = len(held) + len(skipped)
    if len(skipped) > _FEW_SKIPPED and len(skipped) > _MOST_SKIPPED * played:
        raise CollectionError(
            f"{spec.id}: {len(skipped)} of {played} episodes raised or were not finite, the last one: "
            f"{list(skipped.values())[-1]}. Correct the environment, or explore more gently"
        )


def _limit(episodes: int | None, frames: int | None) -> dict[str, int | None]:
    """The one limit that is given, by its name."""
    if (episodes is None) == (frames is None):
        raise ConfigurationError("give either episodes or frames")
    limit: dict[str, int | None] = {"episodes": episodes} if frames is None else {"frames": frames}
    if (frames or episodes or 0) < 1 or (episodes or 0) > MOST_EPISODES:
        raise ConfigurationError(f"need frames >= 1 or episodes in [1, {MOST_EPISODES}], got {limit}")
    return limit


def is_unfinished(path: str | Path) -> bool:
    """Whether a collection into folder `path` was begun and did not come to its end."""
    file = Path(path) / _COLLECTION_FILE
    return file.exists() and "unfinished" in _read_collection(file)


def collected_real(path: str | Path) -> RealEnvSpec | None:
    """The real environment whose episodes the store in folder `path` holds; None where nothing says so."""
    file = next(iter(_collection_files(Path(path))), None)
    if file is None:
        return None
    found = _read_collection(file)
    if "real" not in found:
        return None
    try:
        return RealEnvSpec.from_json(found["real"])
    except (KeyError, TypeError, ValueError) as error:
        raise EpisodeFileError(f"{file}: real: not a real environment ({error!r}); delete the file") from error


def check_collected(path: str | Path, real: RealEnvSpec) -> None:
    """Refuse episodes of another real environment than `real`, or of one that was prepared otherwise.

    Raises:
        ConfigurationError: The store in folder `path` was collected with other settings; the first one is named.
    """
    wanted = _shown(real.to_json())
    for file in _collection_files(Path(path)):
        found = _shown(_read_collection(file).get("real", {}))
        for name, value in wanted.items():
            if found.get(name, value) != value:
                own, its = what_differs(found[name], value)
                here, there = ("", "") if name == "id" else (f" with {name}={own!r}", f" with {name}={its!r}")
                raise ConfigurationError(
                    f"{file.parent} holds episodes of {found.get('id')}{here}, this call is about {real.id}{there}. "
                    "Take another folder (--out), or the same settings."
                )


def record_origin(
    path: str | Path, real: RealEnvSpec | None, source: str, *, importing_from: int | None = None
) -> None:
    """Note what the episodes are that `source` has put into folder `path`, next to what is noted of others in it.

    Args:
        path: Folder.
        real: The real environment; None where the source names none.
        source: Its name.
        importing_from: While they are being put there, the number of the first.
    """
    file = writable_folder(path) / _COLLECTION_FILE
    found = _read_collection(file) if file.exists() and EpisodeStore(path).own_files() else {}
    named = {} if real is None else {"real": real.to_json()}
    others = {name: value for name, value in found.items() if name not in ("origin", "importing_from")}
    begun = {} if importing_from is None else {"importing_from": importing_from}
    write_json(file, named | others | {"origin": source} | begun)


def importing_from(path: str | Path) -> tuple[int, str] | None:
    """The number of the first episode of an import into folder `path` that did not come to its end, and its source."""
    file = Path(path) / _COLLECTION_FILE
    found = _read_collection(file) if file.exists() else {}
    return (int(found["importing_from"]), str(found.get("origin"))) if "importing_from" in found else None


def _collection_files(path: Path) -> list[Path]:
    """Of the folders of a store that hold episodes."""
    files = sorted(path.rglob(_COLLECTION_FILE))
    return [file for file in files if EpisodeStore(file.parent).own_files()]


def _shown(real: dict[str, Any]) -> dict[str, Any]:
    """What of a real environment decides what is seen and what a step is."""
    return {name: value for name, value in recorded_fields(real).items() if name not in _OF_WHOLE_EPISODES}


class _Count:
    """How many of the first episodes are held or skipped, without a gap, up to the limit."""

    def __init__(
        self, held: dict[int, tuple[int, float]], skipped: dict[int, str], episodes: int | None, frames: int | None
    ) -> None:
        self._held, self._skipped, self._episodes, self._frames = held, skipped, episodes, frames
        self.first = 0
        self._first_held = self._first_frames = 0

    def reached(self) -> bool:
        """Whether they reach the limit."""
        if self._frames is not None:
            return self._first_frames >= self._frames
        return self._first_held == self._episodes

    @property
    def without_gap(self) -> int:
        """How many of the first episodes are there, beyond the limit too."""
        most = len(self._held) + len(self._skipped)
        return next(index for index in range(most + 1) if not self._is_there(index))

    def finished(self, unfinished: Mapping[str, Any], limit: Mapping[str, int | None]) -> int:
        """How many of the first numbers earlier calls have come to the end of: their episodes stay.

        Args:
            unfinished: What a killed call has noted, if any: with this limit, it may have left more than it wanted.
            limit: Of this call.
        """
        if not unfinished:
            return max(self._held, default=-1) + 1
        keep = int(unfinished["keep"])
        return keep if unfinished["limit"] == limit else max(keep, self.without_gap)

    def update(self) -> None:
        """Count on."""
        while not self.reached() and self._is_there(self.first):
            if self.first in self._held:
                self._first_held += 1
                self._first_frames += self._held[self.first][0]
            self.first += 1

    def missing(self) -> Iterator[int]:
        """Episodes to record, in order, until the limit is reached by those that have come in meanwhile."""
        index = 0
        while index < self._most and not self.reached():
            if not self._is_there(index):
                yield index
            self.update()
            index += 1

    def _is_there(self, index: int) -> bool:
        return index in self._held or index in self._skipped

    @property
    def _most(self) -> int:
        return MOST_EPISODES if self._episodes is None else min(self._episodes + len(self._skipped), MOST_EPISODES)


def _settings(setup: _Setup) -> dict[str, Any]:
    explore = [{name: value for name, value in asdict(e).items() if value is not None} for e in setup.explore]
    raw = {"real": setup.spec.to_json(), "seed": setup.seed, "explore": explore}
    settings: dict[str, Any] = json.loads(json.dumps(raw))
    return settings


def _check_same_collection(setup: _Setup) -> dict[str, Any]:
    """What collection.json says; empty for a folder without episodes, such as one of a try that was refused.

    Imported episodes have neither seed nor exploration: a collection goes on behind them with any.
    """
    file = setup.path / _COLLECTION_FILE
    if not file.exists() or not EpisodeStore(setup.path).own_files():
        return {}
    settings, found = _settings(setup), _read_collection(file)
    _check_import(setup.path, found)
    for key in sorted(settings.keys() & found.keys()):
        own, its = (_decisive(key, values[key]) for values in (found, settings))
        if own != its:
            own, its = what_differs(own, its)
            made = "was collected" if "seed" in found else f"was filled from {found.get('origin', 'elsewhere')}"
            raise ConfigurationError(
                f"{setup.path} {made} with {key}={own}, this call has {key}={its}. "
                "Take another folder, or the same settings to continue."
            )
    return found


def _check_import(path: Path, found: Mapping[str, Any]) -> None:
    """Refuse to go on behind an import of which it is not known what else belongs to it."""
    if "importing_from" in found:
        raise ConfigurationError(
            f"{path}: an import of {found.get('origin')} has not come to its end; import it again first, or take "
            "another folder"
        )
    if "real" not in found:
        raise ConfigurationError(
            f"{path} holds episodes imported from {found.get('origin')}, which names no environment; expected episodes "
            "of the one that is collected. Take another folder"
        )


def _decisive(key: str, value: Any) -> Any:
    """The part of a setting that decides what is recorded."""
    return recorded_fields(value) if key == "real" and isinstance(value, dict) else value


class _Unfinished(Strict):
    """A call of `collect` that has not come to its end: its limit, and the episodes that it found."""

    limit: dict[Literal["episodes", "frames"], PositiveInt]
    keep: NonNegativeInt


class _Collection(Strict):
    """collection.json. `real` and `explore` are compared with what is asked for."""

    real: dict[str, Any]
    seed: NonNegativeInt | None = None
    explore: list[dict[str, Any]] | None = None
    origin: str | None = None
    unfinished: _Unfinished | None = None
    importing_from: NonNegativeInt | None = None
    skipped: dict[str, str] = Field(default_factory=dict)


class _Import(_Collection):
    """collection.json of a folder that something else has filled, which may name no real environment."""

    real: dict[str, Any] = Field(default_factory=dict)
    origin: str


def _read_collection(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = read_any(file, EpisodeFileError)
    filled = isinstance(found, dict) and "origin" in found
    checked(_Import if filled else _Collection, found, file, EpisodeFileError)
    return found


def _write_collection(setup: _Setup, state: dict[str, Any], skipped: dict[int, str]) -> None:
    setup.path.mkdir(parents=True, exist_ok=True)
    noted = {"skipped": skipped} if skipped else {}
    write_json(setup.path / _COLLECTION_FILE, _settings(setup) | state | noted)


def _frames_and_return(file: Path) -> tuple[int, float]:
    attributes = read_attributes(file)
    return attributes["real_frames"], attributes["undiscounted_return"]


class _Recorded(NamedTuple):
    """An episode as it comes back from a worker: its file, compressed, and what is counted of it."""

    file: bytes
    real_frames: int
    undiscounted_return: float


class _Skipped(NamedTuple):
    """An episode that raised or was not finite, more than once."""

    reason: str


def _make_runner(setup: _Setup) -> Callable[[int], _Recorded | _Skipped]:
    make_known(setup.registration)
    env = _opened(setup)
    folder = tempfile.TemporaryDirectory(prefix="dreamenv-")
    setup = setup.laid_out(Path(folder.name))
    explore = setup.explore or default_exploration(env.action_space)
    shares = np.array([exploration.weight for exploration in explore])
    makers = POLICIES | setup.factories
    seeds = episode_seeds("collect", setup.seed, MOST_EPISODES)

    def once(index: int, folder: Any = folder) -> _Recorded:  # the folder is there as long as the runner is
        rng = np.random.default_rng([setup.seed, index])
        chosen = explore[int(rng.choice(len(explore), p=shares / shares.sum()))]
        actor = makers[chosen.policy](env.action_space, rng, **chosen.kwargs)
        episode = record_episode(env, actor, seed=seeds[index], max_steps=chosen.max_steps)
        return _Recorded(episode_bytes(episode), episode.real_frames, episode.undiscounted_return)

    def run(index: int) -> _Recorded | _Skipped:
        nonlocal env
        reason = ""
        for _ in range(_TRIES):
            try:
                return once(index)
            except Exception as error:  # whatever a foreign simulator raises
                if isinstance(error, DreamEnvError) and not isinstance(error, NonFiniteError):
                    raise
                reason = f"{type(error).__name__}: {error}"
            with suppress(Exception):  # it may be beyond closing
                env.close()
            env = _opened(setup)
        return _Skipped(reason)

    return run


def _opened(setup: _Setup) -> PreprocessedEnv:
    env = make_real_env(setup.spec)
    if setup.most_frames is not None:
        env.allow_frames(setup.most_frames)
    return env


def played_again(real: RealEnvSpec, episode: Episode) -> Episode:
    """An episode of the same real environment as `real` prepares it: its seed and its actions again.

    Raises:
        CollectionError: It went another way, so that this environment cannot be played again.
    """
    env = make_real_env(real)
    try:
        observations = [env.reset(seed=episode.seed)[0]]
        for action, reward in zip(episode.actions, episode.rewards, strict=True):
            observation, again, *_ = env.step(action)
            observations.append(observation)
            if not np.isclose(float(again), reward, rtol=1e-4, atol=1e-4):
                raise CollectionError(f"{real.id} went another way than when it was recorded, and cannot be seen again")
    finally:
        env.close()
    return replace(episode, observations=np.stack(observations))


def record_episode(env: PreprocessedEnv, actor: Actor, *, seed: int, max_steps: int | None = None) -> Episode:
    """One episode of `env` driven by `actor`, whole or cut after `max_steps` actions.

    Raises:
        NonFiniteError: The environment returned a reward or an observation that is not finite.
    """
    recorder = EpisodeRecorder(env)
    seen = actor.view(recorder)
    observation, _ = seen.reset(seed=seed)
    over = False
    while not over:
        observation, _, terminated, truncated, _ = seen.step(actor.act(observation))
        over = terminated or truncated or recorder.length == max_steps
    return recorder.episode(actor.name, cut=recorder.length == max_steps)
