"""Who may come in."""

from __future__ import annotations

import logging
import re
import socket
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from dreamenv.errors import ConfigurationError
from dreamenv.serve.access import choose_token, is_loopback
from dreamenv.serve.announcement import announcement
from dreamenv.serve.server import PAGE, DreamServer, ServeOptions, create_app
from tests.fakes import trained_like_world_model
from tests.play.openings import CHOICE, open_model, small_opening
from tests.serve.serving import Client, get, serving


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        *[(host, True) for host in ("127.0.0.1", "127.8.9.1", "::1", "[::1]", "localhost")],
        *[(host, False) for host in ("0.0.0.0", "::", "192.168.1.4", "example.org", "")],
    ],
)
def test_loopback_is_recognised(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_a_token_is_made_where_others_can_reach_the_server() -> None:
    assert choose_token("127.0.0.1", None) is None
    tokens = {choose_token("0.0.0.0", None) for _ in range(5)}
    assert len(tokens) == 5
    assert all(re.fullmatch(r"[\w-]{32}", token or "") for token in tokens)
    assert choose_token("127.0.0.1", "my-own-token") == "my-own-token"
    for bad in ("short", "with space and more", "ümlaut-ümlaut"):
        with pytest.raises(ConfigurationError, match="at least 8"):
            choose_token("127.0.0.1", bad)


def test_the_page_is_whole_and_loads_nothing_from_a_foreign_host() -> None:
    texts = {file.name: file.read_text(encoding="utf-8") for file in PAGE.iterdir()}
    for name, whole in texts.items():
        text = re.sub(r"<a href=\"https://[^\"]+\" rel=\"noreferrer\">", "", whole)  # a link loads nothing by itself
        addresses = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"')]*", text)) - {"http://www.w3.org/2000/svg"}
        assert addresses == set(), name
        for wanted in re.findall(r"(?:from|src=|href=)\s*\"(?:\./)?([\w.-]+)\"", text):
            assert wanted in texts, f"{name} wants {wanted}"


def test_the_page_and_health_are_served_to_this_machine() -> None:
    with serving(small_opening()) as server:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", server.address)
        status, headers, body = get(server.address, "/")
        assert status == 200
        assert b"<canvas" in body
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "*" not in policy
        assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")
        assert "server" not in headers
        for file in PAGE.iterdir():
            status, headers, body = get(server.address, f"/{file.name}")
            assert (status, body) == (200, file.read_bytes())
            assert "content-security-policy" in headers
        status, _, body = get(server.address, "/health")
        assert status == 200
        assert b'"players":0' in body
        for nowhere in ("/nothing", "/docs", "/openapi.json", "/../server.py", "/%2e%2e/server.py"):
            assert get(server.address, nowhere)[0] == 404
        for malformed in (
            "//evil.example/",
            "/%00",
            "/%0d%0aX:",
            "/\\evil.example",
            "/" + 2000 * "x",
            "http://evil.example/",
        ):
            assert get(server.address, malformed)[0] == 400, malformed
        for origin in ("http://[", "http://host:port", "http://[::1"):
            assert get(server.address, "/", {"Origin": origin})[0] == 400, origin
        # A name of somebody's own that points to this machine (DNS rebinding)
        assert get(server.address, "/", {"Host": "evil.example"})[0] == 421
        assert get(server.address, "/health", {"Host": "evil.example"})[0] == 421
        address = server.address.replace("http", "ws") + "play"
        for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}):
            with pytest.raises(InvalidStatus) as refused, connect(address, additional_headers=headers):
                pass
            assert refused.value.response.status_code == 403
        for origin in ("http://[", "http://host:port"):
            with pytest.raises(InvalidStatus) as refused, connect(address, additional_headers={"Origin": origin}):
                pass
            assert refused.value.response.status_code == 400
        with Client(server, origin=server.address.rstrip("/")) as client:
            assert client.hello["id"] == "DreamSmall-v0"


