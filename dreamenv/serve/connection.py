"""One browser: a coroutine that reads its messages, one that plays, and the rules by which it is sent away."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import time
from collections import deque
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from fastapi import WebSocket, WebSocketDisconnect

from dreamenv.errors import ConfigurationError
from dreamenv.play.opening import Opening
from dreamenv.serve.greeting import FRAMES_PER_SECOND
from dreamenv.serve.limits import Places, TokenBucket
from dreamenv.serve.messages import LARGEST_MESSAGE, Message, error_reply, read_message
from dreamenv.serve.session import Outgoing, Session

MESSAGES_PER_SECOND, MESSAGE_BURST = 60.0, 120.0
# Of messages that are refused so many are forgiven at once, and one more each second
_MOST_REFUSED = 120.0
_MOST_WAITING = 256
_SECONDS_TO_SEND = 10.0
_REST = 0.5
_log = logging.getLogger("dreamenv.serve")


class Close(IntEnum):
    """Codes with which a websocket is closed (RFC 6455, section 7.4)."""

    NORMAL = 1000
    BAD_MESSAGES = 1008
    TOO_BIG = 1009
    SERVER_ERROR = 1011
    FULL = 1013
    IDLE = 4000


@dataclass
class Hall:
    """What all players of a server share.

    Attributes:
        opening: The dream.
        seats: Bound on the players.
        real_places: Bound on the real games.
        idle_seconds: A player who sends nothing for so long is sent away; a page that is looked at sends something.
        seed: Player k's dreams come from `seed + k`.
        threads: Where models are stepped; one thread a player.
    """

    opening: Opening
    seats: Places
    real_places: Places
    idle_seconds: float
    seed: int
    threads: ThreadPoolExecutor
    numbers: Any = field(default_factory=itertools.count)


@dataclass
class _Inbox:
    """Messages that were read and not yet acted upon; `ending` says why the player has to go, once that is so."""

    messages: deque[Message] = field(default_factory=deque)
    replies: deque[dict[str, Any]] = field(default_factory=deque)
    arrival: asyncio.Event = field(default_factory=asyncio.Event)
    last_heard: float = field(default_factory=time.monotonic)
    ending: tuple[Close, str, str] | None = None
    gone: bool = False


async def play(websocket: WebSocket, hall: Hall) -> None:
    """Serve one browser until it leaves or is sent away; its seat, its thread and its real game are free afterwards."""
    await websocket.accept()
    if not hall.seats.take():
        taken = "the one place is" if hall.seats.count == 1 else f"all {hall.seats.count} places are"
        await _send_away(websocket, Close.FULL, "full", f"{taken} taken")
        return
    loop = asyncio.get_running_loop()
    session: Session | None = None
    inbox = _Inbox()
    reader = asyncio.create_task(_read(websocket, inbox))
    try:
        seed = hall.seed + next(hall.numbers)
        session = await loop.run_in_executor(
            hall.threads, lambda: Session(hall.opening, seed=seed, real_places=hall.real_places)
        )
        await _send(websocket, session.hello() | {"idle_seconds": hall.idle_seconds})
        await _play(websocket, session, inbox, hall)
    except (WebSocketDisconnect, ConnectionError, asyncio.TimeoutError):
        inbox.gone = True
    except asyncio.CancelledError:
        inbox.gone = True  # the server shuts down
    except Exception:
        _log.exception("a player's game failed")
        inbox.ending = (Close.SERVER_ERROR, "server_error", "something went wrong here; the server's log says what")
    finally:
        reader.cancel()
        if session is not None:
            closing = loop.run_in_executor(hall.threads, session.close)
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(closing)
        hall.seats.give_back()
    if inbox.ending is not None and not inbox.gone:
        await _send_away(websocket, *inbox.ending, replies=inbox.replies)


async def _play(websocket: WebSocket, session: Session, inbox: _Inbox, hall: Hall) -> None:
    loop = asyncio.get_running_loop()
    before = due = time.monotonic()
    while not inbox.gone and inbox.ending is None:
        while inbox.replies:
            await _send(websocket, inbox.replies.popleft())
        now = time.monotonic()
        if now - inbox.last_heard > hall.idle_seconds:
            inbox.ending = (Close.IDLE, "idle", _absence(hall.idle_seconds))
            return
        arrived = list(inbox.messages)
        inbox.messages.clear()
        inbox.arrival.clear()
        outgoing = await loop.run_in_executor(hall.threads, session.turn, arrived, now - before)
        before = now
        for message in outgoing:
            await _send(websocket, message)
        if session.at_rest:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(inbox.arrival.wait(), min(_REST, hall.idle_seconds))
            before = due = time.monotonic()  # no time has passed for the game
        else:
            # A tick that comes late is not made up for
            due = max(due + 1.0 / FRAMES_PER_SECOND, time.monotonic())
            await asyncio.sleep(due - time.monotonic())


def _absence(seconds: float) -> str:
    minutes = round(seconds / 60)
    length = f"{seconds:g} seconds" if minutes < 1 else "a minute" if minutes == 1 else f"{minutes} minutes"
    return f"you were away for {length}, so your place was given up"


async def _read(websocket: WebSocket, inbox: _Inbox) -> None:
    bucket, patience = TokenBucket(MESSAGES_PER_SECOND, MESSAGE_BURST), TokenBucket(1.0, _MOST_REFUSED)
    try:
        while inbox.ending is None:
            event = await websocket.receive()
            if event["type"] == "websocket.disconnect":
                inbox.gone = True
                return
            inbox.last_heard = time.monotonic()
            if not bucket.allow() or len(inbox.messages) >= _MOST_WAITING:
                reason = f"more than {MESSAGES_PER_SECOND:g} messages a second; this one was dropped"
                _refuse(inbox, patience, "too_many_messages", reason)
            else:
                try:
                    inbox.messages.append(_message(event.get("text")))
                except ConfigurationError as error:
                    _refuse(inbox, patience, "bad_message", str(error))
            inbox.arrival.set()
    except (WebSocketDisconnect, ConnectionError, RuntimeError):
        inbox.gone = True
    finally:
        inbox.arrival.set()


def _message(text: str | None) -> Message:
    if text is None:
        raise ConfigurationError("binary messages are not understood; send JSON as text")
    if len(text) > LARGEST_MESSAGE:
        raise ConfigurationError(f"{len(text)} characters; the most is {LARGEST_MESSAGE}")
    return read_message(text)


def _refuse(inbox: _Inbox, patience: TokenBucket, code: str, reason: str) -> None:
    reply = error_reply(code, reason)
    if not inbox.replies or inbox.replies[-1] != reply:
        inbox.replies.append(reply)
    if not patience.allow():
        inbox.ending = (Close.BAD_MESSAGES, "refused", "too many messages had to be refused; good-bye")


async def _send(websocket: WebSocket, message: Outgoing) -> None:
    """Send, or give up on a browser that takes nothing any more."""
    if isinstance(message, bytes):
        sending = websocket.send_bytes(message)
    else:
        sending = websocket.send_text(json.dumps(message, separators=(",", ":")))
    await asyncio.wait_for(sending, _SECONDS_TO_SEND)


async def _send_away(
    websocket: WebSocket, code: Close, name: str, reason: str, *, replies: Iterable[dict[str, Any]] = ()
) -> None:
    with contextlib.suppress(WebSocketDisconnect, ConnectionError, asyncio.TimeoutError, RuntimeError):
        for reply in replies:
            await _send(websocket, reply)
        await _send(websocket, error_reply(name, reason))
        await asyncio.wait_for(websocket.close(code, reason), _SECONDS_TO_SEND)
