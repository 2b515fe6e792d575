"""Embedders and the embedding service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, Literal

from pydantic import AfterValidator, Field, SecretStr

from ingestion.settings.base import PositiveFloat, PositiveInt, Section

VISUAL_EMBEDDERS: Final = ("visual", "colqwen")
"""The names of the visual embedder. Releases up to 0.2 knew ColQwen2 alone."""

_LEAST_TOKENS: Final = 16


def _zero_or_enough(tokens: int) -> int:
    if tokens and tokens < _LEAST_TOKENS:
        raise ValueError(f"0, or at least {_LEAST_TOKENS}")
    return tokens


class EmbedderSettings(Section):
    old_names: ClassVar[Mapping[str, str]] = {
        name: name.replace("visual", "colqwen")
        for name in (
            "visual_model",
            "visual_revision",
            "visual_precision",
            "visual_device",
            "visual_prompt_tokens",
            "visual_max_tokens",
        )
    }

    embedder: Literal["local", "visual", "colqwen", "remote"] = Field(
        "local",
        description="embedder of the workers; local: text, by MiniLM; visual: images, by the model "
        "PAGEMILL_VISUAL_MODEL; colqwen: another name of visual; remote: the service at PAGEMILL_EMBEDDER_URL",
    )
    embedder_url: str = Field(
        "http://127.0.0.1:8091",
        description="address of the embedding service; several, comma separated, where collections use several models",
    )
    embedder_key: SecretStr = Field(
        SecretStr(""), description="bearer key sent to the embedding service, for a proxy that asks for one"
    )
    embedder_timeout_s: PositiveFloat = Field(30.0, description="time limit of one request to the embedding service")
    embedder_concurrency: PositiveInt = Field(
        8, description="concurrent requests to the embedding service, per process"
    )
    embedder_patience_s: PositiveFloat = Field(
        30.0, description="how long requests to an overloaded embedding service are repeated before it counts as down"
    )
    embedder_request_bytes: PositiveInt = Field(
        16 * 1024**2,
        description="bytes of texts or images in one request to the embedding service; a larger input is sent alone",
    )
    embedder_host: str = Field("127.0.0.1", description="address the embedding service listens on")
    embedder_port: PositiveInt = Field(8091, description="port the embedding service listens on")
    embedder_threads: int = Field(
        0,
        description="batches that the local embedder computes in parallel, each on one core; 0: as many as there are "
        "cores",
    )
    local_precision: Literal["fp32", "int8"] = Field(
        "fp32",
        description="fp32: MiniLM as published; int8: a fifth less CPU time, with other vectors, so that a collection "
        "keeps to one of the two",
    )
    visual_model: str = Field(
        "vidore/colqwen2-v1.0-hf",
        description="checkpoint of the visual embedder: a name on the Hugging Face hub, or a folder; embedders.md "
        "lists the families",
    )
    visual_revision: str = Field("main", description="commit, tag or branch of the checkpoint on the hub")
    visual_precision: Literal["nf4", "bf16", "fp32", "auto"] = Field(
        "nf4",
        description="nf4: most weights in 4 bits, computed in BF16; bf16, fp32: the whole model; auto: bf16 where its "
        "weights take at most half of the free memory, else nf4. A collection keeps to one precision, so with auto "
        "all workers need devices of one size",
    )
    visual_device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = Field(
        "auto", description="cpu, cuda or cuda:N; auto: a GPU, if there is one"
    )
    visual_prompt_tokens: Literal["keep", "drop"] = Field(
        "keep",
        description="keep: a page's vectors include those of the prompt around the image, as published; drop: they do"
        " not",
    )
    visual_max_tokens: Annotated[int, AfterValidator(_zero_or_enough)] = Field(
        0,
        le=2000,
        description="most image tokens of a page; larger pages are scaled down; 0: as published, 768 for ColQwen2",
    )
    embed_batch_patches: PositiveInt = Field(
        12_288,
        description="most vectors in one batch of the visual embedder, padding included; a page of ColQwen2 has up "
        "to 780",
    )
    embed_wait_ms: Annotated[int, Field(ge=0)] = Field(
        10, description="how long a page waits for other pages to fill its batch while the device is idle"
    )
    token_pooling: Annotated[int, Field(ge=1, le=4)] = Field(
        1, description="vectors of a page that are merged into one before they are stored; 1: none"
    )

    @property
    def is_visual(self) -> bool:
        return self.embedder in VISUAL_EMBEDDERS

    @property
    def embedder_urls(self) -> tuple[str, ...]:
        """Where queries are embedded. Workers embed pages at the first."""
        return tuple(url.strip() for url in self.embedder_url.split(",") if url.strip())


class ServingSettings(Section):
    """The limits of the embedding service, and how long it caches vectors."""

    embed_max_inputs: PositiveInt = Field(64, description="most inputs in one request to the embedding service")
    embed_max_input_chars: PositiveInt = Field(
        200_000, description="most characters in one text for the embedding service"
    )
    embed_max_body_bytes: PositiveInt = Field(
        64 * 1024**2, description="largest request body of the embedding service"
    )
    embed_bodies_limit_bytes: PositiveInt = Field(
        256 * 1024**2,
        description="most bytes of request bodies in flight in the embedding service, a quarter of them for bodies of"
        " up to 1 MiB and the rest for larger ones; above the limit the answer is 429",
    )
    embed_max_image_px: PositiveInt = Field(
        16_777_216, description="most pixels in one image for the embedding service"
    )
    embed_text_limit_tokens: PositiveInt = Field(
        4096,
        description="most estimated tokens of queries in flight in the embedding service (the default is a second's "
        "work of two cores); above the limit the answer is 429",
    )
    embed_document_limit_tokens: PositiveInt = Field(
        16_384, description="the same for texts of documents, which wait while there are queries"
    )
    embed_image_limit_patches: PositiveInt = Field(
        49_152,
        description="the same for images, in patches of 28 x 28 pixels; an image counts with the patches that the "
        "model gets, or with an eighth of the patches sent, whichever is more",
    )
    embed_image_nice: Annotated[int, Field(ge=0, le=19)] = Field(
        10, description="nice value of a process that has the image lane only"
    )
    embed_cache_ttl_s: Annotated[int, Field(ge=0)] = Field(
        7 * 86_400, description="how long Redis keeps vectors after their last use; 0: no cache"
    )
