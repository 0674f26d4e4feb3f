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


def violations_of_file(driver: Any, page: Path, *, scheme: str) -> list[str]:
    """`violations` of an HTML file, in "light" or "dark" colours, on a desk."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    driver.get(page.resolve().as_uri())
    return violations(driver)
