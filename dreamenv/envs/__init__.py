"""Dreams as Gymnasium environments, and real environments seen as a dream shows them."""

from dreamenv.envs.disagreement import DisagreementBonus, VectorDisagreementBonus
from dreamenv.envs.dream_env import DreamEnv
from dreamenv.envs.dream_vector_env import DreamVectorEnv
from dreamenv.envs.latent_observation import LatentEnv, LatentObservation
from dreamenv.envs.latent_vector_env import latent_vector_env
from dreamenv.envs.loading import open_world_model
from dreamenv.envs.rollout import DreamRollout
from dreamenv.noise.hashed import EpisodeNoise

__all__ = [
    "DisagreementBonus",
    "DreamEnv",
    "DreamRollout",
    "DreamVectorEnv",
    "EpisodeNoise",
    "LatentEnv",
    "LatentObservation",
    "VectorDisagreementBonus",
    "latent_vector_env",
    "open_world_model",
]
