"""The invariants after every run, checked in the stores.

- lost: an accepted document that is neither ready, nor cancelled, nor failed with a dead letter.
- missing, duplicate, orphan: Milvus rows, page records and objects, compared with the documents' pages. A failed
  document may keep rows and objects of its own pages: a replay resumes from them. A cancelled one has its file only.
- damaged: an object with the wrong length, or sign codes that are not those of their pages.
- stranded: a document with unfinished work and no uncommitted record that would bring it to a worker.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from math import ceil
from typing import Any, Final

import numpy as np
from aiokafka.errors import KafkaError

from ingestion.model import (
    ROWS_PER_PAGE,
    SIGN_CODE_FORMAT,
    TERM_FORMAT,
    DocumentState,
    codes_key,
    document_prefix,
    image_key,
    terms_key,
    vectors_key,
)
from ingestion.vectors.blob import encode_blob
from ingestion.vectors.sign_codes import segment_pages, segment_starts
from tests.chaos.rig import Rig
from tests.chaos.stores import Contents, read_stores

_WATCH_EVERY_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Audit:
    """Counts of one run. `details` names a few examples of each."""

    documents: int
    ready: int
    failed: int
    lost: int
    missing: int
    duplicate: int
    orphan: int
    damaged: int
    stranded: int
    unannounced: int
    uncommitted: int
    letters_wrong: int
    extra_starts: int
    attempts_burnt: int
    pages_again: int
    details: dict[str, list[str]] = field(default_factory=dict)

    @property
    def violations(self) -> dict[str, int]:
        """The counts that must be zero and are not."""
        names = ("lost", "missing", "duplicate", "orphan", "damaged", "stranded", "unannounced", "uncommitted")
        return {name: count for name in (*names, "letters_wrong") if (count := getattr(self, name))}


class Watch:
    """Looks for stranded documents during the whole run."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.stranded: set[str] = set()
        self.looks = 0

    async def look(self) -> None:
        """Documents with unfinished work both before and after a read of the broker that finds no record of them."""
        before = await self._at_work()
        broker = self._rig.broker
        committed = await broker.committed()
        await broker.refresh()
        self.stranded |= (before & await self._at_work()) - broker.waiting(committed) - broker.letters().keys()
        self.looks += 1

    async def _at_work(self) -> set[str]:
        """The published documents that still need a worker."""
        taken = {DocumentState.DELETING, DocumentState.CANCELLING}
        without_work = {state for state in DocumentState if state.is_settled} | taken
        return {
            id_
            for id_, record in (await self._rig.records()).items()
            if record["state"] not in without_work and record["outbox"] == "sent"
        }

    async def go_on_looking(self) -> None:
        """Looks that fail are skipped: a scenario may have taken the broker down."""
        while True:
            with suppress(KafkaError, OSError):
                await self.look()
            await asyncio.sleep(_WATCH_EVERY_S)


@asynccontextmanager
async def watching(rig: Rig) -> AsyncIterator[Watch]:
    """Run a Watch during the block."""
    watch = Watch(rig)
    task = asyncio.create_task(watch.go_on_looking())
    try:
        yield watch
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def audit(rig: Rig, watch: Watch) -> Audit:
    """Check all invariants. Call it after the last worker has ended."""
    assert watch.looks, "no look for stranded documents has succeeded during the run"
    await watch.look()
    records, contents = await rig.records(), await read_stores(rig)
    findings = _Findings()
    for id_ in rig.sources:
        _judge_verdict(id_, records.get(id_), rig.broker.letters(), findings)
    poison = Counter(id_ for id_, source in rig.sources.items() if source.is_poison)
    _judge_letters(rig.broker.letters(), poison, findings)
    _judge_contents(rig, records, contents, findings)
    findings.add("stranded", watch.stranded)
    findings.add("unannounced", records.keys() - rig.broker.announced())
    states = Counter(record["state"] for record in records.values())
    starts = Counter(line["document_id"] for line in rig.fleet.events("claimed"))
    return Audit(
        documents=len(rig.sources),
        ready=states[DocumentState.READY],
        failed=states[DocumentState.FAILED],
        uncommitted=rig.broker.behind(await rig.broker.committed()),
        extra_starts=starts.total() - len(starts),
        attempts_burnt=sum(max(0, record["attempts"] - 1) for record in records.values()),
        pages_again=sum(count - 1 for count in rig.seen().values()),
        details=findings.examples,
        **{name: findings.counts[name] for name in _FOUND},
    )


_FOUND: Final = ("lost", "missing", "duplicate", "orphan", "damaged", "stranded", "unannounced", "letters_wrong")


