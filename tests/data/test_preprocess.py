"""Real environments as a world model sees them."""

from __future__ import annotations

import builtins
import dataclasses
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from dreamenv import registry
from dreamenv.data.preprocess import PreprocessedEnv, at_own_speed, make_real_env, with_wrappers
from dreamenv.data.resize import resize_area
from dreamenv.errors import CollectionError, ConfigurationError, MissingExtraError, StepError, UnknownDreamError
from dreamenv.types import RealEnvSpec, Wrapper

PICTURE = spaces.Box(0, 255, (80, 64, 3), np.uint8)


class Scripted(gym.Env[Any, Any]):
    """Frame t is filled with 10 t and pays t; it ends as it is told, with a last frame of zeros where `blanks`."""

    def __init__(
        self,
        space: gym.Space[Any] = PICTURE,
        *,
        length: int = 10,
        flags: tuple[bool, bool] = (True, False),
        blanks: bool = True,
        action_space: gym.Space[Any] | None = None,
    ) -> None:
        self.observation_space = space
        self.action_space = action_space or spaces.Discrete(2)
        self._length, self._flags, self._blanks, self._time = length, flags, blanks, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._time = 0
        return self._frame(), {"own": 1}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._time += 1
        ended = self._time == self._length
        frame = self._frame()
        if ended and self._blanks:
            frame = np.zeros_like(frame)
        return frame, float(self._time), ended and self._flags[0], ended and self._flags[1], {"own": self._time}

    def _frame(self) -> Any:
        space = self.observation_space
        if isinstance(space, spaces.Dict):
            space = space["screen"]
        return np.full(space.shape, 10 * (1 + self._time), space.dtype)


def last_step(env: PreprocessedEnv) -> tuple[list[Any], tuple[Any, ...]]:
    observation, _ = env.reset(seed=0)
    seen = [observation]
    while True:
        found = env.step(0)
        seen.append(found[0])
        if found[2] or found[3]:
            return seen, found


def test_a_step_repeats_the_action_and_sums_the_rewards() -> None:
    env = PreprocessedEnv(Scripted(blanks=False), RealEnvSpec("x", action_repeat=4))
    observation, info = env.reset(seed=0)
    assert (observation.shape, observation.dtype, observation[0, 0, 0]) == ((64, 64, 3), np.uint8, 10)
    assert info == {"own": 1, "real_frames": 0, "observation_valid": True}
    rewards, frames, values = [], [], []
    for _ in range(3):
        observation, reward, terminated, truncated, info = env.step(1)
        rewards.append(reward)
        frames.append(info["real_frames"])
        values.append(int(observation[0, 0, 0]))
    # ten frames: the third repeat is cut short by the end
    assert rewards == [1 + 2 + 3 + 4, 5 + 6 + 7 + 8, 9 + 10]
    assert frames == [4, 4, 2]
    assert values == [50, 90, 110]
    assert (terminated, truncated, info["own"], info["observation_valid"]) == (True, False, 10, True)


def test_a_blank_terminal_frame_is_replaced_and_flagged() -> None:
    spec = RealEnvSpec("x", action_repeat=4, drop_terminal_observation=True)
    seen, (observation, _, terminated, truncated, info) = last_step(PreprocessedEnv(Scripted(), spec))
    assert (terminated, truncated, info["observation_valid"]) == (True, False, False)
    assert np.array_equal(observation, seen[-2])
    assert not np.shares_memory(observation, seen[-2])
    # without the setting, the zeros come through
    _, (observation, *_, info) = last_step(PreprocessedEnv(Scripted(), RealEnvSpec("x", action_repeat=4)))
    assert not observation.any()
    assert info["observation_valid"]


@pytest.mark.parametrize("blanks", [True, False])
def test_both_flags_of_a_time_out_mean_truncation(blanks: bool) -> None:
    spec = RealEnvSpec("x", drop_terminal_observation=True)
    env = PreprocessedEnv(Scripted(flags=(True, True), blanks=blanks), spec)
    seen, (observation, _, terminated, truncated, info) = last_step(env)
    assert (terminated, truncated) == (False, True)
    assert info["observation_valid"] is not blanks
    assert np.array_equal(observation, seen[-2]) is blanks
    # an environment that does not blank its frames means both flags
    env = PreprocessedEnv(Scripted(flags=(True, True)), RealEnvSpec("x"))
    assert last_step(env)[1][2:4] == (True, True)


