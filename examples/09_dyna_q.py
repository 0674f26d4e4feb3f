"""Dyna-Q (Sutton & Barto 2018, section 8.2): after each real step, n updates from dreamed ones, which a table of counts
behind the dream environment's own interface dreams.

Takes: a few minutes.

python examples/09_dyna_q.py [--ids FrozenLake-v1 CliffWalking-v1] [--planning 0 5 50] [--seeds N]

Shows how many real episodes and steps it takes until the greedy policy is the best one. What the best one is worth is
worked out from the real environment's own table, which the agent never sees.
"""

import argparse
import statistics
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import torch

from dreamenv import DreamVectorEnv, RealEnvSpec, WorldModel
from dreamenv.bundle import StartStates
from dreamenv.memory.tabular import TabularMemory
from dreamenv.vision.identity import IdentityVision

KWARGS = {"FrozenLake-v1": {"is_slippery": False}}


@dataclass
class Found:
    """When the greedy policy first was the best one."""

    episodes: int
    real_steps: int
    dreamed_steps: int


class Planner:
    """Dreamed transitions of state-action pairs that really happened, from `DreamVectorEnv`."""

    def __init__(self, env_id: str, memory: TabularMemory, action_space: gym.spaces.Discrete, steps: int) -> None:
        self.memory, self.steps = memory, steps
        latents = torch.eye(memory.latent_size)
        self.model = WorldModel(
            IdentityVision(memory.latent_size),
            memory,
            RealEnvSpec(env_id),
            action_space,
            StartStates(latents),
            max_episode_steps=1,
        )
        self.visited = 0

    def dream(self, rng: np.random.Generator) -> zip:
        """`steps` dreamed transitions: state, action, reward, next state, terminated."""
        tried = self.memory.tried()
        states = np.flatnonzero(tried.any(1))
        if len(states) > self.visited:  # dreams may begin at what has been visited since
            self.visited = len(states)
            self.model.starts = StartStates(self.model.starts.first, {"place": torch.from_numpy(states)})
            self.envs = DreamVectorEnv(self.model, self.steps, start="replay", observation="latent")
            self.envs.reset(seed=int(rng.integers(2**31)))
        places = self.envs.reset()[0].argmax(1)
        chances = rng.random(tried[places].shape) * tried[places]
        actions = chances.argmax(1)
        observations, rewards, terminated, _, _ = self.envs.step(actions)
        return zip(places, actions, rewards, observations.argmax(1), terminated, strict=True)


class Truth:
    """The real environment's own table, to know the best policy by; the agent never sees it."""

    def __init__(self, env: gym.Env, gamma: float) -> None:
        table = env.unwrapped.P
        self.first, self.gamma = int(env.reset(seed=0)[0]), gamma
        self.reward = np.zeros((len(table), len(table[0])))
        self.going_on = np.zeros((*self.reward.shape, len(table)))
        for state, moves in table.items():
            for action, outcomes in moves.items():
                for probability, following, reward, terminated in outcomes:
                    self.reward[state, action] += probability * reward
                    self.going_on[state, action, following] += probability * (not terminated)
        self.best = self.value(None)

    def value(self, policy: np.ndarray | None) -> float:
        """Value of the first state under `policy` `[S]`; None is the best one."""
        values = np.zeros(len(self.reward))
        for _ in range(2000):
            worth = self.reward + self.gamma * self.going_on @ values
            new = worth.max(1) if policy is None else worth[np.arange(len(values)), policy]
            if np.abs(new - values).max() < 1e-9:
                break
            values = new
        return float(values[self.first])


def dyna_q(
    env_id: str,
    planning: int,
    seed: int,
    *,
    gamma: float = 0.95,
    step_size: float = 0.5,
    exploration: float = 0.1,
    max_steps: int = 50_000,
) -> Found | None:
    """Learn until the greedy policy is the best one; None where `max_steps` real steps were not enough."""
    env = gym.make(env_id, **KWARGS.get(env_id, {}))
    states, actions = int(env.observation_space.n), int(env.action_space.n)
    rng = np.random.default_rng(seed)
    values = np.zeros((states, actions))
    memory = TabularMemory(states, env.action_space)
    planner = Planner(env_id, memory, env.action_space, planning) if planning else None
    truth = Truth(env, gamma)

    def update(place: int, action: int, reward: float, following: int, terminated: bool) -> None:
        ahead = 0.0 if terminated else gamma * values[following].max()
        values[place, action] += step_size * (reward + ahead - values[place, action])

    episodes = real_steps = dreamed = 0
    while real_steps < max_steps:
        place, _ = env.reset(seed=seed + episodes)
        ended = False
        while not ended and real_steps < max_steps:
            if rng.random() < exploration:
                action = int(rng.integers(actions))
            else:
                action = int(rng.choice(np.flatnonzero(values[place] == values[place].max())))
            following, reward, terminated, truncated, _ = env.step(action)
            update(place, action, float(reward), following, terminated)
            real_steps += 1
            if planner is not None:
                memory.count(place, action, float(reward), following, terminated)
                for transition in planner.dream(rng):
                    update(*transition)
                dreamed += planning
            place, ended = following, terminated or truncated
        episodes += 1
        if truth.value(values.argmax(1)) > truth.best - 1e-6:
            return Found(episodes, real_steps, dreamed)
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ids", nargs="+", default=["FrozenLake-v1", "CliffWalking-v1"])
    parser.add_argument("--planning", type=int, nargs="+", default=[0, 5, 50], help="dreamed updates a real step")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--max-steps", type=int, default=50_000)
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    for env_id in arguments.ids:
        for planning in arguments.planning:
            runs = [dyna_q(env_id, planning, seed, max_steps=arguments.max_steps) for seed in range(arguments.seeds)]
            found = [run for run in runs if run is not None]
            row = f"{env_id}, {planning:2} planning steps: best policy in {len(found)} of {len(runs)} seeds"
            if found:
                steps = statistics.median(run.real_steps for run in found)
                episodes = statistics.median(run.episodes for run in found)
                row += f", median {episodes:g} episodes, {steps:g} real steps"
            print(row, flush=True)


if __name__ == "__main__":
    main()
