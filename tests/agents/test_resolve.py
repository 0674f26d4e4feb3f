from __future__ import annotations

import importlib
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from dreamenv import registry
from dreamenv.agents import (
    LinearController,
    RandomAgent,
    load_agent,
    register_agent,
    resolve_agent,
    save_agent,
    weight_shape,
)
from dreamenv.agents.kinds import FOREIGN_FORMATS
from dreamenv.agents.mpc import mpc_agent
from dreamenv.agents.resolve import find_agent_file
from dreamenv.errors import BundleError, ConfigurationError, SpaceMismatchError, UnknownDreamError
from dreamenv.files import sha256_of
from dreamenv.world_model import WorldModel
from tests import own_kinds
from tests.agents.small_dreams import CHOICE, StairsMemory, small_dream
from tests.damage import edit_sealed
from tests.fakes import trained_like_world_model, write_registry

FEATURES = spaces.Box(-np.inf, np.inf, (4,), np.float32)
PEDALS = spaces.Box(np.array([-1.0, 0.0, 0.0], np.float32), np.ones(3, np.float32))


def controller(space: gym.Space[Any] = PEDALS, action_map: str | None = "throttle") -> LinearController:
    outputs = 2 if space is PEDALS else 3
    weights = np.random.default_rng(0).normal(size=(outputs, 5))
    provenance = {"real_frames": 17, "note": "τ 1.15"}
    return LinearController(
        weights, FEATURES, space, observation="latent", action_map=action_map, provenance=provenance
    )


