"""Self-test of a worker: it renders and embeds a generated page before it takes a job."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

import pypdfium2

from ingestion.errors import Fault, IngestError
from ingestion.ports import Embedder, Renderer

_A4_PT: Final = (595, 842)


class SelfTestFailed(IngestError):
    """This worker cannot render or embed any page."""

    code = "self_test_failed"
    fault = Fault.WORKER


async def self_test(renderer: Renderer, embedder: Embedder) -> None:
    """Render and embed one empty page.

    Raises SelfTestFailed, or DependencyUnavailable if a remote embedder does not answer. A broken renderer or a model
    of another shape would fail every document, so the worker tests both before it takes a job.
    """
    with tempfile.TemporaryDirectory(prefix="pagemill-") as folder:
        path = Path(folder) / "page.pdf"
        with pypdfium2.PdfDocument.new() as pdf:
            pdf.new_page(*_A4_PT).close()
            pdf.save(path)
        try:
            source = await renderer.open(path, pixels=embedder.wants_pixels)
            pages = [page async for window in source.windows(first_page=1) for page in window]
        except IngestError as error:
            raise SelfTestFailed(f"this worker cannot render a page: {error.message}") from error
    (vectors,) = await embedder.embed_pages(pages)
    if vectors.ndim != 2 or vectors.shape[1] != embedder.dim:
        raise SelfTestFailed(f"the embedder returns arrays of shape {vectors.shape}, not (tokens, {embedder.dim})")
