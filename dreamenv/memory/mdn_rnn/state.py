"""What an MDN-RNN remembers of a moment, and what it says of a sequence."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class MDNRNNState(NamedTuple):
    """One moment of B dreams.

    Attributes:
        latent: `[B, Z]`.
        hidden: `[B, H]`, the LSTM's output.
        cell: `[B, H]`, the LSTM's cell.
        dropout: `[B, H]` factors on the hidden state, drawn once an episode; `[B, 0]` without dropout in the dream.
    """

    latent: Tensor
    hidden: Tensor
    cell: Tensor
    dropout: Tensor


class Heads(NamedTuple):
    """Outputs of teacher forcing over sequences, all float32.

    Attributes:
        log_mixture: `[B, T, K, Z]` log weights of the mixture's components; `[B, T, K, 1]` of joint ones.
        mean: `[B, T, K, Z]`, in normalised latent units.
        log_std: `[B, T, K, Z]`.
        reward: `[B, T]` expected reward.
        termination_probability: `[B, T]` calibrated.
        termination_logit: `[B, T]` of the weighted probability.
    """

    log_mixture: Tensor
    mean: Tensor
    log_std: Tensor
    reward: Tensor
    termination_probability: Tensor
    termination_logit: Tensor