def test_pictures_are_cropped_then_averaged_over_areas() -> None:
    picture = np.zeros((4, 4, 3), np.uint8)
    picture[:2, :2] = [[[0], [100]], [[100], [200]]]
    small = resize_area(picture, 2)
    assert small[..., 0].tolist() == [[100, 0], [0, 0]]
    env = PreprocessedEnv(Scripted(spaces.Box(0, 255, (80, 64, 1), np.uint8)), RealEnvSpec("x", crop=(0, 64, 0, 64)))
    observation, _ = env.reset()
    assert observation.shape == (64, 64, 3)  # grey becomes three channels
    assert (observation == 10).all()


@pytest.mark.integration
def test_car_racing_is_what_its_preset_says() -> None:
    spec = registry.find("DreamCarRacing-v0").section.real.spec()
    env, raw = make_real_env(spec), gym.make(spec.id, max_episode_steps=8)
    assert env.spec is not None
    assert env.spec.max_episode_steps == 1000
    action = np.array([0.1, 0.5, 0.0], np.float32)
    observation, _ = env.reset(seed=3)
    frame, _ = raw.reset(seed=3)
    for _ in range(2):
        np.testing.assert_array_equal(
            observation, cv2.resize(np.ascontiguousarray(frame[:84]), (64, 64), interpolation=cv2.INTER_AREA)
        )
        observation, reward, *_ = env.step(action)
        total = 0.0
        for _ in range(4):
            frame, one, _, truncated, _ = raw.step(action)
            total += float(one)
        assert reward == total
    assert truncated
    env.close()
    raw.close()


@pytest.mark.integration
def test_doom_never_shows_its_blank_frame() -> None:
    pytest.importorskip("vizdoom", reason="the extra real is not installed")
    spec = registry.find("DreamDoom-v0").section.real.spec()
    env = make_real_env(spec)
    observation, _ = env.reset(seed=1)
    ended, frames = False, 0
    while not ended:
        before = observation
        observation, reward, terminated, truncated, info = env.step(0)
        frames += info["real_frames"]
        assert observation.any()
        ended = terminated or truncated
    assert frames < 2100
    assert (terminated, truncated, info["observation_valid"]) == (True, False, False)
    assert np.array_equal(observation, before)
    env.close()
    env = make_real_env(dataclasses.replace(spec, max_episode_steps=8, action_repeat=3))
    _, (observation, reward, terminated, truncated, info) = last_step(env)
    assert (reward, info["real_frames"], terminated, truncated, info["observation_valid"]) == (2, 2, False, True, True)
    env.close()


def test_vectors_become_float32() -> None:
    env = make_real_env(RealEnvSpec("Pendulum-v1", action_repeat=2, max_episode_steps=5))
    observation, _ = env.reset(seed=0)
    assert observation.dtype == env.observation_space.dtype == np.float32
    assert env.observation_space.shape == (3,)
    frames = []
    truncated = False
    while not truncated:
        observation, _, _, truncated, info = env.step(np.zeros(1, np.float32))
        frames.append(info["real_frames"])
    assert frames == [2, 2, 1]
    env.close()


def test_discrete_observations_are_one_hot() -> None:
    class Walk(gym.Env[Any, Any]):
        observation_space, action_space = spaces.Discrete(4, start=1), spaces.Discrete(2)

        def reset(
            self, *, seed: int | None = None, options: dict[str, Any] | None = None
        ) -> tuple[Any, dict[str, Any]]:
            self.place = np.int64(1)
            return self.place, {}

        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            self.place += 1
            return self.place, 1.0, False, False, {}

    env = PreprocessedEnv(Walk(), RealEnvSpec("Own-v0", action_repeat=2))
    assert env.observation_space == spaces.Box(0.0, 1.0, (4,), np.float32)
    seen = [env.reset()[0], env.step(0)[0]]
    assert [observation.tolist() for observation in seen] == [[1, 0, 0, 0], [0, 0, 1, 0]]
    assert all(env.observation_space.contains(observation) for observation in seen)


