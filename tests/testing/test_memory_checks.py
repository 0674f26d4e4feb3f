"""Every memory keeps the contract that the package ships as a check, and the check notices those that do not."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from dreamenv.memory.base import LatentMixture, MemoryModel, Prediction
from dreamenv.memory.ensemble.model import ProbabilisticEnsemble
from dreamenv.memory.tabular import TabularMemory
from dreamenv.memory.value_equivalent.model import ValueEquivalent
from dreamenv.noise.base import GeneratorNoise, Noise, as_noise
from dreamenv.testing import CountingMemory, NoisyMemory, check_memory
from dreamenv.testing.fakes import BOX, DISCRETE, FakeState, draw_weights
from tests.memory.small_memory import small

SPACES: dict[str, gym.Space[Any]] = {"box": BOX, "discrete": DISCRETE}


def ensemble(space: str, **options: Any) -> ProbabilisticEnsemble:
    memory = ProbabilisticEnsemble(3, SPACES[space], hidden_size=8, layers=2, **options)
    draw_weights(memory, torch.Generator().manual_seed(1))
    return memory.eval()


def table() -> TabularMemory:
    memory = TabularMemory(4, DISCRETE)
    rng = torch.Generator().manual_seed(2)
    for _ in range(300):
        place, action, following = (int(torch.randint(4, (), generator=rng)) for _ in range(3))
        memory.count(place, action + 1, float(following), following, following == 3)
    return memory.eval()


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize(
    "options",
    [
        {"components": "joint"},
        {"components": "per_dimension", "termination": "cut", "cell_features": True},
        {"components": "joint", "reward_head": "mse", "reward_sees_next": True, "termination_weight": 3.0},
        {"components": "joint", "width": 6},
        {"dropout": 0.3, "dropout_in_dream": True},
    ],
)
def test_mdn_rnn(options: dict[str, Any], space: str) -> None:
    check_memory(small(space, **options), SPACES[space])


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("options", [{"propagation": "step"}, {"propagation": "episode", "termination": "cut"}])
def test_ensemble(options: dict[str, Any], space: str) -> None:
    check_memory(ensemble(space, **options), SPACES[space])


@pytest.mark.parametrize("termination", ["sample", "cut"])
def test_value_equivalent(termination: str) -> None:
    memory = ValueEquivalent(3, DISCRETE, 6, width=8, support=4, termination=termination, termination_weight=2.0)
    draw_weights(memory, torch.Generator().manual_seed(1))
    check_memory(memory.eval(), DISCRETE)


def test_table() -> None:
    check_memory(table(), DISCRETE, embeddings=torch.eye(4), rows=4)


@pytest.mark.parametrize("memory", [CountingMemory(), NoisyMemory()])
def test_the_fakes(memory: MemoryModel[Any]) -> None:
    check_memory(memory.eval(), BOX)


class Broken(MemoryModel[FakeState]):
    """`NoisyMemory`, but for what a test breaks."""

    latent_std: Tensor
    embedding_size = latent_size = 3
    feature_size = 5

    def __init__(self, action_space: gym.Space[Any] | None = None) -> None:
        super().__init__()
        self.register_buffer("latent_std", torch.ones(3))
        self.inner = NoisyMemory()

    @property
    def state_type(self) -> type[FakeState]:
        return FakeState

    def initial(self, embedding: Tensor, *, noise: torch.Generator | Noise) -> FakeState:
        return self.inner.initial(embedding, noise=noise)

    def observe(
        self, state: FakeState, action: Tensor, embedding: Tensor, *, noise: torch.Generator | Noise
    ) -> tuple[FakeState, Prediction]:
        return self.inner.observe(state, action, embedding, noise=noise)

    def imagine(
        self, state: FakeState, action: Tensor, *, noise: torch.Generator | Noise, temperature: float = 1.0
    ) -> tuple[FakeState, Prediction]:
        return self.inner.imagine(state, action, noise=noise, temperature=temperature)

    def features(self, state: FakeState) -> Tensor:
        return self.inner.features(state)

    def latent(self, state: FakeState) -> Tensor:
        return state.latent

    def config(self) -> dict[str, Any]:
        return {"kind": "broken"}


class GlobalNoise(Broken):
    def imagine(self, state: FakeState, action: Tensor, **options: Any) -> tuple[FakeState, Prediction]:
        after, said = super().imagine(state, action, **options)
        return after._replace(latent=after.latent + torch.randn(after.latent.shape)), said


class OneDrawForAll(Broken):
    def imagine(self, state: FakeState, action: Tensor, **options: Any) -> tuple[FakeState, Prediction]:
        after, said = super().imagine(state, action, **options)
        return after._replace(latent=after.latent + state.latent.mean(0)), said


class NoMode(Broken):
    def imagine(
        self, state: FakeState, action: Tensor, *, noise: torch.Generator | Noise, temperature: float = 1.0
    ) -> tuple[FakeState, Prediction]:
        return super().imagine(state, action, noise=noise, temperature=temperature + 0.1)


class WritesToItsState(Broken):
    def imagine(self, state: FakeState, action: Tensor, **options: Any) -> tuple[FakeState, Prediction]:
        found = super().imagine(state, action, **options)
        state.age.add_(1.0)
        return found


class NoGradient(Broken):
    def imagine(self, state: FakeState, action: Tensor, **options: Any) -> tuple[FakeState, Prediction]:
        with torch.no_grad():
            return super().imagine(state, action, **options)


class NoWayIntoTheReward(Broken):
    def imagine(self, state: FakeState, action: Tensor, **options: Any) -> tuple[FakeState, Prediction]:
        after, said = super().imagine(state, action, **options)
        return after, Prediction(said.reward.detach(), said.termination_probability, said.terminated)


class NoWayIntoTheState(Broken):
    def imagine(self, state: FakeState, action: Tensor, **options: Any) -> tuple[FakeState, Prediction]:
        after, said = super().imagine(state, action, **options)
        return FakeState(*(part.detach() for part in after)), said


class ForgetsWhereItWas(Broken):
    def imagine(self, state: FakeState, action: Tensor, **options: Any) -> tuple[FakeState, Prediction]:
        return super().imagine(FakeState(*(part.detach() for part in state)), action, **options)


class NoScale(Broken):
    def __init__(self, action_space: gym.Space[Any] | None = None) -> None:
        super().__init__()
        self.latent_std = torch.zeros(3)


class OtherBranches(Broken):
    def branch(self, state: FakeState, times: int, *, noise: torch.Generator | Noise) -> FakeState:
        return super().branch(state, times, noise=noise)._replace(latent=torch.zeros(times * len(state.latent), 3))


class ForgetsAWeight(Broken):
    def __init__(self, action_space: gym.Space[Any] | None = None) -> None:
        super().__init__()
        self.shift = 0.0

    def imagine(self, state: FakeState, action: Tensor, **options: Any) -> tuple[FakeState, Prediction]:
        after, said = super().imagine(state, action, **options)
        return after._replace(latent=after.latent + self.shift), said


class OtherStep(Broken):
    """Its fast step is too calm."""

    def stepper(self, rows: int, *, precision: str = "auto", compiled: bool = False) -> Any:
        stepper = super().stepper(rows, precision=precision, compiled=compiled)
        stepper.memory = Calm(self)
        return stepper


class Calm(Broken):
    def __init__(self, broken: Broken) -> None:
        super().__init__()
        self.inner = broken.inner

    def imagine(
        self, state: FakeState, action: Tensor, *, noise: torch.Generator | Noise, temperature: float = 1.0
    ) -> tuple[FakeState, Prediction]:
        return super().imagine(state, action, noise=noise, temperature=0.5 * temperature)


class OtherEmbedding(Broken):
    def embedding_of(self, seen: Tensor, kind: str) -> Tensor:
        return seen[..., :3] if kind == "latent" else seen[..., 1:4]


class OtherLatent(Broken):
    def with_latent(self, state: FakeState, latent: Tensor) -> FakeState:
        return state._replace(latent=latent.clamp(min=0))


class ForgetsItsAge(Broken):
    def with_latent(self, state: FakeState, latent: Tensor) -> FakeState:
        return state._replace(latent=latent, age=torch.zeros_like(state.age))


class SaysItForgets(Broken):
    memoryless = True


class RightMixture(Broken):
    shift, shift_of_mode, factor = 0.0, 0.0, 1.0

    def predicted_latent(self, state: FakeState, action: Tensor, *, temperature: float = 1.0) -> LatentMixture:
        after, _ = self.imagine(state, action, noise=torch.Generator().manual_seed(0), temperature=0.0)
        means = after.latent.unsqueeze(1) + (self.shift if temperature else self.shift_of_mode)
        return LatentMixture(torch.ones_like(means), means, torch.full_like(means, self.factor * temperature**0.5))


class ShiftedMixture(RightMixture):
    shift = 0.3


class OtherMode(RightMixture):
    shift_of_mode = 0.3


class WideMixture(RightMixture):
    factor = 1.5


class LostExtras(Broken):
    def imagine(self, state: FakeState, action: Tensor, **options: Any) -> tuple[FakeState, Prediction]:
        after, said = super().imagine(state, action, **options)
        return after, Prediction(said.reward, said.termination_probability, said.terminated, {"odd": torch.zeros(1)})


def test_the_example_itself_is_sound() -> None:
    check_memory(Broken().eval(), BOX)
    check_memory(RightMixture().eval(), BOX)


@pytest.mark.parametrize(
    ("memory", "message"),
    [
        (GlobalNoise, "the same noise twice gave two dreams"),
        (OneDrawForAll, "row 0 depends on its neighbours"),
        (NoMode, "temperature 0 is the mode"),
        (WritesToItsState, "written to the state it came from"),
        (NoGradient, "carries no gradient"),
        (NoWayIntoTheReward, "a dreamed reward carries no gradient"),
        (NoWayIntoTheState, "a dreamed state carries no gradient"),
        (ForgetsWhereItWas, "no gradient reaches the state before"),
        (NoScale, "latent_std has elements that are not above 0"),
        (OtherBranches, "branches do not begin at the latents of their rows"),
        (OtherStep, "drawn from another distribution"),
        (OtherEmbedding, "embedding_of features is not the embedding"),
        (OtherLatent, "with_latent gave a state of another latent"),
        (ForgetsItsAge, "with_latent there and back"),
        (SaysItForgets, "memoryless is True, but features after observe are not those of initial"),
        (ShiftedMixture, "predicted_latent has another mean"),
        (OtherMode, "at temperature 0 is not the mode"),
        (WideMixture, "predicted_latent has another variance"),
        (LostExtras, r"odd has shape \(1,\), expected \(5,\)"),
    ],
)
def test_the_check_notices(memory: type[Broken], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_memory(memory().eval(), BOX)


class OfNumbers(Broken):
    """Takes Discrete actions as numbers alone, and is differentiable by default."""

    def imagine(self, state: Any, action: Tensor, **options: Any) -> tuple[Any, Prediction]:
        if action.dim() == 2:
            raise RuntimeError("Tensors must have same number of dimensions")
        return super().imagine(state, action, **options)


class Half(Broken):
    def observe(self, *arguments: Any, **options: Any) -> Any:
        return super().observe(*arguments, **options)[0]


def test_an_error_of_the_memorys_own_is_told_with_the_check() -> None:
    with pytest.raises(AssertionError, match=r"Half fails in the check '\w+': "):
        check_memory(Half().eval(), DISCRETE)
    with pytest.raises(AssertionError, match=r"OfNumbers\.differentiable is True, so that imagine takes Discrete"):
        check_memory(OfNumbers().eval(), DISCRETE)


def test_the_check_notices_what_the_weights_do_not_hold() -> None:
    memory = ForgetsAWeight().eval()
    memory.shift = 1.0
    with pytest.raises(AssertionError, match="dreams otherwise"):
        check_memory(memory, BOX)


def test_training_mode_and_too_few_rows_are_refused() -> None:
    with pytest.raises(AssertionError, match="training mode"):
        check_memory(small().train(), BOX)
    with pytest.raises(AssertionError, match="rows must be at least 2"):
        check_memory(small(), BOX, rows=1)


def test_noise_of_the_check_is_noise() -> None:
    assert isinstance(as_noise(torch.Generator()), GeneratorNoise)
    assert spaces.Discrete(4, start=1) == DISCRETE
