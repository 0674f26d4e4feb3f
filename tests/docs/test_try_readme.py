"""What `make try-readme` takes from README.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.try_readme import blocks


def test_the_first_screen_has_its_commands_in_order(root: Path) -> None:
    found = list(blocks((root / "README.md").read_text(encoding="utf-8")))
    assert [language for language, _ in found] == ["bash", "bash", "python", "python", "python"]
    assert found[0][1].splitlines() == ["pip install 'dreamenv[serve]'", "dreamenv serve DreamCarRacing-v0 --open"]
    assert "load_agent" in found[2][1]


def test_a_section_that_is_gone_is_named() -> None:
    with pytest.raises(LookupError, match="no section 'B' with code"):
        list(blocks("## A\n```bash\nls\n```\n## B\ntext\n", ("A", "B")))
