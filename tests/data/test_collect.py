"""Collecting: the same whatever the workers, the interruptions and the deaths."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from dreamenv import registry
from dreamenv.data import collect as module
from dreamenv.data.collect import Collected, check_collected, collect, is_unfinished, played_again, record_episode
from dreamenv.data.episodes import EpisodeStore
from dreamenv.data.explore import Exploration, Uniform
from dreamenv.data.preprocess import make_known, make_real_env, registration_of
from dreamenv.errors import CollectionError, ConfigurationError, EpisodeFileError, NonFiniteError
from dreamenv.types import Control, RealEnvSpec, Wrapper, episode_seeds
from tests.data.actors import Faulty, Mortal
from tests.diverging_env import DivergingEnv

CARTPOLE = RealEnvSpec("CartPole-v1", max_episode_steps=50)
SLOW = pytest.mark.integration


def contents(path: Path) -> dict[str, bytes]:
    """Every file of a folder, hidden ones included."""
    return {file.name: file.read_bytes() for file in sorted(path.iterdir())}


class Stop(Exception):
    """Stands for a kill: nothing of `collect` runs after it."""


def stop_after(count: int) -> Any:
    calls: Iterator[int] = iter(range(1, 10**6))

    def progress(episode: int, real_frames: int, mean_return: float) -> None:
        if next(calls) == count:
            raise Stop

    return progress


def test_an_episode_is_what_happened() -> None:
    env = make_real_env(RealEnvSpec("Pendulum-v1", action_repeat=3, max_episode_steps=10))
    episode = record_episode(env, Uniform(env.action_space, np.random.default_rng(0)), seed=5)
    assert (len(episode), episode.real_frames, episode.seed, episode.policy) == (4, 10, 5, "uniform")
    assert (episode.terminated, episode.truncated, episode.final_observation_valid) == (False, True, True)
    assert (episode.observations.shape, episode.actions.shape) == ((5, 3), (4, 1))
    assert {a.dtype for a in (episode.observations, episode.actions, episode.rewards)} == {np.dtype(np.float32)}
    observation, _ = env.reset(seed=5)
    for step, action in enumerate(episode.actions):
        np.testing.assert_array_equal(observation, episode.observations[step])
        observation, reward, *_ = env.step(action)
        assert reward == pytest.approx(float(episode.rewards[step]), rel=1e-6)
    np.testing.assert_array_equal(observation, episode.observations[-1])


def test_an_episode_is_played_again_in_another_preparation() -> None:
    real = RealEnvSpec("Pendulum-v1", max_episode_steps=8)
    env = make_real_env(real)
    episode = record_episode(env, Uniform(env.action_space, np.random.default_rng(0)), seed=7)
    turned = dataclasses.replace(
        real, wrappers=(Wrapper("gymnasium.wrappers:RescaleObservation", {"min_obs": -2.0, "max_obs": 2.0}),)
    )
    again = played_again(turned, episode)
    np.testing.assert_array_equal(played_again(real, episode).observations, episode.observations)
    assert not np.allclose(again.observations, episode.observations)
    np.testing.assert_array_equal(again.actions, episode.actions)
    with pytest.raises(CollectionError, match="went another way"):
        played_again(real, dataclasses.replace(episode, rewards=episode.rewards - 1))


def test_a_try_that_was_refused_leaves_the_folder_free(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Pendulum"):
        collect(RealEnvSpec("Pendulum-v1", {"mass": 3}), tmp_path, episodes=1, workers=0)
    assert collect(CARTPOLE, tmp_path, episodes=1, workers=0).episodes == 1


def test_an_episode_that_cannot_be_played_is_skipped_and_counted(tmp_path: Path) -> None:
    spec, lines = RealEnvSpec("Diverging-v0", {"raises": (1, 5), "nan": (3,)}), []
    found = collect(spec, tmp_path, episodes=16, workers=0, report=lines.append)
    assert (found.episodes, list(found.skipped), found.real_frames) == (16, [1, 3, 5], 64)
    assert found.skipped[1] == "FloatingPointError: the simulation has diverged"
    assert [line.partition(":")[0] for line in lines] == [f"episode {index} is skipped" for index in (1, 3, 5)]
    files = EpisodeStore(tmp_path).files()
    assert [int(file.stem) for file in files] == [index for index in range(19) if index not in (1, 3, 5)]
    # what was skipped is not played again, and the collection goes on behind it
    lines.clear()
    assert collect(spec, tmp_path, frames=68, workers=0, report=lines.append).episodes == 17
    assert not lines
    assert collect(spec, tmp_path, episodes=2, workers=0).skipped == found.skipped


def test_an_episode_that_goes_well_the_second_time_is_kept(tmp_path: Path) -> None:
    DivergingEnv.made = 0
    spec = RealEnvSpec("Diverging-v0", {"raises": (1,), "once": True})
    assert collect(spec, tmp_path, episodes=3, workers=0).skipped == {}
    assert DivergingEnv.made == 2  # one that has diverged is not trusted any more


@pytest.mark.parametrize("what", [{"raises": tuple(range(99))}, {"huge": True}])
def test_an_environment_that_diverges_too_often_is_no_environment(tmp_path: Path, what: dict[str, Any]) -> None:
    with pytest.raises(CollectionError, match=r"Diverging-v0: 4 of 4 episodes raised or were not finite, the last"):
        collect(RealEnvSpec("Diverging-v0", what), tmp_path, episodes=8, workers=0)


def test_an_environment_that_never_ends_is_found_out_soon(tmp_path: Path) -> None:
    endless = RealEnvSpec("CartPole-v1", {"sutton_barto_reward": True}, wrappers=(Wrapper(f"{__name__}:Endless"),))
    with pytest.raises(CollectionError, match="has not ended after 1,000 real frames.*--max-episode-steps N"):
        collect(endless, tmp_path, frames=30, workers=0)
    limited = dataclasses.replace(endless, wrappers=(), max_episode_steps=7)
    assert collect(limited, tmp_path, frames=30, workers=0).episodes >= 5


class Endless(gym.Wrapper[Any, Any, Any, Any]):
    """No time limit and no end."""

    spec = None

    def step(self, action: Any) -> Any:
        if self.env.has_wrapper_attr("_elapsed_steps"):
            self.env.set_wrapper_attr("_elapsed_steps", 0)
        observation = self.env.unwrapped.observation_space.sample() * 0
        return observation.astype(np.float32), 1.0, False, False, {}


def test_what_only_this_process_registers_is_given_to_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    known = registration_of(RealEnvSpec("Diverging-v0"))
    assert known is not None
    monkeypatch.delitem(gym.registry, "Diverging-v0")
    make_known(pickle.loads(pickle.dumps(known)))  # noqa: S301 (our own bytes)
    assert make_real_env(RealEnvSpec("Diverging-v0")).reset(seed=0)[0].tolist() == [0]
    assert registration_of(RealEnvSpec("tests.diverging_env:Diverging-v0")) is None
    gym.register("Lambda-v0", entry_point=lambda: DivergingEnv())
    try:
        with pytest.raises(ConfigurationError, match=r"Lambda-v0 is registered by .*lambda.*--workers 0"):
            registration_of(RealEnvSpec("Lambda-v0"))
    finally:
        del gym.registry["Lambda-v0"]


@SLOW
def test_an_episode_is_cut_where_its_policy_says(tmp_path: Path) -> None:
    explore = [Exploration("uniform", max_steps=4)]
    collect(CARTPOLE, tmp_path, explore=explore, episodes=3, workers=0)
    found = list(EpisodeStore(tmp_path))
    assert [(len(e), e.truncated, e.terminated, e.real_frames) for e in found] == [(4, True, False, 4)] * 3


def test_the_number_of_workers_changes_nothing(tmp_path: Path) -> None:
    found = []
    for workers in (0, 1, 2):
        found.append(collect(CARTPOLE, tmp_path / str(workers), frames=120, workers=workers, seed=3))
        assert contents(tmp_path / str(workers)) == contents(tmp_path / "0")
    assert found == [found[0]] * 3
    store = EpisodeStore(tmp_path / "0")
    assert found[0] == Collected(
        len(store), store.real_frames, pytest.approx(np.mean([e.undiscounted_return for e in store]))
    )
    assert [e.seed for e in store] == episode_seeds("collect", 3, len(store))
    assert len({e.policy for e in store}) > 1


def test_it_stops_with_the_episode_that_reaches_the_frames(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    collect(CARTPOLE, tmp_path, frames=100, workers=0, progress=lambda n, frames, mean: seen.append((n, frames)))
    lengths = [e.real_frames for e in EpisodeStore(tmp_path)]
    assert sum(lengths) >= 100 > sum(lengths[:-1])
    assert seen == [(n + 1, sum(lengths[: n + 1])) for n in range(len(lengths))]


def test_another_seed_collects_other_episodes(tmp_path: Path) -> None:
    for seed in (0, 1):
        assert collect(CARTPOLE, tmp_path / str(seed), episodes=2, workers=0, seed=seed).episodes == 2
    one, other = (contents(tmp_path / str(seed)) for seed in (0, 1))
    assert not set(one.values()) & set(other.values())


def test_an_interrupted_collection_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    found = collect(CARTPOLE, whole, frames=150, workers=0)
    for count in (1, 2):
        with pytest.raises(Stop):
            collect(CARTPOLE, broken, frames=150, workers=0, progress=stop_after(count))
        assert is_unfinished(broken)
    (broken / ".00000004.h5.77.part").write_bytes(b"of a killed worker")
    assert collect(CARTPOLE, broken, frames=150, workers=0) == found
    assert contents(broken) == contents(whole)
    assert not is_unfinished(broken)
    assert not is_unfinished(tmp_path / "nothing")


def test_what_workers_finished_beyond_the_limit_is_not_kept(tmp_path: Path) -> None:
    """A kill leaves workers that still end their episodes, with gaps and beyond the limit."""
    whole, broken, more = tmp_path / "whole", tmp_path / "broken", tmp_path / "more"
    found = collect(CARTPOLE, whole, episodes=4, workers=0)
    collect(CARTPOLE, more, episodes=8, workers=0)
    with pytest.raises(Stop):
        collect(CARTPOLE, broken, episodes=4, workers=0, progress=stop_after(1))
    for index in (2, 4, 5, 7):
        (broken / f"{index:08d}.h5").write_bytes((more / f"{index:08d}.h5").read_bytes())
    assert collect(CARTPOLE, broken, episodes=4, workers=0) == found
    assert contents(broken) == contents(whole)


def test_what_an_earlier_call_finished_is_kept(tmp_path: Path) -> None:
    collect(CARTPOLE, tmp_path, episodes=5, workers=0)
    before = contents(tmp_path)
    assert collect(CARTPOLE, tmp_path, frames=1, workers=0).episodes == 5
    assert collect(CARTPOLE, tmp_path, episodes=2, workers=0).episodes == 5
    assert contents(tmp_path) == before
    with pytest.raises(Stop):
        collect(CARTPOLE, tmp_path, episodes=8, workers=0, progress=stop_after(2))
    assert collect(CARTPOLE, tmp_path, episodes=6, workers=0).episodes == 7
    # nor does what has been set aside take away what lies behind it
    store = EpisodeStore(tmp_path)
    store.set_aside(store.files()[1])
    assert collect(CARTPOLE, tmp_path, episodes=3, workers=0).episodes == 7
    # a folder of an earlier version, or of episodes imported
    (tmp_path / "collection.json").unlink()
    assert collect(CARTPOLE, tmp_path, frames=1, workers=0).episodes == 7


def test_a_result_that_never_came_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second worker has written its episode when the first one's reaches the limit."""

    def both_at_once(tasks: Any, make_runner: Any, setup: Any, **kwargs: Any) -> Iterator[tuple[int, Any]]:
        runner = make_runner(setup)
        first = runner(next(iter(tasks)))
        runner(1)
        yield 0, first

    monkeypatch.setattr(module, "run_tasks", both_at_once)
    assert collect(CARTPOLE, tmp_path, frames=1).episodes == 1
    assert sorted(contents(tmp_path)) == ["00000000.h5", "collection.json"]


