"""The fast steps against the plain one: equal up to rounding in float32, in distribution in bfloat16."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from dreamenv.errors import ConfigurationError
from dreamenv.memory.base import PlainStepper, Prediction
from dreamenv.memory.mdn_rnn.fast.batched import _GROUPED_ROWS, BatchedStepper
from dreamenv.memory.mdn_rnn.fast.single import SingleStepper
from dreamenv.memory.mdn_rnn.fast.weights import shared_weights
from dreamenv.memory.mdn_rnn.model import MDNRNN
from dreamenv.memory.mdn_rnn.state import MDNRNNState
from dreamenv.memory.states import select
from dreamenv.noise.hashed import BLOCK_STEPS, EpisodeNoise
from tests.memory.small_memory import actions, seeded, small

ROWS = (1, 7, _GROUPED_ROWS + 3)


def dreamed(
    imagine: Any, memory: MDNRNN, space: str, rows: int, steps: int = 5, temperature: float = 1.0
) -> list[tuple[MDNRNNState, Prediction]]:
    state = memory.initial(torch.randn(rows, memory.latent_size, generator=seeded(2)), noise=seeded())
    found = []
    for step in range(steps):
        action = actions(space, rows)
        with torch.no_grad():
            state, prediction = imagine(state, action, noise=seeded(step), temperature=temperature)
        found.append((state, prediction))
    return found


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("space", ["box", "discrete"])
@pytest.mark.parametrize(
    "options",
    [
        {"components": "joint"},
        {"components": "per_dimension", "termination": "cut"},
        {"components": "joint", "reward_head": "mse", "reward_sees_next": True, "termination_weight": 3.0},
        {"components": "per_dimension", "reward_sees_next": True, "cell_features": True, "mixtures": 1},
    ],
)
def test_it_is_the_plain_step(options: dict[str, Any], space: str, rows: int) -> None:
    memory = small(space, **options)
    fused = memory.stepper(rows)
    assert type(fused) is (SingleStepper if rows == 1 else BatchedStepper)
    other_ends = 0
    for temperature in (1.0, 0.5, 0.0):
        plain = dreamed(memory.imagine, memory, space, rows, temperature=temperature)
        ours = dreamed(fused, memory, space, rows, temperature=temperature)
        for (state, said), (other, also) in zip(plain, ours, strict=True):
            for part, its in zip(state, other, strict=True):
                torch.testing.assert_close(its, part, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(also.reward, said.reward, rtol=1e-3, atol=1e-3)
            torch.testing.assert_close(also.termination_probability, said.termination_probability, rtol=1e-3, atol=1e-5)
            assert also.reward.shape == also.terminated.shape == (rows,)
            other_ends += int((also.terminated != said.terminated).sum())
            torch.testing.assert_close(memory.features(other), memory.features(state), rtol=1e-4, atol=1e-4)
    # among thousands of uniform numbers one may fall between two roundings of a probability
    assert other_ends <= rows // 100


@pytest.mark.parametrize("space", ["box", "discrete"])
@pytest.mark.parametrize("cell_features", [False, True])
def test_a_row_without_tensors_is_stepped_alike(space: str, cell_features: bool) -> None:
    memory = small(space, components="joint", cell_features=cell_features)
    single, batched = memory.stepper(1), memory.stepper(2)
    state = memory.initial(torch.randn(1, memory.latent_size, generator=seeded(2)), noise=seeded())
    dreams = single.enter(state)
    noises = [EpisodeNoise(1), EpisodeNoise(1)]
    for noise in noises:
        noise.begin_episodes(np.zeros(1, np.int64), np.array([7], np.uint64))
    for step in range(BLOCK_STEPS + 3):  # into a second block of random numbers
        if step == 5:  # new weights are taken over
            with torch.no_grad():
                memory.mixture_head.weight.mul_(0.5)
        for noise in noises:
            noise.begin_step()
        action = actions(space, 1)
        state, said = batched(state, action, noise=noises[0], temperature=0.7)
        dreams, outcome = single.advance(dreams, action.numpy(), noise=noises[1], temperature=0.7)
        for noise in noises:
            noise.end_step()
        for part, its in zip(state, single.leave(dreams), strict=True):
            torch.testing.assert_close(its, part, rtol=0, atol=0)
        np.testing.assert_array_equal(single.features(dreams), memory.features(state).numpy())
        assert (outcome.reward, outcome.terminated) == (said.reward.numpy(), said.terminated.numpy())
        np.testing.assert_allclose(outcome.termination_probability, said.termination_probability.numpy(), rtol=1e-6)


def test_a_stepper_for_one_row_steps_more_as_well() -> None:
    memory = small()
    for rows in (2, 5):
        ours, plain = (dreamed(step, memory, "box", rows)[-1][0] for step in (memory.stepper(1), memory.imagine))
        torch.testing.assert_close(ours.latent, plain.latent)


@pytest.mark.parametrize("rows", ROWS)
def test_a_state_may_be_stepped_more_than_once(rows: int) -> None:
    """Planners branch: a step leaves the state it came from as it was."""
    memory = small(components="joint")
    fused = memory.stepper(rows)
    state, _ = dreamed(fused, memory, "box", rows, steps=2)[-1]
    before = [part.clone() for part in state]
    action = actions("box", rows)
    first, _ = fused(state, action, noise=seeded(9))
    fused(state, -action, noise=seeded(8))
    again, _ = fused(state, action, noise=seeded(9))
    for part, kept in zip(state, before, strict=True):
        assert torch.equal(part, kept)
    for part, same in zip(first, again, strict=True):
        assert torch.equal(part, same)
    torch.testing.assert_close(select(first, torch.tensor([0])).hidden, first.hidden[:1])


# Without the bounds of the action space, which are settings and not fitted
NAMES = sorted(
    name
    for name in (*dict(small().named_parameters()), *dict(small().named_buffers()))
    if not name.startswith("action_encoder")
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rows", [1, 3])
def test_it_follows_every_tensor_of_the_model(name: str, rows: int) -> None:
    """Fitted or shifted alone, by whoever, each tensor changes the dreams that are under way."""
    memory = small(components="joint", termination_weight=2.0)
    tensor = {**dict(memory.named_parameters()), **dict(memory.named_buffers())}[name]
    stepper = memory.stepper(rows)
    state = dreamed(memory.imagine, memory, "box", rows, steps=2)[-1][0]
    noise = EpisodeNoise(rows)
    noise.begin_episodes(np.arange(rows), np.arange(rows).astype(np.uint64))
    dreams = stepper.enter(state)
    action = actions("box", rows)

    def figures() -> list[Tensor]:
        after, said = stepper(state, action, noise=seeded(4))
        noise.begin_step()
        later, outcome = stepper.advance(dreams, action.numpy(), noise=noise, temperature=1.0)
        rest = [torch.from_numpy(outcome.reward), torch.from_numpy(outcome.termination_probability)]
        return [*after[:3], said.reward, said.termination_probability, *stepper.leave(later)[:3], *rest]

    before = figures()
    with torch.no_grad():
        tensor.add_(0.5 * torch.randn(tensor.shape, generator=seeded(8)).abs() + 0.1)
    after = figures()
    middle = len(before) // 2
    for part in (slice(None, middle), slice(middle, None)):
        assert any(not torch.allclose(old, new, atol=1e-5) for old, new in zip(before[part], after[part], strict=True))
    plain, said = memory.imagine(state, action, noise=seeded(4))
    for ours, theirs in zip(after, (*plain[:3], said.reward, said.termination_probability), strict=False):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def replaced(memory: MDNRNN) -> None:
    memory.reward_head.network[2].bias = torch.nn.Parameter(memory.reward_head.network[2].bias.detach() + 5.0)


def assigned(memory: MDNRNN) -> None:
    memory.load_state_dict({name: 0.9 * part for name, part in memory.state_dict().items()}, assign=True)


def stepped(memory: MDNRNN) -> None:
    optimiser = torch.optim.SGD(memory.parameters(), lr=0.1)
    sum(part.square().sum() for part in memory.parameters()).backward()  # type: ignore[union-attr]
    optimiser.step()


@pytest.mark.parametrize("change", [replaced, assigned, stepped])
@pytest.mark.parametrize("rows", [1, 3])
def test_it_follows_the_model(change: Any, rows: int) -> None:
    memory = small(components="joint", reward_head="mse")
    fused = memory.stepper(rows)
    before = dreamed(fused, memory, "box", rows)[-1]
    change(memory)
    (state, said), (other, also) = (dreamed(step, memory, "box", rows)[-1] for step in (memory.imagine, fused))
    assert not torch.allclose(before[1].reward, also.reward, atol=1e-3)
    torch.testing.assert_close(other.latent, state.latent, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(also.reward, said.reward, rtol=1e-3, atol=1e-3)


def test_the_next_stepper_sees_edits_that_torch_does_not_record() -> None:
    memory = small()
    memory.stepper(3)
    memory.latent_std.data.mul_(2.0)
    ours, plain = (dreamed(step, memory, "box", 3)[-1][0].latent for step in (memory.stepper(3), memory.imagine))
    torch.testing.assert_close(ours, plain, rtol=1e-3, atol=1e-3)


def test_weights_are_copied_once_for_all_steppers_of_an_unchanged_model() -> None:
    memory = small()
    first = shared_weights(memory, torch.float32)
    memory.stepper(3)
    assert shared_weights(memory, torch.float32) is first
    arrays = [SingleStepper(memory)._gates for _ in range(2)]
    assert arrays[0] is arrays[1], "players step one row each, and none has weights of its own"
    with torch.no_grad():
        memory.reward_head.network[2].bias.add_(1.0)
    assert shared_weights(memory, torch.float32) is not first


@pytest.mark.parametrize("rows", [1, 64])
def test_threads_with_a_stepper_each_may_step_from_the_same_state(rows: int) -> None:
    """As visitors of one page that branch off one moment do."""
    memory = small(components="joint")
    torch.set_num_threads(1)
    begun, _ = dreamed(memory.stepper(rows), memory, "box", rows, steps=2)[-1]
    choices = [actions("box", rows) * scale for scale in (1.0, 0.5, 0.25, 0.125)]

    def run(action: Tensor) -> list[Tensor]:
        stepper = memory.stepper(rows)
        return [stepper(begun, action, noise=seeded(1))[0].latent.clone() for _ in range(200)]

    alone = [run(action)[0] for action in choices]
    with ThreadPoolExecutor(len(choices)) as pool:
        for expected, found in zip(alone, pool.map(run, choices), strict=True):
            assert all(torch.equal(latent, expected) for latent in found)


def test_a_stepper_writes_to_no_state_but_its_own_latest() -> None:
    """What others hold, or itself has handed out before, is copied: a second stepper may read it meanwhile."""
    memory = small()
    ours, theirs = memory.stepper(5), memory.stepper(5)
    state, _ = dreamed(ours, memory, "box", 5, steps=2)[-1]
    storage = state.latent.untyped_storage()
    rows = torch.empty(0).set_(storage).clone()
    theirs(state, actions("box", 5), noise=seeded())
    assert torch.equal(torch.empty(0).set_(storage), rows)
    after, _ = ours(state, actions("box", 5), noise=seeded())
    rows = torch.empty(0).set_(storage).clone()
    ours(after, actions("box", 5), noise=seeded())
    ours(state, -actions("box", 5), noise=seeded())
    assert torch.equal(torch.empty(0).set_(storage), rows)


def test_it_works_within_inference_mode_and_outside_in_turn() -> None:
    memory = small()
    fused = memory.stepper(7)
    outside = dreamed(fused, memory, "box", 7)[-1][0]
    with torch.inference_mode():
        inside = dreamed(fused, memory, "box", 7)[-1][0]
        fused(outside, actions("box", 7), noise=seeded())
    fused(inside, actions("box", 7), noise=seeded())
    assert torch.equal(inside.latent, outside.latent)


def test_what_cannot_be_fused_is_stepped_plainly() -> None:
    far = small()
    far.latent_mean.fill_(1e4)
    for memory in (small(width=4), small(dropout=0.5, dropout_in_dream=True), far):
        assert type(memory.stepper(1)) is type(memory.stepper(5)) is PlainStepper
        with pytest.raises(ConfigurationError, match="dreams in float32 only"):
            memory.stepper(5, precision="bfloat16")
    with pytest.raises(ConfigurationError, match="precision='float16' is not known"):
        small().stepper(5, precision="float16")


def test_it_is_final() -> None:
    with pytest.raises(TypeError, match="MDNRNN is final"):
        type("Own", (MDNRNN,), {})


def samples(memory: MDNRNN, precision: str, seed: int, rows: int = 4000) -> tuple[Tensor, Prediction]:
    """One step of `rows` dreams from the same moment."""
    state = dreamed(memory.imagine, memory, "box", 1)[-1][0]
    many = type(state)(*(part.expand(rows, -1).contiguous() for part in state))
    step = memory.imagine if precision == "plain" else memory.stepper(rows, precision=precision)
    with torch.no_grad():
        after, said = step(many, actions("box", 1).expand(rows, -1), noise=seeded(seed))
    return after.latent, said


@pytest.mark.parametrize("components", ["joint", "per_dimension"])
def test_bfloat16_dreams_follow_the_same_distribution(components: str) -> None:
    """Kolmogorov-Smirnov for each latent, moments, and how often each component is chosen, on other random numbers."""
    memory = small(components=components, hidden_size=32, mixtures=4)
    plain, said = samples(memory, "plain", 1)
    half, also = samples(memory, "bfloat16", 2)
    for dimension in range(memory.latent_size):
        assert stats.ks_2samp(plain[:, dimension].numpy(), half[:, dimension].numpy()).pvalue > 1e-3
    spread = plain.std(0)
    assert ((half.mean(0) - plain.mean(0)).abs() < 5 * spread * np.sqrt(2 / len(plain))).all()
    torch.testing.assert_close(half.std(0), spread, rtol=0.08, atol=0.0)
    torch.testing.assert_close(also.reward, said.reward, rtol=0.02, atol=0.02)
    torch.testing.assert_close(also.termination_probability, said.termination_probability, rtol=0.02, atol=0.002)
    assert abs(float(also.terminated.float().mean() - said.terminated.float().mean())) < 0.04


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_components_are_chosen_as_often_as_their_weights_say(precision: str) -> None:
    """Far apart and narrow, the components can be told from the samples."""
    memory = small(components="joint", mixtures=4)
    count, size = memory.mixtures, memory.latent_size
    with torch.no_grad():
        head = memory.mixture_head
        head.weight.zero_()
        head.bias[:count] = torch.tensor([0.0, 1.0, 2.0, -1.0])
        head.bias[count : count + count * size] = torch.arange(count).repeat_interleave(size) * 10.0
        head.bias[count + count * size :] = -3.0
    latent, _ = samples(memory, precision, 3)
    chosen = (memory.normalise(latent)[:, 0] / 10).round().long()
    expected = torch.tensor([0.0, 1.0, 2.0, -1.0], dtype=torch.float64).softmax(0) * len(latent)
    counts = torch.bincount(chosen, minlength=count)
    assert stats.chisquare(counts.numpy(), expected.numpy()).pvalue > 1e-3
