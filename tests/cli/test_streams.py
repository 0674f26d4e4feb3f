"""Whatever a stream's encoding: what is printed arrives."""

from __future__ import annotations

import io
import sys
import warnings

import pytest

from dreamenv.cli.streams import prepare_streams


@pytest.mark.parametrize(("encoding", "expected"), [("ascii", "1 +- 2 tau ? -"), ("latin-1", "1 ± 2 tau ? -")])
def test_what_an_encoding_lacks_is_said_in_ascii(encoding: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    with warnings.catch_warnings():
        prepare_streams()
    print("1 ± 2 τ ☂ –", flush=True)
    assert raw.getvalue().decode(encoding).strip() == expected


def test_a_warning_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        prepare_streams()
        warnings.warn("left out", stacklevel=1)
    assert capsys.readouterr().err == "dreamenv: UserWarning: left out\n"