@SLOW
def test_a_killed_worker_is_reported_and_its_episode_tried_again(tmp_path: Path) -> None:
    for name, most in (("deaths", 2), ("none", 0)):
        (tmp_path / name).mkdir()
        lines: list[str] = []
        explore = [Exploration("mortal", kwargs={"deaths": str(tmp_path / name), "most": most, "at": 5})]
        found = collect(
            CARTPOLE, tmp_path / f"out-{name}", explore=explore, episodes=3, workers=2, factories={"mortal": Mortal},
            report=lines.append,
        )  # fmt: skip
        assert found.episodes == 3
        assert len(lines) == most
        assert all("a worker died (exit code -9) at task" in line for line in lines)
    one, other = (EpisodeStore(tmp_path / f"out-{name}").files() for name in ("deaths", "none"))
    assert [file.read_bytes() for file in one] == [file.read_bytes() for file in other]


@SLOW
def test_an_episode_that_kills_every_worker_ends_the_collection(tmp_path: Path) -> None:
    (tmp_path / "deaths").mkdir()
    explore = [Exploration("mortal", kwargs={"deaths": str(tmp_path / "deaths"), "most": 99})]
    with pytest.raises(CollectionError, match=r"task 0 killed its worker 4 times \(exit code -9\)"):
        collect(
            CARTPOLE, tmp_path / "out", explore=explore, episodes=1, workers=1, factories={"mortal": Mortal},
            report=lambda line: None,
        )  # fmt: skip
    assert is_unfinished(tmp_path / "out")
    assert len(list((tmp_path / "deaths").iterdir())) == 4


