"""A real environment in a process of its own, so that a game which is slow, or dies, holds up nobody else."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from multiprocessing.connection import Connection
from typing import Any, SupportsFloat

import gymnasium as gym

from dreamenv.data.preprocess import make_real_env
from dreamenv.errors import CollectionError, DreamEnvError
from dreamenv.types import RealEnvSpec

_SECONDS_TO_CLOSE = 5.0


class RealEnvProcess(gym.Env[Any, Any]):
    """The real environment of a spec, not yet preprocessed, stepped in another process.

    The process also takes the game's Python time off this one's interpreter lock, which CarRacing would hold for most
    of a second in every second.

    Args:
        spec: The real environment.
        seconds_to_answer: How long a call may take; starting the game counts as one.

    Raises:
        MissingExtraError: The environment's package is not installed.
        UnknownDreamError, ConfigurationError: See `make_real_env`.
        CollectionError: The game does not start, or (of every call) died or does not answer.
    """

    metadata: dict[str, Any] = {"render_modes": []}

    def __init__(self, spec: RealEnvSpec, *, seconds_to_answer: float = 120.0) -> None:
        self._id = spec.id
        self._seconds_to_answer = seconds_to_answer
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, spec), daemon=True)
        self._process.start()
        theirs.close()
        self._closed = False
        try:
            self.observation_space, self.action_space = self._answer()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int | None:
        """The process's id."""
        return self._process.pid

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        return self._ask("reset", {"seed": seed, "options": options})

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take one action."""
        return self._ask("step", {"action": action})

    def close(self) -> None:
        """End the game and its process; a game that does not end by itself is killed."""
        if self._closed:
            return
        self._closed = True
        self._connection.close()  # the process reads the end of the pipe, and leaves
        self._process.join(_SECONDS_TO_CLOSE)
        if self._process.is_alive():
            self._process.kill()
        if self._process.pid is not None and hasattr(os, "killpg"):
            try:
                os.killpg(self._process.pid, signal.SIGKILL)  # ViZDoom's engine would outlive a killed process
            except (ProcessLookupError, PermissionError):
                pass
        self._process.join()

    def _ask(self, method: str, arguments: dict[str, Any]) -> Any:
        try:
            self._connection.send((method, arguments))
        except (OSError, ValueError) as error:
            raise CollectionError(f"the process of {self._id} has ended: {error}") from error
        return self._answer()

    def _answer(self) -> Any:
        try:
            if not self._connection.poll(self._seconds_to_answer):
                raise CollectionError(f"{self._id} did not answer within {self._seconds_to_answer:g} s")
            error, value = self._connection.recv()
        except (EOFError, OSError) as death:
            raise CollectionError(f"the process of {self._id} died; reset to start it anew") from death
        if error is not None:
            raise error
        return value


def _serve(connection: Connection, spec: RealEnvSpec) -> None:
    os.set_inheritable(connection.fileno(), False)  # the game's own process must not hold the pipe open
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)  # so that `close` reaches that process, and Ctrl-C reaches the parent alone
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    env: gym.Env[Any, Any] | None = None
    try:
        env = make_real_env(spec).env
        connection.send((None, (env.observation_space, env.action_space)))
        while True:
            method, arguments = connection.recv()
            connection.send((None, getattr(env, method)(**arguments)))
    except (EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        pass
    except Exception as error:
        known = error if isinstance(error, DreamEnvError) else CollectionError(f"{spec.id}: {error!r}")
        connection.send((known, None))
    finally:
        if env is not None:
            env.close()
