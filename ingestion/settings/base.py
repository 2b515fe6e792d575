"""The base class of the sections of settings."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]


class Section(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="PAGEMILL_", frozen=True, extra="ignore")
