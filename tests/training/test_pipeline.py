"""From episodes to a bundle that is a Gymnasium environment."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import dreamenv
from dreamenv import registry
from dreamenv.cli.options import write_registry
from dreamenv.data.collect import collect
from dreamenv.data.episodes import EpisodeStore
from dreamenv.errors import ConfigurationError, EpisodeFileError, StorageError
from dreamenv.options import overlay, plain
from dreamenv.training.ledger import record_frames
from dreamenv.training.pipeline import TrainOptions, train
from dreamenv.types import RealEnvSpec
from dreamenv.world_model import WorldModel

pytestmark = pytest.mark.integration

PENDULUM = RealEnvSpec("Pendulum-v1", max_episode_steps=30)
SMALL: dict[str, Any] = {
    "memory": {"hidden_size": 8, "mixtures": 2},
    "fit_memory": {"steps": 8, "validate_every": 4, "batch_size": 4, "sequence_length": 16, "precision": "float32"},
}


def tiny(changes: dict[str, Any] | None = None) -> TrainOptions:
    """A small MDN-RNN, with `changes` section by section."""
    return TrainOptions("mdn_rnn", overlay(SMALL, changes or {}), replay_starts=12)


TINY = tiny()


@pytest.mark.parametrize(
    ("real", "memory"),
    [(PENDULUM, {}), (RealEnvSpec("CartPole-v1"), {"reward_head": "mse", "termination_weight": 5.0})],
    ids=["Pendulum", "CartPole"],
)
@pytest.mark.usefixtures("own_registry")
def test_a_dream_of_any_environment_can_be_made(tmp_path: Path, real: RealEnvSpec, memory: dict[str, Any]) -> None:
    frames = collect(real, tmp_path / "episodes", episodes=4, workers=0).real_frames
    stages: list[str] = []
    model = train(
        real,
        tmp_path,
        tiny({"memory": memory}),
        provenance={"command": "a test"},
        tensorboard=False,
        progress=lambda stage, step, steps, scalars: stages.append(stage),
    )
    assert list(dict.fromkeys(stages)) == ["encode", "memory"]
    lengths = [len(episode) for episode in EpisodeStore(tmp_path / "episodes")]
    # what the real environment allows, not what random play reached
    assert model.max_episode_steps == (500 if real.id == "CartPole-v1" else 30)
    assert model.provenance["real_frames"] == frames == sum(lengths)
    assert model.provenance["ledger"] == json.loads((tmp_path / "ledger.json").read_text()) == {"collect": frames}
    assert model.provenance["command"] == "a test"
    assert model.provenance["recipe"] == "mdn_rnn"
    assert model.provenance["options"] == plain(tiny({"memory": memory}).options)
    assert np.isfinite(list(model.provenance["held_out"].values())).all()
    assert (len(model.starts.first), len(model.starts.replay["latent"])) == (3, 12)
    loaded = WorldModel.load(tmp_path / "bundle")
    declared = {"CartPole-v1": 50.0, "Pendulum-v1": 30.0}[real.id]
    assert loaded.real == dataclasses.replace(real, frames_per_second=declared)
    assert (loaded.action_space, loaded.provenance) == (model.action_space, model.provenance)

    file, name = write_registry(tmp_path, real, model.max_episode_steps, model.temperature)
    assert name == f"Dream{real.id}"
    dreamenv.register(file)
    env, twin = gym.make(name, start="replay"), gym.make(name.replace("Dream", "Latent"))
    assert env.observation_space == twin.observation_space
    assert env.action_space == twin.action_space == model.action_space
    for made in (env, twin):
        observation, _ = made.reset(seed=1)
        for _ in range(5):
            assert made.observation_space.contains(observation)
            observation, reward, terminated, truncated, _ = made.step(made.action_space.sample())
            assert np.isfinite(reward)
            if terminated or truncated:
                observation, _ = made.reset()
        made.close()
    envs = gym.make_vec(name, num_envs=3)
    assert envs.reset(seed=0)[0].shape == (3, model.memory.feature_size)
    envs.close()


def test_pictures_train_v_and_are_shown(tmp_path: Path) -> None:
    spec = registry.find("DreamCarRacing-v0").section.real.spec()
    spec = dataclasses.replace(spec, max_episode_steps=252, start_margin=50)
    found = collect(spec, tmp_path / "episodes", episodes=2, workers=0)
    stages: list[str] = []
    options = tiny(
        {
            "vision": {"latent_size": 4, "channels": 2},
            "fit_vision": {"steps": 2, "validate_every": 1, "batch_size": 4, "precision": "bfloat16"},
            "fit_memory": {"latents_as": "sample", "steps": 4},
        }
    )
    writes_pictures = tensorboard_is_installed()
    model = train(
        spec, tmp_path, options, max_episode_steps=250, tensorboard=writes_pictures,
        progress=lambda stage, step, steps, scalars: stages.append(stage),
    )  # fmt: skip
    assert list(dict.fromkeys(stages)) == ["vision", "encode", "memory"]
    assert (model.max_episode_steps, model.provenance["real_frames"]) == (250, found.real_frames)
    assert model.observation_space("pixels").shape == (64, 64, 3)
    assert not model.vision.training
    assert (tmp_path / "bundle" / "model.safetensors").exists()
    env = dreamenv.DreamEnv(WorldModel.load(tmp_path / "bundle"), observation="pixels", start="replay")
    assert env.reset(seed=0)[0].shape == (64, 64, 3)
    if writes_pictures:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(tmp_path / "tensorboard"))
        events.Reload()
        assert {"vision/reconstructions", "memory/open_loop"} <= set(events.Tags()["images"])
        assert {"vision/held_out/kl", "memory/held_out/reward_r2"} <= set(events.Tags()["scalars"])
        assert [event.step for event in events.Scalars("vision/held_out/loss")] == [1, 2]


def tensorboard_is_installed() -> bool:
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        return False
    return True


def test_a_finished_or_interrupted_training_goes_on(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(stage: str, step: int, steps: int, scalars: dict[str, float]) -> None:
        if stage == "memory" and step == 4:
            raise Stop

    bundles = []
    for name in ("whole", "broken"):
        collect(PENDULUM, tmp_path / name / "episodes", episodes=3, workers=0)
        if name == "broken":
            with pytest.raises(Stop):
                train(PENDULUM, tmp_path / name, TINY, tensorboard=False, progress=stop)
            assert not (tmp_path / name / "bundle").exists()
        before = torch.get_rng_state()
        train(PENDULUM, tmp_path / name, TINY, tensorboard=False)
        assert torch.equal(torch.get_rng_state(), before)  # nothing seeds globally
        bundles.append({file.name: file.read_bytes() for file in (tmp_path / name / "bundle").iterdir()})
    assert bundles[0] == bundles[1]
    # a second call with nothing left to do writes the same bundle
    train(PENDULUM, tmp_path / "broken", TINY, tensorboard=False)
    assert (tmp_path / "broken/bundle/model.safetensors").read_bytes() == bundles[0]["model.safetensors"]


def test_a_checkpoint_of_other_data_is_not_continued(tmp_path: Path) -> None:
    """Else a model of yesterday's episodes would pass for one of today's; and more episodes are a way forward."""
    collect(PENDULUM, tmp_path / "episodes", episodes=3, workers=0)
    train(PENDULUM, tmp_path, TINY, tensorboard=False)
    collect(PENDULUM, tmp_path / "episodes", episodes=4, workers=0)
    with pytest.warns(UserWarning, match=r"memory/checkpoint\.safetensors is of other episodes.*fitted anew"):
        grown = train(PENDULUM, tmp_path, TINY, tensorboard=False)
    fresh = train(PENDULUM, tmp_path / "fresh", TINY, episodes=tmp_path / "episodes", tensorboard=False)
    assert grown.fingerprint() == fresh.fingerprint()
    # the first command again asks for fewer episodes than there are, and goes on from what was fitted to all
    collect(PENDULUM, tmp_path / "episodes", episodes=3, workers=0)
    assert train(PENDULUM, tmp_path, TINY, tensorboard=False).fingerprint() == grown.fingerprint()


def test_episodes_of_another_environment_are_refused_before_anything_is_fitted(tmp_path: Path) -> None:
    collect(PENDULUM, tmp_path / "episodes", episodes=2, workers=0)
    for real, difference in (
        (RealEnvSpec("Pendulum-v2"), "of Pendulum-v1, .*about Pendulum-v2"),
        (dataclasses.replace(PENDULUM, kwargs={"g": 2.0}), r"kwargs=\{\}.*kwargs=\{'g': 2\.0\}"),
        (dataclasses.replace(PENDULUM, action_repeat=2), "action_repeat=1.*action_repeat=2"),
    ):
        with pytest.raises(ConfigurationError, match=difference):
            train(real, tmp_path, TINY, tensorboard=False)
        with pytest.raises(ConfigurationError, match=difference):
            train(real, tmp_path / "other", TINY, episodes=tmp_path, tensorboard=False)
    assert not (tmp_path / "cache").exists()
    # a time limit decides when an episode is over and no step of it
    train(dataclasses.replace(PENDULUM, max_episode_steps=20), tmp_path, TINY, tensorboard=False)


def test_episodes_that_can_only_be_read_are_cached_in_the_run(tmp_path: Path) -> None:
    collect(PENDULUM, tmp_path / "data" / "episodes", episodes=2, workers=0)
    (tmp_path / "data" / "cache").write_text("nothing can be written here", encoding="utf-8")
    train(PENDULUM, tmp_path / "run", TINY, episodes=tmp_path / "data" / "episodes", tensorboard=False)
    assert len(list((tmp_path / "run" / "cache").iterdir())) == 2
    with pytest.raises(StorageError, match="cache"):
        train(PENDULUM, tmp_path / "data", TINY, tensorboard=False)


def test_the_reward_head_reaches_as_far_as_the_rewards(tmp_path: Path) -> None:
    collect(RealEnvSpec("Pendulum-v1", max_episode_steps=3), tmp_path / "episodes", episodes=2, workers=0)
    store = EpisodeStore(tmp_path / "episodes")
    store.write(1, dataclasses.replace(store[1], rewards=np.array([0.0, -2000.0, 40.0], np.float32)))
    model = train(PENDULUM, tmp_path, TINY, tensorboard=False)
    loaded = WorldModel.load(tmp_path / "bundle")
    assert model.memory.config()["reward_bound"] == loaded.memory.config()["reward_bound"] == 2400
    assert float(loaded.memory.reward_head.values[0]) == pytest.approx(-2400)
    stages: list[str] = []
    with pytest.raises(ConfigurationError, match=r"from -2000 to .*reaches 300.*--set memory\.reward_head=mse"):
        train(
            PENDULUM,
            tmp_path / "narrow",
            tiny({"memory": {"reward_bound": 300.0}}),
            episodes=tmp_path / "episodes",
            tensorboard=False,
            progress=lambda stage, step, steps, scalars: stages.append(stage),
        )
    assert not stages


def test_the_ledger_counts_every_stage(tmp_path: Path) -> None:
    found = collect(PENDULUM, tmp_path / "episodes", episodes=2, workers=0)
    record_frames(tmp_path, "validation", 1000)
    model = train(PENDULUM, tmp_path, TINY, tensorboard=False)
    assert model.provenance["real_frames"] == found.real_frames + 1000


def test_frames_of_a_part_of_the_collection_are_counted_once(tmp_path: Path) -> None:
    """`dreamenv collect --part late` has noted them apart."""
    for part in ("", "late"):
        found = collect(PENDULUM, tmp_path / "episodes" / part, episodes=2, workers=0, seed=len(part))
        record_frames(tmp_path, f"collect {part}".strip(), found.real_frames)
    model = train(PENDULUM, tmp_path, TINY, tensorboard=False)
    assert model.provenance["ledger"] == {"collect": 120}


def test_what_cannot_be_trained_on_is_explained(tmp_path: Path) -> None:
    with pytest.raises(EpisodeFileError, match="no episodes"):
        train(PENDULUM, tmp_path / "none", TINY, tensorboard=False)
    collect(PENDULUM, tmp_path / "episodes", episodes=1, workers=0)
    with pytest.raises(ConfigurationError, match="at least 2 episodes"):
        train(PENDULUM, tmp_path, TINY, tensorboard=False)
    collect(PENDULUM, tmp_path / "episodes", episodes=2, workers=0)
    record = tmp_path / "episodes" / "collection.json"
    record.rename(tmp_path / "collection.json")  # of episodes that come from elsewhere nothing is recorded
    with pytest.raises(ConfigurationError, match=r"observations of shape \(3,\), CartPole-v1 gives \(4,\)"):
        train(RealEnvSpec("CartPole-v1"), tmp_path, TINY, tensorboard=False)
    store = EpisodeStore(tmp_path / "episodes")
    store.write(0, dataclasses.replace(store[0], actions=np.zeros(len(store[0]), np.int64)))
    store.write(1, dataclasses.replace(store[1], actions=np.zeros(len(store[1]), np.int64)))
    with pytest.raises(ConfigurationError, match=r"actions of shape \(\) and dtype int64.*Pendulum-v1 takes Box"):
        train(PENDULUM, tmp_path, TINY, tensorboard=False)
    collect(PENDULUM, tmp_path / "anew" / "episodes", episodes=2, workers=0)
    store = EpisodeStore(tmp_path / "episodes")
    for index, episode in enumerate(EpisodeStore(tmp_path / "anew")):
        store.write(index, episode)
    with pytest.raises(ConfigurationError, match="device 'abacus' cannot be used"):
        train(PENDULUM, tmp_path, dataclasses.replace(TINY, device="abacus"), tensorboard=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vision": {"chanels": 3}}, r"mdn_rnn\.vision\.chanels: unknown option. Did you mean channels"),
        ({"memory": {"hidden": 3}}, "Did you mean hidden_size"),
        ({"fit_memory": {"step": 3}}, "Did you mean steps"),
        ({"fit_memory": {"steps": "many"}}, r"mdn_rnn\.fit_memory\.steps: found 'many'"),
        # these the recipe gives itself
        ({"fit_vision": {"seed": 3}}, r"fit_vision\.seed: unknown option"),
        ({"memory": {"latent_size": 3}}, r"memory\.latent_size: unknown option"),
    ],
)
def test_options_that_the_recipe_does_not_take_name_the_nearest(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        TrainOptions("mdn_rnn", options)


def test_what_is_not_the_recipes_is_checked_too() -> None:
    with pytest.raises(ConfigurationError, match="recipe 'mdn_rn' is not known. Did you mean mdn_rnn"):
        TrainOptions("mdn_rn")
    with pytest.raises(ConfigurationError, match="expected options by name"):
        TrainOptions("tabular", TINY.options)
    for value in (-0.1, np.inf, np.nan):
        with pytest.raises(ConfigurationError, match=f"temperature must be a finite number of at least 0, got {value}"):
            TrainOptions(temperature=value)
    with pytest.raises(ConfigurationError, match="replay_starts must be at least 0, got -1"):
        TrainOptions(replay_starts=-1)


def test_a_model_of_other_sizes_is_no_beginning(tmp_path: Path) -> None:
    collect(PENDULUM, tmp_path / "episodes", episodes=2, workers=0)
    model = train(PENDULUM, tmp_path, TINY, tensorboard=False)
    other = tiny({"memory": {"hidden_size": 9}})
    with pytest.raises(ConfigurationError, match="the model to begin with does not have the sizes"):
        train(PENDULUM, tmp_path / "other", other, episodes=tmp_path / "episodes", begin=model, tensorboard=False)
    fresh = tiny({"memory": {"hidden_size": 9}, "fresh_memory": True})
    begun, anew = (
        train(PENDULUM, tmp_path / name, fresh, episodes=tmp_path / "episodes", begin=begin, tensorboard=False)
        for name, begin in (("begun", model), ("anew", None))
    )
    assert begun.fingerprint() == anew.fingerprint()