@SLOW
def test_a_killed_worker_takes_its_doom_engine_with_it(tmp_path: Path) -> None:
    """The engine is a process of its own: left alone it would run on, and hold the dead worker's pipe open."""
    pytest.importorskip("vizdoom", reason="the extra real is not installed")
    before, lines = engines(), []
    (tmp_path / "deaths").mkdir()
    explore = [Exploration("mortal", kwargs={"deaths": str(tmp_path / "deaths"), "most": 1})]
    spec = registry.find("DreamDoom-v0").section.real.spec()
    begin = time.monotonic()
    found = collect(
        spec, tmp_path / "out", explore=explore, episodes=1, workers=1, factories={"mortal": Mortal},
        report=lines.append,
    )  # fmt: skip
    assert time.monotonic() - begin < 100
    assert (found.episodes, len(lines)) == (1, 1)
    assert not [pid for pid in engines() - before if of_this_test(pid, tmp_path)]


def engines() -> set[int]:
    """Process ids of ViZDoom's engines, dead ones that nobody has reaped left out."""
    listed = subprocess.run(["ps", "-eo", "pid,stat,comm"], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listed.splitlines()[1:]]
    return {int(pid) for pid, state, name, *_ in rows if name == "vizdoom" and not state.startswith("Z")}


def of_this_test(pid: int, tmp_path: Path) -> bool:
    """Whether process `pid` is in the process group of a worker that this test has lost."""
    try:
        group = os.getpgid(pid)
    except ProcessLookupError:
        return False
    return str(group) in {file.name for file in (tmp_path / "deaths").iterdir()}


