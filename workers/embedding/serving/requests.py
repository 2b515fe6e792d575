"""The request format of the embedding service."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ingestion.settings import ServingSettings
from workers.embedding.serving.json_limits import check_values
from workers.embedding.serving.service_errors import ServiceError

Modality = Literal["text", "image"]
InputType = Literal["query", "document"]
Pooling = Literal["none", "mean"]

_INPUT_FORMS: Final = "`input` must be a string or a list of strings; arrays of tokens are not supported"
_VALUES_PER_INPUT: Final = 4
_OTHER_VALUES: Final = 256
"""Limits on JSON values, above those of valid requests: a slightly invalid request still gets a precise error."""
_NAME_CHARS: Final = 200
"""Most characters of a model's name, which an error repeats."""
_SHOWN_CHARS: Final = 64
"""Most characters of an unknown field's name in an error."""


class EmbeddingRequest(BaseModel):
    """The request of OpenAI's clients, with three more fields.

    `modality`: "image" inputs are data URIs. `input_type`: queries and documents may be embedded differently; an image
    is always a document.

    `pooling`: "none" returns all vectors of an input. For MiniLM these are the vectors of its own tokens, without
    [CLS] and [SEP]; their mean is therefore not the published one. "mean" returns one vector of unit length. For
    MiniLM this is the published pooling: the mean over all tokens, [CLS] and [SEP] included, of a text cut to 256
    tokens. ColQwen2 has no published pooling: "mean" is the mean of the unit vectors that "none" returns, prompt and
    query augmentation tokens included.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    input: str | Annotated[list[str], Field(min_length=1, fail_fast=True)]
    model: Annotated[str, Field(max_length=_NAME_CHARS)] = ""
    modality: Modality = "text"
    input_type: InputType | None = None
    pooling: Pooling = "none"
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: None = None
    user: str | None = None

    @property
    def inputs(self) -> list[str]:
        return [self.input] if isinstance(self.input, str) else self.input

    @property
    def kind(self) -> InputType:
        return self.input_type or ("query" if self.modality == "text" else "document")


def read_request(body: bytes | bytearray, limits: ServingSettings) -> EmbeddingRequest:
    """Parse and check a request. Raises ServiceError with the field at fault."""
    check_values(body, _OTHER_VALUES + _VALUES_PER_INPUT * limits.embed_max_inputs)
    try:
        request = EmbeddingRequest.model_validate_json(body)
    except ValidationError as error:
        raise _validation_error(error) from error
    inputs = request.inputs
    if len(inputs) > limits.embed_max_inputs:
        raise ServiceError(
            f"{len(inputs)} inputs are more than the {limits.embed_max_inputs} accepted in one request",
            param="input",
            code="too_many_inputs",
        )
    if request.modality == "text":
        _check_texts(inputs, limits.embed_max_input_chars)
    elif request.kind == "query":
        raise ServiceError("an image is embedded as a document, not as a query", param="input_type")
    return request


def _check_texts(texts: list[str], max_chars: int) -> None:
    for index, text in enumerate(texts):
        if len(text) > max_chars:
            raise ServiceError(
                f"input {index} has {len(text)} characters, more than the {max_chars} accepted",
                param="input",
                code="input_too_long",
            )


def _validation_error(error: ValidationError) -> ServiceError:
    """The first error, with the field name that the client used."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    param = str(first["loc"][0])[:_SHOWN_CHARS] if first["loc"] else None
    if param == "input" and first["type"] != "missing":
        empty = any(problem["type"] == "too_short" for problem in error.errors(include_url=False))
        return ServiceError("`input` must not be an empty list" if empty else _INPUT_FORMS, param=param)
    if param == "dimensions":
        return ServiceError("this model's vectors cannot be shortened: `dimensions` is not supported", param=param)
    if first["type"] == "extra_forbidden":
        return ServiceError(f"there is no field `{param}`", param=param)
    return ServiceError(f"`{param}`: {first['msg']}" if param else first["msg"], param=param)
