"""The multipart parser and the spool. The result never depends on how the body is cut into chunks."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise, repeat
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion.api.multipart import MAX_OTHER_BYTES, FileData, FileEnd, FileParser, FileStart, FormLimitExceeded
from ingestion.api.spool import WRITE_BYTES, RefusedFile, UploadLimits, spool_files
from ingestion.errors import BadRequest, DependencyUnavailable, FormTooLarge
from ingestion.model import clean_filename
from ingestion.submit import Upload

BOUNDARY = "a-boundary-of-ours"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"
MAX_PARTS = 20
PDF = b"%PDF-1.7\n" + b"x" * 5000

# Data full of what a boundary is made of, beside data of any kind.
tricky = st.lists(st.sampled_from([b"\r\n", b"--", f"\r\n--{BOUNDARY[:6]}".encode(), b"a-", b"\r", b"\n", b"-"]))
contents = st.one_of(st.binary(max_size=300), tricky.map(b"".join))
parts = st.lists(st.tuples(st.sampled_from(["files", "file", "other"]), contents), max_size=5)


def part(content: bytes, disposition: str | bytes = 'form-data; name="files"; filename="a.pdf"') -> bytes:
    raw = disposition.encode() if isinstance(disposition, str) else disposition
    return b"--" + BOUNDARY.encode() + b"\r\nContent-Disposition: " + raw + b"\r\n\r\n" + content + b"\r\n"


def closed(*some: bytes) -> bytes:
    return b"".join(some) + f"--{BOUNDARY}--\r\n".encode()


def chunks_of(body: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted({min(cut, len(body)) for cut in cuts}), len(body)]
    return [body[a:b] for a, b in pairwise(edges)]


def parse(body: bytes, cuts: list[int], content_type: str = CONTENT_TYPE) -> list[tuple[str, bytes]]:
    parser = FileParser(content_type, MAX_PARTS)
    found: list[tuple[str, bytes]] = []
    ended = 0
    for chunk in chunks_of(body, cuts):
        for event in parser.feed(chunk):
            match event:
                case FileStart(filename):
                    found.append((filename, b""))
                case FileData(data):
                    found[-1] = (found[-1][0], found[-1][1] + data)
                case FileEnd():
                    ended += 1
    parser.close()
    assert ended == len(found)
    return found


def parse_name(disposition: str | bytes) -> str:
    [(name, content)] = parse(closed(part(b"content", disposition)), [])
    assert content == b"content"
    return name


@settings(deadline=None)
@given(parts, st.lists(st.integers(0, 3000), max_size=30))
def test_any_chunking_of_a_body_gives_the_same_files(sent: list[tuple[str, bytes]], cuts: list[int]) -> None:
    body = closed(*(part(data, f'form-data; name="{field}"; filename="{i}"') for i, (field, data) in enumerate(sent)))
    expected = [(str(i), data) for i, (field, data) in enumerate(sent) if field != "other"]
    assert parse(body, cuts) == expected


@settings(deadline=None)
@given(contents)
def test_a_body_fed_byte_by_byte_gives_the_same_file(content: bytes) -> None:
    body = closed(part(content))
    assert parse(body, list(range(len(body)))) == [("a.pdf", content)]


@settings(deadline=None)
@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=300).filter(lambda n: "%" not in n)
)
def test_filenames_escaped_as_in_html_are_restored(name: str) -> None:
    request = httpx.Request("POST", "http://x", files={"files": (name, b"content")})
    [(found, content)] = parse(request.read(), [7, 70], request.headers["content-type"])
    assert (found, content) == (name, b"content")


@settings(deadline=None)
@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=300).filter(lambda n: "%" not in n)
)
def test_filenames_escaped_with_backslashes_are_restored(name: str) -> None:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    parsed = parse_name(f'form-data; name="files"; filename="{escaped}"')
    assert clean_filename(parsed) == clean_filename(name), "the parser may cut off the path in front of a name"


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('form-data; name="files"; filename="a; b=c.pdf"', "a; b=c.pdf"),
        ("form-data; name=files; filename=plain.pdf", "plain.pdf"),
        ("FORM-DATA; Name=files; FileName=plain.pdf", "plain.pdf"),
        ('form-data; name="files"; filename="C:\\dir\\a.pdf"', "a.pdf"),
        ('form-data; name="files"; filename="plain"; filename*=utf-8\'en\'%E2%82%AC.pdf', "plain"),
        ('form-data; name="files"; filename*=utf-8\'\'other; filename="plain"', "plain"),
        ('form-data; name="files"; filename="plain"; filename*0="oth"; filename*1="er"', "plain"),
        (b'form-data; name="files"; filename="caf\xe9.pdf"', "café.pdf"),
        ('form-data; name="files"; filename=""', ""),
    ],
)
def test_forms_of_the_filename_parameter(disposition: str | bytes, name: str) -> None:
    assert parse_name(disposition) == name


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ("港湾報告書.pdf".encode("cp932"), "港湾報告書.pdf"),
        ("テスト.pdf".encode("cp932"), "テスト.pdf"),
        ("Größe.pdf".encode("latin-1"), "Größe.pdf"),
        ("éléphant.pdf".encode("latin-1"), "éléphant.pdf"),
        ("Citroën.pdf".encode("latin-1"), "Citroën.pdf"),
    ],
)
def test_names_that_are_no_utf_8_are_read_as_shift_jis_or_latin_1(sent: bytes, name: str) -> None:
    assert parse_name(b'form-data; name="files"; filename="' + sent + b'"') == name


def test_parts_that_are_not_files_are_skipped() -> None:
    body = closed(
        part(b"value", 'form-data; name="files"'),
        part(b"kept"),
        part(b"v", 'form-data; name="other"'),
        part(b"v", "form-data; name=\"files\"; filename*=UTF-8''a.pdf"),
    )
    assert parse(body, []) == [("a.pdf", b"kept")]


@pytest.mark.parametrize(
    "content_type", ["", "application/json", "multipart/form-data", "multipart/mixed; boundary=x"]
)
def test_another_content_type_is_a_bad_request(content_type: str) -> None:
    with pytest.raises(BadRequest):
        FileParser(content_type, MAX_PARTS)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no multipart at all",
        part(b"cut off before the end"),
        closed(part(b"x"))[:-6],
        b"--" + BOUNDARY.encode() + b"\r\nbad header\x00: x\r\n\r\n",
        part(b"x", 'form-data; name="files"; filename="' + "n" * 20_000 + '"'),
        part(b"x", 'form-data; name="files"; filename="a.pdf"' + ";" * 1000),
    ],
)
def test_a_malformed_body_is_a_bad_request(body: bytes) -> None:
    with pytest.raises(BadRequest):
        parse(body, [])


@pytest.mark.parametrize("field", ["files", "other"])
def test_nothing_is_parsed_past_the_limit_of_parts(field: str) -> None:
    one = part(b"x", f'form-data; name="{field}"; filename="a.pdf"')
    events = FileParser(CONTENT_TYPE, MAX_PARTS).feed(one * 10_000)
    assert isinstance(events[-1], FormLimitExceeded)
    begun = [event for event in events if isinstance(event, FileStart)]
    assert len(begun) == (MAX_PARTS if field == "files" else 0)


@pytest.mark.parametrize(
    ("before", "filler"),
    [
        (b"\r\n", b"\r\n"),
        (part(b"")[:-2], b"x"),
        (closed(part(PDF)), b"x"),
        (part(b"v", 'form-data; name="other"')[:-2], b"\r\n-"),
    ],
    ids=["before the first part", "a file", "after the last part", "another field"],
)
def test_bytes_outside_of_files_are_limited(before: bytes, filler: bytes) -> None:
    parser = FileParser(CONTENT_TYPE, MAX_PARTS)
    events = parser.feed(before)
    fed = 0
    while fed < 3 * MAX_OTHER_BYTES and not (events and isinstance(events[-1], FormLimitExceeded)):
        events = parser.feed(filler * (65_536 // len(filler)))
        fed += 65_536
    is_file = before.startswith(part(b"")[:-2]) and b"PDF" not in before
    assert (fed >= 3 * MAX_OTHER_BYTES) is is_file


@dataclass
class Received:
    filename: str
    content: bytes
    sha256: str


async def body_of(
    chunks: Iterable[bytes], error: Exception | None = None, taken: list[int] | None = None
) -> AsyncIterator[bytes]:
    taken = [] if taken is None else taken
    for chunk in chunks:
        yield chunk
        taken.append(len(chunk))
    if error:
        raise error


async def spool(tmp_path: Path, chunks: list[bytes], **limits: int) -> list[Any]:
    wanted = UploadLimits(**{"max_file_bytes": 10 * WRITE_BYTES, "max_files": 10, **limits})
    found: list[Any] = []
    async for file in spool_files(body_of(chunks), FileParser(CONTENT_TYPE, MAX_PARTS), tmp_path, wanted):
        if isinstance(file, Upload):
            content = file.path.read_bytes()
            assert file.size_bytes == len(content)
            found.append(Received(file.filename, content, file.sha256))
        else:
            found.append(file)
    assert list(tmp_path.iterdir()) == []
    return found


async def test_a_spooled_file_has_its_bytes_and_their_hash(tmp_path: Path) -> None:
    content = PDF + bytes(range(256)) * (3 * WRITE_BYTES // 256) + b"end"
    body = closed(part(content, 'form-data; name="files"; filename="../../etc/a.pdf"'))
    [file] = await spool(tmp_path, chunks_of(body, list(range(0, len(body), 64 * 1024))))
    assert file == Received("a.pdf", content, hashlib.sha256(content).hexdigest())


async def test_refused_files_do_not_affect_others(tmp_path: Path) -> None:
    body = closed(
        *(
            part(data, f'form-data; name="files"; filename="{i}.pdf"')
            for i, data in enumerate((PDF, b"", b"no", PDF * 3))
        )
    )
    good, *refused = await spool(tmp_path, chunks_of(body, [100, 5000]), max_file_bytes=6000)
    assert good.content == PDF
    assert all(isinstance(one, RefusedFile) for one in refused)
    assert [(one.filename, one.error.code) for one in refused] == [
        ("1.pdf", "empty_file"),
        ("2.pdf", "not_a_pdf"),
        ("3.pdf", "file_too_large"),
    ]


@pytest.mark.parametrize(("size", "accepted"), [(len(PDF), True), (len(PDF) - 1, False)])
async def test_the_size_limit_is_inclusive(tmp_path: Path, size: int, accepted: bool) -> None:
    [file] = await spool(tmp_path, [closed(part(PDF))], max_file_bytes=size)
    assert isinstance(file, Received) is accepted


async def test_files_above_the_limit_are_refused(tmp_path: Path) -> None:
    first, second, third = await spool(tmp_path, [closed(part(PDF), part(PDF), part(b""))], max_files=1)
    assert first.content == PDF
    assert (second.error.code, third.error.code) == ("too_many_files", "too_many_files")


async def test_a_body_that_breaks_off_leaves_no_temporary_file(tmp_path: Path) -> None:
    body = body_of([part(PDF)], error=ConnectionError("the caller left"))
    with pytest.raises(ConnectionError):
        async for _ in spool_files(body, FileParser(CONTENT_TYPE, MAX_PARTS), tmp_path, UploadLimits(10_000, 10)):
            pytest.fail("no file was complete")
    assert list(tmp_path.iterdir()) == []


async def test_an_unwritable_spool_directory_is_dependency_unavailable(tmp_path: Path) -> None:
    with pytest.raises(DependencyUnavailable, match="spool directory"):
        await spool(tmp_path / "missing", [closed(part(PDF))])


async def test_a_form_of_too_many_parts_is_not_read_to_its_end(tmp_path: Path) -> None:
    limits = UploadLimits(max_file_bytes=10_000, max_files=3)
    taken: list[int] = []
    body = body_of(repeat(part(b"") * 10, 100_000), taken=taken)
    found: list[Any] = []
    with pytest.raises(FormTooLarge):
        async for file in spool_files(body, FileParser(CONTENT_TYPE, limits.max_parts), tmp_path, limits):
            found += [file]
    assert len(found) == limits.max_parts
    assert len(taken) <= limits.max_parts // 10 + 1
    assert list(tmp_path.iterdir()) == []


async def test_the_data_of_refused_files_is_limited(tmp_path: Path) -> None:
    limits = UploadLimits(max_file_bytes=200_000, max_files=3)
    taken: list[int] = []
    body = body_of([part(PDF), part(b"no PDF" * 200)[:-2], *repeat(b"x" * 100_000, 1000)], taken=taken)
    found: list[Any] = []
    with pytest.raises(FormTooLarge):
        async for file in spool_files(body, FileParser(CONTENT_TYPE, MAX_PARTS), tmp_path, limits):
            found += [file]
    assert isinstance(found[0], Upload)
    assert [one.error.code for one in found[1:]] == ["not_a_pdf"], "the file that was being read is named too"
    assert sum(taken) <= limits.max_dropped_bytes + 200_000


async def test_a_file_of_one_piece_is_stored_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    to_thread = asyncio.to_thread

    async def counted(function: Callable[..., Any], *args: Any) -> Any:
        steps.append(function.__name__)
        return await to_thread(function, *args)

    monkeypatch.setattr(asyncio, "to_thread", counted)
    await spool(tmp_path, chunks_of(closed(part(PDF), part(b""), part(b"no")), [100, 3000]))
    assert len(steps) == 1, "what is refused at its beginning needs no file at all"
