"""Episodes on their way to the disk, several at a time: one by one they would keep hundreds of workers waiting."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType

from dreamenv.data.episodes import EpisodeStore

_AT_ONCE = 8
# More than this many are not held in memory
_MOST_WAITING = 32


class Writing:
    """Writes files of episodes to a store; behind its block all of them are there."""

    def __init__(self, store: EpisodeStore) -> None:
        self._store = store
        self._threads = ThreadPoolExecutor(_AT_ONCE)
        self._waiting: deque[Future[Path]] = deque()

    def put(self, index: int, content: bytes) -> None:
        """Begin to write episode `index`, which is on the disk soon.

        Raises:
            OSError, DreamEnvError: An earlier one could not be written.
        """
        finished, going_on = wait(self._waiting, timeout=0)
        self._waiting = deque(write for write in self._waiting if write in going_on)
        for write in finished:
            write.result()
        if len(self._waiting) >= _MOST_WAITING:
            self._waiting.popleft().result()
        self._waiting.append(self._threads.submit(self._store.put, index, content))

    def __enter__(self) -> Writing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(wait=True)
        if error is None:
            for write in self._waiting:
                write.result()
