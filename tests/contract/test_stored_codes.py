"""Sign codes on real stores: in archives, in re-embeddings, and for documents of earlier releases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ingestion.bootstrap import Services
from ingestion.model import SEGMENT_PAGES, SIGN_CODE_FORMAT, Document, codes_key, codes_keys, vectors_key
from ingestion.vectors.sign_codes import CodeSegment, segment_pages
from tests.contract.test_janitor_command import janitor_command
from tests.support.archives import archiver, everything
from tests.support.pipelines import DEADLINE_S
from tests.support.reembedding import ActingEmbedder, Killed, Library, open_library, reembedder
from tests.support.shelf import OTHER_PAGES, PAGES, Shelf, open_shelf, whole
from workers.code_backfill import CodeBackfill

LONG = SEGMENT_PAGES + 6


@pytest.fixture
async def shelf(services: Services, collection: str) -> AsyncIterator[Shelf]:
    async with open_shelf(services, collection) as shelf:
        yield shelf


@pytest.fixture
async def reembedded(services: Services, collection: str) -> AsyncIterator[Library]:
    """A collection to re-embed."""
    async with open_library(services, collection) as shelf:
        yield shelf


async def stored_codes(services: Services) -> dict[str, bytes]:
    keys = [key for key in await services.blobs.list_keys("documents/") if key.endswith(".codes")]
    return dict(zip(keys, await services.blobs.get_many(keys), strict=True))


async def as_an_earlier_release_left_it(shelf: Shelf | Library) -> dict[str, bytes]:
    """Remove all sign codes, and their field from the records. Returns the codes."""
    codes = await stored_codes(shelf.services)
    await shelf.services.blobs.delete(list(codes))
    await shelf.records["documents"].update_many({}, {"$unset": {"codes_format": ""}})
    return codes


async def assert_has_the_codes_of_its_blobs(services: Services, document: Document, generation: int) -> None:
    for first in range(1, document.pages + 1, SEGMENT_PAGES):
        numbers = segment_pages(first, document.pages)
        blobs = await services.blobs.get_many([vectors_key(document.id, number, generation) for number in numbers])
        assert await services.blobs.get(codes_key(document.id, first, generation)) == CodeSegment.of(blobs).encode()


async def formats(services: Services) -> set[int]:
    return {document.codes_format for document in await services.documents.list()}


async def test_the_janitor_command_makes_the_codes_of_old_documents(shelf: Shelf, tmp_path: Path) -> None:
    await shelf.put("long", LONG)
    codes = await as_an_earlier_release_left_it(shelf)
    assert codes.keys() == {*codes_keys("d1", PAGES), *codes_keys("d2", OTHER_PAGES), *codes_keys("long", LONG)}
    checked = await asyncio.to_thread(janitor_command, tmp_path, "--check")
    assert (checked.exit_code, checked.stdout) == (0, "nothing found\n")
    result = await asyncio.to_thread(janitor_command, tmp_path)
    assert (result.exit_code, result.stdout) == (0, "sign codes made: 3 document(s)\nnothing found\n")
    assert await stored_codes(shelf.services) == codes
    assert await formats(shelf.services) == {SIGN_CODE_FORMAT}
    assert await shelf.holdings("d1") == whole(PAGES)
    again = await asyncio.to_thread(janitor_command, tmp_path)
    assert (again.exit_code, again.stdout) == (0, "nothing found\n")


async def test_the_janitor_command_makes_lost_codes_again_the_second_time(shelf: Shelf, tmp_path: Path) -> None:
    codes = await stored_codes(shelf.services)
    await shelf.services.blobs.delete([codes_key("d1", 1)])
    checked = await asyncio.to_thread(janitor_command, tmp_path, "--check")
    assert checked.exit_code == 1
    assert "of a ready document that lacks sign codes or terms: " in checked.stdout
    assert "delete the document" not in checked.stdout
    assert await formats(shelf.services) == {SIGN_CODE_FORMAT}
    first, second = [await asyncio.to_thread(janitor_command, tmp_path) for _ in range(2)]
    assert (first.exit_code, "to be made again" in first.stdout) == (0, True)
    assert (second.exit_code, second.stdout) == (0, "sign codes made: 1 document(s)\nnothing found\n")
    assert await stored_codes(shelf.services) == codes


async def test_the_janitor_command_names_a_document_whose_codes_it_cannot_make(shelf: Shelf, tmp_path: Path) -> None:
    await as_an_earlier_release_left_it(shelf)
    await shelf.services.blobs.put(vectors_key("d1", 2), b"odd", "text/plain")
    result = await asyncio.to_thread(janitor_command, tmp_path)
    words = " ".join(result.stdout.split())
    assert result.exit_code == 1
    assert (
        "sign codes made: 1 document(s) no sign codes: d1: ValueError: vector blob of 3 bytes has no header" in words
    )
    assert "1 document(s) have no sign codes yet" in words


async def test_two_janitors_make_codes_side_by_side(shelf: Shelf) -> None:
    codes = await as_an_earlier_release_left_it(shelf)
    services = shelf.services
    done = await asyncio.gather(*(CodeBackfill(services.documents, services.blobs).round() for _ in range(2)))
    assert (sum(one.made for one in done), [one.failed for one in done]) == (2, [{}, {}])
    assert await stored_codes(services) == codes
    assert await shelf.mismatches() == []


@pytest.mark.parametrize("is_of_an_earlier_release", [False, True])
async def test_a_collection_comes_back_from_an_archive_with_the_codes_that_it_had(
    shelf: Shelf, is_of_an_earlier_release: bool
) -> None:
    services = shelf.services
    if is_of_an_earlier_release:
        await as_an_earlier_release_left_it(shelf)
    before, codes = await everything(shelf), await stored_codes(services)
    await archiver(services).archive(shelf.collection)
    assert (await CodeBackfill(services.documents, services.blobs).round()).made == 0
    assert await shelf.mismatches(repair=True) == []
    await archiver(services).restore(shelf.collection)
    assert await everything(shelf) == before
    assert await stored_codes(services) == codes
    assert await formats(services) == {0 if is_of_an_earlier_release else SIGN_CODE_FORMAT}
    done = await CodeBackfill(services.documents, services.blobs).round()
    assert (done.made, done.left) == (2 if is_of_an_earlier_release else 0, 0)
    assert await shelf.mismatches() == []


async def test_a_reembedding_that_an_earlier_release_began_ends_with_all_codes(reembedded: Library) -> None:
    shelf, services = reembedded, reembedded.services
    found = await shelf.put("long", LONG)

    async def fail() -> None:
        raise Killed

    with pytest.raises(Killed):
        await reembedder(services, ActingEmbedder(fail, at=SEGMENT_PAGES // 2 + 3)).run(shelf.collection)
    assert SEGMENT_PAGES <= (await shelf.read("long")).next_pages_done < LONG
    await services.blobs.delete([codes_key(found.id, 1, 2)])
    await reembedder(services).run(shelf.collection)
    assert set(await stored_codes(services)) == set(codes_keys(found.id, LONG, 2))
    await assert_has_the_codes_of_its_blobs(services, found, 2)
    assert (await shelf.read("long")).codes_format == SIGN_CODE_FORMAT
    assert await shelf.mismatches() == []


async def test_a_document_in_two_generations_gets_the_codes_of_both(reembedded: Library) -> None:
    shelf, services = reembedded, reembedded.services
    for name in ("a", "b", "c"):
        await shelf.put(name, 2)
    stored: list[set[str]] = []

    async def make() -> None:
        """Begin when a document is in both generations."""
        async with asyncio.timeout(DEADLINE_S):
            while len(moved := await shelf.moved(2)) < 1:
                await asyncio.sleep(0.01)
            await as_an_earlier_release_left_it(shelf)
            while (await CodeBackfill(services.documents, services.blobs).round()).left:
                await asyncio.sleep(0.01)  # the mover stores another document meanwhile
        stored.append({key for document in moved for key in await shelf.code_keys(document)})
        stored.append({codes_key(document.id, 1, generation) for document in moved for generation in (1, 2)})

    await reembedder(services, ActingEmbedder(make, at=3)).run(shelf.collection)
    assert stored[0] == stored[1]
    for name in ("a", "b", "c"):
        await assert_has_the_codes_of_its_blobs(services, await shelf.read(name), 2)
    assert await shelf.mismatches() == []


async def test_a_document_that_cannot_get_the_codes_of_its_next_generation_is_left_to_the_janitor(
    reembedded: Library,
) -> None:
    shelf, services = reembedded, reembedded.services
    found = await shelf.put("long", LONG)

    async def fail() -> None:
        raise Killed

    with pytest.raises(Killed):
        await reembedder(services, ActingEmbedder(fail, at=10)).run(shelf.collection)
    lost = vectors_key(found.id, 1, 2)
    content = await services.blobs.get(lost)
    await services.blobs.delete([lost])
    await reembedder(services).run(shelf.collection)
    assert (await shelf.read("long")).codes_format == 0
    await services.blobs.put(lost, content, "application/octet-stream")
    assert (await CodeBackfill(services.documents, services.blobs).round()).made == 1
    await assert_has_the_codes_of_its_blobs(services, found, 2)
    assert await shelf.mismatches() == []
