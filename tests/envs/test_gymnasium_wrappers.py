"""Gymnasium's own wrappers over both forms of a dream: the table of docs/integrations.md, cell by cell."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import TimeLimit

from dreamenv.envs import DreamEnv, DreamVectorEnv
from tests.fakes import BOX, DISCRETE, NoisyMemory, fake_world_model

ROWS, STEPS, LIMIT = 2, 40, 6
# The columns of the table; None is the scalar form.
MODES: dict[str, AutoresetMode | None] = {"scalar": None} | {mode.name: mode for mode in AutoresetMode}
VERSION = tuple(int(part) for part in gym.__version__.split(".")[:2])
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "integrations.md"


def table() -> dict[str, dict[str, str]]:
    """Cells of the documented table by wrapper and column."""
    lines = [line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0].strip("`"): dict(zip(MODES, row[1 : 1 + len(MODES)], strict=True)) for row in rows}


class Play:
    """What an environment returned over `STEPS` actions drawn from a fixed seed, all arrays with a leading row axis.

    Attributes:
        observations, rewards, ended: One entry a step, of `[N, ...]`, `[N]` and `[N]`.
        counted: `[N]` bool a step: the row took an action (it did not only begin anew).
        resets: Observations of the first reset and of those by hand.
        infos: One a step.
    """

    def __init__(self, env: Any, mode: AutoresetMode | None, actions: list[Any]) -> None:
        self.observations: list[Any] = []
        self.rewards: list[Any] = []
        self.ended: list[Any] = []
        self.counted: list[Any] = []
        self.infos: list[dict[str, Any]] = []
        self.resets = [self._row(env.reset(seed=3)[0], mode)]
        before = np.zeros(ROWS if mode else 1, bool)
        for action in actions:
            observation, reward, terminated, truncated, info = env.step(action)
            ended = np.atleast_1d(np.asarray(terminated) | np.asarray(truncated))
            self.observations.append(self._row(observation, mode))
            self.rewards.append(self._row(reward, mode))
            self.ended.append(ended)
            self.counted.append(~before if mode == AutoresetMode.NEXT_STEP else np.ones_like(ended))
            self.infos.append(info)
            before = ended
            if mode is None and ended[0]:
                self.resets.append(self._row(env.reset()[0], mode))
            if mode == AutoresetMode.DISABLED and ended.any():
                self.resets.append(env.reset(options={"reset_mask": ended})[0])

    @staticmethod
    def _row(value: Any, mode: AutoresetMode | None) -> Any:
        if mode is not None:
            return value
        return value[None] if isinstance(value, (np.ndarray, torch.Tensor)) else np.array([value])

    def episodes(self, row: int) -> list[tuple[float, int]]:
        """Return and length of the row's finished episodes."""
        found, total, length = [], 0.0, 0
        for reward, ended, counted in zip(self.rewards, self.ended, self.counted, strict=True):
            if counted[row]:
                total, length = total + float(reward[row]), length + 1
            if ended[row]:
                found.append((total, length))
                total, length = 0.0, 0
        return found


def dream(mode: AutoresetMode | None, *, action_space: gym.Space[Any] = DISCRETE, **options: Any) -> Any:
    """Dreams of unpredictable length up to `LIMIT`, in the scalar form or in a mode of the vector form."""
    image = options.get("observation") == "pixels" or "render_mode" in options
    model = fake_world_model(NoisyMemory(death=0.2), action_space=action_space, image=image)
    if mode is None:
        return TimeLimit(DreamEnv(model, **options), LIMIT)
    return DreamVectorEnv(model, ROWS, autoreset_mode=mode, max_episode_steps=LIMIT, **options)


def actions_of(env: Any, steps: int = STEPS) -> list[Any]:
    env.action_space.seed(1)
    return [env.action_space.sample() for _ in range(steps)]


def plain_and_wrapped(
    name: str,
    mode: AutoresetMode | None,
    options: dict[str, Any] | None = None,
    translate: Callable[[Any], Any] = lambda action: action,
    **dream_options: Any,
) -> tuple[Play, Play, Any]:
    """The same dream without the wrapper and with it; `translate` makes the plain action of the wrapped one."""
    family = gym.wrappers if mode is None else gym.wrappers.vector
    wrapped = getattr(family, name)(dream(mode, **dream_options), **(options or {}))
    actions = actions_of(wrapped)
    plain = Play(dream(mode, **dream_options), mode, [translate(action) for action in actions])
    return plain, Play(wrapped, mode, actions), wrapped


def assert_equal(ours: list[Any], theirs: list[Any], change: Callable[[Any], Any] = lambda value: value) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(np.asarray(mine), change(np.asarray(other)), rtol=1e-5, atol=1e-5)


