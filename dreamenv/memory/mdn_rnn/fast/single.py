"""The fused step of one dream in NumPy, whose calls cost a fraction of torch's where there is little to calculate."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dreamenv.memory.mdn_rnn.fast.weights import LOG_STD_RANGE, FusedWeights


class SingleStep:
    """Steps one row.

    Args:
        weights: In float32, on the CPU.
        mixtures: K.
    """

    def __init__(self, weights: FusedWeights, mixtures: int) -> None:
        # sigmoid(x) = (1 + tanh(x / 2)) / 2, and NumPy's tanh is fast and never overflows
        self._gates = weights.gates.numpy() * np.float32(0.5)
        width = self._hidden = self._gates.shape[1] // 4
        self._gates[:, 3 * width :] *= -1.0  # these come times -2, for a tanh by sigmoid
        self._heads = weights.heads.numpy()
        self._components = None if weights.components is None else weights.components.numpy()
        # the half of the hidden layers' SiLU lies in what comes behind it
        self._reward, self._reward_bias = weights.reward[0].numpy() * np.float32(0.5), weights.reward[1].numpy()
        self._end, self._end_bias = weights.end[0].numpy() * np.float32(0.5), weights.end[1]
        self._reward_of_next = None if weights.reward_of_next is None else weights.reward_of_next.numpy()
        self._values = None if weights.values is None else weights.values.numpy()
        self._std = weights.std.numpy()
        self._low, self._high = (np.float32(bound) for bound in LOG_STD_RANGE)
        self._latents, self._mixtures = len(self._std), mixtures
        self._choices, self._layers = weights.choices, weights.layers

    def __call__(
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
            weights = weights / np.float32(temperature)
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
