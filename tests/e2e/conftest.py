"""A browser for the tests of the web page. playwright is imported only where a test needs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium. Stopped at the end of the module: its event loop keeps others from running."""
    from tests.support.browser import started_browser

    with started_browser() as started:
        yield started


@pytest.fixture
def open_tab(browser: Any, stack: dict[str, Any]) -> Iterator[Callable[..., Any]]:
    """Opens tabs on the page of the stack. No tab may have an error in its console at the end."""
    from tests.support.browser import Tab

    faults: list[str] = []
    tabs: list[Tab] = []

    def opened(**options: Any) -> Tab:
        tabs.append(Tab(browser, stack["api_url"], faults, **options))
        return tabs[-1]

    yield opened
    for tab in tabs:
        tab.context.close()
    assert faults == []


@pytest.fixture
def tab(open_tab: Callable[..., Any]) -> Any:
    return open_tab()


@pytest.fixture
def key(stack: dict[str, Any]) -> str:
    found: str = stack["api_key"]
    return found
