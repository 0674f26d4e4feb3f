"""A headless Chromium on the page, for the tests and the screenshots."""

from __future__ import annotations

import base64
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.serve.serving import PATIENCE, wait_until

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    # As with a mouse; the page hides its list of keys from those who have none
    "--blink-settings=primaryHoverType=2,availableHoverTypes=2,primaryPointerType=4,availablePointerTypes=4",
)
DESKTOP, LAPTOP, LARGE = (1280, 860), (1366, 650), (1920, 1080)
PHONE, PHONE_SIDEWAYS = (390, 844), (844, 390)


def missing() -> str | None:
    """Why there is no browser to test with; None if there is one."""
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            return f"{program} is not installed (Debian: apt-get install chromium chromium-driver)"
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "selenium is not installed (it is in the extra `dev`)"
    return None


@contextmanager
def browser() -> Iterator[Any]:
    """A WebDriver of a Chromium with an empty profile."""
    from selenium import webdriver

    with tempfile.TemporaryDirectory(prefix="dreamenv-chromium-", ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
        driver = webdriver.Chrome(options=options, service=service)
        try:
            driver.set_page_load_timeout(PATIENCE)
            driver.set_script_timeout(PATIENCE)
            yield driver
        finally:
            driver.quit()


class Page:
    """The page in a browser.

    Args:
        driver: The WebDriver.
        address: Of the page.
        size: Width and height of the window in CSS pixels.
        dark: Whether the player prefers dark colours.
        media: Other preferences of the player, by the name of the media feature.
    """

    def __init__(
        self,
        driver: Any,
        address: str,
        *,
        size: tuple[int, int] = DESKTOP,
        dark: bool = False,
        media: Mapping[str, str] | None = None,
    ) -> None:
        self.driver = driver
        self.errors()  # what pages before this one left in the browser's log is not this one's
        self.resize(size)
        self.prefer({"prefers-color-scheme": "dark" if dark else "light", **(media or {})})
        driver.get(address)
        self.wait("document.body.dataset.link === 'open' && Number(document.body.dataset.pictures) > 0")

    def resize(self, size: tuple[int, int]) -> None:
        """Look at the page in a window of another size, or on a phone if it is a phone's."""
        self.size = size
        phone = size in (PHONE, PHONE_SIDEWAYS)
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 2 if phone else 1, "mobile": phone}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": phone})

    def prefer(self, media: Mapping[str, str]) -> None:
        """Let these be the player's preferences, by the name of the media feature, and no others."""
        features = [{"name": name, "value": value} for name, value in media.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def run(self, script: str, *arguments: Any) -> Any:
        """What the JavaScript expression `script` gives."""
        return self.driver.execute_script(f"return ({script});", *arguments)

    def wait(self, script: str) -> None:
        """Return once the JavaScript expression `script` holds."""
        wait_until(lambda: self.run(script))

    def click(self, selector: str) -> None:
        """Click the element of a CSS selector."""
        self.driver.find_element("css selector", selector).click()

    def text(self, identifier: str) -> str:
        """The text of the element of an id."""
        return str(self.run(f"document.getElementById({identifier!r}).textContent"))

    def pixels(self, selector: str) -> list[int]:
        """The bytes of a canvas, RGBA."""
        return list(
            self.run(
                "(c => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data))"
                f"(document.querySelector({selector!r}))"
            )
        )

    def set_slider(self, identifier: str, value: float) -> None:
        """Move a slider as a hand would: its value, and the event."""
        self.driver.execute_script(
            "const s = document.getElementById(arguments[0]); s.value = arguments[1];"
            "s.dispatchEvent(new Event('input', { bubbles: true }));",
            identifier,
            value,
        )

    def screenshot(self, file: Path, *, whole: bool = False) -> None:
        """Write what is seen, or the `whole` page, as PNG."""
        file.parent.mkdir(parents=True, exist_ok=True)
        taken = self.driver.execute_cdp_cmd(
            "Page.captureScreenshot", {"captureBeyondViewport": whole} | self._clip(whole)
        )
        file.write_bytes(base64.b64decode(taken["data"]))

    def hold(self, key: str, code: str, *, down: bool) -> None:
        """Press or release a key as the keyboard does."""
        event = {"type": "keyDown" if down else "keyUp", "key": key, "code": code}
        # Without its text Space and Enter press no focused button
        text = {" ": " ", "Enter": "\r"}.get(key)
        number = {" ": 32, "Enter": 13, "Tab": 9}.get(key)
        if text is not None and down:
            event["text"] = text
        if number is not None:
            event |= {"windowsVirtualKeyCode": number}
        self.driver.execute_cdp_cmd("Input.dispatchKeyEvent", event)

    def tap(self, key: str, code: str) -> None:
        """Press and release a key."""
        self.hold(key, code, down=True)
        self.hold(key, code, down=False)

    def errors(self) -> list[str]:
        """What the browser has complained of so far."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def _clip(self, whole: bool) -> dict[str, Any]:
        if not whole:
            return {}
        height = self.run("document.documentElement.scrollHeight")
        return {"clip": {"x": 0, "y": 0, "width": self.size[0], "height": height, "scale": 1}}
