"""Print the oldest series of every dependency that pyproject.toml admits, one requirement a line: `make test-oldest`.

PyTorch is left out: its CPU builds of other versions are in an index of their own. The environment takes the version of
constraints.txt instead. So is Box2D, which the oldest Gymnasium asks for in a version without wheels.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"
EXTRAS = ("real", "train", "sb3", "serve", "testing")
TOOLS = ("hypothesis", "pytest", "pytest-xdist", "array-api-compat")


def oldest(requirements: Iterable[str]) -> list[str]:
    """`["numpy>=1.26", "gymnasium[box2d]>=1.1,<2"]` as `["numpy==1.26.*", "gymnasium==1.1.*"]`.

    Raises:
        ValueError: A requirement without a lower bound.
    """
    found = []
    for requirement in requirements:
        bound = re.match(r"([\w.-]+(?:\[[\w,-]+\])?)>=([\d.]+)", requirement)
        if bound is None:
            raise ValueError(f"{requirement}: expected a lower bound, as in NAME>=1.2")
        name = bound[1].replace("[box2d]", "")
        if name != "torch":
            found.append(f"{name}=={bound[2]}.*")
    return found


def main() -> None:
    import tomllib

    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(entry for extra in EXTRAS for entry in extras[extra])]
    sys.stdout.write("\n".join([*dict.fromkeys(oldest(wanted)), *TOOLS]) + "\n")


if __name__ == "__main__":
    main()
