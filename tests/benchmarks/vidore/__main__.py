"""How good is retrieval on ViDoRe's page images?

    hf download vidore/esg_reports_v2 --repo-type dataset --local-dir DATASET_DIR
    PAGEMILL_EMBEDDER=visual python -m tests.benchmarks.vidore DATASET_DIR --precision nf4 bf16

reads a set of ViDoRe 1, 2 or 3 as it is published, ingests its page images through a worker's pipeline, and prints
nDCG@5 and @10

- exact: MaxSim over all pages with the embedder's float32 vectors;
- the same with vectors rounded as blobs are (bf16, int8, int4), and by sign codes alone;
- of the product's search, with blobs of each precision.

Servers are started in the work folder; `--servers given` takes those of the PAGEMILL_ settings. The embedder and all
else are those of the PAGEMILL_ settings, too. A run that is ended goes on where it was, with the same options and work
folder. Each precision has a collection of its own. Pages are stored without a loss, and are not resized before the
embedder resizes them.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final

from ingestion.bootstrap import open_services
from ingestion.errors import IngestError
from ingestion.logs import configure
from ingestion.ports import Embedder
from ingestion.prepare import prepare
from ingestion.settings import EmbedderSettings, LogSettings, RenderSettings, Settings
from ingestion.settings.embedding import VISUAL_EMBEDDERS
from tests.benchmarks.filling import KnownVectors
from tests.benchmarks.vidore.dataset import BadDataset, VidoreDataset, load_dataset
from tests.benchmarks.vidore.ingest import Ingester
from tests.benchmarks.vidore.page_pdf import PAGE_DPI
from tests.benchmarks.vidore.ranking import (
    CODES,
    FULL,
    PACKINGS,
    Rankings,
    embed_queries,
    exact_rankings,
    product_rankings,
)
from tests.benchmarks.vidore.report import Figures, Results, figures_of, text_of
from tests.chaos.rig import settings_of
from workers.embedding.factory import open_embedder
from workers.stack.datadir import DataDir
from workers.stack.servers import LocalServers

_NAME: Final = "vidore"
_LARGEST_PAGE_PX: Final = 64_000_000
_OWN_SETTINGS: Final = {
    "PAGEMILL_MONGO_DATABASE": _NAME,
    "PAGEMILL_S3_BUCKET": _NAME,
    "PAGEMILL_KAFKA_JOBS_TOPIC": f"{_NAME}.jobs",
    "PAGEMILL_KAFKA_EVENTS_TOPIC": f"{_NAME}.events",
    "PAGEMILL_KAFKA_GROUP": _NAME,
}
_PIXEL_BY_PIXEL: Final = {
    "PAGEMILL_DPI_POLICY": "fixed",
    "PAGEMILL_FIXED_DPI": str(PAGE_DPI),
    "PAGEMILL_MAX_PAGE_PX": str(_LARGEST_PAGE_PX),
}
_PRECISION_SETTING: Final = {
    "local": "PAGEMILL_LOCAL_PRECISION",
    **dict.fromkeys(VISUAL_EMBEDDERS, "PAGEMILL_VISUAL_PRECISION"),
}

OpenEmbedder = Callable[[EmbedderSettings, RenderSettings], AbstractAsyncContextManager[Embedder]]


@asynccontextmanager
async def servers(kind: str, work: Path) -> AsyncIterator[Mapping[str, str]]:
    """The settings of the servers: those in the work folder during the block, or none where they are given."""
    if kind == "given":
        yield {}
        return
    async with LocalServers(DataDir(work / "servers")) as local:
        yield local.environment


def settings_for(environment: Mapping[str, str], precision: str) -> Settings:
    """Those of this process, with the servers of `environment`, and with `precision` of the embedder, unless "".

    Raises BadDataset where the embedder has no choice of precisions.
    """
    given = {name: value for name, value in os.environ.items() if name.startswith("PAGEMILL_")}
    merged = {**_OWN_SETTINGS, **given, **environment, **_PIXEL_BY_PIXEL}
    if precision:
        embedder = merged.get("PAGEMILL_EMBEDDER", "local")
        if embedder not in _PRECISION_SETTING:
            raise BadDataset(f"--precision sets nothing for PAGEMILL_EMBEDDER={embedder}; leave it out")
        merged[_PRECISION_SETTING[embedder]] = precision
    return settings_of(merged)


class Measurement:
    """One precision of the embedder."""

    def __init__(self, dataset: VidoreDataset, settings: Settings, precision: str, work: Path) -> None:
        self._dataset = dataset
        self._settings = settings
        self._precision = precision or "as set"
        name = f"{dataset.digest}-{len(dataset.page_ids)}-{precision or 'set'}"
        self._collection = f"{_NAME}_{name}"
        self._folder = work / name
        self._folder.mkdir(parents=True, exist_ok=True)
        self._results = Results(self._folder / f"results-{'-'.join(filter(None, dataset.languages)) or 'all'}.jsonl")

    async def run(self, opened: OpenEmbedder) -> Sequence[Figures]:
        """Returns the figures, those of earlier runs included. Raises BadDataset, IngestError."""
        await prepare(self._settings)
        async with (
            open_services(self._settings) as services,
            opened(self._settings.embedder, self._settings.render) as embedder,
        ):
            ingester = Ingester(services, embedder, self._collection, self._folder)
            parts = await ingester.fill(self._dataset)
            queries = self._dataset.queries
            vectors, embed_s = await embed_queries(embedder, queries)

            def add(kind: str, ranking: str, found: Rankings) -> None:
                page_s = ingester.journal.seconds_a_page
                figures = figures_of(
                    self._precision, kind, ranking, found, queries, page_s=page_s, embed_query_s=embed_s
                )
                self._results.add(figures)

            kinds = [kind for kind in (FULL, *PACKINGS, CODES) if not self._has(kind, "exact")]
            asked = [vectors[query.text] for query in queries]
            exact = await asyncio.to_thread(exact_rankings, parts, ingester.files.read, asked, kinds)
            for kind, found in exact.items():
                add(kind, "exact", found)
            known = KnownVectors(vectors, embedder.fingerprint, embedder.dim, embedder.wants_pixels)
            stored = ingester.journal.packing
            for packing in sorted(PACKINGS, key=lambda packing: packing != stored):
                if not self._has(packing, "search"):
                    await ingester.pack(packing)
                    add(packing, "search", await product_rankings(services, self._collection, parts, queries, known))
        return self._results.figures

    def _has(self, vectors: str, ranking: str) -> bool:
        return self._results.has(self._precision, vectors, ranking)


async def run(arguments: argparse.Namespace, opened: OpenEmbedder = open_embedder) -> list[Figures]:
    """Raises BadDataset, IngestError."""
    dataset = load_dataset(arguments.dataset, languages=arguments.language, limit=arguments.limit)
    arguments.work.mkdir(parents=True, exist_ok=True)
    figures: list[Figures] = []
    async with servers(arguments.servers, arguments.work) as environment:
        for precision in arguments.precision or [""]:
            measurement = Measurement(dataset, settings_for(environment, precision), precision, arguments.work)
            figures += await measurement.run(opened)
            print(text_of(dataset, figures), flush=True)
    return figures


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, metavar="DATASET_DIR", help="folder of a set, as the hub has it")
    parser.add_argument("--work", type=Path, help="folder of servers, vectors and results; default: DATASET_DIR.run")
    parser.add_argument("--servers", choices=["local", "given"], default="local")
    parser.add_argument("--precision", nargs="+", default=[], help="of the embedder; by default as it is set")
    parser.add_argument("--language", nargs="+", default=[], help="only queries in these; by default in all")
    parser.add_argument("--limit", type=_positive, help="only the first pages; figures are then not comparable")
    arguments = parser.parse_args(argv)
    arguments.work = arguments.work or arguments.dataset.resolve().with_name(f"{arguments.dataset.resolve().name}.run")
    return arguments


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def main(argv: Sequence[str] | None = None, **parts: Any) -> int:
    """Returns the exit status: 2 where the set, the settings or a server make a measurement impossible."""
    try:
        asyncio.run(run(parse(argv), **parts))
    except (BadDataset, IngestError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    configure(LogSettings())
    sys.exit(main())
