"""A tab of headless Chromium on the web page. Import it only where playwright is installed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect, sync_playwright

__all__ = ["CHROMIUM", "OpenTab", "Tab", "choose", "drop", "expect", "focused", "row_of", "started_browser"]

CHROMIUM: Final = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
"""The path of the browser; None where there is none."""
WAIT_MS: Final = 30_000
_REPORT_VIOLATIONS: Final = (
    "addEventListener('securitypolicyviolation', e => console.error('CSP', e.violatedDirective, e.blockedURI))"
)
_DROP: Final = """(target, files) => {
    const transfer = new DataTransfer();
    for (const [name, bytes] of files) transfer.items.add(new File([new Uint8Array(bytes)], name));
    for (const type of ["dragenter", "dragover", "drop"]) {
        target.dispatchEvent(new DragEvent(type, { dataTransfer: transfer, bubbles: true, cancelable: true }));
    }
}"""


class Tab:
    """A tab with an empty storage of its own.

    `faults` collects errors of scripts, of the console, and violations of the page's policy.
    """

    def __init__(self, browser: Browser, url: str, faults: list[str], **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.context.set_default_timeout(WAIT_MS)
        self.context.add_init_script(_REPORT_VIOLATIONS)
        self.page: Page = self.context.new_page()
        self.page.on("console", lambda line: faults.append(line.text) if _is_fault(line) else None)
        self.page.on("pageerror", lambda error: faults.append(str(error)))
        self.url = url

    def open(self, address: str = "") -> Page:
        """Open a view: its address begins with `#/`."""
        self.page.goto(f"{self.url}/{address}")
        return self.page

    def sign_in(self, key: str, address: str = "") -> Page:
        page = self.open(address)
        self.enter_key(key)
        expect(page.get_by_role("navigation", name="Views")).to_be_visible()
        return page

    def enter_key(self, key: str) -> None:
        self.page.get_by_label("API key").fill(key)
        self.page.get_by_label("API key").press("Enter")


OpenTab = Callable[..., Tab]


@contextmanager
def started_browser() -> Iterator[Browser]:
    """Chromium without a window. Its sandbox is off: it shows files of the tests only, and may run as root."""
    expect.set_options(timeout=WAIT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def choose(page: Page, button: str, *paths: Path) -> None:
    """Press a button that asks for files, and choose these."""
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name=button, exact=True).first.click()
    chooser.value.set_files(list(paths))


def drop(page: Page, *paths: Path) -> None:
    """Drop these files on the page."""
    page.locator("body").evaluate(_DROP, [[path.name, list(path.read_bytes())] for path in paths])


def row_of(page: Page, filename: str) -> Locator:
    """The row of the table of documents."""
    return page.locator("tbody [data-row]").filter(has_text=filename)


def focused(page: Page) -> str:
    """The name of the element that has the focus: its label, or its text."""
    name: str = page.evaluate(
        "(document.activeElement.getAttribute('aria-label') || document.activeElement.innerText || '').trim()"
    )
    return name


def _is_fault(line: ConsoleMessage) -> bool:
    # A refused request is an error of the console, too. The page shows it, and tests look there.
    return line.type == "error" and "Failed to load resource" not in line.text
