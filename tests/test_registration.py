from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check_env

import dreamenv
from dreamenv import registry
from dreamenv.envs import DreamEnv, DreamVectorEnv, LatentEnv
from dreamenv.errors import BundleError, RegistryError, UnknownDreamError
from dreamenv.types import RealEnvSpec
from dreamenv.world_model import WorldModel
from tests.fakes import trained_like_world_model, write_registry

ROOT = Path(__file__).resolve().parents[1]
DREAM, TWIN = "DreamTestRacing-v0", "LatentTestRacing-v0"
SHIPPED = [
    f"{kind}{name}-v{version}" for kind in ("Dream", "Latent") for name in ("CarRacing", "Doom") for version in (0, 1)
]


@pytest.fixture(scope="module")
def racing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A registry.yaml with a small model of CarRacing, registered for the tests of this file."""
    box2d = gym.spaces.Box(np.array([-1, 0, 0], np.float32), np.array([1, 1, 1], np.float32))
    path = write_registry(tmp_path_factory.mktemp("racing"), DREAM, trained_like_world_model(action_space=box2d))
    assert dreamenv.register(path) == [DREAM, TWIN]
    yield path
    del registry.entries()[DREAM]
    for name in (DREAM, TWIN):
        del gym.registry[name]


def run_python(code: str, **environment: str) -> str:
    """Standard output of a new interpreter."""
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_import_registers_the_ids_without_torch() -> None:
    code = (
        "import sys, dreamenv, gymnasium as gym;"
        f"assert all(name in gym.registry for name in {SHIPPED});"
        "print(sorted({'torch', 'vizdoom', 'Box2D', 'stable_baselines3', 'cv2'} & set(sys.modules)))"
    )
    assert run_python(code) == "[]"


@pytest.mark.parametrize("name", SHIPPED)
def test_specs_of_the_shipped_ids_are_json(name: str) -> None:
    spec = gym.spec(name)
    assert gym.envs.registration.EnvSpec.from_json(spec.to_json()) == spec
    assert spec.max_episode_steps == (250 if "Car" in name else 525)


def test_make_uses_the_registered_defaults(racing: Path) -> None:
    env = gym.make(DREAM)
    base = env.unwrapped
    assert isinstance(base, DreamEnv)
    assert base.rollout.temperature == 1.25
    assert base.rollout.start == "replay"
    assert env.spec is not None
    assert env.spec.max_episode_steps == 20
    env.reset(seed=0)
    flags = []
    while not any(flags):
        flags = list(env.step(env.action_space.sample())[2:4])
    assert gym.make(f"dreamenv:{DREAM}", start="initial", temperature=0.5).unwrapped.rollout.temperature == 0.5


def test_make_vec_is_one_batch_with_its_own_time_limit(racing: Path) -> None:
    envs = gym.make_vec(DREAM, num_envs=256, observation="latent", max_episode_steps=4, termination="cut")
    assert isinstance(envs, DreamVectorEnv)
    observations, _ = envs.reset(seed=0)
    assert observations.shape == (256, 4)
    ended = np.zeros(256, bool)
    for _ in range(4):
        _, _, terminated, truncated, _ = envs.step(envs.action_space.sample())
        ended |= terminated | truncated
    assert ended.all()
    assert gym.make_vec(DREAM, num_envs=2).max_episode_steps == 20
    assert gym.make_vec(DREAM, num_envs=2, autoreset_mode="SameStep").metadata["autoreset_mode"].value == "SameStep"
    assert gym.make_vec(envs.spec).num_envs == 256


def test_a_model_is_loaded_once(racing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[Any] = []
    load = WorldModel.load
    monkeypatch.setattr(WorldModel, "load", lambda source, **options: loaded.append(source) or load(source, **options))
    trained_like_world_model().save(tmp_path)
    envs = [gym.make(DREAM, checkpoint=str(tmp_path)) for _ in range(2)]
    assert loaded == [str(tmp_path)]
    assert envs[0].unwrapped.world_model is envs[1].unwrapped.world_model
    gym.make_vec(DREAM, num_envs=2, checkpoint=str(tmp_path))
    assert loaded == [str(tmp_path)]


def test_a_changed_bundle_is_loaded_again(tmp_path: Path) -> None:
    trained_like_world_model().save(tmp_path)
    first = DreamEnv(tmp_path)
    changed = trained_like_world_model()
    changed.temperature = 0.7
    changed.save(tmp_path)
    assert DreamEnv(tmp_path).rollout.temperature == 0.7
    assert first.rollout.temperature == 1.1


def test_checkpoint_names_another_bundle(racing: Path, tmp_path: Path) -> None:
    model = trained_like_world_model(action_space=gym.spaces.Discrete(3))
    model.save(tmp_path)
    env = gym.make(DREAM, checkpoint=str(tmp_path))
    assert env.action_space == gym.spaces.Discrete(3)
    assert gym.make_vec(DREAM, num_envs=2, checkpoint=str(tmp_path)).single_action_space == gym.spaces.Discrete(3)


@pytest.mark.parametrize("kind", ["features", "latent", "pixels", "state"])
@pytest.mark.parametrize("name", [DREAM, TWIN])
def test_check_env_of_gymnasium_and_sb3(racing: Path, name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_thoroughly(name, kind, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (name, kind)
        for name in SHIPPED
        for kind in ("features", "latent", "pixels")
        if kind == "features" or "v0" in name
    ],
)
def test_check_env_of_the_shipped_ids(name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = registry.find(name)
    if not entry.checkpoint.exists():
        pytest.skip(f"{entry.checkpoint.name} has no bundle yet")
    if "Doom" in name:
        pytest.importorskip("vizdoom")
    check_thoroughly(name, kind, monkeypatch)


def check_thoroughly(name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both checkers, all render modes, and no warning but of the real action space and of a newer version."""
    if name.startswith("Latent"):
        pytest.importorskip("Box2D")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    sb3 = pytest.importorskip("stable_baselines3.common.env_checker")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        env = gym.make(name, observation=kind).unwrapped
        gymnasium_check_env(env)
        env.close()
        env = gym.make(name, observation=kind, render_mode="rgb_array")
        sb3.check_env(env)
        env.close()
    ours = [str(item.message) for item in caught if "action space" not in str(item.message)]
    ours = [text for text in ours if "pkg_resources" not in text and "is out of date" not in text]
    assert ours == []


