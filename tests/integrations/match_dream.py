"""A dream that is saved and loaded, quick to learn, and of a known best return: an MDN-RNN with weights set by hand."""

from __future__ import annotations

import torch
from gymnasium import spaces

from dreamenv.bundle import StartStates
from dreamenv.memory.mdn_rnn.model import MDNRNN
from dreamenv.types import RealEnvSpec
from dreamenv.vision.identity import IdentityVision
from dreamenv.world_model import WorldModel

ID = "DreamMatch-v0"
LENGTH = 20
# Each guess is right with probability 1/2, and a wrong one ends the episode: 1/2 + 1/4 + ...
RANDOM_RETURN = 1.0
BEST_RETURN = float(LENGTH)

# Large enough to saturate the LSTM's gates; fp16 holds it exactly.
_LARGE = 32.0


@torch.no_grad()
def match_dream() -> WorldModel:
    """The first number of an observation is a coin, -1 or 1 with equal probability at every step; action 1 says heads.

    A right guess is worth 1, a wrong one 0 and the end; after `LENGTH` actions the episode is truncated.
    """
    memory = MDNRNN(1, spaces.Discrete(2), hidden_size=2, mixtures=2, reward_head="mse", termination="cut")
    for weights in memory.parameters():
        weights.zero_()
    into, _, bias, _ = memory.lstm.all_weights[0]
    in_gate, forget_gate, cell, out_gate = bias.view(4, 2)
    in_gate.fill_(_LARGE)
    forget_gate.fill_(-_LARGE)
    out_gate.fill_(_LARGE)
    # Columns of an input: coin, tails said, heads said. Cell 0 is 1 where both are heads, cell 1 where both are tails.
    into.view(4, 2, 3)[2] = _LARGE * torch.tensor([[1.0, -1.0, 1.0], [-1.0, 1.0, -1.0]])
    cell.fill_(-_LARGE)
    # A saturated hidden unit is tanh(1) or -tanh(1): their sum is 0 for a right guess, -2 tanh(1) for a wrong one.
    step = float(torch.tanh(torch.tensor(1.0)))
    means = memory.mixture_head.bias.view(3, 2)
    means[1] = torch.tensor([-1.0, 1.0])
    means[2] = -7.0
    right, _, reward = memory.reward_head.network
    right.weight[0], right.bias[0], reward.weight[0, 0] = _LARGE, _LARGE * step, 1 / (_LARGE * step)
    wrong, _, logit = memory.termination_head.network
    wrong.weight[0], wrong.bias[0] = -_LARGE, -_LARGE * step
    logit.weight[0, 0], logit.bias[0] = 1.0, -_LARGE * step / 2
    return WorldModel(
        IdentityVision(1),
        memory,
        RealEnvSpec("Pendulum-v1"),
        spaces.Discrete(2),
        StartStates(torch.tensor([[-1.0], [1.0]])),
        max_episode_steps=LENGTH,
    )
