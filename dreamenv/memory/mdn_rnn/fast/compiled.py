"""An MDN-RNN's dreamed step, compiled: what lies between its matrix products becomes a few loops over the rows.

The same step as `BatchedStepper`, up to rounding, written as one module for `torch.compile`, random numbers included
where they are hashed ones. Weights are compiled in, laid out as the products want them. The first step of each number
of rows waits for the compiler, and so does the first after the model was fitted."""

from __future__ import annotations

import math
import os
import shutil
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from dreamenv.errors import ConfigurationError
from dreamenv.memory.base import Prediction, Stepper
from dreamenv.memory.mdn_rnn.fast.batched import heaviest
from dreamenv.memory.mdn_rnn.fast.weights import FusedWeights, shared_weights
from dreamenv.memory.mdn_rnn.likelihood import LOG_STD_RANGE
from dreamenv.memory.mdn_rnn.model import MDNRNN
from dreamenv.memory.mdn_rnn.state import MDNRNNState
from dreamenv.memory.weights_watch import WeightsWatch
from dreamenv.noise.base import Noise, as_noise
from dreamenv.noise.hashed import HashedDraw, HashedNoise, Kind, hashed_bits, hashes, numbers_of

# Numbers, or what they are made from
Draw: TypeAlias = "Tensor | HashedDraw"


class _Sizes(NamedTuple):
    """What the compiler takes for constant."""

    latents: int
    hidden: int
    mixtures: int
    first_action: int | None
    actions: int
    cut: bool


class CompiledStepper(Stepper[MDNRNNState]):
    """Called as `MDNRNN.imagine`, without gradients.

    Weights are copied; when the model's have changed they are copied anew, and the step is compiled again.

    Args:
        memory: A model with a fast step (`MDNRNN.has_fast_step`).
        precision: Of the products, "float32" or "bfloat16"; states, sampling and outputs stay in float32.

    Raises:
        ConfigurationError: There is no C++ compiler, which `torch.compile` needs on the CPU.
    """

    def __init__(self, memory: MDNRNN, precision: str) -> None:
        check_compiler(memory.latent_std.device)
        self.memory: MDNRNN = memory
        self.precision = precision
        self._dtype = torch.float32 if precision == "float32" else torch.bfloat16
        encoder = memory.action_encoder
        self._sizes = _Sizes(
            memory.latent_size,
            memory.hidden_size,
            memory.mixtures,
            encoder.start if encoder.discrete else None,
            encoder.size,
            memory.termination == "cut",
        )
        self._prepare()

    def __call__(
        self, state: MDNRNNState, action: Tensor, *, noise: torch.Generator | Noise, temperature: float = 1.0
    ) -> tuple[MDNRNNState, Prediction]:
        if self._watch.changed:
            self._prepare()
        drawn, rows, size = as_noise(noise), len(state.latent), self._sizes.latents
        uniform: Draw
        normal: Draw
        if isinstance(drawn, HashedNoise):
            uniform, normal = drawn.hashed(self.memory.uniforms), drawn.hashed(size)
        else:
            uniform, normal = drawn.uniform(rows, self.memory.uniforms), drawn.normal(rows, size)
        inputs = state.latent, state.hidden, state.cell, action, uniform, normal, temperature
        key = rows, type(uniform), temperature
        with torch.no_grad():
            if key in self._compiled:
                latent, hidden, cell, reward, probability, terminated = self._step(*inputs)
            else:
                from torch._inductor import config as inductor  # takes a second

                # Whether weights become constants is read from the configuration while the compiler runs
                with inductor.patch(freezing=True):
                    latent, hidden, cell, reward, probability, terminated = self._step(*inputs)
                self._compiled.add(key)
        return type(state)(latent, hidden, cell, state.dropout), Prediction(reward, probability, terminated)

    @property
    def device(self) -> torch.device:
        return self._device

    def _prepare(self) -> None:
        self._watch = WeightsWatch(self.memory)
        self._device = self.memory.device
        weights = _flat(shared_weights(self.memory, self._dtype), self.memory)
        # Calls between the loops and products are made in C++ too
        options: dict[str, Any] | None = {"cpp_wrapper": True} if weights.std.device.type == "cpu" else None
        self._step = torch.compile(_Step(weights, self._sizes, self.memory.uniforms), dynamic=False, options=options)
        self._compiled: set[tuple[int, type, float]] = set()


def check_compiler(device: torch.device) -> None:
    """Refuse to compile for the CPU without a C++ compiler.

    Raises:
        ConfigurationError: None of $CXX, g++ and clang++ is there.
    """
    known = [os.environ.get("CXX", ""), "g++", "clang++"]
    if device.type == "cpu" and not any(map(shutil.which, filter(None, known))):
        raise ConfigurationError("compiled=True needs a C++ compiler, such as g++; install one, or leave it out")


class _Weights(NamedTuple):
    gates: Tensor
    gates_bias: Tensor
    heads: Tensor
    heads_bias: Tensor
    components: Tensor | None
    components_bias: Tensor | None
    reward_of_next: Tensor | None
    reward: Tensor
    reward_bias: Tensor
    values: Tensor | None
    end: Tensor
    end_bias: Tensor
    least_logit: Tensor
    std: Tensor


