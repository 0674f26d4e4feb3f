"""PPO in one file, in the manner of CleanRL: plain torch over `gym.make_vec`, and of dreamenv nothing but the id.

Takes: under a minute.

The dreams reset themselves in NEXT_STEP mode, Gymnasium's default: the step that ends shows the episode's last
observation, so a truncated one can be bootstrapped from it, and the step after it takes no action, so it is masked.

python examples/10_cleanrl_style_ppo.py [ID] [--steps N] [--envs N] [--length N] [--seed N]
"""

import argparse

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

import dreamenv  # noqa: F401  (importing registers the ids)

GAMMA, LAMBDA, CLIP, ENTROPY, EPOCHS, MINIBATCHES, RATE = 0.99, 0.95, 0.2, 0.01, 4, 4, 1e-3


def network(inputs: int, outputs: int, gain: float, generator: torch.Generator) -> nn.Sequential:
    layers = [nn.Linear(inputs, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, outputs)]
    for layer, scale in zip(layers[::2], (2**0.5, 2**0.5, gain), strict=True):
        nn.init.orthogonal_(layer.weight, scale, generator=generator)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


def advantages(rewards: Tensor, values: Tensor, next_values: Tensor, terminated: Tensor, ended: Tensor) -> Tensor:
    """Generalised advantage estimates `[T, N]` (Schulman et al. 2016, eq. 16); a truncated episode is bootstrapped."""
    errors = rewards + GAMMA * next_values * (1 - terminated) - values
    found, running = torch.zeros_like(errors), torch.zeros_like(errors[0])
    for step in reversed(range(len(errors))):
        running = errors[step] + GAMMA * LAMBDA * (1 - ended[step]) * running
        found[step] = running
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("id", nargs="?", default="DreamDoom-v0", help="a dream with Discrete actions")
    parser.add_argument("--steps", type=int, default=100_000, help="dreamed actions")
    parser.add_argument("--envs", type=int, default=64)
    parser.add_argument("--length", type=int, default=32, help="actions of each dream between two updates")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    envs = gym.wrappers.vector.RecordEpisodeStatistics(gym.make_vec(arguments.id, num_envs=arguments.envs))
    envs = gym.wrappers.vector.NormalizeReward(envs, gamma=GAMMA)
    features, first_action = envs.single_observation_space.shape[0], int(envs.single_action_space.start)
    generator = torch.Generator().manual_seed(arguments.seed)
    actor = network(features, int(envs.single_action_space.n), 0.01, generator)
    critic = network(features, 1, 1.0, generator)
    parameters = [*actor.parameters(), *critic.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=RATE, eps=1e-5)

    shape = (arguments.length, arguments.envs)
    observations, next_observations = torch.zeros(2, *shape, features)
    actions = torch.zeros(shape, dtype=torch.int64)
    log_probabilities, rewards, terminated, ended, counted = torch.zeros(5, *shape)
    seen = torch.from_numpy(envs.reset(seed=arguments.seed)[0])
    begins_anew = np.zeros(arguments.envs, np.bool_)
    recent: list[float] = []

    for update in range(1, max(1, arguments.steps // counted.numel()) + 1):
        for step in range(arguments.length):
            with torch.no_grad():
                log_policy = actor(seen).log_softmax(1)
            chosen = torch.multinomial(log_policy.exp(), 1, generator=generator)
            observations[step], actions[step] = seen, chosen[:, 0]
            log_probabilities[step] = log_policy.gather(1, chosen)[:, 0]
            counted[step] = torch.from_numpy(~begins_anew)
            result = envs.step(chosen[:, 0].numpy() + first_action)
            seen = torch.from_numpy(result[0])
            begins_anew = result[2] | result[3]
            next_observations[step], rewards[step] = seen, torch.from_numpy(result[1])
            terminated[step], ended[step] = torch.from_numpy(result[2]), torch.from_numpy(begins_anew)
            recent += result[4]["episode"]["r"][begins_anew].tolist() if begins_anew.any() else []

        with torch.no_grad():
            values = critic(observations)[..., 0]
            advantage = advantages(rewards, values, critic(next_observations)[..., 0], terminated, ended)
        target = values + advantage
        rows = torch.nonzero(counted.flatten())[:, 0]
        for _ in range(EPOCHS):
            for part in rows[torch.randperm(len(rows), generator=generator)].chunk(MINIBATCHES):
                inputs = observations.flatten(0, 1)[part]
                log_policy = actor(inputs).log_softmax(1)
                new = log_policy.gather(1, actions.flatten()[part, None])[:, 0]
                ratio = (new - log_probabilities.flatten()[part]).exp()
                gain = advantage.flatten()[part]
                gain = (gain - gain.mean()) / (gain.std() + 1e-8)
                surrogate = torch.minimum(ratio * gain, ratio.clamp(1 - CLIP, 1 + CLIP) * gain).mean()
                entropy = -(log_policy.exp() * log_policy).sum(1).mean()
                error = 0.5 * (critic(inputs)[:, 0] - target.flatten()[part]).square().mean()
                optimiser.zero_grad()
                (0.5 * error - surrogate - ENTROPY * entropy).backward()
                nn.utils.clip_grad_norm_(parameters, 0.5)
                optimiser.step()

        if recent:
            print(
                f"update {update}, {update * counted.numel()} dreamed actions: mean return {np.mean(recent):.1f} "
                f"of {len(recent)} episodes that ended"
            )
            recent = []
    envs.close()


if __name__ == "__main__":
    main()