def statistics(mode: AutoresetMode | None) -> None:
    plain, wrapped, _ = plain_and_wrapped("RecordEpisodeStatistics", mode)
    for row in range(len(plain.ended[0])):
        seen = []
        for info, ended in zip(wrapped.infos, plain.ended, strict=True):
            if ended[row]:
                returns, lengths = (np.atleast_1d(info["episode"][key]) for key in ("r", "l"))
                seen.append((float(returns[row]), int(lengths[row])))
        expected = plain.episodes(row)
        assert len(expected) > 5
        np.testing.assert_allclose(seen, expected, rtol=1e-5, atol=1e-5)


def normalised_observations(mode: AutoresetMode | None) -> None:
    plain, wrapped, env = plain_and_wrapped("NormalizeObservation", mode)
    # The scalar wrapper also sees the observation of each reset; in NEXT_STEP those are observations of a step.
    every = np.concatenate([*plain.resets, *plain.observations])
    np.testing.assert_allclose(env.obs_rms.mean, every.mean(0), atol=1e-2)
    np.testing.assert_allclose(env.obs_rms.var, every.var(0), rtol=0.1, atol=1e-2)
    last = (plain.observations[-1] - env.obs_rms.mean) / np.sqrt(env.obs_rms.var + env.epsilon)
    if not (mode is None and plain.ended[-1][0]):  # a reset behind the last step has moved the mean
        np.testing.assert_allclose(wrapped.observations[-1], last, rtol=1e-3, atol=1e-3)


def normalised_rewards(mode: AutoresetMode | None) -> None:
    plain, wrapped, env = plain_and_wrapped("NormalizeReward", mode)
    scale = np.sqrt(env.return_rms.var + env.epsilon)
    assert scale > 0.1
    np.testing.assert_allclose(wrapped.rewards[-1] * scale, plain.rewards[-1], rtol=1e-4, atol=1e-4)


def torch_tensors(mode: AutoresetMode | None) -> None:
    family = gym.wrappers if mode is None else gym.wrappers.vector
    wrapped = family.NumpyToTorch(dream(mode))
    actions = actions_of(wrapped)
    plain = Play(dream(mode), mode, actions)
    seen = Play(wrapped, mode, [torch.as_tensor(action) for action in actions])
    assert all(isinstance(observation, torch.Tensor) for observation in (*seen.observations, *seen.resets))
    assert_equal(seen.observations, plain.observations)
    assert_equal(seen.resets, plain.resets)
    assert_equal(seen.rewards, plain.rewards)
    assert_equal(seen.ended, plain.ended)


def changed_rewards(name: str, options: dict[str, Any], change: Callable[[Any], Any]) -> Callable[[Any], None]:
    def check(mode: AutoresetMode | None) -> None:
        plain, wrapped, _ = plain_and_wrapped(name, mode, options)
        assert_equal(wrapped.rewards, plain.rewards, change)
        assert_equal(wrapped.observations, plain.observations)

    return check


def changed_observations(name: str, options: dict[str, Any], change: Callable[[Any], Any]) -> Callable[[Any], None]:
    def check(mode: AutoresetMode | None) -> None:
        plain, wrapped, env = plain_and_wrapped(name, mode, options, observation="pixels")
        assert (wrapped.observations[0] if mode else wrapped.observations[0][0]).shape == env.observation_space.shape
        assert_equal(wrapped.observations, plain.observations, change)
        assert_equal(wrapped.resets, plain.resets, change)

    return check


def changed_actions(name: str, options: dict[str, Any], change: Callable[[Any], Any]) -> Callable[[Any], None]:
    def check(mode: AutoresetMode | None) -> None:
        plain, wrapped, env = plain_and_wrapped(name, mode, options, change, action_space=BOX)
        assert env.action_space != dream(mode, action_space=BOX).action_space
        assert_equal(wrapped.observations, plain.observations)

    return check


def frame_stack(mode: AutoresetMode | None) -> None:
    plain, wrapped, env = plain_and_wrapped("FrameStackObservation", mode, {"stack_size": 3})
    assert env.observation_space.shape == (3, *dream(mode).observation_space.shape)
    first = min(step for step, ended in enumerate(plain.ended) if ended[0])
    history = [plain.resets[0]] * 3 + plain.observations[: first + 1]
    for step in range(first + 1):
        expected = np.stack(history[step + 1 : step + 4], axis=1)
        np.testing.assert_array_equal(wrapped.observations[step], expected)


def automatic_reset(mode: AutoresetMode | None) -> None:
    env = gym.wrappers.Autoreset(dream(mode))
    rows = dream(AutoresetMode.NEXT_STEP)
    observation, rows_observation = env.reset(seed=3)[0], rows.reset(seed=3)[0]
    for action in actions_of(env):
        np.testing.assert_array_equal(observation, rows_observation[0])
        observation, reward, terminated, truncated, _ = env.step(action)
        rows_observation, *results, _ = rows.step(np.full(ROWS, action))
        assert [reward, terminated, truncated] == [result[0] for result in results]


