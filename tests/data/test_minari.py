"""Minari data sets: a round trip is exact, and what a world model cannot take is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("minari", reason="the extra minari is not installed")
import minari
from minari.data_collector import EpisodeBuffer

from dreamenv.data.collect import collect, collected_real, importing_from
from dreamenv.data.episodes import EpisodeStore
from dreamenv.data.minari import UNKNOWN_SEED, export_minari, import_minari
from dreamenv.data.preprocess import make_real_env
from dreamenv.errors import ConfigurationError, EpisodeFileError
from dreamenv.training.pipeline import train
from dreamenv.types import Episode, RealEnvSpec

CAR = RealEnvSpec("CarRacing-v3", crop=(0, 84, 0, 96), action_repeat=4, max_episode_steps=1000, start_margin=50)
CARTPOLE = RealEnvSpec("CartPole-v1", max_episode_steps=77)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:minari")


@pytest.fixture(autouse=True)
def datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "datasets"
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(path))
    return path


def picture_episode(rng: np.random.Generator, steps: int, **changes: Any) -> Episode:
    episode = Episode(
        observations=rng.integers(0, 256, (steps + 1, 64, 64, 3), dtype=np.uint8),
        actions=rng.uniform(-1, 1, (steps, 3)).astype(np.float32),
        rewards=rng.normal(size=steps).astype(np.float32),
        terminated=False,
        truncated=True,
        seed=2**30 + 7,
        policy="autocorrelated(scale=0.2)",
        real_frames=4 * steps - 1,
    )
    return dataclasses.replace(episode, **changes)


def vector_episode(rng: np.random.Generator, steps: int) -> Episode:
    return Episode(
        observations=rng.normal(size=(steps + 1, 4)).astype(np.float32),
        actions=rng.integers(0, 2, steps),
        rewards=np.ones(steps, np.float32),
        terminated=True,
        truncated=False,
        seed=3,
        policy="uniform",
        real_frames=steps,
    )


def assert_same(got: Episode, expected: Episode) -> None:
    for field in dataclasses.fields(Episode):
        left, right = getattr(got, field.name), getattr(expected, field.name)
        if isinstance(right, np.ndarray):
            assert left.dtype == right.dtype, field.name
            np.testing.assert_array_equal(left, right, err_msg=field.name)
        else:
            assert (type(left), left) == (type(right), right), field.name


def test_round_trip_of_pictures_is_exact(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    episodes = [
        picture_episode(rng, 5),
        picture_episode(rng, 1, terminated=True, truncated=True),
        picture_episode(rng, 17, terminated=True, truncated=False, final_observation_valid=False),
    ]
    store = EpisodeStore(tmp_path / "there")
    for episode in episodes:
        store.append(episode)
    assert export_minari(store, "dreams/car-v0", CAR, author="someone", description="noise") == 3
    back = EpisodeStore(tmp_path / "back")
    imported = import_minari("dreams/car-v0", back)
    assert (imported.episodes, imported.real_frames) == (3, store.real_frames)
    assert imported.real == CAR
    assert len(back) == 3
    for got, expected in zip(back, episodes, strict=True):
        assert_same(got, expected)


@pytest.mark.parametrize("size", [12, 32, 96])
def test_round_trip_of_pictures_of_any_size_is_exact(size: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    frames = rng.integers(256, size=(4, size, size, 3), dtype=np.uint8)
    store = EpisodeStore(tmp_path / "there")
    store.append(picture_episode(rng, 3, observations=frames))
    export_minari(store, f"car-{size}-v0", dataclasses.replace(CAR, image_size=size))
    back = EpisodeStore(tmp_path / "back")
    import_minari(f"car-{size}-v0", back)
    assert_same(back[0], store[0])


def test_a_killed_import_is_made_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    store, back = EpisodeStore(tmp_path / "there"), EpisodeStore(tmp_path / "back")
    for steps in (3, 4, 5):
        store.append(vector_episode(rng, steps))
    export_minari(store, "cartpole-v5", CARTPOLE)
    back.append(vector_episode(rng, 2))
    append, written = EpisodeStore.append, []

    def killed(self: EpisodeStore, episode: Episode) -> Path:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(append(self, episode))
        return written[-1]

    with monkeypatch.context() as patch:
        patch.setattr(EpisodeStore, "append", killed)
        with pytest.raises(KeyboardInterrupt):
            import_minari("cartpole-v5", back)
    assert len(back) == 3
    export_minari(store, "cartpole-v6", CARTPOLE)
    with pytest.raises(ConfigurationError, match="an import of cartpole-v5 has not come to its end"):
        import_minari("cartpole-v6", back)
    import_minari("cartpole-v5", back)
    assert [len(episode) for episode in back] == [2, 3, 4, 5]
    import_minari("cartpole-v5", back)
    assert len(back) == 7, "a whole import may be repeated"


def test_round_trip_of_vectors_and_discrete_actions_is_exact(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    store = EpisodeStore(tmp_path / "there")
    store.append(vector_episode(rng, 9))
    export_minari(store, "cartpole-v3", CARTPOLE)
    back = EpisodeStore(tmp_path / "back")
    back.append(vector_episode(rng, 2))
    assert import_minari("cartpole-v3", back).real == CARTPOLE
    assert len(back) == 2, "imported episodes go behind those that are there"
    assert_same(back[1], store[0])


def test_minari_reads_an_exported_data_set_as_its_own(tmp_path: Path) -> None:
    episode = picture_episode(np.random.default_rng(2), 6)
    store = EpisodeStore(tmp_path / "there")
    store.append(episode)
    export_minari(store, "car-v0", CAR)
    dataset = minari.load_dataset("car-v0")
    assert dataset.total_steps == 6
    (found,) = dataset.iterate_episodes()
    assert found.observations.shape == (7, 64, 64, 3)
    np.testing.assert_array_equal(found.observations, episode.observations)
    assert found.truncations.tolist() == [False] * 5 + [True]
    assert not found.terminations.any()
    assert dataset.observation_space == gym.spaces.Box(0, 255, (64, 64, 3), np.uint8)
    assert dataset.env_spec is not None
    assert (dataset.env_spec.id, dataset.env_spec.max_episode_steps) == ("CarRacing-v3", 1000)
    dataset.recover_environment().close()


def test_a_foreign_data_set_is_brought_into_form(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    frames = np.repeat(np.repeat(rng.integers(0, 256, (4, 64, 64, 1), dtype=np.uint8), 2, axis=1), 2, axis=2)
    minari.create_dataset_from_buffers(
        "foreign-v0",
        [
            EpisodeBuffer(
                observations=frames,
                actions=np.array([0, 2, 1], np.int32),
                rewards=np.array([0.1, 0.2, 0.3]),
                terminations=np.array([False, False, True]),
                truncations=np.array([False, False, False]),
            )
        ],
        observation_space=gym.spaces.Box(0, 255, (128, 128, 1), np.uint8),
        action_space=gym.spaces.Discrete(3),
        jpeg_encoding=False,
    )
    store = EpisodeStore(tmp_path / "store")
    imported = import_minari("foreign-v0", store)
    assert (imported.episodes, imported.real_frames, imported.real) == (1, 3, None)
    episode = store[0]
    np.testing.assert_array_equal(episode.observations, np.repeat(frames[:, ::2, ::2], 3, axis=3))
    assert (episode.actions.dtype, episode.rewards.dtype) == (np.int64, np.float32)
    assert (episode.seed, episode.policy) == (UNKNOWN_SEED, "minari:foreign-v0")
    assert (episode.terminated, episode.truncated) == (True, False)


def test_a_lossy_data_set_is_imported_with_a_warning(tmp_path: Path) -> None:
    episode = picture_episode(np.random.default_rng(4), 2)
    minari.create_dataset_from_buffers(
        "lossy-v0",
        [
            EpisodeBuffer(
                observations=episode.observations,
                actions=episode.actions,
                rewards=episode.rewards,
                terminations=np.zeros(2, bool),
                truncations=np.array([False, True]),
            )
        ],
        observation_space=gym.spaces.Box(0, 255, (64, 64, 3), np.uint8),
        action_space=gym.spaces.Box(-1, 1, (3,), np.float32),
    )
    store = EpisodeStore(tmp_path / "store")
    with pytest.warns(UserWarning, match="JPEG"):
        import_minari("lossy-v0", store)
    assert (store[0].observations != episode.observations).any()


def test_a_taken_or_malformed_id_and_an_empty_store_are_refused(tmp_path: Path, datasets: Path) -> None:
    store = EpisodeStore(tmp_path / "there")
    with pytest.raises(ConfigurationError, match="no episodes to export"):
        export_minari(store, "cartpole-v0", CARTPOLE)
    store.append(vector_episode(np.random.default_rng(5), 2))
    with pytest.raises(ConfigurationError, match=r"no version.*is no id of a Minari data set"):
        export_minari(store, "no version", CARTPOLE)
    with pytest.raises(
        ConfigurationError, match=r"'cart' is no id of .*; expected \(namespace/\)name-v0, with a version"
    ):
        export_minari(store, "cart", CARTPOLE)
    with pytest.raises(ConfigurationError, match="'cart' is no id of"):
        import_minari("cart", store, download=True)
    export_minari(store, "cartpole-v0", CARTPOLE)
    with pytest.raises(ConfigurationError, match="already exists"):
        export_minari(store, "cartpole-v0", CARTPOLE)
    assert [path.name for path in datasets.iterdir()] == ["cartpole-v0"]


def test_an_episode_of_another_environment_leaves_no_data_set_behind(tmp_path: Path, datasets: Path) -> None:
    rng = np.random.default_rng(6)
    store = EpisodeStore(tmp_path / "there")
    store.append(vector_episode(rng, 2))
    store.append(picture_episode(rng, 2))
    with pytest.raises(EpisodeFileError, match=r"00000001\.h5: observations of shape"):
        export_minari(store, "mixed-v0", CARTPOLE)
    assert list(datasets.iterdir()) == []


def test_an_unknown_data_set_names_the_nearest(tmp_path: Path) -> None:
    store = EpisodeStore(tmp_path / "there")
    store.append(vector_episode(np.random.default_rng(7), 2))
    export_minari(store, "cartpole-v0", CARTPOLE)
    with pytest.raises(ConfigurationError, match="Did you mean cartpole-v0"):
        import_minari("cartpoel-v0", store)


def test_a_data_set_of_a_newer_format_is_refused(tmp_path: Path, datasets: Path) -> None:
    store = EpisodeStore(tmp_path / "there")
    store.append(vector_episode(np.random.default_rng(8), 2))
    export_minari(store, "cartpole-v0", CARTPOLE)
    file = datasets / "cartpole-v0" / "data" / "metadata.json"
    metadata = json.loads(file.read_text())
    metadata["dreamenv"] = metadata["dreamenv"].replace('"format_version": 1', '"format_version": 2')
    file.write_text(json.dumps(metadata))
    with pytest.raises(EpisodeFileError, match="format_version 2"):
        import_minari("cartpole-v0", EpisodeStore(tmp_path / "back"))


def buffers(observations: Any, actions: Any, rewards: Any = None) -> list[EpisodeBuffer]:
    steps = len(actions)
    ends = np.zeros(steps, bool)
    return [
        EpisodeBuffer(
            observations=observations,
            actions=actions,
            rewards=np.ones(steps) if rewards is None else rewards,
            terminations=ends,
            truncations=np.arange(steps) == steps - 1,
        )
    ]


def test_dicts_and_choices_are_prepared_as_those_of_an_environment(tmp_path: Path) -> None:
    minari.create_dataset_from_buffers(
        "dict-v0",
        buffers({"a": np.float32([[1, 2], [3, 4]]), "b": np.array([1, 0])}, np.array([[2, 1]])),
        observation_space=gym.spaces.Dict({"a": gym.spaces.Box(0, 9, (2,)), "b": gym.spaces.Discrete(2)}),
        action_space=gym.spaces.MultiDiscrete([3, 2]),
    )
    store = EpisodeStore(tmp_path / "store")
    import_minari("dict-v0", store)
    assert store[0].observations.tolist() == [[1, 2, 0, 1], [3, 4, 1, 0]]
    assert store[0].actions.tolist() == [5]
    minari.create_dataset_from_buffers(
        "text-v0", [], observation_space=gym.spaces.Text(3), action_space=gym.spaces.Discrete(2)
    )
    with pytest.raises(ConfigurationError, match="text-v0: observations Text.*neither pictures nor vectors"):
        import_minari("text-v0", EpisodeStore(tmp_path / "other"))


def pendulum(scale: float = 1.0) -> dict[str, Any]:
    return {"observations": np.zeros((3, 3), np.float32), "actions": np.full((2, 1), scale, np.float32)}


def test_wrappers_come_with_the_data_and_what_is_of_something_else_is_refused(tmp_path: Path) -> None:
    rescaled = gym.wrappers.RescaleAction(gym.make("Pendulum-v1"), -1.0, 1.0)
    minari.create_dataset_from_buffers("rescaled-v0", buffers(**pendulum()), env=rescaled)
    store = EpisodeStore(tmp_path / "store")
    found = import_minari("rescaled-v0", store).real
    assert found is not None
    assert make_real_env(found).action_space == rescaled.action_space
    assert collected_real(store.path) == found
    with pytest.raises(ConfigurationError, match=r"with wrappers=\[\{'path'.*with wrappers=\[\]"):
        train(RealEnvSpec("Pendulum-v1"), tmp_path, tensorboard=False, episodes=store.path)
    minari.create_dataset_from_buffers("plain-v0", buffers(**pendulum()), env=gym.make("Pendulum-v1"))
    with pytest.raises(ConfigurationError, match="holds episodes of Pendulum-v1 with wrappers"):
        import_minari("plain-v0", store)


def test_a_wrapper_that_cannot_be_made_again_is_refused_by_name(tmp_path: Path, datasets: Path) -> None:
    minari.create_dataset_from_buffers("plain-v0", buffers(**pendulum()), env=gym.make("Pendulum-v1"))
    file = datasets / "plain-v0" / "data" / "metadata.json"
    metadata = json.loads(file.read_text())
    spec = json.loads(metadata["env_spec"])
    lost = {"name": "Secret", "entry_point": "own.wrappers:Secret", "kwargs": None}
    file.write_text(json.dumps(metadata | {"env_spec": json.dumps(spec | {"additional_wrappers": [lost]})}))
    store = EpisodeStore(tmp_path / "store")
    with pytest.raises(ConfigurationError, match=r"through the wrapper own\.wrappers:Secret, which does not say its"):
        import_minari("plain-v0", store)
    # recorded through something that it does not name: its spaces are not those of its environment
    bounds = gym.wrappers.RescaleAction(gym.make("Pendulum-v1"), -1.0, 1.0)
    minari.create_dataset_from_buffers("hidden-v0", buffers(**pendulum()), env=bounds)
    file = datasets / "hidden-v0" / "data" / "metadata.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"env_spec": json.dumps(spec)}))
    with pytest.raises(ConfigurationError, match="hidden-v0 has actions Box.*recorded through something"):
        import_minari("hidden-v0", store)
    assert len(store) == 0


def test_numbers_that_are_not_finite_are_refused_and_nothing_is_added(tmp_path: Path) -> None:
    for name, rewards in (("nan-v0", [1.0, np.nan]), ("huge-v0", [1e39, 1.0])):
        part = buffers(**pendulum(), rewards=np.array(rewards))
        minari.create_dataset_from_buffers(name, [*buffers(**pendulum()), *part], env=gym.make("Pendulum-v1"))
        store = EpisodeStore(tmp_path / name)
        with pytest.raises(EpisodeFileError, match=f"{name}, episode 1: .*rewards hold"):
            import_minari(name, store)
        assert len(store) == 0


def nameless(dataset_id: str, width: int, actions: int, lengths: tuple[int, ...] = (2,)) -> None:
    """A data set that names no environment."""
    episodes = [
        buffers(np.full((steps + 1, width), 0.5, np.float32), np.arange(steps) % actions)[0] for steps in lengths
    ]
    minari.create_dataset_from_buffers(
        dataset_id,
        episodes,
        observation_space=gym.spaces.Box(-1, 1, (width,)),
        action_space=gym.spaces.Discrete(actions),
    )


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def test_what_names_no_environment_goes_only_to_episodes_like_its_own(tmp_path: Path) -> None:
    nameless("three-v0", 3, 3)
    nameless("four-v0", 4, 2)
    store = EpisodeStore(tmp_path / "store")
    collect(CARTPOLE, store.path, episodes=2, workers=0)
    before = contents(store.path)
    with pytest.raises(
        ConfigurationError, match=r"store holds episodes of something else: observations \(4,\) float32"
    ):
        import_minari("three-v0", store)
    assert contents(store.path) == before
    import_minari("four-v0", store)
    assert collected_real(store.path) == CARTPOLE
    other = EpisodeStore(tmp_path / "other")
    import_minari("three-v0", other)
    assert collected_real(other.path) is None
    with pytest.raises(ConfigurationError, match="imported from three-v0, which names no environment"):
        collect(CARTPOLE, other.path, episodes=2, workers=0)


def test_a_killed_import_of_what_names_no_environment_is_made_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nameless("three-v0", 3, 3, (2, 3, 4))
    store = EpisodeStore(tmp_path / "store")
    append = EpisodeStore.append

    def killed(self: EpisodeStore, episode: Episode) -> Path:
        if len(episode) == 4:
            raise KeyboardInterrupt
        return append(self, episode)

    with monkeypatch.context() as patch:
        patch.setattr(EpisodeStore, "append", killed)
        with pytest.raises(KeyboardInterrupt):
            import_minari("three-v0", store)
    assert importing_from(store.path) == (0, "three-v0")
    with pytest.raises(ConfigurationError, match="an import of three-v0 has not come to its end"):
        collect(CARTPOLE, store.path, episodes=2, workers=0)
    import_minari("three-v0", store)
    assert [len(episode) for episode in store] == [2, 3, 4]


def test_collected_and_imported_episodes_lie_in_one_store(tmp_path: Path) -> None:
    whole, store = EpisodeStore(tmp_path / "whole"), EpisodeStore(tmp_path / "store")
    collect(CARTPOLE, whole.path, episodes=5, workers=0, seed=3)
    collect(CARTPOLE, store.path, episodes=2, workers=0, seed=3)
    export_minari(store, "cartpole-v0", CARTPOLE)
    import_minari("cartpole-v0", store)
    assert len(store) == 4
    assert collect(CARTPOLE, store.path, episodes=5, workers=0, seed=3).episodes == 5
    for index in (0, 1, 4):  # as they would be without those between
        assert_same(store[index], whole[index])
    record = json.loads((store.path / "collection.json").read_text())
    assert (record["seed"], record["explore"], record["origin"]) == (3, [], "cartpole-v0")
    # and the other way round
    back = EpisodeStore(tmp_path / "back")
    import_minari("cartpole-v0", back)
    with pytest.raises(
        ConfigurationError, match=r"filled from cartpole-v0 with real=\{'max_episode_steps': 77\}, this"
    ):
        collect(dataclasses.replace(CARTPOLE, max_episode_steps=9), back.path, episodes=3, workers=0)
    collect(CARTPOLE, back.path, episodes=3, workers=0, seed=3)
    assert_same(back[2], whole[2])


def test_nothing_is_imported_into_a_collection_that_has_not_come_to_its_end(tmp_path: Path) -> None:
    nameless("four-v0", 4, 2)
    store = EpisodeStore(tmp_path / "store")

    def killed(episode: int, real_frames: int, mean_return: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collect(CARTPOLE, store.path, episodes=3, workers=0, progress=killed)
    before = contents(store.path)
    with pytest.raises(ConfigurationError, match="a collection has not come to its end"):
        import_minari("four-v0", store)
    assert contents(store.path) == before
