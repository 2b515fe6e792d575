"""Webhooks: where they may go, how long an endpoint may take, and when it is tried again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from ingestion.settings.base import PositiveFloat, PositiveInt, Section


class WebhookSettings(Section):
    webhook_allow_private: bool = Field(
        False,
        description="whether webhooks may go to loopback, private and link-local addresses, and over http: then a "
        "tenant that may make webhooks reaches what the janitor reaches",
    )
    webhook_timeout_s: PositiveFloat = Field(
        10.0, description="time that an endpoint has for one attempt, from the connection to its status"
    )
    webhook_retry_delays_s: Annotated[tuple[PositiveInt, ...], NoDecode] = Field(
        (5, 60, 300, 1800, 7200, 18_000, 36_000),
        examples=["5,60,300"],
        description="pauses before the further attempts at a delivery, comma separated; after the last it is dead",
    )
    webhook_every_s: PositiveFloat = Field(1.0, description="pause between two looks at new events and due deliveries")
    webhook_concurrency: PositiveInt = Field(
        32, description="requests of the janitor to healthy endpoints at a time; a quarter as many to slow ones"
    )
    webhook_cafile: Path | None = Field(
        None, description="certificates of authorities that endpoints may have, in place of the system's"
    )
    webhooks_per_tenant: PositiveInt = Field(20, description="most webhooks of a tenant")

    @field_validator("webhook_retry_delays_s", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(one.strip() for one in value.split(",") if one.strip()) if isinstance(value, str) else value
