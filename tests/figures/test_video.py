"""Recording, labelling and writing episodes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from PIL import Image

from dreamenv.agents import LinearController, initial_weights
from dreamenv.data.preprocess import PreprocessedEnv
from dreamenv.errors import ConfigurationError, SpaceMismatchError, UnknownDreamError
from dreamenv.figures.clips import record_dream, record_real
from dreamenv.figures.video import grid, side_by_side, titled, write_video
from dreamenv.types import RealEnvSpec
from dreamenv.world_model import WorldModel
from tests.colour_env import COLOURS, ColourEnv
from tests.fakes import CountingMemory, fake_world_model, trained_like_world_model


@pytest.fixture
def colour_model() -> Iterator[WorldModel]:
    gym.register("Colour-v0", entry_point=ColourEnv)
    spec = RealEnvSpec("Colour-v0", drop_terminal_observation=True)
    yield trained_like_world_model(action_space=spaces.Discrete(3), real=spec)
    del gym.registry["Colour-v0"]


def controller(model: WorldModel) -> LinearController:
    weights = np.random.default_rng(0).normal(size=initial_weights(model).shape)
    return LinearController(weights, model.observation_space(), model.action_space)


def test_dream_is_filmed_to_its_end() -> None:
    model = fake_world_model(CountingMemory(lifetime=4), image=True)
    clip = record_dream(model, "random", seed=1)
    assert clip.frames.shape == (5, 256, 256, 3)
    assert clip.terminated
    assert not clip.truncated
    assert clip.captions()[-1] == f"return {clip.undiscounted_return:.0f}  ended"


def test_dream_stops_at_the_time_limit_and_at_steps() -> None:
    model = fake_world_model(max_episode_steps=7)
    whole, cut = record_dream(model, "random"), record_dream(model, "random", steps=3)
    assert (len(whole.rewards), whole.truncated) == (7, True)
    assert (len(cut.rewards), cut.truncated) == (3, False)
    np.testing.assert_array_equal(whole.rewards[:3], cut.rewards)


def test_dream_begins_at_what_v_sees_of_the_real_frame() -> None:
    model = fake_world_model(image=True)
    frame = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    clip = record_dream(model, "random", steps=1, first_observation=frame)
    seen = model.vision.decode_uint8(model.vision.encode(torch.from_numpy(frame[None]))).detach().numpy()[0]
    np.testing.assert_array_equal(clip.frames[0, ::4, ::4], seen)
    assert len(model.starts.first) == 5  # the model itself keeps its own start states


def test_real_episode_shows_what_v_was_given(colour_model: WorldModel) -> None:
    clip = record_real(colour_model, controller(colour_model), seed=0)
    assert clip.terminated
    assert clip.undiscounted_return == 12.0
    # the blank frame at the end is not shown
    assert clip.frames[:, 0, 0, 0].tolist() == [COLOURS + n for n in (0, 1, 2, 3, 4, 5, 5)]
    assert clip.first_observation is not None
    assert clip.first_observation[0, 0, 0] == COLOURS


def test_real_episode_as_the_environment_draws_it(colour_model: WorldModel) -> None:
    clip = record_real(colour_model, "random", seed=0, steps=2, view="rendered", size=120)
    assert clip.frames.shape == (3, 120, 120, 3)
    assert clip.frames[0, 60, 60, 0] == 7
    assert clip.frames[0, 5, 60, 0] != 7  # above and below the wide picture


def test_bad_arguments_of_recording(colour_model: WorldModel) -> None:
    with pytest.raises(ConfigurationError, match="Did you mean"):
        record_real(colour_model, "random", view="render")
    with pytest.raises(ConfigurationError, match="steps"):
        record_dream(colour_model, "random", steps=0)
    with pytest.raises(UnknownDreamError, match="no dream is called .rnd."):
        record_dream(colour_model, "rnd")
    with pytest.raises(SpaceMismatchError, match=r"shape \(1, 3, 3, 3\)"):
        record_dream(colour_model, "random", first_observation=np.zeros((3, 3, 3), np.uint8))
    with pytest.raises(SpaceMismatchError):
        record_dream(fake_world_model(), controller(colour_model))


def test_actions_without_axes_reach_the_environment_as_numbers(colour_model: WorldModel) -> None:
    env = PreprocessedEnv(ColourEnv(), colour_model.real)
    env.reset(seed=0)
    env.step(np.asarray(2))
    assert not isinstance(env.unwrapped.taken[0], np.ndarray)  # type: ignore[attr-defined]
    assert env.unwrapped.taken[0] == 2  # type: ignore[attr-defined]


def test_the_shorter_side_holds_its_last_frame() -> None:
    left = np.stack([np.full((64, 64, 3), n, np.uint8) for n in (10, 20)])
    right = np.stack([np.full((64, 64, 3), n, np.uint8) for n in (30, 40, 50, 60)])
    both = side_by_side(left, right, ("a", "b"))
    assert both.shape == (4, 64 + 28, 64 + 4 + 64, 3)
    assert both[:, 60, 10, 0].tolist() == [10, 20, 20, 20]
    assert both[:, 60, -10, 0].tolist() == [30, 40, 50, 60]


def test_labels_and_notes_are_drawn() -> None:
    frames = np.zeros((2, 64, 128, 3), np.uint8)
    plain, noted = titled(frames, "", ["", ""]), titled(frames, "", ["", "return 3"])
    assert (plain[0] == noted[0]).all()
    assert (plain[1] != noted[1]).any()
    assert (titled(frames, "dream", ["", ""])[0] != plain[0]).any()


def test_sides_that_do_not_fit_are_refused() -> None:
    frames = np.zeros((2, 64, 64, 3), np.uint8)
    with pytest.raises(ConfigurationError, match="equal height"):
        side_by_side(frames, frames[:, :32])
    with pytest.raises(ConfigurationError, match="notes"):
        side_by_side(frames, frames, notes=(["one"], ["one", "two"]))


def test_a_grid_has_rows_and_empty_places() -> None:
    pictures = [
        (np.full((length, 64, 64, 3), 50 * length, np.uint8), str(length), ["x"] * length) for length in (1, 2, 3)
    ]
    frames = grid(pictures)
    assert frames.shape == (3, 2 * 92 + 4, 2 * 64 + 4, 3)
    assert (frames[:, 28:92, :64] == 50).all()  # the first one holds its only frame
    assert (frames[1:, 28:92, 68:] == 100).all()
    assert (frames[2, 92 + 4 + 28 :, :64] == 150).all()
    assert (frames[:, 96:, 68:] == (24, 24, 28)).all()
    assert grid(pictures, columns=3).shape == (3, 92, 3 * 64 + 8, 3)
    with pytest.raises(ConfigurationError, match="at least one picture"):
        grid([])


def test_mp4_can_be_read_back(tmp_path: Any) -> None:
    imageio = pytest.importorskip("imageio.v2")
    frames = np.stack([np.full((65, 64, 3), 40 * n, np.uint8) for n in range(6)])
    file = write_video(tmp_path / "a" / "clip.mp4", frames, 10, hold=0)
    read = imageio.mimread(file)
    assert len(read) == 6
    assert read[0].shape == (66, 64, 3)  # sides are made even
    assert abs(int(read[5][30, 30, 0]) - 200) < 6
    assert [path.name for path in file.parent.iterdir()] == ["clip.mp4"]


def test_gif_is_brought_under_its_size(tmp_path: Any) -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (12, 64, 64, 3), dtype=np.uint8)
    large = write_video(tmp_path / "large.gif", frames, 10, largest_gif=10**9, hold=0)
    small = write_video(tmp_path / "small.gif", frames, 10, largest_gif=20_000, hold=0)
    assert small.stat().st_size < 20_000 < large.stat().st_size
    with Image.open(large) as opened:
        assert opened.n_frames == 12
        assert opened.info["duration"] == 100


def test_other_files_are_refused(tmp_path: Any) -> None:
    frames = np.zeros((2, 64, 64, 3), np.uint8)
    with pytest.raises(ConfigurationError, match=r"\.mp4 or \.gif"):
        write_video(tmp_path / "clip.avi", frames, 10)
    with pytest.raises(ConfigurationError, match="frames"):
        write_video(tmp_path / "clip.gif", frames[:0], 10)
