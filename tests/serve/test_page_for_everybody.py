"""The page for everybody: sizes of screens, the keyboard alone, preferences, a lost server, axe-core's rules."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image

from tests.accessibility import violations
from tests.play.openings import known_opening, small_opening
from tests.serve import browser
from tests.serve.browser import DESKTOP, LAPTOP, LARGE, PHONE, PHONE_SIDEWAYS, Page
from tests.serve.serving import health, serving, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.integration,
    pytest.mark.xdist_group("browser"),
    pytest.mark.skipif(browser.missing() is not None, reason=str(browser.missing())),
]

# Left, top, right and bottom of an element
BOX = "(b => [b.left, b.top, b.right, b.bottom])(document.querySelector('{}').getBoundingClientRect())"


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    with serving(small_opening(rate=8), players=2) as running:
        yield running


@pytest.fixture
def page(server: Any, driver: Any) -> Iterator[Page]:
    yield Page(driver, server.address)
    driver.get("about:blank")
    wait_until(lambda: health(server)["players"] == 0)


def in_sight(page: Page, selector: str) -> bool:
    left, top, right, bottom = page.run(BOX.format(selector))
    return 0 <= left < right <= page.size[0] and 0 <= top < bottom <= page.size[1]


def test_everything_that_is_needed_to_drive_is_in_sight(page: Page) -> None:
    for size, least in ((LAPTOP, 400), (LARGE, 800), (PHONE, 340), (PHONE_SIDEWAYS, 300), (DESKTOP, 560)):
        page.resize(size)
        assert in_sight(page, "#dream"), size
        assert all(in_sight(page, f"[data-key={name}]") for name in ("LEFT", "RIGHT")), size
        assert in_sight(page, "#return"), size
        left, _, right, _ = page.run(BOX.format("#dream"))
        assert right - left >= least, size
    for world in ("race", "dream"):
        page.resize(DESKTOP)
        page.click(f"[data-world-button={world}]")
        page.wait(f"document.body.dataset.world === '{world}'")
        for view in ("fan", "latents", "drive"):
            page.resize(DESKTOP)
            page.click(f"[data-view-button={view}]")
            page.wait(f"document.body.dataset.view === '{view}'")
            for size in (DESKTOP, LAPTOP, PHONE, PHONE_SIDEWAYS):
                page.resize(size)
                assert page.run("document.documentElement.scrollWidth") <= size[0], (world, view, size)
                picture = {"fan": "#scene-fan", "latents": "#decoded", "drive": "#dream"}[view]
                assert in_sight(page, picture), (world, view, size)


def focused(page: Page) -> str:
    return str(page.run("(e => e.id || e.dataset.viewButton || e.getAttribute('aria-label'))(document.activeElement)"))


def tab_to(page: Page, name: str) -> None:
    for _ in range(60):
        page.tap("Tab", "Tab")
        if focused(page).startswith(name):
            return
    raise AssertionError(f"{name} is not reached by Tab")


def test_the_keyboard_alone_is_enough(page: Page) -> None:
    tab_to(page, "fan")
    outline = page.run("getComputedStyle(document.activeElement).outlineWidth")
    assert float(outline.removesuffix("px")) >= 2
    page.tap("Enter", "Enter")
    page.wait("document.body.dataset.view === 'fan'")
    tab_to(page, "Dream on in future 2")
    page.tap(" ", "Space")
    page.wait("document.body.dataset.view === 'drive'")
    page.run("document.activeElement.blur()")
    tab_to(page, "reset")
    page.wait("Number(document.body.dataset.step) > 0")
    page.tap(" ", "Space")
    page.wait("document.body.dataset.step === '0'")
    assert page.text("pause") == "Pause", "with the focus on it the button keeps the space bar"
    tab_to(page, "mixture-toggle")
    page.tap("Enter", "Enter")
    page.wait("!document.getElementById('mixture-figure').hidden")


def test_preferences_are_kept_to(server: Any, page: Page) -> None:
    def backgrounds() -> set[tuple[int, ...]]:
        """What is seen of the two buttons, near the left edge: computed styles do not know of forced colours."""
        found = set()
        for button in page.driver.find_elements("css selector", "[data-wheel-button]"):
            picture = Image.open(io.BytesIO(button.screenshot_as_png)).convert("RGB")
            found.add(picture.getpixel((4, picture.height // 2)))
        return found

    page.wait("document.querySelector('[data-wheel-button=agent]').getAttribute('aria-pressed') === 'true'")
    page.prefer({"forced-colors": "active", "prefers-reduced-motion": "reduce"})  # at once, not by and by
    assert page.run("matchMedia('(forced-colors: active)').matches")
    assert len(backgrounds()) == 2
    # Without a rule of the page's they would look the same
    page.run(
        "document.styleSheets[0].deleteRule([...document.styleSheets[0].cssRules]"
        ".findIndex((rule) => rule.conditionText === '(forced-colors: active)'))"
    )
    assert len(backgrounds()) == 1
    page.driver.get("about:blank")
    calm = Page(page.driver, server.address, media={"prefers-reduced-motion": "reduce"})
    calm.wait("document.getElementById('pause').textContent === 'Resume'")
    assert calm.text("notice") == "Paused"
    step = calm.run("document.body.dataset.step")
    calm.tap(".", "Period")
    calm.wait(f"document.body.dataset.step !== '{step}'")


def test_without_a_server_nothing_can_be_pressed_until_it_is_back(driver: Any) -> None:
    inert = "[...document.querySelectorAll('.needs-link')].map((element) => element.inert)"
    with serving(known_opening(rate=8)) as first:
        page = Page(driver, first.address)
        assert not any(page.run(inert))
        port = int(first.address.rstrip("/").rpartition(":")[2])
    page.wait("document.body.dataset.link === 'lost'")
    assert all(page.run(inert))
    assert page.text("toast") == "The connection is lost; trying again …"
    assert not page.run("document.getElementById('toast').hidden")
    with serving(known_opening(rate=8), port=port):
        page.wait("document.body.dataset.link === 'open'")
        assert not any(page.run(inert))
        assert page.run("document.getElementById('toast').hidden")
        driver.get("about:blank")


def test_axe_core_finds_nothing_wrong(page: Page) -> None:
    at_once = {"prefers-reduced-motion": "reduce"}  # colours on their way to others have no contrast of their own
    page.wait("document.body.dataset.wheel === 'agent'")
    page.run("document.querySelector('.about').toggleAttribute('open')")
    page.click("#mixture-toggle")
    found = {"drive": violations(page.driver)}
    page.prefer({"prefers-color-scheme": "dark", **at_once})
    found["drive, dark"] = violations(page.driver)
    page.click("#tour-begin")
    page.wait("document.body.dataset.world === 'real'")
    found["tour, dark"] = violations(page.driver)
    page.click("#tour-end")
    page.click("[data-world-button=race]")
    page.wait("document.body.dataset.world === 'race'")
    page.resize(PHONE)
    page.prefer({"prefers-color-scheme": "light", **at_once})
    found["race, phone"] = violations(page.driver)
    for view in ("fan", "latents"):
        page.run(f"document.querySelector('[data-view-button={view}]').click()")
        page.wait(f"document.body.dataset.view === '{view}'")
        found[view] = violations(page.driver)
    page.driver.execute_script(
        "document.getElementById('away-title').textContent = 'You were away';"
        "document.getElementById('come-back').textContent = 'Come back';"
        "document.getElementById('away').showModal();"
    )
    found["away"] = violations(page.driver)
    assert {state: wrong for state, wrong in found.items() if wrong} == {}
