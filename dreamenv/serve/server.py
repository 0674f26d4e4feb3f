"""The server: the page, its websocket and /health, on a socket of its own."""

from __future__ import annotations

import contextlib
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, WebSocket
from fastapi.staticfiles import StaticFiles
from starlette.middleware import Middleware

from dreamenv.errors import ConfigurationError
from dreamenv.play.opening import Opening
from dreamenv.serve.access import HEALTH, Access, choose_token, is_loopback
from dreamenv.serve.connection import Hall, play
from dreamenv.serve.limits import Places
from dreamenv.serve.messages import LARGEST_MESSAGE
from dreamenv.serve.patience import patient_http

PAGE = Path(__file__).resolve().parent / "page"
# A browser whose line is slow is to get few old pictures, not many: what waits in the kernel is bounded.
_SEND_BUFFER = 64 * 1024
_PING_SECONDS = 10.0
_MILLISECONDS_UNHEARD = 30_000
_MOST_CONNECTIONS = 512
_SECONDS_TO_SHUT_DOWN = 5


@dataclass(frozen=True)
class ServeOptions:
    """How a dream is served.

    Attributes:
        host, port: Where to listen; port 0 takes a free one.
        token: What must be shown to come in; None makes one where the host is not loopback, and asks for none there.
        players: Most players at once.
        real_games: Most real environments at once; 0 allows none.
        idle_seconds: A player who sends nothing for so long is sent away.
        seed: Fixes the players' dreams.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    players: int = 4
    real_games: int = 1
    idle_seconds: float = 300.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.players < 1 or self.real_games < 0 or not self.idle_seconds > 0 or not 0 <= self.port < 65536:
            raise ConfigurationError(
                "players must be at least 1, real_games not negative, idle_seconds above 0 and port in [0, 65535]; "
                f"got {self.players}, {self.real_games}, {self.idle_seconds}, {self.port}"
            )


def create_app(opening: Opening, options: ServeOptions) -> FastAPI:
    """The ASGI application of a dream.

    `app.state.hall` is what its players share.

    Raises:
        ConfigurationError: A dream that has no pictures to show, or an unusable token.
    """
    if not opening.model.vision.draws:
        why = "a vision that does not decode" if opening.model.vision.is_image else "vector observations"
        raise ConfigurationError(
            f"{opening.id} has {why}; the page shows pictures. Use `dreamenv play` to see its numbers."
        )
    hall = Hall(
        opening=opening,
        seats=Places(options.players),
        real_places=Places(options.real_games),
        idle_seconds=options.idle_seconds,
        seed=options.seed,
        threads=ThreadPoolExecutor(options.players, thread_name_prefix="player"),
    )

    token = choose_token(options.host, options.token)
    app = FastAPI(
        title="dreamenv",
        # The pages about the API would be drawn by scripts of a foreign host
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        middleware=[Middleware(Access, token=token, loopback_only=is_loopback(options.host))],
    )
    app.state.hall = hall
    app.state.token = token

    @app.get(HEALTH)
    async def health() -> dict[str, Any]:
        return {
            "status": "ok",
            "id": opening.id,
            "players": hall.seats.taken,
            "most_players": hall.seats.count,
            "real_games": hall.real_places.taken,
        }

    @app.websocket("/play")
    async def websocket_play(websocket: WebSocket) -> None:
        await play(websocket, hall)

    @app.websocket("/{path:path}")
    async def websocket_elsewhere(websocket: WebSocket, path: str) -> None:
        await websocket.close()  # the files below take no WebSocket, and would not answer

    app.mount("/", StaticFiles(directory=PAGE, html=True))
    return app


class DreamServer:
    """A dream on a socket of its own, listening from the moment it is made.

    Args:
        opening: The dream.
        options: How it is served.

    Attributes:
        address: The page's address, token included.
        app: See `create_app`.

    Raises:
        ConfigurationError: The address cannot be listened on; or see `create_app`.
    """

    def __init__(self, opening: Opening, options: ServeOptions) -> None:
        self.app = create_app(opening, options)
        self._listener = _listen(options.host, options.port)
        self.address = _address(options.host, self._listener.getsockname()[1], self.app.state.token)
        config = uvicorn.Config(
            self.app,
            http=patient_http(),
            log_level="warning",
            access_log=False,
            ws_max_size=LARGEST_MESSAGE,
            ws_ping_interval=_PING_SECONDS,
            ws_ping_timeout=_PING_SECONDS,
            ws_per_message_deflate=False,  # pictures are compressed already
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_graceful_shutdown=_SECONDS_TO_SHUT_DOWN,
            server_header=False,
            # There is nothing to do in it, and a second Ctrl-C would cancel it with a traceback
            lifespan="off",
        )
        self._server = uvicorn.Server(config)

    def run(self) -> None:
        """Serve until interrupted or stopped; the players' games have ended then."""
        try:
            with self._listener, contextlib.suppress(KeyboardInterrupt):
                self._server.run(sockets=[self._listener])
        finally:
            self.app.state.hall.threads.shutdown(wait=True)

    def stop(self) -> None:
        """Let `run` return; may be called from another thread."""
        self._server.should_exit = True


def _listen(host: str, port: int) -> socket.socket:
    bare = host.strip("[]")
    try:
        family, _, _, _, address = socket.getaddrinfo(bare, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _MILLISECONDS_UNHEARD)
            listener.bind(address)
            listener.listen(_MOST_CONNECTIONS)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {host}, port {port}: {error.strerror or error}. Take another port, or 0 for a free one."
        ) from error
    return listener


def _address(host: str, port: int, token: str | None) -> str:
    bare = host.strip("[]")
    if bare in ("", "0.0.0.0", "::"):
        bare = _own_address()  # one that others can open
    shown = f"[{bare}]" if ":" in bare else bare
    return f"http://{shown}:{port}/" + (f"?token={token}" if token else "")


def _own_address() -> str:
    """This machine's address in its network, which a phone can open; its name where it is in none."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))  # nothing is sent: the system only says where it would send from
            return str(probe.getsockname()[0])
    except OSError:
        return socket.gethostname()
