"""Dreams for Stable-Baselines3: the one place that imports it.

>>> from stable_baselines3 import PPO
>>> from dreamenv.sb3 import DreamVecEnv
>>> PPO("MlpPolicy", DreamVecEnv("DreamCarRacing-v0", num_envs=64)).learn(100_000)
"""

from dreamenv.sb3.vec_env import DreamVecEnv

__all__ = ["DreamVecEnv"]
