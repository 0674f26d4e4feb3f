from __future__ import annotations

import pytest

from tests.docs.site import docs_script


@pytest.mark.slow
def test_all_models_are_shown_the_episodes_of_all_agents() -> None:
    names = ["DreamDoom-v0", "DreamDoom-v1"]
    found = docs_script("open_loop").compared(names, episodes=1, moments=4, samples=4, seed=1, temperatures=(1.0, 2.5))
    assert list(found) == [told for name in names for told in (name, f"{name} at 2.5")]
    for name in names:
        bold, calm = found.pop(f"{name} at 2.5"), found[name]
        for one, other in zip(bold, calm, strict=True):
            assert one.pixel_mse_reconstruction == other.pixel_mse_reconstruction
            assert one.pixel_mse_sample != other.pixel_mse_sample
    for first, second in zip(*found.values(), strict=True):
        assert first.horizon == second.horizon
        assert first.moments == second.moments > 0
        assert first.pixel_mse_frame_no_change == second.pixel_mse_frame_no_change
    # Over all horizons: five actions ahead a dream may be as near as what V draws of the real frame
    for rows in found.values():
        drawn, mean, single = (
            sum(getattr(row, name) for row in rows)
            for name in ("pixel_mse_reconstruction", "pixel_mse", "pixel_mse_sample")
        )
        assert 0 < drawn < mean < single