@SLOW
def test_an_error_of_the_actor_is_told_whatever_its_class(tmp_path: Path) -> None:
    with pytest.raises(CollectionError, match="Fault: a fault in the actor"):
        collect(
            CARTPOLE, tmp_path, explore=[Exploration("faulty")], episodes=1, workers=1, factories={"faulty": Faulty},
            report=lambda line: None,
        )  # fmt: skip


def test_other_settings_need_another_folder(tmp_path: Path) -> None:
    collect(CARTPOLE, tmp_path, episodes=1, workers=0)
    before = contents(tmp_path)
    for spec, options, key in (
        (CARTPOLE, {"seed": 1}, "seed=0, this call has seed=1"),
        (
            RealEnvSpec("CartPole-v1", {"sutton_barto_reward": True}, max_episode_steps=50),
            {},
            r"real=\{'kwargs': \{\}\}, this call has real=\{'kwargs': \{'sutton_barto_reward': True\}\}\. Take",
        ),
        (CARTPOLE, {"explore": [Exploration("uniform")]}, "explore="),
    ):
        with pytest.raises(ConfigurationError, match=f"was collected with .*{key}"):
            collect(spec, tmp_path, episodes=2, workers=0, **options)  # type: ignore[arg-type]
    assert contents(tmp_path) == before
    assert json.loads(before["collection.json"])["real"]["id"] == "CartPole-v1"


