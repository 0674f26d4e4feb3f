"""What every memory has to keep, as one call for the tests of whoever writes one."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from dreamenv.errors import ConfigurationError, DreamEnvError, missing_extra
from dreamenv.memory.base import MemoryModel, Prediction
from dreamenv.memory.kinds import MEMORIES
from dreamenv.memory.states import flatten_state, merge, select, unflatten_state
from dreamenv.noise.branching import RowNoise
from dreamenv.noise.hashed import EpisodeNoise

# Dreams of one moment whose distributions are compared, and the least probability of so large a difference by chance.
_SAMPLES, _LEAST_CHANCE = 4000, 1e-5
# What numbers of a step in this precision may differ by, in units of 1 + their mean size.
_ROUNDING = {"float32": 1e-4, "bfloat16": 1e-2}
# Standard errors by which the mean of so many dreams may lie off the distribution's.
_MOST_OFF = 5.0


def check_memory(
    memory: MemoryModel[Any],
    action_space: gym.Space[Any],
    *,
    embeddings: Tensor | None = None,
    rows: int = 5,
    seed: int = 0,
) -> None:
    """Check that `memory` keeps the contract of `MemoryModel`, and raise AssertionError where it does not.

    Shapes and types; the same noise twice gives the same dream, and nothing else is drawn from; rows do not depend on
    their neighbours; temperature 0 is the mode; states can be chosen, joined, branched, flattened and restored;
    a real observation is all that counts where `memoryless` says so; gradients flow where `differentiable` does; what
    `config` and the weights hold rebuilds the model; the stepper dreams as `imagine` does, follows the model when it is
    fitted, and leaves the states it was given as they were.

    Args:
        memory: The memory, fitted or of random weights, in evaluation mode.
        action_space: Of the environment, Discrete or a Box of one dimension.
        embeddings: `[N, E]`, N at least `rows`, where they cannot be any numbers; None draws normal ones.
        rows: Dreams at once, at least 2.
        seed: Of embeddings, actions and noise.

    Raises:
        AssertionError: The contract is broken; the message says how.
        MissingExtraError: scipy, which compares distributions, is not installed.
    """
    checks = _Checks(memory, action_space, embeddings, rows, seed)
    for check in (
        checks.sizes,
        checks.shapes,
        checks.same_noise_twice,
        checks.nothing_global,
        checks.independent_rows,
        checks.mode,
        checks.states,
        checks.branches,
        checks.memoryless,
        checks.gradients,
        checks.rebuilding,
        checks.stepping,
        checks.following,
        checks.distribution,
        checks.looking,
    ):
        checks.run(check)


class _Checks:
    def __init__(
        self, memory: MemoryModel[Any], action_space: gym.Space[Any], embeddings: Tensor | None, rows: int, seed: int
    ) -> None:
        assert rows >= 2, f"rows must be at least 2 to see whether rows are independent, got {rows}"
        self.memory, self.space, self.rows, self.seed = memory, action_space, rows, seed
        self.name = type(memory).__name__
        assert not memory.training, f"{self.name} is in training mode; call memory.eval() first"
        device = memory.device
        if embeddings is None:
            cpu = torch.Generator().manual_seed(1000 * seed + 1)
            embeddings = torch.randn(2 * rows, memory.embedding_size, generator=cpu)
        assert len(embeddings) >= rows, f"got {len(embeddings)} embeddings, expected at least {rows}"
        self.first = embeddings[:rows].float().to(device)
        self.second = embeddings.flip(0)[:rows].float().to(device)
        action_space.seed(seed)
        self.actions = [
            torch.from_numpy(np.stack([np.asarray(action_space.sample()) for _ in range(rows)])).to(device)
            for _ in range(4)
        ]

    def run(self, check: Callable[[], None]) -> None:
        """Run a check; an error of the memory's own is told with the check's name."""
        try:
            check()
        except (AssertionError, DreamEnvError):
            raise
        except Exception as error:  # whatever a foreign memory raises
            raise AssertionError(
                f"{self.name} fails in the check {check.__name__!r}: {type(error).__name__}: {error}"
            ) from error

    def generator(self, seed: int) -> torch.Generator:
        return torch.Generator(self.memory.device).manual_seed(1000 * self.seed + seed)

    @torch.no_grad()
    def state(self, seed: int = 2) -> Any:
        """A state of two real steps and a dreamed one."""
        state = self.memory.initial(self.first, noise=self.generator(seed))
        state, _ = self.memory.observe(state, self.actions[0], self.second, noise=self.generator(seed + 1))
        state, _ = self.memory.observe(state, self.actions[1], self.first, noise=self.generator(seed + 2))
        return self.memory.imagine(state, self.actions[2], noise=self.generator(seed + 3))[0]

    def sizes(self) -> None:
        for name in ("embedding_size", "latent_size", "feature_size"):
            size = getattr(self.memory, name, None)
            assert isinstance(size, int), f"{self.name}.{name} is {size!r}, expected an int"
            assert size >= 1, f"{self.name}.{name} is {size}, expected at least 1"
        std = getattr(self.memory, "latent_std", None)
        assert isinstance(std, Tensor), f"{self.name}.latent_std is {std!r}, expected a tensor [latent_size]"
        assert std.shape == (self.memory.latent_size,), f"{self.name}.latent_std has shape {tuple(std.shape)}"
        assert bool((std > 0).all()), f"{self.name}.latent_std has elements that are not above 0"

    @torch.no_grad()
    def shapes(self) -> None:
        memory, rows = self.memory, self.rows
        begun = memory.initial(self.first, noise=self.generator(2))
        after, seen = memory.observe(begun, self.actions[0], self.second, noise=self.generator(3))
        dreamed, predicted = memory.imagine(after, self.actions[1], noise=self.generator(4))
        for where, state in (("initial", begun), ("observe", after), ("imagine", dreamed)):
            assert type(state) is memory.state_type, f"{where} gave a {type(state).__name__}, not the state_type"
            for name, part in state._asdict().items():
                assert isinstance(part, Tensor), f"{where}: {name} of the state is no tensor"
                assert len(part) == rows, f"{where}: {name} has {len(part)} rows, expected the batch {rows} first"
            for method, size in ((memory.features, memory.feature_size), (memory.latent, memory.latent_size)):
                found = tuple(method(state).shape)
                assert found == (rows, size), f"{method.__name__} after {where}: {found}, expected {(rows, size)}"
        for where, prediction in (("observe", seen), ("imagine", predicted)):
            self._check_prediction(where, prediction)
        value, prior = memory.value(dreamed), memory.prior(dreamed)
        assert value is None or value.shape == (rows,), f"value: {tuple(value.shape)}, expected {(rows,)}"
        if prior is not None:
            assert isinstance(self.space, spaces.Discrete), "prior: logits are of Discrete actions alone"
            assert prior.shape == (rows, int(self.space.n)), f"prior: {tuple(prior.shape)}"

    def _check_prediction(self, where: str, prediction: Prediction) -> None:
        figures = {"reward": prediction.reward, "termination_probability": prediction.termination_probability}
        for name, part in (figures | {"terminated": prediction.terminated} | prediction.extras).items():
            assert part.shape == (self.rows,), f"{where}: {name} has shape {tuple(part.shape)}, expected {(self.rows,)}"
        for name, part in figures.items():
            assert part.dtype == torch.float32, f"{where}: {name} is {part.dtype}, expected float32"
            assert bool(torch.isfinite(part).all()), f"{where}: {name} is not finite"
        assert prediction.terminated.dtype == torch.bool, f"{where}: terminated is {prediction.terminated.dtype}"
        probability = prediction.termination_probability
        assert bool(((probability >= 0) & (probability <= 1)).all()), f"{where}: a probability outside [0, 1]"

    def _same(self, first: Any, second: Any, message: str, tolerance: float = 0.0) -> None:
        for name, part, other in zip(type(first)._fields, first, second, strict=True):
            close = torch.allclose(part.double(), other.double(), rtol=tolerance, atol=tolerance)
            assert close, f"{message}: {name} of the state differs"

    @torch.no_grad()
    def same_noise_twice(self) -> None:
        self._same(self.state(), self.state(), "the same noise twice gave two dreams")
        state = self.state()
        kept = [part.clone() for part in state]
        self.memory.imagine(state, self.actions[3], noise=self.generator(5))
        self.memory.observe(state, self.actions[3], self.first, noise=self.generator(5))
        unchanged = all(torch.equal(part, before) for part, before in zip(state, kept, strict=True))
        assert unchanged, "a step has written to the state it came from"

    @torch.no_grad()
    def nothing_global(self) -> None:
        before = torch.random.get_rng_state()
        self.memory.branch(self.state(), 2, noise=self.generator(6))
        same = torch.equal(before, torch.random.get_rng_state())
        assert same, f"{self.name} has drawn from torch's global generator; draw from `noise` alone"

    @torch.no_grad()
    def independent_rows(self) -> None:
        def run(rows: list[int]) -> Any:
            noise = RowNoise([self.generator(100 + row) for row in rows])
            index = torch.tensor(rows, device=self.memory.device)
            state = self.memory.initial(self.first[index], noise=noise)
            state, _ = self.memory.observe(state, self.actions[0][index], self.second[index], noise=noise)
            return self.memory.imagine(state, self.actions[1][index], noise=noise)[0]

        together = run(list(range(self.rows)))
        for row in range(self.rows):
            index = torch.tensor([row], device=self.memory.device)
            self._same(select(together, index), run([row]), f"row {row} depends on its neighbours", 1e-4)

    @torch.no_grad()
    def mode(self) -> None:
        state = self.state()
        modes = [self.memory.imagine(state, self.actions[3], noise=self.generator(s), temperature=0.0) for s in (7, 8)]
        latents = [self.memory.latent(after) for after, _ in modes]
        assert torch.equal(*latents), "temperature 0 is the mode, and the mode does not depend on the noise"
        assert torch.equal(modes[0][1].reward, modes[1][1].reward), "the reward of the mode depends on the noise"
        assert torch.equal(modes[0][1].terminated, modes[1][1].terminated), "the end of the mode depends on the noise"

    @torch.no_grad()
    def states(self) -> None:
        state = self.state()
        index = torch.tensor([self.rows - 1, 0], device=self.memory.device)
        chosen = select(state, index)
        self._same(merge(state, index, chosen), state, "rows that were chosen and put back")
        self._same(unflatten_state(state, flatten_state(state)), state, "a state that was flattened and restored")
        tensors = {name: part.clone() for name, part in state._asdict().items()}
        self._same(self.memory.state_from_tensors(tensors), state, "a state that was rebuilt from its tensors")

    @torch.no_grad()
    def branches(self) -> None:
        state, times = self.state(), 3
        branched = self.memory.branch(state, times, noise=self.generator(9))
        assert type(branched) is type(state), f"branch gave a {type(branched).__name__}"
        for name, part in branched._asdict().items():
            assert len(part) == times * self.rows, f"branch: {name} has {len(part)} rows, expected {times * self.rows}"
        latents = self.memory.latent(state).repeat_interleave(times, dim=0)
        assert torch.equal(self.memory.latent(branched), latents), "branches do not begin at the latents of their rows"
        again = self.memory.branch(state, times, noise=self.generator(9))
        self._same(branched, again, "the same noise twice gave two kinds of branches")

    @torch.no_grad()
    def memoryless(self) -> None:
        if not self.memory.memoryless:
            return
        after, _ = self.memory.observe(self.state(), self.actions[0], self.second, noise=self.generator(2))
        anew = self.memory.initial(self.second, noise=self.generator(2))
        for method in (self.memory.features, self.memory.latent):
            assert torch.equal(method(after), method(anew)), (
                f"{self.name}.memoryless is True, but {method.__name__} after observe are not those of initial"
            )

    def gradients(self) -> None:
        if not self.memory.differentiable:
            return
        state = type(self.state())(
            *(part.detach().clone().requires_grad_(part.is_floating_point()) for part in self.state())
        )
        action = self.actions[3]
        if isinstance(self.space, spaces.Discrete):
            numbers = action - int(self.space.start)
            action = torch.nn.functional.one_hot(numbers, int(self.space.n)).float()
        action = action.float().clone().requires_grad_()
        try:
            after, prediction = self.memory.imagine(state, action, noise=self.generator(10))
        except Exception as error:
            if not isinstance(self.space, spaces.Discrete):
                raise
            raise AssertionError(
                f"{self.name}.differentiable is True, so that imagine takes Discrete actions as [B, n] floats too, "
                f"through which gradients flow; with such it fails: {type(error).__name__}: {error}. Encode actions by "
                "ActionEncoder, or set differentiable = False"
            ) from error
        before = [part for part in state if part.requires_grad]
        for what, found in (("reward", prediction.reward), ("state", self.memory.latent(after))):
            assert found.requires_grad, f"{self.name}.differentiable is True, but a dreamed {what} carries no gradient"
            gradient, *into = torch.autograd.grad(found.sum(), [action, *before], retain_graph=True, allow_unused=True)
            assert gradient is not None, f"no gradient reaches the action from the {what}"
            assert any(part is not None for part in into), f"no gradient reaches the state before from the {what}"
            assert bool(torch.isfinite(gradient).all()), f"the gradient of the action from the {what} is not finite"

    @torch.no_grad()
    def rebuilding(self) -> None:
        config = self.memory.config()
        assert isinstance(config.get("kind"), str), f"{self.name}.config() has no 'kind'"
        kind = config["kind"]
        known = MEMORIES[kind] if kind in MEMORIES else type(self.memory)
        assert known is type(self.memory), (
            f"{self.name}.config() gives kind={kind!r}, which is {known.__name__}: a bundle would be read as that"
        )
        assert json.loads(json.dumps(config)) == config, f"{self.name}.config() does not survive JSON: {config}"
        options = {name: value for name, value in config.items() if name != "kind"}
        try:
            other: MemoryModel[Any] = type(self.memory)(action_space=self.space, **options)
        except TypeError as error:
            raise AssertionError(f"{self.name}(action_space=..., **config()) fails: {error}") from error
        other.load_state_dict(self.memory.state_dict())
        other.to(self.memory.device).eval()
        state = self.state()
        ours, theirs = (m.imagine(state, self.actions[3], noise=self.generator(11))[0] for m in (self.memory, other))
        self._same(ours, theirs, "a model rebuilt from config() and its weights dreams otherwise")

    @torch.no_grad()
    def stepping(self) -> None:
        for rows in (1, self.rows):
            index = torch.arange(rows, device=self.memory.device)
            state, action = select(self.state(), index), self.actions[3][index]
            kept = [part.clone() for part in state]
            stepper = self.memory.stepper(rows)
            dreams = stepper.enter(state)
            self._same(stepper.leave(dreams), state, f"stepper({rows}): a state that entered and left")
            features = stepper.features(dreams)
            expected = self.memory.features(state).cpu().numpy()
            assert np.array_equal(features, expected), f"stepper({rows}).features are not those of the memory"
            noises = [self._episode_noise(rows) for _ in range(2)]
            after, said = stepper(state, action, noise=noises[0])
            dreams, outcome = stepper.advance(dreams, action.cpu().numpy(), noise=noises[1], temperature=1.0)
            self._same(stepper.leave(dreams), after, f"stepper({rows}): called and advanced", 1e-5)
            assert outcome.reward.shape == outcome.terminated.shape == (rows,), f"stepper({rows}): {outcome}"
            same = np.allclose(outcome.reward, said.reward.cpu().numpy(), rtol=1e-4, atol=1e-5)
            assert same, f"stepper({rows}): called and advanced, the reward differs"
            unchanged = all(torch.equal(part, before) for part, before in zip(state, kept, strict=True))
            assert unchanged, f"stepper({rows}) has written to the state it was given"

    def _episode_noise(self, rows: int) -> EpisodeNoise:
        noise = EpisodeNoise(rows, device=self.memory.device)
        noise.begin_episodes(np.arange(rows), np.arange(rows).astype(np.uint64) + np.uint64(self.seed))
        noise.begin_step()
        return noise

    @torch.no_grad()
    def following(self) -> None:
        memory = copy.deepcopy(self.memory)
        parts = [part for part in (*memory.parameters(), *memory.buffers()) if part.is_floating_point()]
        steppers = {rows: memory.stepper(rows) for rows in (1, self.rows)}
        for change in (lambda: None, lambda: [part.mul_(0.9) for part in parts]):
            change()
            for rows, stepper in steppers.items():
                index = torch.arange(rows, device=memory.device)
                state, action = select(self.state(), index), self.actions[3][index]
                step: Callable[..., tuple[Any, Prediction]]
                found = []
                for step in (memory.imagine, stepper):
                    after, said = step(state, action, noise=self.generator(12), temperature=0.0)
                    found.append((memory.latent(after), said.reward, said.termination_probability))
                for name, plain, ours in zip(("latent", "reward", "probability of the end"), *found, strict=True):
                    close = torch.allclose(plain, ours, rtol=1e-3, atol=1e-3)
                    assert close, f"stepper({rows}): the mode's {name} is not that of imagine, or not after a fit"

    @torch.no_grad()
    def looking(self) -> None:
        """What is read out of states and put into them: embeddings, latents and the mixture of the next latent."""
        memory, state = self.memory, self.state()
        begun = memory.initial(self.first, noise=self.generator(2))
        after, _ = memory.observe(begun, self.actions[0], self.second, noise=self.generator(3))
        for now, embedding in ((begun, self.first), (after, self.second)):
            for kind, seen in (("features", memory.features(now)), ("latent", memory.latent(now))):
                found = memory.embedding_of(seen, kind)
                same = found is None or torch.equal(found, embedding)
                assert same, f"embedding_of {kind} is not the embedding that was given"
        wanted = memory.latent(self.state(seed=20)) + 1
        changed = memory.with_latent(state, wanted)
        if changed is not None:
            assert torch.equal(memory.latent(changed), wanted), "with_latent gave a state of another latent"
            back = memory.with_latent(changed, memory.latent(state))
            self._same(back, state, "with_latent there and back")
        mixture = memory.predicted_latent(state, self.actions[3], temperature=0.7)
        if mixture is None:
            return
        weights, means, stds = mixture.weights, mixture.means, mixture.stds
        assert weights.shape == means.shape == stds.shape, "predicted_latent: weights, means and stds of three shapes"
        shape = (self.rows, memory.latent_size)
        assert (weights.shape[0], weights.shape[2]) == shape, f"predicted_latent: {tuple(weights.shape)}, not [B, K, Z]"
        assert torch.allclose(weights.sum(1), torch.ones_like(weights[:, 0]), atol=1e-4), "weights that do not sum to 1"
        mode, _ = memory.imagine(state, self.actions[3], noise=self.generator(15), temperature=0.0)
        certain = memory.predicted_latent(state, self.actions[3], temperature=0.0)
        assert certain is not None, "predicted_latent: a mixture at temperature 0.7 and none at 0"
        same = torch.allclose((certain.weights * certain.means).sum(1), memory.latent(mode), rtol=1e-4, atol=1e-4)
        assert same, "predicted_latent at temperature 0 is not the mode that imagine gives"
        one = torch.zeros(_SAMPLES, dtype=torch.int64, device=memory.device)
        after, _ = memory.imagine(select(state, one), self.actions[3][one], noise=self.generator(15), temperature=0.7)
        drawn = memory.latent(after).double()
        expected = (weights * means).sum(1)[0].double()
        variance = (weights * (stds**2 + means**2)).sum(1)[0].double() - expected**2
        off = (drawn.mean(0) - expected).abs() / (variance / _SAMPLES).sqrt().clamp(min=1e-6)
        assert bool((off < _MOST_OFF).all()), "predicted_latent has another mean than the latents that imagine draws"
        ratio = drawn.var(0) / variance.clamp(min=1e-12)
        assert bool(((ratio - 1).abs() < 0.3).all()), "predicted_latent has another variance than what imagine draws"

    @torch.no_grad()
    def distribution(self) -> None:
        one = torch.zeros(_SAMPLES, dtype=torch.int64, device=self.memory.device)
        state, action = select(self.state(), one), self.actions[3][one]

        def draw(step: Callable[..., tuple[Any, Prediction]], seed: int) -> dict[str, Tensor]:
            after, said = step(state, action, noise=self.generator(seed))
            drawn = {"latent": self.memory.latent(after), "reward": said.reward.unsqueeze(1)}
            return {name: part.double().cpu() for name, part in drawn.items()}

        plain = draw(self.memory.imagine, 13)
        for precision, rounding in _ROUNDING.items():
            try:
                stepper = self.memory.stepper(_SAMPLES, precision=precision)
            except ConfigurationError:
                assert precision != "float32", f"{self.name} cannot dream in float32"
                continue
            for name, ours in draw(stepper, 14).items():
                for column in range(ours.shape[1]):
                    _compare(plain[name][:, column], ours[:, column], rounding, f"{name}[{column}] in {precision}")


def _compare(plain: Tensor, ours: Tensor, rounding: float, what: str) -> None:
    """Raise AssertionError where two samples `[N]` are of two distributions, their rounding apart."""
    scale = 1 + float(plain.abs().mean())
    if max(float(part.std()) for part in (plain, ours)) < 1e-4 * scale:
        # Not random but for rounding
        same = torch.allclose(plain, ours, rtol=10 * rounding, atol=10 * rounding)
        assert same, f"the stepper's {what} is another than that of imagine"
        return
    chance = _chance(plain.numpy(), ours.numpy(), rounding * scale)
    assert chance > _LEAST_CHANCE, (
        f"the stepper's {what} is drawn from another distribution than that of imagine "
        f"(Kolmogorov-Smirnov, p = {chance:.1e})"
    )


def _chance(first: NDArray[np.float64], second: NDArray[np.float64], rounding: float) -> float:
    """The probability that two samples of one distribution differ by so much or more, by Kolmogorov and Smirnov.

    Numbers of one value would otherwise be told apart by their last digits, and numbers of few values are many.
    """
    try:
        from scipy.stats import kstwobign
    except ImportError as error:
        raise missing_extra("scipy", "testing") from error
    distance = 0.0
    for lower, upper in ((np.sort(first), np.sort(second)), (np.sort(second), np.sort(first))):
        below = np.arange(1, len(lower) + 1) / len(lower)
        distance = max(distance, float((below - np.searchsorted(upper, lower + rounding, "right") / len(upper)).max()))
    return float(kstwobign.sf(distance * math.sqrt(len(first) * len(second) / (len(first) + len(second)))))
