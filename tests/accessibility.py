"""What axe-core (tests/vendor/axe-core) finds wrong with a page that is open in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

AXE = Path(__file__).resolve().parent / "vendor" / "axe-core" / "axe.min.js"
_RUN = """
const done = arguments[arguments.length - 1];
axe.run({ resultTypes: ["violations"] }).then(
  ({ violations }) => done(violations.flatMap(({ id, nodes }) => nodes.map(({ target, failureSummary }) =>
    `${id}: ${target.join(" ")}: ${failureSummary}`))),
  (error) => done([String(error)]),
);
"""


def violations(driver: Any) -> list[str]:
    """Rule, element and reason of everything that breaks a rule of axe-core, its best practices included."""
    if not driver.execute_script("return 'axe' in window"):
        driver.execute_script(AXE.read_text(encoding="utf-8"))
    return list(driver.execute_async_script(_RUN))
