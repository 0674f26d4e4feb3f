"""Dreams in whatever state the process around them is: inference mode, another default dtype, a fork."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from dreamenv.envs import DreamEnv, DreamVectorEnv, loading
from dreamenv.world_model import WorldModel
from tests.fakes import BOX, trained_like_world_model

PAIR = np.tile(BOX.low, (2, 1))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    trained_like_world_model(image=False).save(folder)
    return folder


def returns_of(env: DreamVectorEnv, steps: int = 6) -> list[float]:
    env.reset(seed=3)
    return [float(env.step(PAIR)[1].sum()) for _ in range(steps)]


def test_a_dream_made_in_inference_mode_goes_on_outside(bundle: Path) -> None:
    loading._cache.clear()
    expected = returns_of(DreamVectorEnv(WorldModel.load(bundle), 2))
    with torch.inference_mode():
        env, single = DreamVectorEnv(bundle, 2), DreamEnv(bundle)
        assert returns_of(env) == expected
        single.reset(seed=0)
        env.reset(seed=3)
    single.step(PAIR[0])
    # some rows begin anew, which writes into the state
    env.reset(options={"reset_mask": np.array([True, False])})
    env.step(PAIR)
    assert returns_of(DreamVectorEnv(bundle, 2)) == expected  # the model that is kept for the process is sound


def test_another_default_dtype_changes_nothing(bundle: Path) -> None:
    expected = returns_of(DreamVectorEnv(WorldModel.load(bundle), 2))
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        model = WorldModel.load(bundle)
        env = DreamVectorEnv(model, 2)
        assert {part.dtype for part in model.memory.parameters()} == {torch.float32}
        assert env.reset(seed=0)[0].dtype == np.float32
        assert returns_of(env) == expected
        assert torch.get_default_dtype() == torch.float64  # the caller's is left as it is
    finally:
        torch.set_default_dtype(before)


def in_child(work: Callable[[], None], seconds: float) -> int | None:
    """Exit status of a forked child that does `work`; None where it never ends."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_computes_although_its_parent_had_threads(bundle: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        wide = torch.ones(1000, 1000)
        (wide @ wide).half()  # now there are threads, which the child will lack

        def work() -> None:
            (wide @ wide).half()
            env = DreamVectorEnv(bundle, 2)
            env.reset(seed=0)
            env.step(PAIR)

        with loading._lock:  # as another thread may hold it, which the child lacks too
            assert in_child(work, seconds=60) == 0
    finally:
        torch.set_num_threads(threads)
