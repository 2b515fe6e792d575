"""How the S3 client proves who it is, whom it trusts, and what encryption it asks for."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Final

import urllib3
from minio.credentials.credentials import Credentials
from minio.credentials.providers import EnvAWSProvider, IamAwsProvider, Provider, StaticProvider
from minio.error import MinioException
from minio.sse import Sse, SseKMS, SseS3

from ingestion.errors import InvalidSetting
from ingestion.settings import S3Settings

_KEY_VARIABLES: Final = ("AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY")
_TIMEOUT: Final = urllib3.Timeout(connect=1.0, read=2.0)


class NoCredentials(MinioException):
    """AWS gives this process no credentials."""


class RoleProvider(Provider):
    """The credentials of a role, from AWS's variables, or from AWS's services, asked once and within seconds.

    By default the MinIO client asks five times, and waits without a limit. Raises NoCredentials, and HTTPError if the
    service does not answer.
    """

    def __init__(self, region: str) -> None:
        client = urllib3.PoolManager(timeout=_TIMEOUT, retries=False)
        self._role = IamAwsProvider(region=region, http_client=client)

    def retrieve(self) -> Credentials:
        if any(os.environ.get(name) for name in _KEY_VARIABLES):
            return EnvAWSProvider().retrieve()
        try:
            return self._role.retrieve()
        except (ValueError, LookupError, TypeError, OSError, SyntaxError) as error:  # SyntaxError: XML, JSON
            raise NoCredentials(str(error) or repr(error)) from error


def credentials_of(settings: S3Settings) -> Provider | None:
    """Return None for requests without a login. Raises InvalidSetting if there is half of a key."""
    if settings.s3_credentials == "iam":
        return RoleProvider(settings.s3_region)
    secret_key = settings.s3_secret_key.get_secret_value()
    if bool(settings.s3_access_key) != bool(secret_key):
        raise InvalidSetting("PAGEMILL_S3_ACCESS_KEY and PAGEMILL_S3_SECRET_KEY belong together: set both")
    if not secret_key:
        return None
    return StaticProvider(settings.s3_access_key, secret_key, settings.s3_session_token.get_secret_value() or None)


def encryption_of(settings: S3Settings) -> Sse | None:
    """Raises InvalidSetting if the encryption lacks a setting."""
    if settings.s3_encryption == "none":
        return None
    if settings.s3_encryption == "AES256":
        return SseS3()
    if not (settings.s3_secure and settings.s3_kms_key_id):
        raise InvalidSetting("PAGEMILL_S3_ENCRYPTION=aws:kms needs PAGEMILL_S3_SECURE=true and PAGEMILL_S3_KMS_KEY_ID")
    return SseKMS(settings.s3_kms_key_id, {})


def trusting(cafile: Path | None) -> ssl.SSLContext:
    """Raises InvalidSetting if the file has no certificate."""
    try:
        return ssl.create_default_context(cafile=cafile)
    except (OSError, ValueError) as error:
        raise InvalidSetting(f"PAGEMILL_S3_CAFILE: {cafile} has no readable certificate: {error}") from error
