"""The joint loss of V and M, part by part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dreamenv.training.recipes.base import Job
from dreamenv.training.recipes.joint import JointModel, LossOptions, Observed, RSSMOptions, new_joint_model
from dreamenv.training.recipes.rssm import ContinualRSSM, RSSMRecipe
from dreamenv.training.replay import Replay, ReplayBatch
from tests.training.recipes.test_rssm import job, options
from tests.training.synthetic import rotation


@pytest.fixture
def made(tmp_path: Path) -> Job[RSSMOptions]:
    return job(rotation(episodes=6, steps=12), tmp_path, options())


@pytest.fixture
def model(made: Job[RSSMOptions]) -> JointModel:
    return new_joint_model(made, made.cache)


@pytest.fixture
def batch(made: Job[RSSMOptions]) -> ReplayBatch:
    return Replay(made.cache, np.arange(6), length=9).draw(16, np.random.default_rng(0))


@pytest.fixture
def observed(model: JointModel, batch: ReplayBatch) -> Observed:
    return model.observe(batch, torch.Generator().manual_seed(0))


def loss(model: JointModel, batch: ReplayBatch, observed: Observed, **weights: Any) -> Tensor:
    wanted = {"reconstruction": 0.0, "dynamics": 0.0, "representation": 0.0, "free_nats": 0.0} | weights
    return model.losses_of(batch, observed, LossOptions(**wanted))["loss"]


@pytest.mark.parametrize(("weight", "learns", "stays"), [("dynamics", 1, 0), ("representation", 0, 1)])
def test_each_divergence_trains_its_own_side(
    weight: str, learns: int, stays: int, model: JointModel, batch: ReplayBatch, observed: Observed
) -> None:
    """The weight of the dynamics moves the prior, that of the representation the posterior, in proportion."""
    sides = (observed.posterior, observed.prior)
    found = []
    for amount in (1.0, 3.0):
        part = loss(model, batch, observed, **{weight: amount}) - loss(model, batch, observed)
        found.append(torch.autograd.grad(part, sides, retain_graph=True, allow_unused=True))
    once, thrice = found
    assert once[learns] is not None
    assert float(once[learns].abs().max()) > 0
    torch.testing.assert_close(thrice[learns], 3 * once[learns], rtol=1e-3, atol=1e-6)
    assert once[stays] is None or not once[stays].any()


def test_free_nats_cost_nothing(model: JointModel, batch: ReplayBatch, observed: Observed) -> None:
    weights = {"dynamics": 0.5, "representation": 0.1}
    rest = loss(model, batch, observed)
    free = loss(model, batch, observed, **weights, free_nats=1000.0) - rest
    assert float(free) == pytest.approx(0.6 * 1000.0, rel=1e-4)
    assert not torch.autograd.grad(free, observed.prior, retain_graph=True)[0].any()
    told = model.losses_of(batch, observed, LossOptions(free_nats=1000.0))
    paid = loss(model, batch, observed, **weights) - rest
    assert float(paid) == pytest.approx(0.6 * float(told["divergence"]), rel=1e-3), "what is told is not clamped"


def test_nothing_is_earned_on_the_way_to_a_first_moment(
    model: JointModel, batch: ReplayBatch, observed: Observed
) -> None:
    assert batch.first.any()
    # As they begin, both heads find everything equally likely
    for head in (model.memory.reward_head, model.memory.termination_head):
        torch.nn.init.uniform_(head.network[-1].bias)  # type: ignore[arg-type]
    before = float(loss(model, batch, observed))
    for part in (batch.rewards, batch.terminated):
        kept = part.clone()
        part[batch.first] += 0.5
        assert float(loss(model, batch, observed)) == pytest.approx(before, rel=1e-6)
        part.copy_(kept)
        part[~batch.first] += 0.5
        assert abs(float(loss(model, batch, observed)) - before) > 1e-3
        part.copy_(kept)


@pytest.mark.parametrize("continual", [False, True])
def test_recency_chooses_what_is_replayed(continual: bool, tmp_path: Path) -> None:
    cache = rotation(episodes=6, steps=12)
    found = []
    for recency in (0.0, 20.0):
        made = job(cache, tmp_path / str(recency), options(fit={"recency": recency}))
        if continual:
            learner = ContinualRSSM(made)
            learner.update(0)
            found.append(learner.memory.state_dict())
        else:
            found.append(RSSMRecipe().fit(made).memory.state_dict())
    assert any(not torch.equal(found[0][name], found[1][name]) for name in found[0])
