from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pytest

from dreamenv.envs import DreamEnv, DreamVectorEnv
from dreamenv.envs.render import caption, draw_bars, enlarge, tile
from dreamenv.errors import MissingExtraError, StepError
from tests.fakes import CountingMemory, NoisyMemory, fake_world_model


@pytest.fixture
def no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


def test_a_picture_is_the_decoded_latent_enlarged() -> None:
    env = DreamEnv(fake_world_model(NoisyMemory(), image=True), observation="pixels", render_mode="rgb_array")
    with pytest.raises(StepError, match="before reset"):
        env.render()
    observation, _ = env.reset(seed=0)
    frame = env.render()
    assert frame is not None
    assert frame.shape == (384, 384, 3)
    assert frame.dtype == np.uint8
    assert np.array_equal(frame[::6, ::6], observation)
    assert np.array_equal(frame[5::6, 5::6], observation)


def test_vector_observations_are_drawn_as_bars() -> None:
    env = DreamEnv(fake_world_model(), render_mode="rgb_array")
    env.reset(seed=0)
    before = env.render()
    env.step(4)
    after = env.render()
    assert before is not None
    assert after is not None
    assert before.shape == (384, 384, 3)
    assert not np.array_equal(before, after)
    bars = draw_bars(np.array([1.0, -1.0]))
    assert bars[100:180, 50].tolist() != bars[200:280, 50].tolist()
    assert bars[120, 50].tolist() != bars[120, 300].tolist()
    assert bars[260, 300].tolist() != bars[260, 50].tolist()


def test_the_vector_form_gives_one_frame_a_dream() -> None:
    env = DreamVectorEnv(fake_world_model(NoisyMemory(), image=True), 3, render_mode="rgb_array")
    env.reset(seed=0)
    frames = env.render()
    assert isinstance(frames, tuple)
    assert [frame.shape for frame in frames] == [(384, 384, 3)] * 3
    assert not np.array_equal(frames[0], frames[1])


@pytest.mark.parametrize("image", [True, False])
@pytest.mark.usefixtures("no_screen")
def test_windows_open_and_close(image: bool) -> None:
    import pygame

    model = fake_world_model(NoisyMemory(death=0), image=image)
    env: Any
    for env in (DreamEnv(model, render_mode="human"), DreamVectorEnv(model, 3, render_mode="human")):
        env.reset(seed=0)
        env.step([1, 1, 1] if isinstance(env, DreamVectorEnv) else 1)
        assert env.render() is None
        assert pygame.display.get_surface().get_width() in (384, 768)
        env.close()
        env.close()
        assert not pygame.display.get_init()


def test_the_caption_tells_temperature_return_and_predicted_reward() -> None:
    env = DreamEnv(fake_world_model(CountingMemory()), temperature=1.15)
    env.reset(seed=0)
    env.step(1)
    env.step(1)
    text = " ".join(caption(env.rollout))
    assert "1.15" in text
    assert "return 5.00" in text
    assert "predicted reward +3.000" in text


def test_a_missing_pygame_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "pygame":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    env = DreamEnv(fake_world_model(), render_mode="human")
    with pytest.raises(MissingExtraError, match=r"pip install 'dreamenv\[real\]'"):
        env.reset(seed=0)


def test_frames_tile_into_a_near_square() -> None:
    frames = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 4, 3), np.uint8)
    grid = tile(frames)
    assert grid.shape == (4, 12, 3)
    assert grid[::2, ::4, 0].tolist() == [[0, 1, 2], [3, 4, 0]]
    assert enlarge(frames, 8).shape == (5, 8, 16, 3)