def test_the_twin_has_the_dreams_spaces_and_a_spec_of_its_own(racing: Path) -> None:
    pytest.importorskip("Box2D")
    dream, twin = gym.make(DREAM), gym.make(TWIN)
    assert isinstance(twin.unwrapped, LatentEnv)
    assert twin.observation_space == dream.observation_space
    assert twin.action_space == dream.action_space
    assert twin.spec is not None
    assert twin.spec.id == TWIN
    assert twin.spec.max_episode_steps == 250  # CarRacing's 1,000 frames
    assert gym.envs.registration.EnvSpec.from_json(twin.spec.to_json()).id == TWIN
    real = twin.unwrapped.real.unwrapped
    assert real.spec.id == "CarRacing-v3"
    twin.reset(seed=0)
    assert twin.step(np.zeros(3, np.float32))[4]["real_frames"] == 4
    twin.close()


def test_spawned_workers_find_own_dreams(racing: Path) -> None:
    code = f"""
import gymnasium as gym, numpy as np
from functools import partial
if __name__ == "__main__":
    make = partial(gym.make, "dreamenv:{DREAM}", termination="cut")
    envs = gym.vector.AsyncVectorEnv([make] * 2, context="spawn")
    same = gym.make_vec("dreamenv:{DREAM}", num_envs=2, termination="cut")
    action = np.tile(np.array([0.1, 0.5, 0.0], np.float32), (2, 1))
    for one, two in [(envs.reset(seed=3)[0], same.reset(seed=3)[0]), (envs.step(action)[0], same.step(action)[0])]:
        np.testing.assert_allclose(one, two, atol=1e-5)
    envs.close()
    print("equal")
"""
    script = racing.parent / "spawned.py"
    script.write_text(code, encoding="utf-8")
    code = f"import runpy, sys; sys.argv = [{str(script)!r}]; runpy.run_path({str(script)!r}, run_name='__main__')"
    environment = {"DREAMENV_REGISTRY": str(racing), "PYTHONPATH": str(ROOT)}
    assert run_python(code, **environment) == "equal"


def test_the_same_seed_gives_the_same_500_steps_in_two_processes(racing: Path) -> None:
    code = f"""
import gymnasium as gym, hashlib, numpy as np, sys
digests = []
for seed in (11, 11, 12):
    env = gym.make("dreamenv:{DREAM}")
    digest = hashlib.sha256()
    env.action_space.seed(5)
    digest.update(env.reset(seed=seed)[0].tobytes())
    for _ in range(500):
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
        digest.update(observation.tobytes() + repr((reward, terminated, truncated, info)).encode())
        if terminated or truncated:
            digest.update(env.reset()[0].tobytes())
    digests.append(digest.hexdigest())
print(" ".join(digests))
"""
    first, second = (run_python(code, DREAMENV_REGISTRY=str(racing)).split() for _ in range(2))
    assert first == second
    assert first[0] == first[1] != first[2]


