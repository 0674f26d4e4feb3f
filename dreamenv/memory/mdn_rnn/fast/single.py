"""The dreamed step of one dream in NumPy, whose calls cost a fraction of torch's where there is little to calculate."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreamenv.memory.base import Outcome, Prediction, Stepper
from dreamenv.memory.mdn_rnn.fast.weights import shared_weights
from dreamenv.memory.mdn_rnn.likelihood import LOG_STD_RANGE
from dreamenv.memory.mdn_rnn.model import MDNRNN
from dreamenv.memory.mdn_rnn.state import MDNRNNState
from dreamenv.memory.weights_watch import WeightsWatch
from dreamenv.noise.base import DreamNoise, Noise, as_noise

_TRUE, _FALSE = torch.tensor([True]), torch.tensor([False])


class Row(NamedTuple):
    """A state `[1, ...]` without tensors.

    Attributes:
        values: `[Z + H + 1 + A]` float32: latent, hidden state and 1; the last columns are free.
        cell: `[H]` float32.
        dropout: As in `MDNRNNState`.
    """

    values: NDArray[np.float32]
    cell: NDArray[np.float32]
    dropout: Tensor


class SingleStepper(Stepper[MDNRNNState]):
    """The dreamed step of one row, in float32: it is bound by reading weights and by calls, not by calculating.

    Args:
        memory: A model on the CPU with a fast step (`MDNRNN.has_fast_step`).
    """

    def __init__(self, memory: MDNRNN) -> None:
        self.memory: MDNRNN = memory
        encoder = memory.action_encoder
        self._one = memory.latent_size + memory.hidden_size  # the column of ones
        self._inputs = self._one + 1 + encoder.size
        self._first_action = encoder.start if encoder.discrete else None
        self._least_logit = -math.log(memory.termination_head.weight)
        self._choosing = memory.mixture_weights  # uniform numbers that choose components; ends are sampled by one more
        self._prepare()

    def __call__(
        self, state: MDNRNNState, action: Tensor, *, noise: torch.Generator | Noise, temperature: float = 1.0
    ) -> tuple[MDNRNNState, Prediction]:
        """As `MemoryModel.imagine`; more rows than one take the plain step."""
        drawn = as_noise(noise)
        if state.latent.shape[0] != 1:
            with torch.no_grad():
                return self.memory.imagine(state, action, noise=drawn, temperature=temperature)
        if self._watch.changed:
            self._prepare()
        uniform = drawn.uniform(1, self.memory.uniforms).numpy()[0]
        normal = drawn.normal(1, self._latents).numpy()[0]
        row, reward, probability, terminated = self._step(
            self.enter(state), action.numpy()[0], uniform, normal, temperature
        )
        said = torch.from_numpy(np.array([[reward], [probability]], np.float32))
        return self.leave(row), Prediction(said[0], said[1], _TRUE if terminated else _FALSE)

    def enter(self, state: MDNRNNState) -> Row:
        values = np.empty(self._inputs, np.float32)
        values[: self._latents] = state.latent.numpy()[0]
        values[self._latents : self._one] = state.hidden.numpy()[0]
        values[self._one] = 1.0
        return Row(values, state.cell.numpy()[0], state.dropout)

    def leave(self, dreams: Row) -> MDNRNNState:
        values = torch.from_numpy(dreams.values).unsqueeze(0)
        latent, hidden = values[:, : self._latents], values[:, self._latents : self._one]
        return MDNRNNState(latent, hidden, torch.from_numpy(dreams.cell).unsqueeze(0), dreams.dropout)

    def features(self, dreams: Row) -> NDArray[np.float32]:
        seen = dreams.values[: self._one]
        return (np.concatenate([seen, dreams.cell]) if self.memory.cell_features else seen.copy())[None]

    def advance(
        self, dreams: Row, action: NDArray[Any], *, noise: DreamNoise, temperature: float
    ) -> tuple[Row, Outcome]:
        if self._watch.fitted:
            self._prepare()
        uniforms = self._choosing + (self.memory.termination == "sample")
        uniform, normal = noise.row("uniform", uniforms), noise.row("normal", self._latents)
        row, reward, probability, terminated = self._step(dreams, action[0], uniform, normal, temperature)
        # In float32 as the batched step gives it
        probability = float(np.float32(probability))
        return row, Outcome(np.array([reward]), np.array([probability]), np.array([terminated]))

    def _step(
        self,
        row: Row,
        action: NDArray[Any],
        uniform: NDArray[np.float32],
        normal: NDArray[np.float32],
        temperature: float,
    ) -> tuple[Row, float, float, bool]:
        columns = row.values[self._one + 1 :]
        if self._first_action is not None and action.ndim == 0:
            columns.fill(0.0)
            columns[int(action) - self._first_action] = 1.0
        else:
            columns[:] = action
        values, cell, reward, logit = self._numbers(row.values, row.cell, uniform, normal, temperature)
        probability = 1.0 / (1.0 + math.exp(-max(logit, -80.0)))
        if self.memory.termination == "cut":
            terminated = logit > self._least_logit
        else:
            terminated = bool(uniform[-1] < probability) if temperature else probability > 0.5
        return Row(values, cell, row.dropout), reward, probability, terminated

    def _prepare(self) -> None:
        self._watch = WeightsWatch(self.memory)
        weights, mixtures = shared_weights(self.memory, torch.float32), self.memory.mixtures
        # sigmoid(x) = (1 + tanh(x / 2)) / 2, and NumPy's tanh is fast and never overflows
        self._gates, self._reward, self._end = weights.halved
        self._hidden = self._gates.shape[1] // 4
        self._heads = weights.heads.numpy()
        self._components = None if weights.components is None else weights.components.numpy()
        # the half of the hidden layers' SiLU lies in what comes behind it
        self._reward_bias, self._end_bias = weights.reward[1].numpy(), weights.end[1]
        self._reward_of_next = None if weights.reward_of_next is None else weights.reward_of_next.numpy()
        self._values = None if weights.values is None else weights.values.numpy()
        self._std = weights.std.numpy()
        self._low, self._high = (np.float32(bound) for bound in LOG_STD_RANGE)
        self._latents, self._mixtures = len(self._std), mixtures
        self._choices, self._layers = weights.choices, weights.layers

    def _numbers(
        self,
        row: NDArray[np.float32],
        cell: NDArray[np.float32],
        uniform: NDArray[np.float32],
        normal: NDArray[np.float32],
        temperature: float,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], float, float]:
        """One step of vectors without a batch axis.

        Args:
            row: `[Z + H + 1 + A]`: latent, hidden state, 1, and the action as the LSTM takes it.
            cell: `[H]`.
            uniform: In [0, 1), for the components first.
            normal: `[Z]`.
            temperature: Of the mixture.

        Returns:
            `[Z + H + 1 + A]`, the next latent, hidden state and 1 (its last columns are free); the next cell; reward;
            the end's logit.
        """
        size, width = self._latents, self._hidden
        one = size + width
        gates = np.dot(row, self._gates)
        np.tanh(gates, out=gates)
        sigmoids, new = gates[: 3 * width], gates[3 * width :]
        sigmoids *= 0.5
        sigmoids += 0.5
        new *= gates[:width]
        new += gates[width : 2 * width] * cell
        following = np.empty_like(row)
        np.multiply(gates[2 * width : 3 * width], np.tanh(new), out=following[size:one])
        following[one] = 1.0

        seen = following[size : one + 1]
        heads = np.dot(seen, self._heads)
        mean, log_std = self._chosen(seen, heads, uniform, temperature)
        np.maximum(log_std, self._low, out=log_std)  # np.clip takes several times as long
        np.minimum(log_std, self._high, out=log_std)
        deviation = np.exp(log_std, out=log_std)
        deviation *= normal
        deviation *= self._std if temperature == 1.0 else self._std * np.float32(math.sqrt(temperature))
        np.add(mean, deviation, out=following[:size])

        layers = heads[-self._layers :]
        split = len(self._reward)
        if self._reward_of_next is not None:
            layers[:split] += np.dot(following[:size], self._reward_of_next)
        squashed = layers * 0.5
        np.tanh(squashed, out=squashed)
        squashed += 1.0
        layers *= squashed
        outputs = np.dot(layers[:split], self._reward)
        outputs += self._reward_bias
        logit = float(np.dot(layers[split:], self._end)) + self._end_bias
        return following, new.copy(), self._expected(outputs), logit

    def _chosen(
        self, seen: NDArray[np.float32], heads: NDArray[np.float32], uniform: NDArray[np.float32], temperature: float
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        count, size = self._mixtures, self._latents
        weights = heads[: self._choices]
        if temperature != 1.0:
            # Of the mode, the heaviest component, whatever the uniform numbers are
            weights = weights / np.float32(temperature) if temperature else _heaviest(weights, count)
        if self._components is not None:
            share = np.exp(weights - weights.max()).cumsum()
            component = int(share[:-1].searchsorted(uniform[0] * share[-1], side="right"))
            chosen = np.dot(seen, self._components[component])
            return chosen[:size], chosen[size:]
        table = weights.reshape(count, size)
        shares = np.exp(table - table.max(0)).cumsum(0)
        components = (uniform[:size] * shares[-1] >= shares[:-1]).sum(0)
        parts = heads[self._choices : -self._layers].reshape(count, 2, size)
        columns = np.arange(size)
        return parts[components, 0, columns], parts[components, 1, columns]

    def _expected(self, outputs: NDArray[np.float32]) -> float:
        if self._values is None:
            return float(outputs[0])
        outputs -= outputs.max()
        shares = np.exp(outputs, out=outputs)
        return float(np.dot(shares, self._values) / shares.sum())


def _heaviest(log_weights: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Log weights `[K * W]` that leave the heaviest of K components alone in the choice; of equals the first."""
    table = log_weights.reshape(count, -1)
    chosen = np.arange(count)[:, None] == table.argmax(0)
    return np.where(chosen, np.float32(0.0), np.float32(-np.inf)).ravel()
