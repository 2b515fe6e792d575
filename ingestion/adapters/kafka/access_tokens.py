"""Access tokens for SASL/OAUTHBEARER: of an OAuth token endpoint, or of the signer of AWS MSK."""

from __future__ import annotations

import asyncio
import time
from importlib.util import find_spec
from typing import Any, Final

import httpx
from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import KafkaConnectionError, KafkaError

from ingestion.errors import InvalidSetting
from ingestion.settings.kafka_client import KafkaClientSettings

_TIMEOUT_S: Final = 5.0
_USED_SHARE: Final = 0.8
"""A token is used for this share of its life."""
_UNKNOWN_LIFE_S: Final = 60.0
_REFUSED: Final = range(400, 500)


class TokenRefused(KafkaError):  # type: ignore[misc]
    """The token endpoint refuses the client, or answers without a token."""


def token_provider(settings: KafkaClientSettings) -> AbstractTokenProvider | None:
    """Return None for mechanisms without a token. Raises InvalidSetting if the signer of AWS is not installed."""
    if settings.kafka_sasl_mechanism == "OAUTHBEARER":
        return _ClientCredentials(settings)
    if settings.kafka_sasl_mechanism == "AWS_MSK_IAM":
        if find_spec("aws_msk_iam_sasl_signer") is None:
            raise InvalidSetting(
                "PAGEMILL_KAFKA_SASL_MECHANISM=AWS_MSK_IAM needs a package: pip install aws-msk-iam-sasl-signer-python"
            )
        return _AwsSigner(settings.kafka_aws_region)
    return None


class _Cached(AbstractTokenProvider):  # type: ignore[misc]
    """Keeps a token for most of its life: a client opens several connections, each with a login."""

    def __init__(self) -> None:
        self._token = ""
        self._used_until_s = 0.0
        self._fetching = asyncio.Lock()

    async def token(self) -> str:
        """Raises KafkaError: aiokafka expects no other error."""
        async with self._fetching:
            if time.monotonic() >= self._used_until_s:
                self._token, life_s = await self._fetch()
                self._used_until_s = time.monotonic() + _USED_SHARE * life_s
            return self._token

    async def _fetch(self) -> tuple[str, float]:
        """Return a token and its life in seconds."""
        raise NotImplementedError


class _ClientCredentials(_Cached):
    def __init__(self, settings: KafkaClientSettings) -> None:
        super().__init__()
        self._settings = settings

    async def _fetch(self) -> tuple[str, float]:
        settings = self._settings
        form = {"grant_type": "client_credentials"}
        if settings.kafka_oauth_scope:
            form["scope"] = settings.kafka_oauth_scope
        login = (settings.kafka_oauth_client_id, settings.kafka_oauth_client_secret.get_secret_value())
        url = settings.kafka_oauth_token_url
        try:
            async with httpx.AsyncClient(timeout=_TIMEOUT_S) as client:
                answer = await client.post(url, data=form, auth=login)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise KafkaConnectionError(f"token endpoint {url}: {type(error).__name__}: {error}") from error
        if answer.status_code in _REFUSED:
            raise TokenRefused(f"token endpoint {url} answers {answer.status_code}{_reason(answer)}")
        if not answer.is_success:
            raise KafkaConnectionError(f"token endpoint {url} answers {answer.status_code}")
        found = _json(answer)
        if not isinstance(token := found.get("access_token"), str):
            raise TokenRefused(f"token endpoint {url} answers without access_token")
        life_s = found.get("expires_in")
        return token, float(life_s) if isinstance(life_s, int | float) else _UNKNOWN_LIFE_S


class _AwsSigner(_Cached):
    def __init__(self, region: str) -> None:
        super().__init__()
        self._region = region

    async def _fetch(self) -> tuple[str, float]:
        from aws_msk_iam_sasl_signer import MSKAuthTokenProvider

        try:
            token, expires_ms = await asyncio.to_thread(MSKAuthTokenProvider.generate_auth_token, self._region)
        except Exception as error:  # the signer lets all errors of botocore through
            raise TokenRefused(f"no AWS token: {type(error).__name__}: {error}") from error
        return token, expires_ms / 1000 - time.time()


def _json(answer: httpx.Response) -> dict[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _reason(answer: httpx.Response) -> str:
    """The error code of RFC 6749; nothing else of the answer, which may quote what was sent."""
    code = _json(answer).get("error")
    return f" ({code})" if isinstance(code, str) else ""
