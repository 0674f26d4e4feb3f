"""What M reads off its hidden state beside the next latent: the reward and the end of the task."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from dreamenv.errors import ConfigurationError

REWARD_HEADS = ("two_hot", "mse")
# The largest reward of a two_hot head, unless the data hold larger ones
REWARD_BOUND = 150.0
# Nats by which a value that was out of reach is less likely than the nearest one
_NEVER_SEEN = 10.0


class RewardHead(nn.Module):
    """Expected reward from features `[..., F]`.

    `two_hot` is a classification over values spaced evenly in symlog, fit to the two neighbours of the real reward in
    proportion to their nearness (Hafner et al. 2023, "Mastering diverse domains through world models", eq. 8 to 10);
    the prediction is the expectation over those values. It keeps a rare spike sharp where a squared error would blur
    it. `mse` is plain regression. Two departures from the source: weights are taken between neighbours in reward
    units, so that the expectation is unbiased, and `bound` sets the largest value.
    """

    values: Tensor

    def __init__(
        self, features: int, kind: str, *, width: int = 128, bins: int = 63, bound: float = REWARD_BOUND
    ) -> None:
        super().__init__()
        if kind not in REWARD_HEADS:
            raise ConfigurationError(f"reward_head={kind!r}; expected one of {REWARD_HEADS}")
        if bins % 2 == 0 or bins < 3 or not 0 < bound < math.inf:
            raise ConfigurationError(
                f"reward bins must be odd and at least 3, bound positive and finite; got {bins}, {bound}"
            )
        self.kind, self.bound = kind, float(bound)
        outputs = bins if kind == "two_hot" else 1
        last = nn.Linear(width, outputs)
        # Zeros at the output: the expectation starts at 0 whatever the features.
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.network = nn.Sequential(nn.Linear(features, width), nn.SiLU(), last)
        even = torch.linspace(-math.log1p(bound), math.log1p(bound), bins)
        self.register_buffer("values", even.sign() * even.abs().expm1(), persistent=False)

    @torch.no_grad()
    def respace(self, bound: float) -> None:
        """Turn outputs that were learned for values up to `bound` into outputs for this head's own values.

        Logits are interpolated, so that what was expected stays as nearly as the new values can say it.
        """
        if self.kind != "two_hot" or bound == self.bound:
            return
        last, bins = self.network[-1], len(self.values)
        assert isinstance(last, nn.Linear)
        centre = (bins - 1) / 2
        place = centre + torch.linspace(-centre, centre, bins) * math.log1p(self.bound) / math.log1p(bound)
        below = place.clamp(0, bins - 1).floor().long().clamp(max=bins - 2).to(last.bias.device)
        share = (place.clamp(0, bins - 1).to(last.bias.device) - below).clamp(0, 1)
        last.weight.copy_(torch.lerp(last.weight[below], last.weight[below + 1], share.unsqueeze(1)))
        last.bias.copy_(torch.lerp(last.bias[below], last.bias[below + 1], share))
        last.bias[((place < 0) | (place > bins - 1)).to(last.bias.device)] -= _NEVER_SEEN

    def forward(self, features: Tensor) -> Tensor:
        """Expected reward `[...]`."""
        outputs = self.network(features).float()
        if self.kind == "mse":
            return outputs.squeeze(-1)
        return outputs.softmax(-1) @ self.values

    def loss(self, features: Tensor, reward: Tensor) -> Tensor:
        """`[...]`: cross-entropy in nats (two_hot) or half the squared error (mse)."""
        outputs = self.network(features).float()
        if self.kind == "mse":
            return 0.5 * (outputs.squeeze(-1) - reward).square()
        return -(self._two_hot(reward) * outputs.log_softmax(-1)).sum(-1)

    def check_range(self, low: float, high: float) -> None:
        """Raises ConfigurationError when rewards from `low` to `high` do not fit the values of a two_hot head."""
        check_reward_range(self.kind, self.bound, low, high)

    def _two_hot(self, reward: Tensor) -> Tensor:
        reward = torch.minimum(torch.maximum(reward, self.values[0]), self.values[-1])
        above = torch.searchsorted(self.values, reward.contiguous()).clamp(1, len(self.values) - 1)
        low, high = self.values[above - 1], self.values[above]
        share = (reward - low) / (high - low)
        count = len(self.values)
        return functional.one_hot(above - 1, count) * (1 - share).unsqueeze(-1) + functional.one_hot(
            above, count
        ) * share.unsqueeze(-1)


def check_reward_range(kind: str, bound: float, low: float, high: float) -> None:
    """Raises ConfigurationError when a head of `kind` up to `bound` cannot say rewards from `low` to `high`."""
    if kind == "two_hot" and max(-low, high) > bound * (1 + 1e-6):
        raise ConfigurationError(
            f"rewards from {low:g} to {high:g}; reward_head='two_hot' reaches {bound:g}. "
            "Use reward_head='mse' (--set memory.reward_head=mse)."
        )


def reward_bound_for(low: float, high: float) -> float:
    """The largest value of a two_hot head for rewards from `low` to `high`: `REWARD_BOUND`, or what covers them.

    Beyond that it is a power of two times it, so that a little more data hardly ever asks for another head.
    """
    most = max(-low, high, REWARD_BOUND)
    return float(REWARD_BOUND * 2 ** math.ceil(math.log2(most / REWARD_BOUND)))


class TerminationHead(nn.Module):
    """Whether the task ends at this step, from features `[..., F]`.

    Trained by binary cross-entropy with ends weighted `weight` times, since they are rare. The weight's effect on the
    odds is divided out again for the calibrated probability; the cut is on the weighted one, so that "more likely than
    not" is reached at a calibrated probability of 1 / (1 + weight).
    """

    def __init__(self, features: int, *, weight: float, width: int = 128) -> None:
        super().__init__()
        if not 0 < weight < math.inf:
            raise ConfigurationError(f"termination_weight must be positive and finite, got {weight}")
        self.weight = weight
        self.network = nn.Sequential(nn.Linear(features, width), nn.SiLU(), nn.Linear(width, 1))

    def forward(self, features: Tensor) -> Tensor:
        """Logit `[...]` of the weighted probability."""
        return self.network(features).float().squeeze(-1)

    def probability(self, logit: Tensor) -> Tensor:
        """Calibrated probability `[...]`."""
        return torch.sigmoid(logit - math.log(self.weight))

    @property
    def threshold(self) -> float:
        """The calibrated probability at which the weighted one is a half: where the cut is."""
        return 1 / (1 + self.weight)

    def ends(self, logit: Tensor, probability: Tensor, uniform: Tensor, *, termination: str, mode: bool) -> Tensor:
        """`[...]` bool, whether the task ends.

        Args:
            logit: Of the weighted probability.
            probability: The calibrated one.
            uniform: Numbers in [0, 1) that sample the end.
            termination: "cut" ends where the weighted probability is above a half; "sample" draws from the calibrated.
            mode: What is likelier in place of a draw.
        """
        if termination == "cut":
            return logit > 0
        return probability > 0.5 if mode else uniform < probability

    def loss(self, features: Tensor, terminated: Tensor) -> Tensor:
        """`[...]` weighted binary cross-entropy in nats."""
        weight = torch.full((), self.weight, device=terminated.device)
        return functional.binary_cross_entropy_with_logits(
            self(features), terminated, pos_weight=weight, reduction="none"
        )


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean over the places where `mask` is 1; 0 where there are none."""
    return (values * mask).sum() / mask.sum().clamp(min=1.0)
