"""The page in a real browser: latents, both worlds, the race of both, links, clips and the tour."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.play.openings import known_opening, small_opening
from tests.serve import browser
from tests.serve.browser import Page
from tests.serve.serving import health, serving, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.integration,
    pytest.mark.xdist_group("browser"),
    pytest.mark.skipif(browser.missing() is not None, reason=str(browser.missing())),
]


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    with serving(small_opening(rate=8), players=2) as running:
        yield running


@pytest.fixture
def page(server: Any, driver: Any) -> Iterator[Page]:
    yield Page(driver, server.address)
    driver.get("about:blank")
    wait_until(lambda: health(server)["players"] == 0)


def number(identifier: str) -> str:
    """JavaScript for the number that an element shows."""
    return f"Number(document.getElementById('{identifier}').textContent.replace('−', '-').replace('%', ''))"


def test_latents_are_decoded_live_and_a_real_frame_is_seen(page: Page) -> None:
    page.tap("l", "KeyL")
    page.wait("document.querySelectorAll('#latents input').length === 4")
    page.wait("document.querySelector('#latents output').textContent !== ''")
    wait_until(lambda: len(set(page.pixels("#decoded")[:2000])) > 2)
    assert page.run("document.getElementById('more-latents').hidden"), "all are among the first twelve"
    assert not page.run("document.getElementById('panel').checkVisibility()")
    before, reward = page.pixels("#decoded"), page.text("latents-reward")
    page.driver.execute_script(
        "const s = document.querySelector('#latents input'); s.value = s.max; s.dispatchEvent(new Event('input'));"
    )
    wait_until(lambda: page.pixels("#decoded") != before)
    page.wait(f"document.getElementById('latents-reward').textContent !== '{reward}'")
    moved = page.pixels("#decoded")
    page.click("#latents-random")
    wait_until(lambda: page.pixels("#decoded") != moved)
    assert page.run("document.querySelectorAll('#latents .moved').length") == 4
    page.click("#latents-back")
    wait_until(lambda: page.pixels("#decoded") == before)
    assert page.run("document.getElementById('frame-figure').hidden")
    # The walking environment is 100 at first and 2 brighter a frame
    page.click("#latents-frame")
    page.wait("!document.getElementById('frame-figure').hidden")
    wait_until(lambda: page.pixels("#frame")[0] > 100)
    page.click("#latents-on")
    page.wait("document.body.dataset.view === 'drive' && document.body.dataset.world === 'dream'")
    assert page.errors() == []


def test_to_the_real_world_into_a_race_and_back(page: Page) -> None:
    page.click("[data-world-button=real]")
    page.wait("document.body.dataset.world === 'real'")
    wait_until(lambda: page.pixels("#real")[0] >= 100)
    assert page.run("document.getElementById('temperature').disabled"), "it changes nothing in the real world"
    left, right = (
        page.run(f"document.getElementById('{name}').getBoundingClientRect().x") for name in ("dream", "real")
    )
    assert left < right, "the model's picture is on the left, as in the window"
    page.tap("t", "KeyT")
    page.wait("document.body.dataset.world === 'race'")
    assert not page.run("document.getElementById('temperature').disabled")
    page.wait(f"{number('drift-value')} > 0 && document.getElementById('drift').value > 0")
    page.wait(f"{number('real-return')} > 0")
    assert page.run("document.getElementById('real-return').checkVisibility()")
    assert page.text("return-label") == "Return, dream"
    wait_until(lambda: any(page.pixels("#drift-line")))
    step = page.run("document.body.dataset.step")
    page.click("#pause")
    page.wait("document.getElementById('pause').textContent === 'Resume'")
    page.click("#catch-up")
    page.wait(f"document.getElementById('drift-value').textContent === '0%' && {number('real-return')} === 0")
    assert int(step) > 0
    page.tap("t", "KeyT")
    page.wait("document.body.dataset.world === 'dream'")
    assert not page.run("document.getElementById('drift').checkVisibility()")
    assert page.errors() == []


def test_a_link_and_a_clip(server: Any, page: Page) -> None:
    page.driver.execute_script(
        "window.saved = []; const made = URL.createObjectURL;"
        "URL.createObjectURL = (blob) => { window.saved.push([blob.type, blob.size]); return made(blob); };"
    )
    page.wait("Number(document.body.dataset.pictures) > 3")
    page.set_slider("temperature", 0.4)
    page.click("#clip")
    page.wait("window.saved.length === 1")
    kind, size = page.run("window.saved[0]")
    assert kind == "image/gif"
    assert size > 500
    page.click("#share")
    page.wait("location.hash.includes('moment=')")
    assert "address bar" in page.text("toast") or "copied" in page.text("toast")
    address = page.run("location.href")
    page.driver.get("about:blank")
    other = Page(page.driver, address, media={"prefers-reduced-motion": "reduce"})  # so that it waits at that moment
    other.wait("document.getElementById('temperature-value').textContent === '0.40'")
    other.wait("document.getElementById('pause').textContent === 'Resume' && document.body.dataset.step === '0'")
    assert other.run("document.getElementById('toast').hidden")
    begun = other.pixels("#dream")
    other.driver.get("about:blank")
    again = Page(page.driver, address, media={"prefers-reduced-motion": "reduce"})
    wait_until(lambda: again.pixels("#dream") == begun)
    again.driver.get("about:blank")
    wrong = Page(page.driver, f"{server.address}#seed=3&moment=AAAAAAAA")
    wrong.wait("document.getElementById('toast').textContent.includes('another dream')")


def test_the_best_of_ones_own_episodes_is_kept(driver: Any) -> None:
    with serving(known_opening(rate=30, max_episode_steps=4)) as short:
        page = Page(driver, short.address)
        page.wait("document.getElementById('notice').textContent.startsWith('Time is up')")
        assert page.text("best-return") == "–", "the agent's episodes are not one's own"
        assert page.run("document.getElementById('agent-return').parentElement.hidden"), "nobody has scored it"
        page.click("[data-wheel-button=human]")
        # The rewards of the counting memory that stands still: 1 + 2 + 3 + 4
        page.wait("Number(document.getElementById('best-return').textContent) >= 10")
        driver.get("about:blank")


def test_the_tour_goes_through_its_stops(page: Page) -> None:
    page.click("#tour-begin")
    assert page.run("document.activeElement.id") == "tour-title"
    for place, (world, view) in enumerate(
        [("real", "drive"), ("real", "latents"), ("dream", "drive"), ("dream", "fan"), ("race", "drive")], 1
    ):
        page.wait(f"document.body.dataset.world === '{world}' && document.body.dataset.view === '{view}'")
        assert page.text("tour-title").startswith(f"{place} of 5")
        page.click("#tour-next")
    page.wait("document.getElementById('tour').hidden && document.body.dataset.world === 'dream'")
    assert page.text("temperature-value") == "1.00"
    assert page.errors() == []
