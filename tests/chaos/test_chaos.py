"""The short version of every scenario."""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio

from tests.chaos.catalogue import SHORT, Scenario
from tests.chaos.run import Row, attempt

_AT_ONCE = 4

pytestmark = pytest.mark.timeout(400)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rows(server_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Row]:
    """The result of each scenario, by name. Scenarios mostly wait for restarts and leases, so some run in parallel."""
    folder = tmp_path_factory.mktemp("chaos")
    places = asyncio.Semaphore(_AT_ONCE)

    async def within(name: str, scenario: Scenario) -> Row:
        async with places:
            return await attempt(name, scenario, server_env, folder / name)

    found = await asyncio.gather(*(within(name, scenario) for name, scenario in SHORT.items()))
    return {row.name: row for row in found}


@pytest.mark.parametrize("name", SHORT)
def test_nothing_is_lost_doubled_or_left_behind_by(name: str, rows: dict[str, Row]) -> None:
    assert not rows[name].broken, "\n".join(rows[name].broken)
