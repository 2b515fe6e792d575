"""The base class of the sections of settings.

Each setting `PAGEMILL_NAME` is read from that variable, or from the file that `PAGEMILL_NAME_FILE` names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

from pydantic import Field
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]

PREFIX: Final = "PAGEMILL_"
_file_faults: ContextVar[list[str] | None] = ContextVar("file_faults", default=None)


class Section(BaseSettings):
    # hide_input_in_errors: the text of a ValidationError would quote passwords otherwise.
    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", hide_input_in_errors=True)
    old_names: ClassVar[Mapping[str, str]] = {}
    """Settings that had another name, with that name. It is read where the new name is not set."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings, env_settings, _Files(settings_cls), _OldNames(settings_cls))


class _Files(PydanticBaseSettingsSource):
    """Reads `PAGEMILL_NAME_FILE`: the content of that file, without line breaks at its end, is the setting."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Raises SettingsError if the file cannot be read, or if both variables are set."""
        variable = f"{PREFIX}{field_name.upper()}"
        path = os.environ.get(f"{variable}_FILE")
        if path is None:
            return None, field_name, False
        if variable in os.environ:
            raise SettingsError(f"{variable} and {variable}_FILE are both set: unset one of them")
        try:
            return Path(path).read_text("utf-8").rstrip("\r\n"), field_name, False
        except (OSError, UnicodeDecodeError) as error:
            cause = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise SettingsError(f"{variable}_FILE: {path} cannot be read: {cause}") from error

    def __call__(self) -> dict[str, Any]:
        found = {}
        for name, field in self.settings_cls.model_fields.items():
            try:
                value, _, _ = self.get_field_value(field, name)
            except SettingsError as error:
                if (faults := _file_faults.get()) is None:
                    raise
                faults.append(str(error))
                continue
            if value is not None:
                found[name] = value
        return found


class _OldNames(_Files):
    """Reads old names of settings, from their variables and files."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        old = self.settings_cls.old_names.get(field_name)  # type: ignore[attr-defined]
        if old is None:
            return None, field_name, False
        value, _, _ = super().get_field_value(field, old)
        return os.environ.get(f"{PREFIX}{old.upper()}", value), field_name, False


@contextmanager
def collect_file_faults() -> Iterator[list[str]]:
    """In the block a file that cannot be read raises nothing: its setting is not set, and the list has the cause."""
    faults: list[str] = []
    token = _file_faults.set(faults)
    try:
        yield faults
    finally:
        _file_faults.reset(token)