@pytest.mark.parametrize(
    ("env", "spec", "message"),
    [
        (Scripted(spaces.Dict(screen=PICTURE)), {}, r"observation_key is None, expected one of \['screen'\]"),
        (Scripted(spaces.Dict(screen=PICTURE)), {"observation_key": "scren"}, "'scren', expected one of"),
        (Scripted(spaces.Text(5)), {}, "neither pictures nor vectors"),
        (Scripted(), {"crop": (0, 90, 0, 64)}, "does not lie within a frame of 80 rows"),
        (Scripted(), {"crop": (20, 20, 0, 64)}, "does not lie within"),
        (Scripted(action_space=spaces.Text(5)), {}, "expected Discrete, Box, MultiDiscrete"),
    ],
)
def test_what_a_world_model_cannot_take_is_refused(env: Any, spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        PreprocessedEnv(env, RealEnvSpec("Own-v0", **spec))


def test_unknown_ids_and_arguments_are_explained() -> None:
    with pytest.raises(UnknownDreamError, match="Did you mean Pendulum-v1"):
        make_real_env(RealEnvSpec("Pendullum-v1"))
    with pytest.raises(ConfigurationError, match="nothing_like_it"):
        make_real_env(RealEnvSpec("nothing_like_it:Own-v0"))
    with pytest.raises(ConfigurationError, match=r"Pendulum-v1 cannot be made with \{'colour': 1\}"):
        make_real_env(RealEnvSpec("Pendulum-v1", kwargs={"colour": 1}))


class Halved(gym.RewardWrapper[Any, Any]):
    def __init__(self, env: gym.Env[Any, Any], *, by: float = 2.0) -> None:
        super().__init__(env)
        self._by = by

    def reward(self, reward: Any) -> float:
        return float(reward) / self._by


def test_wrappers_are_put_around_the_environment_in_their_order() -> None:
    wrappers = (
        Wrapper("gymnasium.wrappers:RescaleAction", {"min_action": -1.0, "max_action": 1.0}),
        Wrapper(f"{__name__}.Halved", {"by": 4.0}),
    )
    env = make_real_env(RealEnvSpec("Pendulum-v1", wrappers=wrappers))
    assert env.action_space == spaces.Box(-1, 1, (1,), np.float32)
    raw = gym.make("Pendulum-v1")
    env.reset(seed=1)
    raw.reset(seed=1)
    assert env.step(np.float32([0.5]))[1] == pytest.approx(float(raw.step(np.float32([1.0]))[1]) / 4)
    # what the caller has put around an environment already is not put around it again
    worn = with_wrappers(Halved(gym.make("Pendulum-v1"), by=3.0), wrappers)
    assert str(worn).count("Halved") == 1
    assert worn.action_space == spaces.Box(-1, 1, (1,), np.float32)


def test_wrappers_of_one_class_are_all_put_around_the_environment() -> None:
    halved = Wrapper(f"{__name__}.Halved", {"by": 2.0})
    limit = Wrapper("gymnasium.wrappers:TimeLimit", {"max_episode_steps": 3})  # `gym.make` wears one already
    env = make_real_env(RealEnvSpec("Pendulum-v1", wrappers=(halved, halved, limit)))
    raw = gym.make("Pendulum-v1")
    env.reset(seed=1)
    raw.reset(seed=1)
    assert env.step(np.float32([1.0]))[1] == pytest.approx(float(raw.step(np.float32([1.0]))[1]) / 4)
    assert [env.step(np.float32([1.0]))[3] for _ in range(2)] == [False, True]


def test_wrappers_that_an_id_is_registered_with_are_put_around_it_once() -> None:
    worn = gym.wrappers.RescaleAction(gym.make("Pendulum-v1"), -1.0, 1.0).spec
    assert worn is not None
    worn.id = "OwnPendulum-v0"
    gym.register(worn.id, worn.entry_point, max_episode_steps=9, additional_wrappers=worn.additional_wrappers)
    try:
        rescaled = Wrapper("gymnasium.wrappers:RescaleAction", {"min_action": -1.0, "max_action": 1.0})
        wrappers = (rescaled, Wrapper("gymnasium.wrappers:NormalizeReward"))
        env = make_real_env(RealEnvSpec(worn.id, wrappers=wrappers, scratch_folder=True))
        other = Wrapper("gymnasium.wrappers:RescaleAction", {"min_action": -0.5, "max_action": 0.5})
        twice = make_real_env(RealEnvSpec(worn.id, wrappers=(other,)))
    finally:
        del gym.registry[worn.id]
    assert twice.action_space == spaces.Box(-0.5, 0.5, (1,), np.float32)
    assert (str(env).count("RescaleAction"), str(env).count("NormalizeReward")) == (1, 1)


def test_wrappers_that_an_id_puts_on_itself_need_not_be_importable() -> None:
    class Own(gym.Wrapper[Any, Any, Any, Any]):
        pass

    gym.register("OwnPendulum-v1", lambda: Own(gym.make("Pendulum-v1")))
    try:
        env = make_real_env(RealEnvSpec("OwnPendulum-v1", max_episode_steps=9))
    finally:
        del gym.registry["OwnPendulum-v1"]
    assert "Own" in str(env)


@pytest.mark.parametrize(
    ("named", "declared", "speed"),
    [(None, 30, 30.0), (9.0, 30, 9.0), (None, None, None), (None, 0, None), (None, "fast", None)],
)
def test_an_environment_is_as_fast_as_it_declares(named: float | None, declared: Any, speed: float | None) -> None:
    env = gym.make("Pendulum-v1")
    env.unwrapped.metadata = {"render_fps": declared}
    assert at_own_speed(RealEnvSpec("Pendulum-v1", frames_per_second=named), env).frames_per_second == speed


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"action_repeat": 0}, "action_repeat is 0, expected a whole number from 1 on"),
        ({"action_repeat": "x"}, "action_repeat is 'x'"),
        ({"image_size": 0}, "image_size is 0"),
        ({"start_margin": -1}, "start_margin is -1, expected a whole number from 0 on"),
        ({"max_episode_steps": True}, "max_episode_steps is True"),
        ({"max_episode_steps": np.float64(3)}, "expected a whole number"),
        ({"frames_per_second": 0}, "frames_per_second is 0, expected a number above 0"),
        ({"frames_per_second": "50"}, "frames_per_second is '50'"),
    ],
)
def test_numbers_that_no_environment_can_have_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        RealEnvSpec("Pendulum-v1", **fields)


