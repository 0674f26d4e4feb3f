"""The ledger of a run directory: how many real frames each stage has consumed."""

from __future__ import annotations

from pathlib import Path

from pydantic import NonNegativeInt, RootModel

from dreamenv.files import write_json
from dreamenv.schema import read_checked


class _Ledger(RootModel[dict[str, NonNegativeInt]]):
    """ledger.json: real frames by stage."""


def read_ledger(run_dir: str | Path) -> dict[str, int]:
    """Real frames by stage, action repeat counted; empty when nothing has been recorded.

    Raises:
        BundleError: ledger.json is not an object of whole numbers of at least 0.
    """
    file = Path(run_dir) / "ledger.json"
    return dict(read_checked(_Ledger, file).root) if file.exists() else {}


def record_frames(run_dir: str | Path, stage: str, frames: int, *, parts: bool = False) -> dict[str, int]:
    """Set `stage`'s real frames to `frames` and return the whole ledger.

    Args:
        run_dir: Folder of the run.
        stage: What has consumed them.
        frames: How many, action repeat counted.
        parts: Whether they hold those of stages `"STAGE PART"`, which are then left out.
    """
    run_dir = Path(run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    ledger = read_ledger(run_dir)
    if parts:
        ledger = {name: count for name, count in ledger.items() if not name.startswith(f"{stage} ")}
    ledger |= {stage: frames}
    write_json(run_dir / "ledger.json", ledger)
    return ledger
