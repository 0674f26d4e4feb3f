"""The websocket: what is answered to players who play, and to those who do not."""

from __future__ import annotations

import json
import socket
import struct
import time
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import ConnectionClosed

from dreamenv.serve.connection import Close
from dreamenv.serve.messages import LARGEST_MESSAGE
from dreamenv.serve.pictures import Kind
from dreamenv.serve.server import DreamServer
from tests.play.openings import small_opening
from tests.serve.serving import PATIENCE, Client, health, serving, wait_until


def closing(client: Client) -> tuple[int | None, list[str]]:
    """Read until the server closes: the code, and the codes of the errors that came before."""
    codes: list[str] = []
    try:
        while True:
            message = client.receive()
            if isinstance(message, dict) and message["type"] == "error":
                codes.append(message["code"])
    except ConnectionClosed as closed:
        return None if closed.rcvd is None else closed.rcvd.code, codes


def test_a_player_plays() -> None:
    with serving(small_opening(real={})) as server, Client(server) as client:
        assert client.picture(Kind.DREAM)[:4] == b"RIFF"
        client.send("keys", keys=["LEFT"])
        client.send("wheel", wheel="agent")
        assert client.wait_for("status", wheel="agent")["world"] == "dream"
        client.send("view", view="fan")
        client.wait_for("status", view="fan")
        assert client.picture(Kind.FAN)[:4] == b"RIFF"
        client.send("take", future=2)
        client.wait_for("status", view="drive")
        client.send("world", world="real")
        client.wait_for("status", world="real")
        assert client.picture(Kind.REAL)[:4] == b"RIFF"
        assert health(server)["real_games"] == 1
        client.send("pause", paused=True)
        client.wait_for("status", paused=True)
        assert health(server)["players"] == 1
        client.close()
        wait_until(lambda: health(server)["players"] == 0)
        assert health(server)["real_games"] == 0, "the real game has ended with its player"


def test_bad_messages_are_answered_and_the_game_goes_on() -> None:
    with serving(small_opening()) as server, Client(server) as client:
        for bad in ("{", '{"type": "fly"}', '{"type": "rate", "value": -1}', b"\x00\x01"):
            client.socket.send(bad)
            assert client.wait_for("error")["code"] == "bad_message"
        client.send("rate", value=20)
        client.wait_for("status", rate=20)


def test_text_that_is_no_text_closes_the_connection() -> None:
    with serving(small_opening()) as server:
        with Client(server) as client:
            client.socket.send(b"\xff\xfe", text=True)
            # Some releases of uvicorn say why (1007), some hang up
            assert closing(client)[0] in (1007, None)
        wait_until(lambda: health(server)["players"] == 0)
        with Client(server) as client:
            client.picture(Kind.DREAM)


def test_an_oversized_message_closes_the_connection() -> None:
    with serving(small_opening()) as server:
        with Client(server) as client:
            client.socket.send("x" * LARGEST_MESSAGE)
            assert client.wait_for("error")["code"] == "bad_message"
            client.socket.send("x" * (LARGEST_MESSAGE + 1))
            assert closing(client)[0] == Close.TOO_BIG
        wait_until(lambda: health(server)["players"] == 0)
        with Client(server) as client:
            client.picture(Kind.DREAM)


def test_too_many_messages_are_dropped_and_then_the_player_is_sent_away() -> None:
    with serving(small_opening()) as server:
        with Client(server) as client:
            text = json.dumps({"type": "keys", "keys": []})
            try:
                for _ in range(4000):
                    client.socket.send(text)
            except ConnectionClosed:
                pass
            code, errors = closing(client)
            assert code == Close.BAD_MESSAGES
            assert errors[-1] == "refused"
            assert set(errors[:-1]) == {"too_many_messages"}
        wait_until(lambda: health(server)["players"] == 0)


def test_a_silent_player_is_sent_away() -> None:
    with serving(small_opening(), idle_seconds=1.0) as server:
        with Client(server) as client:
            begin = time.monotonic()
            assert closing(client) == (Close.IDLE, ["idle"])
            assert time.monotonic() - begin >= 0.5
        with Client(server) as client:
            client.send("pause", paused=True)
            assert closing(client) == (Close.IDLE, ["idle"]), "also when the game is at rest"
        wait_until(lambda: health(server)["players"] == 0)


@pytest.mark.parametrize("rude", [True, False], ids=["reset", "half open"])
def test_a_dead_client_is_noticed(rude: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose connection is reset, and one that answers no ping and takes no picture any more."""
    monkeypatch.setattr("dreamenv.serve.server._PING_SECONDS", 1.0)
    monkeypatch.setattr("dreamenv.serve.connection._SECONDS_TO_SEND", 2.0)
    with serving(small_opening(), idle_seconds=10 * PATIENCE) as server:
        dead = _raw_player(server)
        wait_until(lambda: health(server)["players"] == 1)
        if rude:
            dead.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            dead.close()
        begin = time.monotonic()
        wait_until(lambda: health(server)["players"] == 0)
        print(f"a dead client's place was free after {time.monotonic() - begin:.1f} s")
        dead.close()
        with Client(server) as client:
            client.picture(Kind.DREAM)


def _raw_player(server: DreamServer) -> socket.socket:
    """A websocket whose owner shakes hands and then neither reads nor writes."""
    parts = urlsplit(server.address)
    raw = socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE)
    raw.sendall(
        f"GET /play HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    assert b"101 Switching Protocols" in raw.recv(4096)
    return raw


def test_an_error_of_our_own_ends_the_game_and_not_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(small_opening()) as server:
        with Client(server) as client:

            def fail(*_: Any) -> None:
                raise ZeroDivisionError("a bug")

            monkeypatch.setattr("dreamenv.serve.session.Session.turn", fail)
            assert closing(client) == (Close.SERVER_ERROR, ["server_error"])
        monkeypatch.undo()
        with Client(server) as client:
            client.picture(Kind.DREAM)


def test_the_server_stops_while_someone_plays() -> None:
    with serving(small_opening()) as server:
        client = Client(server)
        client.picture(Kind.DREAM)
    assert closing(client)[0] == 1012
    client.close()
