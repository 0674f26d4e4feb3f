"""E Gaussian networks as one batched product."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
# Of the penalty that draws the bounds of the log variances together, as in the code of Chua et al.
_BOUND_WEIGHT = 0.01


class Gaussian(NamedTuple):
    """Normal distributions, one an output.

    Attributes:
        mean: `[..., D]`.
        log_variance: `[..., D]`.
    """

    mean: Tensor
    log_variance: Tensor

    def nll(self, value: Tensor, beta: float = 0.0) -> Tensor:
        """Negative log-likelihood of `value` in nats, `[..., D]`, times the variance to the power `beta`, which has no
        gradient (β-NLL, Seitzer et al. 2022)."""
        square = (value - self.mean).square()
        nats = 0.5 * (square * (-self.log_variance).exp() + self.log_variance) + _HALF_LOG_2PI
        return nats * (beta * self.log_variance.detach()).exp() if beta else nats


class MemberLinear(nn.Module):
    """E linear layers as one batched product: `[E, B, in]` to `[E, B, out]`.

    Weights begin as normal draws of standard deviation gain / sqrt(in), biases at 0.
    """

    def __init__(self, members: int, inputs: int, outputs: int, *, gain: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(members, inputs, outputs))
        nn.init.normal_(self.weight, std=gain / math.sqrt(inputs))
        self.bias = nn.Parameter(torch.zeros(members, 1, outputs))

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, inputs, self.weight)


class GaussianMembers(nn.Module):
    """E networks with SiLU between their layers, each saying a mean and a variance of D outputs.

    The variances lie between learned bounds (Chua et al. 2018, appendix A.1), so that they stay sane off the data. The
    hidden layers begin with He's gain, sqrt(2), where the source's code has 0.5: short fits, as they follow one another
    while real data grow, then come to a third of the error.

    Args:
        members: E.
        inputs: Width of the inputs.
        outputs: D.
        hidden_size: Width of the hidden layers.
        layers: Hidden layers.
    """

    def __init__(self, members: int, inputs: int, outputs: int, *, hidden_size: int, layers: int) -> None:
        super().__init__()
        self.members = members
        sizes = [inputs, *[hidden_size] * layers, 2 * outputs]
        gains = [math.sqrt(2)] * layers + [0.5]
        self.linear = nn.ModuleList(
            MemberLinear(members, narrow, wide, gain=gain)
            for (narrow, wide), gain in zip(pairwise(sizes), gains, strict=True)
        )
        self.largest_log_variance = nn.Parameter(torch.full((outputs,), 0.5))
        self.smallest_log_variance = nn.Parameter(torch.full((outputs,), -10.0))

    def forward(self, inputs: Tensor) -> Gaussian:
        """`[E, B, D]` of inputs `[E, B, in]`, each member reading its own rows."""
        hidden = inputs
        for layer in self.linear[:-1]:
            hidden = functional.silu(layer(hidden))
        mean, raw = self.linear[-1](hidden).float().chunk(2, dim=-1)
        below = self.largest_log_variance - functional.softplus(self.largest_log_variance - raw)
        return Gaussian(mean, self.smallest_log_variance + functional.softplus(below - self.smallest_log_variance))

    def by_member(self, inputs: Tensor, member: Tensor) -> Gaussian:
        """`[B, D]` of inputs `[B, in]`, row i by member `member[i]`: the rows are dealt out to the members."""
        order = member.argsort(stable=True)
        owner, counts = member[order], member.bincount(minlength=self.members)
        place = torch.arange(len(member), device=member.device) - (counts.cumsum(0) - counts)[owner]
        dealt = inputs.new_zeros(self.members, int(counts.max()), inputs.shape[1])
        found = self(dealt.index_put((owner, place), inputs[order]))
        back = order.argsort()
        return Gaussian(*(part[owner, place][back] for part in found))

    def bound_penalty(self) -> Tensor:
        """Draws the learned bounds together; to be added to a likelihood."""
        return _BOUND_WEIGHT * (self.largest_log_variance - self.smallest_log_variance).sum()
