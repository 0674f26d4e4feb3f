from __future__ import annotations

import pytest

from tests.docs.site import docs_script


@pytest.mark.slow
def test_all_models_are_shown_the_episodes_of_all_agents() -> None:
    names = ["DreamDoom-v0", "DreamDoom-v1"]
    found = docs_script("open_loop").compared(names, episodes=1, moments=4, samples=4, seed=1)
    assert list(found) == names
    for first, second in zip(*found.values(), strict=True):
        assert first.horizon == second.horizon
        assert first.moments == second.moments > 0
        assert first.pixel_mse_frame_no_change == second.pixel_mse_frame_no_change
        assert 0 < second.pixel_mse_reconstruction < second.pixel_mse < second.pixel_mse_sample
