"""A world model that travels is of the classes it was of, and leaves the registers of its process as they are."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from dreamenv.envs.elsewhere import PackedModel
from dreamenv.kinds import added_kinds
from dreamenv.memory.kinds import MEMORIES
from tests.fakes import CountingMemory, NoisyMemory, fake_world_model


class SameKind(CountingMemory):
    """Says it is of the kind that it inherits."""


@pytest.mark.parametrize("known", [None, NoisyMemory])
def test_unpacking_registers_nothing(known: type[Any] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it matter what else has that name, as after a notebook's cell that ran twice."""
    monkeypatch.setattr(MEMORIES, "_added", {} if known is None else {"counting": known})
    before = added_kinds()
    packed = pickle.loads(pickle.dumps(PackedModel.of(fake_world_model(SameKind()))))  # noqa: S301
    for _ in range(2):
        assert type(packed.unpack().memory) is SameKind
    assert added_kinds() == before