@pytest.mark.parametrize(("space", "action_map"), [(PEDALS, "throttle"), (spaces.Discrete(3, start=1), None)])
def test_a_saved_agent_comes_back_as_it_was(tmp_path: Path, space: gym.Space[Any], action_map: str | None) -> None:
    saved = controller(space, action_map)
    file = save_agent(saved, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["agent.safetensors"]
    seen = np.random.default_rng(1).normal(size=(7, 4))
    for source in (tmp_path, str(tmp_path), file, str(file)):
        loaded = load_agent(source)
        assert isinstance(loaded, LinearController)
        assert loaded.provenance == saved.provenance
        assert loaded.observation == "latent"
        assert loaded.observation_space == FEATURES
        assert loaded.action_space == space
        assert loaded.action_map.kind == saved.action_map.kind
        np.testing.assert_array_equal(loaded.predict(seen)[0], saved.predict(seen)[0])


def test_a_registered_id_loads_its_bundles_agent_and_checks_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_agent(entry: dict[str, Any]) -> None:
        entry["sha256"]["agent.safetensors"] = sha256_of(save_agent(controller(), tmp_path / "bundle"))

    file = write_registry(tmp_path, "DreamTest-v0", trained_like_world_model(), change=with_agent)
    monkeypatch.setattr(registry, "_entries", registry.read_registry(file))
    assert load_agent("DreamTest-v0").provenance["real_frames"] == 17
    assert load_agent("LatentTest-v0").provenance["real_frames"] == 17
    save_agent(LinearController(np.zeros((2, 5)), FEATURES, PEDALS, action_map="throttle"), tmp_path / "bundle")
    with pytest.raises(BundleError, match=r"agent\.safetensors: sha256 is .* registry\.yaml wants"):
        load_agent("DreamTest-v0")
    with pytest.raises(UnknownDreamError, match="Did you mean DreamTest-v0"):
        load_agent("DremTest-v0")


def test_missing_agents(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no agent here yet \(no agent\.safetensors\)"):
        load_agent(tmp_path)
    with pytest.raises(BundleError, match=r"other\.safetensors: cannot be read"):
        load_agent(tmp_path / "other.safetensors")
    with pytest.raises(UnknownDreamError, match="no such folder"):
        load_agent(tmp_path / "nowhere")
    with pytest.raises(UnknownDreamError, match=r"no agent is called 'randm': .* 'random', or a planner"):
        load_agent("randm")


def test_truncated_file(tmp_path: Path) -> None:
    file = save_agent(controller(), tmp_path)
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(BundleError, match="cut short"):
        load_agent(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": "99"}, "format_version 99, this dreamenv reads agents of 2"),
        ({"format_version": None}, "format_version missing"),
        ({"kind": "liner"}, "Did you mean linear"),
        ({"action_space": None}, "action_space: missing key"),
        ({"action_space": "{"}, "action_space: not JSON"),
        ({"config": json.dumps({"hidden": 3})}, "does not rebuild.*hidden"),
        ({"observation": "pixels"}, "does not rebuild.*pixels"),
    ],
)
def test_metadata_that_does_not_fit(tmp_path: Path, change: dict[str, str | None], message: str) -> None:
    def changed(metadata: dict[str, str]) -> None:
        for name, text in change.items():
            if text is None:
                del metadata[name]
            else:
                metadata[name] = text

    file = save_agent(controller(), tmp_path)
    edit_sealed(file, metadata=changed)
    with pytest.raises(BundleError, match=message):
        load_agent(file)


def test_weights_that_do_not_fit_the_spaces(tmp_path: Path) -> None:
    file = save_agent(controller(), tmp_path)
    edit_sealed(file, tensors=lambda tensors: tensors.update(weights=torch.zeros(2, 9)))
    with pytest.raises(BundleError, match=r"shape \(2, 9\)"):
        load_agent(file)


def test_agents_that_could_not_be_loaded_are_not_saved(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"'RandomAgent' cannot be saved; these can: .*linear"):
        save_agent(RandomAgent(FEATURES, PEDALS, generator=0), tmp_path)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def model_of(tmp_path: Path, **kwargs: Any) -> WorldModel:
    model = trained_like_world_model(image=False, **kwargs)
    model.save(tmp_path)
    return model


def linear(model: WorldModel, scale: float = 0.3) -> LinearController:
    weights = scale * np.random.default_rng(5).normal(size=weight_shape(model))
    return LinearController(weights, model.observation_space(), model.action_space)


def test_everything_that_names_an_agent(tmp_path: Path) -> None:
    model = model_of(tmp_path)
    agent = linear(model)
    file = save_agent(agent, tmp_path)
    planner = "planner:shooting,candidates=4,horizon=2"
    found = {
        source: resolve_agent(source, model, source=tmp_path)
        for source in (None, tmp_path, str(file), "random", planner, agent)
    }
    labels = ["shipped", str(tmp_path), str(file), "random", planner, "linear"]
    assert [entry.label for entry in found.values()] == labels
    assert [entry.observation for entry in found.values()] == [*["features"] * 4, "state", "features"]
    assert [entry.blind for entry in found.values()] == [False, False, False, True, False, False]
    assert all(entry.portable for entry in found.values())
    seen = np.random.default_rng(0).normal(size=(3, *agent.observation_space.shape))
    for source in (None, tmp_path, str(file)):
        np.testing.assert_array_equal(found[source].agent.predict(seen)[0], agent.predict(seen)[0])
    again = resolve_agent(found[None], model)
    assert (again.label, again.agent) == ("shipped", found[None].agent)
    assert resolve_agent(found["random"], model).blind
    assert resolve_agent(agent, model, label="mine").label == "mine"
    assert found[agent].of_episode(3) is agent


def test_workers_elsewhere_get_the_file_of_the_agent_that_is_loaded(tmp_path: Path) -> None:
    """A run keeps its agent in a folder of its own."""
    model = model_of(tmp_path / "bundle")
    file = save_agent(linear(model), tmp_path / "agent")
    for name in (tmp_path, tmp_path / "bundle", tmp_path / "agent", file):
        assert find_agent_file(str(name)) == file
    assert find_agent_file("random") is None


def test_a_run_plays_by_what_it_has_learned_last(tmp_path: Path) -> None:
    """`publish` puts an agent into the bundle; what is evolved in the run afterwards is the run's agent."""
    model = model_of(tmp_path / "bundle")
    shipped, later = linear(model), linear(model)
    later.provenance = {"note": "later"}
    save_agent(shipped, tmp_path / "bundle")
    assert load_agent(tmp_path).provenance == shipped.provenance
    save_agent(later, tmp_path / "agent")
    assert load_agent(tmp_path).provenance == later.provenance != shipped.provenance
    assert load_agent(tmp_path / "bundle").provenance == shipped.provenance
    assert find_agent_file(str(tmp_path)) == tmp_path / "agent" / "agent.safetensors"


def test_a_bundle_without_an_agent(tmp_path: Path) -> None:
    model = model_of(tmp_path)
    with pytest.raises(BundleError, match=r"no agent here yet .* dreamenv evolve"):
        resolve_agent(None, model, source=tmp_path)
    assert resolve_agent(None, model, source=tmp_path, otherwise="random").label == "random"
    save_agent(linear(model), tmp_path)
    assert resolve_agent(None, model, source=tmp_path, otherwise="random").label == "shipped"
    for source in (None, model):
        with pytest.raises(ConfigurationError, match="give an agent, or name the world model by id or folder"):
            resolve_agent(None, model, source=source)


def test_random_acts_anew_in_every_episode(tmp_path: Path) -> None:
    model = model_of(tmp_path)
    player = resolve_agent("random", model)
    seen = np.zeros((4, model.memory.feature_size))
    drawn = [player.of_episode(seed).predict(seen)[0] for seed in (1, 2, 1)]
    assert np.array_equal(drawn[0], drawn[2])
    assert not np.array_equal(drawn[0], drawn[1])
    other = spaces.Box(0, 1, (7,), np.float32)
    assert player.of_episode(1, other).predict(np.zeros(7))[0].shape == (2,)
    assert model.action_space.contains(load_agent("random", world_model=tmp_path).predict(seen[0])[0])
    with pytest.raises(ConfigurationError, match="'random' acts for a world model: give it"):
        load_agent("random")


@pytest.mark.parametrize("kind", ["linear", "random", "planner", "sb3"])
def test_a_worker_is_described_the_same_agent(tmp_path: Path, kind: str) -> None:
    model = model_of(tmp_path / "bundle")
    agent: Any = {"random": "random", "planner": "planner:shooting,candidates=4,horizon=2,seed=3"}.get(kind)
    if kind == "linear":
        agent = linear(model)
    if kind == "sb3":
        stable_baselines3 = pytest.importorskip("stable_baselines3")
        envs = importlib.import_module("dreamenv.sb3").DreamVecEnv(model, 2)
        agent = stable_baselines3.PPO("MlpPolicy", envs, policy_kwargs={"net_arch": [4]}, seed=1, device="cpu")
    player = resolve_agent(agent, model)
    described = pickle.loads(pickle.dumps(player.hand_over(model, tmp_path)))  # noqa: S301
    again = described.resolve(model)
    assert (again.label, again.observation, again.blind) == (player.label, player.observation, player.blind)
    size = model.observation_space(player.observation).shape
    seen = 0.1 * np.random.default_rng(2).normal(size=(3, *size)).astype(np.float32)
    expected, _ = player.of_episode(4).predict(seen, None, None, True)
    np.testing.assert_array_equal(again.of_episode(4).predict(seen, None, None, True)[0], expected)


def test_own_kinds_are_saved_and_loaded_once_they_are_registered(tmp_path: Path) -> None:
    model = own_kinds.drawn_model()
    agent = own_kinds.spy_agent(model)
    with pytest.raises(BundleError, match="kind 'spy' cannot be saved; these can: actor_critic, distilled, linear"):
        save_agent(agent, tmp_path)
    assert not resolve_agent(agent, model).portable
    with own_kinds.own_kinds():
        assert isinstance(load_agent(save_agent(agent, tmp_path)), own_kinds.SpyAgent)
        assert resolve_agent(agent, model).portable
        with pytest.raises(ConfigurationError, match=r"agent 'linear': SpyAgent\.kind is 'spy'"):
            register_agent("linear", own_kinds.SpyAgent)
        other = type("Other", (own_kinds.SpyAgent,), {})
        with pytest.raises(ConfigurationError, match="agent 'spy' is <class"):
            register_agent("spy", other)
    for found in (OwnAgent, "spy"):
        with pytest.raises(
            ConfigurationError, match="expected a class of SavableAgent, .* lacks .*tensors, config, from"
        ):
            register_agent("own", found)  # type: ignore[arg-type]
    with pytest.raises(BundleError, match="kind is 'spy'"):
        load_agent(tmp_path)


class OwnAgent:
    """An agent of a library of one's own, whose package is that of this module."""

    def __init__(self, model: WorldModel, action: float) -> None:
        self.observation_space, self.action_space = model.observation_space(), model.action_space
        self.action = action

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> Any:
        return np.full((len(observation), 2), self.action, np.float32), None


def test_a_library_of_ones_own_can_register_how_it_saves(tmp_path: Path) -> None:
    model = model_of(tmp_path / "bundle")

    class Format:
        def load(self, file: Path, algo: str, action_space: Any) -> OwnAgent:
            if algo != "constant":
                raise ConfigurationError(f"no algorithm is called {algo!r}")
            return OwnAgent(model, float(file.read_text(encoding="utf-8")))

        def algorithm_of(self, agent: Any) -> str | None:
            return "constant" if type(agent) is OwnAgent else None

        def save(self, agent: Any, file: Path) -> None:
            file.write_text(str(agent.action), encoding="utf-8")

    agent = OwnAgent(model, 0.625)
    assert not resolve_agent(agent, model).portable
    with pytest.raises(ConfigurationError, match="OwnAgent cannot be handed to worker processes; use workers=0"):
        resolve_agent(agent, model).hand_over(model, tmp_path)
    library = OwnAgent.__module__.partition(".")[0]
    FOREIGN_FORMATS.add(library, Format())
    try:
        player = resolve_agent(agent, model)
        assert player.portable
        again = player.hand_over(model, tmp_path).resolve(model)
        assert (again.label, again.agent.action) == ("OwnAgent", 0.625)  # type: ignore[attr-defined]
        with pytest.raises(ConfigurationError, match="no algorithm is called 'moving'"):
            load_agent(tmp_path / "agent.zip", algo=f"{library}:moving")
    finally:
        del FOREIGN_FORMATS._added[library]
    with pytest.raises(ConfigurationError, match="agent_format 'mine' is not known"):
        load_agent(tmp_path / "agent.zip", algo="mine:moving")


class Bounded:
    """An agent that learned where observations have bounds."""

    action_space = PEDALS

    def __init__(self, shape: tuple[int, ...], dtype: Any = np.float32) -> None:
        self.observation_space = spaces.Box(-1.0, 1.0, shape, dtype)

    def predict(self, observation: Any, *others: Any) -> tuple[Any, None]:
        return PEDALS.sample(), None


def test_an_agent_of_the_real_environment_plays_where_latents_are_observations() -> None:
    model = trained_like_world_model(action_space=PEDALS, image=False)
    for dtype in (np.float32, np.float64):
        assert resolve_agent(Bounded((4,), dtype), model).observation == "latent"
    for wrong in (Bounded((5,)), Bounded((4,), np.int64)):
        with pytest.raises(SpaceMismatchError, match="observation spaces differ"):
            resolve_agent(wrong, model)
    with pytest.raises(SpaceMismatchError, match="observation spaces differ"):
        resolve_agent(Bounded((4,)), trained_like_world_model(action_space=PEDALS))
    with pytest.raises(SpaceMismatchError, match="action spaces differ"):
        resolve_agent(Bounded((4,)), trained_like_world_model(action_space=spaces.Discrete(2), image=False))


def test_an_agent_that_does_not_fit_the_model_is_refused(tmp_path: Path) -> None:
    model = model_of(tmp_path)
    other = trained_like_world_model(action_space=spaces.Discrete(2), image=False)
    with pytest.raises(SpaceMismatchError, match="action spaces differ"):
        resolve_agent(linear(other), model)
    with pytest.raises(ConfigurationError, match="name it: --agent FILE.zip --algo ppo"):
        resolve_agent("random", model, algo="ppo")


def test_a_planner_dreams_on_in_a_model_of_another_real_environment(tmp_path: Path) -> None:
    model = small_dream(StairsMemory(), CHOICE)
    agent = mpc_agent("planner:mcts,horizon=1,simulations=1", model)
    changed = model.with_real(replace(model.real, max_episode_steps=7))
    assert resolve_agent(agent, changed).hand_over(changed, tmp_path).name == agent.name
    stranger = small_dream(StairsMemory(), CHOICE)
    resolved = resolve_agent(agent, stranger)
    with pytest.raises(ConfigurationError, match="dreams with another model than it is scored on"):
        resolved.hand_over(stranger, tmp_path)
