"""HTTP connections that are given ten seconds, and as many at once from one address as a person may need."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

SECONDS_TO_ASK = 10.0
MOST_FROM_ONE_ADDRESS = 64
MOST_WAITING = 256


class WaitingRoom:
    """Connections whose request is not answered yet, in the order in which they came.

    When there are too many of one address, or in all, the one that has waited longest is closed: an address that opens
    connections and says nothing shuts out its own, and who comes with a request finds a place.
    """

    def __init__(self) -> None:
        self._by_address: dict[str, OrderedDict[PatientHttp, None]] = {}
        self._all: OrderedDict[PatientHttp, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._all)

    def enter(self, connection: PatientHttp, address: str) -> None:
        """A connection begins to wait."""
        ours = self._by_address.setdefault(address, OrderedDict())
        ours[connection] = self._all[connection] = None
        if len(ours) > MOST_FROM_ONE_ADDRESS:
            next(iter(ours)).give_up()
        if len(self._all) > MOST_WAITING:
            next(iter(self._all)).give_up()

    def leave(self, connection: PatientHttp, address: str) -> None:
        """A connection waits no more; one that is not here is passed over."""
        self._all.pop(connection, None)
        ours = self._by_address.get(address)
        if ours is not None:
            ours.pop(connection, None)
            if not ours:
                del self._by_address[address]


class PatientHttp(H11Protocol):
    """uvicorn's HTTP connection, closed when a request is not whole and answered within `SECONDS_TO_ASK`.

    uvicorn itself bounds only the time between two requests: connections that send nothing, or half a request, would
    stay and take the places of others. What becomes a websocket has limits of its own.
    """

    room: WaitingRoom

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._deadline: asyncio.TimerHandle | None = None
        self._address = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._address = self.client[0] if self.client else ""
        self._wait()

    def data_received(self, data: bytes) -> None:
        self._wait()
        super().data_received(data)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._settle()

    def handle_websocket_upgrade(self, event: Any) -> None:
        self._settle()
        super().handle_websocket_upgrade(event)

    def connection_lost(self, exc: Exception | None) -> None:
        self._settle()
        super().connection_lost(exc)

    def give_up(self) -> None:
        """Close the connection without an answer."""
        self._settle()
        self.transport.abort()

    def _wait(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(SECONDS_TO_ASK, self.give_up)
            self.room.enter(self, self._address)

    def _settle(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
            self.room.leave(self, self._address)


def patient_http() -> type[PatientHttp]:
    """A class of connections with a waiting room of their own, for one server."""
    return type("PatientHttp", (PatientHttp,), {"room": WaitingRoom()})
