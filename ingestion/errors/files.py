"""Errors whose cause lies in one file."""

from __future__ import annotations

from ingestion.errors.base import Fault, PermanentError, RetryableError


class FileError(PermanentError):
    """The file itself is the cause."""

    code = "file"
    fault = Fault.FILE


class NotAPdf(FileError):
    """The file has no PDF header in its first 1,024 bytes."""

    code = "not_a_pdf"


class UnsupportedType(FileError):
    """The file is of a type that is not accepted, or that this installation does not convert."""

    code = "unsupported_type"


class ConversionFailed(FileError):
    """The file cannot be converted to PDF: it is damaged, needs a password, or exceeds a limit of conversions."""

    code = "conversion_failed"


class ConverterMissing(FileError):
    """The worker has no program that converts the file. The message names the command that installs one."""

    code = "converter_missing"  # counts for the file: a worker without the program goes on with other types


class EmptyFile(FileError):
    """The file has no bytes."""

    code = "empty_file"


class CorruptPdf(FileError):
    """The file is damaged: no reader opens it, it crashes or blocks a reader, or readers count different pages."""

    code = "corrupt_pdf"


class EncryptedPdf(FileError):
    """The PDF opens only with a password, or its encryption is not supported."""

    code = "encrypted_pdf"


class EncryptedFile(FileError):
    """The office file opens only with a password."""

    code = "encrypted_file"


class NoPages(FileError):
    """The PDF has no pages."""

    code = "no_pages"


class FileTooLarge(FileError):
    """The file is larger than `PAGEMILL_MAX_FILE_BYTES`."""

    code = "file_too_large"


class TooManyPages(FileError):
    """The file has more pages than `PAGEMILL_MAX_PAGES`, or 10,000 after its conversion to PDF."""

    code = "too_many_pages"


class PageRenderFailed(FileError):
    """No renderer can render a page of the file."""

    code = "page_render_failed"


class RenderTimeout(FileError):
    """A page of the file takes longer than `PAGEMILL_RENDER_TIMEOUT_S` in every renderer."""

    code = "render_timeout"


class AttemptsExhausted(FileError):
    """Every attempt ended without an outcome, most likely with the death of its worker."""

    code = "attempts_exhausted"


class EmbeddingFailed(RetryableError):
    """The embedding service fails at this page, or does not answer for it, while it embeds other input."""

    code = "embedding_failed"
    may_work_soon = False
    fault = Fault.FILE


class FailsAlone(RetryableError):
    """A server fails at this document again and again, and works for other documents in between."""

    code = "fails_alone"
    fault = Fault.FILE
