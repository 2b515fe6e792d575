"""What a caller may ask for."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ingestion.settings import ServingSettings
from workers.embedding.serving.api_errors import ApiError
from workers.embedding.serving.json_limits import check_values

Modality = Literal["text", "image"]
InputType = Literal["query", "document"]
Pooling = Literal["none", "mean"]

_INPUT_FORMS: Final = "`input` must be a string or a list of strings; arrays of tokens are not supported"


_VALUES_PER_INPUT: Final = 4
_OTHER_VALUES: Final = 256
"""JSON values in a request: more than one that is right has, so that most of what is wrong is still named."""
_NAME_CHARS: Final = 200
"""Of a model's name; an error repeats it."""
_SHOWN_CHARS: Final = 64
"""Of the name of a field that there is none of."""


class EmbeddingRequest(BaseModel):
    """What OpenAI's clients send, and three fields of our own.

    `modality`: images come as data URIs. `input_type`: a query and a page may be embedded differently; an image is
    always a page.

    `pooling`: "none" returns all vectors of an input. Of MiniLM those are of its own tokens alone: [CLS] and [SEP] are
    left out, so that their mean is not the published one. "mean" returns one vector of unit length. Of MiniLM it is
    the published model's: the mean over all tokens, [CLS] and [SEP] included, of a text cut to 256 of them. ColQwen2
    has no published pooling: there it is the mean of the unit vectors that "none" returns, those of the prompt
    and of a query's augmentation tokens included.
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
    """Raises ApiError with the field that is to blame."""
    check_values(body, _OTHER_VALUES + _VALUES_PER_INPUT * limits.embed_max_inputs)
    try:
        request = EmbeddingRequest.model_validate_json(body)
    except ValidationError as error:
        raise _refusal(error) from error
    inputs = request.inputs
    if len(inputs) > limits.embed_max_inputs:
        raise ApiError(
            f"{len(inputs)} inputs are more than the {limits.embed_max_inputs} accepted in one request",
            param="input",
            code="too_many_inputs",
        )
    if request.modality == "text":
        _check_texts(inputs, limits.embed_max_input_chars)
    elif request.kind == "query":
        raise ApiError("an image is embedded as a document, not as a query", param="input_type")
    return request


def _check_texts(texts: list[str], max_chars: int) -> None:
    for index, text in enumerate(texts):
        if len(text) > max_chars:
            raise ApiError(
                f"input {index} has {len(text)} characters, more than the {max_chars} accepted",
                param="input",
                code="input_too_long",
            )


def _refusal(error: ValidationError) -> ApiError:
    """The first thing that is wrong, in the caller's words."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    param = str(first["loc"][0])[:_SHOWN_CHARS] if first["loc"] else None
    if param == "input" and first["type"] != "missing":
        empty = any(problem["type"] == "too_short" for problem in error.errors(include_url=False))
        return ApiError("`input` must not be an empty list" if empty else _INPUT_FORMS, param=param)
    if param == "dimensions":
        return ApiError("this model's vectors cannot be shortened: `dimensions` is not supported", param=param)
    if first["type"] == "extra_forbidden":
        return ApiError(f"there is no field `{param}`", param=param)
    return ApiError(f"`{param}`: {first['msg']}" if param else first["msg"], param=param)
