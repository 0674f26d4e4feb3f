"""The dreamed step of many dreams, rearranged so that little but its matrix products is left.

The same step as `MDNRNN.imagine`, up to rounding, for dreams that nobody differentiates:

- Scaling of latents and actions, and the biases, lie in the weights. A row `[z, h, 1, a]` is the LSTM's input as it is,
  so that the LSTM is one product; the first layers of all heads are one product of its part `[h, 1]`.
- tanh(x) = 1 - 2 sigmoid(-2x), so that one sigmoid serves all gates.
- Of joint components the mean and the deviation are computed for the chosen one only, one product a component over the
  rows that chose it. Of components per dimension the chosen one is picked by comparisons, without a gather.
- What lies between is written to memory that is kept from step to step.
- A single row is stepped in NumPy (`single`).

The states that a step returns are views of rows `[z, h, 1, a]`, so that the next step can take them as they are. It
writes its actions into their last columns, which no state shows, and only into rows of its own latest step. States of
other steppers, older states and states of the caller's making are copied, so that threads with a stepper each may step
from the same states.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from dreamenv.memory.base import Prediction, Stepper
from dreamenv.memory.mdn_rnn.fast.single import SingleStepper
from dreamenv.memory.mdn_rnn.fast.weights import shared_weights
from dreamenv.memory.mdn_rnn.likelihood import LOG_STD_RANGE
from dreamenv.memory.mdn_rnn.model import MDNRNN
from dreamenv.memory.mdn_rnn.state import MDNRNNState
from dreamenv.memory.scratch import Scratch
from dreamenv.memory.weights_watch import WeightsWatch
from dreamenv.noise.base import Noise, as_noise

# From so many rows on, a product for each component costs less than all components of all rows.
_GROUPED_ROWS = 256


class BatchedStepper(Stepper[MDNRNNState]):
    """Called as `MDNRNN.imagine`, without gradients. Weights are copied; again when the model's have changed.

    Args:
        memory: A model with a fast step (`MDNRNN.has_fast_step`).
        precision: Of the products, "float32" or "bfloat16", which keeps states, sampling and outputs in float32.
    """

    def __init__(self, memory: MDNRNN, precision: str) -> None:
        self.memory: MDNRNN = memory
        self.precision = precision
        self._dtype = torch.float32 if precision == "float32" else torch.bfloat16
        self._latents, self._hidden = memory.latent_size, memory.hidden_size
        self._one = self._latents + self._hidden  # the column of ones
        encoder = memory.action_encoder
        self._inputs = self._one + 1 + encoder.size
        self._first_action = encoder.start if encoder.discrete else None
        self._stride = -(-self._inputs // 16) * 16
        self._single: SingleStepper | None = None
        self._prepare()

    def __call__(
        self, state: MDNRNNState, action: Tensor, *, noise: torch.Generator | Noise, temperature: float = 1.0
    ) -> tuple[MDNRNNState, Prediction]:
        if self._watch.changed:
            self._prepare()
        if state.latent.shape[0] == 1 and self._weights.std.device.type == "cpu":
            if self._single is None:
                self._single = SingleStepper(self.memory)
            return self._single(state, action, noise=noise, temperature=temperature)
        with torch.no_grad():
            return self._step(state, action, as_noise(noise), temperature)

    @property
    def device(self) -> torch.device:
        return self._weights.std.device

    def _prepare(self) -> None:
        memory = self.memory
        self._watch = WeightsWatch(self.memory)
        self._latest: Tensor | None = None
        weights = self._weights = shared_weights(memory, self._dtype)
        self._scratch = Scratch(self._dtype, weights.std.device)
        self._least_logit = -math.log(memory.termination_head.weight)
        # Outputs to numerator and denominator of their expectation; softmax takes longer
        values = weights.values
        self._values = None if values is None else torch.stack([values, torch.ones_like(values)], 1)
        # The last layers of both heads are one product, whose last column is the logit of an end
        (to_reward, reward_bias), (to_end, end_bias) = weights.reward, weights.end
        bias = torch.cat([reward_bias, reward_bias.new_tensor([end_bias])])
        self._last = torch.block_diag(to_reward, to_end.unsqueeze(1)), bias

    def _step(
        self, state: MDNRNNState, action: Tensor, noise: Noise, temperature: float
    ) -> tuple[MDNRNNState, Prediction]:
        memory, weights, latents, one = self.memory, self._weights, self._latents, self._one
        rows = len(state.latent)
        inputs = self._rows_of(state)
        self._write_action(inputs[:, one + 1 :], action)
        gates = self._scratch.product("gates", inputs, weights.gates, torch.float32).sigmoid_()
        enter, keep, leave, new = gates.split(self._hidden, 1)
        cell = torch.addcmul(enter, enter, new, value=-2.0).addcmul_(keep, state.cell)
        latest = torch.empty(rows, self._stride, device=cell.device)
        following = latest[:, : self._inputs]
        squashed = torch.mul(cell, -2.0, out=self._scratch.of("squashed", rows, self._hidden)).sigmoid_()
        torch.addcmul(leave, leave, squashed, value=-2.0, out=following[:, latents:one])
        following[:, one].fill_(1.0)

        seen = self._scratch.narrow("seen", following[:, latents : one + 1])
        heads = self._scratch.product("heads", seen, weights.heads, self._dtype)
        uniform = noise.uniform(rows, memory.uniforms)
        scaled = noise.normal(rows, latents) * (weights.std * math.sqrt(temperature))
        mean, log_std = self._chosen(seen, heads, uniform, temperature)
        torch.addcmul(mean, log_std.clamp(*LOG_STD_RANGE).exp_(), scaled, out=following[:, :latents])

        layers = heads[:, -weights.layers :]
        if weights.reward_of_next is not None:
            reward_layer = layers[:, : len(weights.reward[0])]
            reward_layer += torch.mm(following[:, :latents].to(self._dtype), weights.reward_of_next)
        to_outputs, bias = self._last
        outputs = torch.mm(nn.functional.silu(layers), to_outputs).float().add_(bias)
        logit, outputs = outputs[:, -1], outputs[:, :-1]
        probability = logit.sigmoid()
        if memory.termination == "cut":
            terminated = logit > self._least_logit
        else:
            terminated = uniform[:, -1] < probability if temperature else probability > 0.5
        self._latest = latest
        after = MDNRNNState(following[:, :latents], following[:, latents:one], cell, state.dropout)
        return after, Prediction(self._expected(outputs), probability, terminated)

    def _rows_of(self, state: MDNRNNState) -> Tensor:
        """`[B, Z + H + 1 + A]`, whose last columns are free: the rows that the state is a view of, or new ones."""
        latent, hidden, latest = state.latent, state.hidden, self._latest
        ours = (
            latest is not None
            and latent.shape[0] == latest.shape[0]
            and latent.data_ptr() == latest.data_ptr()
            and hidden.data_ptr() - latent.data_ptr() == self._latents * latent.element_size()
            and latent.stride() == hidden.stride() == (self._stride, 1)
            and latest.is_inference() == torch.is_inference_mode_enabled()
        )
        if ours and latest is not None:
            return latest[:, : self._inputs]
        rows = torch.empty(len(latent), self._stride, device=latent.device)[:, : self._inputs]
        rows[:, : self._latents] = latent
        rows[:, self._latents : self._one] = hidden
        rows[:, self._one] = 1.0
        return rows

    def _write_action(self, columns: Tensor, action: Tensor) -> None:
        if self._first_action is not None and not action.is_floating_point():
            columns.zero_().scatter_(1, (action - self._first_action).unsqueeze(1), 1.0)
        else:
            columns.copy_(action)

    def _chosen(self, seen: Tensor, heads: Tensor, uniform: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """Mean and log deviation `[B, Z]` of the component that the uniform numbers choose."""
        size, choices = self._latents, self._weights.choices
        logits = heads[:, :choices].float()
        if temperature != 1.0:
            # Of the mode, the heaviest component, whatever the uniform numbers are
            logits = logits / temperature if temperature else heaviest(logits, self.memory.mixtures)
        if self._weights.components is not None:
            share = (logits - logits.amax(1, keepdim=True)).exp_().cumsum(1)
            component = (uniform[:, :1] * share[:, -1:] >= share[:, :-1]).sum(1)
            chosen = self._of_component(seen, component).float()
            return chosen[:, :size], chosen[:, size:]
        of_each = logits.split(size, 1)
        largest = of_each[0]
        for other in of_each[1:]:
            largest = torch.maximum(largest, other)
        shares = [(each - largest).exp_() for each in of_each]
        for below, share in itertools.pairwise(shares):
            share.add_(below)
        threshold = uniform[:, :size] * shares[-1]
        parts = heads[:, choices : -self._weights.layers].float().split(2 * size, 1)
        chosen = parts[0].clone()
        for share, part in zip(shares, parts[1:], strict=False):
            above = (threshold >= share).repeat(1, 2)
            chosen = torch.where(above, part, chosen)
        return chosen[:, :size], chosen[:, size:]

    def _of_component(self, seen: Tensor, component: Tensor) -> Tensor:
        """`[B, 2Z]` outputs of component `[B]` for each row."""
        components, every = self._weights.components, self._weights.all_components
        assert components is not None
        assert every is not None
        rows = len(seen)
        # In bfloat16 every new number of rows costs the making of a kernel, which takes longer than all components
        grouped_pays = rows >= _GROUPED_ROWS and seen.device.type == "cpu" and seen.dtype == torch.float32
        if not grouped_pays:
            table = torch.mm(seen, every).view(rows * len(components), -1)
            first = torch.arange(0, rows * len(components), len(components), device=seen.device)
            return table.index_select(0, component + first)
        order = component.argsort()
        counts = torch.bincount(component, minlength=len(components)).tolist()
        grouped = seen.index_select(0, order)
        outputs = torch.empty(rows, 2 * self._latents, dtype=seen.dtype)
        for weight, own, into in zip(components, grouped.split(counts), outputs.split(counts), strict=True):
            if len(own):
                torch.mm(own, weight, out=into)
        return torch.empty_like(outputs).index_copy_(0, order, outputs)

    def _expected(self, outputs: Tensor) -> Tensor:
        """The reward `[B]` that the reward head's outputs `[B, V]` say."""
        if self._values is None:
            return outputs[:, 0]
        shares = (outputs - outputs.amax(1, keepdim=True)).exp_() @ self._values
        return shares[:, 0] / shares[:, 1]


def heaviest(log_weights: Tensor, count: int) -> Tensor:
    """Log weights `[B, K * W]` that leave the heaviest of K components alone in the choice; of equals the first."""
    table = log_weights.unflatten(1, (count, -1))
    numbers = torch.arange(count, device=table.device).view(1, count, 1)
    chosen = numbers == table.argmax(1, keepdim=True)
    return torch.where(chosen, 0.0, -math.inf).flatten(1)
