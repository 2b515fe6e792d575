"""One embedding service beside another: a query goes to the one that has the model."""

from __future__ import annotations

import pytest

from ingestion.adapters.embedding.services import EmbeddersByFingerprint
from ingestion.errors import DependencyUnavailable, EmbedderMismatch
from ingestion.settings import EmbedderSettings
from tests.support.embedders import WordEmbedder
from tests.support.ports import free_port
from tests.support.serving import serving

OLD, NEW = WordEmbedder(model="old"), WordEmbedder(dim=24, model="new")


async def test_each_fingerprint_leads_to_the_service_that_has_its_model() -> None:
    async with serving(OLD) as old, serving(NEW) as new:
        urls = f"{old.http.base_url}, {new.http.base_url}"
        async with EmbeddersByFingerprint(EmbedderSettings(embedder_url=urls)) as embedders:
            for model in (NEW, OLD, NEW):
                found = await embedders.for_fingerprint(model.fingerprint)
                [vectors] = await found.embed_queries(["three words here"])
                assert (found.fingerprint, vectors.shape) == (model.fingerprint, (3, model.dim))
            with pytest.raises(EmbedderMismatch, match=f"{OLD.fingerprint}.*{NEW.fingerprint}"):
                await embedders.for_fingerprint("another")


async def test_a_service_that_is_down_fails_only_the_callers_that_need_it() -> None:
    async with serving(OLD) as old:
        urls = f"http://127.0.0.1:{free_port()},{old.http.base_url}"
        async with EmbeddersByFingerprint(EmbedderSettings(embedder_url=urls)) as embedders:
            assert (await embedders.for_fingerprint(OLD.fingerprint)).fingerprint == OLD.fingerprint
            with pytest.raises(DependencyUnavailable):
                await embedders.for_fingerprint(NEW.fingerprint)


async def test_a_service_that_has_another_model_now_is_asked_again() -> None:
    served = WordEmbedder(model="old")
    async with (
        serving(served) as service,
        EmbeddersByFingerprint(EmbedderSettings(embedder_url=str(service.http.base_url))) as embedders,
    ):
        await embedders.for_fingerprint(OLD.fingerprint)
        served.fingerprint = "test/replaced"
        assert (await embedders.for_fingerprint("test/replaced")).fingerprint == "test/replaced"
        with pytest.raises(EmbedderMismatch):
            await embedders.for_fingerprint(OLD.fingerprint)
