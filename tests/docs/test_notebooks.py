"""The notebooks run from top to bottom in a kernel of their own, with a small share of their budget."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.docs.site import DOCS

NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))
SHARE = "0.01"


def test_there_are_three_in_order() -> None:
    assert [notebook.stem for notebook in NOTEBOOKS] == [
        "01_drive_in_a_dream",
        "02_train_ppo_in_a_dream",
        "03_how_wrong_is_my_dream",
    ]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_outputs_are_kept_whole(notebook: Path) -> None:
    """Every cell has run, in order and without an error or a warning, and tells nothing of the machine."""
    nbformat = pytest.importorskip("nbformat")
    found = nbformat.read(notebook, as_version=4)
    nbformat.validate(found)
    code = [cell for cell in found.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2
    assert [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"] == []
    texts = [output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in outputs]
    assert [text for text in texts if re.search(r"(?<![\w.])/(?:home|root|tmp|work)/", text)] == []


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_it_runs(notebook: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    if "ppo" in notebook.stem:
        pytest.importorskip("stable_baselines3")
    monkeypatch.setenv("DREAMENV_NOTEBOOK_SHARE", SHARE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")])))
    # The kernel draws into the page, not to the backend of these tests; its files stay in this test's folder
    monkeypatch.delenv("MPLBACKEND", raising=False)
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    found = nbformat.read(notebook, as_version=4)
    nbclient.NotebookClient(found, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in found.cells if cell.cell_type == "code" for output in cell.outputs]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) >= 2, "the figures are not in the page"
    assert not [output for output in outputs if output.output_type == "error"]
