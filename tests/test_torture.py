"""What `make torture` asks for can be asked for, and a run of it that was stopped goes on."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from dreamenv.cli import load_verbs
from tests.torture import __main__ as torture
from tests.torture.interruptions import VERBS
from tests.torture.memory import Endured


@pytest.mark.parametrize("words", VERBS.values(), ids=VERBS)
def test_the_command_line_takes_its_commands(words: list[str]) -> None:
    verbs: Any = typer.main.get_command(load_verbs())
    verb = verbs.commands[words[0]]
    verb.make_context(words[0], list(words[1:]))


def test_it_goes_on_behind_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, begun = tmp_path / "new" / "torture.json", []

    def stopped(verb: str, *, moments: int, seed: int) -> dict[str, Any]:
        begun.append(verb)
        if begun == ["collect", "train"]:
            raise KeyboardInterrupt
        return {"stopped": 3 * moments, "faults": int(verb == "evolve")}

    monkeypatch.setattr(torture, "_stop_and_go_on", stopped)
    monkeypatch.setattr(torture, "visit", lambda dream, **given: Endured("visits", "visits", given["connections"]))
    words = ["torture", "--only", "runs", "--only", "page", "--moments", "2", "--connections", "7", "--json", str(file)]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(KeyboardInterrupt):
        torture.main()
    assert torture.main() == 1
    assert begun == ["collect", "train", "train", "evolve", "loop"]
    found = json.loads(file.read_text(encoding="utf-8"))
    assert (found["faults"], found["finished"]) == (1, True)
    assert found["runs"]["loop"] == {"stopped": 6, "faults": 0}
    assert found["endured"]["visits"]["count"] == 7
    # One that has ended begins anew, and so does one of other settings
    torture.main()
    assert begun[5:] == list(VERBS)
    file.write_text(json.dumps(found | {"finished": False}), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", [*words, "--seed", "1"])
    torture.main()
    assert begun[9:] == list(VERBS)
