"""Whether a Ray cluster answers at an address; Ray is not needed for it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dreamenv.errors import ConfigurationError
from dreamenv.workers import ray_cluster

# The head of an empty frame of settings: length, type, flags, stream
SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


@contextmanager
def listening(answer: bytes | None) -> Iterator[str]:
    """The address of a server that answers so to whatever it is sent; None: not at all."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                if answer is None:
                    connection.recv(1000)  # until the other side gives up
                else:
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join()


@pytest.mark.parametrize("form", ["", "ray://"])
def test_what_begins_as_ray_does_answers(form: str) -> None:
    with listening(SETTINGS) as address:
        ray_cluster._check_answer(form + address)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "timed out"),
        (b"", "something other than Ray listens there"),
        (b"HTTP/1.1 400 Bad Request", "something other than Ray listens there"),
    ],
)
def test_who_is_silent_or_something_else_does_not(
    answer: bytes | None, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_cluster, "_SECONDS_TO_ANSWER", 0.1)
    message = rf"127.0.0.1:\d+ does not answer .*{reason}"
    with listening(answer) as address, pytest.raises(ConfigurationError, match=message):
        ray_cluster._check_answer(address)


def test_an_encrypted_cluster_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would take the greeting for a broken one."""
    monkeypatch.setenv("RAY_USE_TLS", "1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        ray_cluster._check_answer(f"127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(ConfigurationError, match="does not answer"):
            ray_cluster._check_answer("127.0.0.1:1")
