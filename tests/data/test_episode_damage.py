"""Episodes, caches and records of collections that were damaged: named, never read as something else."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from dreamenv.data.collect import collect
from dreamenv.data.episode_file import episode_bytes, read_attributes, read_episode, read_steps, sealed
from dreamenv.data.episodes import EpisodeStore, build_cache
from dreamenv.errors import EpisodeFileError
from dreamenv.types import Episode, RealEnvSpec
from tests.command_line import call
from tests.damage import flip

PENDULUM = RealEnvSpec("Pendulum-v1", max_episode_steps=20)


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("collected") / "episodes"
    collect(PENDULUM, folder, episodes=3, workers=0)
    return folder


@pytest.fixture
def store(collected: Path, tmp_path: Path) -> EpisodeStore:
    return EpisodeStore(shutil.copytree(collected, tmp_path / "run" / "episodes"))


def put(name: str, value: Any) -> Callable[[h5py.File], None]:
    def change(data: h5py.File) -> None:
        del data[name]
        data[name] = value

    return change


def attribute(name: str, value: Any) -> Callable[[h5py.File], None]:
    return lambda data: data.attrs.__setitem__(name, value)


@pytest.mark.parametrize(
    "change",
    [
        put("rewards", np.full(20, np.nan, np.float32)),
        put("observations", np.full((21, 3), np.nan, np.float32)),
        put("rewards", np.zeros((20, 99), np.float32)),
        put("rewards", np.array(["a"] * 20, h5py.string_dtype())),
        put("actions", np.float32(3)),
        lambda data: data.__delitem__("actions"),
        lambda data: (data.__delitem__("actions"), data.create_group("actions")),
        lambda data: (data.__delitem__("rewards"), data.create_dataset("rewards", (10**12,), "f4")),
        attribute("seed", "x"),
        attribute("real_frames", np.zeros(3)),
        attribute("real_frames", -5),
        attribute("policy", 3),
        attribute("format_version", "2"),
        lambda data: data.attrs.__delitem__("seed"),
    ],
)
def test_what_does_not_fit_is_not_read(store: EpisodeStore, change: Callable[[h5py.File], Any]) -> None:
    file = store.files()[1]
    with h5py.File(file, "r+") as data:
        change(data)
    with pytest.raises(EpisodeFileError, match=r"00000001\.h5: .*its sha256 is not the one it was written with"):
        read_episode(file)
    file.write_bytes(sealed(file.read_bytes()))
    with pytest.raises(EpisodeFileError, match=r"00000001\.h5"):
        read_episode(file)
    with pytest.raises(EpisodeFileError, match=r"00000001\.h5"):
        build_cache(store, store.path.parent / "cache")


def test_no_flipped_bit_is_read_as_another_episode(store: EpisodeStore, tmp_path: Path) -> None:
    file = store.files()[0]
    before, content = read_episode(file), file.read_bytes()
    rng = np.random.default_rng(0)
    noticed = 0
    for place in rng.integers(0, len(content), 150):
        file.write_bytes(content)
        flip(file, int(place), int(rng.integers(8)))
        try:
            found = read_episode(file)
        except EpisodeFileError:
            noticed += 1
            continue
        for name in ("observations", "actions", "rewards"):
            np.testing.assert_array_equal(getattr(found, name), getattr(before, name))
        assert (found.seed, found.policy, found.terminated) == (before.seed, before.policy, before.terminated)
    assert noticed > 20


def test_chunks_have_checksums(store: EpisodeStore) -> None:
    with h5py.File(store.files()[0]) as data:
        assert all(data[name].fletcher32 for name in ("observations", "actions", "rewards"))


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_only_plain_files_are_read(store: EpisodeStore, kind: str) -> None:
    file = store.files()[0]
    file.unlink()
    {"pipe": os.mkfifo, "folder": os.mkdir}[kind](file)
    for read in (read_episode, read_attributes, read_steps):
        with pytest.raises(EpisodeFileError, match=r"00000000\.h5: .*(Not a regular file|Is a directory)"):
            read(file)


def test_what_is_no_episode_is_not_written() -> None:
    with pytest.raises(EpisodeFileError, match="rewards hold nan at step 1"):
        episode_bytes(
            Episode(
                np.zeros((4, 2), np.float32),
                np.zeros(3, np.int64),
                np.array([0, np.nan, 0], np.float32),
                terminated=False,
                truncated=True,
                seed=0,
                policy="",
                real_frames=3,
            )
        )


def test_a_damaged_episode_is_set_aside_and_collected_again(store: EpisodeStore) -> None:
    run, file = store.path.parent, store.files()[1]
    whole = file.read_bytes()
    flip(file, len(whole) // 2)
    found = call("data", "check", run, "--json", run / "check.json")
    assert found.exit_code == 1
    assert "00000001.h5" in found.stdout
    assert json.loads((run / "check.json").read_text())["episodes"] == 3
    moved = call("data", "check", run, "--set-aside")
    assert moved.exit_code == 0
    assert "2 episodes left, 1 damaged" in moved.stdout
    assert (store.path / "damaged" / "00000001.h5").exists()
    assert len(store) == 2
    assert build_cache(store, run / "cache").episodes == 2
    assert call("data", "check", run).exit_code == 0
    collect(PENDULUM, store.path, episodes=3, workers=0)
    assert file.read_bytes() == whole


def test_files_of_other_names_are_no_episodes(store: EpisodeStore) -> None:
    shutil.copy(store.files()[0], store.path / "0x1.h5")
    assert collect(PENDULUM, store.path, episodes=4, workers=0).episodes == 4


def test_a_damaged_cache_is_built_anew(store: EpisodeStore, tmp_path: Path) -> None:
    whole = np.array(build_cache(store, tmp_path / "cache").observations)
    (frames,) = (tmp_path / "cache").glob("observations-*.npy")
    (index,) = (tmp_path / "cache").glob("index-*.npz")
    for file, place in ((frames, 400), (index, 300), (frames, 8)):
        flip(file, place)
        np.testing.assert_array_equal(build_cache(store, tmp_path / "cache").observations, whole)


@pytest.mark.parametrize(("place", "value"), [(8, 1), (10, 8), (10, 12), (10, 14), (10, 99)])
def test_an_index_that_seems_encrypted_or_compressed_is_built_anew(
    store: EpisodeStore, tmp_path: Path, place: int, value: int
) -> None:
    whole = np.array(build_cache(store, tmp_path / "cache").observations)
    (index,) = (tmp_path / "cache").glob("index-*.npz")
    content = bytearray(index.read_bytes())
    content[content.index(b"PK\x01\x02") + place] = value  # flags or compression of a part, in the zip's directory
    index.write_bytes(content)
    np.testing.assert_array_equal(build_cache(store, tmp_path / "cache").observations, whole)


@pytest.mark.parametrize(
    ("name", "value"), [("unfinished", 3), ("unfinished", {"keep": 1}), ("seed", "0"), ("real", []), ("colour", 1)]
)
def test_a_damaged_record_of_a_collection_is_named(store: EpisodeStore, name: str, value: Any) -> None:
    file = store.path / "collection.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {name: value}), encoding="utf-8")
    with pytest.raises(EpisodeFileError, match=rf"collection\.json: {name}"):
        collect(PENDULUM, store.path, episodes=4, workers=0)
