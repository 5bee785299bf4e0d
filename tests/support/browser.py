"""A headless Chromium for tests of the report's pages; without one they are skipped."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
DRIVER = shutil.which("chromedriver")
FLAGS = ("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run",
         "disable-background-networking", "disable-component-update", "disable-sync",
         "disable-dev-shm-usage", "window-size=1400,1000")  # fmt: skip


class Browser:
    """A page in Chromium, and what the tests do with it."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, path: Path) -> None:
        """Load a file anew and wait for the chart."""
        self.visit(path.as_uri())

    def visit(self, address: str) -> None:
        """Load a report anew and wait for the chart."""
        from selenium.webdriver.support.ui import WebDriverWait

        self.wait = WebDriverWait(self.driver, 60, 0.05)
        self.driver.get(address)
        self.until(
            "'ready' in document.documentElement.dataset && document.querySelector('#diff tr')"
        )

    def js(self, script: str, *arguments: object) -> Any:
        """The value of an expression."""
        return self.driver.execute_script(f"return ({script})", *arguments)

    def until(self, script: str) -> None:
        """Wait for an expression to hold."""
        self.wait.until(lambda _: self.js(script))

    def all(self, selector: str) -> list[Any]:
        """The elements."""
        return list(self.driver.find_elements("css selector", selector))

    def one(self, selector: str) -> Any:
        """The first element, scrolled into sight."""
        found = self.driver.find_element("css selector", selector)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", found)
        return found

    def click(self, selector: str) -> None:
        self.one(selector).click()

    def choose(self, selector: str, label: str) -> None:
        from selenium.webdriver.support.ui import Select

        Select(self.one(selector)).select_by_visible_text(label)

    def hover(self, selector: str, x: int = 0, y: int = 0) -> None:
        """Move the pointer to an element, off its middle by so much."""
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).move_to_element_with_offset(self.one(selector), x, y).perform()

    def keys(self, *keys: str) -> None:
        """Type where the focus is."""
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def heading(self, text: str) -> Any:
        """The button by which the table of runs is sorted."""
        return next(found for found in self.all("#table thead button") if found.text == text)

    def column(self, heading: str) -> list[str]:
        """The texts of a column of the table of runs."""
        return list(
            self.js(
                """(() => {
                const table = document.querySelector("#table");
                const at = [...table.tHead.rows[0].cells].findIndex(
                    (cell) => cell.innerText.trim().startsWith(arguments[0]));
                return [...table.tBodies[0].rows].map((row) => row.cells[at].innerText.trim());
                })()""",
                heading,
            )
        )

    def emulate(self, **media: str) -> None:
        """Media features of the user."""
        features = [{"name": n.replace("_", "-"), "value": v} for n, v in media.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def width(self, pixels: int) -> None:
        """The window's width; 0 as it was."""
        if not pixels:  # an override of 0 would leave the last one
            self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
            return
        size = {"width": pixels, "height": 900, "deviceScaleFactor": 0, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
