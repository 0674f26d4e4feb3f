"""A few damaged inputs of every kind; `make fuzz` tries ten thousand."""

from __future__ import annotations

from pathlib import Path

import pytest

from dreamenv.errors import BundleError
from tests.fuzz.run import fuzz
from tests.fuzz.subjects import Subject, subjects

KINDS = (
    "bundle", "bundle, sums made anew", "agent", "agent, sums made anew", "registry", "episode",
    "cache of episodes", "record of a collection", "checkpoint of training", "checkpoint of evolution", "ledger",
    "table of rounds", "message of the page", "model of stable-baselines3",
)  # fmt: skip


@pytest.fixture(scope="module")
def all_kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Subject]:
    found = subjects(tmp_path_factory.mktemp("fuzz"))
    assert tuple(found) == KINDS
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_named_or_does_no_harm(all_kinds: dict[str, Subject], kind: str) -> None:
    found = fuzz(all_kinds[kind], 40, seed=1)
    assert found.bad == []
    assert sum(found.counts.values()) == 40
    assert found.grown < 300


@pytest.mark.parametrize("wrong", [lambda text: text, lambda text: int(text), lambda text: "whole"])
def test_the_runner_sees_what_must_not_be(tmp_path: Path, wrong: object) -> None:
    file = tmp_path / "file"
    file.write_text("1234567890" * 20, encoding="utf-8")

    def read() -> object:
        return wrong(file.read_bytes().decode("latin-1"))  # type: ignore[operator]

    found = fuzz(Subject((file,), read), 20, seed=0)
    expected = 0 if read() == "whole" else 15
    assert len(found.bad) >= expected
    assert (found.bad == []) == (expected == 0)


def test_typed_errors_are_counted_as_such(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("whole", encoding="utf-8")

    def read() -> str:
        if file.read_bytes() != b"whole":
            raise BundleError("damaged")
        return "whole"

    assert fuzz(Subject((file,), read), 20, seed=0).counts == {"typed": 20}
