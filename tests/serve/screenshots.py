"""Pictures of the page on four screens, light and dark: python -m tests.serve.screenshots --out build/screenshots."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

from dreamenv.play.opening import open_dream
from tests.serve.browser import LAPTOP, LARGE, PHONE, PHONE_SIDEWAYS, Page, browser, missing
from tests.serve.serving import serving

DREAMS = ("DreamCarRacing-v0", "DreamDoom-v0")
SCREENS = {"phone": PHONE, "phone-sideways": PHONE_SIDEWAYS, "laptop": LAPTOP, "large": LARGE}


def take(page: Page, folder: Path, name: str, *, real: bool) -> None:
    """All views of a page that is open, on all screens, `name` first in the files' names."""

    def shots(view: str) -> None:
        for screen, size in SCREENS.items():
            page.resize(size)
            for scheme in ("light", "dark"):
                page.prefer({"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"})
                page.run("window.scrollTo(0, 0)")
                time.sleep(0.4)
                file = folder / f"{name}-{view}-{screen}-{scheme}.png"
                page.screenshot(file)
                print(file, flush=True)
        page.resize(LARGE)

    page.resize(LARGE)
    page.wait("Number(document.body.dataset.step) > 30")
    shots("drive")
    page.click("#mixture-toggle")
    page.wait("document.getElementById('mixture').width > 300")
    shots("mixture")
    page.click("#mixture-toggle")
    page.click("[data-view-button='fan']")
    page.wait("Number(document.body.dataset.fanStep) >= 24")
    shots("fan")
    page.click("[data-view-button='latents']")
    page.wait("document.querySelector('#latents output')?.textContent")
    shots("latents")
    if real:
        page.click("#latents-frame")
        page.wait("!document.getElementById('frame-figure').hidden")
        shots("frame")
        for world in ("real", "race"):
            page.click("[data-view-button='drive']")
            page.wait("document.body.dataset.view === 'drive'")
            page.click(f"[data-world-button='{world}']")
            page.wait(f"document.body.dataset.world === '{world}' && Number(document.body.dataset.step) > 20")
            shots(world)
    page.click("#tour-begin")
    page.wait("!document.getElementById('tour').hidden")
    shots("tour")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/screenshots"))
    parser.add_argument("--dreams", nargs="+", default=list(DREAMS))
    parser.add_argument("--no-real", action="store_true", help="leave out the real environments")
    arguments = parser.parse_args()
    reason = missing()
    if reason is not None:
        sys.exit(f"no screenshots: {reason}")
    torch.set_num_threads(1)
    for dream in arguments.dreams:
        short = dream.removeprefix("Dream").removesuffix("-v0").lower()
        with serving(open_dream(dream)) as server, browser() as driver:
            take(Page(driver, server.address), arguments.out, short, real=not arguments.no_real)


if __name__ == "__main__":
    main()
