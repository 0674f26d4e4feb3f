"""The ledger of a run directory: how many real frames each stage has consumed."""

from __future__ import annotations

from pathlib import Path

from dreamenv.errors import BundleError
from dreamenv.files import read_json, write_json


def read_ledger(run_dir: str | Path) -> dict[str, int]:
    """Real frames by stage, action repeat counted; empty when nothing has been recorded.

    Raises:
        BundleError: ledger.json is not an object of whole numbers.
    """
    file = Path(run_dir) / "ledger.json"
    if not file.exists():
        return {}
    try:
        found = read_json(file)
        return {str(stage): int(frames) for stage, frames in found.items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise BundleError(f"{file}: not a ledger of real frames ({error})") from error


def record_frames(run_dir: str | Path, stage: str, frames: int) -> dict[str, int]:
    """Set `stage`'s real frames to `frames` and return the whole ledger."""
    run_dir = Path(run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    ledger = read_ledger(run_dir) | {stage: frames}
    write_json(run_dir / "ledger.json", ledger)
    return ledger
