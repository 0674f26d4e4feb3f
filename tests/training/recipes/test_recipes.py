"""Recipes by name: what they take, what they give, and that all of them go through the same pipeline."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from dreamenv.data.collect import collect
from dreamenv.data.episodes import EpisodeCache, EpisodeStore
from dreamenv.data.preprocess import make_real_env
from dreamenv.data.split import HELD_OUT_EVERY
from dreamenv.envs import DreamEnv
from dreamenv.errors import ConfigurationError
from dreamenv.memory.ensemble.model import ProbabilisticEnsemble
from dreamenv.memory.heads import REWARD_BOUND
from dreamenv.memory.kinds import register_memory
from dreamenv.memory.mdn_rnn.model import MDNRNN
from dreamenv.memory.rssm.model import RSSM
from dreamenv.memory.tabular import TabularMemory
from dreamenv.training.pipeline import TrainOptions, check_trainable, train
from dreamenv.training.recipes import joint
from dreamenv.training.recipes.base import Fitted, Job, Recipe
from dreamenv.training.recipes.ensemble import EnsembleMemoryOptions, EnsembleOptions, EnsembleRecipe
from dreamenv.training.recipes.kinds import RECIPES, register_recipe
from dreamenv.training.recipes.mdn_rnn import MDNRNNOptions, MDNRNNRecipe, MemoryOptions, RefitOptions, VisionOptions
from dreamenv.training.recipes.tabular import TabularOptions, TabularRecipe
from dreamenv.types import RealEnvSpec
from dreamenv.vision.vae import ConvVAE
from dreamenv.world_model import WorldModel
from tests.training.synthetic import counted, rotation, squares

PENDULUM = RealEnvSpec("Pendulum-v1", max_episode_steps=30)
LAKE = RealEnvSpec("FrozenLake-v1", {"is_slippery": False}, max_episode_steps=20)
BOX = spaces.Box(-1, 1, (1,), np.float32)
ENSEMBLE: dict[str, Any] = {
    "memory": {"members": 3, "elites": 2, "hidden_size": 16, "layers": 1},
    "fit": {"batch_size": 4, "learning_rate": 3e-3, "max_epochs": 14, "patience": 14},
}


@pytest.mark.parametrize(
    ("options", "function", "given"),
    [
        (VisionOptions, ConvVAE, set()),
        (MemoryOptions, MDNRNN, {"latent_size", "action_space"}),
        (joint.MemoryOptions, RSSM, {"embedding_size", "action_space"}),
        (
            EnsembleMemoryOptions,
            ProbabilisticEnsemble,
            {"latent_size", "action_space", "termination_fn", "reward_weight", "bonus"},  # the last are no fit's
        ),
    ],
)
def test_options_are_the_arguments_of_what_they_make(
    options: type, function: Callable[..., Any], given: set[str]
) -> None:
    arguments = {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in given
    }
    given_by_default = asdict(options())
    if given_by_default.get("reward_bound", 0.0) is None:  # the data's, and a head's own where there are no data
        assert arguments["reward_bound"] == REWARD_BOUND
        given_by_default["reward_bound"] = REWARD_BOUND
    assert given_by_default == arguments


@pytest.mark.parametrize("name", RECIPES.names())
def test_every_option_has_a_default_that_json_holds(name: str) -> None:
    assert all(field.init for field in fields(RECIPES[name].options_type))
    assert TrainOptions(name).options == RECIPES[name].options_type()
    assert TrainOptions(name, TrainOptions(name).options).options == TrainOptions(name, {}).options


def test_a_later_fit_has_steps_of_its_own() -> None:
    options = MDNRNNOptions(refit=RefitOptions(7, 9))
    later = MDNRNNRecipe().refit(options)
    assert (later.fit_vision.steps, later.fit_memory.steps) == (7, 9)
    assert later.memory == options.memory
    replaying = MDNRNNRecipe().refit(options, replayed=3 * 32 * 128 + 1)  # windows of 128 steps, frames one by one
    assert (replaying.fit_memory.steps, replaying.fit_vision.steps) == (4, 97)
    frozen = MDNRNNRecipe().refit(MDNRNNOptions(refit=RefitOptions(vision_steps=0)), replayed=1)
    assert (frozen.fit_memory.steps, frozen.fit_vision.steps) == (1, 0)
    assert EnsembleRecipe().refit(EnsembleOptions()) == EnsembleOptions()
    assert EnsembleRecipe().refit(EnsembleOptions(), replayed=513).fit.max_steps == 3
    assert TabularRecipe().refit(TabularOptions()) == TabularOptions()


def test_recipes_are_registered_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RECIPES, "_added", {})

    class Own(Recipe[TabularOptions]):
        options_type = TabularOptions

        def fit(self, job: Job[TabularOptions]) -> Fitted:
            return TabularRecipe().fit(job)

    register_recipe("own", Own)
    assert {"own", "mdn_rnn", "ensemble", "tabular"} <= set(RECIPES.names())
    assert TrainOptions("own").options == TabularOptions()
    with pytest.raises(ConfigurationError, match="recipe 'mdn_rnn' is .* already"):
        register_recipe("mdn_rnn", Own)
    for wrong in (Own(), TabularOptions):
        with pytest.raises(ConfigurationError, match="expected a class that inherits from Recipe"):
            register_recipe("wrong", wrong)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="expected a class that inherits from MemoryModel"):
            register_memory("wrong", wrong)  # type: ignore[arg-type]


def test_an_ensemble_is_trained_like_any_other_model(tmp_path: Path) -> None:
    collect(PENDULUM, tmp_path / "episodes", episodes=6, workers=0)
    model = train(PENDULUM, tmp_path, TrainOptions("ensemble", ENSEMBLE, replay_starts=5), tensorboard=False)
    assert model.provenance["recipe"] == "ensemble"
    assert model.provenance["options"]["memory"]["members"] == 3
    held_out = model.provenance["held_out"]
    assert held_out["error"] < 0.5  # 1 is to say that every change is the mean one
    assert held_out["reward_r2"] > 0.5
    assert set(model.starts.replay) == {"latent", "member"}
    env = DreamEnv(WorldModel.load(tmp_path / "bundle"), start="replay")
    observation, _ = env.reset(seed=1)
    assert env.observation_space.contains(observation)
    assert np.isfinite(env.step(env.action_space.sample())[1])


def test_a_killed_ensemble_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(stage: str, step: int, steps: int, scalars: dict[str, float]) -> None:
        if (tmp_path / "broken" / "memory" / "checkpoint.safetensors").exists():
            raise Stop

    bundles = []
    for name in ("whole", "broken"):
        collect(PENDULUM, tmp_path / name / "episodes", episodes=4, workers=0)
        options = TrainOptions("ensemble", ENSEMBLE, replay_starts=5)
        if name == "broken":
            with pytest.raises(Stop):
                train(PENDULUM, tmp_path / name, options, tensorboard=False, progress=stop)
        train(PENDULUM, tmp_path / name, options, tensorboard=False)
        bundles.append({file.name: file.read_bytes() for file in (tmp_path / name / "bundle").iterdir()})
    assert bundles[0] == bundles[1]


def test_an_ensemble_continues_from_a_model(tmp_path: Path) -> None:
    """As the rounds of a loop do."""
    collect(PENDULUM, tmp_path / "episodes", episodes=6, workers=0)
    first = train(PENDULUM, tmp_path, TrainOptions("ensemble", ENSEMBLE, replay_starts=5), tensorboard=False)
    one = {"fit": {"max_epochs": 1}}
    errors = []
    for name, begin in (("later", first), ("fresh", None)):
        options = TrainOptions("ensemble", ENSEMBLE | one, replay_starts=0)
        run = tmp_path / name
        model = train(PENDULUM, run, options, episodes=tmp_path / "episodes", begin=begin, tensorboard=False)
        errors.append(model.provenance["held_out"]["error"])
    assert errors[0] < 0.7 * errors[1]


def test_a_table_counts_the_steps_that_are_not_held_out(tmp_path: Path) -> None:
    collect(LAKE, tmp_path / "episodes", episodes=HELD_OUT_EVERY + 5, workers=0)
    model = train(LAKE, tmp_path, TrainOptions("tabular"), tensorboard=False)
    episodes = list(EpisodeStore(tmp_path / "episodes"))
    del episodes[::HELD_OUT_EVERY]
    expected = np.zeros((16, 4, 16), np.int64)
    for episode in episodes:
        places = episode.observations.argmax(1)
        np.add.at(expected, (places[:-1], episode.actions, places[1:]), 1)
    memory = WorldModel.load(tmp_path / "bundle").memory
    assert isinstance(memory, TabularMemory)
    np.testing.assert_array_equal(memory.counts.numpy(), expected)
    held_out = model.provenance["held_out"]
    assert 0 < held_out["tried"] <= 1
    assert held_out["likelihood"] == pytest.approx(held_out["tried"])  # the ice is not slippery
    env, real = DreamEnv(model), gym.make("FrozenLake-v1", is_slippery=False)
    assert env.reset(seed=0)[0].argmax() == real.reset(seed=0)[0] == 0
    assert env.step(1)[0].argmax() == real.step(1)[0] == 4


def job_of(cache: EpisodeCache, options: Any, space: gym.Space[Any], folder: Path) -> Job[Any]:
    return Job(options, cache, RealEnvSpec("Own-v0"), space, folder)


@dataclass
class Refused:
    recipe: type[Recipe[Any]]
    cache: EpisodeCache
    space: gym.Space[Any]
    message: str


@pytest.mark.parametrize(
    "case",
    [
        Refused(EnsembleRecipe, squares(), BOX, r"takes vectors, got observations of shape \(64, 64, 3\)"),
        Refused(TabularRecipe, rotation(3), spaces.Discrete(2), "takes one-hot observations; Own-v0 shows others"),
        Refused(TabularRecipe, squares(), spaces.Discrete(2), "takes one-hot observations"),
        Refused(TabularRecipe, rotation(3), BOX, "takes Discrete actions, got Box"),
    ],
    ids=["pictures", "numbers", "frames", "actions"],
)
def test_what_a_recipe_cannot_take_is_named(case: Refused, tmp_path: Path) -> None:
    job = job_of(case.cache, case.recipe.options_type(), case.space, tmp_path)
    with pytest.raises(ConfigurationError, match=case.message):
        case.recipe().fit(job)


@pytest.mark.parametrize(
    ("recipe", "real", "message"),
    [
        ("value_equivalent", "Pendulum-v1", "has a policy over Discrete actions, got Box"),
        ("tabular", "Pendulum-v1", "takes Discrete actions, got Box"),
        ("ensemble", "CarRacing-v3", r"takes vectors, got observations of shape \(64, 64, 3\)"),
        ("value_equivalent", "CarRacing-v3", "Discrete"),
    ],
)
def test_environments_that_a_recipe_cannot_learn_are_refused_before_anything_is_collected(
    recipe: str, real: str, message: str
) -> None:
    with closing(make_real_env(RealEnvSpec(real))) as env, pytest.raises(ConfigurationError, match=message):
        check_trainable(env, TrainOptions(recipe))


@pytest.mark.parametrize("recipe", ["mdn_rnn", "rssm", "ensemble", "value_equivalent"])
def test_recipes_take_the_environments_that_they_can(recipe: str) -> None:
    with closing(make_real_env(RealEnvSpec("CartPole-v1"))) as env:
        check_trainable(env, TrainOptions(recipe))
        with pytest.raises(ConfigurationError, match="device 'nowhere' cannot be used"):
            check_trainable(env, TrainOptions(recipe, device="nowhere"))


def test_data_have_a_fingerprint(tmp_path: Path) -> None:
    one, same, other = (job_of(counted(lengths), None, BOX, tmp_path).data for lengths in ([3, 4], [3, 4], [3, 5]))
    assert one == same != other
    cache = counted([3, 4])
    for name, array in vars(cache).items():
        if name != "first":  # follows from the lengths
            changed = replace(cache, **{name: ~array if array.dtype == bool else array + array.dtype.type(1)})
            assert job_of(changed, None, BOX, tmp_path).data != one, name


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [
        ("rssm", {"memory": {"latents": "categorial"}}, "latents='categorial'; expected one of"),
        ("rssm", {"memory": {"reward_bound": -5.0}}, "bound positive"),
        ("rssm", {"memory": {"latents": "gaussian", "gaussian_size": 0}}, "at least 1 Gaussian number"),
        ("rssm", {"network": {"depth": 0}}, "depth and width must be at least 1"),
        ("rssm", {"refit_steps": 0}, "refit_steps must be at least 1"),
        ("ensemble", {"memory": {"propagation": "episodic"}}, "propagation='episodic'"),
        ("value_equivalent", {"memory": {"support": 0}}, "width and support must be at least 1"),
        ("value_equivalent", {"encoder": {"width": 0}}, "depth and width must be at least 1"),
        ("value_equivalent", {"refit_steps": 0}, "refit_steps must be at least 1"),
        ("mdn_rnn", {"memory": {"components": "foo"}}, "components='foo'; expected one of"),
        ("mdn_rnn", {"vision": {"latent_size": 0}}, "latent_size and channels must be at least 1"),
        ("mdn_rnn", {"refit": {"memory_steps": 0}}, "memory_steps at least 1"),
    ],
)
def test_options_that_no_model_can_have_are_refused_before_anything_is_collected(
    recipe: str, options: dict[str, Any], message: str
) -> None:
    before = torch.get_rng_state()
    with pytest.raises(ConfigurationError, match=message):
        TrainOptions(recipe, options)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [
        ("rssm", {}, r"pictures of shape \(96, 96, 3\); the convolutions take \(64, 64, 3\)"),
        ("mdn_rnn", {}, r"pictures of shape \(96, 96, 3\); the convolutions take \(64, 64, 3\)"),
        ("rssm", {"mirror": [1.0, 1.0]}, "expected 1 or -1 for each dimension of the actions"),
    ],
)
def test_pictures_and_mirrors_that_do_not_fit_are_refused_before_anything_is_collected(
    recipe: str, options: dict[str, Any], message: str
) -> None:
    size = 64 if options else 96
    real = RealEnvSpec("CarRacing-v3", image_size=size)
    with closing(make_real_env(real)) as env, pytest.raises(ConfigurationError, match=message):
        check_trainable(env, TrainOptions(recipe, options))


def test_a_checkpoint_of_another_beginning_is_not_continued(tmp_path: Path) -> None:
    """Else a model that was to begin with another one would be the one that began afresh."""
    options = TrainOptions("ensemble", ENSEMBLE | {"fit": {"max_epochs": 1}})
    collect(PENDULUM, tmp_path / "episodes", episodes=3, workers=0)
    before = train(PENDULUM, tmp_path, options, tensorboard=False)
    with pytest.raises(ConfigurationError, match="begin"):
        train(PENDULUM, tmp_path, options, begin=before, tensorboard=False)


def test_nothing_seeds_globally(tmp_path: Path) -> None:
    collect(PENDULUM, tmp_path / "episodes", episodes=3, workers=0)
    before = torch.get_rng_state()
    train(PENDULUM, tmp_path, TrainOptions("ensemble", ENSEMBLE | {"fit": {"max_epochs": 1}}), tensorboard=False)
    assert torch.equal(torch.get_rng_state(), before)
