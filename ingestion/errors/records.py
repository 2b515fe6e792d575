"""Errors whose cause lies in a record that this release cannot read."""

from __future__ import annotations

from ingestion.errors.base import Fault, PermanentError, RetryableError


class NewerRecord(RetryableError):
    """A newer release wrote the record, in a state or format that this release does not know."""

    code = "newer_record"
    fault = Fault.RECORD


class BadRecord(PermanentError):
    """A record of a store lacks a required field, or has it in another type."""

    code = "bad_record"
    fault = Fault.RECORD


class BadMessage(PermanentError):
    """The Kafka record is not a message of Pagemill."""

    code = "bad_message"
    fault = Fault.RECORD
