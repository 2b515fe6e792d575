"""A worker tries its own tools on a page of its own before it touches anybody's."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

import pypdfium2

from ingestion.errors import Fault, IngestError
from ingestion.ports import Embedder, Renderer

_A4_PT: Final = (595, 842)


class SelfTestFailed(IngestError):
    """This worker cannot draw or embed pages, whatever the file."""

    code = "self_test_failed"
    fault = Fault.WORKER


async def self_test(renderer: Renderer, embedder: Embedder) -> None:
    """Draw and embed one empty page. Raises SelfTestFailed, DependencyUnavailable where the embedder is elsewhere.

    What would otherwise fail every document, a renderer that is broken here or a model of another shape, is found
    while no document is at stake.
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
            raise SelfTestFailed(f"this worker cannot draw a page: {error.message}") from error
    (vectors,) = await embedder.embed_pages(pages)
    if vectors.ndim != 2 or vectors.shape[1] != embedder.dim:
        raise SelfTestFailed(f"the embedder returns arrays of shape {vectors.shape}, not (tokens, {embedder.dim})")
