"""The step of an MDN-RNN as a tutorial would write it, for comparison."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Normal

from dreamenv.memory.mdn_rnn.model import MDNRNN


class PlainStep(nn.Module):
    """A step of an MDN-RNN as a tutorial would write it: a cell, linear layers, torch.distributions.

    It holds the model's own layers, so that its products are those of the dream.
    """

    def __init__(self, memory: MDNRNN) -> None:
        super().__init__()
        self.memory = memory
        self.cell = nn.LSTMCell(memory.lstm.input_size, memory.hidden_size)
        for name, part in memory.lstm.named_parameters():
            getattr(self.cell, name.removesuffix("_l0")).data.copy_(part)

    def forward(
        self, latent: Tensor, hidden: Tensor, cell: Tensor, action: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Next latent, hidden state, cell; reward and whether the task ended."""
        memory = self.memory
        inputs = torch.cat([memory.normalise(latent), memory.action_encoder(action)], -1)
        hidden, cell = self.cell(inputs, (hidden, cell))
        log_weights, mean, log_std = memory.mixture(hidden)
        chosen = Categorical(logits=log_weights.transpose(1, 2)).sample()  # [B, Z] or, joint, [B, 1]
        index = chosen.unsqueeze(1).expand(-1, 1, memory.latent_size)
        normal = Normal(mean, log_std.exp()).sample()
        latent = normal.gather(1, index).squeeze(1) * memory.latent_std + memory.latent_mean
        seen = torch.cat([hidden, memory.normalise(latent)], -1) if memory.reward_sees_next else hidden
        probability = memory.termination_head.probability(memory.termination_head(hidden))
        return latent, hidden, cell, memory.reward_head(seen), torch.bernoulli(probability).bool()
