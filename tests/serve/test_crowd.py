"""Fifty clients at once, again and again: the places are kept to, and memory is given back."""

from __future__ import annotations

import gc
import threading
from pathlib import Path

import pytest

from dreamenv.serve.connection import Close
from dreamenv.serve.pictures import Kind
from dreamenv.serve.session import Session
from tests.play.openings import small_opening
from tests.serve.serving import Client, health, serving, wait_until

CLIENTS, PLAYERS, ROUNDS = 50, 4, 4
# Python's and torch's allocators keep some of what they had; a session's leak would come again each round
MOST_GROWTH = 12.0

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def resident() -> float:
    """Resident memory of this process in MiB."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise AssertionError("/proc/self/status has no VmRSS")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_fifty_at_once() -> None:
    memory, threads = [], []
    with serving(small_opening(), players=PLAYERS) as server:
        for _ in range(ROUNDS):
            _one_round(server)
            wait_until(lambda: health(server)["players"] == 0)
            gc.collect()
            memory.append(resident())
            threads.append(sum(thread.name.startswith("player") for thread in threading.enumerate()))
        assert [kept for kept in gc.get_objects() if type(kept) is Session] == []
    shown = ", ".join(f"{value:.1f}" for value in memory)
    print(f"\n{CLIENTS} clients, {PLAYERS} places: resident memory after each round {shown} MiB, threads {threads}")
    assert memory[-1] - memory[0] < MOST_GROWTH
    assert max(threads) <= PLAYERS


def _one_round(server: object) -> None:
    outcomes: list[str] = []
    everyone = threading.Barrier(CLIENTS)
    over = threading.Event()

    def one() -> None:
        everyone.wait()
        try:
            with Client(server) as client:  # type: ignore[arg-type]
                client.send("mixture", shown=True)
                client.send("view", view="fan")
                client.picture(Kind.FAN)
                outcomes.append("played")
                over.wait(120)
        except Exception as error:
            received = getattr(error, "rcvd", None)
            outcomes.append("full" if received is not None and received.code == Close.FULL else repr(error))

    clients = [threading.Thread(target=one) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    wait_until(lambda: len(outcomes) == CLIENTS)
    assert health(server)["status"] == "ok"  # type: ignore[arg-type]
    over.set()
    for client in clients:
        client.join()
    assert sorted(set(outcomes)) == ["full", "played"], outcomes
    assert outcomes.count("played") == PLAYERS
