"""Dreams for Stable-Baselines3: the one place that imports it.

>>> from stable_baselines3 import PPO
>>> from dreamenv.sb3 import DreamVecEnv
>>> PPO("MlpPolicy", DreamVecEnv("DreamCarRacing-v1", num_envs=64)).learn(100_000)
"""

from dreamenv.sb3.branches import Branches, BranchSchedule
from dreamenv.sb3.callbacks import Comparison, DreamRealCallback, RealFramesCallback
from dreamenv.sb3.critic import CriticCallback
from dreamenv.sb3.imagination import ImaginationAugmented, ImitateInImagination
from dreamenv.sb3.mbpo import Epoch, MBPOOptions, learn_mbpo, read_mbpo
from dreamenv.sb3.mixed_buffer import MixedReplayBuffer
from dreamenv.sb3.mixing import MixingCallback
from dreamenv.sb3.models import ALGORITHMS, algorithm, load_model
from dreamenv.sb3.vec_env import DreamVecEnv

__all__ = [
    "ALGORITHMS",
    "BranchSchedule",
    "Branches",
    "Comparison",
    "CriticCallback",
    "DreamRealCallback",
    "DreamVecEnv",
    "Epoch",
    "ImaginationAugmented",
    "ImitateInImagination",
    "MBPOOptions",
    "MixedReplayBuffer",
    "MixingCallback",
    "RealFramesCallback",
    "algorithm",
    "learn_mbpo",
    "load_model",
    "read_mbpo",
]
