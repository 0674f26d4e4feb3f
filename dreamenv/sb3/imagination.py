"""Imagination-Augmented Agents (Weber et al. 2017): a policy that reads what it has dreamed before it acts.

>>> from stable_baselines3 import PPO
>>> from dreamenv.sb3 import DreamVecEnv, ImaginationAugmented, ImitateInImagination
>>> envs = DreamVecEnv("DreamDoom-v0", num_envs=2, observation="state")
>>> settings = {"world_model": "DreamDoom-v0", "steps": 2, "hidden_size": 8, "width": 8}
>>> augmented = {"features_extractor_class": ImaginationAugmented, "features_extractor_kwargs": settings}
>>> learner = PPO("MlpPolicy", envs, policy_kwargs=augmented, n_steps=4, batch_size=8, n_epochs=1, device="cpu")
>>> learner = learner.learn(8, callback=ImitateInImagination())
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from gymnasium import spaces
from torch import Tensor, nn

from dreamenv.agents.base import describe_space
from dreamenv.envs.loading import open_world_model
from dreamenv.errors import ConfigurationError, SpaceMismatchError, missing_extra
from dreamenv.memory.states import repeat
from dreamenv.noise.base import NoNoise, seeded_weights
from dreamenv.planners.arguments import check_count
from dreamenv.world_model import WorldModel

try:
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
except ImportError as _error:
    raise missing_extra("stable-baselines3", "sb3") from _error


class ImaginationAugmented(BaseFeaturesExtractor):
    """Features of a dreamed rollout for each action, next to those of the observation itself.

    For each of the n actions a rollout begins with that action and goes on by a small rollout policy. An LSTM reads it
    from its end to its beginning, and what it makes of the n rollouts is laid side by side (figure 2 of the source). It
    reads observations of kind "state", in which a world model's memory continues; `DreamVecEnv` and `LatentObservation`
    show them.

    Departures: dreams are in their mode and the rollout policy takes its likeliest action, so that the same observation
    gives the same features; what the LSTM is shown of a step is M's features, the reward, and the probability that the
    task still goes on, and not a picture. The world model does not learn.

    Args:
        observation_space: The environment's; Stable-Baselines3 gives it.
        world_model: What is dreamed in: a model, an id or a bundle's folder. A name keeps saved learners small.
        steps: Length of a rollout in actions, at least 1.
        hidden_size: Units of the LSTM.
        width: Units of the path without imagination, and of the rollout policy.
        imagine: False leaves the rollouts out, for comparisons with the same network: the LSTM reads zeros.
        seed: Of the initial weights.

    Raises:
        ConfigurationError: Actions that are not Discrete, or a number out of range.
        SpaceMismatchError: Observations of another kind than "state".
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        world_model: WorldModel | str | Path,
        *,
        steps: int = 5,
        hidden_size: int = 64,
        width: int = 64,
        imagine: bool = True,
        seed: int = 0,
    ) -> None:
        check_count(steps=steps, hidden_size=hidden_size, width=width)
        model = open_world_model(world_model)
        if not isinstance(model.action_space, spaces.Discrete):
            raise ConfigurationError(
                f"there is a rollout for each Discrete action, got {model.action_space}. Learn by "
                "train_actor_critic, or plan by 'cem' or 'mppi'."
            )
        wanted = model.observation_space("state")
        if observation_space != wanted:
            raise SpaceMismatchError(
                f"imagination goes on from observations of kind 'state', {describe_space(wanted)}; the environment "
                f"shows {describe_space(observation_space)}. Make it with observation='state' and the same world model."
            )
        actions = int(model.action_space.n)
        super().__init__(observation_space, width + actions * hidden_size)
        # The model is no module of the policy: it is neither optimised nor written with it
        self._model, self._steps, self._actions, self._imagines = model, steps, actions, imagine
        self._start = int(model.action_space.start)
        seen = model.memory.feature_size
        with seeded_weights(seed):
            self.direct = nn.Sequential(nn.LayerNorm(seen), nn.Linear(seen, width), nn.ReLU())
            self.rollout_policy = nn.Sequential(
                nn.LayerNorm(seen), nn.Linear(seen, width), nn.ReLU(), nn.Linear(width, actions)
            )
            self.step_encoder = nn.Sequential(nn.LayerNorm(seen), nn.Linear(seen, hidden_size), nn.ReLU())
            self.rollout_encoder = nn.LSTM(hidden_size + 2, hidden_size)

    def forward(self, observations: Tensor) -> Tensor:
        """`[B, width + n · hidden_size]` of memory states `[B, S]`."""
        rows, device = len(observations), observations.device
        state = self._model.memory_state(observations.to(self._model.device).float())
        features = self._model.memory.features(state).to(device)
        if self._imagines:
            seen, reward, goes_on = (part.to(device) for part in self._dream(state))
        else:
            seen = features.repeat_interleave(self._actions, 0).expand(self._steps, -1, -1) * 0
            reward = goes_on = seen[..., 0]
        squashed = reward.sign() * reward.abs().log1p()
        read = torch.cat([self.step_encoder(seen), torch.stack([squashed, goes_on], -1)], -1)
        _, (last, _) = self.rollout_encoder(read.flip(0))
        return torch.cat([self.direct(features), last[0].view(rows, -1)], 1)

    def rollout_logits(self, observations: Tensor) -> Tensor:
        """`[B, n]` logits of the rollout policy at memory states `[B, S]`."""
        state = self._model.memory_state(observations.to(self._model.device).float())
        logits: Tensor = self.rollout_policy(self._model.memory.features(state).to(observations.device))
        return logits

    @torch.no_grad()
    def _dream(self, state: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Features `[L, B · n, F]`, rewards and chances of having come so far `[L, B · n]` of the rollouts."""
        memory, noise = self._model.memory, NoNoise(self._model.device)
        device = next(self.rollout_policy.parameters()).device
        rows = len(state[0])
        state = repeat(state, self._actions)
        action = torch.arange(self._actions, device=self._model.device).repeat(rows)
        reached = torch.ones(len(action), device=self._model.device)
        kept = []
        for step in range(self._steps):
            if step > 0:
                logits = self.rollout_policy(memory.features(state).to(device))
                action = logits.argmax(1).to(self._model.device)
            state, prediction = memory.imagine(state, action + self._start, noise=noise, temperature=0.0)
            reward = reached * prediction.reward
            reached = reached * (1 - prediction.termination_probability)
            kept.append((memory.features(state), reward, reached))
        seen, rewards, goes_on = (torch.stack(parts) for parts in zip(*kept, strict=True))
        return seen, rewards, goes_on


class ImitateInImagination(BaseCallback):
    """Teaches the rollout policy what the whole policy does, at the end of each rollout of an on-policy algorithm.

    The source adds the cross-entropy between both to the loss (appendix A); here the rollout policy takes steps of its
    own. Without this callback it stays as it was drawn.

    Args:
        steps: Optimiser steps at the end of each rollout.
        batch_size: Observations of a step.
        learning_rate: Adam's.

    Raises:
        ConfigurationError: When training begins: the learner's features are not those of `ImaginationAugmented`, it
            keeps no rollouts, its policy is recurrent, or `VecNormalize` changes what it sees.
    """

    def __init__(self, steps: int = 8, batch_size: int = 256, learning_rate: float = 1e-3) -> None:
        super().__init__()
        check_count(steps=steps, batch_size=batch_size)
        self._steps, self._batch_size, self._rate = steps, batch_size, learning_rate

    def _on_training_start(self) -> None:
        learner: Any = self.model
        extractor = learner.policy.features_extractor
        if not isinstance(extractor, ImaginationAugmented) or not hasattr(learner, "rollout_buffer"):
            raise ConfigurationError(
                "ImitateInImagination is for an on-policy algorithm (PPO, A2C) whose policy_kwargs name "
                f"ImaginationAugmented; got {type(learner).__name__} with {type(extractor).__name__}"
            )
        if "lstm_states" in inspect.signature(learner.policy.get_distribution).parameters:
            raise ConfigurationError(
                f"ImitateInImagination cannot ask a recurrent policy what it does, got {type(learner).__name__}; a "
                "world model's state already remembers: take PPO or A2C"
            )
        scaling = learner.get_vec_normalize_env()
        if scaling is not None and scaling.norm_obs:
            raise ConfigurationError(
                "VecNormalize changes the states that imagination goes on from; wrap with norm_obs=False"
            )
        # The critic has an extractor of its own where the policy does not share it
        self._extractors = [part for part in learner.policy.modules() if isinstance(part, ImaginationAugmented)]
        weights = [weight for part in self._extractors for weight in part.rollout_policy.parameters()]
        self._optimiser = torch.optim.Adam(weights, lr=self._rate)
        self._generator = torch.Generator().manual_seed(int(learner.seed or 0))

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        learner: Any = self.model
        shape = learner.observation_space.shape
        seen = torch.from_numpy(learner.rollout_buffer.observations.reshape(-1, *shape)).to(learner.device)
        for _ in range(self._steps):
            rows = torch.randint(len(seen), (self._batch_size,), generator=self._generator)
            batch = seen[rows.to(seen.device)]
            with torch.no_grad():
                chances = learner.policy.get_distribution(batch).distribution.probs
            said = torch.stack([part.rollout_logits(batch) for part in self._extractors]).log_softmax(-1)
            loss = -(chances * said).sum(-1).mean(1).sum()
            self._optimiser.zero_grad()
            loss.backward()
            self._optimiser.step()
