"""The dreamed step of many dreams of an RSSM, rearranged so that little but its matrix products is left.

The same step as `RSSM.imagine`, up to rounding, for dreams that nobody differentiates:

- The product of one-hot vectors with a matrix is a sum of the matrix's rows: z of categorical latents enters the GRU
  and the heads by looking rows up.
- The hidden layers of prior, reward and end are one product of h, and the last layers of the latter two another.
- tanh(x) = 2 sigmoid(2x) - 1, so that one sigmoid serves all gates but for the candidate, which waits for the reset.
- A group's probabilities become sums of the mixture with uniform by one product with a small triangular matrix, and
  the class is found by comparisons: no logarithm, no gather.
- What lies between is written to memory that is kept from step to step (`Scratch`).
- A single row is stepped in NumPy (`single`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from dreamenv.memory.base import Prediction, Stepper
from dreamenv.memory.rssm.fast.single import SingleStepper
from dreamenv.memory.rssm.fast.weights import Norm, shared_weights
from dreamenv.memory.rssm.model import RSSM, RSSMState
from dreamenv.memory.scratch import Scratch
from dreamenv.memory.weights_watch import WeightsWatch
from dreamenv.noise.base import Noise, as_noise


class BatchedStepper(Stepper[RSSMState]):
    """Called as `RSSM.imagine`, without gradients. Weights are copied; again when the model's have changed.

    Args:
        memory: The model.
        precision: Of the products, "float32" or "bfloat16", which keeps states, norms, sampling and outputs in float32.
    """

    def __init__(self, memory: RSSM, precision: str) -> None:
        self.memory: RSSM = memory
        self.precision = precision
        self._dtype = torch.float32 if precision == "float32" else torch.bfloat16
        self._hidden, self._latents = memory.hidden_size, memory.latents.width
        self._single: SingleStepper | None = None
        self._prepare()

    def __call__(
        self, state: RSSMState, action: Tensor, *, noise: torch.Generator | Noise, temperature: float = 1.0
    ) -> tuple[RSSMState, Prediction]:
        if self._watch.changed:
            self._prepare()
        if len(state.hidden) == 1 and self._device.type == "cpu":
            if self._single is None:
                self._single = SingleStepper(self.memory)
            return self._single(state, action, noise=noise, temperature=temperature)
        with torch.no_grad():
            return self._step(state, action, as_noise(noise), temperature)

    @property
    def device(self) -> torch.device:
        return self._device

    def _prepare(self) -> None:
        memory = self.memory
        self._watch = WeightsWatch(memory)
        weights = self._weights = shared_weights(memory, self._dtype)
        self._device = weights.enter.device
        self._scratch = Scratch(self._dtype, self._device)
        self._least_logit = -math.log(memory.termination_head.weight)
        # Of the candidate, whose tanh is a sigmoid of twice its argument
        twice = torch.ones(3 * self._hidden, device=self._device)
        twice[2 * self._hidden :] = 2.0
        scale, shift, least = weights.gates_norm
        self._gates_norm = Norm(scale * twice, shift * twice, least)
        # Outputs to numerator and denominator of their expectation; softmax takes longer
        values = weights.values
        self._values = None if values is None else torch.stack([values, torch.ones_like(values)], 1)
        if weights.cumulative is not None:
            numbers = torch.arange(len(weights.cumulative), device=self._device).float()
            self._moments = torch.stack([torch.ones_like(numbers), numbers, numbers.square()], 1)
            self._first_class = torch.arange(0, self._latents, len(numbers), device=self._device)

    def _step(self, state: RSSMState, action: Tensor, noise: Noise, temperature: float) -> tuple[RSSMState, Prediction]:
        weights, scratch, rows = self._weights, self._scratch, len(state.hidden)
        hidden = self._advance(state, self.memory.action_encoder(action))
        heads = scratch.product("heads", hidden, weights.heads, torch.float32)
        width = len(weights.prior_norm.scale)
        to_statistics, bias = weights.prior
        layer = self._activated("prior", heads[:, :width], weights.prior_norm)
        statistics = torch.addmm(bias, layer, to_statistics, out=scratch.of("statistics", rows, len(bias), self._dtype))
        stochastic, given = self._draw(statistics.float(), noise, temperature)

        layers = functional.silu(torch.add(heads[:, width:], given, out=given), inplace=True)
        to_outputs, output_bias = weights.outputs
        outputs = torch.mm(scratch.narrow("layers", layers), to_outputs).float().add_(output_bias)
        logit, outputs = outputs[:, -1], outputs[:, :-1]
        probability = logit.sigmoid()
        uniform = noise.uniform(rows, 1)[:, 0]
        if self.memory.termination == "cut":
            terminated = logit > self._least_logit
        else:
            terminated = uniform < probability if temperature else probability > 0.5
        return RSSMState(hidden, stochastic), Prediction(self._expected(outputs), probability, terminated)

    def _advance(self, state: RSSMState, encoded: Tensor) -> Tensor:
        """The GRU: the next hidden states `[B, H]`."""
        weights, size, scratch = self._weights, self._hidden, self._scratch
        classes = self._classes_of(state.stochastic)
        if classes is not None and weights.enter_table is not None:
            entered = functional.embedding_bag(classes, weights.enter_table, mode="sum")
        else:
            entered = scratch.product("enter", state.stochastic, weights.enter, torch.float32)
        entered.addmm_(encoded, weights.action)
        width = len(weights.enter_norm.scale)
        both = scratch.of("both", len(entered), width + size, self._dtype)
        both[:, :width] = functional.silu(_normalised(entered, weights.enter_norm), inplace=True)
        both[:, width:] = state.hidden
        gates = _normalised(scratch.product("gates", both, weights.gates, torch.float32), self._gates_norm)
        sigmoids, candidate = gates[:, : 2 * size].sigmoid_(), gates[:, 2 * size :]
        candidate.mul_(sigmoids[:, :size]).sigmoid_().mul_(2.0).sub_(1.0)
        return torch.lerp(state.hidden, candidate, sigmoids[:, size:])

    def _activated(self, name: str, values: Tensor, norm: Norm) -> Tensor:
        """`[B, W]` normalised in float32 and behind SiLU, in the precision of the products."""
        return self._scratch.narrow(name, functional.silu(_normalised(values, norm), inplace=True))

    def _draw(self, statistics: Tensor, noise: Noise, temperature: float) -> tuple[Tensor, Tensor]:
        """The next z `[B, S]`, and what it gives to the hidden layers of reward and end `[B, R + E]`."""
        weights, rows = self._weights, len(statistics)
        if weights.least_std is not None:
            mean, raw = statistics.chunk(2, 1)
            scaled = noise.normal(rows, self._latents) * math.sqrt(temperature)
            drawn = torch.addcmul(mean, functional.softplus(raw).add_(weights.least_std), scaled)
            to_layers, bias = weights.heads_of_next
            return drawn, self._scratch.product("given", drawn, to_layers, torch.float32).add_(bias)
        assert weights.cumulative is not None
        assert weights.heads_table is not None
        one_hot = self._one_hot(statistics, noise, temperature).view(rows, -1)
        classes = self._classes_of(one_hot)
        assert classes is not None
        return one_hot, functional.embedding_bag(classes, weights.heads_table, mode="sum")

    def _one_hot(self, statistics: Tensor, noise: Noise, temperature: float) -> Tensor:
        """`[B * G, C]`, the chosen class of each group."""
        cumulative = self._weights.cumulative
        assert cumulative is not None
        logits = statistics.reshape(-1, len(cumulative))
        uniform = noise.uniform(len(statistics), len(self._first_class)).reshape(-1, 1)
        if temperature == 0:
            return torch.zeros_like(logits).scatter_(1, logits.argmax(1, keepdim=True), 1.0)
        shares = logits.softmax(1)
        summed = shares @ cumulative if temperature == 1.0 else self._sharpened(shares, temperature)
        # 1 from the chosen class on; each less what the class before it has leaves the chosen one
        one_hot = summed.gt_(uniform)
        one_hot[:, -1] = 1.0
        one_hot[:, 1:] -= one_hot[:, :-1].clone()
        return one_hot

    def _sharpened(self, shares: Tensor, temperature: float) -> Tensor:
        """The mixture with uniform at another temperature than 1, summed up."""
        latents = self.memory.latents
        mix: float = latents.uniform_mix  # type: ignore[attr-defined]
        mixed = shares.mul_(1 - mix).add_(mix / shares.shape[1])
        return mixed.log_().div_(temperature).softmax(1).cumsum(1)

    def _classes_of(self, stochastic: Tensor) -> Tensor | None:
        """`[B, G]`, the rows of a table that belong to z `[B, S]`; None where z is not one-hot, or lookups are slow."""
        if self._weights.cumulative is None:
            return None
        count = len(self._moments)
        # Of one-hot numbers the sum is 1 and the variance of the class is 0
        total, mean, square = (stochastic.reshape(-1, count) @ self._moments).unbind(1)
        if not bool(((total == 1.0) & (square == mean.square())).all()):
            return None
        return mean.view(len(stochastic), -1).long().add_(self._first_class)

    def _expected(self, outputs: Tensor) -> Tensor:
        """The reward `[B]` that the reward head's outputs `[B, V]` say."""
        if self._values is None:
            return outputs[:, 0]
        shares = (outputs - outputs.amax(1, keepdim=True)).exp_() @ self._values
        return shares[:, 0] / shares[:, 1]


def _normalised(values: Tensor, norm: Norm) -> Tensor:
    return functional.layer_norm(values, norm.scale.shape, norm.scale, norm.shift, norm.least)
