"""The dreamed step of one dream of an RSSM in NumPy, whose calls cost a fraction of torch's where there is little to
calculate."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreamenv.memory.base import Outcome, Prediction, Stepper
from dreamenv.memory.rssm.fast.weights import Norm, shared_weights
from dreamenv.memory.rssm.model import RSSM, RSSMState
from dreamenv.memory.weights_watch import WeightsWatch
from dreamenv.noise.base import DreamNoise, Noise, as_noise

_TRUE, _FALSE = torch.tensor([True]), torch.tensor([False])

Numbers = NDArray[np.float32]


class Row(NamedTuple):
    """A state `[1, ...]` without tensors.

    Attributes:
        hidden: `[H]` float32.
        stochastic: `[S]` float32.
        entered: `[W]`, what the stochastic state gives to the layer before the GRU.
    """

    hidden: Numbers
    stochastic: Numbers
    entered: Numbers


class _Norm:
    """A normalisation of numbers whose mean is 0, which the weights before it see to.

    Args:
        norm: Scale and shift.
        factor: `[N]` or a number that the results are multiplied by.
    """

    def __init__(self, norm: Norm, factor: np.float32 | Numbers) -> None:
        size = np.float32(len(norm.scale))
        self._scale, self._shift = norm.scale.numpy() * factor * np.sqrt(size), norm.shift.numpy() * factor
        self._least = float(size * np.float32(norm.least))

    def __call__(self, values: Numbers) -> None:
        """In place."""
        values *= np.float32(1.0 / math.sqrt(float(np.dot(values, values)) + self._least))
        values *= self._scale
        values += self._shift


class SingleStepper(Stepper[RSSMState]):
    """The dreamed step of one row, in float32: it is bound by reading weights and by calls, not by calculating.

    Args:
        memory: A model on the CPU.
    """

    def __init__(self, memory: RSSM) -> None:
        self.memory: RSSM = memory
        self._prepare()

    def __call__(
        self, state: RSSMState, action: Tensor, *, noise: torch.Generator | Noise, temperature: float = 1.0
    ) -> tuple[RSSMState, Prediction]:
        """As `MemoryModel.imagine`; more rows than one take the plain step."""
        drawn = as_noise(noise)
        if len(state.hidden) != 1:
            with torch.no_grad():
                return self.memory.imagine(state, action, noise=drawn, temperature=temperature)
        if self._watch.changed:
            self._prepare()
        numbers = drawn.uniform(1, self._groups) if self._groups else drawn.normal(1, self._latents)
        uniform = float(drawn.uniform(1, 1))
        row, reward, probability, terminated = self._step(
            self.enter(state), action.numpy()[0], numbers.numpy()[0], uniform, temperature
        )
        said = torch.from_numpy(np.array([[reward], [probability]], np.float32))
        return self.leave(row), Prediction(said[0], said[1], _TRUE if terminated else _FALSE)

    def enter(self, state: RSSMState) -> Row:
        stochastic = state.stochastic.detach().numpy()[0].copy()
        return Row(state.hidden.detach().numpy()[0].copy(), stochastic, self._given(stochastic)[: self._width])

    def leave(self, dreams: Row) -> RSSMState:
        return RSSMState(torch.from_numpy(dreams.hidden).unsqueeze(0), torch.from_numpy(dreams.stochastic).unsqueeze(0))

    def features(self, dreams: Row) -> Numbers:
        return np.concatenate([dreams.hidden, dreams.stochastic])[None]

    def advance(
        self, dreams: Row, action: NDArray[Any], *, noise: DreamNoise, temperature: float
    ) -> tuple[Row, Outcome]:
        if self._watch.fitted:
            self._prepare()
            dreams = self.enter(self.leave(dreams))
        numbers = noise.row("uniform", self._groups) if self._groups else noise.row("normal", self._latents)
        uniform = float(noise.row("uniform", 1)[0])
        row, reward, probability, terminated = self._step(dreams, action[0], numbers, uniform, temperature)
        # In float32 as the batched step gives it
        probability = float(np.float32(probability))
        return row, Outcome(np.array([reward]), np.array([probability]), np.array([terminated]))

    def _prepare(self) -> None:
        memory = self.memory
        self._watch = WeightsWatch(memory)
        weights = shared_weights(memory, torch.float32)
        self._hidden, self._latents = memory.hidden_size, memory.latents.width
        self._width = len(weights.enter_norm.scale)
        self._of_action = _centred(weights.action.numpy())
        to_layers, self._bias = (part.numpy() for part in weights.heads_of_next)
        # What z gives to the GRU's input of the step after, and to the heads
        self._of_latent = np.concatenate([_centred(weights.enter.numpy()), to_layers], 1)
        self._gates = _centred(weights.gates.numpy())
        heads = weights.heads.numpy()
        self._heads = np.concatenate([_centred(heads[:, : self._width]), heads[:, self._width :]], 1)
        self._prior, self._prior_bias = (part.numpy() for part in weights.prior)
        # silu(x) = x / 2 (1 + tanh(x / 2)) and sigmoid(x) = (1 + tanh(x / 2)) / 2: the halves lie in what comes before
        half = np.float32(0.5)
        self._enter_norm, self._prior_norm = _Norm(weights.enter_norm, half), _Norm(weights.prior_norm, half)
        self._gates_norm = _Norm(weights.gates_norm, np.repeat(np.array([0.5, 0.5, 1.0], np.float32), self._hidden))
        to_outputs, bias = weights.outputs
        self._outputs, self._output_bias = to_outputs.numpy() * half, bias.numpy()
        self._values = None if weights.values is None else weights.values.numpy()
        self._least_logit = -math.log(memory.termination_head.weight)
        self._cumulative = None if weights.cumulative is None else weights.cumulative.numpy()
        self._least_std = None if weights.least_std is None else np.float32(weights.least_std)
        self._groups = 0 if self._cumulative is None else self._latents // len(self._cumulative)
        if self._cumulative is not None:
            self._first_class = np.arange(0, self._latents, len(self._cumulative))
        encoder = memory.action_encoder
        self._first_action = encoder.start if encoder.discrete else None
        self._low, self._scale = encoder.low.numpy(), 2.0 / (encoder.high - encoder.low).numpy()

    def _step(
        self, row: Row, action: NDArray[Any], numbers: Numbers, uniform: float, temperature: float
    ) -> tuple[Row, float, float, bool]:
        if self._first_action is None:
            entered = np.dot((action - self._low) * self._scale - np.float32(1.0), self._of_action)
            entered += row.entered
        elif action.ndim == 0:
            entered = row.entered + self._of_action[int(action) - self._first_action]
        else:
            entered = row.entered + np.dot(action.astype(np.float32, copy=False), self._of_action)
        hidden = self._advance(row.hidden, entered)
        heads = np.dot(hidden, self._heads)
        layer, layers = heads[: self._width], heads[self._width :]
        self._prior_norm(layer)
        statistics = np.dot(_silu_of_twice(layer), self._prior)
        statistics += self._prior_bias
        stochastic, given = self._draw(statistics, numbers, temperature)
        layers += given[self._width :]
        layers += self._bias
        squashed = layers * np.float32(0.5)
        np.tanh(squashed, out=squashed)
        squashed += np.float32(1.0)
        layers *= squashed
        outputs = np.dot(layers, self._outputs)
        outputs += self._output_bias
        logit = float(outputs[-1])
        probability = 1.0 / (1.0 + math.exp(-max(logit, -80.0)))
        if self.memory.termination == "cut":
            terminated = logit > self._least_logit
        else:
            terminated = uniform < probability if temperature else probability > 0.5
        following = Row(hidden, stochastic, given[: self._width])
        return following, self._expected(outputs[:-1]), probability, terminated

    def _advance(self, before: Numbers, entered: Numbers) -> Numbers:
        """`[H]`, the next hidden state, from the last and from what enters the GRU `[W]`."""
        size = self._hidden
        self._enter_norm(entered)
        gates = np.dot(np.concatenate([_silu_of_twice(entered), before]), self._gates)
        self._gates_norm(gates)
        sigmoids, candidate = gates[: 2 * size], gates[2 * size :]
        np.tanh(sigmoids, out=sigmoids)
        sigmoids += np.float32(1.0)
        sigmoids *= np.float32(0.5)
        candidate *= sigmoids[:size]
        np.tanh(candidate, out=candidate)
        candidate -= before
        candidate *= sigmoids[size:]
        return before + candidate

    def _draw(self, statistics: Numbers, numbers: Numbers, temperature: float) -> tuple[Numbers, Numbers]:
        """The next stochastic state `[S]`, and what it gives to the GRU's input and to the heads `[W + R + E]`."""
        if self._cumulative is None:
            mean, raw = statistics[: self._latents], statistics[self._latents :]
            std = np.logaddexp(np.float32(0.0), raw)
            std += self._least_std
            std *= numbers
            std *= np.float32(math.sqrt(temperature))
            std += mean
            return std, self._given(std)
        chosen = self._chosen(statistics.reshape(self._groups, -1), numbers, temperature)
        chosen += self._first_class
        stochastic = np.zeros(self._latents, np.float32)
        stochastic[chosen] = 1.0
        # Of one-hot numbers the product is a sum of rows
        return stochastic, np.add.reduce(self._of_latent.take(chosen, 0), 0)

    def _given(self, stochastic: Numbers) -> Numbers:
        """`[W + R + E]`, what z `[S]` gives to the GRU's input and to the heads."""
        given: Numbers = np.dot(stochastic, self._of_latent)
        return given

    def _chosen(self, logits: Numbers, uniform: Numbers, temperature: float) -> NDArray[np.int64]:
        """`[G]`, a class of each group."""
        assert self._cumulative is not None
        if temperature == 0:
            return logits.argmax(1)
        shares = np.exp(logits - logits.max(1, keepdims=True))
        if temperature == 1.0:
            summed = np.dot(shares, self._cumulative)
        else:
            mix: float = self.memory.latents.uniform_mix  # type: ignore[attr-defined]
            shares *= np.float32(1 - mix) / shares.sum(1, keepdims=True)
            shares += np.float32(mix / shares.shape[1])
            shares /= shares.max(1, keepdims=True)
            summed = np.power(shares, np.float32(1.0 / temperature)).cumsum(1)
        return np.count_nonzero(summed[:, :-1] <= uniform[:, None] * summed[:, -1:], 1)

    def _expected(self, outputs: Numbers) -> float:
        if self._values is None:
            return float(outputs[0])
        outputs -= outputs.max()
        shares = np.exp(outputs, out=outputs)
        return float(np.dot(shares, self._values) / shares.sum())


def _centred(weights: Numbers) -> Numbers:
    """Weights whose products have a mean of 0, for a normalisation that takes the mean off."""
    centred: Numbers = weights - weights.mean(1, keepdims=True)
    return centred


def _silu_of_twice(values: Numbers) -> Numbers:
    squashed = np.tanh(values)
    squashed += np.float32(1.0)
    squashed *= values
    return squashed
