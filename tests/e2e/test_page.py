"""The web page at `/` in headless Chromium, against the whole stack. Each test ends with no error in the console."""

from __future__ import annotations

import json
import re
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.pdfs import numbered_pdf, text_pdf
from tests.support.waiting import wait_until

pytest.importorskip("playwright.sync_api", reason="playwright is not installed: `make install-all`")
from tests.support.browser import CHROMIUM, OpenTab, Tab, choose, drop, expect, focused, row_of

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH: `apt-get install chromium`"),
]

HOSTILE = '"><img src=x onerror=document.title=1>.pdf'
HEAT = '<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>'
HIDE = """is => {
    Object.defineProperty(document, "hidden", { value: is, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
}"""
VIEWS = ("search", "documents", "collections", "dead-letters", "health", "settings")


@pytest.fixture(scope="module")
def own() -> str:
    """The collection of this module. The first test fills it; the others read it."""
    return f"page_{secrets.token_hex(4)}"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files: one that is found, one with a hostile name, one that no worker can read."""
    folder = tmp_path_factory.mktemp("files")
    texts = ("How the pump is bled", "The torque of the axle is 40 Nm", "Spare parts")
    (folder / "pump.pdf").write_bytes(text_pdf(*texts))
    (folder / HOSTILE).write_bytes(text_pdf("<b>Nothing</b> of the kind"))
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(2000))
    return folder


def test_three_files_are_uploaded_and_the_broken_one_says_why(tab: Tab, key: str, files: Path, own: str) -> None:
    page = tab.sign_in(key, f"#/documents?c={own}")
    expect(page.get_by_text("Drop files or a folder here")).to_be_visible()
    choose(page, "Choose files", *sorted(files.iterdir()))
    tray = page.get_by_role("region", name="Uploads")
    expect(tray.get_by_role("heading")).to_have_text("3 files done, 1 failed")
    expect(tray.get_by_role("listitem").filter(has_text="broken.png")).to_contain_text("the picture is damaged")
    expect(tray.get_by_role("listitem").filter(has_text="pump.pdf")).to_contain_text("ready, 3 pages")
    expect(row_of(page, "pump.pdf")).to_contain_text("ready")
    expect(row_of(page, "broken.png")).to_contain_text("conversion_failed")
    expect(row_of(page, HOSTILE)).to_contain_text("ready")
    expect(page.get_by_role("button", name="Failed 1")).to_be_visible()
    assert page.title() == "Documents · Pagemill", "the file's name ran as a script"
    assert page.locator("img[src=x]").count() == 0


def test_a_filter_a_state_and_a_sort_choose_documents(tab: Tab, key: str, own: str) -> None:
    page = tab.sign_in(key, f"#/documents?c={own}&sort=filename&order=up")
    expect(page.locator("tbody [data-row]").last).to_contain_text("pump.pdf")
    page.get_by_role("button", name="Document", exact=True).click()
    expect(page.locator("tbody [data-row]").first).to_contain_text("pump.pdf")
    page.get_by_label("Filter", exact=True).fill("pages > 2")
    page.get_by_label("Filter", exact=True).press("Enter")
    expect(page.locator("tbody [data-row]")).to_have_count(1)
    page.get_by_role("button", name="Failed 1").click()
    expect(page.get_by_text("No document matches")).to_be_visible()
    page.get_by_label("Filter", exact=True).fill("pages >> 2")
    page.get_by_label("Filter", exact=True).press("Enter")
    expect(page.get_by_role("alert").filter(has_text="character")).to_be_visible()


def test_a_search_shows_the_page_and_marks_the_place(tab: Tab, key: str, own: str) -> None:
    page = tab.sign_in(key, f"#/search?c={own}")
    page.get_by_label("Question").fill("torque of the axle")
    page.get_by_label("Question").press("Enter")
    first = page.locator(".hit").first
    expect(first).to_contain_text("pump.pdf")
    expect(first).to_contain_text("p. 2")
    expect(first.locator(".boxes rect").first).to_be_attached()
    first.click()
    viewer = page.get_by_role("dialog")
    expect(viewer.locator(".boxes rect")).to_have_count(2)
    expect(viewer.locator(".viewer-note")).to_have_text("Marked: torque, axle")
    assert viewer.locator("img.sheet").evaluate("image => image.naturalWidth") > 300
    viewer.get_by_role("button", name="Next page").click()
    expect(viewer.get_by_label("Page number")).to_have_value("3")
    expect(viewer.get_by_role("button", name="Next page")).to_be_disabled()
    expect(viewer.locator(".boxes")).to_have_count(0)


def test_a_heat_map_lies_over_the_page_of_a_visual_model(tab: Tab, key: str, own: str) -> None:
    def answer(route: Any) -> None:
        if "format=png" in route.request.url:
            route.fulfill(body=HEAT, content_type="image/svg+xml")
        else:
            route.fulfill(json={"heat": {"rows": 1, "columns": 1, "values": [[1]]}, "words": None, "missing": []})

    tab.page.route("**/highlights?*", answer)
    page = tab.sign_in(key, f"#/search?c={own}&q=torque")
    page.locator(".hit").first.click()
    expect(page.get_by_role("dialog").locator("img.heat")).to_be_attached()
    expect(page.get_by_role("dialog").locator(".viewer-note")).to_have_text("Heat map")
    page.keyboard.press("m")
    expect(page.get_by_role("dialog").locator("img.heat")).to_have_count(0)


def test_a_dead_letter_is_replayed_and_the_next_one_discarded(tab: Tab, key: str, own: str, api: httpx.Client) -> None:
    page = tab.sign_in(key, f"#/dead-letters?c={own}")
    count = page.locator('[data-count="dead-letters"]')
    expect(count).to_have_text("1")
    page.get_by_role("button", name="Sign out").click()
    tab.enter_key(key)
    expect(count).to_have_text("1")
    page.get_by_role("button", name="broken.png").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("listitem").last).to_contain_text("failed")
    dialog.get_by_label("Why").fill("tried again by a test")
    dialog.get_by_role("button", name="Replay").click()
    expect(page.locator(".toast")).to_contain_text("“broken.png” is queued again.")
    expect(page.get_by_text("No open dead letters")).to_be_visible()
    page.get_by_role("button", name="Replayed").click()
    page.get_by_role("button", name="broken.png").click()
    expect(dialog).to_contain_text("tried again by a test")
    # The second failure has a letter of its own.
    wait_until(lambda: api.get("/dead-letters", params={"collection": own}).json()["dead_letters"], 30)
    dialog.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Open", exact=True).click()
    page.get_by_role("button", name="broken.png").click()
    dialog.get_by_role("button", name="Discard").click()
    expect(page.get_by_text("No open dead letters")).to_be_visible()


def test_work_is_cancelled_and_a_delete_is_asked_once_and_undone(
    tab: Tab, key: str, api: httpx.Client, tmp_path: Path
) -> None:
    own = f"page_{secrets.token_hex(4)}"
    long = tmp_path / "long.pdf"
    long.write_bytes(numbered_pdf(150))
    folder = tmp_path / "folder" / "deeper"
    folder.mkdir(parents=True)
    notes = folder / "notes.pdf"
    notes.write_bytes(text_pdf("a note"))
    page = tab.sign_in(key, f"#/documents?c={own}")
    choose(page, "Choose a folder", folder.parent)
    expect(row_of(page, "notes.pdf")).to_contain_text("ready")
    drop(page, notes)  # the same file again: the same document
    expect(page.get_by_role("region", name="Uploads").get_by_role("heading")).to_have_text("2 files done")
    expect(row_of(page, "notes.pdf")).to_have_count(1)
    choose(page, "Upload", long)
    row_of(page, "long.pdf").get_by_role("button", name="Cancel long.pdf").click()
    expect(row_of(page, "long.pdf")).to_contain_text("cancelled")

    row_of(page, "notes.pdf").get_by_role("button", name="Delete notes.pdf").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(row_of(page, "notes.pdf")).to_have_count(0)
    expect(page.get_by_role("button", name="Undo")).to_be_visible()
    page.keyboard.press("z")
    expect(row_of(page, "notes.pdf")).to_be_visible()

    row_of(page, "long.pdf").get_by_role("button", name="Delete long.pdf").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(row_of(page, "long.pdf")).to_have_count(0)
    assert len(api.get("/documents", params={"collection": own}).json()["documents"]) == 2, "deleted before its time"
    page.goto("about:blank")  # leaving the page ends the time to undo
    wait_until(lambda: len(api.get("/documents", params={"collection": own}).json()["documents"]) == 1, 30)

    tab.open(f"#/documents?c={own}")
    row_of(page, "notes.pdf").get_by_role("button", name="Delete notes.pdf").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(row_of(page, "notes.pdf")).to_have_count(0)
    page.get_by_role("button", name="Sign out").click()  # and so does signing out
    wait_until(lambda: not api.get("/documents", params={"collection": own}).json()["documents"], 30)


def held(tab: Tab, url: str | re.Pattern[str]) -> list[Any]:
    """The requests of the tab to `url`, as they come. The test answers them."""
    routes: list[Any] = []

    def hold(route: Any) -> None:
        routes.append(route)

    tab.page.route(url, hold)
    return routes


def test_after_a_gap_of_the_stream_the_table_is_true_again(
    tab: Tab, key: str, api: httpx.Client, tmp_path: Path
) -> None:
    own = f"page_{secrets.token_hex(4)}"
    gone, new = tmp_path / "gone.pdf", tmp_path / "new.pdf"
    gone.write_bytes(text_pdf("one"))
    new.write_bytes(text_pdf("two"))
    [first] = api.post(f"/collections/{own}/documents", files={"files": gone.open("rb")}).json()["documents"]
    streams = held(tab, "**/events")
    page = tab.sign_in(key, f"#/documents?c={own}")
    expect(row_of(page, "gone.pdf")).to_be_visible()
    wait_until(lambda: page.wait_for_timeout(20) or streams, 30)
    streams[0].fulfill(body="", content_type="text/event-stream")
    expect(page.get_by_text("The connection is lost.")).to_be_visible()
    wait_until(lambda: api.get(first["status_url"].removeprefix("/api/v1")).json()["state"] == "ready", 30)
    api.delete(f"/documents/{first['document_id']}")
    api.post(f"/collections/{own}/documents", files={"files": new.open("rb")})
    page.unroute("**/events")
    for stream in streams[1:]:
        stream.continue_()
    expect(row_of(page, "new.pdf")).to_contain_text("ready")
    expect(row_of(page, "gone.pdf")).to_have_count(0)
    expect(page.get_by_text("The connection is lost.")).to_be_hidden()


def test_a_press_is_a_click_though_the_table_changes_before_the_release(tab: Tab, key: str) -> None:
    streams = held(tab, "**/events")
    page = tab.sign_in(key, f"#/documents?c=page_{secrets.token_hex(4)}")
    button = page.get_by_role("button", name="Choose files")
    button.hover()
    wait_until(lambda: page.wait_for_timeout(20) or streams, 30)
    page.mouse.down()
    streams[0].fulfill(body="", content_type="text/event-stream")
    wait_until(lambda: page.wait_for_timeout(20) or len(streams) > 1, 30)  # a second later
    with page.expect_file_chooser(timeout=5000):
        page.mouse.up()
    expect(page.get_by_text("The connection is lost.")).to_be_visible()
    expect(button).to_be_focused()


def test_an_event_is_newer_than_an_answer_that_was_asked_for_before_it(
    tab: Tab, key: str, api: httpx.Client, tmp_path: Path
) -> None:
    own = f"page_{secrets.token_hex(4)}"
    one, two = tmp_path / "one.pdf", tmp_path / "two.pdf"
    one.write_bytes(text_pdf("one"))
    two.write_bytes(text_pdf("two"))
    [first] = api.post(f"/collections/{own}/documents", files={"files": one.open("rb")}).json()["documents"]
    path = first["status_url"].removeprefix("/api/v1")
    wait_until(lambda: api.get(path).json()["state"] == "ready", 30)
    ready = api.get(path).json()
    streams = held(tab, "**/events")
    lists = held(tab, "**/documents?*")
    page = tab.sign_in(key, f"#/documents?c={own}")
    wait_until(lambda: page.wait_for_timeout(20) or (streams and lists), 30)
    event = f"event: document\ndata: {json.dumps(ready)}\n\n"
    streams[0].fulfill(body=event, content_type="text/event-stream")
    wait_until(lambda: page.wait_for_timeout(20) or len(streams) > 1, 30)
    lists[-1].fulfill(json={"documents": [{**ready, "state": "processing"}], "next": None})
    expect(row_of(page, "one.pdf").locator("[data-state=ready]")).to_be_visible()

    streams[1].continue_()
    page.unroute("**/events")
    page.unroute("**/documents?*")
    one_document = re.compile("/documents/[^/?]+$")
    reads = held(tab, one_document)
    heading = page.get_by_role("region", name="Uploads").get_by_role("heading")
    choose(page, "Upload", two)
    expect(heading).to_have_text("1 file done")
    reads[0].fulfill(json={**reads[0].fetch().json(), "state": "processing"})
    page.unroute(one_document)
    choose(page, "Upload", one)
    expect(heading).to_have_text("2 files done")


def test_a_tab_that_is_hidden_asks_nothing(tab: Tab, key: str) -> None:
    asked: list[str] = []
    tab.page.clock.install()
    page = tab.sign_in(key)
    page.on("request", lambda request: asked.append(request.url))
    for view, path in (("Health", "/system"), ("Collections", "/collections")):
        page.get_by_role("link", name=view).click()
        with page.expect_response(lambda answer, path=path: path in answer.url):
            page.clock.run_for(6000)
        page.evaluate(HIDE, True)
        page.wait_for_load_state("networkidle")
        asked.clear()
        page.clock.run_for(60_000)
        assert asked == []
        with page.expect_response(lambda answer, path=path: path in answer.url):
            page.evaluate(HIDE, False)


def test_keys_say_what_is_wrong_and_what_they_may_do(open_tab: OpenTab, api: httpx.Client, own: str) -> None:
    expires_at = datetime.now(UTC) + timedelta(seconds=0.5)
    made = {
        "read": api.post("/keys", json={"role": "read"}).json(),
        "revoked": api.post("/keys", json={"role": "write"}).json(),
        "expired": api.post("/keys", json={"role": "read", "expires_at": expires_at.isoformat()}).json(),
    }
    api.delete(f"/keys/{made['revoked']['key']}")
    wait_until(lambda: datetime.now(UTC) > expires_at, 5)
    tab = open_tab()
    tab.open()
    for name, said in (("revoked", "The API key is revoked."), ("expired", "The API key is expired.")):
        tab.enter_key(made[name]["api_key"])
        expect(tab.page.get_by_role("alert")).to_contain_text(said)
    page = tab.sign_in(made["read"]["api_key"], f"#/documents?c={own}")
    expect(row_of(page, "pump.pdf")).to_be_visible()
    for name in ("Upload", "Delete pump.pdf", "Upload again pump.pdf"):
        expect(page.get_by_role("button", name=name, exact=True)).to_have_count(0)
    page.reload()
    expect(row_of(page, "pump.pdf")).to_be_visible()  # the tab keeps the key
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("API key")).to_be_visible()
    tab.enter_key(made["read"]["api_key"])
    expect(row_of(page, "pump.pdf")).to_be_visible()
    refusal = {"status": 401, "code": "unauthorized", "detail": "the API key is revoked"}
    page.route("**/api/v1/**", lambda route: route.fulfill(status=401, json=refusal))
    page.get_by_role("link", name="Collections").click()
    expect(page.get_by_role("alert")).to_contain_text("The API key is revoked.")
    assert page.evaluate("sessionStorage.length") == 0


def test_the_state_of_the_servers_needs_no_key(tab: Tab) -> None:
    page = tab.open("#/health")
    expect(page.get_by_role("list", name="Servers").get_by_role("listitem")).to_have_count(5)
    expect(page.get_by_text("All servers answer.")).to_be_visible()


def test_everything_can_be_done_with_the_keyboard(tab: Tab, key: str, own: str) -> None:
    page = tab.open(f"#/documents?c={own}")
    expect(page.get_by_label("API key")).to_be_focused()
    page.keyboard.type(key)
    page.keyboard.press("Enter")
    expect(row_of(page, "pump.pdf")).to_be_visible()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    expect(page.locator("tbody [data-row]").first).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_label("Question")).to_be_focused()
    page.keyboard.type("torque of the axle")
    page.keyboard.press("Enter")
    expect(page.locator(".hit").first).to_be_visible()
    page.keyboard.press("j")
    assert focused(page).startswith("pump.pdf, page 2")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Page number")).to_have_value("2")
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_label("Page number")).to_have_value("1")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert focused(page).startswith("pump.pdf, page 2"), "the focus did not come back"
    page.keyboard.press("g")
    page.keyboard.press("h")
    expect(page.get_by_role("heading", name="Health")).to_be_focused()


def test_every_view_fits_a_phone_and_is_dark_where_the_system_is(open_tab: OpenTab, key: str, own: str) -> None:
    tab = open_tab(viewport={"width": 360, "height": 740}, color_scheme="dark", has_touch=True)
    page = tab.sign_in(key)
    for view in VIEWS:
        page.goto(f"{tab.url}/#/{view}?c={own}&q=axle")
        expect(page.locator(f'.nav-link[aria-current][href^="#/{view}?"]')).to_be_visible()
        expect(page.locator(".skeletons, [aria-busy=true]")).to_have_count(0)
        assert page.evaluate("document.documentElement.scrollWidth") == 360, view
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(ground) == "rgb(19, 20, 19)"
    page.get_by_role("radio", name="Light").check()
    assert page.evaluate(ground) == "rgb(246, 246, 243)"
    page.reload()
    expect(page.get_by_role("heading", name="Settings")).to_be_visible()
    assert page.evaluate(ground) == "rgb(246, 246, 243)"
