"""The weights of an RSSM, rearranged for dreams that nobody differentiates (see `batched`)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dreamenv.memory.rssm.latents import CategoricalLatents, GaussianLatents
from dreamenv.memory.rssm.model import RSSM
from dreamenv.memory.weights_watch import SharedWeights


class Norm(NamedTuple):
    """Scale and shift `[N]` of a normalised layer, and what is added to its variance."""

    scale: Tensor
    shift: Tensor
    least: float


@dataclass(frozen=True)
class FusedWeights:
    """Copies of an RSSM's weights. H, S, A, P and z as there; W its width; R hidden units of the reward
    head, E of the end's.

    What z gives to the layer before the GRU and to the heads is in two forms: weights of a product, and for categorical
    latents, of which each group has one class, tables whose rows are summed up.

    Attributes:
        action: `[A, W]` float32, from the encoded action to the layer before the GRU.
        enter: `[S, W]`, from z to that layer.
        enter_table: The same in float32; None for Gaussian latents.
        enter_norm: Of that layer.
        gates: `[W + H, 3H]`, to the GRU's gates in the order reset, update, candidate.
        gates_norm: Of the gates; the shift of the update includes the GRU's bias towards keeping.
        heads: `[H, W + R + E]`, from the hidden state to the hidden layers of the prior, the reward and the end.
        prior_norm: Of the prior's hidden layer.
        prior: `[W, P]`, and its bias `[P]`, to the statistics of the next z.
        heads_of_next: `[S, R + E]`, from that z to the hidden layers of reward and end, and their bias `[R + E]`.
        heads_table: The same in float32, with the bias in the rows of the first group; None for Gaussian latents.
        outputs: `[R + E, V + 1]`, and its bias `[V + 1]`, to the reward's outputs and the logit of the calibrated
            probability of an end.
        values: `[V]` that the reward's outputs are log weights of; None where the one output is the reward.
        cumulative: `[C, C]` float32, from the probabilities of a group's classes, before uniform is mixed in, to those
            of the mixture, summed up; None for Gaussian latents.
        least_std: Of Gaussian latents; None for categorical ones.
    """

    action: Tensor
    enter: Tensor
    enter_table: Tensor | None
    enter_norm: Norm
    gates: Tensor
    gates_norm: Norm
    heads: Tensor
    prior_norm: Norm
    prior: tuple[Tensor, Tensor]
    heads_of_next: tuple[Tensor, Tensor]
    heads_table: Tensor | None
    outputs: tuple[Tensor, Tensor]
    values: Tensor | None
    cumulative: Tensor | None
    least_std: float | None


def fuse_weights(memory: RSSM, dtype: torch.dtype) -> FusedWeights:
    """The weights of `memory`, those of products in `dtype`."""
    hidden, latents = memory.hidden_size, memory.latents
    enter_layer, prior_layer, prior_last = memory.enter, memory.prior_network[0], memory.prior_network[1]
    reward, end = memory.reward_head.network, memory.termination_head.network
    first = torch.cat([_weight(reward[0]), _weight(end[0])], 1)
    bias = torch.cat([_bias(reward[0]), _bias(end[0])])
    enter, action = _weight(enter_layer[0]).split([latents.width, memory.action_encoder.size])
    order = _gate_order(hidden, memory.device)
    gates_norm = _norm(memory.gates[1], order)
    gates_norm.shift[hidden : 2 * hidden] -= 1.0
    enter_table = heads_table = cumulative = least_std = None
    if isinstance(latents, CategoricalLatents):
        enter_table, heads_table = enter.contiguous(), first[hidden:].clone()
        heads_table[: latents.classes] += bias
        cumulative = _cumulative(latents, memory.device)
    elif isinstance(latents, GaussianLatents):
        least_std = latents.least_std
    return FusedWeights(
        action=action.contiguous(),
        enter=enter.to(dtype).contiguous(),
        enter_table=enter_table,
        enter_norm=_norm(enter_layer[1]),
        gates=_weight(memory.gates[0])[:, order].to(dtype).contiguous(),
        gates_norm=gates_norm,
        heads=torch.cat([_weight(prior_layer[0]), first[:hidden]], 1).to(dtype),  # type: ignore[index]
        prior_norm=_norm(prior_layer[1]),  # type: ignore[index]
        prior=(_weight(prior_last).to(dtype).contiguous(), _bias(prior_last).to(dtype)),
        heads_of_next=(first[hidden:].to(dtype).contiguous(), bias),
        heads_table=heads_table,
        outputs=(
            torch.block_diag(_weight(reward[2]), _weight(end[2])).to(dtype),
            torch.cat([_bias(reward[2]), _bias(end[2]) - math.log(memory.termination_head.weight)]),
        ),
        values=memory.reward_head.values.clone() if memory.reward_head.kind == "two_hot" else None,
        cumulative=cumulative,
        least_std=least_std,
    )


def _weight(layer: nn.Module) -> Tensor:
    """A copy, `[inputs, outputs]`."""
    assert isinstance(layer, nn.Linear)
    return layer.weight.detach().t().contiguous().clone()


def _bias(layer: nn.Module) -> Tensor:
    """A copy, `[outputs]`."""
    assert isinstance(layer, nn.Linear)
    return layer.bias.detach().clone()


def _gate_order(hidden: int, device: torch.device) -> Tensor:
    reset, candidate, update = torch.arange(3 * hidden, device=device).chunk(3)
    return torch.cat([reset, update, candidate])


def _norm(layer: nn.Module, order: Tensor | None = None) -> Norm:
    assert isinstance(layer, nn.LayerNorm)
    scale, shift = (part.detach().clone() if order is None else part[order] for part in (layer.weight, layer.bias))
    return Norm(scale, shift, layer.eps)


def _cumulative(latents: CategoricalLatents, device: torch.device) -> Tensor:
    classes, mix = latents.classes, latents.uniform_mix
    summed = torch.ones(classes, classes, device=device).triu()
    uniform = torch.arange(1, classes + 1, device=device) / classes  # of probabilities, whose sum is 1
    return (1 - mix) * summed + mix * uniform


shared_weights = SharedWeights(fuse_weights).of
