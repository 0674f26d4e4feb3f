"""With nothing but the package's own requirements installed, what needs an extra says which one."""

from __future__ import annotations

from tests.conftest import RunPython

# Packages that only extras bring; None in sys.modules makes their import fail, as if they were not installed
_WITHOUT_EXTRAS = """
import importlib, pkgutil, sys
for package in ("Box2D", "PIL", "cma", "cv2", "dm_control", "fastapi", "h5py", "imageio", "matplotlib", "minari",
                "mujoco", "pygame", "ray", "sb3_contrib", "scipy", "segno", "shimmy", "stable_baselines3",
                "tensorboard", "torch.utils.tensorboard", "uvicorn", "vizdoom"):
    sys.modules[package] = None
import dreamenv
from dreamenv.errors import MissingExtraError
"""


def test_every_module_is_imported_or_names_the_extra_that_it_needs(run_python: RunPython) -> None:
    code = """
for found in pkgutil.walk_packages(dreamenv.__path__, "dreamenv."):
    # `dreamenv serve` looks for what its page needs before it imports the page
    if found.name.startswith("dreamenv.serve.") or found.name == "dreamenv.__main__":
        continue
    try:
        importlib.import_module(found.name)
    except MissingExtraError:
        pass
    except ImportError as error:
        print(found.name, error)
"""
    assert run_python("-c", _WITHOUT_EXTRAS + code).stdout == ""


def test_pictures_that_need_opencv_say_so(run_python: RunPython) -> None:
    code = """
import gymnasium as gym, numpy as np
from dreamenv.data.car_racing_road import UnvisitedRoad
from dreamenv.vision.small_things import SmallThings

class Pictures(gym.Env):
    observation_space = gym.spaces.Box(0, 255, (96, 96, 3), np.uint8)
    action_space = gym.spaces.Discrete(2)

for use in (lambda: SmallThings(np.zeros((2, 8, 8, 3), np.uint8)), lambda: UnvisitedRoad(Pictures())):
    try:
        use()
    except MissingExtraError as error:
        print(error)
"""
    printed = run_python("-c", _WITHOUT_EXTRAS + code).stdout.splitlines()
    assert [line.split("[")[1].rstrip("]'") for line in printed] == ["train", "real"]