@pytest.mark.parametrize(
    ("real", "message"),
    [
        (RealEnvSpec("Pendulum-v1"), r"holds episodes of CartPole-v1, this call is about Pendulum-v1\. Take"),
        (
            RealEnvSpec("CartPole-v1", {"sutton_barto_reward": True, "render_mode": None}),
            r"CartPole-v1 with kwargs=\{'sutton_barto_reward': False\}, this call is about CartPole-v1 with "
            r"kwargs=\{'sutton_barto_reward': True\}\. Take",
        ),
    ],
)
def test_what_is_of_something_else_tells_what_differs_once(tmp_path: Path, real: RealEnvSpec, message: str) -> None:
    kwargs = {"sutton_barto_reward": False, "render_mode": None}
    collect(RealEnvSpec("CartPole-v1", kwargs), tmp_path, episodes=1, workers=0)
    with pytest.raises(ConfigurationError, match=message):
        check_collected(tmp_path, real)


class Screen(gym.Env[Any, Any]):
    """A picture of one value; the space is of bytes."""

    observation_space = gym.spaces.Box(0, 255, (32, 32, 3), np.uint8)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, value: float, dtype: str) -> None:
        self.seen = np.full((32, 32, 3), value, dtype)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        return self.seen, {}

    def step(self, action: Any) -> Any:
        return self.seen, 0.0, True, False, {}


def test_pictures_are_recorded_as_their_space_says_or_refused(tmp_path: Path) -> None:
    gym.register("Screen-v0", entry_point=Screen, max_episode_steps=5)
    try:
        good = RealEnvSpec("Screen-v0", {"value": 200, "dtype": "int64"})
        collect(good, tmp_path / "good", episodes=1, workers=0)
        with pytest.raises(ConfigurationError, match="a picture of float32, its space declares uint8 from 0 to 255"):
            collect(RealEnvSpec("Screen-v0", {"value": 0.5, "dtype": "float32"}), tmp_path, episodes=1, workers=0)
    finally:
        del gym.registry["Screen-v0"]
    assert (EpisodeStore(tmp_path / "good")[0].observations == 200).all()


def test_what_players_see_of_an_environment_is_no_other_setting(tmp_path: Path) -> None:
    collect(CARTPOLE, tmp_path, episodes=1, workers=0)
    file = tmp_path / "collection.json"
    older = json.loads(file.read_text(encoding="utf-8"))
    del older["real"]["controls"], older["real"]["module"]
    file.write_text(json.dumps(older), encoding="utf-8")
    spec = dataclasses.replace(CARTPOLE, frames_per_second=9.0, controls={"LEFT": Control("left", 0)})
    assert collect(spec, tmp_path, episodes=2, workers=0).episodes == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either episodes or frames"),
        ({"episodes": 1, "frames": 1}, "either episodes or frames"),
        ({"frames": 0}, "frames >= 1"),
        ({"episodes": 100_001}, "episodes in"),
        ({"episodes": 1, "seed": 5000}, "seed must be an integer in"),
        ({"episodes": 1, "explore": [Exploration("unifrm")]}, "Did you mean uniform"),
        ({"episodes": 1, "explore": [Exploration("agent")]}, "needs a world model"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        collect(CARTPOLE, tmp_path / "out", workers=0, **options)
    assert not (tmp_path / "out").exists()


def test_a_damaged_record_of_the_collection_is_named(tmp_path: Path) -> None:
    collect(CARTPOLE, tmp_path, episodes=1, workers=0)
    for content in ('{"real": ', "[]"):
        (tmp_path / "collection.json").write_text(content, encoding="utf-8")
        with pytest.raises(EpisodeFileError, match=r"collection\.json"):
            collect(CARTPOLE, tmp_path, episodes=2, workers=0)


@pytest.mark.parametrize("broken", ["reward", "observation"])
def test_what_is_not_finite_is_not_recorded(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    env = make_real_env(CARTPOLE)
    step = env.env.step

    def breaks(action: Any) -> Any:
        observation, reward, *rest = step(action)
        return (observation, np.nan, *rest) if broken == "reward" else (observation * np.inf, reward, *rest)

    monkeypatch.setattr(env.env, "step", breaks)
    with pytest.raises(NonFiniteError, match="CartPole-v1: reward .* at step 0 of seed 9"):
        record_episode(env, Uniform(env.action_space, np.random.default_rng(0)), seed=9)
