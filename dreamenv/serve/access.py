"""Who may come in: hosts, origins and the token, and the headers that keep the page to itself."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dreamenv.errors import ConfigurationError

HEALTH = "/health"
_SHORTEST_TOKEN = 8
_LONGEST_PATH = 1024
# Nothing but the page's own files and its websocket; no frame around it, no address told to others.
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",
}


def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address, is this machine and no other can reach it."""
    bare = host.strip("[]")
    try:
        return ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return bare == "localhost"


def choose_token(host: str, token: str | None) -> str | None:
    """The token that a server bound to `host` asks for: `token`, a new one beyond loopback, or None.

    Raises:
        ConfigurationError: A token that is too short to be one, or holds what an address cannot.
    """
    if token is None:
        return None if is_loopback(host) else secrets.token_urlsafe(24)
    if len(token) < _SHORTEST_TOKEN or not all(
        letter.isascii() and (letter.isalnum() or letter in "-_") for letter in token
    ):
        raise ConfigurationError(
            f"a token has at least {_SHORTEST_TOKEN} letters, digits, - and _; leave it out to have one made"
        )
    return token


class Access:
    """ASGI middleware in front of everything.

    Requests with a path or an Origin that no browser sends are refused as malformed. Requests whose Host is not this
    machine are refused while only this machine can reach the server, so that no page of the Web can get in by a name of
    its own that points here; websockets of a foreign Origin are refused always. Where there is a token, everything but
    `/health` asks for it: in the address as `?token=`, once, then in a cookie.

    Args:
        app: What is protected.
        token: The token, None for none.
        loopback_only: Whether the server is bound to a loopback address.
    """

    def __init__(self, app: ASGIApp, *, token: str | None, loopback_only: bool) -> None:
        self._app = app
        self._token = None if token is None else token.encode()
        self._loopback_only = loopback_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if refusal is None and scope["type"] == "websocket":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket" and "websocket.http.response" not in (scope.get("extensions") or {}):
            await send({"type": "websocket.close", "code": 1008, "reason": "refused"})  # HTTP 403 before the handshake
        else:
            await self._with_headers(refusal or self._app, scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        origin = headers.get("origin")
        if not _well_formed(scope["path"]) or (origin is not None and _netloc(origin) is None):
            return PlainTextResponse("The request's path or Origin is malformed.\n", 400)
        if self._loopback_only and not is_loopback(_host_of(f"//{headers.get('host', '')}")):
            return PlainTextResponse("This server answers to its own machine only.\n", 421)
        if scope["type"] == "websocket" and origin is not None and _netloc(origin) != headers.get("host"):
            return PlainTextResponse("Websockets are for the page of this server.\n", 403)
        if self._token is None or scope["path"] == HEALTH:
            return None
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        name = cookie_name(scope)
        if scope["type"] == "http" and self._is_token(given):
            # The cookie takes the token's place, and the token leaves the address bar
            answer = RedirectResponse(scope["path"], 303)
            answer.set_cookie(name, given, httponly=True, samesite="lax")
            return answer
        if self._is_token(given) or self._is_token(_cookie(headers, name)):
            return None
        return PlainTextResponse("A token is needed: open the address that `dreamenv serve` has printed.\n", 401)

    def _is_token(self, given: str) -> bool:
        return self._token is not None and hmac.compare_digest(given.encode(), self._token)

    async def _with_headers(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await app(scope, receive, send_with_headers)


def _well_formed(path: str) -> bool:
    """Whether a path is one of this server: a browser would take //name for another host, and \\ for /."""
    begins = path.startswith("/") and not path.startswith("//")
    return begins and len(path) <= _LONGEST_PATH and path.isprintable() and "\\" not in path


def _netloc(origin: str) -> str | None:
    """Host and port of an Origin, "" where it names none; None where it is malformed."""
    try:
        found = urlsplit(origin)
        _ = found.hostname, found.port  # which are read, and checked, only now
    except ValueError:
        return None
    return found.netloc


def _host_of(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def cookie_name(scope: Scope) -> str:
    """The name of the token's cookie; cookies are not kept apart by port, so the port is part of it."""
    return f"dreamenv_token_{(scope.get('server') or ('', 0))[1]}"


def _cookie(headers: Headers, name: str) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return ""
    return "" if found is None else found.value
