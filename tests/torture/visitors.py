"""Thousands of visitors of the page, fifty at once, in flat memory."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from itertools import count

from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from tests.torture.memory import Endured, resident_mb

_PATIENCE = 120.0
_TRIES = 300
# The allocator's arenas, one a thread, are full within a thousand visitors; from then on they sway by some 20 MB
MOST_GROWTH_MB = 60.0


def visit(dream: str, *, connections: int, at_once: int) -> Endured:
    """Let `at_once` clients come, play a few steps and go, until there have been `connections` visits."""
    found = Endured("visits", f"visits of the page of {dream}, {at_once} at once", connections)
    command = [sys.executable, "-m", "dreamenv", "serve", dream, "--port", "0", "--players", str(at_once)]
    command += ["--real-games", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        address = re.sub("^http", "ws", server.stdout.readline().split()[-1]) + "play"
        _visits(address, max(2 * at_once, connections // 10), at_once, found)
        before = resident_mb(server.pid)
        _visits(address, connections, at_once, found)
        found.grown_mb = resident_mb(server.pid) - before
        if found.grown_mb > MOST_GROWTH_MB:
            found.faults.append(f"{found.what}: the server has grown by {found.grown_mb:.0f} MB")
        if server.poll() is not None:
            found.faults.append(f"{found.what}: the server has ended with {server.returncode}")
    finally:
        server.terminate()
        server.wait(_PATIENCE)
    return found


def _visits(address: str, connections: int, at_once: int, found: Endured) -> None:
    numbers, lock, refused = count(), threading.Lock(), [0]

    def come_and_go() -> None:
        while True:
            with lock:
                number = next(numbers)
            if number >= connections:
                return
            for _ in range(_TRIES):
                if _come(address, number):
                    break
                time.sleep(0.1)  # places are given back a moment after a visitor has gone
            else:
                with lock:
                    refused[0] += 1

    threads = [threading.Thread(target=come_and_go) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if refused[0]:
        found.faults.append(f"{found.what}: {refused[0]} of {connections} were turned away again and again")


def _come(address: str, number: int) -> bool:
    """Whether a visitor has found a place, has played a little, and has gone."""
    try:
        with connect(address, open_timeout=_PATIENCE) as socket:
            socket.recv(_PATIENCE)
            socket.send(json.dumps({"type": "wheel", "wheel": "agent"}))
            for _ in range(number % 4):
                socket.recv(_PATIENCE)
    except (WebSocketException, OSError, TimeoutError):
        return False
    return True
