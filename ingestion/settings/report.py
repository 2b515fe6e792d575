"""Reads all sections, and reports everything that is wrong with them in one error."""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, cast, get_args, get_origin

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import SettingsError

from ingestion.settings.base import PREFIX, Section, collect_file_faults

S = TypeVar("S", bound=Section)

_ALIKE: Final = 0.8
_VARIABLE: Final = re.compile(rf"{PREFIX}[A-Z0-9_]+")


class ConfigurationError(SettingsError):
    """Settings are missing or wrong. `faults` has a line for each: variable, what is wrong, example."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        first = "" if len(faults) == 1 else f"{len(faults)} settings are wrong:\n  "
        super().__init__(first + "\n  ".join(faults))


class SettingsReader:
    """Reads sections one after another and keeps their faults."""

    def __init__(self) -> None:
        self._faults: list[str] = []
        self._wrong: set[type[Section]] = set()

    def read(self, section: type[S]) -> S:
        """The section; with its defaults where it is wrong."""
        with collect_file_faults() as unreadable:
            try:
                return section()
            except ValidationError as error:
                self._faults += [fault for found in error.errors() for fault in _faults_of(section, found)]
            except SettingsError as error:
                self._faults.append(str(error))
            finally:
                self._faults += unreadable
        self._wrong.add(section)
        return cast("S", section.model_construct())

    def require(self, section: type[Section], name: str, value: object, why: str) -> None:
        """Note a fault where the setting is empty. A wrong section has its defaults: there, where it is not given."""
        text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        variable = _variable(name)
        is_given = section in self._wrong and not os.environ.keys().isdisjoint({variable, f"{variable}_FILE"})
        if not text.strip() and not is_given:
            self._faults.append(f"{variable} is not set: {why}{example_of(section, name)}")

    def check(self) -> None:
        """Raises ConfigurationError with all faults."""
        if self._faults:
            raise ConfigurationError(list(dict.fromkeys(self._faults)))


def example_of(section: type[Section], name: str) -> str:
    """The end of a sentence: a value that the setting takes. Secrets are not shown."""
    field = section.model_fields.get(name)
    return "" if field is None else f". Example: {_variable(name)}={_example(field)}"


def unknown_variables(names: Iterable[str], sections: Sequence[type[Section]]) -> dict[str, str]:
    """The variables among `names` that no section reads, each with the name that it resembles, or an empty text."""
    known = {_variable(name) for section in sections for name in section.model_fields}
    known |= {_variable(old) for section in sections for old in section.old_names.values()}
    known |= {f"{name}_FILE" for name in known}
    unknown = [name for name in names if name.startswith(PREFIX) and name not in known]
    return {name: next(iter(get_close_matches(name, known, n=1, cutoff=_ALIKE)), "") for name in sorted(unknown)}


def old_variables(names: Container[str], sections: Iterable[type[Section]]) -> dict[str, str]:
    """The variables among `names` that still work under an old name, each with its new name."""
    found = {}
    for section in sections:
        for new, old in section.old_names.items():
            for ending in ("", "_FILE"):
                if _variable(old) + ending in names:
                    found[_variable(old) + ending] = _variable(new) + ending
    return found


def _faults_of(section: type[Section], found: Any) -> list[str]:
    message = found["msg"].removeprefix("Value error, ")
    if found["loc"]:
        name = str(found["loc"][0])
        return [f"{_variable(name)}: {message}{example_of(section, name)}"]
    return [_with_example(section, line) for line in message.splitlines()]


def _with_example(section: type[Section], line: str) -> str:
    """A check of several settings together has no location: its message begins with the first of them."""
    named = _VARIABLE.match(line)
    return line + example_of(section, named.group().removeprefix(PREFIX).lower()) if named else line


def _example(field: FieldInfo) -> str:
    if _is_secret(field):
        return "..."
    if field.examples:
        return str(field.examples[0])
    default = field.default
    if isinstance(default, tuple):
        default = ",".join(map(str, default))
    if default not in ("", None, {}):
        return str(default).lower() if isinstance(default, bool) else str(default)
    if get_origin(field.annotation) is Literal:
        return str(get_args(field.annotation)[0])
    return "/etc/pagemill/file" if Path in get_args(field.annotation) else "name"


def _is_secret(field: FieldInfo) -> bool:
    return field.annotation is SecretStr


def _variable(name: str) -> str:
    return f"{PREFIX}{name.upper()}"
