"""Pictures of the page on a desk and on a phone: python -m tests.serve.screenshots --out build/screenshots."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

from dreamenv.play.opening import open_dream
from tests.serve.browser import DESKTOP, PHONE, Page, browser, missing
from tests.serve.serving import serving

DREAMS = ("DreamCarRacing-v0", "DreamDoom-v0")
DEVICES = (("desktop", DESKTOP, False), ("desktop-dark", DESKTOP, True), ("phone", PHONE, False))


def take(page: Page, folder: Path, name: str) -> None:
    """All views of a page that is open, `name` first in the files' names."""

    def shot(view: str, whole: bool = False) -> None:
        page.run("window.scrollTo(0, 0)")
        page.screenshot(folder / f"{name}-{view}.png", whole=whole)
        print(folder / f"{name}-{view}.png", flush=True)

    page.click("[data-wheel-button='agent']")
    page.wait("Number(document.getElementById('return').textContent.replace('−', '-')) !== 0")
    time.sleep(3)
    shot("drive")
    page.click("#mixture-toggle")
    page.wait("document.getElementById('mixture').width > 300")
    time.sleep(2)
    shot("mixture", whole=True)
    page.click("#mixture-toggle")
    page.click("[data-view-button='fan']")
    page.wait("Number(document.body.dataset.fanStep) >= 24")
    shot("fan")
    page.click("[data-view-button='latents']")
    page.wait("document.querySelector('#latent-sliders output')?.textContent")
    page.driver.execute_script(
        "document.querySelectorAll('#latent-sliders input').forEach((s, i) => { if (i % 5 === 0) {"
        "s.value = Number(s.value) + (s.max - s.min) / 6; s.dispatchEvent(new Event('input')); } });"
    )
    time.sleep(2)
    shot("latents", whole=True)


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
        with serving(open_dream(dream), players=4) as server, browser() as driver:
            for device, size, dark in (
                ("desktop", DESKTOP, False),
                ("desktop-dark", DESKTOP, True),
                ("phone", PHONE, False),
            ):
                take(Page(driver, server.address, size=size, dark=dark), arguments.out, f"{short}-{device}")
            if not arguments.no_real:
                for device, size in (("desktop", DESKTOP), ("phone", PHONE)):
                    page = Page(driver, server.address, size=size)
                    page.click("[data-wheel-button='agent']")
                    page.click("[data-world-button='real']")
                    page.wait("document.body.dataset.world === 'real'")
                    page.wait("!document.getElementById('return').textContent.startsWith('0.')")
                    time.sleep(8)
                    page.run("window.scrollTo(0, 0)")
                    page.screenshot(arguments.out / f"{short}-{device}-real.png")
                    page.click("[data-world-button='dream']")
                    page.wait("document.body.dataset.world === 'dream'")


if __name__ == "__main__":
    main()