@pytest.mark.parametrize(
    ("wrapper", "message"),
    [
        (Wrapper("gymnasium.wrappers:RescaleActions"), "'gymnasium.wrappers:RescaleActions' cannot be imported"),
        (Wrapper("nothing_like_it.Wrapper"), "cannot be imported"),
        (Wrapper("RescaleAction"), "no module is named"),
        (Wrapper("gymnasium.wrappers:RescaleAction", {"least": 1}), r"\{'least': 1\} cannot be put around"),
        (Wrapper("math.pi"), "expected a class"),
    ],
)
def test_a_wrapper_that_cannot_be_used_is_named(wrapper: Wrapper, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make_real_env(RealEnvSpec("Pendulum-v1", wrappers=(wrapper,)))


def register_late() -> None:
    gym.register("Late-v0", entry_point=Scripted)


def test_a_function_may_be_what_registers_an_environment() -> None:
    try:
        assert make_real_env(RealEnvSpec("Late-v0", module=f"{__name__}:register_late")).reset()[0].shape == (64, 64, 3)
    finally:
        gym.registry.pop("Late-v0", None)
    with pytest.raises(MissingExtraError, match="no_such_function"):
        make_real_env(RealEnvSpec("Late-v0", module=f"{__name__}:no_such_function"))


def test_an_episode_without_an_end_is_an_error() -> None:
    env = PreprocessedEnv(Scripted(length=10**9), RealEnvSpec("Own-v0", action_repeat=2))
    env.allow_frames(7)
    for _ in range(2):
        env.reset()
        for _ in range(3):
            env.step(0)
        with pytest.raises(CollectionError, match="Own-v0: an episode has not ended after 8 real frames.*time limit"):
            env.step(0)
    limited = PreprocessedEnv(Scripted(length=20), RealEnvSpec("Own-v0", max_episode_steps=20))
    limited.allow_frames(7)
    assert len(last_step(limited)[0]) == 21


def test_a_reward_that_is_no_number_blames_the_environment() -> None:
    class Several(gym.RewardWrapper[Any, Any]):
        def reward(self, reward: Any) -> Any:
            return np.array([1.0, 2.0])

    env = PreprocessedEnv(Several(Scripted()), RealEnvSpec("Own-v0"))
    env.reset()
    with pytest.raises(ConfigurationError, match=r"Own-v0: the reward of a step is array.*RewardWrapper"):
        env.step(0)


def no_licence() -> gym.Env[Any, Any]:
    raise ValueError("no licence")


def test_a_vector_of_something_else_than_numbers_blames_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    env = Scripted(spaces.Box(0, 200, (2,)))
    monkeypatch.setattr(env, "_frame", lambda: np.array(["0", "1"]))
    with pytest.raises(ConfigurationError, match="own: an observation of type <U1, expected numbers"):
        PreprocessedEnv(env, RealEnvSpec("own")).reset(seed=0)


def test_whatever_a_constructor_raises_is_one_line_about_the_environment() -> None:
    gym.register("Licensed-v0", entry_point=no_licence)
    try:
        with pytest.raises(ConfigurationError, match=r"Licensed-v0 cannot be made with \{\}: ValueError: no licence"):
            make_real_env(RealEnvSpec("Licensed-v0"))
    finally:
        del gym.registry["Licensed-v0"]


class Littering(Scripted):
    def __init__(self, broken: bool = False) -> None:
        super().__init__()
        (Path.cwd() / "left.ini").write_text("by the engine", encoding="utf-8")
        self.folder = Path.cwd()
        if broken:
            raise TypeError("no such weapon")

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        (Path.cwd() / "began.txt").write_text("by the engine", encoding="utf-8")
        return super().reset(seed=seed, options=options)


def test_an_environment_that_leaves_files_is_made_in_a_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    gym.register("Littering-v0", entry_point=Littering)
    try:
        env = make_real_env(RealEnvSpec("Littering-v0", scratch_folder=True))
        folder = env.unwrapped.folder
        env.reset()
        assert Path.cwd() == tmp_path
        assert sorted(file.name for file in folder.iterdir()) == ["began.txt", "left.ini"]
        assert folder.parent == tmp_path / "scratch"
        env.close()
        with pytest.raises(ConfigurationError, match="no such weapon"):
            make_real_env(RealEnvSpec("Littering-v0", {"broken": True}, scratch_folder=True))
        assert Path.cwd() == tmp_path
        assert not list((tmp_path / "scratch").iterdir())
    finally:
        del gym.registry["Littering-v0"]


def test_doom_says_nothing_when_its_process_ends() -> None:
    script = (
        "from dreamenv import registry\n"
        "from dreamenv.data.preprocess import make_real_env\n"
        "env = make_real_env(registry.find('DreamDoom-v1').section.real.spec())\n"
        "env.reset(seed=0)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=True)
    assert (ended.stdout, ended.stderr) == ("", "")


class Counter(gym.Env[Any, Any]):
    """Takes no `render_mode`, as many environments of one's own."""

    observation_space, action_space = spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}


def test_a_constructor_without_render_mode_will_do() -> None:
    gym.register("Counter-v0", entry_point=Counter)
    try:
        assert make_real_env(RealEnvSpec("Counter-v0")).reset(seed=0)[0].tolist() == [0, 0]
        with pytest.raises(ConfigurationError, match=r"cannot be drawn: its constructor takes no render_mode='rgb"):
            make_real_env(RealEnvSpec("Counter-v0"), render_mode="rgb_array")
    finally:
        del gym.registry["Counter-v0"]


def test_a_missing_extra_names_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] == "cv2":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setitem(sys.modules, "vizdoom.gymnasium_wrapper", None)
    with pytest.raises(MissingExtraError, match=r"vizdoom\.gymnasium_wrapper.*pip install 'dreamenv\[real\]'"):
        make_real_env(registry.find("DreamDoom-v0").section.real.spec())
    with pytest.raises(MissingExtraError, match="opencv"):
        resize_area(np.zeros((96, 96, 3), np.uint8), 64)

    def no_box2d(*args: Any, **kwargs: Any) -> Any:
        raise gym.error.DependencyNotInstalled("Box2D is not installed")

    monkeypatch.setattr(gym, "make", no_box2d)
    for name, extra in (("CarRacing-v3", "real"), ("HalfCheetah-v5", "mujoco")):
        with pytest.raises(MissingExtraError, match=rf"what {name} needs is not .*pip install 'dreamenv\[{extra}\]'"):
            make_real_env(RealEnvSpec(name))

    def unregistered(*args: Any, **kwargs: Any) -> Any:
        raise gym.error.NameNotFound("Environment `cartpole-swingup` doesn't exist.")

    monkeypatch.setattr(gym, "make", unregistered)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"Shimmy.* is not installed.*'dreamenv\[dm-control\]'"):
        make_real_env(RealEnvSpec("dm_control/cartpole-swingup-v0"))


def test_a_step_before_reset_is_an_error() -> None:
    env = PreprocessedEnv(Scripted(length=1), RealEnvSpec("x", drop_terminal_observation=True))
    with pytest.raises(StepError, match="reset first"):
        env.step(0)
