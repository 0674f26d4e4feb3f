"""A batch of dreams belongs to one thread at a time."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dreamenv.envs import DreamEnv, DreamVectorEnv
from dreamenv.envs.rollout import OneThread
from dreamenv.errors import StepError
from dreamenv.testing.fakes import fake_world_model


def in_another_thread(work: Callable[[], Any]) -> BaseException | None:
    found: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0] if found else None


@pytest.mark.parametrize("make", [DreamEnv, lambda model: DreamVectorEnv(model, 3)])
def test_a_second_thread_is_told_so(make: Callable[[Any], Any]) -> None:
    env = make(fake_world_model())
    env.reset(seed=0)
    state, action = env.get_state(), env.action_space.sample()
    with env.one_thread:  # the first thread is within a step
        for work in (lambda: env.step(action), env.reset, env.get_state, lambda: env.set_state(state)):
            error = in_another_thread(work)
            assert isinstance(error, StepError)
            assert "another thread" in str(error)
    assert in_another_thread(lambda: env.step(action)) is None
    env.step(action)


def test_threads_that_race_leave_dreams_as_they_were() -> None:
    """Steps that succeed are those of one thread, in some order: the dream is the one that steps in turn give."""
    model = fake_world_model()
    envs, alone = DreamVectorEnv(model, 16), DreamVectorEnv(model, 16)
    action = np.stack([envs.single_action_space.sample() for _ in range(16)])
    envs.reset(seed=3)
    alone.reset(seed=3)
    counts = [0] * 4

    def work(number: int) -> None:
        for _ in range(100):
            try:
                envs.step(action)
            except StepError:
                continue
            counts[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _ in range(sum(counts)):
        alone.step(action)
    assert counts[0] > 0
    np.testing.assert_array_equal(envs.step(action)[0], alone.step(action)[0])


def test_copies_have_a_guard_of_their_own() -> None:
    guard = OneThread()
    with guard:
        for twin in (copy.deepcopy(guard), pickle.loads(pickle.dumps(guard))):  # noqa: S301
            assert in_another_thread(twin.__enter__) is None
        assert isinstance(in_another_thread(guard.__enter__), StepError)
