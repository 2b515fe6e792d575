"""The web page and `/docs`: all that they load comes from this package."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest
from fastapi import FastAPI

from ingestion.api import pages
from ingestion.api.pages import add_pages

ORIGIN = "http://api"
FORBIDDEN = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|randomUUID|crypto\.subtle|clipboard"
)
"""Markup made of texts, and functions that a browser has on HTTPS and on its own machine only."""
STATIC = Path(pages.__file__).parent / "static"


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI(docs_url=None)
    add_pages(app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ORIGIN) as client:
        yield client


class Resources(HTMLParser):
    """The addresses that a browser loads for a page, and its inline code."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.inline: list[str] = []
        self._tag = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tag = tag
        names = dict(attrs)
        self.inline += [name for name in names if name.startswith("on") or name == "style"]
        address = names.get("href") if tag == "link" else names.get("src")
        if address and address != "data:,":
            self.addresses.append(address)

    def handle_data(self, data: str) -> None:
        if self._tag in ("script", "style") and data.strip():
            self.inline.append(data)


def policy_of(answer: httpx.Response) -> dict[str, list[str]]:
    directives = answer.headers["content-security-policy"].split(";")
    return {name: sources for name, *sources in (directive.split() for directive in directives)}


@pytest.mark.parametrize(("path", "count"), [("/", 10), ("/docs", 3)])
async def test_a_page_loads_nothing_from_another_host(client: httpx.AsyncClient, path: str, count: int) -> None:
    page = await client.get(path)
    resources = Resources()
    resources.feed(page.text)
    assert len(resources.addresses) == count
    for address in resources.addresses:
        url = urljoin(f"{ORIGIN}{path}", address)
        assert url.startswith(f"{ORIGIN}/static/"), url
        answer = await client.get(url)
        assert answer.status_code == 200, url
        if url.endswith(".css"):
            assert re.findall(r"@import|url\((?!\s*[\"']?data:)", answer.text) == []


@pytest.mark.parametrize("path", ["/", "/docs"])
async def test_the_policy_of_a_page_permits_only_its_own_scripts(client: httpx.AsyncClient, path: str) -> None:
    page = await client.get(path)
    policy = policy_of(page)
    assert (policy["default-src"], policy["script-src"], policy["connect-src"]) == (["'none'"], ["'self'"], ["'self'"])
    assert policy["style-src"][0] == "'self'"
    assert policy["frame-ancestors"] == ["'none'"]
    resources = Resources()
    resources.feed(page.text)
    assert resources.inline == [], "the policy would block it"


async def test_modules_are_found_and_call_nothing_that_is_forbidden(client: httpx.AsyncClient) -> None:
    seen: set[str] = set()
    waiting = [f"{ORIGIN}/static/page/main.js"]
    while waiting:
        url = waiting.pop()
        if url in seen:
            continue
        seen.add(url)
        module = await client.get(url)
        assert (module.status_code, module.headers["cache-control"]) == (200, "no-cache"), url
        assert FORBIDDEN.findall(module.text) == [], url
        waiting += [urljoin(url, name) for name in re.findall(r'(?:from|import) "([^"]+)"', module.text)]
    names = {url.rpartition("/")[2] for url in seen} | {"theme.js"}
    assert names == {path.name for path in STATIC.glob("page/*.js")}, "a module that nothing imports"


async def test_a_module_that_has_not_changed_is_not_sent_again(client: httpx.AsyncClient) -> None:
    first = await client.get("/static/page/main.js")
    again = await client.get("/static/page/main.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_each_file_of_the_web_page_has_one_concern() -> None:
    lengths = {path.name: len(path.read_text("utf-8").splitlines()) for path in STATIC.glob("page/*.*")}
    assert {name: lines for name, lines in lengths.items() if lines > 250} == {}


async def test_docs_name_no_host(client: httpx.AsyncClient) -> None:
    policy = (await client.get("/docs")).headers["content-security-policy"]
    assert "http" not in policy
    for path in ("/docs", "/static/docs.js"):
        assert "//" not in (await client.get(path)).text.replace("// ", "")


async def test_the_version_of_swagger_ui_is_noted(client: httpx.AsyncClient) -> None:
    script = (await client.get("/static/swagger-ui/swagger-ui-bundle.js")).text
    readme = (await client.get("/static/swagger-ui/README.md")).text
    [version] = re.findall(r"`swagger-ui-dist` (\d+\.\d+\.\d+)", readme)
    assert f'"{version}"' in script
    assert "Apache License" in (await client.get("/static/swagger-ui/LICENSE")).text


async def test_an_unknown_file_is_not_found(client: httpx.AsyncClient) -> None:
    for path in ("/static/none.js", "/static/../app.py", "/static/..%2fapp.py"):
        assert (await client.get(path)).status_code == 404
