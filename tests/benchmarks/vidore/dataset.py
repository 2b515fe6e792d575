"""Reads ViDoRe sets as they are published on the Hugging Face hub.

    v2, v3   corpus/test-*.parquet    corpus-id or corpus_id, image; v3 also doc_id, page_number_in_doc, markdown
             queries/test-*.parquet   query-id or query_id, query; language where there are several
             qrels/test-*.parquet     query-id, corpus-id, score: grades, in v3 1 and 2
    v1       data/test-*.parquet      a table of questions: query, image, image_filename; equal images are one page

An image is a struct {bytes, path}. Other columns are not read.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from pyarrow import parquet

_ROWS: Final = 16
"""Rows that are read together: an image has about a megabyte."""
_CORPUS_ID: Final = ("corpus-id", "corpus_id")
_QUERY_ID: Final = ("query-id", "query_id")
_FOLDERS: Final = ("corpus", "queries", "qrels")


class BadDataset(Exception):
    """The folder holds no ViDoRe set that can be measured. The text names what is wrong, and where."""


@dataclass(frozen=True, slots=True)
class CorpusPage:
    """`image`: the content of a PNG, JPEG or other image file."""

    id: str
    image: bytes


@dataclass(frozen=True, slots=True)
class JudgedQuery:
    """`relevance`: the grade of each page that is judged for this query, by the page's id."""

    id: str
    text: str
    language: str
    relevance: Mapping[str, int]


@dataclass(frozen=True)
class VidoreDataset:
    """A set of pages, and the queries that have at least one relevant page among them."""

    name: str
    digest: str
    """Of names and sizes of all files."""
    page_ids: Sequence[str]
    queries: Sequence[JudgedQuery]
    _images: _Images = field(repr=False)

    def pages(self, start: int = 0) -> Iterator[CorpusPage]:
        """The pages in the order of `page_ids`, from index `start` on. Raises BadDataset for a page without image."""
        return self._images.read(self.page_ids[start:])

    @property
    def languages(self) -> Sequence[str]:
        return sorted({query.language for query in self.queries})


def load_dataset(folder: Path, *, languages: Sequence[str] = (), limit: int | None = None) -> VidoreDataset:
    """`languages`: only queries in these; by default in all. `limit`: only the first pages, and their queries.

    Raises BadDataset.
    """
    if not folder.is_dir():
        raise BadDataset(f"{folder} is not a folder; name the folder of a ViDoRe set, as `hf download` makes it")
    is_beir = (folder / "corpus").is_dir()
    if is_beir:
        images, queries = _read_beir(folder)
    else:
        images, queries = _read_questions(folder)
    page_ids = images.ids[:limit]
    kept = set(page_ids)
    chosen = _in_languages(queries, languages, folder)
    among = [replace(query, relevance=_among(query.relevance, kept)) for query in chosen]
    judged = [query for query in among if any(grade > 0 for grade in query.relevance.values())]
    if not judged:
        raise BadDataset(f"{folder}: no query has a relevant page among the {len(page_ids)} pages")
    return VidoreDataset(folder.resolve().name, _digest(folder), page_ids, judged, images)


def _among(relevance: Mapping[str, int], kept: set[str]) -> dict[str, int]:
    return {page: grade for page, grade in relevance.items() if page in kept}


def _in_languages(queries: Sequence[JudgedQuery], wanted: Sequence[str], folder: Path) -> Sequence[JudgedQuery]:
    known = {query.language for query in queries}
    if missing := [language for language in wanted if language.lower() not in known]:
        raise BadDataset(
            f"{folder} has no queries in {', '.join(missing)}; it has {', '.join(sorted(known)) or 'none'}"
        )
    chosen = {language.lower() for language in wanted} or known
    return [query for query in queries if query.language in chosen]


@dataclass(frozen=True)
class _Images:
    """The images of pages, in files with the column `image`, and their ids in the order of the files' rows.

    `rows`: the row of each page, counted over all files; of equal images the first.
    """

    files: Sequence[Path]
    ids: Sequence[str]
    rows: Sequence[int]

    def read(self, ids: Sequence[str]) -> Iterator[CorpusPage]:
        wanted = dict(zip(self.rows, self.ids, strict=True))
        kept, left = set(ids), len(ids)
        row = 0
        for file in self.files:
            if not left:
                return
            for image in _column_values(file, "image"):
                id_ = wanted.get(row)
                row += 1
                if id_ in kept:
                    left -= 1
                    yield CorpusPage(str(id_), _content(image, str(id_), file))


def _content(image: Any, id_: str, file: Path) -> bytes:
    content = image.get("bytes") if isinstance(image, dict) else None
    if not isinstance(content, bytes) or not content:
        raise BadDataset(f"{file}: page {id_} has no image bytes; a ViDoRe image is a struct of bytes and path")
    return content


