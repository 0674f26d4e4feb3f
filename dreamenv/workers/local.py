"""Workers that are processes of this machine."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from types import FrameType
from typing import Any

from dreamenv.errors import CollectionError, ConfigurationError
from dreamenv.main_guard import UNGUARDED, WORKER_NAME
from dreamenv.workers.pool import MakeRunner, Pool, Worker, WorkerDied

# A worker that has not unwound by then is killed
_SECONDS_TO_STOP = 10.0
_numbers = itertools.count(1)


class TaskTraceback(Exception):
    """Where in a worker an error was raised: its cause in this process."""

    def __str__(self) -> str:
        return f"in a worker:\n{self.args[0]}"


class LocalPool(Pool["LocalWorker"]):
    """Processes that are spawned, so that a script needs its `if __name__ == "__main__"`.

    Args:
        make_runner, setup: As for `run_tasks`.
        size: Workers to have at a time.
    """

    def __init__(self, make_runner: MakeRunner, setup: Any, *, size: int) -> None:
        self._parcel = pickle.dumps((make_runner, setup))
        self.size = size

    def hire(self) -> LocalWorker:
        return LocalWorker(self._parcel)

    def wait(self, workers: Sequence[LocalWorker], seconds: float | None) -> Sequence[LocalWorker]:
        by_connection: dict[Any, LocalWorker] = {worker.connection: worker for worker in workers}
        return [by_connection[found] for found in wait(list(by_connection), seconds)]

    def dismiss(self, workers: Sequence[LocalWorker]) -> None:
        try:
            for worker in workers:
                worker.ask_to_stop()
            until = time.monotonic() + _SECONDS_TO_STOP
            for worker in workers:
                worker.process.join(max(0.0, until - time.monotonic()))
        finally:  # a second Ctrl-C must not leave any behind
            for worker in workers:
                worker.kill()


class LocalWorker(Worker):
    """One process, at the other end of a pipe, by which it gets maker and setup pickled, and then its tasks."""

    def __init__(self, parcel: bytes) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(
            target=_serve, args=(theirs,), daemon=True, name=f"{WORKER_NAME}{next(_numbers)}"
        )
        with _without_interrupt():
            self.process.start()
        theirs.close()
        # No argument of the process: a start waits until the arguments are read, and a process that dies first never
        # reads them. And the next worker need not wait until this one has imported what it imports
        self._sending = threading.Thread(target=self._send, args=(parcel,), daemon=True)
        self._sending.start()

    def _send(self, parcel: bytes) -> None:
        with suppress(OSError):  # it died; `take` notices
            self.connection.send_bytes(parcel)

    def give(self, task: Any) -> None:
        try:
            self.connection.send(task)
        except OSError:
            pass  # it died while idle; `take` notices

    def take(self) -> Any:
        try:
            kind, value = self.connection.recv()
        except (EOFError, OSError):
            code = self._bury()
            if code == UNGUARDED:
                raise ConfigurationError(
                    "the script starts its workers again in each worker: put what it runs below "
                    '`if __name__ == "__main__":`, or use workers=0'
                ) from None
            raise WorkerDied(f"exit code {code}") from None
        if kind == "error":
            error, trace = value
            raise error from TaskTraceback(trace)
        return value

    def ask_to_stop(self) -> None:
        self._close()
        self.process.terminate()

    def kill(self) -> None:
        if self.process.is_alive():
            self.process.kill()
        self._bury()
        self._sending.join(_SECONDS_TO_STOP)
        self._close()

    def _close(self) -> None:
        """Not while the parcel is sent: its rest would go into whatever file gets the connection's number next."""
        if not self._sending.is_alive():
            self.connection.close()

    def _bury(self) -> int | None:
        """Exit code of the dead process, whose own children (ViZDoom's engine) would outlive it."""
        if self.process.pid is not None and hasattr(os, "killpg"):
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass  # it left none, or died before it had a group of its own
        self.process.join()
        return self.process.exitcode


