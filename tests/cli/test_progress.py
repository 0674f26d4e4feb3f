"""Progress: rate and ETA."""

from __future__ import annotations

import pytest

from dreamenv.cli.progress import Progress


def test_progress_in_plain_lines_has_rate_and_eta(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("dreamenv.cli.progress.time.monotonic", lambda: now[0])
    progress = Progress("collect", 1000, "frame", every=10)
    for reached in (400, 450, 500, 1000):  # an interrupted run had reached 400
        now[0] += 5
        progress.update(reached, "fine")
    progress.close()
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "collect: 450/1,000, 5.0 frame/s, ETA 110 s  fine",
        "collect: 1,000/1,000, 30.0 frame/s, ETA 0 s  fine",
    ]
