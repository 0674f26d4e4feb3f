"""Connections that say nothing, or half of something."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from dreamenv.serve import patience
from dreamenv.serve.patience import WaitingRoom
from dreamenv.serve.server import DreamServer
from tests.play.openings import small_opening
from tests.serve.serving import PATIENCE, Client, get, health, serving


@contextmanager
def connected(server: DreamServer, sent: bytes) -> Iterator[socket.socket]:
    """A connection over which so much was sent."""
    parts = urlsplit(server.address)
    with socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE) as made:
        made.sendall(sent)
        yield made


def ended(connection: socket.socket) -> bool:
    """Wait until the server closes the connection."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionError:
        pass
    return True


def test_silent_and_half_sent_requests_are_closed_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert patience.SECONDS_TO_ASK == 10.0
    monkeypatch.setattr(patience, "SECONDS_TO_ASK", 0.3)
    half = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    with serving(small_opening()) as server, Client(server) as client, ExitStack() as stack:
        for sent in (b"", b"G", half + b"X-"):
            assert ended(stack.enter_context(connected(server, sent))), sent
        # What follows an answer is uvicorn's to wait for
        assert server._server.config.timeout_keep_alive <= 10
        client.send("rate", value=7)
        client.wait_for("status", rate=7)  # a websocket may be older than that
        # A busy machine may need longer than that for a page
        monkeypatch.setattr(patience, "SECONDS_TO_ASK", 10.0)
        assert get(server.address, "/")[0] == 200


def test_one_address_shuts_out_its_own_waiting_connections_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "MOST_FROM_ONE_ADDRESS", 5)
    with serving(small_opening()) as server, ExitStack() as stack:
        waiting = [stack.enter_context(connected(server, b"GET / HTTP/1.1\r\nX-")) for _ in range(12)]
        assert health(server)["status"] == "ok", "a whole request finds its place"
        assert all(map(ended, waiting[:7])), "those that waited longest were closed"
        waiting[-1].sendall(b"A: b\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        assert waiting[-1].recv(12) == b"HTTP/1.1 200"


def test_the_room_is_bounded_in_all_and_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "MOST_WAITING", 3)
    room = WaitingRoom()

    class Visitor:
        def __init__(self, address: str) -> None:
            self.address, self.turned_away = address, False
            room.enter(self, address)  # type: ignore[arg-type]

        def give_up(self) -> None:
            self.turned_away = True
            room.leave(self, self.address)  # type: ignore[arg-type]

    visitors = [Visitor(f"10.0.0.{number}") for number in range(5)]
    assert [visitor.turned_away for visitor in visitors] == [True, True, False, False, False]
    kept: Any = visitors[2:]
    for visitor in kept:
        room.leave(visitor, visitor.address)
        room.leave(visitor, visitor.address)
    assert (len(room), room._by_address) == (0, {})
