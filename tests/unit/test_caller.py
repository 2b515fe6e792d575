"""`GET /caller`: what a caller may do."""

from __future__ import annotations

from tests.support.memory_api import memory_api


async def test_the_key_of_the_settings_may_act_for_every_tenant() -> None:
    api = memory_api()
    async with api.client() as client:
        shown = (await client.get("/caller")).json()
        other = (await client.get("/caller", headers={"Pagemill-Tenant": "acme"})).json()
    assert (shown["tenant"], shown["role"], shown["every_tenant"]) == ("default", "admin", True)
    assert other["tenant"] == "acme"
    assert shown["max_file_bytes"] == api.services.settings.api.max_file_bytes
    assert shown["search_mode"] == "hybrid"


async def test_a_caller_without_a_key_learns_nothing() -> None:
    async with memory_api().client(key=None) as client:
        assert (await client.get("/caller")).status_code == 401