class _Findings:
    _EXAMPLES = 4

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}

    def add(self, name: str, found: Iterable[object]) -> None:
        for one in found:
            self.counts[name] += 1
            examples = self.examples.setdefault(name, [])
            if len(examples) < self._EXAMPLES:
                examples.append(str(one))


def _judge_verdict(id_: str, record: dict[str, Any] | None, letters: Counter[str], findings: _Findings) -> None:
    state = record["state"] if record else "gone"
    if state in (DocumentState.READY, DocumentState.CANCELLED) or (state == DocumentState.FAILED and id_ in letters):
        return
    findings.add("lost", [f"{id_} is {state}, error {record.get('error') if record else None}"])


def _judge_letters(letters: Counter[str], poison: Counter[str], findings: _Findings) -> None:
    """Each poison document has one dead letter, and no other document has one."""
    wrong = {key: letters[key] - poison[key] for key in letters | poison if letters[key] != poison[key]}
    findings.add("letters_wrong", (f"{key}: {difference:+d}" for key, difference in wrong.items()))


def _judge_contents(rig: Rig, records: dict[str, dict[str, Any]], contents: Contents, findings: _Findings) -> None:
    expected_pages: set[object] = set()
    expected_rows: set[object] = set()
    expected_sizes: dict[str, int | None] = {}
    expected_codes: dict[str, list[int]] = {}
    tolerated_prefixes: list[str] = []
    tolerated_keys: set[int] = set()
    dim, vectors = rig.embedding.embedder.dim, rig.settings.vectors
    for id_, record in records.items():
        source, first = rig.sources[id_], record["first_page_key"]
        if record["state"] == DocumentState.CANCELLED:
            expected_sizes[record["object_key"]] = len(source.content)
            continue
        if record["state"] != DocumentState.READY:
            tolerated_prefixes.append(document_prefix(id_))
            tolerated_keys |= set(range(first, first + record["pages"]))
            continue
        expected_sizes[record["object_key"]] = len(source.content)
        if record["codes_format"] != SIGN_CODE_FORMAT:
            findings.add("missing", [f"sign codes of {id_}: their format is {record['codes_format']}"])
        if record["terms_format"] != TERM_FORMAT:
            findings.add("missing", [f"terms of {id_}: their format is {record['terms_format']}"])
        for start in segment_starts(record["pages"]):
            numbers = segment_pages(start, record["pages"])
            expected_codes[codes_key(id_, start)] = [source.patches(number) for number in numbers]
            expected_sizes[codes_key(id_, start)] = None
            expected_sizes[terms_key(id_, start)] = None
        for number in range(1, record["pages"] + 1):
            key, patches = first + number - 1, source.patches(number)
            expected_pages.add((key, id_, number, patches))
            expected_rows |= {key * ROWS_PER_PAGE + row for row in range(ceil(patches / vectors.index_pooling))}
            expected_sizes[image_key(id_, number, "webp")] = None
            blob = encode_blob(np.zeros((patches, dim), np.float32), vectors.blob_precision)
            expected_sizes[vectors_key(id_, number)] = len(blob)
    rows_of_others = {pk for pk in contents.rows if pk // ROWS_PER_PAGE in tolerated_keys}
    pages_of_others = {page for page in contents.pages if page[0] in tolerated_keys}
    objects_of_others = {key for key in contents.objects if key.startswith(tuple(tolerated_prefixes))}
    _compare("row", contents.rows, expected_rows, rows_of_others, findings)
    _compare("page", contents.pages, expected_pages, pages_of_others, findings)
    _compare("object", Counter(contents.objects.keys()), set(expected_sizes), objects_of_others, findings)
    findings.add("orphan", [f"{contents.rows_elsewhere} rows of no page key"] * contents.rows_elsewhere)
    for key, counts in expected_codes.items():
        if contents.code_counts.get(key, counts) != counts:
            findings.add("damaged", [f"{key}: {contents.code_counts[key]}, not {counts}"])
    for key, size in contents.objects.items():
        wanted = expected_sizes.get(key) or contents.picture_sizes.get(key)
        if wanted is not None and size != wanted:
            findings.add("damaged", [f"{key}: {size} bytes, not {wanted}"])


def _compare(what: str, found: Counter[Any], expected: set[Any], tolerated: set[Any], findings: _Findings) -> None:
    findings.add("missing", (f"{what} {one}" for one in expected - found.keys()))
    findings.add("orphan", (f"{what} {one}" for one in found.keys() - expected - tolerated))
    findings.add("duplicate", (f"{what} {one} x {count}" for one, count in found.items() if count > 1))