def time_limit(mode: AutoresetMode | None) -> None:
    model = fake_world_model(NoisyMemory(death=0.0))
    env = TimeLimit(DreamEnv(model), 4)
    env.reset(seed=0)
    assert [env.step(1)[2:4] for _ in range(4)] == [(False, False)] * 3 + [(False, True)]


def list_of_infos(mode: AutoresetMode | None) -> None:
    plain, wrapped, _ = plain_and_wrapped("DictInfoToList", mode)
    for info, entries, counted in zip(plain.infos, wrapped.infos, plain.counted, strict=True):
        for row in np.flatnonzero(counted & info.get("_predicted_reward", np.zeros(ROWS, bool))):
            assert entries[row]["predicted_reward"] == info["predicted_reward"][row]


def video(mode: AutoresetMode | None, folder: Path) -> None:
    pytest.importorskip("moviepy", reason="moviepy is not in this environment; `make test-integrations` has it")
    import imageio_ffmpeg

    family = gym.wrappers if mode is None else gym.wrappers.vector
    env = family.RecordVideo(dream(mode, render_mode="rgb_array"), str(folder), episode_trigger=lambda episode: True)
    plain = Play(dream(mode, render_mode="rgb_array"), mode, actions_of(env, 12))
    Play(env, mode, actions_of(env, 12))
    env.close()
    ends = [step for step, ended in enumerate(plain.ended) if ended[0]]
    assert len(ends) > 1
    for episode, (last, (_, length)) in enumerate(zip(ends, plain.episodes(0), strict=True)):
        frames, _ = imageio_ffmpeg.count_frames_and_secs(folder / f"rl-video-episode-{episode}.mp4")
        # The first frame is the reset's; in SAME_STEP the last one is gone when the wrapper asks for it.
        expected = length + (mode != AutoresetMode.SAME_STEP)
        if mode == AutoresetMode.DISABLED:  # a reset of the other row adds a frame
            expected += sum(bool(ended[1]) for ended in plain.ended[last - length + 1 : last])
        assert frames == expected


CHECKS: dict[str, Callable[..., None]] = {
    "RecordEpisodeStatistics": statistics,
    "RecordVideo": video,
    "NormalizeObservation": normalised_observations,
    "NormalizeReward": normalised_rewards,
    "FrameStackObservation": frame_stack,
    "NumpyToTorch": torch_tensors,
    "TransformReward": changed_rewards("TransformReward", {"func": lambda r: 2 * r}, lambda r: 2 * r),
    "ClipReward": changed_rewards(
        "ClipReward", {"min_reward": -0.5, "max_reward": 0.5}, lambda r: np.clip(r, -0.5, 0.5)
    ),
    "RescaleAction": changed_actions(
        "RescaleAction",
        {"min_action": np.float32(-2.0), "max_action": np.float32(2.0)},
        lambda action: (BOX.low + (action + 2) / 4 * (BOX.high - BOX.low)).astype(np.float32),
    ),
    "ClipAction": changed_actions("ClipAction", {}, lambda action: np.clip(action, BOX.low, BOX.high)),
    "FlattenObservation": changed_observations("FlattenObservation", {}, lambda o: o.reshape(len(o), -1)),
    "TimeLimit": time_limit,
    "Autoreset": automatic_reset,
    "DictInfoToList": list_of_infos,
}
# How a wrapper refuses a mode in which it does not work.
REFUSALS: dict[str, tuple[type[Exception], ...]] = {
    "NormalizeObservation": (ValueError, AssertionError),
    "FlattenObservation": (ValueError, AssertionError),
    "NumpyToTorch": (BufferError,),
}


def test_every_wrapper_of_the_table_is_checked() -> None:
    assert set(table()) == set(CHECKS)


@pytest.mark.parametrize("column", MODES)
@pytest.mark.parametrize("name", CHECKS)
def test_cell_of_the_table(name: str, column: str, tmp_path: Path) -> None:
    cell, mode = table()[name][column], MODES[column]
    arguments = (mode, tmp_path / "video") if name == "RecordVideo" else (mode,)
    if cell == "no such wrapper":
        assert not hasattr(gym.wrappers if mode is None else gym.wrappers.vector, name)
    elif cell == "refused":
        with pytest.raises(REFUSALS[name]) as refusal:
            CHECKS[name](*arguments)
        assert any("gymnasium" in Path(entry.path).parts for entry in refusal.traceback), "not Gymnasium's refusal"
    elif since := re.fullmatch(r"from (\d+)\.(\d+)", cell):
        if (int(since[1]), int(since[2])) <= VERSION:
            CHECKS[name](*arguments)
        else:
            with pytest.raises(AssertionError):
                CHECKS[name](*arguments)
    else:
        assert cell == "yes"
        CHECKS[name](*arguments)