def test_registering_again_replaces_without_a_warning(racing: Path, tmp_path: Path) -> None:
    def longer(entry: dict[str, Any]) -> None:
        entry["dream"]["max_episode_steps"] = 99

    other = write_registry(tmp_path, DREAM, trained_like_world_model(), change=longer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dreamenv.register(other)
        assert gym.spec(DREAM).max_episode_steps == 99
        assert registry.find(TWIN).checkpoint == tmp_path / "bundle"
        dreamenv.register(racing)
    assert gym.spec(DREAM).max_episode_steps == 20


def test_an_id_that_gymnasium_does_not_take(tmp_path: Path) -> None:
    path = write_registry(tmp_path, "Dream Racing v0", trained_like_world_model())
    with pytest.raises(RegistryError, match="Gymnasium does not take the id"):
        dreamenv.register(path)
    assert "Dream Racing v0" not in registry.entries()


def test_no_dream_takes_the_place_of_a_real_environment(tmp_path: Path) -> None:
    before = gym.spec("CartPole-v1")
    path = write_registry(
        tmp_path,
        "CartPole-v1",
        trained_like_world_model(),
        change=lambda entry: entry.update(latent_id="LatentPole-v1"),
    )
    with pytest.raises(RegistryError, match=r"CartPole-v1 is an environment of gymnasium.*, which it would replace"):
        dreamenv.register(path)
    assert gym.spec("CartPole-v1") is before
    assert "CartPole-v1" not in registry.entries()


@pytest.mark.parametrize("taken", ["DreamDoom-v0", "LatentDoom-v0"])
def test_no_twin_takes_the_place_of_another_dream(taken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_registry(
        tmp_path, "DreamOther-v0", trained_like_world_model(), change=lambda entry: entry.update(latent_id=taken)
    )
    with pytest.raises(RegistryError, match=f"{taken} is the latent twin of DreamOther-v0 and the"):
        dreamenv.register(path)
    assert "DreamOther-v0" not in gym.registry
    monkeypatch.setenv("DREAMENV_REGISTRY", str(path))
    monkeypatch.setattr(registry, "_entries", None)
    monkeypatch.setattr(registry, "_unread", {})
    with pytest.warns(UserWarning, match=f"left out: .*{taken} is the latent twin"):
        assert "DreamOther-v0" not in registry.entries()


@pytest.mark.usefixtures("own_registry")
def test_a_bundle_of_another_environment_than_the_registry_says_is_refused(tmp_path: Path) -> None:
    model = trained_like_world_model(real=RealEnvSpec("Pendulum-v1"))
    path = write_registry(tmp_path, "DreamOther-v0", model, change=lambda entry: entry["real"].update(id="Acrobot-v1"))
    dreamenv.register(path)
    with pytest.raises(BundleError, match=r"bundle is a dream of Pendulum-v1; .* that DreamOther-v0 is one of Acrobot"):
        gym.make("DreamOther-v0")
    assert WorldModel.load(tmp_path / "bundle").real.id == "Pendulum-v1"


def test_misspelt_ids_get_the_nearest() -> None:
    with pytest.raises(
        UnknownDreamError, match=r"no dream is called 'DreamCarRacin-v0'. Did you mean DreamCarRacing-v0"
    ):
        WorldModel.load("DreamCarRacin-v0")
    with pytest.raises(UnknownDreamError, match="Did you mean DreamDoom-v0"):
        DreamVectorEnv("DreamDom-v0", 2)


def test_twin_limit_is_counted_in_actions(tmp_path: Path) -> None:
    def frames(entry: dict[str, Any]) -> None:
        entry["real"] |= {"max_episode_steps": 10}

    real = RealEnvSpec("Pendulum-v1", action_repeat=4)
    model = trained_like_world_model(
        action_space=gym.spaces.Box(-2, 2, (1,), np.float32), image=False, real=real, latent_size=3
    )
    name = "DreamTestPendulum-v0"
    assert name in dreamenv.register(write_registry(tmp_path, name, model, change=frames))
    assert gym.spec("LatentTestPendulum-v0").max_episode_steps == 3
    env = gym.make("LatentTestPendulum-v0")
    env.reset(seed=0)
    dream = gym.make(name)
    assert json.loads(dream.spec.to_json())["id"] == name  # type: ignore[union-attr]
    for twin in (name, "LatentTestPendulum-v0"):
        del gym.registry[twin]
    del registry.entries()[name]
