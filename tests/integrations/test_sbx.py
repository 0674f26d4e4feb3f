"""Stable-Baselines3 in JAX: MBPO by its SAC, interrupted or not, the look at its critic, and what it saves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamenv.errors import ConfigurationError
from dreamenv.sb3 import CriticCallback, learn_mbpo, load_model
from dreamenv.sb3.models import algorithm_name
from tests.docs.site import docs_script
from tests.sb3.line_env import Line
from tests.sb3.test_mbpo import LINE, TINY

pytestmark = [pytest.mark.slow, pytest.mark.library]
sbx = pytest.importorskip("sbx", reason="sbx is not in this environment; `make test-integrations` has it")

JAX_SAC = replace(TINY, algo="sbx_sac")


def _same(first: Any, second: Any) -> bool:
    import jax

    leaves = [jax.tree.leaves(agent.policy.actor_state.params) for agent in (first, second)]
    return all(np.array_equal(one, other) for one, other in zip(*leaves, strict=True))


def test_mbpo_that_was_interrupted_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    class KilledError(Exception):
        pass

    def kill(epoch: Any) -> None:
        raise KilledError

    whole = learn_mbpo(LINE, tmp_path / "whole", JAX_SAC, seed=3)
    with pytest.raises(KilledError):
        learn_mbpo(LINE, tmp_path / "killed", JAX_SAC, seed=3, on_epoch=kill)
    again = learn_mbpo(LINE, tmp_path / "killed", JAX_SAC, seed=3)
    assert [epoch.returns for epoch in again] == [epoch.returns for epoch in whole]
    assert all(epoch.critic is not None and not epoch.diverged for epoch in whole)
    first, second = (load_model(tmp_path / name / "agent.zip", "sbx_sac") for name in ("whole", "killed"))
    assert first.num_timesteps == 60
    assert first._n_updates == 2 * (60 - 10)
    assert _same(first, second)


@pytest.mark.parametrize("name", ["sac", "td3"])
def test_a_model_is_loaded_as_what_saved_it(name: str, tmp_path: Path) -> None:
    model = getattr(sbx, name.upper())("MlpPolicy", Line(), buffer_size=4)
    assert algorithm_name(model) == f"sbx_{name}"
    model.save(tmp_path / "model")
    loaded = load_model(tmp_path / "model", f"sbx_{name}")
    seen = Line().observation_space.sample()
    for mine, theirs in zip(model.predict(seen), loaded.predict(seen), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    with pytest.raises(ConfigurationError, match=f"was not saved by {name}. Load it as sbx_{name}"):
        load_model(tmp_path / "model", name)


def test_a_critic_that_promises_too_much_is_noticed() -> None:
    model = sbx.SAC("MlpPolicy", Line(), learning_starts=4, batch_size=8, train_freq=4, gamma=0.5, ent_coef=0.1)
    callback = CriticCallback(every=4)
    model.learn(40, callback=callback)
    assert callback.diverged_at is None
    states = model.policy.qf_state
    import jax

    model.policy.qf_state = states.replace(params=jax.tree.map(lambda weights: weights + 1e3, states.params))
    with pytest.warns(RuntimeWarning, match="the critic diverges"):
        callback.look()


def test_updates_are_counted_side_by_side() -> None:
    speeds = docs_script("update_speed").updates_per_second("Pendulum-v1", updates=2, seconds=0.5)
    assert speeds.keys() == {"sac", "sbx_sac"}
    assert min(speeds.values()) > 1
