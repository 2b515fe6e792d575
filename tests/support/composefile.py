"""docker-compose.yml and .env.example as Docker Compose reads them, as far as this project uses its syntax."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]

VARIABLE = re.compile(r"\$\{(?P<name>[A-Z0-9_]+):(?P<kind>[-?])(?P<text>[^}]*)\}")
"""`${NAME:-default}` and `${NAME:?message}`, the only two forms that the file uses."""


class Refused(Exception):
    """Compose would not start: a variable that must have a value has none."""


def secrets() -> list[str]:
    """The variables that .env.example leaves for the operator to fill in."""
    return re.findall(r"^([A-Z0-9_]+)=$", _example(), re.MULTILINE)


def documented_defaults() -> dict[str, str]:
    """The optional variables of .env.example with the defaults it names."""
    return dict(re.findall(r"^#([A-Z0-9_]+)=(.*)$", _example(), re.MULTILINE))


def filled_in() -> dict[str, str]:
    """What .env holds once every secret has a value of its own."""
    return {name: f"{number:048x}" for number, name in enumerate(secrets(), start=1)}


def source() -> dict[str, Any]:
    """The file with its anchors resolved and its variables as they stand."""
    content: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return content


def load(variables: Mapping[str, str]) -> dict[str, Any]:
    """The file with `variables` put in. Raises Refused."""
    content: dict[str, Any] = _substituted(source(), variables)
    return content


def environment(service: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in service.get("environment", {}).items()}


def _example() -> str:
    return (ROOT / ".env.example").read_text()


def _substituted(node: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(node, dict):
        return {key: _substituted(value, variables) for key, value in node.items()}
    if isinstance(node, list):
        return [_substituted(value, variables) for value in node]
    if isinstance(node, str):
        return _interpolated(node, variables)
    return node


def _interpolated(text: str, variables: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        found = variables.get(match["name"], "")
        if not found and match["kind"] == "?":
            raise Refused(f"{match['name']}: {match['text']}")
        return found or match["text"]

    result = VARIABLE.sub(value, text)
    assert "$" not in result, f"not a form of variable that this reads: {text}"
    return result
