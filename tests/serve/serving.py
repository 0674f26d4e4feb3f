"""A server in a thread of this process, and small clients for it."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

from websockets.sync.client import ClientConnection, connect

from dreamenv.play.opening import Opening
from dreamenv.serve.server import DreamServer, ServeOptions

PATIENCE = 120.0


@contextmanager
def serving(opening: Opening, **options: Any) -> Iterator[DreamServer]:
    """A server on a free loopback port, stopped at the end."""
    server = DreamServer(opening, ServeOptions(**{"port": 0, **options}))
    thread = threading.Thread(target=server.run, name="server")
    thread.start()
    try:
        wait_until(lambda: get(server.address, "/health")[0] == 200)
        yield server
    finally:
        server.stop()
        thread.join(PATIENCE)
        assert not thread.is_alive(), "the server does not stop"


def wait_until(condition: Any, seconds: float = PATIENCE) -> None:
    """Return once `condition()` holds; fails the test when it does not come to that."""
    end = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except OSError:
            pass  # not listening yet
        assert time.monotonic() < end, f"waited {seconds:g} s in vain"
        time.sleep(0.02)


def get(address: str, path: str, headers: dict[str, str] | None = None) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (names in small letters) and body of a GET."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE)
    try:
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def health(server: DreamServer) -> dict[str, Any]:
    """What /health says."""
    return json.loads(get(server.address, "/health")[2])


class Client:
    """A player without a browser.

    Attributes:
        pictures: How many binary messages of each kind came.
        hello: The first message.
    """

    def __init__(self, server: DreamServer, **options: Any) -> None:
        parts = urlsplit(server.address)
        address = parts._replace(scheme="ws", path="/play").geturl()
        self._open = ExitStack()
        self.socket: ClientConnection = self._open.enter_context(
            connect(address, open_timeout=PATIENCE, close_timeout=10, **options)
        )
        self.pictures: dict[int, int] = {}
        try:
            self.hello = self.wait_for("hello")
        except BaseException:
            self.close()
            raise

    def send(self, kind: str, **fields: Any) -> None:
        """Send a message of type `kind`."""
        self.socket.send(json.dumps({"type": kind, **fields}))

    def receive(self) -> dict[str, Any] | bytes:
        """The next message, counted if it is a picture."""
        message = self.socket.recv(PATIENCE)
        if isinstance(message, bytes):
            self.pictures[message[0]] = self.pictures.get(message[0], 0) + 1
            return message
        return json.loads(message)

    def wait_for(self, kind: str, **fields: Any) -> dict[str, Any]:
        """The next JSON message of type `kind` whose fields have these values."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            message = self.receive()
            if isinstance(message, dict) and message["type"] == kind and fields.items() <= message.items():
                return message
        raise AssertionError(f"no {kind} with {fields} came")

    def picture(self, kind: int) -> bytes:
        """The content of the next binary message of a kind."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            message = self.receive()
            if isinstance(message, bytes) and message[0] == kind:
                return message[1:]
        raise AssertionError(f"no picture of kind {kind} came")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Say good-bye."""
        self._open.close()
