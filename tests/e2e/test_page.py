"""The web page at `/` in headless Chromium, against the whole stack."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.pdfs import text_pdf

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: `make install-all`")
Browser, Page, expect = sync_api.Browser, sync_api.Page, sync_api.expect

_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(_CHROMIUM is None, reason="no Chromium on the PATH: `apt-get install chromium`"),
]

_WAIT_MS = 30_000
_HOSTILE = '"><img src=x onerror=document.title=1>.pdf'
_REPORT_VIOLATIONS = (
    "addEventListener('securitypolicyviolation', e => console.error('CSP', e.violatedDirective, e.blockedURI))"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=_CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def faults() -> Iterator[list[str]]:
    """Errors of scripts, of the console, and violations of the policy, of all pages of a test. There must be none."""
    found: list[str] = []
    yield found
    assert found == []


class Tab:
    """A tab of the browser on the page of the stack, with an empty storage of its own."""

    def __init__(self, browser: Browser, url: str, faults: list[str], **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.context.set_default_timeout(_WAIT_MS)
        self.context.add_init_script(_REPORT_VIOLATIONS)
        self.page: Page = self.context.new_page()
        # A refused request is an error of the console, too. The page shows it, and the tests look there.
        self.page.on("console", lambda line: faults.append(line.text) if _is_fault(line) else None)
        self.page.on("pageerror", lambda error: faults.append(str(error)))
        self.url = url

    def open(self, address: str = "") -> Page:
        self.page.goto(f"{self.url}/{address}")
        return self.page

    def sign_in(self, key: str, address: str = "") -> Page:
        page = self.open(address)
        page.get_by_label("API key").fill(key)
        page.get_by_label("API key").press("Enter")
        expect(page.get_by_role("navigation", name="Views")).to_be_visible(timeout=_WAIT_MS)
        return page


def _is_fault(line: Any) -> bool:
    return line.type == "error" and "Failed to load resource" not in line.text


@pytest.fixture
def tab(browser: Browser, stack: dict[str, Any], faults: list[str]) -> Iterator[Tab]:
    opened = Tab(browser, stack["api_url"], faults)
    yield opened
    opened.context.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files: one that is found, one with a hostile name, one that no worker can read."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "pump.pdf").write_bytes(
        text_pdf("How the pump is bled", "The torque of the axle is 40 Nm", "Spare parts")
    )
    (folder / _HOSTILE).write_bytes(text_pdf("Nothing of the kind"))
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(2000))
    return folder


@pytest.fixture(scope="module")
def own_collection() -> str:
    return f"page_{secrets.token_hex(4)}"


def choose(page: Page, button: str, paths: list[Path]) -> None:
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name=button, exact=True).first.click()
    chooser.value.set_files(paths)


def row(page: Page, filename: str) -> Any:
    return page.get_by_role("row").filter(has_text=filename)


def test_three_files_are_uploaded_and_the_broken_one_says_why(
    tab: Tab, stack: dict[str, Any], files: Path, own_collection: str
) -> None:
    page = tab.sign_in(stack["api_key"], f"#/documents?c={own_collection}")
    expect(page.get_by_text("Drop files or a folder here")).to_be_visible()
    choose(page, "Choose files", sorted(files.iterdir()))
    tray = page.get_by_role("region", name="Uploads")
    expect(tray.get_by_role("heading")).to_have_text("3 files done, 1 failed", timeout=_WAIT_MS)
    expect(tray.get_by_role("listitem").filter(has_text="broken.png")).to_contain_text("picture")
    expect(tray.get_by_role("listitem").filter(has_text="pump.pdf")).to_contain_text("ready, 3 pages")
    expect(row(page, "pump.pdf")).to_contain_text("ready")
    expect(row(page, "broken.png")).to_contain_text("failed")
    expect(row(page, _HOSTILE)).to_contain_text("ready")
    assert page.title() == "Documents · Pagemill", "the file's name ran as a script"


def test_a_search_shows_the_page_and_marks_the_place(tab: Tab, stack: dict[str, Any], own_collection: str) -> None:
    page = tab.sign_in(stack["api_key"], f"#/search?c={own_collection}")
    page.get_by_label("Question").fill("torque of the axle")
    page.get_by_label("Question").press("Enter")
    first = page.locator(".hit").first
    expect(first).to_contain_text("pump.pdf")
    expect(first).to_contain_text("p. 2")
    expect(first.locator(".boxes rect").first).to_be_attached()
    first.click()
    viewer = page.get_by_role("dialog")
    expect(viewer.locator(".boxes rect").first).to_be_attached()
    expect(viewer.get_by_role("status")).to_contain_text("torque")
    assert viewer.locator("img.sheet").evaluate("image => image.naturalWidth") > 300
    viewer.get_by_role("button", name="Next page").click()
    expect(viewer.get_by_label("Page number")).to_have_value("3")
    expect(viewer.get_by_role("button", name="Next page")).to_be_disabled()
    page.keyboard.press("Escape")
    expect(viewer).to_have_count(0)
