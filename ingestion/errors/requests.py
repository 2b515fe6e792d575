"""Errors whose cause lies in a request."""

from __future__ import annotations

from ingestion.errors.base import Fault, PermanentError, RetryableError


class Overloaded(RetryableError):
    """Too much work is in flight. Repeat the same call after the time that the answer names."""

    code = "overloaded"
    fault = Fault.TURN

    def __init__(self, what: str, retry_after_s: int, *, stage: str | None = None) -> None:
        super().__init__(f"{what} is busy; try again in {retry_after_s} s", stage=stage)
        self.retry_after_s = retry_after_s


class TooManyRequests(RetryableError):
    """The caller has sent too many requests, or too many wrong keys. Repeat the request later."""

    code = "too_many_requests"
    fault = Fault.CALLER

    def __init__(self, what: str, retry_after_s: int, *, stage: str | None = None) -> None:
        super().__init__(f"{what}; try again in {retry_after_s} s", stage=stage)
        self.retry_after_s = retry_after_s


class QuotaExceeded(PermanentError):
    """The tenant has used up a quota of uploads. Repeat the upload after the time that the answer names."""

    code = "quota_exceeded"
    fault = Fault.CALLER

    def __init__(self, message: str, retry_after_s: int, *, stage: str | None = None) -> None:
        super().__init__(f"{message}; try again in {retry_after_s} s", stage=stage)
        self.retry_after_s = retry_after_s


class StorageQuotaExceeded(PermanentError):
    """The file does not fit into what the tenant may store, or may upload in one day."""

    code = "storage_quota_exceeded"
    fault = Fault.CALLER


class TooManyFiles(PermanentError):
    """The upload has more files than `PAGEMILL_MAX_FILES_PER_UPLOAD`."""

    code = "too_many_files"
    fault = Fault.CALLER


class FormTooLarge(PermanentError):
    """The form of an upload has too many parts, or too many bytes that belong to no accepted file."""

    code = "form_too_large"
    fault = Fault.CALLER


class BadRequest(PermanentError):
    """The request is not valid."""

    code = "bad_request"
    fault = Fault.CALLER


class BadFilter(BadRequest):
    """The filter cannot be read. The message names the character where it goes wrong."""

    code = "bad_filter"


class Unauthorized(PermanentError):
    """The request has no API key, or a wrong, expired or revoked one."""

    code = "unauthorized"
    fault = Fault.CALLER


class Forbidden(PermanentError):
    """The role or the tenant of the API key does not allow the request."""

    code = "forbidden"
    fault = Fault.CALLER


class NotFound(PermanentError):
    """The document, object or address does not exist."""

    code = "not_found"
    fault = Fault.CALLER


class Conflict(PermanentError):
    """The state of the document or collection does not allow the request."""

    code = "conflict"
    fault = Fault.CALLER


class NoWordBoxes(Conflict):
    """The page has no boxes of words: it has no text, or an earlier release ingested it. Upload the file again."""

    code = "no_word_boxes"


class NoPatchGrid(Conflict):
    """The vectors of the page are not those of patches of its image: a text embedder made them, or there are none."""

    code = "no_patch_grid"


class PooledVectors(Conflict):
    """The vectors of the page are merged ones (`PAGEMILL_TOKEN_POOLING`): none of them has a place on the page."""

    code = "pooled_vectors"