@contextmanager
def _without_interrupt() -> Iterator[None]:
    """A process that is started within it is deaf to Ctrl-C until it says otherwise; this one hears it, and SIGTERM,
    afterwards: half a start would leave a process that prints what it could not read."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    with _afterwards(signal.SIGINT, signal.SIGTERM):
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _afterwards(*numbers: signal.Signals) -> Iterator[None]:
    """Signals that this process handles in Python are handled behind the block. A mask would not do: the kernel gives
    them to another thread, and Python handles them in the main one."""
    heard: list[tuple[int, FrameType | None]] = []
    own = {number: signal.getsignal(number) for number in numbers}
    handlers = {number: handler for number, handler in own.items() if callable(handler)}
    if threading.current_thread() is not threading.main_thread():
        handlers = {}  # it is never interrupted
    for number in handlers:
        signal.signal(number, lambda *signalled: heard.append(signalled))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if heard:
            handlers[signal.Signals(heard[0][0])](*heard[0])


def _serve(connection: Connection) -> None:
    _prepare_process(connection)
    try:
        kind, made = _attempt(_make_runner, connection.recv_bytes())
        _tell(connection, kind, None if kind == "result" else made)
        while kind == "result":
            kind, value = _attempt(made, connection.recv())
            _tell(connection, kind, value)
    except (EOFError, OSError):
        pass  # the parent needs no more
    finally:
        _be_quiet()


def _make_runner(parcel: bytes) -> Callable[[Any], Any]:
    """The runner; what it needs is imported only now, when the process heeds its parent."""
    make_runner, setup = pickle.loads(parcel)  # noqa: S301 (bytes of the parent)
    runner: Callable[[Any], Any] = make_runner(setup)
    return runner


def _attempt(call: Callable[[Any], Any], argument: Any) -> tuple[str, Any]:
    """What a call gives, or its error: that is not a death, since it would come again."""
    try:
        return "result", call(argument)
    except Exception as error:
        return "error", (portable(error), traceback.format_exc())


def _tell(connection: Connection, kind: str, value: Any) -> None:
    try:
        connection.send((kind, value))
    except OSError:
        raise
    except Exception as error:  # a result that cannot be pickled
        connection.send(("error", (portable(error), traceback.format_exc())))


def _prepare_process(connection: Connection) -> None:
    # A process that the runner starts must not hold this end open: the death of the worker would go unnoticed
    os.set_inheritable(connection.fileno(), False)
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)  # so that `_bury` reaches those processes, and Ctrl-C reaches the parent alone
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    parent = multiprocessing.parent_process()
    assert parent is not None
    _end_with(parent.sentinel)
    signal.signal(signal.SIGTERM, _unwind)


def _unwind(*_: Any) -> None:
    """Let the runner's environments end the processes of their own (ViZDoom's engine)."""
    _be_quiet()
    sys.exit(0)


def _be_quiet() -> None:
    """On the way out nobody reads what is printed, and a second unwinding would only print."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with suppress(Exception):  # closed, or its reader is gone
        sys.stdout.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(nowhere, number)
    os.close(nowhere)


def _end_with(sentinel: int) -> None:
    """Die with the parent, and at once: the same command may be at work again already."""
    if sys.platform == "linux":
        import fcntl

        # The kernel kills the whole group when the parent's end is closed. A thread has to wait for its turn, and the
        # start of a game may take seconds in which no other thread has one.
        fcntl.fcntl(sentinel, fcntl.F_SETOWN, -os.getpgid(0))
        fcntl.fcntl(sentinel, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(sentinel, fcntl.F_SETFL, fcntl.fcntl(sentinel, fcntl.F_GETFL) | os.O_ASYNC)
    threading.Thread(target=_wait_for_the_end, args=(sentinel,), daemon=True).start()


def _wait_for_the_end(sentinel: int) -> None:
    wait([sentinel])
    if hasattr(os, "killpg") and os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def portable(error: Exception) -> Exception:
    """`error` itself where it survives the way to the parent, else a CollectionError that quotes it."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 (our own bytes, as multiprocessing would read them)
    except Exception:
        return CollectionError(f"{type(error).__name__}: {error}")
    return error
