"""Where backups are: `s3://BUCKET/PREFIX`, on the installation's S3 server or on that of the settings for backups."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import SecretStr

from ingestion.errors import BadRequest
from ingestion.settings import BackupSettings, S3Settings

_NO_SECRET: Final = SecretStr("")
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


def backup_store(location: str, s3: S3Settings, backup: BackupSettings) -> S3Settings:
    """The settings of the store at `location`. What a setting for backups does not say is as in `s3`.

    Raises BadRequest for an address of another kind, and for the bucket of the installation.
    """
    bucket, prefix = _parsed(location)
    changes: dict[str, Any] = {"s3_bucket": bucket, "s3_prefix": prefix}
    for name in BackupSettings.model_fields:
        value = getattr(backup, name)
        if value not in (None, "", _NO_SECRET):
            changes[name.removeprefix("backup_")] = value
    if backup.backup_s3_access_key:
        changes |= {"s3_credentials": "keys", "s3_session_token": backup.backup_s3_session_token}
    store = s3.model_copy(update=changes)
    if (store.s3_endpoint, store.s3_bucket) == (s3.s3_endpoint, s3.s3_bucket):
        raise BadRequest(
            f"{location}: this is the bucket of the installation, and a backup in it is lost with it; name another"
        )
    return store


def _parsed(location: str) -> tuple[str, str]:
    address = urlsplit(location)
    if address.scheme != "s3" or not _BUCKET.fullmatch(address.netloc) or address.query or address.fragment:
        raise BadRequest(f"{location!r} is no place for backups: use s3://BUCKET or s3://BUCKET/PREFIX")
    parts = [part for part in address.path.split("/") if part]
    return address.netloc, "".join(f"{part}/" for part in parts)
