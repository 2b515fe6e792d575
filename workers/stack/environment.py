"""Puts the settings of a stack into an environment that may hold the user's own settings.

This module imports only the standard library, so that every command finds a running stack fast.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping


def replace_settings(environment: MutableMapping[str, str], settings: Mapping[str, str]) -> None:
    """Set these settings in the environment. Remove the names of files that the user has set for them."""
    for name, value in settings.items():
        environment.pop(f"{name}_FILE", None)
        environment[name] = value


def given_names(environment: Mapping[str, str], names: Mapping[str, object]) -> set[str]:
    """Return the names that the user has set, also by a file."""
    return {name for name in names if name in environment or f"{name}_FILE" in environment}