def test_a_websocket_to_another_place_is_refused_without_an_error(caplog: pytest.LogCaptureFixture) -> None:
    with serving(small_opening()) as server:
        for path in ("", "nowhere", "main.js", "play/more"):
            with pytest.raises(InvalidStatus) as refused, connect(server.address.replace("http", "ws") + path):
                pass
            assert refused.value.response.status_code == 403, path
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_beyond_this_machine_the_token_opens_all_but_health() -> None:
    with serving(small_opening(), token="right-token-1") as server:
        assert server.address.endswith("/?token=right-token-1")
        assert get(server.address, "/health")[0] == 200
        for path in ("/", "/main.js", "/?token=wrong-token-1", "/?token="):
            status, headers, body = get(server.address, path)
            assert status == 401
            assert b"token" in body
            assert "content-security-policy" in headers
        status, headers, _ = get(server.address, "/?token=right-token-1")
        assert (status, headers["location"]) == (303, "/"), "the token leaves the address bar"
        assert get(server.address, "//evil.example/?token=right-token-1")[0] == 400, "it would lead to another host"
        cookie = headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "samesite=lax" in cookie.lower()
        kept = {"Cookie": cookie.split(";")[0]}
        assert get(server.address, "/", kept)[0] == 200
        assert get(server.address, "/", {"Cookie": kept["Cookie"][:-1] + "x"})[0] == 401
        bare = server.address.partition("?")[0].replace("http", "ws") + "play"
        with pytest.raises(InvalidStatus), connect(bare):
            pass
        with connect(bare, additional_headers=kept) as socket_with_cookie:
            assert '"hello"' in str(socket_with_cookie.recv(60))
        with Client(server) as client:  # with the token in its address
            assert client.hello["type"] == "hello"


def test_a_host_beyond_loopback_is_announced_by_an_address_that_phones_can_open() -> None:
    server = DreamServer(small_opening(), ServeOptions(host="0.0.0.0", port=0))
    server._listener.close()
    found = re.fullmatch(r"http://([^:/]+):\d+/\?token=[\w-]{32}", server.address)
    assert found is not None
    assert found[1] not in ("", "0.0.0.0")
    assert found[1] == socket.gethostname() or not is_loopback(found[1])


def test_the_address_is_announced_and_drawn_for_phones() -> None:
    address = "http://192.168.1.4:8000/?token=abcdefgh"
    plain = list(announcement("DreamSmall-v0", address, qr_code=False))
    assert plain == [f"DreamSmall-v0 at {address}", "Ctrl-C ends it."]
    first, *drawn, last = announcement("DreamSmall-v0", address, qr_code=True)
    assert [first, last] == plain
    (width,) = {len(line) for line in drawn}
    assert len(drawn) == -(-width // 2), "a square, two rows in a line"


def test_what_cannot_be_served_is_said(tmp_path: Path) -> None:
    vector = open_model(trained_like_world_model(action_space=CHOICE, image=False))
    with pytest.raises(ConfigurationError, match="vector observations"):
        create_app(vector, ServeOptions())
    blind = open_model(trained_like_world_model(action_space=CHOICE))
    blind.model.vision.can_decode = False  # type: ignore[misc]
    with pytest.raises(ConfigurationError, match="a vision that does not decode"):
        create_app(blind, ServeOptions())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigurationError, match="cannot listen on 127.0.0.1"):
            DreamServer(small_opening(), ServeOptions(port=taken.getsockname()[1]))
    with pytest.raises(ConfigurationError, match="cannot listen on no.such.host.invalid"):
        DreamServer(small_opening(), ServeOptions(host="no.such.host.invalid"))
    for bad in ({"players": 0}, {"real_games": -1}, {"idle_seconds": 0.0}, {"port": 70000}):
        with pytest.raises(ConfigurationError, match="must be"):
            ServeOptions(**bad)
