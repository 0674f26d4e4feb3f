"""Bounds on what players may use."""

from __future__ import annotations

import threading

from dreamenv.serve.limits import Places, TokenBucket


def test_places_are_taken_and_given_back() -> None:
    places = Places(2)
    assert (places.take(), places.take(), places.take()) == (True, True, False)
    assert places.taken == 2
    places.give_back()
    assert places.take()
    assert not Places(0).take()


def test_places_are_counted_across_threads() -> None:
    places, got = Places(50), []

    def take_many() -> None:
        got.extend(places.take() for _ in range(200))

    threads = [threading.Thread(target=take_many) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(got) == places.taken == 50


def test_a_bucket_lets_a_burst_and_then_a_rate_through() -> None:
    now = [0.0]
    bucket = TokenBucket(10.0, 5.0, clock=lambda: now[0])
    assert [bucket.allow() for _ in range(7)] == [True] * 5 + [False] * 2
    now[0] += 0.2
    assert [bucket.allow() for _ in range(3)] == [True, True, False]
    now[0] += 100.0
    assert sum(bucket.allow() for _ in range(20)) == 5
