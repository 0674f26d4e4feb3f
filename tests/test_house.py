"""Rules of the house that no linter knows: README code runs, words, reasons, light import, versions, pins."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from dreamenv import __version__
from tests.conftest import RunPython

ROOT = Path(__file__).resolve().parent.parent
CODE = sorted(path for top in ("dreamenv", "examples", "tests") for path in (ROOT / top).rglob("*.py"))
SHIPPED_CODE = [path for path in CODE if not path.is_relative_to(ROOT / "tests")]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

EXTRAS = (
    "Box2D", "cma", "cv2", "h5py", "imageio", "matplotlib", "minari", "pygame", "sb3_contrib", "stable_baselines3",
    "tensorboard", "vizdoom",
)  # fmt: skip


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def runnable(markdown: str) -> str:
    """The code of the blocks marked `python run`, every line at the number it has in the document."""
    lines, inside = [], False
    for line in markdown.splitlines():
        fence = line.strip()
        if fence.startswith("```"):
            inside = not inside and fence.removeprefix("```").split() == ["python", "run"]
            lines.append("")
        else:
            lines.append(line if inside else "")
    return "\n".join(lines) + "\n"


def test_runnable_keeps_marked_blocks_at_their_lines() -> None:
    text = "# t\n```python run\na = 1\n```\n```python\nb = 2\n```\n```\nc\n```\n```python run\nd = 3\n```\n"
    lines = runnable(text).splitlines()
    assert {number: line for number, line in enumerate(lines, 1) if line} == {3: "a = 1", 12: "d = 3"}


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.parametrize("document", [page for page in DOCUMENTS if page.parent.name != "api"], ids=name_of)
def test_code_in_documents_runs(document: Path, run_python: RunPython, tmp_path: Path) -> None:
    """The blocks of one document run in order as one script, so a later block may use names of an earlier one."""
    if not document.exists():
        pytest.skip(f"{document.name} is not there")
    code = runnable(document.read_text(encoding="utf-8"))
    if document.name != "README.md" and not code.strip():
        pytest.skip("no block is marked `python run`")
    assert code.strip(), "README.md has no block marked `python run`"
    script = tmp_path / f"{document.stem}.py"
    script.write_text(code, encoding="utf-8")
    run_python(script, timeout=600)


@pytest.mark.slow
@pytest.mark.integration
def test_the_lines_of_the_api_run(run_python: RunPython, tmp_path: Path) -> None:
    """Every page of the API but its first has a few lines; they share a process, since each loads a dream."""
    pages = [page for page in DOCUMENTS if page.parent.name == "api" and page.stem != "index"]
    codes = [runnable(page.read_text(encoding="utf-8")) for page in pages]
    assert [page.stem for page, code in zip(pages, codes, strict=True) if not code.strip()] == []
    script = tmp_path / "api.py"
    script.write_text("\n".join(codes), encoding="utf-8")
    run_python(script, timeout=600)


def test_functions_beyond_ruffs_limits_say_why() -> None:
    excused = [
        (f"{name_of(path)}:{number}", line)
        for path in SHIPPED_CODE
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(r"# noqa: .*(?:C901|PLR0913)", line)
    ]
    assert excused
    assert [place for place, line in excused if not re.search(r"\(\w.{10,}\)$", line)] == []


def test_terminated_and_truncated_are_not_called_done() -> None:
    found = [
        f"{name_of(path)}:{number}"
        for path in (*SHIPPED_CODE, *DOCUMENTS)
        if path.exists() and ROOT / "dreamenv" / "sb3" not in path.parents
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(r"(?i)(?<![a-z])dones?(?![a-z])", line)
    ]
    assert found == [], "say terminated or truncated (or finished)"


def test_modules_are_named_after_what_they_hold() -> None:
    nameless = {"util", "utils", "helper", "helpers", "misc", "common"}
    assert [name_of(path) for path in CODE if nameless & set(path.relative_to(ROOT).with_suffix("").parts)] == []


def floors_of(project: dict[str, Any]) -> list[set[str]]:
    """Modules of each floor of import-linter's contract, the highest first; folders and files of the package alone."""
    contract = next(c for c in project["tool"]["importlinter"]["contracts"] if c["name"].startswith("The floors"))
    return [set(re.findall(r"\w+", layer)) - {"__main__"} for layer in contract["layers"]]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib is of Python 3.11")
def test_the_page_of_the_architecture_has_the_floors_and_every_folder() -> None:
    import tomllib

    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = [set(re.findall(r"`(\w+)`", row)) for row in re.findall(r"^\| \d+ \| (.*) \|$", page, re.MULTILINE)]
    floors = floors_of(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8")))
    assert floors[-2] == {"kinds", "tensor_files"}
    assert rows == [*floors[:-3], floors[-3] | floors[-2], floors[-1]]
    package = ROOT / "dreamenv"
    folders = {path.name for path in package.iterdir() if (path / "__init__.py").exists()}
    files = {path.name for path in package.glob("*.py") if not path.name.startswith("_")}
    assert set(re.findall(r"\*\*`([\w.]+?)/?`\*\*", page)) == folders | files


def test_import_is_light(run_python: RunPython) -> None:
    code = "import json, sys; import dreamenv; print(json.dumps([m.split('.')[0] for m in sys.modules]))"
    loaded = set(json.loads(run_python("-c", code).stdout))
    assert "dreamenv" in loaded
    assert loaded & {"torch", *EXTRAS} == set()


@pytest.mark.parametrize("name", ["CITATION.cff", "CHANGELOG.md"])
def test_version_is_the_same_everywhere(name: str) -> None:
    pattern = {"CITATION.cff": r"^version: (\S+)$", "CHANGELOG.md": r"^## \[(\d[^\]]*)\]"}[name]
    found = re.search(pattern, (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    assert found[1] == __version__


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib is of Python 3.11")
def test_every_dependency_is_pinned() -> None:
    import tomllib

    def normal(requirement: str) -> str:
        return re.sub(r"[-_.]+", "-", re.split(r"[\s\[<>=!;~]", requirement, maxsplit=1)[0]).lower()

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = dict(project["optional-dependencies"])
    groups = {
        ("constraints-integrations.txt",): [*extras["sb3"], *extras.pop("sbx"), *extras.pop("integrations")],
        ("constraints.txt", "constraints-ray.txt"): extras.pop("ray"),
        ("constraints.txt",): [r for group in extras.values() for r in group],
    }
    for files, requirements in groups.items():
        wanted = {normal(r) for r in (*requirements, *project["dependencies"])}
        lines = [line for file in files for line in (ROOT / file).read_text(encoding="utf-8").splitlines()]
        pins = [line.split(";")[0].strip() for line in lines if line and not line.startswith("#")]
        assert wanted - {"dreamenv"} <= {normal(pin) for pin in pins}
        loose = [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", pin)]
        assert loose == [], f"{files}: exact, without a local version"


@pytest.mark.parametrize("dream", sorted(path.name for path in (ROOT / "dreamenv" / "pretrained").glob("Dream*")))
def test_bundles_name_no_path_of_the_machine_that_made_them(dream: str) -> None:
    folder = ROOT / "dreamenv" / "pretrained" / dream
    for path in (*folder.glob("*.json"), *folder.glob("*.md")):
        found = re.findall(r"(?<![\w.:/)\]-])/[\w.-]+/[\w./-]+", path.read_text(encoding="utf-8"))
        assert found == [], f"{name_of(path)} holds absolute paths {found}"
