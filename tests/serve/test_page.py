"""The page in a real browser: keys, temperature, views, and both worlds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes import CountingMemory
from tests.play.openings import DressedMemory, known_opening, small_opening
from tests.serve import browser
from tests.serve.browser import Page
from tests.serve.serving import health, serving, wait_until

if browser.missing() is None:
    from selenium.webdriver import ActionChains

pytestmark = [
    pytest.mark.slow,
    pytest.mark.integration,
    pytest.mark.xdist_group("browser"),
    pytest.mark.skipif(browser.missing() is not None, reason=str(browser.missing())),
]

RATE = 4


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    with serving(small_opening(rate=RATE), players=2) as running:
        yield running


@pytest.fixture
def page(server: Any, driver: Any) -> Iterator[Page]:
    yield Page(driver, server.address)
    driver.get("about:blank")
    wait_until(lambda: health(server)["players"] == 0)


PRESSED = "document.querySelector('[data-key={}]').getAttribute('aria-pressed')"


def test_the_agent_drives_first_until_a_driving_key_is_pressed(page: Page) -> None:
    page.wait("document.body.dataset.wheel === 'agent'")
    assert page.run("document.getElementById('invitation').checkVisibility()")
    assert page.text("invitation") == "The agent is playing. Press ← or → to take over."
    first = page.pixels("#dream")
    assert len(set(first[:2000])) > 2, "the picture is not blank"
    page.wait("Number(document.body.dataset.pictures) > 10")
    assert page.pixels("#dream") != first
    page.tap("ArrowUp", "ArrowUp")
    page.tap("ArrowLeft", "ArrowLeft")
    page.wait("document.body.dataset.wheel === 'human'")
    assert page.run("document.getElementById('invitation').hidden")
    page.tap("h", "KeyH")
    page.wait("!document.getElementById('invitation').hidden")
    # What the page says of V, M and the temperature is one click away, on every screen
    page.click(".about summary")
    assert "memory model" in page.run("document.querySelector('.about').innerText")
    assert page.errors() == []


def test_a_key_held_is_an_action_of_the_dream(driver: Any) -> None:
    """The reward of the counting memory is the action and the number of the step."""
    with serving(known_opening(rate=RATE, max_episode_steps=10**6)) as counting:
        page = Page(driver, counting.address)
        reward = "Number(document.getElementById('predicted-reward').textContent) - Number(document.body.dataset.step)"
        page.wait(f"Number(document.body.dataset.step) > 0 && {reward} === 2")  # the agent's action
        page.click("[data-wheel-button=human]")
        page.wait(f"{reward} === 0")
        for key, name, action in (("ArrowLeft", "LEFT", 2), ("KeyD", "RIGHT", 1)):
            page.hold(key, key, down=True)
            page.wait(f"{reward} === {action}")
            assert page.run(PRESSED.format(name)) == "true"
            page.hold(key, key, down=False)
            page.wait(f"{reward} === 0")
        # The same by touch
        button = page.driver.find_element("css selector", "[data-key=LEFT]")
        hands = ActionChains(page.driver)
        hands.click_and_hold(button).perform()
        page.wait(f"{reward} === 2")
        hands.release().perform()
        page.wait(f"{reward} === 0")
        # With the focus on it, by Space and Enter
        page.run("document.querySelector('[data-key=RIGHT]').focus()")
        for key, code in ((" ", "Space"), ("Enter", "Enter")):
            page.hold(key, code, down=True)
            page.wait(f"{reward} === 1")
            page.hold(key, code, down=False)
            page.wait(f"{reward} === 0")
        assert page.text("pause") == "Pause", "Space was the button's"
        # A screen reader clicks without a pointer: one action
        actions = "(n => Number(document.getElementById('return').textContent) - n * (n + 1) / 2)"
        actions += "(Number(document.body.dataset.step))"
        before = page.run(actions)
        page.run("document.querySelector('[data-key=LEFT]').click()")
        page.wait(f"{actions} > {before}")
        page.wait(f"{PRESSED.format('LEFT')} === 'false'")
        driver.get("about:blank")


def test_what_a_memory_does_not_offer_is_not_on_the_page(driver: Any) -> None:
    with serving(known_opening(DressedMemory(CountingMemory()), rate=RATE)) as plain:
        page = Page(driver, plain.address)
        page.wait("Number(document.body.dataset.step) > 0")
        hidden = "document.querySelector('[data-view-button=latents]').hidden"
        assert page.run(hidden) is True
        assert page.run("document.getElementById('mixture-toggle').hidden") is True
        page.tap("l", "KeyL")
        page.tap("m", "KeyM")
        page.tap("f", "KeyF")
        page.wait("document.body.dataset.view === 'fan'")
        assert page.run("document.getElementById('mixture-figure').hidden") is True
        assert page.errors() == []
        driver.get("about:blank")


def test_the_step_rate_holds(driver: Any) -> None:
    # Nothing is pressed all the while: who watches is not away
    with serving(known_opening(rate=RATE, max_episode_steps=10**6), idle_seconds=2.5) as endless:
        page = Page(driver, endless.address)
        page.wait(f"Number(document.body.dataset.stepsPerSecond) > {RATE / 2}")
        seen = []
        for _ in range(8):
            time.sleep(0.5)
            seen.append(float(page.run("document.body.dataset.stepsPerSecond")))
        pictures = page.run("document.body.dataset.picturesPerSecond")
        print(f"\n{RATE} steps a second asked for, seen {seen}; {pictures} pictures a second")
        assert sorted(seen)[len(seen) // 2] == pytest.approx(RATE, rel=0.25)
        assert page.run("document.body.dataset.link") == "open"
        driver.get("about:blank")


def test_temperature_moves(server: Any, page: Page) -> None:
    page.set_slider("temperature", 2.5)
    assert page.text("temperature-value") == "2.50"
    page.tap("]", "BracketRight")
    assert page.text("temperature-value") == "2.55"
    # A page that is opened anew is another player, with the dream's own temperature
    assert Page(page.driver, server.address).text("temperature-value") == "1.00"


def test_a_page_at_rest_shows_no_steps(page: Page) -> None:
    page.click("#pause")
    page.wait("document.getElementById('pause').textContent === 'Resume'")
    page.wait("document.body.dataset.stepsPerSecond === '0'")


def test_pause_step_reset_and_hand_over_by_key(page: Page) -> None:
    # A button that was clicked with the mouse does not take the space bar: the dream would begin anew
    page.click("#reset")
    page.wait("Number(document.body.dataset.step) > 0")
    page.tap(" ", "Space")
    page.wait("document.getElementById('pause').textContent === 'Resume'")
    shown = page.run("document.body.dataset.pictures")

    def stands_still() -> bool:
        nonlocal shown
        time.sleep(1.0)
        before, shown = shown, page.run("document.body.dataset.pictures")
        return shown == before

    wait_until(stands_still)
    page.tap(".", "Period")
    page.wait(f"document.body.dataset.pictures !== '{shown}'")
    page.tap("h", "KeyH")
    page.wait("document.querySelector('[data-wheel-button=human]').getAttribute('aria-pressed') === 'true'")
    page.tap("r", "KeyR")
    page.wait("document.getElementById('return').textContent === '0.0'")


def test_the_fan_opens_and_a_future_is_taken(page: Page) -> None:
    page.click("[data-view-button=fan]")
    page.wait("document.querySelectorAll('#scene-fan button').length === 9")
    page.wait("[...document.querySelectorAll('#scene-fan span')].every(s => /[+−]/.test(s.textContent))")
    first = page.pixels("#scene-fan canvas")
    page.wait("document.querySelector('#scene-fan span').textContent !== '+0.0'")
    wait_until(lambda: page.pixels("#scene-fan canvas") != first)
    page.click("#scene-fan button:nth-child(5)")
    page.wait("document.body.dataset.view === 'drive'")
    assert page.errors() == []


def test_the_mixture_is_drawn(page: Page) -> None:
    page.tap("m", "KeyM")
    page.wait("!document.getElementById('mixture-figure').hidden")
    wait_until(lambda: any(page.pixels("#mixture")))


def test_who_finds_no_place_is_told_and_comes_back(server: Any, page: Page) -> None:
    page.driver.switch_to.new_window("tab")
    second = Page(page.driver, server.address)
    page.driver.switch_to.new_window("tab")
    page.driver.get(server.address)
    second.wait("document.getElementById('away').open")
    assert "All 2 places are taken." in second.text("away-text")
    assert second.text("come-back") == "Try again now"
    assert second.run("document.getElementById('toast').hidden"), "it is said once"
    tabs = page.driver.window_handles
    page.driver.switch_to.window(tabs[1])
    page.driver.close()
    page.driver.switch_to.window(tabs[2])
    wait_until(lambda: health(server)["players"] == 1)
    second.click("#come-back")
    second.wait("!document.getElementById('away').open && document.body.dataset.link === 'open'")
    page.driver.close()
    page.driver.switch_to.window(tabs[0])
