"""An MDN-RNN's dreamed step, rearranged so that little but its matrix products is left.

The same step as `MDNRNN.imagine`, up to rounding, for dreams that nobody differentiates:

- Scaling of latents and actions, and the biases, lie in the weights. A row `[z, h, 1, a]` is the LSTM's input as it is,
  so that the LSTM is one product; the first layers of all heads are one product of its part `[h, 1]`.
- tanh(x) = 1 - 2 sigmoid(-2x), so that one sigmoid serves all gates.
- Of joint components the mean and the deviation are computed for the chosen one only, one product a component over the
  rows that chose it. Of components per dimension the chosen one is picked by comparisons, without a gather.
- What lies between is written to memory that is kept from step to step.
- A single row is stepped in NumPy (`single_step`).
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dreamenv.memory.base import Prediction
from dreamenv.memory.mdn_rnn.fast.precision import check_precision
from dreamenv.memory.mdn_rnn.fast.single import SingleStep
from dreamenv.memory.mdn_rnn.fast.weights import LOG_STD_RANGE, Watch, fuse_weights
from dreamenv.memory.mdn_rnn.state import MDNRNNState, Row
from dreamenv.noise.base import Noise, NoiseOfRow, as_noise

if TYPE_CHECKING:
    from dreamenv.memory.mdn_rnn.model import MDNRNN

# From so many rows on, a product for each component costs less than all components of all rows.
_GROUPED_ROWS = 256
# A latent whose mean is that many deviations from 0 loses digits when its scaling lies in the weights.
_MOST_OFFSET = 100.0
_TRUE, _FALSE = torch.tensor([True]), torch.tensor([False])


def can_fuse(memory: MDNRNN) -> bool:
    """Whether `FusedStep` covers this model."""
    offset = float((memory.latent_mean / memory.latent_std).abs().max())
    return memory.width == 0 and not (memory.dropout_in_dream and memory.dropout > 0) and offset < _MOST_OFFSET


class FusedStep:
    """Called as `MDNRNN.imagine`, without gradients.

    Weights are copied; they are copied anew when the model's have changed.

    Args:
        memory: A model for which `can_fuse` holds.
        precision: Of the products; "bfloat16" keeps states, sampling and outputs in float32.
    """

    def __init__(self, memory: MDNRNN, precision: str = "float32") -> None:
        check_precision(precision)
        self._memory, self._watch = memory, Watch(memory)
        self._dtype = torch.float32 if precision == "float32" else torch.bfloat16
        self._latents, self._hidden = memory.latent_size, memory.hidden_size
        self._one = self._latents + self._hidden  # the column of ones
        encoder = memory.action_encoder
        self._inputs = self._one + 1 + encoder.size
        self._first_action = encoder.start if encoder.discrete else None
        self._stride = -(-self._inputs // 16) * 16
        self._prepare()

    def __call__(
        self, state: MDNRNNState, action: Tensor, *, noise: torch.Generator | Noise, temperature: float = 1.0
    ) -> tuple[MDNRNNState, Prediction]:
        if self._watch.changed:
            self._prepare()
        if self.steps_rows and state.latent.shape[0] == 1:
            return self._step_one(state, action, as_noise(noise), temperature)
        with torch.no_grad():
            return self._step(state, action, as_noise(noise), temperature)

    def _prepare(self) -> None:
        memory = self._memory
        self._watch.renew()
        self._kept: dict[str, Tensor] = {}
        weights = self._weights = fuse_weights(memory, self._dtype)
        self._least_logit = -math.log(memory.termination_head.weight)
        # Outputs to numerator and denominator of their expectation; softmax takes longer
        values = weights.values
        self._values = None if values is None else torch.stack([values, torch.ones_like(values)], 1)
        # The last layers of both heads are one product, whose last column is the logit of an end
        (to_reward, reward_bias), (to_end, end_bias) = weights.reward, weights.end
        bias = torch.cat([reward_bias, reward_bias.new_tensor([end_bias])])
        self._last = torch.block_diag(to_reward, to_end.unsqueeze(1)), bias
        self._single: SingleStep | None = None

    def _step(
        self, state: MDNRNNState, action: Tensor, noise: Noise, temperature: float
    ) -> tuple[MDNRNNState, Prediction]:
        memory, weights, latents, one = self._memory, self._weights, self._latents, self._one
        rows = len(state.latent)
        inputs = self._rows_of(state)
        self._write_action(inputs[:, one + 1 :], action)
        gates = self._product("gates", inputs, weights.gates, torch.float32).sigmoid_()
        enter, keep, leave, new = gates.split(self._hidden, 1)
        cell = torch.addcmul(enter, enter, new, value=-2.0).addcmul_(keep, state.cell)
        following = torch.empty(rows, self._stride, device=cell.device)[:, : self._inputs]
        squashed = torch.mul(cell, -2.0, out=self._scratch("squashed", rows, self._hidden)).sigmoid_()
        torch.addcmul(leave, leave, squashed, value=-2.0, out=following[:, latents:one])
        following[:, one].fill_(1.0)

        seen = self._narrow("seen", following[:, latents : one + 1])
        heads = self._product("heads", seen, weights.heads, self._dtype)
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
        terminated = logit > self._least_logit if memory.termination == "cut" else uniform[:, -1] < probability
        after = type(state)(following[:, :latents], following[:, latents:one], cell, state.dropout)
        return after, Prediction(self._expected(outputs), probability, terminated)

    def _step_one(
        self, state: MDNRNNState, action: Tensor, noise: Noise, temperature: float
    ) -> tuple[MDNRNNState, Prediction]:
        uniform = noise.uniform(1, self._memory.uniforms).numpy()[0]
        normal = noise.normal(1, self._latents).numpy()[0]
        row, reward, probability, terminated = self._step_row(
            self.row_of(state), action.numpy()[0], uniform, normal, temperature
        )
        said = torch.from_numpy(np.array([[reward], [probability]], np.float32))
        return self.state_of(row), Prediction(said[0], said[1], _TRUE if terminated else _FALSE)

    @property
    def steps_rows(self) -> bool:
        """Whether `step_row` can be used: the weights lie on the CPU."""
        return self._weights.std.device.type == "cpu"

    def row_of(self, state: MDNRNNState) -> Row:
        """The state `[1, ...]` as a row."""
        values = np.empty(self._inputs, np.float32)
        values[: self._latents] = state.latent.numpy()[0]
        values[self._latents : self._one] = state.hidden.numpy()[0]
        values[self._one] = 1.0
        return Row(values, state.cell.numpy()[0], state.dropout)

    def state_of(self, row: Row) -> MDNRNNState:
        """The row as a state `[1, ...]`; they share memory."""
        values = torch.from_numpy(row.values).unsqueeze(0)
        latent, hidden = values[:, : self._latents], values[:, self._latents : self._one]
        return MDNRNNState(latent, hidden, torch.from_numpy(row.cell).unsqueeze(0), row.dropout)

    def features_of(self, row: Row) -> NDArray[np.float32]:
        """`[F]`, a copy."""
        seen = row.values[: self._one]
        return np.concatenate([seen, row.cell]) if self._memory.cell_features else seen.copy()

    def step_row(
        self, row: Row, action: NDArray[Any], *, noise: NoiseOfRow, temperature: float
    ) -> tuple[Row, float, float, bool]:
        if self._watch.changed:
            self._prepare()
        uniform, normal = noise.row("uniform", self._memory.uniforms), noise.row("normal", self._latents)
        return self._step_row(row, action, uniform, normal, temperature)

    def _step_row(
        self,
        row: Row,
        action: NDArray[Any],
        uniform: NDArray[np.float32],
        normal: NDArray[np.float32],
        temperature: float,
    ) -> tuple[Row, float, float, bool]:
        if self._single is None:
            # One row is bound by reading weights, not by calculating: it stays in float32
            self._single = SingleStep(fuse_weights(self._memory, torch.float32), self._memory.mixtures)
        memory, columns = self._memory, row.values[self._one + 1 :]
        if self._first_action is not None and action.ndim == 0:
            columns.fill(0.0)
            columns[int(action) - self._first_action] = 1.0
        else:
            columns[:] = action
        values, cell, reward, logit = self._single(row.values, row.cell, uniform, normal, temperature)
        probability = 1.0 / (1.0 + math.exp(-max(logit, -80.0)))
        terminated = logit > self._least_logit if memory.termination == "cut" else bool(uniform[-1] < probability)
        return Row(values, cell, row.dropout), reward, probability, terminated

    def _scratch(self, name: str, rows: int, columns: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """`[rows, columns]` of memory that is kept: the system takes its time to hand out fresh pages.

        Rows begin at multiples of 64 bytes, from which products in bfloat16 are a third faster. The columns between are
        zero: kernels for an odd number of columns multiply the one behind it too, by zero, which a NaN would survive.
        """
        kept = self._kept.get(name)
        if kept is None or len(kept) < rows or kept.is_inference() != torch.is_inference_mode_enabled():
            stride = -(-columns // 32) * 32
            memory = torch.zeros(rows, stride, dtype=dtype, device=self._weights.std.device)
            kept = self._kept[name] = memory[:, :columns]
        return kept if len(kept) == rows else kept[:rows]

    def _narrow(self, name: str, values: Tensor) -> Tensor:
        """`values` in the precision of the products."""
        if values.dtype == self._dtype:
            return values
        return self._scratch(name, values.shape[0], values.shape[1], self._dtype).copy_(values)

    def _product(self, name: str, left: Tensor, right: Tensor, dtype: torch.dtype) -> Tensor:
        """`left @ right` in scratch memory, as `dtype`."""
        left = self._narrow(f"{name} left", left)
        product = torch.mm(left, right, out=self._scratch(f"{name} product", len(left), right.shape[1], self._dtype))
        return (
            product if product.dtype == dtype else self._scratch(name, len(left), right.shape[1], dtype).copy_(product)
        )

    def _rows_of(self, state: MDNRNNState) -> Tensor:
        """`[B, Z + H + 1 + A]`, whose last columns are free: the rows that the state is a view of, or new ones."""
        latent, hidden = state.latent, state.hidden
        ours = (
            latent.stride() == hidden.stride() == (self._stride, 1)
            and hidden.data_ptr() - latent.data_ptr() == self._latents * latent.element_size()
            and latent.dtype == torch.float32
            and latent.untyped_storage().nbytes() == len(latent) * self._stride * latent.element_size()
            and latent.is_inference() == torch.is_inference_mode_enabled()
        )
        if ours:
            return latent.as_strided((len(latent), self._inputs), (self._stride, 1), 0)
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
            logits = logits / temperature
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
