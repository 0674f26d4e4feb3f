"""The store of episodes: lossless, whole or not at all, and mirrored by a cache."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from dreamenv.data import episodes as module
from dreamenv.data.episode_file import episode_bytes, read_attributes, read_episode, sealed
from dreamenv.data.episodes import EpisodeStore, build_cache
from dreamenv.data.split import held_out_episodes
from dreamenv.errors import ConfigurationError, EpisodeFileError
from dreamenv.types import Episode


def picture_episode(steps: int, seed: int = 0, **changes: Any) -> Episode:
    rng = np.random.default_rng(seed)
    episode = Episode(
        observations=rng.integers(0, 256, (steps + 1, 64, 64, 3), dtype=np.uint8),
        actions=rng.uniform(-1, 1, (steps, 3)).astype(np.float32),
        rewards=rng.normal(size=steps).astype(np.float32),
        terminated=True,
        truncated=False,
        seed=2**31 - 1,
        policy="autocorrelated(scale=0.2, τ)",
        real_frames=4 * steps - 1,
        final_observation_valid=False,
    )
    return dataclasses.replace(episode, **changes)


def vector_episode(steps: int, seed: int = 0) -> Episode:
    rng = np.random.default_rng(seed)
    return Episode(
        observations=rng.normal(size=(steps + 1, 4)).astype(np.float32),
        actions=rng.integers(0, 2, steps),
        rewards=rng.normal(size=steps).astype(np.float32),
        terminated=False,
        truncated=True,
        seed=seed,
        policy="uniform",
        real_frames=steps,
    )


def same(one: Episode, other: Episode) -> bool:
    for field in dataclasses.fields(Episode):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, np.ndarray):
            if a.dtype != b.dtype or not np.array_equal(a, b):
                return False
        elif a != b or type(a) is not type(b):
            return False
    return True


@pytest.mark.parametrize("episode", [picture_episode(21), vector_episode(5), picture_episode(1)])
def test_what_is_written_is_read(tmp_path: Path, episode: Episode) -> None:
    store = EpisodeStore(tmp_path / "new" / "episodes")
    file = store.append(episode)
    assert file.name == "00000000.h5"
    assert same(store[0], episode)
    assert read_attributes(file)["undiscounted_return"] == episode.undiscounted_return
    assert store.real_frames == episode.real_frames


def test_the_store_keeps_the_order_and_counts_on(tmp_path: Path) -> None:
    store = EpisodeStore(tmp_path)
    assert (len(store), list(store), store.files()) == (0, [], [])
    store.write(3, vector_episode(3))
    store.write(0, vector_episode(1))
    assert store.append(vector_episode(4)).name == "00000004.h5"
    assert [len(episode) for episode in store] == [1, 3, 4]
    assert store.real_frames == 8


def test_any_frame_is_read_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, episode = EpisodeStore(tmp_path), picture_episode(40)
    store.append(vector_episode(2))
    store.append(episode)
    monkeypatch.setattr(module, "read_episode", None)  # the rest of the episode is not read
    for step in (0, 16, 33, 40):
        assert np.array_equal(store.frame(1, step), episode.observations[step])
    with h5py.File(store.files()[1]) as data:
        assert data["observations"].chunks == (16, 64, 64, 3)
        assert data["observations"].compression == "gzip"


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.7, 0.99])
def test_a_file_cut_short_is_named(tmp_path: Path, share: float) -> None:
    file = EpisodeStore(tmp_path).append(picture_episode(20))
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])
    for read in (read_episode, read_attributes, lambda f: build_cache(EpisodeStore(f.parent), tmp_path / "cache")):
        with pytest.raises(EpisodeFileError, match=r"00000000\.h5: .*set it aside"):
            read(file)


def test_damage_within_the_frames_is_noticed(tmp_path: Path) -> None:
    file = EpisodeStore(tmp_path).append(picture_episode(20))
    raw = bytearray(file.read_bytes())
    middle = len(raw) // 2
    raw[middle : middle + 200] = bytes(200)
    file.write_bytes(raw)
    with pytest.raises(EpisodeFileError, match=r"00000000\.h5"):
        read_episode(file)


def test_what_is_no_episode_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "00000000.h5"

    def change(edit: Callable[[h5py.File], Any]) -> None:
        file.write_bytes(episode_bytes(vector_episode(3)))
        with h5py.File(file, "a") as data:
            edit(data)
        file.write_bytes(sealed(file.read_bytes()))

    change(lambda data: data.attrs.__setitem__("format_version", 99))
    with pytest.raises(EpisodeFileError, match="format_version 99, this dreamenv reads 2"):
        read_episode(file)
    change(lambda data: data.__delitem__("rewards"))
    with pytest.raises(EpisodeFileError, match="rewards"):
        read_episode(file)

    def shorten(data: h5py.File) -> None:
        del data["rewards"]
        data["rewards"] = np.zeros(2, np.float32)

    change(shorten)
    with pytest.raises(EpisodeFileError, match="2 rewards needs 3 observations and 2 actions"):
        read_episode(file)
    change(lambda data: data.attrs.clear())
    with pytest.raises(EpisodeFileError, match="it is not an episode of dreamenv"):
        read_episode(file)
    with h5py.File(file, "w") as data:
        data["something"] = 1
    with pytest.raises(EpisodeFileError, match="it does not begin as an episode of dreamenv"):
        read_episode(file)


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = EpisodeStore(tmp_path)
    store.append(vector_episode(3))
    before = store.files()[0].read_bytes()

    def breaks(number: int) -> None:
        raise SystemExit

    monkeypatch.setattr("dreamenv.files.os.fsync", breaks)
    for index in (0, 1):
        with pytest.raises(SystemExit):
            store.write(index, vector_episode(9))
    assert [file.name for file in tmp_path.iterdir()] == ["00000000.h5"]
    assert store.files()[0].read_bytes() == before


def test_parts_of_a_killed_writer_are_no_episodes(tmp_path: Path) -> None:
    store = EpisodeStore(tmp_path)
    store.append(vector_episode(3))
    (tmp_path / ".00000001.h5.123.part").write_bytes(b"half")
    assert len(store) == 1
    store.sweep()
    assert [file.name for file in tmp_path.iterdir()] == ["00000000.h5"]


@pytest.mark.parametrize("make", [picture_episode, vector_episode])
def test_the_cache_equals_the_store(tmp_path: Path, make: Any) -> None:
    store = EpisodeStore(tmp_path / "episodes")
    written = [make(steps, seed) for seed, steps in enumerate((3, 1, 7))]
    for episode in written:
        store.append(episode)
    for _ in range(2):  # built, then read again
        cache = build_cache(store, tmp_path / "cache")
        assert isinstance(cache.observations, np.memmap)
        assert not cache.observations.flags.writeable
        assert cache.observations.dtype == written[0].observations.dtype
        assert cache.episodes == 3
        assert (cache.first.tolist(), cache.first_step.tolist()) == ([0, 4, 6], [0, 3, 4])
        for e, episode in enumerate(written):
            first, step, length = cache.first[e], cache.first_step[e], cache.lengths[e]
            assert length == len(episode)
            assert np.array_equal(cache.observations[first : first + length + 1], episode.observations)
            assert np.array_equal(cache.actions[step : step + length], episode.actions)
            assert np.array_equal(cache.rewards[step : step + length], episode.rewards)
            assert cache.terminated[e] == episode.terminated
            assert cache.final_valid[e] == episode.final_observation_valid
    names = sorted(file.name for file in (tmp_path / "cache").iterdir())
    assert [name.partition("-")[0] for name in names] == ["index", "observations"]


def test_the_cache_is_built_anew_only_when_it_must_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, folder = EpisodeStore(tmp_path / "episodes"), tmp_path / "cache"
    store.append(vector_episode(3))
    reads: list[Path] = []
    read = module.read_episode
    monkeypatch.setattr(module, "read_episode", lambda file: reads.append(file) or read(file))
    build_cache(store, folder)
    build_cache(store, folder)
    assert len(reads) == 1
    store.append(vector_episode(4, 1))
    assert build_cache(store, folder).lengths.tolist() == [3, 4]
    assert len(reads) == 3
    # a file replaced by one of the same length
    other = vector_episode(3, 7)
    os.utime(store.write(0, other), ns=(5, 5))
    assert np.array_equal(build_cache(store, folder).observations[:4], other.observations)
    assert len(reads) == 5
    # a damaged or unfinished cache
    index, frames = sorted(folder.iterdir())
    frames.write_bytes(frames.read_bytes()[:150])
    killed, at_work = folder / ".observations-of.1.part.npy", folder / ".observations-of.2.part.npy"
    for part in (killed, at_work):
        part.write_bytes(b"of another build")
    os.utime(killed, (5, 5))
    assert np.array_equal(build_cache(store, folder).observations[:4], other.observations)
    index.write_bytes(b"PK")
    assert build_cache(store, folder).episodes == 2
    assert sorted(folder.iterdir()) == sorted([at_work, index, frames])


def test_builds_at_once_do_not_disturb_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, folder = EpisodeStore(tmp_path / "episodes"), tmp_path / "cache"
    store.append(vector_episode(3))
    read, others = module.read_episode, []

    def read_slowly(file: Path) -> Episode:
        if not others:  # while this build reads, another process builds the same cache
            others.append(None)
            with monkeypatch.context() as elsewhere:
                elsewhere.setattr(os, "getpid", lambda: 1)
                others.append(build_cache(store, folder))
        return read(file)

    monkeypatch.setattr(module, "read_episode", read_slowly)
    cache = build_cache(store, folder)
    before = np.array(cache.observations)
    assert np.array_equal(others[1].observations, before)
    # a store that has grown is cached anew, and whoever has the cache before mapped goes on with it
    store.append(vector_episode(4, 1))
    assert build_cache(store, folder).episodes == 2
    assert np.array_equal(others[1].observations, before)
    assert len(list(folder.iterdir())) == 2


def test_what_no_collection_records_is_refused(tmp_path: Path) -> None:
    store = EpisodeStore(tmp_path / "episodes")
    store.append(vector_episode(3))
    episode = vector_episode(3, 1)
    episode.rewards[1] = np.inf
    with pytest.raises(EpisodeFileError, match="the episode: rewards hold inf at step 1"):
        store.append(episode)
    assert [file.name for file in store.path.iterdir()] == ["00000000.h5"]


def test_a_store_that_cannot_be_cached_is_explained(tmp_path: Path) -> None:
    with pytest.raises(EpisodeFileError, match="no episodes; run `dreamenv collect` first"):
        build_cache(EpisodeStore(tmp_path), tmp_path / "cache")
    store = EpisodeStore(tmp_path)
    store.append(vector_episode(3))
    store.append(picture_episode(3))
    with pytest.raises(EpisodeFileError, match=r"00000001\.h5: observations \(64, 64, 3\) uint8, others"):
        build_cache(store, tmp_path / "cache")


@pytest.mark.parametrize(("count", "held"), [(2, [0]), (20, [0]), (21, [0, 20]), (45, [0, 20, 40])])
def test_the_first_and_every_twentieth_episode_are_held_out(tmp_path: Path, count: int, held: list[int]) -> None:
    store = EpisodeStore(tmp_path / "episodes")
    for index in range(2):
        store.append(vector_episode(2, index))
    cache = build_cache(store, tmp_path / "cache")
    cache = dataclasses.replace(cache, lengths=np.ones(count, np.int64))
    assert np.flatnonzero(held_out_episodes(cache)).tolist() == held


def test_one_episode_is_too_few_to_hold_one_out(tmp_path: Path) -> None:
    store = EpisodeStore(tmp_path / "episodes")
    store.append(vector_episode(2))
    with pytest.raises(ConfigurationError, match="at least 2 episodes"):
        held_out_episodes(build_cache(store, tmp_path / "cache"))