def _flat(weights: FusedWeights, memory: MDNRNN) -> _Weights:
    """As tensors alone: numbers would be compiled in."""
    device = weights.std.device
    one = memory.latent_size + memory.hidden_size  # the row of the gates' biases; those of the others come last
    every = weights.all_components
    return _Weights(
        torch.cat([weights.gates[:one], weights.gates[one + 1 :]]),
        weights.gates[one].clone(),
        weights.heads[:-1].contiguous(),
        weights.heads[-1].clone(),
        None if every is None else every[:-1].contiguous(),
        None if every is None else every[-1].clone(),
        weights.reward_of_next,
        weights.reward[0],
        weights.reward[1],
        weights.values,
        weights.end[0].float(),
        torch.tensor(weights.end[1], device=device),
        torch.tensor(-math.log(memory.termination_head.weight), device=device),
        weights.std,
    )


class _Step(nn.Module):
    def __init__(self, weights: _Weights, sizes: _Sizes, uniforms: int) -> None:
        super().__init__()
        for name, weight in weights._asdict().items():
            self.register_buffer(name, weight)
        self._sizes, self._uniforms = sizes, uniforms

    def forward(
        self,
        latent: Tensor,
        hidden: Tensor,
        cell: Tensor,
        action: Tensor,
        uniform: Draw,
        normal: Draw,
        temperature: float,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Next latent, hidden state and cell; reward, chance of an end, and whether it came."""
        weights = _Weights(*(getattr(self, name) for name in _Weights._fields))
        return _step(
            latent,
            hidden,
            cell,
            action,
            _drawn(uniform, "uniform", self._uniforms),
            _drawn(normal, "normal", self._sizes.latents),
            weights,
            self._sizes,
            temperature,
        )


def _drawn(draw: Draw, kind: Kind, columns: int) -> Tensor:
    if isinstance(draw, Tensor):
        return draw
    return numbers_of(hashed_bits(hashes(draw.keys, draw.steps), draw.places), kind, columns)


def _step(
    latent: Tensor,
    hidden: Tensor,
    cell: Tensor,
    action: Tensor,
    uniform: Tensor,
    normal: Tensor,
    weights: _Weights,
    sizes: _Sizes,
    temperature: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    dtype = weights.gates.dtype
    if sizes.first_action is not None and not action.is_floating_point():
        numbers = torch.arange(sizes.actions, device=action.device)
        action = (action.unsqueeze(1) - sizes.first_action == numbers).float()
    inputs = torch.cat([latent, hidden, action], 1).to(dtype)
    gates = torch.addmm(weights.gates_bias, inputs, weights.gates)
    # A sigmoid of them all would be written to memory first. The last is that of -2x: tanh(x) = 1 - 2 sigmoid(-2x)
    enter, keep, leave, new = (part.float().sigmoid() for part in gates.split(sizes.hidden, 1))
    cell = enter - 2.0 * enter * new + keep * cell
    hidden = leave - 2.0 * leave * (-2.0 * cell).sigmoid()

    seen = hidden.to(dtype)
    heads = torch.addmm(weights.heads_bias, seen, weights.heads)
    mean, log_std, columns = _chosen(seen, heads, uniform, weights, sizes, temperature)
    latent = mean + log_std.clamp(*LOG_STD_RANGE).exp() * (normal * weights.std * math.sqrt(temperature))

    layers = heads[:, columns:].float()
    split = len(weights.reward)
    reward_layer, end_layer = layers[:, :split], layers[:, split:]
    if weights.reward_of_next is not None:
        reward_layer = reward_layer + torch.mm(latent.to(dtype), weights.reward_of_next).float()
    reward_layer, end_layer = reward_layer * reward_layer.sigmoid(), end_layer * end_layer.sigmoid()
    outputs = torch.mm(reward_layer.to(dtype), weights.reward).float() + weights.reward_bias
    if weights.values is None:
        reward = outputs[:, 0]
    else:
        shares = (outputs - outputs.amax(1, keepdim=True)).exp()
        reward = (shares * weights.values).sum(1) / shares.sum(1)
    logit = (end_layer * weights.end).sum(1) + weights.end_bias
    probability = logit.sigmoid()
    if sizes.cut:
        terminated = logit > weights.least_logit
    else:
        terminated = uniform[:, -1] < probability if temperature else probability > 0.5
    return latent, hidden, cell, reward, probability, terminated


def _chosen(
    seen: Tensor, heads: Tensor, uniform: Tensor, weights: _Weights, sizes: _Sizes, temperature: float
) -> tuple[Tensor, Tensor, int]:
    """Mean and log deviation `[B, Z]` of the chosen component, and the column at which the heads' layers begin."""
    rows, count, size = len(heads), sizes.mixtures, sizes.latents
    joint = weights.components is not None
    choices = count * (1 if joint else size)
    flat = heads[:, :choices].float()
    # Of the mode, the heaviest component, whatever the uniform numbers are
    logits = (flat / temperature if temperature else heaviest(flat, count)).view(rows, count, -1)
    shares = (logits - logits.amax(1, keepdim=True)).exp().cumsum(1)
    width = 1 if joint else size
    component = (uniform[:, None, :width] * shares[:, -1:] >= shares[:, :-1]).sum(1)
    if weights.components is not None:
        assert weights.components_bias is not None
        table, columns = torch.addmm(weights.components_bias, seen, weights.components), choices
    else:
        columns = choices + 2 * count * size
        table = heads[:, choices:columns]
    place = component.view(rows, 1, 1, width).expand(rows, 1, 2, size)
    chosen = table.view(rows, count, 2, size).gather(1, place).float()
    return chosen[:, 0, 0], chosen[:, 0, 1], columns
