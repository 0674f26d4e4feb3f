"""Moves keep behaviour to the bit: seeded dreams, an evolution and a resumed training come out as they always did."""

from __future__ import annotations

import json

import pytest

from tests import golden_values

KEPT: dict[str, dict[str, str]] = json.loads(golden_values.FILE.read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.parametrize("case", golden_values.CASES)
def test_what_fixed_seeds_give_has_not_changed(case: str) -> None:
    processor = golden_values.processor()
    if processor not in KEPT:
        pytest.skip(f"no values are kept of {processor}; `python -m tests.golden_values` adds them")
    assert golden_values.compute(case) == KEPT[processor][case]