def _read_beir(folder: Path) -> tuple[_Images, list[JudgedQuery]]:
    corpus, queries, qrels = (_files(folder / name) for name in _FOLDERS)
    ids = [str(one) for file in corpus for (one,) in _rows(file, [_CORPUS_ID])]
    if repeated := [one for one, count in Counter(ids).items() if count > 1]:
        raise BadDataset(f"{corpus[0].parent}: corpus id {repeated[0]} occurs more than once")
    known = set(ids)
    relevance: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for file in qrels:
        for query_id, corpus_id, score in _rows(file, [_QUERY_ID, _CORPUS_ID, ("score",)]):
            if str(corpus_id) not in known:
                raise BadDataset(f"{file} judges page {corpus_id}, which is not in {folder / 'corpus'}")
            of_query = relevance[str(query_id)]
            of_query[str(corpus_id)] = max(int(score), of_query.get(str(corpus_id), 0))  # several annotators
    found = []
    for file in queries:
        has_language = "language" in _schema(file).names
        columns = [_QUERY_ID, ("query", "text"), *([("language",)] if has_language else [])]
        for query_id, text, *language in _rows(file, columns):
            spoken = str(language[0]).lower() if language else ""
            found.append(JudgedQuery(str(query_id), str(text), spoken, relevance.get(str(query_id), {})))
    if unknown := relevance.keys() - {query.id for query in found}:
        raise BadDataset(f"{folder / 'qrels'} judges query {min(unknown)}, which is not in {folder / 'queries'}")
    return _Images(corpus, ids, range(len(ids))), found


def _read_questions(folder: Path) -> tuple[_Images, list[JudgedQuery]]:
    """A set of version 1: the image of a question's row is its one relevant page."""
    files = _files(folder / "data" if (folder / "data").is_dir() else folder)
    rows: dict[str, int] = {}
    queries: dict[str, JudgedQuery] = {}
    names = [("image_filename",)] if all("image_filename" in _schema(file).names for file in files) else [("image",)]
    number = 0
    for file in files:
        for text, named in _rows(file, [("query",), *names]):
            id_ = named if isinstance(named, str) else hashlib.sha256(_content(named, f"{number}", file)).hexdigest()
            rows.setdefault(id_, number)
            if text:  # some sets have pages without a question
                queries[f"{number}"] = JudgedQuery(f"{number}", str(text), "", {id_: 1})
            number += 1
    return _Images(files, list(rows), list(rows.values())), list(queries.values())


def _files(folder: Path) -> list[Path]:
    """The Parquet files of the split `test`, or all where no file is named after a split."""
    every = sorted(folder.glob("*.parquet")) if folder.is_dir() else []
    if not every:
        raise BadDataset(
            f"{folder} has no *.parquet files; a ViDoRe set has {', '.join(f'{name}/' for name in _FOLDERS)} with "
            "Parquet files, or, in version 1, data/ with one table"
        )
    return [file for file in every if file.name.startswith("test")] or every


def _schema(file: Path) -> Any:
    try:
        return parquet.read_schema(file)
    except (pa.ArrowException, OSError) as error:
        raise BadDataset(f"{file} is damaged, or is not a Parquet file; fetch it again: {error}") from error


def _rows(file: Path, columns: Sequence[tuple[str, ...]]) -> Iterator[tuple[Any, ...]]:
    """The values of `columns`, of each the first name that the file has. None is an error, but for questions."""
    names = [_named(file, aliases) for aliases in columns]
    for values in zip(*(_column_values(file, name) for name in names), strict=True):
        if missing := [name for name, value in zip(names, values, strict=True) if value is None and name != "query"]:
            raise BadDataset(f"{file}: a row has no value in the column {missing[0]}")
        yield values


def _named(file: Path, aliases: tuple[str, ...]) -> str:
    names = _schema(file).names
    for alias in aliases:
        if alias in names:
            return alias
    raise BadDataset(f"{file} has no column {' or '.join(aliases)}; it has {', '.join(names)}")


def _column_values(file: Path, name: str) -> Iterator[Any]:
    _named(file, (name,))
    try:
        with parquet.ParquetFile(file) as content:
            for batch in content.iter_batches(batch_size=_ROWS if name == "image" else 4096, columns=[name]):
                yield from batch.column(0).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise BadDataset(f"{file} is damaged; fetch it again: {error}") from error


def _digest(folder: Path) -> str:
    whole = hashlib.sha256()
    for file in sorted(folder.rglob("*.parquet")):
        whole.update(f"{file.relative_to(folder)} {file.stat().st_size}\n".encode())
    return whole.hexdigest()[:8]
