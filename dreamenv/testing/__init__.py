"""For tests of your own: the contracts of memory and vision as checks, and world models whose dreams are known."""

from dreamenv.testing.fakes import CountingMemory, NoisyMemory, fake_world_model
from dreamenv.testing.memory_checks import check_memory
from dreamenv.testing.vision_checks import check_vision

__all__ = ["CountingMemory", "NoisyMemory", "check_memory", "check_vision", "fake_world_model"]
