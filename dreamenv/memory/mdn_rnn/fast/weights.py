"""The weights of an MDN-RNN, rearranged for dreams that nobody differentiates (see `batched`)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreamenv.memory.mdn_rnn.model import MDNRNN
from dreamenv.memory.weights_watch import SharedWeights


@dataclass(frozen=True)
class FusedWeights:
    """Copies of an MDN-RNN's weights. Z, H, A, K as there; R hidden units of the reward head, E of the end's.

    Attributes:
        gates: `[Z + H + 1 + A, 4H]`, from the latent, the hidden state, 1 and the action to the LSTM's gates in the
            order enter, keep, leave, new; those of `new` times -2.
        heads: `[H + 1, C + R + E]`, from the hidden state and 1 to what follows: log weights of the components, means
            and log deviations of components per dimension (`[K, 2, Z]`, flattened), and the heads' hidden layers.
        choices: How many of these columns are log weights.
        layers: R + E.
        components: `[K, H + 1, 2Z]`, to mean and log deviation of each joint component; None where there are none.
        all_components: The same as `[H + 1, 2 K Z]`.
        reward_of_next: `[Z, R]`, from the next latent to the reward's hidden layer; None where it does not see it.
        reward: `[R, V]`, and its bias `[V]`, to the reward's outputs.
        values: `[V]` that they are log weights of; None where the one output is the reward.
        end: `[E]`, and its bias, to the logit of the calibrated probability of an end.
        std: `[Z]` of latents: means are in their units, log deviations in those of normalised ones.
    """

    gates: Tensor
    heads: Tensor
    choices: int
    layers: int
    components: Tensor | None
    all_components: Tensor | None
    reward_of_next: Tensor | None
    reward: tuple[Tensor, Tensor]
    values: Tensor | None
    end: tuple[Tensor, float]
    std: Tensor

    @cached_property
    def halved(self) -> HalvedWeights:
        """Of weights in float32 on the CPU; made once for all steppers."""
        gates = self.gates.numpy() * np.float32(0.5)
        gates[:, 3 * (gates.shape[1] // 4) :] *= -1.0  # these come times -2, for a tanh by sigmoid
        return HalvedWeights(gates, *(part[0].numpy() * np.float32(0.5) for part in (self.reward, self.end)))


class HalvedWeights(NamedTuple):
    """Arrays for a step that puts a factor of its activations into the weights before them (see `single`).

    Attributes:
        gates: Half of `FusedWeights.gates`, those of `new` negative.
        reward: Half of the first of `FusedWeights.reward`.
        end: Half of the first of `FusedWeights.end`.
    """

    gates: NDArray[np.float32]
    reward: NDArray[np.float32]
    end: NDArray[np.float32]


def fuse_weights(memory: MDNRNN, dtype: torch.dtype) -> FusedWeights:
    """The weights of `memory`, those of products in `dtype`."""
    size, hidden, count = memory.latent_size, memory.hidden_size, memory.mixtures
    mean, std = memory.latent_mean, memory.latent_std
    reward: Any = memory.reward_head.network
    end: Any = memory.termination_head.network
    reward_bias, of_next = reward[0].bias, None
    if memory.reward_sees_next:
        of_next = reward[0].weight[:, hidden:] / std
        reward_bias = reward_bias - of_next @ mean
    layers = torch.cat([_with_bias(reward[0].weight[:, :hidden], reward_bias), _with_bias(end[0].weight, end[0].bias)])
    head = _with_bias(memory.mixture_head.weight, memory.mixture_head.bias)
    choices = count * memory.mixture_weights
    weights, means, log_stds = head.split([choices, count * size, count * size])
    means = means.unflatten(0, (count, size)) * std[:, None]
    means[..., -1] += mean
    components = torch.cat([means, log_stds.unflatten(0, (count, size))], 1)  # [K, 2Z, H + 1]
    joint = memory.components == "joint"
    parts = [weights, layers] if joint else [weights, components.flatten(0, 1), layers]
    return FusedWeights(
        gates=_gates(memory).to(dtype),
        heads=torch.cat(parts).t().contiguous().to(dtype),
        choices=choices,
        layers=len(layers),
        components=components.transpose(1, 2).contiguous().to(dtype) if joint else None,
        all_components=components.flatten(0, 1).t().contiguous().to(dtype) if joint else None,
        reward_of_next=None if of_next is None else of_next.t().contiguous().to(dtype),
        reward=(reward[2].weight.detach().t().to(dtype, copy=True).contiguous(), reward[2].bias.detach().clone()),
        values=memory.reward_head.values.clone() if memory.reward_head.kind == "two_hot" else None,
        end=(
            end[2].weight[0].detach().to(dtype, copy=True),
            float(end[2].bias) - math.log(memory.termination_head.weight),
        ),
        std=std.clone(),
    )


def _with_bias(weight: Tensor, bias: Tensor) -> Tensor:
    return torch.cat([weight, bias[:, None]], 1)


def _gates(memory: MDNRNN) -> Tensor:
    of_input, of_hidden, *biases = (part.double() for part in memory.lstm.all_weights[0])
    mean, std = memory.latent_mean.double(), memory.latent_std.double()
    bias = biases[0] + biases[1]
    of_latent, of_action = of_input[:, : memory.latent_size] / std, of_input[:, memory.latent_size :]
    bias = bias - of_latent @ mean
    encoder = memory.action_encoder
    if not encoder.discrete:
        scale = 2.0 / (encoder.high.double() - encoder.low.double())
        bias = bias - of_action @ (encoder.low.double() * scale + 1.0)
        of_action = of_action * scale
    enter, keep, new, leave = torch.cat([of_latent, of_hidden, bias[:, None], of_action], 1).chunk(4)
    return torch.cat([enter, keep, leave, -2.0 * new]).t().float().contiguous()


shared_weights = SharedWeights(fuse_weights).of
