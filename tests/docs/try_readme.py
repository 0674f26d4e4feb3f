"""The first screen of README.md in a bare virtual environment, command by command, as a new user types it.

python -m tests.docs.try_readme [--keep FOLDER]

`make try-readme` runs it before a release; it is no part of `make test`, since it installs packages. The package is
installed from a wheel of this checkout, torch from the constraints; everything else is as README.md has it.
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
# Sections whose blocks are tried, in their order
SECTIONS = ("Drive in a dream now", "Ten lines of code")
_PATIENCE_S = 180.0


def blocks(readme: str, sections: tuple[str, ...] = SECTIONS) -> Iterator[tuple[str, str]]:
    """Language and text of each block of code in some sections.

    Raises:
        LookupError: A section is missing or has no block.
    """
    for title in sections:
        section = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", readme, re.MULTILINE | re.DOTALL)
        found = (
            [] if section is None else re.findall(r"^```(\w+)[^\n]*\n(.*?)^```$", section[1], re.MULTILINE | re.DOTALL)
        )
        if not found:
            raise LookupError(f"README.md has no section {title!r} with code")
        yield from found


class Environment:
    """A bare virtual environment in `folder`, in which the package is a wheel of this checkout."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin = folder, folder / "bare" / "bin"
        _run([sys.executable, "-m", "venv", folder / "bare"])
        _run([sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", folder / "dist", ROOT])
        (self.wheel,) = (folder / "dist").glob("dreamenv-*.whl")
        _run([self.bin / "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", "torch"])

    def command(self, line: str) -> None:
        """One line of a block in the shell's language."""
        words = shlex.split(line, comments=True)
        if words[:2] == ["pip", "install"]:
            words = [re.sub(r"^dreamenv(\[\w+\])?$", lambda match: f"{self.wheel}{match[1] or ''}", w) for w in words]
            _run([self.bin / words[0], *words[1:], "--quiet"], cwd=self.folder)
        elif words[:2] == ["dreamenv", "serve"]:
            self._serve(words)
        else:
            _run([self.bin / words[0], *words[1:]], cwd=self.folder)

    def _serve(self, words: list[str]) -> None:
        """Until the page and /health answer at the address that is printed; no browser is opened."""
        words = [word for word in words if word != "--open"]
        server = subprocess.Popen(
            [str(self.bin / words[0]), *words[1:], "--port", "0"], cwd=self.folder, stdout=subprocess.PIPE, text=True
        )
        assert server.stdout is not None
        try:
            until = time.monotonic() + _PATIENCE_S
            address = None
            while address is None and time.monotonic() < until:
                address = re.search(r"http://\S+", server.stdout.readline())
            assert address is not None, "dreamenv serve printed no address"
            for path in ("", "health"):
                with urllib.request.urlopen(f"{address[0].rstrip('/')}/{path}", timeout=_PATIENCE_S) as answer:
                    assert answer.status == 200
        finally:
            server.terminate()
            server.wait(timeout=_PATIENCE_S)

    def python(self, code: str) -> None:
        """A script; blocks that follow may use the names of those before, so all of them are run as one."""
        script = self.folder / "readme.py"
        script.write_text(code, encoding="utf-8")
        _run([self.bin / "python", script], cwd=self.folder)


def _run(words: list[object], cwd: Path | None = None) -> None:
    print("$", shlex.join(map(str, words)), flush=True)
    subprocess.run(list(map(str, words)), cwd=cwd, check=True)


def try_readme(folder: Path) -> None:
    """Run every command and every block of the sections, in their order.

    Raises:
        subprocess.CalledProcessError, AssertionError: One of them fails.
    """
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    environment = Environment(folder)
    code = ""
    for language, text in blocks(readme):
        if language == "bash":
            for line in filter(None, map(str.strip, text.splitlines())):
                environment.command(line)
        elif "stable_baselines3" in text:
            environment.command("pip install 'dreamenv[sb3]'")
            environment.python(code + text)
        else:
            code += text
            environment.python(code)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, help="folder to work in, kept afterwards")
    given = parser.parse_args()
    if given.keep is not None:
        given.keep.mkdir(parents=True, exist_ok=True)
        try_readme(given.keep.resolve())
    else:
        with tempfile.TemporaryDirectory() as folder:
            try_readme(Path(folder))
    print("the first screen of README.md works")


if __name__ == "__main__":
    main()
