"""How many pictures a second players get, and what they cost: python -m tests.serve.load DreamDoom-v0 --players 4.

The server runs in a process of its own; its time on the processors is read from /proc, so that the cost of a picture is
known on a busy machine too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from websockets.sync.client import connect

from dreamenv.serve.pictures import Kind

_PATIENCE = 300.0


@dataclass(frozen=True)
class Load:
    """What was measured.

    Attributes:
        seconds: Length of the measurement.
        pictures: How many each player got.
        cpu_seconds: The server's time on the processors, all threads together.
    """

    seconds: float
    pictures: list[int]
    cpu_seconds: float

    @property
    def pictures_per_second(self) -> float:
        """Of the player who got the fewest."""
        return min(self.pictures) / self.seconds

    @property
    def cpu_ms_per_picture(self) -> float:
        """Milliseconds of one core for one picture of one player, everything included."""
        return 1000.0 * self.cpu_seconds / sum(self.pictures)

    def cores_for(self, players: int, rate: float) -> float:
        """Cores that so many players need for `rate` pictures a second each."""
        return players * rate * self.cpu_ms_per_picture / 1000.0


def measure(dream: str, *, players: int, seconds: float, view: str, rate: float, mixture: bool) -> Load:
    """Let `players` agents drive at `rate` steps a second, and count."""
    command = [sys.executable, "-m", "dreamenv", "serve", dream, "--port", "0", "--players", str(players)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        address = server.stdout.readline().split()[-1].replace("http", "ws") + "play"
        counts = [0] * players
        ready, stop = threading.Barrier(players + 1), threading.Event()

        def play(player: int) -> None:
            with connect(address, open_timeout=_PATIENCE) as socket:
                socket.recv(_PATIENCE)
                requests = [{"type": "wheel", "wheel": "agent"}, {"type": "rate", "value": rate}]
                requests += [{"type": "view", "view": view}, {"type": "mixture", "shown": mixture}]
                for request in requests:
                    socket.send(json.dumps(request))
                ready.wait(_PATIENCE)
                while not stop.is_set():
                    message = socket.recv(_PATIENCE)
                    if isinstance(message, bytes):
                        counts[player] += message[0] in (Kind.DREAM, Kind.FAN)
                    elif json.loads(message).get("ended"):  # the page shows the end for a while; here play goes on
                        socket.send('{"type": "reset"}')

        threads = [threading.Thread(target=play, args=(player,)) for player in range(players)]
        for thread in threads:
            thread.start()
        ready.wait(_PATIENCE)
        time.sleep(2.0)
        begin, before, used = time.monotonic(), list(counts), _cpu_seconds(server.pid)
        time.sleep(seconds)
        passed, used = time.monotonic() - begin, _cpu_seconds(server.pid) - used
        got = [after - first for after, first in zip(counts, before, strict=True)]
        stop.set()
        for thread in threads:
            thread.join(_PATIENCE)
        return Load(passed, got, used)
    finally:
        server.terminate()
        server.wait(60)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dream")
    parser.add_argument("--players", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--view", choices=("drive", "fan"), default="drive")
    parser.add_argument("--rate", type=float, default=30.0, help="steps a second")
    parser.add_argument("--mixture", action="store_true")
    options = parser.parse_args()
    load = measure(**vars(options))
    print(f"{options.dream}, {options.players} players, {options.view}, {options.rate:g} steps a second:")
    print(f"  pictures a second and player: {', '.join(f'{count / load.seconds:.1f}' for count in load.pictures)}")
    print(f"  the server used {load.cpu_seconds / load.seconds:.2f} cores, {load.cpu_ms_per_picture:.2f} ms a picture")
    print(f"  {options.players} players at 30 pictures a second need {load.cores_for(options.players, 30.0):.2f} cores")


if __name__ == "__main__":
    main()
