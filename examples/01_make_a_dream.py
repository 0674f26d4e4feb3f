"""A trained world model is a Gymnasium environment: make one, and act in it at random.

Takes: seconds.

python examples/01_make_a_dream.py [ID]
"""

import sys

import gymnasium as gym

import dreamenv  # noqa: F401  (importing registers the ids)

name = sys.argv[1] if len(sys.argv) > 1 else "DreamDoom-v0"

# One dream. `seed` fixes all of it: the start state and every random number that the model draws.
env = gym.make(name)
env.action_space.seed(0)
observation, info = env.reset(seed=0)
total, steps, ended = 0.0, 0, False
while not ended:
    observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
    total, steps, ended = total + float(reward), steps + 1, terminated or truncated
print(f"{name}: features {observation.shape}, {steps} dreamed actions, dreamed return {total:.1f}")
env.close()

# 64 dreams are one batched computation; an ended one begins anew by itself.
envs = gym.make_vec(name, num_envs=64)
envs.action_space.seed(0)
observations, infos = envs.reset(seed=0)
ends = 0
for _ in range(50):
    observations, rewards, terminated, truncated, infos = envs.step(envs.action_space.sample())
    ends += int((terminated | truncated).sum())
print(f"{name} × 64: features {observations.shape}, {ends} dreams ended within 50 actions")
envs.close()
